"""Living by the schedule on a lab: due runs, catching up, weeks in seconds, scripts (TR 6.3, 6.5)."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

import smhvlab.site
from labenv.lab import Lab
from smhvlab.errors import ConfirmationNeeded, NotAllowed, PowerShellError
from smhvlab.exercises.protection import crowd
from smhvlab.protection.scheduler import Scheduler
from smhvlab.protection.tasks import FOLDER
from smhvlab.record import PlannedStep
from smhvlab.site import Site
from tests.flows.conftest import Start

POLICY = """
name = "{name}"
dataset = "{dataset}"
consistency = "crash"
[schedule]
repeat = "{repeat}"
[retention]
keep = {keep}
"""


def policy(name: str = "hourly", *, dataset: str = "Apps", repeat: str = "hourly", keep: int = 3) -> str:
    """A policy's TOML."""
    return POLICY.format(name=name, dataset=dataset, repeat=repeat, keep=keep)


@pytest.fixture
def apps(site: Site) -> Site:
    """The site with a dataset and an hourly policy that keeps three."""
    site.create_dataset("Apps", ["app01"])
    site.set_policy(policy())
    return site


@pytest.mark.tr("R-6.3-01", "R-6.3-03", "R-6.3-07")
def test_hours_are_lived_with_a_real_backup_at_each(apps: Site) -> None:
    """Five hours give five runs at the full hours; retention keeps three backups, with one Snapshot copy each."""
    begin = apps.now()
    diary = apps.run_until_sync(timedelta(hours=5))
    table = diary.frame()
    assert list(table["outcome"]) == ["done"] * 5
    assert [due.minute for due in table["due"]] == [0] * 5
    assert list(table["deleted"]) == [0, 0, 0, 1, 1]
    assert apps.now() - begin >= timedelta(hours=5)
    assert list(apps.backups()["name"]) == list(table["backup"][2:])
    assert len(apps.snapshots("vm_shared")) == 3
    assert "5 done" in str(diary)


def test_downtime_is_caught_up_with_one_run_for_each_policy(apps: Site, lab: Lab) -> None:
    """After three days without a scheduler each policy runs once, and tells how many runs it has missed."""
    apps.set_policy(policy("nightly", repeat="daily", keep=7))
    lab.clock.advance(3 * 86_400 - 60)
    due = apps.due()
    assert dict(zip(due["policy"], due["missed"], strict=True)) == {"nightly": 2, "hourly": 71}
    diary = apps.run_due()
    assert [(run.policy, run.outcome) for run in diary.runs] == [("nightly", "done"), ("hourly", "done")]
    assert len(apps.due()) == 0
    assert str(apps.run_due()) == "No run was due"
    assert sorted(b.tag for b in apps.tools().snapinfo.backups()) == ["daily", "hourly"]


def test_a_run_that_fails_is_told_and_keeps_nobody_waiting(apps: Site) -> None:
    """A dataset with a file outside the array fails at each of its runs, and the other policy's backups are made."""
    host = apps.tools().host
    host.run("New-VHD", {"Path": "C:\\local.vhd", "SizeBytes": 1 << 30, "Fixed": True})
    host.run("Add-VMHardDiskDrive", {"VMName": "web01", "ControllerType": "SCSI", "Path": "C:\\local.vhd"})
    apps.create_dataset("Web", ["web01"])
    apps.set_policy(policy("web", dataset="Web"))
    diary = apps.run_until_sync(timedelta(hours=2))
    outcomes = [(run.policy, run.outcome) for run in diary.runs]
    assert outcomes == [("hourly", "done"), ("web", "failed")] * 2
    assert "C:\\local.vhd" in next(run.error for run in diary.runs if run.outcome == "failed")
    assert "first failure" in str(diary)


@pytest.mark.tr("R-6.4-01")
def test_a_planned_layout_lives_through_its_first_night(site: Site) -> None:
    """Every proposed dataset is backed up at its time, that of the golden VM too, which does not run."""
    layout = site.plan_layout()
    for dataset in layout.datasets:
        site.create_dataset(dataset.name, list(dataset.vms))
    for text in layout.policies():
        site.set_policy(text)
    assert site.unprotected().empty
    assert [run.outcome for run in site.run_until_sync(timedelta(hours=24)).runs] == ["done"] * len(layout.datasets)


def test_two_schedulers_do_not_run_side_by_side(apps: Site) -> None:
    """While one is at work the second is refused, and nothing is run twice."""
    refused = []

    def again(_: object) -> None:
        with pytest.raises(NotAllowed, match="Another scheduler"):
            apps.run_due()
        refused.append(True)

    assert len(apps.run_until_sync(timedelta(hours=1), on_run=again).runs) == 1
    assert refused == [True]


