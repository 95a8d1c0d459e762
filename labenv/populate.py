"""The first contents of a site, made through the same two interfaces that a real administrator would use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from labenv.guest.golden import install_golden
from labenv.windows.call import PsError
from labenv.windows.objects import PsObject
from labenv.windows.remoting.engine import Engine

if TYPE_CHECKING:
    from labenv.ontap.array import Array
    from labenv.site import LabSite
    from labenv.topology import Change, Disk, Failover, Golden, HyperVHost, Topology, Vm

SMHV_SETTINGS = "HKLM:\\SOFTWARE\\NetApp\\SnapManager for Hyper-V\\Server"


class PopulateError(Exception):
    """The first contents of a topology cannot be built; the text says what was refused and why."""


async def populate(site: LabSite) -> None:
    """Build what the topology lists: connected disks, the golden image, and VMs made from it.

    Raises:
        PopulateError: the array or the host refuses a part of it.
    """
    try:
        await _populate(site)
    except PsError as error:
        raise PopulateError(f"topology {site.topology.name} cannot be built: {error}") from error


async def _populate(site: LabSite) -> None:
    topology = site.topology
    with site.clock.request():
        for batch in _batches(topology):
            builders = {host.name: _Builder(site, host) for host in batch}
            for builder in builders.values():
                await builder.connect()
            failover = topology.failover_of(batch[0].name)
            if failover is not None:
                await builders[batch[0].name].common_igroup(failover)
            for disk in topology.disk:
                if disk.host in builders:
                    await builders[disk.host].disk(disk)
            for builder in builders.values():
                await builder.settings()
            if topology.golden.host in builders:
                await builders[topology.golden.host].golden(topology.golden)
            for vm in topology.vm:
                if vm.host in builders:
                    await builders[vm.host].vm(vm, topology.golden)
        for change in topology.change:
            await _change(site, change)
    site.state.commit()


async def _change(site: LabSite, change: Change) -> None:
    """Do what somebody did to the site after it was built."""
    if change.cmdlet:
        host = next(h for h in site.hosts if h.name == change.host)
        with site.clock.parked():
            await Engine(host, clock=site.clock).run(change.cmdlet, dict(change.parameters))
        return
    array = next(a for a in site.arrays if a.spec.name == change.cluster)
    path = change.path
    if change.find:
        query = {name: str(value) for name, value in change.find.items()}
        _, answer = await array.call("GET", path, query=query)
        path += "/" + str(answer["records"][0]["uuid"] if answer.get("records") else "none")
    status, answer = await array.call(change.method, path, query={"return_timeout": "120"}, body=dict(change.body))
    if status >= 300:
        reason = answer.get("error", {}).get("message", answer)
        what = f"{change.method} {change.path}"
        raise PopulateError(f"topology {site.topology.name} cannot be built: {what} answered {status}: {reason}")


def _batches(topology: Topology) -> list[list[HyperVHost]]:
    """Hosts that are built together: the nodes of a failover cluster; any other host by itself."""
    batches: dict[str, list[HyperVHost]] = {}
    for host in topology.host:
        failover = topology.failover_of(host.name)
        batches.setdefault(failover.name if failover is not None else host.name, []).append(host)
    return list(batches.values())


class _Builder:
    """Builds one host's part of the site."""

    def __init__(self, site: LabSite, host: HyperVHost) -> None:
        self._site = site
        self._spec = host
        self._host = next(h for h in site.hosts if h.spec.name == host.name)
        self._array: Array = next(a for a in site.arrays if a.spec.name == host.storage)
        self._engine = Engine(self._host, clock=site.clock)
        self._portals = [
            lif.address
            for cluster in site.topology.cluster
            if cluster.name == host.storage
            for svm in cluster.svm
            if svm.name == host.svm
            for lif in svm.lif
            if lif.service == "iscsi"
        ]

    async def _rest(self, method: str, path: str, body: Mapping[str, object], **query: str) -> dict[str, Any]:
        status, answer = await self._array.call(method, path, query={"return_timeout": "120", **query}, body=body)
        if status >= 300:
            reason = answer.get("error", {}).get("message", answer)
            what = f"{method} {path} {body.get('name', '')}".strip()
            name = self._site.topology.name
            raise PopulateError(f"topology {name} cannot be built: {what} answered {status}: {reason}")
        return answer

    async def _run(self, cmdlet: str, select: list[str] | None = None, /, **parameters: object) -> list[Any]:
        with self._site.clock.parked():
            return await self._engine.run(cmdlet, parameters, select=select)

    async def _run_on(self, host: str, cmdlet: str, /, **parameters: object) -> list[Any]:
        """A cmdlet on another host."""
        other = next(h for h in self._site.hosts if h.name == host)
        with self._site.clock.parked():
            return await Engine(other, clock=self._site.clock).run(cmdlet, parameters)

    async def connect(self) -> None:
        """An igroup for the host, and an iSCSI session to each portal."""
        await self._igroup(self._spec.igroup, [self._spec.iqn])
        for portal in self._portals:
            await self._run("New-IscsiTargetPortal", TargetPortalAddress=portal)
        targets = await self._run("Get-IscsiTarget")
        for target in targets:
            for portal in self._portals:
                await self._run(
                    "Connect-IscsiTarget",
                    NodeAddress=target.properties["NodeAddress"],
                    TargetPortalAddress=portal,
                    IsMultipathEnabled=True,
                    IsPersistent=True,
                )

    async def _igroup(self, name: str, initiators: list[str]) -> None:
        await self._rest(
            "POST",
            "/protocols/san/igroups",
            {
                "name": name,
                "svm": {"name": self._spec.svm},
                "os_type": "hyper_v",
                "protocol": "iscsi",
                "initiators": [{"name": initiator} for initiator in initiators],
            },
        )

    async def common_igroup(self, failover: Failover) -> None:
        """The igroup through which all nodes of a failover cluster see its disks."""
        hosts = self._site.topology.host
        await self._igroup(failover.igroup, [h.iqn for h in hosts if h.name in failover.nodes])

    async def _volume(self, name: str, aggregate: str, size: int) -> None:
        await self._rest(
            "POST",
            "/storage/volumes",
            {
                "name": name,
                "svm": {"name": self._spec.svm},
                "aggregates": [{"name": aggregate}],
                "size": size,
                "guarantee": {"type": "none"},
                "snapshot_policy": {"name": "none"},
                "space": {"snapshot": {"reserve_percent": 0}},
            },
        )

    async def _lun(
        self, volume: str, lun: str, size: int, failover: Failover | None = None, nodes: Sequence[str] = ()
    ) -> str:
        name = f"/vol/{volume}/{lun}"
        await self._rest(
            "POST",
            "/storage/luns",
            {
                "name": name,
                "svm": {"name": self._spec.svm},
                "os_type": "hyper_v",
                "space": {"size": size, "guarantee": {"requested": False}},
            },
        )
        return await self._map(name, failover, nodes)

    async def _map(self, lun: str, failover: Failover | None = None, nodes: Sequence[str] = ()) -> str:
        """Map a LUN to the host, to all nodes, or to some of them, and rescan there; returns the disk's UniqueId."""
        igroups = [self._spec.igroup if failover is None else failover.igroup]
        if nodes:
            igroups = [h.igroup for h in self._site.topology.host if h.name in nodes]
        svm = {"name": self._spec.svm}
        for igroup in igroups:
            mapping = {"lun": {"name": lun}, "igroup": {"name": igroup}, "svm": svm}
            await self._rest("POST", "/protocols/san/lun-maps", mapping)
        status, answer = await self._array.call(
            "GET", "/storage/luns", query={"name": lun, "svm.name": self._spec.svm, "fields": "serial_number"}
        )
        assert status == 200, answer
        serial: str = answer["records"][0]["serial_number"]
        for node in (self._spec.name,) if failover is None else failover.nodes:
            await self._run_on(node, "Update-HostStorageCache")
        return "600A0980" + serial.encode("ascii").hex().upper()

    async def _online(self, unique_id: str) -> int:
        disks: list[PsObject] = await self._run("Get-Disk", UniqueId=unique_id)
        number = int(str(disks[0].properties["Number"]))
        await self._run("Set-Disk", Number=number, IsOffline=False)
        await self._run("Set-Disk", Number=number, IsReadOnly=False)
        return number

    async def _format(self, number: int, label: str, access_path: str) -> None:
        await self._run("Initialize-Disk", Number=number, PartitionStyle="GPT")
        created = await self._run("New-Partition", DiskNumber=number, UseMaximumSize=True)
        partition = int(str(created[0].properties["PartitionNumber"]))
        paths = created[0].properties["AccessPaths"]
        volume = next(p for p in getattr(paths, "items", paths) if str(p).startswith("\\\\?\\Volume"))
        await self._run("Format-Volume", Path=volume, FileSystem="NTFS", NewFileSystemLabel=label, Confirm=False)
        if access_path:
            await self._access(number, partition, access_path)

    async def _access(self, number: int, partition: int, access_path: str) -> None:
        if len(access_path) > 3:
            await self._run("New-Item", Path=access_path, ItemType="Directory", Force=True)
        await self._run("Add-PartitionAccessPath", DiskNumber=number, PartitionNumber=partition, AccessPath=access_path)

    async def disk(self, disk: Disk) -> None:
        """A LUN on a volume of its own, formatted and mounted; on a node perhaps a disk of the cluster."""
        failover = self._site.topology.failover_of(disk.host) if disk.role else None
        await self._volume(disk.volume, disk.aggregate, int(disk.volume_size))
        unique_id = await self._lun(disk.volume, disk.lun, int(disk.lun_size), failover, disk.nodes)
        number = await self._online(unique_id)
        await self._format(number, disk.label, "" if disk.role == "csv" else disk.access_path)
        if failover is not None:
            await self._cluster_disk(disk, unique_id)

    async def _cluster_disk(self, disk: Disk, unique_id: str) -> None:
        # from the node that has Available Storage, as the TR wants it (11.2)
        await self._run("Move-ClusterGroup", Name="Available Storage", Node=disk.host)
        with self._site.clock.parked():
            found = await self._engine.run("Get-Disk", {"UniqueId": unique_id})
        made = await self._run("Add-ClusterDisk", InputObject=found)
        name = str(made[0].properties["Name"])
        if disk.role == "witness":
            await self._run("Set-ClusterQuorum", DiskWitness=name)
        elif disk.role == "csv":
            shared = await self._run("Add-ClusterSharedVolume", Name=name)
            folder = str(shared[0].properties["SharedVolumeInfo"].items[0].properties["FriendlyVolumeName"])
            wanted = disk.access_path.rstrip("\\").rpartition("\\")[2]
            if folder.rpartition("\\")[2] != wanted:
                await self._run("Rename-Item", LiteralPath=folder, NewName=wanted)
            await self._run("Move-ClusterSharedVolume", Name=name, Node=disk.host)
        elif disk.group:
            await self._run("Add-ClusterGroup", Name=disk.group)
            await self._run("Move-ClusterResource", Name=name, Group=disk.group)

    async def settings(self) -> None:
        """What the installation of SMHV leaves in the registry."""
        if self._spec.snapinfo:
            await self._run("New-Item", Path=SMHV_SETTINGS, Force=True)
            value = {"Name": "SnapInfoPath", "Value": self._spec.snapinfo}
            await self._run("Set-ItemProperty", LiteralPath=SMHV_SETTINGS, **value)

    async def golden(self, golden: Golden) -> None:
        """The golden image: a LUN without space reservation, a VM with fixed VHDs, generalised and snapshotted."""
        await self._volume(golden.volume, golden.aggregate, int(golden.volume_size))
        unique_id = await self._lun(golden.volume, golden.lun, int(golden.lun_size))
        await self._format(await self._online(unique_id), "Golden", golden.access_path)
        folder = golden.access_path.rstrip("\\") + "\\" + golden.vm
        await self._run("New-VM", Name=golden.vm, NoVHD=True, Generation=1, Path=golden.access_path)
        files = [f"{folder}\\{vhd.name}.vhd" for vhd in golden.vhd]
        for index, (vhd, file) in enumerate(zip(golden.vhd, files, strict=True)):
            await self._run("New-VHD", Path=file, SizeBytes=int(vhd.size), Fixed=True)
            await self._attach(golden.vm, index, file)
        opened = [self._host.vhds.open(file) for file in files]
        try:
            install_golden(
                [disk.device for disk in opened],
                letters=[vhd.letter for vhd in golden.vhd],
                databases={d.name: (d.data, d.log) for d in golden.database},
                now=lambda: self._site.clock.time,
                seed=self._site.seed,
            )
        finally:
            for disk in opened:
                disk.close()
        await self._run("Write-VolumeCache", DriveLetter=golden.access_path[0])
        await self._rest(
            "PATCH",
            f"/storage/volumes/{self._array.volume_key(golden.volume)}",
            {"efficiency": {"dedupe": "background"}},
        )
        await self._snapshot(golden.volume, golden.snapshot)

    async def _snapshot(self, volume: str, name: str) -> None:
        path = f"/storage/volumes/{self._array.volume_key(volume)}/snapshots"
        await self._rest("POST", path, {"name": name})

    async def _attach(self, vm: str, index: int, file: str) -> None:
        await self._run(
            "Add-VMHardDiskDrive",
            VMName=vm,
            ControllerType="SCSI" if index else "IDE",  # a generation 1 VM boots from IDE controller 0
            ControllerNumber=0,
            ControllerLocation=max(0, index - 1),
            Path=file,
        )

    async def vm(self, vm: Vm, golden: Golden) -> None:
        """A running VM made from the golden image."""
        source = golden.access_path.rstrip("\\") + "\\" + golden.vm
        if vm.volume:
            await self._rest(
                "POST",
                "/storage/volumes",
                {
                    "name": vm.volume,
                    "svm": {"name": self._spec.svm},
                    "clone": {
                        "is_flexclone": True,
                        "parent_volume": {"name": golden.volume},
                        "parent_snapshot": {"name": golden.snapshot},
                    },
                },
            )
            number = await self._online(await self._map(f"/vol/{vm.volume}/{golden.lun}"))
            partitions = await self._run("Get-Partition", DiskNumber=number)
            partition = int(str(partitions[-1].properties["PartitionNumber"]))
            path = f"C:\\VMs\\{vm.name}"
            await self._access(number, partition, path + "\\")
            folder = f"{path}\\{vm.name}"
            await self._run("Rename-Item", LiteralPath=f"{path}\\{golden.vm}", NewName=vm.name)
            for leaf in await self._run("Get-ChildItem", ["FullName"], LiteralPath=f"{folder}\\Virtual Machines"):
                await self._run("Remove-Item", LiteralPath=leaf.notes["FullName"], Recurse=True, Force=True)
        else:
            path, folder = vm.path.rpartition("\\")[0] + "\\", vm.path
            # only the golden image's host can read it; a disk of the cluster goes there and comes back
            away = vm.clustered and golden.host != vm.host
            if away:
                await self._run("Move-ClusterGroup", Name="Available Storage", Node=golden.host)
            await self._run_on(golden.host, "New-Item", Path=folder, ItemType="Directory", Force=True)
            for vhd in golden.vhd:
                copied = {"LiteralPath": f"{source}\\{vhd.name}.vhd", "Destination": f"{folder}\\{vhd.name}.vhd"}
                await self._run_on(golden.host, "Copy-Item", **copied)
            if away:
                await self._run("Move-ClusterGroup", Name="Available Storage", Node=vm.host)
        await self._run("New-VM", Name=vm.name, NoVHD=True, Generation=1, Path=path)
        for index, vhd in enumerate(golden.vhd):
            file = f"{folder}\\{vm.name}_{vhd.name}.vhd"
            await self._run("Rename-Item", LiteralPath=f"{folder}\\{vhd.name}.vhd", NewName=file.rpartition("\\")[2])
            await self._attach(vm.name, index, file)
        if vm.clustered:
            await self._run("Add-ClusterVirtualMachineRole", VMName=vm.name)
        await self._run("Start-VM", Name=vm.name)
