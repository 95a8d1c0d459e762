"""Requests of every kind to every route of the coverage table, sound ones and senseless ones, for the fuzz tests."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode

from hypothesis import strategies as st

from labenv.ontap.rest.api import COLLECTIONS
from labenv.ontap.rest.call import GENERAL
from labenv.ontap.rest.collection import Collection
from labenv.ontap.rest.model import Field
from labenv.ontap.rest.values import Kind

from .ontap_bench import IQN, MIB

METHODS = ("GET", "POST", "PATCH", "DELETE")
NOWHERE = "00000000-0000-4000-8000-000000000000"
NAMES = (
    "vol1", "vol2", "vol3", "clone1", "dp1", "dp2", "lun1", "lun2", "lun3", "base", "other", "hv1", "hv2", "cg1", "cg2",
    "svm1", "svm2", "svm3", "aggr1", "aggr2", "cluster1", "cluster1-01", "cluster1-02", "hourly", "daily", "default",
    "none", "Asynchronous", "MirrorAllSnapshots", "vol1_hush", "svm2:vol1_hush", "/vol/vol1_hush/lun1",
    "/vol/vol1/lun1", "/vol/vol1/lun2", "/vol/vol1/lun9",
    "/vol/vol2/lun1", "/vol/vol1/.snapshot/base/lun1", "svm1:vol1", "svm1:dp1", "svm2:dp2", "file1", ".snapshot/base",
    "", "/", "..", ".snapshot", "*", "null", "!null", "a|b", "<", "..5", "x" * 300, "ü", "名", "\x00", "a\nb", '"',
    "{}", "\ud800", IQN, "eui.0123456789abcdef", "20:00:00:00:00:00:00:01", "0:8:16", "8:0:99999999", "app",
    "snapmirror", "10.0.1.99", "e0c", "ps1",
)  # fmt: skip
NUMBERS = (-(2**70), -1, 0, 1, 2, 5, 100, 4096, MIB, 20 * MIB, 64 * MIB, 1 << 30, 1 << 50, 2**63, 2**70, 1.5, "7",
           "1GB", "9" * 5000, "-1", "²", "1e3", "0x10", "20MB")  # fmt: skip
TIMES = ("2013-03-05T08:00:00Z", "2000-01-01", "9999-12-31T23:59:59+00:00", "0001-01-01T00:00:00-23:00", "now", "P1D",
         "PT8M30S", "")  # fmt: skip
JUNK = (None, True, False, 0, "", [], {}, [[]], [{}], {"a": {"b": 1}}, "x", -1, 1e308, float("nan"), float("inf"))
SETTLED: Mapping[str, Sequence[Any]] = {
    "svm.name": ("svm1", "svm1", "svm2"),
    "lun.name": ("/vol/vol1/lun1", "/vol/vol1/lun2"),
    "igroup.name": ("hv1", "hv2"),
    "os_type": ("hyper_v", "windows"),
    "space.size": (64 * MIB, MIB, "100MB", 200 * MIB),
    "size": (64 * MIB, 20 * MIB, "100MB", 300 * MIB),
    "clone.parent_volume.name": ("vol1", "vol1_hush"),
    "clone.source.name": ("/vol/vol1/lun1", "/vol/vol1/.snapshot/base/lun1", "/vol/vol1_hush/lun1"),
    "aggregates": ([{"name": "aggr1"}], [{"name": "aggr2"}]),
    "volumes": ([{"name": "vol1", "provisioning_options": {"action": "add"}}], [{"name": "vol2"}]),
    "initiators": ([{"name": IQN}], []),
    "state": ("snapmirrored", "broken_off", "paused", "online", "offline", "running", "stopped", "aborted", "peered"),
    "action": ("start", "commit", "shutdown", "reboot", "giveback", "cancel", "pause"),
    "restore_to.snapshot.name": ("base", "s1", "s2"),
    "snapshot_policy.name": ("default", "none"),
    "policy.name": ("Asynchronous", "MirrorAllSnapshots"),
}
"""Values that get far; a list of objects is given whole."""
SVM1: dict[str, Any] = {"svm.name": "svm1"}
RECIPES: Mapping[str, Sequence[dict[str, Any]]] = {
    "/storage/volumes": (
        {**SVM1, "name": "vol2", "aggregates": [{"name": "aggr1"}], "size": 50 * MIB, "guarantee.type": "none"},
        {**SVM1, "name": "vol3", "aggregates": [{"name": "aggr2"}], "size": 40 * MIB},
        {**SVM1, "name": "dp2", "aggregates": [{"name": "aggr2"}], "type": "dp", "size": 90 * MIB},
        {**SVM1, "name": "clone2", "clone.is_flexclone": True, "clone.parent_volume.name": "vol1"},
        {**SVM1, "name": "clone3", "clone": {"parent_volume": {"name": "vol1"}, "parent_snapshot": {"name": "s1"}}},
        {**SVM1, "name": "clone4", "clone.is_flexclone": True, "clone.parent_volume.uuid": "zzvolume-7zz"},
        {"name": "clone5", "clone": {"parent_volume": {"uuid": "zzvolume-6zz"}, "parent_svm": {"name": "svm2"}}},
    ),
    "/storage/volumes/{volume.uuid}/snapshots": (
        {"name": "s1"}, {"name": "s2"}, {"name": "s3", "comment": "x"}, {"name": "s5", "volume.uuid": "zzvolume-5zz"},
    ),
    "/storage/luns": (
        {**SVM1, "name": "/vol/vol1/lun3", "os_type": "hyper_v", "space.size": 8 * MIB},
        {**SVM1, "name": "/vol/vol2/lun1", "os_type": "hyper_v", "space.size": 8 * MIB},
        {**SVM1, "name": "/vol/vol1/lun4", "clone.source.name": "/vol/vol1/lun1"},
        {**SVM1, "name": "/vol/vol1/lun5", "clone.source.name": "/vol/vol1/.snapshot/base/lun1"},
        {**SVM1, "name": "/vol/vol2/copy", "copy.source.name": "/vol/vol1/lun1"},
        {**SVM1, "name": "/vol/vol1/lun6", "clone.source.uuid": "zzlun-3zz"},
        {"name": "/vol/vol1/lun7", "copy.source.uuid": "zzlun-2zz"},
        {"name": "lun8", "location.volume.uuid": "zzvolume-4zz", "os_type": "hyper_v", "space.size": MIB},
    ),
    "/protocols/san/igroups": ({**SVM1, "name": "hv2", "os_type": "hyper_v", "initiators": [{"name": IQN}]},),
    "/protocols/san/igroups/{igroup.uuid}/initiators": ({"name": IQN + "9"}, {"records": [{"name": IQN + "8"}]}),
    "/protocols/san/lun-maps": (
        {**SVM1, "lun.name": "/vol/vol1/lun2", "igroup.name": "hv1"},
        {"lun.uuid": "zzlun-4zz", "igroup.uuid": "zzigroup-1zz"},
    ),
    "/protocols/san/portsets": (
        {**SVM1, "name": "ps1", "protocol": "iscsi", "interfaces": [{"uuid": "zzinterface-4zz"}]},
    ),
    "/protocols/san/iscsi/services": ({**SVM1, "enabled": True},),
    "/application/consistency-groups": (
        {**SVM1, "name": "cg2", "volumes": [{"name": "vol2", "provisioning_options": {"action": "add"}}]},
        {**SVM1, "name": "cg3", "volumes": [{"uuid": "zzvolume-3zz", "provisioning_options": {"action": "add"}}]},
    ),
    "/application/consistency-groups/{consistency_group.uuid}/snapshots": ({"name": "g1"}, {"name": "g2"}),
    "/storage/file/clone": (
        {"volume.name": "vol1", "source_path": "lun1", "destination_path": "lun7"},
        {"volume.name": "vol1", "source_path": "lun1", "destination_path": "lun2", "range": ["0:0:8"]},
        {"volume.name": "vol1", "source_path": ".snapshot/base/lun1", "destination_path": "lun6"},
        {"volume.uuid": "zzvolume-2zz", "source_path": "lun1", "destination_path": "lun5"},
    ),
    "/storage/snapshot-policies": (
        {**SVM1, "name": "p1", "enabled": True, "copies": [{"schedule.name": "daily", "count": 2}]},
    ),
    "/storage/aggregates": ({"name": "aggr9", "node.name": "cluster1-01", "block_storage.primary.disk_count": 5},),
    "/svm/svms": ({"name": "svm9"}, {"name": "svm8", "aggregates": [{"name": "aggr1"}]}),
    "/cluster/schedules": ({"name": "often", "cron": {"minutes": [1]}}, {"name": "seldom", "interval": "P1D"}),
    "/cluster/licensing/licenses": ({"keys": ["iscsi"]},),
    "/network/ip/interfaces": (
        {**SVM1, "name": "lif9", "ip": {"address": "10.0.1.9", "netmask": "24"},
         "location.home_node.name": "cluster1-01", "service_policy.name": "default-data-iscsi"},
    ),
    "/snapmirror/policies": ({**SVM1, "name": "mp1", "type": "async"},),
    "/snapmirror/relationships": (
        {"source.path": "svm1:vol1", "destination.path": "svm1:dp2"},
        {"source.path": "svm1:vol1", "destination.path": "svm1:vol9", "create_destination.enabled": True},
        {"source.path": "svm1:dp1", "destination.path": "svm1:vol1", "restore": True},
        {"source.path": "svm2:vol1_hush", "destination.path": "svm1:dp2"},
        {"source.path": "svm1:vol1", "destination.path": "svm2:dp9_hush", "create_destination.enabled": True},
        {"source.path": "svm1:vol1", "destination.path": "svm2:dp1_hush", "validate_only": True},
    ),
    "/snapmirror/relationships/{relationship.uuid}/transfers": ({}, {"source_snapshot": "base"}),
    "/support/ems/application-logs": (
        {"computer_name": "hv1", "event_source": "smhv", "app_version": "1", "event_id": 1, "event_description": "x",
         "severity": "notice", "category": "backup", "autosupport_required": False},
    ),
    "/svm/peers": ({**SVM1, "peer.svm.name": "svm2", "applications": ["snapmirror"]},),
    "/private/cli/volume/snapshot/restore-file": (
        {"vserver": "svm2", "volume": "vol1_hush", "snapshot": "base_hush", "path": "/lun1"},
        {"vserver": "svm1", "volume": "vol1", "snapshot": "base", "path": "/lun1"},
    ),
    "/private/cli/storage/failover/takeover": ({"ofnode": "cluster1-01"},),
    "/private/cli/storage/failover/giveback": ({"ofnode": "cluster1-01"},),
}  # fmt: skip
"""POST bodies that succeed, given that what they need is there."""
PATCHES: Mapping[str, Sequence[dict[str, Any]]] = {
    "/storage/volumes": (
        {"state": "offline"}, {"state": "online"}, {"clone.split_initiated": True}, {"size": 150 * MIB},
        {"restore_to.snapshot.name": "base"}, {"efficiency.scanner.state": "running"}, {"name": "vol4"},
        {"efficiency.dedupe": "background"}, {"space.snapshot.reserve_percent": 50}, {"guarantee.type": "volume"},
    ),
    "/storage/luns": (
        {"enabled": False}, {"enabled": True}, {"space.size": 32 * MIB}, {"name": "/vol/vol1/lun8"},
        {"clone.source.name": "/vol/vol1/.snapshot/base/lun1"}, {"space.guarantee.requested": True},
    ),
    "/snapmirror/relationships": (
        {"state": "snapmirrored"}, {"state": "broken_off"}, {"state": "paused"}, {"policy.name": "MirrorAllSnapshots"},
        {"source.path": "svm1:dp1", "destination.path": "svm1:vol1", "state": "snapmirrored"},
    ),
    "/snapmirror/relationships/{relationship.uuid}/transfers": ({"state": "aborted"}, {"state": "hard_aborted"}),
    "/storage/volumes/{volume.uuid}/snapshots": ({"name": "s4"}, {"expiry_time": "2013-03-04T09:00:00Z"}),
    "/application/consistency-groups": ({"restore_to.snapshot.name": "g1"},),
    "/storage/snapshot-policies": ({"enabled": False}, {"comment": "mine"}),
    "/snapmirror/policies": ({"comment": "mine"}, {"throttle": 1}),
    "/svm/svms": ({"state": "stopped"}, {"state": "running"}, {"name": "svm7"}),
    "/network/ip/interfaces": ({"enabled": False}, {"enabled": True}),
    "/protocols/san/iscsi/services": ({"enabled": False}, {"enabled": True}),
}  # fmt: skip
KINDS = {
    "/storage/volumes": "volume", "/storage/luns": "lun", "/protocols/san/igroups": "igroup", "/svm/svms": "svm",
    "/application/consistency-groups": "consistency_group", "/snapmirror/relationships": "relationship",
    "/storage/volumes/{volume.uuid}/snapshots": "snapshot", "/cluster/nodes": "node",
    "/storage/aggregates": "aggregate", "/network/ip/interfaces": "interface",
    "/protocols/san/portsets": "portset", "/cluster/schedules": "schedule",
    "/snapmirror/relationships/{relationship.uuid}/transfers": "transfer", "/cluster/jobs": "job",
    "/storage/snapshot-policies": "policy", "/protocols/san/iscsi/services": "svm", "/snapmirror/policies": "mirror",
    "/application/consistency-groups/{consistency_group.uuid}/snapshots": "group_snapshot",
}  # fmt: skip
"""Path of a collection -> what its records' uuids are of."""


