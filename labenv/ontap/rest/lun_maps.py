"""/protocols/san/lun-maps: which initiator group sees which LUN under which number."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

from labenv.ontap import records as r
from labenv.ontap.errors import ApiError, invalid_value
from labenv.ontap.rest.call import Call
from labenv.ontap.rest.collection import Collection
from labenv.ontap.rest.model import (
    SVM_LINK,
    Body,
    Codes,
    Field,
    Links,
    Now,
)
from labenv.ontap.rest.reporting_nodes import nodes_of, usual_nodes
from labenv.ontap.rest.values import Kind


class LunMaps(Collection):
    """LUN maps: which initiator group sees which LUN under which number."""

    path = "/protocols/san/lun-maps"
    keys = ("lun.uuid", "igroup.uuid")
    default = ("lun.uuid", "lun.name", "igroup.uuid", "igroup.name", "svm.uuid", "svm.name")
    methods = ("GET", "POST", "DELETE")
    codes: ClassVar[Codes] = {
        "GET": ("5374852", "5374875", "262197"),
        "POST": (
            "1254193", "1254201", "1254207", "2621462", "2621706", "2621707", "5374053", "5374238",
            "5374581",
            "8", "5374878", "5374901", "5374902",
        ),
        "DELETE": ("5374875", "5374878", "5374922"),
    }  # fmt: skip
    links: ClassVar[Links] = {
        **SVM_LINK,
        "lun": "/api/storage/luns/{lun.uuid}",
        "igroup": "/api/protocols/san/igroups/{igroup.uuid}",
    }
    fields = (
        Field("svm.uuid", read=lambda core, m: core.luns[m.lun].svm, create=True),
        Field("svm.name", read=lambda core, m: core.svms[core.luns[m.lun].svm].name, create=True),
        Field("lun.uuid", read=lambda core, m: m.lun, create=True),
        Field("lun.name", read=lambda core, m: core.lun_name(core.luns[m.lun]), create=True),
        Field("lun.node.name", read=lambda core, m: core.node_of(core.volumes[core.luns[m.lun].volume]).name),
        Field("igroup.uuid", read=lambda core, m: m.igroup, create=True),
        Field("igroup.name", read=lambda core, m: core.igroups[m.igroup].name, create=True),
        Field("igroup.os_type", read=lambda core, m: core.igroups[m.igroup].os_type),
        Field("igroup.protocol", read=lambda core, m: core.igroups[m.igroup].protocol),
        Field(
            "igroup.initiators",
            Kind.TEXTS,
            read=lambda core, m: [i.name for i in core.igroups[m.igroup].initiators] or None,
        ),
        Field("logical_unit_number", Kind.INTEGER, read=lambda core, m: m.number, create=True),
        Field(
            "reporting_nodes",
            Kind.OBJECTS,
            read=lambda core, m: [{"uuid": node.uuid, "name": node.name} for node in nodes_of(core, m)],
            items=(Field("uuid"), Field("name")),
        ),
    )

    def records(self, call: Call) -> Iterable[r.LunMap]:
        return self.core.maps.values()

    def not_found(self, values: Sequence[str]) -> ApiError:
        if values[0] not in self.core.luns:
            return ApiError("5374875", lun=values[0], target="lun.uuid")
        if values[1] not in self.core.igroups:
            return ApiError("5374878", igroup=values[1], target="igroup.uuid")
        return ApiError("5374922")

    def find(self, call: Call, parents: Any, values: Sequence[str]) -> Any:
        try:
            return super().find(call, parents, values)
        except ApiError as error:
            if call.method != "GET":
                raise
            if error.code == "5374878":
                raise ApiError("5374852", igroup=values[1], target="igroup.uuid") from None
            if error.code == "5374922":
                raise ApiError("4", target="igroup.uuid") from None
            raise

    def create(self, call: Call, body: Body) -> Now:
        core = self.core
        svm = core.svm(name=body.get("svm.name"), uuid=body.get("svm.uuid"))
        lun = self._lun(svm, body)
        group = self._igroup(svm, body)
        if core.locked(f"lun-restore:{lun.uuid}"):
            raise ApiError("5374053")
        if f"{lun.uuid}/{group.uuid}" in core.maps:
            raise ApiError("1254207", lun=core.lun_name(lun), igroup=group.name)
        node = core.node_of(core.volumes[lun.volume]).name
        if group.protocol != "fcp" and not any(
            (lif.svm == svm.uuid and lif.home_node == node and "iscsi" in lif.service_policy)
            or (lif.svm == svm.uuid and lif.home_node == node and "blocks" in lif.service_policy)
            for lif in core.lifs.values()
        ):
            raise ApiError("5374581", node=node, svm=svm.name)
        self._require_single(lun, group)
        wanted = body.get("logical_unit_number")
        used = self._used_numbers(group)
        if wanted is not None and wanted in used:
            raise ApiError("8", reason=f"logical unit number {wanted} is taken", target="logical_unit_number")
        if wanted is not None and not 0 <= wanted <= 4095:
            raise invalid_value(wanted, "logical_unit_number", "0..4095")

        def apply() -> r.LunMap:
            number = next(n for n in range(4096) if n not in used) if wanted is None else wanted
            mapping = r.LunMap(lun.uuid, group.uuid, number, usual_nodes(core, lun))
            core.maps[f"{lun.uuid}/{group.uuid}"] = mapping
            return mapping

        return Now("lun_map.create", apply)

    def _lun(self, svm: r.Svm, body: Body) -> r.Lun:
        name, uuid = body.get("lun.name"), body.get("lun.uuid")
        if not name and not uuid:
            raise ApiError("5374901", target="lun")
        if name and "/.snapshot/" in name:
            raise ApiError("5374238", name=name, target="lun.name")
        for lun in self.core.luns.values():
            if lun.svm == svm.uuid and uuid in (None, lun.uuid) and name in (None, self.core.lun_name(lun)):
                return lun
        raise ApiError("1254201", lun=name or uuid, target="lun", status=400)

    def _igroup(self, svm: r.Svm, body: Body) -> r.Igroup:
        name, uuid = body.get("igroup.name"), body.get("igroup.uuid")
        if not name and not uuid:
            raise ApiError("5374902", target="igroup")
        for group in self.core.igroups.values():
            if group.svm == svm.uuid and uuid in (None, group.uuid) and name in (None, group.name):
                return group
        raise ApiError("5374878", igroup=name or uuid, target="igroup", status=400)

    def _sharing(self, group: r.Igroup) -> list[tuple[str, r.Igroup]]:
        """Other groups of the SVM that one of this group's initiators is in too."""
        return [
            (member.name, other)
            for other in self.core.igroups.values()
            if other.svm == group.svm and other.uuid != group.uuid
            for member in group.initiators
            if any(member.name == theirs.name for theirs in other.initiators)
        ]

    def _require_single(self, lun: r.Lun, group: r.Igroup) -> None:
        for initiator, other in self._sharing(group):
            if f"{lun.uuid}/{other.uuid}" in self.core.maps:
                raise ApiError("1254193", initiator=initiator, lun=self.core.lun_name(lun))

    def _used_numbers(self, group: r.Igroup) -> set[int]:
        groups = {group.uuid, *(other.uuid for _, other in self._sharing(group))}
        return {m.number for m in self.core.maps.values() if m.igroup in groups}

    def remove(self, call: Call, record: r.LunMap) -> Now:
        def apply() -> None:
            core = self.core
            del core.maps[f"{record.lun}/{record.igroup}"]
            group = core.igroups[record.igroup]
            if group.delete_on_unmap and all(m.igroup != group.uuid for m in core.maps.values()):
                del core.igroups[group.uuid]

        return Now("lun_map.delete", apply)
