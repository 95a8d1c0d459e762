"""Requests as panels show them: what was read, what was changed, and the line to copy."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, Protocol

from smhvlab.panels import html

_TITLES: Final = 12  # requests whose titles are listed; the wire log has them all
_LINES: Final = 40  # requests that are listed with their lines
_LETTERS: Final = 2_000  # of a line; more is the contents of a file that is written
# The codes with which Windows and ONTAP answer a question for something that is not there.
_ABSENT: Final = re.compile(r"NotFound|NoMatching|DoesNotExist|^4$")


class Request(Protocol):
    """What is read of a wire log's entry."""

    @property
    def number(self) -> int: ...
    @property
    def endpoint(self) -> str: ...
    @property
    def reads(self) -> bool: ...
    @property
    def title(self) -> str: ...
    @property
    def request(self) -> str: ...
    @property
    def code(self) -> str: ...
    @property
    def step(self) -> str: ...


class Answered(Protocol):
    """A request with its answer's code."""

    @property
    def reads(self) -> bool: ...
    @property
    def code(self) -> str: ...


def found_nothing(request: Answered) -> bool:
    """Whether it asked for something that is not there: an answer, and no failure."""
    return request.reads and _ABSENT.search(request.code.partition(",")[0]) is not None


def requests_html(requests: Sequence[Request], *, lines: bool) -> str:
    """A step's requests, folded; those that changed something are marked. ``lines``: each with its line to copy."""
    if not requests:
        return ""
    shown = requests[: _LINES if lines else _TITLES]
    told = [_with_line(request) if lines else f"{request.number}. {_headline(request)}" for request in shown]
    if len(requests) > len(shown):
        told.append(f"# ... and {len(requests) - len(shown)} more in the wire log")
    changes = sum(not request.reads for request in requests)
    return html.details(
        html.text(f"requests: {len(requests)}, changes: {changes}"), html.code(("\n\n" if lines else "\n").join(told))
    )


def _headline(request: Request) -> str:
    answer = ": nothing found" if found_nothing(request) else f" failed: {request.code}" if request.code else ""
    return f"{'read' if request.reads else 'CHANGE'} {request.title}{answer}"


def _with_line(request: Request) -> str:
    """The line as it can be pasted into a terminal, below a comment that says what it is."""
    line = request.request
    if len(line) > _LETTERS:
        line = f"{line[:_LETTERS]}\n# ... {len(line) - _LETTERS:,} characters more: site.wires() has the whole line"
    return f"# {request.number}. {_headline(request)} ({request.endpoint})\n{line}"
