"""FlexClone split: blocks of its own for a volume that shared its parent's."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from labenv.ontap.blocks.errors import NotPossible
from labenv.ontap.blocks.pool import ONE, Places
from labenv.ontap.blocks.staging import Staged, Steps
from labenv.ontap.blocks.tree import drop_root, reach

if TYPE_CHECKING:
    from labenv.ontap.blocks.volume import VolumeBlocks

_CHUNK = 4096


def split_steps(volume: VolumeBlocks) -> Steps[None]:
    """See ``VolumeBlocks.split_steps``."""
    _check(volume)
    pool = volume.engine.pool
    staged = Staged(pool, volume)
    try:
        foreign = _foreign(volume, _reached(volume))
        yield
        volume.lease(len(foreign), 0, volume.key)
        volume.end_lease()
        yield from staged.fill(foreign)  # the Snapshot copy that backs the volume cannot change meanwhile
        _split(volume, staged)
    finally:
        staged.give_back()


def _check(volume: VolumeBlocks) -> None:
    if not volume.parent:
        raise NotPossible(f"volume {volume.key} is not a FlexClone volume: there is nothing to split it from")
    if volume.clones:
        raise NotPossible(
            f"volume {volume.key} backs {len(volume.clones)} FlexClone volumes itself: split or delete them first"
        )


def _reached(volume: VolumeBlocks) -> list[Places]:
    pool = volume.engine.pool
    volume.engine.charge()
    return reach(pool, volume.roots(), np.zeros(pool.size, np.bool_))


def _foreign(volume: VolumeBlocks, reached: list[Places], level: int = 0) -> Places:
    """Blocks of a level that another volume is charged for."""
    if len(reached) <= level:
        return np.zeros(0, np.int64)
    foreign: Places = reached[level][volume.engine.pool.owners[reached[level]] != volume.number]
    return foreign


def _split(volume: VolumeBlocks, staged: Staged) -> None:
    _check(volume)
    for file in volume.files.values():
        file.settle()
    engine = volume.engine
    reached = _reached(volume)
    foreign = _foreign(volume, reached)
    if any(len(_foreign(volume, reached, level)) for level in range(len(reached))):
        pages = sum(len(places) for places in reached[1:])
        volume.lease(len(foreign), pages, volume.key)
        ahead = staged.look(foreign, volume)
        engine.pool.prepare(0, int(np.count_nonzero(ahead == 0)) + pages, relieve=engine.commit)
        staged.claim(foreign)
        _rebuild(volume, [foreign, *reached[1:]], ahead)
    parent = volume.aggregate.volumes[volume.parent]
    del parent.clones[volume.number]
    volume.parent = volume.parent_snapshot = 0
    volume.changed()


def _rebuild(volume: VolumeBlocks, levels: list[Places], ahead: Places) -> None:
    """Copy the data blocks of ``levels[0]`` and every page that must point at a copy, from the leaves upwards.

    ``ahead`` has the copies of data blocks that were made before; 0: not yet.
    """
    pool = volume.engine.pool
    instead = np.arange(pool.size, dtype=np.int64)
    for level, places in enumerate(levels):
        for at in range(0, len(places), _CHUNK):
            piece = places[at : at + _CHUNK]
            if level:
                rows = pool.rows[piece]
                moved = instead[rows]
                needed = (moved != rows).any(axis=1) | (pool.owners[piece] != volume.number)
                piece, moved = piece[needed], moved[needed]
                copies = pool.take(len(piece))
                pool.rows[copies] = moved
                np.add.at(pool.refs, moved[moved != 0], ONE)
                pool.fresh.update(copies.tolist())
                volume.page_room -= len(piece)
            else:
                copies = ahead[at : at + _CHUNK]
                missing = np.flatnonzero(copies == 0)
                taken = pool.take(len(missing))
                pool.blocks[taken] = pool.blocks[piece[missing]]
                copies[missing] = taken
                volume.room -= len(piece)
            pool.refs[copies] = 0  # until something points at them
            pool.owners[copies] = volume.number
            instead[piece] = copies
    before = list(volume.roots())
    roots = np.array([instead[root] for root, _ in before if root], np.int64)
    np.add.at(pool.refs, roots, ONE)
    for file in volume.files.values():
        file.move_root(int(instead[file.root]))
    for snapshot in volume.snapshots.values():
        moved_records = {p: replace(r, root=int(instead[r.root])) for p, r in snapshot.records.items()}
        snapshot.replace_records(moved_records)
        volume.engine.changes[snapshot.row] = snapshot
    for root, height in before:
        drop_root(pool, volume, root, height)
