"""Events whose id another one has, found across all buckets with the memory of one.

Where a source declares an event id, equal ids are one event, whatever keys they come with. A bucket
of a key sees only its own events, so they meet once more, by id; what does not count is left as
sorted row numbers, and whoever reads the events leaves those out.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from features.algebra.view import late, repeated_ids, well_formed
from features.offline.buckets import bucket_of
from features.offline.event_files import FileRows, read_files, row_numbers
from features.offline.exchange import read_place, write_parts, write_split
from features.sources import Source

_ROW = "__row"


@dataclass(frozen=True, slots=True)
class IdChunk:
    """Some files of a source, to be split by event id into ``result``."""

    source: Source
    files: tuple[FileRows, ...]
    buckets: int
    result: Path


@dataclass(frozen=True, slots=True)
class IdBucket:
    """One bucket of ids, over all chunks; what does not count goes into ``result``."""

    source: Source
    chunks: tuple[Path, ...]
    bucket: int
    result: Path


def split_ids(work: IdChunk) -> None:
    """Splits the events that may count by id, with their row numbers."""
    source, name = work.source, work.source.event_id
    assert name is not None
    events = read_files(work.files, source.deciding_columns)
    events = events.append_column(_ROW, pa.array(row_numbers(work.files)))
    events = events.filter(pc.and_(well_formed(events, source), events.column(name).is_valid()))
    events = events.filter(pa.array(~late(events, source)))
    ids = events.column(name)
    if pa.types.is_floating(ids.type):
        ids = pc.add(ids, 0.0).cast(pa.string())
    place = bucket_of(pa.table({name: ids}), work.buckets)
    write_split(work.result, events, place, work.buckets)


def find_repeated(work: IdBucket) -> int:
    """Writes the row numbers of one bucket's events that do not count; returns how many."""
    events = read_place(work.chunks, work.bucket)
    repeated = repeated_ids(events, work.source)
    if repeated is None:
        return 0
    numbers = np.sort(events.column(_ROW).to_numpy()[repeated])
    write_parts(work.result, [pa.table({_ROW: numbers})])
    return len(numbers)
