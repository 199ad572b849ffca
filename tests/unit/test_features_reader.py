"""Reading features online: values, states, silent stores, damaged cells, and what time it is."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from features.algebra.state import EntityState
from features.algebra.view import ViewAlgebra
from features.durations import HOUR, SECOND
from features.keys import key_bytes
from features.online import Position
from features.online.materialize import view_id
from features.online.store import Head, Version
from features.view_test import events_table
from tests.online_world import (
    ASKED,
    CUT,
    KNOWN,
    LIFE,
    NAMES,
    OTHER,
    SCHEDULE,
    VIEW,
    World,
    cells,
)


@pytest.fixture
def world() -> World:
    """A new one."""
    return World()


def test_values_states_and_position(world: World) -> None:
    """Windows slide, ages grow, ttl ends what has none, and the position says what was read."""
    reader = world.reader(clock="replay")
    served = world.ask(reader, at=CUT)
    assert served.values == [1, 1.0, 1.0, CUT - 1, 1, 1e-6]
    assert served.states == ["value"] * 6
    assert served.positions == {"spent": Position(1, CUT, (0,))}
    assert served.at == CUT
    assert served.substitutes == ["none"] * 6
    later = world.ask(reader, at=CUT + 2 * HOUR)
    assert later.values[:3] == [0, None, 1.0]
    assert later.states[:3] == ["empty", "empty", "value"]
    at_the_end, after = CUT - 1 + 5 * HOUR, CUT + 5 * HOUR
    assert world.ask(reader, at=at_the_end).states[2:] == ["value"] * 4
    assert world.ask(reader, at=after).states[2:] == ["expired"] * 4


def test_a_schedule_counts_when_its_time_has_come(world: World) -> None:
    """An event that is known before it happens: not at its time, but from then on."""
    due = CUT + 2 * HOUR
    table = events_table(KNOWN, [{"k": "a", "x": 3.0, "at": due, "known": CUT + 1}])
    algebra = ViewAlgebra(SCHEDULE)
    (row,) = algebra.rows(table)
    state = EntityState(algebra.slots)
    state.add(row)
    version = Version(view_id(SCHEDULE), 1, CUT, 1)
    world.store.write_tail(version, [])
    world.store.write_head(version, 0, [(row.key, state.pack())], Head(1, CUT + 1, CUT + 1))
    world.store.publish(version)
    reader = world.reader(SCHEDULE, clock="replay", cache_us=2**60)
    for _ in range(2):
        for at, n in ((due, 0), (due + 1, 1), (due + HOUR, 1), (due + 3 * HOUR, 0)):
            assert world.ask(reader, at=at).values[0] == n
        assert world.ask(reader, at=due).states == ["empty"] * 3
        assert world.ask(reader, at=due + 1).values == [1, 3.0, due]
        assert world.ask(reader, at=due + HOUR).states == ["value"] * 3
        assert world.ask(reader, at=due + HOUR + 1).states == ["value", "expired", "expired"]


def test_heads_of_several_partitions_are_one(world: World) -> None:
    """Their events together; a question comes after all of them, and is as fresh as the oldest."""
    version = Version(view_id(VIEW), 2, CUT, 2)
    world.store.write_tail(version, [])
    heads = [("a", 1.0, CUT + 5), ("a", 2.0, CUT + 9)]
    for partition, event in enumerate(heads):
        head = Head(partition + 1, event[2], CUT + (1 + partition) * HOUR)
        world.store.write_head(version, partition, cells([event]), head)
    world.store.publish(version)
    reader = world.reader(clock="replay", max_staleness=HOUR)
    assert world.ask(reader, at=CUT + 9).states == ["error"] * 6
    served = world.ask(reader, at=CUT + 10)
    assert served.values == [2, 1.5, 2.0, CUT + 9, 2, 1e-6]
    assert served.positions["spent"] == Position(2, CUT, (1, 2))
    assert set(world.ask(reader, at=CUT + 2 * HOUR).substitutes) == {"none"}
    assert set(world.ask(reader, at=CUT + 2 * HOUR + 1).substitutes) == {"stale"}


def test_an_unknown_entity_is_absent(world: World) -> None:
    """Counts are 0, all else null, and the state says that it was never seen; a null key too."""
    reader = world.reader()
    served = world.ask(reader, "nobody")
    assert served.values == [0, None, None, None, 0, None]
    assert served.states == ["absent"] * 6
    assert served.positions["spent"] == Position(1, CUT, (0,))
    nothing = world.ask(reader, None)
    assert (nothing.values, nothing.states) == ([None] * 6, ["absent"] * 6)
    assert nothing.positions == {}


def test_a_view_without_a_version_is_an_error(world: World) -> None:
    """It was never materialized: nothing is known, which is not the same as nothing happened."""
    reader = world.reader(OTHER, VIEW, defaults={"other:n": 7})
    served = world.ask(reader)
    assert (served.values[0], served.states[0], served.substitutes[0]) == (7, "error", "default")
    assert served.states[1:] == ["empty", "empty", *["value"] * 4]
    assert served.positions["other"] == Position(0, 0)


def test_rows_of_one_request_are_read_once(world: World) -> None:
    """However often an entity is in it; each row is as of its own time."""
    reader = world.reader(VIEW, VIEW.as_("twin", key={"k": "k2"}))
    rows = [{"k": k, "k2": "a"} for k in ("a", "a", "b", None)]
    served = reader.read(rows, [world.clock.now()] * 4)
    assert world.store.asked == [[(view_id(VIEW), key_bytes([k])) for k in ("a", "b")]]
    assert [row.values[2] for row in served] == [1.0, 1.0, None, None]
    assert [row.values[8] for row in served] == [1.0] * 4
    assert reader.read([], []) == []


def test_a_silent_store_is_an_error_and_never_empty(world: World) -> None:
    """Without a cache nothing is known; defaults stand in, and nothing but them."""
    reader = world.reader(defaults={"spent:sum": 3})
    world.store.silent = True
    for key in ("a", "nobody"):
        served = world.ask(reader, key)
        assert served.values == [3, None, None, None, None, None]
        assert served.states == ["error"] * 6
        assert served.substitutes == ["default", *["none"] * 5]
        assert served.positions == {}
    assert world.ask(reader, None).states == ["absent"] * 6


def test_what_is_late_is_stale(world: World) -> None:
    """A stream or batch that is behind by more than is allowed; a default stands in for values."""
    reader = world.reader(max_staleness=HOUR, defaults={"spent:last": 5.0, "spent:mean": 2.0})
    assert world.ask(reader).substitutes == ["none"] * 6
    world.clock.advance(1)
    late = world.ask(reader)
    assert late.substitutes == ["stale", "stale", "default", "stale", "stale", "stale"]
    assert (late.values[2], late.states[2]) == (5.0, "value")
    assert (late.values[1], late.states[1]) == (None, "empty"), "never replaced"
    world.stream([], 1, CUT + 1)
    assert world.ask(reader).substitutes == ["none"] * 6
    absent = world.ask(reader, "nobody")
    assert absent.substitutes == ["none"] * 6


def test_on_stale_error(world: World) -> None:
    """What is late is an error, and a default is no help; what is overdue but allowed is stale."""
    options = {"max_staleness": HOUR, "on_stale": "error", "defaults": {"spent:last": 5.0}}
    reader = world.reader(cache_us=LIFE, **options)
    world.clock.set(CUT + HOUR // 2)
    world.ask(reader)
    world.store.silent = True
    world.clock.set(CUT + HOUR)
    assert world.ask(reader).substitutes == ["stale"] * 6
    world.store.silent = False
    world.clock.advance(1)
    late = world.ask(reader)
    assert (late.values, late.states) == ([None] * 6, ["error"] * 6)
    assert late.substitutes == ["none"] * 6


def test_a_request_feature_is_as_stale_as_what_it_reads(world: World) -> None:
    """The substitute of what is made of a stale value says so; what reads nothing is its own."""
    reader = world.reader(ASKED, max_staleness=HOUR)
    assert world.ask(reader, limit=0.5).values == [True, 0.25]
    world.clock.advance(1)
    served = world.ask(reader, limit=0.5)
    assert (served.values, served.substitutes) == ([True, 0.25], ["stale", "none"])
    world.store.silent = True
    silent = world.ask(reader, limit=0.5)
    assert (silent.values, silent.states) == ([None, 0.25], ["error", "value"])


def test_a_damaged_cell_stops_no_other(world: World) -> None:
    """Only the view whose cell it is has an error, in its row; the next read tries again."""
    world.publish(Version(view_id(OTHER), 1, CUT, 1), [("a", 1.0, CUT - 1), ("b", 1.0, CUT - 1)])
    reader = world.reader(VIEW.as_("twin", key={"k": "k2"}), OTHER, cache_us=LIFE, max_staleness=9)
    world.store.damaged = {key_bytes(["b"]) or b""}
    rows = [{"k": "a", "k2": "b"}, {"k": "a", "k2": "a"}]
    one, two = reader.read(rows, [world.clock.now()] * 2)
    assert (one.states[:6], one.states[6]) == (["error"] * 6, "value")
    assert "error" not in two.states
    world.store.damaged = set()
    (again,) = reader.read(rows[:1], [world.clock.now()])
    assert again.states[2] == "absent"


@pytest.mark.parametrize("damage", [lambda b: b[:40], lambda b: b"\x07" + b[1:], lambda b: b""])
def test_bytes_that_cannot_be_read_are_an_error(
    world: World, damage: Callable[[bytes], bytes]
) -> None:
    """A store without checksums may hand out anything; it is no exception and no value."""
    ((key, cell),) = cells([("a", 1.0, CUT - 1)])
    world.store.write_tail(world.version, [(key, damage(cell))])
    served = world.ask(world.reader())
    assert set(served.states) == {"error"}


def test_the_wall_clock_is_never_before_the_head(world: World) -> None:
    """A replica whose clock is behind the stream's answers as of just after the newest event."""
    world.stream([("a", 4.0, CUT + 2 * HOUR)], 3, CUT + 2 * HOUR)
    served = world.ask(world.reader())
    assert served.at == CUT + 2 * HOUR + 1
    assert served.values[:3] == [1, 4.0, 4.0]
    assert served.positions["spent"] == Position(1, CUT, (3,))
    assert world.ask(world.reader(), "nobody").at == CUT + 2 * HOUR + 1


