"""``smhvlab`` as a user runs it: outputs, exit codes, and no change without ``--yes``."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import smhvlab.site
from labenv.lab import Lab
from smhvlab.cli.main import main
from smhvlab.cli.words import VERBS, in_a_terminal
from smhvlab.flow import Flow
from smhvlab.site import Site
from smhvlab.wires.control import Phase, WireRequest
from tests.flows.checks import picture

ROOT = Path(__file__).resolve().parent.parent.parent


@dataclass(frozen=True)
class Ran:
    """What a command left: exit code and both outputs."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one JSON value on standard output."""
        return json.loads(self.out)


class Command:
    """The command on one site, in this process: starting Python anew for each would take most of the time."""

    def __init__(self, lab: Lab) -> None:
        self.site = ["--site", str(lab.profile)]

    def __call__(self, verb: str, *arguments: str) -> Ran:
        return run(verb, *self.site, *arguments)


def run(*arguments: str) -> Ran:
    """Run the command's main function to its end."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        try:
            code = main(arguments)
        except SystemExit as end:  # argparse
            code = int(end.code or 0)
    return Ran(code, out.getvalue(), err.getvalue())


@pytest.fixture
def command(lab: Lab) -> Command:
    """The command on a fresh lab."""
    return Command(lab)


@pytest.fixture
def site(lab: Lab) -> Iterator[Site]:
    """The same site, to look at."""
    with smhvlab.site.connect(lab.profile) as connected:
        yield connected


def test_the_readme_s_session(command: Command, site: Site) -> None:
    """From a new VM to its restored databases, with the commands of the README and nothing else."""
    assert command("provision", "web02", "--yes").code == 0
    assert site.vms().set_index("name").loc["web02", "state"] == "Running"
    assert command("dataset", "SQL", "web02").out == "Dataset SQL: web02\n"
    site.tools().sql.insert("web02", "bb1", 100)
    backup = command("backup", "SQL", "--yes", "--json")
    assert backup.code == 0
    assert backup.json["outcome"] == "done"
    site.tools().sql.insert("web02", "bb1", 500)
    (name,) = [row["name"] for row in command("backups", "--json").json]
    restored = command("restore", name, "web02", "--yes")
    assert restored.code == 0
    assert "done" in restored.out
    assert site.tools().sql.count("web02", "bb1") == 100
    assert command("doctor").out == "No run waits for anybody.\n"


def test_without_yes_only_the_plan_is_shown(command: Command, site: Site) -> None:
    """The plan names the TR's sections; nothing is changed; as JSON it has the steps and what has to be accepted."""
    before = picture(site)
    text = command("provision", "web02")
    assert text.code == 0
    assert "Nothing was changed. Add --yes to carry this out." in text.out
    assert "2.2" in text.out
    told = command("provision", "web02", "--json").json
    assert len(told["plan"]) > 3
    assert told["accept"] == []
    assert picture(site) == before


@pytest.mark.parametrize(
    "table", ["vms", "volumes", "luns", "snapshots", "datasets", "backups", "disks", "mounts", "check"]
)
def test_tables_as_text_and_as_json(command: Command, site: Site, table: str) -> None:
    """The rows are those of the site; an empty table says so."""
    frame = getattr(site, table)()
    told = command(table, "--json")
    assert told.code == 0
    assert [list(row) for row in told.json] == [list(frame.columns)] * len(frame)
    text = command(table)
    assert text.code == 0
    assert text.out == "none\n" if len(frame) == 0 else str(frame.iloc[0, 0]) in text.out


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        (("provision", "sql01", "--yes"), "NameTaken"),
        (("provision", "x", "--golden", "nothing", "--yes"), "NotFound"),
        (("dataset", "Apps", "nobody"), "NotFound"),
        (("backup", "Nothing", "--yes"), "NotFound"),
        (("restore", "Nothing", "sql01", "--yes"), "NotFound"),
        (("doctor", "--resume", "Nothing"), "JournalError"),
    ],
)
def test_a_refusal_exits_with_1(command: Command, site: Site, arguments: tuple[str, ...], kind: str) -> None:
    """What, why and what next: as text on standard error, as JSON on standard output; the site stays as it was."""
    before = picture(site)
    told = command(*arguments, "--json")
    assert told.code == 1
    assert told.err == ""
    assert set(told.json["error"]) >= {"message", "class", "Next"}
    assert kind in told.json["error"]["class"]
    text = command(*arguments)
    assert text.code == 1
    assert text.err.startswith(f"smhvlab: {told.json['error']['message']}\n")
    assert "  Next: " in text.err
    assert "Traceback" not in text.err
    assert picture(site) == before


