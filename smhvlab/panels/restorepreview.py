"""The restore preview: what a restore would replace, what would be lost with it, and what it asks first (TR 6.7)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import ipywidgets as widgets

from smhvlab.panels import html
from smhvlab.panels.panel import Panel
from smhvlab.panels.pictures import loss_lines
from smhvlab.sizes import shown

if TYPE_CHECKING:
    from smhvlab.nodes import Node
    from smhvlab.record import Plan
    from smhvlab.restore.state import RestoreLun, RestoreState
    from smhvlab.tables import Tools


@dataclass(frozen=True)
class Replaced:
    """A file that a restore replaces, as it is now; ``size`` None: it is not there now, and comes back.

    When it was written last is left out: Windows notes that for a VM's disk when the VM lets go of it.
    """

    path: str
    lun: str
    size: int | None


@dataclass(frozen=True)
class Newer:
    """A Snapshot copy that is younger than the one that is restored from."""

    volume: str
    snapshot: str
    created: datetime


@dataclass(frozen=True)
class Preview:
    """What a restore would do to the site as it is now."""

    plan: Plan[RestoreState]
    replaced: tuple[Replaced, ...]
    newer: tuple[Newer, ...]


def preview(tools: Tools, plan: Plan[RestoreState]) -> Preview:
    """Look at what a planned restore would replace; reads only."""
    replaced: list[Replaced] = []
    newer: list[Newer] = []
    node = tools.nodes[plan.state.host]  # only it has to see the LUN: SnapInfo's can be another
    for lun in plan.state.luns:
        wanted = [file.target for file in lun.files] or node.snapdrive.files(lun.access_path)
        replaced += _present(node, lun, wanted)
        newer += _newer(tools, lun)
    return Preview(plan, tuple(replaced), tuple(newer))


def _present(node: Node, lun: RestoreLun, paths: Sequence[str]) -> list[Replaced]:
    select = ("FullName", "Length")
    records = node.host.run("Get-Item", {"LiteralPath": list(paths)}, select=select, error_action="Continue")
    there = {str(record["FullName"]).casefold(): record for record in records}
    found = []
    for path in paths:
        record = there.get(path.casefold())
        size = int(record["Length"]) if record is not None else None
        found.append(Replaced(path, str(lun.lun), size))
    return found


def _newer(tools: Tools, lun: RestoreLun) -> list[Newer]:
    volume = lun.lun.volume
    records = tools.storage.snapshots(volume)
    times = {str(record["name"]): datetime.fromisoformat(str(record["create_time"])) for record in records}
    since = times.get(lun.snapshot)
    return [
        Newer(volume.name, name, time)
        for name, time in sorted(times.items(), key=lambda entry: (entry[1], entry[0]))
        if since is not None and time > since and not name.startswith(lun.snapshot)
    ]


class RestorePreview(Panel):
    """A picture of what a restore would do, such as ``site.restore_preview(backup, vm)`` makes it."""

    def __init__(self, found: Preview) -> None:
        super().__init__()
        self.found = found
        self.view = widgets.VBox([self.picture])
        self.refresh()

    def describe(self) -> str:
        """Which VM, from which backup, how many files are replaced, and what is asked."""
        state = self.found.plan.state
        return (
            f"RestorePreview({state.vm.name} from {state.backup}: {len(self.found.replaced)} files replaced, "
            f"{len(self.found.newer)} newer Snapshot copies, {len(self.found.plan.confirmations)} to confirm)"
        )

    def render(self) -> str:
        """How each LUN comes back, the files that are replaced, newer Snapshot copies, and what is asked first."""
        state = self.found.plan.state
        consistent = "application-consistent" if state.consistency == "application" else "crash-consistent"
        asked = [html.sign("?", f"{c.key}: {c.text}", html.WARN) + "<br>" for c in self.found.plan.confirmations]
        return html.card(
            f"Restore of {state.vm.name} from {state.backup} ({consistent}): what it would do",
            loss_lines(self.found.plan.losses),
            html.table(["LUN", "Method", "Why", "Image"], [_lun(lun) for lun in state.luns]),
            html.table(
                ["File that is replaced", "Size now"],
                [
                    [
                        html.text(file.path),
                        html.text("not there now: it comes back" if file.size is None else shown(file.size)),
                    ]
                    for file in self.found.replaced
                ],
            ),
            self._newer(),
            *([html.tag("div", "To be accepted:", style="margin-top:4px")] if asked else []),
            *asked,
            accent=html.WARN,
        )

    def _newer(self) -> str:
        if not self.found.newer:
            return html.tag("div", "No Snapshot copy of these volumes is newer.", style=f"color:{html.PALE}")
        rows = [
            [html.text(n.volume), html.text(n.snapshot), html.text(n.created.isoformat(" ", "seconds"))]
            for n in self.found.newer
        ]
        # Both methods of TR 6.7 write inside the volume; only the restore of a whole volume would delete these.
        stay = html.sign("✓", "They stay: LUNs and files are written anew, no volume goes back.", html.GOOD)
        return html.table(["Volume", "Newer Snapshot copy", "Created"], rows) + stay


def _lun(lun: RestoreLun) -> list[str]:
    why = f"{lun.others} files of others are on it" if lun.others else "only files of this VM are on it"
    return [html.text(lun.lun), html.text(lun.method.value), html.text(why), html.text(f"{lun.snapshot} {lun.image}")]