@dataclass(frozen=True)
class Request:
    """An HTTP request: the URL below the host, and the body as it is sent."""

    method: str
    url: str
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """All that the request says."""
        return f"{self.method} {self.url} {self.body.decode('utf-8', 'replace')} {dict(self.headers)}"


def _value(kind: Kind, name: str, careful: bool) -> st.SearchStrategy[Any]:
    junk = st.one_of(st.sampled_from(JUNK), st.text(max_size=8), st.integers())
    sound: st.SearchStrategy[Any]
    if kind is Kind.BOOLEAN:
        sound = st.sampled_from((True, False, "true", "no"))
    elif kind in (Kind.INTEGER, Kind.SIZE):
        sound = st.sampled_from(NUMBERS)
    elif kind is Kind.TIME:
        sound = st.sampled_from(TIMES)
    elif kind is Kind.TEXTS:
        sound = st.lists(st.sampled_from(NAMES), max_size=3)
    elif name.endswith("uuid"):
        sound = token(name.split(".")[-2] if "." in name else "any")
    else:
        sound = st.sampled_from(NAMES)
    return sound if careful else st.one_of(sound, junk)


def token(kind: str) -> st.SearchStrategy[str]:
    """Stands for the uuid of a thing of a kind (``any``: of whatever there is), or for one that nothing has."""
    return st.one_of(st.integers(0, 30).map(lambda n: f"zz{kind}-{n}zz"), st.just(NOWHERE))


