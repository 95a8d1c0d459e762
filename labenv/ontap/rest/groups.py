"""/application/consistency-groups with Snapshot copies in one phase or two; restore of a whole group."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

from labenv.ontap import fence, snapshots
from labenv.ontap import records as r
from labenv.ontap.core import Core
from labenv.ontap.errors import ApiError, invalid_value
from labenv.ontap.rest.call import Call
from labenv.ontap.rest.collection import Collection
from labenv.ontap.rest.model import (
    SVM_LINK,
    Body,
    Codes,
    Field,
    Later,
    Links,
    Now,
    Parameters,
    svm_fields,
)
from labenv.ontap.rest.values import Kind, show_time

RESTORE = ("restore_to.snapshot.name", "restore_to.snapshot.uuid")


def _members(core: Core, group: r.ConsistencyGroup) -> list[dict[str, Any]]:
    volumes = [core.volumes[uuid] for uuid in group.volumes]
    return [{"name": v.name, "uuid": v.uuid, "space.size": v.size} for v in volumes]


class Groups(Collection):
    """Consistency groups of existing volumes. A volume is in one group at most."""

    path = "/application/consistency-groups"
    methods = ("GET", "POST", "PATCH", "DELETE")
    codes: ClassVar[Codes] = {
        "GET": ("53411843", "262197"),
        "POST": ("2621462", "2621706", "2621707", "53411860", "53411861", "53411864", "53411865"),
        "PATCH": ("262285", "53411843", "53411861", "53411864", "53411865", "53411918"),
        "DELETE": ("53411843",),
    }
    parameters: ClassVar[Parameters] = {"PATCH": tuple(Field(name) for name in RESTORE)}
    links: ClassVar[Links] = SVM_LINK
    fields = (
        Field("uuid", read=lambda core, g: g.uuid),
        Field("name", read=lambda core, g: g.name, create=True),
        *svm_fields(),
        Field("replicated", Kind.BOOLEAN, read=lambda core, g: False),
        Field("space.size", Kind.SIZE, read=lambda core, g: sum(core.volumes[v].size for v in g.volumes)),
        Field(
            "volumes",
            Kind.OBJECTS,
            create=True,
            modify=True,
            read=_members,
            items=(
                Field("name"),
                Field("uuid"),
                Field("space.size", Kind.SIZE),
                Field("provisioning_options.action"),
            ),
        ),
        *(Field(name) for name in RESTORE),
    )

    def __init__(self, core: Core) -> None:
        super().__init__(core)
        for name in RESTORE:
            self.by_name[name] = Field(name, modify=True)

    def records(self, call: Call) -> Iterable[r.ConsistencyGroup]:
        return self.core.groups.values()

    def not_found(self, values: Sequence[str]) -> ApiError:
        return ApiError("53411843", uuid=values[-1], target="uuid")

    def _volumes(self, svm: str, elements: Sequence[Mapping[str, Any]], group: str) -> list[str]:
        core = self.core
        found = []
        for element in elements:
            name, uuid = element.get("name"), element.get("uuid")
            volume = core.volumes.get(uuid) if uuid else core.find_volume(svm, name or "")
            if volume is None or volume.svm != svm:
                raise ApiError("53411861", volume=name or uuid, target="volumes", status=400)
            if element.get("provisioning_options.action") not in ("add", None):
                raise ApiError("53411864", volume=volume.name, target="volumes.provisioning_options.action")
            if element.get("provisioning_options.action") is None:
                raise ApiError("53411864", volume=volume.name, target="volumes.provisioning_options.action")
            for other in core.groups.values():
                if other.uuid != group and volume.uuid in other.volumes:
                    raise ApiError("53411865", volume=volume.name, target="volumes")
            found.append(volume.uuid)
        return found

    def create(self, call: Call, body: Body) -> Later:
        core = self.core
        svm = core.svm(name=body.get("svm.name"), uuid=body.get("svm.uuid"))
        name = body.get("name") or ""
        if not name:
            raise ApiError("2", reason="a name is needed", target="name")
        if any(g.name == name and g.svm == svm.uuid for g in core.groups.values()):
            raise ApiError("53411860", name=name, target="name")
        volumes = self._volumes(svm.uuid, body.get("volumes") or [], "")
        node = next(iter(core.nodes.values())).name
        arguments = {"svm": svm.uuid, "name": name, "volumes": volumes}
        return Later("group.create", arguments, node=node, svm=svm.uuid, name=name)

    def modify(self, call: Call, record: r.ConsistencyGroup, body: Body) -> Later | Now | None:
        core = self.core
        if any(body.get(name) for name in RESTORE):
            wanted, uuid = body.get(RESTORE[0]), body.get(RESTORE[1])
            found = next(
                (
                    s
                    for s in core.group_snapshots.values()
                    if s.group == record.uuid
                    and s.fenced_until is None
                    and wanted in (None, s.name)
                    and uuid in (None, s.uuid)
                ),
                None,
            )
            return Later(
                "group.restore",
                {"group": record.uuid, "snapshot": found.uuid if found else ""},
                node=next(iter(core.nodes.values())).name,
                svm=record.svm,
                locks=tuple(f"revert:{volume}" for volume in record.volumes),
                doomed=None if found else ApiError("53411918", reason="there is no such Snapshot copy"),
            )
        if "volumes" not in body:
            return None
        named = [e for e in body["volumes"] or [] if e.get("provisioning_options.action") == "remove"]
        if named:
            raise ApiError("262285", target="volumes")
        added = self._volumes(record.svm, body["volumes"] or [], record.uuid)

        def apply() -> None:
            merged = dict.fromkeys((*record.volumes, *added))
            core.groups[record.uuid] = dataclasses.replace(record, volumes=tuple(merged))

        return Now("group.modify", apply)

    def remove(self, call: Call, record: r.ConsistencyGroup) -> Later:
        node = next(iter(self.core.nodes.values())).name
        return Later("group.delete", {"group": record.uuid}, node=node, svm=record.svm)


def _group(core: Core, snapshot: r.GroupSnapshot) -> r.ConsistencyGroup:
    return core.groups[snapshot.group]


class GroupSnapshots(Collection):
    """Snapshot copies of one consistency group, made at one instant."""

    path = "/application/consistency-groups/{consistency_group.uuid}/snapshots"
    default = ("consistency_group.uuid", "uuid", "name")
    methods = ("GET", "POST", "PATCH", "DELETE")
    parameters: ClassVar[Parameters] = {
        "POST": (Field("action", choices=("start",)), Field("action_timeout", Kind.INTEGER)),
        "PATCH": (Field("action", choices=("commit",)),),
    }
    codes: ClassVar[Codes] = {
        "GET": ("4", "53411843", "262197"),
        "POST": ("53411842", "53411843", "53411918", "53411921", "1638477", "1638518"),
        "PATCH": ("4", "53411843", "53411918", "53411925", "262179"),
        "DELETE": ("4", "53411843", "53412007", "53412008"),
    }
    links: ClassVar[Links] = {
        **SVM_LINK,
        "consistency_group": "/api/application/consistency-groups/{consistency_group.uuid}",
    }
    fields = (
        Field("consistency_group.uuid", read=lambda core, s: s.group),
        Field("consistency_group.name", read=lambda core, s: _group(core, s).name),
        Field("uuid", read=lambda core, s: s.uuid),
        Field("name", read=lambda core, s: s.name, create=True),
        Field("svm.uuid", read=lambda core, s: _group(core, s).svm),
        Field("svm.name", read=lambda core, s: core.svms[_group(core, s).svm].name),
        Field(
            "consistency_type",
            read=lambda core, s: s.consistency_type,
            create=True,
            choices=("crash", "application"),
        ),
        Field("create_time", Kind.TIME, read=lambda core, s: show_time(s.create_time)),
        Field("comment", read=lambda core, s: s.comment or None, create=True),
        Field("snapmirror_label", read=lambda core, s: s.snapmirror_label or None, create=True),
        Field("is_partial", Kind.BOOLEAN, read=lambda core, s: any(u not in core.snapshots for u in s.snapshots)),
        Field(
            "snapshot_volumes",
            Kind.OBJECTS,
            expensive=True,
            read=lambda core, s: [
                {
                    "volume.uuid": core.snapshots[u].volume,
                    "volume.name": core.volumes[core.snapshots[u].volume].name,
                    "snapshot.uuid": u,
                    "snapshot.name": core.snapshots[u].name,
                }
                for u in s.snapshots
                if u in core.snapshots
            ],
            items=tuple(Field(name) for name in ("volume.uuid", "volume.name", "snapshot.uuid", "snapshot.name")),
        ),
    )

    def records(self, call: Call) -> Iterable[r.GroupSnapshot]:
        return [s for s in self.core.group_snapshots.values() if s.group in self.core.groups]

    def require_parents(self, call: Call, parents: Mapping[str, str]) -> None:
        uuid = parents.get("consistency_group.uuid", "*")
        group = self.core.groups.get(uuid)
        if "*" not in uuid and (group is None or call.svm not in (None, group.svm)):
            raise ApiError("53411843", uuid=uuid, target="consistency_group.uuid")

    def create(self, call: Call, body: Body) -> Later:
        core = self.core
        group = core.groups.get(call.parents["consistency_group.uuid"])
        if group is None:
            raise ApiError("53411842")
        name = body.get("name") or f"snapshot_{core.clock.time:%Y-%m-%d_%H%M%S}"
        snapshots.check_snapshot_name(name)
        arguments = {
            "group": group.uuid,
            "name": name,
            "consistency_type": body.get("consistency_type") or "crash",
            "comment": body.get("comment") or "",
            "snapmirror_label": body.get("snapmirror_label") or "",
        }
        timeout = body.get("action_timeout")
        if timeout is not None and not fence.SHORTEST <= timeout <= fence.LONGEST:
            raise invalid_value(timeout, "action_timeout", f"{fence.SHORTEST}..{fence.LONGEST}")
        if body.get("action") == "start":
            arguments["timeout"] = fence.USUAL if timeout is None else timeout
            return self._job(group, "group.snapshot.start", arguments, name)
        return self._job(group, "group.snapshot.create", arguments, name)

    def _job(self, group: r.ConsistencyGroup, operation: str, arguments: dict[str, Any], name: str = "") -> Later:
        core = self.core
        blocks = (snapshots.blocked(core, core.volumes[volume]) for volume in group.volumes)
        reason = next((error for error in blocks if error is not None), None)
        doomed = None if reason is None else ApiError("53411918", reason=reason.message)
        node = next(iter(core.nodes.values())).name
        return Later(operation, arguments, node=node, svm=group.svm, name=name, doomed=doomed)

    def find(self, call: Call, parents: Mapping[str, str], values: Sequence[str]) -> Any:
        try:
            return super().find(call, parents, values)
        except ApiError as error:
            if error.code == "4" and call.method == "PATCH":  # its fence was lifted when its time was over
                raise ApiError("53411925") from None
            raise

    def modify(self, call: Call, record: r.GroupSnapshot, body: Body) -> Later | None:
        if body.get("action") != "commit":
            return None
        if record.fenced_until is None or self.core.locked(f"commit:{record.uuid}"):
            raise ApiError("53411925")
        group = _group(self.core, record)
        return Later(
            "group.snapshot.commit",
            {"snapshot": record.uuid},
            node=next(iter(self.core.nodes.values())).name,
            svm=group.svm,
            locks=(f"commit:{record.uuid}",),
        )

    def remove(self, call: Call, record: r.GroupSnapshot) -> Later:
        if record.fenced_until is not None:
            node = next(iter(self.core.nodes.values())).name
            return Later(
                "group.snapshot.delete", {"snapshot": record.uuid}, node=node, svm=_group(self.core, record).svm
            )
        return self._job(_group(self.core, record), "group.snapshot.delete", {"snapshot": record.uuid})
