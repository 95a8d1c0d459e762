"""Plans, records, the Snapshot timeline and the storage map as pictures: escaped, themed, small, always drawn."""

from __future__ import annotations

import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import dataclass
from html.parser import HTMLParser

import pandas as pd
import pytest
from toy_site import PivotFlow, ToyError, ToyFlow, ToySite, fail_at

from smhvlab.panels import html
from smhvlab.panels.panel import VIEW
from smhvlab.panels.stepper import StepperPanel
from smhvlab.panels.storagemap import StorageMap
from smhvlab.panels.timeline import PLOTLY, SnapshotTimeline
from smhvlab.record import FlowRecord, Outcome

VOID = {"br", "img", "hr"}


class Balanced(HTMLParser):
    """Checks that every element that opens is closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def check(picture: str) -> None:
    """Well-formed, with no script, no address of another host, no id, and small."""
    parser = Balanced()
    parser.feed(picture)
    parser.close()
    assert parser.open == []
    assert "<script" not in picture
    assert "http" not in picture
    assert " id=" not in picture
    assert len(picture) < 20_000


SNAPSHOTS = pd.DataFrame(
    {
        "volume": ["vm01", "vm01", "info", "vm<2>"],
        "snapshot": ["sql_1", "sql_2", "info_1", "b&b"],
        "create_time": pd.to_datetime(
            ["2013-03-01T10:00:00Z", "2013-03-02T10:00:00Z", "2013-03-01T12:00:00Z", "2013-03-03T00:00:00Z"]
        ),
        "size": [1, 2, 3, 4],
        "owners": ["", "lun_clone", "", "snapmirror"],
    }
)
MAP = pd.DataFrame(
    [
        ("sql01", "C:\\VMs\\sql01\\disk0.vhd", "Disk 2", "C:\\VMs", "/vol/vm01/lun1", "vm01", "aggr1", "Running"),
        ("sql01", "C:\\VMs\\sql01\\disk1.vhd", "Disk 2", "C:\\VMs", "/vol/vm01/lun1", "vm01", "aggr1", "Running"),
        ("web<1>", "D:\\w.vhdx", "Disk 0", "D:\\", "", "", "", "Off"),
    ],
    columns=["vm", "vhd", "disk", "path", "lun", "volume", "aggregate", "state"],
)


# --- pieces


def test_text_and_attributes_are_escaped() -> None:
    """Nothing that comes from a site can become markup."""
    assert html.text('<b> & "x"') == "&lt;b&gt; &amp; &quot;x&quot;"
    assert html.tag("p", "in", title='"><script>', class_="a", aria_label="b") == (
        '<p title="&quot;&gt;&lt;script&gt;" class="a" aria-label="b">in</p>'
    )


def test_every_colour_of_a_theme_has_a_fallback() -> None:
    """Where there is no JupyterLab, each variable has its own value."""
    colours = [html.INK, html.PALE, html.LINE, html.PAPER, html.GOOD, html.WARN, html.BAD, html.BUSY]
    assert all(colour.startswith("var(--jp-") and ", " in colour for colour in colours)


def test_empty_facts_are_left_out() -> None:
    """A label without a value says nothing."""
    assert "Error" not in html.facts({"Error": "", "Run": "1"})


# --- plans and records


def test_a_plans_card(site: ToySite) -> None:
    """Steps, sections, items, counts, the skipped one's reason, the pivot and the questions."""
    site.world.volumes = ("<vol>",)
    picture = PivotFlow(site, ask=("overwrite",)).plan()._repr_html_()
    check(picture)
    for part in (
        "Plan: Overwrite some volumes on toy (TR-4004 6.2)",
        "&lt;vol&gt;",
        "1 × snapshot",
        "skipped because no mirror is wanted",
        "no undo from here on",
        "only reads",
        "changes; nothing to undo",
        "overwrite: Really overwrite? (TR-4004 7.1)",
    ):
        assert part in picture


