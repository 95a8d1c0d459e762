"""The operation log: what was acknowledged since the last consistency point, in a memory-mapped file."""

from __future__ import annotations

import mmap
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

MAGIC = 0x31474F4C56424C  # tells a log from a file of something else
MAGIC_WORD, GENERATION, ACKNOWLEDGED, FIRST = 0, 1, 2, 4
WORDS = 2
FILE_SHIFT = 36  # the first word: file number, and a block number below 256 TiB
COUNT_SHIFT = 40  # the second word: how many blocks (0 stands for one), and the place in the pool
MOST_BLOCKS = (1 << 23) - 1
"""Blocks that one record can cover."""

MOST_NUMBERS = 1 << 64 - FILE_SHIFT
"""File numbers that a record can hold."""


@dataclass(frozen=True, slots=True)
class LogRecord:
    """``count`` blocks of a file, from ``block`` on, now lie at ``place`` in the pool; ``place`` 0: unmapped."""

    file: int
    block: int
    count: int
    place: int


class OperationLog:
    """Records of two 64-bit words, and a counter written after them that *is* the acknowledgement.

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
        whole = memoryview(self._map).cast("Q")
        self.limit = FIRST + (len(whole) - FIRST) // WORDS * WORDS
        self.words = whole[: self.limit]  # no longer: a writer notices a full log by the IndexError
        self.counter = self.words[ACKNOWLEDGED : ACKNOWLEDGED + 1]
        if not acknowledge:
            self.counter = memoryview(bytearray(8)).cast("Q")
        self._end = FIRST
        self.counter[0] = self.counter[0] or FIRST

    @property
    def capacity(self) -> int:
        """How many records fit."""
        return (self.limit - FIRST) // WORDS

    @property
    def empty(self) -> bool:
        """Whether nothing was written since the last consistency point."""
        return self.counter[0] == FIRST

    @property
    def free(self) -> int:
        """How many more records fit before the next consistency point."""
        return (self.limit - self.counter[0]) // WORDS

    def records(self, generation: int) -> list[LogRecord]:
        """The acknowledged records that follow the consistency point of a generation."""
        words = self.words
        if words[MAGIC_WORD] != MAGIC or words[GENERATION] != generation:
            return []
        found = []
        for at in range(FIRST, min(words[ACKNOWLEDGED], self.limit), WORDS):
            first, second = words[at], words[at + 1]
            found.append(
                LogRecord(
                    file=first >> FILE_SHIFT,
                    block=first & (1 << FILE_SHIFT) - 1,
                    count=second >> COUNT_SHIFT or 1,
                    place=second & (1 << COUNT_SHIFT) - 1,
                )
            )
        return found

    def begin(self) -> None:
        """Start the records of an operation."""
        self._end = self.counter[0]

    def add(self, file: int, block: int, count: int, place: int) -> None:
        """Append a record; it counts only after ``acknowledge``."""
        words, at = self.words, self._end
        words[at] = file << FILE_SHIFT | block
        words[at + 1] = count << COUNT_SHIFT | place
        self._end = at + WORDS

    def acknowledge(self) -> None:
        """Make every record since ``begin`` count."""
        self.counter[0] = self._end

    def reset(self, generation: int) -> None:
        """Empty the log behind a consistency point."""
        self.counter[0] = FIRST
        self.words[ACKNOWLEDGED] = FIRST
        self.words[GENERATION] = generation
        self.words[MAGIC_WORD] = MAGIC

    def close(self) -> None:
        """Give the mapping back."""
        self.counter.release()
        self.words.release()
        with suppress(BufferError):  # a file of the store still holds a view
            self._map.close()
