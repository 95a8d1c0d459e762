"""The VHD format: fixed, dynamic and differencing (.vhd, .avhd).

Dynamic disks keep their blocks behind a 512-byte sector bitmap, so what the guest aligned to 4 KiB is not aligned in
the file; that is the format, and why fixed disks are recommended.
"""

from __future__ import annotations

import struct
from array import array
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from uuid import UUID

from labenv.windows.disks.errors import NotAVirtualDisk, VirtualDiskError
from labenv.windows.disks.vhd_mapped import FlatDisk, MappedDisk, fill_bits
from labenv.windows.disks.vhd_types import (
    MIB,
    SECTOR,
    GrowingDevice,
    VhdFormat,
    VhdInfo,
    VhdType,
    VirtualDisk,
)

MAX_SIZE = 2040 * 1024 * MIB
BLOCK_SIZE = 2 * MIB
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_FOOTER = struct.Struct(">8sIIQI4sI4sQQHBBII16sB427x")
_HEADER = struct.Struct(">8sQQIIII16sI4x512s192s256x")
_LOCATOR = struct.Struct(">4sII4xQ")
_ABSENT = 0xFFFFFFFF
_NOWHERE = 0xFFFFFFFFFFFFFFFF
_TYPES = {2: VhdType.FIXED, 3: VhdType.DYNAMIC, 4: VhdType.DIFFERENCING}
_CODES = {kind: code for code, kind in _TYPES.items()}
_TABLE_OFFSET = SECTOR + _HEADER.size
_LOCATOR_SPACE = 1024  # bytes kept for each path of the parent, so that it can be changed in place
_REVERSED = bytes(int(f"{value:08b}"[::-1], 2) for value in range(256))


@dataclass(frozen=True)
class Footer:
    """The 512 bytes at the end of the file, and again at its start unless the disk is fixed."""

    type: VhdType
    size: int
    identifier: UUID
    timestamp: int
    original_size: int

    def pack(self) -> bytes:
        """The footer with its checksum."""
        cylinders, heads, sectors = geometry(self.size)
        header = _NOWHERE if self.type is VhdType.FIXED else SECTOR
        blank = _FOOTER.pack(
            b"conectix", 2, 0x00010000, header, self.timestamp, b"win ", 0x00060002, b"Wi2k", self.original_size,
            self.size, cylinders, heads, sectors, _CODES[self.type], 0, self.identifier.bytes, 0,
        )  # fmt: skip
        return blank[:64] + _checksum(blank).to_bytes(4, "big") + blank[68:]


@dataclass(frozen=True)
class Header:
    """The header of dynamic and differencing disks."""

    table_offset: int
    entries: int
    block_size: int
    parent_identifier: UUID | None = None
    parent_timestamp: int = 0
    parent_name: str = ""
    locators: tuple[tuple[bytes, int, str], ...] = ()
    """(platform code, where in the file, path)."""

    def pack(self) -> bytes:
        """The header with its checksum."""
        locators = b"".join(
            _LOCATOR.pack(code, _LOCATOR_SPACE, len(path.encode("utf-16-le")), offset)
            for code, offset, path in self.locators
        )
        parent = self.parent_identifier.bytes if self.parent_identifier else bytes(16)
        name = self.parent_name.encode("utf-16-be")[:510]
        blank = _HEADER.pack(
            b"cxsparse", _NOWHERE, self.table_offset, 0x00010000, self.entries, self.block_size, 0, parent,
            self.parent_timestamp, name, locators,
        )  # fmt: skip
        return blank[:36] + _checksum(blank).to_bytes(4, "big") + blank[40:]


