"""Is what was served what offline makes of it? Values recomputed at their positions, and at q.

At its *position* a value is decided: the same events, so every difference is a bug. As of the
request's time it may differ by what had not arrived yet: that difference is freshness.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from features.algebra.view import counting, id_codes, late, micros, well_formed
from features.batch.join import assemble, join_in_memory, key_table, stored_table
from features.batch.kernel import AsOf, features_known_from
from features.batch.queries import Ints, Mask, entity_codes, numbers_of
from features.offline.lake import OFFSET, PARTITION
from features.online.served import NOWHERE, Position
from features.plan import ServicePlan, ViewPlan

AT = "__at"
_BEFORE = -(1 << 62)
_NEVER = 1 << 62


@dataclass(frozen=True, slots=True)
class Logged:
    """Rows that were served: keys, request fields and ``AT`` as a spine, values by output column.

    ``positions`` are by role, one for each row; ``checked`` tells by output column which values
    were computed, not substituted or in error.
    """

    spine: pa.Table
    values: Mapping[str, pa.Array]
    positions: Mapping[str, Sequence[Position]]
    checked: Mapping[str, Mask]


@dataclass(frozen=True, slots=True)
class Comparison:
    """One output column, served against recomputed, over the rows that were checked."""

    column: str
    rows: int
    both_null: int
    served_null: int
    recomputed_null: int
    different: int
    smape: float

    @property
    def mismatches(self) -> int:
        """How many values are not equal."""
        return self.served_null + self.recomputed_null + self.different


@dataclass(frozen=True, slots=True)
class ConsistencyReport:
    """Both comparisons, and how far positions lay behind the requests.

    ``gaps`` are µs, one for each row and role: from the first event that was available before the
    request but not in its position, to the request; 0 if there is none.
    """

    rows: int
    at_position: tuple[Comparison, ...]
    at_time: tuple[Comparison, ...]
    gaps: Ints = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    @property
    def values(self) -> int:
        """How many values were compared at their positions."""
        return sum(c.rows for c in self.at_position)

    @property
    def mismatches(self) -> int:
        """Differences at the position: each is a bug."""
        return sum(c.mismatches for c in self.at_position)

    @property
    def differences(self) -> int:
        """Differences as of the request's time: freshness."""
        return sum(c.mismatches for c in self.at_time)


def check_consistency(
    plan: ServicePlan, sources: Mapping[str, pa.Table], logged: Logged
) -> ConsistencyReport:
    """Compares served rows with both recomputations.

    ``sources`` are whole tables by the source's name, with the hidden position columns; every event
    that a position names must be in them.
    """
    stored, gaps = {}, []
    for view in plan.views:
        events = sources[view.view.source.name]
        positions = logged.positions[view.role]
        found = at_positions(view, events, logged.spine, positions)
        stored[view.role] = stored_table(plan, view, found)
        gaps.append(gaps_of(view, events, logged.spine, positions))
    then = assemble(plan, logged.spine, AT, stored)
    visible = {name: t.drop_columns([PARTITION, OFFSET]) for name, t in sources.items()}
    asked = join_in_memory(plan, visible, logged.spine, AT)
    return ConsistencyReport(
        logged.spine.num_rows,
        tuple(compare(o.column, logged, then.column(o.column)) for o in plan.outputs),
        tuple(compare(o.column, logged, asked.column(o.column)) for o in plan.outputs),
        np.concatenate(gaps) if gaps else np.zeros(0, dtype=np.int64),
    )


def at_positions(
    view: ViewPlan,
    events: pa.Table,
    spine: pa.Table,
    positions: Sequence[Position],
) -> AsOf:
    """A view's features for every row, of exactly the events that its position names."""
    keys = key_table(view, spine, AT, 0)
    events = _counting_at_all(events, view)
    answers: dict[str, list[pa.Array]] = {name: [] for name in view.features}
    errors: dict[str, list[Mask]] = {name: [] for name in view.features}
    order: list[Ints] = []
    for cut, rows in _by_cut(positions):
        chosen = _events_of_cut(events, view, cut)
        for part in _rounds(keys, view, rows, positions):
            known = _known_from(chosen, view, keys, part, positions, cut)
            seen = np.flatnonzero(known < _NEVER)
            asked = keys.take(pa.array(part))
            found = features_known_from(view, chosen.take(pa.array(seen)), known[seen], asked)
            order.append(part)
            for name, column in found.columns.items():
                answers[name].append(column)
                errors[name].append(found.errors.get(name, np.zeros(len(part), dtype=bool)))
    return _in_order(answers, errors, order)


