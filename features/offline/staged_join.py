"""The point-in-time join of any size, as three stages of tasks that exchange files.

1. *exchange*: every part of the spine and every chunk of a source's files is split, once, into
   buckets by entity key; of the spine only key, time and row number travel, and the files of a
   table that is bucketed by that key stay where they are.
2. *bucket*: for every view and bucket the kernel computes the features as of each row, and puts
   them back by part of the spine. A hot bucket becomes several tasks, by parts of the spine.
3. *part*: the columns of all views meet the spine's own again, in its order.

No process ever holds a whole side. Who runs the tasks (this process, or Ray) the caller chooses.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from features.batch.join import assemble, key_table, stored_table
from features.batch.kernel import features_as_of
from features.dtypes import to_arrow
from features.offline.buckets import bucket_of
from features.offline.exchange import read_place, write_parts, write_split
from features.offline.outputs import write_tables
from features.offline.spine import spine_parts
from features.plan import ServicePlan, ViewPlan

TASK_ROWS = 1_000_000
"""About how many rows of events or spine one task holds."""
MAX_BUCKETS = 256
ROW = "__row"

Work = TypeVar("Work")
Result = TypeVar("Result")


class Runner(Protocol):
    """Runs one stage: every piece of work through a function, results in the same order."""

    def __call__(
        self, stage: str, task: Callable[[Work], Result], work: Sequence[Work]
    ) -> list[Result]:
        """The results. ``stage`` is what people read on a dashboard."""
        ...


@dataclass(frozen=True, slots=True)
class EventFile:
    """One Parquet file of a source's table; ``bucket`` is None without buckets or for null keys."""

    path: str
    rows: int
    bucket: int | None


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

    def of_bucket(self, bucket: int, buckets: int) -> tuple[str, ...]:
        """The files that hold a bucket's keys; files of null keys match nothing."""
        return tuple(
            f.path for f in self.files if f.bucket is not None and f.bucket % buckets == bucket
        )


@dataclass(frozen=True, slots=True)
class Job:
    """What all tasks of a join know. ``folder`` is scratch space that all of them reach."""

    plan: ServicePlan
    time_column: str
    inclusive: bool
    folder: Path
    buckets: int

    @property
    def spine(self) -> Path:
        """The spine as an exchange file, one batch per part."""
        return self.folder / "spine.arrow"

    def keys_of_part(self, view: ViewPlan, part: int) -> Path:
        """Where a part's rows wait for a view, by bucket; views with one key share it."""
        keys = [other.key_columns for other in self.plan.views]
        return self.folder / f"keys-{keys.index(view.key_columns)}-{part}.arrow"

    def events_of_chunk(self, view: ViewPlan, chunk: int) -> Path:
        """Where a chunk of events waits for a view; views of one source and entity share it."""
        sides = [_event_side(other) for other in self.plan.views]
        return self.folder / f"events-{sides.index(_event_side(view))}-{chunk}.arrow"


@dataclass(frozen=True, slots=True)
class SpinePart:
    """Stage 1: one part of the spine, to be split for every key that the views use."""

    job: Job
    part: int


@dataclass(frozen=True, slots=True)
class EventChunk:
    """Stage 1: some files of a source, to be split by one view's entity key."""

    job: Job
    view: ViewPlan
    columns: tuple[str, ...]
    chunk: int
    files: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class BucketRange:
    """Stage 2: one bucket of one view, for some parts of the spine.

    ``events`` are the table's own files if it is bucketed by the view's key, else what stage 1
    wrote.
    """

    job: Job
    index: int
    bucket: int
    parts: range
    events: tuple[str, ...]
    is_exchanged: bool

    @property
    def view(self) -> ViewPlan:
        """The view to compute."""
        return self.job.plan.views[self.index]

    @property
    def result(self) -> Path:
        """The features of these rows, one batch per part of the range."""
        return self.job.folder / f"view-{self.index}-{self.bucket}-{self.parts.start}.arrow"


