"""The lake as Apache Iceberg tables: SQLite catalog, warehouse on a local or shared disk.

Layout under the root: ``catalog.db`` and one folder per table. Paths are recorded as absolute, so
a lake does not move. Appends from several processes are safe (each commits by compare-and-set and
tries again), but one committer per table is the intended use: every lost race costs a commit.
"""

from __future__ import annotations

import errno
import itertools
import random
import sqlite3
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.exceptions import CommitFailedException, NoSuchTableError, TableAlreadyExistsError
from pyiceberg.io.pyarrow import ArrowScan, _dataframe_to_data_files
from pyiceberg.manifest import DataFile
from pyiceberg.table import FileScanTask, Table

from features.errors import Conflict, Unavailable
from features.offline.filters import check_operators, matching
from features.offline.iceberg.erasure import Erasure
from features.offline.iceberg.locks import erasing, writing
from features.offline.iceberg.tables import (
    bucketed,
    iceberg_schema,
    partition_spec,
    pushed,
    sort_order,
    spec_of,
)
from features.offline.lake import (
    DIGEST,
    Condition,
    Data,
    Erased,
    Matcher,
    TableInfo,
    TableSpec,
    Told,
    carried_marks,
    check_columns,
    check_same,
    conform,
    digests_of,
    refuse_repeated,
    unknown_snapshot,
    unknown_table,
)

PATIENCE_SECONDS = 60.0
"""How long an append goes on trying while others commit to the same table."""

_PROPERTIES = {
    "commit.manifest-merge.enabled": "true",
    "commit.manifest.min-count-to-merge": "50",
    "commit.retry.num-retries": "0",  # the digest must be looked at before each try: ours, below
    "write.metadata.delete-after-commit.enabled": "true",
    "write.metadata.previous-versions-max": "20",
}


@dataclass(frozen=True, slots=True)
class LakeFile:
    """One data file of a snapshot; ``bucket`` is None without buckets and for null keys."""

    table: str
    snapshot: int
    bucket: int | None
    rows: int
    data: DataFile

    @property
    def path(self) -> str:
        """Where the Parquet file is, as the file system knows it."""
        return str(self.data.file_path).removeprefix("file://")


@dataclass(frozen=True, slots=True)
class StagedFiles:
    """Data files that are written but not committed: nobody sees them yet. Can be pickled."""

    write_id: str
    rows: int
    files: tuple[DataFile, ...]


