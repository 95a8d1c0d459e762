"""Consistency-group Snapshot copies in two phases: a fence around the group's volumes, then commit or a timeout.

The content of the copies is fixed when the fence begins, for all volumes at one moment; ``commit`` makes them copies
that can be seen. Until then no other Snapshot operation is possible on these volumes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from labenv.clock import SECOND
from labenv.devices import OutOfSpace
from labenv.ontap import records as r
from labenv.ontap.core import Core
from labenv.ontap.errors import ApiError
from labenv.ontap.events import emit
from labenv.ontap.snapshots import blocked, check_room, record_snapshot

SHORTEST, LONGEST, USUAL = 5, 120, 7
"""Seconds that a fence can be asked to last, and how long it lasts unless something else is asked for."""


def hidden_name(record: r.GroupSnapshot) -> str:
    """Name in the block store of a copy that is not committed yet; no client can give it."""
    return f"/fence/{record.uuid}"


def check_volumes(core: Core, group: r.ConsistencyGroup, name: str) -> list[r.Volume]:
    """The volumes of a group, if a Snapshot copy of that name can be made in each; raises 53411921."""
    volumes = [core.volumes[uuid] for uuid in group.volumes]
    for volume in volumes:
        if core.find_snapshot(volume.uuid, name) is not None:
            raise ApiError("53411921", reason=f"volume {volume.name} has a Snapshot copy {name} already")
        if volume.state != "online":
            raise ApiError("53411921", reason=f"volume {volume.name} is not online")
        try:
            check_room(core, volume)
        except ApiError as error:
            raise ApiError("53411921", reason=error.message) from error
    return volumes


def start_group_snapshot(core: Core, args: Mapping[str, Any]) -> str:
    """Effect of POST snapshots with ``action=start``: the fence begins."""
    group = core.groups.get(args["group"])
    if group is None:
        raise ApiError("53411842")
    volumes = check_volumes(core, group, args["name"])
    for volume in volumes:
        if core.locked(f"volume:{volume.uuid}") or blocked(core, volume) is not None:
            raise ApiError("53411918", reason=f"another operation is under way on volume {volume.name}")
    record = r.GroupSnapshot(
        uuid=core.new_uuid("group-snapshot", group.uuid, args["name"]),
        name=args["name"],
        group=group.uuid,
        create_time=core.now,
        consistency_type=args["consistency_type"],
        comment=args["comment"],
        snapmirror_label=args["snapmirror_label"],
        fenced_until=core.now + args["timeout"] * SECOND,
        fenced_volumes=tuple(volume.uuid for volume in volumes),
    )
    made: list[r.Volume] = []
    try:
        for volume in volumes:
            core.settle(volume)
        for volume in volumes:
            core.pool(volume.uuid).create_snapshot(hidden_name(record))
            made.append(volume)
    except OutOfSpace as error:
        for volume in made:
            core.pool(volume.uuid).delete_snapshot(hidden_name(record))
        raise ApiError("53411921", reason=str(error)) from error
    core.group_snapshots[record.uuid] = record
    return record.uuid


def commit_group_snapshot(core: Core, args: Mapping[str, Any]) -> None:
    """Effect of PATCH snapshots with ``action=commit``: the copies can be seen, and the fence ends."""
    record = core.group_snapshots.get(args["snapshot"])
    if record is None or record.fenced_until is None:
        raise ApiError("53411925")
    copies = []
    for uuid in record.fenced_volumes:
        volume = core.volumes[uuid]
        core.pool(uuid).rename_snapshot(hidden_name(record), record.name)
        copies.append(record_snapshot(core, volume, record.name, snapmirror_label=record.snapmirror_label).uuid)
    core.group_snapshots[record.uuid] = dataclasses.replace(
        record, snapshots=tuple(copies), create_time=core.now, fenced_until=None, fenced_volumes=()
    )


def lift(core: Core, record: r.GroupSnapshot) -> None:
    """End a fence without copies."""
    for uuid in record.fenced_volumes:
        core.pool(uuid).delete_snapshot(hidden_name(record))
    del core.group_snapshots[record.uuid]


class FenceTimeouts:
    """Lifts fences whose second phase did not come in time."""

    name = "fences of consistency groups"

    def due(self, core: Core) -> int | None:
        """When the next fence has lasted long enough; one that is being committed lasts until that is done."""
        return min(
            (until for record in self._waiting(core) if (until := record.fenced_until) is not None), default=None
        )

    @staticmethod
    def _waiting(core: Core) -> list[r.GroupSnapshot]:
        return [record for record in core.fences[True] if not core.locked(f"commit:{record.uuid}")]

    def act(self, core: Core) -> None:
        """Lift what is over."""
        for record in self._waiting(core):
            if record.fenced_until is not None and record.fenced_until <= core.now:
                lift(core, record)
                emit(
                    core,
                    "cg.snapshot.fence.timeout",
                    severity="error",
                    text=f'Snapshot copy "{record.name}" of a consistency group was started and not committed in time',
                    snapshot=record.name,
                    group=record.group,
                )
