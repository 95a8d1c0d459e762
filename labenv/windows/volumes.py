"""The host's volumes: the mount manager's letters and mount points, and the file systems that are mounted."""

from __future__ import annotations

import ntpath
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache
from typing import Protocol
from uuid import UUID

from labenv.devices import BlockDevice, DeviceError, ReadOnlyDevice
from labenv.state import State
from labenv.windows.disks import gpt as table
from labenv.windows.disks.errors import FileSystemError
from labenv.windows.disks.exfat import FileSystem
from labenv.windows.disks.gpt import PartitionDevice
from labenv.windows.disks.layout import AnyPartition
from labenv.windows.errors import FileProblem
from labenv.windows.records import DiskRecord, MountRecord
from labenv.windows.spec import HostSpec
from labenv.windows.storage import Disks, HostDisk

_SHARED = "c:\\clusterstorage\\"
LETTERS = "DEFGHIJKLMNOPQRSTUVWXYZ"


class VolumeDevice(PartitionDevice):
    """A partition that honours its read-only attribute."""

    def __init__(self, disk: HostDisk, partition: AnyPartition) -> None:
        super().__init__(disk, partition.offset, partition.length)
        self._read_only = bool(partition.attributes & table.READ_ONLY)

    def write(self, offset: int, data: bytes) -> None:
        """Store bytes; raises ``ReadOnlyDevice`` if the partition is marked so."""
        if self._read_only:
            raise ReadOnlyDevice("the volume is read-only")
        super().write(offset, data)


@dataclass(frozen=True)
class Volume:
    """A volume that is there: a data partition of an online disk, or a cluster shared volume (``shared``)."""

    guid: UUID
    disk: str
    partition: AnyPartition
    letter: str
    paths: tuple[str, ...]
    shared: bool = False

    @property
    def name(self) -> str:
        """Its own path, ``\\\\?\\Volume{...}\\``."""
        return f"\\\\?\\Volume{{{self.guid}}}\\"

    @property
    def access_paths(self) -> list[str]:
        """Every path that leads to it, as Get-Partition lists them."""
        return [*([f"{self.letter}:\\"] if self.letter else []), *self.paths, self.name]


class SharedVolumes(Protocol):
    """The cluster shared volumes as one node sees them; their file systems are the cluster's, not the host's."""

    def volumes(self) -> list[Volume]:
        """The volumes that this node can reach now, without their paths."""

    def hides(self, disk: DiskRecord) -> bool:
        """Whether a disk's own volumes are hidden because the cluster shows them as shared volumes."""

    def device(self, volume: Volume) -> BlockDevice:
        """The bytes of a shared volume."""

    def file_system(self, volume: Volume) -> FileSystem:
        """The one file system that all nodes use; raises ``NotFormatted`` or ``DeviceError``."""

    def renamed(self, volume: Volume, path: str) -> None:
        """Its folder has been renamed on this node; every other node follows."""


