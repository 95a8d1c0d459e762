"""/storage/volumes/{volume.uuid}/snapshots."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

from labenv.ontap import records as r
from labenv.ontap import snapshots
from labenv.ontap.core import Core
from labenv.ontap.errors import ApiError
from labenv.ontap.rest.call import Call
from labenv.ontap.rest.collection import Collection
from labenv.ontap.rest.model import (
    SVM_LINK,
    Body,
    Codes,
    Field,
    Later,
    Links,
)
from labenv.ontap.rest.values import Kind, show_time


def _size(core: Core, snapshot: r.Snapshot) -> int | None:
    found = core.pool(snapshot.volume).snapshots.get(snapshot.name)
    return None if found is None else found.size


def _volume(core: Core, snapshot: r.Snapshot) -> r.Volume:
    return core.volumes[snapshot.volume]


class Snapshots(Collection):
    """Snapshot copies of one volume, or (``*``) of all."""

    path = "/storage/volumes/{volume.uuid}/snapshots"
    default = ("volume.uuid", "volume.name", "uuid", "name")
    methods = ("GET", "POST", "PATCH", "DELETE")
    anywhere = True
    codes: ClassVar[Codes] = {
        "GET": ("4", "918235", "262197"),
        "POST": (
            "918235", "524479", "525059", "525062", "1520351", "1638461", "1638477", "1638518", "1638532",
        ),
        "PATCH": ("918235", "525059", "1520351", "1638476", "1638477", "1638518", "1638522"),
        "DELETE": ("524481", "918235", "1520351", "1638521", "1638555", "1638600"),
    }  # fmt: skip
    links: ClassVar[Links] = {"volume": "/api/storage/volumes/{volume.uuid}", **SVM_LINK}
    fields = (
        Field("volume.uuid", read=lambda core, s: s.volume, create=True),
        Field("volume.name", read=lambda core, s: _volume(core, s).name, create=True),
        Field("uuid", read=lambda core, s: s.uuid),
        Field("name", read=lambda core, s: s.name, create=True, modify=True),
        Field("svm.uuid", read=lambda core, s: _volume(core, s).svm, create=True),
        Field("svm.name", read=lambda core, s: core.svms[_volume(core, s).svm].name, create=True),
        Field("create_time", Kind.TIME, read=lambda core, s: show_time(s.create_time)),
        Field("comment", read=lambda core, s: s.comment or None, create=True, modify=True),
        Field(
            "expiry_time",
            Kind.TIME,
            read=lambda core, s: None if s.expiry_time is None else show_time(s.expiry_time),
            create=True,
            modify=True,
        ),
        Field("snapmirror_label", read=lambda core, s: s.snapmirror_label or None, create=True, modify=True),
        Field("state", read=lambda core, s: "valid"),
        Field("version_uuid", read=lambda core, s: s.version_uuid),
        Field("owners", Kind.TEXTS, read=lambda core, s: core.snapshot_owners(s) or None),
        Field("size", Kind.SIZE, read=_size),
        Field("reclaimable_space", Kind.SIZE, read=_size, expensive=True),
        Field("delta.size_consumed", Kind.SIZE, read=_size, expensive=True),
    )

    def records(self, call: Call) -> Iterable[r.Snapshot]:
        return self.core.snapshots.values()

    def within(self, call: Call, parents: Mapping[str, str]) -> Iterable[Any]:
        uuid = parents.get("volume.uuid", "*")
        if "*" in uuid:
            return super().within(call, parents)
        volume = self.core.volumes.get(uuid)
        if volume is None or call.svm not in (None, volume.svm):
            return []
        return self.core.snapshots_of(uuid)

    def require_parents(self, call: Call, parents: Mapping[str, str]) -> None:
        uuid = parents.get("volume.uuid", "*")
        volume = self.core.volumes.get(uuid)
        if "*" not in uuid and (volume is None or call.svm not in (None, volume.svm)):
            raise ApiError("918235", volume=uuid, target="volume.uuid")

    def not_found(self, values: Sequence[str]) -> ApiError:
        return ApiError("4", target="uuid")

    def create(self, call: Call, body: Body) -> Later:
        core = self.core
        volume = self._parent(call, body)
        name = body.get("name") or f"snapshot_{core.clock.time:%Y-%m-%d_%H%M%S}"
        snapshots.check_snapshot_name(name)
        if volume.type != "rw":
            raise ApiError("1638461")
        if core.find_snapshot(volume.uuid, name) is not None:
            raise ApiError("525059", snapshot=name, volume=volume.name, target="name")
        arguments = {
            "volume": volume.uuid,
            "name": name,
            "comment": body.get("comment") or "",
            "expiry_time": body.get("expiry_time"),
            "snapmirror_label": body.get("snapmirror_label") or "",
        }
        return self._job(volume, "snapshot.create", arguments, name=name)

    def _parent(self, call: Call, body: Body) -> r.Volume:
        core = self.core
        within = call.parents["volume.uuid"]
        if "*" not in within:
            return core.volumes[within]
        uuid, name = body.get("volume.uuid"), body.get("volume.name")
        svm = call.svm
        if body.get("svm.uuid") or body.get("svm.name"):
            svm = core.svm(name=body.get("svm.name"), uuid=body.get("svm.uuid")).uuid
        for volume in core.volumes.values():
            if svm in (None, volume.svm) and (volume.uuid == uuid if uuid else volume.name == name):
                return volume
        raise ApiError("918235", volume=uuid or name, target="volume", status=400)

    def _job(self, volume: r.Volume, operation: str, arguments: dict[str, Any], *, name: str = "") -> Later:
        return Later(
            operation,
            arguments,
            node=self.core.node_of(volume).name,
            svm=volume.svm,
            name=name,
            doomed=snapshots.blocked(self.core, volume),
        )

    def modify(self, call: Call, record: r.Snapshot, body: Body) -> Later | None:
        values: dict[str, Any] = {}
        name = body.get("name")
        volume = self.core.volumes[record.volume]
        if name is not None and name != record.name:
            snapshots.check_snapshot_name(name)
            if volume.type != "rw":
                raise ApiError("1638522", target="name")
            if self.core.replication.holds(record):
                raise ApiError("1638476", snapshot=record.name, target="name")
            if self.core.find_snapshot(volume.uuid, name) is not None:
                raise ApiError("525059", snapshot=name, volume=volume.name, target="name")
            values["name"] = name
        for field in ("comment", "snapmirror_label"):
            if field in body:
                values[field] = body[field] or ""
        if "expiry_time" in body:
            values["expiry_time"] = body["expiry_time"]
        if not values:
            return None
        return self._job(volume, "snapshot.modify", {"snapshot": record.uuid, "values": values})

    def remove(self, call: Call, record: r.Snapshot) -> Later:
        volume = self.core.volumes[record.volume]
        if volume.type != "rw":
            raise ApiError("1638521")
        if any(volume.uuid in fence.fenced_volumes for fence in self.core.fences[True]):
            raise ApiError("524481", name=volume.name)
        return self._job(volume, "snapshot.delete", {"snapshot": record.uuid})
