"""The golden VM (TR 2.2, steps 3 to 8): fixed VHDs on a disk of its own, generalised, on a deduplicated volume.

An operating system is not installed by cmdlets. What is built here is a VM from the VHDs of one in which that was done,
by hand or by tools of the site: it was generalised with Sysprep and shut down, and is looked into before it is copied.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from html import escape

from smhvlab.errors import NameTaken, NotAllowed, NotFound
from smhvlab.flow import CHOSEN
from smhvlab.hyperv import Vm, VmDisk
from smhvlab.mount.filecopy import FileCopies
from smhvlab.mount.image import FOLDER, access_path
from smhvlab.mount.vhdimage import VirtualDisks
from smhvlab.nodes import Node, home_of
from smhvlab.procedure import Procedure
from smhvlab.provisioning.array import ArraySetup
from smhvlab.provisioning.vm import check_fixed, checked_name
from smhvlab.site import own_stamp
from smhvlab.sizes import shown
from smhvlab.steps import step
from smhvlab.storage import VolumeRef
from smhvlab.vmnames import one_named

GENERALISED = "\\Windows\\System32\\Sysprep\\Sysprep_succeeded.tag"
"""The file that Sysprep leaves on the system disk."""

SERVICES = {
    "2497F4DE-E9FA-4204-80E4-4B75C46419C0": "time synchronisation",
    "84EAAE65-2F2E-45F5-9BB5-0E857DC8EB47": "heartbeat",
    "9F8233AC-BE49-4C79-8EE3-E7E1985B2077": "shutdown",
    "2A34B1C2-FD73-4043-8A5B-DD2159BC743F": "key/value pair exchange",
    "5CED1297-4598-4915-A5FC-AD21BB4D02A4": "VSS",
}
"""The Integration Services that the TR names (2.2/5), by their ids: names are in the host's language."""


@dataclass(frozen=True)
class CopiedVhd:
    """A VHD that is copied: where from, and where the copy hangs in the end; ``size`` is the file's, in bytes."""

    source: str
    disk: VmDisk
    size: int

    @property
    def partial(self) -> str:
        """Where the copy grows until it is whole; nobody else uses the VM's folder."""
        return f"{self.disk.path}.partial"

    def __str__(self) -> str:
        return f"{self.source} to {self.disk.path} ({shown(self.size)})"


@dataclass(frozen=True)
class GoldenState:
    """The golden VM that is built.

    Attributes:
        image: the VM whose VHDs are copied, ``system`` the one with its operating system.
        disk: where the disk for it is mounted, with a final backslash; ``folder`` the VM's folder on it.
        dedupe: whether the volume is deduplicated already.
        look: folder where the system disk is looked into.
    """

    vm: str
    image: str
    host: str
    generation: int
    system: str
    vhds: tuple[CopiedVhd, ...]
    disk: str
    folder: str
    volume: VolumeRef
    dedupe: bool
    look: str = field(metadata=CHOSEN)
    vm_id: str = field(default="", metadata=CHOSEN)


@dataclass(frozen=True)
class GoldenBuilt:
    """A golden VM, ready to be cloned."""

    vm: str
    folder: str
    volume: str
    vhds: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.vm} in {self.folder} on volume {self.volume}: {len(self.vhds)} fixed VHDs, generalised"

    def _repr_html_(self) -> str:
        return f"<p>{escape(str(self))}</p>"


