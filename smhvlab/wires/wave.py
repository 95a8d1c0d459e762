"""A wave: commands that are begun one after the other, on one host or several, and waited for together.

Waves take a generator that begins them, so that what was begun is known here whatever comes after it: nothing runs
on without being waited for or stopped, and a flow's undo looks at hosts that have come to rest.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from smhvlab.errors import Cancelled, SmhvLabError, UnknownOutcome
from smhvlab.wires.pipeline import Output, Running


def collect(begun: Iterator[Running]) -> list[Output]:
    """Take the commands from a generator that begins them, wait for all, and return what each wrote, in this order.

    All are waited for even if one fails or cannot be begun; then the first failure is raised, unknown outcomes before
    others. On cancel, or Ctrl-C, those still running are stopped, in order.

    Raises:
        UnknownOutcome: also when a change could not be stopped on cancel. Else as `PowerShellWire.run`.
    """
    wave = ended(begun)
    raise_worst(one.error for one in wave)
    return [one.output for one in wave if one.output is not None]


def ended(begun: Iterator[Running]) -> list[Running]:
    """As ``collect``, but each command's failure stays in its ``error``; raised is what kept one from being begun."""
    wave: list[Running] = []
    failure: Exception | None = None
    try:
        try:
            for one in begun:
                wave.append(one)  # a list that is being extended need not hold what came so far
        except Cancelled:
            raise
        except Exception as error:
            failure = error  # raised when the others have ended
        for one in wave:
            one.wire.finish(one)
    except (Cancelled, KeyboardInterrupt) as stop:
        for one in wave:
            one.wire.abort(one, stop)
        if isinstance(stop, Cancelled):
            raise_worst([*(one.error for one in wave), stop])
        raise
    if failure is not None:
        raise_worst(one.error for one in wave if isinstance(one.error, UnknownOutcome))
        raise failure
    return wave


def raise_worst(errors: Iterable[SmhvLabError | None]) -> None:
    """Raise the first of the errors, if there is one; an unknown outcome goes before others: it has to be settled."""
    found = [error for error in errors if error is not None]
    if found:
        raise next((error for error in found if isinstance(error, UnknownOutcome)), found[0])
