"""What all tests of the toolkit share; helpers beside the tests are imported by name."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # pytest's importlib mode does not look there by itself

from toy_site import ToySite, World  # needs the line above


@pytest.fixture(autouse=True)
def _state_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test keeps its journals to itself."""
    monkeypatch.setenv("SMHVLAB_STATE", str(tmp_path / "state"))


@pytest.fixture
def site() -> ToySite:
    """A toy site with a world of its own."""
    return ToySite(World())
