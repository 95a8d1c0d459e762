"""The write cache of a running system: data waits in memory, file system metadata goes straight to the disk.

That is what decides how a crash looks. A file that was created, written and not flushed exists after a crash with its
full size (its directory entry was journaled) and reads as zeros (its valid data length was not).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from typing import Protocol

from labenv.devices import BlockDevice, DeviceGone

BLOCK = 4096
"""Bytes of one cached block."""

RUN = 64 * 1024
"""The longest single write to the disk when neighbouring blocks are written back."""


class OpenFile(Protocol):
    """What the cache needs of a file of the file system below (``labenv.windows.disks.exfat.File``)."""

    @property
    def size(self) -> int:
        """Length in bytes."""

    @property
    def valid_length(self) -> int:
        """Bytes from the start that the disk holds; what follows reads as zeros."""

    @valid_length.setter
    def valid_length(self, length: int) -> None: ...

    def truncate(self, size: int) -> None:
        """Set the size; new space has no valid data."""

    def extents(self) -> list[tuple[int, int]]:
        """(device offset, length) of the allocated space, in the order of the file."""

    def close(self) -> None:
        """Forget the file."""


class GuestDisk:
    """A virtual disk as the running system reaches it: until it is fenced, and never afterwards."""

    def __init__(self, device: BlockDevice) -> None:
        self.source = device
        self._device: BlockDevice | None = device
        self._size = device.size

    @property
    def size(self) -> int:
        """Capacity in bytes."""
        return self._size

    @property
    def fenced(self) -> bool:
        """Whether nothing can reach the disk any more."""
        return self._device is None

    def _reach(self) -> BlockDevice:
        if self._device is None:
            raise DeviceGone("the virtual disk belongs to a system that no longer runs: start the virtual machine")
        return self._device

    def read(self, offset: int, length: int) -> bytes:
        """Bytes of the disk; raises ``DeviceGone`` once fenced."""
        return self._reach().read(offset, length)

    def write(self, offset: int, data: bytes) -> None:
        """Store bytes on the disk; raises ``DeviceGone`` once fenced."""
        self._reach().write(offset, data)

    def unmap(self, offset: int, length: int) -> None:
        """Give space back; raises ``DeviceGone`` once fenced."""
        self._reach().unmap(offset, length)

    def flush(self) -> None:
        """Flush the disk; raises ``DeviceGone`` once fenced."""
        self._reach().flush()

    def fence(self) -> None:
        """Cut the system off from the disk for good."""
        self._device = None


class CachedFile:
    """One file of a guest volume with its dirty blocks.

    ``device`` is the volume that the file system is on; blocks are written to it at the file's extents, so that writing
    a block back never moves the valid data length on the disk. That happens in ``flush`` alone, after the data.
    """

    def __init__(self, file: OpenFile, device: BlockDevice) -> None:
        self._file = file
        self._device = device
        self.size = file.size
        self._valid = min(file.valid_length, file.size)
        self._dirty: dict[int, bytes | bytearray] = {}
        self._starts: list[int] = []
        self._room = 0
        self._extents: list[tuple[int, int]] | None = None
        self.dirty_since: int | None = None
        self.users = 0

    @property
    def dirty(self) -> Iterable[int]:
        """Numbers of the blocks that wait, in no order."""
        return self._dirty

    @property
    def dirty_bytes(self) -> int:
        """Bytes that a loss of power would take."""
        return len(self._dirty) * BLOCK

    @property
    def settled(self) -> bool:
        """Whether the disk holds everything, valid data length included."""
        return not self._dirty and self._valid == self._file.valid_length

    def read(self, offset: int, length: int) -> bytes:
        """Bytes from the cache and the disk; short at the end of the file."""
        end = min(offset + length, self.size)
        if end <= offset:
            return b""
        first, last = offset // BLOCK, (end - 1) // BLOCK
        if first == last:
            start = offset - first * BLOCK
            block = self._dirty.get(first)
            if block is not None:
                return bytes(block[start : start + end - offset])
            return self._from_disk(offset, end - offset)
        if not self._dirty:
            return self._from_disk(offset, end - offset)
        result = bytearray(self._from_disk(offset, end - offset))
        for index in range(first, last + 1):
            block = self._dirty.get(index)
            if block is not None:
                left = max(offset, index * BLOCK)
                right = min(end, (index + 1) * BLOCK)
                result[left - offset : right - offset] = block[left - index * BLOCK : right - index * BLOCK]
        return bytes(result)

    def write(self, offset: int, data: bytes, *, now: int = 0) -> None:
        """Store bytes in the cache; a longer file is allocated on the disk at once."""
        end = offset + len(data)
        if end > self.size:
            self._file.truncate(end)
            self.size = end
            self._extents = None
        if offset > self._valid:
            self._fill_gap(offset)
        if self.dirty_since is None:
            self.dirty_since = now
        self._put(offset, data)
        if end > self._valid:
            self._valid = end

    def _put(self, offset: int, data: bytes) -> None:
        dirty = self._dirty
        if len(data) == BLOCK and not offset % BLOCK:
            dirty[offset // BLOCK] = data
            return
        position = 0
        while position < len(data):
            index, start = divmod(offset + position, BLOCK)
            part = data[position : position + BLOCK - start]
            if len(part) == BLOCK:
                dirty[index] = part
            else:
                block = dirty.get(index)
                if not isinstance(block, bytearray):
                    block = bytearray(self._block(index) if block is None else block)
                    dirty[index] = block
                block[start : start + len(part)] = part
            position += len(part)

    def _fill_gap(self, offset: int) -> None:
        """Zeros between the valid data and a write beyond it."""
        position = self._valid
        while position < offset:
            step = min(BLOCK - position % BLOCK, offset - position)
            self._put(position, bytes(step))
            position += step
        self._valid = offset

    def truncate(self, size: int) -> None:
        """Set the size; on the disk at once."""
        if size == self.size:
            return
        if size < self.size:
            keep = -(-size // BLOCK)
            for index in [i for i in self._dirty if i >= keep]:
                del self._dirty[index]
            tail = size % BLOCK
            block = self._dirty.get(keep - 1) if tail else None
            if block is not None:
                self._dirty[keep - 1] = bytearray(block[:tail]) + bytes(BLOCK - tail)
            self._valid = min(self._valid, size)
        self._file.truncate(size)
        self.size = size
        self._extents = None

    def write_back(self, blocks: Iterable[int]) -> None:
        """Write dirty blocks to the disk, in the given order, without telling the file system."""
        for index in blocks:
            block = self._dirty.pop(index)
            self._to_disk(index * BLOCK, bytes(block))

    def flush(self) -> None:
        """Write every dirty block, then the valid data length."""
        if self._dirty:
            run_start, run = -1, bytearray()
            for index in sorted(self._dirty):
                position = index * BLOCK
                if run and (position != run_start + len(run) or len(run) >= RUN):
                    self._to_disk(run_start, bytes(run))
                    run = bytearray()
                if not run:
                    run_start = position
                run += self._dirty[index]
            self._to_disk(run_start, bytes(run))
            self._dirty.clear()
        if self._file.valid_length != self._valid:
            self._file.valid_length = self._valid
        self.dirty_since = None

    def drop(self) -> None:
        """Forget what waits: the file was deleted."""
        self._dirty.clear()
        self.dirty_since = None

    def close(self) -> None:
        """Close the file of the file system."""
        self._file.close()

    def _block(self, index: int) -> bytes:
        """A whole block as it is on the disk, zeros beyond the valid data."""
        data = self._from_disk(index * BLOCK, BLOCK)
        return data if len(data) == BLOCK else data + bytes(BLOCK - len(data))

    def _layout(self) -> list[tuple[int, int]]:
        """The extents, asked for again after the size changed."""
        if self._extents is None:
            self._extents = self._file.extents()
            self._starts = []
            self._room = 0
            for _, length in self._extents:
                self._starts.append(self._room)
                self._room += length
        return self._extents

    def _map(self, offset: int, length: int) -> list[tuple[int, int]]:
        """(device offset, length) of a range of the file."""
        extents = self._layout()
        number = bisect_right(self._starts, offset) - 1
        pieces = []
        while length:
            at, extent_length = extents[number]
            inside = offset - self._starts[number]
            part = min(length, extent_length - inside)
            pieces.append((at + inside, part))
            offset += part
            length -= part
            number += 1
        return pieces

    def _from_disk(self, offset: int, length: int) -> bytes:
        valid = min(offset + length, self._valid) - offset
        if valid <= 0:
            return bytes(length)
        pieces = self._map(offset, valid)
        data = b"".join(self._device.read(at, part) for at, part in pieces)
        return data if valid == length else data + bytes(length - valid)

    def _to_disk(self, offset: int, data: bytes) -> None:
        # Where clusters are smaller than a block, the last block reaches beyond the allocated space.
        self._layout()
        data = data[: self._room - offset]
        position = 0
        for at, part in self._map(offset, len(data)):
            self._device.write(at, data[position : position + part])
            position += part
