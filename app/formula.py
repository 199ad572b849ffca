"""Features written out as one line of text, the way people define them."""

from __future__ import annotations

from features.aggregations import Aggregation
from features.expressions import Call, Col, Expr, Lit, QueryTime, Ref


def written(feature: Aggregation | Expr) -> str:
    """A feature's definition as one line of text."""
    if isinstance(feature, Expr):
        return _expression(feature)
    inside = [] if feature.of is None else [_expression(feature.of)]
    inside += [] if feature.k is None else [f"k={feature.k}"]
    inside += [str(list(feature.quantiles))] if feature.quantiles else []
    text = f"{feature.kind}({', '.join(inside)})"
    text += f".over({duration(feature.window)})" if feature.window is not None else ""
    text += f".where({_expression(feature.condition)})" if feature.condition is not None else ""
    return text + (f".by({feature.group})" if feature.group is not None else "")


_SYMBOLS = {
    "add": "+", "sub": "-", "mul": "*", "div": "/", "floordiv": "//", "mod": "%",
    "gt": ">", "ge": ">=", "lt": "<", "le": "<=", "eq": "==", "ne": "!=", "and": "&", "or": "|",
}  # fmt: skip


def _expression(expr: Expr) -> str:
    if isinstance(expr, Col | Ref):
        return expr.name
    if isinstance(expr, QueryTime):
        return "query_time()"
    if isinstance(expr, Lit):
        return repr(expr.value)
    assert isinstance(expr, Call)
    parts = [_expression(argument) for argument in expr.args]
    if expr.op in _SYMBOLS and len(parts) == 2:
        return f"({parts[0]} {_SYMBOLS[expr.op]} {parts[1]})"
    return f"{expr.op}({', '.join([*parts, *(repr(p) for p in expr.params)])})"


def duration(us: int) -> str:
    """A length of time in its largest whole unit."""
    units = {"d": 86_400_000_000, "h": 3_600_000_000, "min": 60_000_000, "s": 1_000_000}
    for unit, size in units.items():
        if us % size == 0:
            return f"{us // size}{unit}"
    return f"{us // 1000}ms" if us % 1000 == 0 else f"{us}µs"
