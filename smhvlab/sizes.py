"""Sizes as people write and read them: 40GB, 1.5TB; units of 1024, as ONTAP and Windows count."""

from __future__ import annotations

import re
from typing import Final

from smhvlab.errors import NotAllowed

_UNITS: Final = ("KB", "MB", "GB", "TB", "PB")
_BITS: Final = {unit: 10 * number for number, unit in enumerate(_UNITS, 1)}
_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(MB|GB|TB)")


def size_of(text: str, *, what: str) -> int:
    """Bytes of a size such as ``40GB``; ``what`` it is the size of, for the refusal. Raises NotAllowed."""
    found = _SIZE.fullmatch(text.strip().upper())
    size = int(float(found[1]) * (1 << _BITS[found[2]])) if found else 0
    if size <= 0:
        raise NotAllowed(
            f"{text!r} is no size of {what}", next_action="Write a number with MB, GB or TB, e.g. 40GB.", tr="2.2"
        )
    return size // 4096 * 4096


def shown(size: int) -> str:
    """A number of bytes in the largest unit of which there is one: ``"312 bytes"``, ``"1.5 GB"``, ``"20 GB"``."""
    if size < 1024:
        return f"{size} byte{'s' if size != 1 else ''}"
    steps = next((n for n in range(1, len(_UNITS)) if size / 1024**n < 1023.95), len(_UNITS))
    return f"{size / 1024**steps:.1f}".removesuffix(".0") + f" {_UNITS[steps - 1]}"
