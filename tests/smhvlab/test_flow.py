"""The rules by which a flow is planned, run, cancelled, resumed and undone."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from toy_site import Kill, PivotFlow, ToyError, ToyFlow, ToySite, ToyState, events, fail_at, goal, quiet

from smhvlab import record as r
from smhvlab.doctor import unfinished
from smhvlab.errors import (
    Cancelled,
    ConfirmationNeeded,
    JournalError,
    NotAllowed,
    PlanChanged,
    ReadOnlyRefused,
    UnknownOutcome,
)
from smhvlab.flow import Flow
from smhvlab.steps import step


@dataclass
class Mutable:
    seen: list[str] = field(default_factory=list)


# --- plan


def test_a_plan_tells_each_step_with_its_section_items_and_counts(site: ToySite) -> None:
    """plan() is survey plus items and counts; what would be skipped says why; nothing is changed."""
    plan = ToyFlow(site).plan()
    assert [(s.number, s.name, s.tr, s.items, s.skipped) for s in plan.steps] == [
        (1, "snapshot", "6.2/1", ("vol1", "vol2"), ""),
        (2, "look", "6.2/2", (), ""),
        (3, "mirror", "6.2/3", (), "no mirror is wanted"),
        (4, "write", "6.2/4", ("copy1",), ""),
    ]
    assert plan.counts == {"snapshot": 2}
    assert plan.state.name == "copy1"
    assert site.world.things == set()
    assert site.log == [("survey", "read volumes")]
    assert unfinished("toy") == []


def test_a_plan_is_a_table_and_a_text(site: ToySite) -> None:
    """The frame has one row per step and item; the text draws the line before the pivot."""
    plan = PivotFlow(site, ask=("overwrite",)).plan()
    frame = plan.frame()
    assert list(frame.columns) == ["number", "step", "title", "tr", "item", "changes", "pivot", "skipped"]
    assert list(frame["item"]) == ["vol1", "vol2", "", "", "copy1", "vol1", "vol2", ""]
    assert list(frame[frame["pivot"]]["number"]) == [5, 5]
    lines = str(plan).splitlines()
    assert lines[0] == "Overwrite some volumes on toy (TR-4004 6.2)"
    assert lines[4] == "   ---- no undo from here on ----"
    assert lines[5] == " 5. Overwrite [7.1/5]: vol1, vol2"
    assert lines[-1] == "    accept 'overwrite': Really overwrite?"


def test_a_flow_that_was_made_and_not_run_says_so(site: ToySite) -> None:
    """A forgotten plan or await is told by what the cell shows: parameters, and that nothing has happened."""
    flow = ToyFlow(site, remote=True)
    assert repr(flow).startswith(
        "Copy some volumes on toy (remote=True, ask=[])\nNothing has happened yet: flow.plan()"
    )
    assert "Nothing has happened yet" in flow._repr_html_()
    flow.run_sync()
    assert repr(flow).splitlines()[1] == "Its last run, 0001-ToyFlow: done."
    assert site.world.things


def test_steps_of_a_subclass_follow_those_of_its_parent() -> None:
    """Inherited steps come first and keep their places, also when they are replaced."""

    class Other(ToyFlow):
        @step("Look closer", tr="x", changes=False)
        def look(self, s: ToyState) -> None: ...

        @step("More", tr="y")
        def more(self, s: ToyState) -> None: ...

    assert [(s.name, s.title) for s in Other.steps()] == [
        ("snapshot", "Snapshot copies"),
        ("look", "Look closer"),
        ("mirror", "Mirror"),
        ("write", "Write it down"),
        ("more", "More"),
    ]


def test_a_run_with_a_plan_uses_the_names_of_the_plan(site: ToySite) -> None:
    """run(plan=) surveys again, but creates what the user has read in the plan."""
    flow = ToyFlow(site)
    plan = flow.plan()
    flow.run_sync(plan=plan)
    assert site.surveys == 2
    assert site.world.things == goal(ToyFlow)
    with pytest.raises(PlanChanged, match="that of run 0001-ToyFlow"):
        ToyFlow(site).run_sync(plan=plan)


def test_a_run_with_a_plan_refuses_a_changed_site(site: ToySite) -> None:
    """PlanChanged names what differs, before anything is changed."""
    flow = ToyFlow(site)
    plan = flow.plan()
    site.world.volumes = ("vol1", "vol2", "vol3")
    with pytest.raises(PlanChanged) as caught:
        flow.run_sync(plan=plan)
    assert caught.value.differences == ("volumes: was ('vol1', 'vol2'), is ('vol1', 'vol2', 'vol3')",)
    assert site.world.made == []
    assert unfinished("toy") == []


def test_a_plan_of_other_parameters_is_refused(site: ToySite) -> None:
    """A plan belongs to the flow that made it."""
    plan = ToyFlow(site, remote=True).plan()
    with pytest.raises(PlanChanged) as caught:
        ToyFlow(site).run_sync(plan=plan)
    assert "parameters" in caught.value.differences[0]


# --- run


def test_a_run_takes_the_steps_in_order_and_leaves_a_record(site: ToySite) -> None:
    """Steps run once each, in the order written; the record tells each one's end and the flow's own result."""
    flow = ToyFlow(site, remote=True)
    record = flow.run_sync()
    assert site.world.made == ["vol1/copy1", "vol2/copy1", "mirror/s1", "info/copy1"]
    assert record is flow.record
    assert record.outcome is r.Outcome.DONE
    assert [(s.name, s.status) for s in record.steps] == [
        ("snapshot", r.StepStatus.DONE),
        ("look", r.StepStatus.DONE),
        ("mirror", r.StepStatus.DONE),
        ("write", r.StepStatus.DONE),
    ]
    assert record.result == "s1"
    assert record.run == "0001-ToyFlow"
    assert str(record).splitlines()[0] == "Copy some volumes on toy: done (run 0001-ToyFlow)"
    assert unfinished("toy") == []


def test_a_step_whose_condition_is_false_is_skipped_with_its_reason(site: ToySite) -> None:
    """``when`` is asked when the step comes up; the record and the event say why it did not run."""
    flow = ToyFlow(site)
    heard = events(flow)
    record = flow.run_sync()
    assert record.steps[2].status is r.StepStatus.SKIPPED
    assert record.steps[2].note == "no mirror is wanted"
    assert r.StepSkipped("mirror", "no mirror is wanted") in heard


def test_events_of_a_run(site: ToySite) -> None:
    """Started, progress from track, finished, and the end, in order."""
    flow = ToyFlow(site)
    heard = events(flow)
    flow.run_sync()
    assert heard[:5] == [
        r.StepStarted("snapshot"),
        r.StepProgress("snapshot", 0, 2, "vol1"),
        r.StepProgress("snapshot", 1, 2, "vol2"),
        r.StepProgress("snapshot", 2, 2, ""),
        r.StepFinished("snapshot"),
    ]
    assert heard[-1] == r.RunEnded("", r.Outcome.DONE)


def test_a_listener_that_fails_does_not_decide_how_a_run_ends(site: ToySite) -> None:
    """A broken panel is logged and the run goes on."""
    flow = ToyFlow(site)

    def broken(event: r.Event) -> None:
        raise ValueError(event)

    flow.on_event = broken
    assert flow.run_sync().outcome is r.Outcome.DONE


def test_requests_carry_the_step(site: ToySite) -> None:
    """The control knows the step, so that the wire log can show each step's requests."""
    ToyFlow(site).run_sync()
    assert site.log == [
        ("survey", "read volumes"),
        ("snapshot", "make vol1/copy1"),
        ("snapshot", "make vol2/copy1"),
        ("look", "read copy1"),
        ("write", "make info/copy1"),
    ]
    assert site.control.step == ""


