"""Services: Get-Service, Start-Service, Stop-Service, Restart-Service, Set-Service."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from labenv.windows.call import Call, Cmdlet, PsError
from labenv.windows.cmdlets.item import matches
from labenv.windows.cmdlets.targets import objects, prop, texts
from labenv.windows.enums import system as enum
from labenv.windows.inventory import ISCSI
from labenv.windows.objects import PsObject
from labenv.windows.records import ServiceRecord

if TYPE_CHECKING:
    from labenv.windows.host import Host

_STATUS = {"Stopped": 1, "Running": 4}
_START = {"Automatic": 2, "Manual": 3, "Disabled": 4}


def _shown(host: Host, record: ServiceRecord) -> ServiceRecord:
    if record.name == "ClusSvc" and host.cluster is not None:
        status = "Running" if host.cluster.is_member(host.name) else "Stopped"
        return ServiceRecord(record.name, record.display_name, status, record.start_type)
    return record


def _services(host: Host, call: Call) -> list[ServiceRecord]:
    known = [_shown(host, s) for s in host.inventory.services.values()]
    names, titles = texts(call.get("Name")), texts(call.get("DisplayName"))
    names = names or [str(prop(i, "ServiceName")) for i in objects(call, "InputObject")]
    found: list[ServiceRecord] = []
    for wanted in names or titles or ["*"]:
        chosen = [s for s in known if matches(s.display_name if titles else s.name, wanted)]
        if not chosen and not any(c in wanted for c in "*?["):
            call.error(
                PsError(
                    f"Cannot find any service with service name '{wanted}'.",
                    error_id="NoServiceFoundForGivenName",
                    category="ObjectNotFound",
                    target=wanted,
                    exception="Microsoft.PowerShell.Commands.ServiceCommandException",
                )
            )
        found += [s for s in chosen if s not in found]
    return sorted(found, key=lambda s: s.name.lower())


def get_service(host: Host, call: Call) -> Sequence[object]:
    """Get-Service by name (patterns), display name, or all."""
    return [_service(s) for s in _services(host, call)]


def _service(record: ServiceRecord) -> PsObject:
    properties: dict[str, object] = {
        "CanPauseAndContinue": False,
        "CanShutdown": False,
        "CanStop": record.status == "Running",
        "DisplayName": record.display_name,
        "MachineName": ".",
        "ServiceName": record.name,
        "Status": enum("System.ServiceProcess.ServiceControllerStatus", record.status, _STATUS[record.status]),
        "StartType": enum("System.ServiceProcess.ServiceStartMode", record.start_type, _START[record.start_type]),
    }
    types = [
        "System.ServiceProcess.ServiceController",
        "System.ComponentModel.Component",
        "System.MarshalByRefObject",
        "System.Object",
    ]
    return PsObject(types, properties, {"Name": record.name}, text="System.ServiceProcess.ServiceController")


async def change_service(host: Host, call: Call) -> Sequence[object] | None:
    """Start-Service, Stop-Service, Restart-Service and Set-Service."""
    await host.spend("windows.service")
    output: list[object] = []
    for record in _services(host, call):
        verb = call.cmdlet.partition("-")[0]
        if verb in ("Start", "Restart") and record.start_type == "Disabled":
            call.error(_not_started(record))
            continue
        changes: dict[str, object] = {"status": {"Start": "Running", "Restart": "Running", "Stop": "Stopped"}.get(verb)}
        if verb == "Set":
            changes = {"start_type": _start_type(call.get("StartupType")), "status": call.get("Status")}
        await _cluster_service(host, record, str(changes.get("status") or ""))
        changed = host.inventory.set_service(record.name, **{k: v for k, v in changes.items() if v})
        if changed.name == ISCSI and changed.status == "Running":
            host.initiator.wake()
        output.append(_service(_shown(host, changed)))
    return output if call.get("PassThru") else None


async def _cluster_service(host: Host, record: ServiceRecord, status: str) -> None:
    if record.name != "ClusSvc" or host.cluster is None:
        return
    if status == "Running":
        await host.cluster.membership.start(host.name)
    elif status == "Stopped":
        await host.cluster.membership.stop(host.name)


def _start_type(value: object) -> str | None:
    return None if value is None else str(value).replace("AutomaticDelayedStart", "Automatic")


def _not_started(record: ServiceRecord) -> PsError:
    return PsError(
        f"Service '{record.display_name} ({record.name})' cannot be started due to the following error: Cannot start "
        f"service {record.name} on computer '.'.",
        error_id="CouldNotStartService",
        category="OpenError",
        target=record.name,
        exception="Microsoft.PowerShell.Commands.ServiceCommandException",
    )


COMMANDS: Mapping[str, Cmdlet] = {
    "Get-Service": get_service,
    "Start-Service": change_service,
    "Stop-Service": change_service,
    "Restart-Service": change_service,
    "Set-Service": change_service,
}
"""The cmdlets of this module."""
