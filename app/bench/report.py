"""What every benchmark gives back: the same keys, what it was measured on, ratios to a baseline."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import psutil

Json = dict[str, Any]
Result = TypeVar("Result")
_LOOK_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class Measured:
    """Wall-clock seconds of a piece of work, and the most memory this process had meanwhile."""

    seconds: float
    peak_memory_bytes: int


def report(
    name: str,
    *,
    seed: int,
    baseline: str,
    values: Mapping[str, Any],
    ratios: Mapping[str, float],
    packages: tuple[str, ...] = (),
) -> Json:
    """A benchmark's JSON; a ratio is ours ÷ baseline, measured in the same run."""
    return {
        "name": name,
        "seed": seed,
        "baseline": baseline,
        "environment": environment(packages),
        "values": dict(values),
        "ratios": {key: round(ratio, 4) for key, ratio in ratios.items()},
    }


def environment(packages: tuple[str, ...] = ()) -> Json:
    """What a number was measured on: without it, only ratios say anything."""
    return {
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "load_average": os.getloadavg()[0],
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in packages},
    }


def measured(work: Callable[[], Result]) -> tuple[Result, Measured]:
    """Does the work once; its result, and what it took."""
    process, stop = psutil.Process(), threading.Event()
    peak = process.memory_info().rss

    def look() -> None:
        nonlocal peak
        while not stop.wait(_LOOK_SECONDS):
            peak = max(peak, process.memory_info().rss)

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    started = time.perf_counter()
    try:
        result = work()
        seconds = time.perf_counter() - started
    finally:
        stop.set()
        watcher.join()
    return result, Measured(seconds, max(peak, process.memory_info().rss))
