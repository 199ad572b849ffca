"""The lake as the committer of prediction logs needs it."""

from __future__ import annotations

import pyarrow as pa

from app.errors import NotFound
from features.offline.lake import Lake, TableSpec


class LakePredictions:
    """Implements PredictionTable: one lake table per model family, made from its first batch."""

    def __init__(self, lake: Lake) -> None:
        self._lake = lake

    def has(self, table: str, digest: str) -> bool:
        """Whether the batch is in the table already."""
        try:
            return digest in self._lake.describe(table).digests
        except NotFound:
            return False

    def append(self, table: str, records: pa.Table, digest: str) -> None:
        """Appends a batch under its digest."""
        self._lake.create(TableSpec(table, records.schema))
        self._lake.append(table, records, digest=digest)
