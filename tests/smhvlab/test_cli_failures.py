"""What ``smhvlab`` tells when something went wrong: all of it, in the terms of the terminal, and what to type next."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import smhvlab.site
from labenv.lab import Lab
from smhvlab.cli.main import main
from smhvlab.errors import Cancelled
from smhvlab.site import Site


@pytest.fixture
def site(lab: Lab) -> Iterator[Site]:
    """The site of the lab that the commands work on."""
    with smhvlab.site.connect(lab.profile) as connected:
        yield connected


@pytest.fixture
def backup(site: Site) -> str:
    """Name of a backup of sql01."""
    site.create_dataset("SQL", ["sql01"])
    name: str = site.backup("SQL", consistency="crash").run_sync().result.backup.name
    return name


def shell(*arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own; it must not show a traceback."""
    command = [sys.executable, "-m", "smhvlab", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


def refuse(lab: Lab, cmdlet: str, times: int | None = 1) -> None:
    """Let the next calls of a cmdlet fail."""
    lab.faults.set("windows.cmdlet", "error", match={"cmdlet": cmdlet}, code="Refused", message="Not now", times=times)


def test_a_failed_flow_tells_why_and_what_next(lab: Lab, site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    """The error has its code, its step, what is to be done, and that everything was undone; as JSON too."""
    arguments = ["provision", "web02", "--site", str(lab.profile), "--yes"]
    refuse(lab, "New-VM")
    assert main(arguments) == 3
    told = capsys.readouterr().err
    for part in ("Not now", "  State: step 5, Create a blank VM", "  Next: ", "  Code: Refused", "has been undone"):
        assert part in told
    refuse(lab, "New-VM")
    assert main([*arguments, "--json"]) == 3
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["class"] == "PowerShellError"
    assert {"message", "State", "Next", "Code", "Run"} <= set(error)


def test_a_stopped_flow_tells_the_line_that_goes_on(
    lab: Lab, site: Site, backup: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Past the point of no return the next command to type is written out, and it works."""
    refuse(lab, "Import-VM")
    assert main(["restore", backup, "sql01", "--site", str(lab.profile), "--yes"]) == 4
    told = capsys.readouterr().err
    (line,) = [line for line in told.splitlines() if line.startswith("  Then: smhvlab doctor")]
    assert main(line.split()[2:]) == 0
    assert "sql01 is back as of" in capsys.readouterr().out


def test_the_refusal_of_a_warning_names_it_and_the_option(
    lab: Lab, site: Site, backup: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """What has to be accepted stands there, with the option that accepts it."""
    site.tools().hyperv.ensure_off(site.tools().hyperv.vm("sql01").id)
    assert main(["restore", backup, "sql01", "--site", str(lab.profile), "--yes"]) == 1
    told = capsys.readouterr().err
    assert "sql01 is not running on this host (Off)" in told
    assert "add --accept not-running." in told


def test_a_finished_flow_tells_its_result(lab: Lab, site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    """The backup's name is what the next command needs."""
    site.create_dataset("SQL", ["sql01"])
    arguments = ["backup", "SQL", "--consistency", "crash", "--site", str(lab.profile), "--yes"]
    assert main(arguments) == 0
    (first,) = site.backups()["name"]
    assert f"Backup {first}: Crash-consistent; sql01" in capsys.readouterr().out
    assert main([*arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["result"]["backup"]["name"] == site.backups()["name"].iloc[-1]


def test_the_doctor_mends_what_it_can(lab: Lab, site: Site, backup: str, capsys: pytest.CaptureFixture[str]) -> None:
    """One run that cannot go on does not keep the others waiting; the list tells what each of them is about."""
    refuse(lab, "Import-VM", times=None)
    assert main(["restore", backup, "sql01", "--site", str(lab.profile), "--yes"]) == 4
    refuse(lab, "New-VM")
    refuse(lab, "Remove-PartitionAccessPath")
    assert main(["provision", "web02", "--site", str(lab.profile), "--yes"]) == 4
    capsys.readouterr()
    assert main(["doctor", "--site", str(lab.profile)]) == 0
    listed = capsys.readouterr().out
    assert f"RestoreVm (backup {backup}, vm sql01) at register; allowed: resume" in listed
    assert "ProvisionVm (vm web02, golden golden" in listed
    assert main(["doctor", "--site", str(lab.profile), "--all", "--json"]) == 4
    assert [ended["outcome"] for ended in json.loads(capsys.readouterr().out)] == ["stopped", "undone"]
    lab.faults.clear()
    assert main(["doctor", "--site", str(lab.profile), "--all"]) == 0


def test_a_cancelled_demo_exits_with_130(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ctrl-C is an interrupt also where a flow has caught it; what stays on the site is named."""

    def interrupted(*_: Any, **__: Any) -> None:
        raise Cancelled()

    monkeypatch.setattr(Site, "backup", interrupted)
    assert main(["demo", "--site", str(lab.profile)]) == 130
    assert "stays on the site: the VM demo1, the dataset Demo1" in capsys.readouterr().err


def test_a_reader_that_goes_away_does_not_stop_a_run(lab: Lab, site: Site) -> None:
    """``smhvlab ... | head -1``: the run goes on to its end, without a traceback."""
    command = [sys.executable, "-m", "smhvlab", "provision", "web02", "--yes", "--site", str(lab.profile)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        errors = process.stderr.read()
    assert (process.returncode, errors) == (0, "")
    assert site.vms().set_index("name").loc["web02", "state"] == "Running"


@pytest.mark.parametrize("contents", [None, "no certificate"])
def test_a_ca_file_that_cannot_be_used(lab: Lab, tmp_path: Path, contents: str | None) -> None:
    """An endpoints file outlives its lab: the CA file that is no more is named, on both wires."""
    missing = tmp_path / "ca.pem"
    if contents is not None:
        missing.write_text(contents, "utf-8")
    told = json.loads(lab.profile.read_text("utf-8"))
    for entry in (*told["storage"], *told["hyperv"]):
        entry["ca_file"] = str(missing)
    (tmp_path / "endpoints.json").write_text(json.dumps(told), "utf-8")
    for verb in ("vms", "volumes"):
        done = shell(verb, "--site", str(tmp_path / "endpoints.json"), code=1)
        assert f"The CA file {missing} cannot be used" in done.stderr
        assert "Next: Correct ca_file in the profile" in done.stderr


def test_the_workbench_refuses_before_it_writes(tmp_path: Path) -> None:
    """A topology with a typo: one message, and no notebooks were copied."""
    done = shell("lab", str(tmp_path / "mine"), "--topology", "standalon", "--no-browser", "--port", "18993", code=1)
    assert "did you mean 'standalone'" in done.stderr
    assert not (tmp_path / "mine").exists()
    assert "18" in shell("lab", "--port", "180000", code=2).stderr


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGTERM to catch")
def test_the_workbench_ends_its_jupyterlab_when_it_is_told_to_end(tmp_path: Path) -> None:
    """SIGTERM is as good as Ctrl-C: no JupyterLab and no lab stay behind. --json tells where it is."""
    command = [sys.executable, "-m", "smhvlab", "lab", str(tmp_path / "mine"), "--no-browser", "--json"]
    with subprocess.Popen(
        [*command, "--port", "18994"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        assert told["url"].startswith("http://127.0.0.1:18994/lab/")
        assert Path(told["endpoints"]).exists()
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=60)  # ends only when JupyterLab has closed its standard error
    assert process.returncode == 0, errors
    assert not Path(told["endpoints"]).exists()
