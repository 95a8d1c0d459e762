"""The REST wire against canned answers: what is sent, what is refused, what a lost reply means."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from canned_server import Answer, Authority, Canned, Seen
from netapp_ontap.resources.cluster import Cluster
from netapp_ontap.resources.snapshot import Snapshot
from netapp_ontap.resources.volume import Volume

from smhvlab.brake import Brake
from smhvlab.errors import (
    Cancelled,
    ConnectionLost,
    HostDown,
    JobFailed,
    NotFound,
    NotUnique,
    OntapError,
    ProtocolError,
    ReadOnlyRefused,
    UnknownOutcome,
    Unsendable,
    UntrustedCertificate,
    WrongPassword,
)
from smhvlab.secrets import Secret
from smhvlab.wires.control import Phase, WireControl, WireRequest
from smhvlab.wires.log import WireLog
from smhvlab.wires.ontap import OntapWire

SECRET = "correct horse"


def wire(canned: Canned, **options: Any) -> OntapWire:
    """A wire to the canned server that never really sleeps."""
    endpoint = options.pop("endpoint", None) or canned.endpoint()
    return OntapWire(endpoint, Secret(SECRET), **{"log": WireLog(), "sleep": lambda _: None} | options)


def records(*found: dict[str, Any], following: str = "") -> Answer:
    """A collection's answer."""
    links = {"next": {"href": following}} if following else {}
    return Answer(body={"records": list(found), "num_records": len(found), "_links": links})


def job(uuid: str, state: str, **more: Any) -> dict[str, Any]:
    """A job's record."""
    return {"uuid": uuid, "state": state} | more


def accepted(uuid: str) -> Answer:
    """202 with a job, and the Location in the form that makes netapp-ontap poll."""
    link = {"self": {"href": f"/api/cluster/jobs/{uuid}"}}
    return Answer(202, {"job": {"uuid": uuid, "_links": link}}, {"Location": "/api/storage/volumes/?name=v1"})


def test_collects_every_page(canned: Canned) -> None:
    """All pages of a collection come back as ONTAP's own JSON objects."""

    def route(seen: Seen) -> Answer:
        if "start" in seen.path:
            return records({"uuid": "2", "name": "b", "state": "a state nobody knows"})
        return records({"uuid": "1", "name": "a"}, following="/api/storage/volumes?start=1&fields=state")

    canned.route = route
    with wire(canned) as rest:
        found = rest.collect(Volume, fields=("state", "size"), **{"svm.name": "svm 1", "is_svm_root": False})
        counts = rest.log.counts()
    assert [record["name"] for record in found] == ["a", "b"]
    assert canned.seen[0].path == "/api/storage/volumes?svm.name=svm%201&is_svm_root=false&fields=state%2Csize"
    assert (counts.rest, counts.reads, counts.changes) == (2, 2, 0)


def test_find_and_one_tell_none_one_and_several_apart(canned: Canned) -> None:
    """`find` gives None, the record, or NotUnique; `one` insists on exactly one."""
    answers = {"none": [], "one": [{"name": "x"}], "two": [{"name": "x"}, {"name": "x"}]}
    canned.route = lambda seen: records(*answers[seen.path.partition("name=")[2].partition("&")[0]])
    with wire(canned) as rest:
        assert rest.find(Volume, name="none") is None
        assert rest.one(Volume, name="one") == {"name": "x"}
        with pytest.raises(NotUnique):
            rest.find(Volume, name="two")
        with pytest.raises(NotFound):
            rest.one(Volume, name="none")


def test_reads_one_resource_without_schema(canned: Canned) -> None:
    """An instance is read as JSON, so an enum value that the library does not know is no error."""
    canned.route = lambda _: Answer(body={"name": "cluster1", "version": {"full": "9.99"}, "new": "field"})
    with wire(canned) as rest:
        assert rest.read(Cluster(), fields="version")["version"] == {"full": "9.99"}
    assert canned.asked() == ["GET /api/cluster?fields=version"]


def test_basic_authentication_takes_any_character(canned: Canned) -> None:
    """User and password go as UTF-8, also outside Latin-1."""
    import base64

    canned.route = lambda _: records()
    rest = OntapWire(canned.endpoint(user="ädmin"), Secret("пароль"), log=WireLog())
    rest.collect(Volume)
    rest.close()
    assert base64.b64decode(canned.seen[0].headers["Authorization"].split()[1]).decode() == "ädmin:пароль"


