"""Reading and writing disks whose blocks lie anywhere in the file: dynamic and differencing, VHD and VHDX alike."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator

from labenv.devices import BlockDevice
from labenv.windows.disks.exfat_layout import check_range, zero
from labenv.windows.disks.vhd_types import GrowingDevice, VirtualDisk


class MappedDisk(VirtualDisk):
    """The common half of the block-mapped formats; a subclass knows how its tables are stored."""

    def __init__(
        self,
        file: GrowingDevice,
        *,
        size: int,
        block_size: int,
        differencing: bool,
        sector: int,
        parent: VirtualDisk | None,
        read_only: bool,
    ) -> None:
        super().__init__(file, size=size, parent=parent, read_only=read_only)
        self.block_size = block_size
        self.differencing = differencing
        self.sector = sector
        self._fresh = True

    def read(self, offset: int, length: int) -> bytes:
        """The bytes at an offset."""
        self._check_read(offset, length)
        block, within = divmod(offset, self.block_size)
        if within + length <= self.block_size:
            return self._read_block(block, within, length)
        return b"".join(self._read_block(*part) for part in self._parts(offset, length))

    def write(self, offset: int, data: bytes) -> None:
        """Store bytes; a block that the file does not hold is added to it."""
        self._check_write(offset, len(data))
        if self._fresh:
            self._touch()
        if self.differencing and (offset % self.sector or len(data) % self.sector):
            offset, data = self._whole_sectors(offset, data)
        done = 0
        for block, within, length in self._parts(offset, len(data)):
            part = data if length == len(data) else data[done : done + length]
            done += length
            at = self._locate(block)
            if at < 0:
                self._add_block(block, within, part)
                continue
            self.file.write(at + within, part)
            if self.differencing:
                self._set_present(block, within, length)

    def unmap(self, offset: int, length: int) -> None:
        """Make a range read as zeros; blocks stay in the file, their bytes take no space on the array."""
        self._check_write(offset, length)
        for block, within, part in self._parts(offset, length):
            at = self._locate(block)
            if at < 0 and (self._is_zero(block) or not self.differencing):
                continue
            if self.differencing:
                start, end = within, within + part
                inner_start, inner_end = -(-start // self.sector) * self.sector, end // self.sector * self.sector
                if inner_start >= inner_end:
                    self.write(block * self.block_size + within, bytes(part))
                    continue
                base = block * self.block_size
                if start < inner_start:
                    self.write(base + start, bytes(inner_start - start))
                if inner_end < end:
                    self.write(base + inner_end, bytes(end - inner_end))
                at = self._locate(block)
                if at < 0:
                    self.write(base + inner_start, bytes(self.sector))
                    at = self._locate(block)
                zero(self.file, at + inner_start, inner_end - inner_start)
                self._set_present(block, inner_start, inner_end - inner_start)
            else:
                self._touch()
                zero(self.file, at + within, part)

    def ranges(self) -> Iterator[tuple[int, int]]:
        """(offset, length) of what this file itself holds."""
        self._check_open()
        for block in range(-(-self._size // self.block_size)):
            zeros = self._is_zero(block)
            if self._locate(block) < 0 and not (zeros and self.differencing):
                continue
            base = block * self.block_size
            length = min(self.block_size, self._size - base)
            if zeros or not self.differencing:
                yield base, length
                continue
            for present, start, part in self._runs(block, 0, length):
                if present:
                    yield base + start, part

    @abstractmethod
    def _locate(self, block: int) -> int:
        """Where a block's data begins in the file, -1 if the file does not hold it."""

    @abstractmethod
    def _presence(self, block: int) -> bytes | bytearray | None:
        """The block's sector bitmap, lowest bit first; None if every sector is there. Differencing only."""

    @abstractmethod
    def _set_present(self, block: int, within: int, length: int) -> None:
        """Note in the sector bitmap that whole sectors of a block are there now. Differencing only."""

    @abstractmethod
    def _add_block(self, block: int, within: int, data: bytes) -> None:
        """Put a new block that holds the data into the file; the table's entry is written last."""

    @abstractmethod
    def _first_change(self) -> None:
        """Whatever the format wants done before the first change since the file was opened."""

    def _touch(self) -> None:
        if self._fresh:
            self._first_change()
            self._fresh = False

    def _is_zero(self, block: int) -> bool:
        """Whether a block that the file does not hold is zeros, whatever the parent says."""
        return False

    def _parts(self, offset: int, length: int) -> Iterator[tuple[int, int, int]]:
        """(block, offset in it, length) for a range."""
        while length:
            block, within = divmod(offset, self.block_size)
            part = min(length, self.block_size - within)
            yield block, within, part
            offset += part
            length -= part

    def _read_block(self, block: int, within: int, length: int) -> bytes:
        at = self._locate(block)
        if at < 0:
            if self._is_zero(block):
                return bytes(length)
            return self._below(block * self.block_size + within, length)
        if not self.differencing:
            return self.file.read(at + within, length)
        pieces = []
        for present, start, part in self._runs(block, within, length):
            if present:
                pieces.append(self.file.read(at + start, part))
            else:
                pieces.append(self._below(block * self.block_size + start, part))
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _runs(self, block: int, within: int, length: int) -> Iterator[tuple[bool, int, int]]:
        """(in this file?, offset in the block, length) pieces of a range of a block that the file holds."""
        bits = self._presence(block)
        end = within + length
        if bits is None:
            yield True, within, length
            return
        while within < end:
            sector = within // self.sector
            present = bool(bits[sector >> 3] >> (sector & 7) & 1)
            whole = 0xFF if present else 0
            last = -(-end // self.sector)
            sector += 1
            while sector < last:
                if not sector & 7 and bits[sector >> 3] == whole:
                    sector += 8
                elif bool(bits[sector >> 3] >> (sector & 7) & 1) == present:
                    sector += 1
                else:
                    break
            stop = min(end, sector * self.sector)
            yield present, within, stop - within
            within = stop

    def _below(self, offset: int, length: int) -> bytes:
        parent = self.parent
        if parent is None or offset >= parent.size:
            return bytes(length)
        # A child may have been made bigger than its parent.
        inside = min(length, parent.size - offset)
        data = parent.read(offset, inside)
        return data if inside == length else data + bytes(length - inside)

    def _whole_sectors(self, offset: int, data: bytes) -> tuple[int, bytes]:
        head = offset % self.sector
        tail = -(offset + len(data)) % self.sector
        before = self.read(offset - head, head)
        after = self.read(offset + len(data), tail)
        return offset - head, before + data + after


class FlatDisk(VirtualDisk):
    """The common half of fixed disks: the disk's bytes are one range of the file."""

    def __init__(self, file: GrowingDevice, *, size: int, base: int, read_only: bool) -> None:
        super().__init__(file, size=size, parent=None, read_only=read_only)
        self._base = base
        self._ready = not read_only  # may take a write without looking further
        self._limit = size

    def read(self, offset: int, length: int) -> bytes:
        """The bytes at an offset."""
        if offset < 0 or offset + length > self._limit:
            self._check_read(offset, length)
        return self.file.read(self._base + offset, length)

    def write(self, offset: int, data: bytes) -> None:
        """Store bytes in place."""
        if not self._ready or offset < 0 or offset + len(data) > self._limit:
            self._prepare(offset, len(data))
        self.file.write(self._base + offset, data)

    def unmap(self, offset: int, length: int) -> None:
        """Give a range back to the array."""
        self._prepare(offset, length)
        self.file.unmap(self._base + offset, length)

    def ranges(self) -> Iterator[tuple[int, int]]:
        """The whole disk."""
        self._check_open()
        yield 0, self._size

    def close(self) -> None:
        """End the use of the disk."""
        super().close()
        self._ready = False
        self._limit = -1

    def _prepare(self, offset: int, length: int) -> None:
        """Check a change, and do what the format wants before the first one."""
        self._check_write(offset, length)


def copy_range(source: BlockDevice, target: BlockDevice, offset: int, length: int) -> None:
    """Copy a range, leaving out 64 KiB pieces that are zeros on both sides."""
    check_range(offset, length, min(source.size, target.size))
    piece = 64 * 1024
    data = source.read(offset, length)
    for start in range(0, length, piece):
        part = data[start : start + piece]
        if any(part) or any(target.read(offset + start, len(part))):
            target.write(offset + start, part)


def fill_bits(bits: bytearray, first: int, end: int) -> None:
    """Set the bits [first, end), lowest bit of a byte first."""
    while first < end and first & 7:
        bits[first >> 3] |= 1 << (first & 7)
        first += 1
    whole = (end - first) // 8
    if whole > 0:
        bits[first >> 3 : (first >> 3) + whole] = b"\xff" * whole
        first += 8 * whole
    while first < end:
        bits[first >> 3] |= 1 << (first & 7)
        first += 1
