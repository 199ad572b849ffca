"""Plays the recorded year again, in the order in which things became known.

A question comes when a flight leaves. Everything that became known strictly before it comes first,
everything else later, also what became known in the same microsecond.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from features import BadInput

STREAMS = {"departures": "reported_at", "landings": "reported_at", "weather": "published_at"}
"""The streams, each with the column that says when an event became known."""

ENTITIES = ("carrier", "origin", "dest", "tailnum")
REQUEST = ("distance", "scheduled_minutes", "scheduled_hour", "scheduled_weekday")
_EPOCH = datetime.fromisoformat("1970-01-01T00:00:00+00:00")


@dataclass(frozen=True, slots=True)
class Event:
    """Something that became known at ``at`` (UTC µs); times in ``row`` are UTC µs too."""

    at: int
    stream: str
    row: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Request:
    """A question asked at ``at`` (UTC µs), and the minutes of delay that came of it, if known."""

    at: int
    flight_id: str
    entities: dict[str, str]
    request: dict[str, Any]
    arr_delay: float | None

    def body(self) -> dict[str, Any]:
        """The question as the prediction service takes it."""
        moment = _EPOCH + timedelta(microseconds=self.at)
        return {"entities": self.entities, "request": self.request, "at": moment.isoformat()}


@dataclass(frozen=True, slots=True)
class Turn:
    """All events since the turn before, then one question; the last turn has none."""

    events: tuple[Event, ...]
    request: Request | None


def turns(folder: Path, first: datetime, end: datetime) -> Iterator[Turn]:
    """The period ``[first, end)`` from the files that ``prepare`` wrote into the folder.

    Raises BadInput for a time without a zone.
    """
    waiting: list[Event] = []
    for moment in _in_order(folder, _micros(first), _micros(end)):
        if isinstance(moment, Event):
            waiting.append(moment)
        else:
            yield Turn(tuple(waiting), moment)
            waiting = []
    yield Turn(tuple(waiting), None)


def _in_order(folder: Path, first: int, end: int) -> Iterator[Event | Request]:
    # heapq.merge takes equal keys from the earliest iterable: questions go before events.
    events = [_events(folder, stream, first, end) for stream in STREAMS]
    return heapq.merge(_requests(folder, first, end), *events, key=_when)


def _when(moment: Event | Request) -> int:
    return moment.at


def _requests(folder: Path, first: int, end: int) -> Iterator[Event | Request]:
    for row in _rows(folder / "flights.parquet", "departed_at", first, end):
        yield Request(
            at=row["departed_at"],
            flight_id=row["flight_id"],
            entities={name: row[name] for name in ENTITIES},
            request={name: row[name] for name in REQUEST},
            arr_delay=row["arr_delay"],
        )


def _events(folder: Path, stream: str, first: int, end: int) -> Iterator[Event | Request]:
    known_at = STREAMS[stream]
    for row in _rows(folder / f"{stream}.parquet", known_at, first, end):
        yield Event(row[known_at], stream, row)


def _rows(path: Path, time: str, first: int, end: int) -> list[dict[str, Any]]:
    """The rows of a period, already in order of that time; times as UTC µs."""
    table = _times_as_integers(pq.read_table(path))
    chosen = pc.and_(pc.greater_equal(table[time], first), pc.less(table[time], end))
    return list(table.filter(chosen).to_pylist())


def _times_as_integers(table: pa.Table) -> pa.Table:
    fields = [
        field.with_type(pa.int64()) if pa.types.is_timestamp(field.type) else field
        for field in table.schema
    ]
    return table.cast(pa.schema(fields))


def _micros(moment: datetime) -> int:
    if moment.tzinfo is None:
        raise BadInput(f"{moment.isoformat()} has no time zone", "Say which: +00:00 is UTC.")
    return (moment - _EPOCH) // timedelta(microseconds=1)
