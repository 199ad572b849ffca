"""Aggregations as people write them: frozen specifications, no arithmetic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from features.dtypes import DType
from features.errors import DefinitionError
from features.expression_types import infer
from features.expressions import Expr, uses_query_time, wrap
from features.frozen import ByValue
from features.naming import did_you_mean

KINDS = (
    "approx_distinct",
    "approx_quantiles",
    "count",
    "distinct",
    "first",
    "histogram",
    "last",
    "max",
    "mean",
    "min",
    "stddev",
    "sum",
    "top_k",
    "variance",
)
COUNTS = frozenset({"count", "distinct", "approx_distinct"})
NUMERIC = frozenset({"sum", "mean", "variance", "stddev", "approx_quantiles"})
MAX_GROUPS = 1_000
MAX_DISTINCT = 10_000
MAX_HISTOGRAM = 1_000


@dataclass(frozen=True, slots=True, eq=False)
class Aggregation(ByValue):
    """What to do with the events of a key: kind, expression, window, filter and grouping.

    ``window`` is in µs; None takes in all history.
    """

    kind: str
    of: Expr | None = None
    k: int | None = None
    window: int | None = None
    condition: Expr | None = None
    group: str | None = None
    quantiles: tuple[float, ...] = ()

    def over(self, window: int) -> Aggregation:
        """Only the events of the last ``window`` µs."""
        if type(window) is not int or window <= 0:
            raise DefinitionError(
                f"a window of {window!r} is not a length of time", "Use hours(3), days(7), …"
            )
        return replace(self, window=window)

    def where(self, condition: Expr) -> Aggregation:
        """Only the events for which the condition is true (null is false)."""
        if not isinstance(condition, Expr):
            raise DefinitionError(
                f"where({condition!r}) is not an expression", "Write where(col('x') > 0)."
            )
        both = condition if self.condition is None else self.condition & condition
        return replace(self, condition=both)

    def by(self, column: str) -> Aggregation:
        """A map with one value for every value of a column."""
        if not isinstance(column, str):
            raise DefinitionError(f"by({column!r}) wants a column's name", "Write by('origin').")
        return replace(self, group=column)

    def expressions(self) -> tuple[Expr, ...]:
        """The expressions that are computed for every event."""
        return tuple(part for part in (self.of, self.condition) if part is not None)

    def columns(self) -> tuple[str, ...]:
        """The columns that it reads of every event, its group among them."""
        names = [name for part in self.expressions() for name in part.names()]
        return tuple(dict.fromkeys(names + ([] if self.group is None else [self.group])))


def _of(kind: str, value: Any, **more: Any) -> Aggregation:
    return Aggregation(kind, wrap(value), **more)


def _positive(kind: str, k: int | None) -> int | None:
    if k is not None and (type(k) is not int or k < 1):
        raise DefinitionError(f"{kind}(k={k!r}) keeps nothing", "Use k >= 1.")
    return k


def count(value: Any = None) -> Aggregation:
    """The number of events, or of the non-null values of an expression."""
    return Aggregation("count", None if value is None else wrap(value))


def sum(value: Any) -> Aggregation:
    """The sum of the non-null values; null when there is none."""
    return _of("sum", value)


def mean(value: Any) -> Aggregation:
    """The mean of the non-null values (true counts 1, false 0); null when there is none."""
    return _of("mean", value)


def min(value: Any) -> Aggregation:
    """The least of the non-null values."""
    return _of("min", value)


def max(value: Any) -> Aggregation:
    """The greatest of the non-null values."""
    return _of("max", value)


def variance(value: Any) -> Aggregation:
    """The variance of the sample (n - 1); null below two values."""
    return _of("variance", value)


def stddev(value: Any) -> Aggregation:
    """The standard deviation of the sample (n - 1); null below two values."""
    return _of("stddev", value)


def first(value: Any, k: int | None = None) -> Aggregation:
    """The first non-null value, or a list of the first ``k``, oldest first."""
    return _of("first", value, k=_positive("first", k))


def last(value: Any, k: int | None = None) -> Aggregation:
    """The last non-null value, or a list of the last ``k``, newest first."""
    return _of("last", value, k=_positive("last", k))


def distinct(value: Any) -> Aggregation:
    """The exact number of distinct non-null values, up to 10,000; beyond it ``error``."""
    return _of("distinct", value)


def top_k(value: Any, k: int) -> Aggregation:
    """The ``k`` largest non-null values, largest first, duplicates kept."""
    return _of("top_k", value, k=_positive("top_k", k))


def histogram(value: Any) -> Aggregation:
    """A map from value to count, up to 1,000 values; beyond it ``error``."""
    return _of("histogram", value)


def approx_distinct(value: Any) -> Aggregation:
    """The number of distinct non-null values, with a standard error of 1.6 %."""
    return _of("approx_distinct", value)


def approx_quantiles(value: Any, quantiles: Sequence[float]) -> Aggregation:
    """The values at these quantiles, nearest rank, relative error at most 1 %."""
    wanted = tuple(float(quantile) for quantile in quantiles)
    if not wanted or not all(0 <= quantile <= 1 for quantile in wanted):
        raise DefinitionError(
            f"approx_quantiles({list(quantiles)!r}) names no quantiles", "Use e.g. [0.5, 0.9]."
        )
    return _of("approx_quantiles", value, quantiles=wanted)


def check_parts(aggregation: Aggregation) -> None:
    """Refuses what no event can answer: query time, other features."""
    for expression in aggregation.expressions():
        if uses_query_time(expression):
            raise DefinitionError(
                "query_time() is refused inside an aggregation",
                "Aggregate a time, then subtract it from query_time() in a derived feature.",
            )
        refs = [name for name in expression.names() if name.startswith("@")]
        if refs:
            raise DefinitionError(
                f"an aggregation reads columns, not the feature {refs[0][1:]!r}",
                "Use col('…') inside, and ref('…') in a derived feature.",
            )


def value_dtype(aggregation: Aggregation, schema: Mapping[str, DType]) -> DType:
    """The type of the expression that is aggregated; ``int`` for a bare count.

    Raises DefinitionError for parts that do not fit the columns or the kind.
    """
    check_parts(aggregation)
    if aggregation.condition is not None and infer(aggregation.condition, schema) != "bool":
        raise DefinitionError("where() wants a condition", "Compare something.")
    if aggregation.group is not None:
        _check_group(aggregation.group, schema)
    return _checked_value(aggregation, schema)


def _check_group(column: str, schema: Mapping[str, DType]) -> None:
    if column not in schema:
        raise DefinitionError(
            f"by({column!r}) names no column", did_you_mean(column, schema, "columns")
        )
    if schema[column] not in ("str", "int", "bool"):
        raise DefinitionError(
            f"by({column!r}) groups by a {schema[column]}", "Group by a str, int or bool column."
        )


def _checked_value(aggregation: Aggregation, schema: Mapping[str, DType]) -> DType:
    if aggregation.of is None:
        return "int"
    dtype = infer(aggregation.of, schema)
    if "<" in dtype:
        raise DefinitionError(
            f"{aggregation.kind} does not take a {dtype}", "Aggregate single values."
        )
    allowed = ("int", "float", "bool") if aggregation.kind == "mean" else ("int", "float")
    if aggregation.kind in NUMERIC and dtype not in allowed:
        raise DefinitionError(
            f"{aggregation.kind} does not take a {dtype}", "Cast it to int or float."
        )
    return dtype


def output_dtype(aggregation: Aggregation, schema: Mapping[str, DType]) -> DType:
    """The type of the finished value, its map over groups included."""
    single = _single_dtype(aggregation, value_dtype(aggregation, schema))
    return f"map<str,{single}>" if aggregation.group else single


def _single_dtype(aggregation: Aggregation, value: DType) -> DType:
    kind = aggregation.kind
    if kind in COUNTS:
        return "int"
    if kind in {"mean", "variance", "stddev"}:
        return "float"
    if kind == "approx_quantiles":
        return "list<float>"
    if kind == "histogram":
        return "map<str,int>"
    return f"list<{value}>" if aggregation.k is not None else value
