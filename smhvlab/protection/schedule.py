"""When policies run: hourly, daily, weekly, monthly, in a time zone of their own (TR 6.3).

A time that the clocks skip runs at the first moment after the gap; a time that comes twice runs at its first. Hourly
runs are hours apart in elapsed time, so a change of the clocks moves them on the wall and never doubles or drops one.
"""

from __future__ import annotations

import calendar
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from functools import cache
from typing import TYPE_CHECKING, Final
from zoneinfo import ZoneInfo

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LAST: Final = "last"
"""The day of a monthly schedule that every month has."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_HOUR: Final = 3600


class Repeat(StrEnum):
    """How a schedule repeats, by the TR's names."""

    HOURLY = "hourly"
    DAILY = "daily"
    WEEKLY = "weekly"
    MONTHLY = "monthly"


class Weekday(StrEnum):
    """A day of the week; ``number`` is Python's (Monday 0)."""

    MONDAY = "monday"
    TUESDAY = "tuesday"
    WEDNESDAY = "wednesday"
    THURSDAY = "thursday"
    FRIDAY = "friday"
    SATURDAY = "saturday"
    SUNDAY = "sunday"

    @property
    def number(self) -> int:
        """0 for Monday."""
        return list(Weekday).index(self)


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """When a policy runs.

    Attributes:
        repeat: hourly, daily, weekly or monthly.
        at: ``HH:MM`` on the wall of ``timezone``; an hourly schedule counts its hours from there.
        every: hours between two runs of an hourly schedule.
        days: the days of a weekly schedule.
        day: of a monthly schedule, 1 to 28 or ``"last"``.
        timezone: an IANA name, e.g. ``Europe/Berlin``.
    """

    repeat: Repeat
    at: str = "00:00"
    every: int = 1
    days: tuple[Weekday, ...] = ()
    day: int | str = 1
    timezone: str = "UTC"

    def __str__(self) -> str:
        zone = "" if self.timezone == "UTC" else f" {self.timezone}"
        if self.repeat is Repeat.HOURLY:
            hours = "every hour" if self.every == 1 else f"every {self.every} hours"
            return f"{hours}, counted from {self.at}{zone}"
        what = {
            Repeat.DAILY: "every day",
            Repeat.WEEKLY: f"every {', '.join(day.value.capitalize() for day in self.days)}",
            Repeat.MONTHLY: "on the last day of the month" if self.day == LAST else f"on day {self.day} of the month",
        }[self.repeat]
        return f"{what} at {self.at}{zone}"

    def run_seconds(self, begin: datetime, end: datetime) -> NDArray[np.int64]:
        """Every run in ``begin <= run < end``, as seconds since 1970, ascending."""
        import numpy as np

        first, last = _seconds(begin), _seconds(end)
        if first >= last:
            return np.empty(0, dtype=np.int64)
        if self.repeat is Repeat.HOURLY:
            step = self.every * _HOUR
            anchor = _seconds(_moment(date(2000, 1, 1), _clock(self.at), _zone(self.timezone)))
            return np.arange(first + (anchor - first) % step, last, step, dtype=np.int64)
        wall, zone = _clock(self.at), _zone(self.timezone)
        found = {_seconds(_moment(day, wall, zone)) for day in self._dates(begin, end, zone)}  # a zone may skip a day
        return np.array(sorted(moment for moment in found if first <= moment < last), dtype=np.int64)

    def runs(self, begin: datetime, end: datetime) -> list[datetime]:
        """Every run in ``begin <= run < end``, UTC, ascending."""
        return [_EPOCH + timedelta(seconds=int(moment)) for moment in self.run_seconds(begin, end)]

    def next_run(self, after: datetime) -> datetime:
        """The first run later than a moment, UTC."""
        begin, span = after + timedelta(microseconds=1), timedelta(days=2)
        while not (found := self.runs(begin, begin + span)):
            span *= 4
        return found[0]

    def latest_run(self, after: datetime, until: datetime) -> datetime | None:
        """The newest run in ``after < run <= until``, None if there is none."""
        found = self.runs(max(after, until - timedelta(days=32)) + timedelta(microseconds=1), until + _TICK)
        return found[-1] if found else None

    def _dates(self, begin: datetime, end: datetime, zone: ZoneInfo) -> Iterator[date]:
        day = begin.astimezone(zone).date() - timedelta(days=1)  # a gap of the clocks may push a run to the next day
        stop = end.astimezone(zone).date()
        numbers = {weekday.number for weekday in self.days}
        while day <= stop:
            if self.repeat is Repeat.MONTHLY:
                wanted = calendar.monthrange(day.year, day.month)[1] if self.day == LAST else int(self.day)
                if day.day == wanted:
                    yield day
            elif self.repeat is Repeat.DAILY or day.weekday() in numbers:
                yield day
            day += timedelta(days=1)


