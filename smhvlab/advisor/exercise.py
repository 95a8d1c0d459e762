"""An exercise on the advisor: rules that have to be silent in the end."""

from __future__ import annotations

from collections.abc import Sequence

from smhvlab.advisor.catalogue import findings, rule_named
from smhvlab.advisor.rule import Finding, listed
from smhvlab.exercises.first import Exercise, Goal
from smhvlab.site import Site


def in_order(site: Site, rules: Sequence[str]) -> Exercise:
    """The site breaks none of these rules any more. Raises KeyError: there is no rule of an id."""
    look = _Look(site)
    return Exercise(
        "a site in order",
        "13",
        tuple(look.goal(name, first=number == 0) for number, name in enumerate(rules)),
    )


class _Look:
    """One look at the site for all goals of a check."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._found: list[Finding] = []

    def goal(self, name: str, *, first: bool) -> Goal:
        """The rule finds nothing; the first goal of a check looks at the site."""
        rule = rule_named(name)

        def probe() -> str:
            if first:
                self._found = findings(self._site.facts())
            return listed(f"{f.object}: {f.message}" for f in self._found if f.rule.id == name)

        return Goal(f"The rule {name} finds nothing", probe, f"{rule.why} {rule.fix}")
