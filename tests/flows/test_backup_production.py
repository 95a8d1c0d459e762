"""Backups through production checkpoints: what they refuse, and that no checkpoint outlives one (TR 6.2, 6.4)."""

from __future__ import annotations

import pytest

import smhvlab.site
from labenv.lab import Lab
from smhvlab.errors import BackupFailed, NotAllowed, OntapError, SmhvLabError
from smhvlab.site import Site
from tests.flows.checks import Picture, lun_clone, picture
from tests.flows.conftest import Start


def beside(site: Site) -> tuple[Picture, list[object], list[tuple[str, str]]]:
    """The site with its checkpoints, and the kind of checkpoint that each VM makes."""
    host = site.tools().host
    found = host.run("Get-VMSnapshot", {"VMName": "*"}, select=("Id", "Name"), error_action="Continue")
    kinds = [(vm.name, vm.checkpoint_type) for vm in site.tools().nodes.vms()]
    return picture(site), [record["Name"] for record in found], kinds


def begun(start: Start) -> tuple[Lab, Site]:
    """A site of today with a dataset of two VMs on two LUNs."""
    lab = start("standalone-2022")
    site = smhvlab.site.connect(lab.profile)
    site.create_dataset("Set", ["sql01", "app01"])
    return lab, site


@pytest.mark.tr("R-6.2-03", "R-6.2-16", "R-10-01", "R-6.3-02")
@pytest.mark.parametrize(
    ("cause", "options", "error", "code"),
    [
        ("guest-volume-full", {"vm": "app01"}, BackupFailed, "18014"),
        ("integration-service-off", {"vm": "app01"}, NotAllowed, None),
        ("snapshots-full", {"volume": "vm_shared", "leave": 0}, OntapError, None),
        ("array-refuses", {"path": "*/snapshots"}, OntapError, None),
    ],
)
def test_a_guest_that_cannot_take_part_fails_the_backup_and_leaves_no_checkpoint(
    start: Start, cause: str, options: dict[str, object], error: type[SmhvLabError], code: str | None
) -> None:
    """Never a crash-consistent image in the place of the other, nor a standard checkpoint or a saved VM."""
    lab, site = begun(start)
    with site:
        before = beside(site)
        lab.faults.cause(cause, **options)
        full = picture(site)
        with pytest.raises(error) as caught:
            site.backup("Set", allow_saved_state=True).run_sync()
        assert code is None or caught.value.code == code
        assert caught.value.next_action
        assert picture(site) == full
        lab.faults.mend(cause)
        assert beside(site)[1:] == before[1:]


@pytest.mark.tr("R-4.1-02", "R-10-01")
def test_a_vm_with_a_physical_disk_makes_no_production_checkpoint(start: Start) -> None:
    """Hyper-V makes no checkpoint of it: refused beforehand, with the type of backup that can be made."""
    _, site = begun(start)
    with site:
        tools = site.tools()
        lun = lun_clone(tools.storage, "/vol/vm_sql01/raw", source="/vol/vm_sql01/golden", svm="svm1")
        tools.storage.ensure_map(lun, "hv1")
        disk = tools.snapdrive.arrived(lun)
        if not disk.offline:
            tools.host.run("Set-Disk", {"Number": disk.number, "IsOffline": True})
        tools.host.run("Add-VMHardDiskDrive", {"VMName": "app01", "ControllerType": "SCSI", "DiskNumber": disk.number})
        with pytest.raises(NotAllowed, match="app01 has a pass-through disk") as caught:
            site.backup("Set").plan()
        assert "crash-consistent" in str(caught.value.next_action)
        assert site.backup("Set", consistency="crash").plan().state.excluded


@pytest.mark.tr("R-6.2-16", "R-12-09", "R-3.4-01")
@pytest.mark.parametrize(
    ("topology", "engine"),
    [
        ("two-node-cluster-2008r2", "DiskShadow with the Data ONTAP VSS hardware provider"),
        ("two-node-cluster-2012", "DiskShadow with the Data ONTAP VSS hardware provider"),
        ("standalone-2022", "ProductionOnly checkpoints and Snapshot copies"),
    ],
)
def test_the_engine_is_what_the_hosts_can_do(start: Start, topology: str, engine: str) -> None:
    """Application-consistent unless asked otherwise; the plan's title and the record name what makes it so."""
    lab = start(topology)
    with smhvlab.site.connect(lab.profile) as site:
        site.create_dataset("Set", ["sql01"])
        plan = site.backup("Set").plan()
        through = "VSS" if engine.startswith("DiskShadow") else "production checkpoints"
        assert plan.title == f"Back up a dataset, application-consistent, through {through}"
        backup = site.backup("Set").run_sync().result.backup
        assert (backup.registered_as, backup.engine) == ("Application-consistent", engine)
        crash = site.backup("Set", consistency="crash").run_sync().result.backup
        assert (crash.registered_as, crash.engine) == ("Crash-consistent", "Snapshot copies")
        with pytest.raises(NotAllowed):
            site.backup("Set", consistency="crash", distributed=True)
