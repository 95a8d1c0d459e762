"""Trees of pointer pages in the pool: what a file, or a file in a Snapshot copy, is made of.

A tree is a root (a block number, 0 for a file of holes only) and a height. A page at level 1 (a *leaf*) points at data,
a page at level n at pages of level n - 1. Trees share pages and data; each block counts the pointers to it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from labenv.ontap.blocks.pool import BLOCK, FANOUT, ONE, ZEROS, Places, Pool

SHIFT = 9
"""Bits of a block number that a page decides."""

_CHUNK = 4096
_NOTHING: Places = np.zeros(0, np.int64)


class Account(Protocol):
    """Who is charged for blocks: what is left of a lease of data blocks and of pointer pages."""

    number: int
    room: int
    page_room: int


def height_for(size: int) -> int:
    """Levels of pages that a file of ``size`` bytes needs: 2 MiB, 1 GiB, 512 GiB, 256 TiB."""
    height = 1
    while size > BLOCK << SHIFT * height:
        height += 1
    return height


def own_page(pool: Pool, account: Account, page: int) -> int:
    """A page with the same pointers that may be changed in place: itself, or a copy that takes its reference."""
    counts = pool.counts
    references = counts[page]
    if references == 1 and page in pool.fresh:
        return page
    copy = pool.pop()
    pool.charged[copy] = account.number
    pool.fresh.add(copy)
    at = copy * BLOCK
    if not page:
        pool.map[at : at + BLOCK] = ZEROS
        account.page_room -= 1
        return copy
    pool.map[at : at + BLOCK] = pool.map[page * BLOCK : (page + 1) * BLOCK]
    if references == 1:  # the children move over to the copy
        pool.pinned.append(page)
    else:
        children = pool.rows[copy]
        np.add.at(pool.refs, children[children != 0], ONE)
        counts[page] = references - 1
        account.page_room -= 1
    return copy


def leaf_of(pool: Pool, root: int, height: int, index: int) -> int:
    """The leaf page with this index (0: all holes)."""
    pointers = pool.pointers
    page = root
    for level in range(height - 1, 0, -1):
        page = pointers[page * FANOUT + (index >> SHIFT * (level - 1) & FANOUT - 1)]
    return page


def _once(places: Places) -> Places:
    """The same numbers in rising order, each once."""
    if len(places) < 2:
        return places
    ordered = np.sort(places)
    first = np.empty(len(ordered), np.bool_)
    first[0] = True
    np.not_equal(ordered[1:], ordered[:-1], out=first[1:])
    return ordered if first.all() else ordered[first]


def _children(pool: Pool, pages: Places) -> Iterator[Places]:
    """The pointers of pages other than holes, with repetitions, in pieces."""
    for at in range(0, len(pages), _CHUNK):
        pointers = pool.rows[pages[at : at + _CHUNK]].ravel()
        yield pointers[pointers != 0]


def drop(pool: Pool, account: Account, places: Places, level: int) -> None:
    """Take one reference from each of the blocks (may repeat; pages of a level, 0 is data); pin what has none left."""
    refs = pool.refs
    for at in range(0, len(places), _CHUNK * FANOUT):
        piece = places[at : at + _CHUNK * FANOUT]
        np.subtract.at(refs, piece, ONE)
        dead = _once(piece[refs[piece] == 0])
        if not len(dead):
            continue
        pool.pin(dead)
        if level == 0:
            account.room += len(dead)
            continue
        account.page_room += len(dead)
        for children in _children(pool, dead):
            drop(pool, account, children, level - 1)


def drop_root(pool: Pool, account: Account, root: int, height: int) -> None:
    """Take a tree's reference from its root."""
    if root:
        drop(pool, account, np.array([root], np.int64), height)


def add_references(pool: Pool, roots: Iterable[tuple[int, int]]) -> list[Places]:
    """Count every pointer below the roots (root, height), given that 0 means that a block was not reached before.

    Returns:
        The blocks that were reached for the first time, by level: data, leaves, ...
    """
    refs = pool.refs
    waiting: dict[int, list[Places]] = {}
    for root, height in roots:
        if root:
            waiting.setdefault(height, []).append(np.array([root], np.int64))
    reached: dict[int, list[Places]] = {}
    for level in range(max(waiting, default=0), -1, -1):
        arrivals = [np.concatenate(waiting.pop(level))] if level in waiting else []
        pages = reached.get(level + 1, [])
        for pointers in (*arrivals, *(c for p in pages for c in _children(pool, p))):
            new = _once(pointers[refs[pointers] == 0])
            np.add.at(refs, pointers, ONE)
            if len(new):
                reached.setdefault(level, []).append(new)
    top = max(reached, default=-1)
    return [np.concatenate(reached.get(level, [_NOTHING])) for level in range(top + 1)]


