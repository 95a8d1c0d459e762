"""Jobs in lab time: spans, waiting, locks, and what a killed process leaves."""

from __future__ import annotations

import pytest

from labenv.faults import ConnectionDropped, Fault
from labenv.ontap.setup import UNFINISHED

from .ontap_bench import MIB, Bench


def seconds(bench: Bench) -> float:
    """Lab time in seconds."""
    return bench.clock.now / 1_000_000


def start(bench: Bench, name: str = "vol1") -> str:
    """Begin to make a volume; the job's uuid."""
    body = {"name": name, "svm": {"name": "svm1"}, "aggregates": [{"name": "aggr1"}]}
    status, answer = bench.call("POST", "/storage/volumes", body)
    assert status == 202
    return answer["job"]["uuid"]


def test_the_effect_lands_at_the_end_of_the_span(bench: Bench) -> None:
    """A volume that takes 3 s to make is not there before, and is there after."""
    bench.prices["ontap.volume.create"] = 3
    job = start(bench)
    there = bench.array.core.volumes_by_plain_name
    assert not there["vol1"]
    bench.advance(2.9)
    assert not there["vol1"]
    bench.advance(0.1)
    assert bench.do("GET", "/storage/volumes", name="vol1")["num_records"] == 1
    record = bench.do("GET", f"/cluster/jobs/{job}")
    assert (record["state"], record["message"], record["code"]) == ("success", "success", 0)
    assert (record["start_time"], record["end_time"]) == ("2013-03-04T08:00:00+00:00", "2013-03-04T08:00:03+00:00")


def test_polling_ends(bench: Bench) -> None:
    """A GET that shows an unfinished job takes a lab second; one of a finished job takes none."""
    bench.prices["ontap.volume.create"] = 3
    job = start(bench)
    begun = seconds(bench)
    states = [bench.do("GET", f"/cluster/jobs/{job}", fields="message,state")["state"] for _ in range(4)]
    assert states == ["running", "running", "success", "success"]
    assert seconds(bench) == begun + 3


def test_polling_what_a_job_changes_ends_too(bench: Bench) -> None:
    """Who never asks for the job, but for what it makes or changes, sees it come; elsewhere time stands still."""
    bench.prices["ontap.volume.create"] = bench.prices["ontap.volume.modify"] = 3
    start(bench)
    begun = seconds(bench)
    bench.do("GET", "/storage/luns")
    assert seconds(bench) == begun
    asked = [bench.do("GET", "/storage/volumes", name="vol1")["num_records"] for _ in range(4)]
    assert (asked, seconds(bench)) == ([0, 0, 1, 1], begun + 3)
    volume = bench.one("/storage/volumes", name="vol1")["uuid"]
    assert bench.call("PATCH", f"/storage/volumes/{volume}", {"state": "offline"})[0] == 202
    states = [bench.do("GET", f"/storage/volumes/{volume}")["state"] for _ in range(4)]
    assert states == ["online", "online", "offline", "offline"]
    assert seconds(bench) == begun + 6


def test_open_jobs_are_read_in_one_request(bench: Bench) -> None:
    """One GET of several unfinished jobs takes one second, not one for each."""
    jobs = [start(bench, name) for name in ("a", "b")]
    begun = seconds(bench)
    found = bench.do("GET", "/cluster/jobs", uuid="|".join(jobs), fields="state")["records"]
    assert [record["state"] for record in found] == ["success", "success"]
    assert seconds(bench) == begun + 1


def test_return_timeout_waits_in_lab_time(bench: Bench) -> None:
    """The answer is 202 when the time is over first, else 201 with the job's link."""
    bench.prices["ontap.volume.create"] = 3
    body = {"name": "vol1", "svm": {"name": "svm1"}, "aggregates": [{"name": "aggr1"}]}
    begun = seconds(bench)
    status, answer = bench.call("POST", "/storage/volumes", body, return_timeout=2)
    assert (status, seconds(bench)) == (202, begun + 2)
    assert answer["job"]["uuid"]
    status, answer = bench.call("POST", "/storage/volumes", {**body, "name": "v2"}, return_timeout=10,
                                return_records="true")  # fmt: skip
    assert (status, seconds(bench)) == (201, begun + 5)
    assert answer["records"][0]["name"] == "v2"


def test_a_failed_job_tells_why_to_every_kind_of_client(bench: Bench) -> None:
    """Deleting a busy Snapshot copy is accepted; the job fails with 1638555 at top level and in error."""
    volume = bench.volume()
    snapshot = bench.snapshot(volume, "base")
    clone = {"is_flexclone": True, "parent_volume": {"name": "vol1"}, "parent_snapshot": {"name": "base"}}
    bench.do("POST", "/storage/volumes", {"name": "c", "svm": {"name": "svm1"}, "clone": clone})
    status, answer = bench.call("DELETE", f"/storage/volumes/{volume}/snapshots/{snapshot}")
    assert status == 202
    job = bench.do("GET", f"/cluster/jobs/{answer['job']['uuid']}")
    assert (job["state"], job["code"], job["error"]["code"]) == ("failure", 1638555, "1638555")
    assert job["message"] == job["error"]["message"]
    assert bench.do("GET", f"/storage/volumes/{volume}/snapshots")["num_records"] == 1


