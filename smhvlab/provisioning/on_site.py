"""What a site does to provide storage and VMs (TR 2.2 and the appendix)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from smhvlab.frames import frame
from smhvlab.tables import SiteTables

if TYPE_CHECKING:
    import pandas as pd

    from smhvlab.provisioning.array import ArraySetup
    from smhvlab.provisioning.disk import CreateDisk
    from smhvlab.provisioning.golden import BuildGolden
    from smhvlab.provisioning.prepare import PrepareStorage
    from smhvlab.provisioning.vm import ProvisionVm


class SiteProvisioning(SiteTables):
    """Flows from bare storage to a running VM, and tables of what is below its volumes."""

    def _setup(self) -> ArraySetup:
        from smhvlab.provisioning.array import ArraySetup

        return ArraySetup(self.tools().storage)

    def aggregates(self) -> pd.DataFrame:
        """Aggregates. Columns: name, node, size, available (bytes). Raises OntapError for the user of an SVM."""
        types = {"name": "str", "node": "str", "size": "int64", "available": "int64"}
        return frame([vars(one) for one in self._setup().aggregates()], types)

    def lifs(self) -> pd.DataFrame:
        """Logical interfaces. Columns: name, svm, address, node, services, state."""
        columns = ("name", "svm", "address", "node", "services", "state")
        rows = [
            {
                "name": lif["name"],
                "svm": lif.get("svm", {}).get("name", ""),
                "address": lif["ip"]["address"],
                "node": lif.get("location", {}).get("home_node", {}).get("name", ""),
                "services": ", ".join(lif.get("services", ())),
                "state": lif.get("state", ""),
            }
            for lif in self._setup().lifs()
        ]
        return frame(rows, dict.fromkeys(columns, "str"))

    def unreserve(self, volume: str, *, svm: str = "") -> list[str]:
        """Take the space reservation from all LUNs of a volume (TR 2.2/8); returns the names of those that had one.

        Raises:
            NotFound: no such volume. NotUnique: several Vservers have one.
        """
        setup = self._setup()
        return setup.ensure_unreserved(setup.one_volume(volume, svm=svm))

    def vserver(self, name: str) -> pd.DataFrame:
        """A Vserver as ``vserver show`` lists it (appendix). Columns: field, value. Raises NotFound."""
        shown = self._setup().vserver(name)
        rows = [{"field": field, "value": value} for field, value in shown.items()]
        return frame(rows, {"field": "str", "value": "str"})

    def containers(
        self, size: str, *, at: str, backup: bool = True, checkpoints: bool = False, golden: bool = False
    ) -> pd.DataFrame:
        """Which storage container fits a disk of a VM (TR appendix, Table 3). Columns: container, fits, pro, against.

        Args:
            size: of the disk, e.g. ``40GB``; ``at``: drive letter or folder where it is to lie.
            backup: SMHV shall back it up; ``checkpoints``: the VM shall have them; ``golden``: it is an image's.

        Raises:
            NotAllowed: no such size or place.
        """
        from smhvlab.mount.image import access_path
        from smhvlab.provisioning.containers import PROS, weigh
        from smhvlab.sizes import size_of

        wanted = size_of(size, what="a virtual disk")
        place = {"FilePath": access_path(at)}
        room = int(self.tools().host.run("Get-Volume", place, select=("SizeRemaining",))[0]["SizeRemaining"])
        rows = [
            {"container": one.container.value, "fits": one.fits, "pro": PROS[one.container], "against": one.against}
            for one in weigh(wanted, room=room, backup=backup, checkpoints=checkpoints, golden=golden)
        ]
        return frame(rows, {"container": "str", "fits": "bool", "pro": "str", "against": "str"})

    def prepare_storage(
        self,
        volume: str,
        *,
        size: str,
        thin: bool = True,
        aggregate: str = "",
        disks: int = 0,
        node: str = "",
        svm: str = "",
        addresses: Sequence[str] | str = "",
        management: str = "",
        netmask: str = "255.255.255.0",
    ) -> PrepareStorage:
        """A volume for LUNs and all that it needs (TR 2.2/1-2, appendix): a Flow; nothing has happened yet.

        Args:
            volume: its name; nothing is reserved in it, or scheduled, for Snapshot copies.
            size: of the volume, e.g. ``40GB``.
            thin: without a space guarantee.
            aggregate: that with the most room by default; ``disks`` of a controller ``node`` make a new one.
            svm: the Vserver; by default the one that serves the hosts. One that does not exist is made.
            addresses: of data LIFs to be made, on the controllers in turn; ``management``: of the management LIF.
        """
        from smhvlab.provisioning.prepare import PrepareStorage

        return PrepareStorage(
            self,
            volume=volume,
            size=size,
            thin=thin,
            aggregate=aggregate,
            disks=disks,
            node=node,
            svm=svm,
            addresses=addresses,
            management=management,
            netmask=netmask,
        )

    def create_disk(
        self,
        volume: str,
        *,
        size: str,
        at: str = "",
        lun: str = "",
        thick: bool = False,
        label: str = "",
        svm: str = "",
        csv: str = "",
        group: str = "",
        new_group: bool = False,
        quorum: bool = False,
        host: str = "",
    ) -> CreateDisk:
        """A LUN as a formatted disk (TR 2.2, 11.2, appendix): a Flow; nothing has happened yet.

        Args:
            size: of the LUN, e.g. ``30GB``.
            at: drive letter (``M:``) or a folder that does not exist yet.
            lun: its name in the volume; by default the volume's, or the shared volume's.
            thick: with a space reservation.
            csv: the disk becomes a cluster shared volume; the name of its folder below C:\\ClusterStorage.
            group: cluster group for the disk, made if ``new_group``; ``quorum``: it becomes the quorum witness.
            host: a node of the cluster; by default the one that owns the group, or has the SnapInfo disk.
        """
        from smhvlab.provisioning.disk import CreateDisk

        return CreateDisk(
            self,
            volume=volume,
            size=size,
            at=at,
            lun=lun,
            thick=thick,
            label=label,
            svm=svm,
            csv=csv,
            group=group,
            new_group=new_group,
            quorum=quorum,
            host=host,
        )

    def build_golden(self, vm: str, *, at: str, image: str = "golden") -> BuildGolden:
        """A golden VM on a disk of its own (TR 2.2/3-8): a Flow; nothing has happened yet.

        Args:
            at: where the disk for it is mounted: ``M:``, or the folder of a mount point or a cluster shared volume.
            image: the VM whose VHDs are copied: generalised with Sysprep, shut down, with fixed VHDs.
        """
        from smhvlab.provisioning.golden import BuildGolden

        return BuildGolden(self, vm=vm, at=at, image=image)

    def provision(self, vm: str, *, golden: str = "golden", folder: str = "C:\\VMs") -> ProvisionVm:
        """A new VM from the golden image (TR 2.2): a Flow; nothing has happened yet."""
        from smhvlab.provisioning.vm import ProvisionVm

        return ProvisionVm(self, vm=vm, golden=golden, folder=folder)
