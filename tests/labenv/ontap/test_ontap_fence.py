"""Consistency-group Snapshot copies in two phases."""

from __future__ import annotations

from typing import Any

import pytest

from .ontap_bench import Bench

GROUPS = "/application/consistency-groups"


@pytest.fixture
def group(bench: Bench) -> str:
    """A group of two volumes with a LUN each; its snapshots' path."""
    for name in ("data", "log"):
        bench.volume(name, snapshot_policy={"name": "none"})
        bench.lun(f"/vol/{name}/lun1")
    members = [{"name": name, "provisioning_options": {"action": "add"}} for name in ("data", "log")]
    bench.do("POST", GROUPS, {"name": "app", "svm": {"name": "svm1"}, "volumes": members})
    return f"{GROUPS}/{bench.one(GROUPS)['uuid']}/snapshots"


def write(bench: Bench, text: bytes) -> None:
    for lun in list(bench.array.core.luns.values()):
        bench.blocks.volume(lun.volume).files[lun.path].write(0, text)


def start(bench: Bench, group: str, name: str = "two", **query: Any) -> str:
    bench.do("POST", group, {"name": name}, action="start", **query)
    return bench.one(group, name=name)["uuid"]


def code(answer: tuple[int, Any]) -> str:
    return str(answer[1]["error"]["code"])


def test_the_content_is_that_of_the_first_phase(bench: Bench, group: str) -> None:
    """What is written between start and commit is not in the copies; they appear with the commit."""
    write(bench, b"before")
    uuid = start(bench, group)
    assert bench.do("GET", "/storage/volumes/*/snapshots")["num_records"] == 0
    write(bench, b"during")
    bench.do("PATCH", f"{group}/{uuid}", action="commit")
    copies = bench.do("GET", "/storage/volumes/*/snapshots", fields="create_time,volume")["records"]
    assert [copy["name"] for copy in copies] == ["two", "two"]
    assert len({copy["create_time"] for copy in copies}) == 1
    for copy in copies:
        blocks = bench.blocks.volume(copy["volume"]["uuid"])
        assert blocks.snapshots["two"].files["/lun1"].read(0, 6) == b"before"
        assert blocks.files["/lun1"].read(0, 6) == b"during"
    restored = {"restore_to.snapshot.name": "two"}
    bench.do("PATCH", group.removesuffix("/snapshots"), restored)
    assert {bench.blocks.volume(c["volume"]["uuid"]).files["/lun1"].read(0, 6) for c in copies} == {b"before"}


def test_a_fence_that_nobody_commits_is_lifted(bench: Bench, group: str) -> None:
    """After its seconds the first phase is gone, its commit is refused, and an event says why."""
    uuid = start(bench, group, action_timeout=5)
    bench.advance(4)
    assert bench.do("GET", group)["num_records"] == 1
    bench.advance(1)
    assert bench.do("GET", group)["num_records"] == 0
    assert code(bench.call("PATCH", f"{group}/{uuid}", action="commit")) == "53411925"
    assert bench.one("/support/ems/events")["message"]["name"] == "cg.snapshot.fence.timeout"
    for volume in bench.blocks.volumes.values():
        assert list(volume.snapshots) == []


def test_the_clock_is_not_moved_by_a_fence(bench: Bench, group: str) -> None:
    """A fence waits for lab time to pass; nothing but clients moves it."""
    start(bench, group, action_timeout=120)
    before = bench.clock.now
    for _ in range(3):
        assert bench.do("GET", group)["num_records"] == 1
    assert bench.clock.now == before


def test_a_commit_that_has_begun_is_not_cut_off(bench: Bench, group: str) -> None:
    """The fence lasts until a commit that came in time is done, however long that takes."""
    bench.prices["ontap.group.snapshot.commit"] = 30
    uuid = start(bench, group, action_timeout=5)
    assert bench.call("PATCH", f"{group}/{uuid}", action="commit")[0] == 202
    assert code(bench.call("PATCH", f"{group}/{uuid}", action="commit")) == "53411925"
    bench.advance(31)
    assert bench.do("GET", "/storage/volumes/*/snapshots")["num_records"] == 2


def test_nothing_else_is_snapshotted_meanwhile(bench: Bench, group: str) -> None:
    """Snapshot operations and changes of the group's volumes are refused while the fence is there."""
    volume = bench.one("/storage/volumes", name="data")["uuid"]
    bench.do("POST", f"/storage/volumes/{volume}/snapshots", {"name": "kept"})
    uuid = start(bench, group, action_timeout=120)
    answer = bench.call("POST", f"/storage/volumes/{volume}/snapshots", {"name": "other"}, return_timeout=10)
    assert code(answer) == "1520351"
    kept = bench.one(f"/storage/volumes/{volume}/snapshots", name="kept")["uuid"]
    assert code(bench.call("DELETE", f"/storage/volumes/{volume}/snapshots/{kept}", return_timeout=10)) == "524481"
    assert code(bench.call("POST", group, {"name": "other"}, return_timeout=10)) == "53411918"
    assert code(bench.call("DELETE", f"/storage/volumes/{volume}", return_timeout=10)) == "13107406"
    bench.do("DELETE", f"{group}/{uuid}")
    bench.do("POST", f"/storage/volumes/{volume}/snapshots", {"name": "other"})


def test_a_fence_outlives_a_kill(bench: Bench, group: str) -> None:
    """A killed process finds its fence again, commits it, or lifts it in time."""
    write(bench, b"before")
    uuid = start(bench, group, action_timeout=60)
    write(bench, b"during")
    bench.kill()
    bench.do("PATCH", f"{group}/{uuid}", action="commit")
    for volume in bench.blocks.volumes.values():
        for snapshot in volume.snapshots.values():
            assert snapshot.files["/lun1"].read(0, 6) == b"before"
    start(bench, group, "again", action_timeout=60)
    bench.kill()
    bench.do("GET", "/cluster")
    bench.advance(60)
    assert [record["name"] for record in bench.do("GET", group)["records"]] == ["two"]


def test_a_group_that_goes_takes_its_fence_with_it(bench: Bench, group: str) -> None:
    """Deleting a group lifts its fence; its volumes can be snapshotted at once."""
    start(bench, group, action_timeout=120)
    bench.do("DELETE", group.removesuffix("/snapshots"))
    volume = bench.one("/storage/volumes", name="data")["uuid"]
    bench.do("POST", f"/storage/volumes/{volume}/snapshots", {"name": "other"})


@pytest.mark.parametrize("seconds", ["4", "121", "-1", "soon"])
def test_a_fence_has_bounds(bench: Bench, group: str, seconds: str) -> None:
    """action_timeout is 5 to 120 seconds."""
    assert code(bench.call("POST", group, {"name": "x"}, action="start", action_timeout=seconds)) == "262197"
