"""Health: what the cluster does when a resource fails by itself, and when storage goes and comes back."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from labenv.windows.cluster import log
from labenv.windows.cluster.errors import ClusterProblem
from labenv.windows.cluster.records import DISK, FAILED, ONLINE, VM, GroupRecord, ResourceRecord
from labenv.windows.vmconfig import is_active

if TYPE_CHECKING:
    from labenv.windows.cluster.cluster import FailoverCluster
    from labenv.windows.host import Host

LOOKS_ALIVE = 5.0
"""Lab seconds between two looks at a resource."""
GIVES_UP = 60.0
"""Lab seconds for which I/O to a shared volume without any path is held back before the volume fails."""

PAUSED = "Paused"
_NOT_CONNECTED = "STATUS_DEVICE_NOT_CONNECTED(c000009d)"
_TIMEOUT = "STATUS_IO_TIMEOUT(c00000b5)"
_NO_NETWORK = "STATUS_BAD_NETWORK_PATH(c00000be)"


class Monitor:
    """Failures of resources: one restart where they are, then another node. Looks whenever something was committed."""

    def __init__(self, cluster: FailoverCluster) -> None:
        self._cluster = cluster
        self._looking: asyncio.Task[None] | None = None
        self._restoring = False

    # -- state.Participant -------------------------------------------------------------------------------------

    def write(self, db: sqlite3.Connection) -> None:
        """Nothing of its own."""

    def checkpoint(self, name: str, db: sqlite3.Connection) -> None:
        """Nothing of its own."""

    def restore(self, name: str, db: sqlite3.Connection) -> None:
        """What is seen until the records are back means nothing."""
        self._restoring = True

    def forget(self, name: str, db: sqlite3.Connection) -> None:
        """Nothing of its own."""

    def committed(self) -> None:
        """Something may have changed: storage is looked at, if it is not as it should be."""
        if self._restoring:
            self._restoring = False
            return
        for host in self._cluster.hosts.values():
            host.initiator.look_again()
        if (self._looking is None or self._looking.done()) and self._unusual():
            with suppress(RuntimeError):  # no event loop yet: the first request's commit comes back here
                asyncio.get_running_loop()
                self._looking = self._cluster.clock.spawn(self._look(), name="cluster health")

    # -- storage -----------------------------------------------------------------------------------------------

    def _disks(self) -> list[ResourceRecord]:
        return [r for r in self._cluster.resource_table.values() if r.kind == DISK and not r.maintenance]

    def _reaching(self, resource: ResourceRecord) -> list[Host]:
        return [h for h in self._cluster.members() if self._cluster.disks.reaches(resource, h)]

    def _blind(self, resource: ResourceRecord) -> tuple[str, ...]:
        reaching = self._reaching(resource)
        return tuple(h.name for h in self._cluster.members() if h not in reaching)

    def _unusual(self) -> bool:
        cluster = self._cluster
        if cluster.record.lost:
            return False
        for resource in self._disks():
            owner = cluster.owner(resource)
            if not cluster.is_member(owner):
                continue  # the membership takes care of it
            if resource.state == ONLINE:
                blind = self._blind(resource)
                if any(v.blind != blind or v.fault for v in cluster.volumes.of(resource)):
                    return True
                if owner in blind and (resource.shared is False or self._place(resource) is not None):
                    return True
            elif resource.state == FAILED and self._place(resource) is not None:
                return True
        return False

    def _place(self, resource: ResourceRecord) -> str | None:
        """The node that could have a disk now: its owner, else the best one with a path."""
        reaching = [h.name for h in self._reaching(resource)]
        group = self._cluster.group_of(resource)
        return group.owner if group.owner in reaching else self._cluster.groups.best_node(group, among=reaching)

    async def _look(self) -> None:
        cluster = self._cluster
        waited = 0.0
        while self._unusual():
            await cluster.clock.sleep(LOOKS_ALIVE)
            for resource in self._disks():
                current = cluster.resource_table.get(str(resource.id))
                if current is None or not cluster.is_member(cluster.owner(current)):
                    continue
                if current.state == ONLINE:
                    self._look_at(current, waited)
                elif current.state == FAILED and self._place(current) is not None:
                    self._back(current)
            waited = waited + LOOKS_ALIVE if self._any_paused() else 0.0
            cluster.state.commit()

    def _any_paused(self) -> bool:
        return any(v.fault == PAUSED for v in self._cluster.volume_table.values())

    def _look_at(self, resource: ResourceRecord, waited: float) -> None:
        cluster = self._cluster
        reaching = self._reaching(resource)
        group = cluster.group_of(resource)
        owner = cluster.hosts[group.owner]
        if not resource.shared:
            if owner not in reaching:
                self._lost_disk(resource, group)
            return
        if not reaching:
            self._hold_back(resource, waited)
            return
        if owner not in reaching:
            for volume in cluster.volumes.of(resource):
                log.volume_paused(cluster.members(), volume.path.rstrip("\\"), resource.name, _NOT_CONNECTED)
            target = cluster.groups.best_node(group, among=[h.name for h in reaching])
            if target is not None:
                cluster.groups.transfer(group, target)
        self._note_blind(cluster.resource(resource.id))
        self._resume(cluster.resource(resource.id))

    def _note_blind(self, resource: ResourceRecord) -> None:
        cluster = self._cluster
        blind = self._blind(resource)
        for volume in cluster.volumes.of(resource):
            fresh = [cluster.hosts[n] for n in blind if n not in volume.blind]
            log.volume_redirected(fresh, volume.path.rstrip("\\"), resource.name)
        cluster.volumes.change(resource, blind=blind)

    def _hold_back(self, resource: ResourceRecord, waited: float) -> None:
        """No node has a path: I/O is held back for a while, then the volume fails."""
        cluster = self._cluster
        volumes = cluster.volumes.of(resource)
        if waited < GIVES_UP:
            for volume in volumes:
                if volume.fault != PAUSED:
                    log.volume_paused(cluster.members(), volume.path.rstrip("\\"), resource.name, _TIMEOUT)
            cluster.volumes.change(resource, fault=PAUSED)
            return
        for volume in volumes:
            log.volume_lost(cluster.members(), volume.path.rstrip("\\"), resource.name, "(1460)")
        cluster.volumes.change(resource, fault="", blind=())
        groups = [g for v in volumes for g in self._roles_on(v.path)]
        cluster.resources.failed(resource)
        cluster.volumes.drop(cluster.resource(resource.id))
        for group in groups:
            self._lose_vm(group)

    def _resume(self, resource: ResourceRecord) -> None:
        """A path is there again: virtual machines that stopped meanwhile are started again."""
        cluster = self._cluster
        for volume in cluster.volumes.of(resource):
            if volume.fault == PAUSED:
                cluster.volumes.change(resource, fault="")
            for group in self._roles_on(volume.path):
                vm = cluster.machines.record(group)
                if vm is not None and vm.state == "PausedCritical":
                    self._lose_vm(group)
                    cluster.clock.spawn(self._again(group), name=f"start {group.name} again")

    def cut_off(self, host: Host) -> None:
        """A node has lost the network way to the owners of shared volumes: it cannot use them, its roles there move."""
        cluster = self._cluster
        for resource in cluster.volumes.disks():
            if not cluster.volumes.cut_off(resource, host):
                continue
            for volume in cluster.volumes.of(resource):
                path = volume.path.rstrip("\\")
                log.volume_paused([host], path, resource.name, _NO_NETWORK)
                log.volume_lost([host], path, resource.name, "(53)")
                for group in self._roles_on(volume.path):
                    if group.owner == host.name and self._lose_vm(group):
                        target = cluster.groups.best_node(group, without=host.name)
                        if target is not None:
                            cluster.groups.transfer(cluster.group(group.id), target)
                            cluster.clock.spawn(self._again(group), name=f"start {group.name} elsewhere")

    def _roles_on(self, path: str) -> list[GroupRecord]:
        found = []
        for group in self._cluster.groups.ordered():
            vm = self._cluster.machines.record(group) if group.vm is not None else None
            if vm is None:
                continue
            paths = (vm.path, *(d.path for d in vm.drives if d.path))
            if any(p.lower().startswith(path.lower()) for p in paths):
                found.append(group)
        return found

    def _lost_disk(self, resource: ResourceRecord, group: GroupRecord) -> None:
        """A disk has failed under its owner: its group goes where a path is, or fails."""
        cluster = self._cluster
        cluster.resources.failed(resource)
        running = self._lose_vm(group)
        cluster.disks.take_offline(cluster.resource(resource.id), FAILED)
        target = cluster.groups.best_node(group, among=[h.name for h in self._reaching(resource)])
        if target is None:
            log.group_failed([cluster.hosts[group.owner]], group.name)
            return
        group = cluster.groups.transfer(cluster.group(group.id), target)
        self._back(cluster.resource(resource.id), start=running)

    def _back(self, resource: ResourceRecord, *, start: bool = True) -> None:
        """A failed disk can be reached: it is brought online where that is, with what was running on it."""
        cluster = self._cluster
        group = cluster.group_of(resource)
        reaching = [h.name for h in self._reaching(resource)]
        if group.owner not in reaching:
            target = cluster.groups.best_node(group, among=reaching)
            if target is None:
                return
            group = cluster.groups.transfer(group, target)
        with suppress(ClusterProblem):
            cluster.resources.online_now(cluster.resource(resource.id))
        for role in self._waiting(cluster.resource(resource.id)) if start else ():
            cluster.clock.spawn(self._again(role), name=f"start {role.name} again")

    def _waiting(self, resource: ResourceRecord) -> list[GroupRecord]:
        cluster = self._cluster
        if not resource.shared:
            groups = [cluster.group_of(resource)]
        else:
            groups = [g for v in cluster.volumes.of(resource) for g in self._roles_on(v.path)]
        failed = {r.group for r in cluster.resource_table.values() if r.kind == VM and r.state == FAILED}
        return [g for g in groups if g.id in failed and g.wanted]

    # -- virtual machines --------------------------------------------------------------------------------------

    def _lose_vm(self, group: GroupRecord) -> bool:
        """A role's virtual machine has lost its storage: it is off, its resource has failed. Whether it was on."""
        cluster = self._cluster
        vm = cluster.machines.record(group) if group.vm is not None else None
        if vm is None or not is_active(vm):
            return False
        machines = cluster.machines.host(group).machines
        running = machines.running.pop(vm.id, None)
        if running is not None:
            running.power_off()
        machines.vms[str(vm.id)] = replace(vm, state="Off", open_files=(), started=0, status="")
        for resource in cluster.resources_of(group):
            if resource.kind == VM:
                cluster.resources.failed(resource)
        return True

    async def _again(self, group: GroupRecord) -> None:
        cluster = self._cluster
        resource = next(r for r in cluster.resources_of(group) if r.kind == VM)
        try:
            await cluster.resources.online(resource)
        except ClusterProblem:
            log.group_failed([cluster.machines.host(cluster.group(group.id))], group.name)
        cluster.state.commit()

    # -- by hand -----------------------------------------------------------------------------------------------

    async def failed(self, resource: ResourceRecord) -> None:
        """A resource is made to fail: it is started again in place once, and moved when it fails again."""
        cluster = self._cluster
        if cluster.resources.state(resource) != ONLINE:
            raise ClusterProblem(f"'{resource.name}' is not online.", code=5004)
        failures = resource.failures
        group = cluster.group_of(resource)
        if resource.kind == VM:
            self._lose_vm(group)
        else:
            cluster.resources.failed(resource)
            if resource.kind == DISK:
                for role in self._waiting(resource) if resource.shared else ():
                    self._lose_vm(role)
                cluster.volumes.drop(cluster.resource(resource.id))
        if failures:
            target = cluster.groups.best_node(group, without=group.owner)
            if target is None:
                log.group_failed([cluster.hosts[group.owner]], group.name)
                return
            cluster.groups.transfer(cluster.group(group.id), target)
        again = cluster.resources.current(resource)
        await cluster.resources.online(again)
        current = cluster.resources.current(resource)
        cluster.put_resource(replace(current, failures=failures + 1))
