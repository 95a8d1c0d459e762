"""Pass-through disks on a host and in a role."""

from __future__ import annotations

import asyncio

import pytest

from labenv.windows.cmdlets.targets import prop

from .bench import ClusterBench


@pytest.mark.tr("R-T3-01")
def test_a_disk_for_one_vm(bench: ClusterBench) -> None:
    """An offline disk can be passed through; while the VM runs the host cannot take it, and no checkpoint is made."""

    async def go() -> None:
        folder = await bench.standard()
        unit = await bench.formatted("data", letter="V")
        await bench.run("hv1", "Set-Content", LiteralPath="V:\\x.txt", Value="from the host", NoNewline=True)
        number = bench.hosts["hv1"].disks.records[bench.unique_id(unit)].number
        await bench.vm("a", folder, start=False, role=False)
        add = {"VMName": "a", "ControllerType": "SCSI", "DiskNumber": number}
        error = await bench.fails("hv1", "Add-VMHardDiskDrive", **add)
        assert error.error_id == "OperationFailed"
        error = await bench.fails("hv1", "Add-VMHardDiskDrive", **{**add, "DiskNumber": 99})
        assert error.error_id == "InvalidParameter"
        await bench.run("hv1", "Set-Disk", Number=number, IsOffline=True)
        await bench.run("hv1", "Add-VMHardDiskDrive", **add)
        drives = await bench.run("hv1", "Get-VMHardDiskDrive", VMName="a")
        assert [bench.value(d, "DiskNumber") for d in drives] == [None, number]
        await bench.run("hv1", "Start-VM", Name="a")
        (letter,) = [k for k, v in bench.guest("a").volumes.items() if v.label == "data"]
        assert bench.guest("a").read_file(f"{letter}:\\x.txt") == b"from the host"
        bench.guest("a").write_file(f"{letter}:\\y.txt", b"from the guest")
        error = await bench.fails("hv1", "Set-Disk", Number=number, IsOffline=False)
        assert error.error_id == "StorageWMI 6"
        error = await bench.fails("hv1", "Checkpoint-VM", Name="a", SnapshotName="now")
        assert error.error_id == "OperationFailed"
        await bench.run("hv1", "Stop-VM", Name="a", Force=True)
        await bench.run("hv1", "Set-Disk", Number=number, IsOffline=False)
        assert await bench.run("hv1", "Get-Content", LiteralPath="V:\\y.txt", Raw=True) == ["from the guest"]
        error = await bench.fails("hv1", "Start-VM", Name="a")
        assert error.error_id == "OperationFailed"

    asyncio.run(go())


def test_a_disk_of_a_role(bench: ClusterBench) -> None:
    """A cluster disk that is passed through belongs to the role, moves with it, and is mounted by no node."""

    async def go() -> None:
        folder = await bench.standard()
        disk = await bench.cluster_disk("data", letter="V")
        await bench.run("hv1", "Set-Content", LiteralPath="V:\\x.txt", Value="from the host", NoNewline=True)
        number = bench.hosts["hv1"].disks.records[bench.unique_id(bench.storage.units["data"])].number
        await bench.vm("a", folder, start=False, role=False)
        await bench.run("hv1", "Add-VMHardDiskDrive", VMName="a", ControllerType="SCSI", DiskNumber=number)
        await bench.run("hv1", "Add-ClusterVirtualMachineRole", VMName="a")
        (shown,) = await bench.run("hv1", "Get-ClusterResource", Name=disk)
        assert (prop(shown.properties["OwnerGroup"], "Name"), bench.value(shown, "State")) == ("a", "Online")
        await bench.run("hv1", "Start-ClusterGroup", Name="a")
        for node in ("hv2", "hv1"):
            await bench.run("hv1", "Move-ClusterVirtualMachineRole", Name="a", Node=node)
            (letter,) = [k for k, v in bench.guest("a").volumes.items() if v.label == "data"]
            assert bench.guest("a").read_file(f"{letter}:\\x.txt") == b"from the host"
            for each in bench.names:
                assert await bench.run(each, "Test-Path", LiteralPath="V:\\") == [False]
        bench.cluster.membership.crash("hv1")
        await bench.advance(60)
        assert await bench.show("hv2", "Get-VM", "State", Name="a") == "Running"
        assert bench.guest("a").read_file(f"{letter}:\\x.txt") == b"from the host"
        await bench.run("hv2", "Stop-VM", Name="a", Force=True)
        await bench.run("hv2", "Remove-ClusterGroup", Name="a", RemoveResources=True, Force=True)
        (shown,) = await bench.run("hv2", "Get-ClusterResource", Name=disk)
        assert prop(shown.properties["OwnerGroup"], "Name") == "Available Storage"
        assert await bench.run(bench.owner(shown), "Test-Path", LiteralPath="V:\\x.txt") == [True]

    asyncio.run(go())
