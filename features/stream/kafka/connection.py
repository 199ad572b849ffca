"""How this process speaks to Kafka: what every client is told, deadlines, and failures in words."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from confluent_kafka import KafkaException

from features.errors import Unavailable

_log = logging.getLogger("tondo.kafka")


@dataclass(frozen=True, slots=True)
class Connection:
    """Where the brokers are, and how many seconds a call may take."""

    servers: str
    timeout_s: float

    def settings(self, **more: Any) -> dict[str, Any]:
        """What a client is made with."""
        return {
            "bootstrap.servers": self.servers,
            "reconnect.backoff.ms": 20,
            "reconnect.backoff.max.ms": 500,
            "topic.metadata.refresh.interval.ms": 30_000,
            # Else a producer whose topic was removed brings it back, empty.
            "allow.auto.create.topics": False,
            "logger": _log,
            **{name.replace("_", "."): value for name, value in more.items()},
        }

    def deadline(self) -> Deadline:
        """That of a call which begins now."""
        return Deadline(self.timeout_s)


class Deadline:
    """The time by which a call must have its answer."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    @property
    def left(self) -> float:
        """Seconds, never less than a millisecond: to Kafka 0 is no limit, or no try."""
        return max(self._end - time.monotonic(), 0.001)

    @property
    def is_over(self) -> bool:
        """True if there are none."""
        return time.monotonic() >= self._end


@contextmanager
def answering(what: str) -> Iterator[None]:
    """Says Unavailable when Kafka fails, and why."""
    try:
        yield
    except KafkaException as error:
        raise unavailable(what, error.args[0].str()) from error


def unavailable(what: str, why: object) -> Unavailable:
    """What is said when the brokers do not do what they were asked for."""
    return Unavailable(
        f"{what} does not answer: {why}",
        "see whether the brokers at stream.kafka_servers run and can be reached",
    )
