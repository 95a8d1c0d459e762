"""A rehearsal where the host has the VMs' ids already, perhaps running: full copies with ids and names of their own.

Hyper-V gives new ids only to VMs whose files it copies, and it copies every byte. The clones of the mirrors are
connected beside the originals, as disks with GUIDs of their own at mount points of the rehearsal's own; the copies are
told apart from the originals by the folder that holds them, and renamed before any command goes by name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from smhvlab.dr.evidence import PART, Evidence, Rehearsals, Rehearsed
from smhvlab.dr.images import MirroredVolume, choose_backups, choose_machines, find_volumes, mirrored_backups
from smhvlab.dr.rehearse import find_catalogue, mark_of
from smhvlab.dr.replication import Mirror
from smhvlab.dr.sites import DrProcedure
from smhvlab.dr.switches import discard_lent, ensure_lent, missing_switches
from smhvlab.errors import NotAllowed, NotFound, PowerShellError
from smhvlab.flow import CHOSEN
from smhvlab.hyperv import Vm
from smhvlab.mount.image import FOLDER, Image, Images, clone_name, disk_guid
from smhvlab.nodes import Node
from smhvlab.restore.vm import IN_USE
from smhvlab.sizes import shown
from smhvlab.snapinfo import BackupVm, SnapInfo
from smhvlab.sql import DatabaseFound
from smhvlab.steps import step
from smhvlab.vmnames import alone

_ATTEMPTS = 60  # looks, ten seconds apart, at a file that a dead process still has copied


@dataclass(frozen=True)
class CopyState:
    """What a rehearsal with copies makes, all of it named by ``mark``.

    Attributes:
        info: the mirror of SnapInfo, and ``catalogue`` how its clone is shown.
        most: bytes of all LUNs that are mirrored here: no copy takes more.
        places: folders on which the copies may lie; ``place``: that which was taken, once their size was known.
        sizes: bytes of each VM's virtual disks, by its id.
        lent: virtual switches that the VMs know and the host lacks: isolated ones are there until they are copied.
        images: how the clones are shown, by the mount point that the VMs know.
    """

    info: Mirror
    host: str
    most: int
    places: tuple[str, ...]
    mark: str = field(metadata=CHOSEN)
    began: str = field(metadata=CHOSEN)
    catalogue: Image = field(metadata=CHOSEN)
    backups: tuple[str, ...] = field(default=(), metadata=CHOSEN)
    volumes: tuple[MirroredVolume, ...] = field(default=(), metadata=CHOSEN)
    images: dict[str, Image] = field(default_factory=dict, metadata=CHOSEN)
    vms: tuple[BackupVm, ...] = field(default=(), metadata=CHOSEN)
    place: str = field(default="", metadata=CHOSEN)
    sizes: dict[str, int] = field(default_factory=dict, metadata=CHOSEN)
    lent: tuple[str, ...] = field(default=(), metadata=CHOSEN)
    found: tuple[DatabaseFound, ...] = field(default=(), metadata=CHOSEN)
    seconds: float = field(default=0.0, metadata=CHOSEN)

    @property
    def folder(self) -> str:
        """The folder that holds all copies."""
        return f"{self.place.rstrip(chr(92))}\\{self.mark}"

    def home(self, vm: BackupVm) -> str:
        """The folder of a VM's copy."""
        return f"{self.folder}\\{vm.id}"

    def name(self, vm: BackupVm) -> str:
        """What a VM's copy is called."""
        return f"{vm.name}_{self.mark}"

    def source(self, path: str) -> str:
        """Where a file is in the clones. Raises NotFound."""
        return _source(self.images, path)


