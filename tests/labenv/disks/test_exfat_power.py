"""The power fails after every number of writes of the device, and the volume still makes sense."""

from __future__ import annotations

import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest
from exfat_model import Change, Course, now
from memory_disk import MemoryDisk

from labenv.devices import DeviceGone
from labenv.windows.disks.exfat import FileSystem, format_exfat

MIB = 1024 * 1024
FSCK = shutil.which("fsck.exfat")


def before(cluster_size: int, seed: int) -> tuple[MemoryDisk, dict[str, bytes]]:
    """A volume with a past."""
    disk = MemoryDisk(6 * MIB)
    format_exfat(disk, label="POWER", serial=1, cluster_size=cluster_size)
    fs = FileSystem(disk, now=now)
    course = Course(seed)
    for _ in course.run(fs, 60):
        pass
    fs.close()
    return disk, course.files


def cut(
    disk: MemoryDisk, files: dict[str, bytes], seed: int, lives: int, steps: int
) -> tuple[MemoryDisk, Course, Change] | None:
    """Run a course on a copy until its power fails; None if the course ended before."""
    copy = disk.copy()
    copy.lives = lives
    course = Course(seed, files)
    fs = FileSystem(copy, now=now)
    change = Change()
    try:
        for announced in course.run(fs, steps):
            change = announced
    except DeviceGone:
        copy.lives = None
        return copy, course, change
    return None


def judge(fs: FileSystem, course: Course, change: Change) -> None:
    """Files that were not being changed are whole; the one that was is in a state that it may be in."""
    paths = {entry.path for entry in fs.walk() if not entry.is_directory}
    assert paths - set(change.paths) == set(course.files) - set(change.paths)
    for path, data in course.files.items():
        if path not in change.paths:
            assert fs.read_file(path) == data
    found = [fs.read_file(path) if path in paths else None for path in change.paths]
    if change.moved:
        assert any(data is not None for data in found)
        found = [data for data in found if data is not None]
    if change.allowed:
        assert all(data in change.allowed for data in found)


@pytest.mark.parametrize(("cluster_size", "seed", "every"), [(4096, 1, 1), (512, 2, 2), (32_768, 3, 2)])
def test_cut_after_every_write(cluster_size: int, seed: int, every: int) -> None:
    """Whatever write was the last: the volume mounts, has no damage, old files are whole, repair makes it clean."""
    disk, files = before(cluster_size, seed)
    states: Counter[str] = Counter()
    for lives in range(0, 10_000, every):
        outcome = cut(disk, files, seed + 100, lives, 40)
        if outcome is None:
            break
        copy, course, change = outcome
        fs = FileSystem(copy, now=now)
        result = fs.check()
        assert result.errors == []
        states["lost"] += bool(result.lost)
        states["clean"] += result.clean
        judge(fs, course, change)
        fs.repair()
        assert fs.check().clean
        fs.write_file("\\afterwards", b"a" * 10_000)
        fs.close()
        assert FileSystem(copy, now=now).read_file("\\afterwards") == b"a" * 10_000
    assert states["lost"] > 10
    assert states["clean"] > 10


@pytest.mark.skipif(FSCK is None, reason="fsck.exfat (package exfatprogs) is not installed")
def test_fsck_finds_nothing_after_our_repair(tmp_path: Path) -> None:
    """After a cut and our repair fsck.exfat calls the volume clean; before it, it finds at most one file to mend."""
    assert FSCK is not None
    disk, files = before(4096, 1)
    unrepaired: Counter[int] = Counter()
    for lives in range(0, 10_000, 7):
        outcome = cut(disk, files, 101, lives, 40)
        if outcome is None:
            break
        copy, _, _ = outcome
        for mended in (False, True):
            if mended:
                fs = FileSystem(copy, now=now)
                fs.repair()
                fs.close()
            image = copy.export(tmp_path / "volume.img")
            done = subprocess.run([FSCK, "-n", str(image)], capture_output=True, text=True, timeout=60, check=False)
            if mended:
                assert done.returncode == 0, done.stdout + done.stderr
            else:
                unrepaired[done.returncode] += 1
                assert done.returncode == 0 or "files corrupted 1," in done.stdout, done.stdout + done.stderr
    assert unrepaired[0] > sum(unrepaired.values()) * 0.8


@pytest.mark.long
@pytest.mark.parametrize("seed", range(10, 22))
def test_cut_after_every_write_of_long_courses(seed: int) -> None:
    """The same over more seeds and cluster sizes."""
    disk, files = before((512, 4096, 32_768)[seed % 3], seed)
    for lives in range(10_000):
        outcome = cut(disk, files, seed + 100, lives, 120)
        if outcome is None:
            break
        copy, course, change = outcome
        fs = FileSystem(copy, now=now)
        assert fs.check().errors == []
        judge(fs, course, change)
        fs.repair()
        assert fs.check().clean
