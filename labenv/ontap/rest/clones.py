"""Where the source of a LUN clone or of a file clone is, and /storage/file/clone."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from labenv.ontap import luns, volumes
from labenv.ontap import records as r
from labenv.ontap.core import Core
from labenv.ontap.errors import ApiError
from labenv.ontap.files import check_plain_path
from labenv.ontap.rest.call import Call
from labenv.ontap.rest.collection import Collection
from labenv.ontap.rest.model import (
    Body,
    Codes,
    Field,
    Later,
    svm_fields,
)
from labenv.ontap.rest.values import Kind


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


def _range(text: str) -> list[int]:
    """Blocks of the source, of the destination, and how many; raises 917898."""
    parts = text.split(":")
    if len(parts) != 3 or not all(part.isascii() and part.isdigit() and len(part) < 12 for part in parts):
        raise ApiError("917898", value=text, target="range")
    return [int(part) for part in parts]


class FileClone(Collection):
    """POST only: clone one file of a volume, from the active file system or from a Snapshot copy."""

    path = "/storage/file/clone"
    keys = ()
    default = ()
    methods = ("POST",)
    codes: ClassVar[Codes] = {"POST": ("917812", "918235", "918236", "917898", "6684674", "13565952", "262197")}
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
        volume = self._volume(call, body)
        source, target = body.get("source_path") or "", body.get("destination_path") or ""
        if target.startswith("/"):
            raise ApiError("917812", path=target, target="destination_path")
        for name, value in (("source_path", source), ("destination_path", target)):
            if not value:
                raise ApiError("2", reason=f'"{name}" is needed', target=name)
        check_plain_path(target)
        snapshot = ""
        parts = source.split("/")
        if parts[0] == ".snapshot" and len(parts) > 2:
            snapshot, source = parts[1], "/".join(parts[2:])
        ranges = [_range(text) for text in body.get("range") or []]
        arguments: dict[str, Any] = {
            "volume": volume.uuid,
            "path": f"/{target}",
            "source_path": f"/{source.lstrip('/')}",
            "source_snapshot": snapshot,
            "overwrite": bool(body.get("overwrite_destination")),
        }
        volumes.require_online(volume)
        locks = clone_locks(core, volume, {"source_snapshot": snapshot})
        if ranges:
            arguments["ranges"] = ranges
        operation = "file.clone.ranges" if ranges else "file.clone"
        return Later(operation, arguments, node=core.node_of(volume).name, svm=volume.svm, locks=locks)

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