def test_confirmations_are_needed_before_the_first_change(site: ToySite) -> None:
    """Each has to be accepted by name; what was accepted is in the record."""
    flow = ToyFlow(site, ask=("stop", "overwrite"))
    with pytest.raises(ConfirmationNeeded) as caught:
        flow.run_sync(accept={"stop", "overwrit"})
    assert caught.value.needed == ("overwrite",)
    assert "'overwrit'" in str(caught.value)
    assert site.world.made == []
    record = flow.run_sync(accept={"stop", "overwrite"})
    assert record.accepted == ("overwrite", "stop")


def test_a_refusal_of_the_survey_leaves_no_journal(site: ToySite) -> None:
    """What survey raises comes out as it is; the listener hears that nothing began."""
    site.world.volumes = ()
    flow = ToyFlow(site)
    heard = events(flow)
    with pytest.raises(NotAllowed):
        flow.run_sync()
    assert heard == [r.RunEnded("", None, "There is no volume")]
    assert flow.record is None
    assert unfinished("toy") == []


def test_the_gate_is_asked_before_each_step_and_can_stop_the_run(site: ToySite) -> None:
    """The gate sees the planned step; its no is a cancel, which undoes what was done."""
    flow = ToyFlow(site)
    asked: list[tuple[str, bool]] = []

    def gate(planned: r.PlannedStep) -> bool:
        asked.append((planned.name, planned.changes))
        return planned.name != "write"

    flow.gate = gate
    with pytest.raises(Cancelled):
        flow.run_sync()
    assert asked == [("snapshot", True), ("look", False), ("write", True)]
    assert site.world.things == set()
    assert flow.record is not None
    assert flow.record.outcome is r.Outcome.UNDONE


