"""Three Cassandra nodes, one of them killed, two of them silent, all of them back."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from features.clock import SystemClock
from features.errors import Unavailable
from features.online.cassandra import CassandraOptions, CassandraStore, Database
from features.online.store import Found, Head, Version
from tests.online_promises import VIEW
from tests.servers.cassandra import DATA_CENTRE, CassandraNode, cassandra_nodes

pytestmark = [pytest.mark.cassandra, pytest.mark.slow, pytest.mark.timeout(900)]

KEYS = [b"key %d" % i for i in range(20)]
DEADLINE_S = 4.0


class Load(threading.Thread):
    """Does one thing again and again until it is told to stop; keeps what went wrong."""

    def __init__(self, step: Callable[[int], None]) -> None:
        super().__init__(daemon=True)
        self._step = step
        self._enough = threading.Event()
        self.done = 0
        self.failed: list[BaseException] = []

    def run(self) -> None:
        """Counts the steps that came through."""
        while not self._enough.is_set():
            try:
                self._step(self.done + 1)
                self.done += 1
            except Exception as error:
                self.failed.append(error)
                return

    def more(self, steps: int) -> None:
        """Waits until so many more steps have come through; raises what went wrong instead."""
        goal = self.done + steps
        while self.done < goal and self.is_alive():
            self._enough.wait(0.02)
        if self.failed:
            raise self.failed[0]

    def end(self) -> None:
        """Ends it and raises what went wrong."""
        self._enough.set()
        self.join(60)
        if self.failed:
            raise self.failed[0]


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[CassandraNode]]:
    """Three nodes that each keep everything."""
    with cassandra_nodes(tmp_path_factory.mktemp("ring"), number=3, heap="512m") as started:
        yield started


@pytest.fixture
def store(nodes: list[CassandraNode]) -> Iterator[CassandraStore]:
    """A store of three replicas, of which two must answer."""
    addresses = tuple(node.address for node in nodes)
    database = Database(
        CassandraOptions(
            addresses, DATA_CENTRE, "ring", nodes[0].port, replication=3, deadline_s=DEADLINE_S
        )
    )
    yield CassandraStore(database, clock=SystemClock())
    database.close()


def version(number: int) -> Version:
    """A version; its tail says its number."""
    return Version(VIEW, number, number, 1)


def bring(store: CassandraStore, number: int) -> None:
    """Writes and publishes a version, drops the one before the last."""
    store.write_tail(version(number), [(key, b"%d" % number) for key in KEYS])
    store.publish(version(number))
    if number > 2:
        store.drop(version(number - 2))


def test_a_killed_node_is_not_noticed_and_loses_nothing(
    nodes: list[CassandraNode], store: CassandraStore
) -> None:
    """One of three is killed amid reads, head writes and publications: every one comes through.

    Two are killed: reads are Unavailable, never "no events". Started again, all that was
    acknowledged is there.
    """
    bring(store, 1)
    other = Version("other@1", 1, 0, 1)
    store.write_tail(other, [(key, b"tail") for key in KEYS])
    store.publish(other)
    store.write_head(other, 0, [(key, b"0") for key in KEYS], Head(0, 0, 0))
    slowest = [0.0]

    def read(_: int) -> None:
        began = time.monotonic()
        wanted = [(view, key) for view in (VIEW, "other@1") for key in KEYS]
        found = store.read(wanted, 10**9)
        slowest[0] = max(slowest[0], time.monotonic() - began)
        mine, others = found[: len(KEYS)], found[len(KEYS) :]
        assert mine[0].version is not None
        assert {each.tail for each in mine} == {b"%d" % mine[0].version.number}
        for each in others:
            assert each.heads[0] == b"%d" % each.positions[0].offset

    def write(number: int) -> None:
        cells = [(key, b"%d" % number) for key in KEYS]
        store.write_head(other, 0, cells, Head(number, number, number))

    loads = [Load(read), Load(read), Load(write), Load(lambda n: bring(store, n + 1))]
    for load in loads:
        load.start()
    for load in loads:
        load.more(10)
    nodes[2].process.kill()
    for load in loads:
        load.more(30)
    for load in loads:
        load.end()
    print(f"slowest read of 40 cells while a node was killed: {slowest[0]:.2f} s")
    heads, versions = loads[2].done, loads[3].done
    assert store.versions(VIEW)[0] == version(versions + 1)

    nodes[1].process.kill()
    assert_silent(store)
    nodes[1].start()
    nodes[2].start()
    again = CassandraStore(store._parts._database, clock=SystemClock())
    answers = until_answered(lambda: again.read([("other@1", key) for key in KEYS], 10**9))
    assert {each.heads[0] for each in answers} == {b"%d" % heads}
    assert again.versions(VIEW)[0] == version(versions + 1)
    assert {each.tail for each in again.read([(VIEW, key) for key in KEYS], 10**9)} == {
        b"%d" % (versions + 1)
    }


def test_two_silent_nodes_are_unavailable_within_the_deadline(
    nodes: list[CassandraNode], store: CassandraStore
) -> None:
    """Nodes that are connected but do not answer cost the deadline, not more, and come back."""
    until_answered(lambda: bring(store, 1_000))
    for node in nodes[1:]:
        node.process.freeze()
    try:
        assert_silent(store)
        began = time.monotonic()
        with ThreadPoolExecutor(8) as pool:
            jobs = [pool.submit(store.read, [(VIEW, key)], 10**9) for key in KEYS[:8]]
            assert {type(job.exception()) for job in jobs} == {Unavailable}
        assert time.monotonic() - began < 2 * DEADLINE_S
    finally:
        for node in nodes[1:]:
            node.process.thaw()
    (found,) = until_answered(lambda: store.read([(VIEW, KEYS[0])], 10**9))
    assert found.tail == b"1000"


def assert_silent(store: CassandraStore) -> None:
    """Reading and writing without a quorum is Unavailable, soon, with a hint."""
    asks: list[Callable[[], object]] = [
        lambda: store.read([(VIEW, KEYS[0])], 10**9),
        lambda: store.read([(VIEW, key) for key in KEYS], 10**9),
        lambda: store.versions(VIEW),
        lambda: store.publish(version(1)),
        lambda: store.write_head(version(1), 0, [], Head(1, 1, 1)),
    ]
    for ask in asks:
        began = time.monotonic()
        with pytest.raises(Unavailable) as caught:
            ask()
        assert time.monotonic() - began < 2 * DEADLINE_S
        assert caught.value.hint


def until_answered(ask: Callable[[], list[Found] | None]) -> list[Found]:
    """What is answered once nodes that have just come back know each other again."""
    end = time.monotonic() + 120
    while True:
        try:
            return ask() or []
        except Unavailable:
            if time.monotonic() > end:
                raise
