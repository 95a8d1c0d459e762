"""An HA pair: takeover and giveback, and what hosts see of them (TR 7)."""

from __future__ import annotations

from typing import Any

import pytest

from .ontap_bench import IQN, MIB, Bench

NODES = "/cluster/nodes"


def nodes(bench: Bench) -> dict[str, Any]:
    return {node["name"]: node for node in bench.do("GET", NODES, fields="*")["records"]}


def states(bench: Bench) -> list[str]:
    return [node["state"] for node in nodes(bench).values()]


def interfaces(bench: Bench) -> dict[str, tuple[str, str]]:
    """Where each interface is, and whether it is up."""
    records = bench.do("GET", "/network/ip/interfaces", fields="location.node.name,state")["records"]
    return {record["name"]: (record["location"]["node"]["name"], record["state"]) for record in records}


def take_over(bench: Bench, name: str = "cluster1-01", action: str = "shutdown") -> None:
    bench.do("PATCH", f"{NODES}/{nodes(bench)[name]['uuid']}", action=action)


@pytest.fixture
def disk(bench: Bench) -> Any:
    """A LUN on an aggregate of the first node, as its host sees it."""
    bench.volume(snapshot_policy={"name": "none"})
    bench.lun()
    bench.igroup()
    bench.map()
    return bench.units()[0].device


@pytest.mark.tr("R-7.1-01")
@pytest.mark.tr("R-7.2-01")
def test_the_partner_serves_after_a_takeover(bench: Bench, disk: Any) -> None:
    """iSCSI paths of the node go down and those of its partner serve the same disk; management interfaces move."""
    disk.write(0, b"before")
    take_over(bench)
    assert states(bench) == ["taken_over", "up"]
    assert interfaces(bench) == {
        "cluster_mgmt": ("cluster1-02", "up"),
        "svm1_mgmt": ("cluster1-02", "up"),
        "svm1_iscsi_1": ("cluster1-01", "down"),
        "svm1_iscsi_2": ("cluster1-02", "up"),
    }
    assert bench.array.targets("10.0.1.21") == ()
    (target,) = bench.array.targets("10.0.1.22")
    assert target.portals == ("10.0.1.22",)
    (unit,) = bench.array.logical_units(IQN, target.name)
    assert unit.device is disk
    assert disk.read(0, 6) == b"before"
    disk.write(0, b"during")
    aggregate = bench.one("/storage/aggregates", name="aggr1")
    assert (aggregate["node"]["name"], aggregate["home_node"]["name"]) == ("cluster1-02", "cluster1-01")
    assert bench.array.management("10.0.0.10") is not None
    take_over(bench, action="giveback")
    assert states(bench) == ["up", "up"]
    assert set(interfaces(bench).values()) == {("cluster1-01", "up"), ("cluster1-02", "up")}
    assert interfaces(bench)["svm1_mgmt"] == ("cluster1-01", "up")
    assert bench.one("/storage/aggregates", name="aggr1")["node"]["name"] == "cluster1-01"
    assert disk.read(0, 6) == b"during"
    found = [event["message"]["name"] for event in bench.do("GET", "/support/ems/events")["records"]]
    assert found == ["cf.fsm.takeoverComplete", "cf.fsm.givebackComplete"]


def test_work_goes_on_during_a_takeover(bench: Bench, disk: Any) -> None:
    """Volumes, LUNs and Snapshot copies are made, used and deleted on the partner."""
    take_over(bench)
    volume = bench.volume("more", snapshot_policy={"name": "none"})
    bench.lun("/vol/more/lun")
    bench.snapshot(volume, "s")
    bench.do("DELETE", f"/storage/volumes/{volume}")
    bench.lun("/vol/vol1/lun2")
    bench.map("/vol/vol1/lun2")


def test_a_reboot_gives_back_by_itself(bench: Bench) -> None:
    """A node that reboots serves again when it has booted; one that was shut down waits for its giveback."""
    bench.prices["ontap.node.boot"] = 300
    take_over(bench, action="reboot")
    bench.advance(299)
    assert states(bench) == ["taken_over", "up"]
    bench.kill()
    bench.do("GET", "/cluster")
    bench.advance(2)
    assert states(bench) == ["up", "up"]
    take_over(bench)
    bench.advance(3600)
    assert states(bench) == ["taken_over", "up"]


