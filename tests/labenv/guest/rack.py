"""A guest with three disks in memory: the test bed of the TR's appendix, and ways to cut its power."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID

from labenv.devices import DeviceGone
from labenv.guest.engine import Journal
from labenv.guest.golden import install_golden
from labenv.guest.guest import Guest
from labenv.guest.system import Answers

PAGE = 4096
SIZE = 48 << 20
VM_ID = UUID("7d3c0a51-95fe-4a0d-b0e2-5f7e2a4c9d11")
DATABASES = {
    "aa1": ("C:\\Data\\aa1.mdf", "C:\\Data\\aa1.ldf"),
    "bb1": ("E:\\Data\\bb1.mdf", "F:\\Log\\bb1.ldf"),
    "bb2": ("E:\\Data\\bb2.mdf", "F:\\Log\\bb2.ldf"),
    "bb3": ("E:\\Data\\bb3.mdf", "F:\\Log\\bb3.ldf"),
}
NAMES = list(DATABASES)


@dataclass
class Mains:
    """The power of all disks: counts their writes, and fails after so many."""

    writes: int = 0
    fails_at: int | None = None
    watcher: Callable[[int], None] | None = None

    def tick(self) -> None:
        if self.fails_at is not None and self.writes >= self.fails_at:
            raise DeviceGone("the power is gone")
        self.writes += 1
        if self.watcher is not None:
            self.watcher(self.writes)


@dataclass
class RackDisk:
    """A sparse disk in memory."""

    size: int
    mains: Mains = field(default_factory=Mains)
    pages: dict[int, bytes] = field(default_factory=dict)

    def read(self, offset: int, length: int) -> bytes:
        assert 0 <= offset <= offset + length <= self.size
        parts = []
        end = offset + length
        while offset < end:
            page, at = divmod(offset, PAGE)
            part = min(end - offset, PAGE - at)
            parts.append(self.pages.get(page, bytes(PAGE))[at : at + part])
            offset += part
        return b"".join(parts)

    def write(self, offset: int, data: bytes) -> None:
        assert 0 <= offset <= offset + len(data) <= self.size
        self.mains.tick()
        self._store(offset, data)

    def unmap(self, offset: int, length: int) -> None:
        self.mains.tick()
        for page in [p for p in self.pages if offset <= p * PAGE and (p + 1) * PAGE <= offset + length]:
            del self.pages[page]
        head = min(-offset % PAGE, length)
        tail = (offset + length) % PAGE if length > head else 0
        self._store(offset, bytes(head))
        self._store(offset + length - tail, bytes(tail))

    def flush(self) -> None:
        pass

    def copy(self, mains: Mains | None = None) -> RackDisk:
        return RackDisk(self.size, mains or Mains(), dict(self.pages))

    def _store(self, offset: int, data: bytes) -> None:
        position = 0
        while position < len(data):
            page, at = divmod(offset + position, PAGE)
            part = data[position : position + PAGE - at]
            old = self.pages.get(page, bytes(PAGE))
            self.pages[page] = bytes(part) if len(part) == PAGE else old[:at] + part + old[at + len(part) :]
            position += len(part)


@dataclass
class LabTime:
    """Lab time of a test."""

    value: datetime = datetime(2026, 1, 5, 8, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.value

    def pass_(self, seconds: float) -> None:
        self.value += timedelta(seconds=seconds)


def copies(disks: Sequence[RackDisk], mains: Mains | None = None) -> list[RackDisk]:
    """The same bytes on other disks: what a Snapshot copy of all of them holds."""
    mains = mains or Mains()
    return [disk.copy(mains) for disk in disks]


def golden(journal: Journal = Journal.PERSIST, *, seed: int = 1, size: int = SIZE) -> list[RackDisk]:
    """A golden image with the databases of the TR's appendix."""
    disks = [RackDisk(size) for _ in range(3)]
    install_golden(disks, now=LabTime(), seed=seed, journal=journal, databases=DATABASES)
    return disks


def start(
    disks: Sequence[RackDisk], *, time: LabTime | None = None, vm_id: UUID = VM_ID, answers: Answers | None = None
) -> Guest:
    """A running guest on these disks."""
    guest = Guest(vm_id=vm_id, disks=disks, now=time or LabTime(), seed=1, answers=answers)
    guest.boot()
    return guest
