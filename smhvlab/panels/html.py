"""Small pieces of HTML that every picture is made of: escaped, and coloured by JupyterLab's own theme variables.

``escape`` first, build later: whatever comes from a site goes through ``text``. Colours always stand beside a word or
a sign, never alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Final

# Each theme variable has a value of its own for places without a theme (GitHub, a saved page).
INK: Final = "var(--jp-ui-font-color1, currentColor)"
PALE: Final = "var(--jp-ui-font-color2, #767676)"
LINE: Final = "var(--jp-border-color1, rgba(128,128,128,.4))"
PAPER: Final = "var(--jp-layout-color1, transparent)"
BACK: Final = "var(--jp-layout-color1, white)"
GOOD: Final = "var(--jp-success-color1, #388e3c)"
WARN: Final = "var(--jp-warn-color1, #b26a00)"
BAD: Final = "var(--jp-error-color1, #d32f2f)"
BUSY: Final = "var(--jp-brand-color1, #1976d2)"
_WORD: Final = 24  # characters of a sign that stay on one line
# One rule for all cells of a table, because a style on each would fill a notebook. The class is named thrice, so that
# the rule is stronger than JupyterLab's own (right and middle, striped).
_MINE: Final = "table.smhv.smhv.smhv"
_TABLE: Final = (
    f"{_MINE}{{border-collapse:collapse;margin:0}}"
    f"{_MINE} :is(td,th,caption){{text-align:left;vertical-align:top;padding:2px 10px 2px 0}}"
    f"{_MINE} th{{color:{PALE};font-weight:500;white-space:nowrap}}"
    f"{_MINE} caption{{font-weight:600}}"
    f"{_MINE} tbody tr{{border-bottom:1px solid {LINE};background:none}}"
)


def text(value: object) -> str:
    """Any value as escaped text."""
    return escape(str(value))


def tag(name: str, *children: str, style: str = "", **attributes: object) -> str:
    """An element. ``children`` are HTML; attribute values are escaped, trailing underscores of names dropped."""
    if style:
        attributes = {"style": style, **attributes}
    written = "".join(f' {key.rstrip("_").replace("_", "-")}="{text(value)}"' for key, value in attributes.items())
    return f"<{name}{written}>{''.join(children)}</{name}>"


def card(title: str, *children: str, accent: str = LINE) -> str:
    """A titled block. ``title`` is plain text, ``children`` are HTML."""
    frame = f"border:1px solid {LINE};border-left:4px solid {accent};padding:6px 12px;margin:4px 0"
    style = f"{frame};color:{INK};line-height:1.4"
    return tag("div", tag("div", text(title), style="font-weight:600;margin-bottom:4px"), *children, style=style)


def table(header: Sequence[str], rows: Iterable[Sequence[str]], *, caption: str = "") -> str:
    """A table. ``header`` and ``caption`` are plain text, the cells are HTML."""
    head = tag("tr", *(tag("th", text(name), scope="col") for name in header))
    body = (tag("tr", *(tag("td", content) for content in row)) for row in rows)
    title = tag("caption", text(caption)) if caption else ""
    return tag("style", _TABLE) + tag("table", title, tag("thead", head), tag("tbody", *body), class_="smhv")


def facts(pairs: Mapping[str, object]) -> str:
    """Label and value, one pair per row; empty values are left out."""
    cells = (
        tag("div", text(label), style=f"color:{PALE}") + tag("div", text(value))
        for label, value in pairs.items()
        if value not in (None, "", ())
    )
    return tag("div", *cells, style="display:grid;grid-template-columns:max-content 1fr;column-gap:1em")


def details(summary: str, *children: str, opened: bool = False) -> str:
    """A part that folds away without any script. ``summary`` and ``children`` are HTML."""
    body = tag("div", *children, style="margin-left:1.2em")
    return f"<details{' open' if opened else ''}>{tag('summary', summary)}{body}</details>"


def code(content: str) -> str:
    """Text to copy, in a box that scrolls sideways."""
    style = "margin:2px 0;padding:4px 8px;overflow-x:auto;background:var(--jp-layout-color2, transparent)"
    return tag("pre", text(content), style=style)


def sign(mark: str, word: str, colour: str) -> str:
    """A sign and a word beside a bar of that colour: the colour never tells anything alone, and the text stays ink."""
    style = f"color:{PALE}" if colour == PALE else f"border-left:4px solid {colour};padding-left:5px"
    if len(word) <= _WORD:  # a bar beside half a word reads badly
        style += ";white-space:nowrap"
    return tag("span", text(f"{mark} {word}"), style=style)
