"""What type an expression gives; wrong ones are refused with the place and a hint."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from features.dtypes import DType
from features.errors import DefinitionError, ValueStateError
from features.expressions import Call, Col, Expr, Lit, QueryTime, Ref
from features.naming import did_you_mean
from features.scalar_functions import CASTS

NULL = "null"
NUMBERS = ("int", "float")


@dataclass(frozen=True, slots=True)
class Typed:
    """A node whose arguments have already been brought to the types its operation wants."""

    node: Expr
    dtype: DType
    args: tuple[Typed, ...] = ()


def infer(expr: Expr, schema: Mapping[str, DType]) -> DType:
    """The type of ``expr`` over columns ``x`` and features ``@x`` of ``schema``.

    Raises DefinitionError for unknown names and operations that a type does not have.
    """
    return typed(expr, schema).dtype


def typed(expr: Expr, schema: Mapping[str, DType]) -> Typed:
    """``expr`` with every node's type, and conversions where operands differ."""
    if isinstance(expr, (Col, Ref)):
        return Typed(expr, _lookup(expr, schema))
    if isinstance(expr, Lit):
        return Typed(expr, expr.dtype or NULL)
    if isinstance(expr, QueryTime):
        return Typed(expr, "time")
    assert isinstance(expr, Call)
    return _RULES[expr.op](expr, tuple(typed(arg, schema) for arg in expr.args))


def _lookup(expr: Col | Ref, schema: Mapping[str, DType]) -> DType:
    name = expr.name if isinstance(expr, Col) else f"@{expr.name}"
    if name in schema:
        return schema[name]
    kind = "column" if isinstance(expr, Col) else "feature"
    known = [key.removeprefix("@") for key in schema if key.startswith("@") == (kind == "feature")]
    raise DefinitionError(
        f"there is no {kind} {expr.name!r} here", did_you_mean(expr.name, known, f"{kind}s")
    )


def convert(value: Typed, to: DType) -> Typed:
    """The same value as another type, by an explicit conversion node."""
    if value.dtype == to:
        return value
    if value.dtype == NULL:
        return Typed(Lit(None, to), to)
    return Typed(Call("cast", (value.node,), (to,)), to, (value,))


def unify(op: str, args: tuple[Typed, ...]) -> tuple[DType, tuple[Typed, ...]]:
    """The one type that all arguments can take, and the arguments as that type."""
    kinds = {arg.dtype for arg in args} - {NULL}
    if len(kinds) == 1:
        dtype = kinds.pop()
    elif kinds and kinds <= set(NUMBERS):
        dtype = "float"
    elif not kinds:
        raise DefinitionError(f"{op} of nothing but nulls has no type", "Cast one of them.")
    else:
        raise DefinitionError(
            f"{op} mixes {' and '.join(sorted(kinds))}", "Cast one side so that both are the same."
        )
    return dtype, tuple(convert(arg, dtype) for arg in args)


def _refuse(op: str, dtypes: tuple[DType, ...], wants: str) -> DefinitionError:
    return DefinitionError(f"{op} does not take {', '.join(dtypes)}", f"It takes {wants}.")


def _arithmetic(expr: Call, args: tuple[Typed, ...]) -> Typed:
    if expr.op == "sub" and {arg.dtype for arg in args} == {"time"}:
        return Typed(expr, "float", args)
    dtype, args = unify(expr.op, args)
    if dtype not in NUMBERS:
        raise _refuse(expr.op, tuple(arg.dtype for arg in args), "numbers (or time - time)")
    if expr.op == "div":
        return Typed(expr, "float", tuple(convert(arg, "float") for arg in args))
    return Typed(expr, dtype, args)


def _comparison(expr: Call, args: tuple[Typed, ...]) -> Typed:
    dtype, args = unify(expr.op, args)
    if "<" in dtype:
        raise _refuse(expr.op, (dtype,), "single values, not lists or maps")
    return Typed(expr, "bool", args)


def _clip(expr: Call, args: tuple[Typed, ...]) -> Typed:
    dtype, args = unify(expr.op, args)
    if dtype not in ("int", "float", "time"):
        raise _refuse(expr.op, (dtype,), "numbers or times")
    return Typed(expr, dtype, args)


def _hash_bucket(expr: Call, args: tuple[Typed, ...]) -> Typed:
    if args[0].dtype not in ("str", "int"):
        raise _refuse(expr.op, (args[0].dtype,), "a str or an int")
    return Typed(expr, "int", args)


def _boolean(expr: Call, args: tuple[Typed, ...]) -> Typed:
    args = tuple(convert(arg, "bool") if arg.dtype == NULL else arg for arg in args)
    if any(arg.dtype != "bool" for arg in args):
        raise _refuse(expr.op, tuple(arg.dtype for arg in args), "bool; compare first")
    return Typed(expr, "bool", args)


