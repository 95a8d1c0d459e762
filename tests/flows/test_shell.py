"""The TR's lines carried out, from a prompt and from a notebook (TR 6.8, 8)."""

from __future__ import annotations

import pytest
from IPython.core.interactiveshell import InteractiveShell

from smhvlab import magics
from smhvlab.errors import ConfirmationNeeded, NameTaken, NotAllowed, NotFound
from smhvlab.shell import Shell
from tests.flows.checks import picture, sound
from tests.flows.conftest import Stock


@pytest.mark.tr("R-8-04")
def test_the_cmdlets_read_what_snapinfo_holds(stock: Stock) -> None:
    """VMs with their GUIDs, backups in the TR's columns; a server that the site has not is refused."""
    shell = Shell(stock.site)
    vms = shell.run("get-vmsfrombackup -server hv1")
    assert list(vms["Name"]) == ["app01", "sql01"]
    assert list(vms["Id"]) == [i.upper() for i in stock.site.vms().set_index("name").loc[["app01", "sql01"], "id"]]
    (row,) = shell.run(f"Get-Backup -Server hv1 -ResourceName {vms['Id'][1]}").to_dict("records")
    assert (row["BackupName"], row["BackupType"], row["DatasetName"]) == (stock.backup, "Crash consistent", "Set")
    assert len(shell.run("Get-Backup -Server hv1 -ResourceName web01")) == 0
    with pytest.raises(NotFound, match="cluster_1"):
        shell.run("Get-Backup -Server cluster_1")


def test_a_restore_by_the_tr_s_line(stock: Stock) -> None:
    """Planned with -WhatIf, told with -Verbose; warnings need -Confirm:$false; an alternate host is refused."""
    told: list[object] = []
    shell = Shell(stock.site, tell=told.append)
    for database in stock.databases:
        stock.lab.guest("sql01").insert(database, 5)
    stock.site.tools().hyperv.ensure_off(stock.site.tools().hyperv.vm("sql01").id)
    line = f"restore-backup -server hv1 -backup {stock.backup} -resourcename SQL01"
    assert "no undo from here on" in str(shell.run(f"{line} -whatif"))
    with pytest.raises(ConfirmationNeeded):
        shell.run(line)
    assert "sql01 is back" in str(shell.run(f"{line} -verbose -confirm:$false"))
    assert "VERBOSE: Register the VM" in told
    sound(stock.lab, "sql01", rows=dict.fromkeys(stock.databases, 0))
    with pytest.raises(NotAllowed, match="alternate host"):
        shell.run(f"{line} -RestoreToAlternateHost -disableverifysnapshot -verbose")


@pytest.mark.tr("R-6.8-09")
def test_sdcli_s_snapshot_copies_and_mounts(stock: Stock) -> None:
    """Made, listed, mounted by the copy's name, unmounted, deleted; a backup's own copy is not deleted behind it."""
    site, shell = stock.site, Shell(stock.site)
    before = picture(site)
    assert shell.run("sdcli snap create -m hv1 -s by_hand -D V,S -x") == "created vm_shared: by_hand, snapinfo: by_hand"
    assert "by_hand" in set(shell.run("sdcli snap list -d V:")["snapshot"])
    with pytest.raises(NameTaken):
        shell.run("sdcli snap create -s by_hand -D V")
    with pytest.raises(NotFound, match="by_hand"):
        shell.run("sdcli snap mount -k V: -s by_hand -d M")
    with pytest.raises(NotAllowed, match="no name for a Snapshot copy"):
        shell.run("sdcli snap create -s {by_hand} -D V")
    shell.run("sdcli snap delete -s by_hand -D V,S")
    with pytest.raises(NotAllowed, match=stock.backup):
        shell.run(f"sdcli snap delete -s {stock.backup} -D V")
    with pytest.raises(ConfirmationNeeded):
        shell.run(f"sdcli snap mount -k V: -s {stock.backup} -d M")
    assert "is at M:" in str(shell.run(f"sdcli snap mount -k V: -s {stock.backup} -d M -f"))
    assert "no longer at M:" in str(shell.run("sdcli snap_unmount -d M:"))
    assert picture(site) == before


def test_the_magic_takes_the_notebook_s_site(stock: Stock) -> None:
    """``%smhv`` sends its line to ``site``; alone it tells what can be written; without a site it says what to do."""
    notebook = InteractiveShell()
    magics.load_ipython_extension(notebook)
    with pytest.raises(NotFound, match="no site"):
        notebook.find_line_magic("smhv")("Get-Backup -Server hv1")
    notebook.user_ns["site"] = stock.site
    assert list(notebook.run_line_magic("smhv", "Get-Backup -Server hv1")["BackupName"]) == [stock.backup]
    assert "Restore-Backup -Server" in repr(notebook.run_line_magic("smhv", ""))
