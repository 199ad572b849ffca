"""Batch to online: what was available before a cut, as a new version, there as a whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pyarrow as pa

from features.algebra.state import EntityState
from features.algebra.view import ViewAlgebra, counting
from features.definitions import FeatureView
from features.errors import BadInput
from features.offline.join import scan_as_of
from features.offline.lake import Condition, Lake
from features.online.store import Cell, OnlineStore, Version

Progress = Callable[[str, int, int], None]
StartHead = Callable[[Version], None]
KEPT = 2
"""How many versions of a view stay: the current one, and the one before for a rollback."""


@dataclass(frozen=True, slots=True)
class Materialized:
    """A version that was brought online, and how many entities it has."""

    version: Version
    keys: int


def view_id(view: FeatureView) -> str:
    """What the online store calls a view: another meaning is another view."""
    return f"{view.name}@{view.fingerprint}"


def materialize(
    view: FeatureView,
    lake: Lake,
    store: OnlineStore,
    cut: int,
    *,
    now: int,
    start_heads: StartHead | None = None,
    progress: Progress | None = None,
) -> Materialized:
    """Writes the tail of everything available before ``cut`` (UTC µs) and flips to it.

    ``start_heads`` is called between the two and returns when the stream's events since the cut are
    in the version's heads. Raises BadInput for a cut that has not come yet, NotFound for a table
    that is not there.
    """
    if cut > now:
        raise BadInput(
            f"view {view.name!r}: what will be known at the cut is not known yet",
            "Choose a time that has passed.",
        )
    source = view.source
    snapshot = lake.describe(source.table).snapshot or 0
    number = max((v.number for v in store.versions(view_id(view))), default=0) + 1
    partitions = 0 if source.stream is None else source.partitions
    version = Version(view_id(view), number, cut, partitions, snapshot)
    events = events_before(view, lake, snapshot, cut)
    keys = store.write_tail(version, tail_cells(view, events, cut, progress))
    if start_heads is not None and partitions:
        start_heads(version)
    store.publish(version)
    for old in store.versions(version.view)[KEPT:]:
        store.drop(old)
    return Materialized(version, keys)


def events_before(view: FeatureView, lake: Lake, snapshot: int, cut: int) -> pa.Table:
    """The events of a snapshot that were available before a cut (UTC µs) and count at all."""
    available = Condition(view.source.available_at, "<", cut)
    columns = view.columns_read()
    if snapshot == 0:
        return scan_as_of(lake, view.source.table, 0, columns)
    found = lake.scan(view.source.table, columns=columns, snapshot=snapshot, where=[available])
    return counting(found, view.source)


def tail_cells(
    view: FeatureView, events: pa.Table, cut: int, progress: Progress | None = None
) -> Iterator[Cell]:
    """A cell for every entity that has an event, in the order of the keys."""
    algebra = ViewAlgebra(view)
    states: dict[bytes, EntityState] = {}
    for done, row in enumerate(algebra.rows(events, since=cut), 1):
        state = states.get(row.key)
        if state is None:
            state = states[row.key] = EntityState(algebra.slots)
        state.add(row)
        if progress is not None and done % 10_000 == 0:
            progress(f"materialize {view.name}", done, events.num_rows)
    for key in sorted(states):
        states[key].settle(cut)
        yield key, states[key].pack()
