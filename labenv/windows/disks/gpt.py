"""The newer partition table, GPT: both copies, with their checksums."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from enum import Enum
from typing import Protocol
from uuid import UUID

from labenv.devices import BlockDevice, DeviceError, data_ranges

SECTOR = 512
MIB = 1024 * 1024
ENTRY_COUNT = 128
ENTRY_SIZE = 128
ENTRY_SECTORS = ENTRY_COUNT * ENTRY_SIZE // SECTOR
FIRST_USABLE = 2 + ENTRY_SECTORS
"""First sector that a partition may use: protective MBR, header and entries come before."""

MSR = UUID("e3c9e316-0b5c-4db8-817d-f92df00215ae")
"""Type of the Microsoft reserved partition."""
BASIC_DATA = UUID("ebd0a0a2-b9e5-4433-87c0-68b6b72699c7")
"""Type of a partition that holds a file system."""
UNUSED = UUID(int=0)

READ_ONLY = 1 << 60
SHADOW_COPY = 1 << 61
HIDDEN = 1 << 62
NO_DRIVE_LETTER = 1 << 63

_HEADER = struct.Struct("<8sIIIIQQQQ16sQIII")
_ENTRY = struct.Struct("<16s16sQQQ72s")
_MBR_ENTRY = struct.Struct("<B3sB3sII")
_SIGNATURE = b"EFI PART"
_REVISION = 0x00010000


class PartitionStyle(Enum):
    """What PowerShell's ``Get-Disk`` calls PartitionStyle."""

    RAW = "RAW"
    MBR = "MBR"
    GPT = "GPT"


@dataclass(frozen=True)
class Partition:
    """One partition; ``number`` is its place in the table from 1, offset and length are bytes."""

    number: int
    type_guid: UUID
    guid: UUID
    offset: int
    length: int
    name: str
    attributes: int = 0

    @property
    def holds_volume(self) -> bool:
        """Whether a file system may be in it."""
        return self.type_guid == BASIC_DATA


@dataclass(frozen=True)
class Gpt:
    """A whole partition table."""

    disk_guid: UUID
    partitions: tuple[Partition, ...] = ()

    @property
    def style(self) -> PartitionStyle:
        """GPT."""
        return PartitionStyle.GPT

    @property
    def identity(self) -> UUID:
        """What hosts and clusters know the disk by."""
        return self.disk_guid

    def with_attributes(self, number: int, attributes: int) -> Gpt:
        """The same table with other attribute bits (READ_ONLY, HIDDEN, ...) on one partition."""
        return self._with(number, attributes=attributes)

    def with_partition_guid(self, number: int, guid: UUID) -> Gpt:
        """The same table with another unique GUID on one partition."""
        return self._with(number, guid=guid)

    def with_disk_guid(self, guid: UUID) -> Gpt:
        """The same table with another disk GUID (what a host does to a disk it knows already)."""
        return replace(self, disk_guid=guid)

    def adding(self, partition: Partition) -> Gpt:
        """The same table with one partition more."""
        return replace(self, partitions=(*self.partitions, partition))

    def removing(self, number: int) -> Gpt:
        """The same table without one partition; KeyError if there is none of that number."""
        self.partition(number)
        return replace(self, partitions=tuple(p for p in self.partitions if p.number != number))

    def partition(self, number: int) -> Partition:
        """The partition of a number; KeyError if none."""
        for partition in self.partitions:
            if partition.number == number:
                return partition
        raise KeyError(number)

    def _with(self, number: int, **changes: object) -> Gpt:
        changed = replace(self.partition(number), **changes)  # type: ignore[arg-type]  # names come from this class
        return replace(self, partitions=tuple(changed if p.number == number else p for p in self.partitions))


