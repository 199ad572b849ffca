"""Batch kernel and packed cells give what the naive oracle gives, whatever the edge."""

from __future__ import annotations

import math
from typing import Any

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from features import (
    Entity,
    FeatureView,
    Source,
    approx_distinct,
    approx_quantiles,
    col,
    count,
    distinct,
    first,
    histogram,
    last,
    mean,
    query_time,
    ref,
    stddev,
    top_k,
    variance,
)
from features import max as greatest
from features import min as least
from features import sum as total
from features.algebra.state import EntityState, OpenCell
from features.algebra.values import Value, aggregate
from features.algebra.view import Row, ViewAlgebra, counting
from features.batch.kernel import AS_OF, features_as_of
from features.dtypes import to_arrow
from features.keys import key_bytes
from features.oracle import answer
from features.plan import ViewPlan
from features.view_test import events_table

SCHEMA = {
    "a": str,
    "b": int,
    "x": float,
    "n": int,
    "flag": bool,
    "s": str,
    "seq": int,
    "id": str,
    "at": "time",
    "known": "time",
}
FLOATS = st.one_of(
    st.sampled_from([0.0, -0.0, 1.0, -1.5, 0.1, 1e300, -1e300, 5e-324]),
    st.floats(allow_nan=True, allow_infinity=True),
    st.integers(-20, 20).map(float),
)
TIMES = st.one_of(st.integers(-9, 12).map(lambda n: n * 1_500), st.integers(-13_000, 18_000))
A = st.sampled_from(["p"] * 12 + ["q", "", None])
B = st.sampled_from([0] * 12 + [1, -1, None])
OPTIONS = st.fixed_dictionaries(
    {
        "sequence": st.sampled_from([None, "seq"]),
        "event_id": st.sampled_from([None, "id"]),
        "lateness": st.sampled_from([None, 0, 7_000]),
        "ttl": st.sampled_from([None, 4_500, 15_000]),
        "hop": st.sampled_from([None, 70]),
    }
)
MOMENTS = st.integers(0, 25).flatmap(lambda n: TIMES if n else st.none())


@st.composite
def events(draw: st.DrawFn) -> list[dict[str, Any]]:
    """A few events of a few entities, most things null now and then."""
    row = st.fixed_dictionaries(
        {
            "a": A,
            "b": B,
            "x": st.one_of(st.none(), FLOATS),
            "n": st.one_of(
                st.none(), st.sampled_from([0, 3, 2**63 - 1, -(2**63)]), st.integers(-9, 9)
            ),
            "flag": st.one_of(st.none(), st.booleans()),
            "s": st.one_of(st.none(), st.sampled_from(["u", "v", "é", ""])),
            "seq": st.one_of(st.none(), st.integers(0, 2)),
            "id": st.one_of(st.none(), st.sampled_from(["i", "j", "k", "l"])),
            "at": MOMENTS,
            "known": MOMENTS,
        }
    )
    return draw(st.lists(row, min_size=draw(st.sampled_from([0, 4, 12])), max_size=24))


