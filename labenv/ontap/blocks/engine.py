"""What the parts of the block store share: pool, log, and what waits for the next consistency point."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import numpy as np

from labenv.ontap.blocks.errors import NotPossible
from labenv.ontap.blocks.log import COUNT_SHIFT, FILE_SHIFT, FIRST, MOST_NUMBERS, OperationLog
from labenv.ontap.blocks.pool import Pool
from labenv.ontap.blocks.records import AggregateRecord, FileRecord, SnapshotRecord, VolumeRecord

if TYPE_CHECKING:
    from labenv.ontap.blocks.filetree import FileTree

_LOOP = 12
_MOST_PINNED = 65536  # blocks; else rewriting a file again and again would only make the pool longer


class Recorded(Protocol):
    """Something with a row in the state file."""

    def record(self) -> FileRecord | SnapshotRecord | VolumeRecord | AggregateRecord:
        """The row as it is now."""


class Engine:
    """One pool with its log.

    Attributes:
        changes: rows to be written by the next consistency point; None: deleted.
        writers: files that have leaves which may be changed in place.
        commit: makes a consistency point.
    """

    def __init__(self, pool: Pool, log: OperationLog, commit: Callable[[], None]) -> None:
        self.pool = pool
        self.log = log
        self.commit = commit
        self.changes: dict[tuple[str, str], Recorded | None] = {}
        self.writers: dict[FileTree, None] = {}
        self.next_number = 1
        self._charged = log.counter[0]

    def number(self) -> int:
        """The next number for a volume, Snapshot copy or file; never given twice."""
        number = self.next_number
        if number >= MOST_NUMBERS:
            raise NotPossible("the block store has given all its numbers: start the lab with a new state folder")
        self.next_number += 1
        return number

    def prepare(self, blocks: int, pages: int) -> None:
        """Have everything ready that an operation on so many blocks needs, so that it cannot fail half-way.

        Raises:
            OutOfSpace: the disk of this machine is full.
        """
        if self.log.free < blocks or self.pool.pinned_bulk > _MOST_PINNED:
            self.commit()
        if blocks < _LOOP:
            self.pool.prepare(pages + blocks, relieve=self.commit)
        else:
            self.pool.prepare(pages, blocks, relieve=self.commit)

    def charge(self) -> None:
        """Enter the owners of the blocks that quick writes took; the log knows them."""
        start, end = self._charged, self.log.counter[0]
        if start == end:
            return
        self._charged = end
        words = np.frombuffer(self.log.words, np.uint64)[start:end].reshape(-1, 2)
        quick = words[:, 1] < 1 << COUNT_SHIFT
        files = (words[quick, 0] >> np.uint64(FILE_SHIFT)).astype(np.int64)
        if not len(files):
            return
        lowest = int(files.min())
        homes = np.zeros(int(files.max()) - lowest + 1, np.int32)
        for file in self.writers:
            if lowest <= file.number < lowest + len(homes):
                homes[file.number - lowest] = file.home
        self.pool.owners[words[quick, 1].astype(np.int64)] = homes[files - lowest]

    def retire(self, file: FileTree) -> None:
        """A file is about to be deleted."""
        self.charge()
        self.writers.pop(file, None)
        self.changes[file.row] = None

    def settled(self) -> None:
        """A consistency point is durable: its pages must not change any more, and what it gave up is free."""
        for file in self.writers:
            file.settle()
        self.writers = {}
        self.changes = {}
        self._charged = FIRST
        self.pool.release(2 * self.log.capacity)
