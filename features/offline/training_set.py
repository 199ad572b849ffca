"""Training sets that can be made again: what was joined, as of which snapshots, to which bytes."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from features.clock import Clock, SystemClock
from features.errors import Conflict, DamagedData, NotFound
from features.naming import did_you_mean
from features.offline.files import file_digest
from features.offline.join import JoinReport, join_local, read_snapshots
from features.offline.lake import Lake
from features.offline.outputs import write_tables
from features.offline.spine import EVENT_TIME, spine_parts
from features.plan import ServicePlan
from features.serial import canonical, from_data, to_data

Split = tuple[int | None, int | None]
"""From and until, UTC µs of the time column; the end does not belong; None is open."""
RECORD, SPINE, DATA = "record.json", "spine.parquet", "data.parquet"


class Join(Protocol):
    """A point-in-time join of a lake that is already chosen, here or on Ray."""

    def __call__(
        self,
        plan: ServicePlan,
        spine: Path,
        out: Path,
        *,
        time_column: str,
        inclusive: bool,
        snapshots: Mapping[str, int],
    ) -> JoinReport:
        """Writes the joined spine to ``out``."""
        ...


@dataclass(frozen=True, slots=True)
class TrainingSet:
    """The record of a training set; ``id`` follows from everything that decides its content.

    ``plan`` is the service's plan as data, ``snapshots`` are by table, ``digest`` is that of the
    data file's bytes, ``created_at`` is UTC µs. ``erased``: rows of it, or events that it was made
    from, were erased since, so it can no longer be made again.
    """

    id: str
    service: str
    fingerprint: str
    plan: Mapping[str, Any]
    time_column: str
    inclusive: bool
    spine_digest: str
    snapshots: Mapping[str, int]
    rows: int
    digest: str
    created_at: int
    folder: str
    splits: Mapping[str, Split] = field(default_factory=dict)
    erased: bool = False

    @property
    def path(self) -> Path:
        """The data: the spine's columns and one per feature, as Parquet."""
        return Path(self.folder) / DATA

    @property
    def spine(self) -> Path:
        """The spine it was made from, as Parquet."""
        return Path(self.folder) / SPINE

    def table(self, split: str | None = None) -> pa.Table:
        """The rows, or those of one split. Raises NotFound for a split that was not declared."""
        rows = pq.read_table(self.path)
        if split is None:
            return rows
        if split not in self.splits:
            raise NotFound(f"no split {split!r}", did_you_mean(split, self.splits, "splits"))
        return _between(rows, self.time_column, self.splits[split])


def build_training_set(
    plan: ServicePlan,
    lake: Lake,
    spine: pa.Table | str | Path,
    folder: str | Path,
    *,
    time_column: str = EVENT_TIME,
    inclusive: bool = False,
    splits: Mapping[str, Split] | None = None,
    join: Join | None = None,
    clock: Clock | None = None,
) -> TrainingSet:
    """Joins a spine and keeps spine, result and record under ``folder/<id>``, all or nothing.

    The same plan, spine and snapshots give the training set that is there already.
    """
    snapshots = read_snapshots(plan, lake)
    with _new_folder(Path(folder)) as made:
        write_tables(made / SPINE, spine_parts(spine, plan, time_column))
        record = {
            "plan": to_data(plan),
            "time_column": time_column,
            "inclusive": inclusive,
            "spine_digest": file_digest(made / SPINE),
            "snapshots": snapshots,
            "splits": {name: list(split) for name, split in (splits or {}).items()},
        }
        id = hashlib.sha256(canonical(record)).hexdigest()[:16]
        final = Path(folder).absolute() / id
        if final.is_dir():
            return load_training_set(final)
        join = join or local_join(lake)
        report = join(
            plan,
            made / SPINE,
            made / DATA,
            time_column=time_column,
            inclusive=inclusive,
            snapshots=snapshots,
        )
        record |= {
            "id": id,
            "service": plan.name,
            "fingerprint": plan.fingerprint,
            "rows": report.rows,
            "digest": file_digest(made / DATA),
            "created_at": (clock or SystemClock()).now(),
        }
        (made / RECORD).write_bytes(orjson.dumps(record, option=orjson.OPT_INDENT_2))
        os.replace(made, final)
    return load_training_set(final)


def load_training_set(folder: str | Path) -> TrainingSet:
    """The record in a training set's folder. Raises NotFound or DamagedData."""
    path = Path(folder) / RECORD
    if not path.exists():
        raise NotFound(f"there is no training set in {folder}", "Build it first.")
    try:
        data = orjson.loads(path.read_bytes())
        splits = {name: (start, end) for name, (start, end) in data["splits"].items()}
        return TrainingSet(**{**data, "splits": splits, "folder": str(Path(folder).absolute())})
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        raise DamagedData(f"{path} is no record of a training set: {error}", "") from None


def rebuild(training_set: TrainingSet, out: str | Path, join: Join) -> JoinReport:
    """Makes the data again from the recorded snapshots and checks that the bytes are the same.

    Raises DamagedData if they differ, NotFound if a snapshot is gone, Conflict if it is erased.
    """
    if training_set.erased:
        raise Conflict(
            f"training set {training_set.id} is erased: rows were removed from it, or from what it "
            "was made from, so it cannot be made again bit for bit",
            "Build a new training set.",
        )
    path = Path(out)
    report = join(
        from_data(training_set.plan),
        training_set.spine,
        path,
        time_column=training_set.time_column,
        inclusive=training_set.inclusive,
        snapshots=training_set.snapshots,
    )
    digest = file_digest(path)
    if digest != training_set.digest:
        raise DamagedData(
            f"training set {training_set.id} was {training_set.digest}, and is now {digest}",
            "Its spine, the lake's files or the code that computes features have changed.",
        )
    return report


def local_join(lake: Lake) -> Join:
    """The join of a lake in this process."""

    def join(
        plan: ServicePlan,
        spine: Path,
        out: Path,
        *,
        time_column: str,
        inclusive: bool,
        snapshots: Mapping[str, int],
    ) -> JoinReport:
        return join_local(
            plan,
            lake,
            spine,
            out,
            time_column=time_column,
            inclusive=inclusive,
            snapshots=snapshots,
        )

    return join


def _between(rows: pa.Table, time_column: str, split: Split) -> pa.Table:
    times = rows.column(time_column).cast(pa.timestamp("us", tz="UTC")).cast(pa.int64())
    start, end = split
    if start is not None:
        chosen = pc.fill_null(pc.greater_equal(times, start), False)
        rows, times = rows.filter(chosen), times.filter(chosen)
    return rows if end is None else rows.filter(pc.fill_null(pc.less(times, end), False))


@contextmanager
def _new_folder(parent: Path) -> Iterator[Path]:
    parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=".making-", dir=parent))
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)
