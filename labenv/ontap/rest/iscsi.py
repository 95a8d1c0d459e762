"""/protocols/san/iscsi/services, /protocols/san/igroups and their initiators."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from labenv.ontap import records as r
from labenv.ontap import setup
from labenv.ontap.core import Core
from labenv.ontap.errors import ApiError
from labenv.ontap.rest.call import Call
from labenv.ontap.rest.collection import Collection
from labenv.ontap.rest.model import (
    SVM_LINK,
    Body,
    Codes,
    Field,
    Links,
    Now,
    Parameters,
    svm_fields,
)
from labenv.ontap.rest.values import Kind

_IQN = re.compile(r"^iqn\.\d{4}-\d{2}\.[a-z0-9.\-]+(:[\x21-\x7e]+)?$", re.IGNORECASE)
_EUI = re.compile(r"^eui\.[0-9a-f]{16}$", re.IGNORECASE)
_WWPN = re.compile(r"^([0-9a-f]{2}:){7}[0-9a-f]{2}$", re.IGNORECASE)
_NAME = re.compile(r"^[A-Za-z0-9._:\-]{1,96}$")

OS_TYPES = ("aix", "hpux", "hyper_v", "linux", "netware", "openvms", "solaris", "vmware", "windows", "xen")


class IscsiServices(Collection):
    """iSCSI target services, one per SVM."""

    path = "/protocols/san/iscsi/services"
    keys = ("svm.uuid",)
    default = ("svm.uuid", "svm.name")
    methods = ("GET", "POST", "PATCH", "DELETE")
    codes: ClassVar[Codes] = {
        "GET": ("5374078", "262197"),
        "POST": ("1115127", "2621462", "2621706", "2621707", "5374077"),
        "PATCH": ("5374078",),
        "DELETE": ("5374078", "5373960"),
    }
    links: ClassVar[Links] = SVM_LINK
    fields = (
        Field("svm.uuid", read=lambda core, s: s.uuid, create=True),
        Field("svm.name", read=lambda core, s: s.name, create=True),
        Field("enabled", Kind.BOOLEAN, read=lambda core, s: s.iscsi_enabled, create=True, modify=True),
        Field("target.name", read=lambda core, s: s.target),
        Field("target.alias", read=lambda core, s: s.target_alias, create=True, modify=True),
    )

    def records(self, call: Call) -> Iterable[r.Svm]:
        return [svm for svm in self.core.svms.values() if svm.target]

    def not_found(self, values: Sequence[str]) -> ApiError:
        return ApiError("5374078", target="svm.uuid")

    def create(self, call: Call, body: Body) -> Now:
        core = self.core
        svm = core.svm(name=body.get("svm.name"), uuid=body.get("svm.uuid"))
        if "iscsi" not in core.licences:
            raise ApiError("1115127")
        if svm.target:
            raise ApiError("5374077", svm=svm.name)

        def apply() -> r.Svm:
            changed = dataclasses.replace(
                svm,
                iscsi_enabled=body.get("enabled") is not False,
                target=setup.target_name(core, svm.name, svm.number),
                target_alias=body.get("target.alias") or svm.name,
            )
            core.svms[svm.uuid] = changed
            return changed

        return Now("iscsi.create", apply)

    def modify(self, call: Call, record: r.Svm, body: Body) -> Now:
        values: dict[str, Any] = {}
        if body.get("enabled") is not None:
            values["iscsi_enabled"] = body["enabled"]
        if body.get("target.alias"):
            values["target_alias"] = body["target.alias"]

        def apply() -> None:
            self.core.svms[record.uuid] = dataclasses.replace(record, **values)

        return Now("iscsi.modify", apply)

    def remove(self, call: Call, record: r.Svm) -> Now:
        if record.iscsi_enabled:
            raise ApiError("5373960")

        def apply() -> None:
            self.core.svms[record.uuid] = dataclasses.replace(record, target="", target_alias="")

        return Now("iscsi.delete", apply)


def check_initiator(name: str) -> None:
    """Raise 5374039 or 5374038 for what is neither an IQN, an EUI nor a WWPN."""
    if _IQN.match(name) or _EUI.match(name) or _WWPN.match(name):
        return
    raise ApiError("5374038" if ":" in name and "iqn" not in name.lower() else "5374039", initiator=name,
                   target="initiators.name")  # fmt: skip


def require_same_os(core: Core, group: r.Igroup, initiator: str, code: str) -> None:
    """Raise if another group of the SVM has an initiator under another operating system type."""
    for other in core.igroups.values():
        conflicts = other.svm == group.svm and other.uuid != group.uuid and other.os_type != group.os_type
        if conflicts and any(member.name == initiator for member in other.initiators):
            raise ApiError(code, initiator=initiator, igroup=other.name, target="initiators.name")


def require_single_path(core: Core, group: r.Igroup, initiator: str) -> None:
    """Raise 1254193 or 1254324 if a new member would see a LUN, or a number, of this group a second time."""
    mine = [m for m in core.maps.values() if m.igroup == group.uuid]
    for other in core.igroups.values():
        if other.uuid == group.uuid or all(member.name != initiator for member in other.initiators):
            continue
        for theirs in (m for m in core.maps.values() if m.igroup == other.uuid):
            for mapping in mine:
                if mapping.lun == theirs.lun:
                    raise ApiError("1254193", initiator=initiator, lun=core.lun_name(core.luns[mapping.lun]))
                if mapping.number == theirs.number and other.svm == group.svm:
                    raise ApiError("1254324", initiator=initiator, number=mapping.number)


class Igroups(Collection):
    """Initiator groups."""

    path = "/protocols/san/igroups"
    methods = ("GET", "POST", "PATCH", "DELETE")
    codes: ClassVar[Codes] = {
        "GET": ("5374852", "262197"),
        "POST": (
            "2621462",
            "2621706",
            "2621707",
            "5373958",
            "5374023",
            "5374038",
            "5374039",
            "5374732",
            "5374027",
            "5374028",
            "5374911",
        ),
        "PATCH": ("5373958", "5374023", "5374733", "5374852", "5374911", "1254264", "5374027", "5374028"),
        "DELETE": ("1254213", "5374852"),
    }
    parameters: ClassVar[Parameters] = {"DELETE": (Field("allow_delete_while_mapped", Kind.BOOLEAN),)}
    links: ClassVar[Links] = {**SVM_LINK, "initiators": "/api/protocols/san/igroups/{igroup}/initiators/{name}"}
    fields = (
        Field("uuid", read=lambda core, g: g.uuid),
        Field("name", read=lambda core, g: g.name, create=True, modify=True),
        Field("os_type", read=lambda core, g: g.os_type, create=True, modify=True, choices=OS_TYPES),
        Field("protocol", read=lambda core, g: g.protocol, create=True, choices=("fcp", "iscsi", "mixed")),
        Field("comment", read=lambda core, g: g.comment or None, create=True, modify=True),
        Field("delete_on_unmap", Kind.BOOLEAN, read=lambda core, g: g.delete_on_unmap, create=True, modify=True),
        Field("portset.uuid", read=lambda core, g: g.portset, create=True, modify=True),
        Field(
            "portset.name",
            read=lambda core, g: core.portsets[g.portset].name if g.portset in core.portsets else None,
            create=True,
            modify=True,
        ),
        *svm_fields(),
        Field(
            "initiators",
            Kind.OBJECTS,
            create=True,
            read=lambda core, g: (
                [{"name": i.name, "comment": i.comment or None, "igroup": g.uuid} for i in g.initiators] or None
            ),
            items=(Field("name"), Field("comment")),
        ),
        Field(
            "lun_maps",
            Kind.OBJECTS,
            expensive=True,
            read=lambda core, g: (
                [
                    {
                        "logical_unit_number": m.number,
                        "lun.uuid": m.lun,
                        "lun.name": core.lun_name(core.luns[m.lun]),
                    }
                    for m in core.maps.values()
                    if m.igroup == g.uuid
                ]
                or None
            ),
            items=(Field("logical_unit_number", Kind.INTEGER), Field("lun.uuid"), Field("lun.name")),
        ),
    )

    def records(self, call: Call) -> Iterable[r.Igroup]:
        return self.core.igroups.values()

    def show(self, record: Any, wanted: Mapping[str, set[str] | None], *, hal: bool) -> dict[str, Any]:
        shown = super().show(record, wanted, hal=hal)
        for initiator in shown.get("initiators", ()):
            initiator.pop("igroup", None)
        return shown

    def not_found(self, values: Sequence[str]) -> ApiError:
        return ApiError("5374852", igroup=values[-1], target="uuid")

    def create(self, call: Call, body: Body) -> Now:
        core = self.core
        svm = core.svm(name=body.get("svm.name"), uuid=body.get("svm.uuid"))
        name = body.get("name") or ""
        if not _NAME.match(name):
            raise ApiError("5373958", name=name, target="name")
        if core.find_igroup(svm.uuid, name) is not None:
            raise ApiError("5374023", name=name, svm=svm.name, target="name")
        if not body.get("os_type"):
            raise ApiError("2", reason='"os_type" is needed', target="os_type")
        members = tuple(
            r.Initiator(str(element.get("name", "")), element.get("comment") or "")
            for element in body.get("initiators") or []
        )
        protocol = body.get("protocol") or "mixed"
        draft = r.Igroup("", name, svm.uuid, body["os_type"], protocol, members, body.get("comment") or "",
                         bool(body.get("delete_on_unmap")), self._portset(svm.uuid, protocol, body))  # fmt: skip
        for member in members:
            check_initiator(member.name)
            require_same_os(core, draft, member.name, "5374732")

        def apply() -> r.Igroup:
            group = dataclasses.replace(draft, uuid=core.new_uuid("igroup", svm.name, name))
            core.igroups[group.uuid] = group
            return group

        return Now("igroup.create", apply)

    def _portset(self, svm: str, protocol: str, body: Body) -> str | None:
        """The portset to bind to; an empty name or uuid binds to none."""
        uuid, name = body.get("portset.uuid"), body.get("portset.name")
        if not uuid and not name:
            return None
        for portset in self.core.portsets.values():
            if portset.svm == svm and uuid in (None, "", portset.uuid) and name in (None, "", portset.name):
                if not portset.interfaces:
                    raise ApiError("5374027", name=portset.name, target="portset")
                if protocol != "mixed" and portset.protocol not in ("mixed", protocol):
                    raise ApiError("5374028", name=portset.name, target="portset")
                return portset.uuid
        raise ApiError("5374911", target="portset", status=400)

    def modify(self, call: Call, record: r.Igroup, body: Body) -> Now:
        name = body.get("name", record.name)
        if not _NAME.match(name):
            raise ApiError("5373958", name=name, target="name")
        other = self.core.find_igroup(record.svm, name)
        if other is not None and other.uuid != record.uuid:
            raise ApiError("5374023", name=name, svm=self.core.svms[record.svm].name, target="name")
        values = {k: v for k, v in body.items() if v is not None and not k.startswith("portset.")}
        if "portset.uuid" in body or "portset.name" in body:
            values["portset"] = self._portset(record.svm, record.protocol, body)
            if record.portset not in (None, values["portset"]) and values["portset"] is not None:
                raise ApiError("1254264")
        changed = dataclasses.replace(record, **values)
        for member in record.initiators:
            require_same_os(self.core, changed, member.name, "5374733")

        def apply() -> None:
            self.core.igroups[record.uuid] = changed

        return Now("igroup.modify", apply)

    def remove(self, call: Call, record: r.Igroup) -> Now:
        mapped = [key for key, m in self.core.maps.items() if m.igroup == record.uuid]
        if mapped and not call.flag("allow_delete_while_mapped"):
            raise ApiError("1254213")

        def apply() -> None:
            for key in mapped:
                del self.core.maps[key]
            del self.core.igroups[record.uuid]

        return Now("igroup.delete", apply)


@dataclass(frozen=True)
class Member:
    """An initiator with the group that it is in."""

    group: str
    initiator: r.Initiator


class Initiators(Collection):
    """Members of one initiator group; their key is their name."""

    path = "/protocols/san/igroups/{igroup.uuid}/initiators"
    keys = ("name",)
    default = ("igroup.uuid", "name")
    methods = ("GET", "POST", "PATCH", "DELETE")
    codes: ClassVar[Codes] = {
        "GET": ("4", "5374852"),
        "POST": ("1254193", "1254324", "5374033", "5374035", "5374038", "5374039", "5374734", "5374852"),
        "PATCH": ("5374034", "5374852"),
        "DELETE": ("1254213", "5374034", "5374852"),
    }
    parameters: ClassVar[Parameters] = {"DELETE": (Field("allow_delete_while_mapped", Kind.BOOLEAN),)}
    fields = (
        Field("igroup.uuid", read=lambda core, m: m.group),
        Field("igroup.name", read=lambda core, m: core.igroups[m.group].name),
        Field("name", read=lambda core, m: m.initiator.name, create=True),
        Field("comment", read=lambda core, m: m.initiator.comment or None, create=True, modify=True),
    )

    def records(self, call: Call) -> Iterable[Member]:
        for group in self.core.igroups.values():
            if call.svm in (None, group.svm):
                for initiator in group.initiators:
                    yield Member(group.uuid, initiator)

    def require_parents(self, call: Call, parents: Mapping[str, str]) -> None:
        uuid = parents.get("igroup.uuid", "*")
        group = self.core.igroups.get(uuid)
        if uuid != "*" and (group is None or call.svm not in (None, group.svm)):
            raise ApiError("5374852", igroup=uuid, target="igroup.uuid")

    def find(self, call: Call, parents: Mapping[str, str], values: Sequence[str]) -> Any:
        try:
            return super().find(call, parents, values)
        except ApiError as error:
            if error.code == "4" and call.method != "GET":
                raise ApiError("5374034", initiator=values[-1], target="name") from None
            raise

    def create(self, call: Call, body: Body) -> Now:
        core = self.core
        group = core.igroups[call.parents["igroup.uuid"]]
        name = body.get("name")
        if not name:
            raise ApiError("5374033", target="name")
        check_initiator(name)
        if any(member.name == name for member in group.initiators):
            raise ApiError("5374035", initiator=name, target="name")
        require_same_os(core, group, name, "5374734")
        require_single_path(core, group, name)

        def apply() -> Member:
            now = core.igroups[group.uuid]
            member = r.Initiator(name, body.get("comment") or "")
            core.igroups[group.uuid] = dataclasses.replace(now, initiators=(*now.initiators, member))
            return Member(group.uuid, member)

        return Now("igroup.initiator.create", apply)

    def modify(self, call: Call, record: Member, body: Body) -> Now:
        def apply() -> None:
            group = self.core.igroups[record.group]
            members = tuple(
                dataclasses.replace(m, comment=body.get("comment") or "") if m == record.initiator else m
                for m in group.initiators
            )
            self.core.igroups[group.uuid] = dataclasses.replace(group, initiators=members)

        return Now("igroup.initiator.modify", apply)

    def remove(self, call: Call, record: Member) -> Now:
        mapped = any(m.igroup == record.group for m in self.core.maps.values())
        if mapped and not call.flag("allow_delete_while_mapped"):
            raise ApiError("1254213")

        def apply() -> None:
            group = self.core.igroups[record.group]
            rest = tuple(member for member in group.initiators if member != record.initiator)
            self.core.igroups[group.uuid] = dataclasses.replace(group, initiators=rest)

        return Now("igroup.initiator.delete", apply)
