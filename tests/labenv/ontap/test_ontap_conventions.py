"""The conventions of the API, request by request, over the ASGI application."""

from __future__ import annotations

import pytest

from .ontap_bench import IQN, MIB, Bench


def test_a_bad_login_is_401(bench: Bench) -> None:
    """Nothing is told to who does not log in."""
    for answer in (bench.http("GET", "/api/cluster", password="wrong"), bench.http("GET", "/api/cluster", user="x")):
        assert (answer.status, answer.code) == (401, "6691623")
        assert answer.headers["www-authenticate"].startswith("Basic")
    assert bench.http("GET", "/api/cluster", authorization="Basic !!!").status == 401


def test_an_svm_administrator_is_confined_to_the_svm(bench: Bench) -> None:
    """vsadmin reads the cluster's version and its own SVM's things; nodes, aggregates and changes of SVMs are 403/6."""
    bench.volume()
    own = {"user": "vsadmin", "password": "vs-secret"}
    other = {"user": "vsadmin", "password": "other-secret"}
    assert bench.http("GET", "/api/cluster?fields=version", **own).json["version"]["generation"] == 9
    kinds = {"san_optimized", "disaggregated"}
    assert kinds <= set(bench.http("GET", "/api/cluster?fields=*").json)
    assert not kinds & set(bench.http("GET", f"/api/cluster?fields={','.join(kinds)}", **own).json)
    for path in ("/cluster/nodes", "/storage/aggregates", "/cluster/licensing/licenses"):
        assert (bench.http("GET", f"/api{path}", **own).status, bench.http("GET", f"/api{path}", **own).code) == (
            403,
            "6",
        )
    assert bench.http("POST", "/api/svm/svms", {"name": "svm9"}, **own).code == "6"
    assert [s["name"] for s in bench.http("GET", "/api/svm/svms", **own).json["records"]] == ["svm1"]
    assert bench.http("GET", "/api/storage/volumes?name=vol1", **own).json["num_records"] == 1
    assert bench.http("GET", "/api/storage/volumes?name=vol1", **other).json["num_records"] == 0
    uuid = bench.one("/storage/volumes", name="vol1")["uuid"]
    assert bench.http("GET", f"/api/storage/volumes/{uuid}/snapshots", **other).status == 404
    assert bench.http("DELETE", f"/api/storage/volumes/{uuid}", **other).status == 404


def test_an_svm_administrator_need_not_name_the_svm(bench: Bench) -> None:
    """A body without svm means the caller's own; another SVM's name does not help."""
    group = {"name": "g1", "os_type": "hyper_v"}
    made = bench.http("POST", "/api/protocols/san/igroups", group, user="vsadmin", password="vs-secret")
    assert made.status == 201
    assert bench.one("/protocols/san/igroups", name="g1")["svm"]["name"] == "svm1"
    group = {**group, "name": "g2", "svm": {"name": "svm2"}}
    refused = bench.http("POST", "/api/protocols/san/igroups", group, user="vsadmin", password="vs-secret")
    assert refused.code == "2621462"


def test_tunnelling_confines_an_administrator(bench: Bench) -> None:
    """X-Dot-SVM-Name supplies the SVM and hides the others; an SVM's own administrator cannot be tunnelled."""
    bench.volume()
    group = {"name": "g1", "os_type": "hyper_v"}
    assert bench.http("POST", "/api/protocols/san/igroups", group, X_Dot_SVM_Name="svm1").status == 201
    listed = bench.http("GET", "/api/protocols/san/igroups", X_Dot_SVM_Name="svm2")
    assert listed.json["num_records"] == 0
    own = {"user": "vsadmin", "password": "vs-secret"}
    assert bench.http("GET", "/api/storage/volumes", X_Dot_SVM_Name="svm1", **own).code == "6"
    assert bench.http("GET", "/api/storage/volumes", X_Dot_SVM_Name="nope").code == "2621462"


@pytest.mark.parametrize(
    ("fields", "shown", "absent"),
    [
        ("", {"uuid", "name"}, {"size", "space"}),
        ("size", {"uuid", "name", "size"}, {"space"}),
        ("space", {"space"}, {"size"}),
        ("space.snapshot.reserve_percent,,", {"space"}, {"size"}),
        ("*", {"size", "state", "space", "efficiency"}, set()),
        ("**", {"size", "state", "space", "efficiency"}, set()),
        ("aggregates.name", {"aggregates"}, {"size"}),
        ("svm.*", {"svm"}, {"size"}),
    ],
)
def test_fields_select(bench: Bench, fields: str, shown: set[str], absent: set[str]) -> None:
    """Keys always come; a parent selects its children; ``*`` and ``**`` select all."""
    bench.volume()
    record = bench.do("GET", "/storage/volumes", name="vol1", **({"fields": fields} if fields else {}))["records"][0]
    assert shown <= set(record)
    assert not absent & set(record)
    if fields == "aggregates.name":
        assert record["aggregates"] == [{"name": "aggr1"}]
    if fields.startswith("space.s"):
        assert record["space"] == {"snapshot": {"reserve_percent": 5}}


