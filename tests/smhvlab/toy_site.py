"""A site in memory, and flows on it, small enough to crash everywhere."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from smhvlab.errors import NotAllowed, SmhvLabError
from smhvlab.flow import CHOSEN, Flow
from smhvlab.record import Confirmation, Event
from smhvlab.steps import step
from smhvlab.wires.control import WireControl


class Kill(BaseException):
    """What a killed process looks like from inside: nobody may handle it."""


class ToyError(SmhvLabError):
    """A request failed."""

    def __init__(self, message: str = "The request failed") -> None:
        super().__init__(message, next_action="Try again.")


def quiet(where: str) -> None:
    """A seam at which nothing happens."""


def fail_at(where: str, error: BaseException | None = None) -> Callable[[str], None]:
    """A seam that raises once, at one place."""
    left = [error or ToyError()]

    def seam(here: str) -> None:
        if here == where and left:
            raise left.pop()

    return seam


def events(flow: Flow[Any]) -> list[Event]:
    """The events of the flow from now on."""
    heard: list[Event] = []
    flow.on_event = heard.append
    return heard


@dataclass
class World:
    """What outlives a process: the things on the site, what was made, and what was accepted and will be made later."""

    volumes: tuple[str, ...] = ("vol1", "vol2")
    things: set[str] = field(default_factory=set)
    made: list[str] = field(default_factory=list)
    late: list[str] = field(default_factory=list)


class ToySite:
    """One process's view of a world. ``seam`` is called before and after the effect of each request."""

    def __init__(self, world: World, *, seam: Callable[[str], None] = quiet) -> None:
        self.name = "toy"
        self.journals: Path | None = None
        self.read_only = False
        self.control = WireControl()
        self.world = world
        self.seam = seam
        self.log: list[tuple[str, str]] = []
        self.surveys = 0
        self.released: list[str] = []
        self.lost: list[bool] = []

    def _request(self, what: str, effect: Callable[[], None]) -> None:
        self.control.check()
        self.log.append((self.control.step, what))
        with self.control.waiting(what):
            self.seam(f"before {what}")
            effect()
            self.seam(f"after {what}")

    def release(self) -> None:
        """Close the connections of this thread."""
        self.released.append(threading.current_thread().name)

    def ensure(self, thing: str) -> None:
        if thing not in self.world.things:
            self._request(f"make {thing}", lambda: self._make(thing))

    def discard(self, thing: str) -> None:
        if thing in self.world.things:
            self._request(f"drop {thing}", lambda: self.world.things.discard(thing))

    def settle(self, *, lost: bool) -> None:
        """Let what was accepted earlier happen."""
        self.lost.append(lost)
        late, self.world.late = self.world.late, []
        for thing in late:
            self._make(thing)

    def read(self, what: str) -> None:
        self._request(f"read {what}", lambda: None)

    def _make(self, thing: str) -> None:
        self.world.things.add(thing)
        self.world.made.append(thing)


@dataclass(frozen=True)
class ToyState:
    volumes: tuple[str, ...]
    name: str = field(metadata=CHOSEN)
    remote: bool
    serial: str = ""


class ToyFlow(Flow[ToyState]):
    """Copy some volumes.

    Not shown anywhere.
    """

    tr = "6.2"

    def __init__(self, site: ToySite, *, remote: bool = False, ask: tuple[str, ...] = ()) -> None:
        super().__init__(site, remote=remote, ask=ask)
        self.toy = site
        self.remote = remote
        self.ask = ask

    def survey(self) -> ToyState:
        self.toy.read("volumes")
        if not self.toy.world.volumes:
            raise NotAllowed("There is no volume", next_action="Create one.")
        self.toy.surveys += 1
        return ToyState(self.toy.world.volumes, f"copy{self.toy.surveys}", self.remote)

    def confirmations(self, state: ToyState) -> list[Confirmation]:
        return [Confirmation(key=key, text=f"Really {key}?", tr="7.1") for key in self.ask]

    def settle(self, *, lost: bool) -> None:
        self.toy.settle(lost=lost)

    def result(self, state: ToyState) -> object:
        return state.serial

    @step("Snapshot copies", tr="6.2/1", items=lambda s: s.volumes, counts=lambda s: {"snapshot": len(s.volumes)})
    def snapshot(self, s: ToyState) -> ToyState:
        for volume in self.track(s.volumes):
            self.toy.ensure(f"{volume}/{s.name}")
        return replace(s, serial="s1")

    @snapshot.undo
    def drop(self, s: ToyState) -> None:
        for volume in self.track(s.volumes):
            self.toy.discard(f"{volume}/{s.name}")

    @step("Look at them", tr="6.2/2", changes=False)
    def look(self, s: ToyState) -> None:
        self.toy.read(s.name)

    @step(
        "Mirror", tr="6.2/3", when=lambda s: s.remote, otherwise="no mirror is wanted", counts=lambda _: {"mirror": 1}
    )
    def mirror(self, s: ToyState) -> None:
        self.toy.ensure(f"mirror/{s.serial}")

    @mirror.undo
    def unmirror(self, s: ToyState) -> None:
        self.toy.discard(f"mirror/{s.serial}")

    @step("Write it down", tr="6.2/4", items=lambda s: [s.name])
    def write(self, s: ToyState) -> None:
        self.toy.ensure(f"info/{s.name}")

    @write.undo
    def unwrite(self, s: ToyState) -> None:
        self.toy.discard(f"info/{s.name}")


class PivotFlow(ToyFlow):
    """Overwrite some volumes."""

    @step("Overwrite", tr="7.1/5", items=lambda s: s.volumes, pivot=True)
    def overwrite(self, s: ToyState) -> None:
        for volume in self.track(s.volumes):
            self.toy.ensure(f"{volume}/overwritten")

    @step("Tidy", tr="7.1/6")
    def tidy(self, s: ToyState) -> None:
        self.toy.discard(f"info/{s.name}")


def goal(flow: type[ToyFlow], *, remote: bool = False) -> set[str]:
    """The things that a finished first run leaves."""
    things = {"vol1/copy1", "vol2/copy1"} | ({"mirror/s1"} if remote else set())
    return things | ({"vol1/overwritten", "vol2/overwritten"} if flow is PivotFlow else {"info/copy1"})
