"""What streams in is what batch sees: whatever comes, in whatever order, and whenever it dies."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from features import Entity, FeatureView, Source, col, count, distinct, last, mean
from features import sum as total
from features.algebra.state import OpenCell
from features.algebra.values import aggregate
from features.algebra.view import ViewAlgebra
from features.batch.kernel import AS_OF, features_as_of
from features.dtypes import to_arrow
from features.keys import key_bytes
from features.offline.lake import OFFSET, PARTITION, source_table
from features.offline.memory import MemoryLake
from features.online.materialize import materialize, view_id
from features.online.memory import MemoryStore
from features.oracle import answer
from features.plan import ViewPlan
from features.stream.checkpoint import Checkpoint
from features.stream.memory import MemoryLog
from features.stream.processor import StreamProcessor
from features.stream.screen import OUTCOMES
from features.testing import ManualClock
from features.view_test import events_table

START = 1_000_000
TOLERANCE = 5_000
ENTITIES = ("p", "q", "")
SCHEMA = {"id": str, "k": str, "x": float, "n": int, "at": "time", "known": "time"}


def source(partitions: int, lateness: int | None, event_id: str | None) -> Source:
    """A streamed source."""
    return Source("src", table="lake.src", stream="src", event_time="at", available_at="known",
                  partitions=partitions, event_id=event_id, lateness=lateness, bucket_by="k",
                  schema=SCHEMA)  # fmt: skip


def views(made: Source) -> tuple[FeatureView, FeatureView]:
    """Two views of it: with and without windows, filters and groups."""
    entity, x, n = Entity("k", key="k"), col("x"), col("n")
    one = FeatureView("one", entity=entity, source=made, ttl=9_000, features={
        "count": count(), "mean_w": mean(x).over(6_000), "last": last(x), "sum_n": total(n),
        "last_2": last(n, k=2).over(24_000), "kinds": distinct(n).over(12_000),
    })  # fmt: skip
    two = FeatureView("two", entity=entity, source=made, hop=70, features={
        "by_n": mean(x).over(24_000).by("n"), "fails": total(n * 2).over(24_000),
        "some": count().where(x > 0),
    })  # fmt: skip
    return one, two


class Crash(BaseException):
    """The process is dead."""


class Fuse:
    """Kills at the n-th time that something is asked of a port, or has just been answered."""

    def __init__(self, after: int | None = None) -> None:
        self.after = after
        self.burnt = 0

    def burn(self) -> None:
        """One step nearer to the end."""
        self.burnt += 1
        if self.after is not None and self.burnt > self.after:
            self.after = None
            raise Crash

    def guard(self, port: Any) -> Any:
        """The port, with the fuse at each of its doors."""
        return _Guarded(port, self)


class _Guarded:
    def __init__(self, port: Any, fuse: Fuse) -> None:
        self._port, self._fuse = port, fuse

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._port, name)
        if not callable(found):
            return found

        def call(*arguments: Any, **named: Any) -> Any:
            self._fuse.burn()
            answered = found(*arguments, **named)
            self._fuse.burn()
            return answered

        return call


class World:
    """A log, a lake and a store that outlive the processors, which die when the fuse says so."""

    def __init__(self, folder: Path, made: Source, fuse: Fuse) -> None:
        self.clock = ManualClock(START)
        self.log = MemoryLog(made.partitions, self.clock)
        self.lake, self.store = MemoryLake(), MemoryStore()
        self.source, self.views = made, views(made)
        self._folder, self._fuse = folder, fuse
        self._open: dict[int, tuple[Checkpoint, StreamProcessor]] = {}

    def processor(self, partition: int) -> StreamProcessor:
        """The one that carries a partition, started if it is not."""
        if partition not in self._open:
            checkpoint = Checkpoint(self._folder / str(partition))
            guard = self._fuse.guard
            try:
                self._open[partition] = checkpoint, StreamProcessor(
                    self.source, self.views, partition, log=guard(self.log),
                    checkpoint=guard(checkpoint), store=guard(self.store), lake=guard(self.lake),
                    future_tolerance=TOLERANCE,
                )  # fmt: skip
            except BaseException:
                checkpoint.close()
                raise
        return self._open[partition][1]

    def everyone(self) -> list[StreamProcessor]:
        """All of them."""
        return [self.processor(partition) for partition in range(self.log.partitions)]

    def restart(self) -> None:
        """All processes end; what they had in memory is gone."""
        for checkpoint, _ in self._open.values():
            checkpoint.close()
        self._open.clear()

    def survive(self, act: Callable[[], None]) -> None:
        """Does something again until nobody dies over it."""
        while True:
            try:
                return act()
            except Crash:
                self.restart()

    def do(self, step: tuple[Any, ...]) -> None:
        """One step of a script."""
        kind, *given = step
        if kind == "append":
            partition, rows = given[0] % self.log.partitions, given[1]
            self.clock.advance(given[2])
            ids = self._of_partition(partition, rows)
            self.log.append(partition, [row | {"known": _declared(row, self)} for row in ids])
        elif kind == "step":
            self.survive(lambda: self._step(given[0], given[1]))
        elif kind == "restart":
            self.restart()
        elif kind == "land":
            self.survive(lambda: [p.land() for p in self.everyone()][:0] or None)
        else:
            self.survive(lambda: self._publish(given[0], given[1], given[2]))

    def finish(self) -> None:
        """Everything that was appended is in the heads and in the lake."""

        def act() -> None:
            for partition, processor in enumerate(self.everyone()):
                processor.catch_up(self.log.end(partition), self.clock.now() + 1)
                processor.land()

        self.survive(act)

    def _of_partition(self, partition: int, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Equal ids are in one partition, as equal keys would put them there."""
        return [
            row if row["id"] in (None, 7) else row | {"id": f"{row['id']}{partition}"}
            for row in rows
        ]

    def _step(self, limit: int, is_flushed: bool) -> None:
        for processor in self.everyone():
            processor.step(limit)
            if is_flushed:
                processor.flush()

    def _publish(self, which: int, back: int, is_told: bool) -> None:
        for partition, processor in enumerate(self.everyone()):
            processor.catch_up(self.log.end(partition), 0)
            processor.land()
        self.lake.create(source_table(self.source))
        cut = max(START, self.clock.now() - back)

        def start(version: Any) -> None:
            for processor in self.everyone():
                processor.start_head(version)

        told = start if is_told else None
        view = self.views[which % 2]
        materialize(view, self.lake, self.store, cut, now=self.clock.now() + 1, start_heads=told)

    def online(self) -> list[Any]:
        """Everything that can be read of the heads, and of which positions."""
        found = []
        for view in self.views:
            wanted = [(view_id(view), key_bytes([name]) or b"") for name in ENTITIES]
            for answer_ in self.store.read(wanted, self.clock.now() + 100_000):
                version = answer_.version
                found.append((version and version.cut, answer_.heads, answer_.positions))
        return found

    def landed(self, table: str) -> list[dict[str, Any]]:
        """The rows of a table in the order of the log; those of files first."""
        if table not in self.lake.tables():
            return []
        rows = _plain(self.lake.scan(table))
        return sorted(rows, key=lambda row: (row[PARTITION] or 0, row[OFFSET] or -1, str(row)))


