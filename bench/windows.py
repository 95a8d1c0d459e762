"""The simulated hosts: a PowerShell round trip beside a plain HTTPS request, and a site of eight nodes with 1,000 VMs.

Run as ``python -m bench.windows``. The plain request is the lab's control endpoint telling the time, over a connection
that is open: the same server, process, TLS and thread, with next to no work behind it.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import ssl
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

from bench import large
from bench.wires import in_turns, line
from labenv import lab as labs
from labenv.lab import Lab
from smhvlab.profile import from_endpoints
from smhvlab.secrets import Secrets
from smhvlab.wires.log import WireLog
from smhvlab.wires.powershell import PowerShellWire

PROTOTYPE = {"a string": ("7 to 10", "4.2 to 6", "3.5 to 5"), "one VM": ("12 to 15", "6.5 to 8.5", "5.5 to 7.7")}
"""Milliseconds that the prototype of the endpoint took on an idle machine: in all, computed by client and by server."""
MEMORY = 400_000_000
TIMES = 40
"""How much longer the VMs of a node may take than one of them."""
SHOWN = ("Name", "Id", "State", "IsClustered", "MemoryAssigned", "Path")


@contextlib.contextmanager
def wire_to(lab: Lab, host: str) -> Iterator[PowerShellWire]:
    """The toolkit's own wire to a host."""
    profile = from_endpoints(lab.profile)
    endpoint = next(h for h in profile.hyperv if h.name == host)
    wire = PowerShellWire(endpoint, Secrets(profile).of(endpoint), log=WireLog())
    try:
        yield wire
    finally:
        wire.close()


@contextlib.contextmanager
def echo_of(lab: Lab) -> Iterator[Callable[[], object]]:
    """A plain HTTPS request to the lab's process."""
    told = json.loads(lab.profile.read_text("utf-8"))
    url = urlsplit(told["control"]["url"])
    context = ssl.create_default_context(cafile=told["storage"][0]["ca_file"])
    plain = http.client.HTTPSConnection(url.hostname or "", url.port, context=context)
    headers = {"Authorization": f"Bearer {told['control']['token']}"}

    def echo() -> bytes:
        plain.request("POST", "/clock", b"{}", headers)
        return plain.getresponse().read()

    yield echo
    plain.close()


def computed(lab: Lab, work: Callable[[], object], times: int) -> tuple[float, float]:
    """Milliseconds that client and lab compute for a work; unlike real time they hardly grow on a busy machine."""
    client, server = time.process_time(), lab.inspect.cpu()
    for _ in range(times):
        work()
    return (time.process_time() - client) / times * 1000, (lab.inspect.cpu() - server) / times * 1000


def round_trips(lab: Lab, times: int) -> None:
    """One cmdlet over a session that is open."""
    with wire_to(lab, "hv1") as wire, echo_of(lab) as echo:
        wire.run("Set-Content", {"LiteralPath": "C:\\Windows\\Temp\\bench.txt", "Value": "one line"})
        works: dict[str, Callable[[], object]] = {
            "echo": echo,
            "a string": lambda: wire.run("Get-Content", {"LiteralPath": "C:\\Windows\\Temp\\bench.txt"}),
            "one VM": lambda: wire.run("Get-VM", {"Name": "sql01"}),
        }
        found = in_turns(works, times)
        spent = {what: computed(lab, works[what], times) for what in PROTOTYPE}
    for what, (real, client, server) in PROTOTYPE.items():
        line(f"{what} / plain HTTPS request", f"{found[what] / found['echo']:.1f}")
        line(f"{what}, milliseconds", f"{found[what] * 1000:.1f}", f"the prototype: {real}")
        line(f"{what}, milliseconds computed by the client", f"{spent[what][0]:.1f}", f"the prototype: {client}")
        line(f"{what}, milliseconds computed by the lab", f"{spent[what][1]:.1f}", f"the prototype: {server}")


def many(nodes: int, vms: int, times: int) -> None:
    """A site of many VMs: one node's list beside one VM, memory, and how it starts."""
    each = vms // nodes
    with tempfile.TemporaryDirectory() as folder:
        path = large.write(Path(folder), nodes=nodes, vms=vms)
        start = time.perf_counter()
        with labs.start(str(path)) as lab:
            built = (time.perf_counter() - start) / vms
            line(f"building {nodes} nodes with {vms} VMs, seconds for each VM", f"{built:.2f}")
            memory(lab, "memory of the idle lab")
            with wire_to(lab, "hv1") as wire, echo_of(lab) as echo:
                found = in_turns(
                    {
                        "echo": echo,
                        "one": lambda: wire.run("Get-VM", {"Name": "vm0001"}, select=SHOWN),
                        "whole": lambda: wire.run("Get-VM", {"Name": "vm0001"}),
                        "all": lambda: wire.run("Get-VM", select=SHOWN),
                    },
                    times,
                )
            wanted = f"wanted below {TIMES}"
            line(f"{each} VMs of a node / one, with Select-Object", f"{found['all'] / found['one']:.1f}", wanted)
            line(f"{each} VMs of a node with it / one without", f"{found['all'] / found['whole']:.1f}", wanted)
            line(f"{each} VMs of a node / plain HTTPS request", f"{found['all'] / found['echo']:.0f}")
            memory(lab, "memory after that")


def memory(lab: Lab, what: str) -> None:
    """The lab's own memory."""
    resident = lab.inspect.memory()
    value = "?" if resident is None else f"{resident / MEMORY:.0%}"
    line(f"{what} / {MEMORY // 1_000_000} MB", value, "wanted below 100%")


def main() -> None:
    """Measure on two fresh labs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="fewer repetitions and 250 VMs; rougher numbers")
    options = parser.parse_args()
    with labs.start("standalone") as lab:
        round_trips(lab, 50 if options.quick else 300)
    many(*((2, 250) if options.quick else (8, 1000)), 5 if options.quick else 20)


if __name__ == "__main__":
    main()
