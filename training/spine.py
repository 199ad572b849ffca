"""The spine of a training set: which rows, at which time, with which label."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from features.compile_columns import compile_columns
from features.dtypes import DType, from_arrow
from features.errors import BadInput
from features.expressions import Expr, col
from features.naming import did_you_mean
from features.plan import ServicePlan
from training.canvas import CanvasModel

LABEL = "__label"
"""The column of a training frame that holds the label, as float64."""


def spine_columns(model: CanvasModel, plans: Iterable[ServicePlan]) -> list[str]:
    """The columns of the spine's table that training needs; scan no others."""
    spine = model.spine
    reads = [*_names(spine.label), *(_names(spine.where) if spine.where is not None else ())]
    return list(dict.fromkeys([*_kept(model, plans), *reads]))


def build_spine(model: CanvasModel, table: pa.Table, plans: Iterable[ServicePlan]) -> pa.Table:
    """Time, keys, request fields and segments of the rows that have a label, and the label.

    Rows keep their order. Raises BadInput for a column that the table does not have.
    """
    kept = _kept(model, plans)
    _check_columns(model, table, [*kept, *spine_columns(model, ())])
    label = _label(model.spine.label, table)
    wanted = label.is_valid().to_numpy(zero_copy_only=False) & _where(model.spine.where, table)
    spine = table.select(kept).append_column(LABEL, label)
    return spine.filter(pa.array(wanted))


def _kept(model: CanvasModel, plans: Iterable[ServicePlan]) -> list[str]:
    asked = [name for plan in plans for name in (*plan.key_columns, *plan.request_columns)]
    return list(dict.fromkeys([model.spine.time, *asked, *model.segments]))


def _names(expr: Expr | str) -> tuple[str, ...]:
    return (expr,) if isinstance(expr, str) else expr.names()


def _check_columns(model: CanvasModel, table: pa.Table, wanted: Iterable[str]) -> None:
    for name in wanted:
        if name not in table.column_names:
            raise BadInput(
                f"{model.spine.table} has no column {name!r}, which {model.family} needs",
                did_you_mean(name, table.column_names, "columns"),
            )


def _label(label: Expr | str, table: pa.Table) -> pa.Array:
    values = _evaluated(col(label) if isinstance(label, str) else label, table)
    if pa.types.is_boolean(values.type):
        values = values.cast(pa.int8())
    return pc.cast(values, pa.float64(), safe=False)


def _where(where: Expr | None, table: pa.Table) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    if where is None:
        return np.ones(table.num_rows, dtype=bool)
    chosen = pc.fill_null(_evaluated(where, table), False)
    return np.asarray(chosen.to_numpy(zero_copy_only=False), dtype=bool)


def _evaluated(expr: Expr, table: pa.Table) -> pa.Array:
    schema: dict[str, DType] = {n: from_arrow(table.schema.field(n).type) for n in expr.names()}
    arrays = {name: table.column(name).combine_chunks() for name in schema}
    time = pa.nulls(table.num_rows, pa.timestamp("us", tz="UTC"))
    return compile_columns(expr, schema)(arrays, time).values
