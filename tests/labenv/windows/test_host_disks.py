"""Disks, partitions, volumes and what happens to them when LUNs come, go and are cloned."""

from __future__ import annotations

import asyncio

from .bench import GIB, IQN, PORTAL, TARGET, Bench, Memory


def test_new_lun_is_offline_by_policy(bench: Bench) -> None:
    """A mapped LUN appears at the rescan, offline and read-only by the SAN policy, under its NAA id."""

    async def go() -> None:
        await bench.connect()
        unit = bench.lun("data")
        assert [d.properties["Number"] for d in await bench.run("Get-Disk")] == [0]
        before = bench.clock.now
        await bench.run("Update-HostStorageCache")
        assert bench.clock.now - before == 5_000_000
        disk = (await bench.run("Get-Disk", Number=1))[0]
        assert disk.properties["UniqueId"] == "600A0980" + unit.serial_number.encode().hex().upper()
        shown = [
            bench.value(disk, n) for n in ("IsOffline", "IsReadOnly", "OfflineReason", "PartitionStyle", "BusType")
        ]
        assert shown == [True, True, "Policy", "RAW", "iSCSI"]
        assert bench.value((await bench.run("Get-StorageSetting"))[0], "NewDiskPolicy") == "OfflineShared"

    asyncio.run(go())


def test_the_san_policy_decides_on_new_disks_only(bench: Bench) -> None:
    """With OnlineAll a new LUN is online and writable, a clone gets GUIDs of its own; known disks stay as they are."""

    async def go() -> None:
        await bench.connect()
        unit = await bench.formatted("data", "S")
        await bench.run("Set-Disk", Number=await bench.number(unit), IsOffline=True)
        await bench.run("Set-StorageSetting", NewDiskPolicy="OnlineAll")
        setting = (await bench.run("Get-StorageSetting"))[0]
        assert bench.value(setting, "NewDiskPolicy") == "OnlineAll"
        assert setting.properties["NewDiskPolicy"] == 1
        device = Memory(GIB)
        device.restore(unit.device.snapshot())  # type: ignore[attr-defined]
        clone = bench.lun("clone", device=device)
        await bench.run("Update-HostStorageCache")
        states = []
        for each in (unit, clone):
            disk = (await bench.run("Get-Disk", Number=await bench.number(each)))[0]
            states.append((bench.value(disk, "IsOffline"), bench.value(disk, "IsReadOnly")))
        assert states == [(True, False), (False, False)]
        await bench.run("Update-IscsiTarget")
        error = await bench.fails("Update-IscsiTargetPortal", TargetPortalAddress="10.9.9.9")
        assert error.error_id == "CmdletizationQuery_NotFound_TargetPortalAddress"

    asyncio.run(go())


def test_free_space_is_offered_to_the_array_again(bench: Bench) -> None:
    """What was deleted without a word to the array (a clone of old blocks) is given back by Optimize-Volume -ReTrim."""

    async def go() -> None:
        await bench.connect()
        unit = await bench.formatted("data", "S")
        await bench.run("Set-Content", LiteralPath="S:\\big.txt", Value="x" * (8 << 20), NoNewline=True)
        await bench.run("Write-VolumeCache", DriveLetter="S")
        device = unit.device
        assert isinstance(device, Memory)
        full = device.snapshot()
        await bench.run("Remove-Item", LiteralPath="S:\\big.txt")
        await bench.run("Write-VolumeCache", DriveLetter="S")
        for index, chunk in full.items():
            device.chunks.setdefault(index, bytearray(chunk))
        held = len(device.chunks)
        await bench.run("Optimize-Volume", DriveLetter="S", ReTrim=True)
        assert len(device.chunks) < held - 50
        assert (await bench.fails("Optimize-Volume", DriveLetter="S", Defrag=True)).error_id == "StorageWMI 1"

    asyncio.run(go())


def test_disk_keeps_its_attributes_while_it_is_away(bench: Bench) -> None:
    """A LUN that is unmapped vanishes at the rescan; mapped again it is online as it was, with its letter."""

    async def go() -> None:
        await bench.connect()
        await bench.formatted("data", "S")
        await bench.run("Set-Content", LiteralPath="S:\\a.txt", Value="x", NoNewline=True)
        kept = bench.storage.units.pop("data")
        await bench.run("Update-HostStorageCache")
        assert len(await bench.run("Get-Disk")) == 1
        assert (await bench.run("Get-WinEvent", LogName="System"))[0].properties["Id"] == 157
        assert await bench.run("Test-Path", LiteralPath="S:\\a.txt") == [False]
        bench.storage.units["data"] = kept
        await bench.run("Update-HostStorageCache")
        assert await bench.run("Get-Content", LiteralPath="S:\\a.txt") == ["x"]

    asyncio.run(go())


