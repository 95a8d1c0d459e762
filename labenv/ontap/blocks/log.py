"""The operation log: what was acknowledged since the last consistency point, in a memory-mapped file."""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from pathlib import Path

MAGIC = 0x31474F4C56424C  # tells a log from a file of something else
MAGIC_WORD, GENERATION, ACKNOWLEDGED, FIRST = 0, 1, 2, 4
WORDS = 3
COUNT_SHIFT = 40
ONE_BLOCK = 1 << COUNT_SHIFT
"""Added to the block number in a record that covers one block."""

BLOCK_MASK = ONE_BLOCK - 1
MOST_BLOCKS = (1 << 23) - 1
"""Blocks that one record can cover."""


@dataclass(frozen=True, slots=True)
class LogRecord:
    """``count`` blocks of a file, from ``block`` on, now lie at ``place`` in the pool; ``place`` 0: unmapped."""

    file: int
    block: int
    count: int
    place: int


class OperationLog:
    """Records of three 64-bit words, and a counter written after them that *is* the acknowledgement.

    The data of a write is in the pool before its record is, so replaying a record only points a file at it. The
    header carries the generation of the consistency point that the records follow: a log of another generation is
    stale and is ignored. What the memory mapping holds survives a killed process, not a loss of power of the machine.

    Args:
        records: how many records fit between two consistency points.
        acknowledge: False keeps the counter away from the file, so that the log forgets everything at a crash; it
            exists for the test that shows that the crash tests can fail.
    """

    def __init__(self, path: Path, *, records: int, acknowledge: bool = True) -> None:
        length = 8 * (FIRST + WORDS * records)
        if not path.exists() or path.stat().st_size < 8 * FIRST:
            with path.open("wb") as file:
                file.truncate(length)
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 0)
        self.words = memoryview(self._map).cast("Q")
        self.counter = self.words[ACKNOWLEDGED : ACKNOWLEDGED + 1]
        if not acknowledge:
            self.counter = memoryview(bytearray(8)).cast("Q")
        self.limit = FIRST + (len(self.words) - FIRST) // WORDS * WORDS
        self.position = FIRST

    @property
    def capacity(self) -> int:
        """How many records fit."""
        return (self.limit - FIRST) // WORDS

    @property
    def empty(self) -> bool:
        """Whether nothing was written since the last consistency point."""
        return self.position == FIRST

    @property
    def free(self) -> int:
        """How many more records fit before the next consistency point."""
        return (self.limit - self.position) // WORDS

    def records(self, generation: int) -> list[LogRecord]:
        """The acknowledged records that follow the consistency point of a generation."""
        words = self.words
        if words[MAGIC_WORD] != MAGIC or words[GENERATION] != generation:
            return []
        return [
            LogRecord(words[at], words[at + 1] & BLOCK_MASK, words[at + 1] >> COUNT_SHIFT, words[at + 2])
            for at in range(FIRST, min(words[ACKNOWLEDGED], self.limit), WORDS)
        ]

    def add(self, file: int, block: int, count: int, place: int) -> None:
        """Append a record; it counts only after ``acknowledge``."""
        words, at = self.words, self.position
        words[at] = file
        words[at + 1] = block | count << COUNT_SHIFT
        words[at + 2] = place
        self.position = at + WORDS

    def acknowledge(self) -> None:
        """Make every record so far count."""
        self.counter[0] = self.position

    def reset(self, generation: int) -> None:
        """Empty the log behind a consistency point."""
        self.counter[0] = FIRST
        self.words[ACKNOWLEDGED] = FIRST
        self.words[GENERATION] = generation
        self.words[MAGIC_WORD] = MAGIC
        self.position = FIRST

    def close(self) -> None:
        """Give the mapping back."""
        self.counter.release()
        self.words.release()
        self._map.close()
