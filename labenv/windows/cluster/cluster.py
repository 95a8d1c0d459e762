"""A failover cluster: its database, and the parts that act on it. Its hosts are its nodes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from uuid import UUID

from labenv.clock import Clock
from labenv.costs import Costs
from labenv.ids import Ids
from labenv.state import State
from labenv.windows.cluster.disks import ClusterDisks
from labenv.windows.cluster.groups import Groups
from labenv.windows.cluster.machines import ClusteredMachines
from labenv.windows.cluster.membership import Membership
from labenv.windows.cluster.monitor import Monitor
from labenv.windows.cluster.records import (
    ADDRESS,
    NAME,
    ONLINE,
    ClusterRecord,
    DiskIdentity,
    GroupRecord,
    NodeRecord,
    ResourceRecord,
    SharedVolumeRecord,
)
from labenv.windows.cluster.resources import Resources
from labenv.windows.cluster.spec import FailoverSpec
from labenv.windows.cluster.volumes import ClusterVolumes
from labenv.windows.files import Files
from labenv.windows.host import Host

CORE_GROUP = "Cluster Group"
AVAILABLE = "Available Storage"


class FailoverCluster:
    """A failover cluster. Its truth is in the state's tables; file systems of shared volumes are caches.

    A cluster made over existing state has just been started: nodes that are on have joined, what they own is online,
    and what is owned by a node that is off has failed over.
    """

    def __init__(
        self, *, spec: FailoverSpec, hosts: Sequence[Host], clock: Clock, state: State, ids: Ids, costs: Costs
    ) -> None:
        self.spec = spec
        self.hosts = {host.name: host for host in hosts}
        self.clock = clock
        self.ids = ids
        self.costs = costs
        self.state = state
        kind = f"cluster.{spec.name}"
        self._record = state.table(f"{kind}.cluster", ClusterRecord)
        self.nodes = state.table(f"{kind}.node", NodeRecord)
        self.group_table = state.table(f"{kind}.group", GroupRecord)
        self.resource_table = state.table(f"{kind}.resource", ResourceRecord)
        self.identities = state.table(f"{kind}.disk", DiskIdentity)
        self.volume_table = state.table(f"{kind}.volume", SharedVolumeRecord)
        self.unbound = state.table(f"{kind}.unbound", bool)
        self.disks = ClusterDisks(self)
        self.volumes = ClusterVolumes(self)
        self.resources = Resources(self)
        self.machines = ClusteredMachines(self)
        self.groups = Groups(self)
        self.membership = Membership(self)
        self.monitor = Monitor(self)
        if not self.nodes:
            self._form()
        for host in hosts:
            host.cluster = self
            host.disks.owner = self.disks.owner_on(host)
            host.volumes.shared = self.volumes.view_of(host)
            host.files.peers = partial(self._peers_of, host)
        self.start()
        state.after_restore(self.start)
        state.join(self.monitor)

    def _form(self) -> None:
        names = (self.spec.name,)
        self._record["cluster"] = ClusterRecord(self.ids.uuid("cluster", *names))
        for number, node in enumerate(self.spec.nodes, 1):
            self.nodes[node] = NodeRecord(node, number, self.ids.uuid("cluster node", *names, node))
        first = self.spec.nodes[0]
        core = self.add_group(CORE_GROUP, "Cluster", first, core=True)
        self.add_group(AVAILABLE, "AvailableStorage", first, core=True)
        self.add_resource("Cluster IP Address", ADDRESS, core, state=ONLINE)
        self.add_resource("Cluster Name", NAME, core, state=ONLINE, depends="([Cluster IP Address])")

    def _peers_of(self, host: Host) -> Iterable[Files]:
        """What the other nodes have open counts too: a shared volume's files are open for all."""
        return [h.files for h in self.members() if h is not host]

    # -- the database ------------------------------------------------------------------------------------------

    @property
    def record(self) -> ClusterRecord:
        """The cluster's own record."""
        return self._record["cluster"]

    @record.setter
    def record(self, record: ClusterRecord) -> None:
        self._record["cluster"] = record

    def add_group(
        self,
        name: str,
        kind: str,
        owner: str,
        *,
        core: bool = False,
        vm: UUID | None = None,
        identity: UUID | None = None,
    ) -> GroupRecord:
        """A new group."""
        made = GroupRecord(
            identity or self.ids.uuid("cluster group", self.spec.name, name), name, kind, owner, core=core, vm=vm
        )
        self.group_table[str(made.id)] = made
        return made

    def add_resource(
        self,
        name: str,
        kind: str,
        group: GroupRecord,
        *,
        state: str = "Offline",
        depends: str = "",
        vm: UUID | None = None,
        disk: str = "",
    ) -> ResourceRecord:
        """A new resource."""
        identity = self.ids.uuid("cluster resource", self.spec.name, name)
        made = ResourceRecord(identity, name, kind, group.id, state=state, depends=depends, vm=vm, disk=disk)
        self.resource_table[str(made.id)] = made
        return made

    def put_group(self, group: GroupRecord) -> GroupRecord:
        """Change a group."""
        self.group_table[str(group.id)] = group
        return group

    def put_resource(self, resource: ResourceRecord) -> ResourceRecord:
        """Change a resource."""
        self.resource_table[str(resource.id)] = resource
        return resource

    def group(self, identity: UUID) -> GroupRecord:
        """The group of an id; KeyError if there is none."""
        return self.group_table[str(identity)]

    def resource(self, identity: UUID) -> ResourceRecord:
        """The resource of an id; KeyError if there is none."""
        return self.resource_table[str(identity)]

    def group_named(self, name: str) -> GroupRecord | None:
        """The group of a name."""
        return next((g for g in self.group_table.values() if g.name.lower() == name.lower()), None)

    def resource_named(self, name: str) -> ResourceRecord | None:
        """The resource of a name."""
        return next((r for r in self.resource_table.values() if r.name.lower() == name.lower()), None)

    def node_named(self, name: str) -> NodeRecord | None:
        """The node of a name (also of a fully qualified one)."""
        wanted = name.split(".")[0].lower()
        return next((n for n in self.nodes.values() if n.name.lower() == wanted), None)

    def resources_of(self, group: GroupRecord) -> list[ResourceRecord]:
        """A group's resources, what others depend on first."""
        found = [r for r in self.resource_table.values() if r.group == group.id]
        return sorted(found, key=lambda r: bool(r.depends))

    def by_group(self) -> dict[UUID, list[ResourceRecord]]:
        """The resources of every group, for whoever looks at many."""
        found: dict[UUID, list[ResourceRecord]] = {}
        for resource in self.resource_table.values():
            found.setdefault(resource.group, []).append(resource)
        return found

    def group_of(self, resource: ResourceRecord) -> GroupRecord:
        """The group of a resource."""
        return self.group(resource.group)

    def owner(self, resource: ResourceRecord) -> str:
        """The node that has a resource."""
        return self.group_of(resource).owner

    def group_of_vm(self, vm: UUID) -> GroupRecord | None:
        """The role of a virtual machine."""
        return next((g for g in self.group_table.values() if g.vm == vm), None)

    def available_storage(self) -> GroupRecord:
        """The group of the disks that no role uses."""
        return next(g for g in self.group_table.values() if g.kind == "AvailableStorage")

    def core_group(self) -> GroupRecord:
        """The group of the cluster's name."""
        return next(g for g in self.group_table.values() if g.kind == "Cluster")

    # -- the nodes ---------------------------------------------------------------------------------------------

    def is_member(self, node: str) -> bool:
        """Whether a node takes part now: it is on, its service runs, and the cluster has its quorum."""
        return self.nodes[node].state != "Down" and self.hosts[node].powered and not self.record.lost

    def members(self) -> list[Host]:
        """The hosts of the nodes that take part now, in the order of their numbers."""
        return [self.hosts[n.name] for n in self.nodes.values() if self.is_member(n.name)]

    def set_node(self, node: str, **changes: object) -> NodeRecord:
        """Change a node's record."""
        changed = replace(self.nodes[node], **changes)  # type: ignore[arg-type]  # names come from this package
        self.nodes[node] = changed
        return changed

    # -- the lab's life ----------------------------------------------------------------------------------------

    def start(self) -> None:
        """The nodes have been started together, after the lab was, or after everything went back to a checkpoint."""
        self.volumes.forget()
        self.membership.settle()
        self.disks.settle()
        for group in self.group_table.values():
            if group.moving:
                self.put_group(replace(group, moving="", progress=0))
        self.groups.run_now(self.groups.settle())
        self.volumes.refresh()
        for host in self.members():
            host.finish_merges()

    def power_cut(self) -> None:
        """Every node loses its power at once: the hosts have forgotten their caches, and so does the cluster."""
        self.volumes.forget()
        self.start()
