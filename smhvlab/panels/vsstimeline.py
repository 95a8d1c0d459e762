"""The VSS timeline: who did what, when, and how the two time limits of a shadow copy set were kept (TR 9)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import ipywidgets as widgets

from smhvlab.backup.shadowsigns import Budget, Lane, ShadowLog, Sign, Verdict, commits, has_failed
from smhvlab.panels import html, theme
from smhvlab.panels.panel import Panel
from smhvlab.panels.timeline import PLOTLY

if TYPE_CHECKING:
    import plotly.graph_objects as go

_WIDTH, _LEFT, _ROW, _TOP, _TEXT = 860, 190, 26, 6, 22
_NARROW: Final = 9  # pixels that a span has at least
_LISTED: Final = 60
_VERDICT: Final = {
    Verdict.WITHIN: ("✓", html.GOOD),
    Verdict.OVER: ("✗", html.BAD),
    Verdict.UNTOLD: ("?", html.WARN),
}


class VssTimeline(Panel):
    """A picture of what a site tells of its shadow copy sets, such as ``site.vss_timeline()`` reads it.

    Args:
        log: what was found.
        title: heading of the picture.
    """

    def __init__(self, log: ShadowLog, *, title: str = "VSS timeline") -> None:
        super().__init__()
        self.log = log
        self.title = title
        self.node = widgets.Dropdown(
            description="Node", tooltip="Show one node or all", options=["all nodes", *self._nodes(log.signs)]
        )
        self.node.observe(lambda _: self.relay(self.refresh), names="value")
        self.plot = widgets.Output()  # never captures: it is given its one output, which plotly's own extension draws
        self.view = widgets.VBox([self.node, self.plot, self.picture])
        self.refresh()

    @staticmethod
    def _nodes(signs: Sequence[Sign]) -> list[str]:
        return sorted({s.node for s in signs if s.lane is not Lane.ARRAY})

    @property
    def signs(self) -> list[Sign]:
        """What is shown: the chosen node's, and the array's."""
        every = self.node.value == "all nodes"
        return [s for s in self.log.signs if every or s.lane is Lane.ARRAY or s.node == self.node.value]

    @property
    def budgets(self) -> list[Budget]:
        """The chosen node's."""
        every = self.node.value == "all nodes"
        return [b for b in self.log.budgets if every or b.node == self.node.value]

    def refresh(self) -> None:
        """Show the present state in the live view."""
        self.picture.value = self._tables()
        data = {PLOTLY: json.loads(self.figure().to_json()), "text/plain": self.describe()}
        self.plot.outputs = ({"output_type": "display_data", "data": data, "metadata": {}},)

    def describe(self) -> str:
        """How many sets were committed, and what was over its budget or failed."""
        sets = len({s.set_id for s in self.log.signs if commits(s) and not s.failed})
        over = sum(b.verdict is Verdict.OVER for b in self.log.budgets)
        failed = sum(has_failed(w) for w in self.log.writers)
        return (
            f"VssTimeline({sets} set{'s' * (sets != 1)} committed, {over} over budget, "
            f"{failed} writer{'s' * (failed != 1)} failed)"
        )

    # --- the plot

    def figure(self) -> go.Figure:
        """Swim lanes as a plot: one row for each node and lane, one for each budget; time in seconds."""
        import plotly.graph_objects as go

        signs, budgets = self.signs, self.budgets
        rows = _rows(signs)
        names = [_row_name(row) for row in rows] + [_budget_name(b, budgets) for b in budgets]
        traces: list[object] = []
        for failed in (False, True):
            mine = [s for s in signs if s.failed is failed]
            spans, moments = [s for s in mine if s.seconds], [s for s in mine if not s.seconds]
            colour = theme.COLOURS[3] if failed else theme.COLOURS[0]
            word = "failed" if failed else "done"
            if spans:
                traces.append(
                    go.Bar(
                        y=[_row_name((s.node, s.lane)) for s in spans],
                        x=[round(s.seconds, 3) for s in spans],
                        base=[self._at(s) for s in spans],
                        customdata=[f"{s.title} ({s.source})" for s in spans],
                        hovertemplate="%{customdata}<br>from %{base} s, %{x} s<extra></extra>",
                        orientation="h",
                        width=0.5,
                        name=f"{word}, with a duration",
                        opacity=0.75,  # one span may lie within another
                        marker={"color": colour, "pattern": {"shape": "x" if failed else ""}},
                    )
                )
            if moments:
                traces.append(
                    go.Scatter(
                        y=[_row_name((s.node, s.lane)) for s in moments],
                        x=[self._at(s) for s in moments],
                        text=[f"{s.title} ({s.source})" for s in moments],
                        hovertemplate="%{text}<br>at %{x} s<extra></extra>",
                        mode="markers",
                        name=word,
                        marker={"size": 11, "symbol": "x" if failed else "circle", "color": colour},
                    )
                )
        traces += self._budget_bars(budgets)
        figure = theme.figure(traces, height=110 + 34 * max(1, len(names)))
        figure.update_yaxes(categoryorder="array", categoryarray=names[::-1])
        start = self.log.start.strftime("%H:%M:%S UTC")
        figure.update_xaxes(title={"text": f"seconds since {start}"})
        return figure.update_layout(
            barmode="overlay", showlegend=True, legend={"orientation": "h", "y": 1, "yanchor": "bottom"}
        )

    def _budget_bars(self, budgets: Sequence[Budget]) -> list[object]:
        import plotly.graph_objects as go

        placed = [(b, self._begin(b)) for b in budgets]
        if not placed:
            return []
        rows = [_budget_name(b, budgets) for b in budgets]
        allowed = go.Bar(
            y=rows,
            x=[b.limit for b in budgets],
            base=[begin for _, begin in placed],
            orientation="h",
            width=0.6,
            name="allowed",
            hovertemplate="allowed: %{x} s<extra></extra>",
            marker={"color": "rgba(128,128,128,.15)", "line": {"color": theme.COLOURS[1], "width": 1}},
        )
        told = [(b, begin, row) for (b, begin), row in zip(placed, rows, strict=True) if b.spent is not None]
        spent = go.Bar(
            y=[row for _, _, row in told],
            x=[round(b.spent or 0.0, 3) for b, _, _ in told],
            base=[begin for _, begin, _ in told],
            orientation="h",
            width=0.3,
            name="spent",
            customdata=[b.why for b, _, _ in told],
            hovertemplate="%{customdata}<extra></extra>",
            marker={"color": [theme.COLOURS[3] if b.verdict is Verdict.OVER else theme.COLOURS[2] for b, _, _ in told]},
        )
        return [allowed, spent]

    def _at(self, sign: Sign) -> float:
        return round((sign.start - self.log.start).total_seconds(), 3)

    def _begin(self, budget: Budget) -> float:
        """Where a budget's bar begins; without a beginning that is told, at that of its set's commit."""
        start = budget.start
        if start is None:
            start = next((b.start for b in self.log.budgets if b.set_id == budget.set_id and b.start), self.log.start)
        return round((start - self.log.start).total_seconds(), 3)

    # --- the picture

    def render(self) -> str:
        """The swim lanes as SVG, the budgets, what failed, and every sign with its source."""
        if not self.signs:
            return html.card(self.title, html.text("No log of the site tells of a shadow copy set in this time."))
        return self._tables(self._svg())

    def _tables(self, picture: str = "") -> str:
        failed = self.log.failed
        head = [html.sign("✗", text, html.BAD) + "<br>" for text in failed]
        if not failed:
            head = [html.sign("✓", "every phase that is told was in time, no writer failed", html.GOOD)]
        budgets = html.table(
            ["Budget", "Node", "Spent", "Allowed", "Verdict", "How it is known"],
            [
                [
                    html.text(b.title),
                    html.text(b.node),
                    html.text(_spent(b)),
                    f"{b.limit:.0f} s",
                    html.sign(*_word(b)),
                    html.text(b.why),
                ]
                for b in self.budgets
            ],
        )
        bad = [w for w in self.log.writers if has_failed(w)]
        good = len(self.log.writers) - len(bad)
        writers = [
            html.table(
                ["Writer", "Node", "State", "Last error"],
                [[html.text(w.writer), html.text(w.host), html.sign("✗", w.state, html.BAD), html.text(w.error)]
                 for w in bad],
            )
        ] if bad else []  # fmt: skip
        listed = self.signs[:_LISTED]
        signs = html.table(
            ["", "Second", "Node", "Lane", "What", "Told by"],
            [
                [
                    str(number),
                    f"{self._at(s):.1f}" + (f" to {self._at(s) + s.seconds:.1f}" if s.seconds else ""),
                    html.text(s.node),
                    html.text(s.lane),
                    html.sign("✗", s.title, html.BAD) if s.failed else html.text(s.title),
                    html.text(s.source),
                ]
                for number, s in enumerate(listed, 1)
            ],
        )
        more = f", the first {_LISTED} are listed" if len(self.signs) > _LISTED else ""
        notes = "".join(html.tag("div", html.text(note), style=f"color:{html.PALE}") for note in self.log.notes)
        return html.card(
            self.title,
            html.tag("div", *head),
            picture,
            *([budgets] if self.budgets else []),
            *writers,
            html.tag("div", html.text(f"{good} writers are stable."), style=f"color:{html.PALE}"),
            notes,
            html.details(html.text(f"{len(self.signs)} signs from the site's logs{more}"), signs),
            accent=html.BAD if failed else html.GOOD,
        )

    def _svg(self) -> str:
        signs, budgets = self.signs, self.budgets
        rows = _rows(signs)
        first = min((self._at(s) for s in signs), default=0.0)
        ends = [self._at(s) + s.seconds for s in signs]
        ends += [self._begin(b) + max(b.limit, b.spent or 0) for b in budgets]
        last = max(ends)
        scale = (_WIDTH - _LEFT - 20) / ((last - first) or 1.0)

        def x(second: float) -> float:
            return round(_LEFT + (second - first) * scale, 1)

        names, lines, shapes = [], [], []
        for place, row in enumerate(rows):
            y = _TOP + _ROW * place
            names.append(html.tag("text", html.text(_row_name(row)), x=0, y=y + 17))
            lines.append(html.tag("line", x1=_LEFT, y1=y + 13, x2=_WIDTH - 10, y2=y + 13))
        for number, s in enumerate(signs, 1):
            y = _TOP + _ROW * rows.index((s.node, s.lane))
            shapes.append(_mark(s, number, x(self._at(s)), max(_NARROW, round(s.seconds * scale, 1)), y))
        for place, budget in enumerate(budgets, len(rows)):
            y = _TOP + _ROW * place
            names.append(html.tag("text", html.text(_budget_name(budget, budgets)), x=0, y=y + 17))
            shapes.append(_budget(budget, x(self._begin(budget)), scale, y))
        height = _TOP + _ROW * (len(rows) + len(budgets)) + _TEXT
        start = self.log.start.strftime("%H:%M:%S UTC")
        axis = [html.tag("text", html.text(f"{first:.1f} s after {start}"), x=_LEFT, y=height - 6)]
        axis.append(html.tag("text", f"{last:.1f} s", x=_WIDTH - 10, y=height - 6, text_anchor="end"))
        label = f"{len(signs)} signs in {len(rows)} lanes, {len(budgets)} budgets; a cross has failed"
        return html.tag(
            "svg",
            html.tag("g", *lines, stroke=html.LINE),
            html.tag("g", *names, fill=html.INK, font_size=12),
            html.tag("g", *shapes),
            html.tag("g", *axis, fill=html.PALE, font_size=11),
            viewBox=f"0 0 {_WIDTH} {height}",
            width="100%",
            style=f"max-width:{_WIDTH}px",
            role="img",
            aria_label=label,
        )


