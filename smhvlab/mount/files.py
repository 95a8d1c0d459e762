"""Single files out of a backup: of the host's volume, or from inside a virtual disk (TR 6.8, Single-File Restore)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from html import escape

from smhvlab.backup.verify import show_images
from smhvlab.errors import NameTaken, NotAllowed, NotFound, NotUnique
from smhvlab.flow import CHOSEN
from smhvlab.mount.filecopy import FileCopies
from smhvlab.mount.guestdisks import GuestDisk, GuestDisks, guest_disks
from smhvlab.mount.image import Image, Images
from smhvlab.mount.vhdimage import VirtualDisks, disk_images, used_places
from smhvlab.nodes import Node
from smhvlab.procedure import Procedure
from smhvlab.record import Confirmation
from smhvlab.restore.changes import owned
from smhvlab.site import own_stamp
from smhvlab.snapinfo import Backup, BackupLun
from smhvlab.steps import step

_FULL = re.compile(r"[A-Za-z]:(\\[^\\/:*?\"<>|]+)+\Z")


@dataclass(frozen=True)
class FileState:
    """What one restore of a file looks through, and what it makes.

    Attributes:
        inside: path of the file from the root of its volume; it is looked for there on each virtual disk.
        question: why the file may not be the one of the backup's point in time, "" if it is.
        mark: part of the copy's first name, of this run's own.
        source: where the host reads it, known before the copy for a file of the host, after the attaching for others.
    """

    backup: str
    vm: str
    path: str
    inside: str
    to: str
    host: str
    mark: str = field(metadata=CHOSEN)
    images: tuple[Image, ...] = field(metadata=CHOSEN)
    disks: tuple[GuestDisk, ...] = field(default=(), metadata=CHOSEN)
    source: str = field(default="", metadata=CHOSEN)
    size: int = 0
    question: str = ""

    @property
    def partial(self) -> str:
        """Where the copy grows until it is whole: a name that only this run uses."""
        return f"{self.to}.{self.mark}.partial"


@dataclass(frozen=True)
class FileRestored:
    """A file that came back."""

    backup: str
    path: str
    to: str
    size: int

    def __str__(self) -> str:
        return f"{self.path} of {self.backup} is in {self.to} ({self.size} bytes)"

    def _repr_html_(self) -> str:
        return f"<p>{escape(str(self))}</p>"


class RestoreFile(Procedure[FileState]):
    """Restore a single file."""

    tr = "6.8"

    def __init__(
        self,
        site: object,
        *,
        backup: str,
        to: str,
        vm: str = "",
        guest_path: str = "",
        host_path: str = "",
        disk: int | None = None,
        host: str = "",
    ) -> None:
        super().__init__(
            site, backup=backup, to=to, vm=vm, guest_path=guest_path, host_path=host_path, disk=disk, host=host
        )
        self.backup = backup
        self.to = to
        self.vm = vm
        self.guest_path = guest_path
        self.host_path = host_path
        self.disk = disk
        self.on = host

    def survey(self) -> FileState:
        """Find the images that may hold the file, and see that its target is free.

        Raises:
            NotUnique: several VMs of the backup have that name.
            NotFound: no such backup, VM or virtual disk; the path lies on no LUN of the backup; the target's folder
                is not there.
            NotAllowed: neither or both of the paths were given, or one is no full path.
            NameTaken: the target exists.
        """
        if bool(self.guest_path) == bool(self.host_path) or (self.guest_path and not self.vm):
            raise NotAllowed(
                "A file is named by a VM and its path in the guest, or by its path on the host",
                next_action='Give vm="app01", guest_path="E:\\\\SQL\\\\aa1.mdf", or host_path="V:\\\\app01\\\\a.vhd".',
                tr="6.8",
            )
        path = self.guest_path or self.host_path
        for each in (path, self.to):
            if not _FULL.match(each):
                raise NotAllowed(
                    f"{each!r} is no full path of a file", next_action=r"Write it like E:\folder\file.", tr="6.8"
                )
        backup = self.snapinfo.backup(self.backup)
        node = self.nodes[self.on] if self.on else self.nodes.own()
        self._check_target(node)
        images = Images(self.storage, node, self.nodes)
        mark = f"file_{own_stamp(self.site.now())}"
        found = backup.named(self.vm, tr="6.8") if self.guest_path else None
        question = ""
        if found is None:
            home, question = self._home(backup)
            places = [home]
        else:
            places = used_places(backup, (found,))
        shown = show_images(images, places, mark)
        disks: tuple[GuestDisk, ...] = ()
        if found is not None:
            virtual = disk_images(backup, (found,), shown, places)
            disks = guest_disks(virtual, mark)
            if self.disk is not None:
                disks = tuple(disk for disk in disks if disk.disk == self.disk)
            if not disks:
                raise NotFound(
                    f"{found.name} has no virtual disk {self.disk} in {backup.name}",
                    next_action=f"It has {len(virtual)}, counted from 0.",
                    tr="6.8",
                )
        return FileState(
            backup=backup.name,
            vm="" if found is None else found.name,
            path=path,
            inside=path[2:],
            to=self.to,
            host=node.name,
            mark=mark.rpartition("_")[2],
            images=shown,
            disks=disks,
            source=shown[0].access_path + path[len(places[0].access_path) :] if found is None else "",
            question=self._leaf(backup) or question,
        )

    def _leaf(self, backup: Backup) -> str:
        """Why a file of the host is not the one to take, "" if it is."""
        for vm in backup.vms:
            for disk, leaf in vm.leaves.items():
                if leaf.casefold() == self.host_path.casefold():
                    return (
                        f"{leaf} is a leaf of the checkpoint that {backup.name} was made through: it holds what "
                        f"{vm.name} wrote after the backup; the disk of the backup is {disk}"
                    )
        return ""

    def confirmations(self, state: FileState) -> Sequence[Confirmation]:
        """That the file may not be of the backup's point in time, if so."""
        return (Confirmation(key="not-recovered", text=state.question, tr="6.8/2"),) if state.question else ()

    def _check_target(self, node: Node) -> None:
        if node.host.run("Test-Path", {"LiteralPath": self.to})[0]:
            raise NameTaken(
                f"{self.to} exists on {node.name}",
                next_action="Name another file: what is there may be newer than the backup.",
                tr="6.8",
            )
        folder = self.to.rpartition("\\")[0] + "\\"
        if not node.host.run("Test-Path", {"LiteralPath": folder})[0]:
            raise NotFound(f"{node.name} has no folder {folder}", next_action="Make it, or name another.", tr="6.8")

    def _home(self, backup: Backup) -> tuple[BackupLun, str]:
        """The image that holds a file of the host, consistent for its VM; and why none is for sure, "" if it is."""
        path = self.host_path.casefold()
        owner = next((vm for vm in backup.vms if path in owned(vm, None) | {vm.configuration_file.casefold()}), None)
        place = backup.lun_of(self.host_path, "" if owner is None else owner.id)
        if place is None:
            raise NotFound(
                f"{self.host_path} lies on no LUN of {backup.name}",
                next_action=f"Its LUNs were at {', '.join(lun.access_path for lun in backup.luns)}.",
                tr="6.8",
            )
        images = [lun.snapshot for lun in backup.luns if lun.access_path == place.access_path]
        if owner is not None or len(images) == 1:
            return place, ""
        return place, (
            f"{self.host_path} is no file of a VM of {backup.name}, which has {len(images)} images of "
            f"{place.access_path}, each made for the VMs of one node; it is taken from {place.snapshot}"
        )

    @step(
        "FlexClones of the backup's volumes, mounted on the side",
        tr="6.8/1-9",
        items=lambda s: s.images,
        counts=lambda s: {"ontap.volume.clone": len({i.clone for i in s.images}), "windows.rescan": len(s.images)},
    )
    def show(self, s: FileState) -> None:
        images = Images(self.storage, self.nodes[s.host], self.nodes)
        for image in self.track(s.images):
            images.ensure_shown(image)

    @show.undo
    def drop_images(self, s: FileState) -> None:
        Images(self.storage, self.nodes[s.host], self.nodes).discard_all(s.images)

    @step(
        "Attach the virtual disks and look for the file",
        tr="6.8",
        items=lambda s: s.disks,
        counts=lambda s: {"windows.vhd.mount": len(s.disks)},
        when=lambda s: bool(s.disks),
        otherwise="the file is one of the host",
    )
    def attach(self, s: FileState) -> FileState:
        node = self.nodes[s.host]
        roots = tuple(image.access_path for image in s.images)
        found = []
        for disk in self.track(s.disks):
            for folder in GuestDisks(node).ensure(disk, roots):
                path = folder.rstrip("\\") + s.inside
                if node.host.run("Test-Path", {"LiteralPath": path, "PathType": "Leaf"})[0]:
                    found.append((disk, path))
        if len(found) == 1:
            return replace(s, source=found[0][1])
        if not found:
            raise NotFound(
                f"No virtual disk of {s.vm} in {s.backup} holds {s.inside}",
                next_action="Mount the backup with guests=True and look with site.browse: letters are the guest's own.",
                tr="6.8",
            )
        raise NotUnique(
            f"{len(found)} virtual disks of {s.vm} hold {s.inside}",
            next_action=f"Name one with disk=: {', '.join(str(disk.disk) for disk, _ in found)}.",
            tr="6.8",
        )

    @attach.undo
    def detach(self, s: FileState) -> None:
        for disk in s.disks:
            GuestDisks(self.nodes[s.host]).discard(disk)

    @step("Copy the file", tr="6.8", items=lambda s: (s.to,))
    def copy(self, s: FileState) -> FileState:
        host = self.nodes[s.host].host
        size = VirtualDisks(host).length(s.source)
        if size is None:
            raise NotFound(
                f"The backup {s.backup} holds no file {s.path}",
                next_action="Mount the backup and look with site.browse; a folder comes back file by file.",
                tr="6.8",
            )
        self.drop_copy(s)  # of an interrupted try: it takes room
        self._need_room(s, size)
        for _ in self.track([s.to], size=lambda _: size):
            FileCopies(host, tr="6.8").ensure_whole(s.source, s.partial, size=size, on_percent=self.tell_percent)
        return replace(s, size=size)

    def _need_room(self, s: FileState, size: int) -> None:
        folder = s.to.rpartition("\\")[0] + "\\"
        volumes = self.nodes[s.host].host.run("Get-Volume", {"FilePath": folder}, select=("SizeRemaining",))
        free = int(volumes[0]["SizeRemaining"])
        if size > free:
            raise NotAllowed(
                f"{folder} on {s.host} has {free:,} bytes free, {s.path} needs {size:,}",
                next_action="Name a file on another disk, or make room there.",
                tr="6.8",
            )

    @copy.undo
    def drop_copy(self, s: FileState) -> None:
        VirtualDisks(self.nodes[s.host].host).discard_file(s.partial)

    @step("Give the copy its name", tr="6.8", items=lambda s: (s.to,))
    def put(self, s: FileState) -> None:
        FileCopies(self.nodes[s.host].host, tr="6.8").ensure_named(s.partial, s.to, size=s.size)

    @put.undo
    def take_away(self, s: FileState) -> None:
        FileCopies(self.nodes[s.host].host, tr="6.8").discard_named(s.partial, s.to, size=s.size)

    @step("Detach and unmount everything", tr="6.8", items=lambda s: (*s.disks, *s.images))
    def clean_up(self, s: FileState) -> None:
        self.detach(s)
        self.drop_images(s)

    def result(self, state: FileState) -> FileRestored:
        """Where the file is."""
        return FileRestored(state.backup, state.path, state.to, state.size)
