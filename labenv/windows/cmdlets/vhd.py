"""Virtual disk files: Get-VHD, New-VHD, Mount-VHD, Dismount-VHD, Set-VHD."""

from __future__ import annotations

import ntpath
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING
from uuid import UUID

from labenv.devices import BlockDevice, DeviceError
from labenv.windows import shapes_hyperv as shape
from labenv.windows.call import Call, Cmdlet, PsError
from labenv.windows.cmdlets.targets import many, objects, prop, texts
from labenv.windows.disks.virtualdisk import VhdType
from labenv.windows.errors import FileProblem, hyperv, hyperv_file, sharing_violation
from labenv.windows.objects import PsObject
from labenv.windows.places import VIRTUAL_DISKS
from labenv.windows.records import DiskRecord
from labenv.windows.storage import Attachment
from labenv.windows.volumes import full_path

if TYPE_CHECKING:
    from labenv.windows.host import Host


def vhd_path(path: str) -> str:
    """An absolute path; a bare name lies in the host's folder for virtual disks."""
    return full_path(path if ntpath.isabs(path) else ntpath.join(VIRTUAL_DISKS, path))


def make(
    host: Host,
    path: str,
    *,
    size: int = 0,
    kind: VhdType = VhdType.DYNAMIC,
    parent: str | None = None,
    block_size: int | None = None,
) -> None:
    """Make a virtual disk file with a new identifier; raises ``FileProblem``."""
    if host.spec.era == "2008r2" and path.lower().endswith("x"):
        raise hyperv("InvalidParameter", "VHDX files came with Windows Server 2012.", target=path)
    host.files.mkdir(ntpath.dirname(path))
    identifier = host.ids.uuid("vhd", host.name, path.lower())
    host.vhds.create(path, kind=kind, size=size, identifier=identifier, parent=parent, block_size=block_size)


def attached(host: Host, path: str) -> DiskRecord | None:
    """The disk that shows an attached virtual disk file."""
    key = host.files.key(path)
    return next((d for d in host.disks.present() if d.path and host.files.key(d.path) == key), None)


def _shape(host: Host, path: str) -> PsObject:
    record = attached(host, path)
    used = host.files.in_use(path)
    number = record.number if record is not None else None
    return shape.virtual_disk(host, path, host.vhds.info(path), attached=used, disk_number=number)


def failed(path: str, doing: str, error: FileProblem) -> PsError:
    """A virtual disk cmdlet could not use a file."""
    missing = error.code in (0x80070002, 0x80070003)
    error_id = "ObjectNotFound" if missing else "ObjectInUse" if error.code == 0x80070020 else "OperationFailed"
    result = hyperv_file(f"Failed to {doing} the virtual disk '{path}'.", error, error_id=error_id)
    result.target = path
    return result


def get_vhd(host: Host, call: Call) -> Sequence[object]:
    """Get-VHD by path, by disk number, or of the VMs with an id."""
    paths = [vhd_path(p) for p in texts(call.get("Path"))]
    if "DiskNumber" in call:
        paths = [d.path for d in host.disks.present() if d.number == call["DiskNumber"] and d.path]
        if not paths:
            text = f"Disk {call['DiskNumber']} is not an attached virtual disk."
            raise hyperv("InvalidParameter", text, target=call["DiskNumber"])
    for vm_id in many(call.get("VMId")):
        vm = host.machines.get(vm_id) if isinstance(vm_id, UUID) else None
        if vm is None:
            text = f'Hyper-V was unable to find a virtual machine with id "{vm_id}".'
            call.error(hyperv("InvalidParameter", text, target=vm_id))
            continue
        paths += [d.path for d in vm.drives if d.path]
    if not paths:
        paths = [vhd_path(str(prop(i, "Path"))) for i in objects(call)]
    output: list[object] = []
    for path in paths:
        try:
            output.append(_shape(host, path))
        except FileProblem as error:
            call.error(failed(path, "get", error))
    return output


