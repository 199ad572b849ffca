"""The online store in a real Redis: the promises of every store, and what crashes may not do."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from unittest.mock import patch

import pytest
import redis
from hypothesis import given

from features.errors import BadInput, DamagedData, Unavailable
from features.online.memory import MemoryStore
from features.online.redis import RedisOptions, RedisStore, connect
from features.online.store import Found, Head, OnlineStore, Version
from tests.online_commands import bring_and_get, installation, online_finding, states
from tests.online_promises import FIRST, SECOND, THIRD, VIEW, OnlineStorePromises, one, published
from tests.online_scripts import VIEWS, Script, run_beside, scripts
from tests.servers.redis import RedisServer, redis_server

pytestmark = pytest.mark.redis

_prefixes = (f"test{number}" for number in count())


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One Redis for the module; who breaks it has one of their own."""
    with redis_server(tmp_path_factory.mktemp("redis")) as started:
        yield started


@pytest.fixture
def own(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis for one test, to be killed and frozen."""
    with redis_server(tmp_path) as started:
        yield started


def opened(server: RedisServer, prefix: str = "one", deadline_s: float = 10.0) -> RedisStore:
    """A store with connections of its own."""
    return RedisStore(connect(RedisOptions(server.url, deadline_s)), prefix=prefix)


def raw(server: RedisServer) -> redis.Redis:
    """A client that looks behind the store's back."""
    return redis.Redis(port=server.port)


@pytest.fixture
def store(server: RedisServer) -> OnlineStore:
    """An empty store."""
    return opened(server, next(_prefixes))


class TestRedis(OnlineStorePromises):
    """The promises of every store."""


@given(script=scripts)
def test_two_stores_one_behaviour(server: RedisServer, script: Script) -> None:
    """Same answers and errors as in memory; a second store of the same Redis answers the same."""
    prefix, model = next(_prefixes), MemoryStore()
    run_beside(script, model, opened(server, prefix), opened(server, prefix))
    again = opened(server, prefix)
    assert [again.versions(view) for view in VIEWS] == [model.versions(view) for view in VIEWS]


def test_nothing_stays_of_what_was_dropped(own: RedisServer) -> None:
    """After versions are replaced, retried and dropped, Redis holds the current pieces alone."""
    store = opened(own)
    for number in range(1, 6):
        version = Version(VIEW, number, number, 2)
        store.write_tail(Version(VIEW, number, 77, 2), [(b"a", b"a failed try")])
        store.write_tail(version, [(b"b", b"replaced")])
        published(store, version)
        store.write_head(version, 1, [(b"a", b"head")], Head(1, 1, 1))
        for old in store.versions(VIEW)[1:]:
            store.drop(old)
    kinds = sorted(key.split(b":")[1] for key in raw(own).keys("*"))
    assert kinds == [b"head", b"tail", b"versions"]
    assert one(store).heads == (None, b"head")


SECRET = b"secret-" + secrets.token_hex(16).encode()


def on_disk(folder: Path) -> list[str]:
    """The files of a Redis that have the secret; the log of the server is one of them."""
    return [path.name for path in sorted(folder.rglob("*"))
            if path.is_file() and SECRET in path.read_bytes()]  # fmt: skip


def wait_for(is_done: Callable[[], bool]) -> None:
    """Returns once it is."""
    deadline = time.monotonic() + 60
    while not is_done():
        assert time.monotonic() < deadline
        threading.Event().wait(0.02)


def filled_with_secret(store: OnlineStore) -> None:
    """The secret as a key and as a cell, in tails and a head, beside an unfinished tail."""
    published(store, FIRST)
    store.write_tail(SECOND, [(SECRET, b"x"), (b"b", SECRET), (SECRET + b"2", b"y" * 500)])
    store.publish(SECOND)
    store.write_head(SECOND, 0, [(SECRET, b"head"), (b"c", b"head")], Head(1, 1, 1))


def test_what_is_erased_leaves_the_disk(own: RedisServer, tmp_path: Path) -> None:
    """Also what a writer that died had left; snapshots are written anew where there are any."""
    raw(own).config_set("save", "3600 1")
    raw(own).bgsave()
    store = opened(own)
    filled_with_secret(store)

    def dies() -> Iterator[tuple[bytes, bytes]]:
        yield from [(SECRET, b"cell")] * 5_000
        raise KeyboardInterrupt

    with patch.object(RedisStore, "_discard"), pytest.raises(KeyboardInterrupt):
        store.write_tail(THIRD, dies())  # and cannot even tidy up
    assert on_disk(tmp_path)
    assert store.erase(VIEW, [SECRET, SECRET + b"2", b"b"]) == 4
    wait_for(lambda: not on_disk(tmp_path))
    assert one(store, b"c").heads == (b"head", None)
    own.process.kill()
    own.start()
    again = opened(own)
    assert one(again, SECRET) == Found(SECOND, None, (None, None), one(again, b"c").positions)
    assert {key.split(b":")[1] for key in raw(own).keys("*")} == {b"head", b"tail", b"versions"}


def test_an_erasure_that_was_cut_off_is_finished(own: RedisServer, tmp_path: Path) -> None:
    """Cells gone, files not yet written anew: the same call again sees to that."""
    store = opened(own)
    filled_with_secret(store)
    with (
        patch("features.online.redis.erasure.rewrite_files", side_effect=KeyboardInterrupt),
        pytest.raises(KeyboardInterrupt),
    ):
        store.erase(VIEW, [SECRET, SECRET + b"2", b"b"])
    own.process.kill()
    own.start()
    assert on_disk(tmp_path)
    assert opened(own).erase(VIEW, [SECRET]) == 0
    wait_for(lambda: not on_disk(tmp_path))


def test_a_server_that_may_not_forget_is_told(own: RedisServer) -> None:
    """Where files cannot be written anew the erasure fails, and says why."""
    store = opened(own)
    published(store, FIRST)
    raw(own).acl_setuser("default", enabled=True, commands=["-bgrewriteaof"])
    with pytest.raises(Unavailable, match="bgrewriteaof"):
        store.erase(VIEW, [b"a"])
    raw(own).acl_setuser("default", enabled=True, commands=["+bgrewriteaof"])
    assert store.erase(VIEW, [b"a"]) == 0


def test_an_unfinished_tail_goes_away_by_itself(own: RedisServer) -> None:
    """What a dead writer began expires; what is published never does."""
    store, client, seen = opened(own), raw(own), []

    def cells() -> Iterator[tuple[bytes, bytes]]:
        for number in range(5_000):
            yield b"%d" % number, b"cell"
        seen.extend((key, client.ttl(key)) for key in client.keys("*"))

    store.write_tail(FIRST, cells())
    assert [ttl > 0 for _, ttl in seen] == [True]
    store.publish(FIRST)
    assert {client.ttl(key) for key in client.keys("*")} == {-1}


def test_everything_acknowledged_survives_kill_9(own: RedisServer) -> None:
    """Killed in the middle of writes and started again, Redis has every acknowledged one."""
    store, acknowledged = opened(own), [0]
    published(store, FIRST)

    def write() -> None:
        for number in count(1):
            cells = [(b"%d" % i, b"%d" % number) for i in range(50)]
            try:
                store.write_head(FIRST, 0, cells, Head(number, number, number))
            except Unavailable:
                return
            acknowledged[0] = number

    writer = threading.Thread(target=write)
    writer.start()
    while acknowledged[0] < 200:
        writer.join(0.01)
        assert writer.is_alive()
    own.process.kill()
    writer.join(60)
    with pytest.raises(Unavailable, match="cannot be reached"):
        one(store)
    own.start()
    found = [one(store, b"%d" % i) for i in range(50)]
    offsets = {each.positions[0].offset for each in found}
    assert len(offsets) == 1
    assert offsets <= {acknowledged[0], acknowledged[0] + 1}
    assert {each.heads[0] for each in found} == {b"%d" % offsets.pop()}


def test_a_silent_redis_is_unavailable_within_the_deadline(own: RedisServer) -> None:
    """Frozen, it is never taken for an empty store; thawed, it answers the same client again."""
    store = opened(own, deadline_s=0.5)
    published(store, FIRST)
    own.process.freeze()
    try:
        for ask in (
            lambda: one(store),
            lambda: store.versions(VIEW),
            lambda: store.publish(FIRST),
            lambda: store.drop(SECOND),
            lambda: store.write_tail(SECOND, [(b"a", b"")]),
            lambda: store.write_head(FIRST, 0, [], Head(1, 1, 1)),
        ):
            began = time.monotonic()
            with pytest.raises(Unavailable) as caught:
                ask()
            assert time.monotonic() - began < 3
            assert "reachable" in caught.value.hint
    finally:
        own.process.thaw()
    assert one(store).tail == b"tail 1"


def test_a_lost_version_is_damage_and_not_absence(own: RedisServer) -> None:
    """A piece that Redis evicted, a cell that changed, a lost head: damage, for that view alone."""
    store, client = opened(own), raw(own)
    other = Version("other@1", 1, 0)
    published(store, FIRST, other)
    store.write_head(FIRST, 0, [(b"a", b"head")], Head(1, 1, 1))
    tails = {key: client.hgetall(key) for key in client.keys("*:tail:*")}
    mine = client.keys("*:head:*")[0]
    client.delete(mine)
    with pytest.raises(DamagedData):
        one(store)
    for key, fields in tails.items():
        client.hset(key, b"ca", fields[b"ca"][:-1] + b"\0")
    with pytest.raises(DamagedData):
        one(store, view="other@1")
    client.delete(*tails)
    with pytest.raises(DamagedData):
        store.publish(FIRST)
    with pytest.raises(DamagedData):
        one(store, b"never seen", view="other@1")
    client.flushall()
    assert one(store) == Found()


def test_a_redis_that_went_back_is_noticed(own: RedisServer) -> None:
    """A head that is older than what this writer wrote is not written on as if nothing was lost."""
    store, client = opened(own), raw(own)
    published(store, FIRST)
    store.write_head(FIRST, 0, [(b"a", b"one")], Head(1, 1, 1))
    (head,) = client.keys("*:head:*")
    before = client.hgetall(head)
    store.write_head(FIRST, 0, [(b"b", b"two")], Head(2, 2, 2))
    client.delete(head)
    client.hset(head, mapping=before)
    with pytest.raises(DamagedData, match="head"):
        store.write_head(FIRST, 0, [(b"a", b"three")], Head(3, 3, 3))


def test_a_full_redis_says_so(own: RedisServer) -> None:
    """Without memory a write is Unavailable with the way out; reads go on; nothing is half."""
    store, client = opened(own), raw(own)
    published(store, FIRST)
    client.config_set("maxmemory", str(client.info("memory")["used_memory"] + (4 << 20)))
    with pytest.raises(Unavailable, match="cannot be reached") as caught:
        store.write_tail(SECOND, ((b"%d" % i, bytes(50_000)) for i in range(1_000)))
    assert "maxmemory" in caught.value.hint
    assert one(store).tail == b"tail 1"
    client.config_set("maxmemory", "0")
    published(store, SECOND)
    assert one(store).tail == b"tail 2"


def test_two_owners_cannot_roll_a_head_back(store: OnlineStore, server: RedisServer) -> None:
    """Two writers of one head in any order: what was read last has the greatest offset so far."""
    published(store, FIRST)

    def write(own: RedisStore, offsets: range) -> None:
        for offset in offsets:
            own.write_head(FIRST, 0, [(b"a", b"%d" % offset)], Head(offset, offset, offset))

    prefix = store._prefix.decode()  # type: ignore[attr-defined]
    owners = [opened(server, prefix) for _ in range(3)]
    seen = 0
    with ThreadPoolExecutor(3) as pool:
        jobs = [pool.submit(write, own, range(1, 300, 1 + i)) for i, own in enumerate(owners)]
        while not all(job.done() for job in jobs):
            found = one(store)
            offset = found.positions[0].offset
            assert offset >= seen
            assert found.heads[0] == (b"%d" % offset if offset else None)
            seen = offset
        for job in jobs:
            job.result()
    assert one(store).positions[0].offset == 299


def test_a_wrong_password_and_a_wrong_url_are_told(own: RedisServer, tmp_path: Path) -> None:
    """The error says what to give; a password comes from its file."""
    with pytest.raises(BadInput, match="URL"):
        connect(RedisOptions("http://127.0.0.1"))
    with pytest.raises(BadInput, match="password"):
        connect(RedisOptions(own.url, password_file=str(tmp_path / "none")))
    raw(own).config_set("requirepass", "swordfish")
    with pytest.raises(Unavailable) as caught:
        opened(own).versions(VIEW)
    assert "password" in caught.value.hint
    secret = tmp_path / "secret"
    secret.write_text("swordfish\n")
    store = RedisStore(connect(RedisOptions(own.url, password_file=str(secret))))
    assert store.versions(VIEW) == ()


def test_nobody_there_is_unavailable(own: RedisServer) -> None:
    """A port that nobody listens on is told at once."""
    store = opened(own)
    own.process.kill()
    with pytest.raises(Unavailable, match="cannot be reached"):
        store.read([(VIEW, b"a")], 0)


def test_the_commands_use_it_by_settings(own: RedisServer, tmp_path: Path) -> None:
    """Materialize, get and doctor work on it; without it values are errors, never "no events"."""
    platform = installation(tmp_path / "home", store="redis", redis_url=own.url)
    bring_and_get(platform)
    assert online_finding(platform) == ("ok", "writes to redis")
    own.process.kill()
    assert states(platform) == {"error"}
    assert online_finding(platform)[0] == "broken"
    own.start()
    assert "value" in states(platform)
