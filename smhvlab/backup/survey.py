"""What every backup looks at before it touches anything: the dataset's VMs, their files down to the LUNs, refusals.

Nothing here changes the site. A refusal names the thing, the reason, and the section of the TR that says so.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import ClassVar, TypeVar

from smhvlab.backup.eventlog import tell_not_backed_up
from smhvlab.doctor import unfinished
from smhvlab.errors import BackupFailed, CannotBackUp, NotAllowed
from smhvlab.flow import CHOSEN
from smhvlab.hyperv import Vm
from smhvlab.nodes import Node, SharedVolume, home_of
from smhvlab.procedure import Procedure
from smhvlab.site import stamp
from smhvlab.snapdrive import HostDisk
from smhvlab.snapinfo import BackupDisk, BackupLun, BackupVm, Dataset
from smhvlab.storage import LunRef, VolumeRef

MOST_SHARED = 15
"""Cluster shared volumes of one storage system that a dataset may hold (TR 12)."""

MOVING = ("MigratingVirtualMachine", "StorageMigrationPhaseOne", "StorageMigrationPhaseTwo")
_TEMPORARY = re.compile(r"\.rws\Z|_restore_\d\d-\d\d-\d{4}")
"""Names of LUN clones that exist only while a backup is recovered or a restore copies files."""


@dataclass(frozen=True, kw_only=True)
class BackupState:
    """What one backup touches and creates.

    Attributes:
        host: the site's own host, which has the SnapInfo disk.
        luns: still without the name of the Snapshot copy, so that a plan stays the same while time passes.
        excluded: what of the VMs is not in the backup.
        failed: VMs of the dataset that are not in the backup, with the reason (TR 6.6).
        name: ``<Dataset>_MM-dd-yyyy_HH.mm.ss``; the Snapshot copies have the same name.
    """

    dataset: str
    host: str
    volumes: tuple[VolumeRef, ...]
    luns: tuple[BackupLun, ...]
    vms: tuple[BackupVm, ...]
    excluded: tuple[str, ...]
    failed: tuple[str, ...]
    snapinfo_volume: VolumeRef
    snapinfo_disk: HostDisk
    name: str = field(metadata=CHOSEN)
    time: str = field(metadata=CHOSEN)


S = TypeVar("S", bound=BackupState)


@dataclass(frozen=True)
class Found:
    """What a survey has seen.

    Attributes:
        machines: the VMs that can be backed up.
        homes: the disk of each file or folder, by host and path.
        luns: the LUNs behind these disks, by UniqueId.
    """

    dataset: Dataset
    nodes: tuple[Node, ...]
    machines: tuple[Vm, ...]
    failed: tuple[str, ...]
    homes: dict[tuple[str, str], HostDisk]
    shared: tuple[SharedVolume, ...]
    luns: dict[str, LunRef]
    info_disk: HostDisk
    now: datetime

    @property
    def used(self) -> dict[str, HostDisk]:
        """The disks that hold something of the VMs, by UniqueId."""
        return {home.unique_id: home for home in self.homes.values()}

    @property
    def volumes(self) -> tuple[VolumeRef, ...]:
        """The array's volumes behind them."""
        return tuple(sorted({self.luns[i].volume for i in self.used}, key=lambda v: (v.svm, v.name)))

    def disks_of(self, vm: Vm) -> dict[str, HostDisk]:
        """The disks that hold something of one VM, by UniqueId."""
        homes = (self.homes[vm.host, path] for path in files_of(vm))
        return {home.unique_id: home for home in homes}

    def on_shared(self, vm: Vm) -> bool:
        """Whether a VM lies on a cluster shared volume."""
        return any(self.is_shared(disk) for disk in self.disks_of(vm).values())

    def place(self, unique_id: str) -> BackupLun:
        """Where the image of a LUN will be: its own path, in a Snapshot copy that has no name yet."""
        lun, disk = self.luns[unique_id], self.used[unique_id]
        mine = [path for (_, path), home in self.homes.items() if home.unique_id == unique_id]
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
            access_path=max(disk.access_paths, key=lambda access: (_below(mine, access), -len(access))),
            shared=self.is_shared(disk),
            volume_path=disk.volume_path,
        )

    def is_shared(self, disk: HostDisk) -> bool:
        """Whether a disk is a cluster shared volume."""
        return bool(_folded(disk.access_paths) & _folded(volume.path for volume in self.shared))


