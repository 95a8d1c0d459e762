"""Portsets, sessions, events, the audit log, the clustershell's commands, and what is always empty."""

from __future__ import annotations

from typing import Any

import pytest

from labenv.faults import Fault
from labenv.ontap.core import Login

from .ontap_bench import IQN, Bench


def code(answer: tuple[int, Any]) -> str:
    return str(answer[1]["error"]["code"])


PORTSETS = "/protocols/san/portsets"


def test_a_portset_narrows_what_a_group_sees(bench: Bench) -> None:
    """A group that is bound to a portset sees its LUNs only through the portset's interfaces."""
    bench.volume()
    bench.lun()
    group = bench.igroup()
    bench.map()
    svm = {"svm.name": "svm1"}
    bench.do("POST", PORTSETS, {"name": "p1", **svm, "interfaces": [{"ip": {"name": "svm1_iscsi_1"}}]})
    bench.do("POST", PORTSETS, {"name": "empty", **svm, "protocol": "fcp"})
    portset = bench.one(PORTSETS, name="p1")
    path = f"/protocols/san/igroups/{group}"
    assert code(bench.call("PATCH", path, {"portset.name": "empty"})) == "5374027"
    assert code(bench.call("PATCH", path, {"portset.name": "none"})) == "5374911"
    bench.do("PATCH", path, {"portset.name": "p1"})
    assert bench.one(PORTSETS, name="p1")["igroups"] == [{"uuid": group, "name": "hv1"}]
    assert len(bench.units()) == 1
    lif = bench.one("/network/ip/interfaces", name="svm1_iscsi_1")["uuid"]
    bench.do("PATCH", f"/network/ip/interfaces/{lif}", {"enabled": False})
    (target,) = bench.array.targets("10.0.1.22")
    assert list(bench.array.logical_units(IQN, target.name)) == []
    members = f"{PORTSETS}/{portset['uuid']}/interfaces"
    bench.do("POST", members, {"ip": {"name": "svm1_iscsi_2"}})
    assert len(bench.array.logical_units(IQN, target.name)) == 1
    assert code(bench.call("POST", members, {"ip": {"name": "svm1_iscsi_2"}})) == "5374915"
    assert code(bench.call("POST", members, {"ip": {"name": "svm1_mgmt"}})) == "5374914"
    assert code(bench.call("POST", members, {})) == "5374910"
    assert code(bench.call("DELETE", f"{PORTSETS}/{portset['uuid']}")) == "5374063"
    bench.do("DELETE", f"{members}/{lif}")
    assert code(bench.call("DELETE", f"{members}/{lif}")) == "5374916"
    bench.do("PATCH", path, {"portset.name": ""})
    bench.do("DELETE", f"{PORTSETS}/{portset['uuid']}")
    assert code(bench.call("DELETE", f"{PORTSETS}/{portset['uuid']}")) == "5374908"


def test_sessions_are_those_of_the_hosts(bench: Bench) -> None:
    """Logins that the hosts report are listed by portal, with the groups of their initiator."""
    bench.igroup()
    target = bench.one("/protocols/san/iscsi/services")["target"]["name"]
    logins = [
        Login(IQN, target, "10.0.1.21", "10.0.9.1", "ffff8f00-4000013700000001"),
        Login(IQN, target, "10.0.1.22", "10.0.9.2", "ffff8f00-4000013700000002"),
        Login(IQN, "iqn.elsewhere", "10.0.1.21", "", ""),
        Login(IQN, target, "10.9.9.9", "", ""),
    ]
    path = "/protocols/san/iscsi/sessions"
    assert bench.do("GET", path)["num_records"] == 0
    bench.array.logins(lambda: logins)
    first, second = bench.do("GET", path, fields="*")["records"]
    assert (first["tsih"], first["target_portal_group"], first["isid"]) == (1, "svm1_iscsi_1", "40:00:01:37:00:00")
    assert second["igroups"][0]["name"] == "hv1"
    assert second["connections"][0]["interface"]["ip"]["address"] == "10.0.1.22"
    assert bench.do("GET", f"{path}/{first['svm']['uuid']}/svm1_iscsi_2/2")["tsih"] == 2
    assert bench.http("GET", f"/api{path}", user="vsadmin", password="other-secret").json["num_records"] == 0


