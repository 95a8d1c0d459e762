"""What of the API the lab has, from the same declarations that answer requests."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from labenv.ontap.rest.api import COLLECTIONS
from labenv.ontap.rest.collection import Collection
from labenv.ontap.rest.model import Field


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
        title = (collection.__doc__ or "").strip().splitlines()[0]
        for method in collection.methods:
            codes = tuple(collection.codes.get(method, ()))
            for path in _paths(collection, method):
                yield Coverage(method, path, title, _fields(collection, method), codes)


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