def test_partitions_begin_with_the_reserved_one(bench: Bench) -> None:
    """Initialize-Disk makes the MSR partition; the data partition comes second, gets no letter and keeps it so."""

    async def go() -> None:
        await bench.connect()
        number = await bench.online(bench.lun("data"))
        await bench.run("Initialize-Disk", Number=number)
        made = (await bench.run("New-Partition", DiskNumber=number, UseMaximumSize=True))[0]
        assert made.properties["DriveLetter"] is None
        assert made.properties["NoDefaultDriveLetter"]
        found = await bench.run("Get-Partition", DiskNumber=number)
        assert [bench.value(p, "Type") for p in found] == ["Reserved", "Basic"]
        await bench.run("Set-Partition", DiskNumber=number, PartitionNumber=2, NewDriveLetter="Q")
        assert (await bench.run("Get-Partition", DriveLetter="Q"))[0].properties["PartitionNumber"] == 2

    asyncio.run(go())


def test_clone_beside_its_parent_gets_new_guids(bench: Bench) -> None:
    """A clone brought online beside its parent has its GUIDs rewritten, so that both volumes can be used."""

    async def go() -> None:
        await bench.connect()
        parent = await bench.formatted("data", "S")
        await bench.run("Set-Content", LiteralPath="S:\\a.txt", Value="parent", NoNewline=True)
        assert isinstance(parent.device, Memory)
        device = Memory(GIB)
        device.restore(parent.device.snapshot())
        number = await bench.online(bench.lun("clone", device=device))
        disks = await bench.run("Get-Disk")
        assert len({d.properties["Guid"] for d in disks}) == 3
        part = (await bench.run("Get-Partition", DiskNumber=number))[-1]
        assert part.properties["DriveLetter"] is None
        await bench.run("New-Item", Path="C:\\mnt\\clone", ItemType="Directory")
        await bench.run(
            "Add-PartitionAccessPath",
            DiskNumber=number,
            PartitionNumber=part.properties["PartitionNumber"],
            AccessPath="C:\\mnt\\clone",
        )
        await bench.run("Set-Content", LiteralPath="C:\\mnt\\clone\\a.txt", Value="clone", NoNewline=True)
        assert await bench.run("Get-Content", LiteralPath="S:\\a.txt") == ["parent"]
        volume = (await bench.run("Get-Volume", FilePath="C:\\mnt\\clone\\a.txt"))[0]
        assert (await bench.run("Get-Item", LiteralPath=volume.properties["Path"] + "a.txt"))[0].properties[
            "Length"
        ] == 5

    asyncio.run(go())


def test_path_below_an_absent_mount_point_leads_nowhere(bench: Bench) -> None:
    """While a mounted LUN is away its mount point does not fall through to the directory below."""

    async def go() -> None:
        await bench.connect()
        await bench.formatted("data", "S")
        number = await bench.number(bench.storage.units["data"])
        await bench.run("New-Item", Path="C:\\mnt\\x", ItemType="Directory")
        await bench.run("Add-PartitionAccessPath", DiskNumber=number, PartitionNumber=2, AccessPath="C:\\mnt\\x")
        await bench.run("Set-Disk", Number=number, IsOffline=True)
        error = await bench.fails("Set-Content", LiteralPath="C:\\mnt\\x\\a.txt", Value="lost")
        assert error.error_id == "GetContentWriterIOError"
        assert await bench.run("Test-Path", LiteralPath="C:\\mnt\\x\\a.txt") == [False]

    asyncio.run(go())


def test_mount_point_is_removed_without_its_volume(bench: Bench) -> None:
    """Remove-Item -Recurse above a mount point takes the mount away and leaves the volume's files."""

    async def go() -> None:
        await bench.connect()
        await bench.formatted("data", "S")
        number = await bench.number(bench.storage.units["data"])
        await bench.run("New-Item", Path="C:\\mnt\\x", ItemType="Directory")
        await bench.run("Add-PartitionAccessPath", DiskNumber=number, PartitionNumber=2, AccessPath="C:\\mnt\\x")
        await bench.run("Set-Content", LiteralPath="C:\\mnt\\x\\a.txt", Value="kept")
        found = (await bench.run("Get-Item", LiteralPath="C:\\mnt\\x"))[0]
        assert "ReparsePoint" in found.properties["Attributes"].name
        await bench.run("Remove-Item", LiteralPath="C:\\mnt", Recurse=True, Force=True)
        assert await bench.run("Test-Path", LiteralPath="S:\\a.txt") == [True]
        assert (await bench.run("Get-Partition", DiskNumber=number))[-1].properties["AccessPaths"].items[0] == "S:\\"

    asyncio.run(go())


