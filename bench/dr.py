"""What disaster recovery costs: requests of a failover by number of VMs, and bytes of a resync by what has changed."""

from __future__ import annotations

import sys
import tempfile
import tomllib
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import tomli_w

from labenv import lab as labs
from smhvlab.dr.replication import Replication
from smhvlab.dr.sites import SitePair, connect_pair
from smhvlab.flow import Flow

DOWN = {"primary-down"}
BACK = {"lose-primary", "stop-primary"}
DATABASE = "aa1"


def main() -> int:
    """Print the numbers; ``--quick`` leaves 100 VMs out."""
    with tempfile.TemporaryDirectory() as folder:
        for vms in (1, 10) if "--quick" in sys.argv else (1, 10, 100):
            file = Path(folder) / f"dr{vms}.toml"
            file.write_text(tomli_w.dumps(topology(vms)), "utf-8")
            with labs.start(str(file)) as lab, connect_pair(lab.profile) as pair:
                measure(pair, lab, vms)
    return 0


def topology(vms: int) -> dict[str, object]:
    """The topology ``dr-pair`` with so many small VMs on one LUN."""
    tables = tomllib.loads((files("labenv") / "topologies" / "dr-pair.toml").read_text("utf-8"))
    tables["title"] = f"two sites with {vms} VMs"
    tables["golden"]["vhd"] = [{**tables["golden"]["vhd"][0], "size": "48MB"}]
    tables["golden"]["database"] = tables["golden"]["database"][:1]
    tables["vm"] = [{"host": "hv1", "name": f"vm{n:03}", "path": f"V:\\vm{n:03}"} for n in range(vms)]
    return tables


def measure(pair: SitePair, lab: labs.Lab, vms: int) -> None:
    """Lose the first site and fail over; then bring back what one VM has written."""
    first, second = pair.primary, pair.secondary
    first.create_dataset("All", [f"vm{n:03}" for n in range(vms)])
    first.dr.protect().run_sync()
    first.backup("All", consistency="crash").run_sync()
    there = Replication(second.tools().storage)
    there.update(there.mirrors())
    full = sum(mirror.total for mirror in there.mirrors())
    for switch in (lab.storage("cluster1"), lab.host("hv1")):
        switch.power_off()
    print(f"{vms:3} VMs on one volume, {full / 2**20:,.0f} MiB replicated:")
    _counted(pair, "SnapInfo connected", second.dr.connect_snapinfo, DOWN)
    found = _counted(pair, "failed over", second.dr.failover, DOWN)
    assert found.sound, found
    for switch in (lab.storage("cluster1"), lab.host("hv1")):
        switch.power_on()
    second.tools().sql.insert("vm000", DATABASE, 100)
    back = _counted(pair, "replicated back", second.dr.reverse, BACK)
    sent = sum(mirror.transferred for mirror in back.mirrors if "snapinfo" not in str(mirror))
    print(f"    {sent / 1024:,.0f} KiB travel back after 100 rows in one VM ({100 * sent / full:.2f} % of all)")


def _counted(pair: SitePair, what: str, make: Callable[[], Flow[object]], accept: set[str]) -> object:
    """Run a flow and print its requests and its time."""
    before, began = pair.primary.log.counts(), pair.secondary.now()
    done = make().run_sync(accept=accept).result
    after, ended = pair.primary.log.counts(), pair.secondary.now()
    rest, shell = after.rest - before.rest, after.powershell - before.powershell
    print(
        f"    {what}: {rest} + {shell} requests (REST + PowerShell), {(ended - began).total_seconds():.0f} lab seconds"
    )
    return done


if __name__ == "__main__":
    sys.exit(main())
