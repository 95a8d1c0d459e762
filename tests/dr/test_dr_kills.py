"""The process is killed in a disaster recovery flow; a new one asks the doctor, and no row is lost."""

from __future__ import annotations

import random
import re
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from importlib.resources import files
from pathlib import Path

import pytest
import tomli_w

from labenv import lab as labs
from smhvlab.doctor import reopen, unfinished
from smhvlab.dr.sites import SitePair, connect_pair
from smhvlab.errors import SmhvLabError
from smhvlab.flow import Flow
from smhvlab.record import Outcome
from smhvlab.site import Site
from smhvlab.wires.control import Phase, WireRequest
from tests.dr.scene import BACK, DOWN, backup, kill_primary, revive_primary
from tests.flows.checks import Picture, picture

VM, DATABASE = "sql01", "aa1"
ARRAYS_OWN = re.compile(":(snapmirror|hourly|daily|weekly)[.]")
"""Snapshot copies that nobody but the array makes."""

RUNS_OWN = re.compile(
    r"(?<=\d\d_\d\d_\d\d)_[0-9a-f]{6}(?![0-9a-f])|[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
)
"""What is another in each run of a flow: the mark in its names, and identities of what has these names."""

LEFT_OUT = 2
"""Points that two runs of one flow may not have in common: looks at what starts, and at transfers."""


class Killed(BaseException):
    """The process ends here: nothing in the product may handle this."""


@dataclass(frozen=True)
class Case:
    """A flow, the checkpoint that it starts from, and what holds when it is done.

    Attributes:
        start: name of the checkpoint that it starts from.
        site: which site it runs on.
        rows: of the database, on the first site that runs the VM, when the flow is done and when it was undone; None:
            none runs it.
        states: of the relationships that end at each site, when it is done.
    """

    name: str
    site: str
    make: Callable[[SitePair], object]
    accept: frozenset[str]
    rows: tuple[int | None, int | None]
    states: tuple[set[str], set[str]]
    start: str

    def flow(self, pair: SitePair) -> Flow[object]:
        """The flow, not yet run."""
        return self.make(pair)  # type: ignore[return-value]


def _case(
    name: str,
    make: Callable[[Site], object],
    rows: tuple[int | None, int | None],
    states: tuple[set[str], set[str]],
    *accept: str,
    site: str = "secondary",
    start: str = "",
) -> Case:
    return Case(name, site, lambda pair: make(getattr(pair, site)), frozenset(accept), rows, states, start or name)


MIRRORED, BROKEN, NONE = {"snapmirrored"}, {"uninitialized"}, set[str]()
"""States of relationships; ``BROKEN`` is what era 2012 makes of one whose volume holds one LUN (TR 8)."""

CASES = {
    case.name: case
    for case in (
        _case("protect", lambda site: site.dr.protect(), (10, 10), (NONE, MIRRORED), site="primary"),
        _case("rehearse", lambda site: site.dr.rehearse(), (10, 10), (NONE, MIRRORED)),
        _case("migrate", lambda site: site.dr.migrate("All"), (None, 10), (NONE, MIRRORED), site="primary"),
        _case("snapinfo", lambda site: site.dr.connect_snapinfo(), (None, None), (NONE, MIRRORED | BROKEN), *DOWN),
        _case("failover", lambda site: site.dr.failover(), (10, None), (NONE, BROKEN), *DOWN),
        _case(
            "failover as today",
            lambda site: site.dr.failover(manner="today"),
            (10, None),
            (NONE, BROKEN | {"broken_off"}),
            *DOWN,
            start="failover",
        ),
        _case("copies", lambda site: site.dr.rehearse(copies=True), (15, 15), (NONE, BROKEN)),
        _case("reverse", lambda site: site.dr.reverse(), (15, 30), (MIRRORED, BROKEN), *BACK),
        _case("failback", lambda site: site.dr.failback(), (15, 15), (NONE, BROKEN), "downtime", site="primary"),
        _case("normal", lambda site: site.dr.return_to_normal(), (15, None), (NONE, MIRRORED), "give-up"),
    )
}


@dataclass(frozen=True)
class Point:
    """A place to kill: the n-th request of that kind in a step, before or after its effect."""

    step: str
    title: str
    nth: int
    phase: Phase


@dataclass(frozen=True)
class Course:
    """An undisturbed run: its points, how many of them lie before the point of no return, and the sites before it."""

    points: tuple[Point, ...]
    undoable: frozenset[str]
    before: tuple[Picture | None, Picture | None]


