"""What a run's journal has to keep, and what happens to the run when the disk takes no more of it."""

from __future__ import annotations

import errno

import pytest
from toy_site import PivotFlow, ToyError, ToyFlow, ToySite, fail_at, goal

from smhvlab import record as r
from smhvlab.doctor import unfinished
from smhvlab.errors import JournalError, PlanChanged, UnknownOutcome
from smhvlab.journal import Journal, Mark

LOST = UnknownOutcome("The reply was lost", next_action="Look it up.")


class Disk:
    """A disk that is full from the first such line on, after half of it, until it is given room again."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, mark: Mark, step: str) -> None:
        self.full, left = False, [(mark, step)]
        write, append = Journal.write, Journal._append

        def watched(journal: Journal, what: Mark, name: str = "", **more: object) -> None:
            if (what, name) in left:
                self.full = bool(left.pop())
            write(journal, what, name, **more)

        def limited(journal: Journal, data: bytes, *, durable: bool) -> None:
            if self.full:
                journal._file.write(data[: len(data) // 2])
                raise OSError(errno.ENOSPC, "No space left on device")
            append(journal, data, durable=durable)

        monkeypatch.setattr(Journal, "write", watched)
        monkeypatch.setattr(Journal, "_append", limited)


@pytest.mark.parametrize("mark", [Mark.START, Mark.END])
def test_a_full_disk_leaves_a_run_that_can_be_undone(
    site: ToySite, monkeypatch: pytest.MonkeyPatch, mark: Mark
) -> None:
    """Nothing is undone that cannot be written down; with room again the doctor undoes what the journal tells."""
    flow = ToyFlow(site)
    disk = Disk(monkeypatch, mark, "write")
    with pytest.raises(JournalError, match="0001-ToyFlow cannot be written") as caught:
        flow.run_sync()
    assert "Make room" in caught.value.next_action
    assert caught.value.why == "No space left on device"
    assert flow.record is not None
    assert flow.record.outcome is r.Outcome.UNDO_FAILED
    assert {"vol1/copy1", "vol2/copy1"} <= site.world.things
    (found,) = unfinished("toy")
    assert "undo" in found.allowed
    disk.full = False
    assert flow.undo_sync().outcome is r.Outcome.UNDONE
    assert site.world.things == set()


def test_a_full_disk_after_the_pivot_leaves_a_run_that_can_be_resumed(
    site: ToySite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stops, and goes on where the journal ends."""
    flow = PivotFlow(site)
    disk = Disk(monkeypatch, Mark.END, "overwrite")
    with pytest.raises(JournalError):
        flow.run_sync()
    assert flow.record is not None
    assert flow.record.outcome is r.Outcome.STOPPED
    disk.full = False
    assert flow.resume_sync().outcome is r.Outcome.DONE
    assert site.world.things == goal(PivotFlow)


def test_a_full_disk_at_the_very_end_leaves_what_was_done(site: ToySite, monkeypatch: pytest.MonkeyPatch) -> None:
    """All steps are done and only that is not written: a resume closes the run without another request."""
    flow = ToyFlow(site)
    disk = Disk(monkeypatch, Mark.CLOSE, "")
    with pytest.raises(JournalError):
        flow.run_sync()
    assert site.world.things == goal(ToyFlow)
    disk.full, sent = False, len(site.log)
    assert flow.resume_sync().outcome is r.Outcome.DONE
    assert len(site.log) == sent


def test_an_undo_that_ends_on_a_full_disk_can_be_undone_again(site: ToySite, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything is taken back, and the run waits only for its last line."""
    flow = ToyFlow(site)
    disk = Disk(monkeypatch, Mark.CLOSE, "")
    site.seam = fail_at("before make info/copy1")
    with pytest.raises(JournalError):
        flow.run_sync()
    assert flow.record is not None
    assert flow.record.outcome is r.Outcome.UNDO_FAILED
    disk.full = False
    assert flow.undo_sync().outcome is r.Outcome.UNDONE
    assert site.world.things == set()


def test_a_journal_that_cannot_be_begun_is_an_error_before_the_first_change(
    site: ToySite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing was changed, nothing waits for the doctor, and the plan can still be run."""
    flow = ToyFlow(site)
    plan = flow.plan()
    disk = Disk(monkeypatch, Mark.BEGIN, "")
    with pytest.raises(JournalError):
        flow.run_sync(plan=plan)
    assert (site.world.made, unfinished("toy")) == ([], [])
    disk.full = False
    monkeypatch.undo()
    assert flow.run_sync(plan=plan).outcome is r.Outcome.DONE


def test_a_lost_reply_is_remembered_until_a_resume(site: ToySite) -> None:
    """A step past the pivot that has lost a reply: the resume waits for what the site may still do."""
    flow = PivotFlow(site)
    site.seam = fail_at("after make vol1/overwritten", LOST)
    with pytest.raises(UnknownOutcome):
        flow.run_sync()
    flow.resume_sync()
    assert site.lost == [True]


def test_a_lost_reply_is_remembered_until_the_next_undo(site: ToySite, monkeypatch: pytest.MonkeyPatch) -> None:
    """So is one of an undo, and one whose settling has failed."""
    flow = ToyFlow(site)
    first, second = fail_at("before make info/copy1"), fail_at("after drop vol1/copy1", LOST)

    def seam(where: str) -> None:
        first(where)
        second(where)

    site.seam = seam
    with pytest.raises(UnknownOutcome):
        flow.run_sync()
    with monkeypatch.context() as unreachable:
        unreachable.setattr(site, "settle", lambda *, lost: fail_at("settling")("settling"))
        with pytest.raises(ToyError):
            flow.undo_sync()
    flow.undo_sync()
    assert site.lost == [False, True]
    assert site.world.things == set()


def test_a_plan_belongs_to_the_first_run_that_begins_with_it(site: ToySite) -> None:
    """What a stopped run has made bears the plan's names: a second run would take it for its own."""
    flow = PivotFlow(site)
    plan = flow.plan()
    site.seam = fail_at("before make vol1/overwritten")
    with pytest.raises(ToyError):
        flow.run_sync(plan=plan)
    with pytest.raises(PlanChanged, match="0001-PivotFlow"):
        flow.run_sync(plan=plan)
    assert [found.run for found in unfinished("toy")] == ["0001-PivotFlow"]
