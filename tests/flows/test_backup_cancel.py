"""Cancelling a backup while it waits: the wait ends there and then, and everything is taken back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import smhvlab.site
from labenv import lab as labs
from smhvlab.errors import Cancelled
from smhvlab.record import Event, Outcome, StepProgress, Waiting
from smhvlab.wires.powershell import PowerShellWire
from smhvlab.wires.session import POLL_SECONDS, Session
from tests.flows.checks import picture


@pytest.mark.tr("R-9-08")
def test_a_cancel_interrupts_a_long_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the minute between two tries: not one more look at the host, most of the minute is saved, nothing is left."""
    assert POLL_SECONDS <= 0.5
    looks = 0
    waits: list[float] = []
    sleep, poll = PowerShellWire.sleep, Session.poll

    with labs.start("standalone-2012", state=tmp_path / "lab", realtime=30) as lab:
        site = smhvlab.site.connect(lab.profile)
        with site:
            site.create_dataset("Set", ["app01"])
            before = picture(site)
            lab.faults.cause("slow-array", times=0)
            flow = site.backup("Set")
            heard: list[Event] = []
            flow.on_event = heard.append

            def polled(session: Session, pipeline: object, sent: object) -> bool:
                nonlocal looks
                found = poll(session, pipeline, sent)  # type: ignore[arg-type]
                if sent.title == "Start-Sleep" and found:  # type: ignore[attr-defined]
                    looks += 1
                    flow.cancel()
                return found

            def slept(wire: PowerShellWire, seconds: float) -> None:
                began = lab.clock.now
                try:
                    sleep(wire, seconds)
                finally:
                    waits.append((lab.clock.now - began).total_seconds() / seconds)

            monkeypatch.setattr(Session, "poll", polled)
            monkeypatch.setattr(PowerShellWire, "sleep", slept)
            with pytest.raises(Cancelled):
                flow.run_sync()
            monkeypatch.undo()
            lab.faults.clear()
            assert flow.record is not None
            assert flow.record.outcome is Outcome.UNDONE
            assert looks == 1
            assert waits[0] < 1
            assert [event.what for event in heard if isinstance(event, Waiting)] == ["Start-Sleep"]
            assert picture(site) == before


def test_progress_is_told_for_each_vm_of_a_long_step(start: Callable[[str], labs.Lab]) -> None:
    """Merging the checkpoints of many VMs away takes its time: the step says how far it is."""
    lab = start("standalone-2022")
    with smhvlab.site.connect(lab.profile) as site:
        site.create_dataset("Set", ["sql01", "app01", "web01"])
        flow = site.backup("Set")
        told: list[Event] = []
        flow.on_event = told.append
        flow.run_sync()
        merged = [event for event in told if isinstance(event, StepProgress) and event.step == "merge"]
        assert [(event.done, event.total) for event in merged] == [(0, 3), (1, 3), (2, 3), (3, 3)]
