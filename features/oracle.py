"""What a view is worth at a time, by three obvious loops: the guard of every fast path.

It reads the definitions and PALETTE's rules and shares nothing with the engines but the row form
of expressions. It is for tests: every question scans every event.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any

from features.aggregations import COUNTS, Aggregation
from features.algebra.hyperloglog import place_of
from features.compile_row import compile_row
from features.derivation import read_features
from features.errors import ValueStateError
from features.plan import RequestPlan, ServicePlan, ViewPlan
from features.windows import hop_of, window_start

Row = Mapping[str, Any]
Answer = tuple[Any, str]
"""A value and its state: ``value empty absent expired error``."""
NULL: Answer = (None, "absent")
_FAILED = object()


def joined(
    plan: ServicePlan,
    sources: Mapping[str, Sequence[Row]],
    row: Row,
    q: int | None,
    inclusive: bool = False,
) -> dict[str, Any]:
    """A service's output columns for one row of a spine; ``sources`` are events by source."""
    answers: dict[str, Answer] = {}
    for view in plan.views:
        key = [row[column] for column in view.key_columns]
        found = answer(view, sources[view.view.source.name], key, q, inclusive, plan.lag)
        answers |= {f"{view.role}:{name}": value for name, value in found.items()}
    for request in plan.requests:
        for name, expr in request.derived:
            answers[f"{request.view.name}:{name}"] = _requested(request, expr, row, answers, q)
    return {output.column: answers[output.ref][0] for output in plan.outputs}


def _requested(
    plan: RequestPlan, expr: Any, row: Row, answers: Mapping[str, Answer], q: int | None
) -> Answer:
    own = plan.view.name
    read = {n: answers[n if ":" in n else f"{own}:{n}"] for n in read_features(expr)}
    if any(state == "error" for _, state in read.values()):
        return None, "error"
    known = {f"@{name}": value for name, (value, _) in read.items()}
    try:
        # The row form hands q on as it is: a null time makes query_time() null.
        value = compile_row(expr, plan.schema)({**row, **known}, q)  # type: ignore[arg-type]
    except ValueStateError:
        return None, "error"
    return value, "value"


def answer(
    plan: ViewPlan,
    rows: Sequence[Row],
    key: Sequence[Any],
    q: int | None,
    inclusive: bool = False,
    lag: int = 0,
) -> dict[str, Answer]:
    """Every aggregation and derived feature of a plan; times are UTC µs, ``key`` in key order.

    Events count as they did ``lag`` µs before q; what is derived knows q itself.
    """
    if q is None or any(part is None for part in key):
        return dict.fromkeys((*plan.aggregations, *(n for n, _ in plan.derived)), NULL)
    events = [row for row in counting(plan, rows) if _key(plan, row) == tuple(key)]
    seen = q - lag
    events = [row for row in events if _known(plan, row, seen, inclusive)]
    answers = {name: _aggregate(plan, a, events, seen) for name, a in plan.aggregations.items()}
    for name, expr in plan.derived:
        answers[name] = _derived(plan, expr, answers, q)
    return answers


def counting(plan: ViewPlan, rows: Sequence[Row]) -> list[Row]:
    """Well-formed events that are not late, each id once."""
    source = plan.view.source
    time, available = source.event_time, source.available_at
    good = [row for row in rows if row[time] is not None and row[available] is not None]
    if source.lateness is not None:
        good = [row for row in good if row[available] - row[time] <= source.lateness]
    if source.event_id is None:
        return good
    kept: dict[Any, Row] = {}
    for row in sorted(good, key=lambda r: (r[available], r[time], _content(plan, r))):
        kept.setdefault(row[source.event_id], row)
    return [
        row for row in good if row[source.event_id] is None or kept[row[source.event_id]] is row
    ]


def _content(plan: ViewPlan, row: Row) -> Any:
    """The row's values by name, so that equal times are told apart whatever the order of rows."""
    values = [row[name] for name in sorted(plan.view.source.columns)]
    return [(v is None, v is not None and v != v, 0 if v is None or v != v else v) for v in values]


def _key(plan: ViewPlan, row: Row) -> tuple[Any, ...]:
    return tuple(row[name] for name in plan.view.entity.keys)


def _known(plan: ViewPlan, row: Row, q: int, inclusive: bool) -> bool:
    source = plan.view.source
    latest = max(row[source.event_time], row[source.available_at])
    return bool(latest <= q if inclusive else latest < q)


