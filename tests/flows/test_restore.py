"""Restore of a VM, by both methods, over both wires (TR 6.7)."""

from __future__ import annotations

import pytest

from labenv.lab import Lab
from smhvlab.errors import ConfirmationNeeded, NotAllowed, NotFound, SmhvLabError
from smhvlab.record import Outcome, StepProgress
from smhvlab.restore.state import Method
from smhvlab.site import Site
from tests.flows.checks import blocks_sound, picture, sound

ROWS = 100


def backed_up(site: Site, vm: str) -> str:
    """A VM with 100 rows in each database at the time of its backup, and 500 more after it; the backup's name."""
    sql = site.tools().sql
    for database in sql.databases(vm):
        sql.insert(vm, database, ROWS)
    site.create_dataset("Set", [vm])
    name: str = site.backup("Set", consistency="crash").run_sync().result.backup.name
    for database in sql.databases(vm):
        sql.insert(vm, database, 500)
    return name


@pytest.mark.tr("R-6.7-02", "R-6.7-04", "R-APF-01")
def test_a_vm_alone_on_its_lun_comes_back_by_lun_clone(site: Site, lab: Lab) -> None:
    """The LUN goes back as a whole, keeps its identity, and each database has exactly the rows of the backup."""
    name = backed_up(site, "sql01")
    before = site.luns().set_index("name").loc["/vol/vm_sql01/golden"]
    flow = site.restore(name, "sql01")
    assert [lun.method for lun in flow.plan().state.luns] == [Method.LUN_CLONE]
    flow.run_sync()
    after = site.luns().set_index("name").loc["/vol/vm_sql01/golden"]
    assert (after["serial"], after["disk"]) == (before["serial"], before["disk"])
    sound(lab, "sql01", rows=dict.fromkeys(("aa1", "bb1", "bb2", "bb3"), ROWS))
    blocks_sound(lab)


@pytest.mark.tr("R-6.7-03")
def test_a_vm_that_shares_its_lun_comes_back_by_file_copy(site: Site, lab: Lab) -> None:
    """The other VM on the LUN keeps running and keeps what it wrote; the clone of the LUN is gone afterwards."""
    name = backed_up(site, "app01")
    site.tools().sql.insert("web01", "bb1", 7)
    luns = set(site.luns()["name"])
    flow = site.restore(name, "app01")
    assert [lun.method for lun in flow.plan().state.luns] == [Method.FILE_COPY]
    heard: list[StepProgress] = []
    flow.on_event = lambda event: heard.append(event) if isinstance(event, StepProgress) and event.unit else None
    flow.run_sync()
    done = [event.done for event in heard]
    assert done == sorted(done)
    assert len(set(done)) > len({event.item for event in heard})  # in bytes, and more often than once for a file
    assert done[-1] == heard[-1].total > 1 << 30
    sound(lab, "app01", rows=dict.fromkeys(("aa1", "bb1", "bb2", "bb3"), ROWS))
    assert site.tools().sql.count("web01", "bb1") == 7
    assert set(site.luns()["name"]) == luns
    blocks_sound(lab)


@pytest.mark.tr("R-6.7-05")
def test_warnings_have_to_be_accepted_before_anything_is_changed(site: Site) -> None:
    """A VM that is off and has lost a VHD raises two named warnings; without them accepted nothing happens."""
    name = backed_up(site, "sql01")
    tools = site.tools()
    vm = tools.hyperv.vm("sql01")
    tools.hyperv.ensure_off(vm.id)
    last = vm.disks[-1]
    tools.host.run(
        "Remove-VMHardDiskDrive",
        {
            "VMName": "sql01",
            "ControllerType": last.controller_type,
            "ControllerNumber": last.controller_number,
            "ControllerLocation": last.controller_location,
        },
    )
    before = picture(site)
    with pytest.raises(ConfirmationNeeded) as caught:
        site.restore(name, "sql01").run_sync()
    assert picture(site) == before
    assert set(caught.value.needed) == {"not-running", "fewer-vhds"}
    site.restore(name, "sql01").run_sync(accept=caught.value.needed)
    assert len(tools.hyperv.vm("sql01").disks) == 3


