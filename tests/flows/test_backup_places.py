"""Where files of a backup may not lie, VMs that are off, and how long busy clones are waited for (TR 5.4, 6.2, 6.4)."""

from __future__ import annotations

from typing import Literal

import pytest

import smhvlab.site
from labenv.lab import Lab
from smhvlab.errors import BackupFailed, CannotBackUp, NotAllowed, OntapError
from smhvlab.nodes import REGISTRY
from smhvlab.site import Site
from tests.flows.checks import lun_clone, picture
from tests.flows.conftest import Start

KINDS: tuple[Literal["application", "crash"], ...] = ("application", "crash")
ERAS = [pytest.param("2008r2", marks=pytest.mark.long), "2012", pytest.param("2022", marks=pytest.mark.long)]


def begun(start: Start, era: str) -> tuple[Lab, Site]:
    """A site with a dataset of two VMs on two LUNs."""
    lab = start(f"standalone-{era}")
    site = smhvlab.site.connect(lab.profile)
    site.create_dataset("Set", ["sql01", "app01"])
    return lab, site


@pytest.mark.tr("R-6.2-13", "R-4.1-01")
@pytest.mark.parametrize("era", ERAS)
def test_files_outside_the_array_s_luns_are_refused(start: Start, era: str) -> None:
    """A virtual disk, the parent of one, the checkpoints on the host's own disk: named, refused, nothing is left."""
    _, site = begun(start, era)
    with site:
        host = site.tools().host
        drive = {"VMName": "app01", "ControllerType": "SCSI"}
        host.run("New-VHD", {"Path": "C:\\local.vhd", "SizeBytes": 4 << 20, "Fixed": True})
        host.run("New-VHD", {"Path": "V:\\child.vhd", "ParentPath": "C:\\local.vhd", "Differencing": True})
        host.run("Set-VM", {"Name": "app01", "SnapshotFileLocation": "C:\\checkpoints"})
        before = picture(site)
        said = ["C:\\checkpoints\\"]
        for path in ("C:\\local.vhd", "V:\\child.vhd", ""):
            for consistency in KINDS:
                with pytest.raises(NotAllowed, match="is not on a LUN of cluster1") as caught:
                    site.backup("Set", consistency=consistency).run_sync()
                assert caught.value.tr == "6.2"
                assert caught.value.message.startswith(said[-1])
            host.run("Set-VM", {"Name": "app01", "SnapshotFileLocation": "V:\\app01"})
            for disk in (disk for vm in site.tools().hyperv.vms() for disk in vm.disks if disk.path in said):
                at = {"ControllerNumber": disk.controller_number, "ControllerLocation": disk.controller_location}
                host.run("Remove-VMHardDiskDrive", drive | at)
            if path:
                host.run("Add-VMHardDiskDrive", drive | {"Path": path})
                said += ["C:\\local.vhd"]
        assert picture(site) == before


@pytest.mark.tr("R-5.4-03", "R-11.8-01")
def test_snapinfo_lies_on_a_lun_in_a_volume_of_its_own(start: Start) -> None:
    """On the host's own disk, in a volume of the dataset, or on a share: refused for either type of backup."""
    _, site = begun(start, "2012")
    with site:
        for folder, said, section in (
            ("C:\\SnapInfo", "is not on a LUN of the array", "5.4"),
            ("V:\\SnapInfo", "SnapInfo shares the volume", "5.4"),
        ):
            site.set_snapinfo(folder)
            site.create_dataset("Here", ["app01"])
            for consistency in KINDS:
                with pytest.raises(NotAllowed, match=said) as caught:
                    site.backup("Here", consistency=consistency).run_sync()
                assert caught.value.tr == section
                assert caught.value.next_action
        share = "\\\\files\\snapinfo"
        with pytest.raises(NotAllowed, match="is on an SMB share"):
            site.set_snapinfo(share)
        value = {"LiteralPath": REGISTRY, "Name": "SnapInfoPath", "Value": share}  # as somebody could by hand
        site.tools().host.run("Set-ItemProperty", value)
    with smhvlab.site.connect(site.profile) as again:
        for consistency in KINDS:
            with pytest.raises(NotAllowed, match="is on an SMB share") as caught:
                again.backup("Here", consistency=consistency).run_sync()
            assert caught.value.tr == "11.8"


