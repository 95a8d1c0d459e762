"""Rehearsals, what-if and planned migration: nothing is lost, no mirror is broken before its time (TR 8)."""

from __future__ import annotations

import pytest

from labenv import lab as labs
from labenv.lab import Lab
from smhvlab import doctor
from smhvlab.dr.replication import Replication
from smhvlab.dr.sites import SitePair, connect_pair
from smhvlab.errors import NotAllowed, NotFound
from smhvlab.record import Event, Outcome, PlannedStep, StepStarted
from tests.dr.scene import DOWN, backup, each, kill_primary, load, prepare, rows
from tests.flows.checks import picture


def test_a_rehearsal_leaves_nothing_and_the_mirrors_go_on(pair: SitePair, lab: Lab) -> None:
    """VMs run from clones and are checked, the live ones go on, mirrors are updated; everything is removed again."""
    prepare(pair)
    load(pair, 10)
    taken = backup(pair)
    there = pair.secondary
    with pytest.raises(NotFound, match="nobody is in none"):
        there.dr.rehearse(vms=["nobody"]).run_sync()
    before = picture(there)
    mirrors = Replication(there.tools().storage)
    updated: list[int] = []

    def meanwhile(step: PlannedStep) -> bool:
        if step.name == "clean_up":
            load(pair, 5)
            updated.extend(m.transferred for m in mirrors.update(mirrors.mirrors()))
        return True

    flow = there.dr.rehearse()
    flow.gate = meanwhile
    record = flow.run_sync()
    done = record.result
    assert (record.outcome, done.backups, done.vms, done.sound) == (
        Outcome.DONE,
        (taken.name,),
        ("sql01", "app01"),
        True,
    )
    assert {f"{f.vm}/{f.database}": f.rows for f in done.databases} == each(10)
    assert done.seconds > 0
    [kept] = there.dr.rehearsals().to_dict("records")
    assert (kept["backups"], kept["vms"], kept["databases"], kept["sound"], kept["copied"]) == (
        taken.name,
        "sql01, app01",
        8,
        True,
        0,
    )
    assert sum(updated) > 0
    assert {text.rpartition(": ")[2] for text in done.mirrors} == {"snapmirrored"}
    after = picture(there)
    assert [n for n in after.snapshots if not n.rpartition(":")[2].startswith("snapmirror")] == [
        n for n in before.snapshots if not n.rpartition(":")[2].startswith("snapmirror")
    ]
    assert (after.vms, after.volumes, after.luns, after.disks) == (
        before.vms,
        before.volumes,
        before.luns,
        before.disks,
    )
    assert there.tools().host.run("Get-VMSwitch", select=("Name",)) == []
    assert rows(lab) == each(15)
    assert lab.inspect.check() == []


def test_copies_run_beside_the_vms_that_have_failed_over(pair: SitePair, lab: Lab) -> None:
    """Where the VMs run, full copies with new ids run and are checked; the originals, their ids and rows stay."""
    prepare(pair)
    load(pair, 10)
    backup(pair)
    kill_primary(lab)
    there = pair.secondary
    there.dr.connect_snapinfo().run_sync(accept=DOWN)
    there.dr.failover().run_sync(accept=DOWN)
    load(pair, 7, at="secondary")
    before = picture(there)
    ids = {vm.name: vm.id for vm in there.tools().nodes.vms()}
    with pytest.raises(NotAllowed, match="are registered here already") as caught:
        there.dr.rehearse().run_sync()
    assert "copies=True" in caught.value.next_action
    with pytest.raises(NotFound, match="no folder"):
        there.dr.rehearse(copies=True, to="Q:\\none").plan()
    with pytest.raises(NotAllowed, match="Nothing would be copied"):
        there.dr.rehearse(to="C:\\")
    with pytest.raises(NotAllowed, match="copies of sql01, app01 need 40 GB"):
        there.dr.rehearse(copies=True, to="S:\\").run_sync()
    assert picture(there) == before
    size = (20 << 30) + 3 * 512  # three fixed disks, each with a footer
    flow = there.dr.rehearse(vms=["sql01"], copies=True)
    assert "bytes are copied" in repr(flow.plan())
    told: list[str] = []
    beside: dict[str, str] = {}

    def meanwhile(step: PlannedStep) -> bool:
        if step.name == "copy":
            told.extend(step.items)
        if step.name == "clean_up":
            beside.update({vm.name: vm.id for vm in there.tools().nodes.vms()})
        return True

    flow.gate = meanwhile
    done = flow.run_sync().result
    assert (done.vms, done.sound, done.copied) == (("sql01",), True, size)
    assert list(there.dr.rehearsals()["copied"]) == [size]
    assert f"{size:,} bytes to" in told[1]
    assert {f.rows for f in done.databases} == {10}
    assert beside.items() >= ids.items()
    assert [name.startswith("sql01_rehearsal_") for name in beside if name not in ids] == [True]
    assert len(set(beside.values())) == len(beside) == 3
    assert picture(there) == before
    assert {vm.name: vm.id for vm in there.tools().nodes.vms()} == ids
    assert there.tools().host.run("Get-VMSwitch", select=("Name",)) == []
    assert [r for r in there.tools().host.run("Get-ChildItem", {"LiteralPath": "C:\\"}) if "rehears" in str(r)] == []
    assert rows(lab) == each(17)
    assert lab.inspect.check() == []


