"""Volumes: Format-Volume, Get-Volume, Optimize-Volume, Write-VolumeCache."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from labenv.devices import DeviceError
from labenv.windows import shapes_storage as shape
from labenv.windows.call import Call, Cmdlet
from labenv.windows.cmdlets.disk import io_failed
from labenv.windows.cmdlets.targets import objects, prop, texts
from labenv.windows.disks.errors import FileSystemError
from labenv.windows.disks.exfat import format_exfat
from labenv.windows.disks.mbr import IFS, Mbr, MbrPartition
from labenv.windows.errors import FileProblem, cim_not_found, storage
from labenv.windows.records import DiskRecord
from labenv.windows.volumes import Volume

if TYPE_CHECKING:
    from labenv.windows.host import Host

_LABEL = 11


def volumes(host: Host, call: Call) -> list[Volume]:
    """Volumes by drive letter, path, id, label, file path, partition or pipeline objects; else all."""
    everything = host.volumes.all()
    if "DriveLetter" in call:
        return _by(call, "DriveLetter", {v.letter: v for v in everything if v.letter})
    for name in ("Path", "ObjectId", "UniqueId"):
        if name in call:
            known = {path.lower(): v for v in everything for path in v.access_paths}
            return _by(call, name, {**known, **{path.rstrip("\\"): v for path, v in known.items()}})
    if "FileSystemLabel" in call:
        systems = ((v, host.volumes.formatted(v)) for v in everything)
        return _by(call, "FileSystemLabel", {s.label: v for v, s in systems if s is not None})
    if "FilePath" in call:
        try:
            return [host.volumes.resolve(str(call["FilePath"]))[0]]
        except FileProblem as error:
            raise cim_not_found("MSFT_Volume", "FilePath", call["FilePath"]) from error
    items = objects(call, "InputObject", "Partition")
    if items:
        wanted = {str(prop(i, "Path") or prop(i, "Guid")).strip("\\?").lower() for i in items}
        return [v for v in everything if {v.name.strip("\\?").lower(), f"{{{v.guid}}}"} & wanted]
    return everything


def _by(call: Call, name: str, known: dict[str, Volume]) -> list[Volume]:
    found = []
    lowered = {key.lower(): volume for key, volume in known.items()}
    for each in texts(call[name]):
        volume = lowered.get(each.lower())
        if volume is None:
            call.error(cim_not_found("MSFT_Volume", name, each))
        else:
            found.append(volume)
    return found


def get_volume(host: Host, call: Call) -> Sequence[object]:
    """Get-Volume."""
    return [shape.volume(host, v) for v in volumes(host, call)]


async def format_volume(host: Host, call: Call) -> Sequence[object]:
    """Format-Volume: makes an empty file system, exFAT under the name of NTFS. Takes ``windows.format``."""
    await host.spend("windows.format")
    output: list[object] = []
    for item in volumes(host, call):
        label = str(call.get("NewFileSystemLabel") or "")
        if call.get("FileSystem", "NTFS") not in ("NTFS", "exFAT"):
            raise storage(43001)
        if len(label) > _LABEL:
            raise storage(
                5, detail=f"The label is longer than {_LABEL} characters, which the lab's file system allows."
            )
        if item.shared:
            raise storage(41018)
        record = host.disks.records[item.disk]
        if record.kind == "system":
            raise storage(40001)
        if host.files.in_use(item.name):
            raise storage(43002)
        host.volumes.dismount(item)
        item = _typed(host, record, item)
        serial = int.from_bytes(host.ids.digest("volume serial", host.name, str(item.guid))[:4], "big")
        try:
            size = call.get("AllocationUnitSize")
            format_exfat(host.volumes.device(item), label=label, serial=serial, cluster_size=size)
        except DeviceError as error:
            raise io_failed(error) from error
        output.append(shape.volume(host, item))
    return output


def _typed(host: Host, record: DiskRecord, item: Volume) -> Volume:
    """Formatting gives a partition of an MBR the type of its file system."""
    layout, part = host.disks.layout(record), item.partition
    if not isinstance(layout, Mbr) or not isinstance(part, MbrPartition) or part.kind == IFS:
        return item
    try:
        host.disks.write_layout(record, layout.with_kind(part.number, IFS))
    except DeviceError as error:
        raise io_failed(error) from error
    changed = host.volumes.get(item.guid)
    assert changed is not None
    return changed


async def write_volume_cache(host: Host, call: Call) -> None:
    """Write-VolumeCache: what the host caches of a volume reaches the disk."""
    await host.spend("windows.volume.flush")
    for item in volumes(host, call):
        try:
            system = host.volumes.file_system(item)
            system.mark_clean()
            system.flush()
        except DeviceError as error:
            call.error(io_failed(error))
        except FileSystemError:
            call.error(storage(4))


async def optimize_volume(host: Host, call: Call) -> None:
    """Optimize-Volume -ReTrim: what is free on a volume is offered to the array once more. Nothing else is done."""
    await host.spend("windows.volume.flush")
    for item in volumes(host, call):
        if not call.get("ReTrim"):
            raise storage(1, detail="The lab's volumes need -ReTrim only.")
        try:
            host.volumes.file_system(item).reclaim()
        except DeviceError as error:
            call.error(io_failed(error))
        except FileSystemError:
            call.error(storage(4))


COMMANDS: Mapping[str, Cmdlet] = {
    "Get-Volume": get_volume,
    "Format-Volume": format_volume,
    "Write-VolumeCache": write_volume_cache,
    "Optimize-Volume": optimize_volume,
}
"""The cmdlets of this module."""
