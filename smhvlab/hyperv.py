"""Virtual machines of one host, always by id: Hyper-V's names are wildcards and need not be unique."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from xml.sax.saxutils import unescape

from smhvlab.errors import NotAllowed, NotFound, PowerShellError
from smhvlab.vmnames import is_pattern, one_named
from smhvlab.wires.powershell import Output, PowerShellWire, Record, Running
from smhvlab.wires.wave import collect

_ATTEMPTS = 60  # looks, five seconds apart, until a VM has reached a state

_WAVE = 10  # commands for different VMs that run on a host at the same time
MOVING = frozenset({"MigratingVirtualMachine", "StorageMigrationPhaseOne", "StorageMigrationPhaseTwo"})
"""What ``Vm.doing`` is while the VM, or its storage, is being migrated."""

_DOING = MOVING | frozenset(
    {
        "CreatingSnapshot",
        "ApplyingSnapshot",
        "MergingDisks",
        "ExportingVirtualMachine",
        "BackingUpVirtualMachine",
    }
)
"""Operational states in which somebody is at work on a VM."""

_VSS_SERVICE = "5CED1297-4598-4915-A5FC-AD21BB4D02A4"
"""Id of the integration service for backup; its name is in the host's language."""

_ITEM = re.compile(r'<PROPERTY NAME="(\w+)"[^>]*><VALUE>([^<]*)</VALUE>')
"""A property of an item that a guest has told, which the host keeps as text."""

EXCHANGE = ("Get-CimInstance", {"Namespace": "root/virtualization/v2", "ClassName": "Msvm_KvpExchangeComponent"})
"""What asks a host for that of all its VMs, in ``EXCHANGED``, for ``told_by_guests``."""
EXCHANGED = ("SystemName", "GuestIntrinsicExchangeItems")

AT_REST = ("Off", "Saved")
"""States in which a VM does not run and has no file open."""

_PASSING = frozenset({"Starting", "Stopping", "Saving", "FastSaving", "Pausing", "Resuming", "Reset"})
"""States in which a VM takes no order: somebody, perhaps a process that is dead by now, has just given one."""


@dataclass(frozen=True)
class VmDisk:
    """A virtual hard disk of a VM and the controller position it hangs on."""

    path: str
    controller_type: str
    controller_number: int
    controller_location: int
    disk_number: int | None = None

    @property
    def passthrough(self) -> bool:
        """Whether it is a disk of the host instead of a file (not backed up, TR 4.1)."""
        return self.disk_number is not None


@dataclass(frozen=True)
class Vm:
    """A virtual machine.

    Attributes:
        state: ``Running``, ``Off``, ``Saved``, ``Paused``, ... as Hyper-V names it.
        configuration: folder of its configuration file.
        checkpoints: folder of its checkpoint files (the TR's VM snapshot location).
        parents: files that its virtual disks are based on; only ``with_parents`` and ``with_checkpoints`` know them,
        checkpoint_ids: and the ids and names of its checkpoints.
        host: the host on which it is registered.
        doing: what is being done to it (``MigratingVirtualMachine``, ``MergingDisks``, ...), "" for nothing.
        checkpoint_type: what ``Checkpoint-VM`` makes of it, "" where the host does not tell.
        replicated: whether Hyper-V Replica takes care of it.
        fibre_channel: whether it has a virtual Fibre Channel adapter.
    """

    id: str
    name: str
    state: str
    generation: int
    configuration: str
    checkpoints: str
    disks: tuple[VmDisk, ...] = ()
    parents: tuple[str, ...] = ()
    checkpoint_ids: tuple[str, ...] = ()
    checkpoint_names: tuple[str, ...] = ()
    host: str = ""
    doing: str = field(default="", compare=False)
    checkpoint_type: str = ""
    replicated: bool = False
    fibre_channel: bool = False

    def __str__(self) -> str:
        return self.name

    @property
    def running(self) -> bool:
        """Whether it was switched on."""
        return self.state == "Running"

    @property
    def has_checkpoints(self) -> bool:
        """Whether it runs from files of a checkpoint."""
        return any(differencing(disk.path) for disk in self.disks)

    def owns(self, path: str) -> bool:
        """Whether a file belongs to this VM: its VHDs and their parents, its configuration and its checkpoints'."""
        lowered = path.casefold()
        if lowered in {known.casefold() for known in (*(disk.path for disk in self.disks), *self.parents)}:
            return True
        leaf = lowered.rpartition("\\")[2]
        return leaf.startswith(tuple(known.casefold() for known in (self.id, *self.checkpoint_ids)))


