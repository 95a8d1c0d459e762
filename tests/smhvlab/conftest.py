"""What all tests of the toolkit share. (This file also puts its folder on the path: helpers are imported by name.)"""

from __future__ import annotations

from pathlib import Path

import pytest
from toy_site import ToySite, World


@pytest.fixture(autouse=True)
def _state_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test keeps its journals to itself."""
    monkeypatch.setenv("SMHVLAB_STATE", str(tmp_path / "state"))


@pytest.fixture
def site() -> ToySite:
    """A toy site with a world of its own."""
    return ToySite(World())
