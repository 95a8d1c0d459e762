"""What the advisor knows of a site: frozen records, gathered once, that rules only read.

Every field has the value of a healthy site as its default, so that a record says what is unusual. ``unknown`` of a host
names the parts that could not be read; rules leave such a host out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

ERAS = ("2008r2", "2012", "2022")
"""Eras of TR-4004: SMHV 1.1 on Windows Server 2008 R2, SMHV 1.2 on 2012, and today's Windows Server."""

SMHV_KEY = "HKLM:\\SOFTWARE\\NetApp\\SnapManager for Hyper-V\\Server"
CLUSTER_KEY = "HKLM:\\Cluster\\SOFTWARE\\NetApp\\SnapManager for Hyper-V\\Server"
PROVIDER_KEY = "HKLM:\\SYSTEM\\CurrentControlSet\\Services\\SWSvc\\Parameters"
FILE_SYSTEM_KEY = "HKLM:\\SYSTEM\\CurrentControlSet\\Control\\FileSystem"
"""Registry keys that rules read."""


# --- hosts


@dataclass(frozen=True, kw_only=True)
class Program:
    """An installed program."""

    name: str
    version: str


@dataclass(frozen=True, kw_only=True)
class Service:
    """A Windows service: its state and how it starts (``Automatic``, ``Manual``, ``Disabled``)."""

    name: str
    status: str = "Running"
    start: str = "Automatic"


@dataclass(frozen=True, kw_only=True)
class Port:
    """An inbound firewall rule that allows a TCP port, if it is enabled."""

    number: int
    name: str = ""
    enabled: bool = True


@dataclass(frozen=True, kw_only=True)
class Provider:
    """A VSS provider."""

    id: str
    name: str
    version: str = ""


@dataclass(frozen=True, kw_only=True)
class Shadow:
    """A shadow copy that exists on a host: its volume and who made it."""

    volume: str
    provider: str


@dataclass(frozen=True, kw_only=True)
class Event:
    """An event of a host's logs."""

    id: int
    source: str = ""
    time: datetime | None = None
    message: str = ""


@dataclass(frozen=True, kw_only=True)
class Disk:
    """A disk of one host.

    Attributes:
        unique_id: identity of the LUN behind it; "" for a local disk of no interest.
        guid: GPT disk GUID, or the signature of an MBR disk (``0x0123ABCD``); "" for a raw one.
        style: ``GPT``, ``MBR`` or ``RAW``.
        paths: where its volumes are mounted, each with a final backslash.
        volumes: ``\\\\?\\Volume{...}\\`` of each.
        unit: bytes of an allocation unit of its file system, 0 if unknown.
    """

    number: int
    unique_id: str
    guid: str = ""
    style: str = "GPT"
    bus: str = "iSCSI"
    offline: bool = False
    offline_reason: str = ""
    boot: bool = False
    clustered: bool = False
    size: int = 0
    paths: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    unit: int = 4096
    free: int = 0


@dataclass(frozen=True, kw_only=True)
class Vhd:
    """A virtual hard disk of a VM; a pass-through disk has a number and no file."""

    path: str
    disk_number: int | None = None
    format: str = "VHDX"
    type: str = "Fixed"
    size: int = 0
    file_size: int = 0
    parent: str = ""

    @property
    def passthrough(self) -> bool:
        """Whether it is a disk of the host."""
        return self.disk_number is not None

    @property
    def checkpoint(self) -> bool:
        """Whether it is the file of a checkpoint."""
        return self.path.casefold().endswith((".avhd", ".avhdx"))


@dataclass(frozen=True, kw_only=True)
class Vm:
    """A VM on the host that runs it.

    Attributes:
        configuration: folder of its configuration.
        checkpoint_folder: folder of its checkpoints' files (the TR's VM Snapshot location).
        disabled: integration services that are switched off.
        vss: whether its VSS integration service is enabled; None: unknown.
        status: what Hyper-V does with it beside running it (``StorageMigrationPhaseOne``, ...).
        fibre_channel: number of its virtual Fibre Channel adapters.
        guest_os, integration: what the guest tells of itself, "" if it does not, or does not run.
        switches: names of the virtual switches that its adapters are connected to; only read to compare two sites.
    """

    id: str
    name: str
    host: str
    state: str = "Running"
    status: tuple[str, ...] = ("Ok",)
    generation: int = 1
    clustered: bool = False
    configuration: str = ""
    checkpoint_folder: str = ""
    checkpoints: int = 0
    replication: str = "Disabled"
    heartbeat: str = "OkApplicationsHealthy"
    disks: tuple[Vhd, ...] = ()
    disabled: tuple[str, ...] = ()
    vss: bool | None = True
    fibre_channel: int = 0
    guest_os: str = ""
    integration: str = ""
    switches: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Host:
    """A Hyper-V host.

    Attributes:
        version: the operating system's, e.g. ``6.2.9200``.
        registry: values below the keys above: ``KEY\\name`` in lower case -> text.
        unmap: whether Windows gives the space of deleted files back by itself.
        odx: whether offloaded data transfer is switched on.
        paths: live paths per LUN, by serial number.
        encrypted: mount points under BitLocker.
        exports: files in the folder of SMHV's installation that look like an exported configuration.
        credentials: names of the storage systems for which SnapDrive has credentials.
        switches: names of its virtual switches; only read to compare two sites.
        unknown: parts that could not be read, and why.
    """

    name: str
    cluster: str = ""
    caption: str = ""
    version: str = "6.2.9200"
    service_pack: int = 1
    software: tuple[Program, ...] = ()
    hotfixes: frozenset[str] = frozenset()
    services: tuple[Service, ...] = ()
    ports: tuple[Port, ...] = ()
    providers: tuple[Provider, ...] = ()
    shadows: tuple[Shadow, ...] = ()
    events: tuple[Event, ...] = ()
    registry: Mapping[str, str] = field(default_factory=dict)
    dsm: str = "MSDSM"
    unmap: bool = False
    odx: bool = False
    paths: Mapping[str, int] = field(default_factory=dict)
    initiators: tuple[str, ...] = ()
    disks: tuple[Disk, ...] = ()
    encrypted: tuple[str, ...] = ()
    exports: tuple[str, ...] = ()
    credentials: frozenset[str] = frozenset()
    switches: frozenset[str] = frozenset()
    unknown: Mapping[str, str] = field(default_factory=dict)

    @property
    def era(self) -> str:
        """Which of the TR's eras its Windows belongs to."""
        major, _, rest = self.version.partition(".")
        if int(major) > 6:
            return "2022"
        return "2008r2" if int(rest.partition(".")[0]) < 2 else "2012"

    def value(self, key: str, name: str) -> str:
        """A registry value, "" if it is not set."""
        return self.registry.get(f"{key}\\{name}".casefold(), "")

    def program(self, part: str) -> Program | None:
        """The installed program whose name holds a text."""
        return next((p for p in self.software if part.casefold() in p.name.casefold()), None)

    def service(self, name: str) -> Service | None:
        """The service of a name."""
        return next((s for s in self.services if s.name.casefold() == name.casefold()), None)