def view(**options: Any) -> FeatureView:
    """Every aggregation, with and without windows, filters and groups."""
    source = Source("src", table="lake.src", event_time="at", available_at="known",
                    schema=SCHEMA, sequence=options.pop("sequence", None),
                    event_id=options.pop("event_id", None),
                    lateness=options.pop("lateness", None))  # fmt: skip
    entity = Entity("pair", key=("a", "b"), type=(str, int))
    x, n, s = col("x"), col("n"), col("s")
    return FeatureView("v", entity=entity, source=source, features={
        "count": count(), "count_w": count().over(6_000), "count_x": count(x).over(24_000),
        "sum": total(x), "sum_w": total(x).over(12_000), "sum_n": total(n).over(30_000),
        "mean": mean(x), "mean_w": mean(x).over(6_000), "share": mean(x > 0).over(24_000),
        "mean_n": mean(n), "mean_where": mean(x).over(20_000).where(col("flag")),
        "min": least(x).over(9_000), "max": greatest(x), "max_s": greatest(s).over(24_000),
        "min_n": least(n), "min_flag": least(col("flag")),
        "var": variance(x).over(30_000), "std_n": stddev(n), "var_all": variance(x),
        "first": first(x), "first_w": first(s).over(12_000), "last": last(x),
        "last_w": last(n).over(12_000), "last_at": last(col("at")), "last_3": last(x, k=3),
        "first_2w": first(s, k=2).over(24_000), "last_flag": last(col("flag")).where(n >= 0),
        "top": top_k(x, k=2), "top_w": top_k(s, k=3).over(12_000),
        "distinct": distinct(x), "distinct_w": distinct(s).over(12_000),
        "about": approx_distinct(x), "about_w": approx_distinct(n).over(12_000),
        "about_by": approx_distinct(x).over(24_000).by("s"),
        "hist": histogram(s), "hist_w": histogram(n).over(12_000), "hist_x": histogram(x),
        "by_s": mean(x).over(24_000).by("s"), "by_n": count(x).by("n"),
        "by_flag": last(s, k=2).by("flag"), "by_sum": total(n).over(12_000).by("s"),
        "fails": total(n * 2).over(24_000), "fails_by": count().where(n + 1 > 0).by("s"),
        "gap": ref("mean") - ref("mean_w"), "since": query_time() - ref("last_at"),
        "of_error": ref("fails").fill_null(7),
    }, **options)  # fmt: skip


def same(a: Any, b: Any) -> bool:
    """Equal, NaN to NaN and every float to the last bit (−0.0 is 0.0)."""
    if isinstance(a, dict) and isinstance(b, dict):
        return list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, float) and isinstance(b, float):
        return a == b or (math.isnan(a) and math.isnan(b))
    return type(a) is type(b) and bool(a == b)


def plain(column: pa.Array) -> list[Any]:
    """Python values as the oracle gives them."""
    if pa.types.is_timestamp(column.type):
        return list(column.cast(pa.int64()).to_pylist())
    found = column.to_pylist()
    if pa.types.is_map(column.type):
        return [None if v is None else dict(v) for v in found]
    return list(found)


@given(
    rows=events(),
    spine=st.lists(
        st.tuples(A, B, MOMENTS),
        min_size=1,
        max_size=12,
    ),
    options=OPTIONS,
    inclusive=st.booleans(),
)
@settings(max_examples=150)
def test_the_kernel_gives_what_the_oracle_gives(
    rows: list[dict[str, Any]],
    spine: list[tuple[Any, Any, Any]],
    options: dict[str, Any],
    inclusive: bool,
) -> None:
    """Every value and every error of every feature, for every row of a spine, to the last bit."""
    made = view(**options)
    plan = ViewPlan.of("v", made, ("a", "b"), tuple(made.features))
    a, b, q = ([row[i] for row in spine] for i in range(3))
    keys = pa.table({"a": pa.array(a, pa.string()), "b": pa.array(b, pa.int64()),
                     AS_OF: pa.array(q, to_arrow("time"))})  # fmt: skip
    found = features_as_of(plan, events_table(made.source, rows), keys, inclusive=inclusive)
    columns = {name: plain(column) for name, column in found.columns.items()}
    for i, (left, right, moment) in enumerate(spine):
        expected = answer(plan, rows, (left, right), moment, inclusive)
        for name, (value, state) in expected.items():
            wrong = name in found.errors and bool(found.errors[name][i])
            assert wrong == (state == "error"), (name, i, columns[name][i], expected[name])
            assert same(columns[name][i], value), (name, i, columns[name][i], expected[name])


KEY = key_bytes(("p", 0))


def state_of(algebra: ViewAlgebra, rows: list[Row]) -> EntityState:
    """The state of one entity after these events."""
    state = EntityState(algebra.slots)
    for row in rows:
        state.add(row)
    return state


