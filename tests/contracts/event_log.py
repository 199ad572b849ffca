"""What every event log promises, whichever way it keeps its events: the promises themselves.

A module of tests that imports all of it holds its logs to them by two fixtures: ``place``, and
``lasting`` for logs that can be opened again. What is promised about anything that Hypothesis
thinks of is a function: that module says how many examples are worth their time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from enum import Enum
from types import MappingProxyType
from typing import Any
from uuid import UUID

import pytest
from hypothesis import strategies as st

from features.errors import BadInput, Conflict, NotFound
from features.stream.log import Event, EventLog
from features.testing import ManualClock

START = 1_383_264_000_000_000

Make = Callable[[int, ManualClock], EventLog]
"""Opens the log of one place, whose number of partitions is given; each call, another time."""
Place = Callable[[], AbstractContextManager[Make]]
"""Makes a place where there is no log; what was opened in it is closed afterwards."""


class Colour(Enum):
    """An enumeration, which orjson would write as its value."""

    RED = "red"


@pytest.fixture
def clock() -> ManualClock:
    """A clock that stands still."""
    return ManualClock(START)


@pytest.fixture
def log(place: Place, clock: ManualClock) -> Iterator[EventLog]:
    """An empty log with three partitions."""
    with place() as make:
        yield make(3, clock)


def numbered(*numbers: int) -> list[dict[str, Any]]:
    """Rows told apart by a number."""
    return [{"number": number, "name": f"row {number}"} for number in numbers]


def same(left: Any, right: Any) -> bool:
    """Equal in value and type, NaN being equal to itself; a tuple is as good as a list."""
    if isinstance(left, float) and isinstance(right, float):
        return repr(left) == repr(right)
    if isinstance(left, (list, tuple)) and isinstance(right, (list, tuple)):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, dict) and isinstance(right, dict):
        return list(left) == list(right) and all(same(left[k], right[k]) for k in left)
    return type(left) is type(right) and bool(left == right)


def test_an_empty_log_has_nothing(log: EventLog) -> None:
    """It ends at offset 0, and reading finds no event and no error."""
    assert log.partitions == 3
    assert [log.end(partition) for partition in range(3)] == [0, 0, 0]
    assert log.read(1, 0, 10) == []
    assert log.offset_at(1, START) == 0


def test_events_come_back_in_their_order(log: EventLog, clock: ManualClock) -> None:
    """Offsets count from 0 without a gap, over calls, and each call has its own time."""
    assert log.append(0, numbered(5, 3)) == 2
    clock.advance(7)
    assert log.append(0, numbered(9)) == 3
    assert log.read(0, 0, 10) == [
        Event(0, START, {"number": 5, "name": "row 5"}),
        Event(1, START, {"number": 3, "name": "row 3"}),
        Event(2, START + 7, {"number": 9, "name": "row 9"}),
    ]


def test_partitions_do_not_mix(log: EventLog) -> None:
    """Each partition has its own offsets and events."""
    log.append(0, numbered(1, 2))
    log.append(2, numbered(3))
    assert [log.end(partition) for partition in range(3)] == [2, 0, 1]
    assert [event.row["number"] for event in log.read(2, 0, 10)] == [3]


def test_a_partition_that_is_not_there(log: EventLog) -> None:
    """Every method refuses it by name."""
    for partition in (-1, 3):
        for ask in (
            lambda p: log.append(p, numbered(1)),
            lambda p: log.append(p, []),
            lambda p: log.read(p, 0, 1),
            lambda p: log.end(p),
            lambda p: log.offset_at(p, 0),
        ):
            with pytest.raises(NotFound, match=f"no partition {partition}"):
                ask(partition)


def test_a_log_without_partitions_is_refused(place: Place, clock: ManualClock) -> None:
    """There is at least one."""
    with place() as make, pytest.raises(BadInput):
        make(0, clock)


def test_limits_are_kept(log: EventLog) -> None:
    """A read returns as many as asked for, whatever segments they lie in, and none for none."""
    for number in range(30):
        log.append(0, numbered(number, number + 100))
    for offset in range(62):
        for limit in (0, 1, 2, 7, 100):
            found = [event.offset for event in log.read(0, offset, limit)]
            assert found == list(range(offset, min(offset + limit, 60)))


def test_what_was_never_there_is_not_found(log: EventLog) -> None:
    """An offset before the first event is an error, one behind the end only has no events."""
    log.append(0, numbered(1))
    with pytest.raises(NotFound):
        log.read(0, -1, 10)
    assert log.read(0, 5, 10) == []


def test_no_rows_add_nothing(log: EventLog) -> None:
    """An append of nothing returns the end."""
    log.append(0, numbered(1))
    assert log.append(0, []) == 1
    assert log.end(0) == 1


def test_time_never_falls(log: EventLog, clock: ManualClock) -> None:
    """When the clock goes back, events have the time of the last one before."""
    log.append(0, numbered(1))
    clock.advance(-1_000_000)
    log.append(0, numbered(2))
    clock.set(START + 1)
    log.append(0, numbered(3))
    assert [event.appended_at for event in log.read(0, 0, 9)] == [START, START, START + 1]


def test_readers_get_their_own_rows(log: EventLog) -> None:
    """Changing a row afterwards, appended or read, changes nothing in the log."""
    row: dict[str, Any] = {"items": [1]}
    log.append(0, [row])
    row["items"].append(2)
    log.read(0, 0, 1)[0].row["items"].append(3)
    assert log.read(0, 0, 1)[0].row == {"items": [1]}


@pytest.mark.parametrize(
    "value",
    [
        math.nan,
        math.inf,
        -math.inf,
        -0.0,
        5e-324,
        1e22,
        1.0,
        0.1,
        None,
        True,
        1,
        2**63,
        2**64 - 1,
        -(2**63),
        2**53 + 1,
        "",
        '\0\n"\\ é 漢 🛩 \u2028',
        [],
        {},
        [math.nan, [math.inf, None], {"": math.nan}],
        {"": "nan"},
        {"": math.nan},
        {"": {"": math.inf}},
        {"": {"": "inf"}, "x": math.nan},
        {"": 1},
        {"": None},
        {"a": {"b": [1.5, "nan", -math.inf]}},
    ],
    ids=repr,
)
def test_values_survive(log: EventLog, value: Any) -> None:
    """What a row may hold comes back with its value and type, NaN and the infinities included."""
    row = {"value": value, "list": [value], "": value}
    log.append(0, [row, {"other": 1}])
    assert same(dict(log.read(0, 0, 1)[0].row), row)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab") | st.just(""), inner)
    ),
    max_leaves=8,
)
BATCHES = st.lists(
    st.lists(st.dictionaries(st.text("xy", max_size=2), JSON, max_size=3), max_size=4), max_size=6
)


def any_rows_survive(place: Place, batches: list[list[dict[str, Any]]]) -> None:
    """Whatever is appended, in whatever pieces, is read as it was."""
    with place() as make:
        log = make(1, ManualClock())
        ends = [log.append(0, rows) for rows in batches]
        rows = [row for batch in batches for row in batch]
        assert ends == [sum(map(len, batches[: n + 1])) for n in range(len(batches))]
        assert same([event.row for event in log.read(0, 0, 100)], rows)


@pytest.mark.parametrize(
    "bad",
    [
        {"at": datetime(2013, 11, 1, tzinfo=UTC)},
        {"raw": b"bytes"},
        {"big": 2**64},
        {"big": -(2**63) - 1},
        {"set": {1}},
        {"half": "\ud800"},
        {"id": UUID(int=1)},
        {"colour": Colour.RED},
        {"nested": [{"inner": [math.nan, datetime(2013, 11, 1, tzinfo=UTC)]}]},
        {"names": {1: 2}},
        {1: 2},
        {"object": object()},
        [1, 2],
        None,
    ],
    ids=repr,
)
def test_a_bad_row_refuses_all(log: EventLog, bad: Any) -> None:
    """One row that cannot be written, wherever it stands, and none of the call is added."""
    log.append(0, numbered(1))
    for rows in ([bad], [*numbered(2), bad], [bad, *numbered(2)]):
        with pytest.raises(BadInput, match=f"row {rows.index(bad)} "):
            log.append(0, rows)
    assert log.end(0) == 1
    assert log.append(0, numbered(4)) == 2
    assert [event.row["number"] for event in log.read(0, 0, 9)] == [1, 4]


def test_a_row_that_holds_itself_is_refused(log: EventLog) -> None:
    """A cycle is bad input, not an endless loop."""
    row: dict[str, Any] = {}
    row["self"] = [row, math.nan]
    with pytest.raises(BadInput):
        log.append(0, [row])


def test_any_mapping_is_a_row(log: EventLog) -> None:
    """A row need not be a dictionary."""
    log.append(0, [MappingProxyType({"a": (1, 2)})])
    assert log.read(0, 0, 1)[0].row == {"a": [1, 2]}


APPENDS = st.lists(st.tuples(st.integers(-3, 3), st.integers(0, 4)), max_size=12)
QUESTIONS = st.lists(st.integers(-40, 40), max_size=6)


def times_lead_to_offsets(
    place: Place, appends: list[tuple[int, int]], questions: list[int]
) -> None:
    """``offset_at`` is the first event at that time or later, as a scan of a list would find it."""
    clock = ManualClock(START)
    times: list[int] = []
    with place() as make:
        log = make(1, clock)
        for step, size in appends:
            now = max([clock.advance(step), *times[-1:]])
            log.append(0, numbered(*range(size)))
            times += [now] * size
            for question in questions:
                later = [n for n, time in enumerate(times) if time >= START + question]
                assert log.offset_at(0, START + question) == min(later, default=len(times))
        assert [event.appended_at for event in log.read(0, 0, 100)] == times


SIZES = st.lists(st.integers(1, 9), min_size=1, max_size=12)
READS = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), min_size=1, max_size=20)


def reads_anywhere_agree(place: Place, sizes: list[int], reads: list[tuple[int, int]]) -> None:
    """Reads at any offset, in any order, between appends, are slices of one list."""
    with place() as make:
        log = make(1, ManualClock())
        rows: list[dict[str, Any]] = []
        for size in sizes:
            rows += (more := numbered(*range(len(rows), len(rows) + size)))
            log.append(0, more)
            for offset, limit in reads:
                assert [e.row for e in log.read(0, offset, limit)] == rows[offset : offset + limit]


def test_threads_share_a_log(log: EventLog) -> None:
    """Appends of several threads follow one another whole, and readers see only whole ones."""

    def append(thread: int) -> None:
        for number in range(20):
            log.append(0, [{"thread": thread, "number": number, "part": part} for part in range(3)])

    with ThreadPoolExecutor(4) as pool:
        running = [pool.submit(append, thread) for thread in range(4)]
        while not all(task.done() for task in running):
            assert len(log.read(0, 0, 1_000)) % 3 == 0
        for task in running:
            task.result()
    seen = [event.row for event in log.read(0, 0, 1_000)]
    assert [row["part"] for row in seen] == [0, 1, 2] * 80
    for thread in range(4):
        numbers = [row["number"] for row in seen if row["thread"] == thread]
        assert numbers == [number for number in range(20) for _ in range(3)]


def test_a_second_reader_sees_what_is_appended(lasting: Place) -> None:
    """A log that was opened before the events were there finds them."""
    with lasting() as make:
        writer, reader = make(1, ManualClock()), make(1, ManualClock())
        assert reader.end(0) == 0
        for number in range(40):
            writer.append(0, numbered(number))
            assert reader.end(0) == number + 1
            assert [event.row["number"] for event in reader.read(0, number, 5)] == [number]


def test_another_number_of_partitions_is_refused(lasting: Place) -> None:
    """A key stays in its partition, so a log keeps the number that it was made with."""
    with lasting() as make:
        make(2, ManualClock()).append(1, numbered(1))
        for partitions in (1, 3):
            with pytest.raises(Conflict, match=f"2 partitions, not {partitions}"):
                make(partitions, ManualClock())


def test_time_does_not_fall_from_one_life_to_the_next(lasting: Place) -> None:
    """Whoever appends after somebody else begins at the time of the last event."""
    with lasting() as make:
        first = make(1, ManualClock(START))
        first.append(0, numbered(1))
        first.close()  # type: ignore[attr-defined]
        make(1, ManualClock(START - 9)).append(0, numbered(2))
        found = make(1, ManualClock()).read(0, 0, 9)
        assert [(event.offset, event.appended_at) for event in found] == [(0, START), (1, START)]


def test_a_huge_cell_survives(log: EventLog) -> None:
    """A row of megabytes, between small ones, comes back as it was."""
    rows = [{"text": "a"}, {"text": "漢🛩" * 400_000}, {"text": "b"}]
    assert log.append(0, rows) == 3
    assert [event.row for event in log.read(0, 0, 9)] == rows
    assert [event.row for event in log.read(0, 1, 1)] == rows[1:2]


def test_many_rows_in_one_append(log: EventLog) -> None:
    """Tens of thousands of rows are one append, and are read in pieces of any size."""
    rows = numbered(*range(25_000))
    assert log.append(2, rows) == 25_000
    offset = 0
    while events := log.read(2, offset, 7_001):
        assert [event.row for event in events] == rows[offset : offset + 7_001]
        offset = events[-1].offset + 1
    assert offset == 25_000
