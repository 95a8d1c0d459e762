"""SnapMirror between two clusters: what a relationship transfers, keeps and gives back."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .ontap_bench import IQN, MIB
from .snapmirror_bench import RELATIONSHIPS, PairBench


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[PairBench]:
    """Two clusters in this process."""
    bench = PairBench(tmp_path)
    yield bench
    bench.close()


def kind(pair: PairBench, number: int, volume: str) -> str:
    """Type of a volume: rw or dp."""
    return str(pair.at(number).do("GET", f"/storage/volumes/{pair.key(number, volume)}")["type"])


def lun_of(pair: PairBench, number: int, name: str) -> dict[str, Any]:
    """A LUN's record."""
    return dict(pair.at(number).one("/storage/luns", name=name))


def delete_copy(pair: PairBench, number: int, volume: str, name: str) -> tuple[int, Any]:
    """Delete a Snapshot copy; status and answer."""
    path = f"/storage/volumes/{pair.key(number, volume)}/snapshots"
    uuid = pair.at(number).do("GET", path, name=name)["records"][0]["uuid"]
    return pair.call("DELETE", f"{path}/{uuid}", return_timeout=9)


def clone(pair: PairBench, number: int, parent: str, name: str, **origin: Any) -> str:
    """A FlexClone volume; its uuid."""
    body = {
        "name": name,
        "svm": {"name": f"svm{number}"},
        "clone": {"is_flexclone": True, "parent_volume": {"name": parent}, **origin},
    }
    pair.at(number).do("POST", "/storage/volumes", body)
    return str(pair.one("/storage/volumes", name=name)["uuid"])


# what arrives ---------------------------------------------------------------------------------------------------------


def test_a_mirror_holds_the_bytes_of_its_source(pair: PairBench) -> None:
    """Initialise, update and break: the destination has the source's bytes, and is written to only after the break."""
    uuid = pair.protect()
    pair.snap(1, "vol1", "monday")
    monday = pair.content(1, "vol1")
    pair.at(2)
    assert pair.state_of(uuid)["state"] == "uninitialized"
    shown = pair.mirrored(uuid)
    assert (shown["state"], shown["healthy"], shown["transfer"]["state"]) == ("snapmirrored", True, "success")
    assert pair.content(2, "vol1_dr") == monday
    tuesday = pair.scribble(1, "vol1", 2, blocks=5)
    pair.snap(1, "vol1", "tuesday")
    wednesday = pair.scribble(1, "vol1", 3, blocks=7)
    pair.at(2).transfer(uuid)
    assert pair.content(2, "vol1_dr", snapshot="monday") == monday
    assert pair.content(2, "vol1_dr", snapshot="tuesday") == tuesday
    assert pair.content(2, "vol1_dr") == wednesday
    assert pair.copies(1, "vol1") == pair.copies(2, "vol1_dr")
    assert kind(pair, 2, "vol1_dr") == "dp"
    assert pair.patch(uuid, "broken_off")[0] == 200
    assert pair.state_of(uuid)["state"] == "broken_off"
    assert kind(pair, 2, "vol1_dr") == "rw"
    assert pair.do("GET", RELATIONSHIPS, state="broken_off")["num_records"] == 1


def test_bytes_follow_what_changed_and_not_the_volume(pair: PairBench) -> None:
    """The baseline sends what is written, an update the changed blocks, an idle update nothing; all are summed up."""
    uuid = pair.protect(blocks=64)
    assert pair.at(2).mirrored(uuid)["transfer"]["bytes_transferred"] == 64 * 4096
    for changed in (1, 9, 0):
        if changed:
            pair.scribble(1, "vol1", 20 + changed, blocks=changed)
        assert pair.at(2).transfer(uuid)["transfer"]["bytes_transferred"] == changed * 4096
    assert pair.state_of(uuid)["total_transfer_bytes"] == 74 * 4096


def test_a_transfer_takes_lab_time_by_its_size(pair: PairBench) -> None:
    """Lab seconds per MiB of what is sent; progress is seen on the way, and a throttle slows it down."""
    uuid = pair.protect(blocks=1024)
    pair.prices["ontap.snapmirror.mib"] = 100.0
    begun = pair.clock.now
    pair.at(2).patch(uuid, "snapmirrored")
    pair.advance(200)
    shown = pair.state_of(uuid)
    assert shown["transfer"]["state"] == "transferring"
    assert MIB < shown["transfer"]["bytes_transferred"] < 3 * MIB
    pair.settle(uuid)
    assert 400 <= (pair.clock.now - begun) // 1_000_000 <= 410
    pair.prices["ontap.snapmirror.mib"] = 0.0
    pair.do("PATCH", f"{RELATIONSHIPS}/{uuid}", {"throttle": 4})  # kilobytes a second
    pair.scribble(1, "vol1", 2, blocks=10)
    begun = pair.clock.now
    pair.at(2).transfer(uuid)
    assert 10 <= (pair.clock.now - begun) // 1_000_000 <= 15