class BackupProcedure(Procedure[S]):
    """A backup; what all types share. It has no steps of its own.

    Attributes:
        exclusive: whether its VMs cannot be in another such backup at the same time.
    """

    dataset: str
    exclusive: ClassVar[bool] = True

    def look(self) -> Found:
        """Find each VM's files down to their volumes.

        Raises:
            NotFound: no such dataset, or a VM of it is gone.
            NotAllowed: a VM cannot be backed up as it lies, or another flow is at work on the same LUNs.
        """
        dataset = self.snapinfo.dataset(self.dataset)
        nodes = self.nodes.up()
        machines, failed = self._members(dataset, nodes)
        self._refuse_running_flows(machines)
        disks, shared = self.nodes.disks(nodes), self.nodes.shared_volumes()
        homes = {
            (vm.host, path): home_of(path, host=vm.host, disks=disks, shared=shared)
            for vm in machines
            for path in files_of(vm)
        }
        own = self.nodes.own().name
        info_disk = home_of(self.snapinfo.folder() + "\\", host=own, disks=disks, shared=shared)
        everything = self.storage.luns()
        wanted = {home.unique_id for home in (*homes.values(), info_disk) if home is not None}
        luns = {lun.unique_id: lun for lun in everything if lun.unique_id in wanted}
        self._refuse_features(machines)
        lying = self._refuse_foreign_files(homes, luns)
        if info_disk is None or info_disk.unique_id not in luns:
            raise NotAllowed(
                f"The SnapInfo folder {self.snapinfo.folder()} is not on a LUN of the array",
                next_action="Put it on a LUN of its own: site.set_snapinfo(...).",
                tr="5.4",
            )
        found = Found(dataset, nodes, machines, failed, lying, tuple(shared), luns, info_disk, self.site.now())
        if luns[info_disk.unique_id].volume in found.volumes:
            raise NotAllowed(
                f"SnapInfo shares the volume {luns[info_disk.unique_id].volume} with the dataset's VMs",
                next_action="Put SnapInfo on a LUN in a volume of its own: its Snapshot copy comes after the backup.",
                tr="5.4",
            )
        self._refuse_disks(found, disks)
        self._refuse_busy_volumes(found, everything)
        return found

    # --- which VMs

    def _members(self, dataset: Dataset, nodes: Sequence[Node]) -> tuple[tuple[Vm, ...], tuple[str, ...]]:
        by_id = {vm.id: vm for vm in self.nodes.vms(nodes)}
        missing = [member.name for member in dataset.members if member.id not in by_id]
        if missing:
            raise CannotBackUp(
                f"{', '.join(missing)} of the dataset {dataset.name} no longer exists on the host",
                vms=missing,
                next_action="Take the VM out of the dataset, or restore it; a VM that was created anew has a new id.",
                tr="5.2",
            )
        found = [by_id[member.id] for member in dataset.members]
        moving = [vm for vm in found if vm.doing in MOVING]
        failed = tuple(f"{vm.name}: it is being migrated ({vm.doing}) and is not backed up" for vm in moving)
        left = [vm for vm in found if vm not in moving]
        if not left:
            raise NotAllowed(
                f"Every VM of the dataset {dataset.name} is being migrated",
                next_action="Wait until the migration has ended, then try again.",
                why="; ".join(failed),
                tr="6.6",
            )
        return tuple(
            self.nodes[vm.host].hyperv.with_checkpoints(vm) if vm.has_checkpoints else vm for vm in left
        ), failed

    def _refuse_features(self, machines: Sequence[Vm]) -> None:
        for vm in machines:
            remote = [disk.path for disk in vm.disks if disk.path.startswith("\\\\")]
            for present, what in (
                (bool(remote), f"lies on an SMB share ({''.join(remote[:1])})"),
                (vm.fibre_channel, "has a virtual Fibre Channel adapter"),
                (vm.replicated, "is replicated by Hyper-V Replica"),
            ):
                if present:
                    raise NotAllowed(
                        f"{vm.name} {what}",
                        next_action="Take the VM out of the dataset, or do without that feature for it.",
                        why="SnapManager for Hyper-V does not support it",
                        tr="11.8",
                    )

    def _refuse_running_flows(self, machines: Sequence[Vm]) -> None:
        """A backup while a VM is restored would lack its configuration, and nobody would notice before it is needed."""
        names = {text.casefold() for vm in machines for text in (vm.name, vm.id)}
        for run in unfinished(self.site.name, folder=self.site.journals):
            if run.run == self.run_id:
                continue
            what = run.header.flow.rpartition(":")[2]
            parameters = run.header.parameters
            if what.startswith("Restore") and str(parameters.get("vm", "")).casefold() in names:
                state = "is under way" if run.alive else "was interrupted"
                raise NotAllowed(
                    f"A restore of {parameters['vm']} {state}",
                    next_action="Wait for its end." if run.alive else f"smhvlab doctor --resume {run.run} finishes it.",
                    why="a backup during a restore has no configuration of the VM",
                    tr="6.7",
                )
            if self.exclusive and run.alive and what.endswith("Backup") and "Crash" not in what:
                self._refuse_second(str(parameters.get("dataset", "")), machines)

    def _refuse_second(self, other: str, machines: Sequence[Vm]) -> None:
        """One VM can be in one application-consistent backup at a time."""
        known = {d.name.casefold(): d for d in self.snapinfo.datasets()}
        members = known[other.casefold()].members if other.casefold() in known else ()
        both = {member.id for member in members} & {vm.id for vm in machines}
        if both:
            names = ", ".join(vm.name for vm in machines if vm.id in both)
            raise NotAllowed(
                f"A backup of the dataset {other} is under way, with {names}",
                next_action="Wait for its end; give the datasets schedules apart.",
                why="a VM can be in one application-consistent backup at a time",
                tr="6.2",
            )

    # --- where they lie

    def _refuse_foreign_files(
        self, homes: dict[tuple[str, str], HostDisk | None], luns: dict[str, LunRef]
    ) -> dict[tuple[str, str], HostDisk]:
        lying = {place: home for place, home in homes.items() if home is not None and home.unique_id in luns}
        foreign = [path for (host, path) in homes if (host, path) not in lying]
        if foreign:
            raise NotAllowed(
                f"{foreign[0]} is not on a LUN of {self.site.profile.storage.name}",
                next_action="Move all files of the VM (VHDs, configuration, checkpoints) to LUNs of the array.",
                why=f"{len(foreign)} file(s) or folder(s) of the dataset's VMs lie elsewhere",
                tr="6.2",
            )
        return lying

    def _refuse_disks(self, found: Found, disks: Sequence[HostDisk]) -> None:
        shared = [disk for disk in found.used.values() if found.is_shared(disk)]
        redirected = self.nodes.blind() if shared else {}
        resources = {volume.path.casefold(): volume.resource for volume in found.shared}
        for disk in found.used.values():
            if disk.boot:
                raise NotAllowed(
                    f"{disk.host} has started from the LUN that holds VMs (disk {disk.number})",
                    next_action="Move the VMs to another LUN.",
                    why="VMs on a SAN boot LUN are not supported",
                    tr="6.2",
                )
        for disk in shared:
            path = next(path for path in disk.access_paths if path.casefold() in resources)
            if disk.style == "MBR":
                raise NotAllowed(
                    f"Disk {disk.number} ({path}) has an MBR partition table",
                    next_action="Move the VMs to a GPT disk: MBR LUNs are not supported for shared volumes.",
                    tr="4.1",
                )
            apart = redirected.get(resources[path.casefold()], [])
            blind = [n.name for n in found.nodes if n.name in apart or not _sees(n.name, disk.unique_id, disks)]
            if blind:
                raise NotAllowed(
                    f"{path} is not connected to {', '.join(blind)}",
                    next_action="Map its LUN to every node of the cluster, or move the VMs elsewhere.",
                    why="shared volumes of some nodes only (asymmetric clustering) are not supported",
                    tr="11.3",
                )
        self._refuse_mixture(found)
        if len(shared) > MOST_SHARED:
            raise NotAllowed(
                f"The dataset {found.dataset.name} lies on {len(shared)} cluster shared volumes",
                next_action=f"Split it into datasets of at most {MOST_SHARED} shared volumes of one storage system.",
                tr="12",
            )

    def _refuse_mixture(self, found: Found) -> None:
        both = [vm.name for vm in found.machines if len({found.is_shared(d) for d in found.disks_of(vm).values()}) > 1]
        if both:
            raise NotAllowed(
                f"{both[0]} lies partly on a cluster shared volume and partly on another disk",
                next_action="Keep all files of a VM on cluster shared volumes, or none.",
                tr="12",
            )
        sorts = {found.on_shared(vm) for vm in found.machines}
        if len(sorts) > 1:
            some = ", ".join(vm.name for vm in found.machines if not found.on_shared(vm))
            raise NotAllowed(
                f"The dataset {found.dataset.name} mixes VMs on cluster shared volumes with VMs on dedicated disks",
                next_action="Make a dataset of each kind.",
                why=f"on dedicated disks: {some}",
                tr="6.1, 12",
            )

    def _refuse_busy_volumes(self, found: Found, luns: Sequence[LunRef]) -> None:
        """Only one backup or restore may be at work on a volume: others' temporary clones say that one is."""
        volumes = {volume.uuid for volume in found.volumes}
        busy = [lun for lun in luns if lun.volume.uuid in volumes and _TEMPORARY.search(lun.name)]
        if busy:
            raise NotAllowed(
                f"Another backup or restore is at work on the volume {busy[0].volume}",
                next_action="Wait for its end; if nothing runs, look for what it left with smhvlab doctor.",
                why=f"{busy[0]} exists only while one runs",
                tr="6.2, appendix",
            )

    def offline(self, found: Found, *, allowed: bool, location: bool = True) -> dict[str, str]:
        """Why VMs cannot take part while they run, by id (TR 6.4).

        Args:
            allowed: whether they may be backed up all the same: saved, or off.
            location: whether it matters where a VM keeps its checkpoints (until Windows Server 2012).

        Raises:
            NotAllowed: there are such VMs, and that is not allowed.
        """
        answering: set[str] = set()
        for name in dict.fromkeys(vm.host for vm in found.machines):
            answering |= self.nodes[name].hyperv.answering()
        reasons = {
            vm.id: why for vm in found.machines if (why := _why_offline(vm, found, answering, location=location))
        }
        if reasons and not allowed:
            names = {vm.id: vm.name for vm in found.machines}
            raise CannotBackUp(
                f"{', '.join(names[i] for i in reasons)} cannot be backed up online",
                vms=[names[i] for i in reasons],
                next_action="Mend that; or take such VMs into a dataset whose policy allows the saved state "
                "(allow_saved_state=True): they then do not run while they are saved.",
                why="; ".join(f"{names[i]} {why}" for i, why in reasons.items()),
                tr="6.4",
            )
        return reasons

    # --- what the records are made of

    def common(self, found: Found) -> dict[str, object]:
        """The fields that the states of all types share."""
        return {
            "dataset": found.dataset.name,
            "host": self.nodes.own().name,
            "volumes": found.volumes,
            "luns": tuple(found.place(i) for i in sorted(found.used, key=lambda i: found.luns[i].name)),
            "vms": self._vms(found),
            "excluded": self._excluded(found),
            "failed": found.failed,
            "snapinfo_volume": found.luns[found.info_disk.unique_id].volume,
            "snapinfo_disk": found.info_disk,
            "name": f"{found.dataset.name}_{stamp(found.now)}",
            "time": found.now.isoformat(),
        }

    def _vms(self, found: Found) -> tuple[BackupVm, ...]:
        files: dict[str, str] = {}
        for node in found.nodes:
            if mine := [vm for vm in found.machines if vm.host == node.name]:
                files.update(node.hyperv.configuration_files(mine))
        return tuple(
            BackupVm(
                id=vm.id,
                name=vm.name,
                state=vm.state,
                generation=vm.generation,
                configuration=vm.configuration,
                configuration_file=files[vm.id],
                checkpoints=vm.checkpoints,
                parents=vm.parents,
                host=vm.host,
                disks=tuple(
                    BackupDisk(
                        disk.path,
                        disk.controller_type,
                        disk.controller_number,
                        disk.controller_location,
                        found.homes[vm.host, disk.path].unique_id,
                    )
                    for disk in vm.disks
                    if not disk.passthrough
                ),
            )
            for vm in found.machines
        )

    def _excluded(self, found: Found) -> tuple[str, ...]:
        """Pass-through disks, and LUNs that guests have connected themselves (TR 4.1)."""
        texts = [
            f"{vm.name}: pass-through disk {disk.disk_number}"
            for vm in found.machines
            for disk in vm.disks
            if disk.passthrough
        ]
        direct = self.storage.luns_of_initiators()
        for vm in found.machines:
            for initiator, names in sorted(direct.items()):
                host = initiator.rpartition(":")[2].partition(".")[0]
                if initiator.startswith("iqn.1991-05.com.microsoft:") and host.casefold() == vm.name.casefold():
                    texts += [f"{vm.name}: {name}, connected inside the guest" for name in names]
        return tuple(texts)

    # --- what every type ends with

    def failed(self, error: Exception) -> None:
        """Event 106 on the site's own host, if the backup failed because of its VMs."""
        vms = error.vms if isinstance(error, (CannotBackUp, BackupFailed)) else ()
        if not vms:
            return
        reason = str(error).replace("\n ", "\n")
        if problem := tell_not_backed_up(self.host, dataset=self.dataset, vms=vms, reason=reason):
            error.add_note(problem)

    def keep_snapinfo(self, s: BackupState) -> None:
        """Snapshot copy of the SnapInfo LUN, with everything written."""
        self.snapdrive.flush(s.snapinfo_disk)
        self.storage.ensure_snapshots([s.snapinfo_volume], s.name, comment="SnapInfo after the backup")


