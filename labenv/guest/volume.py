"""A mounted volume of a guest: a file system on a partition, with every open file behind the write cache."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from random import Random

from labenv.devices import BlockDevice
from labenv.guest.cache import CachedFile
from labenv.guest.shadow import ShadowFilter
from labenv.windows.disks.exfat import Entry, FileSystem

LAZY_SHARE = 8
"""The lazy writer writes one block in this many at every tick, like the Windows cache manager."""

EXPIRE = 30
"""Lab seconds after which a file that nobody flushed is written completely."""


def split_path(path: str) -> tuple[str, str]:
    r"""``E:\Data\bb1.mdf`` as drive letter ``E`` and path inside the volume; raises ValueError if it is none."""
    if len(path) < 3 or path[1] != ":" or path[2] not in "\\/" or not path[0].isalpha():
        raise ValueError(f"{path!r} is not a full path with a drive letter, like 'E:\\Data\\bb1.mdf'")
    return path[0].upper(), path[2:].replace("/", "\\")


class GuestVolume:
    """A volume of the running system. Paths are inside the volume and start with a backslash.

    Attributes:
        guid: the GUID of its GPT partition; letter: the drive letter, once the system has given one.
        disk: the disk that the partition is on.
        shadow: the part of the device that keeps what is overwritten while a shadow copy exists.
    """

    def __init__(
        self, device: BlockDevice, *, guid: str, disk: BlockDevice | None = None, now: Callable[[], datetime]
    ) -> None:
        self.letter = ""
        self.guid = guid
        self.disk = disk
        self.shadow = ShadowFilter(device)
        self.file_system = FileSystem(self.shadow, now=now)
        self._device = self.shadow
        self._now = now
        self._files: dict[str, CachedFile] = {}

    @property
    def label(self) -> str:
        """The volume's label."""
        return self.file_system.label

    @property
    def size(self) -> int:
        """Capacity in bytes."""
        return self.file_system.size

    @property
    def free(self) -> int:
        """Free bytes."""
        return self.file_system.free

    @property
    def dirty_bytes(self) -> int:
        """Bytes that a loss of power would take."""
        return sum(file.dirty_bytes for file in self._files.values())

    @property
    def settled(self) -> bool:
        """Whether the disk holds everything that was written."""
        return all(file.settled for file in self._files.values())

    def exists(self, path: str) -> bool:
        """Whether a file or directory has this path."""
        return self.file_system.exists(path)

    def listdir(self, path: str = "\\") -> list[Entry]:
        """What a directory holds, by name."""
        return self.file_system.listdir(path)

    def mkdir(self, path: str) -> None:
        """Create a directory and those above it; nothing happens if it is there."""
        if path not in ("", "\\") and not self.file_system.exists(path):
            self.file_system.mkdir(path, parents=True)

    def open(self, path: str, *, create: bool = False) -> CachedFile:
        """A file for reading and writing; every open of one path shares the cache. Pair it with ``release``."""
        key = path.upper()
        file = self._files.get(key)
        if file is None:
            if create and not self.file_system.exists(path):
                opened = self.file_system.create(path)
            else:
                opened = self.file_system.open(path, write=True)
            file = self._files[key] = CachedFile(opened, self._device)
        file.users += 1
        return file

    def release(self, path: str) -> None:
        """Give an open file back; what waits in its cache keeps waiting."""
        file = self._files[path.upper()]
        file.users -= 1
        self._forget_if_settled(path.upper(), file)

    def remove(self, path: str) -> None:
        """Delete a file (with what waits for it) or an empty directory."""
        file = self._files.pop(path.upper(), None)
        if file is not None:
            file.drop()
            file.close()
        self.file_system.remove(path)

    def rename(self, source: str, destination: str) -> None:
        """Rename a file that nobody has open."""
        file = self._files.get(source.upper())
        if file is not None:
            file.flush()
            self._forget_if_settled(source.upper(), file)
        self.file_system.rename(source, destination)

    def flush_file(self, file: CachedFile) -> None:
        """Make one open file durable."""
        file.flush()
        self._device.flush()

    def flush(self) -> None:
        """Make every file durable, in the order of their names."""
        for key in sorted(self._files):
            self._files[key].flush()
            self._forget_if_settled(key, self._files[key])
        self.file_system.flush()
        self._device.flush()

    def quiesce(self) -> None:
        """Make every file durable and leave the file system as after a clean dismount (for a shadow copy)."""
        self.flush()
        self.file_system.mark_clean()

    def lazy_write(self, random: Random, *, second: int) -> None:
        """One tick of the lazy writer: some dirty blocks in random order, and all of a file that waited too long."""
        for key in sorted(self._files):
            file = self._files[key]
            if file.dirty_since is not None and second - file.dirty_since >= EXPIRE:
                file.flush()
                self._forget_if_settled(key, file)
                continue
            blocks = sorted(file.dirty)
            if blocks:
                file.write_back(random.sample(blocks, -(-len(blocks) // LAZY_SHARE)))

    def close(self) -> None:
        """Unmount cleanly."""
        self.flush()
        for file in self._files.values():
            file.close()
        self._files.clear()
        self.file_system.close()

    def _forget_if_settled(self, key: str, file: CachedFile) -> None:
        if file.users == 0 and file.settled:
            file.close()
            del self._files[key]
