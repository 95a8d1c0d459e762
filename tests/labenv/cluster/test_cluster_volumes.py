"""Cluster disks and shared volumes: adding, naming, moving, restoring, and clones beside their parents."""

from __future__ import annotations

import asyncio

from labenv.windows.cmdlets.targets import prop

from .bench import ClusterBench
from .conftest import Make


def test_disks_come_in_and_go_out(bench: ClusterBench) -> None:
    """Get-ClusterAvailableDisk lists what every node sees; a disk that is removed is free and offline."""

    async def go() -> None:
        await bench.connect()
        unit = await bench.formatted("data")
        bench.lun("raw")
        await bench.rescan()
        (free,) = await bench.run("hv2", "Get-ClusterAvailableDisk")
        assert bench.value(free, "UniqueId") == bench.unique_id(unit)
        (made,) = await bench.run("hv1", "Add-ClusterDisk", InputObject=[free])
        assert (bench.value(made, "Name"), bench.value(made, "State")) == ("Cluster Disk 1", "Online")
        assert await bench.run("hv1", "Get-ClusterAvailableDisk") == []
        (disk,) = await bench.run("hv1", "Get-Disk", UniqueId=bench.unique_id(unit))
        (other,) = await bench.run("hv2", "Get-Disk", UniqueId=bench.unique_id(unit))
        assert (disk.properties["IsClustered"], disk.properties["IsOffline"]) == (True, False)
        assert (other.properties["IsClustered"], other.properties["IsOffline"]) == (True, True)
        assert other.notes["OfflineReason"] is None
        (parameter,) = await bench.pair(
            "hv1", "Get-ClusterResource", {"Name": "Cluster Disk 1"}, "Get-ClusterParameter", Name=["DiskIdGuid"]
        )
        assert parameter.properties["Value"] == disk.properties["Guid"]
        await bench.run("hv1", "Remove-ClusterResource", Name="Cluster Disk 1", Force=True)
        (disk,) = await bench.run("hv1", "Get-Disk", UniqueId=bench.unique_id(unit))
        assert (disk.properties["IsClustered"], disk.properties["IsOffline"]) == (False, True)
        assert len(await bench.run("hv1", "Get-ClusterAvailableDisk")) == 1

    asyncio.run(go())


def test_asymmetric_storage(bench: ClusterBench) -> None:
    """A LUN that only one node sees is listed with -All only, and stays with that node (TR 11.3)."""

    async def go() -> None:
        await bench.connect()
        unit = bench.lun("half")
        bench.storage.hidden.add(("iqn.1991-05.com.microsoft:hv2", "half"))
        await bench.rescan()
        (disk,) = await bench.run("hv1", "Get-Disk", UniqueId=bench.unique_id(unit))
        await bench.run("hv1", "Set-Disk", Number=disk.properties["Number"], IsOffline=False)
        await bench.run("hv1", "Set-Disk", Number=disk.properties["Number"], IsReadOnly=False)
        await bench.run("hv1", "Initialize-Disk", Number=disk.properties["Number"])
        assert await bench.run("hv1", "Get-ClusterAvailableDisk") == []
        (free,) = await bench.run("hv1", "Get-ClusterAvailableDisk", All=True)
        (made,) = await bench.run("hv1", "Add-ClusterDisk", InputObject=[free])
        (owners,) = await bench.run("hv2", "Get-ClusterOwnerNode", Resource=made.properties["Name"])
        assert [n.text for n in owners.properties["OwnerNodes"].items] == ["hv1"]
        error = await bench.fails("hv1", "Move-ClusterGroup", Name="Available Storage", Node="hv2")
        assert error.error_id == "Move-ClusterGroup"

    asyncio.run(go())


def test_the_folder_is_renamed_on_every_node(bench: ClusterBench) -> None:
    """Rename-Item of C:\\ClusterStorage\\VolumeN on one node renames it on all; not while files are open below it."""

    async def go() -> None:
        folder = await bench.standard()
        await bench.run("hv1", "Set-Content", LiteralPath=f"{folder}\\x.txt", Value="x", NoNewline=True)
        await bench.run("hv2", "Rename-Item", LiteralPath=folder, NewName="Tier1")
        for node in bench.names:
            path = "C:\\ClusterStorage\\Tier1\\x.txt"
            assert await bench.run(node, "Get-Content", LiteralPath=path, Raw=True) == ["x"]
            assert await bench.run(node, "Test-Path", LiteralPath=folder) == [False]
            names = await bench.run(node, "Get-ChildItem", LiteralPath="C:\\ClusterStorage", Name=True)
            assert names == ["Tier1"]
        await bench.vm("a", "C:\\ClusterStorage\\Tier1")
        error = await bench.fails("hv2", "Rename-Item", LiteralPath="C:\\ClusterStorage\\Tier1", NewName="Volume1")
        assert error.error_id == "RenameItemIOError"

    asyncio.run(go())