def _declared(row: dict[str, Any], world: World) -> Any:
    known = row["known"]
    return known if not isinstance(known, int) or known < 100 else world.clock.now() + known


def _plain(table: pa.Table) -> list[dict[str, Any]]:
    columns = {
        name: column.cast(pa.int64()) if pa.types.is_timestamp(column.type) else column
        for name, column in zip(table.column_names, table.columns, strict=True)
    }
    return list(pa.table(columns).to_pylist())


ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "id": st.sampled_from(["a", "b", "c", "d", "e", None] + ["f"] * 2 + [7]),
            "k": st.sampled_from(["p"] * 6 + ["q", "", None]),
            "x": st.sampled_from([0.0, -0.0, 1.5, -2.25, 1e300, float("nan"), None, 3, "x"]),
            "n": st.sampled_from([0, 1, 2, 2**62, None, 2**63, True, 1.0]),
            "at": st.one_of(
                st.integers(START - 20_000, START + 40_000), st.sampled_from([None, "t", 2**62])
            ),
            "known": st.sampled_from([0, 1, None, None, 4_000, TOLERANCE, TOLERANCE + 1, "soon"]),
            "more": st.sampled_from([None, [1]]),
        }
    ),
    max_size=6,
)
STEPS = st.one_of(
    st.tuples(st.just("append"), st.integers(0, 1), ROWS, st.integers(0, 9_000)),
    st.tuples(st.just("append"), st.integers(0, 1), ROWS, st.integers(0, 9_000)),
    st.tuples(st.just("step"), st.integers(1, 7), st.booleans()),
    st.tuples(st.just("restart")),
    st.tuples(st.just("land")),
    st.tuples(st.just("publish"), st.integers(0, 1), st.integers(-1, 20_000), st.booleans()),
)
SCRIPTS = st.lists(STEPS, max_size=12).map(lambda steps: [*steps, ("publish", 0, 9_000, True)])
SOURCES = st.builds(
    source, st.integers(1, 2), st.sampled_from([None, 0, 8_000]), st.sampled_from([None, "id"])
)
FILES = st.lists(
    st.fixed_dictionaries(
        {
            "id": st.sampled_from(["a0", "b0", "f1", "z", None]),
            "k": st.sampled_from(["p", "q", None]),
            "x": st.sampled_from([1.0, 2.5, None]),
            "n": st.sampled_from([0, 1, None]),
            "at": st.integers(START - 20_000, START - 1),
            "known": st.integers(START - 9_000, START - 1),
        }
    ),
    max_size=4,
)


