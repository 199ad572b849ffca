"""The consistency report by hand: what is injected is caught, with the right counts and gaps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from features import Entity, FeatureService, FeatureView, Source, col, count, last, query_time, ref
from features import sum as total
from features.library import Library
from features.offline.lake import OFFSET, PARTITION
from features.online.consistency import AT, ConsistencyReport, Logged, check_consistency
from features.online.served import NOWHERE, Position
from features.plan import ServicePlan, resolve
from features.view_test import events_table

SCHEMA = {"k": str, "x": float, "id": str, "at": "time", "known": "time"}
CUT = 1_000
NUMBERS = ["n", "sum", "last"]


def plan(event_id: str | None = None, **options: Any) -> ServicePlan:
    """Three features and an age, of one entity."""
    source = Source("src", table="lake.src", stream="src", event_time="at", available_at="known",
                    schema=SCHEMA, partitions=2, event_id=event_id)  # fmt: skip
    view = FeatureView("v", entity=Entity("k", key="k"), source=source, features={
        "n": count(), "sum": total(col("x")), "last": last(col("x")), "at": last(col("at")),
        "age": query_time() - ref("at"),
    })  # fmt: skip
    features = ("v:n", "v:sum", "v:last", "v:age")
    return resolve(Library.from_definitions([view, FeatureService("s", features, **options)]), "s")


def events(*rows: tuple[str | None, float, int, int, int | None, int | None]) -> pa.Table:
    """Events: key, value, time, when known, partition, offset; each has an id of its own."""
    source = plan().views[0].view.source
    table = events_table(
        source,
        [
            {"k": k, "x": x, "id": f"{k}{x}", "at": at, "known": known}
            for k, x, at, known, _, _ in rows
        ],
    )
    partitions, offsets = ([row[i] for row in rows] for i in (4, 5))
    table = table.append_column(PARTITION, pa.array(partitions, pa.int32()))
    return table.append_column(OFFSET, pa.array(offsets, pa.int64()))


Served = tuple[str | None, int, Position, int, float | None, float | None, float | None]
"""A row as it was served: key, time, position, and the values n, sum, last, age."""


def served(*rows: tuple[Any, ...]) -> Logged:
    """Rows as they were served."""
    time = pa.timestamp("us", tz="UTC")
    spine = pa.table({"k": pa.array([r[0] for r in rows], pa.string()),
                      AT: pa.array([r[1] for r in rows], time)})  # fmt: skip
    kinds = {"n": pa.int64(), "sum": pa.float64(), "last": pa.float64(), "age": pa.float64()}
    values = {
        f"v__{name}": pa.array([r[3 + i] for r in rows], kind)
        for i, (name, kind) in enumerate(kinds.items())
    }
    checked = {name: np.ones(len(rows), dtype=bool) for name in values}
    return Logged(spine, values, {"v": [r[2] for r in rows]}, checked)


def check(table: pa.Table, logged: Logged, made: ServicePlan | None = None) -> ConsistencyReport:
    """The report."""
    return check_consistency(made or plan(), {"src": table}, logged)


def wrong(report: ConsistencyReport) -> dict[str, tuple[int, int, int]]:
    """By column: served null, recomputed null, different; columns without any left out."""
    found = {
        c.column.removeprefix("v__"): (c.served_null, c.recomputed_null, c.different)
        for c in report.at_position
    }
    return {name: counts for name, counts in found.items() if any(counts)}


def at(offset: int, cut: int = CUT, other: int = 0, version: int = 1) -> Position:
    """A position in two partitions."""
    return Position(version, cut, (offset, other))


HISTORY = events(
    ("a", 1.0, 900, 900, None, None),
    ("a", 2.0, 1_100, 1_100, 0, 4),
    ("a", 4.0, 1_200, 1_200, 0, 5),
    ("b", 8.0, 1_150, 1_150, 1, 2),
    ("a", 16.0, 1_300, 1_300, 0, 7),
)
SEEN = {4: (1, 1.0, 1.0, 900), 5: (2, 3.0, 2.0, 1_100), 6: (3, 7.0, 4.0, 1_200),
        8: (4, 23.0, 16.0, 1_300)}  # fmt: skip


def row(offset: int, q: int, seen: int | None = None) -> tuple[Any, ...]:
    """What is right for the entity at an offset, at a time."""
    n, amount, newest, when = SEEN[offset if seen is None else seen]
    return ("a", q, at(offset), n, amount, newest, (q - when) / 1e6)


def test_each_value_is_judged_at_its_position() -> None:
    """However far behind the request it is; as of the request's time the same is freshness."""
    report = check(HISTORY, served(row(4, 1_400), row(6, 1_400), row(8, 1_400)))
    assert (report.rows, report.values, report.mismatches) == (3, 12, 0)
    assert report.differences == 8
    assert [c.mismatches for c in report.at_time] == [2, 2, 2, 2]


