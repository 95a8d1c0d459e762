"""Fields of SnapMirror relationships."""

from __future__ import annotations

from typing import Any

from labenv.ontap.core import Core
from labenv.ontap.rest.model import Field
from labenv.ontap.rest.values import Kind, show_time
from labenv.ontap.snapmirror import shown_state
from labenv.ontap.snapmirror_policies import find_policy
from labenv.ontap.snapmirror_records import (
    ACTIVE,
    Destination,
    Endpoint,
    MirrorPolicy,
    Problem,
    Relationship,
    Transfer,
)

Either = Relationship | Destination
STATES = (
    "broken_off", "paused", "snapmirrored", "uninitialized", "in_sync", "out_of_sync", "synchronizing", "expanding",
    "shrinking",
)  # fmt: skip
"""Every state that the API knows."""


def show_duration(microseconds: int) -> str:
    """ISO 8601, such as ``PT8H35M42S``."""
    seconds = microseconds // 1_000_000
    hours, minutes, seconds = seconds // 3600, seconds % 3600 // 60, seconds % 60
    parts = [f"{value}{unit}" for value, unit in ((hours, "H"), (minutes, "M"), (seconds, "S")) if value]
    return "PT" + ("".join(parts) or "0S")


def path_of(core: Core, end: Endpoint) -> str:
    """``SVM:volume``; the volume as it is called now, as far as this cluster knows."""
    there = core.interconnect.peek(end.cluster)
    volume = None if there is None else there.volumes.get(end.volume)
    return f"{svm_name(core, end)}:{end.volume_name if volume is None else volume.name}"


def svm_name(core: Core, end: Endpoint) -> str:
    """An endpoint's SVM as it is called here now."""
    if end.cluster == core.spec.name and end.svm in core.svms:
        return core.svms[end.svm].name
    return end.svm_name


def _cluster_uuid(core: Core, end: Endpoint) -> str | None:
    there = core.interconnect.peek(end.cluster)
    return None if there is None else there.identity["uuid"]


def endpoint_fields(end: str) -> tuple[Field, ...]:
    """Fields of the source or the destination."""

    def of(record: Either) -> Endpoint:
        found: Endpoint = getattr(record, end)
        return found

    return (
        Field(f"{end}.path", read=lambda core, x: path_of(core, of(x)), create=True, modify=True),
        Field(f"{end}.svm.name", read=lambda core, x: svm_name(core, of(x)), create=True, modify=True),
        Field(f"{end}.svm.uuid", read=lambda core, x: of(x).svm, create=True, modify=True),
        Field(f"{end}.cluster.name", read=lambda core, x: of(x).cluster, create=True, modify=True),
        Field(f"{end}.cluster.uuid", read=lambda core, x: _cluster_uuid(core, of(x)), create=True, modify=True),
        Field(f"{end}.ipspace", create=True),
    )


def policy_of(core: Core, record: Either) -> MirrorPolicy | None:
    """A relationship's policy; at the source it is that of the same name, if there is one."""
    return find_policy(core, record.policy, svm=record.destination.svm)


def last_transfer(core: Core, record: Either) -> Transfer | None:
    """The transfer that a relationship is making, or its last one."""
    if isinstance(record, Destination):
        return None
    return core.replication.transfers.get(record.last_transfer)


def bytes_so_far(core: Core, transfer: Transfer) -> int:
    """Bytes of what has arrived, and of what is under way by the time that has passed (whole blocks)."""
    if transfer.state not in ACTIVE or transfer.due <= transfer.since:
        return transfer.sent
    part = min(1.0, (core.now - transfer.since) / (transfer.due - transfer.since))
    return transfer.sent + int(transfer.planned * part) // 4096 * 4096


def exported(core: Core, record: Either) -> Any:
    """The Snapshot copy that the destination shows (its newest common one)."""
    if isinstance(record, Destination):
        return None
    copies = core.snapshots_of(record.destination.volume)
    return next((s for s in copies if s.version_uuid == record.base), None)


def lag(core: Core, record: Either) -> str | None:
    """How old the destination's data are."""
    snapshot = exported(core, record)
    if snapshot is None or not isinstance(record, Relationship) or record.mirror != "snapmirrored":
        return None
    return show_duration(core.now - snapshot.create_time)


def _problem(problem: Problem) -> dict[str, Any]:
    return {"code": problem.code, "message": problem.message, "arguments": None}


