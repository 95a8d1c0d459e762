"""Application-consistent backup through VSS: DiskShadow with the Data ONTAP hardware provider (TR 6.2, 9, 12).

The guests make themselves consistent, the provider takes Snapshot copies of the LUNs, the Hyper-V writers turn the
VMs' disks on clones of the LUNs back to that instant, and the provider takes second Snapshot copies. The consistent
images are the clones in these: the LUNs beside them hold what a crash a moment later would have left.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from smhvlab.backup.crash import BackupDone
from smhvlab.backup.licences import need_licences
from smhvlab.backup.proof import Problem, Proof
from smhvlab.backup.refusals import need_known, refuse_redirected
from smhvlab.backup.sets import CSVFS_BUILD, Made, SetPlan, plan_sets
from smhvlab.backup.survey import BackupProcedure, BackupState
from smhvlab.errors import BackupFailed, CannotBackUp, NotAllowed
from smhvlab.flow import CHOSEN
from smhvlab.hyperv import MOVING
from smhvlab.nodes import SharedVolume
from smhvlab.snapinfo import Backup
from smhvlab.steps import step
from smhvlab.storage import VolumeRef
from smhvlab.vss import CSV_WRITER, HYPERV_WRITER, Component, Vss, backup_script, guids, stable

TRIES, PAUSE = 3, 60
"""How often a set is tried, and the seconds between two tries, if the registry does not say otherwise (TR appendix)."""

_PARAMETERS = "HKLM:\\SYSTEM\\CurrentControlSet\\Services\\OnCommandHyperV\\Parameters"
SET = re.compile(r"\{[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\}(_backup)?\Z")
_CLONE = re.compile(r"_\{[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\}\.rws\Z")


@dataclass(frozen=True, kw_only=True)
class SetsState(BackupState):
    """What one backup through VSS touches and creates.

    Attributes:
        before: Snapshot copies and clones of shadow copy sets that were there before, and are none of ours.
        reasons: why VMs cannot take part while they run, by their ids: they are saved, or are off (TR 6.4).
        parts: the components of the dataset's VMs, by the VM's id.
        others: VMs on the same volumes that are frozen too, by the host of the set.
        excluded_parts: components of others that would be saved, or are being migrated: they are left out.
        made: the sets that were made; the step that makes them finds them all.
    """

    build: int
    distributed: bool
    allow_saved_state: bool
    sets: tuple[SetPlan, ...]
    before: tuple[str, ...]
    reasons: dict[str, str]
    tries: int
    pause: int
    parts: dict[str, str] = field(default_factory=dict, metadata=CHOSEN)
    others: dict[str, tuple[str, ...]] = field(default_factory=dict, metadata=CHOSEN)
    excluded_parts: dict[str, tuple[str, ...]] = field(default_factory=dict, metadata=CHOSEN)
    made: tuple[Made, ...] = field(default=(), metadata=CHOSEN)

    def file(self, plan: SetPlan, ending: str) -> str:
        """A temporary file of one set on its host."""
        return f"C:\\Windows\\Temp\\smhvlab_{self.own_name}_{plan.host}.{ending}"

    @property
    def record(self) -> Backup:
        """What SnapInfo keeps."""
        several = len(self.made) > 1
        vms = {vm_id: one for made in self.made for vm_id, one in made.vms.items()}
        point = "All volumes were taken in one set: one point in time for all."
        if several:
            point = f"{len(self.made)} sets were taken one after the other: one point in time for each host's VMs."
        return Backup(
            name=self.name,
            dataset=self.dataset,
            time=self.time,
            consistency="application",
            common_point=not several,
            host=self.host,
            vms=tuple(replace(vm, evidence=vms[vm.id]) for vm in self.kept),
            luns=tuple(lun for made in self.made for lun in made.images(self.name, shared=several)),
            evidence=(
                "Application-consistent: the guests' writers took part, and the images were recovered to their freeze.",
                point,
                *(_sentence(made) for made in self.made),
                *(f"{vm.name}: {vms[vm.id]}" for vm in self.kept),
            ),
            excluded=(*self.excluded, *self._unseen()),
            warnings=self.warnings,
            engine="DiskShadow with the Data ONTAP VSS hardware provider",
            sets=tuple(made.evidence for made in self.made),
            failed=self.not_kept,
            run=self.run,
        )

    def _unseen(self) -> list[str]:
        """Disks that only the guest knows of, as Hyper-V has told when it left them out (TR 4.1, 9)."""
        names = [name for made in self.made for name in made.partly]
        return [
            f"{name}: disks that its guest has connected itself (event 10107); back them up in the guest"
            for name in names
            if not any(text.startswith(f"{name}: ") for text in self.excluded)
        ]


class ApplicationConsistentBackup(BackupProcedure[SetsState]):
    """Back up a dataset, application-consistent, through VSS."""

    tr = "6.2, 9, 12"

    # Of the class, because a policy's backup is made without __init__ below.
    _again = False  # whether this goes on with, or takes back, what an earlier try has begun
    _theirs: frozenset[str] = frozenset()  # shared volumes that another backup has taken over meanwhile
    _began = False  # whether this object has begun to make sets: then it knows which are its own
    _ids: frozenset[str] = frozenset()  # of the sets that it has begun
    _unheard = False  # whether DiskShadow was started and nobody has read what it printed

    def __init__(
        self, site: object, *, dataset: str, distributed: bool | None = None, allow_saved_state: bool = False
    ) -> None:
        super().__init__(site, dataset=dataset, distributed=distributed, allow_saved_state=allow_saved_state)
        self.dataset = dataset
        self.distributed = distributed
        self.allow_saved_state = allow_saved_state

    # --- before

    def survey(self) -> SetsState:
        """Find each VM's files down to their volumes, and decide on which hosts sets are made.

        Raises:
            NotAllowed: as ``look``; a host has no hardware provider; a VM cannot take part while it runs (TR 6.4); a
                distributed backup is asked for where there is none.
        """
        found = self.look()
        build = found.build
        if build < CSVFS_BUILD:
            refuse_redirected(found)
        shared = bool(found.shared) and all(found.on_shared(vm) for vm in found.machines)
        distributed = self._distributed(build=build, shared=shared)
        coordinator = self.nodes.coordinator().name
        sets = plan_sets(found, build=build, distributed=distributed, coordinator=coordinator)
        self._need_provider(dict.fromkeys(plan.host for plan in sets))
        need_licences(self.storage, self.nodes, array=self.site.profile.storage.name)
        reasons = self.offline(found, allowed=self.allow_saved_state)
        tries, pause = self._retries()
        common: dict[str, Any] = self.common(found)
        return SetsState(
            **common,
            build=build,
            distributed=distributed,
            allow_saved_state=self.allow_saved_state,
            sets=sets,
            before=tuple(sorted(self._present(found.volumes))),
            reasons=reasons,
            tries=tries,
            pause=pause,
        )

    def _distributed(self, *, build: int, shared: bool) -> bool:
        possible = shared and build >= CSVFS_BUILD
        if self.distributed and not possible:
            raise NotAllowed(
                f"The dataset {self.dataset} cannot be backed up in one distributed set",
                next_action="Leave distributed out, or move its VMs to cluster shared volumes.",
                why="that needs VMs on shared volumes of Windows Server 2012 or later",
                tr="12",
            )
        return possible if self.distributed is None else self.distributed

    def _need_provider(self, hosts: Sequence[str] | dict[str, None]) -> None:
        for name in hosts:
            if not Vss(self.nodes[name].host).has_provider():
                raise NotAllowed(
                    f"{name} has no Data ONTAP VSS hardware provider",
                    next_action="Install SnapDrive for Windows on it; vssadmin list providers then shows the provider.",
                    why="VSS would use the system's provider, which must never be used on ONTAP LUNs",
                    tr="9, appendix",
                )

    def _retries(self) -> tuple[int, int]:
        """How often, and with which pause: ``vss_retry`` and ``vss_retry_sleep`` of the registry."""
        if not self.host.run("Test-Path", {"LiteralPath": _PARAMETERS})[0]:
            return TRIES, PAUSE
        values = self.host.run("Get-ItemProperty", {"LiteralPath": _PARAMETERS})[0]
        tries, pause = (values.get(name) for name in ("vss_retry", "vss_retry_sleep"))
        return int(tries or TRIES), int(pause or PAUSE)

    def _present(self, volumes: Sequence[VolumeRef]) -> set[str]:
        """Names of the sets' Snapshot copies and clones that are on the volumes now."""
        copies = {
            f"{volume.uuid}:{copy['name']}"
            for volume in volumes
            for copy in self.storage.snapshots(volume)
            if SET.fullmatch(copy["name"])
        }
        return copies | {lun.name for lun in self.storage.luns() if lun.volume in volumes and _CLONE.search(lun.name)}

    # --- steps

    @step(
        "Ask the Hyper-V writers for the VMs",
        tr="6.2/1",
        items=lambda s: tuple(plan.host for plan in s.sets),
        counts=lambda s: {"windows.vss.identify": len(s.sets)},
    )
    def preflight(self, s: SetsState) -> SetsState:
        """The writers must know every VM, and say how they would back it up; one that moves by now is left out."""
        parts: dict[str, str] = {}
        others: dict[str, tuple[str, ...]] = {}
        left_out: dict[str, tuple[str, ...]] = {}
        reasons = dict(s.reasons)
        now = self.nodes.vms()
        moving = {vm.id for vm in now if vm.doing in MOVING}
        s = self.without_moving(s, now)
        s = replace(s, sets=tuple(left for plan in s.sets if (left := plan.without(s.moved)).vms))
        for plan in self.track(s.sets):
            known = Vss(self.nodes[plan.host].host).components(s.file(plan, "dsh"))
            if plan.alone:
                known = [one for one in known if not one.node]
            ours = {one.vm_id: one for one in known if one.vm_id in plan.ids}
            need_known([vm for vm in s.kept if vm.id in plan.ids], set(ours), host=plan.host)
            parts.update({vm_id: one.logical for vm_id, one in ours.items()})
            reasons.update(
                {i: "its writer can only save it" for i, one in ours.items() if not one.online and i not in reasons}
            )
            strangers = [one for one in known if one.vm_id not in plan.ids and _lies_on(one, plan.paths)]
            frozen = [one for one in strangers if one.online and one.vm_id not in moving]
            others[plan.host] = tuple(one.vm for one in frozen)
            left_out[plan.host] = tuple(one.logical for one in strangers if one not in frozen)
        fresh = [vm.name for vm in s.kept if vm.id in reasons and vm.id not in s.reasons]
        if fresh and not s.allow_saved_state:
            raise CannotBackUp(
                f"{', '.join(fresh)} cannot be backed up online",
                vms=fresh,
                next_action="Look for guest volumes below 300 MB, dynamic disks and integration services; or allow the "
                "saved state (allow_saved_state=True), which stops the VM for a while.",
                why="the Hyper-V writer says so",
                tr="6.4",
            )
        return replace(s, parts=parts, others=others, excluded_parts=left_out, reasons=reasons)

    @preflight.undo
    def drop_files(self, s: SetsState) -> None:
        self._discard_files(s)

    @step(
        "Shadow copy sets: freeze, first copies, auto-recovery, second copies",
        tr="6.2/2-6",
        items=lambda s: s.sets,
        counts=lambda s: {
            "windows.vss.guest": len(s.vms),
            "windows.vss.freeze": len(s.sets),
            "windows.vss.revert": len(s.vms),
            "ontap.snapshot.create": 2 * sum(len(plan.volumes) for plan in s.sets),
            "windows.cluster.move": sum(len(plan.redirect) for plan in s.sets),
        },
    )
    def create(self, s: SetsState) -> SetsState:
        if self._again and not self._began:
            self._discard_sets(s)  # of an interrupted try, of which nobody knows what it had made
        self._began = True
        self._need_alone(s)
        made: list[Made] = []
        for plan in self.track(s.sets):
            made.append(self._make(s, plan, made))
        self._give_back(s)
        return replace(s, made=tuple(made))

    @create.undo
    def drop_sets(self, s: SetsState) -> None:
        self._give_back(s)
        self._discard_sets(s)

    def _need_alone(self, s: SetsState) -> None:
        """Raises BackupFailed: another backup has begun a set of these volumes since the survey."""
        now = self._present(s.volumes) - set(s.before)
        if now:
            raise BackupFailed(
                f"Another backup is at work on volumes of {s.dataset}",
                why=f"a shadow copy set has come since this backup was planned: {min(now).rpartition(':')[2]}",
                next_action="Wait for the other backup's end, then plan again; give the datasets schedules apart.",
                tr="6.2",
            )

    def _make(self, s: SetsState, plan: SetPlan, made: Sequence[Made]) -> Made:
        problem: Problem | None = None
        for attempt in range(s.tries):
            if attempt:
                self.host.sleep(s.pause)
            self._take_over(plan)
            since = self.nodes[plan.host].host.now()
            self._unheard = True
            printed = self._drive(s, plan)
            self._unheard, self._ids = False, self._ids | set(guids(printed))
            self._resume(plan.redirect)
            outcome = self._proof(s, plan, since, printed).outcome()
            if isinstance(outcome, Made):
                return outcome
            problem = outcome
            self._discard_sets(s, keep=made)
            if not problem.transient:
                break
        assert problem is not None
        raise problem.error(tries=attempt + 1)

    def _drive(self, s: SetsState, plan: SetPlan) -> tuple[str, ...]:
        local = any(host == plan.host for host, _ in plan.vms)
        verify = [f"{{{HYPERV_WRITER if local else CSV_WRITER}}}", *(s.parts[vm_id] for vm_id in plan.ids)]
        exclude = [f"{{{CSV_WRITER}}}"] if plan.alone else []
        exclude += s.excluded_parts.get(plan.host, ())
        script = backup_script(plan.paths, metadata=s.file(plan, "cab"), verify=verify, exclude=exclude)
        vss = Vss(self.nodes[plan.host].host)
        vss.discard_files([s.file(plan, "cab")])
        return vss.run_script(s.file(plan, "dsh"), script)

    def _proof(self, s: SetsState, plan: SetPlan, since: datetime, printed: tuple[str, ...]) -> Proof:
        return Proof(
            plan,
            nodes=self.nodes,
            storage=self.storage,
            since=since,
            printed=printed,
            metadata=s.file(plan, "cab"),
            names={vm.id: vm.name for vm in s.vms},
            reasons=s.reasons,
            states={vm.id: vm.state for vm in s.vms},
            others=s.others.get(plan.host, ()),
        )

    @step("Writers' metadata and components documents to SnapInfo", tr="12", items=lambda s: s.sets)
    def metadata(self, s: SetsState) -> None:
        for made in self.track(s.made):
            content = Vss(self.nodes[made.plan.host].host).metadata(s.file(made.plan, "cab"))
            self.snapinfo.ensure_metadata(s.dataset, s.name, made.plan.host, content)

    @metadata.undo
    def drop_metadata(self, s: SetsState) -> None:
        self.snapinfo.discard_metadata(s.dataset, s.name, {made.plan.host: made.evidence.id for made in s.made})

    @step(
        "Give the Snapshot copies the backup's name",
        tr="12",
        items=lambda s: tuple(f"{v}: {s.name}{p.suffix}, {s.name}{p.suffix}_backup" for p in s.sets for v in p.volumes),
    )
    def rename(self, s: SetsState) -> None:
        for made in self.track(s.made):
            for old, new in made.names(s.name):
                self.storage.rename_snapshots(made.plan.volumes, old, new)

    @rename.undo
    def drop_renamed(self, s: SetsState) -> None:
        for made in s.made:
            for old, new in made.names(s.name):
                self.storage.discard_renamed(made.plan.volumes, old, new)

    @step("Register the backup in SnapInfo", tr="6.2/7", items=lambda s: (f"{s.name}.json",))
    def register(self, s: SetsState) -> None:
        self.snapinfo.ensure_backup(s.record)

    @register.undo
    def unregister(self, s: SetsState) -> None:
        self.snapinfo.discard_backup(s.dataset, s.name, run=s.run)

    @step(
        "Snapshot copy of the SnapInfo LUN",
        tr="6.3",
        items=lambda s: (f"{s.snapinfo_volume}: {s.name}",),
        counts=lambda s: {"ontap.snapshot.create": 1},
    )
    def protect(self, s: SetsState) -> None:
        self.keep_snapinfo(s)

    @protect.undo
    def drop_protection(self, s: SetsState) -> None:
        self.drop_snapinfo(s)

    @step("Remove the temporary files", tr="12", items=lambda s: tuple(plan.host for plan in s.sets))
    def clean_up(self, s: SetsState) -> None:
        self._discard_files(s)

    def result(self, state: SetsState) -> BackupDone:
        """The backup's record."""
        copies = [
            f"{volume}: {state.name}{made.plan.suffix}{ending}"
            for made in state.made
            for volume in made.plan.volumes
            for ending in ("", "_backup")
        ]
        return BackupDone(state.record, (*copies, f"{state.snapinfo_volume}: {state.name}"))

    # --- shared volumes of version 1 (TR 12): each node in turn owns them, with all access through it

    def _take_over(self, plan: SetPlan) -> None:
        if not plan.redirect:
            return
        now = {volume.resource: volume for volume in self.nodes.shared_volumes()}
        if not self._again:
            self._theirs = frozenset(v.resource for v in plan.redirect if now[v.resource].redirected)
        if self._theirs:
            raise BackupFailed(
                f"{', '.join(sorted(self._theirs))} has come into redirected access since this backup began",
                why="another backup has taken the shared volume over",
                next_action="Wait for the other backup's end; give the datasets schedules apart.",
                tr="12",
            )
        for volume in plan.redirect:
            name = volume.resource
            if now[name].owner.casefold() != plan.host.casefold():
                self.host.run("Move-ClusterSharedVolume", {"Name": name, "Node": plan.host})
            if not now[name].redirected:
                self.host.run("Suspend-ClusterResource", {"Name": name, "RedirectedAccess": True})

    def _resume(self, volumes: Sequence[SharedVolume]) -> None:
        """None of these shared volumes is redirected any more: none was when the backup began."""
        ours = [volume.resource for volume in volumes if volume.resource not in self._theirs]
        if not ours:
            return
        now = {volume.resource: volume for volume in self.nodes.shared_volumes()}
        for name in ours:
            if now[name].redirected:
                self.host.run("Resume-ClusterResource", {"Name": name})

    def _give_back(self, s: SetsState) -> None:
        """Shared volumes are with their owners again, and not redirected."""
        volumes = {v.resource: v for plan in s.sets for v in plan.redirect if v.resource not in self._theirs}
        self._resume(tuple(volumes.values()))
        if not volumes:
            return
        now = {volume.resource: volume for volume in self.nodes.shared_volumes()}
        for name, volume in volumes.items():
            if now[name].owner.casefold() != volume.owner.casefold():
                self.host.run("Move-ClusterSharedVolume", {"Name": name, "Node": volume.owner})

    # --- taking back

    def _discard_sets(self, s: SetsState, *, keep: Sequence[Made] = ()) -> None:
        """No Snapshot copy and no clone of this run's sets is left, except of those to keep.

        Which sets are its own, DiskShadow has printed; of an interrupted try they are those that were not there before.
        """
        kept = tuple(made.first for made in keep)
        certain = self._began and not self._unheard

        def ours(name: str) -> bool:
            return not certain or bool(self._ids.intersection(guids([name])))

        clones = [
            lun
            for lun in self.storage.luns()
            if lun.volume in s.volumes and _CLONE.search(lun.name) and lun.name not in s.before and ours(lun.name)
        ]
        for clone in clones:
            self.storage.discard_lun(clone.name, svm=clone.svm)
        if clones:
            for name in dict.fromkeys(plan.host for plan in s.sets):
                self.nodes[name].host.run("Update-HostStorageCache", {})
        for volume in s.volumes:
            for copy in reversed(self.storage.snapshots(volume)):
                name = copy["name"]
                if (
                    SET.fullmatch(name)
                    and f"{volume.uuid}:{name}" not in s.before
                    and ours(name)
                    and not name.startswith(kept or "?")
                ):
                    self.discard_copy(volume, name)

    def _discard_files(self, s: SetsState) -> None:
        for plan in s.sets:
            Vss(self.nodes[plan.host].host).discard_files([s.file(plan, "dsh"), s.file(plan, "cab")])

    def settle(self, *, lost: bool) -> None:
        """As for every procedure; and a set that a dead process has begun must have come to its end."""
        super().settle(lost=lost)
        self._again = True
        for _ in range(60 if lost else 0):
            if all(stable(writer) for node in self.nodes.up() for writer in Vss(node.host).writers()):
                return
            self.host.sleep(10)


def _lies_on(component: Component, paths: Sequence[str]) -> bool:
    wanted = tuple(path.casefold() for path in paths)
    return any((path.casefold() + "\\").startswith(wanted) for path in component.paths)


def _sentence(made: Made) -> str:
    one = made.evidence
    others = f"; frozen with them: {', '.join(one.others)}" if one.others else ""
    return (
        f"Set {{{one.id}}} on {one.host}: Snapshot copies in {one.milliseconds} ms (event {one.event}), "
        f"{len(one.writers)} writers stable{others}."
    )
