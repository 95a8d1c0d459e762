"""What the two wires share of HTTPS: verified TLS, no help from the machine's variables, failures told apart."""

from __future__ import annotations

import logging
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import requests
import urllib3.exceptions

from smhvlab.errors import (
    ConnectionFailed,
    ConnectionLost,
    HostDown,
    ProfileError,
    ProtocolError,
    ProxyFailed,
    SmhvLabError,
    TimedOut,
    UnknownOutcome,
    UntrustedCertificate,
    WrongPassword,
)

LOOK_IT_UP = "Look up by name whether it took place; do not send it again. Resume and undo do so by themselves."


@dataclass(frozen=True)
class Sent:
    """What a failed exchange was about: the endpoint's name, the request's title, and whether it only reads."""

    endpoint: str
    title: str
    reads: bool


def harden(session: requests.Session, *, ca_file: str | None, proxy: str | None) -> None:
    """Make a session take nothing from the machine's environment and verify every certificate.

    Raises:
        ProfileError: the CA file cannot be read or holds no certificate; requests would raise a bare OSError later.
    """
    if ca_file:
        _check_ca(ca_file)
    session.trust_env = False
    session.verify = ca_file or True
    session.proxies = {"http": proxy, "https": proxy} if proxy else {}
    # Neither protocol redirects; following one would send a change, or a password, somewhere else.
    session.max_redirects = 0


def _check_ca(ca_file: str) -> None:
    try:
        ssl.create_default_context(cafile=ca_file)
    except OSError as problem:  # ssl.SSLError is one
        raise ProfileError(
            f"The CA file {ca_file} cannot be used",
            why=problem.strerror or str(problem),
            next_action="Correct ca_file in the profile; a lab writes its own anew when it starts.",
        ) from problem


def quiet(*loggers: str) -> None:
    """Keep a library from printing its own account of failures, and from logging messages that hold passwords.

    It applies only where the application has configured nothing for that logger.
    """
    for name in loggers:
        logger = logging.getLogger(name)
        if not logger.handlers:
            logger.addHandler(logging.NullHandler())
        if logger.level == logging.NOTSET:
            logger.setLevel(logging.CRITICAL)


def date_of(response: requests.Response) -> datetime | None:
    """When the other side answered, by its own clock; None if it did not tell."""
    try:
        return parsedate_to_datetime(response.headers["Date"]).astimezone(UTC)
    except (KeyError, ValueError):
        return None


def was_sent(problem: BaseException) -> bool:
    """Whether the request may have reached the other side before this exception."""
    if isinstance(problem, (requests.exceptions.SSLError, requests.exceptions.ProxyError)):
        return False
    if isinstance(problem, requests.exceptions.ConnectTimeout):
        return False
    if isinstance(problem, requests.exceptions.ConnectionError):
        return not isinstance(_reason(problem), urllib3.exceptions.NewConnectionError)
    return isinstance(problem, requests.exceptions.RequestException)


def explain(problem: requests.exceptions.RequestException, sent: Sent) -> SmhvLabError:
    """The error of our tree for a failure of `requests`. Nothing of the address goes into the text."""
    where = sent.endpoint
    if isinstance(problem, requests.exceptions.ProxyError):
        return ProxyFailed(
            f"The proxy does not let a connection to {where} through",
            why=_short(problem),
            next_action="Check the profile's proxy, or remove it if the endpoint can be reached directly.",
        )
    if isinstance(problem, requests.exceptions.SSLError) and not _refused(problem):
        return ProtocolError(
            f"{where} does not speak TLS, or none of this machine's versions",
            why=_short(problem),
            next_action="Check the address and port in the profile: something else may answer there.",
        )
    if isinstance(problem, requests.exceptions.SSLError):
        return UntrustedCertificate(
            f"The certificate of {where} cannot be trusted",
            why=_short(problem),
            next_action="Set ca_file in the profile to the CA that signed it, and use the host name that it names.",
        )
    if not was_sent(problem):
        return HostDown(
            f"{where} does not answer",
            why="no answer in time" if isinstance(problem, requests.exceptions.ConnectTimeout) else _short(problem),
            next_action="Check that it is up (a lab: labenv up), and the address and port in the profile.",
        )
    if not sent.reads:
        return UnknownOutcome(
            f"The reply to {sent.title} on {where} was lost",
            why="no reply in time" if isinstance(problem, requests.exceptions.Timeout) else "the connection broke",
            next_action=LOOK_IT_UP,
        )
    if isinstance(problem, requests.exceptions.Timeout):
        return TimedOut(
            f"{where} did not answer {sent.title} in time",
            next_action="Try again; if it persists, look at the load of the endpoint.",
        )
    if isinstance(problem, requests.exceptions.TooManyRedirects):
        return ProtocolError(
            f"{where} redirects {sent.title} to another address",
            next_action="Check the address and port in the profile: this is not the endpoint itself.",
        )
    return ConnectionLost(
        f"The connection to {where} broke during {sent.title}",
        why=_short(problem),
        next_action="Try again; it was a read, nothing was changed.",
    )


def wrong_password(endpoint: str, user: str) -> ConnectionFailed:
    """The error for HTTP 401."""
    return WrongPassword(
        f"{endpoint} does not accept the user {user} with this password",
        code="401",
        next_action="Check user and password, and that the account is not locked.",
    )


def _reason(problem: BaseException) -> BaseException | None:
    """The urllib3 exception inside one of requests."""
    inner = problem.args[0] if problem.args else None
    if isinstance(inner, urllib3.exceptions.MaxRetryError):
        return inner.reason
    return inner if isinstance(inner, BaseException) else None


def _refused(problem: BaseException) -> bool:
    """Whether it is the certificate that was refused, and not the handshake that failed."""
    return isinstance(_innermost(problem), ssl.SSLCertVerificationError)


def _innermost(problem: BaseException) -> BaseException:
    inner: BaseException = problem
    for _ in range(8):
        reason = _reason(inner) or inner.__cause__ or inner.__context__
        if reason is None or reason is inner:
            break
        inner = reason
    return inner


def _short(problem: BaseException) -> str:
    """The cause in a few words, without addresses and object identities."""
    inner = _innermost(problem)
    verification = getattr(inner, "verify_message", None)
    if verification:
        return str(verification)
    if isinstance(inner, OSError) and inner.strerror:
        return inner.strerror
    return type(inner).__name__
