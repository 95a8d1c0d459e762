"""Write-EventLog and New-EventLog: what a service or an administrator puts into the classic logs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from labenv.windows import events as log
from labenv.windows.call import Call, Cmdlet, PsError
from labenv.windows.cmdlets.targets import texts

if TYPE_CHECKING:
    from labenv.windows.host import Host

SOURCES = "HKLM:\\SYSTEM\\CurrentControlSet\\Services\\EventLog"
"""Below it each log is a key, and each of its sources a key below that."""

_CLASSIC = ("Application", "System")
_LEVELS = {"Error": log.ERROR, "FailureAudit": log.ERROR, "Warning": log.WARNING}


def _problem(message: str, *, target: str) -> PsError:
    return PsError(
        message,
        error_id="System.InvalidOperationException",
        category="InvalidOperation",
        target=target,
        exception="System.InvalidOperationException",
    )


def _logs(host: Host) -> list[str]:
    return sorted({*_CLASSIC, *host.registry.children(SOURCES)})


def register(host: Host, name: str, source: str) -> None:
    """Let a source write to a log."""
    host.registry.make(f"{SOURCES}\\{name}\\{source}")


async def new_event_log(host: Host, call: Call) -> Sequence[object]:
    """New-EventLog: registers sources, and the log if it is a new one."""
    await host.spend("windows.registry.set")
    for source in texts(call["Source"]):
        for name in _logs(host):
            if source.lower() in (s.lower() for s in host.registry.children(f"{SOURCES}\\{name}")):
                text = f'The "{source}" source is already registered on the "localhost" computer.'
                raise _problem(text, target=source)
        register(host, str(call["LogName"]), source)
    return []


async def write_event_log(host: Host, call: Call) -> Sequence[object]:
    """Write-EventLog: an event of a registered source, Information unless -EntryType says otherwise."""
    await host.spend("windows.registry.set")
    wanted, source = str(call["LogName"]), str(call["Source"])
    name = next((each for each in _logs(host) if each.lower() == wanted.lower()), None)
    known = host.registry.children(f"{SOURCES}\\{name}") if name is not None else []
    spelled = next((each for each in known if each.lower() == source.lower()), None)
    if name is None or spelled is None:
        raise _problem(f'The source name "{source}" does not exist on computer "localhost".', target=source)
    event = int(call["EventId"])
    if not 0 <= event <= 65535:
        text = f"The event ID {event} is not in the range from 0 to 65535."
        raise PsError(text, error_id="ParameterArgumentValidationError", category="InvalidData", target=event)
    level = _LEVELS.get(str(call.get("EntryType") or "Information"), log.INFORMATION)
    message = str(call["Message"])
    host.events.write(name, spelled, event, message, level=level, values=(message,))
    return []


COMMANDS: Mapping[str, Cmdlet] = {"New-EventLog": new_event_log, "Write-EventLog": write_event_log}
"""The cmdlets of this module."""
