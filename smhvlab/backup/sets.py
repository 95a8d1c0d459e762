"""Which shadow copy sets a backup makes: on which hosts, of which volumes, for which VMs (TR 12)."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

from smhvlab.backup.evidence import SetEvidence, VmEvidence
from smhvlab.backup.found import Found
from smhvlab.hyperv import Vm
from smhvlab.nodes import SharedVolume
from smhvlab.snapinfo import BackupLun
from smhvlab.storage import VolumeRef

CSVFS_BUILD = 9200
"""First build of Windows whose shared volumes any node can back up for all (Windows Server 2012)."""

CHECKPOINT_BUILD = 14393
"""First build of Windows whose checkpoints can be application-consistent (Windows Server 2016)."""


@dataclass(frozen=True)
class SetPlan:
    """One shadow copy set that will be made.

    Attributes:
        host: where DiskShadow runs.
        vms: ids of the dataset's VMs in it, by the host on which they are.
        redirect: shared volumes that have to be owned by the host and in redirected access meanwhile, as they are now.
        alone: whether the VMs of other nodes are left to the sets of these.
        suffix: what the names of its Snapshot copies have behind the backup's name.
    """

    host: str
    luns: tuple[BackupLun, ...]
    vms: tuple[tuple[str, str], ...]
    redirect: tuple[SharedVolume, ...] = ()
    alone: bool = False
    suffix: str = ""

    def __str__(self) -> str:
        return f"{self.host}: {', '.join(self.paths)}"

    @property
    def paths(self) -> tuple[str, ...]:
        """The volumes on the host."""
        return tuple(dict.fromkeys(lun.access_path for lun in self.luns))

    @property
    def volumes(self) -> tuple[VolumeRef, ...]:
        """The volumes on the array."""
        found = {VolumeRef(lun.volume_uuid, lun.volume, lun.svm) for lun in self.luns}
        return tuple(sorted(found, key=lambda volume: (volume.svm, volume.name)))

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids of the dataset's VMs in it."""
        return tuple(vm_id for _, vm_id in self.vms)

    def without(self, vm_ids: Collection[str]) -> SetPlan:
        """The same set without these VMs."""
        return replace(self, vms=tuple((host, vm_id) for host, vm_id in self.vms if vm_id not in vm_ids))

    @property
    def hosts(self) -> tuple[str, ...]:
        """The hosts that take part, that of the requestor first."""
        return tuple(dict.fromkeys((self.host, *(host for host, _ in self.vms))))


@dataclass(frozen=True)
class Made:
    """A set that was made and proven.

    Attributes:
        vms: how consistent each VM is, by id.
        partly: names of VMs with disks that Hyper-V leaves out: physical ones, or of the guest's own iSCSI initiator.
    """

    plan: SetPlan
    evidence: SetEvidence
    vms: dict[str, VmEvidence]
    partly: tuple[str, ...] = ()

    def __str__(self) -> str:
        return str(self.plan)

    @property
    def first(self) -> str:
        """Name of the first Snapshot copy as the provider made it."""
        return f"{{{self.evidence.id}}}"

    @property
    def second(self) -> str:
        """Name of the second one, which holds the recovered images."""
        return f"{self.first}_backup"

    def names(self, name: str) -> tuple[tuple[str, str], ...]:
        """What its Snapshot copies are called, and what they are called in a backup of that name."""
        last = f"{name}{self.plan.suffix}"
        return (self.second, f"{last}_backup"), (self.first, last)

    def images(self, name: str, *, shared: bool) -> tuple[BackupLun, ...]:
        """The recovered images: beside each LUN its clone, in the second Snapshot copy.

        ``shared``: whether another set has images of the same volumes for other VMs.
        """
        return tuple(
            replace(
                lun,
                snapshot=f"{name}{self.plan.suffix}_backup",
                path=f"{lun.path}_{self.first}.rws",
                vms=self.plan.ids if shared else (),
            )
            for lun in self.plan.luns
        )


def plan_sets(found: Found, *, build: int, distributed: bool, coordinator: str) -> tuple[SetPlan, ...]:
    """The sets for what a survey has found: one for all, or one on each host that has VMs of the dataset."""
    if distributed:
        return (_plan(found, coordinator, found.machines),)
    plans: list[SetPlan] = []
    for host in dict.fromkeys(sorted(vm.host for vm in found.machines)):
        plan = _plan(found, host, [vm for vm in found.machines if vm.host == host])
        used = {volume for earlier in plans for volume in earlier.volumes}
        shared = any(lun.shared for lun in plan.luns)
        plans.append(
            replace(
                plan,
                redirect=_redirected(found, plan) if build < CSVFS_BUILD else (),
                alone=shared and build >= CSVFS_BUILD,
                suffix=f"_{host}" if used & set(plan.volumes) else "",
            )
        )
    return tuple(plans)


def _plan(found: Found, host: str, machines: Iterable[Vm]) -> SetPlan:
    chosen = list(machines)
    homes = {unique_id: disk for vm in chosen for unique_id, disk in found.disks_of(vm).items()}
    return SetPlan(
        host,
        tuple(found.place(i) for i in sorted(homes, key=lambda i: found.luns[i].name)),
        tuple((vm.host, vm.id) for vm in chosen),
    )


def _redirected(found: Found, plan: SetPlan) -> tuple[SharedVolume, ...]:
    paths = {path.casefold() for path in plan.paths}
    return tuple(volume for volume in found.shared if volume.path.casefold() in paths)
