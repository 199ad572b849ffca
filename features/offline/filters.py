"""Conditions of a scan, applied to rows in memory."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from features.errors import BadInput
from features.offline.lake import Condition

_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "in": lambda field, values: field.isin(values),
}


def matching(table: pa.Table, where: Sequence[Condition]) -> pa.Table:
    """The rows for which every condition is true; null is not."""
    for condition in where:
        table = table.filter(_expression(condition, table.schema.field(condition.column).type))
    return table


def check_operators(where: Sequence[Condition]) -> None:
    """Refuses an operator that no lake knows, with BadInput."""
    for condition in where:
        if condition.operator not in _OPERATORS:
            raise BadInput(
                f"{condition.operator!r} is not an operator of a scan",
                f"Use one of {' '.join(_OPERATORS)}.",
            )


def _expression(condition: Condition, kind: pa.DataType) -> pc.Expression:
    value = condition.value
    several = condition.operator == "in"
    typed = pa.array(list(value), kind) if several else pa.scalar(value, kind)
    return _OPERATORS[condition.operator](pc.field(condition.column), typed)
