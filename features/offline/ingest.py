"""Files into the lake: typed, screened, once each, all of them or none."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from features.clock import Clock, SystemClock
from features.dtypes import from_arrow
from features.durations import DAY
from features.errors import BadInput, Conflict, DefinitionError
from features.offline.files import (
    check_file,
    file_columns,
    file_digest,
    parquet_schema,
    read_pieces,
    row_count,
)
from features.offline.lake import Lake, TableSpec, source_table
from features.offline.typed import check_columns, typed
from features.sources import Source

FUTURE_TOLERANCE = DAY
"""How far ahead of the clock a row may say it became available, in µs (PALETTE §3.9)."""
Progress = Callable[[str, int, int], None]
"""Told what goes on, how much of it is done, and of how much (0: unknown)."""
REASON, FILE = "__reason", "__file"
"""The columns that a dead letter has beside those of its source."""


@dataclass(frozen=True, slots=True)
class IngestReport:
    """What became of the files.

    ``rows`` entered the table; ``refused`` say they become available in the future and
    ``malformed`` lack a time: both went to the dead-letter table. ``ignored`` columns are not in
    the source's schema. ``skipped`` files were in the table already; ``nothing_to_do`` if all were.
    """

    table: str
    rows: int = 0
    refused: int = 0
    malformed: int = 0
    snapshot: int | None = None
    nothing_to_do: bool = False
    skipped: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()


def ingest(
    lake: Lake,
    source: Source,
    files: Iterable[str | Path],
    *,
    again: bool = False,
    clock: Clock | None = None,
    progress: Progress | None = None,
) -> IngestReport:
    """Adds the files to the source's table in one atomic snapshot.

    Files that the table holds already (by the digest of their bytes) are skipped, unless
    ``again``. Raises NotFound for a missing file, BadInput with file, column and row for data
    that is not what the source declares, Unavailable if the disk is full; then nothing was added.
    """
    paths = [Path(file) for file in files]
    source = resolved_source(lake, source, paths)
    intake = open_intake(lake, source, paths, again=again)
    if not intake.todo:
        return nothing_to_do(lake, intake)
    screen = Screen(source, (clock or SystemClock()).now() + FUTURE_TOLERANCE)
    pieces = _typed_pieces(intake, screen, progress)
    try:
        digest = intake.digest
        data = _then(pieces, lambda: store_dead_letters(lake, source, screen.dead, digest))
        snapshot = lake.append(source.table, data, digest=digest)
    except Conflict:
        if again or not _all_there(lake, intake):
            raise
        return nothing_to_do(lake, intake)
    return intake.report(screen.counts, snapshot)


@dataclass(frozen=True, slots=True)
class Counts:
    """How many rows may enter, and how many become dead letters."""

    accepted: int = 0
    refused: int = 0
    malformed: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.accepted + other.accepted,
            self.refused + other.refused,
            self.malformed + other.malformed,
        )


@dataclass(frozen=True, slots=True)
class Intake:
    """What is to be done: the files still to be read, and the digest to record with them."""

    source: Source
    todo: tuple[Path, ...]
    skipped: tuple[str, ...]
    digests: tuple[str, ...]
    digest: str
    ignored: tuple[str, ...]

    def report(self, counts: Counts, snapshot: int) -> IngestReport:
        """The report of an intake that was committed."""
        return IngestReport(
            self.source.table,
            counts.accepted,
            counts.refused,
            counts.malformed,
            snapshot,
            skipped=self.skipped,
            ignored=self.ignored,
        )


def open_intake(
    lake: Lake, source: Source, paths: Sequence[Path], *, again: bool = False
) -> Intake:
    """Checks the files' columns, makes the table and finds what it does not hold yet."""
    ignored = _ignored_columns(source, paths)
    lake.create(source_table(source))
    known = lake.describe(source.table).digests
    digests = {path: file_digest(path) for path in paths}
    fresh = {digest: path for path, digest in digests.items() if digest not in known}
    todo = tuple(paths) if again else tuple(fresh.values())
    skipped = tuple(str(path) for path in paths if path not in todo)
    return Intake(source, todo, skipped, tuple(digests.values()), " ".join(fresh), ignored)


def resolved_source(lake: Lake, source: Source, paths: Sequence[Path]) -> Source:
    """The source with a schema: its own, else its table's, else that of the first Parquet file."""
    if not paths:
        raise BadInput("no file was named", "Name one or more .parquet, .csv or .ndjson files.")
    for path in paths:
        check_file(path)
    if source.schema is not None:
        return source
    if source.table in lake.tables():
        from features.offline.lake import with_table_schema

        return with_table_schema(source, lake)
    schema = parquet_schema(paths[0])
    if schema is None:
        raise DefinitionError(
            f"source {source.name!r} declares no schema, and {paths[0].name} has no types",
            "Declare schema={…}, or begin with a Parquet file.",
        )
    return source.with_schema({field.name: from_arrow(field.type) for field in schema})


