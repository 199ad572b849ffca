"""Sums and extremes over the intervals that cover each question, without a loop over either."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from features.batch.queries import Intervals, Ints

_SAFE = 1 << 62


def count(intervals: Intervals) -> Ints:
    """How many intervals cover each question."""
    size = intervals.size + 1
    change = np.bincount(intervals.first, minlength=size) - np.bincount(
        intervals.end, minlength=size
    )
    return np.cumsum(change[:-1])


def total(intervals: Intervals, weights: Ints | list[int]) -> npt.NDArray[Any]:
    """The exact sum of the weights that cover each question.

    int64 where no sum can reach 2**62, else an array of Python's integers.
    """
    if isinstance(weights, list) or _may_overflow(weights):
        return _total_of_any_size(intervals, weights)
    change = np.zeros(intervals.size + 1, dtype=np.int64)
    np.add.at(change, intervals.first, weights)
    np.subtract.at(change, intervals.end, weights)
    return np.cumsum(change[:-1])


def _may_overflow(weights: Ints) -> bool:
    if not len(weights):
        return False
    greatest = max(abs(int(weights.max())), abs(int(weights.min())))
    return greatest * len(weights) >= _SAFE


def _total_of_any_size(intervals: Intervals, weights: Ints | list[int]) -> npt.NDArray[Any]:
    change = np.zeros(intervals.size + 1, dtype=object)
    whole = weights if isinstance(weights, list) else weights.tolist()
    for first, end, weight in zip(
        intervals.first.tolist(), intervals.end.tolist(), whole, strict=True
    ):
        change[first] += weight
        change[end] -= weight
    return np.add.accumulate(change[:-1]) if intervals.size else change[:-1]


def greatest(intervals: Intervals, ranks: Ints) -> Ints:
    """The greatest rank (≥ 0) that covers each question; −1 where none does."""
    return best(intervals, ranks, 1)[:, 0] if intervals.size else np.zeros(0, dtype=np.int64)


def best(intervals: Intervals, ranks: Ints, k: int) -> Ints:
    """The ``k`` greatest ranks that cover each question, as (questions, k); −1 fills up.

    Ranks differ from each other. Every interval is two overlapping runs whose length is a power of
    two; a run's ranks are handed down to its halves, from the longest runs to single questions.
    """
    lengths = intervals.end - intervals.first
    levels = _log2(lengths)
    top = int(levels.max()) if len(levels) else 0
    found = np.full((intervals.size, k), -1, dtype=np.int64)
    for level in range(top, -1, -1):
        here = levels == level
        if here.any():
            first, end = intervals.first[here], intervals.end[here] - (1 << level)
            cells = np.concatenate([first, end])
            found = _merged(found, _by_cell(cells, np.tile(ranks[here], 2), intervals.size, k))
        if level:
            found = _handed_down(found, 1 << (level - 1))
    return found


def _log2(lengths: Ints) -> Ints:
    return np.frexp(lengths.astype(np.float64))[1].astype(np.int64) - 1


def _handed_down(runs: Ints, half: int) -> Ints:
    shifted = np.full_like(runs, -1)
    shifted[half:] = runs[: len(runs) - half]
    return _merged(runs, shifted)


def _merged(a: Ints, b: Ints) -> Ints:
    if a.shape[1] == 1:
        return np.maximum(a, b)
    together = -np.sort(-np.concatenate([a, b], axis=1), axis=1)
    together[:, 1:][together[:, 1:] == together[:, :-1]] = -1
    return -np.sort(-together, axis=1)[:, : a.shape[1]]


def _by_cell(cells: Ints, ranks: Ints, size: int, k: int) -> Ints:
    found = np.full((size, k), -1, dtype=np.int64)
    if k == 1:
        np.maximum.at(found[:, 0], cells, ranks)
        return found
    order = np.lexsort((-ranks, cells))
    cells, ranks = cells[order], ranks[order]
    same = np.zeros(len(cells), dtype=bool)
    same[1:] = (cells[1:] == cells[:-1]) & (ranks[1:] == ranks[:-1])
    cells, ranks = cells[~same], ranks[~same]
    starts = np.searchsorted(cells, cells)
    place = np.arange(len(cells)) - starts
    kept = place < k
    found[cells[kept], place[kept]] = ranks[kept]
    return found
