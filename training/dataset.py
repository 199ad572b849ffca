"""A joined training frame as three splits of matrix and label."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from features.errors import BadInput
from features.naming import did_you_mean
from features.plan import ServicePlan
from training.canvas import CanvasModel
from training.package import MatrixColumn, compile_table, matrix_columns
from training.package.columns import Matrix
from training.spine import LABEL

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class TrainingFrame:
    """A point-in-time join on disk: Parquet files, the plan they hold, and how to make them again.

    ``record`` is the training set's own (``id``, ``snapshots`` by table).
    """

    plan: ServicePlan
    paths: tuple[Path, ...]
    record: Mapping[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """The rows of one period: service outputs and segments as a table, matrix, and label."""

    table: pa.Table
    matrix: Matrix
    label: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """Three splits over the same columns; ``unlabelled`` and ``outside`` rows were left out."""

    plan: ServicePlan
    columns: tuple[MatrixColumn, ...]
    train: Split
    validate: Split
    test: Split
    unlabelled: int
    outside: int

    def splits(self) -> dict[str, Split]:
        """The splits by name, in order of time."""
        return {"train": self.train, "validate": self.validate, "test": self.test}


def make_dataset(
    model: CanvasModel,
    frame: TrainingFrame,
    columns: Mapping[str, Any] | None = None,
) -> Dataset:
    """Reads a frame and splits it by time; rows keep their order.

    Raises BadInput for a missing column or an empty split.
    """
    made = matrix_columns(frame.plan, columns)
    table = _read(model, frame)
    labelled = table.filter(pc.is_valid(table.column(LABEL)))
    time = _times(model, labelled)
    bounds = model.split.bounds()
    prepare = compile_table(frame.plan, made)
    parts = {
        name: labelled.filter(pa.array((time >= start) & (time < end)))
        for name, (start, end) in bounds.items()
    }
    _check_parts(model, parts, time)
    splits = {name: _split(part, prepare(part)) for name, part in parts.items()}
    kept = sum(part.num_rows for part in parts.values())
    unlabelled = table.num_rows - labelled.num_rows
    return Dataset(frame.plan, made, **splits, unlabelled=unlabelled, outside=len(time) - kept)


def _read(model: CanvasModel, frame: TrainingFrame) -> pa.Table:
    wanted = [
        model.spine.time,
        LABEL,
        *model.segments,
        *(output.column for output in frame.plan.outputs),
    ]
    for path in frame.paths:
        _check_file(path, wanted)
    tables = [pq.read_table(path, columns=list(dict.fromkeys(wanted))) for path in frame.paths]
    return pa.concat_tables(tables)


def _check_file(path: Path, wanted: list[str]) -> None:
    try:
        known = pq.read_schema(path).names
    except (OSError, pa.ArrowInvalid) as error:
        raise BadInput(
            f"the training frame {path} cannot be read: {error}", "Join it again."
        ) from error
    for name in wanted:
        if name not in known:
            raise BadInput(
                f"the training frame {path.name} has no column {name!r}",
                did_you_mean(name, known, "columns"),
            )


def _times(model: CanvasModel, table: pa.Table) -> npt.NDArray[np.int64]:
    column = table.column(model.spine.time)
    if not pa.types.is_timestamp(column.type) or column.type.tz is None:
        raise BadInput(
            f"{model.spine.time} is {column.type}, not a time with a zone", "Store it as UTC."
        )
    micros = column.cast(pa.timestamp("us", tz="UTC"), safe=False).cast(pa.int64())
    earliest = np.iinfo(np.int64).min
    return np.asarray(micros.fill_null(earliest).to_numpy(), dtype=np.int64)


def _check_parts(
    model: CanvasModel, parts: Mapping[str, pa.Table], time: npt.NDArray[np.int64]
) -> None:
    for name, part in parts.items():
        if not part.num_rows:
            raise BadInput(
                f"{model.family}: the {name} period holds no labelled row", _range_hint(time)
            )


def _range_hint(time: npt.NDArray[np.int64]) -> str:
    if not time.size:
        return "The frame has no labelled row at all: check the label."
    first, last = (np.datetime64(int(t), "us") for t in (time.min(), time.max()))
    return f"The frame goes from {first} to {last} (UTC)."


def _split(table: pa.Table, matrix: Matrix) -> Split:
    label = np.asarray(table.column(LABEL).to_numpy(), dtype=np.float64)
    return Split(table, matrix, label)


def write_split(path: Path, split: Split) -> Path:
    """The matrix and label of a split as a Parquet file that a trainer reads."""
    names = [f"f{i}" for i in range(split.matrix.shape[1])]
    arrays = [pa.array(np.ascontiguousarray(column)) for column in split.matrix.T]
    table = pa.table([*arrays, pa.array(split.label)], names=[*names, LABEL])
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, compression="lz4")
    return path


def read_split(path: Path, shard: int = 0, shards: int = 1) -> tuple[Matrix, Floats]:
    """Matrix and label of a file of ``write_split``: every ``shards``-th row from ``shard`` on."""
    table = pq.read_table(path)
    label = table.column(LABEL).to_numpy()
    columns = [table.column(name).to_numpy() for name in table.column_names if name != LABEL]
    matrix = np.column_stack(columns).astype(np.float32, copy=False)
    return np.ascontiguousarray(matrix[shard::shards]), np.asarray(label[shard::shards])
