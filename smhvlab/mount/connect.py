"""Mounting a backup on a host (TR 6.8: SnapDrive's Connect Disk wizard, sdcli snap mount)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from html import escape

from smhvlab.errors import NameTaken, NotAllowed, NotFound, NotUnique
from smhvlab.flow import CHOSEN
from smhvlab.mount.guestdisks import GuestDisk, GuestDisks, guest_disks
from smhvlab.mount.image import FOLDER, SHARED_FOLDER, Image, Images, Placement, access_path, clone_name, disk_guid
from smhvlab.mount.mounts import Mount, Mounts
from smhvlab.mount.vhdimage import disk_images, used_places
from smhvlab.procedure import Procedure
from smhvlab.record import Confirmation
from smhvlab.site import own_stamp
from smhvlab.snapdrive import is_signature
from smhvlab.snapinfo import Backup, BackupLun
from smhvlab.steps import step

RECOVERED = "_backup"
"""Suffix of the Snapshot copy that holds the recovered images of an application-consistent backup (TR 6.8/2)."""


@dataclass(frozen=True)
class MountState:
    """What one mount shows, and where.

    Attributes:
        question: why the image is not a recovered one, "" if it is.
        source: volume, Snapshot copy and path of the image.
    """

    backup: str
    dataset: str
    host: str
    question: str
    source: str
    place: str
    igroup: str
    name: str = field(metadata=CHOSEN)
    time: str = field(metadata=CHOSEN)
    image: Image = field(metadata=CHOSEN)
    guests: tuple[GuestDisk, ...] = field(default=(), metadata=CHOSEN)

    @property
    def mount(self) -> Mount:
        """What SnapInfo keeps."""
        recovered = not self.question
        return Mount(
            self.name, self.backup, self.dataset, self.time, self.host, recovered, self.image, self.place, self.guests
        )


@dataclass(frozen=True)
class Mounted:
    """A backup that was mounted (``mounted``) or unmounted."""

    mount: Mount
    mounted: bool = True

    @property
    def name(self) -> str:
        """The mount's name, by which ``unmount``, ``browse`` and the others find it."""
        return self.mount.name

    def __str__(self) -> str:
        mount, image = self.mount, self.mount.image
        if not self.mounted:
            return f"{mount.backup} is no longer at {image.access_path}; {image.snapshot} of {image.parent} is free"
        return (
            f"{mount.backup} is at {image.access_path} on {mount.host} ({image.placement.value}) as {mount.name}\n"
            f"  The Snapshot copy {image.snapshot} of {image.parent} is busy until it is unmounted"
        )

    def _repr_html_(self) -> str:
        return "".join(f"<p>{escape(line.strip())}</p>" for line in str(self).splitlines())


