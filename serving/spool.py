"""The spool between replicas and the lake: many writers, one committer, every record exactly once.

A replica writes each batch as one Arrow file, complete before it gets its name. The committer first
writes down which files make its next batch, then appends them to the lake under the batch's digest,
then deletes the files and the note. After a crash anywhere it finds the note: if the lake already
has the digest it only cleans up, else it appends the same files again.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from uuid import uuid4

import orjson
import pyarrow as pa

_NOTE = "batch.json"
_FILES_A_BATCH = 512


class PredictionTable(Protocol):
    """The lake as the committer needs it."""

    def has(self, table: str, digest: str) -> bool:
        """True if a batch of this digest is already in the table."""
        ...

    def append(self, table: str, records: pa.Table, digest: str) -> None:
        """Appends a batch, creating the table with the batch's columns if there is none."""
        ...


class SpoolSink:
    """A ``PredictionSink`` of files: one directory per lake table, one file per batch."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._sequence = 0

    def write(self, table: str, records: pa.Table) -> None:
        """Writes a batch; readers see the whole file or none."""
        directory = self._directory / table
        directory.mkdir(parents=True, exist_ok=True)
        self._sequence += 1
        name = f"{self._sequence:010d}-{uuid4().hex}.arrow"
        partial = directory / f".{name}"
        with partial.open("wb") as file:
            with pa.ipc.new_file(file, records.schema) as out:
                out.write_table(records)
            file.flush()
            # Or a machine that loses its power may come back with an empty file of the whole name.
            os.fsync(file.fileno())
        partial.rename(directory / name)


@dataclass(frozen=True, slots=True)
class Committed:
    """What one call put into the lake: rows per table."""

    rows: dict[str, int]

    @property
    def total(self) -> int:
        """Rows over all tables."""
        return sum(self.rows.values())


class SpoolCommitter:
    """Moves the spool into the lake; a lock file keeps a second committer out."""

    def __init__(self, directory: Path, lake: PredictionTable) -> None:
        self._directory = directory
        self._lake = lake

    def commit(self) -> Committed:
        """Appends everything spooled before the call, each record exactly once.

        A table that fails keeps its records and holds no other table up; its error is raised at
        the end.
        """
        self._directory.mkdir(parents=True, exist_ok=True)
        with _locked(self._directory / ".lock"):
            tables = sorted(p for p in self._directory.iterdir() if p.is_dir())
            drained = {p.name: self._tried(p) for p in tables}
        failures = [rows for rows in drained.values() if isinstance(rows, Exception)]
        if failures:
            raise failures[0]
        return Committed({n: r for n, r in drained.items() if isinstance(r, int) and r})

    def _tried(self, directory: Path) -> int | Exception:
        try:
            return self._drain(directory)
        except Exception as error:
            return error

    def _drain(self, directory: Path) -> int:
        rows = 0
        for names in self._batches(directory):
            rows += self._commit_batch(directory, names)
        return rows

    def _batches(self, directory: Path) -> Iterator[list[str]]:
        """The batch a crash left behind, then new ones, one schema each."""
        note = directory / _NOTE
        if note.exists():
            yield orjson.loads(note.read_bytes())
        names = sorted(p.name for p in directory.glob("[!.]*.arrow"))
        for group in _by_schema(directory, names):
            for start in range(0, len(group), _FILES_A_BATCH):
                batch = group[start : start + _FILES_A_BATCH]
                _write_note(note, batch)
                yield batch

    def _commit_batch(self, directory: Path, names: list[str]) -> int:
        digest = hashlib.sha256(orjson.dumps(names)).hexdigest()
        rows = 0
        if not self._lake.has(directory.name, digest):
            records = pa.concat_tables(_read(directory / name) for name in names)
            self._lake.append(directory.name, records, digest)
            rows = records.num_rows
        for name in names:
            (directory / name).unlink(missing_ok=True)
        (directory / _NOTE).unlink()
        return rows


def _by_schema(directory: Path, names: list[str]) -> list[list[str]]:
    groups: dict[str, list[str]] = {}
    for name in names:
        with pa.memory_map(str(directory / name)) as file:
            schema = pa.ipc.open_file(file).schema
        groups.setdefault(schema.to_string(), []).append(name)
    return list(groups.values())


def _write_note(path: Path, names: list[str]) -> None:
    partial = path.with_suffix(".part")
    with partial.open("wb") as file:
        file.write(orjson.dumps(names))
        file.flush()
        os.fsync(file.fileno())
    partial.rename(path)


def _read(path: Path) -> pa.Table:
    with pa.OSFile(str(path)) as file:
        return pa.ipc.open_file(file).read_all()


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
