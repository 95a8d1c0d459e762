"""WS-Management as pypsrp speaks it, without making anew for each message what is the same in all of them.

An envelope differs from the one before in its id and its body, a request in its envelope, a message of a pipeline's
output in its content. The rest is made once, by pypsrp itself, and used again. What is seldom goes its way unchanged.
"""

from __future__ import annotations

import re
import struct
from functools import lru_cache
from typing import Any, Final
from uuid import UUID, uuid4
from xml.etree import ElementTree
from xml.sax.saxutils import escape, quoteattr

import requests
from pypsrp.exceptions import WinRMError, WinRMTransportError
from pypsrp.messages import Message, MessageType, PipelineOutput, PipelineState
from pypsrp.negotiate import HTTPNegotiateAuth
from pypsrp.powershell import Fragmenter
from pypsrp.wsman import NAMESPACES, WSMan
from requests.auth import HTTPBasicAuth
from requests.cookies import extract_cookies_to_jar
from requests.hooks import dispatch_hook

_STEADY: Final = (HTTPBasicAuth, HTTPNegotiateAuth)
"""Ways to log on that give every request the same head."""

_NO_BODY: Final = b"<s:Body /></s:Envelope>"
_RSP: Final = f"{{{NAMESPACES['rsp']}}}"
_OUTPUT: Final = struct.pack("<I", MessageType.PIPELINE_OUTPUT)
_STATE: Final = struct.pack("<I", MessageType.PIPELINE_STATE)
_ENDED: Final = re.compile(r'<Obj RefId="0"><MS><I32 N="PipelineState">(\d)</I32></MS></Obj>\Z')
_MARK: Final = b"\xef\xbb\xbf"
_FRAGMENT: Final = ">QQBI"
_FRAGMENT_HEAD: Final = struct.calcsize(_FRAGMENT)


class Envelopes(WSMan):
    """Sends envelopes whose heads were written once."""

    _heads: dict[tuple[object, ...], tuple[bytes, bytes]] | None = None

    def invoke(
        self,
        action: str,
        resource_uri: str,
        resource: ElementTree.Element | None,
        option_set: Any = None,
        selector_set: Any = None,
        timeout: int | None = None,
        **more: Any,
    ) -> ElementTree.Element:
        """One message and its answer. Raises as the base does."""
        before, behind = self._head(action, resource_uri, option_set, selector_set, timeout)
        message = f"uuid:{uuid4()}".upper().replace("UUID", "uuid", 1)
        body = (_shell(resource) or ElementTree.tostring(resource)) if resource is not None else b""
        xml = b"".join((before, message.encode(), behind, b"<s:Body>", body, b"</s:Body></s:Envelope>"))
        try:
            answer = self.transport.send(xml, timeout=timeout + 2 if timeout else None, **more)
        except WinRMTransportError as problem:
            try:
                fault = self._parse_wsman_fault(problem.response_text)
            except ElementTree.ParseError:
                raise problem from None
            raise fault from problem
        try:
            envelope = ElementTree.fromstring(answer)  # noqa: S314 - of an authenticated host, over TLS
        except ElementTree.ParseError as problem:
            raise WinRMError("The answer is no envelope") from problem
        related = envelope.findtext("s:Header/wsa:RelatesTo", default="", namespaces=NAMESPACES)
        if related != message:
            raise WinRMError(f"An answer to {related or 'nothing'} came for {message}")
        return envelope

    def _head(
        self, action: str, resource_uri: str, option_set: Any, selector_set: Any, timeout: int | None
    ) -> tuple[bytes, bytes]:
        """What stands before and behind the message's id, up to the body."""
        if self._heads is None:
            self._heads = {}
        sets = [repr(one.values) if one is not None else "" for one in (option_set, selector_set)]
        key = (action, resource_uri, *sets, timeout or self.operation_timeout, self.max_envelope_size)
        if key not in self._heads:
            message, header = self._create_header(action, resource_uri, option_set, selector_set, timeout)
            envelope = ElementTree.Element(f"{{{NAMESPACES['s']}}}Envelope")
            envelope.append(header)
            ElementTree.SubElement(envelope, f"{{{NAMESPACES['s']}}}Body")
            whole = ElementTree.tostring(envelope, encoding="utf-8", method="xml")
            before, _, behind = whole.removesuffix(_NO_BODY).partition(f"uuid:{message}".encode())
            self._heads[key] = before, behind
        return self._heads[key]


