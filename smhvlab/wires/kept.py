"""Requests over a connection that stays open: what is sent and read again and again goes straight.

Both wires send hundreds of small requests to one address. urllib3 and http.client take apart and put together for each
of them what never changes, which costs several times the request itself. So they open a connection, verify it and see
it through its first exchange; from then on requests are written and answers read here. Whatever is unusual - another
address, a body that is not text or bytes, an answer that is to be streamed - goes their way as before.
"""

from __future__ import annotations

import http.client
import io
import queue
import weakref
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, BinaryIO
from urllib.parse import urlsplit

import requests
import urllib3.exceptions
from requests.adapters import HTTPAdapter
from requests.cookies import extract_cookies_to_jar
from requests.structures import CaseInsensitiveDict
from requests.utils import get_encoding_from_headers
from urllib3.util.connection import is_connection_dropped

_LONGEST = 65_536
"""Bytes of a line of an answer's head, as http.client allows them."""

_MOST = 100
"""Lines of an answer's head."""


@dataclass(frozen=True)
class _Kept:
    """A connection that has carried an exchange."""

    key: tuple[object, ...]
    host: str
    connection: Any
    reader: BinaryIO
    closing: weakref.finalize[Any, Any]

    def drop(self) -> None:
        self.closing()


class KeptAdapter(HTTPAdapter):
    """An adapter without retries that keeps one connection."""

    def __init__(self) -> None:
        super().__init__(max_retries=0)
        self._kept: _Kept | None = None

    def send(  # type: ignore[override]  # the base declares every option; all that we were given goes on to it
        self, request: requests.PreparedRequest, **options: Any
    ) -> requests.Response:
        """One exchange. Raises as the base does."""
        kept, self._kept = self._kept, None  # a second thread, or a failure, must not find it in use
        url = urlsplit(request.url or "")
        key = (url.scheme, url.netloc, options.get("verify"), options.get("cert"))
        usual = isinstance(request.body, (bytes, str, type(None))) and not options.get("stream")
        if kept is not None and usual and kept.key == key and not is_connection_dropped(kept.connection):
            try:
                response, lasting = self._converse(kept, request, options.get("timeout"))
            except BaseException:
                kept.drop()
                raise
            if response.status_code != 401:
                if lasting:
                    self._hold(kept)
                else:
                    kept.drop()
                return response
            # Nothing was done. Whoever asks to be told again who we are hears it over a connection of its own.
        if kept is not None:
            kept.drop()
        response = super().send(request, **options)
        if usual and url.scheme == "https" and response.status_code != 401:  # else they are still getting acquainted
            _ = response.content  # then the connection is free
            self._take(request, key, url.netloc, options)
        return response

    def close(self) -> None:
        """Close all connections."""
        kept, self._kept = self._kept, None
        if kept is not None:
            kept.drop()
        super().close()

    def _hold(self, kept: _Kept) -> None:
        if self._kept is not None:
            self._kept.drop()
        self._kept = kept

    def _take(
        self, request: requests.PreparedRequest, key: tuple[object, ...], netloc: str, options: dict[str, Any]
    ) -> None:
        """Take the connection that has just carried an exchange out of the library's hands, if it is still open."""
        pool: Any = self.get_connection_with_tls_context(
            request, options.get("verify", True), proxies=options.get("proxies"), cert=options.get("cert")
        )
        try:
            connection = pool.pool.get_nowait() if pool.pool is not None else None
        except queue.Empty:
            return
        socket = getattr(connection, "sock", None)
        if connection is None or socket is None:
            return
        reader = socket.makefile("rb")
        closing = weakref.finalize(self, _close, reader, connection)
        self._hold(_Kept(key, netloc.rpartition("@")[2], connection, reader, closing))

    def _converse(self, kept: _Kept, request: requests.PreparedRequest, timeout: Any) -> tuple[requests.Response, bool]:
        """Send and read; also whether the connection may be used again."""
        _, patience = timeout if isinstance(timeout, tuple) else (None, timeout)
        body = request.body.encode() if isinstance(request.body, str) else request.body or b""
        lines = [f"{request.method} {request.path_url} HTTP/1.1", f"Host: {kept.host}"]
        lines += [f"{_text(name)}: {_text(value)}" for name, value in request.headers.items()]
        head = "\r\n".join((*lines, "", "")).encode("latin-1")
        socket = kept.connection.sock
        try:
            socket.settimeout(patience)
            socket.sendall(head + body)
            version, status, reason, headers, cookies = _head(kept.reader)
            while status < 200:
                version, status, reason, headers, cookies = _head(kept.reader)
        except TimeoutError as problem:
            late = urllib3.exceptions.ReadTimeoutError(kept.connection, request.url or "", "Read timed out.")
            raise requests.exceptions.ReadTimeout(late, request=request) from problem
        except (OSError, http.client.HTTPException) as problem:
            broken = urllib3.exceptions.ProtocolError("Connection aborted.", problem)
            raise requests.exceptions.ConnectionError(broken, request=request) from problem
        fields = CaseInsensitiveDict(headers)
        try:
            content, ended = _body(kept.reader, request.method or "", status, fields)
        except TimeoutError as problem:
            late = urllib3.exceptions.ReadTimeoutError(kept.connection, request.url or "", "Read timed out.")
            raise requests.exceptions.ConnectionError(late, request=request) from problem
        except (OSError, http.client.HTTPException, ValueError) as problem:
            broken = urllib3.exceptions.ProtocolError(f"Connection broken: {problem!r}", problem)
            raise requests.exceptions.ChunkedEncodingError(broken, request=request) from problem
        lasting = ended and version == "HTTP/1.1" and "close" not in fields.get("Connection", "").lower()
        return self._response(request, status, reason, headers, cookies, content), lasting

    def _response(
        self,
        request: requests.PreparedRequest,
        status: int,
        reason: str,
        headers: dict[str, str],
        cookies: list[str],
        content: bytes,
    ) -> requests.Response:
        if "content-encoding" in headers:  # urllib3 knows how to read it
            raw = urllib3.HTTPResponse(
                io.BytesIO(content), headers=headers, status=status, reason=reason, preload_content=False
            )
            decoded = self.build_response(request, raw)
            _ = decoded.content
            return decoded
        response: Any = requests.Response()
        response.status_code = status
        response.reason = reason
        response.headers = CaseInsensitiveDict(headers)
        response.encoding = get_encoding_from_headers(response.headers)
        response.url = request.url or ""
        response.request = request
        response.connection = self  # what authentication sends its next step through
        response._content = content
        response._content_consumed = True
        if "set-cookie" in headers:
            lines = "".join(f"Set-Cookie: {line}\r\n" for line in cookies)
            message = http.client.parse_headers(io.BytesIO(f"{lines}\r\n".encode("latin-1")))
            response.raw = SimpleNamespace(_original_response=SimpleNamespace(msg=message), close=lambda: None)
            extract_cookies_to_jar(response.cookies, request, response.raw)  # type: ignore[no-untyped-call]
        done: requests.Response = response
        return done


