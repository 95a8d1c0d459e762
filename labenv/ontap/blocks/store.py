"""The block store: aggregates and volumes in one pool, durable together with the rest of the lab's state."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np

from labenv.ontap.blocks.check import find_faults
from labenv.ontap.blocks.engine import Engine
from labenv.ontap.blocks.errors import AggregateInUse, NameInUse, NotPossible, VolumeHasClones
from labenv.ontap.blocks.file import BlockFile
from labenv.ontap.blocks.log import LogRecord, OperationLog
from labenv.ontap.blocks.mirror import plan_transfer, replicate, stage_transfer
from labenv.ontap.blocks.pool import BLOCK, FANOUT, ONE, SEGMENT, WAITING, Pool
from labenv.ontap.blocks.records import AggregateRecord, FileRecord, SnapshotRecord, StoreRecord, VolumeRecord
from labenv.ontap.blocks.snapshot import SnapshotBlocks
from labenv.ontap.blocks.space import Aggregate, AggregateUsage, check_capacity
from labenv.ontap.blocks.staging import Staged, Steps
from labenv.ontap.blocks.tree import add_references, drop_root, height_for, reach
from labenv.ontap.blocks.volume import VolumeBlocks
from labenv.state import State

LOG_RECORDS = 65536
"""Writes between two consistency points; they pin at most 256 MiB."""

_AGGREGATE = msgspec.json.Decoder(AggregateRecord)
_VOLUME = msgspec.json.Decoder(VolumeRecord)
_FILE = msgspec.json.Decoder(FileRecord)
_SNAPSHOT = msgspec.json.Decoder(SnapshotRecord)
_STORED = msgspec.json.Decoder(StoreRecord)
_STORE = ("store", "")


class BlockStore:
    """Aggregates, volumes and files on copy-on-write blocks.

    Mounts what is in ``folder`` (replaying the log of a killed process) or creates it. Keys are the caller's; the store
    takes part in the state's transactions. Writes to files are durable when they return, everything else at the next
    ``State.commit``, which the store calls itself when the log is full. ``State.restore`` replaces every object: look
    volumes and files up again afterwards, the old ones raise ``DeviceGone``.

    Args:
        folder: for the pool and the log. capacity: bytes of all aggregates together.
        log_records: writes between two consistency points. segment: blocks by which the pool grows at least.
        acknowledge: see ``OperationLog``; only tests say False.
    """

    def __init__(
        self,
        folder: Path,
        state: State,
        *,
        capacity: int,
        log_records: int = LOG_RECORDS,
        segment: int = SEGMENT,
        acknowledge: bool = True,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._state = state
        self._capacity = capacity // BLOCK
        state.db.execute(
            "CREATE TABLE IF NOT EXISTS block_record (kind TEXT, key TEXT, body BLOB, PRIMARY KEY (kind, key))"
        )
        state.db.execute("CREATE TABLE IF NOT EXISTS block_kept (checkpoint TEXT, kind TEXT, key TEXT, body BLOB)")
        pool = Pool(folder / "pool", segment=segment)
        log = OperationLog(folder / "log", records=log_records, acknowledge=acknowledge)
        self._engine = Engine(pool, log, state.commit)
        self._generation = 0
        self._written = False
        self._closed = False
        self._aggregates: dict[str, Aggregate] = {}
        self._volumes: dict[str, VolumeBlocks] = {}
        self._replayed = self._mount()
        state.join(self)
        if self._replayed:
            state.commit()

    # aggregates

    def create_aggregate(self, key: str, size: int) -> None:
        """Add an aggregate of ``size`` bytes. Raises ``NameInUse``, or ``OutOfSpace`` beyond the store's capacity."""
        if key in self._aggregates:
            raise NameInUse(f"aggregate {key} exists already")
        check_capacity(self._aggregates, size // BLOCK, self._capacity)
        aggregate = self._aggregates[key] = Aggregate(key, size // BLOCK)
        self._engine.changes["aggregate", key] = aggregate

    def delete_aggregate(self, key: str) -> None:
        """Delete an empty aggregate. Raises ``AggregateInUse``."""
        if self._aggregates[key].volumes:
            raise AggregateInUse(f"aggregate {key} holds volumes: delete or move them first")
        del self._aggregates[key]
        self._engine.changes["aggregate", key] = None

    def aggregate(self, key: str) -> AggregateUsage:
        """The space of an aggregate in bytes. Raises KeyError."""
        return self._aggregates[key].usage()

    # volumes

    @property
    def volumes(self) -> Mapping[str, VolumeBlocks]:
        """Every volume by key, in the order of creation."""
        return self._volumes

    def volume(self, key: str) -> VolumeBlocks:
        """A volume. Raises KeyError."""
        return self._volumes[key]

    def create_volume(
        self, key: str, *, aggregate: str, size: int, guarantee: bool, snapshot_reserve: int = 5
    ) -> VolumeBlocks:
        """An empty volume. Raises ``NameInUse``, or ``OutOfSpace`` if its guarantee does not fit the aggregate."""
        if key in self._volumes:
            raise NameInUse(f"volume {key} exists already")
        if size < BLOCK or not 0 <= snapshot_reserve <= 90:
            raise NotPossible(f"a volume of {size} bytes with {snapshot_reserve} % Snapshot reserve is not possible")
        home = self._aggregates[aggregate]
        if guarantee:
            home.demand(size // BLOCK, "create a volume with space guarantee")
        record = VolumeRecord(self._engine.number(), key, aggregate, size // BLOCK, guarantee, snapshot_reserve, 0, 0)
        volume = self._add(record)
        volume.changed()
        return volume

    def clone_volume(self, key: str, *, parent: str, snapshot: str, guarantee: bool = False) -> VolumeBlocks:
        """A FlexClone volume: writable, shares every block of a Snapshot copy of the parent, which becomes busy.

        Raises:
            KeyError: no such parent or Snapshot copy. NameInUse: the key exists.
            OutOfSpace: it is to be guaranteed and the aggregate has not the room.
        """
        if key in self._volumes:
            raise NameInUse(f"volume {key} exists already")
        base = self._volumes[parent]
        backing = base.snapshots[snapshot]
        if guarantee:
            base.aggregate.demand(base.size // BLOCK, "create a FlexClone volume with space guarantee")
        engine = self._engine
        record = replace(
            base.record(),
            number=engine.number(),
            key=key,
            guarantee=guarantee,
            parent=base.number,
            parent_snapshot=backing.number,
        )
        volume = self._add(record)
        base.clones[volume.number] = volume
        roots = np.array([r.root for r in backing.records.values() if r.root], np.int64)
        np.add.at(engine.pool.refs, roots, ONE)
        for path, file in backing.records.items():
            clone = volume.files[path] = BlockFile(volume, path, replace(file, number=engine.number()))
            clone.changed()
        volume.changed()
        return volume

    def delete_volume(self, key: str) -> None:
        """Delete a volume with its files and Snapshot copies. Raises ``VolumeHasClones``."""
        volume = self._volumes[key]
        if volume.clones:
            raise VolumeHasClones(f"volume {key} backs {len(volume.clones)} FlexClone volumes: split or delete them")
        engine = self._engine
        roots = list(volume.roots())
        for file in volume.files.values():
            engine.retire(file)
        for snapshot in volume.snapshots.values():
            engine.changes[snapshot.row] = None
        volume.fence("was deleted")
        for root, height in roots:
            drop_root(engine.pool, volume, root, height)
        for other in self._volumes.values():
            other.clones.pop(volume.number, None)
        del self._volumes[key]
        volume.leave_aggregate()
        engine.changes["volume", str(volume.number)] = None

    # replication

    def transfer_size(self, source: str, snapshot: str, *, destination: str, base: str | None = None) -> int:
        """Bytes that ``replicate`` would send now. Raises KeyError."""
        plan = plan_transfer(self._engine.pool, *self._ends(source, snapshot, destination, base))
        return len(plan.send) * BLOCK

    def stage(self, source: str, snapshot: str, *, destination: str, base: str | None = None) -> Steps[Staged]:
        """Copy the blocks that ``replicate`` would, step by step, for it to use; changes nothing. Raises KeyError."""
        new, pair = self._ends(source, snapshot, destination, base)
        return stage_transfer(new, self._volumes[destination], pair)

    def replicate(
        self,
        source: str,
        snapshot: str,
        *,
        destination: str,
        base: str | None = None,
        staged: Staged | None = None,
    ) -> int:
        """Make a volume equal to a Snapshot copy of another one, and take a Snapshot copy of the same name there.

        Only blocks that differ from ``base`` are copied: a Snapshot copy that both volumes have with the same
        contents, under this name. Without it everything is. What was written to the destination since ``base`` is
        given up; its Snapshot copies stay. Files at the same path keep their objects; none is reserved any longer.
        The work is done at once: call it when the transfer ends. What was ``staged`` need not be copied any more.

        Returns:
            Bytes copied.

        Raises:
            KeyError: no such volume or Snapshot copy. NameInUse: the destination has the Snapshot copy already.
            OutOfSpace: nothing was changed.
        """
        new, pair = self._ends(source, snapshot, destination, base)
        return replicate(new, self._volumes[destination], pair, staged)

    def _ends(
        self, source: str, snapshot: str, destination: str, base: str | None
    ) -> tuple[SnapshotBlocks, tuple[SnapshotBlocks, SnapshotBlocks] | None]:
        near, far = self._volumes[source].snapshots, self._volumes[destination].snapshots
        return near[snapshot], None if base is None else (near[base], far[base])

    def _add(self, record: VolumeRecord) -> VolumeBlocks:
        home = self._aggregates[record.aggregate]
        volume = self._volumes[record.key] = VolumeBlocks(self._engine, home, record)
        home.volumes[volume.number] = volume
        return volume

    def check(self) -> list[str]:
        """Recompute every count from the trees and compare; an empty list is a clean store."""
        self._engine.charge()
        return find_faults(self._engine, list(self._volumes.values()), self._kept_roots())

    def close(self) -> None:
        """Give the files back; commit first. Every file then raises ``DeviceGone``."""
        if self._closed:
            return
        self._closed = True
        self._fence("the array is shut down")
        self._engine.log.close()
        self._engine.pool.close()

    # mounting

    def _rows(self, db: sqlite3.Connection, kind: str) -> list[tuple[str, bytes]]:
        return db.execute("SELECT key, body FROM block_record WHERE kind=?", (kind,)).fetchall()

    def _mount(self) -> bool:
        self._load()
        engine = self._engine
        log, pool = engine.log, engine.pool
        pool.kept[:] = False
        for roots in self._kept_roots():
            reach(pool, roots, pool.kept)
        records = log.records(self._generation)
        # what the log points at must not be given out before the log is replayed
        for record in records:
            if record.place:
                pool.refs[record.place : record.place + record.count] = WAITING
        pool.recount()
        self._replay(records)
        if not records:
            log.reset(self._generation)
        return bool(records)

    def _load(self) -> None:
        """Make the objects and the counts from the rows of the last consistency point."""
        db, engine = self._state.db, self._engine
        for _, body in self._rows(db, "store"):
            stored = _STORED.decode(body)
            self._generation, engine.next_number = stored.generation, stored.next_number
        self._aggregates = {}
        self._volumes = {}
        for key, body in self._rows(db, "aggregate"):
            self._aggregates[key] = Aggregate(key, _AGGREGATE.decode(body).size)
        records = [_VOLUME.decode(body) for _, body in self._rows(db, "volume")]
        volumes = {record.number: self._add(record) for record in sorted(records, key=lambda r: r.number)}
        files = []
        for key, body in self._rows(db, "file"):
            number, _, path = key.partition(":")
            files.append((int(number), path, _FILE.decode(body)))
        for owner, path, file in sorted(files, key=lambda f: f[2].number):
            volumes[owner].files[path] = BlockFile(volumes[owner], path, file)
        snapshots = [_SNAPSHOT.decode(body) for _, body in self._rows(db, "snapshot")]
        for kept in sorted(snapshots, key=lambda r: r.number):
            volumes[kept.volume].snapshots[kept.name] = SnapshotBlocks(volumes[kept.volume], kept)
        pool = engine.pool
        pool.clear()
        for volume in volumes.values():  # parents before clones, so that they are charged for what is shared
            if volume.parent:
                volumes[volume.parent].clones[volume.number] = volume
            reached = add_references(pool, volume.roots())
            for places in reached:
                pool.owners[places] = volume.number
            volume.ceiling = len(reached[0]) if reached else 0
            volume.page_ceiling = sum(len(places) for places in reached[1:])
            volume.end_lease()

    def _replay(self, records: list[LogRecord]) -> None:
        engine = self._engine
        pool = engine.pool
        files = {file.number: file for volume in self._volumes.values() for file in volume.files.values()}
        for record in records:
            file = files.get(record.file)
            end = (record.block + record.count) * BLOCK
            if file is None or end > FANOUT**file.height * BLOCK:
                # written after a change that was not committed: the blocks go back
                if record.place:
                    pool.refs[record.place : record.place + record.count] = 0
                continue
            pool.prepare(4 * file.height + record.count // FANOUT)
            if record.place:
                places = np.arange(record.place, record.place + record.count)
                pool.refs[places] = 1
                file.point_many(record.block, places)
            else:
                file.make_holes(record.block, record.block + record.count)
        for volume in self._volumes.values():
            volume.shaken()

    # the state's transactions

    def write(self, db: sqlite3.Connection) -> None:
        """Write what changed since the last consistency point; called inside the transaction."""
        engine = self._engine
        if self._closed or (not engine.changes and engine.log.empty and not self._replayed):
            return
        self._replayed = False
        self._generation += 1
        for (kind, key), source in engine.changes.items():
            if source is None:
                db.execute("DELETE FROM block_record WHERE kind=? AND key=?", (kind, key))
            else:
                self._put(db, kind, key, msgspec.json.encode(source.record()))
        self._put(db, *_STORE, msgspec.json.encode(StoreRecord(self._generation, engine.next_number)))
        self._written = True

    def _put(self, db: sqlite3.Connection, kind: str, key: str, body: bytes) -> None:
        db.execute("INSERT OR REPLACE INTO block_record (kind, key, body) VALUES (?,?,?)", (kind, key, body))

    def committed(self) -> None:
        """The transaction is durable: the log starts anew, and what was given up is free."""
        if self._written:
            self._written = False
            self._engine.charge()
            self._engine.log.reset(self._generation)
            self._engine.settled()

    def checkpoint(self, name: str, db: sqlite3.Connection) -> None:
        """Keep every block that is in use now."""
        db.execute("INSERT INTO block_kept SELECT ?, kind, key, body FROM block_record", (name,))
        self._engine.pool.keep()

    def restore(self, name: str, db: sqlite3.Connection) -> None:
        """Go back to the volumes kept under a name."""
        generation, number = self._generation + 1, self._engine.next_number
        db.execute("DELETE FROM block_record")
        db.execute(
            "INSERT INTO block_record (kind, key, body) SELECT kind, key, body FROM block_kept WHERE checkpoint=?",
            (name,),
        )
        self._fence("the lab was restored to a checkpoint")
        self._load()
        # numbers are the log's: they never come back, and neither does a generation
        self._generation, self._engine.next_number = generation, max(number, self._engine.next_number)
        self._put(db, *_STORE, msgspec.json.encode(StoreRecord(generation, self._engine.next_number)))
        self._engine.changes = {}
        self._engine.writers = {}
        self._engine.pool.recount()
        self._written = True

    def forget(self, name: str, db: sqlite3.Connection) -> None:
        """Drop what was kept under a name."""
        if not db.execute("DELETE FROM block_kept WHERE checkpoint=?", (name,)).rowcount:
            return
        pool = self._engine.pool
        pool.kept[:] = False
        for roots in self._kept_roots():
            reach(pool, roots, pool.kept)
        pool.kept_changed()

    def _kept_roots(self) -> Iterable[list[tuple[int, int]]]:
        db = self._state.db
        for (name,) in db.execute("SELECT DISTINCT checkpoint FROM block_kept").fetchall():
            roots: list[tuple[int, int]] = []
            for kind, body in db.execute("SELECT kind, body FROM block_kept WHERE checkpoint=?", (name,)):
                if kind == "file":
                    record = _FILE.decode(body)
                    roots.append((record.root, height_for(record.size)))
                elif kind == "snapshot":
                    files = _SNAPSHOT.decode(body).files.values()
                    roots.extend((r.root, height_for(r.size)) for r in files)
            yield roots

    def _fence(self, reason: str) -> None:
        for volume in self._volumes.values():
            volume.fence(reason)
