"""A file of a volume: the bytes of a LUN."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from labenv.ontap.blocks.errors import NotPossible
from labenv.ontap.blocks.log import FILE_SHIFT, MOST_BLOCKS
from labenv.ontap.blocks.pool import BLOCK, FANOUT, ZEROS, Places
from labenv.ontap.blocks.reader import FileReader
from labenv.ontap.blocks.records import FileRecord
from labenv.ontap.blocks.tree import SHIFT, drop_root, height_for, own_page, unmap, unmap_pages

if TYPE_CHECKING:
    from labenv.ontap.blocks.volume import VolumeBlocks

_PIECE = 4096  # blocks of a long write that are acknowledged together
_LOOP = 12  # fewer blocks than this are quicker one by one than through numpy


class BlockFile(FileReader):
    """A file in the active file system. Every ``write`` and ``unmap`` is durable when it returns.

    The object stays the same while the file exists, whatever is restored into it.

    Attributes:
        misaligned: writes so far (of this process) that did not begin and end at a block boundary, and so had to read
            the rest of a block first.
    """

    __slots__ = (
        "_charged",
        "_counter",
        "_log_limit",
        "_log_number",
        "_prepaid",
        "_reserved",
        "_tag",
        "_volume",
        "_words",
        "misaligned",
        "row",
    )

    def __init__(self, volume: VolumeBlocks, path: str, record: FileRecord) -> None:
        super().__init__(volume.engine, path, record)
        self._volume = volume
        self._renumber(record.number)
        self._reserved = record.reserved
        self._charged = volume.number
        log = volume.engine.log
        self._counter, self._words, self._log_limit = log.counter, log.words, log.limit
        self.misaligned = 0
        self.row = ("file", f"{volume.number}:{path}")
        self.settle_reservation()

    def _renumber(self, number: int) -> None:
        self._log_number = number
        self._tag = number << FILE_SHIFT

    def settle_reservation(self) -> None:
        """Take over whether the volume's space guarantee backs the reservation of this file."""
        # the hot path then fills holes without looking at the volume's room
        self._prepaid = self._reserved and self._volume.guarantee

    def record(self) -> FileRecord:
        """The row that describes the file now."""
        return FileRecord(self._log_number, self.size, self._root, self._mapped, self._reserved)

    @property
    def height(self) -> int:
        """Levels of pointer pages."""
        return self._height

    @property
    def root(self) -> int:
        """Root page in the pool, 0 if every block is a hole."""
        return self._root

    @property
    def number(self) -> int:
        """By which the log knows the present contents."""
        return self._log_number

    @property
    def mapped(self) -> int:
        """Blocks that are not holes."""
        return self._mapped

    @property
    def reserved_holes(self) -> int:
        """Blocks that the volume holds free for this file's holes."""
        return -(-self.size // BLOCK) - self._mapped if self._reserved else 0

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

    def moved_to(self, path: str) -> None:
        """The file has another name."""
        self.path = path
        self.row = ("file", f"{self._volume.number}:{path}")
        self.changed()

    def changed(self) -> None:
        """Have the row written by the next consistency point."""
        self._engine.changes[self.row] = self

    # writing

    def write(self, offset: int, data: bytes) -> None:
        """Store bytes; all or none of them survive a crash, up to 16 MiB.

        Raises:
            OutOfSpace: the volume or aggregate is full; nothing was written.
            DeviceError: the range is not inside the file. DeviceGone: the file was deleted.
        """
        # One aligned block into a leaf that is ours: everything below does the same for any write, slowly.
        # The numbers are written out because looking names up takes as long as the work itself.
        leaf = self._own.get(offset >> 21)
        if leaf is not None and len(data) == 4096 and not offset & 4095 and offset <= self._last:
            counter = self._counter
            at = counter[0]
            pool = self._pool
            if at < self._log_limit and pool.free:
                block = offset >> 12
                old = leaf[block & 511]
                if old and pool.counts[old] == 1:
                    pool.pinned.append(old)
                elif not self._consume(old):
                    self._write(offset, data)
                    return
                place = pool.free.pop()
                byte = place << 12
                pool.map[byte : byte + 4096] = data
                pool.charged[place] = self._charged
                leaf[block & 511] = place
                words = self._words
                words[at] = self._tag | block
                words[at + 1] = place
                counter[0] = at + 2
                return
        self._write(offset, data)

    def _consume(self, old: int) -> bool:
        """Account for filling a hole or parting with a shared block; False if the volume must be asked first."""
        volume = self._volume
        if not old and self._prepaid:
            volume.ceiling += 1
            self._mapped += 1
            return True
        if volume.room < 1:
            return False
        volume.room -= 1
        if old:
            self._pool.counts[old] -= 1
        else:
            self._mapped += 1
        return True

    def _write(self, offset: int, data: bytes) -> None:
        length = len(data)
        self._inside(offset, length)
        if not length:
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
        breaks = np.flatnonzero(np.diff(places) != 1) + 1
        starts = [0, *breaks.tolist(), count]
        if len(starts) == 2:
            pool.map[int(places[0]) * BLOCK : (int(places[0]) + count) * BLOCK] = data
        else:
            pool.blocks[places] = np.frombuffer(data, np.uint8).reshape(count, BLOCK)
        self.point_many(first, places)
        for at, stop in pairwise(starts):
            log.add(self._log_number, first + at, stop - at, int(places[at]))

    def _old_place(self, block: int) -> int:
        return self._leaf(block >> SHIFT)[block & FANOUT - 1]

    def _old(self, block: int) -> bytes:
        place = self._old_place(block)
        return self._engine.pool.map[place * BLOCK : (place + 1) * BLOCK] if place else ZEROS

    def point_one(self, block: int, place: int) -> None:
        """Point a block at a place (with its one reference) and give the old one up."""
        pool, volume = self._engine.pool, self._volume
        leaf = self._own.get(block >> SHIFT)
        if leaf is None:
            leaf = self.own_leaf(block >> SHIFT)
        old = leaf[block & FANOUT - 1]
        leaf[block & FANOUT - 1] = place
        pool.charged[place] = volume.number
        volume.room -= 1
        if not old:
            self._mapped += 1
            if self._prepaid:
                volume.room += 1
                volume.ceiling += 1
            return
        if pool.counts[old] == 1:
            pool.pinned.append(old)
            volume.room += 1
        else:
            pool.counts[old] -= 1

    def point_many(self, first: int, places: Places) -> None:
        """Point consecutive blocks at places (with one reference each) and give the old ones up."""
        pool, volume = self._engine.pool, self._volume
        pool.owners[places] = volume.number
        done = 0
        while done < len(places):
            block = first + done
            slot = block & FANOUT - 1
            count = min(FANOUT - slot, len(places) - done)
            leaf = self._own.get(block >> SHIFT)
            if leaf is None:
                leaf = self.own_leaf(block >> SHIFT)
            pointers = np.frombuffer(leaf, np.int64)[slot : slot + count]
            old = pointers[pointers != 0]
            pointers[:] = places[done : done + count]
            volume.room -= count
            holes = count - len(old)
            self._mapped += holes
            if self._prepaid:
                volume.room += holes
                volume.ceiling += holes
            volume.drop_data(old)
            done += count

    def own_leaf(self, index: int) -> memoryview:
        """The pointers of a leaf, copied first if anybody else needs it as it is."""
        engine, volume = self._engine, self._volume
        pool = engine.pool
        pointers = pool.pointers
        page = self._root = own_page(pool, volume, self._root)
        for level in range(self._height - 1, 0, -1):
            at = page * FANOUT + (index >> SHIFT * (level - 1) & FANOUT - 1)
            child = pointers[at]
            page = own_page(pool, volume, child)
            if page != child:
                pointers[at] = page
        leaf = pointers[page * FANOUT : (page + 1) * FANOUT]
        self._own[index] = leaf
        engine.writers[self] = None
        self.changed()
        return leaf

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

    def consumption(self, first: int, end: int) -> tuple[int, int]:
        """How many holes a write of these blocks would fill, and how many shared blocks it would part with."""
        pool = self._engine.pool
        holes = shared = 0
        block = first
        while block < end:
            stop = min(end, (block | FANOUT - 1) + 1)
            page, alone = self._root, True
            for level in range(self._height - 1, 0, -1):
                alone = alone and pool.counts[page] == 1
                page = pool.pointers[page * FANOUT + (block >> SHIFT * level & FANOUT - 1)]
            alone = alone and pool.counts[page] == 1
            slot = block & FANOUT - 1
            old = pool.rows[page, slot : slot + stop - block]
            old = old[old != 0]
            holes += stop - block - len(old)
            shared += int(np.count_nonzero(pool.refs[old] > 1)) if alone else len(old)
            block = stop
        return holes, shared

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

    def make_holes(self, first: int, end: int) -> None:
        """Unmap whole blocks, without a record in the log."""
        if end * BLOCK >= self.size:
            end = FANOUT**self._height  # nothing is behind the end: whole pages can go
        self.forget_pages()
        volume = self._volume
        self._root, count = unmap(self._engine.pool, volume, self._root, self._height, first, end)
        self._mapped -= count
        if self._reserved:  # these blocks are held for the file again, not free for others
            volume.end_lease()
        volume.version += 1
        self.changed()

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

    # for the volume

    def fit(self, size: int) -> None:
        """Change the size and the height of the tree; what would lie beyond the end must be holes already."""
        pool, volume = self._pool, self._volume
        self.forget_pages()
        height = height_for(size)
        while self._height < height:
            if self._root:
                page = own_page(pool, volume, 0)
                pool.pointers[page * FANOUT] = self._root
                self._root = page
            self._height += 1
        while self._height > height:
            if self._root:
                top = own_page(pool, volume, self._root)
                self._root = pool.pointers[top * FANOUT]
                pool.pointers[top * FANOUT] = 0
                drop_root(pool, volume, top, self._height)
            self._height -= 1
        self._measure(size)
        self.changed()

    def count_mapped(self, blocks: int) -> None:
        """So many more blocks are no holes."""
        self._mapped += blocks

    def share(self) -> int:
        """The root, for another owner to take a reference of; from now on a write copies."""
        self.settle()
        return self._root

    def settle(self) -> None:
        """No leaf may be changed in place any longer (shared, or a consistency point)."""
        self._seen.update(self._own)
        self._own.clear()

    def replace(self, record: FileRecord) -> None:
        """Take other contents over (whose references the caller has arranged); the object stays the same."""
        self.forget_pages()
        self._renumber(record.number)
        self._root = record.root
        self._mapped = record.mapped
        self._measure(record.size)
        self._reserved = record.reserved
        self.settle_reservation()
        self.changed()

    def move_root(self, root: int) -> None:
        """The same contents in another tree (after deduplication or a split)."""
        self.forget_pages()
        self._root = root
        self.changed()
