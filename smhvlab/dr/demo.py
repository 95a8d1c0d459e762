"""The disaster of TR 8 from end to end on a lab of two sites: replicate, lose one, fail over, fail back; measured."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, cast

from smhvlab.dr.replication import Replication
from smhvlab.dr.sites import SitePair
from smhvlab.errors import NotAllowed, SmhvLabError
from smhvlab.flow import Flow
from smhvlab.record import Event, StepStarted
from smhvlab.site import Site
from smhvlab.sql import Sql
from smhvlab.vmnames import one_named

LOADED = 20
"""Transactions per database before the first backup; half as many again before each later stage."""

_LOST = 5
_THERE = 8


class Switch(Protocol):
    """A power switch."""

    def power_off(self) -> None: ...
    def power_on(self) -> None: ...


class Disaster(Protocol):
    """Who can take a site's power away: a lab."""

    def storage(self, name: str) -> Switch: ...
    def host(self, name: str) -> Switch: ...


class DrDemoFailed(SmhvLabError):
    """The disaster did not end as the TR says it must."""


@dataclass(frozen=True)
class DrStage:
    """What was found after one stage.

    Attributes:
        databases: rows by ``vm/database`` where the VMs run, empty while they run nowhere.
        checkdb: whether DBCC CHECKDB found each sound.
        lost: transactions of all databases that were committed and are not there any more.
        transferred: bytes that SnapMirror sent in this stage.
        relationships: state of each relationship.
        requests: by wire; ``lab_seconds``: of the sites' time.
    """

    name: str
    tr: str
    databases: Mapping[str, int]
    checkdb: Mapping[str, bool]
    lost: int
    transferred: int
    relationships: Mapping[str, str]
    requests: Mapping[str, int]
    lab_seconds: float


@dataclass(frozen=True)
class DrResult:
    """All stages; ``seconds`` are real ones."""

    vms: tuple[str, ...]
    stages: tuple[DrStage, ...]
    seconds: float


