"""Asynchronous operations: records that outlive the process, and the lab tasks that carry them out."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Generator, Mapping
from typing import Any

from labenv.clock import SECOND
from labenv.devices import OutOfSpace
from labenv.ontap.blocks.errors import BlockStoreError
from labenv.ontap.blocks.staging import Steps, take_turns
from labenv.ontap.core import Core
from labenv.ontap.errors import ApiError
from labenv.ontap.records import Failure, Job

KEPT = 300 * SECOND
"""How long the record of a finished job can be read."""

Effect = Callable[[Core, Mapping[str, Any]], str | Steps[str] | Steps[None] | None]
"""Carries an operation out, all of it or (raising ``ApiError``) none; gives the uuid of what it made.

One with much to do gives its steps instead: the lab answers others in between, and after a kill they begin anew.
"""


class Jobs:
    """Runs the jobs of one array. The effect of a job and its end are one commit."""

    def __init__(self, core: Core, effects: Mapping[str, Effect], *, after: Callable[[], None] = lambda: None) -> None:
        """``after`` is called whenever a job has ended."""
        self._core = core
        self._after = after
        self._effects = effects
        self._running: set[str] = set()

    def submit(
        self,
        operation: str,
        arguments: dict[str, Any],
        *,
        description: str,
        seconds: float,
        node: str,
        svm: str | None = None,
        locks: tuple[str, ...] = (),
        doomed: ApiError | Failure | None = None,
    ) -> Job:
        """Record a job and start it; the caller commits before it answers."""
        core = self._core
        self._forget_old()
        job = Job(
            uuid=core.new_uuid("job"),
            description=description,
            operation=operation,
            arguments=arguments,
            start_time=core.now,
            due=core.now + max(1, round(seconds * SECOND)),
            node=node,
            svm=svm,
            locks=locks,
            doomed=Failure(doomed.code, doomed.message, doomed.target) if isinstance(doomed, ApiError) else doomed,
        )
        core.jobs[job.uuid] = job
        self._start(job)
        return job

    def resume(self) -> None:
        """Go on with every job that the stored state shows as unfinished; needs the running event loop."""
        for job in self._core.unfinished_jobs[True]:
            if job.uuid not in self._running:
                self._start(job)

    def forget_tasks(self) -> None:
        """The lab's tasks were cancelled and its state replaced: nothing is running."""
        self._running.clear()

    async def wait(self, uuid: str, until: int) -> Job:
        """Park the client until a job has ended, or until a lab time; gives the job as it is then."""
        core = self._core
        await asyncio.sleep(0)  # the job's task goes to sleep first, so it wakes first when both are due together
        while True:
            job = core.jobs[uuid]
            if job.end_time is not None or core.now >= until:
                return job
            ahead = job.due if job.due > core.now else core.now + SECOND // 10
            with core.clock.parked():
                await core.clock.sleep_until(min(ahead, until))

    def expired(self, job: Job) -> bool:
        """Whether the record of a finished job is no longer kept."""
        return job.end_time is not None and job.end_time + KEPT < self._core.now

    def _start(self, job: Job) -> None:
        self._running.add(job.uuid)
        self._core.clock.spawn(self._run(job.uuid), name=f"{self._core.spec.name} {job.operation}")

    async def _run(self, uuid: str) -> None:
        core = self._core
        try:
            await core.clock.sleep_until(core.jobs[uuid].due)
            job = core.jobs.get(uuid)
            if job is None or job.end_time is not None:
                return
            try:
                await self._carry_out(job)
            finally:
                self._after()
        finally:
            self._running.discard(uuid)

    async def _carry_out(self, job: Job) -> None:
        """Effect and end of a job in one commit."""
        core = self._core
        if job.doomed is not None:
            core.jobs[job.uuid] = dataclasses.replace(job, state="failure", end_time=core.now, failure=job.doomed)
            core.state.commit()
            return
        try:
            result = self._effects[job.operation](core, {**job.arguments, "job": job.uuid})
            if isinstance(result, Generator):
                result = await take_turns(result)
        except ApiError as error:
            self._end(job, error)
            return
        except (OutOfSpace, BlockStoreError) as error:
            self._end(job, ApiError("917536", reason=str(error)))
            return
        except Exception:
            self._end(job, ApiError("460770", reason="internal error"))
            raise
        core.jobs[job.uuid] = dataclasses.replace(job, state="success", end_time=core.now, result=result)
        core.state.commit()

    def _end(self, job: Job, error: ApiError) -> None:
        failure = Failure(error.code, error.message, error.target)
        self._core.jobs[job.uuid] = dataclasses.replace(job, state="failure", end_time=self._core.now, failure=failure)
        self._core.state.commit()

    def _forget_old(self) -> None:
        jobs = self._core.jobs
        for uuid in [uuid for uuid, job in jobs.items() if self.expired(job)]:
            del jobs[uuid]
