"""SnapMirror between two clusters: what a relationship transfers, keeps and gives back."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from labenv.ontap.snapshots import limit_of, take

from .ontap_bench import IQN, MIB
from .snapmirror_bench import RELATIONSHIPS, PairBench, delete_copy, kind, lun_of


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[PairBench]:
    """Two clusters in this process."""
    bench = PairBench(tmp_path)
    yield bench
    bench.discard()


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


def test_a_full_mirror_follows_a_source_that_rotates_its_copies(pair: PairBench) -> None:
    """A destination at its limit of Snapshot copies drops those that are gone at the source before new ones arrive."""
    uuid = pair.protect()
    room = pair.array.core.spec.snapshot_limit - 2
    for number in range(room):
        pair.snap(1, "vol1", f"old{number}")
    pair.at(2).mirrored(uuid)
    for number in range(room):
        delete_copy(pair, 1, "vol1", f"old{number}")
        pair.snap(1, "vol1", f"new{number}")
    assert len(pair.copies(2, "vol1_dr")) == room + 1
    shown = pair.at(2).transfer(uuid)
    assert shown["healthy"], shown
    assert pair.copies(2, "vol1_dr") == pair.copies(1, "vol1")


@pytest.mark.parametrize(("most", "limits"), [(255, (255, 254, 254)), (1023, (1023, 1023, 1019)), (9, (9, 9, 9))])
def test_ends_of_a_mirror_hold_fewer_copies(pair: PairBench, most: int, limits: tuple[int, int, int]) -> None:
    """Of 255 Snapshot copies either end of a mirror has 254, of 1,023 its destination 1,019."""
    pair.protect()
    pair.make(1, "alone")
    for array in pair.arrays:
        array.core.spec = dataclasses.replace(array.core.spec, snapshot_limit=most)
    ends = [(1, "alone"), (1, "vol1"), (2, "vol1_dr")]
    cores = [pair.arrays[number - 1].core for number, _ in ends]
    shown = [
        limit_of(core, core.volumes[pair.key(number, name)]) for core, (number, name) in zip(cores, ends, strict=True)
    ]
    assert tuple(shown) == limits


def test_the_source_of_a_mirror_takes_254_copies(pair: PairBench) -> None:
    """The 255th Snapshot copy of a volume that is mirrored is refused with 525062."""
    pair.protect()
    core = pair.arrays[0].core
    core.spec = dataclasses.replace(core.spec, snapshot_limit=255)
    for number in range(254):
        take(core, core.volumes[pair.key(1, "vol1")], f"s{number}")
    path = f"/storage/volumes/{pair.key(1, 'vol1')}/snapshots"
    answer = pair.at(1).call("POST", path, {"name": "more"}, return_timeout=9)[1]
    assert answer["error"]["code"] == "525062"


def test_a_groups_copy_that_a_mirror_needs_is_not_deleted(pair: PairBench) -> None:
    """A Snapshot copy of a consistency group is refused while one of its members is a mirror's reference."""
    uuid = pair.protect("XDPDefault")
    members = [{"name": "vol1", "provisioning_options": {"action": "add"}}]
    groups = "/application/consistency-groups"
    pair.at(1).do("POST", groups, {"svm.name": "svm1", "name": "cg1", "volumes": members})
    path = f"{groups}/{pair.one(groups)['uuid']}/snapshots"
    pair.do("POST", path, {"name": "weekly", "snapmirror_label": "weekly"})
    pair.at(2).mirrored(uuid)
    copy = pair.at(1).one(path)["uuid"]
    answer = pair.call("DELETE", f"{path}/{copy}", return_timeout=9)[1]
    assert answer["error"]["code"] == "53412008"


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
