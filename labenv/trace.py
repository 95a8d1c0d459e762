"""A record of all requests of both wires, as an HTTP archive (HAR 1.2) without secrets."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode

from labenv.clock import SECOND, Clock
from labenv.private import write_private

App = Callable[[Any, Any, Any], Awaitable[None]]

HIDDEN = "***"
_SECRET_NAMES = re.compile(r"passw|passphrase|secret|token|private_key|^keys$|authorization|cookie", re.IGNORECASE)
_ACTION = re.compile(rb"<\w+:Action[^>]*>([^<]+)</")
_LONGEST = 64 << 10
_END = b"\n]}}\n"


class Trace:
    """Writes one entry for each request. The file is a complete archive after every entry, also after a kill.

    Times are lab times. JSON bodies are kept, up to 64 KiB, with whatever may be a secret hidden; of the messages of
    PowerShell remoting only the action, since pipelines carry credentials; of others only their length.
    """

    def __init__(self, path: Path, clock: Clock) -> None:
        """Begin a file. Raises OSError if it cannot be written."""
        self._clock = clock
        self._empty = True
        write_private(path, b'{"log":{"version":"1.2","creator":{"name":"labenv","version":"1"},"entries":[' + _END)
        self._file = path.open("r+b")

    def close(self) -> None:
        """Give the file back."""
        self._file.close()

    def of(self, app: App, name: str) -> App:
        """The same app, whose requests are recorded under the name of its endpoint."""

        async def traced(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] != "http":
                await app(scope, receive, send)
                return
            start = self._clock.now
            sent, got = _Body(), _Body()
            head: dict[str, Any] = {"status": 0, "headers": []}

            async def hear() -> Any:
                message = await receive()
                if message["type"] == "http.request":
                    sent.add(message.get("body", b""))
                return message

            async def tell(message: Any) -> None:
                if message["type"] == "http.response.start":
                    head.update(status=message["status"], headers=message.get("headers", []))
                else:
                    got.add(message.get("body", b""))
                await send(message)

            try:
                await app(scope, hear, tell)
            finally:
                self._write(start, _request(name, scope, sent), _response(head, got))

        return traced

    def _write(self, start: int, request: dict[str, Any], response: dict[str, Any]) -> None:
        spent = (self._clock.now - start) / SECOND
        entry = {
            "startedDateTime": _iso(start),
            "time": round(spent * 1000, 3),
            "request": request,
            "response": response,
            "cache": {},
            "timings": {"send": 0, "wait": round(spent * 1000, 3), "receive": 0},
        }
        text = json.dumps(entry, ensure_ascii=False, separators=(",", ":")).encode()
        self._file.seek(-len(_END), 2)
        self._file.write((b"\n" if self._empty else b",\n") + text + _END)
        self._file.flush()
        self._empty = False


class _Body:
    """The beginning of a body, and its whole length."""

    def __init__(self) -> None:
        self.start = bytearray()
        self.length = 0

    def add(self, part: bytes) -> None:
        self.length += len(part)
        if len(self.start) <= _LONGEST:
            self.start += part


def _iso(microseconds: int) -> str:
    return datetime.fromtimestamp(microseconds / SECOND, UTC).isoformat(timespec="milliseconds")


def _headers(pairs: Any) -> list[dict[str, str]]:
    found = []
    for key, value in pairs:
        name = key.decode("latin-1")
        found.append({"name": name, "value": HIDDEN if _SECRET_NAMES.search(name) else value.decode("latin-1")})
    return found


def _request(name: str, scope: Any, body: _Body) -> dict[str, Any]:
    pairs = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
    query = [(key, HIDDEN if _SECRET_NAMES.search(key) else value) for key, value in pairs]
    path = (scope.get("raw_path") or scope["path"].encode()).decode("latin-1").split("?")[0]
    headers = _headers(scope["headers"])
    kind = next((h["value"] for h in headers if h["name"].lower() == "content-type"), "")
    request: dict[str, Any] = {
        "method": scope["method"],
        "url": f"https://{name}{path}" + (f"?{urlencode(query, safe='*,')}" if query else ""),
        "httpVersion": "HTTP/1.1",
        "cookies": [],
        "headers": headers,
        "queryString": [{"name": key, "value": value} for key, value in query],
        "headersSize": -1,
        "bodySize": body.length,
    }
    if body.length:
        request["postData"] = {"mimeType": kind, "text": _text(kind, body)}
    return request


def _response(head: dict[str, Any], body: _Body) -> dict[str, Any]:
    headers = _headers(head["headers"])
    kind = next((h["value"] for h in headers if h["name"].lower() == "content-type"), "")
    return {
        "status": head["status"],
        "statusText": "",
        "httpVersion": "HTTP/1.1",
        "cookies": [],
        "headers": headers,
        "content": {"size": body.length, "mimeType": kind, "text": _text(kind, body) if body.length else ""},
        "redirectURL": "",
        "headersSize": -1,
        "bodySize": body.length,
    }


def _text(kind: str, body: _Body) -> str:
    if "json" in kind and body.length <= _LONGEST:
        try:
            return json.dumps(_without_secrets(json.loads(body.start)), ensure_ascii=False)
        except ValueError:
            return f"{body.length} bytes that are no JSON"
    if "soap+xml" in kind:
        action = _ACTION.search(body.start)
        return action[1].decode("utf-8", "replace") if action else f"a message of {body.length} bytes"
    return f"{body.length} bytes"


def _without_secrets(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: HIDDEN if _SECRET_NAMES.search(str(key).rpartition(".")[2]) and not isinstance(inner, dict)
            else _without_secrets(inner)
            for key, inner in value.items()
        }  # fmt: skip
    if isinstance(value, list):
        return [_without_secrets(item) for item in value]
    return value
