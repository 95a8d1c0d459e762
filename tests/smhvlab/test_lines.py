"""The TR's lines, read as they are printed there (TR 6.8, 8)."""

from __future__ import annotations

import pytest

from smhvlab.errors import NotAllowed, NotFound, SmhvLabError
from smhvlab.lines import parse

PRINTED = """restore-backup -server cluster_1 -RestoreToAlternateHost -
disableverifysnapshot -backup DR_Dataset_Secondary_01-22-2010_18.21.33 -resourcename smhv-demo-
csv -verbose"""


@pytest.mark.tr("R-8-02")
@pytest.mark.parametrize("text", [PRINTED, PRINTED.replace("smhv-demo-\n", "smhv-demo-").replace("\n", " ")])
def test_the_line_of_the_tr_is_read_as_it_is_printed(text: str) -> None:
    """In lower case, broken behind hyphens, with -backup for -BackupName."""
    line = parse(text)
    assert line.command == "Restore-Backup"
    assert dict(line.values) == {
        "Server": "cluster_1",
        "RestoreToAlternateHost": True,
        "DisableVerifySnapshot": True,
        "BackupName": "DR_Dataset_Secondary_01-22-2010_18.21.33",
        "ResourceName": "smhv-demo-csv",
        "Verbose": True,
    }


def test_powershell_s_other_forms_are_read() -> None:
    """The whole name of a parameter, values with quotation marks or a colon, switches that are switched off."""
    line = parse("GET-BACKUP -Server:hv1 -ResourceName 'my vm'")
    assert (line.text("Server"), line.text("ResourceName")) == ("hv1", "my vm")
    line = parse('Restore-Backup -Server a -BackupName "b" -ResourceName c -Verbose:$false -Confirm:$FALSE')
    assert (line.on("Verbose"), line.values["Confirm"]) == (False, False)


@pytest.mark.tr("R-6.8-09")
def test_both_spellings_of_sdcli_are_read() -> None:
    """Two words or one with an underscore; backslashes of paths stay."""
    for text in ("sdcli snap unmount -d G:\\mount_drive1", "SDCLI Snap_Unmount -d G:\\mount_drive1"):
        line = parse(text)
        assert (line.command, line.text("d")) == ("sdcli snap unmount", "G:\\mount_drive1")
    assert parse("sdcli snap create -s before -D V: S: -x").text("D") == "V:,S:"
    line = parse("sdcli snap create -m hv1 -s before -D V,S -x -u")
    assert (line.text("D"), line.on("x")) == ("V,S", True)


@pytest.mark.parametrize(
    ("text", "error", "token", "allowed"),
    [
        ("", NotAllowed, "empty", "Get-Backup"),
        ("Get-Backups -Server a", NotFound, "Get-Backups", "Restore-Backup"),
        ("sdcli disk list", NotFound, "sdcli disk list", "sdcli snap mount"),
        ("Get-Backup -Sever a", NotAllowed, "-Sever", "-Server"),
        ("Get-Backup a", NotAllowed, "'a'", "-Server"),
        ("Get-Backup -Server", NotAllowed, "-Server", "<Server>"),
        ("Get-Backup -Server -Verbose", NotAllowed, "-Server", "<Server>"),
        ("Get-Backup -ResourceName a", NotAllowed, "-Server", "[-ResourceName"),
        ("Get-Backup -Server a -server b", NotAllowed, "-Server", "Get-Backup"),
        ("Get-Backup -Server a -Verbose:maybe", NotAllowed, "maybe", "$false"),
        ("Restore-Backup -Re a", NotAllowed, "-Re", "-RestoreToAlternateHost"),
        ("sdcli snap mount -K V:", NotAllowed, "-K", "-k"),
        ("Get-Backup -Server 'a", NotAllowed, "quotation mark", "Close"),
    ],
)
def test_what_cannot_be_read_is_named_with_what_is_allowed(
    text: str, error: type[SmhvLabError], token: str, allowed: str
) -> None:
    """One error: the token in its message, and what may stand there in its advice."""
    with pytest.raises(error) as caught:
        parse(text)
    assert token in caught.value.message
    assert allowed in caught.value.next_action
