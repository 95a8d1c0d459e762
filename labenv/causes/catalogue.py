"""All causes that have a name, as `labenv fault list` and docs/faults.md show them."""

from __future__ import annotations

import difflib
from collections.abc import Mapping

from labenv.causes import array_changes, array_rules, edges, guests, hosts
from labenv.causes.model import EDGES, Cause, CauseError

CAUSES: Mapping[str, Cause] = {
    each.name: each
    for each in (*edges.CAUSES, *array_rules.CAUSES, *array_changes.CAUSES, *hosts.CAUSES, *guests.CAUSES)
}
"""By name."""

CASES = (
    "a retryable error 0x800423f3, writer state 8",
    "event 4364, the next run succeeds",
    "clones backed by Snapshot copies are busy",
    "renaming the Snapshot copies fails with 13057",
    "backups fail from the day on which a volume is full of Snapshot copies",
    "a VM cannot be backed up online",
    "the same where guest and host are of different releases",
    "0x80042336, failed to revert to the VSS snapshot",
    "the expected disk did not arrive",
    "a shadow copy is already being created",
    "VMs are slow after a failed backup: redirected access was left on",
    "5120 and 5142 on a node that does not own the shared volume",
    "a disk does not come online beside its clone",
    "a Snapshot copy cannot be deleted because it is busy",
    "the Snapshot copies that a restore needs are missing or inconsistent",
    "a restored VM does not start, or cannot be registered",
    "a backup that was taken during a restore lacks the VM",
    "a VM that was made anew is not protected",
    "a checkpoint was left, its .avhd(x) files grow",
    "a VM without SCSI controllers is not backed up online",
)
"""The troubleshooting cases by number, from 1: what one sees first."""


def cause(name: str) -> Cause:
    """The cause of a name; raises ``CauseError``."""
    found = CAUSES.get(name)
    if found is None:
        close = difflib.get_close_matches(name, CAUSES, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise CauseError(f"no cause {name!r}: {hint}`labenv fault list` shows all")
    return found


def markdown() -> str:
    """The page docs/faults.md."""
    lines = [
        "# What can be broken, by name",
        "",
        "`labenv fault set NAME [OPTION=VALUE ...]` and `lab.faults.cause(NAME, ...)` break something, `labenv fault "
        "clear [NAME]`",
        "and `lab.faults.mend(NAME)` mend it, `labenv fault list` shows this list. A cause is what happens at a site, "
        "never",
        "“make the backup fail”. One that changes the site also takes `at=EDGE`: it then happens when the next shadow "
        "copy set",
        f"comes to that edge, one of {', '.join(EDGES)}",
        "(not the last). Rules end with the lab's process and with a restore; changes of the site are part of its "
        "state. [lab.md](lab.md)",
        "has the rules by place and effect, for what is not here. This page is made from the catalogue "
        "(`labenv fault list --markdown`).",
        "",
    ]
    for title, kind in (("Rules: they act when something comes by", True), ("Changes of the site", False)):
        lines += [f"## {title}", "", "| name | what it does | what follows | edge | TR, case | options |"]
        lines += ["|---|---|---|---|---|---|"]
        for each in CAUSES.values():
            if (each.rules is not None) is kind:
                options = ", ".join(
                    f"`{name}`" + (f" ({option.default})" if option.default else "")
                    for name, option in each.options.items()
                )
                row = (f"`{each.name}`", each.does, each.follows, each.edge or "-", each.belongs, options or "-")
                lines.append(f"| {' | '.join(row)} |")
        lines.append("")
    lines += ["## Troubleshooting cases", "", "| case | what one sees | causes |", "|---|---|---|"]
    for number, seen in enumerate(CASES, 1):
        names = ", ".join(f"`{c.name}`" for c in CAUSES.values() if c.case == number)
        lines.append(f"| {number} | {seen} | {names} |")
    return "\n".join(lines) + "\n"
