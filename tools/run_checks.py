"""Every check of the project, one after the other, with what each one took; used by ``make test``."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent

OUTSIDE_TOOLS = {
    "chromium": "the notebooks are not clicked through in a real browser",
    "qemu-img": "VHD and VHDX files are not read by an outside tool",
    "fsck.exfat": "file systems are not checked by an outside tool",
}


@dataclass(frozen=True)
class Check:
    """A named command."""

    name: str
    command: tuple[str, ...]


def checks(*, workers: int, long: bool) -> list[Check]:
    """The commands in order; the quick ones first."""
    python = sys.executable
    select = "long" if long else "not long"
    parallel = ("-n", str(workers), "--dist", "loadfile") if workers > 1 else ()
    return [
        Check("lint", (str(BIN / "ruff"), "check", ".")),
        Check("format", (str(BIN / "ruff"), "format", "--check", ".")),
        Check("types", (str(BIN / "mypy"),)),
        Check("tests", (python, "-m", "pytest", "tests", "-q", "-m", select, *parallel)),
        *(
            []
            if long
            else [
                Check(
                    "notebooks",
                    (
                        python,
                        "-m",
                        "pytest",
                        "notebooks",
                        "-q",
                        "--nbval",
                        "--nbval-current-env",
                        "--nbval-cell-timeout=120",
                        "--nbval-sanitize-with=notebooks/sanitize.cfg",
                        *parallel,
                    ),
                )
            ]
        ),
    ]


def main() -> int:
    """Run the checks; stop at the first that fails."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--long", action="store_true", help="the exhaustive runs")
    options = parser.parse_args()
    print("Every check, from types to the browser; stop with Ctrl-C at any time, nothing is left running.", flush=True)
    for tool, consequence in OUTSIDE_TOOLS.items():
        if shutil.which(tool) is None:
            print(f"-- {tool} is not installed: {consequence} (reported as skipped)", flush=True)
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "JUPYTER_PLATFORM_DIRS": "1"}
    for check in checks(workers=options.workers, long=options.long):
        started = time.monotonic()
        print(f"== {check.name}", flush=True)
        try:
            code = subprocess.run(check.command, cwd=ROOT, env=environment, check=False).returncode
        except KeyboardInterrupt:
            print(f"== {check.name}: stopped", flush=True)
            return 130
        took = time.monotonic() - started
        if code:
            print(f"== {check.name} failed after {took:.0f} s", flush=True)
            return code
        print(f"== {check.name} passed in {took:.0f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
