"""The consistency job: right answers pass whatever happened, and wrong ones are counted exactly."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from features.online import Served
from features.online.consistency import ConsistencyReport, check_consistency
from features.online.reader import FeatureReader
from features.testing import ManualClock
from tests.history import REQUESTS, Event, History, histories, logged, same

LONG = 10**12
STEPS = st.lists(
    st.tuples(
        st.integers(0, 4_000),
        st.sampled_from(["fill", "fill", "fill one", "materialize"]),
        st.lists(st.tuples(REQUESTS, st.integers(0, 2), st.integers(0, 900)), max_size=3),
    ),
    min_size=2,
    max_size=7,
)
Asked = list[tuple[Event, Served]]


def report(history: History, asked: Asked) -> ConsistencyReport:
    """Checks what was served against the whole lake."""
    plan = history.plan
    sources = {v.view.source.name: history.lake.scan(v.view.source.table) for v in plan.views}
    return check_consistency(plan, sources, logged(plan, *map(list, zip(*asked, strict=True))))


def played(history: History, steps: Sequence[Any]) -> Asked:
    """What three replicas serve while streams go on and versions come: one without a cache."""
    lives = (0, 500, LONG)
    readers = [
        FeatureReader(history.plan, history.store, cache_us=life, clock=ManualClock(LONG))
        for life in lives
    ]
    now = 12_000
    history.materialize(now)
    history.fill(now)
    asked: Asked = []
    for waited, what, requests in steps:
        now += waited
        advance(history, what, now)
        for row, replica, later in requests:
            asked += [(row, one) for one in readers[replica].read([row], [now + later])]
    return asked


def advance(history: History, what: str, now: int) -> None:
    """One thing that happens."""
    if what == "materialize":
        history.materialize(now)
    if what == "fill one":
        view = history.views[0]
        history.fill_head(view, history.versions[view.name][-1], 0, now)
    else:
        history.fill(now)


@given(history=histories(), steps=STEPS)
@settings(max_examples=25)
def test_what_is_right_at_its_position_passes(history: History, steps: list[Any]) -> None:
    """No mismatch, whatever caches, replicas, partitions and versions made of the positions."""
    asked = played(history, steps)
    assume(asked)
    found = report(history, asked)
    assert found.mismatches == 0
    checked = [s for _, one in asked for s in one.states if s != "error"]
    assert found.values == len(checked)
    assert found.rows == len(asked)


@given(history=histories(lag=700), steps=STEPS)
@settings(max_examples=20)
def test_a_lag_does_not_change_what_was_served(history: History, steps: list[Any]) -> None:
    """Training looks at features earlier by the lag; serving, and its check, do not."""
    asked = played(history, steps)
    assume(asked)
    assert report(history, asked).mismatches == 0


def served_at(history: History, rows: list[Event], q: int) -> Asked:
    """A fresh reader's answers."""
    reader = FeatureReader(history.plan, history.store, cache_us=0, clock=ManualClock(LONG))
    return list(zip(rows, reader.read(rows, [q] * len(rows)), strict=True))


def filled(history: History, cut: int, q: int) -> History:
    """One version, with what its heads hold at ``q``."""
    history.materialize(cut)
    history.fill(q)
    return history


def differences(right: Asked, wrong: Asked) -> int:
    """How many values differ, of those that are checked."""
    return sum(
        not same(a, b) and state != "error"
        for (_, one), (_, other) in zip(right, wrong, strict=True)
        for a, b, state in zip(one.values, other.values, other.states, strict=True)
    )


def with_positions(wrong: Asked, right: Asked) -> Asked:
    """Wrong answers under the right positions and times."""
    return [
        (row, replace(one, positions=other.positions, at=other.at))
        for (row, one), (_, other) in zip(wrong, right, strict=True)
    ]


ROWS = st.lists(REQUESTS, min_size=1, max_size=3)


@given(history=histories(), rows=ROWS, data=st.data())
@settings(max_examples=20)
def test_one_unit_in_the_last_place_is_caught(
    history: History, rows: list[Event], data: st.DataObject
) -> None:
    """A row with one float changed by one unit in the last place is one difference, no more."""
    asked = served_at(filled(history, 12_000, 25_000), rows, 25_000)
    floats = [
        (i, j)
        for i, (_, one) in enumerate(asked)
        for j, value in enumerate(one.values)
        if isinstance(value, float) and math.isfinite(value) and one.states[j] != "error"
    ]
    assume(floats)
    i, j = data.draw(st.sampled_from(floats))
    values = list(asked[i][1].values)
    values[j] = math.nextafter(values[j], math.inf)
    skewed = [*asked]
    skewed[i] = (asked[i][0], replace(asked[i][1], values=values))
    found = report(history, skewed)
    assert found.mismatches == 1
    (column,) = [c for c in found.at_position if c.mismatches]
    assert (column.column, column.different) == (history.plan.outputs[j].column, 1)


@given(history=histories(), rows=ROWS, q=st.integers(16_000, 26_000), data=st.data())
@settings(max_examples=25)
def test_an_event_too_many_or_too_few_is_caught(
    history: History, rows: list[Event], q: int, data: st.DataObject
) -> None:
    """A head that lost an event, or counted one twice: every value that this changes is counted."""
    right = served_at(filled(history, 12_000, q), rows, q)
    known = [e for e in history.streamed if 12_000 <= e["known"] < q]
    assume(known)
    event = data.draw(st.sampled_from(known))
    other = History(history.plan, history.source, history.files, history.streamed)
    other.materialize(12_000)
    if data.draw(st.booleans()):
        other.streamed = [e for e in history.streamed if e is not event]
    else:
        other.streamed = sorted([*history.streamed, {**event}], key=lambda e: e["known"])
    other.fill(q)
    wrong = with_positions(served_at(other, rows, q), right)
    assert report(history, wrong).mismatches == differences(right, wrong)


@given(history=histories(), rows=ROWS, data=st.data())
@settings(max_examples=25)
def test_a_leak_of_one_microsecond_is_caught(
    history: History, rows: list[Event], data: st.DataObject
) -> None:
    """Values as of one microsecond later, which see an event more, under the right position."""
    moments = {e["known"] for e in history.streamed} | {e["at"] for e in history.streamed}
    moments = {moment for moment in moments if moment > 12_000}
    assume(moments)
    q = data.draw(st.sampled_from(sorted(moments)))
    right = served_at(filled(history, 12_000, q), rows, q)
    other = History(history.plan, history.source, history.files, history.streamed)
    wrong = with_positions(served_at(filled(other, 12_000, q + 1), rows, q + 1), right)
    assert report(history, wrong).mismatches == differences(right, wrong)