@pytest.mark.tr("R-6.4-01", "R-6.2-18")
@pytest.mark.parametrize("era", ERAS)
def test_vms_that_are_off_or_saved_are_refused_unless_the_policy_allows_it(start: Start, era: str) -> None:
    """Both are named with their state; allowed, they are in the backup as they are; a crash one needs no leave."""
    _, site = begun(start, era)
    with site:
        site.tools().hyperv.ensure_off(site.tools().hyperv.vm("sql01").id)
        site.tools().host.run("Save-VM", {"Name": "app01"})
        before = picture(site)
        with pytest.raises(CannotBackUp) as caught:
            site.backup("Set").run_sync()
        assert caught.value.vms == ("sql01", "app01")
        told = str(caught.value)
        assert "is Off" in told
        assert "is Saved" in told
        assert picture(site) == before
        assert site.backup("Set", consistency="crash").plan()
        backup = site.backup("Set", allow_saved_state=True).run_sync().result.backup
        assert {vm.name: vm.evidence.how for vm in backup.vms} == {"sql01": "off", "app01": "off"}
        states = site.vms().set_index("name")["state"]
        assert (states["sql01"], states["app01"]) == ("Off", "Saved")


@pytest.mark.tr("R-AG-03", "R-6.2-08")
@pytest.mark.parametrize(
    ("era", "seconds"),
    [("2012", 45), *(pytest.param(era, 2000, marks=pytest.mark.long) for era in ("2012", "2022"))],
)
def test_busy_clones_delay_a_backup_and_a_hundred_tries_end_it(start: Start, era: str, seconds: int) -> None:
    """A LUN clone that is being made in the volume: the Snapshot copy comes after it, or not at all after 990 s."""
    lab, site = begun(start, era)
    with site:
        lab.faults.cause("slow-clone-sharing", seconds=seconds)
        lun_clone(site.tools().storage, "/vol/vm_sql01/more", source="/vol/vm_sql01/golden", svm="svm1")
        before, began = picture(site), lab.clock.now
        flow = site.backup("Set", consistency="crash")
        if seconds < 990:
            flow.run_sync()
            assert 30 < (lab.clock.now - began).total_seconds() < 200
            return
        with pytest.raises(OntapError) as caught:
            flow.run_sync()
        assert caught.value.code == "53411918"  # of the group; the reason is in its text
        assert 990 <= (lab.clock.now - began).total_seconds() < 1200
        assert picture(site) == before


@pytest.mark.long
@pytest.mark.tr("R-AG-03", "R-6.2-08")
def test_a_provider_that_waits_in_vain_for_its_clones_takes_the_set_back(start: Start) -> None:
    """The second Snapshot copy is tried a hundred times, ten seconds apart; then nothing of the set is left."""
    lab, site = begun(start, "2012")
    with site:
        before, began = picture(site), lab.clock.now
        lab.faults.cause("slow-clone-sharing", seconds=1500)
        with pytest.raises(BackupFailed):
            site.backup("Set").run_sync()
        assert (lab.clock.now - began).total_seconds() >= 990
        lab.faults.mend("slow-clone-sharing")
        assert picture(site) == before


@pytest.mark.tr("R-10-01", "R-6.2-12")
@pytest.mark.parametrize("era", ERAS)
def test_a_volume_full_of_snapshot_copies_takes_no_crash_consistent_backup(start: Start, era: str) -> None:
    """With 255 of them in one of the volumes there is no copy in any other either."""
    lab, site = begun(start, era)
    with site:
        lab.faults.cause("snapshots-full", volume="vm_shared", leave=0)
        before = picture(site)
        with pytest.raises(OntapError) as caught:
            site.backup("Set", consistency="crash").run_sync()
        assert caught.value.next_action
        assert picture(site) == before
