"""Moments and types as people type them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import BadInput, Usage
from app.moments import read_moment, written
from app.surface.session import pairs, typed_value, usage

FIRST, LAST = (
    datetime(*day, tzinfo=UTC).replace(tzinfo=None) for day in ((1, 1, 2), (9999, 12, 30))
)
moments = st.datetimes(min_value=FIRST, max_value=LAST, timezones=st.just(UTC))
offsets = st.integers(min_value=-14 * 60, max_value=14 * 60)


@given(moments)
def test_a_moment_survives_being_written(moment: datetime) -> None:
    """Reading what was written gives the same microsecond."""
    micros = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    assert read_moment(written(micros)) == micros
    assert read_moment(str(micros)) == micros


@given(moments, offsets)
def test_the_offset_does_not_change_the_moment(moment: datetime, minutes: int) -> None:
    """The same moment in another zone is the same number."""
    there = moment.astimezone(timezone(timedelta(minutes=minutes)))
    assert read_moment(there.isoformat()) == read_moment(moment.isoformat())


@pytest.mark.parametrize(
    "text", ["", "soon", "2013-11-01T12:00:00", "2013-13-01T00:00:00Z", "--5", "1e3", "9" * 20]
)
def test_what_names_no_moment_is_refused(text: str) -> None:
    """A naive time, nonsense and a number beyond the calendar are errors, not guesses."""
    with pytest.raises(BadInput):
        read_moment(text)


def test_a_naive_time_is_told_how_to_be_one() -> None:
    """The hint shows the same time with a zone."""
    with pytest.raises(BadInput) as caught:
        read_moment("2013-11-01T12:00:00")
    assert "2013-11-01T12:00:00Z" in caught.value.hint


def test_texts_take_their_declared_types() -> None:
    """Keys and fields from the command line are what the plan says, never what they look like."""
    assert typed_value("k", "7", "str") == "7"
    assert typed_value("k", "7", "int") == 7
    assert typed_value("k", "7", "float") == 7.0
    assert typed_value("k", "True", "bool") is True
    assert typed_value("k", "1970-01-01T00:00:01Z", "time") == 1_000_000


@pytest.mark.parametrize(
    ("text", "dtype"),
    [("x", "int"), ("1.5", "int"), ("x", "float"), ("yes", "bool"), ("now", "time"), ("1", "list")],
)
def test_a_text_of_another_type_is_refused(text: str, dtype: str) -> None:
    """What does not fit the declared type is an error that names the key."""
    with pytest.raises(BadInput):
        typed_value("k", text, dtype)


def test_pairs_are_split_at_the_first_equals() -> None:
    """A value may hold equals signs and may be empty; a name may not."""
    assert pairs(["a=b=c", "d="], "--key") == {"a": "b=c", "d": ""}
    for text in ("a", "=b", ""):
        with pytest.raises(Usage):
            pairs([text], "--key")


def test_what_was_typed_wrong_is_wrong_usage() -> None:
    """Bad input that was typed on the command line becomes a usage error with the same words."""
    with pytest.raises(Usage, match="what"), usage():
        raise BadInput("what", "hint")
