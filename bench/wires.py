"""What goes over the two wires: requests of each flow, and what one costs beside a plain HTTPS request.

Run as ``python -m bench.wires``. Requests are counted by the toolkit's own wire log. The plain request is the lab's
control endpoint telling the time: the same server, process, TLS and thread, with next to no work behind it.
"""

from __future__ import annotations

import argparse
import http.client
import json
import ssl
import time
from collections.abc import Callable
from statistics import median
from urllib.parse import urlsplit

import smhvlab.site
from labenv import lab as labs
from labenv.lab import Lab
from smhvlab.flow import Flow
from smhvlab.site import Site


def line(what: str, value: str, wanted: str = "") -> None:
    """One row of the result."""
    print(f"{what:<66}{value:>16}  {wanted}", flush=True)


def in_turns(works: dict[str, Callable[[], object]], times: int) -> dict[str, float]:
    """Median seconds of each of several works that take turns, so that a busy machine is busy for all of them."""
    found: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(times + 3):
        for name, work in works.items():
            start = time.perf_counter()
            work()
            if turn >= 3:  # connections are open and caches warm
                found[name].append(time.perf_counter() - start)
    return {name: median(seconds) for name, seconds in found.items()}


def counted(site: Site, work: Callable[[], object]) -> tuple[int, int]:
    """Requests over (REST, PowerShell) that a work sends."""
    before = site.log.counts()
    work()
    after = site.log.counts()
    return after.rest - before.rest, after.powershell - before.powershell


def flow_counts(lab: Lab) -> None:
    """Requests of each flow with its plan, and of a backup with one and with two VMs on one volume."""
    lab.reset()
    with smhvlab.site.connect(lab.profile) as site:
        site.create_dataset("Sql", ["sql01"])
        site.create_dataset("One", ["app01"])
        site.create_dataset("Two", ["app01", "web01"])

        def run(flow: Flow[object]) -> Callable[[], object]:
            return flow.run_sync

        rows: list[tuple[str, tuple[int, int]]] = []
        rows.append(("provision of a VM", counted(site, run(site.provision("web02")))))  # type: ignore[arg-type]
        rows.append(("backup of a VM alone on its LUN", counted(site, run(site.backup("Sql", consistency="crash")))))  # type: ignore[arg-type]
        one = counted(site, run(site.backup("One", consistency="crash")))  # type: ignore[arg-type]
        two = counted(site, run(site.backup("Two", consistency="crash")))  # type: ignore[arg-type]
        rows += [("backup of one VM of a shared volume", one), ("backup of two VMs of that volume", two)]
        names = site.backups().set_index("dataset")["name"]
        rows.append(("restore by LUN clone", counted(site, run(site.restore(names["Sql"], "sql01")))))  # type: ignore[arg-type]
        rows.append(("restore by file copy", counted(site, run(site.restore(names["One"], "app01")))))  # type: ignore[arg-type]
        for what, (rest, powershell) in rows:
            line(f"requests: {what} (REST + PowerShell)", f"{rest} + {powershell}")
        line("array requests of that backup with two VMs / with one", f"{two[0] / one[0]:.2f}", "wanted 1.00")


def round_trips(lab: Lab, times: int) -> None:
    """One request of each kind as a multiple of a plain HTTPS request on a connection that is open."""
    told = json.loads(lab.profile.read_text("utf-8"))
    url = urlsplit(told["control"]["url"])
    context = ssl.create_default_context(cafile=told["storage"][0]["ca_file"])
    plain = http.client.HTTPSConnection(url.hostname or "", url.port, context=context)
    headers = {"Authorization": f"Bearer {told['control']['token']}"}

    def echo() -> None:
        plain.request("POST", "/clock", b"{}", headers)
        plain.getresponse().read()

    with smhvlab.site.connect(lab.profile) as site:
        tools = site.tools()
        tools.host.run("Set-Content", {"LiteralPath": "S:\\bench.txt", "Value": "one line"})
        found = in_turns(
            {
                "echo": echo,
                "a string (Get-Content)": lambda: tools.host.run("Get-Content", {"LiteralPath": "S:\\bench.txt"}),
                "one VM (Get-VM)": lambda: tools.host.run("Get-VM", {"Name": "sql01"}),
                "one LUN of the array (REST)": lambda: tools.storage.lun("/vol/golden/golden", svm="svm1"),
            },
            times,
        )
    plain.close()
    for what, seconds in found.items():
        if what != "echo":
            line(f"{what} / plain HTTPS request", f"{seconds / found['echo']:.1f}")


def main() -> None:
    """Count and measure on a fresh lab."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="fewer repetitions; rougher numbers")
    options = parser.parse_args()
    with labs.start("standalone") as lab:
        flow_counts(lab)
        lab.reset()
        round_trips(lab, 50 if options.quick else 300)


if __name__ == "__main__":
    main()
