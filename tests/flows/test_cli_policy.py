"""The command's verbs about policies, schedules and retention, as a user runs them (TR 5.2, 6.3)."""

from __future__ import annotations

import io
import json
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from labenv.lab import Lab
from smhvlab.cli import main
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
    assert terminal("policy", "remove", "hourly") == 0
    assert terminal("policy", "history", "hourly", "--json") == 0
    assert [version["removed"] for version in json.loads(terminal.out)] == [False, True]
    assert terminal("policy", "list") == 0
    assert terminal.out.strip() == "none"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("policy", "show"), "needs a name"),
        (("policy", "show", "nothing"), "There is no policy nothing"),
        (("policy", "set", "no-such-file.toml"), "cannot be read"),
        (("retention", "--yes"), "Which dataset"),
        (("run-due", "--yes", "--until", "soon"), "is no time"),
    ],
)
def test_wrong_arguments_are_told_with_what_to_do(terminal: Terminal, arguments: tuple[str, ...], told: str) -> None:
    """One message, the next action, exit code 1."""
    assert terminal(*arguments) == 1
    assert told in terminal.err
    assert "Next:" in terminal.err
