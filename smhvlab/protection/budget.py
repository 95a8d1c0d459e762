"""The Snapshot budget of a site: what its policies will do to each volume, as a table and a plot (TR 6.3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from html import escape
from typing import TYPE_CHECKING, Final

from smhvlab.errors import ConfirmationNeeded, NotFound
from smhvlab.frames import frame
from smhvlab.nodes import home_of
from smhvlab.protection.estimate import LIMIT, Forecast, Load, copies_per_backup, forecast, minutes
from smhvlab.protection.policy import Policy, Retention
from smhvlab.protection.schedule import Job
from smhvlab.snapinfo import Dataset
from smhvlab.storage import VolumeRef
from smhvlab.tables import Tools

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

LIMIT_KEY: Final = "snapshot-limit"
"""What has to be accepted to save a policy that will fill a volume."""

_HORIZON: Final = 400
_POINTS: Final = 120  # of a curve that is drawn; the table is exact


@dataclass(frozen=True)
class Place:
    """A volume that holds VMs of a dataset, and the hosts that these are on."""

    volume: VolumeRef
    hosts: tuple[str, ...]
    vms: int


@dataclass(frozen=True)
class Budget:
    """The forecast of a site's volumes."""

    begin: datetime
    end: datetime
    forecasts: tuple[Forecast, ...]

    @property
    def breaks(self) -> datetime | None:
        """When the first backup fails because a volume is full of Snapshot copies, None if none does."""
        return min((f.breaks for f in self.forecasts if f.breaks is not None), default=None)

    def frame(self) -> pd.DataFrame:
        """One row a volume. Columns: volume, limit, now, peak, at_end, breaks (UTC or NaT), policy, good_backups."""
        rows = [
            {
                "volume": f.volume,
                "limit": f.limit,
                "now": f.now,
                "peak": f.peak,
                "at_end": f.at_end,
                "breaks": f.breaks,
                "policy": f.policy,
                "good_backups": f.good,
            }
            for f in self.forecasts
        ]
        numbers = dict.fromkeys(("limit", "now", "peak", "at_end"), "int64")
        ends = {"breaks": "datetime64[us, UTC]", "policy": "str", "good_backups": "int64"}
        return frame(rows, {"volume": "str", **numbers, **ends})

    def figure(self) -> go.Figure:
        """Snapshot copies of each volume in time, its limit, and where it breaks."""
        import plotly.graph_objects as go

        from smhvlab.panels import theme

        traces = []
        for number, one in enumerate(self.forecasts):
            colour = theme.COLOURS[number % len(theme.COLOURS)]
            times, counts = _curve(one, self.begin, self.end)
            line = {"shape": "hv", "color": colour}
            traces.append(go.Scatter(x=times, y=counts, name=one.volume, mode="lines", line=line))
            if one.breaks is not None:
                mark = {"symbol": "x", "size": 11, "color": colour}
                label = f"{one.volume} breaks"
                traces.append(go.Scatter(x=[one.breaks], y=[one.limit], name=label, mode="markers", marker=mark))
        figure = theme.figure(traces, title="Snapshot copies of each volume", height=320)
        for limit in sorted({f.limit for f in self.forecasts}):
            figure.add_hline(y=limit, line_dash="dash", annotation_text=f"limit {limit}")
        return figure

    def __str__(self) -> str:
        lines = [f"Snapshot budget from {self.begin:%Y-%m-%d} to {self.end:%Y-%m-%d}"]
        for one in self.forecasts:
            text = f"  {one.volume}: {one.now} now, at most {one.peak} of {one.limit}"
            if one.breaks is not None:
                text += (
                    f"; breaks on {one.breaks:%Y-%m-%d %H:%M}, at a run of {one.policy} after {one.good} good backups"
                )
            lines.append(text)
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        return "<br>".join(escape(line) for line in str(self).splitlines())


