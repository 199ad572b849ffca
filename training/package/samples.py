"""Rows of a service's outputs with the score they should get, kept beside the model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from features.dtypes import to_arrow
from features.errors import DamagedData
from features.plan import ServicePlan

PREDICTION = "prediction"
FILE = "samples.arrow"


def write_samples(folder: Path, outputs: pa.Table, scores: Sequence[float]) -> None:
    """Keeps the rows, and the scores as a column ``prediction``."""
    table = outputs.append_column(PREDICTION, pa.array(scores, pa.float64()))
    with pa.OSFile(str(folder / FILE), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)


def read_samples(folder: Path) -> pa.Table:
    """The rows with their ``prediction``; raises DamagedData if they are not readable."""
    try:
        with pa.OSFile(str(folder / FILE), "rb") as file:
            return pa.ipc.open_file(file).read_all()
    except (pa.ArrowInvalid, OSError) as error:
        raise DamagedData(f"the package's samples cannot be read: {error}") from error


def outputs_of(plan: ServicePlan, table: pa.Table) -> pa.Table:
    """The service's output columns of a table, in order and of their types."""
    arrays = [table.column(o.column).cast(to_arrow(o.dtype), safe=False) for o in plan.outputs]
    return pa.table(arrays, names=[output.column for output in plan.outputs])


def rows_of(plan: ServicePlan, table: pa.Table) -> list[tuple[object, ...]]:
    """The outputs as serving reads them: a row of Python values each, times as UTC µs."""
    columns = [_values(table.column(o.column), o.dtype) for o in plan.outputs]
    return list(zip(*columns, strict=True))


def _values(column: pa.ChunkedArray, dtype: str) -> list[object]:
    if dtype == "time":
        return list(pc.cast(column, pa.int64()).to_pylist())
    values = column.to_pylist()
    return [dict(v) if v is not None else None for v in values] if "map<" in dtype else values
