"""Failover: the VMs of backups that were replicated here are restored and started on this site (TR 8)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from html import escape

from smhvlab.dr.checked import Checked
from smhvlab.dr.images import (
    Image,
    Manner,
    MirroredVolume,
    backups_for,
    check_places,
    choose_backups,
    choose_machines,
    find_volumes,
    lun_of,
    manner_named,
    manner_of,
    mirrored_backups,
    newer_images,
    recover_luns,
    take_images,
)
from smhvlab.dr.inuse import refuse_in_use
from smhvlab.dr.landing import Ground, Landing, landing_of
from smhvlab.dr.roles import Role, roles_for, set_or_tell, told_roles
from smhvlab.dr.sites import DrProcedure, Fence, lift_fence, put_fence, survey_fence
from smhvlab.dr.snapinfo import cut_question, other_name, require_ready, transfers_cut
from smhvlab.dr.switches import known_switches, refuse_missing, register_all_possible, switches, told_missing
from smhvlab.errors import NotAllowed
from smhvlab.flow import CHOSEN
from smhvlab.record import Confirmation
from smhvlab.snapinfo import BackupVm
from smhvlab.sql import DatabaseFound
from smhvlab.steps import step


@dataclass(frozen=True)
class FailoverState:
    """What a failover touches.

    Attributes:
        backups: names of the backups that are restored, oldest first, and when they were taken.
        landing: where the LUNs are connected and the VMs registered.
        newer: later backups that SnapInfo knows, whose data did not arrive whole or for which others were chosen; and
            later images of the chosen ones.
        manner: how the mirrors are broken off: as was asked for, else as the hosts' era does it.
        roles: what the VMs' roles are set to, as SnapInfo has recorded it; ``nodes``: those of the cluster here.
        cut: mirrors with a transfer under way whose source is gone.
        unknown: backups whose data arrived and that SnapInfo does not know.
        kept: uuids of the mirrors that the break found broken off.
        lacking: VMs with virtual switches that are missing here, as far as the other site could be asked.
        left: such VMs' ids and switches, once they were to be registered.
    """

    backups: tuple[tuple[str, str], ...]
    consistency: tuple[str, ...]
    volumes: tuple[MirroredVolume, ...]
    vms: tuple[BackupVm, ...]
    landing: Landing
    fence: Fence
    newer: tuple[str, ...]
    unknown: tuple[str, ...]
    manner: Manner = Manner.TODAY
    roles: tuple[Role, ...] = ()
    nodes: tuple[str, ...] = ()
    cut: tuple[str, ...] = field(default=(), metadata=CHOSEN)
    lacking: tuple[str, ...] = ()
    kept: tuple[str, ...] = field(default=(), metadata=CHOSEN)
    left: dict[str, tuple[str, ...]] = field(default_factory=dict, metadata=CHOSEN)
    unset: str = field(default="", metadata=CHOSEN)
    found: tuple[DatabaseFound, ...] = field(default=(), metadata=CHOSEN)

    @property
    def images(self) -> tuple[tuple[MirroredVolume, Image], ...]:
        """Every LUN that is connected, with its volume."""
        return tuple((volume, image) for volume in self.volumes for image in volume.images)

    @property
    def restores(self) -> dict[str, int]:
        """Volume-based SnapRestores that follow the breaks, as a step counts them."""
        whole = sum(self.manner is Manner.TR and volume.luns == 1 for volume in self.volumes)
        return {"ontap.volume.restore": whole} if whole else {}

    @property
    def here(self) -> tuple[BackupVm, ...]:
        """The VMs that could be registered."""
        return tuple(vm for vm in self.vms if vm.id not in self.left)

    @property
    def started(self) -> tuple[BackupVm, ...]:
        """The VMs that ran when the backup was taken, and could be registered."""
        return tuple(vm for vm in self.here if vm.state == "Running")


@dataclass(frozen=True, repr=False, kw_only=True)
class FailedOver(Checked):
    """VMs that run on this site now.

    Attributes:
        recovery_point: lab or site time of the oldest of these backups; what was written later is lost.
        relationships: what has become of each, and what else is to be known.
    """

    recovery_point: str
    relationships: tuple[str, ...]

    def __str__(self) -> str:
        lines = [f"{', '.join(self.vms)} as of {', '.join(self.backups)}"]
        lines += [f"  {text}" for text in self.relationships]
        return "\n".join([*lines, *(f"  {found}" for found in self.databases)])

    def _repr_html_(self) -> str:
        mirrors = "".join(f"<li>{escape(text)}</li>" for text in self.relationships)
        return (
            f"<p><b>{escape(', '.join(self.vms))}</b> as of <code>{escape(', '.join(self.backups))}</code></p>"
            f"<ul>{mirrors}</ul>{self._table()}"
        )


class Failover(DrProcedure[FailoverState]):
    """Fail over to this site."""

    tr = "8"

    def __init__(
        self,
        site: object,
        *,
        backups: Sequence[str] = (),
        vms: Sequence[str] = (),
        manner: str = "",
        node: str = "",
    ) -> None:
        super().__init__(site, backups=tuple(backups), vms=tuple(vms), manner=manner, node=node)
        self.backups = tuple(backups)
        self.vms = tuple(vms)
        self.manner = manner_named(manner)
        self.node = node

    def survey(self) -> FailoverState:
        """Choose the backups, find their volumes among the mirrors, and see that only one site will run the VMs.

        Raises:
            NotFound: SnapInfo holds no backup of mirrored volumes, or a VM is in none of them.
            NotAllowed: both sites are alive, a named backup's data did not arrive, a VM is here already, a mount point
                is taken, a transfer is under way, the node does not own the cluster group, a disk cannot be of the
                type that it was, or a mirror was broken off before and hosts use what it brought.
        """
        landing = landing_of(self.site, node=self.node)
        replication = self.replication
        known = mirrored_backups(replication, self.snapinfo.backups())
        chosen = choose_backups(known, self.backups)
        machines = choose_machines(chosen, self.vms)
        # volumes of other VMs stay mirrored, or as an earlier failover has left them
        wanted = backups_for(chosen, machines) if self.vms else chosen
        volumes = find_volumes(replication, wanted, machines)
        sources = [(v.mirror.source.svm, v.mirror.source.volume) for v in volumes]
        fence = survey_fence(self.site.partner, sources, vms=[vm.id for vm in machines])
        fence = self.with_peers(fence, (volume.mirror.source.cluster for volume in volumes))
        for volume in volumes:
            require_ready(volume.mirror, fence)
        self._refuse_present(machines)
        refuse_in_use(self.site, [volume for volume in volumes if volume.mirror.broken])
        disks = self.nodes.disks()
        places = {image.access_path: lun_of(replication, v, image).unique_id for v in volumes for image in v.images}
        check_places(disks, volumes, places)
        for volume in volumes:
            for image in volume.images:
                image.spot(landing)
            if volume.volume.svm != landing.svm:
                raise NotAllowed(
                    f"{volume.mirror.destination} is in another SVM than the one that serves the host, {landing.svm}",
                    next_action="Replicate into the SVM whose LIFs and igroup the host uses.",
                    tr="8",
                )
        oldest = min(backup.time for backup in wanted)
        return FailoverState(
            backups=tuple((backup.name, backup.time) for backup in wanted),
            consistency=tuple(sorted({backup.registered_as for backup in wanted})),
            volumes=volumes,
            vms=machines,
            landing=landing,
            fence=fence,
            manner=self.manner or manner_of(self.nodes),
            roles=roles_for(self.snapinfo, [vm.id for vm in machines], cluster=landing.cluster)
            if landing.cluster
            else (),
            nodes=tuple(self.nodes),
            cut=transfers_cut(volume.mirror for volume in volumes),
            lacking=self._lacking(machines, fence),
            newer=(
                *(image for backup in chosen for image in newer_images(backup, machines)),
                *(
                    backup.name + (f" ({missing})" if missing else "")
                    for backup, missing in known
                    if backup.time > oldest and backup not in chosen
                ),
            ),
            unknown=self._unknown(volumes),
        )

    def _refuse_present(self, machines: Sequence[BackupVm]) -> None:
        here = {vm.id: vm for vm in self.nodes.vms()}
        for vm in machines:
            if vm.id in here:
                raise NotAllowed(
                    f"The VM {vm.name} is registered on {here[vm.id].host} already",
                    why=f"its id {vm.id} is there, {here[vm.id].state}",
                    next_action=self._how_it_came()
                    or "If it is left over from an earlier failover, clean this site up first "
                    "(site.dr.return_to_normal); if it runs, it has been failed over.",
                    tr="8",
                )

    def _how_it_came(self) -> str:
        """What to do if a rehearsal that was killed has left the VMs; "" if there is none."""
        from smhvlab.doctor import unfinished

        runs = unfinished(self.site.name, folder=self.site.journals)
        killed = [run.run for run in runs if run.header.flow.endswith(":Rehearsal") and "undo" in run.allowed]
        return f"A rehearsal has left it; undo that first: smhvlab doctor --undo {killed[-1]}." if killed else ""

    def _lacking(self, machines: Sequence[BackupVm], fence: Fence) -> tuple[str, ...]:
        """VMs whose virtual switches are missing here, if hosts of the other site can tell which these are."""
        if not fence.hosts:
            return ()
        known = known_switches(self.other.tools().nodes, {vm.id for vm in machines})
        here = switches(Ground(self.site).node) if known else set()
        missing = {vm: lacked for vm, names in known.items() if (lacked := [n for n in names if n not in here])}
        return told_missing(machines, missing)

    def _unknown(self, volumes: Sequence[MirroredVolume]) -> tuple[str, ...]:
        """Backups' Snapshot copies that are newer than the ones chosen and that SnapInfo knows nothing of."""
        from smhvlab.dr.snapinfo import BACKUP_COPY

        taken = {name for b in self.snapinfo.backups() for name in (b.name, *(lun.snapshot for lun in b.luns))}
        known = taken | {name.removesuffix("_backup") for name in taken}
        found: dict[str, None] = {}
        for volume in volumes:
            names = list(self.replication.copies(volume.volume).values())
            for name in names[names.index(volume.snapshot) + 1 :]:
                if BACKUP_COPY.match(name) and name not in known:
                    found[name] = None
        return tuple(found)

    def confirmations(self, state: FailoverState) -> Sequence[Confirmation]:
        """What is known of the other site, and what is lost."""
        found = [state.fence.confirmation(other_name(self)), *cut_question(state.cut)]
        if state.newer:
            text = (
                f"newer backups did not arrive here whole or were passed over, and are lost: {', '.join(state.newer)}"
            )
            found.append(Confirmation(key="newer-lost", text=text, tr="8"))
        if state.unknown:
            text = f"SnapInfo is older than the data: it does not know {', '.join(state.unknown)}"
            found.append(Confirmation(key="snapinfo-older", text=text, tr="8"))
        if broken := [str(volume.mirror) for volume in state.volumes if volume.mirror.broken]:
            text = f"mirrors were broken off before: what was written to their LUNs since is lost: {', '.join(broken)}"
            found.append(Confirmation(key="broken-before", text=text, tr="8"))
        if state.lacking:
            text = (
                f"virtual switches are missing on {state.landing.host}, and VMs stay out until they are there: "
                + "; ".join(state.lacking)
            )
            found.append(Confirmation(key="switch-missing", text=text, tr="8/FO4-6"))
        return found

    def losses(self, state: FailoverState) -> Sequence[str]:
        """What did not come here: all that was written after the backups."""
        return [
            f"What the VMs of {name} have written after {time[:19].replace('T', ' ')} is not on this site."
            for name, time in state.backups
        ]

    @step(
        "Keep the other site from running the VMs",
        tr="8",
        items=lambda s: (
            *(f"unmap {name} from {igroup}" for _, name, _, igroup in s.fence.maps),
            *(f"switch off {name}" for _, name in s.fence.vms),
        ),
        when=lambda s: s.fence.needed,
        otherwise="nothing of it answers that could run them",
    )
    def fence(self, s: FailoverState) -> None:
        put_fence(self.other, s.fence)

    @fence.undo
    def unfence(self, s: FailoverState) -> None:
        lift_fence(self.other, s.fence)

    @step(
        "Break the mirrors to the backups' Snapshot copies",
        tr="8/FO1",
        items=lambda s: tuple(volume.plan(s.manner) for volume in s.volumes),
        counts=lambda s: {"ontap.snapmirror.break": len(s.volumes)} | s.restores,
        pivot=True,
    )
    def break_mirrors(self, s: FailoverState) -> FailoverState:
        kept = take_images(self.replication, s.volumes, s.manner, check=lambda some: refuse_in_use(self.site, some))
        return replace(s, kept=tuple(mirror.uuid for mirror in kept))

    @step(
        "Take the consistent image of each LUN",
        tr="8/FO1",
        items=lambda s: tuple(image for _, image in s.images),
        counts=lambda s: {"ontap.lun.clone": len(s.images)},
    )
    def recover(self, s: FailoverState) -> None:
        recover_luns(self.replication, s.volumes, s.manner, kept=s.kept)

    @step(
        "Connect the LUNs at their mount points",
        tr="8/FO1",
        items=lambda s: tuple(image.spot(s.landing) for _, image in s.images),
        counts=lambda s: {"windows.rescan": len(s.images)},
    )
    def connect(self, s: FailoverState) -> None:
        ground = Ground(self.site)
        for volume, image in self.track(s.images):
            lun = lun_of(self.replication, volume, image)
            ground.ensure_connected(lun, image.spot(s.landing), igroup=s.landing.igroup)

    @step(
        "Restore the VMs to this host",
        tr="8/FO4-6",
        items=lambda s: tuple(f"{vm.name} {vm.id}" for vm in s.vms),
        counts=lambda s: {"windows.vm.import": len(s.vms)},
    )
    def register(self, s: FailoverState) -> FailoverState:
        """A VM whose virtual switch is missing keeps no other one waiting; the last step comes back to it."""
        wanted = {vm.id: vm.configuration_file for vm in self.track(s.vms)}
        return replace(s, left=register_all_possible(Ground(self.site).node, wanted))

    @step(
        "Apply the backup's checkpoints",
        tr="6.7/3",
        items=lambda s: tuple(vm.name for vm in s.vms if vm.checkpoint),
        when=lambda s: any(vm.checkpoint for vm in s.vms),
        otherwise="the backup has none",
    )
    def apply(self, s: FailoverState) -> None:
        """The configurations in the images start from the checkpoints' leaves: the state of a crash."""
        Ground(self.site).apply_checkpoints(s.here)

    @step(
        "Make the VMs highly available",
        tr="8/FO7",
        items=lambda s: told_roles(s.vms, s.roles, s.nodes, cluster=s.landing.cluster),
        when=lambda s: bool(s.landing.cluster),
        otherwise="this is a stand-alone host",
    )
    def add_roles(self, s: FailoverState) -> FailoverState:
        Ground(self.site).ensure_roles([vm.id for vm in s.here])
        return replace(s, unset=set_or_tell(self.site, [role for role in s.roles if role.vm not in s.left]))

    @step(
        "Start the VMs",
        tr="8",
        items=lambda s: tuple(vm.name for vm in s.started),
        counts=lambda s: {"windows.vm.start": len(s.started)},
        when=lambda s: bool(s.started),
        otherwise="none of them ran at the time of its backup",
    )
    def start(self, s: FailoverState) -> None:
        Ground(self.site).ensure_running([vm.id for vm in self.track(s.started)])

    @step("Check the databases", tr="8", items=lambda s: tuple(vm.name for vm in s.started), changes=False)
    def check(self, s: FailoverState) -> FailoverState:
        found = Ground(self.site).check_databases([vm.name for vm in s.started])
        return replace(s, found=found)

    @step(
        "Restore and start the VMs whose virtual switch was missing",
        tr="8/FO4-6",
        items=lambda s: told_missing(s.vms, s.left),
        when=lambda s: bool(s.left),
        otherwise="no VM has been left out",
    )
    def register_rest(self, s: FailoverState) -> FailoverState:
        """Fails, and can be resumed, until the switches are there."""
        ground = Ground(self.site)
        rest = [vm for vm in s.vms if vm.id in s.left]
        missing = register_all_possible(ground.node, {vm.id: vm.configuration_file for vm in rest})
        refuse_missing(ground.node, rest, missing)
        ground.apply_checkpoints(rest)
        ground.ensure_roles([vm.id for vm in rest])
        unset = set_or_tell(self.site, [role for role in s.roles if role.vm in s.left])
        running = [vm for vm in rest if vm.state == "Running"]
        ground.ensure_running([vm.id for vm in running])
        found = (*s.found, *ground.check_databases([vm.name for vm in running]))
        return replace(s, left={}, found=found, unset="; ".join(filter(None, (s.unset, unset))))

    def result(self, state: FailoverState) -> FailedOver:
        """What runs here now, and as of when."""
        mirrors = {m.uuid: m for m in self.replication.mirrors()}
        told = [
            f"{v.mirror}: {mirrors[v.mirror.uuid].state} at {v.snapshot}"
            for v in state.volumes
            if v.mirror.uuid in mirrors
        ]
        return FailedOver(
            vms=tuple(vm.name for vm in state.vms),
            backups=tuple(name for name, _ in state.backups),
            recovery_point=min(datetime.fromisoformat(time) for _, time in state.backups).isoformat(),
            relationships=(*told, *([state.unset] if state.unset else [])),
            databases=state.found,
        )
