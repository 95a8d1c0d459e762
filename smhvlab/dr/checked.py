"""What a failover, a failback and a rehearsal tell of the VMs that they started."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from html import escape

from smhvlab.sql import DatabaseFound


@dataclass(frozen=True, repr=False, kw_only=True)
class Checked(ABC):
    """VMs whose databases were looked at.

    Attributes:
        backups: what the VMs are as of.
        databases: what was found in those that run.
    """

    vms: tuple[str, ...]
    backups: tuple[str, ...]
    databases: tuple[DatabaseFound, ...]

    @property
    def sound(self) -> bool:
        """Whether every database that was looked at is sound."""
        return all(found.ok for found in self.databases)

    @abstractmethod
    def __str__(self) -> str:
        """All of it as text, a line each."""

    def __repr__(self) -> str:
        return str(self)

    def _table(self) -> str:
        rows = "".join(
            f"<tr><td>{escape(f.vm)}</td><td>{escape(f.database)}</td><td>{escape(f.state)}</td><td>{f.counted}</td>"
            f"<td>{escape(f.verdict)}</td></tr>"
            for f in self.databases
        )
        head = "".join(f"<th>{name}</th>" for name in ("VM", "database", "state", "rows", "CHECKDB"))
        return f"<table><tr>{head}</tr>{rows}</table>"
