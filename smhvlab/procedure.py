"""What the flows of this package share: the tools of the thread in which they run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, cast

from smhvlab.flow import Flow

if TYPE_CHECKING:
    from smhvlab.hyperv import HyperV
    from smhvlab.nodes import Nodes
    from smhvlab.site import Site
    from smhvlab.snapdrive import SnapDrive
    from smhvlab.snapinfo import SnapInfo
    from smhvlab.storage import Storage
    from smhvlab.wires.powershell import PowerShellWire

S = TypeVar("S")
_SETTLE_SECONDS = 60


class Procedure(Flow[S]):
    """A flow on a ``Site``."""

    site: Site

    def __init__(self, site: object, **parameters: Any) -> None:
        super().__init__(cast("Site", site), **parameters)
        self.state_folder = self.site.journals

    def settle(self, *, lost: bool) -> None:
        """Wait for what may still be under way on the site, before anything is looked up.

        What ONTAP or a host has accepted goes on after its sender has died; a look in between would find neither the
        old nor the new. A host does not tell what it does for a session whose client is gone, but nothing that a flow
        sends takes it longer than a minute, except copies of files: these lock what they write. The array tells its
        jobs; strangers' may run for hours, so that wait too ends after a minute.
        """
        if lost:
            self.host.sleep(_SETTLE_SECONDS)
        for _ in range(_SETTLE_SECONDS):
            if not self.storage.open_jobs():
                return
            self.host.sleep(1)

    @property
    def host(self) -> PowerShellWire:
        """PowerShell on the site's own host, which has the SnapInfo disk."""
        return self.site.tools().host

    @property
    def nodes(self) -> Nodes:
        """All hosts of the site."""
        return self.site.tools().nodes

    @property
    def storage(self) -> Storage:
        """The array."""
        return self.site.tools().storage

    @property
    def snapdrive(self) -> SnapDrive:
        """LUNs as disks of that host."""
        return self.site.tools().snapdrive

    @property
    def hyperv(self) -> HyperV:
        """VMs of that host."""
        return self.site.tools().hyperv

    @property
    def snapinfo(self) -> SnapInfo:
        """Backup metadata."""
        return self.site.tools().snapinfo