class CopyRehearsal(DrProcedure[CopyState]):
    """Rehearse a failover with copies beside the VMs"""

    tr = "8"

    def __init__(
        self,
        site: object,
        *,
        backups: Sequence[str] = (),
        vms: Sequence[str] = (),
        volume: str = "snapinfo",
        folder: str = "SnapInfo",
        node: str = "",
        to: str = "",
    ) -> None:
        given = {"backups": tuple(backups), "vms": tuple(vms), "volume": volume, "folder": folder}
        super().__init__(site, **given, node=node, to=to)
        self.backups = tuple(backups)
        self.vms = tuple(vms)
        self.volume = volume
        self.folder = folder
        self.node = node
        self.to = to

    @property
    def ground(self) -> Node:
        """The host on which everything happens: it has SnapInfo's disk."""
        return self.nodes.own()

    @property
    def shows(self) -> Images:
        """Shows the clones on that host."""
        return Images(self.storage, self.ground, self.nodes)

    def survey(self) -> CopyState:
        """Find the mirror of SnapInfo, and where copies may lie; what they need is known when the catalogue is read.

        Raises:
            NotFound: there is no such mirror, it holds no Snapshot copy that SMHV took, or no such folder.
            NotAllowed: another node is named than the one that has SnapInfo's disk.
        """
        own = self.ground
        if self.node and self.nodes[self.node].name != own.name:
            raise NotAllowed(
                f"{self.node} does not have SnapInfo's disk: {own.name} does",
                why="the catalogue is read there, and copies are no roles of a cluster",
                next_action="Leave the node out.",
                tr="8",
            )
        if self.to and not own.host.run("Test-Path", {"LiteralPath": self.to})[0]:
            raise NotFound(f"{own.name} has no folder {self.to}", next_action="Name a folder that is there.", tr="8")
        mirror, volume, path, snapshot = find_catalogue(self.replication, self.volume)
        ends = {(m.destination.svm, m.destination.volume) for m in self.replication.mirrors()}
        ends.discard((mirror.destination.svm, mirror.destination.volume))
        now = self.site.now()
        mark = mark_of(now)
        igroup, made_for = self.shows.igroup(volume.svm, self.shows.initiators())
        clone = clone_name(mark)
        return CopyState(
            info=mirror,
            host=own.name,
            most=sum(lun.size for lun in self.storage.luns() if (lun.svm, lun.volume.name) in ends),
            places=(self.to,) if self.to else (self.snapinfo.folder()[:3], "C:\\"),
            mark=mark,
            began=now.isoformat(),
            catalogue=Image(
                parent=volume,
                snapshot=snapshot,
                path=path,
                clone=clone,
                igroup=igroup,
                access_path=f"{FOLDER}{mark}\\",
                disk_guid=disk_guid(clone, path),
                made_for=made_for,
            ),
        )

    @step(
        "Clone the mirror of SnapInfo and connect it",
        tr="8",
        items=lambda s: (f"{s.catalogue.clone} from {s.catalogue.snapshot}", s.catalogue.access_path),
        counts=lambda _: {"ontap.volume.clone": 1, "windows.rescan": 1},
    )
    def open_catalogue(self, s: CopyState) -> None:
        self.shows.ensure_shown(s.catalogue)

    @open_catalogue.undo
    def close_catalogue(self, s: CopyState) -> None:
        self.shows.discard(s.catalogue)

    @step("Read which backups and VMs there are", tr="8", changes=False)
    def read(self, s: CopyState) -> CopyState:
        catalogue = SnapInfo(self.nodes, folder=s.catalogue.access_path + self.folder)
        chosen = choose_backups(mirrored_backups(self.replication, catalogue.backups()), self.backups)
        machines = choose_machines(chosen, self.vms)
        volumes = find_volumes(self.replication, chosen, machines)
        images: dict[str, Image] = {}
        for number, (volume, found) in enumerate(((v, i) for v in volumes for i in v.images), start=1):
            clone = volume.clones(clone_name(s.mark, 1 + volumes.index(volume)))[found.snapshot]
            images[found.access_path] = replace(
                s.catalogue,
                parent=volume.volume,
                snapshot=found.snapshot,
                path=found.path,
                clone=clone,
                access_path=f"{FOLDER}{s.mark}_{number}\\",
                disk_guid=disk_guid(clone, found.path, like=found.disk_guid),
            )
        for vm in machines:
            _check(vm, images)
        names = tuple(backup.name for backup in chosen)
        return replace(s, backups=names, volumes=volumes, images=images, vms=machines)

    @step(
        "Clone the mirrors and connect the clones beside the originals",
        tr="8",
        items=lambda s: tuple(f"{path}: {image}" for path, image in s.images.items()),
        counts=lambda s: {
            "ontap.volume.clone": len({i.clone for i in s.images.values()}),
            "windows.rescan": len(s.images),
        },
    )
    def show(self, s: CopyState) -> None:
        for image in self.track(tuple(s.images.values())):
            self.shows.ensure_shown(image)

    @show.undo
    def take_away(self, s: CopyState) -> None:
        self.shows.discard_all(tuple(s.images.values()))

    @step(
        "Empty the leaves over the disks that a production checkpoint made consistent",
        tr="6.7/3",
        items=lambda s: tuple(leaf for vm in s.vms for leaf in vm.leaves.values()),
        when=lambda s: not s.vms or any(vm.leaves for vm in s.vms),
        otherwise="the backup has none",
    )
    def apply(self, s: CopyState) -> None:
        """A copy then starts from the disk below, as if its checkpoint had been applied; the clones can be written."""
        host = self.ground.host
        for disk, leaf in ((disk, leaf) for vm in s.vms for disk, leaf in vm.leaves.items()):
            place = s.source(leaf)
            fresh = place + (".vhd" if disk.casefold().endswith("vhd") else ".vhdx")  # what New-VHD takes
            there, made = host.run("Test-Path", {"LiteralPath": [place, fresh]})
            if made:
                host.run("Remove-Item", {"LiteralPath": fresh, "Force": True})
            host.run("New-VHD", {"Path": fresh, "ParentPath": s.source(disk), "Differencing": True})
            if there:
                host.run("Remove-Item", {"LiteralPath": place, "Force": True})
            host.run("Move-Item", {"LiteralPath": fresh, "Destination": place})

    @step(
        "Find room for the copies",
        tr="8",
        items=lambda s: (f"at most {shown(s.most)} on {' or '.join(s.places)}",),
        changes=False,
    )
    def measure(self, s: CopyState) -> CopyState:
        host = self.ground.host
        sizes = {}
        for vm in s.vms:
            files = [s.source(path) for path in (*(disk.path for disk in vm.disks), *vm.parents)]
            records = host.run("Get-Item", {"LiteralPath": files}, select=("Length",))
            sizes[vm.id] = sum(int(record["Length"]) for record in records)
        needed = sum(sizes.values())
        free: dict[str, int] = {}
        for place in dict.fromkeys(s.places):
            (record,) = host.run("Get-Volume", {"FilePath": place}, select=("SizeRemaining",))
            free[place] = int(record["SizeRemaining"])
        best = max(free, key=lambda place: free[place])
        if needed > free[best]:
            told = ", ".join(f"{place}: {shown(size)}" for place, size in free.items())
            raise NotAllowed(
                f"The copies of {', '.join(vm.name for vm in s.vms)} need {shown(needed)}; free are {told}",
                why="a VM gets a new id only with a full copy of its disks",
                next_action="Name a folder with more room (to=..., --to), or fewer VMs (vms=..., --vm).",
                tr="8",
            )
        missing = missing_switches(self.ground, {vm.id: s.source(vm.configuration_file) for vm in s.vms})
        lent = tuple(sorted({name for names in missing.values() for name in names}))
        return replace(s, sizes=sizes, place=best, lent=lent)

    @step(
        "Import full copies of the VMs with new ids, on an isolated switch",
        tr="8",
        items=lambda s: (
            (s.mark, *(f"{s.name(vm)}: {s.sizes[vm.id]:,} bytes to {s.home(vm)}" for vm in s.vms))
            if s.place
            else (f"{s.mark}; at most {s.most:,} bytes are copied: all that is in the LUNs mirrored here",)
        ),
        counts=lambda s: {"windows.vm.import": len(s.vms)},
    )
    def copy(self, s: CopyState) -> None:
        node = self.ground
        ensure_lent(node, (s.mark, *s.lent), mark=s.mark)
        for vm in self.track(s.vms, size=lambda one: s.sizes[one.id]):
            if vm.id not in self._copies(s):
                self._drop(s.home(vm))  # what an interrupted import has left
                node.host.run("Import-VM", _import(s, vm))
            copy = self._copies(s)[vm.id]
            if copy.name != s.name(vm):
                node.host.pair(("Get-VM", {"Id": copy.id}), ("Set-VM", {"NewVMName": s.name(vm)}))
            name = alone(s.name(vm), node.hyperv.vms())
            node.host.run("Connect-VMNetworkAdapter", {"VMName": name, "SwitchName": s.mark})
        if s.lent:
            discard_lent(node, s.lent, mark=s.mark)

    @copy.undo
    def drop_copies(self, s: CopyState) -> None:
        if not s.place:
            return
        node = self.ground
        ids = [copy.id for copy in self._copies(s).values()]
        node.hyperv.ensure_all_off(ids)
        node.hyperv.ensure_all_removed(ids)
        discard_lent(node, (s.mark, *s.lent), mark=s.mark)
        self._drop(s.folder)

    @step(
        "Start the copies and check their databases",
        tr="8",
        items=lambda s: tuple(s.name(vm) for vm in s.vms),
        counts=lambda s: {"windows.vm.start": len(s.vms)},
    )
    def check(self, s: CopyState) -> CopyState:
        copies = self._copies(s)
        self.ground.hyperv.ensure_all_running([copies[vm.id].id for vm in s.vms])
        told = self.ground.sql.look([s.name(vm) for vm in s.vms])
        found = tuple(replace(entry, vm=vm.name) for vm in s.vms for entry in told[s.name(vm)])
        seconds = (self.site.now() - datetime.fromisoformat(s.began)).total_seconds()
        return replace(s, found=found, seconds=seconds)

    @check.undo
    def switch_off(self, s: CopyState) -> None:
        self.ground.hyperv.ensure_all_off([copy.id for copy in self._copies(s).values()])

    @step("Remove everything that was made", tr="8", items=lambda s: (f"{s.mark}: VMs, files, switch, disks, clones",))
    def clean_up(self, s: CopyState) -> None:
        self.drop_copies(s)
        self.take_away(s)
        self.close_catalogue(s)

    @step(
        "Write the evidence to SnapInfo",
        tr="8",
        items=lambda s: (f"{PART}\\{s.mark}.json",),
    )
    def keep(self, s: CopyState) -> None:
        evidence = Evidence(name=s.mark, time=s.began, host=s.host, shown=self.result(s))
        Rehearsals(self.snapinfo).ensure(evidence)

    @keep.undo
    def forget(self, s: CopyState) -> None:
        Rehearsals(self.snapinfo).discard(s.mark)

    def _copies(self, s: CopyState) -> dict[str, Vm]:
        """The copies that are registered, by the ids of the originals: whatever has its configuration in their home."""
        homes = {s.home(vm).casefold(): vm.id for vm in s.vms}
        vms = self.ground.hyperv.vms()
        return {homes[key]: vm for vm in vms if (key := vm.configuration.casefold()) in homes}

    def _drop(self, folder: str) -> None:
        """The folder is gone with all that is in it; the copying of a process that is dead may still have to end."""
        host = self.ground.host
        for attempt in range(_ATTEMPTS):
            if not host.run("Test-Path", {"LiteralPath": folder})[0]:
                return
            try:
                host.run("Remove-Item", {"LiteralPath": folder, "Recurse": True, "Force": True})
                return
            except PowerShellError as error:
                if error.error_id != IN_USE or attempt + 1 == _ATTEMPTS:
                    raise
                host.sleep(10)

    def result(self, state: CopyState) -> Rehearsed:
        """What ran, what it took, and that the mirrors are what they were."""
        ends = {state.info.uuid, *(volume.mirror.uuid for volume in state.volumes)}
        mirrors = tuple(f"{m}: {m.state}" for m in self.replication.mirrors() if m.uuid in ends)
        vms = tuple(vm.name for vm in state.vms)
        return Rehearsed(
            vms=vms,
            backups=state.backups,
            databases=state.found,
            seconds=state.seconds,
            mirrors=mirrors,
            copied=sum(state.sizes.values()),
        )


