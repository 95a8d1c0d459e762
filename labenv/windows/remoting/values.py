"""What arrived over PSRP, as plain Python values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

from psrpcore.types import PSCredential, PSDictBase, PSListBase, PSObject, PSScriptBlock, PSSecureString, PSVersion

from labenv.windows.objects import PsObject


@dataclass(frozen=True)
class Credential:
    """A user name and password that a cmdlet was given (PSCredential)."""

    user: str
    password: str = field(repr=False)


@dataclass(frozen=True)
class ScriptBlock:
    """Program text, which the lab never runs; it is kept so that the binder can refuse it by name."""

    text: str


@dataclass(frozen=True)
class Command:
    """One command of a pipeline as it was sent: arguments in order, with their parameter name or None."""

    name: str
    arguments: Sequence[tuple[str | None, object]] = ()
    is_script: bool = False


def plain(value: Any) -> object:
    """A decoded PSRP value as str, bool, int, float, bytes, UUID, datetime, timedelta, list, dict or our own types."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, PSScriptBlock):
        return ScriptBlock(str(value))
    if isinstance(value, PSVersion):
        return str(value)
    if isinstance(value, str):
        return str(value)
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, int):
        return int(value)
    if isinstance(value, (float, Decimal)):
        return float(value)
    if isinstance(value, (bytes, bytearray)):
        return bytes(value)
    if isinstance(value, UUID):
        return UUID(int=value.int)
    if isinstance(value, datetime):
        return datetime.fromisoformat(value.isoformat())
    if isinstance(value, timedelta):
        return timedelta(days=value.days, seconds=value.seconds, microseconds=value.microseconds)
    if isinstance(value, PSSecureString):
        return str(value.decrypt())
    if isinstance(value, PSCredential):
        return Credential(str(value.UserName), str(plain(value.Password)))
    if isinstance(value, (PSDictBase, dict)):
        return {plain(k): plain(v) for k, v in value.items()}
    if isinstance(value, (PSListBase, list)):
        return [plain(item) for item in value]
    if isinstance(value, PSObject):
        return _object(value)
    return str(value)


def _object(value: Any) -> PsObject:
    meta = value.PSObject
    return PsObject(
        types=tuple(meta.type_names),
        properties={p.name: plain(p.get_value(value)) for p in meta.adapted_properties},
        notes={p.name: plain(p.get_value(value)) for p in meta.extended_properties},
        text=meta.to_string,
    )
