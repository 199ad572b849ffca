"""One partition's processor: what it counts, what it remembers, and what does not stop it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from features import Entity, FeatureView, Source, col, count, last
from features.algebra.state import EntityState, OpenCell
from features.algebra.values import aggregate
from features.algebra.view import Row, ViewAlgebra
from features.errors import Conflict, NotFound, Unavailable
from features.keys import key_bytes
from features.offline.ingest import REASON
from features.offline.lake import OFFSET, source_table
from features.offline.memory import MemoryLake
from features.online.materialize import view_id
from features.online.memory import MemoryStore
from features.online.store import Head, Version
from features.stream.checkpoint import Checkpoint
from features.stream.memory import MemoryLog
from features.stream.processor import StreamProcessor
from features.testing import ManualClock
from features.view_test import events_table

NOW = 1_700_000_000_000_000
SOURCE = Source("s", table="lake.s", stream="s", event_time="at", available_at="known",
                event_id="id", schema={"id": str, "k": str, "x": float, "at": "time",
                                       "known": "time"})  # fmt: skip
VIEW = FeatureView("v", entity=Entity("k", key="k"), source=SOURCE,
                   features={"n": count(), "x": last(col("x"))})  # fmt: skip
OTHER = FeatureView("w", entity=Entity("k", key="k"), source=SOURCE, features={"n": count()})
FIRST = Version(view_id(VIEW), 1, NOW, 1, 0)


class Bench:
    """A processor on ports in memory, that can be ended and begun again."""

    def __init__(self, folder: Path) -> None:
        self.clock = ManualClock(NOW)
        self.log = MemoryLog(1, self.clock)
        self.store, self.lake = MemoryStore(), MemoryLake()
        self.folder = folder
        self.views = [VIEW]
        self.processor = self._opened()

    def again(self) -> StreamProcessor:
        """The next life of the processor."""
        self.processor.close()
        self.processor = self._opened()
        return self.processor

    def _opened(self) -> StreamProcessor:
        self.checkpoint = Checkpoint(self.folder / "checkpoint")
        return StreamProcessor(SOURCE, self.views, 0, log=self.log, checkpoint=self.checkpoint,
                               store=self.store, lake=self.lake)  # fmt: skip

    def append(self, *rows: dict[str, Any]) -> None:
        """Appends rows a µs after what was there."""
        self.clock.advance(1)
        self.log.append(0, [{"k": "a", "x": 1.0, "at": self.clock.now()} | row for row in rows])

    def publish(self, version: Version) -> None:
        """A version with an empty tail becomes current."""
        self.store.write_tail(version, [])
        self.store.publish(version)

    def value(self, view: FeatureView = VIEW, key: str = "a", name: str = "n") -> Any:
        """A feature of an entity, now."""
        algebra = ViewAlgebra(view)
        at = self.clock.now() + 1
        (found,) = self.store.read([(view_id(view), key_bytes([key]) or b"")], at)
        cells = [OpenCell(algebra.slots, blob) for blob in found.heads if blob is not None]
        values = aggregate(list(enumerate(algebra.slots)), cells, at, None)
        return dict(zip((s.name for s in algebra.slots), values, strict=True))[name].value

    def head(self, view: FeatureView = VIEW) -> Head:
        """How far the head of the current version is."""
        (found,) = self.store.read([(view_id(view), b"")], self.clock.now() + 1)
        return found.positions[0]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """One partition with nothing in it."""
    found = Bench(tmp_path)
    yield found
    found.processor.close()


def test_a_published_version_gets_its_head(bench: Bench) -> None:
    """From its cut on, also if nobody asked for it, with the position that it is at."""
    bench.append({"id": "1"})
    bench.publish(Version(view_id(VIEW), 1, NOW + 2, 1, 0))
    bench.append({"id": "2"}, {"id": "3", "x": 7.0})
    bench.processor.step()
    bench.processor.flush()
    assert (bench.value(), bench.value(name="x")) == (2, 7.0)
    assert bench.head() == Head(3, NOW + 2, NOW + 2)
    bench.append({"id": "4"}, {"id": "5", "at": None})
    bench.append({"id": "6", "at": None})
    bench.processor.step()
    bench.processor.flush()
    assert bench.head() == Head(6, NOW + 3, NOW + 4)


def test_a_head_is_started_before_its_version_is_published(bench: Bench) -> None:
    """So that nobody sees the version without what came since its cut; twice is once."""
    bench.append({"id": "1"}, {"id": "2"})
    bench.processor.step()
    bench.processor.start_head(FIRST)
    bench.processor.start_head(FIRST)
    bench.publish(FIRST)
    assert bench.value() == 2
    assert bench.again().stats()["generations"][0]["version"]["number"] == 1


def test_a_position_tells_what_was_passed(bench: Bench) -> None:
    """``through`` is what was asked for or the last event's time, and never goes back."""
    bench.publish(FIRST)
    bench.append({"id": "1"})
    assert bench.processor.catch_up(1, NOW + 500) == 1
    assert bench.head() == Head(1, NOW + 1, NOW + 500)
    bench.processor.catch_up(1, NOW + 100)
    bench.again()
    assert bench.head() == Head(1, NOW + 1, NOW + 500)
    with pytest.raises(NotFound, match="no event 4"):
        bench.processor.catch_up(5, 0)


