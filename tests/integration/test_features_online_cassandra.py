"""The online store in a real Cassandra: the promises of every store, and what is special here."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings

from features.clock import SystemClock
from features.errors import BadInput, Conflict, DamagedData, NotFound, Unavailable
from features.online.cassandra import CassandraOptions, CassandraStore, Database
from features.online.cassandra.ledger import Part, begun, built
from features.online.memory import MemoryStore
from features.online.store import Found, Head, OnlineStore, Version
from tests.online_commands import bring_and_get, installation, online_finding
from tests.online_promises import (
    FIRST,
    SECOND,
    THIRD,
    VIEW,
    OnlineStorePromises,
    one,
    published,
)
from tests.online_scripts import VIEWS, Script, run_beside, scripts
from tests.servers.cassandra import DATA_CENTRE, CassandraNode, cassandra_nodes

pytestmark = [pytest.mark.cassandra, pytest.mark.slow, pytest.mark.timeout(600)]

SECOND_US = 1_000_000
TABLES = ("cells", "ledgers", "positions", "manifests")


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CassandraNode]:
    """One node for the module."""
    with cassandra_nodes(tmp_path_factory.mktemp("cassandra")) as (started,):
        yield started


def options(node: CassandraNode, keyspace: str = "promises") -> CassandraOptions:
    """How to reach the node, with a patience for slow machines."""
    return CassandraOptions(
        (node.address,), DATA_CENTRE, keyspace, node.port, replication=1, deadline_s=10.0
    )


@pytest.fixture(scope="module")
def database(node: CassandraNode) -> Iterator[Database]:
    """A session for the module."""
    opened = Database(options(node))
    yield opened
    opened.close()


def emptied(database: Database) -> Database:
    """The same session over empty tables."""
    for table in TABLES:
        database.session.execute(f"TRUNCATE promises.{table}", timeout=60.0)
    return database


@pytest.fixture
def store(database: Database) -> OnlineStore:
    """An empty store."""
    return CassandraStore(emptied(database), clock=SystemClock())


class TestCassandra(OnlineStorePromises):
    """The promises of every store."""


@settings(max_examples=15)
@given(script=scripts)
def test_two_stores_one_behaviour(database: Database, script: Script) -> None:
    """Same answers and errors as in memory; a second store that believes nothing does too."""
    emptied(database)
    model = MemoryStore()
    first = CassandraStore(database, clock=SystemClock(), grace_s=0)
    run_beside(script, model, first, CassandraStore(database, clock=SystemClock(), life_s=0))
    again = CassandraStore(database, clock=SystemClock())
    assert [again.versions(view) for view in VIEWS] == [model.versions(view) for view in VIEWS]


def count(database: Database, table: str) -> int:
    """How many rows a table has."""
    (row,) = database.session.execute(f"SELECT COUNT(*) FROM promises.{table}", timeout=60.0)
    return int(row[0])


class Calendar:
    """A clock that tests set."""

    def __init__(self) -> None:
        self.time = 1_000_000_000_000_000

    def now(self) -> int:
        """The time that was set, UTC µs."""
        return self.time


def test_nothing_stays_of_what_was_dropped(database: Database) -> None:
    """Replaced, failed, retried and dropped parts are removed cell by cell, once the grace is over.

    Until then they can still be read by who learned of them before.
    """
    clock = Calendar()
    store = CassandraStore(emptied(database), clock=clock, grace_s=600)
    reader = CassandraStore(database, clock=clock, life_s=300)
    published(store, FIRST)
    store.write_head(FIRST, 0, [(b"%d" % i, b"head") for i in range(700)], Head(1, 1, 1))
    assert one(reader, b"5").heads[0] == b"head"
    store.write_tail(Version(VIEW, 2, 77, 2), [(b"%d" % i, b"failed") for i in range(700)])
    with pytest.raises(ZeroDivisionError):
        store.write_tail(SECOND, ((b"%d" % i, b"%d" % (1 // (600 - i))) for i in range(700)))
    published(store, SECOND, THIRD)
    store.drop(FIRST)
    store.drop(SECOND)
    assert count(database, "cells") > 1_400
    assert one(reader, b"5").heads[0] == b"head"
    clock.time += 601 * SECOND_US
    store.write_tail(THIRD, [(b"a", b"tail 3")])
    assert count(database, "cells") == 2, "the current tail, and the one it has just replaced"
    clock.time += 601 * SECOND_US
    store.drop(Version(VIEW, 9, 9, 9))
    assert [count(database, table) for table in TABLES] == [1, 1, 0, 1]
    assert one(store).tail == b"tail 3"
    assert one(reader).version == THIRD


def test_what_a_dead_writer_began_is_removed_a_day_later(database: Database) -> None:
    """A writer that was killed leaves no cells for ever, and none that lives is disturbed."""
    clock = Calendar()
    store = CassandraStore(emptied(database), clock=clock, grace_s=1)
    dead = store._part(FIRST, "tail")
    store._ledgers.change(VIEW, lambda ledger: begun(ledger, dead))
    store._parts.fill_tail(VIEW, dead, [(b"%d" % i, b"cell") for i in range(100)], 0)
    clock.time += 23 * 3_600 * SECOND_US
    published(store, FIRST)
    assert count(database, "cells") == 101
    clock.time += 2 * 3_600 * SECOND_US
    published(store, SECOND)
    clock.time += 2 * SECOND_US
    published(store, THIRD)
    assert count(database, "cells") == 3
    with pytest.raises(Conflict, match="given up"):
        store._ledgers.change(VIEW, lambda ledger: built(ledger, FIRST, dead, 100, clock.now()))


def test_a_cell_is_read_with_the_position_that_it_is_right_for(database: Database) -> None:
    """A writer that dies between cells and position leaves entities at two moments, both whole.

    Who reads a replaced cell reads the position that it was written at; the others stand where the
    head stood. What is replayed after that, with another stride, rolls nothing back.
    """
    store = CassandraStore(emptied(database), clock=SystemClock())
    published(store, FIRST)
    store.write_head(FIRST, 0, [(b"a", b"a5"), (b"b", b"b5")], Head(5, 5, 5))
    name = store._head(FIRST, 0)
    ahead = store._positions.now(VIEW, name).followed_by(Head(9, 9, 9))
    store._parts.fill_head(VIEW, Part(1, name, 0), {b"a": b"a9"}, ahead)
    for reader in (store, CassandraStore(database, clock=SystemClock())):
        a, b = reader.read([(VIEW, b"a"), (VIEW, b"b")], 9_000)
        assert (a.heads[0], a.positions[0]) == (b"a9", Head(9, 9, 9))
        assert (b.heads[0], b.positions[0]) == (b"b5", Head(5, 5, 5))
    store.write_head(FIRST, 0, [(b"a", b"a7"), (b"b", b"b7")], Head(7, 7, 7))
    a, b = store.read([(VIEW, b"a"), (VIEW, b"b")], 9_000)
    assert (a.heads[0], a.positions[0]) == (b"a9", Head(9, 9, 9))
    assert (b.heads[0], b.positions[0]) == (b"b7", Head(7, 7, 7))
    store.write_head(FIRST, 0, [(b"b", b"b12")], Head(12, 12, 12))
    a, b = store.read([(VIEW, b"a"), (VIEW, b"b")], 9_000)
    assert (a.heads[0], b.heads[0]) == (b"a9", b"b12")
    assert {each.positions[0] for each in (a, b)} == {Head(12, 12, 12)}


def test_another_process_sees_heads_and_versions(database: Database) -> None:
    """A second store sees cells at once, positions and versions as soon as their life is over."""
    clock = Calendar()
    store = CassandraStore(emptied(database), clock=clock)
    other = CassandraStore(database, clock=clock, life_s=1)
    assert one(other) == Found()
    published(store, FIRST)
    clock.time += SECOND_US
    assert one(other).version == FIRST
    store.write_head(FIRST, 0, [(b"a", b"one")], Head(1, 1, 1))
    store.write_head(FIRST, 1, [], Head(4, 4, 4))
    clock.time += SECOND_US
    assert one(other).positions == (Head(1, 1, 1), Head(4, 4, 4))
    published(store, SECOND)
    assert other.versions(VIEW) == (SECOND, FIRST)
    assert one(other).version == SECOND


def test_readers_see_one_moment_while_a_head_moves(database: Database) -> None:
    """Whatever is read while three owners write one head: cell and position are of one moment."""
    writers = [CassandraStore(emptied(database), clock=SystemClock()) for _ in range(3)]
    published(writers[0], FIRST)
    writers[0].write_head(FIRST, 0, [(b"a", b"1")], Head(1, 1, 1))
    reader = CassandraStore(database, clock=SystemClock(), life_s=0.01)

    def write(store: CassandraStore, offsets: range) -> None:
        for offset in offsets:  # the state of "a" is a function of the offset, as a stream's is
            store.write_head(FIRST, 0, [(b"a", b"%d" % offset)], Head(offset, offset, offset))

    seen = 0
    with ThreadPoolExecutor(3) as pool:
        jobs = [pool.submit(write, s, range(2, 200, 1 + i)) for i, s in enumerate(writers)]
        while not all(job.done() for job in jobs):
            found = one(reader)
            offset = found.positions[0].offset
            assert found.heads[0] == b"%d" % offset
            assert offset >= seen
            seen = offset
        for job in jobs:
            job.result()
    assert one(reader).positions[0].offset == 199


def test_publishers_beside_each_other_lose_nothing(database: Database) -> None:
    """Eight processes that each write and publish versions of one view: every one is there."""
    emptied(database)

    def publish(place: int) -> None:
        store = CassandraStore(database, clock=SystemClock())
        for number in range(place, 40, 8):
            published(store, Version(VIEW, number + 1, number, 1))
            store.write_head(Version(VIEW, number + 1, number, 1), 0, [], Head(1, 1, 1))

    with ThreadPoolExecutor(8) as pool:
        for job in [pool.submit(publish, place) for place in range(8)]:
            job.result()
    versions = CassandraStore(database, clock=SystemClock()).versions(VIEW)
    assert sorted(version.number for version in versions) == list(range(1, 41))


def test_a_damaged_cell_is_damage_and_not_absence(database: Database) -> None:
    """A byte that changed in the database is found in cell, position and ledger."""
    store = CassandraStore(emptied(database), clock=SystemClock())
    published(store, FIRST)
    store.write_head(FIRST, 0, [(b"a", b"head")], Head(1, 1, 1))
    session = database.session
    session.execute(
        "UPDATE promises.positions SET position = 0x0102 WHERE part = %s", (store._head(FIRST, 0),)
    )
    with pytest.raises(DamagedData, match="head"):
        one(CassandraStore(database, clock=SystemClock()))
    rows = session.execute("SELECT entity, feature_view, version, part FROM promises.cells")
    for row in list(rows):
        session.execute("UPDATE promises.cells USING TIMESTAMP 9999999999999999 SET cell = 0x01 "
                        "WHERE entity=%s AND feature_view=%s AND version=%s AND part=%s",
                        row)  # fmt: skip
    with pytest.raises(DamagedData):
        one(store)
    session.execute("UPDATE promises.ledgers SET ledger = 0x0a0b0c0d WHERE feature_view = %s",
                    (VIEW,))  # fmt: skip
    with pytest.raises(DamagedData):
        store.versions(VIEW)


def test_a_cell_that_is_too_large_is_refused_whole(database: Database) -> None:
    """What Cassandra cannot take is an error, and its version cannot be published."""
    store = CassandraStore(emptied(database), clock=SystemClock())
    published(store, FIRST)
    with pytest.raises(Unavailable, match="cannot answer"):
        store.write_tail(SECOND, [(b"a", bytes(20_000_000))])
    with pytest.raises(NotFound):
        store.publish(SECOND)
    assert one(store).tail == b"tail 1"


def test_an_offset_has_a_limit_that_is_told(database: Database) -> None:
    """An offset that no timestamp can hold is refused, the greatest that can is kept."""
    store = CassandraStore(emptied(database), clock=SystemClock())
    published(store, FIRST)
    with pytest.raises(BadInput, match="offset"):
        store.write_head(FIRST, 0, [], Head(1 << 47))
    store.write_head(FIRST, 0, [(b"a", b"last")], Head((1 << 47) - 1))
    assert one(store).heads[0] == b"last"


def test_the_commands_use_it_by_settings(node: CassandraNode, tmp_path: Path) -> None:
    """Materialize, get and doctor work on it; the keyspace is made by the first of them."""
    platform = installation(
        tmp_path / "home",
        store="cassandra",
        cassandra_contact_points=f" {node.address} , {node.address}",
        cassandra_port=str(node.port),
        cassandra_keyspace="by_settings",
        cassandra_replication="1",
        deadline_s="10",
    )
    bring_and_get(platform)
    assert online_finding(platform) == ("ok", "writes to cassandra")


def test_a_wrong_address_data_centre_and_keyspace_are_told(
    node: CassandraNode, database: Database, tmp_path: Path
) -> None:
    """Nobody there, a data centre without nodes, a wrong name: an error with a hint, soon."""
    published(CassandraStore(emptied(database), clock=SystemClock()), FIRST)
    good = options(node)
    for wrong in (
        replace(good, contact_points=("127.0.0.99",), deadline_s=1.0),
        replace(good, data_centre="elsewhere"),
    ):
        store = CassandraStore(Database(wrong), clock=SystemClock())
        for _ in range(2):
            with pytest.raises(Unavailable) as caught:
                store.read([(VIEW, b"a")], 0)
            assert "data centre" in caught.value.hint
    with pytest.raises(BadInput, match="keyspace"):
        Database(replace(good, keyspace="x; DROP"))
    for missing in (
        replace(good, user="u", password_file=str(tmp_path / "none")),
        replace(good, ca_file=str(tmp_path / "none")),
    ):
        with pytest.raises(BadInput, match="cannot be read"):
            Database(missing)


def test_a_killed_node_has_everything_when_it_is_back(tmp_path: Path) -> None:
    """kill -9 amid head writes: Unavailable, then all that a durable node acknowledged."""
    with cassandra_nodes(tmp_path, durable=True) as (own,):
        database = Database(replace(options(own), deadline_s=4.0))
        store = CassandraStore(database, clock=SystemClock())
        published(store, FIRST)
        acknowledged = [0]

        def write() -> None:
            for number in itertools.count(1):
                cells = [(b"%d" % i, b"%d" % number) for i in range(20)]
                try:
                    store.write_head(FIRST, 0, cells, Head(number, number, number))
                except Unavailable:
                    return
                acknowledged[0] = number

        writer = threading.Thread(target=write)
        writer.start()
        while acknowledged[0] < 50:
            writer.join(0.01)
            assert writer.is_alive()
        own.process.kill()
        writer.join(60)
        with pytest.raises(Unavailable, match="cannot answer"):
            one(store)
        own.start()
        again = CassandraStore(Database(options(own)), clock=SystemClock())
        for i in range(20):
            found = one(again, b"%d" % i)
            offset = found.positions[0].offset
            assert acknowledged[0] <= offset <= acknowledged[0] + 1
            assert found.heads[0] == b"%d" % offset
        database.close()
        again._parts._database.close()
