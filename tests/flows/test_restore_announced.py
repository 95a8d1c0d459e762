"""Announcements of restores in SnapInfo: one for each VM, whoever else writes, whatever is damaged (TR 6.7)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from smhvlab.errors import NotAllowed
from smhvlab.leftovers import leftovers
from smhvlab.restore.announced import PART, Announced, Announcements
from smhvlab.site import Site
from smhvlab.wires.powershell import PowerShellWire
from tests.flows.conftest import Stock
from tests.flows.test_backup_stations import stations


def announced(site: Site, station: str) -> Announced:
    """The first restore of a station; two stations' runs have the same names."""
    host = site.tools().nodes.own().name
    return Announced("vm-1", "sql01", "Set", station, "0001-RestoreVm", f"seat{station}", "2013", host)


class Interrupted(BaseException):
    """The process ends here: nothing in the product may handle this."""


@contextmanager
def before(cmdlet: str, act: Any) -> Iterator[None]:
    """Something happens once, right before a host is sent a cmdlet."""
    real, waiting = PowerShellWire.run, [act]

    def run(self: PowerShellWire, name: str, *args: Any, **kwargs: Any) -> Any:
        if name == cmdlet and waiting:
            waiting.pop()()
        return real(self, name, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(PowerShellWire, "run", run)
        yield


def interrupt() -> None:
    """End the process."""
    raise Interrupted


def test_two_stations_cannot_both_announce_a_vm(stock: Stock, tmp_path: Path) -> None:
    """Each writes a draft of its own, and looks after it has written; the one that is refused leaves nothing."""
    with stations(stock.lab, tmp_path) as (one, two):
        mine, other = announced(one, "one"), announced(two, "two")
        first, second = (Announcements(site.tools().snapinfo) for site in (one, two))

        def half() -> None:
            with before("Move-Item", interrupt), pytest.raises(Interrupted):
                second.ensure(other)

        with before("Move-Item", half):
            first.ensure(mine)
        assert first.all() == [mine]
        with pytest.raises(NotAllowed, match="A restore of sql01 is under way: one has announced it"):
            second.ensure(other)
        first.ensure(mine)
        first.discard("vm-1", seat=mine.seat, run=mine.run)
        second.ensure(other)
        assert first.all() == [other]
        second.discard("vm-1", seat=other.seat, run=other.run)
        host, folder = one.tools().host, one.tools().snapinfo.folder()
        assert host.run("Get-ChildItem", {"LiteralPath": f"{folder}\\{PART}"}, select=("FullName",)) == []


def test_an_announcement_that_came_with_a_mirror_takes_no_place(stock: Stock, tmp_path: Path) -> None:
    """It counts for nothing here, stays, and does not hide those of this site from one another."""
    with stations(stock.lab, tmp_path) as (one, two):
        mine, other = announced(one, "one"), announced(two, "two")
        first, second = (Announcements(site.tools().snapinfo) for site in (one, two))
        first.ensure(replace(mine, station="primary", host="a host of the other site"))
        first.ensure(mine)
        first.ensure(mine)
        assert second.all() == [mine]
        with pytest.raises(NotAllowed, match="one has announced it"):
            second.ensure(other)
        first.discard("vm-1", seat=mine.seat, run=mine.run)
        second.ensure(other)
        assert second.all() == [other]


def test_a_damaged_announcement_stops_its_own_vm_only(stock: Stock) -> None:
    """It is told with its path, keeps the backups of its VM, and is cleared by the name of its file."""
    site, host = stock.site, stock.site.tools().host
    vm = site.tools().hyperv.vm("app01").id
    folder = f"{site.tools().snapinfo.folder()}\\{PART}"
    host.run("New-Item", {"Path": folder, "ItemType": "Directory", "Force": True})
    host.run("Set-Content", {"LiteralPath": f"{folder}\\{vm}.json", "Value": "torn"})
    assert site.restore(stock.backup, "sql01").plan()
    for flow in (site.restore(stock.backup, "app01"), site.backup("Set", consistency="crash")):
        with pytest.raises(NotAllowed, match="cannot be told") as caught:
            flow.plan()  # type: ignore[attr-defined]
        assert f"{folder}\\{vm}.json is damaged" in caught.value.message
        assert f"smhvlab doctor --clear {vm}" in caught.value.next_action
    with pytest.raises(NotAllowed, match="cannot be deleted now"):
        site.delete_backup(stock.backup).plan()
    (left,) = leftovers(site.tools(), pending=False)
    assert (left.kind, vm in left.name) == ("announcement", True)
    site.clear_announcement(vm)
    assert site.restore(stock.backup, "app01").plan()