def test_a_state_that_is_changed_in_place_is_journaled_too(site: ToySite) -> None:
    """A step may return a new state, or change a plain dataclass; the next step sees it."""

    class Counting(Flow[Mutable]):
        """Count."""

        def survey(self) -> Mutable:
            return Mutable()

        @step("One", tr="1")
        def one(self, s: Mutable) -> None:
            s.seen.append("one")

        @step("Two", tr="2")
        def two(self, s: Mutable) -> None:
            s.seen.append("two")

        def result(self, state: Mutable) -> object:
            return state.seen

    assert Counting(site).run_sync().result == ["one", "two"]


def test_a_flow_runs_once_at_a_time(site: ToySite) -> None:
    """A second run of the same object while the first is under way is refused."""
    flow = ToyFlow(site)

    def gate(planned: r.PlannedStep) -> bool:
        with pytest.raises(NotAllowed):
            flow.run_sync()
        return True

    flow.gate = gate
    assert flow.run_sync().outcome is r.Outcome.DONE
    assert not flow.running


def test_a_site_runs_one_flow_at_a_time(site: ToySite) -> None:
    """Another flow's run is refused while one is under way; planning is not."""
    flow, other = ToyFlow(site), ToyFlow(site, remote=True)
    heard = events(other)

    def gate(planned: r.PlannedStep) -> bool:
        assert other.plan().steps
        with pytest.raises(NotAllowed):
            other.run_sync()
        return True

    flow.gate = gate
    assert flow.run_sync().outcome is r.Outcome.DONE
    assert r.RunEnded("", None, "Another run is under way on this site") in heard
    assert other.run_sync().outcome is r.Outcome.DONE


def test_runs_are_numbered_per_site(site: ToySite) -> None:
    """Run ids are the same in every fresh state folder: no clock and no chance in them."""
    flow = ToyFlow(site)
    assert [flow.run_sync().run, flow.run_sync().run, PivotFlow(site).run_sync().run] == [
        "0001-ToyFlow",
        "0002-ToyFlow",
        "0003-PivotFlow",
    ]


# --- failure and cancel


def test_failure_undoes_everything_that_started_latest_first(site: ToySite) -> None:
    """The failed step is undone too: nobody knows how far it got."""
    flow = ToyFlow(site, remote=True)
    heard = events(flow)
    site.seam = fail_at("after make info/copy1")
    with pytest.raises(ToyError) as caught:
        flow.run_sync()
    assert site.world.things == set()
    assert [what for step, what in site.log if step.startswith("undo")] == [
        "drop info/copy1",
        "drop mirror/s1",
        "drop vol1/copy1",
        "drop vol2/copy1",
    ]
    undone = [type(e).__name__ + " " + e.step for e in heard if isinstance(e, (r.UndoStarted, r.StepUndone))]
    assert undone[:2] == ["UndoStarted write", "StepUndone write"]
    assert undone[-1] == "StepUndone snapshot"
    assert flow.record is not None
    assert flow.record.outcome is r.Outcome.UNDONE
    assert flow.record.error == "The request failed"
    assert (caught.value.state, caught.value.tr) == ("step 4, Write it down", "6.2/4")
    assert caught.value.__notes__ == ["Run 0001-ToyFlow: every step that had started has been undone."]
    assert unfinished("toy") == []


def test_an_undo_begins_after_the_site_has_settled(site: ToySite) -> None:
    """A request whose answer was lost may still take effect: the undo looks after that."""
    flow = ToyFlow(site)

    def seam(where: str) -> None:
        if where == "before make vol1/copy1":
            site.world.late.append("vol1/copy1")
            raise ToyError

    site.seam = seam
    with pytest.raises(ToyError):
        flow.run_sync()
    assert site.world.made == ["vol1/copy1"]
    assert site.world.things == set()


