"""/protocols/san/portsets: through which interfaces an initiator group sees its LUNs."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from labenv.ontap import records as r
from labenv.ontap.core import Core
from labenv.ontap.errors import ApiError
from labenv.ontap.rest.call import Call
from labenv.ontap.rest.collection import Collection
from labenv.ontap.rest.model import SVM_LINK, Body, Codes, Field, Links, Now, svm_fields
from labenv.ontap.rest.values import Kind

_NAME = re.compile(r"^[A-Za-z0-9._:\-]{1,96}$")


def find_interface(core: Core, svm: str, body: Mapping[str, Any], prefix: str = "") -> r.Lif:
    """The iSCSI interface that ``uuid``, ``ip.uuid`` or ``ip.name`` names.

    Raises:
        ApiError: 5374906, 5374907, 5374910 or 5374914.
    """
    uuid = body.get(f"{prefix}uuid") or body.get(f"{prefix}ip.uuid")
    name = body.get(f"{prefix}ip.name") or body.get(f"{prefix}name")
    if not uuid and not name:
        raise ApiError("5374910", target="interfaces")
    for lif in core.lifs.values():
        if lif.svm == svm and (lif.uuid == uuid if uuid else lif.name == name):
            if name and lif.name != name:
                raise ApiError("5374907", target="interfaces")
            if "iscsi" not in lif.service_policy and "blocks" not in lif.service_policy:
                raise ApiError("5374914", name=lif.name, target="interfaces")
            return lif
    raise ApiError("5374906", name=name or uuid, target="interfaces", status=400)


def _interfaces(core: Core, portset: r.Portset) -> list[dict[str, Any]] | None:
    lifs = [core.lifs[uuid] for uuid in portset.interfaces if uuid in core.lifs]
    return [
        {"uuid": lif.uuid, "ip.uuid": lif.uuid, "ip.name": lif.name, "ip.ip.address": lif.address} for lif in lifs
    ] or None


def _bound(core: Core, portset: r.Portset) -> list[r.Igroup]:
    return [group for group in core.igroups.values() if group.portset == portset.uuid]


class Portsets(Collection):
    """Portsets."""

    path = "/protocols/san/portsets"
    methods = ("GET", "POST", "DELETE")
    codes: ClassVar[Codes] = {
        "GET": ("4", "262197"),
        "POST": (
            "1254259", "2621462", "2621706", "2621707", "5373958", "5374906", "5374907", "5374910", "5374914",
            "5374915",
        ),
        "DELETE": ("5374063", "5374908"),
    }  # fmt: skip
    links: ClassVar[Links] = SVM_LINK
    fields = (
        Field("uuid", read=lambda core, p: p.uuid),
        Field("name", read=lambda core, p: p.name, create=True),
        Field("protocol", read=lambda core, p: p.protocol, create=True, choices=("iscsi", "fcp", "mixed")),
        *svm_fields(),
        Field(
            "interfaces",
            Kind.OBJECTS,
            read=_interfaces,
            create=True,
            items=(
                Field("uuid"),
                Field("ip.uuid"),
                Field("ip.name"),
                Field("ip.ip.address"),
                Field("fc.name"),
                Field("fc.uuid"),
            ),
        ),
        Field(
            "igroups",
            Kind.OBJECTS,
            read=lambda core, p: [{"uuid": g.uuid, "name": g.name} for g in _bound(core, p)] or None,
            items=(Field("uuid"), Field("name")),
        ),
    )

    def records(self, call: Call) -> Iterable[r.Portset]:
        return self.core.portsets.values()

    def not_found(self, values: Sequence[str]) -> ApiError:
        return ApiError("4", target="uuid")

    def find(self, call: Call, parents: Mapping[str, str], values: Sequence[str]) -> Any:
        try:
            return super().find(call, parents, values)
        except ApiError as error:
            if error.code == "4" and call.method == "DELETE":
                raise ApiError("5374908", target="uuid") from None
            raise

    def create(self, call: Call, body: Body) -> Now:
        core = self.core
        svm = core.svm(name=body.get("svm.name"), uuid=body.get("svm.uuid"))
        name = body.get("name") or ""
        if not _NAME.match(name):
            raise ApiError("5373958", name=name, target="name")
        if any(p.svm == svm.uuid and p.name == name for p in core.portsets.values()):
            raise ApiError("1254259", name=name, target="name")
        lifs = [find_interface(core, svm.uuid, element).uuid for element in body.get("interfaces") or []]
        if len(set(lifs)) < len(lifs):
            raise ApiError("5374915", target="interfaces")
        protocol = body.get("protocol") or "mixed"

        def apply() -> r.Portset:
            uuid = core.new_uuid("portset", svm.name, name)
            portset = r.Portset(uuid, name, svm.uuid, protocol, tuple(lifs))
            core.portsets[uuid] = portset
            return portset

        return Now("portset.create", apply)

    def remove(self, call: Call, record: r.Portset) -> Now:
        if _bound(self.core, record):
            raise ApiError("5374063", name=record.name)

        def apply() -> None:
            del self.core.portsets[record.uuid]

        return Now("portset.delete", apply)


@dataclass(frozen=True)
class Member:
    """An interface with the portset that it is in."""

    portset: str
    lif: r.Lif


class PortsetInterfaces(Collection):
    """Interfaces of one portset."""

    path = "/protocols/san/portsets/{portset.uuid}/interfaces"
    default = ("portset.uuid", "uuid")
    methods = ("GET", "POST", "DELETE")
    codes: ClassVar[Codes] = {
        "GET": ("4", "5374908", "262197"),
        "POST": ("5374906", "5374907", "5374908", "5374910", "5374914", "5374915"),
        "DELETE": ("5374908", "5374916"),
    }
    fields = (
        Field("portset.uuid", read=lambda core, m: m.portset),
        Field("uuid", read=lambda core, m: m.lif.uuid, create=True),
        Field("ip.uuid", read=lambda core, m: m.lif.uuid, create=True),
        Field("ip.name", read=lambda core, m: m.lif.name, create=True),
        Field("ip.ip.address", read=lambda core, m: m.lif.address),
    )

    def records(self, call: Call) -> Iterable[Member]:
        for portset in self.core.portsets.values():
            if call.svm in (None, portset.svm):
                for uuid in portset.interfaces:
                    if uuid in self.core.lifs:
                        yield Member(portset.uuid, self.core.lifs[uuid])

    def require_parents(self, call: Call, parents: Mapping[str, str]) -> None:
        uuid = parents.get("portset.uuid", "*")
        portset = self.core.portsets.get(uuid)
        if uuid != "*" and (portset is None or call.svm not in (None, portset.svm)):
            raise ApiError("5374908", target="portset.uuid")

    def find(self, call: Call, parents: Mapping[str, str], values: Sequence[str]) -> Any:
        try:
            return super().find(call, parents, values)
        except ApiError as error:
            if error.code == "4" and call.method == "DELETE":
                raise ApiError("5374916", target="uuid") from None
            raise

    def _change(self, uuid: str, interfaces: Iterable[str]) -> None:
        portset = self.core.portsets[uuid]
        self.core.portsets[uuid] = dataclasses.replace(portset, interfaces=tuple(interfaces))

    def create(self, call: Call, body: Body) -> Now:
        portset = self.core.portsets.get(call.parents["portset.uuid"])
        if portset is None:  # "*" stands for none in particular
            raise ApiError("5374908", target="portset.uuid")
        lif = find_interface(self.core, portset.svm, body)
        if lif.uuid in portset.interfaces:
            raise ApiError("5374915", target="uuid")

        def apply() -> Member:
            self._change(portset.uuid, (*self.core.portsets[portset.uuid].interfaces, lif.uuid))
            return Member(portset.uuid, lif)

        return Now("portset.interface.create", apply)

    def remove(self, call: Call, record: Member) -> Now:
        def apply() -> None:
            rest = [uuid for uuid in self.core.portsets[record.portset].interfaces if uuid != record.lif.uuid]
            self._change(record.portset, rest)

        return Now("portset.interface.delete", apply)
