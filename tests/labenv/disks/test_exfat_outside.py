"""Random courses of changes: the volume agrees with the model, with fsck.exfat and with another reader."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from dissect.fat.exfat import ExFAT
from dissect.util.stream import RunlistStream
from exfat_model import Course, now
from memory_disk import MemoryDisk

from labenv.windows.disks.exfat import FileSystem, format_exfat

MIB = 1024 * 1024
FSCK = shutil.which("fsck.exfat")
MKFS = shutil.which("mkfs.exfat")


def fsck(disk: MemoryDisk, folder: Path) -> tuple[int, str]:
    """What fsck.exfat says of a disk: its exit code (0: clean) and its words."""
    assert FSCK is not None
    image = disk.export(folder / "volume.img")
    done = subprocess.run([FSCK, "-n", str(image)], capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout + done.stderr


def course(seed: int, size: int, cluster_size: int, steps: int) -> tuple[MemoryDisk, dict[str, bytes], int]:
    disk = MemoryDisk(size)
    format_exfat(disk, label="RANDOM", serial=seed, cluster_size=cluster_size)
    model = Course(seed, big=200_000)
    for _ in range(4):
        fs = FileSystem(disk, now=now, discard=bool(seed % 2))
        for _ in model.run(fs, steps // 4):
            pass
        assert fs.check().clean
        fs.close()
    return disk, model.files, model.full


CASES = [(1, 24 * MIB, 4096), (2, 3 * MIB, 512), (3, 80 * MIB, 32_768), (4, 10 * MIB, 4096)]


@pytest.mark.parametrize(("seed", "size", "cluster_size"), CASES)
def test_random_changes_agree_with_the_model(seed: int, size: int, cluster_size: int) -> None:
    """After hundreds of random changes and several mounts every file holds what it should."""
    disk, files, _ = course(seed, size, cluster_size, 600)
    fs = FileSystem(disk, now=now)
    assert {entry.path for entry in fs.walk() if not entry.is_directory} == set(files)
    for path, data in files.items():
        assert fs.read_file(path) == data


def test_small_volume_ran_full_on_the_way() -> None:
    """The courses include one that fills the volume, so that the search for the last clusters is proven too."""
    _, _, full = course(2, 3 * MIB, 512, 600)
    assert full > 0


@pytest.mark.skipif(FSCK is None, reason="fsck.exfat (package exfatprogs) is not installed")
@pytest.mark.parametrize(("seed", "size", "cluster_size"), CASES)
def test_fsck_finds_a_clean_volume(seed: int, size: int, cluster_size: int, tmp_path: Path) -> None:
    """fsck.exfat calls the volume clean after a random course."""
    disk, _, _ = course(seed, size, cluster_size, 600)
    code, words = fsck(disk, tmp_path)
    assert (code, "clean" in words) == (0, True), words


@pytest.mark.long
@pytest.mark.skipif(FSCK is None, reason="fsck.exfat (package exfatprogs) is not installed")
@pytest.mark.parametrize("seed", range(20, 50))
def test_fsck_finds_a_clean_volume_after_long_courses(seed: int, tmp_path: Path) -> None:
    """The same over many seeds, sizes and thousands of changes."""
    cluster_size = (512, 1024, 4096, 65_536)[seed % 4]
    disk, files, _ = course(seed, (40 if cluster_size > 4096 else 12) * MIB, cluster_size, 2_000)
    fs = FileSystem(disk, now=now)
    for path, data in files.items():
        assert fs.read_file(path) == data
    code, words = fsck(disk, tmp_path)
    assert code == 0, words


def entries(tree: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """(path, file entry) of every file in dissect's tree."""
    for name, (entry, below) in tree.items():
        if below is None:
            yield f"{path}\\{name}", entry
        else:
            yield from entries(below, f"{path}\\{name.rstrip('/')}")


@pytest.mark.parametrize("seed", [5, 6])
def test_another_reader_reads_the_same_files(seed: int, tmp_path: Path) -> None:
    """dissect.fat finds the same tree and, up to the valid length, the same bytes."""
    disk, files, _ = course(seed, 20 * MIB, 32_768, 120)
    fs = FileSystem(disk, now=now)
    for number in range(100):
        fs.write_file(f"\\{number}", b"%d" % number)
    for number in range(100):
        fs.remove(f"\\{number}")
        if number % 2:
            fs.write_file(f"\\{number}", b"%d" % number)
            files[f"\\{number}"] = b"%d" % number
    files["\\pieces"] = bytes(range(256)) * (fs.free // 256)
    fs.write_file("\\pieces", files["\\pieces"])
    fs.close()
    fs = FileSystem(disk, now=now)
    with disk.export(tmp_path / "volume.img").open("rb") as image:
        theirs = ExFAT(image)
        assert theirs.volume_label == "RANDOM"
        found = {path.replace("\\\\", "\\"): entry for path, entry in entries(theirs.files)}
        assert set(found) == set(files)
        pieces = 0
        for path, entry in found.items():
            stream = entry.stream
            size = stream.data_length
            assert size == len(files[path])
            if not size:
                continue
            whole = bool(stream.flags.not_fragmented)
            # Runs are in sectors. (dissect.target opens files with the cluster size here, and reads past them.)
            runs = theirs.runlist(stream.location, whole, size if whole else None)
            data = RunlistStream(image, runs, size, theirs.sector_size).read(size)
            valid = fs.stat(path).valid
            assert data[:valid] == files[path][:valid]
            assert not any(files[path][valid:])
            pieces = max(pieces, len(runs))
        assert pieces > 1


@pytest.mark.skipif(MKFS is None or FSCK is None, reason="mkfs.exfat (package exfatprogs) is not installed")
@pytest.mark.parametrize("cluster_size", [4096, 32_768])
def test_volume_made_by_mkfs_is_used_and_stays_clean(cluster_size: int, tmp_path: Path) -> None:
    """A volume that mkfs.exfat made takes a random course, and fsck.exfat calls it clean."""
    assert MKFS is not None
    image = tmp_path / "made.img"
    with image.open("wb") as out:
        out.truncate(32 * MIB)
    subprocess.run(
        [MKFS, "-c", str(cluster_size), "-L", "MADE", str(image)], check=True, capture_output=True, timeout=60
    )
    disk = MemoryDisk(32 * MIB)
    disk.write(0, image.read_bytes())
    fs = FileSystem(disk, now=now)
    assert fs.label == "MADE"
    model = Course(9)
    for _ in model.run(fs, 300):
        pass
    fs.close()
    code, words = fsck(disk, tmp_path)
    assert code == 0, words
    fs = FileSystem(disk, now=now)
    for path, data in model.files.items():
        assert fs.read_file(path) == data