class MountBackup(Procedure[MountState]):
    """Mount a backup."""

    tr = "6.8"

    def __init__(
        self,
        site: object,
        *,
        backup: str,
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
    ) -> None:
        super().__init__(
            site,
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
            guests=guests,
        )
        self.guests = guests
        self.on = host
        self.backup = backup
        self.lun = lun
        self.at = at
        self.copy = copy
        self.initiator = initiator
        self.igroup = igroup
        self.group = group
        self.new_group = new_group
        self.csv = csv

    def _images(self, host: str) -> Images:
        """What shows images on a host, by default the site's own."""
        return Images(self.storage, self.nodes[host] if host else self.nodes.own(), self.nodes)

    def survey(self) -> MountState:
        """Find the image, and choose its names and its place.

        Raises:
            NotFound: no such backup, LUN, Snapshot copy, initiator, initiator group or cluster group.
            NotUnique: the backup has several LUNs and none was named.
            NameTaken: the drive letter or folder is in use, or the cluster group that shall be made exists.
            NotAllowed: a place that this host cannot offer.
        """
        backup = self.snapinfo.backup(self.backup)
        chosen = self._chosen(backup)
        place, question = self._copy(backup, chosen)
        images = self._images(self.on)
        parent = images.place(place)
        now = self.site.now()
        name = f"mount_{own_stamp(now)}"
        path, placement, group = self._place(images, name)
        if placement is Placement.SHARED and is_signature(place.disk_guid):
            raise NotAllowed(
                f"The disk of {place.access_path} has an MBR partition table",
                next_action="Mount it as a dedicated disk or in a cluster group: MBR LUNs are not supported for shared "
                "volumes.",
                tr="4.1",
            )
        initiators = self._initiators(images, placement)
        igroup, made_for = images.igroup(parent.svm, initiators, name=self.igroup)
        clone = clone_name(name)
        image = Image(
            parent,
            place.snapshot,
            place.path,
            clone,
            igroup,
            path,
            disk_guid(clone, place.path, like=place.disk_guid),
            made_for=made_for,
            placement=placement,
            group=group,
            new_group=placement is Placement.GROUP and (self.new_group or group in self._made_groups()),
        )
        virtual = disk_images(backup, backup.vms, [image], [chosen]) if self.guests else []
        return MountState(
            backup=backup.name,
            dataset=backup.dataset,
            host=images.host.endpoint.name,
            question=question,
            source=f"{parent}/{place.snapshot}{place.path}",
            place=place.access_path,
            igroup=igroup,
            name=name,
            time=now.isoformat(),
            image=image,
            guests=guest_disks(virtual, name),
        )

    def _chosen(self, backup: Backup) -> BackupLun:
        """The LUN that was named: by volume, LUN, access path, or a VM that lies on it alone."""
        if not self.lun and len(backup.luns) == 1:
            return backup.luns[0]
        wanted = self.lun.rstrip("\\").casefold()
        of_vm = used_places(backup, tuple(vm for vm in backup.vms if vm.name.casefold() == wanted))
        found = [
            lun
            for lun in backup.luns
            if lun in of_vm
            or wanted
            in (
                lun.volume.casefold(),
                f"/vol/{lun.volume}{lun.path}".casefold(),
                lun.access_path.rstrip("\\").casefold(),
            )
        ]
        if len(found) == 1:
            return found[0]
        listed = ", ".join(f"{lun.volume} ({lun.access_path})" for lun in found or backup.luns)
        if self.lun and not found:
            raise NotFound(
                f"The backup {backup.name} holds no LUN {self.lun!r}",
                next_action=f"It holds {listed}.",
                tr="6.8/1",
            )
        raise NotUnique(
            f"{backup.name} holds {len(found or backup.luns)} LUNs",
            next_action=f"Name one with lun=: {listed}.",
            tr="6.8/1",
        )

    def _copy(self, backup: Backup, place: BackupLun) -> tuple[BackupLun, str]:
        """Where the image is that was asked for, and why it is not a recovered one."""
        if self.copy == "recovered":
            if backup.consistency == "application":
                return place, ""
            return place, f"{backup.name} is crash-consistent: its guests look as after a loss of power"
        if self.copy != "first":
            raise NotAllowed(
                f"{self.copy!r} is no copy of a backup",
                next_action='Use copy="recovered" (the one with the suffix _backup) or copy="first".',
                tr="6.8/2",
            )
        first = place.snapshot.removesuffix(RECOVERED)
        if first == place.snapshot:
            raise NotAllowed(
                f"{backup.name} has one Snapshot copy of {place.volume}: {first}",
                next_action='Use copy="recovered".',
                why="only the VSS hardware provider takes a first copy, which auto-recovery then turns into a second",
                tr="6.8/2",
            )
        live = next((lun for lun in self.storage.luns() if lun.uuid == place.lun_uuid), None)
        path = place.path if live is None else live.path
        return (
            replace(place, snapshot=first, path=path),
            f"the Snapshot copy {first} was not recovered: the image in it is from the middle of the backup",
        )

    def _place(self, images: Images, name: str) -> tuple[str, Placement, str]:
        """Path, placement and cluster group (TR 6.8/4 and 5)."""
        wants_cluster = bool(self.csv or self.group)
        if wants_cluster and self.nodes.cluster is None:
            raise NotAllowed(
                f"{images.host.endpoint.name} is not a node of a failover cluster",
                next_action="Mount the backup as a dedicated disk: leave group and csv out.",
                tr="6.8/4",
            )
        if self.csv:
            if self.at or self.group:
                raise NotAllowed(
                    "A cluster shared volume has neither a group nor a drive letter to choose",
                    next_action="Give csv alone; its folder is below C:\\ClusterStorage.",
                    tr="6.8/4",
                )
            return f"{SHARED_FOLDER}{name}\\", Placement.SHARED, ""
        path = access_path(self.at) if self.at else f"{FOLDER}{name}\\"
        images.need_free(path)
        group = self._group(images, path)
        return path, Placement.GROUP if group else Placement.DEDICATED, group

    def _group(self, images: Images, path: str) -> str:
        """The cluster group: for a mount point the one that owns the disk below it (TR 6.8/4, Note)."""
        if self.nodes.cluster is None:
            return ""
        root = images.snapdrive.folder_disk(path, images.snapdrive.disks()) if len(path) > 3 else None
        owner = images.cluster.group_of(root.guid) if root is not None and root.guid else ""
        group = self.group or owner
        if owner and group != owner:
            raise NotAllowed(
                f"The mount point {path} lies on a disk of the cluster group {owner}",
                next_action=f"Leave the group out, or choose a drive letter for a disk in {self.group}.",
                tr="6.8/4",
            )
        groups = images.cluster.groups()
        if group and not self.new_group and group not in groups:
            raise NotFound(
                f"The cluster has no group {group}",
                next_action=f"It has {', '.join(sorted(groups))}; new_group=True makes one.",
                tr="6.8/4",
            )
        if self.new_group and (not group or group in groups):
            raise NameTaken(
                f"No cluster group {group!r} can be made: it exists" if group else "The new cluster group has no name",
                next_action="Give group= a new name, or leave new_group out.",
                why="a group that was made for a mount is removed with it" if group else None,
                tr="6.8/4",
            )
        here = images.host.endpoint.name
        if group in groups and groups[group].casefold() != here.casefold():
            raise NotAllowed(
                f"The cluster group {group} is on the node {groups[group]}, not on {here}",
                next_action=f'Mount the backup there: host="{groups[group]}"; or move the group.',
                tr="6.8/4",
            )
        return group

    def _made_groups(self) -> set[str]:
        """Cluster groups that were made for mounts of now: the last disk that leaves one takes it along."""
        return {mount.image.group for mount in Mounts(self.snapinfo).all() if mount.image.new_group}

    def _initiators(self, images: Images, placement: Placement) -> list[str]:
        """The initiators that shall see the disk (TR 6.8/6)."""
        mine = images.initiators()
        chosen = self.initiator or next(iter(mine), "")
        if chosen not in mine:
            raise NotFound(
                f"The host has no iSCSI initiator {self.initiator}".rstrip(),
                next_action=f"It has {', '.join(mine) or 'none: start the service MSiSCSI'}.",
                tr="6.8/6",
            )
        if placement is Placement.DEDICATED:
            return [chosen]
        return images.initiators(everywhere=True)

    def confirmations(self, state: MountState) -> Sequence[Confirmation]:
        """That the image was not recovered, if so."""
        return (Confirmation(key="not-recovered", text=state.question, tr="6.8/2"),) if state.question else ()

    @step(
        "FlexClone volume from the Snapshot copy",
        tr="6.8/2",
        items=lambda s: (f"{s.image.clone} from {s.source}",),
        counts=lambda s: {"ontap.volume.clone": 1},
    )
    def clone(self, s: MountState) -> None:
        self._images(s.host).ensure_clone(s.image)

    @clone.undo
    def drop_clone(self, s: MountState) -> None:
        self._images(s.host).discard_clone(s.image)

    @step("Disk signature of its own for the clone", tr="6.8", items=lambda s: (s.image.disk_guid,))
    def identity(self, s: MountState) -> None:
        self._images(s.host).ensure_own_identity(s.image)

    @step(
        "Initiator group",
        tr="6.8/7",
        items=lambda s: (s.igroup,),
        when=lambda s: bool(s.image.made_for),
        otherwise="it exists",
    )
    def initiators(self, s: MountState) -> None:
        self._images(s.host).ensure_igroup(s.image)

    @initiators.undo
    def drop_initiators(self, s: MountState) -> None:
        self._images(s.host).discard_igroup(s.image)

    @step(
        "Connect the disk",
        tr="6.8/4-6",
        items=lambda s: (f"{s.image.lun} to {s.igroup}: {s.image.placement.value} {s.image.group}".rstrip(),),
        counts=lambda s: {"windows.rescan": 1},
    )
    def connect(self, s: MountState) -> None:
        self._images(s.host).ensure_disk(s.image)

    @connect.undo
    def disconnect(self, s: MountState) -> None:
        self._images(s.host).discard_disk(s.image)

    @step("Drive letter or mount point", tr="6.8/5", items=lambda s: (s.image.access_path,))
    def path(self, s: MountState) -> None:
        self._images(s.host).ensure_mounted(s.image)

    @step(
        "Attach the virtual disks to the host",
        tr="6.8",
        items=lambda s: s.guests,
        counts=lambda s: {"windows.vhd.mount": len(s.guests)},
        when=lambda s: bool(s.guests),
        otherwise="the files of the guests were not asked for",
    )
    def attach(self, s: MountState) -> None:
        for disk in self.track(s.guests):
            GuestDisks(self.nodes[s.host]).ensure(disk, (s.image.access_path,))

    @attach.undo
    def detach(self, s: MountState) -> None:
        for disk in s.guests:
            GuestDisks(self.nodes[s.host]).discard(disk)

    @step("Write the mount down in SnapInfo", tr="6.8", items=lambda s: (f"{s.name}.json",))
    def register(self, s: MountState) -> None:
        Mounts(self.snapinfo).ensure(s.mount)

    @register.undo
    def unregister(self, s: MountState) -> None:
        Mounts(self.snapinfo).discard(s.name)

    def result(self, state: MountState) -> Mounted:
        """Where the backup is."""
        return Mounted(state.mount)