def _rows(signs: Sequence[Sign]) -> list[tuple[str, Lane]]:
    """Node and lane of each row: node by node in the order of the lanes, the array last."""
    order = list(Lane)
    return sorted({(s.node, s.lane) for s in signs}, key=lambda r: (r[1] is Lane.ARRAY, r[0], order.index(r[1])))


def _row_name(row: tuple[str, Lane]) -> str:
    return f"{row[0]}: {row[1]}" if row[0] != row[1] else row[0]


def _budget_name(budget: Budget, budgets: Sequence[Budget]) -> str:
    """What a budget's row is called; with a number if a node has several of them."""
    same = [b for b in budgets if b.node == budget.node and b.title == budget.title]
    number = f" {same.index(budget) + 1}" if len(same) > 1 else ""
    return f"{budget.node}: {budget.title}{number}"


def _spent(budget: Budget) -> str:
    if budget.spent is None:
        return "not told"
    return f"{budget.spent:.1f} s" if budget.exact else f"{budget.spent:.1f} s or more"


def _word(budget: Budget) -> tuple[str, str, str]:
    mark, colour = _VERDICT[budget.verdict]
    return mark, budget.verdict, colour


def _mark(sign: Sign, number: int, x: float, width: float, y: int) -> str:
    """A span as a bar, a moment as a circle; a failure as a cross, and not by its colour alone."""
    title = html.tag("title", html.text(f"{number}. {sign.title} ({sign.source})"))
    if sign.seconds:
        colour = html.BAD if sign.failed else html.BUSY
        bar = html.tag("rect", title, x=x, y=y + 5, width=width, height=16, rx=2, fill=colour, fill_opacity=0.75)
        return bar + (_cross(x + width / 2, y + 13, html.BACK) if sign.failed else "")
    if sign.failed:
        return html.tag("g", title, _cross(x, y + 13, html.BAD))
    return html.tag("circle", title, cx=x, cy=y + 13, r=5, fill=html.PAPER, stroke=html.BUSY, stroke_width=2)