async def new_vhd(host: Host, call: Call) -> Sequence[object]:
    """New-VHD: -Fixed, -Dynamic, -Differencing over -ParentPath, or a copy of the physical disk -SourceDisk.

    A copy has the disk's GUID, too (TR 6.2). The time of a fixed disk and of a copy goes by its size.
    """
    kind = VhdType.FIXED if call.get("Fixed") else VhdType.DYNAMIC
    parent = vhd_path(str(call["ParentPath"])) if "ParentPath" in call else None
    if parent is not None:
        kind = VhdType.DIFFERENCING
    size = int(call.get("SizeBytes") or 0)
    source = _source(host, call)
    if source is not None:
        size = source.size
        await host.spend("windows.copy_gib", size / (1 << 30))
    else:
        factor = size / (1 << 30) if kind is VhdType.FIXED else 1.0
        await host.spend("windows.vhd.fixed_gib" if kind is VhdType.FIXED else "windows.vhd.new", factor)
    output: list[object] = []
    for each in texts(call["Path"]):
        path = vhd_path(each)
        if parent is None and size < 3 << 20:
            raise hyperv("InvalidParameter", "The size of a virtual disk is at least 3 MB.", target=path)
        try:
            make(host, path, size=size, kind=kind, parent=parent, block_size=call.get("BlockSizeBytes"))
            if source is not None:
                host.vhds.fill(path, source)
        except FileProblem as error:
            call.error(failed(path, "create", error))
            continue
        output.append(_shape(host, path))
    return output


def _source(host: Host, call: Call) -> BlockDevice | None:
    """The physical disk that is to be copied."""
    if "SourceDisk" not in call:
        return None
    record = host.disks.number(int(call["SourceDisk"]))
    if record is None or record.kind not in ("iscsi", "system"):
        raise hyperv("InvalidParameter", f"There is no physical disk {call['SourceDisk']}.", target=call["SourceDisk"])
    try:
        return host.disks.raw(record)
    except DeviceError as error:
        raise hyperv("OperationFailed", f"The disk {record.number} cannot be read: {error}") from error


async def mount_vhd(host: Host, call: Call) -> Sequence[object] | None:
    """Mount-VHD: shows a virtual disk as a disk of this host; its volumes get letters unless -NoDriveLetter."""
    await host.spend("windows.vhd.mount")
    output: list[object] = []
    for each in texts(call.get("Path")) or [str(prop(i, "Path")) for i in objects(call)]:
        path = vhd_path(each)
        read_only = bool(call.get("ReadOnly"))
        try:
            if host.files.in_use(path):
                raise sharing_violation(path)
            opened = host.vhds.open(path, read_only=read_only)
        except FileProblem as error:
            call.error(failed(path, "mount", error))
            continue
        host.disks.attach(
            path=path,
            chain=opened.paths,
            attachment=Attachment(opened.device, opened.close),
            read_only=read_only,
            no_letters=bool(call.get("NoDriveLetter")),
        )
        output.append(_shape(host, path))
    return output if call.get("Passthru") else None


async def dismount_vhd(host: Host, call: Call) -> Sequence[object] | None:
    """Dismount-VHD by path or disk number."""
    await host.spend("windows.vhd.mount")
    wanted: list[tuple[str, DiskRecord | None]] = []
    if "DiskNumber" in call:
        record = host.disks.number(call["DiskNumber"])
        wanted.append((str(call["DiskNumber"]), record if record is not None and record.kind == "vhd" else None))
    for each in texts(call.get("Path")) or ([] if wanted else [str(prop(i, "Path")) for i in objects(call)]):
        try:
            wanted.append((vhd_path(each), attached(host, vhd_path(each))))
        except FileProblem:
            wanted.append((vhd_path(each), None))
    paths = []
    for name, record in wanted:
        if record is None:
            text = f"The virtual disk '{name}' is not mounted on this host."
            call.error(hyperv("InvalidState", text, target=name))
            continue
        if any(v.disk == record.unique_id and host.files.in_use(v.name) for v in host.volumes.all()):
            call.error(failed(record.path, "dismount", sharing_violation(record.path)))
            continue
        host.disks.detach(record)
        paths.append(record.path)
    return [_shape(host, path) for path in paths] if call.get("Passthru") else None


async def set_vhd(host: Host, call: Call) -> Sequence[object] | None:
    """Set-VHD: -ResetDiskIdentifier gives a new identifier (not new GUIDs inside), -ParentPath mends a chain."""
    await host.spend("windows.vhd.set")
    path = vhd_path(str(call["Path"]))
    try:
        host.files.guard(path)
        if call.get("ResetDiskIdentifier"):
            host.vhds.set_identifier(path, host.ids.uuid("vhd", host.name, path.lower()))
        elif "ParentPath" in call:
            host.vhds.set_parent(path, vhd_path(str(call["ParentPath"])))
        else:
            raise hyperv("InvalidParameter", "The lab changes only the identifier and the parent.", target=path)
    except FileProblem as error:
        raise failed(path, "modify", error) from error
    return [_shape(host, path)] if call.get("Passthru") else None


COMMANDS: Mapping[str, Cmdlet] = {
    "Get-VHD": get_vhd,
    "New-VHD": new_vhd,
    "Mount-VHD": mount_vhd,
    "Dismount-VHD": dismount_vhd,
    "Set-VHD": set_vhd,
}
"""The cmdlets of this module."""
