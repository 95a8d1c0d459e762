"""The log: order, counts, listeners, memory and redaction, apart from any wire."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from smhvlab.secrets import Secret
from smhvlab.wires.control import Wire
from smhvlab.wires.log import TEXT_LIMIT, WireEntry, WireLog


@dataclass(frozen=True)
class Text:
    text: str

    def render(self, redact: Callable[[str], str]) -> str:
        return redact(self.text)


def finish(log: WireLog, number: int, *, text: str = "x", wire: Wire = Wire.REST, code: str = "") -> WireEntry:
    """One entry."""
    return log.finish(
        number,
        wire=wire,
        endpoint="c1",
        reads=not code,
        title=text,
        request=Text(text),
        response=text,
        status="200",
        code=code,
    )


def test_entries_stand_in_the_order_of_their_starts() -> None:
    """Commands of a wave end in another order than they began in; the log shows the beginnings'."""
    log = WireLog()
    first, second, third = log.start(), log.start(), log.start()
    for number in (second, third, first):
        finish(log, number)
    assert [entry.number for entry in log.entries] == [1, 2, 3]


def test_old_entries_go_and_counts_stay() -> None:
    """Memory is bounded; the counts are not cut."""
    log = WireLog(limit=3)
    for _ in range(5):
        finish(log, log.start(), code="4", wire=Wire.POWERSHELL)
    finish(log, log.start())
    assert [entry.number for entry in log.entries] == [4, 5, 6]
    counts = log.counts()
    assert (counts.total, counts.rest, counts.powershell, counts.failed, counts.changes) == (6, 1, 5, 5, 5)
    log.clear()
    assert log.counts().total == 0
    assert log.start() == 7


def test_listeners_hear_until_they_leave() -> None:
    """Panels subscribe and unsubscribe; leaving twice does no harm."""
    log = WireLog()
    heard: list[int] = []
    end = log.subscribe(lambda entry: heard.append(entry.number))
    finish(log, log.start())
    end()
    end()
    finish(log, log.start())
    assert heard == [1]


def test_a_listener_that_fails_spoils_no_request(caplog: pytest.LogCaptureFixture) -> None:
    """The entry is kept and the other listeners hear of it; what failed is logged."""
    log = WireLog()
    heard: list[int] = []

    def broken(entry: WireEntry) -> None:
        raise ZeroDivisionError

    log.subscribe(broken)
    log.subscribe(lambda entry: heard.append(entry.number))
    finish(log, log.start())
    assert heard == [entry.number for entry in log.entries] == [1]
    assert "A listener failed" in caplog.text


def test_secrets_are_blanked_everywhere() -> None:
    """Known secrets by value, secret-looking JSON fields by name; long texts are cut."""
    log = WireLog()
    log.hide(Secret("correct horse"))
    log.hide(Secret("a"))
    text = '{"name": "a correct horse", "password": "x\\"y", "remote.token": "t", "keys": ["L1", "L2"], "state": "a"}'
    entry = finish(log, log.start(), text=text)
    for shown in (entry.title, entry.request, entry.response):
        assert shown == '{"name": "a ***", "password": "***", "remote.token": "***", "keys": "***", "state": "a"}'
    long = finish(log, log.start(), text="x" * (TEXT_LIMIT + 1))
    assert len(long.request) < TEXT_LIMIT + 100


def test_threads_may_write_side_by_side() -> None:
    """Several threads can record while another one reads."""
    log = WireLog()

    def write() -> None:
        for _ in range(200):
            finish(log, log.start())

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        assert len(log.entries) <= 800
    assert [entry.number for entry in log.entries] == list(range(1, 801))
