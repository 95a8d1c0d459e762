"""One PowerShell session on a host: a runspace pool of pypsrp over verified HTTPS, opened when first needed."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any

import requests
from pypsrp.complex_objects import GenericComplexObject, PSCredential, PSInvocationState
from pypsrp.exceptions import AuthenticationError, WinRMError, WinRMTransportError, WSManFaultError
from pypsrp.messages import CreatePipeline
from pypsrp.powershell import PowerShell, RunspacePool
from pypsrp.serializer import Serializer

from smhvlab.errors import (
    ConnectionFailed,
    HostDown,
    NotAllowed,
    ProtocolError,
    QuotaReached,
    SessionLost,
    SmhvLabError,
    TimedOut,
    UnknownOutcome,
)
from smhvlab.profile import HostEndpoint
from smhvlab.secrets import Secret
from smhvlab.wires.clixml import Unusual, pipeline_message
from smhvlab.wires.kept import KeptAdapter
from smhvlab.wires.transport import (
    LOOK_IT_UP,
    Sent,
    date_of,
    explain,
    harden,
    quiet,
    was_sent,
    wrong_password,
)
from smhvlab.wires.values import Credential
from smhvlab.wires.wsman import Envelopes, OutputFragments, SteadySession

CONNECT_SECONDS, READ_SECONDS = 10, 40
OPEN_SECONDS = 30
"""How long the host may take to answer anything but a poll."""

POLL_SECONDS = 0.5
"""How long one look at a running command is parked on the host, the least that Windows allows; cancel is seen between
two looks, and so interrupts the longest command or pause within this time."""

FAULT_TIMED_OUT = 2150858793
FAULT_NO_SHELL = 2150858843
FAULTS_QUOTA = (2150859173, 2150859174)
"""Shells of this user; operations of this user."""

FAULT_DENIED = 5
DEFAULT_CONFIGURATION = "Microsoft.PowerShell"


class RawOutput(str):
    """CLIXML of one output object, for our own decoder."""

    __slots__ = ()


class _OutputKeeper(Serializer):
    """pypsrp's serializer, but pipelines are written by us, and output objects kept as CLIXML for our own decoder.

    Its own decoder loses generic lists.
    """

    def serialize(self, value: Any, *arguments: Any, **named: Any) -> Any:
        if isinstance(value, CreatePipeline) and not arguments and not named:
            with suppress(Unusual):
                return pipeline_message(value)
        return super().serialize(value, *arguments, **named)

    def deserialize(self, element: Any, metadata: Any = None, clear: bool = True) -> Any:
        # Only a pipeline's output comes in as text without a declared shape.
        if isinstance(element, str) and metadata is None:
            return RawOutput(element)
        return super().deserialize(element, metadata, clear)


class Session:
    """The pool of one wire. Every method raises errors of our tree only.

    ``date``: when the host last answered, by its own clock, in whole seconds; None before, or if it does not tell.

    Args:
        endpoint: the host.
        secret: the user's password.
        proxy: HTTP proxy, None to connect directly.
        max_runspaces: how many commands run side by side.
    """

    def __init__(self, endpoint: HostEndpoint, secret: Secret, *, proxy: str | None, max_runspaces: int) -> None:
        self.endpoint = endpoint
        self._secret = secret
        self._proxy = proxy
        self._max_runspaces = max_runspaces
        self._wsman: Any = None
        self._pool: Any = None
        self.date: datetime | None = None

    @property
    def can_delegate(self) -> bool:
        """Whether commands of this session may use its credentials on a second computer."""
        return (
            self.endpoint.authentication in ("credssp", "kerberos")
            or self.endpoint.configuration_name != DEFAULT_CONFIGURATION
        )

    def require_delegation(self, cmdlet: str) -> None:
        """Raise `NotAllowed` if the session's credentials cannot travel on."""
        if not self.can_delegate:
            raise NotAllowed(
                f"{cmdlet} needs credentials that can travel on from {self.endpoint.name}",
                why=f"a session with {self.endpoint.authentication} authentication cannot delegate",
                next_action="Use the JEA configuration SmhvLab, CredSSP or Kerberos delegation in the profile.",
            )

    def pipeline(self) -> Any:
        """An empty pipeline in the open pool."""
        return PowerShell(self._open_pool(Sent(self.endpoint.name, "opening a session", True)))

    def credential(self, credential: Credential) -> object:
        """The wire's form of a credential; the pool exchanges keys first if it has not."""
        sent = Sent(self.endpoint.name, "a key exchange", True)
        with self._explaining(sent):
            self._open_pool(sent).exchange_keys()
        make: Any = PSCredential
        made: object = make(username=credential.user, password=credential.password.reveal())
        return made

    def start(self, pipeline: Any, sent: Sent) -> None:
        """Send the pipeline.

        Raises:
            SessionLost: the host does not know the session any more; the pipeline was not run.
            UnknownOutcome: it may run.
        """
        with self._explaining(sent, refused_is_unsent=True):
            pipeline.begin_invoke()

    def poll(self, pipeline: Any, sent: Sent) -> bool:
        """Wait a while for more of the pipeline; True while it is still running.

        A reply that is lost is not asked for again: what it held would be missing from the output without a sign.
        """
        if pipeline.runspace_pool is not self._pool:
            # Another command of the wave has found the session dead.
            raise self._lost(sent, None)
        try:
            with self._explaining(sent), self._patience(POLL_SECONDS):
                pipeline.poll_invoke()
        except SmhvLabError as error:
            if sent.reads or isinstance(error, UnknownOutcome):
                raise
            raise _unknown(sent, error.message, error.code) from error  # this question was not heard; the change was
        return bool(pipeline.state == PSInvocationState.RUNNING)

    def stop(self, pipeline: Any, sent: Sent) -> None:
        """Stop a running pipeline. UnknownOutcome: that failed, and it is a change, which may go on."""
        try:
            with self._explaining(Sent(self.endpoint.name, "a stop", True)):
                if pipeline.state == PSInvocationState.RUNNING:
                    pipeline.stop()
        except SmhvLabError as error:
            if not sent.reads:
                raise _unknown(sent, f"it could not be stopped: {error.message}", error.code) from error

    def release(self, pipeline: Any) -> None:
        """Have the host forget an ended pipeline; otherwise they pile up there until its quota is reached."""
        with suppress(SmhvLabError), self._explaining(Sent(self.endpoint.name, "a release", True), keep=True):
            pipeline.close()

    def forget(self) -> None:
        """Drop the pool without a word to the host; the next pipeline opens a new one."""
        self._pool = None
        if self._wsman is not None:
            self._wsman.close()
            self._wsman = None

    def close(self) -> None:
        """Close the pool on the host. A host that is gone is no error here."""
        pool, self._pool = self._pool, None
        if pool is not None:
            with suppress(requests.exceptions.RequestException, WinRMError, ValueError):
                pool.close()
        self.forget()

    # --- opening -----------------------------------------------------------------------------------------------------

    def _open_pool(self, sent: Sent) -> Any:
        if self._pool is None:
            with self._explaining(sent):
                wsman = self._connect()
                pool = RunspacePool(
                    wsman,
                    configuration_name=self.endpoint.configuration_name,
                    min_runspaces=1,
                    max_runspaces=self._max_runspaces,
                )
                serializer = _OutputKeeper()
                pool._serializer = serializer
                pool._fragmenter = OutputFragments(wsman.max_payload_size, serializer)
                self._wsman = wsman
                pool.open()
                self._pool = pool
        return self._pool

    def _connect(self) -> Any:
        quiet("pypsrp")
        options: dict[str, Any] = {}
        if self.endpoint.authentication in ("negotiate", "kerberos"):
            options["negotiate_delegate"] = self.endpoint.authentication == "kerberos"
        with warnings.catch_warnings():
            # It looks into the machine's variables while it builds its session; `harden` takes all of that out again.
            warnings.simplefilter("ignore")
            make: Any = Envelopes
            wsman = make(
                self.endpoint.host,
                port=self.endpoint.port,
                username=self.endpoint.user,
                password=self._secret.reveal(),
                ssl=True,
                auth=self.endpoint.authentication,
                cert_validation=self.endpoint.ca_file or True,
                operation_timeout=OPEN_SECONDS,
                connection_timeout=CONNECT_SECONDS,
                read_timeout=READ_SECONDS,
                reconnection_retries=0,
                locale="en-US",
                **options,
            )
            session = SteadySession(wsman.transport._build_session())
        session.mount("https://", KeptAdapter())
        harden(session, ca_file=self.endpoint.ca_file, proxy=self._proxy)
        session.hooks["response"].append(self._heard)
        wsman.transport.session = session
        return wsman

    def _heard(self, response: requests.Response, *_: object, **__: object) -> None:
        self.date = date_of(response) or self.date

    @contextmanager
    def _patience(self, seconds: float) -> Iterator[None]:
        before, self._wsman.operation_timeout = self._wsman.operation_timeout, seconds
        try:
            yield
        finally:
            if self._wsman is not None:
                self._wsman.operation_timeout = before

    # --- failures ----------------------------------------------------------------------------------------------------

    @contextmanager
    def _explaining(self, sent: Sent, *, refused_is_unsent: bool = False, keep: bool = False) -> Iterator[None]:
        """Turn failures of pypsrp and requests into ours; after one the pool is forgotten unless ``keep``."""
        try:
            yield
        except (requests.exceptions.RequestException, WinRMError, ValueError, KeyError, AttributeError) as problem:
            if not keep:
                self.forget()
            raise self._error(problem, sent, refused_is_unsent) from problem

    def _error(self, problem: Exception, sent: Sent, refused_is_unsent: bool) -> SmhvLabError:
        if isinstance(problem, requests.exceptions.RequestException):
            return explain(problem, sent)
        if isinstance(problem, AuthenticationError):
            return wrong_password(sent.endpoint, self.endpoint.user)
        if isinstance(problem, WSManFaultError):
            return self._fault(problem, sent, refused_is_unsent)
        if isinstance(problem, WinRMTransportError):
            if not sent.reads and not (refused_is_unsent and problem.code < 500):
                return _unknown(sent, f"HTTP {problem.code}", str(problem.code))
            return ProtocolError(
                f"{sent.endpoint} answered {sent.title} with HTTP {problem.code}",
                code=str(problem.code),
                next_action="Check the address and port in the profile, and any proxy between.",
            )
        if not sent.reads:
            return _unknown(sent, type(problem).__name__, None)
        return ProtocolError(
            f"{sent.endpoint} gave an answer to {sent.title} that is not PowerShell remoting",
            why=type(problem).__name__,
            next_action="Check the address, port and session configuration in the profile.",
        )

    def _lost(self, sent: Sent, code: str | None, *, unsent: bool = False) -> SmhvLabError:
        if not sent.reads and not unsent:
            return _unknown(sent, "the session on the host is gone", code)
        return SessionLost(
            f"{sent.endpoint} has ended the session",
            code=code,
            next_action="Try again; a new session is opened. Look whether the host has restarted.",
        )

    def _fault(self, problem: WSManFaultError, sent: Sent, refused_is_unsent: bool) -> SmhvLabError:
        code = str(problem.code)
        if problem.code == FAULT_NO_SHELL:
            return self._lost(sent, code, unsent=refused_is_unsent)
        if problem.code in FAULTS_QUOTA:
            return QuotaReached(
                f"{sent.endpoint} allows {self.endpoint.user} no further sessions",
                code=code,
                why=problem.reason,
                next_action="Close other sessions of this user, or raise MaxShellsPerUser on the host.",
            )
        if problem.code == FAULT_DENIED:
            return ConnectionFailed(
                f"{sent.endpoint} does not let {self.endpoint.user} into {self.endpoint.configuration_name}",
                code=code,
                why=problem.reason,
                next_action="Give the user the session configuration's role on the host.",
            )
        if problem.code == FAULT_TIMED_OUT:
            if not sent.reads:
                return _unknown(sent, "the host did not answer in time", code)
            return TimedOut(
                f"{sent.endpoint} did not answer {sent.title} in time",
                code=code,
                next_action="Try again; if it persists, look at the load of the host.",
            )
        if not sent.reads and not refused_is_unsent:
            return _unknown(sent, problem.reason or "a fault of the host's remoting service", code)
        return ProtocolError(
            f"{sent.endpoint} refused {sent.title}",
            code=code,
            why=problem.reason,
            next_action="Look the WS-Management fault code up; check the session configuration's name.",
        )


