"""/private/cli: the commands of the clustershell that clients reach through the API.

GET is ``show``, POST a command of its own or ``create``, PATCH ``modify``, DELETE ``delete``. Names of fields are those
of the shell; ``-`` and ``_`` mean the same in them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

from labenv.ontap import records as r
from labenv.ontap import snapshots
from labenv.ontap.core import Core
from labenv.ontap.errors import ApiError
from labenv.ontap.files import restore_file
from labenv.ontap.rest.call import GENERAL, Call
from labenv.ontap.rest.collection import Collection
from labenv.ontap.rest.model import Access, Body, Codes, Field, Later, Now, Parameters, Read, Work
from labenv.ontap.rest.nodes import giveback, takeover
from labenv.ontap.rest.query import Filter
from labenv.ontap.rest.snapmirror_relationships import Relationships
from labenv.ontap.rest.values import Kind, show_time
from labenv.ontap.snapmirror_records import Relationship


def plain(name: str) -> str:
    """A field's name with underscores."""
    return name.replace("-", "_")


class Table(Collection):
    """What the commands of the lab have in common: records without paths of their own, and no links."""

    addressable = False
    keys: ClassVar[tuple[str, ...]] = ()
    default: ClassVar[tuple[str, ...]] = ()
    methods: ClassVar[tuple[str, ...]] = ("GET",)
    codes: ClassVar[Codes] = {"GET": ("262197",)}

    def parse_filters(self, call: Call, *, known: tuple[str, ...] = ()) -> list[Filter]:
        query = {plain(name): text for name, text in call.query.items()}
        return super().parse_filters(dataclasses.replace(call, query=query), known=known)

    def wanted(self, call: Call, *, instance: bool, filters: Sequence[Filter] = ()) -> dict[str, set[str] | None]:
        general = {**call.general, "fields": plain(call.general.get("fields", ""))}
        return super().wanted(dataclasses.replace(call, general=general), instance=instance, filters=filters)

    def read_body(self, call: Call, flat: Mapping[str, Any]) -> Body:
        query = {plain(name): text for name, text in call.query.items()}
        body = {plain(name): value for name, value in flat.items() if name not in GENERAL}
        return super().read_body(dataclasses.replace(call, query=query), body)

    def show(self, record: Any, wanted: Mapping[str, set[str] | None], *, hal: bool) -> dict[str, Any]:
        return super().show(record, wanted, hal=False)

    def href(self, record: Any) -> str:
        return f"/api{self.path}"

    def visible(self, call: Call) -> list[Any]:
        own = self.core.svms.get(call.svm or "")
        names = None if own is None else (None, own.name)
        return [record for record in self.records(call) if names is None or self._owner(record) in names]

    def _owner(self, record: Any) -> str | None:
        """Name of the SVM that a record belongs to."""
        name: str | None = self.value(record, "vserver") if "vserver" in self.by_name else None
        return name

    def svm_of(self, call: Call, name: str | None) -> r.Svm:
        """The SVM of a command; an SVM administrator need not name it, and may name no other."""
        own = self.core.svms.get(call.svm or "")
        svm = self.core.svm(name=name or (own.name if own else None))
        if own is not None and svm != own:
            raise ApiError("2621462", svm=name, target="vserver", status=400)
        return svm


class Vserver(Table):
    """``vserver show``."""

    path = "/private/cli/vserver"
    keys = ("vserver",)
    fields = (
        Field("vserver", read=lambda core, s: s.name),
        Field("uuid", read=lambda core, s: s.uuid),
        Field("type", read=lambda core, s: "data"),
        Field("subtype", read=lambda core, s: "default"),
        Field("admin_state", read=lambda core, s: s.state),
        Field("operational_state", read=lambda core, s: s.state),
        Field("allowed_protocols", Kind.TEXTS, read=lambda core, s: ["iscsi"] if s.iscsi_enabled else None),
        Field("ipspace", read=lambda core, s: "Default"),
        Field("comment", read=lambda core, s: s.comment or None),
        Field("aggr_list", Kind.TEXTS, read=lambda core, s: [core.aggregates[a].name for a in s.aggregates] or None),
    )

    def records(self, call: Call) -> Iterable[r.Svm]:
        return self.core.svms.values()


def _svm_name(core: Core, volume: r.Volume) -> str:
    return core.svms[volume.svm].name


class VolumeShow(Table):
    """``volume show``."""

    path = "/private/cli/volume"
    keys = ("vserver", "volume")
    fields = (
        Field("vserver", read=_svm_name),
        Field("volume", read=lambda core, v: v.name),
        Field("uuid", read=lambda core, v: v.uuid),
        Field("aggregate", read=lambda core, v: core.aggregates[v.aggregate].name),
        Field("node", read=lambda core, v: core.node_of(v).name),
        Field("state", read=lambda core, v: v.state),
        Field("type", read=lambda core, v: v.type.upper()),
        Field("size", Kind.SIZE, read=lambda core, v: v.size),
        Field("space_guarantee", read=lambda core, v: v.guarantee),
        Field("snapshot_policy", read=lambda core, v: v.snapshot_policy),
        Field("percent_snapshot_space", Kind.INTEGER, read=lambda core, v: v.snapshot_reserve),
        Field("snapshot_count", Kind.INTEGER, read=lambda core, v: core.snapshots_by_volume.count(v.uuid)),
        Field("comment", read=lambda core, v: v.comment or None),
    )

    def records(self, call: Call) -> Iterable[r.Volume]:
        return self.core.volumes.values()


