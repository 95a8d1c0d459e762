"""The codes that the array declares are codes that ONTAP documents for the same operation."""

from __future__ import annotations

import ast
import json
import os
from pathlib import Path
from string import Formatter
from typing import Any

import pytest

from labenv.ontap.errors import ERRORS
from labenv.ontap.rest.api import COLLECTIONS
from labenv.ontap.rest.collection import Collection
from labenv.ontap.rest.coverage import GENERAL_CODES, coverage, markdown

from .ontap_bench import GENERIC

FACTS = Path(os.environ.get("LABENV_FACTS", "facts")) / "ontap_rest_errors.json"

SNAPSHOTS = "/storage/volumes/{volume.uuid}/snapshots"
FILES = "/storage/volumes/{volume.uuid}/files"
GROUPS = "/application/consistency-groups"
GROUP_SNAPSHOTS = GROUPS + "/{consistency_group.uuid}/snapshots"
BORROWED = {
    # the same check as in the sibling method, where alone the documentation lists it
    "POST /cluster/peers": {"4653215", "4653671", "4655058", "4656080"},
    "PATCH /cluster/peers": {"4653075", "4653368"},
    "POST /svm/peers": {"26345578", "26345581"},
    "PATCH /svm/peers": {"9896086"},
    "PATCH /protocols/san/igroups": {"5374911"},
    "POST /protocols/san/portsets/{portset.uuid}/interfaces": {"5374908"},
    "POST /storage/luns": {"5374866"},
    "POST /storage/volumes": {"917888"},
    "DELETE /snapmirror/policies": {"13303842"},
    "PATCH /security/accounts": {"5636176", "5636178"},
    "POST /snapmirror/relationships": {"6619546"},
    "DELETE /snapmirror/relationships": {"13304082"},
    # a rename, or an overwrite by a clone, is refused as the creation is
    "PATCH /storage/luns": {"1260121", "5374121", "5374899"},
    "PATCH /snapmirror/relationships": {"6619637"},
    # of a collection that the operation goes through: the volume, the SVM, the interface, the member's Snapshot copy
    "POST /svm/svms": {"1115127"},
    "POST /protocols/san/portsets": {"5374910", "5374915"},
    "POST /protocols/san/lun-maps": {"1254193", "5374878"},
    "POST /storage/file/clone": {"918235", "6684674"},
    f"POST {SNAPSHOTS}": {"918235"},
    f"PATCH {SNAPSHOTS}": {"1520351", "525059", "918235"},
    f"DELETE {SNAPSHOTS}": {"1520351", "918235"},
    f"POST {FILES}": {"131073", "131102", "6684674", "917752"},
    f"PATCH {FILES}": {"131073", "131102", "6488064", "6684674", "917752"},
    f"DELETE {FILES}": {"131073", "917752"},
    f"PATCH {GROUPS}": {"53411918"},
    f"GET {GROUP_SNAPSHOTS}": {"53411843"},
    f"POST {GROUP_SNAPSHOTS}": {"1638477", "1638518", "53411842", "53411843"},
    f"PATCH {GROUP_SNAPSHOTS}": {"53411843", "53411918"},
    f"DELETE {GROUP_SNAPSHOTS}": {"53411843"},
    # also from captures of real clusters: another operation on the volume (13107406), the copy to clone from (1638600)
    "PATCH /storage/volumes": {"13107406", "917526", "917551", "917886", "917887"},
    "DELETE /storage/volumes": {"13107406"},
}
"""Operation -> codes that the documentation lists elsewhere, by the reason for them."""
BORROWED["POST /storage/volumes"] |= {"1638600"}


def documented() -> dict[str, Any]:
    """Documented operations; the test is skipped where the facts are not at hand."""
    if not FACTS.exists():
        pytest.skip("the table of documented error codes is not beside this checkout")
    table: dict[str, Any] = json.loads(FACTS.read_text("utf-8"))
    return {operation.replace("//", "/"): entry for operation, entry in table.items()}


def operations(collection: type[Collection], method: str) -> list[str]:
    """Documented names of a method on a collection and on one of its records."""
    keys = "/".join(f"{{{key}}}" for key in collection.keys)
    names = [f"{method} {collection.path}"]
    return [*names, f"{names[0]}/{keys}"] if keys else names


PAIRS = [
    (collection, method)
    for collection in COLLECTIONS
    if not collection.path.startswith("/private/cli")  # the shell's commands are not in the API's documentation
    for method in collection.methods
]


@pytest.mark.parametrize(("collection", "method"), PAIRS, ids=lambda v: v if isinstance(v, str) else v.__name__)
def test_declared_codes_are_documented(collection: type[Collection], method: str) -> None:
    """Every code that a method declares is documented for it, or listed here with a reason."""
    table = documented()
    assert any(name in table for name in operations(collection, method)), f"ONTAP has no {method} {collection.path}"
    own = {code for name in operations(collection, method) for code, _ in table.get(name, {"rows": ()})["rows"]}
    declared = set(collection.codes.get(method, ()))
    borrowed = BORROWED.get(f"{method} {collection.path}", set())
    assert declared - own - borrowed - GENERIC == set()
    assert borrowed <= declared - own - GENERIC, "borrowed without need"


@pytest.mark.parametrize("collection", COLLECTIONS, ids=lambda v: v.__name__)
def test_declarations_are_complete(collection: type[Collection]) -> None:
    """A collection declares codes for each of its methods, and only codes that have a message."""
    assert set(collection.codes) == set(collection.methods)
    for codes in collection.codes.values():
        assert set(codes) <= set(ERRORS)
        assert len(set(codes)) == len(codes)


def test_every_refusal_can_be_put_into_words() -> None:
    """Wherever an error is raised by its code, it is one that there is, with all that its message names."""
    lacking = []
    for path in sorted((Path(__file__).parents[3] / "labenv" / "ontap").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not (isinstance(node, ast.Call) and getattr(node.func, "id", "") == "ApiError"):
                continue
            if isinstance(node.args[0], ast.Constant):
                names = {name for _, name, _, _ in Formatter().parse(ERRORS[node.args[0].value][1]) if name}
                lacking += [(path.name, node.lineno, name) for name in names - {k.arg for k in node.keywords}]
    assert lacking == []


def test_coverage_lists_every_route_once() -> None:
    """The table of coverage has each method of each path once, with what the method takes or shows."""
    rows = list(coverage())
    assert len({(row.method, row.path) for row in rows}) == len(rows)
    by_route = {(row.method, row.path): row for row in rows}
    created = by_route["POST", "/storage/volumes"]
    assert "clone.parent_snapshot.name" in created.fields
    assert "917526" in created.codes
    assert "restore_to.snapshot.name=" in by_route["PATCH", "/storage/volumes/{uuid}"].fields
    assert ("DELETE", "/protocols/san/lun-maps/{lun.uuid}/{igroup.uuid}") in by_route
    assert all(row.title for row in rows)


def test_the_page_of_coverage_is_what_the_code_says() -> None:
    """docs/coverage.md is generated; after a change: labenv coverage --markdown > docs/coverage.md."""
    page = Path(__file__).parents[3] / "docs" / "coverage.md"
    assert page.read_text("utf-8") == markdown(), "labenv coverage --markdown > docs/coverage.md"


def test_general_codes_are_those_that_tests_allow() -> None:
    """What the page says of any method is what the tests take for granted."""
    assert set(GENERAL_CODES) == GENERIC
