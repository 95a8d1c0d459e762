"""Virtual disks of a mounted backup on the host, so that the files of its guests can be seen and copied (TR 6.8)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from smhvlab.mount.image import FOLDER
from smhvlab.mount.vhdimage import DiskImage, VirtualDisks
from smhvlab.nodes import Node


@dataclass(frozen=True)
class GuestDisk:
    """A virtual disk of a VM, attached to the host through a differencing disk over its image.

    Attributes:
        disk: its place among the VM's disks in the backup, from 0.
        child: the differencing disk; nothing that the host writes reaches the image.
        folder: where its first volume is mounted; further ones have ``_2``, ``_3`` behind that name.
    """

    vm: str
    disk: int
    image: DiskImage
    child: str
    folder: str

    def __str__(self) -> str:
        return f"disk {self.disk} of {self.vm} at {self.folder}"

    def place(self, volume: int) -> str:
        """Folder of a volume, counted from 1."""
        return self.folder if volume == 1 else f"{self.folder.rstrip(chr(92))}_{volume}\\"


def guest_disks(images: Iterable[DiskImage], mark: str) -> tuple[GuestDisk, ...]:
    """How virtual disks are attached."""
    found: dict[str, GuestDisk] = {}
    for number, image in enumerate(images):
        folder = f"{FOLDER}{mark}_{image.vm}_{image.number}"
        if folder in found:  # two VMs of one name
            folder = f"{folder}_of_{number}"
        found[folder] = GuestDisk(image.vm, image.number, image, image.child(number), f"{folder}\\")
    return tuple(found.values())


class GuestDisks:
    """Attaches and detaches them on one host."""

    def __init__(self, node: Node) -> None:
        self._host = node.host
        self._snapdrive = node.snapdrive
        self._virtual = VirtualDisks(node.host)

    def ensure(self, disk: GuestDisk, roots: tuple[str, ...]) -> list[str]:
        """The disk's volumes are mounted; returns their folders. ``roots``: where the images are.

        Raises:
            NotAllowed: it is based on a file that is not in the images.
        """
        self._virtual.need_chain(disk.image.shown, roots)
        self._virtual.ensure_child(disk.image, disk.child)
        number = self._virtual.ensure_attached(disk.child, read_only=False)
        folders = []
        for count, (partition, paths) in enumerate(self._virtual.partitions(number), 1):
            folder = disk.place(count)
            if folder.casefold() not in {path.casefold() for path in paths}:
                self._host.run("New-Item", {"Path": folder, "ItemType": "Directory", "Force": True})
                where = {"DiskNumber": number, "PartitionNumber": partition, "AccessPath": folder}
                self._host.run("Add-PartitionAccessPath", where)
            folders.append(folder)
        return folders

    def discard(self, disk: GuestDisk) -> None:
        """The disk is detached, its differencing disk and its folders are gone."""
        number = self._virtual.number(disk.child)
        if number is not None:
            mine = disk.folder.rstrip("\\").casefold()
            for partition, paths in self._virtual.partitions(number):
                for path in paths:
                    if path.casefold().startswith(mine):
                        where = {"DiskNumber": number, "PartitionNumber": partition, "AccessPath": path}
                        self._host.run("Remove-PartitionAccessPath", where)
            self._virtual.discard_attached(disk.child)
        self._virtual.discard_file(disk.child)
        count = 1
        while self._host.run("Test-Path", {"LiteralPath": disk.place(count)})[0]:
            self._host.run("Remove-Item", {"LiteralPath": disk.place(count), "Force": True})
            count += 1
