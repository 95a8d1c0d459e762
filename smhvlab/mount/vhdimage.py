"""Virtual disks inside a shown image: attached to the host, read, and hot-added to a running VM (TR 6.8)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from smhvlab.errors import NotAllowed, NotFound, PowerShellError
from smhvlab.hyperv import HyperV, Vm
from smhvlab.mount.image import Image
from smhvlab.snapdrive import BASIC_DATA
from smhvlab.snapinfo import Backup, BackupLun, BackupVm
from smhvlab.vmnames import alone
from smhvlab.wires.powershell import NOTHING_FOUND, PowerShellWire

_ATTEMPTS = 12
_COPY_SECONDS = 3_600.0
_SLOWEST = 4 << 20  # bytes a second: below that a copy counts as stuck


@dataclass(frozen=True)
class DiskImage:
    """A virtual disk of a VM in a backup.

    Attributes:
        number: its place among the VM's disks in the backup, from 0.
        path: where the VM has it.
        shown: where its image is now.
    """

    vm: str
    number: int
    path: str
    shown: str

    def __str__(self) -> str:
        return f"{self.vm}: {self.shown}"

    def child(self, number: int) -> str:
        """Where a differencing disk over it goes: beside it, on the same clone, so that it goes with the clone."""
        folder = self.shown.rpartition("\\")[0]
        return f"{folder}\\smhvlab_{number}{'.vhdx' if self.shown.casefold().endswith('x') else '.vhd'}"


@dataclass(frozen=True)
class GuestFile:
    """A file inside a virtual disk; ``inside`` is its path from the root of its volume."""

    disk: int
    volume: str
    inside: str
    size: int
    modified: str

    @property
    def source(self) -> str:
        """Where the host reads it."""
        return self.volume.rstrip("\\") + self.inside


def disk_images(
    backup: Backup, vms: Iterable[BackupVm], images: Sequence[Image], places: Sequence[BackupLun]
) -> list[DiskImage]:
    """The virtual disks of VMs as they are shown; ``places``: what of the backup each of the images is."""
    found = []
    for vm in vms:
        for number, disk in enumerate(vm.disks):
            lun = backup.lun_of(disk.path, vm.id)
            if lun is None or lun not in places:
                continue
            image = images[places.index(lun)]
            found.append(DiskImage(vm.name, number, disk.path, image.access_path + disk.path[len(lun.access_path) :]))
    return found


def used_places(backup: Backup, vms: Sequence[BackupVm]) -> list[BackupLun]:
    """The LUNs of a backup that hold virtual disks of these VMs."""
    used = [lun for vm in vms for disk in vm.disks if (lun := backup.lun_of(disk.path, vm.id)) is not None]
    return [lun for lun in backup.luns if lun in used]


def copy_seconds(size: int) -> float:
    """How long a host may take to copy so many bytes if it does not tell how far it is; in real seconds."""
    return max(_COPY_SECONDS, size / _SLOWEST)


class VirtualDisks:
    """Virtual disk files of one host."""

    def __init__(self, host: PowerShellWire) -> None:
        self.host = host

    def need_chain(self, path: str, roots: Sequence[str]) -> None:
        """Everything that a disk is based on lies in the images too. Raises NotAllowed."""
        below = tuple(root.casefold() for root in roots)
        child = path
        while parent := str(self.host.run("Get-VHD", {"Path": [child]}, select=("ParentPath",))[0]["ParentPath"] or ""):
            if not parent.casefold().startswith(below):
                raise NotAllowed(
                    f"{child} is based on {parent}, which is not in the image",
                    next_action="Mount the LUN that holds its parent as well; a live parent may have changed since.",
                    tr="6.8",
                )
            child = parent

    def number(self, path: str) -> int | None:
        """The disk number under which the host shows a file, None if it is not attached."""
        for record in self.host.run("Get-Disk", select=("Number", "Location")):
            if str(record["Location"] or "").casefold() == path.casefold():
                return int(record["Number"])
        return None

    def ensure_attached(self, path: str, *, read_only: bool) -> int:
        """The host shows the file as a disk, without drive letters; returns the disk's number."""
        number = self.number(path)
        if number is None:
            parameters: dict[str, object] = {"Path": path, "NoDriveLetter": True, "Passthru": True}
            shown = self.host.run(
                "Mount-VHD", parameters | ({"ReadOnly": True} if read_only else {}), select=("DiskNumber",)
            )
            number = int(shown[0]["DiskNumber"])
        if not read_only and bool(self.host.run("Get-Disk", {"Number": number}, select=("IsOffline",))[0]["IsOffline"]):
            # It has the signature of another disk; one that can be written gets a new one now.
            self.host.run("Set-Disk", {"Number": number, "IsOffline": False})
        return number

    def discard_attached(self, *paths: str) -> None:
        """The host does not show the files as disks."""
        shown = {str(r["Location"] or "").casefold() for r in self.host.run("Get-Disk", select=("Number", "Location"))}
        for path in paths:
            if path.casefold() in shown:
                self.host.run("Dismount-VHD", {"Path": path})

    def partitions(self, number: int, *, shown: bool = True) -> list[tuple[int, list[str]]]:
        """Number and access paths of each data partition of a disk.

        ``shown``: whether the disk must be online; else one that is offline has none. Raises NotAllowed: it stays
        offline beside another one with its signature.
        """
        select = ("PartitionNumber", "GptType", "AccessPaths")
        try:
            records = self.host.run("Get-Partition", {"DiskNumber": number}, select=select)
        except PowerShellError as error:
            if (twin := self._twin(number)) is None:
                if error.error_id.startswith(NOTHING_FOUND):
                    return []  # nobody has initialized it yet
                raise
            if not shown:
                return []
            raise twin from error
        return [
            (int(record["PartitionNumber"]), [str(path) for path in record["AccessPaths"] or ()])
            for record in records
            if str(record["GptType"] or BASIC_DATA).casefold() == BASIC_DATA
        ]

    def _twin(self, number: int) -> NotAllowed | None:
        """That a disk is offline beside another: copies of one have one signature, and a host shows one at a time."""
        disks = {
            int(r["Number"]): r for r in self.host.run("Get-Disk", select=("Number", "Location", "Guid", "IsOffline"))
        }
        disk = disks.get(number)
        twins = [r for n, r in disks.items() if disk is not None and n != number and r["Guid"] == disk["Guid"]]
        if disk is None or not disk["IsOffline"] or not twins:
            return None
        return NotAllowed(
            f"{disk['Location']} cannot be read while {twins[0]['Location']} is attached to the host",
            next_action=f"Detach that one first: Dismount-VHD -Path '{twins[0]['Location']}'; then try again.",
            why=f"both have the disk signature {disk['Guid']}, so Windows keeps disk {number} offline",
            tr="6.8",
        )

    def volumes(self, number: int) -> list[str]:
        """``\\\\?\\Volume{...}\\`` of each data partition of a disk."""
        everything = (path for _, paths in self.partitions(number) for path in paths)
        return [path for path in everything if path.startswith("\\\\?\\Volume")]

    def files(self, disk: int, volume: str) -> list[GuestFile]:
        """Every file of a volume; Windows' own bookkeeping is left out."""
        records = self.host.run(
            "Get-ChildItem",
            {"LiteralPath": volume, "Recurse": True, "File": True, "Force": True},
            select=("FullName", "Length", "LastWriteTime"),
        )
        found = []
        for record in records:
            inside = "\\" + str(record["FullName"])[len(volume) :]
            if "\\system volume information\\" not in inside.casefold():
                modified = record["LastWriteTime"]
                when = modified.isoformat(" ", "seconds") if hasattr(modified, "isoformat") else str(modified)
                found.append(GuestFile(disk, volume, inside, int(record["Length"]), when))
        return sorted(found, key=lambda file: file.inside.casefold())

    def length(self, path: str) -> int | None:
        """Length of a file in bytes, None if there is none (a folder is none)."""
        if not self.host.run("Test-Path", {"LiteralPath": path, "PathType": "Leaf"})[0]:
            return None
        return int(self.host.run("Get-Item", {"LiteralPath": path}, select=("Length",))[0]["Length"])

    # --- hot-add

    def ensure_child(self, disk: DiskImage, child: str) -> None:
        """A differencing disk over an image is there: what a guest writes never touches the image."""
        if not self.host.run("Test-Path", {"LiteralPath": child})[0]:
            self.host.run("New-VHD", {"Path": child, "ParentPath": disk.shown, "Differencing": True})

    def ensure_added(self, hyperv: HyperV, vm_id: str, path: str) -> None:
        """A running VM has the disk on its SCSI controller."""
        vm = _there(hyperv, vm_id)
        if path.casefold() not in {disk.path.casefold() for disk in vm.disks}:
            add: dict[str, object] = {"ControllerType": "SCSI", "Path": path, "AllowUnverifiedPaths": True}
            self.host.pair(("Get-VM", {"Id": vm_id}), ("Add-VMHardDiskDrive", add))

    def discard_added(self, hyperv: HyperV, vm_id: str, below: Sequence[str]) -> None:
        """The VM has no disk whose file lies below one of the folders. A VM that is gone is fine."""
        roots = tuple(root.casefold() for root in below)
        vm = hyperv.by_id(vm_id)
        disks = [disk for disk in vm.disks if disk.path.casefold().startswith(roots)] if vm is not None else []
        name = alone(vm.name, hyperv.vms()) if vm is not None and disks else ""
        for disk in disks:
            where = {
                "VMName": name,
                "ControllerType": disk.controller_type,
                "ControllerNumber": disk.controller_number,
                "ControllerLocation": disk.controller_location,
            }
            self.host.run("Remove-VMHardDiskDrive", where)

    def discard_file(self, path: str) -> None:
        """The file is gone; one that a VM has just let go of may be busy for a moment."""
        for attempt in range(_ATTEMPTS):
            if not self.host.run("Test-Path", {"LiteralPath": path})[0]:
                return
            try:
                self.host.run("Remove-Item", {"LiteralPath": path, "Force": True})
            except PowerShellError:
                if attempt + 1 == _ATTEMPTS:
                    raise
                self.host.sleep(5)


def _there(hyperv: HyperV, vm_id: str) -> Vm:
    vm = hyperv.by_id(vm_id)
    if vm is None:
        raise NotFound(f"The VM {vm_id} is gone", next_action="Choose another VM.", tr="6.8")
    return vm
