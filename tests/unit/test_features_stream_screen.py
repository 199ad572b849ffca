"""What becomes of an event follows from itself and its place in the log."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from features import Source
from features.errors import DefinitionError
from features.offline.ingest import REASON
from features.offline.lake import OFFSET, PARTITION
from features.stream.log import NO_ROW, Event
from features.stream.screen import OUTCOMES, Block, Screen

NOW = 1_700_000_000_000_000
SCHEMA = {"k": str, "x": float, "n": int, "b": bool, "at": "time", "known": "time"}
ROW = {"k": "a", "x": 1.5, "n": 3, "b": True, "at": NOW - 10, "known": NOW - 5}


def source(**more: Any) -> Source:
    """A streamed source of every scalar type."""
    given: dict[str, Any] = {
        "stream": "s",
        "available_at": "known",
        "lateness": 1_000,
        "schema": SCHEMA,
    } | more
    return Source("s", table="lake.s", event_time="at", **given)


def screened(*rows: dict[str, Any], made: Source | None = None, **more: Any) -> Block:
    """The rows as events that were appended a µs after another."""
    events = [Event(7 + i, NOW + i, row) for i, row in enumerate(rows)]
    options: dict[str, Any] = {"tolerance": 500, "quarantined": {}} | more
    return Screen(made or source(), 2, **options)(events)


def outcomes(block: Block) -> list[str]:
    """What became of each event."""
    return [OUTCOMES[place] for place in block.outcomes]


def test_an_event_becomes_available_when_it_is_appended() -> None:
    """Whatever it declared, or nothing at all; and its place in the log goes with it."""
    block = screened(ROW, ROW | {"known": NOW + 400}, ROW | {"known": None})
    assert outcomes(block) == ["accepted"] * 3
    rows = block.accepted
    assert rows.column("known").cast(pa.int64()).to_pylist() == [NOW, NOW + 1, NOW + 2]
    assert rows.column(OFFSET).to_pylist() == [7, 8, 9]
    assert set(rows.column(PARTITION).to_pylist()) == {2}
    assert (block.end, block.newest) == (10, NOW + 2)


def test_a_missing_column_is_null_and_an_unknown_one_is_dropped() -> None:
    """Producers may know more or less than the source declares."""
    block = screened({"at": NOW, "colour": "red"})
    row = block.accepted.to_pylist()[0]
    assert outcomes(block) == ["accepted"]
    assert (row["k"], row["x"], "colour" in row) == (None, None, False)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("k", 7), ("k", ["a"]), ("x", "1.5"), ("x", True), ("n", 1.0), ("n", True), ("n", 2**63),
        ("n", -(2**63) - 1), ("b", 1), ("b", "true"), ("at", "2026-01-01T00:00:00Z"), ("at", 1.5),
        ("at", 2**62), ("at", -(2**62)), ("at", True), ("known", "soon"), ("known", {"a": 1}),
    ],
)  # fmt: skip
def test_a_value_of_another_type_is_malformed(column: str, value: Any) -> None:
    """Nothing is cast; the reason names the column, the other columns are kept."""
    block = screened(ROW, ROW | {column: value}, ROW)
    assert outcomes(block) == ["accepted", "malformed", "accepted"]
    (letter,) = block.letters("s/2").to_pylist()
    assert column in letter[REASON]
    assert letter[OFFSET] == 8
    assert all(letter[name] == ROW[name] for name in ("k", "x", "n", "b") if name != column)


@pytest.mark.parametrize(
    ("column", "value"),
    [("x", 3), ("x", float("nan")), ("x", -(2**63)), ("n", 2**63 - 1), ("k", ""), ("at", 0)],
)
def test_what_a_type_can_hold_is_accepted(column: str, value: Any) -> None:
    """Whole numbers may stand for floats; the ends of a range are within it."""
    block = screened(ROW, ROW | {column: value}, made=source(lateness=None))
    assert outcomes(block) == ["accepted"] * 2
    found = block.accepted.column(column)[1]
    assert repr(found.value if column == "at" else found.as_py()) == repr(
        float(value) if column == "x" else value
    )


def test_an_event_without_its_time_is_malformed() -> None:
    """It cannot be placed; that it has no available time is no harm."""
    block = screened(ROW | {"at": None}, {})
    assert outcomes(block) == ["malformed"] * 2
    assert block.letters("s/2").column(REASON).to_pylist() == ["no at", "no at"]


def test_the_edges_of_lateness_and_of_the_future() -> None:
    """Exactly the allowed is allowed, a µs more is not; a schedule may lie far ahead."""
    block = screened(
        ROW | {"at": NOW - 1_000},
        ROW | {"at": NOW - 1_000},
        ROW | {"known": NOW + 2 + 500},
        ROW | {"known": NOW + 3 + 501},
        ROW | {"at": NOW + 10**12},
        ROW | {"at": NOW - 9_999, "known": NOW + 9_999},
        ROW | {"at": NOW - 9_999, "known": "soon"},
    )
    assert outcomes(block) == [
        "accepted", "late", "accepted", "refused", "accepted", "refused", "malformed",
    ]  # fmt: skip
    letters = block.letters("s/2").to_pylist()
    declared = block.letters("s/2").column("known").cast(pa.int64()).to_pylist()
    assert [letter[OFFSET] for letter in letters] == [8, 10, 12, 13]
    assert declared[:3] == [NOW + 1, NOW + 3 + 501, NOW + 9_999]


def test_a_quarantined_event_is_malformed() -> None:
    """With the reason that was found when it could not be computed."""
    block = screened(ROW, ROW, quarantined={8: "cannot be computed: why"})
    assert outcomes(block) == ["accepted", "malformed"]
    assert block.letters("s/2").column(REASON).to_pylist() == ["cannot be computed: why"]


def test_a_source_that_cannot_be_streamed_is_refused() -> None:
    """Without a stream, or a column of its own for when an event became known."""
    with pytest.raises(DefinitionError, match="no stream"):
        Screen(source(stream=None), 0, quarantined={})
    with pytest.raises(DefinitionError, match="became known"):
        Screen(source(available_at="at"), 0, quarantined={})


def test_an_erased_event_is_neither_accepted_nor_a_dead_letter() -> None:
    """It is counted as what it is, and has its place, whatever else would be said of it."""
    events = [Event(7, NOW, ROW), Event(8, NOW, NO_ROW), Event(9, NOW, NO_ROW)]
    block = Screen(source(), 2, tolerance=500, quarantined={9: "bad"})(events)
    assert outcomes(block) == ["accepted", "erased", "erased"]
    assert (block.end, block.accepted.num_rows, block.letters("s").num_rows) == (10, 1, 0)