def test_create_waits_for_its_job_through_the_given_sleep(canned: Canned) -> None:
    """A POST returns at once; `wait` polls all open jobs in one GET and sleeps by the site's clock."""
    polls: list[str] = []
    slept: list[float] = []

    def route(seen: Seen) -> Answer:
        if seen.method == "POST":
            return accepted(f"job{len(canned.seen)}")
        polls.append(seen.path)
        return records(*(job(f"job{n}", "success" if len(polls) > 1 else "running") for n in (1, 2)))

    canned.route = route
    with wire(canned, sleep=slept.append) as rest:
        first = rest.create(Volume(name="v1", svm={"name": "svm1"}, size=4096))
        second = rest.create(Volume(name="v2", svm={"name": "svm1"}, size=4096))
        rest.wait([first, second])
        assert rest.log.counts().rest == 2
    assert canned.seen[0].json == {"name": "v1", "svm": {"name": "svm1"}, "size": 4096}
    assert first.location == "/api/storage/volumes/?name=v1"
    assert len(polls) == 2
    assert "uuid=job1%7Cjob2" in polls[0]
    assert slept == [1.0]


def test_a_failed_job_raises_its_code_after_all_have_ended(canned: Canned) -> None:
    """A job's failure is an error with ONTAP's code, raised when the other jobs have ended too."""
    rounds: list[int] = []

    def route(seen: Seen) -> Answer:
        if seen.method == "DELETE":
            return accepted(seen.path.rpartition("/")[2].partition("?")[0])
        rounds.append(1)
        busy = job("s1", "failure", message="has not expired or is locked.", code=1638555)
        return records(busy, job("s2", "success" if len(rounds) > 1 else "running"))

    canned.route = route
    with wire(canned) as rest, pytest.raises(JobFailed) as caught:
        rest.wait([rest.remove(Snapshot("v", uuid=uuid)) for uuid in ("s1", "s2")])
    assert caught.value.code == "1638555"
    assert caught.value.tr == "6.8"
    assert caught.value.job == "s1"
    assert len(rounds) == 2


def test_a_job_that_vanished_is_an_unknown_outcome(canned: Canned) -> None:
    """ONTAP forgets jobs after 300 s; one that is missing twice cannot be judged."""
    canned.route = lambda seen: accepted("gone") if seen.method == "POST" else records()
    with wire(canned) as rest, pytest.raises(UnknownOutcome):
        rest.wait([rest.create(Volume(name="v1"))])
    assert len(canned.seen) == 3


def test_a_job_that_never_ends_is_given_up(canned: Canned) -> None:
    """Waiting has an end; the job's outcome is then unknown."""
    slept: list[float] = []
    canned.route = lambda seen: accepted("j") if seen.method == "POST" else records(job("j", "paused"))
    with wire(canned, sleep=slept.append) as rest, pytest.raises(UnknownOutcome):
        rest.wait([rest.create(Volume(name="v1"))], timeout=3)
    assert slept == [1.0, 1.0, 1.0]


def test_polls_are_not_counted(canned: Canned) -> None:
    """What is asked again and again until something has happened is no request of its own."""
    canned.route = lambda _: records()
    with wire(canned) as rest:
        with rest.polling():
            rest.collect(Volume)
        assert rest.log.counts().total == 0


def test_errors_carry_code_target_and_status(canned: Canned) -> None:
    """A refusal is an OntapError to branch on, whatever its text."""
    error = {"error": {"message": "entry doesn't exist", "code": "4", "target": "uuid"}}
    canned.route = lambda _: Answer(404, error)
    with wire(canned) as rest, pytest.raises(OntapError) as caught:
        rest.remove(Volume(uuid="u"))
    assert (caught.value.code, caught.value.target, caught.value.status) == ("4", "uuid", 404)
    assert rest.log.entries[0].code == "4"


@pytest.mark.parametrize("drop", ["before", "middle"])
def test_a_change_is_never_sent_twice(canned: Canned, drop: str) -> None:
    """When the reply to a change is lost, the outcome is unknown and the request is not repeated."""
    canned.route = lambda _: Answer(202, {}, drop=drop)
    with wire(canned) as rest, pytest.raises(UnknownOutcome):
        rest.remove(Volume(uuid="u"))
    assert canned.asked() == ["DELETE /api/storage/volumes/u"]
    assert rest.log.entries[0].status == "0"


