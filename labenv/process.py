"""The lab's process: one event loop that serves every storage cluster, every host and the control endpoint."""

from __future__ import annotations

import argparse
import asyncio
import errno
import gc
import json
import logging
import os
import platform
import secrets
import shutil
import signal
import socket
import ssl
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from email.utils import formatdate
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec
import uvicorn

from labenv.certs import ensure_certificates
from labenv.clock import SECOND
from labenv.control import Control
from labenv.populate import PopulateError
from labenv.private import write_private
from labenv.site import LabSite
from labenv.state import StateFolderMismatch
from labenv.statefolder import StateFolderUnusable, discard_unfinished, prepare, take
from labenv.topology import Topology, TopologyError, load
from labenv.trace import Trace
from labenv.windows.remoting.transport import ConnectionProtocol

App = Callable[[Any, Any, Any], Awaitable[None]]
Say = Callable[[Mapping[str, object]], None]
log = logging.getLogger("labenv")


class StartError(Exception):
    """The lab cannot start; the text says why and what to do."""


def main(arguments: Sequence[str] | None = None, *, say: Say | None = None) -> int:
    """Entry of ``python -m labenv.process``: says in one JSON object that it is ready or why not, and serves.

    Returns the exit code when it was told to stop: 0, or 2 if it could not start.
    """
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="labenv: %(message)s")
    say = say or _say
    try:
        asyncio.run(_run(options, say))
    except (StartError, StateFolderUnusable, StateFolderMismatch, TopologyError, PopulateError) as error:
        say({"error": str(error)})
        return 2
    except asyncio.CancelledError as error:
        say({"error": str(error)})
        return 2
    except KeyboardInterrupt:
        return 0
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="labenv.process")
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--topology", required=True)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--bind", default="127.0.0.1")
    parser.add_argument("--standard-ports", action="store_true")
    parser.add_argument("--realtime", type=float, default=None)
    parser.add_argument("--trace", type=Path, default=None)
    parser.add_argument("--delay", type=float, default=0.0)
    parser.add_argument("--strict", action="store_true")
    parser.add_argument("--until-stdin-closes", action="store_true")
    parser.add_argument("--temporary", action="store_true", help="delete the state folder at the end")
    parser.add_argument("--detached", action="store_true", help="messages go to lab.log in the state folder")
    return parser


