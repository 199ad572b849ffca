"""One expression, two compiled forms: Arrow columns and a Python row give the same value."""

from __future__ import annotations

import math
import struct
from functools import cache
from typing import Any

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from features.compile_columns import compile_columns
from features.compile_row import compile_row
from features.dtypes import to_arrow
from features.errors import DefinitionError, ValueStateError
from features.expression_types import infer
from features.expressions import Call, Expr, col, geo_distance, lit, query_time, ref, when

SCHEMA = {
    "b": "bool",
    "f": "float",
    "g": "float",
    "i": "int",
    "j": "int",
    "s": "str",
    "t": "time",
    "u": "time",
    "@r": "float",
    "@view:n": "int",
}
INTS = st.one_of(
    st.sampled_from([0, 1, -1, 2, 2**63 - 1, -(2**63), 2**62, 2**53 + 1]),
    st.integers(-5, 5),
    st.integers(-(2**63), 2**63 - 1),
)
FLOATS = st.one_of(
    st.sampled_from([0.0, -0.0, 1.5, -2.0, math.nan, math.inf, -math.inf, 1e308, 5e-324]),
    st.floats(),
)
TEXTS = st.one_of(
    st.sampled_from(["", "a", "Äß", "12", "-1.5", "1_0", " 1", "true", "2013-01-01T05:00:00Z"]),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=6),
)
TIMES = st.one_of(st.sampled_from([0, -1, 1_385_942_400_000_000]), st.integers(-(2**55), 2**55))
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "bool": st.booleans(),
    "float": FLOATS,
    "int": INTS,
    "str": TEXTS,
    "time": TIMES,
}
ROWS = st.lists(
    st.fixed_dictionaries({n: st.one_of(st.none(), VALUES[t]) for n, t in SCHEMA.items()}),
    min_size=1,
    max_size=6,
)


def _leaves(dtype: str) -> st.SearchStrategy[Expr]:
    named = [ref(n[1:]) if n[0] == "@" else col(n) for n, t in SCHEMA.items() if t == dtype]
    if dtype == "time":
        return st.sampled_from([*named, query_time()])
    return st.one_of(st.sampled_from(named), st.builds(lit, VALUES[dtype]))


def _binary(op: str, of: st.SearchStrategy[Expr]) -> st.SearchStrategy[Expr]:
    return st.builds(lambda a, b: Call(op, (a, b)), of, of)


def _ops(names: str, of: st.SearchStrategy[Expr]) -> st.SearchStrategy[Expr]:
    return st.one_of([_binary(name, of) for name in names.split()])


def _methods(names: str, of: st.SearchStrategy[Expr]) -> st.SearchStrategy[Expr]:
    return st.builds(lambda name, value: getattr(value, name)(), st.sampled_from(names.split()), of)


def _choice(of: st.SearchStrategy[Expr], depth: int) -> st.SearchStrategy[Expr]:
    return st.one_of(
        st.builds(lambda c, a, b: when(c).then(a).otherwise(b), trees("bool", depth), of, of),
        st.builds(lambda a, b: a.fill_null(b), of, of),
        st.builds(lambda c, a: when(c).then(a).otherwise(None), trees("bool", depth), of),
    )


@cache
def trees(dtype: str, depth: int) -> st.SearchStrategy[Expr]:
    """Expressions of one type, at most ``depth`` operations deep."""
    if depth == 0:
        return _leaves(dtype)
    below = st.deferred(lambda: trees(dtype, depth - 1))
    more = st.deferred(lambda: _BRANCHES[dtype](depth - 1))
    return st.one_of(_leaves(dtype), more, _choice(below, depth - 1))


def _casts(to: type, depth: int, *sources: str) -> st.SearchStrategy[Expr]:
    return st.one_of([trees(s, depth).map(lambda e: e.cast(to)) for s in sources])


def _bool(depth: int) -> st.SearchStrategy[Expr]:
    comparisons = [
        _ops("eq ne lt le gt ge", trees(dtype, depth)) for dtype in ("int", "float", "str", "time")
    ]
    texts = trees("str", depth)
    return st.one_of(
        *comparisons,
        _ops("and or", trees("bool", depth)),
        _methods("__invert__", trees("bool", depth)),
        _methods("is_null is_not_null", trees("float", depth)),
        st.builds(lambda e, t: e.contains(t), texts, TEXTS),
        st.builds(lambda e, t: e.starts_with(t), texts, TEXTS),
        st.builds(lambda e, v: e.is_in(v), texts, st.lists(TEXTS, min_size=1, max_size=3)),
        st.builds(
            lambda e, v: e.is_in(v), trees("float", depth), st.lists(FLOATS, min_size=1, max_size=3)
        ),
        _casts(bool, depth, "int", "str"),
    )


