"""Sizes are told in the unit that fits."""

from __future__ import annotations

import pytest

from smhvlab.sizes import readable


@pytest.mark.parametrize(
    ("size", "told"),
    [
        (0, "0 bytes"),
        (1, "1 byte"),
        (1023, "1023 bytes"),
        (1024, "1 KiB"),
        (1536, "1.5 KiB"),
        ((1 << 20) - 1, "1 MiB"),
        (20 << 30, "20 GiB"),
        (5 << 50, "5 PiB"),
        (5 << 60, "5120 PiB"),
    ],
)
def test_the_largest_unit_of_which_there_is_one(size: int, told: str) -> None:
    """One digit behind the point, none if it is a whole number."""
    assert readable(size) == told
