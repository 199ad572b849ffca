"""The event log on a real Redis: what every log promises, and what happens when the server dies."""

from __future__ import annotations

import itertools
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import redis
from hypothesis import given, settings

from features.clock import SystemClock
from features.errors import Conflict, DamagedData, NotFound, Unavailable
from features.stream.log import EventLog
from features.stream.redis import RedisLog
from features.stream.redis.erasure import StreamErasure
from features.testing import ManualClock
from tests.contracts import event_log as promises
from tests.contracts import event_log_erasure as erasure_promises
from tests.contracts.event_log import *  # noqa: F403
from tests.contracts.event_log import Make, Place, numbered
from tests.contracts.event_log_erasure import *  # noqa: F403
from tests.contracts.event_log_servers import *  # noqa: F403
from tests.contracts.event_log_servers import TIMEOUT_S, Mortal
from tests.servers.redis import RedisServer, redis_server

pytestmark = pytest.mark.redis

_names = (f"tondo.test{number}" for number in itertools.count())


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A Redis for the promises that leave it alone."""
    with redis_server(tmp_path_factory.mktemp("redis")) as running:
        yield running


@pytest.fixture
def mortal(tmp_path: Path) -> Iterator[Mortal]:
    """A Redis that a test may kill."""
    with redis_server(tmp_path) as running, ExitStack() as opened:

        def open_log(partitions: int) -> EventLog:
            log = RedisLog(running.url, "log", partitions, SystemClock(), timeout_s=TIMEOUT_S)
            return opened.enter_context(closing(log))

        yield Mortal(running, open_log)


@contextmanager
def on_redis(server: RedisServer) -> Iterator[Make]:
    """A name for a log that nobody has used."""
    name = next(_names)
    with ExitStack() as opened:

        def make(partitions: int, clock: ManualClock) -> EventLog:
            log = RedisLog(server.url, name, partitions, clock)
            return opened.enter_context(closing(log))

        yield make


@pytest.fixture(scope="module")
def place(server: RedisServer) -> Place:
    """Redis."""
    return lambda: on_redis(server)


@pytest.fixture(scope="module")
def lasting(place: Place) -> Place:
    """What is in Redis outlives who put it there."""
    return place


@settings(max_examples=25)
@given(promises.BATCHES)
def test_any_rows_survive(place: Place, batches: list[list[dict[str, Any]]]) -> None:
    """Whatever is appended, in whatever pieces, is read as it was."""
    promises.any_rows_survive(place, batches)


@settings(max_examples=20)
@given(promises.BATCHES, erasure_promises.CHOSEN)
def test_erased_are_gone(
    place: Place, batches: list[list[dict[str, Any]]], chosen: list[int]
) -> None:
    """Of any rows any may be erased; all others are read as they were."""
    erasure_promises.erased_are_gone(place, batches, chosen)


@settings(max_examples=25)
@given(promises.APPENDS, promises.QUESTIONS)
def test_times_lead_to_offsets(
    place: Place, appends: list[tuple[int, int]], questions: list[int]
) -> None:
    """``offset_at`` is the first event at that time or later, as a scan of a list would find it."""
    promises.times_lead_to_offsets(place, appends, questions)


@settings(max_examples=25)
@given(promises.SIZES, promises.READS)
def test_reads_anywhere_agree(place: Place, sizes: list[int], reads: list[tuple[int, int]]) -> None:
    """Reads at any offset, in any order, between appends, are slices of one list."""
    promises.reads_anywhere_agree(place, sizes, reads)


@pytest.fixture
def client(server: RedisServer) -> Iterator[redis.Redis]:
    """Somebody else at the same Redis."""
    with redis.Redis.from_url(server.url) as found:
        yield found


@pytest.fixture
def name() -> str:
    """The name of a log that nobody has used."""
    return next(_names)


@pytest.fixture
def own(server: RedisServer, name: str) -> Iterator[RedisLog]:
    """A log of one partition with ten events."""
    with closing(RedisLog(server.url, name, 1, ManualClock(promises.START))) as log:
        for number in range(10):
            log.append(0, numbered(number))
        yield log


def test_what_was_trimmed_is_not_found(own: RedisLog, client: redis.Redis, name: str) -> None:
    """Retention takes events away from the front; all of them, and the count still goes on."""
    stream = f"{{{name}.0}}"
    client.xtrim(stream, minid="6-1", approximate=False)
    with pytest.raises(NotFound, match="the first event is 6"):
        own.read(0, 5, 2)
    assert [event.offset for event in own.read(0, 6, 9)] == [6, 7, 8, 9]
    assert own.offset_at(0, 0) == 6
    client.xtrim(stream, maxlen=0, approximate=False)
    with pytest.raises(NotFound, match="the first event is 10"):
        own.read(0, 9, 2)
    assert own.read(0, 10, 2) == []
    assert own.offset_at(0, 0) == own.end(0) == 10
    assert own.append(0, numbered(10)) == 11
    assert [event.row["number"] for event in own.read(0, 10, 2)] == [10]


def test_what_is_erased_leaves_the_disk(tmp_path: Path) -> None:
    """A deletion alone would leave it in Redis' files; cut off there, the next call sees to it."""
    secret = secrets.token_hex(16)

    def held() -> bool:
        return any(secret.encode() in p.read_bytes() for p in tmp_path.rglob("*") if p.is_file())

    with redis_server(tmp_path) as running:
        with closing(RedisLog(running.url, "log", 2, ManualClock())) as log:
            for number in range(50):
                log.append(number % 2, [{"number": number, "card": secret if number < 9 else "x"}])
            with (
                patch("features.stream.redis.erasure.rewrite_files", side_effect=KeyboardInterrupt),
                pytest.raises(KeyboardInterrupt),
            ):
                log.erase({0: range(5), 1: range(4)})
        running.process.kill()
        running.start()
        assert held()
        with closing(RedisLog(running.url, "log", 2, ManualClock())) as log:
            assert log.erase({}) == 0
            deadline = time.monotonic() + 60
            while held():
                assert time.monotonic() < deadline
                threading.Event().wait(0.02)
            assert [e.offset for e in log.read(0, 0, 99) if e.erased] == [0, 1, 2, 3, 4]
            assert [e.row["number"] for e in log.read(1, 4, 99)] == list(range(9, 50, 2))
        with redis.Redis.from_url(running.url) as client:
            assert sorted(client.keys("*")) == [
                b"log", b"{log.0}", b"{log.0}.end", b"{log.1}", b"{log.1}.end",
            ]  # fmt: skip


