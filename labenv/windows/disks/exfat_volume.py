"""The moving parts that files and directories of one mounted exFAT volume share: nodes, clusters, metadata writes."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Protocol

from labenv.devices import BlockDevice, DeviceGone
from labenv.windows.disks.errors import Corrupt
from labenv.windows.disks.exfat_bitmap import Bitmap, Window
from labenv.windows.disks.exfat_entries import DIRECTORY, Record
from labenv.windows.disks.exfat_fat import Fat
from labenv.windows.disks.exfat_layout import (
    BIG_ALIGNMENT,
    BLOCK,
    FIRST_CLUSTER,
    KIB,
    MIB,
    Geometry,
    flag_dirty,
    zero,
)
from labenv.windows.disks.exfat_names import name_hash

Run = tuple[int, int]


class Keeper(Protocol):
    """Whoever holds a node's entry set: its directory."""

    def update(self, node: Node) -> None:
        """Write the node's entry set where it stands."""


class Node:
    """One file or directory in memory: what its entry set says, where its clusters are, who has it open."""

    __slots__ = (
        "accessed", "attributes", "base", "bases", "chained", "children", "count", "created", "directory", "first",
        "handles", "hashed", "modified", "name", "names", "runs", "size", "slot", "starts", "touched", "valid",
        "window", "writers",
    )  # fmt: skip

    def __init__(self, record: Record, *, hashed: int, names: bytes) -> None:
        self.name = record.name
        self.attributes = record.attributes
        self.created = record.created
        self.modified = record.modified
        self.accessed = record.accessed
        self.first = record.first
        self.size = record.size
        self.valid = record.valid
        self.chained = record.chained
        self.hashed = hashed
        self.names = names
        self.directory: Keeper | None = None
        self.slot = -1
        self.count = 0
        self.handles = 0
        self.writers = 0
        self.touched = False
        self.children: object | None = None
        self.window: Window | None = None
        # Filled by Volume.locate: runs of clusters, and for reading and writing the file offset and the device
        # offset of each run. ``base`` is the device offset of a file in one piece, else -1.
        self.runs: list[Run] | None = None
        self.starts: list[int] = []
        self.bases: list[int] = []
        self.base = -1

    @property
    def is_directory(self) -> bool:
        """Whether the node holds entries."""
        return bool(self.attributes & DIRECTORY)

    def record(self) -> Record:
        """The fields of the entry set."""
        return Record(
            self.name, self.attributes, self.created, self.modified, self.accessed, self.first, self.size, self.valid,
            self.chained,
        )  # fmt: skip


