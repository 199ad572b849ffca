"""The worker of a log partition on Ray: it carries on whatever kills it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from app.compose import Platform
from app.control.catalog import Put
from app.control.resources import of_definition
from app.plane import stream_actor
from app.settings import load_settings
from app.streams import start_worker
from features import Entity, FeatureView, Source, col, count, last
from features.keys import key_bytes
from features.offline.lake import OFFSET
from features.offline.memory import MemoryLake
from features.online.materialize import view_id
from features.online.memory import MemoryStore
from features.online.store import OnlineStore, Version
from features.stream.checkpoint import Checkpoint
from features.stream.log import EventLog
from features.stream.processor import StreamProcessor

pytestmark = pytest.mark.usefixtures("ray_session")

SOURCE = Source("pings", table="lake.pings", stream="pings", event_time="at", partitions=1,
                available_at="known", event_id="id", bucket_by="k",
                schema={"id": str, "k": str, "x": float, "at": "time",
                        "known": "time"})  # fmt: skip
ENTITY = Entity("k", key="k")
VIEW = FeatureView("v", entity=ENTITY, source=SOURCE,
                   features={"n": count(), "n_w": count().over(60_000_000),
                             "x": last(col("x"), k=3)})  # fmt: skip
LATER = FeatureView("w", entity=ENTITY, source=SOURCE, features={"n": count(col("x"))})
KEYS = [f"k{i}" for i in range(7)]


def apply(platform: Platform, *definitions: Any) -> None:
    """Writes definitions into the catalog."""
    with platform.catalog_writer("a test") as catalog:
        catalog.write([Put(of_definition(one), 0) for one in definitions])


@pytest.fixture
def platform(tmp_path: Path) -> Platform:
    """An installation with a stream, whose workers flush and land all the time."""
    settings = load_settings()
    stream = settings.stream.model_copy(update={"flush_s": 0.05, "land_s": 0.1})
    found = Platform(settings.model_copy(update={"home": tmp_path / "h", "stream": stream}))
    apply(found, ENTITY, SOURCE, VIEW)
    return found


@pytest.fixture
def worker(platform: Platform) -> Iterator[Any]:
    """Its worker; gone afterwards."""
    import ray

    actor = start_worker(platform, "pings", 0)
    yield actor
    ray.kill(actor, no_restart=True)


def rows(start: int, count: int) -> list[dict[str, Any]]:
    """Events, every fifth twice and every eleventh without a time."""
    return [
        {"id": f"i{i - (i % 5 == 4)}", "k": KEYS[i % 7], "x": i / 2,
         "at": None if i % 11 == 3 else 1_000_000 * i}
        for i in range(start, start + count)
    ]  # fmt: skip


def answered(call: Any) -> Any:
    """What an actor says, in a minute."""
    import ray

    return ray.get(call, timeout=60)


def heads(store: OnlineStore) -> Any:
    """Cells and position of every entity, but how far the last call said that they are."""
    wanted = [(view_id(VIEW), key_bytes([key]) or b"") for key in KEYS]
    found = store.read(wanted, 1 << 60)
    return [(f.version, f.heads, [(p.offset, p.newest) for p in f.positions]) for f in found]


def publish(store: OnlineStore, version: Version) -> None:
    """A version with an empty tail becomes current."""
    store.write_tail(version, [])
    store.publish(version)


def alone(platform: Platform, log: EventLog, version: Version, folder: Path) -> Any:
    """What a processor makes of the log that nobody ever kills."""
    store = MemoryStore()
    publish(store, version)
    with Checkpoint(folder) as checkpoint:
        processor = StreamProcessor(SOURCE, [VIEW], 0, log=log, checkpoint=checkpoint,
                                    store=store, lake=MemoryLake())  # fmt: skip
        processor.catch_up(log.end(0), 0)
        return heads(store), processor.stats()["accepted"]


def test_a_killed_worker_comes_back_and_loses_nothing(
    platform: Platform, worker: Any, tmp_path: Path
) -> None:
    """Kill -9 while events come in: it ends as if it had never died, each event landed once."""
    version = Version(view_id(VIEW), 1, 0, 1, 0)
    publish(platform.online(), version)
    log = platform.event_log("pings", 1)
    pids = set()
    for turn in range(4):
        pid = answered(worker.stats.remote())["pid"]
        pids.add(pid)
        asked = []
        for part in range(6):
            end = log.append(0, rows((turn * 6 + part) * 50, 50))
            asked.append(worker.catch_up.remote(end, 0))
        os.kill(pid, signal.SIGKILL)
        assert [answered(call)["offset"] >= 50 for call in asked] == [True] * 6
    assert len(pids) == 4
    assert answered(worker.catch_up.remote(log.end(0), 7))["offset"] == 1_200
    answered(worker.land.remote())
    stats = answered(worker.stats.remote())
    expected, accepted = alone(platform, log, version, tmp_path / "alone")
    assert heads(platform.online()) == expected
    assert (stats["read"], stats["accepted"], stats["landed"]) == (1_200, accepted, 1_200)
    assert stats["read"] == accepted + stats["malformed"] + stats["duplicates"]
    landed = platform.lake().scan("lake.pings").column(OFFSET).to_pylist()
    letters = platform.lake().scan("lake.pings_dead_letters").column(OFFSET).to_pylist()
    assert len(landed) == len(set(landed)) == accepted
    assert len(letters) == len(set(letters)) == stats["malformed"] > 0
    assert answered(worker.land.remote()) == {"rows": 0}


def test_a_view_that_was_applied_later_gets_its_head(platform: Platform, worker: Any) -> None:
    """The worker looks it up when its head is asked for, and has all events since the cut."""
    log = platform.event_log("pings", 1)
    end = log.append(0, rows(0, 30))
    answered(worker.catch_up.remote(end, 0))
    apply(platform, LATER)
    version = Version(view_id(LATER), 1, 0, 1, 0)
    platform.online().write_tail(version, [])
    told = answered(worker.start_head.remote(asdict(version)))
    platform.online().publish(version)
    assert [g["version"]["view"] for g in told["generations"]] == [view_id(LATER)]
    (found,) = platform.online().read([(view_id(LATER), key_bytes([KEYS[0]]) or b"")], 1 << 60)
    assert found.positions[0].offset == 30
    assert found.heads[0] is not None


def test_a_worker_waits_for_what_it_needs(tmp_path: Path) -> None:
    """Without its source it says why, does not die, and begins once the source is applied."""
    import ray

    settings = load_settings()
    stream = settings.stream.model_copy(update={"flush_s": 0.05})
    platform = Platform(settings.model_copy(update={"home": tmp_path / "h", "stream": stream}))
    apply(platform, ENTITY)
    actor = start_worker(platform, "pings", 0)
    try:
        with pytest.raises(ray.exceptions.RayTaskError, match="no source has the stream"):
            answered(actor.catch_up.remote(0, 0))
        told = answered(actor.stats.remote())
        assert told["stepping"]
        apply(platform, SOURCE)
        assert answered(actor.catch_up.remote(0, 0))["offset"] == 0
        assert answered(actor.stats.remote())["pid"] == told["pid"]
        same = ray.get_actor(stream_actor("pings", 0), namespace="tondo")
        assert answered(same.stats.remote())["pid"] == told["pid"]
    finally:
        ray.kill(actor, no_restart=True)
