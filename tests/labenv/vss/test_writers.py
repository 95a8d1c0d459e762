"""The Hyper-V writer: which VMs it backs up how, and what it does to them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from labenv.windows.call import PsError
from labenv.windows.disks import gpt
from labenv.windows.records import DriveRecord
from labenv.windows.vss import hyperv
from labenv.windows.vss.hyperv import FAILED, REVERT_DISK
from labenv.windows.vss.model import Method

from .bench import SQL01, Bench, Ran, backup

HYPERV_WRITER = "Microsoft Hyper-V VSS Writer"
VMMS = "Microsoft-Windows-Hyper-V-VMMS"


def _lanes(bench: Bench) -> list[str]:
    return [lane for lane, step in bench.trace() if step == "freeze"]


@pytest.mark.tr("R-3.4-02", "R-6.2-03", "R-9-01", "R-9-02")
def test_the_order_of_a_set(bench: Bench) -> None:
    """Guests freeze inside PrepareForSnapshot, before anything is frozen on the host; recovery follows the thaw."""
    bench.script(*backup(SQL01))
    steps = [f"{lane}/{step}" for lane, step in bench.trace() if "Writer" not in lane or "Hyper-V" in lane]
    wanted = [
        f"{HYPERV_WRITER}/Identify",
        f"{HYPERV_WRITER}/PrepareForBackup",
        "Data ONTAP VSS Hardware Provider/BeginPrepareSnapshot",
        "Data ONTAP VSS Hardware Provider/EndPrepareSnapshots",
        f"{HYPERV_WRITER}/PrepareForSnapshot",
        "guest sql01/freeze",
        "guest sql01/thaw",
        "VSS/Freeze",
        "VSS/Freeze",
        "VSS/Freeze",
        f"{HYPERV_WRITER}/Freeze",
        "Data ONTAP VSS Hardware Provider/PreCommitSnapshots",
        "volsnap/FLUSH_AND_HOLD",
        "Data ONTAP VSS Hardware Provider/CommitSnapshots",
        "volsnap/RELEASE_WRITES",
        "Data ONTAP VSS Hardware Provider/PostCommitSnapshots",
        f"{HYPERV_WRITER}/Thaw",
        "Data ONTAP VSS Hardware Provider/PreFinalCommitSnapshots",
        f"{HYPERV_WRITER}/PostSnapshot",
        "Hyper-V writer/auto-recovery",
        "Data ONTAP VSS Hardware Provider/PostFinalCommitSnapshots",
        f"{HYPERV_WRITER}/BackupComplete",
    ]
    assert steps == wanted
    writers = next(e for e in bench.events("labenv") if e.values[1:3] == ("guest sql01", "freeze")).values[3]
    assert "SqlServerWriter" in writers


def test_every_vm_on_the_volume_takes_part(bench: Bench) -> None:
    """DiskShadow's set is not the dataset: both VMs that share the volume are frozen, the third is not."""
    ran = bench.script(*backup("V:\\"))
    assert ran.code == 0
    assert _lanes(bench) == ["guest app01", "guest web01"]
    assert len(bench.snapshots("vm_shared")) == 2
    assert bench.snapshots("vm_sql01") == []


def test_two_volumes_are_copied_at_one_instant(bench: Bench) -> None:
    """All first Snapshot copies of a set have the same time, and so have the second ones."""
    ran = bench.script(*backup(SQL01, "V:\\"))
    assert ran.code == 0, ran.text
    times = set()
    for volume in ("vm_sql01", "vm_shared"):
        key = bench.array.volume_key(volume)
        found = bench.rest("GET", f"/storage/volumes/{key}/snapshots", fields="name,create_time")["records"]
        assert [r["name"] for r in found] == [f"{{{ran.set_id}}}", f"{{{ran.set_id}}}_backup"]
        times.add(tuple(r["create_time"] for r in found))
    assert len(times) == 1
    assert _lanes(bench) == ["guest app01", "guest sql01", "guest web01"]


@pytest.mark.parametrize("verify", ["writer", "component"])
def test_a_vm_that_needs_another_volume_is_dropped_without_a_word(bench: Bench, verify: str) -> None:
    """Exit code 0, unless that very component was to be verified."""
    bench.run("New-VHD", Path="V:\\extra.vhd", SizeBytes=8 << 20, Fixed=True)
    bench.run("Add-VMHardDiskDrive", VMName="sql01", ControllerType="SCSI", Path="V:\\extra.vhd")
    vm = str(bench.host.vm("sql01").id).upper()
    target = f'"{HYPERV_WRITER}:\\{vm}"' if verify == "component" else ""
    ran = bench.script(*backup(SQL01, verify=target))
    assert f'Component "\\{vm}"' in ran.text
    assert _lanes(bench) == []
    assert ran.code == (1 if verify == "component" else 0)
    assert bench.script(*backup(SQL01)).code == 1  # the writer has no component left
    assert bench.script(*backup(SQL01, "V:\\")).code == 0


