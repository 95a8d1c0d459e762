"""Partitions and their access paths."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from string import ascii_uppercase
from typing import TYPE_CHECKING

from labenv.devices import DeviceError
from labenv.windows import shapes_storage as shape
from labenv.windows.call import Call, Cmdlet
from labenv.windows.cmdlets.disk import io_failed
from labenv.windows.cmdlets.targets import disks, many, objects, prop, texts
from labenv.windows.disks import gpt as table
from labenv.windows.disks import mbr
from labenv.windows.disks.layout import AnyPartition, Layout
from labenv.windows.disks.mbr import Mbr, MbrPartition
from labenv.windows.errors import FileProblem, cim_not_found, storage
from labenv.windows.records import DiskRecord
from labenv.windows.volumes import Volume, directory

if TYPE_CHECKING:
    from labenv.windows.host import Host

Found = list[tuple[DiskRecord, AnyPartition]]

_FLAGS = {
    "IsHidden": table.HIDDEN,
    "IsReadOnly": table.READ_ONLY,
    "IsShadowCopy": table.SHADOW_COPY,
    "NoDefaultDriveLetter": table.NO_DRIVE_LETTER,
}


def partitions(host: Host, call: Call) -> Found:
    """Partitions by disk and partition number, drive letter, or pipeline objects; all if nothing is asked for."""
    everything: Found = []
    for record in host.disks.present():
        layout = None if record.offline else host.disks.layout(record)
        everything += [(record, p) for p in (layout.partitions if layout is not None else ())]
    if "DriveLetter" in call and "DiskNumber" not in call and call.cmdlet != "New-Partition":
        return _by_letter(host, call, everything)
    items = objects(call, "InputObject")
    if items:
        wanted = {(prop(i, "DiskNumber"), prop(i, "PartitionNumber")) for i in items}
        return [(d, p) for d, p in everything if (d.number, p.number) in wanted]
    found = everything
    if any(name in call for name in ("DiskNumber", "DiskId", "Disk")):
        numbers = {d.number for d in disks(host, call)}
        found = [(d, p) for d, p in found if d.number in numbers]
        if not found and "DiskNumber" in call:
            for number in numbers:
                call.error(cim_not_found("MSFT_Partition", "DiskNumber", number))
    if "PartitionNumber" in call:
        wanted_numbers = [int(str(n)) for n in many(call["PartitionNumber"])]
        found = [(d, p) for d, p in found if p.number in wanted_numbers]
        for number in wanted_numbers:
            if all(p.number != number for _, p in found):
                call.error(cim_not_found("MSFT_Partition", "PartitionNumber", number))
    if "Offset" in call:
        offsets = [int(str(n)) for n in many(call["Offset"])]
        found = [(d, p) for d, p in found if p.offset in offsets]
    return found


def _by_letter(host: Host, call: Call, everything: Found) -> Found:
    found: Found = []
    for letter in texts(call["DriveLetter"]):
        volume = host.volumes.letter(letter)
        if volume is None:
            call.error(cim_not_found("MSFT_Partition", "DriveLetter", letter))
        else:
            found += [(d, p) for d, p in everything if d.unique_id == volume.disk and p.guid == volume.guid]
    return found


def get_partition(host: Host, call: Call) -> Sequence[object]:
    """Get-Partition."""
    return [shape.partition(host, d, p) for d, p in partitions(host, call)]


async def new_partition(host: Host, call: Call) -> Sequence[object]:
    """New-Partition; without a letter asked for it gets none, and the attribute that keeps it so."""
    await host.spend("windows.partition.new")
    output: list[object] = []
    for record in disks(host, call):
        layout = host.disks.layout(record)
        if record.offline:
            raise storage(41003)
        if layout is None:
            raise storage(41000)
        lettered = bool(call.get("AssignDriveLetter") or call.get("DriveLetter"))
        if "DriveLetter" in call:
            _check_letter(host, str(call["DriveLetter"]))
        attributes = (0 if lettered else table.NO_DRIVE_LETTER) | (table.HIDDEN if call.get("IsHidden") else 0)
        kind = _kind(call, layout)
        align = int(call.get("Alignment") or table.MIB)
        if align % table.SECTOR or (call.get("Offset") or 0) % table.SECTOR:
            raise storage(5, detail="Offset and Alignment are multiples of the sector size.")
        size = None if call.get("UseMaximumSize") else call.get("Size")
        if size is None and not call.get("UseMaximumSize"):
            raise storage(5, detail="Either Size or UseMaximumSize is needed.")
        try:
            made = host.disks.add_partition(
                record, layout, size=size, attributes=attributes, kind=kind, at=call.get("Offset"), align=align
            )
        except DeviceError as error:
            raise io_failed(error) from error
        if made is None:
            raise storage(40000)
        volume = host.volumes.of_partition(record.unique_id, made.number)
        bare = isinstance(layout, Mbr) and not lettered  # its table cannot say so
        if volume is not None and ("DriveLetter" in call or bare):
            host.volumes.assign_letter(volume, str(call.get("DriveLetter") or "").upper())
        if call.get("IsActive"):
            made = _activate(host, record, made.number)
        output.append(shape.partition(host, record, made))
    return output


def _kind(call: Call, layout: Layout) -> int:
    """The type for a new partition of an MBR; what only the other style has is refused."""
    if not isinstance(layout, Mbr):
        if "MbrType" in call or call.get("IsActive"):
            raise storage(5, detail="A GPT disk has neither MBR types nor active partitions.")
        return mbr.HUGE
    if "GptType" in call:
        raise storage(5, detail="An MBR disk has no GPT types.")
    name = str(call.get("MbrType") or "Huge")
    if name == "Extended":
        raise storage(1, detail="The lab's MBR disks have primary partitions only.")
    if mbr.next_number(layout) is None:
        raise storage(41004)
    return mbr.KINDS[name]


def _activate(host: Host, record: DiskRecord, number: int) -> AnyPartition:
    layout = host.disks.layout(record)
    assert isinstance(layout, Mbr)
    _write(host, record, layout.with_active(number, active=True))
    written = host.disks.layout(record)
    assert written is not None
    return written.partition(number)


def _check_letter(host: Host, letter: str) -> None:
    if letter.upper() not in ascii_uppercase:
        raise storage(42007)
    if host.volumes.letter(letter) is not None:
        raise storage(42002)


async def set_partition(host: Host, call: Call) -> None:
    """Set-Partition: attributes in the partition table, or another drive letter."""
    await host.spend("windows.partition.set")
    for record, part in partitions(host, call):
        if "NewDriveLetter" in call:
            _check_letter(host, str(call["NewDriveLetter"]))
            host.volumes.assign_letter(_volume(host, record, part), str(call["NewDriveLetter"]).upper())
        if isinstance(part, MbrPartition):
            _set_mbr(host, call, record, part)
            continue
        if "MbrType" in call or "IsActive" in call:
            raise storage(41006)
        attributes = part.attributes
        for name, flag in _FLAGS.items():
            if name in call:
                attributes = attributes | flag if call[name] else attributes & ~flag
        layout = host.disks.layout(record)
        if attributes != part.attributes and layout is not None:
            _write(host, record, layout.with_attributes(part.number, attributes))


def _set_mbr(host: Host, call: Call, record: DiskRecord, part: MbrPartition) -> None:
    """What can be set of a partition of an MBR. Hidden, read-only and shadow copy hold for all of its disk."""
    layout = host.disks.layout(record)
    assert isinstance(layout, Mbr)
    if "GptType" in call or call.get("NoDefaultDriveLetter"):
        raise storage(41006)  # without a letter by default are partitions of GPT disks only
    changed = layout
    for name, flag in _FLAGS.items():
        if name in call and name != "NoDefaultDriveLetter":
            changed = changed.with_attributes(
                part.number, changed.attributes | flag if call[name] else changed.attributes & ~flag
            )
    if "IsActive" in call:
        changed = changed.with_active(part.number, active=bool(call["IsActive"]))
    if "MbrType" in call:
        if call["MbrType"] not in mbr.KINDS.values() or call["MbrType"] == mbr.EXTENDED:
            raise storage(41006)
        changed = changed.with_kind(part.number, int(call["MbrType"]))
    if changed != layout:
        _write(host, record, changed)


def _write(host: Host, record: DiskRecord, layout: Layout) -> None:
    try:
        host.disks.write_layout(record, layout)
    except DeviceError as error:
        raise io_failed(error) from error


def _volume(host: Host, record: DiskRecord, part: AnyPartition) -> Volume:
    volume = host.volumes.of_partition(record.unique_id, part.number)
    if volume is None:
        raise storage(42008)
    return volume


async def remove_partition(host: Host, call: Call) -> None:
    """Remove-Partition."""
    await host.spend("windows.partition.remove")
    for record, part in partitions(host, call):
        layout = host.disks.layout(record)
        volume = host.volumes.of_partition(record.unique_id, part.number)
        if record.kind == "system":
            raise storage(40001, detail="The system partition cannot be removed.")
        if volume is not None and host.files.in_use(volume.name):
            raise storage(43002)
        if layout is not None:
            if volume is not None:
                host.volumes.dismount(volume)
            _write(host, record, layout.removing(part.number))


async def add_partition_access_path(host: Host, call: Call) -> Sequence[object] | None:
    """Add-PartitionAccessPath: a drive letter, or a mount point at an existing empty directory."""
    await host.spend("windows.partition.set")
    found = partitions(host, call)
    for record, part in found:
        volume = _volume(host, record, part)
        if call.get("AssignDriveLetter"):
            host.volumes.assign_letter(volume, volume.letter or host.volumes.free_letter())
            continue
        path = str(call.get("AccessPath") or "")
        letter = re.fullmatch(r"([A-Za-z]):\\?", path)
        if letter:
            _check_letter(host, letter[1])
            host.volumes.assign_letter(volume, letter[1].upper())
            continue
        if not re.match(r"[A-Za-z]:\\.", path) or not host.files.is_directory(path):
            raise storage(42007)
        if host.volumes.is_mount_point(path):
            raise storage(42002)
        try:
            if host.files.listdir(path):
                raise storage(42007, detail="The directory is not empty.")
        except FileProblem as error:
            raise storage(42007) from error
        host.volumes.add_path(volume, directory(path))
    return [shape.partition(host, d, p) for d, p in found] if call.get("PassThru") else None


async def remove_partition_access_path(host: Host, call: Call) -> Sequence[object] | None:
    """Remove-PartitionAccessPath."""
    await host.spend("windows.partition.set")
    found = partitions(host, call)
    for record, part in found:
        volume = _volume(host, record, part)
        path = str(call.get("AccessPath") or "")
        letter = re.fullmatch(r"([A-Za-z]):\\?", path)
        if letter:
            if volume.letter != letter[1].upper():
                raise storage(42004)
            if record.kind == "system":
                raise storage(40001)
            host.volumes.assign_letter(volume, "")
            continue
        try:
            host.volumes.remove_path(volume, path)
        except KeyError as error:
            raise storage(42004) from error
    return [shape.partition(host, d, p) for d, p in found] if call.get("PassThru") else None


COMMANDS: Mapping[str, Cmdlet] = {
    "Get-Partition": get_partition,
    "New-Partition": new_partition,
    "Set-Partition": set_partition,
    "Remove-Partition": remove_partition,
    "Add-PartitionAccessPath": add_partition_access_path,
    "Remove-PartitionAccessPath": remove_partition_access_path,
}
"""The cmdlets of this module."""
