"""Storage that goes away and comes back: paths, redirected access, pauses, failed disks."""

from __future__ import annotations

import asyncio

import pytest

from .bench import PORTALS, ClusterBench, iqn
from .conftest import Make


def _system(bench: ClusterBench, node: str, provider: str) -> list[int]:
    return [e.id for e in reversed(bench.hosts[node].events.newest_first()) if e.provider == provider]


def test_one_of_two_paths(bench: ClusterBench) -> None:
    """A lost portal degrades every disk of every node and stops nothing; MPIO says so, and when it is back."""

    async def go() -> None:
        folder = await bench.standard()
        await bench.vm("a", folder)
        bench.storage.down.add(PORTALS[0])
        bench.state.commit()
        await bench.advance(30)
        for node in bench.names:
            assert _system(bench, node, "iScsiPrt") == [20]
            assert _system(bench, node, "mpio") == [17, 17]
            assert len(await bench.run(node, "Get-IscsiConnection")) == 1
        assert bench.guest("a").insert("aa1", 10) == 10
        assert await bench.show("hv1", "Get-ClusterSharedVolume", "State") == "Online"
        bench.storage.down.clear()
        bench.state.commit()
        assert _system(bench, "hv1", "iScsiPrt") == [20, 34]
        assert bench.events("hv1", 5120, 5121, 5142) == []

    asyncio.run(go())


@pytest.mark.tr("R-7-01", "R-AR-01")
@pytest.mark.parametrize("owner", ["hv1", "hv2"])
def test_a_node_without_any_path(bench: ClusterBench, owner: str) -> None:
    """Its I/O goes through the other node, which becomes the owner if it was not: 5121 there, and VMs run on."""

    async def go() -> None:
        folder = await bench.standard()
        await bench.vm("a", folder)
        await bench.run("hv1", "Move-ClusterSharedVolume", Name="Cluster Disk 2", Node=owner)
        for portal in PORTALS:
            bench.hosts["hv1"].initiator.cut(portal, cut=True)
        bench.state.commit()
        await bench.advance(30)
        (volume,) = await bench.run("hv2", "Get-ClusterSharedVolume")
        assert bench.owner(volume) == "hv2"
        states = await bench.run("hv2", "Get-ClusterSharedVolumeState")
        assert {bench.value(s, "Node"): bench.value(s, "StateInfo") for s in states} == {
            "hv1": "BlockRedirected",
            "hv2": "Direct",
        }
        assert bench.value(states[0], "BlockRedirectedIOReason") == "NoDiskConnectivity"
        assert bench.events("hv1", 5121) == [5121]
        assert bench.events("hv2", 5121) == []
        assert bench.events("hv2", 5120) == ([5120] if owner == "hv1" else [])
        assert bench.guest("a").insert("aa1", 10) == 10
        assert await bench.show("hv1", "Get-VM", "State", Name="a") == "Running"
        for portal in PORTALS:
            bench.hosts["hv1"].initiator.cut(portal, cut=False)
        bench.state.commit()
        await bench.advance(30)
        states = await bench.run("hv2", "Get-ClusterSharedVolumeState")
        assert {bench.value(s, "StateInfo") for s in states} == {"Direct"}
        assert bench.events("hv1", 5121) == [5121]

    asyncio.run(go())


def test_a_volume_that_is_away_for_a_moment(bench: ClusterBench) -> None:
    """Without any path I/O is held back (5120); a VM that needed it meanwhile is started again, with its rows."""

    async def go() -> None:
        folder = await bench.standard()
        await bench.vm("a", folder)
        rows = bench.guest("a").insert("aa1", 25)
        bench.set_online("csv1", False)
        bench.state.commit()
        await bench.advance(10)
        assert bench.events("hv1", 5120, 5142, 1069) == [5120]
        assert bench.events("hv2", 5120, 5142, 1069) == [5120]
        states = await bench.run("hv1", "Get-ClusterSharedVolumeState")
        assert {bench.value(s, "StateInfo") for s in states} == {"Paused"}
        with pytest.raises(Exception, match=r"paused|storage|device|I/O|disk"):
            bench.guest("a").insert("aa1", 1)
        bench.set_online("csv1", True)
        bench.state.commit()
        await bench.advance(60)
        assert await bench.show("hv1", "Get-VM", "State", Name="a") == "Running"
        assert bench.guest("a").count("aa1") >= rows
        assert bench.guest("a").checkdb("aa1").ok
        assert bench.events("hv1", 5142) == []

    asyncio.run(go())


