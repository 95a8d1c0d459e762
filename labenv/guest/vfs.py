# ruff: noqa: N802 - the methods have the names that SQLite calls

"""SQLite's view of a guest: database files are files of guest volumes, behind the guest's write cache.

The rollback journal or the write-ahead log lives at the path of the database's *log* file, which may be on another
disk. The log file itself always stays, as SQL Server's does: where SQLite would delete it, it is emptied.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

import apsw

from labenv.guest.cache import BLOCK, CachedFile
from labenv.guest.errors import VolumeNotFound
from labenv.guest.volume import GuestVolume, split_path

JULIAN_EPOCH_MS = 210_866_760_000_000
"""Milliseconds from the start of the Julian calendar to 1970, as SQLite counts time."""

WAL_VERSION = 2
"""Value of bytes 18 and 19 of a database that uses a write-ahead log."""


@dataclass
class Locks:
    """Who holds which lock of one database file, by the rules of SQLite's rollback journal modes."""

    shared: set[int] = field(default_factory=set)
    reserved: int | None = None
    pending: int | None = None
    exclusive: int | None = None


@dataclass
class LogFile:
    """Where the log of a database is, and whether it is a write-ahead log."""

    path: str
    write_ahead: bool


class GuestFiles:
    """The files that a guest's database engine reaches, and their locks.

    After ``cut`` every file looks empty and every write vanishes without an error: SQLite may then close its
    connections, and nothing of that reaches a disk.
    """

    def __init__(self, volumes: Mapping[str, GuestVolume], *, now: Callable[[], datetime]) -> None:
        self._volumes = volumes
        self._now = now
        self._locks: dict[str, Locks] = {}
        self._logs: dict[str, LogFile] = {}
        self._handles = 0
        self.is_cut = False

    def cut(self) -> None:
        """From here on nothing is read and nothing is written."""
        self.is_cut = True

    def set_log(self, data: str, log: LogFile) -> None:
        """Say where the log of a database is, before the database is opened."""
        self._logs[data.upper()] = log

    def forget_log(self, data: str) -> None:
        """Forget a database that was detached."""
        self._logs.pop(data.upper(), None)

    def path_of(self, name: str) -> str | None:
        """The guest path behind a name that SQLite uses; None for a log of the kind that the database has not.

        A database with a write-ahead log needs a rollback journal while its header is switched to that mode, when it
        is created; it is an ordinary file beside the log.
        """
        for suffix in ("-journal", "-wal"):
            log = self._logs.get(name.removesuffix(suffix).upper()) if name.endswith(suffix) else None
            if log is not None:
                if log.write_ahead == (suffix == "-wal"):
                    return log.path
                return f"{log.path}{suffix}" if log.write_ahead else None
        return name

    def volume(self, path: str) -> tuple[GuestVolume, str]:
        """The volume of a guest path, and the path inside it; raises ``VolumeNotFound``."""
        letter, inside = split_path(path)
        volume = self._volumes.get(letter)
        if volume is None:
            raise VolumeNotFound(f"{path}: there is no volume {letter}:, only {', '.join(self._volumes)}")
        return volume, inside

    def size(self, path: str) -> int:
        """Bytes of a file; 0 if there is none."""
        if self.is_cut:
            return 0
        volume, inside = self.volume(path)
        if not volume.exists(inside):
            return 0
        file = volume.open(inside)
        try:
            return file.size
        finally:
            volume.release(inside)

    def discard(self, path: str) -> None:
        """Empty a log that SQLite deletes; other files are deleted indeed."""
        if self.is_cut:
            return
        volume, inside = self.volume(path)
        if path not in (log.path for log in self._logs.values()):
            if volume.exists(inside):
                volume.remove(inside)
        elif volume.exists(inside):
            file = volume.open(inside)
            file.truncate(0)
            volume.flush_file(file)
            volume.release(inside)

    def open(self, path: str) -> DatabaseFile:
        """Open or create a file for SQLite."""
        volume, inside = self.volume(path)
        file = volume.open(inside, create=True)
        self._handles += 1
        return DatabaseFile(self, volume, inside, file, self._locks.setdefault(path.upper(), Locks()), self._handles)

    def second(self) -> int:
        """Lab time in whole seconds since 1970."""
        return int(self._now().timestamp())

    def julian_ms(self) -> int:
        """Lab time as SQLite counts it."""
        return round(self._now().timestamp() * 1000) + JULIAN_EPOCH_MS


