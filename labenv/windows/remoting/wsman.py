"""WS-Management envelopes: what a request asks for, and the exact shape of answers and faults."""

from __future__ import annotations

import base64
import binascii
import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from functools import lru_cache
from uuid import uuid4
from xml.sax.saxutils import escape

SOAP = "http://www.w3.org/2003/05/soap-envelope"
ADDRESSING = "http://schemas.xmlsoap.org/ws/2004/08/addressing"
TRANSFER = "http://schemas.xmlsoap.org/ws/2004/09/transfer"
MANAGEMENT = "http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd"
MICROSOFT = "http://schemas.microsoft.com/wbem/wsman/1/wsman.xsd"
SHELL = "http://schemas.microsoft.com/wbem/wsman/1/windows/shell"
CONFIG = "http://schemas.microsoft.com/wbem/wsman/1/config"
FAULT = "http://schemas.microsoft.com/wbem/wsman/1/wsmanfault"
POWERSHELL = "http://schemas.microsoft.com/powershell"
ANONYMOUS = f"{ADDRESSING}/role/anonymous"
DONE = f"{SHELL}/CommandState/Done"

LEAST_ENVELOPE = 8192
"""No client can use less."""
MAX_TIMEOUT = 60.0
"""Longest OperationTimeout in seconds (MaxTimeoutms)."""

_TIMEOUT = re.compile(r"P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?)?")
_IDENTITY = re.compile(rb'uuid:[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}(?=[<"])')
_NAMESPACES = (
    f'xml:lang="en-US" xmlns:s="{SOAP}" xmlns:a="{ADDRESSING}" xmlns:x="{TRANSFER}" '
    f'xmlns:w="{MANAGEMENT}" xmlns:rsp="{SHELL}" xmlns:p="{MICROSOFT}"'
)
_FAULT_NAMESPACES = (
    f'xml:lang="en-US" xmlns:s="{SOAP}" xmlns:a="{ADDRESSING}" xmlns:x="{TRANSFER}" '
    'xmlns:e="http://schemas.xmlsoap.org/ws/2004/08/eventing" '
    'xmlns:n="http://schemas.xmlsoap.org/ws/2004/09/enumeration" '
    f'xmlns:w="{MANAGEMENT}" xmlns:p="{MICROSOFT}"'
)


class Action(Enum):
    """The operations that are served."""

    GET = f"{TRANSFER}/Get"
    CREATE = f"{TRANSFER}/Create"
    DELETE = f"{TRANSFER}/Delete"
    COMMAND = f"{SHELL}/Command"
    RECEIVE = f"{SHELL}/Receive"
    SEND = f"{SHELL}/Send"
    SIGNAL = f"{SHELL}/Signal"


@dataclass(frozen=True)
class FaultKind:
    """Code, SOAP code and subcode of a WS-Management fault, with its usual text."""

    code: int
    party: str
    subcode: str
    text: str
    detail: str | None = None
    addressing: bool = False


