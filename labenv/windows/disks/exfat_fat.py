"""Cluster chains: the file allocation table of an exFAT volume. Only fragmented files and directories have one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from labenv.devices import BlockDevice
from labenv.windows.disks.errors import Corrupt
from labenv.windows.disks.exfat_layout import BLOCK, END_OF_CHAIN, FIRST_CLUSTER, Geometry

_PER_BLOCK = BLOCK // 4
_STEP = 256 * 1024  # entries written at a time


class Fat:
    """Reads and writes chains; nothing is kept in memory."""

    def __init__(self, device: BlockDevice, geometry: Geometry, *, store: Callable[[int, bytes], None]) -> None:
        self._device = device
        self._geometry = geometry
        self._store = store

    def follow(self, first: int, *, limit: int) -> list[tuple[int, int]]:
        """The runs (cluster, count) of a chain; raises ``Corrupt`` if it leaves the volume or does not end.

        At most ``limit`` clusters are followed: a chain may be longer than the file after a loss of power.
        """
        runs: list[tuple[int, int]] = []
        cluster = first
        total = 0
        last = self._geometry.cluster_count + FIRST_CLUSTER
        loaded: dict[int, npt.NDArray[np.uint32]] = {}
        while cluster < 0xFFFFFFF8 and total < limit:
            if not FIRST_CLUSTER <= cluster < last:
                raise Corrupt(f"a cluster chain leaves the volume at cluster {cluster}; it needs a check (chkdsk)")
            block = cluster // _PER_BLOCK
            entries = loaded.get(block)
            if entries is None:
                loaded[block] = entries = self._block(block)
            within = cluster % _PER_BLOCK
            base = block * _PER_BLOCK
            following = entries[within:] == np.arange(cluster + 1, base + entries.size + 1, dtype=np.uint32)
            length = int(np.argmin(following)) if not following.all() else following.size
            count = min(length + (length < following.size), limit - total)
            if runs and runs[-1][0] + runs[-1][1] == cluster:
                runs[-1] = (runs[-1][0], runs[-1][1] + count)
            else:
                runs.append((cluster, count))
            total += count
            cluster = int(entries[within + count - 1])
        return runs

    def link(self, runs: Sequence[tuple[int, int]]) -> None:
        """Write a whole chain through the runs, the end mark included."""
        for index in range(len(runs) - 1, -1, -1):
            first, count = runs[index]
            after = runs[index + 1][0] if index + 1 < len(runs) else END_OF_CHAIN
            for start in range(first, first + count, _STEP):
                stop = min(start + _STEP, first + count)
                values = np.arange(start + 1, stop + 1, dtype=np.uint32)
                if stop == first + count:
                    values[-1] = after
                self._write(start, values)

    def set(self, cluster: int, following: int = END_OF_CHAIN) -> None:
        """Make one cluster point to another, or end the chain there."""
        self._write(cluster, np.array([following], dtype=np.uint32))

    def ends(self, cluster: int) -> bool:
        """Whether a chain ends with that cluster."""
        return int(self._block(cluster // _PER_BLOCK)[cluster % _PER_BLOCK]) >= 0xFFFFFFF8

    def resize(self, geometry: Geometry) -> None:
        """Take the volume's new number of clusters."""
        self._geometry = geometry

    def _block(self, block: int) -> npt.NDArray[np.uint32]:
        start = block * BLOCK
        length = min(BLOCK, self._geometry.fat_length - start)
        return np.frombuffer(self._device.read(self._geometry.fat_offset + start, length), dtype="<u4")

    def _write(self, cluster: int, values: npt.NDArray[np.uint32]) -> None:
        """Store entries in whole blocks."""
        first, last = cluster // _PER_BLOCK, (cluster + values.size - 1) // _PER_BLOCK
        head = self._block(first)
        image = [head[: cluster - first * _PER_BLOCK], values]
        tail = self._block(last) if last != first else head
        image.append(tail[cluster + values.size - last * _PER_BLOCK :])
        self._store(self._geometry.fat_offset + first * BLOCK, np.concatenate(image).astype("<u4").tobytes())
