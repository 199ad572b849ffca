"""Files through the log: their rows appended once each, even if a crash comes in between.

Every row says in the log which file it is of and its number in its partition, in a column that no
source has. So what an interrupted try has appended is found, and the next one goes on behind it.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from features.errors import BadInput, Conflict
from features.offline.buckets import bucket_of
from features.offline.files import check_file, file_columns, file_digest
from features.offline.ingest import typed_rows
from features.offline.typed import check_columns
from features.sources import Source
from features.stream.log import EventLog
from features.stream.segment import storage

ORIGIN = "__origin"
"""The column of a row in the log that says which file it came from, and as which of its rows."""
_ROWS = 10_000
_PLACEABLE = ("str", "int", "bool", "time")
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Appended:
    """Rows of the files that are new, files that were there, columns that the source has not."""

    rows: int
    skipped: tuple[str, ...]
    ignored: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Try:
    """One reading of a file into the log, of which its rows are behind the offsets ``starts``.

    Number 0 is that of a file that was never read.
    """

    digest: str
    number: int
    starts: tuple[int, ...]
    state: str

    @property
    def is_done(self) -> bool:
        return self.state == "done"

    @property
    def origin(self) -> str:
        return f"{self.digest.removeprefix('sha256:')[:16]}.{self.number}:"


def append_files(
    log: EventLog,
    source: Source,
    files: Sequence[Path],
    folder: Path,
    *,
    again: bool = False,
    progress: Progress | None = None,
) -> Appended:
    """Appends the files' rows to the log, each to the partition of its key.

    ``folder`` remembers the files; those that the log has already are skipped, unless ``again``.
    Raises what ``ingest`` raises for a file that is not what the source declares, before anything
    was appended; Conflict if somebody else appends files, or anything else, now.
    """
    ignored = _ignored(source, files)
    with storage(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder):
        tries = {path: _last_try(folder, file_digest(path)) for path in files}
        todo = {t.digest: p for p, t in tries.items() if again or not t.is_done}
        total = sum(rows.num_rows for path in todo.values() for rows in typed_rows(source, path))
        done = 0
        for path in todo.values():
            this = _begun(folder, log, tries[path])
            for count in _append(log, source, path, this):
                done += count
                if progress is not None:
                    progress(f"append {source.stream}", done, max(done, total))
            _write(folder, replace(this, state="done"))
    skipped = tuple(str(path) for path in files if path not in todo.values())
    return Appended(done, skipped, ignored)


def check_finished(folder: Path) -> None:
    """Raises Conflict if the reading of a file was cut off and has not been finished yet."""
    for path in sorted(folder.glob("*.json")):
        if _last_try(folder, path.stem).state == "begun":
            raise Conflict(
                f"a file is only half in the log of {folder.parent.name}",
                "finish it first: give the same file to tondo features ingest --stream again",
            )


def partitions_of(source: Source, rows: pa.Table, partitions: int) -> list[int]:
    """The partition of every row, by the column that the source is bucketed by, else its first."""
    if partitions == 1:
        return [0] * rows.num_rows
    columns = source.columns
    usable = [name for name, dtype in columns.items() if dtype in _PLACEABLE]
    name = source.bucket_by if source.bucket_by in usable else usable[0]
    places: list[int] = bucket_of(rows.select([name]), partitions).tolist()
    return places


def _ignored(source: Source, files: Sequence[Path]) -> tuple[str, ...]:
    if not files:
        raise BadInput("no file was named", "Name one or more .parquet, .csv or .ndjson files.")
    ignored: dict[str, None] = {}
    for path in files:
        check_file(path)
        ignored |= dict.fromkeys(check_columns(path.name, file_columns(path), source.columns))
    return tuple(ignored)


def _append(log: EventLog, source: Source, path: Path, this: _Try) -> Iterator[int]:
    """Appends what is not there yet; yields how many rows were looked at."""
    for partition in range(log.partitions):
        log.append(partition, [])  # what an earlier try left in doubt must not come after the look
    known = [_known(log, partition, this) for partition in range(log.partitions)]
    seen = [0] * log.partitions
    for rows in _pieces(source, path):
        places = np.array(partitions_of(source, rows, log.partitions))
        for partition in np.unique(places).tolist():
            mine = _as_dicts(rows.filter(pa.array(places == partition)))
            numbered = [
                row | {ORIGIN: f"{this.origin}{number}"}
                for number, row in enumerate(mine, seen[partition])
                if number >= known[partition]
            ]
            log.append(partition, numbered)
            seen[partition] += len(mine)
        yield rows.num_rows


def _pieces(source: Source, path: Path) -> Iterator[pa.Table]:
    for rows in typed_rows(source, path):
        for start in range(0, rows.num_rows, _ROWS):
            yield rows.slice(start, _ROWS)


def _known(log: EventLog, partition: int, this: _Try) -> int:
    """How many of the file's rows for a partition are in the log."""
    known, offset = 0, this.starts[partition]
    while events := log.read(partition, offset, _ROWS):
        for event in events:
            origin = event.row.get(ORIGIN)
            if isinstance(origin, str) and origin.startswith(this.origin):
                known = int(origin.removeprefix(this.origin)) + 1
        offset = events[-1].offset + 1
    return known


def _as_dicts(rows: pa.Table) -> list[dict[str, Any]]:
    """Rows as a log has them: times are µs."""
    columns = [_plain(rows.column(name)) for name in rows.column_names]
    return [dict(zip(rows.column_names, row, strict=True)) for row in zip(*columns, strict=True)]


def _plain(column: pa.ChunkedArray) -> list[Any]:
    is_time = pa.types.is_timestamp(column.type)
    return list((pc.cast(column, pa.int64()) if is_time else column).to_pylist())


def _last_try(folder: Path, digest: str) -> _Try:
    path = _record(folder, digest)
    with storage(path):
        if not path.exists():
            return _Try(digest, 0, (), "new")
        data: Mapping[str, Any] = orjson.loads(path.read_bytes())
    return _Try(digest, data["number"], tuple(data["starts"]), data["state"])


def _begun(folder: Path, log: EventLog, last: _Try) -> _Try:
    """The try that was interrupted, or a new one, written down before its first row."""
    if last.state == "begun":
        return last
    starts = tuple(log.end(partition) for partition in range(log.partitions))
    this = _Try(last.digest, last.number + 1, starts, "begun")
    _write(folder, this)
    return this


def _write(folder: Path, this: _Try) -> None:
    path = _record(folder, this.digest)
    partial = path.with_suffix(".part")
    data = {"number": this.number, "starts": this.starts, "state": this.state}
    with storage(path):
        with partial.open("wb") as file:
            file.write(orjson.dumps(data))
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _record(folder: Path, digest: str) -> Path:
    return folder / f"{digest.removeprefix('sha256:')}.json"


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Nobody else appends files meanwhile; a process that dies lets go."""
    with storage(folder):
        descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Conflict(
                f"somebody else appends files to the log of {folder.parent.name}",
                "try again when that is done",
            ) from None
        yield
    finally:
        os.close(descriptor)
