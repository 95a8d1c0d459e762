"""Live objects written as CLIXML by the depth rules of PowerShell's remoting serialiser."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from uuid import UUID
from xml.sax.saxutils import escape

from labenv.windows.objects import Int64, PsEnum, PsList, PsObject, UInt16, UInt32, UInt64

REMOTING_DEPTH = 1
"""How deep a returned object keeps its structure: its own properties, not those of what it holds."""

_UNSAFE = re.compile("(_(?=[xX])|[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff\U00010000-\U0010ffff])")
_SPECIAL = re.compile(f"[&<>]|{_UNSAFE.pattern}")
_INTEGERS: tuple[tuple[type[int], str], ...] = (
    (UInt16, "U16"),
    (UInt32, "U32"),
    (UInt64, "U64"),
    (Int64, "I64"),
)
_CUSTOM = "System.Management.Automation.PSCustomObject"


@dataclass(frozen=True)
class Version:
    """A System.Version, e.g. ``5.1``."""

    text: str


def encode(text: str) -> str:
    """A string as CLIXML element text: unsafe UTF-16 code units as ``_xHHHH_``, then XML escapes."""
    if _SPECIAL.search(text) is None:
        return text
    parts = _UNSAFE.split(text)
    parts[1::2] = map(_code_units, parts[1::2])
    return escape("".join(parts))


@lru_cache(256)
def _code_units(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass").hex().upper()
    return "".join(f"_x{units[i : i + 4]}_" for i in range(0, len(units), 4))


def duration(value: timedelta) -> str:
    """A TimeSpan in its XML form, e.g. ``PT1H30M`` or ``P1DT0.5S``."""
    microseconds = value // timedelta(microseconds=1)
    sign = "-" if microseconds < 0 else ""
    seconds, fraction = divmod(abs(microseconds), 1_000_000)
    days, seconds = divmod(seconds, 86400)
    hours, seconds = divmod(seconds, 3600)
    minutes, seconds = divmod(seconds, 60)
    time = f"{hours}H" if hours else ""
    time += f"{minutes}M" if minutes else ""
    if fraction:
        time += f"{seconds}.{fraction:06d}".rstrip("0") + "S"
    elif seconds:
        time += f"{seconds}S"
    day = f"{days}D" if days else ""
    if not day and not time:
        return "PT0S"
    return f"{sign}P{day}" + (f"T{time}" if time else "")


def moment(value: datetime) -> str:
    """A DateTime in round-trip form, without trailing zeros in its fraction."""
    text = value.replace(microsecond=0).isoformat()
    if not value.microsecond:
        return text
    return f"{text[:19]}.{value.microsecond:06d}".rstrip("0") + text[19:]


def text_of(value: object) -> str:
    """What ToString() gives."""
    if value is None:
        return ""
    if isinstance(value, PsEnum):
        return value.name
    if isinstance(value, PsList):
        return value.type_name
    if isinstance(value, bool):
        return "True" if value else "False"
    if isinstance(value, PsObject):
        if value.text is not None:
            return value.text
        if _CUSTOM in value.types:
            return "@{" + "; ".join(f"{k}={text_of(v)}" for k, v in value.notes.items()) + "}"
        return value.types[0]
    if isinstance(value, Mapping):
        return "System.Collections.Hashtable"
    if isinstance(value, (list, tuple)):
        return "System.Object[]"
    if isinstance(value, timedelta):
        return str(value)
    if isinstance(value, Version):
        return value.text
    return str(value)


def type_name_of(value: object) -> str:
    """The full .NET type name of a value."""
    if isinstance(value, PsObject):
        return value.types[0]
    if isinstance(value, (PsEnum, PsList)):
        return value.type_name
    for kind, name in _TYPE_NAMES:
        if isinstance(value, kind):
            return name
    return "System.Object"


_TYPE_NAMES: tuple[tuple[type | tuple[type, ...], str], ...] = (
    (bool, "System.Boolean"),
    (UInt16, "System.UInt16"),
    (UInt32, "System.UInt32"),
    (UInt64, "System.UInt64"),
    (Int64, "System.Int64"),
    (int, "System.Int32"),
    (float, "System.Double"),
    (str, "System.String"),
    (bytes, "System.Byte[]"),
    (UUID, "System.Guid"),
    (datetime, "System.DateTime"),
    (timedelta, "System.TimeSpan"),
    (Mapping, "System.Collections.Hashtable"),
    ((list, tuple), "System.Object[]"),
)


class Writer:
    """Writes one CLIXML document. References and type names are numbered per document, so use a new one for each."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self._objects = 0
        self._types: dict[tuple[str, ...], int] = {}
        self._written: dict[int, tuple[int, object]] = {}

    def document(self) -> bytes:
        """What has been written, with the byte order mark that Windows puts in front."""
        return ("\ufeff" + "".join(self.parts)).encode("utf-8", "surrogatepass")

    def raw(self, text: str) -> None:
        """Append markup as it is."""
        self.parts.append(text)

    def element(self, tag: str, text: str, name: str | None = None) -> None:
        """Append one element with text that needs no escaping."""
        self.parts.append(f"<{tag}{_named(name)}>{text}</{tag}>")

    def value(self, value: object, *, name: str | None = None, depth: int = REMOTING_DEPTH) -> None:
        """Append a value; ``depth`` levels below it keep their structure, deeper ones become their text."""
        if type(value) is str:  # the most of what there is
            self.parts.append(f"<S{_named(name)}>{encode(value)}</S>")
            return
        simple = _simple(value)
        if simple is not None:
            self.element(*simple, name)
        elif value is None:
            self.parts.append(f"<Nil{_named(name)} />")
        elif isinstance(value, (PsList, list, tuple, Mapping)):
            self._container(value, name, depth)
        elif isinstance(value, PsObject):
            self._object(value, name, REMOTING_DEPTH if value.cim else depth)
        elif isinstance(value, PsEnum):
            self._enum(value, name, depth)
        else:
            raise TypeError(f"a {type(value).__name__} has no CLIXML form")

    def open_object(self, types: Sequence[str], name: str | None = None) -> int:
        """Open an Obj element with its type names; returns its reference number."""
        number = self._objects
        self._objects += 1
        self.parts.append(f'<Obj{_named(name)} RefId="{number}">')
        if types:
            key = tuple(types)
            known = self._types.get(key)
            if known is None:
                known = self._types[key] = len(self._types)
                self.parts.append(f'<TN RefId="{known}">{_type_names(key)}</TN>')
            else:
                self.parts.append(f'<TNRef RefId="{known}" />')
        return number

    def close_object(self) -> None:
        """Close the innermost Obj element."""
        self.parts.append("</Obj>")

    def _reference(self, value: object, name: str | None) -> bool:
        known = self._written.get(id(value))
        if known is None:
            return False
        self.parts.append(f'<Ref{_named(name)} RefId="{known[0]}" />')
        return True

    def _enum(self, value: PsEnum, name: str | None, depth: int) -> None:
        if depth <= 0:
            self.element("S", encode(value.name), name)
            return
        self.open_object((value.type_name, "System.Enum", "System.ValueType", "System.Object"), name)
        self.element("ToString", encode(value.name))
        self.element("I32", str(value.value))
        self.close_object()

    def _container(
        self, value: PsList | Sequence[object] | Mapping[object, object], name: str | None, depth: int
    ) -> None:
        if self._reference(value, name):
            return
        if isinstance(value, Mapping):
            number = self.open_object(("System.Collections.Hashtable", "System.Object"), name)
        elif isinstance(value, PsList) and not value.type_name.endswith("[]"):
            number = self.open_object((value.type_name, "System.Object"), name)
        else:
            type_name = value.type_name if isinstance(value, PsList) else "System.Object[]"
            number = self.open_object((type_name, "System.Array", "System.Object"), name)
        self._written[id(value)] = (number, value)
        if isinstance(value, Mapping):
            self.parts.append("<DCT>")
            for key, item in value.items():
                self.parts.append("<En>")
                self.value(key, name="Key", depth=depth)
                self.value(item, name="Value", depth=depth)
                self.parts.append("</En>")
            self.parts.append("</DCT>")
        else:
            items = value.items if isinstance(value, PsList) else value
            self.parts.append("<LST>")
            for item in items:
                self.value(item, depth=depth)
            self.parts.append("</LST>")
        self.close_object()

    def _object(self, value: PsObject, name: str | None, depth: int) -> None:
        if depth <= 0:
            self.element("S", encode(text_of(value)), name)
            return
        if self._reference(value, name):
            return
        number = self.open_object(value.types, name)
        self._written[id(value)] = (number, value)
        if value.text is not None:
            self.element("ToString", encode(value.text))
        elif value.types and _CUSTOM not in value.types:
            self.element("ToString", encode(value.types[0]))
        if value.properties:
            self.parts.append("<Props>")
            for key, item in value.properties.items():
                self.value(item, name=key, depth=depth - 1)
            self.parts.append("</Props>")
        if value.notes:
            self.parts.append("<MS>")
            for key, item in value.notes.items():
                self.value(item, name=key, depth=depth)
            self.parts.append("</MS>")
        self.close_object()