def test_a_read_is_repeated_once(canned: Canned) -> None:
    """A lost reply to a read is asked for once more, then reported."""
    canned.route = lambda _: Answer(drop="before" if len(canned.seen) == 1 else "", body={"records": [{"name": "v"}]})
    with wire(canned) as rest:
        assert rest.collect(Volume) == [{"name": "v"}]
    canned.route = lambda _: Answer(drop="before")
    with wire(canned) as rest, pytest.raises(ConnectionLost):
        rest.collect(Volume)
    assert len(canned.seen) == 4


def test_a_gateway_error_to_a_change_is_an_unknown_outcome(canned: Canned) -> None:
    """A proxy's 502 says nothing about what ONTAP did; for a read it is a protocol error."""
    canned.route = lambda _: Answer(502, b"<html>Bad gateway</html>", content_type="text/html")
    with wire(canned) as rest:
        with pytest.raises(UnknownOutcome):
            rest.modify(Volume(uuid="u"), {"size": 1})
        with pytest.raises(ProtocolError):
            rest.collect(Volume)


def test_read_only_refuses_before_anything_leaves(canned: Canned) -> None:
    """A read-only wire reads, and refuses every change without sending or logging it."""
    canned.route = lambda _: records()
    with wire(canned, read_only=True) as rest:
        rest.collect(Volume)
        for change in (
            lambda: rest.create(Volume(name="v")),
            lambda: rest.modify(Volume(uuid="u"), {"size": 1}),
            lambda: rest.remove(Volume(uuid="u")),
        ):
            with pytest.raises(ReadOnlyRefused):
                change()
        assert rest.log.counts().total == 1
    assert len(canned.seen) == 1


def test_fields_that_the_library_would_drop_are_refused(canned: Canned) -> None:
    """netapp-ontap leaves unknown and read-only fields out of a body; nothing is sent then."""
    canned.route = lambda _: Answer(201, {})
    with wire(canned) as rest:
        with pytest.raises(Unsendable, match="no_such_field"):
            rest.create(Volume(name="v", no_such_field=1))
        with pytest.raises(Unsendable, match=r"metric"):
            rest.create(Volume(name="v", metric={"status": "ok"}))
        changed = Volume(uuid="u")
        changed.restore_to = {"snapshot": {"name": "s"}}
        with pytest.raises(Unsendable):
            rest.modify(changed)
        rest.create(Volume.from_dict({"name": "v", "svm": {"name": "s"}, "aggregates": [{"name": "a"}], "size": 1}))
        rest.create(Snapshot("vol", name="daily"))
    assert canned.asked() == ["POST /api/storage/volumes", "POST /api/storage/volumes/vol/snapshots"]


def test_modify_sends_the_changes_as_they_are(canned: Canned) -> None:
    """Bodies and query parameters of a PATCH arrive unchanged, dotted names included."""
    canned.route = lambda _: Answer(200, {})
    with wire(canned) as rest:
        assert rest.modify(Volume(uuid="u"), {"guarantee.type": "none", "size": 5}).done
        rest.modify(Volume(uuid="u"), **{"restore_to.snapshot.name": "daily 1"})
    assert canned.seen[0].json == {"guarantee.type": "none", "size": 5}
    assert canned.seen[1].path == "/api/storage/volumes/u?restore_to.snapshot.name=daily%201"


def test_many_records_in_one_request(canned: Canned) -> None:
    """One POST makes Snapshot copies of many volumes; its job is waited for like any other."""
    canned.route = lambda seen: accepted("j") if seen.method == "POST" else records(job("j", "success"))
    with wire(canned) as rest:
        made = [Snapshot.from_dict({"name": "s", "volume": {"uuid": uuid}}) for uuid in ("a", "b")]
        rest.wait([rest.create_many(Snapshot, made, "*")])
    assert canned.seen[0].path == "/api/storage/volumes/%2A/snapshots"
    assert [one["name"] for one in canned.seen[0].json["records"]] == ["s", "s"]