def _int(depth: int) -> st.SearchStrategy[Expr]:
    below = trees("int", depth)
    return st.one_of(
        _ops("add sub mul floordiv mod", below),
        _methods("abs __neg__", below),
        st.builds(lambda e, low, high: e.clip(low, high), below, INTS, INTS),
        _methods("hour minute weekday month day", trees("time", depth)),
        _methods("length", trees("str", depth)),
        st.builds(lambda e, n: e.hash_bucket(n), trees("str", depth), st.integers(1, 100)),
        st.builds(lambda e, n: e.hash_bucket(n), below, st.integers(1, 100)),
        _casts(int, depth, "bool", "float", "str", "time"),
    )


def _float(depth: int) -> st.SearchStrategy[Expr]:
    below = trees("float", depth)
    return st.one_of(
        _ops("add sub mul div floordiv mod", below),
        _ops("div", trees("int", depth)),
        _ops("sub", trees("time", depth)),
        _methods("abs __neg__ sqrt log floor ceil", below),
        _methods("sqrt log floor ceil", trees("int", depth)),
        st.builds(lambda e, low, high: e.clip(low, high), below, FLOATS, FLOATS),
        st.builds(geo_distance, below, below, below, below),
        st.builds(lambda a, b: a * b, below, trees("int", depth)),
        _casts(float, depth, "bool", "int", "str"),
    )


def _str(depth: int) -> st.SearchStrategy[Expr]:
    below = trees("str", depth)
    return st.one_of(
        _methods("lower upper", below),
        st.builds(lambda e, i, n: e.substring(i, n), below, st.integers(0, 4), st.integers(0, 4)),
        _casts(str, depth, "bool", "int", "float", "time"),
    )


def _time(depth: int) -> st.SearchStrategy[Expr]:
    return st.one_of(
        trees("str", depth).map(lambda e: Call("cast", (e,), ("time",))),
        trees("int", depth).map(lambda e: Call("cast", (e,), ("time",))),
    )


_BRANCHES = {"bool": _bool, "float": _float, "int": _int, "str": _str, "time": _time}
EXPRESSIONS = st.sampled_from(sorted(_BRANCHES)).flatmap(lambda dtype: trees(dtype, 3))
ERROR = "the state error"


def _bits(value: Any) -> Any:
    """A float by its bits, one NaN for all; so −0.0 and 0.0 are told apart."""
    if isinstance(value, float):
        return "nan" if math.isnan(value) else struct.pack("<d", value)
    return value


def _by_row(expr: Expr, rows: list[dict[str, Any]], times: list[int]) -> list[Any]:
    function, results = compile_row(expr, SCHEMA), []
    for row, q in zip(rows, times, strict=True):
        try:
            results.append(function(row, q))
        except ValueStateError:
            results.append(ERROR)
    return results


def _by_column(expr: Expr, rows: list[dict[str, Any]], times: list[int]) -> list[Any]:
    columns = {n: pa.array([row[n] for row in rows], to_arrow(t)) for n, t in SCHEMA.items()}
    column = compile_columns(expr, SCHEMA)(columns, pa.array(times, to_arrow("time")))
    values = column.values
    assert values.type == to_arrow(infer(expr, SCHEMA))
    shown = (values.cast(pa.int64()) if pa.types.is_timestamp(values.type) else values).to_pylist()
    if column.errors is None:
        return shown
    assert all(value is None for value, error in zip(shown, column.errors, strict=True) if error)
    return [ERROR if error else v for v, error in zip(shown, column.errors, strict=True)]


@settings(max_examples=400, deadline=None)
@given(EXPRESSIONS, ROWS, st.data())
def test_both_forms_give_the_same_value(
    expr: Expr, rows: list[dict[str, Any]], data: st.DataObject
) -> None:
    """Value, null or error: the row form and the column form never differ, to the last bit."""
    times = data.draw(st.lists(TIMES, min_size=len(rows), max_size=len(rows)))
    try:
        infer(expr, SCHEMA)
    except DefinitionError:
        return
    by_row, by_column = _by_row(expr, rows, times), _by_column(expr, rows, times)
    assert [_bits(v) for v in by_row] == [_bits(v) for v in by_column]
    assert [type(v) for v in by_row] == [type(v) for v in by_column]
