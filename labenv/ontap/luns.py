"""LUNs: create, clone, overwrite in place, copy, resize, rename, delete."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from labenv.devices import OutOfSpace
from labenv.ontap import records as r
from labenv.ontap.core import Core
from labenv.ontap.errors import ApiError
from labenv.ontap.setup import UNFINISHED
from labenv.ontap.volumes import drop_lun, existing, require_online, require_writable

_BASE = re.compile(r"^[A-Za-z0-9._{}\-]+$")
LEAST_SIZE = 4096
MOST_SIZE = 128 << 40


@dataclass(frozen=True)
class LunPath:
    """``/vol/volume/lun``, or ``/vol/volume/.snapshot/copy/lun`` with ``snapshot`` set."""

    volume: str
    path: str
    snapshot: str | None = None


def parse_lun_name(name: str) -> LunPath:
    """Take a LUN's full name apart; raises 5374127 or 5374121."""
    parts = name.split("/")
    if len(parts) < 4 or parts[0] or parts[1] != "vol" or not all(parts[2:]):
        raise ApiError("5374127", name=name, target="name")
    volume, rest = parts[2], parts[3:]
    snapshot = None
    if rest[0] == ".snapshot":
        if len(rest) < 3:
            raise ApiError("5374127", name=name, target="name")
        snapshot, rest = rest[1], rest[2:]
    if len(rest) > 2:
        raise ApiError("5374127", name=name, target="name")
    if not _BASE.match(rest[-1]):
        raise ApiError("5374121", name=rest[-1], target="name")
    if len(rest) == 2:
        raise ApiError("5242927", qtree=rest[0], target="location.qtree.name", status=400)
    return LunPath(volume, "/" + "/".join(rest), snapshot)


def check_lun_size(size: int) -> None:
    """Raise 5374124 or 5374125."""
    if size < LEAST_SIZE:
        raise ApiError("5374124", size=size, target="space.size")
    if size > MOST_SIZE:
        raise ApiError("5374125", size=size, target="space.size")


def lun_in_snapshot(core: Core, volume: r.Volume, snapshot: str, path: str) -> tuple[r.Snapshot, r.Lun]:
    """A Snapshot copy and the LUN as it was then; raises 5374876."""
    found = core.find_snapshot(volume.uuid, snapshot)
    lun = None if found is None else next((lun for lun in found.luns if lun.path == path), None)
    if found is None or lun is None:
        name = f"/vol/{volume.name}/.snapshot/{snapshot}{path}"
        raise ApiError("5374876", lun=name, target="clone.source.name", status=400)
    return found, lun


def require_free_path(core: Core, volume: r.Volume, path: str, code: str = "5374242") -> None:
    """Raise if something is at a path already."""
    if core.find_lun(volume.uuid, path) is not None or path in core.pool(volume.uuid).files:
        raise ApiError(code, name=f"/vol/{volume.name}{path}", target="name")


def new_lun(core: Core, volume: r.Volume, path: str, **values: Any) -> r.Lun:
    """The record of a LUN whose file is there already, with an identity of its own."""
    svm = core.svms[volume.svm]
    name = f"/vol/{volume.name}{path}"
    lun = r.Lun(
        uuid=core.new_uuid("lun", svm.name, name),
        svm=svm.uuid,
        volume=volume.uuid,
        path=path,
        serial_number=core.new_serial(svm.name, name),
        create_time=core.now,
        **values,
    )
    core.luns[lun.uuid] = lun
    core.topology += 1
    return lun


def create_lun(core: Core, args: Mapping[str, Any]) -> str:
    """Effect of POST luns."""
    volume = existing(core, args["volume"])
    if volume.state != "online":
        raise ApiError("5374866", volume=volume.name)
    require_writable(volume)
    require_free_path(core, volume, args["path"])
    try:
        core.pool(volume.uuid).create_file(args["path"], args["size"], reserved=args["reserved"])
    except OutOfSpace as error:
        raise ApiError("917536", reason=f"no space for the LUN in volume {volume.name}: {error}") from None
    return new_lun(
        core,
        volume,
        args["path"],
        os_type=args["os_type"],
        size=args["size"],
        reserved=args["reserved"],
        enabled=args["enabled"],
        space_allocation=args["space_allocation"],
        comment=args["comment"],
        auto_delete=args["auto_delete"],
    ).uuid


def clone_lun(core: Core, args: Mapping[str, Any]) -> str:
    """Effect of POST luns with ``clone``: a new LUN that shares blocks with its source (FlexClone LUN)."""
    volume = existing(core, args["volume"])
    require_online(volume)
    require_writable(volume)
    require_free_path(core, volume, args["path"], "1260136")
    source, snapshot = source_of(core, volume, args)
    share_blocks(core, volume, args, overwrite=False)
    lun = new_lun(
        core,
        volume,
        args["path"],
        os_type=source.os_type,
        size=core.pool(volume.uuid).files[args["path"]].size,
        reserved=source.reserved,
        space_allocation=source.space_allocation,
        comment=args["comment"],
        auto_delete=args["auto_delete"],
    )
    share_in_background(core, volume, snapshot)
    return lun.uuid


