"""What a user gets wrong: each refusal names the thing, the reason and the next action, and nothing is changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from smhvlab.errors import ConfirmationNeeded, NameTaken, NotAllowed, NotFound, SmhvLabError
from smhvlab.shell import Shell
from smhvlab.site import Site
from tests.flows.checks import picture
from tests.flows.conftest import Stock

Ask = Callable[[Site, str], Any]
MDF = "E:\\SQL\\bb1.mdf"
WRONG: dict[str, tuple[Ask, type[SmhvLabError], str, str]] = {
    "unknown dataset": (lambda s, b: s.backup("Sett"), NotFound, "There is no dataset Sett", "The site has Set"),
    "no dataset": (lambda s, b: s.backup(""), NotFound, "There is no dataset ''", "The site has Set"),
    "unknown backup": (
        lambda s, b: s.restore("nope", "sql01"),
        NotFound,
        "There is no backup nope",
        "The newest are {b}",
    ),
    "a dataset for a backup": (
        lambda s, b: s.verify("Set"),
        NotFound,
        "There is no backup Set",
        "of the dataset Set are {b}",
    ),
    "unknown VM": (lambda s, b: s.restore(b, "sql99"), NotFound, "The VM sql99 is not in", "It holds sql01, app01"),
    "no VM": (lambda s, b: s.restore(b, ""), NotFound, "The VM '' is not in", "It holds sql01, app01"),
    "off": (lambda s, b: s.verify(b, server="golden"), NotAllowed, "The VM golden cannot lend", "Start it"),
    "letter in use": (
        lambda s, b: s.mount(b, lun="sql01", at="V:"),
        NameTaken,
        "V:\\ is in use",
        "another drive letter",
    ),
    "no letter": (lambda s, b: s.mount(b, lun="sql01", at="MM:"), NotAllowed, "'MM:' is neither", "Write M:"),
    "no folder": (
        lambda s, b: s.mount(b, lun="sql01", at="C:\\a<b"),
        NotAllowed,
        "is neither a drive letter",
        "Write M:",
    ),
    "no drive": (lambda s, b: s.mount(b, lun="sql01", at="Q:\\x"), NotFound, "no drive Q:", "a drive that is there"),
    "which LUN": (lambda s, b: s.mount(b), SmhvLabError, "holds 2 LUNs", "vm_shared (V:\\)"),
    "not mounted": (lambda s, b: s.unmount("x"), NotFound, "Nothing is mounted as 'x'", "mount a backup first"),
    "not accepted": (
        lambda s, b: s.mount(b, lun="sql01"),
        ConfirmationNeeded,
        "asks for 1 confirmation",
        "accept={{'not-recovered'}}",
    ),
    "no target": (
        lambda s, b: s.restore_file(b, "app01", guest_path=MDF, to="Q:\\a"),
        NotFound,
        "no folder Q:\\",
        "Make it",
    ),
    "not in the image": (
        lambda s, b: s.restore_file(b, "app01", guest_path="E:\\zz", to="C:\\a"),
        NotFound,
        "No virtual disk of app01",
        "site.browse",
    ),
    "a folder": (
        lambda s, b: s.restore_file(b, host_path="V:\\app01", to="C:\\a"),
        NotFound,
        "holds no file V:\\app01",
        "a folder comes back file by file",
    ),
    "no room": (
        lambda s, b: s.restore_file(b, host_path="V:\\app01\\app01_vhd0.vhd", to="S:\\a.vhd"),
        NotAllowed,
        "bytes free, V:\\app01\\app01_vhd0.vhd needs 10,737,418,752",
        "another disk",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_refusal_says_what_is_wrong_and_what_to_do(stock: Stock, name: str) -> None:
    """Message and next action have the names that the reader needs; the site is as before."""
    ask, kind, message, advice = WRONG[name]
    before = picture(stock.site)
    with pytest.raises(kind) as caught:
        ask(stock.site, stock.backup).run_sync()
    assert message in caught.value.message
    assert advice.format(b=stock.backup) in caught.value.next_action
    if kind is ConfirmationNeeded:
        assert "as after a loss of power" in str(caught.value.why)
    assert picture(stock.site) == before


def test_names_are_taken_whatever_their_case(stock: Stock) -> None:
    """Windows tells no capital from a small letter: backups, datasets and VMs are found all the same."""
    state = stock.site.restore(stock.backup.upper(), "SQL01").plan().state
    assert (state.backup, state.vm.name) == (stock.backup, "sql01")
    assert stock.site.backup("SET", consistency="crash").plan().state.dataset == "Set"


@pytest.mark.parametrize(
    ("line", "message", "advice"),
    [
        ("sdcli snap mount -k Q -s {b}", "No backup holds Q", "Backups hold V:\\"),
        ("sdcli snap mount -k v -s nope", "a Snapshot copy nope of v", "It has {b}"),
        ("sdcli snap mount -k v -s {b}", "asks for 1 confirmation", "add -f to the line"),
        ("sdcli snap delete -s zz -D V", "There is no Snapshot copy zz of vm_shared", "sdcli snap list -d V"),
        ("Restore-Backup -Server hv1 -ResourceName sql99 -BackupName {b}", "The VM sql99 is not in", "It holds sql01"),
    ],
)
def test_a_line_of_the_tr_is_answered_in_its_own_words(stock: Stock, line: str, message: str, advice: str) -> None:
    """What the line should have said is told as a line."""
    with pytest.raises(SmhvLabError) as caught:
        Shell(stock.site).run(line.format(b=stock.backup))
    assert message.casefold() in caught.value.message.casefold()
    assert advice.format(b=stock.backup) in caught.value.next_action
