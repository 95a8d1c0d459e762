"""Disks of a failover cluster: a connected LUN becomes a resource of a group, or a cluster shared volume (TR 6.8/4)."""

from __future__ import annotations

from collections.abc import Iterable

from smhvlab.errors import NotFound
from smhvlab.snapdrive import is_signature, signature
from smhvlab.wires.powershell import PowerShellWire, Record

AVAILABLE_STORAGE = "Available Storage"
"""Group of the cluster's disks that nothing uses yet."""

_DISK = "Physical Disk"
_WAIT = 120  # seconds for a disk to go offline or come online


class ClusterDisks:
    """The disks of the cluster, asked from one of its nodes; resources are found by their disk's GUID or signature."""

    def __init__(self, host: PowerShellWire) -> None:
        self.host = host

    def groups(self) -> dict[str, str]:
        """The cluster's groups and the node that owns each."""
        records = self.host.run("Get-ClusterGroup", select=("Name", "OwnerNode"))
        return {str(record["Name"]): _name(record["OwnerNode"]) for record in records}

    def resource(self, guid: str) -> str | None:
        """Name of the disk resource with this GPT GUID or MBR signature, None if the cluster has none."""
        found = self.host.run("Get-ClusterResource", select=("Name", "ResourceType"))
        names = [str(r["Name"]) for r in found if _name(r["ResourceType"]) == _DISK]
        return self._named(names, "Get-ClusterResource", guid) or self._named(
            self._shared_names(), "Get-ClusterSharedVolume", guid
        )

    def _shared_names(self) -> list[str]:
        return [str(r["Name"]) for r in self.host.run("Get-ClusterSharedVolume", select=("Name",))]

    def _named(self, names: Iterable[str], getter: str, guid: str) -> str | None:
        mbr = is_signature(guid)
        private = "DiskSignature" if mbr else "DiskIdGuid"
        for name in names if guid else ():
            values = self.host.pair((getter, {"Name": name}), ("Get-ClusterParameter", {"Name": private}))
            found = [v["Value"] for v in values if isinstance(v, Record)]
            if any(_same(signature(int(v)) if mbr else str(v), guid) for v in found):
                return name
        return None

    def group_of(self, guid: str) -> str:
        """The group of the disk with this GPT GUID, "" if it is no disk of the cluster, or shared by all nodes."""
        found = self.host.run("Get-ClusterResource", select=("Name", "ResourceType", "OwnerGroup"))
        groups = {str(r["Name"]): _name(r["OwnerGroup"]) for r in found if _name(r["ResourceType"]) == _DISK}
        name = self._named(groups, "Get-ClusterResource", guid)
        return groups[name] if name is not None else ""

    def ensure_added(self, unique_id: str, guid: str) -> str:
        """The disk is a resource of the cluster; returns the resource's name."""
        name = self.resource(guid)
        if name is None:
            self.host.pair(("Get-Disk", {"UniqueId": unique_id}), ("Add-ClusterDisk", {}))
            name = self.resource(guid)
        if name is None:
            raise NotFound(
                "The disk did not become a resource of the cluster",
                next_action="Look at Get-ClusterAvailableDisk: all nodes have to see the disk.",
                tr="6.8",
            )
        return name

    def ensure_grouped(self, resource: str, group: str, *, new: bool) -> None:
        """The resource is in a group, which is made if it is to be a new one."""
        if new and group not in self.groups():
            self.host.run("Add-ClusterGroup", {"Name": group})
        found = self.host.run("Get-ClusterResource", {"Name": resource}, select=("OwnerGroup",))
        if _name(found[0]["OwnerGroup"]) != group:
            self.host.run("Move-ClusterResource", {"Name": resource, "Group": group})

    def ensure_shared(self, resource: str, path: str) -> None:
        """The resource is a cluster shared volume whose folder has this path."""
        if resource not in self._shared_names():
            self.host.run("Add-ClusterSharedVolume", {"Name": resource})
        present = self._shared_path(resource)
        if present.casefold() != path.rstrip("\\").casefold():
            leaf = path.rstrip("\\").rpartition("\\")[2]
            self.host.run("Rename-Item", {"LiteralPath": present, "NewName": leaf})

    def _shared_path(self, resource: str) -> str:
        found = self.host.run("Get-ClusterSharedVolume", {"Name": resource}, select=("SharedVolumeInfo",))
        info = found[0]["SharedVolumeInfo"]
        first = info[0] if isinstance(info, list) else info
        return str(first["FriendlyVolumeName"])

    def shared_volume_guid(self, resource: str) -> str:
        """The volume GUID path of a shared volume in the cluster: not that of its partition (TR 11.2)."""
        found = self.host.run("Get-ClusterSharedVolumeState", {"Name": resource}, select=("VolumeName",))
        return str(found[0]["VolumeName"])

    def witness(self) -> str:
        """The resource that is the quorum's disk witness, "" if the nodes vote alone."""
        found = self.host.run("Get-ClusterQuorum", select=("QuorumResource",))
        resource = found[0]["QuorumResource"]
        return "" if resource is None else _name(resource)

    def ensure_witness(self, resource: str) -> None:
        """The resource is the quorum's disk witness; "": there is none."""
        if self.witness() != resource:
            setting = {"DiskWitness": resource} if resource else {"NoWitness": True}
            self.host.run("Set-ClusterQuorum", setting)

    def ensure_offline(self, resource: str) -> None:
        """No node uses the disk of a resource: neither maintenance nor redirected access would do for a restore."""
        if self._state(resource) != "Offline":
            self.host.run("Stop-ClusterResource", {"Name": resource, "Wait": _WAIT})

    def ensure_online(self, resource: str) -> None:
        """A node has the disk of a resource. Raises NotFound if it does not come online."""
        if self._state(resource) != "Online":
            self.host.run("Start-ClusterResource", {"Name": resource, "Wait": _WAIT})
        if self._state(resource) != "Online":
            raise NotFound(
                f"The cluster disk {resource} does not come online",
                next_action="Read Get-ClusterLog and the disk's state on its owner node.",
                tr="6.7",
            )

    def _state(self, resource: str) -> str:
        shared = resource in self._shared_names()
        getter = "Get-ClusterSharedVolume" if shared else "Get-ClusterResource"
        return str(self.host.run(getter, {"Name": resource}, select=("State",))[0]["State"])

    def discard(self, guid: str, *, group: str = "") -> None:
        """The cluster does not have the disk; ``group``: one that was made for it goes too, unless others are in it."""
        name = self.resource(guid)
        if name is not None:
            if name in self._shared_names():
                self.host.run("Remove-ClusterSharedVolume", {"Name": name})
            self.host.run("Remove-ClusterResource", {"Name": name, "Force": True})
        if group and group in self.groups() and not self._holds(group):
            # Without RemoveResources: the cluster refuses what came into the group in this moment.
            self.host.run("Remove-ClusterGroup", {"Name": group, "Force": True})

    def _holds(self, group: str) -> bool:
        """Whether a group has resources, which may be a VM's role or another disk."""
        found = self.host.run("Get-ClusterResource", select=("OwnerGroup",))
        return any(_name(record["OwnerGroup"]) == group for record in found)


def _name(value: object) -> str:
    """The name of an object that a property holds, or the text itself."""
    return str(value["Name"]) if isinstance(value, Record) and "Name" in value else str(value)


def _same(one: str, other: str) -> bool:
    return one.strip("{}").casefold() == other.strip("{}").casefold()
