"""``labenv`` as a user runs it: outputs, exit codes, and what a lab's start leaves behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from labenv import topology
from labenv.lab import Lab, LabError, attach
from labenv.statefolder import in_use
from tests.labenv.commands import inside, labenv

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="modes and signals as POSIX has them")


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The state folder of a lab that was started by ``labenv up``."""
    folder = tmp_path_factory.mktemp("cli") / "lab"
    started = labenv("up", "standalone", "--state", folder, "--seed", "7", "--json")
    assert started.code == 0, started.err
    assert started.json == {"state": str(folder), "endpoints": str(folder / "endpoints.json")}
    assert started.err == ""
    yield folder
    if in_use(folder):
        attach(folder).down()


@pytest.fixture
def lab(state: Path) -> Lab:
    """A client of that lab."""
    return attach(state)


def error_of(*arguments: str | Path) -> str:
    """The one line that a refused command says, the same with and without ``--json``; its exit code is 1."""
    plain, as_json = inside(*arguments), inside(*arguments, "--json")
    assert (plain.code, as_json.code) == (1, 1)
    assert plain.out == ""
    assert as_json.err == ""
    assert plain.err.startswith("labenv: ")
    assert plain.err.count("\n") == 1
    assert as_json.json == {"error": plain.err.removeprefix("labenv: ").rstrip("\n")}
    text: str = as_json.json["error"]
    return text


def test_status_tells_what_runs(state: Path) -> None:
    """Topology, seed, time, checkpoints and VMs; as text and as JSON."""
    told = labenv("status", "--state", state, "--json")
    assert told.code == 0
    assert told.json["running"] is True
    assert told.json["topology"] == "standalone"
    assert told.json["seed"] == 7
    assert told.json["vms"] == {"golden": "Off", "sql01": "Running", "app01": "Running", "web01": "Running"}
    assert told.json["failures"] == []
    text = labenv("status", "--state", state)
    assert text.code == 0
    for word in (told.json["title"], told.json["time"], "fresh", "VM sql01", "Running"):
        assert word in text.out


@POSIX
def test_passwords_are_for_the_owner_only(state: Path) -> None:
    """``endpoints.json`` and the server's key are readable by their owner only, as is the whole folder."""
    assert state.stat().st_mode & 0o777 == 0o700
    assert (state / "endpoints.json").stat().st_mode & 0o777 == 0o600
    assert (state / "certificates" / "server.key").stat().st_mode & 0o777 == 0o600


def test_the_endpoints_file_is_all_that_an_outside_program_needs(state: Path) -> None:
    """Addresses, users, passwords and the CA file of each endpoint, as the design lays them down."""
    told = json.loads((state / "endpoints.json").read_text("utf-8"))
    assert set(told) == {"topology", "control", "storage", "hyperv"}
    assert set(told["control"]) == {"url", "token"}
    (storage,), (host,) = told["storage"], told["hyperv"]
    assert {"name", "host", "port", "user", "password", "ca_file", "svms"} <= set(storage)
    assert [set(svm) for svm in storage["svms"]] == [{"name", "user", "password"}]
    assert {"name", "cluster", "host", "port", "user", "password", "ca_file"} <= set(host)
    assert all(len(entry["password"]) >= 12 for entry in (storage, host, *storage["svms"], host["sql"]))
    assert Path(storage["ca_file"]).exists()


def test_no_output_shows_a_password(state: Path) -> None:
    """What goes to a terminal names the file with the passwords, not the passwords."""
    told = json.loads((state / "endpoints.json").read_text("utf-8"))
    secrets = [told["control"]["token"], told["storage"][0]["password"], told["hyperv"][0]["password"]]
    again = inside("up", "standalone", "--state", state)
    assert again.code == 1
    outputs = [inside("status", "--state", state), inside("status", "--state", state, "--json"), again]
    assert not [s for s in secrets for ran in outputs if s in ran.out + ran.err]


def test_checkpoint_restore_and_reset(state: Path, lab: Lab) -> None:
    """A checkpoint brings back what was there, reset what was there at first; both are in ``status``."""
    lab.guest("sql01").write_file("C:\\note.txt", "first", flush=True)
    assert labenv("checkpoint", "noted", "--state", state, "--json").json == {"checkpoint": "noted"}
    lab.guest("sql01").write_file("C:\\note.txt", "second", flush=True)
    assert labenv("status", "--state", state, "--json").json["checkpoints"] == ["fresh", "noted"]
    assert labenv("restore", "noted", "--state", state, "--json").json == {"restore": "noted"}
    assert lab.guest("sql01").read_file("C:\\note.txt") == "first"
    assert labenv("reset", "--state", state).code == 0
    with pytest.raises(LabError, match=r"note\.txt"):
        lab.guest("sql01").read_file("C:\\note.txt")
    assert inside("restore", "noted", "--state", state).code == 0
    assert lab.guest("sql01").read_file("C:\\note.txt") == "first"


