"""The quick reader of CREATE_PIPELINE beside psrpcore, which writes the messages and reads them too."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from datetime import timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from psrpcore import Command, PowerShell
from psrpcore.types import PSInt64, PSUInt, PSVersion, deserialize, serialize

from labenv.windows.remoting.description import read, understood

from .conftest import parsed

TEXTS = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\ufffe\uffff"), max_size=8),
    st.sampled_from(["_x0041_", "_x005F_x0041_", "_x_", "_X0041_", "_xD83D__xDE00_", "\U0001f4be_x", "\r\n\t\x00\x85"]),
)
USUAL = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(1 << 31), (1 << 31) - 1),
    st.integers(-(1 << 63), (1 << 63) - 1).map(PSInt64),
    st.uuids(),
    TEXTS,
)
UNUSUAL = st.one_of(
    st.floats(allow_nan=False),
    st.binary(max_size=5),
    st.dictionaries(st.text("ab", max_size=3), st.integers(0, 9), max_size=2),
    st.sampled_from([PSUInt(7), PSVersion("1.2"), timedelta(seconds=90)]),
)


def messages(values: st.SearchStrategy[Any]) -> st.SearchStrategy[bytes]:
    """Messages with up to three commands in statements, whose arguments have such values and lists of them."""
    arguments = st.tuples(st.one_of(st.none(), TEXTS), st.one_of(values, st.lists(values, max_size=3)))
    names = st.text("aZ-_x4", max_size=8)  # psrpcore writes a command's name as it is, into ToString
    commands = st.tuples(names, st.booleans(), st.lists(arguments, max_size=2), st.booleans())
    return st.builds(message, st.lists(commands, min_size=1, max_size=3), st.booleans())


def message(commands: list[tuple[str, bool, list[tuple[str | None, Any]], bool]], no_input: bool) -> bytes:
    """What psrpcore writes for a pipeline of commands: text, whether it is script, arguments, last of its statement."""
    pipeline = PowerShell(no_input=no_input)
    for text, is_script, arguments, last in commands:
        command = Command(text, is_script=is_script)
        command.parameters.extend(arguments)
        command.end_of_statement = last
        pipeline.commands.append(command)
    data: bytes = ET.tostring(serialize(pipeline, None), encoding="utf-8")  # type: ignore[arg-type]  # no secrets
    return data


def as_psrpcore(data: bytes) -> Any:
    """psrpcore's reading of a message."""
    read_by_it: Any = deserialize(parsed(data), None)  # type: ignore[arg-type]  # no secrets
    return understood(PowerShell.FromPSObjectForRemoting(read_by_it))


@settings(max_examples=40)
@given(messages(USUAL))
def test_usual_messages_are_read_as_psrpcore_reads_them(data: bytes) -> None:
    """Texts with any escapes, numbers, Booleans, GUIDs, null and lists of them come out of both readers alike."""
    assert read(data) == as_psrpcore(data)


@settings(max_examples=40)
@given(messages(st.one_of(USUAL, UNUSUAL)))
def test_whatever_is_read_quickly_is_read_alike(data: bytes) -> None:
    """A message that has other values is left to psrpcore, never read differently."""
    found = read(data)
    assert found is None or found == as_psrpcore(data)


@given(st.data())
def test_what_is_damaged_is_left_to_psrpcore_or_read(draw: st.DataObject) -> None:
    """A message with an element renamed, left out or doubled raises nothing here."""
    root = parsed(message([("Get-VM", False, [("Id", [1, "a", None])], True)], True))
    parent = draw.draw(st.sampled_from([each for each in root.iter() if len(each)]))
    victim = draw.draw(st.sampled_from(list(parent)))
    match draw.draw(st.sampled_from(["rename", "drop", "double", "untyped"])):
        case "rename":
            victim.tag = draw.draw(st.sampled_from(["S", "Obj", "Ref", "DCT", "I32", "LST"]))
        case "drop":
            parent.remove(victim)
        case "double":
            parent.append(victim)
        case _:
            victim.attrib.clear()
    read(ET.tostring(root))
