"""What panels share that show a look at the site, and look again at a press or by themselves."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Callable
from typing import Generic, TypeVar

import ipywidgets as widgets

from smhvlab.panels import html
from smhvlab.panels.background import Background, BackgroundPanel
from smhvlab.panels.panel import button

T = TypeVar("T")


class LookingPanel(BackgroundPanel, Generic[T]):
    """Shows what a look has found. Subclasses put ``again`` into their view.

    Args:
        look: finds it; runs in a thread of its own when "Look again" is pressed.
        release: closes that thread's connections.

    Attributes:
        error: why the last look failed, None if it did not; what was found before stays.
    """

    def __init__(self, look: Callable[[], T], *, release: Callable[[], None]) -> None:
        super().__init__()
        self.error: BaseException | None = None
        self._work = Background(look, release=release, done=self._over, relay=self.relay)
        self.again = button("Look again", "Look at the site anew; nothing is changed", self.look, relay=self.relay)

    @abstractmethod
    def _adopt(self, found: T) -> None:
        """Take over what was found."""

    def look(self) -> None:
        """Look in the background; ``await panel.settled()`` or ``panel.wait()`` for the end."""
        self._work.start()
        self.refresh()

    def refresh(self) -> None:
        """Show the present state in the live view."""
        self.again.disabled = self._work.busy
        super().refresh()

    def _state(self) -> tuple[str, str]:
        """That a look is under way, and why the last one failed, as HTML."""
        return (
            html.text("Looking at the site ...") if self._work.busy else "",
            html.sign("✗", str(self.error), html.BAD) if self.error is not None else "",
        )

    def _over(self, found: T | None, error: BaseException | None) -> None:
        self.error = error
        if found is not None:
            self._adopt(found)
        self.refresh()


class WatchingPanel(LookingPanel[T]):
    """Also looks by itself, while "Keep looking" is on. Subclasses put ``keep`` into their view too.

    Args:
        every: seconds between the end of a look and the next.
    """

    def __init__(self, look: Callable[[], T], *, release: Callable[[], None], every: float) -> None:
        super().__init__(look, release=release)
        self.every = every
        self._timer: asyncio.TimerHandle | None = None
        self.keep = widgets.ToggleButton(
            description="Keep looking", tooltip=f"Look again every {every:g} seconds", value=False
        )
        self.keep.observe(lambda _: self.relay(self._rewind), names="value")

    def close(self) -> None:
        """Look no more."""
        self.keep.value = False
        self._stop()

    def _over(self, found: T | None, error: BaseException | None) -> None:
        super()._over(found, error)
        self._rewind()

    def _rewind(self) -> None:
        """Set the clock for the next look, or stop it; a look under way sets it at its end."""
        self._stop()
        if not self.keep.value or self._work.busy:
            return
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return  # in a script nobody sees the live view
        self._timer = loop.call_later(self.every, self.look)

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
