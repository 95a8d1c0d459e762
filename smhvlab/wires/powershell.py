"""The PowerShell wire: single cmdlets, pairs and native programs on one host, never script text.

Parameters are checked against `cmdlets` and mapped by their declared type; -ErrorAction and -Confirm are added here;
results are plain values and `Record` objects; errors are `PowerShellError` with FullyQualifiedErrorId.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from smhvlab.errors import (
    Cancelled,
    PowerShellError,
    ProtocolError,
    ReadOnlyRefused,
    SmhvLabError,
    TimedOut,
    UnknownOutcome,
    Unsendable,
)
from smhvlab.profile import HostEndpoint
from smhvlab.secrets import Secret
from smhvlab.wires.cmdlets import CmdletInfo, cmdlet
from smhvlab.wires.control import Wire, WireControl, WireRequest
from smhvlab.wires.log import WireLog
from smhvlab.wires.pairs import pair_of
from smhvlab.wires.pipeline import (
    NativeResult,
    Output,
    Part,
    PipelineText,
    Running,
    pack,
    power_shell_error,
    selecting,
    summary,
)
from smhvlab.wires.records import Record, decode
from smhvlab.wires.transport import LOOK_IT_UP, Sent
from smhvlab.wires.wave import collect

if TYPE_CHECKING:
    from smhvlab.wires.session import Session

__all__ = ["PROGRAMS", "Command", "NativeResult", "Output", "Parameters", "PowerShellWire", "Record", "Running"]

Parameters = Mapping[str, object]
Recorder = Callable[[str, str], None]
Command = tuple[str, Parameters]
"""A cmdlet's name and its parameters."""

NOTHING_FOUND = "CmdletizationQuery_NotFound"
"""How the error ids of queries begin that find nothing: an answer, and no failure."""

PROGRAMS = {"diskshadow.exe": frozenset[str](), "vssadmin.exe": frozenset({"list"})}
"""Native programs that may be started, with the first arguments that only read."""


