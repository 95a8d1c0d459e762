"""A host over a storage system in memory, and its cmdlets through the real binder."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from labenv.clock import Clock
from labenv.costs import Costs
from labenv.devices import DeviceError
from labenv.fabric import Fabric, LogicalUnit, Target
from labenv.faults import Faults
from labenv.guest.golden import install_golden
from labenv.ids import Ids
from labenv.state import State
from labenv.windows.call import PsError
from labenv.windows.host import Host
from labenv.windows.objects import PsEnum, PsObject
from labenv.windows.remoting.engine import Engine
from labenv.windows.spec import HostSpec

PORTAL = "10.0.0.1"
TARGET = "iqn.1992-08.com.netapp:sn.1:vs.1"
IQN = "iqn.1991-05.com.microsoft:hv1"
GIB = 1 << 30
MIB = 1 << 20
SEED = 7
_CHUNK = 1 << 16


class Memory:
    """A LUN in memory."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.chunks: dict[int, bytearray] = {}

    def _check(self, offset: int, length: int) -> None:
        if offset < 0 or length < 0 or offset + length > self.size:
            raise DeviceError(f"{length} bytes at {offset} of {self.size}")

    def read(self, offset: int, length: int) -> bytes:
        self._check(offset, length)
        parts = []
        while length:
            index, within = divmod(offset, _CHUNK)
            take = min(length, _CHUNK - within)
            chunk = self.chunks.get(index)
            parts.append(bytes(chunk[within : within + take]) if chunk is not None else bytes(take))
            offset += take
            length -= take
        return b"".join(parts)

    def write(self, offset: int, data: bytes) -> None:
        self._check(offset, len(data))
        position = 0
        while position < len(data):
            index, within = divmod(offset + position, _CHUNK)
            part = data[position : position + _CHUNK - within]
            chunk = self.chunks.setdefault(index, bytearray(_CHUNK))
            chunk[within : within + len(part)] = part
            position += len(part)

    def unmap(self, offset: int, length: int) -> None:
        self._check(offset, length)
        end = offset + length
        while offset < end:
            index, within = divmod(offset, _CHUNK)
            take = min(end - offset, _CHUNK - within)
            if take == _CHUNK:
                self.chunks.pop(index, None)
            elif index in self.chunks:
                self.chunks[index][within : within + take] = bytes(take)
            offset += take

    def flush(self) -> None:
        pass

    def snapshot(self) -> dict[int, bytes]:
        """Today's bytes."""
        return {index: bytes(chunk) for index, chunk in self.chunks.items()}

    def restore(self, kept: dict[int, bytes]) -> None:
        """Bytes of a snapshot, in the same device."""
        self.chunks = {index: bytearray(chunk) for index, chunk in kept.items()}


@dataclass
class Storage:
    """A storage system whose LUNs are in memory; ``units`` is what the host may see."""

    units: dict[str, LogicalUnit]
    up: bool = True

    def targets(self, portal: str) -> Sequence[Target]:
        return [Target(TARGET, (PORTAL,))] if portal == PORTAL and self.up else []

    def logical_units(self, initiator: str, target: str) -> Sequence[LogicalUnit]:
        return list(self.units.values()) if initiator == IQN and target == TARGET else []


