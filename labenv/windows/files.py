"""Files of the host by their Windows paths, across volumes and mount points, with sharing violations."""

from __future__ import annotations

import asyncio
import ntpath
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager

from labenv.clock import Clock
from labenv.costs import Costs
from labenv.windows.disks.exfat import Entry, File, FileSystem
from labenv.windows.errors import FILE_ERRORS, FileProblem, problem, sharing_violation
from labenv.windows.volumes import Volume, Volumes, full_path

GIB = 1 << 30
_PIECE = 1 << 20
_SPAN = 64 << 20
_ZEROS = bytes(_PIECE)
_KEYS = 50_000


def windows_errors(path: str) -> AbstractContextManager[None]:
    """Turn failures of file systems and disks into ``FileProblem`` about a path."""
    return _WindowsErrors(path)


class _WindowsErrors:
    """Around every operation, and hardly ever needed: cheaper than a generator."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, FILE_ERRORS):
            raise problem(error, self._path) from error


class Files:
    """File operations of the host. Every failure is a ``FileProblem`` with the HRESULT that Windows would give.

    ``holders`` are asked which files are open (running VMs, attached virtual disks); nobody may change or read those.
    """

    def __init__(self, *, volumes: Volumes, clock: Clock, costs: Costs) -> None:
        self._volumes = volumes
        self._clock = clock
        self._costs = costs
        self._busy: dict[str, int] = {}
        self.holders: list[Callable[[], Iterable[str]]] = []
        self.peers: Callable[[], Iterable[Files]] = tuple  # the other nodes of the cluster: they open the same files

    def locate(self, path: str) -> tuple[FileSystem, str]:
        """The file system of a path and the path inside it."""
        volume, inner = self._volumes.resolve(path)
        with windows_errors(path):
            return self._volumes.file_system(volume), inner

    def key(self, path: str) -> str:
        """One name for a file, whichever letter or mount point leads to it."""
        key = self._volumes.keys.get(path)
        if key is None:
            if len(self._volumes.keys) > _KEYS:
                self._volumes.keys.clear()
            volume, inner = self._volumes.resolve(path)
            key = self._volumes.keys[path] = f"{volume.guid}{inner.lower()}"
        return key

    def _open_keys(self) -> Iterator[str]:
        yield from self.open_keys()
        for peer in self.peers():
            yield from peer.open_keys()

    def open_keys(self) -> Iterator[str]:
        """The files that this host has open."""
        yield from self._busy
        for holder in self.holders:
            for path in holder():
                try:
                    yield self.key(path)
                except FileProblem:
                    continue  # its volume is away; so nothing there can be touched either

    def in_use(self, path: str) -> bool:
        """Whether a file, or any file below a directory, is open."""
        key = self.key(path)
        below = key.rstrip("\\") + "\\"
        return any(k == key or k.startswith(below) for k in self._open_keys())

    def guard(self, path: str) -> None:
        """Raise a sharing violation if a file is open."""
        if self.in_use(path):
            raise sharing_violation(path)

    @contextmanager
    def hold(self, *paths: str) -> Iterator[None]:
        """Keep files open for the span of an operation."""
        keys = [self.key(path) for path in paths]
        for key in keys:
            self._busy[key] = self._busy.get(key, 0) + 1
        try:
            yield
        finally:
            for key in keys:
                self._busy[key] -= 1
                if not self._busy[key]:
                    del self._busy[key]

    def exists(self, path: str) -> bool:
        """Whether there is a file or directory; False also where no volume answers."""
        try:
            return self.stat(path) is not None
        except FileProblem:
            return False

    def stat(self, path: str) -> Entry:
        """The directory entry of a path; that of a mount point is there although its volume may be away."""
        try:
            file_system, inner = self.locate(path)
        except FileProblem:
            if not self._volumes.dangling(path):
                raise
            folder, name = ntpath.split(path.rstrip("\\"))
            file_system, above = self.locate(folder)
            inner = ntpath.join(above, name)
        with windows_errors(path):
            return file_system.stat(inner)

    def is_directory(self, path: str) -> bool:
        """Whether a path exists and is a directory."""
        return self.exists(path) and self.stat(path).is_directory

    def listdir(self, path: str) -> list[Entry]:
        """The entries of a directory, by name."""
        file_system, inner = self.locate(path)
        with windows_errors(path):
            return sorted(file_system.listdir(inner), key=lambda e: e.name.lower())

    def walk(self, path: str) -> Iterator[tuple[str, Entry]]:
        """Every entry below a directory with its full path, directories before what they hold."""
        for entry in self.listdir(path):
            full = ntpath.join(path, entry.name)
            yield full, entry
            if entry.is_directory:
                try:
                    yield from self.walk(full)
                except FileProblem:
                    continue  # a mount point of a volume that is away

    def open(self, path: str, *, write: bool = False) -> File:
        """Open a file; the caller closes it."""
        file_system, inner = self.locate(path)
        with windows_errors(path):
            return file_system.open(inner, write=write)

    def create(self, path: str, *, size: int = 0, preallocate: bool = False) -> File:
        """Make a new file; the caller closes it."""
        file_system, inner = self.locate(path)
        with windows_errors(path):
            return file_system.create(inner, size=size, preallocate=preallocate)

    def mkdir(self, path: str) -> None:
        """Make a directory with everything above it."""
        file_system, inner = self.locate(path)
        with windows_errors(path):
            if inner != "\\" and not file_system.exists(inner):
                file_system.mkdir(inner, parents=True)

    def read(self, path: str) -> bytes:
        """All bytes of a small file; raises a sharing violation if somebody has it open."""
        self.guard(path)
        with windows_errors(path):
            file = self.open(path)
            try:
                return file.read(0, file.size)
            finally:
                file.close()

    def write(self, path: str, data: bytes) -> None:
        """Replace a small file's contents, or make it."""
        with windows_errors(path):
            if self.exists(path):
                self.guard(path)
                file = self.open(path, write=True)
                file.truncate(0)
            else:
                file = self.create(path)
            try:
                file.write(0, data)
                file.flush()
            finally:
                file.close()

    def remove(self, path: str) -> None:
        """Delete a file or an empty directory."""
        self.guard(path)
        file_system, inner = self.locate(path)
        with windows_errors(path):
            file_system.remove(inner)

    def unmount(self, volume: Volume, path: str) -> None:
        """Take a mount point away; the folder of a shared volume belongs to the cluster."""
        if volume.shared:
            raise FileProblem(0x80070005, f"Access to the path '{path}' is denied.")
        self._volumes.remove_path(volume, path)

    def remove_tree(self, path: str) -> None:
        """Delete a directory and everything in it; of a mount point only the mount, never what it leads to."""
        self.guard(path)
        for entry in self.listdir(path):
            full = ntpath.join(path, entry.name)
            mounted = self._volumes.mounted_at(full)
            if mounted is not None:
                self.unmount(mounted, full)
            elif self._volumes.dangling(full):
                self._volumes.forget_path(full)
            if entry.is_directory:
                self.remove_tree(full)
            else:
                self.remove(full)
        self.remove(path)

    def same_volume(self, first: str, second: str) -> bool:
        """Whether two paths are on one volume."""
        return self._volumes.resolve(first)[0].guid == self._volumes.resolve(second)[0].guid

    def rename(self, source: str, destination: str) -> None:
        """Rename or move within a volume; never overwrites. Of a mount point the directory is renamed."""
        self.guard(source)
        if self._volumes.mounted_at(source) is not None:
            file_system, folder = self.locate(ntpath.dirname(source.rstrip("\\")))
            inner = ntpath.join(folder, ntpath.basename(source.rstrip("\\")))
        else:
            file_system, inner = self.locate(source)
        target = self._volumes.resolve(destination)[1]
        with windows_errors(source):
            if file_system.exists(target) and inner.lower() != target.lower():
                raise FileProblem(0x80070050, "Cannot create a file when that file already exists.")
            file_system.rename(inner, target)

    async def pieces(self, path: str) -> AsyncIterator[bytes]:
        """A file's bytes in pieces, in lab time (``windows.copy_gib``)."""
        self.guard(path)
        reader = self.open(path)
        try:
            size = reader.size
            await self._clock.sleep(max(1.0, size / GIB * self._costs["windows.copy_gib"]))
            for offset in range(0, size, _PIECE):
                with windows_errors(path):
                    yield reader.read(offset, min(_PIECE, size - offset))
                await asyncio.sleep(0)
        finally:
            reader.close()

    async def copy(
        self,
        source: str,
        destination: str,
        *,
        progress: Callable[[int, int], None] = lambda done, size: None,
        shared: bool = False,
    ) -> None:
        """Copy a file's bytes in lab time (``windows.copy_gib``), replacing an existing destination.

        ``shared``: also one that is open, by whoever has opened it. ``progress`` is called with the bytes done and the
        size. What was copied so far stays if the copy is cancelled.
        """
        if full_path(source).lower() == full_path(destination).lower():
            raise FileProblem(0x80070050, f"Cannot overwrite the item {source} with itself.")
        if not shared:
            self.guard(source)
        with windows_errors(destination):
            reader = self.open(source)
            try:
                size = reader.size
                if self.exists(destination):
                    self.remove(destination)
                writer = self.create(destination, size=size, preallocate=size > 0)
                try:
                    with self.hold(source, destination):
                        await self._transfer(reader, writer, size, progress)
                        writer.flush()
                finally:
                    writer.close()
            finally:
                reader.close()

    async def _transfer(self, reader: File, writer: File, size: int, progress: Callable[[int, int], None]) -> None:
        await self._clock.sleep(max(1.0, min(size, _SPAN) / GIB * self._costs["windows.copy_gib"]))
        valid = min(reader.valid_length, size)
        for offset in range(0, valid, _SPAN):
            if offset:
                progress(offset, size)
                await self._clock.sleep(min(valid - offset, _SPAN) / GIB * self._costs["windows.copy_gib"])
            span = min(_SPAN, valid - offset)
            writer.unmap(offset, span)
            for start, length in reader.data_ranges(offset, span):
                for piece in range(start, start + length, _PIECE):
                    data = reader.read(piece, min(_PIECE, start + length - piece))
                    if data != _ZEROS[: len(data)]:
                        writer.write(piece, data)
                    await asyncio.sleep(0)
        if size > valid:
            await self._clock.sleep((size - valid) / GIB * self._costs["windows.copy_gib"])
        progress(size, size)
