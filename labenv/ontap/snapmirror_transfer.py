"""SnapMirror transfers: how they begin, how each Snapshot copy arrives, how they end.

A transfer is a record in its destination cluster. Each Snapshot copy arrives as a whole, its blocks, its record and the
LUNs in one commit; a process that is killed between two of them goes on with the next one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from datetime import timedelta

from labenv.clock import SECOND
from labenv.devices import OutOfSpace
from labenv.interconnect import LinkDown
from labenv.ontap import records as r
from labenv.ontap.blocks.errors import BlockStoreError
from labenv.ontap.core import Core
from labenv.ontap.errors import ApiError
from labenv.ontap.snapmirror_luns import adopt, translate
from labenv.ontap.snapmirror_policies import chosen, find_policy, surplus
from labenv.ontap.snapmirror_records import ACTIVE, Destination, MirrorPolicy, Problem, Relationship, Transfer
from labenv.ontap.snapshots import check_room, take
from labenv.ontap.volumes import restore_volume

MIB = 1 << 20
KEPT = 24 * 3600 * SECOND
"""How long the record of a transfer can be read."""


class Refused(Exception):
    """A transfer cannot begin or go on; the text says why."""


def ends(core: Core, relationship: Relationship) -> tuple[Core, r.Volume, r.Volume]:
    """The source's cluster, the source volume and the destination volume, all of them able to take part.

    Raises:
        Refused: the source does not answer, or a volume is gone or not online.
    """
    try:
        source = core.interconnect.reach(core, relationship.source.cluster)
    except LinkDown as error:
        raise Refused(str(error)) from None
    volumes = (
        source.volumes.get(relationship.source.volume),
        core.volumes.get(relationship.destination.volume),
    )
    for volume, end in zip(volumes, (relationship.source, relationship.destination), strict=True):
        if volume is None:
            raise Refused(f"volume {end.volume_name} of cluster {end.cluster} does not exist any more")
        if volume.state != "online":
            raise Refused(f"volume {end.volume_name} of cluster {end.cluster} is {volume.state}")
    assert volumes[0] is not None
    assert volumes[1] is not None
    return source, volumes[0], volumes[1]


def common(near: Sequence[r.Snapshot], far: Sequence[r.Snapshot]) -> tuple[r.Snapshot, r.Snapshot] | None:
    """The newest Snapshot copy that two volumes have in common, as each of them has it."""
    versions = {s.version_uuid: s for s in far}
    for snapshot in reversed(near):
        if snapshot.version_uuid in versions:
            return snapshot, versions[snapshot.version_uuid]
    return None


def relationship_policy(core: Core, relationship: Relationship) -> MirrorPolicy:
    """The policy of a relationship; that of a policy which is gone is Asynchronous."""
    policy = find_policy(core, relationship.policy, svm=relationship.destination.svm)
    policy = policy or find_policy(core, "Asynchronous")
    assert policy is not None
    return policy


# beginning ------------------------------------------------------------------------------------------------------------


def begin(
    core: Core,
    relationship: Relationship,
    kind: str,
    *,
    source_snapshot: str = "",
    preserve: bool = False,
    throttle: int = 0,
    files: tuple[tuple[str, str], ...] = (),
) -> Transfer:
    """Start a transfer; nothing is changed unless all of it can be.

    Raises:
        Refused: it cannot begin.
    """
    replication = core.replication
    if replication.active(relationship.uuid) is not None:
        raise Refused("another transfer is in progress")
    source, near, far = ends(core, relationship)
    copies, held = source.snapshots_of(near.uuid), core.snapshots_of(far.uuid)
    base = common(copies, held)
    policy = relationship_policy(core, relationship)
    if kind in ("update", "resync") and base is None:
        raise Refused("the volumes have no Snapshot copy in common")
    if base is not None:
        _check_base(core, source, base, held, kind=kind, preserve=preserve)
    queue: list[r.Snapshot]
    if source_snapshot:
        queue = _named(copies, base, source_snapshot, kind=kind)
    else:
        newer = copies if base is None else copies[copies.index(base[0]) + 1 :]
        queue = chosen(policy, newer, baseline=kind == "initialize")
    reference = None
    if policy.create_snapshot and not source_snapshot and kind != "restore":
        reference = _take_reference(core, source, near, relationship)
        queue.append(reference)
    transfer = Transfer(
        uuid=core.new_uuid("transfer", relationship.uuid),
        relationship=relationship.uuid,
        kind=kind,
        start_time=core.now,
        queue=tuple(s.version_uuid for s in queue),
        reference="" if reference is None else reference.version_uuid,
        source_snapshot=source_snapshot,
        preserve=preserve,
        throttle=throttle,
        files=files,
    )
    there = source.replication.destinations.get(relationship.uuid)
    if not relationship.restore:
        if there is None:
            there = Destination(relationship.uuid, relationship.source, relationship.destination, relationship.policy)
        source.replication.destinations[relationship.uuid] = dataclasses.replace(
            there,
            policy=relationship.policy,
            base=there.base if base is None else base[0].version_uuid,
            sending=transfer.queue,
        )
    replication.relationships[relationship.uuid] = dataclasses.replace(
        relationship, last_transfer=transfer.uuid, last_type=kind
    )
    forget_old(core)
    replication.transfers[transfer.uuid] = transfer
    try:
        transfer = _next_step(core, transfer)
    except Refused as refused:
        fail(core, transfer, str(refused))
        raise
    replication.start_transfer(transfer.uuid)
    return transfer


def begin_or_record(
    core: Core,
    relationship: Relationship,
    kind: str,
    *,
    source_snapshot: str = "",
    throttle: int = 0,
    files: tuple[tuple[str, str], ...] = (),
) -> Transfer:
    """Start a transfer; one that cannot begin is recorded as failed and leaves the relationship unhealthy.

    Raises:
        ApiError: the code of a failed transfer of that kind.
    """
    replication = core.replication
    try:
        return begin(core, relationship, kind, source_snapshot=source_snapshot, throttle=throttle, files=files)
    except Refused as refused:
        error = ApiError(FAILED[kind], reason=str(refused))
        if replication.active(relationship.uuid) is None and not relationship.restore:
            record_refusal(core, relationship, kind, error)
        raise error from None


def record_refusal(core: Core, relationship: Relationship, kind: str, error: ApiError) -> None:
    """Keep a transfer that did not even begin."""
    current = core.replication.relationships[relationship.uuid]
    uuid = core.new_uuid("transfer", relationship.uuid)
    core.replication.transfers[uuid] = Transfer(
        uuid, relationship.uuid, kind, core.now, "failed", end_time=core.now,
        failure=r.Failure(error.code, error.message),
    )  # fmt: skip
    core.replication.relationships[relationship.uuid] = dataclasses.replace(
        current, problems=(Problem(error.code, error.message),), last_transfer=uuid, last_type=kind
    )
    forget_old(core)


def _check_base(
    core: Core,
    source: Core,
    base: tuple[r.Snapshot, r.Snapshot],
    held: Sequence[r.Snapshot],
    *,
    kind: str,
    preserve: bool,
) -> None:
    """Refuse what clones stand in the way of.

    An update gives its old reference copy up on both ends; one that backs a FlexClone volume cannot be given up, so
    replication waits until the clone is split or deleted. A resync drops what is newer than the base.
    """
    if kind == "update" and base[0].name.startswith("snapmirror."):
        for cluster, snapshot in ((source, base[0]), (core, base[1])):
            if "volume_clone" in cluster.snapshot_owners(snapshot):
                raise Refused(
                    f"a FlexClone volume of cluster {cluster.spec.name} holds the reference copy {snapshot.name}; "
                    f"split or delete the clone"
                )
    if kind == "resync" and not preserve:
        busy = [s.name for s in held[held.index(base[1]) + 1 :] if core.snapshot_busy(s)]
        if busy:
            raise Refused(f"newer Snapshot copies of the destination are busy: {', '.join(busy)}")


def _named(
    copies: Sequence[r.Snapshot], base: tuple[r.Snapshot, r.Snapshot] | None, name: str, *, kind: str
) -> list[r.Snapshot]:
    found = next((s for s in copies if s.name == name), None)
    if found is None:
        raise Refused(f"the source has no Snapshot copy {name}")
    if kind == "restore" or base is None:
        return [found]
    if found is base[0]:
        return []
    if copies.index(found) < copies.index(base[0]):
        raise Refused(f"Snapshot copy {name} is older than {base[0].name}, which the destination has")
    return [found]


def _take_reference(core: Core, source: Core, near: r.Volume, relationship: Relationship) -> r.Snapshot:
    """The Snapshot copy of the source that an update transfers."""
    msid = core.volumes[relationship.destination.volume].msid
    prefix = reference_prefix(relationship, msid)
    when = source.clock.time
    while source.find_snapshot(near.uuid, f"{prefix}{when:%Y-%m-%d_%H%M%S}") is not None:
        when += timedelta(seconds=1)
    try:
        return take(source, near, f"{prefix}{when:%Y-%m-%d_%H%M%S}")
    except ApiError as error:
        raise Refused(f"the source took no Snapshot copy: {error.message}") from None


def reference_prefix(relationship: Relationship, msid: int) -> str:
    """How the names of a relationship's own Snapshot copies begin."""
    return f"snapmirror.{relationship.destination.svm}_{msid}."


