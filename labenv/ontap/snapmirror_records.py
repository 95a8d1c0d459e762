"""Records of peering and SnapMirror. Times are lab microseconds since 1970."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from labenv.ontap.records import Failure, Snapshot
from labenv.state import State

ACTIVE = ("queued", "transferring")
"""States of a transfer that has not ended."""


@dataclass(frozen=True)
class ClusterPeer:
    """A peering with another cluster, or an offer of one.

    Attributes:
        uuid: the remote cluster's; that of the offer until the remote cluster is known.
        cluster: name of the remote cluster; empty while nobody has accepted.
        state: ``pending``, ``available``.
        until: when the passphrase stops being accepted.
        allowed: local SVMs (uuid, or ``*``) that the remote cluster may peer with unasked.
    """

    uuid: str
    name: str
    create_time: int
    passphrase: str
    until: int
    cluster: str = ""
    cluster_uuid: str = ""
    addresses: tuple[str, ...] = ()
    state: str = "pending"
    encryption: str = "tls_psk"
    allowed: tuple[str, ...] = ()
    applications: tuple[str, ...] = ("snapmirror",)


@dataclass(frozen=True)
class SvmPeer:
    """A local SVM's permission to work with another SVM; ``name`` is what the other one is called here.

    ``state``: initiated (asked from here), pending (asked from there), peered, rejected, suspended.
    """

    uuid: str
    svm: str
    name: str
    peer_svm: str
    peer_svm_name: str
    peer_cluster: str
    applications: tuple[str, ...]
    state: str


@dataclass(frozen=True)
class Rule:
    """A line of a SnapMirror policy: how many copies with a label the destination keeps."""

    label: str
    count: int
    prefix: str = ""
    creation_schedule: str = ""


@dataclass(frozen=True)
class MirrorPolicy:
    """What a relationship transfers and keeps.

    Attributes:
        create_snapshot: an update takes a Snapshot copy at the source and transfers it.
        copy_all: the destination has every Snapshot copy of the source, and no other.
        throttle: kilobytes a second; 0: as fast as it goes.
    """

    uuid: str
    name: str
    svm: str | None = None
    comment: str = ""
    create_snapshot: bool = True
    copy_all: bool = False
    rules: tuple[Rule, ...] = ()
    schedule: str = ""
    throttle: int = 0
    compression: bool = False
    builtin: bool = False


@dataclass(frozen=True)
class Endpoint:
    """One end of a relationship; ``svm_name`` is the SVM's name as the record's own cluster knows it."""

    cluster: str
    svm: str
    svm_name: str
    volume: str
    volume_name: str


@dataclass(frozen=True)
class Problem:
    """A reason why a relationship is not healthy."""

    code: str
    message: str


@dataclass(frozen=True)
class Relationship:
    """A relationship as its destination cluster keeps it.

    Attributes:
        mirror: ``uninitialized``, ``snapmirrored`` or ``broken_off``; ``quiesced`` comes on top.
        base: version of the newest Snapshot copy that both ends have: the next transfer starts from it.
        last_transfer: uuid of the last transfer.
        total_bytes, total_time: of all transfers.
    """

    uuid: str
    source: Endpoint
    destination: Endpoint
    policy: str
    create_time: int
    schedule: str = ""
    throttle: int = 0
    mirror: str = "uninitialized"
    quiesced: bool = False
    restore: bool = False
    base: str = ""
    problems: tuple[Problem, ...] = ()
    last_transfer: str = ""
    last_type: str = ""
    total_bytes: int = 0
    total_time: int = 0


@dataclass(frozen=True)
class Destination:
    """A relationship as its source cluster lists it.

    Attributes:
        base: version of the Snapshot copy that it keeps for the next transfer.
        sending: versions of the Snapshot copies that a transfer is reading now.
    """

    uuid: str
    source: Endpoint
    destination: Endpoint
    policy: str
    base: str = ""
    sending: tuple[str, ...] = ()


@dataclass(frozen=True)
class Transfer:
    """A transfer, running or over.

    Attributes:
        kind: initialize, update, resync or restore.
        queue: versions of the source's Snapshot copies that are still to come, oldest first.
        reference: version of the Snapshot copy that was taken for this transfer; empty if none was.
        preserve: a resync keeps newer Snapshot copies of the destination.
        sent: bytes of the Snapshot copies that have arrived; ``planned`` are those of the one under way.
        since, due: when the one under way began, and when it arrives.
        files: (path at the source, path at the destination) of a restore of single files.
    """

    uuid: str
    relationship: str
    kind: str
    start_time: int
    state: str = "transferring"
    queue: tuple[str, ...] = ()
    reference: str = ""
    source_snapshot: str = ""
    snapshot: str = ""
    preserve: bool = False
    sent: int = 0
    planned: int = 0
    since: int = 0
    due: int = 0
    end_time: int | None = None
    failure: Failure | None = None
    throttle: int = 0
    files: tuple[tuple[str, str], ...] = field(default_factory=tuple)


class Replication:
    """The tables of one cluster, and its task runner's entry points."""

    def __init__(self, state: State, cluster: str) -> None:
        self.cluster_peers = state.table(f"ontap.{cluster}.cluster_peer", ClusterPeer)
        self.svm_peers = state.table(f"ontap.{cluster}.svm_peer", SvmPeer)
        self.policies = state.table(f"ontap.{cluster}.mirror_policy", MirrorPolicy)
        self.relationships = state.table(f"ontap.{cluster}.relationship", Relationship)
        self.destinations = state.table(f"ontap.{cluster}.destination", Destination)
        self.transfers = state.table(f"ontap.{cluster}.transfer", Transfer)
        self.twins = state.table(f"ontap.{cluster}.twin", str)
        self.start_transfer: Callable[[str], None] = _nothing
        self.start_schedule: Callable[[str], None] = _nothing

    def of_volume(self, volume: str) -> Relationship | None:
        """The relationship whose destination a volume is; not one that only restores into it."""
        return next((r for r in self.relationships.values() if r.destination.volume == volume and not r.restore), None)

    def restoring(self, volume: str) -> Relationship | None:
        """The restore relationship whose destination a volume is."""
        return next((r for r in self.relationships.values() if r.destination.volume == volume and r.restore), None)

    def is_source(self, volume: str) -> bool:
        """Whether a relationship has a volume as its source."""
        return any(d.source.volume == volume for d in self.destinations.values())

    def end_of(self, volume: str) -> str:
        """Which end of a relationship a volume is: ``source``, ``destination`` or neither (empty)."""
        if self.is_source(volume):
            return "source"
        return "destination" if any(r.destination.volume == volume for r in self.relationships.values()) else ""

    def active(self, relationship: str) -> Transfer | None:
        """The transfer that a relationship is making."""
        return next((t for t in self.transfers.values() if t.relationship == relationship and t.state in ACTIVE), None)

    def of_relationship(self, relationship: str) -> Iterable[Transfer]:
        """Transfers of a relationship, oldest first."""
        return [t for t in self.transfers.values() if t.relationship == relationship]

    def holds(self, snapshot: Snapshot) -> bool:
        """Whether a relationship needs a Snapshot copy of this cluster as its reference copy."""
        for there in self.destinations.values():
            if there.source.volume == snapshot.volume and snapshot.version_uuid in (there.base, *there.sending):
                return True
        return any(
            r.base == snapshot.version_uuid and r.destination.volume == snapshot.volume and r.mirror == "snapmirrored"
            for r in self.relationships.values()
        )


def _nothing(uuid: str) -> None:
    """Before the array's tasks exist."""
