"""A volume: its active file system, its Snapshot copies, and the space it is charged for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

import numpy as np

from labenv.devices import DeviceGone, OutOfSpace
from labenv.ontap.blocks.dedup import deduplicate
from labenv.ontap.blocks.engine import Engine
from labenv.ontap.blocks.errors import NameInUse, NotPossible, SnapshotBusy
from labenv.ontap.blocks.file import BlockFile
from labenv.ontap.blocks.pool import BLOCK, ONE, Places
from labenv.ontap.blocks.records import FileRecord, SnapshotRecord, VolumeRecord
from labenv.ontap.blocks.snapshot import SnapshotBlocks
from labenv.ontap.blocks.space import Aggregate, VolumeUsage
from labenv.ontap.blocks.split import split
from labenv.ontap.blocks.tree import count_data, drop, drop_root


class VolumeBlocks:
    """One volume. Changes other than writes are durable at the next ``State.commit``.

    Attributes:
        files: the active file system, by path (``"/lun1"``).
        snapshots: Snapshot copies by name, oldest first.
        parent, parent_snapshot: numbers of what a FlexClone volume is backed by; 0 if it is none.
        clones: FlexClone volumes backed by this one, by number.
        room, ceiling: data blocks that may be taken without asking; the volume holds ``ceiling - room`` data blocks.
        page_room, page_ceiling: the same for pointer pages.
        version: changes with everything that may change what the active file system holds, except writes.
    """

    def __init__(self, engine: Engine, aggregate: Aggregate, record: VolumeRecord) -> None:
        self.engine = engine
        self.aggregate = aggregate
        self.number = record.number
        self.key = record.key
        self._size = record.size
        self._guarantee = record.guarantee
        self._reserve = record.snapshot_reserve
        self.parent = record.parent
        self.parent_snapshot = record.parent_snapshot
        self.clones: dict[int, VolumeBlocks] = {}
        self.files: dict[str, BlockFile] = {}
        self.snapshots: dict[str, SnapshotBlocks] = {}
        self.room = self.ceiling = 0
        self._promised = 0
        self.page_room = self.page_ceiling = 0
        self.version = 0
        self._gone = ""
        self._active: tuple[tuple[int, int, int], int] = ((-1, 0, 0), 0)

    def record(self) -> VolumeRecord:
        """The row that describes the volume now."""
        return VolumeRecord(
            self.number,
            self.key,
            self.aggregate.key,
            self._size,
            self._guarantee,
            self._reserve,
            self.parent,
            self.parent_snapshot,
        )

    def _exists(self) -> None:
        if self._gone:
            raise DeviceGone(f"volume {self.key}: {self._gone}")

    def changed(self) -> None:
        """Have the row written by the next consistency point; leases are asked for again."""
        self._exists()
        self.engine.changes["volume", str(self.number)] = self
        self.shaken()

    def shaken(self) -> None:
        """What the volume holds has changed by other means than a write."""
        self.version += 1
        self.end_lease()

    # space

    @property
    def held(self) -> int:
        """Data blocks charged to the volume."""
        return self.ceiling - self.room

    @property
    def pages(self) -> int:
        """Pointer pages charged to the volume."""
        return self.page_ceiling - self.page_room

    @property
    def charge(self) -> int:
        """Blocks that the volume takes from its aggregate."""
        held = self.held + self.pages
        return max(self._size, held) if self._guarantee else held

    def begin_lease(self, data: int, pages: int) -> None:
        """Take up to so many data blocks and pages without asking again."""
        self.ceiling = self.held + data
        self.room = data
        self.page_ceiling = self.pages + pages
        self.page_room = pages
        self._promise(self.charge if self._guarantee else self.ceiling + self.page_ceiling)

    def end_lease(self) -> None:
        """Ask again before the next block."""
        self.ceiling, self.room = self.held, 0
        self.page_ceiling, self.page_room = self.pages, 0
        self._promise(self.charge)

    def leave_aggregate(self) -> None:
        """The volume is gone."""
        self._promise(0)
        del self.aggregate.volumes[self.number]

    def _promise(self, blocks: int) -> None:
        self.aggregate.promised += blocks - self._promised
        self._promised = blocks

    def drop_data(self, places: Places) -> None:
        """Take one reference from each data block."""
        if len(places):
            drop(self.engine.pool, self, places, 0)

    def active_blocks(self) -> int:
        """Data blocks charged to the volume that the active file system reaches, each counted once."""
        if not self.snapshots:
            return self.held  # nothing else could hold them
        key = (self.version, self.ceiling, self.room)
        if self._active[0] != key:
            self.engine.charge()
            count = count_data(self.engine.pool, ((f.root, f.height) for f in self.files.values()), self.number)
            self._active = (key, count)
        return self._active[1]

    def _reserved_holes(self) -> int:
        return sum(f.reserved_holes for f in self.files.values())

    def _numbers(self) -> tuple[int, int, int, int]:
        """Blocks: active with reservations, held by Snapshot copies only, their reserve, and free for writing."""
        active = self.active_blocks()
        snapshots = self.held - active
        active += self._reserved_holes()
        reserve = self._size * self._reserve // 100
        return active, snapshots, reserve, self._size - reserve - active - max(0, snapshots - reserve)

    def lease(self, data: int, pages: int, path: str, *, reserved: int = 0) -> None:
        """Make sure that a write can take blocks, ``reserved`` of which the file's reservation covers.

        Raises:
            OutOfSpace: the volume or the aggregate is full.
        """
        # at least this much is free, and no walk of the trees is needed to know it
        free = self._size - self._size * self._reserve // 100 - self.held - self._reserved_holes()
        if data - reserved > free:
            free = self._numbers()[3]
        if data - reserved > max(free, 0):
            raise OutOfSpace(
                f"{path}: the volume is full, {(data - reserved) * BLOCK} bytes are needed and {max(0, free) * BLOCK} "
                f"left; delete Snapshot copies, or make the volume larger"
            )
        self.aggregate.lease(self, data, pages, most=max(0, free))

    def demand(self, blocks: int, purpose: str) -> None:
        """Raise ``OutOfSpace`` unless the volume has so many blocks free; for reservations."""
        free = self._numbers()[3]
        if blocks > max(free, 0):
            raise OutOfSpace(
                f"cannot {purpose}: it takes {blocks * BLOCK} bytes of the volume and {max(0, free) * BLOCK} are left; "
                f"make the volume larger, or do without the reservation"
            )
        self.end_lease()

    @property
    def usage(self) -> VolumeUsage:
        """The volume's space in bytes."""
        active, snapshots, reserve, free = self._numbers()
        logical = sum(f.mapped for f in self.files.values())
        if not self._guarantee:
            free = self.aggregate.free_for(free)
        return VolumeUsage(
            size=self._size * BLOCK,
            used=(active + max(0, snapshots - reserve)) * BLOCK,
            snapshot_used=snapshots * BLOCK,
            snapshot_reserve=reserve * BLOCK,
            available=max(0, free) * BLOCK,
            shared=(logical - self.active_blocks()) * BLOCK,
            logical_used=logical * BLOCK,
            metadata=self.pages * BLOCK,
            physical=self.held * BLOCK,
        )

    @property
    def size(self) -> int:
        """Bytes."""
        return self._size * BLOCK

    @property
    def guarantee(self) -> bool:
        """Whether the aggregate holds the whole size free for the volume.

        Setting it raises ``OutOfSpace`` if the aggregate has not the room.
        """
        return self._guarantee

    @guarantee.setter
    def guarantee(self, guarantee: bool) -> None:
        if guarantee and not self._guarantee:
            self.aggregate.demand(self._size - self.charge, "guarantee the volume's space")
        self._guarantee = guarantee
        for file in self.files.values():
            file.settle_reservation()
        self.changed()

    @property
    def snapshot_reserve(self) -> int:
        """Percent of the size that only Snapshot copies may use."""
        return self._reserve

    @snapshot_reserve.setter
    def snapshot_reserve(self, percent: int) -> None:
        if not 0 <= percent <= 90:
            raise NotPossible(f"a Snapshot reserve of {percent} % is not possible: give 0 to 90")
        self._reserve = percent
        self.changed()

    def resize(self, size: int) -> None:
        """Make the volume larger or smaller.

        Raises:
            OutOfSpace: it is guaranteed and the aggregate has not the room.
            NotPossible: it holds more than that.
        """
        blocks = size // BLOCK
        if blocks > self._size and self._guarantee:
            self.aggregate.demand(blocks - self.charge, "make the volume larger")
        if blocks < self._size:
            active, snapshots, _, _ = self._numbers()
            reserve = blocks * self._reserve // 100
            if active + max(0, snapshots - reserve) > blocks - reserve:
                raise NotPossible(
                    f"the volume holds {(active + snapshots) * BLOCK} bytes and cannot shrink to {size}: "
                    f"delete Snapshot copies or LUNs first"
                )
        self._size = blocks
        self.changed()

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
        """Let equal blocks of the active file system share their place (compared byte by byte).

        Returns:
            Bytes by which the active file system became smaller; what Snapshot copies hold stays held.

        Raises:
            OutOfSpace: the aggregate has no room for the pointer pages that change.
        """
        return deduplicate(self)

    def split(self) -> None:
        """FlexClone split: give the volume blocks of its own for all that it shares with its parent.

        Raises:
            NotPossible: it is no FlexClone volume, or backs one itself.
            OutOfSpace: the volume or the aggregate has not the room.
        """
        split(self)

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