INVALID_SELECTORS = FaultKind(
    2150858843,
    "Sender",
    "w:InvalidSelectors",
    "The WS-Management service cannot process the request because the request contained invalid selectors for the "
    "resource. ",
    "UnexpectedSelectors",
)
TIMED_OUT = FaultKind(
    2150858793,
    "Receiver",
    "w:TimedOut",
    "The WS-Management service cannot complete the operation within the time specified in OperationTimeout.  ",
)
INVALID_HEADER = FaultKind(
    2150858767,
    "Sender",
    "a:InvalidMessageInformationHeader",
    "The WS-Management service cannot process the request. The request contains one or more invalid SOAP headers. ",
    addressing=True,
)
NOT_SUPPORTED = FaultKind(
    2150858818,
    "Sender",
    "w:UnsupportedFeature",
    "The WS-Management service does not support the requested feature. ",
)
INVALID_RESOURCE = FaultKind(
    2150858811,
    "Sender",
    "a:DestinationUnreachable",
    "The WS-Management service cannot process the request. The resource URI is missing or it has an incorrect format. ",
    "InvalidResourceURI",
    addressing=True,
)
INVALID_XML = FaultKind(
    2150858819,
    "Sender",
    "w:SchemaValidationError",
    "The WS-Management service cannot process the request. The request contains invalid XML. ",
)
INVALID_PARAMETER = FaultKind(87, "Sender", "w:InvalidParameter", "The parameter is incorrect. ", "InvalidValue")
INTERNAL_ERROR = FaultKind(
    2150858755, "Receiver", "w:InternalError", "The WS-Management service cannot process the request. "
)
TOO_MANY_SHELLS = FaultKind(
    2150859173,
    "Sender",
    "w:QuotaLimit",
    "The WS-Management service cannot process the request. The maximum number of concurrent shells for this user has "
    "been exceeded. Close existing shells or raise the quota for this user. ",
)
TOO_MANY_OPERATIONS = FaultKind(
    2150859174,
    "Sender",
    "w:QuotaLimit",
    "The WS-Management service cannot process the request. The maximum number of concurrent operations for this user "
    "has been exceeded. Close existing operations for this user, or raise the quota for this user. ",
)
NO_SUCH_COMMAND = (
    "The Windows Remote Shell received a request to perform an operation on a command identifier that does not exist. "
    "Either the command has completed execution or the client specified an invalid command identifier. "
)


class WsmanFault(Exception):
    """A request that is answered with a SOAP fault (HTTP status 500)."""

    def __init__(self, kind: FaultKind, message: str | None = None, *, provider: str | None = None) -> None:
        super().__init__(message or kind.text)
        self.kind = kind
        self.message = message or kind.text
        self.provider = provider


@dataclass(frozen=True)
class Request:
    """The parts of a request envelope that matter here. Times in seconds, sizes in bytes."""

    action: Action
    message_id: str
    resource: str
    body: ET.Element
    timeout: float = MAX_TIMEOUT
    envelope: int = 153600
    selectors: Mapping[str, str] | None = None
    locale: str = "en-US"

    @property
    def shell_id(self) -> str:
        """The shell that is asked for, in capitals; empty if none is named."""
        return (self.selectors or {}).get("ShellId", "").upper()


def message_id_of(data: bytes) -> str:
    """The MessageID of a request that may be broken otherwise; empty if there is none."""
    match = re.search(rb"MessageID[^>]*>\s*([\w:.+-]{1,100})", data)
    return match.group(1).decode("ascii", "replace") if match else ""


def parse(data: bytes) -> Request:
    """Read a request envelope; raises WsmanFault."""
    if b"<!" in data:
        raise WsmanFault(INVALID_XML)  # no document type, so no entities to expand
    head, mark, rest = data.partition(b"<s:Body>")
    known = _known_head(_IDENTITY.sub(b"uuid:", head)) if mark and len(head) < LEAST_ENVELOPE else None
    if known is None:
        return _request(_element(data))
    opening, request = known
    return replace(request, message_id=message_id_of(head), body=_element(opening + mark + rest)[0])


@lru_cache(256)
def _known_head(head: bytes) -> tuple[bytes, Request] | None:
    """The opening tag, and what is read of requests that begin like this, down to their body and but for UUIDs.

    A session has one such head for each operation, and most of the markup is in it: reading only what follows takes
    half the time. None if the whole has to be read, because it is wrong or of another form.
    """
    opening = head[: head.find(b">") + 1]
    usual = opening.startswith(b"<s:Envelope ") and b"Body" not in head and head.count(b"MessageID") == 2
    try:
        _element(opening + b"</s:Envelope>")
        request = _request(_element(head + b"<s:Body></s:Body></s:Envelope>"))
    except WsmanFault:
        return None
    texts = (request.resource, request.locale, *(request.selectors or {}), *(request.selectors or {}).values())
    if not usual or not request.message_id == message_id_of(head) == "uuid:" or any("uuid:" in text for text in texts):
        return None
    return opening, request