def test_a_node_without_a_partner_stays(bench: Bench) -> None:
    """While its partner is taken over, a node can be neither shut down nor rebooted."""
    take_over(bench)
    second = nodes(bench)["cluster1-02"]
    assert second["ha"]["takeover"]["state"] == "in_takeover"
    assert second["ha"]["giveback"]["state"] == "not_attempted"
    for action in ("shutdown", "reboot"):
        answer = bench.call("PATCH", f"{NODES}/{second['uuid']}", action=action)
        assert answer[1]["error"]["code"] == "852046"
    assert bench.call("PATCH", f"{NODES}/{second['uuid']}", action="explode")[1]["error"]["code"] == "262197"


def test_the_shell_takes_over_too(bench: Bench) -> None:
    """storage failover takeover and giveback, and show, by the passthrough to the clustershell."""
    path = "/private/cli/storage/failover"
    bench.do("POST", f"{path}/takeover", {"ofnode": "cluster1-02"})
    shown = bench.do("GET", path, fields="partner-name,possible,state-description")["records"]
    assert [record["state_description"] for record in shown] == ["Connected", "In takeover"]
    assert [record["possible"] for record in shown] == [False, False]
    assert bench.call("POST", f"{path}/takeover", {"ofnode": "cluster1-01"})[1]["error"]["code"] == "852046"
    assert bench.call("POST", f"{path}/takeover", {"ofnode": "nobody"})[1]["error"]["code"] == "4"
    bench.do("POST", f"{path}/giveback", {"ofnode": "cluster1-02"})
    assert states(bench) == ["up", "up"]


def test_reporting_nodes_decide_which_paths_show_a_lun(bench: Bench, disk: Any) -> None:
    """A LUN that only one node reports is lost to the host while that node's paths are down."""
    mapping = bench.one("/protocols/san/lun-maps")
    assert [node["name"] for node in mapping["reporting_nodes"]] == ["cluster1-01", "cluster1-02"]
    path = f"/protocols/san/lun-maps/{mapping['lun']['uuid']}/{mapping['igroup']['uuid']}/reporting-nodes"
    partner = nodes(bench)["cluster1-02"]["uuid"]
    home = nodes(bench)["cluster1-01"]["uuid"]
    bench.do("DELETE", f"{path}/{partner}")
    assert bench.call("DELETE", f"{path}/{home}")[1]["error"]["code"] == "5374608"
    assert len(bench.units()) == 1
    take_over(bench)
    (target,) = bench.array.targets("10.0.1.22")
    assert list(bench.array.logical_units(IQN, target.name)) == []
    bench.do("POST", path, {"name": "cluster1-02"})
    assert len(bench.array.logical_units(IQN, target.name)) == 1
    assert bench.do("GET", path)["num_records"] == 2
    assert bench.call("POST", path, {"name": "nobody"})[1]["error"]["code"] == "5374920"
    assert bench.call("POST", path, {})[1]["error"]["code"] == "5374923"


def test_a_full_aggregate_takes_thin_luns_offline(bench: Bench) -> None:
    """Thin LUNs of an overcommitted aggregate fail writes, go offline with an event, and come back with space."""
    volumes = [bench.volume(name, 4 << 30, aggregates=[{"name": "aggr2"}]) for name in ("a", "b")]
    for name in ("a", "b"):
        bench.lun(f"/vol/{name}/lun1", size=4 << 30)
    bench.igroup()
    bench.map("/vol/a/lun1")
    core = bench.array.core
    pool = bench.blocks.aggregate(core.volumes[volumes[0]].aggregate)
    filler = bench.blocks.volume(volumes[1]).files["/lun1"]
    filler.write(0, b"x" * (64 * MIB))
    body = {
        "name": "rest",
        "svm": {"name": "svm1"},
        "aggregates": [{"name": "aggr2"}],
        "size": (pool.size - 80 * MIB) // MIB * MIB,
    }
    bench.do("POST", "/storage/volumes", body)
    device = bench.units()[0].device
    with pytest.raises(OSError, match="full"):
        device.write(0, b"y" * (32 * MIB))
    assert not device.online
    assert bench.one("/storage/luns", name="/vol/a/lun1")["status"]["state"] == "space_error"
    answer = bench.call("POST", "/storage/volumes", {**body, "name": "none", "size": "1GB"}, return_timeout=30)
    assert answer[1]["error"]["code"] == "917536"
    events = [event["message"]["name"] for event in bench.do("GET", "/support/ems/events")["records"]]
    assert events == ["lun.offline"]
    usage = bench.one("/storage/aggregates", name="aggr2")["space"]["block_storage"]
    assert usage["used_percent"] >= 99
    bench.do("DELETE", f"/storage/volumes/{bench.one('/storage/volumes', name='rest')['uuid']}")
    bench.do("PATCH", f"/storage/luns/{bench.one('/storage/luns', name='/vol/a/lun1')['uuid']}", {"enabled": True})
    device.write(0, b"y" * MIB)
    assert device.online
