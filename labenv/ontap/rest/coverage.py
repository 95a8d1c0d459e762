"""What of the API the lab has, from the same declarations that answer requests."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from labenv.ontap.rest.api import COLLECTIONS
from labenv.ontap.rest.collection import Collection
from labenv.ontap.rest.model import Field

GENERAL_CODES = (
    "1", "2", "3", "4", "6", "8", "262179", "262188", "262196", "262197", "262198", "460770", "917536", "2621462",
    "2621706", "2621707", "6691623",
)  # fmt: skip
"""Codes that do not belong to one operation."""


@dataclass(frozen=True)
class Coverage:
    """One method of one route.

    Attributes:
        fields: names that the method takes or shows; those with ``=`` behind them are query parameters of its own.
        codes: errors of its own that it can give, besides those of any request.
    """

    method: str
    path: str
    title: str
    fields: tuple[str, ...]
    codes: tuple[str, ...]


def coverage() -> Iterator[Coverage]:
    """Every route and method, in the order of the API's sections."""
    for collection in COLLECTIONS:
        yield from _rows(collection)


def _title(collection: type[Collection]) -> str:
    return (collection.__doc__ or "").strip().splitlines()[0]


def _rows(collection: type[Collection]) -> Iterator[Coverage]:
    for method in collection.methods:
        codes = tuple(collection.codes.get(method, ()))
        for path in _paths(collection, method):
            yield Coverage(method, path, _title(collection), _fields(collection, method), codes)


HEAD = f"""# Coverage of the ONTAP REST API

What the lab answers, generated from the declarations that it answers by (`labenv coverage --markdown`). Any other
route is answered with ONTAP's code 3 ("API not found"), an unknown field with 262197, an unknown argument with 262179.
Besides the codes of its own any method can give {", ".join(GENERAL_CODES)}.

| route | methods | |
|---|---|---|
"""


def markdown() -> str:
    """The page ``docs/coverage.md``."""
    routes = [f"| `{c.path}` | {', '.join(c.methods)} | {_title(c)} |" for c in COLLECTIONS]
    parts = [HEAD + "\n".join(routes), "Fields that end in `=` are query parameters of the method."]
    for collection in COLLECTIONS:
        lines = [f"## {collection.path}", "", "| method and route | fields | codes |", "|---|---|---|"]
        shown: set[tuple[str, tuple[str, ...]]] = set()
        for row in _rows(collection):
            fields = ", ".join(f"`{name}`" for name in row.fields) or "-"
            if (row.method, row.fields) in shown and len(row.fields) > 3:
                fields = "as above"
            shown.add((row.method, row.fields))
            lines.append(f"| {row.method} `{row.path}` | {fields} | {', '.join(row.codes) or '-'} |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def _paths(collection: type[Collection], method: str) -> list[str]:
    one = "/".join([collection.path, *(f"{{{key}}}" for key in collection.keys)])
    if collection.named_by_client and method != "GET":
        return [one]
    if method == "POST" or not collection.keys or not collection.addressable:
        return [collection.path]
    return [collection.path, one]


def _fields(collection: type[Collection], method: str) -> tuple[str, ...]:
    own = tuple(f"{field.name}=" for field in collection.parameters.get(method, ()))
    return (*(field.name for field in collection.fields if _has(field, method)), *own)


def _has(field: Field, method: str) -> bool:
    if method == "GET":
        return field.read is not None
    return field.create if method == "POST" else field.modify and method == "PATCH"
