"""What a CREATE_PIPELINE message describes: statements of commands, read from the XML that clients usually send."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from uuid import UUID

from labenv.windows.remoting.values import Command, plain

_ESCAPED = re.compile("_x([0-9a-fA-F]{4})_")
_INTEGERS = {"I32": 31, "I64": 63}
_PLAIN_OBJECTS = (None, "System.Object", "System.Management.Automation.PSCustomObject")
_LISTS = (
    "System.Object[]",
    "System.String[]",
    "System.Collections.ArrayList",
    "System.Collections.Generic.List`1[[System.Management.Automation.PSObject,",
)
_MESSAGE = frozenset(
    ("NoInput", "ApartmentState", "RemoteStreamOptions", "AddToHistory", "HostInfo", "PowerShell", "IsNested")
)
_POWERSHELL = frozenset(("Cmds", "IsNested", "History", "RedirectShellErrorOutputPipe"))
_COMMAND = frozenset(
    ("Cmd", "Args", "IsScript", "UseLocalScope", "MergeMyResult", "MergeToResult", "MergePreviousResults")
)
_MERGES = frozenset(("MergeError", "MergeWarning", "MergeVerbose", "MergeDebug", "MergeInformation"))


@dataclass(frozen=True)
class Description:
    """A pipeline as its client has described it."""

    statements: Sequence[Sequence[Command]]
    takes_input: bool


class _Unusual(Exception):
    """The message has something that only psrpcore understands, or refuses."""


def understood(pipeline: Any) -> Description:
    """The description that psrpcore has read (its ``PowerShell``)."""
    statements: list[list[Command]] = [[]]
    for command in pipeline.commands:
        arguments = tuple((None if name is None else str(name), plain(value)) for name, value in command.parameters)
        statements[-1].append(Command(str(command.command_text), arguments, bool(command.is_script)))
        if command.end_of_statement:
            statements.append([])
    return Description([statement for statement in statements if statement], not pipeline.no_input)


def read(data: bytes) -> Description | None:
    """The description in a message, or None if it is not of the usual form and psrpcore has to look at it.

    psrpcore makes objects of everything, which takes twenty times as long. Here only what the lab uses is read: texts,
    numbers, Booleans, GUIDs, null and lists of these; for all else this function stands aside. What both can read they
    read alike.
    """
    try:
        return _Reader(ET.fromstring(data)).description()  # noqa: S314 - the caller refuses document types
    except (_Unusual, ET.ParseError, ValueError, TypeError):
        return None


class _Reader:
    """The elements of one message."""

    def __init__(self, root: ET.Element) -> None:
        self._root = root
        self._types = {each.get("RefId"): each.findtext("T") for each in root.iter("TN")}

    def description(self) -> Description:
        message = self._members(self._root, _MESSAGE)
        powershell = self._members(message["PowerShell"], _POWERSHELL, frozenset(("ExtraCmds",)))
        several = powershell.get("ExtraCmds")
        if several is None or several.tag == "Nil":
            lists = [powershell["Cmds"]]
        else:
            lists = [self._members(each, frozenset(("Cmds",)))["Cmds"] for each in self._items(several)]
        statements = [[self._command(each) for each in self._items(one)] for one in lists]
        if not statements or not statements[0]:
            raise _Unusual
        return Description([each for each in statements if each], takes_input=not self._flag(message["NoInput"]))

    def _command(self, element: ET.Element) -> Command:
        members = self._members(element, _COMMAND, _MERGES)
        pairs = [self._members(each, frozenset("NV")) for each in self._items(members["Args"])]
        arguments = tuple((self._name(pair["N"]), self._value(pair["V"])) for pair in pairs)
        if members["Cmd"].tag != "S":
            raise _Unusual
        return Command(_text(members["Cmd"]), arguments, self._flag(members["IsScript"]))

    def _name(self, element: ET.Element) -> str | None:
        if element.tag not in ("S", "Nil"):
            raise _Unusual
        return _text(element) if element.tag == "S" else None

    def _flag(self, element: ET.Element) -> bool:
        if element.tag != "B":
            raise _Unusual
        return (element.text or "").lower() == "true"

    def _value(self, element: ET.Element) -> object:
        kind = element.tag
        if kind == "S":
            return _text(element)
        if kind == "B":
            return self._flag(element)
        if kind == "Nil":
            return None
        if kind == "Obj":
            return [self._value(each) for each in self._items(element)]
        if kind == "G":
            return UUID(element.text)
        if kind not in _INTEGERS:
            raise _Unusual
        number = int(element.text or "")
        if not -1 << _INTEGERS[kind] <= number < 1 << _INTEGERS[kind]:
            raise _Unusual
        return number

    def _items(self, element: ET.Element) -> Iterable[ET.Element]:
        """The elements of a list of a known type."""
        kind, parts = self._parts(element)
        if len(parts) != 1 or parts[0].tag != "LST" or not (kind or "").startswith(_LISTS):
            raise _Unusual
        return parts[0]

    def _members(
        self, element: ET.Element, needed: frozenset[str], optional: frozenset[str] = frozenset()
    ) -> Mapping[str, ET.Element]:
        """The members of an object, which has those that are needed and no others than these and the optional."""
        kind, parts = self._parts(element)
        bags = [part for part in parts if part.tag != "ToString"]
        if kind not in _PLAIN_OBJECTS or len(bags) != 1 or bags[0].tag != "MS":
            raise _Unusual
        members = {each.get("N", ""): each for each in bags[0]}
        if len(members) != len(bags[0]) or not needed <= members.keys() <= needed | optional:
            raise _Unusual
        return members

    def _parts(self, element: ET.Element) -> tuple[str | None, list[ET.Element]]:
        """The first type name of an object, None if it has none, and its other elements."""
        if element.tag != "Obj":
            raise _Unusual
        types = [part for part in element if part.tag in ("TN", "TNRef")]
        if len(types) > 1 or (types and types[0].get("RefId") not in self._types):
            raise _Unusual
        kind = self._types[types[0].get("RefId")] if types else None
        return kind, [part for part in element if part not in types]


def _text(element: ET.Element) -> str:
    text = element.text or ""
    if "_x" not in text:
        return text
    parts = _ESCAPED.split(text)
    parts[1::2] = map(_character, parts[1::2])
    return "".join(parts).encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")


@lru_cache(256)
def _character(digits: str) -> str:
    return chr(int(digits, 16))
