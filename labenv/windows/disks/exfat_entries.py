"""Directory entries of exFAT: a file's entry set as bytes and back."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from labenv.windows.disks.errors import Corrupt

ENTRY = 32
END = 0x00
BITMAP = 0x81
UPCASE = 0x82
LABEL = 0x83
FILE = 0x85
STREAM = 0xC0
NAME = 0xC1
IN_USE = 0x80

READ_ONLY = 0x01
HIDDEN = 0x02
SYSTEM = 0x04
DIRECTORY = 0x10
ARCHIVE = 0x20

_FILE = struct.Struct("<BBHHHIIIBBBBB7x")
_STREAM = struct.Struct("<BBBBHHQIIQ")
_ALLOCATION_POSSIBLE = 0x01
_NO_FAT_CHAIN = 0x02
_UTC = 0x80


@dataclass(frozen=True)
class Record:
    """What one entry set says; sizes in bytes, ``first`` is 0 when nothing is allocated."""

    name: str
    attributes: int
    created: datetime
    modified: datetime
    accessed: datetime
    first: int
    size: int
    valid: int
    chained: bool


def name_entries(name: str) -> bytes:
    """The entries that carry the name."""
    raw = name.encode("utf-16-le", "surrogatepass")
    return b"".join(bytes((NAME, 0)) + raw[at : at + 30].ljust(30, b"\0") for at in range(0, len(raw), 30))


def pack_set(record: Record, *, hashed: int, names: bytes) -> bytes:
    """The entry set of a record, checksum included; ``names`` comes from ``name_entries``."""
    created, created_10ms = _pack_time(record.created)
    modified, modified_10ms = _pack_time(record.modified)
    accessed, _ = _pack_time(record.accessed)
    flags = _ALLOCATION_POSSIBLE | (_NO_FAT_CHAIN if record.first and not record.chained else 0)
    length = len(record.name.encode("utf-16-le", "surrogatepass")) // 2
    times = (created, modified, accessed, created_10ms, modified_10ms, _UTC, _UTC, _UTC)
    blank = (
        _FILE.pack(FILE, 1 + len(names) // ENTRY, 0, record.attributes, 0, *times)
        + _STREAM.pack(STREAM, flags, 0, length, hashed, 0, record.valid, 0, record.first, record.size)
        + names
    )
    return blank[:2] + set_checksum(blank).to_bytes(2, "little") + blank[4:]


def unpack_set(data: bytes) -> Record:
    """The record in an entry set; raises ``Corrupt`` on a wrong checksum or form."""
    _, _, checksum, attributes, _, created, modified, accessed, c10, m10, c_zone, m_zone, a_zone = _FILE.unpack_from(
        data
    )
    kind, flags, _, length, _, _, valid, _, first, size = _STREAM.unpack_from(data, ENTRY)
    raw = b"".join(data[at + 2 : at + ENTRY] for at in range(2 * ENTRY, len(data), ENTRY))
    names_there = all(data[at] == NAME for at in range(2 * ENTRY, len(data), ENTRY))
    if kind != STREAM or not names_there or 2 * length > len(raw) or set_checksum(data) != checksum:
        raise Corrupt("a directory entry set does not match its checksum; the volume needs a check (chkdsk)")
    return Record(
        name=raw[: 2 * length].decode("utf-16-le", "surrogatepass"),
        attributes=attributes,
        created=_unpack_time(created, c10, c_zone),
        modified=_unpack_time(modified, m10, m_zone),
        accessed=_unpack_time(accessed, 0, a_zone),
        first=first,
        size=size,
        valid=valid,
        chained=not flags & _NO_FAT_CHAIN,
    )


def set_checksum(data: bytes) -> int:
    """The 16-bit rotating sum over an entry set, its own two bytes left out."""
    value = 0
    for byte in data[:2]:
        value = (value << 15 | value >> 1) + byte & 0xFFFF
    for byte in data[4:]:
        value = (value << 15 | value >> 1) + byte & 0xFFFF
    return value


def _pack_time(moment: datetime) -> tuple[int, int]:
    moment = moment.astimezone(UTC)
    date = (moment.year - 1980) << 25 | moment.month << 21 | moment.day << 16
    clock = moment.hour << 11 | moment.minute << 5 | moment.second // 2
    return date | clock, moment.second % 2 * 100 + moment.microsecond // 10_000


def _unpack_time(stamp: int, hundredths: int, zone: int) -> datetime:
    try:
        moment = datetime(
            1980 + (stamp >> 25),
            stamp >> 21 & 15,
            stamp >> 16 & 31,
            stamp >> 11 & 31,
            stamp >> 5 & 63,
            stamp % 32 * 2,
            tzinfo=UTC,
        )
    except ValueError:
        return datetime(1980, 1, 1, tzinfo=UTC)
    moment += timedelta(milliseconds=10 * hundredths)
    if zone & _UTC:  # quarters of an hour east of UTC, signed in seven bits
        moment -= timedelta(minutes=15 * ((zone & 0x7F) - (128 if zone & 0x40 else 0)))
    return moment