def test_jobs_are_kept_for_five_minutes(bench: Bench) -> None:
    """A finished job can be read for 300 s."""
    job = start(bench)
    bench.advance(300)
    assert bench.do("GET", f"/cluster/jobs/{job}")["state"] == "success"
    bench.advance(2)
    assert bench.call("GET", f"/cluster/jobs/{job}")[1]["error"]["code"] == "4"


def test_jobs_cannot_be_stopped(bench: Bench) -> None:
    """Cancel and pause say why not, and a finished job says that it is finished."""
    job = f"/cluster/jobs/{start(bench)}"
    assert bench.call("PATCH", job, action="cancel")[1]["error"]["code"] == "458784"
    assert bench.call("PATCH", job, action="pause")[1]["error"]["code"] == "458783"
    bench.advance(1)
    assert bench.call("PATCH", job, action="cancel")[1]["error"]["code"] == "458762"


def test_one_operation_on_a_volume_at_a_time(bench: Bench) -> None:
    """A second change of a volume fails while the first runs; a second volume of the name is refused."""
    volume = bench.volume()
    first = bench.call("PATCH", f"/storage/volumes/{volume}", {"size": "2GB"})[1]["job"]["uuid"]
    second = bench.call("PATCH", f"/storage/volumes/{volume}", {"size": "3GB"})[1]["job"]["uuid"]
    assert bench.do("GET", f"/cluster/jobs/{first}")["state"] == "success"
    assert bench.do("GET", f"/cluster/jobs/{second}")["code"] == 13107406
    start(bench, "vol2")
    body = {"name": "vol2", "svm": {"name": "svm1"}, "aggregates": [{"name": "aggr1"}]}
    assert bench.call("POST", "/storage/volumes", body)[1]["error"]["code"] == "13107405"


@pytest.mark.tr("R-AG-02")
def test_snapshots_wait_for_lun_clones(bench: Bench) -> None:
    """While a LUN clone is being made, and its blocks shared, every Snapshot operation on the volume fails 1520351."""
    bench.prices["ontap.lun.clone"] = 5
    bench.prices["ontap.lun.clone.sharing"] = 10
    volume = bench.volume()
    bench.lun()
    base = bench.snapshot(volume, "base")
    clone = {"name": "/vol/vol1/copy", "svm": {"name": "svm1"}}
    bench.call("POST", "/storage/luns", {**clone, "clone": {"source": {"name": "/vol/vol1/.snapshot/base/lun1"}}})
    path = f"/storage/volumes/{volume}/snapshots"

    def outcome() -> str:
        return bench.call("POST", path, {"name": "later"}, return_timeout=5)[1].get("error", {}).get("code", "")

    assert outcome() == "1520351"
    bench.advance(5)
    assert bench.one("/storage/luns", name="/vol/vol1/copy")["status"]["state"] == "online"
    assert bench.do("GET", f"{path}/{base}")["owners"] == ["lun_clone"]
    assert bench.call("DELETE", f"{path}/{base}", return_timeout=5)[1]["error"]["code"] == "1520351"
    bench.advance(10)
    assert outcome() == ""
    assert "owners" not in bench.do("GET", f"{path}/{base}")


def test_a_lun_takes_no_map_while_it_is_restored(bench: Bench) -> None:
    """lun-maps answers 5374053 while the LUN is being overwritten."""
    volume = bench.volume()
    lun = bench.lun()
    bench.igroup()
    bench.snapshot(volume, "base")
    bench.call("PATCH", f"/storage/luns/{lun}", {"clone.source.name": "/vol/vol1/.snapshot/base/lun1"})
    body = {"lun.name": "/vol/vol1/lun1", "igroup.name": "hv1", "svm.name": "svm1"}
    assert bench.call("POST", "/protocols/san/lun-maps", body)[1]["error"]["code"] == "5374053"
    bench.advance(1)
    bench.map()


def test_the_snapshot_limit_is_the_versions(bench: Bench) -> None:
    """The Snapshot copy beyond the limit fails with 525062, and there is room again after a delete (TR 6.3)."""
    volume = bench.volume()
    path = f"/storage/volumes/{volume}/snapshots"
    for number in range(4):
        bench.snapshot(volume, f"s{number}")
    refused = bench.call("POST", path, {"name": "one_more"}, return_timeout=5)
    assert refused[1]["error"]["code"] == "525062"
    bench.do("DELETE", path, name="s0")
    bench.snapshot(volume, "one_more")


