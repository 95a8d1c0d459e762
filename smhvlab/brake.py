"""The brake of one piece of work: any thread pulls it, and the thread at work looks at it."""

from __future__ import annotations

import threading


class Brake:
    """Pulled by a cancel; nobody else's work looks at it.

    Attributes:
        in_flight: title of the request that the work is waiting for, None if there is none.
    """

    def __init__(self) -> None:
        self.in_flight: str | None = None
        self._pulled = threading.Event()

    @property
    def pulled(self) -> bool:
        """Whether the work is to stop before its next request."""
        return self._pulled.is_set()

    def pull(self) -> None:
        """Ask the work to stop at its next request or poll. From any thread."""
        self._pulled.set()

    def release(self) -> None:
        """Take that back: the work has stopped, or other work begins."""
        self._pulled.clear()
