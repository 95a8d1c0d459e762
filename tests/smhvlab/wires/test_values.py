"""Values both ways: into parameters by declared type, into text to paste, and back from CLIXML."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import Path, PureWindowsPath
from typing import Any
from uuid import UUID

import psrpcore.types as ps
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pypsrp.serializer import Serializer, TaggedValue

from smhvlab.errors import Unsendable
from smhvlab.secrets import Secret
from smhvlab.wires.cmdlets import cmdlet, names
from smhvlab.wires.pairs import PAIRS
from smhvlab.wires.records import Record, decode
from smhvlab.wires.values import Credential, argument_text, literal, parameter_text, ps_value, quoted


class VhdType(Enum):
    FIXED = 2


def sent(value: object, declared: str) -> Any:
    """What goes to pypsrp."""
    return ps_value(value, declared, where="Test-It -Value", credential=lambda one: one)


def received(value: object, declared: str) -> Any:
    """What a real deserialiser would make of it: pypsrp's bytes, read by psrpcore."""
    element = Serializer().serialize(sent(value, declared))
    return ps.deserialize(element, None)  # type: ignore[arg-type]  # nothing is encrypted


@given(st.integers(0, 2**64 - 1))
def test_every_uint64_arrives(number: int) -> None:
    """Numbers of any size arrive as themselves; pypsrp alone would write unreadable Int32 text."""
    assert int(received(number, "UInt64")) == number


@given(st.integers(-(2**63), 2**63 - 1))
def test_every_int64_arrives(number: int) -> None:
    """As above, signed."""
    assert int(received(number, "Int64")) == number


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_every_text_arrives(text: str) -> None:
    """Any text arrives unchanged, control characters and _x000A_ included."""
    assert received(text, "String") == text


@pytest.mark.parametrize(
    ("value", "declared", "expected"),
    [
        (0.1, "Double", 0.1),
        (datetime(2026, 1, 5, 8, tzinfo=UTC), "DateTime", "2026-01-05T08:00:00+00:00"),
        ("8f5e", "Object", "8f5e"),
        (UUID(int=5), "Guid", UUID(int=5)),
        (str(UUID(int=5)), "Guid", UUID(int=5)),
        (VhdType.FIXED, "VhdType", "FIXED"),
        (PureWindowsPath("C:/x/y"), "String", "C:\\x\\y"),
        (b"\x00\xff", "Object", b"\x00\xff"),
        ("one", "String[]", ["one"]),
        (("a", "b"), "String[]", ["a", "b"]),
        ([2**40], "UInt64[]", [2**40]),
        ({"LogName": "System", "Id": [1, 2**35]}, "Hashtable", {"LogName": "System", "Id": [1, 2**35]}),
        (True, "SwitchParameter", True),
        (None, "String", None),
    ],
)
def test_types_by_declaration(value: object, declared: str, expected: object) -> None:
    """The declared type decides, not Python's."""
    assert received(value, declared) == expected


def test_spans_and_secrets() -> None:
    """A timedelta becomes a TimeSpan; a Secret is revealed only here."""
    assert received(timedelta(seconds=90, microseconds=5), "TimeSpan") == timedelta(seconds=90, microseconds=5)
    assert received(timedelta(0), "TimeSpan") == timedelta(0)
    assert sent(Secret("x"), "String") == "x"
    assert isinstance(sent(2.5, "Object"), TaggedValue)


