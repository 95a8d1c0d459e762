"""What GET_COMMAND_METADATA tells about the commands that a host has."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from labenv.windows.objects import PsEnum, PsList, PsObject
from labenv.windows.remoting.select import CUSTOM_TYPES

if TYPE_CHECKING:
    from labenv.windows.remoting.engine import Engine


def describe(engine: Engine, patterns: Sequence[str]) -> list[PsObject]:
    """A count, then one object per implemented command whose name matches one of the patterns."""
    names = _matching(engine, patterns)
    count = PsObject(
        types=("Selected.Microsoft.PowerShell.Commands.GenericMeasureInfo", *CUSTOM_TYPES),
        properties={},
        notes={"Count": len(names)},
    )
    return [count, *(_command(engine, name) for name in names)]


def commands(engine: Engine, patterns: Sequence[str]) -> list[PsObject]:
    """What Get-Command returns: one object per implemented command whose name matches one of the patterns."""
    found = []
    for name in _matching(engine, patterns):
        signature = engine.signatures.find(name)
        assert signature is not None
        kind = ("Function", 2) if signature.function else ("Cmdlet", 8)
        info = "System.Management.Automation.CommandInfo"
        found.append(
            PsObject(
                types=(f"System.Management.Automation.{kind[0]}Info", info, "System.Object"),
                properties={
                    "Name": signature.name,
                    "CommandType": PsEnum("System.Management.Automation.CommandTypes", *kind),
                    "ModuleName": signature.module,
                    "Source": signature.module,
                    "Visibility": PsEnum("System.Management.Automation.SessionStateEntryVisibility", "Public", 0),
                },
                text=signature.name,
            )
        )
    return found


def _matching(engine: Engine, patterns: Sequence[str]) -> list[str]:
    return [
        name
        for name in sorted(engine.signatures)
        if engine.implements(name) and any(fnmatchcase(name.lower(), p.lower()) for p in patterns)
    ]


def _command(engine: Engine, name: str) -> PsObject:
    signature = engine.signatures.find(name)
    assert signature is not None
    kind = ("Function", 2) if signature.function else ("Cmdlet", 8)
    parameters = {
        p.name: PsObject(
            types=("System.Management.Automation.ParameterMetadata", "System.Object"),
            properties={
                "Name": p.name,
                "ParameterType": p.type,
                "Aliases": PsList("System.Collections.ObjectModel.Collection`1[[System.String]]", list(p.aliases)),
                "IsDynamic": False,
                "SwitchParameter": p.is_switch,
            },
        )
        for p in signature.parameters.values()
    }
    return PsObject(
        types=("Selected.System.Management.Automation.CmdletInfo", *CUSTOM_TYPES),
        properties={},
        notes={
            "Name": signature.name,
            "Namespace": signature.module,
            "HelpUri": "",
            "CommandType": PsEnum("System.Management.Automation.CommandTypes", *kind),
            "ResolvedCommandName": None,
            "OutputType": PsList("System.Collections.ObjectModel.ReadOnlyCollection`1[[PSTypeName]]", []),
            "Parameters": parameters,
        },
    )
