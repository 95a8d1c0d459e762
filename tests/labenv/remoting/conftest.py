"""A fake host behind the real endpoint, served over HTTPS on a free port by a thread of this process."""

from __future__ import annotations

import asyncio
import gc
import ipaddress
import socket
import threading
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar
from uuid import UUID

import pytest
import uvicorn
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pypsrp.powershell import PowerShell, RunspacePool
from pypsrp.wsman import WSMan

from labenv.clock import Clock
from labenv.faults import Faults
from labenv.ids import Ids
from labenv.state import State
from labenv.windows.call import Call, Cmdlet, PsError
from labenv.windows.objects import Int64, PsEnum, PsList, PsObject
from labenv.windows.remoting.endpoint import Quotas, Remoting
from labenv.windows.remoting.transport import ConnectionProtocol

START = datetime(2026, 1, 5, 8, 0, tzinfo=UTC)
USER = "LAB\\Administrator"
PASSWORD = "Correct-Horse:7"
VM_ID = UUID("11111111-2222-4333-8444-555555555555")
T = TypeVar("T")


def vm(name: str, identity: UUID = VM_ID) -> PsObject:
    """A virtual machine with one property of each kind."""
    adapter = PsObject(("Microsoft.HyperV.PowerShell.VMNetworkAdapter", "System.Object"), {"Name": "nic0"}, text="nic0")
    drive = PsObject(
        ("Microsoft.HyperV.PowerShell.HardDiskDrive", "System.Object"),
        {
            "Path": f"C:\\VMs\\{name}.vhdx",
            "ControllerType": PsEnum("Microsoft.HyperV.PowerShell.ControllerType", "IDE", 0),
        },
        text="Hard Drive on IDE controller number 0 at location 0",
    )
    return PsObject(
        (
            "Microsoft.HyperV.PowerShell.VirtualMachine",
            "Microsoft.HyperV.PowerShell.VirtualMachineBase",
            "System.Object",
        ),
        {
            "Id": identity,
            "Name": name,
            "State": PsEnum("Microsoft.HyperV.PowerShell.VMState", "Running", 2),
            "Generation": 1,
            "MemoryAssigned": Int64(1 << 31),
            "IsClustered": False,
            "ParentSnapshotId": None,
            "Uptime": timedelta(hours=1),
            "CreationTime": START,
            "OperationalStatus": PsList(
                "Microsoft.HyperV.PowerShell.VMOperationalStatus[]",
                [PsEnum("Microsoft.HyperV.PowerShell.VMOperationalStatus", "Ok", 2)],
            ),
            "NetworkAdapters": PsList(
                "System.Collections.Generic.List`1[[Microsoft.HyperV.PowerShell.VMNetworkAdapter]]", [adapter]
            ),
            "HardDrives": PsList("Microsoft.HyperV.PowerShell.HardDiskDrive[]", [drive]),
        },
        notes={"VMName": name},
        text=f"VirtualMachine (Name = '{name}')",
    )


def get_vm(host: Any, call: Call) -> list[object]:
    if "Id" in call:
        return [v for v in host.vms if v.properties["Id"] == call["Id"]]
    names = call.get("Name", ["*"])
    found = [v for v in host.vms if "*" in names or v.properties["Name"] in names]
    for name in names:
        if name != "*" and not any(v.properties["Name"] == name for v in host.vms):
            call.error(
                PsError(
                    f'Hyper-V was unable to find a virtual machine with name "{name}".',
                    error_id="InvalidParameter",
                    category="InvalidArgument",
                    target=name,
                    exception="Microsoft.HyperV.PowerShell.VirtualizationException",
                )
            )
    return found


def stop_vm(host: Any, call: Call) -> None:
    host.log.append(
        ("Stop-VM", call.parameter_set, [v.properties["Name"] for v in call.get("VM", [])], dict(call.parameters))
    )


def get_service(host: Any, call: Call) -> list[object]:
    call.warning("a warning")
    call.verbose("a detail")
    call.progress("Preparing modules for first use.", "soon", 50)
    return [" ".join(call.get("Name", []))]


def get_random(host: Any, call: Call) -> list[object]:
    return ["x" * call["Maximum"]]


def set_content(host: Any, call: Call) -> None:
    host.log.append(("Set-Content", call["LiteralPath"], call["Value"]))


async def new_item(host: Any, call: Call) -> None:
    await host.clock.sleep(5)
    host.log.append(("New-Item", call["Path"]))


def new_vm(host: Any, call: Call) -> None:
    raise PsError(
        "No such path.",
        error_id="ObjectNotFound",
        category="ObjectNotFound",
        target=call.get("Name"),
        exception="Microsoft.HyperV.PowerShell.VirtualizationException",
    )


def broken(host: Any, call: Call) -> None:
    raise ZeroDivisionError("a bug of the lab")


async def wait_process(host: Any, call: Call) -> list[object]:
    host.log.append("waiting")
    try:
        await host.release.wait()
    except asyncio.CancelledError:
        host.log.append("cancelled")
        raise
    return ["released"]


def guest_check(host: Any, call: Call) -> list[object]:
    return [call["Credential"].user, len(call["Credential"].password), call["Database"]]