def test_reference_copies_are_named_after_the_destination_and_kept_on_both_ends(pair: PairBench) -> None:
    """One copy snapmirror.<svm>_<msid>.<stamp> on each end, the same, replaced by each update, locked at both."""
    uuid = pair.protect()
    pair.at(2).mirrored(uuid)
    (first,) = pair.copies(1, "vol1")
    volume = pair.at(2).do("GET", f"/storage/volumes/{pair.key(2, 'vol1_dr')}", fields="msid,svm")
    assert first.startswith(f"snapmirror.{volume['svm']['uuid']}_{volume['msid']}.2013-03-04_08")
    pair.transfer(uuid)
    (second,) = pair.copies(1, "vol1")
    assert second != first
    assert pair.copies(2, "vol1_dr") == [second]
    assert pair.at(2).state_of(uuid)["exported_snapshot"] == second
    assert delete_copy(pair, 1, "vol1", second)[1]["error"]["code"] == "1638555"
    assert delete_copy(pair, 2, "vol1_dr", second)[1]["error"]["code"] == "1638521"
    path = f"/storage/volumes/{pair.key(1, 'vol1')}/snapshots"
    shown = pair.at(1).one(path)
    assert shown["owners"] == ["snapmirror"]
    refused = pair.call("PATCH", f"{path}/{shown['uuid']}", {"name": "mine"}, return_timeout=9)
    assert refused[1]["error"]["code"] == "1638476"


def test_all_snapshot_copies_follow_their_source(pair: PairBench) -> None:
    """MirrorAllSnapshots: names, labels and times come along; what is renamed or deleted at the source follows."""
    uuid = pair.protect()
    pair.snap(1, "vol1", "{guid}", snapmirror_label="daily", comment="SMHV")
    pair.at(2).mirrored(uuid)
    near = pair.at(1).one(f"/storage/volumes/{pair.key(1, 'vol1')}/snapshots", name="{guid}")
    far = pair.at(2).one(f"/storage/volumes/{pair.key(2, 'vol1_dr')}/snapshots", name="{guid}")
    for field in ("create_time", "snapmirror_label", "comment", "version_uuid"):
        assert near[field] == far[field]
    assert near["uuid"] != far["uuid"]
    path = f"/storage/volumes/{pair.key(1, 'vol1')}/snapshots"
    pair.at(1).do("PATCH", f"{path}/{near['uuid']}", {"name": "renamed"})
    pair.snap(1, "vol1", "gone")
    pair.at(2).transfer(uuid)
    assert "gone" in pair.copies(2, "vol1_dr")
    delete_copy(pair, 1, "vol1", "gone")
    pair.at(2).transfer(uuid)
    assert pair.copies(2, "vol1_dr") == pair.copies(1, "vol1")


def test_labels_decide_what_a_vault_keeps(pair: PairBench) -> None:
    """A policy of one's own sends copies of its label only and keeps as many as it says."""
    policy = {"name": "two", "retention": [{"label": "daily", "count": 2}]}
    pair.at(2).do("POST", "/snapmirror/policies", policy)
    uuid = pair.protect("two")
    pair.at(2).mirrored(uuid)
    for number in range(3):
        pair.snap(1, "vol1", f"day{number}", snapmirror_label="daily")
        pair.snap(1, "vol1", f"hour{number}", snapmirror_label="hourly")
        pair.scribble(1, "vol1", 30 + number, blocks=3)
        pair.at(2).transfer(uuid)
    kept = [name for name in pair.copies(2, "vol1_dr") if not name.startswith("snapmirror.")]
    assert kept == ["day1", "day2"]
    assert pair.content(2, "vol1_dr") == pair.content(1, "vol1")


def test_a_transfer_of_one_copy_makes_it_the_common_one(pair: PairBench) -> None:
    """source_snapshot sends that copy and takes no other; it is then what both ends keep."""
    uuid = pair.protect("MirrorLatest")
    pair.at(2).mirrored(uuid)
    pair.snap(1, "vol1", "chosen")
    chosen = pair.content(1, "vol1")
    pair.scribble(1, "vol1", 4, blocks=4)
    pair.at(2).transfer(uuid, {"source_snapshot": "chosen"})
    assert pair.content(2, "vol1_dr") == chosen
    assert pair.at(2).state_of(uuid)["exported_snapshot"] == "chosen"
    assert delete_copy(pair, 1, "vol1", "chosen")[1]["error"]["code"] == "1638555"
    pair.at(2).transfer(uuid)
    assert pair.content(2, "vol1_dr") == pair.content(1, "vol1")


# identities -----------------------------------------------------------------------------------------------------------


