"""A replica's cache: how long entries live, of which version they are, and what they bridge."""

from __future__ import annotations

import pytest

from features.algebra.state import OpenCell
from features.algebra.view import ViewAlgebra
from features.durations import HOUR, SECOND
from features.online import Position
from features.online.cache import CellCache, Entry
from features.online.materialize import view_id
from features.online.store import Version
from tests.online_world import (
    CUT,
    LIFE,
    VIEW,
    World,
    cells,
)


@pytest.fixture
def world() -> World:
    """A new one."""
    return World()


def test_what_is_kept_of_an_entry_holds_in_both_directions(world: World) -> None:
    """Windows that move, ages that end: in whatever order a cached entry is asked."""
    world.stream([("a", 2.0, CUT + 7 * SECOND)], 1, CUT + HOUR)
    reader, plain = world.reader(cache_us=2**60, clock="replay"), world.reader(clock="replay")
    hops = [CUT + n * 5 * 60 * SECOND + d for n in (1, 11, 12, 13, 60, 61) for d in (0, 1)]
    ends = CUT + 7 * SECOND + 5 * HOUR
    times = [*hops, ends, ends + 1, CUT + 9 * HOUR]
    for at in [*times, *reversed(times), *times[::2], *reversed(times[::3])]:
        cached, right = world.ask(reader, at=at), world.ask(plain, at=at)
        assert (cached.values, cached.states) == (right.values, right.states), at
    assert len(world.store.asked) == 1 + 15 + 15 + 8 + 5


