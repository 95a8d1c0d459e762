"""The WS-Management endpoint of one host, as an ASGI app at /wsman."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from labenv.clock import Clock
from labenv.faults import Faults
from labenv.ids import Ids
from labenv.windows.remoting import wsman
from labenv.windows.remoting.auth import Authenticator
from labenv.windows.remoting.config import config_element
from labenv.windows.remoting.engine import Engine
from labenv.windows.remoting.outbox import Outbox
from labenv.windows.remoting.psrp import Pipe, Pool, ProtocolError
from labenv.windows.remoting.transport import connection_of
from labenv.windows.remoting.wsman import Action, Request, WsmanFault

if TYPE_CHECKING:
    from labenv.windows.host import Host

log = logging.getLogger("labenv.remoting")

Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]

SOAP_TYPE = b"application/soap+xml;charset=UTF-8"
TERMINATE = "http://schemas.microsoft.com/wbem/wsman/1/windows/shell/signal/terminate"
STOPS = (f"{wsman.SHELL}/signal/ctrl_c", "powershell/signal/ctrl_c")


@dataclass(frozen=True)
class Quotas:
    """Limits of the service; times in seconds, sizes in bytes."""

    shells_per_user: int = 30
    operations_per_user: int = 1500
    envelope: int = 512000
    idle_timeout: float = 7200.0


@dataclass
class Shell:
    """A client's runspace pool, and what is remembered to answer it."""

    identity: str
    user: str
    resource: str
    client: str
    locale: str
    pool: Pool
    created: float
    used: float
    idle_timeout: float
    replies: dict[UUID | None, tuple[str, bytes]] = field(default_factory=dict)


_CONFIGURATIONS = frozenset(("microsoft.powershell", "microsoft.powershell32", "microsoft.powershell.workflow"))
"""Session configurations that Windows has from the beginning."""


class _Gone(Exception):
    """The client has closed the connection, or a fault wants it closed: there is nothing to answer."""