def _of_transfer(name: str) -> Any:
    def read(core: Core, record: Either) -> Any:
        transfer = last_transfer(core, record)
        if transfer is None:
            return None
        ended = transfer.end_time is not None
        values = {
            "bytes_transferred": bytes_so_far(core, transfer),
            "end_time": show_time(transfer.end_time) if transfer.end_time is not None else None,
            "last_updated_time": show_time(transfer.end_time or core.now),
            "state": transfer.state,
            "total_duration": show_duration((transfer.end_time or core.now) - transfer.start_time),
            "type": transfer.kind,
            "uuid": transfer.uuid,
        }
        return values[name] if ended or name != "end_time" else None

    return read


def _destination(record: Either) -> Relationship | None:
    return record if isinstance(record, Relationship) else None


FIELDS: tuple[Field, ...] = (
    Field("uuid", read=lambda core, x: x.uuid),
    *endpoint_fields("source"),
    *endpoint_fields("destination"),
    Field("policy.name", read=lambda core, x: x.policy, create=True, modify=True),
    Field("policy.uuid", read=lambda core, x: p.uuid if (p := policy_of(core, x)) else None, create=True, modify=True),
    Field("policy.type", read=lambda core, x: "async"),
    Field("group_type", read=lambda core, x: "none"),
    Field(
        "state",
        read=lambda core, x: shown_state(core, d) if (d := _destination(x)) else None,
        create=True,
        modify=True,
    ),
    Field("healthy", Kind.BOOLEAN, read=lambda core, x: not d.problems if (d := _destination(x)) else None),
    Field(
        "unhealthy_reason",
        Kind.OBJECTS,
        read=lambda core, x: [_problem(p) for p in d.problems] or None if (d := _destination(x)) else None,
        items=(Field("code"), Field("message"), Field("arguments", Kind.TEXTS)),
    ),
    Field("lag_time", read=lag),
    Field("exported_snapshot", read=lambda core, x: s.name if (s := exported(core, x)) else None),
    Field("restore", Kind.BOOLEAN, read=lambda core, x: d.restore if (d := _destination(x)) else None, create=True),
    Field(
        "transfer_schedule.name",
        read=lambda core, x: d.schedule or None if (d := _destination(x)) else None,
        create=True,
        modify=True,
    ),
    Field(
        "transfer_schedule.uuid",
        read=lambda core, x: _schedule_uuid(core, d.schedule) if (d := _destination(x)) else None,
        create=True,
        modify=True,
    ),
    Field(
        "throttle",
        Kind.INTEGER,
        read=lambda core, x: d.throttle if (d := _destination(x)) else None,
        create=True,
        modify=True,
    ),
    Field("last_transfer_type", read=lambda core, x: d.last_type or None if (d := _destination(x)) else None),
    Field("total_transfer_bytes", Kind.SIZE, read=lambda core, x: d.total_bytes if (d := _destination(x)) else None),
    Field(
        "total_transfer_duration",
        read=lambda core, x: show_duration(d.total_time) if (d := _destination(x)) else None,
    ),
    Field("transfer.bytes_transferred", Kind.SIZE, read=_of_transfer("bytes_transferred")),
    Field("transfer.end_time", Kind.TIME, read=_of_transfer("end_time")),
    Field("transfer.last_updated_time", Kind.TIME, read=_of_transfer("last_updated_time")),
    Field("transfer.state", read=_of_transfer("state")),
    Field("transfer.total_duration", read=_of_transfer("total_duration")),
    Field("transfer.type", read=_of_transfer("type")),
    Field("transfer.uuid", read=_of_transfer("uuid")),
    Field("create_destination.enabled", Kind.BOOLEAN, create=True),
    Field("create_destination.tiering.policy", create=True),
    Field("create_destination.tiering.supported", Kind.BOOLEAN, create=True),
    Field("create_destination.storage_service.enabled", Kind.BOOLEAN, create=True),
    Field("create_destination.storage_service.name", create=True),
    Field("create_destination.storage_service.enforce_performance", Kind.BOOLEAN, create=True),
    Field("restore_to_snapshot", modify=True),
    Field("preserve", Kind.BOOLEAN, modify=True),
    Field("quick_resync", Kind.BOOLEAN, modify=True),
    Field("recover_after_break", Kind.BOOLEAN, modify=True),
)
"""What a relationship's record shows, at its destination and (less of it) at its source."""


def _schedule_uuid(core: Core, name: str) -> str | None:
    return next((s.uuid for s in core.schedules.values() if s.name == name), None)
