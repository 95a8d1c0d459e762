"""What a rule is: a small pure function with everything that a reader wants to know about it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from smhvlab.advisor.facts import ERAS
from smhvlab.advisor.site_facts import Facts


class Severity(StrEnum):
    """How bad it is."""

    ERROR = "error"
    """Backups or restores fail, or it is not supported."""

    WARNING = "warning"
    """It works, against a best practice: it will cost time, space or data one day."""

    NOTE = "note"
    """Good to know; nothing has to be done."""


@dataclass(frozen=True)
class Action:
    """One change that mends a finding: what, on which thing, which field, from which value to which."""

    kind: str
    target: str
    before: str = ""
    after: str = ""
    where: str = ""

    def __str__(self) -> str:
        change = f": {self.before or 'nothing'} -> {self.after}" if self.after else ""
        return f"{self.kind} of {self.target}{change}"


@dataclass(frozen=True)
class Hit:
    """A thing that breaks a rule, and how; ``fix`` where it differs from the rule's own."""

    object: str
    message: str
    fix: str = ""
    action: Action | None = None


Check = Callable[[Facts], Iterable[Hit]]


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A best practice, note, caution, matrix row or limit of TR-4004.

    Attributes:
        id: its name, in words joined by hyphens.
        section: section of the TR.
        rows: the rows of the requirements list that it covers.
        eras: in which eras it holds.
        looks_at: which facts it reads.
        why: what happens if it is broken.
        fix: how to mend it.
    """

    id: str
    section: str
    rows: tuple[str, ...]
    severity: Severity
    eras: tuple[str, ...]
    looks_at: str
    why: str
    fix: str
    check: Check

    @property
    def era(self) -> str:
        """The eras as text."""
        return "all" if self.eras == ERAS else ", ".join(self.eras)

    def findings(self, facts: Facts) -> Iterator[Finding]:
        """What of a site breaks the rule."""
        if facts.era not in self.eras:
            return
        for hit in self.check(facts):
            yield Finding(rule=self, object=hit.object, message=hit.message, fix=hit.fix or self.fix, action=hit.action)


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A thing of a site that breaks a rule."""

    rule: Rule
    object: str
    message: str
    fix: str
    action: Action | None = None

    def record(self) -> dict[str, str]:
        """id, section, severity, era, object, message, fix."""
        rule = self.rule
        return {
            "id": rule.id,
            "section": rule.section,
            "severity": str(rule.severity),
            "era": rule.era,
            "object": self.object,
            "message": self.message,
            "fix": self.fix,
        }


def rule(
    name: str,
    *,
    section: str,
    rows: tuple[str, ...],
    severity: Severity,
    looks_at: str,
    why: str,
    fix: str,
    eras: tuple[str, ...] = ERAS,
) -> Callable[[Check], Rule]:
    """Decorator: make a function of the facts, which yields a `Hit` for each thing that breaks it, a rule."""

    def made(check: Check) -> Rule:
        return Rule(
            id=name,
            section=section,
            rows=rows,
            severity=severity,
            eras=eras,
            looks_at=looks_at,
            why=why,
            fix=fix,
            check=check,
        )

    return made


def listed(names: Iterable[object]) -> str:
    """Names in one line, the first ten of many."""
    texts = [str(name) for name in names]
    shown = ", ".join(texts[:10])
    return shown if len(texts) <= 10 else f"{shown} and {len(texts) - 10} more"
