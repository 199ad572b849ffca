"""How many events a second each kind of log takes and gives: ``python -m tests.servers.log_rates``.

One partition, one process, rows of about 120 bytes; each line says how many rows an append had.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from features.clock import SystemClock
from features.stream.embedded import EmbeddedLog
from features.stream.kafka import KafkaLog
from features.stream.log import EventLog
from features.stream.memory import MemoryLog
from features.stream.redis import RedisLog
from tests.servers.kafka import kafka_server
from tests.servers.redis import redis_server

_SIZES = {1: 300, 100: 30_000, 10_000: 200_000}
"""Rows of one append, and how many rows in all."""
_BLOCK = 10_000
_ROUNDS = 3


@contextmanager
def logs() -> Iterator[dict[str, Callable[[str], EventLog]]]:
    """Opens logs of each kind by a name."""
    clock = SystemClock()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as running:
        root = Path(folder)
        for name in ("redis", "kafka", "embedded"):
            (root / name).mkdir()
        redis = running.enter_context(redis_server(root / "redis"))
        kafka = running.enter_context(kafka_server(root / "kafka"))
        yield {
            "memory": lambda name: MemoryLog(1, clock),
            "embedded": lambda name: EmbeddedLog(root / "embedded" / name, 1, clock),
            "redis": lambda name: RedisLog(redis.url, name, 1, clock),
            "kafka": lambda name: KafkaLog(kafka.servers, name, 1, clock, timeout_s=60),
        }


def rows(start: int, count: int) -> list[dict[str, Any]]:
    """Payments."""
    return [
        {"id": f"payment-{n:012d}", "card": f"card-{n % 5_000}", "amount": n / 7, "country": "NL",
         "at": 1_700_000_000_000_000 + n, "known": None}
        for n in range(start, start + count)
    ]  # fmt: skip


def measured(log: EventLog, size: int, count: int) -> tuple[float, float, float]:
    """Appended and read events/s, and the median append in ms."""
    batches = [rows(start, size) for start in range(0, count, size)]
    log.append(0, rows(0, 1))
    took = []
    for batch in batches:
        began = time.perf_counter()
        log.append(0, batch)
        took.append(time.perf_counter() - began)
    began, offset = time.perf_counter(), 0
    while events := log.read(0, offset, _BLOCK):
        offset = events[-1].offset + 1
    reading = time.perf_counter() - began
    assert offset == count + 1
    return count / sum(took), offset / reading, 1_000 * statistics.median(took)


def main() -> None:
    """Prints a line for each kind and size, the median of a few rounds."""
    print(f"{'log':<10}{'rows/append':>12}{'append/s':>12}{'read/s':>12}{'append p50 ms':>15}")
    with logs() as kinds:
        for size, count in _SIZES.items():
            for kind, opened in kinds.items():
                found = [measured(opened(f"{kind}{size}.{n}"), size, count) for n in range(_ROUNDS)]
                a, r, ms = (statistics.median(column) for column in zip(*found, strict=True))
                print(f"{kind:<10}{size:>12}{a:>12,.0f}{r:>12,.0f}{ms:>15.2f}")
                sys.stdout.flush()


if __name__ == "__main__":
    main()