def _switch_off(bench: Bench) -> None:
    bench.run("Disable-VMIntegrationService", VMName="sql01", Name="VSS")


def _stop(bench: Bench) -> None:
    bench.run("Stop-VM", Name="sql01", Force=True)


def _save(bench: Bench) -> None:
    bench.run("Save-VM", Name="sql01")


def _move_snapshots(bench: Bench) -> None:
    bench.run("Set-VM", Name="sql01", SnapshotFileLocation="V:\\")


def _leave(bench: Bench) -> None:
    pass


@pytest.mark.parametrize(
    ("change", "method"),
    [
        (_leave, Method.ONLINE),
        (_switch_off, Method.SAVED),
        (_stop, Method.OFFLINE),
        (_save, Method.OFFLINE),
    ],
)
def test_the_method_is_told_before_the_backup(bench: Bench, change: object, method: Method) -> None:
    """The caption of a component says online or offline; a running VM without its service is saved for the copy."""
    assert callable(change)
    bench.guest("sql01").insert("bb1", 100)
    change(bench)
    before = bench.site.vm_states()
    listed = bench.script("list writers metadata").text
    assert ("Online\\sql01" in listed) == (method is Method.ONLINE)
    assert ("Offline\\sql01" in listed) == (method is not Method.ONLINE)
    ran = bench.script(*backup(SQL01))
    assert ran.code == 0, ran.text
    assert bench.site.vm_states() == before
    assert _lanes(bench) == (["guest sql01"] if method is Method.ONLINE else [])
    saved = bench.events("Microsoft-Windows-Hyper-V-Worker", 18508)
    assert len(saved) == (1 if method is Method.SAVED or change is _save else 0)
    if before["sql01"] == "Running":
        assert bench.guest("sql01").count("bb1") == 100
    first = f"{{{ran.set_id}}}"
    image = bench.guest_files(bench.image("vm_sql01", f"{first}_backup", f"/golden_{first}.rws"), "\\sql01", "sql01")
    assert not any(image["F"].read_file("\\SQL\\bb1.ldf")[:8])


@pytest.mark.tr("R-6.2-18")
def test_a_snapshot_location_on_another_lun(bench: Bench) -> None:
    """The VM cannot be backed up online until one checkpoint was made there; and then it needs both volumes."""
    _move_snapshots(bench)
    writer = bench.host.vss.hyperv
    assert writer.method(bench.host.vm("sql01"))[0] is Method.SAVED
    bench.run("Checkpoint-VM", Name="sql01", SnapshotName="S")
    assert writer.method(bench.host.vm("sql01"))[0] is Method.ONLINE


