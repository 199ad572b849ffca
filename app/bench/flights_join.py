"""The example's year of flights: all that is known of their history, beside SQL, value by value.

The SQL is what somebody would write who knows the data: every report comes a fixed time after its
event, so a window is the difference of two running sums, each found by an ASOF join.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from app.bench.report import Json, measured
from app.demo.stage import PROJECT, SOURCES
from app.project import load_library
from examples.flights.prepare import write_sources
from features.batch.join import join_in_memory
from features.dtypes import as_dtype
from features.plan import ServicePlan, resolve

_REFS = (
    "carrier_delay:*,origin_congestion:*,route_delay:*,tail_history:last_delay,"
    "tail_history:minutes_since_landing,tail_history:landings_24h,tail_history:delay_mean_24h,"
    "airport_weather:*"
)
_MINUTE, _HOUR = 60_000_000, 3_600_000_000
_WEATHER = ("temp", "dewp", "humid", "wind_speed", "wind_gust", "precip", "pressure", "visib")


@dataclass(frozen=True, slots=True)
class FlightsJoin:
    """What was measured; every value was equal, or an error would have been raised."""

    values: Json
    ratios: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class _Window:
    """Columns over one window (µs) and its hop: of counts, of means, of shares above 15."""

    width: int
    hop: int
    count: str = ""
    mean: str = ""
    late: str = ""


@dataclass(frozen=True, slots=True)
class _Side:
    """A view in SQL: its keys, events, their times, and how long after a report comes."""

    view: str
    keys: tuple[str, ...]
    events: str
    time: str
    value: str
    lag: int
    windows: tuple[_Window, ...]


_DAY_WINDOW = (24 * _HOUR, _HOUR)
_SIDES = (
    _Side("carrier_delay", ("carrier",), "landings", "landed_at", "arr_delay", 5 * _MINUTE, (
        _Window(3 * _HOUR, 5 * _MINUTE, "flights_3h", "delay_mean_3h", "late_share_3h"),
        _Window(*_DAY_WINDOW, "flights_24h", "delay_mean_24h", "late_share_24h"),
        _Window(168 * _HOUR, _HOUR, "", "delay_mean_7d", "late_share_7d"),
    )),
    _Side("origin_congestion", ("origin",), "departures", "departed_at", "dep_delay", 5 * _MINUTE, (
        _Window(_HOUR, 5 * _MINUTE, "departures_1h", "dep_delay_mean_1h", "late_share_1h"),
    )),
    _Side("route_delay", ("origin", "dest"), "landings", "landed_at", "arr_delay", 5 * _MINUTE, (
        _Window(*_DAY_WINDOW, "flights_24h", "delay_mean_24h"),
        _Window(168 * _HOUR, _HOUR, "", "delay_mean_7d", "late_share_7d"),
    )),
    _Side("tail_history", ("tailnum",), "landings", "landed_at", "arr_delay", 5 * _MINUTE, (
        _Window(*_DAY_WINDOW, "landings_24h", "delay_mean_24h"),
    )),
)  # fmt: skip


def run_flights() -> FlightsJoin:
    """Joins every flight of the year, both ways; raises AssertionError for any difference."""
    plan = resolve(load_library(PROJECT), _REFS)
    with tempfile.TemporaryDirectory() as folder:
        files = write_sources(Path(folder))
        tables = {name: pq.read_table(files[name]) for name in SOURCES}
    spine = tables["flights"].select(["carrier", "origin", "dest", "tailnum", "departed_at"])
    found, ours = measured(lambda: join_in_memory(plan, tables, spine, "departed_at"))
    expected, seconds = _in_sql(tables, spine)
    compared = _compare(plan, found, expected)
    values = {
        "flights_rows": spine.num_rows,
        "flights_features": len(plan.outputs),
        "flights_values_compared": compared,
        "flights_mismatches": 0,
        "flights_rows_per_s": round(spine.num_rows / ours.seconds),
        "flights_duckdb_rows_per_s": round(spine.num_rows / seconds),
        "flights_peak_memory_bytes": ours.peak_memory_bytes,
    }
    return FlightsJoin(values, {"flights_time_vs_duckdb": ours.seconds / seconds})


def _in_sql(tables: Mapping[str, pa.Table], spine: pa.Table) -> tuple[dict[str, pa.Array], float]:
    with duckdb.connect() as connection:
        for name, table in tables.items():
            _load(connection, name, table)
        _load(connection, "spine", spine.append_column("n", pa.array(range(spine.num_rows))))
        found: dict[str, pa.Array] = {}
        seconds = 0.0
        for view, sql in _statements():
            answer, took = measured(partial(_arrow, connection, sql))
            seconds += took.seconds
            answer = answer.sort_by("n").drop_columns(["n"])
            columns = zip(answer.column_names, answer.columns, strict=True)
            found |= {f"{view}__{name}": column.combine_chunks() for name, column in columns}
    return found, seconds


def _arrow(connection: Any, sql: str) -> pa.Table:
    return connection.sql(sql).to_arrow_table()


def _load(connection: Any, name: str, table: pa.Table) -> None:
    """A table of DuckDB's own, its times as µs; not measured."""
    columns = {
        field.name: as_dtype(table.column(field.name), "time").cast(pa.int64())
        if pa.types.is_timestamp(field.type)
        else table.column(field.name)
        for field in table.schema
    }
    connection.register("given", pa.table(columns))
    connection.execute(f"create table {name} as select * from given")
    connection.unregister("given")


