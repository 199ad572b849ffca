"""``tondo features erase`` where servers keep the log and the online store."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from app.compose import open_platform
from app.control.catalog import Put
from app.control.resources import of_definition
from app.errors import Unavailable
from tests.erasure_world import DEFINITIONS, KEY, fill, held, joined, values_of
from tests.servers.kafka import kafka_server
from tests.servers.redis import RedisServer, redis_server

Tondo = Callable[..., Any]


@pytest.fixture
def online(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis that keeps the online store, and in one case the log."""
    folder = tmp_path / "servers" / "redis"
    folder.mkdir(parents=True)
    with redis_server(folder) as running:
        yield running


@pytest.fixture(
    params=[
        pytest.param("redis", marks=pytest.mark.redis),
        pytest.param("kafka", marks=[pytest.mark.kafka, pytest.mark.redis]),
    ]
)
def variables(
    request: pytest.FixtureRequest, online: RedisServer, tmp_path: Path
) -> Iterator[dict[str, str]]:
    """The settings, as variables; the folders of the servers are below ``servers``."""
    common = {"TONDO_ONLINE_STORE": "redis", "TONDO_ONLINE_REDIS_URL": online.url,
              "TONDO_STREAM_LOG": request.param, "TONDO_STREAM_LOG_TIMEOUT_S": "60"}  # fmt: skip
    if request.param == "redis":
        yield common | {"TONDO_STREAM_REDIS_URL": online.url}
        return
    folder = tmp_path / "servers" / "kafka"
    folder.mkdir()
    with kafka_server(folder) as kafka:
        yield common | {"TONDO_STREAM_KAFKA_SERVERS": kafka.servers}


def test_a_key_is_on_no_server_afterwards(
    variables: dict[str, str],
    tondo_home: Path,
    tondo: Tondo,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Neither in the home nor in what the servers have on their disks; others notice nothing."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    made = open_platform(None)
    with made.catalog_writer("a test") as catalog:
        catalog.write([Put(of_definition(one), 0) for one in DEFINITIONS])
    fill(made, tondo, tmp_path)
    servers = tmp_path / "servers"
    assert not made.home.online.exists()
    assert held(servers, KEY)
    before = values_of(made, "c0", "c1", "c3"), joined(made, tmp_path / "before.parquet")
    command = ("features", "erase", "card", "--key", f"card={KEY}", "--yes")
    ran = tondo(*command, "-o", "json")
    assert ran.code == 0, ran.err + ran.out
    proof = ran.data
    assert (proof["complete"], proof["lookedAgain"]["rows"]) == (True, 0)
    removed = {place["kind"] for place in proof["places"] if place["rows"]}
    assert {"online", "event log", "lake table"} <= removed
    assert proof["remains"]
    assert held(made.home.root, KEY) == []
    deadline = time.monotonic() + 120
    while held(servers, KEY):  # Kafka removes files after it has said so
        assert time.monotonic() < deadline
        threading.Event().wait(0.2)
    after = values_of(made, "c0", "c1", "c3"), joined(made, tmp_path / "after.parquet")
    assert after == before
    assert tondo(*command, "-o", "json").data["nothingToDo"]
    assert "remains: " in tondo("features", "erase", "card", "--key", "card=c3", "--yes").out


@pytest.mark.redis
def test_a_server_that_is_down_stops_an_erasure(
    online: RedisServer, tondo_home: Path, tondo: Tondo, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """It ends with 1 and a hint, nothing is called done; once the server is back it is finished."""
    monkeypatch.setenv("TONDO_ONLINE_STORE", "redis")
    monkeypatch.setenv("TONDO_ONLINE_REDIS_URL", online.url)
    made = open_platform(None)
    with made.catalog_writer("a test") as catalog:
        catalog.write([Put(of_definition(one), 0) for one in DEFINITIONS])
    fill(made, tondo, tmp_path)
    online.process.kill()
    command = ("features", "erase", "card", "--key", f"card={KEY}", "--yes", "-o", "json")
    ran = tondo(*command)
    assert ran.code == 1
    assert "Hint" in ran.err
    with pytest.raises(Unavailable):
        made.online().views()
    online.start()
    with redis.Redis.from_url(online.url) as client:
        assert client.ping()
    proof = tondo(*command).data
    assert (proof["complete"], held(made.home.root, KEY)) == (True, [])