def test_a_warning_has_to_be_accepted_by_name(command: Command, site: Site) -> None:
    """A VM that is off is restored only with the plan's key; the refusal names it."""
    site.create_dataset("SQL", ["sql01"])
    name = site.backup("SQL", consistency="crash").run_sync().result.backup.name
    site.tools().hyperv.ensure_off(site.tools().hyperv.vm("sql01").id)
    told = command("restore", name, "sql01", "--json").json
    assert [c["key"] for c in told["accept"]] == ["not-running"]
    assert "sql01 has written since the backup of 2013-03-04 08:" in told["losses"][0]
    refused = command("restore", name, "sql01", "--yes")
    assert refused.code == 1
    assert "not-running" in refused.err
    assert command("restore", name, "sql01", "--yes", "--accept", "not-running").code == 0
    assert site.vms().set_index("name").loc["sql01", "state"] == "Running"


def test_a_flow_that_fails_and_is_undone_exits_with_3(command: Command, site: Site, lab: Lab) -> None:
    """The array refuses a step: everything is taken back, and both forms say so."""
    before = picture(site)
    for form in ((), ("--json",)):
        lab.faults.set("ontap.request", "error", match={"method": "POST", "path": "*lun-maps*"}, status=409, code="5")
        failed = command("provision", "web02", "--yes", *form)
        assert failed.code == 3
        assert "undone" in failed.out
        assert picture(site) == before
    assert failed.json["outcome"] == "undone"
    assert failed.json["error"]


def test_a_flow_that_stops_past_its_pivot_exits_with_4(command: Command, site: Site, lab: Lab) -> None:
    """The VM does not start after its LUN was put back: stopped, and the doctor finishes it."""
    site.create_dataset("SQL", ["sql01"])
    name = site.backup("SQL", consistency="crash").run_sync().result.backup.name
    site.tools().sql.insert("sql01", "bb1", 5)
    lab.faults.set("windows.cmdlet", "error", match={"cmdlet": "Start-VM"}, code="Stuck", times=None)
    stopped = command("restore", name, "sql01", "--yes", "--json")
    assert stopped.code == 4
    assert stopped.json["outcome"] == "stopped"
    lab.faults.clear()
    (waiting,) = command("doctor", "--json").json
    assert waiting["run"] == stopped.json["run"]
    assert waiting["allowed"] == ["resume"]
    assert waiting["run"] in command("doctor").out
    assert command("doctor", "--resume", waiting["run"]).code == 0
    assert site.tools().sql.count("sql01", "bb1") == 0
    assert command("doctor", "--json").json == []


class Killed(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("options", [("--all",), ("--undo",)])
def test_the_doctor_mends_a_killed_run(command: Command, lab: Lab, options: tuple[str, ...]) -> None:
    """A run whose process died in the middle is listed with what is allowed, and undone on request."""

    def seam(request: WireRequest, phase: Phase) -> None:
        if phase is Phase.AFTER and request.title.startswith("POST /storage/volumes"):
            raise Killed

    with smhvlab.site.connect(lab.profile, seam=seam) as site:
        before = picture(site)
        flow: Flow[Any] = site.provision("web02")  # type: ignore[assignment]
        with pytest.raises(Killed):
            flow.run_sync()
    (waiting,) = command("doctor", "--json").json
    assert "undo" in waiting["allowed"]
    mended = command("doctor", *options, *([waiting["run"]] if options == ("--undo",) else []))
    assert mended.code == 0
    with smhvlab.site.connect(lab.profile) as site:
        assert picture(site) == before


@pytest.mark.parametrize("arguments", [(), ("vms",), ("provision", "x"), ("backup", "x", "--consistency", "none")])
def test_wrong_arguments_exit_with_2(arguments: tuple[str, ...]) -> None:
    """What argparse refuses: usage on standard error, nothing on standard output."""
    refused = run(*arguments)
    assert refused.code == 2
    assert "usage: smhvlab" in refused.err
    assert refused.out == ""


@pytest.mark.parametrize(
    "arguments",
    [
        ("budget", "--days", "1e9"),
        ("budget", "--days", "nan"),
        ("schedule", "--days", "inf"),
        ("report", "--days", "-5"),
    ],
)
def test_days_that_nobody_can_look_ahead_exit_with_2(arguments: tuple[str, ...]) -> None:
    """Too many days, too few and none at all are refused with the range, before anything is connected to."""
    refused = run(*arguments, "--site", "nobody")
    assert refused.code == 2
    assert f"argument --days: {arguments[-1]} days; from 0 to 3660" in refused.err


@pytest.mark.parametrize("option", [("--until", "9e9d"), ("--until", "soon"), ("--wait", "nand"), ("--wait", "7")])
def test_a_time_that_is_none_exits_with_1(command: Command, option: tuple[str, str]) -> None:
    """The refusal names the text and how a time is written."""
    refused = command("run-due", "--yes", *option)
    assert refused.code == 1
    assert f"{option[1]!r} is no time" in refused.err


def test_a_name_that_the_console_has_no_letters_for_is_told(tmp_path: Path) -> None:
    """Standard output of another code page gets an escape in its place, not a traceback after the work is done."""
    code = "from smhvlab.cli.main import _say; _say('VM \u0416 on C:')"
    environment = {**os.environ, "PYTHONIOENCODING": "cp1252"}
    told = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True, cwd=tmp_path)
    assert told.stdout.decode("cp1252").strip() == "VM \\u0416 on C:"