def may_resend(error: SmhvLabError, sent: Sent) -> bool:
    """Whether the same pipeline may be sent once more in a new session.

    After `SessionLost` at the start the host has said that there is no such session, so it ran nothing. A read may
    also be repeated after its connection broke. A change whose reply was lost is never repeated.
    """
    if isinstance(error, SessionLost):
        return True
    cause = error.__cause__
    broke = isinstance(cause, requests.exceptions.ConnectionError) and was_sent(cause)
    return sent.reads and broke and not isinstance(error, HostDown)


def end_state(pipeline: Any) -> str:
    """Name of a pipeline's end state."""
    names = {
        PSInvocationState.COMPLETED: "Completed",
        PSInvocationState.FAILED: "Failed",
        PSInvocationState.STOPPED: "Stopped",
    }
    return names.get(pipeline.state, "Lost")


def properties(exception: object) -> dict[str, Any]:
    """Properties of an exception object as pypsrp decodes it; empty if it has none."""
    if not isinstance(exception, GenericComplexObject):
        return {}
    return {**exception.adapted_properties, **exception.extended_properties}


def _unknown(sent: Sent, why: str, code: str | None) -> UnknownOutcome:
    return UnknownOutcome(
        f"How {sent.title} on {sent.endpoint} ended is not known", code=code, why=why, next_action=LOOK_IT_UP
    )
