"""Nodes: stopping, pausing, crashing, quorum, and checkpoints of the whole lab."""

from __future__ import annotations

import asyncio

import pytest

from labenv.windows.cluster.errors import ClusterProblem

from .bench import ClusterBench
from .conftest import Make


async def _owners(bench: ClusterBench, node: str) -> dict[str, tuple[str, str]]:
    groups = await bench.run(node, "Get-ClusterGroup")
    return {str(g.properties["Name"]): (bench.owner(g), bench.value(g, "State")) for g in groups}


def test_stopping_a_nodes_service(bench: ClusterBench) -> None:
    """Everything moves away first; on the node itself no cluster cmdlet works until it is started again."""

    async def go() -> None:
        folder = await bench.standard()
        await bench.vm("a", folder)
        rows = bench.guest("a").insert("aa1", 10)
        (node,) = await bench.run("hv1", "Stop-ClusterNode", Name="hv1")
        assert bench.value(node, "State") == "Down"
        assert set((await _owners(bench, "hv2")).values()) <= {("hv2", "Online"), ("hv2", "Offline")}
        assert bench.guest("a").count("aa1") == rows
        error = await bench.fails("hv1", "Get-ClusterGroup")
        assert (error.error_id, error.category) == ("ClusterEndpointNotRegistered", "ConnectionError")
        assert await bench.run("hv1", "Test-Path", LiteralPath=folder) == [False]
        (node,) = await bench.run("hv1", "Start-ClusterNode")
        assert bench.value(node, "State") == "Up"
        assert await bench.run("hv1", "Test-Path", LiteralPath=f"{folder}\\a") == [True]
        assert (await _owners(bench, "hv1"))["a"] == ("hv2", "Online")

    asyncio.run(go())


def test_pausing_and_draining(bench: ClusterBench) -> None:
    """A paused node keeps what it has and gets nothing new; a drained one has nothing left, and its VMs never stop."""

    async def go() -> None:
        folder = await bench.standard()
        await bench.vm("a", folder)
        await bench.run("hv2", "Suspend-ClusterNode", Name="hv2")
        error = await bench.fails("hv1", "Move-ClusterGroup", Name="a", Node="hv2")
        assert "paused" in error.message
        await bench.run("hv2", "Resume-ClusterNode", Name="hv2")
        bench.guest("a").write_file("C:\\memo.txt", b"in memory")
        (node,) = await bench.run("hv2", "Suspend-ClusterNode", Name="hv1", Drain=True, Wait=True)
        assert (bench.value(node, "State"), bench.value(node, "DrainStatus")) == ("Paused", "Completed")
        assert {owner for owner, _ in (await _owners(bench, "hv1")).values()} == {"hv2"}
        assert bench.guest("a").read_file("C:\\memo.txt") == b"in memory"
        (node,) = await bench.run("hv2", "Resume-ClusterNode", Name="hv1")
        assert (bench.value(node, "State"), bench.value(node, "DrainStatus")) == ("Up", "NotInitiated")
        error = await bench.fails("hv2", "Resume-ClusterNode", Name="hv1")
        assert error.error_id == "Resume-ClusterNode"

    asyncio.run(go())


def test_the_last_node_without_a_witness(bench: ClusterBench) -> None:
    """One of two votes is no majority: the service stops (1177), VMs lose their power; all comes back with the node."""

    async def go() -> None:
        await bench.connect()
        folder = await bench.csv("csv1")
        await bench.vm("a", folder)
        rows = bench.guest("a").insert("aa1", 10)
        bench.cluster.membership.crash("hv2")
        await bench.advance(60)
        assert bench.events("hv1", 1135, 1177) == [1135, 1177]
        error = await bench.fails("hv1", "Get-Cluster")
        assert error.error_id == "ClusterEndpointNotRegistered"
        assert await bench.run("hv1", "Test-Path", LiteralPath=folder) == [False]
        bench.cluster.membership.boot("hv2")
        await bench.advance(60)
        assert await bench.run("hv2", "Test-Path", LiteralPath=folder) == [True]
        assert (await _owners(bench, "hv2"))["a"] == ("hv1", "Online")
        assert bench.guest("a").count("aa1") == rows

    asyncio.run(go())


def test_four_nodes_go_one_by_one(make: Make) -> None:
    """With dynamic quorum and a witness, three of four nodes may go one after the other; VMs gather on the last."""
    bench = make(nodes=4)

    async def go() -> None:
        folder = await bench.standard()
        for number, node in enumerate(bench.names, 1):
            await bench.vm(f"vm{number}", folder, node=node, size=32)
        rows = {f"vm{n}": bench.guest(f"vm{n}").insert("aa1", n) for n in range(1, 5)}
        for node in bench.names[:3]:
            bench.cluster.membership.crash(node)
            await bench.advance(60)
        owners = await _owners(bench, "hv4")
        assert {owners[vm] for vm in rows} == {("hv4", "Online")}
        assert {vm: bench.guest(vm).count("aa1") for vm in rows} == rows
        assert await bench.run("hv4", "Test-Path", LiteralPath=f"{folder}\\vm1") == [True]
        states = {n.properties["Name"]: bench.value(n, "State") for n in await bench.run("hv4", "Get-ClusterNode")}
        assert states == {"hv1": "Down", "hv2": "Down", "hv3": "Down", "hv4": "Up"}

    asyncio.run(go())


