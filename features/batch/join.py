"""From the features of single views to the answer of a service, row by row of the spine."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from features.batch.kernel import AS_OF, AsOf, errors_of, features_as_of
from features.batch.queries import Mask
from features.compile_columns import compile_columns
from features.derivation import read_features
from features.dtypes import DType, as_dtype, to_arrow
from features.errors import BadInput
from features.plan import RequestPlan, ServicePlan, ViewPlan

_ERROR = "__error__"


def join_in_memory(
    plan: ServicePlan,
    sources: Mapping[str, pa.Table],
    spine: pa.Table,
    time_column: str,
    inclusive: bool = False,
) -> pa.Table:
    """The spine's columns and rows, in order, then one column ``view__feature`` per output.

    ``sources`` are the events by the source's name. Raises BadInput for a spine that does not fit.
    """
    stored = {}
    for view in plan.views:
        keys = key_table(view, spine, time_column, plan.lag)
        events = sources[view.view.source.name]
        found = features_as_of(view, events, keys, inclusive=inclusive, lag=plan.lag)
        stored[view.role] = stored_table(plan, view, found)
    return assemble(plan, spine, time_column, stored)


def key_table(view: ViewPlan, spine: pa.Table, time_column: str, lag: int) -> pa.Table:
    """What the kernel needs of a spine: the view's key columns, and when to look (``AS_OF``).

    Raises BadInput for a key or time of another type; nothing is cast.
    """
    types = dict(zip(view.key_columns, view.view.entity.types, strict=True))
    columns = {name: spine_column(spine, name, dtype) for name, dtype in types.items()}
    times = spine_column(spine, time_column, "time")
    if lag:
        times = pc.subtract(times, pa.scalar(lag, pa.duration("us")))
    return pa.table({**columns, AS_OF: times})


def spine_column(spine: pa.Table, name: str, dtype: DType) -> pa.Array:
    """A column of the spine in its declared type. Raises BadInput for another."""
    if name not in spine.column_names:
        raise BadInput(f"the spine has no column {name!r}", "Add it, or name another column.")
    column = spine.column(name)
    if pa.types.is_null(column.type):
        return pa.nulls(spine.num_rows, to_arrow(dtype))
    try:
        return as_dtype(column, dtype)
    except BadInput as error:
        raise BadInput(
            f"the spine's column {name!r}: {error.what}", error.hint or f"It must be {dtype}."
        ) from None


def stored_table(plan: ServicePlan, view: ViewPlan, found: AsOf) -> pa.Table:
    """A view's features as a table; features that a request view reads come with their errors."""
    rows = len(next(iter(found.columns.values())))
    marks = {
        f"{_ERROR}{name}": pa.array(found.errors.get(name, np.zeros(rows, dtype=bool)))
        for name in _read_by_requests(plan, view)
    }
    return pa.table({**found.columns, **marks})


def _read_by_requests(plan: ServicePlan, view: ViewPlan) -> list[str]:
    read = {name for request in plan.requests for _, e in request.derived for name in e.names()}
    return [name for name in view.features if f"@{view.role}:{name}" in read]


def assemble(
    plan: ServicePlan, spine: pa.Table, time_column: str, stored: Mapping[str, pa.Table]
) -> pa.Table:
    """Adds to a spine what its views stored (by role, in its order) and what requests compute.

    Raises BadInput for a spine that has a column of a feature's name already.
    """
    known, errors = _known(stored)
    q = spine_column(spine, time_column, "time")
    for request in plan.requests:
        _compute(request, spine, q, known, errors)
    taken = [output.column for output in plan.outputs if output.column in spine.column_names]
    if taken:
        raise BadInput(f"the spine has a column {taken[0]!r} already", "Rename it.")
    for output in plan.outputs:
        column = known[f"@{output.view}:{output.feature}"]
        spine = spine.append_column(output.column, column)
    return spine


def _known(
    stored: Mapping[str, pa.Table],
) -> tuple[dict[str, pa.Array], dict[str, Mask]]:
    known, errors = {}, {}
    for role, table in stored.items():
        for name, column in zip(table.column_names, table.columns, strict=True):
            whole = column.combine_chunks()
            if name.startswith(_ERROR):
                mask = whole.to_numpy(zero_copy_only=False)
                errors[f"@{role}:{name.removeprefix(_ERROR)}"] = mask
            else:
                known[f"@{role}:{name}"] = whole
    return known, errors


def _compute(
    request: RequestPlan,
    spine: pa.Table,
    q: pa.Array,
    known: dict[str, pa.Array],
    errors: dict[str, Mask],
) -> None:
    """Adds a request view's features to what is known, under ``@view:feature``."""
    fields = request.view.request.items()
    columns = {name: spine_column(spine, name, dtype) for name, dtype in fields}
    columns |= {name: known[name] for name in request.schema if name in known}
    wrong = {name: mask for name, mask in errors.items() if name in request.schema}
    for name, expr in request.derived:
        found = compile_columns(expr, request.schema)(columns, q)
        read = [wrong[f"@{n}"] for n in read_features(expr) if f"@{n}" in wrong]
        mask = errors_of(read, found.errors)
        values = found.values
        if mask is not None:
            values = pc.if_else(pa.array(mask), pa.scalar(None, values.type), values)
            wrong[f"@{name}"] = errors[f"@{request.view.name}:{name}"] = mask
        columns[f"@{name}"] = known[f"@{request.view.name}:{name}"] = values
