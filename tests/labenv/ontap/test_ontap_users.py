"""Who may see and change what: the cluster's administrator, SVMs' administrators, and requests tunnelled to an SVM."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .ontap_bench import Answer, Bench
from .test_ontap_fuzz import TWO_SVMS, build

VOLUMES = "/api/storage/volumes"


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """Two SVMs with the same things; those of svm2 have names that end in _hush."""
    bench = Bench(tmp_path, TWO_SVMS)
    build(bench)
    yield bench
    bench.close()


def as_svm1(bench: Bench, method: str, url: str, body: Any = None, **headers: str) -> Answer:
    """A request by the administrator of svm1."""
    return bench.http(method, url, body, user="vsadmin", password="vs-secret", **headers)


def theirs(bench: Bench, path: str, name: str) -> str:
    """The uuid of something of svm2."""
    return str(bench.one(path, name=name)["uuid"])


def test_a_clone_of_anothers_volume_is_refused(bench: Bench) -> None:
    """An SVM's administrator who knows the uuid of another SVM's volume cannot read it through a FlexClone volume."""
    uuid = theirs(bench, "/storage/volumes", "vol1_hush")
    for parent in ({"uuid": uuid}, {"name": "vol1_hush"}):
        body = {"name": "thief", "clone": {"parent_volume": parent, "parent_svm": {"name": "svm2"}}}
        answer = as_svm1(bench, "POST", f"{VOLUMES}?return_timeout=120", body)
        assert (answer.status, answer.code) == (400, "524601")
    body = {"name": "lent", "svm.name": "svm1", "clone": {"is_flexclone": True, "parent_volume": {"uuid": uuid}}}
    bench.do("POST", "/storage/volumes", body)  # the cluster's administrator may


def test_what_is_shared_is_read_and_not_changed(bench: Bench) -> None:
    """Policies of the cluster are there for an SVM's volumes, and its administrator cannot change them."""
    for path in ("/storage/snapshot-policies", "/snapmirror/policies"):
        found = as_svm1(bench, "GET", f"/api{path}").json["records"]
        assert found
        for method, body in (("PATCH", {"comment": "mine"}), ("DELETE", None)):
            answer = as_svm1(bench, method, f"/api{path}/{found[0]['uuid']}", body)
            assert (answer.status, answer.code) == (403, "6")


def test_interfaces_and_jobs_of_the_cluster_are_not_shown(bench: Bench) -> None:
    """Management addresses of the cluster and what its administrator does are not an SVM's business."""
    shown = as_svm1(bench, "GET", "/api/network/ip/interfaces?fields=svm.name,ip.address").json["records"]
    assert {record["svm"]["name"] for record in shown} == {"svm1"}
    assert len(bench.do("GET", "/network/ip/interfaces")["records"]) > len(shown)
    jobs = as_svm1(bench, "GET", "/api/cluster/jobs?fields=svm.name").json["records"]
    assert jobs
    assert {job["svm"]["name"] for job in jobs} == {"svm1"}


def test_a_policy_of_another_svm_cannot_be_used(bench: Bench) -> None:
    """A snapshot policy belongs to its SVM: for a volume of another one there is none of that name."""
    copies = [{"schedule": {"name": "daily"}, "count": 1}]
    bench.do(
        "POST", "/storage/snapshot-policies", {"svm.name": "svm2", "name": "own", "enabled": True, "copies": copies}
    )
    body = {"snapshot_policy": {"name": "own"}}
    mine = theirs(bench, "/storage/volumes", "vol1")
    assert bench.call("PATCH", f"/storage/volumes/{mine}", body)[1]["error"]["code"] == "917551"
    bench.do("PATCH", f"/storage/volumes/{theirs(bench, '/storage/volumes', 'vol1_hush')}", body)


def test_a_peering_is_asked_for_by_the_cluster(bench: Bench) -> None:
    """An SVM's administrator cannot peer the SVM with another one."""
    body = {"peer.svm.name": "svm2", "applications": ["snapmirror"]}
    answer = as_svm1(bench, "POST", "/api/svm/peers", body)
    assert (answer.status, answer.code) == (403, "6")
