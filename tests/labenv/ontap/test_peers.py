"""Peering of clusters and of SVMs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from labenv.ontap.rest.peers import ClusterPeers, SvmPeers

from .ontap_bench import GENERIC
from .snapmirror_bench import PASSPHRASE, RELATIONSHIPS, PairBench

PEERS, SVM_PEERS = "/cluster/peers", "/svm/peers"
OFFER: dict[str, Any] = {
    "authentication": {"passphrase": PASSPHRASE},
    "remote": {"ip_addresses": ["10.2.2.1", "10.2.2.2"]},
}
GENERATE = {"authentication": {"generate_passphrase": True}}
SVM: dict[str, Any] = {
    "svm": {"name": "svm1"},
    "peer": {"svm": {"name": "svm2"}, "cluster": {"name": "cluster2"}},
    "applications": ["snapmirror"],
}


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[PairBench]:
    """Two clusters in this process."""
    bench = PairBench(tmp_path)
    yield bench
    bench.discard()


def states(pair: PairBench) -> list[tuple[str, str]]:
    """(authentication, status) of the peering as each cluster shows it; none: it has no peering."""
    found = []
    for number in (1, 2):
        for peer in pair.at(number).do("GET", PEERS, fields="**")["records"]:
            found.append((peer["authentication"]["state"], peer["status"]["state"]))
    return found


# clusters -------------------------------------------------------------------------------------------------------------


def test_two_clusters_with_one_passphrase_are_peers(pair: PairBench) -> None:
    """The first offer is pending, the second with the same passphrase makes both available."""
    pair.at(1).do("POST", PEERS, OFFER)
    assert states(pair) == [("pending", "pending")]
    pair.at(2).do("POST", PEERS, {**OFFER, "remote": {"ip_addresses": ["10.1.2.1"]}})
    assert states(pair) == [("ok", "available")] * 2
    mine = pair.at(1).one(PEERS)
    assert (mine["name"], mine["remote"]["name"]) == ("cluster2", "cluster2")
    assert mine["uuid"] == pair.at(2).do("GET", "/cluster")["uuid"]
    assert "passphrase" not in mine["authentication"]


def test_another_passphrase_is_not_accepted(pair: PairBench) -> None:
    """Both stay pending until one side gives the other's passphrase, and not after it has expired."""
    pair.at(1).do("POST", PEERS, OFFER)
    wrong = {"authentication": {"passphrase": "something else"}, "remote": {"ip_addresses": ["10.1.2.1"]}}
    pair.at(2).do("POST", PEERS, wrong)
    assert states(pair) == [("pending", "pending")] * 2
    uuid = pair.at(2).one(PEERS)["uuid"]
    pair.advance(3700)
    pair.do("PATCH", f"{PEERS}/{uuid}", {"authentication": {"passphrase": PASSPHRASE}})
    assert states(pair) == [("problem", "pending"), ("pending", "pending")]
    pair.at(1).do("PATCH", f"{PEERS}/{pair.at(1).one(PEERS)['uuid']}", {"authentication": {"passphrase": PASSPHRASE}})
    assert states(pair) == [("ok", "available")] * 2


def test_a_generated_passphrase_is_shown_once(pair: PairBench) -> None:
    """generate_passphrase makes an offer to whoever brings the passphrase of the answer; GET never shows it."""
    status, answer = pair.at(1).call("POST", PEERS, GENERATE, return_records="true")
    assert status == 201
    passphrase = answer["records"][0]["authentication"]["passphrase"]
    assert len(passphrase) >= 16
    assert "passphrase" not in str(pair.do("GET", PEERS, fields="**"))
    offer = pair.one(PEERS)["uuid"]
    accept = {"authentication": {"passphrase": passphrase}, "remote": {"ip_addresses": ["10.1.2.1", "10.1.2.2"]}}
    pair.at(2).do("POST", PEERS, accept)
    assert states(pair) == [("ok", "available")] * 2
    assert pair.at(1).one(PEERS)["uuid"] != offer
    assert pair.one(PEERS)["remote"]["ip_addresses"] == ["10.2.2.1", "10.2.2.2"]


def test_a_peer_that_does_not_answer_is_unavailable(pair: PairBench) -> None:
    """Cut links, lost power and interfaces that are down are seen from both sides, and mend."""
    pair.peer_clusters()
    pair.interconnect.set_cut("cluster1", "cluster2")
    assert states(pair) == [("ok", "unavailable")] * 2
    pair.interconnect.set_cut("cluster1", "cluster2", False)
    pair.interconnect.set_down("cluster2")
    assert pair.at(1).one(PEERS)["status"]["state"] == "unavailable"
    pair.interconnect.set_down("cluster2", False)
    core = pair.arrays[1].core
    nodes = list(core.nodes.values())
    for node in nodes:
        core.nodes[node.uuid] = dataclasses.replace(node, state="down")
    assert pair.at(1).one(PEERS)["status"]["state"] == "unavailable"
    core.nodes[nodes[0].uuid] = nodes[0]
    assert states(pair) == [("ok", "available")] * 2


