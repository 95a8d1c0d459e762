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
