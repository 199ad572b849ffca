"""The lake as the committer of prediction logs needs it."""

from __future__ import annotations

import hashlib
import re

import pyarrow as pa

from app.errors import Conflict, NotFound
from features.offline.lake import Lake, TableSpec

_VARIANT = re.compile(r"_v[0-9a-f]{8}")


class LakePredictions:
    """Implements PredictionTable: a lake table per model family, made from its first batch.

    Versions that read other features have other columns; theirs go to a table beside it, which is
    named after its columns.
    """

    def __init__(self, lake: Lake) -> None:
        self._lake = lake

    def has(self, table: str, digest: str) -> bool:
        """Whether the batch is in one of the family's tables already."""
        return any(self._holds(name, digest) for name in tables_of(self._lake, table))

    def append(self, table: str, records: pa.Table, digest: str) -> None:
        """Appends a batch under its digest."""
        name = self._fitting(table, records.schema)
        self._lake.append(name, records, digest=digest)

    def _holds(self, table: str, digest: str) -> bool:
        try:
            return digest in self._lake.describe(table).digests
        except NotFound:
            return False

    def _fitting(self, table: str, schema: pa.Schema) -> str:
        try:
            self._lake.create(TableSpec(table, schema))
            return table
        except Conflict:
            columns = schema.remove_metadata().to_string()
            variant = f"{table}_v{hashlib.sha256(columns.encode()).hexdigest()[:8]}"
            self._lake.create(TableSpec(variant, schema))
            return variant


def tables_of(lake: Lake, table: str) -> list[str]:
    """The tables that hold a family's predictions: ``table`` and those of other columns."""
    names = lake.tables()
    return [n for n in names if n == table or _is_variant(n, table)]


def _is_variant(name: str, table: str) -> bool:
    return name.startswith(table) and _VARIANT.fullmatch(name.removeprefix(table)) is not None
