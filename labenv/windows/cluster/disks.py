"""The cluster's disks: which node has them, what is known of them, and the clones that look like them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING
from uuid import UUID

from labenv.devices import DeviceError
from labenv.windows.cluster.errors import ClusterProblem
from labenv.windows.cluster.records import (
    DISK,
    FAILED,
    OFFLINE,
    ONLINE,
    DiskIdentity,
    DiskVolume,
    GroupRecord,
    ResourceRecord,
)
from labenv.windows.disks.layout import Identity, Layout
from labenv.windows.records import DiskRecord, MountRecord

if TYPE_CHECKING:
    from labenv.windows.cluster.cluster import FailoverCluster
    from labenv.windows.host import Host


class NodeDisks:
    """The cluster's disk driver on one node (``storage.DiskOwner``)."""

    def __init__(self, disks: ClusterDisks) -> None:
        self._disks = disks

    def clustered(self, record: DiskRecord) -> bool:
        """Whether a disk is one of the cluster's."""
        return self._disks.resource_of(record.unique_id) is not None

    def holds(self, record: DiskRecord, layout: Layout | None) -> bool:
        """Whether only the cluster may bring a disk online or take it offline.

        The driver knows its disks by their GUID or signature: a clone of one, shown to a node beside it, is taken for
        it and stays offline. A disk in maintenance may be worked on where it is online.
        """
        if record.kind != "iscsi":
            return False
        resource = self._disks.resource_of(record.unique_id)
        if resource is not None:
            return not resource.maintenance or record.offline
        return layout is not None and self._disks.knows(layout.identity)


