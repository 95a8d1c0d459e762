"""Consistency groups: make, restore, dissolve, and their Snapshot copies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from labenv.ontap import records as r
from labenv.ontap.core import Core
from labenv.ontap.errors import ApiError
from labenv.ontap.fence import check_volumes, lift
from labenv.ontap.snapshots import take
from labenv.ontap.volumes import restore_volume


def _existing(core: Core, uuid: str) -> r.ConsistencyGroup:
    group = core.groups.get(uuid)
    if group is None:
        raise ApiError("53411842")
    return group


def create_group(core: Core, args: Mapping[str, Any]) -> str:
    """Effect of POST consistency-groups."""
    svm = core.svm(uuid=args["svm"])
    if any(g.name == args["name"] and g.svm == svm.uuid for g in core.groups.values()):
        raise ApiError("53411860", name=args["name"])
    for uuid in args["volumes"]:
        if uuid not in core.volumes:
            raise ApiError("53411861", volume=uuid)
    uuid = core.new_uuid("consistency-group", svm.name, args["name"])
    core.groups[uuid] = r.ConsistencyGroup(uuid, args["name"], svm.uuid, tuple(args["volumes"]))
    return uuid


def delete_group(core: Core, args: Mapping[str, Any]) -> None:
    """Effect of DELETE consistency-groups: the volumes and their Snapshot copies stay."""
    group = _existing(core, args["group"])
    for key, snapshot in list(core.group_snapshots.items()):
        if snapshot.group != group.uuid:
            continue
        if snapshot.fenced_until is not None:
            lift(core, snapshot)
        else:
            del core.group_snapshots[key]
    del core.groups[group.uuid]


def create_group_snapshot(core: Core, args: Mapping[str, Any]) -> str:
    """Effect of POST consistency-groups/.../snapshots: one instant for all volumes, or nothing (TR 6.2)."""
    group = _existing(core, args["group"])
    name = args["name"]
    volumes = check_volumes(core, group, name)
    made: list[r.Snapshot] = []
    try:
        for volume in volumes:
            made.append(take(core, volume, name, snapmirror_label=args["snapmirror_label"]))
    except ApiError as error:
        for snapshot in made:
            core.pool(snapshot.volume).delete_snapshot(snapshot.name)
            del core.snapshots[snapshot.uuid]
        raise ApiError("53411921", reason=error.message) from error
    record = r.GroupSnapshot(
        uuid=core.new_uuid("group-snapshot", group.uuid, name),
        name=name,
        group=group.uuid,
        create_time=core.now,
        consistency_type=args["consistency_type"],
        comment=args["comment"],
        snapmirror_label=args["snapmirror_label"],
        snapshots=tuple(snapshot.uuid for snapshot in made),
    )
    core.group_snapshots[record.uuid] = record
    return record.uuid


def delete_group_snapshot(core: Core, args: Mapping[str, Any]) -> None:
    """Effect of DELETE consistency-groups/.../snapshots: in every volume, or in none."""
    record = core.group_snapshots.get(args["snapshot"])
    if record is None:
        raise ApiError("4")
    if record.fenced_until is not None:
        lift(core, record)
        return
    members = [core.snapshots[uuid] for uuid in record.snapshots if uuid in core.snapshots]
    for snapshot in members:
        if core.replication.holds(snapshot):
            raise ApiError("53412008", snapshot=snapshot.name)
        if core.snapshot_busy(snapshot):
            raise ApiError("53412007", snapshot=snapshot.name)
    for snapshot in members:
        core.pool(snapshot.volume).delete_snapshot(snapshot.name)
        del core.snapshots[snapshot.uuid]
    del core.group_snapshots[record.uuid]


def restore_group(core: Core, args: Mapping[str, Any]) -> None:
    """Effect of PATCH consistency-groups with ``restore_to.snapshot``: every volume, or none."""
    group = _existing(core, args["group"])
    record = core.group_snapshots.get(args["snapshot"])
    if record is None or record.group != group.uuid or record.fenced_until is not None:
        raise ApiError("53411918", reason="there is no such Snapshot copy")
    for uuid in record.snapshots:
        snapshot = core.snapshots.get(uuid)
        if snapshot is None:
            raise ApiError("53411918", reason="a volume's Snapshot copy is missing")
        copies = core.snapshots_of(snapshot.volume)
        if any(core.snapshot_busy(newer) for newer in copies[copies.index(snapshot) + 1 :]):
            raise ApiError("53411918", reason="a newer Snapshot copy is busy")
        if core.volumes[snapshot.volume].state != "online":
            raise ApiError("53411918", reason="a volume is not online")
    for uuid in record.snapshots:
        restore_volume(core, {"volume": core.snapshots[uuid].volume, "snapshot": uuid})
