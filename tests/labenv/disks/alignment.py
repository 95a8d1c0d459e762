"""Counting what misaligned writes cost the array: blocks that have to be read before they can be written."""

from __future__ import annotations

from labenv.devices import BlockDevice, Forwarding

BLOCK = 4096
_BUCKET = 512


class AlignmentCounter(Forwarding):
    """A device that passes everything on and counts, as ONTAP's LUN statistics do.

    ``write_align_histo[n]`` counts writes that begin ``n`` times 512 bytes behind a 4 KiB block, ``partial_blocks``
    the blocks that a write covers only in part: each costs the array a read before the write.
    """

    def __init__(self, device: BlockDevice) -> None:
        self.device = device
        self.writes = 0
        self.partial_writes = 0
        self.partial_blocks = 0
        self.write_align_histo = [0] * (BLOCK // _BUCKET)

    def _device(self) -> BlockDevice:
        return self.device

    def write(self, offset: int, data: bytes) -> None:
        """Pass a write on and count it."""
        self.device.write(offset, data)
        self.writes += 1
        start, end = offset % BLOCK, (offset + len(data)) % BLOCK
        self.write_align_histo[start // _BUCKET] += 1
        if start or end:
            self.partial_writes += 1
            one = offset // BLOCK == (offset + len(data) - 1) // BLOCK
            self.partial_blocks += 1 if one else bool(start) + bool(end)

    def reset(self) -> None:
        """Begin to count anew."""
        self.writes = self.partial_writes = self.partial_blocks = 0
        self.write_align_histo = [0] * (BLOCK // _BUCKET)
