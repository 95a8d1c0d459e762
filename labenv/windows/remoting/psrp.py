"""One runspace pool on the PowerShell Remoting Protocol: messages in, pipelines run, fragments out."""

from __future__ import annotations

import asyncio
import struct
import xml.etree.ElementTree as ET
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from psrpcore import (
    CreatePipelineEvent,
    GetAvailableRunspacesEvent,
    GetCommandMetadataEvent,
    PipelineInputEvent,
    PSRPEvent,
    PSRPPayload,
    ResetRunspaceStateEvent,
    ServerPipeline,
    ServerRunspacePool,
    SetMaxRunspacesEvent,
    SetMinRunspacesEvent,
    StreamType,
)
from psrpcore.types import PSInvocationState, PSObject, PSRPMessageType, PSVersion, RunspacePoolState, serialize

from labenv.clock import Signal
from labenv.faults import ConnectionDropped
from labenv.windows.call import PsError
from labenv.windows.remoting import clixml, description, metadata, records
from labenv.windows.remoting.description import Description
from labenv.windows.remoting.engine import Engine, Runspace, Terminated
from labenv.windows.remoting.outbox import Outbox
from labenv.windows.remoting.values import Command

LARGEST_INPUT = 64 << 20
"""More bytes than this in unfinished messages end the request with a fault."""

_HEADS = {kind: struct.pack("<II", 1, kind.value) for kind in PSRPMessageType}
"""How messages to clients begin, by their type."""


class ProtocolError(Exception):
    """The bytes are not PSRP, or not allowed now; answered with a WS-Management fault."""


class _Pool(ServerRunspacePool):
    """The protocol's state machine, whose messages go to a sink of ours instead of one common queue."""

    def __init__(
        self,
        put: Callable[[int, bytes, UUID | None], None],
        begin: Callable[[UUID], None],
        private_data: dict[str, Any],
    ) -> None:
        self._put = put
        self._begin = begin
        self.described: dict[UUID | None, Description] = {}
        super().__init__(application_private_data=private_data)

    def prepare_message(
        self,
        message: PSObject | None,
        message_type: PSRPMessageType | None = None,
        pipeline_id: UUID | None = None,
        stream_type: StreamType = StreamType.default,
    ) -> None:
        assert message is not None  # only clients send bodies that are empty
        kind = message_type or PSRPMessageType.get_message_id(type(message))
        element = serialize(
            message, self._cipher, our_capability=self.our_capability, their_capability=self.their_capability
        )
        self.put(kind, "\ufeff".encode() + ET.tostring(element, encoding="utf-8"), pipeline_id)

    def put(self, kind: PSRPMessageType, body: bytes, pipeline_id: UUID | None) -> None:
        """Send a message whose body is already CLIXML."""
        target = pipeline_id.bytes_le if pipeline_id else bytes(16)
        self._put(self._fragment_counter, _HEADS[kind] + self.runspace_pool_id.bytes_le + target + body, pipeline_id)

    def _process_message(self, message: Any) -> PSRPEvent[Any, Any]:
        if b"<!" in message.data:
            raise ProtocolError("a document type is not allowed")
        if message.message_type in (PSRPMessageType.SetMaxRunspaces, PSRPMessageType.SetMinRunspaces):
            # Windows and its clients take either spelling, psrpcore only its own
            message._data = bytearray(message.data.replace(b'N="CI"', b'N="ci"'))
        elif message.message_type is PSRPMessageType.CreatePipeline:
            return self._create_pipeline(message)
        elif message.message_type is PSRPMessageType.GetCommandMetadata:
            self._begin(message.pipeline_id)
        return super()._process_message(message)

    def _create_pipeline(self, message: Any) -> PSRPEvent[Any, Any]:
        """A pipeline that begins; its description is kept until it is asked for."""
        self._begin(message.pipeline_id)
        described = description.read(message.data)
        if described is None:
            event = super()._process_message(message)
            described = description.understood(self.pipeline_table[message.pipeline_id].metadata)
        else:
            event = PSRPEvent.create(message.message_type, None, message.runspace_pool_id, message.pipeline_id)
        self.described[message.pipeline_id] = described
        return event

    @property
    def waiting_bytes(self) -> int:
        """Bytes of messages that have begun to arrive."""
        return len(self._receive_buffer) + sum(len(f) for parts in self._incoming_fragments.values() for f in parts)


@dataclass
class Pipe:
    """A pipeline of the pool: its output, its task, and how it ended.

    ``identity`` is the command's id in WS-Management; the messages inside may name the pipeline by another one.
    """

    identity: UUID
    outbox: Outbox
    finished: Signal
    task: asyncio.Task[None] | None = None
    started: bool = False
    stopping: bool = False
    takes_input: bool = False
    ended: bool = False
    reported: bool = False  # the Done state has left
    inner: UUID | None = None
    address: bytes = b""  # the pool and the pipeline, as messages name them
    dropped: bool = False  # a fault wants the next answer to be lost
    statements: Sequence[Sequence[Command]] = ()
    metadata: list[str] | None = None


