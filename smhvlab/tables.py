"""What a site shows of itself: tables of VMs, volumes, LUNs, Snapshot copies, disks, datasets and backups."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from smhvlab.frames import SNAPSHOT_COLUMNS, frame
from smhvlab.hyperv import HyperV
from smhvlab.nodes import Nodes, home_of
from smhvlab.snapdrive import SnapDrive
from smhvlab.snapinfo import SnapInfo
from smhvlab.sql import Sql
from smhvlab.storage import Storage, VolumeRef
from smhvlab.wires.ontap import OntapWire
from smhvlab.wires.powershell import PowerShellWire

if TYPE_CHECKING:
    import pandas as pd


class Tools:
    """Both wires and what stands on them; belongs to one thread.

    ``host``, ``snapdrive``, ``hyperv`` and ``sql`` are those of ``nodes.own()``, the host that has the SnapInfo disk;
    every other host of a cluster has its own in ``nodes``.
    """

    def __init__(self, rest: OntapWire, nodes: Nodes, storage: Storage) -> None:
        self.rest = rest
        self.nodes = nodes
        self.storage = storage
        self.snapinfo = SnapInfo(nodes)

    @property
    def host(self) -> PowerShellWire:
        """PowerShell on the site's own host."""
        return self.nodes.own().host

    @property
    def snapdrive(self) -> SnapDrive:
        """LUNs as disks of the site's own host."""
        return self.nodes.own().snapdrive

    @property
    def hyperv(self) -> HyperV:
        """VMs of the site's own host."""
        return self.nodes.own().hyperv

    @property
    def sql(self) -> Sql:
        """Databases in VMs, asked from the site's own host over the network."""
        return self.nodes.own().sql

    def close(self) -> None:
        """End the sessions of both wires."""
        self.nodes.close()
        self.rest.close()