def test_connections_that_cannot_be_made(canned: Canned, stranger: Authority, unused_port: int) -> None:
    """No listener, an unknown CA and a wrong password are three different errors."""
    with wire(canned, endpoint=canned.endpoint(port=unused_port)) as rest, pytest.raises(HostDown):
        rest.collect(Volume)
    with wire(canned, endpoint=canned.endpoint(ca_file=str(stranger.ca))) as rest, pytest.raises(UntrustedCertificate):
        rest.collect(Volume)
    canned.route = lambda _: Answer(401, {"error": {"code": "6691623", "message": "User is not authorized."}})
    with wire(canned) as rest, pytest.raises(WrongPassword):
        rest.remove(Volume(uuid="u"))
    assert len(canned.seen) == 1


def test_variables_of_the_machine_are_not_used(canned: Canned, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Proxy and CA variables, and .netrc, do not reach the wire."""
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.setenv(name, str(tmp_path / "no such file"))
    canned.route = lambda _: records()
    with wire(canned) as rest:
        assert rest.collect(Volume) == []


def test_cancel_is_seen_before_a_request_but_jobs_are_waited_for(canned: Canned) -> None:
    """After cancel nothing more is sent, except the polls of a job that runs already."""
    control, brake = WireControl(), Brake()

    def route(seen: Seen) -> Answer:
        if seen.method == "POST":
            brake.pull()
            return accepted("j")
        return records(job("j", "success" if len(canned.seen) > 2 else "running"))

    canned.route = route
    with wire(canned, control=control) as rest, control.obeying(brake):
        pending = rest.create(Volume(name="v"))
        with pytest.raises(Cancelled):
            rest.wait([pending])
        assert len(canned.seen) == 3
        with pytest.raises(Cancelled):
            rest.collect(Volume)
        with control.shielded():
            rest.collect(Volume)
    assert len(canned.seen) == 4


def test_the_seam_sees_each_request_twice_and_may_kill(canned: Canned) -> None:
    """The seam is called before a request leaves and after its reply; what it raises goes through untouched."""

    class Kill(BaseException):
        pass

    calls: list[tuple[str, Phase]] = []
    kill_at: list[tuple[str, Phase]] = []

    def seam(request: WireRequest, phase: Phase) -> None:
        calls.append((request.title, phase))
        if (request.title, phase) in kill_at:
            raise Kill

    canned.route = lambda seen: records() if seen.method == "GET" else Answer(200, {})
    with wire(canned, control=WireControl(seam=seam)) as rest:
        rest.collect(Volume)
        assert calls == [("GET /storage/volumes", Phase.BEFORE), ("GET /storage/volumes", Phase.AFTER)]
        for phase, arrived in ((Phase.BEFORE, 1), (Phase.AFTER, 2)):
            kill_at[:] = [("DELETE /storage/volumes/u", phase)]
            with pytest.raises(Kill):
                rest.remove(Volume(uuid="u"))
            assert len(canned.seen) == arrived
        assert [entry.title for entry in rest.log.entries] == ["GET /storage/volumes", "DELETE /storage/volumes/u"]


def test_the_log_can_be_pasted_and_holds_no_secret(canned: Canned) -> None:
    """Entries are curl lines with variables for address and user; passwords are blanked wherever they stand."""
    from netapp_ontap.resources.cluster_peer import ClusterPeer

    canned.route = lambda seen: Answer(201, {"num_records": 1}) if seen.method == "POST" else records()
    with wire(canned) as rest:
        rest.collect(Volume, name="it's $HOME")
        rest.create(ClusterPeer.from_dict({"authentication": {"passphrase": "hush hush"}, "name": SECRET}))
        first, second = (entry.curl() for entry in rest.log.entries)
        whole = repr(rest.log.entries)
    assert first == 'curl -sS -u "$ONTAP_USER" "$ONTAP/api/storage/volumes?name=it%27s%20%24HOME"'
    assert second.startswith('curl -sS -X POST -u "$ONTAP_USER" "$ONTAP/api/cluster/peers"')
    assert '"passphrase": "***"' in second
    for secret in (SECRET, "hush hush", "Basic ", str(canned.port)):
        assert secret not in whole
    with pytest.raises(ValueError, match="curl"):
        rest.log.entries[0].powershell()


@pytest.mark.parametrize("room", range(400, 500, 7))
def test_a_secret_is_blanked_before_a_long_answer_is_cut(canned: Canned, room: int) -> None:
    """Wherever the cut falls, no half of a secret is left: neither of a field's value nor of a known one."""
    body = {"pad": "x" * room, "authentication": {"passphrase": "hush hush, nobody knows"}, "comment": SECRET}
    canned.route = lambda seen: Answer(200, body)
    with wire(canned) as rest:
        rest.read(Volume(uuid="u"), fields="uuid")
        whole = repr(rest.log.entries)
    assert "hush" not in whole
    assert SECRET[:4] not in whole


def test_lun_data_are_bytes(canned: Canned) -> None:
    """Binary data are read and written as they are, in steps of at most 1 MiB."""
    disk = bytes(range(256)) * 6144  # 1.5 MiB

    def route(seen: Seen) -> Answer:
        query = dict(part.split("=") for part in seen.path.partition("?")[2].split("&"))
        if seen.method == "PATCH":
            return Answer(200, {})
        start, size = int(query["data.offset"]), int(query["data.size"])
        part = b'--X\r\nContent-Disposition: form-data; name="data"\r\n\r\n' + disk[start : start + size]
        return Answer(200, part + b"\r\n--X--\r\n", content_type="multipart/form-data; boundary=X")

    canned.route = route
    with wire(canned) as rest:
        assert rest.read_lun("u", offset=512, size=len(disk) - 512) == disk[512:]
        assert len(canned.seen) == 2
        assert canned.seen[0].headers["Accept"] == "multipart/form-data"
        with pytest.raises(ProtocolError):
            rest.read_lun("u", offset=len(disk), size=512)
        rest.write_lun("u", b"\x00\xff" * 256, offset=1024)
        assert canned.seen[-1].path == "/api/storage/luns/u?data.offset=1024"
        assert b"\x00\xff" * 256 in canned.seen[-1].body
        with pytest.raises(Unsendable):
            rest.write_lun("u", bytes(2**20 + 1), offset=0)
        assert '--data-binary @"$BODY"' in rest.log.entries[-1].curl()
        assert rest.log.entries[0].response.endswith("bytes")


def test_jobs_of_a_query_based_change_are_all_waited_for(canned: Canned) -> None:
    """A PATCH or DELETE by query answers with one job for each record."""
    jobs = [{"uuid": uuid} for uuid in ("a", "b")]

    def route(seen: Seen) -> Answer:
        if seen.method == "PATCH":
            return Answer(202, {"num_records": 2, "jobs": jobs})
        return records(job("a", "success"), job("b", "failure", code=917536, message="no"))

    canned.route = route
    with wire(canned) as rest, pytest.raises(JobFailed) as caught:
        rest.wait([rest.modify(Volume(uuid="*"), {"size": 1})])
    assert (caught.value.code, caught.value.job) == ("917536", "b")


def test_settle_tells_each_outcome(canned: Canned) -> None:
    """`settle` returns each request's failure instead of raising, done ones included."""

    def route(seen: Seen) -> Answer:
        if seen.method == "POST":
            return accepted("bad") if b"bad" in seen.body else Answer(201, {"num_records": 1})
        return records(job("bad", "failure", error={"code": "4", "message": "entry doesn't exist", "target": "x"}))

    canned.route = route
    with wire(canned) as rest:
        good, bad = rest.settle([rest.create(Volume(name=name)) for name in ("good", "bad")])
    assert good is None
    assert isinstance(bad, JobFailed)
    assert (bad.code, bad.target) == ("4", "x")


def test_an_svm_user_has_its_own_key(canned: Canned) -> None:
    """The SVM's own user goes to the same address under another name and password."""
    from smhvlab.profile import SvmEndpoint

    canned.route = lambda _: Answer(403, {"error": {"code": "6", "message": "not authorized for that command"}})
    endpoint = canned.endpoint(svms=(SvmEndpoint("svm1", "vsadmin"),)).as_svm("svm1")
    assert endpoint.key == "cluster1/svm1"
    with wire(canned, endpoint=endpoint) as rest, pytest.raises(OntapError) as caught:
        rest.collect(Volume)
    assert caught.value.code == "6"
    with pytest.raises(NotFound):
        canned.endpoint().as_svm("svm9")


def test_a_redirect_is_not_followed(canned: Canned) -> None:
    """Neither a password nor a change is sent on to another address."""
    canned.route = lambda _: Answer(302, headers={"Location": "https://127.0.0.1:1/"})
    with wire(canned) as rest, pytest.raises(ProtocolError):
        rest.collect(Volume)
    assert len(canned.seen) == 1
