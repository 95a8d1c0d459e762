"""Plans and records as HTML: the same picture in a notebook, in a panel and in a saved report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from smhvlab.panels import html
from smhvlab.record import FlowRecord, Outcome, Plan, PlannedStep, StepStatus

STATUS: Final = {
    StepStatus.PENDING: ("○", html.PALE),
    StepStatus.RUNNING: ("▶", html.BUSY),
    StepStatus.DONE: ("✓", html.GOOD),
    StepStatus.SKIPPED: ("–", html.PALE),
    StepStatus.FAILED: ("✗", html.BAD),
    StepStatus.UNDOING: ("◀", html.BUSY),
    StepStatus.UNDONE: ("↶", html.WARN),
}
OUTCOME: Final = {
    Outcome.DONE: ("✓", html.GOOD),
    Outcome.UNDONE: ("↶", html.WARN),
    Outcome.STOPPED: ("■", html.BAD),
    Outcome.UNDO_FAILED: ("✗", html.BAD),
}
PIVOT_NOTE: Final = "no undo from here on"


def status_sign(status: StepStatus) -> str:
    """A step's status as sign and word."""
    mark, colour = STATUS[status]
    return html.sign(mark, status, colour)


def outcome_sign(outcome: Outcome, words: str = "") -> str:
    """A run's outcome as sign and word, or other words for it."""
    mark, colour = OUTCOME[outcome]
    return html.sign(mark, words or outcome, colour)


def heading(title: str, site: str, tr: str) -> str:
    """What it is, where, and the TR section."""
    return f"{title} on {site}" + (f" (TR-4004 {tr})" if tr else "")


def touched(step: PlannedStep) -> str:
    """What a planned step touches, as HTML."""
    counts = ", ".join(f"{count} × {name}" for name, count in sorted(step.counts.items()) if count)
    parts = [html.text(", ".join(step.items)), html.tag("span", html.text(counts), style=f"color:{html.PALE}")]
    return "<br>".join(part for part, given in zip(parts, (step.items, counts), strict=True) if given)


def loss_lines(losses: Sequence[str]) -> str:
    """What a run would destroy, as HTML."""
    return "".join(html.tag("div", html.sign("!", loss, html.BAD), style="margin-bottom:4px") for loss in losses)


def skipped_lines(steps: Sequence[PlannedStep]) -> str:
    """The steps that will not run, each with its reason, folded; as HTML."""
    if not steps:
        return ""
    lines = [
        html.tag("div", html.text(f"{s.number} {s.title}: skipped because {s.skipped}"), style=f"color:{html.PALE}")
        for s in steps
    ]
    return html.details(f"{len(steps)} step{'s are' if len(steps) > 1 else ' is'} skipped", *lines)


def plan_html(plan: Plan[Any]) -> str:
    """The plan's card: what would be lost, each step with what it touches, the line before the pivot, the questions."""
    rows = []
    for step in plan.steps:
        if step.skipped:
            continue
        kind = "changes" if step.changes else "only reads"
        if step.number == plan.pivot:
            kind = f"changes; {PIVOT_NOTE}"
        elif step.changes and not step.undoable:
            kind = "changes; nothing to undo"
        rows.append([str(step.number), html.text(step.title), html.text(step.tr), touched(step), html.text(kind)])
    asked = [
        html.sign("?", f"{c.key}: {c.text}" + (f" (TR-4004 {c.tr})" if c.tr else ""), html.WARN) + "<br>"
        for c in plan.confirmations
    ]
    return html.card(
        "Plan: " + heading(plan.title, plan.site, plan.tr),
        loss_lines(plan.losses),
        html.table(["", "Step", "TR-4004", "Touches", "Kind"], rows),
        skipped_lines([step for step in plan.steps if step.skipped]),
        *([html.tag("div", "To be accepted:", style="margin-top:4px")] if asked else []),
        *asked,
        accent=html.BUSY,
    )


def flow_html(title: str, site: str, tr: str, parameters: Mapping[str, Any], how_far: str) -> str:
    """A flow's card: what it would do with which parameters, and that nothing has happened yet."""
    given = {name: value for name, value in parameters.items() if value not in (None, "", [], {})}
    return html.card(heading(title, site, tr), html.facts(given), html.tag("div", html.text(how_far)), accent=html.BUSY)


def record_html(record: FlowRecord) -> str:
    """The record's card: outcome, each step's end, the error if there was one, and the flow's own result."""
    rows = [
        [str(s.number), html.text(s.title), html.text(s.tr), status_sign(s.status), html.text(s.note)]
        for s in record.steps
    ]
    result = getattr(record.result, "_repr_html_", None)
    return html.card(
        heading(record.title, record.site, record.tr),
        html.tag("div", outcome_sign(record.outcome), html.text(f" · run {record.run}")),
        html.table(["", "Step", "TR-4004", "End", "Note"], rows),
        html.facts({"Error": record.error, "Accepted": ", ".join(record.accepted)}),
        result() if result else html.facts({"Result": record.result}),
        accent=OUTCOME[record.outcome][1],
    )
