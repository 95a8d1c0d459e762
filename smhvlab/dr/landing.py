"""Where a site's LUNs become disks and its VMs are registered: a host, or the node that owns a cluster's group (TR 8).

On a failover cluster the LUNs are connected from the node on which the cluster group is online, as the type of disk
that they were on the other site and at the same mount point; VMs are registered there and made highly available.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from smhvlab.errors import NotAllowed, NotFound, PowerShellError
from smhvlab.mount.clusterdisk import AVAILABLE_STORAGE, ClusterDisks
from smhvlab.mount.image import Placement
from smhvlab.nodes import Node
from smhvlab.site import Site
from smhvlab.snapdrive import HostDisk
from smhvlab.snapinfo import BackupVm
from smhvlab.sql import DatabaseFound
from smhvlab.storage import LunRef
from smhvlab.wires.wave import collect

SNAPINFO_GROUP = "smhv_snapinfo"
"""Cluster group of a SnapInfo disk that arrives where there was none: it has to move without any VM (TR 5.4)."""


@dataclass(frozen=True)
class Spot:
    """What a LUN becomes when it is connected.

    Attributes:
        access_path: mount point, with a final backslash.
        disk_guid: GPT GUID that the disk has to have, "" if any will do.
        placement: the type of disk.
        group: cluster group of a disk, "" for Available Storage, from which the role of its VM takes it.
    """

    access_path: str
    disk_guid: str
    placement: Placement = Placement.DEDICATED
    group: str = ""

    def __str__(self) -> str:
        kind = "" if self.placement is Placement.DEDICATED else f" as {self.placement}"
        return self.access_path + kind


@dataclass(frozen=True)
class Landing:
    """The place on a site.

    Attributes:
        host: the stand-alone host, or the node that owns the cluster group.
        cluster: name of the failover cluster, "" for a stand-alone host.
        igroup: initiator group that holds the host's initiator, or those of all nodes.
        svm: the SVM of that group.
    """

    host: str
    cluster: str
    igroup: str
    svm: str

    def placement(self, access_path: str, *, shared: bool) -> Placement:
        """The type of disk that a LUN of the other site becomes here.

        Raises:
            NotAllowed: it was a cluster shared volume, and this is a stand-alone host.
        """
        if shared and not self.cluster:
            raise NotAllowed(
                f"{access_path} was a cluster shared volume, and {self.host} is a stand-alone host",
                why="the type of disk and the mount point must be the same as on the other site",
                next_action="Fail over to a failover cluster.",
                tr="8",
            )
        if shared:
            return Placement.SHARED
        return Placement.GROUP if self.cluster else Placement.DEDICATED


def landing_of(site: Site, *, node: str = "") -> Landing:
    """Where LUNs are connected and VMs registered on a site.

    Args:
        node: the host from which the user wants to do it; by default the right one is taken.

    Raises:
        NotAllowed: the cluster group is online on another node.
        NotFound: the site has no such host, or no initiator group holds the initiators of all its nodes.
    """
    tools = site.tools()
    owner = tools.nodes.coordinator()
    if node and tools.nodes[node].name != owner.name:
        raise NotAllowed(
            f"{node} does not own the cluster group: {owner.name} does",
            why="disks that are connected on another node are not online where the VMs are registered",
            next_action=f'Do it from {owner.name}, or first: Move-ClusterGroup "Cluster Group" -Node {node}.',
            tr="8/FO1",
        )
    hosts = [owner] if tools.nodes.cluster is None else tools.nodes.up()
    igroup, svm = tools.storage.igroup_for([host.snapdrive.initiator() for host in hosts])
    return Landing(owner.name, tools.nodes.cluster or "", igroup, svm)


class Ground:
    """Connects LUNs and registers VMs on a site; by default from the node that owns the cluster group by then."""

    def __init__(self, site: Site, *, node: Node | None = None) -> None:
        self._tools = site.tools()
        self.node = node or self._tools.nodes.coordinator()
        self.clustered = self._tools.nodes.cluster is not None
        self.disks = ClusterDisks(self.node.host)

    # --- LUNs

    def ensure_connected(self, lun: LunRef, spot: Spot, *, igroup: str) -> HostDisk:
        """The LUN is a disk of that type at its mount point, and at no drive letter that nobody asked for.

        Raises:
            NotAllowed: another disk has that mount point, or another disk arrived.
            NotFound: the disk does not arrive, or holds no data partition.
        """
        drive = self.node.snapdrive
        if spot.placement is Placement.DEDICATED:
            disk = drive.ensure_connected(lun, igroup=igroup, access_path=spot.access_path)
            _need_same(disk, spot)
        else:
            disk = self._ensure_clustered(lun, spot, igroup=igroup)
        if spot.placement is not Placement.SHARED:
            drive.discard_letters(disk, spot.access_path)
        return disk

    def _ensure_clustered(self, lun: LunRef, spot: Spot, *, igroup: str) -> HostDisk:
        drive, storage = self.node.snapdrive, self._tools.storage
        storage.ensure_map(lun, igroup)
        disk = drive.arrived(lun)
        self.rescan()
        _need_same(disk, spot)
        self.node.host.run("Move-ClusterGroup", {"Name": AVAILABLE_STORAGE, "Node": self.node.name})
        resource, present = self._ensure_resource(lun, disk)
        if present is not None and not present.offline:
            drive.clear_shadow(present)
        if spot.placement is Placement.SHARED:
            self.disks.ensure_shared(resource, spot.access_path)
            return disk
        if spot.group:
            self.disks.ensure_grouped(resource, spot.group, new=True)
        disk = drive.arrived(lun)
        drive.ensure_mounted(disk, spot.access_path)
        return disk

    def _ensure_resource(self, lun: LunRef, disk: HostDisk) -> tuple[str, HostDisk | None]:
        """The disk is an online resource of the cluster; one that is left of a destroyed LUN makes room for it.

        A LUN that came back by replication has the GUID by which the cluster knows the one that was destroyed.
        """
        resource = self.disks.ensure_added(lun.unique_id, disk.guid)
        try:
            self.disks.ensure_online(resource)  # it may be left from before, when the LUN was taken away
        except (PowerShellError, NotFound):
            online = False
        else:
            online = True
        present = self.node.snapdrive.disk(lun.unique_id)
        if online and present is not None and not present.offline:
            return resource, present
        shown = self._tools.nodes.disks()
        if online and any(one.unique_id == lun.unique_id and not one.offline for one in shown):
            return resource, present  # another node owns it
        for other in shown:
            if other.guid.casefold() == disk.guid.casefold() and other.unique_id != lun.unique_id:
                raise NotAllowed(
                    f"{resource} is another disk than that of {lun}: disk {other.number} ({other.unique_id}) on "
                    f"{other.host}",
                    why=f"both have the GUID {disk.guid}, by which the cluster knows one disk only",
                    next_action="See what the other one holds; then remove it from the cluster "
                    "(Remove-ClusterSharedVolume, Remove-ClusterResource), unmap its LUN, and resume.",
                    tr="8",
                )
        self.disks.discard(disk.guid)
        resource = self.disks.ensure_added(lun.unique_id, disk.guid)
        self.disks.ensure_online(resource)
        return resource, self.node.snapdrive.disk(lun.unique_id)

    def rescan(self) -> None:
        """Every node sees the disks that the array shows it."""
        collect(node.host.begin("Update-HostStorageCache", {}) for node in self._tools.nodes.up())

    def discard(self, lun: LunRef | None, spot: Spot, *, igroup: str) -> None:
        """No host has the LUN any more, nor the cluster its disk. None: the LUN is gone already."""
        if spot.placement is not Placement.DEDICATED:
            made = spot.group if spot.group == SNAPINFO_GROUP else ""
            self.disks.discard(spot.disk_guid, group=made)
        path = "" if spot.placement is Placement.SHARED else spot.access_path
        self.node.snapdrive.discard_connection(lun, igroup=igroup, access_path=path)
        if spot.placement is not Placement.DEDICATED:
            self.rescan()

    # --- VMs

    def ensure_registered(self, configurations: Mapping[str, str]) -> None:
        """The VMs of these ids are registered in place from their configuration files."""
        self.node.hyperv.ensure_all_registered(configurations)

    def apply_checkpoints(self, vms: Iterable[BackupVm]) -> None:
        """The VMs start from the disks below the checkpoints that their backup was made through (era 2022)."""
        wanted = {vm.id: (vm.checkpoint, [disk.path for disk in vm.disks]) for vm in vms if vm.checkpoint}
        self.node.hyperv.ensure_checkpoints_applied(wanted)

    def roles(self) -> set[str]:
        """Ids of the VMs that are roles of the cluster."""
        if not self.clustered:
            return set()
        nodes = self._tools.nodes.up()
        answers = collect(node.host.begin("Get-VM", select=("Id", "IsClustered")) for node in nodes)
        return {str(record["Id"]) for records in answers for record in records if record["IsClustered"]}

    def ensure_roles(self, vms: Sequence[str]) -> None:
        """The VMs of these ids are highly available; their disks come out of Available Storage into their roles."""
        if not self.clustered:
            return
        host, present = self.node.host, self.roles()
        wanted = [vm for vm in vms if vm not in present]
        collect(host.begin("Add-ClusterVirtualMachineRole", {"VMId": vm}) for vm in wanted)

    def discard_roles(self, vms: Collection[str]) -> None:
        """The VMs of these ids are no roles of the cluster; they stay registered, their disks become available."""
        present, host = self.roles(), self.node.host
        for vm in vms:
            if vm in present:
                host.pair(("Get-ClusterGroup", {"VMId": vm}), ("Stop-ClusterGroup", {}))
                host.run("Remove-ClusterGroup", {"VMId": vm, "RemoveResources": True, "Force": True})

    def ensure_running(self, vms: Sequence[str]) -> None:
        """The VMs of these ids run on this node, and answer their heartbeat."""
        self.node.hyperv.ensure_all_running(vms)

    def check_databases(self, vms: Sequence[str]) -> tuple[DatabaseFound, ...]:
        """What the databases of running VMs of this node, given by name, are like."""
        found = self.node.sql.look(vms)
        return tuple(entry for vm in vms for entry in found[vm])


def beside_snapinfo(site: Site) -> tuple[Ground, str]:
    """The host that has a site's own SnapInfo, and its initiator group: where another SnapInfo is read for a while."""
    tools = site.tools()
    node = tools.nodes.own()
    igroup, _ = tools.storage.igroup_for([node.snapdrive.initiator()])
    return Ground(site, node=node), igroup


def _need_same(disk: HostDisk, spot: Spot) -> None:
    if spot.disk_guid and disk.guid.casefold() != spot.disk_guid.casefold():
        raise NotAllowed(
            f"The disk at {spot.access_path} is {disk.guid}, not {spot.disk_guid}",
            next_action="Look at site.luns() and site.mirrors(): another LUN lies at the path of the one that was "
            "mirrored.",
            tr="8",
        )
