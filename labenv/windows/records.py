"""The host's persistent records: everything that must be the same after the lab was killed and started again."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID


@dataclass(frozen=True)
class PortalRecord:
    """A target portal that discovery asks."""

    address: str
    port: int = 3260


@dataclass(frozen=True)
class SessionRecord:
    """A login to a target. A persistent one (a favourite) comes back after a restart of the host."""

    identifier: str
    target: str
    portal: str
    port: int
    initiator_portal: str
    persistent: bool
    multipath: bool


@dataclass(frozen=True)
class DiskRecord:
    """A disk that this host has seen; Windows remembers its attributes by unique id while it is away.

    Attributes:
        number: disk number; None while the disk is not there.
        kind: ``system`` (the local disk with C:), ``iscsi`` (a LUN) or ``vhd`` (an attached virtual disk).
        offline_reason: 0 none, 1 policy, 4 GUID collision.
        path: of an attached virtual disk, else empty.
        chain: files of an attached virtual disk, leaf first.
        no_letters: its new volumes get no drive letter.
        boot: the host has started from it, although it is a LUN.
    """

    unique_id: str
    number: int | None
    kind: str
    serial: str
    size: int
    offline: bool
    read_only: bool
    offline_reason: int = 0
    path: str = ""
    chain: tuple[str, ...] = ()
    no_letters: bool = False
    boot: bool = False


@dataclass(frozen=True)
class MountRecord:
    """The mount manager's memory of one volume: its drive letter and its mount points (``C:\\mnt\\x\\``).

    ``bare``: somebody wants it without a letter.
    """

    letter: str = ""
    paths: tuple[str, ...] = ()
    bare: bool = False


@dataclass(frozen=True)
class DriveRecord:
    """A virtual hard disk (``path``) or a pass-through disk at a place on a VM's controller.

    A pass-through disk is ``disk``, its number on the host where it was added, and ``disk_id``, its id on every host.
    """

    controller_type: str
    controller_number: int
    controller_location: int
    path: str = ""
    disk: int | None = None
    disk_id: str = ""


@dataclass(frozen=True)
class AdapterRecord:
    """A VM's network adapter; ``switch`` is empty when it is not connected."""

    name: str
    mac: str
    switch: str = ""
    legacy: bool = False


@dataclass(frozen=True)
class MergeRecord:
    """A leaf that has to be merged into its parent, which the VM then uses again."""

    leaf: str
    parent: str


@dataclass(frozen=True)
class VmRecord:
    """A registered VM. The same record, without its host's state, is what the configuration file holds.

    Attributes:
        path: the folder above ``Virtual Machines``.
        state: name of the VMState.
        started: lab time of the last start in microseconds; 0 while it is not running.
        open_files: every file of the VHD chains while the VM has them open.
        disabled_services: names of the integration services that are switched off.
        dvd: whether it has the DVD drive that New-VM puts at (1, 0) of the IDE controllers of generation 1.
        status: what ``Status`` and ``OperationalStatus`` show beside Ok (``MergingDisks``, ...).
        merges: what a deleted checkpoint left to be merged; goes on after a restart of the host.
        scsi_controllers: how many it has, 0 to 4.
        replicated: whether Hyper-V Replica copies it to another server.
        fibre_channel: how many virtual Fibre Channel adapters it has.
    """

    id: UUID
    name: str
    generation: int
    version: str
    path: str
    snapshot_path: str
    created: datetime
    state: str = "Off"
    memory: int = 1 << 30
    memory_minimum: int = 512 << 20
    memory_maximum: int = 1 << 40
    dynamic_memory: bool = False
    processors: int = 1
    notes: str = ""
    checkpoint_type: str = "Production"
    automatic_checkpoints: bool = False
    start_action: str = "StartIfRunning"
    start_delay: int = 0
    stop_action: str = "Save"
    critical_error_action: str = "Pause"
    critical_error_timeout: int = 30
    smart_paging_path: str = ""
    drives: tuple[DriveRecord, ...] = ()
    adapters: tuple[AdapterRecord, ...] = ()
    dvd: bool = False
    parent_snapshot: UUID | None = None
    disabled_services: tuple[str, ...] = ()
    started: int = 0
    open_files: tuple[str, ...] = ()
    status: str = ""
    merges: tuple[MergeRecord, ...] = ()
    clustered: bool = False
    scsi_controllers: int = 1
    replicated: bool = False
    fibre_channel: int = 0


@dataclass(frozen=True)
class SnapshotRecord:
    """A checkpoint: the VM's configuration as it was, with the drives that have been read-only since.

    Attributes:
        kind: name of the SnapshotType.
        consistency: ``application``, ``saved`` or ``crash``: what the drives hold.
    """

    id: UUID
    vm: UUID
    name: str
    created: datetime
    kind: str
    consistency: str
    parent: UUID | None
    configuration: VmRecord


@dataclass(frozen=True)
class SwitchRecord:
    """A virtual switch; ``kind`` is the name of the VMSwitchType."""

    id: UUID
    name: str
    kind: str
    notes: str = ""
    management_os: bool = False
    adapter: str = ""


@dataclass(frozen=True)
class EventRecord:
    """One entry of an event log. ``level``: 2 error, 3 warning, 4 information."""

    number: int
    log: str
    provider: str
    id: int
    level: int
    time: datetime
    message: str
    values: tuple[str, ...] = ()


@dataclass(frozen=True)
class RegistryRecord:
    """A registry key with its values: name -> (kind, text form)."""

    path: str
    values: dict[str, tuple[str, str]]


@dataclass(frozen=True)
class ServiceRecord:
    """A Windows service."""

    name: str
    display_name: str
    status: str = "Running"
    start_type: str = "Automatic"
