"""The flow stepper: plan a flow, take its steps one by one or all at once, cancel, undo, and see what each did."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

import ipywidgets as widgets

from smhvlab import record as r
from smhvlab.doctor import unfinished
from smhvlab.errors import Cancelled, NotAllowed, PlanChanged, SmhvLabError
from smhvlab.flow import Flow
from smhvlab.panels import html
from smhvlab.panels.panel import Panel, button
from smhvlab.panels.pictures import PIVOT_NOTE, heading, loss_lines, outcome_sign, skipped_lines, status_sign, touched
from smhvlab.panels.requests import Request, requests_html

_CANCEL: Final = "Stop before the next request and take back what was done; past the point of no return: only stop"
_CANCELLED: Final = {
    None: "cancelled before the first step; nothing was changed",
    r.Outcome.UNDONE: "cancelled; everything that was done is taken back",
    r.Outcome.STOPPED: "cancelled past the point of no return: resume it",
    r.Outcome.UNDO_FAILED: str(r.Outcome.UNDO_FAILED),
    r.Outcome.DONE: str(r.Outcome.DONE),
}
_OVER: Final = (r.Outcome.DONE, r.Outcome.UNDONE)
_FINAL: Final = (r.StepStatus.DONE, r.StepStatus.SKIPPED, r.StepStatus.UNDONE)


class RequestLog(Protocol):
    """Where the stepper finds each step's requests."""

    @property
    def entries(self) -> Sequence[Request]: ...


@dataclass(frozen=True)
class StepView:
    """What the stepper shows of one step."""

    title: str
    tr: str
    pivot: bool
    plan: r.PlannedStep | None = None
    status: r.StepStatus = r.StepStatus.PENDING
    note: str = ""
    done: int = 0
    total: int = 0
    unit: str = ""
    requests: tuple[Request, ...] = ()

    @property
    def is_skipped(self) -> bool:
        """Whether it was not to run, and has not run."""
        passed = (r.StepStatus.PENDING, r.StepStatus.SKIPPED)
        return self.plan is not None and bool(self.plan.skipped) and self.status in passed


