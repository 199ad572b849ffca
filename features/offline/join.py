"""The point-in-time join as people call it: a plan, a lake, a spine, a file."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from features.batch.join import join_in_memory
from features.errors import NotFound
from features.offline.event_files import EventFile, EventFiles
from features.offline.ingest import Progress
from features.offline.lake import Lake
from features.offline.outputs import check_output, write_tables
from features.offline.spine import EVENT_TIME, PART_ROWS, spine_parts
from features.offline.staged_join import (
    Job,
    Result,
    Runner,
    Work,
    bucket_count,
    staged_join,
)
from features.plan import ServicePlan

IN_MEMORY_ROWS = 4_000_000
"""Up to so many events and spine rows a join in one process holds them all."""


@dataclass(frozen=True, slots=True)
class JoinReport:
    """What a join wrote, and the snapshot of every table that it read."""

    out: str
    rows: int
    seconds: float
    snapshots: Mapping[str, int]


def join_local(
    plan: ServicePlan,
    lake: Lake,
    spine: pa.Table | str | Path,
    out: str | Path,
    *,
    time_column: str = EVENT_TIME,
    inclusive: bool = False,
    snapshots: Mapping[str, int] | None = None,
    progress: Progress | None = None,
) -> JoinReport:
    """Joins a spine (a table, or a Parquet, CSV or NDJSON file) in this process, without Ray.

    ``out`` (.parquet, .arrow or .csv) gets the spine's columns and rows, in order, and one column
    ``view__feature`` per feature. ``snapshots`` by table repeat an earlier join; the latest are
    read otherwise. Raises BadInput, NotFound or Unavailable; then ``out`` is not touched.
    """
    started, path = time.monotonic(), Path(out)
    check_output(path)
    read = read_snapshots(plan, lake, snapshots)
    sides = sides_of(plan, lake, read)
    if sides is None or sum(side.rows for side in sides.values()) <= IN_MEMORY_ROWS:
        parts = list(spine_parts(spine, plan, time_column))
        whole = join_table(
            plan, lake, _one(parts), time_column=time_column, inclusive=inclusive, snapshots=read
        )
        slices = (whole.slice(i, PART_ROWS) for i in range(0, whole.num_rows or 1, PART_ROWS))
        rows = write_tables(path, slices)
    else:
        run = in_this_process(progress)
        rows = joined_by_stages(plan, sides, spine, path, time_column, inclusive, run, workers=1)
    return JoinReport(str(path), rows, time.monotonic() - started, read)


def join_table(
    plan: ServicePlan,
    lake: Lake,
    spine: pa.Table,
    *,
    time_column: str = EVENT_TIME,
    inclusive: bool = False,
    snapshots: Mapping[str, int] | None = None,
) -> pa.Table:
    """The same join from memory to memory, for spines and sources that fit."""
    read = read_snapshots(plan, lake, snapshots)
    sources = {
        name: scan_as_of(lake, table, read[table], columns)
        for name, (table, columns) in columns_read(plan).items()
    }
    return join_in_memory(plan, sources, spine, time_column, inclusive)


def columns_read(plan: ServicePlan) -> dict[str, tuple[str, list[str]]]:
    """By source: its table, and the columns that the plan's views need of it."""
    found: dict[str, tuple[str, list[str]]] = {}
    for view in plan.views:
        source = view.view.source
        _, columns = found.setdefault(source.name, (source.table, []))
        columns += [name for name in view.source_columns if name not in columns]
    return found


def read_snapshots(
    plan: ServicePlan, lake: Lake, given: Mapping[str, int] | None = None
) -> dict[str, int]:
    """The snapshot to read of every table: those given, else the latest (0: empty until now).

    Raises NotFound for a table that is not there, with a hint to ingest it.
    """
    tables = dict.fromkeys(view.view.source.table for view in plan.views)
    if given is not None:
        return {table: given[table] for table in tables}
    return {table: _described(lake, table) for table in tables}


def scan_as_of(lake: Lake, table: str, snapshot: int, columns: Sequence[str]) -> pa.Table:
    """Columns of a table as of a snapshot; 0 means before the first."""
    if snapshot == 0:
        return lake.describe(table).schema.empty_table().select(columns)
    return lake.scan(table, columns=columns, snapshot=snapshot)


def sides_of(
    plan: ServicePlan, lake: Lake, snapshots: Mapping[str, int]
) -> dict[str, EventFiles] | None:
    """The data files behind every source of a plan, or None for a lake that keeps none."""
    files = getattr(lake, "files", None)
    if files is None:
        return None
    sides = {}
    for name, (table, _) in columns_read(plan).items():
        found = files(table, snapshot=snapshots[table]) if snapshots[table] else []
        spec = lake.describe(table).spec
        events = tuple(EventFile(file.path, file.rows, file.bucket) for file in found)
        sides[name] = EventFiles(events, spec.bucket_by, spec.buckets)
    return sides


def joined_by_stages(
    plan: ServicePlan,
    sides: dict[str, EventFiles],
    spine: pa.Table | str | Path,
    out: Path,
    time_column: str,
    inclusive: bool,
    run: Runner,
    *,
    workers: int,
) -> int:
    """Joins through files in scratch space beside the output, which is removed in the end."""
    buckets = bucket_count(sum(side.rows for side in sides.values()), workers)
    with _scratch(out) as folder:
        job = Job(plan, time_column, inclusive, folder, buckets)
        return staged_join(job, spine, sides, out, run)


def in_this_process(progress: Progress | None = None) -> Runner:
    """Runs the tasks of a stage one after another, here."""

    def run(stage: str, task: Callable[[Work], Result], work: Sequence[Work]) -> list[Result]:
        results = []
        for done, piece in enumerate(work, 1):
            results.append(task(piece))
            if progress is not None:
                progress(f"join {stage}", done, len(work))
        return results

    return run


def _described(lake: Lake, table: str) -> int:
    try:
        return lake.describe(table).snapshot or 0
    except NotFound as error:
        raise NotFound(
            f"{error.what}, which a feature view reads",
            "Ingest it: tondo features ingest SOURCE FILE",
        ) from None


def _one(parts: Sequence[pa.Table]) -> pa.Table:
    return pa.concat_tables(parts)


@contextmanager
def _scratch(out: Path) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.absolute().parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
