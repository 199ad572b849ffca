"""The point-in-time join beside DuckDB: a year of flights, then made events of any number.

Both read tables in memory and give columns in memory. The flights are answered with every value
compared; of the made data whatever rounding cannot change is, and the rest to 12 digits.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from app.bench.flights_join import run_flights
from app.bench.report import Json, Measured, measured, report
from app.errors import BadInput
from features import (
    Aggregation,
    Entity,
    FeatureView,
    Source,
    col,
    count,
    hours,
    last,
    mean,
    stddev,
)
from features import min as least
from features import sum as total
from features.batch.kernel import AS_OF, features_as_of
from features.plan import ViewPlan

SEED = 2013
EVENTS = 10_000_000
"""Made events of the join of latest values; a fifth as many rows are asked for."""
_EVENTS_PER_KEY = 100
_COLUMNS = 5
_WINDOWS_H = (1, 24, 168, 720)
_WINDOWED_SHARE, _WINDOWED_MOST = 10, 1_000_000
"""Windows get a tenth of the events, and no more than this: DuckDB takes minutes beyond."""
_DAYS = 90
_TIMES = pa.timestamp("us", tz="UTC")
_DIGITS = 1e-12


def run(size: int | None = None) -> Json:
    """All parts; ``size`` is the number of made events. Raises BadInput below 1,000."""
    events = EVENTS if size is None else size
    if events < 1_000:
        raise BadInput(f"{events} events measure nothing", "Use --size 1000 or more.")
    flights = run_flights()
    ours, theirs, spine = _latest(events, events // 5)
    windowed = min(events // _WINDOWED_SHARE, _WINDOWED_MOST)
    ours_windowed, theirs_windowed = _windowed(windowed, windowed // 10)
    return report(
        "point-in-time",
        seed=SEED,
        baseline="DuckDB, the same answers in SQL, in the same process",
        values={
            **flights.values,
            "events": events,
            "spine_rows": spine,
            "rows_per_s": round(spine / ours.seconds),
            "peak_memory_bytes": ours.peak_memory_bytes,
            "seconds": round(ours.seconds, 3),
            "duckdb_seconds": round(theirs.seconds, 3),
            "duckdb_peak_memory_bytes": theirs.peak_memory_bytes,
            "windowed_events": windowed,
            "windowed_spine_rows": windowed // 10,
            "windowed_features": len(_windows()),
            "windowed_seconds": round(ours_windowed.seconds, 3),
            "windowed_duckdb_seconds": round(theirs_windowed.seconds, 3),
        },
        ratios={
            **flights.ratios,
            "time_vs_duckdb": ours.seconds / theirs.seconds,
            "windowed_time_vs_duckdb": ours_windowed.seconds / theirs_windowed.seconds,
        },
        packages=("duckdb", "numpy", "pyarrow"),
    )


def made_events(events: int) -> pa.Table:
    """Events of a hundredth as many keys over 90 days, with random floats."""
    random = np.random.default_rng(SEED)
    keys = random.integers(0, max(events // _EVENTS_PER_KEY, 1), events)
    columns = {f"x{i}": pa.array(random.normal(size=events)) for i in range(_COLUMNS)}
    return pa.table({"k": keys, "t": _moments(random, events), **columns})


def made_spine(rows: int, events: int) -> pa.Table:
    """Rows that ask for the same keys at other times."""
    random = np.random.default_rng(SEED + 1)
    keys = random.integers(0, max(events // _EVENTS_PER_KEY, 1), rows)
    return pa.table({"k": keys, "t": _moments(random, rows), "n": np.arange(rows)})


def _moments(random: np.random.Generator, size: int) -> pa.Array:
    return pa.array(random.integers(0, _DAYS * 86_400_000_000, size), _TIMES)


def _latest(events: int, rows: int) -> tuple[Measured, Measured, int]:
    """Five latest values: our ``last``, their ASOF join; every value is compared."""
    known, asked = made_events(events), made_spine(rows, events)
    names = [f"x{i}" for i in range(_COLUMNS)]
    view = _view({name: last(col(name)) for name in names})
    found, ours = measured(lambda: _ours(view, known, asked))
    columns = ", ".join(f"e.{name}" for name in names)
    sql = f"select s.n, {columns} from s asof left join e on s.k = e.k and s.t > e.t"
    expected, theirs = _theirs(sql, {"e": known, "s": asked})
    for name in names:
        # Two events of one key and time may stand in any order there.
        _compare(name, found[name], expected.column(name), allowed=1e-4)
    return ours, theirs, rows


def _windowed(events: int, rows: int) -> tuple[Measured, Measured]:
    """Four windows of five aggregations: our kernel, their RANGE frames."""
    known, asked = made_events(events), made_spine(rows, events)
    found, ours = measured(lambda: _ours(_view(_windows(), hop=1), known, asked))
    expected, theirs = _theirs(_range_frames(), {"e": known, "s": asked})
    for name in _windows():
        _compare(name, found[name], expected.column(name))
    return ours, theirs


def _windows() -> dict[str, Aggregation]:
    x, found = col("x0"), {}
    for width in _WINDOWS_H:
        made = (count(), total(x), mean(x), least(x), stddev(x))
        kinds = ("count", "sum", "mean", "min", "stddev")
        for kind, one in zip(kinds, made, strict=True):
            found[f"{kind}_{width}h"] = one.over(hours(width))
    return found


def _range_frames() -> str:
    frames = "interval {0} hour preceding and interval 1 microsecond preceding"
    windows = ", ".join(
        f"w{width} as (partition by k order by t range between {frames.format(width)})"
        for width in _WINDOWS_H
    )
    asked = {"count": "count", "sum": "sum", "mean": "avg", "min": "min", "stddev": "stddev_samp"}
    columns = ", ".join(
        f"{function}(x) over w{width} as {kind}_{width}h"
        for width in _WINDOWS_H
        for kind, function in asked.items()
    )
    both = "select k, t, x0 as x, null as n from e union all select k, t, null, n from s"
    return f"select * from (select n, {columns} from ({both}) window {windows}) where n is not null"


def _view(features: Mapping[str, Aggregation], hop: int | None = None) -> FeatureView:
    schema: dict[str, Any] = {"k": int, "t": "time"}
    schema |= {f"x{i}": float for i in range(_COLUMNS)}
    source = Source("made", table="lake.made", event_time="t", schema=schema)
    entity = Entity("k", key="k", type=int)
    return FeatureView("made", entity=entity, source=source, features=features, hop=hop)


def _ours(view: FeatureView, events: pa.Table, spine: pa.Table) -> dict[str, pa.Array]:
    plan = ViewPlan.of("made", view, ("k",), tuple(view.features))
    keys = pa.table({"k": spine.column("k"), AS_OF: spine.column("t")})
    return features_as_of(plan, events, keys).columns


def _theirs(sql: str, tables: Mapping[str, pa.Table]) -> tuple[pa.Table, Measured]:
    with duckdb.connect() as connection:
        for name, table in tables.items():
            connection.register(name, table)
        found, took = measured(lambda: connection.sql(sql).to_arrow_table())
    return found.sort_by("n"), took


def _compare(name: str, ours: pa.Array, theirs: Any, allowed: float = 0.0) -> None:
    """Asserts equal nulls, and values equal to 12 digits but for an allowed share of rows."""
    left = ours.cast(pa.float64()).to_numpy(zero_copy_only=False)
    right = theirs.cast(pa.float64()).to_numpy()
    scale = np.maximum(np.abs(right), 1.0)
    same = (np.abs(left - right) <= _DIGITS * scale) | (np.isnan(left) & np.isnan(right))
    wrong = int((~same).sum())
    if wrong > allowed * len(left):
        raise AssertionError(f"{name}: {wrong} of {len(left)} values differ from DuckDB's")
