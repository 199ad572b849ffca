"""The compiled form of an expression for one row: request and stream use it.

Values are Python's; null is ``None``; a time is an ``int`` of µs. ValueStateError is the state
``error``. Held equal to ``compile_columns`` by a property test.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

from features import scalar_functions as scalar
from features.dtypes import DType
from features.durations import DAY, HOUR, MINUTE
from features.expression_types import Typed, typed
from features.expressions import Call, Col, Expr, Lit, QueryTime, Ref

RowFunction = Callable[[Mapping[str, Any], int], Any]


def compile_row(expr: Expr, schema: Mapping[str, DType]) -> RowFunction:
    """A function of (row, q in µs) that gives the value of ``expr``.

    The row maps ``x`` to a column's and ``@x`` to a feature's value. Raises DefinitionError now,
    ValueStateError later.
    """
    return _compile(typed(expr, schema))


def _compile(value: Typed) -> RowFunction:
    node = value.node
    if isinstance(node, (Col, Ref)):
        return _read(node.name if isinstance(node, Col) else f"@{node.name}")
    if isinstance(node, Lit):
        constant = node.value
        return lambda row, q: constant
    if isinstance(node, QueryTime):
        return lambda row, q: q
    assert isinstance(node, Call)
    args = [_compile(arg) for arg in value.args]
    special = _SPECIAL.get(node.op)
    return special(args) if special else _strict(function_of(node, value), args)


def _read(name: str) -> RowFunction:
    return lambda row, q: row[name]


def _strict(function: Callable[..., Any], args: list[RowFunction]) -> RowFunction:
    """Null if any argument is null, else the function's value."""
    if len(args) == 1:
        return _strict_unary(function, args[0])
    if len(args) == 2:
        return _strict_binary(function, *args)

    def many(row: Mapping[str, Any], q: int) -> Any:
        values = [arg(row, q) for arg in args]
        return None if any(value is None for value in values) else function(*values)

    return many


def _strict_unary(function: Callable[..., Any], arg: RowFunction) -> RowFunction:
    def one(row: Mapping[str, Any], q: int) -> Any:
        value = arg(row, q)
        return None if value is None else function(value)

    return one


def _strict_binary(
    function: Callable[..., Any], left: RowFunction, right: RowFunction
) -> RowFunction:
    def two(row: Mapping[str, Any], q: int) -> Any:
        a, b = left(row, q), right(row, q)
        return None if a is None or b is None else function(a, b)

    return two


def _is_null(args: list[RowFunction]) -> RowFunction:
    (arg,) = args
    return lambda row, q: arg(row, q) is None


def _fill_null(args: list[RowFunction]) -> RowFunction:
    first, second = args

    def fill(row: Mapping[str, Any], q: int) -> Any:
        value = first(row, q)
        return second(row, q) if value is None else value

    return fill


def _choose(args: list[RowFunction]) -> RowFunction:
    condition, then, otherwise = args
    return lambda row, q: then(row, q) if condition(row, q) else otherwise(row, q)


def _and(args: list[RowFunction]) -> RowFunction:
    left, right = args

    def both(row: Mapping[str, Any], q: int) -> bool | None:
        a, b = left(row, q), right(row, q)
        if a is False or b is False:
            return False
        return None if a is None or b is None else True

    return both


def _or(args: list[RowFunction]) -> RowFunction:
    left, right = args

    def either(row: Mapping[str, Any], q: int) -> bool | None:
        a, b = left(row, q), right(row, q)
        if a is True or b is True:
            return True
        return None if a is None or b is None else False

    return either


_SPECIAL: dict[str, Callable[[list[RowFunction]], RowFunction]] = {
    "and": _and,
    "fill_null": _fill_null,
    "if": _choose,
    "is_null": _is_null,
    "or": _or,
}


def function_of(node: Call, value: Typed) -> Callable[..., Any]:
    """The function of non-null Python values behind one operation."""
    source = value.args[0].dtype
    if node.op == "cast":
        return scalar.CASTS[source, value.dtype]
    if node.op == "sub" and source == "time":
        return scalar.seconds_between
    table = _INT if source == "int" else _FLOAT if source == "float" else {}
    function = table.get(node.op) or _ANY[node.op]
    return _with_params(function, node.params)


def _with_params(function: Callable[..., Any], params: tuple[Any, ...]) -> Callable[..., Any]:
    return (lambda value: function(value, *params)) if params else function


def _checked(function: Callable[..., int]) -> Callable[..., int]:
    return lambda *args: scalar.checked_int(function(*args))


_INT: dict[str, Callable[..., Any]] = {
    "abs": _checked(abs),
    "add": _checked(operator.add),
    "floordiv": scalar.int_floordiv,
    "mod": scalar.int_mod,
    "mul": _checked(operator.mul),
    "neg": _checked(operator.neg),
    "sub": _checked(operator.sub),
}
_FLOAT: dict[str, Callable[..., Any]] = {
    "abs": abs,
    "add": operator.add,
    "div": scalar.divide,
    "floordiv": scalar.float_floordiv,
    "mod": scalar.float_mod,
    "mul": operator.mul,
    "neg": operator.neg,
    "sub": operator.sub,
}
_ANY: dict[str, Callable[..., Any]] = {
    "ceil": scalar.ceil,
    "clip": scalar.clip,
    "contains": lambda value, text: text in value,
    "day": lambda t: scalar.month_and_day(t // DAY)[1],
    "eq": operator.eq,
    "floor": scalar.floor,
    "ge": operator.ge,
    "geo_distance": scalar.geo_distance,
    "gt": operator.gt,
    "hash_bucket": scalar.hash_bucket,
    "hour": lambda t: t // HOUR % 24,
    "le": operator.le,
    "is_in": scalar.is_in,
    "length": len,
    "log": scalar.log,
    "lower": str.lower,
    "lt": operator.lt,
    "minute": lambda t: t // MINUTE % 60,
    "month": lambda t: scalar.month_and_day(t // DAY)[0],
    "ne": operator.ne,
    "not": operator.not_,
    "sqrt": scalar.sqrt,
    "starts_with": lambda value, text: value.startswith(text),
    "substring": lambda value, start, count: value[start : start + count],
    "upper": str.upper,
    "weekday": lambda t: (t // DAY + 3) % 7,
}
