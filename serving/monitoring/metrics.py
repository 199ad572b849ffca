"""Metrics of the serving path: one append a request, aggregated and exported off the hot path."""

from __future__ import annotations

import logging
import threading
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from typing import Protocol, TypeVar

LATENCY_BUCKETS_MS = (
    *(0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75),
    *(1.0, 1.5, 2.0, 3.0, 5.0, 7.5, 10.0, 20.0, 50.0, 100.0, 500.0, 1000.0),
)
T = TypeVar("T")
_CAPACITY = 200_000
_log = logging.getLogger("tondo.serving")


class MetricsExporter(Protocol):
    """Where aggregated metrics go; labels are few and fixed, never a key or a model."""

    def count(self, name: str, amount: int, labels: Mapping[str, str]) -> None:
        """Adds to a counter."""
        ...

    def observe(self, name: str, values: Sequence[float], labels: Mapping[str, str]) -> None:
        """Adds values to a histogram."""
        ...


class BatchedMetrics:
    """Implements the predictor's and the HTTP shell's ``Metrics``; exports when flushed.

    ``tondo_requests_total{route,status}``, ``tondo_request_latency_ms{route}`` and
    ``tondo_feature_states_total{state}``.
    """

    def __init__(self, exporter: MetricsExporter) -> None:
        self._exporter = exporter
        # Bounded: if nobody flushes, the oldest samples go first.
        self._answers: deque[tuple[str, int, float]] = deque(maxlen=_CAPACITY)
        self._states: deque[list[str]] = deque(maxlen=_CAPACITY)

    def answered(self, route: str, status: int, latency_us: float) -> None:
        """One request was answered."""
        self._answers.append((route, status, latency_us))

    def states(self, states: list[str]) -> None:
        """One row of features was read in these states; the list is kept, not copied."""
        self._states.append(states)

    def flush(self) -> None:
        """Exports everything gathered since the last flush."""
        self._flush_answers(_drain(self._answers))
        counts: Counter[str] = Counter()
        for states in _drain(self._states):
            counts.update(states)
        for state, amount in counts.items():
            self._exporter.count("tondo_feature_states_total", amount, {"state": state})

    def start(self, interval_s: float = 1.0) -> threading.Event:
        """Flushes from a thread of its own until the returned event is set."""
        stop = threading.Event()
        threading.Thread(
            target=self._run, args=(stop, interval_s), name="tondo:metrics", daemon=True
        ).start()
        return stop

    def _run(self, stop: threading.Event, interval_s: float) -> None:
        while not stop.wait(interval_s):
            try:
                self.flush()
            except Exception as error:
                _log.error("metrics not exported", exc_info=error)

    def _flush_answers(self, answers: list[tuple[str, int, float]]) -> None:
        counts = Counter((route, status) for route, status, _ in answers)
        for (route, status), amount in counts.items():
            labels = {"route": route, "status": str(status)}
            self._exporter.count("tondo_requests_total", amount, labels)
        for route in {route for route, _ in counts}:
            latencies = [us / 1_000 for r, _, us in answers if r == route]
            self._exporter.observe("tondo_request_latency_ms", latencies, {"route": route})


def _drain(waiting: deque[T]) -> list[T]:
    return [waiting.popleft() for _ in range(len(waiting))]
