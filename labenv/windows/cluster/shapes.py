"""How the cluster's objects look to PowerShell (module FailoverClusters)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import TYPE_CHECKING
from uuid import UUID

from labenv.windows.cluster.disks import identity_text
from labenv.windows.cluster.records import (
    DISK,
    VM,
    VM_CONFIGURATION,
    GroupRecord,
    NodeRecord,
    ResourceRecord,
)
from labenv.windows.cluster.spec import NetworkSpec
from labenv.windows.objects import PsEnum, PsList, PsObject, UInt32, UInt64
from labenv.windows.records import DiskRecord

if TYPE_CHECKING:
    from labenv.windows.cluster.cluster import FailoverCluster
    from labenv.windows.host import Host

NS = "Microsoft.FailoverClusters.PowerShell"
_OBJECT = [f"{NS}.ClusterObject", "System.Object"]

_NODE_STATES = {"Up": 0, "Down": 1, "Paused": 2, "Joining": 3}
_GROUP_STATES = {"Online": 0, "Offline": 1, "Failed": 2, "PartialOnline": 3, "Pending": 4}
RESOURCE_STATES = {"Online": 2, "Offline": 3, "Failed": 4, "OnlinePending": 129, "OfflinePending": 130}
_GROUP_TYPES = {
    "Cluster": 1,
    "AvailableStorage": 2,
    "Temporary": 3,
    "ClusterSharedVolume": 4,
    "FileServer": 100,
    "GenericApplication": 107,
    "GenericService": 108,
    "GenericScript": 109,
    "VirtualMachine": 111,
    "Unknown": 9999,
}


def enum(kind: str, name: str, values: dict[str, int]) -> PsEnum:
    """A value of one of the module's enumerations."""
    return PsEnum(f"{NS}.{kind}", name, values.get(name, 0))


def cluster_object(kind: str, properties: dict[str, object], text: str) -> PsObject:
    """An object of the module."""
    return PsObject([f"{NS}.{kind}", *_OBJECT], properties, text=text)


def strings(items: list[str] | tuple[str, ...]) -> PsList:
    """A StringCollection."""
    return PsList("System.Collections.Specialized.StringCollection", list(items))


def _reference(kind: str, name: str) -> PsObject:
    """An object inside another, without what it holds itself."""
    return cluster_object(kind, {"Name": name}, name)


def cluster(made: FailoverCluster) -> PsObject:
    """A Cluster."""
    spec, properties = made.spec, made.record.properties
    have, _ = made.membership.votes()
    values: dict[str, object] = {
        "Domain": f"{spec.domain.lower()}.example",
        "Name": spec.name,
        "AddEvictDelay": UInt32(60),
        "BackupInProgress": UInt32(1 if any(v.backup for v in made.volume_table.values()) else 0),
        "ClusterFunctionalLevel": UInt32(spec.functional_level),
        "ClusterGroupWaitDelay": UInt32(120),
        "ClusterLogLevel": UInt32(3),
        "ClusterLogSize": UInt32(300),
        "CrossSubnetDelay": UInt32(1000),
        "CrossSubnetThreshold": UInt32(20 if spec.era == "2022" else 5),
        "DatabaseReadWriteMode": UInt32(0),
        "DefaultNetworkRole": UInt32(2),
        "Description": "",
        "DynamicQuorum": UInt32(1 if spec.dynamic_quorum else 0),
        "EnableSharedVolumes": PsEnum(f"{NS}.SharedVolumesEnabled", "Enabled", 1),
        "FixQuorum": UInt32(0),
        "HangRecoveryAction": UInt32(3),
        "Id": str(made.record.id),
        "MaxNumberOfNodes": UInt32(64 if spec.csvfs else 16),
        "MinimumPreemptorPriority": UInt32(1),
        "PlumbAllCrossSubnetRoutes": UInt32(0),
        "QuorumVotes": UInt32(have),
        "RootMemoryReserved": UInt32(0xFFFFFFFF),
        "SameSubnetDelay": UInt32(1000),
        "SameSubnetThreshold": UInt32(int(spec.heartbeat)),
        "SharedVolumeCompatibleFilters": strings([]),
        "SharedVolumeIncompatibleFilters": strings([]),
        "SharedVolumesRoot": "C:\\ClusterStorage",
        "ShutdownTimeoutInMinutes": UInt32(20),
        "WitnessDynamicWeight": UInt32(1 if made.record.quorum is not None else 0),
    }
    for name, value in properties.items():
        values[name] = UInt32(value) if isinstance(value, int) else value
    return cluster_object("Cluster", values, spec.name)