def _say(message: Mapping[str, object]) -> None:
    try:
        sys.stdout.write(json.dumps(message) + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        log.warning("whoever started the lab has gone")


class _Server(uvicorn.Server):
    """uvicorn would raise the signal again when it has stopped, before the lab has closed its files."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def _run(options: argparse.Namespace, say: Say) -> None:
    folder: Path = options.state.absolute()
    topology = load(options.topology)
    if options.realtime is not None and not 0 < options.realtime < 1e6:
        raise StartError(f"--realtime {options.realtime:g}: lab seconds per real second, more than 0 and below 1000000")
    if not 0 <= options.delay <= 3600:
        raise StartError(f"--delay {options.delay:g}: lab seconds for each request, 0 to 3600")
    address = _address(options.bind)
    prepare(folder)
    with take(folder):
        if options.detached:
            _keep_messages(folder / "lab.log")
        discard_unfinished(folder)
        try:
            await _serve(folder, topology, address, options, say)
        finally:
            if options.temporary:  # whoever started us may be dead
                shutil.rmtree(folder, ignore_errors=True)


async def _serve(folder: Path, topology: Topology, address: str, options: argparse.Namespace, say: Say) -> None:
    known = _known_endpoints(folder, topology)
    sockets, endpoints = _listen(topology, known, bind=address, standard=options.standard_ports)
    try:
        await _open(folder, topology, sockets, endpoints, known.get("token"), options, say)
    finally:
        for listener in sockets:
            listener.close()


async def _open(
    folder: Path,
    topology: Topology,
    sockets: list[socket.socket],
    endpoints: dict[str, Any],
    token: str | None,
    options: argparse.Namespace,
    say: Say,
) -> None:
    addresses = [s.getsockname()[0] for s in sockets]
    ca_file, chain, key = ensure_certificates(folder / "certificates", addresses)
    endpoints["control"]["token"] = token or secrets.token_urlsafe(24)
    for entry in (*endpoints["storage"], *endpoints["hyperv"]):
        entry["ca_file"] = str(ca_file)
    site = LabSite(folder, topology=topology, seed=options.seed, realtime=options.realtime, endpoints=endpoints)
    trace: Trace | None = None
    server: _Server | None = None
    building = asyncio.current_task()
    assert building is not None

    def stop() -> None:
        if server is None:
            building.cancel("it was told to stop before it was ready")
        else:
            server.should_exit = True

    try:
        _heed(options, stop)
        await site.open()
        site.faults.delay = options.delay
        if options.strict:
            for array in site.arrays:
                array.refuse_empty_changes()
        apps: list[App] = list(site.apps())
        if options.trace is not None:
            trace = _trace(options.trace, site)
            names = [entry["name"] for entry in (*endpoints["storage"], *endpoints["hyperv"])]
            apps = [trace.of(app, name) for app, name in zip(apps, names, strict=True)]
        server = _server(site, apps, sockets, endpoints["control"]["token"], chain, key)
        serving = asyncio.create_task(server.serve(sockets=sockets))
        while not server.started and not serving.done():  # noqa: ASYNC110 - uvicorn offers no event for it
            await asyncio.sleep(0.005)
        if not serving.done():
            write_private(folder / "endpoints.json", json.dumps(endpoints, indent=1).encode())
            _collect_seldom()
            say({"ready": True, "state": str(folder)})
        await serving
    finally:
        if trace is not None:
            trace.close()
        await site.close()


def _collect_seldom() -> None:
    """Requests leave hardly any cycles, and the tables stay: do not look through them every few requests."""
    gc.freeze()
    gc.set_threshold(10_000)


def _trace(path: Path, site: LabSite) -> Trace:
    try:
        return Trace(path, site.clock)
    except OSError as error:
        raise StartError(f"--trace {path}: cannot be written ({error.strerror}); name another file") from error


def _server(
    site: LabSite, apps_of_site: Sequence[App], sockets: list[socket.socket], token: str, chain: Path, key: Path
) -> _Server:
    """One server on all sockets; which one a request came in by says whom it is for."""

    def stop() -> None:
        server.should_exit = True

    apps: dict[tuple[str, int], App] = {}
    control: App = Control(site, token=token, stop=stop)
    for listener, app in zip(sockets, [control, *apps_of_site], strict=True):
        apps[listener.getsockname()[:2]] = app

    async def dispatch(scope: Any, receive: Any, send: Any) -> None:
        async def dated(message: Any) -> None:
            if message["type"] == "http.response.start":  # the clocks of hosts and arrays are the lab's
                date = (b"date", _date(site.clock.now // SECOND))
                message = {**message, "headers": [*message.get("headers", ()), date]}
            await send(message)

        if scope["type"] == "http":
            await apps[tuple(scope["server"])](scope, receive, dated)

    server = _Server(
        uvicorn.Config(
            dispatch,
            ssl_certfile=str(chain),
            ssl_keyfile=str(key),
            ssl_cert_reqs=ssl.CERT_OPTIONAL,  # a client certificate is a login to an array that trusts its authority
            http=ConnectionProtocol,
            ws="none",
            loop="asyncio",
            lifespan="off",
            log_level="critical",
            access_log=False,
            date_header=False,
            proxy_headers=False,
            timeout_keep_alive=300,
            timeout_graceful_shutdown=1,
        )
    )
    server.config.load()
    tls = server.config.ssl
    assert tls is not None
    for array in site.arrays:
        array.trusts(lambda pem: tls.load_verify_locations(cadata=pem))
    return server


@lru_cache(2)
def _date(second: int) -> bytes:
    """A moment as HTTP writes it; lab time stands still for many requests."""
    return formatdate(second, usegmt=True).encode()


def _heed(options: argparse.Namespace, stop: Callable[[], None]) -> None:
    """Stop at a signal, and when standard input closes if that was asked for."""
    loop = asyncio.get_running_loop()
    if sys.platform != "win32":  # there Ctrl-C ends the loop by an exception
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop)
    if options.until_stdin_closes:
        threading.Thread(target=_watch_stdin, args=(loop, stop), daemon=True).start()


def _keep_messages(path: Path) -> None:
    """From here on messages go to a file: whoever started us must not wait for us to close their standard error."""
    with path.open("ab") as file:
        os.dup2(file.fileno(), sys.stderr.fileno())


def _watch_stdin(loop: asyncio.AbstractEventLoop, stop: Callable[[], None]) -> None:
    """End the lab when the process that started it closes our standard input, or dies."""
    while os.read(0, 4096):
        pass
    loop.call_soon_threadsafe(stop)


def _address(bind: str) -> str:
    """The IPv4 address that a name or address stands for; it has to be one that a client can connect to."""
    try:
        address = socket.getaddrinfo(bind, None, socket.AF_INET, socket.SOCK_STREAM)[0][4][0]
    except (OSError, UnicodeError) as error:
        raise StartError(
            f"--bind {bind}: no IPv4 address of this machine ({error}); write one such as 127.0.0.5"
        ) from None
    if address == "0.0.0.0":  # noqa: S104 - it is what is refused here
        raise StartError(
            f"--bind {bind}: stands for every address, and a client needs one to connect to; write that one"
        )
    return str(address)


def _known_endpoints(folder: Path, topology: Topology) -> dict[str, Any]:
    """Ports and credentials of an earlier run in this folder, so that they survive a restart."""
    path = folder / "endpoints.json"
    if not path.exists():
        return {"ports": {}, "passwords": {}}
    try:
        old = msgspec.json.decode(path.read_bytes())
        address, port = old["control"]["url"].removeprefix("https://").rsplit(":", 1)
        if old["topology"] != topology.name:
            raise StartError(
                f"{folder} holds a lab of topology {old['topology']}, not {topology.name}: "
                f"name another folder with --state, or delete this one"
            )
        entries = [*old["storage"], *old["hyperv"]]
        return {
            "ports": {"control": (address, int(port)), **{e["name"]: (e["host"], e["port"]) for e in entries}},
            "passwords": {e["name"]: e["password"] for e in entries}
            | {f"{e['name']}/{s['name']}": s["password"] for e in old["storage"] for s in e["svms"]}
            | {
                f"{e['name']}/{kind}": e[kind]["password"]
                for e in old["hyperv"]
                for kind in ("sql", "guest")
                if kind in e
            },
            "token": old["control"]["token"],
        }
    except (KeyError, TypeError, ValueError, msgspec.MsgspecError) as error:
        raise StartError(f"{path} cannot be read ({error}): delete it, the ports and passwords will be new") from error


def _listen(
    topology: Topology, known: Mapping[str, Any], *, bind: str, standard: bool
) -> tuple[list[socket.socket], dict[str, Any]]:
    """Open every socket: the control endpoint first, then storage clusters and hosts in the topology's order."""
    wanted = [("control", 0)]
    wanted += [(c.name, 443) for c in topology.cluster] + [(h.name, 5986) for h in topology.host]
    sockets: list[socket.socket] = []
    try:
        for name, port in wanted:
            address = bind
            if standard and port:
                number = sum(1 for n, p in wanted[: wanted.index((name, port))] if p == port)
                address = _next_address(bind, number)
            elif name in known["ports"]:
                port = known["ports"][name][1] if known["ports"][name][0] == bind else 0
            else:
                port = 0
            sockets.append(_socket(name, address, port))
    except StartError:
        for opened in sockets:
            opened.close()
        raise
    passwords = known["passwords"]

    def password(name: str) -> str:
        return passwords.get(name) or secrets.token_urlsafe(12)

    def place(index: int) -> dict[str, Any]:
        host, port = sockets[index].getsockname()[:2]
        return {"host": host, "port": port}

    storage = [
        {
            "name": c.name,
            "site": c.site,
            **place(1 + i),
            "user": "admin",
            "password": password(c.name),
            "svms": [{"name": s.name, "user": "vsadmin", "password": password(f"{c.name}/{s.name}")} for s in c.svm],
        }
        for i, c in enumerate(topology.cluster)
    ]
    sites = {c.name: c.site for c in topology.cluster}
    clusters = {node: failover.name for failover in topology.failover for node in failover.nodes}
    hyperv = [
        {
            "name": h.name,
            "site": sites[h.storage],
            "cluster": clusters.get(h.name),
            **place(1 + len(topology.cluster) + i),
            "user": "LAB\\Administrator",
            "password": password(h.name),
            "sql": {"user": "sa", "password": password(f"{h.name}/sql")},
            "guest": {"user": "Administrator", "password": password(f"{h.name}/guest")},
        }
        for i, h in enumerate(topology.host)
    ]
    url = "https://{host}:{port}".format(**place(0))
    return sockets, {"topology": topology.name, "control": {"url": url}, "storage": storage, "hyperv": hyperv}


def _next_address(bind: str, number: int) -> str:
    head, _, last = bind.rpartition(".")
    return f"{head}.{int(last) + number}"


def _socket(name: str, address: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    if sys.platform != "win32":
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((address, port))
        listener.listen(128)
        listener.setblocking(False)
    except PermissionError as error:
        listener.close()
        what = f"port {port} for {name} on {address} is not allowed ({error.strerror})"
        raise StartError(f"{what}. {_remedy(port)}") from error
    except OSError as error:
        listener.close()
        where = f"port {port} for {name} on {address}" if port else f"a port for {name} on {address}"
        remedy = (
            "give an address of this machine with --bind, such as 127.0.0.5"
            if error.errno == errno.EADDRNOTAVAIL
            else "stop whatever uses it, or choose another address with --bind, or delete endpoints.json in the state "
            "folder to get new ports"
        )
        raise StartError(f"{where} cannot be opened ({error.strerror}): {remedy}") from error
    return listener


def _remedy(port: int) -> str:
    remedies = {
        "Linux": f"Allow it once with: sudo sysctl net.ipv4.ip_unprivileged_port_start={port}",
        "Darwin": "Ports below 1024 on one address need root on macOS: start without --standard-ports",
    }
    return remedies.get(platform.system(), "Run it in an elevated prompt, or start without --standard-ports")


if __name__ == "__main__":
    sys.exit(main())
