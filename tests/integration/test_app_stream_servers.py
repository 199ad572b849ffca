"""Files through a log that a server keeps: ``features ingest --stream`` by the settings."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from app.compose import Platform
from app.errors import Conflict, Unavailable
from app.settings import load_settings
from app.stream_jobs import ingest_stream
from features import Source
from tests.servers.kafka import kafka_server
from tests.servers.redis import redis_server

TAPS = Source("taps", table="lake.taps", stream="taps", event_time="at", available_at="known",
              event_id="id", partitions=2, bucket_by="card",
              schema={"id": str, "card": str, "at": "time", "known": "time"})  # fmt: skip


@pytest.fixture(
    scope="module",
    params=[
        pytest.param("kafka", marks=pytest.mark.kafka),
        pytest.param("redis", marks=pytest.mark.redis),
    ],
)
def kept_by(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, str]]:
    """A server of each kind, as the variables that name it."""
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "kafka":
        with kafka_server(folder) as kafka:
            yield {"TONDO_STREAM_LOG": "kafka", "TONDO_STREAM_KAFKA_SERVERS": kafka.servers,
                   "TONDO_STREAM_LOG_TIMEOUT_S": "60"}  # fmt: skip
    else:
        with redis_server(folder) as running, redis.Redis.from_url(running.url) as client:
            client.config_set("requirepass", "a secret")
            (folder / "password").write_text("a secret\n")
            yield {"TONDO_STREAM_LOG": "redis", "TONDO_STREAM_REDIS_URL": running.url,
                   "TONDO_STREAM_REDIS_PASSWORD_FILE": str(folder / "password")}  # fmt: skip


@pytest.fixture
def environment(kept_by: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """An installation's variables; its topics and keys are its own."""
    return kept_by | {"TONDO_HOME": str(tmp_path), "TONDO_STREAM_LOG_PREFIX": f"{tmp_path.name}."}


def write(path: Path, count: int) -> Path:
    """A CSV file of taps."""
    rows = [f"i{i},c{i % 4},2026-01-01T00:00Z,\n" for i in range(count)]
    path.write_text("id,card,at,known\n" + "".join(rows))
    return path


def test_files_go_through_the_log_of_the_settings(
    environment: dict[str, str], tmp_path: Path
) -> None:
    """Every row lands once, in this try and the next, and lies in the server, not in the home."""
    platform = Platform(load_settings(None, environment))
    done = ingest_stream(platform, TAPS, [write(tmp_path / "a.csv", 50)], False, lambda *_: None)
    assert (done["rows"], done["duplicates"]) == (50, 0)
    assert platform.lake().describe("lake.taps").rows == 50
    again = Platform(load_settings(None, environment))
    forced = ingest_stream(again, TAPS, [tmp_path / "a.csv"], True, lambda *_: None)
    assert (forced["rows"], forced["duplicates"]) == (0, 50)
    log = again.event_log("taps", 2)
    assert sum(log.end(partition) for partition in range(2)) == 100
    assert not list(platform.home.log.rglob("*.log"))


def test_another_number_of_partitions_is_refused(environment: dict[str, str]) -> None:
    """A source whose partitions were changed does not get the log that it had."""
    platform = Platform(load_settings(None, environment))
    platform.event_log("taps", 2)
    with pytest.raises(Conflict, match="2 partitions, not 3"):
        platform.event_log("taps", 3)


def test_a_server_that_lets_nobody_in_is_told(environment: dict[str, str], tmp_path: Path) -> None:
    """A wrong password, or no server there: it says which setting to look at."""
    if environment["TONDO_STREAM_LOG"] == "redis":
        wrong = tmp_path / "wrong"
        wrong.write_text("wrong")
        settings = environment | {"TONDO_STREAM_REDIS_PASSWORD_FILE": str(wrong)}
    else:
        settings = environment | {"TONDO_STREAM_KAFKA_SERVERS": "127.0.0.1:1"}
        settings |= {"TONDO_STREAM_LOG_TIMEOUT_S": "1"}
    with pytest.raises(Unavailable, match="taps") as told:
        Platform(load_settings(None, settings)).event_log("taps", 2)
    assert "stream." in told.value.hint
