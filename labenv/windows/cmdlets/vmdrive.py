"""A VM's hard disk drives: Get-, Add-, Set- and Remove-VMHardDiskDrive."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING
from uuid import UUID

from labenv.windows import shapes_hyperv as shape
from labenv.windows.call import Call, Cmdlet, PsError
from labenv.windows.cmdlets.targets import objects, snapshots, vms
from labenv.windows.errors import FileProblem, hyperv, hyperv_file
from labenv.windows.objects import PsEnum, PsObject
from labenv.windows.records import DriveRecord, VmRecord
from labenv.windows.vmconfig import is_active
from labenv.windows.volumes import full_path

if TYPE_CHECKING:
    from labenv.windows.host import Host

_IDE_PLACES = ((0, 0), (0, 1), (1, 0), (1, 1))
"""Places on the IDE controllers; New-VM puts the DVD drive at (1, 0)."""
_SCSI_LOCATIONS = 64


def _matches(call: Call, drive: DriveRecord) -> bool:
    return bool(
        call.get("ControllerType", drive.controller_type) == drive.controller_type
        and call.get("ControllerNumber", drive.controller_number) == drive.controller_number
        and call.get("ControllerLocation", drive.controller_location) == drive.controller_location
    )


def get_vm_hard_disk_drive(host: Host, call: Call) -> Sequence[object]:
    """Get-VMHardDiskDrive of VMs or of a checkpoint."""
    found = snapshots(host, call)
    if found:
        return [
            shape.hard_drive(host, s.configuration, d, s)
            for s in found
            for d in s.configuration.drives
            if _matches(call, d)
        ]
    return [shape.hard_drive(host, vm, d) for vm in vms(host, call) for d in vm.drives if _matches(call, d)]


def _place(vm: VmRecord, call: Call) -> tuple[str, int, int]:
    taken = {(d.controller_type, d.controller_number, d.controller_location) for d in vm.drives}
    if vm.dvd:
        taken.add(("IDE", 1, 0))
    places = [("IDE", *p) for p in _IDE_PLACES] if vm.generation == 1 else []
    places += [("SCSI", c, location) for c in range(vm.scsi_controllers) for location in range(_SCSI_LOCATIONS)]
    kind = call.get("ControllerType")
    number, location = call.get("ControllerNumber"), call.get("ControllerLocation")
    if kind == "IDE" and vm.generation == 2:
        raise hyperv(
            "InvalidParameter", f"'{vm.name}' is of generation 2, which has no IDE controller.", target=vm.name
        )
    for place in places:
        fits = kind in (None, place[0]) and number in (None, place[1]) and location in (None, place[2])
        if fits and place not in taken:
            return place
    text = f"The controller of '{vm.name}' has no free location, or the specified one is in use or does not exist."
    raise hyperv("InvalidOperation" if kind else "InvalidParameter", text, target=vm.name)


def _check(host: Host, call: Call, vm: VmRecord, path: str) -> None:
    text = f"Failed to add device 'Virtual Hard Disk' to '{vm.name}'. Attachment '{path}':"
    try:
        info = host.vhds.info(path)
    except FileProblem as error:
        if call.get("AllowUnverifiedPaths"):
            return
        raise hyperv_file(text, error) from error
    if vm.generation == 2 and info.format.value == "VHD":
        raise hyperv("OperationFailed", f"{text} a generation 2 virtual machine uses VHDX files only.", target=vm.name)
    if any(d.path and host.files.key(d.path) == host.files.key(path) for d in vm.drives if host.files.exists(d.path)):
        raise hyperv("OperationFailed", f"{text} the virtual machine has this disk already.", target=vm.name)


def _physical(host: Host, vm: VmRecord, drive: DriveRecord, number: int) -> DriveRecord:
    """A pass-through drive: the disk has to be offline, or one of the cluster, whose role then takes it."""
    record = host.disks.number(number)
    text = f"Failed to add device 'Physical Disk Drive' to '{vm.name}'."
    if record is None or record.kind != "iscsi":
        raise hyperv("InvalidParameter", f"{text} The host has no disk {number} to pass through.", target=vm.name)
    clustered = host.disks.owner is not None and host.disks.owner.clustered(record)
    if not record.offline and not clustered:
        raise hyperv("OperationFailed", f"{text} The disk {number} is online on the host.", target=vm.name)
    if any(d.disk_id == record.unique_id for d in vm.drives):
        raise hyperv("OperationFailed", f"{text} The virtual machine has this disk already.", target=vm.name)
    return replace(drive, disk=number, disk_id=record.unique_id)


async def add_vm_hard_disk_drive(host: Host, call: Call) -> Sequence[object] | None:
    """Add-VMHardDiskDrive: to IDE only while the VM is off; SCSI takes disks while it runs."""
    await host.spend("windows.vm.set")
    output: list[object] = []
    for vm in vms(host, call):
        try:
            kind, number, location = _place(vm, call)
            path = full_path(str(call["Path"])) if "Path" in call else ""
            if is_active(vm) and kind == "IDE":
                text = f"Failed to add device to '{vm.name}': the IDE controller takes disks only while it is off."
                raise hyperv("InvalidState", text, target=vm.name)
            if path:
                _check(host, call, vm, path)
            drive = DriveRecord(kind, number, location, path)
            if "DiskNumber" in call and not path:
                drive = _physical(host, vm, drive, int(call["DiskNumber"]))
            if is_active(vm):
                host.machines.hot_add(vm, drive)
            else:
                host.machines.put(replace(vm, drives=(*vm.drives, drive)))
        except PsError as error:
            call.error(error)
            continue
        except FileProblem as error:
            call.error(hyperv_file(f"Failed to add a disk to '{vm.name}'.", error))
            continue
        output.append(shape.hard_drive(host, vm, drive))
    return output if call.get("Passthru") else None


def _chosen(host: Host, call: Call) -> list[tuple[VmRecord, DriveRecord]]:
    items = objects(call, "VMHardDiskDrive")
    if items:
        found = []
        for item in items:
            vm_id = item.properties.get("VMId")
            vm = host.machines.get(vm_id) if isinstance(vm_id, UUID) else None
            found += [(vm, d) for d in vm.drives if _same(item, d)] if vm is not None else []
        return found
    found = [(vm, d) for vm in vms(host, call) for d in vm.drives if _matches(call, d)]
    if not found:
        text = "Unable to find a hard disk drive matching the given criteria."
        raise hyperv("ObjectNotFound", text, target=call.get("VMName"))
    return found


def _same(item: PsObject, drive: DriveRecord) -> bool:
    kind = item.properties.get("ControllerType")
    name = kind.name if isinstance(kind, PsEnum) else str(kind)
    place = (name, item.properties.get("ControllerNumber"), item.properties.get("ControllerLocation"))
    return place == (drive.controller_type, drive.controller_number, drive.controller_location)


async def set_vm_hard_disk_drive(host: Host, call: Call) -> Sequence[object] | None:
    """Set-VMHardDiskDrive: another file in the same place, or another place."""
    await host.spend("windows.vm.set")
    output: list[object] = []
    for vm, drive in _chosen(host, call):
        if is_active(vm):
            text = f"'{vm.name}' failed to modify its drive: the operation cannot be performed in its current state."
            raise hyperv("InvalidState", text, target=vm.name)
        path = full_path(str(call["Path"])) if "Path" in call else drive.path
        others = tuple(d for d in vm.drives if d != drive)
        if path != drive.path:
            _check(host, call, replace(vm, drives=others), path)
        changed = replace(
            drive,
            path=path,
            controller_type=call.get("ToControllerType", drive.controller_type),
            controller_number=call.get("ToControllerNumber", drive.controller_number),
            controller_location=call.get("ToControllerLocation", drive.controller_location),
        )
        try:
            vm = host.machines.put(replace(vm, drives=tuple(changed if d == drive else d for d in vm.drives)))
        except FileProblem as error:
            raise hyperv_file(f"'{vm.name}' failed to modify its drive.", error) from error
        output.append(shape.hard_drive(host, vm, changed))
    return output if call.get("Passthru") else None


async def remove_vm_hard_disk_drive(host: Host, call: Call) -> Sequence[object] | None:
    """Remove-VMHardDiskDrive; the file stays."""
    await host.spend("windows.vm.set")
    output: list[object] = []
    for vm, drive in _chosen(host, call):
        if is_active(vm):
            if drive.controller_type == "IDE":
                text = f"Failed to remove a device from '{vm.name}': IDE disks leave only while it is off."
                raise hyperv("InvalidState", text, target=vm.name)
            host.machines.hot_remove(vm, drive)
        else:
            try:
                host.machines.put(replace(vm, drives=tuple(d for d in vm.drives if d != drive)))
            except FileProblem as error:
                raise hyperv_file(f"Failed to remove a disk from '{vm.name}'.", error) from error
        output.append(shape.hard_drive(host, vm, drive))
    return output if call.get("Passthru") else None


def get_vm_dvd_drive(host: Host, call: Call) -> Sequence[object]:
    """Get-VMDvdDrive: the drive that New-VM made; the lab has no discs."""
    return [shape.dvd_drive(host, vm) for vm in vms(host, call) if vm.dvd]


async def remove_vm_dvd_drive(host: Host, call: Call) -> None:
    """Remove-VMDvdDrive: frees the place on the IDE controller."""
    await host.spend("windows.vm.set")
    for vm in vms(host, call):
        if not vm.dvd:
            call.error(hyperv("ObjectNotFound", f"'{vm.name}' has no DVD drive.", target=vm.name))
        elif is_active(vm):
            call.error(
                hyperv("InvalidState", f"The DVD drive of '{vm.name}' stays while it is running.", target=vm.name)
            )
        else:
            try:
                host.machines.put(replace(vm, dvd=False))
            except FileProblem as error:
                call.error(hyperv_file(f"Failed to remove the DVD drive of '{vm.name}'.", error))


COMMANDS: Mapping[str, Cmdlet] = {
    "Get-VMHardDiskDrive": get_vm_hard_disk_drive,
    "Add-VMHardDiskDrive": add_vm_hard_disk_drive,
    "Set-VMHardDiskDrive": set_vm_hard_disk_drive,
    "Remove-VMHardDiskDrive": remove_vm_hard_disk_drive,
    "Get-VMDvdDrive": get_vm_dvd_drive,
    "Remove-VMDvdDrive": remove_vm_dvd_drive,
}
"""The cmdlets of this module."""
