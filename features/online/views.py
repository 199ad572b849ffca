"""The views of a plan, compiled for requests: from an entity's cells to values with their states.

What is finished once holds as long as no window has moved on by a hop, so it is kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

from features.algebra.compiled import CompiledAggregation
from features.algebra.state import NEVER, OpenCell
from features.algebra.values import Value, aggregate, history
from features.algebra.view import ViewAlgebra
from features.compile_row import compile_row
from features.derivation import read_features
from features.dtypes import DType
from features.errors import ValueStateError
from features.expressions import Expr, uses_query_time
from features.keys import key_bytes
from features.online.cache import Entry, Memo
from features.online.materialize import view_id
from features.online.served import NOWHERE, Position
from features.online.store import Found
from features.plan import RequestPlan, ViewPlan

Row = Mapping[str, Any]
Slots = list[tuple[int, CompiledAggregation]]
UNKNOWN = Value(None, "error")
NULL = Value(None, "absent")
_NOTHING: Row = {}


class ViewReader:
    """One view of a plan; ``names`` are its features in the order of its values."""

    def __init__(self, plan: ViewPlan) -> None:
        algebra = ViewAlgebra(plan.view)
        self.role = plan.role
        self.id = view_id(plan.view)
        self.keys = plan.key_columns
        self._slots = algebra.slots
        self._ttl = plan.view.ttl
        wanted = [(i, slot) for i, slot in enumerate(self._slots) if slot.name in plan.aggregations]
        self._whole = [(i, slot) for i, slot in wanted if slot.window is None]
        self._windows = _by_window(wanted)
        self._ordered = [*(pair for _, _, slots in self._windows for pair in slots), *self._whole]
        self._take_derived([slot.name for _, slot in self._ordered], plan)
        self.unknown = [UNKNOWN] * len(self.names)
        self.null = [NULL] * len(self.names)
        self._absent = self._with_steady(aggregate(self._ordered, (), 0, None))

    def _take_derived(self, names: list[str], plan: ViewPlan) -> None:
        moving = _moving(plan.derived)
        places = {name: place for place, name in enumerate(names)}
        self._steady: list[Derived] = []
        self._moving: list[Derived] = []
        for are_moving, chosen in ((False, self._steady), (True, self._moving)):
            for name, expr in plan.derived:
                if (name in moving) == are_moving:
                    chosen.append(Derived(name, expr, plan.schema, places))
                    places[name] = len(places)
        self.names = list(places)

    def key(self, row: Row) -> bytes | None:
        """The entity's key, or None if a part of it is null."""
        return key_bytes([row[name] for name in self.keys])

    def opened(self, found: Found, now: int) -> Entry:
        """What the store found, ready to be read. Raises DamagedData."""
        version = found.version
        if version is None:
            return Entry((), NOWHERE, NEVER, NEVER, now)
        blobs = [found.tail, *found.heads]
        cells = tuple([OpenCell(self._slots, blob) for blob in blobs if blob is not None])
        heads = found.positions
        newest = max([h.newest for h in heads if h.newest is not None], default=NEVER)
        through = min([h.through for h in heads], default=version.cut)
        position = Position(version.number, version.cut, tuple([head.offset for head in heads]))
        return Entry(cells, position, newest, max(through, version.cut), now)

    def values(self, entry: Entry, q: int) -> Sequence[Value]:
        """What the entity is worth at ``q`` (µs). Raises DamagedData."""
        steady = self._absent if not entry.cells else self._steady_values(entry, q)
        if not self._moving:
            return steady
        values = list(steady)
        for feature in self._moving:
            values.append(feature.value(values, _NOTHING, q))
        return values

    def _steady_values(self, entry: Entry, q: int) -> list[Value]:
        memo = entry.memo
        starts = [(q - window) // hop for window, hop, _ in self._windows]
        if memo is not None and memo.starts == starts and memo.since <= q < memo.until:
            return memo.values
        if memo is None and any(cell.waiting for cell in entry.cells):
            return self._with_steady(self._of_waiting(entry.cells, q))
        # Never changed, only replaced: several threads may read one entry.
        entry.memo = memo = self._finished(memo, entry.cells, starts, q)
        return memo.values

    def _finished(
        self, known: Memo | None, cells: tuple[OpenCell, ...], starts: list[int], q: int
    ) -> Memo:
        """What holds at ``q``: of what is known that which still does, and the rest anew."""
        parts = [
            known.parts[number]
            if known is not None and known.starts[number] == start
            else aggregate(slots, cells, q, None)
            for number, (start, (_, _, slots)) in enumerate(zip(starts, self._windows, strict=True))
        ]
        if known is not None and known.since <= q < known.until:
            since, until = known.since, known.until
            parts.append(known.parts[-1])
        else:
            whole, until = history(self._whole, cells, q, self._ttl)
            since = q
            parts.append(whole)
        values = self._with_steady(list(chain.from_iterable(parts)))
        return Memo(starts, parts, since, until, values)

    def _of_waiting(self, cells: tuple[OpenCell, ...], q: int) -> list[Value]:
        return aggregate(self._ordered, cells, q, self._ttl)

    def _with_steady(self, values: list[Value]) -> list[Value]:
        for feature in self._steady:
            values.append(feature.value(values, _NOTHING, 0))
        return values


class Derived:
    """A feature made of others, which stand at ``places`` among the values."""

    __slots__ = ("_compute", "_reads", "name")

    def __init__(
        self, name: str, expr: Expr, schema: Mapping[str, DType], places: Mapping[str, int]
    ) -> None:
        self.name = name
        self._compute = compile_row(expr, schema)
        self._reads = [(f"@{read}", places[read]) for read in read_features(expr)]

    def value(self, values: Sequence[Value], row: Row, q: int) -> Value:
        """Its value over a row of request fields at ``q``; an error if one that it reads is."""
        if self._reads:
            row = dict(row)
            for name, place in self._reads:
                row[name], state = values[place]
                if state == "error":
                    return UNKNOWN
        try:
            found = self._compute(row, q)
        except ValueStateError:
            return UNKNOWN
        return Value(found, "value") if found is not None else self._null(values)

    def _null(self, values: Sequence[Value]) -> Value:
        states = {values[place].state for _, place in self._reads}
        return Value(
            None, next((s for s in ("expired", "empty", "absent") if s in states), "empty")
        )


class RequestReader:
    """A request view of a plan, its values behind those at ``places`` (by ``role:feature``)."""

    def __init__(self, plan: RequestPlan, places: dict[str, int]) -> None:
        self._derived: list[Derived] = []
        local = dict(places)
        for name, expr in plan.derived:
            self._derived.append(Derived(name, expr, plan.schema, local))
            local[name] = places[f"{plan.view.name}:{name}"] = len(places)

    def add(self, values: list[Value], row: Row, q: int) -> None:
        """Adds its features to the values of a row."""
        for feature in self._derived:
            values.append(feature.value(values, row, q))


def _by_window(wanted: Slots) -> list[tuple[int, int, Slots]]:
    """Windows with their hop (µs), and the aggregations over each: these change together."""
    found: dict[tuple[int, int], Slots] = {}
    for index, slot in wanted:
        if slot.window is not None and slot.hop is not None:
            found.setdefault((slot.window, slot.hop), []).append((index, slot))
    return [(window, hop, slots) for (window, hop), slots in found.items()]


def _moving(derived: Sequence[tuple[str, Expr]]) -> set[str]:
    """The derived features that are another value at every time."""
    found: set[str] = set()
    for name, expr in derived:
        if uses_query_time(expr) or not found.isdisjoint(read_features(expr)):
            found.add(name)
    return found
