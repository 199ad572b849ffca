"""The features of a view as of every row of a spine, in one vectorised pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from features.aggregations import Aggregation
from features.algebra.compiled import CompiledAggregation, Taken
from features.algebra.view import ViewAlgebra, counting, micros, typed_columns
from features.batch import covering, groups, picks, sums
from features.batch.queries import (
    Entering,
    Intervals,
    Ints,
    Mask,
    Questions,
    entity_codes,
    numbers_of,
)
from features.batch.sums import Finished
from features.compile_columns import compile_columns
from features.derivation import read_features
from features.dtypes import to_arrow
from features.plan import ViewPlan

AS_OF = "__as_of"
"""The column of the time that stored features are asked for."""


@dataclass(frozen=True, slots=True)
class AsOf:
    """Features as of every row: columns by feature, and where one could not be computed."""

    columns: dict[str, pa.Array]
    errors: dict[str, Mask]


def features_as_of(
    plan: ViewPlan, events: pa.Table, spine: pa.Table, *, inclusive: bool = False, lag: int = 0
) -> AsOf:
    """What the view is worth for each row of a spine (key columns and ``AS_OF``), in its order.

    ``events`` has the plan's source columns. ``inclusive`` counts events at the very time too;
    ``lag`` (µs) is how much later than ``AS_OF`` the row itself is. A row without a key or a time
    gets nulls; a value that could not be computed is null and marked.
    """
    source = plan.view.source
    events = counting(events, source)
    known = micros(events.column(source.available_at))
    return features_known_from(plan, events, known, spine, inclusive=inclusive, lag=lag)


def features_known_from(
    plan: ViewPlan,
    events: pa.Table,
    known_from: Ints,
    spine: pa.Table,
    *,
    inclusive: bool = False,
    lag: int = 0,
) -> AsOf:
    """The same for events that all count, each known after ``known_from`` (µs), whoever says so."""
    times = spine.column(AS_OF).combine_chunks()
    block = _placed(plan, events, known_from, spine, times, inclusive)
    algebra = ViewAlgebra(plan.view, plan.aggregations)
    columns, errors = {}, {}
    for series in _series(algebra, block):
        for slot in series.slots:
            found = series.answer(slot)
            dtype = to_arrow(plan.dtypes[slot.name])
            columns[slot.name] = block.questions.spread(found.values.cast(dtype), spine.num_rows)
            if found.errors is not None:
                mask = block.questions.spread_mask(found.errors, spine.num_rows)
                errors[slot.name] = mask
    q = times if lag == 0 else pc.add(times, pa.scalar(lag, pa.duration("us")))
    _derive(plan, columns, errors, q, _answered(block.questions, spine.num_rows))
    wanted = plan.features
    return AsOf({n: columns[n] for n in wanted}, {n: errors[n] for n in wanted if n in errors})


@dataclass(frozen=True, slots=True)
class _Block:
    """The questions of a spine and the events that they may see."""

    questions: Questions
    events: pa.Table
    history: History


def _placed(
    plan: ViewPlan,
    events: pa.Table,
    known_from: Ints,
    spine: pa.Table,
    times: pa.Array,
    inclusive: bool,
) -> _Block:
    source = plan.view.source
    keys = typed_columns(events, source, plan.view.entity.keys)
    asked = [spine.column(name).combine_chunks() for name in plan.key_columns]
    of_spine, of_events, entities = entity_codes(asked, list(keys.values()))
    valid = np.asarray(times.is_valid().to_numpy(zero_copy_only=False))
    questions = Questions(of_spine, numbers_of(times), valid, entities)
    if 2 * np.count_nonzero(of_events >= 0) < len(of_events):
        known = np.flatnonzero(of_events >= 0)
        events = events.take(pa.array(known))
        of_events, known_from = of_events[known], known_from[known]
    moments = _moments(source, events, known_from)
    history = History.of(of_events, moments, questions, inclusive=inclusive)
    return _Block(questions, events, history)


def _moments(source: Source, events: pa.Table, known_from: Ints) -> Moments:
    sequence = None
    if source.sequence is not None:
        sequence = as_dtype(events.column(source.sequence), source.columns[source.sequence])
    happened = micros(events.column(source.event_time))
    available = micros(events.column(source.available_at))
    return Moments(happened, available, np.maximum(happened, known_from), sequence)


def _series(algebra: ViewAlgebra, block: _Block) -> Iterator[_Series]:
    """The aggregations by what they take of which events: what they share is computed once."""
    columns = typed_columns(block.events, algebra.source, algebra.columns)
    by_expression: dict[Aggregation, dict[int | None, list[CompiledAggregation]]] = {}
    for slot in algebra.slots:
        taking = replace(slot.spec, kind="", k=None, quantiles=(), window=None)
        by_expression.setdefault(taking, {}).setdefault(slot.window, []).append(slot)
    for windows in by_expression.values():
        taken = next(iter(windows.values()))[0].take(columns, block.events.num_rows)
        for slots in windows.values():
            yield _Series(slots, taken, block.history, algebra.view.ttl)


class _Series:
    """Aggregations of one expression over one window."""

    def __init__(
        self,
        slots: Sequence[CompiledAggregation],
        taken: Taken,
        history: History,
        ttl: int | None,
    ) -> None:
        self.slots = slots
        self._taken = taken
        self._history = history
        covered = history.covering(slots[0].window, slots[0].hop)
        self._chosen = _some(covered, _by_row(taken.chosen, history.rows[covered.events]))
        self._ttl = ttl if slots[0].window is None else None
        self._errors = self._failures()

    def answer(self, slot: CompiledAggregation) -> Finished:
        """The aggregation as of every question."""
        found = self._expired(self._aggregated(slot))
        if self._errors is None:
            return found
        return _with_errors(found, self._errors & ~self._old)

    def _failures(self) -> Mask | None:
        if self._taken.failed is None:
            return None
        failed = self._taken.failed[self._history.rows[self._chosen.events]]
        return covering.count(self._chosen.intervals.chosen(failed)) > 0 if failed.any() else None

    def _aggregated(self, slot: CompiledAggregation) -> Finished:
        if self._taken.groups is None:
            if self._taken.values is None:
                return sums.counted(self._chosen.intervals)
            return _KINDS[slot.spec.kind](slot.spec, self._present)
        return self._grouped(slot)

    @cached_property
    def _present(self) -> Valued:
        """The chosen events that have a value."""
        assert self._taken.values is not None
        valid = None
        if self._taken.values.null_count:
            mask = np.asarray(self._taken.values.is_valid().to_numpy(zero_copy_only=False))
            valid = mask[self._history.rows[self._chosen.events]]
        covered = _some(self._chosen, valid)
        return Valued(covered, self._history, self._taken.values)
def _with_errors(found: Finished, errors: Mask) -> Finished:
    if found.errors is not None:
        errors = errors | found.errors
    hidden = pa.scalar(None, found.values.type)
    return Finished(pc.if_else(pa.array(errors), hidden, found.values), errors)


def _answered(questions: Questions, rows: int) -> Mask:
    return questions.spread_mask(np.ones(questions.size, dtype=bool), rows)


def _derive(
    plan: ViewPlan,
    columns: dict[str, pa.Array],
    errors: dict[str, Mask],
    q: pa.Array,
    answered: Mask,
) -> None:
    """Adds the derived features; one made of a value that is an error is an error itself."""
    for name, expr in plan.derived:
        read = {f"@{n}": column for n, column in columns.items()}
        found = compile_columns(expr, plan.schema)(read, q)
        wrong = errors_of([errors[n] for n in read_features(expr) if n in errors], found.errors)
        hidden = ~answered if wrong is None else ~answered | wrong
        values = pc.if_else(pa.array(hidden), pa.scalar(None, found.values.type), found.values)
        columns[name] = values
        if wrong is not None:
            errors[name] = wrong & answered


def errors_of(read: Sequence[Mask], own: Mask | None) -> Mask | None:
    """Where a derived value is an error: where it is itself, or one that it reads is."""
    found = own
    for mask in read:
        found = mask if found is None else found | mask
    return found
