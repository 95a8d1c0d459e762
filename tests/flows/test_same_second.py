"""Two runs of one second: the names that both have chosen go to the first, and the second takes nothing of its away."""

from __future__ import annotations

from typing import Literal

import pytest

import smhvlab.site
from labenv.lab import Lab
from smhvlab.errors import NameTaken
from smhvlab.record import PlannedStep
from smhvlab.site import Site
from tests.flows.checks import picture
from tests.flows.conftest import Start


@pytest.mark.parametrize("vms", [["web01"], ["sql01", "app01"]], ids=["one volume", "consistency group"])
@pytest.mark.parametrize("consistency", ["crash", "application"])
def test_the_second_backup_of_one_second_says_so_and_leaves_the_first(
    site: Site, consistency: Literal["crash", "application"], vms: list[str]
) -> None:
    """Two plans have one name: the first backup is kept whole, the second is refused and undone."""
    site.create_dataset("Set", vms)
    first, second = (site.backup("Set", consistency=consistency) for _ in range(2))
    plan, same = first.plan(), second.plan()
    assert plan.state.name == same.state.name
    first.run_sync(plan=plan)
    before = picture(site)
    with pytest.raises(NameTaken, match="another run has made") as caught:
        second.run_sync(plan=same)
    assert "Plan again" in caught.value.next_action
    assert picture(site) == before
    assert site.tools().snapinfo.backup(plan.state.name).run == plan.state.run


def test_the_second_backup_through_checkpoints_leaves_the_first(start: Start) -> None:
    """From Windows Server 2016 on too: the first backup and its Snapshot copies stay as they are."""
    with smhvlab.site.connect(start("standalone-2022").profile) as site:
        site.create_dataset("Set", ["app01"])
        first, second = site.backup("Set"), site.backup("Set")
        plan, same = first.plan(), second.plan()
        first.run_sync(plan=plan)
        before = picture(site)
        with pytest.raises(NameTaken, match="another run has made"):
            second.run_sync(plan=same)
        assert picture(site) == before


@pytest.mark.parametrize("at", ["ask_writers", "snapshots"])
def test_of_two_consoles_at_once_one_says_done(site: Site, lab: Lab, at: str) -> None:
    """Who first keeps something under the name has it: the other is refused and undone, and the backup is whole."""
    site.create_dataset("Set", ["web01"])
    with smhvlab.site.connect(lab.profile) as other:
        other.tools().host.now()
        mine, theirs = (one.backup("Set", consistency="crash") for one in (site, other))
        planned, plan = mine.plan(), theirs.plan()
        assert planned.state.name == plan.state.name
        refused: list[str] = []

        def gate(step: PlannedStep) -> bool:
            if step.name == at:
                try:
                    theirs.run_sync(plan=plan)
                except NameTaken as error:
                    refused.append(f"theirs: {error.next_action}")
            return True

        mine.gate = gate
        try:
            mine.run_sync(plan=planned)
        except NameTaken as error:
            refused.append(f"mine: {error.next_action}")
    assert refused == [f"{'mine' if at == 'ask_writers' else 'theirs'}: Plan again: a later second gives another name."]
    name = plan.state.name
    assert list(site.backups()["name"]) == [name]
    kept = site.snapshots()
    volumes = {volume.name for volume in (*plan.state.volumes, plan.state.snapinfo_volume)}
    assert set(kept.loc[kept["snapshot"] == name, "volume"]) == volumes
    metadata = [path for path in site.tools().snapinfo.files("Backups") if path.endswith(".txt")]
    assert [path.rpartition("\\")[2] for path in metadata] == [f"{name}.hv1.txt"]
