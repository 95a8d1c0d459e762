"""SnapMirror policies."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from labenv.ontap.records import Schedule
from labenv.ontap.rest.snapmirror_policies import MirrorPolicies
from labenv.ontap.rest.values import parse_time, show_time
from labenv.ontap.snapmirror_tasks import next_run

from .ontap_bench import GENERIC
from .snapmirror_bench import PairBench

POLICIES = "/snapmirror/policies"
RULE = {"label": "daily", "count": 7}
MANY = [{"label": "a", "count": 600}, {"label": "b", "count": 600}]
BOTH = {"copy_all_source_snapshots": True, "copy_latest_source_snapshot": True}


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[PairBench]:
    """Two clusters in this process."""
    bench = PairBench(tmp_path)
    yield bench
    bench.discard()


def test_every_cluster_has_the_usual_policies(pair: PairBench) -> None:
    """Asynchronous is what a relationship gets; MirrorAllSnapshots mirrors all of them."""
    named = {p["name"]: p for p in pair.do("GET", POLICIES, fields="**")["records"]}
    assert {"Asynchronous", "MirrorAllSnapshots", "MirrorLatest", "MirrorAndVault", "XDPDefault"} <= set(named)
    assert named["MirrorAllSnapshots"]["copy_all_source_snapshots"]
    assert named["MirrorLatest"]["copy_latest_source_snapshot"]
    assert not named["XDPDefault"]["create_snapshot_on_source"]
    assert [rule["label"] for rule in named["Asynchronous"]["retention"]] == ["sm_created", "daily", "weekly"]
    assert {p["type"] for p in named.values()} == {"async"}


def test_a_policy_of_ones_own(pair: PairBench) -> None:
    """Made, changed and deleted; its schedule and throttle show."""
    body = {"name": "mine", "retention": [RULE], "transfer_schedule": {"name": "hourly"}, "throttle": 100}
    pair.do("POST", POLICIES, body)
    mine = pair.one(POLICIES, name="mine")
    assert (mine["transfer_schedule"]["name"], mine["throttle"], mine["scope"]) == ("hourly", 100, "cluster")
    path = f"{POLICIES}/{mine['uuid']}"
    pair.do("PATCH", path, {"retention": [{"label": "weekly", "count": "3"}], "comment": "x"})
    changed = pair.do("GET", path)
    assert [(rule["label"], rule["count"]) for rule in changed["retention"]] == [("sm_created", "1"), ("weekly", "3")]
    pair.do("DELETE", path)
    assert pair.do("GET", POLICIES, name="mine")["num_records"] == 0


def test_an_svms_own_policy_wins(pair: PairBench) -> None:
    """A policy of an SVM is used by its relationships, and cannot go while they do."""
    pair.do("POST", POLICIES, {"name": "mine", "svm": {"name": "svm2"}, "copy_all_source_snapshots": True})
    mine = pair.one(POLICIES, name="mine")
    assert (mine["scope"], mine["svm"]["name"]) == ("svm", "svm2")
    pair.protect("mine")
    refused = pair.call("DELETE", f"{POLICIES}/{mine['uuid']}", return_timeout=9)
    assert refused[1]["error"]["code"] == "13303842"


@dataclass(frozen=True)
class Case:
    """A request, and what it gets."""

    code: str
    method: str
    path: str = POLICIES
    body: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.code}-{self.method}"


ALL, OWN = POLICIES + "/{MirrorAllSnapshots}", POLICIES + "/{mine}"
CASES = [
    Case("2", "POST"),
    Case("2", "POST", body={"name": "x", "svm": {"name": "none"}}),
    Case("6621060", "POST", body={"name": "MirrorAllSnapshots"}),
    Case("13304085", "POST", body={"name": "x", "type": "sync"}),
    Case("13304085", "POST", body={"name": "x", "transfer_schedule": {"name": "none"}}),
    Case("13304085", "POST", body={"name": "x", "retention": [{"count": 1}]}),
    Case("6619714", "POST", body={"name": "x", "transfer_schedule": {"name": "interval"}}),
    Case("13304084", "POST", body={"name": "x", **BOTH}),
    Case("13304084", "POST", body={"name": "x", "copy_all_source_snapshots": True, "retention": [RULE]}),
    Case("13304126", "POST", body={"name": "x", "retention": [{"label": "daily", "count": 0}]}),
    Case("13304130", "POST", body={"name": "x", "retention": MANY}),
    Case("13303842", "PATCH", ALL, {"comment": "x"}),
    Case("13303842", "DELETE", ALL),
    Case("13303850", "PATCH", OWN, {"retention": [RULE]}),
    Case("13304126", "PATCH", POLICIES + "/{vault}", {"retention": [{"label": "a", "count": 2000}]}),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=str)
def test_what_a_policy_cannot_be(pair: PairBench, case: Case) -> None:
    """The request is refused with the documented code."""
    pair.do("POST", "/cluster/schedules", {"name": "interval", "interval": "PT10M"})
    pair.do("POST", POLICIES, {"name": "mine", "copy_all_source_snapshots": True})
    pair.do("POST", POLICIES, {"name": "vault", "create_snapshot_on_source": False, "retention": [RULE]})
    path = case.path
    for name in ("MirrorAllSnapshots", "mine", "vault"):
        if f"{{{name}}}" in path:
            path = path.replace(f"{{{name}}}", pair.one(POLICIES, name=name)["uuid"])
    answer = pair.call(case.method, path, case.body, return_timeout=9)[1]
    assert answer["error"]["code"] == case.code, answer


def test_every_declared_code_is_shown() -> None:
    """No code is declared that these tests do not provoke."""
    for codes in MirrorPolicies.codes.values():
        assert set(codes) - GENERIC <= {case.code for case in CASES}


RUNS = {
    "five past": ({"minutes": (5,)}, "2013-03-04T08:05:00", "2013-03-04T09:05:00"),
    "ten past midnight": ({"hours": (0,), "minutes": (10,)}, "2013-03-05T00:10:00", "2013-03-06T00:10:00"),
    "Sunday": ({"weekdays": (0,), "hours": (0,), "minutes": (15,)}, "2013-03-10T00:15:00", "2013-03-17T00:15:00"),
    "an hour": ({"hours": (8, 20)}, "2013-03-04T20:00:00", "2013-03-05T08:00:00"),
    "interval": ({"interval": "PT1H30M"}, "2013-03-04T09:00:00", "2013-03-04T10:30:00"),
}


@pytest.mark.parametrize("name", RUNS)
def test_when_a_schedule_runs(name: str) -> None:
    """Cron fields and intervals name these times after eight on a Monday."""
    fields, first, second = RUNS[name]
    schedule = Schedule("u", "s", **fields)  # type: ignore[arg-type]
    when = next_run(schedule, parse_time("2013-03-04T08:00:00"))
    assert when is not None
    assert show_time(when) == f"{first}+00:00"
    again = next_run(schedule, when)
    assert again is not None
    assert show_time(again) == f"{second}+00:00"


def test_a_schedule_that_names_no_time_never_runs() -> None:
    """An interval of nothing is none."""
    assert next_run(Schedule("u", "s", interval="nonsense"), 0) is None
