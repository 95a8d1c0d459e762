"""Crash-consistent backup of a dataset (TR 6.2 workflow, 10): Snapshot copies of the LUNs, registered in SnapInfo."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from html import escape

from smhvlab.errors import NotAllowed
from smhvlab.flow import CHOSEN
from smhvlab.hyperv import Vm
from smhvlab.procedure import Procedure
from smhvlab.site import stamp
from smhvlab.snapdrive import HostDisk
from smhvlab.snapinfo import Backup, BackupDisk, BackupLun, BackupVm, Dataset
from smhvlab.steps import step
from smhvlab.storage import LunRef, VolumeRef


@dataclass(frozen=True)
class BackupState:
    """What one backup touches and creates.

    Attributes:
        luns: still without the name of the Snapshot copy, so that a plan stays the same while time passes.
        name: ``<Dataset>_MM-dd-yyyy_HH.mm.ss``; the Snapshot copies have the same name.
        group: name of the consistency group made for this backup, "" if none is.
        existing_group: UUID of a consistency group that already holds exactly these volumes, "" if none does.
    """

    dataset: str
    host: str
    volumes: tuple[VolumeRef, ...]
    luns: tuple[BackupLun, ...]
    vms: tuple[BackupVm, ...]
    excluded: tuple[str, ...]
    snapinfo_volume: VolumeRef
    snapinfo_disk: HostDisk
    existing_group: str
    common_point: bool
    name: str = field(metadata=CHOSEN)
    time: str = field(metadata=CHOSEN)
    group: str = field(metadata=CHOSEN)

    @property
    def record(self) -> Backup:
        """What SnapInfo keeps."""
        if len(self.volumes) == 1:
            point = "One volume: one Snapshot copy is one point in time."
        elif self.common_point:
            point = f"{len(self.volumes)} volumes were taken in one consistency group: one point in time for all."
        else:
            point = f"{len(self.volumes)} volumes were taken one after the other: no common point in time."
        return Backup(
            name=self.name,
            dataset=self.dataset,
            time=self.time,
            consistency="crash",
            common_point=self.common_point,
            host=self.host,
            vms=self.vms,
            luns=tuple(replace(lun, snapshot=self.name) for lun in self.luns),
            evidence=(
                "Crash-consistent: no guest was quiesced; its state is that after a loss of power.",
                point,
            ),
            excluded=self.excluded,
        )


@dataclass(frozen=True)
class BackupDone:
    """A backup that was taken."""

    backup: Backup
    snapshots: tuple[str, ...]

    def __str__(self) -> str:
        backup = self.backup
        lines = [f"Backup {backup.name}: {backup.registered_as}; {', '.join(vm.name for vm in backup.vms)}"]
        lines += [f"  {sentence}" for sentence in backup.evidence]
        return "\n".join(lines + [f"  Not in the backup: {text}" for text in backup.excluded])

    def _repr_html_(self) -> str:
        backup = self.backup
        rows = "".join(
            f"<tr><td>{escape(lun.volume)}</td><td>{escape(lun.snapshot)}</td><td>{escape(lun.path)}</td></tr>"
            for lun in backup.luns
        )
        evidence = "".join(f"<li>{escape(sentence)}</li>" for sentence in backup.evidence)
        excluded = "".join(f"<li>not in the backup: {escape(text)}</li>" for text in backup.excluded)
        vms = escape(", ".join(vm.name for vm in backup.vms))
        return (
            f"<p><b>{escape(backup.name)}</b>: {escape(backup.registered_as)}; {vms}</p>"
            f"<table><tr><th>volume</th><th>Snapshot copy</th><th>LUN</th></tr>{rows}</table>"
            f"<ul>{evidence}{excluded}</ul>"
        )


class CrashConsistentBackup(Procedure[BackupState]):
    """Back up a dataset, crash-consistent."""

    tr = "6.2, 10"

    def __init__(self, site: object, *, dataset: str) -> None:
        super().__init__(site, dataset=dataset)
        self.dataset = dataset

    def survey(self) -> BackupState:
        """Find each VM's files down to their volumes and choose the backup's name.

        Raises:
            NotFound: no such dataset, or a VM of it is gone.
            NotAllowed: a VM has files outside the array's LUNs, or shares its volume with SnapInfo.
        """
        dataset = self.snapinfo.dataset(self.dataset)
        machines = self._members(dataset)
        disks = self.snapdrive.disks()
        homes = {path: self.snapdrive.folder_disk(path, disks) for vm in machines for path in _files(vm)}
        info_disk = self.snapdrive.folder_disk(self.snapinfo.folder() + "\\", disks)
        ids = {home.unique_id for home in (*homes.values(), info_disk) if home is not None}
        luns = self.storage.luns_by_disk(ids)
        self._refuse_foreign_files(homes, luns)
        if info_disk is None or info_disk.unique_id not in luns:
            raise NotAllowed(
                f"The SnapInfo folder {self.snapinfo.folder()} is not on a LUN of the array",
                next_action="Put it on a LUN of its own: site.set_snapinfo(...).",
                tr="5.4",
            )
        used = {home.unique_id: home for home in homes.values() if home is not None}
        volumes = tuple(sorted({luns[i].volume for i in used}, key=lambda v: (v.svm, v.name)))
        snapinfo_volume = luns[info_disk.unique_id].volume
        if snapinfo_volume in volumes:
            raise NotAllowed(
                f"SnapInfo shares the volume {snapinfo_volume} with VMs of the dataset",
                next_action="Give SnapInfo a LUN on a volume of its own.",
                tr="5.4",
            )
        now = self.site.now()
        name = f"{dataset.name}_{stamp(now)}"
        existing, group, common = self._point(volumes, name)
        return BackupState(
            dataset=dataset.name,
            host=self.site.profile.hyperv[0].name,
            volumes=volumes,
            luns=tuple(_place(luns[i], used[i]) for i in sorted(used, key=lambda i: luns[i].name)),
            vms=tuple(self._vm(vm, homes) for vm in machines),
            excluded=tuple(
                f"{vm.name}: pass-through disk {disk.disk_number}"
                for vm in machines
                for disk in vm.disks
                if disk.passthrough
            ),
            snapinfo_volume=snapinfo_volume,
            snapinfo_disk=info_disk,
            existing_group=existing,
            common_point=common,
            name=name,
            time=now.isoformat(),
            group=group,
        )

    def _members(self, dataset: Dataset) -> list[Vm]:
        by_id = {vm.id: vm for vm in self.hyperv.vms()}
        missing = [member.name for member in dataset.members if member.id not in by_id]
        if missing:
            raise NotAllowed(
                f"{', '.join(missing)} of the dataset {dataset.name} no longer exists on the host",
                next_action="Take the VM out of the dataset, or restore it; a VM that was created anew has a new id.",
                tr="5.2",
            )
        found = [by_id[member.id] for member in dataset.members]
        return [self.hyperv.with_checkpoints(vm) if vm.has_checkpoints else vm for vm in found]

    def _refuse_foreign_files(self, homes: dict[str, HostDisk | None], luns: dict[str, LunRef]) -> None:
        foreign = [path for path, home in homes.items() if home is None or home.unique_id not in luns]
        if foreign:
            raise NotAllowed(
                f"{foreign[0]} is not on a LUN of {self.site.profile.storage.name}",
                next_action="Move all files of the VM (VHDs, configuration, checkpoints) to LUNs of the array.",
                why=f"{len(foreign)} file(s) or folder(s) of the dataset's VMs lie elsewhere",
                tr="6.2",
            )
        mbr = [home for home in homes.values() if home is not None and home.style == "MBR"]
        if mbr:
            raise NotAllowed(
                f"Disk {mbr[0].number} has an MBR partition table",
                next_action="Move the VMs to a GPT disk: MBR LUNs are not supported for shared volumes.",
                tr="4.1",
            )

    def _point(self, volumes: Sequence[VolumeRef], name: str) -> tuple[str, str, bool]:
        """Existing group, name of a group to make, and whether there will be one point in time."""
        if len(volumes) == 1:
            return "", "", True
        existing = self.storage.group_over(volumes)
        if existing is not None:
            return existing, "", True
        if self.storage.grouped_volumes() & {v.uuid for v in volumes} or len({v.svm for v in volumes}) > 1:
            return "", "", False  # a volume can be in one consistency group only
        return "", f"smhvlab_{name}".replace(".", "_"), True

    def _vm(self, vm: Vm, homes: dict[str, HostDisk | None]) -> BackupVm:
        return BackupVm(
            id=vm.id,
            name=vm.name,
            state=vm.state,
            generation=vm.generation,
            configuration=vm.configuration,
            configuration_file=self.hyperv.configuration_file(vm),
            checkpoints=vm.checkpoints,
            parents=vm.parents,
            disks=tuple(
                BackupDisk(d.path, d.controller_type, d.controller_number, d.controller_location, home.unique_id)
                for d in vm.disks
                if not d.passthrough and (home := homes[d.path]) is not None
            ),
        )

    @step(
        "Consistency group over the volumes",
        tr="10",
        items=lambda s: (s.group,),
        when=lambda s: bool(s.group),
        otherwise="one volume needs none, or the array offers no common point",
    )
    def group(self, s: BackupState) -> None:
        self.storage.ensure_group(s.group, s.volumes)

    @group.undo
    def drop_group(self, s: BackupState) -> None:
        self.storage.discard_group(s.group)

    @step(
        "Snapshot copies of the LUNs",
        tr="6.2/3",
        items=lambda s: tuple(f"{v}: {s.name}" for v in s.volumes),
        counts=lambda s: {"ontap.snapshot.create": len(s.volumes)},
    )
    def snapshots(self, s: BackupState) -> None:
        comment = f"crash-consistent backup of {s.dataset}"
        if s.group or s.existing_group:
            group = s.existing_group or self.storage.ensure_group(s.group, s.volumes)
            self.storage.ensure_group_snapshot(group, s.volumes, s.name, comment=comment)
        else:
            self.storage.ensure_snapshots(s.volumes, s.name, comment=comment)

    @snapshots.undo
    def drop_snapshots(self, s: BackupState) -> None:
        self.storage.discard_snapshots(s.volumes, s.name)

    @step(
        "Dissolve the consistency group",
        tr="10",
        items=lambda s: (s.group,),
        when=lambda s: bool(s.group),
        otherwise="none was made for this backup",
    )
    def ungroup(self, s: BackupState) -> None:
        self.storage.discard_group(s.group)

    @step("Register the backup in SnapInfo", tr="6.2/4", items=lambda s: (f"{s.name}.json",))
    def register(self, s: BackupState) -> None:
        self.snapinfo.ensure_backup(s.record)

    @register.undo
    def unregister(self, s: BackupState) -> None:
        self.snapinfo.discard_backup(s.dataset, s.name)

    @step(
        "Snapshot copy of the SnapInfo LUN",
        tr="6.3",
        items=lambda s: (f"{s.snapinfo_volume}: {s.name}",),
        counts=lambda s: {"ontap.snapshot.create": 1},
    )
    def protect(self, s: BackupState) -> None:
        self.snapdrive.flush(s.snapinfo_disk)
        self.storage.ensure_snapshots([s.snapinfo_volume], s.name, comment="SnapInfo after the backup")

    @protect.undo
    def drop_protection(self, s: BackupState) -> None:
        self.storage.discard_snapshots([s.snapinfo_volume], s.name)

    def result(self, state: BackupState) -> BackupDone:
        """The backup's record."""
        return BackupDone(state.record, tuple(f"{v}: {state.name}" for v in (*state.volumes, state.snapinfo_volume)))


def _files(vm: Vm) -> list[str]:
    """Every place that has to be on the array: VHDs and what they are based on, configuration, checkpoints."""
    folders = dict.fromkeys((vm.configuration + "\\", vm.checkpoints + "\\"))
    return [*(disk.path for disk in vm.disks if not disk.passthrough), *vm.parents, *folders]


def _place(lun: LunRef, disk: HostDisk) -> BackupLun:
    return BackupLun(
        svm=lun.svm,
        volume=lun.volume.name,
        volume_uuid=lun.volume.uuid,
        snapshot="",
        path=lun.path,
        lun_uuid=lun.uuid,
        serial_number=lun.serial_number,
        unique_id=lun.unique_id,
        disk_guid=disk.guid,
        access_path=min(disk.access_paths, key=len),
    )
