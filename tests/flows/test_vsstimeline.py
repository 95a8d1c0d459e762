"""The VSS timeline reads a set back from the site's own logs: a healthy one, a slow array, writers that timed out."""

from __future__ import annotations

from datetime import datetime

import pytest

from labenv.lab import Lab
from smhvlab.backup.shadowsigns import Lane, Verdict
from smhvlab.errors import BackupFailed, NotFound
from smhvlab.panels.vsstimeline import VssTimeline
from smhvlab.site import Site

SCRIPT = (
    "set context persistent",
    "set metadata C:\\Windows\\Temp\\timeline.cab",
    "begin backup",
    "add volume C:\\VMs\\sql01\\ alias v0 provider {ddd3d232-a96f-4ac5-8f7b-250fd91fd102}",
    "create",
    "end backup",
)


def create_set(site: Site) -> datetime:
    """One shadow copy set of sql01's volume, successful or not; returns when it was begun."""
    host = site.tools().host
    begun = site.now()
    host.run("Set-Content", {"LiteralPath": "C:\\timeline.dsh", "Value": list(SCRIPT), "Encoding": "Ascii"})
    host.native("diskshadow.exe", "/s", "C:\\timeline.dsh")
    return begun


def verdicts(panel: VssTimeline) -> dict[str, Verdict]:
    return {budget.title: budget.verdict for budget in panel.budgets}


@pytest.mark.tr("R-9-02")
def test_a_healthy_set_is_read_back_from_events_audit_and_snapshot_copies(site: Site) -> None:
    """Provider, writers and array are told without any trace; the second copy is made after the LUN's clone was."""
    panel = site.vss_timeline(start=create_set(site))
    assert verdicts(panel) == {"CommitSnapshots": Verdict.WITHIN, "Freeze to Thaw": Verdict.WITHIN}
    assert panel.log.failed == ()
    commit = next(s for s in panel.signs if s.lane is Lane.PROVIDER)
    assert (commit.source, commit.seconds) == ("Navssprv 4089", 1.0)
    array = [s.title for s in panel.signs if s.lane is Lane.ARRAY and s.source == "audit log"]
    first, second = (n for n, title in enumerate(array) if title == "Snapshot copy asked for: vm_sql01")
    assert first < array.index("LUN cloned") < array.index("LUN mapped") < second < array.index("LUN deleted")
    asked = next(s for s in panel.signs if s.lane is Lane.REQUESTOR)
    assert asked.title == "diskshadow.exe"
    assert asked.source == "wire log"
    assert asked.start < commit.start < commit.end < asked.end
    made = [s for s in panel.signs if s.source == "Snapshot copy"]
    assert [s.title.endswith("_backup") for s in made] == [False, True]
    assert {s.set_id for s in made} == {commit.set_id}
    assert repr(panel) == "VssTimeline(1 set committed, 0 over budget, 0 writers failed)"


@pytest.mark.tr("R-9-08")
def test_a_slow_array_is_over_the_ten_seconds(site: Site, lab: Lab) -> None:
    """Event 4364 and VSS's own error are failures, and the bar goes beyond what is allowed."""
    lab.faults.cause("slow-array")
    create_set(site)
    panel = site.vss_timeline()  # the newest set, without being told when
    assert verdicts(panel)["CommitSnapshots"] is Verdict.OVER
    assert [s.source for s in panel.signs if s.failed] == ["Navssprv 4364", "VSS 12298"]
    picture = panel.render()
    assert "✗ 13.0 s of 10 s" in picture
    assert "Navssprv 4364" in picture


@pytest.mark.tr("R-9-08")
def test_writers_that_were_frozen_too_long_are_told_plainly(site: Site, lab: Lab) -> None:
    """Without a trace the writer's state tells it; a trace also tells how long it was."""
    lab.faults.cause("slow-lookup")
    begun = create_set(site)
    panel = site.vss_timeline(start=begun)
    assert verdicts(panel) == {"CommitSnapshots": Verdict.WITHIN, "Freeze to Thaw": Verdict.OVER}
    assert "Microsoft Hyper-V VSS Writer on hv1: [10] Failed, Timed out" in panel.log.failed
    assert "✗ not told of 60 s" in panel.render()
    traced = site.vss_timeline(start=begun, trace=True)
    freeze = next(b for b in traced.budgets if b.title == "Freeze to Thaw")
    assert (freeze.verdict, freeze.exact) == (Verdict.OVER, True)
    assert freeze.spent is not None
    assert freeze.spent > 60
    assert {s.lane for s in traced.signs} == set(Lane)


def test_a_guest_that_failed_is_in_its_own_lane(site: Site, lab: Lab) -> None:
    """The host's Hyper-V log names the VM, and the writer its failed state."""
    lab.faults.cause("busy-guest-writer")
    panel = site.vss_timeline(start=create_set(site))
    failed = [s for s in panel.signs if s.failed]
    assert [(s.lane, s.source) for s in failed] == [(Lane.GUEST, "VMMS 10102")]
    assert "sql01" in failed[0].title
    assert "Microsoft Hyper-V VSS Writer on hv1: [8] Failed, Retryable error" in panel.log.failed


def test_requests_have_the_time_of_the_endpoint_that_answered(site: Site) -> None:
    """Both wires read the clock of their endpoint from its answers, in whole seconds, without asking for it."""
    before = site.now()
    site.sleep(90)
    site.volumes()
    site.vms()
    asked = {entry.title: entry for entry in site.log.entries}
    for moment in (asked["GET /storage/volumes"].ended, asked["Get-VM"].began, asked["Get-VM"].ended):
        assert moment is not None
        assert 89 <= (moment - before).total_seconds() < 100


def test_a_set_that_failed_early_is_known_from_the_wire_log(site: Site, lab: Lab) -> None:
    """A writer that refuses leaves no event of a set: what was asked of the host is shown, and no set is counted."""
    site.create_dataset("Set", ["sql01"])
    lab.faults.cause("writer-refuses", phase="Freeze", times=0)
    with pytest.raises(BackupFailed):
        site.backup("Set").run_sync()
    panel = site.vss_timeline()
    assert repr(panel).startswith("VssTimeline(0 sets committed")
    assert any(sign.source == "wire log" and sign.title.startswith("diskshadow.exe") for sign in panel.signs)


def test_without_any_set_the_next_step_is_named(site: Site) -> None:
    """No event log tells of a set: the error says what to do."""
    with pytest.raises(NotFound, match="No event log"):
        site.vss_timeline()
