"""What is sent and read over a kept connection is what the libraries would send and read."""

from __future__ import annotations

import gzip
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from xml.etree import ElementTree

import pytest
import requests
from canned_server import Authority
from pypsrp.messages import MessageType
from pypsrp.powershell import Fragmenter
from pypsrp.serializer import Serializer
from pypsrp.wsman import NAMESPACES, OptionSet, SelectorSet, WSMan, WSManAction
from requests.adapters import HTTPAdapter

from smhvlab.wires.kept import KeptAdapter
from smhvlab.wires.wsman import Envelopes, OutputFragments

FIRST = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfirst"
ANSWERS = {
    "length": b"HTTP/1.1 202 Accepted\r\nContent-Length: 4\r\nX-A: 1\r\nx-a: 2\r\n\r\nbody",
    "chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=1\r\nabc\r\n2\r\nde\r\n0\r\nTail: 1\r\n\r\n",
    "compressed": b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%s"
    % (len(gzip.compress(b"text", mtime=0)), gzip.compress(b"text", mtime=0)),
    "no content": b"HTTP/1.1 204 No Content\r\n\r\n",
    "until the end": b"HTTP/1.1 200 OK\r\n\r\nall of it",
    "old": b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "a word before": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "cookie": b"HTTP/1.1 200 OK\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nContent-Length: 0\r\n\r\n",
    "not HTTP": b"SSH-2.0-Other\r\n\r\n",
    "nothing": b"",
    "half a body": b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf",
    "half a chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhalf",
    "no chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\nabc\r\n",
    "too many lines": b"HTTP/1.1 200 OK\r\n" + b"A: 1\r\n" * 200 + b"\r\n",
}


@dataclass
class Raw:
    """A server that answers the first request of a connection as ever, the second with given bytes, and hangs up."""

    url: str
    ca_file: str
    answer: bytes = b""
    silent: bool = False
    seen: list[bytes] = field(default_factory=list)
    connections: int = 0


