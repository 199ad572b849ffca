"""From packed cells to finished values: what a view is worth for one entity at one time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from features.algebra.compiled import CompiledAggregation
from features.algebra.kinds import Partial
from features.algebra.state import NEVER, OpenCell, newest_of
from features.errors import ValueStateError
from features.windows import window_start

FOREVER = 1 << 63


class Value(NamedTuple):
    """A finished value with its state: ``value empty absent expired error``."""

    value: Any
    state: str


EXPIRED = Value(None, "expired")


def aggregate(
    slots: Sequence[tuple[int, CompiledAggregation]],
    cells: Sequence[OpenCell],
    q: int,
    ttl: int | None,
) -> list[Value]:
    """Aggregations of a view (with their numbers in its cells) as of ``q`` (µs).

    They are merged from a tail and its heads; without any cell the entity was never seen:
    ``absent``. ``ttl`` is µs.
    """
    return [_value(slot, index, cells, q, ttl) for index, slot in slots]


def history(
    slots: Sequence[tuple[int, CompiledAggregation]],
    cells: Sequence[OpenCell],
    q: int,
    ttl: int | None,
) -> tuple[list[Value], int]:
    """Aggregations without a window as of ``q``, and the time from which on they change (µs).

    That is if nothing waits in the cells: they then change by growing too old, and no other way.
    """
    values, until = [], FOREVER
    for index, slot in slots:
        partial, newest = _whole(slot, index, cells, q)
        if ttl is None or newest == NEVER:
            values.append(_finished(slot, partial))
        elif q - newest > ttl:
            values.append(EXPIRED)
        else:
            values.append(_finished(slot, partial))
            until = min(until, newest + ttl + 1)
    return values, until


def _value(
    slot: CompiledAggregation, index: int, cells: Sequence[OpenCell], q: int, ttl: int | None
) -> Value:
    if not cells:
        return Value(_nothing(slot), "absent")
    if slot.window is None or slot.hop is None:
        ((value,), _) = history([(index, slot)], cells, q, ttl)
        return value
    return _finished(slot, _windowed(slot, index, cells, window_start(q, slot.window, slot.hop), q))


def _whole(
    slot: CompiledAggregation, index: int, cells: Sequence[OpenCell], q: int
) -> tuple[Partial, int]:
    merged, newest = slot.algebra.empty(), NEVER
    for cell in cells:
        found = cell.whole(index)
        if found is not None:
            merged, newest = slot.algebra.merge(merged, found[0]), max(newest, found[1])
        for order, values in cell.waiting:
            if order[0] < q and values[index] is not None:
                merged = slot.algebra.add(merged, values[index], order)
                newest = newest_of(newest, values[index], order)
    return merged, newest


def _windowed(
    slot: CompiledAggregation, index: int, cells: Sequence[OpenCell], start: int, q: int
) -> Partial:
    merged: Partial | None = None
    for cell in cells:
        found = cell.since(index, start)
        if found is not None:
            merged = found if merged is None else slot.algebra.merge(merged, found)
        for order, values in cell.waiting:
            if start <= order[0] < q and values[index] is not None:
                held = slot.algebra.empty() if merged is None else merged
                merged = slot.algebra.add(held, values[index], order)
    return slot.algebra.empty() if merged is None else merged


def _finished(slot: CompiledAggregation, partial: Partial) -> Value:
    try:
        value = slot.algebra.finish(partial)
    except ValueStateError:
        return Value(None, "error")
    if value is None or partial == slot.algebra.empty():
        return Value(value, "empty")
    return Value(value, "value")


def _nothing(slot: CompiledAggregation) -> Any:
    return slot.algebra.finish(slot.algebra.empty())
