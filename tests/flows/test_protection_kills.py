"""The process is killed at a request of retention, or of a scheduled backup; the next one loses and leaves nothing."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

import smhvlab.site
from labenv import lab as labs
from smhvlab.doctor import reopen, unfinished
from smhvlab.leftovers import leftovers
from smhvlab.nodes import REGISTRY
from smhvlab.protection.retention import is_ours
from smhvlab.record import Outcome
from smhvlab.site import Site
from smhvlab.wires.control import Phase, WireRequest
from tests.flows.test_kills import Killed

VOLUME, INFO = "vm_shared", "snapinfo"
POLICY = """
name = "hourly"
dataset = "Apps"
consistency = "crash"
[schedule]
repeat = "hourly"
[retention]
keep = 2
"""


@dataclass(frozen=True)
class State:
    """What SnapInfo and the array say of the dataset's backups."""

    backups: tuple[str, ...]
    deleted: tuple[str, ...]
    copies: tuple[str, ...]
    snapinfo_copies: tuple[str, ...]


def state(site: Site) -> State:
    """The site as it is now."""
    catalogue = site.tools().snapinfo.catalogue()

    def ours(volume: str) -> tuple[str, ...]:
        return tuple(sorted(name for name in site.snapshots(volume)["snapshot"] if is_ours(name, "Apps")))

    return State(
        tuple(b.name for b in catalogue.backups), tuple(b.name for b in catalogue.deleted), ours(VOLUME), ours(INFO)
    )


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Iterator[labs.Lab]:
    """A lab with three backups of which one is kept, and a fourth that is due; kept as a checkpoint."""
    with labs.start("standalone", state=tmp_path_factory.mktemp("kills") / "lab") as lab:
        with smhvlab.site.connect(lab.profile) as site:
            site.create_dataset("Apps", ["app01"])
            site.set_policy(POLICY.replace("keep = 2", "keep = 3"))
            site.run_until_sync(timedelta(hours=3))
            policy = site.policy("hourly")
            site.set_policy(POLICY.replace('name = "hourly"', f'name = "hourly"\nversion = {policy.version}'))
            count = {"LiteralPath": REGISTRY, "Name": "snapinfo_snaps_count", "Value": 2}
            site.tools().host.run("Set-ItemProperty", count)
            site.sleep(3600)
        lab.checkpoint("ready")
        (lab.state / "kept.json").write_bytes(schedule_file(lab).read_bytes())
        yield lab


def schedule_file(lab: labs.Lab) -> Path:
    """Where the scheduler keeps what was handled."""
    (found,) = (lab.state / "journals").rglob("schedule/*.json")
    return found


def made_ready(lab: labs.Lab) -> None:
    """The site as it was, no journals, and the scheduler as it was."""
    lab.restore("ready")
    for journal in (lab.state / "journals").rglob("*.jsonl"):
        journal.unlink()
    schedule_file(lab).write_bytes((lab.state / "kept.json").read_bytes())


def kill(lab: labs.Lab, work: Callable[[Site], object], wanted: int, phase: Phase) -> bool:
    """Kill the work before or after the effect of its request number ``wanted``; False: there was none."""
    made_ready(lab)
    begun: list[WireRequest] = []  # of a wave all leave before the first reply comes
    armed = False

    def seam(request: WireRequest, now: Phase) -> None:
        if not armed:
            return
        if now is Phase.BEFORE:
            begun.append(request)
        if now is phase and len(begun) > wanted and begun[wanted] is request:
            raise Killed

    with smhvlab.site.connect(lab.profile, seam=seam) as site:
        site.tools().nodes.own()
        armed = True
        try:
            work(site)
        except Killed:
            return True
        finally:
            armed = False
    return False


def doctor(site: Site, prefer: str) -> str:
    """Mend what waits as its journal allows; returns what was done, "" if nothing waited."""
    done = ""
    for entry in unfinished(site.name, folder=site.journals):
        done = prefer if prefer in entry.allowed else entry.allowed[0]
        flow = reopen(site, entry.run, folder=site.journals)
        record = flow.resume_sync() if done == "resume" else flow.undo_sync()
        assert record.outcome in (Outcome.DONE, Outcome.UNDONE)
    assert unfinished(site.name, folder=site.journals) == []
    return done


def retain(site: Site) -> object:
    """Retention by hand."""
    return site.retain("Apps").run_sync()


