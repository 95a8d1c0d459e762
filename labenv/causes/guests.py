"""Causes in guests and virtual machines."""

from __future__ import annotations

import ntpath
from dataclasses import replace
from uuid import UUID

import msgspec

from labenv.causes.model import VM, Cause, CauseError, Done, Option, Options, Scene, Undo
from labenv.guest.guest import Guest
from labenv.guest.volume import GuestVolume
from labenv.windows.disks import gpt
from labenv.windows.host import Host
from labenv.windows.machines import VmNotRunning
from labenv.windows.records import DriveRecord, VmRecord
from labenv.windows.vmconfig import is_active

_FILLER = "\\pagefile.tmp"
_ROOM = 256 << 10
_SMALL = 200 << 20


async def _service_off(scene: Scene, options: Options) -> Undo:
    host, vm = scene.vm(options["vm"])
    if "VSS" in vm.disabled_services:
        raise CauseError(f"the integration service VSS of {vm.name} is off already")
    await scene.run(host, "Disable-VMIntegrationService", VMName=vm.name, Name="VSS")
    return {}


async def _service_on(scene: Scene, done: Done) -> None:
    host, vm = scene.vm(done.options["vm"])
    await scene.run(host, "Enable-VMIntegrationService", VMName=vm.name, Name="VSS")


async def _fill(scene: Scene, options: Options) -> Undo:
    host, vm = scene.vm(options["vm"])
    volume = _guest_volume(host, vm, options["letter"])
    if volume.exists(_FILLER) or volume.free <= 2 * _ROOM:
        raise CauseError(f"volume {options['letter']}: of {vm.name} is full already")
    volume.file_system.create(_FILLER, size=volume.free - _ROOM).close()
    volume.flush()
    return {}


async def _empty(scene: Scene, done: Done) -> None:
    host, vm = scene.vm(done.options["vm"])
    volume = _guest_volume(host, vm, done.options["letter"])
    if volume.exists(_FILLER):
        volume.remove(_FILLER)
        volume.flush()


def _guest_volume(host: Host, vm: VmRecord, letter: str) -> GuestVolume:
    guest = _guest(host, vm)
    if letter not in guest.volumes:
        raise CauseError(f"{vm.name} has no volume {letter}: one of {', '.join(guest.volumes)}")
    return guest.volumes[letter]


def _guest(host: Host, vm: VmRecord) -> Guest:
    try:
        return host.machines.guest(vm)
    except VmNotRunning as error:
        raise CauseError(str(error)) from error


async def _small_volume(scene: Scene, options: Options) -> Undo:
    host, vm = scene.vm(options["vm"])
    path = ntpath.join(_folder(vm), "small.vhd")
    await scene.run(host, "New-VHD", Path=path, SizeBytes=_SMALL, Dynamic=True)
    disk = (await scene.run(host, "Mount-VHD", Path=path, NoDriveLetter=True, Passthru=True))[0].properties["Number"]
    await scene.run(host, "Initialize-Disk", Number=disk, PartitionStyle="GPT")
    await scene.run(host, "New-Partition", DiskNumber=disk, UseMaximumSize=True)
    parts = await scene.run(host, "Get-Partition", DiskNumber=disk)
    name = next(p for part in parts for p in part.properties["AccessPaths"].items if p.startswith("\\\\?\\Volume"))
    await scene.run(host, "Format-Volume", Path=name, NewFileSystemLabel="Scratch", Confirm=False)
    await scene.run(host, "Dismount-VHD", Path=path)
    await scene.run(host, "Add-VMHardDiskDrive", VMName=vm.name, ControllerType="SCSI", Path=path)
    return {"path": path}


async def _no_small_volume(scene: Scene, done: Done) -> None:
    host, vm = scene.vm(done.options["vm"])
    drive = next((d for d in vm.drives if d.path == done.undo["path"]), None)
    if drive is not None:
        await scene.run(
            host,
            "Remove-VMHardDiskDrive",
            VMName=vm.name,
            ControllerType=drive.controller_type,
            ControllerNumber=drive.controller_number,
            ControllerLocation=drive.controller_location,
        )
    await scene.run(host, "Remove-Item", LiteralPath=done.undo["path"])


