"""/snapmirror/policies."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from labenv.ontap.errors import ApiError
from labenv.ontap.rest.call import Call
from labenv.ontap.rest.collection import Collection
from labenv.ontap.rest.model import SVM_LINK, Body, Codes, Field, Later, Links, svm_fields
from labenv.ontap.rest.values import Kind
from labenv.ontap.snapmirror_policies import ALL, CREATED
from labenv.ontap.snapmirror_records import MirrorPolicy

MOST_COPIES = 1019
"""Snapshot copies that a destination can keep."""


class MirrorPolicies(Collection):
    """SnapMirror policies (asynchronous ones)."""

    path = "/snapmirror/policies"
    methods = ("GET", "POST", "PATCH", "DELETE")
    shared = True
    codes: ClassVar[Codes] = {
        "GET": ("4", "262197"),
        "POST": ("6619714", "6621060", "13304084", "13304085", "13304126", "13304130"),
        "PATCH": ("4", "6619714", "13303842", "13303850", "13304126", "13304130"),
        "DELETE": ("4", "13303842"),
    }
    links: ClassVar[Links] = SVM_LINK
    fields = (
        Field("uuid", read=lambda core, p: p.uuid),
        Field("name", read=lambda core, p: p.name, create=True),
        *svm_fields(),
        Field("scope", read=lambda core, p: "cluster" if p.svm is None else "svm"),
        Field("type", read=lambda core, p: "async", create=True),
        Field("comment", read=lambda core, p: p.comment or None, create=True, modify=True),
        Field("create_snapshot_on_source", Kind.BOOLEAN, read=lambda core, p: p.create_snapshot, create=True),
        Field("copy_all_source_snapshots", Kind.BOOLEAN, read=lambda core, p: p.copy_all, create=True),
        Field(
            "copy_latest_source_snapshot",
            Kind.BOOLEAN,
            read=lambda core, p: p.create_snapshot and {rule.label for rule in p.rules} == {CREATED},
            create=True,
        ),
        Field("throttle", Kind.INTEGER, read=lambda core, p: p.throttle, create=True, modify=True),
        Field(
            "network_compression_enabled",
            Kind.BOOLEAN,
            read=lambda core, p: p.compression,
            create=True,
            modify=True,
        ),
        Field(
            "transfer_schedule.name",
            read=lambda core, p: p.schedule or None,
            create=True,
            modify=True,
        ),
        Field(
            "transfer_schedule.uuid",
            read=lambda core, p: next((s.uuid for s in core.schedules.values() if s.name == p.schedule), None),
        ),
        Field(
            "retention",
            Kind.OBJECTS,
            read=lambda core, p: [
                {"label": rule.label, "count": str(rule.count), "prefix": rule.prefix or None}
                for rule in p.rules
                if rule.label != ALL
            ],
            create=True,
            modify=True,
            items=(
                Field("label"),
                Field("count", Kind.INTEGER),
                Field("prefix"),
                Field("creation_schedule.name"),
                Field("creation_schedule.uuid"),
                Field("preserve", Kind.BOOLEAN),
                Field("warn", Kind.INTEGER),
            ),
        ),
    )

    def records(self, call: Call) -> Iterable[MirrorPolicy]:
        return self.core.replication.policies.values()

    def create(self, call: Call, body: Body) -> Later:
        core = self.core
        name = body.get("name") or ""
        if not name:
            raise ApiError("2", reason="a name is needed", target="name")
        if body.get("type") not in (None, "async"):
            raise ApiError("13304085", value=body["type"], field="type", target="type")
        svm = None
        if body.get("svm.name") or body.get("svm.uuid"):
            try:
                svm = core.svm(name=body.get("svm.name"), uuid=body.get("svm.uuid")).uuid
            except ApiError as error:
                raise ApiError("2", reason=error.message, target="svm") from None
        if any(p.name == name and p.svm in (svm, None) for p in core.replication.policies.values()):
            raise ApiError("6621060", name=name, target="name")
        copy_all = bool(body.get("copy_all_source_snapshots"))
        latest = bool(body.get("copy_latest_source_snapshot"))
        if copy_all and latest:
            raise ApiError("13304084", fields="copy_all_source_snapshots, copy_latest_source_snapshot")
        if (copy_all or latest) and body.get("retention"):
            raise ApiError("13304084", fields="retention, copy_all_source_snapshots, copy_latest_source_snapshot")
        create = body.get("create_snapshot_on_source") is not False
        rules = self._rules(body)
        if create:
            rules = [{"label": CREATED, "count": 1, "prefix": ""}, *rules]
        if copy_all:
            rules.append({"label": ALL, "count": 1, "prefix": ""})
        arguments = {
            "name": name,
            "svm": svm,
            "comment": body.get("comment") or "",
            "create_snapshot": create,
            "copy_all": copy_all,
            "rules": rules,
            "schedule": self._schedule(body) or "",
            "throttle": body.get("throttle") or 0,
            "compression": bool(body.get("network_compression_enabled")),
        }
        return Later("mirror_policy.create", arguments, node=self._node(), svm=svm, name=name)

    def _node(self) -> str:
        return next(iter(self.core.nodes.values())).name

    def _schedule(self, body: Body) -> str | None:
        name = body.get("transfer_schedule.name")
        if name is None:
            return None
        schedule = next((s for s in self.core.schedules.values() if s.name == name), None)
        if name and schedule is None:
            raise ApiError("13304085", value=name, field="transfer_schedule.name", target="transfer_schedule")
        if schedule is not None and schedule.interval:
            raise ApiError("6619714", name=name, target="transfer_schedule")
        return str(name)

    @staticmethod
    def _rules(body: Body) -> list[dict[str, Any]]:
        rules = []
        for element in body.get("retention") or []:
            count = element.get("count")
            if count is None or not 1 <= count <= MOST_COPIES:
                raise ApiError("13304126", limit=MOST_COPIES, count=count, target="retention.count")
            if not element.get("label"):
                raise ApiError("13304085", value="", field="retention.label", target="retention.label")
            if element["label"] != CREATED:
                rules.append({"label": element["label"], "count": count, "prefix": element.get("prefix") or ""})
        if sum(rule["count"] for rule in rules) > MOST_COPIES:
            raise ApiError("13304130", limit=MOST_COPIES, target="retention.count")
        return rules

    def modify(self, call: Call, record: MirrorPolicy, body: Body) -> Later | None:
        if record.builtin:
            raise ApiError("13303842", name=record.name, reason="it comes with the system")
        values: dict[str, Any] = {}
        for name, attribute in (
            ("comment", "comment"),
            ("throttle", "throttle"),
            ("network_compression_enabled", "compression"),
        ):
            if body.get(name) is not None:
                values[attribute] = body[name]
        schedule = self._schedule(body)
        if schedule is not None:
            values["schedule"] = schedule
        if "retention" in body:
            if record.copy_all:
                raise ApiError("13303850", reason="the policy keeps what the source has", target="retention")
            own = [{"label": CREATED, "count": 1, "prefix": ""}] if record.create_snapshot else []
            values["rules"] = [*own, *self._rules(body)]
        if not values:
            return None
        return Later("mirror_policy.modify", {"policy": record.uuid, "values": values}, node=self._node())

    def remove(self, call: Call, record: MirrorPolicy) -> Later:
        if record.builtin:
            raise ApiError("13303842", name=record.name, reason="it comes with the system")
        users = [r for r in self.core.replication.relationships.values() if r.policy == record.name]
        if users:
            raise ApiError("13303842", name=record.name, reason="relationships use it")
        return Later("mirror_policy.delete", {"policy": record.uuid}, node=self._node())
