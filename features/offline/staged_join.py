"""The point-in-time join of any size, as three stages of tasks that exchange files.

1. *exchange*: every part of the spine and every chunk of a source's files is split, once, into
   buckets by entity key; of the spine only key, time and row number travel, and the files of a
   table that is bucketed by that key stay where they are. Where a source declares an event id,
   its events meet by id before, and of equal ids one goes on.
2. *bucket*: for every view and bucket the kernel computes the features as of each row, and puts
   them back by part of the spine. A hot bucket becomes several tasks, by parts of the spine.
3. *part*: the columns of all views meet the spine's own again, in its order.

No process ever holds a whole side. Who runs the tasks (this process, or Ray) the caller chooses.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
import pyarrow as pa

from features.batch.join import assemble, key_table, stored_table
from features.batch.kernel import features_as_of
from features.dtypes import to_arrow
from features.offline.buckets import bucket_of
from features.offline.event_files import EventFiles, FileRows, read_files
from features.offline.exchange import read_place, write_parts, write_split
from features.offline.outputs import write_tables
from features.offline.repeated_ids import IdBucket, IdChunk, find_repeated, split_ids
from features.offline.spine import spine_parts
from features.plan import ServicePlan, ViewPlan
from features.sources import Source

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
    """Stage 1: some files of a source, to be split by one view's entity key.

    ``repeated`` are files of row numbers that do not count.
    """

    job: Job
    view: ViewPlan
    columns: tuple[str, ...]
    chunk: int
    files: tuple[FileRows, ...]
    repeated: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class BucketRange:
    """Stage 2: one bucket of one view, for some parts of the spine.

    The events are in the table's own ``files`` if it is bucketed by the view's key, without the
    rows that ``repeated`` names; else in what stage 1 wrote, ``exchanged``.
    """

    job: Job
    index: int
    bucket: int
    parts: range
    files: tuple[FileRows, ...]
    repeated: tuple[Path, ...]
    exchanged: tuple[Path, ...]

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
    repeated = _repeated(job, sources, run)
    job = replace(job, plan=_without_ids(job.plan))
    chunks = list(_event_chunks(job, sources, repeated))
    run("exchange events", split_events, chunks)
    ranges = [
        list(_ranges(job, index, counts, sources[view.view.source.name], repeated, chunks))
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
    events = read_files(work.files, work.columns, work.repeated)
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


def _repeated(
    job: Job, sources: Mapping[str, EventFiles], run: Runner
) -> dict[str, tuple[Path, ...]]:
    """By source, the files of row numbers that do not count because another row has their id."""
    declared = {view.view.source.name: view.view.source for view in job.plan.views}
    with_ids = [source for source in declared.values() if source.event_id is not None]
    chunks = [chunk for source in with_ids for chunk in _id_chunks(job, source, sources)]
    run("exchange ids", split_ids, chunks)
    work = [bucket for source in with_ids for bucket in _id_buckets(job, source, chunks)]
    counts = run("find repeated ids", find_repeated, work)
    found = [bucket for bucket, count in zip(work, counts, strict=True) if count]
    return {
        source.name: tuple(b.result for b in found if b.source.name == source.name)
        for source in with_ids
    }


def _without_ids(plan: ServicePlan) -> ServicePlan:
    """The plan for events of which each counts once: tasks need not read what tells them apart."""
    views = tuple(
        replace(view, view=replace(view.view, source=replace(view.view.source, event_id=None)))
        for view in plan.views
    )
    return replace(plan, views=views)


def _id_chunks(job: Job, source: Source, sides: Mapping[str, EventFiles]) -> Iterator[IdChunk]:
    for chunk, files in enumerate(sides[source.name].groups(TASK_ROWS)):
        yield IdChunk(source, files, job.buckets, job.folder / f"ids-{source.name}-{chunk}.arrow")


def _id_buckets(job: Job, source: Source, chunks: Sequence[IdChunk]) -> Iterator[IdBucket]:
    paths = tuple(chunk.result for chunk in chunks if chunk.source.name == source.name)
    for bucket in range(job.buckets if paths else 0):
        result = job.folder / f"repeated-{source.name}-{bucket}.arrow"
        yield IdBucket(source, paths, bucket, result)


def _event_chunks(
    job: Job, sources: Mapping[str, EventFiles], repeated: Mapping[str, tuple[Path, ...]]
) -> Iterator[EventChunk]:
    """The files that must be split, once for each source and entity key, by any view of them."""
    sides: dict[tuple[str, tuple[str, ...]], list[ViewPlan]] = {}
    for view in job.plan.views:
        if not sources[view.view.source.name].is_bucketed_for(view, job.buckets):
            sides.setdefault(_event_side(view), []).append(view)
    for (source, _), views in sides.items():
        columns = tuple(dict.fromkeys(name for view in views for name in view.source_columns))
        for chunk, files in enumerate(sources[source].groups(TASK_ROWS)):
            yield EventChunk(job, views[0], columns, chunk, files, repeated.get(source, ()))


def _ranges(
    job: Job,
    index: int,
    counts: Sequence[list[list[int]]],
    side: EventFiles,
    repeated: Mapping[str, tuple[Path, ...]],
    chunks: Sequence[EventChunk],
) -> Iterator[BucketRange]:
    view = job.plan.views[index]
    bucketed = side.is_bucketed_for(view, job.buckets)
    theirs = [chunk for chunk in chunks if _event_side(chunk.view) == _event_side(view)]
    exchanged = tuple(job.events_of_chunk(view, chunk.chunk) for chunk in theirs)
    lost = repeated.get(view.view.source.name, ())
    for bucket in range(job.buckets):
        files = side.of_bucket(bucket, job.buckets) if bucketed else ()
        for parts in _part_ranges([count[index][bucket] for count in counts]):
            yield BucketRange(job, index, bucket, parts, files, lost, exchanged)


def _events(work: BucketRange) -> pa.Table:
    if work.files:
        return read_files(work.files, work.view.source_columns, work.repeated)
    if work.exchanged:
        return read_place(work.exchanged, work.bucket)
    types = work.view.view.source.columns
    return pa.schema([(n, to_arrow(types[n])) for n in work.view.source_columns]).empty_table()


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