@pytest.mark.parametrize(
    "path",
    [
        "/storage/qtrees", "/network/fc/interfaces", "/network/fc/ports", "/network/fc/logins",
        "/protocols/san/fcp/services",
    ],
)  # fmt: skip
def test_what_the_lab_has_none_of_is_empty(bench: Bench, path: str) -> None:
    """Collections that clients look at can be read and filtered, and refuse to grow."""
    assert bench.do("GET", path, fields="*") == {"records": [], "num_records": 0}
    assert bench.do("GET", path, **({} if "ports" in path else {"svm.name": "svm1"}))["num_records"] == 0
    assert bench.call("POST", path, {"name": "x"})[0] == 405
    assert bench.call("GET", f"{path}/x/y" if "qtrees" in path or "logins" in path else f"{path}/x")[0] == 404


def test_applications_report_events(bench: Bench) -> None:
    """An application's message becomes an event with its parameters; the SVM's administrator may send, not read."""
    body = {
        "computer_name": "hv1", "event_source": "SMHV", "app_version": "1.2", "event_id": 301, "category": "backup",
        "event_description": "backup done", "severity": "notice", "autosupport_required": True,
    }  # fmt: skip
    answer = bench.http("POST", "/api/support/ems/application-logs", body, user="vsadmin", password="vs-secret")
    assert answer.status == 201
    event = bench.one("/support/ems/events", message__name="app.log.*")
    assert event["log_message"] == "app.log.notice: hv1: SMHV 1.2: (301) backup: backup done"
    assert {"name": "event_id", "value": "301"} in event["parameters"]
    shown = bench.do("GET", f"/support/ems/events/{event['node']['name']}/{event['index']}")
    assert shown["message"]["severity"] == "notice"
    assert bench.http("GET", "/api/support/ems/events", user="vsadmin", password="vs-secret").status == 403


def test_events_are_a_ring(bench: Bench) -> None:
    """The newest thousand events are kept, and their numbers go on."""
    core = bench.array.core

    def fill() -> None:
        from labenv.ontap.events import MOST, emit

        for number in range(MOST + 5):
            emit(core, "test.event", severity="debug", text=str(number))

    fill()
    assert (len(core.events), next(iter(core.events)), core.counters["event"]) == (1000, "6", 1005)


def test_changes_are_in_the_audit_log(bench: Bench) -> None:
    """Who sent what, with which application and how it ended; no reads, no bodies, no secrets."""
    body = {"name": "vol1", "svm.name": "svm1", "aggregates": [{"name": "aggr1"}], "comment": "hush"}
    bench.http("POST", "/api/storage/volumes?return_timeout=10", body, X_Dot_Client_App="smhvlab 0.1")
    bench.http("DELETE", "/api/storage/volumes/none", user="vsadmin", password="vs-secret")
    bench.http("GET", "/api/storage/volumes")
    bench.kill()
    created, refused = bench.do("GET", "/security/audit/messages", fields="*")["records"]
    assert created["input"] == "POST /api/storage/volumes?return_timeout=10"
    assert (created["message"], created["state"], created["user"]) == ("smhvlab 0.1", "success", "admin")
    assert (refused["state"], refused["user"], refused["svm"]["name"]) == ("error", "vsadmin", "svm1")
    assert "hush" not in str(bench.do("GET", "/security/audit/messages", fields="**"))


def test_a_job_fails_on_demand(bench: Bench) -> None:
    """A fault lets the job of a request fail with a code and a message; nothing is made."""
    fault = Fault(
        "ontap.request", "job-failure", {"method": "POST", "path": "*volumes"}, code="917536", message="broken disk"
    )
    bench.faults.set(fault)
    body = {"name": "vol1", "svm.name": "svm1", "aggregates": [{"name": "aggr1"}]}
    answer = bench.http("POST", "/api/storage/volumes", body)
    assert answer.status == 202
    bench.advance(10)
    job = bench.do("GET", f"/cluster/jobs/{answer.json['job']['uuid']}")
    assert (job["state"], job["code"], job["error"]["message"]) == ("failure", 917536, "broken disk")
    bench.faults.set(Fault("ontap.request", "job-failure"))
    answer = bench.http("POST", "/api/storage/volumes?return_timeout=20", body)
    assert (answer.status, answer.code) == (500, "460770")
    assert bench.do("GET", "/storage/volumes", name="vol1")["num_records"] == 0
    assert bench.http("POST", "/api/storage/volumes?return_timeout=20", body).status == 201


def test_empty_changes_can_be_refused(bench: Bench) -> None:
    """As ONTAP, the array is content with a PATCH that says nothing, unless it is told to be strict."""
    path = f"/storage/volumes/{bench.volume()}"
    assert bench.call("PATCH", path, {})[0] == 200
    bench.array.refuse_empty_changes()
    assert code(bench.call("PATCH", path, {})) == "2"
    bench.snapshot(path.rpartition("/")[2], "s")
    bench.do("PATCH", path, **{"restore_to.snapshot.name": "s"})
    bench.do("PATCH", path, {"comment": "said"})