def test_positions_may_come_in_any_order() -> None:
    """Caches and replicas answer later questions from earlier positions, and at one time twice."""
    rows = [row(8, 1_400), row(5, 1_500), row(6, 1_450), row(4, 1_400), row(8, 1_500)]
    rows += [row(5, 1_500), ("b", 1_401, at(0, other=3), 1, 8.0, 8.0, 251e-6)]
    rows += [("b", 1_400, at(9, other=2), 0, None, None, None)]
    for turned in (rows, rows[::-1], rows[3:] + rows[:3]):
        report = check(HISTORY, served(*turned))
        assert wrong(report) == {}, turned
    worse = [*rows[:3], row(4, 1_400, seen=5), *rows[4:]]
    assert wrong(check(HISTORY, served(*worse))) == dict.fromkeys(
        ["n", "sum", "last", "age"], (0, 0, 1)
    )


def test_several_versions_are_told_apart() -> None:
    """Rows of two cuts, and of one cut with other partitions, each by its own events."""
    later = Position(2, 1_200, (6, 0))
    one_partition = Position(3, CUT, (6,))
    n, amount, newest, when = SEEN[6]
    rows = [
        ("a", 1_400, p, n, amount, newest, (1_400 - when) / 1e6) for p in (later, one_partition)
    ]
    rows += [row(5, 1_400)]
    assert check(HISTORY, served(*rows)).mismatches == 0


def test_a_leak_of_one_microsecond() -> None:
    """An event at the very time of the request must not count, one before it must."""
    right = row(6, 1_201, seen=6)
    assert check(HISTORY, served(right)).mismatches == 0
    leak = ("a", 1_200, at(6), 3, 7.0, 4.0, 0.0)
    report = check(HISTORY, served(leak))
    assert wrong(report) == dict.fromkeys(["n", "sum", "last", "age"], (0, 0, 1))


def test_a_skew_of_one_unit_in_the_last_place() -> None:
    """One value of one row, and how large it is on the whole."""
    skewed = list(row(6, 1_400))
    skewed[4] = math.nextafter(7.0, 8.0)
    report = check(HISTORY, served(row(6, 1_400), tuple(skewed)))
    assert wrong(report) == {"sum": (0, 0, 1)}
    smape = report.at_position[1].smape
    assert 0 < smape < 1e-15


def test_an_event_that_the_head_lost() -> None:
    """The position says that it was read, the values say that it was not."""
    report = check(HISTORY, served(row(6, 1_400, seen=5), row(8, 1_400)))
    assert report.mismatches == 4


def test_an_event_that_was_counted_twice() -> None:
    """In the count and in the sum; what is last is the same."""
    twice = ("a", 1_400, at(6), 4, 11.0, 4.0, 200e-6)
    assert wrong(check(HISTORY, served(twice))) == {"n": (0, 0, 1), "sum": (0, 0, 1)}


def test_ids_count_once() -> None:
    """A streamed event whose id the tail has, or that came before, is not in the head."""
    table = events(
        ("a", 1.0, 900, 900, None, None),
        ("a", 1.0, 1_050, 1_050, 0, 3),
        ("a", 2.0, 1_100, 1_100, 0, 4),
        ("a", 2.0, 1_090, 1_100, 0, 5),
    )
    right = ("a", 1_400, at(6), 2, 3.0, 2.0, 300e-6)
    assert check(table, served(right), plan("id")).mismatches == 0
    twice = ("a", 1_400, at(6), 3, 5.0, 2.0, 300e-6)
    assert wrong(check(table, served(twice), plan("id"))) == {"n": (0, 0, 1), "sum": (0, 0, 1)}
    assert check(table, served(("a", 1_400, at(6), 4, 6.0, 2.0, 300e-6))).mismatches == 0