def test_catching_up_reads_no_further(bench: Bench) -> None:
    """A question about a moment must not meet what came after it."""
    bench.publish(FIRST)
    bench.append(*({"id": str(i)} for i in range(5)))
    assert bench.processor.catch_up(3, 0) == 3
    assert bench.head().offset == 3


def test_an_event_counts_once(bench: Bench) -> None:
    """Of equal ids the first in the log, before and after a restart; null ids are all different."""
    bench.publish(FIRST)
    bench.append({"id": "1"}, {"id": "1"}, {"id": None}, {"id": None}, {"id": "2", "at": None})
    bench.processor.step()
    bench.processor.flush()
    bench.append({"id": "1"}, {"id": "2"})
    bench.again().step()
    bench.processor.flush()
    assert bench.value() == 4
    stats = bench.processor.stats()
    assert (stats["accepted"], stats["duplicates"], stats["malformed"]) == (4, 2, 1)
    assert bench.processor.land() == 4


def test_an_event_that_the_tail_counts_is_left_out(bench: Bench) -> None:
    """Whoever brought it into the lake before the cut, if it counts there."""
    rows: list[dict[str, Any]] = [
        {"id": "1", "k": "a", "at": NOW - 5, "known": NOW - 1},
        {"id": "2", "k": "a", "at": None, "known": NOW - 1},
        {"id": "3", "k": "a", "at": NOW - 5, "known": NOW + 50},
    ]
    bench.lake.create(source_table(SOURCE))
    snapshot = bench.lake.append(SOURCE.table, events_table(SOURCE, rows))
    version = Version(view_id(VIEW), 1, NOW, 1, snapshot)
    bench.publish(version)
    bench.append({"id": "1"}, {"id": "2"}, {"id": "3"}, {"id": None})
    bench.processor.step()
    bench.processor.flush()
    assert bench.value() == 3
    bench.append({"id": "1"})
    bench.again().step()
    bench.processor.flush()
    assert bench.value() == 3


def test_heads_go_with_their_versions(bench: Bench) -> None:
    """The current version and the one before are kept; what is older is dropped with its states."""
    bench.append({"id": "1"})
    versions = [Version(view_id(VIEW), n, NOW, 1, 0) for n in (1, 2, 3)]
    for version in versions:
        bench.processor.step()
        bench.processor.start_head(version)
        bench.publish(version)
        bench.processor.flush()
    numbers = [g["version"]["number"] for g in bench.processor.stats()["generations"]]
    assert sorted(numbers) == [2, 3]
    assert len([space for space in bench.checkpoint.spaces() if "@" in space]) == 2
    bench.publish(versions[1])
    bench.processor.flush()
    assert bench.value() == 1


