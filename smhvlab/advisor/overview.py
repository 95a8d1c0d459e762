"""Where a site stands: each VM's protection, jobs, Snapshot budgets, and what the advisor finds - from one look."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from smhvlab.advisor import facts as f
from smhvlab.advisor import plans as p
from smhvlab.advisor.catalogue import findings
from smhvlab.advisor.rule import Finding
from smhvlab.advisor.site_facts import Facts
from smhvlab.doctor import unfinished
from smhvlab.errors import SmhvLabError
from smhvlab.frames import frame

if TYPE_CHECKING:
    import pandas as pd

    from smhvlab.site import Site

_GRACE: Final = timedelta(minutes=60)
_MONTH: Final = 30
TIME: Final = "datetime64[us, UTC]"


class State(StrEnum):
    """How a VM is protected."""

    PROTECTED = "protected"
    LATE = "late"
    """Its last backup is older than its policies promise."""

    NEVER = "no backup yet"
    UNPROTECTED = "unprotected"
    """It is in no dataset."""

    OUTSIDE = "not on the array"


@dataclass(frozen=True, kw_only=True)
class VmProtection:
    """One VM's protection.

    Attributes:
        last: time of its last backup, and ``consistency`` of it.
        verified: time of its last verified backup.
        promised: the longest time between two backups by its policies, None without a schedule.
    """

    name: str
    host: str
    state: State
    datasets: tuple[str, ...] = ()
    last: datetime | None = None
    consistency: str = ""
    verified: datetime | None = None
    promised: timedelta | None = None


@dataclass(frozen=True, kw_only=True)
class Job:
    """Something that ran, runs, waits for somebody, or will run."""

    what: str
    name: str
    when: datetime | None
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class VolumeBudget:
    """Snapshot copies of one volume: used, possible, and when its policies reach the limit (None: not in a month)."""

    volume: str
    used: int
    limit: int
    breaks: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Overview:
    """Where a site stands at a moment."""

    site: str
    now: datetime
    vms: tuple[VmProtection, ...]
    jobs: tuple[Job, ...]
    budgets: tuple[VolumeBudget, ...]
    findings: tuple[Finding, ...]

    def protection(self) -> pd.DataFrame:
        """One row per VM. Columns: vm, host, state, datasets, last, age (minutes or missing), consistency, verified."""
        rows = [
            {
                "vm": vm.name,
                "host": vm.host,
                "state": str(vm.state),
                "datasets": ", ".join(vm.datasets),
                "last": vm.last,
                "age": None if vm.last is None else round((self.now - vm.last).total_seconds() / 60),
                "consistency": vm.consistency,
                "verified": vm.verified,
            }
            for vm in self.vms
        ]
        text = dict.fromkeys(("vm", "host", "state", "datasets"), "str")
        return frame(rows, text | {"last": TIME, "age": "Int64", "consistency": "str", "verified": TIME})


def overview(site: Site) -> Overview:
    """Look at a site once. Raises as ``site.facts``."""
    facts = site.facts()
    try:
        forecast = site.budget(days=_MONTH).frame()
        breaks = dict(zip(forecast["volume"], forecast["breaks"], strict=True))
    except SmhvLabError:
        breaks = {}  # without SnapInfo there is no policy that could break anything
    return Overview(
        site=site.name,
        now=facts.now,
        vms=tuple(protection_of(facts, vm) for vm in facts.vms),
        jobs=(*_waiting(site), *_next(facts), *_done(facts)),
        budgets=tuple(_budgets(facts, breaks)),
        findings=tuple(findings(facts)),
    )


def protection_of(facts: Facts, vm: f.Vm) -> VmProtection:
    """How one VM is protected."""
    datasets = [dataset for dataset in facts.datasets if vm.id in dataset.members]
    mine = [backup for backup in facts.backups if vm.id in backup.vms and backup.time is not None]
    last = max(mine, key=_time, default=None)
    verified = [backup for backup in mine if backup.verified]
    promised = _promised(datasets)
    if not facts.luns(vm):
        state = State.OUTSIDE
    elif not datasets:
        state = State.UNPROTECTED
    elif last is None:
        state = State.NEVER
    elif promised is not None and facts.now - _time(last) > promised + _GRACE:
        state = State.LATE
    else:
        state = State.PROTECTED
    return VmProtection(
        name=vm.name,
        host=vm.host,
        state=state,
        datasets=tuple(dataset.name for dataset in datasets),
        last=None if last is None else last.time,
        consistency="" if last is None else last.consistency,
        verified=max(map(_time, verified), default=None),
        promised=promised,
    )


def _time(backup: p.Backup) -> datetime:
    assert backup.time is not None
    return backup.time


def _promised(datasets: Sequence[p.Dataset]) -> timedelta | None:
    starts = sorted({start for dataset in datasets for policy in dataset.policies for start in policy.starts})
    longest = max((later - earlier for earlier, later in pairwise(starts)), default=None)
    return None if longest is None else timedelta(minutes=longest)


def _waiting(site: Site) -> list[Job]:
    found = []
    for run in unfinished(site.name, folder=site.journals):
        flow = run.header.flow.rpartition(":")[2]
        note = (
            "" if run.alive else f"waits for {' or '.join(run.allowed) or 'somebody'}: {run.error or 'it was killed'}"
        )
        what = "running" if run.alive else "unfinished"
        found.append(Job(what=what, name=f"{run.run} ({flow})", when=None, note=note))
    return found


def _next(facts: Facts) -> list[Job]:
    """The next run of each policy."""
    runs = [
        Job(what="due", name=f"{dataset.name} {policy.name}", when=facts.now + timedelta(minutes=policy.starts[0]))
        for dataset in facts.datasets
        for policy in dataset.policies
        if policy.starts
    ]
    return sorted(runs, key=lambda job: (job.when or facts.now, job.name))


def _done(facts: Facts, most: int = 5) -> list[Job]:
    """The last backups, newest first."""
    made = sorted((b for b in facts.backups if b.time is not None), key=_time, reverse=True)[:most]
    return [
        Job(what="backup", name=b.name, when=b.time, note=b.consistency + (", verified" if b.verified else ""))
        for b in made
    ]


def _budgets(facts: Facts, breaks: dict[str, object]) -> list[VolumeBudget]:
    found = []
    for svm, name in sorted({(lun.svm, lun.volume) for lun in (*facts.vms_on, *facts.snapinfo_luns())}):
        volume = facts.volume.get((svm, name))
        if volume is not None:
            moment = breaks.get(name)
            found.append(
                VolumeBudget(
                    volume=name,
                    used=len(volume.snapshots),
                    limit=facts.snapshot_limit,
                    breaks=moment.to_pydatetime() if hasattr(moment, "to_pydatetime") and moment == moment else None,
                )
            )
    return found
