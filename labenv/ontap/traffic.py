"""What hosts have read from and written to a LUN since its array started."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Traffic:
    """Counters of one LUN that only grow: operations, and the bytes that they moved."""

    reads: int = 0
    writes: int = 0
    others: int = 0
    read_bytes: int = 0
    written_bytes: int = 0
