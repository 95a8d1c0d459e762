"""A shared volume and a clustered virtual machine."""

from __future__ import annotations

import asyncio

from .bench import ClusterBench


def test_shared_volume_is_the_same_on_every_node(bench: ClusterBench) -> None:
    """What one node writes below C:\\ClusterStorage, the other reads at once."""

    async def go() -> None:
        await bench.connect()
        folder = await bench.csv("csv1")
        assert folder == "C:\\ClusterStorage\\Volume1"
        await bench.run("hv1", "Set-Content", LiteralPath=f"{folder}\\note.txt", Value="from hv1", NoNewline=True)
        assert await bench.run("hv2", "Get-Content", LiteralPath=f"{folder}\\note.txt", Raw=True) == ["from hv1"]
        await bench.run("hv2", "Remove-Item", LiteralPath=f"{folder}\\note.txt")
        assert await bench.run("hv1", "Test-Path", LiteralPath=f"{folder}\\note.txt") == [False]

    asyncio.run(go())


def test_a_crash_of_a_node(bench: ClusterBench) -> None:
    """A VM of a node whose power is cut boots on the other node, with what its guest had written and no more."""

    async def go() -> None:
        folder = await bench.standard()
        await bench.vm("sql01", folder)
        bench.guest("sql01").insert("aa1", 50)
        assert bench.guest("sql01").count("aa1") == 50
        bench.cluster.membership.crash("hv1")
        await bench.advance(60)
        assert await bench.show("hv2", "Get-VM", "State", Name="sql01") == "Running"
        (group,) = await bench.run("hv2", "Get-ClusterGroup", Name="sql01")
        assert bench.owner(group) == "hv2"
        assert bench.value(group, "State") == "Online"
        assert bench.guest("sql01").count("aa1") == 50
        assert bench.guest("sql01").checkdb("aa1").ok
        assert bench.events("hv2", 1135) == [1135]

    asyncio.run(go())
