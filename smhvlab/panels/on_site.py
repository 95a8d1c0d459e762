"""What a site shows as panels: flows, pictures, logs and editors."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from smhvlab.errors import NotAllowed
from smhvlab.snapinfo import name_of
from smhvlab.tables import SiteTables

if TYPE_CHECKING:
    from smhvlab.flow import Flow
    from smhvlab.panels.dashboard import Dashboard
    from smhvlab.panels.dataseteditor import DatasetEditor
    from smhvlab.panels.policyeditor import PolicyEditor
    from smhvlab.panels.restorepreview import RestorePreview
    from smhvlab.panels.stepper import StepperPanel
    from smhvlab.panels.storagemap import StorageMap
    from smhvlab.panels.timeline import SnapshotTimeline
    from smhvlab.panels.vsstimeline import VssTimeline
    from smhvlab.panels.wirelog import WireLogPanel
    from smhvlab.panels.wizard import Wizard
    from smhvlab.site import Site


class Shown(SiteTables):
    """The panels of a site. Each is made when it is asked for, and imports its widgets then."""

    def _site(self) -> Site:
        return cast("Site", self)

    def stepper(self, flow: Flow[Any]) -> StepperPanel:
        """The panel of a flow: plan, next, run all, cancel, undo, with the requests of each step."""
        from smhvlab.panels.stepper import StepperPanel

        return StepperPanel(flow, log=self._site().log)

    def wizard(self, verb: str) -> Wizard:
        """A form of a flow's parameters, then its plan and its steps.

        Args:
            verb: the site's method that makes the flow: ``backup``, ``restore``, ``mount``, ``verify``, ...

        Raises:
            NotAllowed: no method of that name makes a flow.
        """
        from smhvlab.panels.wizard import Wizard

        makers = sorted(name for name in dir(type(self)) if _makes_flow(getattr(type(self), name)))
        if verb not in makers:
            raise NotAllowed(f"{verb!r} makes no flow", next_action=f"Choose one of {', '.join(makers)}.")
        return Wizard(self._site(), getattr(self, verb))

    def map(self) -> StorageMap:
        """A picture of ``storage_map``."""
        from smhvlab.panels.storagemap import StorageMap

        return StorageMap(self.storage_map())

    def wires(self, *, limit: int = 30) -> WireLogPanel:
        """The last requests of both wires, with lines to copy."""
        from smhvlab.panels.wirelog import WireLogPanel

        return WireLogPanel(self._site().log, limit=limit)

    def timeline(self, volume: str | None = None) -> SnapshotTimeline:
        """The Snapshot copies of one volume, or of all, in time."""
        from smhvlab.panels.timeline import SnapshotTimeline

        return SnapshotTimeline(self.snapshots(volume))

    def vss_timeline(
        self,
        backup: str | None = None,
        *,
        start: datetime | None = None,
        end: datetime | None = None,
        trace: bool = False,
    ) -> VssTimeline:
        """Who did what in a shadow copy set, and how its limits of 10 s and 60 s were kept (TR 9).

        Built from what any site tells: each node's event logs, the array's audit log, times of Snapshot copies.

        Args:
            backup: name of a backup; by default the newest set that an event log tells of, also one that failed.
            start, end: instead of a backup, a span of time.
            trace: ask hosts that keep a trace of VSS for it too.

        Raises:
            NotFound: there is no such backup, or no event log tells of any set.
        """
        from smhvlab.backup.shadowlog import look
        from smhvlab.panels.vsstimeline import VssTimeline

        backup = None if backup is None else name_of(backup)
        log = look(self.tools(), backup, start=start, end=end, trace=trace)
        return VssTimeline(log, title=f"VSS timeline of {backup}" if backup else "VSS timeline")

    def dashboard(self, *, every: float = 60, limit: int = 40) -> Dashboard:
        """Where the site stands: VMs, jobs, Snapshot budgets, findings; looked at again without blocking the kernel.

        Args:
            every: seconds between two looks while "Keep looking" is on.
            limit: how many VMs are shown at most.
        """
        from smhvlab.advisor.overview import overview
        from smhvlab.panels.dashboard import Dashboard

        look = partial(overview, self._site())
        return Dashboard(look, release=self._site().release, overview=look(), every=every, limit=limit)

    def dataset_editor(self, name: str = "") -> DatasetEditor:
        """A form of a dataset: which VMs, checked and saved as its next version (TR 5.2).

        Args:
            name: the dataset to begin with; a new one by default.
        """
        from smhvlab.panels.dataseteditor import DatasetEditor

        return DatasetEditor(self, name)

    def policy_editor(self, name: str = "") -> PolicyEditor:
        """A form of a policy, with the same as TOML: checked field by field, saved as its next version (TR 5.2).

        Args:
            name: the policy to begin with; a new one by default.
        """
        from smhvlab.panels.policyeditor import PolicyEditor

        return PolicyEditor(self, name)

    def restore_preview(self, backup: str, vm: str) -> RestorePreview:
        """What a restore would replace, and which newer Snapshot copies there are (TR 6.7); nothing is changed.

        Raises:
            NotFound, NotAllowed: what the restore itself would refuse.
        """
        from smhvlab.panels.restorepreview import RestorePreview, preview

        return RestorePreview(preview(self.tools(), self._site().restore(backup, vm).plan()))


def _makes_flow(method: object) -> bool:
    """Whether a method of the site says that it gives a flow, for which nothing has happened yet."""
    return callable(method) and "Flow" in (getattr(method, "__doc__", "") or "").partition("\n")[0]