def settle(request: Request, there: Mapping[str, Sequence[str]]) -> Request:
    """The request with the uuids of what is there now in the places of tokens."""
    every = [uuid for uuids in there.values() for uuid in uuids]

    def uuid(match: re.Match[str]) -> str:
        names = there.get(match[1]) or every
        return names[int(match[2]) % len(names)]

    url = re.sub(r"zz([a-z_]+)-(\d+)zz", uuid, request.url)
    body = re.sub(r"zz([a-z_]+)-(\d+)zz", uuid, request.body.decode("latin-1")).encode("latin-1")
    return dataclasses.replace(request, url=url, body=body)


@st.composite
def _field_value(draw: st.DrawFn, item: Field, *, careful: bool) -> Any:
    if item.name in SETTLED and (careful or draw(st.booleans())):
        return draw(st.sampled_from(SETTLED[item.name]))
    if item.choices and (careful or draw(st.booleans())):
        return draw(st.sampled_from(item.choices))
    if item.items and (careful or draw(st.booleans())):
        return [draw(_object(item.items, careful=careful)) for _ in range(draw(st.integers(0, 2)))]
    return draw(_value(item.kind, item.name, careful))


@st.composite
def _object(draw: st.DrawFn, items: Sequence[Field], *, careful: bool, most: int = 4) -> dict[str, Any]:
    if not items:
        return {}
    chosen = draw(st.lists(st.sampled_from(list(items)), max_size=most, unique_by=lambda f: f.name))
    return {item.name: draw(_field_value(item, careful=careful)) for item in chosen}


