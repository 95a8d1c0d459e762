"""The toolkit and the lab meet only on the wires."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def imported(package: str) -> set[tuple[str, str]]:
    """(file, imported top-level module) for every import in a package."""
    found = set()
    for path in sorted((ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                found |= {(str(path.relative_to(ROOT)), alias.name.split(".")[0]) for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                found.add((str(path.relative_to(ROOT)), node.module.split(".")[0]))
    return found


@pytest.mark.parametrize(("package", "other"), [("smhvlab", "labenv"), ("labenv", "smhvlab")])
def test_neither_package_imports_the_other(package: str, other: str) -> None:
    """Nothing but the two wires passes between the toolkit and the lab."""
    modules = imported(package)
    assert modules, "the scan found no import at all"
    assert [file for file, module in modules if module == other] == []


@pytest.mark.parametrize("package", ["smhvlab", "labenv"])
def test_no_reader_under_a_copyleft_licence_is_imported(package: str) -> None:
    """AGPL and GPL readers check our bytes in tests and never ship in the product."""
    assert [file for file, module in imported(package) if module in {"dissect", "FATtools"}] == []
