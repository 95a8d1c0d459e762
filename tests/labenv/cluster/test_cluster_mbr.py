"""MBR disks in a failover cluster: allowed, known by their signature, their volumes' GUIDs are each node's own."""

from __future__ import annotations

import asyncio

import pytest

from tests.labenv.windows.bench import GIB, Memory

from .bench import ClusterBench


async def mbr_disk(bench: ClusterBench, name: str, letter: str = "") -> str:
    """A formatted MBR disk on hv1; its unique id."""
    unit = bench.lun(name)
    await bench.rescan()
    unique_id = bench.unique_id(unit)
    number = await bench.show("hv1", "Get-Disk", "Number", UniqueId=unique_id)
    await bench.run("hv1", "Set-Disk", Number=number, IsOffline=False)
    await bench.run("hv1", "Set-Disk", Number=number, IsReadOnly=False)
    await bench.run("hv1", "Initialize-Disk", Number=number, PartitionStyle="MBR")
    made = (await bench.run("hv1", "New-Partition", DiskNumber=number, UseMaximumSize=True))[0]
    await bench.run("hv1", "Format-Volume", Path=made.properties["AccessPaths"].items[-1], Confirm=False)
    if letter:
        await bench.run(
            "hv1", "Add-PartitionAccessPath", DiskNumber=number, PartitionNumber=1, AccessPath=f"{letter}:\\"
        )
    return unique_id


async def guid_on(bench: ClusterBench, node: str, unique_id: str) -> str:
    """The GUID path that a node has for the disk's volume."""
    number = await bench.show(node, "Get-Disk", "Number", UniqueId=unique_id)
    part = (await bench.run(node, "Get-Partition", DiskNumber=number))[0]
    return str(part.properties["AccessPaths"].items[-1])


@pytest.mark.tr("R-4.1-03")
def test_a_cluster_disk_is_known_by_its_signature(bench: ClusterBench) -> None:
    """Its letter goes along to the other node, where the same volume has another GUID; a clone of it stays offline."""

    async def go() -> None:
        await bench.standard()
        unique_id = await mbr_disk(bench, "old", "S")
        signature = await bench.show("hv1", "Get-Disk", "Signature", UniqueId=unique_id)
        (available,) = await bench.run("hv1", "Get-ClusterAvailableDisk")
        assert available.properties["Id"] == f"0x{signature:08X}"
        (added,) = await bench.pair("hv1", "Get-Disk", {"UniqueId": unique_id}, "Add-ClusterDisk")
        name = added.properties["Name"]
        private = {
            p.properties["Name"]: p.properties["Value"]
            for p in await bench.pair("hv1", "Get-ClusterResource", {"Name": name}, "Get-ClusterParameter")
        }
        assert (private["DiskIdType"], private["DiskSignature"], private["DiskIdGuid"]) == (0, signature, "")
        await bench.run("hv1", "Set-Content", LiteralPath="S:\\a.txt", Value="moved", NoNewline=True)
        first = await guid_on(bench, "hv1", unique_id)
        await bench.run("hv1", "Move-ClusterGroup", Name="Available Storage", Node="hv2")
        assert await bench.run("hv2", "Get-Content", LiteralPath="S:\\a.txt") == ["moved"]
        assert await guid_on(bench, "hv2", unique_id) != first
        device = Memory(GIB)
        device.restore(bench.storage.units["old"].device.snapshot())  # type: ignore[attr-defined]
        clone = bench.lun("clone", device=device)
        await bench.rescan()
        number = await bench.show("hv2", "Get-Disk", "Number", UniqueId=bench.unique_id(clone))
        assert (await bench.fails("hv2", "Set-Disk", Number=number, IsOffline=False)).error_id == "StorageWMI 41018"
        assert await bench.show("hv2", "Get-Disk", "OfflineReason", Number=number) == "Collision"
        assert await bench.run("hv1", "Get-ClusterAvailableDisk") == []
        await bench.run("hv1", "Move-ClusterGroup", Name="Available Storage", Node="hv1")
        assert await guid_on(bench, "hv1", unique_id) == first

    asyncio.run(go())


@pytest.mark.tr("R-4.1-03")
def test_windows_itself_takes_it_as_a_shared_volume(bench: ClusterBench) -> None:
    """Shared on every node under one folder; given back, it has its letter-less volume again."""

    async def go() -> None:
        await bench.standard()
        unique_id = await mbr_disk(bench, "old")
        (added,) = await bench.pair("hv1", "Get-Disk", {"UniqueId": unique_id}, "Add-ClusterDisk")
        name = added.properties["Name"]
        (shared,) = await bench.run("hv1", "Add-ClusterSharedVolume", Name=name)
        folder = shared.properties["SharedVolumeInfo"].items[0].properties["FriendlyVolumeName"]
        await bench.run("hv2", "Set-Content", LiteralPath=f"{folder}\\a.txt", Value="seen", NoNewline=True)
        await bench.run("hv1", "Move-ClusterSharedVolume", Name=name, Node="hv2")
        assert await bench.run("hv1", "Get-Content", LiteralPath=f"{folder}\\a.txt") == ["seen"]
        assert await bench.show("hv2", "Get-Disk", "PartitionStyle", UniqueId=unique_id) == "MBR"
        await bench.run("hv1", "Remove-ClusterSharedVolume", Name=name)
        owner = bench.owner((await bench.run("hv1", "Get-ClusterResource", Name=name))[0])
        path = await guid_on(bench, owner, unique_id)
        assert await bench.run(owner, "Get-Content", LiteralPath=f"{path}a.txt") == ["seen"]

    asyncio.run(go())
