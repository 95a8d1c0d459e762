"""Virtual machines as clustered roles: which node has them, how they start, stop and move."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import replace
from typing import TYPE_CHECKING
from uuid import UUID

from labenv.windows.call import PsError
from labenv.windows.cluster.errors import ClusterProblem
from labenv.windows.cluster.records import (
    FAILED,
    OFFLINE,
    OFFLINE_PENDING,
    ONLINE,
    ONLINE_PENDING,
    VM,
    VM_CONFIGURATION,
    GroupRecord,
    ResourceRecord,
)
from labenv.windows.errors import FileProblem
from labenv.windows.inventory import VMMS
from labenv.windows.records import SnapshotRecord, VmRecord
from labenv.windows.running import Running
from labenv.windows.vmconfig import is_active

if TYPE_CHECKING:
    from labenv.windows.cluster.cluster import FailoverCluster
    from labenv.windows.host import Host

_STATES = {
    "Running": ONLINE,
    "Paused": ONLINE,
    "PausedCritical": ONLINE,
    "Starting": ONLINE_PENDING,
    "Stopping": OFFLINE_PENDING,
    "Saving": OFFLINE_PENDING,
}
TURN_OFF, SAVE, SHUT_DOWN, FORCE_SHUT_DOWN = 0, 1, 2, 3
"""Values of OfflineAction: what a virtual machine does when its resource goes offline."""

SERVICE_NOT_ACTIVE = 1062
MIGRATING = "MigratingVirtualMachine"
_STEPS = 5


class ClusteredMachines:
    """Virtual machine roles. What cannot be done is a ``ClusterProblem``."""

    def __init__(self, cluster: FailoverCluster) -> None:
        self._cluster = cluster

    # -- finding -----------------------------------------------------------------------------------------------

    def host(self, group: GroupRecord) -> Host:
        """The host that has a role."""
        return self._cluster.hosts[group.owner]

    def record(self, group: GroupRecord) -> VmRecord | None:
        """The virtual machine of a role; None if it has been removed."""
        return self.host(group).machines.get(group.vm) if group.vm is not None else None

    def needed(self, group: GroupRecord) -> VmRecord:
        """The virtual machine of a role; ``ClusterProblem`` if it has been removed."""
        found = self.record(group)
        if found is None:
            raise ClusterProblem(f"The virtual machine of '{group.name}' is not registered on node '{group.owner}'.")
        return found

    def state(self, resource: ResourceRecord) -> str:
        """State of a Virtual Machine resource: what Hyper-V says."""
        vm = self.record(self._cluster.group_of(resource))
        found = _STATES.get(vm.state) if vm is not None else None
        return found or (FAILED if resource.state == FAILED else OFFLINE)

    def find(self, *, identity: UUID | None = None, name: str = "") -> tuple[Host, VmRecord] | None:
        """A virtual machine on any member, by id or name."""
        for host in self._cluster.members():
            for vm in host.vms.values():
                if vm.id == identity or (name and vm.name.lower() == name.lower()):
                    return host, vm
        return None

    # -- roles -------------------------------------------------------------------------------------------------

    def add(self, host: Host, vm: VmRecord, name: str = "") -> GroupRecord:
        """Make a virtual machine highly available; disks that only it uses come into its role."""
        cluster = self._cluster
        if cluster.group_of_vm(vm.id) is not None:
            raise ClusterProblem(f"The virtual machine '{vm.name}' is already clustered.", code=5010)
        name = name or vm.name
        if cluster.group_named(name) is not None:
            raise ClusterProblem(f"A clustered role '{name}' exists already.", code=5010)
        disks = self._storage(host, vm)
        group = cluster.add_group(name, "VirtualMachine", host.name, vm=vm.id)
        for disk in disks:
            self._take(disk, group, vm)
        depends = "(" + " and ".join(f"[{d.name}]" for d in disks) + ")" if disks else ""
        configuration = cluster.add_resource(
            f"Virtual Machine Configuration {name}", VM_CONFIGURATION, group, state=ONLINE, depends=depends, vm=vm.id
        )
        cluster.add_resource(
            f"Virtual Machine {name}", VM, group, state=ONLINE, depends=f"([{configuration.name}])", vm=vm.id
        )
        host.machines.vms[str(vm.id)] = replace(vm, clustered=True)
        return group

    def _take(self, disk: ResourceRecord, group: GroupRecord, vm: VmRecord) -> ResourceRecord:
        taken = self._cluster.put_resource(replace(disk, group=group.id))
        if any(d.disk_id == disk.disk for d in vm.drives):
            taken = self._cluster.disks.pass_through(taken)
        return taken

    def _storage(self, host: Host, vm: VmRecord) -> list[ResourceRecord]:
        """The cluster disks below a VM that have to move with it; raises if something is not on shared storage."""
        cluster = self._cluster
        found: list[ResourceRecord] = []
        places = [(path, "") for path in (vm.path, *(d.path for d in vm.drives if d.path))]
        places += [(f"Disk {d.disk}", d.disk_id) for d in vm.drives if d.disk_id]
        for path, disk in places:
            try:
                resource = cluster.disks.resource_of(disk or host.volumes.resolve(path)[0].disk)
            except FileProblem as error:
                raise ClusterProblem(f"'{path}' cannot be reached: {error.message}") from error
            if resource is None:
                raise ClusterProblem(
                    f"The virtual machine '{vm.name}' cannot be made highly available: '{path}' is not on storage "
                    "that the cluster manages."
                )
            if resource.shared or resource in found:
                continue
            if cluster.group_of(resource).kind != "AvailableStorage":
                raise ClusterProblem(f"'{resource.name}' belongs to the role '{cluster.group_of(resource).name}'.")
            found.append(resource)
        return found

    def remove(self, group: GroupRecord) -> None:
        """Take a role away; the virtual machine stays where it is, and its disks go to Available Storage."""
        cluster = self._cluster
        vm = self.record(group)
        if vm is not None:
            self.host(group).machines.vms[str(vm.id)] = replace(vm, clustered=False)
        for resource in cluster.resources_of(group):
            if resource.kind in (VM, VM_CONFIGURATION):
                del cluster.resource_table[str(resource.id)]
        del cluster.group_table[str(group.id)]

    def refresh_configuration(self, group: GroupRecord) -> None:
        """Follow what has changed on a virtual machine outside the cluster: disks that it uses now."""
        cluster = self._cluster
        vm = self.needed(group)
        have = cluster.disks.disks_of(group)
        host = self.host(group)
        used = [cluster.disks.resource_of(d.disk_id) for d in vm.drives if d.disk_id]
        for path in (vm.path, *(d.path for d in vm.drives if d.path)):
            try:
                used.append(cluster.disks.resource_of(host.volumes.resolve(path)[0].disk))
            except FileProblem:
                continue
        for disk in used:
            if disk is not None and not disk.shared and disk not in have:
                if cluster.group_of(disk).kind != "AvailableStorage":
                    raise ClusterProblem(f"'{disk.name}' belongs to another clustered role.")
                have.append(self._take(disk, group, vm))
        depends = "(" + " and ".join(f"[{d.name}]" for d in have) + ")" if have else ""
        for resource in cluster.resources_of(group):
            if resource.kind == VM_CONFIGURATION:
                cluster.put_resource(replace(resource, depends=depends))

    # -- power -------------------------------------------------------------------------------------------------

    async def start(self, resource: ResourceRecord) -> None:
        """Start the virtual machine of a resource."""
        group = self._cluster.group_of(resource)
        vm = self.needed(group)
        if vm.state == "Running":
            return
        if vm.state not in ("Off", "Saved"):
            raise ClusterProblem(f"The virtual machine '{vm.name}' is {vm.state}.", code=5023)
        self._need_service(group.owner)
        await self._run(self.host(group).machines.start(vm))

    def manages(self, node: str) -> bool:
        """Whether a node's virtual machine management service runs: nothing else starts or takes a virtual machine."""
        return self._cluster.hosts[node].inventory.runs(VMMS)

    def _need_service(self, *nodes: str) -> None:
        for node in nodes:
            if not self.manages(node):
                raise ClusterProblem(
                    f"The Virtual Machine Management service on node '{node}' is not running.", code=SERVICE_NOT_ACTIVE
                )

    @staticmethod
    async def _run(operation: Awaitable[None]) -> None:
        try:
            await operation
        except PsError as error:
            raise ClusterProblem(error.message) from error
        except FileProblem as error:
            raise ClusterProblem(f"{error.message} (0x{error.code:08X})", code=error.code) from error

    async def stop(self, resource: ResourceRecord) -> None:
        """Take a virtual machine's resource offline as its OfflineAction says; it saves its state by default."""
        group = self._cluster.group_of(resource)
        vm = self.record(group)
        if vm is None or not is_active(vm):
            return
        machines = self.host(group).machines
        action = int(resource.parameters.get("OfflineAction", SAVE))
        if vm.state != "Running" or action == TURN_OFF:
            await self._run(machines.turn_off(vm))
        elif action == SAVE:
            try:
                await self._run(machines.save(vm))
            except ClusterProblem:
                await self._run(machines.turn_off(vm))
        else:
            await self._run(machines.shutdown(vm))

    async def save_if_running(self, group: GroupRecord) -> None:
        """Save a role's virtual machine, which is to run again when the cluster does."""
        vm = self.record(group)
        if vm is not None and vm.state == "Running":
            await self._run(self.host(group).machines.save(vm))
            self._cluster.put_group(replace(self._cluster.group(group.id), resume=True))

    # -- moving ------------------------------------------------------------------------------------------------

    @staticmethod
    def receive(
        target: Host, vm: VmRecord, snapshots: list[SnapshotRecord], running: Running | None, *, crashed: bool
    ) -> None:
        """Register on a node what another has released. After a crash it has lost its memory, and is to be started."""
        if crashed:
            if running is not None:
                running.power_off()
            state = "Starting" if is_active(vm) else vm.state
            vm, running = replace(vm, state=state, open_files=(), started=0, status=""), None
        target.machines.receive(vm, snapshots, running)

    async def live(self, group: GroupRecord, target: str) -> None:
        """Live migration: the virtual machine runs on while its memory is copied, and goes on at the target."""
        cluster = self._cluster
        vm = self._movable(group, target)
        if vm.state != "Running":
            raise ClusterProblem(f"The virtual machine '{vm.name}' is {vm.state}: only a running one migrates live.")
        source = group.owner
        group = cluster.put_group(replace(group, moving=target, progress=0))
        cluster.hosts[source].machines.mark(vm, MIGRATING)
        seconds = cluster.costs["windows.vm.migrate"] + vm.memory / (1 << 30) * cluster.costs["windows.vm.migrate_gib"]
        try:
            for step in range(1, _STEPS + 1):
                await cluster.clock.sleep(max(1.0, seconds / _STEPS))
                now = cluster.group_table.get(str(group.id))
                if now is None or now.moving != target or now.owner != source:
                    raise ClusterProblem(f"The live migration of '{group.name}' was cancelled.", code=995)
                cluster.put_group(replace(now, progress=100 * step // _STEPS))
            if not cluster.is_member(target):
                raise ClusterProblem(f"Node '{target}' left the cluster during the live migration.", code=5050)
            cluster.hosts[source].machines.mark(vm, "")
            cluster.groups.transfer(cluster.group(group.id), target)
        finally:
            now = cluster.group_table.get(str(group.id))
            if now is not None and now.moving == target:
                cluster.put_group(replace(now, moving="", progress=0))
            cluster.hosts[source].machines.mark(vm, "")

    def _movable(self, group: GroupRecord, target: str) -> VmRecord:
        vm = self.needed(group)
        if group.moving:
            raise ClusterProblem(f"'{group.name}' is being moved already.", code=5908)
        if vm.status not in ("", "Ok", "CriticalIoError"):
            raise ClusterProblem(f"The virtual machine '{vm.name}' is busy: {vm.status}.", code=5908)
        if target == group.owner:
            raise ClusterProblem(f"'{group.name}' is on node '{target}' already.", code=5894)
        self._need_service(group.owner, target)
        return vm

    def cancel(self, group: GroupRecord) -> None:
        """End a live migration; the virtual machine stays where it is."""
        if not group.moving:
            raise ClusterProblem(f"'{group.name}' is not being moved.", code=5023)
        self._cluster.put_group(replace(group, moving="", progress=0))

    async def quick(self, group: GroupRecord, target: str) -> None:
        """Quick migration: saved, moved, started again."""
        vm = self._movable(group, target)
        await self._moved_cold(group, target, vm, save=True)

    async def cold(self, group: GroupRecord, target: str, *, shut_down: bool) -> None:
        """Shut down or turned off, moved, started again."""
        vm = self._movable(group, target)
        await self._moved_cold(group, target, vm, save=False, shut_down=shut_down)

    async def _moved_cold(
        self, group: GroupRecord, target: str, vm: VmRecord, *, save: bool, shut_down: bool = False
    ) -> None:
        cluster = self._cluster
        machines = cluster.hosts[group.owner].machines
        was_running = is_active(vm)
        if was_running and save and vm.state == "Running":
            await self._run(machines.save(vm))
        elif was_running and shut_down:
            await self._run(machines.shutdown(vm))
        elif was_running:
            await self._run(machines.turn_off(vm))
        cluster.groups.transfer(cluster.group(group.id), target)
        if was_running:
            moved = self.needed(cluster.group(group.id))
            await self._run(cluster.hosts[target].machines.start(moved))
