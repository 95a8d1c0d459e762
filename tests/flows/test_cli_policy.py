"""The command's verbs about policies, schedules and retention, as a user runs them (TR 5.2, 6.3)."""

from __future__ import annotations

import io
import json
import re
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from labenv.lab import Lab
from smhvlab.cli.main import main
from smhvlab.site import Site

POLICY = """
name = "hourly"
dataset = "Apps"
consistency = "crash"
[schedule]
repeat = "hourly"
[retention]
keep = 2
"""


class Terminal:
    """The command on one site, in this process."""

    def __init__(self, lab: Lab) -> None:
        self.site = ["--site", str(lab.profile)]
        self.out = self.err = ""

    def __call__(self, *arguments: str) -> int:
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            code = main([arguments[0], *self.site, *arguments[1:]])
        self.out, self.err = out.getvalue(), err.getvalue()
        return code


@pytest.fixture
def terminal(site: Site, lab: Lab) -> Terminal:
    """A terminal on a site with a dataset."""
    site.create_dataset("Apps", ["app01"])
    return Terminal(lab)


def test_a_policy_s_life_in_a_terminal(terminal: Terminal, tmp_path: Path) -> None:
    """Set, list, show, edit from two places, run until a time, look at retention and budget, remove."""
    file = tmp_path / "hourly.toml"
    file.write_text(POLICY, "utf-8")
    assert terminal("policy", "set", str(file)) == 0
    assert "Saved version 1" in terminal.out
    assert terminal("policy", "set", str(file)) == 1
    assert "written by another console" in terminal.err
    assert terminal("policy", "show", "hourly") == 0
    file.write_text(terminal.out.replace("keep = 2", "days = 30"), "utf-8")
    assert terminal("budget", "--what-if", str(file), "--limit", "100") == 1
    assert "breaks on" in terminal.out
    assert terminal("budget", "--json") == 0
    assert json.loads(terminal.out)[0]["volume"] == "vm_shared"
    assert terminal("schedule", "--days", "1", "--json") == 0
    assert len(json.loads(terminal.out)) == 24
    assert terminal("run-due", "--until", "3h", "--yes") == 0
    assert "3 runs: 3 done" in terminal.out
    assert terminal("retention", "--json") == 0
    assert [row["verdict"] for row in json.loads(terminal.out)] == ["keep", "keep"]
    assert terminal("retention", "Apps", "--yes") == 0
    assert terminal("config", "export", str(tmp_path / "config.toml")) == 0
    assert terminal("config", "drift") == 0
    assert terminal("policy", "remove", "hourly") == 0
    assert terminal("config", "import", str(tmp_path / "config.toml")) == 0
    assert "policy hourly" in terminal.out
    assert terminal("policy", "remove", "hourly") == 0
    assert terminal("policy", "history", "hourly", "--json") == 0
    assert [version["removed"] for version in json.loads(terminal.out)] == [False, True, False, True]
    assert terminal("policy", "list") == 0
    assert terminal.out.strip() == "none"


@pytest.mark.tr("R-5.4-15")
def test_a_report_opens_without_a_network(terminal: Terminal, site: Site, tmp_path: Path) -> None:
    """One HTML file with every table, the plot and the evidence, and nothing that a browser has to fetch."""
    assert terminal("report", str(tmp_path / "early"), "--json") == 0
    early = (tmp_path / "early" / "report.html").read_text("utf-8")
    assert "There is no policy yet" in early
    assert "vm_shared: 0 now, at most 0 of 255" in early  # the volumes that there are, no empty plot
    assert 'id="budget"' in early
    site.set_policy(POLICY)
    site.backup("Apps", consistency="crash").run_sync()
    assert terminal("report", str(tmp_path / "out"), "--json") == 0
    told = json.loads(terminal.out)
    page = Path(told["html"]).read_text("utf-8")
    for part in ("Snapshot budget", "Apps_", "no guest was quiesced", "vm_shared", "Unprotected VMs"):
        assert part in page
    assert not re.search(r"<(?:script|link|img)[^>]+(?:src|href)=", page)
    names = {Path(table).name for table in told["tables"]}
    assert {"policies.csv", "backups.csv", "snapshot-copies.csv"} <= names
    assert (tmp_path / "out" / "backups.csv").read_text("utf-8").startswith("name,dataset,time,type")
    (tmp_path / "file").write_text("", "utf-8")
    assert terminal("report", str(tmp_path / "file")) == 1
    assert "cannot be written" in terminal.err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("policy", "show"), "needs a name"),
        (("policy", "show", "nothing"), "There is no policy nothing"),
        (("policy", "set", "no-such-file.toml"), "cannot be read"),
        (("retention", "--yes"), "Which dataset"),
        (("config", "export"), "needs a file"),
        (("run-due", "--yes", "--until", "soon"), "is no time"),
    ],
)
def test_wrong_arguments_are_told_with_what_to_do(terminal: Terminal, arguments: tuple[str, ...], told: str) -> None:
    """One message, the next action, exit code 1."""
    assert terminal(*arguments) == 1
    assert told in terminal.err
    assert "Next:" in terminal.err