class ClusterDisks:
    """Physical Disk resources. What cannot be done is a ``ClusterProblem``."""

    def __init__(self, cluster: FailoverCluster) -> None:
        self._cluster = cluster
        self._driver = NodeDisks(self)

    def owner_on(self, _host: Host) -> NodeDisks:
        """The disk driver of a node; all nodes know the same disks."""
        return self._driver

    # -- finding -----------------------------------------------------------------------------------------------

    def resource_of(self, unique_id: str) -> ResourceRecord | None:
        """The resource of a disk."""
        return next((r for r in self._cluster.resource_table.values() if r.disk == unique_id), None)

    def knows(self, identity: Identity) -> bool:
        """Whether one of the cluster's disks has this GUID or signature."""
        return any(i.known_by == identity for i in self._cluster.identities.values())

    def identity(self, resource: ResourceRecord) -> DiskIdentity:
        """What is known of a disk."""
        return self._cluster.identities[str(resource.id)]

    def record_on(self, resource: ResourceRecord, host: Host) -> DiskRecord | None:
        """The disk as a node has it; None if it is not mapped there."""
        record = host.disks.records.get(resource.disk)
        return record if record is not None and record.number is not None else None

    def reaches(self, resource: ResourceRecord, host: Host) -> bool:
        """Whether a node has a path to a disk now."""
        record = self.record_on(resource, host)
        if record is None or not host.powered:
            return False
        try:
            host.disks.raw(record)
        except DeviceError:
            return False
        return True

    def candidates(self, *, everything: bool = False) -> list[DiskRecord]:
        """Disks that could be added: every member sees them, they are initialised, and none of the cluster's ids.

        ``everything``: also those that only some nodes see (asymmetric storage).
        """
        members = self._cluster.members()
        found: dict[str, DiskRecord] = {}
        for host in members:
            for record in host.disks.present():
                layout = host.disks.layout(record)
                if record.kind != "iscsi" or layout is None or self.knows(layout.identity):
                    continue
                seen = sum(1 for h in members if (r := h.disks.records.get(record.unique_id)) and r.number is not None)
                if everything or seen == len(members):
                    found.setdefault(record.unique_id, record)
        return list(found.values())

    # -- adding and removing -----------------------------------------------------------------------------------

    def add(self, unique_id: str, *, finder: Host) -> ResourceRecord:
        """Make a disk that a node sees a cluster disk in Available Storage, and bring it online there."""
        cluster = self._cluster
        record = finder.disks.records.get(unique_id)
        layout = finder.disks.layout(record) if record is not None and record.number is not None else None
        if record is None or layout is None:
            raise ClusterProblem("The disk is not initialized, so that the cluster cannot recognize it.")
        if self.resource_of(unique_id) is not None or self.knows(layout.identity):
            raise ClusterProblem(f"The disk with the id {identity_text(layout)} is already a disk of this cluster.")
        if record.kind != "iscsi":
            raise ClusterProblem("The disk is not on a bus that the nodes share.")
        group = cluster.available_storage()
        if not self.seen(unique_id, group.owner):
            if self.disks_of(group):
                text = (
                    f"Node '{group.owner}', which owns Available Storage, does not see the disk: move that group first."
                )
                raise ClusterProblem(text, code=5008)
            group = cluster.put_group(replace(group, owner=finder.name))
        number = cluster.record.disks + 1
        while cluster.resource_named(f"Cluster Disk {number}") is not None:
            number += 1
        cluster.record = replace(cluster.record, disks=number)
        resource = cluster.add_resource(f"Cluster Disk {number}", DISK, group, disk=unique_id)
        seeing = tuple(node for node in cluster.nodes if self.seen(unique_id, node))
        if len(seeing) < len(cluster.nodes):  # asymmetric storage: the others cannot have it
            resource = cluster.put_resource(replace(resource, owners=seeing))
        cluster.identities[str(resource.id)] = _identity(layout, record)
        self._learn(resource, finder)
        return self.bring_online(resource, group.owner)

    def seen(self, unique_id: str, node: str) -> bool:
        """Whether a node sees a disk."""
        record = self._cluster.hosts[node].disks.records.get(unique_id)
        return record is not None and record.number is not None

    def remove(self, resource: ResourceRecord) -> None:
        """Give a disk back to the node that has it; it is offline there."""
        cluster = self._cluster
        self.take_offline(resource, OFFLINE)
        del cluster.identities[str(resource.id)]
        del cluster.resource_table[str(resource.id)]

    def change_group(self, resource: ResourceRecord, group: GroupRecord) -> ResourceRecord:
        """Put a disk into another group; it comes along to the node that has the group."""
        cluster = self._cluster
        online = resource.state == ONLINE
        if group.owner != cluster.owner(resource):
            self.take_offline(resource)
        changed = cluster.put_resource(replace(cluster.resource(resource.id), group=group.id))
        return self.bring_online(changed, group.owner) if online else changed

    def pass_through(self, resource: ResourceRecord) -> ResourceRecord:
        """A virtual machine has a disk for itself: no node mounts it."""
        self.learn(resource)
        changed = self._cluster.put_resource(replace(self._cluster.resource(resource.id), raw=True))
        for host in self._cluster.hosts.values():
            self.hide(changed, host)
        return changed

    def give_back(self, resource: ResourceRecord) -> ResourceRecord:
        """Put a disk of a role that goes away into Available Storage; that follows the disk if it is empty."""
        if resource.raw:
            resource = self._cluster.put_resource(replace(resource, raw=False))
        available = self._cluster.available_storage()
        if not self.disks_of(available):
            owner = self._cluster.owner(resource)
            available = self._cluster.put_group(replace(available, owner=owner))
        return self.change_group(resource, available)

    def make_witness(self, resource: ResourceRecord | None) -> None:
        """Make a disk the witness (None: only the nodes vote); the old one goes to Available Storage."""
        cluster = self._cluster
        if resource is not None:
            if resource.shared or cluster.group_of(resource).kind not in ("AvailableStorage", "Cluster"):
                raise ClusterProblem(f"'{resource.name}' is used already.", code=5894)
            if resource.state != ONLINE:
                raise ClusterProblem(f"'{resource.name}' is {resource.state}: it has to be online.", code=5004)
        old = cluster.record.quorum
        cluster.record = replace(cluster.record, quorum=resource.id if resource is not None else None)
        if old is not None and (resource is None or old != resource.id):
            self.give_back(cluster.resource(old))
        if resource is not None:
            self.change_group(resource, cluster.core_group())

    # -- online and offline ------------------------------------------------------------------------------------

    def bring_online(self, resource: ResourceRecord, node: str) -> ResourceRecord:
        """Reserve a disk for a node and show its volumes there; raises ``ClusterProblem`` if no path leads to it."""
        cluster = self._cluster
        host = cluster.hosts[node]
        record = self.record_on(resource, host)
        if record is None or not self.reaches(resource, host):
            raise ClusterProblem(f"The disk of '{resource.name}' was not found on node '{node}'.", code=5008)
        for other in cluster.hosts.values():
            if other is not host:
                self.hide(resource, other)
        if resource.raw:
            self.hide(resource, host)
            return cluster.put_resource(replace(cluster.resource(resource.id), state=ONLINE))
        if not resource.shared:
            for volume in self.identity(resource).volumes:
                self._mount(host, self.volume_on(host, resource, volume), volume)
        host.disks.records[record.unique_id] = replace(record, read_only=False)
        if record.offline:
            host.disks.set_offline(host.disks.records[record.unique_id], False)
        else:
            host.disks.refresh(host.disks.records[record.unique_id])
        self._learn(resource, host)
        return cluster.put_resource(replace(cluster.resource(resource.id), state=ONLINE))

    def hide(self, resource: ResourceRecord, host: Host) -> None:
        """A disk is not for this node: it is offline there."""
        record = host.disks.records.get(resource.disk)
        if record is not None and record.offline and record.offline_reason:
            host.disks.records[record.unique_id] = replace(record, offline_reason=0)
        if record is None or record.offline:
            return
        if record.number is not None and host.powered:
            host.disks.set_offline(record, True)
        else:
            host.disks.records[record.unique_id] = replace(record, offline=True, offline_reason=0)

    @staticmethod
    def _mount(host: Host, guid: UUID, volume: DiskVolume) -> None:
        for path in volume.paths:
            if not host.volumes.is_mount_point(path):
                host.files.mkdir(path)
        if volume.letter or volume.paths or guid != volume.partition:
            host.volumes.mount(guid, MountRecord(volume.letter, volume.paths, bare=not volume.letter))

    def _learn(self, resource: ResourceRecord, host: Host) -> None:
        """Read a disk's id and volumes again from the node that has it."""
        record = self.record_on(resource, host)
        layout = host.disks.layout(record) if record is not None else None
        if record is None or layout is None:
            return
        known = {self.volume_on(host, resource, v): v for v in self.identity(resource).volumes}
        volumes = []
        for part in layout.partitions:
            if not part.holds_volume:
                continue
            mount = MountRecord() if record.offline or resource.shared else host.volumes.mount_of(part.guid)
            if record.offline and part.guid in known:
                mount = MountRecord(known[part.guid].letter, known[part.guid].paths)
            volumes.append(DiskVolume(part.guid, part.number, part.offset, part.length, mount.letter, mount.paths))
        self._cluster.identities[str(resource.id)] = replace(_identity(layout, record), volumes=tuple(volumes))

    def volume_on(self, host: Host, resource: ResourceRecord, volume: DiskVolume) -> UUID:
        """The GUID that a node has for a volume: of an MBR disk it is another on each of them."""
        signature = self.identity(resource).signature
        return host.disks.volume_guid(signature, volume.offset) if signature else volume.partition

    def learn(self, resource: ResourceRecord) -> None:
        """Remember what the node that has a disk has done to it (letters, mount points, partitions)."""
        host = self._cluster.hosts[self._cluster.owner(resource)]
        if resource.state == ONLINE and host.powered:
            self._learn(resource, host)

    def take_offline(self, resource: ResourceRecord, state: str = OFFLINE) -> ResourceRecord:
        """Take a disk away from the node that has it; what the node has cached of it is written, if it can be."""
        self.learn(resource)
        for host in self._cluster.hosts.values():
            self.hide(resource, host)
        return self._cluster.put_resource(replace(self._cluster.resource(resource.id), state=state))

    def settle(self) -> None:
        """After a start of the nodes: each disk is where its group is, and online if it was."""
        for resource in list(self._cluster.resource_table.values()):
            if resource.kind != DISK:
                continue
            group = self._cluster.group_of(resource)
            wanted = resource.state in (ONLINE, "OnlinePending") and self._cluster.is_member(group.owner)
            for host in self._cluster.hosts.values():
                if not wanted or host.name != group.owner:
                    self.hide(resource, host)
            if wanted:
                try:
                    self.bring_online(resource, group.owner)
                except ClusterProblem:
                    self._cluster.put_resource(replace(resource, state=FAILED))

    def disks_of(self, group: GroupRecord) -> list[ResourceRecord]:
        """The disks of a group."""
        return [r for r in self._cluster.resources_of(group) if r.kind == DISK]


def _identity(layout: Layout, record: DiskRecord) -> DiskIdentity:
    known = layout.identity
    if isinstance(known, UUID):
        return DiskIdentity(known, record.serial, record.size)
    return DiskIdentity(UUID(int=0), record.serial, record.size, signature=known)


def identity_text(layout: Layout) -> str:
    """A disk's GUID or signature as the cluster's cmdlets write it."""
    known = layout.identity
    return f"{{{known}}}" if isinstance(known, UUID) else f"0x{known:08X}"
