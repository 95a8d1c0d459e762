"""Golden images are built once for each journal mode and copied for every test."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from labenv.guest.engine import Journal

from . import rack


@pytest.fixture(scope="session")
def golden_image() -> Callable[[Journal], list[rack.RackDisk]]:
    """Disks of a golden image with databases of a journal mode."""
    built: dict[Journal, list[rack.RackDisk]] = {}

    def image(journal: Journal = Journal.PERSIST) -> list[rack.RackDisk]:
        if journal not in built:
            built[journal] = rack.golden(journal)
        return rack.copies(built[journal])

    return image


@pytest.fixture(params=list(Journal), ids=lambda journal: journal.name)
def journal(request: pytest.FixtureRequest) -> Journal:
    """Each journal mode in turn."""
    mode: Journal = request.param
    return mode


@pytest.fixture
def disks(golden_image: Callable[[Journal], list[rack.RackDisk]], journal: Journal) -> list[rack.RackDisk]:
    """A golden image in each journal mode."""
    return golden_image(journal)


@pytest.fixture
def persist_disks(golden_image: Callable[[Journal], list[rack.RackDisk]]) -> list[rack.RackDisk]:
    """A golden image in the default journal mode."""
    return golden_image(Journal.PERSIST)
