"""What all panels share: one object that is live in JupyterLab and readable where nothing runs."""

from __future__ import annotations

import asyncio
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Final

import ipywidgets as widgets

VIEW: Final = "application/vnd.jupyter.widget-view+json"


class Relay:
    """Brings calls to the thread in which the panel was built.

    Kernels differ in the thread that runs a button's handler, and a flow tells its events in a thread of its own. When
    there is no event loop (a script, a test), calls are made at once, one at a time, where they are.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._thread = threading.get_ident()
        try:
            self._loop: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
        except RuntimeError:
            self._loop = None

    def __call__(self, call: Callable[..., object], *arguments: object) -> None:
        if self._loop is None or self._loop.is_closed() or threading.get_ident() == self._thread:
            with self.lock:
                call(*arguments)
        else:
            self._loop.call_soon_threadsafe(call, *arguments)


class Panel(ABC):
    """A plain object with a picture. ``render`` is pure: it reads the panel's state, and gives escaped HTML.

    Subclasses set ``view``, their tree of widgets, in which ``picture`` shows the same HTML.
    """

    view: widgets.Widget

    def __init__(self) -> None:
        self.relay = Relay()
        self.picture = widgets.HTML()

    @abstractmethod
    def render(self) -> str:
        """The panel's state as HTML."""

    @abstractmethod
    def describe(self) -> str:
        """The panel's state in a line."""

    def refresh(self) -> None:
        """Show the present state in the live view."""
        self.picture.value = self.render()

    def __repr__(self) -> str:
        return self.describe()

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, Any]:
        self.refresh()
        bundle: dict[str, Any] = {"text/plain": self.describe(), "text/html": self.render()}
        live = self.view._repr_mimebundle_() or {}
        if VIEW in live:
            bundle[VIEW] = live[VIEW]
        return bundle


def button(description: str, tooltip: str, handler: Callable[[], object], *, relay: Relay, style: str = "") -> Any:
    """A button that calls the handler in the panel's thread."""
    made = widgets.Button(description=description, tooltip=tooltip, button_style=style)
    made.on_click(lambda _: relay(handler))
    return made
