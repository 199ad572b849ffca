"""The features of a view as of every row of a spine, in one vectorised pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from features.aggregations import Aggregation
from features.algebra.compiled import CompiledAggregation
from features.algebra.view import ViewAlgebra, counting, micros, typed_columns
from features.batch.history import History, Moments
from features.batch.queries import Ints, Mask, Questions, entity_codes, numbers_of
from features.batch.series import Series
from features.batch.sums import Finished
from features.compile_columns import compile_columns
from features.derivation import read_features
from features.dtypes import to_arrow
from features.plan import ViewPlan
from features.sources import Source

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
    counted = counting(events, plan.view.source)
    return features_of_counting(plan, counted, spine, inclusive=inclusive, lag=lag)


def features_of_counting(
    plan: ViewPlan, events: pa.Table, spine: pa.Table, *, inclusive: bool = False, lag: int = 0
) -> AsOf:
    """The same for events that all count: well-formed, in time, each id once."""
    known = micros(events.column(plan.view.source.available_at))
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
    """The same for events that are each known after ``known_from`` (µs), whoever says so."""
    times = spine.column(AS_OF).combine_chunks()
    questions, block, history = _placed(plan, events, known_from, spine, times, inclusive)
    rows = spine.num_rows
    columns, errors = {}, {}
    for slot, found in _answers(ViewAlgebra(plan.view, plan.aggregations), block, history):
        dtype = to_arrow(plan.dtypes[slot.name])
        columns[slot.name] = questions.spread(found.values.cast(dtype), rows)
        if found.errors is not None:
            errors[slot.name] = questions.spread_mask(found.errors, rows)
    q = times if lag == 0 else pc.add(times, pa.scalar(lag, pa.duration("us")))
    answered = questions.spread_mask(np.ones(questions.size, dtype=bool), rows)
    _derive(plan, columns, errors, q, answered)
    wanted = plan.features
    return AsOf({n: columns[n] for n in wanted}, {n: errors[n] for n in wanted if n in errors})


def _placed(
    plan: ViewPlan,
    events: pa.Table,
    known_from: Ints,
    spine: pa.Table,
    times: pa.Array,
    inclusive: bool,
) -> tuple[Questions, pa.Table, History]:
    """The questions of a spine, the events that may matter, and what the questions see of them."""
    source = plan.view.source
    keys = typed_columns(events, source, plan.view.entity.keys)
    asked = [spine.column(name).combine_chunks() for name in plan.key_columns]
    of_spine, of_events, entities = entity_codes(asked, list(keys.values()))
    valid = np.asarray(times.is_valid().to_numpy(zero_copy_only=False))
    questions = Questions(of_spine, numbers_of(times), valid, entities)
    if 2 * np.count_nonzero(of_events >= 0) < len(of_events):
        # Most events are of entities that nobody asks for: leave them before anything is computed.
        known = np.flatnonzero(of_events >= 0)
        events, of_events, known_from = (
            events.take(pa.array(known)),
            of_events[known],
            known_from[known],
        )
    moments = _moments(source, events, known_from)
    return questions, events, History.of(of_events, moments, questions, inclusive=inclusive)


def _moments(source: Source, events: pa.Table, known_from: Ints) -> Moments:
    sequence = None
    if source.sequence is not None:
        sequence = typed_columns(events, source, [source.sequence])[source.sequence]
    happened = micros(events.column(source.event_time))
    available = micros(events.column(source.available_at))
    waits = (known_from > happened).any()
    entered = np.maximum(happened, known_from) if waits else happened
    return Moments(happened, available, entered, sequence)


def _answers(
    algebra: ViewAlgebra, events: pa.Table, history: History
) -> Iterator[tuple[CompiledAggregation, Finished]]:
    """Every aggregation as of every question, those of one expression and window together."""
    columns = typed_columns(events, algebra.source, algebra.columns)
    for windows in _by_expression(algebra.slots):
        taken = windows[0][0].take(columns, events.num_rows)
        for slots in windows:
            window, hop = slots[0].window, slots[0].hop
            ttl = algebra.view.ttl if window is None else None
            series = Series(window, hop, taken, history, ttl)
            yield from ((slot, series.answer(slot)) for slot in slots)


def _by_expression(slots: Sequence[CompiledAggregation]) -> list[list[list[CompiledAggregation]]]:
    """The aggregations by what they take of which events, then by window."""
    found: dict[Aggregation, dict[int | None, list[CompiledAggregation]]] = {}
    for slot in slots:
        takes = replace(slot.spec, kind="", k=None, quantiles=(), window=None)
        found.setdefault(takes, {}).setdefault(slot.window, []).append(slot)
    return [list(windows.values()) for windows in found.values()]


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
