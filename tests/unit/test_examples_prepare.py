"""The example's sources: every moment of 2013 in UTC, checked against the clocks as recorded."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from examples.flights import prepare
from features import BadInput

FLIGHTS = 336_776
DEPARTED = 328_521
LANDED = 327_346


@pytest.fixture(scope="module")
def raw() -> pa.Table:
    """The flights that left, as the package has them."""
    return prepare.departed(prepare.read_flights(prepare.package_data()))


@pytest.fixture(scope="module")
def zones() -> dict[str, str]:
    """The time zone of every airport."""
    return prepare.airport_zones(prepare.package_data())


@pytest.fixture(scope="module")
def flights(raw: pa.Table, zones: dict[str, str]) -> pa.Table:
    """The flights that left, row by row as in ``raw``."""
    return prepare.flights_table(raw, zones)


def flight(flights: pa.Table, flight_id: str) -> dict[str, Any]:
    """The one flight of that id."""
    [row] = flights.filter(pc.equal(flights["flight_id"], flight_id)).to_pylist()
    return dict(row)


def utc(*parts: int) -> datetime:
    """A moment in UTC."""
    return datetime(*parts, tzinfo=UTC)  # type: ignore[arg-type, misc]


def clock(moment: datetime, zone: ZoneInfo) -> int:
    """What a clock on the wall shows, as hhmm."""
    local = moment.astimezone(zone)
    return local.hour * 100 + local.minute


def disagreements(
    moments: pa.ChunkedArray, recorded: pa.ChunkedArray, zones: list[ZoneInfo]
) -> list[int]:
    """The rows in which the wall clock at our moment is not what was recorded."""
    rows = enumerate(zip(moments.to_pylist(), recorded.to_pylist(), zones, strict=True))
    return [
        row
        for row, (moment, hhmm, zone) in rows
        if moment is not None and clock(moment, zone) != int(hhmm) % 2400
    ]


def test_no_flight_is_lost(flights: pa.Table) -> None:
    """All 336,776 flights but the 8,255 cancelled ones leave; 1,175 of those never land."""
    assert prepare.read_flights(prepare.package_data()).num_rows == FLIGHTS
    assert flights.num_rows == DEPARTED
    assert flights["landed_at"].null_count == DEPARTED - LANDED


def test_every_departure_agrees_with_the_clock(flights: pa.Table, raw: pa.Table) -> None:
    """Scheduled moment plus delay shows the recorded departure time, for every flight."""
    zones = [ZoneInfo("America/New_York")] * raw.num_rows
    assert disagreements(flights["departed_at"], raw["dep_time"], zones) == []


def test_every_landing_but_one_agrees_with_the_clock(
    flights: pa.Table, raw: pa.Table, zones: dict[str, str]
) -> None:
    """One landing of 327,346 differs: it was recorded at 02:03 in the hour that spring skips."""
    places = [ZoneInfo(zones[code]) for code in raw["dest"].to_pylist()]
    [row] = disagreements(flights["landed_at"], raw["arr_time"], places)
    found = raw.slice(row, 1).to_pylist()[0]
    assert (found["carrier"], found["flight"], found["dest"]) == ("B6", 35, "PBI")
    assert (found["month"], found["day"], found["arr_time"]) == (3, 9, 203)
    assert flights["landed_at"][row].as_py() == utc(2013, 3, 10, 7, 3)


def test_time_in_the_air_fits_between_the_moments(flights: pa.Table, raw: pa.Table) -> None:
    """Gate to gate takes the time in the air and 5 to 235 minutes on the ground: no day is off."""
    gate_to_gate = pc.subtract(
        flights["landed_at"].cast(pa.int64()), flights["departed_at"].cast(pa.int64())
    )
    minutes = pc.drop_null(pc.subtract(pc.divide(gate_to_gate, 60_000_000), raw["air_time"]))
    assert pc.min_max(minutes).as_py() == {"min": 5, "max": 235}


def test_hours_agree_with_the_package(flights: pa.Table, raw: pa.Table) -> None:
    """The scheduled moment lies in the hour that the package gives in UTC."""
    micros = flights["scheduled_at"].cast(pa.int64()).to_numpy()
    hours = raw["time_hour"].cast(pa.timestamp("us", tz="UTC")).cast(pa.int64()).to_numpy()
    assert np.array_equal(micros // 3_600_000_000 * 3_600_000_000, hours)


@pytest.mark.parametrize(
    ("flight_id", "departed_at", "landed_at"),
    [
        # An ordinary morning: 05:17 in New York, 08:30 in Houston.
        ("UA-1545-EWR-2013-01-01T10:15", utc(2013, 1, 1, 10, 17), utc(2013, 1, 1, 14, 30)),
        # Puerto Rico, which has no row among the airports: 05:44 there and 10:04 here.
        ("B6-725-JFK-2013-01-01T10:45", utc(2013, 1, 1, 10, 44), utc(2013, 1, 1, 14, 4)),
        # 23:06 before the clocks go forward, 03:03 after; recorded as 02:03.
        ("B6-35-JFK-2013-03-10T02:45", utc(2013, 3, 10, 4, 6), utc(2013, 3, 10, 7, 3)),
    ],
)
def test_known_flights(
    flights: pa.Table, flight_id: str, departed_at: datetime, landed_at: datetime
) -> None:
    """Flights looked up by hand leave and land at the right moments."""
    row = flight(flights, flight_id)
    assert (row["departed_at"], row["landed_at"]) == (departed_at, landed_at)


@pytest.mark.parametrize(
    ("day", "offset_before", "offset_after"), [((3, 10), -5, -4), ((11, 3), -4, -5)]
)
def test_clock_changes(
    flights: pa.Table, raw: pa.Table, day: tuple[int, int], offset_before: int, offset_after: int
) -> None:
    """Schedules are on the old offset on the eve of a clock change and on the new one that day."""
    for shift, offset in ((-1, offset_before), (0, offset_after)):
        date = datetime(2013, *day) + timedelta(days=shift)  # noqa: DTZ001 - a local day
        of_day = pc.and_(pc.equal(raw["month"], date.month), pc.equal(raw["day"], date.day))
        scheduled = flights.filter(of_day)["scheduled_at"].to_pylist()
        clocks = raw.filter(of_day)["sched_dep_time"].to_pylist()
        wanted = [
            (date + timedelta(hours=hhmm // 100 - offset, minutes=hhmm % 100)).replace(tzinfo=UTC)
            for hhmm in clocks
        ]
        assert scheduled == wanted


def test_a_departure_after_midnight_is_on_the_next_day(flights: pa.Table, raw: pa.Table) -> None:
    """A flight of 23:59 that left at 00:06 left seven minutes later, not a day earlier."""
    late = pc.and_(pc.equal(raw["sched_dep_time"], 2359), pc.equal(raw["dep_time"], 6))
    rows = flights.filter(late).to_pylist()
    assert rows
    assert {row["departed_at"] - row["scheduled_at"] for row in rows} == {timedelta(minutes=7)}


def test_midnight_as_2400_is_a_moment_like_any_other(flights: pa.Table, raw: pa.Table) -> None:
    """The 29 departures recorded at 24:00 left at midnight in New York."""
    rows = flights.filter(pc.equal(raw["dep_time"], 2400)).to_pylist()
    assert len(rows) == 29
    assert {clock(row["departed_at"], ZoneInfo("America/New_York")) for row in rows} == {0}


def test_caribbean_airports_stay(flights: pa.Table, raw: pa.Table) -> None:
    """The 7,602 flights to four airports without a row are kept, less the cancelled ones."""
    codes = pa.array(sorted(prepare.ZONES_WITHOUT_AIRPORT_ROW))
    everything = prepare.read_flights(prepare.package_data())
    assert pc.sum(pc.is_in(everything["dest"], codes)).as_py() == 7_602
    there = pc.is_in(raw["dest"], codes)
    assert flights.filter(there).num_rows == pc.sum(there).as_py()


def test_request_fields_are_local(flights: pa.Table) -> None:
    """Hour and weekday (0 is Monday) are those of the airport's clock at the scheduled time."""
    row = flight(flights, "UA-1545-EWR-2013-01-01T10:15")
    assert (row["scheduled_hour"], row["scheduled_weekday"]) == (5, 1)
    assert row["scheduled_minutes"] == 244.0


