"""What the cluster refuses, with the ids that real nodes print."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import uuid4

import pytest

from labenv.windows.call import Call, PsError
from labenv.windows.cmdlets import COMMANDS
from labenv.windows.remoting.engine import Runspace

from .bench import ClusterBench

NOT_FOUND = ("ClusterObjectNotFound", "ObjectNotFound")


@pytest.mark.parametrize(
    ("cmdlet", "parameters"),
    [
        ("Get-ClusterNode", {"Name": "hv9"}),
        ("Get-ClusterGroup", {"Name": "nobody"}),
        ("Get-ClusterGroup", {"VMId": uuid4()}),
        ("Get-ClusterResource", {"Name": "nothing"}),
        ("Get-ClusterSharedVolume", {"Name": "Cluster Disk 1"}),
        ("Add-ClusterSharedVolume", {"Name": "Cluster Name"}),
        ("Move-ClusterSharedVolume", {"Name": "nothing"}),
        ("Start-ClusterGroup", {"Name": "nobody"}),
        ("Stop-ClusterResource", {"Name": "nothing"}),
        ("Move-ClusterGroup", {"Name": "Available Storage", "Node": "hv9"}),
        ("Move-ClusterResource", {"Name": "Cluster Disk 1", "Group": "nobody"}),
        ("Add-ClusterVirtualMachineRole", {"VMName": "nobody"}),
        ("Add-ClusterVirtualMachineRole", {"VMId": uuid4()}),
        ("Get-ClusterOwnerNode", {"Group": "nobody"}),
        ("Set-ClusterOwnerNode", {"Resource": "nothing", "Owners": ["hv1"]}),
        ("Set-ClusterOwnerNode", {"Group": "Cluster Group", "Owners": ["hv9"]}),
        ("Set-ClusterQuorum", {"DiskWitness": "nothing"}),
        ("Get-ClusterNetwork", {"Name": "nothing"}),
        ("Get-ClusterResourceDependency", {"Resource": "nothing"}),
        ("Suspend-ClusterNode", {"Name": "hv1", "Drain": True, "TargetNode": "hv9"}),
        ("Update-ClusterVirtualMachineConfiguration", {"Name": "nobody"}),
    ],
)
def test_what_is_not_there(bench: ClusterBench, cmdlet: str, parameters: dict[str, object]) -> None:
    """A name or id that the cluster does not have."""

    async def go() -> None:
        await bench.connect()
        await bench.witness()
        error = await bench.fails("hv1", cmdlet, **parameters)
        assert (error.error_id, error.category) == NOT_FOUND
        assert error.suffix == bench.engines["hv1"].signatures.find(cmdlet).suffix  # type: ignore[union-attr]

    asyncio.run(go())


def test_other_clusters_do_not_answer(bench: ClusterBench) -> None:
    """A cluster of another name is not reached; this one answers to its name and to those of its nodes."""

    async def go() -> None:
        error = await bench.fails("hv1", "Get-Cluster", Name="other")
        assert (error.error_id, error.category) == ("ClusterRpcConnection", "ConnectionError")
        for name in ("hvc1", "HVC1.lab.example", "hv2", "."):
            assert await bench.show("hv1", "Get-Cluster", "Name", Name=name) == "hvc1"

    asyncio.run(go())


def test_resources_by_hand(bench: ClusterBench) -> None:
    """Resources can be made in a group and depend on each other; types, groups and names are checked."""

    async def go() -> None:
        await bench.run("hv1", "Add-ClusterGroup", Name="g")
        await bench.run("hv1", "Add-ClusterResource", Name="ip", Group="g", ResourceType="IP Address")
        await bench.run("hv1", "Add-ClusterResource", Name="name", Group="g", ResourceType="Network Name")
        await bench.run("hv1", "Add-ClusterResourceDependency", Resource="name", Provider="ip")
        await bench.run("hv1", "Start-ClusterResource", Name="name")
        assert await bench.show("hv1", "Get-ClusterGroup", "State", Name="g") == "Online"
        await bench.run("hv1", "Stop-ClusterResource", Name="ip")
        assert await bench.show("hv1", "Get-ClusterGroup", "State", Name="g") == "Offline"
        await bench.run("hv1", "Remove-ClusterResourceDependency", Resource="name", Provider="ip")
        await bench.run("hv1", "Set-ClusterResourceDependency", Resource="name", Dependency="([ip])")
        (shown,) = await bench.run("hv1", "Get-ClusterResourceDependency", Resource="name")
        assert shown.properties["DependencyExpression"] == "([ip])"
        for parameters in ({"Group": "x", "ResourceType": "IP Address"}, {"Group": "g", "ResourceType": "Nothing"}):
            error = await bench.fails("hv1", "Add-ClusterResource", Name="new", **parameters)
            assert error.error_id == "ClusterObjectNotFound"
        assert "exists" in await _refuse(bench, "Add-ClusterResource", Name="ip", Group="g", ResourceType="IP Address")
        assert "same group" in await _refuse(
            bench, "Add-ClusterResourceDependency", Resource="name", Provider="Cluster Name"
        )
        assert "depend" in await _refuse(bench, "Move-ClusterResource", Name="ip", Group="Cluster Group")
        assert "depend" in await _refuse(bench, "Remove-ClusterResource", Name="ip", Confirm=False)
        await bench.run("hv1", "Remove-ClusterGroup", Name="g", RemoveResources=True, Force=True)
        assert len(await bench.run("hv1", "Get-ClusterAccess")) == 3

    asyncio.run(go())


async def _refuse(bench: ClusterBench, cmdlet: str, **parameters: object) -> str:
    error = await bench.fails("hv1", cmdlet, **parameters)
    assert (error.error_id, error.category) == (cmdlet, "NotSpecified")
    assert error.exception == "Microsoft.FailoverClusters.PowerShell.ClusterCmdletException"
    return error.message


def test_what_disks_and_volumes_refuse(bench: ClusterBench) -> None:
    """States and uses that do not allow an operation are reported under the cmdlet's own name."""

    async def go() -> None:
        folder = await bench.standard()
        data = await bench.cluster_disk("data")
        await bench.run("hv1", "Stop-ClusterResource", Name=data)
        assert "Offline" in await _refuse(bench, "Add-ClusterSharedVolume", Name=data)
        assert "Offline" in await _refuse(bench, "Suspend-ClusterResource", Name=data)
        assert "Offline" in await _refuse(bench, "Set-ClusterQuorum", DiskWitness=data)
        await bench.run("hv1", "Start-ClusterResource", Name=data)
        assert "already" in await _refuse(bench, "Add-ClusterSharedVolume", Name="Cluster Disk 2")
        assert "Cluster Group" in await _refuse(bench, "Add-ClusterSharedVolume", Name="Cluster Disk 1")
        assert "not a Cluster" in await _refuse(bench, "Suspend-ClusterResource", Name=data, RedirectedAccess=True)
        assert "no maintenance" in await _refuse(bench, "Suspend-ClusterResource", Name="Cluster Name")
        assert "remove that" in await _refuse(bench, "Remove-ClusterResource", Name="Cluster Disk 2", Force=True)
        assert "witness" in await _refuse(bench, "Remove-ClusterResource", Name="Cluster Disk 1", Force=True)
        assert "cannot be moved" in await _refuse(
            bench, "Move-ClusterResource", Name="Cluster Disk 2", Group="Cluster Group"
        )
        assert "own groups" in await _refuse(bench, "Remove-ClusterGroup", Name="Cluster Group", Force=True)
        await bench.run("hv1", "Add-ClusterGroup", Name="g")
        assert "exists" in await _refuse(bench, "Add-ClusterGroup", Name="g")
        assert "not a virtual machine" in await _refuse(bench, "Move-ClusterVirtualMachineRole", Name="g", Node="hv2")
        await bench.vm("a", folder)
        assert "already" in await _refuse(bench, "Move-ClusterVirtualMachineRole", Name="a", Node="hv1")
        assert "not being moved" in await _refuse(bench, "Move-ClusterVirtualMachineRole", Name="a", Cancel=True)
        assert "already clustered" in await _refuse(bench, "Add-ClusterVirtualMachineRole", VMName="a")
        await bench.run("hv1", "New-VM", Name="local", NoVHD=True, Path="C:\\VMs")
        assert "not on storage" in await _refuse(bench, "Add-ClusterVirtualMachineRole", VMName="local")
        bench.cluster.membership.crash("hv2")
        await bench.advance(30)
        assert "is down" in await _refuse(bench, "Move-ClusterGroup", Name="g", Node="hv2")
        assert "no other node" in await _refuse(bench, "Move-ClusterGroup", Name="g")

    asyncio.run(go())


