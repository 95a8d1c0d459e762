"""Volumes, Snapshot copies and consistency groups: what their operations do, wholly or not at all."""

from __future__ import annotations

import pytest

from .ontap_bench import GIB, MIB, Bench

SVM = {"name": "svm1"}


def code(answer: tuple[int, dict[str, dict[str, str]]]) -> str:
    """The code of a refusal; empty if it was none."""
    return answer[1].get("error", {}).get("code", "")


def prepared(bench: Bench) -> tuple[str, str]:
    """A volume with a mapped LUN; their uuids."""
    volume, lun = bench.volume(), bench.lun()
    bench.igroup()
    bench.map()
    return volume, lun


def test_a_clone_without_a_snapshot_makes_one(bench: Bench) -> None:
    """FlexClone of the active volume takes a Snapshot copy of its own, and holds it."""
    volume, _ = prepared(bench)
    bench.units()[0].device.write(0, b"now")
    clone = {"is_flexclone": True, "parent_volume": {"name": "vol1"}}
    bench.do("POST", "/storage/volumes", {"name": "clone1", "svm": SVM, "clone": clone})
    taken = bench.one(f"/storage/volumes/{volume}/snapshots")
    assert taken["name"].startswith("clone_clone1.2013-03-04_")
    assert taken["owners"] == ["volume_clone"]
    made = bench.one("/storage/volumes", name="clone1")
    assert made["clone"]["parent_snapshot"] == {"name": taken["name"], "uuid": taken["uuid"]}
    assert made["clone"]["parent_volume"] == {"name": "vol1", "uuid": volume}
    bench.map("/vol/clone1/lun1")
    assert bench.units()[1].device.read(0, 3) == b"now"


def test_a_split_blocks_snapshots_and_frees_the_parent(bench: Bench) -> None:
    """While a clone is split it takes no Snapshot copies; afterwards parent and Snapshot copy can go."""
    volume, _ = prepared(bench)
    base = bench.snapshot(volume, "base")
    clone = {"is_flexclone": True, "parent_volume": {"name": "vol1"}, "parent_snapshot": {"name": "base"}}
    bench.do("POST", "/storage/volumes", {"name": "clone1", "svm": SVM, "clone": clone})
    uuid = bench.one("/storage/volumes", name="clone1")["uuid"]
    bench.do("PATCH", f"/storage/volumes/{uuid}", {"state": "offline"})
    wanted = {"clone": {"split_initiated": True}}
    assert code(bench.call("PATCH", f"/storage/volumes/{uuid}", wanted, return_timeout=5)) == "9437885"
    bench.do("PATCH", f"/storage/volumes/{uuid}", {"state": "online"})
    bench.prices["ontap.volume.split"] = 10
    bench.call("PATCH", f"/storage/volumes/{uuid}", {"clone": {"split_initiated": True}})
    shown = bench.do("GET", f"/storage/volumes/{uuid}", fields="clone")["clone"]
    assert (shown["split_initiated"], shown["split_complete_percent"]) == (True, 0)
    path = f"/storage/volumes/{uuid}/snapshots"
    assert code(bench.call("POST", path, {"name": "s"}, return_timeout=5)) == "1520351"
    bench.advance(10)
    bench.snapshot(uuid, "s")
    assert not bench.do("GET", f"/storage/volumes/{uuid}", fields="clone")["clone"]["is_flexclone"]
    bench.do("DELETE", f"/storage/volumes/{volume}/snapshots/{base}")
    bench.do("DELETE", f"/storage/volumes/{volume}")


def test_deduplication_gives_space_back(bench: Bench) -> None:
    """Switching dedupe on saves what is there twice (TR 2.2)."""
    volume, _ = prepared(bench)
    device = bench.units()[0].device
    for offset in range(0, 8 * MIB, MIB):
        device.write(offset, bytes(range(1, 255)) * 4 + bytes(MIB - 1016))
    path = f"/storage/volumes/{volume}"
    before = bench.do("GET", path)["space"]["used"]
    bench.do("PATCH", path, {"efficiency": {"dedupe": "background"}})
    volume_now = bench.do("GET", path)
    assert volume_now["space"]["used"] < before
    assert (volume_now["efficiency"]["dedupe"], volume_now["efficiency"]["state"]) == ("background", "enabled")
    savings = bench.do("GET", path, fields="efficiency.space_savings")["efficiency"]["space_savings"]
    assert savings["dedupe"] == before - volume_now["space"]["used"] > 0
    assert 0 < savings["dedupe_percent"] == savings["total_percent"] < 100
    assert device.read(7 * MIB, 4) == b"\1\2\3\4"