class SnapshotTable(Table):
    """``volume snapshot show`` and ``delete`` with ``-ignore-owners`` (also owned copies, but no mirror's base)."""

    path = "/private/cli/volume/snapshot"
    keys = ("vserver", "volume", "snapshot")
    methods = ("GET", "DELETE")
    codes: ClassVar[Codes] = {"GET": ("262197",), "DELETE": ("1520351", "1638532", "1638555", "1638600")}
    parameters: ClassVar[Parameters] = {
        "DELETE": (Field("ignore_owners", Kind.BOOLEAN), Field("force", Kind.BOOLEAN)),
    }
    fields = (
        Field("vserver", read=lambda core, s: _svm_name(core, core.volumes[s.volume])),
        Field("volume", read=lambda core, s: core.volumes[s.volume].name),
        Field("snapshot", read=lambda core, s: s.name),
        Field("instance_uuid", read=lambda core, s: s.uuid),
        Field("create_time", Kind.TIME, read=lambda core, s: show_time(s.create_time)),
        Field("busy", Kind.BOOLEAN, read=lambda core, s: core.snapshot_busy(s)),
        Field("owners", Kind.TEXTS, read=lambda core, s: core.snapshot_owners(s) or None),
        Field("comment", read=lambda core, s: s.comment or None),
        Field("snapmirror_label", read=lambda core, s: s.snapmirror_label or None),
        Field(
            "expiry_time", Kind.TIME, read=lambda core, s: None if s.expiry_time is None else show_time(s.expiry_time)
        ),
    )

    def records(self, call: Call) -> Iterable[r.Snapshot]:
        return self.core.snapshots.values()

    def known(self, method: str) -> tuple[str, ...]:
        return (*super().known(method), "ignore-owners")

    def remove(self, call: Call, record: r.Snapshot) -> Work:
        core = self.core
        volume = core.volumes[record.volume]
        error = snapshots.blocked(core, volume)
        if error is not None:
            raise error
        ignore = any(call.flag(name) for name in ("ignore_owners", "ignore-owners"))
        owners = set(core.snapshot_owners(record)) - (set(record.owners) if ignore else set())
        expired = record.expiry_time is None or record.expiry_time <= core.now
        if owners or not expired:
            svm = core.svms[volume.svm]
            raise ApiError("1638555", snapshot=record.name, volume=volume.name, svm=svm.name)
        arguments = {"snapshot": record.uuid, "ignore_owners": ignore}
        return Now("snapshot.delete", lambda: snapshots.delete_snapshot(core, arguments))


class RestoreFile(Table):
    """``volume snapshot restore-file``: single-file SnapRestore; newer Snapshot copies stay."""

    path = "/private/cli/volume/snapshot/restore-file"
    keys = ()
    methods = ("POST",)
    codes: ClassVar[Codes] = {
        "POST": (
            "917775", "917927", "1520351", "1638532", "1638600", "2621462", "2621707", "6684674", "13565952",
        )
    }  # fmt: skip
    fields = tuple(
        Field(name, create=True)
        for name in ("vserver", "volume", "snapshot", "path", "restore_path", "split_start_offset")
    )

    def records(self, call: Call) -> Iterable[Any]:
        return ()

    def create(self, call: Call, body: Body) -> Now:
        core = self.core
        svm = self.svm_of(call, body.get("vserver"))
        volume = core.find_volume(svm.uuid, body.get("volume") or "")
        if volume is None:
            raise ApiError("917927", volume=body.get("volume"), target="volume", status=400)
        snapshot = core.find_snapshot(volume.uuid, body.get("snapshot") or "")
        if snapshot is None:
            raise ApiError("1638600", snapshot=body.get("snapshot"), target="snapshot", status=400)
        error = snapshots.blocked(core, volume)
        if error is not None:
            raise error
        path = self._inside(volume, body.get("path") or "")
        target = self._inside(volume, body.get("restore_path") or body.get("path") or "")
        return Now("file.restore", lambda: restore_file(core, volume, snapshot, path, target))

    @staticmethod
    def _inside(volume: r.Volume, path: str) -> str:
        """A path inside the volume; the shell also takes one that begins with ``/vol/VOLUME``."""
        path = "/" + path.lstrip("/")
        path = path.removeprefix(f"/vol/{volume.name}")
        if not path.strip("/"):
            raise ApiError("6684674", target="path")
        return path


