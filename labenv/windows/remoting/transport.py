"""HTTP connections that an app can tell apart and close; uvicorn gives neither."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

LONGEST_HEAD = 1 << 18
"""Bytes of a request line with its headers, about; a longer one is refused."""


class Connection:
    """One TCP connection of a client. It is dropped with the connection, and with it whatever is kept under it."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport

    def abort(self) -> None:
        """Close the connection at once, without an answer."""
        self._transport.abort()

    def peer_certificate(self) -> bytes | None:
        """The certificate (DER) that the client has shown in the TLS handshake; None if it has shown none."""
        tunnel = self._transport.get_extra_info("ssl_object")
        found: bytes | None = None if tunnel is None else tunnel.getpeercert(binary_form=True)
        return found


class _Joined:
    """A transport that sends what is written in one turn of the loop at once: uvicorn writes head and body apart."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._written: list[bytes] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Send at the end of this turn."""
        if data:
            if not self._written:
                asyncio.get_running_loop().call_soon(self._send)
            self._written.append(data)

    def close(self) -> None:
        """Close the connection after what was written."""
        self._send()
        self._transport.close()

    def _send(self) -> None:
        if self._written:
            data, self._written = b"".join(self._written), []
            self._transport.write(data)


class ConnectionProtocol(HttpToolsProtocol):
    """HTTP/1.1 whose requests carry their ``Connection`` in ``scope["state"]["connection"]``.

    Pass the class to ``uvicorn.Config(http=ConnectionProtocol)``. NTLM authenticates a connection, not a request, so
    the remoting endpoint offers Negotiate only where it finds one. A head that is too long, or that does not name one
    host, is answered with 400 like one that is no HTTP; the parser would take it.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        # asyncio leaves Nagle's algorithm on for sockets made without IPPROTO_TCP: 40 ms for every answer
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        super().connection_made(transport)
        self.transport = _Joined(transport)  # type: ignore[assignment]  # it passes on all else
        self.app_state = {**self.app_state, "connection": Connection(transport)}
        self._in_head = False
        self._begun = 0  # bytes of the head, about

    def data_received(self, data: bytes) -> None:
        """Take bytes of the client."""
        super().data_received(data)
        self._begun = self._begun + len(data) if self._in_head else 0
        if self._begun > LONGEST_HEAD and not self.transport.is_closing():
            self.send_400_response("The head of the request is too long.")

    def on_message_begin(self) -> None:
        """The first byte of a request has come."""
        super().on_message_begin()
        self._in_head = True

    def on_headers_complete(self) -> None:
        """The head is complete; raises ValueError, which the parser turns into its own error, if it is not usable."""
        self._in_head = False
        hosts = [name for name, _ in self.headers].count(b"host")
        if hosts > 1 or (hosts == 0 and self.parser.get_http_version() == "1.1"):
            raise ValueError("a request of HTTP/1.1 names one host")
        super().on_headers_complete()


def connection_of(scope: Mapping[str, Any]) -> Connection | None:
    """The connection that a request came over, if the server says it."""
    found = scope.get("state", {}).get("connection")
    return found if isinstance(found, Connection) else None
