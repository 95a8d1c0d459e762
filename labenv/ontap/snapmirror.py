"""SnapMirror relationships: create, the transitions between their states, turn round, delete, release."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from labenv.devices import OutOfSpace
from labenv.interconnect import LinkDown
from labenv.ontap import records as r
from labenv.ontap.core import Core
from labenv.ontap.errors import ApiError
from labenv.ontap.snapmirror_ends import (
    Refused,
    common,
    drop_references,
    reference_prefix,
    relationship_policy,
)
from labenv.ontap.snapmirror_records import Destination, Endpoint, MirrorPolicy, Relationship, Rule
from labenv.ontap.snapmirror_transfer import begin
from labenv.ontap.volumes import create_volume, restore_volume

QUIESCE_SECONDS = 120.0
"""How long a request to pause waits for a transfer."""


def shown_state(core: Core, relationship: Relationship) -> str | None:
    """The state that the API shows.

    A relationship that was broken off is uninitialized when its destination has lost the Snapshot copy that it would be
    resynchronised from: a volume SnapRestore to an older copy does that (TR 8).
    """
    if relationship.restore:
        return None
    if relationship.mirror == "broken_off":
        copies = core.snapshots_of(relationship.destination.volume)
        return "broken_off" if any(s.version_uuid == relationship.base for s in copies) else "uninitialized"
    if relationship.mirror == "snapmirrored" and relationship.quiesced:
        return "snapmirrored" if core.replication.active(relationship.uuid) is not None else "paused"
    return relationship.mirror


# creating -------------------------------------------------------------------------------------------------------------


def create_relationship(core: Core, args: Mapping[str, Any]) -> str:
    """Effect of POST relationships, in the cluster that has the destination."""
    here = core.interconnect.peek(args["at"]) if args["at"] else core
    assert here is not None
    if here is not core:
        _reach(core, args["at"], "13303925")
    source = Endpoint(**args["source"])
    there = _reach(here, source.cluster, "13303925")
    near = there.volumes.get(source.volume)
    if near is None:
        raise ApiError("13303925", reason=f"the source volume {source.volume_name} is gone")
    destination = Endpoint(**args["destination"])
    if args["create"]:
        destination = dataclasses.replace(destination, volume=_create_destination(here, destination, near, args))
    elif destination.volume not in here.volumes:
        raise ApiError("13303925", reason=f"the destination volume {destination.volume_name} is gone")
    replication = here.replication
    if replication.of_volume(destination.volume) is not None and not args["restore"]:
        raise ApiError("6619637", path=f"{destination.svm_name}:{destination.volume_name}")
    relationship = Relationship(
        uuid=here.new_uuid("relationship", destination.svm_name, destination.volume_name),
        source=source,
        destination=destination,
        policy=args["policy"],
        create_time=here.now,
        schedule=args["schedule"],
        throttle=args["throttle"],
        restore=args["restore"],
    )
    far = here.volumes[destination.volume]
    pair = common(there.snapshots_of(near.uuid), here.snapshots_of(far.uuid))
    if not args["restore"] and far.type == "rw":  # as after a break: it can be resynchronised
        if pair is None:
            raise ApiError("6619546", path=f"{destination.svm_name}:{destination.volume_name}")
        relationship = dataclasses.replace(relationship, mirror="broken_off", base=pair[0].version_uuid)
    replication.relationships[relationship.uuid] = relationship
    if not args["restore"]:
        base = relationship.base if relationship.mirror == "broken_off" else ""
        there.replication.destinations[relationship.uuid] = Destination(
            relationship.uuid, source, destination, relationship.policy, base
        )
    if args["initialize"]:
        try:
            begin(here, relationship, "initialize")
        except Refused as refused:
            raise ApiError("13303868", reason=str(refused)) from None
    replication.start_schedule(relationship.uuid)
    return relationship.uuid


def validate_only(core: Core, args: Mapping[str, Any]) -> None:
    """Effect of a request with ``validate_only``: none."""


def _create_destination(here: Core, destination: Endpoint, near: r.Volume, args: Mapping[str, Any]) -> str:
    """A data protection volume of the source's size, on the aggregate with most room unless one is named."""
    fitting = [a for a in here.aggregates.values() if not args["aggregate"] or a.name == args["aggregate"]]
    if not fitting:
        raise ApiError("13303868", reason=f"there is no aggregate {args['aggregate']}")

    def room(aggregate: r.Aggregate) -> int:
        usage = here.blocks.aggregate(aggregate.uuid)
        return usage.size - usage.used

    aggregate = max(fitting, key=room)
    try:
        return create_volume(
            here,
            {
                "svm": destination.svm,
                "name": destination.volume_name,
                "aggregate": aggregate.uuid,
                "size": near.size,
                "type": "dp",
                "state": "online",
                "guarantee": "none",
                "snapshot_policy": "none",
                "snapshot_reserve": near.snapshot_reserve,
                "comment": "",
                "dedupe": "none",
                "compression": "none",
                "extra": {},
            },
        )
    except (ApiError, OutOfSpace) as error:
        raise ApiError("13303868", reason=str(error)) from None


