"""What was served comes back from the prediction logs as it was served."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from app.served_log import logged_rows
from features import (
    Entity,
    FeatureService,
    FeatureView,
    RequestView,
    Source,
    col,
    count,
    histogram,
    last,
    mean,
    query_time,
    ref,
)
from features.library import Library
from features.offline.lake import TableSpec
from features.offline.memory import MemoryLake
from features.online import NOWHERE, Position, Served
from features.online.consistency import AT
from features.plan import ServicePlan, resolve
from serving.degradation import degradation_of
from serving.model import LoadedModel, Scored, Version
from serving.plan import request_shape
from serving.prediction_log import Entry, record_schema, records, table_name

SOURCE = Source("src", table="lake.src", stream="src", event_time="at", available_at="known",
                schema={"k": str, "b": int, "x": float, "s": str, "at": "time",
                        "known": "time"})  # fmt: skip
PAIR = Entity("pair", key=("k", "b"), type=(str, int))
VIEW = FeatureView("v", entity=PAIR, source=SOURCE, features={
    "n": count(), "mean": mean(col("x")), "at": last(col("at")), "texts": histogram(col("s")),
    "three": last(col("x"), k=3),
})  # fmt: skip
ASKED = RequestView("asked", request={"limit": float, "due": "time", "hard": bool}, features={
    "over": ref("v:mean") > col("limit"), "left": col("due") - query_time(), "hard": col("hard"),
})  # fmt: skip
VALUES = [3, 0.1, 77, {"u": 2, "v": 1}, [1.0, 0.5], True, -5e-5, False]
NOTHING: list[Any] = [None] * 8
SOMEWHERE = Position(3, 90, (7, 0))
ROW = {"k": "é", "b": -1, "limit": 0.5, "due": 50, "hard": False}
EMPTY_ROW = dict.fromkeys(ROW)


def plan(name: str = "svc") -> ServicePlan:
    """A service with every kind of value and field."""
    service = FeatureService(name, [VIEW, ASKED])
    return resolve(Library.from_definitions([VIEW, ASKED, service]), name)


class NoReader:
    """Nobody asks it."""

    def read(self, rows: Sequence[dict[str, object]], q: Sequence[int]) -> list[Served]:
        """Nothing."""
        return []


def model(family: str, of: ServicePlan) -> LoadedModel:
    """A model that reads a service."""
    return LoadedModel(
        Version(family, 1),
        "d",
        request_shape(of),
        NoReader(),
        lambda rows: np.zeros((0, 0)),
        None,  # type: ignore[arg-type]
    )


def log(
    lake: MemoryLake, family: str, *rows: tuple[dict[str, Any], Served], name: str = "svc"
) -> None:
    """Logs one answer with these rows, as a replica does."""
    loaded = model(family, plan(name))
    served = [one for _, one in rows]
    scored = Scored([0.5] * len(rows), served, degradation_of(loaded.plan.outputs, served))
    entry = Entry("r", loaded, [row for row, _ in rows], 100, 101, scored, 7)
    lake.create(TableSpec(table_name(family), record_schema(loaded)))
    lake.append(table_name(family), records(loaded, [entry]))


def served(
    values: list[Any], at: int, states: str = "value", substitutes: str = "none",
    position: Position | None = SOMEWHERE,
) -> Served:  # fmt: skip
    """An answer to one row."""
    positions = {} if position is None else {"v": position}
    return Served(values, [states] * 8, [substitutes] * 8, positions, at)


def test_rows_come_back_as_they_were_served() -> None:
    """Keys, fields, time, values, positions; nulls as nulls; what has no position is nowhere."""
    lake = MemoryLake()
    log(lake, "f", (ROW, served(VALUES, 100)), (EMPTY_ROW, served(NOTHING, 101, position=None)))
    logged = logged_rows(lake, plan())
    assert logged is not None
    spine = logged.spine.set_column(5, AT, logged.spine.column(AT).cast(pa.int64()))
    spine = spine.set_column(3, "due", spine.column("due").cast(pa.int64()))
    assert spine.to_pylist() == [{**ROW, AT: 100}, {**EMPTY_ROW, AT: 101}]
    assert logged.positions == {"v": [SOMEWHERE, NOWHERE]}
    columns = list(logged.values.values())
    assert [c[1].as_py() for c in columns] == NOTHING
    first = [c.cast(pa.int64()) if pa.types.is_timestamp(c.type) else c for c in columns]
    found = [dict(c[0].as_py()) if pa.types.is_map(c.type) else c[0].as_py() for c in first]
    assert found == VALUES
    assert all(mask.tolist() == [True, True] for mask in logged.checked.values())


def test_only_what_was_computed_is_checked() -> None:
    """Not errors, and nothing that stands in the place of a value; empty and absent are checked."""
    lake = MemoryLake()
    rows = [
        served(VALUES, 100, states=states, substitutes=substitutes)
        for states, substitutes in [
            ("value", "none"),
            ("error", "none"),
            ("value", "stale"),
            ("error", "default"),
            ("empty", "none"),
            ("absent", "none"),
            ("expired", "none"),
        ]
    ]
    log(lake, "f", *((ROW, one) for one in rows))
    logged = logged_rows(lake, plan())
    assert logged is not None
    for mask in logged.checked.values():
        assert mask.tolist() == [True, False, False, False, True, True, True]


def test_all_models_that_read_the_service_are_gathered() -> None:
    """Other services are left alone, in the same table and in others."""
    lake = MemoryLake()
    log(lake, "f", (ROW, served(VALUES, 100)))
    log(lake, "f", (ROW, served(VALUES, 200)), name="other")
    log(lake, "g", (ROW, served(VALUES, 300)), (EMPTY_ROW, served(NOTHING, 301)))
    lake.create(TableSpec("lake.predictions_h", pa.schema([("service", pa.string())])))
    lake.append("lake.predictions_h", pa.table({"service": ["svc"]}))
    logged = logged_rows(lake, plan())
    assert logged is not None
    assert sorted(logged.spine.column(AT).cast(pa.int64()).to_pylist()) == [100, 300, 301]
    assert len(logged.positions["v"]) == 3
    assert {len(column) for column in logged.values.values()} == {3}


@pytest.mark.parametrize("others", [False, True])
def test_nothing_was_logged(others: bool) -> None:
    """Neither at all nor of this service."""
    lake = MemoryLake()
    if others:
        log(lake, "f", (ROW, served(VALUES, 200)), name="other")
    assert logged_rows(lake, plan()) is None
