"""One simulated Hyper-V host: its initiator, disks, volumes, files and virtual machines."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

from labenv.clock import Clock
from labenv.costs import Costs
from labenv.fabric import Fabric
from labenv.faults import Faults
from labenv.guest.guest import Guest
from labenv.ids import Ids
from labenv.state import State
from labenv.windows.call import Cmdlet
from labenv.windows.checkpoints import Checkpoints
from labenv.windows.cmdlets import COMMANDS
from labenv.windows.disks import gpt as table
from labenv.windows.disks.exfat import format_exfat
from labenv.windows.disks.gpt import PartitionDevice
from labenv.windows.events import Events
from labenv.windows.files import Files
from labenv.windows.guestnetwork import GuestNetwork
from labenv.windows.inventory import ISCSI, VMMS, HostInventory
from labenv.windows.iscsi import Initiator
from labenv.windows.localdisk import LocalDisk, LocalDiskCheckpoints
from labenv.windows.machines import Machines, VmNotRunning
from labenv.windows.paths import PathWatch
from labenv.windows.places import VIRTUAL_DISKS, VIRTUAL_MACHINES
from labenv.windows.records import DiskRecord, MountRecord, VmRecord
from labenv.windows.registry import Registry
from labenv.windows.spec import HostSpec
from labenv.windows.sql import Logins
from labenv.windows.storage import Disks
from labenv.windows.vhds import VirtualDisks
from labenv.windows.volumes import Volumes
from labenv.windows.vss.service import Vss

if TYPE_CHECKING:
    from labenv.windows.cluster.cluster import FailoverCluster


class Host:
    """A Hyper-V host. Its truth is in the state's tables, in the bytes of its disks, and nowhere else.

    ``folder`` holds the host's local disk. A host made over existing state has just been started: caches are empty,
    attached virtual disks and sessions that are not persistent are gone, VMs that ran boot when they are first asked.
    """

    def __init__(
        self,
        *,
        spec: HostSpec,
        folder: Path,
        clock: Clock,
        state: State,
        ids: Ids,
        fabric: Fabric,
        costs: Costs,
        faults: Faults,
    ) -> None:
        self.spec = spec
        self.clock = clock
        self.ids = ids
        self.costs = costs
        self.faults = faults
        self._state = state
        self.events = Events(spec=spec, state=state, now=lambda: clock.time)
        self.initiator = Initiator(spec=spec, clock=clock, state=state, ids=ids, fabric=fabric)
        self._system = self._system_disk(folder)
        state.join(LocalDiskCheckpoints(self._system))
        self.disks = Disks(
            spec=spec, state=state, ids=ids, initiator=self.initiator, system=self._system, events=self.events
        )
        self.volumes = Volumes(spec=spec, state=state, disks=self.disks, now=lambda: clock.time)
        self.files = Files(volumes=self.volumes, clock=clock, costs=costs)
        self.files.holders.append(self._attached_files)
        self.vhds = VirtualDisks(files=self.files, now=lambda: clock.time)
        self.machines = Machines(
            spec=spec,
            clock=clock,
            state=state,
            ids=ids,
            costs=costs,
            files=self.files,
            vhds=self.vhds,
            disks=self.disks,
            events=self.events,
        )
        self.machines.network = GuestNetwork(fabric)
        self.checkpoints = Checkpoints(
            machines=self.machines,
            files=self.files,
            vhds=self.vhds,
            events=self.events,
            clock=clock,
            ids=ids,
            costs=costs,
            host=spec.name,
        )
        self.registry = Registry(spec=spec, state=state)
        self.logins = Logins(spec=spec, state=state)
        self.guest_logins = Logins(spec=spec, state=state, kind="guestlogin")
        self.vss = Vss(self, state=state, fabric=fabric)
        self.inventory = HostInventory(spec=spec, state=state, registry=self.registry, ids=ids)
        self.cluster: FailoverCluster | None = None
        self._power = state.table(f"windows.{spec.name}.power", bool)
        if not self.disks.records:
            self._install()
        self._start()
        state.after_restore(self._restored)
        self.paths = PathWatch(self, state)
        state.join(self.paths)

    @property
    def name(self) -> str:
        """The host's name."""
        return self.spec.name

    @property
    def iqn(self) -> str:
        """The node name of its initiator."""
        return self.spec.iqn

    @property
    def commands(self) -> Mapping[str, Cmdlet]:
        """The cmdlets that it knows."""
        return COMMANDS

    @property
    def vms(self) -> Mapping[str, VmRecord]:
        """Registered VMs by id."""
        return self.machines.vms

    async def spend(self, operation: str, factor: float = 1.0) -> None:
        """Wait for what an operation costs, at least one lab second."""
        await self.clock.sleep(max(1.0, self.costs[operation] * factor))

    def vm(self, vm: UUID | str) -> VmRecord:
        """A VM by id or by name; KeyError if there is none or more than one of that name."""
        found = [v for v in self.vms.values() if vm in (v.id, str(v.id)) or v.name.lower() == str(vm).lower()]
        if len(found) != 1:
            raise KeyError(vm)
        return found[0]

    def guest(self, vm: UUID | str) -> Guest:
        """The guest of a running VM by id or name, booted now if the lab was started since.

        Raises KeyError if there is no such VM, ``VmNotRunning`` if it has no guest.
        """
        if not self.powered:
            raise VmNotRunning(f"the host {self.name} is switched off")
        return self.machines.guest(self.vm(vm))

    @property
    def powered(self) -> bool:
        """Whether the computer is switched on."""
        return self._power.get("on", True)

    def guests(self) -> dict[str, Guest]:
        """Every guest that runs, by the name of its VM."""
        found: dict[str, Guest] = {}
        if not self.powered:
            return found
        for vm in list(self.vms.values()):
            try:
                found[vm.name] = self.machines.guest(vm)
            except VmNotRunning:
                continue
        return found

    def settle(self) -> None:
        """Let the running guests catch up with lab time; to be called before their storage is copied or compared."""
        self.machines.settle()

    def flush(self) -> None:
        """Write everything that the running guests cache (before the lab keeps a checkpoint)."""
        self.machines.flush()

    def power_cut(self) -> None:
        """Lose every cache and start again."""
        self.machines.lose_power()
        self._start()

    def power_off(self) -> None:
        """Lose every cache and stay off; nothing answers until ``power_on``."""
        self._power["on"] = False
        self.power_cut()

    def power_on(self) -> None:
        """Start again."""
        self._power["on"] = True
        self._start()

    def close(self) -> None:
        """Lose every cache and close the local disk."""
        self.machines.lose_power()
        self._system.close()

    def _start(self) -> None:
        self.inventory.restart()
        self.initiator.restart(service=self.inventory.runs(ISCSI))
        self.disks.restart()
        self.volumes.restart()
        self.vss.restart()
        if not self.powered:
            return
        self.machines.restart(managed=self.inventory.runs(VMMS))
        if self.spec.cluster is None:
            self.finish_merges()  # a node waits until the cluster has brought its storage

    def finish_merges(self) -> None:
        """Go on with the merges that a loss of power has interrupted."""
        for vm in list(self.vms.values()):
            if vm.merges:
                self.checkpoints.finish_merges(vm.id)

    def _restored(self) -> None:
        self.machines.lose_power()
        self._start()

    def _attached_files(self) -> list[str]:
        return [path for disk in self.disks.present() for path in disk.chain]

    def _system_disk(self, folder: Path) -> LocalDisk:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.spec.name}.disk"
        if not self._state.table(f"windows.{self.spec.name}.disk", DiskRecord):
            path.unlink(missing_ok=True)  # left by a lab that was killed before its first commit
        return LocalDisk(path, self.spec.system_disk)

    def _install(self) -> None:
        name = self.spec.name
        unique_id = "LABSYSTEM" + self.ids.digest("system disk", name)[:8].hex().upper()
        size = self.spec.system_disk
        self.disks.records[unique_id] = DiskRecord(unique_id, 0, "system", f"LAB{name}".upper(), size, False, False)
        disk_guid, partition_guid = (
            self.ids.uuid("gpt disk", name, unique_id),
            self.ids.uuid("gpt partition", name, "C"),
        )
        layout = table.Gpt(disk_guid)
        offset, length = table.free_range(self._system, layout)
        partition = table.Partition(1, table.BASIC_DATA, partition_guid, offset, length, "Basic data partition")
        table.write_gpt(self._system, layout.adding(partition))
        serial = int.from_bytes(self.ids.digest("volume serial", name)[:4], "big")
        format_exfat(PartitionDevice(self._system, offset, length), label="System", serial=serial)
        state = self._state.table(f"windows.{name}.mount", MountRecord)
        state[str(partition_guid)] = MountRecord("C")
        self.disks.restart()
        self.volumes.restart()
        for folder in (VIRTUAL_DISKS, VIRTUAL_MACHINES, "C:\\Windows\\Temp", f"C:\\Users\\{self.spec.user}\\Documents"):
            self.files.mkdir(folder)
        self.registry.install(self.spec)
        self.inventory.install(self.spec.inventory)
