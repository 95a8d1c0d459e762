"""Groups: online, offline, and from node to node."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from labenv.windows.cluster import log
from labenv.windows.cluster.errors import ClusterProblem
from labenv.windows.cluster.records import (
    OFFLINE,
    ONLINE,
    ONLINE_PENDING,
    VM,
    GroupRecord,
    NodeRecord,
    ResourceRecord,
)
from labenv.windows.cluster.volumes import SHARED_GROUP

if TYPE_CHECKING:
    from labenv.windows.cluster.cluster import FailoverCluster

_ORDER = ("Cluster", "AvailableStorage", SHARED_GROUP)


class Groups:
    """Operations on groups. What cannot be done is a ``ClusterProblem``."""

    def __init__(self, cluster: FailoverCluster) -> None:
        self._cluster = cluster

    def ordered(self) -> list[GroupRecord]:
        """Every group, what others need first, then by priority."""
        groups = self._cluster.group_table.values()

        def place(group: GroupRecord) -> tuple[int, int, int, str]:
            core = _ORDER.index(group.kind) if group.kind in _ORDER else len(_ORDER)
            return core, group.vm is not None, -group.priority, group.name.lower()

        return sorted(groups, key=place)

    # -- online and offline ------------------------------------------------------------------------------------

    async def online(self, group: GroupRecord) -> None:
        """Bring everything in a group online."""
        self._cluster.put_group(replace(self._cluster.group(group.id), wanted=True))
        for resource in self._cluster.resources_of(group):
            await self._cluster.resources.online(resource)

    async def offline(self, group: GroupRecord) -> None:
        """Take everything in a group offline; a virtual machine saves its state unless told otherwise."""
        self._cluster.put_group(replace(self._cluster.group(group.id), wanted=False))
        for resource in reversed(self._cluster.resources_of(group)):
            await self._cluster.resources.offline(resource)

    # -- moving ------------------------------------------------------------------------------------------------

    def _allowed(self, group: GroupRecord, node: NodeRecord) -> bool:
        if node.state != "Up" or not self._cluster.is_member(node.name):
            return False
        resources = self._cluster.resources_of(group)
        return all(node.name in self._cluster.resources.possible_owners(r) for r in resources)

    def best_node(self, group: GroupRecord, *, without: str = "", among: Sequence[str] | None = None) -> str | None:
        """Where a group should go: a preferred owner, else the node with the fewest groups that has nothing alike."""
        cluster = self._cluster
        names = [n for n in cluster.nodes if n != without and (among is None or n in among)]
        nodes = [cluster.nodes[n] for n in names if self._allowed(group, cluster.nodes[n])]
        others = [g for g in cluster.group_table.values() if g.id != group.id]

        def rank(node: NodeRecord) -> tuple[int, int, int, int]:
            preferred = group.preferred.index(node.name) if node.name in group.preferred else len(group.preferred)
            here = [g for g in others if g.owner == node.name]
            alike = sum(1 for g in here if set(g.anti_affinity) & set(group.anti_affinity))
            return alike, preferred, len(here), node.number

        return min(nodes, key=rank).name if nodes else None

    def check_target(self, group: GroupRecord, target: str) -> None:
        """Raise ``ClusterProblem`` if a group cannot be moved to a node."""
        node = self._cluster.node_named(target)
        if node is None:
            raise ClusterProblem(f"There is no node '{target}' in this cluster.", code=5042)
        if not self._cluster.is_member(node.name):
            raise ClusterProblem(f"The node '{node.name}' is down.", code=5050)
        if node.state == "Paused":
            raise ClusterProblem(f"The node '{node.name}' is paused.", code=70)
        if not self._allowed(group, node):
            raise ClusterProblem(
                f"The operation failed because either the specified cluster node is not the owner of the group, or the "
                f"node '{node.name}' is not a possible owner of the group.",
                code=5016,
            )

    def transfer(self, group: GroupRecord, target: str, *, crashed: bool = False) -> GroupRecord:
        """Give a group with all that it has to another node at once; what was online is online there.

        A virtual machine that runs goes on running; after a crash of its node it is only marked to be started.
        """
        cluster = self._cluster
        source, host = cluster.hosts[group.owner], cluster.hosts[target]
        disks = cluster.disks.disks_of(group)
        online = [d for d in disks if d.state in (ONLINE, ONLINE_PENDING)]
        log.group_moved([source, host], group.name, source.name, target)
        handed = None
        if group.vm is not None and (vm := source.machines.get(group.vm)) is not None:
            handed = source.machines.release(vm)
        for disk in disks:
            cluster.disks.take_offline(disk, OFFLINE)
        group = cluster.put_group(replace(cluster.group(group.id), owner=target, moving="", progress=0))
        for disk in online:
            self._again(cluster.resource(disk.id))
        if any(d.shared for d in disks):
            cluster.volumes.refresh()
        if handed is not None:
            cluster.machines.receive(host, *handed, crashed=crashed)
        return group

    def _again(self, disk: ResourceRecord) -> None:
        try:
            self._cluster.resources.online_now(disk)
        except ClusterProblem:
            return  # it is Failed, and the owner's log says so

    async def move(self, group: GroupRecord, target: str) -> None:
        """Move a group to a node in order; virtual machines migrate (live since Windows Server 2012)."""
        cluster = self._cluster
        self.check_target(group, target)
        if target == group.owner:
            return
        if group.vm is None:
            await cluster.hosts[group.owner].spend("windows.cluster.move")
            self.transfer(cluster.group(group.id), target)
            return
        vm = cluster.machines.record(group)
        if vm is None or vm.state != "Running":
            await cluster.hosts[group.owner].spend("windows.cluster.move")
            self.transfer(cluster.group(group.id), target)
        elif cluster.spec.era == "2008r2":
            await cluster.machines.quick(group, target)
        else:
            await cluster.machines.live(group, target)

    # -- failover ----------------------------------------------------------------------------------------------

    def fail_over(self, node: str) -> list[GroupRecord]:
        """Give every group of a node that is gone to the best other node; returns those of virtual machines."""
        cluster = self._cluster
        machines = []
        for group in self.ordered():
            if group.owner != node:
                continue
            target = self.best_node(group, without=node)
            if target is None:
                continue
            moved = self.transfer(cluster.group(group.id), target, crashed=True)
            if moved.vm is not None:
                machines.append(moved)
        return machines

    async def start_again(self, group: GroupRecord) -> None:
        """Start the virtual machine of a group that has failed over, if it ran."""
        cluster = self._cluster
        vm = cluster.machines.record(cluster.group(group.id))
        if vm is None or vm.state != "Starting":
            return
        resource = next(r for r in cluster.resources_of(group) if r.kind == VM)
        host = cluster.machines.host(cluster.group(group.id))
        host.machines.vms[str(vm.id)] = replace(vm, state="Off")
        try:
            await cluster.resources.online(resource)
        except ClusterProblem:
            log.group_failed([host], group.name)
        cluster.state.commit()

    def settle(self) -> list[GroupRecord]:
        """Whatever a node has that is not there goes to one that is; returns roles whose VMs are to be started."""
        cluster = self._cluster
        found = []
        for each in self.ordered():
            group = each
            if group.moving and not cluster.is_member(group.owner):
                group = cluster.put_group(replace(group, moving="", progress=0))
            moved = False
            if not cluster.record.lost and not cluster.is_member(group.owner):
                target = self.best_node(group, without=group.owner)
                if target is not None:
                    group, moved = self.transfer(group, target, crashed=True), True
            vm = cluster.machines.record(group) if group.vm is not None else None
            if vm is None or not cluster.is_member(group.owner):
                continue
            if group.resume:
                group = cluster.put_group(replace(group, resume=False))
                cluster.machines.host(group).machines.vms[str(vm.id)] = vm = replace(vm, state="Starting")
                moved = True
            if moved and vm.state == "Starting":
                found.append(group)
        return found

    def run_now(self, groups: list[GroupRecord]) -> None:
        """The nodes have just been started: these virtual machines run, and boot when they are first asked."""
        for group in groups:
            vm = self._cluster.machines.needed(group)
            machines = self._cluster.machines.host(group).machines
            if not self._cluster.machines.manages(group.owner):
                machines.vms[str(vm.id)] = replace(vm, state="Off", started=0, open_files=())
                continue
            machines.vms[str(vm.id)] = replace(vm, state="Running", started=self._cluster.clock.now)
