"""What a backup and a restore are about: one VM, as after a loss of power, where it was, on whichever node it runs."""

from __future__ import annotations

from datetime import timedelta

import pytest

import smhvlab.site
from labenv.lab import Lab
from smhvlab.errors import ConfirmationNeeded, NotFound
from smhvlab.site import Site
from tests.flows.conftest import Stock

pytestmark = pytest.mark.filterwarnings("ignore::marshmallow.warnings.ChangedInMarshmallow4Warning")  # netapp-ontap's


@pytest.mark.tr("R-5.2-05", "R-5.2-10", "R-5.2-04")
def test_one_vm_is_restored_and_starts_as_after_a_loss_of_power(stock: Stock) -> None:
    """A dataset is backed up as a whole but no unit of a restore; one VM goes back, the other keeps what it wrote."""
    site, lab = stock.site, stock.lab
    assert {vm.name for vm in site.tools().snapinfo.backup(stock.backup).vms} == {"sql01", "app01"}
    with pytest.raises(NotFound) as caught:
        site.restore(stock.backup, "Set").run_sync()
    assert "sql01, app01" in caught.value.next_action
    for vm in ("sql01", "app01"):
        site.tools().sql.insert(vm, "aa1", 40)
    site.restore(stock.backup, "sql01").run_sync()
    assert lab.guest("sql01").identity()["unexpected_shutdown"] is True
    assert lab.guest("sql01").checkdb("aa1")["ok"] is True
    assert [lab.guest(vm).count("aa1") for vm in ("sql01", "app01")] == [0, 40]


@pytest.mark.tr("R-11.7-01")
def test_a_backup_from_before_a_storage_migration_is_not_restored_unasked(stock: Stock) -> None:
    """The Snapshot copy is in the old volume: what has moved is named, and without assent nothing is changed."""
    site, host = stock.site, stock.site.tools().host
    site.prepare_storage("moved", size="60GB").run_sync()
    site.create_disk("moved", size="50GB", at="M:").run_sync()
    host.run("Move-VMStorage", {"Name": "app01", "DestinationStoragePath": "M:\\app01"})
    with pytest.raises(ConfirmationNeeded) as caught:
        site.restore(stock.backup, "app01").run_sync()
    assert {"location", "vhd-paths"} <= set(caught.value.needed)
    assert site.vms().set_index("name").loc["app01", "folder"] == "M:\\app01"


@pytest.mark.tr("R-3.4-04", "R-4.1-01")
def test_a_schedule_goes_on_when_a_clustered_vm_is_on_another_node(cluster_site: Site, cluster_lab: Lab) -> None:
    """Between two runs the node of the VM loses its power: both backups are made, of the same VM on a shared volume."""
    site = cluster_site
    site.create_dataset("Shared", ["sql01"])
    site.set_policy(
        'name = "hourly"\ndataset = "Shared"\nconsistency = "crash"\n'
        '[schedule]\nrepeat = "hourly"\n[retention]\nkeep = 4\n'
    )
    first = site.run_until_sync(timedelta(hours=1)).frame()
    assert site.vms().set_index("name").loc["sql01", "host"] == "hv1"
    cluster_lab.host("hv1").power_off()
    cluster_lab.clock.advance(120)
    with smhvlab.site.connect(cluster_lab.profile) as again:  # run-due, as a task starts it
        second = again.run_until_sync(timedelta(hours=1)).frame()
        assert [*first["outcome"], *second["outcome"]] == ["done", "done"]
        assert again.vms().set_index("name").loc["sql01", "host"] == "hv2"
        assert [len(backup.vms) for backup in again.tools().snapinfo.backups()] == [1, 1]
    cluster_lab.host("hv1").power_on()
