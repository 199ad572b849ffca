"""A service's features for a request: keys in, values with states and positions out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from features.algebra.compiled import CompiledAggregation
from features.algebra.state import NEVER, OpenCell
from features.algebra.values import Value, aggregate
from features.algebra.view import ViewAlgebra
from features.clock import Clock
from features.compile_row import RowFunction, compile_row
from features.derivation import read_features
from features.errors import DamagedData, Unavailable, ValueStateError
from features.keys import key_bytes
from features.online.cache import CellCache, Entry
from features.online.materialize import view_id
from features.online.served import NOWHERE, Position, Served
from features.online.store import Found, OnlineStore
from features.plan import RequestPlan, ServicePlan, ViewPlan

Row = Mapping[str, Any]
Values = dict[str, Value]
UNKNOWN = Value(None, "error")
NULL = Value(None, "absent")


class ViewReader:
    """One view of a plan, compiled for requests."""

    def __init__(self, plan: ViewPlan) -> None:
        algebra = ViewAlgebra(plan.view)
        self.role = plan.role
        self.id = view_id(plan.view)
        self.keys = plan.key_columns
        self.slots = algebra.slots
        self.features = plan.features
        self._wanted: list[tuple[int, CompiledAggregation]] = [
            (i, slot) for i, slot in enumerate(algebra.slots) if slot.name in plan.aggregations
        ]
        self._ttl = plan.view.ttl
        self._derived = [Derived(n, compile_row(e, plan.schema), e) for n, e in plan.derived]
        self._names = [*plan.aggregations, *(name for name, _ in plan.derived)]

    def key(self, row: Row) -> bytes | None:
        """The entity's key, or None if a part of it is null."""
        return key_bytes([row[name] for name in self.keys])

    def values(self, entry: Entry, q: int) -> Values:
        """What the entity is worth at ``q`` (µs)."""
        found = aggregate(self._wanted, entry.cells, q, self._ttl)
        values = {slot.name: v for (_, slot), v in zip(self._wanted, found, strict=True)}
        derive(self._derived, values, {f"@{name}": v.value for name, v in values.items()}, q)
        return values

    def all(self, value: Value) -> Values:
        """The same for every feature."""
        return dict.fromkeys(self._names, value)

    def opened(self, found: Found, now: int) -> Entry:
        """What the store found, ready to be read. Raises DamagedData."""
        version = found.version
        if version is None:
            return Entry((), NOWHERE, NEVER, NEVER, now, published=False)
        blobs = [found.tail, *found.heads]
        cells = tuple(OpenCell(self.slots, blob) for blob in blobs if blob is not None)
        heads = found.positions
        newest = max((h.newest for h in heads if h.newest is not None), default=NEVER)
        through = min((h.through for h in heads), default=version.cut)
        offsets = tuple(head.offset for head in heads)
        position = Position(version.number, version.cut, offsets)
        return Entry(cells, position, newest, max(through, version.cut), now)


class Derived:
    """A feature made of others; an error if one of those is."""

    __slots__ = ("compute", "name", "reads")

    def __init__(self, name: str, compute: RowFunction, expr: Any) -> None:
        self.name = name
        self.compute = compute
        self.reads = tuple(f"@{read}" for read in read_features(expr))


def derive(derived: Sequence[Derived], values: Values, row: dict[str, Any], q: int) -> None:
    """Adds derived features to ``values``, and under ``@name`` to ``row``, in their order."""
    for feature in derived:
        read = [values[name[1:]] for name in feature.reads if name[1:] in values]
        value = _derived(feature, read, row, q)
        values[feature.name] = value
        row[f"@{feature.name}"] = value.value


def _derived(feature: Derived, read: Sequence[Value], row: Row, q: int) -> Value:
    states = [value.state for value in read]
    if "error" in states:
        return UNKNOWN
    try:
        value = feature.compute(row, q)
    except ValueStateError:
        return UNKNOWN
    if value is not None:
        return Value(value, "value")
    return Value(None, next((s for s in ("expired", "empty", "absent") if s in states), "empty"))


