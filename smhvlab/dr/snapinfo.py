"""The other site's SnapInfo, from its mirror: taken over, or merged into this site's own (TR 8, failover steps 1-3)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from html import escape
from typing import Any

from smhvlab.dr.images import Manner, end_state, manner_named, manner_of
from smhvlab.dr.inuse import refuse_online
from smhvlab.dr.landing import SNAPINFO_GROUP, Ground, Landing, Spot, beside_snapinfo, landing_of
from smhvlab.dr.replication import Mirror
from smhvlab.dr.roles import PART
from smhvlab.dr.sites import DrProcedure, Fence, lift_fence, put_fence, survey_fence
from smhvlab.errors import NotAllowed, NotFound
from smhvlab.flow import CHOSEN
from smhvlab.mount.image import Placement
from smhvlab.record import Confirmation
from smhvlab.site import own_stamp
from smhvlab.snapinfo import SnapInfo
from smhvlab.steps import step
from smhvlab.storage import LunRef, VolumeRef

BACKUP_COPY = re.compile(r"[A-Za-z0-9_-]+_\d\d-\d\d-\d{4}_\d\d\.\d\d\.\d\d")
"""How the Snapshot copies that SMHV takes of a SnapInfo LUN begin: with the backup's name (TR 8)."""


@dataclass(frozen=True)
class SnapInfoState:
    """The mirror of the other site's SnapInfo and what becomes of it here.

    Attributes:
        snapshot: the last Snapshot copy that SMHV took of it.
        merge: whether this site has its own SnapInfo, into which the other's contents are copied.
        landing: where the LUN is connected; contents are merged on the host that has this site's own SnapInfo.
        folder: the SnapInfo folder below the mount.
        own: this site's own SnapInfo folder, "" if it has none.
        cut: the mirror, if a transfer from a dead source is under way.
        merged: what the copy found, once it was made.
        manner: as of a failover.
        kept: whether the break found the mirror broken off.
    """

    mirror: Mirror
    volume: VolumeRef
    lun: LunRef
    luns: int
    snapshot: str
    landing: Landing
    merge: bool
    folder: str
    own: str
    fence: Fence
    spot: Spot = field(metadata=CHOSEN)
    stage: str = field(metadata=CHOSEN)
    manner: Manner = Manner.TODAY
    kept: bool = field(default=False, metadata=CHOSEN)
    cut: tuple[str, ...] = field(default=(), metadata=CHOSEN)
    merged: tuple[str, ...] = field(default=(), metadata=CHOSEN)

    @property
    def breaking(self) -> str:
        """What the break does, as the plan tells it."""
        how = "broken off before" if self.mirror.broken else end_state(self.manner, luns=self.luns)
        return f"{self.mirror} to {self.snapshot} ({how})"

    @property
    def mount(self) -> str:
        """Where the LUN is connected, with a final backslash."""
        return self.spot.access_path


@dataclass(frozen=True, repr=False)
class SnapInfoConnected:
    """The other site's backups are known here now."""

    snapshot: str
    folder: str
    merged: bool
    backups: tuple[str, ...]
    remarks: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return str(self)

    def __str__(self) -> str:
        how = "merged into" if self.merged else "connected as"
        lines = [f"SnapInfo as of {self.snapshot}, {how} {self.folder}: {len(self.backups)} backups"]
        return "\n".join([*lines, *(f"  {remark}" for remark in self.remarks)])

    def _repr_html_(self) -> str:
        how = "merged into" if self.merged else "connected as"
        remarks = "".join(f"<li>{escape(remark)}</li>" for remark in self.remarks)
        return (
            f"<p>SnapInfo as of <code>{escape(self.snapshot)}</code>, {how} <code>{escape(self.folder)}</code>: "
            f"{len(self.backups)} backups</p><ul>{remarks}</ul>"
        )


