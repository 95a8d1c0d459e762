"""The process is killed while storage is prepared: a new one asks the doctor, and nothing is lost or left over."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest

import smhvlab.site
from labenv import lab as labs
from tests.flows.test_bare_storage import BARE, ground
from tests.flows.test_kills import LAST_LOOKS, Case, course, kill_at, mend, points

pytestmark = pytest.mark.filterwarnings("ignore::marshmallow.warnings.ChangedInMarshmallow4Warning")  # netapp-ontap's


def killed(name: str, verb: str, *given: str, most: int = 1000, **more: Any) -> Case:
    """A flow that one of the site's verbs makes; its plan's warnings are accepted."""
    return Case(name, lambda site: getattr(site, verb)(*given, **more), "sql01", (0, 0), accept=ACCEPTED, most=most)


ACCEPTED = frozenset({"witness"})
PREPARE = killed("prepare", "prepare_storage", "gold", **BARE, most=2)
DISK = killed("disk", "create_disk", "vm_shared", size="4GB", lun="two", at="M:", most=1)
GOLDEN = killed("golden", "build_golden", "image2", at="M:")
CSV = killed("csv", "create_disk", "csv1", size="4GB", csv="Volume2")
QUORUM = killed("quorum", "create_disk", "csv1", size="1GB", lun="w", quorum=True)


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Iterator[labs.Lab]:
    """A fresh lab of one host, kept as a checkpoint."""
    with labs.start("standalone", state=tmp_path_factory.mktemp("kills") / "lab") as lab:
        lab.checkpoint("ready")
        yield lab


@pytest.fixture(scope="module")
def emptied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[labs.Lab]:
    """The same with an empty disk for a golden VM."""
    with labs.start("standalone", state=tmp_path_factory.mktemp("kills") / "lab") as lab:
        with smhvlab.site.connect(lab.profile) as site:
            site.prepare_storage("gold", size="60GB").run_sync()
            site.create_disk("gold", size="30GB", at="M:").run_sync()
        lab.checkpoint("ready")
        yield lab


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[labs.Lab]:
    """A fresh lab of a failover cluster, kept as a checkpoint."""
    with labs.start("two-node-cluster", state=tmp_path_factory.mktemp("kills") / "lab") as lab:
        lab.checkpoint("ready")
        yield lab


def below(lab: labs.Lab) -> tuple[object, ...]:
    """What is below the volumes of the lab's site."""
    with smhvlab.site.connect(lab.profile) as site:
        return ground(site)[1]


def mended(
    lab: labs.Lab, case: Case, *, everything: bool = False, prefer: str = "", steps: frozenset[str] = frozenset()
) -> int:
    """Kill at a sample of requests, or at all of them (of some steps), and mend; returns how many were missed."""
    run = course(lab, case)
    after = below(lab)
    lab.restore("ready")
    before = below(lab)
    found = points(run)
    if not everything:
        found = random.Random(f"kills/{case.name}").sample(found, case.most)
    if steps:
        found = [point for point in found if run.steps[point[0]] in steps]
    missed = 0
    for number, (request, phase) in enumerate(found):
        if kill_at(lab, case, request, phase):
            mend(lab, case, run, prefer=prefer or ("undo", "resume")[number % 2])
            assert below(lab) in (before, after), f"request {request}, {phase}"
        else:
            missed += 1
    return missed


@pytest.mark.parametrize("case", [PREPARE, DISK], ids=lambda case: case.name)
def test_killed_at_a_sample_of_requests(ready: labs.Lab, case: Case) -> None:
    """Once undone, once resumed: aggregate, Vserver, LIFs, sessions, LUN, disk and files are all there or all gone."""
    assert mended(ready, case) == 0


@pytest.mark.long
@pytest.mark.parametrize("prefer", ["undo", "resume"])
@pytest.mark.parametrize("case", [PREPARE, DISK], ids=lambda case: case.name)
def test_killed_at_every_request(ready: labs.Lab, case: Case, prefer: str) -> None:
    """Before and after the effect of every request, mended by undo and by resume: nothing lost or left over."""
    assert mended(ready, case, everything=True, prefer=prefer) <= LAST_LOOKS


@pytest.mark.long
@pytest.mark.parametrize("prefer", ["undo", "resume"])
def test_killed_at_every_request_of_a_golden_vm(emptied: labs.Lab, prefer: str) -> None:
    """The image that was looked into is free again; VM, copies and deduplication are all there or all gone."""
    assert mended(emptied, GOLDEN, everything=True, prefer=prefer) <= LAST_LOOKS


@pytest.mark.long
@pytest.mark.parametrize("prefer", ["undo", "resume"])
@pytest.mark.parametrize("case", [CSV, QUORUM], ids=lambda case: case.name)
def test_killed_at_every_request_on_a_cluster(shared: labs.Lab, case: Case, prefer: str) -> None:
    """A shared volume and a witness: resource, group, quorum, LUN and disk are all there or all gone."""
    # the steps before these are those of a dedicated disk
    steps = frozenset({"join", "share", "witness"})
    assert mended(shared, case, everything=True, prefer=prefer, steps=steps) <= LAST_LOOKS
