"""A small made-up problem for tests: late flights, with a signal that features carry."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from features import (
    Entity,
    FeatureService,
    FeatureView,
    Library,
    RequestView,
    Source,
    col,
    count,
    hours,
    mean,
    resolve,
)
from features.plan import ServicePlan
from training.canvas import CanvasModel, Spine, TimeSplit

START = 1_356_998_400_000_000
"""2013-01-01T00:00Z, the time of the first row."""
MINUTE = 60_000_000


def flights_library() -> Library:
    """Two services over one view: with features of the carrier, and with the request's alone."""
    carrier = Entity("carrier", key="carrier", type=str)
    landings = Source(
        "landings",
        table="lake.landings",
        event_time="landed_at",
        schema={"carrier": str, "arr_delay": float, "landed_at": "time"},
    )
    delay = FeatureView(
        "carrier_delay",
        entity=carrier,
        source=landings,
        features={
            "mean_3h": mean(col("arr_delay")).over(hours(3)),
            "flights_3h": count().over(hours(3)),
        },
    )
    leg = RequestView(
        "leg",
        request={"distance": float, "hour": int, "dest": str},
        features={
            "distance": col("distance"),
            "evening": col("hour") >= 17,
            "dest": col("dest"),
        },
    )
    return Library.from_definitions(
        [
            FeatureService("late", [delay, leg]),
            FeatureService("late_request_only", [leg]),
        ]
    )


def flights_plan(service: str = "late") -> ServicePlan:
    """The plan of one of the two services."""
    return resolve(flights_library(), service)


def flights_frame(rows: int = 2_000, seed: int = 0) -> pa.Table:
    """A joined training frame, one row a minute: spine columns, label, and service outputs."""
    random = np.random.default_rng(seed)
    mean_3h, distance = random.normal(5, 10, rows), random.uniform(100, 2500, rows)
    evening = random.random(rows) < 0.4
    score = 0.15 * (mean_3h - 5) + 0.9 * evening - 0.0003 * distance
    label = random.random(rows) < 1 / (1 + np.exp(-score))
    times = START + MINUTE * np.arange(rows, dtype=np.int64)
    return pa.table(
        {
            "departed_at": pa.array(times).cast(pa.timestamp("us", tz="UTC")),
            "origin": np.array(["EWR", "JFK", "LGA"])[random.integers(0, 3, rows)],
            "__label": label.astype(np.float64),
            "carrier_delay__mean_3h": pa.array(mean_3h, mask=random.random(rows) < 0.1),
            "carrier_delay__flights_3h": random.integers(0, 40, rows),
            "leg__distance": distance,
            "leg__evening": evening,
            "leg__dest": np.array(["BOS", "MIA", "ORD"])[random.integers(0, 3, rows)],
        }
    )


def write_flights(path: Path, rows: int = 2_000, seed: int = 0) -> Path:
    """The frame as a Parquet file."""
    pq.write_table(flights_frame(rows, seed), path)
    return path


def flights_model(rows: int = 2_000, **changes: Any) -> CanvasModel:
    """A model over ``flights_frame(rows)``: 60 % of the time to train, then 20 % and 20 %."""
    edges = [START + MINUTE * (rows * share // 10) for share in (0, 6, 8, 10)]
    periods = list(itertools.pairwise(edges))
    made = CanvasModel(
        family="flights.arrival_delay",
        service="late",
        spine=Spine("lake.flights", time="departed_at", label="late"),
        split=TimeSplit(*periods),
        parameters={"max_depth": 3, "eta": 0.2, "subsample": 0.8},
        rounds=40,
        early_stopping=10,
        report_every=10,
    )
    return replace(made, **changes)
