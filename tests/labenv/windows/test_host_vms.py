"""Virtual machines: their files, eras, power, drives and copies."""

from __future__ import annotations

import asyncio

import pytest

from labenv.guest.errors import GuestError

from .bench import MIB, Bench


def test_configuration_lies_in_the_vms_folder(bench: Bench) -> None:
    """New-VM -Path makes a folder of the VM's name with its configuration, which follows every change."""

    async def go() -> None:
        await bench.connect()
        await bench.formatted("vms", "V")
        vm = (await bench.run("New-VM", Name="a", NoVHD=True, Path="V:\\", MemoryStartupBytes=2 << 30))[0]
        assert [vm.properties[n] for n in ("Path", "ConfigurationLocation", "MemoryStartup")] == [
            "V:\\a",
            "V:\\a",
            2 << 30,
        ]
        path = f"V:\\a\\Virtual Machines\\{str(vm.properties['Id']).upper()}"
        await bench.run("Set-VM", Name="a", Notes="first", AutomaticStopAction="ShutDown")
        await bench.run("Rename-VM", Name="a", NewName="b")
        text = bench.host.files.read(path + ".vmcx").decode()
        assert "first" in text
        assert ">b<" in text
        assert bench.host.machines.configurations.read(path + ".vmcx").stop_action == "ShutDown"
        assert await bench.run("Test-Path", LiteralPath=path + ".vmrs") == [True]
        await bench.run("Remove-VM", Name="b", Force=True)
        assert await bench.run("Test-Path", LiteralPath=path + ".vmcx") == [False]

    asyncio.run(go())


def test_old_era(old_bench: Bench) -> None:
    """Windows Server 2012 writes .xml configurations, knows no generation 2 and no production checkpoints."""

    async def go() -> None:
        bench = old_bench
        await bench.connect()
        await bench.formatted("vms", "V")
        vm = await bench.vm("a", "V:\\")
        folder = "V:\\a\\Virtual Machines"
        files = await bench.run("Get-ChildItem", LiteralPath=folder, Recurse=True, File=True)
        name = str(vm.properties["Id"]).upper()
        assert sorted(f.properties["Name"] for f in files) == [f"{name}.bin", f"{name}.vsv", f"{name}.xml"]
        error = await bench.fails("New-VM", Name="b", NoVHD=True, Generation=2)
        assert error.error_id == "InvalidParameter"
        error = await bench.fails("Set-VM", Name="a", CheckpointType="ProductionOnly")
        assert error.error_id == "InvalidParameter"
        services = await bench.run("Get-VMIntegrationService", VMName="a")
        assert len(services) == 5
        assert {bench.value(s, "PrimaryStatusDescription") for s in services} == {"OK"}
        await bench.run("Stop-VM", Name="a", Force=True)
        assert len(await bench.run("Get-ChildItem", LiteralPath=folder, Recurse=True, File=True)) == 1

    asyncio.run(go())


def test_power_states(bench: Bench) -> None:
    """Start, shutdown, save and turn-off take lab time, show their states, and leave their events."""

    async def go() -> None:
        await bench.connect()
        await bench.formatted("vms", "V")
        await bench.vm("a", "V:\\", start=False)
        vm = (await bench.run("Start-VM", Name="a", Passthru=True))[0]
        assert [bench.value(vm, n) for n in ("State", "Heartbeat", "Status")] == [
            "Running",
            "OkApplicationsUnknown",
            "Operating normally",
        ]
        guest = bench.host.guest("a")
        guest.write_file("C:\\note.txt", b"kept by an orderly shutdown")
        await bench.run("Stop-VM", Name="a", Force=True)
        await bench.run("Start-VM", Name="a")
        guest = bench.host.guest("a")
        assert not guest.unexpected_shutdown
        assert guest.read_file("C:\\note.txt") == b"kept by an orderly shutdown"
        await bench.run("Stop-VM", Name="a", Save=True)
        assert bench.value((await bench.run("Get-VM"))[0], "State") == "Saved"
        await bench.run("Start-VM", Name="a")
        await bench.run("Stop-VM", Name="a", TurnOff=True)
        found = await bench.run("Get-WinEvent", FilterHashtable={"LogName": "Microsoft-Windows-Hyper-V-Worker-Admin"})
        assert [e.properties["Id"] for e in reversed(found)] == [18500, 18504, 18500, 18508, 18500, 18502]

    asyncio.run(go())


def test_hot_add_of_a_differencing_disk(bench: Bench) -> None:
    """A differencing disk over another VM's disk is added to a running VM, read, and taken away again."""

    async def go() -> None:
        await bench.connect()
        await bench.formatted("vms", "V")
        await bench.vm("a", "V:\\")
        await bench.run("New-VHD", Path="V:\\base.vhd", SizeBytes=32 * MIB, Fixed=True)
        await bench.run("New-VHD", Path="V:\\child.vhd", ParentPath="V:\\base.vhd", Differencing=True)
        await bench.run("Add-VMHardDiskDrive", VMName="a", ControllerType="SCSI", Path="V:\\child.vhd")
        assert len(await bench.run("Get-VMHardDiskDrive", VMName="a")) == 4
        assert (await bench.fails("Remove-Item", LiteralPath="V:\\base.vhd")).error_id == "RemoveFileSystemItemIOError"
        place = {"ControllerType": "SCSI", "ControllerNumber": 0, "ControllerLocation": 0}
        await bench.run("Remove-VMHardDiskDrive", VMName="a", **place)
        await bench.run("Remove-Item", LiteralPath="V:\\child.vhd")
        assert bench.host.guest("a").count("bb1") == 0

    asyncio.run(go())