def test_every_change_takes_time(bench: Bench) -> None:
    """Each mutation moves lab time by a second at least; reads do not."""
    volume = bench.volume()
    lun = bench.lun()
    changes = [
        ("POST", "/protocols/san/igroups", {"name": "g", "os_type": "hyper_v", "svm.name": "svm1"}),
        ("POST", f"/storage/volumes/{volume}/snapshots", {"name": "s"}),
        ("PATCH", f"/storage/luns/{lun}", {"comment": "x"}),
        ("PATCH", f"/storage/volumes/{volume}", {"comment": "x"}),
        ("DELETE", f"/storage/luns/{lun}", None),
    ]
    for method, path, body in changes:
        begun = seconds(bench)
        bench.do(method, path, body)
        assert seconds(bench) >= begun + 1
    begun = seconds(bench)
    bench.do("GET", "/storage/volumes", fields="**")
    bench.do("GET", "/storage/luns", fields="**")
    assert seconds(bench) == begun


def test_a_killed_process_finishes_its_jobs(bench: Bench) -> None:
    """What was accepted before the kill is completed after it, once; what was answered is still there."""
    volume = bench.volume()
    lun = bench.lun()
    serial = bench.one("/storage/luns")["serial_number"]
    bench.prices["ontap.snapshot.create"] = 10
    answer = bench.call("POST", f"/storage/volumes/{volume}/snapshots", {"name": "interrupted"})[1]
    bench.kill()
    assert bench.one("/storage/luns", uuid=lun)["serial_number"] == serial
    assert bench.do("GET", f"/storage/volumes/{volume}/snapshots")["num_records"] == 0
    assert bench.do("GET", f"/cluster/jobs/{answer['job']['uuid']}")["state"] == "running"
    bench.advance(9)
    assert bench.do("GET", f"/cluster/jobs/{answer['job']['uuid']}")["state"] == "success"
    assert [s["name"] for s in bench.do("GET", f"/storage/volumes/{volume}/snapshots")["records"]] == ["interrupted"]


def test_an_unfinished_copy_goes_at_the_next_start(bench: Bench) -> None:
    """A copy that a kill cut off leaves no file behind."""
    volume = bench.volume()
    bench.blocks.volume(volume).create_file(f"{UNFINISHED}/half", MIB, reserved=False)
    bench.state.commit()
    bench.kill()
    assert list(bench.blocks.volume(volume).files) == []


def test_a_checkpoint_brings_everything_back(bench: Bench) -> None:
    """State.restore takes volumes, LUNs and jobs back together; devices look their blocks up again."""
    bench.volume()
    bench.lun()
    bench.igroup()
    bench.map()
    device = bench.units()[0].device
    device.write(0, b"kept")
    bench.state.checkpoint("here")
    device.write(0, b"lost")
    bench.volume("later")
    bench.run(bench.clock.cancel_tasks())
    bench.state.restore("here")
    assert bench.units()[0].device.read(0, 4) == b"kept"
    assert bench.do("GET", "/storage/volumes", name="later")["num_records"] == 0
    bench.volume("later")


def test_faults_act_before_and_after_the_effect(bench: Bench) -> None:
    """An injected error keeps the request from having an effect; a lost reply does not."""
    body = {"name": "g1", "os_type": "hyper_v", "svm.name": "svm1"}
    path = "/api/protocols/san/igroups"
    match = {"method": "POST", "path": "/protocols/san/igroups"}
    bench.faults.set(Fault("ontap.request", "error", match, status=500, code="2", message="injected"))
    assert bench.http("POST", path, body).status == 500
    bench.faults.set(Fault("ontap.request", "drop", match))
    with pytest.raises(ConnectionDropped):
        bench.http("POST", path, body)
    assert bench.do("GET", "/protocols/san/igroups")["num_records"] == 0
    bench.faults.set(Fault("ontap.request", "lose-reply", match))
    with pytest.raises(ConnectionDropped):
        bench.http("POST", path, body)
    assert bench.do("GET", "/protocols/san/igroups")["num_records"] == 1
    bench.faults.set(Fault("ontap.request", "delay", {"method": "GET"}, seconds=30))
    begun = seconds(bench)
    assert bench.http("GET", "/api/cluster").status == 200
    assert seconds(bench) == begun + 30


def test_a_dropped_request_aborts_its_connection(bench: Bench) -> None:
    """With a server that names the connection, it is aborted and nothing is sent."""

    class Line:
        aborted = 0

        def abort(self) -> None:
            self.aborted += 1

    bench.connection = Line()
    bench.faults.set(Fault("ontap.request", "lose-reply", {"method": "POST"}))
    answer = bench.http("POST", "/api/cluster/schedules", {"name": "s", "interval": "PT1H"})
    assert (answer.status, bench.connection.aborted) == (0, 1)
    assert bench.http("GET", "/api/cluster/schedules?name=s").json["num_records"] == 1
