"""What the flows of this package share: the tools of the thread in which they run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, cast

from smhvlab.flow import Flow

if TYPE_CHECKING:
    from smhvlab.hyperv import HyperV
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

    def settle(self) -> None:
        """Wait for what a killed run may have set in motion on the array, before anything is looked up.

        A request that ONTAP has accepted goes on after its sender has died; a look in between would find neither the
        old nor the new. Strangers' jobs may run for hours, so the wait ends after a minute.
        """
        for _ in range(_SETTLE_SECONDS):
            if not self.storage.open_jobs():
                return
            self.host.sleep(1)

    @property
    def host(self) -> PowerShellWire:
        """PowerShell on the host."""
        return self.site.tools().host

    @property
    def storage(self) -> Storage:
        """The array."""
        return self.site.tools().storage

    @property
    def snapdrive(self) -> SnapDrive:
        """LUNs as disks of the host."""
        return self.site.tools().snapdrive

    @property
    def hyperv(self) -> HyperV:
        """VMs of the host."""
        return self.site.tools().hyperv

    @property
    def snapinfo(self) -> SnapInfo:
        """Backup metadata."""
        return self.site.tools().snapinfo
