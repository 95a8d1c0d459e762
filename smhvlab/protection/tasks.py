"""Policies as tasks of a host's Task Scheduler, which is what SMHV itself uses (TR 6.3).

Each scheduled policy is one task below ``\\smhvlab\\`` that starts ``smhvlab run-due --policy NAME``. That command runs
what is due and nothing else, so a task may start too often: a policy in a time zone of its own, which a trigger cannot
tell, is looked at every quarter of an hour.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from smhvlab.errors import PowerShellError
from smhvlab.protection.policy import Policy
from smhvlab.protection.schedule import LAST, Repeat, Schedule
from smhvlab.wires.powershell import NOTHING_FOUND, PowerShellWire, Running
from smhvlab.wires.wave import collect

FOLDER: Final = "\\smhvlab\\"
_SCHEMA: Final = "http://schemas.microsoft.com/windows/2004/02/mit/task"
_MONTHS: Final = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
]  # as the schema says


@dataclass(frozen=True)
class Task:
    """A task that the host has; ``policy`` is its name."""

    policy: str
    enabled: bool
    description: str


def task_xml(policy: Policy, *, site: str, begin: datetime, partner: str = "", program: str = "smhvlab.exe") -> str:
    """The definition of a policy's task, in the Task Scheduler's own form (version 1.2).

    Args:
        site: how the program is told which site, its ``--site``.
        partner: as ``--partner``, for a policy that updates mirrors.
        begin: the first moment at which it may run, UTC.
    """
    assert policy.schedule is not None
    root = Element("Task", {"version": "1.2", "xmlns": _SCHEMA})
    about = SubElement(root, "RegistrationInfo")
    SubElement(about, "Author").text = "smhvlab"
    SubElement(about, "Description").text = str(policy)
    _trigger(SubElement(root, "Triggers"), policy.schedule, begin)
    settings = SubElement(root, "Settings")
    # One run at a time, and one for all that a host that was off has missed.
    SubElement(settings, "MultipleInstancesPolicy").text = "IgnoreNew"
    SubElement(settings, "StartWhenAvailable").text = "true"
    SubElement(settings, "Enabled").text = str(policy.enabled).lower()
    action = SubElement(SubElement(root, "Actions"), "Exec")
    other = f' --partner "{partner}"' if partner and policy.options.replicate else ""
    SubElement(action, "Command").text = program
    SubElement(action, "Arguments").text = f'run-due --site "{site}"{other} --policy {policy.name} --wait 1h --yes'
    return ElementTree.tostring(root, encoding="unicode")


def _trigger(parent: Element, schedule: Schedule, begin: datetime) -> None:
    elsewhere = schedule.timezone != "UTC"
    if schedule.repeat is Repeat.HOURLY or elsewhere:
        trigger = SubElement(parent, "TimeTrigger")
        repetition = SubElement(trigger, "Repetition")
        plain = schedule.repeat is Repeat.HOURLY and not elsewhere
        SubElement(repetition, "Interval").text = f"PT{schedule.every}H" if plain else "PT15M"
        start = schedule.next_run(begin) if plain else _quarter(begin)
        SubElement(trigger, "StartBoundary").text = f"{start:%Y-%m-%dT%H:%M:%SZ}"
        return
    trigger = SubElement(parent, "CalendarTrigger")
    SubElement(trigger, "StartBoundary").text = f"{schedule.next_run(begin):%Y-%m-%dT%H:%M:%SZ}"
    if schedule.repeat is Repeat.DAILY:
        SubElement(SubElement(trigger, "ScheduleByDay"), "DaysInterval").text = "1"
    elif schedule.repeat is Repeat.WEEKLY:
        by = SubElement(trigger, "ScheduleByWeek")
        SubElement(by, "WeeksInterval").text = "1"
        days = SubElement(by, "DaysOfWeek")
        for day in sorted(set(schedule.days), key=lambda d: d.number):
            SubElement(days, day.value.capitalize())
    else:
        by = SubElement(trigger, "ScheduleByMonth")
        SubElement(SubElement(by, "DaysOfMonth"), "Day").text = "Last" if schedule.day == LAST else str(schedule.day)
        months = SubElement(by, "Months")
        for month in _MONTHS:
            SubElement(months, month)


def _quarter(moment: datetime) -> datetime:
    """The next full quarter of an hour."""
    start = moment.replace(minute=0, second=0, microsecond=0)
    while start <= moment:
        start += timedelta(minutes=15)
    return start


def tasks(host: PowerShellWire) -> list[Task]:
    """The tasks of policies that a host has, by name."""
    try:
        records = host.run(
            "Get-ScheduledTask", {"TaskPath": FOLDER}, select=("TaskName", "TaskPath", "State", "Description")
        )
    except PowerShellError as error:
        if error.error_id.startswith(NOTHING_FOUND):
            return []
        raise
    found = [Task(str(r["TaskName"]), str(r["State"]) != "Disabled", str(r["Description"] or "")) for r in records]
    return sorted(found, key=lambda task: task.policy)


def write_tasks(
    host: PowerShellWire, policies: Sequence[Policy], *, site: str, begin: datetime, partner: str = ""
) -> list[str]:
    """The host's tasks are those of the scheduled policies, no more and no less; returns what was done."""
    present = {task.policy for task in tasks(host)}
    wanted = {policy.name: policy for policy in policies if policy.schedule is not None}
    gone = sorted(present - wanted.keys())

    def begun() -> Iterator[Running]:
        for name, policy in sorted(wanted.items()):
            definition = task_xml(policy, site=site, begin=begin, partner=partner)
            task = {"TaskName": name, "TaskPath": FOLDER, "Xml": definition}
            yield host.begin("Register-ScheduledTask", {**task, "Force": True})
        for name in gone:
            yield host.begin("Unregister-ScheduledTask", {"TaskName": name, "TaskPath": FOLDER})

    collect(begun())
    return [*(f"registered {name}" for name in sorted(wanted)), *(f"removed {name}" for name in gone)]
