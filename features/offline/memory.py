"""A lake in this process's memory, for tests and for trying things out."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from features.offline.filters import check_operators, matching
from features.offline.lake import (
    DIGEST,
    Condition,
    Data,
    Erased,
    Matcher,
    TableInfo,
    TableSpec,
    Told,
    carried_marks,
    check_columns,
    check_same,
    conform,
    digests_of,
    refuse_repeated,
    unknown_snapshot,
    unknown_table,
)


@dataclass(slots=True)
class _Held:
    spec: TableSpec
    snapshots: dict[int, pa.Table] = field(default_factory=dict)
    summaries: dict[int, dict[str, str]] = field(default_factory=dict)

    def latest(self) -> int | None:
        return next(reversed(self.snapshots), None)


class MemoryLake:
    """Keeps every snapshot as an Arrow table; nothing outlives the process."""

    def __init__(self) -> None:
        self._tables: dict[str, _Held] = {}
        self._ids = itertools.count(1)
        self._lock = threading.Lock()

    def create(self, table: TableSpec) -> None:
        """Makes a table, or nothing if it is there already; Conflict for other columns."""
        with self._lock:
            check_same(self._tables.setdefault(table.name, _Held(table)).spec, table)

    def append(
        self, name: str, data: Data, *, digest: str = "", summary: Mapping[str, str] | None = None
    ) -> int:
        """Adds rows as one snapshot and returns its id; Conflict for a known digest."""
        held = self._held(name)
        tables = [data] if isinstance(data, pa.Table) else list(data)
        rows = [conform(name, held.spec.schema, table) for table in tables]
        with self._lock:
            return self._commit(held, rows, digest, summary or {})

    def _commit(
        self, held: _Held, rows: list[pa.Table], digest: str, summary: Mapping[str, str]
    ) -> int:
        refuse_repeated(held.spec.name, _digests(held), digest)
        latest = held.latest()
        before = [] if latest is None else [held.snapshots[latest]]
        marks = {} if latest is None else carried_marks(held.summaries[latest])
        snapshot = next(self._ids)
        held.snapshots[snapshot] = pa.concat_tables(
            [*before, *rows, held.spec.schema.empty_table()]
        )
        held.summaries[snapshot] = marks | dict(summary) | ({DIGEST: digest} if digest else {})
        return snapshot

    def scan(
        self,
        name: str,
        *,
        columns: Sequence[str] | None = None,
        snapshot: int | None = None,
        where: Sequence[Condition] = (),
    ) -> pa.Table:
        """The rows for which every condition holds, as of a snapshot."""
        held = self._held(name)
        check_operators(where)
        wanted = check_columns(held.spec, columns)
        check_columns(held.spec, [condition.column for condition in where])
        found = held.latest() if snapshot is None else snapshot
        if found is None:
            return held.spec.schema.empty_table().select(wanted)
        if found not in held.snapshots:
            raise unknown_snapshot(name, found)
        return matching(held.snapshots[found], where).select(wanted)

    def erase(
        self, name: str, columns: Sequence[str], matches: Matcher, told: Told | None = None
    ) -> Erased:
        """Removes rows from every snapshot, as if they had never been appended."""
        held = self._held(name)
        wanted = check_columns(held.spec, columns)
        with self._lock:
            rows = 0
            for snapshot, table in held.snapshots.items():
                kept = table.filter(pc.invert(matches(table.select(wanted))))
                rows, held.snapshots[snapshot] = table.num_rows - kept.num_rows, kept
            return Erased(rows, len(held.snapshots), len(held.snapshots) if rows else 0)

    def describe(self, name: str) -> TableInfo:
        """What the table is now."""
        held = self._held(name)
        latest = held.latest()
        if latest is None:
            return TableInfo(held.spec, 0, None)
        rows = held.snapshots[latest].num_rows
        return TableInfo(held.spec, rows, latest, _digests(held), dict(held.summaries[latest]))

    def tables(self) -> list[str]:
        """The names of all tables, sorted."""
        return sorted(self._tables)

    def _held(self, name: str) -> _Held:
        if name not in self._tables:
            raise unknown_table(name, self._tables)
        return self._tables[name]


def _digests(held: _Held) -> frozenset[str]:
    summaries = held.summaries.values()
    return frozenset(digest for summary in summaries for digest in digests_of(summary))
