"""Which clusters of an exFAT volume are free: the allocation bitmap, and choosing clusters for files.

Clusters are counted from 0 here. Only the pieces of the bitmap that are written stay in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from labenv.devices import BlockDevice
from labenv.windows.disks.errors import DiskFull

Run = tuple[int, int]
"""(first cluster, how many)."""

_SCAN = 256 * 1024
_HOLES = 4096


@dataclass(eq=False)
class Window:
    """Clusters above everything allocated that one growing file keeps for itself, in memory only."""

    start: int
    end: int


class Bitmap:
    """The allocator of one mounted volume.

    New clusters come from above the highest one in use, so files stay in one piece; holes that were freed since the
    mount are taken first for what fits into them; the whole bitmap is searched only when the end is reached.
    """

    def __init__(
        self,
        device: BlockDevice,
        *,
        store: Callable[[int, bytes], None],
        runs: Sequence[tuple[int, int]],
        clusters: int,
        piece: int,
    ) -> None:
        """``runs`` are the bitmap's own (device offset, length) ranges; ``piece`` is the unit of writing in bytes."""
        self._device = device
        self._store = store
        self._runs = runs
        self._clusters = clusters
        self._piece = piece
        self._pieces: dict[int, bytearray] = {}
        self._high = -1
        self._holes: list[Run] = []
        self._complete = False
        self._windows: list[Window] = []
        self._free: int | None = None

    @property
    def free(self) -> int:
        """How many clusters are free."""
        if self._free is None:
            used = 0
            for _, bits in self._scan():
                used += int(np.bitwise_count(bits).sum())
            self._free = self._clusters - used
        return self._free

    def take(self, count: int, *, after: int | None = None, window: Window | None = None, align: int = 1,
             phase: int = 0, ahead: int = 0) -> list[Run]:  # fmt: skip
        """Allocate clusters and mark them on the device; runs in file order.

        ``after`` is the cluster that would continue the file. ``align`` and ``phase`` ask for a start with
        ``start % align == phase``. ``window`` is filled with up to ``ahead`` clusters for the file's next growth.
        Raises ``DiskFull``, and then nothing has changed.
        """
        if self._high < 0:
            self._high = self._find_high()
        runs: list[Run] = []
        if after is not None and (taken := self._continue(after, count, window, ahead)):
            # Marked at once: the search that may follow must not find these clusters free.
            self._mark(after, taken, used=True)
            runs.append((after, taken))
            count -= taken
        if count:
            whole = self._whole(count, window, align, phase, ahead)
            more = [whole] if whole is not None else self._gather(count, align)
            if more is None:
                self.give(runs)
                raise DiskFull(f"the file system has no {count} free clusters left; delete files or extend it")
            for start, length in more:
                self._mark(start, length, used=True)
            runs.extend(more)
        return runs

    def give(self, runs: Sequence[Run]) -> None:
        """Free clusters."""
        for start, length in runs:
            self._mark(start, length, used=False)
            self._return(start, length)

    def dump(self) -> bytes:
        """The whole bitmap; bits behind the last cluster are zero."""
        return b"".join(bits.tobytes() for _, bits in self._scan())

    def open_window(self) -> Window:
        """An empty window for a file that grows."""
        window = Window(0, 0)
        self._windows.append(window)
        return window

    def close_window(self, window: Window) -> None:
        """Give what the window still holds back."""
        if window in self._windows:
            self._windows.remove(window)
            if window.end > window.start:
                self._return(window.start, window.end - window.start)
        window.start = window.end = 0

    def free_runs(self) -> Iterator[Run]:
        """Every run of free clusters, in order, from the device's bitmap."""
        begin = -1
        for base, bits in self._scan():
            if not bits.any():
                begin = base if begin < 0 else begin
                continue
            used = np.unpackbits(bits, bitorder="little")
            edges = np.flatnonzero(np.diff(used.astype(np.int8), prepend=np.int8(begin < 0)))
            for edge in edges.tolist():
                if begin < 0:
                    begin = base + edge
                else:
                    yield begin, base + edge - begin
                    begin = -1
        if begin >= 0 and begin < self._clusters:
            yield begin, self._clusters - begin

    def _continue(self, after: int, count: int, window: Window | None, ahead: int) -> int:
        if window is not None and window.start == after and window.end > after:
            taken = min(count, window.end - after)
            window.start += taken
            if taken < count or window.start == window.end:
                taken += self._continue_high(after + taken, count - taken, window, ahead)
            return taken
        if after == self._high:
            return self._continue_high(after, count, window, ahead)
        for index, (start, length) in enumerate(self._holes):
            if start == after:
                taken = min(count, length)
                self._shorten(index, taken)
                return taken
        return 0

    def _continue_high(self, after: int, count: int, window: Window | None, ahead: int) -> int:
        if after != self._high:
            return 0
        taken = min(count, self._clusters - self._high)
        self._high += taken
        if window is not None and taken == count:
            self._refill(window, ahead)
        return taken

    def _whole(self, count: int, window: Window | None, align: int, phase: int, ahead: int) -> Run | None:
        if (run := self._from_holes(count, align, phase)) is not None:
            return run
        start = self._high + (phase - self._high) % align
        if start + count > self._clusters:
            self._complete_holes()
            return self._from_holes(count, align, phase)
        if start > self._high:
            self._add_hole(self._high, start - self._high)
        self._high = start + count
        if window is not None:
            self._refill(window, ahead)
        return start, count

    def _refill(self, window: Window, ahead: int) -> None:
        if window.end > window.start:
            self._add_hole(window.start, window.end - window.start)
        window.start = self._high
        window.end = self._high = min(self._clusters, self._high + ahead)

    def _from_holes(self, count: int, align: int, phase: int) -> Run | None:
        for index, (start, length) in enumerate(self._holes):
            skip = (phase - start) % align
            if skip + count <= length:
                self._holes.pop(index)
                if length > skip + count:
                    self._holes.insert(index, (start + skip + count, length - skip - count))
                if skip:
                    self._holes.insert(index, (start, skip))
                return start + skip, count
        return None

    def _gather(self, count: int, align: int) -> list[Run] | None:
        if align > 1 and (run := self._from_holes(count, 1, 0)) is not None:
            return [run]
        self._complete_holes()
        if sum(length for _, length in self._holes) < count:
            return None
        # The biggest first, so that the file has few pieces.
        self._holes.sort(key=lambda run: (-run[1], run[0]))
        runs: list[Run] = []
        while count:
            start, length = self._holes[0]
            taken = min(count, length)
            runs.append((start, taken))
            self._shorten(0, taken)
            count -= taken
        return runs

    def _complete_holes(self) -> None:
        """Make the list of holes hold every free cluster; nothing is left above the high mark or in windows."""
        if self._complete:
            merged: list[Run] = []
            for start, length in sorted(self._holes):
                if merged and merged[-1][0] + merged[-1][1] == start:
                    merged[-1] = (merged[-1][0], merged[-1][1] + length)
                else:
                    merged.append((start, length))
            self._holes = merged
            return
        for window in self._windows:
            window.start = window.end = 0
        self._holes = list(self.free_runs())
        self._high = self._clusters
        self._complete = True

    def _shorten(self, index: int, taken: int) -> None:
        start, length = self._holes[index]
        if taken == length:
            self._holes.pop(index)
        else:
            self._holes[index] = (start + taken, length - taken)

    def _add_hole(self, start: int, length: int) -> None:
        self._holes.append((start, length))
        if len(self._holes) > _HOLES and not self._complete:
            self._holes = self._holes[-_HOLES // 2 :]  # the forgotten ones are found again by the search

    def _return(self, start: int, length: int) -> None:
        if self._high >= 0 and start + length == self._high and not self._complete:
            self._high = start
            merged = True
            while merged:
                merged = False
                for index, (begin, size) in enumerate(self._holes):
                    if begin + size == self._high:
                        self._high = begin
                        self._holes.pop(index)
                        merged = True
                        break
        elif self._high >= 0:
            self._add_hole(start, length)

    def _find_high(self) -> int:
        for base, bits in self._scan(backwards=True):
            nonzero = np.flatnonzero(bits)
            if nonzero.size:
                last = int(nonzero[-1])
                return min(self._clusters, base + 8 * last + int(bits[last]).bit_length())
        return 0

    def _scan(self, *, backwards: bool = False) -> Iterator[tuple[int, npt.NDArray[np.uint8]]]:
        """(first cluster, bitmap bytes) in pieces; bits behind the last cluster are zero."""
        total = (self._clusters + 7) // 8
        starts = range(0, total, _SCAN)
        for start in reversed(starts) if backwards else starts:
            length = min(_SCAN, total - start)
            raw = bytearray(self._read(start, length))
            if start + length == total and self._clusters % 8:
                raw[-1] &= (1 << self._clusters % 8) - 1
            yield 8 * start, np.frombuffer(raw, dtype=np.uint8)

    def _read(self, start: int, length: int) -> bytes:
        parts = []
        for offset, size in self._ranges(start, length):
            parts.append(self._device.read(offset, size))
        return b"".join(parts)

    def _ranges(self, start: int, length: int) -> Iterator[tuple[int, int]]:
        """Device ranges of a range of bitmap bytes."""
        for offset, size in self._runs:
            if start < size and length:
                part = min(length, size - start)
                yield offset + start, part
                start += part
                length -= part
            start = max(0, start - size)

    def _load(self, index: int) -> bytearray:
        piece = self._pieces.get(index)
        if piece is None:
            # The last piece may reach behind the bitmap's bytes, into its cluster's slack.
            piece = bytearray(self._read(index * self._piece, self._piece))
            self._pieces[index] = piece
        return piece

    def _mark(self, first: int, count: int, *, used: bool) -> None:
        per_piece = 8 * self._piece
        cluster, end = first, first + count
        while cluster < end:
            index = cluster // per_piece
            base = index * per_piece
            whole = (end - base) // per_piece if cluster == base else 0
            if whole:
                self._store_whole(index, whole, used=used)
                cluster = base + whole * per_piece
                continue
            stop = min(end, base + per_piece)
            changed = bytearray(self._load(index))
            _fill(changed, cluster - base, stop - base, used=used)
            for offset, _ in self._ranges(index * self._piece, self._piece):
                self._store(offset, bytes(changed))
            self._pieces[index] = changed
            cluster = stop
        if self._free is not None:
            self._free += -count if used else count

    def _store_whole(self, index: int, whole: int, *, used: bool) -> None:
        fill = b"\xff" if used else b"\0"
        for offset, length in self._ranges(index * self._piece, whole * self._piece):
            for at in range(0, length, _SCAN):
                self._store(offset + at, fill * min(_SCAN, length - at))
        for gone in range(index, index + whole):
            self._pieces.pop(gone, None)


def _fill(piece: bytearray, first: int, end: int, *, used: bool) -> None:
    """Set or clear the bits [first, end) of a piece."""
    low, high = first >> 3, (end - 1) >> 3
    low_mask = 0xFF << (first & 7) & 0xFF
    high_mask = 0xFF >> (7 - (end - 1 & 7))
    if low == high:
        mask = low_mask & high_mask
        piece[low] = piece[low] | mask if used else piece[low] & ~mask & 0xFF
        return
    piece[low] = piece[low] | low_mask if used else piece[low] & ~low_mask & 0xFF
    piece[high] = piece[high] | high_mask if used else piece[high] & ~high_mask & 0xFF
    piece[low + 1 : high] = (b"\xff" if used else b"\0") * (high - low - 1)
