"""Ingest on Ray Data: files are read, typed and staged in parallel, and committed once."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from features.clock import Clock, SystemClock
from features.errors import Conflict
from features.offline.files import row_groups
from features.offline.iceberg import IcebergLake, StagedFiles
from features.offline.ingest import (
    FUTURE_TOLERANCE,
    Counts,
    IngestReport,
    Intake,
    Progress,
    Screen,
    dead_letter_table,
    nothing_to_do,
    open_intake,
    resolved_source,
    typed_rows,
)
from features.on_ray.runner import RayRunner
from features.sources import Source


@dataclass(frozen=True, slots=True)
class Piece:
    """Some rows of a file, and the ids of the writes that they become."""

    lake_root: str
    source: Source
    path: Path
    row_groups: tuple[int, ...] | None
    latest: int
    rows_id: uuid.UUID
    letters_id: uuid.UUID


@dataclass(frozen=True, slots=True)
class Staged:
    """What a piece became: files that are not committed yet, and counts."""

    rows: StagedFiles
    letters: StagedFiles | None
    counts: Counts


def ingest_on_ray(
    lake_root: str | Path,
    source: Source,
    files: Iterable[str | Path],
    *,
    again: bool = False,
    clock: Clock | None = None,
    progress: Progress | None = None,
) -> IngestReport:
    """Adds the files to the source's table in one atomic snapshot, as ``ingest`` does, on Ray.

    Raises what ``ingest`` raises; then nothing was added and no file stays behind.
    """
    lake, paths = IcebergLake(lake_root), [Path(file).absolute() for file in files]
    source = resolved_source(lake, source, paths)
    intake = open_intake(lake, source, paths, again=again)
    if not intake.todo:
        return nothing_to_do(lake, intake)
    latest = (clock or SystemClock()).now() + FUTURE_TOLERANCE
    pieces = list(_pieces(lake, source, intake.todo, latest))
    with lake.writing(source.table), lake.writing(dead_letter_table(source).name):
        return _ingested(lake, intake, pieces, progress)


def _ingested(
    lake: IcebergLake, intake: Intake, pieces: Sequence[Piece], progress: Progress | None
) -> IngestReport:
    source, letters = intake.source, dead_letter_table(intake.source)
    try:
        staged = RayRunner(f"ingest:{source.name}", progress)("stage", stage_piece, pieces)
        _commit_letters(lake, letters.name, staged, intake.digest)
        snapshot = lake.commit(source.table, [one.rows for one in staged], digest=intake.digest)
    except BaseException:
        _discard(lake, source.table, [piece.rows_id for piece in pieces])
        if letters.name in lake.tables():
            _discard(lake, letters.name, [piece.letters_id for piece in pieces])
        raise
    return intake.report(sum((one.counts for one in staged), Counts()), snapshot)


def stage_piece(piece: Piece) -> Staged:
    """Reads, types and screens some rows, and writes them where a commit will find them."""
    lake, screen = IcebergLake(piece.lake_root), Screen(piece.source, piece.latest)
    rows = lake.stage(piece.source.table, _screened(piece, screen), piece.rows_id)
    letters = None
    if screen.dead:
        table = dead_letter_table(piece.source)
        lake.create(table)
        letters = lake.stage(table.name, screen.dead, piece.letters_id)
    return Staged(rows, letters, screen.counts)


def _screened(piece: Piece, screen: Screen) -> Iterator[pa.Table]:
    for rows in typed_rows(piece.source, piece.path, piece.row_groups):
        yield screen.accept(rows, piece.path.name)


def _pieces(
    lake: IcebergLake, source: Source, paths: Sequence[Path], latest: int
) -> Iterator[Piece]:
    for path in paths:
        runs = row_groups(path)
        for groups in [None] if runs is None else [tuple(run) for run in runs]:
            yield Piece(str(lake.root), source, path, groups, latest, uuid.uuid4(), uuid.uuid4())


def _commit_letters(lake: IcebergLake, table: str, staged: Sequence[Staged], digest: str) -> None:
    letters = [one.letters for one in staged if one.letters is not None]
    if letters:
        try:
            lake.commit(table, letters, digest=digest)
        except Conflict:
            return  # an earlier try got this far and no further


def _discard(lake: IcebergLake, table: str, write_ids: Sequence[uuid.UUID]) -> None:
    lake.discard(table, [StagedFiles(str(write_id), 0, ()) for write_id in write_ids])
