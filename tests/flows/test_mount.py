"""Mounting a backup and unmounting it, over both wires (TR 6.8)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from smhvlab.errors import ConfirmationNeeded, NameTaken, NotAllowed, NotFound, NotUnique, OntapError, SmhvLabError
from smhvlab.leftovers import leftovers
from smhvlab.mount.image import Images
from smhvlab.site import Site
from tests.flows.checks import blocks_sound, picture
from tests.flows.conftest import Stock

ACCEPT = frozenset({"not-recovered"})


@pytest.mark.tr("R-6.8-01", "R-6.8-05", "R-6.8-07", "R-6.8-10")
def test_a_mounted_backup_is_browsed_at_its_letter_and_keeps_its_snapshot_copy_busy(stock: Stock) -> None:
    """The VM's files as of the backup appear at the letter; the copy cannot be deleted before the unmount."""
    site, name = stock.site, stock.backup
    before = picture(site)
    flow = site.mount(name, lun="app01", at="m:")
    flow.run_sync(accept=ACCEPT)
    assert "M:\\app01\\app01_vhd0.vhd" in site.tools().snapdrive.files("M:\\")
    assert list(site.mounts()["path"]) == ["M:\\"]
    held = site.busy().set_index("volume").loc["vm_shared"]
    assert (held["snapshot"], held["next"]) == (name, f'site.unmount("{flow.record.state.name}")')
    volume = flow.record.state.image.parent
    with pytest.raises(OntapError) as caught:
        site.tools().storage.discard_snapshots([volume], name)
    assert caught.value.code == "1638555"
    end = site.unmount("M:")
    assert end.plan().losses == ("What was written to M:\\ since it was mounted goes with it.",)
    end.run_sync()
    assert picture(site) == before
    assert "vm_shared" not in set(site.busy()["volume"])
    site.tools().storage.discard_snapshots([volume], name)
    blocks_sound(stock.lab)


@pytest.mark.tr("R-6.8-02")
def test_an_image_that_was_not_recovered_is_a_warning(stock: Stock) -> None:
    """A crash-consistent copy is mounted only after its warning was accepted; nothing happens before."""
    site, name = stock.site, stock.backup
    before = picture(site)
    with pytest.raises(ConfirmationNeeded) as caught:
        site.mount(name, lun="sql01").run_sync()
    assert caught.value.needed == ("not-recovered",)
    assert picture(site) == before


@pytest.mark.long
def test_two_mounts_of_one_backup_stand_side_by_side(stock: Stock) -> None:
    """Each has a path, a disk signature and a clone of its own; a name that fits both is refused."""
    site, name = stock.site, stock.backup
    before = picture(site)
    for _ in range(2):
        site.mount(name, lun="app01").run_sync(accept=ACCEPT)
        site.sleep(1)
    mounts = site.mounts()
    assert mounts["path"].nunique() == mounts["clone"].nunique() == 2
    guids = [disk.guid for disk in site.tools().snapdrive.disks()]
    assert len(set(guids)) == len(guids)
    with pytest.raises(NotUnique):
        site.unmount(name).plan()
    for mount in mounts["name"]:
        site.unmount(mount).run_sync()
    assert picture(site) == before


@pytest.mark.tr("R-6.8-06")
def test_initiator_groups_are_managed_automatically_or_by_hand(stock: Stock) -> None:
    """Automatic takes the group that holds exactly the host, else makes one, which goes with the mount."""
    site, name = stock.site, stock.backup
    storage = site.tools().storage
    iqn = site.tools().snapdrive.initiator()
    assert site.mount(name, lun="app01").plan().state.igroup == "hv1"
    storage.ensure_igroup("by_hand", [iqn], svm="svm1")
    assert site.mount(name, lun="app01", igroup="by_hand").plan().state.igroup == "by_hand"
    with pytest.raises(NotFound, match="no initiator group nothing"):
        site.mount(name, lun="app01", igroup="nothing").plan()
    storage.discard_igroup("by_hand", svm="svm1")
    storage.ensure_igroup("others", ["iqn.1991-05.com.microsoft:other"], svm="svm1")
    with pytest.raises(NotAllowed, match="does not hold"):
        site.mount(name, lun="app01", igroup="others").plan()


@pytest.mark.tr("R-6.8-06")
def test_a_made_initiator_group_is_for_its_initiators_only(stock: Stock) -> None:
    """Other sets with the same first one get other names; one that others have made is neither used nor removed."""
    site = stock.site
    one, two, three = (f"iqn.1991-05.com.microsoft:{name}" for name in "abc")
    tools = site.tools()
    shown = site.mount(stock.backup, lun="app01").plan().state.image
    images = Images(tools.storage, tools.nodes.own(), tools.nodes)
    both = replace(shown, igroup=f"viaRPC.{one}", made_for=(one, two))
    assert images.igroup("svm1", [two, one]) == (both.igroup, both.made_for)
    images.ensure_igroup(both)
    images.ensure_igroup(both)
    assert images.igroup("svm1", [two, one]) == (both.igroup, ())
    assert images.igroup("svm1", [one]) == (f"viaRPC.{one}_2", (one,))
    tools.storage.ensure_igroup(f"viaRPC.{one}_2", [one, three], svm="svm1")
    late = replace(shown, igroup=f"viaRPC.{one}_2", made_for=(one,))
    with pytest.raises(NameTaken, match="holds others than") as caught:
        images.ensure_igroup(late)
    assert "plan again" in caught.value.next_action
    images.discard_igroup(late)
    images.discard_igroup(both)
    assert set(tools.storage.igroups("svm1")) & {both.igroup, late.igroup} == {late.igroup}


