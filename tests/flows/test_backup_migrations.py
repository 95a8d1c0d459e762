"""A VM that is being migrated is not backed up, and the others of its dataset are (TR 6.6, 11.6, 11.7)."""

from __future__ import annotations

from typing import Any, Literal

import pytest

import smhvlab.site
from smhvlab.errors import BackupFailed, NotAllowed
from smhvlab.flow import Flow
from smhvlab.record import PlannedStep
from smhvlab.site import Site
from smhvlab.snapinfo import Backup
from smhvlab.wires.powershell import Running
from tests.flows.conftest import Start

pytestmark = pytest.mark.filterwarnings("ignore::marshmallow.warnings.ChangedInMarshmallow4Warning")  # netapp-ontap's

Consistency = Literal["crash", "application"]
TYPES: tuple[Consistency, ...] = ("crash", "application")
BEFORE_THE_COPIES = ("preflight", "snapshots")
"""The step of each backup type after which it is too late to leave a VM out."""


def backed_up(site: Site, *, consistency: Consistency) -> Backup:
    """What a backup of the dataset ``Set`` registers."""
    backup: Backup = site.backup("Set", consistency=consistency).run_sync().result.backup
    assert site.tools().snapinfo.backup(backup.name) == backup
    return backup


@pytest.mark.tr("R-6.6-01", "R-11.6-01")
def test_a_vm_in_live_migration_is_left_out_and_the_others_go_on(start: Start) -> None:
    """Of either type: the VM in migration is named; if it is the only one there is no backup."""
    lab = start("two-node-cluster-2012")
    with smhvlab.site.connect(lab.profile) as site:
        site.create_dataset("Set", ["sql01", "web01"])
        site.create_dataset("One", ["web01"])
        for consistency, target in zip(TYPES, ("hv1", "hv2"), strict=True):
            site.tools().host.run("Move-ClusterVirtualMachineRole", {"Name": "web01", "Node": target, "Wait": 0})
            with pytest.raises(NotAllowed) as caught:
                site.backup("One", consistency=consistency).plan()
            assert caught.value.tr == "6.6"
            backup = backed_up(site, consistency=consistency)
            assert [vm.name for vm in backup.vms] == ["sql01"]
            assert backup.failed[0].startswith("web01: it is being migrated (MigratingVirtualMachine)")
            lab.clock.advance(60)
        assert len(backed_up(site, consistency="application").vms) == 2


def move(site: Site, target: str) -> Running:
    """The storage of app01 begins to move; it takes some 200 seconds of lab time."""
    begun = site.tools().host.begin("Move-VMStorage", {"Name": "app01", "DestinationStoragePath": target})
    site.sleep(3)
    return begun


@pytest.mark.tr("R-6.6-01", "R-11.7-02")
@pytest.mark.parametrize("era", ["2012", "2022"])
def test_a_vm_whose_storage_migrates_is_left_out_and_the_others_go_on(start: Start, era: str) -> None:
    """Both types during one move of twenty gigabytes; what was moved is whole, and is backed up afterwards."""
    lab = start(f"standalone-{era}")
    with smhvlab.site.connect(lab.profile) as site, smhvlab.site.connect(lab.profile) as other:
        other.create_dataset("Set", ["sql01", "app01"])
        other.create_dataset("One", ["app01"])
        other.tools().sql.insert("app01", "aa1", 30)
        begun = move(other, "V:\\moved")
        for consistency in TYPES:
            backup = backed_up(site, consistency=consistency)
            assert [vm.name for vm in backup.vms] == ["sql01"]
            assert backup.failed == ("app01: it is being migrated (StorageMigrationPhaseOne) and is not backed up",)
            with pytest.raises(NotAllowed, match="Every VM of the dataset One is being migrated") as caught:
                site.backup("One", consistency=consistency).plan()
            assert caught.value.tr == "6.6"
        other.tools().host.wait(begun)
        assert lab.guest("app01").checkdb("aa1")["rows"] == 30
        assert [vm.name for vm in backed_up(site, consistency="application").vms] == ["sql01", "app01"]


@pytest.mark.tr("R-6.6-01", "R-11.7-02")
@pytest.mark.parametrize(("era", "consistency"), [("2012", "crash"), ("2012", "application"), ("2022", "application")])
def test_a_migration_that_begins_during_the_backup_takes_its_vm_out(
    start: Start, era: str, consistency: Consistency
) -> None:
    """Between survey and Snapshot copies: the VM is not in the record, and one that was alone fails the backup."""
    lab = start(f"standalone-{era}")
    with smhvlab.site.connect(lab.profile) as site, smhvlab.site.connect(lab.profile) as other:
        other.create_dataset("Set", ["sql01", "app01"])
        other.create_dataset("One", ["app01"])
        moves: list[Running] = []

        def moving(flow: Flow[Any], target: str) -> Flow[Any]:
            """The flow, with a move that begins once the survey is over."""

            def gate(step: PlannedStep) -> bool:
                if step.name in BEFORE_THE_COPIES:
                    moves.append(move(other, target))
                return True

            flow.gate = gate
            return flow

        backup = moving(site.backup("Set", consistency=consistency), "V:\\moved").run_sync().result.backup
        assert [vm.name for vm in backup.vms] == ["sql01"]
        assert backup.failed == (
            "app01: its migration began during the backup (StorageMigrationPhaseOne); it is not backed up",
        )
        other.tools().host.wait(moves[0])
        copies = len(site.snapshots())
        with pytest.raises(BackupFailed, match="began during the backup") as caught:
            moving(site.backup("One", consistency=consistency), "V:\\app01").run_sync()
        assert caught.value.tr == "6.6"
        assert len(site.snapshots()) == copies
        other.tools().host.wait(moves[1])