def test_what_is_cut_stays_cut(pair: PairBench) -> None:
    """A restart keeps what an instructor has broken; a restore to a checkpoint takes it back."""
    pair.peer_clusters()
    pair.state.checkpoint("whole")
    pair.interconnect.set_cut("cluster1", "cluster2")
    pair.state.commit()
    pair.kill()
    assert pair.one(PEERS)["status"]["state"] == "unavailable"
    pair.run(pair.clock.cancel_tasks())
    pair.state.restore("whole")
    assert pair.one(PEERS)["status"]["state"] == "available"


def test_a_deleted_peering_is_pending_on_the_other_side(pair: PairBench) -> None:
    """A peering goes on its own cluster; the other one keeps a record that leads nowhere until it is deleted too."""
    pair.peer_clusters()
    pair.at(1).do("DELETE", f"{PEERS}/{pair.one(PEERS)['uuid']}")
    assert states(pair) == [("problem", "pending")]
    pair.at(2).do("DELETE", f"{PEERS}/{pair.one(PEERS)['uuid']}")
    pair.peer_clusters()
    assert states(pair) == [("ok", "available")] * 2


# SVMs -----------------------------------------------------------------------------------------------------------------


def test_an_svm_peer_is_asked_for_and_accepted(pair: PairBench) -> None:
    """initiated here, pending there, peered after the other side has accepted; then suspended and resumed."""
    pair.peer_clusters()
    pair.at(1).do("POST", SVM_PEERS, SVM)
    mine = pair.one(SVM_PEERS)
    assert (mine["state"], mine["name"], mine["peer"]["cluster"]["name"]) == ("initiated", "svm2", "cluster2")
    theirs = pair.at(2).one(SVM_PEERS)
    assert (theirs["state"], theirs["svm"]["name"], theirs["peer"]["svm"]["name"]) == ("pending", "svm2", "svm1")
    for state in ("peered", "suspended", "peered"):
        pair.at(2).do("PATCH", f"{SVM_PEERS}/{theirs['uuid']}", {"state": state})
        assert pair.at(1).one(SVM_PEERS)["state"] == pair.at(2).one(SVM_PEERS)["state"] == state


def test_a_rejected_svm_peer_replicates_nothing(pair: PairBench) -> None:
    """Rejected: no relationship is possible; deleted on one side it is gone on both."""
    pair.peer_clusters()
    pair.at(1).do("POST", SVM_PEERS, SVM)
    uuid = pair.at(2).one(SVM_PEERS)["uuid"]
    pair.do("PATCH", f"{SVM_PEERS}/{uuid}", {"state": "rejected"})
    pair.make(1, "vol1")
    pair.make(2, "dp1", type="dp")
    body = {"source": {"path": "svm1:vol1"}, "destination": {"path": "svm2:dp1"}}
    assert pair.call("POST", RELATIONSHIPS, body)[1]["error"]["code"] == "13303886"
    pair.do("DELETE", f"{SVM_PEERS}/{uuid}")
    assert pair.at(1).do("GET", SVM_PEERS)["num_records"] == 0


def test_allowed_svms_peer_unasked(pair: PairBench) -> None:
    """initial_allowed_svms of the cluster peer spares the other side's consent."""
    pair.at(1).do("POST", PEERS, OFFER)
    accept = {**OFFER, "remote": {"ip_addresses": ["10.1.2.1"]}, "initial_allowed_svms": [{"name": "svm2"}]}
    pair.at(2).do("POST", PEERS, accept)
    pair.at(1).do("POST", SVM_PEERS, SVM)
    assert pair.one(SVM_PEERS)["state"] == pair.at(2).one(SVM_PEERS)["state"] == "peered"


