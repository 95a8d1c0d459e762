"""The API as an ASGI application: HTTP in, HTTP out."""

from __future__ import annotations

import base64
import dataclasses
import json
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, Protocol, runtime_checkable

from labenv.faults import ConnectionDropped, Fault, FaultRaised
from labenv.ontap.accounts import by_certificate, by_password, the_one
from labenv.ontap.audit import record
from labenv.ontap.core import Core
from labenv.ontap.errors import ApiError
from labenv.ontap.records import Failure, User
from labenv.ontap.rest.call import Call, Reply, parse_multipart, parse_path, parse_query
from labenv.ontap.rest.dispatch import Dispatcher

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

HEADERS = (
    (b"server", b"libzapid-httpd"),
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-cache,no-store,must-revalidate"),
)


class FaultRules(Protocol):
    """Where requests meet what an instructor has broken."""

    async def at(self, where: str, **names: str) -> None: ...
    def loses_reply(self, where: str, **names: str) -> bool: ...
    def fails_job(self, where: str, **names: str) -> Fault | None: ...


@runtime_checkable
class WithCertificate(Protocol):
    """A connection that knows with which certificate (DER) its client has shown who it is."""

    def peer_certificate(self) -> bytes | None: ...


class RestApp:
    """ASGI application of one cluster. TLS is the server's business."""

    def __init__(
        self, core: Core, dispatcher: Dispatcher, *, faults: FaultRules | None, wake: Callable[[], None]
    ) -> None:
        self._core = core
        self._dispatcher = dispatcher
        self._faults = faults
        self._wake = wake

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request.

        A fault can want the client to get no answer, and a cluster without power gives none: then the connection that
        the server has put into ``scope["state"]["connection"]`` is aborted.

        Raises:
            ConnectionDropped: the server has put none there.
        """
        if scope["type"] != "http":
            return
        with self._core.clock.request():
            self._wake()
            try:
                reply = await self._reply(scope, receive)
            except ConnectionDropped:
                connection = scope.get("state", {}).get("connection")
                if connection is None:
                    raise
                connection.abort()
            else:
                await self._send(reply, send, hal=_wants_hal(_headers(scope)))
                return
        while (await receive())["type"] != "http.disconnect":
            pass  # the server must see the end before we return, or it would send an answer of its own

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request of a client that is part of the lab; the caller is a lab task or holds time.

        Raises:
            ConnectionDropped: a fault wants the client to get no answer.
        """
        self._wake()
        await self._send(await self._reply(scope, receive), send, hal=_wants_hal(_headers(scope)))

    async def _reply(self, scope: Scope, receive: Receive) -> Reply:
        if self._core.interconnect.is_down(self._core.spec.name):
            raise ConnectionDropped
        headers: Mapping[str, str] = _headers(scope)
        body = await _read(receive)
        try:
            user, headers = self._login(scope, headers)
            segments = parse_path(scope.get("raw_path") or scope["path"].encode("utf-8"))
            if not segments or segments[0] != "api":
                raise ApiError("3", path="/" + "/".join(segments))
            names = {
                "cluster": self._core.spec.name,
                "method": scope["method"],
                "path": "/" + "/".join(segments[1:]),
                "user": user.name,
            }
            if self._faults is not None:
                await self._faults.at("ontap.request", **names)
            call = self._call(scope, segments[1:], user, headers, body)
        except ApiError as error:
            return _refused(error)
        except FaultRaised as raised:
            fault = raised.fault
            return Reply(fault.status, {"error": {"message": str(raised), "code": fault.code}})
        if self._faults is not None:
            call = dataclasses.replace(call, doom=lambda: self._doom(names))
        reply = await self._dispatcher.answer(call)
        if call.method != "GET":
            location = (scope.get("client") or ("",))[0]
            record(self._core, call, reply, client_app=headers.get("x-dot-client-app", ""), location=location)
        if self._faults is not None and self._faults.loses_reply("ontap.request", **names):
            raise ConnectionDropped
        return reply

    def _doom(self, names: Mapping[str, str]) -> Failure | None:
        """Why the job of a request is to fail, if an instructor wants it to."""
        fault = self._faults.fails_job("ontap.request", **names) if self._faults is not None else None
        if fault is None:
            return None
        return Failure(fault.code or "460770", fault.message or f"injected failure {fault.code}".strip())

    def _login(self, scope: Scope, headers: Mapping[str, str]) -> tuple[User, Mapping[str, str]]:
        """Who asks: by name and password, or without them by the certificate that the connection was opened with.

        Gives the headers, too, without the one that has told accounts of several SVMs apart.
        """
        at = scope.get("state", {}).get("login_at")
        authorization = headers.get("authorization", "")
        scheme, _, token = authorization.partition(" ")
        users: list[User] = []
        if scheme.lower() == "basic":
            try:
                name, _, password = base64.b64decode(token, validate=True).decode("utf-8").partition(":")
            except ValueError:
                raise ApiError("6691623", reason="") from None
            users = list(by_password(self._core, name, password, svm=at))
        elif not authorization:
            connection = scope.get("state", {}).get("connection")
            presented = connection.peer_certificate() if isinstance(connection, WithCertificate) else None
            users = [] if presented is None else list(by_certificate(self._core, presented, svm=at))
        user = the_one(self._core, users, headers.get("x-dot-svm-name") or headers.get("x-dot-svm-uuid") or "")
        if user.svm is not None and len(users) > 1:
            headers = {name: value for name, value in headers.items() if not name.startswith("x-dot-svm-")}
        return user, headers

    def _call(
        self, scope: Scope, segments: tuple[str, ...], user: User, headers: Mapping[str, str], body: bytes
    ) -> Call:
        query, general = parse_query(scope["query_string"].decode("latin-1"))
        content_type = headers.get("content-type", "")
        parts: dict[str, bytes] = {}
        content: dict[str, Any] = {}
        if content_type.lower().startswith("multipart/"):
            parts = parse_multipart(content_type, body)
            if "json" in parts:
                content = _json(parts["json"])
        elif body.strip():
            content = _json(body)
        return Call(
            method=scope["method"],
            segments=segments,
            user=user,
            query=query,
            general=general,
            body=content,
            svm=self._confined(user, headers),
            hal=_wants_hal(headers),
            multipart="multipart/form-data" in headers.get("accept", ""),
            parts=parts,
        )

    def _confined(self, user: User, headers: Mapping[str, str]) -> str | None:
        """The SVM that a request is confined to: the user's own, or the one it is tunnelled to."""
        name, uuid = headers.get("x-dot-svm-name"), headers.get("x-dot-svm-uuid")
        if not name and not uuid:
            return user.svm
        if user.svm is not None:
            raise ApiError("6")
        return self._core.svm(name=name, uuid=uuid).uuid

    @staticmethod
    async def _send(reply: Reply, send: Send, *, hal: bool) -> None:
        if reply.raw is not None:
            content, kind = reply.raw, reply.content_type
        else:
            content = json.dumps(reply.body, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
            kind = "application/hal+json" if hal else "application/json"
        headers = [
            *HEADERS,
            (b"content-type", kind.encode("latin-1")),
            (b"content-length", str(len(content)).encode("latin-1")),
            *((k.lower().encode("latin-1"), v.encode("latin-1")) for k, v in reply.headers.items()),
        ]
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        await send({"type": "http.response.body", "body": content})


def _refused(error: ApiError) -> Reply:
    headers = {"WWW-Authenticate": 'Basic realm="Private Documents"'} if error.status == 401 else {}
    return Reply(error.status, error.body(), headers)


def _headers(scope: Scope) -> dict[str, str]:
    return {key.decode("latin-1").lower(): value.decode("latin-1") for key, value in scope["headers"]}


def _wants_hal(headers: Mapping[str, str]) -> bool:
    accept = headers.get("accept", "*/*")
    return "hal+json" in accept or "application/json" not in accept


def _json(body: bytes) -> dict[str, Any]:
    try:
        content = json.loads(body, parse_constant=_no_number)
        if b"\\u" in body:  # half of a surrogate pair is text that nothing could be answered with
            json.dumps(content, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError) as error:
        raise ApiError("262198", reason=str(error)) from None
    if not isinstance(content, dict):
        raise ApiError("262198", reason="an object is needed")
    return content


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is not a number of JSON")


async def _read(receive: Receive) -> bytes:
    chunks = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            break
        chunks.append(message.get("body", b""))
        if not message.get("more_body"):
            break
    return b"".join(chunks)
