"""After a crash: which runs of a site wait for somebody, and what may be done with each of them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any

from smhvlab.errors import JournalError
from smhvlab.flow import Flow, FlowSite
from smhvlab.journal import Header, Journal, Mark, is_closed, journal_folder, journal_paths, read_journal
from smhvlab.lockfile import try_lock


@dataclass(frozen=True, kw_only=True)
class Unfinished:
    """A run that neither finished nor was undone.

    Attributes:
        allowed: of "resume" and "undo" what may be done; empty while its owner lives, or if its journal is damaged.
        step: the step that the journal speaks of last, "" if none had started.
        error: what failed last, "" if it was killed.
        since: when its last line was written, ISO 8601.
    """

    run: str
    header: Header
    alive: bool
    allowed: tuple[str, ...]
    step: str
    error: str
    since: str
    path: Path


def unfinished(site: str, *, folder: Path | None = None) -> list[Unfinished]:
    """The unfinished runs of the site of that name, oldest first; ``folder`` is the site's ``journals``.

    A run whose journal is damaged allows nothing, and its ``error`` says so: it must not keep the others waiting.
    """
    found = []
    for path in journal_paths(journal_folder(site, folder)):
        if is_closed(path):  # there may be thousands of them
            continue
        with path.open("r+b", buffering=0) as file:
            alive = not try_lock(file)
            try:
                lines, _ = read_journal(path)
            except JournalError as error:
                found.append(_damaged(site, path, error, alive=alive))
                continue
            journal = Journal(path, file, lines)
        if not lines or lines[-1].mark is Mark.CLOSE or journal.header.site != site:
            continue  # a run that was killed before its first line had done nothing
        errors = [line.text for line in lines if line.mark is Mark.FAIL]
        found.append(
            Unfinished(
                run=journal.run,
                header=journal.header,
                alive=alive,
                allowed=tuple(act for act in ("resume", "undo") if not alive and not journal.obstacle(act)),
                step=lines[-1].step,
                error=errors[-1] if errors else "",
                since=lines[-1].at,
                path=path,
            )
        )
    return found


def _damaged(site: str, path: Path, error: JournalError, *, alive: bool) -> Unfinished:
    return Unfinished(
        run=path.stem,
        header=Header(site=site, flow=f":{path.stem.partition('-')[2]}", format=0),
        alive=alive,
        allowed=(),
        step="",
        error=f"{error.message}. {error.next_action}",
        since=datetime.fromtimestamp(path.stat().st_mtime, UTC).isoformat(timespec="milliseconds"),
        path=path,
    )


def reopen(site: FlowSite, run: str, *, folder: Path | None = None) -> Flow[Any]:
    """The flow that a journal speaks of, with its parameters, ready for ``resume()`` or ``undo()``.

    JournalError: there is no such run, or its flow does not exist in this version.
    """
    folder = site.journals if folder is None else folder
    for found in unfinished(site.name, folder=folder):
        if found.run == run and found.header.format:
            flow = _flow(found.header, site)
            flow.run_id = run
            flow.state_folder = folder
            return flow
    raise JournalError(
        f"There is no unfinished run {run!r} of site {site.name!r}", next_action="smhvlab doctor lists those that wait."
    )


def _flow(header: Header, site: FlowSite) -> Flow[Any]:
    module, _, name = header.flow.partition(":")
    try:
        found: Any = import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
        if not (isinstance(found, type) and issubclass(found, Flow)):
            raise TypeError(f"{header.flow} is no flow")
        flow: Flow[Any] = found(site, **header.parameters)
    except (ImportError, AttributeError, TypeError) as error:
        raise JournalError(
            f"This version cannot make the flow {header.flow}",
            why=str(error),
            next_action="Use the version that began the run.",
        ) from error
    return flow
