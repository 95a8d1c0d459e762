"""FlexVols: create, FlexClone, resize, restore, split, delete."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from labenv.devices import OutOfSpace
from labenv.ontap import records as r
from labenv.ontap.blocks.errors import BlockStoreError
from labenv.ontap.blocks.staging import Steps
from labenv.ontap.core import Core
from labenv.ontap.errors import ApiError
from labenv.ontap.snapshots import take

LEAST_SIZE = 20 << 20
"""Bytes of the smallest FlexVol."""


def check_volume_name(name: str) -> None:
    """Refuse a name that ONTAP does not take; raises 917886, 917887 or 917888."""
    if len(name) > 203:
        raise ApiError("917886", target="name")
    if not name or not (name[0].isascii() and (name[0].isalpha() or name[0] == "_")):
        raise ApiError("917887", target="name")
    for character in name:
        if not (character.isascii() and (character.isalnum() or character == "_")):
            raise ApiError("917888", character=character, target="name", status=400)


def next_msid(core: Core) -> int:
    """The next master data set id of the cluster."""
    return max((v.msid for v in core.volumes.values()), default=2150000000) + 1


def require_free_name(core: Core, svm: r.Svm, name: str) -> None:
    """Raise 917526 if a volume of that name exists."""
    if core.find_volume(svm.uuid, name) is not None:
        raise ApiError("917526", name=name, svm=svm.name, target="name")


def create_volume(core: Core, args: Mapping[str, Any]) -> str:
    """Effect of POST volumes."""
    svm = core.svm(uuid=args["svm"])
    require_free_name(core, svm, args["name"])
    uuid = core.new_uuid("volume", svm.name, args["name"])
    try:
        core.blocks.create_volume(
            uuid,
            aggregate=args["aggregate"],
            size=args["size"],
            guarantee=args["guarantee"] == "volume",
            snapshot_reserve=args["snapshot_reserve"],
        )
    except OutOfSpace:
        name = core.aggregates[args["aggregate"]].name
        raise ApiError("917536", reason=f"aggregate {name} has no space for {args['size']} bytes") from None
    core.volumes[uuid] = r.Volume(
        uuid=uuid,
        name=args["name"],
        svm=svm.uuid,
        aggregate=args["aggregate"],
        size=args["size"],
        create_time=core.now,
        msid=next_msid(core),
        type=args["type"],
        state=args["state"],
        guarantee=args["guarantee"],
        snapshot_policy=args["snapshot_policy"],
        snapshot_reserve=args["snapshot_reserve"],
        comment=args["comment"],
        dedupe=args["dedupe"],
        compression=args["compression"],
        is_svm_root=args.get("is_svm_root", False),
        extra=dict(args["extra"]),
    )
    core.topology += 1
    return uuid


def clone_volume(core: Core, args: Mapping[str, Any]) -> str | Steps[str]:
    """Effect of POST volumes with ``clone``: a writable volume over a Snapshot copy's blocks (TR 2.1)."""
    return _clone_and_split(core, args) if args["split"] else _clone(core, args)


def _clone_and_split(core: Core, args: Mapping[str, Any]) -> Steps[str]:
    job = core.jobs[args["job"]]
    uuid = job.result  # it is there already if the lab was killed during the split
    if uuid is None:
        uuid = _clone(core, args)
        core.jobs[job.uuid] = dataclasses.replace(job, result=uuid)
    with suppress(ApiError):  # without the room for blocks of its own it stays a clone
        yield from split_volume(core, uuid)
    return uuid


