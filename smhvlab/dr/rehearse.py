"""A rehearsal: the VMs of a backup run from clones of the mirrors, on an isolated switch, and everything goes again.

The mirrors stay what they are and go on being updated: the clones come from backups' Snapshot copies, never from the
reference copy that the next update needs. VMs are registered in place, with their own ids, so the host must lack them;
``smhvlab.dr.copies`` rehearses where it has them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from smhvlab.dr.evidence import PART, Evidence, Rehearsals, Rehearsed
from smhvlab.dr.images import (
    Image,
    MirroredVolume,
    choose_backups,
    choose_machines,
    find_volumes,
    mirrored_backups,
)
from smhvlab.dr.landing import Ground, Landing, Spot, beside_snapinfo, landing_of
from smhvlab.dr.replication import Mirror, Replication
from smhvlab.dr.sites import DrProcedure
from smhvlab.dr.snapinfo import BACKUP_COPY
from smhvlab.dr.switches import discard_lent, ensure_lent, missing_switches
from smhvlab.errors import NotAllowed, NotFound
from smhvlab.flow import CHOSEN
from smhvlab.site import own_stamp
from smhvlab.snapinfo import BackupVm, SnapInfo
from smhvlab.sql import DatabaseFound
from smhvlab.steps import step
from smhvlab.storage import LunRef, VolumeRef
from smhvlab.vmnames import alone


@dataclass(frozen=True)
class RehearsalState:
    """What a rehearsal makes, all of it named by ``mark``.

    Attributes:
        info_path: path of the SnapInfo LUN in its volume.
        landing: where the clones are connected and the VMs registered.
        mount: where its clone is connected, with a final backslash.
        kept: whether this site has a SnapInfo folder for the evidence.
        backups, volumes, vms: known once the catalogue was read.
        lent: virtual switches that the VMs know and the host lacks: isolated ones are there until they are registered.
    """

    info: Mirror
    info_volume: VolumeRef
    info_path: str
    info_snapshot: str
    landing: Landing
    mark: str = field(metadata=CHOSEN)
    began: str = field(metadata=CHOSEN)
    backups: tuple[str, ...] = field(default=(), metadata=CHOSEN)
    volumes: tuple[MirroredVolume, ...] = field(default=(), metadata=CHOSEN)
    vms: tuple[BackupVm, ...] = field(default=(), metadata=CHOSEN)
    lent: tuple[str, ...] = field(default=(), metadata=CHOSEN)
    found: tuple[DatabaseFound, ...] = field(default=(), metadata=CHOSEN)
    seconds: float = field(default=0.0, metadata=CHOSEN)
    kept: bool = False

    @property
    def mount(self) -> str:
        return f"C:\\smhvlab\\{self.mark}\\"

    @property
    def switch(self) -> str:
        return self.mark

    def clone(self, volume: VolumeRef) -> str:
        """Name of the clone of a volume."""
        return f"{self.mark}_{volume.name}"

    @property
    def clones(self) -> tuple[tuple[MirroredVolume, str, str], ...]:
        """Every clone for the VMs: its volume, the Snapshot copy that it shows, its name."""
        return tuple(
            (v, snapshot, name) for v in self.volumes for snapshot, name in v.clones(self.clone(v.volume)).items()
        )

    @property
    def images(self) -> tuple[tuple[MirroredVolume, Image], ...]:
        """Every LUN that is connected, with its volume."""
        return tuple((volume, image) for volume in self.volumes for image in volume.images)


class Rehearsal(DrProcedure[RehearsalState]):
    """Rehearse a failover without breaking a mirror."""

    tr = "8"

    def __init__(
        self,
        site: object,
        *,
        backups: Sequence[str] = (),
        vms: Sequence[str] = (),
        volume: str = "snapinfo",
        folder: str = "SnapInfo",
        node: str = "",
    ) -> None:
        super().__init__(site, backups=tuple(backups), vms=tuple(vms), volume=volume, folder=folder, node=node)
        self.node = node
        self.backups = tuple(backups)
        self.vms = tuple(vms)
        self.volume = volume
        self.folder = folder

    def survey(self) -> RehearsalState:
        """Find the mirror of SnapInfo and choose the names of the clones.

        Raises:
            NotFound: there is no such mirror, or it holds no Snapshot copy that SMHV took.
            NotAllowed: the node does not own the cluster group.
        """
        landing = landing_of(self.site, node=self.node)
        mirror, volume, path, snapshot = find_catalogue(self.replication, self.volume)
        now = self.site.now()
        return RehearsalState(
            info=mirror,
            info_volume=volume,
            info_path=path,
            info_snapshot=snapshot,
            landing=landing,
            kept=Rehearsals(self.snapinfo).kept(),
            mark=mark_of(now),
            began=now.isoformat(),
        )

    @step(
        "Clone the mirror of SnapInfo and connect it",
        tr="8",
        items=lambda s: (f"{s.clone(s.info_volume)} from {s.info_snapshot}", s.mount),
        counts=lambda _: {"ontap.volume.clone": 1, "windows.rescan": 1},
    )
    def open_catalogue(self, s: RehearsalState) -> None:
        clone = self.storage.ensure_volume_clone(s.clone(s.info_volume), parent=s.info_volume, snapshot=s.info_snapshot)
        lun = self.storage.lun(f"/vol/{clone.name}{s.info_path}", svm=clone.svm)
        ground, igroup = beside_snapinfo(self.site)
        ground.ensure_connected(lun, Spot(s.mount, ""), igroup=igroup)

    @open_catalogue.undo
    def close_catalogue(self, s: RehearsalState) -> None:
        ground, igroup = beside_snapinfo(self.site)
        ground.discard(self._lun(s.clone(s.info_volume), s.info_volume, s.info_path), Spot(s.mount, ""), igroup=igroup)
        self.storage.discard_volume(s.clone(s.info_volume), svm=s.info_volume.svm)

    @step("Read which backups and VMs there are", tr="8", changes=False)
    def read(self, s: RehearsalState) -> RehearsalState:
        catalogue = SnapInfo(self.nodes, folder=s.mount + self.folder)
        known = mirrored_backups(self.replication, catalogue.backups())
        chosen = choose_backups(known, self.backups)
        machines = choose_machines(chosen, self.vms)
        here = {vm.id: vm for vm in self.nodes.vms()}
        if both := [vm.name for vm in machines if vm.id in here]:
            raise NotAllowed(
                f"{', '.join(both)} are registered here already",
                why="a VM is registered in place with its own id, which a host can have once",
                next_action="Rehearse with copies that have new ids (copies=True, --copies), or name other VMs.",
                tr="8",
            )
        volumes = find_volumes(self.replication, chosen, machines)
        taken = {path.casefold() for disk in self.nodes.disks() for path in disk.access_paths}
        if busy := [i.access_path for v in volumes for i in v.images if i.access_path.casefold() in taken]:
            raise NotAllowed(
                f"{', '.join(busy)} is in use here",
                why="the VMs know their files at that mount point",
                next_action="Give the disk that is there another drive letter or folder.",
                tr="8",
            )
        names = tuple(backup.name for backup in chosen)
        return replace(s, backups=names, volumes=volumes, vms=machines)

    @step(
        "Clone the mirrors at the backups' Snapshot copies",
        tr="8",
        items=lambda s: tuple(f"{name} from {snapshot}" for _, snapshot, name in s.clones),
        counts=lambda s: {"ontap.volume.clone": len(s.clones)},
    )
    def clone(self, s: RehearsalState) -> None:
        for volume, snapshot, name in self.track(s.clones):
            self.storage.ensure_volume_clone(name, parent=volume.volume, snapshot=snapshot)

    @clone.undo
    def discard_clones(self, s: RehearsalState) -> None:
        for volume, _, name in s.clones:
            self.storage.discard_volume(name, svm=volume.volume.svm)

    @step(
        "Connect the clones at the VMs' mount points",
        tr="8",
        items=lambda s: tuple(image.spot(s.landing) for _, image in s.images),
        counts=lambda s: {"windows.rescan": len(s.images)},
    )
    def connect(self, s: RehearsalState) -> None:
        ground = Ground(self.site)
        for volume, image in self.track(s.images):
            name = volume.clones(s.clone(volume.volume))[image.snapshot]
            lun = self.storage.lun(f"/vol/{name}{image.path}", svm=volume.volume.svm)
            ground.ensure_connected(lun, image.spot(s.landing), igroup=s.landing.igroup)

    @connect.undo
    def disconnect(self, s: RehearsalState) -> None:
        ground = Ground(self.site)
        for volume, image in s.images:
            name = volume.clones(s.clone(volume.volume))[image.snapshot]
            lun = self._lun(name, volume.volume, image.path)
            ground.discard(lun, image.spot(s.landing), igroup=s.landing.igroup)

    @step("Look which virtual switches the VMs need", tr="8", changes=False)
    def look(self, s: RehearsalState) -> RehearsalState:
        files = {vm.id: vm.configuration_file for vm in s.vms}
        missing = missing_switches(Ground(self.site).node, files)
        return replace(s, lent=tuple(sorted({name for names in missing.values() for name in names})))

    @step(
        "Register the VMs on an isolated switch",
        tr="8",
        items=lambda s: (s.switch, *(f"{name}, for a moment" for name in s.lent), *(vm.name for vm in s.vms)),
        counts=lambda s: {"windows.vm.import": len(s.vms)},
    )
    def register(self, s: RehearsalState) -> None:
        node = Ground(self.site).node
        ensure_lent(node, (s.switch, *s.lent), mark=s.mark)
        node.hyperv.ensure_all_registered({vm.id: vm.configuration_file for vm in self.track(s.vms)})
        for vm in s.vms:
            name = alone(vm.name, node.hyperv.vms())
            node.host.run("Connect-VMNetworkAdapter", {"VMName": name, "SwitchName": s.switch})
        if s.lent:
            discard_lent(node, s.lent, mark=s.mark)

    @register.undo
    def unregister(self, s: RehearsalState) -> None:
        node = Ground(self.site).node
        wanted = [vm.id for vm in s.vms]
        node.hyperv.ensure_all_off(wanted)
        node.hyperv.ensure_all_removed(wanted)
        discard_lent(node, (s.switch, *s.lent), mark=s.mark)

    @step(
        "Apply the backup's checkpoints",
        tr="6.7/3",
        items=lambda s: tuple(vm.name for vm in s.vms if vm.checkpoint),
        when=lambda s: any(vm.checkpoint for vm in s.vms),
        otherwise="the backup has none",
    )
    def apply(self, s: RehearsalState) -> None:
        """The configurations in the images start from the checkpoints' leaves: the state of a crash."""
        Ground(self.site).apply_checkpoints(s.vms)

    @step(
        "Start the VMs and check their databases",
        tr="8",
        items=lambda s: tuple(vm.name for vm in s.vms),
        counts=lambda s: {"windows.vm.start": len(s.vms)},
    )
    def check(self, s: RehearsalState) -> RehearsalState:
        ground = Ground(self.site)
        ground.ensure_running([vm.id for vm in s.vms])
        found = ground.check_databases([vm.name for vm in s.vms])
        seconds = (self.site.now() - datetime.fromisoformat(s.began)).total_seconds()
        return replace(s, found=found, seconds=seconds)

    @check.undo
    def switch_off(self, s: RehearsalState) -> None:
        Ground(self.site).node.hyperv.ensure_all_off([vm.id for vm in s.vms])

    @step("Remove everything that was made", tr="8", items=lambda s: (f"{s.mark}: VMs, switch, disks, clones",))
    def clean_up(self, s: RehearsalState) -> None:
        self.unregister(s)
        self.disconnect(s)
        self.discard_clones(s)
        self.close_catalogue(s)

    @step(
        "Write the evidence to SnapInfo",
        tr="8",
        items=lambda s: (f"{PART}\\{s.mark}.json",),
        when=lambda s: s.kept,
        otherwise="this site has no SnapInfo folder",
    )
    def keep(self, s: RehearsalState) -> None:
        evidence = Evidence(name=s.mark, time=s.began, host=s.landing.host, shown=self.result(s))
        Rehearsals(self.snapinfo).ensure(evidence)

    @keep.undo
    def forget(self, s: RehearsalState) -> None:
        Rehearsals(self.snapinfo).discard(s.mark)

    def _lun(self, clone: str, volume: VolumeRef, path: str) -> LunRef | None:
        try:
            return self.storage.lun(f"/vol/{clone}{path}", svm=volume.svm)
        except NotFound:
            return None

    def result(self, state: RehearsalState) -> Rehearsed:
        """What ran, and that the mirrors are what they were."""
        ends = {state.info.uuid, *(volume.mirror.uuid for volume in state.volumes)}
        mirrors = [f"{m}: {m.state}" for m in self.replication.mirrors() if m.uuid in ends]
        return Rehearsed(
            vms=tuple(vm.name for vm in state.vms),
            backups=state.backups,
            databases=state.found,
            seconds=state.seconds,
            mirrors=tuple(mirrors),
        )


def find_catalogue(replication: Replication, source: str) -> tuple[Mirror, VolumeRef, str, str]:
    """The mirror of SnapInfo, its volume, the path of its LUN, and the newest Snapshot copy that SMHV took of it.

    Raises:
        NotFound: there is no such mirror, or it holds no Snapshot copy that SMHV took.
    """
    mirror = replication.of_source(source)
    volume = replication.storage.volume(mirror.destination.volume, svm=mirror.destination.svm)
    luns = [lun for lun in replication.storage.luns() if volume is not None and lun.volume.uuid == volume.uuid]
    taken = [] if volume is None else [n for n in replication.copies(volume).values() if BACKUP_COPY.match(n)]
    if volume is None or not luns or not taken:
        raise NotFound(
            f"{mirror.destination} has no Snapshot copy that SMHV took of SnapInfo",
            next_action="Back up once on the primary, and update the mirrors after it.",
            tr="8",
        )
    return mirror, volume, luns[0].path, taken[-1]


def mark_of(now: datetime) -> str:
    """What names everything that a rehearsal makes at that time."""
    return "rehearsal_" + own_stamp(now).replace(".", "_").replace("-", "_")