@pytest.mark.parametrize(
    ("value", "declared"),
    [
        (1, "SwitchParameter"),
        (None, "SwitchParameter"),
        ("true", "Boolean"),
        (-1, "UInt32"),
        (2**31, "Int32"),
        ("5", "Int32"),
        (1.5, "Int64"),
        ("x", "Double"),
        ("x", "Guid"),
        ("whoami", "ScriptBlock"),
        (object(), "String"),
        (print, "Object"),
    ],
)
def test_values_that_cannot_become_their_type(value: object, declared: str) -> None:
    """What the host would misread is refused before it leaves."""
    with pytest.raises(Unsendable):
        sent(value, declared)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("it's", "'it''s'"),
        ("\u2018quoted\u2019", "'\u2018\u2018quoted\u2019\u2019'"),
        ("$(whoami) `n", "'$(whoami) `n'"),
        (True, "$true"),
        (None, "$null"),
        (2**40, "[long]'1099511627776'"),
        (2**64 - 1, "[uint64]'18446744073709551615'"),
        ([], "@()"),
        (["a"], "@('a')"),
        (["a", 1], "'a', 1"),
        ({"Id": [1, 2], "Log Name": "x"}, "@{'Id' = 1, 2; 'Log Name' = 'x'}"),
        (datetime(2026, 1, 5, tzinfo=UTC), "'2026-01-05T00:00:00+00:00'"),
        (b"\x01\x02", "([byte[]](1, 2))"),
        (Secret("x"), "$Secret"),
        (Credential("u", Secret("x")), "$Credential"),
    ],
)
def test_literals(value: object, text: str) -> None:
    """Values as PowerShell literals in which nothing is expanded."""
    assert literal(value) == text


def test_parameters_and_arguments_as_text() -> None:
    """Switches, passwords and native arguments have their own forms."""
    assert parameter_text("Force", True, "SwitchParameter") == "-Force"
    assert parameter_text("Confirm", False, "SwitchParameter") == "-Confirm:$false"
    assert parameter_text("IsOffline", False, "Boolean") == "-IsOffline $false"
    assert parameter_text("ChapSecret", "hush", "String") == "-ChapSecret $ChapSecret"
    assert argument_text("/s") == "/s"
    assert argument_text("C:\\a b;c") == "'C:\\a b;c'"
    assert quoted("") == "''"


def test_an_object_that_wraps_a_value() -> None:
    """A string to which the host has added properties is that string; an enum object is its name."""
    line = '<Obj RefId="0"><S>first line</S><MS><S N="PSPath">C:\\x</S><I64 N="ReadCount">1</I64></MS></Obj>'
    assert decode(line) == "first line"
    enum = (
        '<Obj RefId="0"><TN RefId="0"><T>Microsoft.HyperV.PowerShell.VMState</T><T>System.Enum</T><T>System.Object</T>'
        "</TN><ToString>Running</ToString><I32>2</I32></Obj>"
    )
    assert decode(enum) == "Running"


@pytest.mark.parametrize(
    ("xml", "value"),
    [
        ("<S>a_x000A_b</S>", "a\nb"),
        ("<S />", ""),
        ("<Nil />", None),
        ("<B>true</B>", True),
        ("<U64>18446744073709551615</U64>", 2**64 - 1),
        ("<Db>0.5</Db>", 0.5),
        ("<D>1.10</D>", Decimal("1.10")),
        ("<C>65</C>", "A"),
        ("<G>00000000-0000-0000-0000-000000000007</G>", UUID(int=7)),
        ("<BA>AQI=</BA>", b"\x01\x02"),
        ("<TS>PT1H0.5S</TS>", timedelta(hours=1, seconds=0.5)),
        ("<Version>10.0.14393.0</Version>", "10.0.14393.0"),
        ('<Obj RefId="0"><DCT><En><S N="Key">a</S><I32 N="Value">1</I32></En></DCT></Obj>', {"a": 1}),
        ('<Obj RefId="0"><LST><S>a</S><Nil /></LST></Obj>', ["a", None]),
        ('<Obj RefId="0"><IE><I32>1</I32></IE></Obj>', [1]),
    ],
)
def test_decoded_values_are_plain(xml: str, value: object) -> None:
    """Everything comes back as Python's own type, so that it can be put into tables and files."""
    found = decode(xml)
    assert found == value
    assert type(found) is type(value)


