"""Snapshot copies: create, rename, delete; alone, in bulk and of consistency groups."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from labenv.devices import OutOfSpace
from labenv.ontap import records as r
from labenv.ontap.core import Core
from labenv.ontap.errors import ApiError

_NAME = re.compile(r"^[^\s/:*?\"<>|\\]{1,255}$")
OLD_LIMIT = 255
"""Snapshot copies of a volume up to ONTAP 9.3."""

OLD_MIRROR_LIMIT = 254
"""The same for a volume that is the source or the destination of a mirror."""

DESTINATION_LIMIT = 1019
"""Snapshot copies of a mirror's destination from ONTAP 9.4; other volumes have 1,023."""

RESERVED_PREFIXES = ("snapmirror.",)
"""Beginnings of names that only the system gives."""


def check_snapshot_name(name: str) -> None:
    """Refuse a name that ONTAP does not take; raises 1638518 or 1638477. Braces are fine: SMHV uses ``{guid}``."""
    if not _NAME.match(name):
        raise ApiError("1638518", name=name, target="name")
    if name.startswith(RESERVED_PREFIXES):
        raise ApiError("1638477", name=name, target="name")


def blocked(core: Core, volume: r.Volume) -> ApiError | None:
    """The error of any Snapshot operation on a volume now, while LUN clones are being made in it (TR appendix)."""
    if core.locked(f"snapshots:{volume.uuid}"):
        return ApiError("1520351", volume=volume.name)
    if core.locked(f"revert:{volume.uuid}"):
        return ApiError("1638532", volume=volume.name)
    return None


def limit_of(core: Core, volume: r.Volume) -> int:
    """How many Snapshot copies a volume can hold (TR 6.3).

    That is what the cluster's version of ONTAP allows, less what SnapMirror keeps for itself: where 255 are the most,
    either end of a mirror has 254; where 1,023 are, its destination has 1,019.
    """
    most = core.spec.snapshot_limit
    if most > OLD_LIMIT:
        return min(most, DESTINATION_LIMIT) if core.replication.of_volume(volume.uuid) else most
    return min(most, OLD_MIRROR_LIMIT) if core.replication.end_of(volume.uuid) else most


def is_full(core: Core, volume: r.Volume) -> bool:
    """Whether a volume takes no further Snapshot copy."""
    return core.snapshots_by_volume.count(volume.uuid) >= limit_of(core, volume)


def check_room(core: Core, volume: r.Volume) -> None:
    """Raise 525062 if the volume holds all the Snapshot copies that it can (TR 6.3)."""
    if is_full(core, volume):
        raise ApiError("525062", volume=volume.name, count=core.snapshots_by_volume.count(volume.uuid))


def take(
    core: Core,
    volume: r.Volume,
    name: str,
    *,
    comment: str = "",
    expiry_time: int | None = None,
    snapmirror_label: str = "",
) -> r.Snapshot:
    """Make a Snapshot copy now; raises 9437885-like errors, 525059, 525062 or 524479."""
    if volume.state != "online":
        raise ApiError("524479", name=volume.name)
    if core.find_snapshot(volume.uuid, name) is not None:
        raise ApiError("525059", snapshot=name, volume=volume.name)
    check_room(core, volume)
    core.settle(volume)
    try:
        core.pool(volume.uuid).create_snapshot(name)
    except OutOfSpace:
        raise ApiError("524479", name=volume.name) from None
    return record_snapshot(
        core, volume, name, comment=comment, expiry_time=expiry_time, snapmirror_label=snapmirror_label
    )


def record_snapshot(
    core: Core,
    volume: r.Volume,
    name: str,
    *,
    comment: str = "",
    expiry_time: int | None = None,
    snapmirror_label: str = "",
) -> r.Snapshot:
    """Enter a Snapshot copy that the block store has."""
    svm = core.svms[volume.svm]
    files = core.pool(volume.uuid).snapshots[name].files
    snapshot = r.Snapshot(
        uuid=core.new_uuid("snapshot", svm.name, volume.name, name),
        name=name,
        volume=volume.uuid,
        create_time=core.now,
        version_uuid=core.new_uuid("snapshot-version", svm.name, volume.name, name),
        comment=comment,
        expiry_time=expiry_time,
        snapmirror_label=snapmirror_label,
        luns=tuple(lun for lun in core.luns_of(volume.uuid) if lun.path in files),
    )
    core.snapshots[snapshot.uuid] = snapshot
    return snapshot


def create_snapshot(core: Core, args: Mapping[str, Any]) -> str:
    """Effect of POST snapshots."""
    volume = core.volumes.get(args["volume"])
    if volume is None:
        raise ApiError("918235", volume=args["volume"])
    return take(
        core,
        volume,
        args["name"],
        comment=args["comment"],
        expiry_time=args["expiry_time"],
        snapmirror_label=args["snapmirror_label"],
    ).uuid


def modify_snapshot(core: Core, args: Mapping[str, Any]) -> None:
    """Effect of PATCH snapshots: rename, comment, expiry time, label."""
    snapshot = core.snapshots.get(args["snapshot"])
    if snapshot is None:
        raise ApiError("1638600", snapshot=args["snapshot"])
    values = dict(args["values"])
    name = values.get("name", snapshot.name)
    if name != snapshot.name:
        volume = core.volumes[snapshot.volume]
        if core.find_snapshot(snapshot.volume, name) is not None:
            raise ApiError("525059", snapshot=name, volume=volume.name)
        core.pool(snapshot.volume).rename_snapshot(snapshot.name, name)
        for clone in core.clones_of(snapshot.volume):
            if clone.clone is not None and clone.clone.snapshot == snapshot.uuid:
                core.change_volume(clone, clone=dataclasses.replace(clone.clone, snapshot_name=name))
    core.snapshots[snapshot.uuid] = dataclasses.replace(snapshot, **values)


def delete_snapshot(core: Core, args: Mapping[str, Any]) -> None:
    """Effect of DELETE snapshots; a busy copy fails the job with 1638555 (TR 6.8)."""
    snapshot = core.snapshots.get(args["snapshot"])
    if snapshot is None:
        raise ApiError("1638600", snapshot=args["snapshot"])
    volume = core.volumes[snapshot.volume]
    if core.snapshot_busy(snapshot) and not args.get("ignore_owners"):
        svm = core.svms[volume.svm]
        raise ApiError("1638555", snapshot=snapshot.name, volume=volume.name, svm=svm.name)
    core.pool(volume.uuid).delete_snapshot(snapshot.name)
    del core.snapshots[snapshot.uuid]
