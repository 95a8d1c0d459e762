"""Restore of deleted, clustered and moved VMs, from every kind of backup, with what goes around it (TR 6.7, 10)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import smhvlab.site
from labenv import lab as labs
from smhvlab.dr.landing import Ground
from smhvlab.errors import ConfirmationNeeded, NotAllowed, NotFound, Unsendable
from smhvlab.record import Event, StepStarted
from smhvlab.restore import selfguard
from smhvlab.restore.state import Method
from smhvlab.site import Site
from smhvlab.vmnames import one_named
from tests.flows.checks import blocks_sound, picture, sound
from tests.flows.conftest import Start, Stock

DATABASES = ("aa1", "bb1")
THEN = dict.fromkeys(DATABASES, 100)


def fill(lab: labs.Lab, vm: str, rows: int) -> None:
    """Rows in two databases of a VM."""
    for database in DATABASES:
        lab.guest(vm).insert(database, rows)


def rows(lab: labs.Lab, vm: str) -> dict[str, int]:
    """What they hold."""
    return {database: lab.guest(vm).count(database) for database in DATABASES}


def backed_up(site: Site, lab: labs.Lab, vm: str, *, consistency: str = "application") -> str:
    """A backup of a VM with 100 rows in each database, and 500 rows after it; the backup's name."""
    fill(lab, vm, 100)
    site.create_dataset(f"Set_{vm}", [vm])
    name: str = site.backup(f"Set_{vm}", consistency=consistency).run_sync().result.backup.name  # type: ignore[arg-type]
    fill(lab, vm, 500)
    return name


def delete(site: Site, vm: str) -> None:
    """Somebody deletes a VM in Hyper-V Manager; its files stay."""
    machine = site.tools().hyperv.vm(vm)
    site.tools().hyperv.ensure_off(machine.id)
    site.tools().hyperv.ensure_removed(machine.id)


@pytest.mark.tr("R-6.7-06", "R-6.7-07", "R-6.7-08")
def test_a_deleted_vm_comes_back_from_an_application_consistent_backup(site: Site, lab: labs.Lab) -> None:
    """It is in no dataset any more; the LUN has to be where it was, with the same GUID; then it is back and runs."""
    name = backed_up(site, lab, "sql01")
    site.change_dataset("Set_sql01", ["web01"])
    delete(site, "sql01")
    host = site.tools().host
    disk = next(d for d in site.tools().snapdrive.disks() if "C:\\VMs\\sql01\\" in d.access_paths)
    where = {"DiskNumber": disk.number, "PartitionNumber": disk.partition, "AccessPath": "C:\\VMs\\sql01\\"}
    host.run("Remove-PartitionAccessPath", where)
    with pytest.raises(NotAllowed, match="not connected there"):
        site.restore(name, "sql01").plan()
    host.run("Add-PartitionAccessPath", where)
    flow = site.restore(name, "sql01")
    assert [question.key for question in flow.plan().confirmations] == ["not-running"]
    flow.run_sync(accept={"not-running"})
    assert rows(lab, "sql01") == THEN
    sound(lab, "sql01")
    blocks_sound(lab)


@pytest.mark.long
def test_a_deleted_vm_comes_back_by_file_copy_too(site: Site, lab: labs.Lab) -> None:
    """Its files are gone as well, others of its LUN run on: all that the VM needs is copied out of the backup."""
    name = backed_up(site, lab, "app01")
    delete(site, "app01")
    site.tools().host.run("Remove-Item", {"LiteralPath": "V:\\app01", "Recurse": True, "Force": True})
    flow = site.restore(name, "app01")
    flow.run_sync(accept={"not-running"})
    assert [lun.method for lun in flow.record.state.luns] == [Method.FILE_COPY]
    assert rows(lab, "app01") == THEN
    sound(lab, "web01")


def test_a_disk_with_another_guid_is_no_disk_of_the_backup(stock: Stock) -> None:
    """Refused with both GUIDs, unless the reader knows better."""
    site = stock.site
    disk = next(d for d in site.tools().snapdrive.disks() if "V:\\" in d.access_paths)
    other = "{11111111-2222-3333-4444-555555555555}"
    for vm in ("app01", "web01"):
        site.tools().hyperv.ensure_off(site.tools().hyperv.vm(vm).id)
    site.tools().host.run("Set-Disk", {"Number": disk.number, "Guid": other})
    with pytest.raises(NotAllowed, match="GUID") as caught:
        site.restore(stock.backup, "app01").plan()
    assert other in (caught.value.why or "")
    site.restore(stock.backup, "app01", verify_snapshot=False).plan()