def _cross(x: float, y: float, colour: str) -> str:
    path = f"M{x - 5:.1f} {y - 5:.1f}l10 10m0 -10l-10 10"
    return html.tag("path", d=path, stroke=colour, stroke_width=2.5, fill="none")


def _budget(budget: Budget, x: float, scale: float, y: int) -> str:
    """What is allowed as an outline, what was spent as a bar inside it or beyond it."""
    mark, colour = _VERDICT[budget.verdict]
    allowed = round(budget.limit * scale, 1)
    parts = [
        html.tag("rect", x=x, y=y + 4, width=allowed, height=18, fill="none", stroke=html.PALE, stroke_dasharray="4 3")
    ]
    if budget.spent is not None:
        width = max(2.0, round(budget.spent * scale, 1))
        parts.append(html.tag("rect", x=x, y=y + 8, width=width, height=10, fill=colour))
    text = f"{mark} {_spent(budget)} of {budget.limit:.0f} s"
    drawn = max(allowed, round((budget.spent or 0) * scale, 1))
    if x + drawn + 150 < _WIDTH:
        place, anchor = x + drawn + 6, "start"
    else:
        place, anchor = x + allowed - 6, "end"
    halo = f"paint-order:stroke;stroke:{html.BACK};stroke-width:4px"  # readable on top of a bar too
    label = {"x": place, "y": y + 17, "fill": html.INK, "font_size": 11, "text_anchor": anchor}
    parts.append(html.tag("text", html.text(text), style=halo, **label))
    return html.tag("g", html.tag("title", html.text(budget.why)), *parts)