def _shell(element: ElementTree.Element) -> bytes:
    """An element of the remote shell and what is in it; empty if anything is of another kind."""
    try:
        return _written(element, f' xmlns:rsp="{NAMESPACES["rsp"]}"').encode()
    except _Other:
        return b""


class _Other(Exception):
    """An element or attribute of another namespace."""


def _written(element: ElementTree.Element, declared: str = "") -> str:
    name = element.tag.removeprefix(_RSP)
    if name == element.tag or any("{" in key for key in element.attrib):
        raise _Other
    attributes = "".join(f" {key}={quoteattr(value)}" for key, value in element.attrib.items())
    inner = escape(element.text or "") + "".join([_written(child) for child in element])
    return f"<rsp:{name}{declared}{attributes}>{inner}</rsp:{name}>"


class SteadySession(requests.Session):
    """Sends to one address what differs in its body only.

    Args:
        like: the session that the library has made, with its headers and its way to log on.
    """

    def __init__(self, like: requests.Session) -> None:
        super().__init__()
        self.headers, self.auth, self.cert = like.headers, like.auth, like.cert
        self._usual: requests.PreparedRequest | None = None

    def prepare_request(self, request: requests.Request) -> requests.PreparedRequest:
        """The request as it is sent."""
        usual = self._usual
        if usual is None or self.cookies or not self._same(request, usual):
            prepared = super().prepare_request(request)
            if isinstance(self.auth, _STEADY) and isinstance(prepared.body, bytes):
                self._usual = prepared.copy()
            return prepared
        prepared = requests.PreparedRequest()
        prepared.method, prepared.url, prepared.hooks = usual.method, usual.url, usual.hooks
        prepared.body = request.data
        prepared.headers = usual.headers.copy()
        prepared.headers["Content-Length"] = str(len(request.data))
        prepared._cookies = usual._cookies  # type: ignore[attr-defined]  # of its copies too
        return prepared

    def _same(self, request: requests.Request, usual: requests.PreparedRequest) -> bool:
        kind = "Content-Type"
        return (
            request.url == usual.url
            and request.method == usual.method
            and isinstance(request.data, bytes)
            and request.headers.get(kind) == usual.headers.get(kind)
        )

    def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        """One exchange. Raises as the base does; a redirect is never followed."""
        given = {"stream": False, "verify": self.verify, "cert": self.cert, "proxies": self.proxies, **options}
        response = self.get_adapter(request.url or "").send(request, **given)
        response = dispatch_hook("response", request.hooks, response, **given)  # type: ignore[no-untyped-call]
        if response.is_redirect:
            raise requests.exceptions.TooManyRedirects("Redirects are not followed.", response=response)
        _ = response.content
        extract_cookies_to_jar(self.cookies, request, response.raw)  # type: ignore[no-untyped-call]
        done: requests.Response = response
        return done


class OutputFragments(Fragmenter):
    """Puts messages together again; those of a pipeline's output, which may be hundreds, in a shorter way."""

    def defragment(self, data: bytes) -> list[Any]:
        """The messages in what has come."""
        found: list[Any] = []
        at = 0
        while at < len(data):
            try:
                number, part, flags, size = struct.unpack_from(_FRAGMENT, data, at)
            except struct.error as problem:
                raise WinRMError("The host has sent a part of a fragment") from problem
            begin, end = at + _FRAGMENT_HEAD, at + _FRAGMENT_HEAD + size
            if flags & 3 == 3 and part == 0 and number not in self.incoming_buffer:
                found.append(self._message(data[begin:end]))
            else:  # a message in several parts: the library keeps what has come of it
                found += super().defragment(data[at:end])
            at = end
        return found

    def _message(self, data: bytes) -> Any:
        content: Any
        if data[4:8] == _OUTPUT:
            content = PipelineOutput()
            content.data = self.serializer.deserialize(_content(data))
        elif data[4:8] == _STATE and (ended := _ENDED.match(_content(data))) is not None:
            content = PipelineState(state=int(ended[1]))  # type: ignore[no-untyped-call]
        else:
            return Message.unpack(data, self.serializer)
        message = Message.__new__(Message)
        (message.destination,) = struct.unpack_from("<I", data)
        message.message_type = content.MESSAGE_TYPE
        message.rpid, message.pid = _guid(data[8:24]), _guid(data[24:40])
        message.data, message._serializer = content, self.serializer
        return message


def _content(data: bytes) -> str:
    return data[40:].removeprefix(_MARK).decode()


@lru_cache(maxsize=16)
def _guid(data: bytes) -> UUID:
    return UUID(bytes_le=data)
