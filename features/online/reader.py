"""A service's features for a request: keys in, values with states and positions out."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from features.algebra.state import NEVER
from features.algebra.values import Value
from features.clock import Clock
from features.derivation import read_features
from features.errors import DamagedData, Unavailable
from features.online.cache import CellCache, Entry
from features.online.served import Position, Served
from features.online.store import Found, OnlineStore
from features.online.views import RequestReader, Row, ViewReader
from features.plan import ServicePlan

Entries = list[Entry | None]
How = dict[tuple[int, int], str]
"""By row and view how an entry was come by, if it was not fresh in the cache."""
FETCHED, OVERDUE = "store", "L1, past its life"


class FeatureReader:
    """Reads a service for many rows at once.

    Cells are cached for ``cache_us`` by the clock, or by the question's time where the service runs
    on ``clock: replay``. A store that does not answer is never taken for "no events": what is
    cached and young enough for the service's ``max_staleness`` is served as ``stale``, else the
    value is an ``error``, replaced by its default if the service has one.
    """

    def __init__(
        self, plan: ServicePlan, store: OnlineStore, *, cache_us: int, clock: Clock
    ) -> None:
        self._store = store
        self._clock = clock
        self._is_replay = plan.clock == "replay"
        self._cache = CellCache(cache_us)
        self._max_staleness = plan.max_staleness
        self._views = [ViewReader(view) for view in plan.views]
        places: dict[str, int] = {}
        for view in self._views:
            for name in view.names:
                places[f"{view.role}:{name}"] = len(places)
        self._requests = [RequestReader(request, places) for request in plan.requests]
        self._pick = _picker([places[output.ref] for output in plan.outputs])
        self._substitution = Substitution(plan)
        self._own = ["none"] * len(plan.outputs)

    def read(self, rows: Sequence[Row], q: Sequence[int]) -> list[Served]:
        """One answer for each row as of its time (UTC µs), in order. Never raises for a store."""
        now = self._clock.now()
        moments = q if self._is_replay else [now] * len(q)
        found, how = self._entries(rows, moments, q)
        return [
            self._served(i, row, q[i], moments[i], entries, how)
            for i, (row, entries) in enumerate(zip(rows, found, strict=True))
        ]

    def _entries(
        self, rows: Sequence[Row], moments: Sequence[int], q: Sequence[int]
    ) -> tuple[list[Entries], How]:
        """By row and view; None for a null key, and where the store does not answer."""
        fresh = self._cache.fresh
        found: list[Entries] = []
        missing: dict[int, list[tuple[int, int, bytes]]] = {}
        for i, (row, moment, at) in enumerate(zip(rows, moments, q, strict=True)):
            of_row: Entries = []
            for j, view in enumerate(self._views):
                key = view.key(row)
                entry = None if key is None else fresh((j, key), moment, at)
                of_row.append(entry)
                if entry is None and key is not None:
                    missing.setdefault(at, []).append((i, j, key))
            found.append(of_row)
        how: How = {}
        for at, asked in missing.items():
            self._fetch(asked, at, moments, found, how)
        return found, how

    def _fetch(
        self,
        asked: list[tuple[int, int, bytes]],
        at: int,
        moments: Sequence[int],
        found: list[Entries],
        how: How,
    ) -> None:
        wanted = {(self._views[j].id, key): None for _, j, key in asked}
        try:
            self._see_versions({j for _, j, _ in asked})
            answers = self._answers(list(wanted), at)
        except Unavailable:
            for i, j, key in asked:
                found[i][j] = self._overdue((j, key), at)
                how[i, j] = OVERDUE
            return
        opened: dict[tuple[int, bytes], Entry | None] = {}
        for i, j, key in asked:
            if (j, key) not in opened:
                answer = answers[self._views[j].id, key]
                opened[j, key] = self._opened(j, key, answer, moments[i])
            found[i][j] = opened[j, key]
            how[i, j] = FETCHED

    def _see_versions(self, views: Iterable[int]) -> None:
        """A replayed question may be answered by the version before, which is not the current."""
        if self._cache.is_used and self._is_replay:
            for j in views:
                for version in self._store.versions(self._views[j].id)[:1]:
                    self._cache.see(j, version)

    def _answers(
        self, wanted: list[tuple[str, bytes]], at: int
    ) -> Mapping[tuple[str, bytes], Found | None]:
        """What the store found; None for a damaged cell, which stops no other."""
        try:
            return dict(zip(wanted, self._store.read(wanted, at), strict=True))
        except DamagedData:
            return {one: self._undamaged(one, at) for one in wanted}

    def _undamaged(self, wanted: tuple[str, bytes], at: int) -> Found | None:
        try:
            (answer,) = self._store.read([wanted], at)
        except DamagedData:
            return None
        return answer

    def _opened(self, j: int, key: bytes, answer: Found | None, moment: int) -> Entry | None:
        if answer is None:
            return None
        try:
            entry = self._views[j].opened(answer, moment)
        except DamagedData:
            return None
        if answer.version is not None:
            if not self._is_replay:
                self._cache.see(j, answer.version)
            self._cache.put((j, key), entry)
        return entry

    def _overdue(self, key: tuple[int, bytes], q: int) -> Entry | None:
        """A cached entry that may still be served, as stale, while the store is silent."""
        entry = self._cache.any(key)
        if entry is None or self._max_staleness is None:
            return None
        return entry if q - entry.through <= self._max_staleness else None

    def _served(self, i: int, row: Row, q: int, moment: int, entries: Entries, how: How) -> Served:
        at = q if self._is_replay else self._not_before_heads(q, entries)
        values: list[Value] = []
        positions: dict[str, Position] = {}
        tiers: dict[str, tuple[str, int]] = {}
        overdue = late = 0
        for j, (view, entry) in enumerate(zip(self._views, entries, strict=True)):
            if entry is None:
                is_null = any(row[name] is None for name in view.keys)
                values += view.null if is_null else view.unknown
                continue
            values += self._view_values(view, entry, at)
            positions[view.role] = entry.position
            known = how.get((i, j)) if how else None
            tiers[view.role] = ("store" if known is FETCHED else "L1", moment - entry.fetched)
            overdue |= (known is OVERDUE) << j
            late |= self._is_late(entry, at) << j
        for request in self._requests:
            request.add(values, row, at)
        answer, states = map(list, zip(*self._pick(values), strict=True))
        if overdue or late or "error" in states:
            substitutes = self._substitution.replace(answer, states, overdue, late)
        else:
            substitutes = self._own.copy()
        return Served(answer, states, substitutes, positions, at, tiers)

    def _view_values(self, view: ViewReader, entry: Entry, at: int) -> Sequence[Value]:
        if at <= entry.floor or not entry.is_published:
            return view.unknown
        try:
            return view.values(entry, at)
        except DamagedData:
            return view.unknown

    def _not_before_heads(self, q: int, entries: Entries) -> int:
        """By the wall clock, "now" is never before what a head has already seen."""
        newest = max([entry.newest for entry in entries if entry is not None], default=NEVER)
        return max(q, newest + 1)

    def _is_late(self, entry: Entry, at: int) -> bool:
        """Whether what the store itself has is staler than the service allows."""
        if self._max_staleness is None or not entry.is_published:
            return False
        return at - entry.through > self._max_staleness


def _picker(places: Sequence[int]) -> Callable[[Sequence[Value]], Sequence[Value]]:
    """Takes the values at these places (at least one), in their order."""
    if len(places) > 1:
        return operator.itemgetter(*places)
    (only,) = places
    return lambda values: [values[only]]


class Substitution:
    """What stands in the place of values that are errors, or staler than the service allows.

    A default replaces those, but never ``empty``, ``absent`` or ``expired``: the model has seen
    these in training as they are.
    """

    def __init__(self, plan: ServicePlan) -> None:
        self._default_when_stale = plan.on_stale == "default"
        sources = _sources(plan)
        self._outputs = [(output.default, sources[output.ref]) for output in plan.outputs]

    def replace(self, values: list[Any], states: list[str], overdue: int, late: int) -> list[str]:
        """Replaces in place, returns the substitutes; ``overdue`` and ``late`` are views as bits.

        Overdue: from the cache past its life, for the store is silent. Late: staler than allowed.
        """
        substitutes = []
        for number, (default, views) in enumerate(self._outputs):
            substitute = "none"
            if views & late and states[number] != "error":
                substitute = self._late(number, values, states, default)
            elif views & overdue and states[number] != "error":
                substitute = "stale"
            elif states[number] == "error" and default is not None:
                values[number], substitute = default, "default"
            substitutes.append(substitute)
        return substitutes

    def _late(self, number: int, values: list[Any], states: list[str], default: Any) -> str:
        if not self._default_when_stale:
            values[number], states[number] = None, "error"
            return "none"
        if default is None or states[number] != "value":
            return "stale"
        values[number] = default
        return "default"


def _sources(plan: ServicePlan) -> dict[str, int]:
    """By ``role:feature`` the set of views that it is made of, as bits."""
    found = {f"{v.role}:{n}": 1 << j for j, v in enumerate(plan.views) for n in v.dtypes}
    for request in plan.requests:
        name = request.view.name
        for feature, expr in request.derived:
            reads = [read if ":" in read else f"{name}:{read}" for read in read_features(expr)]
            sources = 0
            for read in reads:
                sources |= found[read]
            found[f"{name}:{feature}"] = sources
    return found
