"""Schedules, and the Snapshot copies that policies make."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from labenv.clock import EPOCH
from labenv.ontap.records import Schedule
from labenv.ontap.schedules import next_time, parse_interval

from .ontap_bench import Bench

START = datetime(2013, 3, 4, 8, tzinfo=UTC)  # a Monday


def after(schedule: Schedule, start: datetime = START) -> datetime | None:
    found = next_time(schedule, int((start - EPOCH) / timedelta(microseconds=1)))
    return None if found is None else EPOCH + timedelta(microseconds=found)


@pytest.mark.parametrize(
    ("schedule", "due"),
    [
        (Schedule("", "hourly", minutes=(5,)), datetime(2013, 3, 4, 8, 5, tzinfo=UTC)),
        (Schedule("", "daily", hours=(0,), minutes=(10,)), datetime(2013, 3, 5, 0, 10, tzinfo=UTC)),
        (Schedule("", "weekly", weekdays=(0,), hours=(0,), minutes=(15,)), datetime(2013, 3, 10, 0, 15, tzinfo=UTC)),
        (Schedule("", "now", minutes=(0,), hours=(8,)), datetime(2013, 3, 5, 8, tzinfo=UTC)),
        (Schedule("", "hours", hours=(9, 7)), datetime(2013, 3, 4, 9, tzinfo=UTC)),
        (Schedule("", "ultimo", days=(31,), hours=(1,)), datetime(2013, 3, 31, 1, tzinfo=UTC)),
        (Schedule("", "leap", months=(2,), days=(29,), hours=(1,)), datetime(2016, 2, 29, 1, tzinfo=UTC)),
        (Schedule("", "never", months=(2,), days=(30,), hours=(1,)), None),
        (Schedule("", "tuesdays", weekdays=(2,)), datetime(2013, 3, 5, tzinfo=UTC)),
        (Schedule("", "interval", interval="PT7M"), datetime(2013, 3, 4, 8, 4, tzinfo=UTC)),
    ],
    ids=lambda value: value.name if isinstance(value, Schedule) else "",
)
def test_a_schedule_is_due(schedule: Schedule, due: datetime | None) -> None:
    """Cron fields and intervals give the first moment after a time."""
    assert after(schedule) == due


@pytest.mark.parametrize("text", ["", "P", "PT", "PT0S", "5m", "P1Y", "PT1H5"])
def test_what_is_no_interval(text: str) -> None:
    """Only durations with a length that is the same everywhere are intervals."""
    with pytest.raises(ValueError):
        parse_interval(text)


def policy(bench: Bench, name: str, *copies: tuple[str, int, str]) -> str:
    body = {"name": name, "copies": [{"schedule.name": s, "count": n, "prefix": p} for s, n, p in copies]}
    bench.do("POST", "/storage/snapshot-policies", body)
    return bench.one("/storage/snapshot-policies", name=name)["uuid"]


def names(bench: Bench, volume: str) -> list[str]:
    return [s["name"] for s in bench.do("GET", f"/storage/volumes/{volume}/snapshots")["records"]]


def test_a_policy_makes_and_rotates_its_copies(bench: Bench) -> None:
    """Copies are made when their schedules are due, the oldest of a schedule go, and copies by hand stay."""
    policy(bench, "often", ("5min", 2, "five"), ("hourly", 1, "hour"))
    volume = bench.volume(snapshot_policy={"name": "often"})
    bench.snapshot(volume, "mine")
    bench.advance(11 * 60)
    assert names(bench, volume) == ["mine", "five.2013-03-04_0805", "hour.2013-03-04_0805", "five.2013-03-04_0810"]
    bench.advance(3600)
    assert names(bench, volume) == ["mine", "five.2013-03-04_0905", "hour.2013-03-04_0905", "five.2013-03-04_0910"]
    assert bench.one("/storage/volumes", name="vol1")["snapshot_count"] == 4


def test_time_is_not_moved_by_schedules(bench: Bench) -> None:
    """Reading takes no time, whatever is scheduled."""
    policy(bench, "often", ("5min", 2, "five"))
    bench.volume(snapshot_policy={"name": "often"})
    before = bench.clock.now
    bench.do("GET", "/storage/volumes")
    assert bench.clock.now == before


def test_a_policy_can_be_changed_switched_off_and_taken_away(bench: Bench) -> None:
    """A volume follows its policy as that is now."""
    uuid = policy(bench, "often", ("5min", 2, "five"))
    volume = bench.volume(snapshot_policy={"name": "often"})
    bench.do("PATCH", f"/storage/snapshot-policies/{uuid}", {"enabled": False})
    bench.advance(600)
    assert names(bench, volume) == []
    bench.do("PATCH", f"/storage/snapshot-policies/{uuid}", {"enabled": True})
    bench.advance(300)
    assert names(bench, volume) == ["five.2013-03-04_0815"]
    bench.do("PATCH", f"/storage/volumes/{volume}", {"snapshot_policy.name": "none"})
    bench.advance(600)
    assert names(bench, volume) == ["five.2013-03-04_0815"]


def test_a_busy_copy_outlives_its_count(bench: Bench) -> None:
    """A copy that a FlexClone volume holds is not rotated away, and goes when it can."""
    policy(bench, "often", ("5min", 1, "five"))
    volume = bench.volume(snapshot_policy={"name": "often"})
    bench.advance(300)
    origin = {"is_flexclone": True, "parent_volume.name": "vol1", "parent_snapshot.name": "five.2013-03-04_0805"}
    body = {"name": "copy", "svm.name": "svm1", "clone": origin, "snapshot_policy.name": "none"}
    bench.do("POST", "/storage/volumes", body)
    clone = bench.one("/storage/volumes", name="copy")["uuid"]
    bench.do("PATCH", f"/storage/volumes/{clone}", {"snapshot_policy.name": "none"})
    bench.advance(300)
    assert names(bench, volume) == ["five.2013-03-04_0805", "five.2013-03-04_0810"]
    bench.do("DELETE", f"/storage/volumes/{clone}")
    bench.advance(300)
    assert names(bench, volume) == ["five.2013-03-04_0815"]


def test_a_full_volume_tells_that_its_copy_was_not_made(bench: Bench) -> None:
    """At the limit of Snapshot copies a scheduled one fails with an event, and nothing else is harmed."""
    policy(bench, "often", ("5min", 4, "five"))
    volume = bench.volume(snapshot_policy={"name": "often"})
    for number in range(4):
        bench.snapshot(volume, f"mine{number}")
    bench.advance(300)
    assert len(names(bench, volume)) == 4
    (event,) = bench.do("GET", "/support/ems/events", fields="*", message__severity="error")["records"]
    assert {"name": "code", "value": "525062"} in event["parameters"]


def test_schedules_survive_a_kill(bench: Bench) -> None:
    """A killed process goes on with its schedules, and makes no copy twice."""
    policy(bench, "often", ("5min", 4, "five"))
    volume = bench.volume(snapshot_policy={"name": "often"})
    bench.advance(300)
    bench.kill()
    bench.do("GET", "/cluster")
    bench.advance(600)
    assert names(bench, volume) == [f"five.2013-03-04_08{minute}" for minute in ("05", "10", "15")]


def test_schedules_are_checked(bench: Bench) -> None:
    """A schedule is cron or interval, with numbers in their bounds; it can be changed within its kind."""
    path = "/cluster/schedules"
    bench.do("POST", path, {"name": "c", "cron": {"minutes": [10, 5], "days": [1]}})
    bench.do("POST", path, {"name": "i", "interval": "PT1H"})
    cron, interval = (bench.one(path, name=name) for name in ("c", "i"))
    assert cron["cron"]["minutes"] == [5, 10]
    assert (cron["type"], interval["type"]) == ("cron", "interval")
    refused = [
        ("POST", path, {"name": "x"}, "459760"),
        ("POST", path, {"name": "x", "interval": "often"}, "459760"),
        ("POST", path, {"name": "x", "interval": "PT1H", "cron": {"minutes": [1]}}, "459760"),
        ("POST", path, {"name": "x", "cron": {"minutes": [60]}}, "262197"),
        ("POST", path, {"name": "x", "cron": {"hours": ["noon"]}}, "459760"),
        ("PATCH", f"{path}/{cron['uuid']}", {"interval": "PT1H"}, "461785"),
        ("PATCH", f"{path}/{interval['uuid']}", {"cron": {"minutes": [1]}}, "461786"),
    ]
    for method, where, body, wanted in refused:
        assert bench.call(method, where, body)[1]["error"]["code"] == wanted, body
    bench.do("PATCH", f"{path}/{cron['uuid']}", {"cron": {"minutes": [7]}})
    assert bench.one(path, name="c")["cron"] == {"minutes": [7], "days": [1]}
    bench.do("PATCH", f"{path}/{interval['uuid']}", {"interval": "PT2H"})
