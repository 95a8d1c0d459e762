"""One piece of blocking work at a time: in the calling thread, or in a thread of its own that a coroutine waits for."""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Final, TypeVar

from smhvlab.errors import NotAllowed

T = TypeVar("T")
_log = logging.getLogger(__name__)
_TICK: Final = 0.2  # seconds; a kernel interrupt reaches a waiting cell only when its event loop wakes


class Worker:
    """Runs work, turns interrupts into a call of ``cancel``, and always waits for what is under way.

    Raises NotAllowed if the work before is not done yet. ``ready`` is called before each work can be cancelled,
    ``leave`` at the end of a thread of its own.
    """

    def __init__(
        self, name: str, *, ready: Callable[[], None], cancel: Callable[[], None], leave: Callable[[], None]
    ) -> None:
        self._name = name
        self._ready = ready
        self._cancel = cancel
        self._leave = leave
        self._busy = threading.Lock()

    @property
    def busy(self) -> bool:
        return self._busy.locked()

    def here(self, work: Callable[[], T]) -> T:
        """Do it in this thread. The first Ctrl-C cancels; the second has its usual effect."""
        self._claim()
        if threading.current_thread() is not threading.main_thread():  # signals are the main thread's
            return self._owned(work)

        def interrupted(*_: object) -> None:
            signal.signal(signal.SIGINT, usual)
            self._cancel()

        usual = signal.signal(signal.SIGINT, interrupted) or signal.SIG_DFL
        try:
            return self._owned(work)
        finally:
            signal.signal(signal.SIGINT, usual)

    async def aside(self, work: Callable[[], T]) -> T:
        """Do it in a thread of its own. Cancelling this wait cancels the work, and ends when the work has ended.

        A second cancellation ends the wait at once; the work goes on to its end.
        """
        self._claim()
        done: Future[T] = Future()

        def body() -> None:
            try:
                result = self._owned(lambda: self._left(work))
            except BaseException as error:
                done.set_exception(error)  # the one who waits gets it
            else:
                done.set_result(result)

        threading.Thread(target=body, name=self._name).start()
        waiter = asyncio.wrap_future(done)
        waiter.add_done_callback(lambda w: w.exception())  # seen, even if nobody waits any more
        try:
            while not waiter.done():
                await asyncio.wait({waiter}, timeout=_TICK)
        except asyncio.CancelledError:
            self._cancel()
            while not waiter.done():
                await asyncio.wait({waiter}, timeout=_TICK)
            raise
        return waiter.result()

    def _claim(self) -> None:
        if not self._busy.acquire(blocking=False):
            raise NotAllowed(f"{self._name} is running already", next_action="Wait for its end, or cancel it.")
        self._ready()

    def _owned(self, work: Callable[[], T]) -> T:
        try:
            return work()
        finally:
            self._busy.release()

    def _left(self, work: Callable[[], T]) -> T:
        try:
            return work()
        finally:
            try:
                self._leave()
            except Exception:  # how the work ended is what matters
                _log.exception("%s could not close its connections", self._name)