def _aggregate(plan: ViewPlan, spec: Aggregation, events: list[Row], q: int) -> Answer:
    source, view = plan.view.source, plan.view
    seen = bool(events)
    if spec.window is not None:
        start = window_start(q, spec.window, hop_of(spec.window, view.hop))
        events = [row for row in events if row[source.event_time] >= start]
    taken = _taken(plan, spec, events)
    if _is_expired(plan, spec, taken, q):
        return None, "expired"
    try:
        value = _value(plan, spec, taken)
    except ValueStateError:
        return None, "error"
    if not seen:
        return value, "absent"
    return value, "empty" if value is None or not taken else "value"


def _taken(plan: ViewPlan, spec: Aggregation, events: list[Row]) -> list[tuple[Row, Any]]:
    """The events that the aggregation takes in, with their values."""
    schema = plan.view.source.columns
    condition = None if spec.condition is None else compile_row(spec.condition, schema)
    value = None if spec.of is None else compile_row(spec.of, schema)
    taken = []
    for row in events:
        try:
            if condition is not None and condition(row, 0) is not True:
                continue
            if spec.group is not None and row[spec.group] is None:
                continue
            found = 1 if value is None else value(row, 0)
        except ValueStateError:
            found = _FAILED
        if found is not None or spec.group is not None:
            taken.append((row, found))
    return taken


def _is_expired(plan: ViewPlan, spec: Aggregation, taken: list[tuple[Row, Any]], q: int) -> bool:
    ttl = plan.view.ttl
    times = [row[plan.view.source.event_time] for row, value in taken if value is not None]
    if ttl is None or spec.window is not None or not times:
        return False
    return bool(q - max(times) > ttl)


def _value(plan: ViewPlan, spec: Aggregation, taken: list[tuple[Row, Any]]) -> Any:
    if any(value is _FAILED for _, value in taken):
        raise ValueStateError("a value could not be computed")
    if spec.group is None:
        return _finish(plan, spec, taken)
    groups: dict[Any, list[tuple[Row, Any]]] = {}
    for row, value in taken:
        groups.setdefault(row[spec.group], []).append((row, value))
    if len(groups) > 1_000:
        raise ValueStateError("too many groups")
    values = {
        _text(group): _finish(plan, spec, [(r, v) for r, v in of_group if v is not None])
        for group, of_group in groups.items()
    }
    kept = {group: value for group, value in sorted(values.items()) if value is not None}
    return kept if kept or spec.kind in COUNTS else None


def _finish(plan: ViewPlan, spec: Aggregation, taken: list[tuple[Row, Any]]) -> Any:
    ordered = sorted(taken, key=lambda event: _order(plan, *event))
    values = [value for _, value in ordered]
    return _FINISH[spec.kind](spec, values)


def _order(plan: ViewPlan, row: Row, value: Any) -> Any:
    source = plan.view.source
    sequence = None if source.sequence is None else row[source.sequence]
    known = (0, 0) if sequence is None else (1, sequence)
    return row[source.event_time], row[source.available_at], known, _rank(value)


def _rank(value: Any) -> Any:
    return (0, 0) if value != value else (1, value)


def _sum(spec: Aggregation, values: list[Any]) -> Any:
    if not values:
        return None
    special = _special(values)
    if special is not None:
        return special
    total = sum((Fraction(value) for value in values), Fraction())
    if isinstance(values[0], int):
        if not -(2**63) <= total < 2**63:
            raise ValueStateError("beyond 64 bits")
        return int(total)
    return _rounded(total)


def _mean(spec: Aggregation, values: list[Any]) -> Any:
    if not values:
        return None
    special = _special(values)
    if special is not None:
        return special
    return _rounded(sum((Fraction(value) for value in values), Fraction()) / len(values))


def _special(values: list[Any]) -> float | None:
    floats = [value for value in values if isinstance(value, float)]
    if any(math.isnan(value) for value in floats):
        return math.nan
    infinite = {value for value in floats if math.isinf(value)}
    return None if not infinite else math.nan if len(infinite) == 2 else infinite.pop()


def _rounded(value: Fraction) -> float:
    try:
        return value.numerator / value.denominator
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _variance(spec: Aggregation, values: list[Any]) -> Any:
    if len(values) < 2:
        return None
    if _special(values) is not None:
        return math.nan
    exact = [Fraction(value) for value in values]
    mean = sum(exact, Fraction()) / len(exact)
    return _rounded(sum(((value - mean) ** 2 for value in exact), Fraction()) / (len(exact) - 1))


