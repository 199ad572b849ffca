"""What every event log promises about erased events: the promises themselves.

A module of tests imports all of it beside those of ``event_log``, whose fixtures it needs.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import strategies as st

from features.errors import NotFound
from features.stream.log import NO_ROW, Event, EventLog
from features.testing import ManualClock
from tests.contracts.event_log import START, Place, numbered, same


def test_an_erased_event_keeps_its_place_only(log: EventLog, clock: ManualClock) -> None:
    """Offsets and times stay; what the event said is gone, and again is nothing."""
    log.append(1, numbered(*range(20)))
    clock.advance(7)
    log.append(1, numbered(20))
    assert log.read(1, 20, 9)[0].row["number"] == 20
    assert log.erase({1: [3, 20, 3]}) == 2
    assert log.erase({1: [20, 3, 99, -1]}) == 0
    events = log.read(1, 0, 99)
    assert [event.offset for event in events] == list(range(21))
    assert log.end(1) == 21
    assert [event.row.get("number") for event in events if event.offset not in (3, 20)] == [
        n for n in range(20) if n != 3
    ]
    assert (events[3], events[20]) == (
        Event(3, START, NO_ROW),
        Event(20, START + 7, NO_ROW),
    )
    assert [event.offset for event in events if event.erased] == [3, 20]
    assert (log.offset_at(1, START + 1), log.read(1, 20, 1)) == (20, [events[20]])
    assert log.append(1, numbered(21)) == 22
    assert log.read(1, 21, 9)[0].row["number"] == 21


def test_partitions_are_erased_together(log: EventLog) -> None:
    """Each by its own offsets; the same ones elsewhere stay, and a row without columns is a row."""
    log.append(0, numbered(1, 2))
    log.append(2, [*numbered(3), {"value": math.nan}, {}])
    assert (log.erase({}), log.erase({0: []}), log.erase({1: [0]})) == (0, 0, 0)
    assert log.erase({0: [0], 2: [0]}) == 2
    assert [event.erased for event in log.read(0, 0, 9)] == [True, False]
    rest = log.read(2, 1, 9)
    assert [same(dict(event.row), row) for event, row in
            zip(rest, [{"value": math.nan}, {}], strict=True)] == [True, True]  # fmt: skip
    assert [event.erased for event in rest] == [False, False]
    assert log.erase({0: [0, 1], 2: [1]}) == 2
    assert [log.end(partition) for partition in range(3)] == [2, 0, 3]
    with pytest.raises(NotFound):
        log.erase({3: [0]})


def test_an_erased_log_opened_again(lasting: Place) -> None:
    """What was erased is so for whoever opens the log; who appends goes on where it ended."""
    with lasting() as make:
        log = make(2, ManualClock(START))
        for number in range(6):
            log.append(0, numbered(number))
        assert log.erase({0: [5, 2]}) == 2
        again = make(2, ManualClock(START + 9))
        assert [event.erased for event in again.read(0, 0, 9)] == [
            number in (2, 5) for number in range(6)
        ]
        assert again.append(0, numbered(6, 7)) == 8
        assert again.erase({0: [5, 6]}) == 1
        third = make(2, ManualClock(START + 9)).read(0, 0, 9)
        assert [event.erased for event in third] == [n in (2, 5, 6) for n in range(8)]
        assert [event.appended_at - START for event in third] == [0] * 6 + [9] * 2


def erased_are_gone(place: Place, batches: list[list[dict[str, Any]]], chosen: list[int]) -> None:
    """Of any rows any may be erased; all others are read as they were, in any pieces."""
    with place() as make:
        log = make(1, ManualClock())
        rows = [row for batch in batches for row in batch]
        for batch in batches:
            log.append(0, batch)
        wanted = {number for number in chosen if number < len(rows)}
        assert log.erase({0: chosen}) == len(wanted)
        events = log.read(0, 0, 100)
        assert {event.offset for event in events if event.erased} == wanted
        kept = [row for number, row in enumerate(rows) if number not in wanted]
        assert same([event.row for event in events if not event.erased], kept)


CHOSEN = st.lists(st.integers(0, 20), max_size=6)
