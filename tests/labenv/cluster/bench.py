"""Two or more nodes over one storage system in memory, and their cmdlets through the real binder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from labenv.clock import Clock
from labenv.costs import Costs
from labenv.fabric import Fabric, LogicalUnit, Target
from labenv.faults import Faults
from labenv.guest.golden import install_golden
from labenv.guest.guest import Guest
from labenv.ids import Ids
from labenv.state import State
from labenv.windows.call import PsError
from labenv.windows.cluster.cluster import FailoverCluster
from labenv.windows.cluster.spec import FailoverSpec
from labenv.windows.host import Host
from labenv.windows.inventory import Inventory
from labenv.windows.objects import PsEnum, PsObject
from labenv.windows.remoting.engine import Engine, Runspace, Terminated
from labenv.windows.remoting.values import Command
from labenv.windows.spec import HostSpec
from tests.labenv.windows.bench import GIB, MIB, SEED, Memory

TARGET = "iqn.1992-08.com.netapp:sn.1:vs.1"
PORTALS = ("10.10.1.21", "10.10.1.22")


def iqn(host: str) -> str:
    """The initiator name of a node."""
    return f"iqn.1991-05.com.microsoft:{host}"


@dataclass
class Storage:
    """LUNs in memory: which portals answer, and which node sees which LUN."""

    units: dict[str, LogicalUnit]
    hidden: set[tuple[str, str]]  # (initiator, name of the LUN)
    down: set[str]  # portals
    cut: set[tuple[str, str]]  # (initiator, portal)

    def targets(self, portal: str) -> Sequence[Target]:
        return [Target(TARGET, PORTALS)] if portal in PORTALS and portal not in self.down else []

    def logical_units(self, initiator: str, target: str) -> Sequence[LogicalUnit]:
        return [u for name, u in self.units.items() if (initiator, name) not in self.hidden]


class ClusterBench:
    """A failover cluster of nodes hv1, hv2, ..."""

    def __init__(
        self,
        folder: Path,
        *,
        nodes: int = 2,
        era: str = "2012",
        storage: Storage | None = None,
        inventory: Inventory | None = None,
    ) -> None:
        self.folder = folder
        self.era = era
        self.clock = Clock(datetime(2013, 3, 4, 8, tzinfo=UTC))
        self.state = State(folder / "state.db")
        kept = self.state.table("bench", int)
        if "now" in kept:
            self.clock.set(kept["now"])
        self.state.before_commit(lambda: kept.__setitem__("now", self.clock.now))
        self.ids = Ids(SEED, self.state)
        self.storage = storage or Storage({}, set(), set(), set())
        fabric = Fabric()
        fabric.attach(self.storage)
        self.names = [f"hv{n}" for n in range(1, nodes + 1)]
        self.hosts = {
            name: Host(
                spec=HostSpec(
                    name=name,
                    address=f"10.10.0.{30 + number}",
                    iqn=iqn(name),
                    era=era,
                    password="secret",
                    cluster="hvc1",
                    inventory=inventory or Inventory(),
                ),
                folder=folder / "hosts",
                clock=self.clock,
                state=self.state,
                ids=self.ids,
                fabric=fabric,
                costs=Costs.load(),
                faults=Faults(self.clock),
            )
            for number, name in enumerate(self.names, 1)
        }
        self.cluster = FailoverCluster(
            spec=FailoverSpec(name="hvc1", nodes=tuple(self.names), address="10.10.0.40", era=era),
            hosts=list(self.hosts.values()),
            clock=self.clock,
            state=self.state,
            ids=self.ids,
            costs=Costs.load(),
        )
        self.engines = {n: Engine(h, clock=self.clock, commit=self.state.commit) for n, h in self.hosts.items()}

    # -- cmdlets -----------------------------------------------------------------------------------------------

    async def run(self, node: str, cmdlet: str, /, **parameters: object) -> list[Any]:
        """A cmdlet's output objects; PsError if it wrote or threw an error."""
        with self.clock.request(), self.clock.parked():
            return await self.engines[node].run(cmdlet, parameters)

    async def fails(self, node: str, cmdlet: str, /, **parameters: object) -> PsError:
        """The error of a cmdlet that has to fail."""
        with pytest.raises(PsError) as caught:
            await self.run(node, cmdlet, **parameters)
        return caught.value

    async def pair(
        self, node: str, first: str, identity: dict[str, object], second: str, /, **more: object
    ) -> list[Any]:
        """A pair of the closed list, as it comes over the wire."""
        sink = Sink()
        commands = [
            Command(first, (*identity.items(), ("ErrorAction", "Stop"))),
            Command(second, (*more.items(), ("ErrorAction", "Stop"))),
        ]
        with self.clock.request(), self.clock.parked():
            try:
                await self.engines[node].execute([commands], sink, Runspace(can_delegate=True, attended=True))
            except Terminated as ended:
                raise ended.error from ended
        self.warnings = sink.texts
        return sink.items

    async def advance(self, seconds: float) -> None:
        """Let lab time pass."""
        await self.clock.advance(seconds)
        self.state.commit()

    def value(self, item: PsObject, name: str) -> Any:
        """A property as remoting shows it: notes first, enums by name."""
        found = item.notes.get(name, item.properties.get(name))
        return found.name if isinstance(found, PsEnum) else found

    def owner(self, item: PsObject) -> str:
        """Name of the OwnerNode."""
        return str(item.properties["OwnerNode"].text)  # type: ignore[attr-defined]

    async def show(self, node: str, cmdlet: str, name: str, /, **parameters: object) -> Any:
        """One property of the only object that a cmdlet gives."""
        (item,) = await self.run(node, cmdlet, **parameters)
        return self.value(item, name)

    def events(self, node: str, *ids: int) -> list[int]:
        """FailoverClustering events of a node, oldest first."""
        found = reversed(self.hosts[node].events.newest_first())
        return [e.id for e in found if "FailoverClustering" in e.provider and (not ids or e.id in ids)]

    # -- building ----------------------------------------------------------------------------------------------

    def lun(self, name: str, size: int = GIB, device: Memory | None = None) -> LogicalUnit:
        """Map a LUN to every node."""
        device = device or Memory(size)
        serial = name.ljust(12, "0")[:12]
        unit = LogicalUnit(serial, f"uuid-{name}", len(self.storage.units), device.size, True, device)
        self.storage.units[name] = unit
        return unit

    def set_online(self, name: str, online: bool) -> None:
        """The array takes a LUN offline or online."""
        self.storage.units[name] = replace(self.storage.units[name], online=online)

    async def connect(self) -> None:
        """Log every node in over both portals."""
        for node in self.names:
            for portal in PORTALS:
                await self.run(node, "New-IscsiTargetPortal", TargetPortalAddress=portal)
                await self.run(
                    node,
                    "Connect-IscsiTarget",
                    NodeAddress=TARGET,
                    TargetPortalAddress=portal,
                    IsMultipathEnabled=True,
                    IsPersistent=True,
                )

    async def rescan(self) -> None:
        """Rescan on every node."""
        for node in self.names:
            if self.hosts[node].powered:
                await self.run(node, "Update-HostStorageCache")

    @staticmethod
    def unique_id(unit: LogicalUnit) -> str:
        """UniqueId of a LUN's disk."""
        return "600A0980" + unit.serial_number.encode().hex().upper()

    async def formatted(self, name: str, size: int = GIB, *, node: str = "hv1", letter: str = "") -> LogicalUnit:
        """A new LUN that every node sees, with an NTFS volume, online on one node."""
        unit = self.lun(name, size)
        await self.rescan()
        (disk,) = await self.run(node, "Get-Disk", UniqueId=self.unique_id(unit))
        number = disk.properties["Number"]
        await self.run(node, "Set-Disk", Number=number, IsOffline=False)
        await self.run(node, "Set-Disk", Number=number, IsReadOnly=False)
        await self.run(node, "Initialize-Disk", Number=number)
        (made,) = await self.run(node, "New-Partition", DiskNumber=number, UseMaximumSize=True)
        path = made.properties["AccessPaths"].items[-1]
        await self.run(node, "Format-Volume", Path=path, NewFileSystemLabel=name[:11], Confirm=False)
        if letter:
            part = made.properties["PartitionNumber"]
            await self.run(
                node, "Add-PartitionAccessPath", DiskNumber=number, PartitionNumber=part, AccessPath=f"{letter}:\\"
            )
        return unit

    async def cluster_disk(self, name: str, size: int = GIB, *, node: str = "hv1", letter: str = "") -> str:
        """A new disk in Available Storage; returns the resource's name."""
        unit = await self.formatted(name, size, node=node, letter=letter)
        (made,) = await self.pair(node, "Get-Disk", {"UniqueId": self.unique_id(unit)}, "Add-ClusterDisk")
        return str(made.properties["Name"])

    async def witness(self) -> str:
        """A disk witness, so that one of two nodes may go."""
        disk = await self.cluster_disk("quorum", 64 * MIB)
        await self.run("hv1", "Set-ClusterQuorum", DiskWitness=disk)
        return disk

    async def csv(self, name: str, size: int = GIB, *, node: str = "hv1") -> str:
        """A new cluster shared volume; returns its folder."""
        disk = await self.cluster_disk(name, size, node=node)
        (made,) = await self.run(node, "Add-ClusterSharedVolume", Name=disk)
        return str(made.properties["SharedVolumeInfo"].items[0].properties["FriendlyVolumeName"])

    async def standard(self) -> str:
        """Sessions, a disk witness and a shared volume, whose folder is returned."""
        await self.connect()
        await self.witness()
        return await self.csv("csv1")

    async def vm(
        self, name: str, folder: str, *, node: str = "hv1", start: bool = True, role: bool = True, size: int = 64
    ) -> PsObject:
        """A clustered VM with an installed guest (database aa1 on C)."""
        vm: PsObject = (await self.run(node, "New-VM", Name=name, NoVHD=True, Generation=1, Path=folder))[0]
        file = f"{folder.rstrip(chr(92))}\\{name}\\vhd0.vhd"
        await self.run(node, "New-VHD", Path=file, SizeBytes=size * MIB, Fixed=True)
        await self.run(node, "Add-VMHardDiskDrive", VMName=name, Path=file)
        disk = self.hosts[node].vhds.open(file)
        databases = {"aa1": ("C:\\SQL\\aa1.mdf", "C:\\SQL\\aa1.ldf")}
        install_golden([disk.device], now=lambda: self.clock.time, seed=SEED, databases=databases)
        disk.close()
        if role:
            await self.run(node, "Add-ClusterVirtualMachineRole", VMName=name)
        if start:
            await self.run(node, "Start-VM", Name=name)
        return vm

    def guest(self, vm: str) -> Guest:
        """The guest of a running VM, on whichever node it is."""
        host = next(h for h in self.hosts.values() if h.powered and any(v.name == vm for v in h.vms.values()))
        return host.guest(vm)

    # -- the lab's life ----------------------------------------------------------------------------------------

    def restart(self) -> ClusterBench:
        """The same folder in a new process; nothing was closed in order."""
        return ClusterBench(self.folder, nodes=len(self.names), era=self.era, storage=self.storage)

    def close(self) -> None:
        """End the nodes."""
        for host in self.hosts.values():
            host.close()
        self.state.close()


class Sink:
    """Collects what a pipeline writes."""

    def __init__(self) -> None:
        self.items: list[Any] = []
        self.texts: list[str] = []

    def output(self, value: object) -> None:
        self.items.append(value)

    def error(self, error: PsError, cmdlet: str) -> None:
        raise error

    def text(self, kind: str, text: str) -> None:
        self.texts.append(text)

    def progress(self, activity: str, status: str, percent: int) -> None:
        pass
