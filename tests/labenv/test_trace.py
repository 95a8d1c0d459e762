"""The record of requests: complete after every entry, in lab time, without secrets."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from labenv.clock import Clock
from labenv.trace import Trace
from tests.labenv.commands import labenv

SECRET = "hush-hush"
START = datetime(2013, 3, 4, 8, tzinfo=UTC)


def scope(**changes: Any) -> dict[str, Any]:
    return {
        "type": "http",
        "method": "POST",
        "path": "/api/x",
        "raw_path": b"/api/x",
        "query_string": b"a=1&passphrase=" + SECRET.encode(),
        "headers": [(b"authorization", b"Basic " + SECRET.encode()), (b"content-type", b"application/json")],
        **changes,
    }


def play(path: Path, body: bytes, kind: bytes, answer: bytes, **changes: Any) -> dict[str, Any]:
    """One request through a traced app that takes two lab seconds; the archive."""

    def complete() -> None:
        """It can be read at any time."""
        json.loads(path.read_text("utf-8"))

    async def work() -> None:
        clock = Clock(START)

        async def app(scope: Any, receive: Any, send: Any) -> None:
            assert (await receive())["body"] == body
            await clock.advance(2)
            await send({"type": "http.response.start", "status": 201, "headers": [(b"content-type", kind)]})
            await send({"type": "http.response.body", "body": answer})

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body}

        async def send(message: dict[str, Any]) -> None:
            messages.append(message)

        trace = Trace(path, clock)
        for _ in range(2):
            await trace.of(app, "cluster1")(scope(**changes), receive, send)
            complete()
        trace.close()

    messages: list[dict[str, Any]] = []
    asyncio.run(work())
    assert [message["type"] for message in messages] == ["http.response.start", "http.response.body"] * 2
    text = path.read_text("utf-8")
    assert SECRET not in text
    archive: dict[str, Any] = json.loads(text)
    return archive


def test_requests_are_recorded_without_secrets(tmp_path: Path) -> None:
    """Method, path, bodies and lab time are there; passwords, headers and parameters that are secret are not."""
    body = {"name": "v", "authentication": {"passphrase": SECRET, "user": "a"}, "records": [{"password": SECRET}]}
    archive = play(
        tmp_path / "t.har", json.dumps(body).encode(), b"application/hal+json", json.dumps({"token": SECRET}).encode()
    )
    first, second = archive["log"]["entries"]
    assert first["startedDateTime"] == "2013-03-04T08:00:00.000+00:00"
    assert second["startedDateTime"] == "2013-03-04T08:00:02.000+00:00"
    assert first["time"] == 2000
    assert first["request"]["method"] == "POST"
    assert first["request"]["url"] == "https://cluster1/api/x?a=1&passphrase=***"
    assert json.loads(first["request"]["postData"]["text"])["authentication"] == {"passphrase": "***", "user": "a"}
    assert first["response"]["status"] == 201
    assert json.loads(first["response"]["content"]["text"]) == {"token": "***"}


def test_pipelines_are_not_recorded(tmp_path: Path) -> None:
    """Of PowerShell remoting the action is kept; other bodies are a length."""
    soap = f"<s:Envelope><a:Action s:m='true'>http://x/Command</a:Action><w>{SECRET}</w></s:Envelope>".encode()
    headers = [(b"content-type", b"application/soap+xml;charset=UTF-8")]
    archive = play(tmp_path / "t.har", soap, b"multipart/encrypted", SECRET.encode(), headers=headers)
    entry = archive["log"]["entries"][0]
    assert entry["request"]["postData"]["text"] == "http://x/Command"
    assert entry["response"]["content"]["text"] == f"{len(SECRET)} bytes"
    assert entry["request"]["bodySize"] == len(soap)


def test_long_bodies_are_a_length(tmp_path: Path) -> None:
    """More than 64 KiB of a body are not kept."""
    body = json.dumps({"comment": "x" * 100_000}).encode()
    entry = play(tmp_path / "t.har", body, b"application/json", b"{}")["log"]["entries"][0]
    assert entry["request"]["bodySize"] == len(body)
    assert len(entry["request"]["postData"]["text"]) < 100


def test_coverage_is_printed() -> None:
    """labenv coverage tells routes as text, JSON, or the page of the documentation."""
    text = labenv("coverage")
    assert text.code == 0
    assert "POST   /storage/volumes: " in text.out
    rows = labenv("coverage", "--json").json["routes"]
    assert {"GET", "POST", "PATCH", "DELETE"} == {row["method"] for row in rows}
    page = Path(__file__).parents[2] / "docs" / "coverage.md"
    assert labenv("coverage", "--markdown").out == page.read_text("utf-8")


def test_a_lab_writes_its_trace(tmp_path: Path) -> None:
    """up --trace records both wires from the first request on; --delay and --strict act as they say."""
    state, har = tmp_path / "lab", tmp_path / "lab.har"
    started = labenv("up", "standalone", "--state", state, "--trace", har, "--delay", "3", "--strict", "--json")
    assert started.code == 0, started.err
    try:
        endpoints = json.loads((state / "endpoints.json").read_text("utf-8"))
        cluster = endpoints["storage"][0]
        import requests

        with requests.Session() as session:
            session.trust_env = False
            session.auth, session.verify = (cluster["user"], cluster["password"]), cluster["ca_file"]
            base = f"https://{cluster['host']}:{cluster['port']}/api"
            assert session.get(f"{base}/cluster", params={"fields": "version"}).status_code == 200
            refused = session.patch(f"{base}/cluster", json={})
            assert (refused.status_code, refused.json()["error"]["code"]) == (400, "2")
        entries = json.loads(har.read_text("utf-8"))["log"]["entries"]
        assert [entry["request"]["url"].split("?")[0] for entry in entries] == ["https://cluster1/api/cluster"] * 2
        assert [entry["time"] for entry in entries] == [3000, 3000]
        assert cluster["password"] not in har.read_text("utf-8")
    finally:
        assert labenv("down", "--state", state).code == 0
    wrong = labenv("up", "standalone", "--state", state, "--trace", tmp_path, "--json")
    assert wrong.code == 1
    assert "--trace" in wrong.json["error"]
