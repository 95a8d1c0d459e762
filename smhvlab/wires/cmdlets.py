"""The cmdlets that smhvlab may send: parameter types, which change something, which prompt, which need delegation.

The table `cmdlets.json` is derived from Microsoft's own syntax by tools/make_cmdlet_table.py.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from smhvlab.errors import Unsendable

_READING_VERBS = frozenset({"Get", "Test", "Measure", "Compare", "Resolve", "Select"})
_READING = frozenset({"Start-Sleep", "Export-ScheduledTask", "Invoke-SmhvGuestCheck"})
"""These change nothing although their verb suggests it. Export-ScheduledTask only prints the task's XML."""

_CHANGING = frozenset({"Get-ClusterLog", "Test-Cluster"})
"""These change something although their verb does not say so: log files, and disks taken offline by the tests."""

_DELEGATION = frozenset(
    {
        "Add-ClusterVirtualMachineRole",
        "Add-ClusterNode",
        "Add-ClusterGroup",
        "Get-ClusterLog",
        "New-Cluster",
        "Remove-Cluster",
        "Remove-ClusterNode",
        "Test-Cluster",
    }
)
"""Documented as needing credentials that can travel on to a second computer (CredSSP)."""

_READING_STATEMENTS = ("SELECT ", "DBCC CHECKDB", "EXEC MASTER.DBO.XP_FIXEDDRIVES")


@dataclass(frozen=True)
class CmdletInfo:
    """What the wire must know of a cmdlet before it sends it.

    Attributes:
        name: in its documented spelling.
        module: the module that holds it.
        parameters: lower-case name -> (documented spelling, type name), e.g. ``String[]``, ``SwitchParameter``.
        confirms: whether it takes -Confirm; the wire then sends -Confirm:$false, since nobody can answer.
        needs_delegation: whether the session's credentials must be able to travel on.
    """

    name: str
    module: str
    parameters: Mapping[str, tuple[str, str]]
    confirms: bool
    needs_delegation: bool

    def parameter(self, name: str) -> tuple[str, str]:
        """Documented spelling and type of a parameter. Raises `Unsendable` if the cmdlet has none of that name."""
        found = self.parameters.get(name.lower())
        if found is None:
            raise Unsendable(
                f"{self.name} has no parameter {name}",
                next_action="Use the names of Microsoft's documentation, without aliases and abbreviations.",
            )
        return found

    def reads(self, parameters: Mapping[str, object]) -> bool:
        """Whether this call, with these parameters, can change nothing."""
        if self.name == "Invoke-Sqlcmd":
            query = next((value for name, value in parameters.items() if name.lower() == "query"), "")
            return str(query).lstrip().upper().startswith(_READING_STATEMENTS)
        if self.name in _CHANGING:
            return False
        return self.name in _READING or self.name.partition("-")[0] in _READING_VERBS


def cmdlet(name: str) -> CmdletInfo:
    """The entry of a cmdlet (case does not matter). Raises `Unsendable` if smhvlab does not send it."""
    found = _table().get(name.lower())
    if found is None:
        raise Unsendable(
            f"smhvlab does not send {name!r}",
            why="requests are single cmdlets of a closed table, never script text",
            next_action="Use a cmdlet of the table, or add it there with its documentation.",
        )
    return found


def names() -> list[str]:
    """All cmdlets of the table, sorted."""
    return sorted(info.name for info in _table().values())


@cache
def _table() -> Mapping[str, CmdletInfo]:
    source = files("smhvlab.wires").joinpath("cmdlets.json").read_text(encoding="utf-8")
    return {
        name.lower(): CmdletInfo(
            name=name,
            module=entry["m"],
            parameters={parameter.lower(): (parameter, kind) for parameter, kind in entry["p"].items()},
            confirms=bool(entry.get("c")),
            needs_delegation=name in _DELEGATION,
        )
        for name, entry in json.loads(source).items()
    }