@given(
    rows=events(),
    cut=TIMES,
    later=st.integers(0, 30_000),
    options=OPTIONS,
    restart=st.integers(0, 20),
)
@settings(max_examples=150)
def test_tail_and_head_give_what_the_oracle_gives(
    rows: list[dict[str, Any]], cut: int, later: int, options: dict[str, Any], restart: int
) -> None:
    """A tail of what was available before the cut and a head of the rest, merged at a later time.

    The head goes through its checkpoint after any number of events.
    """
    made = view(**options)
    plan = ViewPlan.of("v", made, ("a", "b"), tuple(made.features))
    algebra = ViewAlgebra(made)
    kept = counting(events_table(made.source, rows), made.source)
    mine = sorted((r for r in algebra.rows(kept) if r.key == KEY), key=lambda r: r.order[1])
    tail = state_of(algebra, [row for row in mine if row.order[1] < cut])
    tail.settle(cut)
    rest = [row for row in mine if row.order[1] >= cut]
    head = state_of(algebra, rest[:restart])
    head.settle(head.newest + 1)
    head = EntityState.load(algebra.slots, head.dump())
    for row in rest[restart:]:
        head.add(row)
    head.settle(head.newest + 1)
    states = [(tail, len(rest) < len(mine)), (head, bool(rest))]
    cells = [OpenCell(algebra.slots, state.pack()) for state, known in states if known]
    q = max([cut, *(row.order[1] + 1 for row in rest)]) + later
    found = dict(
        zip(
            (s.name for s in algebra.slots),
            aggregate(list(enumerate(algebra.slots)), cells, q, made.ttl),
            strict=True,
        )
    )
    expected = answer(plan, rows, ("p", 0), q)
    for name, value in found.items():
        assert agrees(value, expected[name], bool(cells)), (name, value, expected[name])


def agrees(found: Value, expected: tuple[Any, str], known: bool) -> bool:
    """The same value; the same state, but that an entity with events to come is known already."""
    states = {"absent", "empty"} if known else {"absent"}
    same_state = found.state == expected[1] or {found.state, expected[1]} <= states
    return same_state and same(found.value, expected[0])


@given(rows=events(), shuffled=st.randoms(use_true_random=False), options=OPTIONS)
def test_the_same_events_in_any_order_have_the_same_bytes(
    rows: list[dict[str, Any]], shuffled: Any, options: dict[str, Any]
) -> None:
    """Neither the order of events nor where they were split shows in a packed cell."""
    made = view(**options)
    algebra = ViewAlgebra(made)
    kept = counting(events_table(made.source, rows), made.source)
    mine = [row for row in algebra.rows(kept) if row.key == KEY]
    ordered = state_of(algebra, mine)
    shuffled.shuffle(mine)
    other = state_of(algebra, mine[: len(mine) // 2])
    other = EntityState.load(algebra.slots, other.dump())
    for row in mine[len(mine) // 2 :]:
        other.add(row)
    assert other.dump() == ordered.dump()
    assert other.pack() == ordered.pack()


@given(values=st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=40))
def test_quantiles_are_within_one_percent(values: list[float]) -> None:
    """Approximate quantiles are the values at the nearest ranks, at most one percent off."""
    schema = {"k": str, "x": float, "at": "time"}
    source = Source("src", table="lake.src", event_time="at", schema=schema)
    wanted = [0.0, 0.25, 0.5, 0.9, 1.0]
    made = FeatureView("v", entity=Entity("k", key="k"), source=source,
                       features={"q": approx_quantiles(col("x"), wanted)})  # fmt: skip
    rows = [{"k": "k", "x": value, "at": i} for i, value in enumerate(values)]
    plan = ViewPlan.of("v", made, ("k",), ("q",))
    exact = answer(plan, rows, ("k",), 1_000)["q"][0]
    for found, value in zip(made.test(rows, at=1_000)["q"], exact, strict=True):
        assert found == value or abs(found - value) <= 0.01 * abs(value)
