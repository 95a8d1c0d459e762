"""Values on the wire: kinds of fields, and how loosely typed JSON becomes them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any

from labenv.clock import EPOCH
from labenv.ontap.errors import ApiError, invalid_value

_SIZE = re.compile(r"^(\d+(?:\.\d+)?)\s*([KMGTP]?)B?$", re.IGNORECASE)
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40, "P": 1 << 50}


class Kind(Enum):
    """Types of fields."""

    TEXT = "string"
    INTEGER = "integer"
    SIZE = "size"
    BOOLEAN = "boolean"
    TIME = "date-time"
    OBJECTS = "array of objects"
    TEXTS = "array of strings"


def parse_size(text: str) -> int:
    """Bytes of ``20MB``, ``1.5g`` or ``4096`` (units of 1,024); raises ValueError."""
    match = _SIZE.match(text.strip())
    if match is None:
        raise ValueError(text)
    return (
        int(float(match[1]) * _UNITS[match[2].upper()]) if "." in match[1] else int(match[1]) * _UNITS[match[2].upper()]
    )


def parse_boolean(text: str) -> bool:
    """``true``, ``false`` and their kin; raises ValueError."""
    word = text.strip().lower()
    if word in ("true", "yes", "1", "on"):
        return True
    if word in ("false", "no", "0", "off"):
        return False
    raise ValueError(text)


def parse_time(text: str) -> int:
    """Microseconds since 1970 of an ISO 8601 time (UTC if it names no zone); raises ValueError."""
    when = datetime.fromisoformat(text.strip())
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return int((when - EPOCH) / timedelta(microseconds=1))


def show_time(microseconds: int) -> str:
    """ISO 8601 with zone, whole seconds, as the API prints times."""
    return (EPOCH + timedelta(seconds=microseconds // 1_000_000)).isoformat()


def coerce(kind: Kind, value: Any, *, name: str, choices: tuple[str, ...] = ()) -> Any:
    """The Python value of a JSON value or of a query string; raises ``ApiError`` 262197 naming the field."""
    if value is None:
        return None
    try:
        result = _coerce(kind, value)
    except (ValueError, TypeError, OverflowError):
        raise invalid_value(value, name, kind.value) from None
    if choices and result not in choices:
        folded = str(result).lower().replace("-", "_")
        if folded not in choices:
            raise invalid_value(value, name, "|".join(choices))
        return folded
    return result


def _coerce(kind: Kind, value: Any) -> Any:
    if kind is Kind.TEXT:
        if isinstance(value, dict | list):
            raise TypeError
        return str(value).lower() if isinstance(value, bool) else str(value)
    if kind is Kind.BOOLEAN:
        return value if isinstance(value, bool) else parse_boolean(str(value))
    if kind in (Kind.INTEGER, Kind.SIZE):
        if isinstance(value, bool):
            raise TypeError
        if isinstance(value, int):
            return value
        if isinstance(value, float):
            if not value.is_integer():
                raise ValueError
            return int(value)
        text = str(value)
        return parse_size(text) if kind is Kind.SIZE and not text.startswith("-") else int(text)
    if kind is Kind.TIME:
        return parse_time(str(value))
    if kind is Kind.TEXTS:
        items = value if isinstance(value, list) else [v for v in str(value).split(",") if v]
        return [str(item) for item in items]
    items = value if isinstance(value, list) else [value]
    if not all(isinstance(item, dict) for item in items):
        raise TypeError
    return items


def flatten(body: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested and dotted keys as dotted keys; objects inside lists are flattened on their own.

    Raises:
        ApiError: 262188 if a field is given twice.
    """
    flat: dict[str, Any] = {}
    for key, value in body.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            parts = flatten(value, f"{name}.")
        elif isinstance(value, list):
            parts = {name: [flatten(item) if isinstance(item, dict) else item for item in value]}
        else:
            parts = {name: value}
        for part, inner in parts.items():
            if part in flat and flat[part] != inner:
                raise ApiError("262188", field=part, target=part)
            flat[part] = inner
    return flat


def nest(flat: dict[str, Any]) -> dict[str, Any]:
    """Dotted keys as nested objects; None is left out."""
    nested: dict[str, Any] = {}
    for name, value in flat.items():
        if value is None:
            continue
        *parents, last = name.split(".")
        place = nested
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = value
    return nested
