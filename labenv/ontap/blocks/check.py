"""The file system check: every count again, from the trees alone."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from labenv.ontap.blocks.engine import Engine
from labenv.ontap.blocks.pool import WAITING
from labenv.ontap.blocks.tree import add_references, mapped_blocks, reach
from labenv.ontap.blocks.volume import VolumeBlocks


def find_faults(engine: Engine, volumes: list[VolumeBlocks], checkpoints: Iterable[list[tuple[int, int]]]) -> list[str]:
    """Sentences about what differs between the counts in use and those recomputed."""
    pool = engine.pool
    faults: list[str] = []
    before = pool.refs.copy()
    owners = pool.owners.copy()
    try:
        pool.clear()
        for volume in sorted(volumes, key=lambda v: v.number):
            reached = add_references(pool, volume.roots())
            data = len(reached[0]) if reached else 0
            pages = sum(len(places) for places in reached[1:])
            for places in reached:
                pool.owners[places] = volume.number
            if (data, pages) != (volume.held, volume.pages):
                faults.append(
                    f"volume {volume.key}: charged for {volume.held} blocks and {volume.pages} pages, "
                    f"holds {data} and {pages}"
                )
        true, true_owners = pool.refs.copy(), pool.owners.copy()
    finally:
        pool.refs[:] = before
        pool.owners[:] = owners
    waiting = pool.waiting()
    in_use = before.copy()
    if len(np.unique(waiting)) != len(waiting) or (before[waiting] != WAITING).any():
        faults.append("a block waits twice to be used or freed, or has another count than a waiting one")
    in_use[waiting] = 0
    wrong = np.flatnonzero(in_use != true)
    faults += [f"block {b}: counted {in_use[b]}, has {true[b]} references" for b in wrong[:20].tolist()]
    wrong = np.flatnonzero((true > 0) & (owners != true_owners))
    wrong = wrong[wrong != 0]
    faults += [f"block {b}: charged to volume {owners[b]}, not {true_owners[b]}" for b in wrong[:20].tolist()]
    kept = np.zeros(pool.size, np.bool_)
    for roots in checkpoints:
        reach(pool, roots, kept)
    if (kept != pool.kept).any():
        faults.append(
            f"{int(np.count_nonzero(kept != pool.kept))} blocks are wrongly kept for checkpoints, or not kept"
        )
    if pool.blocks[0].any():
        faults.append("block 0 does not hold zeros")
    for volume in volumes:
        for path, file in volume.files.items():
            mapped = mapped_blocks(pool, file.root, file.height)
            if mapped != file.mapped:
                faults.append(f"{volume.key}{path}: {file.mapped} blocks are counted as mapped, {mapped} are")
    return faults
