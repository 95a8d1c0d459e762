"""/svm/svms, /network/ip/interfaces, /storage/aggregates."""

from __future__ import annotations

import dataclasses
import ipaddress
from collections.abc import Iterable, MutableMapping
from typing import Any, ClassVar

from labenv.devices import OutOfSpace
from labenv.ontap import records as r
from labenv.ontap import setup
from labenv.ontap.core import Core
from labenv.ontap.errors import ApiError, invalid_value
from labenv.ontap.rest.call import Call
from labenv.ontap.rest.collection import Collection
from labenv.ontap.rest.model import (
    SVM_LINK,
    Access,
    Body,
    Codes,
    Field,
    Links,
    Now,
    svm_fields,
)
from labenv.ontap.rest.values import Kind, show_time


def node_uuid(core: Core, name: str) -> str:
    """A node's uuid by its name."""
    return core.node(name).uuid


class Aggregates(Collection):
    """Aggregates (local tiers)."""

    path = "/storage/aggregates"
    access = Access.CLUSTER
    methods = ("GET", "POST", "DELETE")
    codes: ClassVar[Codes] = {
        "GET": ("4", "262197"),
        "POST": ("19726341", "786439", "786446", "262179", "262197"),
        "DELETE": ("786497", "786771"),
    }
    links: ClassVar[Links] = {
        "node": "/api/cluster/nodes/{node.uuid}",
        "home_node": "/api/cluster/nodes/{home_node.uuid}",
    }
    fields = (
        Field("uuid", read=lambda core, a: a.uuid),
        Field("name", read=lambda core, a: a.name, create=True),
        Field("state", read=lambda core, a: "online"),
        Field("node.name", read=lambda core, a: core.serving_node(a).name, create=True),
        Field("node.uuid", read=lambda core, a: core.serving_node(a).uuid, create=True),
        Field("home_node.name", read=lambda core, a: a.node),
        Field("home_node.uuid", read=lambda core, a: node_uuid(core, a.node)),
        Field("create_time", Kind.TIME, read=lambda core, a: show_time(a.create_time)),
        Field("block_storage.primary.disk_count", Kind.INTEGER, create=True),
        Field("block_storage.storage_type", read=lambda core, a: "hdd"),
        Field("space.block_storage.size", Kind.SIZE, read=lambda core, a: core.blocks.aggregate(a.uuid).size),
        Field("space.block_storage.used", Kind.SIZE, read=lambda core, a: core.blocks.aggregate(a.uuid).used),
        Field("space.block_storage.available", Kind.SIZE, read=lambda core, a: available(core, a)),
        Field("space.block_storage.used_percent", Kind.INTEGER, read=lambda core, a: used_percent(core, a)),
        Field("space.footprint", Kind.SIZE, read=lambda core, a: core.blocks.aggregate(a.uuid).used),
    )

    def records(self, call: Call) -> Iterable[r.Aggregate]:
        return self.core.aggregates.values()

    def create(self, call: Call, body: Body) -> Now:
        """A lab aggregate is made of 1 GiB disks, as many as ``disk_count`` says (default 1)."""
        core = self.core
        name = body.get("name") or ""
        if not name:
            raise ApiError("2", reason="a name is needed", target="name")
        if any(a.name == name for a in core.aggregates.values()):
            raise ApiError("786439", name=name, target="name")
        node = body.get("node.name") or next(iter(core.nodes.values())).name
        if not any(n.name == node for n in core.nodes.values()):
            raise ApiError("786446", node=node, target="node.name")
        size = (body.get("block_storage.primary.disk_count") or 1) << 30

        def apply() -> r.Aggregate:
            try:
                return setup.create_aggregate(core, name, node, size)
            except OutOfSpace as error:
                raise ApiError("19726341", reason=str(error)) from None

        return Now("aggregate.create", apply)

    def remove(self, call: Call, record: r.Aggregate) -> Now:
        if volumes_on(self.core, record):
            raise ApiError("786497", name=record.name)

        def apply() -> None:
            self.core.blocks.delete_aggregate(record.uuid)
            del self.core.aggregates[record.uuid]

        return Now("aggregate.delete", apply)


