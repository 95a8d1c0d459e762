"""What is known of shadow copy sets: signs in lanes, and the two phases that have a time limit (TR 9)."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from smhvlab.backup.evidence import WriterState
from smhvlab.vss import COMMITTED, TOO_LATE

HOLD, FREEZE = 10.0, 60.0
"""Seconds for which VSS holds writes at most, and which writers allow from Freeze to Thaw (TR 9)."""

_FROZEN = ": Freeze to Thaw"  # how the title of a traced writer's freeze ends


class Lane(StrEnum):
    """Who did something."""

    REQUESTOR = "requestor, VSS"
    WRITERS = "writers"
    GUEST = "guest"
    PROVIDER = "provider"
    ARRAY = "array"


@dataclass(frozen=True)
class Sign:
    """One thing that a site tells of a set.

    Attributes:
        node: the host, or the storage cluster.
        start: when it began; the same as ``end`` for a moment.
        source: which log told it, e.g. ``Navssprv 4089``.
        set_id: the shadow copy set that it names, "" if none.
    """

    node: str
    lane: Lane
    title: str
    start: datetime
    end: datetime
    source: str
    failed: bool = False
    detail: str = ""
    set_id: str = ""

    @property
    def seconds(self) -> float:
        """How long it took."""
        return (self.end - self.start).total_seconds()


class Verdict(StrEnum):
    """How a phase stands against its budget."""

    WITHIN = "within"
    OVER = "over"
    UNTOLD = "not told"


@dataclass(frozen=True)
class Budget:
    """A phase that VSS gives so much time and no more (TR 9).

    Attributes:
        spent: seconds that it took; None: no log tells it.
        exact: False if it took at least ``spent``.
        start: when it began, None if no log tells.
        why: where the figure comes from.
    """

    node: str
    title: str
    limit: float
    spent: float | None
    exact: bool
    start: datetime | None
    verdict: Verdict
    why: str
    set_id: str = ""


@dataclass(frozen=True)
class ShadowLog:
    """What was found about the sets of a span of time.

    Attributes:
        signs: in the order of their time.
        notes: what could not be read, or is told by no log of the site.
    """

    start: datetime
    end: datetime
    signs: tuple[Sign, ...]
    budgets: tuple[Budget, ...]
    writers: tuple[WriterState, ...]
    notes: tuple[str, ...] = field(default=())

    @property
    def failed(self) -> tuple[str, ...]:
        """What went wrong, a line each: phases over their budget, writers that failed, errors in their order."""
        over = [f"{b.title} on {b.node}: {b.why}" for b in self.budgets if b.verdict is Verdict.OVER]
        writers = [f"{w.writer} on {w.host}: {w.state}, {w.error}" for w in self.writers if has_failed(w)]
        return (*over, *writers, *(f"{s.source} on {s.node}: {s.title}" for s in self.signs if s.failed))


def has_failed(writer: WriterState) -> bool:
    """Whether a writer has failed at some phase: states 6 to 15."""
    found = re.match(r"\[(\d+)\]", writer.state)
    return found is not None and int(found[1]) >= 6


def budgets(signs: Sequence[Sign], writers: Iterable[WriterState], recorded: Collection[str] = ()) -> list[Budget]:
    """How the phases that have a budget stand against it, for each set that was committed (TR 9).

    One commit for each set; one freeze for each node whose writers took part. ``recorded``: as for ``took_part``.
    """
    made = [s for s in signs if commits(s)]
    ended = list(writers)
    found: list[Budget] = []
    for commit in made:
        verdict = Verdict.OVER if commit.failed or commit.seconds > HOLD else Verdict.WITHIN
        why = f"{commit.source}: the provider took {commit.seconds:.1f} s, {HOLD:.0f} s are allowed"
        found.append(
            Budget(
                commit.node, "CommitSnapshots", HOLD, commit.seconds, True, commit.start, verdict, why, commit.set_id
            )
        )
        last = commit is next(c for c in reversed(made) if c.node == commit.node)
        found += [_freeze(commit, node, signs, ended if last else []) for node in took_part(commit, signs, recorded)]
    return found


def took_part(commit: Sign, signs: Sequence[Sign], recorded: Collection[str]) -> list[str]:
    """The nodes whose writers were frozen for a set: that of its provider, and those of a distributed set (TR 12).

    ``recorded``: nodes whose writers' states a backup has kept. One that has committed a set itself is in no other's.
    """
    own = {sign.node for sign in signs if commits(sign)}
    traced = {s.node for s in signs if s.source == "trace" and s.lane is Lane.WRITERS and s.set_id == commit.set_id}
    return [commit.node, *sorted((traced | set(recorded)) - own)]


def commits(sign: Sign) -> bool:
    """Whether a sign is the provider's own account of a commit."""
    return sign.source in (f"Navssprv {COMMITTED}", f"Navssprv {TOO_LATE}") and sign.end > sign.start


def _freeze(commit: Sign, node: str, signs: Sequence[Sign], writers: Sequence[WriterState]) -> Budget:
    """Freeze to Thaw around a commit: from a trace; else from what must have been, and from writers that gave up."""
    title = "Freeze to Thaw"
    mine = [s for s in signs if s.node == node and s.source == "trace" and s.set_id == commit.set_id]
    # VSS itself works where the requestor is; another node's trace has only its writers.
    begun = next((s.start for s in mine if s.title.startswith("VSS: Freeze") or s.title.endswith(_FROZEN)), None)
    thawed = next((s.end for s in mine if s.title.endswith(_FROZEN)), None)
    given_up = next((s.start for s in mine if s.title == "VSS: abort"), None)
    if begun is not None and (until := thawed or given_up) is not None:
        spent = (until - begun).total_seconds()
        verdict = Verdict.OVER if spent > FREEZE else Verdict.WITHIN
        why = f"the host's trace: {spent:.1f} s, writers allow {FREEZE:.0f} s"
        return Budget(node, title, FREEZE, spent, True, begun, verdict, why, commit.set_id)
    late = [w for w in writers if w.host == node and w.state.startswith("[10]")]
    least = commit.seconds
    if late:
        why = f"{late[0].writer} waited for its thaw longer than it allows ({late[0].state}, {late[0].error})"
        return Budget(node, title, FREEZE, None, False, None, Verdict.OVER, why, commit.set_id)
    if commit.failed:
        why = f"the set was given up at the commit, after at least {least:.1f} s"
        return Budget(node, title, FREEZE, least, False, commit.start, Verdict.UNTOLD, why, commit.set_id)
    why = f"at least the commit's {least:.1f} s; no writer gave up, so it was less than {FREEZE:.0f} s"
    return Budget(node, title, FREEZE, least, False, commit.start, Verdict.WITHIN, why, commit.set_id)