def test_ids_are_unique(flights: pa.Table) -> None:
    """A flight's id names one flight, and every flight has a tail number to ask about."""
    assert pc.count_distinct(flights["flight_id"]).as_py() == DEPARTED
    assert flights["tailnum"].null_count == 0


def test_clock_times_that_do_not_exist_once_are_refused() -> None:
    """A local time that was skipped, or came twice, is an error and no guess."""
    eastern = np.array(["America/New_York"], dtype=object)
    for local in ("2013-03-10T02:30", "2013-11-03T01:30"):
        minutes = np.array([local], dtype="M8[m]").astype(np.int64)
        with pytest.raises(BadInput, match="exactly once"):
            prepare.utc_from_local(minutes, eastern)


def test_an_unknown_airport_is_refused(raw: pa.Table) -> None:
    """An airport without a time zone is named, not given New York's."""
    with pytest.raises(BadInput, match="no time zone is known for"):
        prepare.flights_table(raw.slice(0, 10), {"EWR": "America/New_York"})


def test_events_become_known_after_they_happen(flights_sources: Path) -> None:
    """Gate messages come five minutes later, weather reports when their hour is over."""
    for name, time, known, minutes in (
        ("departures", "departed_at", "reported_at", 5),
        ("landings", "landed_at", "reported_at", 5),
        ("weather", "observed_at", "published_at", 60),
    ):
        table = pq.read_table(flights_sources / f"{name}.parquet")
        delays = pc.subtract(table[known].cast(pa.int64()), table[time].cast(pa.int64()))
        assert pc.unique(delays).to_pylist() == [minutes * 60_000_000], name


