"""What there is of a subject before anything is removed, for what can only be found through it.

Whoever erases a card erases also each pair of the card and a shop: the keys of such pairs are in
the card's rows, and only there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from app.compose import Platform
from app.erasure.events import Met
from features.dtypes import DType, to_arrow
from features.keys import key_bytes
from features.library import Library
from features.offline.lake import Condition, Lake
from features.sources import Entity
from features.subject import Subject


@dataclass(slots=True)
class Survey:
    """Keys to be erased by entity, and the source tables that have rows of the subject."""

    keys: dict[str, set[bytes]]
    changed: set[str] = field(default_factory=set)


def surveyed(platform: Platform, library: Library, subject: Subject, met: Sequence[Met]) -> Survey:
    """Looks through the tables of all sources, and the events that were met in logs."""
    found = Survey({subject.entity.name: {subject.key}})
    relatives = [e for e in library.entities() if subject.is_part_of(e)]
    lake = platform.lake() if platform.home.lake.exists() else None
    there = set() if lake is None else set(lake.tables())
    for table in sorted({source.table for source in library.sources()} & there):
        assert lake is not None
        for rows in _rows(lake, table, subject):
            if rows.num_rows:
                found.changed.add(table)
                _add(found, relatives, _plain(rows))
    for one in met:
        _add(found, relatives, one.rows)
    return found


def _rows(lake: Lake, table: str, subject: Subject) -> Iterator[pa.Table]:
    for names in subject.ways(lake.describe(table).schema):
        where = [Condition(n, "==", v) for n, v in zip(names, subject.values, strict=True)]
        yield lake.scan(table, where=where)


def _plain(rows: pa.Table) -> list[dict[str, Any]]:
    """Rows as a log has them: single values only, times as µs."""
    single = [f.name for f in rows.schema if not pa.types.is_nested(f.type)]
    columns = [rows.column(name) for name in single]
    whole = [c.cast(pa.int64()) if pa.types.is_timestamp(c.type) else c for c in columns]
    return list(pa.table(whole, names=single).to_pylist())


def _add(found: Survey, relatives: Sequence[Entity], rows: Sequence[Mapping[str, Any]]) -> None:
    for entity in relatives:
        keys = found.keys.setdefault(entity.name, set())
        for row in rows:
            if (key := _key_in(entity, row)) is not None:
                keys.add(key)


def _key_in(entity: Entity, row: Mapping[str, Any]) -> bytes | None:
    values = [row.get(name) for name in entity.keys]
    if any(not _fits(v, t) for v, t in zip(values, entity.types, strict=True)):
        return None
    return key_bytes(values)


def _fits(value: Any, dtype: DType) -> bool:
    kind = pa.int64() if dtype == "time" else to_arrow(dtype)
    try:
        return bool(pa.scalar(value, kind).is_valid)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        return False
