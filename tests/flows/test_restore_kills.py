"""Restores of application-consistent backups and disks that are hot-added, killed: nothing is lost or left over."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

import smhvlab.site
from labenv import lab as labs
from smhvlab.site import Site
from tests.flows.test_kills import (
    DATABASES,
    LAST_LOOKS,
    Case,
    course,
    kill_at,
    kill_within,
    mend,
    newest,
    restore,
    telling_points,
)


def mounted(site: Site) -> None:
    """The backup of app01 at M:."""
    site.mount(newest(site), lun="app01", at="X:").run_sync()


def lent(site: Site) -> None:
    """A disk of it in web01."""
    mounted(site)
    site.hot_add("X:", "app01", to="web01", disk=1).run_sync()


CASES = {
    case.name: case
    for case in (
        Case("clone", lambda site: restore(site, "sql01"), "sql01", (100, 600)),
        Case("copy", lambda site: restore(site, "app01"), "app01", (100, 600)),
        Case(
            "hot-add",
            lambda site: site.hot_add("X:", "app01", to="web01", disk=1),  # type: ignore[arg-type, return-value]
            "web01",
            (0, 0),
            prepare=mounted,
            lent=(1, 0),
        ),
        Case("detach", lambda site: site.detach("X:"), "web01", (0, 0), prepare=lent, lent=(0, 1)),  # type: ignore[arg-type, return-value]
    )
}
ERAS = ("2012", "2022")
"""One in which the image is a clone beside the LUN, one in which it lies below the leaf of a checkpoint."""


@pytest.fixture(scope="module")
def _ready(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, labs.Lab]]:
    made: dict[str, labs.Lab] = {}
    yield made
    for lab in made.values():
        lab.down()


@pytest.fixture
def ready(
    request: pytest.FixtureRequest, _ready: dict[str, labs.Lab], tmp_path_factory: pytest.TempPathFactory
) -> labs.Lab:
    """A lab of an era with an application-consistent backup of two VMs and newer rows; kept as a checkpoint."""
    era: str = request.param
    if era not in _ready:
        lab = labs.start(f"standalone-{era}", state=tmp_path_factory.mktemp("kills") / "lab")
        _ready[era] = lab
        with smhvlab.site.connect(lab.profile) as site:
            site.create_dataset("Both", ["sql01", "app01"])
            for rows in (100, 500):
                for vm in ("sql01", "app01"):
                    for database in DATABASES:
                        site.tools().sql.insert(vm, database, rows)
                if rows == 100:
                    site.backup("Both").run_sync()
        lab.checkpoint("ready")
    return _ready[era]


@pytest.mark.parametrize("ready", ["2022"], indirect=True)
def test_a_restore_killed_before_and_after_its_point_of_no_return(ready: labs.Lab) -> None:
    """Resumed, the VM runs from the disks of the backup, not from the leaves of the backup's checkpoint."""
    case = CASES["clone"]
    run = course(ready, case)
    found = [point for point in telling_points(run) if point[0] > run.pivot]
    killed = 0
    for request, phase in random.Random("application kills").sample(found, 2):
        if kill_at(ready, case, request, phase):
            mend(ready, case, run, prefer="resume")
            killed += 1
    assert killed


@pytest.mark.long
@pytest.mark.parametrize("prefer", ["undo", "resume"])
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("ready", ERAS, indirect=True)
def test_killed_at_every_request(ready: labs.Lab, name: str, prefer: str) -> None:
    """Before each step and after the effect of every change, mended by undo and by resume: nothing is left over."""
    case = CASES[name]
    run = course(ready, case)
    missed = 0
    for request, phase in telling_points(run):
        if kill_at(ready, case, request, phase):
            mend(ready, case, run, prefer=prefer)
        else:
            missed += 1
    assert missed <= LAST_LOOKS


@pytest.mark.long
@pytest.mark.parametrize("prefer", ["undo", "resume"])
@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("clone", "Get-VMSnapshot | Restore-VMSnapshot"),
        ("clone", "Get-VMSnapshot | Remove-VMSnapshot"),
        ("copy", "Get-VMSnapshot | Restore-VMSnapshot"),
    ],
)
@pytest.mark.parametrize("ready", ["2022"], indirect=True)
def test_killed_while_the_checkpoint_is_applied(
    ready: labs.Lab, name: str, title: str, prefer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The host goes on with the command of a dead process; the VM never starts from the leaves."""
    case = CASES[name]
    run = course(ready, case)
    kill_within(ready, case, title, monkeypatch)
    mend(ready, case, run, prefer=prefer)