def geometry(size: int) -> tuple[int, int, int]:
    """Cylinders, heads and sectors per track that the format prescribes for a size in bytes."""
    total = min(size // SECTOR, 65535 * 16 * 255)
    if total >= 65535 * 16 * 63:
        return total // (255 * 16), 16, 255
    tracks = total // 17
    heads = max(4, -(-tracks // 1024))
    if tracks < heads * 1024 and heads <= 16:
        return tracks // heads, heads, 17
    sectors = 31 if total // 31 < 16 * 1024 else 63
    return total // sectors // 16, 16, sectors


def create(
    file: GrowingDevice,
    *,
    kind: VhdType,
    size: int,
    identifier: UUID,
    now: datetime,
    parent: VhdInfo | None,
    parent_path: str | None,
    relative_path: str | None,
    block_size: int | None,
) -> None:
    """Write an empty VHD into an empty file."""
    if size <= 0 or size % SECTOR or size > MAX_SIZE:
        raise VirtualDiskError(f"a VHD cannot have {size} bytes: a multiple of 512 up to 2040 GiB, or use VHDX")
    timestamp = int((now - _EPOCH).total_seconds())
    footer = Footer(kind, size, identifier, timestamp, size).pack()
    if kind is VhdType.FIXED:
        if file.size > size + SECTOR:
            file.truncate(size + SECTOR)
        file.preallocate(size + SECTOR)
        file.write(size, footer)
        return
    block = block_size or BLOCK_SIZE
    if block not in (512 * 1024, 2 * MIB):
        raise VirtualDiskError(f"a VHD cannot have blocks of {block} bytes: 512 KiB or 2 MiB")
    entries = -(-size // block)
    table_length = -(-4 * entries // SECTOR) * SECTOR
    header = Header(_TABLE_OFFSET, entries, block)
    paths = b""
    if parent is not None:
        header, paths = _with_parent(
            header, _TABLE_OFFSET + table_length, parent, parent_path, relative_path, timestamp
        )
    body = footer + header.pack() + b"\xff" * table_length + paths
    file.truncate(0)
    file.write(0, body + footer)


def open_disk(file: GrowingDevice, *, parent: VirtualDisk | None, read_only: bool) -> VirtualDisk:
    """A VHD as a device; the caller has checked that the parent is the right one."""
    footer = read_footer(file)
    if footer.type is VhdType.FIXED:
        return FixedVhd(file, footer, read_only=read_only)
    return SparseVhd(file, footer, read_header(file), parent=parent, read_only=read_only)


def is_vhd(file: GrowingDevice) -> bool:
    """Whether the file ends (or begins) with a VHD footer."""
    return any(file.read(at, 8) == b"conectix" for at in _footer_places(file))


def read_footer(file: GrowingDevice) -> Footer:
    """The footer from the end of the file, else its copy at the start; raises ``NotAVirtualDisk``."""
    for at in _footer_places(file):
        raw = file.read(at, SECTOR)
        fields = _FOOTER.unpack(raw)
        cookie, timestamp, original, size, code, checksum, identifier = (fields[i] for i in (0, 4, 8, 9, 13, 14, 15))
        if cookie == b"conectix" and checksum == _checksum(raw[:64] + bytes(4) + raw[68:]) and code in _TYPES:
            return Footer(_TYPES[code], size, UUID(bytes=identifier), timestamp, original)
    raise NotAVirtualDisk("the file has no sound VHD footer; it is no VHD, or it was cut short")


def read_header(file: GrowingDevice) -> Header:
    """The dynamic header; raises ``NotAVirtualDisk``."""
    start = int.from_bytes(file.read(16, 8), "big")
    if start + _HEADER.size > file.size:
        raise NotAVirtualDisk("the dynamic header of the VHD lies outside the file")
    raw = file.read(start, _HEADER.size)
    cookie, _, table, _, entries, block, checksum, parent, stamp, name, locators = _HEADER.unpack(raw)
    if cookie != b"cxsparse" or checksum != _checksum(raw[:36] + bytes(4) + raw[40:]):
        raise NotAVirtualDisk("the dynamic header of the VHD is damaged")
    found = []
    for at in range(0, len(locators), _LOCATOR.size):
        code, _, length, offset = _LOCATOR.unpack_from(locators, at)
        if code in (b"W2ku", b"W2ru") and length <= 4096 and offset + length <= file.size:
            found.append((code, offset, file.read(offset, length).decode("utf-16-le", "replace")))
    text = name.decode("utf-16-be", "replace").split("\0")[0]
    identifier = UUID(bytes=parent) if any(parent) else None
    return Header(table, entries, block, identifier, stamp, text, tuple(found))


def read_info(file: GrowingDevice) -> VhdInfo:
    """The headers' contents; raises ``NotAVirtualDisk``."""
    footer = read_footer(file)
    header = None if footer.type is VhdType.FIXED else read_header(file)
    paths = {code: path for code, _, path in header.locators} if header else {}
    relative = paths.get(b"W2ru")
    differencing = footer.type is VhdType.DIFFERENCING
    return VhdInfo(
        format=VhdFormat.VHD,
        type=footer.type,
        size=footer.size,
        file_size=file.size,
        identifier=footer.identifier,
        parent_path=(paths.get(b"W2ku") or relative) if differencing else None,
        block_size=header.block_size if header else 0,
        logical_sector_size=SECTOR,
        physical_sector_size=SECTOR,
        linkage=footer.identifier,
        parent_linkage=header.parent_identifier if header and differencing else None,
        parent_relative_path=relative,
    )


def set_parent(file: GrowingDevice, *, parent: VhdInfo, parent_path: str, relative_path: str | None) -> None:
    """Point a differencing disk to its parent's new place (or to another parent)."""
    header = read_header(file)
    if not header.locators:
        raise VirtualDiskError("the differencing VHD keeps no path of its parent; merge it or make a new one")
    changed, _ = _with_parent(header, 0, parent, parent_path, relative_path, header.parent_timestamp)
    places = {code: offset for code, offset, _ in header.locators}
    locators = tuple((code, places[code], path) for code, _, path in changed.locators if code in places)
    for code, offset, path in locators:
        if code in places:
            file.write(offset, path.encode("utf-16-le").ljust(_LOCATOR_SPACE, b"\0"))
    file.write(int.from_bytes(file.read(16, 8), "big"), replace(changed, locators=locators).pack())


class FixedVhd(FlatDisk):
    """A fixed VHD: the disk's bytes from the start of the file, then the footer."""

    def __init__(self, file: GrowingDevice, footer: Footer, *, read_only: bool) -> None:
        super().__init__(file, size=footer.size, base=0, read_only=read_only)
        if footer.size + SECTOR > file.size:
            raise NotAVirtualDisk(f"the VHD says {footer.size} bytes, the file has {file.size}: it was cut short")
        self._footer = footer

    @property
    def info(self) -> VhdInfo:
        """The headers' contents as they are now."""
        return read_info(self.file)

    def resize(self, size: int) -> None:
        """Grow, or cut what lies behind the new end."""
        self._check_write(0, 0)
        _check_size(size)
        footer = replace(self._footer, size=size)
        # The file ends with a footer after every step.
        self.file.write(size, footer.pack())
        if size > self._size:
            self.file.write(self._size, bytes(min(SECTOR, size - self._size)))
        else:
            self.file.truncate(size + SECTOR)
        self._footer, self._size, self._limit = footer, size, size


class SparseVhd(MappedDisk):
    """A dynamic or differencing VHD."""

    def __init__(
        self, file: GrowingDevice, footer: Footer, header: Header, *, parent: VirtualDisk | None, read_only: bool
    ) -> None:
        if header.block_size < SECTOR or header.block_size % SECTOR or header.entries * header.block_size < footer.size:
            raise NotAVirtualDisk("the block table of the VHD is shorter than the disk")
        super().__init__(
            file,
            size=footer.size,
            block_size=header.block_size,
            differencing=footer.type is VhdType.DIFFERENCING,
            sector=SECTOR,
            parent=parent,
            read_only=read_only,
        )
        self._footer = footer
        self._header = header
        self._bitmap_length = -(-header.block_size // SECTOR // 8 // SECTOR) * SECTOR
        self._table = array("I", file.read(header.table_offset, 4 * header.entries))
        self._table.byteswap()
        self._bitmaps: dict[int, bytearray] = {}

    @property
    def info(self) -> VhdInfo:
        """The headers' contents as they are now."""
        return read_info(self.file)

    def resize(self, size: int) -> None:
        """Grow within what the block table holds, or up to it; shrinking is for VHDX and fixed disks."""
        self._check_write(0, 0)
        _check_size(size)
        room = min(self._header.entries * self.block_size, MAX_SIZE)
        if size < self._size or size > room or self.differencing:
            raise VirtualDiskError(
                f"this VHD can be set to between {self._size} and {room} bytes; copy it to a VHDX instead"
            )
        self._footer = replace(self._footer, size=size)
        packed = self._footer.pack()
        self.file.write(0, packed)
        self.file.write(self._end(), packed)
        self._size = size

    def _locate(self, block: int) -> int:
        sector = self._table[block]
        return -1 if sector == _ABSENT else sector * SECTOR + self._bitmap_length

    def _presence(self, block: int) -> bytearray:
        bits = self._bitmaps.get(block)
        if bits is None:
            raw = self.file.read(self._table[block] * SECTOR, self._bitmap_length)
            # The format counts sectors from the highest bit.
            bits = self._bitmaps[block] = bytearray(raw.translate(_REVERSED))
        return bits

    def _set_present(self, block: int, within: int, length: int) -> None:
        bits = self._presence(block)
        first, last = within // SECTOR, (within + length) // SECTOR
        changed = bytearray(bits)
        fill_bits(changed, first, last)
        low, high = first // 8 // SECTOR * SECTOR, -(-last // 8 // SECTOR) * SECTOR
        if changed != bits:
            part = bytes(changed[low : max(high, low + SECTOR)]).translate(_REVERSED)
            self.file.write(self._table[block] * SECTOR + low, part)
            self._bitmaps[block] = changed

    def _add_block(self, block: int, within: int, data: bytes) -> None:
        start = self._end()
        # A footer stands at the end at any moment; the table names the block when all of it is there.
        self.file.write(start + self._bitmap_length + self.block_size, self._footer.pack())
        bits = bytearray(self._bitmap_length)
        if self.differencing:
            fill_bits(bits, within // SECTOR, (within + len(data)) // SECTOR)
        else:
            fill_bits(bits, 0, self.block_size // SECTOR)
        self.file.write(start, bytes(bits).translate(_REVERSED))
        self.file.write(start + self._bitmap_length + within, data)
        sector = start // SECTOR
        entry = block * 4
        at = entry // SECTOR * SECTOR
        entries = array("I", self._table[at // 4 : at // 4 + SECTOR // 4])
        entries[block - at // 4] = sector
        entries.byteswap()
        self.file.write(self._header.table_offset + at, entries.tobytes())
        self._table[block] = sector
        if self.differencing:
            self._bitmaps[block] = bits

    def _first_change(self) -> None:
        """VHD keeps no trace of being written to."""

    def _end(self) -> int:
        """Where the last footer stands: behind everything that may be in use."""
        return -(-(self.file.size - SECTOR) // SECTOR) * SECTOR


def _with_parent(
    header: Header, offset: int, parent: VhdInfo, parent_path: str | None, relative_path: str | None, timestamp: int
) -> tuple[Header, bytes]:
    absolute = parent_path or ""
    name = absolute.rsplit("\\", 1)[-1]
    relative = relative_path or f".\\{name}"
    locators = ((b"W2ru", offset, relative), (b"W2ku", offset + _LOCATOR_SPACE, absolute))
    for _, _, path in locators:
        if len(path.encode("utf-16-le")) > _LOCATOR_SPACE:
            raise VirtualDiskError(f"the parent's path {path!r} is longer than 512 characters; move the parent")
    paths = b"".join(path.encode("utf-16-le").ljust(_LOCATOR_SPACE, b"\0") for _, _, path in locators)
    changed = replace(
        header, parent_identifier=parent.identifier, parent_timestamp=timestamp, parent_name=name, locators=locators
    )
    return changed, paths


def _check_size(size: int) -> None:
    if size <= 0 or size % SECTOR or size > MAX_SIZE:
        raise VirtualDiskError(f"a VHD cannot have {size} bytes: a multiple of 512 up to 2040 GiB")


def _footer_places(file: GrowingDevice) -> list[int]:
    if file.size < SECTOR:
        return []
    return [(file.size - SECTOR) // SECTOR * SECTOR, 0]


def _checksum(data: bytes) -> int:
    return ~sum(data) & 0xFFFFFFFF
