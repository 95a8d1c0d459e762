"""CLIXML written and read straight, against the libraries that do it for all shapes."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import psrpcore.types as ps
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pypsrp.complex_objects import ApartmentState, Command, CommandParameter, HostInfo, Pipeline, RemoteStreamOptions
from pypsrp.messages import CreatePipeline
from pypsrp.serializer import Serializer, TaggedValue

from smhvlab.wires.clixml import Reader, Unusual, pipeline_message
from smhvlab.wires.records import Record, plain

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
PLAIN = st.none() | st.booleans() | st.integers(-(2**31), 2**31 - 1) | TEXT | st.just("")
VALUE = PLAIN | st.lists(PLAIN, min_size=1, max_size=3)
COMMANDS = st.lists(st.tuples(TEXT, st.lists(st.tuples(st.none() | TEXT, VALUE), max_size=4)), min_size=1, max_size=3)


def message(commands: list[tuple[str, list[tuple[str | None, Any]]]]) -> Any:
    """A pipeline as pypsrp's PowerShell.begin_invoke makes it."""
    made = []
    for name, parameters in commands:
        command = Command(name, is_script=False)
        command.args = [CommandParameter(name=key, value=value) for key, value in parameters]
        made.append(command)
    pipeline = Pipeline(is_nested=False, cmds=made, history=None, redirect_err_to_out=False)
    options = RemoteStreamOptions(value=RemoteStreamOptions.ADD_INVOCATION_INFO)
    return CreatePipeline(True, ApartmentState(value=2), options, False, HostInfo(), pipeline, False)


@given(COMMANDS)
def test_a_pipeline_is_what_pypsrp_writes(commands: list[tuple[str, list[tuple[str | None, Any]]]]) -> None:
    """Every pipeline of usual values is byte for byte the message of pypsrp's own serializer."""
    theirs = Serializer().serialize(message(commands))
    assert theirs is not None
    assert pipeline_message(message(commands)) == ET.tostring(theirs, encoding="utf-8", method="xml")


@pytest.mark.parametrize("value", [TaggedValue("U64", 2**63), {"a": 1}, 2**31, 0.5, UUID(int=7), [], b"bytes"])
def test_other_values_are_left_to_pypsrp(value: object) -> None:
    """A value that is not written straight is refused, so that pypsrp writes the message."""
    with pytest.raises(Unusual):
        pipeline_message(message([("Get-VM", [("Name", value)])]))


def test_other_pipelines_are_left_to_pypsrp() -> None:
    """Two statements, a script or a merged stream are no usual pipeline."""
    for change in ({"end_of_statement": True}, {"is_script": True}, {"protocol_version": "2.2"}):
        made = message([("Get-VM", []), ("Stop-VM", [])])
        for name, value in change.items():
            setattr(made.pipeline.commands[0], name, value)
        with pytest.raises(Unusual):
            pipeline_message(made)


OBJECTS = st.recursive(
    PLAIN | st.integers(0, 2**64 - 1).map(ps.PSUInt64) | st.uuids() | st.binary(max_size=9).map(ps.PSByteArray),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


@given(OBJECTS)
def test_what_is_read_is_what_psrpcore_reads(value: Any) -> None:
    """An object that is read straight is that which psrpcore makes of the same bytes."""
    element = again(ps.serialize(value, None))  # type: ignore[arg-type]  # nothing is encrypted
    try:
        found = Reader(_pair).value(element)
    except Unusual:
        return
    assert found == plain(ps.deserialize(element, None))  # type: ignore[arg-type]


@given(st.dictionaries(TEXT, PLAIN, max_size=4), st.dictionaries(TEXT, PLAIN, max_size=4), st.just("Made.By.Us") | TEXT)
def test_a_record_is_what_psrpcore_reads(adapted: dict[str, Any], added: dict[str, Any], text: str) -> None:
    """Properties of both kinds, types and text of an object are those that psrpcore finds."""
    names = [*adapted, *added]
    if len({name.casefold() for name in names}) < len(set(names)):
        return  # names that differ by case only: no host sends them
    xml = ET.Element("Obj", RefId="0")
    types = ET.SubElement(xml, "TN", RefId="0")
    ET.SubElement(types, "T").text = "Deserialized.Lab.Thing"
    ET.SubElement(types, "T").text = "System.Object"
    ET.SubElement(xml, "ToString").text = Serializer()._serialize_string(text)
    for group, properties in (("Props", adapted), ("MS", added)):
        parent = ET.SubElement(xml, group)
        for name, value in properties.items():
            one = ps.serialize(value, None)  # type: ignore[arg-type]
            one.attrib["N"] = str(Serializer()._serialize_string(name))
            parent.append(one)
    element = again(xml)
    theirs = plain(ps.deserialize(element, None))  # type: ignore[arg-type]
    assert isinstance(theirs, Record)
    assert Reader(_pair).value(element) == (dict(theirs), theirs.types, theirs.text)


@given(st.datetimes(timezones=st.just(UTC)).filter(lambda moment: 1970 < moment.year < 2100), st.booleans())
def test_moments_are_what_psrpcore_reads(moment: datetime, zoned: bool) -> None:
    """A moment is read to the microsecond, with its zone or without one."""
    moment = moment if zoned else moment.replace(tzinfo=None)
    element = ps.serialize(ps.PSDateTime(*moment.timetuple()[:6], moment.microsecond, moment.tzinfo), None)  # type: ignore[arg-type]
    assert Reader(_pair).value(element) == plain(ps.deserialize(element, None)) == moment  # type: ignore[arg-type]


def again(element: ET.Element) -> ET.Element:
    """The element as it comes over a wire."""
    return ET.fromstring(ET.tostring(element))  # noqa: S314 - our own


def _pair(values: Any, types: Any, text: str) -> object:
    return dict(values), tuple(types), text
