"""A backup beside the work of other management stations, whose journals are out of reach (TR 6.2, 6.7, 10)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

import smhvlab.site
from labenv.lab import Lab
from smhvlab.errors import BackupFailed, NotAllowed, SmhvLabError
from smhvlab.leftovers import leftovers
from smhvlab.record import PlannedStep
from smhvlab.site import Site
from tests.flows.checks import picture
from tests.flows.conftest import Start


@contextmanager
def stations(lab: Lab, folder: Path) -> Iterator[tuple[Site, Site]]:
    """Two management stations of one site, each with journals of its own."""
    with smhvlab.site.connect(lab.profile) as site:
        profiles = [replace(site.profile, journals=folder / name) for name in ("one", "two")]
    with smhvlab.site.connect(profiles[0]) as one, smhvlab.site.connect(profiles[1]) as two:
        yield one, two


@pytest.mark.tr("R-6.2-11", "R-10-03")
def test_checkpoints_of_another_station_s_backup_are_known(start: Start, tmp_path: Path) -> None:
    """Beside another station's checkpoints an application-consistent backup is refused, a crash one only warned."""
    with stations(start("standalone-2022"), tmp_path) as (one, two):
        one.create_dataset("Set", ["app01"])
        told: list[str] = []

        def gate(step: PlannedStep) -> bool:
            if step.name == "snapshots":
                with pytest.raises(NotAllowed, match="Another backup is at work on app01") as caught:
                    two.backup("Set").plan()
                told.append(str(caught.value.why))
                told.extend(two.backup("Set", consistency="crash").plan().state.warnings)
                told.extend(left.kind for left in leftovers(two.tools(), pending=False))
            return True

        flow = one.backup("Set")
        flow.gate = gate
        flow.run_sync()
        assert "its checkpoint smhvlab_Set_" in told[0]
        assert "may meet time-outs of SnapDrive (TR 10)" in told[1]
        assert told[2:] == ["checkpoint"]
        assert leftovers(two.tools(), pending=False) == []
        assert two.backup("Set").plan().state.warnings == ()


@pytest.mark.tr("R-6.2-11", "R-12-01")
def test_a_shared_volume_that_another_backup_has_taken_over_is_left_alone(start: Start, tmp_path: Path) -> None:
    """2008 R2: redirected access at the survey is refused; coming in later it ends the backup and stays as it is."""
    lab = start("two-node-cluster-2008r2")
    with stations(lab, tmp_path) as (one, _):
        one.create_dataset("Set", ["sql01"])
        lab.faults.cause("redirected-access-left")
        with pytest.raises(NotAllowed, match="is in redirected access") as caught:
            one.backup("Set").plan()
        assert "Resume-ClusterResource" in str(caught.value.next_action)
        lab.faults.mend("redirected-access-left")
        before = picture(one)

        def gate(step: PlannedStep) -> bool:
            if step.name == "create":
                lab.faults.cause("redirected-access-left")
            return True

        flow = one.backup("Set")
        flow.gate = gate
        with pytest.raises(BackupFailed, match="redirected access since this backup began"):
            flow.run_sync()
        assert picture(one) == before
        assert [volume.redirected for volume in one.tools().nodes.shared_volumes()] == [True]


@pytest.mark.tr("R-6.2-11")
@pytest.mark.parametrize("vm", ["sql01", "app01"], ids=["LUN", "file copies"])
def test_at_no_moment_of_another_station_s_restore_is_there_a_backup_that_lacks_the_vm(
    start: Start, tmp_path: Path, vm: str
) -> None:
    """Before each step of a restore a backup is either refused, or the VM is there with its configuration."""
    with stations(start("standalone-2012"), tmp_path) as (one, two):
        one.create_dataset("Set", ["sql01", "app01"])
        name = one.backup("Set").run_sync().result.backup.name
        seen: dict[str, str] = {}

        def gate(step: PlannedStep) -> bool:
            try:
                two.backup("Set", consistency="crash").plan()
                there = {row.name for row in two.vms().itertuples()}
                seen[step.name] = "whole" if vm in there else "lacks it"
            except SmhvLabError as error:
                seen[step.name] = error.message
            return True

        flow = one.restore(name, vm)
        flow.gate = gate
        flow.run_sync()
        assert seen.pop("announce") == "whole"
        assert all(text.startswith(f"A restore of {vm} is under way") for text in seen.values())


