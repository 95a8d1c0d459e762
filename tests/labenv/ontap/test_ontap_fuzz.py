"""Requests without end to every route: always an answer of ONTAP's form, nothing corrupted, nothing of others shown."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import json
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote_plus

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from labenv.ontap import records as r
from labenv.ontap.core import Core
from labenv.ontap.fence import hidden_name
from labenv.ontap.rest.api import COLLECTIONS
from labenv.ontap.spec import LifSpec, SvmSpec

from .ontap_bench import IQN, MIB, SPEC, Bench
from .requests_fuzz import Request, requests, settle

NORMAL, LONG = 30, 3000
HUSH = "told to nobody"
"""A comment of the neighbour's that no request says."""
NEIGHBOUR = SvmSpec(
    "svm2",
    lifs=(LifSpec("svm2_iscsi_1", "10.0.2.21", "cluster1-01"), LifSpec("svm2_iscsi_2", "10.0.2.22", "cluster1-02")),
    password="other-secret",
)
TWO_SVMS = dataclasses.replace(SPEC, svms=(SPEC.svms[0], NEIGHBOUR))


def build(bench: Bench) -> None:
    """What a fuzzed cluster holds, as far as it is not there: volumes, LUNs, maps, copies, clones, groups, a mirror."""
    for node in bench.do("GET", "/cluster/nodes", fields="state")["records"]:
        if node["state"] != "up":
            bench.call("PATCH", f"/cluster/nodes/{node['uuid']}", action="giveback", return_timeout=120)
    wishes: list[tuple[str, dict[str, Any]]] = []
    for svm, other in (("svm1", ""), ("svm2", "_hush")):
        wishes += [
            ("/storage/volumes", _volume(svm, f"vol1{other}", comment=HUSH if other else "")),
            ("/storage/volumes", _volume(svm, f"dp1{other}", type="dp")),
            ("/storage/luns", _lun(svm, f"/vol/vol1{other}/lun1")),
            ("/storage/luns", _lun(svm, f"/vol/vol1{other}/lun2")),
            ("/protocols/san/igroups", _igroup(svm, f"hv1{other}")),
        ]
    for path, body in wishes:
        bench.call("POST", path, body, return_timeout=120)
    for svm, other in (("svm1", ""), ("svm2", "_hush")):
        found = bench.do("GET", "/storage/volumes", **{"name": f"vol1{other}", "svm.name": svm})["records"]
        if not found:
            continue
        bench.call(
            "POST", f"/storage/volumes/{found[0]['uuid']}/snapshots", {"name": f"base{other}"}, return_timeout=120
        )
        body = {"svm.name": svm, "lun.name": f"/vol/vol1{other}/lun1", "igroup.name": f"hv1{other}"}
        bench.call("POST", "/protocols/san/lun-maps", body)
        members = [{"name": f"vol1{other}", "provisioning_options": {"action": "add"}}]
        bench.call(
            "POST", "/application/consistency-groups", {"svm.name": svm, "name": f"cg1{other}", "volumes": members}
        )
        origin = {"is_flexclone": True, "parent_volume.name": f"vol1{other}", "parent_snapshot.name": f"base{other}"}
        clone = {"svm.name": svm, "name": f"clone1{other}", "clone": origin}
        bench.call("POST", "/storage/volumes", clone, return_timeout=120)
        mirror = {"source.path": f"{svm}:vol1{other}", "destination.path": f"{svm}:dp1{other}"}
        bench.call("POST", "/snapmirror/relationships", mirror, return_timeout=120)


def _volume(svm: str, name: str, **more: Any) -> dict[str, Any]:
    body = {"svm.name": svm, "name": name, "aggregates": [{"name": "aggr1"}], "size": 100 * MIB}
    return {**body, "guarantee.type": "none", **more}


def _lun(svm: str, name: str) -> dict[str, Any]:
    return {"svm.name": svm, "name": name, "os_type": "hyper_v", "space.size": 16 * MIB}


def _igroup(svm: str, name: str) -> dict[str, Any]:
    return {"svm.name": svm, "name": name, "os_type": "hyper_v", "initiators": [{"name": IQN}]}


def uuids(core: Core) -> dict[str, list[str]]:
    """Of everything that a request can name, by its kind."""
    tables = {
        "volume": core.volumes, "lun": core.luns, "snapshot": core.snapshots, "igroup": core.igroups,
        "consistency_group": core.groups, "group_snapshot": core.group_snapshots, "svm": core.svms,
        "aggregate": core.aggregates, "node": core.nodes, "schedule": core.schedules, "policy": core.policies,
        "interface": core.lifs, "portset": core.portsets, "relationship": core.replication.relationships,
        "transfer": core.replication.transfers, "job": core.jobs, "mirror": core.replication.policies,
    }  # fmt: skip
    return {kind: sorted(table) for kind, table in tables.items()}


