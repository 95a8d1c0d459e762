"""Services of a node, seen by the cluster."""

from __future__ import annotations

import asyncio

from .bench import ClusterBench


def test_a_node_without_its_management_service(bench: ClusterBench) -> None:
    """It keeps what it has, and takes and gives no VM; after the other node's loss its new roles fail with 1205."""

    async def go() -> None:
        folder = await bench.standard()
        await bench.vm("a", folder)
        await bench.run("hv2", "Stop-Service", Name="vmms")
        error = await bench.fails("hv1", "Move-ClusterVirtualMachineRole", Name="a", Node="hv2")
        assert "Virtual Machine Management service on node 'hv2' is not running" in error.message
        assert await bench.show("hv1", "Get-ClusterGroup", "State", Name="a") == "Online"
        bench.cluster.membership.crash("hv1")
        await bench.advance(60)
        assert bench.events("hv2", 1205) == [1205]
        assert await bench.show("hv2", "Get-ClusterGroup", "State", Name="a") == "PartialOnline"
        assert await bench.show("hv2", "Get-ClusterResource", "State", Name="Virtual Machine a") == "Failed"
        await bench.run("hv2", "Start-Service", Name="vmms")
        await bench.run("hv2", "Start-ClusterGroup", Name="a")
        assert await bench.show("hv2", "Get-VM", "State", Name="a") == "Running"

    asyncio.run(go())
