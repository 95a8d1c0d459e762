"""Clusters that end with their test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

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