def test_a_file_that_a_vm_of_another_node_has_open(bench: ClusterBench) -> None:
    """A shared file is in use for every node, whoever has it open."""

    async def go() -> None:
        folder = await bench.standard()
        await bench.vm("a", folder)
        error = await bench.fails("hv2", "Remove-Item", LiteralPath=f"{folder}\\a\\vhd0.vhd")
        assert error.error_id == "RemoveFileSystemItemIOError"
        assert "being used by another process" in error.message

    asyncio.run(go())


def test_owner_moves_while_a_vm_runs(bench: ClusterBench) -> None:
    """Another node coordinates the volume; the VM and its rows do not notice."""

    async def go() -> None:
        folder = await bench.standard()
        await bench.vm("a", folder)
        bench.guest("a").insert("aa1", 5)
        for node in ("hv2", "hv1", "hv2"):
            (volume,) = await bench.run("hv1", "Move-ClusterSharedVolume", Name="Cluster Disk 2", Node=node)
            assert bench.owner(volume) == node
            bench.guest("a").insert("aa1", 5)
        assert bench.guest("a").count("aa1") == 20
        error = await bench.fails("hv1", "Get-Partition", DiskNumber=2)
        assert error.error_id == "CmdletizationQuery_NotFound_DiskNumber"
        assert [bench.value(p, "Type") for p in await bench.run("hv2", "Get-Partition", DiskNumber=2)] == [
            "Reserved",
            "Basic",
        ]

    asyncio.run(go())


def test_a_volume_goes_back_to_available_storage(bench: ClusterBench) -> None:
    """Remove-ClusterSharedVolume takes the folder from every node; not while a VM runs there."""

    async def go() -> None:
        folder = await bench.standard()
        await bench.vm("a", folder)
        error = await bench.fails("hv1", "Remove-ClusterSharedVolume", Name="Cluster Disk 2")
        assert error.error_id == "Remove-ClusterSharedVolume"
        await bench.run("hv1", "Stop-VM", Name="a", Force=True)
        await bench.run("hv1", "Remove-ClusterGroup", Name="a", RemoveResources=True, Force=True)
        (disk,) = await bench.run("hv1", "Remove-ClusterSharedVolume", Name="Cluster Disk 2")
        assert (prop(disk.properties["OwnerGroup"], "Name"), bench.value(disk, "State")) == (
            "Available Storage",
            "Online",
        )
        assert await bench.run("hv1", "Get-ClusterSharedVolume") == []
        for node in bench.names:
            assert await bench.run(node, "Test-Path", LiteralPath=folder) == [False]
        owner = bench.owner(disk)
        (volume,) = [v for v in await bench.run(owner, "Get-Volume") if bench.value(v, "FileSystemLabel") == "csv1"]
        assert bench.value(volume, "FileSystem") == "NTFS"
        assert await bench.run(owner, "Test-Path", LiteralPath=f"{volume.properties['Path']}a\\vhd0.vhd") == [True]

    asyncio.run(go())


def test_offline_restore_online(bench: ClusterBench) -> None:
    """While the disk is offline its bytes may be put back; online again every node sees the old files."""

    async def go() -> None:
        folder = await bench.standard()
        path = f"{folder}\\note.txt"
        await bench.run("hv1", "Set-Content", LiteralPath=path, Value="old", NoNewline=True)
        await bench.run("hv1", "Write-VolumeCache", Path=await _path(bench, folder))
        device = bench.storage.units["csv1"].device
        kept = device.snapshot()  # type: ignore[attr-defined]
        await bench.run("hv2", "Set-Content", LiteralPath=path, Value="new", NoNewline=True)
        (shown,) = await bench.run("hv1", "Stop-ClusterResource", Name="Cluster Disk 2", Wait=120)
        assert bench.value(shown, "State") == "Offline"
        assert await bench.run("hv2", "Test-Path", LiteralPath=path) == [False]
        device.restore(kept)  # type: ignore[attr-defined]
        await bench.run("hv1", "Start-ClusterResource", Name="Cluster Disk 2")
        for node in bench.names:
            assert await bench.run(node, "Get-Content", LiteralPath=path, Raw=True) == ["old"]

    asyncio.run(go())


