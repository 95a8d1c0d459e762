"""A PowerShell endpoint for the wire's tests: labenv's remoting with a few made-up cmdlets, in a thread."""

from __future__ import annotations

import asyncio
import gc
import socket
import threading
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar
from uuid import UUID

import uvicorn
from canned_server import Authority

from labenv.clock import Clock
from labenv.faults import Faults
from labenv.ids import Ids
from labenv.state import State
from labenv.windows.call import Call, Cmdlet, PsError
from labenv.windows.objects import PsEnum, PsList, PsObject
from labenv.windows.remoting.endpoint import Quotas, Remoting
from labenv.windows.remoting.transport import ConnectionProtocol
from smhvlab.profile import HostEndpoint

START = datetime(2026, 1, 5, 8, 0, tzinfo=UTC)
USER = "LAB\\Administrator"
PASSWORD = "Correct-Horse:7"
VM_IDS = {"sql01": UUID(int=1), "web01": UUID(int=2)}
HYPERV = "Microsoft.HyperV.PowerShell"
T = TypeVar("T")


def _vm(name: str) -> PsObject:
    adapter = PsObject((f"{HYPERV}.VMNetworkAdapter", "System.Object"), {"Name": "nic0"}, text="nic0")
    return PsObject(
        (f"{HYPERV}.VirtualMachine", "System.Object"),
        {
            "Id": VM_IDS[name],
            "Name": name,
            "State": PsEnum(f"{HYPERV}.VMState", "Running", 2),
            "IsClustered": False,
            "ParentSnapshotId": None,
            "CreationTime": START,
            "NetworkAdapters": PsList(f"System.Collections.Generic.List`1[[{HYPERV}.VMNetworkAdapter]]", [adapter]),
        },
        notes={"VMName": name},
        text=f"VirtualMachine (Name = '{name}')",
    )


def _get_vm(host: Any, call: Call) -> list[object]:
    if "Id" in call:
        return [_vm(name) for name, identity in VM_IDS.items() if identity == call["Id"]]
    found: list[object] = []
    for name in call.get("Name", list(VM_IDS)):
        if name in VM_IDS:
            found.append(_vm(name))
        else:
            call.error(
                PsError(
                    f'Hyper-V was unable to find a virtual machine with name "{name}".',
                    error_id="InvalidParameter",
                    category="InvalidArgument",
                    target=name,
                    exception=f"{HYPERV}.VirtualizationException",
                )
            )
    return found


def _note(name: str) -> Cmdlet:
    def noted(host: Any, call: Call) -> None:
        host.calls.append((name, dict(call.parameters)))

    return noted


async def _slow(host: Any, call: Call) -> list[object]:
    """Takes five lab seconds, or never ends if asked for the name Forever."""
    host.calls.append(("begin", call["Name"]))
    if call["Name"] == "Forever":
        await host.clock.signal().wait()
    await host.clock.sleep(5)
    host.calls.append(("end", call["Name"]))
    return [call["Name"]]


async def _content(host: Any, call: Call) -> list[object]:
    if call.get("LiteralPath") == ["Forever"]:
        await host.clock.signal().wait()
    call.warning("read with care")
    return ["first", "second"]


def _diskshadow(host: Any, call: Call) -> list[object]:
    call.variables["LASTEXITCODE"] = 3
    return ["Microsoft DiskShadow", *call["Arguments"]]


COMMANDS: dict[str, Cmdlet] = {
    "Get-VM": _get_vm,
    "Stop-VM": _note("Stop-VM"),
    "Set-VM": _note("Set-VM"),
    "Remove-VM": _note("Remove-VM"),
    "Set-Content": _note("Set-Content"),
    "Get-Content": _content,
    "New-VMSwitch": _slow,
    "diskshadow.exe": _diskshadow,
    "Add-ClusterVirtualMachineRole": _note("Add-ClusterVirtualMachineRole"),
    "Invoke-SmhvGuestCheck": _note("Invoke-SmhvGuestCheck"),
}


@dataclass
class RemoteHost:
    """The running endpoint."""

    port: int
    ca_file: str
    loop: asyncio.AbstractEventLoop
    clock: Clock
    host: Any
    remoting: Remoting
    faults: Faults
    server: uvicorn.Server
    failures: list[BaseException] = field(default_factory=list)

    def endpoint(self, **changes: Any) -> HostEndpoint:
        """The endpoint of a profile that points here."""
        settings: dict[str, Any] = {
            "name": "hv1",
            "host": "127.0.0.1",
            "port": self.port,
            "user": USER,
            "ca_file": self.ca_file,
            "authentication": "basic",
        }
        return HostEndpoint(**(settings | changes))

    @property
    def calls(self) -> list[tuple[str, Any]]:
        """What the noted cmdlets were called with."""
        found: list[tuple[str, Any]] = self.host.calls
        return found

    def forget_shells(self) -> None:
        """The host restarts its remoting service: all sessions are gone."""
        self.run(self.remoting.close)

    def settle(self) -> None:
        """Wait (in real time) until the endpoint has noticed that its clients are gone."""
        # The socket of an answer that was an error lives as long as the traceback.
        gc.collect()
        deadline = time.monotonic() + 10
        while self.server.server_state.connections:
            assert time.monotonic() < deadline, "a wire was left open"
            time.sleep(0.005)

    def run(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run a coroutine in the endpoint's loop."""
        return asyncio.run_coroutine_threadsafe(work(), self.loop).result(20)


class Serving:
    """Starts and stops a `RemoteHost`."""

    def __init__(self, folder: Path, authority: Authority) -> None:
        self._folder = folder
        self._authority = authority
        self._ready = threading.Event()
        self._server: uvicorn.Server | None = None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self.host: RemoteHost

    def __enter__(self) -> RemoteHost:
        self._thread.start()
        assert self._ready.wait(20)
        return self.host

    def __exit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.should_exit = True
        self._thread.join(20)
        assert not self._thread.is_alive()

    async def _serve(self) -> None:
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        clock = Clock(START)
        faults = Faults(clock)
        fake: Any = SimpleNamespace(spec=SimpleNamespace(name="hv1"), clock=clock, commands=COMMANDS, calls=[])
        state = State(self._folder / "state.db")
        remoting = Remoting(
            host=fake,
            clock=clock,
            ids=Ids(1, state),
            faults=faults,
            users={USER: PASSWORD},
            commit=lambda: None,
            quotas=Quotas(shells_per_user=4),
        )
        self._server = uvicorn.Server(
            uvicorn.Config(
                remoting.app,
                ssl_certfile=str(self._authority.certificate),
                ssl_keyfile=str(self._authority.key),
                http=ConnectionProtocol,
                ws="none",
                loop="asyncio",
                lifespan="off",
                interface="asgi3",
                proxy_headers=False,
                log_level="error",
                timeout_keep_alive=60,
                timeout_graceful_shutdown=1,
            )
        )
        self.host = RemoteHost(
            listener.getsockname()[1],
            str(self._authority.ca),
            asyncio.get_running_loop(),
            clock,
            fake,
            remoting,
            faults,
            self._server,
        )
        clock.on_failure = self.host.failures.append
        serving = asyncio.get_running_loop().create_task(self._server.serve(sockets=[listener]))
        while not self._server.started:  # noqa: ASYNC110  # uvicorn has no event for it
            await asyncio.sleep(0.002)
        self._ready.set()
        await serving
        await remoting.close()
        state.close()
