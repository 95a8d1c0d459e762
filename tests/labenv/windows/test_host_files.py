"""Files through letters and mount points."""

from __future__ import annotations

import asyncio
import hashlib

from .bench import MIB, Bench


def test_encodings(bench: Bench) -> None:
    """Set-Content writes the bytes that Windows PowerShell would, and Get-Content reads them back."""

    async def go() -> None:
        for encoding, expected in (
            ("UTF8", b"\xef\xbb\xbf\xc3\xa9\r\n"),
            ("Default", b"\xe9\r\n"),
            ("ASCII", b"?\r\n"),
            ("Unicode", b"\xff\xfe\xe9\x00\r\x00\n\x00"),
        ):
            await bench.run("Set-Content", LiteralPath="C:\\t.txt", Value="é", Encoding=encoding)
            assert bench.host.files.read("C:\\t.txt") == expected
        await bench.run("Set-Content", LiteralPath="C:\\t.txt", Value=["a", "b"], Encoding="UTF8")
        assert await bench.run("Get-Content", LiteralPath="C:\\t.txt", Encoding="UTF8") == ["a", "b"]
        assert await bench.run("Get-Content", LiteralPath="C:\\t.txt", Encoding="UTF8", Raw=True) == ["a\r\nb\r\n"]

    asyncio.run(go())


def test_move_never_overwrites(bench: Bench) -> None:
    """SnapInfo's write-once rule: Move-Item without -Force fails where a file is, and both files stay as they were."""

    async def go() -> None:
        await bench.run("Set-Content", LiteralPath="C:\\f.xml", Value="old", NoNewline=True)
        await bench.run("Set-Content", LiteralPath="C:\\t.xml", Value="new", NoNewline=True)
        error = await bench.fails("Move-Item", LiteralPath="C:\\t.xml", Destination="C:\\f.xml")
        assert error.error_id == "MoveFileInfoItemIOError"
        assert await bench.run("Get-Content", LiteralPath="C:\\f.xml") == ["old"]
        await bench.run("Move-Item", LiteralPath="C:\\t.xml", Destination="C:\\f.xml", Force=True)
        assert await bench.run("Get-Content", LiteralPath="C:\\f.xml") == ["new"]
        assert await bench.run("Test-Path", LiteralPath="C:\\t.xml") == [False]

    asyncio.run(go())


def test_copy_takes_time_by_size(bench: Bench) -> None:
    """Copying between volumes moves the bytes and takes lab time by the gibibyte."""

    async def go() -> None:
        await bench.connect()
        await bench.formatted("vms", "V")
        await bench.formatted("more", "W")
        await bench.run("New-VHD", Path="V:\\big.vhd", SizeBytes=512 * MIB, Fixed=True)
        disk = bench.host.vhds.open("V:\\big.vhd")
        disk.device.write(300 * MIB, b"far away")
        disk.close()
        before = bench.clock.now
        await bench.run("Copy-Item", LiteralPath="V:\\big.vhd", Destination="W:\\big.vhd.partial")
        assert 4_000_000 < bench.clock.now - before < 7_000_000
        await bench.run("Rename-Item", LiteralPath="W:\\big.vhd.partial", NewName="big.vhd")
        copy = bench.host.vhds.open("W:\\big.vhd")
        assert copy.device.read(300 * MIB, 8) == b"far away"
        copy.close()
        found = await bench.run("Get-ChildItem", LiteralPath="W:\\", Filter="*.vhd")
        assert found[0].properties["Length"] == 512 * MIB + 512

    asyncio.run(go())


