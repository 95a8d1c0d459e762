"""SnapMirror transfers: how they begin, go on and end.

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
from labenv.ontap.blocks.staging import Staged, Steps
from labenv.ontap.core import Core
from labenv.ontap.errors import ApiError
from labenv.ontap.snapmirror_ends import (
    Refused,
    common,
    drop_references,
    drop_snapshot,
    ends,
    find_version,
    reference_prefix,
    relationship_policy,
)
from labenv.ontap.snapmirror_files import files_size, restore_files
from labenv.ontap.snapmirror_landing import base_of, bring_back, follow_names, land, make_room, roll_back, step_base
from labenv.ontap.snapmirror_policies import chosen, surplus
from labenv.ontap.snapmirror_records import ACTIVE, Destination, Problem, Relationship, Transfer
from labenv.ontap.snapshots import take

MIB = 1 << 20
KEPT = 24 * 3600 * SECOND
"""How long the record of a transfer can be read."""


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
    if kind == "restore" and not source_snapshot:
        if not copies:
            raise Refused("the source has no Snapshot copy")
        source_snapshot = copies[-1].name
    if source_snapshot:
        queue = _named(copies, base, source_snapshot, kind=kind)
    else:
        newer = copies if base is None else copies[copies.index(base[0]) + 1 :]
        queue = chosen(policy, newer, baseline=kind == "initialize")
    reference = None
    if policy.create_snapshot and not source_snapshot and kind != "restore":
        reference = _take_reference(core, source, near, relationship)
        queue.append(reference)
    for path, _ in files:
        if path not in source.pool(near.uuid).snapshots[source_snapshot].files:
            raise Refused(f"there is no file {path} in Snapshot copy {source_snapshot}")
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
    if transfer.files:
        source, near, _ = ends(core, relationship)
        planned = files_size(source, near, transfer.source_snapshot, transfer.files)
    elif transfer.queue:
        source, near, far = ends(core, relationship)
        snapshot = find_version(source.snapshots_of(near.uuid), transfer.queue[0])
        if snapshot is None:
            raise Refused("a Snapshot copy that was to be sent is gone from the source")
        name = snapshot.name
        if find_version(core.snapshots_of(far.uuid), snapshot.version_uuid) is None:
            base = step_base(core, source, near, far, snapshot)
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


def stage_arrival(core: Core, uuid: str) -> Steps[Staged | None]:
    """Copy the blocks of the Snapshot copy that is due, so that its arrival is short; what is in the way, it will find.

    Gives nothing for a transfer that does not send a whole Snapshot copy.
    """
    transfer = core.replication.transfers[uuid]
    if transfer.files or not transfer.queue:
        return None
    try:
        source, near, far = ends(core, core.replication.relationships[transfer.relationship])
    except Refused:
        return None
    copies, held = source.snapshots_of(near.uuid), core.snapshots_of(far.uuid)
    snapshot = find_version(copies, transfer.queue[0])
    if snapshot is None or find_version(held, snapshot.version_uuid) is not None:
        return None
    pair = base_of(copies, held, snapshot)
    if pair is not None and pair[0].name != pair[1].name:
        return None  # the destination renames its copy first
    base = None if pair is None else pair[0].name
    return (yield from core.blocks.stage(near.uuid, snapshot.name, destination=far.uuid, base=base))


def arrive(core: Core, uuid: str, staged: Staged | None = None) -> bool:
    """The Snapshot copy that is due arrives; the caller commits. Gives whether the transfer goes on."""
    transfer = core.replication.transfers.get(uuid)
    if transfer is None or transfer.state not in ACTIVE:
        return False
    try:
        return _arrive(core, transfer, staged)
    except Refused as refused:
        fail(core, core.replication.transfers[uuid], str(refused))
    except ApiError as error:
        fail(core, core.replication.transfers[uuid], error.message)
    except (OutOfSpace, BlockStoreError) as error:
        fail(core, core.replication.transfers[uuid], str(error))
    return False


def _arrive(core: Core, transfer: Transfer, staged: Staged | None) -> bool:
    relationship = core.replication.relationships[transfer.relationship]
    source, near, far = ends(core, relationship)
    if transfer.kind == "resync" and relationship.mirror != "snapmirrored":
        relationship = roll_back(core, source, near, far, relationship, transfer)
        far = core.volumes[far.uuid]
    if transfer.queue:
        snapshot = find_version(source.snapshots_of(near.uuid), transfer.queue[0])
        if snapshot is None:
            raise Refused("a Snapshot copy that was to be sent is gone from the source")
        if not relationship.restore:
            make_room(core, source, near, far, relationship_policy(core, relationship))
        if transfer.files:
            sent = restore_files(core, source, near, far, snapshot, transfer.files)
        elif relationship.restore:
            sent = bring_back(core, source, near, far, snapshot, staged)
        else:
            sent = land(core, source, near, far, snapshot, staged)
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
    policy = relationship_policy(core, changed)
    if policy.copy_all:
        follow_names(core, far, copies)
    for snapshot in surplus(policy, core.snapshots_of(far.uuid), copies):
        if not core.snapshot_busy(snapshot):
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
