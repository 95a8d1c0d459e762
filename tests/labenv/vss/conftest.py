"""Sites that are built once and put back before each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .bench import Bench


@pytest.fixture(scope="session")
def _site_2012(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    made = Bench(tmp_path_factory.mktemp("vss2012"), "2012")
    yield made
    made.close()


@pytest.fixture(scope="session")
def _site_2022(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    made = Bench(tmp_path_factory.mktemp("vss2022"), "2022")
    yield made
    made.close()


@pytest.fixture
def bench(_site_2012: Bench) -> Iterator[Bench]:
    """The site in the TR's era, as it was when it was first started."""
    _site_2012.restore()
    yield _site_2012
    assert _site_2012.site.failures == []


@pytest.fixture
def today(_site_2022: Bench) -> Iterator[Bench]:
    """The site in today's era."""
    _site_2022.restore()
    yield _site_2022
    assert _site_2022.site.failures == []
