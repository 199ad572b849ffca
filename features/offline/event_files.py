"""The data files behind a source's table, as tasks read them: by bucket, or some at a time."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from features.offline.exchange import open_place
from features.plan import ViewPlan

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class EventFile:
    """One Parquet file of a source's table; ``bucket`` is None without buckets or for null keys."""

    path: str
    rows: int
    bucket: int | None


@dataclass(frozen=True, slots=True)
class FileRows:
    """A file to read; its rows are numbered from ``first`` on, across all files of the table."""

    path: str
    first: int


@dataclass(frozen=True, slots=True)
class EventFiles:
    """The data files of a source's table as of a snapshot, and how the table buckets them."""

    files: tuple[EventFile, ...]
    bucket_by: str | None
    buckets: int

    @property
    def rows(self) -> int:
        """The events of all files."""
        return sum(file.rows for file in self.files)

    def is_bucketed_for(self, view: ViewPlan, buckets: int) -> bool:
        """Whether the files are split by the view's key already, into a multiple of buckets.

        A key's bucket of 4 is its bucket of 16, modulo 4.
        """
        keys = view.view.entity.keys
        return keys == (self.bucket_by,) and self.buckets % buckets == 0

    def of_bucket(self, bucket: int, buckets: int) -> tuple[FileRows, ...]:
        """The files that hold a bucket's keys; files of null keys match nothing."""
        return tuple(
            numbered
            for file, numbered in self._numbered()
            if file.bucket is not None and file.bucket % buckets == bucket
        )

    def groups(self, most: int) -> Iterator[tuple[FileRows, ...]]:
        """All files in groups of at most so many rows, but at least one file each."""
        group: list[FileRows] = []
        held = 0
        for file, numbered in self._numbered():
            if group and held + file.rows > most:
                yield tuple(group)
                group, held = [], 0
            group.append(numbered)
            held += file.rows
        if group:
            yield tuple(group)

    def _numbered(self) -> Iterator[tuple[EventFile, FileRows]]:
        starts = itertools.accumulate((file.rows for file in self.files), initial=0)
        for file, first in zip(self.files, starts, strict=False):
            yield file, FileRows(file.path, first)


def read_files(
    files: Sequence[FileRows], columns: Sequence[str], repeated: Sequence[Path] = ()
) -> pa.Table:
    """The rows of some files, one after another, without those that ``repeated`` names."""
    return pa.concat_tables([_read_file(file, columns, repeated) for file in files])


def row_numbers(files: Sequence[FileRows]) -> Rows:
    """The numbers of the rows that ``read_files`` gives, if nothing is repeated."""
    return np.concatenate(
        [np.arange(f.first, f.first + pq.read_metadata(f.path).num_rows) for f in files]
    )


def _read_file(file: FileRows, columns: Sequence[str], repeated: Sequence[Path]) -> pa.Table:
    # One file, not a dataset: folders named like key=value must not become columns.
    table = pq.ParquetFile(file.path).read(columns=list(columns))
    kept = np.ones(table.num_rows, dtype=bool)
    for path in repeated:
        numbers = open_place(path, 0).column(0).to_numpy()
        low, high = np.searchsorted(numbers, [file.first, file.first + table.num_rows])
        kept[numbers[low:high] - file.first] = False
    return table if kept.all() else table.filter(pa.array(kept))
