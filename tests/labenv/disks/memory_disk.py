"""A sparse disk in memory, which counts writes and can lose power."""

from __future__ import annotations

from pathlib import Path

from labenv.devices import DeviceError, DeviceGone

PAGE = 4096


class MemoryDisk:
    """Pages that were never written are zeros and take no memory.

    ``lives`` is how many writes the disk takes before its power fails.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self.pages: dict[int, bytes] = {}
        self.writes = 0
        self.lives: int | None = None

    @property
    def size(self) -> int:
        return self._size

    def read(self, offset: int, length: int) -> bytes:
        self._check(offset, length)
        parts = []
        while length:
            page, at = divmod(offset, PAGE)
            part = min(length, PAGE - at)
            data = self.pages.get(page)
            parts.append(bytes(part) if data is None else data[at : at + part])
            offset += part
            length -= part
        return b"".join(parts)

    def write(self, offset: int, data: bytes) -> None:
        self._check(offset, len(data))
        self._live()
        done = 0
        while done < len(data):
            page, at = divmod(offset + done, PAGE)
            part = min(len(data) - done, PAGE - at)
            if part == PAGE:
                self.pages[page] = bytes(data[done : done + PAGE])
            else:
                old = self.pages.get(page, bytes(PAGE))
                self.pages[page] = old[:at] + data[done : done + part] + old[at + part :]
            done += part

    def unmap(self, offset: int, length: int) -> None:
        self._check(offset, length)
        self._live()
        first, last = -(-offset // PAGE), (offset + length) // PAGE
        if last - first > len(self.pages):
            for page in [page for page in self.pages if first <= page < last]:
                del self.pages[page]
        else:
            for page in range(first, last):
                self.pages.pop(page, None)
        if first > last:
            first = last = -(-(offset + length) // PAGE)
        self._clear(offset, min(first * PAGE, offset + length))
        self._clear(max(offset, last * PAGE), offset + length)

    def flush(self) -> None:
        self._live(0)

    def copy(self) -> MemoryDisk:
        """The same bytes on a disk that lives."""
        other = MemoryDisk(self._size)
        other.pages = dict(self.pages)
        return other

    def export(self, path: Path) -> Path:
        """Write the bytes into a sparse file for other programs."""
        with path.open("wb") as out:
            out.truncate(self._size)
            for page, data in sorted(self.pages.items()):
                if any(data):
                    out.seek(page * PAGE)
                    out.write(data[: self._size - page * PAGE])
        return path

    def _clear(self, start: int, end: int) -> None:
        while start < end:
            page, at = divmod(start, PAGE)
            part = min(end - start, PAGE - at)
            old = self.pages.get(page)
            if old is not None:
                self.pages[page] = old[:at] + bytes(part) + old[at + part :]
            start += part

    def _check(self, offset: int, length: int) -> None:
        if offset < 0 or length < 0 or offset + length > self._size:
            raise DeviceError(f"{length} bytes at {offset} leave a disk of {self._size}")

    def _live(self, cost: int = 1) -> None:
        if self.lives is not None:
            if self.lives < cost or self.lives < 0:
                self.lives = -1
                raise DeviceGone("the power is gone")
            self.lives -= cost
        self.writes += cost


class MemoryFile(MemoryDisk):
    """The same as a file that grows, to hold a virtual disk."""

    def write(self, offset: int, data: bytes) -> None:
        self._size = max(self._size, offset + len(data))
        super().write(offset, data)

    def truncate(self, size: int) -> None:
        if size < self._size:
            self.unmap(size, self._size - size)
        self._size = size

    def preallocate(self, size: int) -> None:
        self._size = max(size, self._size)

    @classmethod
    def load(cls, path: Path) -> MemoryFile:
        """A file's bytes."""
        file = cls(0)
        data = path.read_bytes()
        for at in range(0, len(data), PAGE):
            page = data[at : at + PAGE]
            if any(page):
                file.pages[at // PAGE] = page.ljust(PAGE, b"\0")
        file._size = len(data)
        return file