def test_tree(bench: Bench) -> None:
    """Directories are listed, copied with -Recurse, moved and removed as a whole."""

    async def go() -> None:
        await bench.run("New-Item", Path="C:\\a\\b", ItemType="Directory")
        await bench.run("New-Item", Path="C:\\a\\b\\one.txt", ItemType="File", Value="1")
        await bench.run("New-Item", Path="C:\\a\\two.log", ItemType="File", Value="2")
        await bench.run("Copy-Item", LiteralPath="C:\\a", Destination="C:\\z", Recurse=True)
        names = [e.properties["FullName"] for e in await bench.run("Get-ChildItem", LiteralPath="C:\\z", Recurse=True)]
        assert names == ["C:\\z\\b", "C:\\z\\b\\one.txt", "C:\\z\\two.log"]
        files = await bench.run("Get-ChildItem", LiteralPath="C:\\z", Recurse=True, File=True, Filter="*.txt")
        assert [f.notes["PSChildName"] for f in files] == ["one.txt"]
        await bench.run("Move-Item", LiteralPath="C:\\z\\b", Destination="C:\\a\\c")
        assert await bench.run("Get-Content", LiteralPath="C:\\a\\c\\one.txt") == ["1"]
        await bench.run("Remove-Item", LiteralPath="C:\\a", Recurse=True, Force=True)
        assert await bench.run("Test-Path", LiteralPath="C:\\a") == [False]
        assert await bench.run("Test-Path", LiteralPath="C:\\z", PathType="Container") == [True]

    asyncio.run(go())


def test_hash(bench: Bench) -> None:
    """Get-FileHash hashes the file's bytes."""

    async def go() -> None:
        await bench.run("Set-Content", LiteralPath="C:\\h.txt", Value="abc", NoNewline=True)
        found = (await bench.run("Get-FileHash", LiteralPath="C:\\h.txt"))[0]
        assert found.notes["Hash"] == hashlib.sha256(b"abc").hexdigest().upper()

    asyncio.run(go())


def test_registry(bench: Bench) -> None:
    """Keys and values below HKLM: are made, read, changed and removed; DWord values are numbers."""

    async def go() -> None:
        key = "HKLM:\\SYSTEM\\CurrentControlSet\\Services\\OnCommandHyperV\\Parameters"
        await bench.run("New-Item", Path=key, Force=True)
        await bench.run("Set-ItemProperty", LiteralPath=key, Name="vss_retry", Value=3, Type="DWord")
        found = (await bench.run("Get-ItemProperty", LiteralPath=key, Name="vss_retry"))[0]
        assert found.notes["vss_retry"] == 3
        error = await bench.fails("Get-ItemProperty", LiteralPath=key, Name="nothing")
        assert error.error_id == "System.Management.Automation.PSArgumentException"
        await bench.run("Remove-Item", LiteralPath=key, Recurse=True)
        assert await bench.run("Test-Path", LiteralPath=key) == [False]

    asyncio.run(go())


def test_running_vm_locks_its_disks(bench: Bench) -> None:
    """The VHD of a running VM can be neither removed, moved, renamed nor copied, and its volume not formatted."""

    async def go() -> None:
        await bench.connect()
        await bench.formatted("vms", "V")
        await bench.vm("sql01", "V:\\")
        path = "V:\\sql01\\vhd0.vhd"
        for cmdlet, given, expected in (
            ("Remove-Item", {"Force": True}, "RemoveFileSystemItemIOError"),
            ("Move-Item", {"Destination": "V:\\x.vhd"}, "MoveFileInfoItemIOError"),
            ("Rename-Item", {"NewName": "x.vhd"}, "RenameItemIOError"),
            ("Copy-Item", {"Destination": "V:\\x.vhd"}, "CopyFileInfoItemIOError"),
        ):
            error = await bench.fails(cmdlet, LiteralPath=path, **given)
            assert error.error_id == expected
            assert "used by another process" in error.message
        assert (await bench.fails("Remove-Item", LiteralPath="V:\\sql01", Recurse=True)).category == "WriteError"
        error = await bench.fails("Format-Volume", DriveLetter="V", Force=True)
        assert error.error_id == "StorageWMI 43002"
        await bench.run("Stop-VM", Name="sql01", Force=True)
        await bench.run("Remove-Item", LiteralPath=path)

    asyncio.run(go())
