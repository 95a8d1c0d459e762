"""Storage migration: the VM runs on, its files are elsewhere."""

from __future__ import annotations

import asyncio

from .bench import ClusterBench


def test_from_one_shared_volume_to_another(bench: ClusterBench) -> None:
    """Rows written before and during the move are all there; the old files are gone, the new ones are in use."""

    async def go() -> None:
        first = await bench.standard()
        second = await bench.csv("csv2")
        await bench.vm("a", first)
        rows = bench.guest("a").insert("aa1", 10)
        await bench.run("hv1", "Checkpoint-VM", Name="a", SnapshotName="before")
        bench.guest("a").insert("aa1", 5)
        task = asyncio.ensure_future(
            bench.run("hv1", "Move-VMStorage", Name="a", DestinationStoragePath=f"{second}\\a")
        )
        status = None
        while not task.done():
            await asyncio.sleep(0)
            vm = bench.hosts["hv1"].vm("a")
            if vm.status == "StorageMigrationPhaseOne" and status is None:
                status = vm.status
                bench.guest("a").insert("aa1", 7)
                error = await bench.fails("hv1", "Stop-VM", Name="a", Force=True)
                assert error.error_id == "InvalidState"
        await task
        assert status == "StorageMigrationPhaseOne"
        (vm_shown,) = await bench.run("hv1", "Get-VM", Name="a")
        assert vm_shown.properties["Path"] == f"{second}\\a"
        assert bench.value(vm_shown, "State") == "Running"
        assert bench.value(vm_shown, "SecondaryOperationalStatus") is None
        assert bench.guest("a").count("aa1") == rows + 12
        left = await bench.run("hv1", "Get-ChildItem", LiteralPath=f"{first}\\a", Recurse=True, File=True)
        assert left == []
        error = await bench.fails("hv2", "Remove-Item", LiteralPath=f"{second}\\a\\Virtual Hard Disks\\vhd0.vhd")
        assert "being used" in error.message
        await bench.run("hv1", "Move-ClusterVirtualMachineRole", Name="a", Node="hv2")
        await bench.run("hv2", "Restore-VMSnapshot", VMName="a", Name="before", Confirm=False)
        await bench.run("hv2", "Start-VM", Name="a")
        assert bench.guest("a").count("aa1") == rows

    asyncio.run(go())


def test_file_by_file_and_what_is_refused(bench: ClusterBench) -> None:
    """-Vhds moves single disks; a file in the way, or a disk that the VM has not, ends it with all as it was."""

    async def go() -> None:
        folder = await bench.standard()
        await bench.vm("a", folder, start=False, role=False)
        source, target = f"{folder}\\a\\vhd0.vhd", f"{folder}\\moved\\disk.vhd"
        pair = {"SourceFilePath": source, "DestinationFilePath": target}
        error = await bench.fails(
            "hv1", "Move-VMStorage", Name="a", Vhds=[{**pair, "SourceFilePath": f"{folder}\\other.vhd"}]
        )
        assert error.error_id == "InvalidParameter"
        await bench.run("hv1", "New-Item", Path=target, ItemType="File", Force=True)
        error = await bench.fails("hv1", "Move-VMStorage", Name="a", Vhds=[pair])
        assert error.error_id == "OperationFailed"
        assert bench.hosts["hv1"].vm("a").drives[0].path == source
        await bench.run("hv1", "Remove-Item", LiteralPath=target)
        await bench.run("hv1", "Move-VMStorage", Name="a", Vhds=[pair], RetainVhdCopiesOnSource=True)
        assert bench.hosts["hv1"].vm("a").drives[0].path == target
        assert await bench.run("hv1", "Test-Path", LiteralPath=source) == [True]
        await bench.run("hv1", "Start-VM", Name="a")
        assert bench.guest("a").checkdb("aa1").ok

    asyncio.run(go())