def _curve(one: Forecast, begin: datetime, end: datetime) -> tuple[list[datetime], list[int]]:
    """A curve of few points: of each stretch of time its highest count."""
    import numpy as np

    seconds, counts = one.seconds, one.counts
    if len(seconds) > _POINTS:
        edges = np.linspace(0, len(seconds), _POINTS + 1).astype(int)[:-1]
        seconds, counts = seconds[edges], np.maximum.reduceat(counts, edges)
    zero = datetime(1970, 1, 1, tzinfo=begin.tzinfo)
    times = [zero + timedelta(seconds=int(moment)) for moment in seconds]
    last = int(one.counts[-1]) if len(one.counts) else one.now
    return [begin, *times, end], [one.now, *(int(count) for count in counts), last]


def places(tools: Tools, datasets: Sequence[Dataset]) -> dict[str, list[Place]]:
    """The volumes that hold the VMs of each dataset; requests do not grow with their number."""
    nodes = tools.nodes
    machines = nodes.vms()
    disks, shared = nodes.disks(), nodes.shared_volumes()
    luns = tools.storage.luns_by_disk({disk.unique_id for disk in disks})
    found: dict[str, list[Place]] = {}
    for dataset in datasets:
        members = {member.id for member in dataset.members}
        by_volume: dict[VolumeRef, set[tuple[str, str]]] = {}
        for vm in machines:
            if vm.id not in members:
                continue
            files = [disk.path for disk in vm.disks if not disk.passthrough]
            for path in (*files, vm.configuration + "\\", vm.checkpoints + "\\"):
                home = home_of(path, host=vm.host, disks=disks, shared=shared)
                if home is not None and home.unique_id in luns:
                    by_volume.setdefault(luns[home.unique_id].volume, set()).add((vm.host, vm.id))
        found[dataset.name] = [
            Place(volume, tuple(sorted({host for host, _ in users})), len({vm_id for _, vm_id in users}))
            for volume, users in sorted(by_volume.items(), key=lambda entry: (entry[0].svm, entry[0].name))
        ]
    return found


def era_of(tools: Tools) -> str:
    """The era of the site's hosts by their version of Windows: ``2008r2``, ``2012`` or ``2022``."""
    records = tools.host.run("Get-CimInstance", {"ClassName": "Win32_OperatingSystem"}, select=("Version",))
    version = tuple(int(part) for part in str(records[0]["Version"]).split(".")[:2])
    return "2008r2" if version <= (6, 1) else "2012" if version < (10, 0) else "2022"


def budget(
    tools: Tools, policies: Sequence[Policy], *, begin: datetime, days: float, limit: int | None = None
) -> Budget:
    """The budget of a set of policies on a site as it is now; reads only. Raises as ``demand``."""
    loads, present = demand(tools, policies)
    limits = dict.fromkeys(present, limit or LIMIT)
    end = begin + timedelta(days=days)
    return Budget(begin, end, tuple(forecast(loads, begin, end, present=present, limits=limits)))


def demand(tools: Tools, policies: Sequence[Policy]) -> tuple[list[Load], dict[str, int]]:
    """What each policy does to each volume, and how many Snapshot copies the volumes have now.

    Where there is no policy yet: the volumes of all datasets, on which nothing is going to happen.

    Raises:
        NotFound: a policy's dataset does not exist.
    """
    datasets = {dataset.name.casefold(): dataset for dataset in tools.snapinfo.datasets()}
    for policy in policies:
        if policy.dataset.casefold() not in datasets:
            raise NotFound(
                f"The policy {policy.name} is of the dataset {policy.dataset}, which is not there",
                next_action="Create it with site.create_dataset(name, vms).",
                tr="5.2",
            )
    wanted = {policy.dataset.casefold() for policy in policies} or set(datasets)
    used = places(tools, [dataset for key, dataset in datasets.items() if key in wanted])
    era = era_of(tools)
    catalogue = tools.snapinfo.catalogue()
    loads, seen = [], set()
    for policy in policies:
        dataset = datasets[policy.dataset.casefold()].name
        # Backups of a tag are deleted by every policy that has it: they are counted once.
        first = (dataset, policy.tag) not in seen
        seen.add((dataset, policy.tag))
        made = [b for b in catalogue.backups if first and b.dataset == dataset and b.tag == policy.tag.value]
        for place in used[dataset]:
            loads.append(
                Load(
                    policy=policy.name,
                    volume=place.volume.name,
                    schedule=policy.schedule if policy.enabled else None,
                    retention=policy.retention,
                    copies=copies_per_backup(
                        policy.consistency, nodes=len(place.hosts), era=era, distributed=policy.options.distributed
                    ),
                    existing=tuple(datetime.fromisoformat(b.time) for b in made),
                )
            )
    volumes = sorted({place.volume for found in used.values() for place in found}, key=lambda v: v.name)
    copies = tools.storage.snapshots_of(volumes)
    return loads, {volume.name: len(copies[volume.uuid]) for volume in volumes}