def test_a_replay_is_not_moved(world: World) -> None:
    """A question that the head has passed is an error, one microsecond later it is none."""
    world.stream([("a", 4.0, CUT + HOUR)], 3, CUT + HOUR)
    reader = world.reader(clock="replay", cache_us=LIFE, defaults={"spent:sum": 9})
    for _ in range(2):
        early = world.ask(reader, at=CUT + HOUR)
        assert early.states == ["error"] * 6
        assert (early.values[0], early.substitutes[0], early.at) == (9, "default", CUT + HOUR)
        assert world.ask(reader, at=CUT + HOUR + 1).values[:3] == [1, 4.0, 4.0]


def test_defaults_replace_errors_only(world: World) -> None:
    """Never what is empty, absent or expired: the model has seen those as they are."""
    defaults = {f"spent:{name}": 9 if name in ("sum", "ever") else 9.0 for name in NAMES}
    defaults["spent:last_at"] = CUT
    reader = world.reader(defaults=defaults)
    world.clock.set(CUT + 6 * HOUR)
    served = world.ask(reader)
    assert served.states == ["empty", "empty", *["expired"] * 4]
    assert served.values == [0, None, None, None, None, None]
    assert world.ask(reader, "nobody").values == [0, None, None, None, 0, None]
    assert set(served.substitutes) == {"none"}


def test_lag_is_for_training(world: World) -> None:
    """Serving is late by itself: it reads all that there is, ages included."""
    at = CUT + HOUR
    with_lag = world.ask(world.reader(lag=5 * SECOND), at=at)
    assert with_lag.values == world.ask(world.reader(), at=at).values
