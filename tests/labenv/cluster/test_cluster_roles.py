"""Roles: online and offline, moves and migrations, ownership, and what removing them leaves."""

from __future__ import annotations

import asyncio
from uuid import UUID

import pytest

from labenv.windows.cmdlets.targets import prop

from .bench import MIB, ClusterBench
from .conftest import Make


def test_a_role_saves_its_vm_when_it_stops(bench: ClusterBench) -> None:
    """Stop-ClusterGroup saves the VM unless OfflineAction says otherwise; Start-ClusterGroup starts it again."""

    async def go() -> None:
        folder = await bench.standard()
        vm = await bench.vm("a", folder)
        rows = bench.guest("a").insert("aa1", 10)
        identity = {"VMId": vm.properties["Id"]}
        (group,) = await bench.pair("hv1", "Get-ClusterGroup", identity, "Stop-ClusterGroup")
        assert bench.value(group, "State") == "Offline"
        assert await bench.show("hv1", "Get-VM", "State", Name="a") == "Saved"
        (group,) = await bench.pair("hv2", "Get-ClusterGroup", identity, "Start-ClusterGroup")
        assert (bench.value(group, "State"), bench.owner(group)) == ("Online", "hv1")
        assert bench.guest("a").count("aa1") == rows
        resource = {"Name": "Virtual Machine a"}
        for action, state in ((0, "Off"), (2, "Off"), (1, "Saved")):
            await bench.pair(
                "hv1", "Get-ClusterResource", resource, "Set-ClusterParameter", Name="OfflineAction", Value=action
            )
            await bench.run("hv1", "Stop-ClusterResource", **resource)
            assert await bench.show("hv1", "Get-VM", "State", Name="a") == state
            await bench.run("hv1", "Start-ClusterResource", **resource)
        assert bench.guest("a").count("aa1") == rows

    asyncio.run(go())


@pytest.mark.parametrize("kind", ["Live", "Quick", "TurnOff", "Shutdown"])
def test_ways_of_moving(bench: ClusterBench, kind: str) -> None:
    """Whichever way a VM moves, it runs on the other node with its rows; unless it is cut off, with its memory too."""

    async def go() -> None:
        folder = await bench.standard()
        await bench.vm("a", folder)
        rows = bench.guest("a").insert("aa1", 10)
        bench.guest("a").write_file("C:\\memo.txt", b"in memory")
        (group,) = await bench.run("hv1", "Move-ClusterVirtualMachineRole", Name="a", Node="hv2", MigrationType=kind)
        assert (bench.owner(group), bench.value(group, "State")) == ("hv2", "Online")
        assert [v.name for v in bench.hosts["hv1"].vms.values()] == []
        assert bench.guest("a").count("aa1") == rows
        kept = "memo.txt" in [entry.name for entry in bench.guest("a").list_files("C:\\")]
        assert kept or kind == "TurnOff"

    asyncio.run(go())


def test_live_migration_is_a_state(bench: ClusterBench) -> None:
    """With -Wait 0 it goes on by itself: role, resource and VM show it; a second one is refused; -Cancel ends it."""

    async def go() -> None:
        folder = await bench.standard()
        await bench.vm("a", folder)
        await bench.run("hv1", "Move-ClusterVirtualMachineRole", Name="a", Node="hv2", Wait=0)
        await bench.advance(2)
        (resource,) = await bench.run("hv2", "Get-ClusterResource", Name="Virtual Machine a")
        assert str(resource.properties["ResourceSpecificStatus"]).startswith("Live Migrating, ")
        (vm,) = await bench.run("hv1", "Get-VM", Name="a")
        assert bench.value(vm, "SecondaryOperationalStatus") == "MigratingVirtualMachine"
        assert await bench.show("hv1", "Get-ClusterGroup", "StatusInformation", Name="a") != 0
        error = await bench.fails("hv1", "Move-ClusterVirtualMachineRole", Name="a", Node="hv2")
        assert error.error_id == "Move-ClusterVirtualMachineRole"
        error = await bench.fails("hv1", "Checkpoint-VM", Name="a", SnapshotName="now")
        assert error.error_id == "InvalidState"
        await bench.run("hv1", "Move-ClusterVirtualMachineRole", Name="a", Cancel=True)
        await bench.advance(60)
        (group,) = await bench.run("hv1", "Get-ClusterGroup", Name="a")
        assert (bench.owner(group), group.properties["StatusInformation"]) == ("hv1", 0)
        assert bench.value((await bench.run("hv1", "Get-VM", Name="a"))[0], "SecondaryOperationalStatus") is None
        await bench.run("hv1", "Move-ClusterVirtualMachineRole", Name="a", Node="hv2", Wait=0)
        await bench.advance(120)
        assert await bench.show("hv2", "Get-VM", "State", Name="a") == "Running"

    asyncio.run(go())


