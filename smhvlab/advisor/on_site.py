"""What a site offers of the advisor: findings, versions, a plan of datasets, and panels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from smhvlab.advisor.compatibility import resolve, stack_of
from smhvlab.frames import frame
from smhvlab.protection import Protection

if TYPE_CHECKING:
    import pandas as pd

    from smhvlab.advisor.rule import Finding
    from smhvlab.advisor.site_facts import Facts


class Advised(Protection):
    """The advising side of a site; all of it only reads."""

    def facts(self) -> Facts:
        """One look at the whole site: hosts, cluster, array, VMs, datasets, policies and backups.

        Raises:
            ConnectionFailed: no host answers, or the array does not. OntapError: the array refuses a read.
        """
        from smhvlab.advisor.gather import gather

        return gather(self)

    def findings(self) -> list[Finding]:
        """What breaks which rule of the TR: errors first, then by section. Raises as ``facts``."""
        from smhvlab.advisor.catalogue import findings

        return findings(self.facts())

    def advise(self) -> pd.DataFrame:
        """``findings`` as a table. Columns: id, section, severity, era, object, message, fix. Raises as ``facts``."""
        from smhvlab.advisor.catalogue import findings_frame

        return findings_frame(self.findings())

    def rules(self) -> pd.DataFrame:
        """The advisor's rules. Columns: id, section, rows, severity, era, looks_at, why, fix. Sends no request."""
        from smhvlab.advisor.catalogue import rules_frame

        return rules_frame()

    def compatibility(self) -> pd.DataFrame:
        """Versions against the TR's tables (5.4, 7.2, 11.1): host, item, have, wanted, ok, section, why."""
        facts = self.facts()
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
