"""A flow: one TR procedure as a class whose steps are methods; planned, run, cancelled, resumed, undone by one rule.

Before the first pivot has started, failure or cancel undoes every step that started, the failed one too, latest first;
after it the run stops and can only be resumed. Steps find things by names that ``survey`` chose, so steps and undos can
run again after a crash. A kill (a BaseException that is no Exception) is not handled: the journal stays open.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Final, Generic, Protocol, TypeVar

import msgspec

from smhvlab.brake import Brake
from smhvlab.record import Confirmation, Event, FlowRecord, Plan, PlannedStep
from smhvlab.runner import Runner
from smhvlab.steps import Step
from smhvlab.steps import step as step  # authors of flows import it from here
from smhvlab.worker import Worker

S = TypeVar("S")
T = TypeVar("T")
CHOSEN: Final = MappingProxyType({"chosen": True})  # metadata of state fields that each survey makes up anew


class Control(Protocol):
    """What holds for all wires of a site: they ask it before each request and between polls, and raise Cancelled."""

    step: str  # of the calling thread; goes into wire log entries
    busy: threading.Lock  # held by the site's one run

    def obeying(self, brake: Brake) -> AbstractContextManager[None]:
        """Within the block the calling thread is stopped by this brake."""

    def shielded(self) -> AbstractContextManager[None]:
        """Within the block the calling thread is stopped by none."""


class FlowSite(Protocol):
    """What a flow itself needs of a site."""

    @property
    def name(self) -> str: ...
    @property
    def control(self) -> Control: ...
    @property
    def journals(self) -> Path | None:
        """Folder of its runs' journals; None: the user's state folder."""

    @property
    def read_only(self) -> bool:
        """Whether nothing may be changed."""

    def release(self) -> None:
        """Close the connections of the calling thread."""


class Flow(ABC, Generic[S]):
    """A procedure. A subclass is a ``Flow[State]`` with ``survey`` and steps; State is a dataclass msgspec can encode.

    ``parameters`` (JSON values, no secrets) are journaled; a subclass's ``__init__(self, site, *, ...)`` hands all its
    own on, by name. ``on_event`` hears events and ``gate`` is asked before each step, both in the run's thread; a gate
    that returns False cancels, one that blocks has to look at ``cancelling``. ``state_folder``: of the journal.
    """

    tr: ClassVar[str] = ""
    format: ClassVar[int] = 1  # raise it when steps or state change meaning: older runs can then only be undone

    def __init__(self, site: FlowSite, **parameters: Any) -> None:
        self.site = site
        self.parameters: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(parameters))
        self.on_event: Callable[[Event], None] | None = None
        self.gate: Callable[[PlannedStep], bool] | None = None
        self.state_folder = site.journals
        self.run_id = ""
        self.record: FlowRecord | None = None
        self._runner = Runner(self)
        self._worker = Worker(
            f"smhvlab: {self.title()}", ready=self._runner.ready, cancel=self.cancel, leave=site.release
        )

    @abstractmethod
    def survey(self) -> S:
        """Read the site and choose every name that the run will create. Raises Refused if it must not run."""

    def confirmations(self, state: S) -> Sequence[Confirmation]:
        """What the user has to accept by key before the first change."""
        return ()

    def losses(self, state: S) -> Sequence[str]:
        """What a run would destroy, in sentences: the first lines of the plan."""
        return ()

    def settle(self, *, lost: bool) -> None:
        """Wait until the site does nothing more for requests whose end nobody saw: their effects would come too late.

        Called before an undo and before a resume. ``lost``: a process died within a step, or a reply was lost.
        """

    def failed(self, error: Exception) -> None:
        """Tell the site of a run that has failed, after it was taken back. Must not raise; not called for a plan."""

    def result(self, state: S) -> object:
        """The flow's own account of what it achieved, a frozen dataclass with ``_repr_html_``."""
        return None

    @classmethod
    def steps(cls) -> tuple[Step[Any], ...]:
        found: dict[str, Step[Any]] = {}
        for base in reversed(cls.__mro__):
            found.update((value.name, value) for value in vars(base).values() if isinstance(value, Step))
        return tuple(found.values())

    @classmethod
    def title(cls) -> str:
        """First line of the class's docstring."""
        return (cls.__doc__ or cls.__name__).strip().splitlines()[0].rstrip(".")

    def __repr__(self) -> str:
        given = ", ".join(f"{key}={value!r}" for key, value in self.parameters.items())
        return f"{self.title()} on {self.site.name} ({given})\n{self._how_far()}"

    def _repr_html_(self) -> str:
        from smhvlab.panels.pictures import flow_html

        return flow_html(self.title(), self.site.name, self.tr, self.parameters, self._how_far())

    def _how_far(self) -> str:
        if self.running:
            return "It is at work now."
        if self.record is not None:
            return f"Its last run, {self.record.run}: {self.record.outcome}."
        return "Nothing has happened yet: flow.plan() shows it, await flow.run() does it, site.stepper(flow) does both."

    @property
    def running(self) -> bool:
        return self._worker.busy

    @property
    def cancelling(self) -> bool:
        return self.running and self._runner.brake.pulled

    @property
    def in_flight(self) -> str | None:
        """Title of the request that it is waiting for."""
        return self._runner.brake.in_flight

    def plan(self) -> Plan[S]:
        """Survey the site and tell what a run would do. Nothing is changed."""
        return self._worker.here(self._runner.plan)

    def run_sync(self, *, plan: Plan[S] | None = None, accept: Collection[str] = ()) -> FlowRecord:
        """Run in this thread; Ctrl-C cancels, a second one leaves the run to the doctor.

        Raises NotAllowed (the site has a run under way), PlanChanged, ConfirmationNeeded, or what stopped the run:
        ``self.record`` then tells the outcome.
        """
        return self._worker.here(lambda: self._runner.run(plan, accept))

    async def run(self, *, plan: Plan[S] | None = None, accept: Collection[str] = ()) -> FlowRecord:
        """As ``run_sync``, in a thread of its own; an interrupt cancels, and is raised after the undo."""
        return await self._worker.aside(lambda: self._runner.run(plan, accept))

    def resume_sync(self, run: str = "") -> FlowRecord:
        """Go on with a run, this object's last or one of a dead process. JournalError: that is not allowed."""
        return self._worker.here(lambda: self._runner.resume(run or self.run_id))

    async def resume(self, run: str = "") -> FlowRecord:
        """As ``resume_sync``, in a thread of its own."""
        return await self._worker.aside(lambda: self._runner.resume(run or self.run_id))

    def undo_sync(self, run: str = "") -> FlowRecord:
        """Undo an unfinished run. JournalError: that is not allowed."""
        return self._worker.here(lambda: self._runner.undo(run or self.run_id))

    async def undo(self, run: str = "") -> FlowRecord:
        """As ``undo_sync``, in a thread of its own."""
        return await self._worker.aside(lambda: self._runner.undo(run or self.run_id))

    def cancel(self) -> None:
        """Stop before the next request. From any thread; without effect if nothing runs, or during an undo."""
        if self.running:
            self._runner.cancel()

    def track(self, things: Iterable[T], *, size: Callable[[T], int] | None = None) -> Iterator[T]:
        """The things one by one, telling progress; raises Cancelled between two of them. ``size``: bytes of each."""
        return self._runner.track(things, size)

    def tell_percent(self, percent: int) -> None:
        """So much of the thing that ``track`` gave last is done."""
        self._runner.tell_percent(percent)
