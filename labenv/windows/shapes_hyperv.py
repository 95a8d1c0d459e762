"""How virtual machines and what belongs to them look to PowerShell."""

from __future__ import annotations

import ntpath
from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from labenv.windows import enums
from labenv.windows.disks.virtualdisk import VhdInfo
from labenv.windows.objects import Int64, PsList, PsObject, UInt32, UInt64
from labenv.windows.passthrough import find
from labenv.windows.records import AdapterRecord, DriveRecord, SnapshotRecord, SwitchRecord, VmRecord
from labenv.windows.running import Running

if TYPE_CHECKING:
    from labenv.windows.host import Host

_NS = "Microsoft.HyperV.PowerShell"
_BASE = [f"{_NS}.VirtualizationObject", "System.Object"]
_NO_ID = UUID(int=0)

SERVICES = (
    ("Guest Service Interface", "6C09BB55-D683-4DA0-8931-C9BF705F6480"),
    ("Heartbeat", "84EAAE65-2F2E-45F5-9BB5-0E857DC8EB47"),
    ("Key-Value Pair Exchange", "2A34B1C2-FD73-4043-8A5B-DD2159BC743F"),
    ("Shutdown", "9F8233AC-BE49-4C79-8EE3-E7E1985B2077"),
    ("Time Synchronization", "2497F4DE-E9FA-4204-80E4-4B75C46419C0"),
    ("VSS", "5CED1297-4598-4915-A5FC-AD21BB4D02A4"),
)
"""Integration services: name (of an English system) and the component id that names them in every language."""


_PRIMARY = ("Ok", "CriticalIoError")
_STATUS = {
    "Ok": "Operating normally",
    "CriticalIoError": "Cannot connect to virtual machine storage",
    "MergingDisks": "Merging disks",
    "CreatingSnapshot": "Creating checkpoint",
    "MigratingVirtualMachine": "Moving virtual machine",
    "StorageMigrationPhaseOne": "Moving storage",
    "StorageMigrationPhaseTwo": "Moving storage",
}


def _list(kind: str, items: list[PsObject]) -> PsList:
    return PsList(f"System.Collections.Generic.List`1[[{_NS}.{kind}, Microsoft.HyperV.PowerShell.Objects]]", items)


def _fibre_channel(vm: VmRecord) -> list[PsObject]:
    return [_adapter(vm, number) for number in range(vm.fibre_channel)]


def _adapter(vm: VmRecord, number: int) -> PsObject:
    name = "Fibre Channel Adapter"
    properties: dict[str, object] = {
        "Name": name,
        "Id": f"Microsoft:{str(vm.id).upper()}\\{number}",
        "SanName": "Fabric",
        "WorldWideNodeNameSetA": "C003FF0000FFFF00",
        "WorldWideNodeNameSetB": "C003FF0000FFFF00",
        "WorldWidePortNameSetA": f"C003FF{number * 2:010X}",
        "WorldWidePortNameSetB": f"C003FF{number * 2 + 1:010X}",
        "VMId": vm.id,
        "VMName": vm.name,
        "VMSnapshotId": _NO_ID,
        "VMSnapshotName": "",
        "IsDeleted": False,
    }
    types = [f"{_NS}.VMFibreChannelHba", f"{_NS}.VMDevice", *_BASE]
    return PsObject(types, properties, text=f"VMFibreChannelHba (Name = '{name}') [VMName = '{vm.name}']")


def heartbeat(host: Host, vm: VmRecord) -> str | None:
    """Name of the VM's heartbeat status; None while it is not running."""
    if vm.state != "Running":
        return None
    if "Heartbeat" in vm.disabled_services:
        return "Disabled"
    running: Running | None = host.machines.running.get(vm.id)
    # not asked yet since the lab was started: the guest boots when it is needed, and then it answers
    return "OkApplicationsUnknown" if running is None or running.guest is not None else "NoContact"


def shown_state(host: Host, vm: VmRecord) -> str:
    """The state as Hyper-V shows it: critical if the configuration's storage does not answer."""
    if vm.state in ("Off", "Saved") and not host.machines.configurations.available(vm):
        return f"{vm.state}Critical"
    return vm.state


