"""One look at a site: every host in two waves, one node of each cluster, the array, and SnapInfo."""

from __future__ import annotations

import platform
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from math import ceil
from typing import TYPE_CHECKING

from smhvlab.advisor import plans as p
from smhvlab.advisor.arrays import read_array
from smhvlab.advisor.clusters import ClusterReader
from smhvlab.advisor.hosts import HostReader
from smhvlab.advisor.site_facts import Facts
from smhvlab.errors import ConnectionFailed, NotFound, PowerShellError
from smhvlab.protection.estimate import minutes
from smhvlab.protection.settings import Settings, load
from smhvlab.protection.store import PolicyStore

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from smhvlab.protection.on_site import Protection
    from smhvlab.protection.policy import Policy
    from smhvlab.protection.policy import Script as PolicyScript

_AHEAD = timedelta(days=35)
"""How far schedules are looked at: a month and a bit."""

_SHORTEST = 15
"""Minutes that a backup is given at least: Table 6 is about hundreds of VMs; verification and mirrors come after."""


def gather(site: Protection, *, networks: bool = False) -> Facts:
    """Look at the whole site; nothing is changed. The number of requests grows with hosts and volumes alone.

    Args:
        networks: look at virtual switches and the VMs' connections to them too.

    Raises:
        ConnectionFailed: neither host answers, or the array does not.
        OntapError: the array refuses a read. Cancelled.
    """
    tools = site.tools()
    silent: list[tuple[str, str]] = []
    readers: list[HostReader] = []
    clusters: dict[str, ClusterReader] = {}
    with ExitStack() as waves:  # what one host's failure or a cancel leaves behind
        for name in tools.nodes:
            wire = tools.nodes[name].host
            cluster_name = wire.endpoint.cluster or ""
            reader = HostReader(wire, cluster=cluster_name, networks=networks)
            waves.callback(reader.wave.stop)
            if not _answers(reader, reader.first, silent):
                continue
            readers.append(reader)
            if cluster_name and cluster_name not in clusters:
                clusters[cluster_name] = ClusterReader(cluster_name, reader.wave)
                clusters[cluster_name].first()
        readers = [reader for reader in readers if _answers(reader, reader.wave.collect, silent)]
        if not readers:
            name, why = silent[0]
            raise ConnectionFailed("No host of the site answers", why=f"{name}: {why}", next_action="Run site.check().")
        for reader in readers:
            reader.second()
        for cluster in clusters.values():
            cluster.second()
        for reader in readers:
            reader.wave.collect()
            reader.programs()
    now = readers[0].wire.now()
    hosts = tuple(reader.host() for reader in readers)
    plans = _plans(site, now, Facts(now=now, hosts=hosts).era)
    return Facts(
        now=now,
        hosts=hosts,
        silent=tuple(silent),
        clusters=tuple(cluster.cluster() for cluster in clusters.values()),
        vms=tuple(sorted((vm for r in readers for vm in r.vms()), key=lambda vm: (vm.name.casefold(), vm.id))),
        array=read_array(tools.rest),
        datasets=plans.datasets,
        backups=plans.backups,
        console=platform.node(),
        plans=plans.known,
        reports=plans.settings.reports,
        notified=plans.settings.smtp is not None or plans.settings.autosupport,
    )


def _answers(reader: HostReader, read: Callable[[], None], silent: list[tuple[str, str]]) -> bool:
    try:
        read()
    except ConnectionFailed as error:
        silent.append((reader.name, error.message))
        return False
    return True


@dataclass(frozen=True)
class _Plans:
    """What SnapInfo holds; ``known``: whether it could be read."""

    datasets: tuple[p.Dataset, ...] = ()
    backups: tuple[p.Backup, ...] = ()
    settings: Settings = field(default_factory=Settings)
    known: bool = False


def _plans(site: Protection, now: datetime, era: str) -> _Plans:
    """Datasets, policies, backups and settings of SnapInfo."""
    snapinfo = site.tools().snapinfo
    try:
        datasets = snapinfo.datasets()
        catalogue = snapinfo.catalogue()
        policies = PolicyStore(snapinfo).policies()
        settings = load(snapinfo)
    except (NotFound, PowerShellError, ConnectionFailed):
        return _Plans()
    by_dataset: dict[str, list[p.Policy]] = {}
    sizes = {d.name.casefold(): len(d.members) for d in datasets}
    for policy in policies:
        name = policy.dataset.casefold()
        by_dataset.setdefault(name, []).append(planned(policy, now, vms=sizes.get(name, 1), era=era))
    return _Plans(
        tuple(
            p.Dataset(
                name=d.name,
                members=tuple(m.id for m in d.members),
                policies=tuple(by_dataset.get(d.name.casefold(), ())),
            )
            for d in datasets
        ),
        tuple(
            p.Backup(
                name=backup.name,
                dataset=backup.dataset,
                time=_moment(backup.time),
                consistency=backup.consistency,
                vms=tuple(vm.id for vm in backup.vms),
                volumes=tuple(dict.fromkeys(f"{lun.svm}:{lun.volume}" for lun in backup.luns)),
                snapshots=tuple(dict.fromkeys(lun.snapshot for lun in backup.luns)),
                verified=backup.name in catalogue.verified,
                host=backup.host,
            )
            for backup in catalogue.backups
        ),
        settings,
        known=True,
    )


def planned(policy: Policy, now: datetime, *, vms: int = 1, era: str = "2012") -> p.Policy:
    """What rules look at of a policy: its runs of the weeks to come, how long one takes, and what it keeps."""
    runs = policy.schedule.runs(now, now + _AHEAD) if policy.schedule is not None and policy.enabled else []
    return p.Policy(
        name=policy.name,
        consistency=policy.consistency,
        tag=policy.tag.value,
        starts=tuple(ceil((run - now).total_seconds() / 60) for run in runs),
        minutes=max(_SHORTEST, ceil(minutes(vms, consistency=policy.consistency, era=era))),
        per_day=round(len(runs) / _AHEAD.days, 2),
        keep=policy.retention.keep,
        days=policy.retention.days,
        allow_saved=policy.options.allow_saved_state,
        distributed=policy.options.distributed,
        replicate=policy.options.replicate,
        verify=policy.options.verify,
        notify=policy.notification.level.value,
        pre=_arguments(policy.script, "before"),
        post=_arguments(policy.script, "after"),
    )


def _arguments(scripts: Sequence[PolicyScript], phase: str) -> str:
    """The arguments of a phase's scripts in one text."""
    return " ".join(str(value) for s in scripts if s.phase.value == phase for value in s.parameters.values())


def _moment(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None