def test_a_volume_that_stays_away(bench: ClusterBench) -> None:
    """After a minute the disk has failed (1069), no node can use the volume (5142), its VMs are off; all comes back."""

    async def go() -> None:
        folder = await bench.standard()
        await bench.vm("a", folder)
        rows = bench.guest("a").insert("aa1", 25)
        bench.set_online("csv1", False)
        bench.state.commit()
        await bench.advance(120)
        assert bench.events("hv2", 5120, 5142) == [5120, 5142]
        assert bench.events("hv1", 5120, 5142, 1069) == [5120, 5142, 1069, 1069]
        assert await bench.show("hv1", "Get-ClusterSharedVolume", "State") == "Failed"
        assert await bench.run("hv2", "Test-Path", LiteralPath=f"{folder}\\a") == [False]
        assert await bench.show("hv1", "Get-ClusterResource", "State", Name="Virtual Machine a") == "Failed"
        error = await bench.fails("hv1", "Set-Content", LiteralPath=f"{folder}\\x.txt", Value="x")
        assert error.error_id == "GetContentWriterIOError"
        bench.set_online("csv1", True)
        bench.state.commit()
        await bench.advance(60)
        assert await bench.show("hv1", "Get-ClusterSharedVolume", "State") == "Online"
        assert await bench.show("hv1", "Get-VM", "State", Name="a") == "Running"
        assert bench.guest("a").count("aa1") == rows

    asyncio.run(go())


def test_a_disk_of_a_role_fails_under_its_owner(bench: ClusterBench) -> None:
    """A role whose disk has no path on its node starts on the node that has one."""

    async def go() -> None:
        await bench.connect()
        await bench.witness()
        await bench.cluster_disk("own", letter="V")
        await bench.vm("a", "V:\\")
        rows = bench.guest("a").insert("aa1", 25)
        bench.storage.hidden.add((iqn("hv1"), "own"))
        bench.state.commit()
        await bench.advance(60)
        (group,) = await bench.run("hv2", "Get-ClusterGroup", Name="a")
        assert (bench.owner(group), bench.value(group, "State")) == ("hv2", "Online")
        assert bench.guest("a").count("aa1") == rows
        assert bench.events("hv1", 1069) == [1069, 1069]
        assert await bench.run("hv2", "Test-Path", LiteralPath="V:\\a") == [True]

    asyncio.run(go())


def test_redirected_access_by_hand(bench: ClusterBench) -> None:
    """Suspend-ClusterResource -RedirectedAccess redirects a shared volume's I/O until Resume-ClusterResource."""

    async def go() -> None:
        folder = await bench.standard()
        name = "Cluster Disk 2"
        (shown,) = await bench.run("hv1", "Suspend-ClusterResource", Name=name, RedirectedAccess=True, Force=True)
        info = shown.properties["SharedVolumeInfo"].items[0]
        assert (info.properties["RedirectedAccess"], bench.value(info, "FaultState")) == (True, "Redirected")
        states = await bench.run("hv2", "Get-ClusterSharedVolumeState", Name=name)
        assert {bench.value(s, "StateInfo") for s in states} == {"FileSystemRedirected"}
        assert {bench.value(s, "FileSystemRedirectedIOReason") for s in states} == {"UserRequest"}
        await bench.run("hv2", "Set-Content", LiteralPath=f"{folder}\\x.txt", Value="still written")
        await bench.run("hv1", "Resume-ClusterResource", Name=name)
        states = await bench.run("hv2", "Get-ClusterSharedVolumeState", Node="hv2")
        assert [bench.value(s, "StateInfo") for s in states] == ["Direct"]
        (shown,) = await bench.run("hv1", "Suspend-ClusterResource", Name=name, Force=True)
        assert bench.value(shown.properties["SharedVolumeInfo"].items[0], "FaultState") == "InMaintenance"

    asyncio.run(go())


def test_version_1_of_shared_volumes(make: Make) -> None:
    """Windows Server 2008 R2 shows NTFS with one volume GUID, before and after the disk is shared."""
    bench = make(era="2008r2")

    async def go() -> None:
        await bench.connect()
        disk = await bench.cluster_disk("csv1")
        before = {bench.value(v, "Path") for v in await bench.run("hv1", "Get-Volume")}
        await bench.run("hv1", "Add-ClusterSharedVolume", Name=disk)
        for node in bench.names:
            (volume,) = await bench.run(node, "Get-Volume", FilePath="C:\\ClusterStorage\\Volume1")
            assert bench.value(volume, "FileSystem") == "NTFS"
            assert bench.value(volume, "Path") in before
        await bench.run("hv1", "Suspend-ClusterResource", Name=disk, RedirectedAccess=True)
        assert (bench.events("hv1", 5121), bench.events("hv2", 5121)) == ([], [5121])
        (state,) = await bench.run("hv2", "Get-ClusterSharedVolumeState", Node="hv2")
        assert bench.value(state, "StateInfo") == "FileSystemRedirected"

    asyncio.run(go())
