"""From a service's outputs to the matrix a model reads, the same in training and in serving.

A column is an expression of the feature language over the service's output columns, kept as data.
Null and the state ``error`` become NaN, a bool 0 or 1, and what float32 cannot hold its largest
finite number.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from features.compile_columns import compile_columns
from features.compile_row import compile_row
from features.dtypes import DType
from features.errors import BadInput, DefinitionError, ValueStateError
from features.expression_types import infer
from features.expressions import Call, Col, Expr, QueryTime, Ref, walk
from features.naming import did_you_mean
from features.plan import ServicePlan

Matrix = npt.NDArray[np.float32]
Values = Sequence[object]
PrepareRows = Callable[[Sequence[Values]], Matrix]
PrepareTable = Callable[[pa.Table], Matrix]
NUMERIC = ("bool", "int", "float")
_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True, slots=True, eq=False)
class MatrixColumn:
    """One column of the matrix: its name, and how it is made of the service's outputs."""

    name: str
    expr: Expr


def matrix_columns(
    plan: ServicePlan, columns: Mapping[str, Expr] | None = None
) -> tuple[MatrixColumn, ...]:
    """The declared columns, or every numeric output in order.

    Raises DefinitionError for a column that is no number or reads what the service does not give.
    """
    schema = output_types(plan)
    if columns is None:
        columns = {name: Col(name) for name, dtype in schema.items() if dtype in NUMERIC}
    made = tuple(MatrixColumn(name, _plain(expr)) for name, expr in columns.items())
    for column in made:
        _check(column, schema, plan.name)
    if not made:
        raise DefinitionError(
            f"service {plan.name!r} gives no number to learn from",
            "Name columns made of its outputs, e.g. {'is_ua': ref('leg:carrier') == 'UA'}.",
        )
    return made


def output_types(plan: ServicePlan) -> dict[str, DType]:
    """The service's output columns, in order, with their types."""
    return {output.column: output.dtype for output in plan.outputs}


def compile_rows(plan: ServicePlan, columns: Sequence[MatrixColumn]) -> PrepareRows:
    """A function from rows of output values, in the plan's order, to the matrix."""
    names = list(output_types(plan))
    if all(isinstance(column.expr, Col) for column in columns):
        wanted = [names.index(column.expr.name) for column in columns]  # type: ignore[attr-defined]
        return _copy_rows(wanted, len(names))
    return _compute_rows(plan, columns)


def compile_table(plan: ServicePlan, columns: Sequence[MatrixColumn]) -> PrepareTable:
    """A function from a table with the service's output columns to the matrix."""
    schema = output_types(plan)
    steps = [compile_columns(column.expr, schema) for column in columns]
    reads = list(dict.fromkeys(name for column in columns for name in column.expr.names()))

    def prepare(table: pa.Table) -> Matrix:
        arrays = {name: _column(table, name) for name in reads}
        time = pa.nulls(table.num_rows, pa.timestamp("us", tz="UTC"))
        matrix = np.empty((table.num_rows, len(steps)), dtype=np.float32)
        for i, step in enumerate(steps):
            matrix[:, i] = _narrow(as_floats(step(arrays, time).values))
        return matrix

    return prepare


def _plain(expr: Expr) -> Expr:
    """``ref("view:feature")`` as the output column that it is."""
    if isinstance(expr, Ref):
        return Col(expr.name.replace(":", "__"))
    if isinstance(expr, Call):
        return Call(expr.op, tuple(_plain(arg) for arg in expr.args), expr.params)
    return expr


def _check(column: MatrixColumn, schema: Mapping[str, DType], service: str) -> None:
    place = f"column {column.name!r}"
    if any(isinstance(node, QueryTime) for node in walk(column.expr)):
        raise DefinitionError(
            f"{place} reads query_time()", "Derive the feature in a view, where time is known."
        )
    for name in column.expr.names():
        if name not in schema:
            raise DefinitionError(
                f"{place} reads {name!r}, which service {service!r} does not give",
                did_you_mean(name, schema, "outputs"),
            )
    dtype = infer(column.expr, schema)
    if dtype not in NUMERIC:
        raise DefinitionError(
            f"{place} is of type {dtype}, which a model cannot read",
            "Make it a number: compare it, take hash_bucket(), length() or cast() it.",
        )


def _copy_rows(wanted: list[int], width: int) -> PrepareRows:
    if wanted == list(range(width)):
        return _matrix
    if len(wanted) == 1:
        (only,) = wanted
        return lambda rows: _matrix([(row[only],) for row in rows])
    take = operator.itemgetter(*wanted)
    return lambda rows: _matrix([take(row) for row in rows])


def _compute_rows(plan: ServicePlan, columns: Sequence[MatrixColumn]) -> PrepareRows:
    schema = output_types(plan)
    steps = [_or_null(compile_row(column.expr, schema)) for column in columns]
    names = tuple(schema)

    def prepare(rows: Sequence[Values]) -> Matrix:
        named = (dict(zip(names, row, strict=True)) for row in rows)
        return _matrix([[step(row) for step in steps] for row in named])

    return prepare


def _or_null(step: Callable[[Mapping[str, Any], int], Any]) -> Callable[[Mapping[str, Any]], Any]:
    def value(row: Mapping[str, Any]) -> Any:
        try:
            return step(row, 0)
        except ValueStateError:
            return None

    return value


def _matrix(rows: Sequence[Values]) -> Matrix:
    # NumPy reads None as NaN and bools as 0 and 1 when it is told the type.
    return _narrow(np.array(rows, dtype=np.float64))


def _narrow(values: npt.NDArray[np.float64]) -> Matrix:
    np.minimum(values, _LARGEST, out=values)
    np.maximum(values, -_LARGEST, out=values)
    return values.astype(np.float32)


def _column(table: pa.Table, name: str) -> pa.Array:
    if name not in table.column_names:
        raise BadInput(
            f"the table has no column {name!r}", did_you_mean(name, table.column_names, "columns")
        )
    return table.column(name).combine_chunks()


def as_floats(array: pa.Array | pa.ChunkedArray) -> npt.NDArray[np.float64]:
    """A number or bool column as float64 of its own memory; null is NaN."""
    if pa.types.is_boolean(array.type):
        array = array.cast(pa.int8())
    return np.array(array.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False))
