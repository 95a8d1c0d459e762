"""Several things at the same lab time."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence

from labenv.clock import Clock


async def together(clock: Clock, works: Sequence[Coroutine[object, object, None]]) -> list[Exception | None]:
    """Run everything at once and wait for all; gives what each raised. If the waiter is cancelled, so are they."""
    outcomes: list[Exception | None] = [None] * len(works)
    left = len(works)
    done = clock.signal()

    async def run(index: int, work: Coroutine[object, object, None]) -> None:
        nonlocal left
        try:
            await work
        except Exception as error:
            outcomes[index] = error
        finally:
            left -= 1
            if not left:
                done.set()

    tasks = [clock.spawn(run(i, work), name=f"together {i}") for i, work in enumerate(works)]
    if not tasks:
        return []
    try:
        await done.wait()
    except asyncio.CancelledError:
        for task in tasks:
            task.cancel()
        raise
    return outcomes
