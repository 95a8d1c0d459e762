"""What every backup looks at before it touches anything, and what its record is made of; nothing here changes a VM."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, TypeVar
from uuid import uuid4

from smhvlab.backup.eventlog import tell_not_backed_up
from smhvlab.backup.found import Found, files_of, folded
from smhvlab.backup.refusals import (
    kept_checkpoints,
    other_stations,
    refuse_borrowed,
    refuse_disks,
    refuse_foreign_files,
    refuse_restored,
    under_way,
    why_offline,
)
from smhvlab.backup.sets import CHECKPOINT_BUILD, CSVFS_BUILD
from smhvlab.backup.unsupported import features_in_use, refuse_features, refuse_share
from smhvlab.doctor import unfinished
from smhvlab.errors import BackupFailed, CannotBackUp, NotAllowed, OntapError
from smhvlab.flow import CHOSEN
from smhvlab.hyperv import MOVING, Vm, disk_files
from smhvlab.nodes import Node, home_of
from smhvlab.procedure import Procedure
from smhvlab.restore.announced import PART, Announcements, seat_of
from smhvlab.site import stamp
from smhvlab.snapdrive import HostDisk
from smhvlab.snapinfo import BackupDisk, BackupLun, BackupVm, Dataset
from smhvlab.storage import VolumeRef
from smhvlab.wires.wave import collect

_WINDOWS = "iqn.1991-05.com.microsoft:"
_SNAPINFO = "SnapInfo after the backup"
_BUSY = frozenset({"1520351", "53411918"})
"""ONTAP refuses a Snapshot copy, of a volume or of a consistency group, while clones of LUNs are being made there,"""
_BUSY_TRIES, _BUSY_PAUSE = 100, 10
"""and SnapDrive tries again so often, with such a pause in seconds (TR appendix)."""


@dataclass(frozen=True, kw_only=True)
class BackupState:
    """What one backup touches and creates.

    Attributes:
        host: the site's own host, which has the SnapInfo disk.
        luns: still without the name of the Snapshot copy, so that a plan stays the same while time passes.
        excluded: what of the VMs is not in the backup.
        failed: VMs of the dataset that are not in the backup, with the reason (TR 6.6).
        warnings: what else the record should tell: features that are not supported, other backups at work.
        name: ``<Dataset>_MM-dd-yyyy_HH.mm.ss``; the Snapshot copies have the same name.
        moved: VMs whose migration has begun since the survey, by id, with the reason: they are not in the backup.
        run: what this run knows its own work by: names are those of a second, in which others may begin too.
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
    warnings: tuple[str, ...] = field(default=(), metadata=CHOSEN)
    moved: dict[str, str] = field(default_factory=dict, metadata=CHOSEN)
    run: str = field(default="", metadata=CHOSEN)

    def comment(self, what: str) -> str:
        """The comment of a Snapshot copy of this run."""
        return f"{what}, run {self.run}" if self.run else what

    @property
    def own_name(self) -> str:
        """What only this run calls a thing of its own for as long as it works."""
        return f"{self.name}_{self.run}" if self.run else self.name

    @property
    def kept(self) -> tuple[BackupVm, ...]:
        """The VMs that the backup holds."""
        return tuple(vm for vm in self.vms if vm.id not in self.moved)

    @property
    def not_kept(self) -> tuple[str, ...]:
        """The VMs of the dataset that it does not hold, with the reason (TR 6.6)."""
        return (*self.failed, *self.moved.values())


