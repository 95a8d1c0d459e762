"""Post-process deduplication: blocks with the same bytes get the same place."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import xxhash

from labenv.ontap.blocks.pool import BLOCK, ONE, Places, Pool
from labenv.ontap.blocks.staging import STEP, Steps
from labenv.ontap.blocks.tree import leaf_of, leaves, reach

if TYPE_CHECKING:
    from labenv.ontap.blocks.file import BlockFile
    from labenv.ontap.blocks.volume import VolumeBlocks

_LEAVES = 8
_GROUP = 65536


def deduplicate_steps(volume: VolumeBlocks) -> Steps[int]:
    """See ``VolumeBlocks.deduplicate_steps``."""
    pool = volume.engine.pool
    volume.engine.charge()
    before = volume.active_blocks()
    yield
    reached = reach(pool, ((f.root, f.height) for f in volume.files.values()), np.zeros(pool.size, np.bool_))
    if not reached:
        return 0
    data = np.sort(reached[0])
    owners = pool.owners.copy()
    digests = yield from _digests(pool, data)
    instead = yield from _twins(pool, data, digests, volume.number)
    if instead is None:
        return 0
    for path in list(volume.files):
        file = volume.files.get(path)
        if file is None:
            continue
        indexes, _ = leaves(pool, file.root, file.height)
        yield
        for at in range(0, len(indexes), _LEAVES):
            if volume.files.get(path) is not file:  # deleted or restored meanwhile
                break
            if _join(volume, file, indexes[at : at + _LEAVES], instead, owners):
                yield
    return (before - volume.active_blocks()) * BLOCK


def _digests(pool: Pool, data: Places) -> Steps[npt.NDArray[np.uint64]]:
    digest = xxhash.xxh3_64_intdigest
    digests = np.zeros(len(data), np.uint64)
    for at in range(0, len(data), STEP):
        piece = data[at : at + STEP]
        view = memoryview(pool.map)
        found = (digest(view[b * BLOCK : (b + 1) * BLOCK]) for b in piece.tolist())
        digests[at : at + STEP] = np.fromiter(found, np.uint64, len(piece))
        view.release()
        yield
    return digests


def _twins(pool: Pool, data: Places, digests: npt.NDArray[np.uint64], number: int) -> Steps[Places | None]:
    """For every block of the pool one that seems to have the same bytes (itself, mostly); None: there is no such pair.

    Of equal blocks the one is kept that costs this volume nothing, then the one that most others use already.
    """
    instead = np.arange(pool.size, dtype=np.int64)
    groups = -(-len(data) // _GROUP)
    group = (digests >> np.uint64(40)) % np.uint64(groups)
    found = False
    for part in range(groups):
        mine = np.flatnonzero(group == part)
        mine = mine[np.argsort(digests[mine], kind="stable")]
        same = digests[mine][1:] == digests[mine][:-1]
        mine = mine[np.append(same, False) | np.append(False, same)] if len(mine) else mine
        if len(mine):
            found = True
            blocks, values = data[mine], digests[mine]
            order = np.lexsort((blocks, -pool.refs[blocks], pool.owners[blocks] == number, values))
            blocks, values = blocks[order], values[order]
            first = np.append(True, values[1:] != values[:-1])
            instead[blocks] = blocks[first][np.cumsum(first) - 1]
        yield
    return instead if found else None


def _join(
    volume: VolumeBlocks, file: BlockFile, indexes: Places, instead: Places, owners: npt.NDArray[np.int32]
) -> bool:
    """Let some leaves of a file point at twins; whether there was anything to do.

    Blocks may have been given up since they were compared, and their places may hold something else by now: a twin is
    used if it is in use, still charged to whom it was, and equal byte by byte.
    """
    engine = volume.engine
    pool = engine.pool
    pages = np.array([leaf_of(pool, file.root, file.height, index) for index in indexes.tolist()], np.int64)
    rows = pool.rows[pages]
    twins = instead[np.where(rows < len(instead), rows, 0)]
    leaf, slot = np.nonzero((twins != rows) & (rows < len(instead)))
    if not len(leaf):
        return False
    engine.charge()
    pages_needed = len(np.unique(leaf)) + 2 * file.height
    volume.lease(0, pages_needed, "deduplication")
    engine.prepare(0, pages_needed)
    old, new = rows[leaf, slot], twins[leaf, slot]
    in_use = pool.refs > 0
    in_use[pool.waiting()] = False
    sound = in_use[new] & (pool.owners[new] == owners[new])
    sound[sound] = (pool.blocks[old[sound]] == pool.blocks[new[sound]]).all(axis=1)
    leaf, slot, old, new = leaf[sound], slot[sound], old[sound], new[sound]
    for number in np.unique(leaf).tolist():
        mine = leaf == number
        pointers = np.frombuffer(file.own_leaf(int(indexes[number])), np.int64)
        pointers[slot[mine]] = new[mine]
        np.add.at(pool.refs, new[mine], ONE)
        volume.drop_data(old[mine])
    file.settle()
    volume.shaken()
    return True