def test_a_change_of_space_is_whole_or_none(bench: Bench) -> None:
    """A resize that does not fit leaves size, guarantee and reserve as they were."""
    volume = bench.volume()
    wanted = {"size": "9GB", "guarantee": {"type": "volume"}, "space": {"snapshot": {"reserve_percent": 20}}}
    refused = bench.call("PATCH", f"/storage/volumes/{volume}", wanted, return_timeout=5)
    assert code(refused) == "917536"
    shown = bench.do("GET", f"/storage/volumes/{volume}")
    assert (shown["size"], shown["guarantee"]["type"], shown["space"]["snapshot"]["reserve_percent"]) == (
        GIB,
        "none",
        5,
    )
    bench.do("PATCH", f"/storage/volumes/{volume}", {**wanted, "size": "2GB"})
    shown = bench.do("GET", f"/storage/volumes/{volume}")
    assert (shown["size"], shown["guarantee"]["type"], shown["space"]["snapshot"]["reserve_percent"]) == (
        2 * GIB,
        "volume",
        20,
    )


def test_a_guarantee_takes_the_aggregates_space(bench: Bench) -> None:
    """A thick volume takes its size from the aggregate at once, a thin one does not."""

    def available() -> int:
        return bench.one("/storage/aggregates", name="aggr1")["space"]["block_storage"]["available"]

    free = available()
    bench.volume("thin", 4 * GIB)
    assert available() == free
    bench.volume("thick", 4 * GIB, guarantee={"type": "volume"})
    assert available() == free - 4 * GIB


def test_a_busy_newer_snapshot_blocks_a_volume_restore(bench: Bench) -> None:
    """SnapRestore of a volume would drop newer Snapshot copies: not while a clone needs one."""
    volume, _ = prepared(bench)
    device = bench.units()[0].device
    bench.snapshot(volume, "old")
    device.write(0, b"newer")
    bench.snapshot(volume, "new")
    clone = {"is_flexclone": True, "parent_volume": {"name": "vol1"}, "parent_snapshot": {"name": "new"}}
    bench.do("POST", "/storage/volumes", {"name": "clone1", "svm": SVM, "clone": clone})
    body = {"restore_to": {"snapshot": {"name": "old"}}}
    assert code(bench.call("PATCH", f"/storage/volumes/{volume}", body, return_timeout=5)) == "524511"
    assert device.read(0, 5) == b"newer"
    assert bench.do("GET", f"/storage/volumes/{volume}/snapshots")["num_records"] == 2


def test_a_locked_newer_snapshot_blocks_a_volume_restore(bench: Bench) -> None:
    """A newer Snapshot copy that has not expired must not be dropped by a SnapRestore either."""
    volume = bench.volume(snapshot_policy={"name": "none"})
    path = f"/storage/volumes/{volume}/snapshots"
    bench.do("POST", path, {"name": "old"})
    bench.do("POST", path, {"name": "kept", "expiry_time": "2013-03-04T09:00:00+00:00"})
    body = {"restore_to": {"snapshot": {"name": "old"}}}
    assert code(bench.call("PATCH", f"/storage/volumes/{volume}", body, return_timeout=5)) == "9437886"
    bench.advance(3600)
    bench.do("PATCH", f"/storage/volumes/{volume}", body)
    assert [s["name"] for s in bench.do("GET", path)["records"]] == ["old"]


def test_restore_is_asked_for_in_body_or_query(bench: Bench) -> None:
    """Ansible sends restore_to in the body, other clients in the query; both restore."""
    volume, _ = prepared(bench)
    device = bench.units()[0].device
    snapshot = bench.snapshot(volume, "base")
    requests = (
        ({"restore_to": {"snapshot": {"name": "base"}}}, {}),
        ({"restore_to.snapshot.uuid": snapshot}, {}),
        ({}, {"restore_to__snapshot__name": "base"}),
    )
    for body, query in requests:
        device.write(0, b"changed")
        bench.do("PATCH", f"/storage/volumes/{volume}", body, **query)
        assert device.read(0, 7) == bytes(7)


