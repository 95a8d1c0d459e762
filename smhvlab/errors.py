"""What can go wrong, as one tree.

::

    SmhvLabError                  everything below; `except SmhvLabError` catches all of it
    ├── ConnectionFailed          an endpoint cannot be talked to; nothing was changed by this request
    │   ├── NoAnswer              nothing comes from it: it may be down
    │   │   ├── HostDown          refused, no route, unknown name, or no answer to the connection attempt
    │   │   ├── TimedOut          a read was sent and no answer came in time
    │   │   └── ConnectionLost    the connection broke while a read was under way
    │   ├── WrongPassword         the endpoint answers, but not to this user and password
    │   ├── UntrustedCertificate  the certificate is not signed by the profile's CA, or names another host
    │   ├── ProxyFailed           the profile's proxy does not let the request through
    │   ├── SessionLost           the host ended the PowerShell session (restart, idle time-out)
    │   └── QuotaReached          the host allows this user no further sessions or commands
    ├── WireError                 an endpoint answered, and the answer is an error
    │   ├── OntapError            ONTAP's error code and target
    │   │   └── JobFailed         the request was accepted, its job failed
    │   ├── PowerShellError       FullyQualifiedErrorId, category, target, HRESULT
    │   ├── ProtocolError         the answer is not what the protocol allows
    │   └── UnknownOutcome        a change was sent and its reply was lost: look the thing up, never resend
    ├── Refused                   smhvlab itself says no, before anything is changed
    │   ├── ReadOnlyRefused       a change through a site that was opened read_only
    │   ├── Unsendable            a request that is not in the contract of its wire
    │   ├── PlanChanged           the site is no longer what the approved plan has seen
    │   ├── ConfirmationNeeded    the flow asks questions that nobody has answered yet
    │   ├── NotFound              nothing has that name
    │   ├── NotUnique             several things have that name
    │   ├── NotVerified           a backup does not hold what it should
    │   ├── NameTaken             something already has the name that is to be created
    │   └── NotAllowed            the site's state, or a rule of the TR, forbids it
    │       ├── CannotBackUp      VMs are gone, or cannot be backed up while they run
    │       └── Misfit            a field of a policy does not fit
    ├── BackupFailed              hosts or array say that a backup is not what it has to be; it was taken back
    ├── Cancelled                 the user cancelled
    ├── JournalError              a run record cannot be used
    │   ├── JournalLocked         its run is still alive
    │   └── JournalFormat         written by another version: can be undone, not resumed
    └── ProfileError              a profile is missing, unreadable or incomplete
        └── SecretMissing         no password was found for an endpoint

Branch on classes and on ``code``, never on message text: hosts translate their messages, and ONTAP rewords its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

__all__ = [
    "BackupFailed",
    "Cancelled",
    "CannotBackUp",
    "ConfirmationNeeded",
    "ConnectionFailed",
    "ConnectionLost",
    "HostDown",
    "JobFailed",
    "JournalError",
    "JournalFormat",
    "JournalLocked",
    "Misfit",
    "NameTaken",
    "NoAnswer",
    "NotAllowed",
    "NotFound",
    "NotUnique",
    "NotVerified",
    "OntapError",
    "PlanChanged",
    "PowerShellError",
    "ProfileError",
    "ProtocolError",
    "ProxyFailed",
    "QuotaReached",
    "ReadOnlyRefused",
    "Refused",
    "SecretMissing",
    "SessionLost",
    "SmhvLabError",
    "TimedOut",
    "UnknownOutcome",
    "Unsendable",
    "UntrustedCertificate",
    "WireError",
    "WrongPassword",
]


class SmhvLabError(Exception):
    """What failed, in which state, why, and what to do next.

    Attributes:
        message: what failed, one sentence without a full stop.
        next_action: what the reader can do now.
        code: the wire's own code (ONTAP error code, FullyQualifiedErrorId, WS-Management fault), or None.
        tr: section of TR-4004 that the failing procedure comes from, e.g. ``"6.2/3"``.
        state: the state in which it failed, e.g. a flow's step or a virtual machine's state.
        why: the cause as far as it is known; often the endpoint's own words.
    """

    def __init__(
        self,
        message: str,
        *,
        next_action: str,
        code: str | None = None,
        tr: str | None = None,
        state: str | None = None,
        why: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.next_action = next_action
        self.code = code
        self.tr = tr
        self.state = state
        self.why = why

    def details(self) -> Mapping[str, str]:
        """The labelled facts under the message, in the order in which they are shown."""
        facts = {
            "State": self.state,
            "Why": self.why,
            "Next": self.next_action,
            "Code": self.code,
            "TR-4004": self.tr,
        }
        return {label: text for label, text in facts.items() if text}

    def __str__(self) -> str:
        return "\n".join([self.message, *(f"  {label}: {text}" for label, text in self.details().items())])

    def __reduce__(self) -> tuple[object, ...]:
        # Keyword-only arguments defeat the default, which calls the class with ``args``.
        return _rebuild, (type(self), self.args, self.__dict__)

    def _render_traceback_(self) -> list[str]:
        """What IPython shows below a cell: the facts. The frames are for ``%debug`` and the log of a program."""
        return [f"{type(self).__name__}: {self}", *getattr(self, "__notes__", ())]

    def _repr_html_(self) -> str:
        rows = "".join(
            f'<div style="color:var(--jp-ui-font-color2,#555)">{escape(label)}</div><div>{escape(text)}</div>'
            for label, text in self.details().items()
        )
        return (
            '<div style="border-left:4px solid var(--jp-error-color1,#d32f2f);padding:.5em .8em;max-width:52em;'
            "background:var(--jp-layout-color1,#fff);color:var(--jp-content-font-color1,#111);"
            'font-family:var(--jp-content-font-family,sans-serif);line-height:1.4">'
            f'<div style="font-size:.85em;color:var(--jp-ui-font-color2,#555)">{escape(type(self).__name__)}</div>'
            f'<div style="font-weight:600;margin-bottom:.3em">{escape(self.message)}</div>'
            f'<div style="display:grid;grid-template-columns:max-content 1fr;column-gap:1em">{rows}</div></div>'
        )


def _rebuild(kind: type[SmhvLabError], args: tuple[object, ...], attributes: Mapping[str, object]) -> SmhvLabError:
    error = kind.__new__(kind)
    error.args = args
    error.__dict__.update(attributes)
    return error


# --- connections -----------------------------------------------------------------------------------------------------


class ConnectionFailed(SmhvLabError):
    """An endpoint cannot be talked to. This request has changed nothing."""


class NoAnswer(ConnectionFailed):
    """Nothing comes from the endpoint: it may be down. The other failures of a connection are answers of a kind."""


class HostDown(NoAnswer):
    """Nothing answers at the endpoint's address and port."""


