"""All rules, and what they find."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING

from smhvlab.advisor import contradictions
from smhvlab.advisor.rule import Finding, Rule, Severity
from smhvlab.advisor.rules import (
    array,
    clusters,
    datasets,
    hosts,
    policies,
    settings,
    sites,
    storage,
    versions,
    vms,
)
from smhvlab.advisor.site_facts import Facts
from smhvlab.frames import frame

if TYPE_CHECKING:
    import pandas as pd

_MODULES = (hosts, versions, storage, settings, vms, datasets, policies, clusters, array, sites)
_WEIGHT = {severity: number for number, severity in enumerate(Severity)}

COLUMNS = dict.fromkeys(("id", "section", "severity", "era", "object", "message", "fix"), "str")
"""Columns of a table of findings."""


@cache
def rules() -> tuple[Rule, ...]:
    """Every rule, in the order of the TR's sections."""
    found = [value for module in _MODULES for value in vars(module).values() if isinstance(value, Rule)]
    found += contradictions.rules()
    return tuple(sorted(found, key=lambda rule: (_section(rule.section), rule.id)))


def rule_named(name: str) -> Rule:
    """The rule of an id. Raises KeyError."""
    return {rule.id: rule for rule in rules()}[name]


def findings(facts: Facts) -> list[Finding]:
    """What of a site breaks which rule: errors first, then in the order of the TR."""
    found = [finding for rule in rules() for finding in rule.findings(facts)]
    return sorted(found, key=lambda finding: _WEIGHT[finding.rule.severity])  # stable: sections stay in order


def findings_frame(found: Iterable[Finding]) -> pd.DataFrame:
    """Findings as a table with `COLUMNS`."""
    return frame([finding.record() for finding in found], COLUMNS)


def rules_frame() -> pd.DataFrame:
    """The rules as a table. Columns: id, section, rows, severity, era, looks_at, why, fix."""
    types = dict.fromkeys(("id", "section", "rows", "severity", "era", "looks_at", "why", "fix"), "str")
    rows = [
        {
            "id": rule.id,
            "section": rule.section,
            "rows": ", ".join(rule.rows),
            "severity": str(rule.severity),
            "era": rule.era,
            "looks_at": rule.looks_at,
            "why": rule.why,
            "fix": rule.fix,
        }
        for rule in rules()
    ]
    return frame(rows, types)


def _section(text: str) -> tuple[tuple[int, ...], str]:
    """The numbers of a section; the appendix comes last."""
    if text[:1].isdigit():
        return tuple(int(part) for part in text.split(" ")[0].split(",")[0].split(".")), text
    return (99,), text