_FIELDS = (
    "Id",
    "Name",
    "State",
    "Generation",
    "ConfigurationLocation",
    "SnapshotFileLocation",
    "OperationalStatus",
    "CheckpointType",
    "ReplicationState",
    "FibreChannelHostBusAdapters",
)
_DRIVE_FIELDS = ("VMId", "Path", "ControllerType", "ControllerNumber", "ControllerLocation", "DiskNumber")


class HyperV:
    """The VMs of one host."""

    def __init__(self, host: PowerShellWire) -> None:
        self.host = host

    def vms(self) -> list[Vm]:
        """Every VM with its disks, by name; two requests whatever their number."""
        return self.read_vms(*collect(self.begin_vms()))

    def begin_vms(self) -> Iterator[Running]:
        """Start what ``vms`` asks, for a wave over several hosts; ``read_vms`` understands the two answers."""
        yield self.host.begin("Get-VM", select=_FIELDS)
        yield self.host.begin("Get-VMHardDiskDrive", {"VMName": "*"}, select=_DRIVE_FIELDS)

    def read_vms(self, records: Output, drives: Output) -> list[Vm]:
        """The VMs that ``begin_vms`` asked for."""
        by_vm: dict[str, list[VmDisk]] = {}
        for drive in drives:
            by_vm.setdefault(str(drive["VMId"]), []).append(_disk(drive))
        name = self.host.endpoint.name
        found = [_vm(record, by_vm.get(str(record["Id"]), []), host=name) for record in records]
        return sorted(found, key=lambda vm: (vm.name.casefold(), vm.id))

    def vm(self, name: str) -> Vm:
        """The VM of a name on this host. Raises NotFound, NotUnique."""
        return one_named(name, self.vms())

    def by_id(self, vm_id: str) -> Vm | None:
        """The VM of an id, or None."""
        for vm in self.vms():
            if vm.id == vm_id:
                return vm
        return None

    def with_checkpoints(self, vm: Vm) -> Vm:
        """The same VM, with its checkpoints and the files that its virtual disks are based on."""
        name = "*" if is_pattern(vm.name) else vm.name  # as a pattern it might not even stand for itself
        found = self.host.run("Get-VMSnapshot", {"VMName": name}, select=("Id", "VMId", "Name"))
        snapshots = [record for record in found if str(record["VMId"]) == vm.id]
        based = self.host.wait(self.begin_parents([vm])) if disk_files([vm]) else ()
        return replace(
            self.with_parents([vm], based)[0],
            checkpoint_ids=tuple(str(record["Id"]) for record in snapshots),
            checkpoint_names=tuple(str(record["Name"]) for record in snapshots),
        )

    def begin_parents(self, machines: Sequence[Vm]) -> Running:
        """Start asking what the VMs' disks, which they must have, are based on; for a wave over several hosts."""
        return self._begin_level(disk_files(machines))

    def _begin_level(self, paths: Sequence[str]) -> Running:
        # A disk that cannot be read is told of by whoever needs it; the others are known all the same.
        return self.host.begin("Get-VHD", {"Path": paths}, select=("Path", "ParentPath"), error_action="Continue")

    def with_parents(self, machines: Sequence[Vm], infos: Sequence[Record]) -> list[Vm]:
        """The same VMs with the files that their virtual disks are based on; one more request for each level.

        Args:
            infos: what ``begin_parents`` asked for; nothing for VMs without virtual disks.
        """
        based: dict[str, str] = {}
        while infos:
            pairs = [(str(info["Path"]).casefold(), str(info["ParentPath"] or "")) for info in infos]
            based.update(pairs)
            level = list(dict.fromkeys(parent for _, parent in pairs if parent and parent.casefold() not in based))
            infos = self.host.wait(self._begin_level(level)) if level else ()
        return [replace(vm, parents=_parents(vm, based)) for vm in machines]

    def state(self, vm_id: str) -> str | None:
        """Present state of a VM, None if it is not registered."""
        try:
            records = self.host.run("Get-VM", {"Id": vm_id}, select=("Id", "State"))
        except PowerShellError as error:
            if error.error_id == "InvalidParameter":
                return None
            if error.error_id != "ObjectNotFound":
                raise
            return self._states().get(vm_id)  # also said where vmms does not run: only a list is a proof
        return str(records[0]["State"])

    def _resting(self, vm_id: str) -> str | None:
        """As ``state``, once the VM has done what it was told before; whatever it is in after five minutes."""
        for _ in range(_ATTEMPTS):
            state = self.state(vm_id)
            if state not in _PASSING:
                break
            self.host.sleep(5)
        return state

    def ensure_off(self, vm_id: str) -> None:
        """The VM does not run: it is switched off without asking its guest (as before a restore, TR 6.7).

        A saved VM stays saved: there is nothing to switch off, and what it was at would be lost.
        """
        if self._resting(vm_id) not in (None, *AT_REST):
            self.host.pair(("Get-VM", {"Id": vm_id}), ("Stop-VM", {"TurnOff": True, "Force": True}))

    def ensure_running(self, vm_id: str) -> None:
        """The VM is on and its heartbeat answers. Raises NotFound when it does not come up in five minutes."""
        if self._resting(vm_id) != "Running":
            self.host.pair(("Get-VM", {"Id": vm_id}), ("Start-VM", {}))
        for _ in range(_ATTEMPTS):
            records = self.host.run("Get-VM", {"Id": vm_id}, select=("State", "Heartbeat"))
            if _answers(records[0]):
                return
            self.host.sleep(5)
        raise NotFound(
            f"The VM {vm_id} does not answer its heartbeat",
            next_action="Open its console; look at the Hyper-V-VMMS event log of the host.",
            tr="6.7",
        )

    def ensure_all_running(self, vm_ids: Sequence[str]) -> None:
        """As ``ensure_running``, all side by side: a wave of starts, then looks at all of them together."""
        for part in _parts(vm_ids):
            states = self._states()
            idle = [i for i in part if states.get(i) != "Running" and states.get(i) not in _PASSING]
            collect(self.host.begin_pair(("Get-VM", {"Id": i}), ("Start-VM", {})) for i in idle)
        waiting = set(vm_ids)
        for _ in range(_ATTEMPTS):
            if not waiting:
                return
            records = self.host.run("Get-VM", select=("Id", "State", "Heartbeat"))
            waiting -= {str(record["Id"]) for record in records if _answers(record)}
            if waiting:
                self.host.sleep(5)
        for vm_id in sorted(waiting):  # those that were busy with something else are told again; the others fail
            self.ensure_running(vm_id)

    def ensure_all_registered(self, configurations: Mapping[str, str]) -> None:
        """The VMs of these ids are registered in place from their configuration files, side by side."""
        for part in _parts(tuple(configurations)):
            present = self._states()
            files = [configurations[i] for i in part if i not in present]
            collect(self.host.begin("Import-VM", {"Path": f, "Register": True}) for f in files)

    def ensure_checkpoints_applied(self, wanted: Mapping[str, tuple[str, Collection[str]]]) -> None:
        """VMs that were registered from a backup start from the disks below its checkpoint, not from its leaves.

        Args:
            wanted: by the VM's id, the id of the backup's checkpoint and the paths of the disks below it.

        Raises:
            NotAllowed: a VM does not come to start from these disks; it must not be started.
        """
        if not wanted:
            return
        records = self.host.run("Get-VMSnapshot", {"VMName": "*"}, select=("Id",))
        present = {str(record["Id"]).casefold() for record in records}
        cuts = [cut for cut, _ in wanted.values() if cut.casefold() in present]
        for part in _parts(cuts):
            for command in ("Restore-VMSnapshot", "Remove-VMSnapshot"):
                collect(self.host.begin_pair(("Get-VMSnapshot", {"Id": c}), (command, {})) for c in part)
        for attempt in range(_ATTEMPTS):
            disks = {vm.id: {disk.path.casefold() for disk in vm.disks} for vm in self.vms()}
            waiting = [i for i, (_, own) in wanted.items() if not {p.casefold() for p in own} <= disks.get(i, set())]
            if not waiting:
                return
            if attempt + 1 < _ATTEMPTS:
                self.host.sleep(10)
        raise NotAllowed(
            f"The VM {waiting[0]} does not start from the disks of the backup",
            next_action="Do not start it. Look at Get-VMSnapshot: its checkpoint has to be applied and removed.",
            why="it would run from the leaves of the backup's checkpoint, which hold the state of a crash",
            tr="6.7",
        )

    def ensure_all_shut_down(self, vm_ids: Sequence[str]) -> None:
        """The VMs are off, shut down by their guests as far as these answer: nothing stays in a guest's cache."""
        self._stop_all(vm_ids, {"Force": True}, unless=("Off",))
        self.ensure_all_off(vm_ids)

    def ensure_all_off(self, vm_ids: Sequence[str]) -> None:
        """As ``ensure_off``, side by side."""
        self._stop_all(vm_ids, {"TurnOff": True, "Force": True}, unless=AT_REST)

    def _stop_all(self, vm_ids: Sequence[str], how: Mapping[str, object], *, unless: Collection[str]) -> None:
        for part in _parts(vm_ids):
            states = self._all_resting(part)
            on = [i for i in part if states.get(i, "Off") not in unless]
            collect(self.host.begin_pair(("Get-VM", {"Id": i}), ("Stop-VM", how)) for i in on)

    def _all_resting(self, vm_ids: Sequence[str]) -> dict[str, str]:
        """States of all VMs, once these have done what they were told before; as they are after five minutes."""
        for _ in range(_ATTEMPTS):
            states = self._states()
            if not any(states.get(i) in _PASSING for i in vm_ids):
                break
            self.host.sleep(5)
        return states

    def _states(self) -> dict[str, str]:
        return {str(r["Id"]): str(r["State"]) for r in self.host.run("Get-VM", select=("Id", "State"))}

    def ensure_all_removed(self, vm_ids: Sequence[str]) -> None:
        """As ``ensure_removed``, side by side."""
        for part in _parts(vm_ids):
            present = self._states()
            there = [i for i in part if i in present]
            collect(self.host.begin_pair(("Get-VM", {"Id": i}), ("Remove-VM", {"Force": True})) for i in there)

    def ensure_removed(self, vm_id: str) -> None:
        """The VM is not registered; its files stay."""
        if self.state(vm_id) is not None:
            self.host.pair(("Get-VM", {"Id": vm_id}), ("Remove-VM", {"Force": True}))

    def ensure_registered(self, vm_id: str, configuration_file: str) -> None:
        """The VM of this id is registered in place from its configuration file."""
        if self.state(vm_id) is None:
            self.host.run("Import-VM", {"Path": configuration_file, "Register": True})

    def ensure_blank(self, name: str, *, folder: str, generation: int = 1) -> str:
        """A VM without disks ("attach a virtual disk later", TR 2.2) under a folder; returns its id."""
        for vm in self.vms():
            if vm.name.casefold() == name.casefold() and vm.configuration.casefold().startswith(folder.casefold()):
                return vm.id
        made = self.host.run(
            "New-VM",
            {"Name": name, "NoVHD": True, "Generation": generation, "Path": folder},
            select=("Id",),
        )
        return str(made[0]["Id"])

    def ensure_attached(self, vm: Vm, disk: VmDisk) -> None:
        """A virtual disk hangs on its controller position."""
        if disk.path.casefold() in {d.path.casefold() for d in vm.disks}:
            return
        place: dict[str, object] = {
            "ControllerType": disk.controller_type,
            "ControllerNumber": disk.controller_number,
            "ControllerLocation": disk.controller_location,
            "Path": disk.path,
        }
        self.host.pair(("Get-VM", {"Id": vm.id}), ("Add-VMHardDiskDrive", place))

    def configuration_file(self, vm: Vm) -> str:
        """Path of the VM's configuration file. Raises NotFound."""
        return self.configuration_files([vm])[vm.id]

    def configuration_files(self, vms: Sequence[Vm]) -> dict[str, str]:
        """Paths of the configuration files by the VM's id, in one request. Raises NotFound."""
        folders = list(dict.fromkeys(f"{vm.configuration}\\Virtual Machines" for vm in vms))
        records = self.host.run(
            "Get-ChildItem", {"LiteralPath": folders, "File": True}, select=("FullName",), error_action="Continue"
        )
        leaves = {(path := str(record["FullName"])).rpartition("\\")[2].casefold(): path for record in records}
        found: dict[str, str] = {}
        for vm in vms:
            names = (f"{vm.id}{ending}".casefold() for ending in (".vmcx", ".xml"))
            present = [leaves[name] for name in names if name in leaves]
            if not present:
                raise NotFound(
                    f"The VM {vm.name} has no configuration file under {vm.configuration}",
                    next_action="Look into the folder on the host; a VM without its file cannot be registered again.",
                    tr="6.2",
                )
            found[vm.id] = present[0]
        return found

    def computer_names(self) -> dict[str, str]:
        """What the guests call themselves, by the VM's id, as far as their integration services tell; one request."""
        told = told_by_guests(self.host.run(*EXCHANGE, select=EXCHANGED))
        name = "FullyQualifiedDomainName"
        return {vm_id: items[name] for vm_id, items in told.items() if name in items}

    def answering(self) -> set[str]:
        """Ids of the VMs whose integration service for backup is switched on; one request for all."""
        records = self.host.run(
            "Get-VMIntegrationService", {"VMName": "*"}, select=("VMId", "Id", "Enabled"), error_action="Continue"
        )
        return {
            str(record["VMId"]) for record in records if _VSS_SERVICE in str(record["Id"]).upper() and record["Enabled"]
        }