def test_svms_of_one_cluster_are_peered_at_once(pair: PairBench) -> None:
    """Inside a cluster nobody has to accept, and a mirror between the two SVMs needs the peering."""
    pair.at(2).do("POST", "/svm/svms", {"name": "other", "aggregates": [{"name": "aggr2"}]})
    pair.make(2, "near")
    body = {"name": "far", "svm": {"name": "other"}, "aggregates": [{"name": "aggr2"}], "size": 256 << 20, "type": "dp"}
    pair.do("POST", "/storage/volumes", body)
    relation = {"source": {"path": "svm2:near"}, "destination": {"path": "other:far"}}
    assert pair.call("POST", RELATIONSHIPS, relation)[1]["error"]["code"] == "13303886"
    pair.do("POST", SVM_PEERS, {"svm": {"name": "svm2"}, "peer": {"svm": {"name": "other"}}})
    assert {p["state"] for p in pair.do("GET", SVM_PEERS, fields="state")["records"]} == {"peered"}
    pair.do("POST", RELATIONSHIPS, relation)
    uuid = pair.one(RELATIONSHIPS)["uuid"]
    assert pair.mirrored(uuid)["state"] == "snapmirrored"


def test_a_peer_can_have_another_name_here(pair: PairBench) -> None:
    """A name that is taken needs an alias; paths of relationships use it."""
    pair.peer_clusters()
    pair.at(2).do("POST", "/svm/svms", {"name": "svm1", "aggregates": [{"name": "aggr2"}]})
    ask = {"svm": {"name": "svm2"}, "peer": {"svm": {"name": "svm1"}, "cluster": {"name": "cluster1"}}}
    assert pair.call("POST", SVM_PEERS, ask)[1]["error"]["code"] == "9896086"
    pair.do("POST", SVM_PEERS, {**ask, "name": "primary"})
    pair.at(1).do("PATCH", f"{SVM_PEERS}/{pair.at(1).one(SVM_PEERS)['uuid']}", {"state": "peered"})
    pair.make(1, "vol1")
    pair.disk(1, "/vol/vol1/lun1")
    content = pair.scribble(1, "vol1", 3)
    pair.make(2, "vol1_dr", type="dp")
    pair.do("POST", RELATIONSHIPS, {"source": {"path": "primary:vol1"}, "destination": {"path": "svm2:vol1_dr"}})
    uuid = pair.one(RELATIONSHIPS)["uuid"]
    pair.mirrored(uuid)
    assert pair.content(2, "vol1_dr") == content
    pair.patch(uuid, "broken_off")
    body = {"source": {"path": "svm2:vol1_dr"}, "destination": {"path": "primary:vol1"}, "state": "snapmirrored"}
    pair.do("PATCH", f"{RELATIONSHIPS}/{uuid}", body)
    assert pair.at(1).one(RELATIONSHIPS)["destination"]["path"] == "svm1:vol1"


# what is refused ------------------------------------------------------------------------------------------------------


def nothing(pair: PairBench) -> None:
    """Two clusters that know nothing of each other."""


def no_lifs(pair: PairBench) -> None:
    core = pair.arrays[0].core
    for key, lif in list(core.lifs.items()):
        core.lifs[key] = dataclasses.replace(lif, enabled=False)


def no_route(pair: PairBench) -> None:
    pair.interconnect.set_cut("cluster1", "cluster2")


def clusters(pair: PairBench) -> None:
    pair.peer_clusters()


def svms(pair: PairBench) -> None:
    pair.peer()


def asked(pair: PairBench) -> None:
    pair.peer_clusters()
    pair.at(1).do("POST", SVM_PEERS, SVM)


def mirror(pair: PairBench) -> None:
    pair.protect()


def cut_after(pair: PairBench) -> None:
    pair.peer()
    pair.interconnect.set_cut("cluster1", "cluster2")


def cut_asked(pair: PairBench) -> None:
    asked(pair)
    pair.interconnect.set_cut("cluster1", "cluster2")


@dataclass(frozen=True)
class Case:
    """A request to cluster 1 (or ``at``) in a situation, and what it gets."""

    code: str
    situation: Callable[[PairBench], None]
    method: str
    path: str
    body: dict[str, Any] = field(default_factory=dict)
    at: int = 1

    def __str__(self) -> str:
        return f"{self.code}-{self.situation.__name__}-{self.method}-{self.path.split('/')[1]}"


def offer(**more: Any) -> dict[str, Any]:
    return {**OFFER, **more}


