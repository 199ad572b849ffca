"""Values that come with a request are checked exactly, and refused with a reason that helps."""

import pytest

from features.errors import BadInput
from serving.fields import field, near_names, parse_time, read_fields


def read(dtype: str, value: object) -> object:
    """Reads one field ``x`` of a type."""
    return read_fields([field("x", dtype)], {"x": value}, "request field")["x"]


@pytest.mark.parametrize(
    ("dtype", "value", "expected"),
    [
        ("int", 3, 3),
        ("float", 3, 3.0),
        ("float", 3.5, 3.5),
        ("str", "a", "a"),
        ("bool", True, True),
        ("int", None, None),
        ("str", None, None),
        ("time", "2013-11-02T17:05:00Z", 1_383_411_900_000_000),
        ("list<int>", [1, None], [1, None]),
        ("map<str,float>", {"a": 1}, {"a": 1.0}),
    ],
)
def test_a_value_of_the_declared_type_is_taken(dtype: str, value: object, expected: object) -> None:
    """A value of its type, and null, are read; an integer is also a float."""
    result = read(dtype, value)
    assert result == expected
    assert type(result) is type(expected)


@pytest.mark.parametrize(
    ("dtype", "value", "says"),
    [
        ("int", "3", "of type int"),
        ("int", 3.0, "of type int"),
        ("int", True, "of type int"),
        ("float", True, "of type float"),
        ("str", 3, "of type str"),
        ("bool", 1, "of type bool"),
        ("time", 17, "offset"),
        ("list<int>", ["a"], "list<int>"),
        ("int", 1 << 63, "int"),
    ],
)
def test_a_value_of_another_type_is_refused_never_cast(
    dtype: str, value: object, says: str
) -> None:
    """A wrong type is refused, and the hint names the type that is expected."""
    with pytest.raises(BadInput) as refused:
        read(dtype, value)
    assert says in refused.value.hint
    assert "x" in refused.value.what


def test_a_naive_time_is_refused() -> None:
    """A time without offset names no point in time, and the error says so."""
    with pytest.raises(BadInput, match="no offset"):
        parse_time("2013-11-02T17:05:00")


def test_an_offset_is_honoured_to_the_microsecond() -> None:
    """The same moment in two offsets is the same number."""
    assert parse_time("2013-11-02T12:05:00.000001-05:00") == parse_time(
        "2013-11-02T17:05:00.000001Z"
    )


def test_a_missing_key_is_named_with_the_near_miss() -> None:
    """A misspelt key is named together with what was probably meant."""
    with pytest.raises(BadInput) as refused:
        read_fields([field("carrier", "str")], {"carier": "AA"}, "entity key")
    assert "'carrier' is missing" in refused.value.what
    assert "'carier'" in refused.value.hint


def test_an_unknown_field_is_refused() -> None:
    """A field that the service does not know is refused, not ignored."""
    with pytest.raises(BadInput, match="'color' is not known"):
        read_fields([field("carrier", "str")], {"carrier": "AA", "color": 1}, "entity key")


def test_near_names_come_first() -> None:
    """The hint names the nearest; without a near one it lists what there is."""
    assert "flights.arrival_delay" in near_names("flights.arrival_dely", ["flights.arrival_delay"])
    assert near_names("x", ["abc", "def"]) == "known: abc, def"