def test_a_plan_begins_with_what_would_be_lost(site: ToySite, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loss stands before the steps, in text, card and stepper; steps that are skipped are one line at the end."""
    monkeypatch.setattr(PivotFlow, "losses", lambda *_: ("What <vol1> holds is lost.",))
    flow = PivotFlow(site, ask=("overwrite",))
    plan = flow.plan()
    lines = str(plan).splitlines()
    assert lines[1] == "  ! What <vol1> holds is lost."
    assert lines[-2:] == ["    skipped: 3 Mirror (no mirror is wanted)", "    accept 'overwrite': Really overwrite?"]
    panel = StepperPanel(flow)
    panel.plan()
    for picture in (plan._repr_html_(), panel.render()):
        check(picture)
        assert picture.index("What &lt;vol1&gt; holds is lost.") < picture.index("<table")
        assert picture.index("</table>") < picture.index("1 step is skipped") < picture.index("no mirror is wanted")
    panel.accept("overwrite")
    panel.run_all()
    panel.wait()
    assert "is lost" not in panel.render()  # nobody is warned of what was done


def test_a_records_card(site: ToySite) -> None:
    """Outcome, run, each step's end, the flow's own result."""
    record = ToyFlow(site).run_sync()
    picture = record._repr_html_()
    check(picture)
    for part in ("✓ done", "run 0001-ToyFlow", "– skipped", "no mirror is wanted", "<div>s1</div>"):
        assert part in picture


@dataclass(frozen=True)
class Card:
    def _repr_html_(self) -> str:
        return "<p>two volumes</p>"


def test_a_record_shows_the_results_own_card(site: ToySite, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a flow hands out knows best how to show itself."""
    monkeypatch.setattr(ToyFlow, "result", lambda *_: Card())
    assert "<p>two volumes</p>" in ToyFlow(site).run_sync()._repr_html_()


def test_a_failed_records_card_and_text(site: ToySite) -> None:
    """Each step's fate by sign and word, and the error."""
    flow = ToyFlow(site)
    site.seam = fail_at("before make info/copy1")
    with pytest.raises(ToyError):
        flow.run_sync()
    record = flow.record
    assert isinstance(record, FlowRecord)
    assert record.outcome is Outcome.UNDONE
    check(record._repr_html_())
    assert "↶ undone" in record._repr_html_()
    assert "The request failed" in record._repr_html_()
    assert str(record).splitlines()[-1] == "    The request failed"


def test_plans_and_records_need_no_widgets() -> None:
    """A script that shows no panel does not load ipywidgets, pandas or plotly."""
    program = (
        "import sys, smhvlab.doctor, smhvlab.flow, smhvlab.panels.pictures;"
        "print([m for m in ('ipywidgets', 'pandas', 'plotly') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# --- Snapshot timeline


def test_the_timeline_is_drawn_and_listed() -> None:
    """One row per volume; a busy copy is told from a free one by its form and by words."""
    panel = SnapshotTimeline(SNAPSHOTS)
    picture = panel.render()
    check(picture)
    assert panel.describe() == "SnapshotTimeline(4 copies on 3 volumes, 2 busy)"
    assert picture.count("<circle") == 2
    assert picture.count("<rect") == 2
    assert "sql_2, 2013-03-02 10:00:00+00:00, busy: lun_clone" in picture
    assert "vm&lt;2&gt;" in picture
    assert "b&amp;b" in picture


def test_the_timelines_plot_is_small_and_exact() -> None:
    """Plain lists, no template: the same data give the same JSON."""
    figure = SnapshotTimeline(SNAPSHOTS).figure()
    assert [trace.name for trace in figure.data] == ["free", "busy: lun_clone", "busy: snapmirror"]
    assert list(figure.data[0].x) == ["2013-03-01T12:00:00+00:00", "2013-03-01T10:00:00+00:00"]
    assert list(figure.data[0].y) == ["info", "vm01"]
    written = figure.to_json()
    assert written == SnapshotTimeline(SNAPSHOTS).figure().to_json()
    assert len(written) < 2_500
    assert "bdata" not in written


def test_the_timeline_shows_one_volume() -> None:
    """The dropdown narrows text, picture and plot."""
    panel = SnapshotTimeline(SNAPSHOTS)
    panel.volume.value = "vm01"
    assert panel.describe() == "SnapshotTimeline(2 copies on 1 volumes, 1 busy)"
    assert PLOTLY in panel.plot.outputs[0]["data"]
    assert panel.plot.outputs[0]["data"]["text/plain"] == panel.describe()
    panel.update(SNAPSHOTS[SNAPSHOTS["volume"] != "vm01"])
    assert panel.volume.value == "all volumes"


def test_the_timeline_takes_times_as_text() -> None:
    """ISO 8601, as the wire has it; equal times do not divide by nothing."""
    frame = pd.DataFrame(
        {"volume": ["a"], "snapshot": ["s"], "create_time": ["2013-03-01T10:00:00+00:00"], "owners": [""]}
    )
    picture = SnapshotTimeline(frame).render()
    check(picture)
    assert "2013-03-01 10:00:00+00:00" in picture


def test_a_full_volume_is_still_a_small_picture() -> None:
    """255 Snapshot copies, the most that the TR allows, fit into a cell's output."""
    frame = pd.DataFrame(
        {
            "volume": "vm01",
            "snapshot": [f"daily_{n}" for n in range(255)],
            "create_time": pd.date_range("2013-01-01", periods=255, freq="h", tz="UTC"),
            "owners": "",
        }
    )
    picture = SnapshotTimeline(frame).render()
    check(picture)
    assert picture.count("<circle") == 255
    assert "255 Snapshot copies (the last 12)" in picture


# --- storage map


def test_the_storage_map_draws_each_thing_once() -> None:
    """Two disks of a VM on one LUN are two boxes that lead to one."""
    panel = StorageMap(MAP)
    picture = panel.render()
    check(picture)
    assert panel.describe() == "StorageMap(2 VM, 3 VHD, 2 Disk, 1 LUN, 1 Volume, 1 Aggregate)"
    assert picture.count("<rect") == 10
    assert picture.count("<path") == 9
    assert "<title>sql01 (Running)</title>" in picture
    assert "web&lt;1&gt;" in picture


def test_lines_of_the_storage_map_do_not_cross_without_need() -> None:
    """VMs that share a disk stand side by side, whatever they are called; a disk shows where the host has it."""
    rows = [
        (vm, f"{at}VMs\\of\\{vm}\\{vm}_vhd{n}.vhd", disk, at, f"/vol/{volume}/lun", volume, "aggr1", "Running")
        for vm, disk, at, volume in (
            ("a", "Disk 2", "V:\\", "shared"),
            ("b", "Disk 3", "G:\\", "golden"),
            ("c", "Disk 4", "C:\\VMs\\c\\", "own"),
            ("d", "Disk 2", "V:\\", "shared"),
        )
        for n in range(2)
    ]
    frame = pd.DataFrame(rows, columns=["vm", "vhd", "disk", "path", "lun", "volume", "aggregate", "state"])
    picture = StorageMap(frame).render()
    check(picture)
    labels = re.findall(r"<text[^>]*>([^<]*)</text>", picture)
    assert [label for label in labels if label in {"a", "b", "c", "d"}] == ["a", "d", "b", "c"]
    assert [label for label in labels if label.startswith("Disk ")] == ["Disk 2 V:", "Disk 3 G:", "Disk 4 …\\c"]
    assert any(label.startswith("V:\\…") and label.endswith("\\d_vhd1.vhd") for label in labels)


def test_a_timeline_of_one_volume_says_which() -> None:
    """Its list names that volume, and no others are promised."""
    one = SnapshotTimeline(SNAPSHOTS[SNAPSHOTS["volume"] == SNAPSHOTS["volume"].iloc[0]])
    assert one.volume.options == (SNAPSHOTS["volume"].iloc[0],)
    assert one.marks


def test_the_storage_map_as_text() -> None:
    """The same from the bottom up; what is missing is said."""
    assert StorageMap(MAP).text() == "\n".join(
        [
            "Aggregate (no Aggregate)",
            "  Volume (no Volume)",
            "    LUN (no LUN)",
            "      Disk Disk 0",
            "        VHD D:\\w.vhdx",
            "          VM web<1>",
            "Aggregate aggr1",
            "  Volume vm01",
            "    LUN /vol/vm01/lun1",
            "      Disk Disk 2",
            "        VHD C:\\VMs\\sql01\\disk0.vhd",
            "          VM sql01",
            "        VHD C:\\VMs\\sql01\\disk1.vhd",
            "          VM sql01",
        ]
    )


def test_the_storage_map_shows_one_vm() -> None:
    """The dropdown narrows the picture; a VM that is gone gives way to all."""
    panel = StorageMap(MAP)
    panel.vm.value = "sql01"
    assert "web" not in panel.render()
    assert panel.picture.value == panel.render()
    panel.update(MAP[MAP["vm"] != "sql01"])
    assert panel.vm.value == "all VMs"


def test_a_site_of_forty_disks_is_still_a_small_picture() -> None:
    """Ten VMs with four virtual disks each fit into a cell's output."""
    rows = [
        (f"vm{n}", f"C:\\VMs\\vm{n}\\disk{d}.vhd", f"Disk {n}", "C:\\", f"/vol/v{n}/lun", f"v{n}", "aggr1", "Running")
        for n in range(10)
        for d in range(4)
    ]
    check(StorageMap(pd.DataFrame(rows, columns=MAP.columns)).render())


@pytest.mark.parametrize("make", [lambda: SnapshotTimeline(SNAPSHOTS[:0]), lambda: StorageMap(MAP[:0])])
def test_pictures_of_nothing_are_drawn_too(make: Callable[[], SnapshotTimeline | StorageMap]) -> None:
    """An empty site is a fact, not an error."""
    panel = make()
    check(panel.render())
    assert "no " in panel.render().casefold()


def test_svg_is_well_formed() -> None:
    """Also for readers stricter than browsers."""
    for picture in (SnapshotTimeline(SNAPSHOTS).render(), StorageMap(MAP).render()):
        svg = picture[picture.index("<svg") : picture.index("</svg>") + 6]
        assert ET.fromstring(svg).tag == "svg"  # noqa: S314 # our own text


@pytest.mark.parametrize("make", [lambda: SnapshotTimeline(SNAPSHOTS), lambda: StorageMap(MAP)])
def test_pictures_are_panels(make: Callable[[], SnapshotTimeline | StorageMap]) -> None:
    """Text, HTML and live view in one object; every control has a name and a tooltip."""
    panel = make()
    bundle = panel._repr_mimebundle_()
    assert set(bundle) == {"text/plain", "text/html", VIEW}
    assert bundle["text/html"] == panel.render()
    control = panel.vm if isinstance(panel, StorageMap) else panel.volume
    assert control.description
    assert control.tooltip