def send(bench: Bench, batch: list[Request], *, login: str = "admin:admin-secret") -> list[Any]:
    """The answers to requests that come at the same time: status and body; an exception ends the test."""

    async def one(request: Request) -> tuple[int, bytes, dict[str, str]]:
        path, _, query = request.url.partition("?")
        token = base64.b64encode(login.encode()).decode()
        headers = {"authorization": f"Basic {token}", **request.headers}
        sent: list[Any] = []
        waiting = [{"type": "http.request", "body": request.body, "more_body": False}]

        async def receive() -> dict[str, Any]:
            return waiting.pop() if waiting else {"type": "http.disconnect"}

        async def reply(message: Any) -> None:
            sent.append(message)

        await bench.array.app(
            {
                "type": "http",
                "method": request.method,
                "path": path,
                "raw_path": path.encode("ascii"),
                "query_string": query.encode("ascii"),
                "headers": [(k.encode(), v.encode()) for k, v in headers.items()],
            },
            receive,
            reply,
        )
        names = {k.decode(): v.decode("latin-1") for k, v in sent[0]["headers"]}
        return sent[0]["status"], sent[1]["body"], names

    async def all_of_them() -> list[tuple[int, bytes, dict[str, str]]]:
        return list(await asyncio.gather(*(one(request) for request in batch)))

    return bench.run(all_of_them())


def check_answer(request: Request, status: int, content: bytes, headers: dict[str, str]) -> None:
    """JSON (or a multipart body that was asked for), and an error body of ONTAP's form wherever it is no success."""
    if headers["content-type"].startswith("multipart/"):
        assert status == 200
        return
    body = json.loads(content)
    assert isinstance(body, dict)
    if status >= 300:
        assert isinstance(body["error"]["code"], str), (request, body)
        assert isinstance(body["error"]["message"], str), (request, body)
        assert status in (400, 401, 403, 404, 405, 409, 500), (request, status)
        assert body["error"]["message"] != "The job failed: internal error", request
        assert status != 500 or body["error"]["code"] in ("460770", "917536"), (request, body)


def check_records(core: Core) -> None:
    """Records and blocks tell the same, and no record points at one that is not there."""
    for volume in core.volumes.values():
        assert volume.svm in core.svms
        blocks = core.pool(volume.uuid)
        started = [hidden_name(fence) for fence in core.fences[True] if volume.uuid in fence.fenced_volumes]
        assert [*(s.name for s in core.snapshots_of(volume.uuid)), *started] == list(blocks.snapshots)
        for lun in core.luns_of(volume.uuid):
            assert blocks.files[lun.path].size >= lun.size
        for copy in core.snapshots_of(volume.uuid):
            assert {lun.path for lun in copy.luns} <= set(blocks.snapshots[copy.name].files)
        if volume.clone is not None:
            assert volume.clone.volume in core.volumes
            assert volume.clone.snapshot in core.snapshots
    for mapping in core.maps.values():
        assert mapping.lun in core.luns
        assert mapping.igroup in core.igroups
    for group in core.groups.values():
        assert set(group.volumes) <= set(core.volumes)


def rounds() -> st.SearchStrategy[list[list[Request]]]:
    """Requests, most of them alone, some at the same time as others."""
    alone = st.lists(requests(), min_size=1, max_size=1)
    return st.lists(st.one_of(alone, alone, st.lists(requests(), min_size=2, max_size=4)), min_size=4, max_size=12)


def play(folder: Path, batches: list[list[Request]]) -> None:
    """A new cluster, the requests by its administrator, and a look at what they have left."""
    with Bench(folder, TWO_SVMS) as bench:  # the end of it looks at the blocks
        failures: list[BaseException] = []
        bench.clock.on_failure = failures.append
        build(bench)
        core = bench.array.core
        for batch in batches:
            settled = [settle(request, uuids(core)) for request in batch]
            for request, (status, content, headers) in zip(settled, send(bench, settled), strict=True):
                check_answer(request, status, content, headers)
        bench.advance(30)
        assert failures == []
        check_records(core)


