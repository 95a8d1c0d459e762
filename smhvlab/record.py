"""What a flow tells about itself: its plan, the events of a run, and the record that is left."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

if TYPE_CHECKING:
    import pandas as pd

S = TypeVar("S")
APPROVAL: Final = "approval"
"""What a run waits for at its gate."""


@dataclass(frozen=True, kw_only=True)
class Confirmation:
    """Something that the user has to accept by name before the first change."""

    key: str
    text: str
    tr: str = ""


@dataclass(frozen=True, kw_only=True)
class PlannedStep:
    """One step of a plan. ``counts`` are names of the cost book and how often; ``skipped`` says why it will not run."""

    number: int
    name: str
    title: str
    tr: str
    pivot: bool
    changes: bool
    undoable: bool
    items: tuple[str, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    skipped: str = ""


@dataclass(frozen=True, kw_only=True, repr=False)
class Plan(Generic[S]):
    """What a run would do now. Nothing has been changed.

    ``losses``: what a run would destroy, in sentences; ``runs``: those that have carried the plan out.
    """

    flow: str
    title: str
    tr: str
    site: str
    parameters: Mapping[str, Any]
    steps: tuple[PlannedStep, ...]
    confirmations: tuple[Confirmation, ...]
    state: S
    losses: tuple[str, ...] = ()
    runs: list[str] = field(default_factory=list, compare=False)

    @property
    def pivot(self) -> int:
        """Number of the first step after which there is no undo, 0 if there is none."""
        return next((step.number for step in self.steps if step.pivot and not step.skipped), 0)

    @property
    def counts(self) -> dict[str, int]:
        """The counts of all steps together."""
        total: Counter[str] = Counter()
        for step in self.steps:
            total.update(step.counts)
        return dict(sorted(total.items()))

    def frame(self) -> pd.DataFrame:
        """One row per step and thing touched: number, step, title, tr, item, changes, pivot, skipped."""
        import pandas as pd

        rows = [
            (s.number, s.name, s.title, s.tr, item, s.changes, s.pivot, s.skipped)
            for s in self.steps
            for item in s.items or ("",)
        ]
        columns = ["number", "step", "title", "tr", "item", "changes", "pivot", "skipped"]
        types = {"number": "int64", "changes": "bool", "pivot": "bool"}
        return pd.DataFrame(rows, columns=columns).astype(types)

    def __repr__(self) -> str:
        lines = [f"{self.title} on {self.site}" + (f" (TR-4004 {self.tr})" if self.tr else "")]
        lines += [f"  ! {loss}" for loss in self.losses]
        pivot = self.pivot
        for step in self.steps:
            if step.skipped:
                continue
            if step.number == pivot:
                lines.append("   ---- no undo from here on ----")
            what = ", ".join(step.items)
            lines.append(f"{step.number:2}. {step.title} [{step.tr}]" + (f": {what}" if what else ""))
        if skipped := [f"{step.number} {step.title} ({step.skipped})" for step in self.steps if step.skipped]:
            lines.append(f"    skipped: {'; '.join(skipped)}")
        lines += [f"    accept {c.key!r}: {c.text}" for c in self.confirmations]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        from smhvlab.panels.pictures import plan_html

        return plan_html(self)


class StepStatus(StrEnum):
    PENDING = "pending"
    RUNNING = "running"
    DONE = "done"
    SKIPPED = "skipped"
    FAILED = "failed"
    UNDOING = "undoing"
    UNDONE = "undone"


class Outcome(StrEnum):
    """How a run ended. STOPPED: past the point of no return, to be resumed. UNDO_FAILED: to be undone again."""

    DONE = "done"
    UNDONE = "undone"
    STOPPED = "stopped"
    UNDO_FAILED = "undo failed"


@dataclass(frozen=True, kw_only=True)
class StepRecord:
    number: int
    name: str
    title: str
    tr: str
    status: StepStatus
    note: str = ""


@dataclass(frozen=True, kw_only=True, repr=False)
class FlowRecord:
    """What happened in a run. ``result`` is the flow's own (frozen) account, ``state`` its last state."""

    flow: str
    title: str
    tr: str
    site: str
    run: str
    outcome: Outcome
    parameters: Mapping[str, Any]
    accepted: tuple[str, ...]
    steps: tuple[StepRecord, ...]
    error: str = ""
    result: Any = None
    state: Any = None

    def __repr__(self) -> str:
        lines = [f"{self.title} on {self.site}: {self.outcome} (run {self.run})"]
        for step in self.steps:
            lines.append(
                f"{step.number:2}. {step.title} [{step.tr}]: {step.status}" + (f", {step.note}" * bool(step.note))
            )
        return "\n".join(lines + [f"    {self.error}"] * bool(self.error))

    def _repr_html_(self) -> str:
        from smhvlab.panels.pictures import record_html

        return record_html(self)


@dataclass(frozen=True)
class Event:
    """Something that a running flow tells; sent from the run's own thread."""

    step: str


@dataclass(frozen=True)
class StepStarted(Event):
    """The step's function is about to be called."""


@dataclass(frozen=True)
class StepProgress(Event):
    """``done`` of ``total`` things, or of another ``unit``, are done; ``item`` is the thing that is at work."""

    done: int
    total: int
    item: str
    unit: str = ""


@dataclass(frozen=True)
class StepFinished(Event):
    """The step's end is in the journal."""


@dataclass(frozen=True)
class StepSkipped(Event):
    reason: str


@dataclass(frozen=True)
class StepFailed(Event):
    """The step, or if ``undoing`` its undo, raised."""

    error: str
    undoing: bool = False


@dataclass(frozen=True)
class UndoStarted(Event):
    """The step's undo is about to be called."""


@dataclass(frozen=True)
class StepUndone(Event):
    """The undo's end is in the journal."""


@dataclass(frozen=True)
class Waiting(Event):
    """The run waits for ``what``: an approval, or (after cancel) a request that is in flight."""

    what: str


@dataclass(frozen=True)
class RunEnded(Event):
    """Nothing more comes. ``outcome`` is None if the run ended before its journal began."""

    outcome: Outcome | None
    error: str = ""
