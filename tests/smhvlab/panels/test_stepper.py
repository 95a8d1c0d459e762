"""The flow stepper drives a flow by its buttons and shows what happens."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from toy_site import Kill, PivotFlow, ToyFlow, ToySite, World, fail_at, goal, quiet

from smhvlab import record as r
from smhvlab.doctor import reopen
from smhvlab.errors import ConfirmationNeeded, NotAllowed, PlanChanged
from smhvlab.panels.panel import VIEW
from smhvlab.panels.requests import requests_html
from smhvlab.panels.stepper import StepperPanel


@dataclass(frozen=True)
class Entry:
    number: int
    title: str
    step: str
    reads: bool = False
    code: str = ""
    endpoint: str = "array"

    @property
    def request(self) -> str:
        return f"curl '{self.title}'"


@dataclass
class ToyLog:
    site: ToySite
    old: list[Entry] = field(default_factory=list)

    @property
    def entries(self) -> list[Entry]:
        sent = [Entry(n, title, step, title.startswith("read")) for n, (step, title) in enumerate(self.site.log, 1)]
        return self.old + sent


def buttons(panel: StepperPanel) -> set[str]:
    """The buttons that can be pressed."""
    named = {
        "plan": panel.plan_button,
        "next": panel.next_button,
        "run": panel.run_button,
        "cancel": panel.cancel_button,
        "undo": panel.undo_button,
    }
    return {name for name, button in named.items() if not button.disabled}


def states(panel: StepperPanel) -> list[str]:
    return [step.status.value for step in panel.steps.values()]


@pytest.fixture
def panel(site: ToySite) -> Iterator[StepperPanel]:
    """A panel on a toy flow; the run is ended, whatever the test leaves."""
    panel = StepperPanel(ToyFlow(site), log=ToyLog(site))
    yield panel
    panel.cancel()
    panel.wait(10)


def test_a_new_panel_shows_the_steps_and_has_done_nothing(panel: StepperPanel, site: ToySite) -> None:
    """Before the plan: titles and sections, and nothing was asked of the site."""
    assert panel.describe() == "StepperPanel(Copy some volumes on toy: not planned yet, 0 of 4 steps)"
    assert buttons(panel) == {"plan", "next", "run"}
    assert "Snapshot copies" in panel.render()
    assert "6.2/1" in panel.render()
    assert site.log == []


def test_plan_shows_what_would_be_touched(panel: StepperPanel, site: ToySite) -> None:
    """The plan button surveys in the background; items, counts and skipped steps are shown."""
    panel.plan_button.click()
    panel.wait()
    picture = panel.render()
    assert "vol1, vol2" in picture
    assert "2 × snapshot" in picture
    assert "skipped because no mirror is wanted" in picture
    assert panel.status.value == "planned"
    assert site.world.made == []
    assert site.released, "the planning thread has closed its connections"


def test_run_all_runs_everything_and_shows_each_steps_requests(panel: StepperPanel, site: ToySite) -> None:
    """One press plans and runs; each step lists what it sent and how much of that was a change."""
    panel.run_button.click()
    panel.wait()
    assert site.world.things == goal(ToyFlow)
    assert states(panel) == ["done", "done", "skipped", "done"]
    assert panel.progress.value == panel.progress.max
    assert "requests: 2, changes: 2" in panel.render()
    assert "CHANGE make vol1/copy1" in panel.render()
    assert "requests: 1, changes: 0" in panel.render()
    assert panel.describe() == "StepperPanel(Copy some volumes on toy: done, 4 of 4 steps)"


def test_a_finished_run_begins_again_by_another_plan_only(site: ToySite) -> None:
    """Nothing but Plan can be pressed, the record stays until then, and the questions are asked anew."""
    panel = StepperPanel(PivotFlow(site, ask=("stop",)))
    panel.plan()
    panel.accept("stop")
    panel.run_button.click()
    panel.wait()
    assert panel.outcome is r.Outcome.DONE
    assert buttons(panel) == {"plan"}
    assert panel.confirmation_box.children == ()
    assert "☑ stop: Really stop?" in panel.render()
    made, ended = list(site.world.made), states(panel)
    with pytest.raises(NotAllowed, match="cannot be carried out any more"):
        panel.run_all()
    with pytest.raises(NotAllowed, match="nothing to undo"):
        panel.undo()
    assert site.world.made == made
    assert states(panel) == ended
    panel.plan_button.click()
    panel.wait()
    assert states(panel) == ["pending"] * len(panel.steps)
    assert not panel.confirmations["stop"].value
    assert buttons(panel) == {"plan"}


def test_next_takes_one_step_at_a_time(panel: StepperPanel, site: ToySite) -> None:
    """Between two presses the run waits, and says for what."""
    panel.next_button.click()
    panel.wait()
    assert states(panel) == ["done", "pending", "pending", "pending"]
    assert panel.status.value == "waiting for your approval of: Look at them"
    assert buttons(panel) == {"next", "run", "cancel"}
    panel.next_button.click()
    panel.wait()
    assert states(panel) == ["done", "done", "skipped", "pending"]
    assert panel.progress.value == 300
    panel.run_button.click()
    panel.wait()
    assert site.world.things == goal(ToyFlow)
    assert panel.status.value == "done"


def test_a_second_click_does_not_grant_the_step_after(panel: StepperPanel, site: ToySite) -> None:
    """Who clicks twice has read one step; the run waits before the next, which may be the point of no return."""
    panel.next()
    panel.wait()
    going, clicked = threading.Event(), threading.Event()

    def seam(where: str) -> None:
        going.set()
        clicked.wait(30)

    site.seam = seam
    panel.next()
    assert going.wait(30)
    panel.next()
    clicked.set()
    panel.wait()
    assert states(panel) == ["done", "done", "skipped", "pending"]
    assert panel.waiting.startswith("your approval")
    panel.cancel()
    panel.wait()


def test_cancel_of_a_waiting_run_undoes_it(panel: StepperPanel, site: ToySite) -> None:
    """What was done is taken back, and a step that never began has not failed."""
    panel.next()
    panel.wait()
    panel.cancel_button.click()
    assert panel.cancel_button.disabled
    panel.wait()
    assert site.world.things == set()
    assert states(panel) == ["undone", "pending", "pending", "pending"]
    assert panel.outcome is r.Outcome.UNDONE
    assert panel.status.value == "cancelled; everything that was done is taken back"
    assert buttons(panel) == {"plan"}


@pytest.mark.parametrize("where", ["before read volumes", "after read volumes"])
def test_cancel_in_the_first_moments(panel: StepperPanel, site: ToySite, where: str) -> None:
    """Before the first step a cancel is no refusal: nothing was changed, and the run can begin again."""

    def seam(here: str) -> None:
        if here == where:
            panel.cancel()

    site.seam = seam
    panel.run_all()
    panel.wait()
    assert panel.status.value.startswith("cancelled")
    assert site.world.made == []
    assert "refused" not in panel.render()
    assert "failed" not in states(panel)
    site.seam = quiet
    panel.plan()
    panel.run_all()
    panel.wait()
    assert panel.outcome is r.Outcome.DONE


def test_cancel_says_which_request_it_waits_for(site: ToySite) -> None:
    """The request in flight is named until it has ended."""
    panel = StepperPanel(ToyFlow(site))
    seen: list[str] = []

    def seam(where: str) -> None:
        if where == "before make vol1/copy1":
            panel.cancel()
            seen.append(panel.status.value)

    site.seam = seam
    panel.run_all()
    panel.wait()
    assert seen == ["waiting for make vol1/copy1"]
    assert site.world.things == set()


def test_a_failure_shows_its_card_and_that_all_was_undone(panel: StepperPanel, site: ToySite) -> None:
    """The error's own card is under the steps; after another plan the next run starts afresh."""
    site.seam = fail_at("before make info/copy1")
    panel.run_all()
    panel.wait()
    assert "The request failed" in panel.render()
    assert "Try again." in panel.render()
    assert panel.outcome is r.Outcome.UNDONE
    site.seam = quiet
    assert buttons(panel) == {"plan"}
    panel.plan()
    panel.run_all()
    panel.wait()
    assert panel.outcome is r.Outcome.DONE
    assert panel.error is None
    assert "The request failed" not in panel.render()


