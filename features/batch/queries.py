"""The questions of a spine in order, and between which of them an event counts.

Questions are sorted by (entity, time). An event of an entity counts for a run of its questions:
from the first after it entered (event time and available time have both passed) to the last before
its hop leaves the window. So every event is an interval of question numbers, and an aggregation as
of every question is a sum or an extreme over the intervals that cover it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from features.batch.order import by_code_and_time

Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Intervals:
    """Events as half-open intervals ``[first, end)`` of question numbers; ``size`` questions.

    ``first`` is at most ``end``; where they are equal, the event counts for no question.

    They come entity by entity, in the order in which their events happened: among intervals over
    the questions of one entity, ``end`` never falls.
    """

    first: Ints
    end: Ints
    size: int

    def chosen(self, which: Mask | Ints) -> Intervals:
        """Some of them, in the same order."""
        return Intervals(self.first[which], self.end[which], self.size)

    def runs(self) -> tuple[Ints, Ints] | None:
        """The events that cover each question as a run ``[low, high)``, if all are such runs."""
        if not (_is_sorted(self.first) and _is_sorted(self.end)):
            return None
        return _covered_before(self.end, self.size), _covered_before(self.first, self.size)


def _is_sorted(numbers: Ints) -> bool:
    return bool((numbers[1:] >= numbers[:-1]).all())


def _covered_before(numbers: Ints, size: int) -> Ints:
    """How many of the numbers are at most 0, 1, …, size − 1."""
    return np.cumsum(np.bincount(numbers, minlength=size + 1)[:size])


class Questions:
    """The rows of a spine that have a key and a time, sorted.

    ``codes`` number the entities; −1 is a row without one. ``times`` are UTC µs. ``bounds`` are the
    first question of every entity, and the number of questions at the end.
    """

    def __init__(self, codes: Ints, times: Ints, valid: Mask, entities: int) -> None:
        rows = np.flatnonzero(valid & (codes >= 0))
        self.rows = rows[by_code_and_time(codes[rows], times[rows])]
        self.codes = codes[self.rows]
        self.times = times[self.rows]
        self.size = len(self.rows)
        self.bounds = bounds_of(self.codes, entities)
        self._place: pa.Array | None = None

    def spread(self, values: pa.Array, rows: int) -> pa.Array:
        """Answers by question as a column by row; null where a row is no question."""
        if self._place is None:
            place = np.full(rows, -1, dtype=np.int64)
            place[self.rows] = np.arange(self.size)
            self._place = pa.array(place, mask=place < 0)
        return values.take(self._place)

    def spread_mask(self, mask: Mask, rows: int) -> Mask:
        """The same for a mask; false where a row is no question."""
        spread = np.zeros(rows, dtype=bool)
        spread[self.rows] = mask
        return spread


def bounds_of(codes: Ints, entities: int) -> Ints:
    """Where each entity begins among sorted codes, and their number at the end."""
    return np.searchsorted(codes, np.arange(entities + 1))


def place_within(
    times: Ints, low: Ints, high: Ints, wanted: Ints, *, after_equal: bool = False
) -> Ints:
    """Where each wanted time belongs between ``low`` and ``high`` of times that are sorted there.

    Before equal times, or after them.
    """
    before: Callable[..., Any] = np.less_equal if after_equal else np.less
    found = low.copy()
    longest = int((high - low).max()) if len(low) else 0
    for step in (1 << bit for bit in reversed(range(longest.bit_length()))):
        further = found + step
        inside = further <= high
        inside &= before(times[np.minimum(further, len(times)) - 1], wanted)
        np.add(found, step, out=found, where=inside)
    return found


def entity_codes(spine: list[pa.Array], events: list[pa.Array]) -> tuple[Ints, Ints, int]:
    """A number for every entity of the spine, the events' numbers, and how many there are.

    −1 is null or unknown. Numbers are in the order of the keys, so that events sorted by key are
    sorted by number. Key columns are given in the same order and of the same types on both sides.
    """
    of_spine, of_events, size = _codes(spine[0], events[0])
    for left, right in zip(spine[1:], events[1:], strict=True):
        a, b, more = _codes(left, right)
        of_spine, of_events = _combined(of_spine, a, more), _combined(of_events, b, more)
        known = np.unique(of_spine[of_spine >= 0])
        of_spine, of_events, size = _dense(of_spine, known), _dense(of_events, known), len(known)
    return of_spine, of_events, size


def _codes(left: pa.Array, right: pa.Array) -> tuple[Ints, Ints, int]:
    known = left.unique().drop_null()
    known = known.take(pc.sort_indices(known))
    return _numbers(left, known), _numbers(right, known), len(known)


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
