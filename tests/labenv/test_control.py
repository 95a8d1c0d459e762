"""The control endpoint: its token, its verbs, and what it makes of wrong requests; restores under load."""

from __future__ import annotations

import http.client
import json
import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

import smhvlab.site
from labenv.lab import Lab, LabError
from smhvlab.errors import SmhvLabError


def ask(lab: Lab, path: str, body: bytes = b"{}", *, token: str | None = None, method: str = "POST") -> tuple[int, Any]:
    """A raw request; status and decoded answer."""
    told = json.loads(lab.profile.read_text("utf-8"))
    url = urlsplit(told["control"]["url"])
    context = ssl.create_default_context(cafile=told["storage"][0]["ca_file"])
    given = told["control"]["token"] if token is None else token
    connection = http.client.HTTPSConnection(url.hostname or "", url.port, context=context, timeout=60)
    try:
        connection.request(method, path, body, {"Authorization": f"Bearer {given}"})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


@pytest.mark.parametrize("token", ["", "x", "Bearer", "\xe9"])
def test_without_its_token_it_does_nothing(lab: Lab, token: str) -> None:
    """Whoever cannot read the endpoints file cannot steer the lab."""
    time = lab.clock.now
    for verb in ("/status", "/clock/advance", "/down", "/nothing"):
        status, answer = ask(lab, verb, b'{"seconds": 60}', token=token)
        assert status == 401
        assert "endpoints.json" in answer["error"]
    assert lab.clock.now == time


@pytest.mark.parametrize(
    ("path", "body", "status", "said"),
    [
        ("/nothing", b"{}", 404, "no verb 'nothing': one of checkpoint, clock"),
        ("/status", b"{", 400, "no JSON object"),
        ("/status", b"[]", 400, "no JSON object"),
        ("/checkpoint", b"{}", 400, "name is missing"),
        ("/checkpoint", b'{"name": 5}', 400, "no text"),
        ("/restore", b'{"name": "../x"}', 400, "no checkpoint '../x': one of fresh"),
        ("/clock/advance", b"{}", 400, "moves forward"),
        ("/clock/advance", b'{"seconds": -1}', 400, "moves forward"),
        ("/clock/advance", b'{"seconds": 1e9}', 400, "moves forward"),
        ("/fault", b'{"where": "ontap.request", "effect": "drop", "time": 1}', 400, "no 'time': it has where"),
        ("/fault", b'{"effect": "drop"}', 400, "where"),
        ("/fault", b'{"where": "ontap.request", "effect": "drop", "times": "x"}', 400, "times"),
        ("/guest", b'{"vm": "nobody", "action": "count"}', 400, "no VM 'nobody': one of golden, sql01"),
        ("/guest", b'{"vm": "golden", "action": "databases"}', 400, "not running"),
        ("/guest", b'{"vm": "sql01", "action": "explode"}', 400, "explode"),
        ("/guest", b'{"vm": "sql01", "action": "count"}', 400, "database"),
        ("/guest", b'{"vm": "sql01", "action": "count", "arguments": {"database": "zz"}}', 400, "zz"),
        ("/inspect/files", b'{"volume": "nothing"}', 400, "no volume 'nothing'"),
        ("/inspect/files", b'{"volume": "golden", "snapshot": "no"}', 400, "no Snapshot copy 'no' of golden"),
        ("/inspect/export", b'{"volume": "golden", "path": "/no", "target": "/x"}', 400, "no file '/no' in golden"),
    ],
)
def test_a_wrong_request_gets_a_reason(lab: Lab, path: str, body: bytes, status: int, said: str) -> None:
    """One line of JSON that says what is wrong; the lab goes on without a failure of its own."""
    got, answer = ask(lab, path, body)
    assert got == status
    assert set(answer) == {"error"}
    assert said in answer["error"]
    assert lab.faults.list() == []


def test_inspection_tells_the_truth(lab: Lab, tmp_path: Path) -> None:
    """Files, space and bytes of a volume and of its Snapshot copy, beside what the wires tell."""
    assert lab.inspect.files("golden") == {"/golden": 30 << 30}
    assert lab.inspect.files("golden", snapshot="golden_1") == {"/golden": 30 << 30}
    assert lab.inspect.usage("vm_shared")["size"] == 120 << 30
    size = lab.inspect.export("snapinfo", "/snapinfo", tmp_path / "lun")
    assert size == 10 << 30
    with (tmp_path / "lun").open("rb") as file:
        file.seek(512)
        assert file.read(8) == b"EFI PART"
    assert (tmp_path / "lun").stat().st_size == size


def test_memory_stays_small(lab: Lab) -> None:
    """A site with three running VMs, four databases each, is far below the limit of 300 MB."""
    memory = lab.inspect.memory()
    if memory is None:
        pytest.skip("this system does not tell the memory of a process")
    assert 10 << 20 < memory < 300_000_000


def test_a_restore_ends_what_is_under_way(lab: Lab) -> None:
    """Clients that write on both wires during restores get errors at most; the site is exactly the restored one."""
    lab.reset()
    with smhvlab.site.connect(lab.profile) as site:
        fresh = (site.snapshots().to_csv(), site.vms().to_csv(), site.luns().to_csv(), lab.status())
        stop = threading.Event()
        done = [0, 0]

        def client(index: int, work: Callable[[int], object]) -> Callable[[], None]:
            def loop() -> None:
                for number in range(1_000_000):
                    if stop.is_set():
                        break
                    try:
                        work(number)
                        done[index] += 1
                    except SmhvLabError:
                        site.release()
                site.release()

            return loop

        def array(number: int) -> None:
            storage = site.tools().storage
            volume = storage.volume("vm_shared", svm="svm1")
            assert volume is not None
            storage.ensure_snapshots([volume], f"copy{number}")

        def host(number: int) -> None:
            site.tools().host.run("New-Item", {"Path": f"S:\\{number}", "ItemType": "Directory"})

        clients = [threading.Thread(target=client(i, work)) for i, work in enumerate((array, host))]
        for thread in clients:
            thread.start()
        for _ in range(15):
            before = list(done)
            while any(a == b for a, b in zip(before, done, strict=True)) and all(t.is_alive() for t in clients):
                stop.wait(0.002)
            lab.restore("fresh")
        stop.set()
        for thread in clients:
            thread.join(60)
            assert not thread.is_alive()
        lab.restore("fresh")
        assert (site.snapshots().to_csv(), site.vms().to_csv(), site.luns().to_csv(), lab.status()) == fresh
        assert lab.inspect.check() == []
        assert min(done) >= 15


def test_an_error_of_the_lab_itself_is_told_in_one_line(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Something that is no JSON in place of the endpoints, or in the answer, gives a LabError and no traceback."""
    monkeypatch.setattr(lab, "profile", Path(__file__))
    with pytest.raises(LabError, match="cannot be used"):
        lab.status()
