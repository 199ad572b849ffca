"""Aggregations of one expression over one window: what they share is computed once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from features.aggregations import Aggregation
from features.algebra.compiled import CompiledAggregation, Taken
from features.batch import covering, groups, picks
from features.batch.history import Covering, History
from features.batch.order import resort_runs
from features.batch.queries import Intervals, Ints, Mask
from features.batch.sums import Finished, Sums, counted


class Series:
    """The events that an expression takes in over a window, as of every question.

    ``taken`` is by row of the history's block. ``ttl`` in µs, None where a window bounds the age.
    """

    def __init__(
        self, window: int | None, hop: int | None, taken: Taken, history: History, ttl: int | None
    ) -> None:
        self._taken = taken
        self._history = history
        self._ttl = ttl
        self._chosen = history.covering(window, hop)
        if not taken.chosen.all():
            self._chosen = self._chosen.chosen(taken.chosen[self._chosen.rows])

    def answer(self, slot: CompiledAggregation) -> Finished:
        """An aggregation as of every question; what is too old, or failed, is null."""
        grouped = self._taken.groups is not None
        found = self._by_group(slot) if grouped else self._plain(slot.spec)
        return _with_errors(_without(found, self._old), self._failed)

    def _plain(self, spec: Aggregation) -> Finished:
        if self._taken.values is None:
            return counted(self._chosen.intervals)
        return _KINDS[spec.kind](spec, self._values)

    def _by_group(self, slot: CompiledAggregation) -> Finished:
        assert self._taken.groups is not None
        chosen = self._chosen
        names = self._taken.groups.take(pa.array(chosen.rows))
        if names.null_count:
            # Only failed events come without a group; they are counted apart.
            known = np.asarray(names.is_valid().to_numpy(zero_copy_only=False))
            chosen, names = chosen.chosen(known), names.drop_null()

        def inner(own: Intervals, some: Ints) -> Finished:
            if self._taken.values is None:
                return counted(own)
            covered = chosen.chosen(some).over(own)
            return _KINDS[slot.spec.kind](slot.spec, self._with_values(covered))

        entities = self._history.codes[chosen.events]
        return groups.mapped(chosen.intervals, names, entities, inner, slot.is_count)

    @cached_property
    def _values(self) -> Values:
        return self._with_values(self._chosen)

    def _with_values(self, covered: Covering) -> Values:
        assert self._taken.values is not None
        return Values(self._valued(covered), self._history, self._taken.values)

    def _valued(self, covered: Covering) -> Covering:
        """Those that have a value."""
        values = self._taken.values
        if values is None or not values.null_count:
            return covered
        valid = np.asarray(values.is_valid().to_numpy(zero_copy_only=False))
        return covered.chosen(valid[covered.rows])

    @cached_property
    def _failing(self) -> Covering | None:
        """Those whose value could not be computed."""
        failed = self._taken.failed
        return None if failed is None else self._chosen.chosen(failed[self._chosen.rows])

    @cached_property
    def _failed(self) -> Mask | None:
        if self._failing is None or not len(self._failing.intervals.first):
            return None
        failed = covering.count(self._failing.intervals) > 0
        return failed if self._old is None else failed & ~self._old

    @cached_property
    def _old(self) -> Mask | None:
        """Where the newest event that was taken in is strictly older than the time to live."""
        if self._ttl is None:
            return None
        newest = self._newest(self._valued(self._chosen))
        if self._failing is not None:
            newest = np.maximum(newest, self._newest(self._failing))
        if not len(self._history.times):
            return newest >= 0
        age = self._history.questions.times - self._history.times[newest]
        return np.asarray((newest >= 0) & (age > self._ttl))

    def _newest(self, covered: Covering) -> Ints:
        newest = covered.latest
        if isinstance(covered.events, slice) or not len(covered.events):
            return newest
        return np.where(newest < 0, -1, covered.events[newest])


class Values:
    """Events that have a value, with their values."""

    def __init__(self, covered: Covering, history: History, values: pa.Array) -> None:
        self.intervals = covered.intervals
        self._covered = covered
        self._history = history
        self._by_row = values

    @cached_property
    def column(self) -> pa.Array:
        """The values by event; −0.0 equals 0.0, so it is given as 0.0."""
        values = self._by_row.take(pa.array(self._covered.rows))
        return pc.add(values, 0.0) if pa.types.is_floating(values.type) else values

    @cached_property
    def sums(self) -> Sums:
        """Their sums."""
        return Sums(self.intervals, self.column)

    @property
    def entities(self) -> Ints:
        """What tells the entities of events apart."""
        return self._history.codes[self._covered.events]

    def ends(self, kind: str, k: int | None) -> Finished:
        """The first or last of them."""
        covered = self._ordered
        if kind == "last" and k is None:
            return Finished(picks.values_at(covered.latest_rows, self._by_row))
        events = picks.end_events(kind, k or 1, covered.intervals)
        rows = np.where(events < 0, -1, covered.rows[events]) if len(covered.rows) else events
        if k is None:
            row = pa.array(rows[:, 0], mask=rows[:, 0] < 0)
            return Finished(picks.values_at(row, self._by_row))
        return Finished(picks.as_lists(rows, self._by_row))

    @cached_property
    def _ordered(self) -> Covering:
        """The events from first to last; what else is equal stands in order of value."""
        tied = self._tied()
        if not tied.any():
            return self._covered
        order = np.arange(len(self._covered.rows))
        resort_runs(order, tied, self._ranks)
        return self._covered.chosen(order)

    def _tied(self) -> Mask:
        """Whether nothing but its value tells an event from the one before."""
        joined = self._history.joined
        if not joined.any():
            return np.zeros(max(len(self._covered.rows) - 1, 0), dtype=bool)
        run = np.cumsum(np.concatenate([[0], ~joined]))[self._covered.events]
        return np.asarray(run[1:] == run[:-1])

    def _ranks(self, events: Ints) -> Sequence[Ints]:
        values = self._by_row.take(pa.array(self._covered.rows[events]))
        if pa.types.is_floating(values.type):
            values = pc.add(values, 0.0)
        return (picks.value_ranks(values),)


_KINDS: dict[str, Callable[[Aggregation, Values], Finished]] = {
    "count": lambda spec, values: counted(values.intervals),
    "sum": lambda spec, values: values.sums.sum(),
    "mean": lambda spec, values: values.sums.mean(),
    "variance": lambda spec, values: values.sums.variance(),
    "stddev": lambda spec, values: values.sums.stddev(),
    "min": lambda spec, values: picks.extreme("min", values.intervals, values.column),
    "max": lambda spec, values: picks.extreme("max", values.intervals, values.column),
    "first": lambda spec, values: values.ends("first", spec.k),
    "last": lambda spec, values: values.ends("last", spec.k),
    "top_k": lambda spec, values: picks.top(spec.k or 1, values.intervals, values.column),
    "distinct": lambda spec, values: groups.distinct(
        values.intervals, values.column, values.entities
    ),
    "approx_distinct": lambda spec, values: groups.approx_distinct(
        values.intervals, values.column, values.entities
    ),
    "histogram": lambda spec, values: groups.histogram(
        values.intervals, values.column, values.entities
    ),
    "approx_quantiles": lambda spec, values: groups.quantiles(
        spec.quantiles, values.intervals, values.column, values.entities
    ),
}


def _without(found: Finished, hidden: Mask | None) -> Finished:
    if hidden is None:
        return found
    nothing = pa.scalar(None, found.values.type)
    values = pc.if_else(pa.array(hidden), nothing, found.values)
    errors = None if found.errors is None else found.errors & ~hidden
    return Finished(values, errors)


def _with_errors(found: Finished, errors: Mask | None) -> Finished:
    if errors is None:
        return found
    values = _without(found, errors).values
    return Finished(values, errors if found.errors is None else errors | found.errors)
