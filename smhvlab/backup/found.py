"""What the survey of a backup has found: the dataset's VMs, and their files down to the LUNs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime

from smhvlab.hyperv import Vm
from smhvlab.nodes import Node, SharedVolume
from smhvlab.snapdrive import HostDisk
from smhvlab.snapinfo import BackupLun, Dataset
from smhvlab.storage import LunRef, VolumeRef


@dataclass(frozen=True)
class Found:
    """What a survey has seen.

    Attributes:
        machines: the VMs that can be backed up.
        homes: the disk of each file or folder, by host and path.
        luns: the LUNs behind these disks, by UniqueId.
        build: of the hosts' Windows.
        warnings: what a backup is told of, and does not refuse.
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
    build: int
    warnings: tuple[str, ...] = ()

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
        return bool(folded(disk.access_paths) & folded(volume.path for volume in self.shared))


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


def folded(texts: Iterable[str]) -> set[str]:
    """The texts as Windows compares them."""
    return {text.casefold() for text in texts}