def _statements() -> list[tuple[str, str]]:
    """By view, a query that gives its columns and ``n``, the row of the spine."""
    windowed = [(side.view, _windows_sql(side)) for side in _SIDES]
    latest = [("tail_history", _latest_sql("landings", "tailnum", "landed_at", 5 * _MINUTE,
                                           168 * _HOUR, ("arr_delay", "landed_at")))]  # fmt: skip
    latest.append(("airport_weather", _latest_sql("weather", "origin", "observed_at", _HOUR,
                                                  6 * _HOUR, _WEATHER)))  # fmt: skip
    return windowed + latest


def _windows_sql(side: _Side) -> str:
    keys = ", ".join(side.keys)
    running = f"""
        select {keys}, t, sum(c) over w as c, sum(cx) over w as cx, sum(x) over w as x,
               sum(late) over w as late
        from (select {keys}, {side.time} as t, count(*) as c, count({side.value}) as cx,
                     coalesce(sum({side.value}), 0) as x,
                     count(*) filter (where {side.value} > 15) as late
              from {side.events} group by all)
        window w as (partition by {keys} order by t rows unbounded preceding)"""
    columns, joins = ["s.n"], [_asof("u", side.keys, f"s.departed_at > u.t + {side.lag}")]
    for i, window in enumerate(side.windows):
        start = f"(s.departed_at - {window.width}) // {window.hop} * {window.hop}"
        joins.append(_asof(f"l{i}", side.keys, f"{start} > l{i}.t"))
        columns += _window_columns(window, f"l{i}", side.keys)
    if side.view == "carrier_delay":
        columns.append("delay_mean_3h - delay_mean_24h as trend")
    query = f"select {', '.join(columns)} from spine s {' '.join(joins)}"
    return f"with running as materialized ({running}) {query}"


def _asof(name: str, keys: tuple[str, ...], later: str) -> str:
    equal = " and ".join(f"s.{key} = {name}.{key}" for key in keys)
    return f"asof left join running {name} on {equal} and {later}"


def _window_columns(window: _Window, low: str, keys: tuple[str, ...]) -> list[str]:
    def between(column: str) -> str:
        return f"(coalesce(u.{column}, 0) - coalesce({low}.{column}, 0))"

    known = " and ".join(f"s.{key} is not null" for key in keys)
    columns = {
        window.count: f"case when {known} then {between('c')} end",
        window.mean: f"{between('x')} / nullif({between('cx')}, 0)",
        window.late: f"{between('late')} / nullif({between('cx')}, 0)",
    }
    return [f"{sql} as {name}" for name, sql in columns.items() if name]


def _latest_sql(
    events: str, key: str, time: str, lag: int, ttl: int, columns: tuple[str, ...]
) -> str:
    """The last value of each column that is not null, unless it is older than ``ttl``."""
    q, shown, joins = "s.departed_at", ["s.n"], []
    for name in columns:
        value = f"case when {q} - {name}_.t <= {ttl} then {name}_.x end"
        if name == "landed_at":
            shown.append(f"({q} - {value}) / 1e6 / 60.0 as minutes_since_landing")
        else:
            shown.append(f"{value} as {'last_delay' if name == 'arr_delay' else name}")
        side = f"(select {key}, {time} as t, max({name}) as x from {events} where {name} is not null group by all)"  # noqa: E501
        joins.append(
            f"asof left join {side} {name}_ on s.{key} = {name}_.{key} and {q} > {name}_.t + {lag}"
        )
    return f"select {', '.join(shown)} from spine s {' '.join(joins)}"


def _compare(plan: ServicePlan, found: pa.Table, expected: Mapping[str, pa.Array]) -> int:
    """How many values were compared, bit by bit; raises AssertionError for one that differs."""
    for output in plan.outputs:
        ours = _floats(found.column(output.column).combine_chunks())
        theirs = _floats(expected[output.column])
        differs = ~((ours == theirs) | (np.isnan(ours) & np.isnan(theirs)))
        if differs.any():
            row = int(np.argmax(differs))
            raise AssertionError(
                f"{output.column}: {int(differs.sum())} values differ, the first in row {row}: "
                f"{ours[row]} is not {theirs[row]}"
            )
    return len(plan.outputs) * len(found)


def _floats(column: pa.Array) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.asarray(column.cast(pa.float64()).to_numpy(zero_copy_only=False))
