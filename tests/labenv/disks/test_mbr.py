"""Master boot records: written, read back by us, by hand and by another program."""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest
from dissect.volume import disk as other
from memory_disk import MemoryDisk

from labenv.devices import DeviceError
from labenv.windows.disks.gpt import HIDDEN, MIB, READ_ONLY, Gpt, PartitionStyle, initial_gpt, write_gpt
from labenv.windows.disks.layout import read_layout, write_layout
from labenv.windows.disks.mbr import EXTENDED, IFS, Mbr, MbrPartition, free_range, next_number, read_mbr, write_mbr

GIB = 1024 * MIB
TWO_TIB = 2048 * GIB
NTFS_BOOT = b"\xeb\x52\x90NTFS    ".ljust(510, b"\0") + b"\x55\xaa"


def four() -> Mbr:
    """A table with all four partitions, one of them active."""
    parts = [MbrPartition(n, IFS, n * GIB, GIB - MIB, active=n == 2) for n in range(1, 5)]
    return Mbr(0xCAFE0123, tuple(parts))


def test_written_bytes_are_what_every_system_reads(tmp_path: Path) -> None:
    """Signature, flags, types, CHS and LBA stand where they belong; another program finds the same partitions."""
    disk = MemoryDisk(16 * GIB)
    write_mbr(disk, four())
    sector = disk.read(0, 512)
    assert struct.unpack_from("<IH", sector, 440) == (0xCAFE0123, 0)
    assert sector[510:] == b"\x55\xaa"
    entries = [struct.unpack_from("<B3sB3sII", sector, 446 + 16 * n) for n in range(4)]
    assert [(e[0], e[2], e[4], e[5]) for e in entries] == [
        (0x80 if n == 2 else 0, 7, n * GIB // 512, (GIB - MIB) // 512) for n in range(1, 5)
    ]
    head, low, cylinder = entries[0][1]
    assert ((cylinder | (low & 0xC0) << 2) * 255 + head) * 63 + (low & 0x3F) - 1 == GIB // 512
    last = struct.unpack_from("<B3sB3sII", sector, 446)[3]
    found = ((last[2] | (last[1] & 0xC0) << 2) * 255 + last[0]) * 63 + (last[1] & 0x3F) - 1
    assert found == (2 * GIB - MIB) // 512 - 1
    with disk.export(tmp_path / "mbr.img").open("rb") as image:
        shown = other.Disk(image).partitions
        assert [(p.number, p.offset, p.size) for p in shown] == [(n, n * GIB, GIB - MIB) for n in range(1, 5)]
    assert read_mbr(disk) == four()
    assert next_number(four()) is None


def test_cylinders_end_where_their_ten_bits_end() -> None:
    """What lies behind 1024 cylinders has the CHS address that says so; LBA goes on to 2 TiB and no further."""
    disk = MemoryDisk(3 * TWO_TIB)
    empty = Mbr(1)
    assert free_range(disk, empty) == (MIB, TWO_TIB - MIB)
    write_mbr(disk, empty.adding(MbrPartition(1, IFS, MIB, TWO_TIB - MIB)))
    entry = struct.unpack_from("<B3sB3sII", disk.read(0, 512), 446)
    assert (entry[1], entry[3]) == (b"\x20\x21\x00", b"\xfe\xff\xff")
    assert entry[4] + entry[5] == 1 << 32
    with pytest.raises(DeviceError, match="leaves what an MBR can name"):
        write_mbr(disk, empty.adding(MbrPartition(1, IFS, 2 * MIB, TWO_TIB - MIB)))


def test_boot_code_and_foreign_partitions_stay() -> None:
    """Another signature or type changes nothing else in the sector; extended and unknown types hold no volume."""
    disk = MemoryDisk(16 * GIB)
    table = replace(four(), partitions=(replace(four().partitions[0], kind=EXTENDED), *four().partitions[1:]))
    code = bytes(range(64, 128)) * 6 + bytes(56)
    disk.write(0, code + bytes(6) + bytes(64) + b"\x55\xaa")
    write_mbr(disk, table.with_signature(7).with_kind(4, 0x83))
    assert disk.read(0, 440) == code
    read = read_mbr(disk)
    assert read is not None
    assert [p.holds_volume for p in read.partitions] == [False, True, True, False]
    assert [p.active for p in read.with_active(3, active=True).partitions] == [False, False, True, False]
    assert [p.active for p in read.with_active(2, active=False).partitions] == [False] * 4
    for table in (read.removing(2), read.with_active(1, active=True)):
        write_mbr(disk, table)
        assert read_mbr(disk) == table


def test_styles_are_told_apart() -> None:
    """Zeros, a file system's boot sector and half a table are raw; a plain MBR hides what is left of a GPT."""
    disk = MemoryDisk(GIB)
    assert read_layout(disk) is None
    for sector in (NTFS_BOOT, bytes(510) + b"\x55\xaa", b"\x07" * 510 + b"\x55\xaa"):
        disk.write(0, sector)
        assert read_layout(disk) is None
    write_layout(disk, Mbr(5))
    found = read_layout(disk)
    assert found is not None
    assert (found.style, found.identity, found.partitions) == (PartitionStyle.MBR, 5, ())
    write_gpt(disk, initial_gpt(disk, disk_guid=UUID(int=1), msr_guid=UUID(int=2)))
    assert isinstance(read_layout(disk), Gpt)
    disk.write(0, bytes(512))  # the table at the end still counts
    assert isinstance(read_layout(disk), Gpt)
    write_mbr(disk, Mbr(6))
    assert isinstance(read_layout(disk), Mbr)
    write_layout(disk, None)
    assert read_layout(disk) is None


def test_attributes_hold_for_the_whole_disk() -> None:
    """Hidden and read-only have no place in the table: they are kept beside it, for all partitions, until cleared."""
    disk = MemoryDisk(16 * GIB)
    write_mbr(disk, four().with_attributes(1, HIDDEN | READ_ONLY))
    read = read_mbr(disk)
    assert read is not None
    assert {p.attributes for p in read.partitions} == {HIDDEN | READ_ONLY}
    write_mbr(disk, read.with_attributes(2, 0))
    assert read_mbr(disk) == four()
    assert disk.read(512, 512) == bytes(512)


def test_impossible_tables_are_refused() -> None:
    """Overlaps, a fifth partition, doubled numbers, half sectors and signature 0 are refused and nothing is written."""
    disk = MemoryDisk(16 * GIB)
    one = MbrPartition(1, IFS, MIB, 10 * MIB)
    for bad in (
        (one, replace(one, number=2, offset=5 * MIB)),
        (one, replace(one, offset=50 * MIB)),
        (replace(one, number=5),),
        (replace(one, length=16 * GIB),),
        (replace(one, offset=700),),
    ):
        with pytest.raises(DeviceError):
            write_mbr(disk, Mbr(1, bad))
    with pytest.raises(DeviceError, match="no disk signature"):
        write_mbr(disk, Mbr(0))
    assert disk.writes == 0
    with pytest.raises(KeyError):
        four().with_kind(9, IFS)