def test_a_log_that_grows_is_not_erased_from(
    own: RedisLog, server: RedisServer, name: str, client: redis.Redis
) -> None:
    """Whoever appends while the stream is copied is not lost: the erasure gives up."""
    copied = StreamErasure._copied

    def and_grows(self: StreamErasure, stream: str, copy: str, unwanted: Any) -> None:
        copied(self, stream, copy, unwanted)
        with closing(RedisLog(server.url, name, 1, ManualClock())) as other:
            other.append(0, numbered(10))

    with patch.object(StreamErasure, "_copied", and_grows), pytest.raises(Conflict, match="append"):
        own.erase({0: [1]})
    assert [event.row["number"] for event in own.read(0, 0, 99)] == list(range(11))
    assert own.erase({0: [1]}) == 1
    assert len([event for event in own.read(0, 0, 99) if not event.erased]) == 10
    assert not client.exists(f"{{{name}.0}}.copy")


def test_what_is_left_of_a_trimmed_log_is_erased(
    own: RedisLog, client: redis.Redis, name: str
) -> None:
    """Retention and erasure do not hinder each other."""
    client.xtrim(f"{{{name}.0}}", minid="6-1", approximate=False)
    assert own.erase({0: [2, 9, 6]}) == 2
    assert [(e.offset, e.erased) for e in own.read(0, 6, 9)] == [
        (6, True), (7, False), (8, False), (9, True),
    ]  # fmt: skip
    with pytest.raises(NotFound, match="the first event is 6"):
        own.read(0, 5, 2)
    assert own.append(0, numbered(10)) == 11


def test_a_hole_is_damage(own: RedisLog, client: redis.Redis, name: str) -> None:
    """An event that somebody deleted is never skipped, wherever it stood."""
    client.xdel(f"{{{name}.0}}", "4-1", "9-1")
    assert len(own.read(0, 0, 4)) == 4
    assert len(own.read(0, 5, 9)) == 4
    for offset, limit in ((0, 5), (4, 1), (9, 1), (9, 9)):
        with pytest.raises(DamagedData, match=r"event [49] "):
            own.read(0, offset, limit)


@pytest.mark.parametrize("field", ["frame", "row"])
def test_changed_bytes_are_damage(
    server: RedisServer, client: redis.Redis, name: str, field: str
) -> None:
    """An event in another's place, or with another row, is told by its name."""
    with closing(RedisLog(server.url, name, 1, ManualClock())) as log:
        log.append(0, numbered(1, 2, 3))
        entries = client.xrange(f"{{{name}.0}}")
        client.delete(f"{{{name}.0}}")
        for number, (place, fields) in enumerate(entries):
            other = entries[max(number - 1, 0)][1][field.encode()]
            client.xadd(f"{{{name}.0}}", fields | {field.encode(): other}, id=place)
        with pytest.raises(DamagedData, match="event 1 "):
            log.read(0, 0, 9)