@pytest.mark.long
@pytest.mark.tr("R-10-05")
def test_a_safety_backup_leads_back_to_the_state_before_the_restore(site: Site, lab: labs.Lab) -> None:
    """The rows that the restore took are in it, and it is restored like any other backup."""
    name = backed_up(site, lab, "sql01")
    result = site.restore(name, "sql01", safety_backup=True).run_sync().result
    assert rows(lab, "sql01") == THEN
    site.restore(result.safety, "sql01").run_sync()
    assert rows(lab, "sql01") == dict.fromkeys(DATABASES, 600)
    sound(lab, "sql01")


@pytest.mark.tr("R-6.7-11")
def test_a_script_runs_after_the_restore_and_its_failure_is_told(stock: Stock) -> None:
    """One cmdlet of the table; what it is not, is refused before; a crash-consistent restore asks no VSS writer."""
    site = stock.site
    with pytest.raises(Unsendable):
        site.restore(stock.backup, "sql01", script="Format-Everything").plan()
    where = {"Path": "C:\\done", "ItemType": "Directory"}
    for told in ("ran", "failed"):  # the folder is there the second time
        flow = site.restore(stock.backup, "sql01", script="New-Item", script_parameters=where)
        assert told in flow.run_sync().result.script
    assert not [entry for entry in site.log.entries if entry.title in ("diskshadow.exe", "vssadmin.exe")]


@pytest.mark.tr("R-AS-01")
def test_a_vm_does_not_restore_itself(stock: Stock, monkeypatch: pytest.MonkeyPatch) -> None:
    """This computer has the hardware address of the VM's adapter: refused, since the restore would switch it off."""
    adapters = stock.site.tools().host.run("Get-VMNetworkAdapter", {"VMName": "sql01"}, select=("MacAddress",))
    monkeypatch.setattr(selfguard, "own_addresses", lambda: {str(adapters[0]["MacAddress"])})
    with pytest.raises(NotAllowed, match="inside the VM sql01"):
        stock.site.restore(stock.backup, "sql01").plan()
    stock.site.restore(stock.backup, "app01").plan()


def test_copies_that_do_not_fit_are_refused_before_the_vm_is_touched(stock: Stock) -> None:
    """The bytes needed and free are told; the VM runs on, nothing is left."""
    site = stock.site
    site.tools().host.run("New-VHD", {"Path": "V:\\big.vhd", "SizeBytes": 45 << 30, "Fixed": True})
    before = picture(site)
    with pytest.raises(NotAllowed, match="bytes free"):
        site.restore(stock.backup, "app01").run_sync()
    assert picture(site) == before


@pytest.fixture(scope="module")
def modern(tmp_path_factory: pytest.TempPathFactory) -> Iterator[labs.Lab]:
    """A stand-alone host of today: backups go through production checkpoints."""
    text = (Path(labs.__file__).parent / "topologies" / "standalone.toml").read_text("utf-8")
    path = tmp_path_factory.mktemp("modern") / "modern.toml"
    path.write_text(text.replace('era = "2012"', 'era = "2022"'), "utf-8")
    with labs.start(str(path)) as lab:
        yield lab


@pytest.mark.parametrize("vm", [pytest.param("sql01", marks=pytest.mark.long), "app01"])
def test_a_vm_never_starts_from_the_leaf_of_the_backup_s_checkpoint(modern: labs.Lab, vm: str) -> None:
    """In the image its configuration points at leaves, later than the backup: they are dropped, by either method."""
    with smhvlab.site.connect(modern.profile) as site:
        name = backed_up(site, modern, vm)
        then = site.tools().snapinfo.backup(name).vms[0]
        assert then.leaves
        site.restore(name, vm).run_sync()
        now = site.tools().hyperv.vm(vm)
        assert {disk.path for disk in now.disks} == set(then.leaves)
        assert site.tools().host.run("Get-VMSnapshot", {"VMName": vm}) == []
        assert rows(modern, vm) == THEN
        files = site.tools().snapdrive.files(now.disks[0].path.rpartition("\\")[0])
        assert not [path for path in files if path.endswith((".avhd", ".avhdx"))]


