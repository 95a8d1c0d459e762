"""Partition tables: written, read back by us and by another program, damaged and mended."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest
from dissect.volume import disk as other
from memory_disk import MemoryDisk

from labenv.devices import DeviceError, DeviceGone
from labenv.windows.disks.gpt import (
    BASIC_DATA,
    HIDDEN,
    MIB,
    MSR,
    NO_DRIVE_LETTER,
    READ_ONLY,
    SHADOW_COPY,
    Gpt,
    Partition,
    PartitionDevice,
    PartitionStyle,
    free_range,
    initial_gpt,
    next_number,
    read_gpt,
    write_gpt,
)

GIB = 1024 * MIB


def guid(number: int) -> UUID:
    return UUID(int=number, version=4)


def table(disk: MemoryDisk) -> Gpt:
    gpt = initial_gpt(disk, disk_guid=guid(1), msr_guid=guid(2))
    offset, length = free_range(disk, gpt)
    return gpt.adding(Partition(next_number(gpt), BASIC_DATA, guid(3), offset, length, "Basic data partition"))


def test_written_table_is_read_back_and_aligned() -> None:
    """What was written is read, the data partition begins on a MiB and takes what is left."""
    disk = MemoryDisk(100 * GIB)
    written = table(disk)
    write_gpt(disk, written)
    assert read_gpt(disk) == written
    assert written.style is PartitionStyle.GPT
    reserved, data = written.partitions
    assert reserved.type_guid == MSR
    assert data.offset % MIB == 0
    assert reserved.offset + reserved.length == data.offset
    assert disk.size - data.offset - data.length <= 2 * MIB


def test_another_reader_sees_the_same_partitions(tmp_path: Path) -> None:
    """dissect.volume reads the partitions, names and GUIDs that were written."""
    disk = MemoryDisk(4 * GIB)
    written = table(disk)
    write_gpt(disk, written)
    with disk.export(tmp_path / "disk.img").open("rb") as image:
        found = other.Disk(image).partitions
        # Its own ``size`` leaves out the last sector, which the table names inclusively.
        assert [(p.offset, 512 * (p.raw.last_lba + 1), p.name, str(p.guid)) for p in found] == [
            (p.offset, p.offset + p.length, p.name, str(p.guid)) for p in written.partitions
        ]
        assert [UUID(str(p.type)) for p in found] == [p.type_guid for p in written.partitions]


def test_attribute_bits_and_guids_change_alone() -> None:
    """The four attribute bits and both kinds of GUID can be changed without touching the rest."""
    disk = MemoryDisk(GIB)
    before = table(disk)
    bits = READ_ONLY | SHADOW_COPY | HIDDEN | NO_DRIVE_LETTER
    after = before.with_attributes(2, bits).with_partition_guid(2, guid(9)).with_disk_guid(guid(8))
    write_gpt(disk, after)
    found = read_gpt(disk)
    assert found is not None
    assert found.disk_guid == guid(8)
    assert found.partition(2) == replace(before.partition(2), attributes=bits, guid=guid(9))
    assert found.partition(1) == before.partition(1)
    assert bits == 0xF000000000000000
    with pytest.raises(KeyError):
        found.removing(7)
    assert [p.number for p in found.removing(1).partitions] == [2]


@pytest.mark.parametrize("damaged", [512, 512 + 20, 2 * 512 + 5])
def test_damaged_first_copy_is_replaced_by_the_one_at_the_end(damaged: int) -> None:
    """A flipped bit in the first header or table is found by the checksum, and the copy at the end is taken."""
    disk = MemoryDisk(GIB)
    write_gpt(disk, table(disk))
    byte = disk.read(damaged, 1)[0]
    disk.write(damaged, bytes([byte ^ 0x40]))
    assert read_gpt(disk) == table(disk)
    end = disk.size - 512
    disk.write(end, bytes(512))
    assert read_gpt(disk) is None


def test_power_cut_leaves_the_old_table_or_the_new_one() -> None:
    """After every number of writes a whole table is read, the old or the new."""
    disk = MemoryDisk(GIB)
    old = table(disk)
    write_gpt(disk, old)
    new = old.with_partition_guid(2, guid(77))
    seen = set()
    for lives in range(5):
        copy = disk.copy()
        copy.lives = lives
        if lives < 4:
            with pytest.raises(DeviceGone):
                write_gpt(copy, new)
        else:
            write_gpt(copy, new)
        found = read_gpt(copy)
        assert found in (old, new)
        seen.add(found)
    assert seen == {old, new}


def test_impossible_tables_are_refused() -> None:
    """Overlaps, partitions behind the end and doubled numbers are refused before anything is written."""
    disk = MemoryDisk(64 * MIB)
    one = Partition(1, BASIC_DATA, guid(1), MIB, 10 * MIB, "one")
    for bad in (
        (one, replace(one, number=2, offset=5 * MIB)),
        (replace(one, length=64 * MIB),),
        (one, replace(one, offset=20 * MIB)),
        (replace(one, offset=MIB + 1),),
    ):
        with pytest.raises(DeviceError):
            write_gpt(disk, Gpt(guid(5), bad))
    assert disk.writes == 0


def test_grown_disk_keeps_its_table_and_moves_the_copy() -> None:
    """After the LUN grew the table is still read; writing it again puts the copy at the new end."""
    small = MemoryDisk(GIB)
    gpt = table(small)
    write_gpt(small, gpt)
    big = MemoryDisk(2 * GIB)
    big.pages = dict(small.pages)
    assert read_gpt(big) == gpt
    _, free = free_range(big, gpt)
    assert free >= GIB - 4 * MIB
    write_gpt(big, gpt)
    big.write(512, bytes(512))
    assert read_gpt(big) == gpt


def test_partition_is_a_device_with_walls() -> None:
    """A partition's bytes are the disk's at its offset, and nothing outside can be reached."""
    disk = MemoryDisk(8 * MIB)
    part = PartitionDevice(disk, MIB, 2 * MIB)
    part.write(10, b"inside")
    assert disk.read(MIB + 10, 6) == b"inside"
    assert part.read(10, 6) == b"inside"
    part.unmap(0, 4096)
    assert part.read(10, 6) == bytes(6)
    part.flush()
    for call in (
        lambda: part.read(2 * MIB - 1, 2),
        lambda: part.write(-1, b"x"),
        lambda: part.unmap(2 * MIB, 1),
        lambda: PartitionDevice(disk, 7 * MIB, 2 * MIB),
    ):
        with pytest.raises(DeviceError):
            call()
