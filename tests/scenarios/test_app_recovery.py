"""Processes killed without warning under load: each comes back by itself, nothing is lost."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest

from tests.installation import DEPLOYMENT, FAMILY, REPLICA, Installation, wait_until
from tests.traffic import Body, Traffic, streamed

WRITER, CONTROL, LANDINGS = "tondo:predictions", "tondo:control", "tondo:stream:landings:0"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def kill(pid: int) -> None:
    """Ends a process as a power cut would, and sees it gone."""
    process = psutil.Process(pid)
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not process.is_running() or is_zombie(process), 10, f"{pid} is dead")


def is_zombie(process: psutil.Process) -> bool:
    """Whether it only waits to be reaped."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def comes_back(platform: Installation, name: str, dead: int) -> int:
    """Waits for an actor's next process."""
    pids = wait_until(lambda: platform.pids(name) - {dead}, 60, f"{name} is back")
    return int(pids.pop())


def running(platform: Installation) -> dict[str, tuple[str, str]]:
    """What ``tondo status`` says: desired and running, by process."""
    rows = platform.data("status")
    return {row["process"]: (row["desired"], row["running"]) for row in rows}


def two_replicas(platform: Installation, without: int) -> set[int]:
    """Waits for two replicas, none of which is that process."""
    found: set[int] = wait_until(
        lambda: p if len(p := platform.pids(REPLICA) - {without}) == 2 else None, 90, "two replicas"
    )
    return found


def test_a_killed_replica_fails_no_request(
    platform: Installation, served: int, bodies: Sequence[Body]
) -> None:
    """Of two replicas each is killed in turn under load: no request fails, two are there again."""
    with Traffic(platform, bodies, connections=6, pause_s=0.01) as traffic:
        traffic.goes_on(200)
        for _ in range(2):
            dead = min(two_replicas(platform, without=0))
            kill(dead)
            traffic.goes_on(300)
            two_replicas(platform, without=dead)
            traffic.goes_on(300)
    assert traffic.failures == {}
    assert traffic.versions == {served}
    wait_until(
        lambda: running(platform)["predictor replicas"] == ("2", "2"), 60, "status says two of two"
    )


def test_a_killed_control_loop_comes_back_and_goes_on(
    platform: Installation, served: int, second: int, movable: None, bodies: Sequence[Body]
) -> None:
    """Predictions go on without it; it comes back; an alias moved afterwards takes effect."""
    with Traffic(platform, bodies) as traffic:
        dead = platform.pid(CONTROL)
        kill(dead)
        traffic.goes_on(200)
        comes_back(platform, CONTROL, dead)
        wait_until(lambda: running(platform)[CONTROL] == ("up", "up"), 60, "status says it is up")
        assert running(platform)[DEPLOYMENT] == (f"{FAMILY}@champion", f"version {served}")
        platform.tondo("models", "promote", f"{FAMILY}:{second}")
        traffic.answered_by(second)
    assert traffic.failures == {}
    assert traffic.versions == {served, second}


def logged(home: Path, wanted: set[str]) -> Counter[str]:
    """How often each of these requests is in the lake's prediction log."""
    from features.offline.iceberg import IcebergLake

    lake = IcebergLake(home / "lake")
    tables = [name for name in lake.tables() if name.startswith("lake.predictions_")]
    ids = [i for t in tables for i in lake.scan(t, columns=["request_id"])[0].to_pylist()]
    return Counter(i for i in ids if i in wanted)


def test_a_killed_prediction_writer_loses_nothing(
    platform: Installation, served: int, bodies: Sequence[Body]
) -> None:
    """Killed idle and in the middle of a commit: every answer is in the lake once, none twice.

    And what was served equals what offline makes of the same positions, value by value.
    """
    notes = platform.home / "run" / "predictions"
    with Traffic(platform, bodies) as traffic:
        traffic.goes_on(200)
        dead = platform.pid(WRITER)
        kill(dead)
        traffic.goes_on(100)
        for _ in range(2):
            dead = comes_back(platform, WRITER, dead)
            wait_until(lambda: list(notes.glob("*/batch.json")), 60, "a commit is in progress")
            kill(dead)
            traffic.goes_on(100)
    comes_back(platform, WRITER, dead)
    assert traffic.failures == {}
    checked = platform.data("features", "check", "arrival_delay")
    assert checked["mismatches"] == 0
    assert checked["rows"] >= len(traffic.answers)
    assert checked["values"] > 10 * checked["rows"]
    answered = {answer.request_id for answer in traffic.answers}
    assert logged(platform.home, answered) == Counter(answered)


def online(platform: Installation) -> int:
    """How many landings of the last three hours the online store has of that airline."""
    keys = {"carrier": "ZZ", "origin": "JFK", "dest": "LAX", "tailnum": "N0ZZ"}
    fields = {"distance": 2475, "scheduled_minutes": 330, "scheduled_hour": 9}
    given = [f"--key={name}={value}" for name, value in keys.items()]
    given += [f"--request={name}={value}" for name, value in fields.items()]
    told = platform.data(
        "features", "get", "arrival_delay", *given, "--request=scheduled_weekday=1"
    )
    return int(told["values"]["carrier_delay__flights_3h"])


def test_a_killed_stream_worker_counts_every_event_once(
    platform: Installation, served: int
) -> None:
    """Events from before its death and from meanwhile: all online, each once in the lake."""
    from features.offline.iceberg import IcebergLake

    total, dead = 0, platform.pid(LANDINGS)
    for _ in range(2):
        streamed(platform, carrier="ZZ", first=total, count=100)
        kill(dead)
        streamed(platform, carrier="ZZ", first=total + 100, count=50)
        total += 150
        dead = comes_back(platform, LANDINGS, dead)
    wait_until(lambda: online(platform) == total, 60, f"{total} events are online")
    platform.tondo("features", "check", "arrival_delay")
    ids = IcebergLake(platform.home / "lake").scan("lake.landings", columns=["flight_id"])[0]
    seen = Counter(i for i in ids.to_pylist() if i.startswith("ZZ-"))
    assert seen == Counter(f"ZZ-{number}" for number in range(total))
    assert running(platform)[LANDINGS] == ("up", "up")
