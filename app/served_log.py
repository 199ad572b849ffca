"""What was served, read back from the prediction logs in the lake."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from features.dtypes import to_arrow
from features.offline.lake import Condition, Lake
from features.online import NOWHERE, Position
from features.online.consistency import AT, Logged
from features.plan import ServicePlan
from serving.prediction_log import LOG_PREFIX, fixed_columns


def logged_rows(lake: Lake, plan: ServicePlan) -> Logged | None:
    """Every logged row of a service, of whatever model; None if there is none."""
    found = [_logged(lake, table, plan) for table in lake.tables() if table.startswith(LOG_PREFIX)]
    rows = [part for part in found if part is not None]
    return _together(rows) if rows else None


def _logged(lake: Lake, table: str, plan: ServicePlan) -> Logged | None:
    names = lake.describe(table).schema.names
    outputs = [output.column for output in plan.outputs]
    if not set(outputs) <= set(names):
        return None
    rows = lake.scan(table, where=[Condition("service", "==", plan.name)])
    if not rows.num_rows:
        return None
    given = [name for name in names if name not in fixed_columns()]
    positions = [orjson.loads(text) for text in rows.column("positions").to_pylist()]
    return Logged(
        _spine(rows, plan),
        {name: rows.column(name).combine_chunks() for name in outputs},
        {view.role: [_position(p.get(view.role)) for p in positions] for view in plan.views},
        {name: _checked(rows, given.index(name)) for name in outputs},
    )


def _spine(rows: pa.Table, plan: ServicePlan) -> pa.Table:
    entities = [orjson.loads(text) for text in rows.column("entities").to_pylist()]
    requests = [orjson.loads(text) for text in rows.column("request").to_pylist()]
    columns = {name: _column(entities, name, dtype) for name, dtype in plan.key_columns.items()}
    columns |= {
        name: _column([{**e, **r} for e, r in zip(entities, requests, strict=True)], name, dtype)
        for name, dtype in plan.request_columns.items()
    }
    return pa.table({**columns, AT: rows.column("at")})


def _column(rows: Sequence[Mapping[str, Any]], name: str, dtype: str) -> pa.Array:
    return pa.array([row[name] for row in rows], to_arrow(dtype))


def _position(data: Mapping[str, Any] | None) -> Position:
    if data is None:
        return NOWHERE
    return Position(data["version"], data["cut"], tuple(data["offsets"]))


def _checked(rows: pa.Table, place: int) -> Any:
    computed = pc.not_equal(pc.list_element(rows.column("states"), place), "error")
    own = pc.equal(pc.list_element(rows.column("substitutes"), place), "none")
    return np.asarray(pc.and_(computed, own).to_numpy())


def _together(parts: Sequence[Logged]) -> Logged:
    if len(parts) == 1:
        return parts[0]
    first = parts[0]
    return Logged(
        pa.concat_tables([part.spine for part in parts]),
        {n: pa.concat_arrays([part.values[n] for part in parts]) for n in first.values},
        {r: [p for part in parts for p in part.positions[r]] for r in first.positions},
        {n: np.concatenate([part.checked[n] for part in parts]) for n in first.checked},
    )
