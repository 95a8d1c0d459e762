"""CLIXML of what nearly every request holds, written and read straight; for the rest pypsrp and psrpcore are asked.

A pipeline is the same message each time but for its names and values, and what comes back is mostly text, numbers and
flat objects. The libraries build an object of every element, which costs more than the request itself.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID
from xml.etree.ElementTree import Element
from xml.sax.saxutils import escape


class Unusual(Exception):
    """Not one of the shapes that are written or read here: ask the library."""


# --- a pipeline on its way out ----------------------------------------------------------------------------------------

_UNDERSCORE: Final = re.compile("_([xX])")
_CONTROL: Final = re.compile("[\u0000-\u001f\u007f-\u009f\U00010000-\U0010ffff]")
_LINE_ENDS: Final = (("\r", "_x000D_"), ("\n", "_x000A_"))
_MANAGEMENT: Final = "System.Management.Automation"
_LIST: Final = (
    f"<T>System.Collections.Generic.List`1[[{_MANAGEMENT}.PSObject, {_MANAGEMENT}, Version=1.0.0.0, Culture=neutral, "
    "PublicKeyToken=31bf3856ad364e35]]</T><T>System.Object</T>"
)
_ENUM: Final = "<T>System.Enum</T><T>System.ValueType</T><T>System.Object</T>"
_HEAD: Final = (
    '<Obj RefId="0"><MS><B N="NoInput">true</B>'
    f'<Obj RefId="1" N="ApartmentState"><TN RefId="0"><T>{_MANAGEMENT}.Runspaces.ApartmentState</T>{_ENUM}</TN>'
    "<ToString>UNKNOWN</ToString><I32>2</I32></Obj>"
    f'<Obj RefId="2" N="RemoteStreamOptions"><TN RefId="1"><T>{_MANAGEMENT}.Runspaces.RemoteStreamOptions</T>{_ENUM}'
    '</TN><ToString>AddInvocationInfo</ToString><I32>15</I32></Obj><B N="AddToHistory">false</B>'
    '<Obj RefId="3" N="HostInfo"><MS><B N="_isHostNull">true</B><B N="_isHostUINull">true</B>'
    '<B N="_isHostRawUINull">true</B><B N="_useRunspaceHost">true</B></MS></Obj>'
    '<Obj RefId="4" N="PowerShell"><MS><B N="IsNested">false</B><Nil N="ExtraCmds" />'
    f'<Obj RefId="5" N="Cmds"><TN RefId="2">{_LIST}</TN><LST>'
)
_TAIL: Final = (
    '</LST></Obj><Nil N="History" /><B N="RedirectShellErrorOutputPipe">false</B></MS></Obj>'
    '<B N="IsNested">false</B></MS></Obj>'
)
_MERGES: Final = ("MergeMyResult", "MergeToResult", "MergePreviousResults")
_LATE_MERGES: Final = ("MergeError", "MergeWarning", "MergeVerbose", "MergeDebug", "MergeInformation")
_MERGE_ATTRIBUTES: Final = (
    "merge_my_result", "merge_to_result", "merge_previous",
    "merge_error", "merge_warning", "merge_verbose", "merge_debug", "merge_information",
)  # fmt: skip


def pipeline_message(message: Any) -> bytes:
    """The CREATE_PIPELINE message of pypsrp, byte for byte as its own serializer writes it. Raises Unusual."""
    pipeline = message.pipeline
    usual = (
        message.no_input is True
        and message.apartment_state.value == 2
        and message.remote_stream_options.value == 15
        and message.add_to_history is False
        and message.host_info.host is None
        and message.is_nested is False
        and pipeline.is_nested is False
        and pipeline.history is None
        and pipeline.redirect_err_to_out is False
        and not any(command.end_of_statement for command in pipeline.commands[:-1])
    )
    if not usual:
        raise Unusual
    return "".join((_HEAD, *_Writer().commands(pipeline.commands), _TAIL)).encode()


class _Writer:
    """Numbers the objects of one message in the order of writing; a type is named once, then by its number."""

    def __init__(self) -> None:
        self._objects = 5  # the head has 0 to 5
        self._types: dict[str, int] = {"list": 2}

    def commands(self, commands: Sequence[Any]) -> list[str]:
        """Each command of a statement."""
        return [self._command(command) for command in commands]

    def _command(self, command: Any) -> str:
        merged = any(getattr(command, name).value for name in _MERGE_ATTRIBUTES)
        if merged or command.is_script is not False or command.use_local_scope is not None:
            raise Unusual
        if command.protocol_version != "2.3":
            raise Unusual
        parts = [
            f'<Obj RefId="{self._next()}"><MS><S N="Cmd">{_text(command.cmd)}</S>'
            '<B N="IsScript">false</B><Nil N="UseLocalScope" />'
        ]
        parts += [self._merge(name) for name in _MERGES]
        parts.append(f'<Obj RefId="{self._next()}" N="Args"><TNRef RefId="2" />')
        parts.append("<LST>" if command.args else "<LST />")
        for given in command.args:
            name = '<Nil N="N" />' if given.name is None else f'<S N="N">{_text(given.name)}</S>'
            parts.append(f'<Obj RefId="{self._next()}"><MS>{name}{self._value(given.value, _NAMED)}</MS></Obj>')
        parts.append("</LST></Obj>" if command.args else "</Obj>")
        parts += [self._merge(name) for name in _LATE_MERGES]
        parts.append("</MS></Obj>")
        return "".join(parts)

    def _merge(self, name: str) -> str:
        types = self._type("merge", f"<T>{_MANAGEMENT}.Runspaces.PipelineResultTypes</T>{_ENUM}")
        return f'<Obj RefId="{self._next()}" N="{name}">{types}<ToString>None</ToString><I32>0</I32></Obj>'

    def _value(self, value: object, name: str = "") -> str:
        if value is None:
            return f"<Nil{name} />"
        if value is True or value is False:
            return f"<B{name}>{str(value).lower()}</B>"
        if type(value) is str:
            return f"<S{name}>{_text(value)}</S>" if value else f"<S{name} />"
        if type(value) is int and -(2**31) <= value < 2**31:
            return f"<I32{name}>{value}</I32>"
        if type(value) is list and value:
            number = self._next()
            types = self._type("array", "<T>System.Object[]</T><T>System.Array</T><T>System.Object</T>")
            items = "".join(self._value(item) for item in value)
            return f'<Obj RefId="{number}"{name}>{types}<LST>{items}</LST></Obj>'
        raise Unusual

    def _next(self) -> int:
        self._objects += 1
        return self._objects

    def _type(self, kind: str, names: str) -> str:
        if kind in self._types:
            return f'<TNRef RefId="{self._types[kind]}" />'
        self._types[kind] = number = len(self._types) + 2
        return f'<TN RefId="{number}">{names}</TN>'


_NAMED: Final = ' N="V"'


def _text(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise Unusual
    marked = _UNDERSCORE.sub(r"_x005F_\1", value) if "_" in value else value
    for line_end, codes in _LINE_ENDS:  # of the many characters that have codes the only ones that come by the hundred
        marked = marked.replace(line_end, codes)
    return escape(_CONTROL.sub(_codes, marked))


def _codes(found: re.Match[str]) -> str:
    """A character as the codes of its UTF-16."""
    units = found[0].encode("utf-16-be").hex().upper()
    return "".join(f"_x{units[at : at + 4]}_" for at in range(0, len(units), 4))


# --- an object on its way in ------------------------------------------------------------------------------------------

_ESCAPED: Final = re.compile("_x([0-9a-fA-F]{4})_")
_DATE: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,7})?(?:Z|[+-]\d\d:\d\d)?\Z")
_TEXT: Final = re.compile(r"<S>([^<&\r]*)</S>\Z")
_PARTS: Final = frozenset({"TN", "TNRef", "ToString", "Props", "MS", "LST", "IE"})


def _string(text: str) -> str:
    if "_x" not in text:
        return text
    found = _ESCAPED.sub(lambda code: chr(int(code[1], 16)), text)
    return found.encode("utf-16-be", "surrogatepass").decode("utf-16-be", "surrogatepass")


def text_of(xml: str) -> str | None:
    """The text, if the object is a string without anything to be replaced; lines of a program come by the hundred."""
    found = _TEXT.match(xml)
    return found[1] if found is not None and "_x" not in found[1] else None


def _date(text: str) -> datetime:
    if not _DATE.match(text):
        raise Unusual
    return datetime.fromisoformat(text)


_PRIMITIVES: Final[Mapping[str, Callable[[str], object]]] = {
    "S": _string,
    "B": lambda text: text.lower() == "true",
    "DT": _date,
    "G": UUID,
    "C": lambda text: chr(int(text)),
    "BA": base64.b64decode,
    "Version": str,
    **dict.fromkeys(("By", "SB", "I16", "U16", "I32", "U32", "I64", "U64"), int),
}

Make = Callable[[Mapping[str, object], Sequence[str], str], object]


class Reader:
    """Reads the elements of one output object.

    Args:
        make: an object of its properties, its types and what ToString() gave.
    """

    def __init__(self, make: Make) -> None:
        self._make = make
        self._types: dict[str, list[str]] = {}

    def value(self, element: Element) -> object:
        """The value of an element as plain Python. Raises Unusual."""
        tag = element.tag
        if (convert := _PRIMITIVES.get(tag)) is not None:
            return convert(element.text or "")
        if tag == "Nil":
            return None
        if tag != "Obj":
            raise Unusual
        parts = {child.tag: child for child in element}
        types = self._names(parts)
        text = _string(parts["ToString"].text or "") if "ToString" in parts else ""
        inner = next((child for child in element if child.tag not in _PARTS), None)
        if inner is not None:  # a value that the host has added properties to, or an enum
            if "System.Enum" not in types:
                return self.value(inner)
            if not text:
                raise Unusual
            return text
        for several in ("LST", "IE"):
            if several in parts:
                return [self.value(item) for item in parts[several]]
        if "System.Enum" in types:
            raise Unusual
        values: dict[str, object] = {}
        for group in ("MS", "Props"):  # what the host has added counts
            for entry in parts.get(group, ()):
                name, value = _string(entry.attrib["N"]), self.value(entry)
                values.setdefault(name, value)
        return self._make(values, types, text)

    def _names(self, parts: Mapping[str, Element]) -> list[str]:
        if "TN" in parts:
            names = [entry.text or "" for entry in parts["TN"]]
            self._types[parts["TN"].attrib["RefId"]] = names
        elif "TNRef" in parts:
            names = self._types.get(parts["TNRef"].attrib["RefId"], [])
        else:
            names = []
        # psrpcore makes objects of its own of what belongs to PowerShell itself.
        if not names or names[0].startswith(_MANAGEMENT):
            raise Unusual
        return names