def reach(
    pool: Pool, roots: Iterable[tuple[int, int]], seen: npt.NDArray[np.bool_], *, lowest: int = 0
) -> list[Places]:
    """Mark every block below the roots (root, height) in ``seen``, not going below what is marked already.

    Returns:
        The blocks that were not marked before, by level: data, leaves, ... (nothing below ``lowest``).
    """
    waiting: dict[int, list[int]] = {}
    for root, height in roots:
        if root:
            waiting.setdefault(height, []).append(root)
    reached: dict[int, list[Places]] = {}
    for level in range(max(waiting, default=0), lowest - 1, -1):
        arrivals = [np.array(waiting.pop(level), np.int64)] if level in waiting else []
        pages = reached.get(level + 1, [])
        for pointers in (*arrivals, *(c for p in pages for c in _children(pool, p))):
            new = _once(pointers[~seen[pointers]])
            if len(new):
                seen[new] = True
                reached.setdefault(level, []).append(new)
    top = max(reached, default=-1)
    return [np.concatenate(reached.get(level, [_NOTHING])) for level in range(top + 1)]


def count_data(pool: Pool, roots: Iterable[tuple[int, int]], owner: int) -> int:
    """How many data blocks below the roots are charged to an owner, each counted once."""
    seen = np.zeros(pool.size, np.bool_)
    pages = reach(pool, roots, seen, lowest=1)
    if len(pages) < 2:
        return 0
    seen[:] = False
    for pointers in _children(pool, pages[1]):
        seen[pointers[pool.owners[pointers] == owner]] = True
    return int(np.count_nonzero(seen))


def leaves(pool: Pool, root: int, height: int) -> tuple[Places, Places]:
    """The indexes of a tree's leaves that are not all holes, and their pages."""
    indexes = np.zeros(1 if root else 0, np.int64)
    pages = np.full(1 if root else 0, root, np.int64)
    for _ in range(height - 1):
        rows = pool.rows[pages]
        row, slot = np.nonzero(rows)
        indexes, pages = indexes[row] * FANOUT + slot, rows[row, slot]
    return indexes, pages


def mapped_blocks(pool: Pool, root: int, height: int) -> int:
    """How many blocks of the file are not holes; shared ones count wherever they occur."""
    pages = np.array([root], np.int64) if root else _NOTHING
    for _ in range(height - 1):
        pages = np.concatenate([_NOTHING, *_children(pool, pages)])
    return sum(len(children) for children in _children(pool, pages))


class Difference(NamedTuple):
    """Blocks whose pointers differ between two trees: their numbers in the file, and both pointers of each."""

    blocks: Places
    old: Places
    new: Places


def changed(pool: Pool, old: tuple[int, int], new: tuple[int, int]) -> Difference:
    """What differs between two trees (root, height). Pages that they share are not read."""
    top = max(old[1], new[1])
    found = Difference(np.zeros(1, np.int64), np.array([old[0]], np.int64), np.array([new[0]], np.int64))
    for level in range(top, 0, -1):
        pieces = []
        for at in range(0, len(found.blocks), _CHUNK):
            piece = slice(at, at + _CHUNK)
            before = _expand(pool, found.old[piece], level, old[1])
            after = _expand(pool, found.new[piece], level, new[1])
            row, slot = np.nonzero(before != after)
            blocks = found.blocks[piece][row] * FANOUT + slot
            pieces.append(Difference(blocks, before[row, slot], after[row, slot]))
        found = Difference(*(np.concatenate(parts) for parts in zip(*pieces, strict=True))) if pieces else found
    return found


def _expand(pool: Pool, pages: Places, level: int, height: int) -> npt.NDArray[np.int64]:
    if level <= height:
        return pool.rows[pages]
    # the shorter tree: as if there were pages above its root that hold nothing else
    virtual = np.zeros((len(pages), FANOUT), np.int64)
    virtual[:, 0] = pages
    return virtual


def unmap(pool: Pool, account: Account, page: int, level: int, first: int, end: int) -> tuple[int, int]:
    """Make holes of the blocks ``first`` to ``end`` (relative to the page's start).

    Returns:
        The page that takes the old one's place (0 if all of it is a hole), and how many blocks were mapped.
    """
    span = FANOUT ** (level - 1)  # blocks below one pointer
    if not page or first >= end:
        return page, 0
    if first <= 0 and end >= span * FANOUT:
        count = mapped_blocks(pool, page, level)
        drop_root(pool, account, page, level)
        return 0, count
    low, high = first // span, -(-end // span)
    if not pool.rows[page, low:high].any():
        return page, 0
    page = own_page(pool, account, page)
    row = pool.rows[page]
    if level == 1:
        old = row[low:high]
        gone = old[old != 0]
        row[low:high] = 0
        drop(pool, account, gone, 0)
        return page, len(gone)
    count = 0
    for slot in (low + np.flatnonzero(row[low:high])).tolist():
        base = slot * span
        child, removed = unmap(pool, account, int(row[slot]), level - 1, max(first - base, 0), min(end - base, span))
        row[slot] = child
        count += removed
    return page, count


def unmap_pages(height: int) -> int:
    """The most pages that ``unmap`` copies: two edges, at every level."""
    return 2 * height
