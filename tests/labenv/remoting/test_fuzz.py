"""Damaged requests: whatever arrives, the answer is a fault and the next good request works."""

from __future__ import annotations

import asyncio
import base64
import random
import re
import struct
import xml.etree.ElementTree as ET
from dataclasses import fields
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labenv.clock import Clock
from labenv.windows.remoting.outbox import Outbox
from labenv.windows.remoting.wsman import WsmanFault, parse, received

from .asgi import Direct, direct, later_requests_of_a_client, requests_of_a_client
from .conftest import START, parsed


def damage(data: bytes, generator: random.Random) -> bytes:
    """The bytes with a few of them changed, lost, doubled or swapped for what means something."""
    out = bytearray(data)
    for _ in range(generator.randint(1, 4)):
        at = generator.randrange(len(out))
        match generator.randrange(5):
            case 0:
                out[at] = generator.randrange(256)
            case 1:
                del out[at : at + generator.randint(1, 40)]
            case 2:
                out[at:at] = out[at : at + generator.randint(1, 40)]
            case 3:
                out[at:at] = generator.choice(
                    [b"<", b"&#0;", b"\x00", b"]]>", b"<a>", b"PT-1S", b"\xff\xfe", b"9" * 30]
                )
            case _:
                del out[at:]
                out += b"x"
    return bytes(out)


def damage_inside(data: bytes, generator: random.Random) -> bytes:
    """The envelope with damaged protocol bytes in an intact element."""
    match = max(re.finditer(rb">([A-Za-z0-9+/=]{40,})<", data), key=lambda m: len(m.group(1)))
    payload = damage(base64.b64decode(match.group(1)), generator)
    return data[: match.start(1)] + base64.b64encode(payload) + data[match.end(1) :]


async def attack(lab: Direct, rounds: int, seed: int) -> None:
    generator = random.Random(seed)
    create, run = requests_of_a_client()
    status, _ = await lab.post(create)
    assert status == 200
    for number in range(rounds):
        victim = generator.choice([create, run])
        for broken in (damage(victim, generator), damage_inside(victim, generator)):
            status, answer = await lab.post(broken)
            assert status in (200, 500), (number, broken)
            root = parsed(answer)
            assert (root.find(".//{http://www.w3.org/2003/05/soap-envelope}Fault") is not None) == (status == 500)
        await lab.remoting.close()
        status, _ = await lab.post(create)
        assert status == 200
        status, _ = await lab.post(run)
        assert status == 200


def test_damaged_requests(tmp_path: Path) -> None:
    """Seeded damage to envelopes and to the protocol inside them never breaks the server."""
    direct(tmp_path, lambda lab: attack(lab, 60, seed=1))


async def conversation(lab: Direct, rounds: int, seed: int) -> None:
    """Damage to any request of a conversation, with the intact ones before it."""
    generator = random.Random(seed)
    messages = later_requests_of_a_client()
    for number in range(rounds):
        victim = generator.randrange(2, len(messages))
        for message in messages[:2]:
            assert (await lab.post(message))[0] == 200
        broken = damage(messages[victim], generator)
        try:
            status, answer = await asyncio.wait_for(lab.post(broken), 3)
        except TimeoutError:
            status, answer = 200, b"<x/>"  # it was still a good Receive, which waits for output
        assert status in (200, 500), (number, broken)
        assert (b"Fault" in answer) == (status == 500)
        parsed(answer)
        await lab.remoting.close()
    for message in messages[:2]:
        assert (await lab.post(message))[0] == 200


def test_damage_to_every_kind_of_request(tmp_path: Path) -> None:
    """Receive, Send, Signal, Get and Delete are answered or faulted, and the next conversation works."""
    direct(tmp_path, lambda lab: conversation(lab, 60, seed=1))


@pytest.mark.long
@pytest.mark.parametrize("seed", range(2, 8))
def test_much_damage_to_every_kind_of_request(tmp_path: Path, seed: int) -> None:
    """The same, for longer."""
    direct(tmp_path, lambda lab: conversation(lab, 400, seed=seed))


@pytest.mark.long
@pytest.mark.parametrize("seed", range(2, 12))
def test_many_damaged_requests(tmp_path: Path, seed: int) -> None:
    """The same, for longer."""
    direct(tmp_path, lambda lab: attack(lab, 400, seed=seed))


def read(data: bytes) -> tuple[object, ...]:
    """What is read of an envelope, or the fault that it is answered with."""
    try:
        request = parse(data)
    except WsmanFault as fault:
        return (fault.kind, fault.message)
    return (
        *(getattr(request, each.name) for each in fields(request) if each.name != "body"),
        ET.tostring(request.body),
    )


@given(st.integers(0, 1 << 32), st.sampled_from(later_requests_of_a_client()))
def test_envelopes_with_a_known_head_are_read_like_others(seed: int, message: bytes) -> None:
    """A request, with other ids or damaged, is read alike whether its head was seen before or all of it is read."""
    generator = random.Random(seed)
    other = re.sub(
        rb"uuid:[0-9A-F-]+", lambda _: b"uuid:" + str(UUID(int=generator.getrandbits(128))).encode(), message
    )
    head, mark, rest = message.partition(b"<s:Body>")
    for data in (message, other, damage(other, generator), damage(head, generator) + mark + rest):
        assert read(data) == read(b" " + data), data  # with a space before it no head is a known one


@pytest.mark.parametrize("sizes", [[10] * 3000, [70_000] * 5, [1, 200_000, 1], [0]])
def test_answers_stay_within_the_envelope(sizes: list[int]) -> None:
    """Fragments of many small or few large messages fill an answer without overflowing it, and come out whole."""

    async def body() -> None:
        outbox = Outbox(Clock(START))
        messages = [bytes([n % 251]) * size for n, size in enumerate(sizes)]
        for number, message in enumerate(messages):
            outbox.put(number, message)
        whole = [b""] * len(sizes)
        while outbox:
            taken = outbox.take(100_000)
            assert len(received(taken, command_id="0" * 36, done=True)) < 100_000 + 500
            for fragment in taken:
                number, _, _, size = struct.unpack(">QQBI", fragment[:21])
                assert len(fragment) == 21 + size
                whole[number] += fragment[21:]
        assert whole == messages

    asyncio.run(body())
