"""One entity out of what was made from the lake: training sets, and other files of joined rows."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from features.errors import DamagedData
from features.offline.files import file_digest
from features.offline.lake import Erased
from features.offline.training_set import DATA, RECORD, SPINE
from features.plan import ServicePlan, ViewPlan
from features.serial import from_data
from features.subject import Subject


def erase_from_training_set(
    folder: Path, subject: Subject, changed: Collection[str] = ()
) -> Erased:
    """Removes an entity's rows from a training set, which then counts as erased.

    So does one with features of other entities from a table of which rows were erased
    (``changed``). It is marked first, and each file is replaced by a rename: after a crash
    the same call finishes it. Raises DamagedData for a folder that is no training set.
    """
    record = _record(folder)
    plan: ServicePlan = from_data(record["plan"])
    roles = [view for view in plan.views if subject.is_part_of(view.view.entity)]
    mine = subject.also(_columns(view, subject) for view in roles)
    files = [folder / SPINE, folder / DATA]
    touched = any(_holds(path, mine) for path in files) or any(
        view.view.source.table in changed for view in plan.views if view not in roles
    )
    if touched and not record.get("erased"):
        _write(folder / RECORD, orjson.dumps(record | {"erased": True}, option=_INDENT))
    spine, data = (erase_from_parquet(path, mine) for path in files)
    if spine.rows or data.rows:
        rows, digest = pq.read_metadata(folder / DATA).num_rows, file_digest(folder / DATA)
        told = record | {"erased": True, "rows": rows, "digest": digest}
        _write(folder / RECORD, orjson.dumps(told, option=_INDENT))
    return Erased(data.rows or spine.rows, 2, spine.files + data.files, spine.bytes + data.bytes)


def erase_from_parquet(path: Path, subject: Subject) -> Erased:
    """Removes an entity's rows from a Parquet file that has its key columns; else is nothing."""
    if not _holds(path, subject):
        return Erased(looked=1)
    partial, rows, size = path.with_suffix(".part"), 0, path.stat().st_size
    with (
        pq.ParquetFile(path) as file,
        pq.ParquetWriter(partial, file.schema_arrow, compression=_codec(file)) as writer,
    ):
        for table in _groups(file, file.schema_arrow.names):
            kept = table.filter(pc.invert(subject.rows_of(table)))
            rows += table.num_rows - kept.num_rows
            writer.write_table(kept)
    _settle(partial, path)
    return Erased(rows, 1, 1, size)


def _columns(view: ViewPlan, subject: Subject) -> tuple[str, ...]:
    """The columns of the joined rows that hold the subject's key for a view."""
    named = dict(zip(view.view.entity.keys, view.key_columns, strict=True))
    return tuple(named[key] for key in subject.entity.keys)


def _record(folder: Path) -> dict[str, Any]:
    try:
        record: dict[str, Any] = orjson.loads((folder / RECORD).read_bytes())
        return record
    except (OSError, orjson.JSONDecodeError) as error:
        raise DamagedData(f"{folder} is no training set: {error}", "Remove the folder.") from None


def _holds(path: Path, subject: Subject) -> bool:
    with pq.ParquetFile(path) as file:
        ways = subject.ways(file.schema_arrow)
        names = list(dict.fromkeys(name for way in ways for name in way))
        return bool(ways) and any(
            pc.any(subject.rows_of(table)).as_py() for table in _groups(file, names)
        )


def _groups(file: pq.ParquetFile, names: list[str]) -> Iterator[pa.Table]:
    return (file.read_row_group(group, columns=names) for group in range(file.num_row_groups))


def _codec(file: pq.ParquetFile) -> str:
    metadata = file.metadata
    if not (metadata.num_row_groups and metadata.num_columns):
        return "snappy"
    codec = str(metadata.row_group(0).column(0).compression).lower()
    return "none" if codec == "uncompressed" else codec


def _write(path: Path, data: bytes) -> None:
    partial = path.with_suffix(".part")
    partial.write_bytes(data)
    _settle(partial, path)


def _settle(partial: Path, path: Path) -> None:
    """A file takes its place once it is on the disk."""
    for step in (partial, path.parent):
        descriptor = os.open(step, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if step is partial:
            partial.replace(path)


_INDENT = orjson.OPT_INDENT_2
