"""A volume: its active file system and its Snapshot copies."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from labenv.ontap.blocks.account import VolumeAccount
from labenv.ontap.blocks.dedup import deduplicate_steps
from labenv.ontap.blocks.errors import NameInUse, NotPossible, SnapshotBusy
from labenv.ontap.blocks.file import BlockFile
from labenv.ontap.blocks.pool import BLOCK, ONE
from labenv.ontap.blocks.ranges import Range, check_ranges, clone_ranges
from labenv.ontap.blocks.records import FileRecord, SnapshotRecord
from labenv.ontap.blocks.snapshot import SnapshotBlocks
from labenv.ontap.blocks.split import split_steps
from labenv.ontap.blocks.staging import Steps, finish
from labenv.ontap.blocks.tree import drop_root, height_for


class VolumeBlocks(VolumeAccount):
    """One volume. Changes other than writes are durable at the next ``State.commit``."""

    # files

    def _file(self, path: str) -> BlockFile:
        file = self.files.get(path)
        if file is None:
            raise KeyError(f"no file {path} in the volume")
        return file

    def _vacant(self, path: str) -> None:
        if path in self.files:
            raise NameInUse(f"{path} exists already: choose another name, or delete it first")

    def _add_file(self, path: str, record: FileRecord) -> BlockFile:
        file = self.files[path] = BlockFile(self, path, record)
        file.changed()
        return file

    def create_file(self, path: str, size: int, *, reserved: bool) -> BlockFile:
        """A file of zeros. Raises ``NameInUse``, or ``OutOfSpace`` if its reservation does not fit."""
        self._exists()
        self._vacant(path)
        if size <= 0:
            raise NotPossible(f"{path}: a size of {size} bytes is not possible; give a positive size")
        if reserved:
            self.demand(-(-size // BLOCK), f"reserve space for {path}")
        self.shaken()
        return self._add_file(path, FileRecord(self.engine.number(), size, 0, 0, reserved))

    def delete_file(self, path: str) -> None:
        """Delete a file; its object then raises ``DeviceGone``."""
        file = self._file(path)
        root, height = file.root, file.height
        del self.files[path]
        file.fence("was deleted")
        self.engine.retire(file)
        drop_root(self.engine.pool, self, root, height)
        self.shaken()

    def rename_file(self, source: str, destination: str) -> None:
        """Rename or move a file inside the volume; its object stays."""
        file = self._file(source)
        self._vacant(destination)
        self.engine.changes[file.row] = None
        renamed = {destination if path == source else path: f for path, f in self.files.items()}
        self.files.clear()
        self.files.update(renamed)
        file.moved_to(destination)

    def clone_file(
        self, source: str, destination: str, *, snapshot: str | None = None, overwrite: bool = False
    ) -> BlockFile:
        """A file that shares every block with a file of the active file system or of a Snapshot copy.

        With ``overwrite`` the destination may exist: its object stays and gets the contents and size (single-file
        SnapRestore, also onto the source's own path).

        Raises:
            KeyError: no such source or Snapshot copy. NameInUse: the destination exists.
            OutOfSpace: the source is reserved and the volume has not the room for its holes.
        """
        if snapshot is None:
            record = self._file(source).record()
        else:
            records = self.snapshots[snapshot].records
            if source not in records:
                raise KeyError(f"no file {source} in Snapshot copy {snapshot}")
            record = records[source]
        existing = self.files.get(destination)
        if existing is not None and not overwrite:
            self._vacant(destination)
        held = existing.reserved_holes if existing is not None else 0
        if record.reserved:
            self.demand(-(-record.size // BLOCK) - record.mapped - held, f"reserve space for {destination}")
        if existing is not None and snapshot is None and source == destination:
            return existing
        if snapshot is None:
            self._file(source).share()
        file = self.take_over(destination, replace(record, number=self.engine.number()))
        self.shaken()
        return file

    def clone_ranges(
        self, source: str, destination: str, ranges: Sequence[Range], *, snapshot: str | None = None
    ) -> None:
        """Let parts of a file share the blocks of another file, or of one in a Snapshot copy.

        Raises:
            KeyError: no such file or Snapshot copy. NotPossible: the ranges overlap, or leave a file.
            OutOfSpace: no room for what changes; nothing was changed.
        """
        file = self._file(destination)
        if snapshot is None:
            self._file(source).settle()
            record = self._file(source).record()
        elif source in self.snapshots[snapshot].records:
            record = self.snapshots[snapshot].records[source]
        else:
            raise KeyError(f"no file {source} in Snapshot copy {snapshot}")
        same = snapshot is None and source == destination
        check_ranges(ranges, source=record.size, destination=file.size, same=same)
        file.settle()
        clone_ranges(self, record, height_for(record.size), file, ranges)

    def take_over(self, path: str, record: FileRecord) -> BlockFile:
        """Make a file, or change the one at that path, so that it has a tree that others have, too."""
        self._refer(record)
        file = self.files.get(path)
        if file is None:
            return self._add_file(path, record)
        root, height = file.root, file.height
        file.replace(record)
        drop_root(self.engine.pool, self, root, height)
        return file

    def _refer(self, *records: FileRecord) -> None:
        roots = np.array([r.root for r in records if r.root], np.int64)
        np.add.at(self.engine.pool.refs, roots, ONE)

    # Snapshot copies

    def _snapshot(self, name: str) -> SnapshotBlocks:
        snapshot = self.snapshots.get(name)
        if snapshot is None:
            raise KeyError(f"no Snapshot copy {name} in the volume")
        return snapshot

    def create_snapshot(self, name: str) -> SnapshotBlocks:
        """Keep the active file system as it is now. Raises ``NameInUse``."""
        self._exists()
        if name in self.snapshots:
            raise NameInUse(f"Snapshot copy {name} exists already: choose another name, or delete it first")
        self.active_blocks()
        records = {}
        for path, file in self.files.items():
            file.share()
            records[path] = file.record()
        self._refer(*records.values())
        snapshot = SnapshotBlocks(self, SnapshotRecord(self.number, self.engine.number(), name, records))
        self.snapshots[name] = snapshot
        self.engine.changes[snapshot.row] = snapshot
        self.shaken()
        return snapshot

    def delete_snapshot(self, name: str) -> None:
        """Delete a Snapshot copy. Raises ``SnapshotBusy`` if a FlexClone volume is backed by it."""
        snapshot = self._snapshot(name)
        self._not_busy(snapshot)
        self._drop_snapshots([snapshot])

    def _not_busy(self, snapshot: SnapshotBlocks) -> None:
        if snapshot.busy:
            raise SnapshotBusy(
                f"Snapshot copy {snapshot.name} is busy: a FlexClone volume is backed by it; split or delete the clone"
            )

    def _drop_snapshots(self, snapshots: Iterable[SnapshotBlocks]) -> None:
        for snapshot in snapshots:
            del self.snapshots[snapshot.name]
            self.engine.changes[snapshot.row] = None
            snapshot.fence("its Snapshot copy was deleted")
            for root, height in snapshot.roots():
                drop_root(self.engine.pool, self, root, height)
        self.shaken()

    def rename_snapshot(self, old: str, new: str) -> None:
        """Rename a Snapshot copy; it keeps its place in the order. Raises ``NameInUse``."""
        snapshot = self._snapshot(old)
        if new in self.snapshots:
            raise NameInUse(f"Snapshot copy {new} exists already: choose another name, or delete it first")
        renamed = {new if name == old else name: s for name, s in self.snapshots.items()}
        self.snapshots.clear()
        self.snapshots.update(renamed)
        snapshot.name = new
        self.engine.changes[snapshot.row] = snapshot

    def newer_snapshots(self, name: str) -> list[SnapshotBlocks]:
        """Snapshot copies that a volume SnapRestore to ``name`` drops."""
        number = self._snapshot(name).number
        return [s for s in self.snapshots.values() if s.number > number]

    def restore_snapshot(self, name: str) -> None:
        """Volume SnapRestore: the active file system becomes what it was; newer Snapshot copies are dropped.

        Files that exist now and then keep their objects.

        Raises:
            SnapshotBusy: a FlexClone volume is backed by a newer Snapshot copy.
        """
        snapshot = self._snapshot(name)
        newer = self.newer_snapshots(name)
        for other in newer:
            self._not_busy(other)
        before = dict(self.files)
        self.files.clear()
        for path, record in snapshot.records.items():
            if path in before:
                self.files[path] = before.pop(path)
            self.take_over(path, replace(record, number=self.engine.number()))
        for file in before.values():
            root, height = file.root, file.height
            file.fence("is not part of the Snapshot copy that was restored")
            self.engine.retire(file)
            drop_root(self.engine.pool, self, root, height)
        self._drop_snapshots(newer)

    # efficiency

    def deduplicate(self) -> int:
        """``deduplicate_steps``, all at once."""
        return finish(deduplicate_steps(self))

    def deduplicate_steps(self) -> Steps[int]:
        """Let equal blocks of the active file system share their place (compared byte by byte).

        What is written between two steps is left to the next deduplication.

        Returns:
            Bytes by which the active file system became smaller; what Snapshot copies hold stays held.

        Raises:
            OutOfSpace: the aggregate has no room for the pointer pages that change; what was saved so far stays so.
        """
        return deduplicate_steps(self)

    def split(self) -> None:
        """``split_steps``, all at once."""
        finish(split_steps(self))

    def split_steps(self) -> Steps[None]:
        """FlexClone split: give the volume blocks of its own for all that it shares with its parent.

        Blocks are copied step by step; the volume changes with the last one.

        Raises:
            NotPossible: it is no FlexClone volume, or backs one itself.
            OutOfSpace: the volume or the aggregate has not the room.
        """
        return split_steps(self)

    def after(self, snapshot: SnapshotBlocks) -> Mapping[str, FileRecord]:
        """The files of the next newer Snapshot copy, or of the active file system, by path."""
        for other in self.snapshots.values():
            if other.number > snapshot.number:
                return other.records
        return {path: file.record() for path, file in self.files.items()}

    def roots(self) -> Iterator[tuple[int, int]]:
        """Root and height of every file, active or in a Snapshot copy."""
        for file in self.files.values():
            yield file.root, file.height
        for snapshot in self.snapshots.values():
            yield from snapshot.roots()

    def fence(self, reason: str) -> None:
        """Refuse every later access to the volume and its files."""
        self._gone = reason
        for file in self.files.values():
            file.fence(reason)
        for snapshot in self.snapshots.values():
            snapshot.fence(reason)
        self.files.clear()
        self.snapshots.clear()