def diskshadow(host: Any, call: Call) -> list[object]:
    call.variables["LASTEXITCODE"] = len(call["Arguments"])
    return ["Microsoft DiskShadow version 1.0", *call["Arguments"]]


FAKES: dict[str, Cmdlet] = {
    "Get-VM": get_vm,
    "Stop-VM": stop_vm,
    "Get-Service": get_service,
    "Get-Random": get_random,
    "Set-Content": set_content,
    "New-Item": new_item,
    "New-VM": new_vm,
    "Get-Host": broken,
    "Get-Process": wait_process,
    "Invoke-SmhvGuestCheck": guest_check,
    "diskshadow.exe": diskshadow,
    "Add-ClusterVirtualMachineRole": lambda host, call: ["added"],
}


@dataclass
class Server:
    """The endpoint under test and the thread that serves it."""

    port: int
    ca_file: str
    loop: asyncio.AbstractEventLoop
    clock: Clock
    host: Any
    remoting: Remoting
    faults: Faults
    failures: list[BaseException] = field(default_factory=list)
    commits: list[int] = field(default_factory=list)

    def connection(self, *, auth: str = "basic", user: str = USER, password: str = PASSWORD, **options: Any) -> WSMan:
        return WSMan(
            "127.0.0.1",
            port=self.port,
            username=user,
            password=password,
            auth=auth,
            cert_validation=self.ca_file,
            no_proxy=True,
            **options,
        )

    def pool(self, *, configuration: str = "Microsoft.PowerShell", runspaces: int = 1, **options: Any) -> RunspacePool:
        return RunspacePool(self.connection(**options), configuration_name=configuration, max_runspaces=runspaces)

    def call(self, coroutine: Callable[[], Coroutine[Any, Any, T]]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine(), self.loop).result(20)


def command(
    pool: RunspacePool, name: str, parameters: dict[str, Any] | None = None, select: list[str] | None = None
) -> PowerShell:
    """A pipeline with one cmdlet and perhaps a Select-Object, not yet invoked."""
    shell = PowerShell(pool)
    shell.add_cmdlet(name).add_parameters(parameters or {})
    if select:
        shell.add_cmdlet("Select-Object").add_parameter("Property", select)
    return shell


def certificate(folder: Path) -> tuple[str, str]:
    """A throw-away certificate for 127.0.0.1 that is its own authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=2))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    chain, private = folder / "server.pem", folder / "server.key"
    chain.write_bytes(built.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return str(chain), str(private)


class FakeHost(SimpleNamespace):
    """As much of a host as remoting touches."""


def make_host(clock: Clock) -> Any:
    return FakeHost(
        spec=SimpleNamespace(name="hv1"),
        clock=clock,
        commands=FAKES,
        vms=[vm("vm1"), vm("vm2", UUID(int=2))],
        log=[],
        release=clock.signal(),
    )


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for the tests of a module."""
    folder = tmp_path_factory.mktemp("remoting")
    chain, key = certificate(folder)
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    box: list[Server] = []
    ready = threading.Event()
    servers: list[uvicorn.Server] = []

    async def serve() -> None:
        clock = Clock(START)
        faults = Faults(clock)
        host = make_host(clock)
        commits: list[int] = []
        state = State(folder / "state.db")
        remoting = Remoting(
            host=host,
            clock=clock,
            ids=Ids(1, state),
            faults=faults,
            users={USER: PASSWORD, "LAB\\Other": "other"},
            commit=lambda: commits.append(clock.now),
            quotas=Quotas(shells_per_user=6),
        )
        config = uvicorn.Config(
            remoting.app,
            ssl_certfile=chain,
            ssl_keyfile=key,
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
        server = uvicorn.Server(config)
        servers.append(server)
        made = Server(
            listener.getsockname()[1], chain, asyncio.get_running_loop(), clock, host, remoting, faults, commits=commits
        )
        clock.on_failure = made.failures.append
        box.append(made)
        serving = asyncio.get_running_loop().create_task(server.serve(sockets=[listener]))
        while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0.002)
        ready.set()
        await serving
        await remoting.close()
        state.close()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    assert ready.wait(20)
    yield box[0]
    gc.collect()  # connections in the tracebacks of refused clients
    eventually(lambda: not servers[0].server_state.connections)
    servers[0].should_exit = True
    thread.join(20)
    assert not thread.is_alive()


@pytest.fixture
def server(started: Server) -> Iterator[Server]:
    """The server, clean: no faults, no log, and no failure of the simulator during the test."""
    started.faults.clear()
    started.host.log.clear()
    started.commits.clear()
    started.failures.clear()
    started.host.release.clear()
    yield started
    started.call(started.remoting.close)
    assert started.failures == []


@pytest.fixture
def pool(server: Server) -> Iterator[RunspacePool]:
    """An open pool of one runspace."""
    with server.pool() as opened:
        yield opened
    opened.connection.close()


def parsed(text: str | bytes) -> ET.Element:
    """What our own server, or a file of facts, holds as XML."""
    return ET.fromstring(text)  # noqa: S314 - nobody else wrote it


def eventually(condition: Callable[[], bool]) -> None:
    """Wait (in real time) for another thread to bring something about."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.005)
