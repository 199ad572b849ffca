"""The native body is one row or a list of rows, and nothing else."""

import pytest

from features.errors import BadInput
from serving.requests import MAX_ROWS, Row, parse_json, read_request


def test_one_object_is_one_row() -> None:
    """The short form is a request of one row."""
    request = read_request({"entities": {"a": 1}, "request": {"b": 2}})
    assert request.rows == (Row({"a": 1}, {"b": 2}),)
    assert request.at is None


def test_rows_keep_their_order() -> None:
    """The long form keeps its rows in order, each with empty parts where it has none."""
    request = read_request({"rows": [{"entities": {"a": 1}}, {"entities": {"a": 2}}]})
    assert [row.entities["a"] for row in request.rows] == [1, 2]
    assert all(row.request == {} for row in request.rows)


def test_at_is_a_point_in_time() -> None:
    """``at`` is read as UTC µs."""
    assert read_request({"entities": {}, "at": "1970-01-01T00:00:01Z"}).at == 1_000_000


@pytest.mark.parametrize(
    "body",
    [
        [],
        {"rows": []},
        {"rows": {}},
        {"rows": [1]},
        {"rows": [{}], "entities": {}},
        {"rows": [{"at": "1970-01-01T00:00:01Z"}]},
        {"entities": []},
        {"entities": {}, "requests": {}},
        {"entities": {}, "at": None},
        {"entities": {}, "at": "2013-11-02T17:05:00"},
        {"rows": [{}] * (MAX_ROWS + 1)},
    ],
)
def test_another_shape_is_refused(body: object) -> None:
    """A body of any other shape is bad input with a hint."""
    with pytest.raises(BadInput) as refused:
        read_request(body)
    assert refused.value.hint


def test_a_misspelt_field_is_named_with_what_was_meant() -> None:
    """An unknown top-level field comes back with the nearest known one."""
    with pytest.raises(BadInput) as refused:
        read_request({"entites": {}})
    assert "entities" in refused.value.hint


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"NaN", b'{"a": 1e999}'])
def test_a_body_that_is_not_json_is_refused(body: bytes) -> None:
    """Malformed JSON is bad input that says where it breaks."""
    with pytest.raises(BadInput, match="not JSON"):
        parse_json(body)
