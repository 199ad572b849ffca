"""The events that a spine may see, in order, and between which questions each of them counts."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pyarrow as pa

from features.batch.covering import latest
from features.batch.order import by_code_and_time, resort_runs
from features.batch.picks import numbers_or_ranks
from features.batch.queries import (
    Intervals,
    Ints,
    Mask,
    Questions,
    bounds_of,
    place_within,
)
from features.windows import window_start


@dataclass(frozen=True, slots=True)
class Moments:
    """When each event of a block happened, was available and entered, in µs; its sequence."""

    happened: Ints
    available: Ints
    entered: Ints
    sequence: pa.Array | None


@dataclass(slots=True)
class History:
    """Events of the entities of some questions, entity by entity, from first to last.

    ``rows`` are their rows in the block that they came from. ``joined`` ties an event to the one
    before it where nothing but their values can tell which is last. ``first`` is the question from
    which on each counts.
    """

    rows: Ints
    codes: Ints
    times: Ints
    joined: Mask
    first: Ints
    questions: Questions
    _bounds: Ints
    _covering: dict[tuple[int | None, int | None], Covering] = field(default_factory=dict)

    @classmethod
    def of(cls, codes: Ints, moments: Moments, questions: Questions, *, inclusive: bool) -> History:
        """The history for the questions; ``codes`` by event, −1 for an entity that nobody asks."""
        rows = _ordered(codes, moments.happened)
        codes, times = codes[rows], moments.happened[rows]
        joined = _order_ties(rows, codes, times, moments)
        bounds = bounds_of(codes, len(questions.bounds) - 1)
        seen = _events_before(questions, bounds, times, questions.times, after_equal=inclusive)
        first = _first_beyond(seen, len(rows))
        if moments.entered is not moments.happened:
            _wait(first, codes, times, moments.entered[rows], questions, inclusive)
        return cls(rows, codes, times, joined, first, questions, bounds)

    def covering(self, window: int | None, hop: int | None) -> Covering:
        """The events that count for any question at all; window and hop in µs."""
        if (window, hop) not in self._covering:
            self._covering[window, hop] = self._covered(window, hop)
        return self._covering[window, hop]

    def _covered(self, window: int | None, hop: int | None) -> Covering:
        end = self._end(window, hop)
        intervals = Intervals(self.first, end, self.questions.size)
        every = Covering(intervals, slice(None), self.rows)
        # An interval of no length covers nothing and does no harm; one that ends first would.
        return every.chosen(self.first <= end)

    def _end(self, window: int | None, hop: int | None) -> Ints:
        if window is None or hop is None:
            return np.repeat(self.questions.bounds[1:], np.diff(self._bounds))
        starts = window_start(self.questions.times, window, hop)
        gone = _events_before(self.questions, self._bounds, self.times, starts)
        return _first_beyond(gone, len(self.rows))


@dataclass(frozen=True)
class Covering:
    """Events that count for some question: their intervals, numbers in the history, and rows."""

    intervals: Intervals
    events: Ints | slice
    rows: Ints

    def chosen(self, which: Mask | Ints) -> Covering:
        """Some of them, by a mask or by their places."""
        if which.dtype == bool and which.all():
            return self
        places: Ints = np.flatnonzero(which) if which.dtype == bool else np.asarray(which)
        events = places if isinstance(self.events, slice) else self.events[places]
        return Covering(self.intervals.chosen(places), events, self.rows[places])

    def over(self, intervals: Intervals) -> Covering:
        """The same events with other intervals."""
        return Covering(intervals, self.events, self.rows)

    @cached_property
    def latest(self) -> Ints:
        """The last event that counts for each question, among these; −1 where none does."""
        return latest(self.intervals)

    @cached_property
    def latest_rows(self) -> pa.Array:
        """Its row; null where none does."""
        found = self.latest
        if not len(self.rows):
            return pa.nulls(len(found), pa.int64())
        return pa.array(self.rows[found], mask=found < 0)


def _ordered(codes: Ints, times: Ints) -> Ints:
    """The events of known entities in order of entity and time."""
    if not len(codes) or int(codes.min()) >= 0:
        return by_code_and_time(codes, times)
    known = np.flatnonzero(codes >= 0)
    return known[by_code_and_time(codes[known], times[known])]


def _order_ties(rows: Ints, codes: Ints, times: Ints, moments: Moments) -> Mask:
    """Orders, in place, events of one time by what was known first, then by their sequence.

    ``codes`` and ``times`` are in the order of ``rows``. What is left in a tie is returned.
    """
    joined = _same(codes) & _same(times)
    keys: tuple[Ints | Mask, ...] = (moments.available,)
    if moments.sequence is not None:
        known = np.asarray(moments.sequence.is_valid().to_numpy(zero_copy_only=False))
        keys = (numbers_or_ranks(moments.sequence), known, *keys)
    if joined.any():
        resort_runs(rows, joined, lambda some: [key[some] for key in keys])
        for key in keys:
            joined &= _same(key[rows])
    return joined


def _wait(
    first: Ints, codes: Ints, times: Ints, entered: Ints, questions: Questions, inclusive: bool
) -> None:
    """Moves, in place, the first question of events that entered later than they happened."""
    late = np.flatnonzero(entered > times)
    if len(late):
        end = questions.bounds[codes[late] + 1]
        first[late] = place_within(
            questions.times, first[late], end, entered[late], after_equal=not inclusive
        )


def _events_before(
    questions: Questions, bounds: Ints, times: Ints, wanted: Ints, *, after_equal: bool = False
) -> Ints:
    """How many events come before a time of each question's own, earlier entities' included."""
    low, high = bounds[questions.codes], bounds[questions.codes + 1]
    return place_within(times, low, high, wanted, after_equal=after_equal)


def _first_beyond(events: Ints, size: int) -> Ints:
    """For each of ``size`` events the first question with more events before it than its number.

    ``events`` says how many are before each question, and never falls.
    """
    counts = np.bincount(events, minlength=size + 1)[:size]
    return np.cumsum(counts, out=counts)


def _same(numbers: Ints | Mask) -> Mask:
    return np.asarray(numbers[1:] == numbers[:-1])
