"""The advisor as a panel: what was found, to be filtered and unfolded, and looked for again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

import ipywidgets as widgets

from smhvlab.advisor.rule import Finding, Severity
from smhvlab.panels import html
from smhvlab.panels.looking import LookingPanel

if TYPE_CHECKING:
    import pandas as pd

ALL: Final = "all"
SIGNS: Final = {
    Severity.ERROR: ("✗", html.BAD),
    Severity.WARNING: ("!", html.WARN),
    Severity.NOTE: ("·", html.PALE),
}


def severity_sign(severity: Severity) -> str:
    """A severity as a sign and a word."""
    mark, colour = SIGNS[severity]
    return html.sign(mark, str(severity), colour)


def counted(findings: Sequence[Finding]) -> str:
    """How many there are of each severity, in words."""
    counts = Counter(finding.rule.severity for finding in findings)
    parts = [f"{counts[s]} {s}{'s' if counts[s] != 1 else ''}" for s in Severity if counts[s]]
    return ", ".join(parts) or "nothing found"


class AdvisorPanel(LookingPanel[list[Finding]]):
    """Shows findings; each unfolds into why it matters, how to mend it and what was looked at.

    Args:
        look: finds them; it runs in a thread of its own when "Look again" is pressed.
        release: closes that thread's connections.
        findings: what is shown at first.
        limit: how many are shown at most.
    """

    def __init__(
        self,
        look: Callable[[], list[Finding]],
        *,
        release: Callable[[], None],
        findings: Sequence[Finding] = (),
        limit: int = 40,
    ) -> None:
        super().__init__(look, release=release)
        self.findings = list(findings)
        self.limit = limit
        self.severity = widgets.Dropdown(
            description="Severity", tooltip="Show one severity or all", options=[ALL, *map(str, Severity)]
        )
        self.section = widgets.Dropdown(description="Section", tooltip="Section of the TR", options=[ALL])
        self.text = widgets.Text(description="Filter", tooltip="Part of a rule's name, an object or a sentence")
        for control in (self.severity, self.section, self.text):
            control.observe(lambda _: self.relay(self.refresh), names="value")
        filters = widgets.HBox([self.severity, self.section, self.text, self.again])
        self.view = widgets.VBox([filters, self.picture])
        self._sections()
        self.refresh()

    def rows(self) -> list[Finding]:
        """The findings that pass the filters."""
        wanted = self.text.value.casefold()
        return [
            finding
            for finding in self.findings
            if self.severity.value in (ALL, str(finding.rule.severity))
            and self.section.value in (ALL, finding.rule.section)
            and wanted in f"{finding.rule.id} {finding.object} {finding.message}".casefold()
        ]

    def frame(self) -> pd.DataFrame:
        """The filtered findings: id, section, severity, era, object, message, fix."""
        from smhvlab.advisor.catalogue import findings_frame

        return findings_frame(self.rows())

    def describe(self) -> str:
        """How many there are of each severity."""
        return f"AdvisorPanel({counted(self.findings)})"

    def render(self) -> str:
        """The filtered findings as a table; each row unfolds."""
        rows = self.rows()
        shown = rows[: self.limit]
        more = f", the first {len(shown)} are shown" if len(shown) < len(rows) else ""
        title = f"Advisor: {counted(self.findings)}; {len(rows)} pass the filters{more}"
        body = html.table(["", "TR", "Object", "Finding"], (_cells(finding) for finding in shown)) if shown else ""
        worst = next((s for s in Severity if any(f.rule.severity is s for f in self.findings)), None)
        return html.card(title, *self._state(), body, accent=SIGNS[worst][1] if worst is not None else html.GOOD)

    def _adopt(self, found: list[Finding]) -> None:
        self.findings = found
        self._sections()

    def _sections(self) -> None:
        chosen = self.section.value
        self.section.options = [ALL, *dict.fromkeys(finding.rule.section for finding in self.findings)]
        self.section.value = chosen if chosen in self.section.options else ALL


def _cells(finding: Finding) -> list[str]:
    rule = finding.rule
    body = html.facts(
        {
            "Why": rule.why,
            "Mend": finding.fix,
            "Looked at": rule.looks_at,
            "Rule": f"{rule.id}, eras: {rule.era}",
            "Rows": ", ".join(rule.rows),
        }
    )
    line = html.details(html.text(finding.message), body)
    return [severity_sign(rule.severity), html.text(rule.section), html.text(finding.object), line]