def test_settling_knows_whether_a_reply_was_lost(site: ToySite) -> None:
    """Nobody saw the end of a request: its reply was lost, or the process died within the step."""

    def fail(problem: BaseException) -> ToyFlow:
        def seam(where: str) -> None:
            if where.startswith("after make"):
                site.seam = quiet
                raise problem

        flow, site.seam = ToyFlow(site), seam
        with pytest.raises(type(problem)):
            flow.run_sync()
        return flow

    fail(ToyError())
    fail(UnknownOutcome("The reply was lost", next_action="Look it up."))
    fail(Kill()).undo_sync()
    fail(Kill()).resume_sync()
    assert site.lost == [False, True, True, True]


def test_a_site_that_does_not_settle_is_undone_later(site: ToySite, monkeypatch: pytest.MonkeyPatch) -> None:
    """What prevents settling is told like a failed undo, and the doctor can undo the run afterwards."""
    flow = ToyFlow(site)
    site.seam = fail_at("after make info/copy1")
    with monkeypatch.context() as patched:
        patched.setattr(ToyFlow, "settle", lambda _, *, lost: site.read("jobs") or fail_at("now")("now"))
        with pytest.raises(ToyError):
            flow.run_sync()
    assert flow.record is not None
    assert flow.record.outcome is r.Outcome.UNDO_FAILED
    assert flow.undo_sync().outcome is r.Outcome.UNDONE
    assert site.world.things == set()


def test_steps_that_did_not_start_are_not_undone(site: ToySite) -> None:
    """Undo touches what this run started and nothing else."""
    flow = ToyFlow(site)
    heard = events(flow)
    site.seam = fail_at("before make vol2/copy1")
    with pytest.raises(ToyError):
        flow.run_sync()
    assert [e.step for e in heard if isinstance(e, r.StepUndone)] == ["snapshot"]


def test_failure_after_the_pivot_stops_and_can_only_be_resumed(site: ToySite) -> None:
    """The pivot's start is the point of no return, even if the pivot itself fails."""
    flow = PivotFlow(site)
    site.seam = fail_at("before make vol1/overwritten")
    with pytest.raises(ToyError):
        flow.run_sync()
    assert flow.record is not None
    assert flow.record.outcome is r.Outcome.STOPPED
    assert "info/copy1" in site.world.things
    assert [u.allowed for u in unfinished("toy")] == [("resume",)]
    with pytest.raises(JournalError):
        flow.undo_sync()
    assert flow.resume_sync().outcome is r.Outcome.DONE
    assert site.world.things == goal(PivotFlow)


@pytest.mark.parametrize("action", ["resume", "undo"])
def test_a_read_only_site_leaves_an_unfinished_run_its_choice(site: ToySite, action: str) -> None:
    """Neither is begun there, so that both are still allowed where changes are."""
    flow = ToyFlow(site)
    site.seam = fail_at("before make vol2/copy1", Kill())
    with pytest.raises(Kill):
        flow.run_sync()
    site.seam, site.read_only = quiet, True
    again = ToyFlow(site)
    with pytest.raises(ReadOnlyRefused):
        getattr(again, f"{action}_sync")(flow.run_id)
    assert [u.allowed for u in unfinished("toy")] == [("resume", "undo")]
    site.read_only = False
    assert getattr(again, f"{action}_sync")(flow.run_id).outcome in (r.Outcome.DONE, r.Outcome.UNDONE)


def test_failure_before_the_pivot_undoes_a_flow_with_a_pivot(site: ToySite) -> None:
    """A pivot that has not started changes nothing in the rule."""
    flow = PivotFlow(site)
    site.seam = fail_at("after make info/copy1")
    with pytest.raises(ToyError):
        flow.run_sync()
    assert site.world.things == set()


def test_an_undo_that_fails_stops_and_can_be_undone_again(site: ToySite) -> None:
    """Older steps stay as they are; the run can then be undone, and not be resumed."""
    flow = ToyFlow(site)
    first, second = fail_at("after make info/copy1"), fail_at("before drop info/copy1", ToyError("No way back"))

    def seam(where: str) -> None:
        first(where)
        second(where)

    site.seam = seam
    heard = events(flow)
    with pytest.raises(ToyError) as caught:
        flow.run_sync()
    assert caught.value.message == "No way back"
    assert isinstance(caught.value.__context__, ToyError)
    assert r.StepFailed("write", "No way back", undoing=True) in heard
    assert flow.record is not None
    assert flow.record.outcome is r.Outcome.UNDO_FAILED
    assert "vol1/copy1" in site.world.things
    assert [(u.allowed, u.error) for u in unfinished("toy")] == [(("undo",), "No way back")]
    with pytest.raises(JournalError):
        flow.resume_sync()
    assert flow.undo_sync().outcome is r.Outcome.UNDONE
    assert site.world.things == set()
