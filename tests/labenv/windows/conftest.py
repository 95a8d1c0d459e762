"""Benches that end with their test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .bench import Bench


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A host of today's era."""
    made = Bench(tmp_path)
    yield made
    made.close()


@pytest.fixture
def old_bench(tmp_path: Path) -> Iterator[Bench]:
    """A host of the TR's era."""
    made = Bench(tmp_path, era="2012")
    yield made
    made.close()
