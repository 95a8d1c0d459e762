"""A Snapshot copy of a volume."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np

from labenv.ontap.blocks.pool import BLOCK
from labenv.ontap.blocks.reader import SnapshotFile
from labenv.ontap.blocks.records import FileRecord, SnapshotRecord
from labenv.ontap.blocks.tree import changed, height_for

if TYPE_CHECKING:
    from labenv.ontap.blocks.volume import VolumeBlocks


class SnapshotBlocks:
    """A Snapshot copy.

    Attributes:
        name: as it is called now. number: never changes.
    """

    def __init__(self, volume: VolumeBlocks, record: SnapshotRecord) -> None:
        self._volume = volume
        self.number = record.number
        self.name = record.name
        self.records = record.files
        self._files: dict[str, SnapshotFile] = {}
        self._gone = ""

    def record(self) -> SnapshotRecord:
        """The row that describes the Snapshot copy now."""
        return SnapshotRecord(self._volume.number, self.number, self.name, self.records)

    @property
    def row(self) -> tuple[str, str]:
        """Where the row is."""
        return ("snapshot", f"{self._volume.number}/{self.number}")

    @property
    def files(self) -> Mapping[str, SnapshotFile]:
        """The files as they were, by path; read-only."""
        return _SnapshotFiles(self)

    def file(self, path: str) -> SnapshotFile:
        """One file; raises KeyError if there was none at that path."""
        file = self._files.get(path)
        if file is None:
            file = self._files[path] = SnapshotFile(self._volume.engine, path, self.records[path])
            if self._gone:
                file.fence(self._gone)
        return file

    def roots(self) -> Iterator[tuple[int, int]]:
        """Root and height of each file."""
        return ((r.root, height_for(r.size)) for r in self.records.values())

    @property
    def busy(self) -> bool:
        """Whether a FlexClone volume is backed by it."""
        return any(c.parent_snapshot == self.number for c in self._volume.clones.values())

    @property
    def size(self) -> int:
        """Bytes that were overwritten or deleted between it and the next Snapshot copy (or now)."""
        later = self._volume.after(self)
        numbers = {record.number: record for record in later.values()}
        pool = self._volume.engine.pool
        count = 0
        for path, record in self.records.items():
            new = numbers.get(record.number) or later.get(path)
            difference = changed(
                pool,
                (record.root, height_for(record.size)),
                (new.root, height_for(new.size)) if new is not None else (0, 1),
            )
            count += int(np.count_nonzero(difference.old))
        return count * BLOCK

    def replace_records(self, records: dict[str, FileRecord]) -> None:
        """The same contents in other trees (after a split)."""
        self.records = records
        for file in self._files.values():
            file.fence("was moved")
        self._files = {}

    def fence(self, reason: str) -> None:
        """Refuse every later access to its files."""
        self._gone = reason
        for file in self._files.values():
            file.fence(reason)


class _SnapshotFiles(Mapping[str, SnapshotFile]):
    def __init__(self, snapshot: SnapshotBlocks) -> None:
        self._snapshot = snapshot

    def __getitem__(self, path: str) -> SnapshotFile:
        return self._snapshot.file(path)

    def __iter__(self) -> Iterator[str]:
        return iter(self._snapshot.records)

    def __len__(self) -> int:
        return len(self._snapshot.records)
