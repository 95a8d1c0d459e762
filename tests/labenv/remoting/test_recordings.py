"""Recorded conversations with a real host: the same requests get answers of the same shape."""

from __future__ import annotations

import base64
import os
import re
import struct
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .asgi import Direct, direct
from .conftest import parsed

FOLDER = Path(os.environ.get("LABENV_FACTS", "facts")) / "psrp_recordings"
yaml = pytest.importorskip("yaml")
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="the recordings are not on this machine")


def conversations() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Name and messages of each recording of a PowerShell session."""
    for path in sorted(FOLDER.glob("test_psrp_*.yml")):
        loaded = yaml.load(path.read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        yield path.stem, loaded["messages"]


def operation(text: str) -> str:
    """The last part of a message's action."""
    found = re.search(r"Action[^>]*>([^<]*)", text)
    return found.group(1).rsplit("/", 1)[-1] if found else ""


def hurried(request: str) -> bytes:
    """A request whose poll ends soon: we send more in one answer than a real host, whose client then polls in vain."""
    return re.sub(r"OperationTimeout>PT\d+S", "OperationTimeout>PT0.05S", request).encode()


def paths(element: ET.Element, prefix: str = "") -> set[str]:
    """Every element below, with the names of its attributes."""
    found = set()
    for child in element:
        name = f"{prefix}/{child.tag}"
        found.add(name)
        found |= {f"{name}@{attribute}" for attribute in child.attrib}
        found |= paths(child, name)
    return found


def fragments(text: str) -> bytes:
    """All protocol bytes in a message."""
    return b"".join(base64.b64decode(f) for f in re.findall(r">([A-Za-z0-9+/=]{28,})<", text))


def messages(data: bytes) -> list[tuple[int, bytes]]:
    """Kind and body of each whole PSRP message."""
    found, buffers = [], {}
    while len(data) >= 21:
        number, _, flags, size = struct.unpack(">QQBI", data[:21])
        buffers[number] = buffers.get(number, b"") + data[21 : 21 + size]
        data = data[21 + size :]
        if flags & 2:
            whole = buffers.pop(number)
            found.append((struct.unpack("<I", whole[4:8])[0], whole[40:]))
    return found


def test_our_answers_have_no_element_that_a_real_host_has_not(tmp_path: Path) -> None:
    """Every operation and fault is answered with elements and attributes that real answers have."""
    real: dict[str, set[str]] = {}
    opened: list[dict[str, Any]] = []
    for name, exchange in conversations():
        for message in exchange:
            if isinstance(message.get("response"), str) and message["response"].startswith("<"):
                answer = message["response"]
                real.setdefault(operation(answer), set()).update(paths(parsed(answer)))
        if name == "test_psrp_reset_runspace_state":
            opened = exchange

    async def body(lab: Direct) -> list[str]:
        return [(await lab.post(hurried(message["request"])))[1].decode() for message in opened]

    answers = direct(tmp_path, body)
    seen = set()
    for answer in answers:
        extra = paths(parsed(answer)) - real[operation(answer)]
        assert extra == set()
        seen.add(operation(answer))
    assert seen >= {"fault", "CreateResponse", "ReceiveResponse", "CommandResponse", "SendResponse", "DeleteResponse"}


def test_every_recorded_session_can_be_played(tmp_path: Path) -> None:
    """Whatever a real client has sent is answered; handshakes end with an open pool, scripts with a refusal."""
    kinds = {"Create", "Command", "Send", "Delete", "Signal", "Get"}

    async def play(lab: Direct, exchange: list[dict[str, Any]]) -> list[int]:
        states = []
        for message in exchange:
            request = message.get("request")
            if not request or operation(request) not in kinds | {"Receive"}:
                break
            status, answer = await lab.post(hurried(request))
            assert status in (200, 500)
            assert b"</s:Envelope>" in answer
            for kind, text in messages(fragments(answer.decode())) if operation(request) == "Receive" else ():
                if kind == 0x21005:
                    states.append(int(re.findall(rb"RunspaceState\">(\d+)", text)[0]))
        return states

    async def body(lab: Direct) -> dict[str, list[int]]:
        return {name: await play(lab, exchange) for name, exchange in conversations() if exchange}

    states = direct(tmp_path, body)
    assert states["test_psrp_open_runspace"] == [2]
    assert sum(1 for s in states.values() if s[:1] == [2]) > 25


def test_our_handshake_sends_what_a_real_host_sends(tmp_path: Path) -> None:
    """Session capability, private data and state: the same kinds of message with the same elements."""
    exchange = dict(conversations())["test_psrp_open_runspace"]

    async def body(lab: Direct) -> list[str]:
        return [(await lab.post(hurried(m["request"])))[1].decode() for m in exchange if m.get("request")]

    def inner(texts: list[str]) -> list[tuple[int, bytes]]:
        return [m for t in texts if operation(t) == "ReceiveResponse" for m in messages(fragments(t))]

    ours = inner(direct(tmp_path, body))
    real = inner([m["response"] for m in exchange if m.get("response")])
    assert [kind for kind, _ in ours] == [kind for kind, _ in real]
    assert sorted(re.findall(rb"<V.*?/V", ours[0][1])) == sorted(re.findall(rb"<V.*?/V", real[0][1]))
