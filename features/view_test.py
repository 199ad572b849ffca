"""A view tried on rows in memory: the batch kernel, without a lake or a cluster."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from features.batch.kernel import AS_OF, features_as_of
from features.dtypes import to_arrow
from features.errors import BadInput
from features.naming import did_you_mean
from features.plan import ViewPlan
from features.sources import Source
from features.values import checked_value

if TYPE_CHECKING:
    from features.definitions import FeatureView


def test_view(
    view: FeatureView, rows: Sequence[Mapping[str, Any]], at: Any, key: Any
) -> dict[str, Any]:
    """The features of one entity at a time; see ``FeatureView.test``.

    Raises BadInput for rows that do not fit the source, or a missing key.
    """
    events = events_table(view.source, rows)
    columns = dict(zip(view.entity.keys, _key(view, rows, key), strict=True))
    types = dict(zip(view.entity.keys, view.entity.types, strict=True))
    spine = {name: pa.array([columns[name]], to_arrow(types[name])) for name in types}
    spine[AS_OF] = pa.array([checked_value("at", at, "time")], to_arrow("time"))
    plan = ViewPlan.of(view.name, view, view.entity.keys, tuple(view.features))
    found = features_as_of(plan, events, pa.table(spine))
    return {name: _plain(column) for name, column in found.columns.items()}


def events_table(source: Source, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Rows as a table of the source's columns; a column that a row lacks is null.

    Raises BadInput for a column that the source does not have, and for values of another type.
    """
    types = source.columns
    for row in rows:
        for name in row:
            if name not in types:
                raise BadInput(
                    f"source {source.name!r} has no column {name!r}",
                    did_you_mean(name, types, "columns"),
                )
    arrays = {
        name: pa.array([checked_value(name, row.get(name), dtype) for row in rows], to_arrow(dtype))
        for name, dtype in types.items()
    }
    return pa.table(arrays)


def _key(view: FeatureView, rows: Sequence[Mapping[str, Any]], key: Any) -> tuple[Any, ...]:
    if key is not None:
        parts = key if isinstance(key, (tuple, list)) else (key,)
        if len(parts) != len(view.entity.keys):
            raise BadInput(f"{key!r} is not a key of {view.entity.name!r}", "Give every part.")
        pairs = zip(view.entity.keys, parts, view.entity.types, strict=True)
        return tuple(checked_value(name, part, dtype) for name, part, dtype in pairs)
    found = {tuple(row.get(name) for name in view.entity.keys) for row in rows}
    if len(found) != 1:
        raise BadInput(f"the rows are of {len(found)} entities", "Say which: key='…'.")
    return found.pop()


def _plain(column: pa.Array) -> Any:
    value = column[0].as_py()
    return dict(value) if pa.types.is_map(column.type) and value is not None else value