def test_a_scheduler_waits_for_another_if_it_is_told_to(apps: Site) -> None:
    """Tasks of two policies start at the same minute: the later one's backup comes after the earlier one's."""
    apps.sleep(3600)
    taken, let_go = threading.Event(), threading.Event()

    def hold(_: object) -> None:
        taken.set()
        let_go.wait(60)

    with ThreadPoolExecutor(1) as other:
        first = other.submit(apps.run_due, on_run=hold)
        assert taken.wait(60)
        threading.Timer(1, let_go.set).start()
        second = apps.run_due(wait=timedelta(minutes=1))
        assert [run.outcome for run in first.result().runs] == ["done"]
    assert second.runs == ()


def test_what_was_handled_survives_and_a_damaged_file_is_told(apps: Site) -> None:
    """A new scheduler of the same user knows what has run; a file that cannot be read is named with what to do."""
    apps.run_until_sync(timedelta(hours=1))
    assert Scheduler(apps).due() == []
    (path,) = (apps.journals or pytest.fail("a lab keeps its journals")).parent.rglob("schedule/*.json")
    path.write_text("{", "utf-8")
    with pytest.raises(NotAllowed, match="damaged"):
        Scheduler(apps).due()
    path.unlink()


def test_notebooks_wait_without_blocking(apps: Site) -> None:
    """The awaited form runs beside other work of the event loop, and disabled policies are left alone."""
    apps.set_policy(policy("off").replace("[schedule]", "enabled = false\n[schedule]"))

    async def both() -> tuple[int, int]:
        ticks = 0
        task = asyncio.ensure_future(apps.run_until(timedelta(hours=2)))
        while not task.done():
            await asyncio.sleep(0)
            ticks += 1
        return ticks, len((await task).runs)

    ticks, runs = asyncio.run(both())
    assert ticks > 10
    assert runs == 2


@pytest.mark.tr("R-6.5-01", "R-6.5-02", "R-6.5-03")
def test_scripts_run_before_and_after_with_their_variables(apps: Site) -> None:
    """Before the backup variables stay as written; after it names and time stamp are filled in."""
    text = "$VMSnapshot|$SnapInfoName|$snapinfosnapshot"
    scripts = "".join(
        f'[[script]]\nphase = "{phase}"\ncommand = "Set-Content"\n'
        f"parameters = {{ LiteralPath = 'C:\\{phase}.txt', Value = \"{text}\" }}\n"
        for phase in ("before", "after")
    )
    apps.set_policy(policy("scripted") + scripts)
    done = apps.backup("Apps", consistency="crash", policy="scripted").run_sync().result
    name = done.backup.backup.name
    read = [
        str(apps.tools().host.run("Get-Content", {"LiteralPath": f"C:\\{phase}.txt"})[0])
        for phase in ("before", "after")
    ]
    assert read == [text, f"{name}|{name.removeprefix('Apps_')}|{name}"]
    assert [(run.phase, run.host, run.error) for run in done.scripts] == [("before", "hv1", ""), ("after", "hv1", "")]
    assert (done.backup.backup.policy, done.backup.backup.tag) == ("scripted", "hourly")


def test_a_script_that_fails_before_stops_the_backup_and_after_it_only_warns(apps: Site) -> None:
    """Nothing is left of the backup in the first case; in the second it stays, with a warning."""
    failing = '[[script]]\nphase = "{}"\ncommand = "Get-Item"\nparameters = {{ LiteralPath = "C:\\\\none" }}\n'
    apps.set_policy(policy("early") + failing.format("before"))
    apps.set_policy(policy("late") + failing.format("after"))
    with pytest.raises(NotAllowed, match="Get-Item"):
        apps.backup("Apps", consistency="crash", policy="early").run_sync()
    assert len(apps.backups()) == 0
    done = apps.backup("Apps", consistency="crash", policy="late").run_sync().result
    assert "Get-Item" in done.warnings[0]
    assert len(apps.backups()) == 1


def test_a_run_tells_of_itself_only_and_of_all_of_itself(apps: Site) -> None:
    """A second run of one flow does not repeat the first's warnings; after a kill what came before is still told."""
    failing = '[[script]]\nphase = "after"\ncommand = "Get-Item"\nparameters = { LiteralPath = "C:\\\\none" }\n'
    before = '[[script]]\nphase = "before"\ncommand = "Get-Date"\n'
    apps.set_policy(policy("late") + failing + before)
    flow = apps.backup("Apps", consistency="crash", policy="late")
    for _ in range(2):
        done = flow.run_sync().result
        assert [run.phase for run in done.scripts] == ["before", "after"]
        assert len(done.warnings) == 1
        apps.sleep(2)

    class Killed(BaseException):
        """The process dies here."""

    def gate(step: PlannedStep) -> bool:
        if step.name == "retention":
            raise Killed
        return True

    flow.gate = gate
    with pytest.raises(Killed):
        flow.run_sync()
    later = apps.backup("Apps", consistency="crash", policy="late").resume_sync(flow.run_id).result
    assert [run.phase for run in later.scripts] == ["before", "after"]