def _folder(vm: VmRecord) -> str:
    return ntpath.dirname(next(d.path for d in vm.drives if d.path))


async def _too_new(scene: Scene, options: Options) -> Undo:
    host, vm = scene.vm(options["vm"])
    old = _guest(host, vm).system
    _guest(host, vm).upgrade(operating_system=options["system"], integration_services="")
    return {"system": old.operating_system, "services": old.integration_services}


async def _as_before(scene: Scene, done: Done) -> None:
    host, vm = scene.vm(done.options["vm"])
    _guest(host, vm).upgrade(operating_system=done.undo["system"], integration_services=done.undo["services"])


async def _stopped(scene: Scene, host: Host, vm: VmRecord) -> bool:
    """Shut a VM down if it runs; whether it ran."""
    if not is_active(vm):
        return False
    await scene.run(host, "Stop-VM", Name=vm.name, Force=True)
    return True


async def _forget(scene: Scene, vm_name: str) -> tuple[Host, VmRecord, bool]:
    """Unregister a VM with its configuration file; its disks stay."""
    host, vm = scene.vm(vm_name)
    if vm.clustered or host.machines.snapshots_of(vm):
        raise CauseError(f"{vm.name} is a role of a cluster or has checkpoints: choose another VM")
    ran = await _stopped(scene, host, vm)
    vm = host.machines.vms[str(vm.id)]
    host.machines.remove(vm)
    return host, vm, ran


async def _know_again(scene: Scene, host: Host, vm: VmRecord, *, start: bool) -> None:
    host.machines.create(vm)
    if start:
        await scene.run(host, "Start-VM", Name=vm.name)


async def _half_restored(scene: Scene, options: Options) -> Undo:
    host, vm, ran = await _forget(scene, options["vm"])
    return {"host": host.name, "vm": msgspec.json.encode(vm).decode(), "ran": "yes" if ran else ""}


async def _restored(scene: Scene, done: Done) -> None:
    vm = msgspec.json.decode(done.undo["vm"], type=VmRecord)
    await _know_again(scene, scene.host(done.undo["host"]), vm, start=bool(done.undo["ran"]))


async def _made_anew(scene: Scene, options: Options) -> Undo:
    host, vm, ran = await _forget(scene, options["vm"])
    fresh = replace(vm, id=host.ids.uuid("vm", host.name, vm.name), created=host.clock.time)
    await _know_again(scene, host, fresh, start=ran)
    return {"host": host.name, "id": str(vm.id)}


async def _made_as_before(scene: Scene, done: Done) -> None:
    host, vm, ran = await _forget(scene, done.options["vm"])
    await _know_again(scene, host, replace(vm, id=UUID(done.undo["id"])), start=ran)


async def _checkpoint(scene: Scene, options: Options) -> Undo:
    host, vm = scene.vm(options["vm"])
    made = await host.checkpoints.create_recovery(vm, consistent=is_active(vm))
    return {"host": host.name, "checkpoint": str(made.id)}


async def _merge(scene: Scene, done: Done) -> None:
    host, vm = scene.vm(done.options["vm"])
    record = host.machines.snapshots.get(done.undo["checkpoint"])
    if record is not None:
        host.checkpoints.remove(record)
        await host.checkpoints.run_merges(vm.id)


async def _no_scsi(scene: Scene, options: Options) -> Undo:
    host, vm = scene.vm(options["vm"])
    taken = {(d.controller_number, d.controller_location) for d in vm.drives if d.controller_type == "IDE"}
    free = [place for place in ((0, 0), (0, 1), (1, 1)) if place not in taken]
    drives = []
    for drive in vm.drives:
        if drive.controller_type == "SCSI":
            if not free or vm.generation != 1:
                raise CauseError(f"{vm.name} has more disks than fit on its IDE controllers: choose another VM")
            number, location = free.pop(0)
            drive = replace(drive, controller_type="IDE", controller_number=number, controller_location=location)
        drives.append(drive)
    await _rewire(scene, host, vm, replace(vm, scsi_controllers=0, drives=tuple(drives)))
    return {"controllers": str(vm.scsi_controllers), "drives": msgspec.json.encode(vm.drives).decode()}