@lru_cache(1024)
def _type_names(types: tuple[str, ...]) -> str:
    return "".join(f"<T>{encode(t)}</T>" for t in types)


@lru_cache(1024)
def _named(name: str | None) -> str:
    return "" if name is None else f' N="{encode(name).replace(chr(34), "&quot;")}"'


def _simple(value: object) -> tuple[str, str] | None:
    """Tag and text of a value that keeps its type at any depth; None for everything else."""
    if value is None or isinstance(value, (PsObject, PsEnum, PsList)):
        return None
    if isinstance(value, str):
        return "S", encode(value)
    if isinstance(value, bool):
        return "B", "true" if value else "false"
    if isinstance(value, int):
        for kind, tag in _INTEGERS:
            if isinstance(value, kind):
                return tag, str(int(value))
        return ("I32" if -(1 << 31) <= value < 1 << 31 else "I64"), str(value)
    if isinstance(value, UUID):
        return "G", str(value)
    if isinstance(value, datetime):
        return "DT", moment(value)
    if isinstance(value, timedelta):
        return "TS", duration(value)
    if isinstance(value, float):
        return "Db", repr(value)
    if isinstance(value, bytes):
        return "BA", base64.b64encode(value).decode()
    if isinstance(value, Decimal):
        return "D", str(value)
    if isinstance(value, Version):
        return "Version", value.text
    return None


def serialize(value: object, *, depth: int = REMOTING_DEPTH) -> bytes:
    """One value as the body of a PIPELINE_OUTPUT message; raises TypeError for what has no CLIXML form."""
    writer = Writer()
    writer.value(value, depth=depth)
    return writer.document()
