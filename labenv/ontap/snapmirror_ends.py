"""The two ends of a SnapMirror relationship: what they have in common, and the copies that SnapMirror takes itself."""

from __future__ import annotations

from collections.abc import Sequence

from labenv.interconnect import LinkDown
from labenv.ontap import records as r
from labenv.ontap.core import Core
from labenv.ontap.snapmirror_policies import find_policy
from labenv.ontap.snapmirror_records import MirrorPolicy, Relationship


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


def find_version(copies: Sequence[r.Snapshot], version: str) -> r.Snapshot | None:
    """The Snapshot copy of a version."""
    return next((s for s in copies if s.version_uuid == version), None)


def relationship_policy(core: Core, relationship: Relationship) -> MirrorPolicy:
    """The policy of a relationship; that of a policy which is gone is Asynchronous."""
    policy = find_policy(core, relationship.policy, svm=relationship.destination.svm)
    policy = policy or find_policy(core, "Asynchronous")
    assert policy is not None
    return policy


def reference_prefix(relationship: Relationship, msid: int) -> str:
    """How the names of a relationship's own Snapshot copies begin."""
    return f"snapmirror.{relationship.destination.svm}_{msid}."


def drop_snapshot(core: Core, snapshot: r.Snapshot) -> None:
    """Delete a Snapshot copy that nobody holds."""
    core.pool(snapshot.volume).delete_snapshot(snapshot.name)
    del core.snapshots[snapshot.uuid]


def drop_references(core: Core, volume: str, prefix: str) -> None:
    """Delete a relationship's own Snapshot copies that it does not need any more, except busy ones."""
    for snapshot in core.snapshots_of(volume):
        if snapshot.name.startswith(prefix) and not core.snapshot_busy(snapshot):
            drop_snapshot(core, snapshot)
