"""The disaster recovery flows of a site, as ``site.dr`` offers them (TR 8)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from smhvlab.errors import NotAllowed

if TYPE_CHECKING:
    import pandas as pd

    from smhvlab.dr.copies import CopyRehearsal
    from smhvlab.dr.failback import Failback
    from smhvlab.dr.failover import Failover
    from smhvlab.dr.normal import ReturnToNormal
    from smhvlab.dr.plan import PlannedMigration
    from smhvlab.dr.protect import ProtectReplication
    from smhvlab.dr.rehearse import Rehearsal
    from smhvlab.dr.reverse import ReverseReplication
    from smhvlab.dr.snapinfo import ConnectSnapInfo
    from smhvlab.site import Site


class DisasterRecovery:
    """Makes the flows; nothing has happened yet when a method returns."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def protect(
        self, volumes: Sequence[str] = (), *, inside: bool = False, svm: str = "", schedule: str = ""
    ) -> ProtectReplication:
        """Replicate this site's volumes to its partner.

        Args:
            volumes: names; by default those of every dataset's VMs, and SnapInfo's.
            inside: to other volumes of the same cluster instead.
            svm: the SVM of the destinations; by default the one that serves the other site's host.
            schedule: of the array, for updates besides those after backups.
        """
        from smhvlab.dr.protect import ProtectReplication

        return ProtectReplication(self._site, volumes=volumes, inside=inside, svm=svm, schedule=schedule)

    def connect_snapinfo(
        self, *, volume: str = "snapinfo", folder: str = "S:\\SnapInfo", manner: str = "", node: str = ""
    ) -> ConnectSnapInfo:
        """Failover, steps 1 to 3: bring the other site's SnapInfo here from its mirror; merged into this site's own.

        Args:
            volume: the other site's SnapInfo volume.
            folder: where SnapInfo was there.
            manner: ``today`` or ``tr``, see ``smhvlab.dr.images.Manner``; by default that of the hosts' era.
            node: of a failover cluster, the one to work from; it must own the cluster group. By default the owner.
        """
        from smhvlab.dr.snapinfo import ConnectSnapInfo

        return ConnectSnapInfo(self._site, volume=volume, folder=folder, manner=manner, node=node)

    def failover(
        self, backups: Sequence[str] = (), *, vms: Sequence[str] = (), manner: str = "", node: str = ""
    ) -> Failover:
        """Failover, steps 1 and 4 to 7: break the mirrors to backups, restore their VMs here, start and check them.

        Args:
            backups: names; by default the newest of each dataset whose data arrived whole.
            vms: names or ids; by default all that are in these backups.
            manner: ``today`` or ``tr``, see ``smhvlab.dr.images.Manner``; by default that of the hosts' era.
            node: as in ``connect_snapinfo``.
        """
        from smhvlab.dr.failover import Failover

        return Failover(self._site, backups=backups, vms=vms, manner=manner, node=node)

    def reverse(self) -> ReverseReplication:
        """Failback, steps 1 to 3, on the site that runs the VMs: resync or initialise the other site's volumes."""
        from smhvlab.dr.reverse import ReverseReplication

        return ReverseReplication(self._site)

    def failback(self, *, update: bool = True, snapinfo_folder: str = "S:\\SnapInfo", node: str = "") -> Failback:
        """Failback, steps 4 to 11, on the site to which the VMs go home.

        Args:
            update: make the extra SnapMirror update of step 4; without it data are lost.
            snapinfo_folder: where SnapInfo is connected if this site has none of its own any more.
            node: as in ``connect_snapinfo``.
        """
        from smhvlab.dr.failback import Failback

        return Failback(self._site, update=update, snapinfo_folder=snapinfo_folder, node=node)

    def return_to_normal(self) -> ReturnToNormal:
        """After a failback, on the second site: its VMs and disks go, it is mirrored to again."""
        from smhvlab.dr.normal import ReturnToNormal

        return ReturnToNormal(self._site)

    def rehearse(
        self,
        backups: Sequence[str] = (),
        *,
        vms: Sequence[str] = (),
        volume: str = "snapinfo",
        folder: str = "SnapInfo",
        node: str = "",
        copies: bool = False,
        to: str = "",
    ) -> Rehearsal | CopyRehearsal:
        """Run the VMs of backups from clones of the mirrors on an isolated switch, check them, remove everything.

        Args:
            backups: names; by default the newest of each dataset whose data arrived whole.
            vms: names or ids; by default all that are in these backups.
            volume: the other site's SnapInfo volume.
            folder: the SnapInfo folder on that LUN.
            node: as in ``connect_snapinfo``.
            copies: run full copies with new ids and names instead, where the host has the VMs' ids already.
            to: folder for these copies; by default on SnapInfo's disk or C:, whichever has more room.

        Raises:
            NotAllowed: ``to`` without ``copies``.
        """
        from smhvlab.dr.copies import CopyRehearsal
        from smhvlab.dr.rehearse import Rehearsal

        if copies:
            return CopyRehearsal(self._site, backups=backups, vms=vms, volume=volume, folder=folder, node=node, to=to)
        if to:
            raise NotAllowed(
                f"Nothing would be copied to {to}",
                why="a rehearsal registers the VMs in the clones unless copies are asked for",
                next_action="Add copies=True (--copies), or leave the folder out.",
                tr="8",
            )
        return Rehearsal(self._site, backups=backups, vms=vms, volume=volume, folder=folder, node=node)

    def rehearsals(self) -> pd.DataFrame:
        """The rehearsals on this site, oldest first; columns as ``smhvlab.dr.evidence.COLUMNS``."""
        from smhvlab.dr.evidence import Rehearsals

        return Rehearsals(self._site.tools().snapinfo).frame()

    def migrate(self, dataset: str) -> PlannedMigration:
        """Leave this site as planned: VMs shut down, last backup, mirrors updated; then fail over on the other one."""
        from smhvlab.dr.plan import PlannedMigration

        return PlannedMigration(self._site, dataset=dataset)

    def what_if(self) -> pd.DataFrame:
        """What would be lost, and for how long, if this site died now; see ``smhvlab.dr.plan.what_if``."""
        from smhvlab.dr.plan import what_if

        return what_if(self._site)
