"""The lake: append-only tables with snapshots, as the offline plane needs them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

import pyarrow as pa

from features.errors import BadInput, Conflict, NotFound
from features.naming import did_you_mean
from features.sources import Source

DIGEST = "tondo.digest"
"""The key under which a snapshot's summary holds the digest of what was appended."""
MARK = "tondo.mark."
"""Keys of a summary that begin so are carried into every later snapshot, until set anew."""
PARTITION, OFFSET = "__partition", "__offset"
"""The hidden columns of a source's table: where a streamed event stood in its log."""
DEFAULT_BUCKETS = 16


@dataclass(frozen=True, slots=True)
class TableSpec:
    """A table as it is to be: columns, hash buckets of one column (0: none), order in files."""

    name: str
    schema: pa.Schema
    bucket_by: str | None = None
    buckets: int = 0
    sort_by: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        namespace, _, table = self.name.rpartition(".")
        if not (namespace and table):
            raise BadInput(f"{self.name!r} names no lake table", "Write lake.<table>.")
        if (self.bucket_by is None) != (self.buckets == 0):
            raise BadInput(f"{self.name}: a bucket column and a number of buckets go together", "")
        for name in (*self.sort_by, *([self.bucket_by] if self.bucket_by else [])):
            if name not in self.schema.names:
                raise BadInput(
                    f"{self.name} has no column {name!r} to bucket or sort by",
                    did_you_mean(name, self.schema.names, "columns"),
                )


@dataclass(frozen=True, slots=True)
class TableInfo:
    """What a table is now.

    ``snapshot`` is None while it holds nothing; ``digests`` are those of its whole history,
    ``summary`` is the latest snapshot's, with every carried mark.
    """

    spec: TableSpec
    rows: int
    snapshot: int | None
    digests: frozenset[str] = frozenset()
    summary: Mapping[str, str] = field(default_factory=dict)

    @property
    def schema(self) -> pa.Schema:
        """The columns with their Arrow types."""
        return self.spec.schema


@dataclass(frozen=True, slots=True)
class Condition:
    """A comparison of a column with a value; rows where it is null do not match.

    ``operator`` is one of ``== != < <= > >= in``; times are UTC µs.
    """

    column: str
    operator: str
    value: Any


@dataclass(frozen=True, slots=True)
class Erased:
    """What an erasure did: rows removed, files looked at, files removed or replaced, and bytes."""

    rows: int = 0
    looked: int = 0
    files: int = 0
    bytes: int = 0


Matcher: TypeAlias = Callable[[pa.Table], Any]
"""Says of every row whether it is meant: an Arrow array of booleans without nulls."""
Told: TypeAlias = Callable[[str], None]
"""Hears of every step of an erasure as it begins."""

Data: TypeAlias = pa.Table | Iterable[pa.Table]
"""Rows to append: a table, or tables of the same columns that are written one after another."""


class Lake(Protocol):
    """Tables that only grow, one atomic snapshot at a time; old snapshots can be read again."""

    def create(self, table: TableSpec) -> None:
        """Makes a table, or nothing if it is there already.

        Raises Conflict if it is there with other columns.
        """
        ...

    def append(
        self, name: str, data: Data, *, digest: str = "", summary: Mapping[str, str] | None = None
    ) -> int:
        """Adds rows as one atomic snapshot and returns its id; readers see all of them or none.

        A ``digest`` (or several, with spaces between) is recorded, and refused with Conflict if the
        table's history has it. Raises BadInput for other columns than the table's, Unavailable if
        the storage is full or fails; then nothing was added.
        """
        ...

    def scan(
        self,
        name: str,
        *,
        columns: Sequence[str] | None = None,
        snapshot: int | None = None,
        where: Sequence[Condition] = (),
    ) -> pa.Table:
        """The rows for which every condition holds, as of a snapshot (default: the latest)."""
        ...

    def erase(
        self, name: str, columns: Sequence[str], matches: Matcher, told: Told | None = None
    ) -> Erased:
        """Removes rows from every snapshot, as if they had never been appended.

        ``matches`` is asked about tables with these columns. Snapshots keep their ids, other rows
        their bytes and order, digests stay known. It is one atomic step; afterwards nothing that
        is kept holds the rows any more, also not what a write or an erasure that was cut off left
        behind: then the same call again finishes it. Raises Conflict while others write.
        """
        ...

    def describe(self, name: str) -> TableInfo:
        """What the table is now. Raises NotFound with the nearest names."""
        ...

    def tables(self) -> list[str]:
        """The names of all tables, sorted."""
        ...


