"""Values on their way to PowerShell: mapped by the parameter's declared type, not by their Python type."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import Enum
from pathlib import PurePath
from typing import Any
from uuid import UUID

from smhvlab.errors import Unsendable
from smhvlab.secrets import Secret

_INTEGERS = {
    "byte": (0, 0xFF),
    "int16": (-(2**15), 2**15 - 1),
    "uint16": (0, 2**16 - 1),
    "int32": (-(2**31), 2**31 - 1),
    "uint32": (0, 2**32 - 1),
    "int64": (-(2**63), 2**63 - 1),
    "uint64": (0, 2**64 - 1),
}
_FLOATS = frozenset({"single", "double", "decimal"})
_BOOLEANS = frozenset({"switchparameter", "boolean"})
_SECRET_NAME = re.compile(r"password|secret|passphrase", re.IGNORECASE)
# PowerShell ends a single-quoted string at any of these, and takes any of them doubled as one inside it.
_QUOTES = re.compile("(['\u2018\u2019\u201a\u201b])")
_BARE = re.compile(r"[A-Za-z0-9_./\\:=-]+\Z")


@dataclass(frozen=True)
class Credential:
    """A user and password for a -Credential parameter; on the wire the password is encrypted once more."""

    user: str
    password: Secret


def ps_value(value: object, declared: str, *, where: str, credential: Callable[[Credential], object]) -> object:
    """A Python value as pypsrp must get it, so that it arrives as the declared type.

    Args:
        value: what the caller gave. Enums may be given as their name; a datetime goes as ISO text.
        declared: the parameter's type, e.g. ``String[]``, ``UInt64``, ``SwitchParameter``.
        where: cmdlet and parameter, for the error.
        credential: makes the wire's form of a `Credential`.

    Raises:
        Unsendable: the value cannot become the declared type.
    """
    from pypsrp.serializer import TaggedValue

    kind = declared.lower()
    if kind == "scriptblock":
        raise _refusal(value, declared, where, "script text is never sent")
    if kind.endswith("[]") or kind == "stringcollection":
        inner = "string" if kind == "stringcollection" else declared[:-2]
        items = list(value) if isinstance(value, (list, tuple)) else [value]
        return [ps_value(item, inner, where=where, credential=credential) for item in items]
    if kind in _BOOLEANS:
        # None would turn a switch on, and 0 or "no" are easily mistaken.
        if not isinstance(value, bool):
            raise _refusal(value, declared, where, "give True or False")
        return value
    if value is None:
        return None
    if isinstance(value, Credential):
        return credential(value)
    if isinstance(value, Secret):
        return value.reveal()
    if isinstance(value, bool):
        return value
    if kind in _INTEGERS:
        return _integer(value, declared, where, TaggedValue)
    if kind in _FLOATS:
        if not isinstance(value, (int, float)):
            raise _refusal(value, declared, where, "give a number")
        return TaggedValue("Db", repr(float(value)))
    if kind == "guid":
        try:
            return value if isinstance(value, UUID) else UUID(str(value))
        except ValueError:
            raise _refusal(value, declared, where, "give a GUID") from None
    if isinstance(value, int):
        return _integer(value, "Int64" if value < 2**63 else "UInt64", where, TaggedValue)
    return _free(value, where, TaggedValue, credential)


def _free(value: object, where: str, tagged: Any, credential: Callable[[Credential], object]) -> object:
    """A value for a parameter of type Object, String, an enum, Hashtable, DateTime or TimeSpan."""
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, float):
        return tagged("Db", repr(value))
    if isinstance(value, (datetime, date)):
        return value.isoformat()
    if isinstance(value, timedelta):
        return tagged("TS", f"PT{value.total_seconds():f}".rstrip("0").rstrip(".") + "S")
    if isinstance(value, (str, bytes, UUID)):
        return value
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, Mapping):
        return {
            str(name): ps_value(item, "Object", where=f"{where}.{name}", credential=credential)
            for name, item in value.items()
        }
    if isinstance(value, Sequence):
        return [ps_value(item, "Object", where=where, credential=credential) for item in value]
    raise _refusal(value, type(value).__name__, where, "live objects do not travel; name the object instead")


def _integer(value: object, declared: str, where: str, tagged: Any) -> object:
    low, high = _INTEGERS[declared.lower()]
    if not isinstance(value, int) or not low <= value <= high:
        raise _refusal(value, declared, where, f"give a whole number from {low} to {high}")
    if -(2**31) <= value < 2**31:
        return int(value)
    # pypsrp would write it as Int32 text that no deserialiser can read.
    return tagged("I64" if value < 2**63 else "U64", int(value))


def _refusal(value: object, declared: str, where: str, hint: str) -> Unsendable:
    shown = "a secret" if isinstance(value, (Secret, Credential)) else type(value).__name__
    return Unsendable(f"{where} is a {declared} and cannot take {shown}", next_action=hint[0].upper() + hint[1:] + ".")


# --- the same values as text to copy ---------------------------------------------------------------------------------


def literal(value: object, *, redact: Callable[[str], str] = str) -> str:
    """The value as a PowerShell literal, e.g. ``'O''Brien'``, ``$true``, ``@('a', 'b')``."""
    if value is None:
        return "$null"
    if isinstance(value, bool):
        return "$true" if value else "$false"
    if isinstance(value, Enum):
        return quoted(value.name)
    if isinstance(value, int):
        if -(2**31) <= value < 2**31:
            return str(int(value))
        return f"[{'long' if value < 2**63 else 'uint64'}]{quoted(str(int(value)))}"
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, timedelta):
        return f"[timespan]::FromSeconds({value.total_seconds()!r})"
    if isinstance(value, (datetime, date)):
        return quoted(value.isoformat())
    if isinstance(value, (bytes, bytearray)):
        return f"([byte[]]({', '.join(str(byte) for byte in value)}))"
    if isinstance(value, Secret):
        return "$Secret"
    if isinstance(value, Credential):
        return "$Credential"
    if isinstance(value, Mapping):
        pairs = (f"{quoted(str(name))} = {literal(item, redact=redact)}" for name, item in value.items())
        return "@{" + "; ".join(pairs) + "}"
    if isinstance(value, (list, tuple)):
        items = ", ".join(literal(item, redact=redact) for item in value)
        return items if len(value) > 1 else f"@({items})"
    return quoted(redact(str(value)))


def parameter_text(name: str, value: object, declared: str, *, redact: Callable[[str], str] = str) -> str:
    """A parameter with its value as text, e.g. ``-Name 'sql01'``, ``-Force``, ``-Confirm:$false``."""
    if _SECRET_NAME.search(name) and value is not None:
        return f"-{name} ${name}"
    if declared.lower() == "switchparameter":
        return f"-{name}" if value is True else f"-{name}:$false"
    if declared.lower().startswith("bare"):
        # Our own words, e.g. Stop or property names: nothing in them needs quotes.
        return f"-{name} {', '.join(value) if isinstance(value, list) else value}"
    return f"-{name} {literal(value, redact=redact)}"


def quoted(text: str) -> str:
    """The text as a single-quoted string: nothing in it is expanded."""
    return "'" + _QUOTES.sub(r"\1\1", text) + "'"


def argument_text(text: str, *, redact: Callable[[str], str] = str) -> str:
    """An argument of a native program, quoted only where PowerShell would act on it."""
    shown = redact(text)
    return shown if _BARE.match(shown) else quoted(shown)