@pytest.mark.tr("R-6.7-12")
def test_a_deleted_vm_cannot_come_back_from_a_crash_consistent_backup(site: Site) -> None:
    """The VM is no longer registered: refused, with what to do instead."""
    name = backed_up(site, "sql01")
    vm = site.tools().hyperv.vm("sql01")
    site.tools().hyperv.ensure_off(vm.id)
    site.tools().hyperv.ensure_removed(vm.id)
    with pytest.raises(NotAllowed) as caught:
        site.restore(name, "sql01").run_sync()
    assert "application-consistent" in caught.value.next_action


def test_a_backup_whose_snapshot_copy_is_gone_is_refused(site: Site) -> None:
    """The registration alone restores nothing: the error names the Snapshot copy and the site stays as it was."""
    name = backed_up(site, "sql01")
    volume = site.tools().storage.volume("vm_sql01", svm="svm1")
    assert volume is not None
    site.tools().storage.discard_snapshots([volume], name)
    before = picture(site)
    with pytest.raises(NotFound, match=name):
        site.restore(name, "sql01").run_sync()
    assert picture(site) == before


@pytest.mark.parametrize(("backup", "vm"), [("Nothing_01-01-2013_00.00.00", "sql01"), ("", "sql01"), ("*", "nobody")])
def test_an_unknown_backup_or_vm_is_refused(site: Site, backup: str, vm: str) -> None:
    """A name that is not there gives one error that says it."""
    name = backed_up(site, "sql01") if backup == "*" else backup
    with pytest.raises(NotFound):
        site.restore(name, vm).run_sync()


def test_a_full_volume_fails_the_file_copy_and_the_vm_keeps_running(site: Site, lab: Lab) -> None:
    """No room for the copies: everything is taken back, the VM and its newest rows are untouched."""
    name = backed_up(site, "app01")
    lab.faults.set("windows.cmdlet", "error", match={"cmdlet": "Copy-Item"}, code="CopyError", times=1)
    before = picture(site)
    with pytest.raises(SmhvLabError):
        site.restore(name, "app01").run_sync()
    assert picture(site) == before
    sound(lab, "app01", rows=dict.fromkeys(("aa1", "bb1", "bb2", "bb3"), ROWS + 500))


@pytest.mark.parametrize("vm", ["sql01", "app01"])
def test_a_plan_stays_good_while_time_passes(site: Site, lab: Lab, vm: str) -> None:
    """Between a plan and its approval minutes pass: what a survey makes up of the time is no change of the site."""
    name = backed_up(site, vm)
    flow = site.restore(name, vm)
    plan = flow.plan()
    lab.clock.advance(600)
    assert flow.run_sync(plan=plan).outcome is Outcome.DONE


def checkpoint(site: Site, vm: str) -> None:
    """Take a checkpoint of a VM."""
    machine = site.tools().hyperv.vm(vm)
    site.tools().host.pair(("Get-VM", {"Id": machine.id}), ("Checkpoint-VM", {"SnapshotName": "before"}))


def test_a_vm_with_a_checkpoint_comes_back_with_it(site: Site, lab: Lab) -> None:
    """Disks, the disks that they are based on, and the checkpoint's configuration are all the VM's own files."""
    checkpoint(site, "sql01")
    name = backed_up(site, "sql01")
    flow = site.restore(name, "sql01")
    assert [lun.method for lun in flow.plan().state.luns] == [Method.LUN_CLONE]
    flow.run_sync()
    assert len(site.tools().host.run("Get-VMSnapshot", {"VMName": "sql01"})) == 1
    sound(lab, "sql01", rows=dict.fromkeys(("aa1", "bb1", "bb2", "bb3"), ROWS))


def test_a_checkpoint_taken_after_the_backup_is_gone_afterwards(site: Site, lab: Lab) -> None:
    """The VHDs have other names since then: that has to be accepted, and then the LUN goes back as a whole."""
    name = backed_up(site, "sql01")
    checkpoint(site, "sql01")
    flow = site.restore(name, "sql01")
    assert [question.key for question in flow.plan().confirmations] == ["vhd-paths"]
    flow.run_sync(accept=["vhd-paths"])
    assert site.tools().host.run("Get-VMSnapshot", {"VMName": "sql01"}) == []
    sound(lab, "sql01", rows=dict.fromkeys(("aa1", "bb1", "bb2", "bb3"), ROWS))