class BuildGolden(Procedure[GoldenState]):
    """Build the golden VM."""

    tr = "2.2"

    def __init__(self, site: object, *, vm: str, at: str, image: str = "golden") -> None:
        super().__init__(site, vm=vm, at=at, image=image)
        self.vm = vm
        self.at = at
        self.image = image

    def _node(self, s: GoldenState) -> Node:
        return self.nodes[s.host]

    def survey(self) -> GoldenState:
        """Find the image and the disk, and choose every name.

        Raises:
            NotFound: no such image, or no disk of the array is mounted there.
            NotAllowed: the image runs or has a VHD that is not fixed, the disk has too little room, or a LUN of its
                volume has a space reservation.
            NameTaken: a VM or a folder of the name exists.
        """
        name = checked_name(self.vm)
        machines = self.nodes.vms()
        image = one_named(self.image, machines)
        if image.state != "Off":
            raise NotAllowed(
                f"The VM {image.name} is {image.state}",
                next_action="Run Sysprep in it and shut it down, then try again.",
                tr="2.2/7",
                state=image.state,
            )
        if name.casefold() in {vm.name.casefold() for vm in machines}:
            raise NameTaken(f"A VM {name} exists", next_action="Choose another name.", tr="2.2/3")
        node = self.nodes[image.host]
        place = access_path(self.at)
        volume = self._volume(place, node)
        if reserved := ArraySetup(self.storage).reserved(volume):
            raise NotAllowed(
                f"The LUN {reserved[0]} has a space reservation",
                why="the volume is to be deduplicated, and the space that this saves would stay reserved",
                next_action=f"Take it away first: site.unreserve({volume.name!r}).",
                tr="2.2/8",
            )
        folder = f"{place}{name}"
        if node.host.run("Test-Path", {"LiteralPath": folder})[0]:
            raise NameTaken(f"{folder} exists on {node.name}", next_action="Choose another name.", tr="2.2/3")
        check_fixed(node.host, image)
        vhds = self._vhds(image, folder, node)
        self._room(node, place, sum(vhd.size for vhd in vhds))
        system = next((d.path for d in image.disks if d.controller_type == "IDE"), image.disks[0].path)
        return GoldenState(
            vm=name,
            image=image.name,
            host=node.name,
            generation=image.generation,
            system=system,
            vhds=vhds,
            disk=place,
            folder=folder,
            volume=volume,
            dedupe=ArraySetup(self.storage).dedupe(volume) != "none",
            look=f"{FOLDER}sysprep_{own_stamp(self.site.now())}\\",
        )

    def _volume(self, place: str, node: Node) -> VolumeRef:
        """The volume of the LUN that is mounted at a path."""
        home = home_of(place, host=node.name, disks=self.nodes.disks(), shared=self.nodes.shared_volumes())
        luns = self.storage.luns_by_disk([home.unique_id] if home is not None else [])
        if home is None or place.casefold() not in {path.casefold() for path in home.access_paths} or not luns:
            raise NotFound(
                f"No LUN of {self.site.profile.storage.name} is mounted at {place} on {node.name}",
                next_action="Make a disk with site.create_disk(volume, size=..., at=...), or name where one is.",
                tr="2.2/3",
            )
        return luns[home.unique_id].volume

    def _vhds(self, image: Vm, folder: str, node: Node) -> tuple[CopiedVhd, ...]:
        found = []
        for disk in image.disks:
            leaf = disk.path.rpartition("\\")[2].removeprefix(f"{image.name}_")
            size = VirtualDisks(node.host).length(disk.path)
            found.append(CopiedVhd(disk.path, replace(disk, path=f"{folder}\\{leaf}"), size or 0))
        if not found:
            raise NotAllowed(
                f"The VM {image.name} has no virtual disk", next_action="Choose another image.", tr="2.2/3"
            )
        return tuple(found)

    def _room(self, node: Node, place: str, wanted: int) -> None:
        free = int(node.host.run("Get-Volume", {"FilePath": place}, select=("SizeRemaining",))[0]["SizeRemaining"])
        if wanted > free:
            raise NotAllowed(
                f"{place} has {shown(free)} free, the VHDs take {shown(wanted)}",
                why="a fixed VHD takes all of its size from the beginning",
                next_action="Make a larger disk.",
                tr="App/T3",
            )

    @step("See that the image was generalised", tr="2.2/7", items=lambda s: (f"{s.image}: {s.system}",))
    def look(self, s: GoldenState) -> None:
        node = self._node(s)
        number = VirtualDisks(node.host).ensure_attached(s.system, read_only=True)
        found = False
        for partition, _ in VirtualDisks(node.host).partitions(number):
            where = {"DiskNumber": number, "PartitionNumber": partition, "AccessPath": s.look}
            node.host.run("New-Item", {"Path": s.look, "ItemType": "Directory", "Force": True})
            if s.look.casefold() not in {path.casefold() for path in self._paths(node, number)}:
                node.host.run("Add-PartitionAccessPath", where)
            found = found or bool(node.host.run("Test-Path", {"LiteralPath": s.look.rstrip("\\") + GENERALISED})[0])
            node.host.run("Remove-PartitionAccessPath", where)
        self.look_away(s)
        if not found:
            raise NotAllowed(
                f"The VM {s.image} was not generalised",
                why=f"its system disk has no {GENERALISED}; clones of it would all have its SID and its name",
                next_action="Start it, run Sysprep in it with /generalize and /shutdown, then try again.",
                tr="2.2/7",
            )

    @staticmethod
    def _paths(node: Node, number: int) -> list[str]:
        return [path for _, paths in VirtualDisks(node.host).partitions(number) for path in paths]

    @look.undo
    def look_away(self, s: GoldenState) -> None:
        node = self._node(s)
        virtual = VirtualDisks(node.host)
        number = virtual.number(s.system)
        if number is not None:
            for partition, paths in virtual.partitions(number, shown=False):
                if s.look.casefold() in {path.casefold() for path in paths}:
                    where = {"DiskNumber": number, "PartitionNumber": partition, "AccessPath": s.look}
                    node.host.run("Remove-PartitionAccessPath", where)
            virtual.discard_attached(s.system)
        if node.host.run("Test-Path", {"LiteralPath": s.look})[0]:
            node.host.run("Remove-Item", {"LiteralPath": s.look, "Force": True})

    @step("Create the VM", tr="2.2/3", items=lambda s: (s.vm,))
    def blank(self, s: GoldenState) -> GoldenState:
        made = self._node(s).hyperv.ensure_blank(s.vm, folder=s.disk, generation=s.generation)
        return replace(s, vm_id=made)

    @blank.undo
    def drop_blank(self, s: GoldenState) -> None:
        node = self._node(s)
        for vm in node.hyperv.vms():
            if vm.name == s.vm and vm.configuration.casefold().startswith(s.folder.casefold()):
                node.hyperv.ensure_removed(vm.id)
        if node.host.run("Test-Path", {"LiteralPath": s.folder})[0]:
            node.host.run("Remove-Item", {"LiteralPath": s.folder, "Recurse": True, "Force": True})

    @step(
        "Copy the fixed VHDs",
        tr="2.2/3",
        items=lambda s: s.vhds,
        counts=lambda s: {"windows.copy_gib": round(sum(vhd.size for vhd in s.vhds) / (1 << 30))},
    )
    def copy(self, s: GoldenState) -> None:
        copies = FileCopies(self._node(s).host, tr="2.2/3")
        for vhd in self.track(s.vhds):
            if copies.files.length(vhd.disk.path) is not None:
                continue  # an earlier try got through
            copies.ensure_whole(vhd.source, vhd.partial, size=vhd.size)
            copies.ensure_named(vhd.partial, vhd.disk.path, size=vhd.size)

    @copy.undo
    def drop_copies(self, s: GoldenState) -> None:
        virtual = VirtualDisks(self._node(s).host)
        for vhd in s.vhds:
            virtual.discard_file(vhd.partial)
            virtual.discard_file(vhd.disk.path)

    @step("Attach the VHDs, the first at IDE controller 0", tr="2.2/3", items=lambda s: [v.disk.path for v in s.vhds])
    def attach(self, s: GoldenState) -> None:
        for vhd in self.track(s.vhds):
            self._node(s).hyperv.ensure_attached(self._made(s), vhd.disk)

    @attach.undo
    def detach(self, s: GoldenState) -> None:
        node = self._node(s)
        vm = node.hyperv.by_id(s.vm_id) if s.vm_id else None
        if vm is not None:
            node.hyperv.ensure_removed(vm.id)  # its VHDs would be held otherwise

    def _made(self, s: GoldenState) -> Vm:
        vm = self._node(s).hyperv.by_id(s.vm_id)
        if vm is None:
            raise NotFound(f"The VM {s.vm} has vanished", next_action="Undo this run and start again.", tr="2.2")
        return vm

    @step("Integration Services", tr="2.2/5", items=lambda s: SERVICES.values())
    def services(self, s: GoldenState) -> None:
        host = self._node(s).host
        found = host.pair(
            ("Get-VM", {"Id": s.vm_id}), ("Get-VMIntegrationService", {}), select=("Id", "Name", "Enabled")
        )
        for record in found:
            if str(record["Id"]).upper().rpartition("\\")[2] in SERVICES and not record["Enabled"]:
                host.run("Enable-VMIntegrationService", {"VMName": s.vm, "Name": str(record["Name"])})

    @step(
        "Enable deduplication on the volume",
        tr="2.2/8",
        items=lambda s: (s.volume,),
        when=lambda s: not s.dedupe,
        otherwise="it is on",
    )
    def dedupe(self, s: GoldenState) -> None:
        ArraySetup(self.storage).ensure_dedupe(s.volume)

    @dedupe.undo
    def drop_dedupe(self, s: GoldenState) -> None:
        ArraySetup(self.storage).discard_dedupe(s.volume)

    def result(self, state: GoldenState) -> GoldenBuilt:
        """What can be cloned now."""
        vhds: Sequence[str] = [vhd.disk.path for vhd in state.vhds]
        return GoldenBuilt(state.vm, state.folder, state.volume.name, tuple(vhds))
