"""Failover to the second site, over both wires of each (TR 8, failover steps 1 to 7)."""

from __future__ import annotations

from pathlib import Path

import pytest

from labenv.lab import Lab
from smhvlab.dr.replication import Replication
from smhvlab.dr.sites import SitePair
from smhvlab.errors import ConfirmationNeeded, NotAllowed, NotFound
from smhvlab.record import Outcome
from smhvlab.site import connect
from smhvlab.snapinfo import Dataset
from tests.dr.scene import backup, each, kill_primary, load, prepare, revive_primary, rows
from tests.flows.checks import lun_clone

DOWN = {"primary-down"}


@pytest.mark.tr("R-8-04", "R-8-06", "R-8-08", "R-8-09", "R-8-11")
@pytest.mark.parametrize("manner", ["", pytest.param("today", marks=pytest.mark.long)])
def test_rows_are_those_of_the_last_replicated_backup(pair: SitePair, lab: Lab, manner: str) -> None:
    """Load runs to the disaster; afterwards every ledger is whole and as of the last backup that was carried over."""
    prepare(pair)
    load(pair, 10)
    backup(pair)
    load(pair, 20)
    last = backup(pair)
    load(pair, 30)
    backup(pair, update=False)
    load(pair, 40)
    kill_primary(lab)
    there = pair.secondary
    info = there.dr.connect_snapinfo(manner=manner).run_sync(accept=DOWN).result
    assert info.merged
    assert last.name in info.backups
    record = there.dr.failover(manner=manner).run_sync(accept=DOWN)
    done = record.result
    assert (record.outcome, done.backups, done.sound) == (Outcome.DONE, (last.name,), True)
    assert {f"{f.vm}/{f.database}": f.rows for f in done.databases} == each(30)
    assert rows(lab) == each(30)
    state = "broken_off" if manner == "today" else "uninitialized"  # the hosts are of era 2012
    assert set(there.mirrors()["state"]) == {state}
    assert lab.inspect.check() == []
    with pytest.raises(NotAllowed, match="registered on hv2 already"):
        there.dr.failover().plan()


@pytest.mark.long
@pytest.mark.tr("R-8-07")
def test_several_luns_of_a_volume_end_broken_off(pair: SitePair, lab: Lab) -> None:
    """The TR's other end state: of a volume with two LUNs each is restored by itself; the mirror is broken off."""
    pair.primary.create_dataset("All", ["app01", "sql01"])
    storage = pair.primary.tools().storage
    source = storage.lun("/vol/vm_shared/shared", svm="svm1")
    lun_clone(storage, "/vol/vm_shared/second", source=source.name, svm="svm1")
    pair.primary.dr.protect().run_sync()
    load(pair, 10)
    backup(pair)
    kill_primary(lab)
    pair.secondary.dr.connect_snapinfo().run_sync(accept=DOWN)
    pair.secondary.dr.failover().run_sync(accept=DOWN)
    states = pair.secondary.mirrors().set_index("source")["state"]
    assert (states["svm1:vm_shared"], states["svm1:vm_sql01"]) == ("broken_off", "uninitialized")
    assert rows(lab) == each(10)


def test_nothing_but_replicated_bytes_is_used(pair: SitePair, lab: Lab, tmp_path: Path) -> None:
    """The first site's volumes are destroyed and its power is cut; the second, all that is known of it, fails over."""
    prepare(pair)
    load(pair, 10)
    backup(pair)
    first = pair.primary.tools()
    for vm in first.hyperv.vms():
        first.hyperv.ensure_off(vm.id)
        first.hyperv.ensure_removed(vm.id)
    here = Replication(first.storage)
    for mirror in here.outgoing():
        here.release(mirror.uuid)
    for volume in ("vm_sql01", "vm_shared", "snapinfo", "golden"):
        first.storage.discard_volume(volume, svm="svm1")
    kill_primary(lab)
    with connect(lab.profile, site="B") as alone:
        assert alone.partner is None
        alone.dr.connect_snapinfo().run_sync(accept=DOWN)
        done = alone.dr.failover().run_sync(accept=DOWN).result
        alone.backup("All").run_sync()  # the dead site's storage does not hinder the other's
    assert done.sound
    assert rows(lab) == each(10)


@pytest.mark.long
@pytest.mark.tr("R-8-11")
def test_an_active_second_site_keeps_its_own_catalogue(pair: SitePair, lab: Lab) -> None:
    """Both catalogues are there afterwards; a dataset that is on both keeps the second site's members."""
    prepare(pair)
    load(pair, 10)
    taken = backup(pair)
    own = pair.secondary.tools().snapinfo
    own.write_dataset(Dataset("Mine", ()))
    own.write_dataset(Dataset("All", ()))
    kill_primary(lab)
    done = pair.secondary.dr.connect_snapinfo().run_sync(accept=DOWN).result
    assert "the dataset All is on both sites: this site's members stay" in done.remarks
    assert list(pair.secondary.datasets()["name"]) == ["All", "Mine"]
    assert own.dataset("All").members == ()
    assert list(pair.secondary.backups()["name"]) == [taken.name]
    assert not any("snapinfo_" in paths for paths in pair.secondary.disks()["paths"])


