"""SnapMirror relationships of one cluster: what they are, and their transitions (TR 8).

A relationship is managed where its destination is; the source's cluster only lists it. What can be done next is decided
by a Snapshot copy that both volumes have, never by the name of a state: an ``uninitialized`` relationship whose volumes
still have one in common is resynchronised.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from netapp_ontap.resources.snapmirror_relationship import SnapmirrorRelationship
from netapp_ontap.resources.snapmirror_transfer import SnapmirrorTransfer
from netapp_ontap.resources.snapshot import Snapshot
from netapp_ontap.resources.volume import Volume

from smhvlab.errors import Cancelled, NotAllowed, NotFound, OntapError, SmhvLabError
from smhvlab.storage import GONE, Storage, VolumeRef

POLICY = "MirrorAllSnapshots"
"""The TR's mirrors carry every Snapshot copy of the source; this policy does the same."""

MOVING = frozenset({"queued", "transferring"})
"""States of a transfer that is under way."""

_FIELDS = (
    "uuid,state,healthy,unhealthy_reason,lag_time,exported_snapshot,policy.name,total_transfer_bytes,"
    "source.path,source.svm.name,source.cluster.name,destination.path,destination.svm.name,destination.cluster.name,"
    "transfer.state,transfer.bytes_transferred,last_transfer_type"
)
_ENDS = "uuid,source.path,source.svm.name,destination.path,destination.svm.name,destination.cluster.name,policy.name"
_LAG = re.compile(r"P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)S)?)?\Z")
_ATTEMPTS = 86_400  # seconds until a transfer is given up


@dataclass(frozen=True)
class End:
    """One end of a relationship: a volume of an SVM of a cluster."""

    cluster: str
    svm: str
    volume: str

    def __str__(self) -> str:
        return f"{self.svm}:{self.volume}"


@dataclass(frozen=True)
class Mirror:
    """A SnapMirror relationship; two are equal if they are the same one, however it fares.

    Attributes:
        state: ``uninitialized``, ``snapmirrored``, ``paused``, ``broken_off``; "" at the source, which does not know.
        problem: why it is not healthy.
        lag: how old the destination's data are, in seconds; None without such data.
        snapshot: the newest Snapshot copy that both ends have.
        transferring: whether a transfer is under way.
        transferred: bytes of the last transfer, ``total`` of all of them.
        here: whether it ends at the cluster that was asked.
    """

    uuid: str
    source: End
    destination: End
    policy: str
    state: str = field(default="", compare=False)
    healthy: bool = field(default=True, compare=False)
    problem: str = field(default="", compare=False)
    lag: int | None = field(default=None, compare=False)
    snapshot: str = field(default="", compare=False)
    last: str = field(default="", compare=False)
    transferring: bool = field(default=False, compare=False)
    transferred: int = field(default=0, compare=False)
    total: int = field(default=0, compare=False)
    here: bool = True

    @property
    def broken(self) -> bool:
        """Whether its destination may be written to: broken off, or uninitialized by a volume-based SnapRestore."""
        return self.state in ("broken_off", "uninitialized")

    def __str__(self) -> str:
        return f"{self.source} -> {self.destination}"


