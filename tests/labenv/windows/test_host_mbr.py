"""MBR disks through the cmdlets: what Windows does with them and what it refuses, down to the bytes of the LUN."""

from __future__ import annotations

import asyncio
import struct

from labenv.fabric import LogicalUnit

from .bench import GIB, Bench, Memory

MIB = 1 << 20


def entries(unit: LogicalUnit) -> tuple[int, list[tuple[int, int, int, int]]]:
    """The signature, and flag, type, first sector and sectors of each entry that is used."""
    sector = unit.device.read(0, 512)
    assert sector[510:] == b"\x55\xaa"
    rows = [struct.unpack_from("<B3xB3xII", sector, 446 + 16 * n) for n in range(4)]
    return struct.unpack_from("<I", sector, 440)[0], [row for row in rows if row[1]]


async def initialised(bench: Bench, name: str, size: int = GIB) -> tuple[LogicalUnit, int]:
    """A LUN with an MBR and no partition, and the number of its disk."""
    unit = bench.lun(name, size)
    number = await bench.online(unit)
    await bench.run("Initialize-Disk", Number=number, PartitionStyle="MBR")
    return unit, number


def test_from_a_raw_lun_to_four_volumes(bench: Bench) -> None:
    """Initialised, partitioned, formatted, one active: each step is in the bytes and in what the cmdlets show."""

    async def go() -> None:
        await bench.connect()
        unit, number = await initialised(bench, "old", 4 * GIB)
        disk = (await bench.run("Get-Disk", Number=number))[0]
        signature, rows = entries(unit)
        assert rows == []
        assert (disk.properties["PartitionStyle"], bench.value(disk, "PartitionStyle")) == (1, "MBR")
        assert (disk.properties["Signature"], disk.properties["Guid"]) == (signature, None)
        assert (await bench.fails("Initialize-Disk", Number=number)).error_id == "StorageWMI 41001"
        for letter in "STUV":
            made = (await bench.run("New-Partition", DiskNumber=number, Size=512 * MIB, DriveLetter=letter))[0]
            assert (bench.value(made, "Type"), made.properties["Guid"]) == ("Huge", None)
            await bench.run("Format-Volume", DriveLetter=letter, FileSystem="NTFS", Confirm=False)
            await bench.run("Set-Content", LiteralPath=f"{letter}:\\a.txt", Value=letter, NoNewline=True)
        await bench.run("Set-Partition", DiskNumber=number, PartitionNumber=2, IsActive=True)
        await bench.run("Set-Partition", DiskNumber=number, PartitionNumber=3, IsActive=True)
        full = await bench.fails("New-Partition", DiskNumber=number, UseMaximumSize=True)
        assert full.error_id == "StorageWMI 41004"
        assert entries(unit)[1] == [
            (0x80 if n == 2 else 0, 7, (MIB + n * 512 * MIB) // 512, 512 * MIB // 512) for n in range(4)
        ]
        shown = await bench.run("Get-Partition", DiskNumber=number)
        assert [(p.properties["Offset"], p.properties["MbrType"], p.properties["IsActive"]) for p in shown] == [
            (MIB + n * 512 * MIB, 7, n == 2) for n in range(4)
        ]
        assert {p.properties["GptType"] for p in shown} == {None}
        await bench.run("Update-HostStorageCache")
        assert [await bench.run("Get-Content", LiteralPath=f"{x}:\\a.txt") for x in "STUV"] == [[x] for x in "STUV"]

    asyncio.run(go())


def test_what_only_one_style_has_is_refused_for_the_other(bench: Bench) -> None:
    """GUIDs and types of the wrong style, no default letter, extended partitions, signature 0: nothing is changed."""

    async def go() -> None:
        await bench.connect()
        gpt = await bench.number(await bench.formatted("new", "S"))
        unit, number = await initialised(bench, "old")
        await bench.run("New-Partition", DiskNumber=number, Size=64 * MIB)
        before = unit.device.read(0, MIB)
        guid = "{11111111-2222-3333-4444-555555555555}"
        on_mbr = {"DiskNumber": number, "PartitionNumber": 1}
        on_gpt = {"DiskNumber": gpt, "PartitionNumber": 2}
        for cmdlet, parameters, code in (
            ("Set-Disk", {"Number": number, "Guid": guid}, 5),
            ("Set-Disk", {"Number": number, "Signature": 0}, 5),
            ("Set-Disk", {"Number": gpt, "Signature": 5}, 5),
            ("Set-Partition", {**on_mbr, "NoDefaultDriveLetter": True}, 41006),
            ("Set-Partition", {**on_mbr, "GptType": guid}, 41006),
            ("Set-Partition", {**on_mbr, "MbrType": 5}, 41006),
            ("Set-Partition", {**on_gpt, "IsActive": True}, 41006),
            ("Set-Partition", {**on_gpt, "MbrType": 7}, 41006),
            ("New-Partition", {"DiskNumber": number, "Size": MIB, "GptType": guid}, 5),
            ("New-Partition", {"DiskNumber": gpt, "Size": MIB, "MbrType": "IFS"}, 5),
            ("New-Partition", {"DiskNumber": number, "Size": MIB, "MbrType": "Extended"}, 1),
            ("New-Partition", {"DiskNumber": number, "Size": 2 * GIB}, 40000),
            ("Set-Disk", {"Number": number, "PartitionStyle": "GPT"}, 41013),
            ("Set-Disk", {"Number": 0, "PartitionStyle": "MBR"}, 41009),
        ):
            assert (await bench.fails(cmdlet, **parameters)).error_id == f"StorageWMI {code}", (cmdlet, parameters)
        assert unit.device.read(0, MIB) == before

    asyncio.run(go())


def test_an_empty_disk_changes_its_style(bench: Bench) -> None:
    """From GPT to MBR and back while it holds no data; cleared it is raw again, with data only on demand."""

    async def go() -> None:
        await bench.connect()
        unit, number = await initialised(bench, "old")
        await bench.run("Set-Disk", Number=number, PartitionStyle="GPT")
        assert unit.device.read(512, 8) == b"EFI PART"
        await bench.run("Set-Disk", Number=number, PartitionStyle="MBR")
        assert unit.device.read(512, 8) == bytes(8)
        assert unit.device.read(unit.size - 512, 8) == bytes(8)
        assert entries(unit)[1] == []
        await bench.run("New-Partition", DiskNumber=number, UseMaximumSize=True, IsActive=True)
        assert [row[0] for row in entries(unit)[1]] == [0x80]
        refused = await bench.fails("Clear-Disk", Number=number, Confirm=False)
        assert refused.error_id == "StorageWMI 40001"
        await bench.run("Clear-Disk", Number=number, RemoveData=True, Confirm=False)
        assert unit.device.read(0, 1024) == bytes(1024)
        assert bench.value((await bench.run("Get-Disk", Number=number))[0], "PartitionStyle") == "RAW"

    asyncio.run(go())


def test_what_lies_behind_two_tebibytes_is_lost_to_it(bench: Bench) -> None:
    """The largest partition of a 3 TiB disk ends at 2 TiB; the same disk as GPT has it all."""

    async def go() -> None:
        await bench.connect()
        unit, number = await initialised(bench, "big", 3072 * GIB)
        disk = (await bench.run("Get-Disk", Number=number))[0]
        assert disk.properties["LargestFreeExtent"] == 2048 * GIB - MIB
        too_large = await bench.fails("New-Partition", DiskNumber=number, Size=2048 * GIB)
        assert too_large.error_id == "StorageWMI 40000"
        made = (await bench.run("New-Partition", DiskNumber=number, UseMaximumSize=True))[0]
        assert made.properties["Offset"] + made.properties["Size"] == 2048 * GIB
        none_left = await bench.fails("New-Partition", DiskNumber=number, UseMaximumSize=True)
        assert none_left.error_id == "StorageWMI 40000"
        await bench.run("Clear-Disk", Number=number, RemoveData=True, Confirm=False)
        await bench.run("Initialize-Disk", Number=number)
        disk = (await bench.run("Get-Disk", Number=number))[0]
        assert disk.properties["LargestFreeExtent"] > 3000 * GIB
        assert unit.size == 3072 * GIB

    asyncio.run(go())


def test_a_second_disk_with_the_signature_of_another(bench: Bench) -> None:
    """It comes offline because of the collision; who brings it online gives it a new signature, the first keeps its."""

    async def go() -> None:
        await bench.connect()
        unit, number = await initialised(bench, "data")
        await bench.run("New-Partition", DiskNumber=number, UseMaximumSize=True, DriveLetter="S")
        await bench.run("Format-Volume", DriveLetter="S", FileSystem="NTFS", Confirm=False)
        await bench.run("Set-Content", LiteralPath="S:\\a.txt", Value="first", NoNewline=True)
        await bench.run("Write-VolumeCache", DriveLetter="S")
        signature = entries(unit)[0]
        await bench.run("Set-StorageSetting", NewDiskPolicy="OnlineAll")
        device = Memory(GIB)
        device.restore(unit.device.snapshot())  # type: ignore[attr-defined]
        clone = bench.lun("clone", device=device)
        await bench.run("Update-HostStorageCache")
        second = (await bench.run("Get-Disk", Number=await bench.number(clone)))[0]
        assert [bench.value(second, n) for n in ("IsOffline", "OfflineReason", "Signature")] == [
            True,
            "Collision",
            signature,
        ]
        await bench.run("Set-Disk", Number=await bench.number(clone), IsOffline=False)
        assert entries(unit)[0] == signature
        assert entries(clone)[0] not in (0, signature)
        part = (await bench.run("Get-Partition", DiskNumber=await bench.number(clone)))[0]
        letter = part.properties["DriveLetter"]
        assert letter not in (None, "S")
        assert await bench.run("Get-Content", LiteralPath=f"{letter}:\\a.txt") == ["first"]
        await bench.run("Set-Disk", Number=number, IsOffline=True)
        await bench.run("Set-Disk", Number=await bench.number(clone), Signature=signature)
        assert entries(clone)[0] == signature
        await bench.run("Set-Disk", Number=number, IsOffline=False)
        assert entries(unit)[0] not in (0, signature)

    asyncio.run(go())


def test_volumes_have_guids_of_their_host_and_stay_without_letters(bench: Bench) -> None:
    """A volume's GUID follows signature and offset; one made without a letter has none after a rescan either."""

    async def go() -> None:
        await bench.connect()
        _, number = await initialised(bench, "data")
        made = (await bench.run("New-Partition", DiskNumber=number, UseMaximumSize=True))[0]
        paths = made.properties["AccessPaths"].items
        await bench.run("Format-Volume", Path=paths[0], FileSystem="NTFS", Confirm=False)
        await bench.run("Update-HostStorageCache")
        again = (await bench.run("Get-Partition", DiskNumber=number))[0]
        assert (again.properties["AccessPaths"].items, again.properties["DriveLetter"]) == (paths, None)
        await bench.run("Add-PartitionAccessPath", DiskNumber=number, PartitionNumber=1, AccessPath="T:\\")
        await bench.run("Remove-PartitionAccessPath", DiskNumber=number, PartitionNumber=1, AccessPath="T:\\")
        await bench.run("Update-HostStorageCache")
        again = (await bench.run("Get-Partition", DiskNumber=number))[0]
        assert again.properties["DriveLetter"] is None
        await bench.run("Set-Disk", Number=number, Signature=77)
        moved = (await bench.run("Get-Partition", DiskNumber=number))[0]
        assert set(moved.properties["AccessPaths"].items).isdisjoint(paths)

    asyncio.run(go())


def test_partitions_hidden_or_read_only_are_so_with_all_others_of_the_disk(bench: Bench) -> None:
    """As Windows has it for basic MBR disks: the attribute of one is that of each, and goes with the bytes."""

    async def go() -> None:
        await bench.connect()
        unit, number = await initialised(bench, "data")
        for letter in "ST":
            await bench.run("New-Partition", DiskNumber=number, Size=64 * MIB, DriveLetter=letter)
            await bench.run("Format-Volume", DriveLetter=letter, FileSystem="NTFS", Confirm=False)
        await bench.run("Set-Partition", DiskNumber=number, PartitionNumber=1, IsReadOnly=True)
        shown = await bench.run("Get-Partition", DiskNumber=number)
        assert [p.properties["IsReadOnly"] for p in shown] == [True, True]
        await bench.fails("Set-Content", LiteralPath="T:\\a.txt", Value="no", NoNewline=True)
        await bench.run("Set-Partition", DiskNumber=number, PartitionNumber=2, IsReadOnly=False, MbrType=6)
        assert [row[1] for row in entries(unit)[1]] == [7, 6]
        await bench.run("Set-Content", LiteralPath="T:\\a.txt", Value="yes", NoNewline=True)
        await bench.run("Remove-Partition", DiskNumber=number, PartitionNumber=1, Confirm=False)
        assert [row[1] for row in entries(unit)[1]] == [6]
        assert await bench.run("Get-Content", LiteralPath="T:\\a.txt") == ["yes"]

    asyncio.run(go())


def test_a_partition_lies_where_it_was_asked_for(bench: Bench) -> None:
    """At sector 63, as old systems began; beside another; never inside one, nor between two sectors."""

    async def go() -> None:
        await bench.connect()
        unit, number = await initialised(bench, "old")
        await bench.run("New-Partition", DiskNumber=number, Offset=63 * 512, Size=100 * MIB)
        await bench.run("New-Partition", DiskNumber=number, Offset=200 * MIB, UseMaximumSize=True)
        await bench.run("New-Partition", DiskNumber=number, Alignment=65536, UseMaximumSize=True)
        first, second, third = entries(unit)[1]
        assert first[2:] == (63, 100 * MIB // 512)
        assert second[2:] == (200 * MIB // 512, (GIB - 200 * MIB) // 512)
        assert third[2] * 512 % 65536 == 0
        assert 63 + first[3] <= third[2] < 63 + first[3] + 128
        for offset, code in ((50 * MIB, 40000), (0, 40000), (200 * MIB + 1, 5), (2 * GIB, 40000)):
            parameters = {"DiskNumber": number, "Offset": offset, "Size": MIB}
            assert (await bench.fails("New-Partition", **parameters)).error_id == f"StorageWMI {code}"
        gpt = await bench.online(bench.lun("new"))
        await bench.run("Initialize-Disk", Number=gpt)
        (made,) = await bench.run("New-Partition", DiskNumber=gpt, Offset=500 * MIB, Size=MIB)
        assert made.properties["Offset"] == 500 * MIB

    asyncio.run(go())