def test_wrong_checkpoint_names_are_refused(state: Path) -> None:
    """An unknown one lists the known ones; ``fresh`` cannot be overwritten, so reset stays what it is."""
    assert "fresh" in error_of("restore", "nothing", "--state", state)
    assert "fresh" in error_of("checkpoint", "fresh", "--state", state)
    assert "64" in error_of("checkpoint", "a b", "--state", state)


def test_the_clock_is_shown_and_advanced(state: Path) -> None:
    """Spans in seconds, minutes, hours and days; the new time is the answer."""

    def time(*arguments: str) -> datetime:
        return datetime.fromisoformat(inside("clock", *arguments, "--state", state, "--json").json["time"])

    now = time()
    for span, seconds in (("90s", 90), ("15m", 900), ("24h", 86400), ("1.5d", 129600)):
        now += timedelta(seconds=seconds)
        assert time("advance", span) == now
    assert labenv("clock", "advance", "90s", "--state", state, "--json").code == 0
    assert str(now.date()) in inside("clock", "--state", state).out


@pytest.mark.parametrize("span", ["", "24", "h", "1w", "nanh", "1e3h", "1000d"])
def test_a_span_that_is_none_is_refused(state: Path, span: str) -> None:
    """The time stays as it is, and the message says what to write."""
    before = inside("clock", "--state", state).out
    refused = error_of("clock", "advance", span, "--state", state)
    assert "span" in refused or "forward" in refused
    assert inside("clock", "--state", state).out == before


def test_advance_needs_a_span(state: Path) -> None:
    """Without one, the message gives examples."""
    assert "24h" in error_of("clock", "advance", "--state", state)


def test_faults_are_set_listed_and_cleared(state: Path) -> None:
    """Every option arrives in the lab; clear removes all; restore does, too."""
    options = ["--match", "method=POST", "--match", "path=*volumes*", "--status", "409", "--code", "917505"]
    labenv("fault", "set", "--state", state, "--where", "ontap.request", "--effect", "error", *options, "--times", "0")
    inside("fault", "set", "--state", state, "--where", "windows.cmdlet", "--effect", "delay", "--seconds", "2.5")
    told = labenv("fault", "--state", state, "--json").json["faults"]
    assert told == [
        {
            "where": "ontap.request",
            "match": {"method": "POST", "path": "*volumes*"},
            "effect": "error",
            "seconds": 0.0,
            "status": 409,
            "code": "917505",
            "message": "",
            "times": None,
            "acted": 0,
        },
        {
            "where": "windows.cmdlet",
            "match": {},
            "effect": "delay",
            "seconds": 2.5,
            "status": 500,
            "code": "",
            "message": "",
            "times": 1,
            "acted": 0,
        },
    ]
    text = inside("fault", "show", "--state", state).out
    assert "ontap.request (method=POST, path=*volumes*): error 917505 - acted always" in text
    assert labenv("fault", "clear", "--state", state, "--json").json == {"faults": []}
    assert inside("fault", "--state", state).out == "Nothing is broken on purpose\n"


def test_named_causes_are_listed_set_and_mended(state: Path) -> None:
    """The list needs no lab; rules and changes are shown with their cause, and go by it."""
    listed = inside("fault", "list", "--json").json["causes"]
    assert {"slow-array", "guest-volume-full", "second-requestor"} <= {each["name"] for each in listed}
    text = inside("fault", "list", "slow-array").out
    assert "R-9-08, case 2" in text
    assert "seconds=12" in text
    inside("fault", "set", "slow-array", "seconds=20", "--state", state)
    set_now = inside("fault", "set", "integration-service-off", "vm=sql01", "--state", state, "--json").json
    assert [(rule["cause"], rule["seconds"]) for rule in set_now["faults"]] == [("slow-array", 20.0)]
    assert set_now["changes"] == [{"cause": "integration-service-off", "options": {"vm": "sql01"}}]
    text = inside("fault", "--state", state).out
    assert "slow-array: ontap.request" in text
    assert "integration-service-off vm=sql01 - in force" in text
    assert "slow-array" not in inside("fault", "clear", "slow-array", "--state", state).out
    assert inside("fault", "clear", "--state", state).out == "Nothing is broken on purpose\n"
    assert "did you mean 'slow-array'" in error_of("fault", "set", "slow-aray", "--state", state)
    assert "no cause" in error_of("fault", "list", "nothing")
    assert "OPTION=VALUE" in error_of("fault", "set", "slow-array", "20", "--state", state)