def test_vss_flags_live_in_the_bytes(bench: Bench) -> None:
    """Hidden, read-only, shadow copy, no letter are GPT attributes: read-only refuses writes, all stay with the LUN."""

    async def go() -> None:
        await bench.connect()
        unit = await bench.formatted("data", "S")
        number = await bench.number(unit)
        flags = {"IsHidden": True, "IsReadOnly": True, "IsShadowCopy": True, "NoDefaultDriveLetter": True}
        await bench.run("Set-Partition", DiskNumber=number, PartitionNumber=2, **flags)
        error = await bench.fails("Set-Content", LiteralPath="S:\\a.txt", Value="x")
        assert "write protected" in error.message
        await bench.run("Set-Disk", Number=number, IsOffline=True)
        await bench.run("Set-Disk", Number=number, IsOffline=False)
        part = (await bench.run("Get-Partition", DiskNumber=number))[-1]
        assert all(part.properties[name] for name in flags)
        await bench.run("Set-Partition", DiskNumber=number, PartitionNumber=2, **dict.fromkeys(flags, False))
        await bench.run("Set-Content", LiteralPath="S:\\a.txt", Value="x")

    asyncio.run(go())


def test_grown_lun_is_seen_after_update_disk(bench: Bench) -> None:
    """A resized LUN shows its new size after Update-Disk or a rescan, not before."""

    async def go() -> None:
        await bench.connect()
        unit = await bench.formatted("data", "S")
        number = await bench.number(unit)
        assert isinstance(unit.device, Memory)
        unit.device.size = 2 * GIB
        bench.lun("data", device=unit.device)
        assert (await bench.run("Get-Disk", Number=number))[0].properties["Size"] == GIB
        await bench.run("Update-Disk", Number=number)
        assert (await bench.run("Get-Disk", Number=number))[0].properties["Size"] == 2 * GIB

    asyncio.run(go())


def test_mounted_vhd(bench: Bench) -> None:
    """Mount-VHD shows a VHD's volume as a disk; its file is locked until Dismount-VHD."""

    async def go() -> None:
        await bench.connect()
        await bench.formatted("vms", "V")
        await bench.vm("sql01", "V:\\", start=False)
        path = "V:\\sql01\\vhd0.vhd"
        mounted = (await bench.run("Mount-VHD", Path=path, NoDriveLetter=True, Passthru=True))[0]
        number = mounted.properties["DiskNumber"]
        assert mounted.properties["Attached"]
        part = (await bench.run("Get-Partition", DiskNumber=number))[-1]
        assert part.properties["DriveLetter"] is None
        tree = await bench.run("Get-ChildItem", LiteralPath=part.properties["AccessPaths"].items[-1])
        assert "Windows" in [e.properties["Name"] for e in tree]
        assert (await bench.fails("Remove-Item", LiteralPath=path)).error_id == "RemoveFileSystemItemIOError"
        assert (await bench.fails("Start-VM", Name="sql01")).error_id == "OperationFailed"
        await bench.run("Dismount-VHD", Path=path)
        await bench.run("Start-VM", Name="sql01")
        assert (await bench.fails("Mount-VHD", Path=path)).error_id == "ObjectInUse"

    asyncio.run(go())


def test_read_only_mount_of_a_copy_stays_offline(bench: Bench) -> None:
    """A copy of a mounted VHD has its GUID: read-only it stays offline, writable it gets new ones."""

    async def go() -> None:
        await bench.connect()
        await bench.formatted("vms", "V")
        await bench.vm("sql01", "V:\\", start=False)
        await bench.run("Copy-Item", LiteralPath="V:\\sql01\\vhd1.vhd", Destination="V:\\copy.vhd")
        await bench.run("Mount-VHD", Path="V:\\sql01\\vhd1.vhd")
        shown = (await bench.run("Mount-VHD", Path="V:\\copy.vhd", ReadOnly=True, Passthru=True))[0]
        disk = (await bench.run("Get-Disk", Number=shown.properties["DiskNumber"]))[0]
        assert [bench.value(disk, n) for n in ("IsOffline", "OfflineReason")] == [True, "Collision"]
        await bench.run("Dismount-VHD", Path="V:\\copy.vhd")
        shown = (await bench.run("Mount-VHD", Path="V:\\copy.vhd", Passthru=True))[0]
        assert not (await bench.run("Get-Disk", Number=shown.properties["DiskNumber"]))[0].properties["IsOffline"]

    asyncio.run(go())