class PartitionDevice:
    """The bytes of one partition as a device of its own."""

    def __init__(self, device: BlockDevice, offset: int, length: int) -> None:
        if offset < 0 or length < 0 or offset + length > device.size:
            raise DeviceError(f"a partition of {length} bytes at {offset} does not fit a disk of {device.size} bytes")
        self.device = device
        self.offset = offset
        self._length = length

    @property
    def size(self) -> int:
        """Length of the partition in bytes."""
        return self._length

    def resize(self, length: int) -> None:
        """Follow a change of the partition table; raises ``DeviceError`` if the disk is too short for it."""
        if length < 0 or self.offset + length > self.device.size:
            raise DeviceError(f"a partition cannot have {length} bytes on a disk of {self.device.size} bytes")
        self._length = length

    def read(self, offset: int, length: int) -> bytes:
        """The bytes at an offset inside the partition."""
        if offset < 0 or offset + length > self._length:
            raise DeviceError(f"read of {length} bytes at {offset} leaves a partition of {self._length} bytes")
        return self.device.read(self.offset + offset, length)

    def data_ranges(self, offset: int, length: int) -> Iterator[tuple[int, int]]:
        """The parts of a range that may hold data."""
        for start, size in data_ranges(self.device, self.offset + offset, length):
            yield start - self.offset, size

    def write(self, offset: int, data: bytes) -> None:
        """Store bytes at an offset inside the partition."""
        if offset < 0 or offset + len(data) > self._length:
            raise DeviceError(f"write of {len(data)} bytes at {offset} leaves a partition of {self._length} bytes")
        self.device.write(self.offset + offset, data)

    def unmap(self, offset: int, length: int) -> None:
        """Give the space of a range back."""
        if offset < 0 or offset + length > self._length:
            raise DeviceError(f"unmap of {length} bytes at {offset} leaves a partition of {self._length} bytes")
        self.device.unmap(self.offset + offset, length)

    def flush(self) -> None:
        """Flush the whole disk."""
        self.device.flush()


def initial_gpt(device: BlockDevice, *, disk_guid: UUID, msr_guid: UUID) -> Gpt:
    """The table that Initialize-Disk leaves: nothing but a Microsoft reserved partition (Windows Server 2012 sizes)."""
    wanted = 128 * MIB if device.size >= 16 * 1024 * MIB else 32 * MIB
    end = MIB + wanted
    if end + MIB >= device.size:
        return Gpt(disk_guid)
    offset = FIRST_USABLE * SECTOR
    name = "Microsoft reserved partition"
    # The reserved partition starts at once but ends on a MiB, so that whatever follows is aligned.
    return Gpt(disk_guid, (Partition(1, MSR, msr_guid, offset, end - MIB - offset, name),))


def free_range(device: BlockDevice, gpt: Gpt, *, align: int = MIB) -> tuple[int, int]:
    """The largest unused range as (offset, length) in bytes, both multiples of ``align``; length 0 if none is left."""
    start, last = usable(device)
    return largest(gpt.partitions, start=start, last=last, align=align)


