"""Disks that a hardware provider brings to a host for a short time, and takes away again."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from labenv.devices import DeviceError
from labenv.faults import ConnectionDropped
from labenv.windows.disks import gpt as table
from labenv.windows.disks import layout as layouts
from labenv.windows.disks.layout import Layout
from labenv.windows.records import DiskRecord, MountRecord
from labenv.windows.volumes import Volume
from labenv.windows.vss import codes
from labenv.windows.vss.codes import VssError

if TYPE_CHECKING:
    from labenv.state import State
    from labenv.windows.host import Host

FLAGS = table.HIDDEN | table.READ_ONLY | table.SHADOW_COPY | table.NO_DRIVE_LETTER
"""What VSS sets on the partitions of a disk while a provider copies it, and so on the copy."""

RESCANS = 4
PAUSE = 5.0
"""Lab seconds between two rescans for a disk that should have arrived."""


def unique_id(serial: str) -> str:
    """The UniqueId of a LUN's disk."""
    return "600A0980" + serial.encode("latin-1").hex().upper()


class Arrivals:
    """Finds, shows, hides and forgets the disks of LUN clones on one host."""

    def __init__(self, host: Host, state: State) -> None:
        self._host = host
        self._mounts = state.table(f"windows.{host.spec.name}.mount", MountRecord)

    # -- flags of the original -------------------------------------------------------------------------------------

    def mark(self, disk: str) -> Layout | None:
        """Set the VSS flags in the partition table on a disk, behind the mounted volume's back; gives the old table.

        Windows reads the attributes when a volume is mounted, so the running system does not notice; a copy that is
        taken meanwhile has them.
        """
        disks = self._host.disks
        record = disks.records[disk]
        try:
            layout = layouts.read_layout(disks.raw(record))
            if layout is not None:
                layouts.write_layout(disks.raw(record), _flagged(layout))
        except DeviceError as error:
            raise VssError(codes.UNEXPECTED, f"disk {record.number}: {error}") from error
        return layout

    def unmark(self, disk: str, layout: Layout | None) -> None:
        """Put the old partition table back."""
        if layout is None:
            return
        record = self._host.disks.records[disk]
        try:
            layouts.write_layout(self._host.disks.raw(record), layout)
        except DeviceError as error:
            raise VssError(codes.UNEXPECTED, f"disk {record.number}: {error}") from error

    # -- the clone's disk ------------------------------------------------------------------------------------------

    async def find(self, serial: str) -> DiskRecord:
        """The disk of a LUN that was just mapped; raises ``VssError`` if it does not arrive."""
        host = self._host
        for attempt in range(RESCANS):
            if attempt:
                await host.clock.sleep(PAUSE)
            await host.spend("windows.rescan")
            try:
                await host.faults.at("windows.disk", host=host.name, serial=serial, event="arrival")
            except ConnectionDropped:
                continue  # no path to it is claimed
            host.disks.rescan(keep_offline=True)
            record = host.disks.records.get(unique_id(serial))
            if record is not None and record.number is not None:
                return record
        raise VssError(
            codes.NO_SNAPSHOTS_IMPORTED,
            f"the expected disk {unique_id(serial)} did not arrive on {host.name} within {RESCANS} rescans",
        )

    def show(self, record: DiskRecord) -> tuple[Layout, list[Volume]]:
        """Bring the disk online, writable, under an identity of its own; returns the identity that it had."""
        disks = self._host.disks
        try:
            original = layouts.read_layout(disks.raw(record))
            if original is None:
                raise VssError(codes.UNEXPECTED, f"disk {record.number} holds no partition table")
            fresh = disks.fresh_guids(record, original)
            for partition in fresh.partitions:
                attributes = (partition.attributes | FLAGS) & ~table.READ_ONLY
                fresh = fresh.with_attributes(partition.number, attributes)
            disks.rewrite_offline(record, fresh)
        except DeviceError as error:
            raise VssError(codes.UNEXPECTED, f"disk {record.number}: {error}") from error
        disks.records[record.unique_id] = replace(record, read_only=False)
        disks.set_offline(disks.records[record.unique_id], False)
        return original, [v for v in self._host.volumes.all() if v.disk == record.unique_id]

    def hide(self, record: DiskRecord, original: Layout) -> None:
        """Dismount the disk and give it the identity back that it had, hidden and read-only."""
        disks = self._host.disks
        volumes = [v for v in self._host.volumes.all() if v.disk == record.unique_id]
        disks.set_offline(disks.records[record.unique_id], True)
        for volume in volumes:
            self._mounts.pop(str(volume.guid), None)
        try:
            disks.rewrite_offline(record, _flagged(original))
        except DeviceError as error:
            raise VssError(codes.CANNOT_REVERT_DISK_ID, f"disk {record.number}: {error}") from error

    async def forget(self, serial: str) -> None:
        """The LUN is not mapped any more: rescan, and drop what the host remembers of it."""
        host = self._host
        await host.spend("windows.rescan")
        host.disks.rescan()
        record = host.disks.records.get(unique_id(serial))
        if record is not None and record.number is None:
            del host.disks.records[record.unique_id]


def _flagged(layout: Layout) -> Layout:
    for partition in layout.partitions:
        if partition.holds_volume:
            layout = layout.with_attributes(partition.number, partition.attributes | FLAGS)
    return layout
