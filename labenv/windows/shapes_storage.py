"""How disks, partitions, volumes and iSCSI things look to PowerShell (CIM instances)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from labenv.windows.disks import gpt as table
from labenv.windows.disks import layout as layouts
from labenv.windows.disks.gpt import Gpt, Partition, PartitionStyle
from labenv.windows.disks.layout import AnyPartition
from labenv.windows.disks.mbr import KINDS, Mbr, MbrPartition
from labenv.windows.objects import PsList, PsObject, UInt16, UInt32, UInt64
from labenv.windows.records import DiskRecord, PortalRecord, SessionRecord
from labenv.windows.storage import COLLISION, POLICY
from labenv.windows.volumes import Volume

if TYPE_CHECKING:
    from labenv.windows.host import Host

_CIM = "Microsoft.Management.Infrastructure.CimInstance"
_BUS = {"system": (10, "SAS"), "iscsi": (9, "iSCSI"), "vhd": (15, "File Backed Virtual")}
_STYLES = {PartitionStyle.RAW: 0, PartitionStyle.MBR: 1, PartitionStyle.GPT: 2}
_TYPES = {number: name for name, number in KINDS.items()}
_REASONS = {0: None, POLICY: "Policy", COLLISION: "Collision"}


def cim(
    class_name: str,
    properties: dict[str, object],
    notes: dict[str, object] | None = None,
    *,
    space: str = "Microsoft/Windows/Storage",
) -> PsObject:
    """A CIM instance with the type names that PowerShell gives it."""
    types = [f"{_CIM}#ROOT/{space}/{class_name}", f"{_CIM}#{class_name}", _CIM, "System.Object"]
    return PsObject(types, properties, notes or {}, text=class_name, cim=True)


def strings(items: list[str]) -> PsList:
    """A string[]."""
    return PsList("System.String[]", items)


def _object_id(host: Host, kind: str, name: str) -> str:
    space = "root/Microsoft/Windows/Storage/Providers_v2"
    return f"{{1}}\\\\{host.name}\\{space}\\WSP_{kind}.ObjectId={name}"


def disk(host: Host, record: DiskRecord) -> PsObject:
    """An MSFT_Disk."""
    layout = host.disks.layout(record)
    style = layout.style if layout is not None else PartitionStyle.RAW
    partitions = layout.partitions if layout is not None else ()
    allocated = sum(p.length for p in partitions)
    free = layouts.free_range(host.disks.device(record), layout)[1] if layout is not None else 0
    bus = _BUS[record.kind]
    name = {"system": "LAB Local Disk", "iscsi": "NETAPP LUN C-Mode", "vhd": "Msft Virtual Disk"}[record.kind]
    guid = f"{{{layout.disk_guid}}}" if isinstance(layout, Gpt) else None
    status = "Offline" if record.offline else "Online"
    vendor, _, model = name.partition(" ")
    path = f"\\\\?\\Disk{{{host.name}-{record.unique_id}}}"
    properties: dict[str, object] = {
        "AllocatedSize": UInt64(allocated),
        "BootFromDisk": record.kind == "system" or record.boot,
        "BusType": UInt16(bus[0]),
        "FirmwareVersion": "9150" if record.kind == "iscsi" else "1.0",
        "FriendlyName": name,
        "Guid": guid,
        "HealthStatus": UInt16(0),
        "IsBoot": record.kind == "system" or record.boot,
        "IsClustered": host.disks.owner is not None and host.disks.owner.clustered(record),
        "IsHighlyAvailable": False,
        "IsOffline": record.offline,
        "IsReadOnly": record.read_only,
        "IsScaleOut": False,
        "IsSystem": record.kind == "system",
        "LargestFreeExtent": UInt64(free),
        "Location": record.path or f"iSCSI {record.serial}" if record.kind != "system" else "Integrated",
        "LogicalSectorSize": UInt32(512),
        "Manufacturer": vendor,
        "Model": model,
        "Number": UInt32(record.number or 0),
        "NumberOfPartitions": UInt32(len(partitions)),
        "ObjectId": _object_id(host, "Disk", record.unique_id),
        "OfflineReason": UInt16(record.offline_reason) if record.offline_reason else None,
        "OperationalStatus": PsList("System.UInt16[]", [UInt16(0xD013 if record.offline else 0xD010)]),
        "PartitionStyle": UInt16(_STYLES[style]),
        "Path": path,
        "PhysicalSectorSize": UInt32(4096 if record.kind == "iscsi" else 512),
        "ProvisioningType": UInt16(1 if record.kind == "iscsi" else 2),
        "SerialNumber": record.serial or None,
        "Signature": UInt32(layout.signature) if isinstance(layout, Mbr) else None,
        "Size": UInt64(record.size),
        "UniqueId": record.unique_id,
        "UniqueIdFormat": UInt16(3),
        "PSComputerName": None,
    }
    notes: dict[str, object] = {
        "BusType": bus[1],
        "DiskNumber": UInt32(record.number or 0),
        "HealthStatus": "Healthy",
        "OfflineReason": _REASONS[record.offline_reason],
        "OperationalStatus": status,
        "PartitionStyle": style.value,
        "ProvisioningType": "Thin" if record.kind == "iscsi" else "Fixed",
        "UniqueIdFormat": "FCPH Name",
    }
    return cim("MSFT_Disk", properties, notes)


def partition(host: Host, record: DiskRecord, part: AnyPartition) -> PsObject:
    """An MSFT_Partition."""
    volume = host.volumes.of_partition(record.unique_id, part.number)
    gpt = part if isinstance(part, Partition) else None
    mbr = part if isinstance(part, MbrPartition) else None
    letter = volume.letter if volume is not None and volume.letter else None
    flags = part.attributes
    properties: dict[str, object] = {
        "AccessPaths": strings(volume.access_paths if volume is not None else []),
        "DiskId": f"\\\\?\\Disk{{{host.name}-{record.unique_id}}}",
        "DiskNumber": UInt32(record.number or 0),
        "DriveLetter": letter,
        "GptType": f"{{{gpt.type_guid}}}" if gpt else None,
        "Guid": f"{{{gpt.guid}}}" if gpt else None,
        "IsActive": mbr.active if mbr else None,
        "IsBoot": record.kind == "system",
        "IsDAX": False,
        "IsHidden": bool(flags & table.HIDDEN),
        "IsOffline": record.offline,
        "IsReadOnly": bool(flags & table.READ_ONLY),
        "IsShadowCopy": bool(flags & table.SHADOW_COPY),
        "IsSystem": record.kind == "system",
        "MbrType": UInt16(mbr.kind) if mbr else None,
        "NoDefaultDriveLetter": gpt is not None and (bool(flags & table.NO_DRIVE_LETTER) or not gpt.holds_volume),
        "Offset": UInt64(part.offset),
        "OperationalStatus": UInt16(1),
        "PartitionNumber": UInt32(part.number),
        "Size": UInt64(part.length),
        "TransitionState": UInt16(1),
        "UniqueId": f"{{{part.number:08d}}}{record.unique_id}",
        "PSComputerName": None,
    }
    kind = _TYPES.get(mbr.kind, "Unknown") if mbr else "Basic" if part.holds_volume else "Reserved"
    return cim("MSFT_Partition", properties, {"Type": kind, "OperationalStatus": "Online"})


def volume(host: Host, item: Volume) -> PsObject:
    """An MSFT_Volume. The bytes are exFAT; hosts of the TR's time would have NTFS there, and that is what is shown."""
    system = host.volumes.formatted(item)
    csvfs = item.shared and host.spec.era != "2008r2"  # version 1 of shared volumes showed the NTFS below
    properties: dict[str, object] = {
        "AllocationUnitSize": UInt32(system.cluster_size if system is not None else 0),
        "DedupMode": UInt32(4),
        "DriveLetter": item.letter or None,
        "DriveType": UInt32(3),
        "FileSystem": ("CSVFS" if csvfs else "NTFS") if system is not None else "",
        "FileSystemLabel": system.label if system is not None else "",
        "FileSystemType": UInt16((0x8000 if csvfs else 14) if system is not None else 0),
        "HealthStatus": UInt16(0),
        "ObjectId": _object_id(host, "Volume", item.name),
        "OperationalStatus": PsList("System.UInt16[]", [UInt16(2)]),
        "Path": item.name,
        "Size": UInt64(system.size if system is not None else 0),
        "SizeRemaining": UInt64(system.free if system is not None else 0),
        "UniqueId": item.name,
        "PSComputerName": None,
    }
    notes: dict[str, object] = {
        "DriveType": "Fixed",
        "FileSystemType": ("CSVFS_NTFS" if csvfs else "NTFS") if system is not None else "Unknown",
        "HealthStatus": "Healthy",
        "OperationalStatus": "OK" if system is not None else "Unknown",
    }
    return cim("MSFT_Volume", properties, notes)


