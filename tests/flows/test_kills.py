"""The process is killed at a request of a flow; a new one asks the doctor, and nothing is lost or left over."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import pytest

import smhvlab.site
from labenv import lab as labs
from smhvlab.doctor import reopen, unfinished
from smhvlab.flow import Flow
from smhvlab.leftovers import leftovers
from smhvlab.record import Outcome
from smhvlab.site import Site
from smhvlab.wires.control import Phase, WireRequest
from smhvlab.wires.session import Session
from smhvlab.wires.transport import Sent
from tests.flows.checks import Picture, blocks_sound, picture, sound

DATABASES = ("aa1", "bb1", "bb2", "bb3")
LAST_LOOKS = 8
"""Points that may be missed: two runs look at a starting VM a different number of times, and a look that finds nothing
has no effect after which the process could be killed."""


class Killed(BaseException):
    """The process ends here: nothing in the product may handle this."""


@dataclass(frozen=True)
class Case:
    """A flow to kill, on a site that was made ready for it.

    Attributes:
        rows: what the databases of ``vm`` hold when the flow is done, and when it was undone.
        accept: the warnings that it asks for.
        prepare: what is done before the site's picture is taken.
        most: points that a normal run takes at most.
        lent: disks of a backup that VMs have when the flow is done, and when it was undone.
    """

    name: str
    make: Callable[[Site], Flow[object]]
    vm: str
    rows: tuple[int, int]
    accept: frozenset[str] = frozenset()
    prepare: Callable[[Site], object] = lambda site: None
    most: int = 1000
    lent: tuple[int, int] = (0, 0)


_MARK = re.compile(r"(?<=\d\d[._]\d\d[._]\d\d)_[0-9a-f]{6}(?![0-9a-f])")
_MOUNTED = re.compile(r"\\smhvlab\\|\bX:")  # where backups are mounted, by choice and by default
NOT_RECOVERED = frozenset({"not-recovered"})
CASES = {
    case.name: case
    for case in (
        Case("provision", lambda site: site.provision("web02"), "sql01", (600, 600)),  # type: ignore[arg-type, return-value]
        Case("backup", lambda site: site.backup("Both", consistency="crash"), "sql01", (600, 600)),  # type: ignore[arg-type, return-value]
        Case("clone", lambda site: restore(site, "sql01"), "sql01", (100, 600)),
        Case("copy", lambda site: restore(site, "app01"), "app01", (100, 600)),
        Case("mount", lambda site: mount(site), "sql01", (600, 600), accept=NOT_RECOVERED, most=1),
        Case(
            "unmount",
            lambda site: site.unmount(site.mounts().iloc[0]["name"]),  # type: ignore[arg-type, return-value]
            "sql01",
            (600, 600),
            prepare=lambda site: mount(site).run_sync(accept=NOT_RECOVERED),
            most=1,
        ),
        Case("verify", lambda site: site.verify(newest(site), server="web01"), "sql01", (600, 600), most=1),  # type: ignore[arg-type, return-value]
        Case("file", lambda site: restore_file(site), "sql01", (600, 600), most=1),
    )
}


def restore(site: Site, vm: str) -> Flow[object]:
    """The restore of a VM from the one backup that is there."""
    return site.restore(site.backups().iloc[0]["name"], vm)  # type: ignore[return-value]


def newest(site: Site) -> str:
    """The one backup that is there."""
    name: str = site.backups().iloc[0]["name"]
    return name


def mount(site: Site) -> Flow[object]:
    """A mount with the guests' disks attached."""
    return site.mount(newest(site), lun="app01", guests=True)  # type: ignore[return-value]


def restore_file(site: Site) -> Flow[object]:
    """One file out of a guest's disk; its copy has a name that no picture of the site holds."""
    return site.restore_file(newest(site), "app01", guest_path="E:\\SQL\\bb1.mdf", to="C:\\bb1.mdf")  # type: ignore[return-value]


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Iterator[labs.Lab]:
    """A lab with a backup of two VMs, and newer rows that the backup does not hold; kept as a checkpoint."""
    with labs.start("standalone", state=tmp_path_factory.mktemp("kills") / "lab") as lab:
        with smhvlab.site.connect(lab.profile) as site:
            site.create_dataset("Both", ["sql01", "app01"])
            for vm in ("sql01", "app01"):
                for database in DATABASES:
                    site.tools().sql.insert(vm, database, 100)
            site.backup("Both", consistency="crash").run_sync()
            for vm in ("sql01", "app01"):
                for database in DATABASES:
                    site.tools().sql.insert(vm, database, 500)
        lab.checkpoint("ready")
        yield lab


