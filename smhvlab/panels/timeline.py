"""The Snapshot timeline: which Snapshot copies each volume has, since when, and which of them are in use."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import ipywidgets as widgets

from smhvlab.panels import html, theme
from smhvlab.panels.panel import Panel

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

PLOTLY: Final = "application/vnd.plotly.v1+json"
_WIDTH, _LEFT, _ROW, _TOP = 720, 140, 26, 8
_NAMED: Final = 12  # Snapshot copies listed by name under the picture


@dataclass(frozen=True)
class Mark:
    """One Snapshot copy. ``owners``: who keeps it busy ("" if nobody does)."""

    volume: str
    snapshot: str
    time: datetime
    owners: str


class SnapshotTimeline(Panel):
    """A picture of a table of Snapshot copies, such as ``site.snapshots()``.

    Args:
        frame: columns volume, snapshot, create_time (datetime or ISO 8601), owners (text, "" for none).
        title: heading of the picture.
    """

    def __init__(self, frame: pd.DataFrame, *, title: str = "Snapshot copies") -> None:
        super().__init__()
        self.title = title
        self.volume = widgets.Dropdown(description="Volume", tooltip="Show one volume or all", options=["all volumes"])
        self.volume.observe(lambda _: self.relay(self.refresh), names="value")
        self.plot = widgets.Output()  # never captures: it is given its one output, which plotly's own extension draws
        self.view = widgets.VBox([self.volume, self.plot])
        self.update(frame)

    def update(self, frame: pd.DataFrame) -> None:
        """Show another table."""
        columns = [frame[name].tolist() for name in ("volume", "snapshot", "create_time", "owners")]
        self._marks = sorted(
            (Mark(str(v), str(s), _moment(t), str(o or "")) for v, s, t, o in zip(*columns, strict=True)),
            key=lambda m: (m.volume, m.time, m.snapshot),
        )
        chosen = self.volume.value
        volumes = list(dict.fromkeys(m.volume for m in self._marks))
        self.volume.options = volumes if len(volumes) == 1 else ["all volumes", *volumes]
        self.volume.value = chosen if chosen in self.volume.options else self.volume.options[0]
        self.refresh()

    def refresh(self) -> None:
        """Show the present state in the live view."""
        super().refresh()
        data = {PLOTLY: json.loads(self.figure().to_json()), "text/plain": self.describe()}
        self.plot.outputs = ({"output_type": "display_data", "data": data, "metadata": {}},)

    @property
    def marks(self) -> list[Mark]:
        """The Snapshot copies of the chosen volume, by volume and age."""
        everything = self.volume.value == "all volumes"
        return [m for m in self._marks if everything or m.volume == self.volume.value]

    def figure(self) -> go.Figure:
        """The timeline as a plot: one row per volume, one symbol per kind of owner."""
        import plotly.graph_objects as go

        traces = []
        for place, owners in enumerate(sorted({m.owners for m in self.marks})):
            mine = [m for m in self.marks if m.owners == owners]
            traces.append(
                go.Scatter(
                    x=[m.time.isoformat() for m in mine],
                    y=[m.volume for m in mine],
                    text=[m.snapshot for m in mine],
                    name=f"busy: {owners}" if owners else "free",
                    mode="markers",
                    marker={"size": 11, "symbol": theme.SYMBOLS[place % len(theme.SYMBOLS)]},
                    hovertemplate="%{text}<br>%{x}<extra>%{y}</extra>",
                )
            )
        volumes = len({m.volume for m in self.marks})
        figure = theme.figure(traces, title=self.title, height=120 + 40 * volumes)
        return figure.update_layout(showlegend=True)  # also of one kind: it says whether they are busy

    def describe(self) -> str:
        """How many Snapshot copies and volumes."""
        busy = sum(bool(m.owners) for m in self.marks)
        return (
            f"SnapshotTimeline({len(self.marks)} copies on {len({m.volume for m in self.marks})} volumes, {busy} busy)"
        )

    def render(self) -> str:
        """The timeline as SVG, and the copies by name below it."""
        marks = self.marks
        if not marks:
            return html.card(self.title, html.text("There is no Snapshot copy."))
        listed = html.table(
            ["Volume", "Snapshot copy", "Created", "Kept busy by"],
            [
                [html.text(m.volume), html.text(m.snapshot), html.text(_clock(m.time)), html.text(m.owners or "nobody")]
                for m in marks[-_NAMED:]
            ],
        )
        more = f" (the last {_NAMED})" if len(marks) > _NAMED else ""
        return html.card(
            self.title, _svg(marks), html.details(html.text(f"{len(marks)} Snapshot copies{more}"), listed)
        )


def _moment(value: Any) -> datetime:
    moment = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    return moment.to_pydatetime() if hasattr(moment, "to_pydatetime") else moment


def _clock(moment: datetime) -> str:
    return moment.isoformat(" ", timespec="seconds")


def _svg(marks: Sequence[Mark]) -> str:
    first, last = min(m.time for m in marks), max(m.time for m in marks)
    span = (last - first).total_seconds() or 1.0
    volumes = {volume: row for row, volume in enumerate(dict.fromkeys(m.volume for m in marks))}
    height = _TOP + _ROW * len(volumes) + 22
    names, lines = [], []
    for volume, row in volumes.items():
        y = _TOP + _ROW * row + _ROW // 2
        names.append(html.tag("text", html.text(volume), x=0, y=y + 4))
        lines.append(html.tag("line", x1=_LEFT, y1=y, x2=_WIDTH - 10, y2=y))
    free, busy = [], []  # a full square is busy, an open circle is free
    for m in marks:
        x = round(_LEFT + 8 + (_WIDTH - _LEFT - 26) * (m.time - first).total_seconds() / span, 1)
        y = _TOP + _ROW * volumes[m.volume] + _ROW // 2
        about = f"{m.snapshot}, {_clock(m.time)}" + (f", busy: {m.owners}" if m.owners else "")
        title = html.tag("title", html.text(about)) if len(marks) <= _NAMED else ""
        if m.owners:
            busy.append(html.tag("rect", title, x=round(x - 5, 1), y=y - 5, width=10, height=10))
        else:
            free.append(html.tag("circle", title, cx=x, cy=y, r=5))
    y = height - 6
    ends = [html.tag("text", html.text(_clock(first)), x=_LEFT, y=y)]
    if last != first:
        ends.append(html.tag("text", html.text(_clock(last)), x=_WIDTH - 10, y=y, text_anchor="end"))
    label = f"{len(marks)} Snapshot copies on {len(volumes)} volumes; circle: free, square: busy"
    return html.tag(
        "svg",
        html.tag("g", *names, fill=html.INK, font_size=12),
        html.tag("g", *lines, stroke=html.LINE),
        html.tag("g", *free, fill=html.PAPER, stroke=html.BUSY, stroke_width=2),
        html.tag("g", *busy, fill=html.WARN),
        html.tag("g", *ends, fill=html.PALE, font_size=11),
        viewBox=f"0 0 {_WIDTH} {height}",
        width="100%",
        style=f"max-width:{_WIDTH}px",
        role="img",
        aria_label=label,
    )
