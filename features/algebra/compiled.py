"""An aggregation of a view, compiled: what to take of every event, and the algebra it goes into."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from features.aggregations import COUNTS, Aggregation, value_dtype
from features.algebra.bytes import Reader, Writer
from features.algebra.collections import Distinct, Grouped, Histogram, Quantiles
from features.algebra.hyperloglog import HyperLogLog
from features.algebra.kinds import (
    Algebra,
    Count,
    Ends,
    Extreme,
    FloatSum,
    IntSum,
    Order,
    Partial,
    TopK,
    Variance,
)
from features.compile_columns import Column, ColumnFunction, compile_columns
from features.dtypes import DType
from features.errors import ValueStateError
from features.expression_types import can_fail, typed
from features.windows import hop_of

FAILED = object()
"""Stands for a value that could not be computed."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What an aggregation takes of a block of events; all arrays have one length.

    ``chosen``: whether the event is taken at all. ``values``: null where there is none.
    ``failed``: where the value could not be computed, or None. ``groups``: the values of the
    column to group by, or None; an event with a null group is not chosen.
    """

    chosen: np.ndarray[Any, np.dtype[np.bool_]]
    values: pa.Array | None
    failed: np.ndarray[Any, np.dtype[np.bool_]] | None
    groups: pa.Array | None


@dataclass(frozen=True, slots=True)
class CompiledAggregation:
    """One aggregation with its algebra; ``window`` and ``hop`` are µs, None without a window."""

    name: str
    spec: Aggregation
    dtype: DType
    algebra: Algebra
    window: int | None
    hop: int | None
    is_count: bool
    can_fail: bool
    _value: ColumnFunction | None
    _condition: ColumnFunction | None

    def take(self, columns: Mapping[str, pa.Array], size: int) -> Taken:
        """What it takes of events given as columns."""
        q = pa.nulls(size)  # no event knows it; this takes no memory
        chosen, failed = np.ones(size, dtype=bool), None
        if self._condition is not None:
            condition = self._condition(columns, q)
            failed = condition.errors
            chosen = condition.values.fill_null(False).to_numpy(zero_copy_only=False)
        groups = None if self.spec.group is None else columns[self.spec.group]
        if groups is not None:
            chosen = chosen & groups.is_valid().to_numpy(zero_copy_only=False)
        values, failed = self._values(columns, q, chosen, failed)
        if failed is not None:
            chosen = chosen | failed
        return Taken(chosen, values, failed, groups)

    def _values(
        self, columns: Mapping[str, pa.Array], q: pa.Array, chosen: Any, failed: Any
    ) -> tuple[pa.Array | None, Any]:
        if self._value is None:
            return None, failed
        found: Column = self._value(columns, q)
        if found.errors is not None:
            errors = found.errors & chosen
            failed = errors if failed is None else failed | errors
        if failed is not None and not failed.any():
            failed = None
        return found.values, failed


def compile_aggregation(
    name: str, spec: Aggregation, schema: Mapping[str, DType], view_hop: int | None
) -> CompiledAggregation:
    """The compiled form of an aggregation over a source's columns.

    Raises DefinitionError for what does not fit, nothing later.
    """
    dtype = value_dtype(spec, schema)
    failing = any(can_fail(typed(e, schema)) for e in spec.expressions())
    inner = _inner(spec, dtype)
    algebra: Algebra = inner if spec.group is None else _ByGroup(inner, spec.kind in COUNTS)
    return CompiledAggregation(
        name,
        spec,
        dtype,
        _Fallible(algebra) if failing else algebra,
        spec.window,
        None if spec.window is None else hop_of(spec.window, view_hop),
        spec.kind in COUNTS,
        failing,
        None if spec.of is None else compile_columns(spec.of, schema),
        None if spec.condition is None else compile_columns(spec.condition, schema),
    )


def plain_values(taken: Taken, dtype: DType) -> list[Any]:
    """What to add for every event: None is nothing, FAILED a failure, (group, value) if grouped."""
    size = len(taken.chosen)
    values = [1] * size if taken.values is None else plain(taken.values, dtype)
    if taken.groups is not None:
        groups = plain(taken.groups, "")
        values = list(zip(groups, values, strict=True))
    chosen = taken.chosen.tolist()
    values = [value if c else None for value, c in zip(values, chosen, strict=True)]
    if taken.failed is not None:
        for i in np.flatnonzero(taken.failed):
            values[i] = FAILED
    return values


def plain(array: pa.Array, dtype: DType) -> list[Any]:
    """Python values: a time is its µs, −0.0 is 0.0."""
    if pa.types.is_timestamp(array.type):
        array = array.cast(pa.int64())
    found: list[Any] = array.to_pylist()
    if dtype == "float":
        return [None if value is None else value + 0.0 for value in found]
    return found


def _inner(spec: Aggregation, dtype: DType) -> Algebra:
    kind = spec.kind
    if kind == "count":
        return Count()
    if kind in ("sum", "mean"):
        return FloatSum(kind) if dtype == "float" else IntSum(kind)
    if kind in ("variance", "stddev"):
        return Variance(kind)
    if kind in ("min", "max"):
        return Extreme(kind)
    if kind in ("first", "last"):
        return Ends(kind, spec.k)
    if kind == "top_k":
        return TopK(spec.k or 1)
    if kind in ("distinct", "histogram"):
        return Distinct(Count()) if kind == "distinct" else Histogram(Count())
    if kind == "approx_distinct":
        return HyperLogLog()
    assert kind == "approx_quantiles", kind
    return Quantiles(spec.quantiles)


class _ByGroup:
    """A grouped algebra whose values are pairs (group, value or None)."""

    def __init__(self, inner: Algebra, is_count: bool) -> None:
        self._grouped = Grouped(inner, is_count)

    def empty(self) -> Partial:
        return self._grouped.empty()

    def add(self, partial: Partial, value: tuple[Any, Any], order: Order) -> Partial:
        return self._grouped.with_entry(partial, value[0], value[1], order)

    def merge(self, a: Partial, b: Partial) -> Partial:
        return self._grouped.merge(a, b)

    def finish(self, partial: Partial) -> Any:
        return self._grouped.finish(partial)

    def write(self, partial: Partial, out: Writer) -> None:
        self._grouped.write(partial, out)

    def read(self, data: Reader) -> Partial:
        return self._grouped.read(data)


class _Fallible:
    """(failures, partial): one value that cannot be computed makes the aggregate an error."""

    def __init__(self, inner: Algebra) -> None:
        self._inner = inner

    def empty(self) -> Partial:
        return 0, self._inner.empty()

    def add(self, partial: Partial, value: Any, order: Order) -> Partial:
        failures, held = partial
        if value is FAILED:
            return failures + 1, held
        return failures, self._inner.add(held, value, order)

    def merge(self, a: Partial, b: Partial) -> Partial:
        return a[0] + b[0], self._inner.merge(a[1], b[1])

    def finish(self, partial: Partial) -> Any:
        if partial[0]:
            raise ValueStateError(f"{partial[0]} values could not be computed")
        return self._inner.finish(partial[1])

    def write(self, partial: Partial, out: Writer) -> None:
        out.whole(partial[0])
        self._inner.write(partial[1], out)

    def read(self, data: Reader) -> Partial:
        return data.whole(), self._inner.read(data)


def compile_all(
    aggregations: Mapping[str, Aggregation], schema: Mapping[str, DType], view_hop: int | None
) -> tuple[CompiledAggregation, ...]:
    """All aggregations of a view, in order."""
    return tuple(compile_aggregation(n, a, schema, view_hop) for n, a in aggregations.items())


__all__: Sequence[str] = [
    "FAILED",
    "CompiledAggregation",
    "Taken",
    "compile_aggregation",
    "compile_all",
    "plain",
    "plain_values",
]