def test_a_policy_backs_up_its_own_dataset_only(apps: Site) -> None:
    """A policy of another dataset is refused before anything is changed."""
    apps.create_dataset("Web", ["web01"])
    with pytest.raises(NotAllowed, match="of the dataset Apps"):
        apps.backup("Web", consistency="crash", policy="hourly").run_sync()


@pytest.mark.tr("R-6.3-08", "R-6.3-12")
def test_a_budget_is_what_the_array_counts_after_living_through_it(apps: Site) -> None:
    """The forecast of two policies for six hours meets the array's own count, with a backup on demand in it."""
    apps.backup("Apps").run_sync()
    apps.set_policy(policy("often", keep=4).replace("[retention]", 'every = 2\n[retention]\ntag = "daily"'))
    plan = apps.budget(days=6 / 24).frame().set_index("volume").loc["vm_shared"]
    diary = apps.run_until_sync(timedelta(hours=6))
    assert {run.outcome for run in diary.runs} == {"done"}
    assert len(apps.snapshots("vm_shared")) == plan["at_end"]


def test_a_policy_that_breaks_the_volume_is_forecast_before_it_is_saved(apps: Site) -> None:
    """What-if: thirty days of hourly backups break the volume on a date, told in table, words and plot."""
    budget = apps.budget(what_if=[policy().replace("keep = 3", "days = 30").replace('"crash"', '"application"')])
    row = budget.frame().set_index("volume").loc["vm_shared"]
    assert (row["policy"], row["good_backups"]) == ("hourly", 127)
    assert budget.breaks == row["breaks"].to_pydatetime()
    assert "after 127 good backups" in str(budget)
    assert any("breaks" in trace.name for trace in budget.figure().data)
    assert apps.budget().breaks is None


@pytest.mark.tr("R-6.2-17", "R-6.3-05")
def test_overlapping_policies_of_one_volume_are_found(apps: Site) -> None:
    """Two datasets on one volume with the same hours overlap at each of them."""
    apps.create_dataset("Web", ["web01"])
    apps.set_policy(policy("web", dataset="Web"))
    (row,) = apps.overlaps(days=1).to_dict("records")
    assert (row["first"], row["second"], row["shared"], row["times"]) == ("hourly", "web", "volume vm_shared", 24)


@pytest.mark.tr("R-6.3-08", "R-6.3-10", "R-6.2-05")
def test_application_consistent_backups_are_counted_twice_and_verified(site: Site) -> None:
    """Each leaves two Snapshot copies, retention takes both away; the verification asked for counts."""
    site.create_dataset("SQL", ["sql01"])
    wanted = policy("sql", dataset="SQL", keep=1).replace('"crash"', '"application"')
    site.set_policy(wanted + "[options]\nverify = true\n")
    plan = site.budget(days=2 / 24).frame().set_index("volume").loc["vm_sql01"]
    diary = site.run_until_sync(timedelta(hours=2))
    assert [(run.outcome, run.error) for run in diary.runs] == [("done", "")] * 2
    first, second = (run.backup for run in diary.runs)
    # The first was the only verified one when the second was made: it stayed, and goes now that the second is.
    assert list(site.backups()["name"]) == [first, second]
    assert site.retain("SQL").run_sync().result.deleted == (first,)
    ours = [name for name in site.snapshots("vm_sql01")["snapshot"] if name.startswith("SQL_")]
    assert ours == [second, f"{second}_backup"]
    assert len(site.snapshots("vm_sql01")) == plan["at_end"]
    assert site.tools().snapinfo.catalogue().verified == {second}


