"""``smhvlab run``: a notebook as a runbook, with its parameters; notebook, journals and report stay together."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from smhvlab.errors import NotFound, SmhvLabError

# The page of a run without the scripts that only a network has.
_PAGE: Final = """{%- extends 'lab/index.html.j2' -%}
{%- block html_head_js -%}{%- endblock html_head_js -%}
{%- block html_head_js_mathjax -%}{%- endblock html_head_js_mathjax -%}
{%- block html_head_js_mermaidjs -%}{%- endblock html_head_js_mermaidjs -%}
"""
FOLDER = "run_folder"
"""Parameter of a runbook that gets the folder of its run, for journals and what else it writes."""


class RunbookFailed(SmhvLabError):
    """A cell of the runbook raised an error; what ran so far is in the folder of the run."""


@dataclass(frozen=True)
class RunbookRun:
    """What a run left: the executed notebook, the report, the journals of its flows."""

    folder: Path
    notebook: Path
    report: Path
    journals: tuple[Path, ...]

    def __str__(self) -> str:
        lines = [f"{self.folder}", f"  {self.notebook.name}", f"  {self.report.name}"]
        return "\n".join([*lines, *(f"  {path.relative_to(self.folder)}" for path in self.journals)])


def run(
    name: str, parameters: Mapping[str, object], *, home: Path, runs: Path = Path("runs"), kernel: str = "python3"
) -> RunbookRun:
    """Execute a notebook of a folder with these parameters, and keep what it leaves in a folder of its own.

    Args:
        name: of the notebook below ``home``, without its ending, e.g. ``dr/failover``.
        parameters: for its cell ``parameters``; ``site`` stands for ``site_name``.
        home: the notebooks' folder.
        runs: where the folder of the run is made.
        kernel: the Jupyter kernel.

    Raises:
        NotFound: there is no such notebook, or it has no such parameter.
        RunbookFailed: a cell raised an error; notebook and report are kept.
    """
    import papermill
    from papermill.exceptions import PapermillExecutionError
    from papermill.inspection import inspect_notebook

    source = home / f"{name.removesuffix('.ipynb')}.ipynb"
    if not re.fullmatch(r"[\w/.-]+", name) or ".." in name or not source.is_file():
        inside = (path.relative_to(home).with_suffix("") for path in home.rglob("*.ipynb"))
        known = sorted(path.as_posix() for path in inside if not any(part.startswith(".") for part in path.parts))
        raise NotFound(f"There is no notebook {name}", next_action=f"Run one of {', '.join(known)}.")
    known = inspect_notebook(str(source))
    given = {("site_name" if key == "site" else key): value for key, value in parameters.items()}
    for key in given:
        if key not in known:
            raise NotFound(f"{name} has no parameter {key}", next_action=f"It has {', '.join(known)}.")
    values: dict[str, Any] = {key: _typed(value, str(known[key]["inferred_type_name"])) for key, value in given.items()}
    folder = runs / f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{source.stem}"
    folder.mkdir(parents=True)
    if FOLDER in known and FOLDER not in values:
        values[FOLDER] = str(folder.resolve())
    target = folder / source.name
    failure: RunbookFailed | None = None
    try:
        papermill.execute_notebook(
            str(source), str(target), parameters=values, kernel_name=kernel, progress_bar=False, log_output=False
        )
    except PapermillExecutionError as error:
        failure = _failed(
            name,
            error.ename,
            error.evalue,
            f"Read {target}. What its flows left: smhvlab doctor --site ... --journals {folder}.",
        )
    report = _report(target)
    journals = tuple(sorted(folder.rglob("*.jsonl")))
    if failure is not None:
        raise failure
    return RunbookRun(folder, target, report, journals)


def _failed(name: str, kind: str, text: str, next_action: str) -> RunbookFailed:
    """The error of a cell, with what one of ours tells below its message."""
    first, *lines = text.splitlines() or [""]
    told = {label: value for label, _, value in (line.strip().partition(": ") for line in lines)}
    return RunbookFailed(
        f"The runbook {name} stopped: {kind}: {first}",
        why=told.get("Why"),
        next_action=f"{told['Next']} {next_action}" if "Next" in told else next_action,
        code=told.get("Code"),
        tr=told.get("TR-4004"),
    )


def _typed(value: object, kind: str) -> object:
    """A value from the command line as the parameter's type."""
    if not isinstance(value, str) or kind in ("str", "None"):
        return value
    if kind == "bool":
        return value.casefold() in ("1", "true", "yes")
    try:
        return {"int": int, "float": float}.get(kind, str)(value)
    except ValueError as error:
        raise NotFound(f"{value!r} is no {kind}", next_action="Give the parameter a value of that type.") from error


def _report(notebook: Path) -> Path:
    """The executed notebook as a page that needs nothing else to be read: no script, no network, panels as pictures."""
    import nbformat
    from nbconvert import HTMLExporter

    from smhvlab.panels.panel import VIEW

    exporter: Any = HTMLExporter  # it has no types
    reader: Any = nbformat
    executed = reader.read(notebook, as_version=4)
    executed.metadata.pop("widgets", None)
    for output in (output for cell in executed.cells for output in cell.get("outputs", ())):
        data = output.get("data", {})
        data.pop(VIEW, None)  # a live view would take the place of the picture beside it
        if "text/html" in data:  # whoever prints it wants to see what is folded
            data["text/html"] = "".join(data["text/html"]).replace("<details>", "<details open>")
    named = {"metadata": {"name": notebook.stem}}
    body, _ = exporter(embed_images=True, raw_template=_PAGE).from_notebook_node(executed, resources=named)
    target = notebook.with_suffix(".html")
    target.write_text(body, encoding="utf-8")
    return target
