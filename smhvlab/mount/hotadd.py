"""A virtual disk of a mounted backup in a running VM, and taking it away again (TR 6.8: Hot Disk Add)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from html import escape

from smhvlab.errors import NotAllowed, NotFound
from smhvlab.flow import CHOSEN
from smhvlab.hyperv import Vm
from smhvlab.mount.connect import RECOVERED
from smhvlab.mount.image import Placement
from smhvlab.mount.mounts import Mount, Mounts
from smhvlab.mount.vhdimage import DiskImage, VirtualDisks, disk_images
from smhvlab.procedure import Procedure
from smhvlab.site import own_stamp
from smhvlab.snapinfo import Backup, BackupLun, BackupVm
from smhvlab.steps import step
from smhvlab.vmnames import one_named


@dataclass(frozen=True)
class HotAddState:
    """Which disk goes to which VM."""

    mount: Mount
    disk: DiskImage
    vm: str
    vm_id: str
    host: str
    child: str = field(metadata=CHOSEN)


@dataclass(frozen=True)
class HotAdded:
    """A disk that a running VM got, or had to give back (``added`` is False)."""

    mount: str
    vm: str
    disk: str
    added: bool = True

    def __str__(self) -> str:
        if self.added:
            return f"{self.vm} has {self.disk}; log in to it to see the new drive, then site.detach({self.mount!r})"
        return f"{self.vm} no longer has a disk of {self.mount}"

    def _repr_html_(self) -> str:
        return f"<p>{escape(str(self))}</p>"


class HotAddDisk(Procedure[HotAddState]):
    """Hot-add a virtual disk of a mounted backup to a running VM."""

    tr = "6.8"

    def __init__(self, site: object, *, mount: str, vm: str, to: str, disk: int = 0) -> None:
        super().__init__(site, mount=mount, vm=vm, to=to, disk=disk)
        self.mount = mount
        self.vm = vm
        self.to = to
        self.disk = disk

    def survey(self) -> HotAddState:
        """Find the disk's image and the VM.

        Raises:
            NotFound: no such mount, VM or disk. NotUnique: several VMs have that name.
            NotAllowed: the VM does not run, or runs on another host than the one that has the mount; what is mounted
                is the image for other VMs.
        """
        mount = Mounts(self.snapinfo).one(self.mount)
        backup = self.snapinfo.backup(mount.backup)
        then = backup.named(self.vm, tr="6.8")
        places = _place(mount, backup, then)
        images = {image.number: image for image in disk_images(backup, (then,), [mount.image], places)}
        if self.disk not in images:
            raise NotFound(
                f"{mount.name} has no disk {self.disk} of {then.name}",
                next_action=f"It has {', '.join(map(str, images)) or 'none of its disks: name another mount'}.",
                tr="6.8",
            )
        target = one_named(self.to, self.nodes.vms())
        if not target.running:
            raise NotAllowed(
                f"{target.name} is {target.state}",
                next_action="Start it: a disk is hot-added to one that runs.",
                tr="6.8",
            )
        if target.host != mount.host and mount.image.placement is not Placement.SHARED:
            raise NotAllowed(
                f"{target.name} runs on {target.host}, {mount.name} is on {mount.host}",
                next_action=f'Mount the backup with host="{target.host}", or with csv=True.',
                tr="6.8",
            )
        return HotAddState(
            mount, images[self.disk], target.name, target.id, target.host, _child(images[self.disk], self.site.now())
        )

    @step("Differencing disk over the image", tr="6.8/1", items=lambda s: (s.child,))
    def make_child(self, s: HotAddState) -> None:
        virtual = VirtualDisks(self.nodes[s.host].host)
        virtual.need_chain(s.disk.shown, (s.mount.image.access_path,))
        virtual.ensure_child(s.disk, s.child)

    @make_child.undo
    def drop_child(self, s: HotAddState) -> None:
        VirtualDisks(self.nodes[s.host].host).discard_file(s.child)

    @step("Add it to the VM's SCSI controller", tr="6.8/3", items=lambda s: (s.vm,))
    def add(self, s: HotAddState) -> None:
        node = self.nodes[s.host]
        VirtualDisks(node.host).ensure_added(node.hyperv, s.vm_id, s.child)

    @add.undo
    def remove(self, s: HotAddState) -> None:
        node = self.nodes[s.host]
        VirtualDisks(node.host).discard_added(node.hyperv, s.vm_id, (s.child,))

    def result(self, state: HotAddState) -> HotAdded:
        """What to do next."""
        return HotAdded(state.mount.name, state.vm, state.child)


@dataclass(frozen=True)
class DetachState:
    """The VMs that have disks of a mount, and the files of these disks."""

    mount: Mount
    vms: tuple[Vm, ...]
    files: tuple[str, ...]


class DetachDisks(Procedure[DetachState]):
    """Take the disks of a mounted backup away from the VMs that have them."""

    tr = "6.8"

    def __init__(self, site: object, *, mount: str) -> None:
        super().__init__(site, mount=mount)
        self.mount = mount

    def survey(self) -> DetachState:
        """Find the VMs. Raises NotFound: no such mount, or no VM has a disk of it."""
        mount = Mounts(self.snapinfo).one(self.mount)
        path = mount.image.access_path.casefold()
        users = tuple(vm for vm in self.nodes.vms() if any(d.path.casefold().startswith(path) for d in vm.disks))
        if not users:
            raise NotFound(
                f"No VM has a disk of {mount.name}",
                next_action=f'site.unmount("{mount.name}") takes it away.',
                tr="6.8",
            )
        files = tuple(d.path for vm in users for d in vm.disks if d.path.casefold().startswith(path))
        return DetachState(mount, users, files)

    def losses(self, state: DetachState) -> Sequence[str]:
        """What was written to the disks."""
        names = ", ".join(vm.name for vm in state.vms)
        return (f"What {names} has written to the disks of {state.mount.name} goes with them.",)

    @step("Remove the disks from the VMs", tr="6.8/5", items=lambda s: s.vms, pivot=True)
    def remove(self, s: DetachState) -> None:
        for vm in self.track(s.vms):
            node = self.nodes.of_vm(vm.id)
            if node is not None:
                VirtualDisks(node.host).discard_added(node.hyperv, vm.id, (s.mount.image.access_path,))

    @step("Delete the differencing disks", tr="6.8/5", items=lambda s: s.files)
    def discard(self, s: DetachState) -> None:
        host = self.nodes[s.vms[0].host].host
        for path in self.track(s.files):
            VirtualDisks(host).discard_file(path)

    def result(self, state: DetachState) -> HotAdded:
        """Who gave them back."""
        return HotAdded(state.mount.name, ", ".join(vm.name for vm in state.vms), "", added=False)


def _place(mount: Mount, backup: Backup, vm: BackupVm) -> list[BackupLun]:
    """What of the backup is mounted: the VM's image of that LUN; none if none of its disks is on it.

    Raises NotAllowed: it is the image for other VMs.
    """
    there = [lun for lun in backup.luns_of(vm.id) if lun.access_path == mount.place]
    shown = [lun for lun in there if _shows(mount, lun)]
    if there and not shown:
        raise NotAllowed(
            f"{mount.name} does not show the image for {vm.name}",
            next_action=f'Mount that: site.mount("{backup.name}", lun="{vm.name}"), and hot-add its disk from there.',
            why=f"it shows {mount.image.snapshot}, in which other VMs are consistent; {vm.name} is so in "
            f"{there[0].snapshot}",
            tr="6.8",
        )
    return shown


def _shows(mount: Mount, lun: BackupLun) -> bool:
    """Whether a mount shows this image, or the Snapshot copy from which auto-recovery made it."""
    image = mount.image
    if (image.snapshot, image.path) == (lun.snapshot, lun.path):
        return True
    return image.snapshot != lun.snapshot and image.snapshot == lun.snapshot.removesuffix(RECOVERED)


def _child(disk: DiskImage, now: datetime) -> str:
    """A differencing disk of a name of its own: the same image can go to several VMs."""
    folder, _, leaf = disk.shown.rpartition("\\")
    return f"{folder}\\hot_{own_stamp(now)}_{leaf}"
