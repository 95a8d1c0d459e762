"""What a backup sends and computes: requests by VMs, volumes and nodes in each era, and the flow's own time.

Run as ``python -m bench.backups``. The site is the four-node topology with three shared volumes and more VMs. Requests
of the run alone are counted, without those of a plan. "Own time" is what a run takes while none of its wires is at
work: neither computing for a request nor waiting for its answer.
"""

from __future__ import annotations

import argparse
import functools
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w

import labenv
import smhvlab.site
from bench.wires import counted, line
from labenv import lab as labs
from smhvlab.site import Site
from smhvlab.wires.ontap import OntapWire
from smhvlab.wires.powershell import PowerShellWire

ERAS = ("2008r2", "2012", "2022")
PLACES = [("hv1", 1)] * 8 + [(f"hv{node}", 1) for node in (2, 3, 4) for _ in range(2)] + [("hv1", 2), ("hv1", 3)]
"""Node and shared volume of each VM."""

_SENDING = (
    (OntapWire, ("collect", "read", "create", "create_many", "modify", "remove", "read_lun", "write_lun", "wait")),
    (PowerShellWire, ("run", "pair", "native", "begin", "begin_pair", "finish", "sleep", "now")),
)


@dataclass(frozen=True)
class Case:
    """A dataset: how many VMs on how many volumes and nodes, and which of the VMs these are."""

    vms: int
    volumes: int
    nodes: int
    members: tuple[int, ...]

    @property
    def name(self) -> str:
        """Of the dataset."""
        return f"Set{self.vms}_{self.volumes}_{self.nodes}"


CASES = (
    Case(1, 1, 1, (0,)),
    Case(8, 1, 1, tuple(range(8))),
    Case(8, 3, 1, (*range(6), 14, 15)),
    Case(8, 1, 4, (0, 1, *range(8, 14))),
)


def topology(folder: Path, era: str) -> Path:
    """Write the site of an era; returns its file."""
    source = Path(labenv.__file__).parent / "topologies" / "four-node-cluster.toml"
    site: dict[str, Any] = tomllib.loads(source.read_text("utf-8"))
    site["era"] = era
    first = next(disk for disk in site["disk"] if disk["volume"] == "csv1")
    site["disk"] = [disk for disk in site["disk"] if disk["role"] != "csv"]
    for number in (1, 2, 3):
        path = f"C:\\ClusterStorage\\Volume{number}\\"
        names = {"volume": f"csv{number}", "lun": f"csv{number}", "label": f"CSV{number}"}
        site["disk"].append({**first, **names, "access_path": path})
    site["vm"] = [
        {"host": host, "name": f"vm{n:02}", "path": f"C:\\ClusterStorage\\Volume{volume}\\vm{n:02}", "clustered": True}
        for n, (host, volume) in enumerate(PLACES)
    ]
    for disk in site["golden"]["vhd"]:
        disk["size"] = "500MB"  # a guest's volume below 300 MB cannot be backed up online
    file = folder / f"backups-{era}.toml"
    file.write_text(tomli_w.dumps(site), "utf-8")
    return file


@contextmanager
def watched() -> Iterator[Callable[[], float]]:
    """Counts the seconds in which a wire is at work; the function tells them."""
    spent, depth = 0.0, 0
    originals = [(kind, name, getattr(kind, name)) for kind, names in _SENDING for name in names]

    def timed(method: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(method)
        def work(*args: Any, **options: Any) -> Any:
            nonlocal spent, depth
            depth += 1
            began = time.perf_counter()
            try:
                return method(*args, **options)
            finally:
                depth -= 1
                if not depth:
                    spent += time.perf_counter() - began

        return work

    for kind, name, method in originals:
        setattr(kind, name, timed(method))
    try:
        yield lambda: spent
    finally:
        for kind, name, method in originals:
            setattr(kind, name, method)


def measure(site: Site, consistency: str) -> None:
    """One row for each dataset."""
    sent: dict[Case, tuple[int, int]] = {}
    shares = []
    for case in CASES:
        flow = site.backup(case.name, consistency=consistency)  # type: ignore[arg-type]
        with watched() as spent:
            began = time.perf_counter()
            sent[case] = counted(site, flow.run_sync)
            whole = time.perf_counter() - began
        shares.append(1 - spent() / whole)
        what = f"{consistency}: {case.vms} VMs, {case.volumes} volumes, {case.nodes} nodes (REST + PowerShell)"
        line(what, f"{sent[case][0]} + {sent[case][1]}")
    one, many, wide, spread = (sent[case] for case in CASES)
    line("  more array requests for 8 VMs than for one", f"{many[0] - one[0]}", "wanted 0")
    line("  more host requests for each VM more", f"{(many[1] - one[1]) / 7:.1f}", "a small constant")
    line("  more array requests for each volume more", f"{(wide[0] - many[0]) / 2:.1f}")
    line("  more host requests for each node more", f"{(spread[1] - many[1]) / 3:.1f}")
    line("  the flow's own time / the whole", f"{max(shares):.1%}", "wanted below 10%")


def main() -> None:
    """Print the counts of every era."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one era")
    eras = ("2012",) if parser.parse_args().quick else ERAS
    with tempfile.TemporaryDirectory() as folder:
        for era in eras:
            with labs.start(str(topology(Path(folder), era))) as lab, smhvlab.site.connect(lab.profile) as site:
                site.set_snapinfo("S:\\SnapInfo")
                for case in CASES:
                    site.create_dataset(case.name, [f"vm{n:02}" for n in case.members])
                print(f"-- era {era}", flush=True)
                for consistency in ("crash", "application"):
                    measure(site, consistency)


if __name__ == "__main__":
    main()
