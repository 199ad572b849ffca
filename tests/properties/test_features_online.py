"""What is read online is what the oracle says, and what a point-in-time join says, of anything."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from features.offline.join import join_table
from features.online import Position, Served
from features.online.consistency import AT
from features.online.reader import FeatureReader
from features.oracle import answer
from features.plan import ViewPlan
from features.testing import ManualClock
from tests.history import REQUESTS, TIMES, Event, History, histories, plain, same, spine_of

CUTS = st.tuples(st.integers(10_000, 16_000), st.integers(16_000, 24_000))
LONG = 10**12
QUESTIONS = st.one_of(
    TIMES, st.integers(20_000, 60_000), st.integers(20, 60).map(lambda n: n * 1_000)
)


def reader_of(history: History, cache_us: int = 0) -> FeatureReader:
    """A reader of a history's service."""
    return FeatureReader(history.plan, history.store, cache_us=cache_us, clock=ManualClock(LONG))


def check(history: History, row: Event, q: int, until: int, served: Served) -> bool:
    """Whether all was answered; everything that was is what the oracle says at ``q``."""
    answered = True
    found = dict(zip((o.ref for o in history.plan.outputs), pairs(served), strict=True))
    for view in history.plan.views:
        key = [row[name] for name in view.key_columns]
        if any(part is None for part in key):
            assert view.role not in served.positions
            expected: dict[str, Any] = answer(view, history.rows(view), key, q)
        else:
            expected = expected_of(history, view, key, q, until, served.positions[view.role])
        answered &= expected != {}
        for name in view.features:
            wanted = expected.get(name, (None, "error"))
            assert agrees(found[f"{view.role}:{name}"], wanted), (view.role, name, wanted)
    return answered


def pairs(served: Served) -> list[tuple[Any, str]]:
    """Values with their states."""
    return list(zip(served.values, served.states, strict=True))


def expected_of(
    history: History, view: ViewPlan, key: list[Any], q: int, until: int, position: Position
) -> dict[str, Any]:
    """What the oracle says; nothing where the versions cannot answer. Checks the position."""
    one, two = history.versions[view.view.name]
    version = one if one.cut <= q < two.cut else two
    assert (position.version, position.cut) == (version.number, version.cut)
    assert len(position.offsets) == version.partitions
    for partition, offset in enumerate(position.offsets):
        mine = [e for e in history.streamed if e["__partition"] == partition]
        assert offset == max((e["__offset"] + 1 for e in mine if e["known"] < until), default=0)
    if q < version.cut or q <= history.newest(view.view.name, version, until):
        return {}
    # The tail has what was known before the cut, also where the heads are not yet so far.
    known = [row for row in history.rows(view) if row["known"] < max(until, version.cut)]
    return answer(view, known, key, q)


def agrees(found: tuple[Any, str], wanted: tuple[Any, str]) -> bool:
    """The same value and state, but that an entity with events to come is known already."""
    one_state = found[1] == wanted[1] or {found[1], wanted[1]} == {"absent", "empty"}
    return one_state and same(found[0], wanted[0])


def check_join(
    history: History, rows: Sequence[Event], times: Sequence[int], served: Sequence[Served]
) -> None:
    """The same values as a point-in-time join, request views too, errors as nulls."""
    if not rows:
        return
    joined = join_table(
        history.plan, history.lake, spine_of(history.plan, rows, times), time_column=AT
    )
    for i, output in enumerate(history.plan.outputs):
        column = plain(joined.column(output.column))
        for value, one in zip(column, served, strict=True):
            assert same(one.values[i], value), (output.column, one.values[i], value)


@given(
    history=histories(),
    cuts=CUTS,
    until=st.integers(16_000, 31_000),
    asked=st.lists(st.tuples(REQUESTS, QUESTIONS), max_size=6),
    data=st.data(),
)
@settings(max_examples=80)
def test_online_is_what_the_oracle_says(
    history: History,
    cuts: tuple[int, int],
    until: int,
    asked: list[tuple[Event, int]],
    data: st.DataObject,
) -> None:
    """Values, states and positions of all views at any time, two versions with heads behind them.

    What the heads have passed already is an error; after what they know, nothing has happened.
    A reader with a cache answers the same, in whatever order it is asked.
    """
    for cut in cuts:
        history.materialize(cut)
    history.fill(until)
    asked += [(row, until) for row, _ in asked]
    rows, times = [row for row, _ in asked], [q for _, q in asked]
    served = reader_of(history).read(rows, times)
    assert [s.at for s in served] == times
    whole = [check(history, row, q, until, s) for (row, q), s in zip(asked, served, strict=True)]
    chosen = [i for i, is_whole in enumerate(whole) if is_whole and times[i] <= until]
    check_join(history, *([x[i] for i in chosen] for x in (rows, times, served)))
    cached = reader_of(history, cache_us=LONG)
    for i in data.draw(st.permutations([*range(len(rows)), *range(len(rows))])):
        (again,) = cached.read([rows[i]], [times[i]])
        assert repr(pairs(again)) == repr(pairs(served[i]))
        assert again.positions == served[i].positions


@given(
    history=histories(clock="wall"),
    cut=st.integers(10_000, 16_000),
    until=st.integers(16_000, 31_000),
    rows=st.lists(REQUESTS, min_size=1, max_size=4),
    behind=st.integers(0, 5_000),
)
@settings(max_examples=40)
def test_a_clock_that_is_behind_is_moved_to_the_heads(
    history: History, cut: int, until: int, rows: list[Event], behind: int
) -> None:
    """By the wall clock no question is too early: it is asked just after what the heads hold."""
    history.materialize(cut)
    history.materialize(cut)
    history.fill(until)
    q = max(cut, until - behind)
    served = reader_of(history).read(rows, [q] * len(rows))
    for row, one in zip(rows, served, strict=True):
        newest = max(
            history.newest(v.view.name, history.versions[v.view.name][1], until)
            for v in history.plan.views
            if v.role in one.positions
        ) if one.positions else -1  # fmt: skip
        assert one.at == max(q, newest + 1)
        assert check(history, row, one.at, until, one)