def test_import_copy_makes_an_independent_vm(bench: Bench) -> None:
    """Import-VM -Copy -GenerateNewId copies every byte, also of disks in another folder; the VM has another id."""

    async def go() -> None:
        await bench.connect()
        await bench.formatted("vms", "V")
        vm = await bench.vm("a", "V:\\")
        bench.host.guest("a").insert("bb1", 10)
        await bench.run("Stop-VM", Name="a", Force=True)
        path = bench.host.machines.configurations.path(bench.host.vm("a"))
        given = {"VirtualMachinePath": "V:\\copy", "VhdDestinationPath": "V:\\copy\\disks"}
        copy = (await bench.run("Import-VM", Path=path, Copy=True, GenerateNewId=True, **given))[0]
        assert copy.properties["Id"] != vm.properties["Id"]
        copied = bench.host.machines.get(copy.properties["Id"])
        assert copied is not None
        assert [d.path for d in copied.drives] == [f"V:\\copy\\disks\\vhd{i}.vhd" for i in range(3)]
        await bench.pair("Get-VM", {"Id": copied.id}, "Start-VM")
        assert bench.host.guest(copied.id).insert("bb1", 5) == 15
        await bench.pair("Get-VM", {"Id": vm.properties["Id"]}, "Start-VM")
        assert bench.host.guest(vm.properties["Id"]).count("bb1") == 10
        again = {"VirtualMachinePath": "V:\\again", "VhdDestinationPath": "V:\\again\\disks"}
        given = {"Path": path, "Copy": True, "GenerateNewId": True, **again}
        assert "V:\\none\\vhd0.vhd" in str(await bench.fails("Import-VM", **given, VhdSourcePath="V:\\none"))
        await bench.pair("Get-VM", {"Id": copied.id}, "Stop-VM")
        other = (await bench.run("Import-VM", **given, VhdSourcePath="V:\\copy\\disks"))[0].properties["Id"]
        await bench.pair("Get-VM", {"Id": other}, "Start-VM")
        assert bench.host.guest(other).count("bb1") == 15

    asyncio.run(go())


def test_configuration_storage_away(bench: Bench) -> None:
    """A VM whose LUN is offline shows OffCritical, cannot start, and can still be unregistered."""

    async def go() -> None:
        await bench.connect()
        unit = await bench.formatted("vms", "V")
        await bench.vm("a", "V:\\", start=False)
        await bench.run("Set-Disk", Number=await bench.number(unit), IsOffline=True)
        assert bench.value((await bench.run("Get-VM"))[0], "State") == "OffCritical"
        assert (await bench.fails("Start-VM", Name="a")).error_id == "OperationFailed"
        await bench.run("Remove-VM", Name="a", Force=True)
        assert await bench.run("Get-VM") == []

    asyncio.run(go())


def test_full_volume_pauses_the_vm(bench: Bench) -> None:
    """When a dynamic disk cannot grow because its volume is full, the VM is paused with event 16060."""

    async def go() -> None:
        await bench.connect()
        await bench.formatted("vms", "V", size=256 * MIB)
        await bench.vm("a", "V:\\", start=False)
        await bench.run("Checkpoint-VM", Name="a", SnapshotName="S")
        await bench.run("Start-VM", Name="a")
        volume = (await bench.run("Get-Volume", DriveLetter="V"))[0]
        free = int(volume.properties["SizeRemaining"])
        await bench.run("New-VHD", Path="V:\\fill.vhd", SizeBytes=(free - 3 * MIB) // MIB * MIB, Fixed=True)
        guest = bench.host.guest("a")
        with pytest.raises((GuestError, OSError)):
            guest.write_file("E:\\big.bin", bytes(range(1, 251)) * (20 * MIB // 250), flush=True)
        assert bench.value((await bench.run("Get-VM"))[0], "State") == "PausedCritical"
        found = await bench.run("Get-WinEvent", LogName="Microsoft-Windows-Hyper-V-VMMS-Admin", MaxEvents=1)
        assert found[0].properties["Id"] == 16060

    asyncio.run(go())


def test_dvd_drive_takes_a_place(bench: Bench) -> None:
    """New-VM of generation 1 puts a DVD drive at IDE (1, 0): no disk fits there until it is removed."""

    async def go() -> None:
        await bench.run("New-VM", Name="a", NoVHD=True)
        for number in range(4):
            await bench.run("New-VHD", Path=f"C:\\d{number}.vhd", SizeBytes=8 * MIB, Dynamic=True)
        for number in range(3):
            await bench.run("Add-VMHardDiskDrive", VMName="a", ControllerType="IDE", Path=f"C:\\d{number}.vhd")
        places = [
            (d.properties["ControllerNumber"], d.properties["ControllerLocation"])
            for d in await bench.run("Get-VMHardDiskDrive", VMName="a")
        ]
        assert places == [(0, 0), (0, 1), (1, 1)]
        given = {"VMName": "a", "ControllerType": "IDE", "ControllerNumber": 1, "ControllerLocation": 0}
        assert (await bench.fails("Add-VMHardDiskDrive", Path="C:\\d3.vhd", **given)).error_id == "InvalidOperation"
        await bench.run("Remove-VMDvdDrive", VMName="a", ControllerNumber=1, ControllerLocation=0)
        await bench.run("Add-VMHardDiskDrive", Path="C:\\d3.vhd", **given)

    asyncio.run(go())