def source_table(source: Source, buckets: int = DEFAULT_BUCKETS) -> TableSpec:
    """The table of a source: its columns and the hidden position, bucketed and sorted by key."""
    from features.dtypes import to_arrow

    fields = [pa.field(name, to_arrow(dtype)) for name, dtype in source.columns.items()]
    fields += [pa.field(PARTITION, pa.int32()), pa.field(OFFSET, pa.int64())]
    key = source.bucket_by
    order = (*([key] if key else []), source.event_time)
    return TableSpec(source.table, pa.schema(fields), key, buckets if key else 0, order)


def with_table_schema(source: Source, lake: Lake) -> Source:
    """The source with its table's columns, unless it declares its own."""
    if source.schema is not None:
        return source
    from features.dtypes import from_arrow

    stored = lake.describe(source.table).schema
    visible = [f for f in stored if f.name not in (PARTITION, OFFSET)]
    return source.with_schema({f.name: from_arrow(f.type) for f in visible})


def conform(name: str, schema: pa.Schema, data: pa.Table) -> pa.Table:
    """The rows with exactly a table's columns, in its order; missing columns are null.

    Raises BadInput for a column that the table does not have, or of another type.
    """
    for column in data.column_names:
        if column not in schema.names:
            raise BadInput(
                f"{name} has no column {column!r}", did_you_mean(column, schema.names, "columns")
            )
    arrays = [_column(name, data, wanted) for wanted in schema]
    return pa.Table.from_arrays(arrays, schema=schema)


def _column(name: str, data: pa.Table, wanted: pa.Field) -> pa.ChunkedArray:
    if wanted.name not in data.column_names:
        return pa.chunked_array([pa.nulls(data.num_rows, wanted.type)])
    column = data.column(wanted.name)
    if column.type == wanted.type:
        return column
    try:
        return column.cast(wanted.type)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise BadInput(
            f"{name}.{wanted.name} is {wanted.type}, not {column.type}: {error}",
            "Convert the column before it is appended.",
        ) from None


def check_same(known: TableSpec, wanted: TableSpec) -> None:
    """Refuses, with Conflict, a table that is there already but has other columns."""
    ours, theirs = _columns(wanted), _columns(known)
    changed = sorted(f"{n}: {t}" for n, t in ours.items() ^ theirs.items())
    if changed:
        raise Conflict(
            f"{known.name} is there already with other columns ({', '.join(changed)})",
            "Give the source another table, or its old schema.",
        )


def _columns(spec: TableSpec) -> dict[str, str]:
    return {field.name: str(field.type) for field in spec.schema}


def unknown_table(name: str, known: Iterable[str]) -> NotFound:
    """The error for a table that is not there, with the nearest names."""
    return NotFound(f"the lake has no table {name!r}", did_you_mean(name, known, "tables"))


def unknown_snapshot(name: str, snapshot: int) -> NotFound:
    """The error for a snapshot that is not there (any more)."""
    return NotFound(f"{name} has no snapshot {snapshot}", "It may have been expired.")


def check_columns(spec: TableSpec, columns: Sequence[str] | None) -> list[str]:
    """The columns to read (all, if None). Raises NotFound for one the table does not have."""
    names = list(spec.schema.names)
    for column in columns or ():
        if column not in names:
            raise NotFound(
                f"{spec.name} has no column {column!r}", did_you_mean(column, names, "columns")
            )
    return names if columns is None else list(columns)


def digests_of(summary: Mapping[str, str]) -> list[str]:
    """The digests that one snapshot recorded: one for each thing it took in."""
    return summary.get(DIGEST, "").split()


def refuse_repeated(name: str, known: Collection[str], digest: str) -> None:
    """Refuses, with Conflict, content that a table holds already."""
    held = [one for one in digest.split() if one in known]
    if held:
        raise Conflict(f"{name} holds this content already ({held[0]})", "Force it with --again.")


def carried_marks(summary: Mapping[str, str]) -> dict[str, str]:
    """The entries of a summary that the next snapshot must repeat."""
    return {key: value for key, value in summary.items() if key.startswith(MARK)}