@pytest.mark.tr("R-6.3-01")
def test_policies_are_tasks_of_the_host(apps: Site) -> None:
    """Each scheduled policy is a task with its schedule as trigger; one whose policy is gone is removed."""
    apps.set_policy(
        policy("weekly", repeat="weekly").replace("[retention]", 'days = ["monday"]\nat = "22:30"\n[retention]')
    )
    zone = '[schedule]\ntimezone = "Europe/Berlin"'
    apps.set_policy(policy("nightly", repeat="daily").replace("[schedule]", zone))
    assert apps.write_tasks(site="here") == ["registered hourly", "registered nightly", "registered weekly"]
    host = apps.tools().host
    texts = {
        name: str(host.run("Export-ScheduledTask", {"TaskName": name, "TaskPath": FOLDER})[0])
        for name in ("hourly", "nightly", "weekly")
    }
    assert "<Interval>PT1H</Interval>" in texts["hourly"]
    assert "<Interval>PT15M</Interval>" in texts["nightly"]
    assert "<StartBoundary>2013-03-04T22:30:00Z</StartBoundary>" in texts["weekly"]
    assert "<Monday />" in texts["weekly"]
    assert 'run-due --site "here" --policy hourly --wait 1h --yes' in texts["hourly"]
    (info,) = host.run("Get-ScheduledTaskInfo", {"TaskName": "weekly", "TaskPath": FOLDER})
    assert info["NextRunTime"] == datetime(2013, 3, 4, 22, 30, tzinfo=UTC)
    assert (info["LastRunTime"].year, info["LastTaskResult"]) == (1999, 0x41303)
    apps.remove_policy("weekly")
    apps.set_policy(replace(apps.policy("nightly"), enabled=False))
    assert "removed weekly" in apps.write_tasks()
    table = apps.tasks()
    assert dict(zip(table["policy"], table["enabled"], strict=True)) == {"hourly": True, "nightly": False}
    with pytest.raises(PowerShellError) as caught:
        host.run("Register-ScheduledTask", {"TaskName": "x", "TaskPath": FOLDER, "Xml": "<Task"})
    assert caught.value.error_id == "HRESULT 0x8004131a"


@pytest.mark.tr("R-12-08", "R-6.3-01", "R-6.3-08", "R-4-01")
@pytest.mark.parametrize(
    ("topology", "vms", "volume", "copies"),
    [
        ("two-node-cluster-2008r2", ["sql01", "web01"], "csv1", 4),  # one backup for each of the two nodes
        ("standalone-2012", ["app01"], "vm_shared", 2),
        ("standalone-2022", ["app01"], "vm_shared", 1),
    ],
)
def test_a_policy_s_backup_is_application_consistent_in_every_era(
    start: Start, topology: str, vms: list[str], volume: str, copies: int
) -> None:
    """What makes it consistent is chosen by the hosts, and the array holds as many copies of it as the budget says."""
    with smhvlab.site.connect(start(topology).profile) as site:
        site.create_dataset("Apps", vms)
        site.set_policy(policy("hourly").replace("crash", "application"))
        foreseen = site.budget(days=1 / 24).frame().set_index("volume").loc[volume]
        (run,) = site.run_until_sync(timedelta(hours=1)).runs
        (backup,) = site.tools().snapinfo.backups()
        assert len(site.snapshots(volume)) == foreseen["at_end"] == foreseen["now"] + copies
    assert (backup.policy, backup.consistency) == ("hourly", "application")
    assert (run.outcome, run.backup) == ("done", backup.name)
    assert ("DiskShadow" in backup.engine) == ("2022" not in topology)


@pytest.mark.tr("R-6.3-09", "R-6.3-04")
def test_a_policy_that_fills_its_volume_is_refused_with_the_nearest_that_fits(apps: Site) -> None:
    """Thirty days of hourly backups name the day on which they fail; what is offered instead is saved and fits."""
    poor = policy("sql", keep=3).replace("keep = 3", 'tag = "daily"\ndays = 30').replace('"crash"', '"application"')
    with pytest.raises(ConfirmationNeeded) as caught:
        apps.set_policy(poor)
    assert caught.value.needed == ("snapshot-limit",)
    assert "2013-03-09 15:00" in caught.value.message
    # The hourly policy leaves 3 copies; this one needs two for each backup, and for one backup more: 3 + 2 * 126 = 255.
    assert "retention.keep = 125" in caught.value.next_action
    assert list(apps.policies()["name"]) == ["hourly"]
    good = apps.set_policy(poor.replace("days = 30", "keep = 125"))
    assert apps.budget(days=400).breaks is None
    apps.remove_policy("sql")
    assert good.version == 1


@pytest.mark.tr("R-6.3-02", "R-6.3-09")
def test_the_128th_backup_fails_at_its_second_copy_and_leaves_none(site: Site) -> None:
    """With 254 Snapshot copies on the volume the first copy still fits and the second does not: both are gone after."""
    site.create_dataset("SQL", ["sql01"])
    crowd(site, "vm_sql01", 254)
    wanted = policy("sql", dataset="SQL", keep=126).replace('"crash"', '"application"')
    site.set_policy(wanted, accept={"snapshot-limit"})
    (run,) = site.run_until_sync(timedelta(hours=1)).runs
    assert run.outcome == "failed"
    names = set(site.snapshots("vm_sql01")["snapshot"])
    assert len(names) == 254
    assert not [name for name in names if name.startswith(("SQL_", "{"))]
    assert len(site.backups()) == 0