class WrongPassword(ConnectionFailed):
    """The endpoint refuses the user and password."""


class UntrustedCertificate(ConnectionFailed):
    """The endpoint's certificate cannot be verified. smhvlab never connects without verifying it."""


class TimedOut(NoAnswer):
    """A read got no answer in time."""


class ConnectionLost(NoAnswer):
    """The connection broke during a read."""


class ProxyFailed(ConnectionFailed):
    """The profile's proxy refuses or cannot be reached."""


class SessionLost(ConnectionFailed):
    """The host has ended the PowerShell session; the next request opens a new one."""


class QuotaReached(ConnectionFailed):
    """The host's limit of sessions or commands for this user is reached."""


# --- wires -----------------------------------------------------------------------------------------------------------


class WireError(SmhvLabError):
    """An endpoint answered with an error."""


class OntapError(WireError):
    """ONTAP refused a request, or its job failed.

    Attributes:
        code: ONTAP's error code as a string, e.g. ``"1638555"``.
        target: the field or object that the code is about, or None.
        status: the HTTP status, 0 for a job.
    """

    def __init__(
        self,
        message: str,
        *,
        next_action: str,
        code: str | None = None,
        target: str | None = None,
        status: int = 0,
        tr: str | None = None,
        state: str | None = None,
        why: str | None = None,
    ) -> None:
        super().__init__(message, next_action=next_action, code=code, tr=tr, state=state, why=why)
        self.target = target
        self.status = status


class JobFailed(OntapError):
    """A job that ONTAP had accepted ended in failure.

    Attributes:
        job: the job's uuid.
    """

    def __init__(
        self,
        message: str,
        *,
        next_action: str,
        job: str,
        code: str | None = None,
        target: str | None = None,
        tr: str | None = None,
        state: str | None = None,
        why: str | None = None,
    ) -> None:
        super().__init__(message, next_action=next_action, code=code, target=target, tr=tr, state=state, why=why)
        self.job = job


class PowerShellError(WireError):
    """A cmdlet reported an error.

    Attributes:
        code: FullyQualifiedErrorId, e.g. ``InvalidParameter,Microsoft.HyperV.PowerShell.Commands.GetVM``.
        error_id: the part of it before the comma.
        category: name of the error category, e.g. ``ObjectNotFound``.
        target: text of the TargetObject, "" if there is none.
        exception: .NET type name of the exception, "" if unknown.
        hresult: the exception's HRESULT as an unsigned 32-bit number, None if it has none.
    """

    def __init__(
        self,
        message: str,
        *,
        next_action: str,
        code: str | None = None,
        category: str = "",
        target: str = "",
        exception: str = "",
        hresult: int | None = None,
        tr: str | None = None,
        state: str | None = None,
        why: str | None = None,
    ) -> None:
        super().__init__(message, next_action=next_action, code=code, tr=tr, state=state, why=why)
        self.category = category
        self.target = target
        self.exception = exception
        self.hresult = hresult

    @property
    def error_id(self) -> str:
        """The part of FullyQualifiedErrorId before the comma: the part that Windows documents."""
        return (self.code or "").partition(",")[0]

    def details(self) -> Mapping[str, str]:
        facts = dict(super().details())
        if self.category:
            facts["Category"] = f"{self.category} ({self.target})" if self.target else self.category
        if self.hresult is not None:
            facts["HRESULT"] = f"0x{self.hresult:08X}"
        return facts


