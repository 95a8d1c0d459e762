"""Which nodes take part: crashes, stops, pauses, votes and quorum."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from labenv.windows.cluster import log
from labenv.windows.cluster.errors import ClusterProblem
from labenv.windows.cluster.records import DISK, ONLINE, GroupRecord
from labenv.windows.vmconfig import is_active

if TYPE_CHECKING:
    from labenv.windows.cluster.cluster import FailoverCluster


class Membership:
    """The nodes of a cluster. What cannot be done is a ``ClusterProblem``."""

    def __init__(self, cluster: FailoverCluster) -> None:
        self._cluster = cluster

    # -- quorum ------------------------------------------------------------------------------------------------

    def _witness_votes(self) -> bool:
        """Whether the witness disk can vote: some node that is up has a path to it."""
        cluster = self._cluster
        if cluster.record.quorum is None:
            return False
        resource = cluster.resource_table.get(str(cluster.record.quorum))
        up = [cluster.hosts[n.name] for n in cluster.nodes.values() if n.state != "Down"]
        return resource is not None and any(cluster.disks.reaches(resource, host) for host in up)

    def votes(self) -> tuple[int, int]:
        """Votes that are there, and votes that there could be."""
        nodes = [n for n in self._cluster.nodes.values() if n.vote]
        present = sum(1 for n in nodes if n.state != "Down")
        witness = self._cluster.record.quorum is not None
        return present + (1 if witness and self._witness_votes() else 0), len(nodes) + (1 if witness else 0)

    def _check_quorum(self) -> bool:
        cluster = self._cluster
        have, could = self.votes()
        lost = 2 * have <= could
        if lost and not cluster.record.lost:
            up = [cluster.hosts[n.name] for n in cluster.nodes.values() if n.state != "Down"]
            log.quorum_lost(up)
            cluster.record = replace(cluster.record, lost=True)
            self._stop_everything()
        elif not lost and cluster.record.lost:
            cluster.record = replace(cluster.record, lost=False)
        if not lost and cluster.spec.dynamic_quorum:
            for node in list(cluster.nodes.values()):
                cluster.set_node(node.name, vote=node.state != "Down")
        return not lost

    def _stop_everything(self) -> None:
        """The cluster service stops on every node: nobody has the disks any more, virtual machines lose theirs."""
        cluster = self._cluster
        for host in cluster.hosts.values():
            for vm in list(host.vms.values()):
                if vm.clustered and is_active(vm):
                    running = host.machines.running.pop(vm.id, None)
                    if running is not None:
                        running.power_off()
                    host.machines.vms[str(vm.id)] = replace(vm, state="Off", open_files=(), started=0, status="")
                    group = cluster.group_of_vm(vm.id)
                    if group is not None:
                        cluster.put_group(replace(group, resume=True, moving="", progress=0))
        cluster.volumes.forget()
        for resource in list(cluster.resource_table.values()):
            if resource.kind == DISK and resource.state == ONLINE:
                cluster.disks.take_offline(resource, ONLINE)
        cluster.volumes.refresh()

    # -- going -------------------------------------------------------------------------------------------------

    def crash(self, node: str) -> None:
        """Cut a node's power. The others notice after the heartbeat, and take over what it had."""
        cluster = self._cluster
        host = cluster.hosts[node]
        if not host.powered:
            raise ClusterProblem(f"'{node}' is switched off already.")
        host.power_off()
        cluster.volumes.refresh()
        cluster.clock.spawn(self._notice(node), name=f"failover of {node}")

    async def _notice(self, node: str) -> None:
        cluster = self._cluster
        await cluster.clock.sleep(cluster.spec.heartbeat)
        if cluster.hosts[node].powered:
            return
        self._left(node)
        cluster.state.commit()

    def _left(self, node: str) -> None:
        """A node is gone: its vote, the events, and its groups."""
        cluster = self._cluster
        if cluster.nodes[node].state == "Down":
            return
        cluster.set_node(node, state="Down", drain="NotInitiated")
        log.node_removed(cluster.members(), node)
        if not self._check_quorum():
            return
        for group in cluster.groups.fail_over(node):
            cluster.clock.spawn(cluster.groups.start_again(group), name=f"start {group.name} again")

    async def stop(self, node: str) -> None:
        """Stop a node's cluster service: its groups move away in order first; its virtual machines are saved."""
        cluster = self._cluster
        if cluster.nodes[node].state == "Down":
            return
        cluster.set_node(node, service=False)
        await self._empty(node, live=False)
        await cluster.hosts[node].spend("windows.cluster.service")
        self._left(node)
        cluster.volumes.refresh()

    def stop_all(self) -> None:
        """The cluster service stops on every node at once."""
        cluster = self._cluster
        self._stop_everything()
        for node in list(cluster.nodes):
            cluster.set_node(node, service=False, state="Down", vote=True)
        cluster.volumes.refresh()

    async def _empty(self, node: str, *, live: bool, target: str = "") -> list[str]:
        """Move every group away; returns what went wrong."""
        cluster = self._cluster
        problems = []
        for group in cluster.groups.ordered():
            if group.owner != node:
                continue
            goal = target or cluster.groups.best_node(group, without=node)
            if goal is None:
                problems.append(f"There is no node for '{group.name}'.")
                continue
            try:
                await self._away(cluster.group(group.id), goal, live=live)
            except ClusterProblem as error:
                problems.append(error.message)
        return problems

    async def _away(self, group: GroupRecord, target: str, *, live: bool) -> None:
        cluster = self._cluster
        vm = cluster.machines.record(group) if group.vm is not None else None
        if vm is not None and vm.state == "Running" and not (live and cluster.spec.era != "2008r2"):
            await cluster.machines.quick(group, target)
        else:
            await cluster.groups.move(group, target)

    async def pause(self, node: str, *, drain: bool, target: str = "") -> None:
        """Pause a node: nothing moves to it; with ``drain`` its groups move away."""
        cluster = self._cluster
        if cluster.nodes[node].state == "Down":
            raise ClusterProblem(f"The node '{node}' is down.", code=5050)
        cluster.set_node(node, state="Paused", drain="InProgress" if drain else "NotInitiated")
        if not drain:
            return
        problems = await self._empty(node, live=True, target=target)
        cluster.set_node(node, drain="Failed" if problems else "Completed")
        if problems:
            raise ClusterProblem(" ".join(problems))

    # -- coming ------------------------------------------------------------------------------------------------

    def boot(self, node: str) -> None:
        """Switch a node on again; it joins, and groups that prefer it may come back."""
        host = self._cluster.hosts[node]
        if host.powered:
            raise ClusterProblem(f"'{node}' is switched on already.")
        host.power_on()
        if self._cluster.nodes[node].service:
            self._join(node)

    async def start(self, node: str) -> None:
        """Start a node's cluster service."""
        cluster = self._cluster
        if not cluster.hosts[node].powered:
            raise ClusterProblem(f"The node '{node}' does not answer.", code=1722)
        cluster.set_node(node, service=True)
        if cluster.nodes[node].state != "Down":
            return
        await cluster.hosts[node].spend("windows.cluster.service")
        self._join(node)

    def _join(self, node: str) -> None:
        cluster = self._cluster
        cluster.set_node(node, state="Up", vote=True)
        was_lost = cluster.record.lost
        self._check_quorum()
        for resource in cluster.resource_table.values():
            if resource.kind == DISK and cluster.owner(resource) != node:
                cluster.disks.hide(resource, cluster.hosts[node])
        if was_lost and not cluster.record.lost:
            cluster.disks.settle()
        if not cluster.record.lost:
            for group in cluster.groups.settle():
                cluster.clock.spawn(cluster.groups.start_again(group), name=f"start {group.name} again")
        cluster.volumes.refresh()
        cluster.hosts[node].finish_merges()
        for group in cluster.groups.ordered():
            if group.failback and group.preferred[:1] == (node,) and group.owner != node:
                cluster.clock.spawn(self._fail_back(group, node), name=f"failback of {group.name}")

    async def _fail_back(self, group: GroupRecord, node: str) -> None:
        """Move a group to the node that it prefers, once its virtual machine has started; it may be gone by then."""
        cluster = self._cluster
        while (now := cluster.group_named(group.name)) is not None:
            vm = cluster.machines.record(now) if now.vm is not None else None
            if vm is None or vm.state != "Starting":
                break
            await cluster.clock.sleep(1.0)
        if now is None:
            return
        try:
            await cluster.groups.move(now, node)
        except ClusterProblem:
            log.group_failed([cluster.hosts[node]], group.name)
        cluster.state.commit()

    def resume(self, node: str) -> None:
        """End a pause."""
        cluster = self._cluster
        if cluster.nodes[node].state != "Paused":
            raise ClusterProblem(f"The node '{node}' is not paused.", code=5058)
        cluster.set_node(node, state="Up", drain="NotInitiated")

    def settle(self) -> None:
        """After a start of the nodes: those that are on and whose service runs have joined."""
        cluster = self._cluster
        for node in list(cluster.nodes.values()):
            there = node.service and cluster.hosts[node.name].powered
            state = ("Paused" if node.state == "Paused" else "Up") if there else "Down"
            cluster.set_node(node.name, state=state, vote=node.vote or there)
        cluster.record = replace(cluster.record, lost=False)
        self._check_quorum()