@dataclass(frozen=True)
class Course:
    """An undisturbed run: of each of its requests step and whether it changes anything, the site before and after."""

    steps: tuple[str, ...]
    changes: tuple[bool, ...]
    pivot: int
    before: Picture
    after: Picture


def course(lab: labs.Lab, case: Case) -> Course:
    """Run the flow to its end and take note of every request."""
    lab.restore("ready")
    with smhvlab.site.connect(lab.profile) as site:
        case.prepare(site)
        before = picture(site)
        flow = case.make(site)
        first = len(site.log.entries)
        flow.run_sync(accept=case.accept)
        entries = site.log.entries[first:]
        pivots = {step.name for step in flow.steps() if step.pivot}
        steps = tuple(entry.step for entry in entries)
        pivot = next((i for i, name in enumerate(steps) if name in pivots), len(steps))
        return Course(steps, tuple(not entry.reads for entry in entries), pivot, before, picture(site))


def made_ready(lab: labs.Lab, case: Case) -> None:
    """The site as the case begins, and no journal of earlier runs."""
    lab.restore("ready")
    with smhvlab.site.connect(lab.profile) as site:
        case.prepare(site)
    for journal in (lab.state / "journals").rglob("*.jsonl"):
        journal.unlink()


def kill_at(lab: labs.Lab, case: Case, wanted: int, phase: Phase) -> bool:
    """Kill the run before or after the effect of its request number ``wanted`` (from 0); False: there was none."""
    made_ready(lab, case)
    armed = False
    seen: list[WireRequest] = []  # requests overlap: a wave is sent before the first of it is answered

    def seam(request: WireRequest, now: Phase) -> None:
        if not armed:
            return
        if now is Phase.BEFORE:
            seen.append(request)
        if now is phase and len(seen) > wanted and request is seen[wanted]:
            raise Killed

    with smhvlab.site.connect(lab.profile, seam=seam) as site:
        flow = case.make(site)
        armed = True
        try:
            flow.run_sync(accept=case.accept)
        except Killed:
            return True
        finally:
            armed = False
        return False


def mend(lab: labs.Lab, case: Case, run: Course, *, prefer: str) -> None:
    """What a new process finds, and what the doctor makes of it."""
    with smhvlab.site.connect(lab.profile) as site:
        waiting = unfinished(site.name, folder=site.journals)
        assert len(waiting) <= 1
        done = False
        for entry in waiting:
            action = prefer if prefer in entry.allowed else entry.allowed[0]
            flow = reopen(site, entry.run, folder=site.journals)
            record = flow.resume_sync() if action == "resume" else flow.undo_sync()
            assert record.outcome is (Outcome.DONE if action == "resume" else Outcome.UNDONE)
            done = action == "resume"
        assert unfinished(site.name, folder=site.journals) == []
        assert neutral(picture(site), done=done) == neutral(run.after if done else run.before, done=done)
        assert leftovers(site.tools(), pending=False) == []
        disks = sum(len(vm.disks) for vm in site.tools().nodes.vms() if vm.running)
        assert disks == 3 * running(run, done=done) + case.lent[0 if done else 1]
        sound(lab, case.vm, rows=dict.fromkeys(DATABASES, case.rows[0] if done else case.rows[1]))
    blocks_sound(lab)


def running(run: Course, *, done: bool) -> int:
    """How many VMs run then."""
    return [state for _, _, state in (run.after if done else run.before).vms].count("Running")


def unmarked(seen: Picture) -> Picture:
    """A picture without what each run's names have of their own; identities of mounted disks come from their names."""
    found: Picture = msgspec.json.decode(_MARK.sub("", msgspec.json.encode(seen).decode()), type=Picture)
    disks = [("" if _MOUNTED.search(paths) else disk, offline, paths) for disk, offline, paths in found.disks]
    return replace(found, disks=tuple(sorted(disks)))


def neutral(seen: Picture, *, done: bool) -> Picture:
    """A picture without what may differ between two good runs: marks, and time stamps of another second."""
    seen = unmarked(seen)
    if not done:
        return seen
    return Picture(
        vms=tuple((name, "", state) for name, _, state in seen.vms),
        volumes=seen.volumes,
        luns=seen.luns,
        snapshots=tuple(sorted(copy.split("_0")[0] for copy in seen.snapshots)),
        disks=tuple(sorted(("", offline, paths) for _, offline, paths in seen.disks)),
        backups=tuple(name.split("_")[0] for name in seen.backups),
        partial=seen.partial,
    )


def points(run: Course) -> list[tuple[int, Phase]]:
    """Every place where the process can be killed."""
    return [(number, phase) for number in range(len(run.steps)) for phase in (Phase.BEFORE, Phase.AFTER)]


