"""The advisor's requests and time: with few and many VMs and volumes, with no rule and with all of them.

Run as ``python -m bench.advisor``. The site is a stand-alone host whose LUNs each lie on a volume of their own; its VMs
have one dynamic disk each and are spread over the LUNs. Requests are counted by the toolkit's wire log.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import smhvlab.site
from bench.wires import line
from labenv import lab as labs
from labenv import topology
from smhvlab.advisor.catalogue import findings, rules
from smhvlab.site import Site
from smhvlab.wires.wave import collect

_DISK = """
[[disk]]
host = "hv1"
aggregate = "aggr{aggregate}"
volume = "v{number:03}"
volume_size = "4GB"
lun = "lun"
lun_size = "2GB"
access_path = 'C:\\V{number:03}\\'
label = "v{number:03}"
"""
_AT_ONCE = 50


def described(volumes: int) -> str:
    """A topology as ``standalone``, without its VMs and with so many LUNs more."""
    source = Path(topology.__file__).parent / "topologies" / "standalone.toml"
    text = source.read_text("utf-8").partition("[[vm]]")[0]
    disks = "".join(_DISK.format(number=n, aggregate=1 + n % 2) for n in range(1, volumes + 1))
    return text.replace("[golden]", disks + "\n[golden]", 1)


def grow(site: Site, volumes: int, first: int, last: int) -> None:
    """More VMs, spread over the LUNs."""
    host = site.tools().host
    for start in range(first, last, _AT_ONCE):
        numbers = range(start, min(start + _AT_ONCE, last))
        paths = {n: f"C:\\V{1 + n % volumes:03}\\vm{n:04}.vhdx" for n in numbers}
        disk = {"SizeBytes": 10 << 20, "Dynamic": True}
        collect(host.begin("New-VHD", {"Path": path, **disk}, select=("Path",)) for path in paths.values())
        collect(
            host.begin("New-VM", {"Name": f"vm{n:04}", "VHDPath": path, "Path": path[:8]}, select=("Id",))
            for n, path in paths.items()
        )


def measure(site: Site, volumes: int, vms: int) -> tuple[int, int]:
    """One look and all rules; returns the requests over (REST, PowerShell)."""
    before, start = site.log.counts(), time.perf_counter()
    facts = site.facts()
    looked = time.perf_counter() - start
    after = site.log.counts()
    found = findings(facts)
    ruled = time.perf_counter() - start - looked
    assert site.log.counts() == after, "a rule sent a request"
    requests = (after.rest - before.rest, after.powershell - before.powershell)
    what = f"{vms} VMs on {volumes} volumes"
    line(f"requests (REST + PowerShell): {what}", f"{requests[0]} + {requests[1]}")
    limit = "wanted < 20" if vms == 1000 else ""
    line(f"seconds: the look, and {len(rules())} rules ({len(found)} findings)", f"{looked:.1f}, {ruled:.2f}", limit)
    return requests


def main() -> None:
    """Count and measure on two fresh labs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="100 VMs instead of 1,000 on 100 volumes")
    options = parser.parse_args()
    counts: dict[tuple[int, int], tuple[int, int]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for volumes, steps in ((10, (10, 100)), (100, (100,) if options.quick else (100, 1000))):
            file = Path(folder) / f"volumes{volumes}.toml"
            file.write_text(described(volumes), "utf-8")
            with labs.start(str(file)) as lab, smhvlab.site.connect(lab.profile) as site:
                site.facts()  # opens the sessions, and finds where SnapInfo is
                made = 0
                for vms in steps:
                    grow(site, volumes, made, vms)
                    made = vms
                    counts[volumes, vms] = measure(site, volumes, vms)
    same = counts[10, 10] == counts[10, 100]
    line("the same requests for 10 times the VMs", "yes" if same else "no", "wanted yes")
    more = counts[100, 100][0] - counts[10, 100][0]
    line("requests for each further volume", f"{more / 90:.2f}", "wanted 0.00")
    line("requests that rules sent", "0", "wanted 0")


if __name__ == "__main__":
    main()
