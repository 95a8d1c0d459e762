"""How long backups take and how many Snapshot copies they leave, before any is made (TR 6.3, Table 6).

Durations are those of the TR's Table 6 as one model: work for each VM, a look from every node at every other, and, on
Windows Server 2008 R2, a session for each node. It meets the eight averages within 2.2 %, and is as good as they are:
away from 125 VMs to the node it only gives the order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from smhvlab.protection.policy import Retention
from smhvlab.protection.schedule import Schedule

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LIMIT: Final = 255
"""Snapshot copies of a volume in the TR's time; ONTAP 9.4 and later hold 1,023."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

# Minutes, fitted to Table 6: for each 500 VMs; for each 12 ordered pairs of nodes; for each 4 nodes.
_VM_CRASH: Final = 6.41
_VM_APPLICATION: Final = 24.4
_PAIRS: Final = {"2008r2": 6.56, "2012": 1.87}
_SESSIONS: Final = 105.2


def minutes(vms: int, *, nodes: int = 1, consistency: str = "application", era: str = "2012") -> float:
    """How long a backup takes by the model of Table 6.

    Args:
        era: ``2008r2``: one backup after the other for each node; else one distributed backup.
    """
    old = era == "2008r2"
    work = _VM_CRASH * vms / 500
    pairs = _PAIRS["2008r2" if old else "2012"] * nodes * (nodes - 1) / 12
    if consistency == "crash":
        return work + pairs
    work += _VM_APPLICATION * vms / 500
    return work + pairs + _SESSIONS * nodes / 4 if old else work


def copies_per_backup(consistency: str, *, nodes: int = 1, era: str = "2012", distributed: bool | None = None) -> int:
    """Snapshot copies that one backup leaves on a volume (TR 6.3, 10, 12).

    A crash-consistent one leaves one, an application-consistent one two; two for each node that has VMs on the volume
    on Windows Server 2008 R2, and where distributed backup is switched off. Through production checkpoints (era 2022)
    an application-consistent one leaves one.
    """
    if consistency == "crash" or era == "2022":
        return 1
    return 2 * nodes if era == "2008r2" or distributed is False else 2


@dataclass(frozen=True, kw_only=True)
class Load:
    """What one policy does to one volume.

    Attributes:
        copies: Snapshot copies of each backup on the volume.
        existing: when the backups of its tag that are there now were made.
    """

    policy: str
    volume: str
    schedule: Schedule | None
    retention: Retention
    copies: int = 2
    existing: tuple[datetime, ...] = ()


@dataclass(frozen=True)
class Forecast:
    """The Snapshot copies of one volume in time.

    Attributes:
        now: how many there are at the beginning.
        peak: the most at any moment, reached between a new backup and its retention.
        at_end: how many there are at the end.
        breaks: the run that fails because the limit is reached, None if none does; ``policy`` is whose run that is,
            and ``good`` how many backups were made on the volume before it.
        seconds, counts: the steps of the curve, since 1970; the peaks are part of it.
    """

    volume: str
    limit: int
    now: int
    peak: int
    at_end: int
    breaks: datetime | None
    policy: str
    good: int
    seconds: NDArray[np.int64] = field(repr=False)
    counts: NDArray[np.int64] = field(repr=False)


def forecast(
    loads: Sequence[Load],
    begin: datetime,
    end: datetime,
    *,
    present: Mapping[str, int] | None = None,
    limits: Mapping[str, int] | None = None,
) -> list[Forecast]:
    """Snapshot copies of each volume under a set of policies, by volume (TR 6.3).

    Retention runs after each new backup, so a policy that keeps 30 has 31 for a moment; runs of the same moment come
    one after the other, in the order of the loads. The curve is the demand: it goes on past the limit, at which in
    truth every further backup fails.

    Args:
        present: Snapshot copies of each volume at the beginning, those of ``Load.existing`` included.
        limits: of each volume; 255 by default.
    """
    volumes = dict.fromkeys([*(load.volume for load in loads), *(present or {})])
    return [
        _volume(
            volume,
            [load for load in loads if load.volume == volume],
            begin,
            end,
            present=(present or {}).get(volume),
            limit=(limits or {}).get(volume, LIMIT),
        )
        for volume in volumes
    ]


def _volume(
    volume: str, loads: Sequence[Load], begin: datetime, end: datetime, *, present: int | None, limit: int
) -> Forecast:
    import numpy as np

    now = sum(len(load.existing) * load.copies for load in loads) if present is None else present
    parts = [_steps(load, begin, end) for load in loads]
    seconds = np.concatenate([np.repeat(times, 2) for times, _ in parts] or [np.empty(0, np.int64)])
    deltas = np.concatenate([change.ravel() for _, change in parts] or [np.empty(0, np.int64)])
    owner = np.concatenate([np.full(2 * len(times), i) for i, (times, _) in enumerate(parts)] or [np.empty(0, int)])
    order = np.argsort(seconds, kind="stable")
    seconds, deltas, owner = seconds[order], deltas[order], owner[order]
    counts = np.maximum(now + np.cumsum(deltas), 0)
    over = np.flatnonzero(counts > limit)
    breaks, policy, good = None, "", len(counts) // 2
    if len(over):
        first = int(over[0])
        breaks = _EPOCH + timedelta(seconds=int(seconds[first]))
        policy, good = loads[int(owner[first])].policy, first // 2
    return Forecast(
        volume=volume,
        limit=limit,
        now=now,
        peak=int(max(counts.max(initial=0), now)),
        at_end=int(counts[-1]) if len(counts) else now,
        breaks=breaks,
        policy=policy,
        good=good,
        seconds=seconds,
        counts=counts,
    )


def _steps(load: Load, begin: datetime, end: datetime) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The runs of a policy, and what each adds to its volume and then takes away again."""
    import numpy as np

    runs = np.empty(0, np.int64) if load.schedule is None else load.schedule.run_seconds(begin, end)
    before = np.array(sorted(int((moment - _EPOCH).total_seconds()) for moment in load.existing), dtype=np.int64)
    made = np.concatenate([before, runs])
    number = np.arange(len(made))
    if load.retention.keep is not None:
        gone = np.maximum(0, number + 1 - load.retention.keep)
    elif load.retention.age is not None:
        gone = np.searchsorted(made, made - int(load.retention.age.total_seconds()), side="left")
    else:
        gone = np.zeros(len(made), np.int64)
    gone = np.maximum.accumulate(gone) if len(gone) else gone
    first = len(before)
    # What is there at the beginning is there, whatever retention would have made of it: its first run deletes it.
    taken = np.diff(np.concatenate([[0], gone[first:]])) if len(runs) else np.empty(0, np.int64)
    change = np.stack([np.full(len(runs), load.copies), -load.copies * taken], axis=1)
    return runs, change.astype(np.int64)