def telling_points(run: Course) -> list[tuple[int, Phase]]:
    """The places of which no two are the same: before the first request of each step, and after each change.

    Nothing differs for those who look later between these: a read leaves no trace, and before a request everything is
    as after the one before it in the same step.
    """
    first = [n for n, name in enumerate(run.steps) if n == 0 or name != run.steps[n - 1]]
    after = [(n, Phase.AFTER) for n, changes in enumerate(run.changes) if changes]
    return sorted([*((n, Phase.BEFORE) for n in first), *after], key=lambda point: point[0])


@pytest.mark.parametrize("name", CASES)
def test_killed_at_a_sample_of_requests(ready: labs.Lab, name: str) -> None:
    """Every neighbour of the point of no return and a seeded twentieth of all requests: nothing lost or left over."""
    case = CASES[name]
    run = course(ready, case)
    near = [p for p in points(run) if run.pivot - 1 <= p[0] <= run.pivot] if run.pivot < len(run.steps) else []
    everything = points(run)
    sample = random.Random(f"kills/{name}").sample(everything, max(3, len(everything) // 20))
    killed = 0
    for number, (request, phase) in enumerate(list(dict.fromkeys([*near, *sample]))[: case.most]):
        if kill_at(ready, case, request, phase):
            mend(ready, case, run, prefer=("undo", "resume")[number % 2])
            killed += 1
    assert killed


def kill_within(lab: labs.Lab, case: Case, title: str, monkeypatch: pytest.MonkeyPatch, *, nth: int = 1) -> None:
    """Kill the run while the host works on a command: it has been sent, and nobody hears of its end.

    ``nth``: of the commands of that title the how manieth.
    """
    made_ready(lab, case)
    site = smhvlab.site.connect(lab.profile)
    flow = case.make(site)
    poll = Session.poll
    begun: list[object] = []

    def deaf(session: Session, pipeline: object, sent: Sent) -> bool:
        if sent.title == title and pipeline not in begun:
            begun.append(pipeline)
        if sent.title == title and len(begun) == nth:
            session.forget()  # a dead process closes nothing on the host
            raise Killed
        return poll(session, pipeline, sent)

    with monkeypatch.context() as patched:
        patched.setattr(Session, "poll", deaf)
        with pytest.raises(Killed):
            flow.run_sync()
    site.close()


@pytest.mark.parametrize("prefer", ["undo", "resume"])
@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("provision", "Rename-Item"),
        ("provision", "New-VM"),
        ("provision", "Get-VM | Start-VM"),
        ("clone", "Get-VM | Stop-VM"),
        ("clone", "Get-VM | Remove-VM"),
        ("clone", "Import-VM"),
        ("copy", "Add-PartitionAccessPath"),
        ("copy", "Copy-Item"),
    ],
)
def test_killed_while_the_host_works(
    ready: labs.Lab, name: str, title: str, prefer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The host goes on with the command of a dead process; the doctor looks when that has ended, not before."""
    case = CASES[name]
    run = course(ready, case)
    kill_within(ready, case, title, monkeypatch)
    mend(ready, case, run, prefer=prefer)
    with smhvlab.site.connect(ready.profile) as site:
        mended = picture(site)
        ready.clock.advance(600)
        assert picture(site) == mended


@pytest.mark.long
@pytest.mark.parametrize("prefer", ["undo", "resume"])
@pytest.mark.parametrize("name", CASES)
def test_killed_at_every_request(ready: labs.Lab, name: str, prefer: str) -> None:
    """Before and after the effect of every single request, mended by undo and by resume: nothing lost or left over."""
    case = CASES[name]
    run = course(ready, case)
    missed = 0
    for request, phase in telling_points(run):
        if kill_at(ready, case, request, phase):
            mend(ready, case, run, prefer=prefer)
        else:
            missed += 1
    assert missed <= LAST_LOOKS


def test_a_journal_names_what_the_doctor_may_do(ready: labs.Lab, tmp_path: Path) -> None:
    """Before the point of no return a killed restore may be undone or resumed, after it only resumed."""
    case = CASES["clone"]
    run = course(ready, case)
    allowed = []
    for request in (run.pivot - 1, run.pivot):
        assert kill_at(ready, case, request, Phase.AFTER)
        with smhvlab.site.connect(ready.profile) as site:
            (entry,) = unfinished(site.name, folder=site.journals)
            allowed.append(set(entry.allowed))
        mend(ready, case, run, prefer="resume")
    assert allowed == [{"undo", "resume"}, {"resume"}]
