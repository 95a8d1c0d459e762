"""Block-incremental copies of a volume's Snapshot copies to another volume: what SnapMirror sends."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from labenv.devices import OutOfSpace
from labenv.ontap.blocks.errors import NameInUse
from labenv.ontap.blocks.file import BlockFile
from labenv.ontap.blocks.pool import BLOCK, ONE, Places, Pool
from labenv.ontap.blocks.records import FileRecord
from labenv.ontap.blocks.staging import Staged, Steps
from labenv.ontap.blocks.tree import Difference, changed, height_for, leaves

if TYPE_CHECKING:
    from labenv.ontap.blocks.snapshot import SnapshotBlocks
    from labenv.ontap.blocks.volume import VolumeBlocks

_CHUNK = 4096
_EMPTY = FileRecord(number=0, size=BLOCK, root=0, mapped=0, reserved=False)


@dataclass(frozen=True)
class _FilePlan:
    """A file of the new Snapshot copy: where it starts from at the destination, and what differs."""

    path: str
    record: FileRecord
    start: FileRecord
    difference: Difference


@dataclass(frozen=True)
class Plan:
    """Everything a transfer does.

    Attributes:
        files: the files that the destination will have.
        there: for every block of the pool its counterpart at the destination; 0 if it must be sent.
        send: blocks to be sent, each once.
    """

    files: tuple[_FilePlan, ...]
    there: Places
    send: Places


def plan_transfer(pool: Pool, source: SnapshotBlocks, base: tuple[SnapshotBlocks, SnapshotBlocks] | None) -> Plan:
    """What must be sent to get from ``base`` (the common Snapshot copy, at the source and at the destination)."""
    old = base[0].records if base else {}
    numbers = {record.number: path for path, record in old.items()}
    there = np.zeros(pool.size, np.int64)
    known = {path: numbers.get(record.number, path) for path, record in source.records.items()}
    if base and any(path not in old for path in known.values()):
        # a clone of a file that is there already shares its blocks there, too
        for path, record in old.items():
            _pair(pool, record, base[1].records[path], there)
    files = []
    for path, record in source.records.items():
        before = old.get(known[path], _EMPTY)
        start = base[1].records[known[path]] if base and known[path] in old else _EMPTY
        difference = changed(pool, (before.root, height_for(before.size)), (record.root, height_for(record.size)))
        files.append(_FilePlan(path, record, start, difference))
    needed = np.zeros(pool.size, np.bool_)
    for file in files:
        needed[file.difference.new] = True
    needed[0] = False
    return Plan(tuple(files), there, np.flatnonzero(needed & (there == 0)))


def _pair(pool: Pool, here: FileRecord, far: FileRecord, there: Places) -> None:
    indexes, pages = leaves(pool, here.root, height_for(here.size))
    far_indexes, far_pages = leaves(pool, far.root, height_for(far.size))
    _, one, other = np.intersect1d(indexes, far_indexes, assume_unique=True, return_indices=True)
    for at in range(0, len(one), _CHUNK):
        mine, its = pool.rows[pages[one[at : at + _CHUNK]]], pool.rows[far_pages[other[at : at + _CHUNK]]]
        there[mine.ravel()] = its.ravel()
    there[0] = 0


def stage_transfer(
    source: SnapshotBlocks, destination: VolumeBlocks, base: tuple[SnapshotBlocks, SnapshotBlocks] | None
) -> Steps[Staged]:
    """Copy what ``replicate`` would send; nothing for a destination without the room, which ``replicate`` tells of."""
    pool = destination.engine.pool
    staged = Staged(pool, source, source.records)
    plan = plan_transfer(pool, source, base)
    yield
    try:
        destination.lease(len(plan.send), 0, destination.key)
        destination.end_lease()
        yield from staged.fill(plan.send)
    except OutOfSpace:
        pass
    except BaseException:
        staged.give_back()
        raise
    return staged


def replicate(
    source: SnapshotBlocks,
    destination: VolumeBlocks,
    base: tuple[SnapshotBlocks, SnapshotBlocks] | None,
    staged: Staged | None = None,
) -> int:
    """Make the destination's active file system equal to a Snapshot copy, and take one of the same name there.

    Returns:
        Bytes sent.
    """
    if source.name in destination.snapshots:
        raise NameInUse(f"Snapshot copy {source.name} exists at the destination already")
    engine = destination.engine
    pool = engine.pool
    plan = plan_transfer(pool, source, base)
    touched = sum(len(np.unique(file.difference.blocks >> 9)) for file in plan.files)
    pages = touched + touched // 128 + 8 * len(plan.files) + 8
    reserved = sum(file.reserved_holes for file in destination.files.values())  # their reservations end
    destination.lease(len(plan.send), pages, destination.key, reserved=reserved)
    copies = np.zeros(len(plan.send), np.int64) if staged is None else staged.look(plan.send, source, source.records)
    pool.prepare(pages, int(np.count_nonzero(copies == 0)), relieve=engine.commit)
    if staged is not None and copies.any():
        staged.claim(plan.send)
    there = _send(destination, plan, copies)
    for path in [p for p in destination.files if p not in source.records]:
        destination.delete_file(path)
    for file in plan.files:
        _build(destination, file, there)
    destination.shaken()
    destination.create_snapshot(source.name)
    return len(plan.send) * BLOCK


def _send(destination: VolumeBlocks, plan: Plan, copies: Places) -> Places:
    """Copy the blocks that have no copy yet; none of them has references. Returns ``there`` with them."""
    pool = destination.engine.pool
    there = np.zeros(pool.size, np.int64)
    there[: len(plan.there)] = plan.there
    missing = np.flatnonzero(copies == 0)
    for at in range(0, len(missing), _CHUNK):
        piece = missing[at : at + _CHUNK]
        taken = pool.take(len(piece))
        pool.blocks[taken] = pool.blocks[plan.send[piece]]
        copies[piece] = taken
    pool.refs[copies] = 0
    pool.owners[copies] = destination.number
    there[plan.send] = copies
    destination.room -= len(plan.send)
    return there


def _build(destination: VolumeBlocks, plan: _FilePlan, there: Places) -> None:
    """Make or change one file."""
    engine = destination.engine
    start = replace(plan.start, number=engine.number(), reserved=False)
    file = destination.take_over(plan.path, start)
    file.fit(max(start.size, plan.record.size))
    repoint(destination, file, plan.difference.blocks, there[plan.difference.new])
    file.fit(plan.record.size)


def repoint(destination: VolumeBlocks, file: BlockFile, blocks: Places, places: Places) -> None:
    """Point blocks of a file at places (0: a hole) that others have, too; the old places are given up."""
    pool = destination.engine.pool
    order = np.argsort(blocks)
    blocks, places = blocks[order], places[order]
    indexes = blocks >> 9
    for index in np.unique(indexes).tolist():
        low, high = np.searchsorted(indexes, [index, index + 1]).tolist()
        pointers = np.frombuffer(file.own_leaf(index), np.int64)
        slots, new = blocks[low:high] & 511, places[low:high]
        old = pointers[slots]
        np.add.at(pool.refs, new[new != 0], ONE)
        pointers[slots] = new
        destination.drop_data(old[old != 0])
        file.count_mapped(int(np.count_nonzero(new)) - int(np.count_nonzero(old)))
