"""The SQL Server test of the TR's appendix (Table 4), with a backup of either type: run, told, and measured."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from smhvlab.errors import SmhvLabError
from smhvlab.flow import Flow
from smhvlab.record import Event, StepProgress, StepStarted
from smhvlab.site import Site
from smhvlab.sql import Sql

S = TypeVar("S")

LOADED = 100
ADDED = 500
"""Rows per database before the backup, and after it (Table 4)."""


class DemoFailed(SmhvLabError):
    """The test did not end as the TR says it must."""


@dataclass(frozen=True)
class DemoStep:
    """One case of the test and the lab time that it took."""

    name: str
    tr: str
    lab_seconds: float


@dataclass(frozen=True)
class DemoResult:
    """What the test found.

    Attributes:
        consistency: type of the backup, and ``engine`` what made it so.
        databases: rows by database after the restore.
        checkdb: whether DBCC CHECKDB found each database sound after the restore.
        requests: number of requests by wire.
        snapshots: Snapshot copies that the backup left, as ``volume: name``.
        seconds: real seconds, of which ``sql_seconds`` were the databases' own work.
    """

    vm: str
    backup: str
    consistency: str
    engine: str
    method: str
    databases: dict[str, int]
    checkdb: dict[str, bool]
    steps: tuple[DemoStep, ...]
    requests: dict[str, int]
    snapshots: tuple[str, ...]
    seconds: float
    sql_seconds: float


class Demo:
    """The test on one site; ``tell`` hears a line for everything that happens."""

    def __init__(
        self,
        site: Site,
        *,
        tell: Callable[[str], None],
        golden: str = "golden",
        consistency: Literal["application", "crash"] = "crash",
    ) -> None:
        self._site = site
        self._consistency = consistency
        self._tell = tell
        self._golden = golden
        self._steps: list[DemoStep] = []
        self._sql_seconds = 0.0
        self._made: list[str] = []

    def run(self) -> DemoResult:
        """All cases in the TR's order. Raises DemoFailed, or whatever error stopped it."""
        try:
            return self._run()
        except SmhvLabError as error:
            if self._made:
                error.add_note(f"What the test had made stays on the site: {', '.join(self._made)}.")
            raise

    def _run(self) -> DemoResult:
        began, before = time.monotonic(), self._site.log.counts()
        taken = set(self._site.vms()["name"])
        number = next(n for n in range(1, 1000) if f"demo{n}" not in taken)
        vm = f"demo{number}"
        with self._case("Provision a VM from the golden image", "2.2"):
            self._flow(self._site.provision(vm, golden=self._golden))
        self._made.append(f"the VM {vm}")
        dataset = f"Demo{number}"
        self._site.create_dataset(dataset, [vm], description="SQL Server test of the TR's appendix")
        self._made.append(f"the dataset {dataset}")
        with self._case(f"Load {LOADED} rows into each database", "T4/1"):
            databases = self._load(vm, LOADED)
        with self._case("DBCC CHECKDB after loading", "T4/2"):
            self._check(vm, databases)
        section = "6.2, 10" if self._consistency == "crash" else "6.2, 9"
        with self._case(f"{self._consistency.capitalize()}-consistent backup of the dataset", section):
            done = self._flow(self._site.backup(dataset, consistency=self._consistency))
        for sentence in done.backup.evidence:
            self._tell(f"    {sentence}")
        self._made.append(f"the backup {done.backup.name}")
        with self._case(f"Load {ADDED} more rows into each database", "T4/4"):
            self._load(vm, ADDED)
        with self._case("DBCC CHECKDB before the damage", "T4/5"):
            self._check(vm, databases)
        with self._case("Delete the VM's files", "T4/6"):
            self._destroy(vm)
        with self._case("Restore the VM", "6.7"):
            restored = self._flow(self._site.restore(done.backup.name, vm), accept=("not-running",))
        with self._case("DBCC CHECKDB after the restore", "T4/7"):
            sound = self._check(vm, databases)
        with self._case(f"Count {LOADED} rows in each database", "T4/8"):
            rows = self._rows(vm, databases)
        if set(rows.values()) != {LOADED}:
            raise DemoFailed(
                f"The restored databases do not hold {LOADED} rows each: {rows}",
                next_action="Keep the lab as it is and look at the wire log: this must not happen.",
                tr="T4",
            )
        counts = self._site.log.counts()
        return DemoResult(
            vm=vm,
            backup=done.backup.name,
            consistency=done.backup.consistency,
            engine=done.backup.engine,
            method=", ".join(restored.methods),
            databases=rows,
            checkdb=sound,
            steps=tuple(self._steps),
            requests={"REST": counts.rest - before.rest, "PowerShell": counts.powershell - before.powershell},
            snapshots=done.snapshots,
            seconds=round(time.monotonic() - began, 3),
            sql_seconds=round(self._sql_seconds, 3),
        )

    @contextmanager
    def _case(self, name: str, tr: str) -> Iterator[None]:
        self._tell(f"[{tr}] {name}")
        start = self._site.now()
        yield
        self._steps.append(DemoStep(name, tr, (self._site.now() - start).total_seconds()))

    def _flow(self, flow: Flow[S], *, accept: tuple[str, ...] = ()) -> Any:
        """Run a flow to its end, telling its steps; returns its result."""
        titles = {step.name: f"{step.title} [{step.tr}]" for step in flow.steps()}

        def hear(event: Event) -> None:
            if isinstance(event, StepStarted):
                self._tell(f"    {titles[event.step]}")
            elif isinstance(event, StepProgress) and event.item:
                begun = event.done if event.unit else event.done + 1
                counted = f"{begun:,}/{event.total:,} {event.unit}".rstrip()
                self._tell(f"        {counted} {event.item}")

        flow.on_event = hear
        return flow.run_sync(accept=accept).result

    @contextmanager
    def _timed(self) -> Iterator[Sql]:
        """The database engine, with its real seconds counted as the databases' own work."""
        start = time.monotonic()
        yield self._site.tools().sql
        self._sql_seconds += time.monotonic() - start

    def _load(self, vm: str, rows: int) -> list[str]:
        with self._timed() as sql:
            databases = list(sql.databases(vm))
            for database in databases:
                self._tell(f"    {database}: {sql.insert(vm, database, rows, singly=True)} rows")
        return databases

    def _rows(self, vm: str, databases: list[str]) -> dict[str, int]:
        with self._timed() as sql:
            rows = {database: sql.count(vm, database) for database in databases}
        for database, count in rows.items():
            self._tell(f"    {database}: {count} rows")
        return rows

    def _check(self, vm: str, databases: list[str]) -> dict[str, bool]:
        with self._timed() as sql:
            checks = [sql.checkdb(vm, database) for database in databases]
        for check in checks:
            self._tell(f"    {check.database}: {'sound' if check.ok else check.finding}")
        if not all(check.ok for check in checks):
            raise DemoFailed(
                "DBCC CHECKDB found damage",
                why="; ".join(f"{check.database}: {check.finding}" for check in checks if not check.ok),
                next_action="Keep the lab as it is and look at the wire log: this must not happen.",
                tr="T4",
            )
        return {check.database: check.ok for check in checks}

    def _destroy(self, name: str) -> None:
        """What the test calls the disaster: the VM is switched off and its VHDs are deleted."""
        tools = self._site.tools()
        vm = tools.hyperv.vm(name)
        tools.hyperv.ensure_off(vm.id)
        for disk in vm.disks:
            tools.host.run("Remove-Item", {"LiteralPath": disk.path, "Force": True})
            self._tell(f"    {disk.path} deleted")
