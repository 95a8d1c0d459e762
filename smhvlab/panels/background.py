"""One look at a site at a time in a thread of its own, so that the kernel and the buttons stay free."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from smhvlab.panels.panel import Panel, Relay

T = TypeVar("T")


class Background(Generic[T]):
    """Runs ``look`` aside and brings what it found to the panel's thread.

    Args:
        look: blocking; runs in a thread of its own, which owns its connections.
        release: closes the connections of that thread.
        done: called in the panel's thread with what was found, or with the error.
        relay: the panel's.
    """

    def __init__(
        self,
        look: Callable[[], T],
        *,
        release: Callable[[], None],
        done: Callable[[T | None, BaseException | None], None],
        relay: Relay,
    ) -> None:
        self._look = look
        self._release = release
        self._done = done
        self._relay = relay
        self._settled = threading.Event()
        self._settled.set()
        self._looking = False

    @property
    def busy(self) -> bool:
        """Whether a look is under way."""
        return self._looking

    def start(self) -> None:
        """Look, unless somebody is looking."""
        with self._relay.lock:
            if self.busy:
                return
            self._looking = True
            self._settled.clear()
        threading.Thread(target=self._body, name="panel: a look at the site").start()

    def _body(self) -> None:
        found: T | None = None
        error: BaseException | None = None
        try:
            try:
                found = self._look()
            finally:
                self._release()
        except BaseException as caught:
            error = caught  # shown by the panel; nobody else is there to see it
        self._relay(self._over, found, error)

    def _over(self, found: T | None, error: BaseException | None) -> None:
        self._looking = False
        try:
            self._done(found, error)
        finally:
            self._settled.set()  # who waits sees what ``done`` has made of it

    def wait(self, seconds: float = 60) -> None:
        """Block until the look has ended; for scripts. Raises TimeoutError."""
        if not self._settled.wait(seconds):
            raise TimeoutError(f"no end after {seconds:g} s")

    async def settled(self, seconds: float = 60) -> None:
        """Wait until the look has ended; for cells. Raises TimeoutError."""
        async with asyncio.timeout(seconds):
            while not self._settled.is_set():  # noqa: ASYNC110 # any thread sets it, with or without a loop
                await asyncio.sleep(0.02)  # meanwhile the buttons work


class BackgroundPanel(Panel):
    """A panel with work aside; subclasses set ``_work``."""

    _work: Background[Any]

    def wait(self, seconds: float = 60) -> None:
        """Block until the work aside has ended and is shown; for scripts. Raises TimeoutError."""
        self._work.wait(seconds)

    async def settled(self, seconds: float = 60) -> None:
        """Wait until the work aside has ended and is shown; for cells. Raises TimeoutError."""
        await self._work.settled(seconds)