def node(made: FailoverCluster, record: NodeRecord) -> PsObject:
    """A ClusterNode."""
    host = made.hosts[record.name]
    state = record.state
    major, minor, build = host.spec.version.split(".")
    values: dict[str, object] = {
        "BuildNumber": UInt32(int(build)),
        "Cluster": _reference("Cluster", made.spec.name),
        "CSDVersion": "Service Pack 1" if host.spec.era == "2008r2" else "",
        "Description": "",
        "DrainStatus": PsEnum(
            f"{NS}.NodeDrainStatus",
            record.drain,
            {"NotInitiated": 0, "InProgress": 1, "Completed": 2, "Failed": 3}[record.drain],
        ),
        "DrainTarget": UInt32(0xFFFFFFFF),
        "DynamicWeight": UInt32(1 if record.vote else 0),
        "Id": str(record.number),
        "MajorVersion": UInt32(int(major)),
        "MinorVersion": UInt32(int(minor)),
        "Name": record.name,
        "NeedsPreventQuorum": UInt32(0),
        "NodeHighestVersion": UInt32(made.spec.functional_level << 16),
        "NodeInstanceID": str(record.instance).upper(),
        "NodeLowestVersion": UInt32(made.spec.functional_level << 16),
        "NodeName": record.name,
        "NodeWeight": UInt32(1),
        "State": enum("ClusterNodeState", state, _NODE_STATES),
        "StatusInformation": PsEnum(f"{NS}.NodeStatusInformation", "Normal", 0),
        "Type": PsEnum(f"{NS}.NodeType", "Node", 0),
    }
    return cluster_object("ClusterNode", values, record.name)


def _owner(made: FailoverCluster, name: str) -> PsObject:
    record = made.nodes[name]
    values: dict[str, object] = {
        "Id": str(record.number),
        "Name": record.name,
        "NodeName": record.name,
        "State": enum("ClusterNodeState", record.state, _NODE_STATES),
    }
    return cluster_object("ClusterNode", values, record.name)


def group(made: FailoverCluster, record: GroupRecord, resources: Iterable[ResourceRecord] | None = None) -> PsObject:
    """A ClusterGroup; ``resources``: those it has, if they are known already."""
    status = 0x20 if record.moving else 0
    values: dict[str, object] = {
        "AntiAffinityClassNames": strings(record.anti_affinity),
        "AutoFailbackType": UInt32(1 if record.failback else 0),
        "Cluster": _reference("Cluster", made.spec.name),
        "DefaultOwner": UInt32(0xFFFFFFFF),
        "Description": record.description,
        "FailbackWindowEnd": UInt32(0xFFFFFFFF),
        "FailbackWindowStart": UInt32(0xFFFFFFFF),
        "FailoverPeriod": UInt32(record.failover_period),
        "FailoverThreshold": UInt32(record.failover_threshold),
        "GroupType": enum("GroupType", record.kind, _GROUP_TYPES),
        "Id": str(record.id),
        "IsCoreGroup": record.core,
        "Name": record.name,
        "OwnerNode": _owner(made, record.owner),
        "PersistentState": UInt32(1 if record.wanted else 0),
        "PreferredSite": None,
        "Priority": UInt32(record.priority),
        "ResiliencyPeriod": UInt32(240),
        "State": enum("ClusterGroupState", made.resources.group_state(record, resources), _GROUP_STATES),
        "StatusInformation": UInt64(status),
    }
    return cluster_object("ClusterGroup", values, record.name)


