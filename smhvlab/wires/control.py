"""What a flow holds over the wires of its run: cancel, the seam for tests, and the step's name for the log."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum

from smhvlab.brake import Brake
from smhvlab.errors import Cancelled


class Wire(Enum):
    """The two protocols that smhvlab speaks."""

    REST = "REST"
    POWERSHELL = "PowerShell"


class Phase(Enum):
    """When the seam is called: before a request leaves, and after its reply has been read."""

    BEFORE = "before"
    AFTER = "after"


@dataclass(frozen=True)
class WireRequest:
    """One request as the seam and the log see it: one REST call or one PowerShell pipeline."""

    wire: Wire
    endpoint: str
    reads: bool
    title: str


Seam = Callable[[WireRequest, Phase], None]


class WireControl:
    """Shared by all wires of a site: the seam, and for each thread where it is and whose brake it obeys.

    ``step``, ``obeying`` and ``shielded`` hold for the calling thread only, so that somebody who reads the site beside
    a run is not taken for a part of it.

    Args:
        seam: called before each request and after each reply (polls excepted). What it raises goes through the wire
            untouched; tests use that to kill a run at a chosen place.

    Attributes:
        busy: held by the run that is under way: no two flows send side by side.
    """

    def __init__(self, *, seam: Seam | None = None) -> None:
        self.seam = seam
        self.busy = threading.Lock()
        self._local = threading.local()

    @property
    def step(self) -> str:
        """The step that the calling thread is in; it goes into the log's entries."""
        return str(getattr(self._local, "step", ""))

    @step.setter
    def step(self, name: str) -> None:
        self._local.step = name

    @contextmanager
    def obeying(self, brake: Brake) -> Iterator[None]:
        """Within the block this thread stops at its next request or poll once the brake is pulled; others go on."""
        before = self._brakes
        self._local.brakes = (*before, brake)
        try:
            yield
        finally:
            self._local.brakes = before

    @property
    def _brakes(self) -> tuple[Brake, ...]:
        found: tuple[Brake, ...] = getattr(self._local, "brakes", ())
        return found

    @property
    def must_stop(self) -> bool:
        """Whether what this thread does was cancelled and nothing shields it at the moment."""
        return not getattr(self._local, "shields", 0) and any(brake.pulled for brake in self._brakes)

    def check(self, waiting_for: str = "") -> None:
        """Raise `Cancelled` if the user has cancelled.

        Args:
            waiting_for: what the run was about to do or was waiting for, named in the error.
        """
        if self.must_stop:
            raise Cancelled(state=self.step or None, why=f"before {waiting_for}" if waiting_for else None)

    @contextmanager
    def shielded(self) -> Iterator[None]:
        """Within the block this thread looks at no brake."""
        self._local.shields = getattr(self._local, "shields", 0) + 1
        try:
            yield
        finally:
            self._local.shields -= 1

    @contextmanager
    def waiting(self, title: str) -> Iterator[None]:
        """Within the block the thread's brakes tell this request as in flight, unless one around it is already."""
        telling = [brake for brake in self._brakes if brake.in_flight is None]
        for brake in telling:
            brake.in_flight = title
        try:
            yield
        finally:
            for brake in telling:
                brake.in_flight = None

    def before(self, request: WireRequest) -> None:
        """Called by a wire right before a request leaves. Raises `Cancelled`, or what the seam raises."""
        self.check(request.title)
        if self.seam is not None:
            self.seam(request, Phase.BEFORE)

    def after(self, request: WireRequest) -> None:
        """Called by a wire when a reply has been read and logged. Raises what the seam raises."""
        if self.seam is not None:
            self.seam(request, Phase.AFTER)