def virtual_machine(host: Host, vm: VmRecord) -> PsObject:
    """A VirtualMachine."""
    state = shown_state(host, vm)
    critical = state.endswith("Critical")
    status = vm.status if vm.status else ("CriticalIoError" if critical else "Ok")
    operational = [enums.hyperv("VMOperationalStatus", status if status in _PRIMARY else "Ok")]
    if status not in _PRIMARY:
        operational.append(enums.hyperv("VMOperationalStatus", status))
    words = _STATUS[status]
    running = vm.state == "Running"
    beat = heartbeat(host, vm)
    drives = [hard_drive(host, vm, d) for d in vm.drives]
    parent = host.machines.snapshots.get(str(vm.parent_snapshot))
    uptime = timedelta(microseconds=host.clock.now - vm.started) if vm.started else timedelta(0)
    properties: dict[str, object] = {
        "ParentCheckpointId": vm.parent_snapshot,
        "ParentCheckpointName": parent.name if parent is not None else None,
        "CheckpointFileLocation": vm.snapshot_path,
        "ConfigurationLocation": vm.path,
        "SmartPagingFileInUse": False,
        "SmartPagingFilePath": vm.smart_paging_path or vm.path,
        "SnapshotFileLocation": vm.snapshot_path,
        "AutomaticStartAction": enums.hyperv("StartAction", vm.start_action),
        "AutomaticStartDelay": vm.start_delay,
        "AutomaticStopAction": enums.hyperv("StopAction", vm.stop_action),
        "AutomaticCriticalErrorAction": enums.hyperv("CriticalErrorAction", vm.critical_error_action),
        "AutomaticCriticalErrorActionTimeout": vm.critical_error_timeout,
        "AutomaticCheckpointsEnabled": vm.automatic_checkpoints,
        "CPUUsage": 0,
        "MemoryAssigned": Int64(vm.memory if running else 0),
        "MemoryDemand": Int64(vm.memory // 2 if running else 0),
        "MemoryStatus": "",
        "NumaAligned": True if running else None,
        "NumaNodesCount": 1,
        "NumaSocketCount": 1,
        "Heartbeat": enums.hyperv("VMHeartbeatStatus", beat) if beat is not None else None,
        "IntegrationServicesState": "Up to date" if running else "",
        "IntegrationServicesVersion": host.spec.version if running else None,
        "Uptime": uptime,
        "OperationalStatus": PsList(f"{_NS}.VMOperationalStatus[]", operational),
        "PrimaryOperationalStatus": operational[0],
        "SecondaryOperationalStatus": operational[1] if len(operational) > 1 else None,
        "StatusDescriptions": PsList("System.String[]", [words]),
        "PrimaryStatusDescription": words,
        "SecondaryStatusDescription": words if len(operational) > 1 else None,
        "Status": words,
        "ReplicationHealth": enums.hyperv("VMReplicationHealthState", "Normal" if vm.replicated else "NotApplicable"),
        "ReplicationMode": enums.hyperv("VMReplicationMode", "Primary" if vm.replicated else "None"),
        "ReplicationState": enums.hyperv("VMReplicationState", "Replicating" if vm.replicated else "Disabled"),
        "ResourceMeteringEnabled": False,
        "CheckpointType": enums.hyperv("CheckpointType", vm.checkpoint_type),
        "Groups": PsList(
            f"System.Collections.Generic.List`1[[{_NS}.VMGroup, Microsoft.HyperV.PowerShell.Objects]]", []
        ),
        "Version": vm.version,
        "VirtualMachineType": enums.hyperv("VirtualMachineType", "RealizedVirtualMachine"),
        "VirtualMachineSubType": enums.hyperv("VirtualMachineSubType", f"Generation{vm.generation}"),
        "Notes": vm.notes,
        "State": enums.hyperv("VMState", state),
        "ComPort1": None,
        "ComPort2": None,
        "DVDDrives": PsList(f"{_NS}.DvdDrive[]", [dvd_drive(host, vm)] if vm.dvd else []),
        "FibreChannelHostBusAdapters": _list("VMFibreChannelHba", _fibre_channel(vm)),
        "FloppyDrive": None,
        "HardDrives": PsList(f"{_NS}.HardDiskDrive[]", drives),
        "RemoteFxAdapter": None,
        "VMIntegrationService": _list("VMIntegrationComponent", integration_services(host, vm)),
        "DynamicMemoryEnabled": vm.dynamic_memory,
        "MemoryMaximum": Int64(vm.memory_maximum),
        "MemoryMinimum": Int64(vm.memory_minimum),
        "MemoryStartup": Int64(vm.memory),
        "ProcessorCount": Int64(vm.processors),
        "BatteryPassthroughEnabled": True,
        "Generation": vm.generation,
        "IsClustered": vm.clustered,
        "ParentSnapshotId": vm.parent_snapshot,
        "ParentSnapshotName": parent.name if parent is not None else None,
        "Path": vm.path,
        "SizeOfSystemFiles": Int64(65536),
        "GuestControlledCacheTypes": False,
        "LowMemoryMappedIoSpace": UInt32(128 << 20),
        "HighMemoryMappedIoSpace": UInt64(512 << 20),
        "LockOnDisconnect": enums.hyperv("OnOffState", "Off"),
        "CreationTime": vm.created,
        "Id": vm.id,
        "Name": vm.name,
        "NetworkAdapters": _list("VMNetworkAdapter", [adapter(host, vm, a) for a in vm.adapters]),
        "ComputerName": host.name.upper(),
        "IsDeleted": False,
    }
    types = [f"{_NS}.VirtualMachine", f"{_NS}.VirtualMachineBase", *_BASE]
    notes: dict[str, object] = {"VMId": vm.id, "VMName": vm.name}
    return PsObject(types, properties, notes, text=f"VirtualMachine (Name = '{vm.name}') [Id = '{vm.id}']")


def _disk_number(host: Host, drive: DriveRecord) -> int | None:
    record = find(host.disks, drive) if drive.disk_id else None
    return record.number if record is not None else None


def _physical(host: Host, drive: DriveRecord) -> str:
    record = find(host.disks, drive)
    if record is None:
        return "Physical disk not found"
    return f"Disk {record.number} {record.size / (1 << 30):.2f} GB Bus 0 Lun {record.number} Target 0"


def hard_drive(host: Host, vm: VmRecord, drive: DriveRecord, snapshot: SnapshotRecord | None = None) -> PsObject:
    """A HardDiskDrive."""
    kind, number, location = drive.controller_type, drive.controller_number, drive.controller_location
    owner = snapshot.id if snapshot is not None else vm.id
    name = f"Hard Drive on {kind} controller number {number} at location {location}"
    properties: dict[str, object] = {
        "Path": drive.path or _physical(host, drive),
        "DiskNumber": _disk_number(host, drive),
        "MaximumIOPS": UInt64(0),
        "MinimumIOPS": UInt64(0),
        "QoSPolicyID": _NO_ID,
        "SupportPersistentReservations": False,
        "WriteHardeningMethod": None,
        "ControllerLocation": location,
        "ControllerNumber": number,
        "ControllerType": enums.hyperv("ControllerType", kind),
        "Name": name,
        "PoolName": "Primordial",
        "Id": f"Microsoft:{str(owner).upper()}\\{kind}\\{number}\\{location}\\D",
        "VMId": vm.id,
        "VMName": vm.name,
        "VMSnapshotId": snapshot.id if snapshot is not None else _NO_ID,
        "VMSnapshotName": snapshot.name if snapshot is not None else "",
        "ComputerName": host.name.upper(),
        "IsDeleted": False,
    }
    types = [f"{_NS}.HardDiskDrive", f"{_NS}.Drive", f"{_NS}.VMDevice", f"{_NS}.VMComponentObject", *_BASE]
    return PsObject(types, properties, {"VMCheckpointId": properties["VMSnapshotId"]}, text=f"{_NS}.HardDiskDrive")


def scsi_controller(host: Host, vm: VmRecord, number: int, snapshot: SnapshotRecord | None = None) -> PsObject:
    """A VMScsiController."""
    owner = snapshot.id if snapshot is not None else vm.id
    drives = [d for d in vm.drives if (d.controller_type, d.controller_number) == ("SCSI", number)]
    properties: dict[str, object] = {
        "ControllerNumber": number,
        "IsTemplate": False,
        "Drives": PsList(f"{_NS}.Drive[]", [hard_drive(host, vm, d, snapshot) for d in drives]),
        "Name": "SCSI Controller",
        "Id": f"Microsoft:{str(owner).upper()}\\SCSI\\{number}",
        "VMId": vm.id,
        "VMName": vm.name,
        "VMSnapshotId": snapshot.id if snapshot is not None else _NO_ID,
        "VMSnapshotName": snapshot.name if snapshot is not None else "",
        "ComputerName": host.name.upper(),
        "IsDeleted": False,
    }
    types = [f"{_NS}.VMScsiController", f"{_NS}.VMDriveController", f"{_NS}.VMDevice", f"{_NS}.VMComponentObject"]
    return PsObject([*types, *_BASE], properties, text=f"{_NS}.VMScsiController")


def dvd_drive(host: Host, vm: VmRecord) -> PsObject:
    """The DvdDrive of a VM of generation 1, without a disc."""
    properties: dict[str, object] = {
        "DvdMediaType": enums.hyperv("DvdMediaType", "None"),
        "Path": None,
        "ControllerLocation": 0,
        "ControllerNumber": 1,
        "ControllerType": enums.hyperv("ControllerType", "IDE"),
        "Name": "DVD Drive on IDE controller number 1 at location 0",
        "PoolName": "Primordial",
        "Id": f"Microsoft:{str(vm.id).upper()}\\IDE\\1\\0\\D",
        "VMId": vm.id,
        "VMName": vm.name,
        "VMSnapshotId": _NO_ID,
        "VMSnapshotName": "",
        "ComputerName": host.name.upper(),
        "IsDeleted": False,
    }
    types = [f"{_NS}.DvdDrive", f"{_NS}.Drive", f"{_NS}.VMDevice", f"{_NS}.VMComponentObject", *_BASE]
    return PsObject(types, properties, text=f"{_NS}.DvdDrive")


def adapter(host: Host, vm: VmRecord, record: AdapterRecord) -> PsObject:
    """A VMNetworkAdapter."""
    switch = host.machines.switch(record.switch) if record.switch else None
    running = vm.state == "Running"
    status = "Ok" if switch is not None and running else "NoContact" if running else None
    properties: dict[str, object] = {
        "Name": record.name,
        "Id": f"Microsoft:{str(vm.id).upper()}\\{record.mac}",
        "MacAddress": record.mac,
        "DynamicMacAddressEnabled": True,
        "IsLegacy": record.legacy,
        "IsSynthetic": not record.legacy,
        "IsManagementOs": False,
        "IsExternalAdapter": False,
        "Connected": switch is not None,
        "SwitchName": switch.name if switch is not None else (record.switch or None),
        "SwitchId": switch.id if switch is not None else None,
        "IPAddresses": PsList("System.String[]", addresses(host, vm)),
        "Status": PsList("System.String[]", [status] if status else []),
        "VMId": vm.id,
        "VMName": vm.name,
        "VMSnapshotId": _NO_ID,
        "VMSnapshotName": "",
        "ComputerName": host.name.upper(),
        "IsDeleted": False,
    }
    types = [f"{_NS}.VMNetworkAdapter", f"{_NS}.VMNetworkAdapterBase", f"{_NS}.VMDevice", *_BASE]
    return PsObject(types, properties, text=f"VMNetworkAdapter (Name = '{record.name}') [VMName = '{vm.name}']")


def addresses(host: Host, vm: VmRecord) -> list[str]:
    """What the guest reports of its IP addresses."""
    running = host.machines.running.get(vm.id)
    if vm.state != "Running" or running is None or running.guest is None:
        return []
    return [running.guest.address] if running.guest.address else []


def integration_services(host: Host, vm: VmRecord) -> list[PsObject]:
    """The VMIntegrationComponents of a VM."""
    found = []
    beat = heartbeat(host, vm)
    for name, component in SERVICES:
        if name == "Guest Service Interface" and host.spec.era != "2022":
            continue  # came with Windows Server 2012 R2
        enabled = name not in vm.disabled_services and name != "Guest Service Interface"
        status = None
        if vm.state == "Running":
            answers = beat in ("OkApplicationsUnknown", "Disabled")
            status = "Ok" if enabled and answers else "Disabled" if not enabled else "NoContact"
        value = enums.hyperv("VMIntegrationComponentOperationalStatus", status) if status is not None else None
        properties: dict[str, object] = {
            "Enabled": enabled,
            "OperationalStatus": PsList(f"{_NS}.VMIntegrationComponentOperationalStatus[]", [value] if value else []),
            "PrimaryOperationalStatus": value,
            "PrimaryStatusDescription": {"Ok": "OK", "NoContact": "No Contact"}.get(status or "", ""),
            "SecondaryOperationalStatus": None,
            "SecondaryStatusDescription": "",
            "StatusDescription": PsList("System.String[]", []),
            "Name": name,
            "Id": f"Microsoft:{str(vm.id).upper()}\\{component}",
            "VMId": vm.id,
            "VMName": vm.name,
            "VMSnapshotId": _NO_ID,
            "VMSnapshotName": "",
            "ComputerName": host.name.upper(),
            "IsDeleted": False,
        }
        types = [f"{_NS}.VMIntegrationComponent", f"{_NS}.VMComponentObject", *_BASE]
        found.append(
            PsObject(types, properties, text=f"VMIntegrationComponent (Name = '{name}') [VMName = '{vm.name}']")
        )
    return found


def snapshot(host: Host, record: SnapshotRecord) -> PsObject:
    """A VMSnapshot."""
    vm = record.configuration
    parent = host.machines.snapshots.get(str(record.parent))
    drives = [hard_drive(host, vm, d, record) for d in vm.drives]
    saved = "Saved" if record.consistency == "saved" else "Off"
    properties: dict[str, object] = {
        "CheckpointType": enums.hyperv("SnapshotType", record.kind),
        "IsAutomaticCheckpoint": False,
        "IsDeleted": False,
        "Path": host.machines.configurations.snapshot_path(record).rsplit("\\", 2)[0],
        "SizeOfSystemFiles": Int64(32768),
        "SnapshotType": enums.hyperv("SnapshotType", record.kind),
        "VMId": record.vm,
        "VMName": vm.name,
        "State": enums.hyperv("VMState", saved),
        "ParentSnapshotId": record.parent,
        "ParentSnapshotName": parent.name if parent is not None else None,
        "HardDrives": PsList(f"{_NS}.HardDiskDrive[]", drives),
        "NetworkAdapters": _list("VMNetworkAdapter", [adapter(host, vm, a) for a in vm.adapters]),
        "VMIntegrationService": _list("VMIntegrationComponent", []),
        "DynamicMemoryEnabled": vm.dynamic_memory,
        "MemoryStartup": Int64(vm.memory),
        "ProcessorCount": Int64(vm.processors),
        "Generation": vm.generation,
        "IsClustered": vm.clustered,
        "Notes": vm.notes,
        "Version": vm.version,
        "CreationTime": record.created,
        "Id": record.id,
        "Name": record.name,
        "ComputerName": host.name.upper(),
    }
    types = [f"{_NS}.VMSnapshot", f"{_NS}.VirtualMachineBase", *_BASE]
    notes: dict[str, object] = {
        "ParentCheckpointId": record.parent,
        "ParentCheckpointName": properties["ParentSnapshotName"],
    }
    return PsObject(types, properties, notes, text=f"VMSnapshot (Name = '{record.name}') [VMName = '{vm.name}']")


def virtual_disk(host: Host, path: str, info: VhdInfo, *, attached: bool, disk_number: int | None) -> PsObject:
    """A VirtualHardDisk."""
    parent = host.vhds.parent(path, info)
    properties: dict[str, object] = {
        "ComputerName": host.name.upper(),
        "Path": path,
        "VhdFormat": enums.vhd("VhdFormat", info.format.value),
        "VhdType": enums.vhd("VhdType", info.type.value),
        "FileSize": UInt64(info.file_size),
        "Size": UInt64(info.size),
        "MinimumSize": UInt64(info.size),
        "LogicalSectorSize": UInt32(info.logical_sector_size),
        "PhysicalSectorSize": UInt32(info.physical_sector_size),
        "BlockSize": UInt32(info.block_size),
        "ParentPath": parent or "",
        "DiskIdentifier": str(info.identifier).upper(),
        "FragmentationPercentage": UInt32(0),
        "Alignment": UInt32(1),
        "Attached": attached,
        "DiskNumber": UInt32(disk_number) if disk_number is not None else None,
        "Number": UInt32(disk_number) if disk_number is not None else None,
        "IsPMEMCompatible": False,
    }
    return PsObject(
        ["Microsoft.Vhd.PowerShell.VirtualHardDisk", "System.Object"], properties, text=ntpath.basename(path)
    )


def switch(host: Host, record: SwitchRecord) -> PsObject:
    """A VMSwitch."""
    properties: dict[str, object] = {
        "Name": record.name,
        "Id": record.id,
        "Notes": record.notes,
        "SwitchType": enums.hyperv("VMSwitchType", record.kind),
        "AllowManagementOS": record.management_os,
        "NetAdapterInterfaceDescription": record.adapter or None,
        "IovEnabled": False,
        "EmbeddedTeamingEnabled": False,
        "ComputerName": host.name.upper(),
        "IsDeleted": False,
    }
    types = [f"{_NS}.VMSwitch", *_BASE]
    return PsObject(types, properties, text=f'VMSwitch (Name = "{record.name}")')