class Bench:
    """One host, its clock, and the storage behind it."""

    def __init__(self, folder: Path, *, era: str = "2022", storage: Storage | None = None) -> None:
        self.folder = folder
        self.clock = Clock(datetime(2013, 3, 4, 8, tzinfo=UTC))
        self.state = State(folder / "state.db")
        self.ids = Ids(SEED, self.state)
        self.storage = storage or Storage({})
        fabric = Fabric()
        fabric.attach(self.storage)
        self.host = Host(
            spec=HostSpec(name="hv1", address="10.0.0.31", iqn=IQN, era=era, password="secret"),
            folder=folder / "hosts",
            clock=self.clock,
            state=self.state,
            ids=self.ids,
            fabric=fabric,
            costs=Costs.load(),
            faults=Faults(self.clock),
        )
        self.engine = Engine(self.host, clock=self.clock, commit=self.state.commit)
        self.warnings: list[str] = []

    def lun(self, name: str, size: int = GIB, device: Memory | None = None) -> LogicalUnit:
        """Map a LUN; its serial number comes from its name."""
        serial = name.ljust(12, "0")[:12]
        device = device or Memory(size)
        unit = LogicalUnit(serial, f"uuid-{name}", len(self.storage.units), device.size, True, device)
        self.storage.units[name] = unit
        return unit

    def take_offline(self, name: str) -> None:
        """The array takes a LUN offline."""
        self.storage.units[name] = replace(self.storage.units[name], online=False)

    async def run(self, cmdlet: str, /, **parameters: object) -> list[Any]:
        """A cmdlet's output objects; PsError if it wrote or threw an error."""
        with self.clock.request(), self.clock.parked():
            return await self.engine.run(cmdlet, parameters)

    async def fails(self, cmdlet: str, /, **parameters: object) -> PsError:
        """The error of a cmdlet that has to fail."""
        with pytest.raises(PsError) as caught:
            await self.run(cmdlet, **parameters)
        return caught.value

    async def pair(self, first: str, parameters: dict[str, object], second: str, /, **more: object) -> list[Any]:
        """Two cmdlets in a pipeline."""
        item = (await self.run(first, **parameters))[0]
        implementation = self.host.commands[second]
        from labenv.windows.call import Call

        with self.clock.request(), self.clock.parked():
            result: Any = implementation(self.host, Call(second, more, input=(item,)))
            if isinstance(result, Coroutine):
                result = await result
        self.state.commit()
        return list(result or ())

    async def connect(self) -> None:
        """Log in to the storage."""
        await self.run("New-IscsiTargetPortal", TargetPortalAddress=PORTAL)
        await self.run(
            "Connect-IscsiTarget",
            NodeAddress=TARGET,
            TargetPortalAddress=PORTAL,
            IsMultipathEnabled=True,
            IsPersistent=True,
        )

    async def number(self, unit: LogicalUnit) -> int:
        """The disk number of a LUN."""
        unique_id = "600A0980" + unit.serial_number.encode().hex().upper()
        return int((await self.run("Get-Disk", UniqueId=unique_id))[0].properties["Number"])

    async def online(self, unit: LogicalUnit) -> int:
        """Rescan, bring a LUN online and writable; returns its number."""
        await self.run("Update-HostStorageCache")
        number = await self.number(unit)
        await self.run("Set-Disk", Number=number, IsOffline=False)
        await self.run("Set-Disk", Number=number, IsReadOnly=False)
        return number

    async def formatted(self, name: str, letter: str, size: int = GIB) -> LogicalUnit:
        """A new LUN with a volume at a drive letter."""
        unit = self.lun(name, size)
        number = await self.online(unit)
        await self.run("Initialize-Disk", Number=number)
        made = (await self.run("New-Partition", DiskNumber=number, UseMaximumSize=True))[0]
        paths = made.properties["AccessPaths"].items
        await self.run("Format-Volume", Path=paths[-1], FileSystem="NTFS", NewFileSystemLabel=name[:11], Confirm=False)
        await self.run(
            "Add-PartitionAccessPath",
            DiskNumber=number,
            PartitionNumber=made.properties["PartitionNumber"],
            AccessPath=f"{letter}:\\",
        )
        return unit

    async def vm(self, name: str, folder: str, *, start: bool = True, sizes: Sequence[int] = (64, 32, 32)) -> PsObject:
        """A VM with an installed guest (databases aa1 on C, bb1 on E and F) below a folder."""
        vm: PsObject = (await self.run("New-VM", Name=name, NoVHD=True, Generation=1, Path=folder))[0]
        files = [f"{folder.rstrip(chr(92))}\\{name}\\vhd{i}.vhd" for i in range(len(sizes))]
        for file, size in zip(files, sizes, strict=True):
            await self.run("New-VHD", Path=file, SizeBytes=size * MIB, Fixed=True)
            await self.run("Add-VMHardDiskDrive", VMName=name, Path=file)
        opened = [self.host.vhds.open(file) for file in files]
        databases = {"aa1": ("C:\\SQL\\aa1.mdf", "C:\\SQL\\aa1.ldf"), "bb1": ("E:\\SQL\\bb1.mdf", "F:\\SQL\\bb1.ldf")}
        install_golden([d.device for d in opened], now=lambda: self.clock.time, seed=SEED, databases=databases)
        for disk in opened:
            disk.close()
        if start:
            await self.run("Start-VM", Name=name)
        return vm

    def value(self, item: PsObject, name: str) -> object:
        """A property as remoting shows it: notes first, enums by name."""
        found = item.notes.get(name, item.properties.get(name))
        return found.name if isinstance(found, PsEnum) else found

    def restart(self) -> Bench:
        """The same folder in a new process; nothing was closed in order."""
        self.state.commit()
        return Bench(self.folder, storage=self.storage, era=self.host.spec.era)

    def close(self) -> None:
        """End the host."""
        self.host.close()
        self.state.close()


Make = Callable[..., Bench]
