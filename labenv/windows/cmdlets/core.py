"""Cmdlets that belong to PowerShell itself: waiting, the clock, variables, and finding commands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from labenv.windows.call import Call, Cmdlet, PsError

if TYPE_CHECKING:
    from labenv.windows.host import Host


async def start_sleep(host: Host, call: Call) -> None:
    """Start-Sleep: waits in lab time."""
    seconds = call.get("Seconds", 0) + call.get("Milliseconds", 0) / 1000
    if seconds < 0:
        raise PsError(
            "Cannot validate argument on parameter 'Seconds'. The argument is less than the minimum allowed range.",
            error_id="ParameterArgumentValidationError",
            category="InvalidData",
            exception="System.Management.Automation.ParameterBindingValidationException",
        )
    await host.clock.sleep(seconds)


def get_date(host: Host, call: Call) -> Sequence[object]:
    """Get-Date: the lab's time, or the given moment."""
    moment = call.get("Date") or host.clock.time
    fields = {name.lower(): call[name] for name in ("Year", "Month", "Day", "Hour", "Minute", "Second") if name in call}
    if "Millisecond" in call:
        fields["microsecond"] = call["Millisecond"] * 1000
    try:
        moment = moment.replace(**fields)
    except ValueError as error:
        raise PsError(
            f"Cannot validate argument: {error}.",
            error_id="ParameterArgumentValidationError",
            category="InvalidData",
            exception="System.Management.Automation.ParameterBindingValidationException",
        ) from error
    if "Format" in call or "UFormat" in call:
        raise PsError(
            "The lab formats no dates: read the DateTime and format it where it is shown.",
            error_id="FormatNotImplemented",
            category="NotImplemented",
            exception="System.NotImplementedException",
        )
    return [moment]


def get_variable(_host: Host, call: Call) -> Sequence[object]:
    """Get-Variable -ValueOnly of a variable of the runspace; the lab sets only LASTEXITCODE."""
    found: list[object] = []
    known = {name.lower(): value for name, value in call.variables.items()}
    for name in call.get("Name", []):
        if name.lower() in known:
            found.append(known[name.lower()])
            continue
        call.error(
            PsError(
                f"Cannot find a variable with the name '{name}'.",
                error_id="VariableNotFound",
                category="ObjectNotFound",
                target=name,
                exception="System.Management.Automation.ItemNotFoundException",
            )
        )
    return found


def write_output(_host: Host, call: Call) -> Sequence[object]:
    """Write-Output: what it is given."""
    given = call.get("InputObject")
    if isinstance(given, list) and not call.get("NoEnumerate"):
        return given
    return [given]


COMMANDS: Mapping[str, Cmdlet] = {
    "Start-Sleep": start_sleep,
    "Get-Date": get_date,
    "Get-Variable": get_variable,
    "Write-Output": write_output,
}
"""The cmdlets of this module."""
