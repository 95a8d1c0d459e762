"""Pass-through disks: a disk of the host that a virtual machine has for itself."""

from __future__ import annotations

from labenv.devices import BlockDevice, DeviceGone, Forwarding
from labenv.windows.errors import FileProblem
from labenv.windows.records import DiskRecord, DriveRecord
from labenv.windows.storage import Disks


class PhysicalDisk(Forwarding):
    """The bytes of a host's disk as its VM sees them; gone if the host takes the disk for itself or loses it."""

    def __init__(self, disks: Disks, unique_id: str) -> None:
        self._disks = disks
        self._unique_id = unique_id
        self.closed = False

    def _device(self) -> BlockDevice:
        record = self._disks.records.get(self._unique_id)
        if self.closed or record is None or record.number is None or not record.offline:
            raise DeviceGone(f"the physical disk {self._unique_id} does not belong to a virtual machine now")
        return self._disks.raw(record)


class PassThrough:
    """A pass-through disk in the place of an open chain of files (``vhds.OpenDisk``)."""

    paths: tuple[str, ...] = ()

    def __init__(self, device: PhysicalDisk) -> None:
        self.device = device

    def close(self) -> None:
        """Let go of the disk."""
        self.device.closed = True


def find(disks: Disks, drive: DriveRecord) -> DiskRecord | None:
    """The disk of a drive as this host has it; None if it is not there."""
    record = disks.records.get(drive.disk_id)
    return record if record is not None and record.number is not None else None


def open_physical(disks: Disks, drive: DriveRecord) -> PassThrough:
    """Open a drive's disk; raises ``FileProblem`` if it is not there, or if the host uses it itself."""
    record = find(disks, drive)
    if record is None:
        raise FileProblem(0x80070002, "The system cannot find the physical disk.")
    if not record.offline:
        raise FileProblem(0x80070020, f"The disk {record.number} is online on the host, which uses it itself.")
    try:
        disks.raw(record)
    except DeviceGone as error:
        raise FileProblem(0x80070015, f"The device is not ready. : 'Disk {record.number}'") from error
    return PassThrough(PhysicalDisk(disks, record.unique_id))
