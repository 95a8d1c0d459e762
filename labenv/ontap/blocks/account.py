"""What a volume is charged for: its size, its guarantee, and the leases that keep the write path short."""

from __future__ import annotations

from labenv.devices import DeviceGone, OutOfSpace
from labenv.ontap.blocks.engine import Engine
from labenv.ontap.blocks.errors import NotPossible
from labenv.ontap.blocks.file import BlockFile
from labenv.ontap.blocks.pool import BLOCK, Places
from labenv.ontap.blocks.records import VolumeRecord
from labenv.ontap.blocks.snapshot import SnapshotBlocks
from labenv.ontap.blocks.space import Aggregate, VolumeUsage
from labenv.ontap.blocks.tree import count_data, drop


class VolumeAccount:
    """The space of one volume.

    Attributes:
        files: the active file system, by path (``"/lun1"``).
        snapshots: Snapshot copies by name, oldest first.
        parent, parent_snapshot: numbers of what a FlexClone volume is backed by; 0 if it is none.
        clones: FlexClone volumes backed by this one, by number.
        room, ceiling: data blocks that may be taken without asking; the volume holds ``ceiling - room`` data blocks.
        page_room, page_ceiling: the same for pointer pages.
        version: changes with everything that may change what the active file system holds, except writes.
    """

    def __init__(self, engine: Engine, aggregate: Aggregate, record: VolumeRecord) -> None:
        self.engine = engine
        self.aggregate = aggregate
        self.number = record.number
        self.key = record.key
        self._size = record.size
        self._guarantee = record.guarantee
        self._reserve = record.snapshot_reserve
        self.parent = record.parent
        self.parent_snapshot = record.parent_snapshot
        self.clones: dict[int, VolumeAccount] = {}
        self.files: dict[str, BlockFile] = {}
        self.snapshots: dict[str, SnapshotBlocks] = {}
        self.room = self.ceiling = 0
        self.page_room = self.page_ceiling = 0
        self.version = 0
        self._promised = 0
        self._gone = ""
        self._active: tuple[tuple[int, int, int], int] = ((-1, 0, 0), 0)

    def record(self) -> VolumeRecord:
        """The row that describes the volume now."""
        return VolumeRecord(
            self.number,
            self.key,
            self.aggregate.key,
            self._size,
            self._guarantee,
            self._reserve,
            self.parent,
            self.parent_snapshot,
        )

    def _exists(self) -> None:
        if self._gone:
            raise DeviceGone(f"volume {self.key}: {self._gone}")

    def changed(self) -> None:
        """Have the row written by the next consistency point; leases are asked for again."""
        self._exists()
        self.engine.changes["volume", str(self.number)] = self
        self.shaken()

    def shaken(self) -> None:
        """What the volume holds has changed by other means than a write."""
        self.version += 1
        self.end_lease()

    @property
    def held(self) -> int:
        """Data blocks charged to the volume."""
        return self.ceiling - self.room

    @property
    def pages(self) -> int:
        """Pointer pages charged to the volume."""
        return self.page_ceiling - self.page_room

    @property
    def charge(self) -> int:
        """Blocks that the volume takes from its aggregate."""
        held = self.held + self.pages
        return max(self._size, held) if self._guarantee else held

    def begin_lease(self, data: int, pages: int) -> None:
        """Take up to so many data blocks and pages without asking again."""
        self.ceiling = self.held + data
        self.room = data
        self.page_ceiling = self.pages + pages
        self.page_room = pages
        self._promise(self.charge if self._guarantee else self.ceiling + self.page_ceiling)

    def end_lease(self) -> None:
        """Ask again before the next block."""
        self.ceiling, self.room = self.held, 0
        self.page_ceiling, self.page_room = self.pages, 0
        self._promise(self.charge)

    def leave_aggregate(self) -> None:
        """The volume is gone."""
        self._promise(0)
        del self.aggregate.volumes[self.number]

    def _promise(self, blocks: int) -> None:
        self.aggregate.promised += blocks - self._promised
        self._promised = blocks

    def drop_data(self, places: Places) -> None:
        """Take one reference from each data block."""
        if len(places):
            drop(self.engine.pool, self, places, 0)

    def active_blocks(self) -> int:
        """Data blocks charged to the volume that the active file system reaches, each counted once."""
        if not self.snapshots:
            return self.held  # nothing else could hold them
        key = (self.version, self.ceiling, self.room)
        if self._active[0] != key:
            self.engine.charge()
            count = count_data(self.engine.pool, ((f.root, f.height) for f in self.files.values()), self.number)
            self._active = (key, count)
        return self._active[1]

    def _reserved_holes(self) -> int:
        return sum(f.reserved_holes for f in self.files.values())

    def _numbers(self) -> tuple[int, int, int, int]:
        """Blocks: active with reservations, held by Snapshot copies only, their reserve, and free for writing."""
        active = self.active_blocks()
        snapshots = self.held - active
        active += self._reserved_holes()
        reserve = self._size * self._reserve // 100
        return active, snapshots, reserve, self._size - reserve - active - max(0, snapshots - reserve)

    def lease(self, data: int, pages: int, path: str, *, reserved: int = 0) -> None:
        """Make sure that a write can take blocks, ``reserved`` of which the file's reservation covers.

        Raises:
            OutOfSpace: the volume or the aggregate is full.
        """
        # at least this much is free, and no walk of the trees is needed to know it
        free = self._size - self._size * self._reserve // 100 - self.held - self._reserved_holes()
        if data - reserved > free:
            free = self._numbers()[3]
        if data - reserved > max(free, 0):
            raise OutOfSpace(
                f"{path}: the volume is full, {(data - reserved) * BLOCK} bytes are needed and {max(0, free) * BLOCK} "
                f"left; delete Snapshot copies, or make the volume larger"
            )
        self.aggregate.lease(self, data, pages, most=max(0, free))

    def demand(self, blocks: int, purpose: str) -> None:
        """Raise ``OutOfSpace`` unless the volume has so many blocks free; for reservations."""
        free = self._numbers()[3]
        if blocks > max(free, 0):
            raise OutOfSpace(
                f"cannot {purpose}: it takes {blocks * BLOCK} bytes of the volume and {max(0, free) * BLOCK} are left; "
                f"make the volume larger, or do without the reservation"
            )
        self.end_lease()

    @property
    def usage(self) -> VolumeUsage:
        """The volume's space in bytes."""
        active, snapshots, reserve, free = self._numbers()
        logical = sum(f.mapped for f in self.files.values())
        if not self._guarantee:
            free = self.aggregate.free_for(free)
        return VolumeUsage(
            size=self._size * BLOCK,
            used=(active + max(0, snapshots - reserve)) * BLOCK,
            snapshot_used=snapshots * BLOCK,
            snapshot_reserve=reserve * BLOCK,
            available=max(0, free) * BLOCK,
            shared=(logical - self.active_blocks()) * BLOCK,
            logical_used=logical * BLOCK,
            metadata=self.pages * BLOCK,
            physical=self.held * BLOCK,
        )

    @property
    def size(self) -> int:
        """Bytes."""
        return self._size * BLOCK

    @property
    def guarantee(self) -> bool:
        """Whether the aggregate holds the whole size free for the volume.

        Setting it raises ``OutOfSpace`` if the aggregate has not the room.
        """
        return self._guarantee

    @guarantee.setter
    def guarantee(self, guarantee: bool) -> None:
        if guarantee and not self._guarantee:
            self.aggregate.demand(self._size - self.charge, "guarantee the volume's space")
        self._guarantee = guarantee
        for file in self.files.values():
            file.settle_reservation()
        self.changed()

    @property
    def snapshot_reserve(self) -> int:
        """Percent of the size that only Snapshot copies may use."""
        return self._reserve

    @snapshot_reserve.setter
    def snapshot_reserve(self, percent: int) -> None:
        if not 0 <= percent <= 90:
            raise NotPossible(f"a Snapshot reserve of {percent} % is not possible: give 0 to 90")
        self._reserve = percent
        self.changed()

    def resize(self, size: int) -> None:
        """Make the volume larger or smaller.

        Raises:
            OutOfSpace: it is guaranteed and the aggregate has not the room.
            NotPossible: it holds more than that.
        """
        blocks = size // BLOCK
        if blocks > self._size and self._guarantee:
            self.aggregate.demand(blocks - self.charge, "make the volume larger")
        if blocks < self._size:
            active, snapshots, _, _ = self._numbers()
            reserve = blocks * self._reserve // 100
            if active + max(0, snapshots - reserve) > blocks - reserve:
                raise NotPossible(
                    f"the volume holds {(active + snapshots) * BLOCK} bytes and cannot shrink to {size}: "
                    f"delete Snapshot copies or LUNs first"
                )
        self._size = blocks
        self.changed()
