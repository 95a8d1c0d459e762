"""SnapDrive's Create Disk wizard: a LUN becomes a disk of a host, of a cluster group, or a shared volume (TR 2.2)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from html import escape

from smhvlab.errors import NameTaken, NotAllowed, NotFound
from smhvlab.flow import CHOSEN
from smhvlab.mount.clusterdisk import ClusterDisks
from smhvlab.mount.image import SHARED_FOLDER, Images, Placement, access_path
from smhvlab.nodes import Node
from smhvlab.procedure import Procedure
from smhvlab.provisioning.array import ArraySetup
from smhvlab.provisioning.sessions import Sessions
from smhvlab.record import Confirmation
from smhvlab.site import own_stamp
from smhvlab.sizes import shown, size_of
from smhvlab.snapdrive import HostDisk, SnapDrive
from smhvlab.steps import step
from smhvlab.storage import LunRef, VolumeRef
from smhvlab.wires.wave import collect

AVAILABLE = "Available Storage"
"""The cluster group of disks that nobody uses yet; its owner node makes shared volumes (TR 11.2)."""

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
_LABEL = 11  # letters of a default label: what every file system takes


@dataclass(frozen=True)
class DiskState:
    """The LUN and the disk that it becomes.

    Attributes:
        host: the node that formats it; of a disk of the cluster the one that owns its group.
        path: drive letter or folder with a final backslash; "" for none.
        group: cluster group of the disk, "" for none; ``new_group`` says whether it is made.
        quorum: whether it becomes the witness; ``before``: the resource that was it.
        disk_guid: GPT GUID of the disk, known once it is initialised.
        volume_guid: its volume before it is in the cluster, ``shared_guid``: as a cluster shared volume (TR 11.2).
        resource: its name among the cluster's resources.
    """

    volume: VolumeRef
    lun: str
    size: int
    thin: bool
    igroup: str
    made_for: tuple[str, ...]
    host: str
    placement: Placement
    path: str
    label: str
    group: str
    new_group: bool
    quorum: bool
    before: str
    mark: str = field(metadata=CHOSEN)
    disk_guid: str = field(default="", metadata=CHOSEN)
    volume_guid: str = field(default="", metadata=CHOSEN)
    shared_guid: str = field(default="", metadata=CHOSEN)
    resource: str = field(default="", metadata=CHOSEN)

    @property
    def clustered(self) -> bool:
        """Whether the cluster gets the disk."""
        return self.placement is not Placement.DEDICATED


@dataclass(frozen=True)
class CreatedDisk:
    """A disk that was made."""

    lun: str
    size: int
    thin: bool
    host: str
    placement: str
    path: str
    volume_guid: str
    shared_guid: str
    resource: str
    quorum: bool

    def __str__(self) -> str:
        lines = [
            f"{self.lun} ({shown(self.size)}, {'thin' if self.thin else 'space reserved'}) is a {self.placement}"
            f"{' at ' + self.path if self.path else ''}, made on {self.host}",
            f"  volume GUID {self.volume_guid}",
        ]
        if self.shared_guid:
            lines.append(f"  CSV volume GUID {self.shared_guid}")
        if self.resource:
            lines.append(f"  cluster resource {self.resource}{', the quorum witness' if self.quorum else ''}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        return f"<pre>{escape(str(self))}</pre>"


class CreateDisk(Procedure[DiskState]):
    """Create a disk."""

    tr = "2.2"

    def __init__(
        self,
        site: object,
        *,
        volume: str,
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
    ) -> None:
        super().__init__(
            site,
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
        self.volume = volume
        self.size = size
        self.at = at
        self.lun = lun
        self.thick = thick
        self.label = label
        self.svm = svm
        self.csv = csv
        self.group = group
        self.new_group = new_group
        self.quorum = quorum
        self.on = host

    @property
    def setup(self) -> ArraySetup:
        """What makes LUNs."""
        return ArraySetup(self.storage)

    def _node(self, s: DiskState) -> Node:
        return self.nodes[s.host]

    def _cluster(self, s: DiskState) -> ClusterDisks:
        return ClusterDisks(self._node(s).host)

    def survey(self) -> DiskState:
        """Find the volume, the node and the initiators, and choose every name.

        Raises:
            NotFound: no such volume, node or cluster group. NotUnique: several Vservers have such a volume.
            NameTaken: the LUN, the drive letter or the folder exists.
            NotAllowed: no iSCSI session yet, too little room, an impossible name or size, a place that this host or
                cluster cannot offer, or a node that does not own the group (TR 11.2).
        """
        size = size_of(self.size, what="a LUN")
        placement, path = self._place()
        volume = self._volume(size)
        name = self.lun or (self.csv or self.volume)
        if not _NAME.fullmatch(name):
            raise NotAllowed(
                f"{name!r} cannot name a LUN", next_action="Use letters, digits and . _ -, up to 100.", tr="2.2"
            )
        full = f"/vol/{volume.name}/{name}"
        if any(lun.name == full and lun.svm == volume.svm for lun in self.storage.luns()):
            raise NameTaken(f"The SVM {volume.svm} has a LUN {full}", next_action="Give lun= another name.", tr="2.2")
        node, before = self._home(placement)
        images = Images(self.storage, node, self.nodes)
        everywhere = placement is not Placement.DEDICATED
        initiators = images.initiators(everywhere=everywhere)
        target = self.setup.target(volume.svm)
        for each in self.nodes.up() if everywhere else (node,):
            if not target or not Sessions(each).connected_to(target):
                raise NotAllowed(
                    f"{each.name} has no iSCSI session to the SVM {volume.svm}",
                    why="SnapDrive finds a LUN only over a session that was established before",
                    next_action="Establish it: site.prepare_storage(...) does, or Connect-IscsiTarget on the host.",
                    tr="2.2",
                )
        igroup, made_for = images.igroup(volume.svm, initiators)
        if path and placement is not Placement.SHARED:
            images.need_free(path)
        elif path and node.host.run("Test-Path", {"LiteralPath": path})[0]:
            raise NameTaken(f"{path} exists on the cluster", next_action="Give csv= another name.", tr="11.2")
        return DiskState(
            volume=volume,
            lun=full,
            size=size,
            thin=not self.thick,
            igroup=igroup,
            made_for=made_for,
            host=node.name,
            placement=placement,
            path=path,
            label=(self.label or name)[: None if self.label else _LABEL],
            group=self.group,
            new_group=self.new_group,
            quorum=self.quorum,
            before=before,
            mark=f"made by smhvlab {own_stamp(self.site.now())}",
        )

    def _place(self) -> tuple[Placement, str]:
        """What the disk becomes, and where it is mounted."""
        wanted = [name for name, given in (("csv", self.csv), ("group", self.group), ("quorum", self.quorum)) if given]
        if wanted and self.nodes.cluster is None:
            raise NotAllowed(
                f"{self.nodes.own().name} is not a node of a failover cluster",
                next_action=f"Make a dedicated disk: leave {' and '.join(wanted)} out.",
                tr="App/5",
            )
        if len(wanted) > 1 or ((self.csv or self.quorum) and self.at):
            raise NotAllowed(
                f"A disk cannot be all of {', '.join([*wanted, *(['at'] if self.at else [])])}",
                why="a cluster shared volume has no group and no letter; the witness goes to the cluster's own group",
                next_action="Give one of csv, group and quorum; csv and quorum go without at.",
                tr="11.2",
            )
        if self.csv:
            if not _NAME.fullmatch(self.csv):
                raise NotAllowed(
                    f"{self.csv!r} cannot name a folder below {SHARED_FOLDER}",
                    next_action="Use letters, digits and . _ -.",
                    tr="11.2",
                )
            return Placement.SHARED, f"{SHARED_FOLDER}{self.csv}\\"
        if not self.at and not wanted:
            raise NotAllowed(
                "A disk needs a drive letter or a mount point",
                next_action="Give at='M:', or csv, group or quorum in a cluster.",
                tr="2.2",
            )
        return Placement.GROUP if wanted else Placement.DEDICATED, access_path(self.at) if self.at else ""

    def _volume(self, size: int) -> VolumeRef:
        """The volume, with room for the LUN."""
        volume = self.setup.one_volume(self.volume, svm=self.svm)
        space = self.storage.volume_details(volume, "space.size,space.available").get("space", {})
        room = int(space.get("available", 0)) if self.thick else int(space.get("size", 0))
        if size > room:
            raise NotAllowed(
                f"The volume {self.volume} is too small for a LUN of {shown(size)}",
                why=f"it has {shown(room)}{' free, and the space of this LUN is to be reserved' if self.thick else ''}",
                next_action="Choose a smaller size or another volume, or leave the space reservation out.",
                tr="2.2",
            )
        return volume

    def _home(self, placement: Placement) -> tuple[Node, str]:
        """The node that makes the disk, and the resource that is the quorum witness now."""
        if placement is Placement.DEDICATED:
            return self.nodes[self.on] if self.on else self.nodes.own(), ""
        cluster = ClusterDisks(self.nodes.own().host)
        groups = cluster.groups()
        if self.group and not self.new_group and self.group not in groups:
            raise NotFound(
                f"The cluster has no group {self.group}",
                next_action=f"It has {', '.join(sorted(groups))}; new_group=True makes one.",
                tr="App/6",
            )
        if self.new_group and (not self.group or self.group in groups):
            raise NameTaken(
                f"No group {self.group!r} can be made: it exists, or has no name",
                next_action="Give group= a new name, or leave new_group out.",
                tr="App/6",
            )
        owned = self.group if self.group and not self.new_group else AVAILABLE
        owner = groups[owned]
        if self.on and self.on.casefold() != owner.casefold():
            raise NotAllowed(
                f"The group {owned} is owned by {owner}, not by {self.on}",
                why="a disk becomes one of the cluster on the node that owns the group, as cluster shared volumes do",
                next_action=f'Leave host out, or move the group: Move-ClusterGroup -Name "{owned}" -Node {self.on}.',
                tr="11.2",
            )
        return self.nodes[owner], cluster.witness() if self.quorum else ""

    def confirmations(self, state: DiskState) -> Sequence[Confirmation]:
        """That another disk is the witness now."""
        if not state.before:
            return ()
        text = f"{state.before} is the quorum witness now; it goes to {AVAILABLE}"
        return (Confirmation(key="witness", text=text, tr="App/5"),)

    @step(
        "Create the LUN",
        tr="2.2",
        items=lambda s: (f"{s.lun}: {shown(s.size)}, {'thin' if s.thin else 'space reserved'}",),
    )
    def make_lun(self, s: DiskState) -> None:
        self.setup.ensure_lun(s.lun, svm=s.volume.svm, size=s.size, thin=s.thin, mark=s.mark)

    @make_lun.undo
    def drop_lun(self, s: DiskState) -> None:
        self.setup.discard_lun(s.lun, svm=s.volume.svm, mark=s.mark)

    @step(
        "Initiator group",
        tr="2.2",
        items=lambda s: (s.igroup,),
        when=lambda s: bool(s.made_for),
        otherwise="it exists",
    )
    def make_igroup(self, s: DiskState) -> None:
        self.storage.ensure_igroup(s.igroup, s.made_for, svm=s.volume.svm, mark=s.mark)

    @make_igroup.undo
    def drop_igroup(self, s: DiskState) -> None:
        self.storage.discard_igroup(s.igroup, svm=s.volume.svm, mark=s.mark)

    @step(
        "Map the LUN: its disk arrives",
        tr="2.2",
        items=lambda s: (f"{s.lun} to {s.igroup}",),
        counts=lambda s: {"windows.rescan": 1},
    )
    def connect(self, s: DiskState) -> None:
        lun = self.storage.lun(s.lun, svm=s.volume.svm)
        self.storage.ensure_map(lun, s.igroup)
        self._node(s).snapdrive.arrived(lun)
        self._look(s)

    @connect.undo
    def disconnect(self, s: DiskState) -> None:
        path = "" if s.placement is Placement.SHARED else s.path
        self._node(s).snapdrive.discard_connection(self._lun(s), igroup=s.igroup, access_path=path)
        self._look(s)

    def _lun(self, s: DiskState) -> LunRef | None:
        """This run's LUN, None while or as soon as it is not there."""
        try:
            return self.storage.lun(s.lun, svm=s.volume.svm)
        except NotFound:
            return None

    def _look(self, s: DiskState) -> None:
        """The other nodes see what the array shows them."""
        if s.clustered:
            others = [node.host for node in self.nodes.up() if node.name != s.host]
            collect(host.begin("Update-HostStorageCache", {}) for host in others)

    @step(
        "Initialise, partition and format the disk",
        tr="2.2",
        items=lambda s: (s.label,),
        counts=lambda s: {"windows.format": 1},
    )
    def prepare(self, s: DiskState) -> DiskState:
        lun = self.storage.lun(s.lun, svm=s.volume.svm)
        disk = ensure_formatted(self._node(s).snapdrive, lun, label=s.label)
        return replace(s, disk_guid=disk.guid, volume_guid=disk.volume_path)

    @step(
        "Add the disk to the cluster",
        tr="App/6",
        items=lambda s: (s.group or s.placement.value,),
        when=lambda s: s.clustered,
        otherwise="it is a dedicated disk",
    )
    def join(self, s: DiskState) -> DiskState:
        cluster = self._cluster(s)
        name = cluster.ensure_added(self.storage.lun(s.lun, svm=s.volume.svm).unique_id, s.disk_guid)
        if s.group:
            cluster.ensure_grouped(name, s.group, new=s.new_group)
        return replace(s, resource=name)

    @join.undo
    def leave(self, s: DiskState) -> None:
        self._cluster(s).discard(s.disk_guid, group=s.group if s.new_group else "")

    @step(
        "Make it a cluster shared volume",
        tr="11.2",
        items=lambda s: (s.path,),
        when=lambda s: s.placement is Placement.SHARED,
        otherwise="it is not to be one",
    )
    def share(self, s: DiskState) -> DiskState:
        cluster = self._cluster(s)
        cluster.ensure_shared(s.resource, s.path)
        return replace(s, shared_guid=cluster.shared_volume_guid(s.resource))

    @step(
        "Make it the quorum witness",
        tr="App/5",
        items=lambda s: (s.lun,),
        when=lambda s: s.quorum,
        otherwise="it is not to be it",
    )
    def witness(self, s: DiskState) -> None:
        self._cluster(s).ensure_witness(s.resource)

    @witness.undo
    def drop_witness(self, s: DiskState) -> None:
        self._cluster(s).ensure_witness(s.before)

    @step(
        "Drive letter or mount point",
        tr="2.2",
        items=lambda s: (s.path,),
        when=lambda s: bool(s.path) and s.placement is not Placement.SHARED,
        otherwise="it has none of its own",
    )
    def mount(self, s: DiskState) -> None:
        snapdrive = self._node(s).snapdrive
        disk = snapdrive.arrived(self.storage.lun(s.lun, svm=s.volume.svm))
        snapdrive.ensure_mounted(disk, s.path)
        snapdrive.discard_letters(disk, s.path)

    def result(self, state: DiskState) -> CreatedDisk:
        """The disk as it is now."""
        return CreatedDisk(
            lun=state.lun,
            size=state.size,
            thin=state.thin,
            host=state.host,
            placement=state.placement.value,
            path=state.path,
            volume_guid=state.volume_guid,
            shared_guid=state.shared_guid,
            resource=state.resource,
            quorum=state.quorum,
        )


def ensure_formatted(snapdrive: SnapDrive, lun: LunRef, *, label: str) -> HostDisk:
    """The LUN's disk is online with one formatted data partition of this label (a GPT, as SnapDrive makes it)."""
    host = snapdrive.host
    disk = snapdrive.ensure_online(snapdrive.arrived(lun))
    if disk.style == "RAW":
        host.run("Initialize-Disk", {"Number": disk.number, "PartitionStyle": "GPT"})
        disk = snapdrive.arrived(lun)
    if not disk.partition:
        host.run("New-Partition", {"DiskNumber": disk.number, "UseMaximumSize": True})
        disk = snapdrive.arrived(lun)
    volume = host.run("Get-Volume", {"Path": disk.volume_path}, select=("FileSystem", "FileSystemLabel"))[0]
    if not volume["FileSystem"] or str(volume["FileSystemLabel"]) != label:
        made = {"Path": disk.volume_path, "FileSystem": "NTFS", "NewFileSystemLabel": label}
        host.run("Format-Volume", made)
        disk = snapdrive.arrived(lun)
    return disk
