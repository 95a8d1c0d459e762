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


@pytest.fixture(scope="session")
def _cluster_2012(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    made = Bench(tmp_path_factory.mktemp("vsscluster"), "2012", source="cluster.toml")
    yield made
    made.close()


@pytest.fixture
def cluster(_cluster_2012: Bench) -> Iterator[Bench]:
    """Two nodes of Windows Server 2012 with shared volumes."""
    _cluster_2012.restore()
    yield _cluster_2012
    assert _cluster_2012.site.failures == []


@pytest.fixture(scope="session")
def _cluster_2008(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    made = Bench(tmp_path_factory.mktemp("vsscluster1"), "2008r2", source="cluster.toml")
    yield made
    made.close()


@pytest.fixture
def old_cluster(_cluster_2008: Bench) -> Iterator[Bench]:
    """Two nodes of Windows Server 2008 R2 with shared volumes of version 1."""
    _cluster_2008.restore()
    yield _cluster_2008
    assert _cluster_2008.site.failures == []


@pytest.fixture(scope="session")
def _cluster_2022(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    made = Bench(tmp_path_factory.mktemp("vsscluster2022"), "2022", source="cluster.toml")
    yield made
    made.close()


@pytest.fixture
def cluster_today(_cluster_2022: Bench) -> Iterator[Bench]:
    """Two nodes of today's Windows Server with shared volumes."""
    _cluster_2022.restore()
    yield _cluster_2022
    assert _cluster_2022.site.failures == []
