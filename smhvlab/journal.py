"""The journal of a run: what lets a later process resume, or undo, a run whose process was killed.

One file of JSON lines per run in ``<state folder>/journals/<site>/``. What a change depends on is on disk (fsync)
before the change is made: that a step has ended is written at once, and on disk with the start of the next or the end
of the run. After a power cut in between the step counts as interrupted, and steps can be repeated. A line that cannot
be written (the disk is full) leaves nothing of itself, and nothing is done after it: the run stops, or its undo does,
where the journal says that it is. The file is locked by the operating system while its owner lives, so a stale lock
cannot exist. To give a run up for good (its site is gone), move its file to another folder.
"""

from __future__ import annotations

import os
import re
import time
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache
from itertools import count
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from smhvlab.errors import JournalError, JournalLocked
from smhvlab.lockfile import sync_folder, try_lock

_JOURNAL = re.compile(r"\d+-.*\.jsonl\Z")
_TAIL = 4096
_PATIENCE = 0.5  # seconds
_MOVE = "Look at the site: what its run had begun stays as it is. Then move the file to another folder."


class Mark(StrEnum):
    """What a line says. A step is skipped, or started and then ended or failed; an undo is begun, then undone."""

    BEGIN = "begin"
    SKIP = "skip"
    START = "start"
    END = "end"
    FAIL = "fail"
    UNDO = "undo"
    UNDONE = "undone"
    CLOSE = "close"


_LATER = frozenset({Mark.BEGIN, Mark.END, Mark.SKIP})
"""Marks after which nothing is changed before another line is written."""


@dataclass(frozen=True, kw_only=True)
class Header:
    """Whose run it is. ``flow`` is "module:class", ``format`` the version of its steps and state."""

    site: str
    flow: str
    format: int
    parameters: dict[str, Any] = field(default_factory=dict)
    accepted: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Line:
    mark: Mark
    at: str
    step: str = ""
    pivot: bool = False
    text: str = ""
    lost: bool = False  # of a failure: a reply was lost, so the site may still be at work
    state: Any = None  # as JSON values
    header: Header | None = None


class Journal:
    """The lines of a run. One that was created or opened is locked until ``close`` or the end of the process."""

    def __init__(self, path: Path, file: BinaryIO, lines: list[Line], *, length: int = 0) -> None:
        self.path = path
        self.run = path.stem
        self.lines = lines
        self._file = file
        self._length = length  # of the lines in the file; what follows them is half a line

    @classmethod
    def create(cls, header: Header, state: Any, *, folder: Path | None = None) -> Journal:
        """Begin a run: number it, lock it, write its first line. JournalError: it cannot be written."""
        home = journal_folder(header.site, folder)
        name = header.flow.rpartition(":")[2]
        try:
            home.mkdir(parents=True, exist_ok=True, mode=0o700)
            for number in count(1 + max(map(_number, journal_paths(home)), default=0)):
                path = home / f"{number:04d}-{name}.jsonl"
                try:
                    file = path.open("x+b", buffering=0)
                except FileExistsError:  # somebody was quicker
                    continue
                break
            journal = cls(path, file, [])
            try:
                _lock(file, path.stem)
                journal.write(Mark.BEGIN, state=state, header=header)
                sync_folder(home)
            except BaseException:
                file.close()
                raise
        except OSError as error:
            raise JournalError(
                f"No journal can be begun in {home}",
                why=error.strerror,
                next_action="Make room there, or give this user the right to write there. Nothing was changed.",
            ) from error
        return journal

    @classmethod
    def open(cls, site: str, run: str, *, folder: Path | None = None) -> Journal:
        """Take over a run whose owner is gone. JournalLocked: it is alive; JournalError: no such run, or damaged."""
        path = next((path for path in journal_paths(journal_folder(site, folder)) if path.stem == run), None)
        if path is None:
            raise JournalError(f"There is no run {run!r} of site {site!r}", next_action="List the unfinished runs.")
        file = path.open("r+b", buffering=0)
        try:
            _lock(file, run)
            lines, length = read_journal(path)
            if not lines:
                raise JournalError(f"Run {run} never began", next_action="Start the flow again.")
            file.truncate(length)  # half a line from the moment of the crash
            file.seek(length)
        except BaseException:
            file.close()
            raise
        return cls(path, file, lines, length=length)

    @property
    def header(self) -> Header:
        header = self.lines[0].header
        assert header is not None  # create and read_journal see to it
        return header

    @property
    def state(self) -> Any:
        """The newest state, as JSON values."""
        return next(line.state for line in reversed(self.lines) if line.state is not None)

    @property
    def passed(self) -> set[str]:
        """Steps that need not run any more: ended or skipped."""
        return {line.step for line in self.lines if line.mark in (Mark.END, Mark.SKIP)}

    @property
    def started(self) -> dict[str, None]:
        """Steps that have ever started, in their order."""
        return dict.fromkeys(line.step for line in self.lines if line.mark is Mark.START)

    @property
    def to_undo(self) -> list[str]:
        """Steps that started and are not undone yet, the latest first."""
        undone = {line.step for line in self.lines if line.mark is Mark.UNDONE}
        return [name for name in reversed(self.started) if name not in undone]

    @property
    def interrupted(self) -> bool:
        """Whether its process died within a step or within an undo, or the last of these failed with a lost reply."""
        return self.lines[-1].mark in (Mark.START, Mark.UNDO) or self.lines[-1].lost

    @property
    def pivoted(self) -> bool:
        return any(line.pivot for line in self.lines)

    def obstacle(self, action: str, *, version: int | None = None) -> str:
        """Why a flow of that format (None: the writer's) may not "resume" or "undo" this run; empty if it may."""
        marks = {line.mark for line in self.lines}
        if Mark.CLOSE in marks:
            return "it is finished"
        if action == "undo":
            return "its point of no return has been passed" if self.pivoted else ""
        if Mark.UNDO in marks:
            return "its undo has begun"
        return "" if version in (None, self.header.format) else f"its journal has format {self.header.format}"

    def write(self, mark: Mark, step: str = "", *, state: Any = None, **more: Any) -> None:
        """Append a line (``more``: its other fields). JournalError: nothing of it is there.

        When this returns it is on disk with all before it, unless it says that the run begins, or that a step has ended
        or is skipped.
        """
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        line = Line(mark=mark, at=at, step=step, state=state, **more)
        data = msgspec.json.encode(line) + b"\n"
        try:
            self._append(data, durable=mark not in _LATER)
        except OSError as error:
            with suppress(OSError):  # else the next line does it, or who opens the journal
                self._file.truncate(self._length)
            raise JournalError(
                f"The journal of run {self.run} cannot be written",
                why=error.strerror,
                next_action=f"Make room in {self.path.parent}, then look what the doctor allows: smhvlab doctor.",
            ) from error
        self._length += len(data)
        self.lines.append(line)

    def _append(self, data: bytes, *, durable: bool) -> None:
        if self._file.seek(0, os.SEEK_END) != self._length:
            self._file.truncate(self._length)
            self._file.seek(self._length)
        while data:  # an unbuffered file may take less than it was given
            data = data[self._file.write(data) :]
        if durable:
            os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()


