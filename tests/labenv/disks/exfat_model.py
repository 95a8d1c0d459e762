"""A seeded course of changes to a file system, and what its files must hold afterwards."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

from labenv.windows.disks.errors import DiskFull
from labenv.windows.disks.exfat import FileSystem

NOW = datetime(2013, 5, 6, 7, 8, 9, tzinfo=UTC)


def now() -> datetime:
    return NOW


@dataclass
class Change:
    """One change under way: the paths it touches, and what may be found there if it is cut."""

    paths: tuple[str, ...] = ()
    allowed: list[bytes | None] = field(default_factory=list)
    moved: bool = False


class Course:
    """Random creations, writes, cuts, removals and moves; ``files`` is the truth."""

    def __init__(self, seed: int, files: dict[str, bytes] | None = None, *, big: int = 30_000) -> None:
        self.random = random.Random(seed)
        self.seed = seed
        self.files = dict(files or {})
        self.big = big
        self.full = 0

    def run(self, fs: FileSystem, count: int) -> Iterator[Change]:
        """Make changes; each is announced before it is made."""
        rnd = self.random
        folders = ["\\", *(entry.path + "\\" for entry in fs.walk() if entry.is_directory)]
        for step in range(count):
            kind = rnd.random()
            paths = sorted(self.files)
            tag = f"{self.seed}_{step}" + "ä" * rnd.randrange(0, 60)
            if kind < 0.1:
                path = rnd.choice(folders) + "d" + tag
                yield Change()
                try:
                    fs.mkdir(path)
                    folders.append(path + "\\")
                except DiskFull:
                    self.full += 1
            elif kind < 0.35 or not paths:
                path = rnd.choice(folders) + "n" + tag
                data = rnd.randbytes(rnd.choice([0, 100, 9_000, self.big]))
                yield Change((path,), [None, b"", data])
                self._create(fs, path, data)
            elif kind < 0.65:
                path = rnd.choice(paths)
                old = self.files[path]
                offset = rnd.choice([len(old), rnd.randrange(0, len(old) + 5_000)])
                data = rnd.randbytes(rnd.choice([1, 4_096, 12_000]))
                new = old.ljust(offset, b"\0")[:offset] + data + old[offset + len(data) :]
                # A write in place is not one piece for the device: then anything of old and new may be there.
                yield Change((path,), [old, new] if offset >= len(old) else [])
                self._write(fs, path, offset, data, new)
            elif kind < 0.75:
                path = rnd.choice(paths)
                size = rnd.randrange(0, 2 * len(self.files[path]) + 10)
                new = self.files[path][:size].ljust(size, b"\0")
                yield Change((path,), [self.files[path], new])
                self._truncate(fs, path, size, new)
            elif kind < 0.87:
                path = rnd.choice(paths)
                yield Change((path,), [self.files[path], None])
                fs.remove(path)
                del self.files[path]
            else:
                path, target = rnd.choice(paths), rnd.choice(folders) + "m" + tag
                yield Change((path, target), [self.files[path]], moved=True)
                try:
                    fs.rename(path, target)
                    self.files[target] = self.files.pop(path)
                except DiskFull:
                    self.full += 1

    def _create(self, fs: FileSystem, path: str, data: bytes) -> None:
        try:
            file = fs.create(path)
        except DiskFull:
            self.full += 1
            return
        with file:
            self.files[path] = b""
            try:
                file.write(0, data)
                self.files[path] = data
            except DiskFull:
                self.full += 1

    def _write(self, fs: FileSystem, path: str, offset: int, data: bytes, new: bytes) -> None:
        with fs.open(path, write=True) as file:
            try:
                file.write(offset, data)
                self.files[path] = new
            except DiskFull:
                self.full += 1

    def _truncate(self, fs: FileSystem, path: str, size: int, new: bytes) -> None:
        with fs.open(path, write=True) as file:
            try:
                file.truncate(size)
                self.files[path] = new
            except DiskFull:
                self.full += 1
