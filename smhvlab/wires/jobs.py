"""Changes that ONTAP has accepted, and waiting for their jobs: all open ones in one GET."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from smhvlab.errors import JobFailed, UnknownOutcome
from smhvlab.wires.ontap_codes import advice
from smhvlab.wires.transport import LOOK_IT_UP

if TYPE_CHECKING:
    from smhvlab.wires.ontap import OntapWire

JOBS_AT_ONCE = 50
"""Jobs asked for in one GET; more would make the address too long."""


@dataclass(frozen=True)
class Pending:
    """A change that ONTAP has accepted.

    Attributes:
        title: e.g. ``POST /storage/volumes``.
        endpoint: the cluster's name.
        status: HTTP status.
        jobs: uuids of the jobs that still run; empty if the change is done.
        location: path of the new resource, or a query that will find it; "" if ONTAP gave none.
        records: the new records, if ``return_records=True`` asked for them.
    """

    title: str
    endpoint: str
    status: int
    jobs: tuple[str, ...] = ()
    location: str = ""
    records: tuple[dict[str, Any], ...] = ()

    @property
    def done(self) -> bool:
        """Whether nothing is left to wait for."""
        return not self.jobs


def settle(
    wire: OntapWire, pending: Sequence[Pending], *, interval: float, timeout: float, abandon: bool
) -> list[JobFailed | UnknownOutcome | None]:
    """Wait for the end of every job; see `OntapWire.settle`."""
    failures: dict[str, JobFailed | UnknownOutcome] = {}
    missed: set[str] = set()
    slept = 0.0
    running = {uuid: item for item in pending for uuid in item.jobs}
    while running:
        title = next(iter(running.values())).title
        if abandon:
            wire.control.check(f"the end of {title}")
        with wire.control.shielded(), wire.control.waiting(f"the job of {title}"):
            states = _states(wire, list(running))
        for uuid, item in list(running.items()):
            job = states.get(uuid)
            if job is None:
                # A job may take a moment to show up; one that is missing twice is gone.
                if uuid in missed:
                    failures[uuid] = _vanished(item)
                    del running[uuid]
                missed.add(uuid)
            elif job.get("state") == "success":
                del running[uuid]
            elif job.get("state") == "failure":
                failures[uuid] = _failed(item, uuid, job)
                del running[uuid]
        if running and slept >= timeout:
            failures |= {uuid: _overdue(item) for uuid, item in running.items()}
            running.clear()
        if running:
            slept += interval
            with wire.control.shielded(), wire.control.waiting(f"the job of {title}"):
                wire.sleep(interval)
    wire.control.check("the next request")
    return [next((failures[uuid] for uuid in item.jobs if uuid in failures), None) for item in pending]


def _states(wire: OntapWire, uuids: Sequence[str]) -> dict[str, Mapping[str, Any]]:
    from netapp_ontap.resources.job import Job

    found: dict[str, Mapping[str, Any]] = {}
    with wire.polling():
        for start in range(0, len(uuids), JOBS_AT_ONCE):
            wanted = uuids[start : start + JOBS_AT_ONCE]
            for job in wire.collect(Job, uuid=wanted, fields=("state", "message", "code", "error", "description")):
                found[job["uuid"]] = job
    return found


def _failed(item: Pending, uuid: str, job: Mapping[str, Any]) -> JobFailed:
    error = job.get("error") or {}
    code = str(error.get("code") or job.get("code") or "")
    known = advice(code)
    return JobFailed(
        f"{item.title} on {item.endpoint} failed: {error.get('message') or job.get('message') or ''}".rstrip(" .:"),
        code=code,
        target=str(error["target"]) if error.get("target") else None,
        job=uuid,
        tr=known.tr or None,
        next_action=known.next_action,
    )


def _overdue(item: Pending) -> UnknownOutcome:
    return UnknownOutcome(
        f"{item.title} on {item.endpoint} still runs",
        why="its job has not ended in time; it goes on by itself",
        next_action="Look at the cluster's jobs, and wait for it before anything is undone.",
    )


def _vanished(item: Pending) -> UnknownOutcome:
    return UnknownOutcome(
        f"{item.endpoint} no longer knows how {item.title} ended",
        why="its job is gone; ONTAP keeps a job for 300 s after its end",
        next_action=LOOK_IT_UP,
    )