def test_small_guest_volumes(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A guest volume below the limit (300 MB) cannot be shadow-copied: the VM is saved instead."""
    monkeypatch.setattr(hyperv, "LEAST_VOLUME", 500 << 20)
    method, reason = bench.host.vss.hyperv.method(bench.host.vm("sql01"))
    assert (method, "300 MB" in reason) == (Method.SAVED, True)


@pytest.mark.tr("R-9-05")
def test_pass_through_disks_are_left_out(bench: Bench) -> None:
    """10107 warns; the virtual disks are backed up all the same."""
    vm = bench.host.vm("sql01")
    bench.host.machines.put(replace(vm, drives=(*vm.drives, DriveRecord("SCSI", 0, 9, disk=7))))
    ran = bench.script(*backup(SQL01))
    assert ran.code == 0, ran.text
    assert [e.level for e in bench.events(VMMS, hyperv.PHYSICAL)] == [3]


def test_names_of_the_oldest_era(bench: Bench) -> None:
    """Windows Server 2008 R2 called the methods otherwise."""
    spec = bench.host.spec
    bench.host.spec = replace(spec, era="2008r2")
    try:
        text = bench.script("list writers metadata").text
    finally:
        bench.host.spec = spec
    assert "Backup Using Child Partition Snapshot\\sql01" in text


def test_a_full_guest_volume(bench: Bench) -> None:
    """No room for the guest's own shadow copy: not retryable, 10102, and the guest goes on."""
    guest = bench.guest("sql01")
    guest.insert("bb1", 10)
    guest.write_file("E:\\big.bin", b"\1" * (guest.volumes["E"].free - (256 << 10)), flush=True)
    ran = bench.script(*backup(SQL01))
    assert ran.code == 1
    assert "800423f4" in ran.text
    assert bench.states()[HYPERV_WRITER] == (8, 0x800423F4)
    assert "too few for a shadow copy" in bench.events(VMMS, FAILED)[0].message
    assert not guest.frozen
    guest.remove_file("E:\\big.bin")
    assert guest.insert("bb1", 1) == 11
    assert bench.script(*backup(SQL01)).code == 0


def test_one_of_several_vms_fails(bench: Bench) -> None:
    """Partial failure 0x80042336; without `writer verify` the script even ends with exit code 0."""
    bench.fault("vss.writer", "error", times=2, phase="PrepareForSnapshot", vm="web01", code_="0x800423f3")
    ran = bench.script(*backup("V:\\"))
    assert ran.code == 1
    assert "80042336" in ran.text
    assert bench.states()[HYPERV_WRITER] == (8, 0x80042336)
    assert bench.script("delete shadows all").code == 0
    silent = bench.script(*backup("V:\\", verify=""))
    assert silent.code == 0
    assert "has failed" in silent.text


def test_a_difference_area_that_overflows(bench: Bench) -> None:
    """The guest writes more between its freeze and the copy than it can keep: the revert fails, and is retryable."""
    guest = bench.guest("sql01")
    guest.insert("bb1", 10)
    guest.write_file("E:\\old.bin", b"\1" * (3 << 20), flush=True)
    guest.write_file("E:\\fill.bin", b"\1" * (guest.volumes["E"].free - (4 << 20)), flush=True)
    bench.fault("vss.provider", "delay", phase="PreCommitSnapshots", seconds_="30")

    async def rewrite() -> None:
        await bench.site.clock.sleep(15)
        guest.write_file("E:\\old.bin", b"\2" * (3 << 20), flush=True)

    async def both() -> Ran:
        bench.site.clock.spawn(rewrite(), name="a busy guest")
        return await bench.diskshadow(*backup(SQL01))

    ran = bench.go(both())
    assert ran.code == 1, ran.text
    assert "800423f3" in ran.text
    assert bench.states()[HYPERV_WRITER] == (11, 0x800423F3)
    assert guest.checkdb("bb1").rows == 10
    assert guest.shadow is None


@pytest.mark.tr("R-6.2-12")
def test_a_disk_with_the_signature_of_a_physical_one(bench: Bench) -> None:
    """A VHD that was made by copying a physical disk cannot be shown beside it: the revert fails with 10103."""
    layout = gpt.read_gpt(bench.host.disks.raw(bench.host.disks.present()[0]))
    assert layout is not None
    bench.run("Stop-VM", Name="sql01", Force=True)
    opened = bench.host.vhds.open("C:\\VMs\\sql01\\sql01\\sql01_vhd2.vhd")
    own = gpt.read_gpt(opened.device)
    assert own is not None
    gpt.write_gpt(opened.device, own.with_disk_guid(layout.disk_guid))
    opened.close()
    bench.run("Start-VM", Name="sql01")
    ran = bench.script(*backup(SQL01))
    assert ran.code == 1
    assert bench.states()[HYPERV_WRITER] == (11, 0x800423F3)
    assert "disk GUID" in bench.events(VMMS, REVERT_DISK)[0].message


@pytest.mark.tr("R-6.2-12")
def test_a_virtual_disk_copied_from_a_physical_one(bench: Bench) -> None:
    """New-VHD -SourceDisk copies the disk's GUID with it; after Set-Disk has given it another, the backup works."""
    lun = {"name": "/vol/vm_shared/phys", "svm": {"name": "svm1"}, "os_type": "hyper_v", "space": {"size": 64 << 20}}
    bench.rest("POST", "/storage/luns", lun)
    mapping = {"lun": {"name": lun["name"]}, "igroup": {"name": "hv1"}, "svm": {"name": "svm1"}}
    bench.rest("POST", "/protocols/san/lun-maps", mapping)
    bench.run("Update-HostStorageCache")
    number = max(d.properties["Number"] for d in bench.run("Get-Disk"))
    bench.run("Set-Disk", Number=number, IsOffline=False)
    bench.run("Set-Disk", Number=number, IsReadOnly=False)
    bench.run("Initialize-Disk", Number=number, PartitionStyle="GPT")
    with pytest.raises(PsError, match="no physical disk"):
        bench.run("New-VHD", Path="C:\\VMs\\sql01\\copy.vhd", SourceDisk=77, Dynamic=True)
    made = bench.run("New-VHD", Path="C:\\VMs\\sql01\\copy.vhd", SourceDisk=number, Dynamic=True)[0]
    assert made.properties["Size"] == 64 << 20
    bench.run("Add-VMHardDiskDrive", VMName="sql01", ControllerType="SCSI", Path="C:\\VMs\\sql01\\copy.vhd")
    ran = bench.script(*backup(SQL01))
    assert ran.code == 1
    assert "disk GUID" in bench.events(VMMS, REVERT_DISK)[0].message
    assert bench.script("delete shadows all").code == 0
    bench.run("Set-Disk", Number=number, Guid="{11111111-2222-3333-4444-555555555555}")
    assert bench.script(*backup(SQL01)).code == 0


def test_without_auto_recovery_guests_cannot_be_backed_up(bench: Bench) -> None:
    """`transportable` and `noautorecover` make a set that nobody may write: the writer refuses."""
    for option in ("transportable", "noautorecover"):
        ran = bench.script(f"set option {option}", *backup(SQL01))
        assert ran.code == 1
        assert "800423f4" in ran.text
        assert len(bench.snapshots("vm_sql01")) == 1
        assert bench.script("delete shadows all").code == 0
        assert bench.snapshots("vm_sql01") == []