class ConnectSnapInfo(DrProcedure[SnapInfoState]):
    """Bring the other site's SnapInfo here from its mirror."""

    tr = "8"

    def __init__(
        self,
        site: object,
        *,
        volume: str = "snapinfo",
        folder: str = "S:\\SnapInfo",
        manner: str = "",
        node: str = "",
    ) -> None:
        super().__init__(site, volume=volume, folder=folder, manner=manner, node=node)
        self.volume = volume
        self.folder = folder
        self.manner = manner_named(manner)
        self.node = node

    def survey(self) -> SnapInfoState:
        """Find the mirror and the last Snapshot copy that SMHV took of it, and see that the other site is not at work.

        Raises:
            NotFound: no such mirror, or it holds no Snapshot copy of SMHV.
            NotAllowed: both sites are alive, the mirror was never initialised, a transfer is under way, the mount
                point is another disk's, the node does not own the cluster group, or the mirror was broken off before
                and a host has its LUN.
        """
        landing = landing_of(self.site, node=self.node)
        replication = self.replication
        mirror = replication.of_source(self.volume)
        fence = survey_fence(
            self.site.partner,
            [(mirror.source.svm, mirror.source.volume)],
            beside=[(m.source.svm, m.source.volume) for m in replication.mirrors()],
        )
        fence = self.with_peers(fence, [mirror.source.cluster])
        require_ready(mirror, fence)
        volume = self.storage.volume(mirror.destination.volume, svm=mirror.destination.svm)
        luns = [lun for lun in self.storage.luns() if volume is not None and lun.volume.uuid == volume.uuid]
        if volume is None or not luns:
            raise NotFound(f"The mirror {mirror} holds no LUN", next_action="Look at site.luns().", tr="8")
        if mirror.broken:
            self._refuse_online(luns[0], mirror)
        taken = [name for name in replication.copies(volume).values() if BACKUP_COPY.match(name)]
        if not taken:
            raise NotFound(
                f"{mirror.destination} has no Snapshot copy that SMHV took of SnapInfo",
                next_action="Back up once on the primary, and update the mirror after it. If the primary is gone there "
                "is no catalogue of backups; connect the data LUNs by hand.",
                tr="8",
            )
        try:
            own = self.snapinfo.folder()
        except NotFound:
            own = ""
        mark = own_stamp(self.site.now()).replace(".", "_")
        disk = self.snapdrive.folder_disk(own + "\\", self.snapdrive.disks()) if own else None
        there = disk is not None and disk.unique_id == luns[0].unique_id
        merge = bool(own) and disk is not None and not there
        access, _, inside = self.folder.partition("\\")
        mount = f"C:\\smhvlab\\snapinfo_{mark}\\" if merge else access + "\\"
        spot = Spot(mount, "") if merge or not landing.cluster else Spot(mount, "", Placement.GROUP, SNAPINFO_GROUP)
        if not merge and not there:
            self._refuse_taken(mount)
        return SnapInfoState(
            mirror=mirror,
            volume=volume,
            lun=luns[0],
            luns=len(luns),
            snapshot=taken[-1],
            landing=landing,
            merge=merge,
            folder=inside,
            own=own,
            fence=fence,
            manner=self.manner or manner_of(self.nodes),
            cut=transfers_cut([mirror]),
            spot=spot,
            stage=f"{own}\\Import_{mark}" if merge else "",
        )

    def _refuse_online(self, lun: LunRef, mirror: Mirror) -> None:
        advice = (
            "If it is this site's SnapInfo by now nothing is left to do; else disconnect the disk, then plan again."
        )
        refuse_online(self.site, [lun], mirrors=[mirror], next_action=advice)

    def _refuse_taken(self, mount: str) -> None:
        for disk in self.nodes.disks():
            if mount.casefold() in {path.casefold() for path in disk.access_paths}:
                raise NotAllowed(
                    f"{mount} is the mount point of disk {disk.number} here",
                    next_action="Give that disk another drive letter, or connect SnapInfo elsewhere (folder=...).",
                    tr="8",
                )

    def confirmations(self, state: SnapInfoState) -> Sequence[Confirmation]:
        """What is known of the other site."""
        return (state.fence.confirmation(other_name(self)), *cut_question(state.cut))

    @step(
        "Take the LUN from the other site's hosts",
        tr="8",
        items=lambda s: tuple(f"{name} from {igroup}" for _, name, _, igroup in s.fence.maps),
        when=lambda s: s.fence.needed,
        otherwise="its storage does not answer, or no host has it",
    )
    def fence(self, s: SnapInfoState) -> None:
        put_fence(self.other, s.fence)

    @fence.undo
    def unfence(self, s: SnapInfoState) -> None:
        lift_fence(self.other, s.fence)

    @step("Break the mirror of SnapInfo", tr="8/FO1", items=lambda s: (s.breaking,), pivot=True)
    def break_mirror(self, s: SnapInfoState) -> SnapInfoState:
        kept = self.replication.break_off({s.mirror: s.snapshot if s.manner is Manner.TODAY else ""})
        if kept:
            self._refuse_online(s.lun, s.mirror)
        return replace(s, kept=bool(kept))

    @step("Restore SnapInfo from the last Snapshot copy that SMHV took", tr="8/FO2", items=lambda s: (s.snapshot,))
    def restore(self, s: SnapInfoState) -> None:
        if s.manner is Manner.TODAY and not s.kept:
            return  # the break went back to it
        if s.manner is Manner.TR and s.luns == 1:
            self.replication.restore_volume(s.volume, s.snapshot)
        else:
            self.storage.restore_lun(s.lun, snapshot=s.snapshot)

    @step("Connect the SnapInfo LUN", tr="8/FO1", items=lambda s: (f"{s.lun} at {s.mount}",))
    def connect(self, s: SnapInfoState) -> None:
        ground, igroup = self._ground(s)
        ground.ensure_connected(s.lun, s.spot, igroup=igroup)
        self.nodes.look_again()
        self._source(s)

    def _ground(self, s: SnapInfoState) -> tuple[Ground, str]:
        """Where the LUN is connected, and for which initiator group."""
        return beside_snapinfo(self.site) if s.merge else (Ground(self.site), s.landing.igroup)

    def _source(self, s: SnapInfoState) -> SnapInfo:
        """The other site's SnapInfo where it is connected. Raises NotFound."""
        folder = s.mount + s.folder
        if not self._ground(s)[0].node.host.run("Test-Path", {"LiteralPath": folder})[0]:
            raise NotFound(
                f"There is no SnapInfo in {folder}",
                next_action="Name the folder that the primary used, e.g. folder='S:\\\\SnapInfo', and resume.",
                tr="8",
            )
        return SnapInfo(self.nodes, folder=folder)

    @step(
        "Configure the host with the SnapInfo path",
        tr="8/FO3",
        items=lambda s: (s.mount + s.folder,),
        when=lambda s: not s.merge,
        otherwise="this site keeps its own SnapInfo",
    )
    def adopt(self, s: SnapInfoState) -> None:
        self.snapinfo.set_folder(s.mount + s.folder)

    @step(
        "Copy its contents into the SnapInfo of this site",
        tr="8/active",
        items=lambda s: (f"{s.mount}{s.folder} into {s.own}",),
        when=lambda s: s.merge,
        otherwise="this site had no SnapInfo of its own",
    )
    def merge(self, s: SnapInfoState) -> SnapInfoState:
        return replace(s, merged=merge_catalogues(self._source(s), self.snapinfo, stage=s.stage))

    @step(
        "Disconnect the other site's SnapInfo LUN",
        tr="8/active",
        items=lambda s: (s.mount,),
        when=lambda s: s.merge,
        otherwise="it is this site's SnapInfo now",
    )
    def disconnect(self, s: SnapInfoState) -> None:
        ground, igroup = self._ground(s)
        ground.discard(s.lun, s.spot, igroup=igroup)

    def result(self, state: SnapInfoState) -> SnapInfoConnected:
        """What is known here now."""
        backups = tuple(backup.name for backup in self.snapinfo.backups())
        return SnapInfoConnected(state.snapshot, self.snapinfo.folder(), state.merge, backups, state.merged)