class ProtocolError(WireError):
    """An answer that the protocol does not allow, e.g. a proxy's HTML page instead of JSON."""


class UnknownOutcome(WireError):
    """A change was sent and nobody knows whether it took place. Look the thing up by its name; never send it again."""


# --- refusals --------------------------------------------------------------------------------------------------------


class Refused(SmhvLabError):
    """smhvlab refuses, and has changed nothing."""


class ReadOnlyRefused(Refused):
    """A change was asked of a site that was opened with ``read_only=True``."""


class Unsendable(Refused):
    """A request that its wire does not send: unknown cmdlet or parameter, script text, a pair outside the list, ..."""


class PlanChanged(Refused):
    """The site has changed since the plan was made.

    Attributes:
        differences: one line per thing that differs.
    """

    def __init__(
        self,
        message: str,
        *,
        next_action: str,
        differences: Sequence[str] = (),
        tr: str | None = None,
        state: str | None = None,
        why: str | None = None,
    ) -> None:
        super().__init__(
            message, next_action=next_action, tr=tr, state=state, why=why or "; ".join(differences) or None
        )
        self.differences = tuple(differences)


class ConfirmationNeeded(Refused):
    """Questions that must be answered before the first change.

    Attributes:
        needed: the questions' keys, as ``run(accept={...})`` takes them.
    """

    def __init__(
        self,
        message: str,
        *,
        next_action: str,
        needed: Sequence[str] = (),
        tr: str | None = None,
        state: str | None = None,
        why: str | None = None,
    ) -> None:
        super().__init__(message, next_action=next_action, tr=tr, state=state, why=why)
        self.needed = tuple(needed)


class NotFound(Refused):
    """Nothing has that name."""


class NotUnique(Refused):
    """Several things have that name, and exactly one is needed."""


class NotVerified(Refused):
    """A backup was looked at and found damaged; it is not marked as verified."""


class NameTaken(Refused):
    """The name that is to be created exists."""


class NotAllowed(Refused):
    """The state of the site, or a rule of the TR, forbids it."""


class CannotBackUp(NotAllowed):
    """VMs are gone, or cannot be backed up while they run and may not be stopped for it (TR 6.4).

    Attributes:
        vms: their names.
    """

    def __init__(
        self,
        message: str,
        *,
        next_action: str,
        vms: Sequence[str] = (),
        tr: str | None = None,
        state: str | None = None,
        why: str | None = None,
    ) -> None:
        super().__init__(message, next_action=next_action, tr=tr, state=state, why=why)
        self.vms = tuple(vms)


class Misfit(NotAllowed):
    """A field of a policy does not fit (TR 5.2).

    Attributes:
        field: where, e.g. ``schedule.day``; "" for the whole.
        nearest: what works instead, as TOML where it is a value; "" if there is none.
    """

    def __init__(
        self,
        message: str,
        *,
        next_action: str,
        field: str = "",
        nearest: str = "",
        tr: str | None = None,
        state: str | None = None,
        why: str | None = None,
    ) -> None:
        super().__init__(message, next_action=next_action, tr=tr, state=state, why=why)
        self.field = field
        self.nearest = nearest


class BackupFailed(SmhvLabError):
    """What hosts and array tell of a backup is not what it has to be: it does not count, and is taken back.

    Attributes:
        vms: names of the VMs that could not be backed up, as far as it is known to be due to them.
    """

    def __init__(
        self,
        message: str,
        *,
        next_action: str,
        code: str | None = None,
        tr: str | None = None,
        state: str | None = None,
        why: str | None = None,
        vms: Sequence[str] = (),
    ) -> None:
        super().__init__(message, next_action=next_action, code=code, tr=tr, state=state, why=why)
        self.vms = tuple(vms)


class Cancelled(SmhvLabError):
    """The user cancelled. What had been started was waited for; the flow now undoes it or stops."""

    def __init__(
        self,
        message: str = "Cancelled",
        *,
        next_action: str = "Run it again, or look at the run record to see what was undone.",
        tr: str | None = None,
        state: str | None = None,
        why: str | None = None,
    ) -> None:
        super().__init__(message, next_action=next_action, tr=tr, state=state, why=why)


# --- records and profiles --------------------------------------------------------------------------------------------


class JournalError(SmhvLabError):
    """A run record cannot be read, written or used."""


class JournalLocked(JournalError):
    """The run that writes this record is still alive."""


class JournalFormat(JournalError):
    """The record has another format version: it can be undone, not resumed."""


class ProfileError(SmhvLabError):
    """A profile is missing, unreadable or incomplete."""


class SecretMissing(ProfileError):
    """No password was given, set in the environment, kept in the keyring, or typed in."""
