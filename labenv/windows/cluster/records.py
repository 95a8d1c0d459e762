"""The cluster's persistent records (its database, which every node has)."""

from __future__ import annotations

from dataclasses import dataclass, field
from uuid import UUID

ONLINE, OFFLINE, FAILED = "Online", "Offline", "Failed"
ONLINE_PENDING, OFFLINE_PENDING = "OnlinePending", "OfflinePending"
"""States of a resource."""

DISK = "Physical Disk"
NAME = "Network Name"
ADDRESS = "IP Address"
VM = "Virtual Machine"
VM_CONFIGURATION = "Virtual Machine Configuration"
"""Types of resources."""


@dataclass(frozen=True)
class NodeRecord:
    """A node.

    Attributes:
        state: ``Up``, ``Down`` or ``Paused``.
        service: whether its cluster service is meant to run.
        drain: what the last drain did: ``NotInitiated``, ``InProgress``, ``Completed`` or ``Failed``.
        vote: whether it counts for the quorum now.
    """

    name: str
    number: int
    instance: UUID
    state: str = "Up"
    service: bool = True
    drain: str = "NotInitiated"
    vote: bool = True


@dataclass(frozen=True)
class GroupRecord:
    """A group (a clustered role).

    Attributes:
        kind: name of the GroupType.
        owner: name of the node that has it.
        preferred: nodes that should have it, best first.
        failback: whether it goes back to its preferred owner.
        core: one of the cluster's own groups.
        vm: id of the virtual machine of a virtual machine role.
        wanted: whether it is meant to be online (the persistent state).
        moving: node that it is being moved to; empty: none.
        progress: percent of a live migration.
        resume: whether its virtual machine is to be started when the cluster has its quorum again.
    """

    id: UUID
    name: str
    kind: str
    owner: str
    preferred: tuple[str, ...] = ()
    failback: bool = False
    core: bool = False
    vm: UUID | None = None
    wanted: bool = True
    priority: int = 2000
    anti_affinity: tuple[str, ...] = ()
    description: str = ""
    failover_threshold: int = 0xFFFFFFFF
    failover_period: int = 6
    moving: str = ""
    progress: int = 0
    resume: bool = False


@dataclass(frozen=True)
class ResourceRecord:
    """A resource.

    Attributes:
        kind: name of the resource type.
        state: its state; of a virtual machine's resources, what it was when nobody could ask the virtual machine.
        depends: the dependency expression, e.g. ``([Cluster IP Address])``.
        owners: possible owners; empty: every node.
        maintenance: whether a disk is in maintenance: its health is not checked, and it may be worked on.
        disk: unique id of a disk.
        shared: whether a disk is a cluster shared volume.
        raw: whether a disk is passed through to a virtual machine; no node mounts its volumes.
        vm: id of the virtual machine.
        parameters: private properties that differ from their defaults.
        failures: how often it has failed since it was last online by somebody's hand.
    """

    id: UUID
    name: str
    kind: str
    group: UUID
    state: str = OFFLINE
    depends: str = ""
    owners: tuple[str, ...] = ()
    maintenance: bool = False
    disk: str = ""
    shared: bool = False
    raw: bool = False
    vm: UUID | None = None
    parameters: dict[str, int | str] = field(default_factory=dict)
    failures: int = 0


@dataclass(frozen=True)
class DiskVolume:
    """A volume of a cluster disk: where its partition lies, and where it is mounted on the node that has it.

    ``partition`` is the volume's GUID: of an MBR disk the one that the node has for it which had the disk last.
    """

    partition: UUID
    number: int
    offset: int
    length: int
    letter: str = ""
    paths: tuple[str, ...] = ()


@dataclass(frozen=True)
class DiskIdentity:
    """What the cluster knows a disk by, and its volumes.

    Attributes:
        guid: GUID in the GPT (``DiskIdGuid``); 0 for an MBR disk.
        serial: serial number of the LUN.
        signature: that of an MBR disk (``DiskSignature``); 0 for a GPT.
    """

    guid: UUID
    serial: str
    size: int
    volumes: tuple[DiskVolume, ...] = ()
    signature: int = 0

    @property
    def known_by(self) -> UUID | int:
        """The GUID, or the signature."""
        return self.signature or self.guid


@dataclass(frozen=True)
class SharedVolumeRecord:
    """A cluster shared volume.

    Attributes:
        resource: id of its disk.
        guid: GUID of the volume as every node sees it; in CSV version 1 that of the NTFS volume below.
        ntfs: GUID of the NTFS volume below, which was its only one before it was shared.
        path: its folder on every node, with a backslash at its end.
        partition: number of its partition.
        redirected: whether an administrator has switched redirected access on.
        fault: ``Paused`` while no node has a path and I/O is held back; else empty.
        backup: whether a backup has it in redirected access (CSV version 1).
        blind: nodes without a path of their own; their I/O goes through the owner.
    """

    resource: UUID
    guid: UUID
    ntfs: UUID
    path: str
    partition: int
    redirected: bool = False
    fault: str = ""
    backup: bool = False
    blind: tuple[str, ...] = ()


@dataclass(frozen=True)
class ClusterRecord:
    """The cluster itself.

    Attributes:
        quorum: id of the witness disk's resource; None: only the nodes vote.
        lost: whether it stopped because too few votes were left.
        properties: common properties that differ from their defaults.
        disks: how many disks it has named so far.
        volumes: how many shared volumes it has numbered so far.
    """

    id: UUID
    quorum: UUID | None = None
    lost: bool = False
    properties: dict[str, int | str] = field(default_factory=dict)
    disks: int = 0
    volumes: int = 0
