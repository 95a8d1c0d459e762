"""The gate that every answer passes: it sees what it has to see, and it has looked at every kind of record."""

from __future__ import annotations

from typing import Any

import pytest

from labenv.ontap.rest.api import COLLECTIONS

from .conformance import RESOURCES, Gate, by_swagger, schema_of, strict, swagger
from .ontap_bench import MIB, Bench

SOUND = {"uuid": "u", "name": "vol1", "state": "online", "create_time": "2013-03-04T08:00:00+00:00", "size": 20 * MIB}


@pytest.mark.parametrize(
    ("wrong", "place"),
    [
        ({"colour": "red"}, "/colour"),
        ({"svm": {"name": "svm1", "shape": "round"}}, "/svm/shape"),
        ({"aggregates": [{"name": "aggr1", "weight": 1}]}, "/aggregates/0/weight"),
        ({"state": "asleep"}, "/state"),
        ({"create_time": "yesterday"}, "/create_time"),
        ({"size": "much"}, "/size"),
        ({"aggregates": {"name": "aggr1"}}, "/aggregates"),
        ({"svm": "svm1"}, "/svm"),
    ],
)
def test_a_strict_schema_names_what_is_wrong(wrong: dict[str, Any], place: str) -> None:
    """Unknown fields at any depth and values of the wrong type, enumeration or shape are found where they are."""
    schema = schema_of("/storage/volumes")
    assert schema is not None
    assert list(strict(schema, SOUND, "")) == []
    (found,) = strict(schema, {**SOUND, **wrong}, "")
    assert found.startswith(f"{place}:")


def test_the_swagger_names_what_is_wrong() -> None:
    """Types and enumerations of the published swagger are held against records."""
    if swagger() is None:
        pytest.skip("the published swagger is not beside this checkout (LABENV_FACTS)")
    assert list(by_swagger("/storage/volumes", SOUND, "")) == []
    (found,) = by_swagger("/storage/volumes", {**SOUND, "state": "asleep"}, "")
    assert found.startswith("/state (swagger)")


def test_an_answer_that_no_cluster_gives_is_told(bench: Bench) -> None:
    """Undeclared codes, errors of another form, strange envelopes and job links are violations."""
    gate = Gate()
    look = gate.look
    dispatcher = bench.array.dispatcher
    volumes = ("storage", "volumes")
    look(dispatcher, "GET", volumes, 200, {"records": [SOUND], "num_records": 1})
    assert (gate.violations, gate.records) == ([], 1)
    look(dispatcher, "GET", volumes, 500, {"detail": "oops"})
    look(dispatcher, "GET", volumes, 409, {"error": {"message": "m", "code": "1254207"}})
    look(dispatcher, "GET", volumes, 200, {"records": []})
    look(dispatcher, "POST", volumes, 202, {"job": {"uuid": "u"}, "took": 1})
    look(dispatcher, "GET", (*volumes, "u"), 200, {"volume": 1})
    failed = {"description": "POST /api/storage/volumes", "error": {"message": "m", "code": "1254207"}}
    look(dispatcher, "GET", ("cluster", "jobs", "u"), 200, failed)
    assert len(gate.violations) == 7


def test_every_collection_has_a_published_schema() -> None:
    """Each route of the API, the clustershell's apart, is one that the client has a model of."""
    paths = {c.path for c in COLLECTIONS if not c.path.startswith("/private/cli")}
    assert paths <= set(RESOURCES)
    assert all(schema_of(path) is not None for path in paths)


def test_every_field_that_is_shown_has_been_published() -> None:
    """A field of a record, also one that is shown only when it is asked for, is one of the client's model."""
    unknown: list[str] = []
    for collection in COLLECTIONS:
        schema = schema_of(collection.path) if "GET" in collection.methods else None
        for field in collection.fields if schema is not None else ():
            record: Any = None
            for part in reversed(field.name.split(".")):
                record = {part: record}
            if schema is not None and field.read is not None:
                unknown += strict(schema, record, collection.path)
    assert unknown == []


def test_permissions_of_files_are_a_number(bench: Bench) -> None:
    """A volume's UNIX permissions, digits to be read as octal, are kept; text that is no number is refused."""
    volume = f"/storage/volumes/{bench.volume()}"
    bench.do("PATCH", volume, {"nas": {"unix_permissions": 755}})
    assert bench.do("GET", volume, fields="nas.unix_permissions")["nas"]["unix_permissions"] == 755
    status, answer = bench.call("PATCH", volume, {"nas": {"unix_permissions": "rwx"}})
    assert (status, answer["error"]["code"]) == (400, "262197")
