"""The headers of a VHDX file: headers with their sequence numbers, region tables, metadata, parent locator."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from uuid import UUID, uuid5

from labenv.devices import BlockDevice
from labenv.windows.disks.errors import NotAVirtualDisk, VirtualDiskError

KIB = 1024
MIB = 1024 * KIB
SIGNATURE = b"vhdxfile"
HEADER_PLACES = (64 * KIB, 128 * KIB)
REGION_PLACES = (192 * KIB, 256 * KIB)
LOG_OFFSET = 1 * MIB
LOG_LENGTH = 1 * MIB
METADATA_OFFSET = 2 * MIB
METADATA_LENGTH = 1 * MIB
TABLE_OFFSET = 3 * MIB

_NONE = UUID(int=0)
_BAT = UUID("2dc27766-f623-4200-9d64-115e9bfd4a08")
_METADATA = UUID("8b7ca206-4790-4b9a-b8fe-575f050f886e")
_FILE_PARAMETERS = UUID("caa16737-fa36-4d43-b3b6-33f0aa44e76b")
_DISK_SIZE = UUID("2fa54224-cd1b-4876-b211-5dbed83bf4b8")
_DISK_ID = UUID("beca12ab-b2e6-4523-93ef-c309e000c746")
_LOGICAL = UUID("8141bf1d-a96f-4709-ba47-f233a8faab5f")
_PHYSICAL = UUID("cda348c7-445d-4471-9cc9-e9885251c556")
_LOCATOR = UUID("a8d35f2d-b30b-454d-abf7-d3d84834ab0c")
_LOCATOR_TYPE = UUID("b04aefb7-d19e-4a81-b789-25b8e9445913")
_KNOWN_ITEMS = {_FILE_PARAMETERS, _DISK_SIZE, _DISK_ID, _LOGICAL, _PHYSICAL, _LOCATOR}

_HEADER = struct.Struct("<4sIQ16s16s16sHHIQ")
_REGIONS = struct.Struct("<4sIII")
_REGION = struct.Struct("<16sQII")
_TABLE = struct.Struct("<8sHH20x")
_ITEM = struct.Struct("<16sIII4x")
_PARENT = struct.Struct("<16sHH")
_PAIR = struct.Struct("<IIHH")
_ITEMS_AT = 64 * KIB
_LEAVE_ALLOCATED = 1
_HAS_PARENT = 2
_VIRTUAL_DISK = 2
_REQUIRED = 4


@dataclass(frozen=True)
class Header:
    """The changing header, of which the file has two; the higher sequence number holds."""

    sequence: int
    file_write: UUID
    data_write: UUID
    log: UUID = _NONE

    def pack(self) -> bytes:
        """4 KiB with the checksum."""
        guids = (self.file_write.bytes_le, self.data_write.bytes_le, self.log.bytes_le)
        raw = _HEADER.pack(b"head", 0, self.sequence, *guids, 0, 1, LOG_LENGTH, LOG_OFFSET).ljust(4096, b"\0")
        return raw[:4] + crc32c(raw).to_bytes(4, "little") + raw[8:]

    def next_write(self) -> Header:
        """The header before the file's first change since it was opened: both write GUIDs are new.

        They are derived from the old ones, so that the same course of events gives the same bytes.
        """
        sequence = self.sequence + 1
        return replace(
            self,
            sequence=sequence,
            file_write=uuid5(self.file_write, f"file {sequence}"),
            data_write=uuid5(self.data_write, f"data {sequence}"),
        )


@dataclass(frozen=True)
class Metadata:
    """What the metadata region says; sizes in bytes."""

    size: int
    block_size: int
    fixed: bool
    identifier: UUID
    logical: int
    physical: int
    parent: Mapping[str, str] | None = None
    """The parent locator's keys and values; None unless the disk is differencing."""

    def pack(self) -> bytes:
        """The metadata region up to its last item."""
        flags = (_LEAVE_ALLOCATED if self.fixed else 0) | (_HAS_PARENT if self.parent is not None else 0)
        items = [
            (_FILE_PARAMETERS, _REQUIRED, struct.pack("<II", self.block_size, flags)),
            (_DISK_SIZE, _REQUIRED | _VIRTUAL_DISK, struct.pack("<Q", self.size)),
            (_DISK_ID, _REQUIRED | _VIRTUAL_DISK, self.identifier.bytes_le),
            (_LOGICAL, _REQUIRED | _VIRTUAL_DISK, struct.pack("<I", self.logical)),
            (_PHYSICAL, _REQUIRED | _VIRTUAL_DISK, struct.pack("<I", self.physical)),
        ]
        if self.parent is not None:
            items.append((_LOCATOR, _REQUIRED, _pack_locator(self.parent)))
        table = _TABLE.pack(b"metadata", 0, len(items))
        body = b""
        for item, kind, data in items:
            table += _ITEM.pack(item.bytes_le, _ITEMS_AT + len(body), len(data), kind)
            body += data
        return table.ljust(_ITEMS_AT, b"\0") + body


