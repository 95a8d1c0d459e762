"""What stops with a service of the host, what goes on, and what a restart of the host brings back."""

from __future__ import annotations

import asyncio

from .bench import PORTAL, TARGET, Bench

HYPERV = {
    "Get-VM": {},
    "Get-VMHardDiskDrive": {"VMName": "a"},
    "Start-VM": {"Name": "a"},
    "Get-VMSnapshot": {"VMName": "a"},
    "Checkpoint-VM": {"Name": "a", "SnapshotName": "now"},
    "Get-VMIntegrationService": {"VMName": "a"},
    "Get-VMSwitch": {},
    "Get-VHD": {"Path": "V:\\a\\vhd0.vhd"},
    "Import-VM": {"Path": "V:\\a\\x.vmcx"},
    "Move-VMStorage": {"VMName": "a", "DestinationStoragePath": "V:\\b"},
}
ISCSI = {
    "Get-IscsiTarget": {},
    "Get-IscsiSession": {},
    "New-IscsiTargetPortal": {"TargetPortalAddress": PORTAL},
    "Connect-IscsiTarget": {"NodeAddress": TARGET},
}


def test_without_the_management_service(bench: Bench) -> None:
    """Every Hyper-V cmdlet fails as one does on Windows, VMs run on, files stay; started again it knows them all."""

    async def go() -> None:
        await bench.connect()
        await bench.formatted("vms", "V")
        await bench.vm("a", "V:\\")
        rows = bench.host.guest("a").insert("aa1", 5)
        await bench.run("Stop-Service", Name="vmms")
        for cmdlet, parameters in HYPERV.items():
            error = await bench.fails(cmdlet, **parameters)
            assert (error.error_id, error.category) == ("ObjectNotFound", "ObjectNotFound"), cmdlet
            assert "Virtual Machine Management service on the computer is running" in error.message
        assert bench.host.guest("a").insert("aa1", 5) == rows + 5
        assert await bench.run("Test-Path", LiteralPath="V:\\a") == [True]
        await bench.run("Start-Service", Name="vmms")
        (vm,) = await bench.run("Get-VM")
        assert bench.value(vm, "State") == "Running"
        assert bench.host.guest("a").count("aa1") == rows + 5

    asyncio.run(go())


def test_what_a_restart_starts(bench: Bench) -> None:
    """Automatic services run after a restart and disabled ones do not: without vmms nobody starts the VMs."""

    async def go() -> None:
        await bench.connect()
        await bench.formatted("vms", "V")
        await bench.vm("a", "V:\\")
        await bench.run("Stop-Service", Name="vmms")
        bench.host.power_cut()
        assert bench.value((await bench.run("Get-VM"))[0], "State") == "Running"
        await bench.run("Set-Service", Name="vmms", StartupType="Disabled")
        bench.host.power_cut()
        (service,) = await bench.run("Get-Service", Name="vmms")
        assert bench.value(service, "Status") == "Stopped"
        await bench.run("Set-Service", Name="vmms", StartupType="Automatic")
        await bench.run("Start-Service", Name="vmms")
        assert bench.value((await bench.run("Get-VM"))[0], "State") == "Off"

    asyncio.run(go())


def test_without_the_iscsi_initiator_service(bench: Bench) -> None:
    """No login and no look at sessions; what is connected stays until a restart, and comes back with the service."""

    async def go() -> None:
        await bench.connect()
        unit = await bench.formatted("vms", "V")
        number = await bench.number(unit)
        await bench.run("Set-Service", Name="MSiSCSI", StartupType="Disabled")
        await bench.run("Stop-Service", Name="MSiSCSI")
        for cmdlet, parameters in ISCSI.items():
            error = await bench.fails(cmdlet, **parameters)
            assert error.error_id == "HRESULT 0xefff003e", cmdlet
        assert await bench.run("Test-Path", LiteralPath="V:\\") == [True]
        bench.host.power_cut()
        await bench.run("Update-HostStorageCache")
        assert (await bench.fails("Get-Disk", Number=number)).error_id == "CmdletizationQuery_NotFound_Number"
        await bench.run("Set-Service", Name="MSiSCSI", StartupType="Automatic")
        await bench.run("Start-Service", Name="MSiSCSI")
        await bench.run("Update-HostStorageCache")
        assert await bench.number(unit) == number
        assert await bench.run("Test-Path", LiteralPath="V:\\") == [True]

    asyncio.run(go())
