"""Logins of the guests: who may use their SQL Server with Invoke-Sqlcmd, and who is their administrator."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from labenv.state import State
from labenv.windows.spec import HostSpec


@dataclass(frozen=True)
class LoginRecord:
    """A login; the password only as its digest."""

    name: str
    digest: str


class Logins:
    """Logins that every guest of the host accepts (they come with the golden image): of SQL Server, or of Windows."""

    def __init__(self, *, spec: HostSpec, state: State, kind: str = "sqllogin") -> None:
        self._records = state.table(f"windows.{spec.name}.{kind}", LoginRecord)

    def add(self, name: str, password: str) -> None:
        """Make a login or change its password."""
        self._records[name.lower()] = LoginRecord(name, _digest(name, password))

    def accepts(self, name: str, password: str) -> bool:
        """Whether name and password belong together."""
        record = self._records.get(name.lower())
        return record is not None and record.digest == _digest(name, password)


def _digest(name: str, password: str) -> str:
    return hashlib.sha256(f"{name.lower()}\0{password}".encode()).hexdigest()