@pytest.fixture
def raw(authority: Authority) -> Iterator[Raw]:
    """The running server."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority.certificate, authority.key)
    listener = socket.create_server(("127.0.0.1", 0))
    server = Raw(f"https://127.0.0.1:{listener.getsockname()[1]}", str(authority.ca))

    def request(stream: Any) -> bytes:
        text = b""
        while line := stream.readline():
            text += line
            if line == b"\r\n":
                break
        length = next(
            (int(v) for k, _, v in (o.partition(b":") for o in text.split(b"\r\n")) if k == b"Content-Length"), 0
        )
        return bytes(text + stream.read(length))

    def serve() -> None:
        while True:
            try:
                plain, _ = listener.accept()
            except OSError:
                return
            with context.wrap_socket(plain, server_side=True) as connection, connection.makefile("rwb") as stream:
                server.connections += 1
                for answer in (FIRST, server.answer):
                    if not (sent := request(stream)):
                        break
                    server.seen.append(sent)
                    if answer is not FIRST and server.silent:
                        stream.readline()
                        break
                    stream.write(answer)
                    stream.flush()

    thread = threading.Thread(target=serve)
    thread.start()
    yield server
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()


def exchanged(raw: Raw, adapter: HTTPAdapter, timeout: float = 5.0) -> object:
    """What comes of a second request over one connection."""
    with requests.Session() as session:
        session.trust_env, session.verify = False, raw.ca_file
        session.mount("https://", adapter)
        assert session.post(f"{raw.url}/a?b=c", data=b"one", timeout=timeout).content == b"first"
        try:
            answer = session.post(f"{raw.url}/a?b=c", data=b"two", headers={"X": "y"}, timeout=timeout)
        except requests.exceptions.RequestException as problem:
            return type(problem)
        headers = {name.lower(): value for name, value in answer.headers.items()}
        return answer.status_code, answer.reason, headers, answer.content, dict(session.cookies), answer.url


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_is_read_as_the_library_reads_it(name: str, raw: Raw) -> None:
    """Status, headers, body and cookies are the same, and so is the kind of failure."""
    raw.answer = ANSWERS[name]
    theirs, ours = exchanged(raw, HTTPAdapter(max_retries=0)), exchanged(raw, KeptAdapter())
    assert ours == theirs
    assert raw.connections == 2

    def lines(request: bytes) -> set[bytes]:
        return {line.lower() for line in request.split(b"\r\n")} - {b"accept-encoding: identity"}

    assert lines(raw.seen[3]) == lines(raw.seen[1])


def test_an_answer_with_half_a_head_is_none(raw: Raw) -> None:
    """The library takes what has come for the whole; for us the connection broke, and nobody knows the outcome."""
    raw.answer = b"HTTP/1.1 200 OK\r\nContent-Le"
    assert exchanged(raw, KeptAdapter()) is requests.exceptions.ConnectionError


def test_an_answer_that_does_not_come_is_told_as_the_library_tells_it(raw: Raw) -> None:
    """A host that says nothing more is a time-out while reading."""
    raw.silent = True
    assert exchanged(raw, KeptAdapter(), timeout=0.2) is requests.exceptions.ReadTimeout


def test_who_is_asked_again_who_they_are_says_so_over_a_new_connection(raw: Raw) -> None:
    """After 401 the request goes out once more as the first of a connection, where its way to log on can begin."""
    raw.answer = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n"
    answer = exchanged(raw, KeptAdapter())
    assert isinstance(answer, tuple)
    assert answer[3] == b"first"
    assert raw.connections == 2


def test_an_envelope_says_what_the_library_would_say() -> None:
    """The first and the second message of a kind hold the same elements in the same order, but for their ids."""
    said: list[bytes] = []

    def answer(message: bytes, **_: object) -> bytes:
        said.append(message)
        told = ElementTree.fromstring(message)  # noqa: S314 - our own
        answered = ElementTree.Element(f"{{{NAMESPACES['s']}}}Envelope")
        header = ElementTree.SubElement(answered, f"{{{NAMESPACES['s']}}}Header")
        related = ElementTree.SubElement(header, f"{{{NAMESPACES['wsa']}}}RelatesTo")
        related.text = told.findtext("s:Header/wsa:MessageID", namespaces=NAMESPACES)
        ElementTree.SubElement(answered, f"{{{NAMESPACES['s']}}}Body")
        return ElementTree.tostring(answered)

    options, selectors = OptionSet(), SelectorSet()
    options.add_option("WINRS_SKIP_CMD_SHELL", "False")
    selectors.add_option("ShellId", "some")
    body = ElementTree.Element(f"{{{NAMESPACES['rsp']}}}Signal", {"CommandId": "one"})
    ElementTree.SubElement(body, f"{{{NAMESPACES['rsp']}}}Code").text = "a & b"
    for kind in (WSMan, Envelopes):
        wsman: Any = kind("host", auth="basic", username="u", password="p")
        wsman.session_id = "one"
        wsman.transport.send = answer
        for _ in range(2):
            wsman.invoke(WSManAction.SIGNAL, "uri", body, options, selectors, 7)
            wsman.invoke(WSManAction.DELETE, "uri", None, selector_set=selectors)

    def plain(message: bytes) -> str:
        root = ElementTree.fromstring(message)  # noqa: S314 - our own
        root.find("s:Header/wsa:MessageID", namespaces=NAMESPACES).text = ""  # type: ignore[union-attr]
        return ElementTree.canonicalize(ElementTree.tostring(root), rewrite_prefixes=True)

    assert [plain(message) for message in said[4:]] == [plain(message) for message in said[:4]]
    assert len(set(said)) == 8


def test_messages_in_parts_and_whole_are_put_together_as_the_library_does() -> None:
    """Output and states that come in several fragments, and several in one answer, are the same messages."""
    serializer = Serializer()
    head = bytes([1, 0, 0, 0]), bytes(range(32))

    def message(kind: int, text: str) -> bytes:
        return head[0] + kind.to_bytes(4, "little") + head[1] + b"\xef\xbb\xbf" + text.encode()

    def fragment(number: int, part: int, flags: int, data: bytes) -> bytes:
        return number.to_bytes(8) + part.to_bytes(8) + bytes([flags]) + len(data).to_bytes(4) + data

    long = message(MessageType.PIPELINE_OUTPUT, "<S>long</S>")
    state = message(MessageType.PIPELINE_STATE, '<Obj RefId="0"><MS><I32 N="PipelineState">4</I32></MS></Obj>')
    short, other = (message(MessageType.PIPELINE_OUTPUT, text) for text in ("<S>ä</S>", "<I32>7</I32>"))
    answers = [
        fragment(1, 0, 3, short) + fragment(2, 0, 1, long[:50]),
        fragment(2, 1, 2, long[50:]) + fragment(3, 0, 3, state) + fragment(4, 0, 3, other),
    ]

    def told(fragmenter: Any) -> list[tuple[object, ...]]:
        found = [one for answer in answers for one in fragmenter.defragment(answer)]
        return [
            (m.destination, m.message_type, m.rpid, m.pid, getattr(m.data, "data", None) or vars(m.data).get("state"))
            for m in found
        ]

    assert told(OutputFragments(1000, serializer)) == told(Fragmenter(1000, serializer))
    assert [one[4] for one in told(OutputFragments(1000, serializer))] == ["ä", "long", 4, 7]
