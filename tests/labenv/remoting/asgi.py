"""The endpoint without a network: requests as ASGI messages on an event loop of the test."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest
from pypsrp.powershell import PowerShell, RunspacePool
from pypsrp.shell import SignalCode
from pypsrp.wsman import SelectorSet, WSMan

from labenv.clock import Clock
from labenv.faults import Faults
from labenv.ids import Ids
from labenv.state import State
from labenv.windows.remoting.endpoint import Quotas, Remoting

from .conftest import PASSWORD, START, USER, command, make_host

T = TypeVar("T")


@dataclass
class Direct:
    """The app and what is below it."""

    remoting: Remoting
    clock: Clock
    host: Any

    async def post(self, data: bytes) -> tuple[int, bytes]:
        """One request with the right password; returns status and body."""
        secret = base64.b64encode(f"{USER}:{PASSWORD}".encode())
        scope = {
            "type": "http",
            "method": "POST",
            "path": "/wsman",
            "scheme": "https",
            "headers": [(b"authorization", b"Basic " + secret)],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 5986),
        }
        incoming: list[Mapping[str, Any]] = [{"type": "http.request", "body": data}]
        answers: list[Mapping[str, Any]] = []

        async def receive() -> Mapping[str, Any]:
            if incoming:
                return incoming.pop()
            await asyncio.Event().wait()
            raise AssertionError

        async def send(message: Mapping[str, Any]) -> None:
            answers.append(message)

        await self.remoting.app(scope, receive, send)
        return answers[0]["status"], answers[1]["body"]


def direct(folder: Path, body: Callable[[Direct], Awaitable[T]], *, quotas: Quotas | None = None) -> T:
    """Run a test body with a fresh endpoint."""

    async def run() -> T:
        clock = Clock(START)
        host = make_host(clock)
        state = State(folder / "state.db")
        remoting = Remoting(
            host=host,
            clock=clock,
            ids=Ids(1, state),
            faults=Faults(clock),
            users={USER: PASSWORD},
            commit=lambda: None,
            quotas=quotas,
        )
        try:
            return await body(Direct(remoting, clock, host))
        finally:
            await remoting.close()
            await clock.cancel_tasks()
            state.close()

    return asyncio.run(run())


class Recorder:
    """A client's transport that keeps what it would send."""

    endpoint = "https://127.0.0.1:5986/wsman"

    def __init__(self) -> None:
        self.sent: list[bytes] = []

    def send(self, message: bytes, **_: object) -> bytes:
        self.sent.append(message)
        raise ConnectionError


def requests_of_a_client(name: str = "Get-Service") -> tuple[bytes, bytes]:
    """A real Create and a real Command envelope for the same pool; the command takes a Name."""
    connection = WSMan("127.0.0.1", username=USER, password=PASSWORD, auth="basic")
    recorder = Recorder()
    connection.transport = recorder  # type: ignore[assignment]
    pool = RunspacePool(connection)
    with pytest.raises(ConnectionError):
        pool.open()
    pool.shell._selector_set = selector(pool)
    pool.protocol_version = "2.3"
    shell: PowerShell = command(pool, name, {"Name": "x"})
    with pytest.raises(ConnectionError):
        shell.begin_invoke()
    return recorder.sent[0], recorder.sent[1]


def later_requests_of_a_client(name: str = "Get-Service") -> list[bytes]:
    """Create, Command, and what may follow: Receive, Send, Signal, Get and Delete for the same pool and command."""
    connection = WSMan("127.0.0.1", username=USER, password=PASSWORD, auth="basic")
    recorder = Recorder()
    connection.transport = recorder  # type: ignore[assignment]
    pool = RunspacePool(connection)
    with pytest.raises(ConnectionError):
        pool.open()
    pool.shell._selector_set = selector(pool)
    pool.protocol_version = "2.3"
    shell: PowerShell = command(pool, name, {"Name": "x"})
    with pytest.raises(ConnectionError):
        shell.begin_invoke()
    identity = str(shell.id).upper()
    for send in (
        lambda: pool.shell.receive("stdout", command_id=identity, timeout=1),
        lambda: pool.shell.send("stdin", b"\x00" * 21, command_id=identity),
        lambda: pool.shell.signal(SignalCode.PS_CTRL_C, identity),
        lambda: connection.get(pool.shell.resource_uri, selector_set=selector(pool)),
        lambda: connection.delete(pool.shell.resource_uri, selector_set=selector(pool)),
    ):
        with pytest.raises(ConnectionError):
            send()
    return recorder.sent


def selector(pool: RunspacePool) -> SelectorSet:
    """What names the pool's shell."""
    chosen = SelectorSet()
    chosen.add_option("ShellId", pool.id)
    return chosen