def test_an_append_that_is_sent_twice_is_made_once(server: RedisServer, name: str) -> None:
    """Its answer was lost, so the client sends it again: the log knows it by its first event."""
    with closing(RedisLog(server.url, name, 1, ManualClock())) as log:
        script, answers = log._script, []

        def twice(**given: Any) -> Any:
            answers.append(script(**given))
            return script(**given)

        log._script = twice  # type: ignore[assignment]
        assert log.append(0, numbered(1, 2)) == 2
        assert log.append(0, numbered(3)) == 3
        assert len(log.read(0, 0, 9)) == 3
        assert len(answers) == 2


def test_what_was_settled_cannot_be_made_any_more(server: RedisServer, name: str) -> None:
    """An append that comes late, after its maker gave up and settled, is not made."""
    with closing(RedisLog(server.url, name, 1, ManualClock())) as log:
        log.append(0, numbered(1))
        script, sent = log._script, []

        def lost(**given: Any) -> Any:
            sent.append(given)
            raise redis.TimeoutError

        log._script = lost  # type: ignore[assignment]
        with pytest.raises(Unavailable):
            log.append(0, numbered(2))
        log._script = script
        assert log.append(0, []) == 1
        assert script(**sent[0])[0] == 0
        assert log.append(0, numbered(3)) == 2
        assert script(**sent[0])[0] == 0
        assert [event.row["number"] for event in log.read(0, 0, 9)] == [1, 3]


def test_a_server_that_forgets_is_refused(tmp_path: Path) -> None:
    """One that acknowledges before it has written, or may throw keys away, unless told to."""
    with redis_server(tmp_path) as running, redis.Redis.from_url(running.url) as client:
        for setting, value, told in (
            ("appendfsync", "everysec", "appendfsync always"),
            ("appendonly", "no", "appendonly yes"),
            ("maxmemory-policy", "allkeys-lru", "noeviction"),
        ):
            client.config_set(setting, value)
            with pytest.raises(Conflict, match=told):
                RedisLog(running.url, "log", 1, ManualClock())
        with closing(RedisLog(running.url, "log", 1, ManualClock(), must_fsync=False)) as log:
            assert log.append(0, numbered(1)) == 1


def test_an_emptied_server_is_not_an_empty_log(own: RedisLog, client: redis.Redis) -> None:
    """If the log is gone, nobody is told that it has no events."""
    client.flushdb()
    for ask in (lambda: own.read(0, 0, 1), lambda: own.end(0), lambda: own.append(0, numbered(1))):
        with pytest.raises(Unavailable, match="no longer"):
            ask()


def test_replicas_are_waited_for(server: RedisServer, name: str, tmp_path: Path) -> None:
    """An append is acknowledged when the replica has it, and not when there is none."""
    with closing(RedisLog(server.url, name, 1, ManualClock(), timeout_s=1, replicas=1)) as log:
        with pytest.raises(Unavailable, match="0 replicas"):
            log.append(0, numbered(1))
        with redis_server(tmp_path) as copy, redis.Redis.from_url(copy.url) as client:
            client.replicaof("127.0.0.1", server.port)
            with closing(
                RedisLog(server.url, name, 1, ManualClock(), timeout_s=20, replicas=1)
            ) as patient:
                assert patient.append(0, numbered(2)) == 2
            assert client.xlen(f"{{{name}.0}}") == 2


def test_a_replica_cannot_be_appended_to(server: RedisServer, tmp_path: Path) -> None:
    """It says so, as a server that is not available for this."""
    with (
        redis_server(tmp_path) as copy,
        redis.Redis.from_url(copy.url) as client,
        closing(RedisLog(copy.url, "log", 1, ManualClock())) as log,
    ):
        client.replicaof("127.0.0.1", server.port)
        with pytest.raises(Unavailable):
            log.append(0, numbered(1))


def test_a_key_of_somebody_else_is_left_alone(
    server: RedisServer, client: redis.Redis, name: str
) -> None:
    """A log does not begin in what is not one."""
    client.rpush(name, "a list")
    with pytest.raises(Conflict, match="used by somebody else"):
        RedisLog(server.url, name, 1, ManualClock())
    assert client.lrange(name, 0, -1) == [b"a list"]
