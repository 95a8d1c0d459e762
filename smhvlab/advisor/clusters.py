"""What a failover cluster tells about itself; asked on one of its nodes."""

from __future__ import annotations

from collections.abc import Sequence

from smhvlab.advisor import facts as f
from smhvlab.advisor.wave import Wave
from smhvlab.snapdrive import signature
from smhvlab.wires.powershell import Record

_DISK, _VM_GROUP = "Physical Disk", "VirtualMachine"


class ClusterReader:
    """Reads a cluster through the wave of one of its nodes."""

    def __init__(self, name: str, wave: Wave) -> None:
        self.name = name
        self.wave = wave

    def first(self) -> None:
        """Begin the reads that depend on nothing."""
        read = self.wave.read
        read("cluster.nodes", "Get-ClusterNode", select=("Name", "State"))
        read("cluster.groups", "Get-ClusterGroup", select=("Name", "GroupType", "OwnerNode", "State"))
        resource = ("Name", "ResourceType", "OwnerGroup", "OwnerNode", "State")
        read("cluster.resources", "Get-ClusterResource", select=resource)
        read("cluster.csvs", "Get-ClusterSharedVolume", select=("Name", "OwnerNode", "State", "SharedVolumeInfo"))
        read("cluster.access", "Get-ClusterSharedVolumeState", select=("Name", "Node", "StateInfo"))
        read("cluster.quorum", "Get-ClusterQuorum", select=("QuorumResource",))
        read("cluster.networks", "Get-ClusterNetwork", select=("Name", "Role"))

    def second(self) -> None:
        """Begin one read for each disk: its identity is a private property of the resource."""
        for name in self._disks():
            parameter = ("Get-ClusterParameter", {"Name": ["DiskIdGuid", "DiskSignature"]})
            if name in self._shared():
                self.wave.read_pair(f"cluster.disk {name}", ("Get-ClusterSharedVolume", {"Name": name}), parameter)
            else:
                self.wave.read_pair(f"cluster.disk {name}", ("Get-ClusterResource", {"Name": name}), parameter)

    def _disks(self) -> list[str]:
        resources = self.wave["cluster.resources"]
        plain = [str(r["Name"]) for r in resources if _name(r["ResourceType"]) == _DISK]
        return [*dict.fromkeys([*plain, *self._shared()])]

    def _shared(self) -> list[str]:
        return [str(record["Name"]) for record in self.wave["cluster.csvs"]]

    def cluster(self) -> f.Cluster:
        """What is known of the cluster."""
        wave = self.wave
        guids = {name: _parameter(wave[f"cluster.disk {name}"]) for name in self._disks()}
        resources = {str(r["Name"]): r for r in wave["cluster.resources"]}
        access: dict[str, dict[str, str]] = {}
        for record in wave["cluster.access"]:
            access.setdefault(str(record["Name"]), {})[str(record["Node"])] = str(record["StateInfo"])
        groups = wave["cluster.groups"]
        return f.Cluster(
            name=self.name,
            nodes={str(r["Name"]): str(r["State"]) for r in wave["cluster.nodes"]},
            owner=next((_name(r["OwnerNode"]) for r in groups if str(r["GroupType"]) == "Cluster"), ""),
            csvs=tuple(
                f.Csv(
                    name=str(r["Name"]),
                    path=str(info["FriendlyVolumeName"]),
                    owner=_name(r["OwnerNode"]),
                    guid=guids.get(str(r["Name"]), ""),
                    state=str(r["State"]),
                    access=access.get(str(r["Name"]), {}),
                )
                for r in wave["cluster.csvs"]
                for info in r["SharedVolumeInfo"] or ()
            ),
            disks=tuple(
                f.ClusterDisk(
                    name=name,
                    guid=guids.get(name, ""),
                    group=_name(r["OwnerGroup"]),
                    owner=_name(r["OwnerNode"]),
                    state=str(r["State"]),
                )
                for name, r in resources.items()
                if _name(r["ResourceType"]) == _DISK and name not in self._shared()
            ),
            roles=tuple(
                f.Role(name=str(r["Name"]), owner=_name(r["OwnerNode"]), state=str(r["State"]))
                for r in groups
                if str(r["GroupType"]) == _VM_GROUP
            ),
            quorum=next((_name(r["QuorumResource"]) for r in wave["cluster.quorum"] if r["QuorumResource"]), ""),
            networks={str(r["Name"]): str(r["Role"]) for r in wave["cluster.networks"]},
        )


def _name(value: object) -> str:
    """Name of a thing that came as an object or as its text."""
    return str(value["Name"]) if isinstance(value, Record) and "Name" in value else str(value)


def _parameter(records: Sequence[Record]) -> str:
    values = {str(r["Name"]): r["Value"] for r in records}
    if values.get("DiskIdGuid"):
        return str(values["DiskIdGuid"])
    return signature(int(values["DiskSignature"])) if values.get("DiskSignature") else ""
