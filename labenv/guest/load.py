"""What a guest does in the background, and the clock by which it does it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime


@dataclass(frozen=True)
class Load:
    """A client that keeps adding rows to a database, one transaction each second, until there are so many."""

    database: str
    rows_per_second: int
    up_to: int


@dataclass(frozen=True)
class LoadRecord:
    """The loads of one guest, which go on after its host has lost power."""

    loads: tuple[Load, ...]


class GuestClock:
    """Lab time as the guest sees it: while it catches up with background work, the time at which that was due."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self._due: datetime | None = None

    def __call__(self) -> datetime:
        return self._due or self._now()

    @property
    def second(self) -> int:
        """Whole seconds since 1970."""
        return int(self().timestamp())

    def go_to(self, second: int | None) -> None:
        """Work at a time that has passed; None: at the lab's time again."""
        self._due = None if second is None else datetime.fromtimestamp(second, UTC)