def test_luns_of_the_destination_are_other_disks(pair: PairBench) -> None:
    """Same contents, own uuid and serial number; they keep them, and their maps, through updates and a rename."""
    uuid = pair.protect()
    pair.at(2).mirrored(uuid)
    near, far = lun_of(pair, 1, "/vol/vol1/lun1"), lun_of(pair, 2, "/vol/vol1_dr/lun1")
    assert near["uuid"] != far["uuid"]
    assert near["serial_number"] != far["serial_number"]
    assert (near["space"]["size"], near["os_type"]) == (far["space"]["size"], far["os_type"])
    group = {"name": "hv2", "svm.name": "svm2", "os_type": "hyper_v", "initiators": [{"name": IQN}]}
    pair.do("POST", "/protocols/san/igroups", group)
    body = {"lun.name": "/vol/vol1_dr/lun1", "igroup.name": "hv2", "svm.name": "svm2"}
    pair.do("POST", "/protocols/san/lun-maps", body)
    pair.at(1).do("PATCH", f"/storage/luns/{near['uuid']}", {"name": "/vol/vol1/system"})
    pair.disk(1, "/vol/vol1/lun2")
    pair.at(2).transfer(uuid)
    renamed = lun_of(pair, 2, "/vol/vol1_dr/system")
    assert (renamed["uuid"], renamed["serial_number"]) == (far["uuid"], far["serial_number"])
    assert len(renamed["lun_maps"]) == 1
    (unit,) = pair.arrays[1].logical_units(IQN, pair.arrays[1].targets("10.2.1.21")[0].name)
    pair.scribble(1, "vol1", 8, blocks=3, path="/system")
    pair.at(2).transfer(uuid)
    assert unit.device.read(0, unit.size) == pair.content(1, "vol1", path="/system")
    pair.at(1).do("DELETE", f"/storage/luns/{near['uuid']}")
    pair.at(2).transfer(uuid)
    assert [x["name"] for x in pair.do("GET", "/storage/luns")["records"]] == ["/vol/vol1_dr/lun2"]


def test_a_volume_that_grew_is_followed(pair: PairBench) -> None:
    """Resized volumes and LUNs are of the same size at the destination after the next update."""
    uuid = pair.protect()
    pair.at(2).mirrored(uuid)
    pair.at(1).do("PATCH", f"/storage/volumes/{pair.key(1, 'vol1')}", {"size": 512 * MIB})
    lun = lun_of(pair, 1, "/vol/vol1/lun1")
    pair.do("PATCH", f"/storage/luns/{lun['uuid']}", {"space.size": 48 * MIB})
    pair.at(2).transfer(uuid)
    assert pair.do("GET", f"/storage/volumes/{pair.key(2, 'vol1_dr')}")["size"] == 512 * MIB
    assert lun_of(pair, 2, "/vol/vol1_dr/lun1")["space"]["size"] == 48 * MIB


# breaking and mending -------------------------------------------------------------------------------------------------


def test_quiesce_keeps_updates_away_until_resume(pair: PairBench) -> None:
    """paused takes no transfer, not a scheduled one either; resumed it does."""
    uuid = pair.protect()
    pair.at(2).do("PATCH", f"{RELATIONSHIPS}/{uuid}", {"transfer_schedule": {"name": "5min"}})
    pair.mirrored(uuid)
    assert pair.patch(uuid, "paused")[0] == 200
    before = pair.state_of(uuid)
    assert before["state"] == "paused"
    pair.advance(1200)
    assert pair.state_of(uuid)["transfer"]["uuid"] == before["transfer"]["uuid"]
    assert pair.patch(uuid, "snapmirrored")[0] == 200
    assert pair.state_of(uuid)["state"] == "snapmirrored"
    pair.advance(600)
    assert pair.state_of(uuid)["transfer"]["uuid"] != before["transfer"]["uuid"]


def test_quiesce_waits_for_the_transfer(pair: PairBench) -> None:
    """A request to pause ends with the transfer; one that takes too long is refused, and pauses it all the same."""
    uuid = pair.protect(blocks=256)
    pair.at(2).mirrored(uuid)
    pair.prices["ontap.snapmirror.mib"] = 60.0
    pair.scribble(1, "vol1", 2, blocks=256)
    pair.at(2).do("POST", f"{RELATIONSHIPS}/{uuid}/transfers", {})
    assert pair.patch(uuid, "paused")[0] == 200
    assert pair.state_of(uuid)["state"] == "paused"
    assert pair.state_of(uuid)["transfer"]["state"] == "success"


def test_a_schedule_updates_by_itself(pair: PairBench) -> None:
    """An hourly relationship makes one update an hour; lag_time is the age of what the destination has."""
    uuid = pair.protect()
    pair.at(2).mirrored(uuid)
    pair.do("PATCH", f"{RELATIONSHIPS}/{uuid}", {"transfer_schedule": {"name": "hourly"}})
    pair.advance(3 * 3600)
    transfers = pair.do("GET", f"{RELATIONSHIPS}/{uuid}/transfers", fields="*")["records"]
    assert len(transfers) == 4
    assert pair.state_of(uuid)["transfer_schedule"]["name"] == "hourly"
    pair.do("PATCH", f"{RELATIONSHIPS}/{uuid}", {"transfer_schedule": {"name": ""}})
    pair.advance(7200 + 15 * 60)
    assert len(pair.do("GET", f"{RELATIONSHIPS}/{uuid}/transfers")["records"]) == 4
    assert pair.state_of(uuid)["lag_time"].startswith("PT3H")
    pair.advance(26 * 3600)
    assert pair.do("GET", f"{RELATIONSHIPS}/{uuid}/transfers")["num_records"] == 0
    assert pair.state_of(uuid)["transfer"]["state"] == "success"


