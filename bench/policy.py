"""What protection costs: requests and CPU of a scheduled backup, lab time against real time, forecasts against runs."""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import smhvlab.site
from labenv import lab as labs
from smhvlab.protection.estimate import Load, forecast
from smhvlab.protection.policy import Retention
from smhvlab.protection.schedule import Repeat, Schedule, Weekday
from smhvlab.site import Site

POLICY = """
name = "hourly"
dataset = "All"
consistency = "crash"
[schedule]
repeat = "hourly"
[retention]
keep = 30
"""


WEEK, MONTH = 168, 720


def main() -> int:
    """Print the numbers; ``--quick`` lives half a day of 20 VMs instead of a week, ``--month`` a month."""
    hours = 12 if "--quick" in sys.argv else MONTH if "--month" in sys.argv else WEEK
    for vms, lived in ((3, min(hours, 48)), (20, hours)):
        with labs.start("standalone") as lab, smhvlab.site.connect(lab.profile) as site:
            live(site, lab, vms, lived)
    forecasts()
    return 0


def live(site: Site, lab: labs.Lab, vms: int, hours: int) -> None:
    """Hourly backups of a site of so many VMs, each of them made."""
    names = ["app01", "sql01", "web01"]
    tools = site.tools()
    for number in range(len(names), vms):
        name = f"vm{number:02}"
        tools.hyperv.ensure_blank(name, folder="V:\\")
        tools.host.run("New-VHD", {"Path": f"V:\\{name}.vhdx", "SizeBytes": 1 << 30, "Dynamic": True})
        tools.host.run("Add-VMHardDiskDrive", {"VMName": name, "Path": f"V:\\{name}.vhdx"})
        names.append(name)
    site.create_dataset("All", names)
    site.set_policy(POLICY)
    requests, real, own, others = site.log.counts().total, time.perf_counter(), time.process_time(), cpu(lab)
    diary = site.run_until_sync(timedelta(hours=hours))
    real, own, others = time.perf_counter() - real, time.process_time() - own, cpu(lab) - others
    made = len(diary.runs)
    assert {run.outcome for run in diary.runs} == {"done"}
    print(f"{vms:3} VMs, {made} hourly backups with retention, all done:")
    print(f"    {(site.log.counts().total - requests) / made:5.1f} requests a backup")
    print(f"    {1000 * own / made:5.0f} ms of CPU a backup in the toolkit, {1000 * others / made:.0f} ms in the lab")
    each, computed = real / made, (own + others) / made
    print(f"    {hours * 3600 / real:5,.0f} lab seconds in a real one; {real:.0f} s for these {hours} hours")
    print(
        f"    a week in {WEEK * each:.0f} s (wanted: 60), a month in {MONTH * each:.0f} s (wanted: 300); "
        f"computing alone {WEEK * computed:.0f} and {MONTH * computed:.0f} s"
    )


def cpu(lab: labs.Lab) -> float:
    """CPU seconds of the lab's process so far; 0 where /proc is not there."""
    process = lab._process
    try:
        fields = Path(f"/proc/{process.pid if process else 0}/stat").read_text("ascii").rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / 100


def forecasts() -> None:
    """A hundred policies over a year."""
    begin = datetime(2013, 1, 1, tzinfo=UTC)
    schedules = (
        Schedule(repeat=Repeat.HOURLY),
        Schedule(repeat=Repeat.DAILY, at="02:30", timezone="Europe/Berlin"),
        Schedule(repeat=Repeat.WEEKLY, days=(Weekday.MONDAY,)),
        Schedule(repeat=Repeat.MONTHLY, day="last"),
    )
    loads = [
        Load(policy=f"p{n}", volume=f"v{n % 20}", schedule=schedules[n % 4], retention=Retention(keep=30 + n))
        for n in range(100)
    ]
    real = time.perf_counter()
    found = forecast(loads, begin, begin + timedelta(days=365))
    real = time.perf_counter() - real
    steps = sum(len(one.counts) for one in found)
    print(f"100 policies over a year: {steps:,} steps on {len(found)} volumes in {1000 * real:.0f} ms")


if __name__ == "__main__":
    sys.exit(main())
