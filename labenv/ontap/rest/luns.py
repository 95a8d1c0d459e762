"""/storage/luns with clone, copy, overwrite in place and raw data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar

from labenv.devices import DeviceError
from labenv.ontap import luns, volumes
from labenv.ontap import records as r
from labenv.ontap.core import Core
from labenv.ontap.errors import ApiError, invalid_value
from labenv.ontap.rest.call import Call, Reply
from labenv.ontap.rest.clones import clone_locks, clone_source, core_name, find_volume
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
from labenv.ontap.traffic import Traffic

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


def is_reserved(core: Core, lun: r.Lun) -> bool:
    """Whether a LUN's space is really held for it: it asks for that, and its volume has its own space for sure."""
    return lun.reserved and core.volumes[lun.volume].guarantee == "volume"


def lun_maps(core: Core, lun: r.Lun) -> list[dict[str, Any]] | None:
    """The maps of a LUN as its record shows them."""
    return [
        {"logical_unit_number": m.number, "igroup.uuid": m.igroup, "igroup.name": core.igroups[m.igroup].name}
        for m in core.maps_of(lun.uuid)
    ] or None


def _counters() -> Iterable[Field]:
    """What hosts have done to a LUN: operations and bytes that only grow."""
    kinds: dict[str, tuple[Callable[[Traffic], int], Callable[[Traffic], int]]] = {
        "read": (lambda t: t.reads, lambda t: t.read_bytes),
        "write": (lambda t: t.writes, lambda t: t.written_bytes),
        "other": (lambda t: t.others, lambda t: 0),
        "total": (lambda t: t.reads + t.writes + t.others, lambda t: t.read_bytes + t.written_bytes),
    }
    for kind, both in kinds.items():
        for name, of in zip(("iops_raw", "throughput_raw"), both, strict=True):

            def read(core: Core, lun: r.Lun, of: Callable[[Traffic], int] = of) -> int:
                return of(core.traffic[lun.uuid])

            yield Field(f"statistics.{name}.{kind}", Kind.INTEGER, read=read, expensive=True)


class Luns(Collection):
    """LUNs."""

    path = "/storage/luns"
    methods = ("GET", "POST", "PATCH", "DELETE")
    codes: ClassVar[Codes] = {
        "GET": ("5374875", "262197"),
        "POST": (
            "917927", "918235", "918236", "1260121", "1260136", "2621462", "2621706", "2621707", "5242927", "5374121",
            "5374124", "5374125", "5374127", "5374237", "5374238", "5374242", "5374858", "5374859", "5374861",
            "5374862", "5374866", "5374874", "5374875", "5374876", "5374883", "5374884", "5374899", "5374942",
            "13565952",
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
        Field("space.guarantee.reserved", Kind.BOOLEAN, read=is_reserved),
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
        Field("statistics.timestamp", Kind.TIME, read=lambda core, x: show_time(core.now), expensive=True),
        Field("statistics.status", read=lambda core, x: "ok", expensive=True),
        *_counters(),
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

    def keyed(self) -> Mapping[str, r.Lun]:
        return self.core.luns

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
        offset, size = call.whole("data.offset", default=0), call.whole("data.size", default=MOST_DATA)
        if size > MOST_DATA:
            raise invalid_value(size, "data.size", f"0..{MOST_DATA}")
        if offset > record.size:
            raise invalid_value(offset, "data.offset", f"0..{record.size}")
        self._require_online(record)
        device = self.core.pool(record.volume).files[record.path]
        data = device.read(offset, min(size, record.size - offset))
        return Reply.multipart(data, name="data", boundary=record.uuid.replace("-", ""))

    def write_data(self, call: Call, record: r.Lun) -> Now | None:
        if "data" not in call.parts:
            return None
        data, offset = call.parts["data"], call.whole("data.offset", default=0)
        if len(data) > MOST_DATA:
            raise invalid_value(len(data), "data.size", f"0..{MOST_DATA}")
        if offset + len(data) > record.size:
            raise invalid_value(offset, "data.offset", f"0..{record.size - len(data)}")
        self._require_online(record)
        volumes.require_writable(self.core.volumes[record.volume])

        def apply() -> None:
            try:
                self.core.pool(record.volume).files[record.path].write(offset, data)
            except DeviceError as error:
                raise ApiError("917536", reason=str(error)) from None

        return Now("lun.data", apply)

    def _require_online(self, record: r.Lun) -> None:
        if self.core.volumes[record.volume].state != "online":
            raise ApiError("5374866", volume=self.core.volumes[record.volume].name)