def test_break_goes_back_to_a_named_copy(pair: PairBench) -> None:
    """restore_to_snapshot: the destination is what that copy holds, newer ones are gone; a resync starts from it."""
    uuid = pair.protect()
    pair.snap(1, "vol1", "good")
    good = pair.content(1, "vol1")
    pair.scribble(1, "vol1", 2, blocks=20)
    pair.snap(1, "vol1", "bad")
    pair.at(2).mirrored(uuid)
    assert pair.patch(uuid, "broken_off", restore_to_snapshot="good")[0] == 200
    assert pair.content(2, "vol1_dr") == good
    assert pair.copies(2, "vol1_dr") == ["good"]
    assert pair.mirrored(uuid)["state"] == "snapmirrored"
    assert pair.content(2, "vol1_dr") == pair.content(1, "vol1")


def test_resync_gives_up_what_was_written_since(pair: PairBench) -> None:
    """Back to the newest copy in common, then what the source has; newer copies of the destination are gone."""
    uuid = pair.protect()
    pair.at(2).mirrored(uuid)
    pair.patch(uuid, "broken_off")
    far = lun_of(pair, 2, "/vol/vol1_dr/lun1")
    pair.scribble(2, "vol1_dr", 9, blocks=30)
    pair.snap(2, "vol1_dr", "mine")
    pair.disk(2, "/vol/vol1_dr/mine")
    pair.scribble(1, "vol1", 10, blocks=6)
    shown = pair.at(2).mirrored(uuid)
    assert (shown["state"], shown["last_transfer_type"]) == ("snapmirrored", "resync")
    assert shown["transfer"]["bytes_transferred"] == 6 * 4096
    assert pair.content(2, "vol1_dr") == pair.content(1, "vol1")
    assert pair.copies(2, "vol1_dr") == pair.copies(1, "vol1")
    assert lun_of(pair, 2, "/vol/vol1_dr/lun1")["uuid"] == far["uuid"]
    assert pair.do("GET", "/storage/luns")["num_records"] == 1
    assert kind(pair, 2, "vol1_dr") == "dp"


def test_resync_can_preserve_newer_copies(pair: PairBench) -> None:
    """With preserve the destination's newer Snapshot copies stay (under a policy that does not mirror all)."""
    uuid = pair.protect("MirrorLatest")
    pair.at(2).mirrored(uuid)
    pair.patch(uuid, "broken_off")
    written = pair.scribble(2, "vol1_dr", 9, blocks=30)
    pair.snap(2, "vol1_dr", "mine")
    assert pair.at(2).patch(uuid, "snapmirrored", preserve=True)[0] == 200
    pair.settle(uuid)
    assert pair.content(2, "vol1_dr") == pair.content(1, "vol1")
    assert pair.content(2, "vol1_dr", snapshot="mine") == written


def test_a_volume_restore_after_the_break_leaves_it_uninitialized(pair: PairBench) -> None:
    """TR 8: a volume SnapRestore drops the reference copy, a LUN's own restore keeps it; failback differs."""
    uuid = pair.protect()
    pair.snap(1, "vol1", "backup")
    pair.scribble(1, "vol1", 2, blocks=4)
    pair.at(2).mirrored(uuid)
    pair.patch(uuid, "broken_off")
    lun = lun_of(pair, 2, "/vol/vol1_dr/lun1")
    restore = {"clone": {"source": {"name": "/vol/vol1_dr/.snapshot/backup/lun1"}}}
    pair.do("PATCH", f"/storage/luns/{lun['uuid']}", restore)
    assert pair.state_of(uuid)["state"] == "broken_off"
    pair.advance(60)
    pair.do("PATCH", f"/storage/volumes/{pair.key(2, 'vol1_dr')}", restore_to__snapshot__name="backup")
    assert pair.state_of(uuid)["state"] == "uninitialized"


def test_failback_by_exchanged_paths(pair: PairBench) -> None:
    """PATCH with source and destination exchanged: the old relationship is gone, the new one sends only changes."""
    uuid = pair.protect(blocks=100)
    near = lun_of(pair, 1, "/vol/vol1/lun1")
    pair.at(2).mirrored(uuid)
    pair.patch(uuid, "broken_off")
    there = pair.scribble(2, "vol1_dr", 11, blocks=12)
    pair.scribble(1, "vol1", 12, blocks=5)
    body = {
        "source": {"path": "svm2:vol1_dr"},
        "destination": {"path": "svm1:vol1"},
        "state": "snapmirrored",
    }
    pair.at(2).do("PATCH", f"{RELATIONSHIPS}/{uuid}", body)
    assert pair.do("GET", RELATIONSHIPS)["num_records"] == 0
    assert pair.at(1).do("GET", RELATIONSHIPS, list_destinations_only="true")["num_records"] == 0
    new = pair.one(RELATIONSHIPS)["uuid"]
    shown = pair.settle(new)
    assert (shown["state"], shown["source"]["path"]) == ("snapmirrored", "svm2:vol1_dr")
    assert shown["transfer"]["bytes_transferred"] == 12 * 4096
    assert pair.content(1, "vol1") == there
    assert kind(pair, 1, "vol1") == "dp"
    back = lun_of(pair, 1, "/vol/vol1/lun1")
    assert (back["uuid"], back["serial_number"]) == (near["uuid"], near["serial_number"])
    assert pair.copies(1, "vol1") == pair.copies(2, "vol1_dr")
    assert len(pair.copies(1, "vol1")) == 1


