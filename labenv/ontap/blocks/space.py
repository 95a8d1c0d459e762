"""Who may use how many blocks: aggregates, volumes, guarantees, and leases that keep the write path short."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from labenv.devices import OutOfSpace
from labenv.ontap.blocks.pool import BLOCK
from labenv.ontap.blocks.records import AggregateRecord

if TYPE_CHECKING:
    from labenv.ontap.blocks.account import VolumeAccount

_LEASE = 16384
_PAGE_LEASE = 1024


@dataclass(frozen=True)
class AggregateUsage:
    """Bytes of an aggregate. Volumes with a guarantee use their whole size, others what they hold."""

    size: int
    used: int

    @property
    def available(self) -> int:
        """Bytes that volumes can still take."""
        return max(0, self.size - self.used)


@dataclass(frozen=True)
class VolumeUsage:
    """Bytes of a volume.

    Attributes:
        size: its size. used: of the active file system with its reservations, and of Snapshot copies beyond their
            reserve.
        snapshot_used: held by Snapshot copies only. snapshot_reserve: set aside for them.
        available: what can be written yet, also by leave of the aggregate.
        shared: what the active file system saves because blocks are shared (deduplication, clones of files, and the
            parent of a FlexClone volume). logical_used: of its files, every block counted wherever it occurs.
        metadata: pointer pages. physical: data blocks charged to the volume.
    """

    size: int
    used: int
    snapshot_used: int
    snapshot_reserve: int
    available: int
    shared: int
    logical_used: int
    metadata: int
    physical: int


class Aggregate:
    """An aggregate's size and the volumes in it. All counts are in blocks.

    Attributes:
        promised: what volumes hold, are guaranteed, or have leased; never less than ``used``.
    """

    def __init__(self, key: str, size: int) -> None:
        self.key = key
        self.size = size
        self.volumes: dict[int, VolumeAccount] = {}
        self.promised = 0

    def record(self) -> AggregateRecord:
        """The row that describes the aggregate now."""
        return AggregateRecord(self.key, self.size)

    @property
    def used(self) -> int:
        """Blocks that volumes hold or are guaranteed."""
        return sum(volume.charge for volume in self.volumes.values())

    def free_for(self, blocks: int) -> int:
        """How many of so many blocks are free, or a little more than are promised to nobody."""
        if blocks <= self.size - self.promised:
            return blocks  # there is plenty; no need to ask every volume
        return min(blocks, self.size - self.used)

    def usage(self) -> AggregateUsage:
        """The aggregate's space in bytes."""
        return AggregateUsage(self.size * BLOCK, min(self.used, self.size) * BLOCK)

    def demand(self, blocks: int, purpose: str) -> None:
        """Raise ``OutOfSpace`` unless so many blocks are free; leases of volumes end."""
        if blocks <= 0:
            return
        for volume in self.volumes.values():
            volume.end_lease()
        free = self.size - self.used
        if blocks > free:
            raise OutOfSpace(
                f"cannot {purpose}: it takes {blocks * BLOCK} bytes of aggregate {self.key}, which has "
                f"{max(0, free) * BLOCK} left; delete Snapshot copies or volumes, or take another aggregate"
            )

    def lease(self, volume: VolumeAccount, data: int, pages: int, *, most: int) -> None:
        """Let a volume take at least ``data`` blocks and ``pages``, and up to ``most`` blocks if there is plenty."""
        if volume.guarantee:
            volume.begin_lease(max(data, most), 1 << 40)
            return
        volume.end_lease()
        free = self.size - self.promised
        if free < data + pages:
            for other in self.volumes.values():
                other.end_lease()
            free = self.size - self.used
        if free < data + pages:
            raise OutOfSpace(
                f"aggregate {self.key} is full: the write takes {(data + pages) * BLOCK} bytes and "
                f"{max(0, free) * BLOCK} are left; delete Snapshot copies or data of a volume in it"
            )
        share = max(0, free - data - pages) // 64
        volume.begin_lease(
            min(max(data, most), data + max(share, min(_LEASE, (free - data - pages) // 2))),
            pages + min(_PAGE_LEASE, max(share, (free - data - pages) // 4)),
        )


def check_capacity(aggregates: Mapping[str, Aggregate], size: int, capacity: int) -> None:
    """Raise ``OutOfSpace`` if another aggregate of ``size`` blocks exceeds the capacity of the store."""
    taken = sum(a.size for a in aggregates.values())
    if taken + size > capacity:
        raise OutOfSpace(
            f"aggregates of {(taken + size) * BLOCK} bytes exceed the {capacity * BLOCK} bytes of this array's disks: "
            f"make the aggregate smaller"
        )
