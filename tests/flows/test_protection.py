"""Policies, schedules and retention on a lab, over both wires (TR 5.2, 6.3)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from labenv.lab import Lab
from smhvlab.errors import Cancelled, ConfirmationNeeded, NameTaken, NotAllowed, NotFound
from smhvlab.protection.retaining import ApplyRetention
from smhvlab.protection.retention import snapinfo_count, snapinfo_volume
from smhvlab.site import Site, connect
from smhvlab.snapinfo import Backup

HOURLY = (
    'name = "hourly"\ndataset = "Apps"\nconsistency = "crash"\n[schedule]\nrepeat = "hourly"\n[retention]\nkeep = 2\n'
)


@pytest.fixture
def apps(site: Site) -> Site:
    """The site with a dataset and an hourly policy."""
    site.create_dataset("Apps", ["app01", "web01"])
    site.set_policy(HOURLY)
    return site


def tagged(site: Site, count: int) -> list[str]:
    """Take backups that the hourly policy counts; returns their names."""
    names = []
    for _ in range(count):
        done = site.backup("Apps", consistency="crash").run_sync().result
        _retag(site, done.backup)
        names.append(done.backup.name)
    return names


def _retag(site: Site, backup: Backup) -> None:
    snapinfo = site.tools().snapinfo
    snapinfo.forget([backup])
    snapinfo.ensure_backup(replace(backup, policy="hourly", tag="hourly"))


@pytest.mark.tr("R-5.2-01", "R-5.2-02", "R-6.3-03")
def test_policies_are_numbered_files_and_every_version_stays(apps: Site) -> None:
    """An edit writes the next version, a removal too; datasets can have several policies, and VMs several datasets."""
    changed = apps.set_policy(replace(apps.policy("hourly"), description="keeps more"))
    assert changed.version == 2
    apps.set_policy(HOURLY.replace('"hourly"', '"nightly"', 1).replace('"hourly"', '"daily"'))
    apps.create_dataset("Web", ["web01"])
    assert list(apps.policies()["name"]) == ["hourly", "nightly"]
    apps.remove_policy("hourly")
    assert list(apps.policies()["name"]) == ["nightly"]
    assert [(v.version, v.description, v.removed) for v in apps.policy_history("hourly")] == [
        (1, "", False),
        (2, "keeps more", False),
        (3, "keeps more", True),
    ]
    with pytest.raises(NotFound):
        apps.policy("hourly")


def test_the_second_of_two_consoles_is_told_and_nothing_is_lost(apps: Site, lab: Lab) -> None:
    """Both edit version 1: the second is refused with what theirs says differently, and the first edit stands."""
    with connect(lab.profile) as other:
        mine, theirs = apps.policy("hourly"), other.policy("hourly")
        other.set_policy(replace(theirs, retention=replace(theirs.retention, keep=9)))
        with pytest.raises(NameTaken) as caught:
            apps.set_policy(replace(mine, retention=replace(mine.retention, keep=5)))
    assert "retention.keep: yours 5, theirs 9" in (caught.value.why or "")
    assert "version = 2" in caught.value.next_action
    assert apps.policy("hourly").retention.keep == 9


def test_a_policy_needs_its_dataset_and_one_retention_for_each_tag(apps: Site) -> None:
    """An unknown dataset is refused, and so is a second answer to how long one tag is kept."""
    with pytest.raises(NotFound, match="Nothing"):
        apps.set_policy(HOURLY.replace("Apps", "Nothing"))
    with pytest.raises(NotAllowed, match="retention differs"):
        apps.set_policy(HOURLY.replace('"hourly"', '"second"', 1).replace("keep = 2", "keep = 3"))
    assert list(apps.policies()["name"]) == ["hourly"]


def test_the_schedule_lists_the_coming_runs(apps: Site) -> None:
    """One row for each run of the coming day, in their order."""
    table = apps.schedule(days=1)
    assert len(table) == 24
    assert table["time"].is_monotonic_increasing
    assert set(table["policy"]) == {"hourly"}


@pytest.mark.tr("R-6.3-07", "R-6.3-13")
def test_retention_deletes_what_its_preview_named_and_nothing_else(apps: Site) -> None:
    """The oldest beyond the count go with their copies and files; on demand, foreign and SnapInfo's copies stay."""
    storage = apps.tools().storage
    volume = storage.volume("vm_shared", svm="svm1")
    assert volume is not None
    foreign = ["hourly.0", "XApps_03-04-2013_08.00.00", "Apps_03-04-2013_08.00.00_old"]
    for name in foreign:
        storage.ensure_snapshots([volume], name)
    by_hand = apps.backup("Apps", consistency="crash").run_sync().result.backup.name
    names = tagged(apps, 4)
    preview = apps.retention().set_index("backup")["verdict"]
    assert dict(preview) == {by_hand: "keep", **dict(zip(names, ["delete", "delete", "keep", "keep"], strict=True))}
    done = apps.retain("Apps").run_sync().result
    assert done.deleted == tuple(names[:2])
    assert list(apps.backups()["name"]) == [by_hand, *names[2:]]
    left = apps.snapshots()
    assert set(left.query("volume == 'vm_shared'")["snapshot"]) == {*foreign, by_hand, *names[2:]}
    assert set(left.query("volume == 'snapinfo'")["snapshot"]) == {by_hand, *names}
    assert set(apps.retention()["verdict"]) == {"keep"}


