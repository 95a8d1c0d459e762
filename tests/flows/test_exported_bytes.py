"""From a backup's exported bytes to the rows of a database, with readers that others wrote, all the way."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import pytest
from dissect.fat.exfat import ExFAT
from dissect.hypervisor.disk.vhd import VHD
from dissect.util.stream import RangeStream, RunlistStream
from dissect.volume.disk import Disk

from labenv.lab import Lab
from smhvlab.site import Site

ROWS = 100
VHDS = "\\sql01\\sql01_vhd"


@pytest.fixture
def image(site: Site, lab: Lab, tmp_path: Path) -> Path:
    """A LUN's bytes as the backup's Snapshot copy holds them; the live LUN has 500 rows more in each database."""
    sql = site.tools().sql
    for database in sql.databases("sql01"):
        sql.insert("sql01", database, ROWS)
    site.create_dataset("SQL", ["sql01"])
    backup = site.backup("SQL", consistency="crash").run_sync().result.backup
    for database in sql.databases("sql01"):
        sql.insert("sql01", database, 500)
    (place,) = backup.luns
    target = tmp_path / "lun.img"
    lab.inspect.export(place.volume, place.path, target, snapshot=place.snapshot)
    return target


def data_partition(disk: Any) -> Any:
    """The bytes of a disk's data partition; dissect's partition sizes are a sector short, so the length is ours."""
    partition = Disk(disk).partitions[-1]
    return RangeStream(disk, partition.offset, partition.size + 512)


def files(tree: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """Path and entry of every file in dissect's tree."""
    for name, (entry, below) in tree.items():
        if below is None:
            yield f"{path}\\{name}", entry
        else:
            yield from files(below, f"{path}\\{name.rstrip('/')}")


def opened(volume: Any, path: str) -> Any:
    """A file of an exFAT volume as a stream, up to its valid length as Windows would read it."""
    theirs = ExFAT(volume)
    entry = next(e for p, e in files(theirs.files) if p.replace("\\\\", "\\").casefold() == path.casefold())
    stream = entry.stream
    whole = bool(stream.flags.not_fragmented)
    runs = theirs.runlist(stream.location, whole, stream.data_length if whole else None)
    return RunlistStream(volume, runs, stream.data_length, theirs.sector_size)


def copy_sparse(source: IO[bytes], target: IO[bytes], offset: int, length: int) -> None:
    """Copy a range of a sparse file; holes stay holes."""
    at, end = offset, offset + length
    while at < end:
        try:
            start = os.lseek(source.fileno(), at, os.SEEK_DATA)
        except OSError:  # nothing but holes up to the end
            break
        if start >= end:
            break
        stop = min(end, os.lseek(source.fileno(), start, os.SEEK_HOLE))
        source.seek(start)
        target.seek(start - offset)
        target.write(source.read(stop - start))
        at = stop
    target.truncate(length)


@pytest.mark.skipif(shutil.which("fsck.exfat") is None, reason="fsck.exfat (package exfatprogs) is not installed")
@pytest.mark.skipif(not hasattr(os, "SEEK_DATA"), reason="this system does not tell the holes of a file")
def test_the_host_volume_in_the_copy_is_clean(image: Path, tmp_path: Path) -> None:
    """fsck.exfat finds the host's file system in the crash-consistent copy whole, although nobody was quiesced."""
    with image.open("rb") as file, (tmp_path / "volume.img").open("wb") as target:
        partition = Disk(file).partitions[-1]
        copy_sparse(file, target, partition.offset, partition.size + 512)
    command = ["fsck.exfat", "-n", str(tmp_path / "volume.img")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(shutil.which("qemu-img") is None, reason="qemu-img (package qemu-utils) is not installed")
def test_qemu_img_knows_the_virtual_disk(image: Path, tmp_path: Path) -> None:
    """The fixed VHD inside the volume inside the LUN is one to qemu-img, of the size that the golden image has."""
    with image.open("rb") as file, (tmp_path / "vhd0.vhd").open("wb") as target:
        stream = opened(data_partition(file), f"{VHDS}0.vhd")
        size = stream.size
        stream.seek(size - 512)
        target.truncate(size - 512)
        target.seek(size - 512)
        target.write(stream.read(512))
    command = ["qemu-img", "info", "--output=json", "-f", "vpc", str(tmp_path / "vhd0.vhd")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(done.stdout)["virtual-size"] == 10 << 30


@pytest.mark.parametrize(("disk", "database", "log"), [(0, "\\SQL\\aa1.mdf", None), (1, "\\SQL\\bb2.mdf", 2)])
def test_the_rows_of_the_backup_are_in_its_bytes(
    image: Path, tmp_path: Path, disk: int, database: str, log: int | None
) -> None:
    """LUN, partition, exFAT, VHD, the guest's partition and exFAT, SQLite: 100 rows, and not the 500 later ones."""
    with image.open("rb") as file:
        host = data_partition(file)
        guest = data_partition(VHD(opened(host, f"{VHDS}{disk}.vhd")))
        target = tmp_path / "database.db"
        target.write_bytes(opened(guest, database).read())
        other = guest if log is None else data_partition(VHD(opened(host, f"{VHDS}{log}.vhd")))
        journal = opened(other, database.replace(".mdf", ".ldf")).read()
        (tmp_path / "database.db-journal").write_bytes(journal)
    connection = sqlite3.connect(target)
    try:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("SELECT COUNT(*) FROM ledger").fetchone() == (ROWS,)
    finally:
        connection.close()
