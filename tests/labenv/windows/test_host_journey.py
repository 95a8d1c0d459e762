"""From a LUN to rows in a guest's database, and back after losses of power."""

from __future__ import annotations

import asyncio

from .bench import Bench


def test_lun_to_sql_rows(bench: Bench) -> None:
    """A LUN becomes a disk, a volume, a VHD, a VM, a guest and rows that Invoke-Sqlcmd counts."""

    async def go() -> None:
        await bench.connect()
        await bench.formatted("vms", "V")
        await bench.vm("sql01", "V:\\")
        guest = bench.host.guest("sql01")
        assert guest.insert("bb1", 10) == 10
        bench.host.logins.add("smhv", "pw")
        rows = await bench.run(
            "Invoke-Sqlcmd",
            ServerInstance="sql01",
            Username="smhv",
            Password="pw",
            Query="SELECT COUNT(*) AS RowTotal FROM [bb1].dbo.ledger",
        )
        assert rows[0].properties["RowTotal"] == 10

    asyncio.run(go())
