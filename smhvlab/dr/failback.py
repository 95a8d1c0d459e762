"""Failback: the VMs go home from the other site, with everything they wrote there (TR 8, failback steps 4 to 11)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from smhvlab.dr.failover import FailedOver
from smhvlab.dr.landing import SNAPINFO_GROUP, Ground, Landing, Spot, beside_snapinfo, landing_of
from smhvlab.dr.replication import Mirror
from smhvlab.dr.roles import Role, read_roles, roles_for, set_or_tell, told_roles, with_owners
from smhvlab.dr.sites import DrProcedure, homes_by_vm, life_of, snapinfo_lun
from smhvlab.dr.snapinfo import BACKUP_COPY, merge_catalogues
from smhvlab.dr.superseded import refuse_running
from smhvlab.errors import ConnectionFailed, NotAllowed, NotFound, UnknownOutcome
from smhvlab.flow import CHOSEN
from smhvlab.hyperv import Vm
from smhvlab.mount.image import Placement
from smhvlab.record import Confirmation
from smhvlab.site import own_stamp
from smhvlab.snapinfo import SnapInfo
from smhvlab.sql import DatabaseFound
from smhvlab.steps import step
from smhvlab.storage import LunRef


@dataclass(frozen=True)
class HomeLun:
    """A LUN that comes home: its path in the volume and where the VMs expect it."""

    mirror: Mirror
    path: str
    access_path: str
    disk_guid: str
    shared: bool = False

    def spot(self, landing: Landing) -> Spot:
        """What it becomes at a landing. Raises NotAllowed as ``Landing.placement``."""
        placement = landing.placement(self.access_path, shared=self.shared)
        return Spot(self.access_path, self.disk_guid, placement)

    @property
    def name(self) -> str:
        """Name of the LUN on this site."""
        return f"/vol/{self.mirror.destination.volume}{self.path}"

    def __str__(self) -> str:
        return f"{self.name} at {self.access_path}"


@dataclass(frozen=True)
class HomeVm:
    """A VM that comes home."""

    id: str
    name: str
    configuration_file: str
    running: bool

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class FailbackState:
    """What comes home.

    Attributes:
        info: the LUN of the other site's SnapInfo, None if its mirror is not there.
        info_snapshot: the last Snapshot copy that SMHV took of it, "" if none was taken.
        landing: where the LUNs are connected and the VMs registered.
        info_spot: what the SnapInfo LUN becomes, if there is one.
        own: this site's SnapInfo folder, if it is on a LUN that is connected; contents are then merged.
        idle: VMs of this site that lie on the same LUNs and do not run.
        roles: what the VMs' roles are set to on the other site, with the owners that they had here; ``nodes``: of here.
        unreleased: why the other site was not told that the relationships are over, "" if it was.
    """

    mirrors: tuple[Mirror, ...]
    luns: tuple[HomeLun, ...]
    vms: tuple[HomeVm, ...]
    landing: Landing
    info: HomeLun | None
    info_snapshot: str
    info_folder: str
    own: str
    idle: tuple[str, ...]
    roles: tuple[Role, ...]
    nodes: tuple[str, ...]
    info_spot: Spot = field(metadata=CHOSEN)
    stage: str = field(metadata=CHOSEN)
    unset: str = field(default="", metadata=CHOSEN)
    unreleased: str = field(default="", metadata=CHOSEN)
    found: tuple[DatabaseFound, ...] = field(default=(), metadata=CHOSEN)
    sent: int = field(default=0, metadata=CHOSEN)

    @property
    def data(self) -> tuple[Mirror, ...]:
        """The relationships that bring VMs."""
        return tuple(dict.fromkeys(lun.mirror for lun in self.luns))


@dataclass(frozen=True, repr=False, kw_only=True)
class FailedBack(FailedOver):
    """VMs that run at home again.

    Attributes:
        transferred: bytes of the last update before the mirrors were broken.
    """

    transferred: int = 0

    def __str__(self) -> str:
        return super().__str__() + f"\n  {self.transferred:,} bytes in the last update"

    def _repr_html_(self) -> str:
        return super()._repr_html_() + f"<p>{self.transferred:,} bytes in the last update</p>"


class Failback(DrProcedure[FailbackState]):
    """Fail back to this site."""

    tr = "8"

    def __init__(
        self, site: object, *, update: bool = True, snapinfo_folder: str = "S:\\SnapInfo", node: str = ""
    ) -> None:
        super().__init__(site, update=update, snapinfo_folder=snapinfo_folder, node=node)
        self.update = update
        self.node = node
        self.snapinfo_folder = snapinfo_folder

    def survey(self) -> FailbackState:
        """Find the VMs of the other site that live on volumes mirrored to this one.

        Raises:
            NotAllowed: the other site does not answer, no volume is mirrored from it, a mirror is not healthy, a mount
                point is taken, a VM is registered here already, or the node does not own the cluster group.
        """
        landing = landing_of(self.site, node=self.node)
        life = life_of(self.other)
        if not (life.array and life.hosts):
            raise NotAllowed(
                f"The site {self.other.name} does not answer as a whole",
                why=life.finding,
                next_action="If it was lost in the middle of the failback, fail over to this site from the backups "
                "that have arrived: site.dr.failover().",
                tr="8",
            )
        incoming = {(m.source.svm, m.source.volume): m for m in self.replication.mirrors()}
        ready = {end: m for end, m in incoming.items() if m.state == "snapmirrored" and m.healthy}
        luns, vms = self._homecoming(incoming)
        for lun in luns:
            lun.spot(landing)
            if (lun.mirror.source.svm, lun.mirror.source.volume) not in ready:
                raise NotAllowed(
                    f"The mirror {lun.mirror} is not ready: {lun.mirror.state}",
                    why=lun.mirror.problem,
                    next_action="Replicate back first: site.dr.reverse() on the site that runs the VMs.",
                    tr="8",
                )
        self._refuse_places(luns)
        info, snapshot, folder = self._snapinfo(incoming)
        try:
            own_lun, _ = snapinfo_lun(self.site)
            own = self.snapinfo.folder() if info is None or own_lun.name != info.name else ""
        except NotFound:
            own = ""
        mark = own_stamp(self.site.now()).replace(".", "_")
        return FailbackState(
            mirrors=tuple(dict.fromkeys([lun.mirror for lun in luns] + ([info.mirror] if info else []))),
            luns=luns,
            vms=vms,
            landing=landing,
            info=info,
            info_snapshot=snapshot,
            info_folder=folder,
            own=own,
            idle=self._idle(luns),
            roles=self._roles(vms, landing),
            nodes=tuple(self.nodes),
            info_spot=self._info_spot(landing, f"C:\\smhvlab\\snapinfo_{mark}\\" if own else ""),
            stage=f"{own}\\Import_{mark}" if own else "",
        )

    def _homecoming(self, incoming: dict[tuple[str, str], Mirror]) -> tuple[tuple[HomeLun, ...], tuple[HomeVm, ...]]:
        tools = self.other.tools()
        machines = tools.nodes.vms()
        places = homes_by_vm(self.other, machines)
        shared = {volume.path.casefold() for volume in tools.nodes.shared_volumes()}
        guids = {disk.unique_id: disk.guid for disk in tools.nodes.disks()}
        luns: dict[str, HomeLun] = {}
        coming: dict[str, list[Vm]] = {}
        for vm in machines:
            homes = places[vm.id]
            if not any((lun.svm, lun.volume.name) in incoming for lun, _ in homes.values()):
                continue
            self._refuse_torn(vm, homes.values(), incoming)
            for unique_id, (lun, access) in homes.items():
                mirror = incoming[lun.svm, lun.volume.name]
                luns[unique_id] = HomeLun(mirror, lun.path, access, guids[unique_id], access.casefold() in shared)
            coming.setdefault(vm.host, []).append(vm)
        files = {
            vm: file
            for host, some in coming.items()
            for vm, file in tools.nodes[host].hyperv.configuration_files(some).items()
        }
        vms = [HomeVm(vm.id, vm.name, files[vm.id], vm.running) for vm in machines if vm.id in files]
        if not vms:
            raise NotAllowed(
                f"No VM of {self.other.name} lives on volumes that are mirrored to this site",
                next_action="Replicate back first: site.dr.reverse() on the site that runs the VMs.",
                tr="8",
            )
        here = {vm.id: vm for vm in self.nodes.vms()}
        for home in vms:
            if home.id in here:
                raise NotAllowed(
                    f"The VM {home.name} is registered on {here[home.id].host} already",
                    next_action="Remove that registration (its disks are the mirror's now), then plan again.",
                    tr="8",
                )
        return tuple(sorted(luns.values(), key=str)), tuple(vms)

    def _refuse_torn(
        self, vm: Vm, homes: Iterable[tuple[LunRef, str]], incoming: Mapping[tuple[str, str], Mirror]
    ) -> None:
        """A VM comes home with all its files or not at all, and left behind it would lose those that are mirrored."""
        places = {path.casefold(): lun for lun, path in homes}
        for path in (vm.configuration + "\\", *(disk.path for disk in vm.disks if not disk.passthrough)):
            mount = max((place for place in places if path.casefold().startswith(place)), key=len, default="")
            if mount and (places[mount].svm, places[mount].volume.name) in incoming:
                continue
            where = f"{places[mount]} is not mirrored to this site" if mount else "it is on no LUN of the array"
            mirror = f"site.dr.protect([{places[mount].volume.name!r}]) on {self.other.name}, or " if mount else ""
            raise NotAllowed(
                f"{vm.name} cannot come home: its file {path} would stay on {self.other.name}",
                why=f"{where}, but other files of the VM are on volumes whose mirrors are broken now",
                next_action=f"Mirror it home too ({mirror}move the file to a LUN that is mirrored: Move-VMStorage), or "
                "remove that disk from the VM, then plan again.",
                tr="8/FB4",
            )

    def _roles(self, vms: Sequence[HomeVm], landing: Landing) -> tuple[Role, ...]:
        if not landing.cluster:
            return ()
        wanted = [vm.id for vm in vms]
        book = {role.vm: role for role in roles_for(self.other.tools().snapinfo, wanted, cluster=landing.cluster)}
        now = {role.vm: role for role in read_roles(self.other, wanted)}
        return tuple(with_owners(now.get(vm, book[vm]), book[vm]) for vm in wanted if vm in book) + tuple(
            role for vm, role in now.items() if vm not in book
        )

    def _info_spot(self, landing: Landing, aside: str) -> Spot:
        """Beside this site's own SnapInfo to be merged, or in its place."""
        if aside:
            return Spot(aside, "")
        drive = self.snapinfo_folder.partition("\\")[0] + "\\"
        return Spot(drive, "", Placement.GROUP, SNAPINFO_GROUP) if landing.cluster else Spot(drive, "")

    def _refuse_places(self, luns: Sequence[HomeLun]) -> None:
        here = {lun.name: lun.unique_id for lun in self.storage.luns()}
        taken = {path.casefold(): disk for disk in self.nodes.disks() for path in disk.access_paths}
        for lun in luns:
            disk = taken.get(lun.access_path.casefold())
            if disk is not None and disk.unique_id != here.get(lun.name):
                raise NotAllowed(
                    f"{lun.access_path} is the mount point of disk {disk.number} here",
                    why="the LUN has to come back to the mount point that its VMs know",
                    next_action="Give that disk another drive letter or folder, then plan again.",
                    tr="8",
                )

    def _idle(self, luns: Sequence[HomeLun]) -> tuple[str, ...]:
        places = tuple(lun.access_path.casefold() for lun in luns)
        machines = self.nodes.vms()
        return tuple(vm.name for vm in machines if not vm.running and vm.configuration.casefold().startswith(places))

    def _snapinfo(self, incoming: dict[tuple[str, str], Mirror]) -> tuple[HomeLun | None, str, str]:
        lun, access = snapinfo_lun(self.other)
        mirror = incoming.get((lun.svm, lun.volume.name))
        folder = self.other.tools().snapinfo.folder()[len(access) :]
        if mirror is None:
            return None, "", folder
        volume = self.storage.volume(mirror.destination.volume, svm=mirror.destination.svm)
        names = [] if volume is None else list(self.replication.copies(volume).values())
        taken = [name for name in names if BACKUP_COPY.match(name)]
        return HomeLun(mirror, lun.path, access, ""), (taken[-1] if taken else ""), folder

    def confirmations(self, state: FailbackState) -> Sequence[Confirmation]:
        """The VMs stop; and what is lost if the extra update is left out."""
        running = ", ".join(vm.name for vm in state.vms if vm.running) or "none"
        found = [Confirmation(key="downtime", text=f"these VMs are shut down on the other site: {running}", tr="8/FB4")]
        if not self.update:
            lag = max((m.lag or 0 for m in state.data), default=0)
            text = (
                f"without one more SnapMirror update the VMs come back as of the last transfer, at least {lag} seconds "
                "old: what was written since is lost, and a LUN in a backup's Snapshot copy may be a clone"
            )
            found.append(Confirmation(key="no-update", text=text, tr="8/FB4"))
        if state.info is None:
            text = "the other site's SnapInfo is not mirrored here: backups taken there will not be known"
            found.append(Confirmation(key="no-snapinfo", text=text, tr="8/FB6"))
        return found

    @step(
        "Shut the VMs down on the other site",
        tr="8/FB4",
        items=lambda s: s.vms,
        counts=lambda s: {"windows.vm.shutdown": len(s.vms)},
    )
    def stop(self, s: FailbackState) -> None:
        for node, vms in self.other.tools().nodes.by_node([vm.id for vm in s.vms]):
            node.hyperv.ensure_all_shut_down(vms)

    @stop.undo
    def start_again(self, s: FailbackState) -> None:
        refuse_running(self.site, [vm.id for vm in s.vms])  # after a second disaster they may have been failed over
        for node, vms in self.other.tools().nodes.by_node([vm.id for vm in s.vms if vm.running]):
            node.hyperv.ensure_all_running(vms)

    @step(
        "One more SnapMirror update of each LUN's volume",
        tr="8/FB4",
        items=lambda s: s.mirrors,
        counts=lambda s: {"ontap.snapmirror.start": len(s.mirrors)},
    )
    def refresh(self, s: FailbackState) -> FailbackState:
        if not self.update:
            return s
        return replace(s, sent=sum(m.transferred for m in self.replication.update(s.mirrors)))

    @step("Break the mirrors", tr="8/FB5", items=lambda s: s.mirrors, pivot=True)
    def break_mirrors(self, s: FailbackState) -> None:
        self._refuse_restarted(s)
        targets = dict.fromkeys(s.data, "")
        if s.info is not None:
            targets[s.info.mirror] = s.info_snapshot  # TR step 6: the last copy that SMHV took
        self.replication.break_off(targets)

    def _refuse_restarted(self, s: FailbackState) -> None:
        refuse_running(self.other, [vm.id for vm in s.vms], must_answer=False)

    @step(
        "Connect the LUNs at their mount points",
        tr="8/FB5",
        items=lambda s: tuple(f"{home.name} at {home.spot(s.landing)}" for home in s.luns),
        counts=lambda s: {"windows.rescan": len(s.luns)},
    )
    def connect(self, s: FailbackState) -> None:
        ground = Ground(self.site)
        for home in self.track(s.luns):
            ground.ensure_connected(self._lun(home), home.spot(s.landing), igroup=s.landing.igroup)

    def _lun(self, home: HomeLun) -> LunRef:
        return self.storage.lun(home.name, svm=home.mirror.destination.svm)

    @step("Release the relationships from the other site", tr="8/FB5", items=lambda s: s.mirrors)
    def release(self, s: FailbackState) -> FailbackState:
        """All that the VMs need is here: a second disaster there must not keep them from starting."""
        present = {m.uuid for m in self.replication.mirrors()}
        for mirror in s.mirrors:
            if mirror.uuid in present:
                self.replication.delete(mirror)
        try:
            for mirror in s.mirrors:
                # Its reference copies stay: they must not hinder a resync.
                self.other_replication.release(mirror.uuid, keep=True)
        except (ConnectionFailed, UnknownOutcome) as error:
            return replace(s, unreleased=f"{self.other.name} does not answer ({error.message}): it still lists them")
        return s

    @step(
        "Restore SnapInfo from the last Snapshot copy that SMHV took",
        tr="8/FB6-7",
        items=lambda s: (f"{s.info} {s.info_snapshot}",),
        when=lambda s: s.info is not None,
        otherwise="the other site's SnapInfo is not mirrored here",
    )
    def snapinfo_back(self, s: FailbackState) -> None:
        assert s.info is not None
        mount = s.info_spot.access_path
        if not s.own:
            Ground(self.site).ensure_connected(self._lun(s.info), s.info_spot, igroup=s.landing.igroup)
            self.snapinfo.set_folder(mount + s.info_folder)
            return
        ground, igroup = beside_snapinfo(self.site)
        try:
            lun = self._lun(s.info)
        except NotFound:
            return  # an earlier try has merged it and deleted the copy
        ground.ensure_connected(lun, s.info_spot, igroup=igroup)
        merge_catalogues(SnapInfo(self.nodes, folder=mount + s.info_folder), self.snapinfo, stage=s.stage)
        ground.discard(lun, s.info_spot, igroup=igroup)
        self.storage.discard_volume(lun.volume.name, svm=lun.svm)

    @step(
        "Restore the VMs to this host",
        tr="8/FB8-10",
        items=lambda s: tuple(f"{vm.name} {vm.id}" for vm in s.vms),
        counts=lambda s: {"windows.vm.import": len(s.vms)},
    )
    def register(self, s: FailbackState) -> None:
        self._refuse_restarted(s)
        Ground(self.site).ensure_registered({vm.id: vm.configuration_file for vm in s.vms})

    @step(
        "Make the VMs highly available",
        tr="8/FB11",
        items=lambda s: told_roles(s.vms, s.roles, s.nodes, cluster=s.landing.cluster),
        when=lambda s: bool(s.landing.cluster),
        otherwise="this is a stand-alone host",
    )
    def add_roles(self, s: FailbackState) -> FailbackState:
        Ground(self.site).ensure_roles([vm.id for vm in s.vms])
        return replace(s, unset=set_or_tell(self.site, s.roles))

    @step(
        "Start the VMs",
        tr="8",
        items=lambda s: tuple(vm for vm in s.vms if vm.running),
        counts=lambda s: {"windows.vm.start": sum(vm.running for vm in s.vms)},
    )
    def start(self, s: FailbackState) -> None:
        Ground(self.site).ensure_running([vm.id for vm in s.vms if vm.running])

    @step("Check the databases", tr="8", items=lambda s: tuple(vm for vm in s.vms if vm.running), changes=False)
    def check(self, s: FailbackState) -> FailbackState:
        found = Ground(self.site).check_databases([vm.name for vm in s.vms if vm.running])
        return replace(s, found=found)

    def result(self, state: FailbackState) -> FailedBack:
        """What runs here again."""
        return FailedBack(
            vms=tuple(vm.name for vm in state.vms),
            backups=(f"the last update from {self.other.name}",),
            recovery_point="",
            relationships=(
                *(f"{m}: {'deleted here' if state.unreleased else 'released'}" for m in state.mirrors),
                *([state.unreleased] if state.unreleased else []),
                *(f"{name} lies on the same LUNs and is off: start it if it should run" for name in state.idle),
                *([state.unset] if state.unset else []),
            ),
            databases=state.found,
            transferred=state.sent,
        )
