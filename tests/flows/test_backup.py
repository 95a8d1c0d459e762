"""Crash-consistent backup, over both wires (TR 6.2, 10)."""

from __future__ import annotations

import re

import pytest
from netapp_ontap.resources.volume import Volume

from labenv.lab import Lab
from smhvlab.errors import NotAllowed, NotFound, OntapError, PlanChanged, SmhvLabError
from smhvlab.site import Site
from smhvlab.wires.control import Wire
from tests.flows.checks import blocks_sound, lun_clone, picture


@pytest.mark.tr("R-6.2-01", "R-6.2-14", "R-6.2-15", "R-8-03", "R-1-01", "R-3.4-06")
def test_one_snapshot_copy_per_volume_whatever_the_number_of_vms(site: Site, lab: Lab) -> None:
    """Two VMs on one LUN cost one Snapshot copy, named after dataset and time, and one of SnapInfo."""
    site.create_dataset("Apps", ["app01", "web01"])
    done = site.backup("Apps", consistency="crash").run_sync().result
    assert re.fullmatch(r"Apps_\d\d-\d\d-\d{4}_\d\d\.\d\d\.\d\d", done.backup.name)
    taken = site.snapshots()
    mine = taken[taken["snapshot"] == done.backup.name]
    assert sorted(mine["volume"]) == ["snapinfo", "vm_shared"]
    row = site.backups().iloc[0]
    assert (row["type"], row["vms"]) == ("Crash-consistent", "app01, web01")
    assert set(site.vms().set_index("name").loc[["app01", "web01"], "state"]) == {"Running"}
    blocks_sound(lab)


@pytest.mark.tr("R-10-02")
def test_several_volumes_are_taken_at_one_point_in_time(site: Site) -> None:
    """A dataset over two volumes is taken through a consistency group that is gone afterwards; the record says so."""
    site.create_dataset("Mixed", ["sql01", "app01"])
    done = site.backup("Mixed", consistency="crash").run_sync().result
    assert done.backup.common_point
    times = site.snapshots().query("snapshot == @done.backup.name and volume != 'snapinfo'")["create_time"]
    assert len(times) == 2
    assert times.nunique() == 1
    assert site.tools().storage.grouped_volumes() == set()


def test_a_volume_that_is_in_another_group_has_no_common_point(site: Site) -> None:
    """A volume can be in one consistency group only: then the record says that there is no common point."""
    storage = site.tools().storage
    volume = storage.volume("vm_sql01", svm="svm1")
    assert volume is not None
    storage.ensure_group("other", [volume])
    site.create_dataset("Mixed", ["sql01", "app01"])
    done = site.backup("Mixed", consistency="crash").run_sync().result
    assert not done.backup.common_point
    assert any("no common point" in sentence for sentence in done.backup.evidence)


def test_a_group_can_be_dissolved_twice(site: Site) -> None:
    """A run that was killed after the group's end dissolves it once more when it is resumed, and is not refused."""
    storage = site.tools().storage
    volume = storage.volume("vm_sql01", svm="svm1")
    assert volume is not None
    group = storage.ensure_group("ours", [volume])
    for _ in range(2):
        storage.discard_group("ours", uuid=group)
        assert storage.grouped_volumes() == set()


def test_an_existing_group_over_exactly_these_volumes_is_used(site: Site) -> None:
    """A consistency group that holds just the dataset's volumes is used and stays."""
    storage = site.tools().storage
    volumes = [v for name in ("vm_shared", "vm_sql01") if (v := storage.volume(name, svm="svm1")) is not None]
    group = storage.ensure_group("ours", volumes)
    site.create_dataset("Mixed", ["sql01", "app01"])
    assert site.backup("Mixed", consistency="crash").run_sync().result.backup.common_point
    assert storage.groups() == {group: ("ours", frozenset(volume.uuid for volume in volumes))}


