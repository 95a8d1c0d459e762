"""What storage could be: sizes that a partition can have, file systems and cluster sizes of a volume."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from labenv.devices import DeviceError
from labenv.windows.call import Call, Cmdlet
from labenv.windows.cmdlets.partition import partitions
from labenv.windows.cmdlets.volume import volumes
from labenv.windows.disks import mbr
from labenv.windows.disks.errors import FileSystemError
from labenv.windows.disks.gpt import MIB, SECTOR
from labenv.windows.disks.layout import AnyPartition
from labenv.windows.disks.mbr import Mbr
from labenv.windows.errors import storage
from labenv.windows.objects import PsObject, UInt32, UInt64
from labenv.windows.records import DiskRecord

if TYPE_CHECKING:
    from labenv.windows.host import Host

FILE_SYSTEMS = ("NTFS", "exFAT")
"""What Format-Volume takes."""
CLUSTERS = tuple(512 << power for power in range(8))
"""Cluster sizes in bytes, 512 to 65536."""


def get_partition_supported_size(host: Host, call: Call) -> Sequence[object]:
    """Get-PartitionSupportedSize: from what its files take to the next partition or to the disk's end."""
    output: list[object] = []
    for record, part in partitions(host, call):
        if not part.holds_volume:
            call.error(storage(42008))
            continue
        volume = host.volumes.of_partition(record.unique_id, part.number)
        try:
            system = host.volumes.file_system(volume) if volume is not None else None
            least = part.length - system.free // MIB * MIB if system is not None else MIB
        except (DeviceError, FileSystemError):
            least = MIB
        properties: dict[str, object] = {
            "SizeMin": UInt64(max(MIB, least)),
            "SizeMax": UInt64(_most(host, record, part)),
        }
        output.append(PsObject(["System.Management.Automation.PSCustomObject", "System.Object"], {}, properties))
    return output


def _most(host: Host, record: DiskRecord, part: AnyPartition) -> int:
    layout = host.disks.layout(record)
    behind = [p.offset for p in layout.partitions if p.offset > part.offset] if layout is not None else []
    end = record.size - (0 if isinstance(layout, Mbr) else MIB)
    if isinstance(layout, Mbr):
        end = min(end, mbr.MOST_SECTORS * SECTOR)
    return max(part.length, (min([*behind, end]) - part.offset) // MIB * MIB)


def get_supported_file_systems(host: Host, call: Call) -> Sequence[object]:
    """Get-SupportedFileSystems: for each volume asked for."""
    return [name for item in volumes(host, call) if not item.shared for name in FILE_SYSTEMS]


def get_supported_cluster_sizes(host: Host, call: Call) -> Sequence[object]:
    """Get-SupportedClusterSizes: bytes."""
    if str(call.get("FileSystem")).lower() not in (name.lower() for name in FILE_SYSTEMS):
        raise storage(43001)
    return [UInt32(size) for item in volumes(host, call) if not item.shared for size in CLUSTERS]


COMMANDS: Mapping[str, Cmdlet] = {
    "Get-PartitionSupportedSize": get_partition_supported_size,
    "Get-SupportedFileSystems": get_supported_file_systems,
    "Get-SupportedClusterSizes": get_supported_cluster_sizes,
}
"""The cmdlets of this module."""