@pytest.mark.tr("R-6.3-10")
def test_the_last_verified_backup_stays(apps: Site) -> None:
    """The oldest backup is the only verified one: it stays although the count says otherwise."""
    names = tagged(apps, 3)
    snapinfo = apps.tools().snapinfo
    snapinfo.mark_verified(snapinfo.backup(names[0]), "checked")
    assert list(apps.retention()["verdict"]) == ["last verified", "keep", "keep"]
    assert apps.retain("Apps").run_sync().result.kept_verified == names[0]
    assert list(apps.backups()["name"]) == names
    snapinfo.mark_verified(snapinfo.backup(names[2]), "checked")
    apps.retain("Apps").run_sync()
    assert list(apps.backups()["name"]) == names[1:]


@pytest.mark.tr("R-6.8-10")
def test_a_held_copy_is_skipped_and_tried_again(apps: Site) -> None:
    """A clone of the old backup holds its copy: it is told and left; when the clone is gone it goes."""
    names = tagged(apps, 3)
    storage = apps.tools().storage
    volume = storage.volume("vm_shared", svm="svm1")
    assert volume is not None
    storage.ensure_volume_clone("look", parent=volume, snapshot=names[0])
    row = apps.retention().iloc[0]
    assert (row["verdict"], "volume_clone" in row["why"]) == ("held", True)
    done = apps.retain("Apps").run_sync().result
    assert (done.deleted, [name for name, _ in done.held]) == ((), [names[0]])
    assert list(apps.backups()["name"]) == names
    storage.discard_volume("look", svm="svm1")
    assert apps.retain("Apps").run_sync().result.deleted == (names[0],)


def test_a_deletion_that_stopped_in_the_middle_goes_on_next_time(apps: Site) -> None:
    """A backup that was marked and then left is not offered for restores, and the next run deletes it."""
    names = tagged(apps, 3)
    snapinfo = apps.tools().snapinfo
    snapinfo.mark_deleted([snapinfo.backup(names[2])])
    snapinfo.mark_deleted(snapinfo.catalogue().deleted)
    assert list(apps.backups()["name"]) == names[:2]
    assert apps.retention().set_index("backup").loc[names[2], "why"] == "its deletion was begun before"
    assert apps.retain("Apps").run_sync().result.deleted == (names[2],)
    assert names[2] not in set(apps.snapshots("vm_shared")["snapshot"])


def test_a_cancelled_retention_offers_no_dead_backup_again(apps: Site) -> None:
    """A backup whose deletion an earlier run has begun stays out of the list when this run is undone."""
    names = tagged(apps, 4)
    snapinfo = apps.tools().snapinfo
    snapinfo.mark_deleted([snapinfo.backup(names[0])])
    flow = apps.retain("Apps")
    flow.gate = lambda step: step.name != "delete"
    with pytest.raises(Cancelled):
        flow.run_sync()
    assert list(apps.backups()["name"]) == names[1:]
    assert [backup.name for backup in snapinfo.catalogue().deleted] == [names[0]]


