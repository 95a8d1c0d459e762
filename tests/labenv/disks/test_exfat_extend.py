"""A volume grows with its partition, while files are open."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from exfat_model import Course, now
from memory_disk import MemoryDisk

from labenv.devices import DeviceError, DeviceGone
from labenv.windows.disks.errors import FileSystemError
from labenv.windows.disks.exfat import FileSystem, format_exfat
from labenv.windows.disks.gpt import PartitionDevice

MIB = 1024 * 1024
FSCK = shutil.which("fsck.exfat")


def grown(small: int, big: int) -> tuple[MemoryDisk, PartitionDevice, FileSystem, Course]:
    """A volume with files on a partition that may grow to twice its size."""
    disk = MemoryDisk(big)
    part = PartitionDevice(disk, 0, small)
    format_exfat(part, label="GROW", serial=1)
    fs = FileSystem(part, now=now)
    course = Course(31)
    for _ in course.run(fs, 80):
        pass
    return disk, part, fs, course


@pytest.mark.parametrize(("small", "big"), [(70 * MIB, 71 * MIB), (70 * MIB, 140 * MIB), (128 * MIB, 500 * MIB)])
def test_volume_grows_under_open_files(small: int, big: int, tmp_path: Path) -> None:
    """Free space grows by what the partition gained, open files go on, and the new space holds files."""
    disk, part, fs, course = grown(small, big)
    before = fs.size
    file = fs.create("\\open")
    file.write(0, b"1" * 100_000)
    with pytest.raises(FileSystemError):
        fs.extend()
    with pytest.raises(DeviceError):
        part.resize(2 * big)
    part.resize(big)
    gained = fs.extend()
    assert gained == fs.size - before
    assert abs(gained - (big - small)) < 8192
    file.write(100_000, b"2" * 100_000)
    file.close()
    for _ in course.run(fs, 80):
        pass
    with fs.create("\\rest") as rest:
        rest.truncate(fs.free - MIB)
        rest.write(rest.size - 10, b"at the end")
    assert fs.check().clean
    fs.close()
    fs = FileSystem(part, now=now)
    assert fs.check().clean
    for path, data in {**course.files, "\\open": b"1" * 100_000 + b"2" * 100_000}.items():
        assert fs.read_file(path) == data
    if FSCK is not None:
        image = disk.export(tmp_path / "volume.img")
        done = subprocess.run([FSCK, "-n", str(image)], capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_growth_has_an_end() -> None:
    """The chain table has room for about four times the size, and says so."""
    _, part, fs, _ = grown(70 * MIB, 1024 * MIB)
    assert 250 * MIB < fs.largest < 400 * MIB
    part.resize(1024 * MIB)
    with pytest.raises(FileSystemError):
        fs.extend()
    part.resize(fs.largest // 4096 * 4096)
    fs.extend()
    assert fs.check().clean


def test_power_cut_while_growing() -> None:
    """After every number of writes the volume mounts, keeps its files, and can be extended (again)."""
    disk, _, fs, course = grown(70 * MIB, 140 * MIB)
    fs.close()
    for lives in range(30):
        copy = disk.copy()
        part = PartitionDevice(copy, 0, 140 * MIB)
        victim = FileSystem(part, now=now)
        copy.lives = lives
        try:
            victim.extend()
            ended = True
        except DeviceGone:
            ended = False
        copy.lives = None
        again = FileSystem(part, now=now)
        if not ended and again.size < 100 * MIB:
            again.extend()
        assert again.size > 130 * MIB
        again.repair()
        assert again.check().clean
        for path, data in course.files.items():
            assert again.read_file(path) == data
        if ended:
            assert lives > 3
            return
    pytest.fail("the extension took more writes than expected")
