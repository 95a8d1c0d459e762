"""Cancel, interrupts and threads of a flow."""

from __future__ import annotations

import asyncio
import signal
import threading
from types import SimpleNamespace
from typing import Any

import pytest
from toy_site import Kill, PivotFlow, ToyError, ToyFlow, ToySite, events, fail_at, quiet

from smhvlab import record as r
from smhvlab.brake import Brake
from smhvlab.doctor import unfinished
from smhvlab.dr.replication import Replication, update_after_backup
from smhvlab.errors import Cancelled
from smhvlab.restore.vm import RestoreVm


def test_cancel_stops_before_the_next_request_and_undoes(site: ToySite) -> None:
    """The request in flight is finished first; the listener hears what the run waits for."""
    flow = ToyFlow(site)
    heard = events(flow)
    site.seam = lambda where: flow.cancel() if where == "before make vol1/copy1" else None
    with pytest.raises(Cancelled):
        flow.run_sync()
    assert site.world.made == ["vol1/copy1"]
    assert site.world.things == set()
    assert r.Waiting("snapshot", "make vol1/copy1") in heard
    assert heard.index(r.Waiting("snapshot", "make vol1/copy1")) < heard.index(r.UndoStarted("snapshot"))
    assert not flow.cancelling
    assert flow.in_flight is None


def test_cancel_after_the_pivot_stops(site: ToySite) -> None:
    """After the pivot a cancel is a stop: the run waits to be resumed."""
    flow = PivotFlow(site)
    site.seam = lambda where: flow.cancel() if where == "before make vol1/overwritten" else None
    with pytest.raises(Cancelled):
        flow.run_sync()
    assert flow.record is not None
    assert flow.record.outcome is r.Outcome.STOPPED
    site.seam = quiet
    assert flow.resume_sync().outcome is r.Outcome.DONE


def test_cancel_during_an_undo_has_no_effect(site: ToySite) -> None:
    """An undo that has begun goes to its end."""
    flow = ToyFlow(site)
    site.seam = lambda where: flow.cancel() if where in ("before make vol1/copy1", "before drop vol1/copy1") else None
    with pytest.raises(Cancelled):
        flow.run_sync()
    assert site.world.things == set()


def test_cancel_of_an_idle_flow_has_no_effect(site: ToySite) -> None:
    """The next run is not hit by it."""
    flow = ToyFlow(site)
    flow.cancel()
    assert flow.run_sync().outcome is r.Outcome.DONE


