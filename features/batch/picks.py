"""Aggregations that pick events: extremes, first and last, the k largest."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from features.batch import covering
from features.batch.queries import Intervals, Ints, Mask, numbers_of
from features.batch.sums import Finished


def extreme(kind: str, intervals: Intervals, values: pa.Array) -> Finished:
    """The least or greatest of values without nulls; NaN spreads."""
    spreading = nan_mask(values)
    ranks, order = _ranked(value_ranks(values), descending=kind == "min")
    best = covering.greatest(intervals.chosen(~spreading), ranks[~spreading])
    found = values.take(_events(order, best))
    if spreading.any():
        poisoned = covering.count(intervals.chosen(spreading)) > 0
        found = pc.if_else(pa.array(poisoned), pa.scalar(float("nan"), values.type), found)
    return Finished(found)


def ends(kind: str, k: int | None, intervals: Intervals, values: pa.Array, order: Ints) -> Finished:
    """The first or last ``k`` values; ``order`` numbers the events from first to last."""
    ranks, by_rank = _ranked(order, descending=kind == "first")
    return _picked(k, intervals, ranks, by_rank, values)


def top(k: int, intervals: Intervals, values: pa.Array) -> Finished:
    """The ``k`` largest values, largest first, duplicates kept, NaN lowest."""
    ranks, by_rank = _ranked(value_ranks(values), descending=False)
    return _picked(k, intervals, ranks, by_rank, values)


def event_order(times: Ints, available: Ints, sequence: pa.Array | None, values: pa.Array) -> Ints:
    """Numbers events from first to last: event time, available time, sequence, value.

    A null sequence is lowest.
    """
    keys = [value_ranks(values)]
    if sequence is not None:
        known = numbers_or_ranks(sequence)
        keys += [known, sequence.is_valid().to_numpy(zero_copy_only=False)]
    order = np.lexsort((*keys, available, times))
    return _places(order)


def value_ranks(values: pa.Array) -> Ints:
    """A number for every value, greater for greater ones; NaN lowest, text by code point."""
    if pa.types.is_floating(values.type):
        numbers = values.to_numpy(zero_copy_only=False)
        ranks = np.unique(np.where(np.isnan(numbers), 0.0, numbers), return_inverse=True)[1]
        return np.where(np.isnan(numbers), -1, ranks)
    return numbers_or_ranks(values)


def numbers_or_ranks(values: pa.Array) -> Ints:
    """Numbers and times as they are, text by its place among all texts; null is 0."""
    if pa.types.is_string(values.type):
        known = values.unique().drop_null()
        sorted_known = known.take(pc.sort_indices(known))
        found = pc.fill_null(pc.index_in(values, value_set=sorted_known, skip_nulls=True), 0)
        return np.asarray(found.to_numpy(zero_copy_only=False), dtype=np.int64)
    if pa.types.is_boolean(values.type):
        values = values.cast(pa.int8())
    if pa.types.is_floating(values.type):
        return np.unique(values.fill_null(0.0).to_numpy(zero_copy_only=False), return_inverse=True)[
            1
        ]
    return numbers_of(values)


def nan_mask(values: pa.Array) -> Mask:
    """Where a value is NaN."""
    if not pa.types.is_floating(values.type):
        return np.zeros(len(values), dtype=bool)
    return np.asarray(np.isnan(values.to_numpy(zero_copy_only=False)))


def as_lists(found: Ints, by_rank: Ints, values: pa.Array) -> pa.Array:
    """Lists of values from ranks as (questions, k), −1 past the end; null where there is none."""
    held = found >= 0
    sizes = held.sum(axis=1)
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32)
    flat = values.take(pa.array(by_rank[found[held]]))
    return pa.ListArray.from_arrays(pa.array(offsets), flat, mask=pa.array(sizes == 0))


def _picked(
    k: int | None, intervals: Intervals, ranks: Ints, by_rank: Ints, values: pa.Array
) -> Finished:
    if k is None:
        return Finished(values.take(_events(by_rank, covering.greatest(intervals, ranks))))
    return Finished(as_lists(covering.best(intervals, ranks, k), by_rank, values))


def _ranked(keys: Ints, *, descending: bool) -> tuple[Ints, Ints]:
    """Ranks that all differ, and the event of every rank."""
    order = np.argsort(keys, kind="stable")
    if descending:
        order = order[::-1]
    return _places(order), order


def _places(order: Ints) -> Ints:
    places = np.empty(len(order), dtype=np.int64)
    places[order] = np.arange(len(order))
    return places


def _events(by_rank: Ints, ranks: Ints) -> pa.Array:
    missing = ranks < 0
    if not len(by_rank):
        return pa.nulls(len(ranks), pa.int64())
    return pa.array(by_rank[np.where(missing, 0, ranks)], mask=missing)