def told_by_guests(records: Iterable[Record]) -> dict[str, dict[str, str]]:
    """What guests tell of themselves through their integration services, by the VM's id and the item's name."""
    found: dict[str, dict[str, str]] = {}
    for record in records:
        items = found.setdefault(str(record["SystemName"]).lower(), {})
        for text in record["GuestIntrinsicExchangeItems"] or ():
            values = {name: unescape(value, {"&quot;": '"', "&apos;": "'"}) for name, value in _ITEM.findall(str(text))}
            items[values.get("Name", "")] = values.get("Data", "")
    return found


def _parts(vm_ids: Sequence[str]) -> Iterable[Sequence[str]]:
    """Waves of a size that a host's quota of operations allows."""
    return (vm_ids[start : start + _WAVE] for start in range(0, len(vm_ids), _WAVE))


def differencing(path: str) -> bool:
    """Whether a virtual disk is the file of a checkpoint, which means nothing without the files it is based on."""
    return path.casefold().endswith((".avhd", ".avhdx"))


def _answers(record: Record) -> bool:
    """Whether a VM runs and its guest answers."""
    return str(record["State"]) == "Running" and str(record["Heartbeat"]).startswith("Ok")


def _vm(record: Record, disks: Iterable[VmDisk], *, host: str) -> Vm:
    return Vm(
        id=str(record["Id"]),
        name=str(record["Name"]),
        state=str(record["State"]),
        generation=int(record["Generation"]),
        configuration=str(record["ConfigurationLocation"]).rstrip("\\"),
        checkpoints=str(record["SnapshotFileLocation"]).rstrip("\\"),
        disks=tuple(sorted(disks, key=_position)),
        host=host,
        doing=next((text for one in record["OperationalStatus"] or () if (text := str(one)) in _DOING), ""),
        checkpoint_type=str(record["CheckpointType"] or ""),
        replicated=str(record["ReplicationState"] or "Disabled") != "Disabled",
        fibre_channel=bool(record["FibreChannelHostBusAdapters"]),
    )


