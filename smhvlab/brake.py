"""The brake of one piece of work: any thread pulls it, and the thread at work looks at it."""

from __future__ import annotations


class Brake:
    """Pulled by a cancel; nobody else's work looks at it.

    It holds no lock: a signal's handler pulls it, whatever its thread is at.

    Attributes:
        pulled: whether the work is to stop before its next request.
        in_flight: title of the request that the work is waiting for, None if there is none.
    """

    def __init__(self) -> None:
        self.in_flight: str | None = None
        self.pulled = False

    def pull(self) -> None:
        """Ask the work to stop at its next request or poll. From any thread."""
        self.pulled = True

    def release(self) -> None:
        """Take that back: the work has stopped, or other work begins."""
        self.pulled = False
