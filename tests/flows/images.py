"""What is in the images of a backup, read from their bytes: no flow and no guest takes part."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from labenv.guest import shadow
from labenv.guest.mounting import mount_all
from labenv.lab import Lab
from labenv.windows.disks.exfat import FileSystem
from labenv.windows.disks.gpt import BASIC_DATA, PartitionDevice, read_gpt
from labenv.windows.disks.virtualdisk import open_vhd
from smhvlab.snapinfo import BackupLun, BackupVm

LOG, NOTES = "\\SQL\\bb1.ldf", "\\notes.txt"
Volumes = list[FileSystem]


class SparseFile:
    """An exported LUN as a device that is only read."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDONLY)
        self.size = os.fstat(self._file).st_size

    def read(self, offset: int, length: int) -> bytes:
        """The bytes at an offset."""
        return os.pread(self._file, length, offset)

    def write(self, offset: int, data: bytes) -> None:
        """Never."""
        raise OSError("an exported image is not written to")

    def unmap(self, offset: int, length: int) -> None:
        """Never."""
        raise OSError("an exported image is not written to")

    def flush(self) -> None:
        """Nothing to do."""

    def close(self) -> None:
        """Give the file back."""
        os.close(self._file)


@contextmanager
def guest_volumes(
    lab: Lab, vm: BackupVm, lun: BackupLun, folder: Path, *, path: str = "", snapshot: str | None = ""
) -> Iterator[Volumes]:
    """The guest's file systems in an image, in the order of its disks.

    ``path``, ``snapshot``: another image than that which the record names; None: the live LUN.
    """
    target = folder / "image"
    lab.inspect.export(lun.volume, path or lun.path, target, snapshot=lun.snapshot if snapshot == "" else snapshot)
    device = SparseFile(target)
    try:
        gpt = read_gpt(device)
        assert gpt is not None
        partition = next(p for p in gpt.partitions if p.type_guid == BASIC_DATA)
        system = FileSystem(PartitionDevice(device, partition.offset, partition.length), now=_now)
        inside = ["\\" + disk.path[len(lun.access_path) :] for disk in vm.disks]
        disks = [open_vhd(system.open(name), read_only=True) for name in inside]
        yield [volume.file_system for volume in mount_all(disks, now=_now)]
    finally:
        device.close()
        target.unlink()


def hot(volumes: Volumes) -> bool:
    """Whether the database's log has to be replayed: a transaction was open that nobody has turned back."""
    return any(volume.exists(LOG) and any(volume.read_file(LOG)[:8]) for volume in volumes)


def has_notes(volumes: Volumes) -> bool:
    """Whether the file is there that was still in the guest's cache when the backup was taken."""
    return any(volume.exists(NOTES) for volume in volumes)


def shadow_areas(volumes: Volumes) -> list[object]:
    """What is left of shadow copies inside the guest."""
    return [area for volume in volumes for area in shadow.areas(volume)]


def digest(volumes: Volumes) -> str:
    """One digest over names and contents of all files of a guest."""
    total = hashlib.sha256()
    for number, volume in enumerate(volumes):
        for path in sorted(_files(volume, "")):
            total.update(f"{number}{path}".encode())
            total.update(volume.read_file(path))
    return total.hexdigest()


def _files(volume: FileSystem, folder: str) -> Iterator[str]:
    for entry in volume.listdir(folder or "\\"):
        path = f"{folder}\\{entry.name}"
        if entry.is_directory:
            yield from _files(volume, path)
        else:
            yield path


def _now() -> datetime:
    return datetime(2013, 3, 4, tzinfo=UTC)


Look = Callable[[Volumes], object]
