"""The wire log panel filters, shows and gives out the requests of a site."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from smhvlab.panels.panel import VIEW
from smhvlab.panels.wirelog import WireLogPanel
from smhvlab.wires.control import Wire
from smhvlab.wires.log import WireLog


class Line:
    """A request's text."""

    def __init__(self, text: str) -> None:
        self._text = text

    def render(self, redact: Callable[[str], str]) -> str:
        return redact(self._text)


def send(log: WireLog, title: str, *, wire: Wire = Wire.REST, code: str = "", step: str = "snapshot") -> None:
    """Put a request into the log."""
    reads = title.startswith("G")
    log.finish(
        log.start(),
        wire=wire,
        endpoint="cluster1" if wire is Wire.REST else "hv1",
        reads=reads,
        title=title,
        request=Line(f"curl $ONTAP/api -X {title}" if wire is Wire.REST else f"{title} -Name 'a<b'"),
        response="1 record",
        status="409" if code else "200",
        code=code,
        step=step,
    )


@pytest.fixture
def log() -> WireLog:
    """Five requests over both wires, one of them failed."""
    log = WireLog()
    send(log, "GET /storage/volumes", step="survey")
    send(log, "POST /storage/volumes/x/snapshots")
    send(log, "DELETE /storage/volumes/x/snapshots/y", code="1638555", step="undo snapshot")
    send(log, "Get-VM", wire=Wire.POWERSHELL)
    send(log, "Stop-VM", wire=Wire.POWERSHELL)
    return log


def numbers(panel: WireLogPanel) -> list[int]:
    return [entry.number for entry in panel.rows()]


def test_all_requests_are_shown_with_the_lines_to_copy(log: WireLog) -> None:
    """curl for REST, PowerShell for the host, each in a <pre>, escaped."""
    panel = WireLogPanel(log)
    picture = panel.render()
    assert "Wire log: 5 of 5 requests" in picture
    assert picture.count("<pre") == 5
    assert "curl $ONTAP/api -X POST /storage/volumes/x/snapshots</pre>" in picture
    assert "Stop-VM -Name &#x27;a&lt;b&#x27;</pre>" in picture
    assert "✗ 1638555" in picture
    assert panel.describe() == "WireLogPanel(5 of 5 requests)"


def test_filters(log: WireLog) -> None:
    """Text (title, request, step, code), wire, changes, failures; together they narrow."""
    panel = WireLogPanel(log)
    panel.text.value = "undo SNAP"
    assert numbers(panel) == [3]
    panel.text.value = "1638555"
    assert numbers(panel) == [3]
    panel.text.value = ""
    panel.wire.value = "PowerShell"
    assert numbers(panel) == [4, 5]
    panel.changes.value = True
    assert numbers(panel) == [5]
    assert "Wire log: 1 of 5 requests" in panel.picture.value
    panel.wire.value = "both wires"
    assert numbers(panel) == [2, 3, 5]
    panel.failed.value = True
    assert numbers(panel) == [3]


def test_only_the_newest_are_drawn(log: WireLog) -> None:
    """A long log does not make a long notebook."""
    panel = WireLogPanel(log, limit=2)
    assert "Wire log: 5 of 5 requests, the last 2 are shown" in panel.render()
    assert "Stop-VM" in panel.render()
    assert "GET /storage" not in panel.render()


def test_the_filtered_log_is_a_table(log: WireLog) -> None:
    """All columns, also when nothing passes the filters."""
    panel = WireLogPanel(log)
    panel.changes.value = True
    frame = panel.frame()
    assert list(frame["title"]) == [
        "POST /storage/volumes/x/snapshots",
        "DELETE /storage/volumes/x/snapshots/y",
        "Stop-VM",
    ]
    assert list(frame["wire"]) == ["REST", "REST", "PowerShell"]
    panel.text.value = "nothing like this"
    empty = panel.frame()
    assert list(empty.columns) == list(frame.columns)
    assert len(empty) == 0


def test_new_requests_appear_in_the_live_view() -> None:
    """Many entries make one picture, drawn by the loop; a closed panel hears no more."""

    async def scenario() -> None:
        log = WireLog()
        panel = WireLogPanel(log)
        drawn: list[str] = []
        panel.picture.observe(lambda change: drawn.append(change["new"]), names="value")
        await asyncio.to_thread(lambda: [send(log, "POST /storage/luns") for _ in range(50)])
        async with asyncio.timeout(10):
            while not drawn:  # noqa: ASYNC110 # a widget's change is no asyncio event
                await asyncio.sleep(0.05)
        assert len(drawn) == 1
        assert "Wire log: 50 of 50 requests" in drawn[0]
        panel.close()
        send(log, "POST /storage/luns")
        assert not panel._due

    asyncio.run(scenario())


def test_a_panel_shown_again_is_up_to_date(log: WireLog) -> None:
    """Without a loop the picture is drawn when it is asked for."""
    panel = WireLogPanel(log)
    send(log, "Get-Disk", wire=Wire.POWERSHELL)
    bundle = panel._repr_mimebundle_()
    assert bundle["text/plain"] == "WireLogPanel(6 of 6 requests)"
    assert "Get-Disk" in bundle["text/html"]
    assert panel.picture.value == bundle["text/html"]
    assert VIEW in bundle


def test_every_filter_has_a_name_and_a_tooltip(log: WireLog) -> None:
    """Also for screen readers."""
    panel = WireLogPanel(log)
    assert all(w.description and w.tooltip for w in (panel.text, panel.wire, panel.changes, panel.failed))
