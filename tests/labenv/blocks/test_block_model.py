"""The block store does what a plain model does."""

from __future__ import annotations

from pathlib import Path

import block_model
import pytest


@pytest.mark.parametrize("seed", [10, 24, 25, 47])
def test_random_walk(tmp_path: Path, seed: int) -> None:
    """Random operations, crashes and restores give the model's bytes, and every count is right."""
    block_model.run(tmp_path, seed, steps=700, every=50)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(1000, 1060))
def test_long_random_walk(tmp_path: Path, seed: int) -> None:
    """The same for many more walks."""
    block_model.run(tmp_path, seed, steps=2000, every=50)