class RequestReader:
    """A request view of a plan, compiled."""

    def __init__(self, plan: RequestPlan) -> None:
        self.name = plan.view.name
        self._fields = tuple(plan.view.request)
        self._abroad = tuple(name[1:] for name in plan.schema if ":" in name)
        self._derived = [Derived(n, compile_row(e, plan.schema), e) for n, e in plan.derived]

    def add(self, known: Values, row: Row, q: int) -> None:
        """Adds its features to what is known, by ``view:feature``."""
        env: dict[str, Any] = {name: row[name] for name in self._fields}
        values = {ref: known[ref] for ref in self._abroad}
        env |= {f"@{ref}": value.value for ref, value in values.items()}
        derive(self._derived, values, env, q)
        for feature in self._derived:
            known[f"{self.name}:{feature.name}"] = values[feature.name]


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
        self._views = [ViewReader(view) for view in plan.views]
        self._requests = [RequestReader(request) for request in plan.requests]
        self._outputs = [(o.view, o.ref, o.default) for o in plan.outputs]
        self._max_staleness = plan.max_staleness
        self._default_when_stale = plan.on_stale == "default"

    def read(self, rows: Sequence[Row], q: Sequence[int]) -> list[Served]:
        """One answer for each row as of its time (UTC µs), in order. Never raises for a store."""
        now = self._clock.now()
        moments = [time if self._is_replay else now for time in q]
        keys = [[view.key(row) for view in self._views] for row in rows]
        entries = self._entries(keys, moments, q)
        return [
            self._served(row, time, moment, of_row)
            for row, time, moment, of_row in zip(rows, q, moments, entries, strict=True)
        ]

    def _entries(
        self, keys: list[list[bytes | None]], moments: list[int], q: Sequence[int]
    ) -> list[list[Entry | None]]:
        """By row and view; None for a null key, and where the store does not answer."""
        found: list[list[Entry | None]] = [[None] * len(self._views) for _ in keys]
        missing: list[tuple[int, int, bytes]] = []
        for i, of_row in enumerate(keys):
            for j, key in enumerate(of_row):
                if key is not None:
                    found[i][j] = self._cache.fresh((self._views[j].id, key), moments[i], q[i])
                    if found[i][j] is None:
                        missing.append((i, j, key))
        if missing:
            self._fetch(missing, found, moments, q)
        return found

    def _fetch(
        self,
        missing: list[tuple[int, int, bytes]],
        found: list[list[Entry | None]],
        moments: list[int],
        q: Sequence[int],
    ) -> None:
        for at in {q[i] for i, _, _ in missing}:
            asked = [(i, j, key) for i, j, key in missing if q[i] == at]
            wanted = [(self._views[j].id, key) for _, j, key in asked]
            try:
                answers = self._store.read(wanted, at)
            except (Unavailable, DamagedData):
                for i, j, key in asked:
                    found[i][j] = self._young(self._cache.any((self._views[j].id, key)), at)
                continue
            for (i, j, key), answer in zip(asked, answers, strict=True):
                found[i][j] = self._opened(j, key, answer, moments[i])

    def _opened(self, j: int, key: bytes, answer: Found, moment: int) -> Entry | None:
        view = self._views[j]
        try:
            entry = view.opened(answer, moment)
        except DamagedData:
            return None
        if entry.published:
            self._cache.put((view.id, key), entry)
        return entry

    def _young(self, entry: Entry | None, q: int) -> Entry | None:
        """A cached entry that may still be served, as stale, while the store is silent."""
        if entry is None or self._max_staleness is None:
            return None
        return entry if q - entry.through <= self._max_staleness else None

    def _served(self, row: Row, q: int, moment: int, entries: Sequence[Entry | None]) -> Served:
        at = q if self._is_replay else self._not_before_heads(q, entries)
        known: Values = {}
        stale: set[str] = set()
        positions: dict[str, Position] = {}
        tiers: dict[str, tuple[str, int]] = {}
        for view, entry in zip(self._views, entries, strict=True):
            values = self._view_values(view, entry, row, at)
            known.update((f"{view.role}:{name}", value) for name, value in values.items())
            if entry is not None:
                positions[view.role] = entry.position
                age = moment - entry.fetched
                tiers[view.role] = ("L1" if age else "store", age)
                if self._is_stale(entry, at):
                    stale.add(view.role)
        for request in self._requests:
            request.add(known, row, at)
        values_, states, substitutes = self._put_out(known, stale)
        return Served(values_, states, substitutes, positions, at, tiers)

    def _view_values(self, view: ViewReader, entry: Entry | None, row: Row, at: int) -> Values:
        if entry is None:
            is_null = any(row[name] is None for name in view.keys)
            return view.all(NULL if is_null else UNKNOWN)
        if not entry.published or at < entry.position.cut or at <= entry.newest:
            return view.all(UNKNOWN)
        return view.values(entry, at)

    def _not_before_heads(self, q: int, entries: Sequence[Entry | None]) -> int:
        """By the wall clock, "now" is never before what a head has already seen."""
        newest = max((entry.newest for entry in entries if entry is not None), default=NEVER)
        return max(q, newest + 1)

    def _is_stale(self, entry: Entry, at: int) -> bool:
        if self._max_staleness is None or not entry.published:
            return False
        return at - entry.through > self._max_staleness

    def _put_out(self, known: Values, stale: set[str]) -> tuple[list[Any], list[str], list[str]]:
        values, states, substitutes = [], [], []
        for role, ref, default in self._outputs:
            value, state = known[ref]
            substitute = "none"
            if state == "error":
                if default is not None:
                    value, substitute = default, "default"
            elif role in stale:
                value, state, substitute = self._when_stale(value, state, default)
            values.append(value)
            states.append(state)
            substitutes.append(substitute)
        return values, states, substitutes

    def _when_stale(self, value: Any, state: str, default: Any) -> tuple[Any, str, str]:
        if not self._default_when_stale:
            return None, "error", "none"
        if default is not None:
            return default, state, "default"
        return value, state, "stale"