def small(folder: Path) -> Path:
    """The topology ``dr-pair`` with one VM that has one disk and one database."""
    tables = tomllib.loads((files("labenv") / "topologies" / "dr-pair.toml").read_text("utf-8"))
    tables["vm"] = tables["vm"][:1]
    tables["disk"] = [disk for disk in tables["disk"] if disk["volume"] != "vm_shared"]
    tables["golden"]["vhd"] = tables["golden"]["vhd"][:1]
    tables["golden"]["database"] = tables["golden"]["database"][:1]
    file = folder / "small.toml"
    file.write_text(tomli_w.dumps(tables), "utf-8")
    return file


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Iterator[labs.Lab]:
    """A lab with a checkpoint before each flow of one disaster."""
    folder = tmp_path_factory.mktemp("dr")
    with labs.start(str(small(folder)), state=folder / "lab") as lab:
        with connect_pair(lab.profile) as pair:
            pair.primary.create_dataset("All", [VM])
            pair.primary.tools().sql.insert(VM, DATABASE, 10)
            lab.checkpoint("protect")
            CASES["protect"].flow(pair).run_sync()
            backup(pair)
            for name in ("rehearse", "migrate"):
                lab.checkpoint(name)
            pair.primary.tools().sql.insert(VM, DATABASE, 20)
            kill_primary(lab)
            for name in ("snapinfo", "failover"):
                lab.checkpoint(name)
                CASES[name].flow(pair).run_sync(accept=CASES[name].accept)
            pair.secondary.tools().sql.insert(VM, DATABASE, 5)
            lab.checkpoint("copies")
            revive_primary(lab)
            for name in ("reverse", "failback", "normal"):
                lab.checkpoint(name)
                CASES[name].flow(pair).run_sync(accept=CASES[name].accept)
        yield lab
        assert lab.status()["failures"] == []


def states(pair: SitePair) -> tuple[set[str], set[str]]:
    """States of the relationships that end at each site that answers."""
    found = []
    for site in (pair.primary, pair.secondary):
        try:
            table = site.mirrors()
        except SmhvLabError:
            found.append(set())
            continue
        found.append(set(table[table["direction"] == "in"]["state"]))
    return found[0], found[1]


def pictures(pair: SitePair) -> tuple[Picture | None, Picture | None]:
    """Both sites as far as they answer, but for what a transfer has brought or left: nobody takes that back."""
    found: list[Picture | None] = []
    for site in (pair.primary, pair.secondary):
        try:
            seen, table = picture(site), site.mirrors()
        except SmhvLabError:
            found.append(None)
            continue
        ends = {end.partition(":")[2] for end in table[table["direction"] == "in"]["destination"]}
        own = [copy for copy in seen.snapshots if copy.partition(":")[0] not in ends and not ARRAYS_OWN.search(copy)]
        found.append(replace(seen, snapshots=tuple(own)))
    return found[0], found[1]


def differences(before: Sequence[Picture | None], after: Sequence[Picture | None]) -> list[str]:
    """What is not as it was."""
    found = []
    for name, one, other in zip("AB", before, after, strict=True):
        parts = () if one is None or other is None else fields(one)
        found += [f"site {name} answers: {other is not None}"] if (one is None) != (other is None) else []
        for part in parts:
            old, new = getattr(one, part.name), getattr(other, part.name)
            found += [f"{name}: {part.name} lacks {x}" for x in old if x not in new]
            found += [f"{name}: {part.name} has {x}" for x in new if x not in old]
    return found


def kind(request: WireRequest) -> str:
    """A request's title, as it is in every run."""
    return RUNS_OWN.sub("", request.title)


def course(lab: labs.Lab, case: Case) -> Course:
    """Run the flow to its end and take note of where it can be killed.

    Each request that changes something is a point after its effect; a step's first one, or the first of a step that
    only reads, is one before it too. What lies between leaves the sites and the journal as the point before it does.
    """
    lab.restore(case.start)
    seen: list[tuple[str, WireRequest]] = []
    armed = False

    def seam(request: WireRequest, now: Phase) -> None:
        step = pairs[0].primary.control.step if armed else ""
        if step and now is Phase.BEFORE:
            seen.append((step, request))

    with connect_pair(lab.profile, seam=seam) as pair:
        pairs = [pair]
        before = pictures(pair)
        flow = case.flow(pair)
        steps = [step.name for step in flow.steps()]
        pivot = next((i for i, step in enumerate(flow.steps()) if step.pivot), len(steps))
        armed = True
        flow.run_sync(accept=case.accept)
        armed = False
    counts: Counter[tuple[str, str]] = Counter()
    begun: set[str] = set()
    points = []
    for step, request in seen:
        nth = counts[step, kind(request)]
        counts[step, kind(request)] += 1
        only_reads = all(other.reads for name, other in seen if name == step)
        if step not in steps or (request.reads and not only_reads):
            continue
        if step not in begun:
            points.append(Point(step, kind(request), nth, Phase.BEFORE))
        if not request.reads:
            points.append(Point(step, kind(request), nth, Phase.AFTER))
        begun.add(step)
    return Course(tuple(points), frozenset(steps[:pivot]), before)


