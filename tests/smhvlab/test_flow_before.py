"""A step's last look before it begins."""

from __future__ import annotations

import pytest
from toy_site import ToyError, ToyFlow, ToySite, ToyState, fail_at, quiet

from smhvlab import record as r
from smhvlab.errors import NotAllowed
from smhvlab.steps import step


class WatchedFlow(ToyFlow):
    """Overwrite volumes that nobody else uses."""

    @step("Overwrite", tr="7.1/5", pivot=True)
    def overwrite(self, s: ToyState) -> None:
        self.toy.ensure("first")
        self.toy.ensure("second")

    @overwrite.before
    def look_again(self, s: ToyState) -> None:
        self.toy.read("users")
        if "user" in self.toy.world.things:
            raise NotAllowed("Somebody uses them", next_action="Ask him.")


def test_what_a_pivot_s_last_look_refuses_is_undone(site: ToySite) -> None:
    """The look comes after the approval, and the step does not count as started; the wire log tells it apart."""
    flow = WatchedFlow(site)

    def gate(planned: r.PlannedStep) -> bool:
        if planned.pivot:
            site.world.things.add("user")
        return True

    flow.gate = gate
    with pytest.raises(NotAllowed, match="Somebody uses them"):
        flow.run_sync()
    assert flow.record is not None
    assert flow.record.outcome is r.Outcome.UNDONE
    assert flow.record.steps[-1].status is r.StepStatus.PENDING
    assert site.world.things == {"user"}
    assert ("before overwrite", "read users") in site.log


def test_a_pivot_that_was_interrupted_is_not_asked_again(site: ToySite) -> None:
    """What it has left half done is no reason to stop: a resume goes on with the step itself."""
    flow = WatchedFlow(site)
    site.seam = fail_at("before make second")
    with pytest.raises(ToyError):
        flow.run_sync()
    site.seam = quiet
    site.world.things.add("user")
    looks = site.log.count(("before overwrite", "read users"))
    assert flow.resume_sync().outcome is r.Outcome.DONE
    assert site.log.count(("before overwrite", "read users")) == looks == 1
