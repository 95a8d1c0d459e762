"""Fixtures: a cluster in this process (``bench``), and one behind TLS (``served``)."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from labenv.certs import ensure_certificates
from labenv.ontap.rest.call import Call, Reply
from labenv.ontap.rest.dispatch import Dispatcher

from .conformance import Gate
from .ontap_bench import Bench, Served, ServedBench


@pytest.fixture(scope="session")
def _gate() -> Gate:
    return Gate()


@pytest.fixture(autouse=True)
def gate(_gate: Gate, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    """Every answer of every test in this folder is held against what the vendor has published."""
    answer = Dispatcher.answer

    async def watched(self: Dispatcher, call: Call) -> Reply:
        reply = await answer(self, call)
        if reply.raw is None:
            _gate.look(self, call.method, tuple(call.segments), reply.status, reply.body)
        return reply

    monkeypatch.setattr(Dispatcher, "answer", watched)
    _gate.violations.clear()
    yield _gate
    assert sorted(set(_gate.violations)) == []


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A cluster in this process."""
    bench = Bench(tmp_path)
    yield bench
    bench.close()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    """A cluster behind HTTPS, in a thread of its own."""
    ca_file, chain, key = ensure_certificates(tmp_path / "tls", ["127.0.0.1"])
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(64)
    ready = threading.Event()
    found: list[Any] = []

    def main() -> None:
        async def work() -> None:
            bench = ServedBench(tmp_path)
            config = uvicorn.Config(
                bench.array.app,
                ssl_certfile=str(chain),
                ssl_keyfile=str(key),
                lifespan="off",
                ws="none",
                http="h11",
                log_level="critical",
            )
            server = uvicorn.Server(config)
            found.extend((bench, server, asyncio.get_running_loop()))
            ready.set()
            await server.serve(sockets=[listener])
            await bench.clock.cancel_tasks()
            bench.array.close()
            assert bench.blocks.check() == []
            bench.state.close()
            bench.blocks.close()

        asyncio.run(work())

    thread = threading.Thread(target=main, name="served cluster")
    thread.start()
    assert ready.wait(30)
    bench, server, loop = found
    yield Served(bench, listener.getsockname()[1], ca_file, loop)
    server.should_exit = server.force_exit = True
    thread.join(30)
    listener.close()
    assert not thread.is_alive()
