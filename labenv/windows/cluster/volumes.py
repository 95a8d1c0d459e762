"""Cluster shared volumes: one file system that every node uses, coordinated by the node that owns the disk."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING
from uuid import UUID

from labenv.devices import BlockDevice, DeviceError, DeviceGone, Forwarding
from labenv.windows.cluster.errors import ClusterProblem
from labenv.windows.cluster.records import FAILED, OFFLINE, ONLINE, DiskVolume, ResourceRecord, SharedVolumeRecord
from labenv.windows.disks import gpt as table
from labenv.windows.disks.errors import FileSystemError
from labenv.windows.disks.exfat import FileSystem
from labenv.windows.disks.gpt import Partition, PartitionDevice
from labenv.windows.records import DiskRecord, MountRecord
from labenv.windows.volumes import Volume

if TYPE_CHECKING:
    from labenv.windows.cluster.cluster import FailoverCluster
    from labenv.windows.host import Host

ROOT = "C:\\ClusterStorage"
SHARED_GROUP = "ClusterSharedVolume"


class SharedDisk(Forwarding):
    """The bytes of a shared volume's disk, over whichever member has a path to it; the owner is asked first."""

    def __init__(self, cluster: FailoverCluster, resource: UUID) -> None:
        self._cluster = cluster
        self._resource = resource

    def _device(self) -> BlockDevice:
        cluster = self._cluster
        resource = cluster.resource_table.get(str(self._resource))
        if resource is None or resource.state != ONLINE:
            raise DeviceGone("the shared volume is offline")
        owner = cluster.owner(resource)
        if cluster.is_member(owner) and (device := self._through(resource, cluster.hosts[owner])) is not None:
            return device
        for host in cluster.members():
            if (device := self._through(resource, host)) is not None:
                return device
        raise DeviceGone(f"no node has a path to the disk of {resource.name}")

    def _through(self, resource: ResourceRecord, host: Host) -> BlockDevice | None:
        record = self._cluster.disks.record_on(resource, host)
        try:
            return host.disks.raw(record) if record is not None else None
        except DeviceGone:
            return None


class NodeVolumes:
    """The shared volumes as one node sees them (``windows.volumes.SharedVolumes``)."""

    def __init__(self, volumes: ClusterVolumes, host: Host) -> None:
        self._volumes = volumes
        self._host = host

    def volumes(self) -> list[Volume]:
        """The volumes that this node can reach now."""
        return self._volumes.seen_by(self._host)

    def hides(self, disk: DiskRecord) -> bool:
        """Whether the NTFS volumes of a disk are hidden below shared ones."""
        return self._volumes.hides(disk.unique_id)

    def device(self, volume: Volume) -> BlockDevice:
        """The bytes of a shared volume."""
        return self._volumes.device(volume.guid)

    def file_system(self, volume: Volume) -> FileSystem:
        """The file system, which all nodes share."""
        return self._volumes.file_system(volume.guid)

    def renamed(self, volume: Volume, path: str) -> None:
        """Its folder was renamed on this node; the others follow."""
        self._volumes.renamed(volume.guid, path, on=self._host)


