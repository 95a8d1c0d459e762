"""The VHDX format: fixed, dynamic and differencing (.vhdx, .avhdx).

Blocks begin on whole MiB of the file, so the guest's 4 KiB stay aligned. The format's log is not used: every change
of a table is one write that comes after what it points to, so a loss of power leaves either the old or the new state.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from dataclasses import replace
from uuid import UUID, uuid5

from labenv.windows.disks import vhdx_headers as headers
from labenv.windows.disks.errors import NotAVirtualDisk, VirtualDiskError
from labenv.windows.disks.vhd_mapped import FlatDisk, MappedDisk, fill_bits
from labenv.windows.disks.vhd_types import MIB, SECTOR, GrowingDevice, VhdFormat, VhdInfo, VhdType, VirtualDisk

MAX_SIZE = 64 * 1024 * 1024 * MIB
DYNAMIC_BLOCK = 32 * MIB
CHILD_BLOCK = 2 * MIB
_NOT_PRESENT = 0
_ZERO = 2
_PRESENT = 6
_PARTIAL = 7
_STATE = 7
_WHERE = ~0xFFFFF
_PIECE = 4096
_ENTRIES_PER_PIECE = _PIECE // 8
_LINKAGE = "parent_linkage"


def create(
    file: GrowingDevice,
    *,
    kind: VhdType,
    size: int,
    identifier: UUID,
    parent: VhdInfo | None,
    parent_path: str | None,
    relative_path: str | None,
    block_size: int | None,
    logical: int,
    physical: int,
) -> None:
    """Write an empty VHDX into an empty file."""
    if logical not in (512, 4096) or physical not in (512, 4096):
        raise VirtualDiskError(f"sectors of {logical} and {physical} bytes cannot be: 512 or 4096")
    _check_size(size, logical)
    block = block_size or (CHILD_BLOCK if kind is VhdType.DIFFERENCING else DYNAMIC_BLOCK)
    if block not in {MIB << shift for shift in range(9)}:
        raise VirtualDiskError(f"a VHDX cannot have blocks of {block} bytes: a power of two from 1 to 256 MiB")
    locator = _locator(parent, parent_path, relative_path) if parent is not None else None
    metadata = headers.Metadata(size, block, kind is VhdType.FIXED, identifier, logical, physical, locator)
    entries = table_entries(metadata)
    # Room for the table to grow with the disk costs nothing: it is never written.
    table_length = max(-(-8 * entries // MIB), 1) * MIB
    regions = headers.Regions(headers.TABLE_OFFSET, table_length)
    payload = headers.TABLE_OFFSET + table_length
    file.truncate(0)
    if kind is VhdType.FIXED:
        payload = -(-payload // (2 * MIB)) * 2 * MIB
        file.preallocate(payload + -(-size // block) * block)
        table = array("Q", [0]) * entries
        for number in range(-(-size // block)):
            table[_entry(metadata, number)] = payload + number * block | _PRESENT
        file.write(headers.TABLE_OFFSET, table.tobytes().ljust(-(-8 * entries // _PIECE) * _PIECE, b"\0"))
    else:
        file.truncate(payload)
    file.write(headers.METADATA_OFFSET, metadata.pack())
    for place in headers.REGION_PLACES:
        file.write(place, regions.pack())
    first = headers.Header(1, uuid5(identifier, "file 0"), uuid5(identifier, "data 0"))
    for place in headers.HEADER_PLACES:
        file.write(place, first.pack())
        first = replace(first, sequence=first.sequence + 1)
    # The signature last: until then the file is no VHDX.
    file.write(0, headers.SIGNATURE + "labenv".encode("utf-16-le"))


def open_disk(file: GrowingDevice, *, parent: VirtualDisk | None, read_only: bool) -> VirtualDisk:
    """A VHDX as a device; the caller has checked that the parent is the right one."""
    regions = headers.read_regions(file)
    metadata = headers.read_metadata(file, regions)
    if metadata.fixed and metadata.parent is None:
        base = _contiguous(file, regions, metadata)
        if base is not None:
            return FixedVhdx(file, metadata, base=base, read_only=read_only)
    return SparseVhdx(file, regions, metadata, parent=parent, read_only=read_only)


def is_vhdx(file: GrowingDevice) -> bool:
    """Whether the file begins with the VHDX signature."""
    return file.size >= headers.TABLE_OFFSET and file.read(0, 8) == headers.SIGNATURE


def read_info(file: GrowingDevice) -> VhdInfo:
    """The headers' contents; raises ``NotAVirtualDisk``."""
    header, _ = headers.read_header(file)
    metadata = headers.read_metadata(file, headers.read_regions(file))
    parent = metadata.parent
    fixed = VhdType.FIXED if metadata.fixed else VhdType.DYNAMIC
    return VhdInfo(
        format=VhdFormat.VHDX,
        type=fixed if parent is None else VhdType.DIFFERENCING,
        size=metadata.size,
        file_size=file.size,
        identifier=metadata.identifier,
        parent_path=_parent_path(parent),
        block_size=metadata.block_size,
        logical_sector_size=metadata.logical,
        physical_sector_size=metadata.physical,
        linkage=header.data_write,
        parent_linkage=_guid(parent.get(_LINKAGE, "")) if parent is not None else None,
        parent_relative_path=parent.get("relative_path") if parent is not None else None,
    )


