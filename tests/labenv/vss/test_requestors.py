"""Requestors that come at the same time, call out of order, or die."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from labenv.windows.vss import codes
from labenv.windows.vss.codes import VssError
from labenv.windows.vss.model import Context
from labenv.windows.vss.requestor import BackupComponents

from .bench import SQL01, Bench, Ran, backup

KILLED = -1073741510


@pytest.mark.tr("R-6.2-11")
def test_a_second_set_at_the_same_time(bench: Bench) -> None:
    """The second requestor gets VSS_E_SNAPSHOT_SET_IN_PROGRESS; the first does not notice."""

    async def second() -> Ran:
        await bench.site.clock.sleep(8)
        return await bench.diskshadow(*backup("V:\\"), name="second")

    async def both() -> tuple[Ran, Ran]:
        results: list[Ran] = []
        done = bench.site.clock.signal()

        async def other() -> None:
            results.append(await second())
            done.set()

        bench.site.clock.spawn(other(), name="second requestor")
        first = await bench.diskshadow(*backup(SQL01), name="first")
        await done.wait()
        return first, results[0]

    first, other = bench.go(both())
    assert first.code == 0, first.text
    assert other.code == 1
    assert "80042316" in other.text
    assert bench.snapshots("vm_shared") == []
    assert set(bench.states().values()) == {(1, 0)}
    assert bench.script(*backup("V:\\")).code == 0


def _fails(bench: Bench, call: Coroutine[Any, Any, object]) -> int:
    with pytest.raises(VssError) as caught:
        bench.go(call)
    return caught.value.code


def test_calls_out_of_order(bench: Bench) -> None:
    """Every call has its place (notes of IVssBackupComponents); out of it, it is VSS_E_BAD_STATE."""
    vss = bench.host.vss
    components = BackupComponents(vss)
    with pytest.raises(VssError, match="BAD_STATE"):
        components.start_snapshot_set()
    with pytest.raises(VssError, match="BAD_STATE"):
        components.set_backup_state()
    assert _fails(bench, components.backup_complete()) == codes.BAD_STATE
    assert _fails(bench, components.do_snapshot_set()) == codes.BAD_STATE
    components.initialize_for_backup()
    with pytest.raises(VssError, match="BAD_STATE"):
        components.initialize_for_backup()
    components.set_context(Context.PERSISTENT)
    with pytest.raises(VssError, match="gather"):
        components.start_snapshot_set()
    found = bench.go(components.gather_writer_metadata())
    components.start_snapshot_set()
    other = BackupComponents(vss)
    other.initialize_for_backup()
    bench.go(other.gather_writer_metadata())
    with pytest.raises(VssError, match="SNAPSHOT_SET_IN_PROGRESS"):
        other.start_snapshot_set()
    assert _fails(bench, components.add_to_snapshot_set("Q:\\")) == codes.OBJECT_NOT_FOUND
    assert _fails(bench, components.add_to_snapshot_set("C:\\Windows")) == codes.OBJECT_NOT_FOUND
    assert _fails(bench, components.add_to_snapshot_set("C:\\", vss.hardware.id)) == codes.NOT_SUPPORTED_BY_PROVIDER
    bench.go(components.add_to_snapshot_set(SQL01))
    assert _fails(bench, components.add_to_snapshot_set(SQL01)) == codes.OBJECT_ALREADY_EXISTS
    assert _fails(bench, components.do_snapshot_set()) == codes.BAD_STATE
    vm = bench.host.vm("sql01").id
    for component in (c for parts in found.values() for c in parts if c.vm == vm):
        components.add_component(component)
    bench.go(components.prepare_for_backup())
    assert [s.writer.name for s in components.gather_writer_status()] == ["Microsoft Hyper-V VSS Writer"]
    with pytest.raises(VssError, match="BAD_STATE"):
        components.save_as_xml()
    bench.go(components.do_snapshot_set())
    assert _fails(bench, components.do_snapshot_set()) == codes.BAD_STATE
    assert components.save_as_xml().count(b"<COMPONENT ") == 1
    bench.go(components.backup_complete())
    with pytest.raises(VssError, match="BAD_STATE"):
        components.abort_backup()
    components.release()
    components.release()
    other.release()
    assert vss.creating is None
    assert len(bench.snapshots("vm_sql01")) == 2


EDGES = [
    ("vss.requestor", "create", (0, 0)),
    ("vss.writer", "PrepareForSnapshot", (0, 0)),
    ("vss.provider", "CommitSnapshots", (0, 0)),
    ("vss.provider", "PostCommitSnapshots", (1, 0)),
    ("vss.provider", "PreFinalCommitSnapshots", (1, 0)),
    ("vss.writer", "PostSnapshot", (1, 1)),
    ("vss.provider", "PostFinalCommitSnapshots", (1, 1)),
    ("vss.requestor", "end backup", (2, 0)),
]


@pytest.mark.parametrize(("where", "phase", "left"), EDGES)
def test_a_requestor_that_dies(bench: Bench, where: str, phase: str, left: tuple[int, int]) -> None:
    """Nobody aborts: what was made stays (orphaned Snapshot copies, a mapped clone), writers and guests are free."""
    before = bench.footprint()
    bench.fault(where, "drop", phase=phase)
    ran = bench.script(*backup(SQL01))
    assert ran.code == KILLED
    after = bench.footprint()
    snapshots = bench.snapshots("vm_sql01")
    clones = [name for name in bench.luns() if name.endswith(".rws")]
    assert (len(snapshots), len(clones)) == left
    assert bench.maps() == before["maps"] + len(clones)  # type: ignore[operator]
    for unchanged in ("creating", "guests", "areas", "states", "store"):
        assert after[unchanged] == before[unchanged], unchanged
    live = [t for t in after["tables"] if t in before["tables"]]  # type: ignore[attr-defined,operator]
    assert live == before["tables"]
    assert set(bench.states().values()) == {(1, 0)}
    again = bench.script(*backup(SQL01))
    assert again.code == 0, again.text


@pytest.mark.parametrize("seconds", [1, 4, 7, 12, 20, 25])
def test_the_host_loses_power_during_a_set(bench: Bench, seconds: int) -> None:
    """Guests boot and recover, the array keeps what it has, the next backup works."""
    bench.guest("sql01").insert("bb1", 100)

    async def held() -> None:
        clock = bench.site.clock

        async def work() -> None:
            with clock.request():
                await bench.diskshadow(*backup(SQL01))

        with clock.parked(), clock.request():
            task = asyncio.ensure_future(work())
            await clock.sleep(seconds)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            bench.host.power_cut()

    bench.runner.run(held())
    guest = bench.guest("sql01")
    assert guest.count("bb1") == 100
    assert guest.checkdb("bb1").ok
    assert guest.shadow is None
    ran = bench.script(*backup(SQL01))
    assert ran.code == 0, ran.text
    first = f"{{{ran.set_id}}}"
    assert f"/golden_{first}.rws" in bench.site.volume_files("vm_sql01", f"{first}_backup")
    assert bench.site.blocks.check() == []


@pytest.mark.parametrize("seconds", [3, 15, 30])
def test_a_stopped_command_does_not_leave_a_vm_saved(bench: Bench, seconds: int) -> None:
    """The client stops DiskShadow while a VM is being saved for the copy, or is saved: it runs again afterwards."""
    bench.guest("sql01").insert("bb1", 100)
    bench.run("Disable-VMIntegrationService", VMName="sql01", Name="VSS")

    async def held() -> None:
        clock = bench.site.clock

        async def work() -> None:
            with clock.request():
                await bench.diskshadow(*backup(SQL01))

        with clock.parked(), clock.request():
            task = asyncio.ensure_future(work())
            await clock.sleep(seconds)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await clock.sleep(60)

    bench.runner.run(held())
    assert bench.site.vm_states()["sql01"] == "Running"
    assert bench.guest("sql01").count("bb1") == 100
    assert bench.host.vss.creating is None
