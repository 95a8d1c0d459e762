"""Execute the notebooks and store them with their outputs, normalised so that nothing but real changes shows.

Usage: python tools/execute_notebooks.py [--check] [NOTEBOOK ...]

A notebook whose run fails is left as it was. With --check nothing is written; exit code 1 says that something would be.
"""

from __future__ import annotations

import argparse
import configparser
import os
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

ROOT = Path(__file__).resolve().parent.parent
HOME = ROOT / "notebooks"
KEPT_MIMES = {"text/plain", "text/html", "application/vnd.plotly.v1+json", "image/svg+xml"}
KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
SECONDS = 300
"""How long a cell may take."""


class NotebookFailed(Exception):
    """A cell shows an error that it was not written to show."""


def execute(path: Path) -> Any:
    """Run one notebook from nothing; returns it, normalised. Raises NotebookFailed."""
    notebook: Any = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    client = NotebookClient(
        notebook,
        timeout=SECONDS,
        kernel_name="python3",
        store_widget_state=False,
        record_timing=False,
        coalesce_streams=True,
        resources={"metadata": {"path": str(path.parent)}},
    )
    try:
        client.execute()
    except CellExecutionError as error:
        raise NotebookFailed(str(error)) from error
    normalise(notebook, stem=stem_of(path))
    return notebook


def stem_of(path: Path) -> str:
    """What the cell ids of a notebook begin with: its folder and name."""
    inside = path.resolve().relative_to(HOME) if path.resolve().is_relative_to(HOME) else Path(path.name)
    return "-".join(inside.with_suffix("").parts).replace("_", "-")[:56]


def normalise(notebook: Any, *, stem: str) -> None:
    """Take out what differs from run to run: widget state, model ids, timings, random cell ids.

    Raises NotebookFailed if a cell holds an error that its tag ``raises-exception`` does not allow: one in a button's
    handler stops no run.
    """
    notebook.metadata = {"kernelspec": KERNEL}
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    count = 0
    for index, cell in enumerate(notebook.cells):
        cell.id = f"{stem}-{index:02}"
        cell.metadata.pop("execution", None)
        cell.metadata.pop("trusted", None)
        if cell.cell_type != "code":
            continue
        count += 1
        cell.execution_count = count
        allowed = "raises-exception" in cell.metadata.get("tags", [])
        for output in cell.outputs:
            if output.output_type == "error":
                if not allowed:
                    raise NotebookFailed(f"cell {index}: {output.ename}: {output.evalue}")
                output.traceback = [f"{output.ename}: {output.evalue}"]  # without paths and line numbers
            if output.output_type == "execute_result":
                output.execution_count = count
            if "text" in output:
                output.text = _settled(output.text)
            if "data" in output:
                output.data = {mime: _settled(value) for mime, value in output.data.items() if mime in KEPT_MIMES}
                output.metadata = {}
    nbformat.validate(notebook)


def _settled(text: Any) -> Any:
    """A text without what a run makes up at random, as the sections ``random_*`` of sanitize.cfg say."""
    rules = configparser.RawConfigParser()
    rules.read(HOME / "sanitize.cfg", "utf-8")
    for name in rules.sections():
        if name.startswith("random_") and isinstance(text, str):
            text = re.sub(rules.get(name, "regex"), rules.get(name, "replace"), text)
    return text


def notebooks(names: list[str]) -> list[Path]:
    """The named notebooks, or all."""
    if names:
        return [Path(name).resolve() for name in names]
    return sorted(path for path in HOME.rglob("*.ipynb") if ".ipynb_checkpoints" not in path.parts)


def main(arguments: list[str] | None = None) -> int:
    """Execute and store, or compare; returns the exit code."""
    parser = argparse.ArgumentParser(description="Execute the notebooks and store them with their outputs.")
    parser.add_argument("notebooks", nargs="*", help="by default all")
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 if something would change")
    options = parser.parse_args(arguments)
    bad = 0
    with tempfile.TemporaryDirectory(prefix="notebooks-") as home:
        # The user's own start-up files must not show in the outputs.
        os.environ.update(IPYTHONDIR=home, JUPYTER_CONFIG_DIR=home, JUPYTER_PLATFORM_DIRS="1")
        for path in notebooks(options.notebooks):
            started = time.monotonic()
            try:
                text = nbformat.writes(execute(path)) + "\n"
            except NotebookFailed as error:
                bad += 1
                print(f"{path.relative_to(ROOT)} FAILED and was left as it was\n{error}", flush=True)
                continue
            changed = path.read_text("utf-8") != text
            if changed and options.check:
                bad += 1
            elif changed:
                path.write_text(text, "utf-8", newline="\n")
            note = ("would change" if options.check else "stored") if changed else "unchanged"
            took, size = time.monotonic() - started, len(text.encode()) // 1000
            print(f"{path.relative_to(ROOT)}: {note}, {took:.1f} s, {size} kB", flush=True)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
