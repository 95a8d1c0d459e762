"""How the settings of a virtual machine look to PowerShell: processors, memory, start-up, ports, replication."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from labenv.windows import enums
from labenv.windows.objects import Int64, PsList, PsObject
from labenv.windows.records import SnapshotRecord, VmRecord
from labenv.windows.shapes_hyperv import dvd_drive, hard_drive

if TYPE_CHECKING:
    from labenv.windows.host import Host

_NS = "Microsoft.HyperV.PowerShell"
_BASE = [f"{_NS}.VirtualizationObject", "System.Object"]
_NO_ID = UUID(int=0)
_TEMPLATE = UUID("1734c6e8-3154-4dda-ba5f-a874cc483422")  # of Secure Boot, "MicrosoftWindows"


def _component(
    host: Host, vm: VmRecord, snapshot: SnapshotRecord | None, kind: str, properties: dict[str, object]
) -> PsObject:
    """Something that belongs to a VM or to a checkpoint of one."""
    common: dict[str, object] = {
        "VMId": vm.id,
        "VMName": vm.name,
        "VMSnapshotId": snapshot.id if snapshot is not None else _NO_ID,
        "VMSnapshotName": snapshot.name if snapshot is not None else "",
        "ComputerName": host.name.upper(),
        "IsDeleted": False,
    }
    types = [f"{_NS}.{kind}", f"{_NS}.VMComponentObject", *_BASE]
    return PsObject(types, {**properties, **common}, text=f"{_NS}.{kind}")


def _id(vm: VmRecord, snapshot: SnapshotRecord | None, tail: str) -> str:
    return f"Microsoft:{str(snapshot.id if snapshot is not None else vm.id).upper()}\\{tail}"


def processor(host: Host, vm: VmRecord, snapshot: SnapshotRecord | None) -> PsObject:
    """A VMProcessor."""
    ok = enums.hyperv("VMProcessorOperationalStatus", "Ok")
    properties: dict[str, object] = {
        "ResourcePoolName": "Primordial",
        "Count": Int64(vm.processors),
        "CompatibilityForMigrationEnabled": False,
        "CompatibilityForOlderOperatingSystemsEnabled": False,
        "HwThreadCountPerCore": Int64(1),
        "ExposeVirtualizationExtensions": False,
        "Maximum": Int64(100),
        "Reserve": Int64(0),
        "RelativeWeight": 100,
        "MaximumCountPerNumaNode": Int64(16),
        "MaximumCountPerNumaSocket": Int64(1),
        "EnableHostResourceProtection": False,
        "OperationalStatus": PsList(f"{_NS}.VMProcessorOperationalStatus[]", [ok]),
        "StatusDescription": PsList("System.String[]", ["Operating normally"]),
        "Name": "Processor",
        "Id": _id(vm, snapshot, "b637f346-6a0e-4dec-af52-bd70cb80a21d\\0"),
    }
    return _component(host, vm, snapshot, "VMProcessor", properties)


def memory(host: Host, vm: VmRecord, snapshot: SnapshotRecord | None) -> PsObject:
    """A VMMemory; sizes in bytes."""
    properties: dict[str, object] = {
        "ResourcePoolName": "Primordial",
        "Buffer": 20,
        "DynamicMemoryEnabled": vm.dynamic_memory,
        "Maximum": Int64(vm.memory_maximum),
        "MaximumPerNumaNode": Int64(65536),
        "Minimum": Int64(vm.memory_minimum),
        "Priority": 50,
        "Startup": Int64(vm.memory),
        "Name": "Memory",
        "Id": _id(vm, snapshot, "4764334d-e001-4176-82ee-5594ec9b530e"),
    }
    return _component(host, vm, snapshot, "VMMemory", properties)


def bios(host: Host, vm: VmRecord, snapshot: SnapshotRecord | None) -> PsObject:
    """A VMBios of a VM of generation 1."""
    order = [enums.hyperv("BootDevice", name) for name in ("CD", "IDE", "LegacyNetworkAdapter", "Floppy")]
    properties: dict[str, object] = {
        "NumLockEnabled": False,
        "StartupOrder": PsList(f"{_NS}.BootDevice[]", list(order)),
    }
    return _component(host, vm, snapshot, "VMBios", properties)


def firmware(host: Host, vm: VmRecord, snapshot: SnapshotRecord | None) -> PsObject:
    """A VMFirmware of a VM of generation 2; it boots from its disks in the order of their places."""
    order = [
        PsObject(
            [f"{_NS}.VMBootSource", f"{_NS}.VMComponentObject", *_BASE],
            {
                "BootType": enums.hyperv("BootSourceType", "Drive"),
                "Description": "EFI SCSI Device",
                "Device": hard_drive(host, vm, drive, snapshot),
                "FirmwarePath": f"\\AcpiEx(VMBus,0,0)\\VenHw\\Scsi({drive.controller_location},0)",
            },
            text="VMBootSource",
        )
        for drive in sorted(vm.drives, key=lambda d: (d.controller_number, d.controller_location))
    ]
    properties: dict[str, object] = {
        "BootOrder": PsList(f"{_NS}.VMBootSource[]", order),
        "PreferredNetworkBootProtocol": enums.hyperv("IPProtocolPreference", "IPv4"),
        "SecureBoot": enums.hyperv("OnOffState", "On"),
        "SecureBootTemplate": "MicrosoftWindows",
        "SecureBootTemplateId": _TEMPLATE,
        "ConsoleMode": enums.hyperv("ConsoleModeType", "Default"),
        "PauseAfterBootFailure": enums.hyperv("OnOffState", "Off"),
    }
    return _component(host, vm, snapshot, "VMFirmware", properties)


def ide_controller(host: Host, vm: VmRecord, number: int, snapshot: SnapshotRecord | None) -> PsObject:
    """A VMIdeController with its drives."""
    drives = [
        hard_drive(host, vm, drive, snapshot)
        for drive in vm.drives
        if (drive.controller_type, drive.controller_number) == ("IDE", number)
    ]
    if vm.dvd and number == 1:
        drives.append(dvd_drive(host, vm))
    properties: dict[str, object] = {
        "ControllerNumber": number,
        "Drives": PsList(f"{_NS}.Drive[]", drives),
        "Name": f"IDE Controller {number}",
        "Id": _id(vm, snapshot, f"IDE\\{number}"),
    }
    return _component(host, vm, snapshot, "VMIdeController", properties)


def com_port(host: Host, vm: VmRecord, number: int, snapshot: SnapshotRecord | None) -> PsObject:
    """A VMComPort that leads nowhere."""
    properties: dict[str, object] = {
        "Path": "",
        "DebuggerMode": enums.hyperv("OnOffState", "Off"),
        "Name": f"COM {number}",
        "Id": _id(vm, snapshot, f"COM\\{number}"),
    }
    return _component(host, vm, snapshot, "VMComPort", properties)


def replication(host: Host, vm: VmRecord) -> PsObject:
    """The VMReplication of a VM that Hyper-V Replica copies; to which server is not kept."""
    disks = [hard_drive(host, vm, drive) for drive in vm.drives]
    kind = f"System.Collections.Generic.List`1[[{_NS}.HardDiskDrive, Microsoft.HyperV.PowerShell.Objects]]"
    properties: dict[str, object] = {
        "AuthenticationType": enums.hyperv("ReplicationAuthenticationType", "Kerberos"),
        "AutoResynchronizeEnabled": True,
        "AutoResynchronizeIntervalStart": timedelta(hours=18, minutes=30),
        "AutoResynchronizeIntervalEnd": timedelta(hours=6),
        "CompressionEnabled": True,
        "ExcludedDisks": PsList(kind, []),
        "PrimaryServerName": host.spec.fqdn,
        "RecoveryHistory": 0,
        "ReplicaServerName": None,
        "ReplicaServerPort": 80,
        "ReplicatedDisks": PsList(kind, disks),
        "ReplicationFrequencySec": 300,
        "ReplicationHealth": enums.hyperv("VMReplicationHealthState", "Normal"),
        "ReplicationMode": enums.hyperv("VMReplicationMode", "Primary"),
        "ReplicationRelationshipType": enums.hyperv("VMReplicationRelationshipType", "Simple"),
        "ReplicationState": enums.hyperv("VMReplicationState", "Replicating"),
        "VSSSnapshotFrequencyHour": 0,
        "VSSSnapshotReplicationEnabled": False,
    }
    return _component(host, vm, None, "VMReplication", properties)


def host_cluster(host: Host, name: str) -> PsObject:
    """The VMHostCluster that a host belongs to."""
    properties: dict[str, object] = {
        "ClusterName": name,
        "SharedStoragePath": "C:\\ClusterStorage",
        "ComputerName": host.name.upper(),
        "IsDeleted": False,
    }
    return PsObject([f"{_NS}.VMHostCluster", *_BASE], properties, text=f"{_NS}.VMHostCluster")


def supported_version(host: Host, version: str, *, default: bool) -> PsObject:
    """A VMHostSupportedVersion."""
    properties: dict[str, object] = {
        "Name": f"Configuration version {version}",
        "Version": version,
        "IsDefault": default,
        "ComputerName": host.name.upper(),
        "IsDeleted": False,
    }
    return PsObject([f"{_NS}.VMHostSupportedVersion", *_BASE], properties, text=f"{_NS}.VMHostSupportedVersion")
