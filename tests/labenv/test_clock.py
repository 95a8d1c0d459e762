"""The rules of lab time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from labenv.clock import SECOND, Clock

START = datetime(2013, 3, 4, 8, 0, tzinfo=UTC)


async def quiet(turns: int = 20) -> None:
    """Give everything that can run its turns."""
    for _ in range(turns):
        await asyncio.sleep(0)


def run(scenario: Callable[[Clock], Coroutine[Any, Any, None]], *, realtime: float | None = None) -> None:
    """Play a scenario on a clock of its own."""
    asyncio.run(scenario(Clock(START, realtime=realtime)))


def passed(clock: Clock) -> float:
    """Lab seconds since the start."""
    return (clock.time - START) / timedelta(seconds=1)


def test_time_stands_still_while_nobody_outside_waits() -> None:
    """A background task that sleeps does not move the clock, however long the event loop runs."""

    async def scenario(clock: Clock) -> None:
        woken = []

        async def background() -> None:
            await clock.sleep(5)
            woken.append(clock.now)

        clock.spawn(background(), name="background")
        await quiet(200)
        assert woken == []
        assert passed(clock) == 0
        await clock.cancel_tasks()

    run(scenario)


def test_a_waiting_client_carries_the_background_along() -> None:
    """While a client waits ten seconds, tasks due within them run at their own times, and later ones do not."""

    async def scenario(clock: Clock) -> None:
        seen: list[tuple[str, float]] = []

        async def background(name: str, seconds: float) -> None:
            await clock.sleep(seconds)
            seen.append((name, passed(clock)))

        for name, seconds in (("late", 11), ("b", 7), ("a", 3)):
            clock.spawn(background(name, seconds), name=name)
        await clock.advance(10)
        assert seen == [("a", 3), ("b", 7)]
        assert passed(clock) == 10
        await clock.cancel_tasks()

    run(scenario)


def test_time_does_not_move_during_a_request() -> None:
    """While one request is being answered, another client's wait does not move the clock."""

    async def scenario(clock: Clock) -> None:
        release = asyncio.Event()

        async def request() -> None:
            with clock.request():
                await release.wait()  # parsing, computing: real time that costs no lab time

        answering = asyncio.create_task(request())
        await quiet()
        waiting = asyncio.create_task(clock.advance(10))
        await quiet(200)
        assert passed(clock) == 0
        release.set()
        await asyncio.gather(answering, waiting)
        assert passed(clock) == 10

    run(scenario)


def test_equal_times_wake_in_the_order_in_which_they_were_asked_for() -> None:
    """Ten tasks due at the same moment run in the order of their sleeps, not in that of their names or objects."""

    async def scenario(clock: Clock) -> None:
        seen: list[int] = []

        async def background(number: int) -> None:
            await clock.sleep_until(clock.now + 2 * SECOND)
            seen.append(number)

        for number in (4, 1, 8, 0, 9, 2, 7, 3, 6, 5):
            clock.spawn(background(number), name=str(number))
        await clock.advance(3)
        assert seen == [4, 1, 8, 0, 9, 2, 7, 3, 6, 5]

    run(scenario)


def test_one_wake_up_runs_until_all_is_quiet_before_the_next() -> None:
    """What a wake-up sets in motion, over any number of turns of the loop and tasks, still sees its own time."""

    async def scenario(clock: Clock) -> None:
        seen: list[tuple[str, float]] = []
        done = clock.signal()

        async def follower() -> None:
            await done.wait()
            await quiet(5)
            seen.append(("follower", passed(clock)))

        async def first() -> None:
            await clock.sleep(1)
            await quiet(30)
            done.set()
            clock.spawn(child(), name="child")
            seen.append(("first", passed(clock)))

        async def child() -> None:
            await quiet(10)
            seen.append(("child", passed(clock)))

        async def second() -> None:
            await clock.sleep(1.000001)
            seen.append(("second", passed(clock)))

        for work in (follower(), first(), second()):
            clock.spawn(work, name="work")
        await clock.advance(2)
        assert sorted(seen[:-1]) == [("child", 1.0), ("first", 1.0), ("follower", 1.0)]
        assert seen[-1] == ("second", 1.000001)

    run(scenario)


def test_a_signal_wakes_a_parked_client_without_moving_time() -> None:
    """A client parked on a signal lets time run to the event and then goes on at exactly that time."""

    async def scenario(clock: Clock) -> None:
        ready = clock.signal()

        async def job() -> None:
            await clock.sleep(4)
            ready.set()

        async def client() -> None:
            with clock.request(), clock.parked():
                await ready.wait()
            assert ready.is_set()

        clock.spawn(job(), name="job")
        await client()
        assert passed(clock) == 4
        ready.clear()
        assert not ready.is_set()

    run(scenario)


def test_cancelled_waiters_leave_the_clock_usable() -> None:
    """A client that goes away and a task that is cancelled at any point give back their hold on time."""

    async def scenario(clock: Clock) -> None:
        async def background() -> None:
            await clock.sleep(3)

        async def client() -> None:
            with clock.request():
                await clock.spend(100)

        for turns in range(6):
            task, visitor = clock.spawn(background(), name="gone"), asyncio.create_task(client())
            await quiet(turns)
            task.cancel()
            visitor.cancel()
            await asyncio.gather(task, visitor, return_exceptions=True)
        before = passed(clock)
        await asyncio.wait_for(clock.advance(1), 5)
        assert passed(clock) == before + 1
        await asyncio.wait_for(clock.advance(1), 5)
        assert passed(clock) == before + 2

    run(scenario)


