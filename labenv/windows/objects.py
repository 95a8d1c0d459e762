"""The values that cmdlets return, as live .NET-like objects; remoting flattens them by PowerShell's depth rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


class UInt16(int):
    """System.UInt16."""


class UInt32(int):
    """System.UInt32."""


class UInt64(int):
    """System.UInt64."""


class Int64(int):
    """System.Int64. A plain int is System.Int32."""


@dataclass(frozen=True)
class PsEnum:
    """An enum value: over remoting its name, or an object with name and number, depending on depth."""

    type_name: str
    name: str
    value: int


@dataclass(frozen=True)
class PsList:
    """A .NET list or array with its type name, e.g. ``System.String[]``, ``System.Collections.Generic.List`1[...]``."""

    type_name: str
    items: Sequence[object]


@dataclass(frozen=True)
class PsObject:
    """An object with its type names (most derived first), adapted properties, note properties and ToString().

    Values: None, bool, int (Int32), the widths above, float, str, bytes, uuid.UUID, datetime, timedelta, PsEnum,
    PsList, list (object[]), dict (Hashtable), PsObject. ``cim`` marks a CimInstance (always one level deeper).
    """

    types: Sequence[str]
    properties: Mapping[str, object]
    notes: Mapping[str, object] = field(default_factory=dict)
    text: str | None = None
    cim: bool = False
