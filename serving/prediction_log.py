"""The prediction log: every sampled answer with the exact values it was made from.

The answering thread appends to a bounded buffer and is done. A background thread turns what has
gathered into Arrow and hands it to the sink. When the buffer is full or the sink fails, records are
dropped and counted: a log never slows an answer and never loses silently.
"""

from __future__ import annotations

import logging
import threading
import zlib
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import orjson
import pyarrow as pa

from features.dtypes import to_arrow
from serving.explain import positions_data
from serving.model import LoadedModel, Scored

_log = logging.getLogger("tondo.serving")
_TIME = pa.timestamp("us", tz="UTC")
_HASHES = 1 << 32
_BATCH = 256
LOG_PREFIX = "lake.predictions_"

_FIXED: tuple[tuple[str, pa.DataType], ...] = (
    ("request_id", pa.string()),
    ("row", pa.int32()),
    ("service", pa.string()),
    ("family", pa.string()),
    ("version", pa.int64()),
    ("arm", pa.string()),
    ("at", _TIME),
    ("logged_at", _TIME),
    ("latency_us", pa.int64()),
    ("degradation", pa.int32()),
    ("entities", pa.string()),
    ("request", pa.string()),
    ("prediction", pa.float64()),
    ("positions", pa.string()),
    ("states", pa.list_(pa.string())),
    ("substitutes", pa.list_(pa.string())),
)


@dataclass(frozen=True, slots=True)
class Entry:
    """One answered request, as the answering thread had it."""

    request_id: str
    model: LoadedModel
    rows: Sequence[dict[str, object]]
    q: int
    logged_at: int
    scored: Scored
    latency_us: int


class PredictionSink(Protocol):
    """Where batches of records go."""

    def write(self, table: str, records: pa.Table) -> None:
        """Keeps the records durably for the named lake table, or raises."""
        ...


@dataclass(frozen=True, slots=True)
class LogCounts:
    """What became of the records so far, in rows."""

    written: int
    dropped: int
    waiting: int


class NoLog:
    """Keeps nothing; for a replica that is told not to log."""

    def record(self, entry: Entry) -> None:
        """Forgets the entry."""


class BufferedLog:
    """Gathers answers in memory and writes them in batches from a thread of its own.

    ``rate`` is the sampled share of entity keys, 0 to 1: a key is either always logged or never.
    """

    def __init__(self, sink: PredictionSink, *, rate: float = 1.0, capacity: int = 50_000) -> None:
        self._sink = sink
        self._bound = int(rate * _HASHES)
        self._capacity = capacity
        self._entries: deque[Entry] = deque()
        self._writing = threading.Lock()
        self._stop = threading.Event()
        self._written = 0
        self._dropped = 0
        self._thread: threading.Thread | None = None

    def record(self, entry: Entry) -> None:
        """Keeps an answer for the next batch, or counts it as dropped when the buffer is full."""
        if self._bound < _HASHES and not _sampled(entry, self._bound):
            return
        if len(self._entries) >= self._capacity:
            self._dropped += len(entry.rows)
            return
        self._entries.append(entry)

    def start(self, interval_s: float = 0.5) -> None:
        """Writes what has gathered every ``interval_s`` seconds until ``close``."""
        self._thread = threading.Thread(
            target=self._run, args=(interval_s,), name="tondo:prediction-log", daemon=True
        )
        self._thread.start()

    def flush(self) -> LogCounts:
        """Writes everything recorded before the call; returns the counts so far."""
        with self._writing:
            for batch in self._batches():
                self._write(batch)
        return self.counts()

    def counts(self) -> LogCounts:
        """The counts so far."""
        return LogCounts(self._written, self._dropped, len(self._entries))

    def close(self) -> LogCounts:
        """Ends the thread and writes what is left."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        return self.flush()

    def _run(self, interval_s: float) -> None:
        while not self._stop.wait(interval_s):
            self.flush()

    def _batches(self) -> Iterator[list[Entry]]:
        while self._entries:
            yield [self._entries.popleft() for _ in range(min(_BATCH, len(self._entries)))]

    def _write(self, batch: list[Entry]) -> None:
        for model, entries in _by_model(batch):
            rows = sum(len(entry.rows) for entry in entries)
            try:
                self._sink.write(table_name(model.version.family), records(model, entries))
                self._written += rows
            except Exception as error:
                self._dropped += rows
                _log.error("predictions dropped", exc_info=error, extra={"rows": rows})


def fixed_columns() -> frozenset[str]:
    """The columns that every log has; the others are features."""
    return frozenset(name for name, _ in _FIXED)


def table_name(family: str) -> str:
    """The lake table of a family's predictions."""
    return LOG_PREFIX + "".join(c if c.isalnum() else "_" for c in family)


def record_schema(model: LoadedModel) -> pa.Schema:
    """The columns of a model's prediction log: what happened, then one per feature."""
    features = zip(model.plan.outputs, model.plan.dtypes, strict=True)
    return pa.schema([*_FIXED, *((name, to_arrow(dtype)) for name, dtype in features)])


def records(model: LoadedModel, entries: Sequence[Entry]) -> pa.Table:
    """Entries of one model as a table, one row per prediction."""
    fixed = zip(*(row for entry in entries for row in _fixed(entry)), strict=True)
    served = [row for entry in entries for row in entry.scored.served]
    schema = record_schema(model)
    columns = [*fixed, *zip(*(row.values for row in served), strict=True)]
    arrays = [_array(values, field.type) for values, field in zip(columns, schema, strict=True)]
    return pa.Table.from_arrays(arrays, schema=schema)


def _fixed(entry: Entry) -> Iterator[tuple[object, ...]]:
    model, scored = entry.model, entry.scored
    version = model.version
    for i, (row, served) in enumerate(zip(entry.rows, scored.served, strict=True)):
        yield (
            entry.request_id,
            i,
            model.plan.service,
            version.family,
            version.version,
            version.arm,
            served.at,
            entry.logged_at,
            entry.latency_us,
            scored.degradation.level,
            _json({key.name: row[key.name] for key in model.plan.keys}),
            _json({field.name: row[field.name] for field in model.plan.fields}),
            scored.predictions[i],
            _json({role: positions_data(served, role) for role in served.positions}),
            served.states,
            served.substitutes,
        )


def _array(values: Sequence[object], dtype: pa.DataType) -> pa.Array:
    if pa.types.is_map(dtype):
        values = [list(v.items()) if isinstance(v, dict) else v for v in values]
    return pa.array(values, type=dtype)


def _json(value: object) -> str:
    return orjson.dumps(value).decode()


def _by_model(batch: Sequence[Entry]) -> list[tuple[LoadedModel, list[Entry]]]:
    groups: dict[int, tuple[LoadedModel, list[Entry]]] = {}
    for entry in batch:
        groups.setdefault(id(entry.model), (entry.model, []))[1].append(entry)
    return list(groups.values())


def _sampled(entry: Entry, bound: int) -> bool:
    keys = [[row[key.name] for key in entry.model.plan.keys] for row in entry.rows]
    return zlib.crc32(orjson.dumps(keys)) < bound