def forget_old(core: Core) -> None:
    """Drop records of transfers that ended more than a day ago, except each relationship's last one."""
    replication = core.replication
    last = {relationship.last_transfer for relationship in replication.relationships.values()}
    for uuid, transfer in list(replication.transfers.items()):
        if transfer.end_time is not None and transfer.end_time + KEPT < core.now and uuid not in last:
            del replication.transfers[uuid]


# one Snapshot copy after the other ------------------------------------------------------------------------------------


def _next_step(core: Core, transfer: Transfer) -> Transfer:
    """Work out what comes next and when it arrives."""
    relationship = core.replication.relationships[transfer.relationship]
    planned, name = 0, ""
    if transfer.queue and not transfer.files:
        source, near, far = ends(core, relationship)
        snapshot = find_version(source.snapshots_of(near.uuid), transfer.queue[0])
        if snapshot is None:
            raise Refused("a Snapshot copy that was to be sent is gone from the source")
        name = snapshot.name
        if find_version(core.snapshots_of(far.uuid), snapshot.version_uuid) is None:
            base = _step_base(core, source, near, far, snapshot)
            planned = core.blocks.transfer_size(
                near.uuid, name, destination=far.uuid, base=None if base is None else base[0].name
            )
    seconds = planned / MIB * core.costs["ontap.snapmirror.mib"]
    policy = relationship_policy(core, relationship)
    throttle = transfer.throttle or relationship.throttle or policy.throttle
    if throttle:
        seconds = max(seconds, planned / 1024 / throttle)
    if transfer.snapshot == "":
        seconds += core.costs["ontap.snapmirror.start"]
    changed = dataclasses.replace(
        transfer,
        snapshot=name or transfer.snapshot,
        planned=planned,
        since=core.now,
        due=core.now + max(1, round(seconds * SECOND)),
    )
    core.replication.transfers[transfer.uuid] = changed
    return changed


