"""How cluster shared volumes look to PowerShell."""

from __future__ import annotations

from typing import TYPE_CHECKING

from labenv.devices import DeviceError
from labenv.windows.cluster.records import ResourceRecord, SharedVolumeRecord
from labenv.windows.cluster.shapes import NS, RESOURCE_STATES, cluster_object, enum, owner_node, strings
from labenv.windows.disks.errors import FileSystemError
from labenv.windows.objects import PsEnum, PsList, PsObject, UInt32, UInt64

if TYPE_CHECKING:
    from labenv.windows.cluster.cluster import FailoverCluster
    from labenv.windows.host import Host

_STATE_INFO = {"Unavailable": 0, "Paused": 1, "Direct": 2, "FileSystemRedirected": 3, "BlockRedirected": 4}
_FILE_REASONS = {"NotFileSystemRedirected": 0, "UserRequest": 1}
_BLOCK_REASONS = {"NotBlockRedirected": 0, "NoDiskConnectivity": 1}


def shared_volume(made: FailoverCluster, record: ResourceRecord) -> PsObject:
    """A ClusterSharedVolume: a disk with the volumes on it."""
    values: dict[str, object] = {
        "Id": str(record.id),
        "Name": record.name,
        "OwnerNode": owner_node(made, made.owner(record)),
        "SharedVolumeInfo": PsList(
            f"System.Collections.Generic.List`1[[{NS}.ClusterSharedVolumeInfo]]",
            [_volume_info(made, record, v) for v in made.volumes.of(record)],
        ),
        "State": enum("ClusterResourceState", made.resources.state(record), RESOURCE_STATES),
    }
    return cluster_object("ClusterSharedVolume", values, record.name)


def _volume_info(made: FailoverCluster, record: ResourceRecord, volume: SharedVolumeRecord) -> PsObject:
    online = record.state == "Online" and not volume.fault
    fault = "NoFaults"
    if not online:
        fault = "NoAccess"
    elif record.maintenance:
        fault = "InMaintenance"
    elif volume.redirected or volume.backup:
        fault = "Redirected"
    values: dict[str, object] = {
        "FaultState": PsEnum(
            f"{NS}.SharedVolumeFaultState",
            fault,
            {"NoFaults": 0, "Redirected": 1, "NoAccess": 2, "InMaintenance": 4}[fault],
        ),
        "FriendlyVolumeName": volume.path.rstrip("\\"),
        "MaintenanceMode": record.maintenance,
        "Partition": _partition(made, volume),
        "PartitionNumber": UInt32(volume.partition),
        "RedirectedAccess": volume.redirected,
        "VolumeOffset": UInt64(made.volumes.partition(volume).offset),
    }
    return cluster_object("ClusterSharedVolumeInfo", values, volume.path.rstrip("\\"))


def _partition(made: FailoverCluster, volume: SharedVolumeRecord) -> PsObject:
    system = made.volumes.formatted(volume.guid)
    try:
        size, free = (system.size, system.free) if system is not None else (0, 0)
    except (DeviceError, FileSystemError):  # its disk has gone since it was mounted: it is listed all the same
        system, size, free = None, 0, 0
    values: dict[str, object] = {
        "DriveLetter": None,
        "DriveLetterMask": UInt32(0),
        "FileSystem": ("CSVFS" if made.spec.csvfs else "NTFS") if system is not None else "",
        "FileSystemFlags": UInt32(0),
        "FreeSpace": UInt64(free),
        "HasDriveLetter": False,
        "IsCompressed": False,
        "IsDirty": False,
        "IsFormatted": system is not None,
        "IsNtfs": system is not None,
        "IsPartitionNumberValid": True,
        "IsPortable": False,
        "MountPoints": strings([]),
        "Name": f"\\\\?\\Volume{{{volume.guid}}}\\",
        "PartitionNumber": UInt32(volume.partition),
        "PercentFree": round(100 * free / size, 2) if size else 0.0,
        "Size": UInt64(size),
        "UsedSpace": UInt64(size - free),
    }
    return cluster_object("ClusterDiskPartitionInfo", values, str(values["Name"]))


def shared_volume_state(
    made: FailoverCluster, record: ResourceRecord, volume: SharedVolumeRecord, host: Host
) -> PsObject:
    """A ClusterSharedVolumeStateInfo: how one node reaches one shared volume."""
    state, file_reason, block_reason = made.volumes.access(record, volume, host)
    values: dict[str, object] = {
        "BlockRedirectedIOReason": enum("ClusterSharedVolumeBlockRedirectedReason", block_reason, _BLOCK_REASONS),
        "FileSystemRedirectedIOReason": enum(
            "ClusterSharedVolumeFileSystemRedirectedReason", file_reason, _FILE_REASONS
        ),
        "Name": record.name,
        "Node": host.name,
        "StateInfo": enum("ClusterSharedVolumeState", state, _STATE_INFO),
        "VolumeFriendlyName": volume.path.rstrip("\\").rpartition("\\")[2],
        "VolumeName": f"\\\\?\\Volume{{{volume.guid}}}\\",
    }
    return cluster_object("ClusterSharedVolumeStateInfo", values, f"{record.name} {host.name}")
