"""Application-consistent backups killed at their requests, in every engine: nothing lost, nothing left over."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

import smhvlab.site
from labenv import lab as labs
from smhvlab.doctor import reopen, unfinished
from smhvlab.record import Outcome
from smhvlab.site import Site
from tests.flows.checks import Picture, blocks_sound, picture, sound
from tests.flows.test_kills import (
    LAST_LOOKS,
    Case,
    Course,
    course,
    kill_at,
    kill_within,
    neutral,
    points,
    telling_points,
)

VMS = {"standalone": ("sql01", "app01"), "two-node-cluster": ("sql01", "web01")}
CASES = ("standalone-2012", "two-node-cluster-2012", "two-node-cluster-2008r2", "standalone-2022")
"""One for each way to make a backup: a host's set, a distributed set, a set on each node in turn, checkpoints."""
ERAS = (*CASES, "standalone-2008r2", "two-node-cluster-2022")
"""Every era, on a host and on a cluster."""

CASE = Case("application", lambda site: site.backup("Set"), "sql01", (100, 100))  # type: ignore[arg-type, return-value]


@dataclass(frozen=True)
class Everything:
    """What a backup touches besides what every flow does."""

    picture: Picture
    shared: tuple[tuple[str, str, bool], ...]
    checkpoints: int
    types: tuple[str, ...]
    maps: int
    temporary: tuple[str, ...]


def everything(site: Site) -> Everything:
    """The site as it is now."""
    tools = site.tools()
    nodes = tools.nodes.up()
    snapshots = [n.host.run("Get-VMSnapshot", {"VMName": "*"}, error_action="Continue") for n in nodes]
    files = [
        str(record["Name"])
        for node in nodes
        for record in node.host.run("Get-ChildItem", {"LiteralPath": "C:\\Windows\\Temp"}, select=("Name",))
    ]
    return Everything(
        picture=picture(site),
        shared=tuple((v.path, v.owner, v.redirected) for v in tools.nodes.shared_volumes()),
        checkpoints=sum(len(found) for found in snapshots),
        types=tuple(vm.checkpoint_type for vm in tools.nodes.vms()),
        maps=sum(len(names) for names in tools.storage.luns_of_initiators().values()),
        temporary=tuple(sorted(name for name in files if "smhvlab" in name)),
    )


@dataclass(frozen=True)
class Ready:
    """A lab of a case with rows in its databases, and what an undisturbed run does to it."""

    lab: labs.Lab
    run: Course
    before: Everything
    after: Everything


@pytest.fixture(scope="module")
def _ready(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Ready]]:
    made: dict[str, Ready] = {}
    yield made
    for one in made.values():
        one.lab.down()


@pytest.fixture
def ready(request: pytest.FixtureRequest, _ready: dict[str, Ready], tmp_path_factory: pytest.TempPathFactory) -> Ready:
    """The lab of the case that a test names."""
    name: str = request.param
    if name not in _ready:
        lab = labs.start(name, state=tmp_path_factory.mktemp("kills") / "lab")
        vms = VMS[name.rpartition("-")[0]]
        with smhvlab.site.connect(lab.profile) as site:
            site.create_dataset("Set", list(vms))
            for vm in vms:
                for database in lab.guest(vm).databases():
                    lab.guest(vm).insert(database, 100)
            before = everything(site)
        lab.checkpoint("ready")
        run = course(lab, CASE)
        with smhvlab.site.connect(lab.profile) as site:
            _ready[name] = Ready(lab, run, before, everything(site))
    return _ready[name]


def mend(ready: Ready, *, prefer: str) -> None:
    """What a new process finds, and what the doctor makes of it."""
    lab = ready.lab
    with smhvlab.site.connect(lab.profile) as site:
        done = False
        for entry in unfinished(site.name, folder=site.journals):
            action = prefer if prefer in entry.allowed else entry.allowed[0]
            flow = reopen(site, entry.run, folder=site.journals)
            record = flow.resume_sync() if action == "resume" else flow.undo_sync()
            assert record.outcome is (Outcome.DONE if action == "resume" else Outcome.UNDONE)
            done = action == "resume"
        assert unfinished(site.name, folder=site.journals) == []
        seen, wanted = everything(site), ready.after if done else ready.before
        assert neutral(seen.picture, done=done) == neutral(wanted.picture, done=done)
        assert (seen.shared, seen.checkpoints, seen.types) == (wanted.shared, wanted.checkpoints, wanted.types)
        assert (seen.maps, seen.temporary) == (wanted.maps, wanted.temporary)
        assert len(site.tools().snapinfo.backups()) == int(done)
    for vm in ("sql01",):
        sound(lab, vm, rows=dict.fromkeys(lab.guest(vm).databases(), 100))
    blocks_sound(lab)


@pytest.mark.parametrize("ready", CASES, indirect=True)
def test_killed_at_a_sample_of_requests(ready: Ready, request: pytest.FixtureRequest) -> None:
    """A seeded few of all requests, mended by undo and by resume: no orphan, clone or checkpoint, owners are back."""
    sample = random.Random(request.node.name).sample(points(ready.run), 2)
    killed = 0
    for number, (wanted, phase) in enumerate(sample):
        if kill_at(ready.lab, CASE, wanted, phase):
            mend(ready, prefer=("undo", "resume")[number % 2])
            killed += 1
    assert killed


@pytest.mark.parametrize("prefer", ["undo", "resume"])
@pytest.mark.parametrize(
    ("ready", "title"),
    [
        ("two-node-cluster-2008r2", "diskshadow.exe"),
        ("standalone-2022", "Checkpoint-VM"),
        pytest.param("standalone-2022", "Get-VMSnapshot | Remove-VMSnapshot", marks=pytest.mark.long),
        pytest.param("standalone-2012", "diskshadow.exe", marks=pytest.mark.long),
        pytest.param("two-node-cluster-2012", "diskshadow.exe", marks=pytest.mark.long),
        pytest.param("two-node-cluster-2008r2", "Suspend-ClusterResource", marks=pytest.mark.long),
        pytest.param("two-node-cluster-2008r2", "Move-ClusterSharedVolume", marks=pytest.mark.long),
    ],
    indirect=["ready"],
)
def test_killed_while_the_host_works(ready: Ready, title: str, prefer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The host goes on with the command of a dead process; the doctor looks when that has ended, not before."""
    kill_within(ready.lab, CASE, title, monkeypatch, nth=2 if title == "diskshadow.exe" else 1)
    mend(ready, prefer=prefer)


@pytest.mark.long
@pytest.mark.parametrize("prefer", ["undo", "resume"])
@pytest.mark.parametrize("ready", ERAS, indirect=True)
def test_killed_wherever_it_makes_a_difference(ready: Ready, prefer: str) -> None:
    """Before each step and after each change, mended by undo and by resume: nothing lost or left over."""
    missed = 0
    for wanted, phase in telling_points(ready.run):
        if kill_at(ready.lab, CASE, wanted, phase):
            mend(ready, prefer=prefer)
        else:
            missed += 1
    assert missed <= LAST_LOOKS
