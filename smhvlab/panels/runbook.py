"""A runbook: several flows one after the other, with who does what where; live, and as a checklist on paper (TR 8)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import ipywidgets as widgets

from smhvlab.errors import ConfirmationNeeded, SmhvLabError
from smhvlab.flow import Flow
from smhvlab.panels import html
from smhvlab.panels.background import Background
from smhvlab.panels.panel import Panel, button
from smhvlab.panels.pictures import PIVOT_NOTE, status_sign
from smhvlab.record import Event, FlowRecord, Plan, PlannedStep, StepStarted, UndoStarted

_BOX: Final = "☐"
_PAGE: Final = (
    "<!doctype html><html lang='en'><meta charset='utf-8'><title>{title}</title>"
    "<style>body{{font:11pt sans-serif;max-width:60em;margin:2em auto;color:#000;background:#fff}}"
    "td,th{{padding:4px 10px 4px 0;border-bottom:1px solid #999;text-align:left;vertical-align:top}}"
    "@media print{{tr{{break-inside:avoid}}}}</style><body>{body}</body></html>"
)


@dataclass(frozen=True)
class Part:
    """One flow of a runbook.

    Attributes:
        who: who answers for it, e.g. "storage administrator of B".
        flow: the flow; its site says where.
        accept: keys of the warnings that are meant to be confirmed.
    """

    who: str
    flow: Flow[Any]
    accept: frozenset[str] = frozenset()


class RunbookPanel(Panel):
    """The parts of a runbook in their order; a part is planned when its turn has come.

    In a script ``next`` runs the next one and returns its record. The button does the same in the background
    (``start``), so that the kernel and Cancel stay free; ``await panel.settled()`` waits for its end.

    What a later part will touch is known only when the earlier ones have run: until then its steps stand without items.
    """

    def __init__(self, title: str, parts: Sequence[Part]) -> None:
        super().__init__()
        self.title = title
        self.parts = tuple(parts)
        self.records: list[FlowRecord] = []
        self.plans: dict[int, Plan[Any]] = {}
        self.error: BaseException | None = None
        self.at = ""  # what the part that runs is doing
        self._work: Background[FlowRecord] | None = None
        self.next_button = button(
            "Run the next part", "With the confirmations of the runbook", self.start, relay=self.relay
        )
        self.cancel_button = button("Cancel", "Stop before the next request", self.cancel, relay=self.relay)
        self.view = widgets.VBox([widgets.HBox([self.next_button, self.cancel_button]), self.picture])

    @property
    def position(self) -> int:
        """How many parts are done."""
        return len(self.records)

    def plan(self) -> Plan[Any] | None:
        """The plan of the part whose turn it is, None when all are done. Raises what its survey refuses."""
        if self.position == len(self.parts):
            return None
        found = self.parts[self.position].flow.plan()
        self.plans[self.position] = found
        self.refresh()
        return found

    def next(self) -> FlowRecord | None:
        """Run the part whose turn it is. An error is shown, and raised."""
        if self.position == len(self.parts):
            return None
        self.error = None
        try:
            record = self._take(self.parts[self.position])
        except SmhvLabError as error:
            self._over(None, error)
            raise
        self._over(record, None)
        return record

    @property
    def busy(self) -> bool:
        """Whether a part runs in the background."""
        return self._work is not None and self._work.busy

    def start(self) -> None:
        """Run the part whose turn it is in the background; an error is shown."""
        if self.busy or self.position == len(self.parts):
            return
        part = self.parts[self.position]
        self.error, self.at = None, "looking at the site"
        part.flow.on_event = lambda event: self.relay(self._hear, part, event)
        self._work = Background(
            lambda: self._take(part), release=part.flow.site.release, done=self._over, relay=self.relay
        )
        self._work.start()
        self.refresh()

    def cancel(self) -> None:
        """Stop the part that runs before its next request; it is undone, unless it has passed its pivot."""
        if self.busy:
            self.parts[self.position].flow.cancel()
            self.at = f"stopping, after {self.parts[self.position].flow.in_flight or 'this request'}"
            self.refresh()

    def wait(self, seconds: float = 60) -> None:
        """Block until the part in the background has ended; for scripts. Raises TimeoutError."""
        if self._work is not None:
            self._work.wait(seconds)

    async def settled(self, seconds: float = 60) -> None:
        """Wait until the part in the background has ended; for cells. Raises TimeoutError."""
        if self._work is not None:
            await self._work.settled(seconds)

    def _take(self, part: Part) -> FlowRecord:
        asked = part.flow.plan().confirmations
        if missing := [question for question in asked if question.key not in part.accept]:
            keys = [question.key for question in missing]
            raise ConfirmationNeeded(
                f"{part.flow.title()} asks for confirmations that the runbook does not have: {', '.join(keys)}",
                why="; ".join(question.text for question in missing),
                next_action="If that is as it should be, give the runbook all that it shall accept: "
                f"-p confirm={','.join(sorted({*part.accept, *keys}))}.",
                needed=keys,
                tr=part.flow.tr or None,
            )
        return part.flow.run_sync(accept={question.key for question in asked})

    def _hear(self, part: Part, event: Event) -> None:
        if isinstance(event, StepStarted | UndoStarted):
            title = next(step.title for step in part.flow.steps() if step.name == event.step)
            self.at = f"undoing: {title}" if isinstance(event, UndoStarted) else title
            self.refresh()

    def _over(self, record: FlowRecord | None, error: BaseException | None) -> None:
        self.at, self.error = "", error
        if record is not None:
            self.records.append(record)
        self.refresh()

    def refresh(self) -> None:
        """Show the present state in the live view."""
        self.next_button.disabled = self.busy or self.position == len(self.parts)
        self.cancel_button.disabled = not self.busy
        super().refresh()

    def describe(self) -> str:
        """The title and how far it is."""
        return f"{self.title}: {self.position} of {len(self.parts)} parts done"

    def render(self) -> str:
        """Each part with its steps and what became of them."""
        at = html.tag("div", html.text(f"working: {self.at}")) if self.at else ""
        return html.card(self.title, *(self._part(n, part) for n, part in enumerate(self.parts)), at, self._error())

    def _error(self) -> str:
        if isinstance(self.error, SmhvLabError):
            return self.error._repr_html_()
        return "" if self.error is None else html.card(type(self.error).__name__, html.text(self.error))

    def _part(self, number: int, part: Part) -> str:
        flow = part.flow
        head = html.tag("b", html.text(f"{number + 1}. {flow.title()}")) + html.text(
            f" on {flow.site.name}: {part.who}"
        )
        if number < self.position:
            rows = [[html.text(s.title), html.text(s.tr), status_sign(s.status)] for s in self.records[number].steps]
            return html.details(head, html.table(["Step", "TR", "Status"], rows))
        rows = [
            [html.text(f"{s.title}{self._items(number, s.name)}"), html.text(s.tr), _mark(s.pivot)]
            for s in flow.steps()
        ]
        return html.details(head, html.table(["Step", "TR", ""], rows), opened=number == self.position)

    def _items(self, number: int, name: str) -> str:
        for step in self.plans[number].steps if number in self.plans else ():
            if step.name == name and step.items:
                return f": {', '.join(step.items)}"
        return ""

    def paper(self) -> str:
        """A page to print: a box to tick, a time and a name for every step, and for every confirmation."""
        body = [html.tag("h1", html.text(self.title))]
        for number, part in enumerate(self.parts):
            flow, plan = part.flow, self.plans.get(number)
            body.append(html.tag("h2", html.text(f"{number + 1}. {flow.title()}")))
            body.append(html.tag("p", html.text(f"Where: {flow.site.name}. Who: {part.who}.")))
            questions = [f"{c.key}: {c.text}" for c in plan.confirmations] if plan else sorted(part.accept)
            rows = [[_BOX, html.text(f"Confirmed: {text}"), "", "", ""] for text in questions]
            steps: Sequence[Any] = plan.steps if plan else flow.steps()
            for step in steps:
                what = html.text(step.title)
                if isinstance(step, PlannedStep) and step.items:
                    what += "<br>" + html.text(", ".join(step.items))
                if step.pivot:
                    what = html.tag("b", html.text(f"— {PIVOT_NOTE} —")) + "<br>" + what
                rows.append([_BOX, what, html.text(step.tr), "", ""])
            body.append(_printed(rows))
        return _PAGE.format(title=html.text(self.title), body="".join(body))

    def save_paper(self, path: Path) -> Path:
        """Write ``paper`` to a file."""
        path.write_text(self.paper(), encoding="utf-8")
        return path


def _mark(pivot: bool) -> str:
    return html.sign("!", PIVOT_NOTE, html.WARN) if pivot else ""


def _printed(rows: Sequence[Sequence[str]]) -> str:
    head = html.tag("tr", *(html.tag("th", name) for name in ("", "What", "TR", "When", "Who")))
    return html.tag("table", head, *(html.tag("tr", *(html.tag("td", cell) for cell in row)) for row in rows))