REFUSED: tuple[tuple[dict[str, object], type[SmhvLabError]], ...] = (
    ({}, NotUnique),
    ({"lun": "nothing"}, NotFound),
    ({"lun": "app01", "at": "V:"}, NameTaken),
    ({"lun": "app01", "at": "S:\\SnapInfo"}, NameTaken),
    ({"lun": "app01", "at": "X:\\folder"}, NotFound),
    ({"lun": "app01", "at": "elsewhere"}, NotAllowed),
    ({"lun": "app01", "copy": "second"}, NotAllowed),
    ({"lun": "app01", "initiator": "iqn.nobody"}, NotFound),
    ({"lun": "app01", "csv": True}, NotAllowed),
    ({"lun": "app01", "group": "Available Storage"}, NotAllowed),
)


def test_what_cannot_be_mounted_is_refused(stock: Stock) -> None:
    """One error that names the argument and what there is; nothing is changed."""
    site = stock.site
    before = site.log.counts().changes
    for arguments, error in REFUSED:
        with pytest.raises(error) as caught:
            site.mount(stock.backup, **arguments).run_sync(accept=ACCEPT)  # type: ignore[arg-type]
        assert caught.value.next_action
    assert site.log.counts().changes == before


@pytest.mark.long
def test_a_mount_whose_disk_does_not_arrive_leaves_nothing(stock: Stock) -> None:
    """Everything is taken back: no clone, no map, no folder."""
    site, name = stock.site, stock.backup
    before = picture(site)
    stock.lab.faults.set("windows.cmdlet", "error", match={"cmdlet": "Add-PartitionAccessPath"}, code="x", times=1)
    with pytest.raises(SmhvLabError):
        site.mount(name, lun="app01").run_sync(accept=ACCEPT)
    assert picture(site) == before
    assert leftovers(site.tools(), pending=False) == []


def test_a_mounted_backup_that_a_vm_uses_is_not_unmounted(stock: Stock) -> None:
    """The refusal names the VM and the file."""
    site, name = stock.site, stock.backup
    site.mount(name, lun="app01", at="M:").run_sync(accept=ACCEPT)
    host = site.tools().host
    host.run("New-VHD", {"Path": "M:\\leaf.vhd", "ParentPath": "M:\\app01\\app01_vhd1.vhd", "Differencing": True})
    host.run("Add-VMHardDiskDrive", {"VMName": "web01", "ControllerType": "SCSI", "Path": "M:\\leaf.vhd"})
    with pytest.raises(NotAllowed, match="web01"):
        site.unmount("M:").plan()


def test_what_nobody_will_take_away_is_found(stock: Stock) -> None:
    """A mount whose clone was deleted by hand, a clone and a folder that nobody knows of."""
    site, name = stock.site, stock.backup
    flow = site.mount(name, lun="app01")
    flow.run_sync(accept=ACCEPT)
    tools = site.tools()
    tools.storage.discard_volume(flow.record.state.image.clone, svm="svm1")
    volume = flow.record.state.image.parent
    tools.storage.ensure_volume_clone("smhvlab_stray", parent=volume, snapshot=name)
    tools.host.run("New-Item", {"Path": "C:\\smhvlab\\stray", "ItemType": "Directory", "Force": True})
    remains = leftovers(tools, pending=False)
    found = {(left.kind, left.name) for left in remains}
    assert "was made at 2013-03-04 08:" in next(left.why for left in remains if left.name == "smhvlab_stray")
    assert found == {
        ("mount", flow.record.state.name),
        ("FlexClone volume", "smhvlab_stray"),
        ("folder", "C:\\smhvlab\\stray"),
    }
    site.unmount(flow.record.state.name).run_sync()
    assert site.mounts().empty


def test_a_virtual_disk_that_nobody_has_initialized_is_no_obstacle(site: Site) -> None:
    """It has no partition to show: the mount, a single file and the way back do without."""
    host = site.tools().host
    host.run("New-VHD", {"Path": "V:\\app01\\raw.vhd", "SizeBytes": 2 << 30, "Dynamic": True})
    host.run("Add-VMHardDiskDrive", {"VMName": "app01", "ControllerType": "SCSI", "Path": "V:\\app01\\raw.vhd"})
    site.create_dataset("Set", ["app01"])
    before = picture(site)
    name = site.backup("Set", consistency="crash").run_sync().result.backup.name
    site.mount(name, lun="app01", at="M:", guests=True).run_sync(accept=ACCEPT)
    site.unmount("M:").run_sync()
    site.restore_file(name, "app01", guest_path="E:\\SQL\\bb1.mdf", to="C:\\bb1.mdf").run_sync()
    assert picture(site).luns == before.luns
    assert leftovers(site.tools(), pending=False) == []
