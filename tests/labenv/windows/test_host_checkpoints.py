"""Checkpoints: chains, what they hold, and merging."""

from __future__ import annotations

import asyncio

import pytest

from .bench import Bench


async def _site(bench: Bench, *, kind: str = "ProductionOnly") -> None:
    await bench.connect()
    await bench.formatted("vms", "V")
    await bench.vm("sql01", "V:\\")
    await bench.run("Set-VM", Name="sql01", CheckpointType=kind)


async def _paths(bench: Bench) -> list[str]:
    return [d.properties["Path"] for d in await bench.run("Get-VMHardDiskDrive", VMName="sql01")]


@pytest.mark.parametrize("extra", ["vhd", "vhdx"])
def test_chain_and_merge(bench: Bench, extra: str) -> None:
    """A checkpoint puts leaves over the disks; deleting it merges them away while the guest goes on writing."""

    async def go() -> None:
        await _site(bench)
        if extra == "vhdx":
            await bench.run("Stop-VM", Name="sql01", Force=True)
            await bench.run("New-VHD", Path="V:\\sql01\\extra.vhdx", SizeBytes=64 << 20, Dynamic=True)
            await bench.run("Add-VMHardDiskDrive", VMName="sql01", ControllerType="SCSI", Path="V:\\sql01\\extra.vhdx")
            await bench.run("Start-VM", Name="sql01")
        guest = bench.host.guest("sql01")
        guest.insert("bb1", 10)
        before = await _paths(bench)
        made = (await bench.run("Checkpoint-VM", Name="sql01", SnapshotName="S", Passthru=True))[0]
        leaves = await _paths(bench)
        assert all("_" in path and path.endswith((".avhd", ".avhdx")) for path in leaves)
        info = (await bench.run("Get-VHD", Path=leaves[0]))[0]
        assert bench.value(info, "VhdType") == "Differencing"
        assert info.properties["ParentPath"] == before[0]
        held = await bench.pair("Get-VMSnapshot", {"Id": made.properties["Id"]}, "Get-VMHardDiskDrive")
        assert [d.properties["Path"] for d in held] == before
        assert guest.insert("bb1", 5) == 15
        await bench.run("Remove-VMSnapshot", VMName="sql01", Name="S")
        assert "MergingDisks" in [s.name for s in (await bench.run("Get-VM"))[0].properties["OperationalStatus"].items]
        await bench.run("Start-Sleep", Seconds=30)
        assert [s.name for s in (await bench.run("Get-VM"))[0].properties["OperationalStatus"].items] == ["Ok"]
        assert await _paths(bench) == before
        assert guest.insert("bb1", 5) == 20
        assert guest.checkdb("bb1").ok
        names = [f.properties["Name"] for f in await bench.run("Get-ChildItem", LiteralPath="V:\\sql01", File=True)]
        assert not [n for n in names if ".avhd" in n]
        await bench.run("Stop-VM", Name="sql01", TurnOff=True)
        await bench.run("Start-VM", Name="sql01")
        assert bench.host.guest("sql01").count("bb1") == 20

    asyncio.run(go())


def test_parent_is_consistent_and_leaf_is_later(bench: Bench) -> None:
    """Applying a checkpoint brings back what was committed then, cleanly; the leaf's later rows are gone."""

    async def go() -> None:
        await _site(bench)
        guest = bench.host.guest("sql01")
        guest.insert("bb1", 10)
        guest.write_file("C:\\note.txt", b"in the cache")
        made = (await bench.run("Checkpoint-VM", Name="sql01", SnapshotName="S", Passthru=True))[0]
        guest.insert("bb1", 90)
        await bench.pair("Get-VMSnapshot", {"Id": made.properties["Id"]}, "Restore-VMSnapshot")
        assert bench.value((await bench.run("Get-VM"))[0], "State") == "Off"
        await bench.run("Start-VM", Name="sql01")
        again = bench.host.guest("sql01")
        assert again.count("bb1") == 10
        assert again.read_file("C:\\note.txt") == b"in the cache"
        await bench.run("Remove-VMSnapshot", VMName="sql01", Name="S")
        await bench.run("Start-Sleep", Seconds=30)
        assert again.count("bb1") == 10

    asyncio.run(go())