def find_version(copies: Sequence[r.Snapshot], version: str) -> r.Snapshot | None:
    """The Snapshot copy of a version."""
    return next((s for s in copies if s.version_uuid == version), None)


def _step_base(
    core: Core, source: Core, near: r.Volume, far: r.Volume, snapshot: r.Snapshot
) -> tuple[r.Snapshot, r.Snapshot] | None:
    """What the transfer of one Snapshot copy starts from; both ends have it under the source's name afterwards."""
    copies = source.snapshots_of(near.uuid)
    older, held = copies[: copies.index(snapshot)], core.snapshots_of(far.uuid)
    pair = common(older, held) or common(copies, held)
    if pair is not None and pair[0].name != pair[1].name:
        _follow_name(core, far, pair[1], pair[0].name)
        renamed = find_version(core.snapshots_of(far.uuid), pair[1].version_uuid)
        assert renamed is not None
        return pair[0], renamed
    return pair


def _follow_name(core: Core, far: r.Volume, snapshot: r.Snapshot, name: str) -> None:
    """Rename a Snapshot copy of the destination as it was renamed at the source."""
    _make_way(core, far, name)
    core.pool(far.uuid).rename_snapshot(snapshot.name, name)
    core.snapshots[snapshot.uuid] = dataclasses.replace(snapshot, name=name)


def _make_way(core: Core, far: r.Volume, name: str) -> None:
    """Drop another Snapshot copy of a name that the source now uses; raises ``Refused`` if it is busy."""
    other = core.find_snapshot(far.uuid, name)
    if other is None:
        return
    if core.snapshot_busy(other):
        raise Refused(f"the destination has another Snapshot copy {name}, which is busy")
    drop_snapshot(core, other)


