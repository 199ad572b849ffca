"""The join of a service, in memory and by stages, gives what the naive oracle gives, row by row."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import features.offline.spine as spine_module
import features.offline.staged_join as staged_module
from features import (
    Entity,
    FeatureService,
    FeatureView,
    Library,
    RequestView,
    Source,
    col,
    count,
    first,
    last,
    mean,
    query_time,
    ref,
    resolve,
    stddev,
)
from features import max as greatest
from features import sum as total
from features.batch.join import join_in_memory
from features.dtypes import to_arrow
from features.offline.buckets import bucket_of
from features.offline.event_files import EventFile, EventFiles
from features.offline.join import in_this_process
from features.offline.staged_join import Job, staged_join
from features.oracle import joined
from features.plan import ServicePlan
from features.view_test import events_table

MICROS = pa.timestamp("us", tz="UTC")
SCHEMA = {"a": str, "b": int, "x": float, "n": int, "s": str, "seq": int, "id": str,
          "at": "time", "known": "time"}  # fmt: skip
TIMES = st.one_of(st.integers(-9, 12).map(lambda n: n * 1_500), st.integers(-13_000, 18_000))
MOMENTS = st.integers(0, 20).flatmap(lambda n: TIMES if n else st.none())
A = st.sampled_from(["p"] * 6 + ["q", "é", "", None])
B = st.sampled_from([0] * 6 + [1, -1, 7, None])
EVENT = st.fixed_dictionaries(
    {
        "a": A,
        "b": B,
        "x": st.one_of(st.none(), st.sampled_from([0.1, -0.0, 1e300, -1e300, 5e-324, 2.5])),
        "n": st.one_of(st.none(), st.integers(-3, 3), st.just(2**63 - 1)),
        "s": st.one_of(st.none(), st.sampled_from(["u", "v", "é"])),
        "seq": st.one_of(st.none(), st.integers(0, 1)),
        "id": st.one_of(st.none(), st.sampled_from(["i", "j", "k", "l", "m"])),
        "at": MOMENTS,
        "known": MOMENTS,
    }
)
EVENTS = st.lists(EVENT, max_size=24)
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "label": st.integers(0, 9),
            "a": A,
            "b": B,
            "other_a": A,
            "other_b": B,
            "amount": st.one_of(st.none(), st.sampled_from([0.0, 2.0, -1.5])),
            "t": MOMENTS,
        }
    ),
    max_size=10,
)
OPTIONS = st.fixed_dictionaries(
    {
        "sequence": st.sampled_from([None, "seq"]),
        "event_id": st.sampled_from([None, "id", "id"]),
        "lateness": st.sampled_from([None, 7_000]),
        "ttl": st.sampled_from([None, 9_000]),
        "lag": st.sampled_from([0, 0, 1, 2_500]),
    }
)


def service_plan(options: dict[str, Any]) -> ServicePlan:
    """A service of two views, one of them in two roles, and two request views that read them."""
    given = dict(options)
    lag, ttl = given.pop("lag"), given.pop("ttl")
    source = Source("src", table="lake.src", event_time="at", available_at="known",
                    schema=SCHEMA, **given)  # fmt: skip
    plain = Source("plain", table="lake.plain", event_time="at", schema=SCHEMA)
    pair = Entity("pair", key=("a", "b"), type=(str, int))
    x, n, s = col("x"), col("n"), col("s")
    pairs = FeatureView("pairs", entity=pair, source=source, ttl=ttl, features={
        "count": count(), "sum_w": total(x).over(12_000), "mean": mean(x), "max_s": greatest(s),
        "last": last(x), "last_n": last(n).over(24_000), "firsts": first(s, k=2),
        "lasts": last(n, k=2), "fails": total(n * 2).over(24_000), "by_s": count().by("s"),
        "gap": ref("mean") - ref("sum_w"), "age": query_time() - ref("seen"),
        "seen": last(col("at")),
    })  # fmt: skip
    single = FeatureView("single", entity=Entity("b", key="b", type=int), source=plain, features={
        "count_w": count().over(6_000), "dev": stddev(x).over(24_000), "last_s": last(s),
    })  # fmt: skip
    again = FeatureView("again", entity=Entity("b", key="b", type=int), source=source, features={
        "count": count(), "last_s": last(s),
    })  # fmt: skip
    cart = RequestView("cart", request={"amount": float}, features={
        "share": col("amount") / ref("pairs:sum_w"), "of_error": ref("pairs:fails").fill_null(7),
        "when": query_time(), "twice": ref("share") * 2.0,
    })  # fmt: skip
    late = RequestView("late", request={}, features={
        "both": ref("cart:share").is_null() & ref("prev:last").is_null(),
    })  # fmt: skip
    service = FeatureService("all", [
        late, pairs, pairs.as_("prev", key={"a": "other_a", "b": "other_b"}), single, cart, again,
    ], lag=lag)  # fmt: skip
    return resolve(Library.from_definitions([service]), "all")


STRINGS = st.sampled_from([pa.string(), pa.large_string(), pa.dictionary(pa.int8(), pa.string())])
NUMBERS = st.sampled_from([pa.int64(), pa.int32(), pa.int8()])
CLOCKS = st.sampled_from(
    [MICROS, pa.timestamp("ns", tz="UTC"), pa.timestamp("ns", tz="America/New_York"),
     pa.timestamp("us", tz="+05:30")]
)  # fmt: skip


@st.composite
def spines(draw: st.DrawFn) -> tuple[list[dict[str, Any]], pa.Table]:
    """Rows of a spine, some of them twice, and the same as a table of any types and chunks."""
    rows = draw(ROWS)
    rows = rows + rows[: draw(st.integers(0, 3))]
    clock, more = draw(CLOCKS), draw(st.integers(0, 999))
    columns = {
        "a": pa.array([row["a"] for row in rows], pa.string()).cast(draw(STRINGS)),
        "t": times([row["t"] for row in rows], clock, more),
        "label": pa.array([row["label"] for row in rows], pa.int16()),
        "b": pa.array([row["b"] for row in rows], draw(NUMBERS)),
        "other_a": pa.array([row["other_a"] for row in rows], pa.string()),
        "other_b": pa.array([row["other_b"] for row in rows], pa.int64()),
        "amount": pa.array([row["amount"] for row in rows], draw(st.sampled_from(FLOAT_TYPES))),
    }
    names = draw(st.permutations(list(columns)))
    return rows, chunked(pa.table({name: columns[name] for name in names}), draw)


FLOAT_TYPES = [pa.float64(), pa.float32()]


def times(moments: Sequence[int | None], clock: pa.TimestampType, more: int) -> pa.Array:
    """Times of a type; nanoseconds lie a little after their microsecond."""
    if clock.unit == "us":
        return pa.array(moments, clock)
    return pa.array([None if m is None else m * 1_000 + more for m in moments], clock)


def chunked(table: pa.Table, draw: st.DrawFn) -> pa.Table:
    """The same rows in pieces."""
    cut = draw(st.integers(0, table.num_rows))
    return pa.concat_tables([table.slice(0, cut), table.slice(cut)])


def plain(column: pa.ChunkedArray) -> list[Any]:
    """Python values as the oracle gives them."""
    if pa.types.is_timestamp(column.type):
        return list(column.cast(pa.int64()).to_pylist())
    found = column.to_pylist()
    if pa.types.is_map(column.type):
        return [None if v is None else dict(v) for v in found]
    return list(found)


def same(a: Any, b: Any) -> bool:
    """Equal, NaN to NaN and every float to the last bit."""
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and bool(a == b or (a != a and b != b))


def check(
    plan: ServicePlan,
    sources: dict[str, list[dict[str, Any]]],
    rows: list[dict[str, Any]],
    spine: pa.Table,
    found: pa.Table,
    inclusive: bool,
) -> None:
    """Asserts the spine's columns as they were, then the oracle's values, row by row."""
    assert found.column_names == [*spine.column_names, *(o.column for o in plan.outputs)]
    assert found.select(spine.column_names).equals(spine)
    answers = {o.column: plain(found.column(o.column)) for o in plan.outputs}
    for output in plan.outputs:
        assert found.schema.field(output.column).type == to_arrow(output.dtype)
    for i, row in enumerate(rows):
        expected = joined(plan, sources, row, row["t"], inclusive)
        for name, value in expected.items():
            assert same(answers[name][i], value), (name, i, answers[name][i], value)


@given(events=EVENTS, others=EVENTS, given_spine=spines(), options=OPTIONS, inclusive=st.booleans())
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
def test_the_join_in_memory_gives_what_the_oracle_gives(
    events: list[dict[str, Any]],
    others: list[dict[str, Any]],
    given_spine: tuple[list[dict[str, Any]], pa.Table],
    options: dict[str, Any],
    inclusive: bool,
) -> None:
    """Roles, composite keys, request views, lag, nulls, duplicates: every value of every row."""
    plan, (rows, spine) = service_plan(options), given_spine
    sources = {"src": events, "plain": others}
    tables = {name: source_table(plan, name, sources[name]) for name in sources}
    found = join_in_memory(plan, tables, spine, "t", inclusive)
    check(plan, sources, rows, spine, found, inclusive)


def source_table(plan: ServicePlan, name: str, rows: list[dict[str, Any]]) -> pa.Table:
    """The events of a source, in two chunks."""
    source = next(v.view.source for v in plan.views if v.view.source.name == name)
    half = len(rows) // 2
    return pa.concat_tables([events_table(source, rows[:half]), events_table(source, rows[half:])])


LAYOUTS = st.sampled_from([(None, 0), (None, 0), ("b", 4), ("b", 2), ("a", 4)])


@given(
    events=EVENTS,
    others=EVENTS,
    given_spine=spines(),
    options=OPTIONS,
    inclusive=st.booleans(),
    layouts=st.tuples(LAYOUTS, LAYOUTS),
    buckets=st.sampled_from([1, 2, 4, 16]),
    task_rows=st.sampled_from([1, 3, 1_000]),
    suffix=st.sampled_from([".arrow", ".parquet"]),
)
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
def test_the_staged_join_gives_what_the_oracle_gives(
    events: list[dict[str, Any]],
    others: list[dict[str, Any]],
    given_spine: tuple[list[dict[str, Any]], pa.Table],
    options: dict[str, Any],
    inclusive: bool,
    layouts: tuple[tuple[str | None, int], tuple[str | None, int]],
    buckets: int,
    task_rows: int,
    suffix: str,
) -> None:
    """Whatever the buckets of tables and tasks and however small the tasks, ids count once."""
    plan, (rows, spine) = service_plan(options), given_spine
    sources = {"src": events, "plain": others}
    with tempfile.TemporaryDirectory() as scratch, pytest.MonkeyPatch.context() as patch:
        folder = Path(scratch)
        patch.setattr(staged_module, "TASK_ROWS", task_rows)
        patch.setattr(spine_module, "PART_ROWS", task_rows + 1)
        files = {
            name: written(folder, name, source_table(plan, name, sources[name]), *layout)
            for name, layout in zip(sources, layouts, strict=True)
        }
        (folder / "job").mkdir()
        job = Job(plan, "t", inclusive, folder / "job", buckets)
        out = folder / f"out{suffix}"
        assert staged_join(job, spine, files, out, in_this_process()) == len(rows)
        found = as_written(out, spine)
    check(plan, sources, rows, spine, found, inclusive)


@pytest.mark.parametrize("inclusive", [False, True])
def test_an_event_counts_after_both_of_its_times(inclusive: bool) -> None:
    """Strictly after it happened and became known, at the very microsecond only if inclusive."""
    options = {"sequence": None, "event_id": None, "lateness": None, "ttl": None, "lag": 0}
    plan, moments = service_plan(options), range(-2, 3)
    event = {"a": "p", "b": 0, "x": 1.0, "n": 1, "s": "u", "seq": None, "id": None}
    for at in moments:
        events = [{**event, "at": at, "known": known} for known in moments]
        rows = [
            {"label": 0, "a": "p", "b": 0, "other_a": "p", "other_b": 0, "amount": 1.0, "t": t}
            for t in moments
        ]
        spine = pa.Table.from_pylist(rows)
        spine = spine.set_column(6, "t", times(list(moments), MICROS, 0))
        tables = {name: source_table(plan, name, events) for name in ("src", "plain")}
        found = join_in_memory(plan, tables, spine, "t", inclusive)
        expected = [
            sum(max(at, known) <= t if inclusive else max(at, known) < t for known in moments)
            for t in moments
        ]
        assert found.column("pairs__count").to_pylist() == expected


def crowded(seed: int) -> list[dict[str, Any]]:
    """Many events of many keys that share a few ids and fewer times."""
    random = np.random.default_rng(seed)
    return [
        {
            "a": str(random.choice(["p", "q", "r"])),
            "b": int(random.integers(0, 9)) if random.random() < 0.95 else None,
            "x": float(random.integers(0, 5)),
            "n": int(random.integers(-3, 4)),
            "s": str(random.choice(["u", "v"])),
            "seq": None,
            "id": f"i{random.integers(0, 40)}" if random.random() < 0.95 else None,
            "at": int(random.integers(0, 3)) * 1_000,
            "known": int(random.integers(1, 4)) * 1_000,
        }
        for _ in range(150)
    ]


@pytest.mark.parametrize("layout", [(None, 0), ("b", 4), ("a", 4)], ids=str)
@pytest.mark.parametrize("seed", [1, 2])
def test_an_id_counts_once_over_all_buckets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int, layout: tuple[str | None, int]
) -> None:
    """An id under many keys is one event, the earliest; of equal times content decides, not rows.

    So it is in memory and by stages, for any order of the rows.
    """
    options = {"sequence": None, "event_id": "id", "lateness": None, "ttl": None, "lag": 0}
    plan, events = service_plan(options), crowded(seed)
    rows = [
        {"label": 0, "a": a, "b": b, "other_a": "p", "other_b": b, "amount": 1.0, "t": 10_000}
        for a in "pqr"
        for b in range(9)
    ]
    spine = pa.Table.from_pylist(rows)
    spine = spine.set_column(6, "t", times([10_000] * len(rows), MICROS, 0))
    sources = {"src": events, "plain": events}
    backwards = {name: source_table(plan, name, found[::-1]) for name, found in sources.items()}
    check(plan, sources, rows, spine, join_in_memory(plan, backwards, spine, "t"), False)
    monkeypatch.setattr(staged_module, "TASK_ROWS", 20)
    files = {name: written(tmp_path, name, backwards[name], *layout) for name in sources}
    (tmp_path / "job").mkdir()
    job, out = Job(plan, "t", False, tmp_path / "job", 4), tmp_path / "out.arrow"
    staged_join(job, spine, files, out, in_this_process())
    check(plan, sources, rows, spine, as_written(out, spine), False)


def as_written(out: Path, spine: pa.Table) -> pa.Table:
    """What was written; Parquet has no time zones but UTC's, nor 8-bit dictionaries."""
    if out.suffix == ".arrow":
        return pa.ipc.open_file(pa.OSFile(str(out))).read_all()
    found = pq.read_table(out)
    for name in spine.column_names:
        place = found.column_names.index(name)
        kind = spine.schema.field(name).type
        if not pa.types.is_dictionary(kind):
            assert found.schema.field(name).type == kind
        found = found.set_column(place, name, found.column(name).cast(kind))
    return found


def written(
    folder: Path, name: str, events: pa.Table, bucket_by: str | None, buckets: int
) -> EventFiles:
    """A source's events as the data files of a table: by bucket, some rows each."""
    places = np.zeros(events.num_rows, dtype=np.int64)
    if bucket_by is not None:
        places = bucket_of(events.select([bucket_by]), buckets)
        places[events.column(bucket_by).is_null().to_numpy()] = -1
    files = []
    for place in sorted(set(places.tolist())):
        rows = events.filter(pa.array(places == place))
        for start in range(0, rows.num_rows, 5):
            path = folder / f"{name}-{len(files)}.parquet"
            pq.write_table(rows.slice(start, 5), path)
            bucket = place if bucket_by is not None and place >= 0 else None
            files.append(EventFile(str(path), rows.slice(start, 5).num_rows, bucket))
    return EventFiles(tuple(files), bucket_by, buckets)
