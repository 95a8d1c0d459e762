"""The query language: properties that hold for any values, and the examples that clients send."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labenv.ontap.errors import ApiError
from labenv.ontap.rest.call import parse_path, parse_query
from labenv.ontap.rest.query import parse_filter, parse_order, put_in_order
from labenv.ontap.rest.values import Kind, coerce, flatten, nest, parse_size

steady = settings(deadline=None, derandomize=True)  # a busy machine is no failure
NUMBERS = st.integers(min_value=-(10**12), max_value=10**12)
PLAIN = st.text(alphabet=st.characters(codec="ascii", exclude_characters='!<>*|"', categories=["L", "N", "P"]))
NAMES = PLAIN.filter(lambda t: t not in ("", "null") and ".." not in t)


def matches(kind: Kind, text: str, value: Any) -> bool:
    """Whether a value passes a filter."""
    return parse_filter("f", kind, text).matches([value])


@steady
@given(NUMBERS, NUMBERS)
def test_comparisons_agree_with_integers(bound: int, value: int) -> None:
    """Operators on numbers are those of integers."""
    assert matches(Kind.INTEGER, f"<{bound}", value) == (value < bound)
    assert matches(Kind.INTEGER, f">{bound}", value) == (value > bound)
    assert matches(Kind.INTEGER, f"<={bound}", value) == (value <= bound)
    assert matches(Kind.INTEGER, f">={bound}", value) == (value >= bound)
    assert matches(Kind.INTEGER, f"!{bound}", value) == (value != bound)
    assert matches(Kind.INTEGER, str(bound), value) == (value == bound)


@steady
@given(NUMBERS, NUMBERS, NUMBERS)
def test_a_range_includes_its_ends(low: int, high: int, value: int) -> None:
    """``a..b`` is everything from a to b."""
    assert matches(Kind.INTEGER, f"{low}..{high}", value) == (low <= value <= high)


@steady
@given(st.lists(NAMES, min_size=1, max_size=4), NAMES)
def test_alternatives_are_membership(names: list[str], value: str) -> None:
    """``a|b|c`` is one of them."""
    assert matches(Kind.TEXT, "|".join(names), value) == (value in names)


@steady
@given(st.text(max_size=12), st.text(max_size=12))
def test_quotes_take_the_meaning_out(text: str, value: str) -> None:
    """A quoted value is compared as it is, whatever characters it has."""
    text, value = text.replace('"', ""), value.replace('"', "")
    assert matches(Kind.TEXT, f'"{text}"', text)
    assert matches(Kind.TEXT, f'"{text}"', value) == (text == value)


@steady
@given(NAMES, NAMES, NAMES)
def test_wildcards_match_any_run(before: str, middle: str, after: str) -> None:
    """``*`` stands for any characters, also none."""
    assert matches(Kind.TEXT, f"{before}*{after}", before + middle + after)
    assert matches(Kind.TEXT, f"{before}*", before)
    assert matches(Kind.TEXT, f"*{middle}*", before + middle + after)


@steady
@given(st.sampled_from(["x", "!x", "*", "<x", "a..b", "!null"]))
def test_an_unset_field_passes_nothing_but_null(text: str) -> None:
    """Only ``null`` finds records that do not have the field."""
    assert not matches(Kind.TEXT, text, None)
    assert matches(Kind.TEXT, f"{text}|null", None)


def test_null_and_not_null() -> None:
    """``null`` is unset, ``!null`` is set, and an empty list counts as unset."""
    assert not matches(Kind.TEXT, "null", "x")
    assert matches(Kind.TEXT, "!null", "x")
    assert parse_filter("f", Kind.TEXT, "null").matches([])


@pytest.mark.parametrize(
    ("text", "size"), [("20MB", 20 << 20), ("1g", 1 << 30), ("1.5TB", 3 << 39), ("512", 512), ("2 pb", 1 << 51)]
)
def test_sizes_have_units(text: str, size: int) -> None:
    """Units are powers of 1,024, in either case, with or without B."""
    assert parse_size(text) == size
    assert matches(Kind.SIZE, f">={text}", size)


def test_times_compare_across_zones() -> None:
    """Times are compared as instants."""
    assert matches(Kind.TIME, "<2013-03-04T10:00:00+01:00", "2013-03-04T08:59:59+00:00")
    assert matches(Kind.TIME, "2013-03-04T09:00:00+01:00", "2013-03-04T08:00:00+00:00")


@pytest.mark.parametrize(("kind", "text"), [(Kind.INTEGER, "x"), (Kind.BOOLEAN, "perhaps"), (Kind.TIME, "soon")])
def test_values_of_another_kind_are_refused(kind: Kind, text: str) -> None:
    """A value that cannot be of the field's kind is 262197 and names the field."""
    with pytest.raises(ApiError) as refused:
        parse_filter("some.field", kind, text)
    assert (refused.value.code, refused.value.target) == ("262197", "some.field")


LEAVES = st.one_of(st.integers(), st.text(max_size=5), st.booleans())
KEYS = st.text(alphabet="abc", min_size=1, max_size=2)
BODIES = st.recursive(
    st.dictionaries(KEYS, LEAVES, min_size=1, max_size=3),
    lambda inner: st.dictionaries(KEYS, st.one_of(LEAVES, inner), min_size=1, max_size=3),
    max_leaves=8,
)


@steady
@given(BODIES)
def test_flat_and_nested_bodies_are_the_same(body: dict[str, Any]) -> None:
    """Dotted keys and nested objects say the same."""
    assert nest(flatten(body)) == body
    assert flatten(flatten(body)) == flatten(body)


@steady
@given(st.lists(st.tuples(st.one_of(st.none(), NUMBERS), st.one_of(st.none(), st.text(max_size=3)))))
def test_ordering_is_stable_and_puts_unset_last(rows: list[tuple[int | None, str | None]]) -> None:
    """Records are ordered by each key in its direction; what has no value comes last."""
    ordered = put_in_order(rows, [("0", False), ("1", True)], lambda row, name: row[int(name)])
    numbers = [number for number, _ in ordered]
    known = [number for number in numbers if number is not None]
    assert numbers == sorted(known) + [None] * (len(numbers) - len(known))
    for (first, one), (second, other) in itertools.pairwise(ordered):
        if first == second and one is not None and other is not None:
            assert one >= other


def test_order_by_reads_directions() -> None:
    """``a desc,b`` names fields and directions."""
    assert parse_order("name desc, size,,uuid ASC") == [("name", True), ("size", False), ("uuid", False)]


@pytest.mark.parametrize("text", ["true", "TRUE", "yes", True, "1"])
def test_booleans_come_as_text_too(text: Any) -> None:
    """Clients send booleans as strings."""
    assert coerce(Kind.BOOLEAN, text, name="f") is True


def test_urls_keep_encoded_slashes_inside_a_segment() -> None:
    """``%2F`` does not split; empty segments do not count; ``+`` is a space in the query only."""
    assert parse_path(b"/api//storage/volumes/%2A/files/a%2Fb/") == ("api", "storage", "volumes", "*", "files", "a/b")
    assert parse_query("order_by=name+desc&name=a%2Bb&name=c&x=1=2&empty=") == (
        {"name": "c", "x": "1=2", "empty": ""},
        {"order_by": "name desc"},
    )