class PowerShellWire:
    """One user's session on one host. Used by one thread; opens at the first request, and again after it was lost.

    Args:
        endpoint: the host.
        secret: the user's password.
        log: where requests are recorded.
        control: cancel flag, seam and step of the run.
        read_only: refuse every change before it leaves.
        proxy: HTTP proxy, None to connect directly.
        max_runspaces: how many commands of a wave run side by side on the host.
        timeout: real seconds after which a running command is stopped; they begin anew when it tells that it gets on.
        recorder: given the line and the CLIXML of every output object; what it keeps of a real host can be replayed.
    """

    def __init__(
        self,
        endpoint: HostEndpoint,
        secret: Secret,
        *,
        log: WireLog,
        control: WireControl | None = None,
        read_only: bool = False,
        proxy: str | None = None,
        max_runspaces: int = 8,
        timeout: float = 3_600.0,
        recorder: Recorder | None = None,
    ) -> None:
        self.endpoint = endpoint
        self.log = log
        self.control = control or WireControl()
        self.read_only = read_only
        self._timeout = timeout
        self._recorder = recorder
        self._polling = False
        self._owner: int | None = None
        self._secret = secret
        self._proxy = proxy
        self._max_runspaces = max_runspaces
        self._opened: Session | None = None
        log.hide(secret)

    # --- requests ----------------------------------------------------------------------------------------------------

    def run(
        self,
        name: str,
        parameters: Parameters | None = None,
        *,
        select: Sequence[str] | None = None,
        error_action: str = "Stop",
        timeout: float | None = None,
        on_percent: Callable[[int], None] | None = None,
    ) -> Output:
        """Run one cmdlet and wait for its end.

        Args:
            name: the cmdlet, one of `smhvlab.wires.cmdlets`.
            parameters: by documented name. -ErrorAction and -Confirm:$false are added; -Force is yours to give.
            select: properties for a ``Select-Object -Property`` behind it: fewer bytes, and one level more of detail.
            error_action: "Stop" for single objects; "Continue" for batches, whose `Output.errors` name their targets.
            timeout: real seconds, the wire's own by default.
            on_percent: told how far the cmdlet says that it is; many never say so.

        Returns:
            `Record` objects, and plain values where the cmdlet writes strings, numbers or dates.

        Raises:
            PowerShellError, ConnectionFailed, UnknownOutcome, ReadOnlyRefused, Unsendable, Cancelled
        """
        running = self.begin(name, parameters, select=select, error_action=error_action, timeout=timeout)
        running.on_percent = on_percent
        return self.wait(running)

    def pair(
        self,
        first: Command,
        second: Command,
        *,
        select: Sequence[str] | None = None,
        error_action: str = "Stop",
        timeout: float | None = None,
    ) -> Output:
        """Run a pair of the closed list `smhvlab.wires.pairs` and wait for its end; else as `run`.

        Args:
            first: selects exactly one object by identity, e.g. ``("Get-VM", {"Id": id})``.
            second: what is done with it, e.g. ``("Stop-VM", {"TurnOff": True, "Force": True})``.
        """
        running = self.begin_pair(first, second, select=select, error_action=error_action, timeout=timeout)
        return self.wait(running)

    def native(self, program: str, *arguments: str, timeout: float | None = None) -> NativeResult:
        """Run a native program with positional arguments and read its exit code in the same pipeline.

        A non-zero exit code is no error here: look at `NativeResult.exit_code`, and at the site for the truth.

        Raises:
            Unsendable: not one of `PROGRAMS`.
            PowerShellError: it could not be started. Else as `run`.
        """
        reading = PROGRAMS.get(program.lower())
        if reading is None:
            raise Unsendable(
                f"{program} is not one of the native programs {', '.join(sorted(PROGRAMS))}",
                next_action="Use a cmdlet.",
            )
        reads = bool(arguments) and arguments[0].lower() in reading
        exit_code = Part("Get-Variable", (("Name", "LASTEXITCODE", "Bare"), ("ValueOnly", True, "SwitchParameter")))
        text = PipelineText(((Part(program, arguments=tuple(arguments)),), (exit_code,)))
        running = self._begin(text, title=program, reads=reads, stops_on_error=False, timeout=timeout)
        output = self.wait(running)
        if not output or not isinstance(output[-1], int):
            raise ProtocolError(
                f"{self.endpoint.name} did not tell the exit code of {program}",
                next_action="Read the site again to see what the program did.",
            )
        return NativeResult(
            lines=tuple(str(line) for line in output[:-1]),
            exit_code=output[-1],
            errors=tuple(error.message for error in output.errors),
        )

    # --- waves -------------------------------------------------------------------------------------------------------

    def begin(
        self,
        name: str,
        parameters: Parameters | None = None,
        *,
        select: Sequence[str] | None = None,
        error_action: str = "Stop",
        timeout: float | None = None,
    ) -> Running:
        """Start a cmdlet without waiting for it: give `wave.collect` a generator of these."""
        info = cmdlet(name)
        part = self._part(info, parameters or {}, error_action)
        text = PipelineText(((part, *selecting(select)),))
        reads = info.reads(parameters or {})
        return self._begin(text, title=info.name, reads=reads, stops_on_error=error_action == "Stop", timeout=timeout)

    def begin_pair(
        self,
        first: Command,
        second: Command,
        *,
        select: Sequence[str] | None = None,
        error_action: str = "Stop",
        timeout: float | None = None,
    ) -> Running:
        """Start a pair without waiting for it; see `pair` and `begin`."""
        pair_of(first[0], first[1], second[0])
        selector, actor = cmdlet(first[0]), cmdlet(second[0])
        # A first half that fails must not leave the second half running on nothing.
        parts = (self._part(selector, first[1], "Stop"), self._part(actor, second[1], error_action))
        return self._begin(
            PipelineText(((*parts, *selecting(select)),)),
            title=f"{selector.name} | {actor.name}",
            reads=actor.reads(second[1]),
            stops_on_error=error_action == "Stop",
            timeout=timeout,
        )

    def wait(self, running: Running) -> Output:
        """Wait for a started pipeline and return what it wrote. Raises as `run`."""
        return collect(iter((running,)))[0]

    def finish(self, running: Running) -> None:
        """Wait for a started pipeline's end; its `output` or `error` tells how it ended. Raises Cancelled."""
        self._own()
        if running.ended:
            return
        try:
            self._finish(running)
        except Cancelled:
            raise  # the wave stops this one together with the others
        except SmhvLabError as error:
            running.error = error

    def abort(self, running: Running, cause: Cancelled | KeyboardInterrupt) -> None:
        """Stop a started pipeline that has not ended; its `error` tells if that failed and it may go on."""
        self._own()
        if running.ended:
            return
        session = self._session()
        try:
            session.stop(running.pipeline, Sent(self.endpoint.name, running.title, running.request.reads))
        except UnknownOutcome as error:
            running.error = error
            self._record(running, status="0", response=error.message, code="UnknownOutcome")
            return
        session.release(running.pipeline)
        running.error = cause if isinstance(cause, Cancelled) else Cancelled()
        self._record(running, status="Stopped", response="stopped on cancel", code=type(cause).__name__)

    @contextmanager
    def polling(self) -> Iterator[None]:
        """Pipelines begun in the block are polls: neither counted, nor logged, nor shown to the seam."""
        before, self._polling = self._polling, True
        try:
            yield
        finally:
            self._polling = before

    # --- the host's clock --------------------------------------------------------------------------------------------

    def sleep(self, seconds: float) -> None:
        """Wait on the host. In a lab this is lab time. Not counted as a request. Raises as `run`."""
        milliseconds = max(1, round(seconds * 1000))
        whole, rest = divmod(milliseconds, 1000)
        parameter = ("Milliseconds", milliseconds) if rest else ("Seconds", whole)
        with self.polling():
            self.run("Start-Sleep", dict([parameter]), timeout=self._timeout + seconds)

    def now(self) -> datetime:
        """The host's clock, UTC. Not counted as a request. Raises as `run`."""
        with self.polling():
            moment = next(iter(self.run("Get-Date")), None)
        if not isinstance(moment, datetime):
            raise ProtocolError(
                f"{self.endpoint.name} did not tell its time", next_action="Check the session configuration's role."
            )
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)

    @property
    def heard(self) -> datetime | None:
        """What the host's clock said in its last answer, in whole seconds; None before, or if it does not tell."""
        return self._opened.date if self._opened is not None else None

    # --- connection --------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Close the session; a later request opens a new one, also from another thread."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None
        self._owner = None

    def __enter__(self) -> PowerShellWire:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _session(self) -> Session:
        if self._opened is None:
            # Imported at the first request: pypsrp and what it brings take a fifth of a second.
            from smhvlab.wires.session import Session

            self._opened = Session(self.endpoint, self._secret, proxy=self._proxy, max_runspaces=self._max_runspaces)
        return self._opened

    def _own(self) -> None:
        thread = threading.get_ident()
        if self._owner is None:
            self._owner = thread
        elif self._owner != thread:
            raise RuntimeError(
                f"The session on {self.endpoint.name} belongs to another thread; give this one a wire of its own"
            )

    # --- one pipeline ------------------------------------------------------------------------------------------------

    def _part(self, info: CmdletInfo, parameters: Parameters, error_action: str) -> Part:
        if error_action not in ("Stop", "Continue"):
            raise Unsendable(f"-ErrorAction {error_action} is not used here", next_action="Use Stop or Continue.")
        if info.needs_delegation:
            self._session().require_delegation(info.name)
        rows = [(*info.parameter(name), value) for name, value in parameters.items()]
        given = [(name, value, kind) for name, kind, value in rows]
        if info.confirms and not info.reads(parameters):
            given.append(("Confirm", False, "SwitchParameter"))
        given.append(("ErrorAction", error_action, "Bare"))
        part = Part(info.name, tuple(given))
        pack(part, credential=lambda credential: credential)  # refuses here, before the log and the seam see it
        return part

    def _begin(
        self,
        text: PipelineText,
        *,
        title: str,
        reads: bool,
        stops_on_error: bool,
        timeout: float | None,
    ) -> Running:
        self._own()
        request = WireRequest(Wire.POWERSHELL, self.endpoint.name, reads, title)
        if self.read_only and not reads:
            raise ReadOnlyRefused(
                f"{title} would change {self.endpoint.name}, which was opened read-only",
                next_action="Connect without read_only if the site may be changed.",
            )
        if self._polling:
            self.control.check(title)
        else:
            self.control.before(request)
        running = Running(
            wire=self,
            title=title,
            request=request,
            number=0 if self._polling else self.log.start(),
            text=text,
            stops_on_error=stops_on_error,
            patience=self._timeout if timeout is None else timeout,
            polling=self._polling,
        )
        try:
            with self.control.waiting(title):
                running.pipeline = self._start(text, Sent(self.endpoint.name, title, reads))
            running.began = self._session().date
        except SmhvLabError as error:
            self._record(running, status="0", response=error.message, code=error.code or type(error).__name__)
            raise
        return running

    def _start(self, text: PipelineText, sent: Sent) -> Any:
        from smhvlab.wires.session import may_resend

        session = self._session()
        try:
            pipeline = self._build(session, text)
            session.start(pipeline, sent)
        except SmhvLabError as error:
            if not may_resend(error, sent):
                raise
            pipeline = self._build(session, text)
            session.start(pipeline, sent)
        return pipeline

    def _build(self, session: Session, text: PipelineText) -> Any:
        pipeline = session.pipeline()
        for index, statement in enumerate(text.statements):
            if index:
                pipeline.add_statement()
            for part in statement:
                pipeline.add_cmdlet(part.name)
                for argument in part.arguments:
                    pipeline.add_argument(argument)
                for name, value in pack(part, credential=session.credential):
                    pipeline.add_parameter(name, value)
        return pipeline

    def _finish(self, running: Running) -> None:
        session, pipeline, request = self._session(), running.pipeline, running.request
        sent = Sent(self.endpoint.name, running.title, request.reads)
        try:
            with self.control.waiting(running.title):
                while session.poll(pipeline, sent):
                    running.tell_percent()
                    self.control.check(f"the end of {running.title}")
                    if time.monotonic() > running.deadline:
                        session.stop(pipeline, sent)
                        raise self._overdue(running)
        except Cancelled:
            raise  # its end is not known yet
        except SmhvLabError as error:
            self._record(running, status="0", response=error.message, code=error.code or type(error).__name__)
            raise
        from smhvlab.wires.session import end_state

        status = end_state(pipeline)
        if self._recorder is not None:
            for item in pipeline.output:
                self._recorder(running.text.render(self.log.redact), str(item))
        try:
            values = [decode(str(item)) for item in pipeline.output]
        except ValueError as problem:
            garbled = ProtocolError(
                f"{self.endpoint.name} answered {running.title} with something that is not PowerShell's",
                why=str(problem),
                next_action="Check the session configuration in the profile.",
            )
            self._record(running, status=status, response=garbled.message, code="CLIXML")
            raise garbled from problem
        finally:
            session.release(pipeline)
        errors = [power_shell_error(record, running.title, self.endpoint.name) for record in pipeline.streams.error]
        failed = status != "Completed" or (running.stops_on_error and bool(errors))
        self._record(
            running,
            status=status,
            response=summary(values, errors, self.log.redact),
            code=(errors[-1 if status != "Completed" else 0].code or "error") if errors and failed else "",
        )
        if failed:
            raise errors[-1 if status != "Completed" else 0] if errors else self._stopped(running, status)
        running.output = Output(values, errors=errors, warnings=[str(text) for text in pipeline.streams.warning])
        if not running.polling:
            self.control.after(request)

    def _overdue(self, running: Running) -> SmhvLabError:
        if running.request.reads:
            return TimedOut(
                f"{running.title} on {self.endpoint.name} did not end in time and was stopped",
                next_action="Try again, with a longer timeout.",
            )
        return UnknownOutcome(
            f"{running.title} on {self.endpoint.name} did not end in time and was stopped",
            why="a stopped command may have done part of its work",
            next_action=LOOK_IT_UP,
        )

    def _stopped(self, running: Running, status: str) -> SmhvLabError:
        return PowerShellError(
            f"{running.title} on {self.endpoint.name} ended as {status} without saying why",
            code=status,
            next_action="Read the state of the host again, and its event logs.",
        )

    def _record(self, running: Running, *, status: str, response: str, code: str) -> None:
        if running.polling:
            return
        self.log.finish(
            running.number,
            wire=Wire.POWERSHELL,
            endpoint=self.endpoint.name,
            reads=running.request.reads,
            title=running.title,
            request=running.text,
            response=response,
            status=status,
            code=code,
            step=self.control.step,
            began=running.began,
            ended=self._opened.date if self._opened is not None else None,
        )
