"""The VSS timeline as a picture: lanes in order, budgets, failures by word and sign, escaped, small."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from smhvlab.backup.evidence import WriterState
from smhvlab.backup.shadowsigns import Lane, ShadowLog, Sign, budgets
from smhvlab.panels.panel import VIEW
from smhvlab.panels.timeline import PLOTLY
from smhvlab.panels.vsstimeline import VssTimeline

NOON = datetime(2013, 3, 4, 12, tzinfo=UTC)
SET = "2eafa688-dd7a-45cd-a698-617c83080594"


def sign(
    lane: Lane, second: float, *, node: str = "hv1", title: str = "x", took: float = 0, source: str = "VSS 1"
) -> Sign:
    start = NOON + timedelta(seconds=second)
    return Sign(node, lane, title, start, start + timedelta(seconds=took), source, set_id=SET)


def log(*signs: Sign, writers: tuple[WriterState, ...] = ()) -> ShadowLog:
    return ShadowLog(NOON, NOON + timedelta(minutes=2), signs, tuple(budgets(signs, writers)), writers)


def commit(seconds: float, *, node: str = "hv1") -> Sign:
    number = 4089 if seconds <= 10 else 4364
    return sign(Lane.PROVIDER, 5, node=node, took=seconds, title="CommitSnapshots", source=f"Navssprv {number}")


def test_lanes_come_node_by_node_and_the_array_last() -> None:
    """Requestor, writers, guest and provider of each node are rows in that order, in the plot and in the picture."""
    panel = VssTimeline(
        log(
            sign(Lane.ARRAY, 6, node="cluster1"),
            commit(1, node="hv2"),
            sign(Lane.GUEST, 4),
            sign(Lane.REQUESTOR, 1),
            sign(Lane.WRITERS, 2),
        )
    )
    rows = ["hv1: requestor, VSS", "hv1: writers", "hv1: guest", "hv2: provider", "cluster1: array"]
    picture = panel.render()
    places = [picture.index(f">{row}</text>") for row in rows]
    assert places == sorted(places)
    assert list(panel.figure().layout.yaxis.categoryarray)[::-1][:5] == rows
    panel.node.value = "hv2"
    assert [s.node for s in panel.signs] == ["cluster1", "hv2"]


def test_a_budgets_bar_is_drawn_from_its_commit_to_what_is_allowed() -> None:
    """Allowed and spent are two bars of one row; what is over has another colour and says so in words."""
    panel = VssTimeline(log(commit(13)))
    allowed, spent = panel.figure().data[-2:]
    assert (allowed.x[0], allowed.base[0]) == (10.0, 5.0)
    assert (spent.x[0], spent.base[0]) == (13.0, 5.0)
    assert "✗ 13.0 s of 10 s" in panel.render()
    assert repr(panel) == "VssTimeline(1 set committed, 1 over budget, 0 writers failed)"


def test_two_sets_of_a_node_have_budgets_of_their_own() -> None:
    """Rows of the same name are numbered, and a writer's time-out counts for the later set only."""
    writer = WriterState("hv1", "Microsoft Hyper-V VSS Writer", "[10] Failed", "Timed out")
    later = sign(Lane.PROVIDER, 60, took=1, source="Navssprv 4089")
    panel = VssTimeline(log(commit(1), later, writers=(writer,)))
    assert [b.verdict.value for b in panel.budgets] == ["within", "within", "within", "over"]
    assert "hv1: Freeze to Thaw 2" in panel.render()


def test_what_a_site_says_is_escaped() -> None:
    """A title from an event log cannot become HTML."""
    picture = VssTimeline(log(sign(Lane.GUEST, 1, title="VM '<b>'"))).render()
    assert "<b>" not in picture
    assert "&lt;b&gt;" in picture


def test_nothing_found_is_said() -> None:
    """An empty span has a card and a line, not a broken picture."""
    panel = VssTimeline(log())
    assert "No log of the site tells" in panel.render()
    assert repr(panel) == "VssTimeline(0 sets committed, 0 over budget, 0 writers failed)"


def test_one_object_is_text_picture_and_live_view() -> None:
    """The bundle has all three, and the live view's plot is small."""
    panel = VssTimeline(log(commit(1)))
    bundle = panel._repr_mimebundle_()
    assert {"text/plain", "text/html", VIEW} <= set(bundle)
    assert len(bundle["text/html"]) < 8_000
    assert PLOTLY in panel.plot.outputs[0]["data"]
    assert len(panel.figure().to_json()) < 6_000