def _reach(core: Core, cluster: str, code: str) -> Core:
    try:
        return core.interconnect.reach(core, cluster)
    except LinkDown as error:
        raise ApiError(code, reason=str(error)) from None


# transitions ----------------------------------------------------------------------------------------------------------


def existing(core: Core, uuid: str) -> Relationship:
    """The relationship of a job's argument; raises 4 if it has gone meanwhile."""
    relationship = core.replication.relationships.get(uuid)
    if relationship is None:
        raise ApiError("4", target="uuid")
    return relationship


def modify_relationship(core: Core, args: Mapping[str, Any]) -> None:
    """Effect of PATCH relationships: policy, schedule and throttle, and a change of the state."""
    relationship = existing(core, args["relationship"])
    changed = dataclasses.replace(relationship, **args["values"])
    if args["state"]:
        _change_state(core, changed, args)
    else:
        core.replication.relationships[changed.uuid] = changed
    core.replication.start_schedule(changed.uuid)


def _change_state(core: Core, relationship: Relationship, args: Mapping[str, Any]) -> None:
    state, wanted = shown_state(core, relationship), args["state"]
    if wanted == "paused":
        _quiesce(core, relationship, state)
    elif wanted == "broken_off":
        _break(core, relationship, state, args)
    elif state == "paused" or (state == "snapmirrored" and relationship.quiesced):
        core.replication.relationships[relationship.uuid] = dataclasses.replace(relationship, quiesced=False)
    elif state == "snapmirrored":
        raise ApiError("13303832", target="state")
    else:
        _mirror(core, relationship, state, args)


def _quiesce(core: Core, relationship: Relationship, state: str | None) -> None:
    if state == "paused":
        raise ApiError("13303818", state=state, target="state")
    if state != "snapmirrored":
        raise ApiError("13303833", state=state, wanted="paused", target="state")
    core.replication.relationships[relationship.uuid] = dataclasses.replace(relationship, quiesced=True)
    if core.replication.active(relationship.uuid) is not None:
        raise ApiError("13303823")


def _break(core: Core, relationship: Relationship, state: str | None, args: Mapping[str, Any]) -> None:
    """The destination becomes writable, as its newest Snapshot copy or ``restore_to_snapshot`` has it."""
    if state == "broken_off":
        raise ApiError("13303818", state=state, target="state")
    if state == "uninitialized":
        raise ApiError("13303833", state=state, wanted="broken_off", target="state")
    if core.replication.active(relationship.uuid) is not None:
        raise ApiError("13303808", reason="Another transfer is in progress")
    volume = core.volumes[relationship.destination.volume]
    name = args["restore_to_snapshot"]
    snapshot = core.find_snapshot(volume.uuid, name) if name else None
    if name and snapshot is None:
        raise ApiError("13303808", reason=f"the destination has no Snapshot copy {name}")
    broken = dataclasses.replace(relationship, mirror="broken_off", quiesced=False, problems=())
    if snapshot is not None:
        held = core.snapshots_of(volume.uuid)
        newer = held[held.index(snapshot) + 1 :]
        busy = [s.name for s in newer if any(o != "snapmirror" for o in core.snapshot_owners(s))]
        if busy:
            raise ApiError("13303808", reason=f"newer Snapshot copies are busy: {', '.join(busy)}")
        core.replication.relationships[relationship.uuid] = broken
        try:
            restore_volume(core, {"volume": volume.uuid, "snapshot": snapshot.uuid})
        except ApiError as error:
            core.replication.relationships[relationship.uuid] = relationship
            raise ApiError("13303808", reason=error.message) from None
        broken = dataclasses.replace(broken, base=_newest_common(core, broken))
    core.replication.relationships[relationship.uuid] = broken
    core.change_volume(core.volumes[volume.uuid], type="rw")


def _newest_common(core: Core, relationship: Relationship) -> str:
    """Version of the newest Snapshot copy that both ends have, as far as this cluster can know it."""
    source = core.interconnect.peek(relationship.source.cluster)
    copies = core.snapshots_of(relationship.destination.volume)
    if source is None:
        return copies[-1].version_uuid if copies else ""
    pair = common(source.snapshots_of(relationship.source.volume), copies)
    return "" if pair is None else pair[0].version_uuid


def _mirror(core: Core, relationship: Relationship, state: str | None, args: Mapping[str, Any]) -> None:
    """Initialise or resync."""
    volume = core.volumes[relationship.destination.volume]
    kind = "resync" if state == "broken_off" else "initialize"
    if kind == "initialize" and volume.type != "dp":
        path = f"{relationship.destination.svm_name}:{volume.name}"
        raise ApiError("6619546", path=path, target="destination")
    try:
        begin(core, relationship, kind, preserve=args["preserve"])
    except Refused as refused:
        raise ApiError("13303810", reason=str(refused)) from None