def test_a_cancel_that_comes_too_late_has_no_effect(site: ToySite, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between a run's last word and the end of its thread nothing is left to cancel: not the next work either."""
    flow = ToyFlow(site)
    monkeypatch.setattr(site, "release", flow.cancel)  # a reader presses Stop while the connections are closed
    assert asyncio.run(flow.run()).outcome is r.Outcome.DONE
    assert not flow.cancelling
    site.read("volumes")
    assert ToyFlow(site).run_sync().outcome is r.Outcome.DONE
    assert flow.run_sync().outcome is r.Outcome.DONE


def test_a_cancel_that_comes_early_counts(site: ToySite, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once a run has been asked for it can be cancelled, also before its thread has looked at anything."""
    flow = ToyFlow(site)
    start = threading.Thread.start

    def late(thread: threading.Thread) -> None:
        flow.cancel()
        start(thread)

    with monkeypatch.context() as slow:
        slow.setattr(threading.Thread, "start", late)
        with pytest.raises(Cancelled):
            asyncio.run(flow.run())
    assert site.world.made == []


def test_a_cancel_stops_nobody_else(site: ToySite) -> None:
    """The cancel of a plan ends the plan, and not another flow's run on the same site."""
    mine, other = ToyFlow(site), ToyFlow(site)
    entered, go_on = threading.Event(), threading.Event()
    planning = threading.Event()

    def seam(where: str) -> None:
        if where == "before make vol1/copy1":
            entered.set()
            assert go_on.wait(10)
        elif where == "before read volumes" and entered.is_set() and not planning.is_set():
            planning.set()
            other.cancel()
            site.read("more")

    site.seam = seam
    outcomes: list[r.Outcome] = []
    run = threading.Thread(target=lambda: outcomes.append(mine.run_sync().outcome))
    run.start()
    assert entered.wait(10)
    with pytest.raises(Cancelled):
        other.plan()
    site.read("volumes")
    go_on.set()
    run.join(10)
    assert outcomes == [r.Outcome.DONE]


def test_a_reader_beside_a_cancelled_run_reads_on(site: ToySite) -> None:
    """While a run waits for its last request to end, others are not refused theirs."""
    flow = ToyFlow(site)

    def seam(where: str) -> None:
        if where == "before make vol1/copy1":
            flow.cancel()
            site.seam = quiet
            reader = threading.Thread(target=lambda: (site.read("volumes"), read.append(True)))
            reader.start()
            reader.join(10)

    read: list[bool] = []
    site.seam = seam
    with pytest.raises(Cancelled):
        flow.run_sync()
    assert read == [True]


def test_who_takes_several_runs_is_cancelled_as_a_whole(site: ToySite) -> None:
    """A brake around runs stops the run that is under way, lets its undo go to its end, and stops what follows."""
    brake = Brake()
    flow = ToyFlow(site)
    site.seam = lambda where: brake.pull() if where == "before make vol1/copy1" else None
    with site.control.obeying(brake):
        with pytest.raises(Cancelled):
            flow.run_sync()
        with pytest.raises(Cancelled):
            ToyFlow(site).run_sync()
    assert flow.record is not None
    assert flow.record.outcome is r.Outcome.UNDONE
    assert (site.world.made, site.world.things) == (["vol1/copy1"], set())


def test_ctrl_c_cancels_and_the_handler_is_put_back(site: ToySite) -> None:
    """The first Ctrl-C of a script is a cancel: the request ends, then the undo runs."""
    before = signal.getsignal(signal.SIGINT)
    flow = ToyFlow(site)
    site.seam = lambda where: signal.raise_signal(signal.SIGINT) if where == "before make vol2/copy1" else None
    with pytest.raises(Cancelled):
        flow.run_sync()
    assert site.world.made == ["vol1/copy1", "vol2/copy1"]
    assert site.world.things == set()
    assert signal.getsignal(signal.SIGINT) is before


def test_ctrl_c_comes_at_any_line(site: ToySite) -> None:
    """Also while the thread that it interrupts holds what guards the brake: then too it is a cancel, and no hang."""
    flow = ToyFlow(site)
    lock = flow._runner._lock

    def seam(where: str) -> None:
        if where == "before make vol2/copy1":
            with lock:
                signal.raise_signal(signal.SIGINT)

    site.seam = seam
    with pytest.raises(Cancelled):
        flow.run_sync()
    assert site.world.things == set()


def test_a_second_ctrl_c_leaves_the_run_to_the_doctor(site: ToySite) -> None:
    """Twice means now: KeyboardInterrupt is not handled and the journal stays open."""
    flow = ToyFlow(site)

    def seam(where: str) -> None:
        if where == "before make vol2/copy1":
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)

    site.seam = seam
    with pytest.raises(KeyboardInterrupt):
        flow.run_sync()
    assert site.world.things == {"vol1/copy1"}
    assert [u.allowed for u in unfinished("toy")] == [("resume", "undo")]


def test_what_forgives_failures_does_not_forgive_a_cancel() -> None:
    """A script after a restore and an update of mirrors may fail; a cancel of theirs is the whole run's."""

    def cancelled(*_: object) -> Replication:
        raise Cancelled

    with pytest.raises(Cancelled):
        update_after_backup([cancelled], [])
    stand_in = SimpleNamespace(_node=cancelled)
    state: Any = SimpleNamespace(script="Get-Date", script_parameters={})
    with pytest.raises(Cancelled):
        RestoreVm.post.run(stand_in, state)


# --- threads


def test_an_awaited_run_has_a_thread_of_its_own(site: ToySite) -> None:
    """The event loop stays free; all requests and events come from one other thread."""
    threads: set[str] = set()
    flow = ToyFlow(site)

    def note(_: object) -> None:
        threads.add(threading.current_thread().name)

    flow.on_event = note
    site.seam = note
    record = asyncio.run(flow.run())
    assert record.outcome is r.Outcome.DONE
    assert threads == {"smhvlab: Copy some volumes"}
    assert site.released == ["smhvlab: Copy some volumes"], "the connections end with their thread"


def test_an_interrupted_await_waits_for_the_request_and_the_undo(site: ToySite) -> None:
    """CancelledError comes out only after the request in flight has ended and everything is undone."""
    entered, go_on = threading.Event(), threading.Event()
    flow = ToyFlow(site)

    def seam(where: str) -> None:
        if where == "before make vol1/copy1":
            entered.set()
            assert go_on.wait(10)

    site.seam = seam

    async def scenario() -> None:
        task = asyncio.create_task(flow.run())
        await asyncio.to_thread(entered.wait, 10)
        task.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert flow.cancelling
        assert not task.done()
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(scenario())
    assert site.world.made == ["vol1/copy1"]
    assert site.world.things == set()
    assert flow.record is not None
    assert flow.record.outcome is r.Outcome.UNDONE


def test_a_second_interrupt_ends_the_wait_and_not_the_undo(site: ToySite) -> None:
    """The user gets the cell back; the thread still undoes."""
    entered, go_on = threading.Event(), threading.Event()
    ended = threading.Event()
    flow = ToyFlow(site)
    flow.on_event = lambda event: ended.set() if isinstance(event, r.RunEnded) else None

    def seam(where: str) -> None:
        if where == "before make vol1/copy1":
            entered.set()
            assert go_on.wait(10)

    site.seam = seam

    async def scenario() -> None:
        task = asyncio.create_task(flow.run())
        await asyncio.to_thread(entered.wait, 10)
        for _ in range(2):
            task.cancel()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        with pytest.raises(asyncio.CancelledError):
            await task
        assert flow.running
        go_on.set()
        assert await asyncio.to_thread(ended.wait, 10)

    asyncio.run(scenario())
    assert site.world.things == set()


def test_failures_reach_the_one_who_awaits(site: ToySite) -> None:
    """An error of the run's thread is raised by the await, a kill too."""
    flow = ToyFlow(site)
    site.seam = fail_at("before make vol1/copy1")
    with pytest.raises(ToyError):
        asyncio.run(flow.run())
    site.seam = fail_at("before make vol1/copy2", Kill())
    with pytest.raises(Kill):
        asyncio.run(flow.run())
    assert asyncio.run(flow.undo()).outcome is r.Outcome.UNDONE


def test_resume_can_be_awaited(site: ToySite) -> None:
    """resume() and undo() have the same two forms as run()."""
    flow = PivotFlow(site)
    site.seam = fail_at("before make vol1/overwritten")
    with pytest.raises(ToyError):
        asyncio.run(flow.run())
    assert asyncio.run(flow.resume()).outcome is r.Outcome.DONE
