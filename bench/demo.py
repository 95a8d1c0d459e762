"""The SQL Server test of the TR's appendix beside SQLite alone; the lab's memory; how soon a lab answers.

Run as ``python -m bench.demo``. SQLite alone does what the test asks of the databases, in plain files on the same disk:
100 and 500 rows in each of four databases, each row in a transaction of its own, three checks of each, a count. With
synchronous=FULL, as databases run and as SQLite does unless told otherwise, and OFF; and with one transaction for each
load, which tells how many round trips the test makes.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import apsw

import smhvlab.site
from bench.wires import line
from labenv import lab as labs
from labenv.guest import ledger
from labenv.lab import Lab
from smhvlab.demo import ADDED, LOADED, Demo, DemoResult

DATABASES = ("aa1", "bb1", "bb2", "bb3")
MEMORY = 300_000_000
"""Bytes that a lab's process may take."""
START = 3.0
"""Seconds in which a lab should answer."""


def timed(work: Callable[[], object]) -> float:
    """Seconds that a work takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def sqlite_alone(folder: Path, *, single: bool, synchronous: str) -> float:
    """Seconds of the databases' work in plain files; ``single``: each row in a transaction of its own."""
    connections = []
    for name in DATABASES:
        connection = apsw.Connection(str(folder / f"{name}.db"))
        connection.pragma("journal_mode", "persist")
        connection.pragma("synchronous", synchronous)
        with connection:
            ledger.create(connection)
        connections.append(connection)

    def load(rows: int) -> None:
        for connection in connections:
            for _ in range(rows if single else 1):
                with connection:
                    ledger.insert(connection, 1 if single else rows)

    def check() -> None:
        for connection in connections:
            assert connection.execute("PRAGMA integrity_check").get == "ok"
            assert not ledger.check(connection).problems

    def work() -> None:
        load(LOADED)
        check()
        load(ADDED)
        check()
        check()
        assert {ledger.count(connection) for connection in connections} == {LOADED + ADDED}

    seconds = timed(work)
    for connection in connections:
        connection.close()
    return seconds


def demo(lab: Lab) -> DemoResult:
    """The test on a running lab, as it was when it was first started."""
    lab.reset()
    with smhvlab.site.connect(lab.profile) as site:
        site.vms()
        site.luns()  # both connections are open
        return Demo(site, tell=lambda _: None).run()


def beside_sqlite(lab: Lab, times: int) -> None:
    """The test's real time as a multiple of that of its databases."""
    works = {"row, FULL": (True, "full"), "row, OFF": (True, "off"), "load, FULL": (False, "full")}
    alone: dict[str, list[float]] = {name: [] for name in works}
    results = []
    demo(lab)
    for turn in range(times):
        results.append(demo(lab))
        for name, (single, synchronous) in works.items():
            if name == "row, FULL" and turn >= 2:
                continue  # 2400 transactions, each until the disk has it, take the time of all the rest
            with tempfile.TemporaryDirectory() as folder:
                alone[name].append(sqlite_alone(Path(folder), single=single, synchronous=synchronous))
    whole = median(result.seconds for result in results)
    sql = median(result.sql_seconds for result in results)
    for name, seconds in alone.items():
        wanted = "wanted below 10" if name == "row, FULL" else ""
        line(f"the whole test / SQLite alone, a transaction for each {name}", f"{whole / median(seconds):.2g}", wanted)
    line("its requests to the databases / the latter", f"{sql / median(alone['load, FULL']):.2g}")
    line("share of the requests to the databases in the whole test", f"{sql / whole:.0%}")
    line("requests of the whole test", f"{sum(results[0].requests.values())}")


def memory(lab: Lab) -> None:
    """What the lab's process takes, after all of that."""
    found = lab.inspect.memory()
    value = "not told here" if found is None else f"{found / MEMORY:.0%}"
    line(f"the lab's memory after the tests / {MEMORY // 1_000_000} MB", value, "wanted below 100%")


def starts(times: int) -> None:
    """How soon a lab answers, made anew and continued, with the start of its Python."""
    fresh, again = [], []
    for _ in range(times):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name) / "lab"
            for found in (fresh, again):
                start = time.perf_counter()
                lab = labs.start("standalone", state=folder)
                lab.status()
                found.append(time.perf_counter() - start)
                lab.down()
    line(f"until a fresh lab answers / {START:.0f} s", f"{median(fresh) / START:.0%}", "wanted below 100%")
    line(f"until a kept lab answers / {START:.0f} s", f"{median(again) / START:.0%}", "wanted below 100%")


def main() -> None:
    """Measure on a lab of its own."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="fewer repetitions; rougher numbers")
    options = parser.parse_args()
    times = 3 if options.quick else 5
    with labs.start("standalone") as lab:
        beside_sqlite(lab, times)
        memory(lab)
    starts(times)


if __name__ == "__main__":
    main()