class StepperPanel(Panel):
    """Drives one flow.

    A plan is carried out once: after the run has ended its record stays, and only another plan begins again, with
    its questions asked anew. Cancel stops what is under way and takes back what was done; Undo takes back a run that
    has ended halfway.

    In a notebook ``panel.run_all()`` starts it and ``await panel.settled()`` waits until the run has ended or waits for
    an approval; in a script ``panel.wait()`` does.

    Args:
        flow: the flow; the panel becomes its listener and its gate. One from ``doctor.reopen`` is resumed or undone.
        log: the site's wire log, to show each step's requests.
    """

    def __init__(self, flow: Flow[Any], *, log: RequestLog | None = None) -> None:
        super().__init__()
        self.flow = flow
        self.log = log
        self.steps = {s.name: StepView(s.title, s.tr, s.pivot) for s in flow.steps()}
        self.questions: tuple[r.Confirmation, ...] = ()
        self.losses: tuple[str, ...] = ()
        self.outcome: r.Outcome | None = None
        self.error: BaseException | None = None
        self.waiting = ""
        self._plan: r.Plan[Any] | None = None
        self._busy = self._cancelling = False
        self._stale = False  # the plan was carried out, or the site is another: only a new one goes on
        self._accepted: tuple[str, ...] = ()
        self._allowed = self._look_up()
        self._first = self._last()  # number of the last request before the run
        # The gate lets the n-th step pass once n steps are granted; both threads look at these.
        self._gate_state = threading.Condition(self.relay.lock)
        self._granted = self._asked = self._heard = 0
        self._all_granted = False
        self._settled = threading.Event()
        self._settled.set()
        flow.on_event = lambda event: self.relay(self._hear, event)
        flow.gate = self._gate
        self._build()
        self.refresh()

    def _build(self) -> None:
        relay = self.relay
        self.plan_button = button("Plan", "Look at the site; nothing is changed", self.start_plan, relay=relay)
        self.next_button = button("Next step", "Take one step, then wait", self.next, relay=relay)
        self.run_button = button("Run all", "Take all steps that are left", self.run_all, relay=relay, style="primary")
        self.cancel_button = button("Cancel", _CANCEL, self.cancel, relay=relay)
        self.undo_button = button("Undo", "Take back a run that has ended halfway", self.undo, relay=relay)
        self.confirmations: dict[str, Any] = {}
        self.confirmation_box = widgets.VBox()
        self.progress = widgets.IntProgress(description="Progress", max=100 * max(1, len(self.steps)))
        self.progress.tooltip = "Steps done"
        self.status = widgets.HTML()
        buttons = (self.plan_button, self.next_button, self.run_button, self.cancel_button, self.undo_button)
        bar = widgets.HBox([self.progress, self.status])
        self.view = widgets.VBox([widgets.HBox(buttons), self.confirmation_box, bar, self.picture])

    @property
    def busy(self) -> bool:
        """Whether a plan or a run is under way."""
        return self._busy

    # --- what the buttons do

    def plan(self) -> r.Plan[Any]:
        """Plan now, in the calling thread. Raises what the survey raises."""
        plan = self.flow.plan()
        self.relay(self._adopt, plan)
        return plan

    def start_plan(self) -> None:
        """Plan in the background."""
        if not self._busy:
            self._start(self._planned)

    def next(self) -> None:
        """Take one step, after planning if that has not been done; a run that waits goes on by one step.

        Raises NotAllowed: the plan was carried out.
        """
        self.relay(self._go, False)

    def run_all(self) -> None:
        """Take all steps that are left. Raises NotAllowed: the plan was carried out."""
        self.relay(self._go, True)

    def cancel(self) -> None:
        """Stop before the next request. What had started is undone, unless the run has passed its pivot."""
        with self._gate_state:
            if not self._busy:
                return
            self._cancelling = True
            self._settled.clear()
            self.waiting = self.flow.in_flight or ""
            self.flow.cancel()
            self._gate_state.notify_all()
            self.refresh()

    def undo(self) -> None:
        """Take back a run that has ended halfway. Raises NotAllowed: there is none."""
        with self.relay.lock:
            if self._busy or "undo" not in self._allowed:
                raise NotAllowed(
                    f"{self.flow.title()}: there is nothing to undo",
                    why=f"it is {self._status()}",
                    next_action="Cancel a run that is under way; what a finished one did stays.",
                )
            self._begin()
            self._start(self.flow.undo_sync)

    def accept(self, *keys: str) -> None:
        """Tick confirmations, as a reader would."""
        for key in keys:
            self.confirmations[key].value = True

    def wait(self, seconds: float = 60) -> None:
        """Block until the run has ended or waits for an approval; for scripts. Raises TimeoutError."""
        if not self._settled.wait(seconds):
            raise TimeoutError(f"{self.describe()}: not settled after {seconds:g} s")

    async def settled(self, seconds: float = 60) -> None:
        """Wait until the run has ended or waits for an approval; for cells. Raises TimeoutError."""
        async with asyncio.timeout(seconds):
            while not self._settled.is_set():  # noqa: ASYNC110 # any thread sets it, with or without a loop
                await asyncio.sleep(0.02)  # meanwhile the buttons work

    # --- the run

    def _go(self, everything: bool) -> None:
        if self._stale:
            raise NotAllowed(
                f"{self.flow.title()}: this plan cannot be carried out any more",
                why=f"it is {self._status()}",
                next_action="Plan again, and read what is different now.",
            )
        if missing := self._unticked():
            self.waiting = f"your confirmation: {', '.join(missing)}"
            self.refresh()
            return
        if not self._busy:
            self._begin()
        with self._gate_state:
            # A second click on a step that was granted already must not grant the next one, which nobody has read.
            self._granted = max(self._asked, self._heard, 1)
            self._all_granted |= everything
            self._settled.clear()
            self._gate_state.notify_all()
        self.waiting = ""
        if self._busy:
            self.refresh()
        else:
            self._start(self.flow.resume_sync if "resume" in self._allowed else self._run)

    def _begin(self) -> None:
        """Forget the run before."""
        self._granted = self._asked = self._heard = 0
        self._all_granted = self._cancelling = False
        self.outcome, self.error, self.waiting = None, None, ""
        self._first = self._last()
        self.steps = {name: StepView(s.title, s.tr, s.pivot, s.plan) for name, s in self.steps.items()}

    def _last(self) -> int:
        """Number of the newest request: those up to it belong to earlier runs."""
        entries = self.log.entries if self.log is not None else ()
        return entries[-1].number if entries else 0

    def _run(self) -> None:
        plan = self._plan
        if plan is None:
            plan = self._planned()
            if plan.confirmations:
                return  # the reader has not seen them yet
        if self._cancelling:  # between the plan and the run nobody else hears it
            raise Cancelled()
        self._accepted = tuple(key for key, box in self.confirmations.items() if box.value)
        self.flow.run_sync(plan=plan, accept=self._accepted)

    def _planned(self) -> r.Plan[Any]:
        plan = self.flow.plan()
        self.relay(self._adopt, plan)
        return plan

    def _start(self, work: Callable[[], object]) -> None:
        """Do it in a thread of its own, which owns its connections."""
        self._busy = True
        self._settled.clear()

        def body() -> None:
            error: BaseException | None = None
            try:
                try:
                    work()
                finally:
                    self.flow.site.release()
            except BaseException as caught:
                error = caught  # shown; nobody else is there to see it
            self.relay(self._over, error)

        threading.Thread(target=body, name=f"panel: {self.flow.title()}").start()
        self.refresh()

    def _over(self, error: BaseException | None) -> None:
        with self._gate_state:
            self._busy = self._cancelling = False
            self.error = error
            self.waiting = ""
            self._allowed = self._look_up()
            if self.outcome in _OVER or isinstance(error, PlanChanged):
                self._plan, self._stale = None, True  # it told of the site before the run
                self.confirmations, self.confirmation_box.children = {}, ()
            elif missing := self._unticked():
                self.waiting = f"your confirmation: {', '.join(missing)}"
            self.refresh()
            self._settled.set()

    def _gate(self, step: r.PlannedStep) -> bool:
        with self._gate_state:
            self._asked += 1
            while not self._all_granted and self._granted < self._asked:
                if self.flow.cancelling or self._cancelling:
                    return False
                self._gate_state.wait(0.1)
            return not self._cancelling

    def _look_up(self) -> tuple[str, ...]:
        found = unfinished(self.flow.site.name, folder=self.flow.state_folder) if self.flow.run_id else []
        return next((u.allowed for u in found if u.run == self.flow.run_id), ())

    # --- what is shown

    def _adopt(self, plan: r.Plan[Any]) -> None:
        self._plan, self._stale, self._accepted = plan, False, ()
        self.outcome = self.error = None
        self.steps = {s.name: StepView(s.title, s.tr, s.pivot, s) for s in plan.steps}
        self.questions, self.losses = plan.confirmations, plan.losses
        self.confirmations = {
            question.key: widgets.Checkbox(description=question.key, tooltip=question.text, indent=False)
            for question in plan.confirmations
        }
        for box in self.confirmations.values():
            box.observe(lambda _: self.relay(self.refresh), names="value")
        texts = {question.key: widgets.HTML(html.text(question.text)) for question in plan.confirmations}
        self.confirmation_box.children = tuple(
            widgets.HBox([box, texts[key]]) for key, box in self.confirmations.items()
        )
        self.refresh()

    def _unticked(self) -> list[str]:
        return [] if self._busy else [key for key, box in self.confirmations.items() if not box.value]

    def _hear(self, event: r.Event) -> None:
        status = {
            r.StepStarted: r.StepStatus.RUNNING,
            r.StepFinished: r.StepStatus.DONE,
            r.StepSkipped: r.StepStatus.SKIPPED,
            r.StepFailed: r.StepStatus.FAILED,
            r.UndoStarted: r.StepStatus.UNDOING,
            r.StepUndone: r.StepStatus.UNDONE,
        }.get(type(event))
        if status is not None:
            note = event.reason if isinstance(event, r.StepSkipped) else ""
            if isinstance(event, r.StepFailed):
                note = event.error
                if self.steps[event.step].status is r.StepStatus.PENDING:
                    status = r.StepStatus.PENDING  # cancelled before it began
            self._set(event.step, status=status, note=note, done=0, total=0)
            self.waiting = ""
        elif isinstance(event, r.StepProgress):
            self._set(event.step, done=event.done, total=event.total, unit=event.unit, note=event.item)
        elif isinstance(event, r.Waiting):
            self._hear_waiting(event)
        elif isinstance(event, r.RunEnded):
            self.outcome = event.outcome
            for step in self.flow.record.steps if self.flow.record is not None else ():
                self._set(step.name, status=step.status, note=step.note, done=0, total=0)
        self.refresh()

    def _hear_waiting(self, event: r.Waiting) -> None:
        if event.what != r.APPROVAL:
            self.waiting = event.what
            return
        with self._gate_state:
            self._heard += 1
            if not self._all_granted and self._granted < self._heard:
                self.waiting = f"your approval of: {self.steps[event.step].title}"
                self._settled.set()

    def _set(self, name: str, **changes: Any) -> None:
        self.steps[name] = replace(self.steps[name], **changes)

    def refresh(self) -> None:
        """Show the present state in the live view."""
        entries = [e for e in self.log.entries if e.number > self._first] if self.log is not None else []
        for name in self.steps:
            self._set(name, requests=tuple(e for e in entries if e.step in (name, f"before {name}", f"undo {name}")))
        free, done = not self._busy or self.waiting.startswith("your"), self.outcome is r.Outcome.DONE
        barred = self._stale or self._cancelling or bool(self._allowed and "resume" not in self._allowed)
        self.plan_button.disabled = self._busy or bool(self._allowed)  # a run that is unfinished comes first
        self.next_button.disabled = self.run_button.disabled = not free or barred or bool(self._unticked())
        undoing = any(step.status is r.StepStatus.UNDOING for step in self.steps.values())
        self.cancel_button.disabled = not self._busy or self._cancelling or undoing
        self.undo_button.disabled = self._busy or "undo" not in self._allowed
        for box in self.confirmations.values():
            box.disabled = self._busy
        self.progress.value = 100 * len(self.steps) if done else sum(map(_hundredths, self.steps.values()))
        self.status.value = html.text(self._status())
        self.picture.value = self._render(lines=True)

    def _status(self) -> str:
        if self.waiting:
            return f"waiting for {self.waiting}"
        if self._busy:
            return "stopping, and taking back what was done" if self._cancelling else "working"
        if isinstance(self.error, Cancelled):
            return _CANCELLED[self.outcome]
        if self.outcome is not None:
            return str(self.outcome)
        if self.error is not None:
            return "refused; nothing was changed"
        if self._allowed:
            return f"unfinished run {self.flow.run_id}: {' or '.join(self._allowed)}"
        return "planned" if self._plan is not None else "not planned yet"

    def describe(self) -> str:
        """Title, site, how far it is."""
        final = sum(step.status in _FINAL for step in self.steps.values())
        where = f"{self.flow.title()} on {self.flow.site.name}"
        return f"StepperPanel({where}: {self._status()}, {final} of {len(self.steps)} steps)"

    def render(self) -> str:
        """Every step with its section, what it touches or did, its requests; then the outcome or the error.

        The live view has the line of each request too, to be copied; the stored picture stays small.
        """
        return self._render(lines=False)

    def _render(self, *, lines: bool) -> str:
        flow, rows, pivots = self.flow, [], 0
        skipped = [s.plan for s in self.steps.values() if s.plan is not None and s.is_skipped]
        for number, step in enumerate(self.steps.values(), 1):
            if step.is_skipped:
                continue
            pivots += step.pivot
            if step.pivot and pivots == 1:
                rows.append(["", html.sign("—", PIVOT_NOTE, html.WARN), "", "", ""])
            about = [touched(step.plan)] if step.plan is not None else []
            if step.note:
                progress = f"{step.done:,} of {step.total:,} {step.unit}".rstrip() + ": " if step.total else ""
                about.append(html.text(progress + step.note))
            rows.append(
                [
                    str(number),
                    html.text(step.title),
                    html.text(step.tr),
                    status_sign(step.status),
                    "<br>".join(part for part in about if part) + requests_html(step.requests, lines=lines),
                ]
            )
        questions = [
            html.sign("☑" if self._is_ticked(q.key) else "☐", f"{q.key}: {q.text}", html.WARN) + "<br>"
            for q in self.questions
        ]
        state = html.text(self._status())
        if self.outcome is not None and not self._busy:
            state = outcome_sign(self.outcome, self._status())
        card = html.card(
            heading(flow.title(), flow.site.name, flow.tr),
            html.tag("div", state),
            loss_lines(self.losses if self.outcome not in _OVER else ()),
            *questions,
            html.table(["", "Step", "TR-4004", "State", "What"], rows),
            skipped_lines(skipped),
            accent=html.BUSY,
        )
        return card + self._error_card()

    def _is_ticked(self, key: str) -> bool:
        return key in self._accepted or (key in self.confirmations and self.confirmations[key].value)

    def _error_card(self) -> str:
        if self.error is None or (isinstance(self.error, Cancelled) and self.outcome in (None, r.Outcome.UNDONE)):
            return ""  # the state says it all
        if isinstance(self.error, SmhvLabError):
            return self.error._repr_html_()
        return html.card(type(self.error).__name__, html.text(self.error), accent=html.BAD)


def _hundredths(step: StepView) -> int:
    if step.status in _FINAL:
        return 100
    return 100 * step.done // step.total if step.total else 0