def overwrite_lun(core: Core, args: Mapping[str, Any]) -> str:
    """Effect of PATCH luns with ``clone.source``: other contents, same LUN: uuid, serial number and maps stay."""
    lun = core.luns.get(args["lun"])
    if lun is None:
        raise ApiError("5374875", lun=args["lun"])
    volume = existing(core, lun.volume)
    require_online(volume)
    require_writable(volume)
    arguments = {**args, "path": lun.path, "volume": volume.uuid}
    _, snapshot = source_of(core, volume, arguments)
    share_blocks(core, volume, arguments, overwrite=True)
    core.change_lun(lun, size=core.pool(volume.uuid).files[lun.path].size, space_error=False)
    share_in_background(core, volume, snapshot)
    return lun.uuid


def source_of(core: Core, volume: r.Volume, args: Mapping[str, Any]) -> tuple[r.Lun, r.Snapshot | None]:
    """The LUN that a clone is made from, as it is now or in a Snapshot copy; raises 5374876."""
    if args["source_snapshot"]:
        snapshot, lun = lun_in_snapshot(core, volume, args["source_snapshot"], args["source_path"])
        return lun, snapshot
    found = core.find_lun(volume.uuid, args["source_path"])
    if found is None:
        raise ApiError("5374876", lun=f"/vol/{volume.name}{args['source_path']}", target="clone.source.name")
    return found, None


def share_blocks(core: Core, volume: r.Volume, args: Mapping[str, Any], *, overwrite: bool) -> None:
    """Let a file share every block of another one; raises 13565952."""
    try:
        core.pool(volume.uuid).clone_file(
            args["source_path"], args["path"], snapshot=args["source_snapshot"] or None, overwrite=overwrite
        )
    except OutOfSpace as error:
        raise ApiError("13565952", reason=f"no space in volume {volume.name}: {error}") from None


def share_in_background(core: Core, volume: r.Volume, snapshot: r.Snapshot | None) -> None:
    """Blocks go on being shared after the clone can be used; Snapshot operations fail until that is done."""
    seconds = core.costs["ontap.lun.clone.sharing"]
    core.hold(f"snapshots:{volume.uuid}", seconds)
    if snapshot is not None:
        core.hold(f"lun-clone:{snapshot.uuid}", seconds)


def copy_lun(core: Core, args: Mapping[str, Any]) -> str:
    """Effect of POST luns with ``copy``: a new LUN with blocks of its own, in any volume of the SVM."""
    volume = existing(core, args["volume"])
    require_online(volume)
    require_writable(volume)
    require_free_path(core, volume, args["path"])
    source = core.luns.get(args["source"])
    if source is None:
        raise ApiError("5374875", lun=args["source"])
    origin = core.pool(source.volume).files[source.path]
    pool = core.pool(volume.uuid)
    try:
        unfinished = UNFINISHED + args["path"]
        target = pool.create_file(unfinished, source.size, reserved=source.reserved)
        try:
            step, zeros = 1 << 20, bytes(1 << 20)
            for offset in range(0, source.size, step):
                data = origin.read(offset, min(step, source.size - offset))
                if data != zeros[: len(data)]:
                    target.write(offset, data)
        except OutOfSpace:
            pool.delete_file(unfinished)
            raise
        pool.rename_file(unfinished, args["path"])
    except OutOfSpace as error:
        raise ApiError("917536", reason=f"no space for the copy in volume {volume.name}: {error}") from None
    return new_lun(core, volume, args["path"], os_type=source.os_type, size=source.size, reserved=source.reserved).uuid


def modify_lun(core: Core, args: Mapping[str, Any]) -> str:
    """Effect of PATCH luns: size, name, state and settings."""
    lun = core.luns.get(args["lun"])
    if lun is None:
        raise ApiError("5374875", lun=args["lun"])
    volume = existing(core, lun.volume)
    values: dict[str, Any] = dict(args["values"])
    if volume.state != "online":
        raise ApiError("5374866", volume=volume.name)
    if values.keys() & {"path", "size", "reserved"}:
        require_writable(volume)
    pool = core.pool(volume.uuid)
    if "path" in values:
        require_free_path(core, volume, values["path"], "1254196")
    file = pool.files[lun.path]
    was_reserved = file.reserved
    try:
        if "reserved" in values:
            file.reserved = values["reserved"]
        if "size" in values:
            file.resize(values["size"])
    except OutOfSpace as error:
        file.reserved = was_reserved
        raise ApiError("917536", reason=f"no space in volume {volume.name}: {error}") from None
    if "path" in values:
        pool.rename_file(lun.path, values["path"])
    if values.get("enabled"):
        values["space_error"] = False
    return core.change_lun(lun, **values).uuid


def delete_lun(core: Core, args: Mapping[str, Any]) -> None:
    """Effect of DELETE luns."""
    lun = core.luns.get(args["lun"])
    if lun is None:
        raise ApiError("5374875", lun=args["lun"])
    volume = existing(core, lun.volume)
    if volume.state != "online":
        raise ApiError("5374866", volume=volume.name)
    require_writable(volume)
    if core.maps_of(lun.uuid) and not args["mapped_too"]:
        raise ApiError("1254197")
    core.pool(volume.uuid).delete_file(lun.path)
    drop_lun(core, lun)
