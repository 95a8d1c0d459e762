"""How a flow is carried out: one journaled run after the other, forward step by step, or back."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any, Generic, TypeVar, get_args

import msgspec

from smhvlab import record as r
from smhvlab.brake import Brake
from smhvlab.errors import (
    Cancelled,
    ConfirmationNeeded,
    JournalError,
    JournalFormat,
    NotAllowed,
    PlanChanged,
    ReadOnlyRefused,
    SmhvLabError,
    UnknownOutcome,
)
from smhvlab.journal import Header, Journal, Mark

if TYPE_CHECKING:
    from smhvlab.flow import Flow
    from smhvlab.steps import Step

S = TypeVar("S")
T = TypeVar("T")
_log = logging.getLogger(__name__)


class Runner(Generic[S]):
    """Carries a flow out. Everything but ``ready``, ``cancel`` and ``brake`` belongs to the thread of the run."""

    def __init__(self, flow: Flow[S]) -> None:
        self.brake = Brake()
        self._flow = flow
        # Of the brake and of what decides whether it may be pulled; Ctrl-C comes when its thread has it.
        self._lock = threading.RLock()
        self._undoing = False
        self._step = ""
        self._under_way = 0, r.StepProgress("", 0, 0, "")  # the weight of what a step is at, and what was told of it

    def ready(self) -> None:
        """Something begins: a cancel is its own from now on, and one that came too late for the last does not count."""
        with self._lock:
            self.brake.release()
            self._undoing = False

    def plan(self) -> r.Plan[S]:
        """Survey, and each step's items and counts."""
        with self._session(telling=False):
            return self._survey()

    def run(self, plan: r.Plan[S] | None, accept: Collection[str]) -> r.FlowRecord:
        """Check whatever can still be refused, then begin a journal and take the steps."""
        flow = self._flow
        with self._session(), self._telling_failures():
            now = self._survey()
            if plan is not None:
                _compare(plan, now)
            if missing := [question for question in now.confirmations if question.key not in accept]:
                unasked = sorted(set(accept) - {question.key for question in now.confirmations})
                reasons = [f"{', '.join(map(repr, unasked))}: it does not ask for that"] if unasked else []
                keys = [question.key for question in missing]
                raise ConfirmationNeeded(
                    f"{now.title} asks for {len(missing)} confirmation{'s' * (len(missing) > 1)}",
                    why="; ".join([*reasons, *(question.text for question in missing)]),
                    next_action=f"If that is as it should be: run(accept={{{', '.join(map(repr, keys))}}}).",
                    needed=keys,
                    tr=flow.tr or None,
                )
            self._need_writable()
            self._look()
            header = Header(
                site=flow.site.name,
                flow=path_of(type(flow)),
                format=flow.format,
                parameters=flow.parameters,
                accepted=tuple(sorted(str(key) for key in accept)),
            )
            state = _plain((plan or now).state)
            with closing(Journal.create(header, state, folder=flow.state_folder)) as journal:
                flow.run_id = journal.run
                if plan is not None:
                    plan.runs.append(journal.run)
                return self._forward(journal)

    def resume(self, run: str) -> r.FlowRecord:
        with self._session(), closing(self._take_over(run, "resume")) as journal, self._telling_failures():
            with self._at("settle"):
                self._flow.settle(lost=journal.interrupted)
            return self._forward(journal)

    def undo(self, run: str) -> r.FlowRecord:
        with self._session(), closing(self._take_over(run, "undo")) as journal:
            return self._back(journal, "", lost=journal.interrupted)

    def cancel(self) -> None:
        with self._lock:
            if self._undoing:
                return
            self.brake.pull()
        if what := self.brake.in_flight:
            self._tell(r.Waiting(self._step, what))

    def track(self, things: Iterable[T], size: Callable[[T], int] | None = None) -> Iterator[T]:
        weighed = [(thing, 1 if size is None else size(thing)) for thing in things]
        total, unit, done = sum(weight for _, weight in weighed), "" if size is None else "bytes", 0
        for thing, weight in weighed:
            self._look()
            self._under_way = weight, r.StepProgress(self._step, done, total, str(thing), unit)
            self._tell(self._under_way[1])
            yield thing
            done += weight
        self._tell(r.StepProgress(self._step, total, total, "", unit))

    def tell_percent(self, percent: int) -> None:
        weight, begun = self._under_way
        self._tell(replace(begun, done=begun.done + weight * percent // 100))

    # --- the run

    def _survey(self) -> r.Plan[S]:
        flow = self._flow
        with self._at("survey"):
            state = flow.survey()
        return r.Plan(
            flow=path_of(type(flow)),
            title=flow.title(),
            tr=flow.tr,
            site=flow.site.name,
            parameters=flow.parameters,
            steps=tuple(step.planned(number, state) for number, step in enumerate(flow.steps(), 1)),
            confirmations=tuple(flow.confirmations(state)),
            state=state,
            losses=tuple(flow.losses(state)),
        )

    def _forward(self, journal: Journal) -> r.FlowRecord:
        number, step = 0, None
        try:
            for number, step in enumerate(self._flow.steps(), 1):
                if step.name in journal.passed:
                    self._tell(r.StepFinished(step.name))  # by the process before this one
                else:
                    self._take(step, number, journal)
        except Exception as error:
            assert step is not None
            if isinstance(error, SmhvLabError):  # the wire does not know which step it works for
                error.state = error.state or f"step {number}, {step.title}"
                error.tr = error.tr or step.tr
            text, lost = _first_line(error), isinstance(error, UnknownOutcome)
            self._note(journal, step.name, text, lost=lost)
            self._tell(r.StepFailed(step.name, text))
            if journal.pivoted:
                self._conclude(journal, r.Outcome.STOPPED, text)
                error.add_note(f"Run {journal.run} has passed its point of no return. Mend the cause, then resume it.")
            else:
                self._back(journal, text, lost=lost)
                error.add_note(f"Run {journal.run}: every step that had started has been undone.")
            raise
        try:
            journal.write(Mark.CLOSE, text=r.Outcome.DONE)
        except JournalError as error:
            self._conclude(journal, r.Outcome.STOPPED, _first_line(error))
            error.add_note(f"All steps of run {journal.run} are done: resume it, and it is closed.")
            raise
        return self._conclude(journal, r.Outcome.DONE)

    def _take(self, step: Step[S], number: int, journal: Journal) -> None:
        state = self._state(journal)
        if not step.when(state):
            journal.write(Mark.SKIP, step.name, text=step.otherwise)
            self._tell(r.StepSkipped(step.name, step.otherwise))
            return
        self._look()
        if self._flow.gate is not None:
            self._tell(r.Waiting(step.name, r.APPROVAL))
            approved = self._flow.gate(step.planned(number, state))
            self._look()
            if not approved:
                raise Cancelled(f"{step.title} was not approved")
        if step.ready is not None and step.name not in journal.started:
            with self._at(step.name, "before "):
                step.ready(self._flow, state)
            self._look()
        journal.write(Mark.START, step.name, pivot=step.pivot)
        self._tell(r.StepStarted(step.name))
        with self._at(step.name):
            after = step.run(self._flow, state)
        journal.write(Mark.END, step.name, state=_plain(state if after is None else after))
        self._tell(r.StepFinished(step.name))

    def _back(self, journal: Journal, error: str, *, lost: bool) -> r.FlowRecord:
        """Undo what has started, the latest first. If an undo fails, the older ones stay: they may depend on it.

        An undo that cannot be written down fails too: a resume would take what it undoes for done.
        """
        with self._lock:
            self._undoing = True
            self.brake.release()
        with self._flow.site.control.shielded():  # from brakes around this run's own too
            return self._take_back(journal, error, lost=lost)

    def _take_back(self, journal: Journal, error: str, *, lost: bool) -> r.FlowRecord:
        steps = {step.name: step for step in self._flow.steps()}
        for number, name in enumerate(journal.to_undo):
            try:
                if number == 0:
                    with self._at(name, "undo "):
                        self._flow.settle(lost=lost)
                    lost = False
                if name not in steps:
                    raise JournalFormat(
                        f"This version has no step {name!r}", next_action="Use the one that began the run."
                    )
                journal.write(Mark.UNDO, name)
                self._tell(r.UndoStarted(name))
                after = None
                if (revert := steps[name].revert) is not None:
                    state = self._state(journal)
                    with self._at(name, "undo "):
                        after = revert(self._flow, state)
                    after = state if after is None else after
                journal.write(Mark.UNDONE, name, state=_plain(after))
                self._tell(r.StepUndone(name))
            except Exception as failure:
                text = _first_line(failure)
                self._note(journal, name, text, lost=lost or isinstance(failure, UnknownOutcome))
                self._tell(r.StepFailed(name, text, undoing=True))
                self._give_up(journal, failure)
                raise
        try:
            journal.write(Mark.CLOSE, text=r.Outcome.UNDONE)
        except JournalError as failure:
            self._give_up(journal, failure)
            raise
        return self._conclude(journal, r.Outcome.UNDONE, error)

    def _give_up(self, journal: Journal, failure: Exception) -> None:
        self._conclude(journal, r.Outcome.UNDO_FAILED, _first_line(failure))
        failure.add_note(f"The undo of run {journal.run} stopped here. Mend the cause, then undo it again.")

    def _note(self, journal: Journal, step: str, text: str, *, lost: bool) -> None:
        """Write a failure down. Without the line the step or undo counts as interrupted, which is no less careful."""
        with suppress(JournalError):
            journal.write(Mark.FAIL, step, text=text, lost=lost)

    def _need_writable(self) -> None:
        flow = self._flow
        if flow.site.read_only and any(step.changes for step in flow.steps()):
            raise ReadOnlyRefused(
                f"{flow.title()} would change {flow.site.name}, which was opened read-only",
                next_action="Look at its plan, or connect without read_only.",
                tr=flow.tr or None,
            )

    def _take_over(self, run: str, action: str) -> Journal:
        self._need_writable()
        flow = self._flow
        journal = Journal.open(flow.site.name, run, folder=flow.state_folder)
        try:
            header = journal.header
            if header.flow != path_of(type(flow)):
                raise JournalError(
                    f"Run {run} is of another flow, {header.flow}", next_action="Reopen it by its journal."
                )
            if obstacle := journal.obstacle(action, version=flow.format):
                failed = JournalError if journal.obstacle(action) else JournalFormat
                raise failed(
                    f"Run {run} cannot be {'undone' if action == 'undo' else 'resumed'}",
                    why=obstacle,
                    next_action="List the unfinished runs: they tell what each of them allows.",
                )
            if header.format == flow.format and header.parameters != flow.parameters:
                raise JournalError(f"Run {run} had other parameters", next_action="Reopen it by its journal.")
            self._state(journal)
        except BaseException:
            journal.close()
            raise
        flow.run_id = run
        return journal

    def _conclude(self, journal: Journal, outcome: r.Outcome, error: str = "") -> r.FlowRecord:
        flow = self._flow
        state = self._state(journal)
        flow.record = r.FlowRecord(
            flow=journal.header.flow,
            title=flow.title(),
            tr=flow.tr,
            site=flow.site.name,
            run=journal.run,
            outcome=outcome,
            parameters=journal.header.parameters,
            accepted=journal.header.accepted,
            steps=_step_records(flow.steps(), journal),
            error=error,
            result=flow.result(state) if outcome is r.Outcome.DONE else None,
            state=state,
        )
        self._tell(r.RunEnded("", outcome, error))
        return flow.record

    # --- small help

    @contextmanager
    def _session(self, *, telling: bool = True) -> Iterator[None]:
        """From the first look at the site to the last word; refusals too end in a RunEnded. A plan tells nothing."""
        control = self._flow.site.control
        if telling:
            self._flow.record = None
        try:
            if telling and not control.busy.acquire(blocking=False):
                raise NotAllowed("Another run is under way on this site", next_action="Wait for its end, or cancel it.")
            try:
                with control.obeying(self.brake):
                    yield
            finally:
                self.ready()
                if telling:
                    control.busy.release()
        except Exception as error:
            if telling and self._flow.record is None:
                self._tell(r.RunEnded("", None, _first_line(error)))
            raise

    @contextmanager
    def _at(self, step: str, prefix: str = "") -> Iterator[None]:
        control = self._flow.site.control
        before, self._step, control.step = control.step, step, prefix + step
        try:
            yield
        finally:
            self._step, control.step = "", before

    @contextmanager
    def _telling_failures(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self._flow.failed(error)
            raise

    def _look(self) -> None:
        if self.brake.pulled:
            raise Cancelled()

    def _tell(self, event: r.Event) -> None:
        if self._flow.on_event is not None:
            try:
                self._flow.on_event(event)
            except Exception:  # who watches must not decide how a run ends
                _log.exception("A listener failed at %r", event)

    def _state(self, journal: Journal) -> S:
        try:
            state: S = msgspec.convert(journal.state, _state_type(type(self._flow)), str_keys=True)
        except msgspec.MsgspecError as error:
            raise JournalFormat(
                f"The state of run {journal.run} means nothing to this version",
                why=str(error),
                next_action="Use the version that began the run.",
            ) from error
        return state


def path_of(flow: type[Flow[Any]]) -> str:
    """How a journal names a flow: "module:class"."""
    return f"{flow.__module__}:{flow.__qualname__}"


def _state_type(flow: type[Flow[Any]]) -> Any:
    for base in flow.__mro__:
        for parent in vars(base).get("__orig_bases__", ()):
            for argument in get_args(parent):
                if is_dataclass(argument):
                    return argument
    raise TypeError(f"{flow.__qualname__} does not say what its state is: write Flow[State].")


def _plain(state: object) -> Any:
    """The state as JSON values."""
    return msgspec.to_builtins(state, str_keys=True)


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def _compare(plan: r.Plan[S], now: r.Plan[S]) -> None:
    """PlanChanged, unless the site is as the plan saw it (but for the names that a survey makes up).

    A plan that a run has begun with is refused too: what it names may be there, and would be taken for done.
    """
    if plan.runs:
        raise PlanChanged(
            f"{now.title}: this plan is that of run {plan.runs[-1]}",
            next_action="Plan again.",
            tr=now.tr or None,
        )
    differences = [
        f"{name}: was {getattr(plan, name)}, is {getattr(now, name)}"
        for name in ("flow", "site", "parameters")
        if getattr(plan, name) != getattr(now, name)
    ]
    if not differences:
        for field in fields(now.state):  # type: ignore[arg-type]  # a state is a dataclass
            then, today = getattr(plan.state, field.name), getattr(now.state, field.name)
            if then != today and not field.metadata.get("chosen"):
                differences.append(f"{field.name}: was {then!r:.100}, is {today!r:.100}")
    if differences:
        raise PlanChanged(
            f"{now.title}: the site is no longer what the plan has seen",
            next_action="Plan again, and look at what is different.",
            differences=differences,
            tr=now.tr or None,
        )


_STATUS = {
    Mark.SKIP: r.StepStatus.SKIPPED,
    Mark.START: r.StepStatus.RUNNING,
    Mark.END: r.StepStatus.DONE,
    Mark.FAIL: r.StepStatus.FAILED,
    Mark.UNDO: r.StepStatus.UNDOING,
    Mark.UNDONE: r.StepStatus.UNDONE,
}


def _step_records(steps: Sequence[Step[Any]], journal: Journal) -> tuple[r.StepRecord, ...]:
    """What each step came to; one at which the run was stopped before it started stays pending."""
    started = {line.step for line in journal.lines if line.mark in (Mark.START, Mark.SKIP)}
    last = {line.step: line for line in journal.lines if line.mark in _STATUS and line.step in started}
    notes = {line.step: line.text for line in journal.lines if line.text or line.mark is Mark.END}
    return tuple(
        r.StepRecord(
            number=number,
            name=step.name,
            title=step.title,
            tr=step.tr,
            status=_STATUS[last[step.name].mark] if step.name in last else r.StepStatus.PENDING,
            note=notes.get(step.name, ""),
        )
        for number, step in enumerate(steps, 1)
    )