def test_a_vm_with_a_checkpoint_on_a_shared_lun_is_refused(site: Site) -> None:
    """A file copy would part the checkpoint's disks from what they are based on: refused before anything changes."""
    checkpoint(site, "app01")
    name = backed_up(site, "app01")
    before = picture(site)
    with pytest.raises(NotAllowed, match="checkpoints"):
        site.restore(name, "app01").run_sync()
    assert picture(site) == before


@pytest.mark.tr("R-6.7-05")
def test_moved_checkpoints_and_more_disks_raise_warnings(site: Site) -> None:
    """The folder of the VM's checkpoints is another one than at the time of the backup; then it gets a fourth VHD."""
    name = backed_up(site, "sql01")
    machine = site.tools().hyperv.vm("sql01")
    site.tools().host.pair(("Get-VM", {"Id": machine.id}), ("Set-VM", {"SnapshotFileLocation": "V:\\checkpoints"}))
    assert [question.key for question in site.restore(name, "sql01").plan().confirmations] == ["location"]
    host = site.tools().host
    host.run("New-VHD", {"Path": "C:\\VMs\\sql01\\more.vhd", "SizeBytes": 4 << 20, "Dynamic": True})
    host.run("Add-VMHardDiskDrive", {"VMName": "sql01", "ControllerType": "SCSI", "Path": "C:\\VMs\\sql01\\more.vhd"})
    questions = site.restore(name, "sql01").plan().confirmations
    assert [question.key for question in questions] == ["more-vhds", "location"]
    assert "4 VHDs now and 3 in the backup" in questions[0].text


def test_a_file_of_others_that_ends_like_a_copy_counts(site: Site) -> None:
    """Only this VM's own half-made copies are left out when the method is decided."""
    name = backed_up(site, "sql01")
    stranger = "C:\\VMs\\sql01\\stranger.partial"
    site.tools().host.run("Set-Content", {"LiteralPath": stranger, "Value": "x", "NoNewline": True})
    with pytest.raises(NotAllowed, match="the copies of sql01 need") as caught:
        site.restore(name, "sql01").plan()
    assert "1 file(s) of others" in (caught.value.why or "")


def test_a_vm_whose_restore_stopped_is_sent_to_the_doctor(site: Site, lab: Lab) -> None:
    """Between removal and registration the VM is away: a second restore says which run brings it back."""
    name = backed_up(site, "app01")
    lab.faults.set("windows.cmdlet", "error", match={"cmdlet": "Import-VM"}, code="x", times=1)
    flow = site.restore(name, "app01")
    with pytest.raises(SmhvLabError):
        flow.run_sync()
    with pytest.raises(NotAllowed) as caught:
        site.restore(name, "app01").run_sync()
    assert f"doctor --resume {flow.run_id}" in caught.value.next_action
    flow.resume_sync()
    sound(lab, "app01", rows=dict.fromkeys(("aa1", "bb1", "bb2", "bb3"), ROWS))


def test_a_half_made_copy_is_never_taken_for_a_whole_one(site: Site, lab: Lab) -> None:
    """Windows gives a file that is being copied its full length at once, so an interrupted run's is copied anew."""
    name = backed_up(site, "app01")
    host = site.tools().host
    disk = site.tools().hyperv.vm("app01").disks[0].path
    size = int(host.run("Get-Item", {"LiteralPath": disk}, select=("Length",))[0]["Length"])
    host.run("New-VHD", {"Path": "V:\\app01\\empty.vhd", "SizeBytes": size - 512, "Fixed": True})
    host.run("Rename-Item", {"LiteralPath": "V:\\app01\\empty.vhd", "NewName": disk.rpartition("\\")[2] + ".partial"})
    site.restore(name, "app01").run_sync()
    sound(lab, "app01", rows=dict.fromkeys(("aa1", "bb1", "bb2", "bb3"), ROWS))