@dataclass(frozen=True, slots=True)
class FinishedPart:
    """Stage 3: one part of the spine and, for each view, the results that hold its rows."""

    job: Job
    part: int
    results: tuple[tuple[BucketRange, ...], ...]

    @property
    def result(self) -> Path:
        """The part as it goes into the output."""
        return self.job.folder / f"part-{self.part}.arrow"


def staged_join(
    job: Job,
    spine: pa.Table | str | Path,
    sources: Mapping[str, EventFiles],
    out: Path,
    run: Runner,
) -> int:
    """Joins a spine with the files of its sources and writes ``out``; returns its rows.

    ``sources`` are by the source's name. Raises BadInput for a spine that does not fit the plan.
    """
    here = isinstance(spine, pa.Table)  # a table is written here, for it would travel with the task
    rows = _write_spine(job, spine) if here else run("spine", _spine_writer(job), [spine])[0]
    parts = [SpinePart(job, part) for part in range(len(rows))]
    counts = run("exchange spine", split_spine, parts)
    chunks = list(_event_chunks(job, sources))
    run("exchange events", split_events, chunks)
    ranges = [
        list(_ranges(job, index, counts, sources[view.view.source.name], chunks))
        for index, view in enumerate(job.plan.views)
    ]
    run("join bucket", join_bucket, list(itertools.chain.from_iterable(ranges)))
    finished = [FinishedPart(job, part.part, _results_of(ranges, part.part)) for part in parts]
    run("finish part", finish_part, finished)
    return run("write", lambda path: _write_output(path, finished), [out])[0]


