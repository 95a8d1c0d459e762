"""The command's verbs about policies, schedules, retention and reports (TR 5.2, 6.3)."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from smhvlab.cli.dr import coupled
from smhvlab.cli.images import Verbs
from smhvlab.errors import NotAllowed, NotFound

if TYPE_CHECKING:
    from smhvlab.protection.policy import Policy
    from smhvlab.protection.scheduler import Ran
    from smhvlab.site import Site

PARTNER = "the other site, as --site: has the mirrors that a policy with options.replicate updates"
_UNITS = {"h": timedelta(hours=1), "d": timedelta(days=1), "m": timedelta(minutes=1)}
_FARTHEST = 3660  # days: ten years of runs are still counted in seconds


def add(to: Verbs) -> None:
    """Add the verbs."""
    on_site, verb = to.on_site, to.verb
    policy = on_site(verb("policy", lambda o: _policy(to, o), "policies: list, show, set, remove, history (TR 5.2)"))
    policy.add_argument("action", choices=["list", "show", "set", "remove", "history"])
    policy.add_argument("what", nargs="?", default="", help="its name; for set a TOML file, or - for standard input")
    policy.add_argument("--accept", action="append", default=[], metavar="KEY", help="snapshot-limit: save it anyway")
    schedule = on_site(verb("schedule", lambda o: _schedule(to, o), "the runs of the coming days (TR 6.3)"))
    schedule.add_argument("--days", type=_days, default=7.0, help="default: %(default)s")
    schedule.add_argument("--tasks", action="store_true", help="write the policies to the host's Task Scheduler")
    schedule.add_argument("--partner", default="", help=f"for --tasks: {PARTNER}")
    schedule.add_argument("--overlaps", action="store_true", help="policies that run at the same time on one thing")
    retention = on_site(
        verb("retention", lambda o: _retention(to, o), "what retention would delete; --yes deletes it (TR 6.3)"),
        changes=True,
    )
    retention.add_argument("dataset", nargs="?", default="", help="default: all; --yes needs one")
    gone = on_site(
        verb("delete-backup", lambda o: _delete(to, o), "delete a backup with its Snapshot copies (TR 6.3)"),
        changes=True,
    )
    gone.add_argument("backup")
    budget = on_site(verb("budget", lambda o: _budget(to, o), "Snapshot copies against the limit (TR 6.3)"))
    budget.add_argument("--days", type=_days, default=30.0, help="default: %(default)s")
    budget.add_argument("--limit", type=int, help="Snapshot copies that a volume holds (default: 255)")
    budget.add_argument("--what-if", action="append", default=[], metavar="FILE", help="a policy that is not saved")
    report = on_site(verb("report", lambda o: _report(to, o), "tables, plot and evidence as HTML and CSV (TR 5.4)"))
    report.add_argument("folder", nargs="?", help="of this station; without it, the report folder of the host")
    report.add_argument("--days", type=_days, default=30.0, help="how far the budget looks (default: %(default)s)")
    for table, about in (("policies", "list the policies"), ("unprotected", "VMs in no dataset (TR 5.2)")):
        on_site(verb(table, to.table(table), about))
    config = on_site(verb("config", lambda o: _config(to, o), "settings, datasets, policies in a file (TR 6.1)"))
    config.add_argument("action", choices=["export", "import", "drift"])
    config.add_argument("file", nargs="?", default="")
    due = on_site(
        verb("run-due", lambda o: _run_due(to, o), "run what is due; missed runs are made up for once (TR 6.3)"),
        changes=True,
    )
    due.add_argument("--policy", action="append", default=[], metavar="NAME", help="only this one")
    due.add_argument("--until", metavar="TIME", help="go on until then: 2013-03-11T08:00 (UTC), or 12h, 7d from now")
    due.add_argument("--partner", default="", help=PARTNER)
    due.add_argument("--wait", metavar="TIME", default="0m", help="let another scheduler of the site finish: 90m, 1h")


def _policy(to: Verbs, options: argparse.Namespace) -> int:
    if options.action != "list" and not options.what:
        raise NotAllowed(
            f"policy {options.action} needs {'a file' if options.action == 'set' else 'a name'}",
            next_action=f"smhvlab policy {options.action} WHAT --site {options.site}",
            tr="5.2",
        )
    text = _text(options.what) if options.action == "set" else ""
    with to.connect(options) as site:
        if options.action == "list":
            to.show(site.policies(), options)
        elif options.action == "history":
            _tell(to, site.policy_history(options.what), options)
        elif options.action == "show":
            _tell(to, [site.policy(options.what)], options)
        elif options.action == "remove":
            _tell(to, [site.remove_policy(options.what)], options)
        else:
            _set(to, site, text, options)
    return 0


def _set(to: Verbs, site: Site, text: str, options: argparse.Namespace) -> None:
    from smhvlab.protection.policy import advice

    saved = site.set_policy(text, accept=options.accept)
    if options.json:
        _tell(to, [saved], options)
        return
    to.say(f"Saved version {saved.version}: {saved}")
    for sentence in advice(saved):
        to.say(f"  Note: {sentence}")
    for one in site.budget().forecasts:
        if one.breaks is not None:
            to.say(f"  Note: the volume {one.volume} is full of Snapshot copies on {one.breaks:%Y-%m-%d %H:%M}.")


def _tell(to: Verbs, policies: list[Policy], options: argparse.Namespace) -> None:
    import msgspec

    if options.json:
        values = [msgspec.to_builtins(policy) for policy in policies]
        to.say(json.dumps(values if options.action == "history" else values[0]))
    else:
        to.say("\n".join(f"# version {policy.version}\n{policy.toml().rstrip()}" for policy in policies))


def _text(name: str) -> str:
    try:
        return sys.stdin.read() if name == "-" else Path(name).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise NotFound(f"{name} cannot be read", why=str(error), next_action="Name a TOML file, or -.") from error


def _schedule(to: Verbs, options: argparse.Namespace) -> int:
    with to.connect(options) as site:
        if options.tasks:
            done = site.write_tasks(site=options.site, partner=options.partner)
            to.say(json.dumps(done) if options.json else "\n".join(done) or "No policy has a schedule.")
        else:
            overlaps = options.overlaps
            to.show(site.overlaps(days=options.days) if overlaps else site.schedule(days=options.days), options)
    return 0


def _retention(to: Verbs, options: argparse.Namespace) -> int:
    with to.connect(options) as site:
        if options.yes:
            if not options.dataset:
                raise NotAllowed(
                    "Which dataset?", next_action=f"smhvlab retention DATASET --site {options.site} --yes", tr="6.3"
                )
            return to.carry_out(site.retain(options.dataset), options)
        to.show(site.retention(options.dataset or None), options)
    return 0


def _delete(to: Verbs, options: argparse.Namespace) -> int:
    with to.connect(options) as site:
        return to.carry_out(site.delete_backup(options.backup), options)


def _budget(to: Verbs, options: argparse.Namespace) -> int:
    added = [_text(name) for name in options.what_if]
    with to.connect(options) as site:
        budget = site.budget(days=options.days, what_if=added, limit=options.limit)
    if options.json:
        to.show(budget.frame(), options)
    else:
        to.say(budget)
    return 1 if budget.breaks is not None else 0


def _report(to: Verbs, options: argparse.Namespace) -> int:
    with to.connect(options) as site:
        report = site.report(options.folder, days=options.days)
    if options.json:
        told = {"html": str(report.html), "tables": [str(t) for t in report.tables], "missing": list(report.missing)}
        to.say(json.dumps(told))
    else:
        to.say(report)
    return 1 if report.missing else 0


def _config(to: Verbs, options: argparse.Namespace) -> int:
    if options.action != "drift" and not options.file:
        raise NotAllowed(
            f"config {options.action} needs a file",
            next_action=f"smhvlab config {options.action} FILE --site {options.site}",
            tr="6.1",
        )
    with to.connect(options) as site:
        if options.action == "drift":
            table = site.drift()
            to.show(table, options)
            return 0 if bool(table["same"].all()) else 1
        if options.action == "export":
            written = site.export_configuration(options.file)
            to.say(json.dumps({"file": str(written)}) if options.json else f"Written to {written}")
            return 0
        done = site.import_configuration(options.file)
    to.say(json.dumps(asdict(done)) if options.json else done)
    return 1 if done.missing else 0


def _run_due(to: Verbs, options: argparse.Namespace) -> int:
    with coupled(options, to.connect) as site:
        if not options.yes:
            until = _moment(options.until, site.now()) if options.until else None
            to.show(site.due() if until is None else site.schedule(days=_days_until(until, site.now())), options)
            return 0

        def tell(run: Ran) -> None:
            if not options.json:
                told = f"{run.due:%Y-%m-%d %H:%M} {run.policy}: {run.outcome} {run.backup}"
                to.say(f"{told} {run.error}".rstrip())

        if options.until:
            diary = site.run_until_sync(_moment(options.until, site.now()), on_run=tell)
        else:
            diary = site.run_due(only=options.policy, wait=_span(options.wait), on_run=tell)
        if options.json:
            to.show(diary.frame(), options)
        else:
            to.say(diary)
    return 1 if any(run.outcome == "failed" for run in diary.runs) else 0


def _days_until(moment: datetime, now: datetime) -> float:
    if moment <= now:
        raise NotAllowed(f"{moment:%Y-%m-%d %H:%M} UTC has passed", next_action="Give a later time.", tr="6.3")
    return (moment - now) / timedelta(days=1)


def _moment(text: str, now: datetime) -> datetime:
    """A moment, or a time from now."""
    try:
        if text[-1:] in _UNITS:
            return now + _span(text)
        moment = datetime.fromisoformat(text)
    except (ValueError, OverflowError) as error:
        raise NotAllowed(
            f"{text!r} is no time", why=str(error), next_action="Write 2013-03-11T08:00, 90m, 12h or 7d.", tr="6.3"
        ) from error
    return moment if moment.tzinfo else moment.replace(tzinfo=now.tzinfo)


def _span(text: str) -> timedelta:
    """A time of some minutes, hours or days."""
    try:
        return float(text[:-1]) * _UNITS[text[-1:]]
    except (KeyError, ValueError, OverflowError) as error:
        raise NotAllowed(f"{text!r} is no time", next_action="Write 90m, 12h or 7d.", tr="6.3") from error


def _days(text: str) -> float:
    """How many days to look ahead."""
    days = float(text)
    if not 0 < days <= _FARTHEST:
        raise argparse.ArgumentTypeError(f"{text} days; from 0 to {_FARTHEST}")
    return days