def test_array_requests_depend_on_volumes_not_on_vms(site: Site) -> None:
    """Backing up two VMs of one volume sends exactly as many array requests as backing up one of them."""

    def requests(dataset: str) -> int:
        before = len([e for e in site.log.entries if e.wire is Wire.REST])
        site.backup(dataset, consistency="crash").run_sync()
        return len([e for e in site.log.entries if e.wire is Wire.REST]) - before

    site.create_dataset("One", ["app01"])
    site.create_dataset("Two", ["app01", "web01"])
    assert requests("One") == requests("Two")


@pytest.mark.tr("R-6.3-13", "R-5.4-10")
def test_the_snapinfo_copy_holds_the_registration(site: Site, lab: Lab) -> None:
    """The Snapshot copy of the SnapInfo LUN is taken after the backup was registered, with the file's bytes in it."""
    site.create_dataset("Apps", ["app01"])
    done = site.backup("Apps", consistency="crash").run_sync().result
    storage, tools = site.tools().storage, site.tools()
    clone = lun_clone(
        storage, "/vol/snapinfo/look", source=f"/vol/snapinfo/.snapshot/{done.backup.name}/snapinfo", svm="svm1"
    )
    tools.snapdrive.ensure_connected(clone, igroup="hv1", access_path="X:\\")
    assert f"X:\\SnapInfo\\Backups\\Apps\\{done.backup.name}.json" in tools.snapdrive.files("X:\\")


@pytest.mark.tr("R-6.2-10")
def test_a_file_outside_the_array_is_refused(site: Site) -> None:
    """A VM with a VHD on the host's own disk cannot be backed up; the error names the file and nothing is changed."""
    host = site.tools().host
    host.run("New-VHD", {"Path": "C:\\local.vhd", "SizeBytes": 1 << 30, "Fixed": True})
    host.run("Add-VMHardDiskDrive", {"VMName": "app01", "ControllerType": "SCSI", "Path": "C:\\local.vhd"})
    site.create_dataset("Apps", ["app01"])
    before = picture(site)
    with pytest.raises(NotAllowed, match=r"C:\\local.vhd"):
        site.backup("Apps", consistency="crash").run_sync()
    assert picture(site) == before


def test_datasets_are_checked_when_they_are_made(site: Site) -> None:
    """An unknown VM, no VM, an impossible name and a taken name are refused; members are kept by id."""
    with pytest.raises(NotFound, match="nobody"):
        site.create_dataset("Apps", ["nobody"])
    with pytest.raises(NotAllowed):
        site.create_dataset("Apps", [])
    with pytest.raises(NotAllowed, match="A b"):
        site.create_dataset("A b", ["app01"])
    made = site.create_dataset("Apps", ["app01"])
    with pytest.raises(NotAllowed, match="exists"):
        site.create_dataset("apps", ["web01"])
    assert made.members[0].id == site.vms().set_index("name").loc["app01", "id"]
    with pytest.raises(NotFound, match="Nothing"):
        site.backup("Nothing", consistency="crash").run_sync()


def test_the_snapshot_limit_fails_the_backup_and_leaves_no_trace(site: Site) -> None:
    """The 256th Snapshot copy of a volume is refused by the array; the half-made backup is taken back."""
    tools = site.tools()
    volume = tools.storage.volume("vm_shared", svm="svm1")
    assert volume is not None
    for number in range(255):
        tools.storage.ensure_snapshots([volume], f"filler{number}")
    site.create_dataset("Apps", ["app01"])
    before = picture(site)
    with pytest.raises(OntapError) as caught:
        site.backup("Apps", consistency="crash").run_sync()
    assert caught.value.code == "525062"
    assert picture(site) == before