def _clone(core: Core, args: Mapping[str, Any]) -> str:
    svm = core.svm(uuid=args["svm"])
    require_free_name(core, svm, args["name"])
    parent = core.volumes.get(args["parent"])
    if parent is None:
        raise ApiError("524601", name=args["parent"])
    require_online(parent)
    if args["snapshot"]:
        snapshot = core.snapshots.get(args["snapshot"])
        if snapshot is None or snapshot.volume != parent.uuid:
            raise ApiError("1638600", snapshot=args["snapshot_name"])
    elif parent.type == "dp":  # a mirror takes no Snapshot copies of its own: its newest one is cloned
        copies = core.snapshots_of(parent.uuid)
        if not copies:
            raise ApiError("917536", reason=f"volume {parent.name} has no Snapshot copy: it is not initialized")
        snapshot = copies[-1]
    else:
        snapshot = take(core, parent, f"clone_{args['name']}.{core.clock.time:%Y-%m-%d_%H%M%S}.0")
    uuid = core.new_uuid("volume", svm.name, args["name"])
    guarantee = args["guarantee"] or parent.guarantee
    try:
        core.blocks.clone_volume(uuid, parent=parent.uuid, snapshot=snapshot.name, guarantee=guarantee == "volume")
    except OutOfSpace as error:
        if not args["snapshot"] and parent.type != "dp":
            core.pool(parent.uuid).delete_snapshot(snapshot.name)
            del core.snapshots[snapshot.uuid]
        raise ApiError("917536", reason=f"no space to guarantee volume {args['name']}: {error}") from None
    core.volumes[uuid] = dataclasses.replace(
        parent,
        uuid=uuid,
        name=args["name"],
        svm=svm.uuid,
        create_time=core.now,
        msid=next_msid(core),
        type="rw",
        guarantee=guarantee,
        comment=args["comment"],
        is_svm_root=False,
        clone=r.CloneOrigin(parent.uuid, snapshot.uuid, snapshot.name),
        extra=dict(args["extra"]),
    )
    for lun in snapshot.luns:  # a clone's LUNs are new disks to a host: new uuid and serial number, no maps
        adopt_lun(core, lun, volume=uuid, svm=svm)
    core.topology += 1
    return uuid


def adopt_lun(core: Core, lun: r.Lun, *, volume: str, svm: r.Svm) -> r.Lun:
    """Give a LUN file that came with a volume's blocks an identity of its own."""
    name = f"/vol/{core.volumes[volume].name}{lun.path}"
    adopted = dataclasses.replace(
        lun,
        uuid=core.new_uuid("lun", svm.name, name),
        serial_number=core.new_serial(svm.name, name),
        volume=volume,
        svm=svm.uuid,
        create_time=core.now,
        space_error=False,
    )
    core.luns[adopted.uuid] = adopted
    return adopted


def require_online(volume: r.Volume, code: str = "917775") -> None:
    """Raise if a volume is not online."""
    if volume.state != "online":
        raise ApiError(code, name=volume.name)


def require_writable(volume: r.Volume) -> None:
    """Raise 917536 if a volume is the read-only destination of a mirror."""
    if volume.type == "dp":
        raise ApiError("917536", reason=f"volume {volume.name} is a data protection volume and read-only")


def existing(core: Core, uuid: str) -> r.Volume:
    """The volume of a job's argument; raises 918235 if it has gone meanwhile."""
    volume = core.volumes.get(uuid)
    if volume is None:
        raise ApiError("918235", volume=uuid)
    return volume


def modify_volume(core: Core, args: Mapping[str, Any]) -> Steps[None]:
    """Effect of PATCH volumes: every given property, or none of them."""
    volume = _changeable(core, args)
    values: Mapping[str, Any] = args["values"]
    if args.get("split"):
        yield from split_volume(core, volume.uuid)
        return
    if args.get("deduplicate") or (values.get("dedupe", "none") != "none" and volume.dedupe == "none"):
        yield from core.pool(volume.uuid).deduplicate_steps()
        volume = _changeable(core, args)
    _change_space(core, volume, values)
    core.change_volume(volume, **values)


def _changeable(core: Core, args: Mapping[str, Any]) -> r.Volume:
    volume = existing(core, args["volume"])
    values: Mapping[str, Any] = args["values"]
    if "name" in values and values["name"] != volume.name:
        require_free_name(core, core.svms[volume.svm], values["name"])
    if "size" in values and volume.state != "online" and values.get("state") != "online":
        raise ApiError("9437885", name=volume.name)
    return volume