def _element(data: bytes) -> ET.Element:
    try:
        return ET.fromstring(data)  # noqa: S314 - refused by the caller: entities
    except (ET.ParseError, ValueError, LookupError) as error:
        raise WsmanFault(INVALID_XML) from error


def _request(root: ET.Element) -> Request:
    header = root.find(f"{{{SOAP}}}Header")
    body = root.find(f"{{{SOAP}}}Body")
    if root.tag != f"{{{SOAP}}}Envelope" or header is None or body is None:
        raise WsmanFault(INVALID_XML)
    try:
        action = Action(_text(header, ADDRESSING, "Action"))
    except ValueError:
        raise WsmanFault(NOT_SUPPORTED) from None
    message_id = _text(header, ADDRESSING, "MessageID")
    if not message_id:
        raise WsmanFault(INVALID_HEADER, "The WS-Management service cannot process the request. No MessageID. ")
    selectors = {s.get("Name", ""): (s.text or "").strip() for s in header.iterfind(f"{{{MANAGEMENT}}}SelectorSet/*")}
    locale = header.find(f"{{{MANAGEMENT}}}Locale")
    lang = None if locale is None else locale.get("{http://www.w3.org/XML/1998/namespace}lang")
    return Request(
        action=action,
        message_id=message_id,
        resource=_text(header, MANAGEMENT, "ResourceURI"),
        body=body,
        timeout=_timeout(_text(header, MANAGEMENT, "OperationTimeout")),
        envelope=_envelope(_text(header, MANAGEMENT, "MaxEnvelopeSize")),
        selectors=selectors,
        locale=lang or "en-US",
    )


def _text(header: ET.Element, namespace: str, name: str) -> str:
    return (header.findtext(f"{{{namespace}}}{name}") or "").strip()


def _timeout(text: str) -> float:
    if not text:
        return MAX_TIMEOUT
    match = _TIMEOUT.fullmatch(text)
    if match is None or not any(match.groups()):
        raise WsmanFault(
            INVALID_HEADER,
            "The WS-Management service cannot process the request. The XML contains an invalid timeout field in the "
            f"SOAP header: {text[:40]}. ",
        )
    days, hours, minutes, seconds = (float(g or 0) for g in match.groups())
    return min(((days * 24 + hours) * 60 + minutes) * 60 + seconds, MAX_TIMEOUT)


def _envelope(text: str) -> int:
    if not text:
        return 153600
    if not text.isdigit() or len(text) > 10 or int(text) < LEAST_ENVELOPE:
        raise WsmanFault(INVALID_HEADER)
    return int(text)


