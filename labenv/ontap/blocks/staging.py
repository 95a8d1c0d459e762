"""Work ahead: blocks are copied in small steps, and then used by a change that is made at once."""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Iterator
from typing import TypeVar

import numpy as np

from labenv.devices import OutOfSpace
from labenv.ontap.blocks.pool import Places, Pool

STEP = 1024
"""Blocks of one step: a few milliseconds."""

T = TypeVar("T")
Steps = Generator[None, None, T]
"""Work that gives the lab time to answer others at each ``yield``; what it holds is sound there."""


class Staged:
    """Copies of blocks that no tree holds yet; what nobody claims goes back with ``give_back``.

    Args:
        basis: objects while which are the same the blocks that were copied cannot have changed.
    """

    def __init__(self, pool: Pool, *basis: object) -> None:
        self._pool = pool
        self._basis = basis
        self._there: Places = np.zeros(pool.size, np.int64)
        pool.aside[self] = []

    def fill(self, wanted: Places) -> Iterator[None]:
        """Copy blocks in steps. A full disk of this machine ends it early: whoever uses the rest will say so."""
        pool = self._pool
        for at in range(0, len(wanted), STEP):
            if self not in pool.aside:  # the lab was restored meanwhile
                return
            piece = wanted[at : at + STEP]
            try:
                pool.prepare(0, len(piece))
            except OutOfSpace:
                return
            copies = pool.take(len(piece))
            pool.blocks[copies] = pool.blocks[piece]
            pool.aside[self].append(copies)
            self._there[piece] = copies
            yield

    def look(self, wanted: Places, *basis: object) -> Places:
        """The copies of blocks; 0 for blocks that have none, all of them if the basis is not what it was."""
        same = len(basis) == len(self._basis) and all(a is b for a, b in zip(basis, self._basis, strict=True))
        if not same or self not in self._pool.aside:
            return np.zeros(len(wanted), np.int64)
        return self._there[self._known(wanted)]

    def claim(self, wanted: Places) -> None:
        """What ``look`` has shown is the caller's now, with one reference each."""
        if self in self._pool.aside:
            self._there[self._known(wanted)] = 0
            self._pool.aside[self] = [self._there[self._there != 0]]

    def _known(self, wanted: Places) -> Places:
        return np.where(wanted < len(self._there), wanted, 0)  # the pool may have grown

    def give_back(self) -> None:
        """Free what nobody has claimed."""
        self._pool.free_aside(self)


def finish(steps: Steps[T]) -> T:
    """Take every step at once."""
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            value: T = stop.value
            return value


async def take_turns(steps: Steps[T]) -> T:
    """Take one step at each turn of the event loop, so that requests are answered in between."""
    try:
        while True:
            try:
                next(steps)
            except StopIteration as stop:
                value: T = stop.value
                return value
            await asyncio.sleep(0)
    finally:
        steps.close()