def test_iscsi_inventory(bench: Bench) -> None:
    """The initiator shows its node name, targets, sessions and connections as they are now."""

    async def go() -> None:
        await bench.connect()
        assert (await bench.run("Get-InitiatorPort"))[0].properties["NodeAddress"] == IQN
        assert (await bench.run("Get-IscsiTarget"))[0].properties["IsConnected"]
        session = (await bench.run("Get-IscsiSession"))[0]
        assert [session.properties[n] for n in ("TargetNodeAddress", "IsPersistent", "IsConnected")] == [
            TARGET,
            True,
            True,
        ]
        assert (await bench.run("Get-IscsiConnection"))[0].properties["TargetAddress"] == PORTAL
        bench.storage.up = False
        assert not (await bench.run("Get-IscsiSession"))[0].properties["IsConnected"]
        assert await bench.run("Get-IscsiConnection") == []

    asyncio.run(go())


def test_sessions_that_are_not_persistent_end_with_the_host(bench: Bench) -> None:
    """After a restart of the host only favourites log in again."""

    async def go() -> None:
        await bench.run("New-IscsiTargetPortal", TargetPortalAddress=PORTAL)
        await bench.run("Connect-IscsiTarget", NodeAddress=TARGET)
        bench.host.power_cut()
        assert await bench.run("Get-IscsiSession") == []
        await bench.connect()
        bench.host.power_cut()
        assert len(await bench.run("Get-IscsiSession")) == 1

    asyncio.run(go())


def test_lab_checkpoint_includes_the_local_disk(bench: Bench) -> None:
    """Restoring the lab's state brings drive C: back with it."""

    async def go() -> None:
        await bench.run("Set-Content", LiteralPath="C:\\a.txt", Value="one", NoNewline=True)
        bench.state.checkpoint("fresh")
        await bench.run("Set-Content", LiteralPath="C:\\a.txt", Value="two", NoNewline=True)
        await bench.run("New-Item", Path="C:\\later", ItemType="Directory")
        bench.host.power_cut()
        bench.state.restore("fresh")
        assert await bench.run("Get-Content", LiteralPath="C:\\a.txt") == ["one"]
        assert await bench.run("Test-Path", LiteralPath="C:\\later") == [False]
        await bench.run("Set-Content", LiteralPath="C:\\a.txt", Value="three")

    asyncio.run(go())


def test_a_mount_point_whose_volume_is_away_leads_nowhere_and_can_be_removed(bench: Bench) -> None:
    """The directory is there, nothing can be read or written below it, and removing it makes room for another."""

    async def go() -> None:
        await bench.connect()
        number = await bench.number(await bench.formatted("data", "S"))
        for folder in ("C:\\mnt\\a", "C:\\mnt\\b"):
            await bench.run("New-Item", Path=folder, ItemType="Directory")
            await bench.run("Add-PartitionAccessPath", DiskNumber=number, PartitionNumber=2, AccessPath=folder)
        await bench.run("Set-Content", LiteralPath="C:\\mnt\\a\\x.txt", Value="x", NoNewline=True)
        await bench.run("Set-Disk", Number=number, IsOffline=True)
        assert await bench.run("Test-Path", LiteralPath="C:\\mnt\\a") == [True]
        assert await bench.run("Test-Path", LiteralPath="C:\\mnt\\a\\x.txt") == [False]
        await bench.fails("New-Item", Path="C:\\mnt\\a\\inside", ItemType="Directory")
        await bench.run("Remove-Item", LiteralPath="C:\\mnt\\a", Force=True)
        assert await bench.run("Test-Path", LiteralPath="C:\\mnt\\a") == [False]
        await bench.run("New-Item", Path="C:\\mnt\\a\\inside", ItemType="Directory")
        await bench.run("Remove-Item", LiteralPath="C:\\mnt", Recurse=True, Force=True)
        await bench.run("Set-Disk", Number=number, IsOffline=False)
        part = (await bench.run("Get-Partition", DiskNumber=number, PartitionNumber=2))[0]
        assert [path for path in part.properties["AccessPaths"].items if not path.startswith("\\\\?")] == ["S:\\"]
        assert await bench.run("Get-Content", LiteralPath="S:\\x.txt") == ["x"]

    asyncio.run(go())
