"""The array's records: everything that it remembers besides blocks. Times are lab microseconds since 1970."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Node:
    """A controller of the cluster; ``state`` is ``up``, ``down`` or ``taken_over``, since a time.

    ``reboots``: it takes its work back by itself when it has booted.
    """

    uuid: str
    name: str
    serial_number: str
    state: str = "up"
    since: int = 0
    reboots: bool = False


@dataclass(frozen=True)
class Aggregate:
    """A pool of blocks whose home is a node; ``size`` in bytes."""

    uuid: str
    name: str
    node: str
    size: int
    create_time: int


@dataclass(frozen=True)
class Svm:
    """A storage virtual machine and its iSCSI service (``target`` empty: it has none)."""

    uuid: str
    name: str
    number: int
    create_time: int
    state: str = "running"
    comment: str = ""
    aggregates: tuple[str, ...] = ()
    iscsi_enabled: bool = False
    target: str = ""
    target_alias: str = ""


@dataclass(frozen=True)
class AccountLogin:
    """An application (``http`` is this API) and how an account logs in to it: ``password``, ``certificate``."""

    application: str
    methods: tuple[str, ...]


@dataclass(frozen=True)
class User:
    """Who may log in; ``svm`` is the uuid of the SVM that an SVM administrator is confined to.

    Attributes:
        password: in clear as the lab's description has it, of those that come with the lab; others have a ``digest``.
        role: empty: the administrator's of what the account belongs to.
        own: made over the API, not by the lab's description.
    """

    name: str
    password: str
    svm: str | None = None
    role: str = ""
    logins: tuple[AccountLogin, ...] = (AccountLogin("http", ("password",)),)
    locked: bool = False
    comment: str = ""
    digest: str = ""
    own: bool = False


@dataclass(frozen=True)
class Authority:
    """A certificate (PEM) whose client certificates are accepted, for accounts of the SVM or of the cluster (None)."""

    uuid: str
    name: str
    svm: str | None
    pem: str


@dataclass(frozen=True)
class Lif:
    """A logical interface; ``svm`` None: it belongs to the cluster."""

    uuid: str
    name: str
    address: str
    netmask: int
    home_node: str
    node: str
    port: str
    service_policy: str
    svm: str | None = None
    enabled: bool = True


@dataclass(frozen=True)
class CloneOrigin:
    """Where a FlexClone volume comes from."""

    volume: str
    snapshot: str
    snapshot_name: str


@dataclass(frozen=True)
class Volume:
    """A FlexVol; ``size`` in bytes, ``extra`` holds settings that are kept and shown but change nothing."""

    uuid: str
    name: str
    svm: str
    aggregate: str
    size: int
    create_time: int
    msid: int
    type: str = "rw"
    state: str = "online"
    guarantee: str = "volume"
    snapshot_policy: str = "none"
    snapshot_reserve: int = 5
    comment: str = ""
    dedupe: str = "none"
    compression: str = "none"
    is_svm_root: bool = False
    clone: CloneOrigin | None = None
    extra: dict[str, str | int | bool] = field(default_factory=dict)


@dataclass(frozen=True)
class Lun:
    """A LUN; ``path`` is its file inside the volume (``/lun1``), its name is ``/vol/VOLUME`` plus that path."""

    uuid: str
    svm: str
    volume: str
    path: str
    serial_number: str
    os_type: str
    size: int
    create_time: int
    reserved: bool = True
    enabled: bool = True
    space_error: bool = False
    space_allocation: bool = False
    lun_class: str = "regular"
    auto_delete: bool = False
    comment: str = ""


@dataclass(frozen=True)
class Snapshot:
    """A Snapshot copy of a volume, with the LUNs that the volume had then."""

    uuid: str
    name: str
    volume: str
    create_time: int
    version_uuid: str
    comment: str = ""
    expiry_time: int | None = None
    snapmirror_label: str = ""
    owners: tuple[str, ...] = ()
    luns: tuple[Lun, ...] = ()


@dataclass(frozen=True)
class Initiator:
    """A member of an initiator group."""

    name: str
    comment: str = ""


@dataclass(frozen=True)
class Igroup:
    """An initiator group."""

    uuid: str
    name: str
    svm: str
    os_type: str
    protocol: str
    initiators: tuple[Initiator, ...] = ()
    comment: str = ""
    delete_on_unmap: bool = False
    portset: str | None = None


@dataclass(frozen=True)
class LunMap:
    """A LUN shown to an initiator group under a logical unit number, through interfaces of the reporting nodes."""

    lun: str
    igroup: str
    number: int
    reporting_nodes: tuple[str, ...] = ()


@dataclass(frozen=True)
class ConsistencyGroup:
    """Volumes that are snapshotted at one instant."""

    uuid: str
    name: str
    svm: str
    volumes: tuple[str, ...]


@dataclass(frozen=True)
class GroupSnapshot:
    """A Snapshot copy of a consistency group: one Snapshot copy of the same name in each of its volumes.

    ``fenced_until``: it was started and not committed yet; then a fence is around ``fenced_volumes``.
    """

    uuid: str
    name: str
    group: str
    create_time: int
    consistency_type: str = "crash"
    comment: str = ""
    snapmirror_label: str = ""
    snapshots: tuple[str, ...] = ()
    fenced_until: int | None = None
    fenced_volumes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Schedule:
    """A job schedule: cron fields, or an ISO 8601 interval."""

    uuid: str
    name: str
    interval: str = ""
    minutes: tuple[int, ...] = ()
    hours: tuple[int, ...] = ()
    weekdays: tuple[int, ...] = ()
    days: tuple[int, ...] = ()
    months: tuple[int, ...] = ()


@dataclass(frozen=True)
class PolicyCopy:
    """A line of a snapshot policy."""

    schedule: str
    count: int
    prefix: str
    snapmirror_label: str = ""


@dataclass(frozen=True)
class SnapshotPolicy:
    """Which scheduled Snapshot copies a volume keeps; ``svm`` None: cluster wide."""

    uuid: str
    name: str
    copies: tuple[PolicyCopy, ...] = ()
    enabled: bool = True
    comment: str = ""
    svm: str | None = None


@dataclass(frozen=True)
class Licence:
    """A licensed package."""

    name: str


@dataclass(frozen=True)
class Event:
    """An EMS event, of the array itself or reported to it by an application (``app.log.*``)."""

    index: int
    time: int
    node: str
    name: str
    severity: str
    source: str
    text: str
    parameters: dict[str, str]


@dataclass(frozen=True)
class AuditEntry:
    """A request over the API that changes something, and who sent it; never a body."""

    index: int
    time: int
    node: str
    user: str
    svm: str | None
    input: str
    state: str
    message: str
    client_app: str
    location: str


@dataclass(frozen=True)
class Portset:
    """Interfaces (by uuid) through which the initiator groups that are bound to it see their LUNs."""

    uuid: str
    name: str
    svm: str
    protocol: str
    interfaces: tuple[str, ...] = ()


@dataclass(frozen=True)
class Failure:
    """Why a job failed."""

    code: str
    message: str
    target: str = ""


@dataclass(frozen=True)
class Job:
    """An asynchronous operation; its effect lands at ``due``, with the job's end, in one transaction.

    Attributes:
        operation: name of the effect in ``operations.py``; ``arguments`` is all that it needs.
        locks: what no other operation may use while this one runs.
        doomed: the state error that was already certain when the job was submitted.
    """

    uuid: str
    description: str
    operation: str
    arguments: dict[str, object]
    start_time: int
    due: int
    node: str
    svm: str | None = None
    state: str = "running"
    end_time: int | None = None
    failure: Failure | None = None
    doomed: Failure | None = None
    locks: tuple[str, ...] = ()
    result: str | None = None


@dataclass(frozen=True)
class Window:
    """Background work that blocks something until a time (blocks of a fresh LUN clone being shared)."""

    lock: str
    until: int