def test_expensive_fields_come_when_named(bench: Bench) -> None:
    """LUN maps are shown by name or with ``**``, not with ``*``."""
    bench.volume()
    uuid = bench.lun()
    bench.igroup()
    bench.map()
    path = f"/storage/luns/{uuid}"
    assert "lun_maps" not in bench.do("GET", path)
    assert "lun_maps" not in bench.do("GET", path, fields="*")
    for fields in ("lun_maps", "**", "lun_maps.igroup.name"):
        assert bench.do("GET", path, fields=fields)["lun_maps"][0]["igroup"]["name"] == "hv1"


def test_hal_links_follow_the_accept_header(bench: Bench) -> None:
    """``*/*`` and hal+json get links, application/json does not; the links lead back to the record."""
    uuid = bench.volume()
    record = bench.http("GET", f"/api/storage/volumes/{uuid}").json
    assert record["_links"]["self"]["href"] == f"/api/storage/volumes/{uuid}"
    assert bench.http("GET", record["svm"]["_links"]["self"]["href"]).json["name"] == "svm1"
    plain = bench.http("GET", f"/api/storage/volumes/{uuid}", accept="application/json")
    assert "_links" not in plain.json
    assert plain.headers["content-type"] == "application/json"
    assert bench.http("GET", "/api/cluster", accept="application/hal+json").headers["content-type"] == (
        "application/hal+json"
    )


def test_pages_follow_next_links_to_the_end(bench: Bench) -> None:
    """max_records splits a collection; the next links give every record once, in order, HAL or not."""
    for number in range(5):
        bench.volume(f"v{number}")
    href, seen = "/api/storage/volumes?max_records=2&name=v*&order_by=name+desc&fields=size", []
    while href:
        page = bench.http("GET", href, accept="application/json").json
        assert page["num_records"] == len(page["records"]) <= 2
        assert all("size" in record for record in page["records"])
        seen += [record["name"] for record in page["records"]]
        href = page.get("_links", {}).get("next", {}).get("href")
    assert seen == ["v4", "v3", "v2", "v1", "v0"]


def test_return_records_false_only_counts(bench: Bench) -> None:
    """A GET can be asked for the number only."""
    assert bench.do("GET", "/svm/svms", return_records="false") == {"num_records": 2}


@pytest.mark.parametrize(
    "path",
    ["/api/svm/svms/?name=svm1", "/api//svm//svms?name=svm1", "/api/svm/svms?name=svm%2A&iscsi.enabled=true"],
)
def test_loose_urls_are_understood(bench: Bench, path: str) -> None:
    """Trailing and double slashes and encoded wildcards are as good."""
    assert [record["name"] for record in bench.http("GET", path).json["records"]] == ["svm1"]


def test_loose_bodies_are_understood(bench: Bench) -> None:
    """Nested and dotted keys mix; numbers and booleans come as strings; sizes have units."""
    body = {
        "name": "vol1",
        "svm.name": "svm1",
        "aggregates": [{"name": "aggr1"}],
        "space": {"size": "1.5GB", "snapshot.reserve_percent": "0"},
        "guarantee.type": "none",
        "clone": {"is_flexclone": "false"},
    }
    bench.do("POST", "/storage/volumes", body)
    volume = bench.one("/storage/volumes", name="vol1")
    assert (volume["size"], volume["space"]["snapshot"]["reserve_percent"]) == (3 << 29, 0)


def test_an_unknown_field_can_be_ignored(bench: Bench) -> None:
    """ignore_unknown_fields drops what a version does not know."""
    answer = bench.do("GET", "/cluster", fields="version,nonsense", ignore_unknown_fields="true")
    assert set(answer) >= {"version"}


def test_svm_is_short_for_its_name(bench: Bench) -> None:
    """``svm=x`` filters like ``svm.name=x``."""
    bench.volume()
    assert bench.do("GET", "/storage/volumes", svm="svm2", is_svm_root="false")["num_records"] == 0
    assert bench.do("GET", "/storage/volumes", svm="svm1", is_svm_root="false")["num_records"] == 1


