r"""An exFAT file system on any device, in the standard on-disk format.

Paths use backslashes from the volume's root (``\VMs\sql01\disk0.vhd``); they ignore case and keep it. Metadata goes
straight to the device, in an order in which the volume makes sense after every single write: new clusters are marked,
filled and chained before an entry names them, and entries let go of clusters before they are freed. A loss of power
may leave clusters marked that no file uses, and a file that was being moved under both names; never a damaged file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from labenv.devices import BlockDevice
from labenv.windows.disks import exfat_entries as entries
from labenv.windows.disks.errors import (
    Corrupt,
    DirectoryNotEmpty,
    FileExists,
    FileInUse,
    FileSystemError,
    InvalidName,
    IsADirectory,
    NotADirectory,
    PathNotFound,
)
from labenv.windows.disks.exfat_check import CheckResult, check_volume
from labenv.windows.disks.exfat_directory import Directory
from labenv.windows.disks.exfat_extend import extend_volume, largest
from labenv.windows.disks.exfat_file import File
from labenv.windows.disks.exfat_layout import BIG_ALIGNMENT, END_OF_CHAIN, format_exfat, read_geometry, zero
from labenv.windows.disks.exfat_names import MAX_LABEL, check_name, split_path, upcase_map
from labenv.windows.disks.exfat_volume import Node, Volume

__all__ = ["CheckResult", "Entry", "File", "FileSystem", "format_exfat"]

READ_ONLY = entries.READ_ONLY
HIDDEN = entries.HIDDEN
SYSTEM = entries.SYSTEM
DIRECTORY = entries.DIRECTORY
ARCHIVE = entries.ARCHIVE


@dataclass(frozen=True)
class Entry:
    """What a listing tells of one file or directory; sizes in bytes, times in UTC."""

    name: str
    path: str
    is_directory: bool
    size: int
    valid: int
    created: datetime
    modified: datetime
    attributes: int


class FileSystem:
    """A mounted volume. Raises ``NotFormatted`` if there is none, ``Corrupt`` if its tables make no sense.

    ``discard`` unmaps the clusters of what is removed, as Windows Server 2012 does on thin LUNs.
    Whoever changes the bytes below (a SnapRestore, a merge) has to mount anew.
    """

    def __init__(self, device: BlockDevice, *, now: Callable[[], datetime], discard: bool = True) -> None:
        geometry = read_geometry(device)
        self.device = device
        self.serial = geometry.serial
        self.cluster_size = geometry.cluster_size
        self._volume = Volume(device, geometry, now=now, discard=discard)
        self._root = self._mount_root()

    @property
    def size(self) -> int:
        """Capacity in bytes: all clusters."""
        geometry = self._volume.geometry
        return geometry.cluster_count << geometry.cluster_shift

    @property
    def free(self) -> int:
        """Bytes in free clusters."""
        self._volume.check_open()
        return self._volume.bitmap.free << self._volume.geometry.cluster_shift

    @property
    def label(self) -> str:
        """The volume label."""
        return self._root.label()

    @property
    def dirty(self) -> bool:
        """The volume's dirty flag: metadata was written since the last clean dismount."""
        return self._volume.dirty

    def set_label(self, label: str) -> None:
        """Change the volume label; raises ``InvalidName`` for more than 11 characters."""
        self._volume.check_open()
        if len(label.encode("utf-16-le")) > 2 * MAX_LABEL:
            raise InvalidName(f"the label {label!r} has more than {MAX_LABEL} characters; shorten it")
        self._root.set_label(label)

    def exists(self, path: str) -> bool:
        """Whether a file or directory has that path."""
        try:
            self._find(path)
        except (PathNotFound, NotADirectory):
            return False
        return True

    def stat(self, path: str) -> Entry:
        """What is known of one file or directory; raises ``PathNotFound``."""
        node, names = self._find(path)
        return _entry(node, "\\" + "\\".join(names))

    def listdir(self, path: str = "\\") -> list[Entry]:
        """The entries of a directory, in the order of their up-cased names."""
        node, names = self._find(path)
        base = "".join("\\" + name for name in names)
        children = sorted(self._directory(node, path), key=lambda child: self._volume.upper(child.name))
        return [_entry(child, f"{base}\\{child.name}") for child in children]

    def walk(self, path: str = "\\") -> Iterator[Entry]:
        """Everything below a directory, each directory before what is in it."""
        for entry in self.listdir(path):
            yield entry
            if entry.is_directory:
                yield from self.walk(entry.path)

    def mkdir(self, path: str, *, parents: bool = False) -> None:
        """Make a directory, with ``parents`` also those above it that are missing (and then it may exist already)."""
        names = split_path(path)
        if parents:
            for depth in range(1, len(names) + 1):
                above = "\\".join(names[:depth])
                if not self.exists(above):
                    self.mkdir(above)
            if not self._find(path)[0].is_directory:
                raise NotADirectory(f"{path} is a file; choose another path for the directory")
            return
        directory, name = self._new_place(path)
        node = self._new_node(name, entries.DIRECTORY)
        volume = self._volume
        size = self.cluster_size
        volume.extend(node, size, prepare=lambda offset, length: zero(volume.device, offset, length))
        node.size = node.valid = size
        self._add(directory, node)

    def create(self, path: str, *, size: int = 0, preallocate: bool = False, align: int | None = None) -> File:
        """Make a file of ``size`` zero bytes and open it for writing; raises ``FileExists``, ``DiskFull``.

        ``preallocate`` gives the range back to the array and makes every byte valid, so that later writes go in place
        and take space only where they fall. Files of 2 MiB and more start on a multiple of ``align`` bytes (2 MiB)
        of the whole disk and are in one piece if the volume has room.
        """
        directory, name = self._new_place(path)
        node = self._new_node(name, entries.ARCHIVE)
        if size:
            wanted = align if align is not None else BIG_ALIGNMENT if size >= BIG_ALIGNMENT else 0
            self._volume.extend(node, size, align=wanted)
            node.size = size
            if preallocate:
                self._volume.zero(node, 0, size)
                node.valid = size
        self._add(directory, node)
        return File(self._volume, node, path=path, write=True)

    def open(self, path: str, *, write: bool = False) -> File:
        """Open a file; raises ``PathNotFound``, ``IsADirectory``."""
        node, _ = self._find(path)
        if node.is_directory:
            raise IsADirectory(f"{path} is a directory; only files can be opened")
        return File(self._volume, node, path=path, write=write)

    def read_file(self, path: str) -> bytes:
        """All bytes of a file."""
        with self.open(path) as file:
            return file.read(0, file.size)

    def write_file(self, path: str, data: bytes) -> None:
        """Make or replace a whole (small) file."""
        if self.exists(path):
            with self.open(path, write=True) as file:
                file.truncate(0)
                file.write(0, data)
        else:
            with self.create(path) as file:
                file.write(0, data)

    def remove(self, path: str) -> None:
        """Remove a file or an empty directory; raises ``FileInUse``, ``DirectoryNotEmpty``."""
        node, _ = self._find(path)
        parent = self._parent(node, path)
        if node.is_directory and len(self._directory(node, path)):
            raise DirectoryNotEmpty(f"{path} is not empty; remove what is in it first")
        self._check_unused(node, path)
        self._volume.locate(node)
        parent.remove(node)
        self._volume.release(node, 0)

    def remove_tree(self, path: str) -> None:
        """Remove a directory and everything below it, or a file."""
        node, _ = self._find(path)
        if node.is_directory:
            for entry in self.listdir(path):
                self.remove_tree(entry.path)
        if node.directory is not None:
            self.remove(path)

    def rename(self, source: str, destination: str) -> None:
        """Rename or move a file or directory; nothing is overwritten (``FileExists``)."""
        node, _ = self._find(source)
        parent = self._parent(node, source)
        self._check_unused(node, source)
        names = split_path(destination)
        if not names:
            raise FileExists("the root directory cannot be replaced")
        name = check_name(names[-1])
        target = self._directory_of(names[:-1], destination)
        taken = target.find(name)
        if taken is not None and taken is not node:
            raise FileExists(f"{destination} exists already; remove it or choose another name")
        if node.is_directory and self._is_below(names[:-1], node):
            raise FileSystemError(f"{source} cannot be moved into itself")
        parent.rename(node, name, target)

    def set_times(self, path: str, *, created: datetime | None = None, modified: datetime | None = None) -> None:
        """Change a file's or directory's times."""
        node, _ = self._find(path)
        self._parent(node, path)
        node.created = created or node.created
        node.modified = modified or node.modified
        self._volume.commit(node)

    def set_attributes(self, path: str, attributes: int) -> None:
        """Change the read-only, hidden, system and archive bits; being a directory stays as it is."""
        node, _ = self._find(path)
        self._parent(node, path)
        settable = READ_ONLY | HIDDEN | SYSTEM | ARCHIVE
        node.attributes = node.attributes & ~settable | attributes & settable
        self._volume.commit(node)

    def reclaim(self) -> int:
        """Unmap every free cluster (space reclamation); returns how many bytes were offered to the array."""
        self._volume.check_open()
        geometry = self._volume.geometry
        total = 0
        for start, count in self._volume.bitmap.free_runs():
            length = count << geometry.cluster_shift
            self.device.unmap(geometry.heap_offset + (start << geometry.cluster_shift), length)
            total += length
        return total

    @property
    def largest(self) -> int:
        """How many bytes of partition ``extend`` can take into use."""
        return largest(self._volume.geometry)

    def extend(self) -> int:
        """Take the bigger device into use, with files open if need be; returns the bytes gained.

        Raises ``FileSystemError`` if the device did not grow, or grew beyond ``largest``.
        """
        self._volume.check_open()
        before = self.size
        extend_volume(self._volume, self._root)
        return self.size - before

    def check(self) -> CheckResult:
        """Hold every file against the bitmap and the chains, as chkdsk without a switch."""
        self._volume.check_open()
        return check_volume(self._volume, self._root)

    def repair(self) -> CheckResult:
        """Free lost clusters, and drop the second name of a file whose move lost power; returns what was found.

        Errors are reported and left alone. Raises ``FileInUse`` while files are open.
        """
        for node in self._volume.open_nodes:
            raise FileInUse(f"{node.name!r} is open; close every file before the volume is repaired")
        result = self.check()
        for _, second in result.twins:
            node, _ = self._find(second)
            self._parent(node, second).remove(node)
        for path in result.tails:
            runs = self._volume.locate(self._find(path)[0])
            self._volume.fat.set(runs[-1][0] + runs[-1][1] - 1)
        self._volume.bitmap.give(result.lost)
        return result

    def flush(self) -> None:
        """Flush the device; metadata is there already."""
        self._volume.check_open()
        self.device.flush()

    def mark_clean(self) -> None:
        """Write the modified times of changed files and take the dirty flag back (before a consistent snapshot)."""
        self._volume.check_open()
        for node in sorted(self._volume.open_nodes, key=lambda node: node.name):
            if node.touched:
                node.modified = self._volume.now()
                self._volume.commit(node)
                node.touched = False
        self._volume.mark_clean()

    def close(self) -> None:
        """Dismount: open files end, the dirty flag goes, the device is flushed. Closing twice does nothing."""
        if self._volume.closed:
            return
        self.mark_clean()
        self.device.flush()
        self.abandon()

    def abandon(self) -> None:
        """Dismount without another write, as after a loss of power."""
        self._volume.closed = True
        for node in self._volume.open_nodes:
            node.base = -1

    def _mount_root(self) -> Directory:
        volume = self._volume
        geometry = volume.geometry
        runs = volume.fat.follow(geometry.root, limit=geometry.cluster_count)
        size = sum(count for _, count in runs) << geometry.cluster_shift
        never = datetime(1980, 1, 1, tzinfo=UTC)
        record = entries.Record("", entries.DIRECTORY, never, never, never, geometry.root, size, size, chained=True)
        node = Node(record, hashed=0, names=b"")
        # The tables are named by entries of the root itself, so the names are compared only after a first look.
        root = Directory(volume, node)
        bitmap = upcase = None
        for special in root.special:
            first = int.from_bytes(special[20:24], "little")
            length = int.from_bytes(special[24:32], "little")
            if special[0] == entries.BITMAP and not special[1] & 1:
                bitmap = (first, length)
            elif special[0] == entries.UPCASE:
                upcase = (first, length, int.from_bytes(special[4:8], "little"))
        if bitmap is None or upcase is None or upcase[1] > 2 * 0x10000:
            raise Corrupt("the root directory names no allocation bitmap or no up-case table; the volume is damaged")
        volume.system_chains = [bitmap, upcase[:2]]
        volume.attach_bitmap(*bitmap)
        volume.upcase = upcase_map(self._chain_bytes(upcase[0], upcase[1]), upcase[2])
        root.rehash()
        node.children = root
        self._root_node = node
        return root

    def _chain_bytes(self, first: int, length: int) -> bytes:
        volume = self._volume
        geometry = volume.geometry
        if first == END_OF_CHAIN:
            raise Corrupt("a system table has no cluster; the volume is damaged")
        runs = volume.fat.follow(first, limit=geometry.clusters(length))
        parts = [self.device.read(geometry.cluster_offset(c), n << geometry.cluster_shift) for c, n in runs]
        return b"".join(parts)[:length]

    def _find(self, path: str) -> tuple[Node, list[str]]:
        """The node of a path and its names as they are spelt on the volume."""
        self._volume.check_open()
        node = self._root_node
        names: list[str] = []
        for name in split_path(path):
            found = self._directory(node, path).find(name)
            if found is None:
                raise PathNotFound(f"{path} does not exist; look at the directory's listing for what is there")
            node = found
            names.append(node.name)
        return node, names

    def _directory(self, node: Node, path: str) -> Directory:
        if not node.is_directory:
            raise NotADirectory(f"{node.name!r} in {path} is a file, not a directory")
        if not isinstance(node.children, Directory):
            node.children = Directory(self._volume, node)
        return node.children

    def _directory_of(self, names: list[str], path: str) -> Directory:
        node, _ = self._find("\\".join(names))
        return self._directory(node, path)

    def _parent(self, node: Node, path: str) -> Directory:
        if not isinstance(node.directory, Directory):
            raise FileSystemError(f"{path} is the root directory; it can be neither removed nor changed")
        return node.directory

    def _new_place(self, path: str) -> tuple[Directory, str]:
        names = split_path(path)
        if not names:
            raise FileExists("the root directory exists already")
        name = check_name(names[-1])
        directory = self._directory_of(names[:-1], path)
        if directory.find(name) is not None:
            raise FileExists(f"{path} exists already; remove it or choose another name")
        return directory, name

    def _new_node(self, name: str, attributes: int) -> Node:
        moment = self._volume.now()
        record = entries.Record(name, attributes, moment, moment, moment, 0, 0, 0, chained=False)
        return Node(record, hashed=self._volume.hash(name), names=entries.name_entries(name))

    def _add(self, directory: Directory, node: Node) -> None:
        try:
            directory.add(node)
        except BaseException:
            self._volume.release(node, 0)
            raise

    def _check_unused(self, node: Node, path: str) -> None:
        if node.handles:
            raise FileInUse(f"{path} is in use: {node.name!r} has {node.handles} open handles; close them first")
        if isinstance(node.children, Directory):
            for child in node.children:
                self._check_unused(child, path)

    def _is_below(self, names: list[str], node: Node) -> bool:
        current = self._root_node
        for name in names:
            found = self._directory(current, name).find(name)
            if found is node:
                return True
            if found is None:
                return False
            current = found
        return False


def _entry(node: Node, path: str) -> Entry:
    return Entry(
        node.name, path, node.is_directory, node.size, node.valid, node.created, node.modified, node.attributes
    )