def test_middle_of_three_checkpoints(bench: Bench) -> None:
    """Deleting the checkpoint in the middle keeps the others and every row."""

    async def go() -> None:
        await _site(bench)
        guest = bench.host.guest("sql01")
        for name in ("A", "B", "C"):
            guest.insert("bb1", 10)
            await bench.run("Checkpoint-VM", Name="sql01", SnapshotName=name)
        guest.insert("bb1", 10)
        await bench.run("Remove-VMSnapshot", VMName="sql01", Name="B")
        await bench.run("Start-Sleep", Seconds=30)
        found = await bench.run("Get-VMSnapshot", VMName="sql01")
        assert [(s.properties["Name"], s.properties["ParentSnapshotName"]) for s in found] == [("A", None), ("C", "A")]
        assert guest.count("bb1") == 40
        await bench.run("Restore-VMSnapshot", VMName="sql01", Name="C")
        await bench.run("Start-VM", Name="sql01")
        assert bench.host.guest("sql01").count("bb1") == 30
        await bench.run("Restore-VMSnapshot", VMName="sql01", Name="A")
        await bench.run("Start-VM", Name="sql01")
        assert bench.host.guest("sql01").count("bb1") == 10
        assert bench.host.guest("sql01").checkdb("bb1").ok

    asyncio.run(go())


def test_merge_goes_on_after_a_power_cut(bench: Bench) -> None:
    """A power cut during a merge loses no row, and the merge is done when the host is back."""

    async def go() -> None:
        await _site(bench)
        guest = bench.host.guest("sql01")
        before = await _paths(bench)
        await bench.run("Checkpoint-VM", Name="sql01", SnapshotName="S")
        guest.insert("bb1", 10)
        await bench.run("Remove-VMSnapshot", VMName="sql01", Name="S")
        await bench.clock.cancel_tasks()
        bench.host.power_cut()
        assert await _paths(bench) == before
        assert bench.host.guest("sql01").count("bb1") == 10

    asyncio.run(go())


def test_production_only_needs_the_guest(bench: Bench) -> None:
    """Without the VSS integration service ProductionOnly fails with an event, and Production makes a standard one."""

    async def go() -> None:
        await _site(bench)
        await bench.run("Disable-VMIntegrationService", VMName="sql01", Name="VSS")
        error = await bench.fails("Checkpoint-VM", Name="sql01", SnapshotName="S")
        assert (error.error_id, error.target) == ("OperationFailed", "sql01")
        assert (await bench.run("Get-WinEvent", FilterHashtable={"LogName": "*VMMS-Admin", "Id": 18014}))[0]
        await bench.run("Set-VM", Name="sql01", CheckpointType="Production")
        made = (await bench.run("Checkpoint-VM", Name="sql01", SnapshotName="S", Passthru=True))[0]
        assert bench.value(made, "SnapshotType") == "Standard"
        assert bench.host.machines.snapshots[str(made.properties["Id"])].consistency == "saved"

    asyncio.run(go())


def test_checkpoints_come_back_with_the_configuration(bench: Bench) -> None:
    """Import-VM -Register finds the checkpoints in the VM's folder, and the VM's leaf as its disk."""

    async def go() -> None:
        await _site(bench)
        await bench.run("Checkpoint-VM", Name="sql01", SnapshotName="S")
        leaves = await _paths(bench)
        await bench.run("Stop-VM", Name="sql01", TurnOff=True)
        vm = bench.host.vm("sql01")
        path = bench.host.machines.configurations.path(vm)
        data = bench.host.files.read(path)
        kept = {
            f: bench.host.files.read(f) for f, e in bench.host.files.walk("V:\\sql01\\Snapshots") if not e.is_directory
        }
        await bench.run("Remove-VM", Name="sql01", Force=True)
        bench.host.files.write(path, data)
        for name, content in kept.items():
            bench.host.files.write(name, content)
        await bench.run("Import-VM", Path=path, Register=True)
        assert [s.properties["Name"] for s in await bench.run("Get-VMSnapshot", VMName="sql01")] == ["S"]
        assert await _paths(bench) == leaves

    asyncio.run(go())


def test_others_see_what_is_being_done(bench: Bench) -> None:
    """While a checkpoint is being made the VM's operational status says so to whoever asks."""

    async def go() -> None:
        await _site(bench)
        seen: list[str] = []

        async def watch() -> None:
            await bench.clock.sleep(0.5)
            vm = (await bench.engine.run("Get-VM", {"Name": "sql01"}))[0]
            seen.extend(s.name for s in vm.properties["OperationalStatus"].items)

        bench.clock.spawn(watch(), name="watch")
        await bench.run("Checkpoint-VM", Name="sql01", SnapshotName="S")
        assert seen == ["Ok", "CreatingSnapshot"]

    asyncio.run(go())