def require_ready(mirror: Mirror, fence: Fence) -> None:
    """Raise NotAllowed for a mirror that cannot be broken off now: while its source lives a transfer has to end."""
    if mirror.state == "uninitialized" and not mirror.snapshot and not mirror.total:
        raise NotAllowed(
            f"The mirror {mirror} was never initialised",
            next_action="There are no data to fail over to. Initialise it while its source is there.",
            tr="8",
        )
    if mirror.transferring and fence.array:
        raise NotAllowed(
            f"A transfer of {mirror} is under way",
            why="its source answers: what it brings would be lost",
            next_action="Wait for its end, then plan again.",
            tr="8",
        )


def transfers_cut(mirrors: Iterable[Mirror]) -> tuple[str, ...]:
    """The mirrors with a transfer under way, whose source is gone: to be confirmed, and ended by the break."""
    return tuple(str(mirror) for mirror in mirrors if mirror.transferring)


def cut_question(cut: Sequence[str]) -> list[Confirmation]:
    """What ``transfers_cut`` asks."""
    text = f"transfers that are under way from the dead site are ended, what they bring is lost: {', '.join(cut)}"
    return [Confirmation(key="transfer-cut", text=text, tr="8")] if cut else []


def other_name(flow: DrProcedure[Any]) -> str:
    """How the other site is called in questions."""
    return "the primary" if flow.site.partner is None else flow.site.partner.name


