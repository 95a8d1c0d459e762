"""What the advisor knows of a site's protection: datasets, their policies, and backups. Frozen records, as in facts."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, kw_only=True)
class Policy:
    """One policy of a dataset.

    Attributes:
        tag: ``hourly``, ``daily``, ``weekly``, ``monthly`` or ``unlimited``; "" if it is never run by a schedule.
        starts: when it starts in the weeks to come, in minutes from now, ascending.
        per_day: how many backups a day, on average.
        minutes: how long one takes, estimated.
        keep: at most this many backups are kept, None: not by number.
        days: backups older than this are deleted, None: not by age.
        notify: ``always``, ``warning``, ``error`` or ``never``.
        pre, post: the arguments of its scripts.
    """

    name: str
    consistency: str = "application"
    tag: str = "daily"
    starts: tuple[int, ...] = ()
    per_day: float = 1.0
    minutes: int = 15
    keep: int | None = 7
    days: float | None = None
    allow_saved: bool = False
    distributed: bool | None = None
    replicate: bool = False
    verify: bool = True
    notify: str = "error"
    pre: str = ""
    post: str = ""

    @property
    def unlimited(self) -> bool:
        """Whether its backups stay until somebody deletes them."""
        return self.keep is None and self.days is None

    @property
    def kept(self) -> float:
        """Backups that it keeps in the end, infinite if it deletes none."""
        if self.keep is not None:
            return self.keep
        return float("inf") if self.days is None else self.days * self.per_day

    def overlaps(self, other: Policy) -> bool:
        """Whether a backup of this policy can run while one of the other does."""
        for start in self.starts:
            after = bisect_right(other.starts, start - other.minutes)  # the first that is still running then
            if after < len(other.starts) and other.starts[after] < start + self.minutes:
                return True
        return False


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A dataset: ids of its VMs, and its policies."""

    name: str
    members: tuple[str, ...] = ()
    policies: tuple[Policy, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Backup:
    """A backup that SnapInfo holds; ``volumes`` are ``svm:volume``, ``snapshots`` the names of its Snapshot copies."""

    name: str
    dataset: str
    time: datetime | None = None
    consistency: str = "application"
    vms: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    snapshots: tuple[str, ...] = ()
    verified: bool = False
    host: str = ""
