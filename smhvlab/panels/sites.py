"""Two sites and the SnapMirror relationships between them: who is alive, who runs the VMs, what lags how far (TR 8)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import ipywidgets as widgets

from smhvlab.panels import html
from smhvlab.panels.looking import WatchingPanel

if TYPE_CHECKING:
    from smhvlab.dr.replication import Mirror
    from smhvlab.dr.sites import SitePair
    from smhvlab.site import Site


@dataclass(frozen=True)
class SiteSeen:
    """What a site showed at the last look.

    Attributes:
        running: names of the VMs that run there.
    """

    name: str
    array: bool
    hosts: bool
    running: tuple[str, ...]
    mirrors: tuple[Mirror, ...]


class SitesPanel(WatchingPanel[tuple[SiteSeen, ...]]):
    """A picture of a pair of sites; ``look`` reads both again in the background, and nothing is changed.

    Args:
        every: seconds between two looks while "Keep looking" is on.
    """

    def __init__(self, pair: SitePair, *, every: float = 10) -> None:
        super().__init__(self._read, release=self._release, every=every)
        self._pair = pair
        self.view = widgets.VBox([widgets.HBox([self.again, self.keep]), self.picture])
        self.seen: tuple[SiteSeen, ...] = self._read()
        self.refresh()

    def _read(self) -> tuple[SiteSeen, ...]:
        return tuple(_seen(site) for site in (self._pair.primary, self._pair.secondary))

    def _release(self) -> None:
        for site in (self._pair.primary, self._pair.secondary):
            site.release()

    def _adopt(self, found: tuple[SiteSeen, ...]) -> None:
        self.seen = found

    @property
    def mirrors(self) -> Sequence[Mirror]:
        """Every relationship, as the cluster that has its destination tells it."""
        return [mirror for site in self.seen for mirror in site.mirrors]

    def describe(self) -> str:
        """Both sites and their relationships, a line each."""
        lines = [f"{s.name}: {_alive(s)[1]}; runs {', '.join(s.running) or 'no VM'}" for s in self.seen]
        lines += [f"  {m}: {_stands(m)}, {_lag(m)}, {m.transferred:,} bytes in the last transfer" for m in self.mirrors]
        return "\n".join(lines)

    def render(self) -> str:
        """The sites side by side, below them the relationships with their direction."""
        sites = html.tag("div", *(_site(s) for s in self.seen), style="display:flex;gap:12px;flex-wrap:wrap")
        first = self.seen[0].mirrors
        rows = [
            [
                html.text(m.source),
                html.sign("←" if m in first else "→", "to the first" if m in first else "to the second", html.PALE),
                html.text(m.destination),
                html.sign(*_state(m)),
                html.text(_lag(m)),
                html.text(f"{m.transferred:,}"),
            ]
            for m in self.mirrors
        ]
        header = ["from", "", "to", "state", "lag", "bytes of the last transfer"]
        table = html.table(header, rows) if rows else html.text("No relationship is known to a site that answers.")
        return html.card("Two sites", *self._state(), sites, table)


def _seen(site: Site) -> SiteSeen:
    from smhvlab.dr.replication import Replication
    from smhvlab.dr.sites import life_of

    life = life_of(site)
    mirrors = Replication(site.tools().storage).mirrors() if life.array else []
    return SiteSeen(site.name, life.array, life.hosts, tuple(sorted(life.running.values())), tuple(mirrors))


def _alive(site: SiteSeen) -> tuple[str, str, str]:
    if site.array and site.hosts:
        return "✓", "alive", html.GOOD
    if site.array:
        return "!", "hosts do not answer", html.WARN
    if site.hosts:
        return "!", "storage does not answer", html.WARN
    return "✗", "does not answer", html.BAD


def _site(site: SiteSeen) -> str:
    known = html.facts({"runs": ", ".join(site.running) or "no VM"}) if site.hosts else ""
    return html.card(site.name, html.sign(*_alive(site)), known, accent=_alive(site)[2])


def _state(mirror: Mirror) -> tuple[str, str, str]:
    if not mirror.healthy:
        return "✗", f"{mirror.state}, not healthy", html.BAD
    if mirror.transferring:
        return "▶", "transferring", html.BUSY
    return ("✓", mirror.state, html.GOOD) if mirror.state == "snapmirrored" else ("■", _stands(mirror), html.WARN)


def _stands(mirror: Mirror) -> str:
    """The state, and what is not in its name: after a failover a mirror may be called uninitialized and hold data."""
    if mirror.broken:
        return f"{mirror.state}, {'in use there' if mirror.total else 'no data yet'}"
    return mirror.state


def _lag(mirror: Mirror) -> str:
    return "not updated" if mirror.lag is None else f"{mirror.lag} s behind"