def test_a_version_that_comes_back_is_counted_once(bench: Bench) -> None:
    """A rollback to a version whose head was dropped fills it anew."""
    bench.append({"id": "1"})
    bench.processor.step()
    versions = [Version(view_id(VIEW), n, NOW, 1, 0) for n in (1, 2, 3)]
    for version in (*versions, versions[0]):
        bench.publish(version)
        bench.processor.flush()
    assert bench.value() == 1


def test_states_that_a_crash_left_are_not_counted_again(bench: Bench) -> None:
    """A version without a head begins from nothing, whatever stands under its name."""
    bench.append({"id": "1"})
    bench.processor.step()
    bench.processor.flush()
    state = EntityState(ViewAlgebra(VIEW).slots)
    state.add(Row(key_bytes(["a"]) or b"", (NOW, NOW, None), (1, 9.0)))
    space = f"{view_id(VIEW)}/1.{NOW}.0"
    bench.checkpoint.save(1, {space: [(key_bytes(["a"]) or b"", state.dump())]})
    bench.processor.start_head(FIRST)
    bench.publish(FIRST)
    assert bench.value() == 1


def test_a_failed_try_is_forgotten(bench: Bench) -> None:
    """Another try at the same number takes its place, a later number makes it void."""
    bench.processor.start_head(FIRST)
    second = Version(view_id(VIEW), 1, NOW + 5, 1, 0)
    bench.processor.start_head(second)
    versions = [g["version"]["cut"] for g in bench.processor.stats()["generations"]]
    assert versions == [NOW + 5]
    bench.publish(Version(view_id(VIEW), 2, NOW, 1, 0))
    bench.processor.flush()
    numbers = [g["version"]["number"] for g in bench.processor.stats()["generations"]]
    assert numbers == [2]


def test_a_view_that_is_gone_takes_its_head_along(bench: Bench) -> None:
    """And one that comes later is filled from the log."""
    bench.publish(FIRST)
    bench.append({"id": "1"})
    bench.processor.step()
    bench.processor.flush()
    bench.views = [OTHER]
    bench.publish(Version(view_id(OTHER), 1, NOW, 1, 0))
    assert [g["version"]["view"] for g in bench.again().stats()["generations"]] == [view_id(OTHER)]
    assert bench.value(OTHER) == 1
    bench.views = [VIEW, OTHER]
    bench.again()
    assert bench.value() == 1
    with pytest.raises(NotFound, match="does not feed"):
        bench.processor.start_head(Version("x@1", 1, NOW, 1, 0))