def reverse_relationship(core: Core, args: Mapping[str, Any]) -> str:
    """Effect of PATCH with source and destination exchanged: resync the other way, and give the old way up."""
    old = existing(core, args["relationship"])
    state = shown_state(core, old)
    if state != "broken_off":
        raise ApiError("13303833", state=state, wanted="the reverse of itself", target="state")
    if not relationship_policy(core, old).create_snapshot:
        raise ApiError("13304086")
    there = _reach(core, old.source.cluster, "13303810")
    near = there.volumes.get(old.source.volume)
    if near is None:
        raise ApiError("13303810", reason=f"the volume {old.source.volume_name} is gone")
    if there.replication.of_volume(near.uuid) is not None:
        raise ApiError("6619637", path=f"{there.svms[near.svm].name}:{near.name}")
    alias = next(
        (
            peer.name
            for peer in there.replication.svm_peers.values()
            if peer.svm == near.svm and peer.peer_svm == old.destination.svm
        ),
        old.destination.svm_name,
    )
    new = Relationship(
        uuid=there.new_uuid("relationship", there.svms[near.svm].name, near.name),
        source=dataclasses.replace(old.destination, svm_name=alias),
        destination=dataclasses.replace(old.source, svm_name=there.svms[near.svm].name),
        policy=old.policy,
        create_time=core.now,
        schedule=old.schedule if any(s.name == old.schedule for s in there.schedules.values()) else "",
        throttle=old.throttle,
        mirror="broken_off",
        base=old.base,
    )
    try:
        begin(there, new, "resync")
    except Refused as refused:
        with suppress(KeyError):
            del there.replication.relationships[new.uuid]
        raise ApiError("13303810", reason=str(refused)) from None
    with suppress(KeyError):
        del there.replication.destinations[old.uuid]
    _forget(core, old)
    there.replication.start_schedule(new.uuid)
    return new.uuid


# deleting -------------------------------------------------------------------------------------------------------------


def _forget(core: Core, relationship: Relationship) -> None:
    del core.replication.relationships[relationship.uuid]
    for transfer in core.replication.of_relationship(relationship.uuid):
        del core.replication.transfers[transfer.uuid]


def delete_relationship(core: Core, args: Mapping[str, Any]) -> None:
    """Effect of DELETE at the destination: the relationship, and unless ``destination_only`` its end at the source."""
    relationship = existing(core, args["relationship"])
    if core.replication.active(relationship.uuid) is not None:
        raise ApiError("6619715")
    if not args["destination_only"] and not relationship.restore:
        source = _reach(core, relationship.source.cluster, "13303815")
        _release(source, relationship.uuid, keep=False)
    _forget(core, relationship)
    volume = core.volumes.get(relationship.destination.volume)
    if volume is not None and not args["destination_only"] and not relationship.restore:
        drop_references(core, volume.uuid, reference_prefix(relationship, volume.msid))


def release_relationship(core: Core, args: Mapping[str, Any]) -> None:
    """Effect of DELETE at the source: the relationship is not listed any more; its copies go unless they are kept."""
    there = core.replication.destinations.get(args["relationship"])
    if there is None:
        raise ApiError("13303822", reason="it is not listed")
    if there.sending:
        raise ApiError("13303822", reason="a transfer is in progress")
    _release(core, there.uuid, keep=args["keep"])


def _release(core: Core, uuid: str, *, keep: bool) -> None:
    there = core.replication.destinations.pop(uuid, None)
    if there is None or keep or there.source.volume not in core.volumes:
        return
    prefix = f"snapmirror.{there.destination.svm}_"
    cluster = core.interconnect.peek(there.destination.cluster)
    volume = None if cluster is None else cluster.volumes.get(there.destination.volume)
    if volume is not None:
        prefix += f"{volume.msid}."
    drop_references(core, there.source.volume, prefix)


# policies -------------------------------------------------------------------------------------------------------------


def create_policy(core: Core, args: Mapping[str, Any]) -> str:
    """Effect of POST policies."""
    rules = tuple(Rule(**rule) for rule in args["rules"])
    uuid = core.new_uuid("mirror-policy", args["name"])
    values = {name: value for name, value in args.items() if name not in ("rules", "job")}
    core.replication.policies[uuid] = MirrorPolicy(uuid=uuid, rules=rules, **values)
    return uuid


def modify_policy(core: Core, args: Mapping[str, Any]) -> None:
    """Effect of PATCH policies."""
    policy = core.replication.policies.get(args["policy"])
    if policy is None:
        raise ApiError("4", target="uuid")
    values = dict(args["values"])
    if "rules" in values:
        values["rules"] = tuple(Rule(**rule) for rule in values["rules"])
    core.replication.policies[policy.uuid] = dataclasses.replace(policy, **values)
    for relationship in list(core.replication.relationships):
        core.replication.start_schedule(relationship)


def delete_policy(core: Core, args: Mapping[str, Any]) -> None:
    """Effect of DELETE policies."""
    core.replication.policies.pop(args["policy"], None)