def test_a_label_is_settled_when_it_is_known(flights: pa.Table) -> None:
    """A row of the spine is complete five minutes after landing, or a day after leaving."""
    settled = flights["settled_at"].cast(pa.int64()).to_numpy()
    landed = pc.fill_null(flights["landed_at"].cast(pa.int64()), 0).to_numpy()
    departed = flights["departed_at"].cast(pa.int64()).to_numpy()
    minutes = np.where(landed > 0, settled - landed, settled - departed) // 60_000_000
    assert set(minutes[landed > 0]) == {5}
    assert set(minutes[landed == 0]) == {1_440}


def test_files_are_in_the_order_of_becoming_known(flights_sources: Path) -> None:
    """Each file can be played from its first row to its last."""
    order = {
        "departures": ("reported_at", DEPARTED),
        "landings": ("reported_at", LANDED),
        "weather": ("published_at", 26_115),
        "flights": ("departed_at", DEPARTED),
    }
    for name, (column, rows) in order.items():
        table = pq.read_table(flights_sources / f"{name}.parquet")
        moments = table[column].cast(pa.int64()).to_numpy()
        assert (table.num_rows, bool(np.all(np.diff(moments) >= 0))) == (rows, True), name


def test_the_doubled_weather_hour_is_two_hours(flights_sources: Path) -> None:
    """On 3 November the local hour 1 came twice: three airports have two reports, an hour apart."""
    weather = pq.read_table(flights_sources / "weather.parquet")
    rows = weather.filter(
        pc.is_in(weather["report_id"], pa.array(_ids("2013-11-03T05", "2013-11-03T06")))
    ).to_pylist()
    assert len(rows) == 6
    temperatures = {(row["origin"], row["observed_at"]): row["temp"] for row in rows}
    assert temperatures["EWR", utc(2013, 11, 3, 5)] == 51.98
    assert temperatures["EWR", utc(2013, 11, 3, 6)] == 50.0


def test_the_same_bytes_every_time(flights_sources: Path, tmp_path: Path) -> None:
    """Preparing twice gives equal files, so ingesting them again finds nothing to do."""
    again = prepare.write_sources(tmp_path)
    assert {
        name: path.read_bytes() == (flights_sources / path.name).read_bytes()
        for name, path in again.items()
    } == dict.fromkeys(("departures", "landings", "weather", "flights"), True)


def _ids(*hours: str) -> list[str]:
    return [f"{airport}-{hour}" for airport in ("EWR", "JFK", "LGA") for hour in hours]