def merge_catalogues(source: SnapInfo, target: SnapInfo, *, stage: str) -> tuple[str, ...]:
    """Copy datasets and backups that the target does not know; tell which datasets are there under the same name.

    A file arrives in a folder that nobody reads and is then moved, so that a copy cut short leaves nothing half-made.
    """
    host, base, there = target.host, source.folder(), target.folder()
    parts = ("Datasets", "Backups", *((PART,) if source.files(PART) else ()))
    known = {path[len(there) :].casefold() for part in parts for path in target.files(part)}
    own = {dataset.name.casefold() for dataset in target.datasets()}
    theirs = {dataset.name: dataset for dataset in source.datasets()}
    mine = {dataset.name.casefold(): dataset for dataset in target.datasets()}
    different = sorted(n for n, d in theirs.items() if n.casefold() in own and mine[n.casefold()].members != d.members)
    wanted: dict[str, list[str]] = {}
    for part in parts:
        for path in source.files(part):
            inside = path[len(base) :]
            folder = inside.rpartition("\\")[0]
            if inside.casefold() in known or (part == "Datasets" and folder.rpartition("\\")[2].casefold() in own):
                continue
            wanted.setdefault(folder, []).append(path)
    for folder, paths in sorted(wanted.items()):
        for path in (stage + folder, there + folder):
            host.run("New-Item", {"Path": path, "ItemType": "Directory", "Force": True})
        host.run("Copy-Item", {"LiteralPath": paths, "Destination": stage + folder, "Force": True})
        staged = [stage + folder + path[len(base) + len(folder) :] for path in paths]
        host.run("Move-Item", {"LiteralPath": staged, "Destination": there + folder})
    if host.run("Test-Path", {"LiteralPath": stage})[0]:
        host.run("Remove-Item", {"LiteralPath": stage, "Recurse": True, "Force": True})
    copied = sum(len(paths) for paths in wanted.values())
    kept = [f"the dataset {name} is on both sites: this site's members stay" for name in different]
    return (f"{copied} files copied", *kept)
