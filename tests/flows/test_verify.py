"""Verification of a backup: on the side, by the engine of another VM, leaving nothing (TR 6.3, 6.8)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import smhvlab.site
from smhvlab.errors import NotAllowed, NotVerified, SmhvLabError
from smhvlab.leftovers import leftovers
from smhvlab.site import Site
from smhvlab.sql import Sql
from tests.flows.checks import blocks_sound, picture
from tests.flows.conftest import Stock


def test_a_verified_backup_is_marked_and_nothing_is_left(stock: Stock) -> None:
    """Every virtual disk was read and every database checked in a VM that is not in the backup."""
    site = stock.site
    before = picture(site)
    result = site.verify(stock.backup).run_sync().result
    assert result.marked
    assert {f.what for f in result.findings} == {f"{v}: {d}" for v in ("app01", "sql01") for d in stock.databases}
    assert "web01" in result.evidence[1]
    assert picture(site) == before
    assert leftovers(site.tools(), pending=False) == []
    assert site.tools().snapinfo.catalogue().verified == {stock.backup}
    assert sorted(site.tools().sql.databases("web01")) == sorted(stock.databases)
    assert len(site.tools().hyperv.vm("web01").disks) == 3
    blocks_sound(stock.lab)


def test_a_damaged_database_is_named_and_the_backup_is_not_marked(stock: Stock) -> None:
    """Files that are no database, and data without its log: both are told, and everything is taken away again."""
    site = stock.site
    guest = stock.lab.guest("app01")
    for name in ("broken.mdf", "broken_log.ldf", "alone.mdf"):
        guest.write_file(f"E:\\SQL\\{name}", "no database", flush=True)
    site.create_dataset("Damaged", ["app01"])
    name = site.backup("Damaged", consistency="crash").run_sync().result.backup.name
    before = picture(site)
    with pytest.raises(NotVerified) as caught:
        site.verify(name, server="web01").run_sync()
    assert "app01: broken: " in (caught.value.why or "")
    assert "app01: alone: " in (caught.value.why or "")
    assert "bb1" not in (caught.value.why or "")
    assert picture(site) == before
    assert site.tools().snapinfo.catalogue().verified == frozenset()


def test_without_an_engine_the_disks_are_only_read(stock: Stock) -> None:
    """No running VM: refused, unless the reader asks for less, and that does not count as verified."""
    site = stock.site
    for vm in ("app01", "sql01", "web01"):
        site.tools().hyperv.ensure_off(site.tools().hyperv.vm(vm).id)
    with pytest.raises(NotAllowed, match="database engine"):
        site.verify(stock.backup).plan()
    with pytest.raises(NotAllowed, match="Off"):
        site.verify(stock.backup, server="web01").plan()
    result = site.verify(stock.backup, databases=False).run_sync().result
    assert not result.marked
    assert "6 virtual disks" in result.evidence[0]
    assert site.tools().snapinfo.catalogue().verified == frozenset()


def test_a_disk_beside_one_with_its_signature_is_named(stock: Stock) -> None:
    """Somebody has attached the disk that all VMs were cloned from: verification says which is to be detached."""
    site, host = stock.site, stock.site.tools().host
    before = picture(site)
    (other,) = [disk.path for disk in site.tools().hyperv.vm("golden").disks if disk.path.endswith("vhd0.vhd")]
    host.run("Mount-VHD", {"Path": other, "ReadOnly": True, "NoDriveLetter": True})
    with pytest.raises(NotAllowed, match=r"vhd0\.vhd cannot be read while") as caught:
        site.verify(stock.backup).run_sync()
    assert caught.value.next_action.startswith(f"Detach that one first: Dismount-VHD -Path '{other}'")
    host.run("Dismount-VHD", {"Path": other})
    assert picture(site) == before
    assert site.verify(stock.backup).run_sync().result.marked


def test_a_drive_that_another_station_brings_is_not_taken_for_the_backup_s(
    stock: Stock, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A disk that goes into the lending VM meanwhile stops the check; that disk and its database stay as they are."""
    site = stock.site
    site.mount(stock.backup, lun="app01", at="M:").run_sync(accept={"not-recovered"})
    flow = site.verify(stock.backup, server="web01")
    plan = flow.plan()
    drives, sql = Sql.drives, site.tools().sql
    own = {"aa1", "bb1", "bb2", "bb3"}

    def meanwhile(self: Sql, vm: str) -> set[str]:
        before = drives(self, vm)
        monkeypatch.setattr(Sql, "drives", drives)
        with smhvlab.site.connect(replace(site.profile, journals=tmp_path)) as other:
            other.hot_add("M:", "app01", to="web01").run_sync()
        letter = min(drives(self, vm) - before)
        assert sql.attach(
            "web01", "smhvlab_verify_1", data=f"{letter}:\\SQL\\aa1.mdf", log=f"{letter}:\\SQL\\aa1.ldf"
        ).ok
        return before

    monkeypatch.setattr(Sql, "drives", meanwhile)
    with pytest.raises(NotAllowed, match="got another disk"):
        flow.run_sync(plan=plan)
    assert set(sql.databases("web01")) == own | {"smhvlab_verify_1"}
    assert [disk.path[:7] for disk in site.tools().hyperv.vm("web01").disks][3:] == ["M:\\app0"]
    assert site.tools().snapinfo.catalogue().verified == frozenset()
    with pytest.raises(NotAllowed, match=r"web01 cannot lend its database engine: it has M:") as caught:
        site.verify(stock.backup, server="web01").plan()
    assert "site.detach(MOUNT)" in caught.value.next_action
    assert site.verify(stock.backup).plan().state.server == "app01"


@pytest.mark.long
@pytest.mark.parametrize("cmdlet", ["Remove-VMHardDiskDrive", "Get-ChildItem", "New-VHD", "Remove-PartitionAccessPath"])
def test_a_verification_that_fails_leaves_nothing(stock: Stock, cmdlet: str) -> None:
    """Wherever it stops: no clone, no attached disk, no borrowed drive or database."""
    site = stock.site
    before = picture(site)
    plan = site.verify(stock.backup).plan()
    stock.lab.faults.set("windows.cmdlet", "error", match={"cmdlet": cmdlet}, code="x", times=1)
    with pytest.raises(SmhvLabError):
        site.verify(stock.backup).run_sync(plan=plan)
    stock.lab.faults.clear()
    assert picture(site) == before
    assert len(site.tools().hyperv.vm("web01").disks) == 3
    assert leftovers(site.tools(), pending=False) == []


@pytest.mark.long
def test_a_backup_of_shared_volumes_is_verified_on_the_node_that_is_named(cluster_site: Site) -> None:
    """The clones come to that node beside their parents, and a VM that runs there lends its engine."""
    cluster_site.create_dataset("Set", ["app01"])
    name = cluster_site.backup("Set", consistency="crash").run_sync().result.backup.name
    before = picture(cluster_site)
    flow = cluster_site.verify(name, host="hv2")
    result = flow.run_sync().result
    assert (flow.record.state.host, flow.record.state.server) == ("hv2", "file01")
    assert len(result.findings) == 4
    assert result.marked
    assert picture(cluster_site) == before