def test_a_lost_reply_is_looked_up_and_not_sent_again(site: Site, lab: Lab) -> None:
    """The Snapshot copy was made but its answer was lost: the run is undone or goes on, and no copy is left over."""
    site.create_dataset("Apps", ["app01"])
    before = picture(site)
    lab.faults.set("ontap.request", "lose-reply", match={"method": "POST", "path": "*snapshots*"}, times=1)
    try:
        site.backup("Apps", consistency="crash").run_sync()
    except SmhvLabError:
        assert picture(site) == before
    else:
        assert len(site.backups()) == 1
    posts = [e for e in site.log.entries if e.title.startswith("POST") and "snapshots" in e.title]
    assert len(posts) == len({e.request for e in posts})


def test_a_full_snapinfo_lun_fails_the_backup_and_leaves_no_trace(site: Site) -> None:
    """No room for the registration: the Snapshot copies that were taken already are removed again."""
    site.create_dataset("Apps", ["app01"])
    host = site.tools().host
    free = int(host.run("Get-Volume", {"DriveLetter": "S"}, select=("SizeRemaining",))[0]["SizeRemaining"])
    host.run("New-VHD", {"Path": "S:\\filler.vhd", "SizeBytes": (free >> 20 << 20) - (1 << 20), "Fixed": True})
    for size in (200_000, 1):
        for number in range(200):
            path = f"S:\\filler{size}_{number}.txt"
            try:
                host.run("Set-Content", {"LiteralPath": path, "Value": "x" * size, "NoNewline": True})
            except SmhvLabError:
                break
        else:
            pytest.fail("the LUN never became full")
    before = picture(site)
    with pytest.raises(SmhvLabError, match="space"):
        site.backup("Apps", consistency="crash").run_sync()
    assert picture(site) == before


@pytest.mark.tr("R-4.1-04")
def test_a_full_thin_volume_takes_the_lun_offline_and_the_error_says_so(site: Site, lab: Lab) -> None:
    """The array has no block left for a thin LUN: the VM on it stops, the next backup is refused, others go on."""
    tools = site.tools()
    volume = tools.storage.volume("vm_sql01", svm="svm1")
    assert volume is not None
    used = lab.inspect.usage("vm_sql01")["used"]
    tools.rest.wait([tools.rest.modify(Volume(uuid=volume.uuid), {"size": max(used + (8 << 20), 20 << 20)})])

    def write_on() -> None:
        for _ in range(200):
            tools.sql.insert("sql01", "bb1", 5000)
            lab.guest("sql01").flush()

    with pytest.raises(SmhvLabError):
        write_on()
    assert tools.hyperv.vm("sql01").state != "Running"
    assert tools.sql.insert("app01", "bb1", 1) == 1


def test_a_plan_stays_good_while_time_passes_but_only_for_one_run(site: Site, lab: Lab) -> None:
    """Minutes may pass before the approval; a second run would find all names of the plan there, and do nothing."""
    site.create_dataset("Apps", ["app01"])
    flow = site.backup("Apps", consistency="crash")
    plan = flow.plan()
    lab.clock.advance(600)
    name = flow.run_sync(plan=plan).result.backup.name
    assert name == plan.state.name
    with pytest.raises(PlanChanged, match="this plan is that of run"):
        site.backup("Apps", consistency="crash").run_sync(plan=plan)
    assert list(site.backups()["name"]) == [name]


@pytest.mark.tr("R-6.2-10")
def test_what_a_checkpoint_is_based_on_belongs_to_the_backup(site: Site) -> None:
    """The VM writes to the checkpoint's disks; the VHDs below them are recorded, and their LUN is in the backup."""
    machine = site.tools().hyperv.vm("sql01")
    site.tools().host.pair(("Get-VM", {"Id": machine.id}), ("Checkpoint-VM", {"SnapshotName": "before"}))
    site.create_dataset("Set", ["sql01"])
    (vm,) = site.backup("Set", consistency="crash").run_sync().result.backup.vms
    assert vm.parents == tuple(disk.path for disk in machine.disks)
    assert site.tools().snapinfo.backups()[0].vms == (vm,)