def resource(made: FailoverCluster, record: ResourceRecord) -> PsObject:
    """A ClusterResource."""
    owner_group = made.group_of(record)
    status = ""
    if record.kind == VM and owner_group.moving:
        status = f"Live Migrating, {owner_group.progress}% completed"
    values: dict[str, object] = {
        "Cluster": _reference("Cluster", made.spec.name),
        "Characteristics": UInt32(0),
        "DeadlockTimeout": UInt32(300_000),
        "Description": "",
        "EmbeddedFailureAction": UInt32(2),
        "Id": str(record.id),
        "IsAlivePollInterval": UInt32(0xFFFFFFFF),
        "IsCoreResource": owner_group.kind == "Cluster",
        "IsNetworkClassResource": record.kind in ("Network Name", "IP Address"),
        "IsStorageClassResource": record.kind == DISK,
        "LastOperationStatusCode": UInt64(0 if record.state != "Failed" else 0x8007139A),
        "LooksAlivePollInterval": UInt32(0xFFFFFFFF),
        "MaintenanceMode": record.maintenance,
        "MonitorProcessId": UInt32(2000 + made.nodes[owner_group.owner].number),
        "Name": record.name,
        "OwnerGroup": cluster_object(
            "ClusterGroup", {"Id": str(owner_group.id), "Name": owner_group.name}, owner_group.name
        ),
        "OwnerNode": _owner(made, owner_group.owner),
        "PendingTimeout": UInt32(180_000),
        "PersistentState": UInt32(1),
        "ResourceSpecificData1": UInt64(0),
        "ResourceSpecificData2": UInt64(0),
        "ResourceSpecificStatus": status,
        "ResourceType": _reference("ClusterResourceType", record.kind),
        "RestartAction": UInt32(2),
        "RestartDelay": UInt32(500),
        "RestartPeriod": UInt32(900_000),
        "RestartThreshold": UInt32(1),
        "RetryPeriodOnFailure": UInt32(3_600_000),
        "SeparateMonitor": False,
        "State": enum("ClusterResourceState", made.resources.state(record), RESOURCE_STATES),
        "StatusInformation": UInt64(0),
    }
    return cluster_object("ClusterResource", values, record.name)


def available_disk(made: FailoverCluster, record: DiskRecord, host: Host, number: int) -> PsObject:
    """A ClusterDisk: a disk that could be added."""
    layout = host.disks.layout(record)
    guid = identity_text(layout) if layout is not None else None
    values: dict[str, object] = {
        "Cluster": _reference("Cluster", made.spec.name),
        "Id": guid,
        "Name": f"Cluster Disk {number}",
        "Number": UInt32(record.number or 0),
        "Partitions": strings([]),
        "ScsiAddress": UInt32(record.number or 0),
        "SerialNumber": record.serial,
        "Size": UInt64(record.size),
        "UniqueId": record.unique_id,
    }
    return cluster_object("ClusterDisk", values, f"Cluster Disk {number}")


def parameter(record: ResourceRecord, name: str, value: object, *, kind: str = "") -> PsObject:
    """A ClusterParameter."""
    types = {bool: "UInt32", UInt32: "UInt32", UInt64: "UInt64", str: "String", bytes: "ByteArray"}
    values: dict[str, object] = {
        "ClusterObject": _reference("ClusterResource", record.name),
        "IsReadOnly": False,
        "Name": name,
        "ParameterType": kind or types.get(type(value), "StringCollection"),
        "Value": value,
    }
    return cluster_object("ClusterParameter", values, name)


def owner_nodes(name: str, kind: str, nodes: list[PsObject]) -> PsObject:
    """A ClusterOwnerNodeList."""
    values: dict[str, object] = {
        "ClusterObject": _reference(kind, name),
        "OwnerNodes": PsList(f"System.Collections.Generic.List`1[[{NS}.ClusterNode]]", list(nodes)),
    }
    return cluster_object("ClusterOwnerNodeList", values, name)


def owner_node(made: FailoverCluster, name: str) -> PsObject:
    """A node inside a list of owners."""
    return _owner(made, name)