def test_both_sites_alive_is_refused_and_a_dead_one_has_to_be_confirmed(pair: SitePair, lab: Lab) -> None:
    """A split brain is refused with what to check; a site that does not answer is asked about, by name."""
    prepare(pair)
    taken = backup(pair)
    with pytest.raises(NotAllowed, match="Both sites are alive") as caught:
        pair.secondary.dr.connect_snapinfo().plan()
    assert "migration" in caught.value.next_action
    kill_primary(lab)
    pair.secondary.dr.connect_snapinfo().run_sync(accept=DOWN)
    failover = pair.secondary.dr.failover()
    [loss] = failover.plan().losses
    assert loss.startswith(f"What the VMs of {taken.name} have written after ")
    with pytest.raises(ConfirmationNeeded) as asked:
        failover.run_sync()
    assert list(asked.value.needed) == ["primary-down"]
    revive_primary(lab)
    for vm in pair.primary.tools().hyperv.vms():
        if vm.name in ("sql01", "app01"):
            pair.primary.tools().hyperv.ensure_running(vm.id)
    with pytest.raises(NotAllowed, match="Both sites are alive: app01, sql01"):
        pair.secondary.dr.failover().plan()
    assert set(pair.secondary.mirrors().set_index("source").loc[["svm1:vm_sql01"], "state"]) == {"snapmirrored"}


def test_half_dead_sites_are_fenced(pair: SitePair, lab: Lab) -> None:
    """Storage up and hosts down: the LUNs are unmapped there; hosts up and storage down: their VMs are switched off."""
    prepare(pair)
    load(pair, 10)
    backup(pair)
    lab.host("hv1").power_off()
    accept = {"primary-hosts-down"}
    pair.secondary.dr.connect_snapinfo().run_sync(accept=accept)
    flow = pair.secondary.dr.failover()
    assert {name for _, name, _, _ in flow.plan().state.fence.maps} == {"/vol/vm_sql01/golden", "/vol/vm_shared/shared"}
    flow.run_sync(accept=accept)
    storage = pair.primary.tools().storage
    assert storage.igroups_of(storage.lun("/vol/vm_sql01/golden", svm="svm1").uuid) == []
    assert rows(lab) == each(10)


@pytest.mark.tr("R-8-06")
def test_a_mirror_that_was_broken_by_hand_goes_back_to_the_chosen_backup(pair: SitePair, lab: Lab) -> None:
    """Data and SnapInfo are those of the Snapshot copies, not of the last transfer; a LUN in use is refused."""
    prepare(pair)
    load(pair, 10)
    taken = backup(pair)
    load(pair, 20)
    pair.primary.create_dataset("Late", ["web01"])
    tools = pair.secondary.tools()
    here = Replication(tools.storage)
    here.update(here.mirrors())
    kill_primary(lab)
    here.break_off(dict.fromkeys(here.mirrors(), ""))
    info = pair.secondary.dr.connect_snapinfo(manner="today")
    assert "(broken off before)" in str(info.plan())
    info.run_sync(accept=DOWN)
    assert list(pair.secondary.datasets()["name"]) == ["All"]
    lun = tools.storage.lun("/vol/vm_shared/shared", svm="svm2")
    tools.snapdrive.ensure_connected(lun, igroup="hv2", access_path="V:\\")
    flow = pair.secondary.dr.failover(manner="today")
    with pytest.raises(NotAllowed, match=r"/vol/vm_shared/shared is disk . of hv2") as caught:
        flow.plan()
    assert "disconnect the disk" in caught.value.next_action
    tools.snapdrive.discard_connection(lun, igroup="hv2", access_path="V:\\")
    plan = flow.plan()
    assert [question.key for question in plan.confirmations] == ["primary-down", "broken-before"]
    done = flow.run_sync(plan=plan, accept=DOWN | {"broken-before"}).result
    assert (done.backups, done.sound) == ((taken.name,), True)
    assert rows(lab) == each(10)


