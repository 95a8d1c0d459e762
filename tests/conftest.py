"""One lab per test worker; every test that asks for it begins with the fresh site."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import smhvlab.site
from labenv import lab as labs
from smhvlab.site import Site


@pytest.fixture(scope="session")
def _standalone() -> Iterator[labs.Lab]:
    with labs.start("standalone") as lab:
        yield lab


@pytest.fixture
def lab(_standalone: labs.Lab) -> Iterator[labs.Lab]:
    """A lab of the topology ``standalone`` as it was when it was first started."""
    _standalone.restore("fresh")
    yield _standalone
    status = _standalone.status()
    assert status["failures"] == [], "the lab itself failed during this test"


@pytest.fixture
def site(lab: labs.Lab) -> Iterator[Site]:
    """The site of that lab, over both real wires."""
    with smhvlab.site.connect(lab.profile) as connected:
        yield connected


@pytest.fixture(scope="session")
def _cluster() -> Iterator[labs.Lab]:
    with labs.start("two-node-cluster") as lab:
        yield lab


@pytest.fixture
def cluster_lab(_cluster: labs.Lab) -> Iterator[labs.Lab]:
    """A lab of the topology ``two-node-cluster`` as it was when it was first started."""
    _cluster.restore("fresh")
    yield _cluster
    assert _cluster.status()["failures"] == [], "the lab itself failed during this test"


@pytest.fixture
def cluster_site(cluster_lab: labs.Lab) -> Iterator[Site]:
    """The site of that lab: a failover cluster of two hosts."""
    with smhvlab.site.connect(cluster_lab.profile) as connected:
        yield connected
