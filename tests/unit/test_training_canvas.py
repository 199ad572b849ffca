"""A model is data: wrong ones fail when they are made, and spines are what they say."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest

from features import col
from features.errors import BadInput, DefinitionError, TondoError
from training.canvas import Spine, TimeSplit
from training.spine import LABEL, build_spine, spine_columns
from training.testing import flights_model, flights_plan

JANUARY, MARCH, MAY, JUNE, JULY = (
    datetime(2013, month, 1, tzinfo=UTC) for month in (1, 3, 5, 6, 7)
)


def test_periods_are_utc_microseconds() -> None:
    """Zoned datetimes and µs mean the same period."""
    split = TimeSplit((JANUARY, MARCH), (MARCH, MAY), (MAY, JULY))
    micros = int(MARCH.timestamp()) * 1_000_000
    assert split.bounds()["train"][1] == split.bounds()["validate"][0] == micros


@pytest.mark.parametrize(
    "periods",
    [
        ((JANUARY, MAY), (MARCH, MAY), (MAY, JULY)),
        ((MARCH, JANUARY), (MARCH, MAY), (MAY, JULY)),
        ((MAY, JULY), (JANUARY, MARCH), (MARCH, MAY)),
    ],
)
def test_a_split_that_would_leak_is_refused(periods: tuple[tuple[datetime, datetime], ...]) -> None:
    """Periods that overlap or run backwards never become a model."""
    with pytest.raises(DefinitionError, match="overlap or run backwards"):
        TimeSplit(*periods)


def test_naive_times_are_refused() -> None:
    """A datetime without a zone is refused."""
    naive = datetime(2013, 1, 1)  # noqa: DTZ001
    with pytest.raises(TondoError, match="naive"):
        TimeSplit((naive, MARCH), (MARCH, MAY), (MAY, JULY))


@pytest.mark.parametrize(
    "wrong", [{"family": "Flights"}, {"rounds": 0}, {"report_every": 0}, {"metric": "rmse"}]
)
def test_a_model_that_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    """A bad name, empty trainings and a metric of another problem fail when they are written."""
    with pytest.raises(DefinitionError):
        flights_model(**wrong)


def test_settings_change_rounds_or_parameters() -> None:
    """``--set`` reaches the training's own settings and, by any other name, XGBoost's."""
    changed = flights_model().with_settings({"rounds": "7", "max_depth": 2})
    assert (changed.rounds, changed.parameters["max_depth"]) == (7, 2)
    assert changed.settings()["rounds"] == 7
    assert flights_model().rounds == 40


def test_settings_move_the_ends_of_the_split() -> None:
    """A period that ends elsewhere is followed by the next at that very moment."""
    split = TimeSplit((JANUARY, MARCH), (MARCH, MAY), (MAY, JULY))
    model = flights_model(split=split)
    moved = model.with_settings({"train_until": "2013-04-01T00:00:00-04:00", "test_until": JUNE})
    april = int(datetime(2013, 4, 1, 4, tzinfo=UTC).timestamp()) * 1_000_000
    bounds = moved.split.bounds()
    assert bounds["train"] == (split.bounds()["train"][0], april)
    assert bounds["validate"] == (april, split.bounds()["validate"][1])
    assert bounds["test"] == (split.bounds()["test"][0], int(JUNE.timestamp()) * 1_000_000)
    assert moved.parameters == model.parameters


def test_the_lineage_tells_where_the_split_was() -> None:
    """What a run records leads back to the very same model."""
    model = flights_model().with_settings(
        {"train_until": flights_model().split.ends()["train_until"] + 5}
    )
    again = flights_model().with_settings(model.settings())
    assert again.split.bounds() == model.split.bounds()


@pytest.mark.parametrize(
    ("value", "expected"),
    [("none", ()), (None, ()), (False, ()), ("a", ("a",)), ("a, b", ("a", "b"))],
)
def test_settings_choose_the_baselines(value: object, expected: tuple[str, ...]) -> None:
    """A run may leave baselines out, or take others; it is no parameter of the training."""
    model = flights_model(baselines=("late_request_only",)).with_settings({"baselines": value})
    assert model.baselines == expected
    assert "baselines" not in model.parameters


@pytest.mark.parametrize("value", ["tomorrow", 1.5, True, JANUARY.date(), None])
def test_an_end_that_is_no_moment_is_refused(value: object) -> None:
    """A setting that names no moment is an error that shows how to write one."""
    with pytest.raises(DefinitionError, match="not a moment"):
        flights_model().with_settings({"train_until": value})


@pytest.mark.parametrize("moved", ["2014-01-01T00:00:00Z", "2012-01-01T00:00:00Z"])
def test_an_end_outside_its_neighbours_is_refused(moved: str) -> None:
    """An end before its beginning, or after the next period's end, never becomes a model."""
    with pytest.raises(DefinitionError, match="overlap or run backwards"):
        flights_model().with_settings({"train_until": moved})


def test_an_end_without_a_zone_is_refused() -> None:
    """A naive moment names none."""
    with pytest.raises(TondoError, match="naive"):
        flights_model().with_settings({"train_until": "2013-04-01T00:00:00"})


def flights_table() -> pa.Table:
    moment = pa.array([3, 1, 2, 4], pa.timestamp("us", tz="UTC"))
    return pa.table(
        {
            "departed_at": moment,
            "carrier": ["UA", "AA", None, "B6"],
            "distance": [1.0, 2.0, 3.0, 4.0],
            "hour": [1, 2, 3, 4],
            "dest": ["BOS", "MIA", "ORD", "BOS"],
            "origin": ["JFK", "EWR", "LGA", "JFK"],
            "arr_delay": [20.0, 10.0, None, 15.1],
            "cancelled": [False, None, False, True],
            "unused": [0, 0, 0, 0],
        }
    )


def test_a_spine_has_the_labelled_rows_in_order() -> None:
    """Rows without a label, and those not wanted, are left out; the label is a number."""
    spine = Spine("lake.flights", "departed_at", label=col("arr_delay") > 15)
    model = flights_model(spine=spine, segments=("origin",))
    made = build_spine(model, flights_table(), [flights_plan()])
    assert made.column_names == [
        "departed_at",
        "carrier",
        "distance",
        "hour",
        "dest",
        "origin",
        LABEL,
    ]
    assert made[LABEL].to_pylist() == [1.0, 0.0, 1.0]
    assert made["carrier"].to_pylist() == ["UA", "AA", "B6"]


def test_where_keeps_only_what_is_true() -> None:
    """A condition that is false or null leaves the row out."""
    spine = Spine("lake.flights", "departed_at", "arr_delay", where=~col("cancelled"))
    made = build_spine(flights_model(spine=spine), flights_table(), [flights_plan()])
    assert made[LABEL].to_pylist() == [20.0]


def test_a_scan_needs_only_the_named_columns() -> None:
    """What to scan is named: time, keys, request fields, segments, label and condition."""
    spine = Spine("lake.flights", "departed_at", "arr_delay", where=~col("cancelled"))
    names = spine_columns(flights_model(spine=spine), [flights_plan()])
    assert names == [
        "departed_at",
        "carrier",
        "distance",
        "hour",
        "dest",
        "arr_delay",
        "cancelled",
    ]


def test_a_missing_column_is_named_with_the_nearest() -> None:
    """A spine column that the table lacks is an error with a hint."""
    spine = Spine("lake.flights", "departed_at", "arr_dely")
    with pytest.raises(BadInput, match=r"arr_dely.*\n.*arr_delay"):
        build_spine(flights_model(spine=spine), flights_table(), [flights_plan()])