def belongings(core: Core, svm: str) -> dict[str, Any]:
    """Records of one SVM by uuid, of whatever kind."""
    volumes = {v.uuid: v for v in core.volumes.values() if v.svm == svm}
    own: dict[str, Any] = {svm: core.svms[svm], **volumes}
    for record in (*core.luns.values(), *core.igroups.values(), *core.groups.values(), *core.lifs.values()):
        if record.svm == svm:
            own[record.uuid] = record
    own |= {s.uuid: s for s in core.snapshots.values() if s.volume in volumes}
    own |= {s.uuid: s for s in core.group_snapshots.values() if s.group in own}
    own |= {x.uuid: x for x in core.replication.relationships.values() if x.destination.svm == svm}
    own |= {key: mapping for key, mapping in core.maps.items() if mapping.lun in own}
    return own


def cluster_wide(core: Core) -> dict[str, Any]:
    """Records that belong to no SVM."""
    own: dict[str, Any] = {**core.nodes, **core.aggregates, **core.schedules, **core.licences, **core.identity}
    for record in (*core.policies.values(), *core.replication.policies.values(), *core.lifs.values()):
        if record.svm is None:
            own[record.uuid] = record
    return own


def names_of(core: Core, own: Mapping[str, Any]) -> set[str]:
    """What some records are called, in full."""
    return {
        core.lun_name(record) if isinstance(record, r.Lun) else getattr(record, "name", "") for record in own.values()
    }


def trespass(folder: Path, batches: list[list[Request]]) -> None:
    """Requests by the administrator of svm1, and whether svm2 or the cluster was seen or touched."""
    with Bench(folder, TWO_SVMS) as bench:
        build(bench)
        bench.advance(400)  # records of the jobs that built all this are gone
        core = bench.array.core
        (other,) = [svm.uuid for svm in core.svms.values() if svm.name == "svm2"]
        before, shared = belongings(core, other), cluster_wide(core)
        secrets = {other, HUSH, *(core.luns[key].serial_number for key in before if key in core.luns)}
        secrets |= {part for key in before for part in key.split("/")}
        names = {name for name in names_of(core, before) if "_hush" in name}
        assert len(names) > 5
        said = ""  # a name that the administrator has said may well be one of svm1's own objects by now
        looks = [re.sub(r"{.*?}", "*", f"/api{c.path}?fields=**") for c in COLLECTIONS if "GET" in c.methods]
        for batch in [*batches, *([Request("GET", url)] for url in looks)]:
            settled = [settle(request, uuids(core)) for request in batch]
            said += "".join(request.text + unquote_plus(request.url) for request in settled)
            for request, (status, content, headers) in zip(
                settled, send(bench, settled, login="vsadmin:vs-secret"), strict=True
            ):
                check_answer(request, status, content, headers)
                text = content.decode("utf-8", "replace")
                shown = [secret for secret in secrets if secret in text and secret not in request.text]
                shown += [name for name in names if name in text and name not in said]
                assert shown == [], (request, text)
        bench.advance(30)
        assert belongings(core, other) == before
        assert cluster_wide(core) == shared
        check_records(core)


EXAMPLES = settings(database=None, deadline=None, suppress_health_check=list(HealthCheck))


@settings(EXAMPLES, max_examples=NORMAL, derandomize=True)
@given(batches=rounds())
def test_every_request_gets_an_answer(batches: list[list[Request]]) -> None:
    """Whatever is sent, alone or at the same time, the answer has ONTAP's form and the blocks stay sound."""
    with tempfile.TemporaryDirectory() as folder:
        play(Path(folder), batches)


@pytest.mark.long
@settings(EXAMPLES, max_examples=LONG)
@given(batches=rounds())
def test_every_one_of_many_requests_gets_an_answer(batches: list[list[Request]]) -> None:
    """The same thousands of times, with other requests in each run."""
    with tempfile.TemporaryDirectory() as folder:
        play(Path(folder), batches)


@settings(EXAMPLES, max_examples=NORMAL, derandomize=True)
@given(batches=rounds())
def test_an_svms_administrator_sees_and_touches_no_other_svm(batches: list[list[Request]]) -> None:
    """Whatever is named: nothing of another SVM in an answer, nothing of it or of the cluster changed."""
    with tempfile.TemporaryDirectory() as folder:
        trespass(Path(folder), batches)


@pytest.mark.long
@settings(EXAMPLES, max_examples=LONG)
@given(batches=rounds())
def test_many_more_requests_of_an_svms_administrator(batches: list[list[Request]]) -> None:
    """The same thousands of times, with other requests in each run."""
    with tempfile.TemporaryDirectory() as folder:
        trespass(Path(folder), batches)
