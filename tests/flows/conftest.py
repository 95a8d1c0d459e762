"""A site with one backup that the tests of this folder share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

import smhvlab.site
from labenv import lab as labs
from smhvlab.site import Site


@dataclass(frozen=True)
class Stock:
    """A site, its lab, and the name of its backup of sql01 (alone on its LUN) and app01 (on a shared one)."""

    site: Site
    lab: labs.Lab
    backup: str
    databases: tuple[str, ...] = ("aa1", "bb1", "bb2", "bb3")


@pytest.fixture(scope="session")
def _backed_up() -> Iterator[tuple[labs.Lab, str]]:
    with labs.start("standalone") as lab:
        for path in ("E:\\Docs\\letter.txt", "E:\\twice.txt", "F:\\twice.txt"):
            lab.guest("app01").write_file(path, "as it was", flush=True)
        with smhvlab.site.connect(lab.profile) as site:
            site.create_dataset("Set", ["sql01", "app01"])
            name: str = site.backup("Set", consistency="crash").run_sync().result.backup.name
        lab.checkpoint("backed-up")
        yield lab, name


@pytest.fixture
def stock(_backed_up: tuple[labs.Lab, str]) -> Iterator[Stock]:
    """The site as it was right after the backup."""
    lab, name = _backed_up
    lab.restore("backed-up")
    with smhvlab.site.connect(lab.profile) as site:
        yield Stock(site, lab, name)
    assert lab.status()["failures"] == [], "the lab itself failed during this test"


Start = Callable[[str], labs.Lab]


@pytest.fixture(scope="session")
def _started() -> Iterator[dict[str, labs.Lab]]:
    found: dict[str, labs.Lab] = {}
    yield found
    for lab in found.values():
        lab.down()


@pytest.fixture
def start(_started: dict[str, labs.Lab]) -> Iterator[Start]:
    """Starts the lab of a topology, once in the whole run, or puts it back to how it was then."""
    used: list[labs.Lab] = []

    def begin(name: str) -> labs.Lab:
        if name not in _started:
            _started[name] = labs.start(name)
        else:
            _started[name].restore("fresh")
        used.append(_started[name])
        return _started[name]

    yield begin
    for lab in used:
        assert lab.status()["failures"] == []
