"""Whether a shadow copy set is what it has to be, read again from event logs, writers, metadata and the array.

Exit codes and printed text are no proof: a set can be made without a VM, or with one that could not be turned back,
and the program still says that all is well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from smhvlab.backup.evidence import WRITERS_FREEZE, SetEvidence, VmEvidence, WriterState
from smhvlab.backup.sets import Made, SetPlan
from smhvlab.errors import BackupFailed, NotFound
from smhvlab.nodes import Nodes
from smhvlab.storage import Storage
from smhvlab.vss import (
    COMMITTED,
    IN_PROGRESS,
    LEFT_OUT,
    REFUSED,
    TOO_LATE,
    TRANSIENT,
    Event,
    Vss,
    guids,
    hresults,
    set_of,
    stable,
)


@dataclass(frozen=True)
class Problem:
    """Why a set does not count.

    Attributes:
        transient: whether another try may succeed.
        code: event id or HRESULT that says so.
        vms: names of the VMs that it is due to.
    """

    message: str
    why: str
    next_action: str
    code: str = ""
    tr: str = "6.2"
    transient: bool = False
    vms: tuple[str, ...] = ()

    def error(self, *, tries: int) -> BackupFailed:
        """As an error, after that many tries."""
        often = f" ({tries} tries)" if tries > 1 else ""
        return BackupFailed(
            self.message + often,
            why=self.why,
            next_action=self.next_action,
            code=self.code or None,
            tr=self.tr,
            vms=self.vms,
        )


@dataclass(frozen=True, kw_only=True)
class _Seen:
    """What hosts and array say."""

    committed: datetime
    set_id: str = ""
    milliseconds: int = 0
    provider: list[Event] = field(default_factory=list)
    failed: list[Event] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    writers: list[WriterState] = field(default_factory=list)
    lacking: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Times:
    """Seconds frozen by the VM's name, the most that these can be, and seconds that VMs stood still, by id."""

    frozen: Mapping[str, float]
    frozen_most: float
    standstill: Mapping[str, float]