def test_failback_by_a_new_relationship(pair: PairBench) -> None:
    """TR 8: a new relationship the other way, resync, quiesce, break; then the first direction again."""
    uuid = pair.protect(blocks=100)
    pair.at(2).mirrored(uuid)
    pair.patch(uuid, "broken_off")
    there = pair.scribble(2, "vol1_dr", 11, blocks=12)
    pair.at(1).do("POST", RELATIONSHIPS, {"source": {"path": "svm2:vol1_dr"}, "destination": {"path": "svm1:vol1"},
                                          "policy": {"name": "MirrorAllSnapshots"}})  # fmt: skip
    back = pair.one(RELATIONSHIPS)["uuid"]
    assert pair.state_of(back)["state"] == "broken_off"
    assert pair.mirrored(back)["state"] == "snapmirrored"
    assert pair.content(1, "vol1") == there
    pair.patch(back, "paused")
    pair.patch(back, "broken_off")
    home = pair.scribble(1, "vol1", 13, blocks=3)
    shown = pair.at(2).mirrored(uuid)
    assert shown["transfer"]["bytes_transferred"] == 3 * 4096
    assert pair.content(2, "vol1_dr") == home
    pair.at(1).do("DELETE", f"{RELATIONSHIPS}/{back}")
    assert pair.at(2).transfer(uuid)["healthy"]
    assert pair.copies(1, "vol1") == pair.copies(2, "vol1_dr")


# what is broken -------------------------------------------------------------------------------------------------------


def test_without_its_source_a_mirror_can_still_be_broken(pair: PairBench) -> None:
    """The primary site is gone: updates fail and say why, break succeeds; when it is back a resync mends everything."""
    uuid = pair.protect()
    pair.at(2).mirrored(uuid)
    before = pair.content(2, "vol1_dr")
    pair.interconnect.set_down("cluster1")
    failed = pair.call("POST", f"{RELATIONSHIPS}/{uuid}/transfers", {})
    assert (failed[0], failed[1]["error"]["code"]) == (409, "13303844")
    shown = pair.state_of(uuid)
    assert (shown["healthy"], shown["transfer"]["state"]) == (False, "failed")
    assert "cluster1 is down" in shown["unhealthy_reason"][0]["message"]
    assert pair.one("/cluster/peers")["status"]["state"] == "unavailable"
    assert pair.patch(uuid, "broken_off")[0] == 200
    pair.scribble(2, "vol1_dr", 4, blocks=9)
    assert pair.state_of(uuid)["healthy"]
    pair.interconnect.set_down("cluster1", False)
    assert pair.mirrored(uuid)["state"] == "snapmirrored"
    assert pair.content(2, "vol1_dr") == before


def test_a_site_that_goes_down_ends_its_transfers(pair: PairBench) -> None:
    """A transfer whose source loses its intercluster interfaces fails when it should arrive; a later one does not."""
    uuid = pair.protect()
    pair.at(2).mirrored(uuid)
    pair.scribble(1, "vol1", 2, blocks=40)
    pair.at(2).do("POST", f"{RELATIONSHIPS}/{uuid}/transfers", {})
    core = pair.arrays[0].core
    for key, lif in list(core.lifs.items()):
        core.lifs[key] = dataclasses.replace(lif, enabled=False)
    shown = pair.settle(uuid)
    assert (shown["transfer"]["state"], shown["healthy"], shown["state"]) == ("failed", False, "snapmirrored")
    assert "intercluster" in shown["unhealthy_reason"][0]["message"]
    for key, lif in list(core.lifs.items()):
        core.lifs[key] = dataclasses.replace(lif, enabled=True)
    assert pair.transfer(uuid)["healthy"]
    assert pair.content(2, "vol1_dr") == pair.content(1, "vol1")
    assert len(pair.copies(1, "vol1")) == 1  # what the failed one had left is gone


def test_a_cluster_without_power_answers_nothing(pair: PairBench) -> None:
    """No portal, no logical unit, no management; data and identities are there when it is back."""
    pair.protect()
    array = pair.arrays[0]
    target = array.targets("10.1.1.21")[0]
    pair.interconnect.set_down("cluster1")
    assert array.targets("10.1.1.21") == ()
    assert array.logical_units(IQN, target.name) == ()
    pair.interconnect.set_down("cluster1", False)
    assert array.targets("10.1.1.21")[0] == target


