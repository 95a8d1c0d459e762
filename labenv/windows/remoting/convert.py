"""PowerShell's conversions of an argument to a parameter's type."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from uuid import UUID

from labenv.windows.objects import PsEnum, PsObject
from labenv.windows.remoting.clixml import text_of, type_name_of
from labenv.windows.remoting.signatures import Parameter
from labenv.windows.remoting.values import Credential, ScriptBlock

_RANGES = {
    "Byte": (0, 255),
    "SByte": (-128, 127),
    "Int16": (-(1 << 15), (1 << 15) - 1),
    "UInt16": (0, (1 << 16) - 1),
    "Int32": (-(1 << 31), (1 << 31) - 1),
    "UInt32": (0, (1 << 32) - 1),
    "Int64": (-(1 << 63), (1 << 63) - 1),
    "UInt64": (0, (1 << 64) - 1),
}
_UNITS = {"kb": 1 << 10, "mb": 1 << 20, "gb": 1 << 30, "tb": 1 << 40, "pb": 1 << 50}
_NUMBER = re.compile(r"([+-]?(?:0x[0-9a-f]+|\d+(?:\.\d+)?(?:e[+-]?\d+)?))(kb|mb|gb|tb|pb)?", re.I)
_SPAN = re.compile(r"(-)?(?:(\d+)\.)?(\d{1,2}):(\d{1,2})(?::(\d{1,2})(?:\.(\d{1,7}))?)?")


class CannotConvert(Exception):
    """The argument does not fit the type; the text is PowerShell's reason, ``error_id`` a class's id for it."""

    error_id = "CannotConvertArgumentNoMessage"


class NotBoolean(CannotConvert):
    """The argument is neither a Boolean nor a number."""

    error_id = "CannotConvertArgument"


class NotAccepted(Exception):
    """The argument has the right type but is not one of the accepted values."""


class ScriptRefused(Exception):
    """The argument is program text."""


def convert(value: object, parameter: Parameter) -> object:
    """The argument as the parameter's type: str, bool, int, float, UUID, datetime, timedelta, list, dict, ...

    Raises CannotConvert, NotAccepted or ScriptRefused. An array parameter takes a scalar as an array of one.
    """
    type_name = parameter.type
    if isinstance(value, ScriptBlock) or type_name.removesuffix("[]") == "ScriptBlock":
        raise ScriptRefused
    if type_name == "StringCollection":
        type_name = "String[]"
    if type_name.endswith("[]"):
        if value is None:
            return None
        element = type_name[:-2]
        items = value if isinstance(value, (list, tuple)) else [value]
        return [_scalar(item, element, parameter) for item in items]
    return _scalar(value, type_name, parameter)


def _scalar(value: object, type_name: str, parameter: Parameter) -> object:
    if type_name in _RANGES:
        number = _integer(value, type_name)
        if parameter.values and str(number) not in parameter.values:
            raise NotAccepted(str(number))
        return number
    converter = _CONVERTERS.get(type_name)
    if converter is not None:
        converted = converter(value)
        if parameter.values and isinstance(converted, str) and type_name == "String":
            return _listed(converted, parameter.values)
        return converted
    if parameter.values:
        return _enum(value, type_name, parameter.values)
    if isinstance(value, PsObject):
        wanted = parameter.pipeline
        if wanted and not any(t.rsplit(".", 1)[-1] == wanted for t in value.types):
            raise CannotConvert(_reason(value, type_name))
        return value
    raise CannotConvert(_reason(value, type_name))


def _reason(value: object, type_name: str) -> str:
    shown = text_of(value)[:100]
    if value is None:
        return f'Cannot convert null to type "{type_name}".'
    return f'Cannot convert the "{shown}" value of type "{type_name_of(value)}" to type "{type_name}".'


def _listed(text: str, values: Mapping[str, int | None]) -> str:
    for name in values:
        if name.lower() == text.lower():
            return name
    raise NotAccepted(text)


def _enum(value: object, type_name: str, values: Mapping[str, int | None]) -> str:
    if isinstance(value, PsEnum):
        value = value.name
    if isinstance(value, bool) or value is None:
        raise CannotConvert(_reason(value, type_name))
    if isinstance(value, int):
        for name, number in values.items():
            if number == value:
                return name
        raise CannotConvert(_reason(value, type_name))
    if isinstance(value, str):
        for name in values:
            if name.lower() == value.strip().lower():
                return name
        listed = ", ".join(values)
        raise CannotConvert(
            f'Cannot convert value "{value[:100]}" to type "{type_name}". Unable to match the identifier name '
            f"{value[:100]} to a valid enumerator name. Specify one of the following enumerator names and try again: "
            f"{listed}"
        )
    raise CannotConvert(_reason(value, type_name))


def _integer(value: object, type_name: str) -> int:
    number: float
    if isinstance(value, (bool, int)):
        number = int(value)
    elif isinstance(value, float):
        if value != value or value in (float("inf"), float("-inf")):
            raise CannotConvert(_reason(value, type_name))
        number = round(value)
    elif isinstance(value, str):
        number = _parse(value, type_name)
    else:
        raise CannotConvert(_reason(value, type_name))
    low, high = _RANGES[type_name]
    if not low <= number <= high:
        raise CannotConvert(
            f'Cannot convert value "{text_of(value)[:100]}" to type "{type_name}". Error: "Value was either too large '
            f'or too small for {type_name}."'
        )
    return int(number)


def _parse(text: str, type_name: str) -> int:
    if not text.strip():
        return 0
    match = _NUMBER.fullmatch(text.strip())
    if match is None or len(text) > 60:
        raise CannotConvert(
            f'Cannot convert value "{text[:100]}" to type "{type_name}". Error: "Input string was not in a correct '
            f'format."'
        )
    digits, unit = match.groups()
    factor = _UNITS[unit.lower()] if unit else 1
    if "x" in digits.lower():
        return int(digits, 16) * factor
    if digits.lstrip("+-").isdigit():
        return int(digits) * factor
    value = float(digits)
    return round(value * factor) if abs(value) < 1e30 else 1 << 70


def _string(value: object) -> str:
    if isinstance(value, (list, tuple)):
        return " ".join(text_of(item) for item in value)
    return text_of(value)


def _boolean(value: object) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, (int, float)):
        return value != 0
    raise NotBoolean(
        f'Cannot convert value "{type_name_of(value)}" to type "System.Boolean". Boolean parameters accept only '
        f"Boolean values and numbers, such as $True, $False, 1 or 0."
    )


def _switch(value: object) -> bool:
    return True if value is None else _boolean(value)


def _guid(value: object) -> UUID:
    if isinstance(value, UUID):
        return value
    if isinstance(value, str):
        try:
            return UUID(value.strip())
        except ValueError:
            pass
    raise CannotConvert(_reason(value, "Guid"))


def _moment(value: object) -> datetime:
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value.strip())
        except ValueError:
            raise CannotConvert(_reason(value, "System.DateTime")) from None
    if not isinstance(value, datetime):
        raise CannotConvert(_reason(value, "System.DateTime"))
    return value if value.tzinfo else value.replace(tzinfo=UTC)


def _span(value: object) -> timedelta:
    if isinstance(value, timedelta):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return timedelta(microseconds=value / 10)
    if isinstance(value, str) and (match := _SPAN.fullmatch(value.strip())):
        sign, days, hours, minutes, seconds, fraction = match.groups()
        ticks = int((fraction or "0").ljust(7, "0"))
        span = timedelta(
            days=int(days or 0),
            hours=int(hours),
            minutes=int(minutes),
            seconds=int(seconds or 0),
            microseconds=ticks / 10,
        )
        return -span if sign else span
    raise CannotConvert(_reason(value, "System.TimeSpan"))


def _table(value: object) -> Mapping[object, object]:
    if isinstance(value, Mapping):
        return value
    raise CannotConvert(_reason(value, "System.Collections.Hashtable"))


def _credential(value: object) -> Credential:
    if isinstance(value, Credential):
        return value
    raise CannotConvert(_reason(value, "System.Management.Automation.PSCredential"))


def _character(value: object) -> str:
    text = _string(value)
    if len(text) != 1:
        raise CannotConvert(_reason(value, "System.Char"))
    return text


def _double(value: object) -> float:
    if isinstance(value, (int, float)):
        return float(value)
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            pass
    raise CannotConvert(_reason(value, "System.Double"))


def _anything(value: object) -> object:
    return value


_CONVERTERS: Mapping[str, Callable[[object], object]] = {
    "String": _string,
    "Boolean": _boolean,
    "SwitchParameter": _switch,
    "Guid": _guid,
    "DateTime": _moment,
    "TimeSpan": _span,
    "Hashtable": _table,
    "IDictionary": _table,
    "PSCredential": _credential,
    "Char": _character,
    "Double": _double,
    "Single": _double,
    "Version": _string,
    "Uri": _string,
    "XmlDocument": _string,
    "Object": _anything,
    "PSObject": _anything,
}
