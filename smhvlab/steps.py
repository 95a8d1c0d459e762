"""The steps of a flow: methods with a title, a TR section, and what they touch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from smhvlab.record import PlannedStep

S = TypeVar("S")


@dataclass(kw_only=True, eq=False)
class Step(Generic[S]):
    """A step, made by the ``step`` decorator."""

    name: str
    run: Callable[[Any, S], S | None]
    title: str
    tr: str
    items: Callable[[S], Iterable[object]]
    counts: Callable[[S], Mapping[str, int]]
    when: Callable[[S], bool]
    otherwise: str
    pivot: bool
    changes: bool
    revert: Callable[[Any, S], S | None] | None = None
    ready: Callable[[Any, S], None] | None = None

    def undo(self, function: Callable[[Any, S], S | None]) -> Callable[[Any, S], S | None]:
        """Decorator for the method that takes the step back, however far it got. Returns the new state or None."""
        self.revert = function
        return function

    def before(self, function: Callable[[Any, S], None]) -> Callable[[Any, S], None]:
        """Decorator for the method that looks whether the step may begin, after approval; it reads only, or raises.

        Before the first pivot its refusal undoes the run: the step does not count as started. A step that was
        interrupted is not asked again: what it has left half done is no reason to stop.
        """
        self.ready = function
        return function

    def planned(self, number: int, state: S) -> PlannedStep:
        """The step as it would run in that state."""
        runs = self.when(state)
        return PlannedStep(
            number=number,
            name=self.name,
            title=self.title,
            tr=self.tr,
            pivot=self.pivot,
            changes=self.changes,
            undoable=self.revert is not None,
            items=tuple(str(item) for item in self.items(state)) if runs else (),
            counts=dict(self.counts(state)) if runs else {},
            skipped="" if runs else self.otherwise,
        )


def step(
    title: str,
    *,
    tr: str,
    items: Callable[[Any], Iterable[object]] = lambda _: (),
    counts: Callable[[Any], Mapping[str, int]] = lambda _: {},
    when: Callable[[Any], bool] = lambda _: True,
    otherwise: str = "it is not needed",
    pivot: bool = False,
    changes: bool = True,
) -> Callable[[Callable[[Any, S], S | None]], Step[S]]:
    """Decorator: make a method ``(self, state) -> new state or None`` a step; steps run in the order written.

    A step must be able to run again after it was interrupted anywhere; so must its undo, ``@name.undo``.

    Args:
        title: what a reader calls the step.
        tr: section and number in TR-4004, e.g. "6.2/3".
        items: the things that it touches, shown in the plan.
        counts: its operations, by their names in the cost book.
        when: decides, once the step comes up, whether it runs.
        otherwise: completes "skipped because ...".
        pivot: once it has started there is no undo.
        changes: False if it only reads.
    """

    def made(run: Callable[[Any, S], S | None]) -> Step[S]:
        return Step(
            name=run.__name__,
            run=run,
            title=title,
            tr=tr,
            items=items,
            counts=counts,
            when=when,
            otherwise=otherwise,
            pivot=pivot,
            changes=changes,
        )

    return made