def kill_at(lab: labs.Lab, case: Case, point: Point) -> bool:
    """Kill the run at a point; False: it did not come by there."""
    lab.restore(case.start)
    for journal in (lab.state / "journals").rglob("*.jsonl"):
        journal.unlink()
    armed = False
    seen: list[WireRequest] = []  # requests overlap: a wave is sent before the first of it is answered

    def seam(request: WireRequest, now: Phase) -> None:
        if not armed or pairs[0].primary.control.step != point.step or kind(request) != point.title:
            return
        if now is Phase.BEFORE:
            seen.append(request)
        if now is point.phase and len(seen) > point.nth and request is seen[point.nth]:
            raise Killed

    with connect_pair(lab.profile, seam=seam) as pair:
        pairs = [pair]
        flow = case.flow(pair)
        armed = True
        try:
            flow.run_sync(accept=case.accept)
        except Killed:
            return True
        finally:
            armed = False
        return False


def mend(lab: labs.Lab, case: Case, run: Course, *, prefer: str) -> None:
    """What a new process finds, and what the doctor makes of it: all of the flow, or nothing of it."""
    with connect_pair(lab.profile) as pair:
        site = getattr(pair, case.site)
        (entry,) = unfinished(site.name, folder=site.journals)
        action = prefer if prefer in entry.allowed else entry.allowed[0]
        flow = reopen(site, entry.run, folder=site.journals)
        record = flow.resume_sync() if action == "resume" else flow.undo_sync()
        done = action == "resume"
        assert record.outcome is (Outcome.DONE if done else Outcome.UNDONE)
        assert unfinished(site.name, folder=site.journals) == []
        if done:
            assert states(pair) == case.states
        else:
            changed = differences(run.before, pictures(pair))
            assert not changed, f"after the undo {'; '.join(changed)}"
        wanted = case.rows[0 if done else 1]
        if wanted is None:
            assert lab.status()["vms"][VM] != "Running"
        else:
            check = lab.guest(VM).checkdb(DATABASE)
            assert (check["ok"], check["rows"]) == (True, wanted)
    assert lab.inspect.check() == []


def sweep(lab: labs.Lab, case: Case, run: Course, points: Sequence[Point]) -> int:
    """Kill at points; before the point of no return each is undone and resumed, behind it resumed.

    Returns how many the run did not come by. Raises AssertionError with all that did not end well.
    """
    missed, failed = 0, []
    for point in points:
        for prefer in ("undo", "resume") if point.step in run.undoable else ("resume",):
            if not kill_at(lab, case, point):
                missed += 1
                continue
            try:
                mend(lab, case, run, prefer=prefer)
            except (AssertionError, SmhvLabError) as error:
                failed.append(f"{point}, then {prefer}: {error}")
    assert not failed, "\n".join(failed)
    return missed


@pytest.mark.parametrize("name", ["failover", "failback", "rehearse", "copies"])
def test_killed_at_a_seeded_sample_of_points(ready: labs.Lab, name: str) -> None:
    """Beside the point of no return and at a seeded other place: every ledger is whole, every mirror in its state."""
    case = CASES[name]
    run = course(ready, case)
    beyond = [point for point in run.points if point.step not in run.undoable][:1]
    sample = random.Random(f"dr/{name}").sample(run.points, 1)
    assert sweep(ready, case, run, [*beyond, *sample]) == 0


@pytest.mark.long
@pytest.mark.parametrize("name", CASES)
def test_killed_at_every_point(ready: labs.Lab, name: str) -> None:
    """After each effect of a flow and before each step's first: undone or resumed, nothing is lost or left over."""
    case = CASES[name]
    run = course(ready, case)
    assert len(run.points) > LEFT_OUT
    assert sweep(ready, case, run, run.points) <= LEFT_OUT