@pytest.mark.tr("R-6.7-01", "R-6.7-09", "R-6.7-10", "R-6.7-12", "R-4.1-01")
def test_clustered_vms_come_back_without_their_roles_and_on_an_alternate_host(
    cluster_site: Site, cluster_lab: labs.Lab
) -> None:
    """File copy on a shared volume, LUN clone of a cluster disk; the checklist says how to make them roles again."""
    copied = backed_up(cluster_site, cluster_lab, "sql01")
    whole = backed_up(cluster_site, cluster_lab, "file01", consistency="crash")
    with pytest.raises(NotAllowed, match="alternate host"):
        cluster_site.restore(whole, "file01", to_host="hv1").plan()
    with pytest.raises(NotFound, match="no host"):
        cluster_site.restore(copied, "sql01", to_host="nobody").plan()
    before = cluster_site.luns()
    first = cluster_site.restore(copied, "sql01", to_host="hv2")
    second = cluster_site.restore(whole, "file01")
    for flow, vm, accept in ((first, "sql01", {"not-running"}), (second, "file01", set[str]())):
        result = flow.run_sync(accept=accept).result
        assert any("Add-ClusterVirtualMachineRole" in line for line in result.checklist)
        assert rows(cluster_lab, vm) == THEN
    assert [lun.method for lun in first.record.state.luns] == [Method.FILE_COPY]
    assert [lun.method for lun in second.record.state.luns] == [Method.LUN_CLONE]
    table = cluster_site.vms().set_index("name")
    assert (table.loc["sql01", "host"], table.loc["file01", "host"]) == ("hv2", "hv2")
    groups = {str(r["Name"]) for r in cluster_site.tools().host.run("Get-ClusterGroup", select=("Name",))}
    assert not groups & {"sql01", "file01"}
    assert cluster_site.luns().equals(before)
    sound(cluster_lab, "app01")


def test_a_deleted_vm_of_a_node_that_is_down_comes_back_on_another_one(start: Start) -> None:
    """The refusal names the node and the way; there it is restored, for its shared volume has another owner."""
    lab = start("two-node-cluster-2012")
    with smhvlab.site.connect(lab.profile) as site:
        name = backed_up(site, lab, "web01")
        then = one_named("web01", site.tools().nodes.vms()).id
        node = site.tools().nodes["hv2"]
        Ground(site, node=node).discard_roles([then])
        node.hyperv.ensure_off(then)
        node.hyperv.ensure_removed(then)
        lab.host("hv2").power_off()
        lab.clock.advance(60)  # until the cluster knows
    with smhvlab.site.connect(lab.profile) as site:
        with pytest.raises(NotAllowed, match="was on hv2, which is down") as caught:
            site.restore(name, then).plan()
        assert "to_host='hv1'" in str(caught.value.next_action)
        site.restore(name, then, to_host="hv1").run_sync(accept={"not-running"})
        assert one_named("web01", site.tools().nodes.vms()).host == "hv1"


def recreate(site: Site, vm: str) -> str:
    """Somebody deletes a VM and makes another of the same name with two of its disks; the new one's id."""
    machine = site.tools().hyperv.vm(vm)
    delete(site, vm)
    host = site.tools().host
    host.run("New-VM", {"Name": vm, "NoVHD": True, "Generation": 1, "Path": "C:\\Others"})
    for number, disk in enumerate(machine.disks[:2]):
        where = {"ControllerType": "IDE", "ControllerNumber": 0, "ControllerLocation": number}
        host.run("Add-VMHardDiskDrive", {"VMName": vm, "Path": disk.path, **where})
    return site.tools().hyperv.vm(vm).id


@pytest.mark.parametrize("vm", ["app01", pytest.param("sql01", marks=pytest.mark.long)])
def test_a_vm_of_the_same_name_that_took_the_disks_is_not_overwritten(site: Site, lab: labs.Lab, vm: str) -> None:
    """A VM is its id: another of that name and its files are left alone, and the refusal names both ids."""
    name = backed_up(site, lab, vm)
    then = site.tools().hyperv.vm(vm).id
    other = recreate(site, vm)
    before = picture(site)
    for wanted in (vm, then):
        with pytest.raises(NotAllowed, match="belongs to another VM") as caught:
            site.restore(name, wanted).run_sync(accept={"not-running"})
        assert (other in caught.value.message, then in (caught.value.why or "")) == (True, True)
    assert picture(site) == before
    site.tools().hyperv.ensure_removed(other)
    site.restore(name, then).run_sync(accept={"not-running"})
    assert rows(lab, vm) == THEN