def files_of(vm: Vm) -> list[str]:
    """Every place that has to be on the array: VHDs and what they are based on, configuration, checkpoints."""
    folders = dict.fromkeys((vm.configuration + "\\", vm.checkpoints + "\\"))
    return [*(disk.path for disk in vm.disks if not disk.passthrough), *vm.parents, *folders]


def _below(paths: Iterable[str], access: str) -> int:
    """How many of the paths lie below an access path: a disk can have several, and VMs use one of them."""
    return sum(path.casefold().startswith(access.casefold()) for path in paths)


def named(luns: Iterable[BackupLun], snapshot: str) -> tuple[BackupLun, ...]:
    """The same images, in a Snapshot copy of that name."""
    return tuple(replace(lun, snapshot=snapshot) for lun in luns)


def _why_offline(vm: Vm, found: Found, answering: set[str], *, location: bool) -> str:
    if not vm.running:
        return f"is {vm.state}"
    if vm.id not in answering:
        return "has its integration service for backup switched off"
    if location and not vm.has_checkpoints:
        homes = {found.homes[vm.host, disk.path].unique_id for disk in vm.disks if not disk.passthrough}
        if found.homes[vm.host, vm.checkpoints + "\\"].unique_id not in homes:
            return "keeps its VM snapshots on another LUN than its VHDs: create one VM snapshot first (TR 6.2)"
    return ""


def _sees(host: str, unique_id: str, disks: Sequence[HostDisk]) -> bool:
    return any(disk.host == host and disk.unique_id == unique_id for disk in disks)


def _folded(texts: Iterable[str]) -> set[str]:
    return {text.casefold() for text in texts}
