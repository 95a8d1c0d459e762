"""A file of a volume: the bytes of a LUN."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from labenv.ontap.blocks.errors import NotPossible
from labenv.ontap.blocks.filetree import FileTree
from labenv.ontap.blocks.log import MOST_BLOCKS
from labenv.ontap.blocks.pool import BLOCK, ZEROS
from labenv.ontap.blocks.records import FileRecord
from labenv.ontap.blocks.tree import SHIFT, unmap_pages

if TYPE_CHECKING:
    from labenv.ontap.blocks.account import VolumeAccount

_PIECE = 4096  # blocks of a long write that are acknowledged together
_LOOP = 12  # fewer blocks than this are quicker one by one than through numpy


class BlockFile(FileTree):
    """A file in the active file system. Every ``write`` and ``unmap`` is durable when it returns.

    The object stays the same while the file exists, whatever is restored into it.

    Attributes:
        misaligned: writes so far (of this process) that did not begin and end at a block boundary, and so had to read
            the rest of a block first.
    """

    __slots__ = ("_counter", "_free", "_pinned", "_words", "misaligned")

    def __init__(self, volume: VolumeAccount, path: str, record: FileRecord) -> None:
        super().__init__(volume, path, record)
        log, pool = volume.engine.log, volume.engine.pool
        self._counter, self._words = log.counter, log.words
        self._free, self._pinned = pool.free, pool.pinned
        self.misaligned = 0

    @property
    def reserved(self) -> bool:
        """Whether space for every block is held in the volume (LUN reservation).

        Setting it raises ``OutOfSpace`` if the volume has not the room.
        """
        return self._reserved

    @reserved.setter
    def reserved(self, reserved: bool) -> None:
        self._inside(0, 0)
        if reserved and not self._reserved:
            self._volume.demand(-(-self.size // BLOCK) - self._mapped, f"reserve space for {self.path}")
        self._reserved = reserved
        self.settle_reservation()
        self.changed()

    # writing

    def write(self, offset: int, data: bytes) -> None:
        """Store bytes; all or none of them survive a crash, up to 16 MiB.

        Raises:
            OutOfSpace: the volume or aggregate is full; nothing was written.
            DeviceError: the range is not inside the file. DeviceGone: the file was deleted.
        """
        # One aligned block into a leaf that is ours: everything below does the same for any write, slowly.
        # The numbers are written out because looking names up takes as long as the work itself.
        if len(data) == 4096 and not offset & 4095:
            at = self._counter[0]
            try:
                leaf = self._own[offset >> 21]
                block = offset >> 12
                self._words[at] = self._tag | block
                place = self._free.pop()
            except (IndexError, KeyError):  # the leaf is not ours, the log is full, or no block is ready
                self._write(offset, data)
                return
            block &= 511
            old = leaf[block]
            if old:
                self._pinned.append(old)
            elif not self._fill_hole():
                self._free.append(place)
                self._write(offset, data)
                return
            byte = place << 12
            self._pool.map[byte : byte + 4096] = data
            leaf[block] = self._words[at + 1] = place
            self._counter[0] = at + 2
            return
        self._write(offset, data)

    def _fill_hole(self) -> bool:
        """Account for it; False if the volume must be asked first."""
        volume = self._volume
        if self._prepaid:
            volume.ceiling += 1
        elif volume.room > 0:
            volume.room -= 1
        else:
            return False
        self._mapped += 1
        return True

    def _write_mixed(self, offset: int, data: bytes) -> bool:
        """One aligned block into a leaf that shares some; False if it takes more than that."""
        leaf = self._mixed.get(offset >> 21)
        engine = self._engine
        log = engine.log
        if leaf is None or not self._free or self._volume.room < 1 or not log.free:
            return False
        place = self._free.pop()
        self._pool.map[place << 12 : place + 1 << 12] = data
        self.point_one(offset >> 12, place)
        log.begin()
        log.add(self._log_number, offset >> 12, 1, place)
        log.acknowledge()
        return True

    def _write(self, offset: int, data: bytes) -> None:
        length = len(data)
        self._inside(offset, length)
        if not length or (length == BLOCK and not offset & BLOCK - 1 and self._write_mixed(offset, data)):
            return
        first, end = offset >> 12, offset + length + BLOCK - 1 >> 12
        self._make_room(first, end)
        if offset & BLOCK - 1 or (offset + length & BLOCK - 1 and offset + length != self.size):
            self.misaligned += 1
        view = memoryview(data).cast("B")
        at = 0
        for block in range(first, end, _PIECE):
            stop = min(end, block + _PIECE)
            taken = min(stop * BLOCK - (offset + at), length - at)
            self._engine.prepare(stop - block, self._height + (stop - block >> SHIFT) + self._height)
            self._engine.log.begin()
            self._write_piece(block, stop, offset + at, view[at : at + taken])
            self._engine.log.acknowledge()
            at += taken

    def _write_piece(self, first: int, end: int, offset: int, data: memoryview, *, logged: bool = True) -> None:
        """Write blocks ``first`` to ``end``, padding ``data`` with what is there now."""
        before = offset - first * BLOCK
        after = end * BLOCK - offset - len(data)
        if before or after:
            head = self._old(first)[:before] if before else b""
            tail = self._old(end - 1)[BLOCK - after :] if after else b""
            data = memoryview(b"".join((head, data, tail)))
        pool, log = self._engine.pool, self._engine.log
        count = end - first
        if count < _LOOP:
            for number in range(count):
                place = pool.pop()
                pool.map[place * BLOCK : (place + 1) * BLOCK] = data[number * BLOCK : (number + 1) * BLOCK]
                self.point_one(first + number, place)
                if logged:
                    log.add(self._log_number, first + number, 1, place)
            return
        places = pool.take(count)
        low = int(places[0])
        starts = [0, count]
        if int(places[-1]) - low == count - 1 and (places == np.arange(low, low + count)).all():
            pool.map[low * BLOCK : (low + count) * BLOCK] = data
        else:
            starts[1:1] = (np.flatnonzero(np.diff(places) != 1) + 1).tolist()
            pool.blocks[places] = np.frombuffer(data, np.uint8).reshape(count, BLOCK)
        self.point_many(first, places)
        for at, stop in pairwise(starts):
            log.add(self._log_number, first + at, stop - at, int(places[at]))

    def _make_room(self, first: int, end: int) -> None:
        """Lease what the write of these blocks may consume, or raise ``OutOfSpace``."""
        volume = self._volume
        leaves = (end - 1 >> SHIFT) - (first >> SHIFT) + 1
        pages = leaves + 2 * self._height
        if volume.room >= end - first and volume.page_room >= pages:
            return
        holes, shared = self.consumption(first, end)
        if not self._reserved:
            volume.lease(holes + shared, pages, self.path)
        elif volume.guarantee:
            volume.lease(shared, pages, self.path)
        else:
            volume.lease(holes + shared, pages, self.path, reserved=holes)

    # giving back

    def unmap(self, offset: int, length: int) -> None:
        """Give the space of a range back; it reads as zeros afterwards. Durable when it returns.

        Parts of a block at the edges are filled with zeros if the block is not a hole.

        Raises:
            OutOfSpace: an edge lies in a shared block and there is no room for a copy of it.
            DeviceError: the range is not inside the file. DeviceGone: the file was deleted.
        """
        self._inside(offset, length)
        end = offset + length
        inner_first = offset + BLOCK - 1 >> 12
        inner_end = end >> 12 if end != self.size else end + BLOCK - 1 >> 12
        if inner_first > inner_end:  # inside one block
            self._zero(offset, length)
            return
        self._zero(offset, min(end, inner_first * BLOCK) - offset)
        if end > inner_end * BLOCK:
            self._zero(inner_end * BLOCK, end - inner_end * BLOCK)
        if inner_first == inner_end:
            return
        self._engine.prepare(-(-(inner_end - inner_first) // MOST_BLOCKS), unmap_pages(self._height))
        self.make_holes(inner_first, inner_end)
        self._engine.log.begin()
        for block in range(inner_first, inner_end, MOST_BLOCKS):
            self._engine.log.add(self._log_number, block, min(MOST_BLOCKS, inner_end - block), 0)
        self._engine.log.acknowledge()

    def _zero(self, offset: int, length: int) -> None:
        if length and self._old_place(offset >> 12):
            self._write(offset, bytes(length))

    def resize(self, size: int) -> None:
        """Make the file longer (zeros) or shorter. Durable at the next commit.

        Raises:
            OutOfSpace: the file is reserved and the volume has not the room.
        """
        self._inside(0, 0)
        if size <= 0:
            raise NotPossible(f"{self.path}: a size of {size} bytes is not possible; give a positive size")
        engine, volume = self._engine, self._volume
        old_blocks, new_blocks = -(-self.size // BLOCK), -(-size // BLOCK)
        if new_blocks > old_blocks and self._reserved:
            volume.demand(new_blocks - old_blocks, f"resize {self.path}")
        engine.prepare(1, 2 * unmap_pages(self._height) + 4)
        if size < self.size:
            if size % BLOCK and self._old(new_blocks - 1) != ZEROS:
                self._make_room(new_blocks - 1, new_blocks)
                blank = memoryview(bytes(new_blocks * BLOCK - size))
                self._write_piece(new_blocks - 1, new_blocks, size, blank, logged=False)
            if new_blocks < old_blocks:
                self.make_holes(new_blocks, old_blocks)
        self.fit(size)
        volume.end_lease()
        self.changed()
