"""When the Task Scheduler would start a task."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from xml.etree import ElementTree

import pytest

from labenv.windows.triggers import NAMESPACE, next_run
from smhvlab.protection.policy import from_toml
from smhvlab.protection.tasks import task_xml

NOW = datetime(2013, 3, 4, 8, tzinfo=UTC)  # a Monday
POLICY = 'name = "p"\ndataset = "d"\n[retention]\nkeep = 9\n[schedule]\n'


@pytest.mark.parametrize(
    "schedule",
    [
        'repeat = "hourly"\nevery = 5',
        'repeat = "daily"\nat = "07:30"',
        'repeat = "weekly"\nat = "22:00"\ndays = ["monday", "friday"]',
        'repeat = "monthly"\nat = "08:00"\nday = 28',
        'repeat = "monthly"\nat = "23:30"\nday = "last"',
    ],
)
def test_a_policys_task_runs_when_the_policy_is_due(schedule: str) -> None:
    """For a year of moments the triggers' next time is the schedule's; a policy that is switched off has none."""
    policy = from_toml(POLICY + schedule)
    assert policy.schedule is not None
    task = ElementTree.fromstring(task_xml(policy, site="a", begin=NOW))  # noqa: S314 - our own
    for hours in range(0, 366 * 24, 7):
        moment = NOW + timedelta(hours=hours, minutes=hours % 60)
        assert next_run(task, moment) == policy.schedule.next_run(moment)
    off = from_toml(f"enabled = false\n{POLICY}{schedule}")
    assert next_run(ElementTree.fromstring(task_xml(off, site="a", begin=NOW)), NOW) is None  # noqa: S314 - our own


@pytest.mark.parametrize(
    ("trigger", "expected"),
    [
        ("<LogonTrigger/>", None),
        ("<TimeTrigger><StartBoundary>2013-03-04T07:00:00Z</StartBoundary></TimeTrigger>", None),
        ("<TimeTrigger><StartBoundary>2013-03-04T09:00:00</StartBoundary></TimeTrigger>", "2013-03-04T09:00"),
        ("<TimeTrigger><StartBoundary>some day</StartBoundary></TimeTrigger>", None),
        (
            "<TimeTrigger><Repetition><Interval>PT15M</Interval><Duration>PT1H</Duration></Repetition>"
            "<StartBoundary>2013-03-04T06:10:00Z</StartBoundary></TimeTrigger>",
            None,
        ),
        (
            "<CalendarTrigger><Repetition><Interval>PT15M</Interval><Duration>PT3H</Duration></Repetition>"
            "<StartBoundary>2013-03-01T06:10:00Z</StartBoundary>"
            "<ScheduleByDay><DaysInterval>3</DaysInterval></ScheduleByDay></CalendarTrigger>",
            "2013-03-04T08:10",
        ),
        (
            "<CalendarTrigger><StartBoundary>2013-02-25T06:10:00Z</StartBoundary><ScheduleByWeek>"
            "<WeeksInterval>2</WeeksInterval><DaysOfWeek><Tuesday/></DaysOfWeek></ScheduleByWeek></CalendarTrigger>",
            "2013-03-12T06:10",
        ),
        (
            "<CalendarTrigger><StartBoundary>2013-03-04T07:00:00Z</StartBoundary><EndBoundary>2013-03-04T09:00:00Z"
            "</EndBoundary><ScheduleByDay><DaysInterval>1</DaysInterval></ScheduleByDay></CalendarTrigger>",
            None,
        ),
    ],
)
def test_triggers_of_others(trigger: str, expected: str | None) -> None:
    """Repetitions end with their span, weeks are left out, ends are kept; what no clock tells has no next time."""
    task = ElementTree.fromstring(f'<Task xmlns="{NAMESPACE}"><Triggers>{trigger}</Triggers></Task>')  # noqa: S314 - our own
    found = next_run(task, NOW)
    assert (found.strftime("%Y-%m-%dT%H:%M") if found is not None else None) == expected