def _close(reader: BinaryIO, connection: Any) -> None:
    reader.close()
    connection.close()


def _text(value: str | bytes) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value


def _line(reader: BinaryIO) -> str:
    line = reader.readline(_LONGEST + 1)
    if len(line) > _LONGEST:
        raise http.client.LineTooLong("header line")
    if not line.endswith(b"\n"):
        raise http.client.RemoteDisconnected("Remote end closed connection without response")
    return line.decode("latin-1").rstrip("\r\n")


def _head(reader: BinaryIO) -> tuple[str, int, str, dict[str, str], list[str]]:
    """Version, status, reason, the headers by their names in lower case, several of one joined, and the cookies."""
    first = _line(reader)
    version, _, rest = first.partition(" ")
    code, _, reason = rest.partition(" ")
    if not version.startswith("HTTP/1.") or not code.isdigit() or len(code) != 3:
        raise http.client.BadStatusLine(first)
    headers: dict[str, str] = {}
    cookies: list[str] = []
    for _ in range(_MOST + 1):
        line = _line(reader)
        if not line:
            return version, int(code), reason, headers, cookies
        name, _, value = line.partition(":")
        name, value = name.strip().lower(), value.strip()
        if name == "set-cookie":
            cookies.append(value)
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    raise http.client.HTTPException(f"got more than {_MOST} headers")


def _body(reader: BinaryIO, method: str, status: int, headers: CaseInsensitiveDict[str]) -> tuple[bytes, bool]:
    """The body, and whether it has an end of its own; otherwise the connection ends with it."""
    if method == "HEAD" or status in (204, 304):
        return b"", True
    if headers.get("Transfer-Encoding", "").lower() == "chunked":
        return b"".join(_chunks(reader)), True
    if (length := headers.get("Content-Length")) is None:
        return reader.read(), False
    return _exactly(reader, int(length)), True


def _chunks(reader: BinaryIO) -> list[bytes]:
    found = []
    while size := int(_line(reader).partition(";")[0], 16):
        found.append(_exactly(reader, size))
        _line(reader)
    while _line(reader):
        pass  # trailers
    return found


def _exactly(reader: BinaryIO, size: int) -> bytes:
    data = reader.read(size)
    if len(data) < size:
        raise http.client.IncompleteRead(data, size - len(data))
    return data