class Pool:
    """A runspace pool: runs as many pipelines at once as it has runspaces, the others wait in order."""

    def __init__(self, engine: Engine, *, can_delegate: bool, name: str) -> None:
        self._engine = engine
        self._clock = engine.clock
        self._name = name
        self._can_delegate = can_delegate
        self.outbox = Outbox(self._clock)
        self.pipes: dict[UUID, Pipe] = {}
        self._free: list[Runspace] = []
        self._in_use = 0
        self._waiting: deque[Pipe] = deque()
        self._inner: dict[UUID, Pipe] = {}
        self._sender: Pipe | None = None
        self._pool = _Pool(self._route, self._begin, _private_data(engine))

    @property
    def opened(self) -> bool:
        """Whether the handshake is complete."""
        return bool(self._pool.state == RunspacePoolState.Opened)

    @property
    def failed(self) -> bool:
        """Whether the handshake went wrong."""
        return bool(self._pool.state in (RunspacePoolState.Broken, RunspacePoolState.Closed))

    def _route(self, object_id: int, message: bytes, pipeline_id: UUID | None) -> None:
        if pipeline_id is None:
            self.outbox.put(object_id, message)
        elif pipeline_id in self._inner:
            self._inner[pipeline_id].outbox.put(object_id, message)

    def create_pipe(self, identity: UUID) -> Pipe:
        """A pipeline whose CREATE_PIPELINE message may still arrive in pieces; raises ProtocolError."""
        if identity in self.pipes:
            raise ProtocolError("a pipeline of this id exists")
        pipe = self.pipes[identity] = Pipe(identity, Outbox(self._clock), self._clock.signal())
        return pipe

    def _begin(self, inner: UUID | None) -> None:
        """A pipeline's description has arrived: join its id to the command that the bytes came with."""
        pipe = self._sender
        if pipe is None or inner is None or pipe.inner is not None or inner in self._inner or not self.opened:
            raise ProtocolError("a pipeline that cannot be started now")
        pipe.inner, pipe.address = inner, self._pool.runspace_pool_id.bytes_le + inner.bytes_le
        self._inner[inner] = pipe
        ServerPipeline(self._pool, inner)

    def receive(self, data: bytes, pipe: Pipe | None = None) -> None:
        """Take protocol bytes from the client, which came with a command or with none; raises ProtocolError."""
        self._sender = pipe
        try:
            self._pool.receive_data(PSRPPayload(data, StreamType.default, None))
            if self._pool.waiting_bytes > LARGEST_INPUT:
                raise ProtocolError("the message is too large")
            while (event := self._pool.next_event()) is not None:
                self._handle(event)
        except ProtocolError:
            raise
        except Exception as error:  # psrpcore raises whatever its parsers raise
            raise ProtocolError(f"the message cannot be read ({type(error).__name__})") from error

    def _handle(self, event: PSRPEvent[Any, Any]) -> None:
        if isinstance(event, CreatePipelineEvent):
            self._start(event.pipeline_id)
        elif isinstance(event, GetCommandMetadataEvent):
            self._describe(event)
        elif isinstance(event, (SetMaxRunspacesEvent, SetMinRunspacesEvent)):
            self._pool.runspace_availability_response(event.ci, 1 <= event.count <= 1000)
            self._fill()
        elif isinstance(event, GetAvailableRunspacesEvent):
            self._pool.runspace_availability_response(event.ci, max(self._pool.max_runspaces - self._in_use, 0))
        elif isinstance(event, ResetRunspaceStateEvent):
            for runspace in self._free:
                runspace.reset()
            self._pool.runspace_availability_response(event.ci, self._in_use == 0)
        elif isinstance(event, PipelineInputEvent) and event.pipeline_id not in self._inner:
            raise ProtocolError("input for a pipeline that does not exist")

    def _start(self, inner: UUID | None) -> None:
        pipe, _ = self._described(inner)
        described = self._pool.described.pop(inner)
        pipe.takes_input, pipe.statements = described.takes_input, described.statements
        self._enqueue(pipe)

    def _describe(self, event: GetCommandMetadataEvent) -> None:
        pipe, described = self._described(event.pipeline_id)
        pipe.metadata = [str(name) for name in described.name or ()]
        self._enqueue(pipe)

    def _described(self, inner: UUID | None) -> tuple[Pipe, Any]:
        if inner is None or inner not in self._inner:
            raise ProtocolError("a pipeline without a command")
        return self._inner[inner], self._pool.pipeline_table[inner].metadata

    def _enqueue(self, pipe: Pipe) -> None:
        self._waiting.append(pipe)
        self._fill()

    def _fill(self) -> None:
        while self._waiting and self._in_use < max(self._pool.max_runspaces, 1):
            pipe = self._waiting.popleft()
            self._in_use += 1
            pipe.task = self._clock.spawn(self._run(pipe), name=f"{self._name} {pipe.identity}")

    async def _run(self, pipe: Pipe) -> None:
        pipe.started = True
        runspace = self._free.pop() if self._free else Runspace(can_delegate=self._can_delegate)
        state, error, cmdlet = records.COMPLETED, None, ""
        try:
            if pipe.metadata is not None:
                for item in metadata.describe(self._engine, pipe.metadata):
                    self._send(pipe, PSRPMessageType.PipelineOutput, clixml.serialize(item))
            elif pipe.takes_input:
                raise Terminated(_no_input(), "")
            else:
                await self._engine.execute(pipe.statements, _PipeSink(self, pipe), runspace)
        except Terminated as ended:
            state, error, cmdlet = records.FAILED, ended.error, ended.cmdlet
        except ConnectionDropped:
            pipe.dropped = True
        except asyncio.CancelledError:
            state, error = records.STOPPED, records.stopped()
            if not pipe.stopping:  # the whole lab is ending: nothing else may start
                self._waiting.clear()
            raise
        except Exception as failure:
            state, error = records.FAILED, _internal(failure)
            raise
        finally:
            self._free.append(runspace)
            self._in_use -= 1
            self._end(pipe, state, error, cmdlet)
            self._fill()

    def _end(self, pipe: Pipe, state: int, error: PsError | None, cmdlet: str = "") -> None:
        pipe.ended = True
        if pipe.inner is not None:
            self._pool.pipeline_table[pipe.inner].state = PSInvocationState(state)
            self._send(pipe, PSRPMessageType.PipelineState, records.pipeline_state(state, error, cmdlet=cmdlet))
        pipe.finished.set()

    def _send(self, pipe: Pipe, kind: PSRPMessageType, body: bytes) -> None:
        pipe.outbox.put(self._pool._fragment_counter, _HEADS[kind] + pipe.address + body)

    async def stop(self, pipe: Pipe) -> None:
        """Stop a pipeline and wait until it has stopped."""
        if pipe.ended:
            return
        if pipe.task is None or pipe.task.done():  # done: cancelled with the whole lab before its first step
            if pipe in self._waiting:
                self._waiting.remove(pipe)
            self._end(pipe, records.STOPPED, records.stopped())
            return
        pipe.stopping = True
        pipe.task.cancel()
        if not pipe.started:  # it never will: end it here
            self._in_use -= 1
            self._end(pipe, records.STOPPED, records.stopped())
            self._fill()
            return
        with self._clock.parked():
            await pipe.finished.wait()

    async def remove(self, pipe: Pipe) -> None:
        """Forget a pipeline, stopping it first if it runs."""
        await self.stop(pipe)
        self.forget(pipe)

    def forget(self, pipe: Pipe) -> None:
        """Drop a pipeline that does not run."""
        self.pipes.pop(pipe.identity, None)
        if pipe.inner is not None:
            self._inner.pop(pipe.inner, None)
            self._pool.pipeline_table.pop(pipe.inner, None)

    async def close(self) -> None:
        """Stop everything."""
        self._waiting.clear()
        for pipe in list(self.pipes.values()):
            await self.remove(pipe)
        self.outbox.changed.set()


