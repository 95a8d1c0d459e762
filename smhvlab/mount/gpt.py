"""The partition table of a LUN that no host uses yet: a clone gets an identity of its own before it is mapped.

Windows tells disks apart by their GPT GUIDs. A clone that carries its parent's is rewritten by a stand-alone host when
it comes online, and kept offline by a failover cluster, which takes it for the disk that it has reserved (TR 6.8).
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID, uuid5

from smhvlab.errors import NotAllowed

SECTOR = 512
_HEADER = struct.Struct("<8sIIIIQQQQ16sQIII")
_SIGNATURE = b"EFI PART"
_UNUSED = bytes(16)
_BASIC_DATA = UUID("ebd0a0a2-b9e5-4433-87c0-68b6b72699c7").bytes_le
_SHADOW = 1 << 60 | 1 << 61 | 1 << 62  # read-only, shadow copy, hidden
_MOST_SECTORS = 34  # header, table of 128 entries, and the protective MBR before them


class LunData(Protocol):
    """What reads and writes bytes of a LUN; ``OntapWire`` does."""

    def read_lun(self, uuid: str, *, offset: int, size: int) -> bytes: ...
    def write_lun(self, uuid: str, data: bytes, *, offset: int) -> None: ...


@dataclass(frozen=True)
class _Copy:
    """One of the two copies of the table: its header's fields and the entries."""

    fields: tuple[object, ...]
    entries: bytes

    @property
    def own(self) -> int:
        return _whole(self.fields[5])

    @property
    def other(self) -> int:
        return _whole(self.fields[6])

    @property
    def start(self) -> int:
        return _whole(self.fields[10])

    @property
    def entry_size(self) -> int:
        return _whole(self.fields[12])

    @property
    def disk_guid(self) -> UUID:
        guid = self.fields[9]
        assert isinstance(guid, bytes)
        return UUID(bytes_le=guid)


def renew(wire: LunData, lun_uuid: str, *, guid: UUID) -> None:
    """Give the disk on a LUN this GUID, and its partitions others that follow from it. Nobody may have it mapped.

    What VSS has marked as a shadow copy (read-only, hidden) becomes an ordinary volume: in a cluster a disk is online
    before anybody could clear that.

    The first header is written last: as long as it holds the old GUID, this can be done again.

    Raises:
        NotAllowed: there is no sound GPT on the LUN (an MBR disk, or one that was never initialised).
    """
    raw = wire.read_lun(lun_uuid, offset=0, size=_MOST_SECTORS * SECTOR)
    first = _copy(raw[SECTOR : 2 * SECTOR], raw)
    if first is None:
        raise NotAllowed(
            "The LUN's image has no sound GPT partition table",
            next_action="Choose another backup: this LUN was never initialised, or its disk had an MBR instead.",
            tr="6.8",
        )
    if first.disk_guid == guid:
        return
    entries = _renumbered(first, guid)
    last = first.other
    wire.write_lun(lun_uuid, entries, offset=(last - len(entries) // SECTOR) * SECTOR)
    end = _header(first, guid, entries, own=last, other=1, start=last - len(entries) // SECTOR)
    wire.write_lun(lun_uuid, end, offset=last * SECTOR)
    wire.write_lun(lun_uuid, entries, offset=first.start * SECTOR)
    front = _header(first, guid, entries, own=1, other=last, start=first.start)
    wire.write_lun(lun_uuid, front, offset=SECTOR)


def _copy(sector: bytes, raw: bytes) -> _Copy | None:
    fields = _HEADER.unpack_from(sector)
    length = _whole(fields[2])
    if fields[0] != _SIGNATURE or not _HEADER.size <= length <= SECTOR:
        return None
    if zlib.crc32(sector[:16] + bytes(4) + sector[20:length]) != fields[3]:
        return None
    start, count, size = _whole(fields[10]) * SECTOR, _whole(fields[11]), _whole(fields[12])
    entries = raw[start : start + count * size]
    # The table's own checksum is not asked for: a run that was killed before the header leaves a false one.
    return _Copy(fields, entries) if len(entries) == count * size else None


def _renumbered(copy: _Copy, guid: UUID) -> bytes:
    entries = bytearray(copy.entries)
    for number, at in enumerate(range(0, len(entries), copy.entry_size), 1):
        if entries[at : at + 16] != _UNUSED:
            entries[at + 16 : at + 32] = uuid5(guid, f"partition {number}").bytes_le
        if entries[at : at + 16] == _BASIC_DATA:
            marks = int.from_bytes(entries[at + 48 : at + 56], "little") & ~_SHADOW
            entries[at + 48 : at + 56] = marks.to_bytes(8, "little")
    return bytes(entries)


def _header(copy: _Copy, guid: UUID, entries: bytes, *, own: int, other: int, start: int) -> bytes:
    signature, revision, _, _, _, _, _, usable, last, _, _, count, size, _ = copy.fields
    length = _HEADER.size
    rest = (own, other, usable, last, guid.bytes_le, start, count, size, zlib.crc32(entries))
    blank = _HEADER.pack(signature, revision, length, 0, 0, *rest)
    return (blank[:16] + zlib.crc32(blank).to_bytes(4, "little") + blank[20:]).ljust(SECTOR, b"\0")


def _whole(value: object) -> int:
    assert isinstance(value, int)
    return value