class IcebergLake:
    """Iceberg tables below a folder; opening one twice, in any process, is fine."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root).absolute()
        with _told(f"the lake at {self.root}"):
            self.root.mkdir(parents=True, exist_ok=True)
            self._catalog = _open_catalog(self.root)

    def __reduce__(self) -> tuple[Any, ...]:
        return IcebergLake, (str(self.root),)

    def create(self, table: TableSpec) -> None:
        """Makes a table, or nothing if it is there already; Conflict for other columns."""
        if self._catalog.table_exists(table.name):
            return check_same(spec_of(table.name, self._table(table.name)), table)
        namespace = table.name.rpartition(".")[0]
        with _told(table.name):
            self._catalog.create_namespace_if_not_exists(namespace)
            try:
                self._create(table)
            except TableAlreadyExistsError:
                check_same(spec_of(table.name, self._table(table.name)), table)

    def _create(self, table: TableSpec) -> None:
        schema = iceberg_schema(table)
        self._catalog.create_table(
            table.name,
            schema,
            partition_spec=partition_spec(table, schema),
            sort_order=sort_order(table, schema),
            properties=_PROPERTIES,
        )

    def append(
        self, name: str, data: Data, *, digest: str = "", summary: Mapping[str, str] | None = None
    ) -> int:
        """Adds rows as one snapshot, sorted and bucketed, and returns its id."""
        _refuse_repeated(name, self._table(name), digest)
        with writing(self.root, name):
            return self.commit(name, [self.stage(name, data)], digest=digest, summary=summary)

    def writing(self, name: str) -> AbstractContextManager[None]:
        """Held by whoever stages files in one process and commits them in another.

        Raises Conflict while rows are being erased.
        """
        return writing(self.root, name)

    def erase(
        self, name: str, columns: Sequence[str], matches: Matcher, told: Told | None = None
    ) -> Erased:
        """Removes rows from every snapshot, as if they had never been appended."""
        check_columns(spec_of(name, self._table(name)), columns)
        with erasing(self.root, name), _told(name):
            erasure = Erasure(self._table(name), self.root / "catalog.db", told or _silent)

            def read(data: DataFile, wanted: Sequence[str] | None) -> pa.Table:
                return self.read(name, [_lake_file(name, 0, data)], columns=wanted)

            return erasure.run(columns, matches, read)

    def stage(self, name: str, data: Data, write_id: uuid.UUID | None = None) -> StagedFiles:
        """Writes rows as files that nobody sees until they are committed.

        Tables of an iterable are written one after another, so memory holds one of them.
        """
        table = self._table(name)
        spec = spec_of(name, table)
        write_id, counter = write_id or uuid.uuid4(), itertools.count()
        files: list[DataFile] = []
        try:
            with _told(name):
                for rows in [data] if isinstance(data, pa.Table) else data:
                    for part in bucketed(spec, conform(name, spec.schema, rows)):
                        written = _dataframe_to_data_files(
                            table.metadata, part, table.io, write_id, counter
                        )
                        files += written
        except BaseException:
            _remove(table, [str(write_id)])
            raise
        return StagedFiles(str(write_id), sum(f.record_count for f in files), tuple(files))

    def commit(
        self,
        name: str,
        staged: Sequence[StagedFiles],
        *,
        digest: str = "",
        summary: Mapping[str, str] | None = None,
    ) -> int:
        """Makes staged files visible as one atomic snapshot; if that fails, removes them."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        try:
            with _told(name):
                for attempt in itertools.count():
                    try:
                        return self._try_commit(name, staged, digest, summary or {})
                    except CommitFailedException:
                        if time.monotonic() > deadline:
                            raise
                        time.sleep(random.uniform(0, min(1.0, 0.01 * 2**attempt)))
        except BaseException:
            self.discard(name, staged)
            raise
        raise AssertionError("an endless loop ended")

    def _try_commit(
        self, name: str, staged: Sequence[StagedFiles], digest: str, summary: Mapping[str, str]
    ) -> int:
        table = self._table(name)
        _refuse_repeated(name, table, digest)
        told = carried_marks(_summary(table)) | dict(summary) | ({DIGEST: digest} if digest else {})
        with table.transaction() as transaction:
            update = transaction.update_snapshot(snapshot_properties=told)
            with update.merge_append() as append:
                for file in itertools.chain.from_iterable(group.files for group in staged):
                    append.append_data_file(file)
        return int(append.snapshot_id)

    def discard(self, name: str, staged: Sequence[StagedFiles]) -> None:
        """Removes staged files, unless they turn out to be committed."""
        known = {file.data.file_path for file in self.files(name)}
        if not any(file.file_path in known for group in staged for file in group.files):
            _remove(self._table(name), [group.write_id for group in staged])

    def scan(
        self,
        name: str,
        *,
        columns: Sequence[str] | None = None,
        snapshot: int | None = None,
        where: Sequence[Condition] = (),
    ) -> pa.Table:
        """The rows for which every condition holds, as of a snapshot."""
        files = self.files(name, snapshot=snapshot, where=where)
        return self.read(name, files, columns=columns, where=where)

    def files(
        self, name: str, *, snapshot: int | None = None, where: Sequence[Condition] = ()
    ) -> list[LakeFile]:
        """The data files that can hold matching rows, in the order of their paths."""
        table = self._table(name)
        check_operators(where)
        check_columns(spec_of(name, table), [condition.column for condition in where])
        found = _snapshot_id(name, table, snapshot)
        if found is None:
            return []
        with _told(name):
            tasks = list(table.scan(row_filter=pushed(where), snapshot_id=found).plan_files())
        return [_lake_file(name, found, task.file) for task in sorted(tasks, key=_path)]

    def read(
        self,
        name: str,
        files: Sequence[LakeFile],
        *,
        columns: Sequence[str] | None = None,
        where: Sequence[Condition] = (),
    ) -> pa.Table:
        """The rows of some data files for which every condition holds."""
        table = self._table(name)
        spec = spec_of(name, table)
        wanted = check_columns(spec, columns)
        read = list(dict.fromkeys([*wanted, *(condition.column for condition in where)]))
        schema = pa.schema([spec.schema.field(column) for column in read])
        if not files or not read:
            return schema.empty_table().select(wanted)
        with _told(name):
            scan = ArrowScan(table.metadata, table.io, table.schema().select(*read), pushed(where))
            rows = scan.to_table([FileScanTask(file.data) for file in files])
        return matching(rows.select(read).cast(schema), where).select(wanted)

    def describe(self, name: str) -> TableInfo:
        """What the table is now."""
        table = self._table(name)
        latest = table.current_snapshot()
        spec = spec_of(name, table)
        if latest is None:
            return TableInfo(spec, 0, None)
        summary = _summary(table)
        rows = int(summary.get("total-records", 0))
        return TableInfo(spec, rows, latest.snapshot_id, _digests(table), summary)

    def tables(self) -> list[str]:
        """The names of all tables, sorted."""
        names = (self._catalog.list_tables(space) for space in self._catalog.list_namespaces())
        return sorted(".".join(name) for name in itertools.chain.from_iterable(names))

    def _table(self, name: str) -> Table:
        try:
            with _told(name):
                return self._catalog.load_table(name)
        except NoSuchTableError:
            raise unknown_table(name, self.tables()) from None


