"""One lab of two sites per test worker; every test begins with the fresh sites."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from labenv import lab as labs
from smhvlab.dr.sites import SitePair, connect_pair


@pytest.fixture(scope="session")
def _pair_lab() -> Iterator[labs.Lab]:
    with labs.start("dr-pair") as lab:
        yield lab


@pytest.fixture
def lab(_pair_lab: labs.Lab) -> Iterator[labs.Lab]:
    """A lab of the topology ``dr-pair`` as it was when it was first started."""
    _pair_lab.restore("fresh")
    yield _pair_lab
    assert _pair_lab.status()["failures"] == [], "the lab itself failed during this test"


@pytest.fixture
def pair(lab: labs.Lab) -> Iterator[SitePair]:
    """Both sites of that lab, over both real wires."""
    with connect_pair(lab.profile) as connected:
        yield connected