@pytest.mark.filterwarnings("ignore::marshmallow.warnings.ChangedInMarshmallow4Warning")  # netapp-ontap's
def test_two_backups_of_one_volume_are_shown_each_at_its_own_time(pair: SitePair, lab: Lab) -> None:
    """Datasets on two LUNs of a volume: each VM runs with the rows of its own backup, in place and as a copy."""
    first, there = pair.primary, pair.secondary
    first.create_disk("vm_sql01", lun="other", size="25GB", at="W:").run_sync()
    first.tools().host.run("Move-VMStorage", {"Name": "app01", "DestinationStoragePath": "W:\\app01"})
    for name, vm in (("One", "sql01"), ("Two", "app01")):
        first.create_dataset(name, [vm])
    first.dr.protect().run_sync()
    load(pair, 5)
    backup(pair, update=False, dataset="One")
    load(pair, 3)
    backup(pair, dataset="Two")
    before = picture(there)
    for copies in (False, True):
        done = there.dr.rehearse(copies=copies).run_sync().result
        assert done.sound
        assert {f.vm: f.rows for f in done.databases} == {"sql01": 5, "app01": 8}
        assert picture(there) == before


def test_copies_start_from_what_a_production_checkpoint_froze() -> None:
    """Rows that the leaf of the backup's checkpoint holds are not in the copy; a user's checkpoint below it is."""
    with labs.start("dr-pair-2022") as lab, connect_pair(lab.profile) as pair:
        first, there = pair.primary, pair.secondary
        load(pair, 10, vms=["sql01"])
        first.tools().host.run("Checkpoint-VM", {"Name": "sql01", "SnapshotName": "mine"})
        load(pair, 5, vms=["sql01"])
        first.create_dataset("All", ["sql01"])
        first.dr.protect().run_sync()
        flow = first.backup("All", consistency="application")

        def meanwhile(event: Event) -> None:
            if isinstance(event, StepStarted) and event.step == "snapshots":
                for database in lab.guest("sql01").databases():
                    lab.guest("sql01").insert(database, 100)

        flow.on_event = meanwhile
        (vm,) = flow.run_sync().result.backup.vms
        assert set(vm.leaves) == {disk.path for disk in vm.disks}
        assert len(vm.parents) == len(vm.disks)
        mirrors = Replication(there.tools().storage)
        mirrors.update(mirrors.mirrors())
        before = picture(there)
        done = there.dr.rehearse(copies=True).run_sync().result
        assert (done.sound, {f.rows for f in done.databases}) == (True, {15})
        assert picture(there) == before
        assert rows(lab, vms=["sql01"]) == each(115, vms=["sql01"])
        assert lab.status()["failures"] == []


def test_a_planned_migration_loses_nothing(pair: SitePair, lab: Lab) -> None:
    """VMs are shut down, backed up once more and carried over; the failover on the other site has every row."""
    first, second = pair.primary, pair.secondary
    first.create_dataset("All", ["sql01", "app01"])
    with pytest.raises(NotAllowed, match="is not mirrored"):
        first.dr.migrate("All").plan()
    first.dr.protect().run_sync()
    load(pair, 10)
    backup(pair)
    load(pair, 6)
    web = first.tools().hyperv.vm("web01")
    with pytest.raises(NotAllowed, match="web01 runs on vm_shared and is in no dataset") as caught:
        first.dr.migrate("All").plan()
    assert "shut it down" in caught.value.next_action
    first.tools().hyperv.ensure_off(web.id)  # it shares a LUN with them: it stays behind
    moved = first.dr.migrate("All").run_sync().result
    assert set(first.vms().set_index("name").loc[["sql01", "app01"], "state"]) == {"Off"}
    accept = {"primary-up"}
    second.dr.connect_snapinfo().run_sync(accept=accept)
    done = second.dr.failover().run_sync(accept=accept).result
    assert done.backups == (moved.backup.name,)
    assert rows(lab) == each(16)


def test_what_a_disaster_would_cost_now(pair: SitePair, lab: Lab) -> None:
    """RPO is the age of the newest backup that arrived with its SnapInfo; a VM without one would be lost."""
    first = pair.primary
    prepare(pair)
    table = first.dr.what_if().set_index("vm")
    assert list(table["rpo"]) == [-1, -1]
    assert set(table["finding"]) == {"there is no backup of it"}
    old = backup(pair)
    lab.clock.advance(3600)
    newer = backup(pair, update=False)
    table = first.dr.what_if().set_index("vm")
    assert set(table["backup"]) == {old.name}
    assert (table["rpo"] >= 3600).all()
    assert (table["rto"] > 300).all()
    assert all(newer.name in text for text in table["finding"])
    first.partner = None
    with pytest.raises(NotAllowed, match="no partner"):
        first.dr.what_if()


def test_a_failover_names_the_rehearsal_that_was_killed(pair: SitePair, lab: Lab) -> None:
    """VMs that a dead rehearsal has left are not taken for an earlier failover's: its undo is the way."""
    prepare(pair)
    backup(pair)
    there = pair.secondary

    def die(event: object) -> None:
        if isinstance(event, StepStarted) and event.step == "check":
            raise KeyboardInterrupt

    flow = there.dr.rehearse()
    flow.on_event = die
    with pytest.raises(KeyboardInterrupt):
        flow.run_sync()
    kill_primary(lab)
    there.dr.connect_snapinfo().run_sync(accept={"primary-down"})
    with pytest.raises(NotAllowed, match="registered on hv2 already") as caught:
        there.dr.failover().plan()
    assert f"smhvlab doctor --undo {flow.run_id}" in caught.value.next_action
    doctor.reopen(there, flow.run_id).undo_sync()
    assert there.dr.failover().plan().state.vms