def decode(text: str | None) -> bytes:
    """Base64 content of an element; raises WsmanFault."""
    try:
        return base64.b64decode("".join((text or "").split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise WsmanFault(INVALID_PARAMETER) from error


def _envelope_text(namespaces: str, action: str, relates_to: str, body: str) -> bytes:
    return (
        f"<s:Envelope {namespaces}><s:Header><a:Action>{action}</a:Action>"
        f"<a:MessageID>uuid:{str(uuid4()).upper()}</a:MessageID><a:To>{ANONYMOUS}</a:To>"
        f"<a:RelatesTo>{escape(relates_to)}</a:RelatesTo></s:Header><s:Body>{body}</s:Body></s:Envelope>"
    ).encode()


def reply(request: Request, body: str) -> bytes:
    """The answer to a request."""
    return _envelope_text(_NAMESPACES, f"{request.action.value}Response", request.message_id, body)


def fault(error: WsmanFault, *, relates_to: str, machine: str) -> bytes:
    """The fault that answers a request."""
    kind = error.kind
    detail = f"<w:FaultDetail>{MANAGEMENT[:-4]}/faultDetail/{kind.detail}</w:FaultDetail>" if kind.detail else ""
    head = f'<f:WSManFault xmlns:f="{FAULT}" Code="{kind.code}" Machine="{escape(machine)}">'
    text = escape(error.message)
    message = f"<f:Message>{text}</f:Message>"
    if error.provider is not None:
        inner = f"{head}<f:Message>{text}</f:Message></f:WSManFault>"
        path = "%systemroot%\\system32\\WsmSvc.dll"
        message = (
            f'<f:Message><f:ProviderFault provider="{escape(error.provider)}" path="{path}">{inner}'
            "</f:ProviderFault></f:Message>"
        )
    body = (
        f"<s:Fault><s:Code><s:Value>s:{kind.party}</s:Value><s:Subcode><s:Value>{kind.subcode}</s:Value></s:Subcode>"
        f'</s:Code><s:Reason><s:Text xml:lang="en-US">{escape(kind.text)}</s:Text></s:Reason><s:Detail>{detail}'
        f"{head}{message}</f:WSManFault></s:Detail></s:Fault>"
    )
    action = f"{ADDRESSING}/fault" if kind.addressing else f"{MANAGEMENT[:-4]}/fault"
    return _envelope_text(_FAULT_NAMESPACES, action, relates_to, body)


@dataclass(frozen=True)
class ShellFacts:
    """What a shell tells about itself."""

    shell_id: str
    resource: str
    owner: str
    client: str
    idle_timeout: float
    age: float
    idle: float
    locale: str


def shell_element(facts: ShellFacts) -> str:
    """The rsp:Shell element of Create and Get answers."""

    def item(name: str, text: str) -> str:
        return f"<rsp:{name}>{escape(text)}</rsp:{name}>"

    def span(seconds: float) -> str:
        minutes, second = divmod(int(seconds), 60)
        hours, minute = divmod(minutes, 60)
        days, hour = divmod(hours, 24)
        return f"P{days}DT{hour}H{minute}M{second}S"

    return (
        f'<rsp:Shell xmlns:rsp="{SHELL}">'
        + item("ShellId", facts.shell_id)
        + item("ResourceUri", facts.resource)
        + item("Owner", facts.owner)
        + item("ClientIP", facts.client)
        + item("ProcessId", "4242")
        + item("IdleTimeOut", f"PT{facts.idle_timeout:.3f}S")
        + item("InputStreams", "stdin pr")
        + item("OutputStreams", "stdout")
        + item("MaxIdleTimeOut", "PT2147483.647S")
        + item("Locale", facts.locale)
        + item("DataLocale", facts.locale)
        + item("CompressionMode", "NoCompression")
        + item("ProfileLoaded", "Yes")
        + item("Encoding", "UTF8")
        + item("BufferMode", "Block")
        + item("State", "Connected")
        + item("ShellRunTime", span(facts.age))
        + item("ShellInactivity", span(facts.idle))
        + "</rsp:Shell>"
    )


def created(facts: ShellFacts, address: str) -> str:
    """The body that answers Create."""
    return (
        f"<x:ResourceCreated><a:Address>{escape(address)}</a:Address><a:ReferenceParameters>"
        f'<w:ResourceURI>{escape(facts.resource)}</w:ResourceURI><w:SelectorSet><w:Selector Name="ShellId">'
        f"{facts.shell_id}</w:Selector></w:SelectorSet></a:ReferenceParameters></x:ResourceCreated>"
        + shell_element(facts)
    )


def received(fragments: Sequence[bytes], *, command_id: str | None, done: bool) -> str:
    """The body that answers Receive: one Stream element per fragment, as Windows does it."""
    command = f' CommandId="{command_id}"' if command_id else ""
    streams = "".join(
        f'<rsp:Stream Name="stdout"{command}>{base64.b64encode(f).decode()}</rsp:Stream>' for f in fragments
    )
    state = f'<rsp:CommandState{command} State="{DONE}"><rsp:ExitCode>0</rsp:ExitCode></rsp:CommandState>'
    return f"<rsp:ReceiveResponse>{streams}{state if done else ''}</rsp:ReceiveResponse>"