class DatabaseFile:
    """One open database or log file of one SQLite connection."""

    def __init__(
        self, files: GuestFiles, volume: GuestVolume, path: str, file: CachedFile, locks: Locks, number: int
    ) -> None:
        self._files = files
        self._volume = volume
        self._path = path
        self._file = file
        self._locks = locks
        self._number = number
        self._level = apsw.SQLITE_LOCK_NONE

    def xRead(self, amount: int, offset: int) -> bytes:
        """Bytes of the file; SQLite pads what is short."""
        return b"" if self._files.is_cut else self._file.read(offset, amount)

    def xWrite(self, data: bytes, offset: int) -> None:
        """Into the guest's cache."""
        if not self._files.is_cut:
            self._file.write(offset, bytes(data), now=self._files.second())

    def xTruncate(self, newsize: int) -> None:
        """Shorten the file, on the disk at once."""
        if not self._files.is_cut:
            self._file.truncate(newsize)

    def xSync(self, flags: int) -> None:
        """Out of the guest's cache, onto the disk."""
        if not self._files.is_cut:
            self._volume.flush_file(self._file)

    def xFileSize(self) -> int:
        """Bytes of the file."""
        return 0 if self._files.is_cut else self._file.size

    def xClose(self) -> None:
        """Give the file back."""
        self.xUnlock(apsw.SQLITE_LOCK_NONE)
        if not self._files.is_cut:
            self._volume.release(self._path)

    def xSectorSize(self) -> int:
        """The unit in which the cache writes."""
        return BLOCK

    def xDeviceCharacteristics(self) -> int:
        """A write never disturbs its neighbours; nothing else is promised."""
        return apsw.SQLITE_IOCAP_POWERSAFE_OVERWRITE

    def xFileControl(self, op: int, ptr: int) -> bool:
        """Keep the write-ahead log's file when the last connection closes."""
        if op == apsw.SQLITE_FCNTL_PERSIST_WAL:
            ctypes.c_int.from_address(ptr).value = 1
            return True
        return False

    def xCheckReservedLock(self) -> bool:
        """Whether some connection is about to write."""
        return self._locks.reserved is not None or self._locks.exclusive is not None

    def xLock(self, level: int) -> None:
        """Take a stronger lock, or raise ``apsw.BusyError``."""
        if level <= self._level:
            return
        locks, me = self._locks, self._number
        if level == apsw.SQLITE_LOCK_SHARED:
            if locks.pending not in (None, me) or locks.exclusive not in (None, me):
                raise apsw.BusyError("another connection is writing")
            locks.shared.add(me)
        elif level == apsw.SQLITE_LOCK_RESERVED:
            if locks.reserved not in (None, me):
                raise apsw.BusyError("another connection is about to write")
            locks.reserved = me
        else:
            if locks.pending not in (None, me) or locks.reserved not in (None, me):
                raise apsw.BusyError("another connection is writing")
            locks.pending = me
            if locks.shared - {me}:
                self._level = apsw.SQLITE_LOCK_PENDING
                raise apsw.BusyError("another connection is reading")
            locks.exclusive = me
        self._level = level

    def xUnlock(self, level: int) -> None:
        """Fall back to a weaker lock."""
        locks, me = self._locks, self._number
        if level >= self._level:
            return
        locks.reserved = None if locks.reserved == me else locks.reserved
        locks.pending = None if locks.pending == me else locks.pending
        locks.exclusive = None if locks.exclusive == me else locks.exclusive
        if level == apsw.SQLITE_LOCK_NONE:
            locks.shared.discard(me)
        self._level = level


class GuestVfs(apsw.VFS):
    """The VFS of one running guest; its name is the guest's own."""

    def __init__(self, name: str, files: GuestFiles) -> None:
        self.name = name
        self._guest_files = files
        super().__init__(name)

    def xFullPathname(self, name: str) -> str:
        """Guest paths are always full."""
        return name

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:
        """Open a database, or its log at the log's own path."""
        if name is None or self._guest_files.is_cut:
            raise apsw.CantOpenError("temporary files are kept in memory")
        path = self._guest_files.path_of(name.filename() if isinstance(name, apsw.URIFilename) else name)
        if path is None:
            raise apsw.CantOpenError("this database keeps another kind of log")
        flags[1] = flags[0]
        return self._guest_files.open(path)  # type: ignore[return-value]  # SQLite only needs the methods

    def xAccess(self, pathname: str, flags: int) -> bool:
        """Whether a log holds anything; an emptied one counts as deleted."""
        path = self._guest_files.path_of(pathname)
        return path is not None and self._guest_files.size(path) > 0

    def xDelete(self, filename: str, syncdir: bool) -> None:
        """Empty the log, or delete another file."""
        path = self._guest_files.path_of(filename)
        if path is not None:
            self._guest_files.discard(path)

    def xRandomness(self, numbytes: int) -> bytes:
        """Not used: SQLite asks its default VFS alone (see ``seed_sqlite``)."""
        return bytes(numbytes)

    def xSleep(self, microseconds: int) -> int:
        """Lab code never waits."""
        return microseconds

    def xCurrentTime(self) -> float:
        """Lab time as a Julian day."""
        return self._guest_files.julian_ms() / 86_400_000

    def xCurrentTimeInt64(self) -> int:
        """Lab time in milliseconds of the Julian calendar."""
        return self._guest_files.julian_ms()

    def xGetLastError(self) -> tuple[int, str | None]:
        """Errors travel as exceptions."""
        return 0, None


class _Entropy(apsw.VFS):
    """The default VFS for a moment, so that SQLite seeds its generator from us."""

    def __init__(self, seed: bytes) -> None:
        self._seed = seed
        super().__init__("labenv-entropy", "", makedefault=True)

    def xRandomness(self, numbytes: int) -> bytes:
        """The seed."""
        return (self._seed * (numbytes // len(self._seed) + 1))[:numbytes]


def seed_sqlite(seed: bytes) -> None:
    """Set SQLite's random generator, from which journals get their nonce and logs their salt.

    The generator belongs to the process and asks only the default VFS, so it is set before every operation of a guest.
    """
    entropy = _Entropy(seed)
    apsw.randomness(0)
    apsw.randomness(1)
    entropy.unregister()
