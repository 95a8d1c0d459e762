"""What the array refuses: request -> HTTP status and code."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import pytest

from .ontap_bench import GIB, IQN, MIB, Bench

SVM = {"name": "svm1"}
AGGREGATE = [{"name": "aggr1"}]
LUN = {"svm": SVM, "os_type": "hyper_v", "space": {"size": MIB}}
IGROUP = {"svm": SVM, "os_type": "hyper_v", "protocol": "iscsi"}
MAP = {"svm": SVM, "lun.name": "/vol/vol1/lun1", "igroup.name": "hv1"}
CLONE = {"is_flexclone": True, "parent_volume": {"name": "vol1"}}
LIF = {"svm": SVM, "ip": {"address": "10.0.1.30", "netmask": "24"}, "location": {"home_node": {"name": "cluster1-01"}}}
NOWHERE = "00000000-0000-4000-8000-000000000000"


@dataclass(frozen=True)
class Case:
    """A request to a cluster with vol1 (Snapshot copy base, clone1 on it, lun1 mapped to hv1), and what it gets."""

    code: str
    status: int
    method: str
    path: str
    body: dict[str, Any] = field(default_factory=dict)
    query: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.code}-{self.method}-{self.path.split('/')[-1]}"


VOLUMES, LUNS, MAPS, IGROUPS = "/storage/volumes", "/storage/luns", "/protocols/san/lun-maps", "/protocols/san/igroups"
SNAPSHOTS = "/storage/volumes/{vol1}/snapshots"
GROUPS = "/application/consistency-groups"
V1, L1, S1 = "/storage/volumes/{vol1}", "/storage/luns/{lun1}", SNAPSHOTS + "/{base}"

CASES = [
    # routes and arguments
    Case("3", 404, "GET", "/storage/nonsense"),
    Case("3", 405, "DELETE", "/cluster/nodes", {}, {"name": "x"}),
    Case("3", 405, "POST", V1),
    Case("4", 404, "GET", f"/storage/volumes/{NOWHERE}"),
    Case("262179", 400, "GET", VOLUMES, {}, {"nonsense": "1"}),
    Case("262179", 400, "POST", VOLUMES, {"name": "v", "svm": SVM, "nonsense": 1}),
    Case("262179", 400, "PATCH", V1, {"comment": "x"}, {"clone.split": "true"}),
    Case("262197", 400, "GET", VOLUMES, {}, {"fields": "nonsense"}),
    Case("262197", 400, "GET", VOLUMES, {}, {"max_records": "0"}),
    Case("262197", 400, "GET", VOLUMES, {}, {"return_timeout": "600"}),
    Case("262197", 400, "GET", VOLUMES, {}, {"order_by": "name sideways"}),
    Case("262197", 400, "GET", VOLUMES, {}, {"size": "big"}),
    Case("262197", 400, "POST", VOLUMES, {"name": "v", "svm": SVM, "aggregates": AGGREGATE, "size": "10XB"}),
    Case("262188", 400, "POST", VOLUMES, {"name": "v", "space": {"size": 1}, "space.size": 2}),
    Case("262196", 400, "PATCH", V1, {"type": "dp"}),
    Case("2", 400, "DELETE", VOLUMES),
    # SVMs, network, aggregates, licences
    Case("13434908", 409, "POST", "/svm/svms", {"name": "svm1"}),
    Case("8", 409, "DELETE", "/svm/svms/{svm1}"),
    Case("786439", 409, "POST", "/storage/aggregates", {"name": "aggr1"}),
    Case("786446", 400, "POST", "/storage/aggregates", {"name": "aggr9", "node": {"name": "nowhere"}}),
    Case("786497", 409, "DELETE", "/storage/aggregates/{aggr1}"),
    Case("1376963", 409, "POST", "/network/ip/interfaces", {**LIF, "name": "x", "ip.address": "10.0.1.21"}
         | {"ip": {"netmask": "24"}}),
    Case("1966140", 409, "POST", "/network/ip/interfaces", {**LIF, "name": "svm1_iscsi_1"}),
    Case("1966269", 400, "POST", "/network/ip/interfaces", {**LIF, "ip": {"address": "10.0.1.30", "netmask": "33"}}),
    Case("1967111", 400, "POST", "/network/ip/interfaces", {**LIF, "location": {}}),
    Case("1967127", 400, "POST", "/network/ip/interfaces", {"scope": "svm", "ip": LIF["ip"]}),
    Case("1967146", 400, "POST", "/network/ip/interfaces", {**LIF, "svm": {"name": "nope"}}),
    Case("1967153", 400, "POST", "/network/ip/interfaces", {**LIF, "location": {"home_node": {"name": "nope"}}}),
    Case("1967398", 400, "POST", "/network/ip/interfaces", {**LIF, "ip": {"address": "10.0.1.30"}}),
    Case("53281065", 400, "POST", "/network/ip/interfaces", {**LIF, "service_policy": {"name": "nope"}}),
    Case("1115132", 409, "POST", "/cluster/licensing/licenses", {"keys": ["iscsi"]}),
    Case("1115141", 400, "POST", "/cluster/licensing/licenses", {"keys": ["nonsense"]}),
    # iSCSI and igroups
    Case("2621707", 400, "POST", "/protocols/san/iscsi/services", {"enabled": True}),
    Case("5374077", 409, "POST", "/protocols/san/iscsi/services", {"svm": SVM}),
    Case("5373960", 409, "DELETE", "/protocols/san/iscsi/services/{svm1}"),
    Case("5374078", 404, "GET", f"/protocols/san/iscsi/services/{NOWHERE}"),
    Case("2621462", 400, "POST", IGROUPS, {**IGROUP, "name": "g", "svm": {"name": "nope"}}),
    Case("2621706", 400, "POST", IGROUPS, {**IGROUP, "name": "g", "svm": {"name": "svm2", "uuid": "{svm1}"}}),
    Case("5373958", 400, "POST", IGROUPS, {**IGROUP, "name": "no spaces"}),
    Case("5374023", 409, "POST", IGROUPS, {**IGROUP, "name": "hv1"}),
    Case("5374039", 400, "POST", IGROUPS, {**IGROUP, "name": "g", "initiators": [{"name": "iqn.nonsense"}]}),
    Case("5374038", 400, "POST", IGROUPS, {**IGROUP, "name": "g", "initiators": [{"name": "20:00:zz"}]}),
    Case("5374732", 409, "POST", IGROUPS, {**IGROUP, "name": "g", "os_type": "linux", "initiators": [{"name": IQN}]}),
    Case("5374852", 404, "GET", f"/protocols/san/igroups/{NOWHERE}"),
    Case("5374852", 404, "POST", f"/protocols/san/igroups/{NOWHERE}/initiators", {"name": IQN}),
    Case("5374035", 409, "POST", "/protocols/san/igroups/{hv1}/initiators", {"name": IQN}),
    Case("5374033", 400, "POST", "/protocols/san/igroups/{hv1}/initiators", {}),
    Case("5374034", 404, "DELETE", "/protocols/san/igroups/{hv1}/initiators/iqn.1991-05.com.x:none"),
    Case("1254213", 409, "DELETE", "/protocols/san/igroups/{hv1}"),
    Case("1254213", 409, "DELETE", "/protocols/san/igroups/{hv1}/initiators/" + IQN),
    # LUN maps
    Case("1254207", 409, "POST", MAPS, MAP),
    Case("1254201", 400, "POST", MAPS, {**MAP, "lun.name": "/vol/vol1/none"}),
    Case("5374878", 400, "POST", MAPS, {**MAP, "igroup.name": "none"}),
    Case("5374901", 400, "POST", MAPS, {"svm": SVM, "igroup.name": "hv1"}),
    Case("5374902", 400, "POST", MAPS, {"svm": SVM, "lun.name": "/vol/vol1/lun1"}),
    Case("5374238", 400, "POST", MAPS, {**MAP, "lun.name": "/vol/vol1/.snapshot/base/lun1"}),
    Case("8", 409, "POST", MAPS, {**MAP, "lun.name": "/vol/vol1/lun2", "logical_unit_number": 0}),
    Case("5374922", 404, "DELETE", MAPS + "/{lun2}/{hv1}"),
    Case("5374875", 404, "DELETE", f"{MAPS}/{NOWHERE}/{NOWHERE}"),
    # LUNs
    Case("917927", 400, "POST", LUNS, {**LUN, "name": "/vol/none/l"}),
    Case("918235", 400, "POST", LUNS, {**LUN, "name": "l", "location": {"volume": {"uuid": NOWHERE}}}),
    Case("5374121", 400, "POST", LUNS, {**LUN, "name": "/vol/vol1/bad*name"}),
    Case("5374124", 400, "POST", LUNS, {**LUN, "name": "/vol/vol1/l", "space": {"size": 1}}),
    Case("5374125", 400, "POST", LUNS, {**LUN, "name": "/vol/vol1/l", "space": {"size": "129TB"}}),
    Case("5374127", 400, "POST", LUNS, {**LUN, "name": "/vol/vol1"}),
    Case("5374237", 400, "POST", LUNS, {**LUN, "name": "/vol/svm1_root/l"}),
    Case("5374238", 400, "POST", LUNS, {**LUN, "name": "/vol/vol1/.snapshot/base/l"}),
    Case("5374242", 409, "POST", LUNS, {**LUN, "name": "/vol/vol1/lun1"}),
    Case("5374858", 400, "POST", LUNS, {**LUN, "name": "/vol/vol1/l", "location": {"volume": {"name": "clone1"}}}),
    Case("5374859", 400, "POST", LUNS, {**LUN, "name": "l"}),
    Case("5374862", 400, "POST", LUNS, {**LUN, "location": {"volume": {"name": "vol1"}}}),
    Case("5374884", 400, "POST", LUNS, {"svm": SVM, "name": "/vol/vol1/l", "space": {"size": MIB}}),
    Case("5374883", 400, "POST", LUNS, {**LUN, "name": "/vol/vol1/l", "clone": {"source": {"name": "lun1"}}}),
    Case("5374876", 400, "POST", LUNS, {"svm": SVM, "name": "/vol/vol1/l",
         "clone": {"source": {"name": "/vol/vol1/.snapshot/none/lun1"}}}),
    Case("5374899", 400, "POST", LUNS, {"svm": SVM, "name": "/vol/vol1/l",
         "clone": {"source": {"name": "/vol/vol1/.snapshot/base/lun1", "uuid": "{lun1}"}}}),
    Case("1260121", 400, "POST", LUNS, {"svm": SVM, "name": "/vol/clone1/l",
         "clone": {"source": {"name": "/vol/vol1/lun1"}}}),
    Case("1260136", 409, "POST", LUNS, {"svm": SVM, "name": "/vol/vol1/lun2", "clone": {"source": {"name": "lun1"}}}),
    Case("5374942", 400, "POST", LUNS, {"svm": SVM, "name": "/vol/vol1/l", "clone.source.name": "lun1",
         "copy.source.name": "/vol/vol1/lun1"}),
    Case("5374875", 404, "GET", f"/storage/luns/{NOWHERE}"),
    Case("1254226", 400, "PATCH", L1, {"space": {"size": 64 * MIB}}),
    Case("5374892", 409, "PATCH", L1, {"space": {"size": MIB}}),
    Case("1254196", 409, "PATCH", L1, {"name": "/vol/vol1/lun2"}),
    Case("5376466", 400, "PATCH", L1, {"name": "/vol/vol1/.snapshot/base/lun1"}),
    Case("5374876", 400, "PATCH", L1, {"clone": {"source": {"name": "/vol/vol1/.snapshot/base/none"}}}),
    Case("1254197", 409, "DELETE", L1),
    # volumes
    Case("917526", 409, "POST", VOLUMES, {"name": "vol1", "svm": SVM, "aggregates": AGGREGATE}),
    Case("918242", 400, "POST", VOLUMES, {"name": "v", "svm": SVM}),
    Case("917508", 400, "POST", VOLUMES, {"name": "v", "svm": SVM, "aggregates": [{"name": "none"}]}),
    Case("917534", 400, "POST", VOLUMES, {"name": "v", "svm": SVM, "aggregates": AGGREGATE, "size": "1MB"}),
    Case("917551", 400, "POST", VOLUMES, {"name": "v", "svm": SVM, "aggregates": AGGREGATE,
         "snapshot_policy": {"name": "none_such"}}),
    Case("917835", 400, "POST", VOLUMES, {"name": "v", "svm": SVM, "aggregates": AGGREGATE,
         "space": {"snapshot": {"reserve_percent": 95}}}),
    Case("917886", 400, "POST", VOLUMES, {"name": "v" * 204, "svm": SVM, "aggregates": AGGREGATE}),
    Case("917887", 400, "POST", VOLUMES, {"name": "1v", "svm": SVM, "aggregates": AGGREGATE}),
    Case("917888", 400, "POST", VOLUMES, {"name": "v-1", "svm": SVM, "aggregates": AGGREGATE}),
    Case("524601", 400, "POST", VOLUMES, {"name": "v", "svm": SVM,
         "clone": {"is_flexclone": True, "parent_volume": {"name": "none"}}}),
    Case("1638600", 400, "POST", VOLUMES, {"name": "v", "svm": SVM,
         "clone": {**CLONE, "parent_snapshot": {"name": "none"}}}),
    Case("918243", 400, "POST", VOLUMES, {"name": "v", "svm": SVM,
         "clone": {**CLONE, "parent_snapshot": {"name": "base", "uuid": NOWHERE}}}),
    Case("918244", 400, "POST", VOLUMES, {"name": "v", "svm": SVM, "type": "dp", "clone": CLONE}),
    Case("918247", 400, "POST", VOLUMES, {"name": "v", "svm": SVM, "size": GIB, "clone": CLONE}),
    Case("917536", 500, "POST", VOLUMES, {"name": "v", "svm": SVM, "aggregates": AGGREGATE, "size": "9GB"}),
    Case("918652", 400, "PATCH", V1, {"state": "error"}),
    Case("918251", 400, "PATCH", V1, {"restore_to": {"snapshot": {"name": "base"}}, "size": GIB}),
    Case("4", 404, "PATCH", V1, {}, {"restore_to.snapshot.name": "none"}),
    Case("524615", 409, "DELETE", V1),
    Case("917531", 409, "DELETE", "/storage/volumes/{svm1_root}"),
    # Snapshot copies
    Case("918235", 404, "POST", f"/storage/volumes/{NOWHERE}/snapshots", {"name": "s"}),
    Case("525059", 409, "POST", SNAPSHOTS, {"name": "base"}),
    Case("1638518", 400, "POST", SNAPSHOTS, {"name": "a/b"}),
    Case("1638477", 400, "POST", SNAPSHOTS, {"name": "snapmirror.x"}),
    Case("1638461", 400, "POST", "/storage/volumes/{dp1}/snapshots", {"name": "s"}),
    Case("1638555", 409, "DELETE", S1),
    Case("525059", 409, "PATCH", S1, {"name": "other"}),
    Case("4", 404, "GET", f"{SNAPSHOTS}/{NOWHERE}"),
    # files
    Case("917812", 400, "POST", "/storage/file/clone", {"volume": {"name": "vol1"}, "source_path": "lun1",
         "destination_path": "/lun9"}),
    Case("13565952", 409, "POST", "/storage/file/clone", {"volume": {"name": "vol1"}, "source_path": "lun1",
         "destination_path": "lun2"}),
    # consistency groups
    Case("53411860", 409, "POST", GROUPS, {"name": "cg1", "svm": SVM}),
    Case("53411861", 400, "POST", GROUPS, {"name": "g", "svm": SVM, "volumes": [{"name": "none"}]}),
    Case("53411864", 400, "POST", GROUPS, {"name": "g", "svm": SVM, "volumes": [{"name": "clone1"}]}),
    Case("53411865", 409, "POST", GROUPS, {"name": "g", "svm": SVM,
         "volumes": [{"name": "vol1", "provisioning_options": {"action": "add"}}]}),
    Case("53411843", 404, "GET", f"{GROUPS}/{NOWHERE}"),
    Case("53411843", 404, "POST", f"{GROUPS}/{NOWHERE}/snapshots", {"name": "s"}),
    Case("53411921", 409, "POST", GROUPS + "/{cg1}/snapshots", {"name": "base"}),
    # schedules, policies, events
    Case("459758", 409, "DELETE", "/cluster/schedules/{hourly}"),
    Case("459760", 400, "POST", "/cluster/schedules", {"name": "s"}),
    Case("1638527", 409, "POST", "/storage/snapshot-policies", {"name": "default"}),
    Case("1638413", 400, "POST", "/storage/snapshot-policies", {"name": "p",
         "copies": [{"schedule": {"name": "none"}, "count": 1}]}),
    Case("1638407", 400, "POST", "/storage/snapshot-policies", {"name": "p", "copies": [{"schedule.name": "daily"}]}),
    Case("1638451", 400, "POST", "/storage/snapshot-policies", {"name": "p",
         "copies": [{"schedule.name": "daily", "count": 5}]}),
    Case("1638431", 409, "DELETE", "/storage/snapshot-policies/{default}"),
    Case("983173", 400, "POST", "/support/ems/application-logs", {"computer_name": "hv1"}),
]  # fmt: skip


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """One cluster for all cases; none of them changes anything."""
    bench = Bench(tmp_path_factory.mktemp("errors"))
    ids = {"vol1": bench.volume()}
    ids["lun1"] = bench.lun()
    ids["lun2"] = bench.lun("/vol/vol1/lun2", MIB)
    ids["hv1"] = bench.igroup()
    bench.map()
    ids["base"] = bench.snapshot(ids["vol1"], "base")
    bench.snapshot(ids["vol1"], "other")
    clone = {"is_flexclone": True, "parent_volume": {"name": "vol1"}, "parent_snapshot": {"name": "base"}}
    bench.do("POST", "/storage/volumes", {"name": "clone1", "svm": SVM, "clone": clone})
    ids["dp1"] = bench.volume("dp1", type="dp")
    members = [{"name": "vol1", "provisioning_options": {"action": "add"}}]
    bench.do("POST", GROUPS, {"name": "cg1", "svm": SVM, "volumes": members})
    for path, names in (
        ("/svm/svms", ("svm1",)),
        ("/storage/aggregates", ("aggr1",)),
        ("/storage/volumes", ("svm1_root",)),
        (GROUPS, ("cg1",)),
        ("/cluster/schedules", ("hourly",)),
        ("/storage/snapshot-policies", ("default",)),
    ):
        ids |= {name: bench.one(path, name=name)["uuid"] for name in names}
    yield bench, ids
    bench.close()


def fill(value: Any, ids: dict[str, str]) -> Any:
    """Put uuids where a case names things in braces."""
    if isinstance(value, dict):
        return {key: fill(inner, ids) for key, inner in value.items()}
    if isinstance(value, list):
        return [fill(inner, ids) for inner in value]
    if isinstance(value, str):
        for name, uuid in ids.items():
            value = value.replace(f"{{{name}}}", uuid)
    return value


@pytest.mark.parametrize("case", CASES, ids=str)
def test_refusal(cluster: tuple[Bench, dict[str, str]], case: Case) -> None:
    """A request that ONTAP refuses is refused with its code and HTTP status, and a message of one sentence at least."""
    bench, ids = cluster
    query = {} if case.method == "GET" else {"return_timeout": "120"}
    status, answer = bench.call(case.method, fill(case.path, ids), fill(case.body, ids), **{**query, **case.query})
    assert (answer.get("error", {}).get("code"), status) == (case.code, case.status), answer
    assert re.search(r"\{\w+\}", answer["error"]["message"]) is None
