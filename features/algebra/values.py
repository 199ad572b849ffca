"""From packed cells to finished values: what a view is worth for one entity at one time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from features.algebra.compiled import CompiledAggregation
from features.algebra.kinds import Algebra, Partial
from features.algebra.slots import Group
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
    """Aggregations of a view (with their numbers) as of ``q`` (µs), one by one.

    They are merged from a tail and its heads; without any cell the entity was never seen:
    ``absent``. ``ttl`` is µs.
    """
    if not cells:
        return [Value(slot.algebra.finish(slot.algebra.empty()), "absent") for _, slot in slots]
    values = []
    for index, slot in slots:
        number, place = cells[0].slots.places[index]
        if slot.window is None:
            values += history(number, [place], cells, q, ttl)[0]
        else:
            values += windowed(number, [place], cells, q)
    return values


def windowed(number: int, places: Sequence[int], cells: Sequence[OpenCell], q: int) -> list[Value]:
    """Some of a group with a window, from one cell or more, as of ``q`` (µs)."""
    group = cells[0].slots.groups[number]
    algebras = group.algebras
    start = window_start(q, group.window or 0, group.hop or 1)
    merged: list[Partial] | None = None
    for cell in cells:
        found = cell.since(number, start)
        if found is not None:
            merged = found if merged is None else _both(algebras, merged, found)
    if merged is None:
        merged = [algebra.empty() for algebra in algebras]
    for cell in cells:
        if cell.waiting:
            merged = _with_waiting(group, merged, cell, start, q)
    return [_finished(algebras[place], merged[place]) for place in places]


def history(
    number: int, places: Sequence[int], cells: Sequence[OpenCell], q: int, ttl: int | None
) -> tuple[list[Value], int]:
    """Some of a group without a window as of ``q``, and the time from which they change (µs).

    That is if nothing waits in the cells: they then change by growing too old, and no other way.
    """
    group = cells[0].slots.groups[number]
    algebras = group.algebras
    merged, newest = None, (NEVER,) * len(algebras)
    for cell in cells:
        found = cell.whole(number)
        if found is not None:
            merged = found[0] if merged is None else _both(algebras, merged, found[0])
            newest = tuple(map(max, newest, found[1]))
    if merged is None:
        merged = [algebra.empty() for algebra in algebras]
    for cell in cells:
        if cell.waiting:
            merged = _with_waiting(group, merged, cell, NEVER, q)
            newest = _newest_waiting(group, newest, cell, q)
    return _unexpired(group, places, merged, newest, q, ttl)


def _unexpired(
    group: Group,
    places: Sequence[int],
    merged: list[Partial],
    newest: tuple[int, ...],
    q: int,
    ttl: int | None,
) -> tuple[list[Value], int]:
    values, until = [], FOREVER
    for place in places:
        time = newest[place]
        if ttl is not None and time != NEVER:
            if q - time > ttl:
                values.append(EXPIRED)
                continue
            until = min(until, time + ttl + 1)
        values.append(_finished(group.algebras[place], merged[place]))
    return values, until


def _both(
    algebras: Sequence[Algebra], one: Sequence[Partial], other: Sequence[Partial]
) -> list[Partial]:
    return [a.merge(x, y) for a, x, y in zip(algebras, one, other, strict=True)]


def _with_waiting(
    group: Group, partials: Sequence[Partial], cell: OpenCell, start: int, q: int
) -> list[Partial]:
    """With a cell's events from ``start`` on whose time has come at ``q`` (µs)."""
    merged = list(partials)
    for order, taken in cell.waiting:
        if start <= order[0] < q:
            for place, index in enumerate(group.members):
                if taken[index] is not None:
                    merged[place] = group.algebras[place].add(merged[place], taken[index], order)
    return merged


def _newest_waiting(
    group: Group, newest: tuple[int, ...], cell: OpenCell, q: int
) -> tuple[int, ...]:
    known = list(newest)
    for order, taken in cell.waiting:
        if order[0] < q:
            for place, index in enumerate(group.members):
                if taken[index] is not None:
                    known[place] = newest_of(known[place], taken[index], order)
    return tuple(known)


def _finished(algebra: Algebra, partial: Partial) -> Value:
    try:
        value = algebra.finish(partial)
    except ValueStateError:
        return Value(None, "error")
    if value or (value is not None and partial != algebra.empty()):
        return Value(value, "value")
    return Value(value, "empty")