def usable(device: BlockDevice) -> tuple[int, int]:
    """Where partitions may begin and have to end, in bytes."""
    return FIRST_USABLE * SECTOR, (device.size // SECTOR - 1 - ENTRY_SECTORS) * SECTOR


class _Extent(Protocol):
    @property
    def offset(self) -> int: ...

    @property
    def length(self) -> int: ...


def largest(partitions: Iterable[_Extent], *, start: int, last: int, align: int) -> tuple[int, int]:
    """The largest gap between partitions from ``start`` to ``last`` as (offset, length), multiples of ``align``."""
    edges = sorted((p.offset, p.offset + p.length) for p in partitions)
    best = (0, 0)
    for begin, end in [*edges, (last, last)]:
        aligned = -(-start // align) * align
        length = max(0, min(begin, last) - aligned) // align * align
        if length > best[1]:
            best = (aligned, length)
        start = max(start, end)
    return best


def next_number(gpt: Gpt) -> int:
    """The lowest partition number that is not taken."""
    taken = {p.number for p in gpt.partitions}
    return next(number for number in range(1, ENTRY_COUNT + 1) if number not in taken)


def read_gpt(device: BlockDevice) -> Gpt | None:
    """The disk's table, from the copy at the end if the one at the start is damaged; None if neither is sound."""
    if device.size < 2 * FIRST_USABLE * SECTOR:
        return None
    if (gpt := _read_copy(device, 1)) is not None:
        return gpt
    return _read_copy(device, device.size // SECTOR - 1)


def write_gpt(device: BlockDevice, gpt: Gpt) -> None:
    """Write the protective MBR and both copies, the one at the end first, so that one of them is sound at any moment.

    Raises ``DeviceError`` if a partition overlaps another or leaves the disk.
    """
    sectors = device.size // SECTOR
    _validate(gpt, sectors)
    entries = bytearray(ENTRY_COUNT * ENTRY_SIZE)
    for partition in gpt.partitions:
        first = partition.offset // SECTOR
        last = first + partition.length // SECTOR - 1
        name = partition.name.encode("utf-16-le")[:72]
        _ENTRY.pack_into(
            entries,
            (partition.number - 1) * ENTRY_SIZE,
            partition.type_guid.bytes_le,
            partition.guid.bytes_le,
            first,
            last,
            partition.attributes,
            name,
        )
    table = bytes(entries)
    end = sectors - 1
    device.write((end - ENTRY_SECTORS) * SECTOR, table)
    device.write(end * SECTOR, _header(gpt.disk_guid, table, own=end, other=1, start=end - ENTRY_SECTORS))
    device.write(2 * SECTOR, table)
    device.write(0, _protective_mbr(sectors) + _header(gpt.disk_guid, table, own=1, other=end, start=2))


def clear_table(device: BlockDevice) -> None:
    """Wipe every trace of a partition table, as Clear-Disk does."""
    span = FIRST_USABLE * SECTOR
    device.write(0, bytes(span))
    device.write(device.size - span, bytes(span))


def _read_copy(device: BlockDevice, lba: int) -> Gpt | None:
    raw = device.read(lba * SECTOR, SECTOR)
    signature, _, length, crc, _, own, _, _, _, guid, start, count, size, table_crc = _HEADER.unpack_from(raw)
    if signature != _SIGNATURE or own != lba or not _HEADER.size <= length <= SECTOR or size < ENTRY_SIZE:
        return None
    if zlib.crc32(raw[:16] + bytes(4) + raw[20:length]) != crc:
        return None
    if count > 4096 or start * SECTOR + count * size > device.size:
        return None
    table = device.read(start * SECTOR, count * size)
    if zlib.crc32(table) != table_crc:
        return None
    return Gpt(UUID(bytes_le=guid), tuple(_partitions(table, size)))


def _partitions(table: bytes, size: int) -> Iterable[Partition]:
    for index in range(len(table) // size):
        kind, guid, first, last, attributes, name = _ENTRY.unpack_from(table, index * size)
        if kind != UNUSED.bytes:
            text = name.decode("utf-16-le", "replace").split("\0")[0]
            offset, length = first * SECTOR, (last - first + 1) * SECTOR
            yield Partition(index + 1, UUID(bytes_le=kind), UUID(bytes_le=guid), offset, length, text, attributes)


def _header(disk_guid: UUID, table: bytes, *, own: int, other: int, start: int) -> bytes:
    last_usable = max(own, other) - ENTRY_SECTORS - 1
    fields = (own, other, FIRST_USABLE, last_usable, disk_guid.bytes_le, start, ENTRY_COUNT, ENTRY_SIZE)
    blank = _HEADER.pack(_SIGNATURE, _REVISION, _HEADER.size, 0, 0, *fields, zlib.crc32(table))
    return (blank[:16] + zlib.crc32(blank).to_bytes(4, "little") + blank[20:]).ljust(SECTOR, b"\0")


def _protective_mbr(sectors: int) -> bytes:
    entry = _MBR_ENTRY.pack(0, b"\x00\x02\x00", 0xEE, b"\xff\xff\xff", 1, min(sectors - 1, 0xFFFFFFFF))
    return bytes(446) + entry + bytes(48) + b"\x55\xaa"


def _validate(gpt: Gpt, sectors: int) -> None:
    last_usable = (sectors - 1 - ENTRY_SECTORS) * SECTOR
    previous_end = FIRST_USABLE * SECTOR
    if len({p.number for p in gpt.partitions}) != len(gpt.partitions):
        raise DeviceError("two partitions have the same number; give each its own")
    for partition in sorted(gpt.partitions, key=lambda p: p.offset):
        end = partition.offset + partition.length
        if partition.offset % SECTOR or partition.length % SECTOR or partition.length <= 0:
            raise DeviceError(f"partition {partition.number} does not begin and end on a sector")
        if partition.offset < previous_end or end > last_usable or not 1 <= partition.number <= ENTRY_COUNT:
            raise DeviceError(
                f"partition {partition.number} ({partition.length} bytes at {partition.offset}) overlaps another one "
                f"or leaves the usable part of the disk, which ends at {last_usable}"
            )
        previous_end = end
