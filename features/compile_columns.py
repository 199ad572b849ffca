"""The compiled form of an expression for whole Arrow columns: batch uses it.

Numbers and times are computed by NumPy; what NumPy would compute differently (text, logarithms,
parsing) goes through the same scalar functions as the row form.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from features.compile_row import function_of
from features.dtypes import DType, as_dtype, to_arrow
from features.durations import DAY, HOUR, MINUTE
from features.errors import ValueStateError
from features.expression_types import Typed, typed
from features.expressions import Call, Col, Expr, Lit, QueryTime, Ref, uses_query_time
from features.scalar_functions import month_and_day

Array = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]
NUMPY: dict[DType, Any] = {
    "bool": np.bool_,
    "float": np.float64,
    "int": np.int64,
    "time": np.int64,
}


@dataclass(frozen=True, slots=True)
class Column:
    """One computed column; a value in the state ``error`` is null in ``values``.

    ``errors`` is a mask of the same length, or None when there is no error.
    """

    values: pa.Array
    errors: Mask | None


@dataclass(frozen=True, slots=True)
class Cells:
    """Values (unspecified where null or error) and the two masks."""

    values: Array
    nulls: Mask
    errors: Mask


Environment = Mapping[str, Cells]
ColumnFunction = Callable[[Mapping[str, pa.Array], pa.Array], Column]
_Step = Callable[[Environment, int], Cells]
_QUERY_TIME = "\0q"


def compile_columns(expr: Expr, schema: Mapping[str, DType]) -> ColumnFunction:
    """A function of (columns by name, q as ``timestamp[us, UTC]``) that gives a Column.

    All arrays have one length. Raises DefinitionError now, nothing later.
    """
    tree = typed(expr, schema)
    if isinstance(tree.node, (Col, Ref)):
        (name,) = _reads(tree)
        return lambda columns, q: Column(as_dtype(columns[name], tree.dtype), None)
    step = _compile(tree)
    reads = {name: schema[name] for name in _reads(tree)}
    asks_when = uses_query_time(expr)

    def run(columns: Mapping[str, pa.Array], q: pa.Array) -> Column:
        cells = {name: from_array(columns[name], dtype) for name, dtype in reads.items()}
        if asks_when:
            cells[_QUERY_TIME] = from_array(q, "time")
        with np.errstate(all="ignore"):
            return _to_column(step(cells, len(q)), tree.dtype)

    return run


def _reads(tree: Typed) -> set[str]:
    if isinstance(tree.node, Col):
        return {tree.node.name}
    if isinstance(tree.node, Ref):
        return {f"@{tree.node.name}"}
    return {name for arg in tree.args for name in _reads(arg)}


def from_array(array: pa.Array | pa.ChunkedArray, dtype: DType) -> Cells:
    """An Arrow column as NumPy values and a null mask."""
    array = as_dtype(array, dtype)
    nulls = np.asarray(array.is_null().to_numpy(zero_copy_only=False), dtype=bool)
    return Cells(_values(array, dtype), nulls, np.zeros(len(array), dtype=bool))


def _values(array: pa.Array, dtype: DType) -> Array:
    if dtype not in NUMPY:
        return np.array([*array.to_pylist(), None], dtype=object)[:-1]
    if dtype == "time":
        array = array.cast(pa.int64())
    filled = pc.fill_null(array, False if dtype == "bool" else 0) if array.null_count else array
    return np.asarray(filled.to_numpy(zero_copy_only=False), dtype=NUMPY[dtype])


def _to_column(cells: Cells, dtype: DType) -> Column:
    hidden = cells.nulls | cells.errors
    if dtype in NUMPY:
        values = pa.array(cells.values, mask=hidden)
        values = values.cast(to_arrow(dtype)) if values.type != to_arrow(dtype) else values
    else:
        shown = [None if hide else value for value, hide in zip(cells.values, hidden, strict=True)]
        values = pa.array(shown, type=to_arrow(dtype))
    return Column(values, cells.errors if cells.errors.any() else None)


def _compile(tree: Typed) -> _Step:
    node = tree.node
    if isinstance(node, (Col, Ref)):
        return _read(node.name if isinstance(node, Col) else f"@{node.name}")
    if isinstance(node, QueryTime):
        return _read(_QUERY_TIME)
    if isinstance(node, Lit):
        return _constant(node.value, tree.dtype)
    assert isinstance(node, Call)
    steps = [_compile(arg) for arg in tree.args]
    operation = _SPECIAL.get(node.op) or _strict(tree)
    return lambda cells, size: operation(*(step(cells, size) for step in steps))


def _read(name: str) -> _Step:
    return lambda cells, size: cells[name]


def _constant(value: Any, dtype: DType) -> _Step:
    def step(cells: Environment, size: int) -> Cells:
        kind = NUMPY.get(dtype, object)
        filler = value if value is not None else (None if kind is object else 0)
        none = np.zeros(size, dtype=bool)
        return Cells(np.full(size, filler, dtype=kind), none | (value is None), none)

    return step


def _strict(tree: Typed) -> Callable[..., Cells]:
    node = tree.node
    assert isinstance(node, Call)
    vector = _vector_of(node, tree)
    return _vectorised(vector) if vector else _mapped(function_of(node, tree), tree.dtype)


def _merged(args: tuple[Cells, ...]) -> tuple[Mask, Mask]:
    nulls, errors = args[0].nulls, args[0].errors
    for arg in args[1:]:
        nulls, errors = nulls | arg.nulls, errors | arg.errors
    return nulls, errors


def _vectorised(
    vector: Callable[..., tuple[Array, Mask | None, Mask | None]],
) -> Callable[..., Cells]:
    def apply(*args: Cells) -> Cells:
        nulls, errors = _merged(args)
        values, more_nulls, more_errors = vector(*(arg.values for arg in args))
        if more_errors is not None:
            errors = errors | (more_errors & ~nulls)
        return Cells(values, nulls if more_nulls is None else nulls | more_nulls, errors)

    return apply


def _mapped(function: Callable[..., Any], dtype: DType) -> Callable[..., Cells]:
    """Row by row, through the scalar function that the row form uses."""

    def apply(*args: Cells) -> Cells:
        nulls, errors = (mask.copy() for mask in _merged(args))
        values = np.zeros(len(nulls), dtype=NUMPY.get(dtype, object))
        columns = [arg.values.tolist() for arg in args]
        for i in np.flatnonzero(~(nulls | errors)):
            try:
                value = function(*(column[i] for column in columns))
            except ValueStateError:
                errors[i] = True
                continue
            if value is None:
                nulls[i] = True
            else:
                values[i] = value
        return Cells(values, nulls, errors)

    return apply


def _is_null(arg: Cells) -> Cells:
    return Cells(arg.nulls & ~arg.errors, np.zeros_like(arg.nulls), arg.errors)


def _select(first: Mask, then: Cells, otherwise: Cells) -> Cells:
    return Cells(
        np.where(first, then.values, otherwise.values),
        np.where(first, then.nulls, otherwise.nulls),
        np.where(first, then.errors, otherwise.errors),
    )


def _fill_null(value: Cells, filler: Cells) -> Cells:
    return _select(~value.nulls | value.errors, value, filler)


def _choose(condition: Cells, then: Cells, otherwise: Cells) -> Cells:
    chosen = _select(condition.values & ~condition.nulls, then, otherwise)
    return Cells(chosen.values, chosen.nulls, chosen.errors | condition.errors)


def _and(a: Cells, b: Cells) -> Cells:
    no = (~a.values & ~a.nulls) | (~b.values & ~b.nulls)
    return Cells(~no, (a.nulls | b.nulls) & ~no, a.errors | b.errors)


def _or(a: Cells, b: Cells) -> Cells:
    yes = (a.values & ~a.nulls) | (b.values & ~b.nulls)
    return Cells(yes, (a.nulls | b.nulls) & ~yes, a.errors | b.errors)


_SPECIAL: dict[str, Callable[..., Cells]] = {
    "and": _and,
    "fill_null": _fill_null,
    "if": _choose,
    "is_null": _is_null,
    "or": _or,
}

_Vector = Callable[..., tuple[Array, Mask | None, Mask | None]]


def _vector_of(node: Call, tree: Typed) -> _Vector | None:
    source = tree.args[0].dtype
    if node.op == "cast":
        return _CASTS.get((source, tree.dtype))
    if node.op == "sub" and source == "time":
        return _seconds_between
    if source not in NUMPY:
        return None
    table = _INT if source == "int" else _FLOAT if source == "float" else {}
    return table.get(node.op) or _ANY.get(node.op)


def _plain(ufunc: Callable[..., Any]) -> _Vector:
    return lambda *args: (ufunc(*args), None, None)


def _int_add(a: Array, b: Array) -> tuple[Array, None, Mask]:
    total = a + b
    return total, None, ((a ^ total) & (b ^ total)) < 0


def _int_sub(a: Array, b: Array) -> tuple[Array, None, Mask]:
    difference = a - b
    return difference, None, ((a ^ b) & (a ^ difference)) < 0


def _int_mul(a: Array, b: Array) -> tuple[Array, None, Mask]:
    product = a * b
    safe = np.where(b == 0, 1, b)
    wrapped = (b != 0) & (product // safe != a)
    return product, None, wrapped | _min_by_minus_one(a, b) | _min_by_minus_one(b, a)


def _min_by_minus_one(a: Array, b: Array) -> Mask:
    return np.asarray((a == np.iinfo(np.int64).min) & (b == -1))


def _int_floordiv(a: Array, b: Array) -> tuple[Array, Mask, Mask]:
    return a // np.where(b == 0, 1, b), b == 0, _min_by_minus_one(a, b)


def _int_mod(a: Array, b: Array) -> tuple[Array, Mask, None]:
    return np.mod(a, np.where((b == 0) | (b == -1), 1, b)), b == 0, None


def _int_neg(a: Array) -> tuple[Array, None, Mask]:
    return -a, None, a == np.iinfo(np.int64).min


def _int_abs(a: Array) -> tuple[Array, None, Mask]:
    return np.abs(a), None, a == np.iinfo(np.int64).min


def _seconds_between(a: Array, b: Array) -> tuple[Array, None, Mask]:
    difference, _, wrapped = _int_sub(a, b)
    return difference / 1e6, None, wrapped


def _div(a: Array, b: Array) -> tuple[Array, Mask, None]:
    return a / b, b == 0, None


def _float_floordiv(a: Array, b: Array) -> tuple[Array, Mask, None]:
    return np.floor_divide(a, b), b == 0, None


def _float_mod(a: Array, b: Array) -> tuple[Array, Mask, None]:
    return np.mod(a, b), b == 0, None


def _sqrt(a: Array) -> tuple[Array, Mask, None]:
    return np.sqrt(a), a < 0, None


def _clip(value: Array, low: Array, high: Array) -> tuple[Array, None, None]:
    return np.where(value < low, low, np.where(value > high, high, value)), None, None


def _is_in(value: Array, *constants: Array) -> tuple[Array, None, None]:
    found = np.zeros(len(value), dtype=bool)
    for constant in constants:
        found |= value == constant
    return found, None, None


_INT: dict[str, _Vector] = {
    "abs": _int_abs,
    "add": _int_add,
    "floordiv": _int_floordiv,
    "mod": _int_mod,
    "mul": _int_mul,
    "neg": _int_neg,
    "sub": _int_sub,
}
_FLOAT: dict[str, _Vector] = {
    "abs": _plain(np.abs),
    "add": _plain(np.add),
    "ceil": _plain(np.ceil),
    "div": _div,
    "floor": _plain(np.floor),
    "floordiv": _float_floordiv,
    "mod": _float_mod,
    "mul": _plain(np.multiply),
    "neg": _plain(np.negative),
    "sqrt": _sqrt,
    "sub": _plain(np.subtract),
}
_ANY: dict[str, _Vector] = {
    "clip": _clip,
    "day": lambda t: (month_and_day(t // DAY)[1], None, None),
    "eq": _plain(np.equal),
    "ge": _plain(np.greater_equal),
    "gt": _plain(np.greater),
    "hour": lambda t: (t // HOUR % 24, None, None),
    "is_in": _is_in,
    "le": _plain(np.less_equal),
    "lt": _plain(np.less),
    "minute": lambda t: (t // MINUTE % 60, None, None),
    "month": lambda t: (month_and_day(t // DAY)[0], None, None),
    "ne": _plain(np.not_equal),
    "not": _plain(np.logical_not),
    "weekday": lambda t: ((t // DAY + 3) % 7, None, None),
}
_CASTS: dict[tuple[DType, DType], _Vector] = {
    ("bool", "float"): lambda a: (a.astype(np.float64), None, None),
    ("bool", "int"): lambda a: (a.astype(np.int64), None, None),
    ("int", "float"): lambda a: (a.astype(np.float64), None, None),
    ("int", "time"): lambda a: (a, None, None),
    ("time", "int"): lambda a: (a, None, None),
}