class MirrorTable(Table):
    """``snapmirror show`` and ``modify`` (policy, schedule, throttle)."""

    path = "/private/cli/snapmirror"
    keys = ("destination_path",)
    methods = ("GET", "PATCH")
    codes: ClassVar[Codes] = {
        "GET": ("262197",),
        "PATCH": ("6619699", "13303818", "13303821", "13303851", "13304086"),
    }
    fields = (
        Field("source_path", read=lambda core, x: f"{x.source.svm_name}:{x.source.volume_name}"),
        Field("destination_path", read=lambda core, x: f"{x.destination.svm_name}:{x.destination.volume_name}"),
        Field("vserver", read=lambda core, x: x.destination.svm_name),
        Field("type", read=lambda core, x: "XDP"),
        Field("policy", read=lambda core, x: x.policy, modify=True),
        Field("schedule", read=lambda core, x: x.schedule or None, modify=True),
        Field("throttle", read=lambda core, x: "unlimited" if not x.throttle else str(x.throttle), modify=True),
        Field("relationship_id", read=lambda core, x: x.uuid),
        Field("state", read=lambda core, x: x.mirror),
    )

    def __init__(self, core: Core) -> None:
        super().__init__(core)
        self._relationships = Relationships(core)

    def records(self, call: Call) -> Iterable[Relationship]:
        return self.core.replication.relationships.values()

    def modify(self, call: Call, record: Relationship, body: Body) -> Work | None:
        names = {"policy": "policy.name", "schedule": "transfer_schedule.name", "throttle": "throttle"}
        values = {names[name]: value for name, value in body.items() if value is not None}
        if values.get("throttle") is not None:
            values["throttle"] = 0 if values["throttle"] == "unlimited" else self._number(values["throttle"])
        return self._relationships.modify(call, record, values)

    @staticmethod
    def _number(text: str) -> int:
        if not text.isdigit():
            raise ApiError("262197", target="throttle", value=text, field="throttle", expected="integer")
        return int(text)


def _takeover_possible(core: Core, node: r.Node) -> bool:
    partner = core.partner(node)
    return partner is not None and partner.state == node.state == "up"


class Failover(Table):
    """``storage failover show``."""

    path = "/private/cli/storage/failover"
    keys = ("node",)
    access = Access.CLUSTER
    fields = (
        Field("node", read=lambda core, n: n.name),
        Field("partner_name", read=lambda core, n: p.name if (p := core.partner(n)) else None),
        Field("enabled", Kind.BOOLEAN, read=lambda core, n: core.partner(n) is not None),
        Field("possible", Kind.BOOLEAN, read=lambda core, n: _takeover_possible(core, n)),
        Field("state_description", read=lambda core, n: "Connected" if n.state == "up" else "In takeover"),
    )

    def records(self, call: Call) -> Iterable[r.Node]:
        return self.core.nodes.values()


class Takeover(Table):
    """``storage failover takeover -ofnode``: the partner of a node takes it over."""

    path = "/private/cli/storage/failover/takeover"
    keys = ()
    access = Access.CLUSTER
    methods = ("POST",)
    codes: ClassVar[Codes] = {"POST": ("852046",)}
    fields = (Field("ofnode", create=True), Field("option", create=True))

    def records(self, call: Call) -> Iterable[Any]:
        return ()

    def _node(self, name: str | None) -> r.Node:
        for node in self.core.nodes.values():
            if node.name == name:
                return node
        raise ApiError("4", target="ofnode")

    def create(self, call: Call, body: Body) -> Later:
        return takeover(self.core, self._node(body.get("ofnode")))


class GiveBack(Takeover):
    """``storage failover giveback -ofnode``: a node that was taken over serves again."""

    path = "/private/cli/storage/failover/giveback"
    codes: ClassVar[Codes] = {"POST": ()}

    def create(self, call: Call, body: Body) -> Later:
        return giveback(self.core, self._node(body.get("ofnode")))


FLAGS = ("ASA_R2", "ASA_NEXT", "ASA_LEGACY", "ASA_ANY", "ONTAP_X_STRICT", "ONTAP_X", "ONTAP_9_STRICT", "ONTAP_9")


def _flag(name: str) -> Read:
    return lambda core, flags: flags[name]


class Personality(Table):
    """What kind of ONTAP this is, as clients ask the cluster's tables: unified, no ASA r2."""

    path = "/private/cli/debug/smdb/table/OntapPersonality"
    keys = ("ONTAP_9",)
    access = Access.CLUSTER
    default = FLAGS
    fields = tuple(Field(name, Kind.BOOLEAN, read=_flag(name)) for name in FLAGS)

    def records(self, call: Call) -> Iterable[Mapping[str, bool]]:
        return ({name: name.startswith("ONTAP_9") for name in FLAGS},)


class Mode(Personality):
    """The same under the name that it had before 9.17.1."""

    path = "/private/cli/debug/smdb/table/OntapMode"


TABLES: tuple[type[Collection], ...] = (
    Vserver,
    VolumeShow,
    SnapshotTable,
    RestoreFile,
    MirrorTable,
    Failover,
    Takeover,
    GiveBack,
    Personality,
    Mode,
)
