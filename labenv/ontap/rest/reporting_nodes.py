"""/protocols/san/lun-maps/{lun.uuid}/{igroup.uuid}/reporting-nodes: which nodes' interfaces show a mapped LUN."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from labenv.ontap import records as r
from labenv.ontap.core import Core
from labenv.ontap.errors import ApiError
from labenv.ontap.rest.call import Call
from labenv.ontap.rest.collection import Collection
from labenv.ontap.rest.model import Body, Codes, Field, Links, Now


def usual_nodes(core: Core, lun: r.Lun) -> tuple[str, ...]:
    """Nodes (uuids) that report a LUN after it is mapped: the one with its aggregate, and that one's HA partner."""
    home = core.node(core.aggregates[core.volumes[lun.volume].aggregate].node)
    partner = core.partner(home)
    return (home.uuid,) if partner is None else (home.uuid, partner.uuid)


def nodes_of(core: Core, mapping: r.LunMap) -> list[r.Node]:
    """The reporting nodes of a map."""
    uuids = mapping.reporting_nodes or usual_nodes(core, core.luns[mapping.lun])
    return [core.nodes[uuid] for uuid in uuids if uuid in core.nodes]


@dataclass(frozen=True)
class Reporting:
    """A node that reports a mapped LUN."""

    mapping: r.LunMap
    node: r.Node


class ReportingNodes(Collection):
    """Reporting nodes of one LUN map (selective LUN map)."""

    path = "/protocols/san/lun-maps/{lun.uuid}/{igroup.uuid}/reporting-nodes"
    default = ("lun.uuid", "igroup.uuid", "uuid", "name")
    methods = ("GET", "POST", "DELETE")
    codes: ClassVar[Codes] = {
        "GET": ("4", "5374875", "5374878", "5374922", "262197"),
        "POST": ("5374875", "5374878", "5374920", "5374921", "5374922", "5374923"),
        "DELETE": ("4", "5374608", "5374875", "5374878", "5374922"),
    }
    links: ClassVar[Links] = {"node": "/api/cluster/nodes/{uuid}"}
    fields = (
        Field("lun.uuid", read=lambda core, x: x.mapping.lun),
        Field("igroup.uuid", read=lambda core, x: x.mapping.igroup),
        Field("uuid", read=lambda core, x: x.node.uuid, create=True),
        Field("name", read=lambda core, x: x.node.name, create=True),
    )

    def records(self, call: Call) -> Iterable[Reporting]:
        for mapping in self.core.maps.values():
            if call.svm in (None, self.core.luns[mapping.lun].svm):
                for node in nodes_of(self.core, mapping):
                    yield Reporting(mapping, node)

    def require_parents(self, call: Call, parents: Mapping[str, str]) -> None:
        lun, group = parents["lun.uuid"], parents["igroup.uuid"]
        if "*" in (lun, group):
            return
        known = self.core.luns.get(lun)
        if known is None or call.svm not in (None, known.svm):
            raise ApiError("5374875", lun=lun, target="lun.uuid")
        if group not in self.core.igroups:
            raise ApiError("5374878", igroup=group, target="igroup.uuid")
        if f"{lun}/{group}" not in self.core.maps:
            raise ApiError("5374922", target="igroup.uuid")

    def _map(self, call: Call) -> r.LunMap:
        key = f"{call.parents['lun.uuid']}/{call.parents['igroup.uuid']}"
        if key not in self.core.maps:
            raise ApiError("5374922", target="lun.uuid")
        return self.core.maps[key]

    def _change(self, mapping: r.LunMap, nodes: Iterable[r.Node]) -> r.LunMap:
        changed = dataclasses.replace(mapping, reporting_nodes=tuple(node.uuid for node in nodes))
        self.core.maps[f"{mapping.lun}/{mapping.igroup}"] = changed
        return changed

    def create(self, call: Call, body: Body) -> Now:
        name, uuid = body.get("name"), body.get("uuid")
        if not name and not uuid:
            raise ApiError("5374923", target="uuid")
        nodes = [n for n in self.core.nodes.values() if (n.uuid == uuid if uuid else n.name == name)]
        if not nodes:
            raise ApiError("5374920", node=uuid or name, target="uuid", status=400)
        if name and nodes[0].name != name:
            raise ApiError("5374921", target="uuid")
        mapping = self._map(call)

        def apply() -> Reporting:
            present = nodes_of(self.core, mapping)
            return Reporting(self._change(mapping, present if nodes[0] in present else [*present, nodes[0]]), nodes[0])

        return Now("lun_map.reporting_node.create", apply)

    def remove(self, call: Call, record: Reporting) -> Now:
        rest = [node for node in nodes_of(self.core, record.mapping) if node != record.node]
        if not rest:
            raise ApiError("5374608")

        def apply() -> None:
            self._change(record.mapping, rest)

        return Now("lun_map.reporting_node.delete", apply)