def volumes_on(core: Core, aggregate: r.Aggregate) -> list[r.Volume]:
    """Volumes of an aggregate."""
    return [volume for volume in core.volumes.values() if volume.aggregate == aggregate.uuid]


def available(core: Core, aggregate: r.Aggregate) -> int:
    """Free bytes."""
    usage = core.blocks.aggregate(aggregate.uuid)
    return max(0, usage.size - usage.used)


def used_percent(core: Core, aggregate: r.Aggregate) -> int:
    """Whole percent in use."""
    usage = core.blocks.aggregate(aggregate.uuid)
    return round(100 * usage.used / usage.size) if usage.size else 0


class Svms(Collection):
    """Storage virtual machines (Vservers)."""

    path = "/svm/svms"
    access = Access.READ
    methods = ("GET", "POST", "PATCH", "DELETE")
    svm_field = "uuid"
    codes: ClassVar[Codes] = {
        "GET": ("4", "262197"),
        "POST": ("13434908", "1115127", "262179"),
        "PATCH": ("13434908", "262197"),
        "DELETE": ("8",),
    }
    links: ClassVar[Links] = {"aggregates": "/api/storage/aggregates/{uuid}"}
    fields = (
        Field("uuid", read=lambda core, s: s.uuid),
        Field("name", read=lambda core, s: s.name, create=True, modify=True),
        Field("state", read=lambda core, s: s.state, modify=True, choices=("running", "stopped")),
        Field("subtype", read=lambda core, s: "default"),
        Field("language", read=lambda core, s: "c.utf_8"),
        Field("comment", read=lambda core, s: s.comment or None, create=True, modify=True),
        Field("ipspace.name", read=lambda core, s: "Default"),
        Field("snapshot_policy.name", read=lambda core, s: "default"),
        Field("iscsi.enabled", Kind.BOOLEAN, read=lambda core, s: s.iscsi_enabled, create=True),
        Field("iscsi.allowed", Kind.BOOLEAN, read=lambda core, s: "iscsi" in core.licences, create=True),
        Field("fcp.enabled", Kind.BOOLEAN, read=lambda core, s: False),
        Field("nfs.enabled", Kind.BOOLEAN, read=lambda core, s: False),
        Field("cifs.enabled", Kind.BOOLEAN, read=lambda core, s: False),
        Field("aggregates_delegated", Kind.BOOLEAN, read=lambda core, s: bool(s.aggregates)),
        Field(
            "aggregates",
            Kind.OBJECTS,
            create=True,
            modify=True,
            read=lambda core, s: [
                {"name": core.aggregates[a].name, "uuid": a} for a in s.aggregates if a in core.aggregates
            ],
            items=(Field("name"), Field("uuid")),
        ),
        Field(
            "ip_interfaces",
            Kind.OBJECTS,
            read=lambda core, s: [
                {"name": lif.name, "uuid": lif.uuid, "ip.address": lif.address}
                for lif in core.lifs.values()
                if lif.svm == s.uuid
            ],
            items=(Field("name"), Field("uuid"), Field("ip.address")),
        ),
    )

    def records(self, call: Call) -> Iterable[r.Svm]:
        return self.core.svms.values()

    def _aggregates(self, body: Body) -> tuple[str, ...]:
        found = []
        for element in body.get("aggregates") or []:
            for aggregate in self.core.aggregates.values():
                if element.get("uuid") in (None, aggregate.uuid) and element.get("name") in (None, aggregate.name):
                    found.append(aggregate.uuid)
                    break
            else:
                raise invalid_value(element.get("name") or element.get("uuid"), "aggregates", "aggregate")
        return tuple(found)

    def create(self, call: Call, body: Body) -> Now:
        name = body.get("name") or ""
        if not name:
            raise ApiError("2", reason="a name is needed", target="name")
        if name == self.core.identity["name"] or any(s.name == name for s in self.core.svms.values()):
            raise ApiError("13434908", name=name, target="name")
        iscsi = bool(body.get("iscsi.enabled"))
        if iscsi and "iscsi" not in self.core.licences:
            raise ApiError("1115127")
        aggregates = self._aggregates(body)
        comment = body.get("comment") or ""
        return Now(
            "svm.create",
            lambda: setup.create_svm(self.core, name, iscsi=iscsi, aggregates=aggregates, comment=comment),
        )

    def modify(self, call: Call, record: r.Svm, body: Body) -> Now:
        name = body.get("name", record.name)
        if any(s.name == name and s.uuid != record.uuid for s in self.core.svms.values()):
            raise ApiError("13434908", name=name, target="name")
        values: dict[str, Any] = {k: v for k, v in body.items() if k in ("name", "state", "comment")}
        if "aggregates" in body:
            values["aggregates"] = self._aggregates(body)

        def apply() -> None:
            self.core.svms[record.uuid] = dataclasses.replace(record, **values)
            self.core.topology += 1

        return Now("svm.modify", apply)

    def remove(self, call: Call, record: r.Svm) -> Now:
        volumes = [v for v in self.core.volumes.values() if v.svm == record.uuid]
        if any(not v.is_svm_root for v in volumes):
            raise ApiError("8", reason="the SVM has data volumes")
        if any(p.svm == record.uuid for p in self.core.replication.svm_peers.values()):
            raise ApiError("8", reason="the SVM is peered with others")

        def apply() -> None:
            core = self.core
            for volume in volumes:
                core.blocks.delete_volume(volume.uuid)
                del core.volumes[volume.uuid]
            for key in [k for k, lif in core.lifs.items() if lif.svm == record.uuid]:
                del core.lifs[key]
            own: tuple[MutableMapping[str, Any], ...] = (
                core.igroups, core.portsets, core.users, core.authorities, core.policies, core.groups,
                core.replication.policies,
            )  # fmt: skip
            for table in own:
                for key in [k for k, entry in table.items() if entry.svm == record.uuid]:
                    del table[key]
            del core.svms[record.uuid]

        return Now("svm.delete", apply)


