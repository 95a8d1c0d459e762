"""The station's own scheduler: runs what is due, catches up after downtime, lives weeks of a lab in seconds (TR 6.3).

Of the runs that a policy has missed only the newest is made up for. A run that has begun counts as handled, however it
ends: what it left is the doctor's work, not the next run's.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from smhvlab.errors import Cancelled, NotAllowed, SmhvLabError
from smhvlab.frames import frame
from smhvlab.journal import journal_folder
from smhvlab.lockfile import try_lock
from smhvlab.protection.backup import policy_backup
from smhvlab.protection.notify import News, tell
from smhvlab.protection.policy import Policy
from smhvlab.protection.store import PolicyStore

if TYPE_CHECKING:
    import pandas as pd

    from smhvlab.site import Site

_SECOND: Final = timedelta(seconds=1)
_LOOK_AGAIN: Final = 0.5  # real seconds between two looks at another scheduler's lock


@dataclass(frozen=True)
class DueRun:
    """A run that is due: the newest of those that a policy has not had yet; ``missed`` counts the older ones."""

    due: datetime
    policy: Policy
    missed: int = 0


@dataclass(frozen=True)
class Ran:
    """How a run that was due went.

    Attributes:
        outcome: ``done``, ``warnings`` or ``failed``.
        backup: its name, "" if there is none.
        deleted: how many older backups retention deleted.
        error: what failed, or the warnings.
        missed: runs before it that were due and are not made up for.
        notes: why somebody could not be told of it, "" if everybody was who should be.
    """

    due: datetime
    policy: str
    dataset: str
    outcome: str
    backup: str = ""
    deleted: int = 0
    error: str = ""
    missed: int = 0
    seconds: float = 0.0
    notes: str = ""


@dataclass(frozen=True, repr=False)
class Diary:
    """The runs of a time, in their order."""

    runs: tuple[Ran, ...]

    def frame(self) -> pd.DataFrame:
        """Columns: due (UTC), policy, dataset, outcome, backup, deleted, missed, seconds (the site's), error,
        notes."""
        types = dict.fromkeys(("policy", "dataset", "outcome", "backup"), "str")
        numbers = {"deleted": "int64", "missed": "int64", "seconds": "float64", "error": "str", "notes": "str"}
        rows = [vars(run) for run in self.runs]
        return frame(rows, {"due": "datetime64[us, UTC]", **types, **numbers})

    def __str__(self) -> str:
        counts = {outcome: sum(r.outcome == outcome for r in self.runs) for outcome in ("done", "warnings", "failed")}
        told = ", ".join(f"{count} {outcome}" for outcome, count in counts.items() if count)
        first = next((r for r in self.runs if r.outcome == "failed"), None)
        text = f"{len(self.runs)} run{'s' * (len(self.runs) != 1)}: {told}" if self.runs else "No run was due"
        return text + (f"\n  first failure {first.due:%Y-%m-%d %H:%M}, {first.policy}: {first.error}" if first else "")

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        return "<br>".join(escape(line) for line in str(self).splitlines())


class Scheduler:
    """Runs the policies of a site when they are due. What was handled is kept in the user's state folder.

    Args:
        on_run: told of each run at its end.
    """

    def __init__(self, site: Site, *, on_run: Callable[[Ran], None] | None = None) -> None:
        self.site = site
        self._on_run = on_run
        folder = journal_folder(site.name, site.journals)
        self._file = folder.parent.parent / "schedule" / f"{folder.name}.json"

    # --- what is due

    def due(self, now: datetime | None = None, *, policies: Sequence[Policy] | None = None) -> list[DueRun]:
        """The newest run of each policy that is due and was not handled, oldest first; nothing is changed."""
        moment = self.site.now() if now is None else now
        known = PolicyStore(self.site.tools().snapinfo).policies() if policies is None else policies
        handled = self._handled()
        found = []
        for policy in known:
            if policy.schedule is None or not policy.enabled:
                continue
            since = handled.get(policy.name, moment + _SECOND)
            if since > moment:  # never run, or the site's clock was set back
                since = (policy.since or moment) - timedelta(microseconds=1)
            newest = policy.schedule.latest_run(since, moment)
            if newest is not None:
                missed = len(policy.schedule.run_seconds(since + timedelta(microseconds=1), newest))
                found.append(DueRun(newest, policy, missed))
        return sorted(found, key=lambda run: (run.due, run.policy.name))

    def next_due(self, now: datetime, policies: Sequence[Policy]) -> datetime | None:
        """The next run of any policy after a moment, None if no policy has a schedule."""
        return min((p.schedule.next_run(now) for p in policies if p.schedule is not None and p.enabled), default=None)

    # --- running it

    def run_due(self, *, only: Sequence[str] = (), wait: timedelta = timedelta()) -> Diary:
        """Run what is due, one backup after the other.

        Args:
            only: names of policies; all by default.
            wait: how long, by this machine's clock, to let another scheduler of the site finish first. Tasks of several
                policies start at the same minute, each in a process of its own.

        Raises:
            NotAllowed: another process of this user schedules the site, and went on for longer.
            Cancelled: the runs before stay done.
        """
        wanted = {name.casefold() for name in only}
        with self._alone(wait):
            now = self.site.now()
            runs = []
            for run in self.due(now):
                if not wanted or run.policy.name.casefold() in wanted:
                    ran, now = self._run(run, now)
                    runs.append(ran)
            return Diary(tuple(runs))

    def run_until(self, when: datetime) -> Diary:
        """Wait for each run that becomes due, and run it, until a moment in the site's time. Raises as ``run_due``."""
        runs: list[Ran] = []
        with self._alone():
            now = self.site.now()
            while True:
                policies = PolicyStore(self.site.tools().snapinfo).policies()
                while due := self.due(min(now, when), policies=policies):
                    for run in due:
                        ran, now = self._run(run, now)
                        runs.append(ran)
                if now >= when:
                    return Diary(tuple(runs))
                following = self.next_due(now, policies)
                wake = when if following is None else min(following, when)
                self.site.sleep(max(0.001, (wake - now).total_seconds()))
                heard = self.site.tools().host.heard  # the end of the pause tells the time
                now = heard if heard is not None and heard >= wake else self.site.now()

    def _run(self, run: DueRun, began: datetime) -> tuple[Ran, datetime]:
        """Run one policy; returns how it went, and the site's time after it."""
        policy = run.policy
        self._handle(policy.name, run.due)
        backup, outcome, error, deleted = "", "done", "", 0
        try:
            flow = policy_backup(self.site, policy)
            done = flow.run_sync().result
        except Cancelled:
            raise
        except SmhvLabError as failure:
            outcome, error = "failed", failure.message
        else:
            backup = done.backup.backup.name
            deleted = len(done.retention.deleted) if done.retention is not None else 0
            warnings = [*done.warnings, *self._verified(policy, backup)]
            if warnings:
                outcome, error = "warnings", "; ".join(warnings)
        news = News(self.site.name, policy.dataset, policy.name, outcome, backup, error)
        notes = "; ".join(tell(self.site, policy.notification, news))
        now = self.site.now()
        seconds = (now - began).total_seconds()
        ran = Ran(run.due, policy.name, policy.dataset, outcome, backup, deleted, error, run.missed, seconds, notes)
        if self._on_run is not None:
            self._on_run(ran)
        return ran, now

    def _verified(self, policy: Policy, backup: str) -> list[str]:
        """Verify a backup if its policy wants it (TR 6.3); a backup that is not sound is told, and stays unverified."""
        if not policy.options.verify:
            return []
        try:
            self.site.verify(backup).run_sync()
        except Cancelled:
            raise
        except SmhvLabError as error:
            return [f"not verified: {error.message}"]
        return []

    # --- what was handled

    @contextmanager
    def _alone(self, wait: timedelta = timedelta()) -> Iterator[None]:
        self._file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self._file.with_suffix(".lock").open("a+b") as file:
            patient_until = time.monotonic() + wait.total_seconds()
            while not try_lock(file):
                if time.monotonic() < patient_until:
                    time.sleep(_LOOK_AGAIN)
                    continue
                raise NotAllowed(
                    f"Another scheduler is at work on {self.site.name}",
                    next_action="Wait for its end; one scheduler for each site is enough.",
                    tr="6.3",
                )
            yield

    def _handled(self) -> dict[str, datetime]:
        """The newest run of each policy that was handled."""
        try:
            stored: dict[str, Any] = json.loads(self._file.read_text("utf-8"))
            return {name: datetime.fromisoformat(text) for name, text in stored.items()}
        except FileNotFoundError:
            return {}
        except (ValueError, AttributeError, TypeError) as error:
            raise NotAllowed(
                f"{self._file} is damaged",
                why=str(error),
                next_action="Delete it: then each policy runs once for what it missed since it was made.",
                tr="6.3",
            ) from error

    def forget(self, policy: str) -> None:
        """A policy of this name is new: what an earlier one has run does not count."""
        known = self._handled()
        if policy in known:
            self._keep({name: due for name, due in known.items() if name != policy})

    def _handle(self, policy: str, due: datetime) -> None:
        self._keep({**self._handled(), policy: due})

    def _keep(self, known: Mapping[str, datetime]) -> None:
        text = json.dumps({name: moment.isoformat() for name, moment in sorted(known.items())}, indent=1)
        part: Path = self._file.with_suffix(".new")
        part.write_text(text, "utf-8")
        part.replace(self._file)