class Replication:
    """The relationships of one storage cluster."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self.wire = storage.wire

    # --- reading

    def mirrors(self) -> list[Mirror]:
        """The relationships that end here, by destination."""
        records = self.wire.collect(SnapmirrorRelationship, fields=_FIELDS)
        return sorted((_mirror(record) for record in records), key=lambda m: (str(m.destination), str(m.source)))

    def outgoing(self) -> list[Mirror]:
        """The relationships that begin here, as far as this cluster knows them."""
        records = self.wire.collect(SnapmirrorRelationship, fields=_ENDS, list_destinations_only=True)
        found = [_mirror({**record, "healthy": True}, here=False) for record in records]
        return sorted(found, key=lambda m: (str(m.source), str(m.destination)))

    def into(self, volume: str, *, svm: str) -> Mirror | None:
        """The relationship whose destination is a volume, or None."""
        for mirror in self.mirrors():
            if (mirror.destination.svm, mirror.destination.volume) == (svm, volume):
                return mirror
        return None

    def of_source(self, volume: str, *, svm: str = "") -> Mirror:
        """The relationship that ends here and begins at a volume of that name. Raises NotFound."""
        found = [m for m in self.mirrors() if m.source.volume == volume and svm in ("", m.source.svm)]
        if len(found) == 1:
            return found[0]
        known = ", ".join(str(m) for m in self.mirrors()) or "none"
        what = f"No relationship brings the volume {volume} here"
        if found:
            what = f"{len(found)} relationships bring a volume {volume} here"
        raise NotFound(what, why=f"relationships that end here: {known}", next_action="Name one of these.", tr="8")

    def copies(self, volume: VolumeRef) -> dict[str, str]:
        """Names of a volume's Snapshot copies, oldest first, by version: the same copy has one version everywhere."""
        fields = "name,version_uuid,create_time"
        records = self.wire.collect(Snapshot, volume.uuid, fields=fields, order_by="create_time")
        return {str(r["version_uuid"]): str(r["name"]) for r in records}

    # --- making

    def ensure_mirror(self, source: End, destination: End, *, schedule: str = "") -> Mirror:
        """A relationship between two ends; the destination volume is made if there is none.

        A destination that is writable and has a Snapshot copy in common with the source is taken as one that was
        broken off: it can be resynchronised. A relationship that a SnapRestore has left uninitialized there would only
        be initialised, so another one takes its place.
        """
        found = self.into(destination.volume, svm=destination.svm)
        if found is not None and found.state == "uninitialized" and found.source == source and self._writable(found):
            self.delete(found)
            found = None
        if found is None:
            body: dict[str, Any] = {
                "source": {"path": str(source)},
                "destination": {"path": str(destination)},
                "policy": {"name": POLICY},
            }
            if self.storage.volume(destination.volume, svm=destination.svm) is None:
                body["create_destination"] = {"enabled": True}
            if schedule:
                body["transfer_schedule"] = {"name": schedule}
            self.wire.wait([self.wire.create(SnapmirrorRelationship.from_dict(body))])
            found = self.into(destination.volume, svm=destination.svm)
        if found is None:
            raise NotFound(f"The relationship to {destination} did not appear", next_action="Look at site.mirrors().")
        if found.source.volume != source.volume or found.source.svm != source.svm:
            raise NotAllowed(
                f"{destination} already is the destination of {found.source}",
                next_action="Choose another destination volume, or delete that relationship.",
                tr="8",
            )
        return found

    def discard_mirror(self, source: End, destination: End) -> None:
        """No relationship between two ends; the volumes stay."""
        found = self.into(destination.volume, svm=destination.svm)
        if found is not None and found.source.volume == source.volume:
            self._abort(found)
            self.wire.wait([self.wire.remove(SnapmirrorRelationship(uuid=found.uuid))])

    def delete(self, mirror: Mirror) -> None:
        """The relationship is gone at the destination; the source still lists it until it is released."""
        try:
            self.wire.wait(
                [self.wire.remove(SnapmirrorRelationship(uuid=mirror.uuid), destination_only=True)],
            )
        except OntapError as error:
            if error.code != GONE:
                raise

    def release(self, uuid: str, *, keep: bool = False) -> None:
        """The source no longer lists a relationship, nor holds Snapshot copies for it; ``keep``: they stay, unheld."""
        if uuid in {m.uuid for m in self.outgoing()}:
            flag = {"source_info_only": True} if keep else {"source_only": True}
            self.wire.wait([self.wire.remove(SnapmirrorRelationship(uuid=uuid), **flag)])

    def _abort(self, mirror: Mirror) -> None:
        for record in self.wire.collect(SnapmirrorTransfer, mirror.uuid, fields="uuid,state", state="|".join(MOVING)):
            moving = SnapmirrorTransfer.from_dict({"relationship": {"uuid": mirror.uuid}, "uuid": record["uuid"]})
            self.wire.wait([self.wire.modify(moving, {"state": "hard_aborted"})])

    # --- transitions

    def mirror_all(self, mirrors: Sequence[Mirror]) -> list[Mirror]:
        """Initialise or resync relationships, all in one wave; those that are mirrored already stay as they are.

        Raises:
            OntapError: a transfer failed, or could not begin.
        """
        now = self._present(mirrors)
        idle = [m for m in now if m.state != "snapmirrored" and not m.transferring]
        change = {"state": "snapmirrored"}
        self.wire.wait([self.wire.modify(SnapmirrorRelationship(uuid=m.uuid), change) for m in idle])
        return self.settled(mirrors, wanted="snapmirrored")

    def update(self, mirrors: Sequence[Mirror]) -> list[Mirror]:
        """Bring destinations up to date, all in one wave; a transfer under way is waited for first.

        Raises:
            OntapError: a transfer failed, or could not begin.
        """
        self.settled(mirrors)
        self.wire.wait([self.wire.create(SnapmirrorTransfer(m.uuid)) for m in mirrors])
        return self.settled(mirrors)

    def settled(self, mirrors: Sequence[Mirror], *, wanted: str = "") -> list[Mirror]:
        """The relationships once none of them transfers any more. Raises OntapError if one failed."""
        for _ in range(_ATTEMPTS):
            with self.wire.polling():
                now = self._present(mirrors)
            if not any(m.transferring for m in now):
                break
            self.wire.sleep(1)
        for mirror in now:
            if not mirror.healthy or (wanted and mirror.state != wanted):
                raise OntapError(
                    f"The transfer {mirror} failed",
                    code="13303844",
                    why=mirror.problem or f"its state is {mirror.state}",
                    next_action="Mend the cause (the link, room at the destination, a busy Snapshot copy), try again.",
                    tr="8",
                )
        return now

    def break_off(self, mirrors: Mapping[Mirror, str]) -> list[Mirror]:
        """Make destinations writable, as a Snapshot copy has them or (``""``) as the last transfer left them.

        A transfer under way is ended: its source may be gone.

        Returns:
            Those that were broken off before: they stay as they are, whatever their volumes hold.
        """
        now = {m.uuid: m for m in self._present(tuple(mirrors))}
        pending, kept = [], []
        for mirror, snapshot in mirrors.items():
            if now[mirror.uuid].broken and self._writable(mirror):
                kept.append(mirror)
                continue
            if now[mirror.uuid].transferring:
                self._abort(mirror)
            query = {"restore_to_snapshot": snapshot} if snapshot else {}
            change = {"state": "broken_off"}
            pending.append(self.wire.modify(SnapmirrorRelationship(uuid=mirror.uuid), change, **query))
        self.wire.wait(pending)
        return kept

    def _writable(self, mirror: Mirror) -> bool:
        volume = self.storage.volume(mirror.destination.volume, svm=mirror.destination.svm)
        return volume is not None and self.storage.volume_details(volume, "type")["type"] == "rw"

    def restore_volume(self, volume: VolumeRef, snapshot: str) -> None:
        """A volume-based SnapRestore: newer Snapshot copies are lost (the TR's VBSR)."""
        names = list(self.copies(volume).values())
        if snapshot not in names:
            raise NotFound(
                f"The Snapshot copy {snapshot} of {volume} is gone", next_action="Choose another backup.", tr="8"
            )
        change = {"restore_to": {"snapshot": {"name": snapshot}}}
        self.wire.wait([self.wire.modify(Volume(uuid=volume.uuid), change)])

    def _present(self, mirrors: Sequence[Mirror]) -> list[Mirror]:
        now = {m.uuid: m for m in self.mirrors()}
        for mirror in mirrors:
            if mirror.uuid not in now:
                raise NotFound(f"The relationship {mirror} is gone", next_action="Look at site.mirrors().", tr="8")
        return [now[m.uuid] for m in mirrors]