@contextmanager
def world(made: Source, files: list[dict[str, Any]], fuse: Fuse | None = None) -> Iterator[World]:
    """A world whose lake has what files brought before the stream began."""
    with tempfile.TemporaryDirectory() as folder:
        found = World(Path(folder), made, fuse or Fuse())
        if files:
            found.lake.create(source_table(made))
            found.lake.append(made.table, events_table(made, files))
        try:
            yield found
        finally:
            found.restart()


def played(made: World, script: list[tuple[Any, ...]]) -> World:
    """The world after a script, with nothing left to do."""
    for step in script:
        made.do(step)
    made.finish()
    return made


@given(made=SOURCES, script=SCRIPTS, files=FILES, later=st.integers(0, 30_000))
@settings(max_examples=120)
def test_heads_and_tail_give_what_the_oracle_gives(
    made: Source, script: list[tuple[Any, ...]], files: list[dict[str, Any]], later: int
) -> None:
    """Of every version that is served, for what has landed in the lake, at any later time."""
    with world(made, files) as found:
        played(found, script)
        rows = found.landed(made.table)
        for view in found.views:
            for name in ENTITIES:
                check_online(found, view, name, rows, later)


def check_online(
    found: World, view: FeatureView, name: str, rows: list[dict[str, Any]], later: int
) -> None:
    """Compares tail and heads of one entity with the oracle and with the batch kernel."""
    q = found.clock.now() + 1 + later
    (answer_,) = found.store.read([(view_id(view), key_bytes([name]) or b"")], q)
    if answer_.version is None:
        return
    algebra = ViewAlgebra(view)
    blobs = [blob for blob in (answer_.tail, *answer_.heads) if blob is not None]
    cells = [OpenCell(algebra.slots, blob) for blob in blobs]
    plan = ViewPlan.of(view.name, view, ("k",), tuple(view.features))
    expected = answer(plan, rows, (name,), q)
    values = aggregate(list(enumerate(algebra.slots)), cells, q, view.ttl)
    spine = pa.table({"k": pa.array([name]), AS_OF: pa.array([q], to_arrow("time"))})
    kernel = features_as_of(plan, events_table(view.source, _columns(view, rows)), spine)
    states = {"absent", "empty"} if cells else {"absent"}
    for slot, value in zip(algebra.slots, values, strict=True):
        wanted, state = expected[slot.name]
        assert repr(value.value) == repr(wanted), (slot.name, value, wanted)
        assert value.state == state or {value.state, state} <= states, slot.name
        batch = kernel.columns[slot.name][0].as_py()
        assert repr(dict(batch) if slot.spec.group and batch is not None else batch) == repr(wanted)