def test_snapshots_can_be_renamed_and_relabelled(bench: Bench) -> None:
    """A rename keeps uuid and place, and reaches the clones that come from it (TR 12: {guid} to the final name)."""
    volume, _ = prepared(bench)
    first = bench.snapshot(volume, "{0f1e2d3c}")
    bench.snapshot(volume, "later")
    clone = {"is_flexclone": True, "parent_volume": {"name": "vol1"}, "parent_snapshot": {"name": "{0f1e2d3c}"}}
    bench.do("POST", "/storage/volumes", {"name": "clone1", "svm": SVM, "clone": clone})
    path = f"/storage/volumes/{volume}/snapshots/{first}"
    bench.do("PATCH", path, {"name": "ds1_2013", "comment": "backup", "snapmirror_label": "daily"})
    shown = bench.do("GET", path)
    assert (shown["name"], shown["comment"], shown["snapmirror_label"]) == ("ds1_2013", "backup", "daily")
    names = [s["name"] for s in bench.do("GET", f"/storage/volumes/{volume}/snapshots")["records"]]
    assert names == ["ds1_2013", "later"]
    assert bench.one("/storage/volumes", name="clone1")["clone"]["parent_snapshot"]["name"] == "ds1_2013"
    body = {"name": "/vol/vol1/copy", "svm": SVM, "clone": {"source": {"name": "/vol/vol1/.snapshot/ds1_2013/lun1"}}}
    bench.do("POST", "/storage/luns", body)


def test_an_expiry_time_keeps_a_snapshot(bench: Bench) -> None:
    """A Snapshot copy is not deleted before its expiry time."""
    volume = bench.volume(snapshot_policy={"name": "none"})
    path = f"/storage/volumes/{volume}/snapshots"
    bench.do("POST", path, {"name": "kept", "expiry_time": "2013-03-04T09:00:00+00:00"})
    assert code(bench.call("DELETE", f"{path}/{bench.one(path)['uuid']}", return_timeout=5)) == "1638555"
    bench.advance(3600)
    bench.do("DELETE", f"{path}/{bench.one(path)['uuid']}")


def test_a_renamed_volume_renames_its_luns(bench: Bench) -> None:
    """A LUN's name begins with its volume's."""
    volume, lun = prepared(bench)
    bench.do("PATCH", f"/storage/volumes/{volume}", {"name": "renamed"})
    assert bench.do("GET", f"/storage/luns/{lun}")["name"] == "/vol/renamed/lun1"
    bench.do("PATCH", f"/storage/luns/{lun}", {"name": "/vol/renamed/other"})
    assert bench.units()[0].uuid == lun
    assert bench.one("/protocols/san/lun-maps")["lun"]["name"] == "/vol/renamed/other"


def test_deleting_a_volume_takes_everything_in_it(bench: Bench) -> None:
    """LUNs, maps and Snapshot copies go with their volume; initiator groups stay."""
    volume, lun = prepared(bench)
    bench.snapshot(volume, "s")
    bench.do("DELETE", f"/storage/volumes/{volume}")
    assert code(bench.call("GET", f"/storage/luns/{lun}")) == "5374875"
    assert bench.do("GET", "/protocols/san/lun-maps")["num_records"] == 0
    assert bench.do("GET", "/protocols/san/igroups")["num_records"] == 1
    assert code(bench.call("GET", f"/storage/volumes/{volume}/snapshots")) == "918235"