class Volumes:
    """Volumes by GUID. Windows names a volume of a GPT disk by its partition's GUID, so a clone's is its parent's.

    ``keys`` is a cache for whoever resolves the same paths often; it is emptied whenever a path may lead elsewhere.
    """

    def __init__(self, *, spec: HostSpec, state: State, disks: Disks, now: Callable[[], datetime]) -> None:
        self._disks = disks
        self._now = now
        self._mounts = state.table(f"windows.{spec.name}.mount", MountRecord)
        self._volumes: dict[UUID, Volume] = {}
        self._systems: dict[UUID, FileSystem] = {}
        self._prefixes: list[tuple[str, UUID | None]] | None = None
        self.keys: dict[str, str] = {}
        self.shared: SharedVolumes | None = None
        disks.changed = self.refresh
        disks.leaving = self._leave

    def refresh(self) -> None:
        """Follow the disks: mount what came, forget what went."""
        found: dict[UUID, Volume] = {}
        for disk in self._disks.present():
            away = disk.offline or (self.shared is not None and self.shared.hides(disk))
            layout = None if away else self._disks.layout(disk)
            for partition in layout.partitions if layout is not None else ():
                if partition.holds_volume:
                    found[partition.guid] = Volume(partition.guid, disk.unique_id, partition, "", ())
        for guid, file_system in list(self._systems.items()):
            old, new = self._volumes.get(guid), found.get(guid)
            if old is None or new is None or (old.disk, old.partition) != (new.disk, new.partition):
                del self._systems[guid]
                file_system.abandon()  # its disk is gone already: nothing can be written, nothing may be
        letters: set[str] = set()
        self._volumes = {}
        for guid, volume in found.items():
            mount = self._mounts.get(str(guid), MountRecord())
            letter = mount.letter if mount.letter not in letters else ""
            hidden = volume.partition.attributes & (table.HIDDEN | table.SHADOW_COPY | table.NO_DRIVE_LETTER)
            if (
                not letter
                and not mount.paths
                and not mount.bare
                and not hidden
                and not self._disks.records[volume.disk].no_letters
            ):
                taken = letters | {m.letter for m in self._mounts.values()}
                letter = next((x for x in LETTERS if x not in taken), "")
            if letter != mount.letter or str(guid) not in self._mounts:
                self._mounts[str(guid)] = replace(mount, letter=letter)
            letters.add(letter)
            self._volumes[guid] = replace(volume, letter=letter, paths=mount.paths)
        for volume in self.shared.volumes() if self.shared is not None else ():
            mount = self._mounts.get(str(volume.guid), MountRecord())
            self._volumes[volume.guid] = replace(volume, paths=mount.paths)
        self._changed()

    def _leave(self, disk: DiskRecord) -> None:
        for volume in self._volumes.values():
            if volume.disk == disk.unique_id:
                self.dismount(volume)

    def restart(self) -> None:
        """The host has restarted: nothing is mounted until it is used."""
        for file_system in self._systems.values():
            file_system.abandon()
        self._systems.clear()
        self._volumes.clear()
        self.refresh()

    def _changed(self) -> None:
        self._prefixes = None
        self.keys.clear()

    def all(self) -> list[Volume]:
        """Every volume, by disk and partition."""
        return list(self._volumes.values())

    def get(self, guid: UUID) -> Volume | None:
        """The volume of a GUID."""
        return self._volumes.get(guid)

    def of_partition(self, disk: str, number: int) -> Volume | None:
        """The volume on a partition of a disk (by unique id)."""
        return next((v for v in self._volumes.values() if v.disk == disk and v.partition.number == number), None)

    def device(self, volume: Volume) -> BlockDevice:
        """The volume's bytes."""
        if volume.shared and self.shared is not None:
            return self.shared.device(volume)
        return VolumeDevice(self._disks.device(self._disks.records[volume.disk]), volume.partition)

    def file_system(self, volume: Volume) -> FileSystem:
        """The mounted file system; raises ``NotFormatted`` or ``DeviceError``."""
        if volume.shared and self.shared is not None:
            return self.shared.file_system(volume)
        file_system = self._systems.get(volume.guid)
        if file_system is None:
            file_system = self._systems[volume.guid] = FileSystem(self.device(volume), now=self._now)
        return file_system

    def formatted(self, volume: Volume) -> FileSystem | None:
        """The file system if there is one that can be read."""
        try:
            return self.file_system(volume)
        except (DeviceError, FileSystemError):
            return None

    def dismount(self, volume: Volume) -> None:
        """Dismount the file system; it is mounted again by whoever needs it next."""
        file_system = self._systems.pop(volume.guid, None)
        if file_system is not None:
            try:
                file_system.close()
            except (DeviceError, FileSystemError):
                file_system.abandon()

    def assign_letter(self, volume: Volume, letter: str) -> None:
        """Give a volume a drive letter, or take it away (empty)."""
        mount = self._mounts[str(volume.guid)]
        self._mounts[str(volume.guid)] = replace(mount, letter=letter, bare=not letter)
        for key, other in list(self._mounts.items()):
            if letter and other.letter == letter and key != str(volume.guid):
                self._mounts[key] = replace(other, letter="")  # a volume that is away loses its old letter
        self._volumes[volume.guid] = replace(volume, letter=letter)
        self._changed()

    def free_letter(self) -> str:
        """The first letter that no volume has; empty if there is none."""
        taken = {m.letter for m in self._mounts.values()}
        return next((x for x in LETTERS if x not in taken), "")

    def letter(self, letter: str) -> Volume | None:
        """The volume of a drive letter."""
        return next((v for v in self._volumes.values() if v.letter == letter.upper()), None)

    def add_path(self, volume: Volume, path: str) -> None:
        """Mount a volume at an (existing, empty) directory."""
        mount = self._mounts[str(volume.guid)]
        paths = (*mount.paths, directory(path))
        self._mounts[str(volume.guid)] = replace(mount, paths=paths)
        self._volumes[volume.guid] = replace(volume, paths=paths)
        self._changed()

    def remove_path(self, volume: Volume, path: str) -> None:
        """Take a mount point away; raises KeyError if it is none of the volume's."""
        mount = self._mounts[str(volume.guid)]
        paths = tuple(p for p in mount.paths if p.lower() != directory(path).lower())
        if len(paths) == len(mount.paths):
            raise KeyError(path)
        self._mounts[str(volume.guid)] = replace(mount, paths=paths)
        self._volumes[volume.guid] = replace(volume, paths=paths)
        self._changed()

    def renamed(self, old: str, new: str) -> None:
        """Follow a directory that was renamed: mount points at it or below it keep working."""
        before, after = directory(old), directory(new)
        for key, mount in list(self._mounts.items()):
            paths = tuple(after + p[len(before) :] if p.lower().startswith(before.lower()) else p for p in mount.paths)
            if paths != mount.paths:
                self._mounts[key] = replace(mount, paths=paths)
                volume = self._volumes.get(UUID(key))
                if volume is not None:
                    self._volumes[volume.guid] = replace(volume, paths=paths)
                    if volume.shared and self.shared is not None:
                        self.shared.renamed(volume, paths[0])
        self._changed()

    def mount(self, guid: UUID, mount: MountRecord | None) -> None:
        """Tell the mount manager where a volume belongs (None: forget it); the cluster's disks bring that with them."""
        if mount is None:
            self._mounts.pop(str(guid), None)
        else:
            for key, other in list(self._mounts.items()):
                if mount.letter and other.letter == mount.letter and key != str(guid):
                    self._mounts[key] = replace(other, letter="")
            self._mounts[str(guid)] = mount
        self.refresh()

    def mount_of(self, guid: UUID) -> MountRecord:
        """Where a volume belongs."""
        return self._mounts.get(str(guid), MountRecord())

    def mounted_at(self, path: str) -> Volume | None:
        """The volume whose mount point a path is."""
        wanted = directory(path).lower()
        return next((v for v in self._volumes.values() if any(p.lower() == wanted for p in v.paths)), None)

    def is_mount_point(self, path: str) -> bool:
        """Whether a directory is a mount point, of a volume that is there or of one that is away."""
        wanted = directory(path).lower()
        return any(p.lower() == wanted for m in self._mounts.values() for p in m.paths)

    def dangling(self, path: str) -> bool:
        """Whether a directory is the mount point of a volume that is away: it is there, and leads nowhere.

        The folder of a shared volume is the cluster's: without the cluster it is not there either.
        """
        wanted = directory(path).lower()
        if wanted.startswith(_SHARED):
            return False
        away = (m for key, m in self._mounts.items() if UUID(key) not in self._volumes)
        return any(p.lower() == wanted for m in away for p in m.paths) and self.mounted_at(path) is None

    def forget_path(self, path: str) -> None:
        """No volume belongs at this directory any more."""
        wanted = directory(path).lower()
        for key, mount in list(self._mounts.items()):
            kept = tuple(p for p in mount.paths if p.lower() != wanted)
            if kept != mount.paths:
                self._mounts[key] = replace(mount, paths=kept)
        self._changed()

    def resolve(self, path: str) -> tuple[Volume, str]:
        """The volume of a path and the path inside it (``\\dir\\file``); raises ``FileProblem``."""
        full = full_path(path)
        if self._prefixes is None:
            self._prefixes = self._all_prefixes()
        lowered = full.lower()
        for prefix, guid in self._prefixes:
            if lowered.startswith(prefix) or lowered == prefix[:-1]:
                if guid is None:
                    raise FileProblem(0x80070015, f"The device is not ready. : '{path}'")
                return self._volumes[guid], "\\" + full[len(prefix) :]
        raise FileProblem(0x80070003, f"Could not find a part of the path '{path}'.")

    def _all_prefixes(self) -> list[tuple[str, UUID | None]]:
        pairs: list[tuple[str, UUID | None]] = []
        for volume in self._volumes.values():
            pairs += [(path.lower(), volume.guid) for path in volume.access_paths]
        for key, mount in self._mounts.items():
            if (
                UUID(key) not in self._volumes
            ):  # what leads to a volume that is away must not fall through to the parent
                pairs += [(path.lower(), None) for path in mount.paths if path.lower() not in dict(pairs)]
        return sorted(pairs, key=lambda pair: -len(pair[0]))


def directory(path: str) -> str:
    """A path as the mount manager writes directories: absolute, with a backslash at its end."""
    return full_path(path).rstrip("\\") + "\\"


@lru_cache(4096)
def full_path(path: str) -> str:
    """An absolute Windows path without ``.`` and ``..``; relative ones start at C:\\."""
    path = path.replace("/", "\\")
    if path.startswith("\\\\?\\") and not path.lower().startswith("\\\\?\\volume{"):
        path = path[4:]
    if path.startswith("\\\\?\\"):
        end = path.find("\\", 4)
        if end < 0:
            return path + "\\"
        return path[:end] + ntpath.normpath("\\" + path[end + 1 :])
    if not ntpath.splitdrive(path)[0]:
        path = ntpath.join("C:\\", path)
    elif len(path) == 2:
        path += "\\"
    return ntpath.normpath(path)
