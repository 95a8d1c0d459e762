"""Clones of parts of files: blocks of one file become blocks of another one as well."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from labenv.ontap.blocks.errors import NotPossible
from labenv.ontap.blocks.mirror import repoint
from labenv.ontap.blocks.pool import BLOCK, FANOUT, Places
from labenv.ontap.blocks.tree import leaf_of

if TYPE_CHECKING:
    from labenv.ontap.blocks.file import BlockFile
    from labenv.ontap.blocks.pool import Pool
    from labenv.ontap.blocks.records import FileRecord
    from labenv.ontap.blocks.volume import VolumeBlocks


@dataclass(frozen=True)
class Range:
    """So many blocks of 4 KiB, from which block of the source to which of the destination."""

    source: int
    destination: int
    count: int


def check_ranges(ranges: Sequence[Range], *, source: int, destination: int, same: bool) -> None:
    """Raise ``NotPossible`` for ranges that overlap or leave a file; sizes in bytes. ``same``: it is one file."""
    for r in ranges:
        if r.count < 1 or r.source < 0 or r.destination < 0:
            raise NotPossible(f"{r.source}:{r.destination}:{r.count} is no range of blocks")
        if (r.source + r.count) * BLOCK > -(-source // BLOCK) * BLOCK:
            raise NotPossible(f"{r.source}:{r.destination}:{r.count} ends behind the source's {source} bytes")
        if (r.destination + r.count) * BLOCK > destination:
            raise NotPossible(f"{r.source}:{r.destination}:{r.count} ends behind the destination's {destination} bytes")
    sources = [(r.source, r.source + r.count) for r in ranges]
    destinations = [(r.destination, r.destination + r.count) for r in ranges]
    for parts in (sources, destinations, sources + destinations if same else []):
        ordered = sorted(parts)
        for (_, end), (start, _) in pairwise(ordered):
            if start < end:
                raise NotPossible("the ranges overlap")


def clone_ranges(
    volume: VolumeBlocks, source: FileRecord, height: int, file: BlockFile, ranges: Sequence[Range]
) -> None:
    """Let ranges of ``file`` share the blocks of the tree ``source``, whose leaves must be settled.

    Raises:
        OutOfSpace: there is no room for the pointer pages that change, or for blocks that Snapshot copies keep.
    """
    pool = volume.engine.pool
    volume.engine.charge()
    leaves = sum((r.destination + r.count - 1) // FANOUT - r.destination // FANOUT + 1 for r in ranges)
    pages = leaves + 2 * file.height * len(ranges)
    volume.lease(0, pages, "clone ranges of a file")
    volume.engine.prepare(0, pages)
    found = [_places(pool, source.root, height, r.source, r.count) for r in ranges]  # the source may be the same file
    for r, places in zip(ranges, found, strict=True):
        repoint(volume, file, np.arange(r.destination, r.destination + r.count), places)
    file.settle()
    volume.shaken()


def _places(pool: Pool, root: int, height: int, first: int, count: int) -> Places:
    """Where blocks are; 0 for holes."""
    places = np.zeros(count, np.int64)
    block = first
    while block < first + count:
        stop = min(first + count, (block // FANOUT + 1) * FANOUT)
        page = leaf_of(pool, root, height, block // FANOUT) if root else 0
        if page:
            slot = block % FANOUT
            places[block - first : stop - first] = pool.rows[page, slot : slot + stop - block]
        block = stop
    return places