def test_cancel_tasks_ends_all_and_a_new_life_begins() -> None:
    """After ``cancel_tasks`` nothing of before is due any more, and the clock can be set back."""

    async def scenario(clock: Clock) -> None:
        seen: list[str] = []

        async def background() -> None:
            await clock.sleep(2)
            seen.append("past")

        clock.spawn(background(), name="asleep")
        await quiet()
        clock.spawn(background(), name="not begun")
        await clock.cancel_tasks()
        clock.set(int(START.timestamp()) * SECOND)
        await clock.advance(60)
        assert seen == []
        assert passed(clock) == 60

    run(scenario)


def test_a_task_that_fails_is_told_and_time_goes_on() -> None:
    """The failure of a lab task reaches ``on_failure`` and does not hold time."""

    async def scenario(clock: Clock) -> None:
        failures: list[BaseException] = []
        clock.on_failure = failures.append

        async def broken() -> None:
            await clock.sleep(1)
            raise ValueError("broken")

        clock.spawn(broken(), name="broken")
        await clock.advance(5)
        assert [str(failure) for failure in failures] == ["broken"]
        assert passed(clock) == 5

    run(scenario)


def test_sleeping_until_the_past_returns_at_once() -> None:
    """A time that has passed is not waited for, and no negative wait moves the clock back."""

    async def scenario(clock: Clock) -> None:
        with clock.request():
            await clock.sleep_until(clock.now - SECOND)
            await clock.sleep(-1)
            await clock.sleep(0)
        assert passed(clock) == 0

    run(scenario)


def test_the_same_requests_see_the_same_times() -> None:
    """Two clocks given the same clients and tasks tell the same story, microsecond by microsecond."""
    stories: list[list[tuple[str, int]]] = []

    async def scenario(clock: Clock) -> None:
        story: list[tuple[str, int]] = []

        async def job(name: str, seconds: float) -> None:
            for _ in range(3):
                await clock.sleep(seconds)
                story.append((name, clock.now))

        async def client(name: str, seconds: float) -> None:
            with clock.request():
                clock.spawn(job(name, seconds / 3), name=name)
                await clock.spend(seconds)
                story.append((f"{name} answered", clock.now))

        await asyncio.gather(*(client(name, seconds) for name, seconds in (("x", 1.0), ("y", 2.5), ("z", 1.0))))
        stories.append(story)

    run(scenario)
    run(scenario)
    assert len(stories[0]) > 9
    assert stories[0] == stories[1]


class RealTime:
    """A clock with a real-time factor on an event loop whose time the test moves."""

    def __init__(self, factor: float) -> None:
        self.factor = factor
        self.real = 0.0

    def play(self, scenario: Callable[[Clock, RealTime], Coroutine[Any, Any, None]]) -> None:
        """Run a scenario on a loop whose time is ``real``."""
        with asyncio.Runner() as runner:
            runner.get_loop().time = lambda: self.real  # type: ignore[method-assign]
            runner.run(scenario(Clock(START, realtime=self.factor), self))

    async def wait(self, seconds: float) -> None:
        """Let real seconds pass."""
        self.real += seconds
        await quiet()


def test_real_time_waits_in_proportion() -> None:
    """With a factor of 60, a lab minute is over after one real second and not before."""

    async def scenario(clock: Clock, real: RealTime) -> None:
        waiting = asyncio.create_task(clock.advance(60))
        await quiet()
        await real.wait(0.9)
        assert not waiting.done()
        await real.wait(0.2)
        assert waiting.done()
        assert passed(clock) == 60

    RealTime(60).play(scenario)


def test_real_time_is_not_set_back_by_requests_in_between() -> None:
    """Requests that are answered during a wait do not make it longer, and see the time that has passed so far."""

    async def scenario(clock: Clock, real: RealTime) -> None:
        waiting = asyncio.create_task(clock.advance(10))
        await quiet()
        seen = []
        for _ in range(9):
            await real.wait(1)
            with clock.request():
                await quiet()
            await quiet()
            seen.append(passed(clock))
        assert seen == [pytest.approx(second) for second in range(1, 10)]
        assert not waiting.done()
        await real.wait(1.1)
        assert waiting.done()
        assert passed(clock) == 10

    RealTime(1).play(scenario)


def test_real_time_stands_still_when_the_client_has_gone() -> None:
    """A client that gives up after two of ten seconds leaves the clock there, however much later the next one comes."""

    async def scenario(clock: Clock, real: RealTime) -> None:
        waiting = asyncio.create_task(clock.advance(10))
        await quiet()
        await real.wait(2)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        await real.wait(1000)
        with clock.request():
            await quiet()
        await quiet()
        assert passed(clock) == pytest.approx(2)

    RealTime(1).play(scenario)


def test_a_request_that_outlasts_the_wake_up_does_not_lose_it() -> None:
    """The wake-up comes due while a request is being answered: time stands until it is, then the waiter goes on."""

    async def scenario(clock: Clock, real: RealTime) -> None:
        waiting = asyncio.create_task(clock.advance(1))
        await quiet()
        with clock.request():
            await real.wait(5)
            assert not waiting.done()
            assert passed(clock) == 0
        await quiet()
        assert waiting.done()
        assert passed(clock) == 1

    RealTime(1).play(scenario)
