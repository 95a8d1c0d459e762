"""Two copies of a VM side by side, down to the files of its guest (TR 6.2, 10)."""

from __future__ import annotations

from typing import Final

import ipywidgets as widgets

from smhvlab.mount.compare import Comparison, Copy, GuestFile, Pair, Verdict
from smhvlab.panels import html
from smhvlab.panels.panel import Panel

_DIGITS: Final = 12
_SIGN: Final = {
    Verdict.SAME: ("=", html.PALE),
    Verdict.DIFFERS: ("≠", html.WARN),
    Verdict.LEFT: ("◀", html.WARN),
    Verdict.RIGHT: ("▶", html.WARN),
}


class SideBySide(Panel):
    """A picture of a comparison, such as ``site.side_by_side(left, right, vm)`` makes it."""

    def __init__(self, comparison: Comparison) -> None:
        super().__init__()
        self.comparison = comparison
        self.all = widgets.Checkbox(description="equal files too", tooltip="Show files that are the same", indent=False)
        self.all.observe(lambda _: self.relay(self.refresh), names="value")
        self.view = widgets.VBox([self.all, self.picture])
        self.refresh()

    @property
    def pairs(self) -> list[Pair]:
        """The files that are listed."""
        return [p for p in self.comparison.pairs if self.all.value or p.verdict is not Verdict.SAME]

    def describe(self) -> str:
        """How many files are the same, differ, or are on one side only, and the journals that are hot."""
        found = self.comparison
        same, differs = len(found.of(Verdict.SAME)), len(found.of(Verdict.DIFFERS))
        alone = len(found.of(Verdict.LEFT)) + len(found.of(Verdict.RIGHT))
        hot = f"{len(found.hot('left'))} left, {len(found.hot('right'))} right"
        return f"SideBySide({found.vm}: {same} same, {differs} differ, {alone} on one side; hot journals: {hot})"

    def render(self) -> str:
        """Both copies with what they are, then each file that is not the same."""
        found = self.comparison
        rows = [
            [
                str(pair.disk),
                html.text(_short(pair)),
                _file(pair.left),
                _file(pair.right),
                html.sign(_SIGN[pair.verdict][0], pair.verdict, _SIGN[pair.verdict][1]),
            ]
            for pair in self.pairs
        ]
        heads = html.table(["", "Left", "Right"], [*_copies(found.left, found.right), _journals(found)])
        files = html.table(["Disk", "File of the guest", "Left", "Right", ""], rows)
        same = len(found.of(Verdict.SAME))
        return html.card(
            f"Two copies of {found.vm}",
            heads,
            files if rows else html.sign("=", "every file is the same on both sides", html.GOOD),
            html.tag("div", html.text(f"{same} files are the same on both sides."), style=f"color:{html.PALE}"),
            accent=html.BUSY,
        )


def _copies(left: Copy, right: Copy) -> list[list[str]]:
    both = (left, right)
    return [
        [html.text("Backup"), *(html.text(f"{c.backup} ({c.registered_as})") for c in both)],
        [html.text("Snapshot copy"), *(html.text(c.snapshot) for c in both)],
        [html.text("Image in it"), *(html.text(c.image) for c in both)],
        [
            html.text("State"),
            *(html.sign(*(("✓", c.state, html.GOOD) if c.recovered else ("!", c.state, html.WARN))) for c in both),
        ],
    ]


def _journals(found: Comparison) -> list[str]:
    cells = []
    for side in ("left", "right"):
        hot = found.hot(side)
        text = f"{len(hot)} to be played back: {', '.join(hot)}"
        cells.append(html.sign("✗", text, html.BAD) if hot else html.sign("✓", "none is hot", html.GOOD))
    return [html.text("Journals"), *cells]


def _short(pair: Pair) -> str:
    return "shadow copy's difference area" if pair.area else pair.path


def _file(file: GuestFile | None) -> str:
    if file is None:
        return html.sign("–", "not there", html.PALE)
    about = html.text(f"{file.size:,} bytes, {file.digest[:_DIGITS]}")
    return about + ("<br>" + html.sign("✗", "hot journal", html.BAD) if file.hot else "")