def bucket_count(rows: int, workers: int) -> int:
    """How many buckets keep each task at about ``TASK_ROWS``, and every worker busy.

    A power of two, so that it divides the buckets that a table has.
    """
    wanted = max(workers, -(-rows // TASK_ROWS))
    return min(MAX_BUCKETS, 1 << (wanted - 1).bit_length())


def split_spine(work: SpinePart) -> list[list[int]]:
    """Splits a part's keys, times and row numbers by every key; rows per bucket, by view."""
    job = work.job
    part = read_place([job.spine], work.part)
    counts: dict[tuple[str, ...], list[int]] = {}
    for view in job.plan.views:
        if view.key_columns not in counts:
            keys = key_table(view, part, job.time_column, job.plan.lag)
            place = bucket_of(keys.select(view.key_columns), job.buckets)
            travelling = keys.append_column(ROW, pa.array(np.arange(part.num_rows)))
            path = job.keys_of_part(view, work.part)
            counts[view.key_columns] = write_split(path, travelling, place, job.buckets)
    return [counts[view.key_columns] for view in job.plan.views]


def split_events(work: EventChunk) -> None:
    """Splits some files of a source by the key of an entity."""
    events = _read_files(work.files, work.columns)
    place = bucket_of(events.select(work.view.view.entity.keys), work.job.buckets)
    write_split(work.job.events_of_chunk(work.view, work.chunk), events, place, work.job.buckets)


def join_bucket(work: BucketRange) -> None:
    """Computes a view's features for the rows of one bucket, and splits them by part."""
    job, view = work.job, work.view
    spines = [read_place([job.keys_of_part(view, part)], work.bucket) for part in work.parts]
    spine = pa.concat_tables(spines).combine_chunks()
    keys, lag = spine.drop_columns([ROW]), job.plan.lag
    found = features_as_of(view, _events(work), keys, inclusive=job.inclusive, lag=lag)
    answers = stored_table(job.plan, view, found).append_column(ROW, spine.column(ROW))
    starts = itertools.accumulate((table.num_rows for table in spines), initial=0)
    slices = (answers.slice(a, t.num_rows) for a, t in zip(starts, spines, strict=False))
    write_parts(work.result, slices)


def finish_part(work: FinishedPart) -> None:
    """Brings the features of all views back to a part's rows and adds what requests compute."""
    part = read_place([work.job.spine], work.part)
    stored = {}
    for view, ranges in zip(work.job.plan.views, work.results, strict=True):
        answers = pa.concat_tables(
            [read_place([found.result], work.part - found.parts.start) for found in ranges]
        )
        order = np.argsort(answers.column(ROW).to_numpy(), kind="stable")
        stored[view.role] = answers.drop_columns([ROW]).take(pa.array(order))
    whole = assemble(work.job.plan, part, work.job.time_column, stored)
    write_parts(work.result, [whole])


def _write_spine(job: Job, spine: pa.Table | str | Path) -> list[int]:
    return write_parts(job.spine, spine_parts(spine, job.plan, job.time_column))


def _spine_writer(job: Job) -> Callable[[pa.Table | str | Path], list[int]]:
    return lambda spine: _write_spine(job, spine)


def _event_side(view: ViewPlan) -> tuple[str, tuple[str, ...]]:
    return view.view.source.name, view.view.entity.keys


def _event_chunks(job: Job, sources: Mapping[str, EventFiles]) -> Iterator[EventChunk]:
    """The files that must be split, once for each source and entity key, by any view of them."""
    sides: dict[tuple[str, tuple[str, ...]], list[ViewPlan]] = {}
    for view in job.plan.views:
        if not sources[view.view.source.name].is_bucketed_for(view, job.buckets):
            sides.setdefault(_event_side(view), []).append(view)
    for (source, _), views in sides.items():
        columns = dict.fromkeys(name for view in views for name in view.source_columns)
        for chunk, files in enumerate(_grouped(sources[source])):
            yield EventChunk(job, views[0], tuple(columns), chunk, files)


def _grouped(source: EventFiles) -> Iterator[tuple[str, ...]]:
    """The files in groups of about as many rows as one task should hold."""
    group: list[str] = []
    rows = 0
    for file in source.files:
        if group and rows + file.rows > TASK_ROWS:
            yield tuple(group)
            group, rows = [], 0
        group.append(file.path)
        rows += file.rows
    if group:
        yield tuple(group)


def _ranges(
    job: Job,
    index: int,
    counts: Sequence[list[list[int]]],
    source: EventFiles,
    chunks: Sequence[EventChunk],
) -> Iterator[BucketRange]:
    view = job.plan.views[index]
    is_exchanged = not source.is_bucketed_for(view, job.buckets)
    theirs = [chunk for chunk in chunks if _event_side(chunk.view) == _event_side(view)]
    exchanged = tuple(str(job.events_of_chunk(view, chunk.chunk)) for chunk in theirs)
    for bucket in range(job.buckets):
        events = exchanged if is_exchanged else source.of_bucket(bucket, job.buckets)
        for parts in _part_ranges([count[index][bucket] for count in counts]):
            yield BucketRange(job, index, bucket, parts, events, is_exchanged)


def _events(work: BucketRange) -> pa.Table:
    if not work.events:
        types = work.view.view.source.columns
        return pa.schema([(n, to_arrow(types[n])) for n in work.view.source_columns]).empty_table()
    if work.is_exchanged:
        return read_place([Path(path) for path in work.events], work.bucket)
    return _read_files(work.events, work.view.source_columns)


def _read_files(paths: Sequence[str], columns: Sequence[str]) -> pa.Table:
    return pa.concat_tables([pq.read_table(path, columns=list(columns)) for path in paths])


def _part_ranges(rows: Sequence[int]) -> Iterator[range]:
    """Ranges of parts, each of about as many rows as one task should hold."""
    start, held = 0, 0
    for part, count in enumerate(rows):
        if part > start and held + count > TASK_ROWS:
            yield range(start, part)
            start, held = part, 0
        held += count
    if rows:
        yield range(start, len(rows))


def _results_of(
    ranges: Sequence[Sequence[BucketRange]], part: int
) -> tuple[tuple[BucketRange, ...], ...]:
    return tuple(tuple(r for r in of_view if part in r.parts) for of_view in ranges)


def _write_output(out: Path, finished: Sequence[FinishedPart]) -> int:
    return write_tables(out, (read_place([part.result], 0) for part in finished))
