"""Batch to online: what a new version holds, and what stays when it does not come to be."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pyarrow as pa
import pytest

from features import Entity, FeatureView, Source, col, count, last, mean
from features.algebra.state import OpenCell
from features.algebra.values import aggregate
from features.algebra.view import ViewAlgebra
from features.errors import BadInput, NotFound, Unavailable
from features.keys import key_bytes
from features.offline.lake import OFFSET, PARTITION, source_table
from features.offline.memory import MemoryLake
from features.online.materialize import Materialized, materialize, view_id
from features.online.memory import MemoryStore
from features.online.store import Cell, Head, Version
from features.oracle import answer
from features.plan import ViewPlan
from features.view_test import events_table

SCHEMA = {"k": str, "x": float, "id": str, "at": "time", "known": "time"}
SOURCE = Source("src", table="lake.src", stream="src", event_time="at", available_at="known",
                schema=SCHEMA, event_id="id", lateness=5_000, partitions=2)  # fmt: skip
VIEW = FeatureView("v", entity=Entity("k", key="k"), source=SOURCE, features={
    "n": count(), "mean_w": mean(col("x")).over(6_000), "last": last(col("x")),
})  # fmt: skip
NAME = view_id(VIEW)


def event(
    k: str | None, x: float, at: int, known: int | None = None, **more: Any
) -> dict[str, Any]:
    """An event; known at once if nothing else is said."""
    return {"k": k, "x": x, "id": None, "at": at, "known": at if known is None else known, **more}


def lake_of(*events: dict[str, Any]) -> MemoryLake:
    """A lake with these events, if any."""
    lake = MemoryLake()
    lake.create(source_table(SOURCE))
    if events:
        lake.append(SOURCE.table, events_table(SOURCE, events))
    return lake


def bring(lake: MemoryLake, store: MemoryStore, cut: int, **more: Any) -> Materialized:
    """Materializes as of a cut that is now."""
    return materialize(VIEW, lake, store, cut, now=more.pop("now", cut), **more)


def values(store: MemoryStore, key: str, q: int) -> dict[str, tuple[Any, str]]:
    """What the tail alone is worth."""
    (found,) = store.read([(NAME, key_bytes([key]) or b"")], q)
    slots = ViewAlgebra(VIEW).slots
    cells = [] if found.tail is None else [OpenCell(slots, found.tail)]
    return {
        slot.name: tuple(value)
        for slot, value in zip(
            slots, aggregate(list(enumerate(slots)), cells, q, None), strict=True
        )
    }


def expected(events: Iterable[dict[str, Any]], key: str, q: int) -> dict[str, Any]:
    """What the oracle says."""
    return answer(ViewPlan.of("v", VIEW, ("k",), tuple(VIEW.features)), list(events), [key], q)


def test_versions_count_from_one_and_two_stay() -> None:
    """The number goes up, the snapshot is said, and only the version before can be flipped to."""
    lake, store = lake_of(event("a", 1.0, 10)), MemoryStore()
    snapshot = lake.describe(SOURCE.table).snapshot or 0
    first = bring(lake, store, 100)
    assert first == Materialized(Version(NAME, 1, 100, 2, snapshot), 1)
    second, third = (bring(lake, store, cut).version for cut in (200, 300))
    assert store.versions(NAME) == (third, second)
    store.publish(second)
    fourth = bring(lake, store, 400).version
    assert fourth.number == 4
    assert store.versions(NAME) == (fourth, second)


def test_a_cut_in_the_future_is_refused() -> None:
    """What will be known then is not known yet; the present moment has passed."""
    lake, store = lake_of(event("a", 1.0, 10)), MemoryStore()
    with pytest.raises(BadInput, match="not known yet") as error:
        bring(lake, store, 101, now=100)
    assert "passed" in error.value.hint
    assert store.versions(NAME) == ()
    assert bring(lake, store, 100, now=100).version.cut == 100


def test_a_table_that_is_not_there() -> None:
    """It is named, and nothing comes online."""
    store = MemoryStore()
    with pytest.raises(NotFound, match=r"lake\.src"):
        bring(MemoryLake(), store, 100)
    assert store.versions(NAME) == ()


def test_an_empty_table_makes_an_empty_version() -> None:
    """Before the first event everybody is absent, which is known."""
    store = MemoryStore()
    done = bring(lake_of(), store, 100)
    assert done == Materialized(Version(NAME, 1, 100, 2, 0), 0)
    assert values(store, "a", 100)["n"] == (0, "absent")
    (found,) = store.read([(NAME, b"?")], 100)
    assert found.positions == (Head(0, None, 100),) * 2


def test_a_view_without_a_stream_has_no_partitions() -> None:
    """And nobody is asked to fill its heads."""
    source = Source("src", table="lake.src", event_time="at", available_at="known", schema=SCHEMA)
    view = FeatureView("v", entity=VIEW.entity, source=source, features={"n": count()})
    store, started = MemoryStore(), list[Version]()
    done = materialize(view, lake_of(event("a", 1.0, 10)), store, 100, now=100,
                       start_heads=started.append)  # fmt: skip
    assert (done.version.partitions, started) == (0, [])


def test_the_tail_is_what_was_available_before_the_cut() -> None:
    """By availability to the microsecond, whatever the event time; late rows and ids once."""
    events = [
        event("a", 1.0, 10, 99),
        event("a", 2.0, 20, 100),
        event("a", 4.0, 90, 95, id="i"),
        event("a", 8.0, 80, 96, id="i"),
        event("a", 16.0, 50, 40, id="j"),
        event("a", 32.0, -9_000, 50),
        event("a", 64.0, 120, 60),
        event("b", 1.0, -5_000, 0),
        event("c", 1.0, -5_001, 0),
        event("e", 1.0, -6_000, -1_000),
        event("f", 1.0, -6_001, -1_001),
        event(None, 1.0, 1, 1),
        {**event("d", 1.0, 1), "known": None},
    ]
    store = MemoryStore()
    done = bring(lake_of(*events), store, 100)
    assert done.keys == 4
    counted = [e for e in events if e["known"] is not None and e["known"] < 100]
    for q in (100, 120, 121, 5_000, 9_000):
        for key in "abcdefg":
            assert values(store, key, q) == expected(counted, key, q), (key, q)
    assert values(store, "a", 100)["n"] == (3, "value")
    assert values(store, "e", 100)["mean_w"] == (1.0, "value")
    assert values(store, "f", 100)["mean_w"] == (None, "empty")


def test_streamed_rows_that_landed_are_in_the_tail() -> None:
    """They are rows as any other, their place in the log is no part of a feature."""
    lake = lake_of(event("a", 1.0, 10))
    rows = events_table(SOURCE, [event("a", 2.0, 20), event("a", 3.0, 30)])
    rows = rows.append_column(PARTITION, pa.array([1, 1], pa.int32()))
    lake.append(SOURCE.table, rows.append_column(OFFSET, pa.array([0, 1], pa.int64())))
    store = MemoryStore()
    bring(lake, store, 30)
    assert values(store, "a", 30)["n"] == (2, "value")


def test_rows_that_came_later_are_in_the_next_version() -> None:
    """A version is of one snapshot; a correction for an earlier time is picked up by the next."""
    lake, store = lake_of(event("a", 1.0, 10)), MemoryStore()
    bring(lake, store, 100)
    lake.append(SOURCE.table, events_table(SOURCE, [event("a", 2.0, 5, 50)]))
    assert values(store, "a", 100)["n"] == (1, "value")
    bring(lake, store, 100)
    assert values(store, "a", 100)["n"] == (2, "value")
    assert [version.number for version in store.versions(NAME)] == [2, 1]


def test_heads_are_filled_before_the_flip() -> None:
    """The stream is asked once the tail is there, while the version before is still current."""
    lake, store = lake_of(event("a", 1.0, 10)), MemoryStore()
    first = bring(lake, store, 100).version
    seen: list[tuple[int, tuple[Version, ...]]] = []

    def start(version: Version) -> None:
        seen.append((version.number, store.versions(NAME)))
        store.write_head(version, 0, [], Head(7, 150, 160))

    second = bring(lake, store, 200, start_heads=start).version
    assert seen == [(2, (first,))]
    assert store.versions(NAME) == (second, first)
    (found,) = store.read([(NAME, b"?")], 300)
    assert found.positions[0] == Head(7, 150, 160)


def test_a_failure_before_the_flip_changes_nothing() -> None:
    """The version before stays current, and the next try takes the number of the failed one."""
    lake, store = lake_of(event("a", 1.0, 10)), MemoryStore()
    first = bring(lake, store, 100).version

    def fails(version: Version) -> None:
        store.write_head(version, 0, [(b"x", b"")], Head(7, 150, 160))
        raise Unavailable("the worker does not answer")

    lake.append(SOURCE.table, events_table(SOURCE, [event("b", 2.0, 20)]))
    with pytest.raises(Unavailable):
        bring(lake, store, 200, start_heads=fails)
    assert store.versions(NAME) == (first,)
    assert values(store, "b", 300)["n"] == (0, "absent")
    second = bring(lake, store, 250).version
    assert second.number == 2
    assert store.versions(NAME) == (second, first)
    (found,) = store.read([(NAME, b"x")], 300)
    assert found.heads == (None, None)


class Full(MemoryStore):
    """Has no room for tails."""

    def write_tail(self, version: Version, cells: Iterable[Cell]) -> int:
        """Fails in the middle."""
        next(iter(cells))
        raise Unavailable("the disk is full")


def test_a_tail_that_cannot_be_written_is_not_flipped_to() -> None:
    """The error is the store's; nothing is published."""
    store = Full()
    with pytest.raises(Unavailable):
        bring(lake_of(event("a", 1.0, 10)), store, 100)
    assert store.versions(NAME) == ()


def test_progress_is_told_along_the_way() -> None:
    """In events of all that there are."""
    told: list[tuple[str, int, int]] = []
    events = [event(f"{i % 7}", 1.0, i) for i in range(25_000)]
    bring(lake_of(*events), MemoryStore(), 25_000, progress=lambda *args: told.append(args))
    assert told == [("materialize v", done, 25_000) for done in (10_000, 20_000)]
