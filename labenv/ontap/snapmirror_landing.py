"""How a Snapshot copy of the source arrives in the destination volume: blocks, record and LUNs together."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from labenv.ontap import records as r
from labenv.ontap.blocks.staging import Staged
from labenv.ontap.core import Core
from labenv.ontap.snapmirror_ends import Refused, common, drop_snapshot, find_version
from labenv.ontap.snapmirror_files import revert_in_place
from labenv.ontap.snapmirror_luns import adopt, translate
from labenv.ontap.snapmirror_policies import surplus
from labenv.ontap.snapmirror_records import MirrorPolicy, Relationship, Transfer
from labenv.ontap.snapshots import check_room, is_full, modify_snapshot
from labenv.ontap.volumes import restore_volume


def base_of(
    copies: Sequence[r.Snapshot], held: Sequence[r.Snapshot], snapshot: r.Snapshot
) -> tuple[r.Snapshot, r.Snapshot] | None:
    """The newest Snapshot copy of both ends that is older than the one to be sent, or else the newest of all."""
    return common(copies[: copies.index(snapshot)], held) or common(copies, held)


def step_base(
    core: Core, source: Core, near: r.Volume, far: r.Volume, snapshot: r.Snapshot
) -> tuple[r.Snapshot, r.Snapshot] | None:
    """What the transfer of one Snapshot copy starts from; both ends have it under the source's name afterwards."""
    pair = base_of(source.snapshots_of(near.uuid), core.snapshots_of(far.uuid), snapshot)
    if pair is not None and pair[0].name != pair[1].name:
        _follow_name(core, far, pair[1], pair[0].name)
        renamed = find_version(core.snapshots_of(far.uuid), pair[1].version_uuid)
        assert renamed is not None
        return pair[0], renamed
    return pair


def _follow_name(core: Core, far: r.Volume, snapshot: r.Snapshot, name: str) -> None:
    """Rename a Snapshot copy of the destination as it was renamed at the source."""
    _make_way(core, far, name)
    modify_snapshot(core, {"snapshot": snapshot.uuid, "values": {"name": name}})


def follow_names(core: Core, far: r.Volume, copies: Sequence[r.Snapshot]) -> None:
    """Rename Snapshot copies of the destination that have another name at the source, unless that is taken."""
    names = {s.version_uuid: s.name for s in copies}
    for snapshot in core.snapshots_of(far.uuid):
        name = names.get(snapshot.version_uuid, snapshot.name)
        if name != snapshot.name and core.find_snapshot(far.uuid, name) is None:
            _follow_name(core, far, snapshot, name)


def _make_way(core: Core, far: r.Volume, name: str) -> None:
    """Drop another Snapshot copy of a name that the source now uses; raises ``Refused`` if it is busy."""
    other = core.find_snapshot(far.uuid, name)
    if other is None:
        return
    if core.snapshot_busy(other):
        raise Refused(f"the destination has another Snapshot copy {name}, which is busy")
    drop_snapshot(core, other)


def make_room(core: Core, source: Core, near: r.Volume, far: r.Volume, policy: MirrorPolicy) -> None:
    """Let a full destination give up what its policy does not keep anyway, before the next Snapshot copy arrives.

    A mirror of a source that rotates its Snapshot copies would otherwise stop at the limit of its volume (TR 6.3).
    """
    if not is_full(core, far):
        return
    for snapshot in surplus(policy, core.snapshots_of(far.uuid), source.snapshots_of(near.uuid)):
        if not core.snapshot_busy(snapshot):
            drop_snapshot(core, snapshot)


def land(core: Core, source: Core, near: r.Volume, far: r.Volume, snapshot: r.Snapshot, staged: Staged | None) -> int:
    """Make the destination volume what the source was, with a Snapshot copy of the same name; gives the bytes sent."""
    if find_version(core.snapshots_of(far.uuid), snapshot.version_uuid) is not None:
        return 0
    base = step_base(core, source, near, far, snapshot)
    _make_way(core, far, snapshot.name)
    check_room(core, far)
    blocks = core.pool(far.uuid)
    size = source.pool(near.uuid).usage.size
    if blocks.usage.size < size:  # the destination grows with its source
        blocks.resize(size)
        far = core.change_volume(far, size=size)
    sent = core.blocks.replicate(
        near.uuid, snapshot.name, destination=far.uuid, base=None if base is None else base[0].name, staged=staged
    )
    luns = translate(core, source, far, snapshot.luns)
    svm = core.svms[far.svm]
    uuid = core.new_uuid("snapshot", svm.name, far.name, snapshot.name)
    core.snapshots[uuid] = dataclasses.replace(
        snapshot, uuid=uuid, volume=far.uuid, luns=luns, owners=(), expiry_time=None
    )
    adopt(core, far, luns)
    return sent


def bring_back(
    core: Core, source: Core, near: r.Volume, far: r.Volume, snapshot: r.Snapshot, staged: Staged | None
) -> int:
    """A restore makes the active file system what a Snapshot copy holds; all Snapshot copies stay. Gives bytes sent."""
    held = find_version(core.snapshots_of(far.uuid), snapshot.version_uuid)
    if held is None:
        return land(core, source, near, far, snapshot, staged)
    revert_in_place(core, far, held)
    return 0


def roll_back(
    core: Core, source: Core, near: r.Volume, far: r.Volume, relationship: Relationship, transfer: Transfer
) -> Relationship:
    """A resync drops what the destination has got since the newest Snapshot copy in common."""
    base = common(source.snapshots_of(near.uuid), core.snapshots_of(far.uuid))
    if base is None:
        raise Refused("the volumes have no Snapshot copy in common")
    if not transfer.preserve:
        restore_volume(core, {"volume": far.uuid, "snapshot": base[1].uuid})
    core.change_volume(core.volumes[far.uuid], type="dp")
    changed = dataclasses.replace(relationship, mirror="snapmirrored", quiesced=False, base=base[1].version_uuid)
    core.replication.relationships[relationship.uuid] = changed
    return changed
