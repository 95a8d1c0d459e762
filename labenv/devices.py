"""What every layer of the data path is: a device of bytes, from a LUN's blocks up to a disk inside a guest."""

from __future__ import annotations

from typing import Protocol


class DeviceError(OSError):
    """A read or write of a device failed."""


class OutOfSpace(DeviceError):
    """The volume or the aggregate below the device has no free block left."""


class DeviceGone(DeviceError):
    """The device was fenced, unmapped, taken offline or deleted."""


class ReadOnlyDevice(DeviceError):
    """The device does not take writes (a file in a Snapshot copy, a read-only disk)."""


class BlockDevice(Protocol):
    """Bytes by offset. Reads of what was never written give zeros. Offsets and lengths are in bytes."""

    @property
    def size(self) -> int:
        """Capacity in bytes."""

    def read(self, offset: int, length: int) -> bytes:
        """The bytes at an offset; raises ``DeviceError`` beyond the end."""

    def write(self, offset: int, data: bytes) -> None:
        """Store bytes; raises ``OutOfSpace``, ``DeviceGone`` or ``ReadOnlyDevice``."""

    def unmap(self, offset: int, length: int) -> None:
        """Give the space of a range back; it reads as zeros afterwards."""

    def flush(self) -> None:
        """Make everything written so far survive a loss of power of whoever caches above the array."""