def _change_space(core: Core, volume: r.Volume, values: Mapping[str, Any]) -> None:
    """Size, guarantee and reserve of a volume's blocks: all of them, or none."""
    blocks = core.pool(volume.uuid)
    size, guarantee, reserve = volume.size, blocks.guarantee, blocks.snapshot_reserve
    try:
        blocks.snapshot_reserve = values.get("snapshot_reserve", reserve)
        if "guarantee" in values:
            blocks.guarantee = values["guarantee"] == "volume"
        if values.get("size", size) != size:
            blocks.resize(values["size"])
    except (OutOfSpace, BlockStoreError) as error:
        blocks.guarantee = guarantee
        blocks.snapshot_reserve = reserve
        raise ApiError("917536", reason=f"volume {volume.name}: {error}") from None


def split_volume(core: Core, uuid: str) -> Steps[None]:
    """A FlexClone volume gets blocks of its own and lets its parent's Snapshot copy go."""
    volume = existing(core, uuid)
    try:
        yield from core.pool(uuid).split_steps()
    except OutOfSpace as error:
        raise ApiError("917536", reason=f"no space to split {volume.name} from its parent: {error}") from None
    core.change_volume(existing(core, uuid), clone=None)


def restore_volume(core: Core, args: Mapping[str, Any]) -> None:
    """Effect of PATCH volumes with ``restore_to.snapshot``: the volume as it was; newer Snapshot copies go (TR 8)."""
    volume = existing(core, args["volume"])
    require_online(volume, "9437885")
    snapshot = core.snapshots.get(args["snapshot"])
    if snapshot is None or snapshot.volume != volume.uuid:
        raise ApiError("4")
    copies = core.snapshots_of(volume.uuid)
    newer = copies[copies.index(snapshot) + 1 :]
    held = [s.name for s in newer if core.snapshot_busy(s)]
    if any("snapmirror" in core.snapshot_owners(s) for s in newer):
        raise ApiError("1638480")
    if any(s.expiry_time is not None and s.expiry_time > core.now for s in newer):
        raise ApiError("9437886", name=volume.name)
    if held:
        raise ApiError("524511", snapshot=snapshot.name, reason=f"newer copies are busy: {', '.join(held)}")
    core.pool(volume.uuid).restore_snapshot(snapshot.name)
    for gone in newer:
        del core.snapshots[gone.uuid]
    kept = {lun.uuid: lun for lun in snapshot.luns}
    for lun in core.luns_of(volume.uuid):
        if lun.uuid not in kept:
            drop_lun(core, lun)
    for lun in snapshot.luns:
        current = core.luns.get(lun.uuid)
        core.luns[lun.uuid] = lun if current is None else dataclasses.replace(lun, enabled=current.enabled)
    core.change_volume(volume, size=core.pool(volume.uuid).usage.size)


def drop_lun(core: Core, lun: r.Lun) -> None:
    """Forget a LUN and its maps (not its blocks)."""
    for mapping in core.maps_of(lun.uuid):
        del core.maps[f"{mapping.lun}/{mapping.igroup}"]
    del core.luns[lun.uuid]
    core.topology += 1


def delete_volume(core: Core, args: Mapping[str, Any]) -> None:
    """Effect of DELETE volumes."""
    volume = existing(core, args["volume"])
    if core.clones_of(volume.uuid):
        raise ApiError("524615", name=volume.name)
    end = core.replication.end_of(volume.uuid)
    if end:
        raise ApiError("917536", reason=f"volume {volume.name} is the {end} of a SnapMirror relationship")
    if volume.is_svm_root and any(v.svm == volume.svm and v.uuid != volume.uuid for v in core.volumes.values()):
        raise ApiError("917531")
    for lun in core.luns_of(volume.uuid):
        drop_lun(core, lun)
    for snapshot in core.snapshots_of(volume.uuid):
        del core.snapshots[snapshot.uuid]
    for group in list(core.groups.values()):
        if volume.uuid in group.volumes:
            rest = tuple(v for v in group.volumes if v != volume.uuid)
            core.groups[group.uuid] = dataclasses.replace(group, volumes=rest)
    core.blocks.delete_volume(volume.uuid)
    del core.volumes[volume.uuid]
    core.topology += 1
