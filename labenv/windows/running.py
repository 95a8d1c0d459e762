"""The part of a VM that exists only while it runs: its open virtual disks and its guest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from labenv.devices import DeviceError, DeviceGone
from labenv.guest.guest import Guest
from labenv.windows.disks.errors import FileSystemError, VirtualDiskError
from labenv.windows.passthrough import PassThrough
from labenv.windows.records import DriveRecord
from labenv.windows.vhds import OpenDisk


class VmDisk:
    """A disk as the VM's controller shows it: the leaf of a chain, which a checkpoint may exchange meanwhile.

    ``failed`` is called with the first error; afterwards the disk answers nothing.
    """

    def __init__(self, drive: DriveRecord, disk: OpenDisk | PassThrough, failed: Callable[[Exception], None]) -> None:
        self.drive = drive
        self.disk = disk
        self._failed = failed
        self.stopped = False
        self.writes = 0

    @property
    def size(self) -> int:
        """Capacity in bytes."""
        return self.disk.device.size

    def hand_over(self, disk: OpenDisk | PassThrough, failed: Callable[[Exception], None]) -> None:
        """Go on with the same files on another host; the guest notices nothing."""
        self.disk = disk
        self._failed = failed

    def _run(self, operation: Callable[[], bytes | None]) -> bytes:
        if self.stopped:
            raise DeviceGone("the virtual machine is paused: its storage does not answer")
        try:
            return operation() or b""
        except (DeviceError, FileSystemError, VirtualDiskError) as error:
            self.stopped = True
            self._failed(error)
            if isinstance(error, DeviceError):
                raise
            raise DeviceError(str(error)) from error

    def read(self, offset: int, length: int) -> bytes:
        """The bytes at an offset."""
        return self._run(lambda: self.disk.device.read(offset, length))

    def write(self, offset: int, data: bytes) -> None:
        """Store bytes."""
        self.writes += 1
        self._run(lambda: self.disk.device.write(offset, data))

    def unmap(self, offset: int, length: int) -> None:
        """Give the space of a range back."""
        self.writes += 1
        self._run(lambda: self.disk.device.unmap(offset, length))

    def flush(self) -> None:
        """Flush the chain's leaf."""
        self._run(lambda: self.disk.device.flush())


@dataclass
class Running:
    """A running VM. ``guest`` is None if nothing on its disks can be booted."""

    disks: list[VmDisk] = field(default_factory=list)
    guest: Guest | None = None

    def power_off(self) -> None:
        """Lose power and let go of the files."""
        if self.guest is not None:
            self.guest.power_off()
            self.guest = None
        self.close()

    def close(self) -> None:
        """Let go of the files."""
        for disk in self.disks:
            try:
                disk.disk.close()
            except (DeviceError, FileSystemError, VirtualDiskError):
                continue  # the storage is away: nothing is left to be written
        self.disks.clear()