S = TypeVar("S", bound=BackupState)


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
        refuse_share(self.snapinfo.folder())
        listed = self.snapinfo.files("Datasets", PART)
        dataset = self.snapinfo.dataset(self.dataset, [path for path in listed if path.endswith(".toml")])
        nodes = self.nodes.up()
        runs = [r for r in unfinished(self.site.name, folder=self.site.journals) if r.run != self.run_id]
        refuse_restored(
            dataset, Announcements(self.snapinfo).all(listed), runs, seat=seat_of(self.site.name, self.site.journals)
        )
        machines, failed = self._members(dataset, nodes)
        warnings = under_way(runs, machines, self.snapinfo.datasets, exclusive=self.exclusive)
        warnings += kept_checkpoints(machines)
        refuse_features(machines)
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
        lying = refuse_foreign_files(homes, luns, array=self.site.profile.storage.name)
        if info_disk is None or info_disk.unique_id not in luns:
            raise NotAllowed(
                f"The SnapInfo folder {self.snapinfo.folder()} is not on a LUN of the array",
                next_action="Put it on a LUN of its own: site.set_snapinfo(...).",
                tr="5.4",
            )
        build = self.nodes.build()
        found = Found(dataset, nodes, machines, failed, lying, tuple(shared), luns, info_disk, self.site.now(), build)
        if luns[info_disk.unique_id].volume in found.volumes:
            raise NotAllowed(
                f"SnapInfo shares the volume {luns[info_disk.unique_id].volume} with the dataset's VMs",
                next_action="Put SnapInfo on a LUN in a volume of its own: its Snapshot copy comes after the backup.",
                tr="5.4",
            )
        refuse_borrowed(found)
        refuse_disks(found, self.nodes, disks)
        warnings += other_stations(found, everything, exclusive=self.exclusive)
        if CSVFS_BUILD <= build < CHECKPOINT_BUILD:
            warnings += features_in_use(nodes)
        return replace(found, warnings=tuple(dict.fromkeys(warnings)))

    # --- which VMs

    def _members(self, dataset: Dataset, nodes: Sequence[Node]) -> tuple[tuple[Vm, ...], tuple[str, ...]]:
        by_id = {vm.id: vm for vm in self.nodes.vms(nodes)}
        missing = [member.name for member in dataset.members if member.id not in by_id]
        if missing:
            raise CannotBackUp(
                f"{', '.join(missing)} of the dataset {dataset.name} no longer exists on the host",
                vms=missing,
                next_action="Wait if somebody restores it now; else take it out of the dataset, or restore it. A VM "
                "that was created anew has a new id.",
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
        return tuple(self._with_files(left)), failed

    def _with_files(self, machines: Sequence[Vm]) -> list[Vm]:
        """The VMs with what their disks are based on and, where there are any, their checkpoints."""
        plain = [vm for vm in machines if not vm.has_checkpoints]
        by_host = {host: [vm for vm in plain if vm.host == host] for host in dict.fromkeys(vm.host for vm in plain)}
        asked = [host for host, vms in by_host.items() if disk_files(vms)]
        answers = collect(self.nodes[host].hyperv.begin_parents(by_host[host]) for host in asked)
        based = dict(zip(asked, answers, strict=True))
        known = {
            vm.id: vm
            for host, vms in by_host.items()
            for vm in self.nodes[host].hyperv.with_parents(vms, based.get(host, ()))
        }
        return [known.get(vm.id) or self.nodes[vm.host].hyperv.with_checkpoints(vm) for vm in machines]

    def without_moving(self, s: S, now: Iterable[Vm]) -> S:
        """The state without VMs whose migration has begun since the survey; the others go on (TR 6.6).

        Raises BackupFailed if there are no others.
        """
        doing = {vm.id: vm.doing for vm in now if vm.doing in MOVING}
        moved = {
            vm.id: f"{vm.name}: its migration began during the backup ({doing[vm.id]}); it is not backed up"
            for vm in s.kept
            if vm.id in doing
        }
        if moved and len(moved) == len(s.kept):
            raise BackupFailed(
                f"The migration of every VM of the dataset {s.dataset} began during the backup",
                vms=[vm.name for vm in s.kept],
                next_action="Wait until the migration has ended, then try again.",
                why="; ".join(moved.values()),
                tr="6.6",
            )
        return replace(s, moved={**s.moved, **moved})

    # --- whether they can take part

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
        reasons = {vm.id: why for vm in found.machines if (why := why_offline(vm, found, answering, location=location))}
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
            "warnings": found.warnings,
            "name": f"{found.dataset.name}_{stamp(found.now)}",
            "time": found.now.isoformat(),
            "run": uuid4().hex[:8],
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
        guests = [initiator for initiator in direct if self._of_guest(initiator)]
        if not guests:
            return tuple(texts)
        computers: dict[str, str] = {}
        for name in dict.fromkeys(vm.host for vm in found.machines):
            computers.update(self.nodes[name].hyperv.computer_names())
        for vm in found.machines:
            known = folded((vm.name, computers.get(vm.id, "").partition(".")[0]))
            for initiator in sorted(guests):
                if _computer(initiator) in known:
                    texts += [f"{vm.name}: {name}, connected inside the guest" for name in direct[initiator]]
        return tuple(texts)

    def _of_guest(self, initiator: str) -> bool:
        """Whether an initiator may be that of a guest: one of Windows, and none of the site's hosts."""
        return initiator.startswith(_WINDOWS) and _computer(initiator) not in folded(self.nodes.names)

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
        note = s.comment(_SNAPINFO)
        self.patiently(lambda: self.storage.ensure_snapshots([s.snapinfo_volume], s.name, comment=note))

    def discard_copy(self, volume: VolumeRef, name: str) -> None:
        """No such Snapshot copy; a provider that waited in vain for its clones leaves the volume busy for a while."""
        self.patiently(lambda: self.storage.discard_snapshots([volume], name))

    def drop_snapinfo(self, s: BackupState) -> None:
        """None of this run's Snapshot copy of the SnapInfo LUN."""
        self.storage.discard_snapshots([s.snapinfo_volume], s.name, comment=s.comment(_SNAPINFO))

    def patiently(self, work: Callable[[], None]) -> None:
        """Do what the array refuses while clones of LUNs are being made in a volume, as soon as they are (TR appendix).

        ``work`` has to be something that can be done again.
        """
        for attempt in range(_BUSY_TRIES):
            if attempt:
                self.host.sleep(_BUSY_PAUSE)
            try:
                work()
            except OntapError as error:
                if error.code not in _BUSY or attempt == _BUSY_TRIES - 1:
                    raise
            else:
                return


def _computer(initiator: str) -> str:
    """The computer in the name that Windows gives its initiator, folded and without its domain."""
    return initiator.removeprefix(_WINDOWS).partition(".")[0].casefold()