@pytest.mark.parametrize("node", ["hv1", "hv2"])
def test_a_crash_in_the_middle_of_a_live_migration(bench: ClusterBench, node: str) -> None:
    """Whichever side dies, the VM is on exactly one node afterwards, and its rows are there."""

    async def go() -> None:
        folder = await bench.standard()
        await bench.vm("a", folder)
        rows = bench.guest("a").insert("aa1", 10)
        await bench.run("hv1", "Move-ClusterVirtualMachineRole", Name="a", Node="hv2", Wait=0)
        await bench.advance(3)
        bench.cluster.membership.crash(node)
        await bench.advance(120)
        other = "hv2" if node == "hv1" else "hv1"
        assert [v.name for v in bench.hosts[other].vms.values()] == ["a"]
        assert await bench.show(other, "Get-VM", "State", Name="a") == "Running"
        assert bench.guest("a").count("aa1") == rows

    asyncio.run(go())


def test_a_crash_of_the_lab_in_the_middle_of_a_live_migration(make: Make) -> None:
    """It never happened: the VM is where it was."""
    bench = make()

    async def before() -> None:
        folder = await bench.standard()
        await bench.vm("a", folder)
        bench.guest("a").insert("aa1", 10)
        await bench.run("hv1", "Move-ClusterVirtualMachineRole", Name="a", Node="hv2", Wait=0)
        await bench.advance(3)

    asyncio.run(before())
    again = make(storage=bench.storage)

    async def after() -> None:
        (group,) = await again.run("hv2", "Get-ClusterGroup", Name="a")
        assert (again.owner(group), again.value(group, "State")) == ("hv1", "Online")
        assert again.guest("a").count("aa1") == 10
        (vm,) = await again.run("hv1", "Get-VM", Name="a")
        assert again.value(vm, "SecondaryOperationalStatus") is None

    asyncio.run(after())


def test_preferred_and_possible_owners(make: Make) -> None:
    """Preferred owners decide where a group goes, possible owners where it may go."""
    bench = make(nodes=3)

    async def go() -> None:
        await bench.connect()
        await bench.run("hv1", "Add-ClusterGroup", Name="g")
        disk = await bench.cluster_disk("data")
        await bench.run("hv1", "Move-ClusterResource", Name=disk, Group="g")
        await bench.run("hv1", "Set-ClusterOwnerNode", Group="g", Owners=["hv3", "hv2"])
        (shown,) = await bench.run("hv1", "Get-ClusterOwnerNode", Group="g")
        assert [n.text for n in shown.properties["OwnerNodes"].items] == ["hv3", "hv2"]
        (group,) = await bench.run("hv1", "Move-ClusterGroup", Name="g")
        assert bench.owner(group) == "hv3"
        await bench.run("hv1", "Set-ClusterOwnerNode", Resource=disk, Owners=["hv1", "hv3"])
        error = await bench.fails("hv1", "Move-ClusterGroup", Name="g", Node="hv2")
        assert error.error_id == "Move-ClusterGroup"
        (shown,) = await bench.run("hv1", "Get-ClusterOwnerNode", Resource=disk)
        assert [n.text for n in shown.properties["OwnerNodes"].items] == ["hv1", "hv3"]
        bench.cluster.membership.crash("hv3")
        await bench.advance(30)
        (group,) = await bench.run("hv1", "Get-ClusterGroup", Name="g")
        assert bench.owner(group) == "hv1"

    asyncio.run(go())


