"""Scripts before and after a backup, on its member hosts (TR 6.5): single cmdlets, never script text.

Limits: a script is one cmdlet of the wire's table with its parameters; it runs on every host that has a VM of the
dataset unless one server is named; the variables ``$VMSnapshot``, ``$SnapInfoName`` and ``$SnapInfoSnapshot`` are
replaced after the backup only, and the last of them only for dedicated VMs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from smhvlab.errors import Cancelled, SmhvLabError
from smhvlab.nodes import Nodes
from smhvlab.protection.policy import Phase, Script

_LINES: Final = 20  # of a script's output that are kept
"""What is replaced in the parameters of a script after the backup; case does not matter."""


@dataclass(frozen=True)
class ScriptRun:
    """One script on one host.

    Attributes:
        parameters: as they were sent, variables replaced.
        output: the first lines of what it wrote.
        error: why it failed, "" if it did not.
    """

    phase: str
    host: str
    command: str
    parameters: tuple[tuple[str, str], ...]
    output: tuple[str, ...] = ()
    error: str = ""

    def __str__(self) -> str:
        given = " ".join(f"-{name} {value}" for name, value in self.parameters)
        return f"{self.phase} on {self.host}: {self.command} {given}: {self.error or 'done'}"


def variables(*, backup: str, clustered: bool) -> Mapping[str, str]:
    """Values of the three variables for a backup; ``$SnapInfoSnapshot`` is empty for shared VMs (TR 6.5).

    Args:
        backup: its name, which is also that of its first Snapshot copy and of SnapInfo's.
    """
    return {
        "VMSnapshot": backup,
        "SnapInfoName": "_".join(backup.rsplit("_", 2)[1:]),
        "SnapInfoSnapshot": "" if clustered else backup,
    }


def substituted(value: Any, values: Mapping[str, str]) -> Any:
    """A parameter's value with its variables replaced, in lists and tables too."""
    if isinstance(value, str):
        known = {name.casefold(): text for name, text in values.items()}
        pattern = r"\$(" + "|".join(values) + r")(?![A-Za-z0-9_])"
        return re.sub(pattern, lambda found: known[found[1].casefold()], value, flags=re.IGNORECASE)
    if isinstance(value, Mapping):
        return {name: substituted(entry, values) for name, entry in value.items()}
    if isinstance(value, Sequence):
        return [substituted(entry, values) for entry in value]
    return value


def uses(scripts: Sequence[Script], variable: str) -> bool:
    """Whether a script after the backup holds a variable."""
    return any(
        f"${variable}".casefold() in repr(script.parameters).casefold()
        for script in scripts
        if script.phase is Phase.AFTER
    )


def targets(script: Script, members: Sequence[str]) -> tuple[str, ...]:
    """The hosts on which a script runs: the named server, or all members."""
    return (script.server,) if script.server else tuple(members)


def run_scripts(
    nodes: Nodes, scripts: Sequence[Script], phase: Phase, members: Sequence[str], values: Mapping[str, str] | None
) -> list[ScriptRun]:
    """Run the scripts of a phase, one after the other and each on its hosts; stop at the first that fails.

    Args:
        members: hosts of the dataset's VMs.
        values: of the variables; None leaves them as they are written.
    """
    done: list[ScriptRun] = []
    for script in scripts:
        if script.phase is not phase:
            continue
        parameters = script.parameters if values is None else substituted(script.parameters, values)
        shown = tuple((name, str(value)) for name, value in parameters.items())
        for host in targets(script, members):
            try:
                written = nodes[host].host.run(script.command, parameters)
            except Cancelled:
                raise
            except SmhvLabError as error:
                done.append(ScriptRun(phase.value, host, script.command, shown, error=error.message))
                return done
            lines = tuple(str(entry) for entry in written[:_LINES])
            done.append(ScriptRun(phase.value, host, script.command, shown, lines))
    return done