def quorum(made: FailoverCluster) -> PsObject:
    """A ClusterQuorumSettings."""
    witness = made.record.quorum
    record = made.resource_table.get(str(witness)) if witness is not None else None
    kind = (
        ("NodeAndDiskMajority" if made.spec.era == "2008r2" else "Majority") if record is not None else "NodeMajority"
    )
    values: dict[str, object] = {
        "Cluster": _reference("Cluster", made.spec.name),
        "QuorumResource": resource(made, record) if record is not None else None,
        "QuorumType": PsEnum(
            f"{NS}.QuorumType", kind, {"NodeMajority": 1, "NodeAndDiskMajority": 2, "Majority": 5}.get(kind, 0)
        ),
    }
    return cluster_object("ClusterQuorumSettings", values, made.spec.name)


def access(user: str) -> PsObject:
    """A ClusterAccessRule."""
    values: dict[str, object] = {
        "ClusterAccessMask": PsEnum(f"{NS}.ClusterAccessMask", "Full", 2),
        "ClusterRights": PsEnum(f"{NS}.ClusterRights", "Full", 3),
        "IdentityReference": user,
    }
    return cluster_object("ClusterAccessRule", values, user)


def network(made: FailoverCluster, spec: NetworkSpec) -> PsObject:
    """A ClusterNetwork."""
    roles = {0: "None", 1: "Cluster", 3: "ClusterAndClient"}
    values: dict[str, object] = {
        "Address": f"{spec.subnet}.0",
        "AddressMask": "255.255.255.0",
        "AutoMetric": True,
        "Cluster": _reference("Cluster", made.spec.name),
        "Description": "",
        "Id": str(UUID(bytes=hashlib.sha256(f"{made.record.id} {spec.name}".encode()).digest()[:16], version=4)),
        "Metric": UInt32(spec.metric),
        "Name": spec.name,
        "Role": PsEnum(f"{NS}.ClusterNetworkRole", roles[spec.role], spec.role),
        "State": PsEnum(f"{NS}.ClusterNetworkState", "Up", 3),
    }
    return cluster_object("ClusterNetwork", values, spec.name)


def network_interface(made: FailoverCluster, spec: NetworkSpec, record: NodeRecord) -> PsObject:
    """A ClusterNetworkInterface."""
    name = f"{record.name} - {spec.name}"
    up = made.hosts[record.name].powered
    values: dict[str, object] = {
        "Adapter": f"Ethernet {spec.name}",
        "Address": f"{spec.subnet}.{30 + record.number}",
        "Cluster": _reference("Cluster", made.spec.name),
        "Description": "",
        "Id": str(UUID(bytes=hashlib.sha256(f"{made.record.id} {name}".encode()).digest()[:16], version=4)),
        "Name": name,
        "Network": _reference("ClusterNetwork", spec.name),
        "Node": _owner(made, record.name),
        "State": PsEnum(f"{NS}.ClusterNetworkInterfaceState", "Up" if up else "Unreachable", 3 if up else 2),
    }
    return cluster_object("ClusterNetworkInterface", values, name)


def dependency(record: ResourceRecord) -> PsObject:
    """A ClusterResourceDependency."""
    values: dict[str, object] = {
        "DependencyExpression": record.depends,
        "Resource": _reference("ClusterResource", record.name),
    }
    return cluster_object("ClusterResourceDependency", values, record.name)


def resource_type(made: FailoverCluster, name: str) -> PsObject:
    """A ClusterResourceType."""
    library = {DISK: "clusres.dll", VM: "vmclusres.dll", VM_CONFIGURATION: "vmclusres.dll"}.get(name, "clusres.dll")
    values: dict[str, object] = {
        "Cluster": _reference("Cluster", made.spec.name),
        "Description": "",
        "DisplayName": name,
        "DllName": library,
        "IsAlivePollInterval": UInt32(60_000),
        "LooksAlivePollInterval": UInt32(5_000),
        "Name": name,
        "PossibleOwners": strings(list(made.nodes)),
    }
    return cluster_object("ClusterResourceType", values, name)
