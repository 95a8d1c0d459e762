"""Sizes are told in the unit that fits."""

from __future__ import annotations

import pytest

from smhvlab.sizes import shown


@pytest.mark.parametrize(
    ("size", "told"),
    [
        (0, "0 bytes"),
        (1, "1 byte"),
        (1023, "1023 bytes"),
        (1024, "1 KB"),
        (1536, "1.5 KB"),
        ((1 << 20) - 1, "1 MB"),
        (20 << 30, "20 GB"),
        (5 << 50, "5 PB"),
        (5 << 60, "5120 PB"),
    ],
)
def test_the_largest_unit_of_which_there_is_one(size: int, told: str) -> None:
    """One digit behind the point, none if it is a whole number."""
    assert shown(size) == told
