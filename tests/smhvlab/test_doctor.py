"""Runs whose process is gone: what the doctor finds, and what it allows."""

from __future__ import annotations

import copy
from pathlib import Path

import msgspec
import pytest
from toy_site import Kill, PivotFlow, ToyFlow, ToySite, events, fail_at, goal

from smhvlab import record as r
from smhvlab.doctor import Unfinished, reopen, unfinished
from smhvlab.errors import JournalError, JournalFormat, JournalLocked

# --- resume and undo by another process


def test_a_kill_is_not_handled(site: ToySite) -> None:
    """No undo, no event, no line: what a killed process leaves is what the doctor finds."""
    flow = ToyFlow(site)
    heard = events(flow)
    site.seam = fail_at("after make info/copy1", Kill())
    with pytest.raises(Kill):
        flow.run_sync()
    assert site.world.things == goal(ToyFlow)
    assert heard[-1] == r.StepStarted("write")
    assert flow.record is None
    (found,) = unfinished("toy")
    assert (found.run, found.step, found.allowed, found.alive, found.error) == (
        "0001-ToyFlow",
        "write",
        ("resume", "undo"),
        False,
        "",
    )


def test_the_doctor_reopens_a_run_with_its_flow_and_parameters(site: ToySite) -> None:
    """The journal knows class and parameters; finished steps are not taken again and nothing is surveyed."""
    site.seam = fail_at("before make info/copy1", Kill())
    with pytest.raises(Kill):
        ToyFlow(site, remote=True).run_sync()
    fresh = ToySite(site.world)
    flow = reopen(fresh, "0001-ToyFlow")
    assert type(flow) is ToyFlow
    assert flow.parameters == {"remote": True, "ask": []}
    record = flow.resume_sync()
    assert record.outcome is r.Outcome.DONE
    assert fresh.log == [("write", "make info/copy1")]
    assert record.result == "s1"


def test_a_site_may_keep_its_own_journals(site: ToySite, tmp_path: Path) -> None:
    """A lab's runs end with the lab: their journals lie in its folder, and the doctor looks there."""
    site.journals = tmp_path / "lab"
    site.seam = fail_at("before make info/copy1", Kill())
    with pytest.raises(Kill):
        ToyFlow(site).run_sync()
    assert unfinished("toy") == []
    (found,) = unfinished("toy", folder=site.journals)
    assert reopen(site, found.run).undo_sync().outcome is r.Outcome.UNDONE


@pytest.mark.parametrize(("action", "wanted"), [("resume", goal(ToyFlow)), ("undo", set())])
def test_what_the_site_still_does_is_waited_for(site: ToySite, action: str, wanted: set[str]) -> None:
    """A request that was accepted before the kill takes effect first: else an undo finds nothing, and leaves it."""
    site.seam = fail_at("before make vol1/copy1", Kill())
    with pytest.raises(Kill):
        ToyFlow(site).run_sync()
    site.world.late.append("vol1/copy1")
    flow = reopen(ToySite(site.world), "0001-ToyFlow")
    if action == "resume":
        flow.resume_sync()
    else:
        flow.undo_sync()
    assert site.world.things == wanted
    assert site.world.made.count("vol1/copy1") == 1


def test_a_live_run_cannot_be_taken_over(site: ToySite) -> None:
    """While its owner lives, a run is shown as alive and nobody else may touch it."""
    flow = ToyFlow(site)
    seen: list[Unfinished] = []

    def seam(where: str) -> None:
        if where == "before make vol1/copy1":
            seen.extend(unfinished("toy"))
            with pytest.raises(JournalLocked):
                ToyFlow(ToySite(site.world)).resume_sync("0001-ToyFlow")

    site.seam = seam
    flow.run_sync()
    assert [(u.alive, u.allowed) for u in seen] == [(True, ())]


def test_finished_runs_cannot_be_resumed_or_undone(site: ToySite) -> None:
    """A closed journal is a record, nothing else."""
    flow = ToyFlow(site)
    flow.run_sync()
    with pytest.raises(JournalError):
        flow.resume_sync()
    with pytest.raises(JournalError):
        flow.undo_sync()


def test_another_format_can_be_undone_and_not_resumed(site: ToySite, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new version of a flow takes old runs back, and does not go on with them."""
    site.seam = fail_at("before make info/copy1", Kill())
    with pytest.raises(Kill):
        ToyFlow(site).run_sync()
    monkeypatch.setattr(ToyFlow, "format", 2)
    fresh = ToySite(site.world)
    with pytest.raises(JournalFormat):
        ToyFlow(fresh).resume_sync("0001-ToyFlow")
    assert ToyFlow(fresh).undo_sync("0001-ToyFlow").outcome is r.Outcome.UNDONE
    assert site.world.things == set()


def test_a_run_is_resumed_only_by_its_own_flow_and_parameters(site: ToySite) -> None:
    """Other flow, other parameters, unknown run: each is refused, and the run is free again afterwards."""
    site.seam = fail_at("before make info/copy1", Kill())
    with pytest.raises(Kill):
        ToyFlow(site).run_sync()
    fresh = ToySite(site.world)
    for wrong, run in [
        (PivotFlow(fresh), "0001-ToyFlow"),
        (ToyFlow(fresh, remote=True), "0001-ToyFlow"),
        (ToyFlow(fresh), "0002-ToyFlow"),
        (ToyFlow(fresh), ""),
    ]:
        with pytest.raises(JournalError):
            wrong.resume_sync(run)
    with pytest.raises(JournalError):
        reopen(fresh, "0002-ToyFlow")
    assert reopen(fresh, "0001-ToyFlow").undo_sync().outcome is r.Outcome.UNDONE


def test_a_state_that_this_version_cannot_read_is_an_error_and_not_a_guess(site: ToySite, tmp_path: Path) -> None:
    """JournalFormat, and nothing is changed."""
    site.seam = fail_at("before make info/copy1", Kill())
    with pytest.raises(Kill):
        ToyFlow(site).run_sync()
    path = tmp_path / "state" / "journals" / "toy" / "0001-ToyFlow.jsonl"
    path.write_text(path.read_text().replace('"volumes":["vol1","vol2"]', '"volumes":3'))
    with pytest.raises(JournalFormat):
        ToyFlow(ToySite(site.world)).undo_sync("0001-ToyFlow")
    assert site.world.things == {"vol1/copy1", "vol2/copy1"}


def test_half_a_line_is_what_a_crash_left(site: ToySite, tmp_path: Path) -> None:
    """A journal cut anywhere inside its last line is read as if that line had not been written."""
    site.seam = fail_at("before make info/copy1", Kill())
    with pytest.raises(Kill):
        ToyFlow(site).run_sync()
    path = tmp_path / "state" / "journals" / "toy" / "0001-ToyFlow.jsonl"
    data = path.read_bytes()
    last = data[:-1].rindex(b"\n") + 1
    for length in range(last, len(data), 7):
        path.write_bytes(data[:length])
        (found,) = unfinished("toy")
        assert found.step == "mirror"
    world = copy.deepcopy(site.world)
    assert reopen(ToySite(world), "0001-ToyFlow").resume_sync().outcome is r.Outcome.DONE
    assert world.things == goal(ToyFlow)
    assert all(msgspec.json.decode(line) for line in path.read_bytes().splitlines())
