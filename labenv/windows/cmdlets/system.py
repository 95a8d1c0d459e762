"""The system around Hyper-V: event logs and CIM classes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape

from labenv.guest.registry import SystemRecord
from labenv.windows.call import Call, Cmdlet, PsError
from labenv.windows.cmdlets.inventory import CLASSES
from labenv.windows.cmdlets.item import matches
from labenv.windows.cmdlets.targets import many, texts
from labenv.windows.machines import VmNotRunning
from labenv.windows.objects import Int64, PsList, PsObject, UInt16, UInt32, UInt64
from labenv.windows.records import EventRecord
from labenv.windows.shapes_storage import cim, strings

if TYPE_CHECKING:
    from labenv.windows.host import Host

_LEVELS = {1: "Critical", 2: "Error", 3: "Warning", 4: "Information"}


def _event(host: Host, record: EventRecord) -> PsObject:
    values = [
        PsObject(["System.Diagnostics.Eventing.Reader.EventProperty", "System.Object"], {"Value": value}, text=value)
        for value in record.values
    ]
    kind = "System.Collections.Generic.List`1[[System.Diagnostics.Eventing.Reader.EventProperty, System.Core]]"
    properties: dict[str, object] = {
        "Id": record.id,
        "Version": None,
        "Level": record.level,
        "Task": 0,
        "Opcode": 0,
        "Keywords": Int64(0),
        "RecordId": Int64(record.number),
        "ProviderName": record.provider,
        "ProviderId": None,
        "LogName": record.log,
        "ProcessId": None,
        "ThreadId": None,
        "MachineName": host.spec.fqdn,
        "UserId": None,
        "TimeCreated": record.time,
        "ActivityId": None,
        "RelatedActivityId": None,
        "ContainerLog": record.log,
        "LevelDisplayName": _LEVELS[record.level],
        "OpcodeDisplayName": "Info",
        "TaskDisplayName": None,
        "Properties": PsList(kind, values),
    }
    types = [
        "System.Diagnostics.Eventing.Reader.EventLogRecord",
        "System.Diagnostics.Eventing.Reader.EventRecord",
        "System.Object",
    ]
    return PsObject(
        types, properties, {"Message": record.message}, text="System.Diagnostics.Eventing.Reader.EventLogRecord"
    )


def _no_events() -> PsError:
    return PsError(
        "No events were found that match the specified selection criteria.",
        error_id="NoMatchingEventsFound",
        category="ObjectNotFound",
        exception="System.Exception",
    )


def _moment(value: object) -> datetime:
    try:
        moment = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    except ValueError as error:
        raise PsError(
            f"'{value}' is not a date and time.",
            error_id="BadEndTime",
            category="InvalidArgument",
            target=str(value),
            exception="System.Exception",
        ) from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


_KEYS = ("logname", "providername", "id", "level", "starttime", "endtime")


def _selects(record: EventRecord, wanted: Mapping[str, Any]) -> bool:
    def among(name: str, value: object) -> bool:
        return name not in wanted or any(matches(str(value), str(each)) for each in many(wanted[name]))

    return (
        among("logname", record.log)
        and among("providername", record.provider)
        and among("id", record.id)
        and among("level", record.level)
        and ("starttime" not in wanted or record.time >= _moment(wanted["starttime"]))
        and ("endtime" not in wanted or record.time <= _moment(wanted["endtime"]))
    )


def get_win_event(host: Host, call: Call) -> Sequence[object]:
    """Get-WinEvent with -FilterHashtable, -LogName or -ProviderName; newest first unless -Oldest."""
    filters: Iterable[Mapping[str, Any]]
    if "FilterHashtable" in call:
        filters = [
            {str(k).lower(): v for k, v in table.items()}
            for table in many(call["FilterHashtable"])
            if isinstance(table, Mapping)
        ]
        unknown = [key for table in filters for key in table if key not in _KEYS]
        if not all(table.keys() & {"logname", "providername"} for table in filters):
            raise PsError(
                "The filter must name at least one of LogName and ProviderName.",
                error_id="LogProviderOrPathNeeded",
                category="InvalidArgument",
                exception="System.Exception",
            )
        for table in filters:
            for name in table.keys() & {"starttime", "endtime"}:
                _moment(table[name])
        if unknown:
            raise PsError(
                f"The lab's filter takes {', '.join(_KEYS)}, not {unknown[0]}.",
                error_id="NoMatchingKeys",
                category="InvalidArgument",
                exception="System.Exception",
            )
    elif "ProviderName" in call:
        filters = [{"providername": call["ProviderName"]}]
    else:
        filters = [{"logname": texts(call.get("LogName")) or ["*"]}]
    for table in filters:
        for name in texts(table.get("logname")):
            if not any(matches(log, name) for log in host.events.logs()):
                raise PsError(
                    f'There is not an event log on the {host.name} computer that matches "{name}".',
                    error_id="NoMatchingLogsFound",
                    category="ObjectNotFound",
                    target=name,
                    exception="System.Exception",
                )
    if int(call.get("MaxEvents", 1)) < 1:
        raise PsError(
            "Cannot validate argument on parameter 'MaxEvents'. The argument is less than the minimum allowed range.",
            error_id="ParameterArgumentValidationError",
            category="InvalidData",
            exception="System.Management.Automation.ParameterBindingValidationException",
        )
    found = [r for r in host.events.newest_first() if any(_selects(r, table) for table in filters)]
    if call.get("Oldest"):
        found.reverse()
    if "MaxEvents" in call:
        found = found[: int(call["MaxEvents"])]
    if not found:
        raise _no_events()
    return [_event(host, record) for record in found]


_FEATURES = (
    (5, "File and Storage Services"),
    (20, "Hyper-V"),
    (33, "Failover Clustering"),
    (41, "Windows Server Backup"),
    (57, "Multipath I/O"),
    (340, ".NET Framework 4.5"),
    (418, "Hyper-V Management Tools"),
    (420, "Hyper-V Module for Windows PowerShell"),
)
"""Windows features that are installed on every host of the lab (id and name)."""


def _operating_system(host: Host) -> list[PsObject]:
    used = sum(vm.memory for vm in host.vms.values() if vm.state == "Running")
    properties: dict[str, object] = {
        "BuildNumber": host.spec.version.rsplit(".", 1)[1],
        "Caption": host.spec.caption,
        "CSName": host.name.upper(),
        "FreePhysicalMemory": UInt64((host.spec.memory - used) >> 10),
        "LocalDateTime": host.clock.time,
        "OperatingSystemSKU": UInt32(8),
        "OSArchitecture": "64-bit",
        "ProductType": UInt32(3),
        "ServicePackMajorVersion": UInt16(1 if host.spec.era == "2008r2" else 0),
        "SystemDrive": "C:",
        "TotalVisibleMemorySize": UInt64(host.spec.memory >> 10),
        "Version": host.spec.version,
        "PSComputerName": None,
    }
    return [cim("Win32_OperatingSystem", properties, space="cimv2")]


def _computer_system(host: Host) -> list[PsObject]:
    properties: dict[str, object] = {
        "Domain": host.spec.fqdn.partition(".")[2],
        "DNSHostName": host.name,
        "Manufacturer": "labenv",
        "Model": "Simulated Hyper-V host",
        "Name": host.name.upper(),
        "NumberOfLogicalProcessors": UInt32(host.spec.processors),
        "NumberOfProcessors": UInt32(2),
        "PartOfDomain": True,
        "TotalPhysicalMemory": UInt64(host.spec.memory),
        "PSComputerName": None,
    }
    return [cim("Win32_ComputerSystem", properties, space="cimv2")]


def _server_features(_host: Host) -> list[PsObject]:
    return [
        cim(
            "Win32_ServerFeature",
            {"ID": UInt32(number), "Name": name, "ParentID": UInt32(0), "PSComputerName": None},
            space="cimv2",
        )
        for number, name in _FEATURES
    ]


def _exchange_components(host: Host) -> list[PsObject]:
    """What the integration service for data exchange has of each guest that runs."""
    found = []
    for vm in host.machines.named("*"):
        items = []
        if vm.state == "Running" and "Key-Value Pair Exchange" not in vm.disabled_services:
            with suppress(VmNotRunning):
                items = [_exchange_item(name, data) for name, data in _told(host.machines.guest(vm).system)]
        properties: dict[str, object] = {
            "SystemName": str(vm.id).upper(),
            "GuestExchangeItems": strings([]),
            "GuestIntrinsicExchangeItems": strings(items),
            "PSComputerName": None,
        }
        found.append(cim("Msvm_KvpExchangeComponent", properties, space="root/virtualization/v2"))
    return found


def _told(system: SystemRecord) -> list[tuple[str, str]]:
    """What a guest tells of itself; nothing without integration services."""
    if not system.integration_services:
        return []
    name, _, pack = system.operating_system.partition(" SP")
    service_pack = f"Service Pack {pack}" if pack else ""
    return [("FullyQualifiedDomainName", system.host_name), ("OSName", name), ("CSDVersion", service_pack)]


def _exchange_item(name: str, data: str) -> str:
    """An Msvm_KvpExchangeDataItem as text, which is how the component holds it."""
    pairs = "".join(
        f'<PROPERTY NAME="{key}" TYPE="string"><VALUE>{escape(value)}</VALUE></PROPERTY>'
        for key, value in (("Data", data), ("Name", name))
    )
    return f'<INSTANCE CLASSNAME="Msvm_KvpExchangeDataItem">{pairs}</INSTANCE>'


_CLASSES = {
    "msvm_kvpexchangecomponent": _exchange_components,
    "win32_operatingsystem": _operating_system,
    "win32_computersystem": _computer_system,
    "win32_serverfeature": _server_features,
}


def get_cim_instance(host: Host, call: Call) -> Sequence[object]:
    """Get-CimInstance -ClassName of the classes that the lab has."""
    name = str(call.get("ClassName") or "")
    make = _CLASSES.get(name.lower()) or CLASSES.get(name.lower())
    if make is None:
        raise PsError(
            f"Invalid class: {name}",
            error_id="HRESULT 0x80041010",
            category="MetadataError",
            target=name,
            exception="Microsoft.Management.Infrastructure.CimException",
        )
    return make(host)


COMMANDS: Mapping[str, Cmdlet] = {
    "Get-WinEvent": get_win_event,
    "Get-CimInstance": get_cim_instance,
}
"""The cmdlets of this module."""