@dataclass(frozen=True)
class Regions:
    """Where the block table and the metadata lie in the file."""

    table_offset: int
    table_length: int
    metadata_offset: int = METADATA_OFFSET
    metadata_length: int = METADATA_LENGTH

    def pack(self) -> bytes:
        """The region table, 64 KiB with the checksum."""
        raw = _REGIONS.pack(b"regi", 0, 2, 0)
        raw += _REGION.pack(_BAT.bytes_le, self.table_offset, self.table_length, 1)
        raw += _REGION.pack(_METADATA.bytes_le, self.metadata_offset, self.metadata_length, 1)
        checksum = crc32c(raw, zeros=64 * KIB - len(raw))
        return (raw[:4] + checksum.to_bytes(4, "little") + raw[8:]).ljust(64 * KIB, b"\0")


def read_header(file: BlockDevice) -> tuple[Header, int]:
    """The header that holds, and where it lies; raises ``NotAVirtualDisk``."""
    best: tuple[Header, int] | None = None
    for place in HEADER_PLACES:
        raw = file.read(place, 4096)
        signature, checksum, sequence, written, data, log, _, version, _, _ = _HEADER.unpack_from(raw)
        sound = signature == b"head" and version == 1 and crc32c(raw[:4] + bytes(4) + raw[8:]) == checksum
        if sound and (best is None or sequence > best[0].sequence):
            guids = (UUID(bytes_le=written), UUID(bytes_le=data), UUID(bytes_le=log))
            best = (Header(sequence, *guids), place)
    if best is None:
        raise NotAVirtualDisk("both headers of the VHDX are damaged")
    if best[0].log != _NONE:
        raise VirtualDiskError(
            "the VHDX has a log that was not replayed; open it once where it was written (or: qemu-img check -r all)"
        )
    return best


def read_regions(file: BlockDevice) -> Regions:
    """The region table, or its copy if the first is damaged; raises ``NotAVirtualDisk``."""
    for place in REGION_PLACES:
        raw = file.read(place, 64 * KIB)
        signature, checksum, count, _ = _REGIONS.unpack_from(raw)
        if signature != b"regi" or count > 2047:
            continue
        used = _REGIONS.size + count * _REGION.size
        if raw[used:] != bytes(len(raw) - used):
            used = len(raw)
        if crc32c(raw[:4] + bytes(4) + raw[8:used], zeros=len(raw) - used) != checksum:
            continue
        found = {}
        for index in range(count):
            region, offset, length, required = _REGION.unpack_from(raw, _REGIONS.size + index * _REGION.size)
            found[UUID(bytes_le=region)] = (offset, length)
            if required & 1 and UUID(bytes_le=region) not in (_BAT, _METADATA):
                raise VirtualDiskError(f"the VHDX needs the region {UUID(bytes_le=region)}, which is not known here")
        if _BAT in found and _METADATA in found:
            return Regions(*found[_BAT], *found[_METADATA])
    raise NotAVirtualDisk("both region tables of the VHDX are damaged")