class DrDemo:
    """The disaster on one pair of sites; ``tell`` hears a line for everything that happens."""

    def __init__(
        self,
        pair: SitePair,
        disaster: Disaster,
        *,
        tell: Callable[[str], None],
        vms: tuple[str, ...] = ("sql01", "app01"),
    ) -> None:
        self._pair = pair
        self._disaster = disaster
        self._tell = tell
        self._vms = vms
        self._stages: list[DrStage] = []
        self._sent: dict[str, int] = {}
        self._counts = pair.primary.log.counts()
        self._began = pair.secondary.now()

    def run(self) -> DrResult:
        """Every stage in the TR's order. Raises DrDemoFailed, or whatever error stopped it."""
        start = time.monotonic()
        first, second = self._pair.primary, self._pair.secondary
        first.create_dataset("DR", self._vms, description="disaster recovery test")
        self._flow(first.dr.protect())
        written = self._load(first, LOADED)
        self._backup(first, second)
        self._stage("loaded, backed up, replicated", "8", first, expected=written)
        more = self._load(first, _LOST)
        self._tell("The first site loses its power")
        self._power(first, on=False)
        self._stage("the first site is dead", "8", None, lost=0, expected={})
        down = {"primary-down"}
        self._flow(second.dr.connect_snapinfo(), accept=down)
        self._flow(second.dr.failover(), accept=down)
        lost = sum(more.values()) - sum(written.values())
        self._stage("failed over", "8/FO1-7", second, lost=lost, expected=written)
        written = self._load(second, _THERE)
        self._stage("the second site works", "8", second, expected=written)
        self._tell("The first site has its power back")
        self._power(first, on=True)
        self._flow(second.dr.reverse(), accept={"lose-primary", "stop-primary"})
        self._stage("data are back on the first site", "8/FB1-3", second, expected=written)
        home = self._flow(first.dr.failback(), accept={"downtime"})
        self._stage("failed back", "8/FB4-11", first, expected=written, released=home.transferred)
        self._flow(second.dr.return_to_normal(), accept={"give-up"})
        written = self._load(first, 1)
        self._backup(first, second)
        self._stage("replicated in the first direction again", "8", first, expected=written)
        return DrResult(self._vms, tuple(self._stages), round(time.monotonic() - start, 3))

    def _flow(self, flow: Flow[Any], *, accept: set[str] | None = None) -> Any:
        """Run a flow, telling its steps; returns its result. A warning that was not foreseen stops it."""
        titles = {step.name: f"{step.title} [{step.tr}]" for step in flow.steps()}
        self._tell(flow.title())

        def hear(event: Event) -> None:
            if isinstance(event, StepStarted):
                self._tell(f"    {titles[event.step]}")

        flow.on_event = hear
        asked = {question.key for question in flow.plan().confirmations}
        return flow.run_sync(accept=asked & (accept or set())).result

    def _load(self, site: Site, rows: int) -> dict[str, int]:
        """Add rows, each in a transaction of its own; returns what every database then holds."""
        found = {}
        for vm, sql in self._engines(site).items():
            for database in sql.databases(vm):
                found[f"{vm}/{database}"] = sql.insert(vm, database, rows, singly=True)
        return found

    def _engines(self, site: Site) -> dict[str, Sql]:
        """Where the engine of each VM is asked: on the host that has it, which on a cluster may be any node."""
        nodes = site.tools().nodes
        vms = nodes.vms()
        return {name: nodes[one_named(name, vms).host].sql for name in self._vms}

    def _backup(self, near: Site, far: Site) -> None:
        self._flow(near.backup("DR"))
        there = Replication(far.tools().storage)
        there.update([m for m in there.mirrors() if m.state == "snapmirrored"])

    def _power(self, site: Site, *, on: bool) -> None:
        profile = site.profile
        hosts = [self._disaster.host(host.name) for host in profile.hyperv]
        for switch in (self._disaster.storage(profile.storage.name), *hosts):
            (switch.power_on if on else switch.power_off)()

    def _stage(
        self,
        name: str,
        tr: str,
        at: Site | None,
        *,
        expected: Mapping[str, int],
        lost: int = 0,
        released: int = 0,
    ) -> None:
        """Take note of where everything is; ``released``: bytes of relationships that are gone by now.

        Raises:
            DrDemoFailed: rows are missing or a database is damaged.
        """
        rows: dict[str, int] = {}
        sound: dict[str, bool] = {}
        if at is not None:
            for vm, sql in self._engines(at).items():
                for database in sql.databases(vm):
                    rows[f"{vm}/{database}"] = sql.count(vm, database)
                    sound[f"{vm}/{database}"] = sql.checkdb(vm, database).ok
        states, sent = self._mirrors()
        sent += released
        counts = self._pair.primary.log.counts()
        now = self._pair.secondary.now()
        self._stages.append(
            DrStage(
                name=name,
                tr=tr,
                databases=rows,
                checkdb=sound,
                lost=lost,
                transferred=sent,
                relationships=states,
                requests={
                    "REST": counts.rest - self._counts.rest,
                    "PowerShell": counts.powershell - self._counts.powershell,
                },
                lab_seconds=(now - self._began).total_seconds(),
            )
        )
        self._counts, self._began = counts, now
        self._tell(f"== {name}: {sum(rows.values())} rows, {lost} transactions lost, {sent:,} bytes sent")
        if rows != expected or not all(sound.values()):
            raise DrDemoFailed(
                f"After {name!r} the databases are not what they must be",
                why=f"expected {dict(expected)}, found {rows}; sound: {sound}",
                next_action="Keep the lab as it is and look at the wire log: this must not happen.",
                tr=tr,
            )

    def _mirrors(self) -> tuple[dict[str, str], int]:
        """State of every relationship, and the bytes sent since the last look."""
        states, sent = {}, 0
        for site in (self._pair.primary, self._pair.secondary):
            try:
                mirrors = Replication(site.tools().storage).mirrors()
            except SmhvLabError:
                continue  # the dead site
            for mirror in mirrors:
                states[str(mirror)] = mirror.state
                sent += max(0, mirror.total - self._sent.get(mirror.uuid, 0))
                self._sent[mirror.uuid] = mirror.total
        return states, sent


def power(site: Site, *, on: bool) -> None:
    """Give a lab's site its power back, or take it: storage and hosts at once. Raises NotAllowed on a real site."""
    lab = lab_of(site)
    hosts = [lab.host(host.name) for host in site.profile.hyperv]
    for switch in (lab.storage(site.profile.storage.name), *hosts):
        (switch.power_on if on else switch.power_off)()


def lab_of(site: Site) -> Disaster:
    """The lab that was started for a site or its partner. Raises NotAllowed on any other, so ask it before writing."""
    return disaster_of(site.keep if site.keep is not None or site.partner is None else site.partner.keep)


def disaster_of(keep: object) -> Disaster:
    """The lab that was started for a site, as one that can take power away. Raises NotAllowed."""
    if keep is None or not hasattr(keep, "storage") or not hasattr(keep, "host"):
        raise NotAllowed(
            "Only a lab that was started for this test can lose a site",
            next_action="Use a fresh one, without a state folder: --site lab:dr-pair, for a runbook "
            "-p site=lab:dr-pair#B. In a real disaster nothing is practised: -p practise=false.",
            tr="8",
        )
    return cast("Disaster", keep)
