"""Aggregations that pick events: extremes, first and last, the k largest."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from features.batch import covering
from features.batch.queries import Intervals, Ints, Mask, numbers_of
from features.batch.sums import Finished

_SIGN = np.int64(np.iinfo(np.int64).max)


def extreme(kind: str, intervals: Intervals, values: pa.Array) -> Finished:
    """The least or greatest of values without nulls; NaN spreads."""
    spreading = nan_mask(values)
    if spreading.any():
        found = extreme(kind, intervals.chosen(~spreading), values.filter(pa.array(~spreading)))
        poisoned = covering.count(intervals.chosen(spreading)) > 0
        nan = pa.scalar(float("nan"), values.type)
        return Finished(pc.if_else(pa.array(poisoned), nan, found.values))
    keys, known = _keys(values)
    held = covering.count(intervals) > 0
    if kind == "min":
        best = ~covering.greatest(intervals, ~keys)
    else:
        best = covering.greatest(intervals, keys)
    return Finished(_values(best, held, known, values.type))


def _keys(values: pa.Array) -> tuple[Ints, pa.Array | None]:
    """Values without nulls as int64 in the same order; of text also all texts in order."""
    if pa.types.is_floating(values.type):
        bits = values.to_numpy(zero_copy_only=False).view(np.int64)
        return _flipped(bits), None
    if pa.types.is_string(values.type):
        known = values.unique()
        known = known.take(pc.sort_indices(known))
        return numbers_of(pc.index_in(values, value_set=known)), known
    return numbers_or_ranks(values), None


def _flipped(bits: Ints) -> Ints:
    """From the bits of floats to int64 that compare as the floats do, and back."""
    return bits ^ ((bits >> 63) & _SIGN)


def _values(keys: Ints, held: Mask, known: pa.Array | None, kind: pa.DataType) -> pa.Array:
    if known is not None:
        return known.take(pa.array(np.where(held, keys, 0), mask=~held))
    numbers: npt.NDArray[Any] = np.where(held, keys, 0)
    if pa.types.is_floating(kind):
        return pa.array(_flipped(numbers).view(np.float64), mask=~held)
    if pa.types.is_boolean(kind):
        return pa.array(numbers.astype(bool), mask=~held)
    return pa.array(numbers, mask=~held).cast(kind)


def ends(kind: str, k: int | None, intervals: Intervals, values: pa.Array) -> Finished:
    """The first or last ``k`` values of events from first to last; one value without ``k``."""
    chosen = end_events(kind, k, intervals)
    if k is None:
        return Finished(values.take(_or_null(chosen[:, 0])))
    return Finished(as_lists(chosen, values))


def end_events(kind: str, k: int | None, intervals: Intervals) -> Ints:
    """Which events are the first or last ``k``, as (questions, k); −1 past the end."""
    if kind == "last" and k is None:
        return covering.latest(intervals)[:, None]
    runs = intervals.runs()
    wanted = np.arange(k or 1)
    if runs is not None and kind == "last":
        place = runs[1][:, None] - 1 - wanted
        return np.where(place >= runs[0][:, None], place, -1)
    if runs is not None:
        place = runs[0][:, None] + wanted
        return np.where(place < runs[1][:, None], place, -1)
    ranks = np.arange(len(intervals.first))
    if kind == "last":
        return covering.best(intervals, ranks, k or 1)
    found = covering.best(intervals, ranks[::-1].copy(), k or 1)
    return np.where(found < 0, -1, len(ranks) - 1 - found)


def top(k: int, intervals: Intervals, values: pa.Array) -> Finished:
    """The ``k`` largest values, largest first, duplicates kept, NaN lowest."""
    by_rank = np.argsort(value_ranks(values), kind="stable")
    ranks = np.empty(len(by_rank), dtype=np.int64)
    ranks[by_rank] = np.arange(len(by_rank))
    found = covering.best(intervals, ranks, k)
    if not len(by_rank):
        return Finished(as_lists(found, values))
    return Finished(as_lists(np.where(found < 0, -1, by_rank[found]), values))


def value_ranks(values: pa.Array) -> Ints:
    """A number for every value, greater for greater ones; NaN lowest, text by code point."""
    if pa.types.is_floating(values.type):
        numbers = values.fill_null(0.0).to_numpy(zero_copy_only=False)
        keys = _flipped(numbers.view(np.int64))
        return np.where(np.isnan(numbers), covering.NOTHING, keys)
    return numbers_or_ranks(values)


def numbers_or_ranks(values: pa.Array) -> Ints:
    """Numbers and times as they are, text by its place among all texts; null is 0."""
    if pa.types.is_string(values.type):
        known = values.unique().drop_null()
        known = known.take(pc.sort_indices(known))
        return numbers_of(pc.index_in(values, value_set=known, skip_nulls=True).cast(pa.int64()))
    if pa.types.is_boolean(values.type):
        values = values.cast(pa.int8())
    if pa.types.is_floating(values.type):
        values = pc.add(values.fill_null(0.0), 0.0)
        return _flipped(values.to_numpy(zero_copy_only=False).view(np.int64))
    return numbers_of(values)


def nan_mask(values: pa.Array) -> Mask:
    """Where a value is NaN."""
    if not pa.types.is_floating(values.type):
        return np.zeros(len(values), dtype=bool)
    return np.asarray(np.isnan(values.to_numpy(zero_copy_only=False)))


def as_lists(events: Ints, values: pa.Array) -> pa.Array:
    """Lists of values of events as (questions, k), −1 past the end; null where there is none."""
    held = events >= 0
    sizes = held.sum(axis=1)
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32)
    flat = values.take(pa.array(events[held]))
    return pa.ListArray.from_arrays(pa.array(offsets), flat, mask=pa.array(sizes == 0))


def _or_null(events: Ints) -> pa.Array:
    return pa.array(events, mask=events < 0)
