"""What every online store promises, whichever way it keeps its cells.

The promises are methods of one class; a test module inherits them and has a fixture ``store`` that
makes an empty store.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from features.errors import BadInput, Conflict, NotFound
from features.online.store import Found, Head, OnlineStore, Version

VIEW = "carrier@1a2b3c"
FIRST = Version(VIEW, 1, 1_000, 2, 7)
SECOND = Version(VIEW, 2, 2_000, 2, 8)
THIRD = Version(VIEW, 3, 3_000, 2, 9)


def published(store: OnlineStore, *versions: Version) -> None:
    """Writes and publishes versions, in order; the cell of ``a`` says the version's number."""
    for version in versions:
        store.write_tail(version, [(b"a", b"tail %d" % version.number)])
        store.publish(version)


def one(store: OnlineStore, key: bytes = b"a", at: int = 9_000, view: str = VIEW) -> Found:
    """What is known of one entity."""
    (found,) = store.read([(view, key)], at)
    return found


class OnlineStorePromises:
    """Every promise of the port, kept by the store of the fixture ``store``."""

    def test_nothing_is_read_before_it_is_published(self, store: OnlineStore) -> None:
        """A tail and a head are invisible until their version is published, then both are there."""
        assert store.write_tail(FIRST, [(b"a", b"tail"), (b"b", b"")]) == 2
        store.write_head(FIRST, 1, [(b"a", b"head")], Head(5, 1_500, 1_600))
        assert one(store) == Found()
        assert store.versions(VIEW) == ()
        store.publish(FIRST)
        never = Head(0, None, 1_000)
        positions = (never, Head(5, 1_500, 1_600))
        assert one(store) == Found(FIRST, b"tail", (None, b"head"), positions)
        assert one(store, b"b") == Found(FIRST, b"", (None, None), positions)
        assert one(store, b"?") == Found(FIRST, None, (None, None), positions)
        assert store.versions(VIEW) == (FIRST,)

    def test_an_unknown_view_is_not_an_error(self, store: OnlineStore) -> None:
        """A view that was never published is found without a version, in its place."""
        published(store, FIRST)
        known, unknown = (VIEW, b"a"), ("other@1", b"a")
        assert [bool(found.version) for found in store.read([unknown, known, unknown], 0)] == [
            False,
            True,
            False,
        ]
        assert store.read([], 0) == []
        assert store.versions("other@1") == ()

    def test_a_version_without_a_tail_is_not_published(self, store: OnlineStore) -> None:
        """A head alone is no version, nor is one that nobody wrote; the current one stays."""
        published(store, FIRST)
        store.write_head(SECOND, 0, [(b"a", b"head")], Head(1, 1, 1))
        for version in (SECOND, THIRD, Version("other@1", 1, 0)):
            with pytest.raises(NotFound, match="no tail"):
                store.publish(version)
        assert store.versions(VIEW) == (FIRST,)
        assert one(store).tail == b"tail 1"

    def test_publishing_again_is_a_rollback(self, store: OnlineStore) -> None:
        """The version that is published last is current; those before it stay in their order."""
        published(store, FIRST, SECOND, THIRD)
        assert store.versions(VIEW) == (THIRD, SECOND, FIRST)
        store.publish(FIRST)
        store.publish(FIRST)
        assert store.versions(VIEW) == (FIRST, THIRD, SECOND)
        assert one(store).tail == b"tail 1"

    @pytest.mark.parametrize(
        ("at", "number"), [(2_000, 2), (1_999, 1), (1_000, 1), (999, 2), (9_000, 2)]
    )
    def test_a_question_about_the_past_reads_the_version_before(
        self, store: OnlineStore, at: int, number: int
    ) -> None:
        """Before the current version's cut the one before answers, if its cut is not later."""
        published(store, FIRST, SECOND)
        found = one(store, at=at)
        assert found.version is not None
        assert found.version.number == number
        assert found.tail == b"tail %d" % number
        assert found.positions == (Head(0, None, found.version.cut),) * 2

    def test_only_the_two_newest_versions_answer(self, store: OnlineStore) -> None:
        """A time before both cuts is answered by the current version, not by an older one."""
        published(store, FIRST, SECOND, THIRD)
        assert one(store, at=1_500).version == THIRD

    def test_a_tail_is_replaced_as_a_whole(self, store: OnlineStore) -> None:
        """Written again, it has none of the cells from before; the heads stay."""
        store.write_tail(FIRST, [(b"a", b"old"), (b"b", b"old")])
        store.write_head(FIRST, 0, [(b"a", b"head")], Head(1, 1, 1))
        assert store.write_tail(FIRST, [(b"a", b"new")]) == 1
        store.publish(FIRST)
        assert [one(store, key).tail for key in (b"a", b"b")] == [b"new", None]
        store.write_tail(FIRST, [(b"b", b"newest")])
        assert [one(store, key).tail for key in (b"a", b"b")] == [None, b"newest"]
        assert one(store).heads == (b"head", None)

    def test_a_failed_tail_changes_nothing(self, store: OnlineStore) -> None:
        """If its cells cannot be had, the tail from before is there, and no version is new."""

        def broken() -> Iterator[tuple[bytes, bytes]]:
            yield b"a", b"half"
            raise BadInput("no more")

        published(store, FIRST)
        for version in (FIRST, SECOND):
            with pytest.raises(BadInput, match="no more"):
                store.write_tail(version, broken())
        with pytest.raises(NotFound):
            store.publish(SECOND)
        assert one(store).tail == b"tail 1"

    def test_another_try_at_a_number_leaves_nothing_of_the_first(self, store: OnlineStore) -> None:
        """The same number with another cut is another version: no head of it is kept."""
        failed, again = Version(VIEW, 1, 500, 2), Version(VIEW, 1, 600, 2)
        store.write_head(failed, 0, [(b"a", b"of the first try")], Head(9, 9, 9))
        store.write_tail(failed, [(b"a", b"first")])
        store.write_tail(again, [(b"a", b"second")])
        store.publish(again)
        assert one(store) == Found(again, b"second", (None, None), (Head(0, None, 600),) * 2)
        with pytest.raises(NotFound):
            store.publish(failed)

    def test_a_head_never_goes_back(self, store: OnlineStore) -> None:
        """A lower offset changes nothing, the same one does no harm, a higher one replaces."""
        published(store, FIRST)
        store.write_head(FIRST, 0, [(b"a", b"ten"), (b"b", b"ten")], Head(10, 1_100, 1_200))
        store.write_head(FIRST, 0, [(b"a", b"nine"), (b"c", b"nine")], Head(9, 9_999, 9_999))
        assert [one(store, key).heads[0] for key in (b"a", b"b", b"c")] == [b"ten", b"ten", None]
        assert one(store).positions[0] == Head(10, 1_100, 1_200)
        store.write_head(FIRST, 0, [(b"a", b"ten"), (b"b", b"ten")], Head(10, 1_100, 1_300))
        assert one(store).positions[0] == Head(10, 1_100, 1_300)
        store.write_head(FIRST, 0, [(b"a", b"eleven")], Head(11, None, -5))
        assert [one(store, key).heads[0] for key in (b"a", b"b")] == [b"eleven", b"ten"]
        assert one(store).positions == (Head(11, None, -5), Head(0, None, 1_000))

    def test_a_position_moves_without_cells(self, store: OnlineStore) -> None:
        """Events that concern no entity move the position alone."""
        published(store, FIRST)
        store.write_head(FIRST, 1, [], Head(3, 1_001, 1_002))
        assert one(store).positions[1] == Head(3, 1_001, 1_002)
        assert one(store).heads == (None, None)

    @pytest.mark.parametrize("partition", [-1, 2])
    def test_a_head_belongs_to_a_partition_of_the_version(
        self, store: OnlineStore, partition: int
    ) -> None:
        """A partition that the version was not made for is refused, and nothing is kept."""
        with pytest.raises(BadInput, match="no partition"):
            store.write_head(FIRST, partition, [(b"a", b"")], Head(1, 1, 1))

    def test_versions_have_heads_of_their_own(self, store: OnlineStore) -> None:
        """What is written to one version's head is in no other version's."""
        published(store, FIRST)
        store.write_head(FIRST, 0, [(b"a", b"first")], Head(5, 5, 5))
        store.write_head(SECOND, 0, [(b"a", b"second")], Head(2, 2, 2))
        assert one(store).heads[0] == b"first"
        published(store, SECOND)
        assert one(store).heads[0] == b"second"
        assert one(store, at=1_500).heads[0] == b"first"

    def test_a_dropped_version_is_gone(self, store: OnlineStore) -> None:
        """Its tail and heads are gone, dropping it again is fine, and it can be written anew."""
        published(store, FIRST)
        store.write_head(FIRST, 0, [(b"a", b"head")], Head(5, 5, 5))
        published(store, SECOND)
        store.drop(FIRST)
        store.drop(FIRST)
        store.drop(Version("other@1", 1, 0))
        assert store.versions(VIEW) == (SECOND,)
        assert one(store, at=1_500).version == SECOND
        with pytest.raises(NotFound):
            store.publish(FIRST)
        published(store, FIRST)
        assert one(store) == Found(FIRST, b"tail 1", (None, None), (Head(0, None, 1_000),) * 2)

    def test_the_current_version_is_not_dropped(self, store: OnlineStore) -> None:
        """Dropping it is refused and changes nothing."""
        published(store, FIRST, SECOND)
        with pytest.raises(Conflict, match="current"):
            store.drop(SECOND)
        assert one(store).tail == b"tail 2"

    @pytest.mark.parametrize("size", [0, 1, 509, 510, 511, 512, 513, 5_000, 100_000])
    def test_keys_of_every_length_are_told_apart(self, store: OnlineStore, size: int) -> None:
        """Keys that differ in their last byte only are two, in tails and in heads."""
        keys = [b"\x00" * size, b"\x00" * size + b"x", b"\x00" * size + b"y", b"\xff" * size + b"z"]
        store.write_tail(FIRST, [(key, b"tail %d" % i) for i, key in enumerate(keys)])
        heads = [(key, b"head %d" % i) for i, key in enumerate(keys)]
        store.write_head(FIRST, 0, heads, Head(1, 1, 1))
        store.publish(FIRST)
        found = store.read([(VIEW, key) for key in keys], 9_000)
        assert [each.tail for each in found] == [b"tail %d" % i for i in range(4)]
        assert [each.heads[0] for each in found] == [b"head %d" % i for i in range(4)]
        assert one(store, b"\x00" * size + b"w").tail is None

    @pytest.mark.parametrize("size", [0, 1, 4, 2_000, 5_000, 3_000_000])
    def test_cells_of_every_size_come_back(self, store: OnlineStore, size: int) -> None:
        """A cell is opaque bytes; an empty one is not an absent one."""
        cell = bytes(range(256)) * (size // 256) + bytes(size % 256)
        store.write_tail(FIRST, [(b"a", cell)])
        store.write_head(FIRST, 0, [(b"a", cell)], Head(1, 1, 1))
        store.publish(FIRST)
        assert (one(store).tail, one(store).heads[0]) == (cell, cell)

    @pytest.mark.parametrize("view", ["v@1", "a/../b@2", ".", "名前@3", "x" * 2_000 + "@4"])
    def test_any_name_of_a_view_will_do(self, store: OnlineStore, view: str) -> None:
        """Views are told apart by their whole name, whatever characters it has."""
        version, other = Version(view, 1, 0, 1), Version(view + "0", 1, 0, 1)
        published(store, version)
        store.write_tail(other, [(b"a", b"other")])
        store.write_head(version, 0, [(b"a", b"head")], Head(1, 1, 1))
        assert one(store, view=view).tail == b"tail 1"
        assert one(store, view=view).heads == (b"head",)
        assert one(store, view=view + "0") == Found()

    def test_many_cells(self, store: OnlineStore) -> None:
        """Twenty thousand cells are counted, duplicates once, and each is found in a batch."""
        cells = [(b"key %d" % i, b"cell %d" % i) for i in range(20_000)]
        again = [(b"key 5", b"the last one counts")]
        assert store.write_tail(FIRST, iter(cells + again)) == 20_000
        store.publish(FIRST)
        wanted = [(VIEW, key) for key, _ in cells]
        expected = [cell for _, cell in cells]
        expected[5] = b"the last one counts"
        assert [found.tail for found in store.read(wanted, 9_000)] == expected

    def test_threads_read_while_versions_come_and_go(self, store: OnlineStore) -> None:
        """Each read sees one whole version while others are published and dropped beside it."""
        last, ended = 40, threading.Event()

        def watch() -> int:
            seen = 0
            while seen < last and not ended.is_set():
                a, b = store.read([(VIEW, b"a"), (VIEW, b"b")], 10**9)
                assert a.version is not None
                assert a.version == b.version
                assert a.tail == b.tail == b"%d" % a.version.number
                assert a.version.number >= seen
                seen = a.version.number
            return seen

        def publish(number: int) -> Version:
            version = Version(VIEW, number, number, 1)
            store.write_tail(version, [(key, b"%d" % number) for key in (b"a", b"b")])
            store.write_head(version, 0, [(b"a", b"head")], Head(1, 1, 1))
            store.publish(version)
            return version

        before = publish(1)
        with ThreadPoolExecutor(4) as pool:
            watching = [pool.submit(watch) for _ in range(4)]
            try:
                for number in range(2, last + 1):
                    current = publish(number)
                    store.drop(before)
                    before = current
            except BaseException:
                ended.set()
                raise
            assert [each.result(timeout=120) for each in watching] == [last] * 4

    def test_an_entity_is_erased_from_every_version(self, store: OnlineStore) -> None:
        """From tails and heads, published or not; other entities and all positions stay."""
        cells = [(b"a", b"secret"), (b"b", b"kept")]
        for version in (FIRST, SECOND):
            store.write_tail(version, cells)
            store.write_head(version, 1, [(b"a", b"head"), (b"c", b"")], Head(5, 2_500, 2_600))
            store.publish(version)
        store.write_tail(THIRD, cells)
        other = Version("route@1", 1, 1_000)
        store.write_tail(other, cells)
        assert store.views() == (VIEW, "route@1")
        assert store.erase(VIEW, [b"a"]) == 5
        assert store.erase(VIEW, [b"a"]) == store.erase("unknown@1", [b"a"]) == 0
        store.publish(other)
        assert one(store, view="route@1").tail == b"secret"
        for at, version in ((9_000, SECOND), (1_500, FIRST)):
            positions = (Head(0, None, version.cut), Head(5, 2_500, 2_600))
            assert one(store, at=at) == Found(version, None, (None, None), positions)
            assert one(store, b"b", at).tail == b"kept"
            assert one(store, b"c", at).heads == (None, b"")
        store.publish(THIRD)
        assert (one(store).tail, one(store, b"b").tail) == (None, b"kept")

    def test_views_are_those_with_anything(self, store: OnlineStore) -> None:
        """Also one that was never published; none of which everything was dropped."""
        assert store.views() == ()
        store.write_tail(Version("b@1", 1, 1_000), [])
        published(store, FIRST, SECOND)
        store.drop(FIRST)
        assert store.views() == ("b@1", VIEW)

    def test_an_erased_entity_begins_anew(self, store: OnlineStore) -> None:
        """What is written to a head afterwards is there, from the offset where the head was."""
        published(store, FIRST)
        store.write_head(FIRST, 0, [(b"a", b"old")], Head(5, 1_500, 1_600))
        assert store.erase(VIEW, [b"a"]) == 2
        store.write_head(FIRST, 0, [(b"a", b"older")], Head(4, 1_500, 1_600))
        assert one(store).heads == (None, None)
        store.write_head(FIRST, 0, [(b"a", b"new")], Head(6, 1_700, 1_700))
        assert one(store).heads == (b"new", None)
        assert store.erase(VIEW, [b"a"]) == 1

    def test_an_erased_entity_is_in_the_next_version(self, store: OnlineStore) -> None:
        """A tail that is written afterwards has whatever it is given; a version can be dropped."""
        published(store, FIRST)
        store.write_head(FIRST, 0, [(b"a", b"old"), (b"b", b"old")], Head(5, 1_500, 1_600))
        assert store.erase(VIEW, [b"a", b"b"]) == 3
        published(store, SECOND)
        store.write_head(SECOND, 0, [(b"a", b"new")], Head(5, 1_500, 1_600))
        assert (one(store).tail, one(store).heads) == (b"tail 2", (b"new", None))
        store.drop(FIRST)
        assert store.versions(VIEW) == (SECOND,)
        assert store.erase(VIEW, [b"a"]) == 2

    def test_a_key_of_any_length_is_erased(self, store: OnlineStore) -> None:
        """Also what is longer than a store's own keys may be."""
        for key in (b"", b"k" * 510, b"k" * 511, b"k" * 5_000):
            store.write_tail(FIRST, [(key, b"cell"), (b"other", b""), (b"third", b"")])
            store.publish(FIRST)
            assert store.erase(VIEW, [b"third", b"?", b"third"]) == 1
            assert store.erase(VIEW, [key]) == 1
            assert one(store, key).tail is None