def read_metadata(file: BlockDevice, regions: Regions) -> Metadata:
    """The metadata items; raises ``NotAVirtualDisk``."""
    base = regions.metadata_offset
    table = file.read(base, 64 * KIB)
    signature, _, count = _TABLE.unpack_from(table)
    if signature != b"metadata" or count > 2047:
        raise NotAVirtualDisk("the metadata region of the VHDX is damaged")
    items: dict[UUID, bytes] = {}
    for index in range(count):
        item, offset, length, flags = _ITEM.unpack_from(table, _TABLE.size + index * _ITEM.size)
        key = UUID(bytes_le=item)
        if offset + length > regions.metadata_length:
            raise NotAVirtualDisk("a metadata item of the VHDX lies outside its region")
        items[key] = file.read(base + offset, length)
        if flags & _REQUIRED and key not in _KNOWN_ITEMS:
            raise VirtualDiskError(f"the VHDX needs the metadata item {key}, which is not known here")
    try:
        block_size, flags = struct.unpack_from("<II", items[_FILE_PARAMETERS])
        metadata = Metadata(
            size=int.from_bytes(items[_DISK_SIZE], "little"),
            block_size=block_size,
            fixed=bool(flags & _LEAVE_ALLOCATED),
            identifier=UUID(bytes_le=items[_DISK_ID]),
            logical=int.from_bytes(items[_LOGICAL], "little"),
            physical=int.from_bytes(items[_PHYSICAL], "little"),
            parent=_unpack_locator(items[_LOCATOR]) if flags & _HAS_PARENT else None,
        )
    except (KeyError, ValueError, struct.error) as error:
        raise NotAVirtualDisk(f"the metadata of the VHDX is incomplete: {error}") from error
    if (
        not metadata.size
        or block_size not in {MIB << shift for shift in range(9)}
        or metadata.logical not in (512, 4096)
    ):
        raise NotAVirtualDisk("the metadata of the VHDX holds sizes that cannot be")
    return metadata


def crc32c(data: bytes, *, zeros: int = 0) -> int:
    """The Castagnoli checksum of the data followed by that many zero bytes."""
    trimmed = data.rstrip(b"\0")
    return _checksum(trimmed, zeros + len(data) - len(trimmed))


@lru_cache(256)
def _checksum(data: bytes, zeros: int) -> int:
    """Kept for some headers: the same few disks are looked at again and again."""
    table = _crc_table()
    value = 0xFFFFFFFF
    for byte in data:
        value = value >> 8 ^ table[(value ^ byte) & 0xFF]
    # Zeros only shift the register: that is linear, and 2^n of them at once are one precomputed step.
    step = 0
    while zeros:
        if zeros & 1:
            value = _apply(_zeros(step), value)
        zeros >>= 1
        step += 1
    return value ^ 0xFFFFFFFF


@cache
def _crc_table() -> tuple[int, ...]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return tuple(table)


@cache
def _zeros(step: int) -> tuple[int, ...]:
    """What 2^step zero bytes make of each single bit of the register."""
    if not step:
        table = _crc_table()
        return tuple((1 << bit) >> 8 ^ table[(1 << bit) & 0xFF] for bit in range(32))
    half = _zeros(step - 1)
    return tuple(_apply(half, image) for image in half)


def _apply(matrix: tuple[int, ...], value: int) -> int:
    result = 0
    for image in matrix:
        if value & 1:
            result ^= image
        value >>= 1
    return result


def _pack_locator(pairs: Mapping[str, str]) -> bytes:
    head = _PARENT.pack(_LOCATOR_TYPE.bytes_le, 0, len(pairs))
    at = len(head) + len(pairs) * _PAIR.size
    table = body = b""
    for key, value in pairs.items():
        raw_key, raw_value = key.encode("utf-16-le"), value.encode("utf-16-le")
        table += _PAIR.pack(at + len(body), at + len(body) + len(raw_key), len(raw_key), len(raw_value))
        body += raw_key + raw_value
    return head + table + body


def _unpack_locator(data: bytes) -> dict[str, str]:
    kind, _, count = _PARENT.unpack_from(data)
    if UUID(bytes_le=kind) != _LOCATOR_TYPE:
        raise VirtualDiskError("the parent locator of the VHDX is of a kind that is not known here")
    pairs = {}
    for index in range(count):
        key, value, key_length, value_length = _PAIR.unpack_from(data, _PARENT.size + index * _PAIR.size)
        name = data[key : key + key_length].decode("utf-16-le", "replace")
        pairs[name] = data[value : value + value_length].decode("utf-16-le", "replace")
    return pairs