# --- failover clusters


@dataclass(frozen=True, kw_only=True)
class ClusterDisk:
    """A disk resource: its GPT disk GUID, the group that it is in, and the node that has it."""

    name: str
    guid: str
    group: str = ""
    owner: str = ""
    state: str = "Online"


@dataclass(frozen=True, kw_only=True)
class Csv:
    """A cluster shared volume.

    Attributes:
        path: its folder below ``C:\\ClusterStorage``.
        guid: GPT disk GUID of its disk.
        access: node -> how it reaches the volume (``Direct``, ``FileSystemRedirected``, ``BlockRedirected``, ...).
    """

    name: str
    path: str
    owner: str
    guid: str = ""
    state: str = "Online"
    access: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Role:
    """A clustered VM's group."""

    name: str
    owner: str
    state: str = "Online"


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """A failover cluster. ``quorum`` is the witness, "" if there is none; ``networks`` maps a name to its role."""

    name: str
    nodes: Mapping[str, str] = field(default_factory=dict)
    owner: str = ""
    csvs: tuple[Csv, ...] = ()
    disks: tuple[ClusterDisk, ...] = ()
    roles: tuple[Role, ...] = ()
    quorum: str = "witness"
    networks: Mapping[str, str] = field(default_factory=dict)


# --- the array


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """A Snapshot copy; ``owners``: who keeps it from being deleted."""

    name: str
    time: datetime | None = None
    owners: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Volume:
    """A volume of the array, sizes in bytes."""

    name: str
    svm: str = "svm1"
    uuid: str = ""
    aggregate: str = "aggr1"
    type: str = "rw"
    state: str = "online"
    size: int = 1 << 40
    used: int = 0
    thin: bool = True
    dedupe: bool = True
    snapshot_policy: str = "none"
    snapshots: tuple[Snapshot, ...] = ()
    parent: str = ""


@dataclass(frozen=True, kw_only=True)
class Lun:
    """A LUN; ``igroups`` are those that it is mapped to."""

    name: str
    volume: str
    svm: str = "svm1"
    unique_id: str = ""
    serial: str = ""
    size: int = 1 << 38
    os_type: str = "hyper_v"
    reserved: bool = False
    online: bool = True
    igroups: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Igroup:
    """An initiator group."""

    name: str
    svm: str = "svm1"
    os_type: str = "hyper_v"
    initiators: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Lif:
    """A logical interface; ``services`` are the names of what it serves, ``svm`` is "" on one of the cluster."""

    name: str
    node: str
    svm: str = ""
    up: bool = True
    services: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Aggregate:
    """An aggregate, sizes in bytes."""

    name: str
    node: str
    size: int = 1 << 42
    used: int = 0


@dataclass(frozen=True, kw_only=True)
class StorageNode:
    """A node of the array."""

    name: str
    up: bool = True
    ha: bool = True
    taken_over: bool = False


@dataclass(frozen=True, kw_only=True)
class Mirror:
    """A SnapMirror relationship, ``svm:volume`` at both ends; ``lag`` in seconds, None if unknown.

    ``state`` is "" where only the source tells of it: the destination's cluster knows.
    """

    source: str
    destination: str
    state: str = "snapmirrored"
    healthy: bool = True
    lag: int | None = 0
    source_cluster: str = ""
    destination_cluster: str = ""


@dataclass(frozen=True, kw_only=True)
class Array:
    """The storage cluster; ``unknown``: parts that could not be read, and why.

    Attributes:
        mirrors: relationships that end here; those that begin here and end elsewhere are ``outgoing``.
    """

    name: str = "cluster1"
    version: tuple[int, int, int] = (8, 2, 0)
    nodes: tuple[StorageNode, ...] = ()
    licences: frozenset[str] = frozenset()
    aggregates: tuple[Aggregate, ...] = ()
    volumes: tuple[Volume, ...] = ()
    luns: tuple[Lun, ...] = ()
    igroups: tuple[Igroup, ...] = ()
    lifs: tuple[Lif, ...] = ()
    mirrors: tuple[Mirror, ...] = ()
    outgoing: tuple[Mirror, ...] = ()
    peers: tuple[str, ...] = ()
    unknown: Mapping[str, str] = field(default_factory=dict)
