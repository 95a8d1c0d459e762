"""A host's own disk: chunks in a file that grows only by what was written."""

from __future__ import annotations

import os
import shutil
import sqlite3
import struct
from pathlib import Path

from labenv.devices import DeviceError, DeviceGone

_MAGIC = b"labenv local disk 1\0"
_CHUNK = 1 << 18
_HEADER = 4096


class LocalDisk:
    """A block device kept in one file.

    The file is a header, an index with a slot number per chunk of the disk (0: never written) and the slots. A chunk's
    data is written before its index entry, so a killed process leaves either the old or the new chunk.
    """

    def __init__(self, path: Path, size: int) -> None:
        self._path = path
        self._size = size
        self._chunks = -(-size // _CHUNK)
        self._start = _HEADER + -(-self._chunks * 4 // _HEADER) * _HEADER
        self._fd = -1
        self._index: dict[int, int] = {}
        self._next = 1
        self._free: list[int] = []
        self.fresh = not path.exists()
        self._open()

    def _open(self) -> None:
        self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o600)
        header = _MAGIC + struct.pack("<Q", self._size)
        if os.fstat(self._fd).st_size == 0:
            os.write(self._fd, header.ljust(self._start, b"\0"))
        elif self._pread(len(header), 0) != header:
            self.close()
            raise DeviceError(f"{self._path.name} is not a local disk of {self._size} bytes: start with another folder")
        slots = struct.unpack(f"<{self._chunks}I", self._pread(self._chunks * 4, _HEADER))
        self._index = {chunk: slot for chunk, slot in enumerate(slots) if slot}
        used = set(self._index.values())
        self._next = max(used, default=0) + 1
        self._free = [slot for slot in range(1, self._next) if slot not in used]

    def _pread(self, length: int, offset: int) -> bytes:
        os.lseek(self._fd, offset, os.SEEK_SET)
        return os.read(self._fd, length)

    def _pwrite(self, data: bytes, offset: int) -> None:
        os.lseek(self._fd, offset, os.SEEK_SET)
        while data:
            data = data[os.write(self._fd, data) :]

    @property
    def size(self) -> int:
        """Capacity in bytes."""
        return self._size

    def _check(self, offset: int, length: int) -> None:
        if self._fd < 0:
            raise DeviceGone(f"{self._path.name} is closed")
        if offset < 0 or length < 0 or offset + length > self._size:
            raise DeviceError(
                f"{length} bytes at {offset} are beyond the end of {self._path.name} ({self._size} bytes)"
            )

    def read(self, offset: int, length: int) -> bytes:
        """The bytes at an offset."""
        self._check(offset, length)
        parts = []
        while length:
            chunk, within = divmod(offset, _CHUNK)
            take = min(length, _CHUNK - within)
            slot = self._index.get(chunk)
            data = self._pread(take, self._start + (slot - 1) * _CHUNK + within) if slot else b""
            parts.append(data.ljust(take, b"\0"))
            offset += take
            length -= take
        return b"".join(parts)

    def write(self, offset: int, data: bytes) -> None:
        """Store bytes; they survive a killed process."""
        self._check(offset, len(data))
        position = 0
        while position < len(data):
            chunk, within = divmod(offset + position, _CHUNK)
            part = data[position : position + _CHUNK - within]
            slot = self._index.get(chunk)
            if slot:
                self._pwrite(part, self._start + (slot - 1) * _CHUNK + within)
            elif any(part):
                slot = self._take_slot()
                self._pwrite((b"\0" * within + part).ljust(_CHUNK, b"\0"), self._start + (slot - 1) * _CHUNK)
                self._set(chunk, slot)
            position += len(part)

    def _take_slot(self) -> int:
        if self._free:
            return self._free.pop()
        self._next += 1
        return self._next - 1

    def _set(self, chunk: int, slot: int) -> None:
        self._pwrite(struct.pack("<I", slot), _HEADER + chunk * 4)
        if slot:
            self._index[chunk] = slot
        else:
            self._free.append(self._index.pop(chunk))

    def unmap(self, offset: int, length: int) -> None:
        """Zero a range and forget the chunks that it covers whole."""
        self._check(offset, length)
        end = offset + length
        first, last = offset // _CHUNK, -(-end // _CHUNK)
        known = self._index if last - first > len(self._index) else range(first, last)
        for chunk in [c for c in known if first <= c < last and c in self._index]:
            start, stop = max(offset, chunk * _CHUNK), min(end, (chunk + 1) * _CHUNK)
            if stop - start == _CHUNK:
                self._set(chunk, 0)
            else:
                self.write(start, bytes(stop - start))

    def flush(self) -> None:
        """Nothing is cached."""

    def close(self) -> None:
        """Close the file; later reads and writes raise ``DeviceGone``."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def keep(self, name: str) -> None:
        """Keep a copy under a name."""
        shutil.copyfile(self._path, self._kept(name))

    def put_back(self, name: str) -> None:
        """Go back to the copy of a name."""
        self.close()
        shutil.copyfile(self._kept(name), self._path)
        self._open()

    def drop(self, name: str) -> None:
        """Delete the copy of a name."""
        self._kept(name).unlink(missing_ok=True)

    def _kept(self, name: str) -> Path:
        return self._path.with_name(f"{self._path.name}.{name}")


class LocalDiskCheckpoints:
    """Lets a ``LocalDisk`` take part in the lab's checkpoints (``state.Participant``)."""

    def __init__(self, disk: LocalDisk) -> None:
        self._disk = disk

    def write(self, db: sqlite3.Connection) -> None:
        """The bytes are durable already."""

    def committed(self) -> None:
        """Nothing waits for it."""

    def checkpoint(self, name: str, db: sqlite3.Connection) -> None:
        """Keep a copy of the file."""
        self._disk.keep(name)

    def restore(self, name: str, db: sqlite3.Connection) -> None:
        """Put the copy back."""
        self._disk.put_back(name)

    def forget(self, name: str, db: sqlite3.Connection) -> None:
        """Drop the copy."""
        self._disk.drop(name)