def retention_killed(lab: labs.Lab, wanted: int, phase: Phase, prefer: str, ends: tuple[State, State]) -> bool:
    """Kill retention and mend it: what is left is one of the two ends, and another run reaches the second."""
    if not kill(lab, retain, wanted, phase):
        return False
    before, after = ends
    with smhvlab.site.connect(lab.profile) as site:
        action = doctor(site, prefer)
        assert state(site) == (after if action == "resume" else before)
        retain(site)
        assert state(site) == after
        assert leftovers(site.tools(), pending=False) == []
    return True


def ends_of(lab: labs.Lab) -> tuple[State, State, int]:
    """The site before and after an undisturbed retention, and its requests."""
    made_ready(lab)
    with smhvlab.site.connect(lab.profile) as site:
        before, first = state(site), len(site.log.entries)  # the first look has found the hosts
        retain(site)
        count = len(site.log.entries) - first
        after = state(site)
    assert (len(before.backups), len(after.backups), len(after.copies), len(after.snapinfo_copies)) == (3, 2, 2, 2)
    return before, after, count


def run_due_killed(lab: labs.Lab, wanted: int, phase: Phase, prefer: str) -> bool:
    """Kill a scheduled backup and mend it: SnapInfo and the array agree, and the next run is as every other."""
    if not kill(lab, lambda site: site.run_due(), wanted, phase):
        return False
    with smhvlab.site.connect(lab.profile) as site:
        doctor(site, prefer)
        found = state(site)
        assert set(found.copies) == {*found.backups, *found.deleted} & set(found.copies)
        assert set(found.backups) <= set(found.copies)
        site.run_due()  # a run that had not begun is still due; one that had is not made twice
        diary = site.run_until_sync(timedelta(hours=1))
        assert [run.outcome for run in diary.runs] == ["done"]
        found = state(site)
        assert found.backups == found.copies
        assert (len(found.backups), found.deleted, len(found.snapinfo_copies)) == (2, (), 2)
        assert leftovers(site.tools(), pending=False) == []
        assert site.tools().storage.grouped_volumes() == set()
    return True


def requests_of_run_due(lab: labs.Lab) -> int:
    """How many requests an undisturbed one takes."""
    made_ready(lab)
    with smhvlab.site.connect(lab.profile) as site:
        site.tools().nodes.own()
        first = len(site.log.entries)
        assert [run.outcome for run in site.run_due().runs] == ["done"]
        return len(site.log.entries) - first


def points(count: int) -> list[tuple[int, Phase]]:
    """Every place where the process can be killed."""
    return [(number, phase) for number in range(count) for phase in (Phase.BEFORE, Phase.AFTER)]


@pytest.mark.tr("R-6.3-07")
def test_retention_is_killed_at_a_sample_of_requests(ready: labs.Lab) -> None:
    """A seeded few of its requests: either nothing has gone, or all of it that should."""
    before, after, count = ends_of(ready)
    sample = enumerate(random.Random("kills/retention").sample(points(count), 4))
    killed = [retention_killed(ready, *point, ("undo", "resume")[n % 2], (before, after)) for n, point in sample]
    assert any(killed)


@pytest.mark.tr("R-6.3-01")
def test_a_scheduled_backup_is_killed_at_a_sample_of_requests(ready: labs.Lab) -> None:
    """A seeded few of its requests: no copy without a record, no record without a copy, and the schedule goes on."""
    count = requests_of_run_due(ready)
    sample = enumerate(random.Random("kills/run-due").sample(points(count), 3))
    killed = [run_due_killed(ready, *point, ("undo", "resume")[number % 2]) for number, point in sample]
    assert any(killed)


@pytest.mark.long
@pytest.mark.parametrize("prefer", ["undo", "resume"])
def test_retention_is_killed_at_every_request(ready: labs.Lab, prefer: str) -> None:
    """Before and after the effect of every single request."""
    before, after, count = ends_of(ready)
    assert all(retention_killed(ready, *point, prefer, (before, after)) for point in points(count))


@pytest.mark.long
@pytest.mark.parametrize("prefer", ["undo", "resume"])
def test_a_scheduled_backup_is_killed_at_every_request(ready: labs.Lab, prefer: str) -> None:
    """Before and after the effect of every single request."""
    assert all(run_due_killed(ready, *point, prefer) for point in points(requests_of_run_due(ready)))
