"""Maps and counts of groups: every group of an entity answered as an entity of its own.

A group's events are covered by a run of its entity's questions; only in that run is it asked. So
the work is the number of entries that come out, and each aggregation is computed by what computes
it without groups.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from features.aggregations import MAX_DISTINCT, MAX_GROUPS, MAX_HISTOGRAM
from features.algebra.collections import bucket_of, middle_of, nearest_rank, value_text
from features.algebra.compiled import plain
from features.algebra.hyperloglog import RANKS, REGISTERS, estimates, place_of
from features.batch import covering
from features.batch.queries import Intervals, Ints, Mask
from features.batch.sums import Finished

_AT_A_TIME = 16_384
Inner = Callable[[Intervals, Ints], Finished]
"""Answers an aggregation for some of the events (by their numbers) on their own questions."""


@dataclass(frozen=True, slots=True)
class Expanded:
    """The groups that are present at a question, as rows: sorted by question, then by group.

    ``question`` and ``group`` are by row; ``values`` are the inner aggregation's, ``counts`` the
    events present.
    """

    question: Ints
    group: Ints
    counts: Ints
    values: pa.Array | None
    failed: Mask | None


def expand(intervals: Intervals, groups: Ints, entities: Ints, inner: Inner | None) -> Expanded:
    """Every group present at every question; ``entities`` are the first question of each's run."""
    stride = int(groups.max()) + 1 if len(groups) else 1
    _, sub = np.unique(entities * stride + groups, return_inverse=True)
    # Group by group, each in the order of its events, as intervals must come.
    order = np.argsort(sub, kind="stable")
    intervals, groups, sub = intervals.chosen(order), groups[order], sub[order]
    size = int(sub[-1]) + 1 if len(sub) else 0
    low, high = np.full(size, intervals.size), np.zeros(size, dtype=np.int64)
    np.minimum.at(low, sub, intervals.first)
    np.maximum.at(high, sub, intervals.end)
    lengths = high - low
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    shift = (starts[:-1] - low)[sub]
    own = Intervals(intervals.first + shift, intervals.end + shift, int(starts[-1]))
    group_of = np.zeros(size, dtype=np.int64)
    group_of[sub] = groups
    question = np.arange(own.size) - np.repeat(starts[:-1] - low, lengths)
    return _present(own, order, question, np.repeat(group_of, lengths), inner)


def _present(
    own: Intervals, order: Ints, question: Ints, group: Ints, inner: Inner | None
) -> Expanded:
    counts = covering.count(own)
    found = None if inner is None else inner(own, order)
    rows = np.flatnonzero(counts > 0)
    rows = rows[np.lexsort((group[rows], question[rows]))]
    values = None if found is None else found.values.take(pa.array(rows))
    errors = None if found is None or found.errors is None else found.errors[rows]
    return Expanded(question[rows], group[rows], counts[rows], values, errors)


def mapped(
    intervals: Intervals, groups: pa.Array, entities: Ints, inner: Inner, is_count: bool
) -> Finished:
    """A map from group to the inner aggregation; entries that are null are left out."""
    codes, texts = text_codes(groups)
    found = expand(intervals, codes, entities, inner)
    assert found.values is not None
    errors = _beyond(found, intervals.size, MAX_GROUPS)
    if found.failed is not None:
        errors[found.question[found.failed]] = True
    kept = np.asarray(found.values.is_valid().to_numpy(zero_copy_only=False))
    return _as_map(
        found.question[kept],
        texts.take(pa.array(found.group[kept])),
        found.values.filter(pa.array(kept)),
        errors,
        is_count,
    )


def distinct(intervals: Intervals, values: pa.Array, entities: Ints) -> Finished:
    """How many different values; an error beyond 10,000."""
    codes, _ = text_codes(values)
    found = expand(intervals, codes, entities, None)
    errors = _beyond(found, intervals.size, MAX_DISTINCT)
    counts = np.bincount(found.question, minlength=intervals.size)
    return Finished(pa.array(counts, mask=errors), errors if errors.any() else None)


def approx_distinct(intervals: Intervals, values: pa.Array, entities: Ints) -> Finished:
    """About how many different values: each register's greatest rank at each question."""
    known = values.unique()
    places = [place_of(value) for value in plain(known, _float_or_none(known))]
    by_code = np.array([register * RANKS + rank for register, rank in places] or [0])
    codes = by_code[values.dictionary_encode().indices.to_numpy(zero_copy_only=False)]
    found = expand(intervals, codes, entities, None)
    # Sorted by question, register and rank, so that the greatest of each register is the last.
    register = found.question * REGISTERS + found.group // RANKS
    greatest = np.ones(len(register), dtype=bool)
    greatest[:-1] = register[1:] != register[:-1]
    question, rank = found.question[greatest], found.group[greatest] % RANKS
    return Finished(pa.array(_estimated(question, rank, intervals.size)))


