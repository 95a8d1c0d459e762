"""The pool: one memory-mapped file of 4 KiB blocks that holds data and pointer pages, with their reference counts."""

from __future__ import annotations

import errno
import mmap
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import numpy.typing as npt

from labenv.devices import OutOfSpace

BLOCK = 4096
"""Bytes of a block."""

FANOUT = BLOCK // 8
"""Pointers in a page."""

SEGMENT = 64 * 1024 * 1024 // BLOCK
"""Blocks by which the file grows at least."""

WAITING = 1
"""Count of a block outside every tree that no scan may find: pinned, or ready to be popped or taken.

Not 0, and the count that it will have in its next use, so that the write path need not set it.
"""

ZEROS = bytes(BLOCK)
ONE = np.int32(1)  # a plain 1 makes numpy's ufunc.at fifteen times slower
_BATCH = 4096
_ALWAYS = 1  # more would look shared

Places = npt.NDArray[np.int64]
"""Block numbers of the pool."""


class Pool:
    """Blocks by number, from 0. Block 0 holds zeros for ever: a pointer of 0 is a hole and reads like any other.

    A block that loses its last reference is *pinned* until the next consistency point, because the last one still
    needs it; so what is on disk at any moment is the last consistency point's image plus blocks that it does not know.

    The file grows by mapping it anew at its greater length. Mappings of the same file show the same bytes, so views
    of an older mapping stay good while somebody holds them; no platform needs to resize a mapping in use.

    Attributes:
        map: the mapping; slices of it are the blocks' bytes.
        pointers: the pool as 64-bit pointers; the page at block b is ``pointers[b * FANOUT:(b + 1) * FANOUT]``.
        rows, blocks: the same for numpy, one row per block.
        refs: references to each block from files, Snapshot copies and pages; ``counts`` is a quick view of it.
        owners: number of the volume that is charged for each block; ``charged`` is a quick view of it. What the quick
            path of a write took is entered by ``Engine.charge``.
        kept: whether a checkpoint of the lab needs the block.
        free: blocks ready to be popped. pinned: blocks to be freed by the next consistency point. Both are the same
            lists for ever; ``pinned_bulk`` more are pinned in arrays.
        aside: blocks that hold copies made ahead of their use, by who made them.
        fresh: pages born since the last consistency point; only these may be changed in place.
    """

    __slots__ = (
        "_bulk",
        "_bulk_at",
        "_cursor",
        "_file",
        "_has_kept",
        "_idle",
        "_pinned_bulk",
        "_segment",
        "aside",
        "blocks",
        "charged",
        "counts",
        "free",
        "fresh",
        "kept",
        "map",
        "owners",
        "pinned",
        "pinned_bulk",
        "pointers",
        "refs",
        "rows",
    )

    def __init__(self, path: Path, *, segment: int = SEGMENT) -> None:
        self._segment = segment
        if not path.exists():
            path.touch()
        self._file = path.open("r+b", buffering=0)
        blocks = path.stat().st_size // BLOCK
        self.refs: npt.NDArray[np.int32] = np.zeros(0, np.int32)
        self.owners: npt.NDArray[np.int32] = np.zeros(0, np.int32)
        self.kept: npt.NDArray[np.bool_] = np.zeros(0, np.bool_)
        self._has_kept = False
        self.free: list[int] = []
        self.pinned: list[int] = []
        self._pinned_bulk: list[Places] = []
        self.pinned_bulk = 0
        self.aside: dict[object, list[Places]] = {}
        self._bulk: Places = np.zeros(0, np.int64)
        self._bulk_at = 0
        self.fresh: set[int] = set()
        self._cursor = 1
        self._idle = 0
        if blocks:
            self._open(blocks)
        else:
            self._grow(segment)
        self.recount()

    @property
    def size(self) -> int:
        """Blocks in the file."""
        return len(self.refs)

    def _grow(self, blocks: int) -> None:
        old = len(self.refs)
        step = max(self._segment, old // 4, blocks)
        new = old + -(-step // self._segment) * self._segment
        try:
            self._lengthen(old * BLOCK, new * BLOCK)
        except OSError as error:
            raise OutOfSpace(
                f"the lab's block pool cannot grow by {(new - old) * BLOCK >> 20} MiB, because the disk of this "
                f"machine has no room ({error.strerror}): free some, or start the lab with its state on another disk"
            ) from error
        self._open(new)
        self._idle += new - old

    def _lengthen(self, old: int, new: int) -> None:
        if hasattr(os, "posix_fallocate"):
            # without its space a full disk of the machine would kill the process at the first touch
            try:
                os.posix_fallocate(self._file.fileno(), old, new - old)
                return
            except OSError as error:
                if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
                    raise
        self._file.truncate(new)

    def _open(self, blocks: int) -> None:
        self.map = mmap.mmap(self._file.fileno(), blocks * BLOCK)
        self.pointers = memoryview(self.map).cast("q")
        self.rows: npt.NDArray[np.int64] = np.frombuffer(self.map, np.int64).reshape(blocks, FANOUT)
        self.blocks: npt.NDArray[np.uint8] = np.frombuffer(self.map, np.uint8).reshape(blocks, BLOCK)
        old = len(self.refs)
        self.refs = np.concatenate([self.refs, np.zeros(blocks - old, np.int32)])
        self.owners = np.concatenate([self.owners, np.zeros(blocks - old, np.int32)])
        self.kept = np.concatenate([self.kept, np.zeros(blocks - old, np.bool_)])
        self.refs[0] = _ALWAYS
        self.counts = self.refs.data
        self.charged = self.owners.data

    def recount(self) -> None:
        """Forget what is free and pinned, and take it from ``refs`` and ``kept`` again (after a mount or restore)."""
        self.free.clear()
        self.pinned.clear()
        self._pinned_bulk = []
        self.pinned_bulk = 0
        self.aside.clear()
        self._bulk = np.zeros(0, np.int64)
        self._bulk_at = 0
        self.fresh = set()
        self._cursor = 1
        self.refs[0] = _ALWAYS
        self.kept_changed()

    def clear(self) -> None:
        """Set every count to zero, before counting again."""
        self.refs[:] = 0
        self.owners[:] = 0
        self.refs[0] = _ALWAYS

    # allocation

    def prepare(self, singles: int, bulk: int = 0, *, relieve: Callable[[], None] | None = None) -> None:
        """Have blocks ready for an operation that must not fail half-way.

        Args:
            singles: blocks that ``pop`` will give. bulk: blocks that ``take`` will give at once.
            relieve: called (once) to free pinned blocks if the file cannot grow.

        Raises:
            OutOfSpace: the disk of this machine is full.
        """
        try:
            if len(self.free) < singles:
                self.free[:0] = self._scan(singles - len(self.free) + _BATCH)[::-1].tolist()
            if len(self._bulk) - self._bulk_at < bulk:
                found = self._scan(bulk - (len(self._bulk) - self._bulk_at) + _BATCH)
                self._bulk = np.concatenate([self._bulk[self._bulk_at :], found])
                self._bulk_at = 0
        except OutOfSpace:
            if relieve is None:
                raise
            relieve()
            self.prepare(singles, bulk)

    def _scan(self, count: int) -> Places:
        """Find and mark at least ``count`` free blocks, in rising order except for one wrap."""
        if self._idle < max(count, len(self.refs) // 16):
            self._grow(count - self._idle)
        found: list[Places] = []
        missing = count
        while missing > 0:
            end = min(self._cursor + 4 * _BATCH, len(self.refs))
            window = self.refs[self._cursor : end] == 0
            if self._has_kept:
                window &= ~self.kept[self._cursor : end]
            places = np.flatnonzero(window)[:missing] + self._cursor
            if len(places) == missing:
                end = int(places[-1]) + 1
            self.refs[places] = WAITING
            found.append(places)
            missing -= len(places)
            self._cursor = end if end < len(self.refs) else 1
        self._idle -= count
        return np.concatenate(found)

    def pop(self) -> int:
        """One block, with one reference; ``prepare`` must have been called."""
        return self.free.pop()

    def take(self, count: int) -> Places:
        """Blocks of one write, with one reference each; ``prepare`` must have been called."""
        at = self._bulk_at
        self._bulk_at = at + count
        return self._bulk[at : at + count]

    def pin(self, places: Places) -> None:
        """Blocks that lost their last reference; no number may occur twice."""
        if not len(places):
            return
        self.refs[places] = WAITING
        self._pinned_bulk.append(places)
        self.pinned_bulk += len(places)

    def release(self, keep_ready: int) -> None:
        """Free what is pinned: a consistency point without it is durable.

        Args:
            keep_ready: at most so many blocks stay ready to be popped; those that were used last come first,
                because their memory is warm.
        """
        places = np.sort(np.array(self.pinned, np.int64))[::-1]  # popped in rising order, random writes go side by side
        if self._has_kept:
            keep = self.kept[places]
            self.refs[places[keep]] = 0
            places = places[~keep]
        self.free.extend(places.tolist())
        self.pinned.clear()
        if len(self.free) > keep_ready:
            surplus = np.array(self.free[:-keep_ready], np.int64)
            del self.free[:-keep_ready]
            self.refs[surplus] = 0
            self._idle += len(surplus)
        for places in self._pinned_bulk:
            self.refs[places] = 0
            self._idle += int(np.count_nonzero(~self.kept[places])) if self._has_kept else len(places)
        self._pinned_bulk = []
        self.pinned_bulk = 0
        self.fresh = set()

    def keep(self) -> None:
        """Keep every block that is in use now, for a checkpoint."""
        in_use = self.refs > 0
        in_use[self.waiting()] = False
        np.logical_or(self.kept, in_use, out=self.kept)
        self.kept[0] = False
        self._has_kept = True

    def kept_changed(self) -> None:
        """``kept`` was computed anew."""
        self.kept[0] = False
        self._has_kept = bool(self.kept.any())
        self._idle = int(np.count_nonzero((self.refs == 0) & ~self.kept))

    def waiting(self) -> Places:
        """Blocks that are pinned, set aside, or ready to be popped or taken."""
        lists = [np.array(self.free, np.int64), np.array(self.pinned, np.int64), self._bulk[self._bulk_at :]]
        aside = [places for copies in self.aside.values() for places in copies]
        return np.concatenate([*lists, *self._pinned_bulk, *aside])

    def free_aside(self, owner: object) -> None:
        """Free the copies that somebody made and nobody has used."""
        for places in self.aside.pop(owner, []):
            self.refs[places] = 0
            self._idle += len(places)

    def close(self) -> None:
        """Drop every view of the mapping and close the file."""
        self.pointers.release()
        del self.rows, self.blocks
        with suppress(BufferError):  # somebody still holds a view: the mapping goes with it
            self.map.close()
        self._file.close()
