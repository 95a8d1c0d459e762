"""Checking an exFAT volume, and mending what a loss of power may leave: what chkdsk is to the host."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from labenv.windows.disks.errors import Corrupt
from labenv.windows.disks.exfat_bitmap import Run
from labenv.windows.disks.exfat_directory import Directory
from labenv.windows.disks.exfat_layout import FIRST_CLUSTER
from labenv.windows.disks.exfat_volume import Node, Volume


@dataclass
class CheckResult:
    """What a check found; clusters are counted from 0."""

    errors: list[str] = field(default_factory=list)
    """Damage: clusters that two files use, that no file may use, that do not exist; unreadable directories."""
    lost: list[Run] = field(default_factory=list)
    """Clusters that are marked and that nothing uses: wasted space, no damage."""
    twins: list[tuple[str, str]] = field(default_factory=list)
    """Paths that name the same clusters with the same size: a move that lost power half way."""

    tails: list[str] = field(default_factory=list)
    """Paths whose chain goes on behind the file's size: a growth or a cut that lost power half way."""

    @property
    def clean(self) -> bool:
        """Whether there is nothing to mend."""
        return not (self.errors or self.lost or self.twins or self.tails)


def check_volume(volume: Volume, root: Directory) -> CheckResult:
    """Walk the whole tree and hold it against the bitmap."""
    result = CheckResult()
    total = volume.geometry.cluster_count
    owners = np.zeros(total, dtype=np.uint8)
    seen: dict[int, tuple[str, Node]] = {}
    for first, length in volume.system_chains:
        _count(owners, volume.fat.follow(first, limit=volume.geometry.clusters(length)))
    _count(owners, volume.locate(root.node))
    stack = [("", root)]
    while stack:
        path, directory = stack.pop()
        for node in directory:
            where = f"{path}\\{node.name}"
            try:
                runs = volume.locate(node)
                twin = seen.get(node.first) if runs else None
                if twin is not None and twin[1].size == node.size and twin[1].is_directory == node.is_directory:
                    result.twins.append((twin[0], where))
                    continue
                seen[node.first] = (where, node)
                _count(owners, runs)
                if node.chained and runs and not volume.fat.ends(runs[-1][0] + runs[-1][1] - 1):
                    result.tails.append(where)
                if node.valid > node.size:
                    result.errors.append(f"{where} has a valid length behind its end")
                if node.is_directory:
                    if not isinstance(node.children, Directory):
                        node.children = Directory(volume, node)
                    stack.append((where, node.children))
            except Corrupt as error:
                result.errors.append(f"{where}: {error}")
    if bool((owners > 1).any()):
        result.errors.append(f"{int((owners > 1).sum())} clusters belong to more than one file")
    marked = np.ones(total, dtype=bool)
    for start, count in volume.bitmap.free_runs():
        marked[start : start + count] = False
    unmarked = int(((owners > 0) & ~marked).sum())
    if unmarked:
        result.errors.append(f"{unmarked} clusters are in use and marked as free")
    lost = np.flatnonzero(marked & (owners == 0))
    if lost.size:
        breaks = np.flatnonzero(np.diff(lost) != 1) + 1
        result.lost = [(int(run[0]), int(run.size)) for run in np.split(lost, breaks)]
    return result


def _count(owners: np.ndarray[tuple[int], np.dtype[np.uint8]], runs: list[Run]) -> None:
    for cluster, count in runs:
        start = cluster - FIRST_CLUSTER
        owners[start : start + count] += np.uint8(1)
