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


@dataclass(frozen=True, slots=True)
class _Events:
    """The events that some row of the spine may see, with their places among the questions."""

    taken: list[Taken]
    entering: Entering
    available: Ints
    sequence: pa.Array | None


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
    questions, seen = _placed(plan, events, known_from, spine, times, inclusive)
    algebra = ViewAlgebra(plan.view, plan.aggregations)
    held = _events(algebra, seen.events, seen)
    columns, errors = {}, {}
    for slot, taken in zip(algebra.slots, held.taken, strict=True):
        found = _expired(plan.view.ttl, slot, _aggregated(slot, taken, held, questions), questions,
                         taken, held)  # fmt: skip
        dtype = to_arrow(plan.dtypes[slot.name])
        columns[slot.name] = questions.spread(found.values.cast(dtype), spine.num_rows)
        if found.errors is not None:
            errors[slot.name] = questions.spread_mask(found.errors, spine.num_rows)
    q = times if lag == 0 else pc.add(times, pa.scalar(lag, pa.duration("us")))
    _derive(plan, columns, errors, q, _answered(questions, spine.num_rows))
    wanted = plan.features
    return AsOf({n: columns[n] for n in wanted}, {n: errors[n] for n in wanted if n in errors})


@dataclass(frozen=True, slots=True)
class _Seen:
    events: pa.Table
    entering: Entering


def _placed(
    plan: ViewPlan,
    events: pa.Table,
    known_from: Ints,
    spine: pa.Table,
    times: pa.Array,
    inclusive: bool,
) -> tuple[Questions, _Seen]:
    source = plan.view.source
    keys = typed_columns(events, source, plan.view.entity.keys)
    asked = [spine.column(name).combine_chunks() for name in plan.key_columns]
    of_spine, of_events = entity_codes(asked, list(keys.values()))
    valid = np.asarray(times.is_valid().to_numpy(zero_copy_only=False))
    questions = Questions(of_spine, numbers_of(times), valid)
    known = np.flatnonzero(of_events >= 0)
    events, codes = events.take(pa.array(known)), of_events[known]
    happened = micros(events.column(source.event_time))
    entered = np.maximum(happened, known_from[known])
    first = (questions.first_from if inclusive else questions.first_after)(codes, entered)
    return questions, _Seen(events, Entering(codes, happened, first))


def _events(algebra: ViewAlgebra, events: pa.Table, seen: _Seen) -> _Events:
    source = algebra.source
    sequence = None
    if source.sequence is not None:
        sequence = events.column(source.sequence).combine_chunks()
    available = micros(events.column(source.available_at))
    return _Events(algebra.take(events), seen.entering, available, sequence)


def _aggregated(
    slot: CompiledAggregation, taken: Taken, held: _Events, questions: Questions
) -> Finished:
    intervals, events = held.entering.intervals(questions, slot.window, slot.hop)
    chosen = taken.chosen[events]
    intervals, events = intervals.chosen(chosen), events[chosen]
    failed = None if taken.failed is None else taken.failed[events]
    found = _of_events(slot, taken, held, intervals, events)
    if failed is None or not failed.any():
        return found
    errors = covering.count(intervals.chosen(failed)) > 0
    return _with_errors(found, errors)


def _of_events(
    slot: CompiledAggregation, taken: Taken, held: _Events, intervals: Intervals, events: Ints
) -> Finished:
    spec = slot.spec
    if taken.groups is None:
        return _plain(spec, taken, held, intervals, events)
    picked = taken.groups.take(pa.array(events))
    if picked.null_count:
        # Only failed events come without a group; they are counted apart.
        known = np.asarray(picked.is_valid().to_numpy(zero_copy_only=False))
        intervals, events, picked = intervals.chosen(known), events[known], picked.drop_null()

    def inner(own: Intervals, some: Ints) -> Finished:
        return _plain(spec, taken, held, own, events[some])

    entities = _runs(held, events)
    return groups.mapped(intervals, picked, entities, inner, slot.is_count)


def _plain(
    spec: Aggregation, taken: Taken, held: _Events, intervals: Intervals, events: Ints
) -> Finished:
    if taken.values is None:
        return sums.counted(intervals)
    values = taken.values.take(pa.array(events))
    present = np.asarray(values.is_valid().to_numpy(zero_copy_only=False))
    if not present.all():
        intervals, events = intervals.chosen(present), events[present]
        values = values.filter(pa.array(present))
    if pa.types.is_floating(values.type):
        # −0.0 equals 0.0, so it is kept as 0.0.
        values = pc.add(values, 0.0)
    return _KINDS[spec.kind](spec, held, intervals, events, values)


_Kind = Callable[[Aggregation, _Events, Intervals, Ints, pa.Array], Finished]


def _ends(
    spec: Aggregation, held: _Events, intervals: Intervals, events: Ints, values: pa.Array
) -> Finished:
    sequence = None if held.sequence is None else held.sequence.take(pa.array(events))
    times, available = held.entering.times[events], held.available[events]
    order = picks.event_order(times, available, sequence, values)
    return picks.ends(spec.kind, spec.k, intervals, values, order)


_KINDS: dict[str, _Kind] = {
    "count": lambda spec, held, own, events, values: sums.counted(own),
    "sum": lambda spec, held, own, events, values: sums.summed("sum", own, values),
    "mean": lambda spec, held, own, events, values: sums.summed("mean", own, values),
    "variance": lambda spec, held, own, events, values: sums.spread_out("variance", own, values),
    "stddev": lambda spec, held, own, events, values: sums.spread_out("stddev", own, values),
    "min": lambda spec, held, own, events, values: picks.extreme("min", own, values),
    "max": lambda spec, held, own, events, values: picks.extreme("max", own, values),
    "first": _ends,
    "last": _ends,
    "top_k": lambda spec, held, own, events, values: picks.top(spec.k or 1, own, values),
    "distinct": lambda spec, held, own, events, values: groups.distinct(
        own, values, _runs(held, events)
    ),
    "histogram": lambda spec, held, own, events, values: groups.histogram(
        own, values, _runs(held, events)
    ),
    "approx_quantiles": lambda spec, held, own, events, values: groups.quantiles(
        spec.quantiles, own, values, _runs(held, events)
    ),
}


def _runs(held: _Events, events: Ints) -> Ints:
    """Tells the entities of events apart."""
    return held.entering.codes[events]


def _expired(
    ttl: int | None,
    slot: CompiledAggregation,
    found: Finished,
    questions: Questions,
    taken: Taken,
    held: _Events,
) -> Finished:
    """Null where the newest event that the feature took in is strictly older than ``ttl``."""
    if ttl is None or slot.window is not None:
        return found
    took = taken.chosen.copy()
    if taken.values is not None:
        took &= np.asarray(taken.values.is_valid().to_numpy(zero_copy_only=False))
    if taken.failed is not None:
        took |= taken.failed
    intervals, events = held.entering.intervals(questions, None, None)
    intervals, events = intervals.chosen(took[events]), events[took[events]]
    times = held.entering.times[events]
    order = np.argsort(times, kind="stable")
    ranks = np.empty(len(order), dtype=np.int64)
    ranks[order] = np.arange(len(order))
    newest = covering.greatest(intervals, ranks)
    if not len(order):
        return found
    age = questions.times - times[order[np.maximum(newest, 0)]]
    old = (newest >= 0) & (age > ttl)
    values = pc.if_else(pa.array(old), pa.scalar(None, found.values.type), found.values)
    errors = None if found.errors is None else found.errors & ~old
    return Finished(values, errors)


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
