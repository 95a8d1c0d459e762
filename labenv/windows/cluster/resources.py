"""Resources: their states, and bringing them online and offline in the order of their dependencies."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from labenv.windows.cluster import log
from labenv.windows.cluster.errors import ClusterProblem
from labenv.windows.cluster.records import (
    DISK,
    FAILED,
    OFFLINE,
    OFFLINE_PENDING,
    ONLINE,
    ONLINE_PENDING,
    VM,
    GroupRecord,
    ResourceRecord,
)

if TYPE_CHECKING:
    from labenv.windows.cluster.cluster import FailoverCluster

_PENDING = (ONLINE_PENDING, OFFLINE_PENDING)
_NAMES = re.compile(r"\[([^\]]+)\]")


def providers(resource: ResourceRecord) -> list[str]:
    """Names of the resources that a dependency expression mentions."""
    return _NAMES.findall(resource.depends)


class Resources:
    """Operations on resources. What cannot be done is a ``ClusterProblem``."""

    def __init__(self, cluster: FailoverCluster) -> None:
        self._cluster = cluster

    # -- states ------------------------------------------------------------------------------------------------

    def state(self, resource: ResourceRecord) -> str:
        """A resource's state now; a virtual machine's is what Hyper-V says."""
        owner = self._cluster.owner(resource)
        if not self._cluster.is_member(owner):
            return FAILED if resource.state == FAILED else OFFLINE
        if resource.kind != VM:
            return resource.state
        return self._cluster.machines.state(resource)

    def group_state(self, group: GroupRecord, resources: Iterable[ResourceRecord] | None = None) -> str:
        """A group's state: Online, Offline, PartialOnline, Pending or Failed. ``resources``: those it has, if known."""
        states = {self.state(r) for r in (self._cluster.resources_of(group) if resources is None else resources)}
        if not states:
            return OFFLINE
        if any(s in _PENDING for s in states):
            return "Pending"
        if len(states) == 1:
            return states.pop()
        return "PartialOnline" if ONLINE in states else FAILED if FAILED in states else OFFLINE

    def dependents(self, resource: ResourceRecord) -> list[ResourceRecord]:
        """Resources that depend on one directly."""
        return [r for r in self._cluster.resource_table.values() if resource.name in providers(r)]

    def possible_owners(self, resource: ResourceRecord) -> list[str]:
        """Nodes that may have a resource."""
        return list(resource.owners) or list(self._cluster.nodes)

    def current(self, resource: ResourceRecord) -> ResourceRecord:
        """The same resource as it is now; ``ClusterProblem`` if it was deleted meanwhile."""
        found = self._cluster.resource_table.get(str(resource.id))
        if found is None:
            raise ClusterProblem(f"The resource '{resource.name}' was deleted.", code=5007)
        return found

    # -- online and offline ------------------------------------------------------------------------------------

    async def online(self, resource: ResourceRecord) -> None:
        """Bring a resource online with everything that it depends on."""
        resource = self.current(resource)
        if self.state(resource) == ONLINE:
            return
        for name in providers(resource):
            provider = self._cluster.resource_named(name)
            if provider is not None:
                await self.online(provider)
        await self._online(self.current(resource))

    async def _online(self, resource: ResourceRecord) -> None:
        cluster = self._cluster
        owner = cluster.owner(resource)
        if not cluster.is_member(owner):
            raise ClusterProblem(f"Node '{owner}' is not a member of the cluster now.", code=5050)
        if resource.kind == VM:
            await self._guarded(resource, cluster.machines.start(resource))
            return
        cluster.put_resource(replace(resource, state=ONLINE_PENDING, failures=0))
        await cluster.hosts[owner].spend("windows.cluster.resource")
        self.online_now(self.current(resource))

    def online_now(self, resource: ResourceRecord) -> ResourceRecord:
        """Bring online whatever takes no time: everything but a virtual machine."""
        cluster = self._cluster
        if resource.kind != DISK:
            return cluster.put_resource(replace(resource, state=ONLINE))
        try:
            changed = cluster.disks.bring_online(resource, cluster.owner(resource))
        except ClusterProblem:
            self.failed(resource)
            raise
        if changed.shared:
            cluster.volumes.change(changed, fault="")
            cluster.volumes.refresh()
        return changed

    async def _guarded(self, resource: ResourceRecord, operation: object) -> None:
        try:
            await operation  # type: ignore[misc]  # a coroutine
        except ClusterProblem:
            self.failed(self.current(resource))
            raise
        changed = self.current(resource)
        if changed.state == FAILED:
            self._cluster.put_resource(replace(changed, state=OFFLINE))

    def failed(self, resource: ResourceRecord) -> None:
        """A resource has failed: its state, and the event on its owner."""
        cluster = self._cluster
        group = cluster.group_of(resource)
        cluster.put_resource(replace(resource, state=FAILED, failures=resource.failures + 1))
        log.resource_failed([cluster.hosts[group.owner]], resource.name, resource.kind, group.name)

    async def offline(self, resource: ResourceRecord) -> None:
        """Take a resource offline after everything that depends on it."""
        resource = self.current(resource)
        for dependent in self.dependents(resource):
            await self.offline(dependent)
        resource = self.current(resource)
        if self.state(resource) in (OFFLINE, FAILED):
            if resource.state == FAILED:
                self._cluster.put_resource(replace(resource, state=OFFLINE))
            return
        if resource.kind == VM:
            await self._cluster.machines.stop(resource)
            return
        self._cluster.put_resource(replace(resource, state=OFFLINE_PENDING))
        await self._cluster.hosts[self._cluster.owner(resource)].spend("windows.cluster.resource")
        self.offline_now(self.current(resource))

    def offline_now(self, resource: ResourceRecord) -> None:
        """Take offline whatever takes no time; a shared volume vanishes from every node."""
        cluster = self._cluster
        if resource.kind != DISK:
            cluster.put_resource(replace(resource, state=OFFLINE))
            return
        if resource.shared:
            cluster.put_resource(replace(resource, state=ONLINE))  # its last writes go through
            cluster.volumes.release(resource)
        cluster.disks.take_offline(self.current(resource))
        cluster.volumes.refresh()
