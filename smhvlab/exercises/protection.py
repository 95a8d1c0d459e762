"""Exercises of the lessons on policies, schedules and retention (TR 5.2, 6.3)."""

from __future__ import annotations

from typing import Final

from netapp_ontap.resources.snapshot import Snapshot

from smhvlab.errors import NotFound
from smhvlab.exercises.first import Exercise, Goal
from smhvlab.protection.budget import LIMIT_KEY
from smhvlab.protection.policy import Level, Policy
from smhvlab.protection.schedule import Repeat
from smhvlab.site import Site

_AT_ONCE: Final = 50  # Snapshot copies in one request

POOR: Final = """
name = "sql-hourly"
dataset = "SQL"
consistency = "application"
description = "a month of hourly backups"
[schedule]
repeat = "hourly"
[retention]
days = 30
"""
"""The policy that the exercise on the Snapshot limit begins with."""


def crowd(site: Site, volume: str, copies: int) -> None:
    """Fill a volume with Snapshot copies of another product, up to that many in all."""
    tools = site.tools()
    found = next(lun.volume for lun in tools.storage.luns() if lun.volume.name == volume)
    missing = copies - len(tools.storage.snapshots(found))
    names = [f"otherproduct.{number:03}" for number in range(missing)]
    for start in range(0, len(names), _AT_ONCE):
        records = [Snapshot.from_dict({"volume": {"uuid": found.uuid}, "name": n}) for n in names[start:][:_AT_ONCE]]
        tools.rest.wait([tools.rest.create_many(Snapshot(found.uuid), records, found.uuid)])


def nightly(site: Site, *, dataset: str = "SQL", vm: str = "sql01", zone: str = "Europe/Berlin") -> Exercise:
    """Protect a VM every night at half past ten of the people who work with it (TR 5.2, 6.3)."""

    def policy() -> Policy | None:
        return next((p for p in site.stored_policies() if p.dataset.casefold() == dataset.casefold()), None)

    def member() -> str:
        try:
            members = site.tools().snapinfo.dataset(dataset).members
        except NotFound:
            return f"There is no dataset {dataset}"
        return "" if vm in {m.name for m in members} else f"{vm} is not in the dataset {dataset}"

    def daily() -> str:
        found = policy()
        if found is None or found.schedule is None:
            return f"No policy of {dataset} has a schedule"
        when = found.schedule
        if when.repeat is not Repeat.DAILY or when.at != "22:30":
            return f"{found.name} runs {when}"
        return "" if when.timezone == zone else f"22:30 of {when.timezone}, not of {zone}"

    def kept() -> str:
        found = policy()
        right = found is not None and (found.retention.keep == 14 or found.retention.days == 14)
        return "" if right or found is None else f"{found.name} keeps {found.retention}"

    def told() -> str:
        found = policy()
        if found is None or not found.notification.to:
            return "Nobody gets mail"
        level = found.notification.level
        return "" if level is Level.WARNING else f"Mail is sent at the level {level}"

    return Exercise(
        f"{vm}, every night",
        "5.2, 6.3",
        (
            Goal(f"{vm} is in a dataset {dataset}", member, f'site.create_dataset("{dataset}", ["{vm}"])'),
            Goal(
                f"A policy backs it up every day at 22:30 in {zone}",
                daily,
                'In [schedule]: repeat = "daily", at = "22:30", and timezone.',
            ),
            Goal("Fourteen days are kept", kept, "In [retention]: days = 14, or keep = 14."),
            Goal(
                "Errors and warnings are mailed, successes are not",
                told,
                'In [notification]: level = "warning", and to = ["storage@example.org"].',
            ),
        ),
    )


def fits(site: Site, *, dataset: str = "SQL", vm: str = "sql01", volume: str = "vm_sql01") -> Exercise:
    """Mend a policy that will fill its volume with Snapshot copies (TR 6.3)."""

    def prepare() -> None:
        known = {d.name for d in site.tools().snapinfo.datasets()}
        if dataset not in known:
            site.create_dataset(dataset, [vm])
        if "sql-hourly" not in {p.name for p in site.stored_policies()}:
            site.set_policy(POOR, accept={LIMIT_KEY})

    def present() -> Policy:
        return site.policy("sql-hourly")

    def hourly() -> str:
        found = present()
        right = found.schedule is not None and found.schedule.repeat is Repeat.HOURLY and found.schedule.every == 1
        if not right or not found.enabled:
            return f"It runs {found.schedule or 'on demand'}"
        return "" if found.consistency == "application" else "It is crash-consistent now"

    def enough() -> str:
        kept = present().retention
        right = (kept.keep or 0) >= 48 or (kept.days or 0) >= 2 or (kept.keep is None and kept.days is None)
        return "" if right else f"It keeps {kept}"

    def holds() -> str:
        for one in site.budget(days=90).forecasts:
            if one.volume == volume and one.breaks is not None:
                return f"{volume} breaks on {one.breaks:%Y-%m-%d %H:%M}, after {one.good} backups"
        return ""

    return Exercise(
        "a policy that fits",
        "6.3",
        (
            Goal("sql-hourly still runs every hour, application-consistent", hourly, "The schedule was not the fault."),
            Goal("It keeps at least two days", enough, "48 hourly backups are two days."),
            Goal(
                f"{volume} does not reach its limit within 90 days",
                holds,
                "Each backup is two Snapshot copies, and there is one backup more than are kept until retention has "
                "run: site.budget(days=90) does the sum.",
            ),
        ),
        prepare,
    )
