"""What can be broken: rules that delay, refuse or drop a request, matched by where it happens and what it names."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from labenv.clock import Clock


@dataclass(frozen=True)
class Fault:
    """One rule.

    Attributes:
        where: the place it acts at, a key of ``PLACES``.
        match: name -> pattern (``*`` and ``?`` as in file names); every pattern must match.
        effect: ``delay`` (lab seconds in ``seconds``), ``error`` (``status`` and ``code``, ``message``), ``drop``
            (the connection is closed without an answer, before the effect), ``lose-reply`` (after the effect),
            ``job-failure`` (``ontap.request`` only: the request is accepted, and its job fails with ``code`` and
            ``message``) or ``die`` (``vss.provider`` only: the provider's process ends).
        times: how often it acts; None: always.
        cause: the named cause that the rule is part of (``labenv.causes``); with the effect ``cause``, the one that is
            set when the rule acts, with ``options``.
    """

    where: str
    effect: str
    match: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    status: int = 500
    code: str = ""
    message: str = ""
    times: int | None = 1
    cause: str = ""
    options: Mapping[str, str] = field(default_factory=dict)


class FaultRaised(Exception):
    """A fault asks the server to answer with an error."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.message or f"injected fault {fault.code}")
        self.fault = fault


class ConnectionDropped(Exception):
    """A fault asks the server to close the connection without an answer."""


class ProcessDied(Exception):
    """A fault ends the process that acts at a place."""


PLACES = {
    "ontap.request": ("cluster", "method", "path", "user"),
    "windows.cmdlet": ("host", "cmdlet"),
    "windows.service": ("host", "service"),
    "windows.disk": ("host", "serial", "event"),
    "vss.requestor": ("host", "phase"),
    "vss.writer": ("host", "writer", "phase", "vm"),
    "vss.provider": ("host", "provider", "phase"),
    "vss.volume": ("host", "volume", "phase"),
}
"""Where faults can act, and the names that their patterns may use; docs/lab.md tells what each stands for."""

REQUESTS = ("ontap.request", "windows.cmdlet")
"""Places that stand for a request of a client; a general delay acts there."""

EFFECTS = ("delay", "error", "drop", "lose-reply", "job-failure", "die")

CAUSE = "cause"
"""The effect by which a named cause waits for its moment."""


class Faults:
    """The rules that are set now.

    Attributes:
        delay: lab seconds that every request takes longer, besides any rule; it is not a rule, ``clear`` leaves it.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.delay = 0.0
        self.on_cause: Callable[[Fault], Awaitable[None]] | None = None
        self._rules: list[tuple[Fault, int]] = []  # with the number of times it has acted

    def set(self, fault: Fault) -> None:
        """Add a rule; raises ValueError that names what is wrong with it."""
        if fault.where not in PLACES:
            raise ValueError(f"unknown place {fault.where!r}: one of {', '.join(PLACES)}")
        if fault.effect not in EFFECTS and not (fault.effect == CAUSE and fault.cause):
            raise ValueError(f"unknown effect {fault.effect!r}: one of {', '.join(EFFECTS)}")
        unknown = sorted(set(fault.match) - set(PLACES[fault.where]))
        if unknown:
            raise ValueError(f"{fault.where} has no {unknown[0]!r} to match: one of {', '.join(PLACES[fault.where])}")
        if fault.seconds < 0 or (fault.effect == "delay") != (fault.seconds > 0):
            raise ValueError("a delay has more than 0 seconds, and no other effect has seconds")
        if not 400 <= fault.status <= 599:
            raise ValueError(f"status {fault.status} is not that of an error: 400 to 599")
        if fault.times is not None and fault.times < 1:
            raise ValueError(f"a fault acts at least once, not {fault.times} times")
        if fault.effect == "die" and fault.where != "vss.provider":
            raise ValueError(f"nothing dies at {fault.where} alone: die acts at vss.provider")
        if fault.effect == "job-failure":
            if fault.where != "ontap.request":
                raise ValueError(f"there are no jobs at {fault.where}: job-failure acts at ontap.request")
            if fault.code and not (fault.code.isascii() and fault.code.isdigit()):
                raise ValueError(f"the code of a job is a number, not {fault.code!r}")
        self._rules.append((fault, 0))

    def clear(self, cause: str | None = None) -> None:
        """Remove every rule, or those of one named cause."""
        self._rules = [] if cause is None else [(fault, n) for fault, n in self._rules if fault.cause != cause]

    def rules(self) -> list[tuple[Fault, int]]:
        """Every rule with the number of times it has acted."""
        return list(self._rules)

    def _next(self, where: str, names: Mapping[str, str], effects: tuple[str, ...]) -> Fault | None:
        for index, (fault, acted) in enumerate(self._rules):
            if fault.where != where or fault.effect not in effects:
                continue
            if fault.times is not None and acted >= fault.times:
                continue
            if all(fnmatchcase(names.get(name, ""), pattern) for name, pattern in fault.match.items()):
                self._rules[index] = (fault, acted + 1)
                return fault
        return None

    async def at(self, where: str, **names: str) -> None:
        """Act before the effect of a request; raises ``FaultRaised``, ``ConnectionDropped`` or ``ProcessDied``."""
        if self.delay and where in REQUESTS:
            await self._clock.spend(self.delay)
        while (fault := self._next(where, names, ("delay",))) is not None:
            await self._clock.spend(fault.seconds)
            if fault.times is None:
                break  # an unlimited delay acts once per request
        while (fault := self._next(where, names, (CAUSE,))) is not None and self.on_cause is not None:
            await self.on_cause(fault)
        fault = self._next(where, names, ("error", "drop", "die"))
        if fault is None:
            return
        if fault.effect == "die":
            raise ProcessDied(fault.message or f"the process ended at {where}")
        if fault.effect == "drop":
            raise ConnectionDropped
        raise FaultRaised(fault)

    def refuses(self, where: str, **names: str) -> Fault | None:
        """The rule by which something that cannot wait fails now, None if there is none."""
        return self._next(where, names, ("error",))

    def fails_job(self, where: str, **names: str) -> Fault | None:
        """The rule by which the job of a request is to fail, None if there is none."""
        return self._next(where, names, ("job-failure",))

    def loses_reply(self, where: str, **names: str) -> bool:
        """Whether the answer of a request, whose effect has happened, is to be dropped."""
        return self._next(where, names, ("lose-reply",)) is not None