def _is_null(expr: Call, args: tuple[Typed, ...]) -> Typed:
    return Typed(expr, "bool", args)


def _unified(expr: Call, args: tuple[Typed, ...]) -> Typed:
    dtype, args = unify(expr.op, args)
    return Typed(expr, dtype, args)


def _choice(expr: Call, args: tuple[Typed, ...]) -> Typed:
    condition, *branches = args
    if condition.dtype != "bool":
        raise _refuse("when()", (condition.dtype,), "a bool condition")
    dtype, unified = unify("then/otherwise", tuple(branches))
    return Typed(expr, dtype, (condition, *unified))


def _same_number(expr: Call, args: tuple[Typed, ...]) -> Typed:
    if args[0].dtype not in NUMBERS:
        raise _refuse(expr.op, (args[0].dtype,), "a number")
    return Typed(expr, args[0].dtype, args)


def _to_float(expr: Call, args: tuple[Typed, ...]) -> Typed:
    if any(arg.dtype not in NUMBERS for arg in args):
        raise _refuse(expr.op, tuple(arg.dtype for arg in args), "numbers")
    return Typed(expr, "float", tuple(convert(arg, "float") for arg in args))


def _from(source: DType, result: DType) -> Callable[[Call, tuple[Typed, ...]], Typed]:
    def rule(expr: Call, args: tuple[Typed, ...]) -> Typed:
        if args[0].dtype != source:
            raise _refuse(expr.op, (args[0].dtype,), f"a {source}")
        return Typed(expr, result, args)

    return rule


def _cast(expr: Call, args: tuple[Typed, ...]) -> Typed:
    source, target = args[0].dtype, str(expr.params[0])
    if source != target and source != NULL and (source, target) not in CASTS:
        raise _refuse("cast", (source,), f"what {target} can hold")
    if isinstance(args[0].node, Lit) and source not in (target, NULL):
        _try_constant(args[0].node, source, target)
    return convert(args[0], target)


def _try_constant(constant: Lit, source: DType, target: DType) -> None:
    """What cannot work is refused now, not for every row."""
    try:
        CASTS[source, target](constant.value)
    except ValueStateError as error:
        raise DefinitionError(
            f"the constant {constant.value!r} cannot be cast to {target}", error.what
        ) from None


_RULES: dict[str, Callable[[Call, tuple[Typed, ...]], Typed]] = {
    **dict.fromkeys(("add", "sub", "mul", "div", "floordiv", "mod"), _arithmetic),
    **dict.fromkeys(("eq", "ne", "lt", "le", "gt", "ge"), _comparison),
    **dict.fromkeys(("and", "or", "not"), _boolean),
    **dict.fromkeys(("neg", "abs"), _same_number),
    **dict.fromkeys(("log", "sqrt", "floor", "ceil", "geo_distance"), _to_float),
    **dict.fromkeys(("lower", "upper", "substring"), _from("str", "str")),
    **dict.fromkeys(("contains", "starts_with"), _from("str", "bool")),
    "length": _from("str", "int"),
    "hash_bucket": _hash_bucket,
    "is_in": _comparison,
    "clip": _clip,
    **dict.fromkeys(("hour", "minute", "weekday", "month", "day"), _from("time", "int")),
    "is_null": _is_null,
    "fill_null": _unified,
    "if": _choice,
    "cast": _cast,
}

_NEVER_FAIL = frozenset(
    {
        *("and", "or", "not", "is_null", "fill_null", "if", "is_in", "clip"),
        *("eq", "ne", "lt", "le", "gt", "ge"),
        *("lower", "upper", "length", "contains", "starts_with", "substring", "hash_bucket"),
        *("hour", "minute", "weekday", "month", "day"),
        *("log", "sqrt", "floor", "ceil", "geo_distance", "div"),
    }
)
_FAIL_FOR_INTEGERS = frozenset({"add", "sub", "mul", "floordiv", "mod", "neg", "abs"})
_SAFE_CASTS = frozenset({("int", "float"), ("bool", "int"), ("bool", "float"), ("time", "int")})


def can_fail(value: Typed) -> bool:
    """Whether some value of the columns makes it the state ``error``."""
    return _itself_can_fail(value) or any(can_fail(arg) for arg in value.args)


def _itself_can_fail(value: Typed) -> bool:
    node = value.node
    if not isinstance(node, Call) or node.op in _NEVER_FAIL:
        return False
    if node.op == "cast":
        return (value.args[0].dtype, value.dtype) not in _SAFE_CASTS
    return not (node.op in _FAIL_FOR_INTEGERS and value.args[0].dtype == "float")