def test_a_role_that_is_starting_goes_back_when_it_runs(bench: ClusterBench) -> None:
    """The preferred node returns while the role starts elsewhere: it runs there first, and then goes back."""

    async def go() -> None:
        folder = await bench.standard()
        await bench.vm("a", folder)
        await bench.run("hv1", "Set-ClusterOwnerNode", Group="a", Owners=["hv1"])
        group = {"Namespace": "root/MSCluster", "Query": "SELECT * FROM MSCluster_ResourceGroup WHERE Name='a'"}
        await bench.run("hv1", "Set-CimInstance", **group, Property={"AutoFailbackType": 1})
        bench.cluster.membership.crash("hv1")
        while not any(vm.state == "Starting" for vm in bench.hosts["hv2"].vms.values()):
            await bench.advance(1)
        bench.cluster.membership.boot("hv1")
        await bench.advance(2)
        assert await bench.show("hv2", "Get-VM", "State", Name="a") == "Starting"
        await bench.advance(300)
        assert await bench.show("hv1", "Get-VM", "State", Name="a") == "Running"

    asyncio.run(go())


def test_properties_of_a_role(bench: ClusterBench) -> None:
    """Priority, failback and failure limits are set by a CIM query; other values, names and classes are refused."""

    async def go() -> None:
        await bench.connect()
        await bench.run("hv1", "Add-ClusterGroup", Name="a role")
        query = "SELECT * FROM MSCluster_ResourceGroup WHERE Name="
        given = {"Namespace": "root/MSCluster", "Query": query + '"A role"'}
        wanted = {"Priority": 3000, "AutoFailbackType": 1, "FailoverThreshold": 3, "FailoverPeriod": 12}
        await bench.run("hv1", "Set-CimInstance", **given, Property=wanted)
        (group,) = await bench.run("hv1", "Get-ClusterGroup", Name="a role")
        assert {name: group.properties[name] for name in wanted} == wanted
        await bench.run("hv1", "Set-CimInstance", **{**given, "Query": query + "'nobody'"}, Property=wanted)
        for wrong in ({"Priority": 1}, {"Priority": "high"}, {"Name": "b"}):
            error = await bench.fails("hv1", "Set-CimInstance", **given, Property=wrong)
            assert error.error_id == "HRESULT 0x80041008"
        error = await bench.fails("hv1", "Set-CimInstance", Query="SELECT * FROM Win32_Service", Property=wanted)
        assert error.error_id == "HRESULT 0x80041010"

    asyncio.run(go())


def test_a_role_that_is_removed_leaves_its_vm(bench: ClusterBench) -> None:
    """Remove-ClusterGroup -VMId -RemoveResources leaves the VM registered, and its own disk in Available Storage."""

    async def go() -> None:
        await bench.connect()
        await bench.witness()
        disk = await bench.cluster_disk("own", letter="V")
        vm = await bench.vm("a", "V:\\")
        (shown,) = await bench.run("hv1", "Get-ClusterResource", Name=disk)
        assert prop(shown.properties["OwnerGroup"], "Name") == "a"
        error = await bench.fails("hv1", "Remove-ClusterGroup", Name="a", Force=True)
        assert error.error_id == "Remove-ClusterGroup"
        await bench.run("hv1", "Remove-ClusterGroup", VMId=vm.properties["Id"], RemoveResources=True, Force=True)
        assert await bench.show("hv1", "Get-VM", "IsClustered", Name="a") is False
        assert await bench.show("hv1", "Get-VM", "State", Name="a") == "Running"
        (shown,) = await bench.run("hv1", "Get-ClusterResource", Name=disk)
        assert (prop(shown.properties["OwnerGroup"], "Name"), bench.value(shown, "State")) == (
            "Available Storage",
            "Online",
        )
        assert bench.guest("a").insert("aa1", 3) >= 3
        (group,) = await bench.run("hv1", "Add-ClusterVirtualMachineRole", VMId=vm.properties["Id"])
        assert (group.properties["Name"], bench.value(group, "State")) == ("a", "Online")

    asyncio.run(go())


