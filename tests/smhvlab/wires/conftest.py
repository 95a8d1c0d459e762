"""Fixtures of the wires' tests: certificate authorities, a canned HTTPS server, a port without a listener."""

from __future__ import annotations

import json
import socket
import ssl
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

# Helpers lie beside the tests; pytest's importlib mode does not look there by itself.
sys.path.insert(0, str(Path(__file__).parent))

from canned_server import Answer, Authority, Canned, Seen, make_authority  # needs the line above
from remote_host import RemoteHost, Serving  # as above


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """A CA, and a certificate for 127.0.0.1 that it signed."""
    return make_authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Another CA, which nobody trusts."""
    return make_authority(tmp_path_factory.mktemp("stranger"))


@pytest.fixture
def canned(authority: Authority) -> Iterator[Canned]:
    """A running server; set ``canned.route``."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            seen = Seen(self.command, self.path, dict(self.headers), self.rfile.read(length))
            server.seen.append(seen)
            answer = server.route(seen)
            body = answer.body
            content = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
            if answer.drop == "before":
                self.close_connection = True
                self.connection.close()
                return
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.content_type)
            self.send_header("Content-Length", str(len(content) + (10 if answer.drop == "middle" else 0)))
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)
            if answer.drop == "middle":
                self.close_connection = True

        do_GET = do_POST = do_PATCH = do_DELETE = handle_any  # noqa: N815  # names that the base class asks for

        def log_message(self, *_: object) -> None:
            pass

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority.certificate, authority.key)
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.daemon_threads = True
    httpd.handle_error = lambda *_: None  # type: ignore[method-assign]  # clients that hang up are expected here
    httpd.socket = context.wrap_socket(httpd.socket, server_side=True, do_handshake_on_connect=False)
    server = Canned("127.0.0.1", httpd.server_address[1], str(authority.ca), lambda _: Answer(404), [])
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    httpd.shutdown()
    httpd.server_close()
    thread.join()


@pytest.fixture
def unused_port() -> int:
    """A port on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def _serving(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[RemoteHost]:
    with Serving(tmp_path_factory.mktemp("remoting"), authority) as host:
        yield host


@pytest.fixture
def remote(_serving: RemoteHost) -> Iterator[RemoteHost]:
    """A PowerShell endpoint without sessions, faults or noted calls."""
    _serving.faults.clear()
    _serving.host.calls.clear()
    _serving.failures.clear()
    yield _serving
    _serving.settle()
    _serving.forget_shells()
    assert _serving.failures == []
