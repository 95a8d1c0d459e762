"""Helpers beside the tests are imported by name; a store for each test."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from block_bench import Bench


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A store with the aggregate "aggr" of 1 GiB; whatever a test does to it, its counts must be right at the end."""
    bench = Bench(tmp_path)
    yield bench
    assert bench.store.check() == []
    bench.stop()