class _PipeSink:
    """The engine's output as PSRP messages of one pipeline."""

    def __init__(self, pool: Pool, pipe: Pipe) -> None:
        self._pool = pool
        self._pipe = pipe

    def output(self, value: object) -> None:
        self._pool._send(self._pipe, PSRPMessageType.PipelineOutput, clixml.serialize(value))

    def error(self, error: PsError, cmdlet: str) -> None:
        self._pool._send(self._pipe, PSRPMessageType.ErrorRecord, records.error_record(error, cmdlet=cmdlet))

    def text(self, kind: str, text: str) -> None:
        self._pool._send(self._pipe, PSRPMessageType[f"{kind}Record"], records.text_record(text, kind))

    def progress(self, activity: str, status: str, percent: int) -> None:
        body = records.progress_record(activity, status, percent)
        self._pool._send(self._pipe, PSRPMessageType.ProgressRecord, body)


def _no_input() -> PsError:
    return PsError(
        "Objects cannot be sent into a pipeline in this session: use parameters.",
        error_id="PipelineInputNotAllowed",
        category="PermissionDenied",
        exception="System.Management.Automation.PSSecurityException",
    )


def _internal(failure: Exception) -> PsError:
    return PsError(
        f"The simulated host failed: {type(failure).__name__}: {failure}",
        error_id="SimulatorFailure",
        category="NotSpecified",
        exception="System.Management.Automation.RuntimeException",
    )


def _private_data(engine: Engine) -> dict[str, Any]:
    """PSVersionTable of the session; it says that the host is simulated."""
    version = PSVersion("5.1.20348.1")
    return {
        "PSVersionTable": {
            "PSVersion": version,
            "PSEdition": "Desktop",
            "PSCompatibleVersions": [PSVersion(v) for v in ("1.0", "2.0", "3.0", "4.0", "5.0")] + [version],
            "CLRVersion": PSVersion("4.0.30319.42000"),
            "BuildVersion": PSVersion("10.0.20348.1"),
            "WSManStackVersion": PSVersion("3.0"),
            "PSRemotingProtocolVersion": PSVersion("2.3"),
            "SerializationVersion": PSVersion("1.1.0.1"),
            "Simulated": f"labenv {engine.host.spec.name}",
        }
    }