@pytest.mark.tr("R-6.7-06")
def test_a_volume_that_was_made_anew_is_no_volume_of_the_backup(stock: Stock) -> None:
    """The disk is that of then, its partition is not: refused with both names, unless the reader knows better."""
    site = stock.site
    for vm in ("app01", "web01"):
        site.tools().hyperv.ensure_off(site.tools().hyperv.vm(vm).id)
    host = site.tools().host
    disk = next(d for d in site.tools().snapdrive.disks() if "V:\\" in d.access_paths)
    host.run("Remove-Partition", {"DiskNumber": disk.number, "PartitionNumber": disk.partition})
    made = host.run("New-Partition", {"DiskNumber": disk.number, "UseMaximumSize": True}, select=("PartitionNumber",))
    number = int(made[0]["PartitionNumber"])
    host.run("Add-PartitionAccessPath", {"DiskNumber": disk.number, "PartitionNumber": number, "AccessPath": "V:\\"})
    with pytest.raises(NotAllowed, match=r"volume at V:.* has another GUID") as caught:
        site.restore(stock.backup, "app01").plan()
    assert disk.volume_path in (caught.value.why or "")


@pytest.mark.tr("R-6.7-01")
def test_a_drive_letter_that_has_changed_is_not_restored_to(stock: Stock) -> None:
    """The volume of then under another letter: the refusal says where it belongs."""
    site = stock.site
    disk = next(d for d in site.tools().snapdrive.disks() if "V:\\" in d.access_paths)
    where = {"DiskNumber": disk.number, "PartitionNumber": disk.partition, "AccessPath": "W:\\"}
    site.tools().host.run("Add-PartitionAccessPath", where)  # a partition has one letter: it takes the place of V:
    with pytest.raises(NotAllowed, match=r"V:.* is not connected there"):
        site.restore(stock.backup, "app01").plan()


def test_a_restore_while_others_are_at_work_on_the_vm_is_refused(stock: Stock) -> None:
    """A backup of its dataset or another restore of it, in this process or another: wait for its end."""
    site, seen = stock.site, []

    def refused(event: Event) -> None:
        if isinstance(event, StepStarted) and not seen:
            with smhvlab.site.connect(stock.lab.profile) as other, pytest.raises(NotAllowed) as caught:
                other.restore(stock.backup, "app01").plan()
            seen.append(caught.value.message)

    told = []
    for flow in (site.backup("Set", consistency="crash"), site.restore(stock.backup, "app01")):
        flow.on_event = refused
        flow.run_sync()
        told.append(seen.pop())
    assert told == ["A backup of app01 is under way (dataset Set)", "A restore of app01 is under way"]


def test_a_leaf_of_the_backup_s_checkpoint_is_not_taken_by_mistake(modern: labs.Lab) -> None:
    """Copied out only after its warning was accepted; the tree says what it is; there is no first Snapshot copy."""
    modern.restore("fresh")
    with smhvlab.site.connect(modern.profile) as site:
        name = backed_up(site, modern, "app01")
        leaf = next(iter(site.tools().snapinfo.backup(name).vms[0].leaves.values()))
        with pytest.raises(ConfirmationNeeded) as caught:
            site.restore_file(name, host_path=leaf, to="C:\\leaf.avhd").run_sync()
        assert caught.value.needed == ("not-recovered",)
        with pytest.raises(NotAllowed, match="one Snapshot copy"):
            site.mount(name, copy="first").plan()
        site.mount(name).run_sync()
        tree = site.tree(name)
        tree.go((*tree.path, "files of the host", "app01"))
        about = {node.name: node.about for node in tree.nodes}
        assert "not the disk of the backup" in about[leaf.rpartition("\\")[2]]
        assert "not the disk" not in about["app01_vhd0.vhd"]
        site.unmount(name).run_sync()


def test_a_lun_that_was_moved_to_another_volume_is_refused(stock: Stock) -> None:
    """The volume of the backup is there and the LUN is in another: what has the image's path there may be another's."""
    tools = stock.site.tools()
    backup = tools.snapinfo.backup(stock.backup)
    other = tools.storage.volume("vm_shared", svm="svm1")
    assert other is not None
    luns = tuple(replace(lun, volume=other.name, volume_uuid=other.uuid) for lun in backup.luns)
    tools.snapinfo.ensure_backup(replace(backup, name="Set_01-01-2013_00.00.00", luns=luns))
    with pytest.raises(NotAllowed, match="was moved from volume vm_shared to vm_sql01") as caught:
        stock.site.restore("Set_01-01-2013_00.00.00", "sql01").plan()
    assert "Move it back to vm_shared" in caught.value.next_action