def test_a_partition_that_a_version_does_not_have_is_left_out(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """A version made for no stream, or for fewer partitions, has no head here."""
    bench.publish(Version(view_id(VIEW), 1, NOW, 0, 0))
    bench.processor.start_head(Version(view_id(VIEW), 2, NOW, 0, 0))
    assert (bench.processor.stats()["generations"], caplog.records) == ([], [])


@pytest.mark.parametrize("name", ["add", "pack", "dump"])
def test_an_event_that_cannot_be_computed_becomes_a_dead_letter(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The others go on, before and behind it; it claims no id, and a restart remembers it."""
    monkeypatch.setattr(EntityState, name, poisoned(getattr(EntityState, name)))
    bench.publish(FIRST)
    bench.processor.flush()
    bench.append({"id": "1"}, {"id": "2", "k": "p", "x": 666.0}, {"id": "2"}, {"id": "3"})
    assert bench.processor.step() == 4
    bench.processor.flush()
    stats = bench.processor.stats()
    assert (stats["read"], stats["accepted"], stats["malformed"]) == (4, 3, 1)
    assert (bench.value(), bench.value(key="p")) == (3, 0)
    assert bench.again().land() == 3
    (letter,) = bench.lake.scan("lake.s_dead_letters").to_pylist()
    assert letter[OFFSET] == 1
    assert "cannot be computed: ValueError: 666" in letter[REASON]


@pytest.mark.parametrize("name", ["add", "pack", "dump"])
def test_an_event_that_a_later_view_cannot_compute_stays_accepted(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """It is in the lake already; the view's head has all the others."""
    bench.append({"id": "1"}, {"id": "2", "x": 666.0}, {"id": "3"})
    bench.processor.step()
    monkeypatch.setattr(EntityState, name, poisoned(getattr(EntityState, name)))
    bench.publish(FIRST)
    bench.processor.flush()
    assert (bench.value(), bench.processor.stats()["accepted"]) == (2, 3)


def poisoned(method: Callable[..., Any]) -> Callable[..., Any]:
    """The method, but that it fails where the value 666 is involved."""

    def fails(self: EntityState, *given: Any) -> Any:
        texts = [repr(given)] if given else [repr(self.tiles)]
        if any("666" in text for text in texts):
            raise ValueError("666")
        return method(self, *given)

    return fails


def test_a_view_whose_columns_cannot_be_read_costs_single_events(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An expression that fails for a block is tried event by event, in a replay too."""
    rows = ViewAlgebra.rows

    def fails(self: ViewAlgebra, events: Any, since: int | None = None) -> Any:
        if 666.0 in events.column("x").to_pylist():
            raise OverflowError("666")
        return rows(self, events, since)

    bench.append({"id": "1"}, {"id": "2", "x": 666.0}, {"id": "3"})
    bench.processor.step()
    bench.processor.flush()
    monkeypatch.setattr(ViewAlgebra, "rows", fails)
    bench.publish(FIRST)
    bench.processor.flush()
    assert bench.value() == 2
    bench.append({"id": "4", "x": 666.0}, {"id": "5"})
    bench.processor.step()
    bench.processor.flush()
    assert bench.value() == 3
    assert bench.processor.stats()["malformed"] == 1


def test_a_storage_that_fails_costs_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error is passed on, no event is taken for a bad one, and the next try does it all."""
    bench.publish(FIRST)
    bench.append({"id": "1"}, {"id": "1"})
    bench.processor.step()
    for port, name in ((bench.store, "write_head"), (bench.checkpoint, "save")):
        with monkeypatch.context() as patch:
            patch.setattr(port, name, unavailable)
            with pytest.raises(Unavailable):
                bench.processor.flush()
    bench.processor.step()
    bench.processor.flush()
    stats = bench.processor.stats()
    assert (stats["accepted"], stats["duplicates"], bench.value()) == (1, 1, 1)
    with monkeypatch.context() as patch:
        patch.setattr(bench.lake, "append", unavailable)
        with pytest.raises(Unavailable):
            bench.processor.land()
    assert bench.processor.land() == 1
    assert bench.processor.land() == 0


def unavailable(*given: Any, **named: Any) -> Any:
    """What a storage says that is not there."""
    raise Unavailable("nothing answers")


def test_a_head_that_cannot_be_filled_holds_up_no_other(bench: Bench) -> None:
    """A snapshot that the lake no longer has is told once; the other view goes on."""
    bench.views = [VIEW, OTHER]
    bench.again()
    bench.lake.create(source_table(SOURCE))
    bench.publish(Version(view_id(VIEW), 1, NOW, 1, 99))
    bench.publish(Version(view_id(OTHER), 1, NOW, 1, 0))
    bench.append({"id": "1"})
    bench.processor.step()
    bench.processor.flush()
    assert bench.value(OTHER) == 1
    with pytest.raises(NotFound, match="snapshot"):
        bench.processor.start_head(Version(view_id(VIEW), 2, NOW, 1, 98))
    bench.processor.flush()
    assert bench.value(OTHER) == 1


def test_a_lost_checkpoint_lands_nothing_twice(bench: Bench) -> None:
    """The lake says itself how far it is; the heads are filled from the log again."""
    bench.publish(FIRST)
    bench.append({"id": "1"}, {"id": "2", "at": None})
    bench.processor.step()
    assert bench.processor.land() == 1
    bench.folder = bench.folder / "other"
    bench.append({"id": "3"})
    bench.again()
    while bench.processor.step(1):
        assert bench.processor.land() in (0, 1)
    assert bench.value() == 2
    assert bench.lake.describe("lake.s").rows == 2
    assert bench.lake.describe("lake.s_dead_letters").rows == 1


def test_two_processors_of_a_partition_do_not_mix(bench: Bench) -> None:
    """The same process is told at once."""
    with pytest.raises(Conflict, match="already open"):
        bench._opened()
