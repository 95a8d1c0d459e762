"""The partition table of a disk, whichever of the two styles it has."""

from __future__ import annotations

from uuid import UUID

from labenv.devices import BlockDevice
from labenv.windows.disks import gpt, mbr
from labenv.windows.disks.gpt import MIB, Gpt, Partition
from labenv.windows.disks.mbr import Mbr, MbrPartition

Layout = Gpt | Mbr
"""A partition table."""
AnyPartition = Partition | MbrPartition
"""A partition of either."""
Identity = UUID | int
"""What a host knows a disk by: the GUID of a GPT, the signature of an MBR."""


def read_layout(device: BlockDevice) -> Layout | None:
    """The disk's table; None if it has none. What is left of a GPT on a disk with a plain MBR does not count."""
    return mbr.read_mbr(device) or gpt.read_gpt(device)


def write_layout(device: BlockDevice, layout: Layout | None) -> None:
    """Write a table (None: wipe every trace of one); raises ``DeviceError`` if it does not fit the disk."""
    if layout is None:
        gpt.clear_table(device)
    elif isinstance(layout, Gpt):
        gpt.write_gpt(device, layout)
    else:
        mbr.write_mbr(device, layout)


def free_range(device: BlockDevice, layout: Layout, *, align: int = MIB) -> tuple[int, int]:
    """The largest unused range as (offset, length) in bytes, multiples of ``align``; length 0 if none is left."""
    free = gpt.free_range if isinstance(layout, Gpt) else mbr.free_range
    return free(device, layout, align=align)  # type: ignore[arg-type]  # each has its own style


def room_at(device: BlockDevice, layout: Layout, offset: int) -> int:
    """Bytes that are free from an offset to the next partition or to the end; 0 if the offset is taken or too low."""
    first, last = gpt.usable(device) if isinstance(layout, Gpt) else mbr.usable(device)
    if not first <= offset < last or any(p.offset <= offset < p.offset + p.length for p in layout.partitions):
        return 0
    return min([last, *(p.offset for p in layout.partitions if p.offset > offset)]) - offset
