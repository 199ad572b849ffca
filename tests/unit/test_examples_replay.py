"""The replay asks each question after everything that was known before it, and nothing else."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from examples.flights.replay import Event, Turn, turns
from features import BadInput

NOVEMBER = datetime(2013, 11, 1, 4, tzinfo=UTC)
NOON = 1_383_307_200_000_000
TIME = pa.timestamp("us", tz="UTC")


@pytest.fixture(scope="module")
def first_day(flights_sources: Path) -> list[Turn]:
    """The first day of November on New York's clocks."""
    return list(turns(flights_sources, NOVEMBER, NOVEMBER + timedelta(days=1)))


def events_of(day: list[Turn]) -> list[Event]:
    """All events of all turns, in order."""
    return [event for turn in day for event in turn.events]


def test_every_question_knows_all_that_came_before(first_day: list[Turn]) -> None:
    """No event of an earlier turn is later than the question, none of a later one is earlier."""
    for turn, following in itertools.pairwise(first_day):
        assert turn.request is not None
        asked = turn.request.at
        assert all(event.at < asked for event in turn.events)
        assert all(event.at >= asked for event in following.events)


def test_nothing_is_left_out(first_day: list[Turn], flights_sources: Path) -> None:
    """Every flight of the day is asked about once, and every event comes once."""
    assert [turn.request is None for turn in first_day[-2:]] == [False, True]
    start, end = (int(moment.timestamp() * 1e6) for moment in (NOVEMBER, NOVEMBER + timedelta(1)))
    for name, column, found in (
        ("flights", "departed_at", len(first_day) - 1),
        ("departures", "reported_at", _count(first_day, "departures")),
        ("landings", "reported_at", _count(first_day, "landings")),
        ("weather", "published_at", _count(first_day, "weather")),
    ):
        moments = pq.read_table(flights_sources / f"{name}.parquet")[column].cast(pa.int64())
        inside = [moment for moment in moments.to_pylist() if start <= moment < end]
        assert found == len(inside) > 0, name


def test_a_question_has_the_body_that_the_service_takes(first_day: list[Turn]) -> None:
    """A question carries keys, request fields and its own time, in ISO 8601 with the zone."""
    request = first_day[0].request
    assert request is not None
    body = request.body()
    assert set(body) == {"entities", "request", "at"}
    assert set(body["entities"]) == {"carrier", "origin", "dest", "tailnum"}
    assert datetime.fromisoformat(body["at"]).timestamp() * 1e6 == request.at
    assert "arr_delay" not in body["request"]


def test_what_became_known_at_that_very_moment_comes_after(tmp_path: Path) -> None:
    """An event of the same microsecond as a question is not yet known to it."""
    _write(tmp_path, flights=[NOON], landings=[NOON - 1, NOON])
    first, rest = turns(tmp_path, _moment(NOON - 10), _moment(NOON + 10))
    assert [event.at for event in first.events] == [NOON - 1]
    assert [event.at for event in rest.events] == [NOON]


def test_times_in_rows_are_integers(first_day: list[Turn]) -> None:
    """Rows are ready for the log: times as microseconds in UTC."""
    event = events_of(first_day)[0]
    assert all(isinstance(v, int) for name, v in event.row.items() if name.endswith("_at"))


def test_a_naive_period_is_refused(tmp_path: Path) -> None:
    """A period without a time zone is an error, not a guess."""
    naive = datetime(2013, 11, 1)  # noqa: DTZ001 - that is the point
    with pytest.raises(BadInput, match="time zone"):
        list(turns(tmp_path, naive, NOVEMBER))


def _count(day: list[Turn], stream: str) -> int:
    return sum(event.stream == stream for event in events_of(day))


def _moment(micros: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=micros)


def _write(folder: Path, *, flights: list[int], landings: list[int]) -> None:
    texts = ("flight_id", "carrier", "origin", "dest", "tailnum")
    floats = ("distance", "scheduled_minutes", "scheduled_hour", "scheduled_weekday", "arr_delay")
    columns = {name: ["x"] * len(flights) for name in texts}
    numbers = {name: [0.0] * len(flights) for name in floats}
    times = {"departed_at": pa.array(flights, TIME)}
    pq.write_table(pa.table({**columns, **numbers, **times}), folder / "flights.parquet")
    _write_events(folder, "landings", "reported_at", landings)
    _write_events(folder, "departures", "reported_at", [])
    _write_events(folder, "weather", "published_at", [])


def _write_events(folder: Path, name: str, column: str, moments: list[int]) -> None:
    pq.write_table(pa.table({column: pa.array(moments, TIME)}), folder / f"{name}.parquet")
