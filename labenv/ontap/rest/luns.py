"""/storage/luns with clone, copy, overwrite in place and raw data; /protocols/san/lun-maps; /storage/file/clone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

from labenv.devices import DeviceError
from labenv.ontap import luns, volumes
from labenv.ontap import records as r
from labenv.ontap.core import Core
from labenv.ontap.errors import ApiError, invalid_value
from labenv.ontap.rest.call import Call, Reply
from labenv.ontap.rest.collection import (
    SVM_LINK,
    Body,
    Codes,
    Collection,
    Field,
    Later,
    Links,
    Now,
    Parameters,
    svm_fields,
)
from labenv.ontap.rest.values import Kind, show_time

OS_TYPES = (
    "aix", "hpux", "hyper_v", "linux", "netware", "openvms", "solaris", "solaris_efi", "vmware", "windows",
    "windows_2008", "windows_gpt", "xen",
)  # fmt: skip
MOST_DATA = 1 << 20


def lun_state(core: Core, lun: r.Lun) -> str:
    """``status.state``."""
    if not lun.enabled or core.volumes[lun.volume].state != "online":
        return "offline"
    return "space_error" if lun.space_error else "online"


def used_bytes(core: Core, lun: r.Lun) -> int | None:
    """Bytes that a LUN occupies; None while its volume is offline."""
    if core.volumes[lun.volume].state != "online":
        return None
    return core.pool(lun.volume).files[lun.path].used


def lun_maps(core: Core, lun: r.Lun) -> list[dict[str, Any]] | None:
    """The maps of a LUN as its record shows them."""
    return [
        {"logical_unit_number": m.number, "igroup.uuid": m.igroup, "igroup.name": core.igroups[m.igroup].name}
        for m in core.maps_of(lun.uuid)
    ] or None


class Luns(Collection):
    """LUNs."""

    path = "/storage/luns"
    methods = ("GET", "POST", "PATCH", "DELETE")
    codes: ClassVar[Codes] = {
        "GET": ("5374875", "262197"),
        "POST": (
            "917927", "918235", "918236", "1260121", "1260136", "2621462", "2621706", "2621707", "5242927", "5374121",
            "5374124", "5374125", "5374127", "5374237", "5374238", "5374242", "5374858", "5374859", "5374861",
            "5374862", "5374874", "5374875", "5374876", "5374883", "5374884", "5374899", "5374942", "13565952",
        ),
        "PATCH": (
            "1254196", "1254226", "1260121", "5374121", "5374124", "5374125", "5374127", "5374858", "5374866",
            "5374874", "5374875", "5374876", "5374892", "5374899", "5376466", "13565952",
        ),
        "DELETE": ("1254197", "5374866", "5374875"),
    }  # fmt: skip
    parameters: ClassVar[Parameters] = {
        "GET": (Field("data.offset", Kind.INTEGER), Field("data.size", Kind.INTEGER)),
        "PATCH": (Field("data.offset", Kind.INTEGER),),
        "DELETE": (Field("allow_delete_while_mapped", Kind.BOOLEAN),),
    }
    links: ClassVar[Links] = {
        **SVM_LINK,
        "location.volume": "/api/storage/volumes/{location.volume.uuid}",
        "lun_maps": "/api/protocols/san/lun-maps/{lun.uuid}/{igroup.uuid}",
    }
    fields = (
        Field("uuid", read=lambda core, x: x.uuid),
        Field("name", read=lambda core, x: core.lun_name(x), create=True, modify=True),
        *svm_fields(),
        Field("location.volume.uuid", read=lambda core, x: x.volume, create=True),
        Field("location.volume.name", read=lambda core, x: core.volumes[x.volume].name, create=True),
        Field("location.logical_unit", read=lambda core, x: x.path.rsplit("/", 1)[-1], create=True),
        Field("location.node.name", read=lambda core, x: core.node_of(core.volumes[x.volume]).name),
        Field("location.node.uuid", read=lambda core, x: core.node_of(core.volumes[x.volume]).uuid),
        Field("location.qtree.name", create=True),
        Field("class", read=lambda core, x: x.lun_class),
        Field("os_type", read=lambda core, x: x.os_type, create=True, choices=OS_TYPES),
        Field("serial_number", read=lambda core, x: x.serial_number),
        Field("serial_number_hex", read=lambda core, x: x.serial_number.encode("ascii").hex()),
        Field("enabled", Kind.BOOLEAN, read=lambda core, x: x.enabled, create=True, modify=True),
        Field("auto_delete", Kind.BOOLEAN, read=lambda core, x: x.auto_delete, create=True, modify=True),
        Field("comment", read=lambda core, x: x.comment or None, create=True, modify=True),
        Field("create_time", Kind.TIME, read=lambda core, x: show_time(x.create_time)),
        Field("space.size", Kind.SIZE, read=lambda core, x: x.size, create=True, modify=True),
        Field("space.used", Kind.SIZE, read=used_bytes),
        Field("space.guarantee.requested", Kind.BOOLEAN, read=lambda core, x: x.reserved, create=True, modify=True),
        Field("space.guarantee.reserved", Kind.BOOLEAN, read=lambda core, x: x.reserved),
        Field(
            "space.scsi_thin_provisioning_support_enabled",
            Kind.BOOLEAN,
            read=lambda core, x: x.space_allocation,
            create=True,
            modify=True,
        ),
        Field("status.state", read=lun_state),
        Field("status.mapped", Kind.BOOLEAN, read=lambda core, x: bool(core.maps_of(x.uuid))),
        Field("status.read_only", Kind.BOOLEAN, read=lambda core, x: core.volumes[x.volume].type == "dp"),
        Field(
            "status.container_state",
            read=lambda core, x: "online" if core.volumes[x.volume].state == "online" else "volume_offline",
        ),
        Field(
            "lun_maps",
            Kind.OBJECTS,
            expensive=True,
            read=lun_maps,
            items=(Field("logical_unit_number", Kind.INTEGER), Field("igroup.uuid"), Field("igroup.name")),
        ),
        Field("qos_policy.name"),
        Field("qos_policy.uuid"),
        Field("clone.source.name", create=True, modify=True),
        Field("clone.source.uuid", create=True, modify=True),
        Field("copy.source.name", create=True),
        Field("copy.source.uuid", create=True),
        Field("data.offset", Kind.INTEGER),
        Field("data.size", Kind.INTEGER),
    )

    def records(self, call: Call) -> Iterable[r.Lun]:
        return self.core.luns.values()

    def not_found(self, values: Sequence[str]) -> ApiError:
        return ApiError("5374875", lun=values[-1], target="uuid")

    def show(self, record: Any, wanted: Any, *, hal: bool) -> dict[str, Any]:
        shown = super().show(record, wanted, hal=False)
        if hal:
            for mapping in shown.get("lun_maps", ()):
                href = f"/api/protocols/san/lun-maps/{record.uuid}/{mapping['igroup']['uuid']}"
                mapping["_links"] = {"self": {"href": href}}
            self._add_links(shown, record)
        return shown

    # creating ---------------------------------------------------------------------------------------------------------

    def create(self, call: Call, body: Body) -> Later:
        core = self.core
        svm = core.svm(name=body.get("svm.name"), uuid=body.get("svm.uuid"))
        cloning = any(name.startswith("clone.") for name in body)
        copying = any(name.startswith("copy.") for name in body)
        if cloning and copying:
            raise ApiError("5374942", target="clone")
        volume, path = self._place(svm, body)
        if volume.is_svm_root:
            raise ApiError("5374237", target="location.volume")
        arguments: dict[str, Any] = {
            "volume": volume.uuid,
            "path": path,
            "comment": body.get("comment") or "",
            "auto_delete": bool(body.get("auto_delete")),
        }
        common: dict[str, Any] = {"node": core.node_of(volume).name, "svm": svm.uuid, "name": core_name(volume, path)}
        if cloning:
            self._forbid(body, "os_type", "space.size")
            source = clone_source(core, svm, volume, body)
            luns.require_free_path(core, volume, path, "1260136")
            return Later("lun.clone", {**arguments, **source}, locks=clone_locks(core, volume, source), **common)
        luns.require_free_path(core, volume, path)
        if copying:
            self._forbid(body, "os_type", "space.size")
            return Later("lun.copy", {**arguments, "source": self._copy_source(svm, body).uuid}, **common)
        for name in ("os_type", "space.size"):
            if body.get(name) is None:
                raise ApiError("5374884", field=name, target=name)
        luns.check_lun_size(body["space.size"])
        arguments |= {
            "size": body["space.size"],
            "os_type": body["os_type"],
            "reserved": body.get("space.guarantee.requested") is not False,
            "enabled": body.get("enabled") is not False,
            "space_allocation": bool(body.get("space.scsi_thin_provisioning_support_enabled")),
        }
        doomed = ApiError("5374866", volume=volume.name) if volume.state != "online" else None
        return Later("lun.create", arguments, doomed=doomed, **common)

    @staticmethod
    def _forbid(body: Body, *names: str) -> None:
        for name in names:
            if name in body:
                raise ApiError("5374883", field=name, target=name)

    def _place(self, svm: r.Svm, body: Body) -> tuple[r.Volume, str]:
        """Volume and path from ``name`` or from ``location``."""
        core = self.core
        name, unit = body.get("name"), body.get("location.logical_unit")
        volume = find_volume(core, svm, body, "location.volume")
        if name and "/" in name:
            parsed = luns.parse_lun_name(name)
            if parsed.snapshot is not None:
                raise ApiError("5374238", name=name, target="name")
            named = core.find_volume(svm.uuid, parsed.volume)
            if named is None:
                raise ApiError("917927", volume=parsed.volume, target="name", status=400)
            if volume is not None and volume.uuid != named.uuid:
                raise ApiError("5374858", name=name, target="name")
            if unit and parsed.path != f"/{unit}":
                raise ApiError("5374861", name=name, target="name")
            return named, parsed.path
        if volume is None:
            raise ApiError("5374859", target="location.volume")
        base = unit or name
        if not base:
            raise ApiError("5374862", target="location.logical_unit")
        return volume, luns.parse_lun_name(core_name(volume, f"/{base}")).path

    def _copy_source(self, svm: r.Svm, body: Body) -> r.Lun:
        for lun in self.core.luns.values():
            by_uuid = body.get("copy.source.uuid") in (None, lun.uuid)
            by_name = body.get("copy.source.name") in (None, self.core.lun_name(lun))
            if lun.svm == svm.uuid and by_uuid and by_name:
                return lun
        wanted = body.get("copy.source.name") or body.get("copy.source.uuid")
        raise ApiError("5374875", lun=wanted, target="copy.source", status=400)

    # changing ---------------------------------------------------------------------------------------------------------

    def modify(self, call: Call, record: r.Lun, body: Body) -> Now | Later | None:
        core = self.core
        body.pop("data.offset", None)
        volume = core.volumes[record.volume]
        if any(name.startswith("clone.") for name in body):
            svm = core.svms[record.svm]
            source = clone_source(core, svm, volume, body)
            locks = (*clone_locks(core, volume, source), f"lun-restore:{record.uuid}")
            return Later(
                "lun.overwrite", {"lun": record.uuid, **source}, locks=locks, svm=svm.uuid,
                node=core.node_of(volume).name,
            )  # fmt: skip
        values: dict[str, Any] = {}
        if body.get("space.size") is not None:
            values["size"] = self._new_size(record, body["space.size"])
        if body.get("name") is not None and body["name"] != core.lun_name(record):
            values["path"] = self._new_path(record, volume, body["name"])
        for name, attribute in (
            ("enabled", "enabled"),
            ("auto_delete", "auto_delete"),
            ("comment", "comment"),
            ("space.guarantee.requested", "reserved"),
            ("space.scsi_thin_provisioning_support_enabled", "space_allocation"),
        ):
            if body.get(name) is not None:
                values[attribute] = body[name]
        if not values:
            return None
        if volume.state != "online":
            raise ApiError("5374866", volume=volume.name)
        return Now("lun.modify", lambda: luns.modify_lun(core, {"lun": record.uuid, "values": values}))

    @staticmethod
    def _new_size(record: r.Lun, size: int) -> int:
        luns.check_lun_size(size)
        if size == record.size:
            raise ApiError("1254226", target="space.size")
        if size < record.size:
            raise ApiError("5374892", old=record.size, new=size, target="space.size")
        return size

    def _new_path(self, record: r.Lun, volume: r.Volume, name: str) -> str:
        parsed = luns.parse_lun_name(name)
        if parsed.snapshot is not None:
            raise ApiError("5376466", target="name")
        if parsed.volume != volume.name:
            raise ApiError("5374858", name=name, target="name")
        luns.require_free_path(self.core, volume, parsed.path, "1254196")
        return parsed.path

    def remove(self, call: Call, record: r.Lun) -> Now:
        mapped_too = call.flag("allow_delete_while_mapped")
        if self.core.maps_of(record.uuid) and not mapped_too:
            raise ApiError("1254197")
        volume = self.core.volumes[record.volume]
        if volume.state != "online":
            raise ApiError("5374866", volume=volume.name)
        arguments = {"lun": record.uuid, "mapped_too": mapped_too}
        return Now("lun.delete", lambda: luns.delete_lun(self.core, arguments))

    # raw data ---------------------------------------------------------------------------------------------------------

    def read_data(self, call: Call, record: r.Lun) -> Reply | None:
        if "data.offset" not in call.query and "data.size" not in call.query:
            return None
        offset, size = _whole(call, "data.offset", 0), _whole(call, "data.size", MOST_DATA)
        if size > MOST_DATA:
            raise invalid_value(size, "data.size", f"0..{MOST_DATA}")
        if offset > record.size:
            raise invalid_value(offset, "data.offset", f"0..{record.size}")
        self._require_online(record)
        device = self.core.pool(record.volume).files[record.path]
        data = device.read(offset, min(size, record.size - offset))
        boundary = record.uuid.replace("-", "")
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="data"\r\n'
        head += "Content-Type: application/octet-stream\r\n\r\n"
        raw = head.encode("ascii") + data + f"\r\n--{boundary}--\r\n".encode("ascii")
        return Reply(200, raw=raw, content_type=f"multipart/form-data; boundary={boundary}")

    def write_data(self, call: Call, record: r.Lun) -> Now | None:
        if "data" not in call.parts:
            return None
        data, offset = call.parts["data"], _whole(call, "data.offset", 0)
        if len(data) > MOST_DATA:
            raise invalid_value(len(data), "data.size", f"0..{MOST_DATA}")
        if offset + len(data) > record.size:
            raise invalid_value(offset, "data.offset", f"0..{record.size - len(data)}")
        self._require_online(record)

        def apply() -> None:
            try:
                self.core.pool(record.volume).files[record.path].write(offset, data)
            except DeviceError as error:
                raise ApiError("917536", reason=str(error)) from None

        return Now("lun.data", apply)

    def _require_online(self, record: r.Lun) -> None:
        if self.core.volumes[record.volume].state != "online":
            raise ApiError("5374866", volume=self.core.volumes[record.volume].name)


def _whole(call: Call, name: str, default: int) -> int:
    text = call.query.get(name, str(default))
    if not text.isdigit():
        raise invalid_value(text, name, "integer")
    return int(text)


def core_name(volume: r.Volume, path: str) -> str:
    """``/vol/volume/lun`` of what is, or will be, at a path."""
    return f"/vol/{volume.name}{path}"


def find_volume(core: Core, svm: r.Svm, body: Body, prefix: str) -> r.Volume | None:
    """The volume that ``prefix.name`` and ``prefix.uuid`` name; None if neither is given."""
    name, uuid = body.get(f"{prefix}.name"), body.get(f"{prefix}.uuid")
    if uuid:
        volume = core.volumes.get(uuid)
        if volume is None or volume.svm != svm.uuid:
            raise ApiError("918235", volume=uuid, target=f"{prefix}.uuid", status=400)
        if name and volume.name != name:
            raise ApiError("918236", uuid=uuid, name=name, target=prefix)
        return volume
    if not name:
        return None
    volume = core.find_volume(svm.uuid, name)
    if volume is None:
        raise ApiError("917927", volume=name, target=f"{prefix}.name", status=400)
    return volume


def clone_source(core: Core, svm: r.Svm, volume: r.Volume, body: Body) -> dict[str, str]:
    """Source of a LUN clone, as arguments of its job: a LUN of the same volume, or one in its Snapshot copies."""
    name, uuid = body.get("clone.source.name"), body.get("clone.source.uuid")
    if not name and not uuid:
        raise ApiError("5374875", lun="", target="clone.source", status=400)
    if name and "/.snapshot/" in name:
        if uuid:
            raise ApiError("5374899", target="clone.source.uuid")
        parsed = luns.parse_lun_name(name)
        if parsed.volume != volume.name:
            raise ApiError("1260121", target="clone.source.name")
        luns.lun_in_snapshot(core, volume, parsed.snapshot or "", parsed.path)
        return {"source_snapshot": parsed.snapshot or "", "source_path": parsed.path}
    if name and not name.startswith("/"):
        name = core_name(volume, f"/{name}")
    found = core.luns.get(uuid) if uuid else None
    if uuid and (found is None or found.svm != svm.uuid):
        raise ApiError("5374875", lun=uuid, target="clone.source.uuid", status=400)
    if found is not None and name and core.lun_name(found) != name:
        raise ApiError("5374874", target="clone.source")
    if found is None:
        named = (lun for lun in core.luns.values() if lun.svm == svm.uuid and core.lun_name(lun) == name)
        found = next(named, None)
    if found is None:
        raise ApiError("5374876", lun=name, target="clone.source.name", status=400)
    if found.volume != volume.uuid:
        raise ApiError("1260121", target="clone.source")
    return {"source_snapshot": "", "source_path": found.path}


def clone_locks(core: Core, volume: r.Volume, source: dict[str, str]) -> tuple[str, ...]:
    """What a LUN clone holds: Snapshot operations on its volume, and the Snapshot copy that it comes from."""
    locks = [f"snapshots:{volume.uuid}"]
    snapshot = core.find_snapshot(volume.uuid, source["source_snapshot"])
    if snapshot is not None:
        locks.append(f"lun-clone:{snapshot.uuid}")
    return tuple(locks)


class LunMaps(Collection):
    """LUN maps: which initiator group sees which LUN under which number."""

    path = "/protocols/san/lun-maps"
    keys = ("lun.uuid", "igroup.uuid")
    default = ("lun.uuid", "lun.name", "igroup.uuid", "igroup.name", "svm.uuid", "svm.name")
    methods = ("GET", "POST", "DELETE")
    codes: ClassVar[Codes] = {
        "GET": ("5374852", "5374875", "262197"),
        "POST": (
            "1254193", "1254201", "1254207", "1254324", "2621462", "2621706", "2621707", "5374053", "5374238",
            "5374581", "5374685", "5374878", "5374901", "5374902",
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
            raise ApiError("5374581", node=node)
        self._require_single(lun, group)
        wanted = body.get("logical_unit_number")
        used = self._used_numbers(group)
        if wanted is not None and wanted in used:
            raise ApiError("5374685", number=wanted, igroup=group.name, target="logical_unit_number")
        if wanted is not None and not 0 <= wanted <= 4095:
            raise invalid_value(wanted, "logical_unit_number", "0..4095")

        def apply() -> r.LunMap:
            number = next(n for n in range(4096) if n not in used) if wanted is None else wanted
            mapping = r.LunMap(lun.uuid, group.uuid, number)
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


class FileClone(Collection):
    """POST only: clone one file of a volume, from the active file system or from a Snapshot copy."""

    path = "/storage/file/clone"
    keys = ()
    default = ()
    methods = ("POST",)
    codes: ClassVar[Codes] = {"POST": ("917812", "918235", "918236", "13565952", "262197")}
    fields = (
        Field("volume.uuid", create=True),
        Field("volume.name", create=True),
        *svm_fields(),
        Field("source_path", create=True),
        Field("destination_path", create=True),
        Field("overwrite_destination", Kind.BOOLEAN, create=True),
        Field("range", Kind.TEXTS, create=True),
        Field("is_backup", Kind.BOOLEAN, create=True),
        Field("autodelete", Kind.BOOLEAN, create=True),
    )

    def records(self, call: Call) -> Iterable[Any]:
        return ()

    def create(self, call: Call, body: Body) -> Later:
        core = self.core
        if body.get("range"):
            raise ApiError("13565952", reason="the lab clones whole files, not ranges")
        volume = self._volume(call, body)
        source, target = body.get("source_path") or "", body.get("destination_path") or ""
        if target.startswith("/"):
            raise ApiError("917812", path=target, target="destination_path")
        for name, value in (("source_path", source), ("destination_path", target)):
            if not value:
                raise ApiError("2", reason=f'"{name}" is needed', target=name)
        snapshot = ""
        parts = source.split("/")
        if parts[0] == ".snapshot" and len(parts) > 2:
            snapshot, source = parts[1], "/".join(parts[2:])
        arguments = {
            "volume": volume.uuid,
            "path": f"/{target}",
            "source_path": f"/{source.lstrip('/')}",
            "source_snapshot": snapshot,
            "overwrite": bool(body.get("overwrite_destination")),
        }
        volumes.require_online(volume)
        locks = clone_locks(core, volume, {"source_snapshot": snapshot})
        return Later("file.clone", arguments, node=core.node_of(volume).name, svm=volume.svm, locks=locks)

    def _volume(self, call: Call, body: Body) -> r.Volume:
        core = self.core
        uuid, name = body.get("volume.uuid"), body.get("volume.name")
        if not uuid and not name:
            raise ApiError("2", reason='"volume" is needed', target="volume")
        svm = call.svm
        if body.get("svm.uuid") or body.get("svm.name"):
            svm = core.svm(name=body.get("svm.name"), uuid=body.get("svm.uuid")).uuid
        named = [
            v for v in core.volumes.values() if svm in (None, v.svm) and (v.uuid == uuid if uuid else v.name == name)
        ]
        if not named:
            raise ApiError("918235", volume=uuid or name, target="volume", status=400)
        if name and named[0].name != name:
            raise ApiError("918236", uuid=uuid, name=name, target="volume")
        return named[0]
