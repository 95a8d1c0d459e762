"""The query language of the API: operators in the values of query parameters, ordering, and what they compare."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from labenv.ontap.errors import invalid_value
from labenv.ontap.rest.values import Kind, coerce, parse_time

T = TypeVar("T")


@dataclass(frozen=True)
class Filter:
    """One query parameter that selects records.

    Attributes:
        field: dotted name of the field.
        test: whether a single value (never None) passes.
        wants_null, wants_set: ``null`` or ``!null`` was among the alternatives.
    """

    field: str
    test: Callable[[Any], bool]
    wants_null: bool = False
    wants_set: bool = False

    def passes(self, value: Any) -> bool:
        """Whether a record with this one value passes."""
        return self.wants_null if value is None else self.wants_set or self.test(value)

    def matches(self, values: Sequence[Any]) -> bool:
        """Whether a record passes; ``values`` holds one value, or those of every element of a list."""
        present = [value for value in values if value is not None]
        if not present:
            return self.wants_null
        return self.wants_set or any(self.test(value) for value in present)


def parse_filter(field: str, kind: Kind, text: str, *, choices: tuple[str, ...] = ()) -> Filter:
    """Read the value of a query parameter: alternatives by ``|``, each with at most one operator.

    Operators: ``!v``, ``<v``, ``<=v``, ``>v``, ``>=v``, ``a..b``, ``*`` as wildcard, ``null``, ``!null``; double
    quotes take the meaning out of everything inside them.

    Raises:
        ApiError: 262197 if a value cannot be of the field's type.
    """
    if kind is Kind.TEXTS:
        kind = Kind.TEXT  # each element is compared
    tests: list[Callable[[Any], bool]] = []
    wants_null = wants_set = False
    for part in split_unquoted(text, "|"):
        if part == "null":
            wants_null = True
        elif part == "!null":
            wants_set = True
        else:
            tests.append(_alternative(field, kind, part, choices))
    test = tests[0] if len(tests) == 1 else lambda value: any(test(value) for test in tests)
    return Filter(field, test, wants_null, wants_set)


def is_plain(text: str) -> bool:
    """Whether the value of a query parameter is nothing but the text that is wanted."""
    return bool(text) and text not in ("null", "!null") and ".." not in text and not set(text) & set('*|!<>"')


def split_unquoted(text: str, separator: str) -> list[str]:
    """Split at a character that is not inside double quotes."""
    parts, quoted, start = [], False, 0
    for index, character in enumerate(text):
        if character == '"':
            quoted = not quoted
        elif character == separator and not quoted:
            parts.append(text[start:index])
            start = index + 1
    parts.append(text[start:])
    return parts


def _alternative(field: str, kind: Kind, text: str, choices: tuple[str, ...]) -> Callable[[Any], bool]:
    if text.startswith("!"):
        inner = _alternative(field, kind, text[1:], choices)
        return lambda value: not inner(value)
    for sign in ("<=", ">=", "<", ">"):
        if text.startswith(sign):
            return _comparison(sign, _bound(field, kind, text[len(sign) :]), kind)
    quoted = len(text) >= 2 and text[0] == text[-1] == '"'
    if not quoted and ".." in text:
        low, _, high = text.partition("..")
        if low and high:
            above = _comparison(">=", _bound(field, kind, low), kind)
            below = _comparison("<=", _bound(field, kind, high), kind)
            return lambda value: above(value) and below(value)
    if not quoted and "*" in text:
        pattern = re.compile("".join(".*" if c == "*" else re.escape(c) for c in text), re.DOTALL)
        return lambda value: pattern.fullmatch(_text(value)) is not None
    wanted = coerce(kind, _unquote(text), name=field, choices=choices)
    if kind is Kind.TIME:
        return lambda value: parse_time(value) == wanted
    return lambda value: bool(value == wanted)


def _unquote(text: str) -> str:
    return text[1:-1] if len(text) >= 2 and text[0] == text[-1] == '"' else text


def _bound(field: str, kind: Kind, text: str) -> Any:
    if kind is Kind.BOOLEAN:
        raise invalid_value(text, field, kind.value)
    return coerce(kind, _unquote(text), name=field)


def _comparison(sign: str, bound: Any, kind: Kind) -> Callable[[Any], bool]:
    def order(value: Any) -> int:
        mine = parse_time(value) if kind is Kind.TIME else str(value) if kind is Kind.TEXT else value
        return int(mine > bound) - int(mine < bound)

    match sign:
        case "<":
            return lambda value: order(value) < 0
        case "<=":
            return lambda value: order(value) <= 0
        case ">":
            return lambda value: order(value) > 0
        case _:
            return lambda value: order(value) >= 0


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def parse_order(text: str) -> list[tuple[str, bool]]:
    """``a desc,b`` as (field, descending) pairs; raises ``ApiError`` 262197 for another direction."""
    order = []
    for part in text.split(","):
        words = part.split()
        if not words:
            continue
        direction = words[1].lower() if len(words) > 1 else "asc"
        if len(words) > 2 or direction not in ("asc", "desc"):
            raise invalid_value(part, "order_by", "<field> [asc|desc],...")
        order.append((words[0], direction == "desc"))
    return order


def put_in_order(records: list[T], order: Sequence[tuple[str, bool]], value: Callable[[T, str], Any]) -> list[T]:
    """Records by several (field, descending) pairs, the first one first; unset values come last in either direction."""
    for name, descending in reversed(order):
        told = [(value(record, name), record) for record in records]
        unset = [record for mine, record in told if mine is None]
        told = [(mine, record) for mine, record in told if mine is not None]
        records = [record for _, record in sorted(told, key=lambda pair: pair[0], reverse=descending)] + unset
    return records
