"""Execute the notebooks and store them with their outputs, normalised so that nothing but real changes shows.

Usage: python tools/execute_notebooks.py [NOTEBOOK ...]
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parent.parent
KEPT_MIMES = {"text/plain", "text/html", "application/vnd.plotly.v1+json", "image/svg+xml"}


def execute(path: Path) -> None:
    """Run one notebook; raises if a cell shows an error that it was not written to show."""
    notebook: Any = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    client = NotebookClient(
        notebook,
        timeout=300,
        kernel_name="python3",
        store_widget_state=False,
        record_timing=False,
        coalesce_streams=True,
        resources={"metadata": {"path": str(path.parent)}},
    )
    client.execute()
    normalise(notebook, stem=path.stem)
    nbformat.write(notebook, path)


def normalise(notebook: Any, *, stem: str) -> None:
    """Take out what differs from run to run: widget state, model ids, timings, random cell ids."""
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
    }
    count = 0
    for index, cell in enumerate(notebook.cells):
        cell.id = f"{stem.replace('_', '-')[:40]}-{index:02}"
        cell.metadata.pop("execution", None)
        if cell.cell_type != "code":
            continue
        count += 1
        cell.execution_count = count
        allowed = "raises-exception" in cell.metadata.get("tags", [])
        for output in cell.outputs:
            if output.output_type == "error" and not allowed:
                raise RuntimeError(f"{stem}: cell {index} failed: {output.ename}: {output.evalue}")
            if output.output_type == "error":
                output.traceback = []
            if output.output_type == "execute_result":
                output.execution_count = count
            if "data" in output:
                output.data = {mime: value for mime, value in output.data.items() if mime in KEPT_MIMES}


def main(arguments: list[str]) -> int:
    """Execute the named notebooks, or all."""
    paths = [Path(a).resolve() for a in arguments] or sorted((ROOT / "notebooks").rglob("*.ipynb"))
    for path in paths:
        if ".ipynb_checkpoints" in path.parts:
            continue
        started = time.monotonic()
        execute(path)
        print(
            f"{path.relative_to(ROOT)}: {time.monotonic() - started:.1f} s, {path.stat().st_size // 1024} kB",
            flush=True,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
