"""A restore beside the work of other management stations: each knows of it, and it knows of theirs (TR 6.7, 6.2)."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal

import pytest

from smhvlab.cli import main as cli
from smhvlab.doctor import reopen, unfinished
from smhvlab.errors import NotAllowed, NotFound
from smhvlab.leftovers import leftovers
from smhvlab.record import Outcome, PlannedStep
from smhvlab.restore.announced import Announcements, this_station
from smhvlab.site import Site
from tests.flows.conftest import Start
from tests.flows.test_backup_stations import stations


class Killed(BaseException):
    """The process ends here: nothing in the product may handle this."""


def announced(site: Site) -> list[str]:
    """Whose restores are announced."""
    return [one.name for one in Announcements(site.tools().snapinfo).all()]


def killed_restore(site: Site, backup: str, vm: str, *, at: str) -> None:
    """A restore whose process dies before a step."""
    flow = site.restore(backup, vm)

    def gate(step: PlannedStep) -> bool:
        if step.name == at:
            raise Killed
        return True

    flow.gate = gate
    with pytest.raises(Killed):
        flow.run_sync()


@pytest.mark.tr("R-6.2-11")
def test_a_restore_is_known_to_other_stations_for_as_long_as_it_works(start: Start, tmp_path: Path) -> None:
    """Another station's backup and restore of the VM are refused by name; a failure takes the announcement back."""
    with stations(start("standalone-2012"), tmp_path) as (one, two):
        one.create_dataset("Set", ["sql01", "app01"])
        name = one.backup("Set", consistency="crash").run_sync().result.backup.name
        refused: dict[str, set[str]] = {"backup": set(), "restore": set()}

        def gate(step: PlannedStep) -> bool:
            if step.name != "announce":
                for asked, flow in (("backup", two.backup("Set")), ("restore", two.restore(name, "app01"))):
                    with pytest.raises(NotAllowed) as caught:
                        flow.plan()
                    assert caught.value.tr == "6.7"
                    refused[asked].add(caught.value.message)
                    assert f"Wait for its end on {this_station()}" in caught.value.next_action
                    assert f"smhvlab doctor --resume {flows[-1].run_id}" in caught.value.next_action
                assert {left.kind for left in leftovers(two.tools(), pending=False)} == {"announcement"}
            return step.name != stop

        flows: list[Any] = []
        for stop in ("copy", ""):
            flows.append(one.restore(name, "app01"))
            flows[-1].gate = gate
            if stop:
                with pytest.raises(Exception, match="was not approved"):
                    flows[-1].run_sync()
            else:
                flows[-1].run_sync()
            assert announced(two) == []
            assert two.backup("Set").plan()
        for messages in refused.values():
            assert all(text.startswith("A restore of app01 is under way: ") for text in messages)
        assert leftovers(two.tools(), pending=False) == []


@pytest.mark.tr("R-6.2-11")
@pytest.mark.parametrize(
    ("era", "consistency", "steps"),
    [
        ("2012", "crash", {"snapshots", "register"}),
        ("2012", "application", {"create", "metadata", "rename", "register"}),
        ("2022", "application", {"snapshots", "merge"}),
    ],
)
def test_a_restore_beside_another_station_s_backup_is_refused(
    start: Start, era: str, consistency: Literal["crash", "application"], steps: set[str], tmp_path: Path
) -> None:
    """From the moment at which a backup has done anything until it is registered it is known by its name."""
    with stations(start(f"standalone-{era}"), tmp_path) as (one, two):
        one.create_dataset("Set", ["sql01", "app01"])
        one.create_dataset("Other", ["web01"])
        name = one.backup("Set", consistency="crash").run_sync().result.backup.name
        web = one.backup("Other", consistency="crash").run_sync().result.backup.name
        flow = one.backup("Set", consistency=consistency)
        seen: dict[str, str] = {}

        def gate(step: PlannedStep) -> bool:
            if step.name in steps:
                with pytest.raises(NotAllowed) as caught:
                    two.restore(name, "app01").plan()
                assert "smhvlab doctor" in caught.value.next_action
                seen[step.name] = caught.value.message
                assert two.restore(web, "web01").plan()
            return True

        flow.gate = gate
        taken = flow.run_sync().result.backup.name
        assert seen == dict.fromkeys(steps, f"A backup of app01 is under way: {taken}")
        assert two.restore(name, "app01").plan()


@pytest.mark.tr("R-6.2-11")
def test_the_announcement_of_a_dead_restore_is_explained_and_cleared(
    start: Start, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own station finishes or undoes it first; another one may clear it once nobody will, and nothing is lost."""
    with stations(start("standalone-2012"), tmp_path) as (one, two):
        one.create_dataset("Set", ["sql01", "app01"])
        name = one.backup("Set", consistency="crash").run_sync().result.backup.name
        killed_restore(one, name, "app01", at="copy")
        (waiting,) = unfinished(one.name, folder=one.journals)
        with pytest.raises(NotAllowed, match="A restore of app01 was interrupted") as caught:
            one.restore(name, "app01").plan()
        assert waiting.run in caught.value.next_action
        with pytest.raises(NotAllowed, match="A restore of app01 was interrupted"):
            one.backup("Set").plan()
        with pytest.raises(NotAllowed, match="is a run of this station"):
            one.clear_announcement("app01")
        (left,) = [one for one in leftovers(two.tools(), pending=False) if one.kind == "announcement"]
        assert "app01" in left.name
        assert "smhvlab doctor --clear app01" in left.next
        with pytest.raises(NotFound, match="No restore of sql01 is announced"):
            two.clear_announcement("sql01")
        monkeypatch.setattr("smhvlab.cli.main._connect", lambda *_, **__: nullcontext(two))
        assert cli.main(["doctor", "--site", "here", "--clear", "APP01"]) == 0
        assert "No longer announced: the restore of app01" in capsys.readouterr().out
        assert two.backup("Set").plan()
        assert reopen(one, waiting.run, folder=one.journals).undo_sync().outcome is Outcome.UNDONE
        assert announced(two) == []