def common_copy(near: Mapping[str, str], far: Mapping[str, str]) -> str:
    """Name of the newest Snapshot copy that two volumes have in common (see ``Replication.copies``), "" if none."""
    return next((name for version, name in reversed(list(near.items())) if version in far), "")


def update_after_backup(replications: Iterable[Callable[[], Replication]], volumes: Iterable[VolumeRef]) -> list[str]:
    """After a backup: update every mirror of the volumes, SnapInfo's too, and tell what was sent (TR 6.2, 8).

    Args:
        replications: the clusters that may hold the destinations; one that does not answer is told, the others go on.
        volumes: those that the backup has taken Snapshot copies of.

    Returns:
        A sentence for each relationship, or each cluster that failed.
    """
    names = {(v.svm, v.name) for v in volumes}
    told: list[str] = []
    for replication in replications:
        try:
            there = replication()
            mine = [m for m in there.mirrors() if (m.source.svm, m.source.volume) in names and not m.broken]
            told += [f"{m}: {m.transferred:,} bytes" for m in there.update(mine)]
        except Cancelled:
            raise
        except SmhvLabError as error:
            told.append(f"not updated: {error.message}" + (f" ({error.why})" if error.why else ""))
    return told


def seconds(duration: str | None) -> int | None:
    """Seconds of an ISO 8601 duration such as ``PT8H35M42S``; None for None. Raises ValueError."""
    if duration is None:
        return None
    match = _LAG.match(duration)
    if match is None:
        raise ValueError(f"{duration!r} is no duration")
    days, hours, minutes, rest = (int(part or 0) for part in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + rest


def _mirror(record: Mapping[str, Any], *, here: bool = True) -> Mirror:
    transfer = record.get("transfer") or {}
    reasons = record.get("unhealthy_reason") or []
    exported = record.get("exported_snapshot")
    return Mirror(
        uuid=record["uuid"],
        source=_end(record["source"]),
        destination=_end(record["destination"]),
        policy=(record.get("policy") or {}).get("name", ""),
        state=record.get("state") or "",
        healthy=bool(record.get("healthy", True)),
        problem="; ".join(str(reason.get("message", "")) for reason in reasons),
        lag=seconds(record.get("lag_time")),
        snapshot=str(exported or ""),
        last=record.get("last_transfer_type") or "",
        transferring=transfer.get("state") in MOVING,
        transferred=int(transfer.get("bytes_transferred") or 0),
        total=int(record.get("total_transfer_bytes") or 0),
        here=here,
    )


def _end(record: Mapping[str, Any]) -> End:
    svm, _, volume = str(record["path"]).partition(":")
    return End((record.get("cluster") or {}).get("name", ""), svm, volume)