@dataclass(slots=True)
class Screen:
    """Tells rows that may enter from dead letters, and counts both.

    ``latest`` is the latest time, UTC µs, at which a row may say it became available.
    """

    source: Source
    latest: int
    counts: Counts = Counts()
    dead: list[pa.Table] = field(default_factory=list)

    def accept(self, rows: pa.Table, file: str) -> pa.Table:
        """The rows that may enter; the others are kept as dead letters with their reason."""
        event = rows.column(self.source.event_time)
        available = rows.column(self.source.available_at).cast(pa.int64())
        no_event = event.is_null().to_numpy()
        no_available = available.is_null().to_numpy()
        ahead = pc.fill_null(pc.greater(available, self.latest), False).to_numpy() & ~no_event
        malformed = no_event | no_available
        accepted = rows.num_rows - int((ahead | malformed).sum())
        self.counts += Counts(accepted, int(ahead.sum()), int(malformed.sum()))
        if not (ahead | malformed).any():
            return rows
        for chosen, reason in (
            (no_event, f"no {self.source.event_time}"),
            (no_available & ~no_event, f"no {self.source.available_at}"),
            (ahead, f"{self.source.available_at} is more than a day in the future"),
        ):
            self._keep(rows, chosen, reason, file)
        return rows.filter(pa.array(~(ahead | malformed)))

    def _keep(
        self,
        rows: pa.Table,
        chosen: np.ndarray[tuple[int], np.dtype[np.bool_]],
        reason: str,
        file: str,
    ) -> None:
        if chosen.any():
            letters = rows.filter(pa.array(chosen))
            texts = ((REASON, reason), (FILE, file))
            for name, text in texts:
                letters = letters.append_column(name, pa.repeat(text, letters.num_rows))
            self.dead.append(letters)


def typed_rows(
    source: Source, path: Path, row_groups: Sequence[int] | None = None
) -> Iterator[pa.Table]:
    """The file's rows in the source's types, some hundred thousand at a time."""
    schema = source.columns
    for piece in read_pieces(path, list(schema), row_groups):
        yield typed(path.name, piece, schema)


def dead_letter_table(source: Source) -> TableSpec:
    """The table of a source's dead letters: its columns, the reason and the file."""
    columns = source_table(source).schema
    fields = [*columns, pa.field(REASON, pa.string()), pa.field(FILE, pa.string())]
    return TableSpec(f"{source.table}_dead_letters", pa.schema(fields))


def store_dead_letters(
    lake: Lake, source: Source, letters: Sequence[pa.Table], digest: str
) -> None:
    """Adds dead letters to their table, once for each digest."""
    if not letters:
        return
    table = dead_letter_table(source)
    lake.create(table)
    try:
        lake.append(table.name, list(letters), digest=digest)
    except Conflict:
        return  # an earlier try got this far and no further


def _typed_pieces(intake: Intake, screen: Screen, progress: Progress | None) -> Iterator[pa.Table]:
    task, done = f"ingest {intake.source.name}", 0
    total = sum(row_count(path) for path in intake.todo)
    for path in intake.todo:
        for rows in typed_rows(intake.source, path):
            yield screen.accept(rows, path.name)
            done += rows.num_rows
            if progress is not None:
                progress(task, done, max(done, total))


def _then(pieces: Iterator[pa.Table], finish: Callable[[], None]) -> Iterator[pa.Table]:
    """The pieces, and then, before they are committed, one more thing."""
    yield from pieces
    finish()


def _ignored_columns(source: Source, paths: Sequence[Path]) -> tuple[str, ...]:
    ignored: dict[str, None] = {}
    for path in paths:
        ignored |= dict.fromkeys(check_columns(path.name, file_columns(path), source.columns))
    return tuple(ignored)


def _all_there(lake: Lake, intake: Intake) -> bool:
    return set(intake.digests) <= lake.describe(intake.source.table).digests


def nothing_to_do(lake: Lake, intake: Intake) -> IngestReport:
    """The report of an intake whose files the table holds already."""
    return IngestReport(
        intake.source.table,
        snapshot=lake.describe(intake.source.table).snapshot,
        nothing_to_do=True,
        skipped=intake.skipped,
        ignored=intake.ignored,
    )
