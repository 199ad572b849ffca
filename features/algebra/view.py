"""A view compiled for the algebra: from a block of events to what each aggregation takes of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from features.aggregations import Aggregation
from features.algebra.compiled import (
    CompiledAggregation,
    Taken,
    compile_all,
    plain,
    plain_values,
)
from features.algebra.kinds import Order
from features.definitions import FeatureView
from features.dtypes import as_dtype
from features.keys import key_bytes
from features.sources import Source
from features.windows import window_start

Times = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Row:
    """One event for one view: the entity's key, where it stands, what each aggregation takes."""

    key: bytes
    order: Order
    values: tuple[Any, ...]


class ViewAlgebra:
    """The aggregations of a view with their algebras, and how events are read for them."""

    def __init__(
        self, view: FeatureView, aggregations: Mapping[str, Aggregation] | None = None
    ) -> None:
        self.view = view
        self.source = view.source
        given = view.aggregations if aggregations is None else aggregations
        self.slots: tuple[CompiledAggregation, ...] = compile_all(
            given, view.source.columns, view.hop
        )
        self.columns = view.columns_read(given)

    def take(self, events: pa.Table) -> list[Taken]:
        """What each aggregation takes of well-formed events, by slot."""
        columns = typed_columns(events, self.source, self.columns)
        return [slot.take(columns, events.num_rows) for slot in self.slots]

    def rows(self, events: pa.Table, since: int | None = None) -> Iterator[Row]:
        """Well-formed events with a key, one by one, in their order.

        ``since``: nobody will ask about a time before it (µs), so what no window reaches from there
        on need not be computed.
        """
        columns = typed_columns(events, self.source, self.columns)
        times = None if since is None else micros(columns[self.source.event_time])
        taken = [
            plain_values(_within(slot, slot.take(columns, events.num_rows), times, since),
                         slot.dtype)
            for slot in self.slots
        ]  # fmt: skip
        values = zip(*taken, strict=True) if taken else iter([()] * events.num_rows)
        keys = zip(*(plain(columns[key], "") for key in self.view.entity.keys), strict=True)
        for key, order, row in zip(keys, orders(columns, self.source), values, strict=True):
            name = key_bytes(key)
            if name is not None:
                yield Row(name, order, row)


def _within(
    slot: CompiledAggregation, taken: Taken, times: Times | None, since: int | None
) -> Taken:
    if times is None or since is None or slot.window is None or slot.hop is None:
        return taken
    reached = times >= window_start(since, slot.window, slot.hop)
    failed = None if taken.failed is None else taken.failed & reached
    return replace(taken, chosen=taken.chosen & reached, failed=failed)


def typed_columns(events: pa.Table, source: Source, names: Sequence[str]) -> dict[str, pa.Array]:
    """The columns of events, each as one array in the Arrow type of its declared type."""
    types = source.columns
    return {name: as_dtype(events.column(name), types[name]) for name in names}


def orders(columns: Mapping[str, pa.Array], source: Source) -> Iterator[Order]:
    """Where each event stands: (event time, available time, sequence)."""
    times = plain(columns[source.event_time], "")
    available = plain(columns[source.available_at], "")
    sequence: Sequence[Any] = [None] * len(times)
    if source.sequence is not None:
        sequence = plain(columns[source.sequence], "")
    return zip(times, available, sequence, strict=True)


def micros(column: pa.Array | pa.ChunkedArray) -> Times:
    """A time column without nulls as int64 µs."""
    whole = as_dtype(column, "time").cast(pa.int64())
    return np.asarray(whole.to_numpy(zero_copy_only=False))


def counting(events: pa.Table, source: Source) -> pa.Table:
    """The events that count at all: well-formed, not late, each id once.

    Of equal ids the event with the least (available_at, event_time) stays; a null id is nobody's.
    """
    events = events.filter(well_formed(events, source))
    if source.lateness is not None:
        events = events.filter(pa.array(~late(events, source)))
    return events if source.event_id is None else _each_id_once(events, source)


def well_formed(events: pa.Table, source: Source) -> pa.ChunkedArray:
    """Whether an event has both of its times."""
    return pc.and_(
        pc.is_valid(events.column(source.event_time)),
        pc.is_valid(events.column(source.available_at)),
    )


def late(events: pa.Table, source: Source) -> Mask:
    """Whether ``available_at - event_time`` exceeds the source's lateness; none is by default."""
    if source.lateness is None:
        return np.zeros(events.num_rows, dtype=bool)
    age = micros(events.column(source.available_at)) - micros(events.column(source.event_time))
    return np.asarray(age > source.lateness)


def _each_id_once(events: pa.Table, source: Source) -> pa.Table:
    codes = id_codes(events.column(source.event_id))
    if len(codes) == 0 or int(np.bincount(codes[codes >= 0], minlength=1).max()) < 2:
        return events
    order = np.lexsort(
        (
            micros(events.column(source.event_time)),
            micros(events.column(source.available_at)),
            codes,
        )
    )
    ordered = codes[order]
    first = np.ones(len(order), dtype=bool)
    first[1:] = (ordered[1:] != ordered[:-1]) | (ordered[1:] < 0)
    return events.take(pa.array(np.sort(order[first])))


def id_codes(column: pa.ChunkedArray) -> Times:
    """A number for every id, equal for equal ids; −1 for null."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    indices = column.dictionary_encode().indices
    return np.asarray(pc.fill_null(indices, -1).to_numpy(zero_copy_only=False), dtype=np.int64)