def _stddev(spec: Aggregation, values: list[Any]) -> Any:
    found = _variance(spec, values)
    return None if found is None else math.sqrt(found)


def _extreme(choose: Callable[..., Any]) -> Callable[[Aggregation, list[Any]], Any]:
    def finish(spec: Aggregation, values: list[Any]) -> Any:
        if any(value != value for value in values):
            return math.nan
        return choose(values) if values else None

    return finish


def _ends(spec: Aggregation, values: list[Any]) -> Any:
    if not values:
        return None
    ordered = values if spec.kind == "first" else values[::-1]
    return ordered[0] if spec.k is None else ordered[: spec.k]


def _top(spec: Aggregation, values: list[Any]) -> Any:
    return sorted(values, key=_rank, reverse=True)[: spec.k] or None


def _distinct(spec: Aggregation, values: list[Any]) -> Any:
    found = {_text(value) for value in values}
    if len(found) > 10_000:
        raise ValueStateError("too many")
    return len(found)


def _approx_distinct(spec: Aggregation, values: list[Any]) -> Any:
    """HyperLogLog as its paper tells it, register by register."""
    registers = [0] * 4_096
    for value in values:
        register, rank = place_of(value + 0.0 if isinstance(value, float) else value)
        registers[register] = max(registers[register], rank)
    held = [float(registers.count(rank)) for rank in range(54)]
    z = 4_096 * _tau(1.0 - held[53] / 4_096)
    for rank in range(52, 0, -1):
        z = 0.5 * (z + held[rank])
    z += 4_096 * _sigma(held[0] / 4_096)
    return math.floor(1 / (2 * math.log(2)) * 4_096 * 4_096 / z + 0.5)


def _sigma(x: float) -> float:
    if x == 1.0:
        return math.inf
    found, power, before = x, 1.0, -1.0
    while found != before:
        x, before = x * x, found
        found, power = found + x * power, power * 2
    return found


def _tau(x: float) -> float:
    if x in (0.0, 1.0):
        return 0.0
    found, power, before = 1.0 - x, 1.0, -1.0
    while found != before:
        x, before, power = math.sqrt(x), found, power / 2
        found -= (1.0 - x) ** 2 * power
    return found / 3


def _histogram(spec: Aggregation, values: list[Any]) -> Any:
    counts: dict[str, int] = {}
    for value in values:
        counts[_text(value)] = counts.get(_text(value), 0) + 1
    if len(counts) > 1_000:
        raise ValueStateError("too many")
    return dict(sorted(counts.items()))


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return "nan" if value != value else repr(value + 0.0)
    return value if isinstance(value, str) else repr(value)


def _quantiles(spec: Aggregation, values: list[Any]) -> Any:
    """The exact values at the nearest ranks; engines may be one percent off."""
    if not values:
        return None
    ordered = sorted((float(value) for value in values), key=_rank)
    ranks = [max(1, math.ceil(quantile * len(ordered))) for quantile in spec.quantiles]
    return [ordered[rank - 1] for rank in ranks]


_FINISH: dict[str, Callable[[Aggregation, list[Any]], Any]] = {
    "approx_distinct": _approx_distinct,
    "approx_quantiles": _quantiles,
    "count": lambda spec, values: len(values),
    "distinct": _distinct,
    "first": _ends,
    "histogram": _histogram,
    "last": _ends,
    "max": _extreme(max),
    "mean": _mean,
    "min": _extreme(min),
    "stddev": _stddev,
    "sum": _sum,
    "top_k": _top,
    "variance": _variance,
}


def _derived(plan: ViewPlan, expr: Any, answers: Mapping[str, Answer], q: int) -> Answer:
    read = [answers[name] for name in read_features(expr)]
    if any(state == "error" for _, state in read):
        return None, "error"
    row = {f"@{name}": value for name, (value, _) in answers.items()}
    try:
        value = compile_row(expr, plan.schema)(row, q)
    except ValueStateError:
        return None, "error"
    return value, "value" if value is not None else derived_state([state for _, state in read])


def derived_state(read: Sequence[str]) -> str:
    """The state of a derived null: that of what made it so."""
    for state in ("expired", "empty", "absent"):
        if state in read:
            return state
    return "empty"
