"""What all virtual disk files have in common, whatever their format."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Protocol
from uuid import UUID

from labenv.devices import BlockDevice, DeviceGone, ReadOnlyDevice
from labenv.windows.disks.exfat_layout import check_range

SECTOR = 512
MIB = 1024 * 1024


class VhdFormat(Enum):
    """What PowerShell calls VhdFormat."""

    VHD = "VHD"
    VHDX = "VHDX"


class VhdType(Enum):
    """What PowerShell calls VhdType."""

    FIXED = "Fixed"
    DYNAMIC = "Dynamic"
    DIFFERENCING = "Differencing"


class GrowingDevice(BlockDevice, Protocol):
    """A file that can hold a virtual disk; ``labenv.windows.disks.exfat.File`` is one."""

    def truncate(self, size: int) -> None:
        """Set the length; bytes gained read as zeros."""

    def preallocate(self, size: int) -> None:
        """Make the file that long, so that all of it can be written in place; bytes gained are zeros without space."""


@dataclass(frozen=True)
class VhdInfo:
    """What ``Get-VHD`` tells; sizes in bytes.

    ``linkage`` is what a child remembers of this disk: a VHD's own identifier, a VHDX's data-write GUID, which
    changes when somebody writes to it. ``parent_linkage`` is what this disk remembers of its parent.
    """

    format: VhdFormat
    type: VhdType
    size: int
    file_size: int
    identifier: UUID
    parent_path: str | None
    block_size: int
    logical_sector_size: int
    physical_sector_size: int
    linkage: UUID
    parent_linkage: UUID | None = None
    parent_relative_path: str | None = None


class VirtualDisk(ABC):
    """The bytes of a virtual disk as a device. Whoever opened it closes the file and the parent."""

    def __init__(self, file: GrowingDevice, *, size: int, parent: VirtualDisk | None, read_only: bool) -> None:
        self.file = file
        self.parent = parent
        self.read_only = read_only
        self._size = size
        self._open = True

    @property
    def size(self) -> int:
        """What the disk's user sees, in bytes."""
        return self._size

    @property
    @abstractmethod
    def info(self) -> VhdInfo:
        """The headers' contents as they are now."""

    @abstractmethod
    def read(self, offset: int, length: int) -> bytes:
        """The bytes at an offset; raises ``DeviceError`` beyond the end."""

    @abstractmethod
    def write(self, offset: int, data: bytes) -> None:
        """Store bytes; raises ``ReadOnlyDevice`` if opened so."""

    @abstractmethod
    def unmap(self, offset: int, length: int) -> None:
        """Make a range read as zeros, giving back what space can be."""

    @abstractmethod
    def ranges(self) -> Iterator[tuple[int, int]]:
        """(offset, length) of what this file itself holds, in order; the rest is the parent's, or zeros."""

    @abstractmethod
    def resize(self, size: int) -> None:
        """Change what the disk's user sees; raises ``VirtualDiskError`` if the format or the type cannot."""

    def flush(self) -> None:
        """Flush the file."""
        self._check_open()
        self.file.flush()

    def close(self) -> None:
        """End the use of the disk; every later call raises ``DeviceGone``."""
        self._open = False

    def _check_open(self) -> None:
        if not self._open:
            raise DeviceGone("the virtual disk was closed; open it again")

    def _check_read(self, offset: int, length: int) -> None:
        self._check_open()
        check_range(offset, length, self._size)

    def _check_write(self, offset: int, length: int) -> None:
        self._check_read(offset, length)
        if self.read_only:
            raise ReadOnlyDevice("the virtual disk was opened read-only")
