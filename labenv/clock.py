"""Lab time: an integer of microseconds that moves only while an outside client waits for it."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta

SECOND = 1_000_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Clock:
    """Virtual time with a heap of wake-ups, advanced by whoever waits outside.

    Time stands still while any request is being parsed or answered, or any lab task can run. It jumps to the next
    wake-up when nothing can run and at least one outside client is *parked* (a Receive of a running command, a REST
    request within ``return_timeout``, ``advance``). Each wake-up runs until everything is quiet again before the next
    one is taken, so the same requests in the same order always see the same times.

    Whoever calls ``sleep`` or waits for a ``Signal`` must be a lab task (``spawn``) or inside ``request()``.
    """

    def __init__(self, start: datetime, *, realtime: float | None = None) -> None:
        self._now = int((start - EPOCH) / timedelta(microseconds=1))
        self._realtime = realtime  # lab seconds per real second; None: jump at once
        self._heap: list[tuple[int, int, asyncio.Future[None]]] = []
        self._sequence = 0
        self._busy = 0
        self._parked = 0
        self._hold, self._park = _Hold(self), _Park(self)
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._way: tuple[float, int, int] | None = None  # real time: since when, from which lab time to which
        self.on_failure: Callable[[BaseException], None] | None = None

    @property
    def now(self) -> int:
        """Lab time in microseconds since 1970."""
        return self._now

    @property
    def time(self) -> datetime:
        """Lab time as an aware datetime (UTC)."""
        return EPOCH + timedelta(microseconds=self._now)

    def set(self, now: int) -> None:
        """Continue from a stored time; only for a lab that has no waiting task yet."""
        self._now = now

    def request(self) -> AbstractContextManager[None]:
        """Hold time while a request is being parsed and answered."""
        return self._hold

    def spawn(self, coroutine: Coroutine[object, object, None], *, name: str) -> asyncio.Task[None]:
        """Start a lab task; time stands still while it can run."""
        self._busy += 1
        started = False

        async def run() -> None:
            nonlocal started
            started = True
            try:
                await coroutine
            except asyncio.CancelledError:
                raise
            except Exception as error:
                if self.on_failure is None:
                    raise
                self.on_failure(error)
            finally:
                self._idle()

        def forget(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            if not started:  # cancelled before its first step: nobody else gives its hold on time back
                coroutine.close()
                self._idle()

        task = asyncio.get_running_loop().create_task(run(), name=name)
        self._tasks.add(task)
        task.add_done_callback(forget)
        return task

    async def sleep(self, seconds: float) -> None:
        """Wait for lab seconds without asking for time to move (a background task)."""
        await self.sleep_until(self._now + round(seconds * SECOND))

    async def sleep_until(self, when: int) -> None:
        """Wait until a lab time in microseconds; returns at once if it has passed."""
        if when <= self._now:
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sequence += 1
        heapq.heappush(self._heap, (when, self._sequence, future))
        await self._wait(future)

    async def spend(self, seconds: float) -> None:
        """Wait for lab seconds on behalf of an outside client, so that time moves (the cost of an operation)."""
        with self.parked():
            await self.sleep(seconds)

    async def advance(self, seconds: float) -> None:
        """Let lab time pass, with everything that happens meanwhile."""
        with self.request():
            await self.spend(seconds)

    def parked(self) -> AbstractContextManager[None]:
        """Count an outside client as waiting; the waiting itself is done with ``sleep`` or ``Signal.wait``."""
        return self._park

    def signal(self) -> Signal:
        """A new event on which lab tasks and parked requests wait."""
        return Signal(self)

    async def cancel_tasks(self) -> None:
        """End every lab task (the lab is stopping or being restored)."""
        tasks = [t for t in self._tasks if t is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _wait(self, future: asyncio.Future[None]) -> None:
        self._idle()
        try:
            await future
        except asyncio.CancelledError:
            if not future.done() or future.cancelled():
                future.cancel()
                self._busy += 1  # nobody woke us: take the hold back ourselves
            raise

    def _wake(self, future: asyncio.Future[None]) -> None:
        """Make a waiter runnable; its hold on time begins now, not when the event loop reaches it."""
        if not future.done():
            self._busy += 1
            future.set_result(None)

    def _idle(self) -> None:
        self._busy -= 1
        if self._busy == 0:
            asyncio.get_running_loop().call_soon(self._jump)

    def keep_pace(self, realtime: float | None) -> None:
        """From here on time passes at so many lab seconds per real second; None: it jumps."""
        self._realtime = realtime

    def _jump(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._catch_up()
        if self._busy or not self._parked:
            return
        while self._heap and self._heap[0][2].done():
            heapq.heappop(self._heap)
        if not self._heap:
            return
        when = self._heap[0][0]
        if self._realtime is not None and when > self._now:
            loop = asyncio.get_running_loop()
            self._way = (loop.time(), self._now, when)
            self._timer = loop.call_later((when - self._now) / SECOND / self._realtime, self._arrive)
        else:
            self._arrive()

    def _arrive(self) -> None:
        self._timer = None
        if self._busy or not self._parked or not self._heap:
            return  # whoever is busy now calls for the next jump, which finds how far time has come
        self._way = None
        when, _, future = heapq.heappop(self._heap)
        self._now = max(self._now, when)
        if future.done():
            asyncio.get_running_loop().call_soon(self._jump)
        else:
            self._wake(future)

    def _catch_up(self) -> None:
        """Real time only: what has passed of a way to the next wake-up that a request has interrupted."""
        if self._way is not None and self._realtime is not None:
            since, start, end = self._way
            self._way = None
            passed = (asyncio.get_running_loop().time() - since) * self._realtime
            self._now = max(self._now, min(end, start + int(passed * SECOND)))


class _Hold:
    """Entered as often as there are requests; a generator for each of them would cost more than what it counts."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def __enter__(self) -> None:
        self._clock._busy += 1

    def __exit__(self, *_: object) -> None:
        self._clock._idle()


class _Park:
    """Entered as often as there are clients that wait."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def __enter__(self) -> None:
        self._clock._parked += 1

    def __exit__(self, *_: object) -> None:
        self._clock._parked -= 1


class Signal:
    """An event in lab time: setting it makes every waiter runnable before time can move."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._waiters: list[asyncio.Future[None]] = []
        self._set = False

    def is_set(self) -> bool:
        """Whether the event has happened and was not cleared since."""
        return self._set

    def set(self) -> None:
        """Let every waiter go on."""
        self._set = True
        if self._waiters:
            waiters, self._waiters = self._waiters, []
            for future in waiters:
                self._clock._wake(future)

    def clear(self) -> None:
        """Make later waiters wait again."""
        self._set = False

    async def wait(self) -> None:
        """Wait until the event has happened; without a hold on time meanwhile."""
        if self._set:
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(future)
        await self._clock._wait(future)