async def _scsi(scene: Scene, done: Done) -> None:
    host, vm = scene.vm(done.options["vm"])
    drives = msgspec.json.decode(done.undo["drives"], type=tuple[DriveRecord, ...])
    await _rewire(scene, host, vm, replace(vm, scsi_controllers=int(done.undo["controllers"]), drives=drives))


async def _rewire(scene: Scene, host: Host, vm: VmRecord, wanted: VmRecord) -> None:
    """Other controllers and drives, for which the VM has to be off for a moment."""
    ran = await _stopped(scene, host, vm)
    now = host.machines.vms[str(vm.id)]
    host.machines.put(replace(now, scsi_controllers=wanted.scsi_controllers, drives=wanted.drives))
    if ran:
        await scene.run(host, "Start-VM", Name=vm.name)


async def _move_checkpoints(scene: Scene, options: Options) -> Undo:
    host, vm = scene.vm(options["vm"])
    await scene.run(host, "Set-VM", Name=vm.name, SnapshotFileLocation=options["folder"])
    return {"folder": vm.snapshot_path}


async def _move_checkpoints_back(scene: Scene, done: Done) -> None:
    host, vm = scene.vm(done.options["vm"])
    await scene.run(host, "Set-VM", Name=vm.name, SnapshotFileLocation=done.undo["folder"])


async def _copied_disk(scene: Scene, options: Options) -> Undo:
    host, vm = scene.vm(options["vm"])
    physical = gpt.read_gpt(host.disks.raw(host.disks.present()[0]))
    assert physical is not None
    path = [d.path for d in vm.drives if d.path][-1]
    return {"path": path, "guid": str(await _change_guid(scene, host, vm, path, physical.disk_guid))}


async def _own_guid(scene: Scene, done: Done) -> None:
    host, vm = scene.vm(done.options["vm"])
    await _change_guid(scene, host, vm, done.undo["path"], UUID(done.undo["guid"]))


async def _change_guid(scene: Scene, host: Host, vm: VmRecord, path: str, guid: UUID) -> UUID:
    ran = await _stopped(scene, host, vm)
    opened = host.vhds.open(path)
    layout = gpt.read_gpt(opened.device)
    assert layout is not None
    gpt.write_gpt(opened.device, layout.with_disk_guid(guid))
    opened.close()
    if ran:
        await scene.run(host, "Start-VM", Name=vm.name)
    return layout.disk_guid


async def _replicate(scene: Scene, options: Options) -> Undo:
    host, vm = scene.vm(options["vm"])
    host.machines.put(replace(vm, replicated=True))
    return {}


async def _replicate_no_more(scene: Scene, done: Done) -> None:
    host, vm = scene.vm(done.options["vm"])
    host.machines.put(replace(vm, replicated=False))


async def _add_adapter(scene: Scene, options: Options) -> Undo:
    host, vm = scene.vm(options["vm"])
    host.machines.put(replace(vm, fibre_channel=vm.fibre_channel + 1))
    return {}


async def _remove_adapter(scene: Scene, done: Done) -> None:
    host, vm = scene.vm(done.options["vm"])
    host.machines.put(replace(vm, fibre_channel=vm.fibre_channel - 1))


async def _on_share(scene: Scene, options: Options) -> Undo:
    host, vm = scene.vm(options["vm"])
    if not options["path"].startswith("\\\\"):
        raise CauseError(f"path is {options['path']!r}: one on a share begins with two backslashes")
    taken = {d.controller_location for d in vm.drives if d.controller_type == "SCSI"}
    free = next(place for place in range(64) if place not in taken)
    host.machines.put(replace(vm, drives=(*vm.drives, DriveRecord("SCSI", 0, free, options["path"]))))
    return {}


async def _off_share(scene: Scene, done: Done) -> None:
    host, vm = scene.vm(done.options["vm"])
    host.machines.put(replace(vm, drives=tuple(d for d in vm.drives if d.path != done.options["path"])))


