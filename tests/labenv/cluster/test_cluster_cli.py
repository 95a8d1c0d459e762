"""The host's switch and cables from a terminal."""

from __future__ import annotations

import json

import pytest

from labenv.cli import main

from .conftest import Lab


def test_switch_and_cables(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    """``labenv host`` switches a node off and on, and cuts and mends its paths; what cannot be is told."""
    state = str(lab.lab.state)

    def run(*arguments: str) -> dict[str, object]:
        code = main(["host", "hv1", *arguments, "--json", "--state", state])
        answer: dict[str, object] = json.loads(capsys.readouterr().out)
        assert code == (1 if "error" in answer else 0)
        return answer

    both = {"10.10.1.21": True, "10.10.1.22": True}
    assert run("paths")["paths"] == both
    assert run("cut", "10.10.1.21")["paths"] == {**both, "10.10.1.21": False}
    assert len(lab.run("hv1", "Get-IscsiConnection")) == 1
    assert run("mend", "10.10.1.21")["paths"] == both
    assert "error" in run("cut")
    assert "error" in run("cut", "10.9.9.9")
    assert "error" in run("on")
    run("off")
    assert "error" in run("off")
    assert lab.lab.status()["vms"]["golden"] == "Off"
    run("on")
