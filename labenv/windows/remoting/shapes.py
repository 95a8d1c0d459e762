"""The request shapes that are served: one cmdlet, a pair from the closed list, a native program; no script text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from labenv.windows.call import PsError
from labenv.windows.remoting.values import Command, ScriptBlock

NATIVE = ("diskshadow.exe", "vssadmin.exe")
"""Native programs; they take positional text arguments and no common parameters."""

PAIRS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "get-vm": (
        ("id",),
        (
            "stop-vm",
            "start-vm",
            "remove-vm",
            "set-vm",
            "checkpoint-vm",
            "remove-vmsavedstate",
            "add-vmharddiskdrive",
            "get-vmintegrationservice",
        ),
    ),
    "get-vmsnapshot": (("id",), ("restore-vmsnapshot", "remove-vmsnapshot", "get-vmharddiskdrive")),
    "get-disk": (("uniqueid",), ("add-clusterdisk",)),
    "get-clusterresource": (("name",), ("get-clusterparameter", "set-clusterparameter")),
    "get-clustersharedvolume": (("name",), ("get-clusterparameter", "set-clusterparameter")),
    "get-clustergroup": (("vmid",), ("stop-clustergroup", "start-clustergroup")),
}
"""First cmdlet -> the parameter by which it must select one object, and the cmdlets that may take that object."""

_COMMON = frozenset(("erroraction", "ea", "verbose", "vb", "warningaction", "wa"))


@dataclass(frozen=True)
class Pipeline:
    """A request of an allowed shape: a cmdlet, perhaps a second that takes its object, perhaps selected properties."""

    first: Command
    second: Command | None = None
    select: Command | None = None
    exit_code: bool = False

    @property
    def native(self) -> bool:
        """Whether the command is a native program."""
        return bool(program(self.first.name))


def program(name: str) -> str:
    """The file name of the native program that a command names, with or without its ending; "" if it is none."""
    file = name.rsplit("\\", 1)[-1].lower()
    return next((each for each in NATIVE if file in (each, each.removesuffix(".exe"))), "")


def recognise(statements: Sequence[Sequence[Command]]) -> Pipeline:
    """The shape of a request; raises PsError for everything else."""
    commands = [command for statement in statements for command in statement]
    if not commands:
        raise _refused("An empty pipeline element is not allowed.", "EmptyPipeElement")
    for command in commands:
        if command.is_script or any(isinstance(v, ScriptBlock) for _, v in command.arguments):
            raise PsError(
                "Script text is not allowed in this session: send cmdlets with parameters.",
                error_id="ScriptsNotAllowed",
                category="ParserError",
                exception="System.Management.Automation.ParseException",
            )
    first, *rest = statements
    exit_code = False
    if rest:
        if not program(first[0].name) or len(rest) > 1 or not _asks_exit_code(rest[0]):
            raise _refused(
                "Several statements are only allowed for a native program followed by Get-Variable -Name LASTEXITCODE "
                "-ValueOnly.",
                "StatementsNotAllowed",
            )
        exit_code = True
    head, *tail = first
    if program(head.name):
        if tail:
            raise _refused("A native program cannot be part of a longer pipeline here.", "PipelineNotAllowed")
        return Pipeline(head, exit_code=exit_code)
    select = tail.pop() if tail and _base(tail[-1]) == "select-object" else None
    if len(tail) > 1:
        raise _refused("A pipeline has at most two cmdlets and one Select-Object here.", "PipelineNotAllowed")
    second = tail[0] if tail else None
    if second is not None:
        _check_pair(head, second)
    return Pipeline(head, second, select)


def _base(command: Command) -> str:
    return command.name.rsplit("\\", 1)[-1].lower()


def _check_pair(first: Command, second: Command) -> None:
    identity, seconds = PAIRS.get(_base(first), ((), ()))
    if _base(second) not in seconds:
        raise _refused(
            f"The pipeline {first.name} | {second.name} is not in the list of pairs of this session.",
            "PipelineNotAllowed",
        )
    names = [(name or "").lower().lstrip("-") for name, _ in first.arguments]
    given = [name for name in names if name not in _COMMON]
    if given != list(identity) or any(
        isinstance(v, (list, tuple)) and len(v) != 1 for n, v in first.arguments if (n or "").lower() in identity
    ):
        raise _refused(
            f"In a pair, {first.name} must select exactly one object by -{identity[0]}, and by nothing else.",
            "PipelineNotAllowed",
        )


def _asks_exit_code(statement: Sequence[Command]) -> bool:
    if len(statement) != 1 or _base(statement[0]) != "get-variable":
        return False
    given = {(name or "Name").lower(): value for name, value in statement[0].arguments}
    name, value_only = given.get("name"), given.get("valueonly", False)
    wanted = name[0] if isinstance(name, list) and len(name) == 1 else name
    return str(wanted).upper() == "LASTEXITCODE" and (value_only is None or bool(value_only))


def _refused(message: str, error_id: str) -> PsError:
    return PsError(
        message,
        error_id=error_id,
        category="PermissionDenied",
        exception="System.Management.Automation.PSSecurityException",
    )