def test_a_role_follows_disks_that_a_vm_gets_later(bench: ClusterBench) -> None:
    """Update-ClusterVirtualMachineConfiguration takes a cluster disk that the VM uses now into its role."""

    async def go() -> None:
        folder = await bench.standard()
        vm = await bench.vm("a", folder)
        disk = await bench.cluster_disk("more", letter="V")
        await bench.run("hv1", "New-VHD", Path="V:\\more.vhd", SizeBytes=16 * MIB, Fixed=True)
        await bench.run("hv1", "Stop-VM", Name="a", Force=True)
        await bench.run("hv1", "Add-VMHardDiskDrive", VMName="a", Path="V:\\more.vhd")
        await bench.run("hv1", "Update-ClusterVirtualMachineConfiguration", VMId=vm.properties["Id"])
        (shown,) = await bench.run("hv1", "Get-ClusterResource", Name=disk)
        assert prop(shown.properties["OwnerGroup"], "Name") == "a"
        (dependency,) = await bench.run(
            "hv1", "Get-ClusterResourceDependency", Resource="Virtual Machine Configuration a"
        )
        assert dependency.properties["DependencyExpression"] == f"([{disk}])"
        await bench.run("hv1", "Start-ClusterGroup", Name="a")
        await bench.run("hv1", "Move-ClusterVirtualMachineRole", Name="a", Node="hv2")
        assert await bench.run("hv2", "Test-Path", LiteralPath="V:\\more.vhd") == [True]

    asyncio.run(go())


def test_vms_with_checkpoints_move_with_them(bench: ClusterBench) -> None:
    """A VM's checkpoints are known on the node that has it; applying one there works."""

    async def go() -> None:
        folder = await bench.standard()
        await bench.vm("a", folder)
        rows = bench.guest("a").insert("aa1", 10)
        await bench.run("hv1", "Checkpoint-VM", Name="a", SnapshotName="before")
        bench.guest("a").insert("aa1", 10)
        await bench.run("hv1", "Move-ClusterVirtualMachineRole", Name="a", Node="hv2")
        (snapshot,) = await bench.run("hv2", "Get-VMSnapshot", VMName="a")
        assert snapshot.properties["Name"] == "before"
        assert isinstance(snapshot.properties["Id"], UUID)
        await bench.run("hv2", "Restore-VMSnapshot", VMName="a", Name="before", Confirm=False)
        await bench.run("hv2", "Start-VM", Name="a")
        assert bench.guest("a").count("aa1") == rows

    asyncio.run(go())


def test_a_resource_that_fails_twice_moves(bench: ClusterBench) -> None:
    """The first failure restarts it where it is, the second on another node; 1069 each time."""

    async def go() -> None:
        folder = await bench.standard()
        await bench.vm("a", folder)
        rows = bench.guest("a").insert("aa1", 10)
        for owner in ("hv1", "hv2"):
            await bench.run("hv1", "Test-ClusterResourceFailure", Name="Virtual Machine a")
            (group,) = await bench.run("hv1", "Get-ClusterGroup", Name="a")
            assert (bench.owner(group), bench.value(group, "State")) == (owner, "Online")
        assert bench.events("hv1", 1069) == [1069, 1069]
        assert bench.guest("a").count("aa1") == rows

    asyncio.run(go())