def initiator_port(host: Host) -> PsObject:
    """The MSFT_InitiatorPort of the iSCSI initiator."""
    properties: dict[str, object] = {
        "AlternateNodeAddress": strings(["0x00"]),
        "AlternatePortAddress": strings([]),
        "ConnectionType": UInt16(4),
        "InstanceName": "ROOT\\ISCSIPRT\\0000_0",
        "NodeAddress": host.iqn,
        "ObjectId": f"{host.iqn}:ROOT\\ISCSIPRT\\0000_0",
        "OperationalStatus": UInt16(1),
        "PortAddress": "ISCSI ANY PORT",
        "PortType": None,
        "UniqueId": None,
        "PSComputerName": None,
    }
    return cim("MSFT_InitiatorPort", properties, {"ConnectionType": "iSCSI", "OperationalStatus": "Operational"})


def portal(_host: Host, record: PortalRecord) -> PsObject:
    """An MSFT_iSCSITargetPortal."""
    properties: dict[str, object] = {
        "InitiatorInstanceName": None,
        "InitiatorPortalAddress": None,
        "IsDataDigest": False,
        "IsHeaderDigest": False,
        "TargetPortalAddress": record.address,
        "TargetPortalPortNumber": UInt16(record.port),
        "PSComputerName": None,
    }
    return cim("MSFT_iSCSITargetPortal", properties)


