"""When the Task Scheduler would start a task, by the triggers of its XML (schema version 1.2)."""

from __future__ import annotations

import calendar
import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Final
from xml.etree.ElementTree import Element

NAMESPACE: Final = "http://schemas.microsoft.com/windows/2004/02/mit/task"

_NS: Final = {"t": NAMESPACE}
_AHEAD: Final = timedelta(days=4 * 366)
"""How far a day is looked for: 29 February comes at least so often but for centuries."""

_DAYS: Final = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS: Final = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip

_SPAN: Final = re.compile(r"P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)S)?)?\Z")


def next_run(task: Element, now: datetime) -> datetime | None:
    """The first moment after ``now`` at which a trigger fires; None if none does, or the task is disabled."""
    if not _true(task.findtext("t:Settings/t:Enabled", namespaces=_NS)):
        return None
    triggers = task.find("t:Triggers", _NS)
    found = [moment for trigger in (triggers if triggers is not None else ()) if (moment := _next(trigger, now))]
    return min(found, default=None)


def _true(text: str | None) -> bool:
    return text is None or text.strip().lower() in ("true", "1")


def _next(trigger: Element, now: datetime) -> datetime | None:
    """Of triggers by time only: nobody knows when somebody will log on."""
    kind = trigger.tag.removeprefix(f"{{{NAMESPACE}}}")
    start = _moment(trigger.findtext("t:StartBoundary", namespaces=_NS))
    if kind not in ("TimeTrigger", "CalendarTrigger") or start is None:
        return None
    if not _true(trigger.findtext("t:Enabled", namespaces=_NS)):
        return None
    end = _moment(trigger.findtext("t:EndBoundary", namespaces=_NS))
    interval = _span(trigger.findtext("t:Repetition/t:Interval", namespaces=_NS))
    lasts = _span(trigger.findtext("t:Repetition/t:Duration", namespaces=_NS)) if interval else timedelta()
    for first in [start] if kind == "TimeTrigger" else _days(trigger, start, now - (lasts or timedelta())):
        moment = first
        if interval and first <= now:
            moment = first + ((now - first) // interval + 1) * interval
        if moment > now and (moment == first or lasts is None or moment < first + lasts):
            return None if end is not None and moment > end else moment
    return None


def _days(trigger: Element, start: datetime, after: datetime) -> Iterator[datetime]:
    """The starts of a calendar trigger from the day of ``after`` on."""
    first = max(start.date(), after.date())
    for number in range(_AHEAD.days):
        day = first + timedelta(days=number)
        if _fits(trigger, start.date(), day):
            yield start + (day - start.date())


def _fits(trigger: Element, start: date, day: date) -> bool:
    def number(path: str) -> int:
        return int(trigger.findtext(path, default="1", namespaces=_NS))

    def names(path: str) -> set[str]:
        found = trigger.find(path, _NS)
        return {one.tag.removeprefix(f"{{{NAMESPACE}}}") for one in (found if found is not None else ())}

    if trigger.find("t:ScheduleByDay", _NS) is not None:
        return (day - start).days % number("t:ScheduleByDay/t:DaysInterval") == 0
    if trigger.find("t:ScheduleByWeek", _NS) is not None:
        sunday = start - timedelta(days=start.isoweekday() % 7)  # the scheduler's weeks begin there
        weeks = (day - sunday).days // 7
        known = names("t:ScheduleByWeek/t:DaysOfWeek")
        return weeks % number("t:ScheduleByWeek/t:WeeksInterval") == 0 and _DAYS[day.weekday()] in known
    if trigger.find("t:ScheduleByMonth", _NS) is not None:
        days = {one.text for one in trigger.iterfind("t:ScheduleByMonth/t:DaysOfMonth/t:Day", _NS)}
        last = calendar.monthrange(day.year, day.month)[1]
        known = names("t:ScheduleByMonth/t:Months")
        return _MONTHS[day.month - 1] in known and (str(day.day) in days or ("Last" in days and day.day == last))
    return day == start


def _moment(text: str | None) -> datetime | None:
    """A boundary; without a zone it is the host's, whose clocks are set to UTC here."""
    try:
        moment = datetime.fromisoformat((text or "").strip())
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _span(text: str | None) -> timedelta | None:
    """A duration such as ``PT15M``; None if there is none."""
    found = _SPAN.match(text.strip()) if text else None
    if found is None:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds) or None
