"""The older partition table: a master boot record with a disk signature and up to four primary partitions."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from uuid import UUID

from labenv.devices import BlockDevice, DeviceError
from labenv.windows.disks.gpt import MIB, SECTOR, UNUSED, PartitionStyle, largest

PRIMARY = 4
"""How many partitions fit the table; logical drives inside an extended one are not read."""
MOST_SECTORS = 1 << 32
"""Sectors that the table can name: 2 TiB; what a disk has behind them is lost to it."""

FAT12, FAT16, EXTENDED, HUGE, IFS, FAT32 = 0x01, 0x04, 0x05, 0x06, 0x07, 0x0C
"""Partition types as ``MbrType`` has them; IFS is what NTFS (and exFAT) has."""
KINDS = {"FAT12": FAT12, "FAT16": FAT16, "Extended": EXTENDED, "Huge": HUGE, "IFS": IFS, "FAT32": FAT32}
_VOLUMES = (FAT12, FAT16, HUGE, IFS, 0x0B, FAT32, 0x0E)
_PROTECTIVE = 0xEE

_ENTRY = struct.Struct("<B3sB3sII")
_TABLE, _SIGNATURE = 446, 440
_JUMPS = (0xEB, 0xE9)  # a file system's boot sector begins so, a boot record's code does not
_HEADS, _TRACK, _CYLINDERS = 255, 63, 1024
_MARKS = struct.Struct("<8sQI")
_MARKS_MAGIC = b"VOLATTRS"
_MARKS_SECTOR = 1


@dataclass(frozen=True)
class MbrPartition:
    """One primary partition; ``number`` is its place in the table from 1, offset and length are bytes.

    Attributes:
        kind: its type byte.
        active: whether a BIOS would start from it.
        attributes: those of the disk (READ_ONLY, HIDDEN, ... of a GPT): an MBR has them for all partitions together.
        guid: GUID of its volume, which is not on the disk: each host has its own for a signature and an offset.
    """

    number: int
    kind: int
    offset: int
    length: int
    active: bool = False
    attributes: int = 0
    guid: UUID = UNUSED

    @property
    def holds_volume(self) -> bool:
        """Whether a file system may be in it."""
        return self.kind in _VOLUMES


@dataclass(frozen=True)
class Mbr:
    """A whole partition table."""

    signature: int
    partitions: tuple[MbrPartition, ...] = ()
    attributes: int = 0

    @property
    def style(self) -> PartitionStyle:
        """MBR."""
        return PartitionStyle.MBR

    @property
    def identity(self) -> int:
        """What hosts and clusters know the disk by."""
        return self.signature

    def with_attributes(self, _number: int, attributes: int) -> Mbr:
        """The same table with other attributes, which hold for every partition of the disk."""
        parts = tuple(replace(p, attributes=attributes) for p in self.partitions)
        return replace(self, partitions=parts, attributes=attributes)

    def with_signature(self, signature: int) -> Mbr:
        """The same table with another disk signature."""
        return replace(self, signature=signature)

    def with_kind(self, number: int, kind: int) -> Mbr:
        """The same table with another type of one partition."""
        self.partition(number)
        return self._each(lambda p: replace(p, kind=kind) if p.number == number else p)

    def with_active(self, number: int, *, active: bool) -> Mbr:
        """The same table with one partition active or not; only one can be."""
        self.partition(number)
        return self._each(lambda p: replace(p, active=active if p.number == number else p.active and not active))

    def with_volumes(self, guid: Callable[[int, int], UUID]) -> Mbr:
        """The same table with the GUIDs that a host has for its volumes, by signature and offset."""
        return self._each(lambda p: replace(p, guid=guid(self.signature, p.offset)))

    def adding(self, partition: MbrPartition) -> Mbr:
        """The same table with one partition more."""
        parts = (*self.partitions, replace(partition, attributes=self.attributes))
        return replace(self, partitions=tuple(sorted(parts, key=lambda p: p.number)))

    def removing(self, number: int) -> Mbr:
        """The same table without one partition; KeyError if there is none of that number."""
        self.partition(number)
        return replace(self, partitions=tuple(p for p in self.partitions if p.number != number))

    def partition(self, number: int) -> MbrPartition:
        """The partition of a number; KeyError if none."""
        for partition in self.partitions:
            if partition.number == number:
                return partition
        raise KeyError(number)

    def _each(self, change: Callable[[MbrPartition], MbrPartition]) -> Mbr:
        return replace(self, partitions=tuple(change(p) for p in self.partitions))


def next_number(mbr: Mbr) -> int | None:
    """The lowest partition number that is not taken; None if the table is full."""
    taken = {p.number for p in mbr.partitions}
    return next((number for number in range(1, PRIMARY + 1) if number not in taken), None)


def free_range(device: BlockDevice, mbr: Mbr, *, align: int = MIB) -> tuple[int, int]:
    """The largest unused range as (offset, length) in bytes below 2 TiB, multiples of ``align``; length 0 if none."""
    start, last = usable(device)
    return largest(mbr.partitions, start=start, last=last, align=align)


def usable(device: BlockDevice) -> tuple[int, int]:
    """Where partitions may begin (behind the first track) and have to end, in bytes."""
    return _TRACK * SECTOR, min(device.size // SECTOR, MOST_SECTORS) * SECTOR


def read_mbr(device: BlockDevice) -> Mbr | None:
    """The disk's table; None if the first sector holds none, a protective one or a file system's boot code.

    The volumes have no GUIDs yet (``with_volumes``).
    """
    if device.size < 2 * SECTOR:
        return None
    sector = device.read(0, SECTOR)
    if sector[510:512] != b"\x55\xaa":
        return None
    entries = [_ENTRY.unpack_from(sector, _TABLE + _ENTRY.size * index) for index in range(PRIMARY)]
    if any(flag not in (0, 0x80) for flag, *_ in entries):
        return None
    signature = int.from_bytes(sector[_SIGNATURE : _SIGNATURE + 4], "little")
    used = [(n, flag, kind, first, count) for n, (flag, _, kind, _, first, count) in enumerate(entries, 1)]
    used = [entry for entry in used if entry[2] and entry[4]]
    if any(kind == _PROTECTIVE for _, _, kind, _, _ in used):
        return None
    # One that was only initialised has a signature and no partition yet.
    if not used and (sector[0] in _JUMPS or not signature):
        return None
    marks = _read_marks(device)
    parts = (
        MbrPartition(number, kind, first * SECTOR, count * SECTOR, flag == 0x80, marks)
        for number, flag, kind, first, count in used
    )
    return Mbr(signature, tuple(parts), marks)


def write_mbr(device: BlockDevice, mbr: Mbr) -> None:
    """Write the table; boot code that is there stays. Raises ``DeviceError`` if partitions overlap or do not fit."""
    _validate(mbr, device.size // SECTOR)
    sector = bytearray(device.read(0, SECTOR))
    if sector[510:512] != b"\x55\xaa":
        sector[:] = bytes(SECTOR)
    sector[_SIGNATURE : _SIGNATURE + 6] = mbr.signature.to_bytes(4, "little") + bytes(2)
    sector[_TABLE:510] = bytes(510 - _TABLE)
    for partition in mbr.partitions:
        first, count = partition.offset // SECTOR, partition.length // SECTOR
        ends = _chs(first), _chs(first + count - 1)
        entry = _ENTRY.pack(0x80 if partition.active else 0, ends[0], partition.kind, ends[1], first, count)
        start = _TABLE + _ENTRY.size * (partition.number - 1)
        sector[start : start + _ENTRY.size] = entry
    sector[510:512] = b"\x55\xaa"
    if mbr.attributes != _read_marks(device):
        device.write(_MARKS_SECTOR * SECTOR, _marks(mbr.attributes))
    device.write(0, bytes(sector))


def _chs(sector: int) -> bytes:
    """Cylinder, head and sector of a sector, in the geometry that Windows assumes; its end where that ends."""
    cylinder, rest = divmod(sector, _HEADS * _TRACK)
    if cylinder >= _CYLINDERS:
        return b"\xfe\xff\xff"
    head, within = divmod(rest, _TRACK)
    return bytes((head, within + 1 | cylinder >> 2 & 0xC0, cylinder & 0xFF))


def _marks(attributes: int) -> bytes:
    """The sector in which a disk without room for attributes in its table keeps them."""
    if not attributes:
        return bytes(SECTOR)
    plain = attributes.to_bytes(8, "little")
    return _MARKS.pack(_MARKS_MAGIC, attributes, zlib.crc32(plain)).ljust(SECTOR, b"\0")


def _read_marks(device: BlockDevice) -> int:
    magic, attributes, crc = _MARKS.unpack_from(device.read(_MARKS_SECTOR * SECTOR, SECTOR))
    return attributes if magic == _MARKS_MAGIC and zlib.crc32(attributes.to_bytes(8, "little")) == crc else 0


def _validate(mbr: Mbr, sectors: int) -> None:
    if not 0 < mbr.signature < 1 << 32:
        raise DeviceError(f"{mbr.signature} is no disk signature: that is a number of 32 bits other than 0")
    last, previous = min(sectors, MOST_SECTORS) * SECTOR, SECTOR
    if len({p.number for p in mbr.partitions}) != len(mbr.partitions):
        raise DeviceError("two partitions have the same number; give each its own")
    for partition in sorted(mbr.partitions, key=lambda p: p.offset):
        end = partition.offset + partition.length
        if partition.offset % SECTOR or partition.length % SECTOR or partition.length <= 0:
            raise DeviceError(f"partition {partition.number} does not begin and end on a sector")
        if partition.offset < previous or end > last or not 1 <= partition.number <= PRIMARY:
            raise DeviceError(
                f"partition {partition.number} ({partition.length} bytes at {partition.offset}) overlaps another one "
                f"or leaves what an MBR can name of the disk, which ends at {last}"
            )
        previous = end
