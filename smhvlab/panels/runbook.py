"""A runbook: several flows one after the other, with who does what where; live, and as a checklist on paper (TR 8)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import ipywidgets as widgets

from smhvlab.errors import SmhvLabError
from smhvlab.flow import Flow
from smhvlab.panels import html
from smhvlab.panels.panel import Panel, button
from smhvlab.panels.pictures import PIVOT_NOTE, status_sign
from smhvlab.record import FlowRecord, Plan, PlannedStep

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
    """The parts of a runbook in their order. ``next`` runs the next one; a part is planned when its turn has come.

    What a later part will touch is known only when the earlier ones have run: until then its steps stand without items.
    """

    def __init__(self, title: str, parts: Sequence[Part]) -> None:
        super().__init__()
        self.title = title
        self.parts = tuple(parts)
        self.records: list[FlowRecord] = []
        self.plans: dict[int, Plan[Any]] = {}
        self.refusal: SmhvLabError | None = None
        self.next_button = button(
            "Run the next part", "With the confirmations of the runbook", self.next, relay=self.relay
        )
        self.view = widgets.VBox([self.next_button, self.picture])

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
        part = self.parts[self.position]
        self.refusal = None
        try:
            asked = {question.key for question in part.flow.plan().confirmations}
            record = part.flow.run_sync(accept=asked & part.accept)
        except SmhvLabError as error:
            self.refusal = error
            raise
        finally:
            self.refresh()
        self.records.append(record)
        self.refresh()
        return record

    def describe(self) -> str:
        """The title and how far it is."""
        return f"{self.title}: {self.position} of {len(self.parts)} parts done"

    def render(self) -> str:
        """Each part with its steps and what became of them."""
        error = self.refusal._repr_html_() if self.refusal is not None else ""
        return html.card(self.title, *(self._part(n, part) for n, part in enumerate(self.parts)), error)

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
