"""What comes to a platform from outside: steady requests, every answer kept, and events."""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
import orjson

from tests.installation import FAMILY, Installation, wait_until

Body = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one request; ``status`` is 0 if there was no answer at all."""

    request_id: str
    status: int
    version: int
    told: str = ""


class Traffic:
    """Asks from ``connections`` threads, each ``pause_s`` after its last answer, while entered."""

    def __init__(
        self,
        installation: Installation,
        bodies: Sequence[Body],
        connections: int = 4,
        pause_s: float = 0.02,
    ) -> None:
        self._installation = installation
        self._bodies = bodies
        self._pause_s = pause_s
        self._stop = threading.Event()
        self.answers: list[Answer] = []
        self._threads = [threading.Thread(target=self._run, args=(n,)) for n in range(connections)]

    def __enter__(self) -> Traffic:
        """Begins to ask."""
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Ends after the requests in flight."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def goes_on(self, more: int = 100, seconds: float = 30) -> None:
        """Waits for so many more answers."""
        enough = len(self.answers) + more
        wait_until(lambda: len(self.answers) >= enough, seconds, f"{more} more answers")

    def answered_by(self, version: int, in_a_row: int = 20, seconds: float = 60) -> None:
        """Waits until a version alone has answered for a while."""

        def alone() -> bool:
            last = self.answers[-in_a_row:]
            return len(last) == in_a_row and {answer.version for answer in last} == {version}

        wait_until(alone, seconds, f"{in_a_row} answers in a row by version {version}")

    @property
    def failures(self) -> dict[str, int]:
        """What the failed requests were told, counted."""
        return dict(Counter(f"{a.status} {a.told}" for a in self.answers if a.status != 200))

    @property
    def versions(self) -> set[int]:
        """The versions that answered."""
        return {answer.version for answer in self.answers if answer.status == 200}

    def _run(self, number: int) -> None:
        bodies = itertools.islice(itertools.cycle(self._bodies), number, None)
        with self._installation.client() as client:
            while not self._stop.is_set():
                self.answers.append(ask(client, next(bodies)))
                self._stop.wait(self._pause_s)


def ask(client: httpx.Client, body: Body) -> Answer:
    """One prediction, under a request id of its own."""
    request_id = uuid4().hex
    try:
        answer = client.post(
            f"/v1/models/{FAMILY}/predict", json=body, headers={"X-Request-Id": request_id}
        )
    except httpx.HTTPError as error:
        return Answer(request_id, 0, 0, f"{type(error).__name__}: {error}")
    if answer.status_code != 200:
        return Answer(request_id, answer.status_code, 0, answer.text[:300])
    data = answer.json()
    assert data["request_id"] == request_id
    assert 0.0 < data["predictions"][0] < 1.0
    return Answer(request_id, 200, data["model"]["version"])


def streamed(platform: Installation, *, carrier: str, first: int, count: int) -> None:
    """Landings of an airline that happened just now, through the event log by the command for it.

    Their ids are ``<carrier>-<number>``; returns when they are online and in the lake.
    """
    file = platform.folder / f"landings-{carrier}-{first}.ndjson"
    rows = [orjson.dumps(_landing(carrier, number)) for number in range(first, first + count)]
    file.write_bytes(b"\n".join(rows) + b"\n")
    done = platform.data("features", "ingest", "landings", str(file), "--stream")
    assert done["rows"] == count, done


def _landing(carrier: str, number: int) -> dict[str, Any]:
    landed = datetime.now(UTC) - timedelta(minutes=5)
    return {
        "flight_id": f"{carrier}-{number}",
        "carrier": carrier,
        "tailnum": f"N0{carrier}",
        "origin": "JFK",
        "dest": "LAX",
        "arr_delay": float(number % 60),
        "landed_at": landed.isoformat(),
        "reported_at": (landed + timedelta(minutes=1)).isoformat(),
    }