class SiteTables(ABC):
    """The reading side of a site; every table has its columns and types even when it is empty."""

    @abstractmethod
    def tools(self) -> Tools:
        """The wires of the calling thread, opened when first used."""

    def vms(self) -> pd.DataFrame:
        """VMs of all hosts. Columns: name, id, state, generation, disks (number of VHDs), folder, host."""
        types = {
            "name": "str",
            "id": "str",
            "state": "str",
            "generation": "int64",
            "disks": "int64",
            "folder": "str",
            "host": "str",
        }
        rows = [
            {
                "name": vm.name,
                "id": vm.id,
                "state": vm.state,
                "generation": vm.generation,
                "disks": len(vm.disks),
                "folder": vm.configuration,
                "host": vm.host,
            }
            for vm in self.tools().nodes.vms()
        ]
        return frame(rows, types)

    def volumes(self) -> pd.DataFrame:
        """Volumes. Columns: name, svm, aggregate, state, size, used (bytes), parent, snapshot (of a FlexClone)."""
        from netapp_ontap.resources.volume import Volume

        fields = (
            "name,svm.name,aggregates.name,state,space.size,space.used,"
            "clone.parent_volume.name,clone.parent_snapshot.name"
        )
        types = {
            "name": "str",
            "svm": "str",
            "aggregate": "str",
            "state": "str",
            "size": "int64",
            "used": "int64",
            "parent": "str",
            "snapshot": "str",
        }
        rows = []
        for record in self.tools().rest.collect(Volume, fields=fields, order_by="name"):
            clone = record.get("clone", {})
            rows.append(
                {
                    "name": record["name"],
                    "svm": record["svm"]["name"],
                    "aggregate": record["aggregates"][0]["name"],
                    "state": record["state"],
                    "size": record["space"]["size"],
                    "used": record["space"].get("used", 0),
                    "parent": clone.get("parent_volume", {}).get("name", ""),
                    "snapshot": clone.get("parent_snapshot", {}).get("name", ""),
                }
            )
        return frame(rows, types)

    def luns(self) -> pd.DataFrame:
        """LUNs. Columns: name, svm, volume, size (bytes), serial, disk (UniqueId on a host)."""
        types = {"name": "str", "svm": "str", "volume": "str", "size": "int64", "serial": "str", "disk": "str"}
        rows = [
            {
                "name": lun.name,
                "svm": lun.svm,
                "volume": lun.volume.name,
                "size": lun.size,
                "serial": lun.serial_number,
                "disk": lun.unique_id,
            }
            for lun in sorted(self.tools().storage.luns(), key=lambda lun: lun.name)
        ]
        return frame(rows, types)

    def lun_traffic(self) -> pd.DataFrame:
        """What hosts have moved over the network, by LUN, since the array began to count (TR 3).

        Columns: name, reads, writes (operations), read_bytes, written_bytes. The array's own copies are not in it.
        """
        from netapp_ontap.resources.lun import Lun

        types = {"name": "str", "reads": "int64", "writes": "int64", "read_bytes": "int64", "written_bytes": "int64"}
        rows = []
        for record in self.tools().rest.collect(Lun, fields="name,statistics", order_by="name"):
            operations, moved = record["statistics"]["iops_raw"], record["statistics"]["throughput_raw"]
            rows.append(
                {
                    "name": record["name"],
                    "reads": operations["read"],
                    "writes": operations["write"],
                    "read_bytes": moved["read"],
                    "written_bytes": moved["write"],
                }
            )
        return frame(rows, types)

    def snapshots(self, volume: str | None = None) -> pd.DataFrame:
        """Snapshot copies of one volume or of all. Columns: volume, snapshot, create_time, size, owners, svm."""
        from netapp_ontap.resources.volume import Volume

        query = {"name": volume} if volume else {}
        tools = self.tools()
        records = tools.rest.collect(Volume, fields="uuid,name,svm.name", order_by="name", **query)
        volumes = [VolumeRef(record["uuid"], record["name"], record["svm"]["name"]) for record in records]
        copies = tools.storage.snapshots_of(volumes)
        rows = [
            {
                "volume": reference.name,
                "snapshot": copy["name"],
                "create_time": copy["create_time"],
                "size": copy.get("size", 0),
                "owners": ", ".join(copy.get("owners", ())),
                "svm": reference.svm,
            }
            for reference in volumes
            for copy in copies[reference.uuid]
        ]
        return frame(rows, SNAPSHOT_COLUMNS)

    def disks(self) -> pd.DataFrame:
        """Disks of all hosts. Columns: number, unique_id, style, offline, paths, volume_path, host.

        A disk of a cluster is there once for each node, and online on the one that owns it.
        """
        types = {
            "number": "int64",
            "unique_id": "str",
            "style": "str",
            "offline": "bool",
            "paths": "str",
            "volume_path": "str",
            "host": "str",
        }
        rows = [
            {
                "number": disk.number,
                "unique_id": disk.unique_id,
                "style": disk.style,
                "offline": disk.offline,
                "paths": ", ".join(disk.access_paths),
                "volume_path": disk.volume_path,
                "host": disk.host,
            }
            for disk in self.tools().nodes.disks()
        ]
        return frame(rows, types)

    def mirrors(self) -> pd.DataFrame:
        """SnapMirror relationships that end or begin here (TR 8).

        Columns: source, destination, direction (``in`` or ``out``), state, healthy, lag (seconds, -1: none),
        transferred (bytes of the last transfer), total (bytes), snapshot (newest common copy), problem. Of those that
        go out the cluster knows both ends only.
        """
        from smhvlab.dr.replication import Replication

        types = {
            "source": "str",
            "destination": "str",
            "direction": "str",
            "state": "str",
            "healthy": "bool",
            "lag": "int64",
            "transferred": "int64",
            "total": "int64",
            "snapshot": "str",
            "problem": "str",
        }
        here = Replication(self.tools().storage)
        rows = [
            {
                "source": str(mirror.source),
                "destination": str(mirror.destination),
                "direction": "in" if mirror.here else "out",
                "state": mirror.state,
                "healthy": mirror.healthy,
                "lag": -1 if mirror.lag is None else mirror.lag,
                "transferred": mirror.transferred,
                "total": mirror.total,
                "snapshot": mirror.snapshot,
                "problem": mirror.problem,
            }
            for mirror in (*here.mirrors(), *here.outgoing())
        ]
        return frame(rows, types)

    def storage_map(self) -> pd.DataFrame:
        """The way of each virtual disk down to its aggregate (TR 2.2, 5.1).

        Columns: vm, vhd, disk, path, lun, volume, aggregate, state. Disks outside the array have an empty lun.
        """
        types = dict.fromkeys(("vm", "vhd", "disk", "path", "lun", "volume", "aggregate", "state"), "str")
        tools = self.tools()
        nodes = tools.nodes.up()
        disks, shared = tools.nodes.disks(nodes), tools.nodes.shared_volumes()
        luns = {lun.unique_id: lun for lun in tools.storage.luns()}
        volumes = self.volumes()
        places = zip(volumes["svm"], volumes["name"], strict=True)
        aggregates = dict(zip(places, volumes["aggregate"], strict=True))
        rows = []
        for vm in tools.nodes.vms(nodes):
            for vhd in vm.disks:
                disk = home_of(vhd.path, host=vm.host, disks=disks, shared=shared)
                lun = luns.get(disk.unique_id) if disk else None
                rows.append(
                    {
                        "vm": vm.name,
                        "vhd": vhd.path,
                        "disk": f"Disk {disk.number}" if disk else "",
                        "path": disk.access_paths[0] if disk and disk.access_paths else "",
                        "lun": lun.name if lun else "",
                        "volume": lun.volume.name if lun else "",
                        "aggregate": aggregates.get((lun.svm, lun.volume.name), "") if lun else "",
                        "state": vm.state,
                    }
                )
        return frame(rows, types)

    def datasets(self) -> pd.DataFrame:
        """Datasets (TR 5.2). Columns: name, vms, version, description."""
        types = {"name": "str", "vms": "str", "version": "int64", "description": "str"}
        rows = [
            {
                "name": dataset.name,
                "vms": ", ".join(member.name for member in dataset.members),
                "version": dataset.version,
                "description": dataset.description,
            }
            for dataset in self.tools().snapinfo.datasets()
        ]
        return frame(rows, types)

    def backups(self) -> pd.DataFrame:
        """Backups from SnapInfo, oldest first. Columns: name, dataset, time, type, vms, common_point.

        Last come those whose file in SnapInfo is damaged: their type says so, and nothing else is known of them.
        """
        catalogue = self.tools().snapinfo.catalogue()
        types = {"name": "str", "dataset": "str", "time": "str", "type": "str", "vms": "str", "common_point": "bool"}
        rows = [
            {
                "name": backup.name,
                "dataset": backup.dataset,
                "time": backup.time,
                "type": backup.registered_as,
                "vms": ", ".join(vm.name for vm in backup.vms),
                "common_point": backup.common_point,
            }
            for backup in catalogue.backups
        ]
        for path in sorted(catalogue.damaged):
            dataset, name = path.removesuffix(".json").rsplit("\\", 2)[1:]
            nothing = {"time": "", "vms": "", "common_point": False}
            rows.append({"name": name, "dataset": dataset, "type": "Damaged in SnapInfo", **nothing})
        return frame(rows, types)