def test_decoded_moments() -> None:
    """A moment with a zone is aware; one without stays naive."""
    assert decode("<DT>2026-01-05T08:00:00.1234567Z</DT>") == datetime(2026, 1, 5, 8, 0, 0, 123456, tzinfo=UTC)
    found = decode("<DT>2026-01-05T08:00:00</DT>")
    assert isinstance(found, datetime)
    assert found.tzinfo is None


@pytest.mark.parametrize("xml", ["", "<S>", "<Strange />", "<I32>x</I32>"])
def test_what_is_not_clixml(xml: str) -> None:
    """Garbage is a ValueError, whatever is wrong with it."""
    with pytest.raises(ValueError):
        decode(xml)


def test_added_properties_count_first() -> None:
    """As in PowerShell, an added property hides an adapted one of the same name."""
    xml = '<Obj RefId="0"><Props><S N="Name">adapted</S><S N="Other">o</S></Props><MS><S N="Name">added</S></MS></Obj>'
    record = decode(xml)
    assert isinstance(record, Record)
    assert dict(record) == {"Name": "added", "Other": "o"}
    assert "NAME" in record
    assert "nope" not in record
    assert bool(Record({}))


def test_the_table_of_cmdlets() -> None:
    """Reads and changes are told apart by verb, with the exceptions that matter."""
    reading = {name for name in names() if cmdlet(name).reads({})}
    assert {"Get-VM", "Test-Path", "Measure-VM", "Compare-VM", "Start-Sleep", "Invoke-SmhvGuestCheck"} <= reading
    changing = {"Test-Cluster", "Get-ClusterLog", "Update-HostStorageCache", "Write-VolumeCache", "Mount-VHD", "Set-VM"}
    assert not changing & reading
    assert cmdlet("invoke-sqlcmd").reads({"query": " select count(*) from t"})
    assert not cmdlet("Invoke-Sqlcmd").reads({"Query": "INSERT INTO t VALUES (1)"})
    assert cmdlet("Remove-VM").confirms
    assert not cmdlet("Add-ClusterDisk").confirms
    for info in map(cmdlet, names()):
        assert "scriptblock" not in {kind.lower() for _, kind in info.parameters.values()}
        assert not {"computername", "cimsession", "asjob"} & set(info.parameters)


def test_every_pair_is_in_the_table_with_a_reference() -> None:
    """Both halves are cmdlets of the table, the parameters exist, and Microsoft's page is named."""
    for pair in PAIRS:
        cmdlet(pair.first).parameter(pair.by)
        cmdlet(pair.second).parameter(pair.takes)
        assert cmdlet(pair.first).reads({})
        assert (
            pair.reference
            == f"https://learn.microsoft.com/powershell/module/{pair.reference.split('/')[-2]}/{pair.second.lower()}"
        )
    assert len({(pair.first, pair.second) for pair in PAIRS}) == len(PAIRS)


def _sent_by_the_toolkit() -> Iterator[tuple[str, str, list[str]]]:
    """Where, cmdlet and literal parameter names of every request that stands in the toolkit's source."""
    import smhvlab

    for file in sorted(Path(smhvlab.__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            commands = {"run": [node.args], "begin": [node.args]}.get(node.func.attr, [])
            if node.func.attr in ("pair", "begin_pair"):
                commands = [argument.elts for argument in node.args if isinstance(argument, ast.Tuple)]
            for command in commands:
                if not command or not isinstance(command[0], ast.Constant) or not isinstance(command[0].value, str):
                    continue
                keys = command[1].keys if len(command) > 1 and isinstance(command[1], ast.Dict) else []
                found = [str(key.value) for key in keys if isinstance(key, ast.Constant)]
                yield f"{file.name}:{node.lineno}", command[0].value, found


def test_all_that_the_toolkit_sends_is_in_the_table() -> None:
    """Every cmdlet and parameter of the toolkit's source is in the wire's table."""
    requests = list(_sent_by_the_toolkit())
    assert len(requests) > 10
    for where, name, parameters in requests:
        for parameter in parameters:
            assert cmdlet(name).parameter(parameter), where
