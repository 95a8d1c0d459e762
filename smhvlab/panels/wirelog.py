"""The wire log as a panel: every request of both wires, to be filtered, read and copied."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

import ipywidgets as widgets

from smhvlab.panels import html
from smhvlab.panels.panel import Panel
from smhvlab.panels.requests import Request, found_nothing

if TYPE_CHECKING:
    import pandas as pd

ALL: Final = "both wires"
_ANSWER: Final = 240  # characters of an answer that are shown; frame() has it all
_PAUSE: Final = 0.2  # seconds between two pictures while requests pour in


class Named(Protocol):
    """An enum's member."""

    @property
    def value(self) -> str: ...


class Entry(Request, Protocol):
    """What the panel reads of an entry (``wires.log.WireEntry``)."""

    @property
    def wire(self) -> Named: ...
    @property
    def response(self) -> str: ...
    @property
    def status(self) -> str: ...


class Log(Protocol):
    """What the panel reads of a log (``wires.log.WireLog``)."""

    @property
    def entries(self) -> Sequence[Entry]: ...
    def subscribe(self, listener: Callable[[Any], None]) -> Callable[[], None]: ...


class WireLogPanel(Panel):
    """Shows the newest requests that pass the filters; each unfolds into the line to copy and the answer.

    Args:
        log: the site's log.
        limit: how many requests are shown at most.
    """

    def __init__(self, log: Log, *, limit: int = 15) -> None:
        super().__init__()
        self.log = log
        self.limit = limit
        self._due = False
        self.text = widgets.Text(description="Filter", tooltip="Part of a title, a request, a step or a code")
        self.wire = widgets.Dropdown(
            description="Wire", tooltip="Which protocol", options=(ALL, "REST", "PowerShell"), value=ALL
        )
        self.changes = widgets.Checkbox(description="changes only", tooltip="Hide what only reads", indent=False)
        self.failed = widgets.Checkbox(description="failed only", tooltip="Hide what succeeded", indent=False)
        for control in (self.text, self.wire, self.changes, self.failed):
            control.observe(lambda _: self.relay(self.refresh), names="value")
        filters = widgets.HBox([self.text, self.wire, self.changes, self.failed])
        self.view = widgets.VBox([filters, self.picture])
        self._end = log.subscribe(lambda _: self.relay(self._later))
        self.refresh()

    def close(self) -> None:
        """Hear no more of the log."""
        self._end()

    def rows(self) -> list[Entry]:
        """The entries that pass the filters, in the order of the log."""
        wanted = self.text.value.casefold()
        return [
            entry
            for entry in self.log.entries
            if (self.wire.value == ALL or entry.wire.value == self.wire.value)
            and not (self.changes.value and entry.reads)
            and not (self.failed.value and not entry.code)
            and wanted in " ".join((entry.title, entry.request, entry.step, entry.code, entry.endpoint)).casefold()
        ]

    def frame(self) -> pd.DataFrame:
        """The filtered entries: number, wire, endpoint, step, title, reads, status, code, request, response."""
        import pandas as pd

        columns = ["number", "wire", "endpoint", "step", "title", "reads", "status", "code", "request", "response"]
        rows = [[e.wire.value if name == "wire" else getattr(e, name) for name in columns] for e in self.rows()]
        return pd.DataFrame(rows, columns=columns).astype({"number": "int64", "reads": "bool"})

    def describe(self) -> str:
        """How many requests there are, and how many are shown."""
        return f"WireLogPanel({len(self.rows())} of {len(self.log.entries)} requests)"

    def render(self) -> str:
        """The newest filtered requests, each with its copyable line."""
        rows = self.rows()
        shown = rows[-self.limit :]
        before = f", the last {len(shown)} are shown" if len(shown) < len(rows) else ""
        table = html.table(["", "Wire", "Step", "Request", "Answer"], (_cells(entry) for entry in shown))
        return html.card(f"Wire log: {len(rows)} of {len(self.log.entries)} requests{before}", table)

    def _later(self) -> None:
        """One picture for many entries: they come faster than anybody can read."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return  # nobody sees the live view; it is drawn when it is shown
        if not self._due:
            self._due = True
            loop.call_later(_PAUSE, self._now)

    def _now(self) -> None:
        self._due = False
        self.refresh()


def _cells(entry: Entry) -> list[str]:
    kind = html.sign("·", "read", html.PALE) if entry.reads else html.sign("●", "change", html.BUSY)
    answer = html.sign("✗", entry.code, html.BAD) if entry.code else html.sign("✓", entry.status, html.GOOD)
    if found_nothing(entry):
        answer = html.sign("✓", "nothing found", html.GOOD)
    body = [html.code(entry.request)]
    if entry.response:
        answer_text = entry.response if len(entry.response) <= _ANSWER else entry.response[:_ANSWER] + " ..."
        body.append(html.tag("div", html.text(answer_text), style=f"color:{html.PALE}"))
    line = html.details(f"{kind} {html.text(entry.title)}", *body)
    return [str(entry.number), html.text(f"{entry.wire.value} {entry.endpoint}"), html.text(entry.step), line, answer]