def test_parameters(bench: ClusterBench) -> None:
    """Private properties: unknown, read-only, not a number; a change that waits for the next start warns."""

    async def go() -> None:
        await bench.connect()
        disk = {"Name": await bench.witness()}

        async def change(**parameters: object) -> None:
            await bench.pair("hv1", "Get-ClusterResource", disk, "Set-ClusterParameter", **parameters)

        for parameters in (
            {"Name": "NoSuchThing", "Value": 1},
            {"Name": "DiskUniqueIds", "Value": "x"},
            {"Name": "DiskArbInterval", "Value": "many"},
            {"Name": "DiskArbInterval", "Value": -1},
        ):
            with pytest.raises(PsError) as caught:
                await change(**parameters)
            assert caught.value.error_id == "Set-ClusterParameter"
        await change(Name="DiskArbInterval", Value=9)
        (found,) = await bench.pair(
            "hv1", "Get-ClusterResource", disk, "Get-ClusterParameter", Name=["diskarbinterval"]
        )
        assert (found.properties["Name"], found.properties["Value"]) == ("DiskArbInterval", 9)
        await change(Name="DiskPath", Value="X:")
        assert "taken offline" in bench.warnings[0]
        await change(Name="Mine", Value="text", Create=True)
        everything = await bench.pair("hv1", "Get-ClusterResource", disk, "Get-ClusterParameter")
        assert "Mine" in [p.properties["Name"] for p in everything]
        with pytest.raises(PsError) as caught:
            await bench.pair("hv1", "Get-ClusterResource", disk, "Get-ClusterParameter", Name=["Nothing"])
        assert caught.value.error_id == "ClusterObjectNotFound"

    asyncio.run(go())