def test_abort_keeps_what_has_arrived_and_hard_abort_does_not(pair: PairBench) -> None:
    """Aborted, a first transfer goes on from what is there; hard aborted it begins anew."""
    uuid = pair.protect(blocks=200)
    pair.snap(1, "vol1", "first")
    pair.scribble(1, "vol1", 2, blocks=100)
    pair.prices["ontap.snapmirror.mib"] = 100.0
    for state, resent in (("aborted", False), ("hard_aborted", True)):
        pair.at(2).patch(uuid, "snapmirrored")
        for _ in range(200):
            if "first" in pair.copies(2, "vol1_dr"):
                break
            pair.advance(5)
        running = pair.state_of(uuid)["transfer"]
        assert running["state"] == "transferring"
        path = f"{RELATIONSHIPS}/{uuid}/transfers/{running['uuid']}"
        pair.do("PATCH", path, {"state": state})
        shown = pair.state_of(uuid)
        assert (shown["transfer"]["state"], shown["state"], shown["healthy"]) == (state, "uninitialized", False)
        assert ("first" in pair.copies(2, "vol1_dr")) is not resent
        assert len(pair.copies(1, "vol1")) == 1
    assert pair.at(2).mirrored(uuid)["state"] == "snapmirrored"
    assert pair.content(2, "vol1_dr") == pair.content(1, "vol1")


def test_a_clone_of_a_mirror_works_while_it_is_updated(pair: PairBench) -> None:
    """A FlexClone volume over a backup's copy is writable and keeps that copy; the mirror goes on."""
    uuid = pair.protect()
    pair.snap(1, "vol1", "backup")
    backup = pair.content(1, "vol1")
    pair.at(2).mirrored(uuid)
    clone(pair, 2, "vol1_dr", "test1", parent_snapshot={"name": "backup"})
    pair.scribble(2, "test1", 5, blocks=11)
    pair.scribble(1, "vol1", 6, blocks=12)
    assert pair.at(2).transfer(uuid)["healthy"]
    delete_copy(pair, 1, "vol1", "backup")
    assert pair.at(2).transfer(uuid)["healthy"]
    assert "backup" in pair.copies(2, "vol1_dr")
    assert pair.content(2, "vol1_dr", snapshot="backup") == backup
    pair.at(2).do("DELETE", "/storage/volumes", name="test1")
    pair.transfer(uuid)
    assert "backup" not in pair.copies(2, "vol1_dr")


def test_a_clone_of_the_reference_copy_stops_replication(pair: PairBench) -> None:
    """The copy that the next update must give up is busy: updates fail until the clone is split or deleted."""
    uuid = pair.protect()
    pair.at(2).mirrored(uuid)
    made = clone(pair, 2, "vol1_dr", "test1")
    failed = pair.at(2).call("POST", f"{RELATIONSHIPS}/{uuid}/transfers", {})
    assert failed[1]["error"]["code"] == "13303844"
    assert "split or delete" in failed[1]["error"]["message"]
    assert not pair.state_of(uuid)["healthy"]
    pair.do("PATCH", f"/storage/volumes/{made}", {"clone": {"split_initiated": True}})
    assert pair.transfer(uuid)["healthy"]
    # the same at the source
    (reference,) = pair.copies(1, "vol1")
    clone(pair, 1, "vol1", "test2", parent_snapshot={"name": reference})
    assert pair.at(2).call("POST", f"{RELATIONSHIPS}/{uuid}/transfers", {})[0] == 409
    pair.at(1).do("DELETE", "/storage/volumes", name="test2")
    assert pair.at(2).transfer(uuid)["healthy"]


def test_newer_copies_of_a_clone_keep_a_resync_from_rolling_back(pair: PairBench) -> None:
    """A resync would drop a copy that backs a FlexClone volume: it is refused, nothing is lost."""
    uuid = pair.protect()
    pair.at(2).mirrored(uuid)
    pair.patch(uuid, "broken_off")
    written = pair.scribble(2, "vol1_dr", 9, blocks=30)
    pair.snap(2, "vol1_dr", "mine")
    clone(pair, 2, "vol1_dr", "test1", parent_snapshot={"name": "mine"})
    assert pair.patch(uuid, "snapmirrored")[1]["error"]["code"] == "13303810"
    assert pair.content(2, "vol1_dr") == written
    assert pair.state_of(uuid)["state"] == "broken_off"


def test_a_destination_without_room_fails_the_transfer(pair: PairBench) -> None:
    """Out of space, or of Snapshot copies: the transfer fails, the destination stays what it was."""
    uuid = pair.protect()
    pair.at(2).mirrored(uuid)
    before = pair.content(2, "vol1_dr")
    for number in range(18):
        pair.snap(1, "vol1", f"copy{number}")
    pair.scribble(1, "vol1", 2, blocks=40)
    pair.at(2).transfer(uuid)
    for number in range(18):
        clone(pair, 2, "vol1_dr", f"c{number}", parent_snapshot={"name": f"copy{number}"})
        delete_copy(pair, 1, "vol1", f"copy{number}")
    held = pair.content(2, "vol1_dr")
    pair.snap(1, "vol1", "more")
    shown = pair.at(2).transfer(uuid)
    assert (shown["transfer"]["state"], shown["healthy"]) == ("failed", False)
    assert "maximum number" in shown["unhealthy_reason"][0]["message"]
    assert pair.content(2, "vol1_dr") == held != before


