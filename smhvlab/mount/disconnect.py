"""Unmounting a backup (TR 6.8: SnapDrive's Disconnect Disk, sdcli snap unmount)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from smhvlab.errors import NotAllowed
from smhvlab.mount.connect import Mounted
from smhvlab.mount.guestdisks import GuestDisks
from smhvlab.mount.image import Images, Placement
from smhvlab.mount.mounts import Mount, Mounts
from smhvlab.procedure import Procedure
from smhvlab.steps import step


@dataclass(frozen=True)
class UnmountState:
    """The mount that goes."""

    mount: Mount


class UnmountBackup(Procedure[UnmountState]):
    """Unmount a backup."""

    tr = "6.8"

    def __init__(self, site: object, *, mount: str) -> None:
        super().__init__(site, mount=mount)
        self.mount = mount

    def survey(self) -> UnmountState:
        """Find the mount and see that nobody uses it.

        Raises:
            NotFound: nothing is mounted under this name or path. NotUnique: several mounts of the backup are.
            NotAllowed: a VM, or the host itself, uses a virtual disk of it.
        """
        mount = Mounts(self.snapinfo).one(self.mount)
        path = mount.image.access_path.casefold()
        for vm in self.nodes.vms():
            if used := [disk.path for disk in vm.disks if disk.path.casefold().startswith(path)]:
                raise NotAllowed(
                    f"The VM {vm.name} uses {used[0]} of the mounted backup",
                    next_action=f'Take the disk away from it first: site.detach("{mount.name}").',
                    tr="6.8",
                )
        host = self._images(mount).host
        shown = [str(r["Location"] or "") for r in host.run("Get-Disk", select=("Number", "Location"))]
        mine = {disk.child.casefold() for disk in mount.guests}
        if attached := [p for p in shown if p.casefold().startswith(path) and p.casefold() not in mine]:
            raise NotAllowed(
                f"{attached[0]} of the mounted backup is attached to the host",
                next_action=f"Detach it first: Dismount-VHD -Path '{attached[0]}'.",
                tr="6.8",
            )
        return UnmountState(mount)

    def losses(self, state: UnmountState) -> Sequence[str]:
        """What was written to the copy."""
        return (f"What was written to {state.mount.image.access_path} since it was mounted goes with it.",)

    def _images(self, mount: Mount) -> Images:
        """What shows images on the host that has the disk now: a cluster group may have moved with it."""
        name = mount.host
        if mount.image.placement is Placement.GROUP:
            name = Images(self.storage, self.nodes.own(), self.nodes).cluster.groups().get(mount.image.group, name)
        return Images(self.storage, self.nodes[name], self.nodes)

    @step(
        "Detach the virtual disks from the host",
        tr="6.8",
        items=lambda s: s.mount.guests,
        when=lambda s: bool(s.mount.guests),
        otherwise="none is attached",
        pivot=True,
    )
    def detach(self, s: UnmountState) -> None:
        for disk in self.track(s.mount.guests):
            GuestDisks(self.nodes[s.mount.host]).discard(disk)

    @step(
        "Disconnect the disk",
        tr="6.8/5",
        items=lambda s: (s.mount.image.access_path,),
        counts=lambda s: {"windows.rescan": 1},
        pivot=True,
    )
    def disconnect(self, s: UnmountState) -> None:
        self._images(s.mount).discard_disk(s.mount.image)

    @step("Delete the FlexClone volume", tr="6.8", items=lambda s: (s.mount.image.clone,))
    def drop_clone(self, s: UnmountState) -> None:
        self._images(s.mount).discard_clone(s.mount.image)

    @step(
        "Delete the initiator group that was made for it",
        tr="6.8/7",
        items=lambda s: (s.mount.image.igroup,),
        when=lambda s: bool(s.mount.image.made_for),
        otherwise="the one in use existed before",
    )
    def drop_initiators(self, s: UnmountState) -> None:
        self._images(s.mount).discard_igroup(s.mount.image)

    @step("Take the mount out of SnapInfo", tr="6.8", items=lambda s: (f"{s.mount.name}.json",))
    def unregister(self, s: UnmountState) -> None:
        Mounts(self.snapinfo).discard(s.mount.name)

    def result(self, state: UnmountState) -> Mounted:
        """What is free again."""
        return Mounted(state.mount, mounted=False)