@pytest.mark.tr("R-6.2-11")
@pytest.mark.parametrize("era", ["2012", "2022"])
def test_a_restore_that_begins_meanwhile_fails_the_backup(start: Start, era: str, tmp_path: Path) -> None:
    """The VM goes between the survey and the Snapshot copies: no backup without its configuration is registered."""
    with stations(start(f"standalone-{era}"), tmp_path) as (one, two):
        one.create_dataset("Set", ["sql01", "app01"])
        machine = one.tools().hyperv.vm("app01")
        taken = len(one.snapshots())

        def gate(step: PlannedStep) -> bool:
            if step.name == "snapshots":
                two.tools().hyperv.ensure_off(machine.id)
                two.tools().hyperv.ensure_removed(machine.id)
            return True

        flow = one.backup("Set", consistency="crash")
        flow.gate = gate
        with pytest.raises(BackupFailed, match="app01 was changed while its Snapshot copies were taken") as caught:
            flow.run_sync()
        assert caught.value.tr == "6.7"
        assert len(one.snapshots()) == taken
        assert one.backups().empty


class Dies(BaseException):
    """A station ends here: nothing in the product may handle this."""


@pytest.mark.tr("R-6.2-11")
def test_the_sets_of_another_station_are_left_alone(start: Start, tmp_path: Path) -> None:
    """A set that comes between plan and run ends the backup; it stays, and its own station goes on with it."""
    with stations(start("standalone-2012"), tmp_path) as (one, two):
        one.create_dataset("One", ["app01"])
        one.create_dataset("Two", ["web01"])
        mine, theirs = one.backup("One"), two.backup("Two")

        def dies(step: PlannedStep) -> bool:
            if step.name == "rename":
                raise Dies
            return True

        def meets(step: PlannedStep) -> bool:
            if step.name == "create":
                with pytest.raises(Dies):
                    theirs.run_sync()
                left = [each.kind for each in leftovers(one.tools(), pending=False)]
                assert left == ["Snapshot copy"] * 2
            return True

        theirs.gate, mine.gate = dies, meets
        with pytest.raises(BackupFailed, match="Another backup is at work on volumes of One"):
            mine.run_sync()
        theirs.gate = None
        assert theirs.resume_sync().result.backup.name in set(one.snapshots("vm_shared")["snapshot"])
        assert list(one.backups()["dataset"]) == ["Two"]


@pytest.mark.tr("R-10-02", "R-10-03")
@pytest.mark.parametrize("before", ["its survey", "group"])
def test_backups_side_by_side_share_no_consistency_group(start: Start, tmp_path: Path, before: str) -> None:
    """Whether it finds the other's group or is overtaken, the second has no common point, and says so."""
    with stations(start("standalone-2012"), tmp_path) as (one, two):
        one.create_dataset("One", ["app01", "sql01"])
        one.create_dataset("Two", ["web01", "sql01"])
        first, second = one.backup("One", consistency="crash"), two.backup("Two", consistency="crash")
        told: list[bool] = []

        def dies(step: PlannedStep) -> bool:
            if step.name == "snapshots":
                if before == "its survey":
                    told.append(first.run_sync().result.backup.common_point)
                raise Dies
            return True

        def overtaken(step: PlannedStep) -> bool:
            if step.name == before:
                with pytest.raises(Dies):
                    second.run_sync()
            return True

        second.gate = dies
        if before == "group":
            first.gate = overtaken
            told.append(first.run_sync().result.backup.common_point)
        else:
            with pytest.raises(Dies):
                second.run_sync()
        second.gate = None
        told.append(second.resume_sync().result.backup.common_point)
        assert told == [False, True]
        assert len(one.backups()) == 2
        assert one.tools().storage.grouped_volumes() == set()