class Interfaces(Collection):
    """Logical interfaces (LIFs). iSCSI ones do not follow a takeover: they go down with their node."""

    path = "/network/ip/interfaces"
    methods = ("GET", "POST", "PATCH", "DELETE")
    codes: ClassVar[Codes] = {
        "GET": ("4", "262197"),
        "POST": ("1376963", "1966140", "1966269", "1967111", "1967127", "1967146", "1967153", "1967398", "53281065"),
        "PATCH": ("1376963", "1966269", "262197"),
        "DELETE": (),
    }
    links: ClassVar[Links] = SVM_LINK
    fields = (
        Field("uuid", read=lambda core, i: i.uuid),
        Field("name", read=lambda core, i: i.name, create=True, modify=True),
        Field("ip.address", read=lambda core, i: i.address, create=True, modify=True),
        Field("ip.netmask", read=lambda core, i: str(i.netmask), create=True, modify=True),
        Field("ip.family", read=lambda core, i: "ipv4"),
        Field("enabled", Kind.BOOLEAN, read=lambda core, i: i.enabled, create=True, modify=True),
        Field("state", read=lambda core, i: "up" if lif_up(core, i) else "down"),
        Field("scope", read=lambda core, i: "cluster" if i.svm is None else "svm", create=True),
        Field("ipspace.name", read=lambda core, i: "Default", create=True),
        Field("service_policy.name", read=lambda core, i: i.service_policy, create=True, modify=True),
        Field("services", Kind.TEXTS, read=lambda core, i: list(setup.SERVICES.get(i.service_policy, ()))),
        Field("location.home_node.name", read=lambda core, i: i.home_node, create=True),
        Field("location.home_node.uuid", read=lambda core, i: node_uuid(core, i.home_node)),
        Field("location.home_port.name", read=lambda core, i: i.port, create=True),
        Field("location.home_port.node.name", read=lambda core, i: i.home_node, create=True),
        Field("location.broadcast_domain.name", create=True),
        Field("location.node.name", read=lambda core, i: i.node),
        Field("location.node.uuid", read=lambda core, i: node_uuid(core, i.node)),
        Field("location.port.name", read=lambda core, i: i.port),
        Field("location.is_home", Kind.BOOLEAN, read=lambda core, i: i.node == i.home_node),
        Field("vip", Kind.BOOLEAN, read=lambda core, i: False),
        *svm_fields(),
    )

    def records(self, call: Call) -> Iterable[r.Lif]:
        return self.core.lifs.values()

    def visible(self, call: Call) -> list[Any]:
        return [lif for lif in self.records(call) if call.svm is None or lif.svm == call.svm]

    def create(self, call: Call, body: Body) -> Now:
        core = self.core
        svm = None
        if body.get("svm.name") or body.get("svm.uuid"):
            try:
                svm = core.svm(name=body.get("svm.name"), uuid=body.get("svm.uuid"))
            except ApiError:
                raise ApiError("1967146", svm=body.get("svm.name"), target="svm.name", status=400) from None
        elif body.get("scope") == "svm":
            raise ApiError("1967127", target="svm")
        address, netmask = body.get("ip.address"), body.get("ip.netmask")
        if not address or not netmask:
            raise ApiError("1967398", target="ip")
        prefix = prefix_length(netmask)
        self._require_free(address)
        name = body.get("name") or f"lif_{address.replace('.', '_')}"
        owner = None if svm is None else svm.uuid
        if any(lif.name == name and lif.svm == owner for lif in core.lifs.values()):
            raise ApiError("1966140", name=name, target="name")
        node = body.get("location.home_node.name") or body.get("location.home_port.node.name")
        if not node and body.get("location.broadcast_domain.name"):
            node = next(iter(core.nodes.values())).name
        if not node:
            raise ApiError("1967111", target="location.home_node")
        if not any(n.name == node for n in core.nodes.values()):
            raise ApiError("1967153", node=node, target="location.home_node.name")
        default = "default-management" if svm is None else "default-data-iscsi"
        policy = setup.POLICY_ALIASES.get(body.get("service_policy.name") or default, body.get("service_policy.name"))
        policy = policy or default
        if policy not in setup.SERVICES:
            raise ApiError("53281065", policy=policy, target="service_policy.name")
        enabled = body.get("enabled") is not False

        def apply() -> r.Lif:
            uuid = core.new_uuid("lif", svm.name if svm else "", name)
            port = body.get("location.home_port.name") or "e0c"
            lif = r.Lif(uuid, name, address, prefix, node, node, port, policy, owner, enabled)
            core.lifs[uuid] = lif
            return lif

        return Now("interface.create", apply)

    def _require_free(self, address: str) -> None:
        try:
            ipaddress.ip_address(address)
        except ValueError:
            raise invalid_value(address, "ip.address", "IPv4 address") from None
        for lif in self.core.lifs.values():
            if lif.address == address:
                raise ApiError("1376963", address=address, name=lif.name, target="ip.address")

    def modify(self, call: Call, record: r.Lif, body: Body) -> Now:
        values: dict[str, Any] = {}
        if body.get("ip.address", record.address) != record.address:
            self._require_free(body["ip.address"])
            values["address"] = body["ip.address"]
        if "ip.netmask" in body:
            values["netmask"] = prefix_length(body["ip.netmask"])
        if "name" in body:
            values["name"] = body["name"]
        if "enabled" in body:
            values["enabled"] = body["enabled"]
        if "service_policy.name" in body:
            values["service_policy"] = body["service_policy.name"]

        def apply() -> None:
            self.core.lifs[record.uuid] = dataclasses.replace(record, **values)

        return Now("interface.modify", apply)

    def remove(self, call: Call, record: r.Lif) -> Now:
        def apply() -> None:
            del self.core.lifs[record.uuid]

        return Now("interface.delete", apply)


def prefix_length(netmask: str) -> int:
    """Length of a prefix that is given as length or as dotted mask; raises 1966269."""
    try:
        return ipaddress.ip_network(f"0.0.0.0/{netmask}").prefixlen or _refuse(netmask)
    except ValueError:
        return _refuse(netmask)


def _refuse(netmask: str) -> int:
    raise ApiError("1966269", netmask=netmask, target="ip.netmask")


def lif_up(core: Core, lif: r.Lif) -> bool:
    """Whether a LIF answers: enabled, its cluster under power, its node up, its SVM running."""
    running = lif.svm is None or core.svms[lif.svm].state == "running"
    running = running and not core.interconnect.is_down(core.spec.name)
    return lif.enabled and running and core.node(lif.node).state == "up"
