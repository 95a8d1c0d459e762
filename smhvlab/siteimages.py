"""What a site does with the images of its backups: mount, unmount, see what holds which Snapshot copy (TR 6.8)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from smhvlab.frames import frame
from smhvlab.tables import SiteTables

if TYPE_CHECKING:
    import pandas as pd

    from smhvlab.mount import MountBackup, UnmountBackup
    from smhvlab.verify import VerifyBackup


class SiteImages(SiteTables):
    """Flows and tables about mounted backups."""

    def mount(
        self,
        backup: str,
        *,
        lun: str = "",
        at: str = "",
        copy: str = "recovered",
        initiator: str = "",
        igroup: str = "",
        group: str = "",
        new_group: bool = False,
        csv: bool = False,
        host: str = "",
    ) -> MountBackup:
        """A mount of a backup on a host (TR 6.8): a Flow; nothing has happened yet.

        Args:
            lun: volume, LUN or access path of the LUN, or a VM on it; needed if the backup holds several.
            at: drive letter (``M:``) or a folder that does not exist yet; a folder below C:\\smhvlab by default.
            copy: ``recovered`` is the Snapshot copy with the suffix _backup; ``first`` the one before it.
            initiator: the host's first one by default.
            igroup: an initiator group that exists (manual management); by default one is chosen or made (automatic).
            group: cluster group for the disk, made if ``new_group``; ``csv``: a cluster shared volume instead.
            host: a node of the cluster; by default that which has the SnapInfo disk.
        """
        from smhvlab.mount import MountBackup

        return MountBackup(
            self,
            backup=backup,
            lun=lun,
            at=at,
            copy=copy,
            initiator=initiator,
            igroup=igroup,
            group=group,
            new_group=new_group,
            csv=csv,
            host=host,
        )

    def unmount(self, mount: str) -> UnmountBackup:
        """An unmount, by the mount's name, its path, or its backup (TR 6.8): a Flow; nothing has happened yet."""
        from smhvlab.mount import UnmountBackup

        return UnmountBackup(self, mount=mount)

    def verify(self, backup: str, *, server: str = "", databases: bool = True, host: str = "") -> VerifyBackup:
        """A verification of a backup on the side (TR 6.3, 6.8): a Flow; nothing has happened yet.

        Args:
            server: the VM whose database engine checks the databases; by default a running one that has one.
            databases: False only reads the virtual disks, which does not count as verified.
            host: a node of the cluster; by default that which has the SnapInfo disk.
        """
        from smhvlab.verify import VerifyBackup

        return VerifyBackup(self, backup=backup, server=server, databases=databases, host=host)

    def mounts(self) -> pd.DataFrame:
        """Backups that are mounted (TR 6.8).

        Columns: name, backup, host, path, type, recovered, volume, snapshot (the copy that is busy), clone, igroup.
        """
        from smhvlab.mounts import Mounts

        columns = ("name", "backup", "host", "path", "type", "recovered", "volume", "snapshot", "clone", "igroup")
        rows = [
            {
                "name": mount.name,
                "backup": mount.backup,
                "host": mount.host,
                "path": mount.image.access_path,
                "type": mount.image.placement.value,
                "recovered": mount.recovered,
                "volume": mount.image.parent.name,
                "snapshot": mount.image.snapshot,
                "clone": mount.image.clone,
                "igroup": mount.image.igroup,
            }
            for mount in Mounts(self.tools().snapinfo).all()
        ]
        return frame(rows, dict.fromkeys(columns, "str") | {"recovered": "bool"})

    def busy(self) -> pd.DataFrame:
        """Snapshot copies that cannot be deleted now, and what would free each (TR 6.8, last Note).

        Columns: volume, snapshot, owners (as ONTAP names them), why, next.
        """
        from smhvlab.leftovers import busy

        return frame(
            [vars(entry) for entry in busy(self.tools())],
            dict.fromkeys(("volume", "snapshot", "owners", "why", "next"), "str"),
        )
