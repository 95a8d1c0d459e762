"""Snapshot budgets against a model that lives through every hour, and the TR's own arithmetic (TR 6.3, Table 6)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smhvlab.protection.estimate import Load, copies_per_backup, forecast, minutes
from smhvlab.protection.policy import Retention
from smhvlab.protection.schedule import Repeat, Schedule

BEGIN = datetime(2013, 3, 4, tzinfo=UTC)
HOURLY = Schedule(repeat=Repeat.HOURLY)


def hourly(retention: Retention, *, copies: int = 2) -> Load:
    """An hourly policy on the volume v."""
    return Load(policy="p", volume="v", schedule=HOURLY, retention=retention, copies=copies)


@pytest.mark.tr("R-6.3-08", "R-6.3-04")
def test_thirty_hourly_backups_are_sixty_snapshot_copies() -> None:
    """Thirty kept backups are 60 Snapshot copies, and 62 between a new backup and its retention."""
    (found,) = forecast([hourly(Retention(keep=30))], BEGIN, BEGIN + timedelta(days=30))
    assert (found.at_end, found.peak, found.breaks) == (60, 62, None)


@pytest.mark.tr("R-6.3-02", "R-6.3-09")
def test_thirty_days_of_hourly_backups_break_on_the_fifth_day() -> None:
    """The 128th backup, after 5 days and 7 hours, finds 254 Snapshot copies and fails."""
    (found,) = forecast([hourly(Retention(days=30))], BEGIN, BEGIN + timedelta(days=30))
    assert (found.breaks, found.good) == (BEGIN + timedelta(days=5, hours=7), 127)
    (crash,) = forecast([hourly(Retention(days=30), copies=1)], BEGIN, BEGIN + timedelta(days=30))
    assert crash.breaks == BEGIN + timedelta(days=10, hours=15)
    (modern,) = forecast([hourly(Retention(days=30))], BEGIN, BEGIN + timedelta(days=30), limits={"v": 1023})
    assert modern.good == 511


@pytest.mark.tr("R-10-01", "R-12-01")
@pytest.mark.parametrize(("nodes", "good"), [(1, 127), (2, 63), (4, 31), (8, 15), (16, 7)])
def test_a_cluster_of_2008_r2_burns_two_for_each_node(nodes: int, good: int) -> None:
    """With k nodes on one volume each backup leaves 2k Snapshot copies; a distributed one of 2012 two."""
    copies = copies_per_backup("application", nodes=nodes, era="2008r2")
    (found,) = forecast([hourly(Retention(days=30), copies=copies)], BEGIN, BEGIN + timedelta(days=30))
    assert found.good == good
    assert copies_per_backup("application", nodes=nodes) == 2
    assert copies_per_backup("crash", nodes=nodes, era="2008r2") == 1


@pytest.mark.tr("R-6.3-11", "R-6.3-12")
def test_what_is_there_counts_and_unlimited_backups_never_go() -> None:
    """Copies made on demand or by others are part of the count, and an unlimited policy only adds to it."""
    daily = Schedule(repeat=Repeat.DAILY)
    load = Load(policy="p", volume="v", schedule=daily, retention=Retention(), copies=2)
    (found,) = forecast([load], BEGIN, BEGIN + timedelta(days=10), present={"v": 240})
    assert (found.now, found.at_end, found.breaks) == (240, 260, BEGIN + timedelta(days=7))
    (alone,) = forecast([], BEGIN, BEGIN, present={"v": 3})
    assert (alone.now, alone.peak, alone.at_end) == (3, 3, 3)


@dataclass
class Lived:
    """A volume in the model: what each policy has there."""

    others: int
    made: dict[int, list[datetime]]
    peak: int = 0
    broke: datetime | None = None


def live(loads: list[Load], end: datetime, present: int, limit: int) -> Lived:
    """Every hour, every policy in turn: add the copies, look at the limit, delete what retention no longer keeps."""
    made = {i: sorted(load.existing) for i, load in enumerate(loads)}
    known = sum(len(times) * loads[i].copies for i, times in made.items())
    lived = Lived(present - known, made, peak=present)
    runs = {i: set(load.schedule.runs(BEGIN, end)) for i, load in enumerate(loads) if load.schedule}

    def total() -> int:
        return lived.others + sum(len(times) * loads[i].copies for i, times in lived.made.items())

    moment = BEGIN
    while moment < end:
        for i, load in enumerate(loads):
            if moment not in runs.get(i, ()):
                continue
            lived.made[i].append(moment)
            lived.peak = max(lived.peak, total())
            if total() > limit and lived.broke is None:
                lived.broke = moment
            if load.retention.keep is not None:
                lived.made[i] = lived.made[i][-load.retention.keep :]
            elif load.retention.age is not None:
                age = load.retention.age
                lived.made[i] = [made for made in lived.made[i] if moment - made <= age]
        moment += timedelta(hours=1)
    lived.others = total()
    return lived


@st.composite
def sets_of_loads(draw: st.DrawFn) -> list[Load]:
    """A few policies on one volume, some with backups from before."""
    rule = st.one_of(
        st.builds(lambda n: Retention(keep=n), st.integers(1, 20)),
        st.builds(lambda h: Retention(days=h / 24), st.integers(1, 100)),
        st.just(Retention()),
    )
    schedule = st.one_of(
        st.builds(lambda n: Schedule(repeat=Repeat.HOURLY, every=n), st.integers(1, 23)),
        st.builds(lambda h: Schedule(repeat=Repeat.DAILY, at=f"{h:02}:00"), st.integers(0, 23)),
        st.none(),
    )
    before = st.builds(lambda hours: BEGIN - timedelta(hours=hours), st.integers(1, 120))
    return [
        Load(
            policy=f"p{number}",
            volume="v",
            schedule=draw(schedule),
            retention=draw(rule),
            copies=draw(st.sampled_from((1, 2, 4))),
            existing=tuple(draw(st.sets(before, max_size=8))),
        )
        for number in range(draw(st.integers(1, 4)))
    ]


@given(sets_of_loads(), st.integers(0, 100), st.integers(20, 255), st.integers(0, 200))
@settings(max_examples=120, deadline=None)
def test_any_set_of_policies_is_forecast_as_it_would_be_lived(
    loads: list[Load], others: int, limit: int, hours: int
) -> None:
    """Peak, end and the run that breaks are those of a model that goes from hour to hour."""
    end = BEGIN + timedelta(hours=hours)
    present = others + sum(len(load.existing) * load.copies for load in loads)
    (found,) = forecast(loads, BEGIN, end, present={"v": present}, limits={"v": limit})
    lived = live(loads, end, present, limit)
    assert (found.peak, found.at_end, found.breaks) == (lived.peak, lived.others, lived.broke)


@pytest.mark.tr("R-T6-01")
@pytest.mark.parametrize(
    ("era", "nodes", "vms", "crash", "application"),
    [
        ("2012", 4, 500, 8.33, 30.43),
        ("2012", 8, 1000, 21.47, 62.50),
        ("2008r2", 4, 500, 12.88, 139.79),
        ("2008r2", 8, 1000, 43.56, 309.59),
    ],
)
def test_the_model_meets_table_6(era: str, nodes: int, vms: int, crash: float, application: float) -> None:
    """The eight averages of the TR's measurements are met within three per cent."""
    assert minutes(vms, nodes=nodes, consistency="crash", era=era) == pytest.approx(crash, rel=0.03)
    assert minutes(vms, nodes=nodes, consistency="application", era=era) == pytest.approx(application, rel=0.03)