def test_a_backup_of_the_first_site_is_deleted_with_its_copies(pair: SitePair, lab: Lab) -> None:
    """At the second site they are the mirrors' own until these are broken, then but the one that a resync needs."""
    prepare(pair)
    old, new = backup(pair), backup(pair)
    kill_primary(lab)
    there = pair.secondary
    there.dr.connect_snapinfo(manner="today").run_sync(accept=DOWN)
    with pytest.raises(NotAllowed, match="cannot be deleted now") as caught:
        there.delete_backup(old.name).plan()
    assert "is held by the mirror svm1:vm_shared -> svm2:vm_shared" in (caught.value.why or "")
    there.dr.failover(manner="today").run_sync(accept=DOWN)
    assert there.delete_backup(old.name).run_sync().result.copies == 2
    with pytest.raises(NotAllowed, match="cannot be deleted now"):
        there.delete_backup(new.name).plan()
    copies = there.snapshots().set_index("snapshot")["volume"]
    assert set(copies.loc[[new.name]]) - set(copies.loc[[old.name]]) == {"vm_shared", "vm_sql01"}


@pytest.mark.tr("R-8-06")
def test_a_second_failover_leaves_the_vms_of_the_first_alone(pair: SitePair, lab: Lab) -> None:
    """Other volumes are failed over beside them; a VM on their own volume is refused, and they lose no row."""
    pair.primary.create_dataset("All", ["app01", "sql01", "web01"])
    pair.primary.dr.protect().run_sync()
    load(pair, 10)
    backup(pair)
    kill_primary(lab)
    there = pair.secondary
    there.dr.connect_snapinfo().run_sync(accept=DOWN)
    there.dr.failover(vms=["app01"]).run_sync(accept=DOWN)
    load(pair, 7, at="secondary", vms=["app01"])
    states = there.mirrors().set_index("source")["state"]
    assert (states["svm1:vm_shared"], states["svm1:vm_sql01"]) == ("uninitialized", "snapmirrored")
    assert there.dr.failover(vms=["sql01"]).run_sync(accept=DOWN).result.vms == ("sql01",)
    with pytest.raises(NotAllowed, match=r"/vol/vm_shared/shared is disk . of hv2 with app01") as caught:
        there.dr.failover(vms=["web01"]).plan()
    assert "Import-VM" in caught.value.next_action
    assert rows(lab) == each(17, vms=["app01"]) | each(10, vms=["sql01"])


@pytest.mark.long
def test_hosts_whose_storage_is_gone_are_switched_off(pair: SitePair, lab: Lab) -> None:
    """The VMs of the first site whose disks are gone are off afterwards, so that they cannot come back beside ours."""
    prepare(pair)
    load(pair, 10)
    backup(pair)
    lab.storage("cluster1").power_off()
    accept = {"primary-storage-down"}
    pair.secondary.dr.connect_snapinfo().run_sync(accept=accept)
    pair.secondary.dr.failover().run_sync(accept=accept)
    states = pair.primary.vms().set_index("name")["state"]
    assert (states["sql01"], states["app01"]) == ("Off", "Off")
    assert rows(lab) == each(10)


def test_what_makes_a_failover_impossible_is_told_first(pair: SitePair, lab: Lab) -> None:
    """Order, mount point, VM, backup, transfer: one clear error each, before a mirror is broken."""
    there = pair.secondary
    with pytest.raises(NotFound, match="No relationship brings the volume snapinfo here"):
        there.dr.connect_snapinfo().plan()
    prepare(pair)
    lab.host("hv1").power_off()
    with pytest.raises(NotFound, match="no Snapshot copy that SMHV took"):
        there.dr.connect_snapinfo().plan()
    lab.host("hv1").power_on()
    for vm in ("app01", "sql01"):
        pair.primary.tools().hyperv.ensure_running(pair.primary.tools().hyperv.vm(vm).id)
    old = backup(pair)
    newer = backup(pair, update=False)
    mirrors = Replication(there.tools().storage)
    mirrors.update([mirrors.of_source("snapinfo")])
    kill_primary(lab)
    with pytest.raises(NotFound, match="knows no backup") as caught:
        there.dr.failover().plan()
    assert "connect_snapinfo" in caught.value.next_action
    there.dr.connect_snapinfo().run_sync(accept=DOWN)
    with pytest.raises(NotFound, match="no replicated backup nonsense"):
        there.dr.failover(["nonsense"]).plan()
    with pytest.raises(NotAllowed, match="did not arrive") as caught_newer:
        there.dr.failover([newer.name]).plan()
    assert "SnapInfo is newer" in (caught_newer.value.why or "")
    with pytest.raises(NotFound, match="nobody is in none"):
        there.dr.failover(vms=["nobody"]).plan()
    plan = there.dr.failover().plan()
    assert plan.state.backups[0][0] == old.name
    assert {c.key for c in plan.confirmations} == {"primary-down", "newer-lost"}
    snapdrive = there.tools().snapdrive
    disk = snapdrive.folder_disk("S:\\", snapdrive.disks())
    assert disk is not None
    snapdrive.ensure_mounted(disk, "C:\\VMs\\sql01\\")
    with pytest.raises(NotAllowed, match="mount point of disk") as caught_mount:
        there.dr.failover().plan()
    assert "same as on the primary" in (caught_mount.value.why or "")