def test_cluster_disks_are_not_everybodys(bench: ClusterBench) -> None:
    """Set-Disk, Clear-Disk and Format-Volume leave the cluster's disks alone, except in maintenance."""

    async def go() -> None:
        await bench.connect()
        await bench.witness()
        await bench.csv("csv1")
        disk = await bench.cluster_disk("data", letter="V")
        number = bench.hosts["hv1"].disks.records[bench.unique_id(bench.storage.units["data"])].number
        for cmdlet, parameters in (
            ("Set-Disk", {"IsOffline": True}),
            ("Set-Disk", {"IsReadOnly": True}),
            ("Clear-Disk", {"RemoveData": True, "Confirm": False}),
        ):
            error = await bench.fails("hv1", cmdlet, Number=number, **parameters)
            assert error.error_id == "StorageWMI 41018"
        error = await bench.fails("hv2", "Set-Disk", Number=number, IsOffline=False)
        assert error.error_id == "StorageWMI 41018"
        (volume,) = await bench.run("hv1", "Get-Volume", FilePath="C:\\ClusterStorage\\Volume1")
        error = await bench.fails("hv1", "Format-Volume", Path=volume.properties["Path"], Confirm=False)
        assert error.error_id == "StorageWMI 41018"
        await bench.run("hv1", "Suspend-ClusterResource", Name=disk, Force=True)
        await bench.run("hv1", "Set-Disk", Number=number, IsReadOnly=True)
        await bench.run("hv1", "Set-Disk", Number=number, IsReadOnly=False)
        await bench.run("hv1", "Resume-ClusterResource", Name=disk)

    asyncio.run(go())


@pytest.mark.parametrize("cmdlet", ["Add-ClusterVirtualMachineRole", "Add-ClusterGroup"])
def test_credentials_that_stay_at_the_host(bench: ClusterBench, cmdlet: str) -> None:
    """Cmdlets that need a second hop are refused where the credentials cannot be delegated."""

    async def go() -> None:
        parameters = {"VMName": "a"} if "Virtual" in cmdlet else {"Name": "g"}
        with bench.clock.request(), bench.clock.parked(), pytest.raises(PsError) as caught:
            await bench.engines["hv1"].run(cmdlet, parameters, runspace=Runspace(can_delegate=False, attended=True))
        assert caught.value.category == "AuthenticationError"

    asyncio.run(go())


def test_the_folder_of_a_shared_volume_stays(bench: ClusterBench) -> None:
    """Nobody removes it, nor the folder above it, and what lies on the volume is still there."""

    async def go() -> None:
        folder = await bench.standard()
        await bench.vm("a", folder)
        for path in (folder, "C:\\ClusterStorage"):
            error = await bench.fails("hv2", "Remove-Item", LiteralPath=path, Recurse=True)
            assert "is denied" in error.message
        assert await bench.run("hv1", "Test-Path", LiteralPath=f"{folder}\\a") == [True]

    asyncio.run(go())


def test_what_is_missing_is_told_once(bench: ClusterBench) -> None:
    """A cmdlet on one role or resource writes one error about a name that is not there, not two."""

    async def go() -> None:
        await bench.standard()
        for cmdlet in ("Move-ClusterGroup", "Stop-ClusterResource", "Move-ClusterSharedVolume"):
            told: list[PsError] = []
            call = Call(cmdlet, {"Name": "nope"}, on_error=told.append)
            result: Any = COMMANDS[cmdlet](bench.hosts["hv1"], call)
            with pytest.raises(PsError) as caught:
                await result
            assert (caught.value.error_id, told) == ("ClusterObjectNotFound", [])

    asyncio.run(go())
