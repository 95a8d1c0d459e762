"""The storage map: the way of each virtual disk down to its aggregate (TR 2.2, 5.1), as a picture and as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Final

import ipywidgets as widgets

from smhvlab.panels import html
from smhvlab.panels.panel import Panel

if TYPE_CHECKING:
    import pandas as pd

LEVELS: Final = ("vm", "vhd", "disk", "lun", "volume", "aggregate")
TITLES: Final = ("VM", "VHD", "Disk", "LUN", "Volume", "Aggregate")
_EVERY: Final = "all VMs"
_SWEEPS: Final = 8
_BOX, _GAP, _ROW, _TOP, _LETTERS = 136, 26, 34, 26, 18


class StorageMap(Panel):
    """A picture of ``site.storage_map()``.

    Args:
        frame: one row per virtual disk; columns vm, vhd, disk, lun, volume, aggregate (text, "" where there is none),
            and if there are, path (where the host sees the disk) and state (the VM's). Other columns are ignored.
    """

    def __init__(self, frame: pd.DataFrame) -> None:
        super().__init__()
        self.vm = widgets.Dropdown(description="VM", tooltip="Show one VM or all", options=[_EVERY])
        self.vm.observe(lambda _: self.relay(self.refresh), names="value")
        self.view = widgets.VBox([self.vm, self.picture])
        self.update(frame)

    def update(self, frame: pd.DataFrame) -> None:
        """Show another table."""
        columns = [name for name in (*LEVELS, "path", "state") if name in frame.columns]
        lists = [frame[name].fillna("").astype(str).tolist() for name in columns]
        self._rows = sorted(
            (dict(zip(columns, row, strict=True)) for row in zip(*lists, strict=True)),
            key=lambda row: [row[level] for level in LEVELS],
        )
        chosen = self.vm.value
        self.vm.options = [_EVERY, *dict.fromkeys(row["vm"] for row in self._rows)]
        self.vm.value = chosen if chosen in self.vm.options else _EVERY
        self.refresh()

    @property
    def rows(self) -> list[dict[str, str]]:
        """The rows of the chosen VM."""
        return [row for row in self._rows if self.vm.value in (_EVERY, row["vm"])]

    def text(self) -> str:
        """The map as a tree: aggregate, volume, LUN, and what lies on them."""
        lines: list[str] = []
        above: tuple[str, ...] = ()
        for row in sorted(self.rows, key=lambda row: [row[level] for level in reversed(LEVELS)]):
            way = tuple(row[level] or f"(no {title})" for level, title in zip(LEVELS, TITLES, strict=True))[::-1]
            same = next((n for n, (a, b) in enumerate(zip(above, way, strict=False)) if a != b), len(above))
            for depth in range(same, len(way)):
                lines.append("  " * depth + f"{TITLES[::-1][depth]} {way[depth]}")
            above = way
        return "\n".join(lines) or "No virtual disk."

    def describe(self) -> str:
        """How many there are of each."""
        counts = ", ".join(
            f"{len(_nodes(self.rows, level))} {title}" for level, title in zip(LEVELS, TITLES, strict=True)
        )
        return f"StorageMap({counts})"

    def render(self) -> str:
        """The map as SVG, and the tree as text below it."""
        rows = self.rows
        if not rows:
            return html.card("Storage map", html.text("No virtual disk."))
        return html.card("Storage map", _svg(rows), html.details(html.text("As text"), html.code(self.text())))


def _nodes(rows: Sequence[Mapping[str, str]], level: str) -> list[str]:
    return list(dict.fromkeys(row[level] for row in rows if row[level]))


def _ordered(rows: Sequence[Mapping[str, str]]) -> list[list[str]]:
    """The names of each column, so that few lines cross: each by the middle of what it is joined to.

    From the aggregates to the VMs and back, until nothing moves; among equals the order of the names stays.
    """
    columns = [_nodes(rows, level) for level in LEVELS]
    for _ in range(_SWEEPS):
        before = [list(column) for column in columns]
        for turn in (range(len(columns) - 2, -1, -1), range(1, len(columns))):
            for column in turn:
                other = column + 1 if turn.step < 0 else column - 1
                columns[column].sort(key=_middles(rows, column, columns[other], LEVELS[other]).__getitem__)
        if columns == before:
            break
    return columns


def _middles(rows: Sequence[Mapping[str, str]], column: int, others: Sequence[str], level: str) -> dict[str, float]:
    """Of each name of a column: the mean place of what it is joined to in another one."""
    at = {name: place for place, name in enumerate(others)}
    joined: dict[str, set[int]] = {}
    for row in rows:
        if row[LEVELS[column]]:
            found = joined.setdefault(row[LEVELS[column]], set())
            if row[level] in at:
                found.add(at[row[level]])
    return {name: sum(places) / len(places) if places else len(others) for name, places in joined.items()}


def _short(value: str) -> str:
    """A long name without its middle: drives differ at the beginning, paths at the end."""
    if len(value) <= _LETTERS:
        return value
    drive = value[:3] if value[1:3] == ":\\" else ""
    return f"{drive}…{value[1 + len(drive) - _LETTERS :]}"


def _on_disk(name: str, path: str) -> str:
    """A disk with its drive letter, or the last folder of its mount point."""
    where = path.rstrip("\\")
    return f"{name} {where}" if len(where) == 2 else f"{name} …{where[where.rfind(chr(92)) :]}" if where else name


def _svg(rows: Sequence[Mapping[str, str]]) -> str:
    columns = _ordered(rows)
    deepest = max(len(column) for column in columns)
    places: dict[tuple[int, str], tuple[int, float]] = {}
    for column, names in enumerate(columns):
        step = deepest / max(1, len(names))  # short columns are spread over the height
        for row, name in enumerate(names):
            places[column, name] = (column * (_BOX + _GAP), round(_TOP + _ROW * step * (row + 0.5) - _ROW / 2, 1))
    states = {row["vm"]: row.get("state", "") for row in rows}
    paths = {row["disk"]: row.get("path", "") for row in rows}
    notes = {0: states, 2: paths}
    headings = (html.tag("text", html.text(t), x=n * (_BOX + _GAP), y=14) for n, t in enumerate(TITLES))
    boxes = (_box(place, name, notes.get(column, {}).get(name, "")) for (column, name), place in places.items())
    shown = {(2, name): _on_disk(name, paths.get(name, "")) for name in columns[2]}
    labels = (
        html.tag("text", html.text(_short(shown.get((column, name), name))), x=x + 6, y=y + 17)
        for (column, name), (x, y) in places.items()
    )
    return html.tag(
        "svg",
        html.tag("g", *headings, fill=html.PALE, font_size=12),
        html.tag("g", *_lines(rows, places), fill="none", stroke=html.LINE, stroke_width=1.5),
        html.tag("g", *boxes, fill=html.PAPER, stroke=html.LINE),
        html.tag("g", *labels, fill=html.INK, font_size=11, pointer_events="none"),
        viewBox=f"-1 0 {len(LEVELS) * (_BOX + _GAP) - _GAP + 2} {_TOP + _ROW * deepest + 4}",
        width="100%",
        style="max-width:940px",
        role="img",
        aria_label="Virtual disks, and what they stand on down to the aggregate; the same as text below",
    )


def _lines(rows: Sequence[Mapping[str, str]], places: Mapping[tuple[int, str], tuple[int, float]]) -> list[str]:
    """What stands on what. A missing level is passed over: a disk that no LUN gives is joined to nothing below."""
    pairs: dict[tuple[tuple[int, float], tuple[int, float]], None] = {}
    for row in rows:
        way = [places[column, row[level]] for column, level in enumerate(LEVELS) if row[level]]
        pairs.update(dict.fromkeys(pairwise(way)))
    return [html.tag("path", d=_curve(*pair)) for pair in pairs]


def _curve(start: tuple[int, float], end: tuple[int, float]) -> str:
    middle = (_ROW - 8) / 2
    (x1, y1), (x2, y2) = (start[0] + _BOX, start[1] + middle), (end[0], end[1] + middle)
    return f"M{x1:g} {y1:g}C{x1 + _GAP / 2:g} {y1:g} {x2 - _GAP / 2:g} {y2:g} {x2:g} {y2:g}"


def _box(place: tuple[int, float], name: str, note: str) -> str:
    cut = _short(name) != name
    title = html.tag("title", html.text(f"{name} ({note})" if note else name)) if cut or note else ""
    return html.tag("rect", title, x=place[0], y=place[1], width=_BOX, height=_ROW - 8, rx=4)