def test_a_bulk_post_makes_all_or_refuses_all(bench: Bench) -> None:
    """``records`` makes several; one that is refused keeps the others from being made."""
    uuid = bench.volume()
    bench.igroup()
    path = f"/protocols/san/igroups/{bench.one('/protocols/san/igroups')['uuid']}/initiators"
    names = [f"iqn.1991-05.com.microsoft:hv{n}" for n in (2, 3)]
    status, answer = bench.call("POST", path, {"records": [{"name": n} for n in names]}, return_records="true")
    assert status == 201
    assert [record["name"] for record in answer["records"]] == names
    status, _ = bench.call("POST", path, {"records": [{"name": "iqn.1991-05.com.microsoft:hv4"}, {"name": IQN}]})
    assert status == 409
    assert bench.do("GET", path)["num_records"] == 3
    bodies = [{"name": "bulk", "volume.name": "vol1"}, {"name": "bulk", "volume.name": "svm1_root"}]
    status, answer = bench.call("POST", "/storage/volumes/*/snapshots", {"records": bodies}, return_timeout=10)
    assert (status, len(answer["jobs"])) == (201, 2)
    assert bench.do("GET", "/storage/volumes/*/snapshots", name="bulk")["num_records"] == 2
    assert bench.do("GET", f"/storage/volumes/{uuid}/snapshots")["num_records"] == 1


def test_changes_by_query_reach_every_match(bench: Bench) -> None:
    """PATCH and DELETE of a collection act on what the query finds, and need a query."""
    bench.volume()
    for number in range(3):
        bench.lun(f"/vol/vol1/l{number}", MIB)
    assert bench.do("PATCH", "/storage/luns", {"comment": "old"}, name="/vol/vol1/l*") == {"num_records": 3}
    assert bench.do("DELETE", "/storage/luns", comment="old", name="!/vol/vol1/l0") == {"num_records": 2}
    assert [lun["name"] for lun in bench.do("GET", "/storage/luns")["records"]] == ["/vol/vol1/l0"]
    assert bench.call("PATCH", "/storage/luns", {"comment": "x"})[1]["error"]["code"] == "2"


def test_where_a_new_thing_is(bench: Bench) -> None:
    """Jobs answer 202 with the query form of Location; what is made at once answers 201 with its own path."""
    bench.volume()
    body = {"name": "vol2", "svm": {"name": "svm1"}, "aggregates": [{"name": "aggr1"}]}
    later = bench.http("POST", "/api/storage/volumes", body)
    assert (later.status, later.headers["location"]) == (202, "/api/storage/volumes/?name=vol2")
    job = later.json["job"]
    assert job["_links"]["self"]["href"] == f"/api/cluster/jobs/{job['uuid']}"
    now = bench.http("POST", "/api/protocols/san/igroups", {"name": "g", "os_type": "hyper_v", "svm.name": "svm1"})
    assert now.status == 201
    assert bench.http("GET", now.headers["location"]).json["name"] == "g"
    plain = bench.http("POST", "/api/storage/volumes", {**body, "name": "vol3"}, accept="application/json")
    assert plain.json["job"]["_links"]["self"]["href"].startswith("/api/cluster/jobs/")


def test_a_body_that_is_not_json_is_refused(bench: Bench) -> None:
    """The body is an object."""
    for body in (b"{", b"[]", b"name=x"):
        assert bench.http("POST", "/api/storage/volumes", body).code == "262198"


def test_lun_data_goes_both_ways(bench: Bench) -> None:
    """A multipart PATCH writes a LUN's bytes, GET reads them, binary and up to a mebibyte."""
    bench.volume()
    path = f"/api/storage/luns/{bench.lun()}"
    data = bytes(range(256)) * 4
    form = b'--xyz\r\nContent-Disposition: form-data; name="data"; filename="d"\r\n\r\n' + data + b"\r\n--xyz--\r\n"
    kind = "multipart/form-data; boundary=xyz"
    assert bench.http("PATCH", f"{path}?data.offset=4096", form, content_type=kind).status == 200
    read = bench.http("GET", f"{path}?data.offset=4096&data.size=1024", accept="multipart/form-data")
    assert read.headers["content-type"].startswith("multipart/form-data; boundary=")
    assert data in read.content
    too_much = bench.http("GET", f"{path}?data.offset=0&data.size=1048577", accept="multipart/form-data")
    assert too_much.code == "262197"


def test_applications_report_events(bench: Bench) -> None:
    """What SnapDrive and SMHV log to the array can be read back as an event."""
    body = {
        "computer_name": "hv1",
        "event_source": "SnapManager for Hyper-V",
        "app_version": "1.2",
        "event_id": 101,
        "category": "Backup",
        "event_description": "Backup of dataset ds1 has begun",
        "severity": "notice",
        "autosupport_required": "false",
    }
    assert bench.http("POST", "/api/support/ems/application-logs", body).status == 201
    event = bench.one("/support/ems/events", fields="*")
    assert "(101) Backup: Backup of dataset ds1 has begun" in event["log_message"]
