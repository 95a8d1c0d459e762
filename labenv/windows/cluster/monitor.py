"""Health: what the cluster does when a resource fails by itself."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from labenv.windows.cluster import log
from labenv.windows.cluster.errors import ClusterProblem
from labenv.windows.cluster.records import FAILED, ONLINE, VM, ResourceRecord

if TYPE_CHECKING:
    from labenv.windows.cluster.cluster import FailoverCluster


class Monitor:
    """Failures of resources: one restart where they are, then another node."""

    def __init__(self, cluster: FailoverCluster) -> None:
        self._cluster = cluster

    async def failed(self, resource: ResourceRecord) -> None:
        """A resource is found failed: it is started again in place once, and moved when it fails again."""
        cluster = self._cluster
        if cluster.resources.state(resource) != ONLINE:
            raise ClusterProblem(f"'{resource.name}' is not online.", code=5004)
        failures = resource.failures
        if resource.kind == VM:
            group = cluster.group_of(resource)
            await cluster.machines.host(group).machines.turn_off(cluster.machines.needed(group))
        cluster.resources.failed(resource)
        if failures:
            group = cluster.group_of(resource)
            target = cluster.groups.best_node(group, without=group.owner)
            if target is None:
                log.group_failed([cluster.hosts[group.owner]], group.name)
                return
            cluster.groups.transfer(group, target)
        again = cluster.resources.current(resource)
        if cluster.resources.state(again) != ONLINE:
            cluster.put_resource(replace(again, state=FAILED))
            await cluster.resources.online(again)
        current = cluster.resources.current(resource)
        cluster.put_resource(replace(current, failures=failures + 1))
