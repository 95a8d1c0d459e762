"""When a job schedule is due: cron fields, or an interval."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

from labenv.clock import EPOCH, SECOND
from labenv.ontap import records as r

_INTERVAL = re.compile(r"^P(?:(\d+)W)?(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)S)?)?$")
_YEARS = 5


def parse_interval(text: str) -> timedelta:
    """Length of an ISO 8601 duration of weeks, days, hours, minutes and seconds; raises ValueError, also for zero."""
    match = _INTERVAL.match(text)
    parts = [int(part or 0) for part in match.groups()] if match else []
    if not any(parts):
        raise ValueError(text)
    weeks, days, hours, minutes, seconds = parts
    return timedelta(weeks=weeks, days=days, hours=hours, minutes=minutes, seconds=seconds)


def next_time(schedule: r.Schedule, after: int) -> int | None:
    """The first moment later than ``after`` (both in microseconds) at which a schedule is due; None: never.

    A part of a cron schedule that is not given stands for every minute, hour or day; hours without minutes mean
    minute 0. Weekday 0 is Sunday. An interval counts from 1970.
    """
    if schedule.interval:
        step = parse_interval(schedule.interval) // timedelta(microseconds=1)
        return (after // step + 1) * step
    start = EPOCH + timedelta(microseconds=after)
    minutes = schedule.minutes or ((0,) if schedule.hours else tuple(range(60)))
    hours = schedule.hours or tuple(range(24))
    day = start.replace(hour=0, minute=0, second=0, microsecond=0)
    for _ in range(366 * _YEARS):
        if _is_due(schedule, day):
            for hour in sorted(hours):
                for minute in sorted(minutes):
                    moment = day + timedelta(hours=hour, minutes=minute)
                    if moment > start:
                        return int((moment - EPOCH) / timedelta(seconds=1)) * SECOND
        day += timedelta(days=1)
    return None  # such as 30 February


def _is_due(schedule: r.Schedule, day: datetime) -> bool:
    weekday = (day.weekday() + 1) % 7
    return (
        (not schedule.weekdays or weekday in schedule.weekdays)
        and (not schedule.days or day.day in schedule.days)
        and (not schedule.months or day.month in schedule.months)
    )
