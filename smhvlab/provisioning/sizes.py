"""Sizes as people write them: 40GB, 1.5TB; units of 1024, as ONTAP and Windows count."""

from __future__ import annotations

import re

from smhvlab.errors import NotAllowed

_UNITS = {"MB": 20, "GB": 30, "TB": 40}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(MB|GB|TB)")


def size_of(text: str, *, what: str) -> int:
    """Bytes of a size such as ``40GB``; ``what`` it is the size of, for the refusal. Raises NotAllowed."""
    found = _SIZE.fullmatch(text.strip().upper())
    size = int(float(found[1]) * (1 << _UNITS[found[2]])) if found else 0
    if size <= 0:
        raise NotAllowed(
            f"{text!r} is no size of {what}", next_action="Write a number with MB, GB or TB, e.g. 40GB.", tr="2.2"
        )
    return size // 4096 * 4096


def shown(size: int) -> str:
    """A number of bytes as people write it."""
    for unit, bits in (("TB", 40), ("GB", 30), ("MB", 20)):
        if size >= 1 << bits:
            return f"{size / (1 << bits):.4g} {unit}"
    return f"{size} bytes"