def _position(disk: VmDisk) -> tuple[str, int, int]:
    return disk.controller_type, disk.controller_number, disk.controller_location


def disk_files(machines: Iterable[Vm]) -> list[str]:
    """Paths of the VMs' virtual disks."""
    return [disk.path for vm in machines for disk in vm.disks if not disk.passthrough]


def _parents(vm: Vm, based: dict[str, str]) -> tuple[str, ...]:
    """What a VM's disks are based on, each level after the one above it; ``based``: parents by file, folded."""
    found: dict[str, None] = {}
    level = disk_files([vm])
    while level:
        level = [p for path in level if (p := based.get(path.casefold(), "")) and p not in found]
        found.update(dict.fromkeys(level))
    return tuple(found)


def _disk(record: Record) -> VmDisk:
    number = record["DiskNumber"]
    return VmDisk(
        path=str(record["Path"]),
        controller_type=str(record["ControllerType"]),
        controller_number=int(record["ControllerNumber"]),
        controller_location=int(record["ControllerLocation"]),
        disk_number=None if number is None else int(number),
    )


def moved(disks: Sequence[VmDisk], names: dict[str, str]) -> tuple[VmDisk, ...]:
    """The disks with their paths replaced."""
    return tuple(replace(disk, path=names.get(disk.path, disk.path)) for disk in disks)