async def _path(bench: ClusterBench, folder: str) -> str:
    (volume,) = await bench.run("hv1", "Get-Volume", FilePath=folder)
    return str(bench.value(volume, "Path"))


def test_a_clone_beside_its_parent_stays_offline(bench: ClusterBench) -> None:
    """The cluster's disk driver takes a clone for its parent, on every node; a new GUID lets it in (notes 3.6)."""

    async def go() -> None:
        folder = await bench.standard()
        await bench.run("hv1", "Set-Content", LiteralPath=f"{folder}\\x.txt", Value="x")
        parent = bench.storage.units["csv1"].device
        clone = bench.lun("clone")
        clone.device.restore(parent.snapshot())  # type: ignore[attr-defined]
        await bench.rescan()
        for node in bench.names:
            (disk,) = await bench.run(node, "Get-Disk", UniqueId=bench.unique_id(clone))
            number = disk.properties["Number"]
            error = await bench.fails(node, "Set-Disk", Number=number, IsOffline=False)
            assert error.error_id == "StorageWMI 41018"
            (disk,) = await bench.run(node, "Get-Disk", Number=number)
            assert (disk.properties["IsOffline"], disk.notes["OfflineReason"]) == (True, "Collision")
            assert disk.properties["IsClustered"] is False
        assert await bench.run("hv1", "Get-ClusterAvailableDisk") == []
        error = await bench.fails("hv1", "Add-ClusterDisk", InputObject=[disk])
        assert error.error_id == "Add-ClusterDisk"
        host = bench.hosts["hv1"]
        record = host.disks.records[bench.unique_id(clone)]
        layout = host.disks.layout(record)
        assert layout is not None
        host.disks.rewrite_offline(record, host.disks.fresh_guids(record, layout))  # as REST LUN data PATCH does
        await bench.run("hv1", "Set-Disk", Number=record.number, IsOffline=False)
        (made,) = await bench.pair("hv1", "Get-Disk", {"UniqueId": record.unique_id}, "Add-ClusterDisk")
        (shared,) = await bench.run("hv1", "Add-ClusterSharedVolume", Name=made.properties["Name"])
        info = shared.properties["SharedVolumeInfo"].items[0]
        assert info.properties["FriendlyVolumeName"] == "C:\\ClusterStorage\\Volume2"
        assert await bench.run("hv2", "Test-Path", LiteralPath="C:\\ClusterStorage\\Volume2\\x.txt") == [True]

    asyncio.run(go())


def test_everything_is_there_after_a_crash_of_the_lab(make: Make) -> None:
    """Names, owners, renamed folders, drive letters and contents survive; nothing was closed in order."""
    bench = make()

    async def before() -> None:
        folder = await bench.standard()
        await bench.run("hv1", "Rename-Item", LiteralPath=folder, NewName="Tier1")
        await bench.run("hv2", "Set-Content", LiteralPath="C:\\ClusterStorage\\Tier1\\x.txt", Value="x", NoNewline=True)
        await bench.run("hv1", "Move-ClusterSharedVolume", Name="Cluster Disk 2", Node="hv2")
        await bench.cluster_disk("data", letter="V")
        await bench.run("hv1", "Add-ClusterGroup", Name="smhv_snapinfo")
        await bench.run("hv1", "Move-ClusterResource", Name="Cluster Disk 3", Group="smhv_snapinfo")
        await bench.run("hv1", "Set-Content", LiteralPath="V:\\y.txt", Value="y", NoNewline=True)

    asyncio.run(before())
    again = make(storage=bench.storage)

    async def after() -> None:
        (volume,) = await again.run("hv1", "Get-ClusterSharedVolume")
        assert again.owner(volume) == "hv2"
        path = "C:\\ClusterStorage\\Tier1\\x.txt"
        for node in again.names:
            assert await again.run(node, "Get-Content", LiteralPath=path, Raw=True) == ["x"]
        assert await again.run("hv1", "Get-Content", LiteralPath="V:\\y.txt", Raw=True) == ["y"]
        assert await again.run("hv2", "Test-Path", LiteralPath="V:\\") == [False]
        await again.run("hv1", "Move-ClusterGroup", Name="smhv_snapinfo", Node="hv2")
        assert await again.run("hv2", "Get-Content", LiteralPath="V:\\y.txt", Raw=True) == ["y"]
        assert await again.run("hv1", "Test-Path", LiteralPath="V:\\") == [False]

    asyncio.run(after())
