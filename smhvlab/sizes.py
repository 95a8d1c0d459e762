"""Sizes as people read them; tables for programs keep bytes."""

from __future__ import annotations

from typing import Final

_UNITS: Final = ("KiB", "MiB", "GiB", "TiB", "PiB")


def readable(size: int) -> str:
    """A number of bytes in the largest unit of which there is one: ``"312 bytes"``, ``"1.5 GiB"``, ``"20 GiB"``."""
    if abs(size) < 1024:
        return f"{size} byte{'s' if size != 1 else ''}"
    steps = next((n for n in range(1, len(_UNITS)) if abs(size) / 1024**n < 1023.95), len(_UNITS))
    return f"{size / 1024**steps:.1f}".removesuffix(".0") + f" {_UNITS[steps - 1]}"
