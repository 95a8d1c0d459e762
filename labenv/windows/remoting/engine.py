"""Running a request of an allowed shape: binding, the cmdlets, their streams, and the commit at the end."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from labenv.clock import Clock
from labenv.faults import ConnectionDropped, FaultRaised, Faults
from labenv.windows.call import Call, Cmdlet, PsError
from labenv.windows.cmdlets import core
from labenv.windows.objects import PsObject
from labenv.windows.remoting import metadata
from labenv.windows.remoting.binder import Bound, bind
from labenv.windows.remoting.select import Selection
from labenv.windows.remoting.shapes import Pipeline, program, recognise
from labenv.windows.remoting.signatures import Signature, Signatures
from labenv.windows.remoting.values import Command

if TYPE_CHECKING:
    from labenv.windows.host import Host

READS = frozenset(("get", "test", "measure", "compare", "find", "resolve", "start-sleep", "write-output"))
"""Verbs and cmdlets that change nothing, so that no commit is due."""


class Sink(Protocol):
    """Where a running pipeline writes; ``cmdlet`` names the command that wrote."""

    def output(self, value: object) -> None:
        """An object of the output stream."""

    def error(self, error: PsError, cmdlet: str) -> None:
        """A non-terminating error."""

    def text(self, kind: str, text: str) -> None:
        """A line of the Warning or Verbose stream."""

    def progress(self, activity: str, status: str, percent: int) -> None:
        """A progress record."""


@dataclass
class Runspace:
    """What lives from one pipeline to the next: variables, and who is asking."""

    variables: dict[str, object] = field(default_factory=dict)
    can_delegate: bool = False
    attended: bool = False  # questions are answered with yes

    def reset(self) -> None:
        """Forget the variables."""
        self.variables.clear()


class Terminated(Exception):
    """A pipeline ended with an error; ``cmdlet`` is the command that it came from."""

    def __init__(self, error: PsError, cmdlet: str) -> None:
        super().__init__(error.message)
        self.error = error
        self.cmdlet = cmdlet


class Engine:
    """Binds and runs pipelines on one host. Must run inside a lab task or a request, because cmdlets may sleep."""

    def __init__(
        self,
        host: Host,
        *,
        clock: Clock,
        faults: Faults | None = None,
        commit: Callable[[], None] | None = None,
        commands: Mapping[str, Cmdlet] | None = None,
        signatures: Signatures | None = None,
    ) -> None:
        """``commands`` (default: the host's) and the core cmdlets are what exists; ``commit`` ends what may change."""
        self.host = host
        self.clock = clock
        self.signatures = signatures or Signatures.load()
        self._faults = faults
        self._commit = commit
        known = {**core.COMMANDS, **(host.commands if commands is None else commands)}
        self._commands: dict[str, Cmdlet] = {name.lower(): run for name, run in known.items()}
        self._commands["get-command"] = self._get_command

    def implements(self, name: str) -> bool:
        """Whether a command would run."""
        return name.lower() in self._commands

    def _get_command(self, _host: Host, call: Call) -> Sequence[object]:
        wanted: list[str] = call.get("Name", ["*"])
        found: list[object] = list(metadata.commands(self, wanted))
        for name in wanted:
            if not any(c in name for c in "*?[") and not metadata.commands(self, [name]):
                error = not_found(name)
                error.suffix = "Microsoft.PowerShell.Commands.GetCommandCommand"
                call.error(error)
        return found

    async def run(
        self,
        cmdlet: str,
        parameters: Mapping[str, object] | None = None,
        *,
        select: Sequence[str] | None = None,
        runspace: Runspace | None = None,
    ) -> list[Any]:
        """Run one cmdlet in this process and return its live output objects; raises PsError for any error record.

        Without a ``runspace`` nobody's credentials are in the way, and every question is answered with yes.
        """
        tail = [Command("Select-Object", (("Property", list(select)),))] if select else []
        sink = _Collector()
        arguments = tuple((parameters or {}).items())
        try:
            await self.execute(
                [[Command(cmdlet, (*arguments, ("ErrorAction", "Stop"))), *tail]],
                sink,
                runspace or Runspace(can_delegate=True, attended=True),
            )
        except Terminated as ended:
            raise ended.error from ended
        return sink.items

    async def execute(
        self, statements: Sequence[Sequence[Command]], sink: Sink, runspace: Runspace | None = None
    ) -> None:
        """Run a pipeline; raises Terminated, or ConnectionDropped if a fault wants the connection gone.

        Whatever changed is committed before this returns or raises.
        """
        try:
            pipeline = recognise(statements)
        except PsError as error:
            raise Terminated(error, "") from error
        try:
            await self._pipeline(pipeline, sink, runspace or Runspace())
        finally:
            if self._commit is not None and any(_changes(c) for c in (pipeline.first, pipeline.second) if c):
                self._commit()

    async def _pipeline(self, pipeline: Pipeline, sink: Sink, runspace: Runspace) -> None:
        if pipeline.native:
            await self._native(pipeline, sink, runspace)
            return
        first = self._prepare(pipeline.first, runspace)
        selection = None if pipeline.select is None else Selection(self._properties(pipeline.select))
        if pipeline.second is not None:
            self._signature(pipeline.second)  # unknown commands are found before anything runs

        def emit(item: object) -> None:
            sink.output(item if selection is None else selection.of(item))

        if pipeline.second is None:
            await self._run(pipeline.first, first, sink, runspace, emit)
            return
        found: list[object] = []
        await self._run(pipeline.first, first, sink, runspace, found.append)
        for item in found:
            piped = item if isinstance(item, PsObject) else None
            try:
                second = self._prepare(pipeline.second, runspace, piped=piped)
            except Terminated as ended:
                if ended.error.error_id != "InputObjectNotBound":
                    raise
                sink.error(ended.error, ended.cmdlet)
                continue
            await self._run(pipeline.second, second, sink, runspace, emit, piped=piped)

    def _signature(self, command: Command) -> Signature:
        signature = self.signatures.find(command.name)
        if signature is None:
            raise Terminated(not_found(command.name), command.name)
        return signature

    def _prepare(self, command: Command, runspace: Runspace, piped: PsObject | None = None) -> Bound:
        signature = self._signature(command)
        try:
            bound = bind(signature, command.arguments, piped=piped, attended=runspace.attended)
        except PsError as error:
            raise Terminated(error, signature.name) from error
        refusal = self._refusal(signature, bound, runspace)
        if refusal is not None:
            raise Terminated(refusal, signature.name)
        return bound

    def _refusal(self, signature: Signature, bound: Bound, runspace: Runspace) -> PsError | None:
        if bound.common.what_if:
            return PsError(
                f"The lab does not imitate -WhatIf: {signature.name} was not run.",
                error_id="WhatIfNotImplemented",
                category="NotImplemented",
                exception="System.NotImplementedException",
                suffix=signature.suffix,
            )
        if signature.needs_delegation and not runspace.can_delegate:
            return PsError(
                f"{signature.name} cannot be run remotely with credentials that cannot be delegated: use a JEA "
                f"session, CredSSP or Kerberos delegation.",
                error_id=signature.name,
                category="AuthenticationError",
                exception="Microsoft.FailoverClusters.PowerShell.ClusterCmdletException",
                suffix=signature.suffix,
            )
        return None

    def _properties(self, command: Command) -> list[str]:
        signature = self._signature(command)
        try:
            bound = bind(signature, command.arguments)
        except PsError as error:
            raise Terminated(error, signature.name) from error
        wanted = bound.parameters.get("Property")
        if wanted is None or set(bound.parameters) != {"Property"} or not all(isinstance(w, str) for w in wanted):
            raise Terminated(
                PsError(
                    "Select-Object takes only -Property with a list of names in this session.",
                    error_id="NamedParameterNotFound",
                    category="InvalidArgument",
                    exception="System.Management.Automation.ParameterBindingException",
                    suffix=signature.suffix,
                ),
                signature.name,
            )
        return list(wanted)

    async def _run(
        self,
        command: Command,
        bound: Bound,
        sink: Sink,
        runspace: Runspace,
        emit: Callable[[object], None],
        piped: PsObject | None = None,
    ) -> None:
        signature = self._signature(command)
        implementation = self._commands.get(signature.name.lower())
        if implementation is None:
            error = PsError(
                f"The lab does not implement {signature.name}, which Windows has.",
                error_id="NotImplementedByLab",
                category="NotImplemented",
                exception="System.NotImplementedException",
                suffix=signature.suffix,
            )
            raise Terminated(error, signature.name)
        common = bound.common

        def report(error: PsError) -> None:
            suffixed = _with_suffix(error, signature)
            if common.error_action == "Stop":
                raise Terminated(suffixed, signature.name)
            if common.error_action == "Continue":
                sink.error(suffixed, signature.name)

        def warn(text: str) -> None:
            if common.warning_action == "Continue":
                sink.text("Warning", text)

        def say(text: str) -> None:
            if common.verbose:
                sink.text("Verbose", text)

        call = Call(
            cmdlet=signature.name,
            parameters=bound.parameters,
            parameter_set=bound.parameter_set,
            input=() if piped is None else (piped,),
            on_error=report,
            on_warning=warn,
            on_verbose=say,
            on_progress=sink.progress,
            user_can_delegate=runspace.can_delegate,
            variables=runspace.variables,
        )
        await self._invoke(signature.name, implementation, call, emit, signature)

    async def _native(self, pipeline: Pipeline, sink: Sink, runspace: Runspace) -> None:
        command = pipeline.first
        name = program(command.name)
        implementation = self._commands.get(name)
        if implementation is None:
            raise Terminated(not_found(command.name), command.name)
        if any(key is not None for key, _ in command.arguments):
            raise Terminated(
                PsError(
                    f"{name} takes positional arguments only.",
                    error_id="NamedParameterNotFound",
                    category="InvalidArgument",
                    exception="System.Management.Automation.ParameterBindingException",
                ),
                name,
            )
        runspace.variables["LASTEXITCODE"] = 0
        call = Call(
            cmdlet=name,
            parameters={"Arguments": [str(value) for _, value in command.arguments]},
            on_error=lambda error: sink.error(error, name),
            on_warning=lambda text: sink.text("Warning", text),
            user_can_delegate=runspace.can_delegate,
            variables=runspace.variables,
        )
        await self._invoke(name, implementation, call, sink.output)
        if pipeline.exit_code:
            sink.output(runspace.variables["LASTEXITCODE"])

    async def _invoke(
        self,
        name: str,
        implementation: Cmdlet,
        call: Call,
        emit: Callable[[object], None],
        signature: Signature | None = None,
    ) -> None:
        names = {"host": self.host.spec.name, "cmdlet": name}
        results: Sequence[object] | None = None
        try:
            if self._faults is not None:
                await self._faults.at("windows.cmdlet", **names)
            answer = implementation(self.host, call)
            results = await answer if inspect.isawaitable(answer) else answer
        except PsError as error:
            raise Terminated(_with_suffix(error, signature), name) from error
        except FaultRaised as raised:
            injected = PsError(
                raised.fault.message or f"{name} failed.",
                error_id=raised.fault.code or "InjectedFault",
                category="OperationStopped",
            )
            raise Terminated(_with_suffix(injected, signature), name) from raised
        finally:
            for item in (*call.output, *(results or ())):
                emit(item)
        if self._faults is not None and self._faults.loses_reply("windows.cmdlet", **names):
            raise ConnectionDropped


class _Collector:
    """A sink for runs inside the process: output objects in a list, other streams dropped."""

    def __init__(self) -> None:
        self.items: list[object] = []

    def output(self, value: object) -> None:
        self.items.append(value)

    def error(self, error: PsError, cmdlet: str) -> None:
        raise error

    def text(self, kind: str, text: str) -> None:
        pass

    def progress(self, activity: str, status: str, percent: int) -> None:
        pass


def _with_suffix(error: PsError, signature: Signature | None) -> PsError:
    if error.suffix is None and signature is not None:
        error.suffix = signature.suffix
    return error


def _changes(command: Command) -> bool:
    name = command.name.rsplit("\\", 1)[-1].lower()
    return bool(program(name)) or not (name in READS or name.partition("-")[0] in READS)


def not_found(name: str) -> PsError:
    """The error of a command that does not exist."""
    return PsError(
        f"The term '{name}' is not recognized as the name of a cmdlet, function, script file, or operable program. "
        f"Check the spelling of the name, or if a path was included, verify that the path is correct and try again.",
        error_id="CommandNotFoundException",
        category="ObjectNotFound",
        target=name,
        exception="System.Management.Automation.CommandNotFoundException",
    )