def test_a_wrong_cut() -> None:
    """Under a cut that is too high, events count that were not read; too low, files do not."""
    right = row(5, 1_250)
    too_high = (*right[:2], at(5, cut=1_201), *right[3:])
    assert wrong(check(HISTORY, served(too_high))) == dict.fromkeys(
        ["n", "sum", "last", "age"], (0, 0, 1)
    )
    too_low = (*right[:2], at(5, cut=900), *right[3:])
    assert wrong(check(HISTORY, served(too_low))) == {"n": (0, 0, 1), "sum": (0, 0, 1)}
    same_events = (*right[:2], at(5, cut=1_101), *right[3:])
    assert check(HISTORY, served(same_events)).mismatches == 0


def test_nulls_on_either_side() -> None:
    """A value where nothing is, and nothing where a value is, are told apart."""
    rows = [("a", 1_400, at(4), 1, None, 1.0, 500e-6), ("z", 1_400, at(4), 0, None, 1.0, None)]
    assert wrong(check(HISTORY, served(*rows))) == {"sum": (1, 0, 0), "last": (0, 1, 0)}


def test_only_what_was_computed_is_checked() -> None:
    """Errors and substitutes are somebody else's affair."""
    logged = served(row(6, 1_400), row(6, 1_400, seen=8))
    logged.checked["v__sum"][1] = False
    report = check(HISTORY, logged)
    assert wrong(report) == dict.fromkeys(["n", "last", "age"], (0, 0, 1))
    assert [c.rows for c in report.at_position] == [2, 1, 2, 2]


def test_null_keys_and_views_that_are_nowhere() -> None:
    """A null key is null; a view that was never materialized has nothing to be checked."""
    nobody = (None, 1_400, NOWHERE, None, None, None, None)
    report = check(HISTORY, served(nobody, row(6, 1_400)))
    assert wrong(report) == {}


def test_a_lag_does_not_move_the_position() -> None:
    """Ages are as of the request, and the join as of its time looks back by the lag."""
    report = check(HISTORY, served(row(6, 1_400)), plan(lag=150))
    assert report.mismatches == 0
    assert [c.mismatches for c in report.at_time] == [0, 0, 0, 0]
    earlier = check(HISTORY, served(row(6, 1_400)), plan(lag=250))
    assert [c.mismatches for c in earlier.at_time] == [1, 1, 1, 1]


@pytest.mark.parametrize(
    ("position", "q", "gap"),
    [
        (at(5, other=3), 1_250, 50),
        (at(6, other=3), 1_250, 0),
        (at(6, other=3), 1_301, 1),
        (at(6, other=3), 1_300, 0),
        (at(6), 1_250, 100),
        (at(9, other=0), 1_400, 250),
        (at(9, other=3), 1_400, 0),
        (at(4), 1_400, 300),
        (at(0), 1_400, 300),
        (at(0, cut=1_150), 1_400, 250),
        (at(0, cut=1_301), 1_400, 0),
    ],
)
def test_gaps_are_from_the_first_event_that_was_missed(
    position: Position, q: int, gap: int
) -> None:
    """Of all partitions, whosever event it is; what the tail has was not missed."""
    report = check(HISTORY, served(("a", q, position, 0, None, None, None)))
    assert report.gaps.tolist() == [gap]


def floats(values: Sequence[float | None], seen: Sequence[float]) -> Any:
    """The comparison of ``sum``, served against the sums of single events."""
    table = events(*[(f"k{i}", x, 900, 900, None, None) for i, x in enumerate(seen)])
    rows = [(f"k{i}", 1_000, at(0), 1, x, seen[i], 1e-4) for i, x in enumerate(values)]
    return check(table, served(*rows)).at_position[1]


def test_smape_knows_infinity_and_nan() -> None:
    """Equal ones are equal, others as wrong as can be; the largest floats have a mean too."""
    inf, nan, most = math.inf, math.nan, 1.7e308
    equal = floats([inf, -inf, nan, most, 0.0], [inf, -inf, nan, most, -0.0])
    assert (equal.mismatches, equal.smape) == (0, 0.0)
    other = floats([inf, nan, 1.0, most], [-inf, 1.0, nan, -most])
    assert (other.different, other.smape) == (4, 2.0)
    assert floats([3.0, 1.0], [1.0, 1.0]).smape == 0.5
