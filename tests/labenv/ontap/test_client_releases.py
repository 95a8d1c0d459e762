"""Releases of netapp-ontap drive the array from the first volume to the failback; a host writes and reads the bytes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from labenv import lab as labs
from labenv.ontap.rest.call import parse_path
from smhvlab.dr.sites import connect_pair
from smhvlab.wires.powershell import PowerShellWire

from .conformance import Gate
from .ontap_bench import Bench

SCRIPT = Path(__file__).with_name("client_scenario.py")
IQN = ("iqn.1991-05.com.microsoft:hv1.lab.example", "iqn.1991-05.com.microsoft:hv2.lab.example")


class Administrator:
    """A client of one release in a process of its own."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def __call__(self, step: str, **arguments: Any) -> Any:
        """Let a step be taken; its answer."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"do": step, **arguments}) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        assert answer, f"{step} failed: {self.process.stderr.read() if self.process.stderr else ''}"
        return json.loads(answer)


@contextmanager
def administrator(python: str, endpoints: Path) -> Iterator[Administrator]:
    """Start the script with an interpreter; it ends with its input."""
    quiet = {k: v for k, v in os.environ.items() if "proxy" not in k.lower() and not k.endswith("CA_BUNDLE")}
    with subprocess.Popen(
        [python, str(SCRIPT), str(endpoints)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**{k: v for k, v in quiet.items() if k != "PYTHONPATH"}, "PYTHONWARNINGS": "ignore"},
    ) as process:
        yield Administrator(process)
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(30) == 0


class Disk:
    """A LUN as a disk of a host, found by its serial number."""

    def __init__(self, host: PowerShellWire, serial: str) -> None:
        self.host = host
        self.serial = serial
        self.refresh()

    def refresh(self) -> None:
        """Look for disks that have come or changed."""
        self.host.run("Update-HostStorageCache")
        disks = self.host.run("Get-Disk", select=("Number", "SerialNumber"))
        (self.number,) = [disk["Number"] for disk in disks if disk["SerialNumber"] == self.serial]

    def online(self, wanted: bool) -> None:
        """Put the disk on or off line."""
        self.host.run("Set-Disk", {"Number": self.number, "IsOffline": not wanted})
        if wanted:
            self.host.run("Set-Disk", {"Number": self.number, "IsReadOnly": False})

    def format(self) -> None:
        """A partition with a volume at X:."""
        self.online(True)
        self.host.run("Initialize-Disk", {"Number": self.number, "PartitionStyle": "GPT"})
        self.host.run("New-Partition", {"DiskNumber": self.number, "UseMaximumSize": True, "DriveLetter": "X"})
        self.host.run("Format-Volume", {"DriveLetter": "X", "FileSystem": "NTFS"})

    def mount(self) -> None:
        """Give the data partition the letter X; Windows gives one of its own to what comes online."""
        for partition in self.host.run("Get-Partition", {"DiskNumber": self.number}):
            if partition["Type"] == "Basic" and str(partition["DriveLetter"]) != "X":
                place = {"DiskNumber": self.number, "PartitionNumber": partition["PartitionNumber"]}
                self.host.run("Set-Partition", {**place, "NewDriveLetter": "X"})

    def write(self, text: str) -> None:
        """A file of many blocks, down to the array."""
        self.host.run("Set-Content", {"LiteralPath": "X:\\data.txt", "Value": text * 4000})
        self.host.run("Write-VolumeCache", {"DriveLetter": "X"})

    def read(self) -> str:
        """What the file says."""
        content = str(self.host.run("Get-Content", {"LiteralPath": "X:\\data.txt"})[0])
        word = content[: len(content) // 4000]
        assert content == word * 4000
        return word


def scenario(do: Administrator, near: PowerShellWire, far: PowerShellWire) -> None:
    """Provision, back up, write, restore, compare, mirror, fail over, fail back."""
    assert do("version").startswith("NetApp Release 9.15.1")
    made = do("provision", site=1, volume="work", iqn=IQN[0])
    disk = Disk(near, made["serial"])
    disk.format()

    # back up, write, restore the LUN
    disk.write("monday")
    whole = do("digest", site=1, lun="/vol/work/disk")
    assert do("snapshot", site=1, volume="work", name="monday") == ["monday"]
    disk.write("tuesday")
    do("snapshot", site=1, volume="work", name="tuesday")
    disk.write("ruined")
    assert disk.read() == "ruined"
    assert do("digest", site=1, lun="/vol/work/disk") != whole
    disk.online(False)
    restored = do("restore_lun", site=1, volume="work", snapshot="monday")
    assert restored == {"lun": made["lun"], "serial": made["serial"], "copies": ["monday", "tuesday"]}
    assert do("digest", site=1, lun="/vol/work/disk") == whole
    disk.refresh()
    disk.online(True)
    assert disk.read() == "monday"

    # restore the whole volume: newer copies are gone
    do("snapshot", site=1, volume="work", name="later")
    disk.online(False)
    assert do("restore_volume", site=1, volume="work", snapshot="tuesday") == ["monday", "tuesday"]
    disk.refresh()
    disk.online(True)
    assert disk.read() == "tuesday"

    # a mirror at the other site, and an update of what has changed
    assert do("peer") == "peered"
    first = do("mirror", site=2, source="svm1:work", destination="svm2:work_dr")
    assert (first["state"], first["healthy"], first["transfer"]) == ("snapmirrored", True, "success")
    disk.write("wednesday")
    do("snapshot", site=1, volume="work", name="wednesday")
    second = do("update", site=2, destination="svm2:work_dr")
    assert (second["state"], second["transfer"]) == ("snapmirrored", "success")
    assert 0 < second["bytes"] < first["bytes"]
    whole = do("digest", site=1, lun="/vol/work/disk")

    # fail over
    disk.online(False)
    assert do("disconnect", site=1, lun="/vol/work/disk") == 1
    assert do("change", site=2, destination="svm2:work_dr", state="paused")["state"] == "paused"
    assert do("change", site=2, destination="svm2:work_dr", state="broken_off")["state"] == "broken_off"
    there = do("connect", site=2, lun="/vol/work_dr/disk", iqn=IQN[1])
    assert there["serial"] != made["serial"]
    assert do("digest", site=2, lun="/vol/work_dr/disk") == whole
    copy = Disk(far, there["serial"])
    copy.online(True)
    copy.mount()
    assert copy.read() == "wednesday"
    copy.write("thursday")

    # fail back: mirror the other way, and once more what was written last
    assert do("drop", site=2, destination="svm2:work_dr", source_site=1) == [0, 0]
    back = do("reverse", source="svm2:work_dr", destination="svm1:work")
    assert (back["state"], back["transfer"]) == ("snapmirrored", "success")
    copy.write("friday")
    copy.online(False)
    assert do("disconnect", site=2, lun="/vol/work_dr/disk") == 1
    do("update", site=1, destination="svm1:work")
    assert do("change", site=1, destination="svm1:work", state="paused")["state"] == "paused"
    assert do("change", site=1, destination="svm1:work", state="broken_off")["state"] == "broken_off"
    assert do("drop", site=1, destination="svm1:work", source_site=2) == [0, 0]
    home = do("connect", site=1, lun="/vol/work/disk", iqn=IQN[0])
    assert do("digest", site=1, lun="/vol/work/disk") == do("digest", site=2, lun="/vol/work_dr/disk")
    disk = Disk(near, home["serial"])
    disk.online(True)
    disk.mount()
    assert disk.read() == "friday"


def judge(archive: Path, folder: Path) -> Gate:
    """Hold every answer that was recorded against what the vendor has published."""
    bench = Bench(folder)
    gate = Gate()
    for entry in json.loads(archive.read_text("utf-8"))["log"]["entries"]:
        request, response = entry["request"], entry["response"]
        segments = parse_path(urlsplit(request["url"]).path.encode())
        text = response["content"].get("text", "")
        if segments[:1] == ("api",) and text.startswith("{"):
            gate.look(bench.array.dispatcher, request["method"], segments[1:], response["status"], json.loads(text))
    bench.close()
    return gate


def drive(python: str, folder: Path) -> None:
    """The scenario on a lab of two sites, with a record of every request."""
    archive = folder / "requests.har"
    lab = labs.up("dr-pair", state=folder / "lab", trace=archive)
    try:
        with connect_pair(lab.profile) as pair, administrator(python, folder / "lab" / "endpoints.json") as do:
            scenario(do, pair.primary.tools().host, pair.secondary.tools().host)
        assert lab.status()["failures"] == []
    finally:
        lab.down()
    gate = judge(archive, folder)
    assert gate.violations == []
    assert gate.records > 50


def test_the_current_release_from_provisioning_to_failback(tmp_path: Path) -> None:
    """netapp-ontap 9.19.1 provisions, backs up, restores, mirrors and fails back; the hosts read what it says."""
    drive(sys.executable, tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("release", ["9.17.1", "9.14.1", "9.8.0"])
def test_an_older_release_from_provisioning_to_failback(release: str, tmp_path: Path) -> None:
    """Older releases of the client, with their own models, do the same."""
    drive(environment(tmp_path, f"netapp-ontap=={release}"), tmp_path)


def environment(folder: Path, *packages: str) -> str:
    """The interpreter of a new environment with packages in it; skips where they cannot be had."""
    subprocess.run([sys.executable, "-m", "venv", str(folder / "venv")], check=True)
    python = str(folder / "venv" / "bin" / "python")
    command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "marshmallow<4", *packages]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    if done.returncode:
        pytest.skip(f"{' '.join(packages)} cannot be installed here: {done.stderr.strip().splitlines()[-1:]}")
    return python
