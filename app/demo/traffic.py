"""Predictions asked for over HTTP: one by one, or steadily in the background; all are counted."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import numpy as np

from app.compose import Platform
from app.http import open_client
from app.moments import written

Body = Mapping[str, Any]
_IN_A_ROW = 10


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one request: ``problem`` is empty if it was answered; ``ms`` it took."""

    ms: float
    version: int = 0
    level: int = 0
    prediction: float | None = None
    problem: str = ""


Ask = Callable[[Body], Answer]


@dataclass(frozen=True, slots=True)
class Tally:
    """Answers counted; ``undegraded`` were answered at degradation level 0, times are ms."""

    requests: int
    failures: int
    undegraded: int
    p50_ms: float
    p95_ms: float
    versions: dict[str, int]
    problems: list[str]


def tally(answers: Sequence[Answer]) -> Tally:
    """Counts answers."""
    good = [answer for answer in answers if not answer.problem]
    p50, p95 = np.percentile([answer.ms for answer in good], [50, 95]) if good else (0.0, 0.0)
    problems = Counter(answer.problem for answer in answers if answer.problem)
    return Tally(
        requests=len(answers),
        failures=len(answers) - len(good),
        undegraded=sum(answer.level == 0 for answer in good),
        p50_ms=float(p50),
        p95_ms=float(p95),
        versions=dict(sorted(Counter(str(answer.version) for answer in good).items())),
        problems=[f"{problem} ({count} times)" for problem, count in problems.most_common(3)],
    )


@contextmanager
def asking(platform: Platform, model: str) -> Iterator[Ask]:
    """A function that asks the running service for a prediction, over one kept connection."""
    import httpx

    with open_client(platform) as client:

        def ask(body: Body) -> Answer:
            started = time.perf_counter()
            try:
                answer = client.post(f"/v1/models/{model}/predict", json=body)
            except httpx.HTTPError as error:
                return Answer(_ms(started), problem=f"{type(error).__name__}: {error}")
            return answer_of(answer.status_code, answer.content, _ms(started))

        yield ask


def answer_of(status: int, content: bytes, ms: float) -> Answer:
    """What a response says."""
    import orjson

    try:
        data = orjson.loads(content)
        if status == 200:
            level, version = data["degradation"]["level"], data["model"]["version"]
            return Answer(ms, int(version), int(level), data["predictions"][0])
        told = f"{status}: {data.get('detail') or data.get('title')}"
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError, IndexError):
        told = f"{status}: {content[:200]!r}"
    return Answer(ms, problem=told)


def at(body: Body, moment: int) -> Body:
    """The same question at another moment (UTC µs)."""
    return {**body, "at": written(moment)}


class Background:
    """Asks in a thread of its own, ``interval_s`` apart, from ``start`` until ``stop``."""

    def __init__(self, ask: Ask, bodies: Sequence[Body], interval_s: float = 0.05) -> None:
        self._ask = ask
        self._bodies = cycle(bodies)
        self._interval_s = interval_s
        self._answers: list[Answer] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tondo:traffic", daemon=True)

    def start(self) -> Background:
        """Begins to ask."""
        self._thread.start()
        return self

    def stop(self) -> Tally:
        """Ends after the request in flight and returns the count."""
        self._stop.set()
        self._thread.join()
        return tally(self._answers)

    def wait_for(self, version: int, seconds: float = 15.0) -> None:
        """Goes on until that version has answered ten times in a row, or for so many seconds."""
        limit = time.monotonic() + seconds
        while time.monotonic() < limit and not self._stop.wait(self._interval_s):
            last = self._answers[-_IN_A_ROW:]
            if len(last) == _IN_A_ROW and all(answer.version == version for answer in last):
                return

    def _run(self) -> None:
        while not self._stop.is_set():
            self._answers.append(self._ask(next(self._bodies)))
            self._stop.wait(self._interval_s)


def _ms(started: float) -> float:
    return (time.perf_counter() - started) * 1e3