def test_confirmations_have_to_be_ticked(site: ToySite) -> None:
    """The first press only plans; the buttons wait for every box."""
    panel = StepperPanel(PivotFlow(site, ask=("stop", "overwrite")))
    panel.run_all()
    panel.wait()
    assert site.world.made == []
    assert panel.status.value == "waiting for your confirmation: stop, overwrite"
    assert "☐ stop: Really stop?" in panel.render()
    assert buttons(panel) == {"plan"}
    panel.accept("stop")
    assert buttons(panel) == {"plan"}
    panel.run_all()
    assert site.world.made == []
    panel.accept("overwrite")
    assert "☑ overwrite: Really overwrite?" in panel.render()
    assert buttons(panel) == {"plan", "next", "run"}
    panel.run_all()
    panel.wait()
    assert site.world.things == goal(PivotFlow)
    assert panel.flow.record is not None
    assert panel.flow.record.accepted == ("overwrite", "stop")
    assert not isinstance(panel.error, ConfirmationNeeded)


def test_a_run_that_stopped_after_its_pivot_is_resumed_by_the_same_button(site: ToySite) -> None:
    """Undo is not offered any more; run goes on where it stopped."""
    panel = StepperPanel(PivotFlow(site))
    site.seam = fail_at("before make vol1/overwritten")
    panel.run_all()
    panel.wait()
    assert panel.outcome is r.Outcome.STOPPED
    assert "undo" not in buttons(panel)
    panel.run_all()
    panel.wait()
    assert panel.outcome is r.Outcome.DONE
    assert site.world.things == goal(PivotFlow)


