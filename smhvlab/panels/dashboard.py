"""The dashboard: where a site stands, looked at again at a press or every minute, without blocking the kernel."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

import ipywidgets as widgets

from smhvlab.advisor.overview import Job, Overview, State, VmProtection, VolumeBudget
from smhvlab.panels import html
from smhvlab.panels.advisor import counted, severity_sign
from smhvlab.panels.looking import WatchingPanel

SIGNS: Final = {
    State.PROTECTED: ("✓", html.GOOD),
    State.LATE: ("!", html.WARN),
    State.NEVER: ("!", html.WARN),
    State.UNPROTECTED: ("✗", html.BAD),
    State.OUTSIDE: ("✗", html.BAD),
}
_WORST: Final = tuple(reversed(State))
_SHOWN: Final = 12  # findings and jobs; the advisor's panel has them all
_ALL: Final = "all"


class Dashboard(WatchingPanel[Overview]):
    """Shows an overview: VMs, jobs, Snapshot budgets, findings.

    Args:
        look: makes an overview; runs in a thread of its own.
        release: closes that thread's connections.
        overview: what is shown at first; None: nothing has been looked at yet.
        every: seconds between two looks while "Keep looking" is on.
        limit: how many VMs are shown at most, the worst first.
    """

    def __init__(
        self,
        look: Callable[[], Overview],
        *,
        release: Callable[[], None],
        overview: Overview | None = None,
        every: float = 60,
        limit: int = 40,
    ) -> None:
        super().__init__(look, release=release, every=every)
        self.overview = overview
        self.limit = limit
        self.state = widgets.Dropdown(
            description="VMs", tooltip="Show VMs in one state, or all", options=[_ALL, *map(str, State)]
        )
        self.state.observe(lambda _: self.relay(self.refresh), names="value")
        self.view = widgets.VBox([widgets.HBox([self.again, self.keep, self.state]), self.picture])
        self.refresh()

    def rows(self) -> list[VmProtection]:
        """The VMs in the chosen state, the worst first."""
        vms = self.overview.vms if self.overview is not None else ()
        chosen = [vm for vm in vms if self.state.value in (_ALL, str(vm.state))]
        return sorted(chosen, key=lambda vm: _WORST.index(vm.state))

    def describe(self) -> str:
        """How many VMs are protected, and what was found."""
        if self.overview is None:
            return "Dashboard(nothing looked at yet)"
        good = sum(vm.state is State.PROTECTED for vm in self.overview.vms)
        return f"Dashboard({good} of {len(self.overview.vms)} VMs protected; {counted(self.overview.findings)})"

    def render(self) -> str:
        """Four tables: VMs, jobs, budgets, findings."""
        over = self.overview
        state, failed = self._state()
        if over is None:
            return html.card("Dashboard", state or html.text("Nothing has been looked at yet."), failed)
        parts = [_vms(over, self.rows(), self.limit), _jobs(over), _budgets(over), _findings(over)]
        worst = min((_WORST.index(vm.state) for vm in over.vms), default=_WORST.index(State.PROTECTED))
        title = f"{over.site} at {over.now:%Y-%m-%d %H:%M} UTC"
        return html.card(title, state, failed, *parts, accent=SIGNS[_WORST[worst]][1])

    def _adopt(self, found: Overview) -> None:
        self.overview = found


def age(span: timedelta) -> str:
    """A span in its two largest units."""
    minutes = max(0, int(span.total_seconds() // 60))
    days, rest = divmod(minutes, 24 * 60)
    hours, minutes = divmod(rest, 60)
    parts = [f"{days} d", f"{hours} h"] if days else [f"{hours} h", f"{minutes} min"] if hours else [f"{minutes} min"]
    return " ".join(parts)


def _ago(moment: datetime | None, now: datetime) -> str:
    return "" if moment is None else f"{age(now - moment)} ago"


def _vms(over: Overview, rows: list[VmProtection], limit: int) -> str:
    counts = Counter(vm.state for vm in over.vms)
    told = ", ".join(f"{counts[state]} {state}" for state in State if counts[state])
    more = f"; the first {limit} of {len(rows)} are shown" if len(rows) > limit else ""
    cells = (
        [
            html.sign(SIGNS[vm.state][0], str(vm.state), SIGNS[vm.state][1]),
            html.text(vm.name),
            html.text(vm.host),
            html.text(_ago(vm.last, over.now)),
            html.text(age(vm.promised) if vm.promised is not None else ""),
            html.text(vm.consistency),
            html.text(_ago(vm.verified, over.now)),
            html.text(", ".join(vm.datasets)),
        ]
        for vm in rows[:limit]
    )
    head = ["", "VM", "Host", "Last backup", "Promised every", "Kind", "Verified", "Datasets"]
    return html.table(head, cells, caption=f"VMs: {told or 'none'}{more}")


def _jobs(over: Overview) -> str:
    def when(job: Job) -> str:
        if job.when is None:
            return ""
        return f"in {age(job.when - over.now)}" if job.when > over.now else _ago(job.when, over.now)

    signs = {"running": ("▶", html.BUSY), "unfinished": ("✗", html.BAD), "due": ("·", html.PALE)}
    cells = (
        [
            html.sign(*_pair(signs.get(job.what, ("✓", html.GOOD)), job.what)),
            html.text(job.name),
            html.text(when(job)),
            html.text(job.note),
        ]
        for job in over.jobs[:_SHOWN]
    )
    return html.table(["", "Job", "When", ""], cells, caption="Jobs") if over.jobs else ""


def _pair(sign: tuple[str, str], word: str) -> tuple[str, str, str]:
    return sign[0], word, sign[1]


def _budgets(over: Overview) -> str:
    cells = ([html.text(b.volume), _bar(b), html.text(_break(b, over.now))] for b in over.budgets)
    return html.table(["Volume", "Snapshot copies", "Limit reached"], cells, caption="Snapshot budget")


def _break(budget: VolumeBudget, now: datetime) -> str:
    return "not within a month" if budget.breaks is None else f"in {age(budget.breaks - now)}"


def _bar(budget: VolumeBudget) -> str:
    """A bar as long as the part that is used, with the numbers beside it."""
    part = min(1.0, budget.used / budget.limit) if budget.limit else 1.0
    colour = html.BAD if part > 0.9 or budget.breaks is not None else html.WARN if part > 0.7 else html.GOOD
    inner = html.tag("div", style=f"background:{colour};height:8px;width:{round(100 * part)}%")
    outer = html.tag("div", inner, style=f"border:1px solid {html.LINE};width:120px;display:inline-block")
    return f"{outer} {html.text(f'{budget.used} of {budget.limit}')}"


def _findings(over: Overview) -> str:
    cells = (
        [severity_sign(x.rule.severity), html.text(x.rule.section), html.text(x.object), html.text(x.message)]
        for x in over.findings[:_SHOWN]
    )
    more = f", the first {_SHOWN} are shown" if len(over.findings) > _SHOWN else ""
    return html.table(["", "TR", "Object", "Finding"], cells, caption=f"Advisor: {counted(over.findings)}{more}")
