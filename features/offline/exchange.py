"""Rows brought to their buckets through files, so that no process ever holds a whole side.

An exchange file is an Arrow file with one record batch per bucket (or per part of the spine):
whoever needs one of them maps the file and reads only that.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa


def write_split(
    path: Path, table: pa.Table, place: npt.NDArray[np.int64], places: int
) -> list[int]:
    """Writes the rows as one batch per place, their order kept; returns the rows of each."""
    order = np.argsort(place, kind="stable")
    ordered = table.take(pa.array(order)).combine_chunks()
    cuts = np.searchsorted(place[order], np.arange(places + 1)).tolist()
    with pa.ipc.new_file(str(path), table.schema) as writer:
        for first, end in itertools.pairwise(cuts):
            writer.write_batch(_one_batch(ordered.slice(first, end - first)))
    return [end - first for first, end in itertools.pairwise(cuts)]


def write_parts(path: Path, parts: Iterable[pa.Table]) -> list[int]:
    """Writes each part as one batch; returns the rows of each. Columns as in the first part."""
    rows: list[int] = []
    with ExitStack() as stack:
        for part in parts:
            if not rows:
                schema = part.schema
                writer = stack.enter_context(pa.ipc.new_file(str(path), schema))
            writer.write_batch(_one_batch(part.cast(schema)))
            rows.append(part.num_rows)
    return rows


def read_place(paths: Sequence[Path], place: int) -> pa.Table:
    """The rows that several exchange files hold for one place, in the order of the files."""
    return pa.concat_tables([open_place(path, place) for path in paths])


def open_place(path: Path, place: int) -> pa.Table:
    """The rows of one exchange file for one place, mapped and not copied."""
    reader = pa.ipc.open_file(pa.memory_map(str(path)))
    return pa.Table.from_batches([reader.get_batch(place)])


def _one_batch(table: pa.Table) -> pa.RecordBatch:
    batches = table.combine_chunks().to_batches()
    return batches[0] if batches else pa.RecordBatch.from_pylist([], schema=table.schema)