def test_an_undo_that_failed_can_be_tried_again(panel: StepperPanel, site: ToySite) -> None:
    """The undo button is what is left."""
    first, second = fail_at("after make info/copy1"), fail_at("before drop info/copy1")

    def seam(where: str) -> None:
        first(where)
        second(where)

    site.seam = seam
    panel.run_all()
    panel.wait()
    assert panel.outcome is r.Outcome.UNDO_FAILED
    assert buttons(panel) == {"undo"}
    panel.undo_button.click()
    panel.wait()
    assert panel.outcome is r.Outcome.UNDONE
    assert site.world.things == set()


@pytest.mark.parametrize(("press", "wanted"), [("run", goal(ToyFlow)), ("undo", set())])
def test_a_killed_run_can_be_finished_or_undone_in_a_new_panel(site: ToySite, press: str, wanted: set[str]) -> None:
    """A flow that the doctor reopened shows what is allowed."""
    site.seam = fail_at("before make info/copy1", Kill())
    with pytest.raises(Kill):
        ToyFlow(site).run_sync()
    panel = StepperPanel(reopen(ToySite(site.world), "0001-ToyFlow"))
    assert panel.status.value == "unfinished run 0001-ToyFlow: resume or undo"
    assert {"run", "undo"} <= buttons(panel)
    (panel.run_button if press == "run" else panel.undo_button).click()
    panel.wait()
    assert site.world.things == wanted


def test_a_changed_site_is_shown_as_a_refusal(panel: StepperPanel, site: ToySite) -> None:
    """The plan that was read is the plan that is run, or nothing is."""
    panel.plan()
    site.world.volumes = ("vol1",)
    panel.run_all()
    panel.wait()
    assert isinstance(panel.error, PlanChanged)
    assert panel.status.value == "refused; nothing was changed"
    assert buttons(panel) == {"plan"}
    assert site.world.made == []


def test_what_comes_from_a_site_is_escaped(site: ToySite) -> None:
    """Names with markup are text."""
    site.world.volumes = ("<b>vol</b>",)
    panel = StepperPanel(ToyFlow(site), log=ToyLog(site))
    panel.run_all()
    panel.wait()
    assert "<b>vol" not in panel.render()
    assert "&lt;b&gt;vol" in panel.render()


def test_requests_of_earlier_runs_are_not_shown(site: ToySite) -> None:
    """Only what this run sent belongs to its steps."""
    log = ToyLog(site)
    StepperPanel(ToyFlow(site)).plan()
    ToyFlow(site).run_sync()
    panel = StepperPanel(ToyFlow(site), log=log)
    assert "CHANGE" not in panel.render()
    panel.run_all()
    panel.wait()
    assert "copy2" not in panel.render().split("CHANGE")[0]
    assert panel.render().count("CHANGE") == 3


