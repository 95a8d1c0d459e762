"""Speed and memory as ratios and counts: ``python -m bench [PART ...]``; docs/bench.md says how to read it."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

PARTS = {
    "blocks": "the block store, beside plain files and mappings",
    "array": "the array's API beside a mock server, with many volumes; what a SnapMirror update costs",
    "guest": "databases in a guest, beside SQLite on a plain file",
    "wires": "requests of each flow, and one PowerShell round trip beside one HTTPS request",
    "backups": "requests of a backup by VMs, volumes and nodes in each era; the flow's own time",
    "advisor": "requests and seconds of the advisor for few and many VMs and volumes",
    "windows": "a PowerShell round trip beside one HTTPS request, and eight nodes with 1,000 VMs",
    "policy": "scheduled backups: requests, CPU, lab time against real time; forecasts",
    "dr": "requests of a failover of 1, 10 and 100 VMs; bytes that travel back",
    "demo": "the SQL Server test beside SQLite alone, the lab's memory and its start",
}


def main() -> int:
    """Run each part in a process of its own, so that none disturbs another; stop at the first that fails."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("part", nargs="*", help=f"default: all of {', '.join(PARTS)}")
    parser.add_argument("--quick", action="store_true", help="fewer repetitions; rougher numbers")
    options = parser.parse_args()
    unknown = [part for part in options.part if part not in PARTS]
    if unknown:
        parser.error(f"no part {unknown[0]!r}: one of {', '.join(PARTS)}")
    for part in options.part or PARTS:
        print(f"== {part}: {PARTS[part]}", flush=True)
        command = [sys.executable, "-m", f"bench.{part}", *(["--quick"] if options.quick else [])]
        code = subprocess.run(command, cwd=Path(__file__).resolve().parent.parent, check=False).returncode
        if code:
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main())