def _lock(file: BinaryIO, run: str) -> None:
    """Own the file. The doctor locks each open journal for a moment, to see whether its owner lives."""
    until = time.monotonic() + _PATIENCE
    while not try_lock(file):
        if time.monotonic() > until:
            raise JournalLocked(f"Run {run} is alive", next_action="Cancel it where it runs, or wait for its end.")
        time.sleep(0.005)


def journal_folder(site: str, folder: Path | None) -> Path:
    """The argument, else the environment's SMHVLAB_STATE, else the user's own state folder."""
    if folder is None and (named := os.environ.get("SMHVLAB_STATE")):
        folder = Path(named)
    if folder is None:
        import platformdirs  # imported by the processes that need it

        folder = platformdirs.user_state_path("smhvlab", appauthor=False)
    return folder / "journals" / re.sub(r"[^A-Za-z0-9._-]", "_", site)


def journal_paths(home: Path) -> list[Path]:
    """The journals in a folder, oldest first."""
    if not home.is_dir():
        return []
    return sorted((path for path in home.iterdir() if _JOURNAL.match(path.name)), key=_number)


def _number(path: Path) -> int:
    return int(path.stem.partition("-")[0])


def is_closed(path: Path) -> bool:
    """Whether the last line of a journal says that its run has ended; only the end of the file is read."""
    about = path.stat()
    return _ends_closed(path, about.st_size, about.st_mtime_ns)


@lru_cache(maxsize=10_000)
def _ends_closed(path: Path, size: int, _written: int) -> bool:
    """As ``is_closed``, of a file as it is since then: a scheduler asks before each of its runs.

    A journal only grows; but after one was deleted another run can have its name, and by chance its length.
    """
    with path.open("rb") as file:
        file.seek(max(0, size - _TAIL))
        _, _, last = file.read().rstrip(b"\n").rpartition(b"\n")
    return last.startswith(b'{"mark":"close"') and last.endswith(b"}")


def read_journal(path: Path) -> tuple[list[Line], int]:
    """The whole lines, and their length in bytes. What follows the last line end is left from a crash."""
    whole, end, _ = path.read_bytes().rpartition(b"\n")
    try:
        lines = [msgspec.json.decode(line, type=Line) for line in whole.splitlines()]
    except msgspec.MsgspecError as error:
        raise JournalError(f"The journal {path} is damaged", why=str(error), next_action=_MOVE) from error
    if lines and lines[0].header is None:
        raise JournalError(f"The journal {path} has no header", next_action=_MOVE)
    return lines, len(whole) + len(end)
