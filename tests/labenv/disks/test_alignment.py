"""The misalignment that the TR warns of comes out of the bytes."""

from __future__ import annotations

import random
from uuid import UUID

import pytest
from alignment import AlignmentCounter
from exfat_model import NOW, now
from memory_disk import MemoryDisk

from labenv.windows.disks.exfat import FileSystem, format_exfat
from labenv.windows.disks.gpt import PartitionDevice
from labenv.windows.disks.virtualdisk import VhdFormat, VhdType, create_vhd, open_vhd

MIB = 1024 * 1024
WRITES = 500


def partial_blocks(fmt: VhdFormat, kind: VhdType, *, partition: int = MIB) -> tuple[int, list[int]]:
    """Partial blocks and the alignment histogram of 4 KiB guest writes into a disk of a kind."""
    lun = AlignmentCounter(MemoryDisk(512 * MIB))
    volume = PartitionDevice(lun, partition, 500 * MIB)
    format_exfat(volume, label="CSV", serial=1)
    fs = FileSystem(volume, now=now)
    file = fs.create("\\disk")
    create_vhd(file, format=fmt, type=kind, size=64 * MIB, identifier=UUID(int=1), now=NOW)
    disk = open_vhd(file)
    for offset in range(0, 64 * MIB, MIB):
        disk.write(offset, b"a" * 4096)
    lun.reset()
    rnd = random.Random(1)
    for _ in range(WRITES):
        disk.write(rnd.randrange(0, 64 * MIB // 4096) * 4096, b"g" * 4096)
    assert lun.writes == WRITES
    assert sum(lun.write_align_histo) == WRITES
    return lun.partial_blocks, lun.write_align_histo


@pytest.mark.tr("R-T3-02")
@pytest.mark.parametrize("fmt", list(VhdFormat))
def test_fixed_disks_are_aligned(fmt: VhdFormat) -> None:
    """4 KiB writes of the guest are 4 KiB writes of the array: no block is written in part."""
    assert partial_blocks(fmt, VhdType.FIXED) == (0, [WRITES] + [0] * 7)


def test_dynamic_vhdx_is_aligned() -> None:
    """Blocks of a VHDX begin on whole MiB, so a dynamic one is aligned as well."""
    assert partial_blocks(VhdFormat.VHDX, VhdType.DYNAMIC) == (0, [WRITES] + [0] * 7)


@pytest.mark.tr("R-T3-03")
def test_dynamic_vhd_costs_two_partial_blocks_for_most_writes() -> None:
    """Sector bitmaps push the data of a dynamic VHD off the 4 KiB grid, block by block another 512 bytes."""
    partial, histogram = partial_blocks(VhdFormat.VHD, VhdType.DYNAMIC)
    assert partial > WRITES * 1.5
    assert sum(1 for writes in histogram if writes) > 4


def test_misaligned_partition_spoils_a_fixed_disk() -> None:
    """A partition at sector 63, as old Windows made it, misaligns everything in it."""
    partial, histogram = partial_blocks(VhdFormat.VHD, VhdType.FIXED, partition=63 * 512)
    assert (partial, histogram[7]) == (2 * WRITES, WRITES)


def test_writes_inside_one_block_count_once() -> None:
    """A short write costs one block, one over a boundary two, a whole block none."""
    counter = AlignmentCounter(MemoryDisk(MIB))
    counter.write(512, b"x" * 512)
    assert counter.partial_blocks == 1
    counter.write(4000, b"x" * 200)
    assert counter.partial_blocks == 3
    counter.write(8192, b"x" * 8192)
    counter.write(8192, b"x" * 5000)
    assert (counter.partial_blocks, counter.partial_writes, counter.writes) == (4, 3, 4)
