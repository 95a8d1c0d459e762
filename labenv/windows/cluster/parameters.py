"""Private properties of resources (Get-ClusterParameter, Set-ClusterParameter)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from labenv.windows.cluster.errors import ClusterProblem
from labenv.windows.cluster.records import ADDRESS, DISK, NAME, ONLINE, VM, VM_CONFIGURATION, ResourceRecord
from labenv.windows.objects import PsList, UInt32

if TYPE_CHECKING:
    from labenv.windows.cluster.cluster import FailoverCluster

_READ_ONLY = ("DiskUniqueIds", "DiskVolumeInfo", "VmStoreRootPath", "DependsOnSharedVolumes", "VmID")
_TEXTS = ("DiskIdGuid", "DiskPath", "VirtualDiskId", "Address", "Network", "SubnetMask", "Name", "DnsName")


def values(made: FailoverCluster, resource: ResourceRecord) -> dict[str, object]:
    """Every private property of a resource, with the type that it has on the wire."""
    found: dict[str, object] = dict(_defaults(made, resource))
    for name, value in resource.parameters.items():
        found[name] = UInt32(value) if isinstance(value, int) else value
    return dict(sorted(found.items(), key=lambda pair: pair[0].lower()))


def _defaults(made: FailoverCluster, resource: ResourceRecord) -> dict[str, object]:
    if resource.kind == DISK:
        return _disk(made, resource)
    if resource.kind == VM:
        return {
            "CheckHeartbeat": UInt32(1),
            "MigrationFailureReason": UInt32(0),
            "MigrationProgress": UInt32(made.group_of(resource).progress),
            "MigrationState": UInt32(1 if made.group_of(resource).moving else 0),
            "OfflineAction": UInt32(1),
            "ShutdownAction": UInt32(0),
            "StartMemory": UInt32(1024),
            "VmID": str(resource.vm),
            "VmState": UInt32(2 if made.resources.state(resource) == ONLINE else 3),
        }
    if resource.kind == VM_CONFIGURATION:
        vm = made.machines.record(made.group_of(resource))
        shared = sorted({str(v.guid) for v in made.volume_table.values() if vm and _on(v.path, vm.path)})
        kind = "System.Collections.Specialized.StringCollection"
        return {
            "DependsOnSharedVolumes": PsList(kind, shared),
            "VmID": str(resource.vm),
            "VmStoreRootPath": vm.path if vm is not None else "",
        }
    if resource.kind == NAME:
        return {"DnsName": made.spec.name, "Name": made.spec.name.upper(), "RequireKerberos": UInt32(1)}
    if resource.kind == ADDRESS:
        return {
            "Address": made.spec.address,
            "EnableDhcp": UInt32(0),
            "Network": made.spec.networks[0].name,
            "SubnetMask": "255.255.255.0",
        }
    return {}


def _on(folder: str, path: str) -> bool:
    return path.lower().startswith(folder.lower())


def _disk(made: FailoverCluster, resource: ResourceRecord) -> dict[str, object]:
    identity = made.disks.identity(resource)
    letters = "".join(v.letter for v in identity.volumes)
    return {
        "CsvEnforceWriteThrough": UInt32(0),
        "DiskArbInterval": UInt32(3),
        "DiskIdGuid": "" if identity.signature else f"{{{identity.guid}}}",
        "DiskIdType": UInt32(0 if identity.signature else 1),
        "DiskPath": f"{letters[0]}:" if letters else "",
        "DiskReload": UInt32(0),
        "DiskRunChkDsk": UInt32(0),
        "DiskSignature": UInt32(identity.signature),
        "DiskUniqueIds": bytes.fromhex(resource.disk) if _is_hex(resource.disk) else resource.disk.encode(),
        "DiskVolumeInfo": b"".join(v.partition.bytes_le for v in identity.volumes),
        "MaintenanceMode": UInt32(1 if resource.maintenance else 0),
        "MaxIoLatency": UInt32(1000),
        "VirtualDiskId": "",
    }


def _is_hex(text: str) -> bool:
    try:
        bytes.fromhex(text)
    except ValueError:
        return False
    return True


def change(made: FailoverCluster, resource: ResourceRecord, name: str, value: object, *, create: bool = False) -> bool:
    """Set a private property; returns whether it takes effect only when the resource is online again.

    Raises ``ClusterProblem`` for one that does not exist or cannot be set.
    """
    known = {n.lower(): n for n in values(made, resource)}
    canonical = known.get(name.lower())
    if canonical is None and not create:
        raise ClusterProblem(f"The property '{name}' does not exist for resource '{resource.name}'.", code=2)
    canonical = canonical or name
    if canonical in _READ_ONLY:
        raise ClusterProblem(f"The property '{canonical}' of resource '{resource.name}' is read-only.", code=5027)
    current = values(made, resource).get(canonical)
    stored: int | str = str(value)
    if isinstance(current, int) or (current is None and isinstance(value, int)):
        try:
            stored = int(str(value), 0)
        except ValueError as error:
            raise ClusterProblem(f"The value '{value}' of '{canonical}' is not a number.", code=87) from error
        if not 0 <= stored <= 0xFFFFFFFF:
            raise ClusterProblem(f"The value {stored} of '{canonical}' is out of range.", code=87)
    made.put_resource(replace(resource, parameters={**resource.parameters, canonical: stored}))
    return resource.state == ONLINE and canonical in _TEXTS


def remove(made: FailoverCluster, resource: ResourceRecord, name: str) -> None:
    """Give a private property its default back."""
    kept = {n: v for n, v in resource.parameters.items() if n.lower() != name.lower()}
    if len(kept) == len(resource.parameters):
        raise ClusterProblem(f"The property '{name}' was not set for resource '{resource.name}'.", code=2)
    made.put_resource(replace(resource, parameters=kept))