CLI = "/private/cli"


def test_the_shell_shows_vservers_and_volumes(bench: Bench) -> None:
    """Fields have the shell's names, with either kind of dash; others' vservers stay hidden."""
    bench.volume()
    record = bench.do("GET", f"{CLI}/vserver", vserver="svm1", fields="allowed-protocols")["records"]
    assert record == [{"vserver": "svm1", "allowed_protocols": ["iscsi"]}]
    (volume,) = bench.do("GET", f"{CLI}/volume", volume="vol1", fields="state,percent-snapshot-space")["records"]
    assert (volume["vserver"], volume["state"], volume["percent_snapshot_space"]) == ("svm1", "online", 5)
    answer = bench.http("GET", f"/api{CLI}/vserver?fields=uuid", user="vsadmin", password="vs-secret")
    assert [r["vserver"] for r in answer.json["records"]] == ["svm1"]
    assert bench.call("GET", f"{CLI}/volume/quota")[0] == 404
    assert bench.call("GET", f"{CLI}/vserver/svm1")[0] == 404


def test_clients_learn_what_kind_of_ontap_this_is(bench: Bench) -> None:
    """Exactly one record under either name: no ASA r2."""
    for name in ("OntapPersonality", "OntapMode"):
        answer = bench.do("GET", f"{CLI}/debug/smdb/table/{name}")
        assert answer["num_records"] == 1
        assert answer["records"][0]["ASA_R2"] is False
        assert answer["records"][0]["ONTAP_9"] is True


def test_the_shell_restores_a_file(bench: Bench) -> None:
    """volume snapshot restore-file brings one LUN back, in place or beside; newer Snapshot copies stay."""
    volume = bench.volume(snapshot_policy={"name": "none"})
    lun = bench.lun()
    blocks = bench.blocks.volume(volume)
    blocks.files["/lun1"].write(0, b"first")
    bench.snapshot(volume, "s1")
    blocks.files["/lun1"].write(0, b"later")
    bench.snapshot(volume, "s2")
    body = {"vserver": "svm1", "volume": "vol1", "snapshot": "s1", "path": "/lun1"}
    path = f"{CLI}/volume/snapshot/restore-file"
    bench.do("POST", path, body)
    assert blocks.files["/lun1"].read(0, 5) == b"first"
    assert bench.one("/storage/luns", name="/vol/vol1/lun1")["uuid"] == lun
    bench.advance(60)
    bench.do("POST", path, {**body, "snapshot": "s2", "restore-path": "/vol/vol1/other"})
    assert blocks.files["/other"].read(0, 5) == b"later"
    assert [s["name"] for s in bench.do("GET", f"/storage/volumes/{volume}/snapshots")["records"]] == ["s1", "s2"]
    bench.advance(60)
    for change, wanted in (
        ({"snapshot": "s9"}, "1638600"),
        ({"volume": "v9"}, "917927"),
        ({"vserver": "x"}, "2621462"),
        ({"path": "/none"}, "13565952"),
        ({"path": ""}, "6684674"),
    ):
        assert code(bench.call("POST", path, {**body, **change})) == wanted, change


def test_the_shell_deletes_snapshots(bench: Bench) -> None:
    """volume snapshot delete needs a query; ignore-owners lets go of owned copies, not of a clone's."""
    volume = bench.volume(snapshot_policy={"name": "none"})
    for name in ("s1", "s2"):
        bench.snapshot(volume, name)
    core = bench.array.core
    import dataclasses

    for key, snapshot in list(core.snapshots.items()):
        core.snapshots[key] = dataclasses.replace(snapshot, owners=("backup",))
    path = f"{CLI}/volume/snapshot"
    where = {"vserver": "svm1", "volume": "vol1", "snapshot": "s1"}
    assert code(bench.call("DELETE", path)) == "2"
    assert code(bench.call("DELETE", path, **where)) == "1638555"
    bench.do("DELETE", path, **where, **{"ignore-owners": "true"})
    shown = bench.do("GET", path, fields="owners,busy")["records"]
    assert shown == [{"vserver": "svm1", "volume": "vol1", "snapshot": "s2", "busy": True, "owners": ["backup"]}]
    origin = {"parent_volume.name": "vol1", "parent_snapshot.name": "s2"}
    bench.do("POST", "/storage/volumes", {"name": "copy", "svm.name": "svm1", "clone": origin})
    refused = bench.call("DELETE", path, **{**where, "snapshot": "s2"}, ignore_owners="true")
    assert code(refused) == "1638555"
