r"""The guest's own shadow copies: blocks as they were at one instant, kept in a file of each volume.

That file is the difference area. A backup makes a shadow copy while the guest's writers are frozen, and the guest goes
on at once. What the host copies a little later holds the volume of *then* and the difference area; ``revert`` turns it
back into the volume of the instant (auto-recovery). As in Windows the file is under ``\System Volume Information``; its
inner form is the lab's own: a header block, the index (one 64-bit number for each slot: partition block + 1, 0 for a
free slot), and the slots.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from uuid import UUID

from labenv.devices import BlockDevice
from labenv.guest.errors import ShadowStorageFull
from labenv.windows.disks.exfat import FileSystem

BLOCK = 4096
FOLDER = "\\System Volume Information"
SUFFIX = "{3808876b-c176-4e48-b7ae-04046e6cc752}"
"""Ends the name of every difference area, as Windows has it."""

SLOTS = 8192
FEWEST_SLOTS = 64
_HEADER = struct.Struct("<8s16sQ")
_MAGIC = b"DIFFAREA"
_ENTRY = struct.Struct("<Q")


def area_path(set_id: UUID) -> str:
    """The path of a shadow copy's difference area on its volume."""
    return f"{FOLDER}\\{{{set_id}}}{SUFFIX}"


def areas(file_system: FileSystem) -> list[str]:
    """Paths of all difference areas on a volume."""
    if not file_system.exists(FOLDER):
        return []
    return [entry.path for entry in file_system.listdir(FOLDER) if entry.name.endswith(SUFFIX)]


class _Area:
    """The bytes of a difference area, at the extents of its file: they do not pass through the file system."""

    def __init__(self, device: BlockDevice, extents: Sequence[tuple[int, int]]) -> None:
        self._device = device
        self.extents = extents

    def read(self, offset: int, length: int) -> bytes:
        return b"".join(self._device.read(at, part) for at, part in self._map(offset, length))

    def write(self, offset: int, data: bytes) -> None:
        done = 0
        for at, part in self._map(offset, len(data)):
            self._device.write(at, data[done : done + part])
            done += part

    def clear(self, length: int) -> None:
        for at, part in self._map(0, length):
            self._device.unmap(at, part)

    def _map(self, offset: int, length: int) -> Iterator[tuple[int, int]]:
        for at, extent in self.extents:
            if offset < extent and length:
                part = min(length, extent - offset)
                yield at + offset, part
                offset, length = 0, length - part
            else:
                offset -= min(offset, extent)


def _index_size(slots: int) -> int:
    return -(-slots * _ENTRY.size // BLOCK) * BLOCK


class ShadowFilter:
    """A volume's device that keeps what is overwritten while a shadow copy is active; otherwise it only passes on."""

    def __init__(self, device: BlockDevice) -> None:
        self._device = device
        self._area: _Area | None = None
        self._slots = 0
        self._kept: set[int] = set()
        self._own: set[int] = set()
        self.lost = False

    @property
    def size(self) -> int:
        """Capacity in bytes."""
        return self._device.size

    @property
    def active(self) -> bool:
        """Whether a shadow copy is being kept."""
        return self._area is not None

    def read(self, offset: int, length: int) -> bytes:
        """Bytes of the volume as it is now."""
        return self._device.read(offset, length)

    def write(self, offset: int, data: bytes) -> None:
        """Store bytes; what was there is kept first."""
        if self._area is not None:
            self._keep(offset, len(data), changes_to_zero=False)
        self._device.write(offset, data)

    def unmap(self, offset: int, length: int) -> None:
        """Give space back; what was there is kept first."""
        if self._area is not None:
            self._keep(offset, length, changes_to_zero=True)
        self._device.unmap(offset, length)

    def flush(self) -> None:
        """Flush the device."""
        self._device.flush()

    def prepare(self, file_system: FileSystem, set_id: UUID) -> None:
        """Create the difference area; raises ``ShadowStorageFull`` if the volume has no room for it."""
        slots = min(SLOTS, file_system.free // 2 // BLOCK)
        if slots < FEWEST_SLOTS:
            raise ShadowStorageFull(
                f"the guest's volume has {file_system.free} bytes free, too few for a shadow copy: make room on it"
            )
        if not file_system.exists(FOLDER):
            file_system.mkdir(FOLDER)
        head = BLOCK + _index_size(slots)
        with file_system.create(area_path(set_id), size=head + slots * BLOCK) as file:
            area = _Area(self._device, file.extents())
        area.clear(head)
        area.write(0, _HEADER.pack(_MAGIC, set_id.bytes, slots).ljust(BLOCK, b"\0"))
        self._prepared = (area, slots)

    def activate(self) -> None:
        """This is the instant: keep everything from here on."""
        self._area, self._slots = self._prepared
        self._kept = set()
        self._own = {
            block for at, length in self._area.extents for block in range(at // BLOCK, -(-(at + length) // BLOCK))
        }
        self.lost = False

    def deactivate(self) -> None:
        """Stop keeping."""
        self._area = None

    def _keep(self, offset: int, length: int, *, changes_to_zero: bool) -> None:
        for block in range(offset // BLOCK, -(-(offset + length) // BLOCK)):
            if block in self._kept or block in self._own or self._area is None:
                continue
            old = self._device.read(block * BLOCK, min(BLOCK, self.size - block * BLOCK))
            if changes_to_zero and not any(old):
                continue  # nothing changes, and a later write still finds the zeros
            slot = len(self._kept)
            if slot == self._slots:
                # Out of room: the shadow copy is gone, the guest's own work goes on. Windows logs this as volsnap 25.
                self._area.write(0, bytes(BLOCK))
                self._area = None
                self.lost = True
                return
            head = BLOCK + _index_size(self._slots)
            self._area.write(head + slot * BLOCK, old.ljust(BLOCK, b"\0"))
            self._area.write(BLOCK + slot * _ENTRY.size, _ENTRY.pack(block + 1))
            self._kept.add(block)


def revert(device: BlockDevice, file_system: FileSystem, set_id: UUID) -> int | None:
    """Turn a volume back to the instant of a shadow copy; returns the number of blocks, None if it holds none.

    The file system has to be mounted anew afterwards. Doing it again does no harm.
    """
    path = area_path(set_id)
    if not file_system.exists(path):
        return None
    with file_system.open(path) as file:
        area = _Area(device, file.extents())
    magic, found, slots = _HEADER.unpack_from(area.read(0, _HEADER.size))
    if magic != _MAGIC or found != set_id.bytes:
        return None
    index = area.read(BLOCK, slots * _ENTRY.size)
    head = BLOCK + _index_size(slots)
    count = 0
    for slot, (entry,) in enumerate(_ENTRY.iter_unpack(index)):
        if not entry:
            break
        at = (entry - 1) * BLOCK
        length = min(BLOCK, device.size - at)
        device.write(at, area.read(head + slot * BLOCK, length))
        count += 1
    return count