class ClusterVolumes:
    """The shared volumes. What cannot be done is a ``ClusterProblem``."""

    def __init__(self, cluster: FailoverCluster) -> None:
        self._cluster = cluster
        self._systems: dict[UUID, FileSystem] = {}

    def view_of(self, host: Host) -> NodeVolumes:
        """What a host sees of them."""
        return NodeVolumes(self, host)

    # -- finding -----------------------------------------------------------------------------------------------

    def of(self, resource: ResourceRecord) -> list[SharedVolumeRecord]:
        """The shared volumes on a disk."""
        return [v for v in self._cluster.volume_table.values() if v.resource == resource.id]

    def disks(self) -> list[ResourceRecord]:
        """The disks with shared volumes, in the order of their names."""
        return sorted((r for r in self._cluster.resource_table.values() if r.shared), key=lambda r: r.name.lower())

    def at(self, path: str) -> SharedVolumeRecord | None:
        """The shared volume that a path leads to."""
        lowered = path.lower().rstrip("\\") + "\\"
        found = [v for v in self._cluster.volume_table.values() if lowered.startswith(v.path.lower())]
        return max(found, key=lambda v: len(v.path), default=None)

    def hides(self, unique_id: str) -> bool:
        """Whether a disk is a shared volume's."""
        resource = self._cluster.disks.resource_of(unique_id)
        return resource is not None and resource.shared

    def partition(self, volume: SharedVolumeRecord) -> DiskVolume:
        """Where a shared volume lies on its disk."""
        identity = self._cluster.identities[str(volume.resource)]
        return next(v for v in identity.volumes if v.number == volume.partition)

    def seen_by(self, host: Host) -> list[Volume]:
        """The volumes that a node can use now: all that are online, if it is a member."""
        if not self._cluster.is_member(host.name):
            return []
        found = []
        for volume in self._cluster.volume_table.values():
            resource = self._cluster.resource(volume.resource)
            if resource.state != ONLINE or self.cut_off(resource, host):
                continue
            part = self.partition(volume)
            partition = Partition(
                part.number, table.BASIC_DATA, part.partition, part.offset, part.length, "Basic data partition"
            )
            found.append(Volume(volume.guid, resource.disk, partition, "", (), shared=True))
        return found

    def device(self, guid: UUID) -> BlockDevice:
        """The bytes of a shared volume."""
        volume = self._cluster.volume_table[str(guid)]
        part = self.partition(volume)
        return PartitionDevice(SharedDisk(self._cluster, volume.resource), part.offset, part.length)

    def file_system(self, guid: UUID) -> FileSystem:
        """The file system of a shared volume, mounted once for all nodes."""
        found = self._systems.get(guid)
        if found is None:
            found = self._systems[guid] = FileSystem(self.device(guid), now=lambda: self._cluster.clock.time)
        return found

    def formatted(self, guid: UUID) -> FileSystem | None:
        """The file system of a shared volume if it can be read now."""
        try:
            return self.file_system(guid)
        except (DeviceError, FileSystemError):
            return None

    def access(self, resource: ResourceRecord, volume: SharedVolumeRecord, host: Host) -> tuple[str, str, str]:
        """How a node reaches a shared volume: state, reason of file system redirection, reason of block redirection."""
        direct = self._cluster.disks.reaches(resource, host)
        block = "NotBlockRedirected" if direct else "NoDiskConnectivity"
        redirected = volume.redirected or volume.backup
        file = "UserRequest" if redirected else "NotFileSystemRedirected"
        if resource.state != ONLINE or not self._cluster.is_member(host.name) or self.cut_off(resource, host):
            return "Unavailable", file, block
        if volume.fault:
            return "Paused", file, block
        if redirected:
            return "FileSystemRedirected", file, block
        return ("Direct" if direct else "BlockRedirected"), file, block

    def cut_off(self, resource: ResourceRecord, host: Host) -> bool:
        """Whether a node cannot talk SMB to the owner of a shared volume, which it needs for every change of a file."""
        return host.name in self._cluster.unbound and self._cluster.owner(resource) != host.name

    def unbind(self, host: Host, *, unbound: bool) -> None:
        """Take the SMB protocols from a node's cluster network, or give them back."""
        if unbound:
            self._cluster.unbound[host.name] = True
            self._cluster.monitor.cut_off(host)
        else:
            self._cluster.unbound.pop(host.name, None)
        self.refresh()

    # -- mounting ----------------------------------------------------------------------------------------------

    def forget(self) -> None:
        """Drop every file system without writing: its caches are gone, or its bytes have changed."""
        for system in self._systems.values():
            system.abandon()
        self._systems.clear()

    def release(self, resource: ResourceRecord) -> None:
        """Write and drop the file systems of a disk that goes offline."""
        for volume in self.of(resource):
            system = self._systems.pop(volume.guid, None)
            if system is None:
                continue
            try:
                system.close()
            except (DeviceError, FileSystemError):
                system.abandon()

    def drop(self, resource: ResourceRecord) -> None:
        """A disk has failed: its file systems are gone from every node, without a last write."""
        for volume in self.of(resource):
            system = self._systems.pop(volume.guid, None)
            if system is not None:
                system.abandon()
        self._cluster.disks.take_offline(resource, FAILED)
        self.refresh()

    def refresh(self) -> None:
        """Let every node see what is online now, at the folders where it belongs."""
        for host in self._cluster.hosts.values():
            if not host.powered:
                continue
            for volume in self._cluster.volume_table.values():
                self._place(host, volume)
            host.volumes.refresh()

    def _place(self, host: Host, volume: SharedVolumeRecord) -> None:
        mount = MountRecord("", (volume.path,))
        if host.volumes.mount_of(volume.guid) == mount:
            return
        if not host.volumes.is_mount_point(volume.path):
            host.files.mkdir(volume.path)
        host.volumes.mount(volume.guid, mount)

    def renamed(self, guid: UUID, path: str, *, on: Host) -> None:
        """A folder below C:\\ClusterStorage was renamed on one node: so it is on every other."""
        volume = self._cluster.volume_table[str(guid)]
        old = volume.path
        self._cluster.volume_table[str(guid)] = replace(volume, path=path)
        for host in self._cluster.hosts.values():
            if host is on or not host.powered:
                continue
            host.volumes.mount(guid, None)
            if host.files.is_directory(old) and not host.files.listdir(old):
                host.files.remove(old)
        self.refresh()

    # -- adding and removing -----------------------------------------------------------------------------------

    def add(self, resource: ResourceRecord) -> ResourceRecord:
        """Make a disk of Available Storage a cluster shared volume."""
        cluster = self._cluster
        group = cluster.group_of(resource)
        if resource.shared:
            raise ClusterProblem(f"'{resource.name}' is a Cluster Shared Volume already.")
        if group.kind != "AvailableStorage":
            raise ClusterProblem(f"'{resource.name}' is used by the clustered role '{group.name}'.", code=5894)
        if cluster.record.quorum == resource.id:
            raise ClusterProblem(f"'{resource.name}' is the disk witness.")
        if resource.state != ONLINE:
            raise ClusterProblem(f"'{resource.name}' is {resource.state}: it has to be online.", code=5004)
        cluster.disks.learn(resource)
        owner = cluster.hosts[group.owner]
        volumes = cluster.disks.identity(resource).volumes
        if not volumes:
            raise ClusterProblem(f"'{resource.name}' has no volume.")
        for part in volumes:
            ntfs = owner.volumes.get(part.partition)
            if ntfs is None or owner.volumes.formatted(ntfs) is None:
                raise ClusterProblem(f"A volume of '{resource.name}' is not formatted with NTFS.")
            owner.volumes.dismount(ntfs)
        for host in cluster.hosts.values():
            for part in volumes:
                host.volumes.mount(cluster.disks.volume_on(host, resource, part), None)
        own = cluster.add_group(str(resource.id), SHARED_GROUP, group.owner, identity=resource.id)
        resource = cluster.put_resource(replace(resource, shared=True, group=own.id))
        for part in volumes:
            self._share(resource, part)
        cluster.disks.learn(resource)
        self.refresh()
        return resource

    def _share(self, resource: ResourceRecord, part: DiskVolume) -> None:
        cluster = self._cluster
        number = cluster.record.volumes + 1
        while any(v.path.lower() == f"{ROOT}\\volume{number}\\".lower() for v in cluster.volume_table.values()):
            number += 1
        cluster.record = replace(cluster.record, volumes=number)
        fresh = cluster.ids.uuid("shared volume", cluster.spec.name, str(part.partition))
        guid = fresh if cluster.spec.csvfs else part.partition
        path = f"{ROOT}\\Volume{number}\\"
        cluster.volume_table[str(guid)] = SharedVolumeRecord(resource.id, guid, part.partition, path, part.number)

    def remove(self, resource: ResourceRecord) -> ResourceRecord:
        """Make a shared volume a disk of Available Storage again; its folder goes from every node."""
        cluster = self._cluster
        folder_in_use = [v.path for v in self.of(resource) if any(h.files.in_use(v.path) for h in self._mounted(v))]
        if folder_in_use:
            raise ClusterProblem(f"'{folder_in_use[0]}' is in use by virtual machines or other programs.", code=32)
        group = cluster.group_of(resource)
        self.release(resource)
        for volume in self.of(resource):
            del cluster.volume_table[str(volume.guid)]
            for host in cluster.hosts.values():
                host.volumes.mount(volume.guid, None)
                if host.powered and host.files.is_directory(volume.path) and not host.files.listdir(volume.path):
                    host.files.remove(volume.path)
        available = cluster.available_storage()
        state = resource.state
        changed = cluster.put_resource(replace(resource, shared=False, group=available.id, state=OFFLINE))
        del cluster.group_table[str(group.id)]
        if not cluster.disks.disks_of(available)[1:]:
            available = cluster.put_group(replace(available, owner=group.owner))
        if state == ONLINE:
            changed = cluster.disks.bring_online(changed, available.owner)
        self.refresh()
        return changed

    def _mounted(self, volume: SharedVolumeRecord) -> list[Host]:
        return [h for h in self._cluster.members() if h.volumes.get(volume.guid) is not None]

    def change(self, resource: ResourceRecord, **changes: object) -> None:
        """Change the records of a disk's shared volumes."""
        for volume in self.of(resource):
            changed = replace(volume, **changes)  # type: ignore[arg-type]  # names come from this package
            self._cluster.volume_table[str(volume.guid)] = changed