def test_old_clusters_count_every_vote(make: Make) -> None:
    """Windows Server 2008 R2 has no dynamic quorum: the third of four nodes to go takes the cluster with it."""
    bench = make(nodes=4, era="2008r2")

    async def go() -> None:
        await bench.connect()
        await bench.witness()
        for node, lost in (("hv4", False), ("hv3", False), ("hv2", True)):
            bench.cluster.membership.crash(node)
            await bench.advance(30)
            assert bench.cluster.record.lost is lost
        assert bench.events("hv1", 1135, 1177) == [1135, 1135, 1135, 1177]

    asyncio.run(go())


def test_a_node_comes_back_before_the_others_notice(bench: ClusterBench) -> None:
    """A host that is back within the heartbeat has restarted all the same: its VMs boot where they were."""

    async def go() -> None:
        folder = await bench.standard()
        await bench.vm("a", folder)
        rows = bench.guest("a").insert("aa1", 10)
        bench.cluster.membership.crash("hv1")
        await bench.advance(2)
        bench.cluster.membership.boot("hv1")
        await bench.advance(60)
        assert (await _owners(bench, "hv1"))["a"] == ("hv1", "Online")
        assert bench.events("hv2", 1135) == []
        assert bench.guest("a").count("aa1") == rows
        with pytest.raises(ClusterProblem):
            bench.cluster.membership.boot("hv1")

    asyncio.run(go())


def test_the_whole_cluster_stops_and_starts(bench: ClusterBench) -> None:
    """Stop-Cluster saves the VMs and stops every node's service; Start-Cluster brings everything back as it was."""

    async def go() -> None:
        folder = await bench.standard()
        await bench.vm("a", folder)
        rows = bench.guest("a").insert("aa1", 10)
        await bench.run("hv1", "Stop-Cluster", Force=True)
        for node in bench.names:
            error = await bench.fails(node, "Get-Cluster")
            assert error.error_id == "ClusterEndpointNotRegistered"
            assert await bench.run(node, "Test-Path", LiteralPath=folder) == [False]
        (shown,) = await bench.run("hv2", "Start-Cluster")
        assert shown.properties["Name"] == "hvc1"
        await bench.advance(60)
        owners = await _owners(bench, "hv2")
        assert owners["a"] == ("hv1", "Online")
        assert owners["Cluster Group"] == ("hv1", "Online")
        assert bench.guest("a").count("aa1") == rows
        (written,) = await bench.run("hv2", "Get-ClusterLog", Node="hv1", Destination="C:\\Temp")
        assert written.properties["Name"] == "hv1_cluster.log"
        text = (await bench.run("hv2", "Get-Content", LiteralPath="C:\\Temp\\hv1_cluster.log", Raw=True))[0]
        assert "Cluster hvc1 : hv1" in text

    asyncio.run(go())


def test_back_to_a_checkpoint(bench: ClusterBench) -> None:
    """A restore of the lab brings owners, shared volumes, VMs and bytes back as they were."""

    async def go() -> None:
        folder = await bench.standard()
        await bench.vm("a", folder)
        rows = bench.guest("a").insert("aa1", 10)
        await bench.run("hv1", "Set-Content", LiteralPath=f"{folder}\\x.txt", Value="kept", NoNewline=True)
        for host in bench.hosts.values():
            host.flush()
        device = bench.storage.units["csv1"].device
        bytes_then = device.snapshot()  # type: ignore[attr-defined]
        bench.state.checkpoint("then")
        await bench.run("hv1", "Set-Content", LiteralPath=f"{folder}\\x.txt", Value="lost", NoNewline=True)
        bench.guest("a").insert("aa1", 10)
        bench.cluster.membership.crash("hv1")
        await bench.advance(60)
        await bench.run("hv2", "Rename-Item", LiteralPath=f"{folder}\\x.txt", NewName="y.txt")
        await bench.clock.cancel_tasks()
        for host in bench.hosts.values():
            host.power_cut()
        bench.cluster.power_cut()
        device.restore(bytes_then)  # type: ignore[attr-defined]
        bench.state.restore("then")
        for node in bench.names:
            assert await bench.run(node, "Get-Content", LiteralPath=f"{folder}\\x.txt", Raw=True) == ["kept"]
        assert (await _owners(bench, "hv2"))["a"] == ("hv1", "Online")
        assert bench.guest("a").count("aa1") == rows
        assert await bench.show("hv2", "Get-ClusterNode", "State", Name="hv1") == "Up"

    asyncio.run(go())
