"""The disaster recovery flows of a site, as ``site.dr`` offers them (TR 8)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from smhvlab.dr_protect import ProtectReplication
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
        from smhvlab.dr_protect import ProtectReplication

        return ProtectReplication(self._site, volumes=volumes, inside=inside, svm=svm, schedule=schedule)