PASS = {"passphrase": PASSPHRASE}
CASES = [
    Case("4656077", nothing, "POST", PEERS),
    Case("4656069", nothing, "POST", PEERS, {"authentication": PASS}),
    Case("4656080", nothing, "POST", PEERS, {"remote": OFFER["remote"]}),
    Case("4653236", nothing, "POST", PEERS, offer(authentication={"passphrase": "short"})),
    Case("4655058", nothing, "POST", PEERS, offer(authentication={**PASS, "expiry_time": "P8D"})),
    Case("262197", nothing, "POST", PEERS, offer(authentication={**PASS, "expiry_time": "soon"})),
    Case("4653368", nothing, "POST", PEERS, offer(remote={"ip_addresses": ["nowhere"]})),
    Case("4653058", nothing, "POST", PEERS, offer(remote={"ip_addresses": ["10.1.2.1"]})),
    Case("4656100", nothing, "POST", PEERS, offer(remote={"ip_addresses": ["10.1.1.21"]})),
    Case("4653215", nothing, "POST", PEERS, offer(remote={"ip_addresses": ["10.9.9.9"]})),
    Case("4653215", nothing, "POST", PEERS, offer(remote={"ip_addresses": ["10.2.1.21"]})),  # an iSCSI interface
    Case("4653215", no_route, "POST", PEERS, OFFER),
    Case("4653671", no_lifs, "POST", PEERS, OFFER),
    Case("4653671", no_lifs, "POST", PEERS, GENERATE),
    Case("4656071", nothing, "POST", PEERS, offer(name="cluster1")),
    Case("4656072", nothing, "POST", PEERS, offer(name="no spaces")),
    Case("4653075", clusters, "POST", PEERS, {**GENERATE, "name": "cluster2"}),
    Case("4653076", clusters, "POST", PEERS, offer(name="again")),
    Case("4653236", clusters, "PATCH", PEERS + "/{peer}", {"authentication": {"passphrase": "short"}}),
    Case("4656080", clusters, "PATCH", PEERS + "/{peer}", {"authentication": {"generate_passphrase": False}}),
    Case("4656072", clusters, "PATCH", PEERS + "/{peer}", {"name": "no spaces"}),
    Case("4653215", clusters, "PATCH", PEERS + "/{peer}", {"remote": {"ip_addresses": ["10.9.9.9"]}}),
    Case("4653079", svms, "DELETE", PEERS + "/{peer}"),
    Case("26345580", clusters, "POST", SVM_PEERS, {"peer": SVM["peer"]}),
    Case("26345580", clusters, "POST", SVM_PEERS, {"svm": SVM["svm"]}),
    Case("26345578", clusters, "POST", SVM_PEERS, {**SVM, "svm": {"name": "none"}}),
    Case("26345578", clusters, "POST", SVM_PEERS,
         {**SVM, "peer": {"svm": {"name": "none"}, "cluster": {"name": "cluster2"}}}),
    Case("26345581", nothing, "POST", SVM_PEERS, SVM),
    Case("26345581", cut_after, "POST", SVM_PEERS, {**SVM, "name": "again"}),
    Case("26345575", clusters, "POST", SVM_PEERS,
         {**SVM, "peer": {"svm": {"name": "svm2"}, "cluster": {"name": "cluster2", "uuid": "x"}}}),
    Case("26345579", clusters, "POST", SVM_PEERS, {**SVM, "applications": ["nonsense"]}),
    Case("9896086", svms, "POST", SVM_PEERS, SVM),
    Case("9896086", svms, "PATCH", SVM_PEERS + "/{svm_peer}", {"name": "svm1"}),
    Case("26345577", svms, "PATCH", SVM_PEERS + "/{svm_peer}"),
    Case("26345576", svms, "PATCH", SVM_PEERS + "/{svm_peer}", {"state": "nonsense"}),
    Case("26345576", svms, "PATCH", SVM_PEERS + "/{svm_peer}", {"state": "rejected"}),
    Case("26345576", asked, "PATCH", SVM_PEERS + "/{svm_peer}", {"state": "peered"}),  # by who has asked
    Case("26345581", cut_asked, "PATCH", SVM_PEERS + "/{svm_peer}", {"state": "peered"}, 2),
    Case("9895956", mirror, "DELETE", SVM_PEERS + "/{svm_peer}"),
    Case("26345578", cut_after, "DELETE", SVM_PEERS + "/{svm_peer}"),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=str)
def test_what_cannot_be_peered_gets_its_code(pair: PairBench, case: Case) -> None:
    """The request is refused with the documented code."""
    case.situation(pair)
    pair.at(case.at)
    path = case.path
    for key, where in (("{peer}", PEERS), ("{svm_peer}", SVM_PEERS)):
        if key in path:
            path = path.replace(key, pair.one(where)["uuid"])
    status, answer = pair.call(case.method, path, case.body, return_timeout=60)
    assert status >= 400, answer
    assert answer["error"]["code"] == case.code, answer


@pytest.mark.parametrize("collection", [ClusterPeers, SvmPeers], ids=lambda c: c.__name__)
def test_every_declared_code_is_shown(collection: Any) -> None:
    """No code is declared that these tests do not provoke."""
    shown = {case.code for case in CASES if case.path.startswith(collection.path)}
    for codes in collection.codes.values():
        assert set(codes) - GENERIC <= shown
