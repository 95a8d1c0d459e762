"""Which image of a LUN a failover takes (TR 8, 12)."""

from __future__ import annotations

from pathlib import Path

import pytest

from labenv import lab as labs
from labenv.lab import Lab
from smhvlab.dr.images import images_for, newer_images
from smhvlab.dr.landing import Ground
from smhvlab.dr.replication import Replication
from smhvlab.dr.sites import SitePair, connect_pair
from smhvlab.errors import NotAllowed
from smhvlab.snapinfo import Backup, BackupLun, BackupVm
from tests.dr.scene import DOWN, backup, kill_primary, load, prepare
from tests.dr.test_eras import digests, seen_before
from tests.flows.test_backup_images import disturb

PLACE = "C:\\ClusterStorage\\Volume1\\"


def image(name: str, *vms: str, disk: str = "csv") -> BackupLun:
    """An image of a LUN, recovered for these VMs."""
    return BackupLun("svm1", "csv1", "u", name, f"/{name}", "l", "s", disk, f"{{{disk}}}", PLACE, vms=vms)


def vm(name: str) -> BackupVm:
    """A VM whose id is its name."""
    return BackupVm(name, name, "Running", 1, PLACE + name, f"{PLACE}{name}\\{name}.xml", ())


def taken(*luns: BackupLun) -> Backup:
    """A backup of three VMs."""
    vms = (vm("sql01"), vm("app01"), vm("web01"))
    return Backup("B", "All", "2013-03-04T08:00:00", "application", False, "hv1", vms, luns)


def test_a_lun_comes_in_the_image_in_which_the_vms_recovered() -> None:
    """Of one set for each node the VMs' own counts; two that would both be needed are refused with their VMs."""
    first, second, other = image("one", "sql01"), image("two", "app01"), image("alone", disk="other")
    both = taken(first, second, other)
    assert list(images_for(both, [vm("sql01")])) == [first, other]
    assert list(images_for(both, [vm("app01"), vm("web01")])) == [second, other]
    with pytest.raises(NotAllowed, match="2 images of B: one for sql01; one for app01") as caught:
        list(images_for(both, both.vms))
    assert caught.value.next_action.startswith("Fail over app01 first (vms=..., --vm)")
    assert newer_images(both, [vm("app01"), vm("web01")]) == []
    assert newer_images(both, [vm("sql01")]) == ["B (the image in which app01 recovered)"]
    assert list(images_for(taken(image("whole"), other), both.vms)) == [image("whole"), other]


@pytest.mark.long
@pytest.mark.tr("R-12-07")
def test_each_node_made_a_set_of_its_own(tmp_path: Path) -> None:
    """On a shared volume of 2008 R2 a VM comes from its own node's set, and both VMs together are refused."""
    with labs.start("dr-pair-cluster-2008r2") as lab, connect_pair(lab.profile) as pair:
        first, there = pair.primary, pair.secondary
        first.create_dataset("Csv", ["sql01", "app01"])
        first.dr.protect().run_sync()
        load(pair, 10)
        disturb(lab, "sql01", "app01")
        made = first.backup("Csv").run_sync().result.backup
        assert [len(lun.vms) for lun in made.luns] == [1, 1]
        mirrors = Replication(there.tools().storage)
        mirrors.update(mirrors.mirrors())
        wanted = digests(lab, made, tmp_path)
        lab.checkpoint("backed-up")
        rows: dict[str, dict[str, int | None]] = {}
        for name in ("sql01", "app01"):
            lab.restore("backed-up")
            kill_primary(lab)
            there.dr.connect_snapinfo().run_sync(accept=DOWN)
            with pytest.raises(NotAllowed, match="would need 2 images"):
                there.dr.failover().plan()
            flow = there.dr.failover(vms=[name])
            lost = {question.key for question in flow.plan().confirmations} - DOWN
            assert lost == ({"newer-lost"} if name == "sql01" else set())
            seen = seen_before(flow, "start", lab, made, tmp_path, vms=[name])
            done = flow.run_sync(accept=DOWN | lost).result
            assert done.sound
            rows[name] = {found.database: found.rows for found in done.databases}
            assert seen == [{name: wanted[name]}]
        there.restore(made.name, "sql01", to_host="hv3").run_sync(accept={"not-running"})  # out of the older image
        assert set(there.vms()["state"]) == {"Running"}
        found = Ground(there).check_databases(["sql01", "app01"])
        assert all(one.ok for one in found)
        assert {vm: {f.database: f.rows for f in found if f.vm == vm} for vm in rows} == rows
        assert lab.status()["failures"] == []


@pytest.mark.filterwarnings("ignore::marshmallow.warnings.ChangedInMarshmallow4Warning")  # netapp-ontap's
def test_a_newer_backup_with_a_lun_that_is_not_mirrored_is_told(pair: SitePair, lab: Lab) -> None:
    """It is passed over by name and with the reason, not silently; asked for by name it is refused with that reason."""
    prepare(pair)
    old = backup(pair)
    first, there = pair.primary, pair.secondary
    first.prepare_storage("extra", size="20GB").run_sync()
    first.create_disk("extra", size="5GB", at="W:").run_sync()
    first.tools().host.run("New-VHD", {"Path": "W:\\more.vhd", "SizeBytes": 1 << 30, "Dynamic": True})
    drive = {"VMName": "sql01", "ControllerType": "SCSI", "Path": "W:\\more.vhd"}
    first.tools().host.run("Add-VMHardDiskDrive", drive)
    newer = backup(pair)
    kill_primary(lab)
    there.dr.connect_snapinfo().run_sync(accept=DOWN)
    plan = there.dr.failover().plan()
    assert [name for name, _ in plan.state.backups] == [old.name]
    asked = {question.key: question.text for question in plan.confirmations}
    assert f"{newer.name} (svm1:extra is not mirrored here)" in asked["newer-lost"]
    with pytest.raises(NotAllowed, match=f"data of {newer.name} did not arrive") as caught:
        there.dr.failover([newer.name]).plan()
    assert caught.value.why == "svm1:extra is not mirrored here"
    assert old.name in caught.value.next_action