def test_a_group_is_restored_whole_or_not_at_all(bench: Bench) -> None:
    """A consistency group's restore takes every volume back; a busy newer copy in one keeps all as they are."""
    for name in ("data1", "log1"):
        bench.volume(name)
        bench.lun(f"/vol/{name}/lun", 4 * MIB)
    bench.igroup()
    for name in ("data1", "log1"):
        bench.map(f"/vol/{name}/lun")
    devices = [unit.device for unit in bench.units()]
    members = [{"name": n, "provisioning_options": {"action": "add"}} for n in ("data1", "log1")]
    path = "/application/consistency-groups"
    bench.do("POST", path, {"name": "app", "svm": SVM, "volumes": members})
    group = bench.one(path)["uuid"]
    bench.do("POST", f"{path}/{group}/snapshots", {"name": "both", "consistency_type": "application"})
    for device in devices:
        device.write(0, b"after")
    later = bench.one("/storage/volumes", name="log1")["uuid"]
    bench.snapshot(later, "newer")
    clone = {"is_flexclone": True, "parent_volume": {"name": "log1"}, "parent_snapshot": {"name": "newer"}}
    bench.do("POST", "/storage/volumes", {"name": "clone1", "svm": SVM, "clone": clone})
    body = {"restore_to": {"snapshot": {"name": "both"}}}
    assert code(bench.call("PATCH", f"{path}/{group}", body, return_timeout=5)) == "53411918"
    assert [device.read(0, 5) for device in devices] == [b"after", b"after"]
    bench.do("DELETE", f"/storage/volumes/{bench.one('/storage/volumes', name='clone1')['uuid']}")
    bench.do("PATCH", f"{path}/{group}", body)
    assert [device.read(0, 5) for device in devices] == [bytes(5), bytes(5)]
    bench.do("DELETE", f"{path}/{group}")
    assert bench.do("GET", "/storage/volumes/*/snapshots", name="both")["num_records"] == 2


def test_a_full_volume_keeps_a_group_snapshot_from_being_half_made(bench: Bench) -> None:
    """If one volume holds all the Snapshot copies it can, the group's copy is made in none."""
    first, second = bench.volume("a"), bench.volume("b")
    for number in range(4):
        bench.snapshot(second, f"s{number}")
    members = [{"name": n, "provisioning_options": {"action": "add"}} for n in ("a", "b")]
    path = "/application/consistency-groups"
    bench.do("POST", path, {"name": "app", "svm": SVM, "volumes": members})
    group = bench.one(path)["uuid"]
    assert code(bench.call("POST", f"{path}/{group}/snapshots", {"name": "x"}, return_timeout=5)) == "53411921"
    assert bench.do("GET", f"/storage/volumes/{first}/snapshots")["num_records"] == 0


def test_a_site_can_be_built_from_nothing(bench: Bench) -> None:
    """Licence, aggregate, SVM, iSCSI service, LIF, schedule and policy are made and removed by REST (TR appendix)."""
    for name in bench.do("GET", "/cluster/licensing/licenses", name="iscsi")["records"]:
        bench.do("DELETE", f"/cluster/licensing/licenses/{name['name']}")
    body = {"name": "svm3", "aggregates": [{"name": "aggr2"}], "iscsi": {"enabled": True}}
    assert code(bench.call("POST", "/svm/svms", body)) == "1115127"
    bench.do("POST", "/cluster/licensing/licenses", {"keys": ["iscsi-1234"]})
    disks = {"primary": {"disk_count": 2}}
    body = {"name": "aggr3", "node": {"name": "cluster1-02"}, "block_storage": disks}
    bench.do("POST", "/storage/aggregates", body)
    assert bench.one("/storage/aggregates", name="aggr3")["space"]["block_storage"]["size"] == 2 * GIB
    assert code(bench.call("POST", "/storage/aggregates", {**body, "name": "a4", "block_storage.primary.disk_count": 9}
                           | {"block_storage": {}})) == "19726341"  # fmt: skip
    bench.do("POST", "/svm/svms", {"name": "svm3", "aggregates": [{"name": "aggr3"}]})
    svm = bench.one("/svm/svms", name="svm3")["uuid"]
    bench.do("POST", "/protocols/san/iscsi/services", {"svm": {"name": "svm3"}, "target": {"alias": "third"}})
    lif = {
        "name": "svm3_iscsi",
        "svm": {"name": "svm3"},
        "ip": {"address": "10.0.1.31", "netmask": "255.255.255.0"},
        "location": {"home_port": {"name": "e0d", "node": {"name": "cluster1-02"}}},
        "service_policy": {"name": "default-data-blocks"},
    }
    bench.do("POST", "/network/ip/interfaces", lif)
    shown = bench.one("/network/ip/interfaces", name="svm3_iscsi")
    assert (shown["ip"]["netmask"], shown["state"], shown["location"]["is_home"]) == ("24", "up", True)
    assert bench.array.targets("10.0.1.31")[0].name.endswith(":vs.4")
    bench.do("POST", "/cluster/schedules", {"name": "noon", "cron": {"hours": [12], "minutes": [0]}})
    copies = [{"schedule": {"name": "noon"}, "count": 3}]
    bench.do("POST", "/storage/snapshot-policies", {"name": "p", "copies": copies, "svm": {"name": "svm3"}})
    assert code(bench.call("DELETE", "/cluster/schedules", name="noon")) == "459758"
    body = {"name": "v", "svm": {"name": "svm3"}, "aggregates": [{"name": "aggr3"}], "snapshot_policy": {"name": "p"}}
    bench.do("POST", "/storage/volumes", body)
    assert code(bench.call("DELETE", "/storage/snapshot-policies", name="p")) == "1638415"
    assert code(bench.call("DELETE", "/svm/svms", name="svm3")) == "8"
    bench.do("DELETE", "/storage/volumes", name="v")
    bench.do("DELETE", "/storage/snapshot-policies", name="p")
    bench.do("DELETE", f"/svm/svms/{svm}")
    bench.do("DELETE", "/storage/aggregates", name="aggr3")
    assert bench.array.targets("10.0.1.31") == ()


