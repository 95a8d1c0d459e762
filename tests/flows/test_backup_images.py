"""The right image: in every engine and era that which SnapInfo names is the recovered one (TR 6.2)."""

from __future__ import annotations

from pathlib import Path

import pytest

import smhvlab.site
from labenv.lab import Lab
from smhvlab.record import Event, StepStarted
from smhvlab.site import Site
from smhvlab.snapinfo import Backup
from tests.flows.conftest import Start
from tests.flows.images import digest, guest_volumes, has_notes, hot, shadow_areas


def disturb(lab: Lab, *vms: str) -> None:
    """Committed rows, an open transaction, and a file that nobody has flushed."""
    for vm in vms:
        guest = lab.guest(vm)
        guest.insert("bb1", 100)
        guest.write_file("E:\\notes.txt", "in the cache")
        guest.begin("bb1", 400)


def taken(site: Site, *vms: str, consistency: str = "application") -> Backup:
    """A backup of a new dataset of these VMs."""
    site.create_dataset("Set", list(vms))
    backup: Backup = site.backup("Set", consistency=consistency).run_sync().result.backup  # type: ignore[arg-type]
    return backup


@pytest.mark.tr("R-6.2-04", "R-6.2-07", "R-6.2-08", "R-9-02", "R-12-07")
@pytest.mark.parametrize(
    ("topology", "vms", "era"),
    [
        pytest.param("standalone", ("sql01", "app01"), "2008r2", marks=pytest.mark.long),
        ("standalone", ("sql01", "app01"), "2012"),
        ("standalone", ("sql01", "app01"), "2022"),
        ("two-node-cluster", ("sql01", "web01"), "2008r2"),
        ("two-node-cluster", ("sql01", "web01"), "2012"),
        pytest.param("two-node-cluster", ("sql01", "web01"), "2022", marks=pytest.mark.long),
    ],
)
def test_snapinfo_names_the_recovered_image(
    start: Start, tmp_path: Path, topology: str, vms: tuple[str, ...], era: str
) -> None:
    """What SnapInfo names holds the cache's file and no hot journal, for every VM; its neighbour is after a crash."""
    lab = start(f"{topology}-{era}")
    disturb(lab, *vms)
    with smhvlab.site.connect(lab.profile) as site:
        backup = taken(site, *vms)
        assert site.tools().snapinfo.backups() == [backup]
    assert [vm.evidence.how for vm in backup.vms if vm.evidence] == ["online"] * len(vms)
    for vm in backup.vms:
        lun = backup.lun_of(vm.configuration_file, vm.id)
        assert lun is not None
        with guest_volumes(lab, vm, lun, tmp_path) as volumes:
            assert not hot(volumes)
            assert has_notes(volumes)
            assert shadow_areas(volumes) == []
        if era == "2022":
            assert {leaf.casefold() for leaf in vm.leaves.values()}.isdisjoint(d.path.casefold() for d in vm.disks)
            continue
        own = lun.path.rpartition("_{")[0]
        for snapshot in (lun.snapshot, lun.snapshot.removesuffix("_backup")):
            with guest_volumes(lab, vm, lun, tmp_path, path=own, snapshot=snapshot) as volumes:
                assert hot(volumes)
    assert lab.inspect.check() == []


@pytest.mark.tr("R-6.2-14", "R-6.2-16", "R-10-02")
def test_a_crash_consistent_image_is_that_after_a_crash(start: Start, tmp_path: Path) -> None:
    """The counter-check: without the guest's part its cache is lost, and the journal is hot."""
    lab = start("standalone-2012")
    disturb(lab, "sql01")
    with smhvlab.site.connect(lab.profile) as site:
        backup = taken(site, "sql01", consistency="crash")
    (vm,), (lun,) = backup.vms, backup.luns
    with guest_volumes(lab, vm, lun, tmp_path) as volumes:
        assert hot(volumes) or not has_notes(volumes)
    assert vm.evidence is not None
    assert (vm.evidence.how, vm.evidence.quiesced) == ("crash", False)


@pytest.mark.tr("R-9-04", "R-5.2-09")
@pytest.mark.parametrize("era", [pytest.param("2008r2", marks=pytest.mark.long), "2012"])
@pytest.mark.parametrize("vm", ["sql01", "app01"])
def test_what_is_restored_is_that_image_to_the_last_file(start: Start, tmp_path: Path, vm: str, era: str) -> None:
    """Both methods of restore: right before the VM starts its files are those of the image that SnapInfo names."""
    lab = start(f"standalone-{era}")
    disturb(lab, vm)
    found: list[str] = []
    with smhvlab.site.connect(lab.profile) as site:
        backup = taken(site, vm)
        ((machine,), (lun,)) = backup.vms, backup.luns
        with guest_volumes(lab, machine, lun, tmp_path) as volumes:
            found.append(digest(volumes))
        lab.guest(vm).commit("bb1")
        live = lun.path.rpartition("_{")[0]

        def hear(event: Event) -> None:
            if isinstance(event, StepStarted) and event.step == "start":
                with guest_volumes(lab, machine, lun, tmp_path, path=live, snapshot=None) as volumes:
                    found.append(digest(volumes))

        flow = site.restore(backup.name, vm)
        flow.on_event = hear
        flow.run_sync()
        assert site.snapshots().query("snapshot == @lun.snapshot")["volume"].tolist() == [lun.volume]
    assert found[0] == found[1]
    check = lab.guest(vm).checkdb("bb1")
    assert check["ok"]
    assert check["rows"] == 100
