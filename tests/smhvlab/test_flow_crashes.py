"""A process may die anywhere: every run can be finished or taken back by the next one."""

from __future__ import annotations

import copy
import os
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from toy_site import Kill, PivotFlow, ToyError, ToyFlow, ToySite, World, fail_at, goal

from smhvlab import record as r
from smhvlab.doctor import Unfinished, reopen, unfinished
from smhvlab.journal import Journal, Mark

# --- crashes at every point


class Points:
    """Counts the places where a process can die, and dies at one of them."""

    def __init__(self) -> None:
        self.passed = 0
        self.deadly: int | None = None

    def __call__(self, where: str) -> None:
        self.passed += 1
        if self.passed == self.deadly:
            self.deadly = None
            raise Kill(where)

    def arm(self, number: int | None) -> None:
        self.passed, self.deadly = 0, number


@pytest.fixture
def points(monkeypatch: pytest.MonkeyPatch) -> Points:
    """Before and after each journal line and each request, in whatever runs next."""
    points = Points()
    write = Journal.write

    def watched(self: Journal, mark: Mark, *args: Any, **more: Any) -> None:
        points(f"before line {mark}")
        write(self, mark, *args, **more)
        points(f"after line {mark}")

    monkeypatch.setattr(Journal, "write", watched)
    monkeypatch.setattr(os, "fsync", lambda _: None)  # these crashes are of processes, not of disks
    return points


Act = Callable[[ToySite], object]


def dies(points: Points, number: int, act: Act, site: ToySite) -> bool:
    """Whether the act was killed at that point. Failures that are part of the act are expected."""
    points.arm(number)
    try:
        act(site)
    except Kill:
        return True
    except ToyError:
        pass
    finally:
        points.arm(None)
    return False


class Universe:
    """A world together with its journals, of which copies can be made."""

    def __init__(self, folder: Path, points: Points, world: World | None = None) -> None:
        self.folder = folder
        self.points = points
        self.world = world or World()

    def fork(self, name: str) -> Universe:
        """A copy of its own, in a folder whose name begins so."""
        folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self.folder.parent))
        if self.folder.exists():
            shutil.copytree(self.folder, folder, dirs_exist_ok=True)
        return Universe(folder, self.points, copy.deepcopy(self.world))

    def site(self) -> ToySite:
        """As a new process sees it."""
        return ToySite(self.world, seam=self.points)

    def found(self) -> list[Unfinished]:
        return unfinished("toy", folder=self.folder)

    def mend(self, action: str) -> None:
        flow = reopen(self.site(), self.found()[0].run, folder=self.folder)
        record = flow.resume_sync() if action == "resume" else flow.undo_sync()
        assert record.outcome is (r.Outcome.DONE if action == "resume" else r.Outcome.UNDONE)


def starter(kind: type[ToyFlow], universe: Universe, *, failing: str = "") -> Act:
    """Run that flow, with one failing request if one is named."""

    def act(site: ToySite) -> None:
        if failing:
            fail = fail_at(failing)

            def seam(where: str) -> None:
                universe.points(where)
                fail(where)

            site.seam = seam
        flow = kind(site, remote=True)
        flow.state_folder = universe.folder
        flow.run_sync()

    return act


def check_after_crash(universe: Universe, kind: type[ToyFlow], where: str) -> Iterator[Universe]:
    """Everything that the doctor allows has to lead to the goal, or back; yields the universes before that."""
    found = universe.found()
    if not found:
        closed = universe.world.things in (set(), goal(kind, remote=True))
        assert closed, f"{where}: no journal tells of {universe.world.things}"
        return
    assert found[0].allowed, where
    for action in found[0].allowed:
        trial = universe.fork(action)
        yield trial.fork(action)
        trial.mend(action)
        wanted = goal(kind, remote=True) if action == "resume" else set()
        assert trial.world.things == wanted, f"{where}, {action}"
        assert trial.found() == []
        if action == "resume":
            assert len(trial.world.made) == len(set(trial.world.made)), "nothing is made twice"


@pytest.mark.parametrize("kind", [ToyFlow, PivotFlow])
def test_a_crash_at_every_point_can_be_mended(kind: type[ToyFlow], tmp_path: Path, points: Points) -> None:
    """Die before and after every line and every effect; a new process finishes the run, or takes it back."""
    number = 0
    while True:
        number += 1
        universe = Universe(tmp_path / "start", points).fork(f"run{number}")
        if not dies(points, number, starter(kind, universe), universe.site()):
            break
        list(check_after_crash(universe, kind, f"point {number}"))
    assert number > 30


@pytest.mark.parametrize("failing", ["before make vol1/copy1", "after make vol2/copy1", "after make info/copy1"])
def test_a_crash_at_every_point_of_an_undo_can_be_mended(failing: str, tmp_path: Path, points: Points) -> None:
    """A failed run dies at every point, its own undo included."""
    number = 0
    while True:
        number += 1
        universe = Universe(tmp_path / "start", points).fork(f"run{number}")
        if not dies(points, number, starter(ToyFlow, universe, failing=failing), universe.site()):
            assert universe.world.things == set()
            break
        list(check_after_crash(universe, ToyFlow, f"point {number}"))
    assert number > 10


def twice(kind: type[ToyFlow], tmp_path: Path, points: Points, first: int, pick: Callable[[int], bool]) -> int:
    """Die at a point, then again at every picked point of the mending, then mend. How often that was."""
    universe = Universe(tmp_path / "start", points).fork("first")
    if not dies(points, first, starter(kind, universe), universe.site()):
        return 0
    tried = 0
    for before in list(check_after_crash(universe, kind, f"point {first}")):
        action = before.folder.name.partition("-")[0]
        second = 0
        while True:
            second += 1
            if not pick(second):
                continue
            again = before.fork("again")
            points.arm(second)
            try:
                again.mend(action)
            except Kill:
                points.arm(None)
            else:
                points.arm(None)
                break
            list(check_after_crash(again, kind, f"points {first} and {second}"))
            tried += 1
    return tried


@pytest.mark.parametrize("kind", [ToyFlow, PivotFlow])
def test_seeded_double_crashes_can_be_mended(kind: type[ToyFlow], tmp_path: Path, points: Points) -> None:
    """The mending dies too, at a seeded choice of points."""
    seeded = random.Random(4004)
    tried = sum(
        twice(kind, tmp_path, points, first, lambda n: n > 60 or seeded.random() < 0.1)
        for first in seeded.sample(range(3, 40), 5)
    )
    assert tried > 5


@pytest.mark.long
@pytest.mark.parametrize("kind", [ToyFlow, PivotFlow])
def test_all_double_crashes_can_be_mended(kind: type[ToyFlow], tmp_path: Path, points: Points) -> None:
    """The mending dies too, at every point."""
    tried = sum(twice(kind, tmp_path, points, first, lambda _: True) for first in range(3, 60))
    assert tried > 300