CAUSES = (
    Cause(
        "replica-enabled",
        "Hyper-V Replica copies a VM to another server.",
        "Get-VM shows its ReplicationState; SnapManager for Hyper-V does not support that.",
        ("R-11.8-01",),
        options={"vm": VM},
        apply=_replicate,
        mend=_replicate_no_more,
    ),
    Cause(
        "fibre-channel-adapter",
        "A VM gets a virtual Fibre Channel adapter.",
        "What its guest reaches through it is in no backup of the host; SnapManager for Hyper-V does not support that.",
        ("R-11.8-01",),
        options={"vm": VM},
        apply=_add_adapter,
        mend=_remove_adapter,
    ),
    Cause(
        "disk-on-share",
        "A VM has a virtual disk on an SMB share.",
        "No LUN holds it; it could only be backed up through remote VSS, which is not supported.",
        ("R-11.8-01",),
        options={"vm": VM, "path": Option("the disk", "\\\\files\\vms\\more.vhdx")},
        apply=_on_share,
        mend=_off_share,
    ),
    Cause(
        "integration-service-off",
        "The integration service for backup (VSS) of a VM is switched off.",
        "The VM is backed up offline: it is saved for the copy.",
        ("R-6.2-04",),
        case=6,
        options={"vm": VM},
        apply=_service_off,
        mend=_service_on,
    ),
    Cause(
        "guest-volume-full",
        "A volume inside a guest is full.",
        "No room for the guest's own shadow copy: state 8, 0x800423f4, event 10102; the guest goes on.",
        ("R-6.2-04",),
        case=6,
        edge="PrepareForSnapshot",
        options={"vm": VM, "letter": Option("its drive letter", "E")},
        apply=_fill,
        mend=_empty,
    ),
    Cause(
        "guest-volume-small",
        "A VM has a volume of less than 300 MB.",
        "It cannot be shadow-copied: the VM is saved for the copy (eras 2008r2 and 2012).",
        ("R-6.2-04",),
        case=6,
        options={"vm": VM},
        apply=_small_volume,
        mend=_no_small_volume,
    ),
    Cause(
        "guest-too-new",
        "The guest's operating system is newer than the host's integration services.",
        "They do not run in it: the VM is saved for the copy, or the backup is refused if that is not allowed.",
        ("R-6.2-04",),
        case=7,
        options={"vm": VM, "system": Option("the guest's system", "Windows Server 2012 Standard")},
        apply=_too_new,
        mend=_as_before,
    ),
    Cause(
        "vm-being-restored",
        "A restore is under way: the VM's configuration is gone, its disks are there.",
        "A backup of its volume succeeds and lacks the VM.",
        ("R-9-03",),
        case=17,
        options={"vm": VM},
        apply=_half_restored,
        mend=_restored,
    ),
    Cause(
        "vm-made-anew",
        "A VM was deleted and created again with the same disks.",
        "It has another id: a dataset that knows the old one does not protect it.",
        ("R-9-04",),
        case=18,
        options={"vm": VM},
        apply=_made_anew,
        mend=_made_as_before,
    ),
    Cause(
        "checkpoint-left",
        "A backup that was interrupted has left its recovery checkpoint.",
        "The VM writes to .avhd(x) files, which grow; Get-VMSnapshot shows a checkpoint of the type Recovery.",
        ("R-6.2-18",),
        case=19,
        options={"vm": VM},
        apply=_checkpoint,
        mend=_merge,
    ),
    Cause(
        "no-scsi-controller",
        "A VM of generation 1 has no SCSI controller.",
        "Event 10103: it cannot be backed up online, and is saved for the copy (era 2012).",
        ("R-6.2-04",),
        case=20,
        options={"vm": VM},
        apply=_no_scsi,
        mend=_scsi,
    ),
    Cause(
        "checkpoints-elsewhere",
        "The folder for a VM's checkpoints is on another LUN than its disks.",
        "The VM is saved for the copy until one checkpoint was made there (eras 2008r2 and 2012).",
        ("R-6.2-18",),
        case=20,
        options={"vm": VM, "folder": Option("the folder", required=True)},
        apply=_move_checkpoints,
        mend=_move_checkpoints_back,
    ),
    Cause(
        "physical-disk-copied",
        "The last virtual disk of a VM was made by copying a physical disk of the host.",
        "It has that disk's GUID and cannot be shown beside it: state 11, 0x800423f3, event 10103.",
        ("R-6.2-12",),
        case=13,
        edge="PostSnapshot",
        options={"vm": VM},
        apply=_copied_disk,
        mend=_own_guid,
    ),
)
"""Changes of guests and virtual machines."""