_TICK: Final = timedelta(microseconds=1)


@dataclass(frozen=True)
class Job:
    """Runs of one policy with what they occupy, for the search of overlaps.

    Attributes:
        minutes: how long one run is expected to take.
        occupies: what no other backup should use meanwhile, e.g. ``"volume vm_sql01"``.
    """

    policy: str
    schedule: Schedule
    minutes: float
    occupies: frozenset[str]


@dataclass(frozen=True)
class Overlap:
    """Two policies that run at the same time on the same thing.

    Attributes:
        at: the first time, UTC.
        times: how often in the time looked at.
    """

    first: str
    second: str
    shared: tuple[str, ...]
    at: datetime
    times: int


def overlaps(jobs: Sequence[Job], begin: datetime, end: datetime) -> list[Overlap]:
    """Every pair of jobs that shares something and runs at the same time, in the order of the jobs (TR 6.2, 14).

    A job overlaps with itself if a run is not over when its next one begins.
    """
    import numpy as np

    starts = [job.schedule.run_seconds(begin, end) for job in jobs]
    found = []
    for i, one in enumerate(jobs):
        for j in range(i, len(jobs)):
            other = jobs[j]
            shared = one.occupies & other.occupies
            if not shared:
                continue
            if i == j:
                again = np.flatnonzero(np.diff(starts[i]) < one.minutes * 60)
                hits, at = len(again), int(starts[i][again[0] + 1]) if len(again) else 0
            else:
                # A run of the other that begins before this one has ended, and ends after it has begun.
                low = np.searchsorted(starts[j], starts[i] - other.minutes * 60, side="right")
                high = np.searchsorted(starts[j], starts[i] + one.minutes * 60, side="left")
                together = np.flatnonzero(high > low)
                hits = int((high - low).sum())
                at = 0
                if len(together):
                    k = int(together[0])
                    at = max(int(starts[i][k]), int(starts[j][low[k]]))
            if hits:
                moment = _EPOCH + timedelta(seconds=at)
                found.append(Overlap(one.policy, other.policy, tuple(sorted(shared)), moment, hits))
    return found


@cache
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)


def _clock(text: str) -> time:
    return time.fromisoformat(text)


def _moment(day: date, wall: time, zone: ZoneInfo) -> datetime:
    """The moment at which the clocks of a zone first show a time; in a gap, the moment at which the gap ends."""
    local = datetime.combine(day, wall, tzinfo=zone)
    moment = local.astimezone(UTC)
    if moment.astimezone(zone).replace(tzinfo=None) == local.replace(tzinfo=None):
        return moment
    # Skipped: fold 1 uses the offset after the gap, fold 0 the one before; the gap lies between the two.
    early, late = local.replace(fold=1).astimezone(UTC), moment
    offset = early.astimezone(zone).utcoffset()
    while late - early > timedelta(seconds=1):
        middle = early + (late - early) / 2
        if middle.astimezone(zone).utcoffset() == offset:
            early = middle
        else:
            late = middle
    return late.replace(microsecond=0)


def _seconds(moment: datetime) -> int:
    """Whole seconds since 1970, rounded up."""
    return -int((_EPOCH - moment) // timedelta(seconds=1))