class Remoting:
    """One host's remoting endpoint. Several shells per user, each a runspace pool with its own pipelines."""

    def __init__(
        self,
        *,
        host: Host,
        clock: Clock,
        ids: Ids,
        faults: Faults,
        users: Mapping[str, str],
        commit: Callable[[], None],
        quotas: Quotas | None = None,
        delegating: frozenset[str] = frozenset(("SmhvLab",)),
        listens: Callable[[], bool] = lambda: True,
    ) -> None:
        """``users``: ``DOMAIN\\user`` -> password. ``delegating``: names of JEA configurations, whose sessions can
        reach other machines; every other configuration gets credentials that stop at this host. ``listens``: whether
        the service that answers runs now."""
        self.engine = Engine(host, clock=clock, faults=faults, commit=commit)
        self.quotas = quotas or Quotas()
        self._host = host
        self._clock = clock
        self._authenticator = Authenticator(users)
        self._delegating = {name.lower() for name in delegating}
        self._configurations = {*self._delegating, *_CONFIGURATIONS}
        self._listens = listens
        self._shells: dict[str, Shell] = {}

    async def app(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        """The ASGI app; it holds lab time while a request is being answered."""
        if scope["type"] == "http":
            with self._clock.request():
                await self._serve(scope, receive, send)

    async def _serve(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        connection = connection_of(scope)
        if not self._listens():
            for shell in list(self._shells.values()):
                await self._end(shell)
            if connection is not None:
                connection.abort()
            return
        if scope["path"].rstrip("/").lower() != "/wsman":
            await _respond(send, 404, b"", b"text/plain")
            return
        data = await _body(receive, self.quotas.envelope)
        header = next((v for k, v in scope["headers"] if k == b"authorization"), None)
        verdict = self._authenticator.check(header, connection)
        extra = [(b"www-authenticate", value) for value in verdict.headers]
        if verdict.user is None:
            await _respond(send, 401, b"", b"text/plain", extra)
            return
        if scope["method"] != "POST":
            await _respond(send, 405, b"", b"text/plain", [(b"allow", b"POST")])
            return
        if data is None:
            await _respond(send, 413, b"", b"text/plain", [(b"connection", b"close")])
            return
        if not data and extra:
            await _respond(send, 200, b"", SOAP_TYPE, extra)  # the empty request that only authenticates
            return
        try:
            request = wsman.parse(data)
            status, body = 200, await self._answer(request, verdict.user, scope, receive)
        except WsmanFault as error:
            relates_to = wsman.message_id_of(data)
            status, body = 500, wsman.fault(error, relates_to=relates_to, machine=self._host.spec.name)
        except _Gone:
            if connection is not None:
                connection.abort()
            return
        except Exception:
            log.exception("a request failed in the simulator")
            internal = WsmanFault(wsman.INTERNAL_ERROR)
            relates_to = wsman.message_id_of(data)
            status, body = 500, wsman.fault(internal, relates_to=relates_to, machine=self._host.spec.name)
        await _respond(send, status, body, SOAP_TYPE, extra)

    async def close(self) -> None:
        """End every shell, with what runs in it."""
        with self._clock.request():
            for shell in list(self._shells.values()):
                await self._end(shell)

    async def _answer(self, request: Request, user: str, scope: Mapping[str, Any], receive: Receive) -> bytes:
        if request.action is Action.CREATE:
            return wsman.reply(request, await self._create(request, user, scope))
        if request.action is Action.GET and request.resource.startswith(wsman.CONFIG):
            return wsman.reply(request, config_element(self.quotas.envelope, self.quotas.shells_per_user))
        shell = self._shell(request, user)
        if request.action is Action.GET:
            return wsman.reply(request, wsman.shell_element(self._facts(shell)))
        if request.action is Action.COMMAND:
            return wsman.reply(request, self._command(request, shell))
        if request.action is Action.SEND:
            return wsman.reply(request, self._send(request, shell))
        if request.action is Action.SIGNAL:
            return wsman.reply(request, await self._signal(request, shell))
        if request.action is Action.DELETE:
            await self._end(shell)
            return wsman.reply(request, "")
        return await self._receive(request, shell, receive)

    def _facts(self, shell: Shell) -> wsman.ShellFacts:
        now = asyncio.get_running_loop().time()
        return wsman.ShellFacts(
            shell_id=shell.identity,
            resource=shell.resource,
            owner=f"{shell.user} (simulated)",
            client=shell.client,
            idle_timeout=shell.idle_timeout,
            age=now - shell.created,
            idle=now - shell.used,
            locale=shell.locale,
        )

    def _shell(self, request: Request, user: str) -> Shell:
        shell = self._shells.get(request.shell_id)
        if shell is None or shell.user != user:
            raise WsmanFault(wsman.INVALID_SELECTORS, provider="Shell provider")
        shell.used = asyncio.get_running_loop().time()
        return shell

    async def _create(self, request: Request, user: str, scope: Mapping[str, Any]) -> str:
        prefix, _, configuration = request.resource.rpartition("/")
        if prefix != wsman.POWERSHELL or not configuration:
            raise WsmanFault(wsman.INVALID_RESOURCE)
        if configuration.lower() not in self._configurations:
            raise WsmanFault(
                wsman.INVALID_RESOURCE,
                f"The WS-Management service cannot process the request. Cannot find the {configuration} session "
                f"configuration in the WSMan: drive on the {self._host.spec.name} computer. ",
            )
        element = request.body.find(f"{{{wsman.SHELL}}}Shell")
        creation = None if element is None else element.find(f"{{{wsman.POWERSHELL}}}creationXml")
        if element is None or creation is None:
            raise WsmanFault(wsman.INVALID_PARAMETER)
        identity = _identity(element.get("ShellId")) or uuid4()
        name = str(identity).upper()
        now = asyncio.get_running_loop().time()
        for old in [s for s in self._shells.values() if now - s.used > s.idle_timeout]:
            await self._end(old)
        if sum(1 for s in self._shells.values() if s.user == user) >= self.quotas.shells_per_user:
            raise WsmanFault(wsman.TOO_MANY_SHELLS)
        if name in self._shells:
            raise WsmanFault(wsman.INVALID_PARAMETER)
        idle = element.findtext(f"{{{wsman.SHELL}}}IdleTimeOut")
        can_delegate = configuration.lower() in self._delegating
        shell = Shell(
            identity=name,
            user=user,
            resource=request.resource,
            client=(scope.get("client") or ("",))[0],
            locale=request.locale,
            pool=Pool(self.engine, can_delegate=can_delegate, name=self._host.spec.name),
            created=now,
            used=now,
            idle_timeout=_idle(idle, self.quotas.idle_timeout),
        )
        self._feed(shell, creation.text)
        if shell.pool.failed:
            raise WsmanFault(wsman.INVALID_PARAMETER)
        self._shells[name] = shell
        server = scope.get("server") or ("localhost", 5986)
        address = f"{scope.get('scheme', 'https')}://{server[0]}:{server[1]}/wsman"
        return wsman.created(self._facts(shell), address)

    def _feed(self, shell: Shell, text: str | None, pipe: Pipe | None = None) -> None:
        try:
            shell.pool.receive(wsman.decode(text), pipe)
        except ProtocolError as error:
            raise WsmanFault(wsman.INVALID_PARAMETER, f"{wsman.INVALID_PARAMETER.text}PSRP: {error}. ") from error

    def _command(self, request: Request, shell: Shell) -> str:
        line = request.body.find(f"{{{wsman.SHELL}}}CommandLine")
        if line is None:
            raise WsmanFault(wsman.INVALID_PARAMETER)
        running = sum(len(s.pool.pipes) for s in self._shells.values() if s.user == shell.user)
        if running >= self.quotas.operations_per_user:
            raise WsmanFault(wsman.TOO_MANY_OPERATIONS)
        identity = _identity(line.get("CommandId")) or uuid4()
        try:
            pipe = shell.pool.create_pipe(identity)
        except ProtocolError as error:
            raise WsmanFault(wsman.INVALID_PARAMETER) from error
        try:
            self._feed(shell, line.findtext(f"{{{wsman.SHELL}}}Arguments"), pipe)
        except WsmanFault:
            shell.pool.forget(pipe)
            raise
        name = str(identity).upper()
        return f"<rsp:CommandResponse><rsp:CommandId>{name}</rsp:CommandId></rsp:CommandResponse>"

    def _send(self, request: Request, shell: Shell) -> str:
        streams = request.body.findall(f"{{{wsman.SHELL}}}Send/{{{wsman.SHELL}}}Stream")
        if not streams:
            raise WsmanFault(wsman.INVALID_PARAMETER)
        for stream in streams:
            command = stream.get("CommandId")
            self._feed(shell, stream.text, self._pipe(shell, command) if command is not None else None)
        return "<rsp:SendResponse/>"

    def _pipe(self, shell: Shell, command: str | None) -> Pipe:
        identity = _identity(command)
        pipe = shell.pool.pipes.get(identity) if identity else None
        if pipe is None:
            raise WsmanFault(wsman.INVALID_SELECTORS, wsman.NO_SUCH_COMMAND)
        return pipe

    async def _signal(self, request: Request, shell: Shell) -> str:
        signal = request.body.find(f"{{{wsman.SHELL}}}Signal")
        if signal is None:
            raise WsmanFault(wsman.INVALID_PARAMETER)
        pipe = self._pipe(shell, signal.get("CommandId"))
        code = (signal.findtext(f"{{{wsman.SHELL}}}Code") or "").strip()
        if code.lower() == TERMINATE:
            await shell.pool.remove(pipe)
            shell.replies.pop(pipe.identity, None)
        elif code in STOPS:
            await shell.pool.stop(pipe)
        else:
            raise WsmanFault(wsman.INVALID_PARAMETER)
        return "<rsp:SignalResponse/>"

    async def _end(self, shell: Shell) -> None:
        self._shells.pop(shell.identity, None)
        await shell.pool.close()

    async def _receive(self, request: Request, shell: Shell, receive: Receive) -> bytes:
        desired = request.body.find(f"{{{wsman.SHELL}}}Receive/{{{wsman.SHELL}}}DesiredStream")
        if desired is None:
            raise WsmanFault(wsman.INVALID_PARAMETER)
        command = desired.get("CommandId")
        key = _identity(command) if command else None
        sent = shell.replies.get(key)
        if sent is not None and sent[0] == request.message_id:
            return sent[1]  # the client asks again because it lost the answer
        pipe = self._pipe(shell, command) if command else None
        if pipe is not None and pipe.reported:
            raise WsmanFault(wsman.INVALID_SELECTORS, wsman.NO_SUCH_COMMAND)
        outbox = pipe.outbox if pipe is not None else shell.pool.outbox
        if not outbox:
            await self._wait(outbox, request.timeout, receive)
        shell.used = asyncio.get_running_loop().time()
        if self._shells.get(shell.identity) is not shell:
            raise WsmanFault(wsman.INVALID_SELECTORS, provider="Shell provider")
        if pipe is not None and pipe.ended and pipe.dropped:
            pipe.dropped = False
            raise _Gone
        fragments = outbox.take(min(request.envelope, self.quotas.envelope) - 2048)
        done = pipe is not None and pipe.ended and not outbox
        name = str(pipe.identity).upper() if pipe is not None else None
        body = wsman.reply(request, wsman.received(fragments, command_id=name, done=done))
        if pipe is not None:
            pipe.reported = done
        shell.replies[key] = (request.message_id, body)
        return body

    async def _wait(self, outbox: Outbox, seconds: float, receive: Receive) -> None:
        """Park until there is output; a fault after the (real) timeout, _Gone if the client goes away."""
        task = asyncio.current_task()
        assert task is not None
        gone = False

        async def watch() -> None:
            nonlocal gone
            while (await receive())["type"] != "http.disconnect":
                pass
            gone = True
            task.cancel()

        watcher = asyncio.get_running_loop().create_task(watch())
        try:
            async with asyncio.timeout(seconds):
                with self._clock.parked():
                    await outbox.changed.wait()
        except TimeoutError:
            if not outbox:
                raise WsmanFault(wsman.TIMED_OUT) from None
        except asyncio.CancelledError:
            if not gone:
                raise
            task.uncancel()
            raise _Gone from None
        finally:
            watcher.cancel()


def _identity(text: str | None) -> UUID | None:
    if text is None:
        return None
    try:
        return UUID(text.strip())
    except ValueError:
        raise WsmanFault(wsman.INVALID_PARAMETER) from None


def _idle(text: str | None, default: float) -> float:
    digits = (text or "").strip().removeprefix("PT").removesuffix("S")
    try:
        return max(float(digits), 60.0) if digits else default
    except ValueError:
        raise WsmanFault(wsman.INVALID_PARAMETER) from None


async def _body(receive: Receive, limit: int) -> bytes | None:
    """The request's body; None if it is larger than allowed (the rest is then not read)."""
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return b""
        part = message.get("body", b"")
        size += len(part)
        if size > limit:
            return None
        parts.append(part)
        if not message.get("more_body"):
            return b"".join(parts)


async def _respond(
    send: Send, status: int, body: bytes, kind: bytes, extra: list[tuple[bytes, bytes]] | None = None
) -> None:
    headers = [
        (b"content-type", kind),
        (b"server", b"Microsoft-HTTPAPI/2.0"),
        (b"content-length", str(len(body)).encode()),
        *(extra or ()),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
