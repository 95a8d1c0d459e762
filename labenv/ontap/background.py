"""What the array does of its own accord at a time: carried along by lab time, which it never moves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from labenv.ontap.core import Core


class Duty(Protocol):
    """Something to be done again and again, or once at a time that is known."""

    name: str

    def due(self, core: Core) -> int | None:
        """When there is something to do next (lab microseconds); None: nothing is planned."""

    def act(self, core: Core) -> None:
        """Do what is due now; the caller commits."""


class Background:
    """Keeps one waiting lab task for each duty that has something planned."""

    def __init__(self, core: Core, duties: Sequence[Duty]) -> None:
        self._core = core
        self._duties = tuple(duties)
        self._waiting: dict[str, int] = {}

    def plan(self) -> None:
        """Look at every duty; needs the running event loop. Cheap: called with every request and after every job."""
        for duty in self._duties:
            due = duty.due(self._core)
            if due is not None and due < self._waiting.get(duty.name, due + 1):
                self._waiting[duty.name] = due
                self._core.clock.spawn(self._wait(duty, due), name=f"{self._core.spec.name} {duty.name}")

    def forget_tasks(self) -> None:
        """The lab's tasks were cancelled and its state replaced: nothing is waiting."""
        self._waiting.clear()

    async def _wait(self, duty: Duty, due: int) -> None:
        await self._core.clock.sleep_until(due)
        if self._waiting.get(duty.name) != due:
            return  # something earlier came up meanwhile, and its task has looked further
        del self._waiting[duty.name]
        planned = duty.due(self._core)
        if planned is not None and planned <= self._core.now:
            duty.act(self._core)
            self._core.state.commit()
        self.plan()
