"""From a LUN to rows in a guest's database, and back after losses of power and restores."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from labenv.guest.errors import GuestError
from labenv.guest.sql import COUNT_ROWS

from .bench import Bench, Memory


async def _site(bench: Bench) -> None:
    await bench.connect()
    await bench.formatted("vms", "V")
    await bench.vm("sql01", "V:\\")


def test_lun_to_sql_rows(bench: Bench) -> None:
    """A LUN becomes a disk, a volume, a VHD, a VM, a guest and rows that Invoke-Sqlcmd counts."""

    async def go() -> None:
        await _site(bench)
        assert bench.host.guest("sql01").insert("bb1", 10) == 10
        bench.host.logins.add("smhv", "pw")
        for instance in ("sql01", bench.host.guest("sql01").host_name):
            query = COUNT_ROWS.format(database="bb1")
            given = {"ServerInstance": instance, "Username": "smhv", "Password": "pw", "Query": query}
            rows = await bench.run("Invoke-Sqlcmd", **given)
            assert rows[0].properties["RowTotal"] == 10

    asyncio.run(go())


def test_power_cut_of_the_host_loses_only_the_caches(bench: Bench) -> None:
    """After a power cut the VM runs again, boots when it is asked, and has every committed row but not its cache."""

    async def go() -> None:
        await _site(bench)
        guest = bench.host.guest("sql01")
        guest.insert("bb1", 10)
        guest.write_file("C:\\note.txt", b"not flushed")
        bench.host.power_cut()
        assert not guest.running
        again = bench.host.guest("sql01")
        assert again.unexpected_shutdown
        assert again.count("bb1") == 10
        assert again.checkdb("bb1").ok
        assert not again.exists("C:\\note.txt") or again.read_file("C:\\note.txt") != b"not flushed"

    asyncio.run(go())


def test_killed_lab_continues(bench: Bench) -> None:
    """A new process over the same folder has the sessions, disks, volumes and VMs, and the VM's rows."""

    async def go() -> None:
        await _site(bench)
        bench.host.guest("sql01").insert("aa1", 5)
        again = bench.restart()
        assert [v.letter for v in again.host.volumes.all()] == ["C", "V"]
        assert (await again.run("Get-VM", Name="sql01"))[0].properties["State"].name == "Running"
        assert again.host.guest("sql01").count("aa1") == 5
        again.close()

    asyncio.run(go())


def test_vm_comes_back_with_the_bytes_of_its_lun(bench: Bench) -> None:
    """A LUN restored in place brings the configuration back, and Import-VM -Register the VM with the rows of then."""

    async def go() -> None:
        await bench.connect()
        unit = await bench.formatted("vms", "V")
        vm_id = (await bench.vm("sql01", "V:\\")).properties["Id"]
        device = unit.device
        assert isinstance(device, Memory)
        bench.host.guest("sql01").insert("bb1", 10)
        kept = device.snapshot()
        bench.host.guest("sql01").insert("bb1", 90)
        await bench.pair("Get-VM", {"Id": vm_id}, "Stop-VM", TurnOff=True, Force=True)
        await bench.pair("Get-VM", {"Id": vm_id}, "Remove-VM", Force=True)
        assert await bench.run("Get-VM") == []
        number = await bench.number(unit)
        await bench.run("Set-Disk", Number=number, IsOffline=True)
        device.restore(kept)
        await bench.run("Update-HostStorageCache")
        await bench.run("Set-Disk", Number=number, IsOffline=False)
        files = await bench.run("Get-ChildItem", LiteralPath="V:\\sql01\\Virtual Machines", Filter="*.vmcx")
        assert [f.properties["Name"] for f in files] == [f"{str(vm_id).upper()}.vmcx"]
        imported = await bench.run("Import-VM", Path=files[0].properties["FullName"], Register=True)
        assert imported[0].properties["Id"] == vm_id
        assert bench.value(imported[0], "State") == "Off"
        await bench.run("Start-VM", Name="sql01")
        assert bench.host.guest("sql01").count("bb1") == 10

    asyncio.run(go())


def test_lun_that_goes_away_pauses_its_vm(bench: Bench) -> None:
    """When the array takes the LUN away, the guest's next write fails and the VM is paused, critical, with an event."""

    async def go() -> None:
        await _site(bench)
        guest = bench.host.guest("sql01")
        guest.insert("bb1", 10)
        bench.take_offline("vms")
        await bench.run("Start-Sleep", Seconds=1)
        with pytest.raises((GuestError, OSError)):
            guest.insert("bb1", 10)
        vm = (await bench.run("Get-VM", Name="sql01"))[0]
        assert bench.value(vm, "State") == "PausedCritical"
        events = await bench.run("Get-WinEvent", LogName="Microsoft-Windows-Hyper-V-VMMS-Admin", MaxEvents=1)
        assert events[0].properties["Id"] == 16050
        bench.storage.units["vms"] = replace(bench.storage.units["vms"], online=True)
        await bench.run("Stop-VM", Name="sql01", TurnOff=True)
        await bench.run("Start-VM", Name="sql01")
        assert bench.host.guest("sql01").count("bb1") == 10

    asyncio.run(go())


def test_same_calls_same_ids(tmp_path: Path) -> None:
    """Two labs with one seed give the same GUIDs, times and unique ids."""

    async def go(folder: Path) -> list[object]:
        bench = Bench(folder)
        await bench.connect()
        await bench.formatted("vms", "V")
        vm = await bench.vm("sql01", "V:\\")
        found = [vm.properties["Id"], bench.clock.now, [v.name for v in bench.host.volumes.all()]]
        found.append(bench.host.guest("sql01").host_name)
        bench.close()
        return found

    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    assert asyncio.run(go(tmp_path / "one")) == asyncio.run(go(tmp_path / "two"))
