"""Cmdlets that only read: a VM's settings, what storage could be, and small facts of the host."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from labenv.windows.cmdlets import COMMANDS, core

from .bench import GIB, Bench

MIB = 1 << 20


def of(item: Any, *names: str) -> list[object]:
    """Properties of an object."""
    properties: Mapping[str, object] = item.properties
    return [properties[name] for name in names]


def test_settings_of_vms_of_both_generations(bench: Bench) -> None:
    """Processors, memory, controllers and what a VM starts from are those that it was given; each has its own kind."""

    async def go() -> None:
        await bench.connect()
        await bench.formatted("data", "S", 4 * GIB)
        for generation in (1, 2):
            name = f"gen{generation}"
            await bench.run("New-VM", Name=name, NoVHD=True, Generation=generation, Path="S:\\", MemoryStartupBytes=GIB)
            await bench.run("Set-VM", Name=name, ProcessorCount=generation + 1)
            path = f"S:\\{name}\\disk.vhdx"
            await bench.run("New-VHD", Path=path, SizeBytes=64 * MIB, Dynamic=True)
            kind = "IDE" if generation == 1 else "SCSI"
            await bench.run("Add-VMHardDiskDrive", VMName=name, ControllerType=kind, Path=path)
            (processor,) = await bench.run("Get-VMProcessor", VMName=name)
            assert of(processor, "Count", "VMName") == [generation + 1, name]
            (memory,) = await bench.run("Get-VMMemory", VMName=name)
            assert of(memory, "Startup", "DynamicMemoryEnabled") == [GIB, False]
            assert len(await bench.run("Get-VMComPort", VMName=name)) == 2
        first, second = await bench.run("Get-VMIdeController", VMName="gen1")
        assert [d.properties["Path"] for d in first.properties["Drives"].items] == ["S:\\gen1\\disk.vhdx"]
        assert [d.properties["Name"][:3] for d in second.properties["Drives"].items] == ["DVD"]
        assert await bench.run("Get-VMIdeController", VMName="gen2") == []
        (bios,) = await bench.run("Get-VMBios", VMName="gen1")
        assert [device.name for device in bios.properties["StartupOrder"].items][:2] == ["CD", "IDE"]
        (firmware,) = await bench.run("Get-VMFirmware", VMName="gen2")
        boot = [source.properties["Device"].properties["Path"] for source in firmware.properties["BootOrder"].items]
        assert boot == ["S:\\gen2\\disk.vhdx"]
        assert firmware.properties["SecureBoot"].name == "On"
        for cmdlet, name in (("Get-VMBios", "gen2"), ("Get-VMFirmware", "gen1"), ("Get-VMReplication", "gen1")):
            assert (await bench.fails(cmdlet, VMName=name)).error_id == "InvalidOperation"
        await bench.run("Checkpoint-VM", Name="gen1", SnapshotName="then")
        await bench.run("Set-VM", Name="gen1", ProcessorCount=4)
        (then,) = await bench.pair("Get-VMSnapshot", {"VMName": "gen1"}, "Get-VMProcessor")
        assert of(then, "Count", "VMSnapshotName") == [2, "then"]
        assert await bench.run("Get-VMReplication") == []
        versions = await bench.run("Get-VMHostSupportedVersion")
        assert [v.properties["Version"] for v in versions if v.properties["IsDefault"]] == ["10.0"]
        assert (await bench.fails("Get-VMHostCluster", ClusterName="hvc1")).error_id == "ObjectNotFound"

    asyncio.run(go())


def test_whether_a_chain_of_virtual_disks_can_be_used(bench: Bench) -> None:
    """A disk with its parents is sound; one without, or a file that is none, is told of as Get-VHD does."""

    async def go() -> None:
        await bench.connect()
        await bench.formatted("data", "S")
        await bench.run("New-VHD", Path="S:\\base.vhdx", SizeBytes=64 * MIB, Dynamic=True)
        await bench.run("New-VHD", Path="S:\\leaf.vhdx", ParentPath="S:\\base.vhdx", Differencing=True)
        assert await bench.run("Test-VHD", Path=["S:\\leaf.vhdx", "S:\\base.vhdx"]) == [True, True]
        await bench.run("Remove-Item", LiteralPath="S:\\base.vhdx")
        assert (await bench.fails("Test-VHD", Path="S:\\leaf.vhdx")).error_id
        await bench.run("Set-Content", LiteralPath="S:\\text.vhdx", Value="no disk", NoNewline=True)
        assert (await bench.fails("Test-VHD", Path="S:\\text.vhdx")).error_id

    asyncio.run(go())


@pytest.mark.parametrize("style", ["GPT", "MBR"])
def test_sizes_that_a_partition_can_have(bench: Bench, style: str) -> None:
    """Down to what its files take, up to the next partition or the end, which for an MBR is at 2 TiB."""

    async def go() -> None:
        await bench.connect()
        number = await bench.online(bench.lun("data", 3072 * GIB))
        await bench.run("Initialize-Disk", Number=number, PartitionStyle=style)
        for letter in "ST":
            await bench.run("New-Partition", DiskNumber=number, Size=GIB, DriveLetter=letter)
            await bench.run("Format-Volume", DriveLetter=letter, FileSystem="NTFS", Confirm=False)
        await bench.run("Set-Content", LiteralPath="T:\\a.txt", Value="x" * (5 << 20), NoNewline=True)
        (first,) = await bench.run("Get-PartitionSupportedSize", DriveLetter="S")
        (last,) = await bench.run("Get-PartitionSupportedSize", DriveLetter="T")
        assert first.notes["SizeMax"] == GIB
        assert first.notes["SizeMin"] + (4 << 20) < last.notes["SizeMin"] < GIB
        end = (2048 if style == "MBR" else 3072) * GIB
        assert end - 2 * GIB - 64 * MIB - 256 * MIB < last.notes["SizeMax"] <= end - GIB
        assert await bench.run("Get-SupportedFileSystems", DriveLetter="S") == ["NTFS", "exFAT"]
        assert max(await bench.run("Get-SupportedClusterSizes", DriveLetter="S", FileSystem="NTFS")) == 65536
        refused = await bench.fails("Get-SupportedClusterSizes", DriveLetter="S", FileSystem="ReFS")
        assert refused.error_id == "StorageWMI 43001"

    asyncio.run(go())


def test_drives_paths_zone_and_single_values(bench: Bench) -> None:
    """Drives are the volumes with letters; paths are expanded; hosts keep UTC; one value instead of a whole key."""

    async def go() -> None:
        await bench.connect()
        await bench.formatted("data", "S")
        drives = await bench.run("Get-PSDrive", PSProvider="FileSystem")
        assert [d.properties["Name"] for d in drives] == ["C", "S"]
        assert drives[1].notes["Used"] + drives[1].notes["Free"] <= GIB
        assert [d.properties["Root"] for d in await bench.run("Get-PSDrive", Name="H*")] == ["HKEY_LOCAL_MACHINE"]
        assert (await bench.fails("Get-PSDrive", Name="X")).error_id == "GetLocationNoMatchingDrive"
        for name in ("a.txt", "b.txt"):
            await bench.run("Set-Content", LiteralPath=f"S:\\{name}", Value=name)
        found = await bench.run("Resolve-Path", Path="S:\\*.txt")
        assert [p.properties["ProviderPath"] for p in found] == ["S:\\a.txt", "S:\\b.txt"]
        assert (await bench.fails("Resolve-Path", LiteralPath="S:\\none")).error_id == "PathNotFound"
        (zone,) = await bench.run("Get-TimeZone")
        assert zone.properties["Id"] == "UTC"
        assert (await bench.fails("Get-TimeZone", Id="Mars")).error_id == "TimeZoneNotFound"
        key = "HKLM:\\SOFTWARE\\Microsoft\\Windows NT\\CurrentVersion"
        assert await bench.run("Get-ItemPropertyValue", LiteralPath=key, Name="CurrentBuild") == ["20348"]
        assert (await bench.fails("Get-ItemPropertyValue", LiteralPath=key, Name="None")).error_id

    asyncio.run(go())


def test_the_manual_names_every_reading_cmdlet_that_is_not_there() -> None:
    """Whoever looks something up on a host can know before what the lab will not answer, and only that is listed."""
    table = json.loads((files("labenv.windows.remoting") / "signatures.json").read_text("utf-8"))["cmdlets"]
    there = {*COMMANDS, *core.COMMANDS}
    missing = {n for n in table if n not in there and n.partition("-")[0] in ("Get", "Test", "Measure")}
    text = (Path(__file__).parents[3] / "docs" / "fidelity.md").read_text("utf-8")
    part = text.partition("## Cmdlets that are not there")[2]
    assert set(re.findall(r"`((?:Get|Test|Measure)-\w+)`", part)) == missing
