"""What a site does with the images of its backups: mount, unmount, see what holds which Snapshot copy (TR 6.8)."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from smhvlab.frames import frame
from smhvlab.snapinfo import name_of
from smhvlab.tables import SiteTables

if TYPE_CHECKING:
    import pandas as pd

    from smhvlab.backup.verify import VerifyBackup
    from smhvlab.mount.connect import MountBackup
    from smhvlab.mount.disconnect import UnmountBackup
    from smhvlab.mount.files import RestoreFile
    from smhvlab.mount.hotadd import DetachDisks, HotAddDisk
    from smhvlab.panels.filetree import BackupTree
    from smhvlab.panels.sidebyside import SideBySide
    from smhvlab.restore.announced import Announced
    from smhvlab.site import Site


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
        guests: bool = False,
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
            guests: attach the virtual disks to the host as well, so that ``browse`` shows the guests' files.
        """
        from smhvlab.mount.connect import MountBackup

        return MountBackup(
            self,
            backup=name_of(backup),
            lun=lun,
            at=at,
            copy=copy,
            initiator=initiator,
            igroup=igroup,
            group=group,
            new_group=new_group,
            csv=csv,
            host=host,
            guests=guests,
        )

    def unmount(self, mount: str) -> UnmountBackup:
        """An unmount, by the mount's name, its path, or its backup (TR 6.8): a Flow; nothing has happened yet."""
        from smhvlab.mount.disconnect import UnmountBackup

        return UnmountBackup(self, mount=name_of(mount))

    def verify(self, backup: str, *, server: str = "", databases: bool = True, host: str = "") -> VerifyBackup:
        """A verification of a backup on the side (TR 6.3, 6.8): a Flow; nothing has happened yet.

        Args:
            server: the VM whose database engine checks the databases; by default a running one that has one.
            databases: False only reads the virtual disks, which does not count as verified.
            host: a node of the cluster; by default that which has the SnapInfo disk.
        """
        from smhvlab.backup.verify import VerifyBackup

        return VerifyBackup(self, backup=name_of(backup), server=server, databases=databases, host=host)

    def restore_file(
        self,
        backup: str,
        vm: str = "",
        *,
        to: str,
        guest_path: str = "",
        host_path: str = "",
        disk: int | None = None,
        host: str = "",
    ) -> RestoreFile:
        """A copy of one file out of a backup (TR 6.8): a Flow; nothing has happened yet.

        Args:
            vm: whose file it is, if ``guest_path`` says where its guest has it (``E:\\SQL\\aa1.mdf``). The letter is
                the guest's own affair: the rest of the path is looked for on each of its virtual disks.
            host_path: where the host had it, e.g. a whole virtual disk.
            to: path of the copy on the host; nothing is overwritten.
            disk: which virtual disk of the VM, from 0, if several hold such a file.
        """
        from smhvlab.mount.files import RestoreFile

        return RestoreFile(
            self, backup=backup, to=to, vm=vm, guest_path=guest_path, host_path=host_path, disk=disk, host=host
        )

    def hot_add(self, mount: str, vm: str, *, to: str, disk: int = 0) -> HotAddDisk:
        """A virtual disk of a mounted backup for a running VM (TR 6.8): a Flow; nothing has happened yet.

        Args:
            vm: whose disk it is in the backup; ``disk`` counts its disks on the mounted LUN from 0.
            to: the VM that gets it.
        """
        from smhvlab.mount.hotadd import HotAddDisk

        return HotAddDisk(self, mount=name_of(mount), vm=vm, to=to, disk=disk)

    def detach(self, mount: str) -> DetachDisks:
        """Takes the disks of a mounted backup from every VM that has one (TR 6.8): a Flow."""
        from smhvlab.mount.hotadd import DetachDisks

        return DetachDisks(self, mount=name_of(mount))

    def browse(self, mount: str, vm: str = "", *, path: str = "\\") -> pd.DataFrame:
        """What a folder of a mounted backup holds (TR 6.8/9).

        Args:
            mount: its name, path or backup.
            vm: a VM whose guest's files are meant; the backup has to be mounted with ``guests=True``.
            path: the folder, from the root of the volume; a drive letter before it is ignored.

        Columns: disk (of the VM, -1: a file of the host), name, folder, size (bytes), modified, source (where the host
        reads it).
        """
        from smhvlab.mount.browse import listing

        types = {"disk": "int64", "name": "str", "folder": "bool", "size": "int64", "modified": "str", "source": "str"}
        return frame([vars(entry) for entry in listing(self.tools(), mount, vm=vm, path=path)], types)

    def tree(self, mount: str = "") -> BackupTree:
        """Datasets, backups, VMs, virtual disks and files as a tree to walk through."""
        from smhvlab.panels.filetree import BackupTree

        return BackupTree(cast("Site", self), mount)

    def side_by_side(self, left: str, right: str, vm: str) -> SideBySide:
        """Two mounted copies of a VM, file by file with digests (TR 6.2, 10). Nothing is changed.

        Args:
            left, right: mounts that were made with ``guests=True``: two backups, or ``copy="first"`` beside the
                recovered one of an application-consistent backup, which are of the same instant.

        Raises:
            NotFound, NotUnique, NotAllowed: as ``compare``.
        """
        from smhvlab.mount.compare import compare
        from smhvlab.panels.sidebyside import SideBySide

        return SideBySide(compare(self.tools(), name_of(left), name_of(right), vm))

    def mounts(self) -> pd.DataFrame:
        """Backups that are mounted (TR 6.8).

        Columns: name, backup, host, path, type, recovered, volume, snapshot (the copy that is busy), clone, igroup.
        """
        from smhvlab.mount.mounts import Mounts

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

    def clear_announcement(self, vm: str) -> Announced:
        """Take away the announcement of a restore that nobody will finish, by the VM's name or id (TR 6.7).

        Raises:
            NotFound: none is announced. NotAllowed: a run of this station will: it is alive, or waits for the doctor.
        """
        from smhvlab.doctor import unfinished
        from smhvlab.restore.announced import Announcements, seat_of

        site = cast("Site", self)
        return Announcements(self.tools().snapinfo).clear(
            vm, unfinished(site.name, folder=site.journals), seat=seat_of(site.name, site.journals)
        )

    def busy(self) -> pd.DataFrame:
        """Snapshot copies that cannot be deleted now, and what would free each (TR 6.8, last Note).

        Columns: volume, snapshot, owners (as ONTAP names them), why, next.
        """
        from smhvlab.leftovers import busy

        return frame(
            [vars(entry) for entry in busy(self.tools())],
            dict.fromkeys(("volume", "snapshot", "owners", "why", "next"), "str"),
        )