# the rest of a life ---------------------------------------------------------------------------------------------------


def test_create_can_make_and_fill_its_destination(pair: PairBench) -> None:
    """create_destination with a state: the volume is made and initialised, from the destination or the source."""
    pair.peer()
    pair.make(1, "vol1")
    pair.disk(1, "/vol/vol1/lun1")
    content = pair.scribble(1, "vol1", 1)
    for number, name in ((2, "from_there"), (1, "from_here")):
        body = {
            "source": {"path": "svm1:vol1"},
            "destination": {"path": f"svm2:{name}"},
            "create_destination": {"enabled": True},
            "state": "snapmirrored",
        }
        pair.at(number).do("POST", RELATIONSHIPS, body)
        uuid = pair.at(2).one(RELATIONSHIPS, destination__path=f"svm2:{name}")["uuid"]
        assert pair.settle(uuid)["state"] == "snapmirrored"
        assert pair.content(2, name) == content
    listed = pair.at(1).do("GET", RELATIONSHIPS, list_destinations_only="true", fields="*")["records"]
    assert [x["destination"]["path"] for x in listed] == ["svm2:from_there", "svm2:from_here"]
    assert pair.one("/storage/volumes", name="vol1")["snapmirror"]["is_protected"]


def test_validate_only_changes_nothing(pair: PairBench) -> None:
    """A POST that is to be validated only leaves no relationship behind."""
    pair.peer()
    pair.make(1, "vol1")
    body = {"source.path": "svm1:vol1", "destination.path": "svm2:new", "create_destination.enabled": True}
    pair.at(2).do("POST", RELATIONSHIPS, body, validate_only="true")
    assert pair.do("GET", RELATIONSHIPS)["num_records"] == 0
    assert pair.do("GET", "/storage/volumes", name="new")["num_records"] == 0


def test_delete_clears_both_ends(pair: PairBench) -> None:
    """Without a flag both records and the relationship's own copies go; user's copies and the volumes stay."""
    uuid = pair.protect()
    pair.snap(1, "vol1", "mine")
    pair.at(2).mirrored(uuid)
    refused = pair.call("DELETE", f"/storage/volumes/{pair.key(2, 'vol1_dr')}", return_timeout=9)
    assert refused[1]["error"]["code"] == "917536"
    pair.do("DELETE", f"{RELATIONSHIPS}/{uuid}")
    assert pair.at(1).do("GET", RELATIONSHIPS, list_destinations_only="true")["num_records"] == 0
    assert pair.copies(1, "vol1") == pair.copies(2, "vol1_dr") == ["mine"]
    pair.at(2).do("DELETE", f"/storage/volumes/{pair.key(2, 'vol1_dr')}")
    pair.at(1).do("DELETE", f"/storage/volumes/{pair.key(1, 'vol1')}")


def test_release_at_the_source(pair: PairBench) -> None:
    """destination_only leaves the source's end; source_only frees its copies, source_info_only keeps them."""
    for flag, left in (("source_info_only", 1), ("source_only", 0)):
        uuid = pair.protect() if left else pair.relate()
        pair.at(2).mirrored(uuid)
        pair.do("DELETE", f"{RELATIONSHIPS}/{uuid}", destination_only="true")
        listed = pair.at(1).one(RELATIONSHIPS, list_destinations_only="true")
        assert listed["uuid"] == uuid
        assert "state" not in listed
        pair.do("GET", f"{RELATIONSHIPS}/{uuid}", list_destinations_only="true")
        pair.do("DELETE", f"{RELATIONSHIPS}/{uuid}", **{flag: "true"})
        assert pair.do("GET", RELATIONSHIPS, list_destinations_only="true")["num_records"] == 0
        assert len(pair.copies(1, "vol1")) == left


def test_restore_brings_a_volume_back_and_removes_itself(pair: PairBench) -> None:
    """A restore relationship from the mirror: the named copy is the volume's contents again; its copies stay."""
    uuid = pair.protect()
    pair.snap(1, "vol1", "good")
    good = pair.content(1, "vol1")
    pair.at(2).mirrored(uuid)
    near = lun_of(pair, 1, "/vol/vol1/lun1")
    pair.scribble(1, "vol1", 2, blocks=50)
    body = {"source": {"path": "svm2:vol1_dr"}, "destination": {"path": "svm1:vol1"}, "restore": "true"}
    for copy_is_there in (True, False):
        if not copy_is_there:
            delete_copy(pair, 1, "vol1", "good")
            pair.scribble(1, "vol1", 3, blocks=50)
        pair.at(1).do("POST", RELATIONSHIPS, body)
        restore = pair.one(RELATIONSHIPS)["uuid"]
        pair.do("POST", f"{RELATIONSHIPS}/{restore}/transfers", {"source_snapshot": "good"})
        pair.advance(60)
        assert pair.do("GET", RELATIONSHIPS)["num_records"] == 0
        assert pair.content(1, "vol1") == good
        assert "good" in pair.copies(1, "vol1")
        assert lun_of(pair, 1, "/vol/vol1/lun1")["serial_number"] == near["serial_number"]
    assert pair.at(2).transfer(uuid)["healthy"]
    assert pair.content(2, "vol1_dr") == good