class Volume:
    """One mounted volume below its directory tree."""

    def __init__(self, device: BlockDevice, geometry: Geometry, *, now: Callable[[], datetime], discard: bool) -> None:
        self.device = device
        self.geometry = geometry
        self.now = now
        self.discard = discard
        self.closed = False
        self.dirty = geometry.dirty
        self.fat = Fat(device, geometry, store=self.store)
        self.upcase: dict[int, int] = {}
        self.open_nodes: set[Node] = set()
        self.unfinished: list[Callable[[], None]] = []  # what has to be written before any other metadata
        self.system_chains: list[tuple[int, int]] = []  # (first cluster, length) of the bitmap and the up-case table
        self._bitmap: Bitmap | None = None

    @property
    def bitmap(self) -> Bitmap:
        """The allocator."""
        if self._bitmap is None:
            raise Corrupt("the volume has no allocation bitmap; it needs a check (chkdsk)")
        return self._bitmap

    def attach_bitmap(self, first: int, length: int) -> None:
        """Say where the bitmap lies."""
        geometry = self.geometry
        runs = self.fat.follow(first, limit=geometry.clusters(length))
        if not length or geometry.clusters(length) > sum(count for _, count in runs):
            raise Corrupt("the allocation bitmap is cut short; the volume needs a check (chkdsk)")
        if 8 * length < geometry.cluster_count:
            # Power was lost while the volume was extended: what the bitmap does not speak of is not in use yet.
            self.geometry = geometry = replace(geometry, cluster_count=8 * length)
            self.fat.resize(geometry)
        ranges = [(geometry.cluster_offset(cluster), count << geometry.cluster_shift) for cluster, count in runs]
        piece = min(BLOCK, geometry.cluster_size)
        self._bitmap = Bitmap(
            self.device, store=self.store, runs=ranges, clusters=geometry.cluster_count, piece=piece
        )  # fmt: skip

    def check_open(self) -> None:
        """Raise ``DeviceGone`` after the volume was dismounted."""
        if self.closed:
            raise DeviceGone("the file system was dismounted; mount it again")

    def upper(self, name: str) -> str:
        """A name as it compares."""
        return name.translate(self.upcase)

    def hash(self, name: str) -> int:
        """The hash of a name as stored."""
        return name_hash(self.upper(name))

    def store(self, offset: int, data: bytes) -> None:
        """Write metadata; the first write after a clean state raises the dirty flag."""
        while self.unfinished:
            task = self.unfinished.pop()
            try:
                task()
            except BaseException:
                self.unfinished.append(task)
                raise
        if not self.dirty:
            flag_dirty(self.device, self.geometry, dirty=True)
            self.dirty = True
        self.device.write(offset, data)

    def mark_clean(self) -> None:
        """Take the dirty flag back."""
        if self.dirty:
            flag_dirty(self.device, self.geometry, dirty=False)
            self.dirty = False

    def locate(self, node: Node) -> list[Run]:
        """The node's runs of clusters, read from the chain if need be."""
        if node.runs is None:
            needed = self.geometry.clusters(node.size)
            if not node.first or not needed:
                runs: list[Run] = []
            elif node.chained:
                runs = self.fat.follow(node.first, limit=needed)
            else:
                runs = [(node.first, needed)]
            total = sum(count for _, count in runs)
            if total < needed or any(c + n > self.geometry.cluster_count + FIRST_CLUSTER for c, n in runs):
                raise Corrupt(f"{node.name!r} has {total} of {needed} clusters; the volume needs a check (chkdsk)")
            self._set_runs(node, runs)
        assert node.runs is not None
        return node.runs

    def spans(self, node: Node, offset: int, length: int) -> Iterator[tuple[int, int]]:
        """Device ranges (offset, length) of a range of a node's allocated bytes."""
        self.locate(node)
        starts, bases = node.starts, node.bases
        index = bisect_right(starts, offset) - 1
        end = offset + length
        while offset < end:
            limit = starts[index + 1] if index + 1 < len(starts) else end
            part = min(limit, end) - offset
            yield bases[index] + offset - starts[index], part
            offset += part
            index += 1

    def read(self, node: Node, offset: int, length: int) -> bytes:
        """Bytes of a node's allocation, whatever its valid length."""
        parts = [self.device.read(at, part) for at, part in self.spans(node, offset, length)]
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def write(self, node: Node, offset: int, data: bytes) -> None:
        """Store bytes into a node's allocation."""
        done = 0
        for at, part in self.spans(node, offset, len(data)):
            self.device.write(at, data if part == len(data) else data[done : done + part])
            done += part

    def zero(self, node: Node, offset: int, length: int) -> None:
        """Make a range of a node's allocation read as zeros."""
        for at, part in self.spans(node, offset, length):
            zero(self.device, at, part)

    def extend(
        self, node: Node, size: int, *, align: int = 0, prepare: Callable[[int, int], None] | None = None
    ) -> None:
        """Allocate clusters until ``size`` bytes fit; the caller writes the node's entry set afterwards.

        ``align`` in bytes is wanted for the first cluster, in offsets of the whole disk. ``prepare`` gets every new
        device range (offset, length) before it becomes part of a chain.
        """
        geometry = self.geometry
        runs = self.locate(node)
        have = sum(count for _, count in runs)
        need = geometry.clusters(size) - have
        if need <= 0:
            return
        after = runs[-1][0] + runs[-1][1] - FIRST_CLUSTER if runs else None
        ahead = self._ahead(node, need) if runs and not node.is_directory else 0
        if node.window is None and ahead:
            node.window = self.bitmap.open_window()
        step, phase = self._alignment(align or (BIG_ALIGNMENT if ahead << geometry.cluster_shift >= 2 * MIB else 0))
        taken = self.bitmap.take(need, after=after, window=node.window, align=step, phase=phase, ahead=ahead)
        fresh = [(start + FIRST_CLUSTER, count) for start, count in taken]
        if prepare is not None:
            for cluster, count in fresh:
                prepare(geometry.cluster_offset(cluster), count << geometry.cluster_shift)
        self._join(node, runs, fresh)

    def release(self, node: Node, size: int) -> None:
        """Free the clusters behind ``size`` bytes; the entry set no longer needs them when this is called."""
        runs = self.locate(node)
        keep = self.geometry.clusters(size)
        kept: list[Run] = []
        freed: list[Run] = []
        for cluster, count in runs:
            here = min(keep, count)
            keep -= here
            if here:
                kept.append((cluster, here))
            if here < count:
                freed.append((cluster + here, count - here))
        if not freed:
            return
        self.close_window(node)
        if kept and node.chained:
            self.fat.set(kept[-1][0] + kept[-1][1] - 1)
        self._set_runs(node, kept)
        if self.discard:
            # Before the clusters can be taken again, so that no cut of power leaves a stale unmap behind.
            for cluster, count in freed:
                self.device.unmap(self.geometry.cluster_offset(cluster), count << self.geometry.cluster_shift)
        self.bitmap.give([(cluster - FIRST_CLUSTER, count) for cluster, count in freed])

    def close_window(self, node: Node) -> None:
        """Give up the clusters kept for the node's growth."""
        if node.window is not None:
            self.bitmap.close_window(node.window)
            node.window = None

    def commit(self, node: Node) -> None:
        """Write the node's entry set (the root has none)."""
        if node.directory is not None:
            node.directory.update(node)

    def _join(self, node: Node, runs: Sequence[Run], fresh: Sequence[Run]) -> None:
        merged = [*runs]
        for cluster, count in fresh:
            if merged and merged[-1][0] + merged[-1][1] == cluster:
                merged[-1] = (merged[-1][0], merged[-1][1] + count)
            else:
                merged.append((cluster, count))
        # Whoever walks a chain must find its new part complete: link it first, hook it on last.
        if node.chained and runs:
            self.fat.link(fresh)
            self.fat.set(runs[-1][0] + runs[-1][1] - 1, fresh[0][0])
        else:
            node.chained = len(merged) > 1
            if node.chained:
                self.fat.link(merged)
        if not runs:
            node.first = merged[0][0]
        self._set_runs(node, merged)

    def _set_runs(self, node: Node, runs: list[Run]) -> None:
        geometry = self.geometry
        node.runs = runs
        node.bases = [geometry.cluster_offset(cluster) for cluster, _ in runs]
        node.starts = []
        offset = 0
        for _, count in runs:
            node.starts.append(offset)
            offset += count << geometry.cluster_shift
        node.base = node.bases[0] if len(runs) == 1 and not node.is_directory else -1

    def _ahead(self, node: Node, need: int) -> int:
        """How many clusters to keep for the next growth: as much again as the file has, within bounds."""
        size = min(max(node.size, 64 * KIB), 64 * MIB)
        room = self.geometry.cluster_count // 16
        return min(max(need, size >> self.geometry.cluster_shift), room)

    def _alignment(self, align: int) -> tuple[int, int]:
        geometry = self.geometry
        origin = geometry.partition_offset + geometry.heap_offset
        if align <= geometry.cluster_size or origin % geometry.cluster_size:
            return 1, 0
        return align >> geometry.cluster_shift, (-origin % align) >> geometry.cluster_shift
