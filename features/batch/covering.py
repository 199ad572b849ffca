"""Sums and extremes over the intervals that cover each question, without a loop over either."""

from __future__ import annotations

import numpy as np

from features.batch.queries import Intervals, Ints

NOTHING = np.iinfo(np.int64).min
"""What an extreme is where no interval covers a question."""


def count(intervals: Intervals) -> Ints:
    """How many intervals cover each question."""
    size = intervals.size + 1
    change = np.bincount(intervals.first, minlength=size) - np.bincount(
        intervals.end, minlength=size
    )
    return np.cumsum(change[:-1])


def total(intervals: Intervals, weights: Ints) -> Ints:
    """The sum of the weights that cover each question, modulo 2**64: exact where it fits int64."""
    change = np.zeros(intervals.size + 1, dtype=np.int64)
    np.add.at(change, intervals.first, weights)
    np.subtract.at(change, intervals.end, weights)
    return np.cumsum(change[:-1])


def latest(intervals: Intervals) -> Ints:
    """The last of the intervals that cover each question, by number; −1 where none does.

    Whichever entered last by a question stays longest: if it has left, so have all before it.
    """
    newest = np.full(intervals.size + 1, -1, dtype=np.int64)
    np.maximum.at(newest, intervals.first, np.arange(len(intervals.first)))
    newest = np.maximum.accumulate(newest[:-1])
    if len(intervals.end):
        newest[intervals.end[newest] <= np.arange(intervals.size)] = -1
    return newest


def greatest(intervals: Intervals, keys: Ints) -> Ints:
    """The greatest key that covers each question; ``NOTHING`` where none does.

    Every interval is two overlapping runs whose length is a power of two; what a run holds is
    handed down to its halves, from the longest runs to single questions.
    """
    found = np.full(intervals.size, NOTHING, dtype=np.int64)
    levels = _log2(intervals.end - intervals.first)
    for level in range(int(levels.max()) if len(levels) else -1, -1, -1):
        here = np.flatnonzero(levels == level)
        if len(here):
            np.maximum.at(found, intervals.first[here], keys[here])
            np.maximum.at(found, intervals.end[here] - (1 << level), keys[here])
        if level:
            half = 1 << (level - 1)
            np.maximum(found[half:], found[:-half].copy(), out=found[half:])
    return found


def best(intervals: Intervals, ranks: Ints, k: int) -> Ints:
    """The ``k`` greatest ranks (≥ 0, all different) that cover each question, as (questions, k).

    −1 fills up. Runs are handed down as in ``greatest``.
    """
    found = np.full((intervals.size, k), -1, dtype=np.int64)
    levels = _log2(intervals.end - intervals.first)
    for level in range(int(levels.max()) if len(levels) else -1, -1, -1):
        here = np.flatnonzero(levels == level)
        if len(here):
            first, end = intervals.first[here], intervals.end[here] - (1 << level)
            cells = np.concatenate([first, end])
            found = _merged(found, _by_cell(cells, np.tile(ranks[here], 2), intervals.size, k))
        if level:
            found = _handed_down(found, 1 << (level - 1))
    return found


def _log2(lengths: Ints) -> np.ndarray[tuple[int], np.dtype[np.int8]]:
    return (np.frexp(lengths.astype(np.float64))[1] - 1).astype(np.int8)


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