def drop_snapshot(core: Core, snapshot: r.Snapshot) -> None:
    """Delete a Snapshot copy that nobody holds."""
    core.pool(snapshot.volume).delete_snapshot(snapshot.name)
    del core.snapshots[snapshot.uuid]


def arrive(core: Core, uuid: str) -> bool:
    """The Snapshot copy that is due arrives; the caller commits. Gives whether the transfer goes on."""
    transfer = core.replication.transfers.get(uuid)
    if transfer is None or transfer.state not in ACTIVE:
        return False
    try:
        return _arrive(core, transfer)
    except Refused as refused:
        fail(core, core.replication.transfers[uuid], str(refused))
    except ApiError as error:
        fail(core, core.replication.transfers[uuid], error.message)
    except (OutOfSpace, BlockStoreError) as error:
        fail(core, core.replication.transfers[uuid], str(error))
    return False


def _arrive(core: Core, transfer: Transfer) -> bool:
    relationship = core.replication.relationships[transfer.relationship]
    source, near, far = ends(core, relationship)
    if transfer.kind == "resync" and relationship.mirror != "snapmirrored":
        relationship = _roll_back(core, source, near, far, relationship, transfer)
        far = core.volumes[far.uuid]
    if transfer.queue:
        snapshot = find_version(source.snapshots_of(near.uuid), transfer.queue[0])
        if snapshot is None:
            raise Refused("a Snapshot copy that was to be sent is gone from the source")
        if relationship.restore:
            sent = bring_back(core, source, near, far, snapshot)
        else:
            sent = land(core, source, near, far, snapshot)
        transfer = dataclasses.replace(
            transfer,
            queue=transfer.queue[1:],
            sent=transfer.sent + sent,
            planned=0,
            snapshot=snapshot.name,
        )
        core.replication.transfers[transfer.uuid] = transfer
        if not relationship.restore:
            _hold(core, source, relationship, snapshot.version_uuid, transfer.queue)
    if transfer.queue:
        _next_step(core, transfer)
        return True
    _complete(core, source, transfer)
    return False


def _hold(core: Core, source: Core, relationship: Relationship, version: str, queue: tuple[str, ...]) -> None:
    """Both ends keep the newest Snapshot copy that they have in common."""
    core.replication.relationships[relationship.uuid] = dataclasses.replace(relationship, base=version)
    there = source.replication.destinations.get(relationship.uuid)
    if there is not None:
        source.replication.destinations[relationship.uuid] = dataclasses.replace(there, base=version, sending=queue)


def land(core: Core, source: Core, near: r.Volume, far: r.Volume, snapshot: r.Snapshot) -> int:
    """Make the destination volume what the source was, with a Snapshot copy of the same name; gives the bytes sent."""
    if find_version(core.snapshots_of(far.uuid), snapshot.version_uuid) is not None:
        return 0
    base = _step_base(core, source, near, far, snapshot)
    _make_way(core, far, snapshot.name)
    check_room(core, far)
    blocks = core.pool(far.uuid)
    size = source.pool(near.uuid).usage.size
    if blocks.usage.size < size:  # the destination grows with its source
        blocks.resize(size)
        far = core.change_volume(far, size=size)
    sent = core.blocks.replicate(
        near.uuid, snapshot.name, destination=far.uuid, base=None if base is None else base[0].name
    )
    luns = translate(core, source, far, snapshot.luns)
    svm = core.svms[far.svm]
    uuid = core.new_uuid("snapshot", svm.name, far.name, snapshot.name)
    core.snapshots[uuid] = dataclasses.replace(
        snapshot, uuid=uuid, volume=far.uuid, luns=luns, owners=(), expiry_time=None
    )
    adopt(core, far, luns)
    return sent


def bring_back(core: Core, source: Core, near: r.Volume, far: r.Volume, snapshot: r.Snapshot) -> int:
    """A restore makes the active file system what a Snapshot copy holds; all Snapshot copies stay. Gives bytes sent."""
    held = find_version(core.snapshots_of(far.uuid), snapshot.version_uuid)
    if held is None:
        return land(core, source, near, far, snapshot)
    blocks = core.pool(far.uuid)
    wanted = set(blocks.snapshots[held.name].files)
    for path in [path for path in blocks.files if path not in wanted]:
        blocks.delete_file(path)
    for path in sorted(wanted):
        blocks.clone_file(path, path, snapshot=held.name, overwrite=True)
    adopt(core, far, held.luns)
    return 0


