"""Application-consistent backup from Windows Server 2016 on: production checkpoints, then Snapshot copies.

A production checkpoint makes the guest consistent and puts a new leaf over each of its disks; what lies below the leaf
is the consistent image and does not change any more. The Snapshot copies are taken then, and the checkpoints are merged
away again - whatever becomes of the backup. In the image the VM's configuration points at the leaves, which hold the
state of a crash: only the disks below may be restored.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from smhvlab.backup.checkpoints import Checkpoints
from smhvlab.backup.crash import BackupDone
from smhvlab.backup.evidence import WRITERS_FREEZE, SetEvidence, VmEvidence
from smhvlab.backup.found import named
from smhvlab.backup.group import GroupedBackup, GroupedState
from smhvlab.backup.refusals import CHECKPOINTS
from smhvlab.errors import BackupFailed, CannotBackUp
from smhvlab.flow import CHOSEN
from smhvlab.snapinfo import Backup, BackupVm
from smhvlab.steps import step

_PRODUCTION = "ProductionOnly"


@dataclass(frozen=True, kw_only=True)
class CheckpointState(GroupedState):
    """What one backup through production checkpoints touches and creates.

    Attributes:
        types: the checkpoint type that each VM has now, by id.
        reasons: why VMs cannot take part while they run, by id; they are off or saved (TR 6.4).
        checkpoint: name of the checkpoints.
        cut: id of the checkpoint made of each VM, by the VM's id.
        leaves: for each VM's id, the leaf by the disk below it.
        seconds: how long it took to make the checkpoints.
    """

    types: dict[str, str]
    reasons: dict[str, str]
    checkpoint: str = field(metadata=CHOSEN)
    cut: dict[str, str] = field(default_factory=dict, metadata=CHOSEN)
    leaves: dict[str, dict[str, str]] = field(default_factory=dict, metadata=CHOSEN)
    seconds: float = field(default=0.0, metadata=CHOSEN)

    @property
    def online(self) -> tuple[BackupVm, ...]:
        """The VMs of which checkpoints are made."""
        return tuple(vm for vm in self.vms if vm.id not in self.reasons)

    @property
    def record(self) -> Backup:
        """What SnapInfo keeps."""
        return Backup(
            name=self.name,
            dataset=self.dataset,
            time=self.time,
            consistency="application",
            common_point=self.common_point,
            host=self.host,
            vms=tuple(self._vm(vm) for vm in self.kept),
            luns=named(self.luns, self.name),
            evidence=(
                "Application-consistent: each guest's writers took part in a checkpoint; the disks below it are the "
                "images, the leaves beside them are not.",
                self.point,
                *(f"{vm.name}: {self._vm_evidence(vm)}" for vm in self.kept),
            ),
            excluded=self.excluded,
            engine="ProductionOnly checkpoints and Snapshot copies",
            sets=tuple(
                SetEvidence(self.checkpoint, host, snapshots=tuple(f"{v}: {self.name}" for v in self.volumes))
                for host in dict.fromkeys(vm.host for vm in self.online)
            ),
            failed=self.not_kept,
            warnings=self.warnings,
            run=self.run,
        )

    def _vm(self, vm: BackupVm) -> BackupVm:
        return replace(
            vm,
            evidence=self._vm_evidence(vm),
            checkpoint=self.cut.get(vm.id, ""),
            leaves=self.leaves.get(vm.id, {}),
        )

    def _vm_evidence(self, vm: BackupVm) -> VmEvidence:
        if vm.id in self.reasons:
            return VmEvidence("off", f"it was {vm.state}: there was nothing to make consistent")
        why = "its guest's writers took part in a production checkpoint; its disks are those below the leaves"
        most = min(WRITERS_FREEZE, self.seconds)
        return VmEvidence("online", why, self.checkpoint, quiesced=True, frozen_most=most)


class CheckpointBackup(GroupedBackup[CheckpointState]):
    """Back up a dataset, application-consistent, through production checkpoints."""

    tr = "6.2"

    def __init__(self, site: object, *, dataset: str, allow_saved_state: bool = False) -> None:
        super().__init__(site, dataset=dataset, allow_saved_state=allow_saved_state)
        self.dataset = dataset
        self.allow_saved_state = allow_saved_state

    @property
    def _checkpoints(self) -> Checkpoints:
        return Checkpoints(self.nodes)

    def survey(self) -> CheckpointState:
        """Find each VM's files down to their volumes, and what could keep a guest from taking part.

        Raises:
            NotAllowed: as ``look``; a VM has a pass-through disk, of which no checkpoint can be made; a VM runs and
                cannot take part; a VM is off or saved and that is not allowed (TR 6.4).
        """
        found = self.look()
        reasons = self.offline(found, allowed=self.allow_saved_state, location=False)
        deaf = [vm.name for vm in found.machines if vm.running and vm.id in reasons]
        if deaf:
            raise CannotBackUp(
                f"{', '.join(deaf)} runs, and its guest cannot take part in a checkpoint",
                vms=deaf,
                next_action="Switch its integration service for backup on, or shut it down first.",
                why="from Windows Server 2016 on a backup saves no VM",
                tr="6.4",
            )
        physical = [vm.name for vm in found.machines if vm.running and any(disk.passthrough for disk in vm.disks)]
        if physical:
            raise CannotBackUp(
                f"{', '.join(physical)} has a pass-through disk",
                vms=physical,
                next_action="Take the disk away, or back the VM up crash-consistent.",
                why="Hyper-V makes no checkpoint of a VM with a pass-through disk",
                tr="4.1",
            )
        common: dict[str, Any] = self.common(found)
        run = common["run"]
        return CheckpointState(
            **common,
            **self.point(found.volumes, common["name"], run),
            types={vm.id: vm.checkpoint_type for vm in found.machines if vm.id not in reasons},
            reasons=reasons,
            checkpoint=f"{CHECKPOINTS}{common['name']}_{run}",
        )

    @step(
        "Consistency group over the volumes",
        tr="10",
        items=lambda s: (s.group,),
        when=lambda s: bool(s.group),
        otherwise="one volume needs none, or the array offers no common point",
    )
    def group(self, s: CheckpointState) -> CheckpointState:
        return self.grouped(s)

    @group.undo
    def drop_group(self, s: CheckpointState) -> None:
        self.ungrouped(s)

    @step(
        "Allow nothing but production checkpoints",
        tr="6.2/1",
        items=lambda s: tuple(vm.name for vm in s.online),
        when=lambda s: any(kind != _PRODUCTION for kind in s.types.values()),
        otherwise="the VMs allow nothing else",
    )
    def forbid(self, s: CheckpointState) -> None:
        """A plain production checkpoint falls back to a standard one without a word."""
        self._checkpoints.ensure_types(dict.fromkeys(s.types, _PRODUCTION))

    @forbid.undo
    def give_back_types(self, s: CheckpointState) -> None:
        self._checkpoints.ensure_types(s.types)

    @step(
        "Production checkpoints",
        tr="6.2/2",
        items=lambda s: tuple(vm.name for vm in s.online),
        counts=lambda s: {"windows.vm.checkpoint": len(s.online)},
        when=lambda s: bool(s.online),
        otherwise="no VM runs",
    )
    def cut(self, s: CheckpointState) -> CheckpointState:
        began = self.host.now()
        present = self._checkpoints.make(s.online, s.checkpoint)
        seconds = (self.host.now() - began).total_seconds()
        if missing := [vm.name for vm in s.online if vm.id not in present]:
            raise BackupFailed(
                f"No production checkpoint was made of {', '.join(missing)}",
                vms=missing,
                why="its guest did not take part",
                next_action="Look for event 18014 in the Hyper-V-VMMS log: guest volumes without room, its writers.",
                code="18014",
                tr="6.2/2",
            )
        return replace(s, cut=present, leaves=self._checkpoints.leaves(s.online), seconds=seconds)

    @cut.undo
    def merge_back(self, s: CheckpointState) -> None:
        self._checkpoints.discard(s.online, s.checkpoint)

    @step(
        "Snapshot copies of the LUNs",
        tr="6.2/3",
        items=lambda s: tuple(f"{v}: {s.name}" for v in s.volumes),
        counts=lambda s: {"ontap.snapshot.create": len(s.volumes)},
    )
    def snapshots(self, s: CheckpointState) -> CheckpointState:
        self.take(s, what=f"application-consistent backup of {s.dataset}")
        s = self.untouched(s, files=False)
        if self._checkpoints.present(s.online, s.checkpoint) != s.cut:
            raise BackupFailed(
                f"The checkpoints {s.checkpoint} are not those that were made",
                why="somebody has removed or replaced one while the Snapshot copies were taken",
                next_action="Look at the VMs' checkpoints; then try again.",
                tr="6.2/3",
            )
        return replace(s, taken=True)

    @snapshots.undo
    def drop_snapshots(self, s: CheckpointState) -> None:
        self.discard_taken(s, what=f"application-consistent backup of {s.dataset}")

    @step(
        "Merge the checkpoints away",
        tr="6.2/6",
        items=lambda s: tuple(vm.name for vm in s.online),
        when=lambda s: bool(s.online),
        otherwise="there are none",
    )
    def merge(self, s: CheckpointState) -> None:
        merged = self._checkpoints.merged(s.online, s.checkpoint)
        for _ in self.track(s.online):
            next(merged, None)  # whichever VM's disks are merged next
        for _ in merged:
            pass

    @step(
        "Give the VMs their checkpoint type back",
        tr="6.2/6",
        items=lambda s: tuple(vm.name for vm in s.online),
        when=lambda s: any(kind != _PRODUCTION for kind in s.types.values()),
        otherwise="it was not changed",
    )
    def types(self, s: CheckpointState) -> None:
        self._checkpoints.ensure_types(s.types)

    @step(
        "Dissolve the consistency group",
        tr="10",
        items=lambda s: (s.group,),
        when=lambda s: bool(s.group),
        otherwise="none was made for this backup",
    )
    def ungroup(self, s: CheckpointState) -> None:
        self.ungrouped(s)

    @step("Register the backup in SnapInfo", tr="6.2/7", items=lambda s: (f"{s.name}.json",))
    def register(self, s: CheckpointState) -> None:
        self.snapinfo.ensure_backup(s.record)

    @register.undo
    def unregister(self, s: CheckpointState) -> None:
        self.snapinfo.discard_backup(s.dataset, s.name, run=s.run)

    @step(
        "Snapshot copy of the SnapInfo LUN",
        tr="6.3",
        items=lambda s: (f"{s.snapinfo_volume}: {s.name}",),
        counts=lambda s: {"ontap.snapshot.create": 1},
    )
    def protect(self, s: CheckpointState) -> None:
        self.keep_snapinfo(s)

    @protect.undo
    def drop_protection(self, s: CheckpointState) -> None:
        self.drop_snapinfo(s)

    def result(self, state: CheckpointState) -> BackupDone:
        """The backup's record."""
        return BackupDone(state.record, tuple(f"{v}: {state.name}" for v in (*state.volumes, state.snapinfo_volume)))
