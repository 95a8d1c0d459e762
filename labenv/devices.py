"""What every layer of the data path is: a device of bytes, from a LUN's blocks up to a disk inside a guest."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Protocol, runtime_checkable


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


@runtime_checkable
class SparseDevice(BlockDevice, Protocol):
    """A device that knows where it was never written."""

    def data_ranges(self, offset: int, length: int) -> Iterator[tuple[int, int]]:
        """Offset and length of the parts of a range outside which everything is zeros, in ascending order."""


def data_ranges(device: BlockDevice, offset: int, length: int) -> Iterator[tuple[int, int]]:
    """The parts of a range that may hold data; the whole of it for a device that cannot tell."""
    if isinstance(device, SparseDevice):
        yield from device.data_ranges(offset, length)
    elif length > 0:
        yield offset, length


class Forwarding(ABC):
    """A device that is another one, found anew for each access: where it is may change, or it may be gone."""

    @abstractmethod
    def _device(self) -> BlockDevice:
        """The device now; raises ``DeviceGone``."""

    @property
    def size(self) -> int:
        """Capacity in bytes."""
        return self._device().size

    def read(self, offset: int, length: int) -> bytes:
        """The bytes at an offset."""
        return self._device().read(offset, length)

    def data_ranges(self, offset: int, length: int) -> Iterator[tuple[int, int]]:
        """The parts of a range that may hold data."""
        return data_ranges(self._device(), offset, length)

    def write(self, offset: int, data: bytes) -> None:
        """Store bytes."""
        self._device().write(offset, data)

    def unmap(self, offset: int, length: int) -> None:
        """Give the space of a range back."""
        self._device().unmap(offset, length)

    def flush(self) -> None:
        """Flush the device below."""
        self._device().flush()
