"""Files of a volume: clones of LUNs and of plain files, and of ranges of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from labenv.devices import OutOfSpace
from labenv.ontap import records as r
from labenv.ontap.blocks.errors import NotPossible
from labenv.ontap.blocks.ranges import Range
from labenv.ontap.core import Core
from labenv.ontap.errors import ApiError
from labenv.ontap.luns import (
    lun_in_snapshot,
    new_lun,
    overwrite_lun,
    share_blocks,
    share_in_background,
)
from labenv.ontap.volumes import existing, require_online, require_writable


def check_plain_path(path: str) -> None:
    """Raise 6684674 for a path that cannot be that of a file: a volume of the lab has no directories of its own."""
    if not 0 < len(path) <= 255 or "/" in path or not path.isprintable():
        raise ApiError("6684674", target="path")


def _source(core: Core, volume: r.Volume, args: Mapping[str, Any]) -> tuple[r.Lun | None, r.Snapshot | None]:
    """The LUN (None: a plain file) and the Snapshot copy that a clone is made from; raises 13565952."""
    path, name = args["source_path"], args["source_snapshot"]
    if not name:
        if path not in core.pool(volume.uuid).files:
            raise ApiError("13565952", reason=f"there is no {path}")
        return core.find_lun(volume.uuid, path), None
    snapshot = core.find_snapshot(volume.uuid, name)
    if snapshot is None or path not in core.pool(volume.uuid).snapshots[name].files:
        raise ApiError("13565952", reason=f"there is no {path} in Snapshot copy {name}")
    if any(lun.path == path for lun in snapshot.luns):
        return lun_in_snapshot(core, volume, name, path)[1], snapshot
    return None, snapshot


def clone_file(core: Core, args: Mapping[str, Any]) -> str | None:
    """Effect of POST file/clone: one file of a volume, from the active file system or a Snapshot copy.

    The clone of a LUN is a LUN; one that is overwritten keeps its identity.
    """
    volume = existing(core, args["volume"])
    require_online(volume)
    require_writable(volume)
    path = args["path"]
    if path in core.pool(volume.uuid).files and not args["overwrite"]:
        raise ApiError("13565952", reason=f"{path} exists and overwrite_destination is not set")
    source, snapshot = _source(core, volume, args)
    target = core.find_lun(volume.uuid, path)
    if target is not None:
        if source is None:
            raise ApiError("13565952", reason=f"{path} is a LUN and {args['source_path']} is none")
        return overwrite_lun(core, {**args, "lun": target.uuid})
    share_blocks(core, volume, args, overwrite=args["overwrite"])
    share_in_background(core, volume, snapshot)
    if source is None:
        return None
    return new_lun(core, volume, path, os_type=source.os_type, size=source.size, reserved=source.reserved).uuid


def clone_ranges(core: Core, args: Mapping[str, Any]) -> None:
    """Effect of POST file/clone with ``range``: parts of a file that is there share blocks of another one."""
    volume = existing(core, args["volume"])
    require_online(volume)
    require_writable(volume)
    _, snapshot = _source(core, volume, args)
    if args["path"] not in core.pool(volume.uuid).files:
        raise ApiError("13565952", reason=f"there is no {args['path']}")
    try:
        core.pool(volume.uuid).clone_ranges(
            args["source_path"],
            args["path"],
            [Range(*part) for part in args["ranges"]],
            snapshot=args["source_snapshot"] or None,
        )
    except (NotPossible, OutOfSpace) as error:
        raise ApiError("13565952", reason=str(error)) from None
    share_in_background(core, volume, snapshot)


def restore_file(core: Core, volume: r.Volume, snapshot: r.Snapshot, path: str, target: str) -> None:
    """Single-file SnapRestore: a file as it was in a Snapshot copy; newer Snapshot copies stay (TR 6.7).

    Raises:
        ApiError: 13565952.
    """
    clone_file(
        core,
        {
            "volume": volume.uuid,
            "path": target,
            "source_path": path,
            "source_snapshot": snapshot.name,
            "overwrite": True,
        },
    )
