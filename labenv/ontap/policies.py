"""Snapshot policies: the copies that schedules make, and those that they let go."""

from __future__ import annotations

import re
from collections.abc import Iterator

from labenv.ontap import records as r
from labenv.ontap.core import Core
from labenv.ontap.errors import ApiError
from labenv.ontap.events import emit
from labenv.ontap.schedules import next_time
from labenv.ontap.snapshots import blocked, is_full, take

_STAMP = re.compile(r"\d{4}-\d{2}-\d{2}_\d{4}$")


def policy_of(core: Core, volume: r.Volume) -> r.SnapshotPolicy | None:
    """The policy of a volume: its SVM's of that name, else the cluster's."""
    named = [p for p in core.policies.values() if p.name == volume.snapshot_policy and p.svm in (volume.svm, None)]
    return max(named, key=lambda policy: policy.svm is not None, default=None)


class PolicySnapshots:
    """Makes the Snapshot copies of policies when their schedules are due."""

    name = "snapshot policies"

    def due(self, core: Core) -> int | None:
        """The next time at which a schedule that a volume's policy uses is due."""
        done = core.counters.get("policies done", -1)
        after = core.now - 1 if done != core.now else core.now
        times = [next_time(schedule, after) for schedule in {s.uuid: s for _, s in self._used(core)}.values()]
        return min((time for time in times if time is not None), default=None)

    @staticmethod
    def _used(core: Core) -> Iterator[tuple[r.PolicyCopy, r.Schedule]]:
        schedules = {schedule.name: schedule for schedule in core.schedules.values()}
        for policy in core.policies.values():
            if policy.enabled and core.volumes_by_policy.count(policy.name):
                for copy in policy.copies:
                    if copy.schedule in schedules:
                        yield copy, schedules[copy.schedule]

    def act(self, core: Core) -> None:
        """Make the copies that are due now, oldest schedules first, and drop those beyond their count."""
        core.counters["policies done"] = core.now
        due = {copy.schedule for copy, schedule in self._used(core) if next_time(schedule, core.now - 1) == core.now}
        for policy in list(core.policies.values()):
            copies = [copy for copy in policy.copies if copy.schedule in due] if policy.enabled else []
            for volume in core.volumes_by_policy[policy.name] if copies else []:
                if policy_of(core, volume) == policy and volume.type == "rw" and volume.state == "online":
                    for copy in copies:
                        _take(core, volume, copy)


def _take(core: Core, volume: r.Volume, copy: r.PolicyCopy) -> None:
    name = f"{copy.prefix}.{core.clock.time:%Y-%m-%d_%H%M}"
    try:
        error = blocked(core, volume)
        if error is not None:
            raise error
        if is_full(core, volume):
            _rotate(core, volume, copy, keep=copy.count - 1)
        take(core, volume, name, snapmirror_label=copy.snapmirror_label)
    except ApiError as refused:
        emit(
            core,
            "wafl.snap.create.failed",
            severity="error",
            text=f'Scheduled Snapshot copy "{name}" of volume "{volume.name}" was not made: {refused.message}',
            node=core.node_of(volume).name,
            volume=volume.name,
            snapshot=name,
            code=refused.code,
        )
        return
    _rotate(core, volume, copy, keep=copy.count)


def _rotate(core: Core, volume: r.Volume, copy: r.PolicyCopy, *, keep: int) -> None:
    """Delete the oldest copies of a schedule, but for so many; busy ones stay and go later."""
    start = f"{copy.prefix}."
    made = [
        snapshot
        for snapshot in core.snapshots_of(volume.uuid)
        if snapshot.name.startswith(start) and _STAMP.fullmatch(snapshot.name, len(start))
    ]
    for snapshot in made[: max(0, len(made) - keep)]:
        if not core.snapshot_busy(snapshot):
            core.pool(volume.uuid).delete_snapshot(snapshot.name)
            del core.snapshots[snapshot.uuid]