def test_the_cache_lives_by_the_clock(world: World) -> None:
    """Until its life, less at most a tenth, is over; the window slides all the same."""
    reader = world.reader(cache_us=LIFE)
    world.ask(reader)
    world.clock.advance(LIFE * 9 // 10 - 1)
    served = world.ask(reader)
    assert len(world.store.asked) == 1
    assert served.tiers == {"spent": ("L1", LIFE * 9 // 10 - 1)}
    world.clock.advance(LIFE // 10 + 1)
    assert world.ask(reader).tiers == {"spent": ("store", 0)}
    assert len(world.store.asked) == 2


def test_the_cache_lives_by_the_question_on_replay(world: World) -> None:
    """The clock on the wall says nothing about replayed questions, in either direction."""
    reader = world.reader(cache_us=LIFE, clock="replay")
    world.ask(reader, at=CUT + HOUR)
    world.clock.advance(1_000 * LIFE)
    world.ask(reader, at=CUT + HOUR + LIFE * 9 // 10 - 1)
    assert len(world.store.asked) == 1
    world.ask(reader, at=CUT + HOUR + LIFE)
    assert len(world.store.asked) == 2
    world.ask(reader, at=CUT + HOUR)
    assert len(world.store.asked) == 3


def test_a_clock_that_goes_back_does_not_lengthen_a_life(world: World) -> None:
    """What was read in what is now the future is read again."""
    reader = world.reader(cache_us=LIFE)
    world.ask(reader)
    world.clock.advance(-1)
    world.ask(reader)
    assert len(world.store.asked) == 2


def entry(fetched: int, *, found: bool = True, version: int = 1, cut: int = 0) -> Entry:
    """An entry of the cache."""
    opened = cells([("a", 1.0, 5)]) if found else []
    made = tuple(OpenCell(ViewAlgebra(VIEW).slots, blob) for _, blob in opened)
    return Entry(made, Position(version, cut), -1, 0, fetched)


def lives(cache: CellCache, key: bytes, fetched: int, most: int) -> int:
    """The first time at which an entry is not fresh any more."""
    low, high = fetched, fetched + most + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if cache.fresh((0, key), middle, 99) else (low, middle)
    return high - fetched


def cache_of(*views: int, life: int = LIFE, capacity: int = 1_000) -> CellCache:
    """An empty cache that has seen the first versions of these views, or of one."""
    cache = CellCache(life, capacity)
    for view in views or (0,):
        cache.see(view, Version("v", 1, 0))
    return cache


def test_entries_that_came_together_do_not_end_together() -> None:
    """Lives differ by at most a tenth, and not two in a hundred are alike."""
    cache = cache_of()
    keys = [b"%d" % i for i in range(300)]
    for key in keys:
        cache.put((0, key), entry(1_000))
    ends = [lives(cache, key, 1_000, LIFE) for key in keys]
    assert min(ends) >= LIFE * 9 // 10
    assert max(ends) <= LIFE
    assert len(set(ends)) > 200


def test_absent_entities_live_shorter() -> None:
    """A tenth: who was not there may come any time."""
    cache = cache_of()
    cache.put((0, b"k"), entry(0))
    cache.put((0, b"n"), entry(0, found=False))
    assert LIFE * 9 // 100 <= lives(cache, b"n", 0, LIFE) <= LIFE // 10
    assert lives(cache, b"k", 0, LIFE) >= LIFE * 9 // 10


def test_the_cache_is_bounded() -> None:
    """The oldest goes when it is full; one that is put again is new; a life of 0 keeps nothing."""
    cache = cache_of(capacity=3)
    for key in (b"1", b"2", b"3", b"1", b"4"):
        cache.put((0, key), entry(0))
    held = [bool(cache.any((0, key))) for key in (b"1", b"2", b"3", b"4")]
    assert held == [True, False, True, True]
    nothing = cache_of(life=0)
    nothing.put((0, b"1"), entry(0))
    assert nothing.any((0, b"1")) is None


def test_the_cache_never_serves_across_versions() -> None:
    """Once a view was seen in another version, newer or not, the others answer the past only."""
    cache = cache_of(0, 1)
    cache.put((0, b"a"), entry(0, version=1, cut=10))
    cache.put((1, b"a"), entry(0, version=1, cut=10))
    cache.see(0, Version("v", 2, 50))
    cache.put((0, b"b"), entry(0, version=2, cut=50))
    assert cache.fresh((0, b"a"), 1, 99) is None
    assert cache.fresh((0, b"a"), 1, 50) is None
    assert cache.fresh((0, b"a"), 1, 49) is not None
    assert cache.fresh((0, b"a"), 1, 9) is None
    assert cache.fresh((1, b"a"), 1, 99) is not None
    assert cache.fresh((0, b"b"), 1, 50) is not None
    assert cache.fresh((0, b"b"), 1, 49) is None
    cache.see(0, Version("v", 1, 10))
    assert cache.fresh((0, b"b"), 1, 50) is None
    assert cache.fresh((0, b"a"), 1, 50) is not None


def test_a_flip_is_seen_when_the_life_is_over(world: World) -> None:
    """A cached cell is of one version and says so; the next read is of the new one, whole."""
    reader = world.reader(cache_us=LIFE)
    world.ask(reader)
    world.publish(Version(view_id(VIEW), 2, CUT + HOUR // 2, 1), [("a", 9.0, CUT)])
    cached = world.ask(reader)
    assert (cached.positions["spent"].version, cached.values[2]) == (1, 1.0)
    assert world.ask(reader, "b").positions["spent"].version == 2
    served = world.ask(reader)
    assert (served.positions["spent"].version, served.values[2]) == (2, 9.0)


def test_a_question_from_before_the_cut_reads_the_version_before(world: World) -> None:
    """On replay; and before the first cut nothing is known, from a cached cell neither."""
    world.publish(Version(view_id(VIEW), 2, CUT + HOUR, 1), [("a", 9.0, CUT)])
    reader = world.reader(cache_us=LIFE, clock="replay")
    for _ in range(2):
        assert world.ask(reader, at=CUT + HOUR).values[2] == 9.0
        before = world.ask(reader, at=CUT + HOUR - 1)
        assert (before.values[2], before.positions["spent"].version) == (1.0, 1)
        assert world.ask(reader, at=CUT - 1).states == ["error"] * 6


def test_a_silent_store_is_bridged_within_the_staleness_that_is_allowed(world: World) -> None:
    """Cells past their cache life are served as stale, then are errors; all is well afterwards."""
    reader = world.reader(cache_us=LIFE, max_staleness=2 * HOUR, defaults={"spent:last": 5.0})
    world.ask(reader)
    world.store.silent = True
    fresh = world.ask(reader)
    assert fresh.substitutes == ["none"] * 6
    world.clock.set(CUT + 2 * HOUR)
    stale = world.ask(reader)
    assert stale.substitutes == ["stale"] * 6
    assert (stale.values[2], stale.states[2], stale.states[0]) == (1.0, "value", "empty")
    assert stale.tiers == {"spent": ("L1", HOUR)}
    world.clock.advance(1)
    gone = world.ask(reader)
    assert gone.states == ["error"] * 6
    assert (gone.values[2], gone.substitutes[2]) == (5.0, "default")
    world.store.silent = False
    world.stream([], 1, CUT + 2 * HOUR)
    back = world.ask(reader)
    assert (back.states[2], back.substitutes) == ("value", ["none"] * 6)


def test_without_a_staleness_a_silent_store_is_not_bridged(world: World) -> None:
    """Nobody said that old values may be served."""
    reader = world.reader(cache_us=LIFE)
    world.ask(reader)
    world.store.silent = True
    world.clock.advance(LIFE)
    assert world.ask(reader).states == ["error"] * 6


def test_the_parts_of_an_answer_are_its_own(world: World) -> None:
    """Whoever changes an answer changes no other, cached or not."""
    reader = world.reader(cache_us=LIFE)
    one = world.ask(reader)
    one.values.clear()
    one.states.clear()
    one.substitutes.clear()
    two = world.ask(reader)
    assert two.states == ["empty", "empty", *["value"] * 4]
    assert (len(two.values), two.substitutes) == (6, ["none"] * 6)
