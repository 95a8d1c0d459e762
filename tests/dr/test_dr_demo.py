"""The disaster from end to end, as ``smhvlab demo dr`` runs it (TR 8)."""

from __future__ import annotations

from pathlib import Path

import pytest

from labenv import lab as labs
from labenv.lab import Lab
from smhvlab.dr.demo import DrDemo, disaster_of
from smhvlab.dr.sites import SitePair, connect_pair
from smhvlab.errors import NotAllowed


@pytest.mark.long
def test_every_stage_is_measured(pair: SitePair, lab: Lab) -> None:
    """Rows survive but for the transactions after the last replicated backup; only changed blocks travel back."""
    told: list[str] = []
    result = DrDemo(pair, disaster_of(lab), tell=told.append).run()
    stages = {stage.name: stage for stage in result.stages}
    assert list(stages) == [
        "loaded, backed up, replicated",
        "the first site is dead",
        "failed over",
        "the second site works",
        "data are back on the first site",
        "failed back",
        "replicated in the first direction again",
    ]
    assert stages["failed over"].lost == 40
    assert set(stages["failed back"].databases.values()) == {28}
    assert all(all(stage.checkdb.values()) for stage in result.stages)
    full, back = (stages[n].transferred for n in ("loaded, backed up, replicated", "data are back on the first site"))
    assert 0 < back < full / 20
    assert set(stages["failed over"].relationships.values()) == {"uninitialized"}
    assert set(stages["replicated in the first direction again"].relationships.values()) == {"snapmirrored"}
    assert any(line.startswith("== failed over: 160 rows, 40 transactions lost") for line in told)
    with pytest.raises(NotAllowed, match="Only a lab"):
        disaster_of(None)


@pytest.mark.long
def test_the_same_disaster_on_failover_clusters(tmp_path: Path) -> None:
    """VMs on several nodes are asked where they are; rows survive both ways."""
    with labs.start("dr-pair-cluster", state=tmp_path / "lab") as lab, connect_pair(lab.profile) as pair:
        result = DrDemo(pair, disaster_of(lab), tell=lambda _: None).run()
        lost = {stage.name: stage.lost for stage in result.stages}
        assert lost.pop("failed over") == 40
        assert set(lost.values()) == {0}
        assert set(result.stages[-1].databases.values()) == {29}
