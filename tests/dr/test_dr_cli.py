"""Two sites from a terminal: mirrors are updated under a policy, and the doctor's line has both (TR 6.2, 8)."""

from __future__ import annotations

import json

import pytest

from labenv.lab import Lab
from smhvlab.cli.dr import doctor_line
from smhvlab.cli.main import _parser, main
from smhvlab.dr.sites import SitePair
from tests.dr.scene import prepare

POLICY = """
name = "hourly"
dataset = "All"
consistency = "crash"
[schedule]
repeat = "hourly"
[retention]
keep = 2
[options]
replicate = true
"""


@pytest.mark.tr("R-8-03")
def test_a_policy_s_mirrors_are_updated_from_a_terminal(
    pair: SitePair, lab: Lab, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the partner every mirror is updated, on demand and when due; without it the warning says where they end."""
    prepare(pair)
    pair.primary.set_policy(POLICY, accept=["snapshot-limit"])
    alone = ["--site", f"{lab.profile}#A"]
    both = [*alone, "--partner", f"{lab.profile}#B"]
    on_demand = ["backup", "All", "--consistency", "crash", "--policy", "hourly", "--yes", "--json"]
    assert main([*on_demand, *alone]) == 0
    (warning,) = json.loads(capsys.readouterr().out)["result"]["warnings"]
    assert "managed where they end" in warning
    assert "--partner" in warning
    assert main([*on_demand, *both]) == 0
    done = json.loads(capsys.readouterr().out)["result"]
    assert (len(done["mirrors"]), done["warnings"]) == (3, [])
    assert main(["backup", "All", *both]) == 1
    assert "Name a policy" in capsys.readouterr().err
    lab.clock.advance(7200)
    assert main(["run-due", *both, "--yes", "--json"]) == 0
    newest = pair.primary.tools().snapinfo.backups()[-1]
    for volume in ("vm_sql01", "vm_shared"):
        assert newest.luns[0].snapshot in set(pair.secondary.snapshots(volume)["snapshot"])
    capsys.readouterr()
    assert main(["schedule", *both, "--tasks"]) == 0
    (task,) = pair.primary.tools().host.run("Export-ScheduledTask", {"TaskName": "hourly", "TaskPath": "\\smhvlab\\"})
    assert f'--partner "{lab.profile}#B" --policy hourly' in str(task).replace("&quot;", '"')


def test_the_doctor_s_line_names_both_sites() -> None:
    """What is printed can be typed as it is; the doctor who was not told the partner asks for it where it is needed."""

    def line(run: str, *arguments: str) -> str:
        options = _parser().parse_args(list(arguments))
        return doctor_line(options, run, "resume")

    both = ["--site", "b", "--partner", "a"]
    assert line("0001-Failover", "failover", *both) == "smhvlab doctor --site b --partner a --resume 0001-Failover"
    assert line("0001-Failover", "failover", *both[:2]) == "smhvlab doctor --site b --resume 0001-Failover"
    assert line("0001-Failback", "doctor", *both[:2]).startswith("smhvlab doctor --site b --partner OTHER-SITE")
    kept = line("0001-Failback", "doctor", *both, "--journals", "runs/x")
    assert kept == "smhvlab doctor --site b --partner a --journals runs/x --resume 0001-Failback"
    assert line("0001-RestoreVm", "restore", *both[:2], "B", "vm") == "smhvlab doctor --site b --resume 0001-RestoreVm"