RAW = (
    b"{", b"[]", b"null", b"\xff\xfe", b'{"a":}', b"[" * 100_000, b'{"a":' * 50_000, b'{"name":"\\ud800"}',
    b'{"size":1e999}', b'{"size":NaN}', b"1" * 5000, b'{"records":null}', b'{"records":[1,null]}', b'{"svm":[]}',
    b'{"a":' * 400 + b"1" + b"}" * 400,
)  # fmt: skip
"""Bodies that are no JSON, no object, or hardly one."""


@st.composite
def _body(draw: st.DrawFn, collection: type[Collection], method: str, *, careful: bool) -> bytes:
    shape = draw(st.integers(0, 9))
    if not careful and shape == 0:
        return draw(st.sampled_from(RAW))
    recipes = (RECIPES if method == "POST" else PATCHES).get(collection.path, ({},))
    items = [f for f in collection.fields if (f.create if method == "POST" else f.modify)]
    body = dict(draw(st.sampled_from(recipes)))
    if shape > 6 or not careful:
        body |= draw(_object(items, careful=careful, most=2 if careful else 5))
    if not careful and shape == 1:
        body[draw(st.sampled_from(("colour", "svm.colour", "_links", "records", "svm")))] = draw(st.sampled_from(JUNK))
    if not careful and shape == 2:
        body.pop(draw(st.sampled_from(sorted(body))) if body else "", None)
    if shape == 3:
        body = {"records": [body, draw(_object(items, careful=careful))]}
    shift = draw(st.integers(0, 9))
    text = re.sub(r"zz([a-z_]+)-(\d+)zz", lambda m: f"zz{m[1]}-{int(m[2]) + shift}zz", json.dumps(body))
    return text.encode()


