"""The reading half of a file, and the files of Snapshot copies, which have no other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from labenv.devices import DeviceError, DeviceGone, ReadOnlyDevice
from labenv.ontap.blocks.pool import BLOCK, FANOUT
from labenv.ontap.blocks.records import FileRecord
from labenv.ontap.blocks.tree import SHIFT, height_for, leaf_of, leaves

if TYPE_CHECKING:
    from labenv.ontap.blocks.engine import Engine

_MOST_SEEN = 16384


class FileReader:
    """The reading half: a tree, and the leaves seen of it.

    Attributes:
        size: bytes.
    """

    __slots__ = ("_engine", "_gone", "_height", "_last", "_mapped", "_own", "_pool", "_root", "_seen", "path", "size")

    def __init__(self, engine: Engine, path: str, record: FileRecord) -> None:
        self._engine = engine
        self._pool = engine.pool
        self._gone = ""
        self.path = path
        self._own: dict[int, memoryview] = {}  # leaves that may be changed in place until the next consistency point
        self._seen: dict[int, memoryview] = {}
        self._root = record.root
        self._mapped = record.mapped
        self._measure(record.size)

    def _measure(self, size: int) -> None:
        self.size = size
        self._last = size - BLOCK  # where the last whole block can begin
        self._height = height_for(size)

    @property
    def used(self) -> int:
        """Bytes of blocks that are not holes, whether shared or not."""
        return self._mapped * BLOCK

    def read(self, offset: int, length: int) -> bytes:
        """The bytes at an offset.

        Raises:
            DeviceError: the range is not inside the file. DeviceGone: the file was deleted.
        """
        if length == 4096 and not offset & 4095 and offset <= self._last:
            leaf = self._own.get(offset >> 21) or self._seen.get(offset >> 21)
            if leaf is not None:
                at = leaf[offset >> 12 & 511] << 12
                return self._pool.map[at : at + 4096]
        return self._read(offset, length)

    def _read(self, offset: int, length: int) -> bytes:
        self._inside(offset, length)
        if not length:
            return b""
        pool = self._engine.pool
        first, end = offset >> 12, offset + length + BLOCK - 1 >> 12
        if end - first == 1:
            at = self._leaf(first >> SHIFT)[first & FANOUT - 1] << 12
            return pool.map[at + (offset & BLOCK - 1) : at + (offset & BLOCK - 1) + length]
        out = np.empty((end - first, BLOCK), np.uint8)
        block = first
        while block < end:
            stop = min(end, (block | FANOUT - 1) + 1)
            slot = block & FANOUT - 1
            places = np.frombuffer(self._leaf(block >> SHIFT), np.int64)[slot : slot + stop - block]
            low = int(places[0])
            part = out[block - first : stop - first]
            if (places == np.arange(low, low + len(places))).all():
                part[:] = pool.blocks[low : low + len(places)]
            else:
                np.take(pool.blocks, places, axis=0, out=part, mode="clip")
            block = stop
        skip = offset & BLOCK - 1
        return out.reshape(-1)[skip : skip + length].tobytes()

    def data_ranges(self, offset: int, length: int) -> Iterator[tuple[int, int]]:
        """Offset and length in bytes of the parts of a range outside which the file is all holes.

        Raises:
            DeviceError: the range is not inside the file. DeviceGone: the file was deleted.
        """
        self._inside(offset, length)
        indexes, _ = leaves(self._engine.pool, self._root, self._height)
        end = offset + length
        for index in indexes.tolist():
            start, stop = max(offset, index * FANOUT * BLOCK), min(end, (index + 1) * FANOUT * BLOCK)
            if start < stop:
                yield start, stop - start

    def flush(self) -> None:
        """Nothing to do: a write is safe when it returns."""
        self._inside(0, 0)

    def _leaf(self, index: int) -> memoryview:
        leaf = self._own.get(index) or self._seen.get(index)
        if leaf is None:
            pool = self._engine.pool
            page = leaf_of(pool, self._root, self._height, index)
            leaf = pool.pointers[page * FANOUT : (page + 1) * FANOUT]
            if len(self._seen) >= _MOST_SEEN:
                self._seen.clear()
            self._seen[index] = leaf
        return leaf

    def _inside(self, offset: int, length: int) -> None:
        if self._gone:
            raise DeviceGone(f"{self.path}: {self._gone}")
        if offset < 0 or length < 0 or offset + length > self.size:
            raise DeviceError(
                f"{self.path}: bytes {offset} to {offset + length} are not inside its {self.size} bytes; "
                f"ask for a range inside, or resize the file first"
            )

    def forget_pages(self) -> None:
        """Look the tree up again at the next access."""
        self._own.clear()
        self._seen.clear()

    def fence(self, reason: str) -> None:
        """Refuse every later access."""
        self._gone = reason
        self.forget_pages()
        self._root = 0


class SnapshotFile(FileReader):
    """A file in a Snapshot copy: never changes."""

    __slots__ = ()

    reserved = False

    def write(self, offset: int, data: bytes) -> None:
        """Always refused: raises ``ReadOnlyDevice``."""
        self._refuse()

    def unmap(self, offset: int, length: int) -> None:
        """Always refused: raises ``ReadOnlyDevice``."""
        self._refuse()

    def resize(self, size: int) -> None:
        """Always refused: raises ``ReadOnlyDevice``."""
        self._refuse()

    def _refuse(self) -> None:
        self._inside(0, 0)
        raise ReadOnlyDevice(f"{self.path} lies in a Snapshot copy and cannot change: write to a clone of it")