def _roll_back(
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


# ending ---------------------------------------------------------------------------------------------------------------


def _complete(core: Core, source: Core, transfer: Transfer) -> None:
    replication = core.replication
    relationship = replication.relationships[transfer.relationship]
    _end(core, transfer, "success")
    if relationship.restore:
        del replication.relationships[relationship.uuid]
        return
    changed = dataclasses.replace(
        relationship,
        mirror="snapmirrored",
        problems=(),
        total_bytes=relationship.total_bytes + transfer.sent,
        total_time=relationship.total_time + core.now - transfer.start_time,
    )
    replication.relationships[relationship.uuid] = changed
    there = source.replication.destinations.get(relationship.uuid)
    if there is not None:
        source.replication.destinations[relationship.uuid] = dataclasses.replace(there, sending=())
    near, far = source.volumes[relationship.source.volume], core.volumes[relationship.destination.volume]
    prefixes = [reference_prefix(relationship, far.msid)]
    other = source.replication.of_volume(near.uuid)
    if other is None or other.source.volume != far.uuid:  # nothing replicates the other way round any more
        prefixes.append(f"snapmirror.{relationship.source.svm}_{near.msid}.")
    for prefix in prefixes:
        for cluster, volume in ((source, near.uuid), (core, far.uuid)):
            drop_references(cluster, volume, prefix)
    copies = source.snapshots_of(relationship.source.volume)
    for snapshot in surplus(relationship_policy(core, changed), core.snapshots_of(far.uuid), copies):
        if not core.snapshot_busy(snapshot):
            drop_snapshot(core, snapshot)


def drop_references(core: Core, volume: str, prefix: str) -> None:
    """Delete a relationship's own Snapshot copies that it does not need any more, except busy ones."""
    for snapshot in core.snapshots_of(volume):
        if snapshot.name.startswith(prefix) and not core.snapshot_busy(snapshot):
            drop_snapshot(core, snapshot)


def _end(core: Core, transfer: Transfer, state: str, failure: r.Failure | None = None) -> None:
    core.replication.transfers[transfer.uuid] = dataclasses.replace(
        transfer, state=state, end_time=core.now, queue=(), planned=0, due=0, failure=failure
    )


FAILED = {"initialize": "13303812", "update": "13303844", "resync": "13303810", "restore": "13303845"}
"""Code of a failed transfer by its kind."""


def fail(core: Core, transfer: Transfer, reason: str) -> None:
    """End a transfer that cannot go on; what has arrived stays."""
    error = ApiError(FAILED[transfer.kind], reason=reason)
    _give_up(core, transfer, "failed", r.Failure(error.code, error.message), Problem(error.code, error.message))


def abort(core: Core, transfer: Transfer, *, hard: bool) -> None:
    """End a transfer on request. A hard abort also gives up what has arrived of a first transfer."""
    state = "hard_aborted" if hard else "aborted"
    message = "The transfer was aborted."
    _give_up(core, transfer, state, r.Failure(FAILED[transfer.kind], message), Problem(FAILED[transfer.kind], message))
    relationship = core.replication.relationships[transfer.relationship]
    if not (hard and transfer.kind == "initialize"):
        return
    for snapshot in core.snapshots_of(relationship.destination.volume):
        if not core.snapshot_busy(snapshot):
            drop_snapshot(core, snapshot)


def _give_up(core: Core, transfer: Transfer, state: str, failure: r.Failure, problem: Problem) -> None:
    relationship = core.replication.relationships[transfer.relationship]
    _end(core, transfer, state, failure)
    core.replication.relationships[relationship.uuid] = dataclasses.replace(relationship, problems=(problem,))
    try:
        source = core.interconnect.reach(core, relationship.source.cluster)
    except LinkDown:
        return  # the next transfer that succeeds cleans up there
    there = source.replication.destinations.get(relationship.uuid)
    if there is not None:
        source.replication.destinations[relationship.uuid] = dataclasses.replace(there, sending=())
    if transfer.reference and transfer.reference in transfer.queue:
        snapshot = find_version(source.snapshots_of(relationship.source.volume), transfer.reference)
        if snapshot is not None and not source.snapshot_busy(snapshot):
            drop_snapshot(source, snapshot)
