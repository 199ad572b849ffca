"""The worker of one log partition: a named actor that carries its stream processor.

A thread reads on at intervals, flushes to the online store and lands in the lake; whoever cannot
wait asks for it. All state is in the processor's checkpoint: an actor that dies is started again
and goes on from there, and a call that it was answering is made once more.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import ray
from ray.util import metrics

from features.clock import Clock, SystemClock
from features.errors import Conflict, NotFound
from features.online.store import Version
from features.stream.landing import BLOCK
from features.stream.screen import OUTCOMES

NAMESPACE = "tondo"
_RETRIES = 5

_log = logging.getLogger("tondo.stream")


class Processor(Protocol):
    """One partition's stream processor, as this actor carries it."""

    def step(self) -> int:
        """Reads on and returns how many events there were."""
        ...

    def flush(self) -> None:
        """Makes what was read visible online."""
        ...

    def catch_up(self, offset: int, through: int) -> int:
        """Reads every event before an offset and flushes."""
        ...

    def land(self) -> int:
        """Brings what was read into the lake; the number of new rows."""
        ...

    def start_head(self, version: Version) -> None:
        """Fills a version's head."""
        ...

    def stats(self) -> dict[str, Any]:
        """Counts, and how far everything is."""
        ...

    def close(self) -> None:
        """Lets somebody else carry the partition."""
        ...


BuildProcessor = Callable[[], Processor]


class StreamWorker:
    """Carries one processor; calls and the thread take turns, so none sees half a step.

    A step that fails is told, counted and made again. The processor is built when it is first
    needed, and until that succeeds every call raises what building it raises.
    """

    def __init__(
        self,
        name: str,
        build: BuildProcessor,
        flush_s: float = 1.0,
        land_s: float = 60.0,
        clock: Clock | None = None,
    ) -> None:
        self._build = build
        self._flush_s, self._land_s = flush_s, land_s
        self._clock = clock or SystemClock()
        self._processor: Processor | None = None
        self._lock = threading.RLock()
        self._wake, self._stop = threading.Event(), threading.Event()
        self._failures, self._last_failure = 0, ""
        self._landed_at = time.monotonic()
        self._metrics = _Metrics()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def catch_up(self, offset: int, through: int) -> dict[str, Any]:
        """Returns once every event before an offset is online, through a time (UTC µs)."""
        with self._lock:
            processor = self._carried()
            processor.catch_up(offset, through)
            return self._told(processor)

    def land(self) -> dict[str, int]:
        """Brings everything that was appended before the call into the lake; new rows in it."""
        with self._lock:
            return {"rows": self._land()}

    def start_head(self, version: Mapping[str, Any]) -> dict[str, Any]:
        """Fills the head of a version, given as data; a view that is new here is looked up."""
        wanted = Version(**version)
        with self._lock:
            try:
                self._carried().start_head(wanted)
            except NotFound:
                self.reload()
                self._carried().start_head(wanted)
            return self._told(self._carried())

    def stats(self) -> dict[str, Any]:
        """What the processor says, and how the worker itself is doing."""
        with self._lock:
            told = {} if self._processor is None else self._processor.stats()
        return {
            **told,
            "pid": os.getpid(),
            "failures": self._failures,
            "last_failure": self._last_failure,
            "stepping": self._thread.is_alive(),
        }

    def reload(self) -> None:
        """Definitions have changed: goes on with those of now."""
        with self._lock:
            self._let_go()
            self._carried()

    def wake(self) -> None:
        """Asks for a step now."""
        self._wake.set()

    def stop(self) -> None:
        """Ends the thread after the step in progress and lets go of the partition."""
        self._stop.set()
        self._wake.set()
        self._thread.join(timeout=30)
        self._let_go()

    def _let_go(self) -> None:
        with self._lock:
            if self._processor is not None:
                self._processor.close()
            self._processor = None

    def _carried(self) -> Processor:
        if self._processor is None:
            self._processor = self._build()
            self._metrics.begin(self._processor.stats())
        return self._processor

    def _run(self) -> None:
        while not self._stop.is_set():
            self._wake.clear()
            self._tried(self._read_on)
            if time.monotonic() - self._landed_at >= self._land_s:
                self._tried(self._land_in_turn)
            self._wake.wait(self._flush_s)

    def _tried(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:
            if isinstance(error, Conflict):
                self._let_go()  # somebody else has moved the partition: begin from where it is now
            told = "".join(traceback.format_exception_only(error)).strip()
            if told != self._last_failure:
                _log.error("%s: step failed", self._thread.name, exc_info=error)
            self._failures, self._last_failure = self._failures + 1, told

    def _read_on(self) -> None:
        """Reads and flushes block by block, between which others have their turn."""
        is_behind = True
        while is_behind and not self._stop.is_set():
            with self._lock:
                processor = self._carried()
                is_behind = processor.step() > 0
                processor.flush()
                self._told(processor)

    def _land_in_turn(self) -> None:
        with self._lock:
            self._land()

    def _land(self) -> int:
        processor = self._carried()
        while processor.step() >= BLOCK:
            processor.flush()
        self._landed_at = time.monotonic()
        rows = processor.land()
        self._told(processor)
        return rows

    def _told(self, processor: Processor) -> dict[str, Any]:
        """What the processor says, which the metrics hear too."""
        stats = processor.stats()
        self._metrics.see(stats, self._clock.now())
        return stats


class _Metrics:
    """Counts by outcome since the worker started, and how old the last event was when it came."""

    def __init__(self) -> None:
        self._events = metrics.Counter(
            "tondo_stream_events_total",
            description="Events read from the log, by what became of them.",
            tag_keys=("outcome",),
        )
        self._lag = metrics.Gauge(
            "tondo_stream_lag_seconds",
            description="From an event's append to the flush that made it visible online.",
        )
        self._seen: dict[str, int] = dict.fromkeys(OUTCOMES, 0)

    def begin(self, stats: Mapping[str, Any]) -> None:
        """What was there before does not count."""
        self._seen = {outcome: stats[outcome] for outcome in OUTCOMES}

    def see(self, stats: Mapping[str, Any], now: int) -> None:
        """Adds what is new."""
        new = {outcome: stats[outcome] - self._seen[outcome] for outcome in OUTCOMES}
        for outcome, count in new.items():
            if count > 0:
                self._events.inc(count, {"outcome": outcome})
        if any(new.values()):
            self._lag.set(max(0.0, (now - stats["newest"]) / 1e6))
        self._seen = {outcome: stats[outcome] for outcome in OUTCOMES}


def start_stream_worker(name: str, build: BuildProcessor, *, flush_s: float, land_s: float) -> Any:
    """The running worker's handle, started if there is none; it is restarted for ever."""
    actor = ray.remote(StreamWorker)
    return actor.options(
        name=name,
        namespace=NAMESPACE,
        get_if_exists=True,
        lifetime="detached",
        max_restarts=-1,
        max_task_retries=_RETRIES,
        num_cpus=0,
        max_concurrency=8,
    ).remote(name, build, flush_s, land_s)
