"""Background work that a client does in a guest's database."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Load:
    """A client that keeps adding rows to a database, one transaction each second, until there are so many."""

    database: str
    rows_per_second: int
    up_to: int