@pytest.mark.tr("R-6.3-14", "R-6.3-15")
def test_snapinfo_copies_have_a_count_of_their_own(apps: Site) -> None:
    """The registry's count is kept, the sub-key of the host before the key itself; without any it is 30."""
    tools = apps.tools()
    assert snapinfo_count(tools.nodes) == 30
    key = "HKLM:\\SOFTWARE\\NetApp\\SnapManager for Hyper-V\\Server"
    value = {"Name": "snapinfo_snaps_count", "Type": "DWord"}
    tools.host.run("Set-ItemProperty", {"LiteralPath": key, "Value": 4, **value})
    assert snapinfo_count(tools.nodes) == 4
    tools.host.run("New-Item", {"Path": f"{key}\\hv1", "Force": True})
    tools.host.run("Set-ItemProperty", {"LiteralPath": f"{key}\\hv1", "Value": 2, **value})
    assert snapinfo_count(tools.nodes) == 2
    names = tagged(apps, 3)
    storage = tools.storage
    storage.ensure_snapshots([snapinfo_volume(tools)], "somebody_elses")
    flow: ApplyRetention = apps.retain("Apps")
    done = flow.run_sync().result
    assert done.snapinfo_deleted == (names[0],)
    assert set(apps.snapshots("snapinfo")["snapshot"]) == {"somebody_elses", *names[1:]}


@pytest.mark.tr("R-6.3-03")
def test_a_backup_on_demand_is_deleted_by_hand(apps: Site) -> None:
    """Its Snapshot copies and its record go, those of the other stay; the last one asks before it goes."""
    first = apps.backup("Apps", consistency="crash").run_sync().result.backup
    apps.sleep(60)
    second = apps.backup("Apps", consistency="crash").run_sync().result.backup
    deletion = apps.delete_backup(first)
    assert deletion.plan().losses == (f"Nothing can be restored afterwards from {first.name}.",)
    done = deletion.run_sync().result
    assert str(done) == f"{first.name} is deleted, with 1 Snapshot copies"
    assert list(apps.backups()["name"]) == [second.name]
    assert list(apps.snapshots("vm_shared")["snapshot"]) == [second.name]
    with pytest.raises(NotFound, match="There is no backup"):
        apps.delete_backup(first.name).plan()
    last = apps.delete_backup(second.name)
    with pytest.raises(ConfirmationNeeded) as asked:
        last.run_sync()
    assert asked.value.needed == ("last-backup",)
    last.run_sync(accept={"last-backup"})
    assert apps.backups().empty


def test_a_mounted_backup_is_not_deleted(apps: Site) -> None:
    """The refusal names the Snapshot copy and what holds it; after the unmount it goes."""
    backup = apps.backup("Apps", consistency="crash").run_sync().result.backup
    mounted = apps.mount(backup, at="M:").run_sync(accept={"not-recovered"}).result
    with pytest.raises(NotAllowed, match="cannot be deleted now") as refused:
        apps.delete_backup(backup).plan()
    assert f"vm_shared: {backup.name} is held by" in str(refused.value.why)
    apps.unmount(mounted).run_sync()
    apps.delete_backup(backup).run_sync(accept={"last-backup"})
    assert apps.snapshots("vm_shared").empty


def test_a_dataset_is_taken_away_and_made_again(apps: Site) -> None:
    """Not while a policy backs it up; its backups stay, and a new one of its name continues its versions."""
    apps.backup("Apps", consistency="crash").run_sync()
    with pytest.raises(NotAllowed, match="is backed up by hourly"):
        apps.remove_dataset("Apps")
    apps.remove_policy("hourly")
    assert apps.remove_dataset("apps").version == 2
    assert apps.datasets().empty
    assert len(apps.backups()) == 1
    with pytest.raises(NotFound):
        apps.backup("Apps").plan()
    assert apps.create_dataset("Apps", ["web01"]).version == 3
    assert list(apps.datasets()["name"]) == ["Apps"]
