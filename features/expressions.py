"""The feature language: a small tree of frozen nodes, built with Python's operators."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from features.dtypes import DType, dtype_of
from features.errors import BadInput, DefinitionError

Scalar = bool | int | float | str | None
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Expr:
    """A node of the feature language. Making one computes nothing."""

    __slots__ = ()

    def __bool__(self) -> bool:
        raise DefinitionError(
            "an expression has no truth value while it is being defined",
            "Use & | ~ instead of and, or, not; put comparisons in parentheses.",
        )

    def __add__(self, other: Any) -> Expr:
        return _call("add", self, other)

    def __radd__(self, other: Any) -> Expr:
        return _call("add", other, self)

    def __sub__(self, other: Any) -> Expr:
        return _call("sub", self, other)

    def __rsub__(self, other: Any) -> Expr:
        return _call("sub", other, self)

    def __mul__(self, other: Any) -> Expr:
        return _call("mul", self, other)

    def __rmul__(self, other: Any) -> Expr:
        return _call("mul", other, self)

    def __truediv__(self, other: Any) -> Expr:
        return _call("div", self, other)

    def __rtruediv__(self, other: Any) -> Expr:
        return _call("div", other, self)

    def __floordiv__(self, other: Any) -> Expr:
        return _call("floordiv", self, other)

    def __rfloordiv__(self, other: Any) -> Expr:
        return _call("floordiv", other, self)

    def __mod__(self, other: Any) -> Expr:
        return _call("mod", self, other)

    def __rmod__(self, other: Any) -> Expr:
        return _call("mod", other, self)

    def __neg__(self) -> Expr:
        return _call("neg", self)

    def __and__(self, other: Any) -> Expr:
        return _call("and", self, other)

    def __rand__(self, other: Any) -> Expr:
        return _call("and", other, self)

    def __or__(self, other: Any) -> Expr:
        return _call("or", self, other)

    def __ror__(self, other: Any) -> Expr:
        return _call("or", other, self)

    def __invert__(self) -> Expr:
        return _call("not", self)

    def __eq__(self, other: object) -> Expr:  # type: ignore[override]
        return _call("eq", self, other)

    def __ne__(self, other: object) -> Expr:  # type: ignore[override]
        return _call("ne", self, other)

    def __lt__(self, other: Any) -> Expr:
        return _call("lt", self, other)

    def __le__(self, other: Any) -> Expr:
        return _call("le", self, other)

    def __gt__(self, other: Any) -> Expr:
        return _call("gt", self, other)

    def __ge__(self, other: Any) -> Expr:
        return _call("ge", self, other)

    def __hash__(self) -> int:
        return object.__hash__(self)

    def is_null(self) -> Expr:
        """True where the value is null."""
        return _call("is_null", self)

    def is_not_null(self) -> Expr:
        """True where the value is not null."""
        return ~self.is_null()

    def fill_null(self, value: Any) -> Expr:
        """The value, or ``value`` where it is null."""
        return _call("fill_null", self, value)

    def is_in(self, values: Iterable[Any]) -> Expr:
        """True where the value is one of these constants; null where it is null."""
        constants = [lit(value) for value in values]
        if not constants or any(constant.value is None for constant in constants):
            raise DefinitionError(
                "is_in() wants constants that are not null", "Use is_null() to ask for null."
            )
        return Call("is_in", (self, *constants))

    def cast(self, to: Any) -> Expr:
        """The value as another type; one that it cannot hold is the state ``error``."""
        return Call("cast", (self,), (dtype_of(to),))

    def abs(self) -> Expr:
        """The magnitude."""
        return _call("abs", self)

    def log(self) -> Expr:
        """The natural logarithm; null at and below zero."""
        return _call("log", self)

    def sqrt(self) -> Expr:
        """The square root; null below zero."""
        return _call("sqrt", self)

    def floor(self) -> Expr:
        """The largest whole number not above, as a float."""
        return _call("floor", self)

    def ceil(self) -> Expr:
        """The smallest whole number not below, as a float."""
        return _call("ceil", self)

    def clip(self, low: Any, high: Any) -> Expr:
        """The value, kept within ``[low, high]``; NaN stays NaN."""
        return _call("clip", self, low, high)

    def lower(self) -> Expr:
        """The text in lower case (Unicode)."""
        return _call("lower", self)

    def upper(self) -> Expr:
        """The text in upper case (Unicode)."""
        return _call("upper", self)

    def length(self) -> Expr:
        """The number of code points."""
        return _call("length", self)

    def contains(self, text: str) -> Expr:
        """True where ``text`` occurs."""
        return Call("contains", (self,), (_text(text),))

    def starts_with(self, text: str) -> Expr:
        """True where the value begins with ``text``."""
        return Call("starts_with", (self,), (_text(text),))

    def substring(self, start: int, count: int) -> Expr:
        """``count`` code points from ``start`` (from 0, not negative)."""
        if start < 0 or count < 0:
            raise DefinitionError("substring() counts from the beginning", "Use start, count >= 0.")
        return Call("substring", (self,), (start, count))

    def hour(self) -> Expr:
        """The hour of a time, 0 to 23, UTC."""
        return _call("hour", self)

    def minute(self) -> Expr:
        """The minute of a time, 0 to 59."""
        return _call("minute", self)

    def weekday(self) -> Expr:
        """The day of the week, Monday 0 to Sunday 6, UTC."""
        return _call("weekday", self)

    def month(self) -> Expr:
        """The month, 1 to 12, UTC."""
        return _call("month", self)

    def day(self) -> Expr:
        """The day of the month, 1 to 31, UTC."""
        return _call("day", self)

    def hash_bucket(self, buckets: int) -> Expr:
        """A stable bucket number below ``buckets``: CRC-32 of a string, or of an int's digits."""
        if buckets < 1:
            raise DefinitionError("hash_bucket() needs at least one bucket")
        return Call("hash_bucket", (self,), (buckets,))

    def names(self) -> tuple[str, ...]:
        """The names it reads, once each: ``x`` for a column, ``@x`` for a feature."""
        found = (
            node.name if isinstance(node, Col) else f"@{node.name}"
            for node in walk(self)
            if isinstance(node, (Col, Ref))
        )
        return tuple(dict.fromkeys(found))


