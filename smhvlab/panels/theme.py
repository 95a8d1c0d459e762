"""The house style of plots: transparent, so that they follow a light or a dark page, and small in a notebook's file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import plotly.graph_objects as go

# Distinguishable for the colour-blind (Okabe and Ito), and readable on white and on black.
COLOURS: Final = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9")
SYMBOLS: Final = ("circle", "square", "diamond", "triangle-up", "cross", "x")
_INK: Final = "#797979"  # plotly knows no theme: as far from a white page as from a dark one (4.3 to 1)
_GRID: Final = "rgba(128,128,128,.3)"


def figure(traces: Sequence[object], *, title: str = "", height: int = 240) -> go.Figure:
    """A figure in the house style, ``height`` in pixels."""
    import plotly.graph_objects as go

    axis = {"gridcolor": _GRID, "linecolor": _GRID, "zerolinecolor": _GRID, "automargin": True}
    style = {
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"color": _INK},
        "colorway": list(COLOURS),
        "margin": {"l": 40, "r": 10, "t": 40, "b": 30},
        "xaxis": axis,
        "yaxis": axis,
    }
    # plotly's own template would come in unless there is one: it is white on a dark page, and 6 kB.
    layout = {"template": go.layout.Template(layout=style), "title": {"text": title}, "height": height}
    return go.Figure(data=list(traces), layout=layout)