class Proof:
    """The proof of one set, begun at ``since``.

    Args:
        names: names of VMs by id, for sentences.
        reasons: why VMs could not take part while they ran.
        states: of the VMs before the set.
    """

    def __init__(
        self,
        plan: SetPlan,
        *,
        nodes: Nodes,
        storage: Storage,
        since: datetime,
        printed: Sequence[str],
        metadata: str,
        names: Mapping[str, str],
        reasons: Mapping[str, str],
        states: Mapping[str, str],
        others: tuple[str, ...],
    ) -> None:
        self.plan = plan
        self.since = since
        self.printed = printed
        self.others = others
        self._nodes = nodes
        self._storage = storage
        self._metadata = metadata
        self._names = names
        self._reasons = reasons
        self._states = states

    def outcome(self) -> Made | Problem:
        """The set as it was made, or what is wrong with it."""
        seen = self._look()
        if (problem := self._problem(seen)) is not None:
            return problem
        plan = self.plan
        evidence = SetEvidence(
            id=seen.set_id,
            host=plan.host,
            event=COMMITTED,
            milliseconds=seen.milliseconds,
            writers=tuple(seen.writers),
            snapshots=tuple(f"{v}: {{{seen.set_id}}}{end}" for v in plan.volumes for end in ("", "_backup")),
            others=self.others,
        )
        times = self._times(seen.committed)
        vms = {vm_id: self._vm(vm_id, seen.set_id, times) for vm_id in plan.ids}
        return Made(plan, evidence, vms, tuple(self._names[vm_id] for vm_id in seen.left_out))

    def _times(self, committed: datetime) -> _Times:
        """The guests were thawed when the provider had made its Snapshot copies, and VSS limits their freeze."""
        saved = any(vm_id in self._reasons and self._states[vm_id] == "Running" for vm_id in self.plan.ids)
        frozen: dict[str, float] = {}
        standstill: dict[str, float] = {}
        for host in self.plan.hosts:
            vss = Vss(self._nodes[host].host)
            frozen.update(vss.frozen(self.since))
            if saved:
                standstill.update(vss.standstill(self.since))
        return _Times(frozen, min(WRITERS_FREEZE, (committed - self.since).total_seconds()), standstill)

    def _vm(self, vm_id: str, set_id: str, times: _Times) -> VmEvidence:
        if vm_id in self._reasons:
            if self._states[vm_id] != "Running":
                why = f"it was {self._states[vm_id]}: there was nothing to make consistent"
                return VmEvidence("off", why, set_id)
            why = f"it was saved for the backup and did not run meanwhile: it {self._reasons[vm_id]}"
            return VmEvidence("saved", why, set_id, downtime=times.standstill.get(vm_id))
        why = "its guest's writers took part, and its image was recovered"
        frozen = times.frozen.get(self._names[vm_id])
        return VmEvidence("online", why, set_id, quiesced=True, frozen=frozen, frozen_most=times.frozen_most)

    # --- looking

    def _look(self) -> _Seen:
        plan = self.plan
        vss = Vss(self._nodes[plan.host].host)
        provider = vss.provider_events(self.since)
        ours = set(guids(self.printed))
        committed = next((e for e in provider if e.id == COMMITTED and ours.intersection(guids(e.values))), None)
        writers = [writer for host in plan.hosts for writer in Vss(self._nodes[host].host).writers()]
        told = [
            event
            for host in plan.hosts
            for event in Vss(self._nodes[host].host).machines(self.since)
            if _folded(event.values) & set(plan.ids)
        ]
        failed = [event for event in told if event.id != LEFT_OUT]
        if committed is None:
            return _Seen(committed=self.since, provider=provider, failed=failed, writers=writers)
        set_id = committed.values[0].strip("{}").lower()
        wanted = {f"{{{set_id}}}", f"{{{set_id}}}_backup"}
        lacking = [
            f"{volume}: {name}"
            for volume in plan.volumes
            for name in sorted(wanted - {copy["name"] for copy in self._storage.snapshots(volume)})
        ]
        return _Seen(
            committed=committed.time,
            set_id=set_id,
            milliseconds=int(committed.values[1]) if len(committed.values) > 1 else 0,
            provider=provider,
            failed=failed,
            left_out=[i for i in plan.ids if any(e.id == LEFT_OUT and i in _folded(e.values) for e in told)],
            writers=writers,
            lacking=lacking,
            missing=[] if lacking else self._missing(vss, set_id),
        )

    def _missing(self, vss: Vss, set_id: str) -> list[str]:
        """VMs of the dataset that the components document does not hold as backed up."""
        try:
            documented, done = set_of(vss.metadata(self._metadata))
        except (ValueError, NotFound) as error:
            return [f"any VM: {error.args[0]}"]
        if documented != set_id:
            return [f"any VM: its document is of set {documented}"]
        return [self._names[vm_id] for vm_id in self.plan.ids if not done.get(vm_id, False)]

    # --- judging

    def _problem(self, seen: _Seen) -> Problem | None:
        codes = hresults(self.printed)
        code = codes[0].lower() if codes else ""
        ids = {event.id for event in seen.provider}
        bad = [writer for writer in seen.writers if not stable(writer)]
        retry = code in TRANSIENT
        if code == IN_PROGRESS and not seen.set_id:
            return Problem(
                f"Another shadow copy set is being created on {self.plan.host}, or of its volumes",
                why="one backup at a time on a host and on a volume",
                next_action="Wait for the other backup's end, then try again; give the datasets schedules apart.",
                code=f"0x{IN_PROGRESS}",
                tr="6.2",
            )
        if TOO_LATE in ids and not seen.set_id:
            return Problem(
                f"The provider on {self.plan.host} took longer than 10 seconds for the Snapshot copies",
                why=next(event.message for event in seen.provider if event.id == TOO_LATE),
                next_action="Try again when the array is less busy; fewer LUNs in the dataset help.",
                code=str(TOO_LATE),
                tr="9, appendix",
                transient=True,
            )
        if seen.failed:
            names = sorted({self._names[i] for e in seen.failed for i in self.plan.ids if i in _folded(e.values)})
            return Problem(
                f"{', '.join(names)} could not be backed up",
                why="; ".join(dict.fromkeys(event.message for event in seen.failed)),
                next_action="Look into the guest and at its integration services; then try again.",
                code=str(seen.failed[0].id),
                tr="6.2/5" if seen.set_id else "6.2/2",
                transient=retry,
                vms=tuple(names),
            )
        if REFUSED in ids:
            return Problem(
                f"The array refused what the provider on {self.plan.host} asked for",
                why=next(event.message for event in seen.provider if event.id == REFUSED),
                next_action="Mend what the array says, then try again.",
                code=str(REFUSED),
                tr="appendix",
            )
        if not seen.set_id or seen.lacking:
            lacking = f"the array does not have {'; '.join(seen.lacking)}" if seen.lacking else "no event 4089"
            return Problem(
                f"The shadow copy set on {self.plan.host} was not completed",
                why=f"{lacking}{f'; VSS says 0x{code}' if code else ''}{_states(bad)}",
                next_action="Read what DiskShadow printed in the wire log, and the Application log of the host.",
                code=f"0x{code}" if code else "",
                tr="6.2",
                transient=retry,
            )
        if seen.missing:
            return Problem(
                f"The set does not hold {', '.join(seen.missing)}",
                why="VSS leaves out a VM that needs a volume which is not in the set, without failing",
                next_action="Look at what DiskShadow says it excludes, in the wire log.",
                tr="9",
                vms=tuple(name for name in seen.missing if name in self._names.values()),
            )
        if bad:
            return Problem(
                f"VSS writers of {self.plan.host} are not stable after the set",
                why=_states(bad).lstrip("; "),
                next_action="Restart the writers' services, then try again.",
                tr="9",
                transient=retry,
            )
        return None


def _states(writers: Sequence[WriterState]) -> str:
    return "".join(f"; {w.writer} on {w.host}: {w.state}, {w.error}" for w in writers)


def _folded(values: Sequence[str]) -> set[str]:
    return {value.strip("{}").lower() for value in values}