@dataclass(frozen=True, slots=True, eq=False)
class Col(Expr):
    """A column of the source, or a request field."""

    name: str


@dataclass(frozen=True, slots=True, eq=False)
class Ref(Expr):
    """Another feature: ``feature`` of the same view, or ``view:feature``."""

    name: str


@dataclass(frozen=True, slots=True, eq=False)
class Lit(Expr):
    """A constant. A time is kept as µs with ``dtype`` ``time``."""

    value: Scalar
    dtype: DType | None


@dataclass(frozen=True, slots=True, eq=False)
class QueryTime(Expr):
    """The time q that the feature is asked for."""


@dataclass(frozen=True, slots=True, eq=False)
class Call(Expr):
    """An operation on expressions, with constant parameters."""

    op: str
    args: tuple[Expr, ...]
    params: tuple[Scalar, ...] = ()


def col(name: str) -> Expr:
    """A column of the source, or a field of the request."""
    return Col(_named("col", name))


def ref(name: str) -> Expr:
    """Another feature: ``feature`` of the same view, or ``view:feature`` in a request view."""
    return Ref(_named("ref", name))


def _named(kind: str, name: Any) -> str:
    if isinstance(name, str) and name:
        return name
    raise DefinitionError(f"{kind}({name!r}) names nothing", f"Write {kind}('some_name').")


def query_time() -> Expr:
    """The time q that the feature is asked for."""
    return QueryTime()


def lit(value: Any) -> Lit:
    """A constant of the language. Raises DefinitionError for anything else."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None:
        return Lit(None, None)
    if isinstance(value, datetime):
        return Lit(micros(value), "time")
    if isinstance(value, str):
        return Lit(_text(value), "str")
    if isinstance(value, (bool, float)) or (isinstance(value, int) and fits(value)):
        return Lit(value, dtype_of(type(value)))
    raise DefinitionError(
        f"{value!r} is not a constant of the feature language",
        "Use bool, int (64 bits), float, str, datetime (with a zone) or None.",
    )


def fits(value: int) -> bool:
    """Whether 64 bits hold the number."""
    return -(2**63) <= value < 2**63


def micros(moment: datetime) -> int:
    """A time as µs since 1970. Raises BadInput for a time without a zone."""
    if moment.tzinfo is None:
        raise BadInput("a naive timestamp is refused", "Give it a zone, e.g. tzinfo=UTC.")
    return (moment - _EPOCH) // timedelta(microseconds=1)


def _text(value: Any) -> str:
    if isinstance(value, str) and not any("\ud800" <= letter <= "\udfff" for letter in value):
        return value
    raise DefinitionError(f"{value!r} is not text", "Use a str of whole Unicode characters.")


def wrap(value: Any) -> Expr:
    """The expression itself, or the constant as one."""
    return value if isinstance(value, Expr) else lit(value)


def _call(op: str, *args: Any) -> Expr:
    return Call(op, tuple(wrap(arg) for arg in args))


def geo_distance(lat1: Any, lon1: Any, lat2: Any, lon2: Any) -> Expr:
    """The great-circle distance in km of two points in degrees (haversine, R = 6371.0088)."""
    return _call("geo_distance", lat1, lon1, lat2, lon2)


@dataclass(frozen=True, slots=True, eq=False)
class When:
    """A condition that waits for its value."""

    condition: Expr

    def then(self, value: Any) -> Then:
        """The value where the condition is true."""
        return Then(self.condition, wrap(value))


@dataclass(frozen=True, slots=True, eq=False)
class Then:
    """A condition and its value, waiting for the other one."""

    condition: Expr
    value: Expr

    def otherwise(self, value: Any) -> Expr:
        """The value where the condition is false or null."""
        return Call("if", (self.condition, self.value, wrap(value)))


def when(condition: Expr) -> When:
    """``when(c).then(x).otherwise(y)``; a null condition counts as false."""
    return When(condition)


def walk(expr: Expr) -> Iterator[Expr]:
    """The node and everything below it, depth first."""
    yield expr
    if isinstance(expr, Call):
        for arg in expr.args:
            yield from walk(arg)


def uses_query_time(expr: Expr) -> bool:
    """Whether the expression depends on the time it is asked for."""
    return any(isinstance(node, QueryTime) for node in walk(expr))
