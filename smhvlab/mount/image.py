"""An image of a backup shown on a host: a FlexClone of its volume, the LUN in it mapped, its disk mounted (TR 6.8).

Mounting, verification and restore of files all go this way. Every name is chosen before, in an ``Image``; every
``ensure_*`` and ``discard_*`` looks first, so that it can run again after an interruption.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import count
from uuid import UUID, uuid5

from smhvlab.errors import NameTaken, NotAllowed, NotFound
from smhvlab.mount.clusterdisk import ClusterDisks
from smhvlab.mount.gpt import renew
from smhvlab.mount.mbr import renew_signature, signature_from
from smhvlab.nodes import Node, Nodes
from smhvlab.snapdrive import HostDisk, is_signature
from smhvlab.snapinfo import BackupLun
from smhvlab.storage import LunRef, Storage, VolumeRef
from smhvlab.wires.wave import collect

PREFIX = "smhvlab_"
"""How the names of the FlexClone volumes begin that exist only while an image is shown."""

FOLDER = "C:\\smhvlab\\"
"""Folder of the host below which images are mounted that nobody gave another place."""

SHARED_FOLDER = "C:\\ClusterStorage\\"
_MARK = "made by smhvlab to show images"
"""Comment of the initiator groups that are made for images: others of such a name stay."""

_LETTER = re.compile(r"[A-Za-z]:\\?\Z")
_GUIDS = UUID("6d5a9d34-4e0f-5c3b-9f7e-8c1f0e5b2a61")  # of the disks that clones become


class Placement(StrEnum):
    """What the connected LUN becomes on the host (TR 6.8/4)."""

    DEDICATED = "dedicated disk"
    GROUP = "resource of a cluster group"
    SHARED = "cluster shared volume"


@dataclass(frozen=True)
class Image:
    """How one LUN's image is shown.

    Attributes:
        parent: the volume, and ``snapshot`` its Snapshot copy.
        path: path of the LUN inside the Snapshot copy.
        clone: name of the FlexClone volume.
        igroup: initiator group that the LUN is mapped to.
        made_for: initiators of that group if it is made for this image, empty if it exists.
        access_path: drive letter or folder, with a final backslash.
        disk_guid: GPT GUID (or signature of an MBR) that the clone's disk gets, to stand beside its parent.
        group: cluster group of the disk, "" for none; ``new_group`` says whether it is made for it, or for
            another mount in it, and goes with the last of them.
    """

    parent: VolumeRef
    snapshot: str
    path: str
    clone: str
    igroup: str
    access_path: str
    disk_guid: str
    made_for: tuple[str, ...] = ()
    placement: Placement = Placement.DEDICATED
    group: str = ""
    new_group: bool = False

    def __str__(self) -> str:
        return f"{self.parent}/{self.snapshot}{self.path} at {self.access_path}"

    @property
    def lun(self) -> str:
        """Name of the LUN in the FlexClone volume."""
        return f"/vol/{self.clone}{self.path}"

    @property
    def made_group(self) -> str:
        """The cluster group that goes with the image, "" if none does."""
        return self.group if self.new_group else ""


def clone_name(mark: str, number: int = 0) -> str:
    """Name of a FlexClone volume from a mark such as ``mount_03-04-2013_08.10.22``."""
    return PREFIX + re.sub(r"[^A-Za-z0-9]", "_", mark) + (f"_{number}" if number else "")


def disk_guid(clone: str, path: str, *, like: str = "") -> str:
    """The GUID that the disk of a LUN in a clone gets; a signature if ``like``, what the disk had, is one."""
    guid = uuid5(_GUIDS, f"{clone}{path}")
    return signature_from(guid) if is_signature(like) else str(guid)


def access_path(text: str) -> str:
    """A drive letter or folder in the one form that is compared. Raises NotAllowed."""
    if _LETTER.match(text):
        return text[0].upper() + ":\\"
    if re.fullmatch(r"[A-Za-z]:(?:\\[^\\/:*?\"<>|]+)+\\?", text):
        return text.rstrip("\\") + "\\"
    raise NotAllowed(
        f"{text!r} is neither a drive letter nor a folder",
        next_action=r"Write M: or a folder that does not exist yet, such as G:\mount_drive1.",
        tr="6.8/5",
    )


class Images:
    """Shows images on one host and takes them away.

    Args:
        node: the host.
        nodes: all hosts of the site; those of a cluster have to see a disk that becomes one of its resources.
    """

    def __init__(self, storage: Storage, node: Node, nodes: Nodes) -> None:
        self.storage = storage
        self.nodes = nodes
        self.snapdrive = node.snapdrive
        self.host = node.host
        self.cluster = ClusterDisks(node.host)

    # --- choosing

    def igroup(self, svm: str, initiators: Iterable[str], *, name: str = "") -> tuple[str, tuple[str, ...]]:
        """The initiator group for these initiators, and who is put into it if it has to be made (TR 6.8/7).

        Without a name the management is automatic: the group that holds exactly these, else a new one.

        Raises:
            NotFound: the group named does not exist.
            NotAllowed: it does not hold all the initiators.
        """
        wanted = frozenset(initiators)
        groups = self.storage.igroups(svm)
        if name:
            if name not in groups:
                raise NotFound(
                    f"The SVM {svm} has no initiator group {name}",
                    next_action=f"It has {', '.join(sorted(groups)) or 'none'}; leave igroup out to have one chosen.",
                    tr="6.8/7",
                )
            if missing := sorted(wanted - groups[name]):
                raise NotAllowed(
                    f"The initiator group {name} does not hold {missing[0]}",
                    next_action="Add the initiator to it, or leave igroup out to have one chosen.",
                    tr="6.8/7",
                )
            return name, ()
        exact = sorted(group for group, held in groups.items() if held == wanted)
        if exact:
            return exact[0], ()
        name = f"viaRPC.{min(wanted)}"
        names = (name if number == 1 else f"{name}_{number}" for number in count(1))  # others may hold it and more
        return next(name for name in names if name not in groups), tuple(sorted(wanted))

    def initiators(self, *, everywhere: bool = False) -> list[str]:
        """The iSCSI initiators of the host, or of all nodes (TR 6.8/6)."""
        hosts = [node.host for node in self.nodes.up()] if everywhere else [self.host]
        answers = collect(host.begin("Get-InitiatorPort", select=("NodeAddress", "ConnectionType")) for host in hosts)
        ports = [port for answer in answers for port in answer]
        return sorted({name for port in ports if (name := str(port["NodeAddress"])).startswith("iqn.")})

    def need_free(self, path: str) -> None:
        """A drive letter is free, or a folder is not there while its drive is. Raises NameTaken, NotFound."""
        if self.host.run("Test-Path", {"LiteralPath": path})[0]:
            raise NameTaken(
                f"{path} is in use on the host",
                next_action="Choose another drive letter, or a folder that does not exist yet.",
                tr="6.8/5",
            )
        if len(path) > 3 and not self.host.run("Test-Path", {"LiteralPath": path[:3]})[0]:
            raise NotFound(
                f"The host has no drive {path[:2]}",
                next_action="Choose a mount point on a drive that is there.",
                tr="6.8/5",
            )

    def place(self, place: BackupLun) -> VolumeRef:
        """The volume of a backup's LUN, with its Snapshot copy proven to be there. Raises NotFound."""
        volume = self.storage.present(place.volume_uuid, name=place.volume, svm=place.svm)
        if self.storage.snapshot(volume, place.snapshot) is None:
            raise NotFound(
                f"The Snapshot copy {place.snapshot} of volume {volume} is gone",
                next_action="Choose another backup; this one can no longer be used for this LUN.",
                why="it was deleted, or a volume restore went back behind it",
                tr="6.8",
            )
        return volume

    # --- changing

    def ensure_clone(self, image: Image) -> None:
        """The FlexClone volume is there."""
        self.storage.ensure_volume_clone(image.clone, parent=image.parent, snapshot=image.snapshot)

    def ensure_own_identity(self, image: Image) -> None:
        """The clone's disk has GUIDs or a signature of its own; done before anybody has it mapped."""
        lun = self.storage.lun(image.lun, svm=image.parent.svm)
        if is_signature(image.disk_guid):
            renew_signature(self.storage.wire, lun.uuid, wanted=image.disk_guid)
            return
        renew(self.storage.wire, lun.uuid, guid=UUID(image.disk_guid))

    def ensure_igroup(self, image: Image) -> None:
        """The initiator group is there. Raises NameTaken: others have made one of the name meanwhile."""
        if image.made_for:
            self.storage.ensure_igroup(image.igroup, image.made_for, svm=image.parent.svm, mark=_MARK)

    def ensure_disk(self, image: Image) -> HostDisk:
        """The disk is on the host, online and writable."""
        lun = self.storage.lun(image.lun, svm=image.parent.svm)
        self.storage.ensure_map(lun, image.igroup)
        disk = self.snapdrive.arrived(lun)
        if image.placement is Placement.DEDICATED:
            disk = self.snapdrive.ensure_online(disk)
        else:
            self._rescan()
            name = self.cluster.ensure_added(disk.unique_id, image.disk_guid)
            if image.placement is Placement.SHARED:
                self.cluster.ensure_shared(name, image.access_path)
                return disk
            self.cluster.ensure_grouped(name, image.group, new=image.new_group)
            disk = self.snapdrive.arrived(lun)
            self.snapdrive.clear_shadow(disk)  # of an MBR disk, whose table has no place for that
        if not disk.partition:
            raise NotFound(
                f"The image {image.lun} has no data partition that the host can see",
                next_action="Look at Get-Partition on the host; the LUN may never have been formatted.",
                tr="6.8",
            )
        return disk

    def _rescan(self) -> None:
        """Every node sees the disks that the array shows it."""
        collect(node.host.begin("Update-HostStorageCache", {}) for node in self.nodes.up())

    def ensure_mounted(self, image: Image) -> None:
        """The image can be reached at its path, and at no drive letter that nobody asked for."""
        if image.placement is Placement.SHARED:
            return
        disk = self._present(image)
        if disk is None:
            raise NotFound(
                f"The disk of {image.lun} is no longer on the host", next_action="Unmount it and mount it again."
            )
        for letter in disk.access_paths:
            if len(letter) == 3 and letter.casefold() != image.access_path.casefold():
                where = {"DiskNumber": disk.number, "PartitionNumber": disk.partition, "AccessPath": letter}
                self.host.run("Remove-PartitionAccessPath", where)
        self.snapdrive.ensure_mounted(disk, image.access_path)

    def ensure_shown(self, image: Image) -> None:
        """All of it, in order."""
        self.ensure_clone(image)
        self.ensure_own_identity(image)
        self.ensure_igroup(image)
        self.ensure_disk(image)
        self.ensure_mounted(image)

    def discard_disk(self, image: Image) -> None:
        """The host does not have the disk, and its folder is gone."""
        lun = self._lun(image)
        if image.placement is not Placement.DEDICATED:
            self.cluster.discard(image.disk_guid, group=image.made_group)
        path = "" if image.placement is Placement.SHARED else image.access_path
        self.snapdrive.discard_connection(lun, igroup=image.igroup, access_path=path)
        if image.placement is not Placement.DEDICATED:
            self._rescan()

    def discard_clone(self, image: Image) -> None:
        """The FlexClone volume is gone, and the Snapshot copy free again."""
        self.storage.discard_volume(image.clone, svm=image.parent.svm)

    def discard_igroup(self, image: Image) -> None:
        """An initiator group that was made for images is gone, unless another uses it by now."""
        if image.made_for:
            self.storage.discard_igroup(image.igroup, svm=image.parent.svm, mark=_MARK)

    def discard(self, image: Image) -> None:
        """All of it, the other way round."""
        self.discard_all((image,))

    def discard_all(self, images: Sequence[Image]) -> None:
        """All of several: every disk first, for images of one Snapshot copy share its FlexClone volume."""
        for image in images:
            self.discard_disk(image)
        for image in images:
            self.discard_clone(image)
            self.discard_igroup(image)

    def _lun(self, image: Image) -> LunRef | None:
        try:
            return self.storage.lun(image.lun, svm=image.parent.svm)
        except NotFound:
            return None

    def _present(self, image: Image) -> HostDisk | None:
        lun = self._lun(image)
        return None if lun is None else self.snapdrive.disk(lun.unique_id)
