"""Values on their way back from PowerShell: plain Python values, and objects as case-insensitive records."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import psrpcore.types as ps

from smhvlab.secrets import HIDDEN
from smhvlab.wires.clixml import Reader, Unusual, text_of

_ENUM = "System.Enum"
_NO_CIPHER: Any = None  # nothing encrypted is ever read back


class Record(Mapping[str, Any]):
    """An object that came over PowerShell remoting: its properties by name, whatever their case.

    Where the host has added a property to an object that has one of that name already, the added one counts, as in
    PowerShell. Values are None, bool, int, float, str, bytes, UUID, datetime (aware, if the host says its zone),
    timedelta, Decimal, list, dict and `Record`. An enum is its name. What the host flattened is its text.

    Attributes:
        types: .NET type names, most derived first.
        text: what ToString() gave, "" if it was not sent.
    """

    __slots__ = ("_names", "_values", "text", "types")

    def __init__(self, values: Mapping[str, object], *, types: Sequence[str] = (), text: str = "") -> None:
        self._values = dict(values)
        self._names = {name.lower(): name for name in values}
        self.types = tuple(types)
        self.text = text

    def __getitem__(self, name: str) -> Any:
        try:
            return self._values[self._names[name.lower()]]
        except KeyError:
            raise KeyError(f"{self.kind} has no property {name}; it has {', '.join(sorted(self._values))}") from None

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __bool__(self) -> bool:
        # An object without properties is still an object.
        return True

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Record) and (self._values, self.types) == (other._values, other.types)

    __hash__ = None  # type: ignore[assignment]  # holds lists and dicts

    def __str__(self) -> str:
        return self.text or repr(self)

    def __repr__(self) -> str:
        return f"{self.kind}({', '.join(f'{name}={value!r}' for name, value in self._values.items())})"

    @property
    def kind(self) -> str:
        """Last part of the most derived type name, e.g. ``VirtualMachine``; ``Record`` if there is none."""
        name = self.types[0] if self.types else "Record"
        return name.rpartition("/")[2].rpartition(".")[2] or name

    def is_a(self, suffix: str) -> bool:
        """Whether one of the type names ends in this text."""
        return any(name.endswith(suffix) for name in self.types)


def decode(xml: str) -> object:
    """One output object from its CLIXML. Raises ValueError if it is none."""
    if (text := text_of(xml)) is not None:
        return text
    try:
        element = ET.fromstring(xml)  # noqa: S314  # from an authenticated host over TLS
        try:
            return Reader(_record).value(element)
        except Unusual:
            return plain(ps.deserialize(element, _NO_CIPHER))
    except (ET.ParseError, KeyError, TypeError, AttributeError) as problem:
        raise ValueError(f"not CLIXML: {type(problem).__name__}: {problem}") from problem


def _record(values: Mapping[str, object], types: Sequence[str], text: str) -> Record:
    return Record(values, types=types, text=text)


def plain(value: Any) -> object:
    """A value of psrpcore as plain Python."""
    if value is None or isinstance(value, bool):
        return value
    meta: Any = getattr(value, "PSObject", None)
    types = [name.removeprefix("Deserialized.") for name in (meta.type_names if meta is not None else ())]
    if _ENUM in types:
        return meta.to_string or getattr(value, "name", None) or int(value)
    for kind, convert in _PRIMITIVES:
        if isinstance(value, kind):
            return convert(value)
    if isinstance(value, Mapping):
        return {str(plain(name)): plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, ps.PSQueue):
        return [plain(value.get()) for _ in range(value.qsize())]
    if isinstance(value, ps.PSSecureString):
        return HIDDEN
    if meta is None:
        return str(value)
    values: dict[str, object] = {}
    for prop in (*meta.extended_properties, *meta.adapted_properties):
        if prop.name not in values:
            values[prop.name] = plain(prop.get_value(value))
    return Record(values, types=types, text=meta.to_string or "")


_PRIMITIVES: Sequence[tuple[type, Any]] = (
    (str, str.__str__),
    (ps.PSChar, lambda value: chr(int(value))),
    (int, int),
    (float, float),
    (bytes, bytes),
    (UUID, lambda value: UUID(int=value.int)),
    (
        datetime,
        lambda value: datetime.fromtimestamp(value.timestamp(), value.tzinfo) if value.tzinfo else _naive(value),
    ),
    (timedelta, lambda value: timedelta(days=value.days, seconds=value.seconds, microseconds=value.microseconds)),
    (Decimal, Decimal),
    (ps.PSVersion, str),
)


def _naive(value: datetime) -> datetime:
    return datetime(value.year, value.month, value.day, value.hour, value.minute, value.second, value.microsecond)  # noqa: DTZ001  # the host did not say its zone
