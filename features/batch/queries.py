"""The questions of a spine in order, and between which of them an event counts.

Questions are sorted by (entity, time). An event of an entity counts for a run of its questions:
from the first after it entered (event time and available time have both passed) to the last before
its hop leaves the window. So every event is an interval of question numbers, and an aggregation as
of every question is a sum or an extreme over the intervals that cover it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from features.windows import leaves_at

Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Intervals:
    """Events as half-open intervals ``[first, end)`` of question numbers; ``size`` questions."""

    first: Ints
    end: Ints
    size: int

    def chosen(self, which: Mask | Ints) -> Intervals:
        """Some of them."""
        return Intervals(self.first[which], self.end[which], self.size)


class Questions:
    """The rows of a spine that have a key and a time, sorted.

    ``codes`` number the entities; −1 is a row without one. ``times`` are UTC µs.
    """

    def __init__(self, codes: Ints, times: Ints, valid: Mask) -> None:
        rows = np.flatnonzero(valid & (codes >= 0))
        order = np.lexsort((times[rows], codes[rows]))
        self.rows = rows[order]
        self.codes = codes[self.rows]
        self.times = times[self.rows]
        self.size = len(self.rows)
        self._moments = np.unique(self.times)
        self._stride = len(self._moments) + 1
        ranks = np.searchsorted(self._moments, self.times)
        self._places = self.codes * self._stride + ranks

    def first_after(self, codes: Ints, times: Ints) -> Ints:
        """The first question of an entity later than a time."""
        ranks = np.searchsorted(self._moments, times, "right")
        return self._find(codes, ranks)

    def first_from(self, codes: Ints, times: Ints) -> Ints:
        """The first question of an entity at a time or later."""
        ranks = np.searchsorted(self._moments, times, "left")
        return self._find(codes, ranks)

    def ends(self, codes: Ints) -> Ints:
        """Past the last question of an entity."""
        return np.searchsorted(self._places, (codes + 1) * self._stride)

    def _find(self, codes: Ints, ranks: Ints) -> Ints:
        return np.searchsorted(self._places, codes * self._stride + ranks)

    def spread(self, values: pa.Array, rows: int) -> pa.Array:
        """Answers by question as a column by row; null where a row is no question."""
        place = np.full(rows, -1, dtype=np.int64)
        place[self.rows] = np.arange(self.size)
        return values.take(pa.array(place, mask=place < 0))

    def spread_mask(self, mask: Mask, rows: int) -> Mask:
        """The same for a mask; false where a row is no question."""
        spread = np.zeros(rows, dtype=bool)
        spread[self.rows] = mask
        return spread


@dataclass(frozen=True, slots=True)
class Entering:
    """Events of known entities, with the question from which on each counts."""

    codes: Ints
    times: Ints
    first: Ints

    def intervals(
        self, questions: Questions, window: int | None, hop: int | None
    ) -> tuple[Intervals, Ints]:
        """Those that count for any question, and which events they are; window and hop in µs."""
        if window is None or hop is None:
            end = questions.ends(self.codes)
        else:
            end = questions.first_from(self.codes, leaves_at(self.times, window, hop))
        events = np.flatnonzero(self.first < end)
        return Intervals(self.first[events], end[events], questions.size), events


def entity_codes(spine: list[pa.Array], events: list[pa.Array]) -> tuple[Ints, Ints]:
    """A number for every entity of the spine, and the events' numbers; −1 for null or unknown.

    Key columns are given in the same order and of the same types on both sides.
    """
    of_spine: Ints = np.zeros(len(spine[0]), dtype=np.int64)
    of_events: Ints = np.zeros(len(events[0]), dtype=np.int64)
    for left, right in zip(spine, events, strict=True):
        known = left.unique().drop_null()
        of_spine = _combined(of_spine, _numbers(left, known), len(known))
        of_events = _combined(of_events, _numbers(right, known), len(known))
        dense = np.unique(of_spine[of_spine >= 0])
        of_spine, of_events = _dense(of_spine, dense), _dense(of_events, dense)
    return of_spine, of_events


def _numbers(column: pa.Array, known: pa.Array) -> Ints:
    found = pc.fill_null(pc.index_in(column, value_set=known, skip_nulls=True), -1)
    return np.asarray(found.to_numpy(zero_copy_only=False), dtype=np.int64)


def _combined(left: Ints, right: Ints, size: int) -> Ints:
    return np.where((left < 0) | (right < 0), -1, left * size + right)


def _dense(codes: Ints, known: Ints) -> Ints:
    if not len(known):
        return np.full(len(codes), -1, dtype=np.int64)
    place = np.minimum(np.searchsorted(known, codes), len(known) - 1)
    return np.where((codes >= 0) & (known[place] == codes), place, -1)


def numbers_of(array: Any) -> Ints:
    """An Arrow column of whole numbers or times as int64; null is 0."""
    if pa.types.is_timestamp(array.type):
        array = array.cast(pa.int64())
    return np.asarray(pc.fill_null(array, 0).to_numpy(zero_copy_only=False), dtype=np.int64)