def _estimated(question: Ints, rank: Ints, size: int) -> Ints:
    """The estimate at each question from its registers' ranks, in bounded memory."""
    parts = [np.zeros(0, dtype=np.int64)]
    for start in range(0, size, _AT_A_TIME):
        rows = min(_AT_A_TIME, size - start)
        first, end = np.searchsorted(question, [start, start + rows])
        cells = (question[first:end] - start) * RANKS + rank[first:end]
        counts = np.bincount(cells, minlength=rows * RANKS).reshape(rows, RANKS)
        counts[:, 0] = REGISTERS - counts.sum(axis=1)
        parts.append(estimates(counts))
    return np.concatenate(parts)


def histogram(intervals: Intervals, values: pa.Array, entities: Ints) -> Finished:
    """How often each value came; an error beyond 1,000 values."""
    codes, texts = text_codes(values)
    found = expand(intervals, codes, entities, None)
    errors = _beyond(found, intervals.size, MAX_HISTOGRAM)
    names = texts.take(pa.array(found.group))
    return _as_map(found.question, names, pa.array(found.counts), errors, True)


def quantiles(
    wanted: tuple[float, ...], intervals: Intervals, values: pa.Array, entities: Ints
) -> Finished:
    """The middles of the buckets that hold the nearest ranks; null without a value."""
    buckets = np.array([bucket_of(v) for v in values.to_pylist()], dtype=np.int64)
    known, codes = np.unique(buckets, return_inverse=True)
    found = expand(intervals, codes, entities, None)
    totals = np.bincount(found.question, weights=found.counts, minlength=intervals.size)
    running = np.cumsum(found.counts)
    starts = np.searchsorted(found.question, np.arange(intervals.size))
    before = np.concatenate([[0], running])[starts]
    middles = np.array([middle_of(int(b)) for b in known], dtype=np.float64)
    columns = [
        _at_rank(q, totals.astype(np.int64), running, before, middles, found.group) for q in wanted
    ]
    present = np.flatnonzero(totals > 0)
    flat = np.stack(columns, axis=1)[present].ravel() if len(present) else np.zeros(0)
    sizes = np.where(totals > 0, len(wanted), 0)
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32)
    empty = pa.array(totals == 0)
    return Finished(pa.ListArray.from_arrays(pa.array(offsets), pa.array(flat), mask=empty))


def _at_rank(
    quantile: float,
    totals: Ints,
    running: Ints,
    before: Ints,
    middles: np.ndarray[tuple[int], np.dtype[np.float64]],
    group: Ints,
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    ranks = np.array([nearest_rank(quantile, int(n)) for n in totals], dtype=np.int64)
    place = np.searchsorted(running, before + ranks)
    safe = np.minimum(place, max(len(group) - 1, 0))
    if not len(group):
        return np.zeros(len(totals))
    return middles[group[safe]]


def text_codes(values: pa.Array) -> tuple[Ints, pa.Array]:
    """A number for every value, in the order of the values' texts, and the texts by number."""
    known = values.unique()
    texts = [value_text(None if v != v else v) for v in plain(known, _float_or_none(known))]
    ordered = sorted(set(texts))
    place = {text: i for i, text in enumerate(ordered)}
    codes = values.dictionary_encode()
    by_code = np.array([place[t] for t in texts] or [0], dtype=np.int64)
    # unique() and dictionary_encode() give values in the same order, that of first appearance.
    numbers = codes.indices.to_numpy(zero_copy_only=False)
    return by_code[numbers], pa.array(ordered, pa.string())


def _float_or_none(values: pa.Array) -> str:
    return "float" if pa.types.is_floating(values.type) else ""


def _beyond(found: Expanded, size: int, bound: int) -> Mask:
    return np.asarray(np.bincount(found.question, minlength=size) > bound)


def _as_map(
    question: Ints, keys: pa.Array, items: pa.Array, errors: Mask, is_count: bool
) -> Finished:
    kept = ~errors[question] if len(question) else np.zeros(0, dtype=bool)
    question, chosen = question[kept], pa.array(kept)
    sizes = np.bincount(question, minlength=len(errors))
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32)
    hidden = errors if is_count else errors | (sizes == 0)
    found = pa.MapArray.from_arrays(
        pa.array(offsets), keys.filter(chosen), items.filter(chosen), mask=pa.array(hidden)
    )
    return Finished(found, errors if errors.any() else None)
