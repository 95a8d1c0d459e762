"""What a site offers of the advisor: findings, versions, a plan of datasets, and panels."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, cast

from smhvlab.advisor.compatibility import resolve, stack_of
from smhvlab.frames import frame
from smhvlab.protection.on_site import Protection

if TYPE_CHECKING:
    import pandas as pd

    from smhvlab.advisor.mend import MendFindings
    from smhvlab.advisor.planner import Layout
    from smhvlab.advisor.rule import Finding
    from smhvlab.advisor.site_facts import Facts
    from smhvlab.panels.advisor import AdvisorPanel
    from smhvlab.site import Site


class Advised(Protection):
    """The advising side of a site; all of it only reads, but for the flow that ``mend`` makes."""

    def facts(self) -> Facts:
        """One look at the whole site: hosts, cluster, array, VMs, datasets, policies and backups.

        A site that is coupled with another one (``smhvlab.dr.sites.couple``) looks at that one too, to compare them.

        Raises:
            ConnectionFailed: no host answers, or the array does not. OntapError: the array refuses a read.
        """
        from smhvlab.advisor.partner import gather_pair

        return gather_pair(cast("Site", self))

    def findings(self, facts: Facts | None = None) -> list[Finding]:
        """What breaks which rule of the TR: errors first, then by section. Raises as ``facts``.

        Args:
            facts: a look that was taken before; None takes one.
        """
        from smhvlab.advisor.catalogue import findings

        return findings(facts or self.facts())

    def advise(self, facts: Facts | None = None) -> pd.DataFrame:
        """``findings`` as a table. Columns: id, section, severity, era, object, message, fix. Raises as ``facts``."""
        from smhvlab.advisor.catalogue import findings_frame

        return findings_frame(self.findings(facts))

    def rules(self) -> pd.DataFrame:
        """The advisor's rules. Columns: id, section, rows, severity, era, looks_at, why, fix. Sends no request."""
        from smhvlab.advisor.catalogue import rules_frame

        return rules_frame()

    def compatibility(self, facts: Facts | None = None) -> pd.DataFrame:
        """Versions against the TR's tables (5.4, 7.2, 11.1): host, item, have, wanted, ok, section, why."""
        facts = facts or self.facts()
        types = dict.fromkeys(("host", "item", "have", "wanted"), "str") | {
            "ok": "bool",
            "section": "str",
            "why": "str",
        }
        rows = [
            {
                "host": host.name,
                "item": verdict.item,
                "have": verdict.have,
                "wanted": verdict.wanted,
                "ok": verdict.ok,
                "section": verdict.section,
                "why": verdict.why,
            }
            for host in facts.hosts
            for verdict in resolve(stack_of(facts, host))
        ]
        return frame(rows, types)

    def plan_layout(self, facts: Facts | None = None, *, start: str = "22:00", minutes: int = 15) -> Layout:
        """Datasets for all VMs on the array and when their daily backups start; nothing is changed (TR 6.2, 12).

        Args:
            facts: a look that was taken before; None takes one.
            start: ``HH:MM`` of the first backup.
            minutes: how long one backup may take.
        """
        from smhvlab.advisor.planner import plan_layout

        return plan_layout(facts or self.facts(), start=start, minutes=minutes)

    def mend(self, *rules: str) -> MendFindings:
        """Mend what can be mended by a setting, of the rules named or of all: a Flow; nothing has happened yet."""
        from smhvlab.advisor.mend import MendFindings

        return MendFindings(self, rules=rules)

    def advisor(self, facts: Facts | None = None, *, limit: int = 40) -> AdvisorPanel:
        """The findings as a panel, to be filtered, unfolded, and looked for again without blocking the kernel."""
        from smhvlab.panels.advisor import AdvisorPanel

        return AdvisorPanel(self.findings, release=self.release, findings=self.findings(facts), limit=limit)

    @abstractmethod
    def release(self) -> None:
        """Close the wires of the calling thread."""