def test_single_files_come_back_from_a_mirror(pair: PairBench) -> None:
    """A restore of files: one LUN gets its old contents in place, another path becomes a new LUN."""
    uuid = pair.protect()
    pair.snap(1, "vol1", "good")
    good = pair.content(1, "vol1")
    pair.at(2).mirrored(uuid)
    near = lun_of(pair, 1, "/vol/vol1/lun1")
    pair.scribble(1, "vol1", 2, blocks=50)
    body = {"source": {"path": "svm2:vol1_dr"}, "destination": {"path": "svm1:vol1"}, "restore": "true"}
    pair.at(1).do("POST", RELATIONSHIPS, body)
    restore = pair.one(RELATIONSHIPS)["uuid"]
    files = [{"source_path": "/lun1", "destination_path": path} for path in ("/lun1", "/copy")]
    pair.do("POST", f"{RELATIONSHIPS}/{restore}/transfers", {"source_snapshot": "good", "files": files})
    pair.advance(600)
    assert pair.content(1, "vol1") == pair.content(1, "vol1", path="/copy") == good
    assert lun_of(pair, 1, "/vol/vol1/lun1")["uuid"] == near["uuid"]
    assert lun_of(pair, 1, "/vol/vol1/copy")["uuid"] != near["uuid"]


def test_a_mirror_inside_one_cluster(pair: PairBench) -> None:
    """Source and destination in one SVM need no peer; both ends are listed by the same cluster."""
    pair.make(2, "near")
    pair.disk(2, "/vol/near/lun1")
    content = pair.scribble(2, "near", 3)
    pair.make(2, "far", type="dp")
    pair.do("POST", RELATIONSHIPS, {"source": {"path": "svm2:near"}, "destination": {"path": "svm2:far"}})
    uuid = pair.one(RELATIONSHIPS)["uuid"]
    assert pair.mirrored(uuid)["state"] == "snapmirrored"
    assert pair.content(2, "far") == content
    assert pair.one(RELATIONSHIPS, list_destinations_only="true")["uuid"] == uuid
    pair.do("DELETE", f"{RELATIONSHIPS}/{uuid}")
    assert pair.copies(2, "near") == []


def test_the_same_volume_feeds_several_mirrors(pair: PairBench) -> None:
    """Fan-out and cascade: each relationship keeps its own reference copy."""
    uuid = pair.protect()
    pair.make(2, "second", type="dp")
    body = {"source": {"path": "svm1:vol1"}, "destination": {"path": "svm2:second"}, "policy": {"name": "MirrorLatest"}}
    pair.do("POST", RELATIONSHIPS, body)
    second = pair.one(RELATIONSHIPS, destination__path="svm2:second")["uuid"]
    pair.make(2, "third", type="dp")
    pair.do("POST", RELATIONSHIPS, {"source": {"path": "svm2:vol1_dr"}, "destination": {"path": "svm2:third"},
                                    "policy": {"name": "MirrorAllSnapshots"}})  # fmt: skip
    third = pair.one(RELATIONSHIPS, destination__path="svm2:third")["uuid"]
    for _ in range(2):
        content = pair.scribble(1, "vol1", 3, blocks=10)
        pair.at(2)
        for one in (uuid, second):
            assert pair.mirrored(one)["healthy"] if pair.state_of(one)["state"] == "uninitialized" else True
            pair.transfer(one)
        assert pair.content(2, "vol1_dr") == pair.content(2, "second") == content
    assert len(pair.copies(1, "vol1")) == 2
    assert third


def test_an_administrator_of_the_destination_svm_manages_its_mirrors(pair: PairBench) -> None:
    """vsadmin of svm2 sees and updates its relationship; the clusters' peering is not theirs to see."""
    uuid = pair.protect()
    pair.at(2).mirrored(uuid)
    login = {"user": "vsadmin", "password": "vs-secret"}
    assert pair.http("GET", "/api/snapmirror/relationships", **login).json["num_records"] == 1
    assert pair.http("POST", f"/api/snapmirror/relationships/{uuid}/transfers", {}, **login).status == 201
    assert pair.http("GET", "/api/cluster/peers", **login).code == "6"
    assert pair.at(1).http("GET", "/api/snapmirror/relationships", **login).json["num_records"] == 0
    listed = pair.http("GET", "/api/snapmirror/relationships?list_destinations_only=true", **login)
    assert listed.json["num_records"] == 1
    pair.at(2).settle(uuid)