def test_wrong_faults_are_refused(state: Path) -> None:
    """What is missing or does not fit is named, and nothing is set."""
    place = ("--where", "ontap.request")
    assert "--effect" in error_of("fault", "set", *place, "--state", state)
    assert "NAME=PATTERN" in error_of("fault", "set", *place, "--effect", "drop", "--match", "x", "--state", state)
    assert "cmdlet" in error_of("fault", "set", *place, "--effect", "drop", "--match", "cmdlet=x", "--state", state)
    assert "seconds" in error_of("fault", "set", *place, "--effect", "delay", "--state", state)
    assert inside("fault", "--state", state, "--json").json == {"faults": []}


@pytest.mark.parametrize(
    "arguments",
    [(), ("upp",), ("up",), ("up", "standalone", "--seed", "x"), ("fault", "set", "--where", "moon"), ("clock", "24h")],
)
def test_wrong_arguments_exit_with_2(arguments: tuple[str, ...]) -> None:
    """What argparse refuses: usage on standard error, nothing on standard output."""
    refused = inside(*arguments)
    assert refused.code == 2
    assert "usage: labenv" in refused.err
    assert refused.out == ""


def test_a_wrong_topology_is_told_before_anything_is_made(tmp_path: Path) -> None:
    """A suggestion for the name; no folder appears."""
    folder = tmp_path / "lab"
    message = error_of("up", "standalon", "--state", folder)
    assert "did you mean 'standalone'?" in message
    assert not folder.exists()


def test_topologies_are_listed() -> None:
    """Every shipped one with its title."""
    listed = labenv("topologies", "--json").json
    assert listed == {name: topology.load(name).title for name in topology.names()}
    assert "standalone: " in inside("topologies").out


@pytest.mark.parametrize("verb", ["", "up", "status", "fault"])
def test_help_has_the_exit_codes(verb: str) -> None:
    """``--help`` of the command and of each verb tells what the exit code means."""
    told = inside(*verb.split(), "--help")
    assert told.code == 0
    assert "Exit codes: 0 done; 1 " in " ".join(told.out.split())


def test_without_a_lab_every_command_says_how_to_start_one(tmp_path: Path) -> None:
    """``status`` exits with 3, the others with 1; the text names the command that helps."""
    nothing = tmp_path / "nothing"
    told = labenv("status", "--state", nothing, "--json")
    assert told.code == 3
    assert told.json["running"] is False
    assert "labenv up" in told.json["reason"]
    assert inside("status", "--state", nothing).code == 3
    for verb in (("down",), ("reset",), ("checkpoint", "x"), ("restore", "x"), ("clock",), ("fault",)):
        ran = inside(*verb, "--state", nothing)
        assert ran.code == 1
        assert "labenv up" in ran.err
    assert not nothing.exists()


def test_the_default_state_folder_comes_from_the_environment(state: Path) -> None:
    """``$LABENV_STATE`` stands in for ``--state``."""
    assert labenv("status", "--json", environment={"LABENV_STATE": str(state)}).json["seed"] == 7


def test_down_and_up_again(state: Path, lab: Lab) -> None:
    """Down returns when the folder is free, a second one says that nothing runs; the next up continues the same lab."""
    before: dict[str, Any] = json.loads(lab.profile.read_text("utf-8"))
    lab.guest("app01").write_file("C:\\kept.txt", "kept", flush=True)
    time = lab.clock.now
    assert labenv("down", "--state", state, "--json").json == {"running": False}
    assert not in_use(state)
    assert "labenv up standalone --state" in error_of("down", "--state", state)
    assert labenv("status", "--state", state).code == 3
    again = labenv("up", "standalone", "--state", state)
    assert again.code == 0
    assert f"https://{before['storage'][0]['host']}:{before['storage'][0]['port']} as admin" in again.out
    assert f"labenv down --state {state}" in again.out
    assert json.loads(lab.profile.read_text("utf-8")) == before
    assert lab.clock.now >= time
    assert lab.status()["seed"] == 7
    assert lab.guest("app01").read_file("C:\\kept.txt") == "kept"
    assert lab.guest("app01").identity()["unexpected_shutdown"] is True


@POSIX
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_foreground_stays_until_it_is_told_to_stop(tmp_path: Path, number: signal.Signals) -> None:
    """``--foreground`` says the same as ``up``, and Ctrl-C or a service manager's signal stops it cleanly."""
    command = [sys.executable, "-m", "labenv", "up", "standalone", "--foreground", "--state", str(tmp_path / "lab")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = []
        while not lines or not lines[-1].startswith("Stop it with"):
            lines.append(process.stdout.readline())
            assert lines[-1], "it ended before it was ready"
        assert "storage cluster cluster1: https://" in "".join(lines)
        assert attach(tmp_path / "lab").status()["topology"] == "standalone"
        os.kill(process.pid, number)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (0, "", "")
    assert not in_use(tmp_path / "lab")


def test_foreground_fails_like_the_other(state: Path) -> None:
    """A folder in use is told in one line and by exit code 1."""
    assert "already runs" in error_of("up", "standalone", "--foreground", "--state", state)