@st.composite
def _query(draw: st.DrawFn, collection: type[Collection], method: str, *, careful: bool) -> dict[str, str]:
    query: dict[str, str] = {}
    for item in collection.parameters.get(method, ()):
        if draw(st.integers(0, 3)) == 0:
            query[item.name] = str(draw(_field_value(item, careful=careful)))
    names = [f.name for f in collection.fields] or ["name"]
    if not careful or method == "GET":
        for _ in range(draw(st.integers(0, 2))):
            name = draw(st.sampled_from(names))
            kind = next((f.kind for f in collection.fields if f.name == name), Kind.TEXT)
            sign = draw(st.sampled_from(("", "", "!", "<", ">=", "1..", "*", "|")))
            query[name] = f"{sign}{draw(_value(kind, name, careful))}"
        for name in draw(st.lists(st.sampled_from((*GENERAL, "start.index", "start.uuid", "data.size")), max_size=2)):
            query[name] = draw(
                st.sampled_from(("*", "**", "name", "uuid,name", "0", "1", "120", "2147483647", "-1", "true", "²", "",
                                 "x", "name desc", "statistics", *names[:6]))
            )  # fmt: skip
    if method != "GET" and draw(st.booleans()):
        query["return_timeout"] = "120"
    return query


HEADERS = (
    ("content-type", "multipart/form-data"), ("content-type", "multipart/form-data; boundary=x"),
    ("accept", "multipart/form-data"), ("accept", "application/json"), ("x-dot-svm-name", "svm1"),
    ("x-dot-svm-name", "svm2"), ("x-dot-svm-uuid", "nonsense"), ("authorization", "Basic !"),
    ("authorization", "Bearer x"), ("authorization", "Basic /////w=="), ("x-dot-client-app", "ü" * 300),
)  # fmt: skip


@st.composite
def _segments(draw: st.DrawFn, collection: type[Collection], method: str, *, careful: bool) -> list[str]:
    segments = []
    for part in collection.path.split("/")[1:]:
        kind = part[1:-1].split(".")[0] if careful else "any"
        segments.append(draw(st.one_of(token(kind), token(kind), st.just("*"))) if part.startswith("{") else part)
    if (method != "POST" or collection.named_by_client) and collection.keys and draw(st.integers(0, 4)):
        for key in collection.keys:
            kind = key.split(".")[0] if "." in key else KINDS.get(collection.path, "")
            if key.endswith("uuid"):
                segments.append(draw(token(kind if careful else "any")))
            else:
                segments.append(draw(st.sampled_from(NAMES)))
    if not careful and draw(st.integers(0, 30)) == 0:
        segments.append(draw(st.sampled_from(NAMES)))
    return segments


@st.composite
def requests(draw: st.DrawFn) -> Request:
    """Any request, with tokens for uuids."""
    careful = draw(st.integers(0, 2)) > 0
    collection = draw(st.sampled_from(COLLECTIONS))
    method = draw(st.sampled_from(collection.methods if careful else (*METHODS, "PUT", "HEAD", "OPTIONS", "BREW")))
    path = "/".join(
        quote(part, safe="*", errors="replace") for part in draw(_segments(collection, method, careful=careful))
    )
    query = urlencode(draw(_query(collection, method, careful=careful)), errors="replace")
    body = b""
    if method in ("POST", "PATCH") or not careful:
        body = draw(_body(collection, method, careful=careful))
    headers = {}
    if draw(st.integers(0, 14)) == 0:
        name, value = draw(st.sampled_from(HEADERS))
        headers[name] = value
    if headers.get("content-type", "").endswith("=x"):
        body = b'--x\r\nContent-Disposition: form-data; name="data"\r\n\r\n' + body + b"\r\n--x--\r\n"
    return Request(method, f"/api/{path}" + (f"?{query}" if query else ""), body, headers)