def _columns(view: FeatureView, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: row[name] for name in view.source.columns} for row in rows]


@given(made=SOURCES, script=SCRIPTS, files=FILES)
def test_every_event_is_counted_and_lands_once(
    made: Source, script: list[tuple[Any, ...]], files: list[dict[str, Any]]
) -> None:
    """What was read is accepted, late, malformed, refused or a duplicate; and all is in a table."""
    with world(made, files) as found:
        played(found, script)
        stats = [processor.stats() for processor in found.everyone()]
        for partition, told in enumerate(stats):
            assert told["read"] == sum(told[o] for o in OUTCOMES) == found.log.end(partition)
            assert told["landed"] == told["offset"] == told["read"]
        rows = [row for row in found.landed(made.table) if row[OFFSET] is not None]
        letters = found.landed("lake.src_dead_letters")
        places = [(row[PARTITION], row[OFFSET]) for row in (*rows, *letters)]
        assert len(set(places)) == len(places)
        assert len(rows) == sum(told["accepted"] for told in stats)
        dead = sum(told[o] for told in stats for o in ("late", "malformed", "refused"))
        assert len(letters) == dead
        appended = {
            (partition, event.offset): event.appended_at
            for partition in range(made.partitions)
            for event in found.log.read(partition, 0, 1_000)
        }
        assert all(row["known"] == appended[row[PARTITION], row[OFFSET]] for row in rows)
        ids = [(row[PARTITION], row["id"]) for row in rows if row["id"] is not None]
        assert made.event_id is None or len(set(ids)) == len(ids)


@given(made=SOURCES, script=SCRIPTS, files=FILES, after=st.integers(0, 400))
@settings(max_examples=100)
def test_a_crash_at_any_moment_changes_nothing(
    made: Source, script: list[tuple[Any, ...]], files: list[dict[str, Any]], after: int
) -> None:
    """Killed before or after any call of a port, it ends with the same bytes and positions."""
    with world(made, files) as calm, world(made, files, Fuse(after)) as killed:
        played(calm, script)
        played(killed, script)
        assert outcome(killed) == outcome(calm)


def outcome(found: World) -> Any:
    """Everything that is there in the end."""
    tables = [found.landed(table) for table in ("lake.src", "lake.src_dead_letters")]
    stats = [processor.stats() for processor in found.everyone()]
    counts = [{o: told[o] for o in (*OUTCOMES, "offset", "landed", "newest")} for told in stats]
    return found.online(), repr(tables), counts


def row(number: int, **more: Any) -> dict[str, Any]:
    """An ordinary event."""
    return {"id": f"i{number}", "k": ENTITIES[number % 3], "x": number / 4, "n": number % 3,
            "at": START + number, "known": None} | more  # fmt: skip


def test_a_crash_at_every_moment_changes_nothing() -> None:
    """The same for one story, and each of its moments in turn."""
    made = source(1, 8_000, "id")
    bad = [row(1), row(2, at=START - 99_000), row(3, x="x"), row(4, known=9_000)]
    script: list[tuple[Any, ...]] = [
        ("append", 0, [row(n) for n in range(5)], 100),
        ("step", 3, True),
        ("publish", 0, 50, True),
        ("append", 0, [*bad, row(9), row(10, at=START + 30_000)], 500),
        ("step", 4, True),
        ("land",),
        ("publish", 0, 0, True),
        ("publish", 1, 200, False),
        ("append", 0, [row(n) for n in range(8, 14)], 500),
    ]
    fuse = Fuse()
    with world(made, [], fuse) as calm:
        expected = outcome(played(calm, script))
        moments = fuse.burnt
    assert moments > 100
    for moment in range(moments):
        with world(made, [], Fuse(moment)) as killed:
            assert outcome(played(killed, script)) == expected, moment
