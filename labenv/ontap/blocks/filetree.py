"""The tree of a file in the active file system, and how it changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from labenv.ontap.blocks.log import FILE_SHIFT
from labenv.ontap.blocks.pool import BLOCK, FANOUT, ZEROS, Places
from labenv.ontap.blocks.reader import FileReader
from labenv.ontap.blocks.records import FileRecord
from labenv.ontap.blocks.tree import SHIFT, drop_root, height_for, own_page, unmap

if TYPE_CHECKING:
    from labenv.ontap.blocks.account import VolumeAccount


class FileTree(FileReader):
    """A file whose blocks can be pointed elsewhere; what that costs is charged to its volume.

    Leaves that were copied since the last consistency point may be changed in place. Those of which every block is
    ours alone, and that lie wholly inside the file, are in ``_own``, where the quick path of a write finds them; the
    others are in ``_mixed``. Nothing can begin to share a block of such a leaf without ``settle`` before.
    """

    __slots__ = ("_log_number", "_mixed", "_prepaid", "_reserved", "_tag", "_volume", "row")

    def __init__(self, volume: VolumeAccount, path: str, record: FileRecord) -> None:
        super().__init__(volume.engine, path, record)
        self._volume = volume
        self._mixed: dict[int, memoryview] = {}
        self._log_number = record.number
        self._tag = record.number << FILE_SHIFT
        self._reserved = record.reserved
        self.row = ("file", f"{volume.number}:{path}")
        self.settle_reservation()

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
    def home(self) -> int:
        """Number of the volume."""
        return self._volume.number

    @property
    def mapped(self) -> int:
        """Blocks that are not holes."""
        return self._mapped

    @property
    def reserved_holes(self) -> int:
        """Blocks that the volume holds free for this file's holes."""
        return -(-self.size // BLOCK) - self._mapped if self._reserved else 0

    def settle_reservation(self) -> None:
        """Take over whether the volume's space guarantee backs the reservation of this file."""
        # the hot path then fills holes without looking at the volume's room
        self._prepaid = self._reserved and self._volume.guarantee

    def moved_to(self, path: str) -> None:
        """The file has another name."""
        self.path = path
        self.row = ("file", f"{self._volume.number}:{path}")
        self.changed()

    def changed(self) -> None:
        """Have the row written by the next consistency point."""
        self._engine.changes[self.row] = self

    # one or many blocks

    def _old_place(self, block: int) -> int:
        return self._leaf(block >> SHIFT)[block & FANOUT - 1]

    def _old(self, block: int) -> bytes:
        place = self._old_place(block)
        return self._engine.pool.map[place * BLOCK : (place + 1) * BLOCK] if place else ZEROS

    def _writable(self, index: int) -> memoryview:
        leaf = self._own.get(index) or self._mixed.get(index)
        return self.own_leaf(index) if leaf is None else leaf

    def point_one(self, block: int, place: int) -> None:
        """Point a block at a place (with its one reference) and give the old one up."""
        pool, volume = self._engine.pool, self._volume
        leaf = self._writable(block >> SHIFT)
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
            leaf = self._writable(block >> SHIFT)
            pointers = np.frombuffer(leaf, np.int64)[slot : slot + count]
            old = pointers[pointers != 0]
            pointers[:] = places[done : done + count]
            volume.room -= count
            holes = count - len(old)
            self._mapped += holes
            if self._prepaid:
                volume.room += holes
                volume.ceiling += holes
            if block >> SHIFT in self._own:  # nobody else has them
                pool.pin(old)
                volume.room += len(old)
            else:
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
        if index + 1 << SHIFT <= self.size >> 12 and not (pool.refs[pool.rows[page]] > 1).any():
            self._own[index] = leaf
        else:
            self._mixed[index] = leaf
            self._seen[index] = leaf  # for readers
        engine.writers[self] = None
        self.changed()
        return leaf

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
        self._mixed.clear()

    def replace(self, record: FileRecord) -> None:
        """Take other contents over (whose references the caller has arranged); the object stays the same."""
        self.forget_pages()
        self._engine.charge()  # the log's records so far are of the old number
        self._log_number = record.number
        self._tag = record.number << FILE_SHIFT
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

    def forget_pages(self) -> None:
        """Look the tree up again at the next access."""
        super().forget_pages()
        self._mixed.clear()