def compare(column: str, logged: Logged, recomputed: pa.ChunkedArray) -> Comparison:
    """One output column; floats are equal to the last bit, NaN equals NaN."""
    chosen = pa.array(logged.checked[column])
    served = logged.values[column].filter(chosen)
    other = recomputed.combine_chunks().cast(served.type).filter(chosen)
    left, right = _null(served), _null(other)
    both = ~left & ~right
    different = both & ~_equal(served, other)
    return Comparison(
        column,
        len(served),
        int((left & right).sum()),
        int((left & ~right).sum()),
        int((~left & right).sum()),
        int(different.sum()),
        _smape(served, other, both),
    )


def gaps_of(
    view: ViewPlan, events: pa.Table, spine: pa.Table, positions: Sequence[Position]
) -> Ints:
    """How long before each request the first event became available that its position lacks, µs."""
    at = micros(spine.column(AT))
    gaps = np.zeros(len(positions), dtype=np.int64)
    partitions = max((len(p.offsets) for p in positions), default=0)
    cuts = np.array([p.cut for p in positions], dtype=np.int64)
    for partition in range(partitions):
        offsets, available = _of_partition(events, view, partition)
        held = np.array([_offset(p, partition) for p in positions], dtype=np.int64)
        # What was available before the cut is in the tail; times do not fall along the log.
        place = np.maximum(np.searchsorted(offsets, held), np.searchsorted(available, cuts))
        known = np.append(available, _NEVER)[place]
        gaps = np.maximum(gaps, at - known)
    return gaps


def _counting_at_all(events: pa.Table, view: ViewPlan) -> pa.Table:
    source = view.view.source
    events = events.filter(well_formed(events, source))
    return events.filter(pa.array(~late(events, source)))


def _by_cut(positions: Sequence[Position]) -> list[tuple[int, Ints]]:
    cuts = np.array([p.cut for p in positions], dtype=np.int64)
    return [(int(cut), np.flatnonzero(cuts == cut)) for cut in np.unique(cuts)]


def _events_of_cut(events: pa.Table, view: ViewPlan, cut: int) -> pa.Table:
    """The tail's events, each id once, and the head's, without ids that the tail has."""
    source = view.view.source
    known = micros(events.column(source.available_at))
    tail = counting(events.filter(pa.array(known < cut)), source)
    streamed = events.column(OFFSET).is_valid().to_numpy()
    head = events.filter(pa.array((known >= cut) & streamed))
    if source.event_id is not None:
        ids = tail.column(source.event_id).combine_chunks().drop_null()
        head = head.filter(pc.invert(pc.is_in(head.column(source.event_id), value_set=ids)))
        head = _first_of_each_id(head, source.event_id)
    return pa.concat_tables([tail, head])


def _first_of_each_id(head: pa.Table, event_id: str) -> pa.Table:
    """A stream takes in the first of equal ids, whatever times the others have."""
    codes = id_codes(head.column(event_id))
    places = [numbers_of(head.column(name).combine_chunks()) for name in (OFFSET, PARTITION)]
    order = np.lexsort((*places, codes))
    is_first = np.ones(len(order), dtype=bool)
    is_first[1:] = (np.diff(codes[order]) != 0) | (codes[order][1:] < 0)
    return head.take(pa.array(np.sort(order[is_first])))


def _rounds(
    keys: pa.Table, view: ViewPlan, rows: Ints, positions: Sequence[Position]
) -> list[Ints]:
    """The rows in groups in which, for every entity, a later row's position is not an earlier one.

    Only caches and several replicas make more than one.
    """
    chains: dict[tuple[Any, ...], list[tuple[int, tuple[int, ...], int]]] = {}
    at = numbers_of(keys.column("__as_of").combine_chunks())
    names = zip(*(keys.column(name).to_pylist() for name in view.key_columns), strict=True)
    found: dict[int, list[int]] = {}
    entities = list(names)
    for row in sorted(rows.tolist(), key=lambda r: (at[r], positions[r].offsets)):
        held = chains.setdefault(entities[row], [])
        found.setdefault(_chain(held, int(at[row]), positions[row].offsets), []).append(row)
    return [np.array(part, dtype=np.int64) for _, part in sorted(found.items())]


def _chain(held: list[tuple[int, tuple[int, ...], int]], at: int, offsets: tuple[int, ...]) -> int:
    """The first chain whose last row this one may follow; begins one if there is none."""
    for number, (last, before, _) in enumerate(held):
        later = at > last and all(o >= b for o, b in zip(offsets, before, strict=True))
        if later or (at == last and offsets == before):
            held[number] = (at, offsets, number)
            return number
    held.append((at, offsets, len(held)))
    return len(held) - 1


