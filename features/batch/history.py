"""The events that a spine may see, in order, and between which questions each of them counts."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

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
    def of(
        cls, codes: Ints, moments: Moments, questions: Questions, *, inclusive: bool
    ) -> History:
        """The history for the questions; ``codes`` by event, −1 for an entity that nobody asks."""
        known = np.flatnonzero(codes >= 0)
        rows = known[by_code_and_time(codes[known], moments.happened[known])]
        joined = _order_ties(rows, codes, moments)
        codes, times = codes[rows], moments.happened[rows]
        bounds = bounds_of(codes, len(questions.bounds) - 1)
        seen = _events_before(questions, bounds, times, questions.times, after_equal=inclusive)
        first = _first_beyond(seen, len(rows))
        _wait(first, codes, times, moments.entered[rows], questions, inclusive)
        return cls(rows, codes, times, joined, first, questions, bounds)

    def covering(self, window: int | None, hop: int | None) -> Covering:
        """The events that count for any question at all; window and hop in µs."""
        if (window, hop) not in self._covering:
            self._covering[window, hop] = self._covered(window, hop)
        return self._covering[window, hop]

    def _covered(self, window: int | None, hop: int | None) -> Covering:
        end = self._end(window, hop)
        events = np.flatnonzero(self.first < end)
        if len(events) == len(end):
            return Covering(Intervals(self.first, end, self.questions.size), events)
        return Covering(Intervals(self.first[events], end[events], self.questions.size), events)

    def _end(self, window: int | None, hop: int | None) -> Ints:
        if window is None or hop is None:
            return self.questions.bounds[self.codes + 1]
        starts = window_start(self.questions.times, window, hop)
        gone = _events_before(self.questions, self._bounds, self.times, starts)
        return _first_beyond(gone, len(self.rows))


@dataclass(frozen=True, slots=True)
class Covering:
    """Events that count for some question: their intervals, and their numbers in the history."""

    intervals: Intervals
    events: Ints


def _order_ties(rows: Ints, codes: Ints, moments: Moments) -> Mask:
    """Orders, in place, events of one time by what was known first, then by their sequence."""
    joined = _same(codes[rows]) & _same(moments.happened[rows])
    keys = (moments.available,)
    if moments.sequence is not None:
        known = np.asarray(moments.sequence.is_valid().to_numpy(zero_copy_only=False))
        keys = (numbers_or_ranks(moments.sequence), known, *keys)
    if joined.any():
        resort_runs(rows, joined, keys)
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
    return np.cumsum(np.bincount(events, minlength=size + 1)[:size])


def _same(numbers: Ints) -> Mask:
    return np.asarray(numbers[1:] == numbers[:-1])
