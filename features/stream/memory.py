"""An event log in this process's memory, for tests and for trying things out."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from features.clock import Clock
from features.stream.log import NO_ROW, Event
from features.stream.partitions import check_count, check_partition, removed
from features.stream.rows import Packed, pack_rows, unpack_row


class MemoryLog:
    """Implements EventLog; keeps rows as bytes, so nobody can change what was appended."""

    def __init__(self, partitions: int, clock: Clock) -> None:
        check_count(partitions)
        self._events: list[list[tuple[int, Packed | None]]] = [[] for _ in range(partitions)]
        self._clock = clock
        self._lock = threading.Lock()

    @property
    def partitions(self) -> int:
        """How many partitions there are."""
        return len(self._events)

    def append(self, partition: int, rows: Sequence[Mapping[str, Any]]) -> int:
        """Adds rows in their order and returns the offset after the last one."""
        packed = pack_rows(rows)
        with self._lock:
            events = self._partition(partition)
            now = max([self._clock.now(), *(at for at, _ in events[-1:])])
            events += [(now, row) for row in packed]
            return len(events)

    def read(self, partition: int, offset: int, limit: int) -> list[Event]:
        """Up to ``limit`` events from an offset on; none at the end of the log."""
        if offset < 0:
            raise removed(offset, 0)
        found = self._partition(partition)[offset : offset + max(limit, 0)]
        return [
            Event(offset + number, appended_at, unpack_row(*packed) if packed else NO_ROW)
            for number, (appended_at, packed) in enumerate(found)
        ]

    def erase(self, offsets: Mapping[int, Collection[int]]) -> int:
        """Removes what these events say for good and returns how many there were still."""
        with self._lock:
            return sum(
                _erase(self._partition(partition), set(some)) for partition, some in offsets.items()
            )

    def remains(self) -> tuple[str, ...]:
        """Nothing."""
        return ()

    def end(self, partition: int) -> int:
        """The offset that the next event will have."""
        return len(self._partition(partition))

    def offset_at(self, partition: int, appended_at: int) -> int:
        """The first offset whose event was appended at that time (UTC µs) or later, or the end."""
        return bisect_left(self._partition(partition), appended_at, key=lambda event: event[0])

    def _partition(self, number: int) -> list[tuple[int, Packed | None]]:
        check_partition(number, len(self._events))
        return self._events[number]


def _erase(events: list[tuple[int, Packed | None]], offsets: set[int]) -> int:
    there = [o for o in offsets if 0 <= o < len(events) and events[o][1] is not None]
    for offset in there:
        events[offset] = (events[offset][0], None)
    return len(there)