def _known_from(
    events: pa.Table,
    view: ViewPlan,
    keys: pa.Table,
    rows: Ints,
    positions: Sequence[Position],
    cut: int,
) -> Ints:
    """After which time each event is known to the rows: a tail's always, a head's by offset."""
    asked = [keys.column(name).combine_chunks().take(pa.array(rows)) for name in view.key_columns]
    own = [events.column(name).combine_chunks() for name in view.view.entity.keys]
    of_rows, of_events = entity_codes(asked, own)
    at = numbers_of(keys.column("__as_of").combine_chunks())[rows]
    order = np.lexsort((at, of_rows))
    known = np.full(events.num_rows, _BEFORE, dtype=np.int64)
    head = micros(events.column(view.view.source.available_at)) >= cut
    known[head] = _NEVER
    partition = numbers_of(events.column(PARTITION).combine_chunks())
    offset = numbers_of(events.column(OFFSET).combine_chunks())
    for number in np.unique(partition[head]):
        mine = head & (partition == number)
        held = np.array([_offset(positions[r], int(number)) for r in rows[order]], dtype=np.int64)
        known[mine] = _first_seen(of_rows[order], held, at[order], of_events[mine], offset[mine])
    return known


def _first_seen(codes: Ints, held: Ints, at: Ints, of_events: Ints, offset: Ints) -> Ints:
    """Just before the time of the entity's first row whose position has the event."""
    stride = int(max(held.max(initial=0), offset.max(initial=0))) + 2
    place = np.searchsorted(codes * stride + held, of_events * stride + offset, "right")
    safe = np.minimum(place, len(codes) - 1)
    seen = (place < len(codes)) & (codes[safe] == of_events) & (of_events >= 0)
    return np.where(seen, at[safe] - 1, _NEVER)


def _offset(position: Position, partition: int) -> int:
    return position.offsets[partition] if partition < len(position.offsets) else 0


def _of_partition(events: pa.Table, view: ViewPlan, partition: int) -> tuple[Ints, Ints]:
    mine = pc.fill_null(pc.equal(events.column(PARTITION), partition), False)
    events = events.filter(mine)
    offsets = numbers_of(events.column(OFFSET).combine_chunks())
    available = micros(events.column(view.view.source.available_at))
    order = np.argsort(offsets)
    return offsets[order], available[order]


def _in_order(
    answers: Mapping[str, list[pa.Array]], errors: Mapping[str, list[Mask]], order: list[Ints]
) -> AsOf:
    place = pa.array(np.argsort(np.concatenate(order)))
    columns = {n: pa.chunked_array(a).combine_chunks().take(place) for n, a in answers.items()}
    masks = {n: np.concatenate(m)[place.to_numpy()] for n, m in errors.items()}
    return AsOf(columns, {name: mask for name, mask in masks.items() if mask.any()})


def _null(column: pa.Array) -> Mask:
    return np.asarray(column.is_null().to_numpy(zero_copy_only=False))


def _equal(a: pa.Array, b: pa.Array) -> Mask:
    if pa.types.is_nested(a.type):
        pairs = zip(a.to_pylist(), b.to_pylist(), strict=True)
        return np.array([repr(x) == repr(y) for x, y in pairs], dtype=bool)
    equal = pc.fill_null(pc.equal(a, b), False)
    if pa.types.is_floating(a.type):
        both_nan = pc.and_(pc.fill_null(pc.is_nan(a), False), pc.fill_null(pc.is_nan(b), False))
        equal = pc.or_(equal, both_nan)
    return np.asarray(equal.to_numpy(zero_copy_only=False))


def _smape(a: pa.Array, b: pa.Array, both: Mask) -> float:
    """Symmetric mean absolute percentage error, 0 to 2; 0 for what is not a number."""
    if not (pa.types.is_floating(a.type) or pa.types.is_integer(a.type)) or not both.any():
        return 0.0
    x, y = (pc.cast(c.filter(pa.array(both)), pa.float64(), safe=False).to_numpy() for c in (a, b))
    size = np.abs(x) + np.abs(y)
    terms = np.divide(2 * np.abs(x - y), size, out=np.zeros(len(x)), where=size > 0)
    return float(np.nanmean(terms)) if len(terms) else 0.0


__all__ = ["AT", "NOWHERE", "Comparison", "ConsistencyReport", "Logged", "check_consistency"]
