"""Schedules against a model that walks through time minute by minute (TR 6.3)."""

from __future__ import annotations

import calendar
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smhvlab.protection.schedule import Job, Repeat, Schedule, Weekday, overlaps

ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Pacific/Apia", "Asia/Kolkata")
BASE = datetime(2011, 1, 1, tzinfo=UTC)


@st.composite
def schedules(draw: st.DrawFn) -> Schedule:
    """Any schedule that a policy accepts, on the minutes that a model of quarter hours can see."""
    repeat = draw(st.sampled_from(Repeat))
    return Schedule(
        repeat=repeat,
        at=f"{draw(st.integers(0, 23)):02}:{draw(st.sampled_from((0, 15, 30, 45))):02}",
        every=draw(st.integers(1, 23)) if repeat is Repeat.HOURLY else 1,
        days=tuple(draw(st.sets(st.sampled_from(Weekday), min_size=1))) if repeat is Repeat.WEEKLY else (),
        day=draw(st.one_of(st.integers(1, 28), st.just("last"))) if repeat is Repeat.MONTHLY else 1,
        timezone=draw(st.sampled_from(ZONES)),
    )


def walked(schedule: Schedule, begin: datetime, end: datetime) -> list[datetime]:
    """The runs as somebody finds them who looks at the clock on the wall every quarter of an hour.

    A wanted wall time counts when the wall passes it for the first time on its day, be it shown or jumped over.
    """
    zone = ZoneInfo(schedule.timezone)
    found: list[datetime] = []
    hour, minute = (int(part) for part in schedule.at.split(":"))
    moment = begin - timedelta(days=2)
    seen: set[datetime] = set()
    before = moment.astimezone(zone).replace(tzinfo=None)
    while moment < end:
        moment += timedelta(minutes=15)
        wall = moment.astimezone(zone).replace(tzinfo=None)
        day = before.replace(hour=0, minute=0)
        while day <= wall:
            wanted = day.replace(hour=hour, minute=minute)
            if before < wanted <= wall and wanted not in seen and _fits(schedule, wanted):
                seen.add(wanted)
                if begin <= moment < end and moment not in found:
                    found.append(moment)
            day += timedelta(days=1)
        before = wall
    return found


def _fits(schedule: Schedule, wall: datetime) -> bool:
    if schedule.repeat is Repeat.WEEKLY:
        return list(Weekday)[wall.weekday()] in schedule.days
    if schedule.repeat is Repeat.MONTHLY:
        last = calendar.monthrange(wall.year, wall.month)[1]
        return wall.day == (last if schedule.day == "last" else schedule.day)
    return True


@pytest.mark.tr("R-6.3-06")
@given(schedules().filter(lambda s: s.repeat is not Repeat.HOURLY), st.integers(0, 365 * 96), st.integers(1, 40))
@settings(max_examples=60, deadline=None)
def test_runs_are_those_that_a_clock_on_the_wall_shows(schedule: Schedule, quarters: int, days: int) -> None:
    """Daily, weekly and monthly runs in six time zones are those that a walk through time finds."""
    begin = BASE + timedelta(minutes=15 * quarters)
    end = begin + timedelta(days=days)
    assert schedule.runs(begin, end) == walked(schedule, begin, end)


@given(schedules(), st.integers(0, 365 * 96), st.integers(1, 30), st.integers(1, 30))
@settings(max_examples=60, deadline=None)
def test_two_spans_give_what_the_whole_gives(schedule: Schedule, quarters: int, one: int, two: int) -> None:
    """Cutting a span in two loses no run and doubles none; the next run is the first one of the rest."""
    begin = BASE + timedelta(minutes=15 * quarters)
    middle, end = begin + timedelta(days=one), begin + timedelta(days=one + two)
    whole = schedule.runs(begin, end)
    assert schedule.runs(begin, middle) + schedule.runs(middle, end) == whole
    later = [run for run in whole if run > begin]
    if later:
        assert schedule.next_run(begin) == later[0]
        assert schedule.latest_run(begin, end) == schedule.runs(begin, end + timedelta(microseconds=1))[-1]


@given(schedules().filter(lambda s: s.repeat is Repeat.HOURLY), st.integers(0, 365 * 96))
@settings(max_examples=30, deadline=None)
def test_hourly_runs_are_equally_far_apart_whatever_the_clocks_do(schedule: Schedule, quarters: int) -> None:
    """Hours are elapsed hours: all gaps are the same, and in UTC they begin at the time that was given."""
    begin = BASE + timedelta(minutes=15 * quarters)
    runs = schedule.runs(begin, begin + timedelta(days=9))
    assert {b - a for a, b in pairwise(runs)} == {timedelta(hours=schedule.every)}
    assert runs[0] - begin < timedelta(hours=schedule.every)


@pytest.mark.parametrize(
    ("day", "utc"),
    [
        ("2013-03-30", "2013-03-30T01:30"),  # winter
        ("2013-03-31", "2013-03-31T01:00"),  # 02:30 does not exist: the first moment after the gap
        ("2013-10-27", "2013-10-27T00:30"),  # 02:30 comes twice: the first of them
        ("2013-10-28", "2013-10-28T01:30"),
    ],
)
def test_a_time_that_is_skipped_or_doubled_runs_once(day: str, utc: str) -> None:
    """On the nights when the clocks change, a daily run at 02:30 happens exactly once."""
    schedule = Schedule(repeat=Repeat.DAILY, at="02:30", timezone="Europe/Berlin")
    midnight = datetime.fromisoformat(day).replace(tzinfo=ZoneInfo("Europe/Berlin"))
    runs = schedule.runs(midnight, midnight + timedelta(days=1))
    assert [run.isoformat()[:16] for run in runs] == [utc]


@st.composite
def jobs(draw: st.DrawFn) -> list[Job]:
    """A few jobs over a few volumes."""
    return [
        Job(
            f"p{number}",
            draw(schedules()),
            draw(st.integers(1, 200)),
            frozenset(draw(st.sets(st.sampled_from(("v1", "v2", "host")), min_size=1))),
        )
        for number in range(draw(st.integers(1, 3)))
    ]


@pytest.mark.tr("R-6.2-11", "R-6.2-17", "R-AG-01", "R-6.3-05")
@given(jobs(), st.integers(0, 300))
@settings(max_examples=60, deadline=None)
def test_overlaps_are_those_of_a_comparison_of_every_run_with_every_other(found: list[Job], day: int) -> None:
    """Each pair of runs on something shared is compared by its times; counts and first moments agree."""
    begin = BASE + timedelta(days=day)
    end = begin + timedelta(days=4)
    expected = {}
    for i, one in enumerate(found):
        for j in range(i, len(found)):
            other = found[j]
            hits = []
            for m, a in enumerate(one.schedule.runs(begin, end)):
                for n, b in enumerate(other.schedule.runs(begin, end)):
                    if i == j and n != m + 1:
                        continue
                    apart = a + timedelta(minutes=one.minutes) <= b or b + timedelta(minutes=other.minutes) <= a
                    if one.occupies & other.occupies and not apart:
                        hits.append(max(a, b))
            if hits:
                expected[one.policy, other.policy] = (min(hits), len(hits))
    assert {(o.first, o.second): (o.at, o.times) for o in overlaps(found, begin, end)} == expected