def set_parent(file: GrowingDevice, *, parent: VhdInfo, parent_path: str, relative_path: str | None) -> None:
    """Point a differencing disk to its parent's new place (or to another parent)."""
    regions = headers.read_regions(file)
    metadata = headers.read_metadata(file, regions)
    _advance(file)
    changed = replace(metadata, parent=_locator(parent, parent_path, relative_path))
    file.write(regions.metadata_offset, changed.pack())


def chunk_ratio(metadata: headers.Metadata) -> int:
    """How many blocks share one block of sector bitmap."""
    return (1 << 23) * metadata.logical // metadata.block_size


def table_entries(metadata: headers.Metadata) -> int:
    """How many entries the block table has."""
    blocks = -(-metadata.size // metadata.block_size)
    ratio = chunk_ratio(metadata)
    if metadata.parent is not None:
        return -(-blocks // ratio) * (ratio + 1)
    return blocks + (blocks - 1) // ratio


class FixedVhdx(FlatDisk):
    """A fixed VHDX whose blocks follow each other in the file."""

    def __init__(self, file: GrowingDevice, metadata: headers.Metadata, *, base: int, read_only: bool) -> None:
        super().__init__(file, size=metadata.size, base=base, read_only=read_only)
        # The first write goes the long way, to change the write GUIDs.
        self._ready = False
        self._metadata = metadata

    @property
    def info(self) -> VhdInfo:
        """The headers' contents as they are now."""
        return read_info(self.file)

    def resize(self, size: int) -> None:
        """Grow, or cut what lies behind the new end."""
        self._check_write(0, 0)
        metadata = self._metadata
        _check_size(size, metadata.logical)
        regions = headers.read_regions(self.file)
        changed = replace(metadata, size=size)
        entries = table_entries(changed)
        if 8 * entries > regions.table_length:
            raise VirtualDiskError(f"the block table of this VHDX has no room for {size} bytes; copy it to a new one")
        self._prepare(0, 0)
        block = metadata.block_size
        old, new = (-(-s // block) for s in (metadata.size, size))
        if new > old:
            self.file.preallocate(self._base + new * block)
        table = array("Q", [0]) * max(entries, table_entries(metadata))
        for number in range(new):
            table[_entry(changed, number)] = self._base + number * block | _PRESENT
        tail = -size % block
        if size < metadata.size and tail:
            self.file.unmap(self._base + size, tail)
        _write_table(self.file, regions, table)
        self.file.write(regions.metadata_offset, changed.pack())
        if new < old:
            self.file.truncate(self._base + new * block)
        self._metadata, self._size, self._limit = changed, size, size

    def _prepare(self, offset: int, length: int) -> None:
        self._check_write(offset, length)
        if not self._ready:
            _advance(self.file)
            self._ready = True


class SparseVhdx(MappedDisk):
    """A dynamic or differencing VHDX (or a fixed one in pieces)."""

    def __init__(
        self,
        file: GrowingDevice,
        regions: headers.Regions,
        metadata: headers.Metadata,
        *,
        parent: VirtualDisk | None,
        read_only: bool,
    ) -> None:
        super().__init__(
            file,
            size=metadata.size,
            block_size=metadata.block_size,
            differencing=metadata.parent is not None,
            sector=metadata.logical,
            parent=parent,
            read_only=read_only,
        )
        self._regions = regions
        self._metadata = metadata
        self._ratio = chunk_ratio(metadata)
        self._table = _read_table(file, regions, metadata)
        self._bitmaps: dict[int, bytearray] = {}

    @property
    def info(self) -> VhdInfo:
        """The headers' contents as they are now."""
        return read_info(self.file)

    def resize(self, size: int) -> None:
        """Grow, or cut a disk whose blocks behind the new end the file does not hold."""
        self._check_write(0, 0)
        _check_size(size, self._metadata.logical)
        changed = replace(self._metadata, size=size)
        entries = table_entries(changed)
        if 8 * entries > self._regions.table_length:
            raise VirtualDiskError(f"the block table of this VHDX has no room for {size} bytes; copy it to a new one")
        first, last = -(-size // self.block_size), -(-self._size // self.block_size)
        if any(self._locate(block) >= 0 for block in range(first, last)):
            raise VirtualDiskError(f"data lies behind {size} bytes; shrink the partitions on the disk first")
        self._touch()
        if size < self._size and size % self.block_size:
            self.unmap(size, min(self._size, first * self.block_size) - size)
        self.file.write(self._regions.metadata_offset, changed.pack())
        self._metadata, self._size = changed, size
        self._table = _read_table(self.file, self._regions, changed)

    def _locate(self, block: int) -> int:
        entry = self._table[block + block // self._ratio]
        return entry & _WHERE if entry & _STATE in (_PRESENT, _PARTIAL) else -1

    def _is_zero(self, block: int) -> bool:
        # Undefined (1), zero (2) and unmapped (3) blocks hide the parent's.
        return self._table[block + block // self._ratio] & _STATE in (1, _ZERO, 3)

    def _presence(self, block: int) -> bytearray | None:
        if self._table[block + block // self._ratio] & _STATE == _PRESENT:
            return None
        bits = self._bitmaps.get(block)
        if bits is None:
            bits = self._bitmaps[block] = bytearray(self.file.read(self._bits_at(block), self._bits_length))
        return bits

    def _set_present(self, block: int, within: int, length: int) -> None:
        bits = self._presence(block)
        if bits is None:
            return
        first, end = within // self.sector, (within + length) // self.sector
        changed = bytearray(bits)
        fill_bits(changed, first, end)
        if changed != bits:
            low, high = first // 8 // SECTOR * SECTOR, -(-end // 8 // SECTOR) * SECTOR
            self.file.write(self._bits_at(block) + low, bytes(changed[low:high]))
            self._bitmaps[block] = changed

    def _add_block(self, block: int, within: int, data: bytes) -> None:
        whole = not self.differencing or self._is_zero(block) or len(data) == self.block_size
        if not whole:
            self._need_bitmap(block)
        start = self._grow(self.block_size)
        self.file.write(start + within, data)
        if not whole:
            bits = bytearray(self._bits_length)
            fill_bits(bits, within // self.sector, (within + len(data)) // self.sector)
            self.file.write(self._bits_at(block), bytes(bits))
            self._bitmaps[block] = bits
        self._set_entry(block + block // self._ratio, start | (_PRESENT if whole else _PARTIAL))

    def _first_change(self) -> None:
        _advance(self.file)

    @property
    def _bits_length(self) -> int:
        return self.block_size // self.sector // 8

    def _bits_at(self, block: int) -> int:
        chunk = block // self._ratio
        where = self._table[chunk * (self._ratio + 1) + self._ratio] & _WHERE
        return where + block % self._ratio * self._bits_length

    def _need_bitmap(self, block: int) -> None:
        """Give the block's chunk its block of sector bitmap."""
        index = block // self._ratio * (self._ratio + 1) + self._ratio
        if self._table[index] & _STATE != _PRESENT:
            self._set_entry(index, self._grow(MIB) | _PRESENT)

    def _grow(self, length: int) -> int:
        """Zero bytes at the end of the file, from a whole MiB on."""
        start = -(-self.file.size // MIB) * MIB
        self.file.preallocate(start + length)
        return start

    def _set_entry(self, index: int, entry: int) -> None:
        first = index // _ENTRIES_PER_PIECE * _ENTRIES_PER_PIECE
        piece = self._table[first : first + _ENTRIES_PER_PIECE]
        piece[index - first] = entry
        self.file.write(self._regions.table_offset + 8 * first, piece.tobytes())
        self._table[index] = entry


def _read_table(file: GrowingDevice, regions: headers.Regions, metadata: headers.Metadata) -> array[int]:
    entries = table_entries(metadata)
    if 8 * entries > regions.table_length or regions.table_offset + 8 * entries > file.size:
        raise NotAVirtualDisk("the block table of the VHDX is shorter than the disk")
    return array("Q", file.read(regions.table_offset, 8 * entries))


def _write_table(file: GrowingDevice, regions: headers.Regions, table: array[int]) -> None:
    file.write(regions.table_offset, table.tobytes())


def _contiguous(file: GrowingDevice, regions: headers.Regions, metadata: headers.Metadata) -> int | None:
    """Where the data begins if all blocks follow each other."""
    table = _read_table(file, regions, metadata)
    base = table[0] & _WHERE
    for number in range(-(-metadata.size // metadata.block_size)):
        if table[_entry(metadata, number)] != base + number * metadata.block_size | _PRESENT:
            return None
    return base


def _entry(metadata: headers.Metadata, block: int) -> int:
    return block + block // chunk_ratio(metadata)


def _advance(file: GrowingDevice) -> None:
    """Write new write GUIDs into the header that does not hold, so that it does from then on."""
    header, place = headers.read_header(file)
    other = headers.HEADER_PLACES[place == headers.HEADER_PLACES[0]]
    file.write(other, header.next_write().pack())


def _locator(parent: VhdInfo, parent_path: str | None, relative_path: str | None) -> dict[str, str]:
    absolute = parent_path or ""
    name = absolute.rsplit("\\", 1)[-1]
    return {
        _LINKAGE: f"{{{parent.linkage}}}",
        "relative_path": relative_path or f".\\{name}",
        "absolute_win32_path": absolute,
    }


def _parent_path(parent: Mapping[str, str] | None) -> str | None:
    if parent is None:
        return None
    return parent.get("absolute_win32_path") or parent.get("relative_path") or parent.get("volume_path")


def _guid(text: str) -> UUID | None:
    try:
        return UUID(text.strip("{}"))
    except ValueError:
        return None


def _check_size(size: int, logical: int) -> None:
    if size <= 0 or size % logical or size > MAX_SIZE:
        raise VirtualDiskError(f"a VHDX cannot have {size} bytes: whole sectors of {logical} bytes, up to 64 TiB")
