"""Provisioning from a golden image (TR 2.2): Snapshot copy, FlexClone, a blank VM, the cloned VHDs attached."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from html import escape
from uuid import uuid4

from smhvlab.errors import NameTaken, NotAllowed, NotFound
from smhvlab.flow import CHOSEN
from smhvlab.hyperv import Vm, VmDisk
from smhvlab.procedure import Procedure
from smhvlab.site import stamp
from smhvlab.steps import step
from smhvlab.storage import LunRef, VolumeRef
from smhvlab.wires.powershell import PowerShellWire


@dataclass(frozen=True)
class RenamedVhd:
    """A VHD of the golden image: where it lies in the clone, what it is called afterwards, and where it hangs."""

    source: str
    disk: VmDisk

    def __str__(self) -> str:
        return self.disk.path


@dataclass(frozen=True)
class ProvisionState:
    """What provisioning one VM touches and creates.

    Attributes:
        snapshot: name of the Snapshot copy of the golden volume.
        volume: name of the FlexClone volume, and of the folder on the host.
        mount: where the clone is mounted, with a final backslash.
        golden_folder: the golden VM's folder inside the clone; renamed to the new VM's, ``folder``.
        vm_id: known once the blank VM exists.
        run: what this run knows its Snapshot copy by, and so the clone of it.
    """

    vm: str
    golden: VolumeRef
    golden_lun: LunRef
    golden_folder: str
    volume: str
    igroup: str
    mount: str
    folder: str
    vhds: tuple[RenamedVhd, ...]
    generation: int
    snapshot: str = field(metadata=CHOSEN)
    vm_id: str = field(default="", metadata=CHOSEN)
    run: str = field(default="", metadata=CHOSEN)

    @property
    def comment(self) -> str:
        """Comment of the Snapshot copy of the golden volume."""
        return f"golden image for {self.vm}" + (f", run {self.run}" if self.run else "")

    @property
    def lun_name(self) -> str:
        """The LUN in the FlexClone volume."""
        return f"/vol/{self.volume}{self.golden_lun.path}"


@dataclass(frozen=True)
class Provisioned:
    """A VM that was provisioned."""

    vm: str
    vm_id: str
    volume: str
    snapshot: str
    vhds: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.vm} runs from FlexClone volume {self.volume} (parent Snapshot copy {self.snapshot})"

    def _repr_html_(self) -> str:
        vhds = "".join(f"<li><code>{escape(path)}</code></li>" for path in self.vhds)
        return (
            f"<p><b>{escape(self.vm)}</b> runs from FlexClone volume <code>{escape(self.volume)}</code> "
            f"(parent Snapshot copy <code>{escape(self.snapshot)}</code>)</p><ul>{vhds}</ul>"
        )


class ProvisionVm(Procedure[ProvisionState]):
    """Provision a VM from the golden image."""

    tr = "2.2"

    def __init__(self, site: object, *, vm: str, golden: str = "golden", folder: str = "C:\\VMs") -> None:
        super().__init__(site, vm=vm, golden=golden, folder=folder)
        self.vm = vm
        self.golden = golden
        self.folder = folder.rstrip("\\")

    def survey(self) -> ProvisionState:
        """Find the golden image and choose every name.

        Raises:
            NotFound: no golden VM, or its disks are not on one LUN of the array.
            NotAllowed: the golden VM is running, not in a folder of its own or not made of fixed VHDs, or the name
                does not fit.
            NameTaken: a VM, volume or folder of the name exists.
        """
        name = checked_name(self.vm)
        machines = self.hyperv.vms()
        golden = self.hyperv.vm(self.golden)
        if golden.state != "Off":
            raise NotAllowed(
                f"The golden VM {golden.name} is {golden.state}",
                next_action="Run Sysprep in it and shut it down, then try again.",
                tr="2.2",
                state=golden.state,
            )
        if name.casefold() in {vm.name.casefold() for vm in machines}:
            raise NameTaken(f"A VM {name} exists", next_action="Choose another name.", tr="2.2")
        lun, mounted = self._image(golden)
        if self.storage.volume(name, svm=lun.svm) is not None:
            raise NameTaken(
                f"The SVM {lun.svm} has a volume {name}", next_action="Choose another name for the VM.", tr="2.2"
            )
        check_fixed(self.host, golden)
        mount = f"{self.folder}\\{name}\\"
        if self.host.run("Test-Path", {"LiteralPath": mount})[0]:
            raise NameTaken(
                f"The folder {mount} exists on the host", next_action="Choose another name or folder.", tr="2.2"
            )
        igroup, _ = self.storage.igroup_for([self.snapdrive.initiator()], svm=lun.svm)
        golden_folder = mount + golden.configuration[len(mounted) :]
        folder = golden_folder.rpartition("\\")[0] + f"\\{name}"
        vhds = tuple(
            _renamed(disk, mount + disk.path[len(mounted) :], name=name, golden=golden_folder, folder=folder)
            for disk in golden.disks
        )
        return ProvisionState(
            vm=name,
            golden=lun.volume,
            golden_lun=lun,
            golden_folder=golden_folder,
            volume=name,
            igroup=igroup,
            mount=mount,
            folder=folder,
            vhds=vhds,
            generation=golden.generation,
            snapshot=f"{name}_{stamp(self.site.now())}",
            run=uuid4().hex[:8],
        )

    def _image(self, golden: Vm) -> tuple[LunRef, str]:
        """The LUN that holds all of the golden VM, and where the host has it mounted."""
        disks = self.snapdrive.disks()
        paths = [golden.configuration + "\\", *(disk.path for disk in golden.disks)]
        homes = [self.snapdrive.folder_disk(path, disks) for path in paths]
        ids = {home.unique_id for home in homes if home is not None}
        luns = self.storage.luns_by_disk(ids)
        if None in homes or len(luns) != 1 or len(ids) != 1:
            raise NotFound(
                f"The golden VM {golden.name} does not lie on one LUN of {self.site.profile.storage.name}",
                next_action="Keep its configuration and all its VHDs on one LUN of a golden volume.",
                tr="2.2",
            )
        home = homes[0]
        assert home is not None
        mounted = max((p for p in home.access_paths if paths[0].casefold().startswith(p.casefold())), key=len)
        if paths[0].casefold() == mounted.casefold() or not all(
            path.casefold().startswith(mounted.casefold()) for path in paths
        ):
            raise NotAllowed(
                f"The golden VM {golden.name} is not in a folder below {mounted}",
                next_action="Keep its configuration and its VHDs in a folder of their own on the LUN.",
                tr="2.2",
            )
        return luns[home.unique_id], mounted

    @step(
        "Snapshot copy of the golden disk",
        tr="2.2",
        items=lambda s: (f"{s.golden}: {s.snapshot}",),
        counts=lambda s: {"ontap.snapshot.create": 1},
    )
    def snapshot(self, s: ProvisionState) -> None:
        self.storage.ensure_snapshots([s.golden], s.snapshot, comment=s.comment)

    @snapshot.undo
    def drop_snapshot(self, s: ProvisionState) -> None:
        self.storage.discard_snapshots([s.golden], s.snapshot, comment=s.comment)

    @step(
        "Connect the disk in the Snapshot copy: FlexClone volume",
        tr="2.2",
        items=lambda s: (s.volume,),
        counts=lambda s: {"ontap.volume.clone": 1},
    )
    def clone(self, s: ProvisionState) -> None:
        self.storage.ensure_volume_clone(s.volume, parent=s.golden, snapshot=s.snapshot)

    @clone.undo
    def drop_clone(self, s: ProvisionState) -> None:
        self.storage.discard_volume_clone(s.volume, parent=s.golden, snapshot=s.snapshot)

    @step(
        "Map the cloned LUN and mount it on the host",
        tr="2.2",
        items=lambda s: (s.lun_name, s.mount),
        counts=lambda s: {"windows.rescan": 1},
    )
    def connect(self, s: ProvisionState) -> None:
        lun = self.storage.lun(s.lun_name, svm=s.golden.svm)
        self.snapdrive.ensure_connected(lun, igroup=s.igroup, access_path=s.mount)

    @connect.undo
    def disconnect(self, s: ProvisionState) -> None:
        try:
            lun = self.storage.lun(s.lun_name, svm=s.golden.svm)
        except NotFound:
            lun = None
        self.snapdrive.discard_connection(lun, igroup=s.igroup, access_path=s.mount)

    @step("Rename the folder and the VHDs", tr="2.2", items=lambda s: s.vhds)
    def rename(self, s: ProvisionState) -> None:
        if s.golden_folder.casefold() != s.folder.casefold():
            self._rename(s.golden_folder, s.folder)
        configuration = f"{s.folder}\\Virtual Machines"  # the golden VM's own; the new VM gets another id
        if self.host.run("Test-Path", {"LiteralPath": configuration})[0]:
            self.host.run("Remove-Item", {"LiteralPath": configuration, "Recurse": True, "Force": True})
        for vhd in self.track(s.vhds):
            self._rename(vhd.source, vhd.disk.path)

    def _rename(self, source: str, target: str) -> None:
        """Rename within a folder, unless an earlier try did it already."""
        if self.host.run("Test-Path", {"LiteralPath": source})[0]:
            self.host.run("Rename-Item", {"LiteralPath": source, "NewName": target.rpartition("\\")[2]})

    @step("Create a blank VM", tr="2.2", items=lambda s: (s.vm,))
    def blank(self, s: ProvisionState) -> ProvisionState:
        parent = s.folder.rpartition("\\")[0] + "\\"
        made = self.hyperv.ensure_blank(s.vm, folder=parent, generation=s.generation)
        return replace(s, vm_id=made)

    @blank.undo
    def drop_blank(self, s: ProvisionState) -> None:
        for vm in self.hyperv.vms():
            if vm.name == s.vm and vm.configuration.casefold().startswith(s.mount.casefold()):
                self.hyperv.ensure_off(vm.id)
                self.hyperv.ensure_removed(vm.id)

    @step("Attach the VHDs, the first at IDE controller 0", tr="2.2", items=lambda s: s.vhds)
    def attach(self, s: ProvisionState) -> None:
        vm = self._made(s)
        for vhd in self.track(s.vhds):
            self.hyperv.ensure_attached(vm, vhd.disk)

    @step("Power on", tr="2.2", items=lambda s: (s.vm,), counts=lambda s: {"windows.vm.start": 1})
    def start(self, s: ProvisionState) -> None:
        self.hyperv.ensure_running(s.vm_id)

    @start.undo
    def stop(self, s: ProvisionState) -> None:
        if s.vm_id:
            self.hyperv.ensure_off(s.vm_id)

    def _made(self, s: ProvisionState) -> Vm:
        vm = self.hyperv.by_id(s.vm_id)
        if vm is None:
            raise NotFound(f"The VM {s.vm} has vanished", next_action="Undo this run and start again.", tr="2.2")
        return vm

    def result(self, state: ProvisionState) -> Provisioned:
        """What was made."""
        vhds = tuple(vhd.disk.path for vhd in state.vhds)
        return Provisioned(state.vm, state.vm_id, state.volume, state.snapshot, vhds)


def checked_name(name: str) -> str:
    """A VM's name that can also name a volume and a folder. Raises NotAllowed."""
    fits = name.isascii() and name.replace("_", "a").isalnum() and not name[:1].isdigit() and len(name) <= 60
    if not name or not fits:
        raise NotAllowed(
            f"{name!r} cannot name a VM here: its volume and folder get the same name",
            next_action="Use up to 60 letters, digits and underscores, with a letter or underscore first.",
            tr="2.2",
        )
    return name


def check_fixed(host: PowerShellWire, image: Vm) -> None:
    """The VHDs of a golden image are fixed ones. Raises NotAllowed."""
    infos = host.run("Get-VHD", {"Path": [d.path for d in image.disks]}, select=("Path", "VhdType"))
    for info in infos:
        if str(info["VhdType"]) != "Fixed":
            raise NotAllowed(
                f"{info['Path']} of the golden image is a {info['VhdType']} VHD",
                next_action="Build the golden image with fixed VHDs (TR 2.2 and its Table 3).",
                tr="2.2",
            )


def _renamed(disk: VmDisk, path: str, *, name: str, golden: str, folder: str) -> RenamedVhd:
    """A VHD by its path in the clone: the golden folder in it is renamed, then the file."""
    if path.casefold().startswith(golden.casefold() + "\\"):
        path = folder + path[len(golden) :]
    place, _, leaf = path.rpartition("\\")
    return RenamedVhd(source=path, disk=replace(disk, path=f"{place}\\{name}_{leaf}"))