def _open_catalog(root: Path) -> SqlCatalog:
    uri, warehouse = f"sqlite:///{root}/catalog.db?timeout=30", f"file://{root}"
    try:
        return SqlCatalog("tondo", uri=uri, warehouse=warehouse)
    except Exception as error:
        if _sqlite_error(error) is None:
            raise
    return SqlCatalog("tondo", uri=uri, warehouse=warehouse)  # another process was making it


@contextmanager
def _told(what: str) -> Iterator[None]:
    """Turns a storage's own errors into ours."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _full(what) from error
        raise Unavailable(f"{what}: {error}", "Check the disk and its permissions.") from error
    except CommitFailedException as error:
        raise Conflict(f"{what}: others kept committing to it", "Use one committer.") from error
    except Exception as error:
        told = _sqlite_error(error)
        if told is None:
            raise
        if "full" in str(told):
            raise _full(what) from error
        raise Unavailable(f"the lake's catalog fails: {told}", "Try again.") from error


def _silent(step: str) -> None:
    return None


def _full(what: str) -> Unavailable:
    return Unavailable(
        f"no space left on the disk while writing {what}; nothing was added",
        "Free some space, or set TONDO_HOME to a larger disk, and run the same again.",
    )


def _sqlite_error(error: Exception) -> sqlite3.Error | None:
    """What SQLite said, if it is behind an error of the catalog's database layer."""
    told = getattr(error, "orig", None)
    return told if isinstance(told, sqlite3.Error) else None


def _lake_file(name: str, snapshot: int, data: DataFile) -> LakeFile:
    bucket = data.partition[0] if len(data.partition) else None
    return LakeFile(name, snapshot, bucket, data.record_count, data)


def _path(task: FileScanTask) -> str:
    return str(task.file.file_path)


def _snapshot_id(name: str, table: Table, snapshot: int | None) -> int | None:
    if snapshot is None:
        latest = table.current_snapshot()
        return None if latest is None else latest.snapshot_id
    if table.snapshot_by_id(snapshot) is None:
        raise unknown_snapshot(name, snapshot)
    return snapshot


def _summary(table: Table) -> dict[str, str]:
    latest = table.current_snapshot()
    if latest is None or latest.summary is None:
        return {}
    return dict(latest.summary.additional_properties)


def _digests(table: Table) -> frozenset[str]:
    summaries = (s.summary.additional_properties for s in table.snapshots() if s.summary)
    return frozenset(digest for summary in summaries for digest in digests_of(summary))


def _refuse_repeated(name: str, table: Table, digest: str) -> None:
    refuse_repeated(name, _digests(table), digest)


def _remove(table: Table, write_ids: Sequence[str]) -> None:
    data = Path(table.location().removeprefix("file://")) / "data"
    for write_id in write_ids:
        for path in data.rglob(f"*{write_id}*"):
            path.unlink(missing_ok=True)