def test_the_version_is_told() -> None:
    """As of every command."""
    told = run("--version")
    assert told.code == 0
    assert re.fullmatch(r"smhvlab \d+\.\d+.*\n", told.out)


def test_errors_speak_of_commands_in_a_terminal() -> None:
    """What a method of a site does is told as the command that does it; a method without one stays as it is."""
    told = in_a_terminal('Look at site.backups(), or site.unmount("M:"), site.create_dataset(name, vms), site.map().')
    assert told == "Look at smhvlab backups, or smhvlab unmount M:, smhvlab dataset name vms, site.map()."
    for verb in VERBS.values():
        assert run(verb.split()[0], "--help").code == 0


def test_a_missing_dataset_names_the_command_that_makes_one(command: Command) -> None:
    """The way on is one that the reader of a terminal can type."""
    refused = command("backup", "Nobody")
    assert refused.code == 1
    assert "Next: Create it with smhvlab dataset" in refused.err


def test_a_lab_s_state_folder_is_a_site(lab: Lab) -> None:
    """Whoever has a lab's folder need not know the name of the file in it."""
    assert {row["name"] for row in run("vms", "--json", "--site", str(lab.state)).json} >= {"sql01", "golden"}


def test_run_due_tells_the_runs_to_come(command: Command, site: Site) -> None:
    """Without --yes the runs until a moment are listed; a moment that has passed is refused."""
    site.create_dataset("Apps", ["app01"])
    site.set_policy(
        'name = "h"\ndataset = "Apps"\nconsistency = "crash"\n[schedule]\nrepeat = "hourly"\n[retention]\nkeep = 2\n'
    )
    assert len(command("run-due", "--until", "3h", "--json").json) == 3
    refused = command("run-due", "--until", "2001-01-01T00:00")
    assert (refused.code, "has passed" in refused.err) == (1, True)


def test_a_runbook_that_is_not_there_lists_those_that_are(tmp_path: Path) -> None:
    """Names as they are written on the command line, without the marks that tell edited copies."""
    (tmp_path / "dr").mkdir()
    (tmp_path / ".marks").mkdir()
    for name in ("dr/failover", ".marks/failover"):
        (tmp_path / f"{name}.ipynb").write_text("{}", "utf-8")
    refused = run("run", "nosuch", "--notebooks", str(tmp_path))
    assert refused.code == 1
    assert "Run one of " in refused.err
    assert "dr/failover" in refused.err
    assert ".marks" not in refused.err.replace(str(tmp_path), "")


@pytest.mark.parametrize("verb", ["", "demo", "restore", "doctor", "lab"])
def test_help_has_the_exit_codes(verb: str) -> None:
    """``--help`` of the command and of each verb tells what the exit code means."""
    told = run(*verb.split(), "--help")
    assert told.code == 0
    assert "Exit codes: 0 done; 1 refused or failed" in " ".join(told.out.split())


@pytest.mark.parametrize("name", ["nobody", "missing/endpoints.json", "lab:standalon"])
def test_a_site_that_is_not_there_exits_with_1(name: str) -> None:
    """A profile that was never saved, a missing file and an unknown topology are told without a traceback."""
    refused = run("vms", "--site", name)
    assert refused.code == 1
    assert refused.err.startswith("smhvlab: ")
    assert "Next: " in refused.err


def test_check_exits_with_1_when_something_is_wrong(command: Command, lab: Lab, tmp_path: Path) -> None:
    """A wrong password is a row of the table, and the exit code tells."""
    told = json.loads(lab.profile.read_text("utf-8"))
    told["storage"][0]["password"] = "wrong"
    (tmp_path / "endpoints.json").write_text(json.dumps(told), "utf-8")
    checked = run("check", "--site", str(tmp_path / "endpoints.json"), "--json")
    assert checked.code == 1
    assert {row["wire"] for row in checked.json if not row["ok"]} == {"REST"}


def test_the_demo_as_a_command_of_its_own(tmp_path: Path) -> None:
    """The demo as a command of its own, with --json: the story on standard error, one object as result."""
    done = subprocess.run(
        [sys.executable, "-m", "smhvlab", "demo", "--json"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=120,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert set(result["databases"].values()) == {100}
    assert [step["tr"] for step in result["steps"]][:2] == ["2.2", "T4/1"]
    assert "DBCC CHECKDB" in done.stderr
    assert list(tmp_path.iterdir()) == []