def room_for(tools: Tools, policy: Policy, others: Sequence[Policy], *, begin: datetime, limit: int | None) -> None:
    """Refuse a policy under which a volume that would hold without it does not hold for the next 400 days (TR 6.3).

    Raises:
        ConfirmationNeeded: with the date, and with the largest number of backups that fits.
    """
    if policy.schedule is None or not policy.enabled or policy.removed:
        return
    loads, present = demand(tools, [*others, policy])
    limits = dict.fromkeys(present, limit or LIMIT)
    end = begin + timedelta(days=_HORIZON)
    before = [load for load in loads if load.policy != policy.name]
    mine = [load for load in loads if load.policy == policy.name]
    without = {f.volume for f in forecast(before, begin, end, present=present, limits=limits) if f.breaks is not None}

    def broken(kept: Retention) -> list[Forecast]:
        tried, there = list(before), dict(present)
        for load in mine:
            left = _left(load.existing, kept, begin)  # as if retention had run: a full volume must not forbid its cure
            there[load.volume] -= (len(load.existing) - len(left)) * load.copies
            tried.append(replace(load, retention=kept, existing=left))
        found = forecast(tried, begin, end, present=there, limits=limits)
        return [one for one in found if one.breaks is not None and one.volume not in without]

    full = min(broken(policy.retention), key=lambda one: one.breaks or end, default=None)
    if full is None:
        return
    low, high = 0, limit or LIMIT  # the largest keep that fits is at least low
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if not broken(Retention(keep=middle)) else (low, middle - 1)
    nearest = f"Use retention.keep = {low}" if low else f"Free {full.volume} of other Snapshot copies"
    raise ConfirmationNeeded(
        f"Policy {policy.name}: retention ({policy.retention}) fills {full.volume} on {full.breaks:%Y-%m-%d %H:%M}",
        why=f"{full.limit} Snapshot copies are its limit; from then on every backup fails, after {full.good} good ones",
        next_action=f'{nearest}; or save it all the same with accept={{"{LIMIT_KEY}"}}.',
        needed=[LIMIT_KEY],
        tr="6.3",
    )


def _left(made: Sequence[datetime], kept: Retention, now: datetime) -> tuple[datetime, ...]:
    """Those of some backups that a retention keeps now."""
    if kept.keep is not None:
        return tuple(sorted(made)[-kept.keep :])
    return tuple(moment for moment in made if kept.age is None or now - moment <= kept.age)


def jobs(tools: Tools, policies: Sequence[Policy]) -> list[Job]:
    """The scheduled policies with what their backups occupy: volumes, and hosts if application-consistent (6.2)."""
    datasets = tools.snapinfo.datasets()
    used = places(tools, datasets)
    names = {dataset.name.casefold(): dataset for dataset in datasets}
    era = era_of(tools)
    found = []
    for policy in policies:
        dataset = names.get(policy.dataset.casefold())
        if policy.schedule is None or not policy.enabled or dataset is None:
            continue
        there = used[dataset.name]
        hosts = {host for place in there for host in place.hosts}
        taken = minutes(len(dataset.members), nodes=max(1, len(hosts)), consistency=policy.consistency, era=era)
        things = {f"volume {place.volume}" for place in there}
        if policy.consistency == "application":  # one at a time on a host
            things |= {f"host {host}" for host in hosts}
        found.append(Job(policy.name, policy.schedule, max(1.0, taken), frozenset(things)))
    return found