def target(host: Host, name: str) -> PsObject:
    """An MSFT_iSCSITarget."""
    connected = any(s.target == name and host.initiator.reaches(s) for s in host.initiator.sessions.values())
    return cim("MSFT_iSCSITarget", {"IsConnected": connected, "NodeAddress": name, "PSComputerName": None})


def session(host: Host, record: SessionRecord) -> PsObject:
    """An MSFT_iSCSISession."""
    connected = host.initiator.reaches(record)
    properties: dict[str, object] = {
        "AuthenticationType": "NONE",
        "InitiatorInstanceName": "ROOT\\ISCSIPRT\\0000_0",
        "InitiatorNodeAddress": host.iqn,
        "InitiatorPortalAddress": record.initiator_portal or "0.0.0.0",  # noqa: S104  # what Windows shows for "any"
        "InitiatorSideIdentifier": "400001370000",
        "IsConnected": connected,
        "IsDataDigest": False,
        "IsDiscovered": True,
        "IsHeaderDigest": False,
        "IsPersistent": record.persistent,
        "NumberOfConnections": UInt32(1 if connected else 0),
        "SessionIdentifier": record.identifier,
        "TargetNodeAddress": record.target,
        "TargetSideIdentifier": "0100",
        "PSComputerName": None,
    }
    return cim("MSFT_iSCSISession", properties)


def connection(host: Host, record: SessionRecord) -> PsObject:
    """An MSFT_iSCSIConnection."""
    properties: dict[str, object] = {
        "ConnectionIdentifier": record.identifier[:16] + "-1",
        "InitiatorAddress": record.initiator_portal or host.spec.address,
        "InitiatorPortNumber": UInt16(49152 + int(record.identifier[4:12], 16) % 16000),
        "TargetAddress": record.portal,
        "TargetPortNumber": UInt16(record.port),
        "PSComputerName": None,
    }
    return cim("MSFT_iSCSIConnection", properties)
