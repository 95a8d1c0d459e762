"""Post-process deduplication: blocks with the same bytes get the same place."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xxhash

from labenv.ontap.blocks.pool import BLOCK, ONE, Places, Pool
from labenv.ontap.blocks.tree import leaves, reach

if TYPE_CHECKING:
    from labenv.ontap.blocks.file import BlockFile
    from labenv.ontap.blocks.volume import VolumeBlocks

_CHUNK = 4096


def deduplicate(volume: VolumeBlocks) -> int:
    """See ``VolumeBlocks.deduplicate``."""
    pool = volume.engine.pool
    volume.engine.charge()
    before = volume.active_blocks()
    seen = np.zeros(pool.size, np.bool_)
    reached = reach(pool, ((f.root, f.height) for f in volume.files.values()), seen)
    if not reached:
        return 0
    data = np.sort(reached[0])
    instead = _twins(pool, data, volume.number)
    if instead is None:
        return 0
    work = [(file, index) for file in volume.files.values() for index in _leaves_with_twins(file, pool, instead)]
    pages = len(work) + 2 * sum(file.height for file in volume.files.values())
    volume.lease(0, pages + len(work) // 256, "deduplication")
    volume.engine.prepare(0, pages + len(work) // 256)
    instead = np.concatenate([instead, np.arange(len(instead), pool.size)])
    for file, index in work:
        pointers = np.frombuffer(file.own_leaf(index), np.int64)
        old = pointers.copy()
        pointers[:] = instead[old]
        moved = old != pointers
        np.add.at(pool.refs, pointers[moved], ONE)
        volume.drop_data(old[moved])
    for file in volume.files.values():
        file.settle()
    volume.shaken()
    return (before - volume.active_blocks()) * BLOCK


def _twins(pool: Pool, data: Places, number: int) -> Places | None:
    """For every block of the pool the one to use instead of it (itself, mostly); None if there is nothing to do."""
    digest = xxhash.xxh3_64_intdigest
    view = memoryview(pool.map)
    digests = np.fromiter((digest(view[b * BLOCK : (b + 1) * BLOCK]) for b in data.tolist()), np.uint64, len(data))
    view.release()
    order = np.argsort(digests, kind="stable")
    ordered = digests[order]
    same = ordered[1:] == ordered[:-1]
    if not same.any():
        return None
    instead = np.arange(pool.size, dtype=np.int64)
    starts = np.flatnonzero(np.concatenate([[True], ~same]))
    ends = np.append(starts[1:], len(ordered))
    several = ends - starts > 1
    for start, end in zip(starts[several].tolist(), ends[several].tolist(), strict=True):
        group = data[order[start:end]].tolist()
        # first what costs this volume nothing, then what most others use already
        group.sort(key=lambda b: (pool.charged[b] == number, -pool.counts[b], b))
        keepers: dict[bytes, int] = {}
        for block in group:
            instead[block] = keepers.setdefault(pool.map[block * BLOCK : (block + 1) * BLOCK], block)
    return instead


def _leaves_with_twins(file: BlockFile, pool: Pool, instead: Places) -> list[int]:
    indexes, pages = leaves(pool, file.root, file.height)
    found: list[int] = []
    for at in range(0, len(pages), _CHUNK):
        rows = pool.rows[pages[at : at + _CHUNK]]
        found += indexes[at : at + _CHUNK][(instead[rows] != rows).any(axis=1)].tolist()
    return found
