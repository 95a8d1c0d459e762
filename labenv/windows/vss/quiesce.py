"""A running VM's disks as its guest's own VSS leaves them for a checkpoint.

The guest's writers are frozen; open transactions are in the data files all the same. What auto-recovery would change on
these disks is written to them, the checkpoint is cut, and the same blocks are put back through the new leaf. So the
files below the leaf are consistent without any recovery, and the guest never notices.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from uuid import UUID

from labenv.devices import BlockDevice, DeviceError
from labenv.guest.errors import ShadowStorageFull
from labenv.guest.guest import Guest
from labenv.guest.recovery import recover
from labenv.guest.shadow import BLOCK, FEWEST_SLOTS


class Overlay:
    """A device whose writes are kept in memory, by block."""

    def __init__(self, device: BlockDevice) -> None:
        self._device = device
        self.blocks: dict[int, bytes] = {}

    @property
    def size(self) -> int:
        """Capacity in bytes."""
        return self._device.size

    def _block(self, number: int) -> bytes:
        kept = self.blocks.get(number)
        if kept is not None:
            return kept
        return self._device.read(number * BLOCK, min(BLOCK, self.size - number * BLOCK))

    def read(self, offset: int, length: int) -> bytes:
        """The bytes at an offset, as they were written last."""
        if offset < 0 or offset + length > self.size:
            raise DeviceError(f"{length} bytes at {offset} leave a device of {self.size} bytes")
        first, last = offset // BLOCK, -(-(offset + length) // BLOCK)
        if not any(number in self.blocks for number in range(first, last)):
            return self._device.read(offset, length)
        joined = b"".join(self._block(number) for number in range(first, last))
        return joined[offset - first * BLOCK :][:length]

    def write(self, offset: int, data: bytes) -> None:
        """Keep bytes."""
        end = offset + len(data)
        if offset < 0 or end > self.size:
            raise DeviceError(f"{len(data)} bytes at {offset} leave a device of {self.size} bytes")
        for number in range(offset // BLOCK, -(-end // BLOCK)):
            start = number * BLOCK
            low, high = max(offset, start), min(end, start + BLOCK)
            old = b"" if high - low == BLOCK else self._block(number)
            self.blocks[number] = old[: low - start] + data[low - offset : high - offset] + old[high - start :]

    def unmap(self, offset: int, length: int) -> None:
        """Keep zeros."""
        step = 1 << 20
        for start in range(offset, offset + length, step):
            self.write(start, bytes(min(step, offset + length - start)))

    def flush(self) -> None:
        """Nothing is below."""


def leave_consistent(
    guest: Guest, disks: Sequence[BlockDevice], *, vm_id: UUID, now: Callable[[], datetime], seed: int
) -> Callable[[], None]:
    """Bring the disks of a frozen guest into the state of auto-recovery; call what is returned to put them back.

    Nothing may happen in between but the cut. Raises ``GuestError`` if the guest cannot take part: a volume has no room
    for its own shadow copy, or no operating system is found.
    """
    for letter, volume in guest.own_volumes.items():
        if volume.free // 2 // BLOCK < FEWEST_SLOTS:
            raise ShadowStorageFull(f"volume {letter}: of the guest has {volume.free} bytes free, too few to take part")
    overlays = [Overlay(disk) for disk in disks]
    recover(overlays, set_id=None, vm_id=vm_id, now=now, seed=seed)
    changed: list[tuple[BlockDevice, int, bytes]] = []
    for disk, overlay in zip(disks, overlays, strict=True):
        for number, new in sorted(overlay.blocks.items()):
            old = disk.read(number * BLOCK, len(new))
            if old != new:
                changed.append((disk, number * BLOCK, old))
                disk.write(number * BLOCK, new)

    def put_back() -> None:
        for disk, offset, old in changed:
            disk.write(offset, old)

    return put_back
