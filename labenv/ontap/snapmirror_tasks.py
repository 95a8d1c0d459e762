"""The lab tasks of SnapMirror: transfers under way, and updates by schedule."""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import datetime, timedelta

from labenv.clock import EPOCH, SECOND
from labenv.ontap import records as r
from labenv.ontap.blocks.staging import take_turns
from labenv.ontap.core import Core
from labenv.ontap.errors import ApiError
from labenv.ontap.snapmirror_ends import relationship_policy
from labenv.ontap.snapmirror_records import ACTIVE
from labenv.ontap.snapmirror_transfer import arrive, begin_or_record, stage_arrival

_INTERVAL = re.compile(r"^P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)S)?)?$")


class MirrorTasks:
    """Carries the transfers of one destination cluster and starts the scheduled ones."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._transfers: set[str] = set()
        self._schedules: set[tuple[str, str]] = set()
        core.replication.start_transfer = self._start_transfer
        core.replication.start_schedule = self._start_schedule

    def resume(self) -> None:
        """Go on with everything that the stored state shows; needs the running event loop."""
        replication = self._core.replication
        for uuid, transfer in replication.transfers.items():
            if transfer.state in ACTIVE and uuid not in self._transfers:
                self._start_transfer(uuid)
        for uuid in list(replication.relationships):
            self._start_schedule(uuid)

    def forget_tasks(self) -> None:
        """The lab's tasks were cancelled and its state replaced: nothing is running."""
        self._transfers.clear()
        self._schedules.clear()

    def _start_transfer(self, uuid: str) -> None:
        self._transfers.add(uuid)
        self._core.clock.spawn(self._transfer(uuid), name=f"{self._core.spec.name} transfer")

    async def _transfer(self, uuid: str) -> None:
        core = self._core
        try:
            while True:
                transfer = core.replication.transfers.get(uuid)
                if transfer is None or transfer.state not in ACTIVE:
                    return
                if transfer.due > core.now:
                    await core.clock.sleep_until(transfer.due)
                    continue  # it may have been aborted meanwhile
                staged = await take_turns(stage_arrival(core, uuid))
                try:
                    more = arrive(core, uuid, staged)
                finally:
                    if staged is not None:
                        staged.give_back()
                core.state.commit()
                if not more:
                    return
        finally:
            self._transfers.discard(uuid)

    def schedule_of(self, uuid: str) -> str:
        """Name of the schedule by which a relationship is updated; empty if it has none."""
        relationship = self._core.replication.relationships.get(uuid)
        if relationship is None or relationship.restore:
            return ""
        return relationship.schedule or relationship_policy(self._core, relationship).schedule

    def _start_schedule(self, uuid: str) -> None:
        name = self.schedule_of(uuid)
        if name and (uuid, name) not in self._schedules:
            self._schedules.add((uuid, name))
            self._core.clock.spawn(self._scheduled(uuid, name), name=f"{self._core.spec.name} schedule {name}")

    async def _scheduled(self, uuid: str, name: str) -> None:
        core = self._core
        try:
            while self.schedule_of(uuid) == name:
                schedule = next((s for s in core.schedules.values() if s.name == name), None)
                when = None if schedule is None else next_run(schedule, core.now)
                if when is None:
                    return
                await core.clock.sleep_until(when)
                if self.schedule_of(uuid) == name:
                    self._update(uuid)
        finally:
            self._schedules.discard((uuid, name))

    def _update(self, uuid: str) -> None:
        core = self._core
        relationship = core.replication.relationships[uuid]
        ready = relationship.mirror == "snapmirrored" and not relationship.quiesced
        if not ready or core.replication.active(uuid) is not None:
            return
        with suppress(ApiError):  # it is in the transfer's record
            begin_or_record(core, relationship, "update")
        core.state.commit()


def next_run(schedule: r.Schedule, now: int) -> int | None:
    """The first time after ``now`` that a schedule names (microseconds); None if it names none."""
    if schedule.interval:
        match = _INTERVAL.match(schedule.interval)
        parts = [int(part or 0) for part in match.groups()] if match else [0, 0, 0, 0]
        step = ((parts[0] * 24 + parts[1]) * 60 + parts[2]) * 60 + parts[3]
        return None if step == 0 else (now // (step * SECOND) + 1) * step * SECOND
    when = EPOCH + timedelta(microseconds=now)
    when = when.replace(second=0, microsecond=0) + timedelta(minutes=1)
    end = when + timedelta(days=8)
    while when < end:
        if not _day(schedule, when):
            when = when.replace(hour=0, minute=0) + timedelta(days=1)
        elif schedule.hours and when.hour not in schedule.hours:
            when = when.replace(minute=0) + timedelta(hours=1)
        elif when.minute not in (schedule.minutes or (0,)):
            when += timedelta(minutes=1)
        else:
            return int((when - EPOCH) / timedelta(microseconds=1))
    return None


def _day(schedule: r.Schedule, when: datetime) -> bool:
    """Whether a day of the week is among the schedule's; Sunday is 0."""
    return not schedule.weekdays or when.isoweekday() % 7 in schedule.weekdays
