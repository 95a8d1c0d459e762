"""Clusters that end with their test."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from labenv import lab as labs
from smhvlab.errors import SmhvLabError
from smhvlab.profile import from_endpoints
from smhvlab.secrets import Secrets
from smhvlab.wires.log import WireLog
from smhvlab.wires.powershell import PowerShellWire
from smhvlab.wires.records import Record

from .bench import ClusterBench

Make = Callable[..., ClusterBench]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Makes clusters; a new one over the folder of an old one is a restart of the lab."""
    made: list[ClusterBench] = []

    def build(**options: object) -> ClusterBench:
        made.append(ClusterBench(tmp_path, **options))  # type: ignore[arg-type]
        return made[-1]

    yield build
    made[-1].close()


@pytest.fixture
def bench(make: Make) -> ClusterBench:
    """Two nodes of Windows Server 2012."""
    return make()


@dataclass
class Lab:
    """A lab of two nodes with one wire to each."""

    lab: labs.Lab
    wires: dict[str, PowerShellWire]

    def run(self, node: str, name: str, **parameters: object) -> list[Record]:
        """A cmdlet on a node."""
        return list(self.wires[node].run(name, parameters))

    def show(self, node: str, name: str, item: str, **parameters: object) -> object:
        """One property of the only object that a cmdlet gives."""
        (found,) = self.run(node, name, **parameters)
        return found[item]


def open_wires(lab: labs.Lab) -> dict[str, PowerShellWire]:
    """A wire to each host of a lab."""
    profile = from_endpoints(lab.profile)
    secrets = Secrets(profile)
    return {h.name: PowerShellWire(h, secrets.of(h), log=WireLog()) for h in profile.hyperv}


@pytest.fixture(scope="session")
def _two_nodes() -> Iterator[labs.Lab]:
    with labs.start("two-node-cluster") as lab:
        yield lab


@pytest.fixture
def lab(_two_nodes: labs.Lab) -> Iterator[Lab]:
    """A lab of the topology ``two-node-cluster`` as it was when it was first started."""
    _two_nodes.restore("fresh")
    wires = open_wires(_two_nodes)
    yield Lab(_two_nodes, wires)
    for wire in wires.values():
        with contextlib.suppress(SmhvLabError):
            wire.close()
    assert _two_nodes.status()["failures"] == [], "the lab itself failed during this test"
    assert _two_nodes.inspect.check() == []
