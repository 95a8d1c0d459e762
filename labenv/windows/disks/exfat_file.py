"""An open file of an exFAT volume: bytes by offset, straight onto the device below."""

from __future__ import annotations

from collections.abc import Iterator

from labenv.devices import DeviceGone, ReadOnlyDevice, data_ranges
from labenv.windows.disks.exfat_layout import BIG_ALIGNMENT, check_range
from labenv.windows.disks.exfat_volume import Node, Volume


class File:
    """A handle on a file; it is a ``BlockDevice`` that grows when written behind its end.

    Bytes between ``valid_length`` and ``size`` read as zeros and are not stored. All handles of one file see the same.
    """

    __slots__ = ("_device", "_node", "_open", "_volume", "_writable", "path")

    def __init__(self, volume: Volume, node: Node, *, path: str, write: bool) -> None:
        self._volume = volume
        self._device = volume.device
        self._node = node
        self._writable = write
        self._open = True
        self.path = path
        volume.locate(node)
        node.handles += 1
        node.writers += write
        volume.open_nodes.add(node)

    def __enter__(self) -> File:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def size(self) -> int:
        """Length in bytes (exFAT: DataLength)."""
        return self._node.size

    @property
    def writable(self) -> bool:
        """Whether the handle may write."""
        return self._writable

    @property
    def valid_length(self) -> int:
        """How many bytes from the start were ever written (exFAT: ValidDataLength)."""
        return self._node.valid

    @valid_length.setter
    def valid_length(self, length: int) -> None:
        """Declare that the bytes before ``length`` are on the device; raises ``DeviceError`` behind the end."""
        node = self._node
        self._check_write()
        check_range(0, length, node.size)
        if length != node.valid:
            self._commit(node.size, length)

    def read(self, offset: int, length: int) -> bytes:
        """The bytes at an offset; raises ``DeviceError`` beyond the end."""
        node = self._node
        if self._open and node.base >= 0 and offset >= 0 and offset + length <= node.valid:
            return self._device.read(node.base + offset, length)
        self._check_open()
        check_range(offset, length, node.size)
        stored = max(0, min(length, node.valid - offset))
        if not stored:
            return bytes(length)
        data = self._volume.read(node, offset, stored)
        return data if stored == length else data + bytes(length - stored)

    def write(self, offset: int, data: bytes) -> None:
        """Store bytes, growing the file if they reach behind its end; raises ``DiskFull``, ``ReadOnlyDevice``."""
        node = self._node
        end = offset + len(data)
        if self._writable and node.base >= 0 and offset >= 0 and end <= node.valid:
            node.touched = True
            self._device.write(node.base + offset, data)
            return
        self._check_write()
        check_range(offset, len(data), max(node.size, end))
        if not data:
            return
        node.touched = True
        if end > node.valid:
            if end > node.size:
                self._volume.extend(node, end)
            if offset > node.valid:
                self._volume.zero(node, node.valid, offset - node.valid)
        self._volume.write(node, offset, data)
        if end > node.valid:
            # The bytes are on the device before the entry says so.
            self._commit(max(node.size, end), end)

    def truncate(self, size: int) -> None:
        """Set the length; bytes gained read as zeros, clusters lost are freed. Raises ``DiskFull``."""
        node = self._node
        self._check_write()
        check_range(0, size, size)
        if size > node.size:
            self._volume.extend(node, size)
            self._commit(size, node.valid)
        elif size < node.size:
            self._shrink(size)

    def unmap(self, offset: int, length: int) -> None:
        """Give the space of a range back to the array; it reads as zeros, the clusters stay the file's."""
        node = self._node
        self._check_write()
        check_range(offset, length, node.size)
        if offset < node.valid:
            for at, part in self._volume.spans(node, offset, min(length, node.valid - offset)):
                self._device.unmap(at, part)
            node.touched = True

    def preallocate(self, size: int) -> None:
        """Make the file at least ``size`` bytes that can all be written in place; what was not written reads as zeros.

        An empty file of 2 MiB and more starts on a multiple of 2 MiB of the whole disk. What is gained is given back
        to the array, so it takes space only when it is written. Raises ``DiskFull``.
        """
        node, volume = self._node, self._volume
        self._check_write()
        size = max(size, node.size)
        volume.extend(node, size, align=BIG_ALIGNMENT if size >= BIG_ALIGNMENT else 0)
        if node.valid < size:
            volume.zero(node, node.valid, size - node.valid)
        if (size, size) != (node.size, node.valid):
            self._commit(size, size)

    def flush(self) -> None:
        """Flush the device below."""
        self._check_open()
        self._device.flush()

    def extents(self) -> list[tuple[int, int]]:
        """(offset on the file system's device, length) of every piece, in file order, cut at the file's size."""
        self._check_open()
        return list(self._volume.spans(self._node, 0, self._node.size))

    def data_ranges(self, offset: int, length: int) -> Iterator[tuple[int, int]]:
        """The parts of a range that may hold data: what lies beyond the valid length, and holes below, do not."""
        self._check_open()
        at = offset
        for start, size in self._volume.spans(self._node, offset, min(length, max(0, self._node.valid - offset))):
            for found, part in data_ranges(self._device, start, size):
                yield at + found - start, part
            at += size

    def close(self) -> None:
        """End the handle; the modified time is written if the file was changed. Closing twice does nothing."""
        if not self._open:
            return
        self._open = False
        node, volume = self._node, self._volume
        writable, self._writable = self._writable, False
        node.handles -= 1
        node.writers -= writable
        if volume.closed:
            return
        if not node.writers:
            volume.close_window(node)
        if not node.handles:
            volume.open_nodes.discard(node)
        if writable and node.touched:
            self._commit(node.size, node.valid)

    def _commit(self, size: int, valid: int) -> None:
        node = self._node
        before = (node.size, node.valid, node.modified)
        node.size, node.valid, node.modified = size, valid, self._volume.now()
        try:
            self._volume.commit(node)
        except BaseException:
            node.size, node.valid, node.modified = before
            raise
        node.touched = False

    def _shrink(self, size: int) -> None:
        node, volume = self._node, self._volume
        first, chained = node.first, node.chained
        if not size:
            volume.locate(node)
            node.first, node.chained = 0, False
        try:
            self._commit(size, min(node.valid, size))
        except BaseException:
            node.first, node.chained = first, chained
            raise
        volume.release(node, size)

    def _check_open(self) -> None:
        self._volume.check_open()
        if not self._open:
            raise DeviceGone(f"{self.path} is closed; open it again")

    def _check_write(self) -> None:
        self._check_open()
        if not self._writable:
            raise ReadOnlyDevice(f"{self.path} was opened for reading; open it with write=True")
