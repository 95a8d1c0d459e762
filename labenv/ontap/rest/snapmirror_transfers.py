"""/snapmirror/relationships/{relationship.uuid}/transfers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

from labenv.ontap.core import Core
from labenv.ontap.errors import ApiError
from labenv.ontap.rest.call import Call
from labenv.ontap.rest.collection import Collection
from labenv.ontap.rest.model import Body, Codes, Field, Now
from labenv.ontap.rest.snapmirror_fields import bytes_so_far, path_of, show_duration
from labenv.ontap.rest.values import Kind, show_time
from labenv.ontap.snapmirror import shown_state
from labenv.ontap.snapmirror_records import ACTIVE, Relationship, Transfer
from labenv.ontap.snapmirror_transfer import FAILED, KEPT, abort, begin_or_record

STATES = ("aborted", "failed", "hard_aborted", "queued", "success", "transferring")


def _relationship(core: Core, transfer: Transfer) -> Relationship:
    return core.replication.relationships[transfer.relationship]


class Transfers(Collection):
    """SnapMirror transfers of a relationship, of the last 24 hours."""

    path = "/snapmirror/relationships/{relationship.uuid}/transfers"
    default = ("relationship.uuid", "uuid")
    methods = ("GET", "POST", "PATCH")
    polls = True
    codes: ClassVar[Codes] = {
        "GET": ("4", "262197"),
        "POST": ("4", "13303812", "13303844", "13303845", "13303846", "13303847"),
        "PATCH": ("4", "13303849"),
    }
    fields = (
        Field("relationship.uuid", read=lambda core, t: t.relationship),
        Field("relationship.destination.path", read=lambda core, t: path_of(core, _relationship(core, t).destination)),
        Field("relationship.destination.svm.name", read=lambda core, t: _relationship(core, t).destination.svm_name),
        Field("relationship.destination.svm.uuid", read=lambda core, t: _relationship(core, t).destination.svm),
        Field("relationship.restore", Kind.BOOLEAN, read=lambda core, t: _relationship(core, t).restore),
        Field("uuid", read=lambda core, t: t.uuid),
        Field("state", read=lambda core, t: t.state, modify=True, choices=STATES),
        Field("bytes_transferred", Kind.SIZE, read=bytes_so_far),
        Field("checkpoint_size", Kind.SIZE, read=lambda core, t: t.sent if t.state == "aborted" else 0),
        Field("snapshot", read=lambda core, t: t.snapshot or None),
        Field("source_snapshot", read=lambda core, t: t.source_snapshot or None, create=True),
        Field(
            "end_time", Kind.TIME, read=lambda core, t: None if t.end_time is None else show_time(t.end_time)
        ),
        Field("last_updated_time", Kind.TIME, read=lambda core, t: show_time(t.end_time or core.now)),
        Field("total_duration", read=lambda core, t: show_duration((t.end_time or core.now) - t.start_time)),
        Field("throttle", Kind.INTEGER, read=lambda core, t: t.throttle, create=True, modify=True),
        Field("error_info.message", read=lambda core, t: t.failure.message if t.failure else None),
        Field("error_info.code", Kind.INTEGER, read=lambda core, t: int(t.failure.code) if t.failure else None),
        Field("storage_efficiency_enabled", Kind.BOOLEAN, create=True),
        Field(
            "files",
            Kind.OBJECTS,
            read=lambda core, t: [{"source_path": s, "destination_path": d} for s, d in t.files] or None,
            create=True,
            items=(Field("source_path"), Field("destination_path")),
        ),
    )  # fmt: skip

    def records(self, call: Call) -> Iterable[Transfer]:
        core = self.core
        known = core.replication.relationships
        return [
            t
            for t in core.replication.transfers.values()
            if t.relationship in known
            and (t.end_time is None or t.end_time + KEPT >= core.now)
            and call.svm in (None, known[t.relationship].destination.svm)
        ]

    def visible(self, call: Call) -> list[Any]:
        return list(self.records(call))

    def require_parents(self, call: Call, parents: Mapping[str, str]) -> None:
        uuid = parents.get("relationship.uuid", "*")
        relationship = self.core.replication.relationships.get(uuid)
        if "*" not in uuid and (relationship is None or call.svm not in (None, relationship.destination.svm)):
            raise ApiError("4", target="relationship.uuid")

    def unfinished(self, record: Transfer) -> bool:
        return record.state in ACTIVE

    def not_found(self, values: Sequence[str]) -> ApiError:
        return ApiError("4", target="uuid")

    def create(self, call: Call, body: Body) -> Now:
        core = self.core
        relationship = core.replication.relationships[call.parents["relationship.uuid"]]
        snapshot = body.get("source_snapshot") or ""
        kind = self._kind(relationship)
        self._check(relationship, body, kind)
        files = tuple((f["source_path"], f["destination_path"]) for f in body.get("files") or ())

        def apply() -> Transfer:
            current = core.replication.relationships[relationship.uuid]
            return begin_or_record(
                core, current, kind, source_snapshot=snapshot, throttle=body.get("throttle") or 0, files=files
            )

        return Now("snapmirror.transfer", apply)

    def _kind(self, relationship: Relationship) -> str:
        if relationship.restore:
            return "restore"
        return "initialize" if shown_state(self.core, relationship) == "uninitialized" else "update"

    def _check(self, relationship: Relationship, body: Body, kind: str) -> None:
        core = self.core
        state = shown_state(core, relationship)
        if core.replication.active(relationship.uuid) is not None:
            raise ApiError(FAILED[kind], reason="another transfer is in progress")
        if kind == "update" and (state != "snapmirrored" or relationship.quiesced):
            raise ApiError("13303844", reason=f"the relationship is in the state {state}")
        volume = core.volumes.get(relationship.destination.volume)
        if kind == "initialize" and volume is not None and volume.type != "dp":
            raise ApiError("13303812", reason="the destination volume is not of type dp")
        if "files" in body:
            if kind != "restore":
                raise ApiError("13303847", field="files", reason="only a restore takes files")
            files = body["files"] or []
            if not files or not all(f.get("source_path") and f.get("destination_path") for f in files):
                raise ApiError("13303846", target="files")

    def modify(self, call: Call, record: Transfer, body: Body) -> Now | None:
        core = self.core
        wanted = body.get("state")
        if wanted is None:
            return None
        if record.state not in ACTIVE or wanted not in ("aborted", "hard_aborted"):
            raise ApiError("13303849", state=record.state, wanted=wanted, target="state")
        return Now("snapmirror.abort", lambda: abort(core, record, hard=wanted == "hard_aborted"))
