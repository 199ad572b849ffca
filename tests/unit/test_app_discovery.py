"""The catalog of features as people look for them, and features written as one line."""

from __future__ import annotations

import pytest

from app.discovery import describe, features_of, matching
from app.errors import NotFound
from app.formula import duration, written
from features import Library, col, count, hours, last, mean, query_time, ref
from features.durations import days, milliseconds, minutes
from training.testing import flights_library


@pytest.fixture
def library() -> Library:
    """Two services over one view of carriers and one of the request."""
    return flights_library()


def test_every_feature_is_one_row(library: Library) -> None:
    """Features of views come with their lineage, those of requests after them."""
    rows = features_of(library)
    assert [row["ref"] for row in rows] == [
        *("carrier_delay:mean_3h", "carrier_delay:flights_3h"),
        *("leg:distance", "leg:evening", "leg:dest"),
    ]
    assert rows[0]["columns"] == ["arr_delay"]
    assert (rows[0]["dtype"], rows[0]["window"], rows[0]["entity"]) == (
        *("float", hours(3)),
        "carrier",
    )
    assert len({tuple(row) for row in rows}) == 1


@pytest.mark.parametrize(
    ("text", "found"),
    [("mean", 1), ("MEAN carrier", 1), ("carrier", 2), ("", 5), ("mean leg", 0), ("arr_delay", 1)],
)
def test_a_search_holds_every_word(library: Library, text: str, found: int) -> None:
    """Words are looked for anywhere in a row, whatever the case; all must be there."""
    assert len(matching(features_of(library), text)) == found


def test_a_view_a_feature_and_a_service_are_described(library: Library) -> None:
    """Each says who reads it or what it reads."""
    assert describe(library, "carrier_delay")["services"] == ["late"]
    feature = describe(library, "carrier_delay:mean_3h")
    assert feature["expression"] == "mean(arr_delay).over(3h)"
    service = describe(library, "late")
    assert service["keys"] == {"carrier": "str"}
    assert len(service["features"]) == 5
    assert describe(library, "leg:evening")["services"] == ["late", "late_request_only"]


@pytest.mark.parametrize(
    ("wanted", "hint"),
    [
        ("carrier_dela", "carrier_delay"),
        ("lat", "late"),
        ("carrier_delay:mean_3", "mean_3h"),
        ("carrier_dela:mean_3h", "carrier_delay"),
        ("leg:evenin", "evening"),
    ],
)
def test_what_there_is_not_gets_a_hint(library: Library, wanted: str, hint: str) -> None:
    """The nearest view, service or feature is named."""
    with pytest.raises(NotFound) as caught:
        describe(library, wanted)
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("feature", "text"),
    [
        (count().over(hours(24)), "count().over(1d)"),
        (mean(col("x") > 15.0).over(minutes(90)), "mean((x > 15.0)).over(90min)"),
        (last(col("x")), "last(x)"),
        (ref("a") / ref("b"), "(@a / @b)"),
        (query_time() - col("t"), "(query_time() - t)"),
    ],
)
def test_features_are_written_as_people_define_them(feature: object, text: str) -> None:
    """One line, close to the code that made it."""
    assert written(feature).replace("@", "") == text.replace("@", "")  # type: ignore[arg-type]


def test_lengths_of_time_take_their_largest_unit() -> None:
    """Whole units, down to µs."""
    lengths = (days(7), hours(25), minutes(90), milliseconds(1500), 1)
    assert [duration(us) for us in lengths] == ["7d", "25h", "90min", "1500ms", "1µs"]