def test_the_live_view_has_each_requests_line_to_copy(panel: StepperPanel) -> None:
    """Below a comment that says what it is stands the line itself; the stored picture has the titles only."""
    panel.run_all()
    panel.wait()
    assert "CHANGE make vol1/copy1 (array)\ncurl &#x27;make vol1/copy1&#x27;" in panel.picture.value
    assert "curl" not in panel.render()


def test_a_question_for_what_is_not_there_has_not_failed() -> None:
    """No event, no file, no entry are answers; a change that does not find its object, and other errors, failed."""
    absent = "NoMatchingEventsFound,Microsoft.PowerShell.Commands.GetWinEventCommand"
    for code, reads, told in (
        (absent, True, "read x: nothing found"),
        ("4", True, "read x: nothing found"),
        ("4", False, "CHANGE x failed: 4"),
        ("AccessDenied,NotFoundCommand", True, "read x failed: AccessDenied"),
        ("", True, "read x"),
    ):
        assert told in requests_html([Entry(1, "x", "s", reads, code)], lines=False)


def test_long_lists_of_requests_are_cut(site: ToySite) -> None:
    """A cell's output stays small; the wire log has everything."""
    site.world.volumes = tuple(f"vol{n}" for n in range(40))
    panel = StepperPanel(ToyFlow(site), log=ToyLog(site))
    panel.run_all()
    panel.wait()
    assert "... and 28 more in the wire log" in panel.render()
    assert len(panel.render()) < 20_000


def test_one_object_is_text_picture_and_live_view(panel: StepperPanel) -> None:
    """Notebooks keep the picture, kernels show the widgets, and the text has no address in it."""
    bundle = panel._repr_mimebundle_()
    assert bundle["text/plain"] == repr(panel) == panel.describe()
    assert bundle["text/html"] == panel.render()
    assert bundle[VIEW]["model_id"] == panel.view.model_id


def test_every_control_has_a_name_and_a_tooltip(site: ToySite) -> None:
    """Screen readers and people who hover are told what each control does."""
    panel = StepperPanel(ToyFlow(site, ask=("stop",)))
    panel.plan()
    controls = [
        panel.plan_button,
        panel.next_button,
        panel.run_button,
        panel.cancel_button,
        panel.undo_button,
        panel.progress,
        *panel.confirmations.values(),
    ]
    assert all(control.description and control.tooltip for control in controls)


def test_in_an_event_loop_the_view_is_changed_by_the_loops_thread_only(site: ToySite) -> None:
    """Events of the run's thread and clicks from any thread are brought to the loop."""

    async def scenario() -> None:
        panel = StepperPanel(ToyFlow(site), log=ToyLog(site))
        seen: list[bool] = []
        loop = asyncio.get_running_loop()

        def changed(_: object) -> None:
            try:
                seen.append(asyncio.get_running_loop() is loop)
            except RuntimeError:
                seen.append(False)

        panel.picture.observe(changed, names="value")
        await asyncio.to_thread(panel.next_button.click)
        await asyncio.sleep(0)
        await panel.settled(10)
        assert states(panel)[0] == "done"
        await asyncio.to_thread(panel.run_button.click)
        await asyncio.sleep(0)
        await panel.settled(10)
        assert panel.outcome is r.Outcome.DONE
        assert seen
        assert all(seen)

    asyncio.run(scenario())


def test_waiting_has_an_end(site: ToySite) -> None:
    """A run that does not settle is told as such."""
    panel = StepperPanel(ToyFlow(site))
    panel._settled.clear()
    with pytest.raises(TimeoutError):
        panel.wait(0.01)
    with pytest.raises(TimeoutError):
        asyncio.run(panel.settled(0.01))
    panel._settled.set()


def test_two_flows_of_one_world_do_not_share_a_panel() -> None:
    """Panels have no common state."""
    first, second = StepperPanel(ToyFlow(ToySite(World()))), StepperPanel(ToyFlow(ToySite(World())))
    first.run_all()
    first.wait()
    assert states(second) == ["pending"] * 4
