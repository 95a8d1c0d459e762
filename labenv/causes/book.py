"""The causes of one lab: setting them, waiting for their moment, and mending them."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING

from labenv.causes.catalogue import cause
from labenv.causes.model import EDGES, WAITING_EDGES, Cause, CauseError, Done, Scene
from labenv.faults import CAUSE, Fault
from labenv.windows.call import PsError

if TYPE_CHECKING:
    from labenv.site import LabSite

log = logging.getLogger("labenv")


class Causes:
    """Rules are kept with the other rules and end with the process; changes of the site are part of its state."""

    def __init__(self, site: LabSite) -> None:
        self._site = site
        self._records = site.state.table("lab.cause", Done)
        self._scene = Scene(site)
        site.faults.on_cause = self._now
        site.state.after_restore(self._scene.kept.clear)

    def active(self) -> list[Done]:
        """The changes that are in force, oldest first."""
        return list(self._records.values())

    async def set(self, name: str, options: Mapping[str, str]) -> None:
        """Let a cause act, now or (``at``: an edge) when a set comes there. Raises ``CauseError``."""
        found = cause(name)
        given = dict(options)
        at = given.pop("at", "")
        chosen = _checked(found, given)
        if at:
            if found.apply is None or at not in WAITING_EDGES:
                places = ", ".join(WAITING_EDGES)
                raise CauseError(f"at is {at!r}: only a change of the site waits, for one of {places}")
            self._site.faults.set(Fault(EDGES[at], CAUSE, {"phase": at}, cause=name, options=chosen))
        elif found.rules is not None:
            for rule in found.rules(chosen):
                self._site.faults.set(rule)
        else:
            await self._apply(found, chosen)

    async def _now(self, rule: Fault) -> None:
        """The moment has come. Whoever waits here may itself end by it, so that it is done beside them."""
        clock = self._site.clock
        done = clock.signal()

        async def act() -> None:
            try:
                with clock.parked():
                    await self._apply(cause(rule.cause), dict(rule.options))
            except CauseError as error:
                log.warning("the cause %s could not be set: %s", rule.cause, error)
            finally:
                done.set()

        clock.spawn(act(), name=f"cause {rule.cause}")
        await done.wait()

    async def _apply(self, found: Cause, options: dict[str, str]) -> None:
        assert found.apply is not None
        key = " ".join([found.name, *(f"{k}={v}" for k, v in sorted(options.items()))])
        if key in self._records:
            raise CauseError(f"{key} is set already: mend it first")
        try:
            undo = await found.apply(self._scene, options)
        except PsError as error:
            raise CauseError(f"{key}: {error.message}") from error
        self._records[key] = Done(found.name, options, undo)

    async def mend(self, name: str | None = None) -> None:
        """Take one cause back wherever it is in force, or all of them; rules that nobody named go with all."""
        if name is not None:
            cause(name)
        self._site.faults.clear(name)
        for key, record in reversed(list(self._records.items())):
            if name not in (None, record.name):
                continue
            mend = cause(record.name).mend
            assert mend is not None
            try:
                await mend(self._scene, record)
            except PsError as error:
                raise CauseError(f"{key} cannot be mended: {error.message}") from error
            del self._records[key]


def _checked(found: Cause, given: Mapping[str, str]) -> dict[str, str]:
    unknown = sorted(set(given) - set(found.options))
    if unknown:
        known = ", ".join([*found.options, *(["at"] if found.apply is not None else [])])
        raise CauseError(f"{found.name} has no option {unknown[0]!r}: it has {known or 'none'}")
    chosen = {}
    for name, option in found.options.items():
        value = str(given.get(name, option.default))
        if not value and option.required:
            raise CauseError(f"{found.name} needs {name}: {option.about}")
        if option.choices and value not in option.choices:
            raise CauseError(f"{name} of {found.name} is {value!r}: one of {', '.join(option.choices)}")
        chosen[name] = value
    return chosen
