"""EMS events: what the array reports of itself, and what applications report to it."""

from __future__ import annotations

from labenv.ontap import records as r
from labenv.ontap.core import Core

MOST = 1000
"""Events that are kept; older ones go."""


def emit(
    core: Core, name: str, *, severity: str, text: str, node: str = "", source: str = "lab", **parameters: object
) -> r.Event:
    """Record an event now; the caller commits."""
    index = core.count("event")
    first = next(iter(core.nodes.values())).name
    values = {key: str(value) for key, value in parameters.items()}
    event = r.Event(index, core.now, node or first, name, severity, source, f"{name}: {text}", values)
    core.events[str(index)] = event
    while len(core.events) > MOST:
        del core.events[next(iter(core.events))]
    return event
