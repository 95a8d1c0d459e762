"""Virtual disk files."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from .bench import MIB, Bench


@pytest.mark.tr("R-T3-02", "R-T3-03")
@pytest.mark.parametrize("extension", ["vhd", "vhdx"])
def test_kinds(bench: Bench, extension: str) -> None:
    """New-VHD makes fixed, dynamic and differencing disks of either format, and Get-VHD tells them apart."""

    async def go() -> None:
        for kind in ("Fixed", "Dynamic"):
            path = f"C:\\{kind}.{extension}"
            made = (await bench.run("New-VHD", Path=path, SizeBytes=8 * MIB, **{kind: True}))[0]
            assert [bench.value(made, n) for n in ("VhdType", "VhdFormat", "Size", "ParentPath", "Attached")] == [
                kind,
                extension.upper(),
                8 * MIB,
                "",
                False,
            ]
        child = f"C:\\sub\\child.{extension}"
        parent = f"C:\\Dynamic.{extension}"
        made = (await bench.run("New-VHD", Path=child, ParentPath=parent, Differencing=True))[0]
        assert [bench.value(made, n) for n in ("VhdType", "Size", "ParentPath")] == ["Differencing", 8 * MIB, parent]
        disk = bench.host.vhds.open(child)
        disk.device.write(0, b"child")
        disk.close()
        below = bench.host.vhds.open(parent)
        assert below.device.read(0, 5) == bytes(5)
        below.close()

    asyncio.run(go())


def test_chain_follows_its_folder(bench: Bench) -> None:
    """A chain that was copied as a whole leads to the copies: a cloned LUN's child uses the clone's parent."""

    async def go() -> None:
        await bench.run("New-VHD", Path="C:\\a\\base.vhd", SizeBytes=8 * MIB, Dynamic=True)
        await bench.run("New-VHD", Path="C:\\a\\leaf.vhd", ParentPath="C:\\a\\base.vhd", Differencing=True)
        await bench.run("Copy-Item", LiteralPath="C:\\a", Destination="C:\\b", Recurse=True)
        assert (await bench.run("Get-VHD", Path="C:\\b\\leaf.vhd"))[0].properties["ParentPath"] == "C:\\b\\base.vhd"
        await bench.run("Remove-Item", LiteralPath="C:\\b\\base.vhd")
        assert (await bench.run("Get-VHD", Path="C:\\b\\leaf.vhd"))[0].properties["ParentPath"] == "C:\\a\\base.vhd"

    asyncio.run(go())


def test_identifier_and_parent_can_be_changed(bench: Bench) -> None:
    """Set-VHD gives a new identifier, and points a child to where its parent has gone, not to another disk."""

    async def go() -> None:
        await bench.run("New-VHD", Path="C:\\base.vhd", SizeBytes=8 * MIB, Dynamic=True)
        await bench.run("New-VHD", Path="C:\\x\\leaf.vhd", ParentPath="C:\\base.vhd", Differencing=True)
        await bench.run("New-VHD", Path="C:\\other.vhd", SizeBytes=8 * MIB, Dynamic=True)
        await bench.run("Move-Item", LiteralPath="C:\\base.vhd", Destination="C:\\moved.vhd")
        error = await bench.fails("Set-VHD", Path="C:\\x\\leaf.vhd", ParentPath="C:\\other.vhd")
        assert error.error_id == "OperationFailed"
        await bench.run("Set-VHD", Path="C:\\x\\leaf.vhd", ParentPath="C:\\moved.vhd")
        bench.host.vhds.open("C:\\x\\leaf.vhd").close()
        before = (await bench.run("Get-VHD", Path="C:\\other.vhd"))[0].properties["DiskIdentifier"]
        changed = (
            await bench.run("Set-VHD", Path="C:\\other.vhd", ResetDiskIdentifier=True, Force=True, Passthru=True)
        )[0]
        assert changed.properties["DiskIdentifier"] != before
        bench.host.vhds.open("C:\\other.vhd").close()

    asyncio.run(go())


def test_2008_r2_knows_no_vhdx(tmp_path: Path) -> None:
    """The host of the TR's first part makes VHD files only."""
    bench = Bench(tmp_path, era="2008r2")
    error = asyncio.run(bench.fails("New-VHD", Path="C:\\a.vhdx", SizeBytes=8 * MIB, Dynamic=True))
    assert error.error_id == "InvalidParameter"
    bench.close()


def test_storage_that_vanishes_in_the_middle(bench: Bench) -> None:
    """A cmdlet whose LUN goes away while it works ends in an error record, whatever it was doing."""

    async def go() -> None:
        await bench.connect()
        await bench.formatted("vms", "V")
        await bench.run("New-VHD", Path="V:\\a.vhd", SizeBytes=256 * MIB, Fixed=True)

        async def later() -> None:
            await bench.clock.sleep(1)
            bench.take_offline("vms")

        bench.clock.spawn(later(), name="unmap")
        error = await bench.fails("Copy-Item", LiteralPath="V:\\a.vhd", Destination="V:\\b.vhd")
        assert error.error_id == "CopyFileInfoItemIOError"
        error = await bench.fails("New-VM", Name="x", NoVHD=True, Path="V:\\")
        assert error.error_id == "OperationFailed"

    asyncio.run(go())
