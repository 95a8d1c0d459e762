"""Which rows of TR-4004 are shown by which test or notebook cell: ``make coverage-tr``.

Tests name rows with ``@pytest.mark.tr("R-6.3-09")``, notebook cells with the tag ``tr:R-6.3-09``.
"""

from __future__ import annotations

import ast
import csv
import json
import sys
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


BACKGROUND = "background"
"""Kind of the rows that nothing can show: readers, history, literature."""


def rows() -> dict[str, tuple[str, str, str]]:
    """Section, kind and sentence of each row, by id."""
    with (ROOT / "smhvlab" / "tr4004.csv").open(encoding="utf-8", newline="") as file:
        return {row["id"]: (row["section"], row["kind"], row["sentence"]) for row in csv.DictReader(file)}


def shown() -> dict[str, list[str]]:
    """Where each row is shown."""
    found: dict[str, list[str]] = defaultdict(list)
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                continue
            for decorator in node.decorator_list:
                if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "pytest.mark.tr":
                    for argument in decorator.args:
                        found[ast.literal_eval(argument)].append(f"{path.relative_to(ROOT)}::{node.name}")
    for path in sorted((ROOT / "notebooks").rglob("*.ipynb")):
        for cell in json.loads(path.read_text("utf-8"))["cells"]:
            for tag in cell["metadata"].get("tags", []):
                if tag.startswith("tr:"):
                    found[tag[3:]].append(f"{path.relative_to(ROOT)}#{cell['id']}")
    return found


def main() -> int:
    """Print the matrix; exit code 1 if something names a row that does not exist."""
    known, found = rows(), shown()
    for row, (section, kind, sentence) in known.items():
        places = found.get(row, [])
        state = "shown" if places else kind if kind == BACKGROUND else "-"
        print(f"{row:<11} {section:<6} {state:<10} {sentence}")
        for place in places:
            print(f"{'':<26}{place}")
    unknown = sorted(set(found) - set(known))
    background = sum(kind == BACKGROUND and row not in found for row, (_, kind, _) in known.items())
    print(f"{sum(row in found for row in known)} of {len(known)} rows are shown, {background} more are background")
    for row in unknown:
        print(f"unknown row {row}: {', '.join(found[row])}")
    return 1 if unknown else 0


if __name__ == "__main__":
    sys.exit(main())