def test_reserved_luns_need_their_space(bench: Bench) -> None:
    """A LUN with a space guarantee does not fit a volume that cannot hold all of it; a thin one does."""
    bench.volume("thick", 100 * MIB, guarantee={"type": "volume"}, space={"snapshot": {"reserve_percent": 0}})
    body = {"name": "/vol/thick/l", "svm": SVM, "os_type": "hyper_v", "space": {"size": 200 * MIB}}
    assert code(bench.call("POST", "/storage/luns", body, return_timeout=5)) == "917536"
    bench.do("POST", "/storage/luns", {**body, "space": {"size": 200 * MIB, "guarantee": {"requested": False}}})
    fitting = {**body, "name": "/vol/thick/m", "space": {"size": 50 * MIB}}
    bench.do("POST", "/storage/luns", fitting)
    shown = bench.one("/storage/luns", name="/vol/thick/m")
    assert shown["space"]["guarantee"] == {"requested": True, "reserved": True}
    path = f"/storage/luns/{shown['uuid']}"
    refused = bench.call("PATCH", path, {"space": {"size": 150 * MIB}, "name": "/vol/thick/n"})
    assert code(refused) == "917536"
    assert bench.do("GET", path)["name"] == "/vol/thick/m"


@pytest.mark.parametrize("state", ["offline", "restricted"])
def test_nothing_happens_in_a_volume_that_is_not_online(bench: Bench, state: str) -> None:
    """Snapshot copies, LUNs, clones and restores need the volume online; the error says so."""
    volume, lun = prepared(bench)
    bench.snapshot(volume, "s")
    bench.do("PATCH", f"/storage/volumes/{volume}", {"state": state})
    clone = {"is_flexclone": True, "parent_volume": {"name": "vol1"}}
    requests = [
        ("POST", f"/storage/volumes/{volume}/snapshots", {"name": "x"}, "524479"),
        (
            "POST",
            "/storage/luns",
            {"name": "/vol/vol1/l", "svm": SVM, "os_type": "linux", "space.size": MIB},
            "5374866",
        ),
        ("POST", "/storage/volumes", {"name": "c", "svm": SVM, "clone": clone}, "917775"),
        ("PATCH", f"/storage/volumes/{volume}", {"restore_to.snapshot.name": "s"}, "9437885"),
        ("PATCH", f"/storage/volumes/{volume}", {"size": "2GB"}, "9437885"),
        ("PATCH", f"/storage/luns/{lun}", {"comment": "x"}, "5374866"),
        ("DELETE", f"/storage/luns/{lun}?allow_delete_while_mapped=true", None, "5374866"),
    ]
    for method, path, body, wanted in requests:
        path, _, query = path.partition("?")
        more = {"allow_delete_while_mapped": "true"} if query else {}
        assert code(bench.call(method, path, body, return_timeout=5, **more)) == wanted, path
    bench.do("PATCH", f"/storage/volumes/{volume}", {"state": "online"})
    assert bench.units()[0].online
