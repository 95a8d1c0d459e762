"""The exFAT file system's own rules: paths, sizes, times, refusals, placement."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from exfat_model import NOW, now
from memory_disk import MemoryDisk

from labenv.devices import DeviceError, DeviceGone, OutOfSpace, ReadOnlyDevice
from labenv.windows.disks.errors import (
    Corrupt,
    DirectoryNotEmpty,
    DiskFull,
    FileExists,
    FileInUse,
    FileSystemError,
    InvalidName,
    IsADirectory,
    NotADirectory,
    NotFormatted,
    PathNotFound,
)
from labenv.windows.disks.exfat import ARCHIVE, DIRECTORY, HIDDEN, FileSystem, format_exfat
from labenv.windows.disks.gpt import PartitionDevice

MIB = 1024 * 1024
GIB = 1024 * MIB


def volume(size: int = 64 * MIB, *, cluster_size: int | None = None, discard: bool = True) -> FileSystem:
    disk = MemoryDisk(size)
    format_exfat(disk, label="TEST", serial=0x1234ABCD, cluster_size=cluster_size)
    return FileSystem(disk, now=now, discard=discard)


def remount(fs: FileSystem) -> FileSystem:
    fs.close()
    return FileSystem(fs.device, now=now)


def test_new_volume_says_what_it_is() -> None:
    """Label, serial number, cluster size and free space of a new volume are as asked, and the label can change."""
    fs = volume()
    assert (fs.label, fs.serial, fs.cluster_size) == ("TEST", 0x1234ABCD, 4096)
    assert 0 < fs.size - fs.free < MIB
    assert fs.listdir() == []
    assert not fs.dirty
    fs.set_label("SnapInfo")
    fs = remount(fs)
    assert fs.label == "SnapInfo"
    with pytest.raises(InvalidName):
        fs.set_label("longer than eleven")


def test_formatting_and_mounting_a_huge_volume_touch_little() -> None:
    """A 16 TiB volume gets 128 KiB clusters and is formatted and mounted with a handful of blocks."""
    disk = MemoryDisk(16 * 1024 * GIB)
    format_exfat(disk, label="HUGE", serial=1)
    assert disk.writes < 10
    assert len(disk.pages) < 100
    fs = FileSystem(disk, now=now)
    assert fs.cluster_size == 128 * 1024
    assert fs.free > 15.9 * 1024 * GIB


def test_paths_ignore_case_and_keep_it() -> None:
    """A file is found under any case, is listed as it was written, and a second spelling is the same file."""
    fs = volume()
    fs.mkdir("\\VMs\\Sql01\\Übung", parents=True)
    fs.write_file("\\vms\\SQL01\\ÜBUNG\\Disk0.VHD", b"data")
    fs = remount(fs)
    assert fs.read_file("\\VMS\\sql01\\übung\\disk0.vhd") == b"data"
    assert [entry.path for entry in fs.walk()] == [
        "\\VMs", "\\VMs\\Sql01", "\\VMs\\Sql01\\Übung", "\\VMs\\Sql01\\Übung\\Disk0.VHD",
    ]  # fmt: skip
    with pytest.raises(FileExists):
        fs.create("\\VMs\\SQL01\\übung\\DISK0.vhd")
    fs.rename("\\vms\\sql01", "\\vms\\SQL01")
    assert fs.listdir("\\VMs")[0].name == "SQL01"


def test_metadata_of_a_file() -> None:
    """Times are UTC and kept to 10 ms, attributes are kept, a listing tells sizes."""
    moment = NOW
    disk = MemoryDisk(16 * MIB)
    format_exfat(disk, label="T", serial=1)
    fs = FileSystem(disk, now=lambda: moment)
    with fs.create("\\a.txt") as file:
        file.write(0, b"12345")
    moment = NOW + timedelta(hours=1, milliseconds=990)
    with fs.open("\\a.txt", write=True) as file:
        file.write(0, b"x")
    fs.set_attributes("\\a.txt", HIDDEN | ARCHIVE | DIRECTORY)
    fs.mkdir("\\d")
    entry = FileSystem(disk, now=now).stat("\\A.TXT")
    assert (entry.created, entry.modified) == (NOW, moment)
    assert (entry.size, entry.valid, entry.is_directory) == (5, 5, False)
    assert entry.attributes == HIDDEN | ARCHIVE
    early = datetime(1999, 12, 31, 23, 59, 58, tzinfo=UTC)
    fs.set_times("\\d", created=early)
    fs = remount(fs)
    assert fs.stat("\\d").created == early
    assert fs.stat("\\d").is_directory


def test_refusals_have_their_own_errors() -> None:
    """Every refusal is one class of the tree, and leaves the volume as it was."""
    fs = volume()
    fs.mkdir("\\dir")
    fs.write_file("\\dir\\file", b"x")
    for error, call in (
        (PathNotFound, lambda: fs.open("\\none")),
        (PathNotFound, lambda: fs.create("\\none\\file")),
        (PathNotFound, lambda: fs.listdir("\\dir\\none")),
        (NotADirectory, lambda: fs.create("\\dir\\file\\below")),
        (NotADirectory, lambda: fs.listdir("\\dir\\file")),
        (NotADirectory, lambda: fs.mkdir("\\dir\\file", parents=True)),
        (IsADirectory, lambda: fs.open("\\dir")),
        (FileExists, lambda: fs.mkdir("\\dir")),
        (FileExists, lambda: fs.mkdir("\\")),
        (FileExists, lambda: fs.rename("\\dir", "\\dir\\file")),
        (FileSystemError, lambda: fs.rename("\\dir", "\\dir\\sub")),
        (FileSystemError, lambda: fs.remove("\\")),
        (DirectoryNotEmpty, lambda: fs.remove("\\dir")),
        (InvalidName, lambda: fs.create("\\a*b")),
        (InvalidName, lambda: fs.create("\\dot.")),
        (InvalidName, lambda: fs.create("\\" + "x" * 256)),
        (InvalidName, lambda: fs.mkdir("\\..")),
        (DiskFull, lambda: fs.create("\\big", size=GIB)),
    ):
        with pytest.raises(error):
            call()
    assert [entry.path for entry in fs.walk()] == ["\\dir", "\\dir\\file"]
    assert fs.check().clean


def test_open_files_are_in_use() -> None:
    """An open file and its directory can be neither removed nor renamed; closed handles refuse everything."""
    fs = volume()
    fs.mkdir("\\d")
    file = fs.create("\\d\\f")
    file.write(0, b"abc")
    with pytest.raises(FileInUse):
        fs.remove("\\d\\f")
    with pytest.raises(FileInUse):
        fs.rename("\\d", "\\e")
    reader = fs.open("\\d\\f")
    with pytest.raises(ReadOnlyDevice):
        reader.write(0, b"x")
    file.close()
    file.close()
    with pytest.raises(DeviceGone):
        file.read(0, 1)
    with pytest.raises(DeviceGone):
        file.write(0, b"x")
    assert reader.read(0, 3) == b"abc"
    reader.close()
    fs.remove_tree("\\d")
    assert not fs.exists("\\d")
    file = fs.create("\\g")
    file.write(0, b"1")
    fs.close()
    fs.close()
    for call in (lambda: file.read(0, 1), lambda: file.write(0, b"2"), lambda: fs.listdir()):
        with pytest.raises(DeviceGone):
            call()


def test_valid_length_hides_what_was_not_written() -> None:
    """Bytes behind the valid length read as zeros even where the device holds others, until they are declared valid."""
    fs = volume(discard=False)
    fs.write_file("\\old", b"\xee" * 40_960)
    fs.remove("\\old")
    with fs.create("\\new", size=40_960) as file:
        assert file.valid_length == 0
        assert file.read(0, 40_960) == bytes(40_960)
        file.write(8_192, b"here")
        assert file.valid_length == 8_196
        assert file.read(0, 8_196) == bytes(8_192) + b"here"
        assert file.read(8_190, 10) == b"\0\0here\0\0\0\0"
    fs = remount(fs)
    with fs.open("\\new", write=True) as file:
        assert file.read(8_190, 10) == b"\0\0here\0\0\0\0"
        file.valid_length = 40_960
        assert file.read(40_000, 4) == b"\xee" * 4
        with pytest.raises(DeviceError):
            file.valid_length = 40_961
        with pytest.raises(DeviceError):
            file.read(40_960, 1)


def test_preallocated_file_is_one_aligned_piece_without_space() -> None:
    """A fixed 10 GB file is one run on a 2 MiB boundary of the whole disk, takes no space, and is written in place."""
    disk = MemoryDisk(100 * GIB)
    part = PartitionDevice(disk, 129 * MIB, 90 * GIB)
    format_exfat(part, label="CSV", serial=1)
    fs = FileSystem(part, now=now)
    fs.write_file("\\small", b"x" * 5_000)
    pages, writes = len(disk.pages), disk.writes
    file = fs.create("\\disk0.vhd", size=10 * GIB, preallocate=True)
    assert disk.writes - writes < 20
    assert len(disk.pages) - pages < 100
    ((offset, length),) = file.extents()
    assert length == 10 * GIB
    assert (129 * MIB + offset) % (2 * MIB) == 0
    writes = disk.writes
    file.write(5 * GIB, b"y" * 4096)
    file.write(0, b"z" * 4096)
    assert disk.writes - writes == 2
    assert disk.read(129 * MIB + offset + 5 * GIB, 4) == b"yyyy"
    file.unmap(5 * GIB, 4096)
    assert file.read(5 * GIB, 4) == bytes(4)


def test_files_that_grow_side_by_side_stay_in_few_pieces() -> None:
    """Two files appended to in turn do not shatter each other."""
    fs = volume(256 * MIB)
    one, two = fs.create("\\one"), fs.create("\\two")
    for step in range(400):
        one.write(step * 8192, b"1" * 8192)
        two.write(step * 8192, b"2" * 8192)
    assert len(one.extents()) < 12
    assert len(two.extents()) < 12
    one.close()
    two.close()
    fs = remount(fs)
    assert fs.read_file("\\one") == b"1" * 8192 * 400
    assert fs.check().clean


def test_freed_clusters_are_used_again() -> None:
    """A file made and removed over and over does not wander over the disk."""
    fs = volume()
    fs.write_file("\\first", b"1" * 9_000)
    places = set()
    for _ in range(20):
        with fs.create("\\journal") as file:
            file.write(0, b"j" * 20_000)
            places.update(offset for offset, _ in file.extents())
        fs.remove("\\journal")
    assert len(places) == 1


def test_full_volume_refuses_and_recovers() -> None:
    """A volume can be filled to the last cluster, says so without damage, and takes files again after a removal."""
    fs = volume(16 * MIB)
    names = []
    while fs.free >= 300_000:
        names.append(f"\\f{len(names)}")
        fs.write_file(names[-1], b"d" * 300_000)
    names.append("\\one too many")
    with pytest.raises(DiskFull):
        fs.write_file(names[-1], b"d" * 300_000)
    fs.remove(names.pop())
    with fs.create("\\rest") as file:
        file.truncate(fs.free)
        assert fs.free == 0
        with pytest.raises(DiskFull):
            file.truncate(file.size + 1)
    for name in names[::2]:
        fs.remove(name)
    free = fs.free
    with fs.create("\\pieces", size=free) as file:
        assert len(file.extents()) > 3
        file.write(0, b"p" * free)
    fs = remount(fs)
    assert fs.read_file("\\pieces") == b"p" * free
    assert fs.check().clean


def test_array_out_of_space_leaves_a_sound_volume() -> None:
    """When the thin LUN below is full the write fails, and memory and device still agree."""

    class ThinDisk(MemoryDisk):
        budget = 10**9

        def write(self, offset: int, data: bytes) -> None:
            if len(data) > self.budget:
                raise OutOfSpace("the aggregate is full")
            self.budget -= len(data)
            super().write(offset, data)

    for budget in range(0, 60_000, 4_096):
        disk = ThinDisk(16 * MIB)
        format_exfat(disk, label="T", serial=1)
        fs = FileSystem(disk, now=now)
        fs.write_file("\\old", b"old" * 1000)
        disk.budget = budget
        try:
            fs.mkdir("\\d")
            fs.write_file("\\d\\n", b"n" * 20_000)
            fs.rename("\\old", "\\d\\old")
            fs.remove("\\d\\n")
        except OutOfSpace:
            pass
        disk.budget = 10**9
        before = {entry.path: entry.size for entry in fs.walk()}
        fs.write_file("\\later", b"later")
        fs.close()
        fs = FileSystem(disk, now=now)
        assert {entry.path: entry.size for entry in fs.walk()} == {**before, "\\later": 5}
        assert not fs.check().errors
        assert fs.read_file("\\old" if fs.exists("\\old") else "\\d\\old") == b"old" * 1000


def test_discard_and_reclaim_give_space_back() -> None:
    """Removing a file unmaps it when the host does that; else space comes back by reclaiming."""
    for discard in (True, False):
        fs = volume(discard=discard)
        disk = fs.device
        assert isinstance(disk, MemoryDisk)
        before = len(disk.pages)
        fs.write_file("\\big", b"b" * 4 * MIB)
        fs.remove("\\big")
        assert (len(disk.pages) - before < 20) is discard
        assert fs.reclaim() == fs.free
        assert len(disk.pages) - before < 20
        assert fs.check().clean


def test_directories_grow_and_reuse_their_entries() -> None:
    """Thousands of names fit, removed names make room, and everything is there after a mount."""
    fs = volume()
    fs.mkdir("\\d")
    for number in range(1500):
        fs.create(f"\\d\\a rather long file name {number:05}").close()
    size = fs.stat("\\d").size
    for number in range(0, 1500, 2):
        fs.remove(f"\\d\\a rather long file name {number:05}")
    for number in range(700):
        fs.create(f"\\d\\another long file name {number:06}").close()
    assert fs.stat("\\d").size == size
    fs = remount(fs)
    assert len(fs.listdir("\\d")) == 1450
    assert fs.check().clean


def test_dirty_flag_follows_the_mount() -> None:
    """Changing metadata raises the flag, writing in place does not, a clean dismount takes it back."""
    fs = volume()
    file = fs.create("\\f", size=8192, preallocate=True)
    assert fs.dirty
    fs.mark_clean()
    file.write(0, b"in place")
    assert not fs.dirty
    fs.mkdir("\\d")
    assert FileSystem(fs.device, now=now).dirty
    fs.close()
    assert not FileSystem(fs.device, now=now).dirty
    assert FileSystem(fs.device, now=now).stat("\\f").modified == NOW


def test_damage_is_told_from_absence() -> None:
    """No file system, a lost first boot region, and damaged tables are three different things."""
    disk = MemoryDisk(16 * MIB)
    with pytest.raises(NotFormatted):
        FileSystem(disk, now=now)
    with pytest.raises(NotFormatted):
        FileSystem(MemoryDisk(4096), now=now)
    format_exfat(disk, label="T", serial=5)
    FileSystem(disk, now=now).write_file("\\f", b"x")
    damaged = disk.copy()
    damaged.write(100, b"\xff")
    assert FileSystem(damaged, now=now).read_file("\\f") == b"x"
    damaged.write(12 * 512 + 100, b"\xff")
    with pytest.raises(Corrupt):
        FileSystem(damaged, now=now)
    root = disk.copy()
    at = next(page for page, data in root.pages.items() if b"f\0" in data and data[0] == 0x83) * 4096
    root.write(at + 3 * 32 + 4, b"\xff")
    with pytest.raises(Corrupt):
        FileSystem(root, now=now)


def test_impossible_formats_are_refused(tmp_path: Path) -> None:
    """Labels, cluster sizes and devices that cannot be are refused before the device is touched."""
    disk = MemoryDisk(16 * MIB)
    for call in (
        lambda: format_exfat(disk, label="twelve chars", serial=1),
        lambda: format_exfat(disk, label="", serial=1, cluster_size=5000),
        lambda: format_exfat(disk, label="", serial=1, cluster_size=64 * MIB),
        lambda: format_exfat(MemoryDisk(16_384), label="", serial=1),
        lambda: format_exfat(MemoryDisk(64 * 1024 * GIB), label="", serial=1, cluster_size=512),
    ):
        with pytest.raises(FileSystemError):
            call()
    assert disk.writes == 0