def _source(images: Mapping[str, Image], path: str) -> str:
    """Where a file of a VM is in the clones. Raises NotFound."""
    inside = [known for known in images if path.casefold().startswith(known.casefold())]
    if not inside:
        raise NotFound(
            f"{path} is on none of the mirrored LUNs",
            next_action="Put all files of the VM on LUNs of the array; back up and update the mirrors.",
            tr="8",
        )
    known = max(inside, key=len)
    return images[known].access_path + path[len(known) :]


def _folder(path: str) -> str:
    return path.rpartition("\\")[0]


def _check(vm: BackupVm, images: Mapping[str, Image]) -> None:
    """See that Import-VM can copy a VM as the backup has it. Raises NotAllowed, NotFound."""
    _source(images, vm.configuration_file)
    files = (*(disk.path for disk in vm.disks), *vm.parents, *vm.leaves.values())
    if len({_folder(_source(images, path)).casefold() for path in files}) > 1:
        raise NotAllowed(
            f"The virtual disks of {vm.name}, with those that they are based on, are in several folders",
            why="Import-VM takes the disks that it copies from one folder, and a disk looks for its parent beside it",
            next_action="Rehearse it in place on a host that lacks it, or leave it out (vms=..., --vm).",
            tr="8",
        )


def _import(s: CopyState, vm: BackupVm) -> dict[str, object]:
    """How a VM is copied; without a source folder Import-VM would take the original's disks."""
    wanted: dict[str, object] = {
        "Path": s.source(vm.configuration_file),
        "Copy": True,
        "GenerateNewId": True,
        "VirtualMachinePath": s.home(vm),
        "SnapshotFilePath": s.home(vm),
        "VhdDestinationPath": f"{s.home(vm)}\\Virtual Hard Disks",
    }
    if vm.disks:
        wanted["VhdSourcePath"] = _folder(s.source(vm.disks[0].path))
    return wanted
