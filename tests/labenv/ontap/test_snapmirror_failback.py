"""Failback, broken links and clones beside a mirror."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from .ontap_bench import IQN
from .snapmirror_bench import RELATIONSHIPS, PairBench, clone, delete_copy, kind, lun_of


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[PairBench]:
    """Two clusters in this process."""
    bench = PairBench(tmp_path)
    yield bench
    bench.discard()


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


def test_a_clone_that_is_mirrored_is_not_split(pair: PairBench) -> None:
    """A FlexClone volume that is an end of a relationship stays one until the relationship is gone."""
    pair.make(2, "base")
    made = clone(pair, 2, "base", "copy")
    body = {
        "source": {"path": "svm2:copy"},
        "destination": {"path": "svm2:far"},
        "create_destination": {"enabled": True},
    }
    pair.at(2).do("POST", RELATIONSHIPS, body)
    wanted = {"clone": {"split_initiated": True}}
    refused = pair.call("PATCH", f"/storage/volumes/{made}", wanted, return_timeout=9)[1]["error"]
    assert (refused["code"], "source of a SnapMirror" in refused["message"]) == ("524849", True)
    pair.do("DELETE", f"{RELATIONSHIPS}/{pair.one(RELATIONSHIPS)['uuid']}")
    pair.do("PATCH", f"/storage/volumes/{made}", wanted)
    assert not pair.do("GET", f"/storage/volumes/{made}", fields="clone")["clone"]["is_flexclone"]


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
