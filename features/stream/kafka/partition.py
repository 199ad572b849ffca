"""One partition of a topic as the log has it: offsets without gaps over positions that have some.

Kafka counts the marks of transactions too, so an event's position is not its offset. Its frame says
its offset, and both grow together: a position is found by halving.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import NamedTuple

from features.errors import DamagedData, NotFound
from features.stream.frames import event_of
from features.stream.kafka.connection import Connection, Deadline, unavailable
from features.stream.kafka.reader import Extent, PartitionReader, Record
from features.stream.log import Event
from features.stream.partitions import removed

NEVER = -(1 << 63)
"""An ``appended_at`` before all others."""


class End(NamedTuple):
    """The next offset, when the event before it came, and the position behind that."""

    offset: int
    before: int
    high: int


class Partition:
    """Reads one partition; threads take turns. Every method raises Unavailable at the deadline."""

    def __init__(self, connection: Connection, topic: str, partition: int, row_bytes: int) -> None:
        self._connection = connection
        self._reader = PartitionReader(connection, topic, partition, row_bytes)
        self._lock = threading.Lock()
        self._end = End(0, NEVER, 0)
        self._next = (0, 0)
        self._first: tuple[int, Record] | None = None

    @property
    def name(self) -> str:
        """The topic and the number of the partition."""
        return self._reader.name

    def read(self, offset: int, limit: int) -> list[Event]:
        """Up to ``limit`` events from an offset on."""
        return [event_of(r.frame, r.payload) for r in self.records(offset, limit)]

    def records(self, offset: int, limit: int) -> list[Record]:
        """The same events as Kafka has them."""
        if offset < 0:
            raise removed(offset, 0)
        deadline = self._connection.deadline()
        with self._lock:
            return self._records(offset, limit, deadline)

    def end(self, deadline: Deadline | None = None) -> End:
        """Where the next event will be."""
        deadline = deadline or self._connection.deadline()
        with self._lock:
            return self._known_end(self._reader.extent(deadline), deadline)

    def wait_for(self, end: End, deadline: Deadline) -> None:
        """Returns once everybody can read up to an end that is committed."""
        with self._lock:
            while (extent := self._reader.extent(deadline)).high < end.high:
                if deadline.is_over:
                    raise unavailable(self.name, "what was appended cannot be read yet")
            if extent.high == end.high:
                self._end = end

    def offset_at(self, appended_at: int) -> int:
        """The first offset whose event was appended at a time or later, or the end."""
        deadline = self._connection.deadline()
        with self._lock:
            extent = self._reader.extent(deadline)
            end = self._known_end(extent, deadline)
            first = self._first_kept(extent, deadline)
            if first is None or appended_at > end.before:
                return end.offset
            if appended_at <= first.frame.appended_at:
                return first.frame.offset
            return self._first_since(appended_at, first, extent, deadline).frame.offset

    def has(self, offset: int, frame: bytes, deadline: Deadline) -> bool:
        """True if the event at an offset has this very frame."""
        with self._lock:
            found = self._records(offset, 1, deadline)
            return bool(found) and found[0].key == frame

    def close(self) -> None:
        """Ends the consumer."""
        with self._lock:
            self._reader.close()

    def _records(self, offset: int, limit: int, deadline: Deadline) -> list[Record]:
        extent = self._reader.extent(deadline)
        try:
            position = self._position_of(offset, extent, deadline)
            found = self._reader.records(position, extent.high, limit, deadline)
        except NotFound:  # taken away between two questions
            first = self._first_kept(self._reader.extent(deadline), deadline)
            raise removed(offset, first.frame.offset if first else offset + 1) from None
        self._check_row(offset, found)
        if found:
            self._next = (found[-1].frame.offset + 1, found[-1].after)
        return found

    def _position_of(self, offset: int, extent: Extent, deadline: Deadline) -> int:
        """Where the event of an offset is; behind the end if it is not there yet."""
        if offset == self._next[0] and self._next[1] >= extent.low:
            return self._next[1]
        end = self._known_end(extent, deadline)
        if offset >= end.offset:
            return extent.high
        first = self._first_kept(extent, deadline)
        if first is None or offset < first.frame.offset:
            raise removed(offset, first.frame.offset if first else end.offset)
        return self._found(offset, first, end, deadline)

    def _found(self, offset: int, first: Record, end: End, deadline: Deadline) -> int:
        """Each event has a position of its own, which narrows where one can be from both sides."""
        low = first.position + offset - first.frame.offset
        high = end.high - (end.offset - offset)
        while low < high:
            middle = (low + high) // 2
            record = self._reader.first(middle, end.high, deadline)
            if record is None:
                high = middle - 1
                continue
            ahead = record.frame.offset - offset
            if ahead > 0:
                high = min(middle - 1, record.position - ahead)
            else:
                low = record.position - ahead
            if ahead == 0:
                break
        return low

    def _first_since(
        self, appended_at: int, before: Record, extent: Extent, deadline: Deadline
    ) -> Record:
        """The first event of that time or later, of which there is one, none before ``before``."""
        low, high, found = before.after, extent.high, before
        while low < high:
            middle = (low + high) // 2
            record = self._reader.first(middle, extent.high, deadline)
            if record is None or record.frame.appended_at >= appended_at:
                high, found = middle, record or found
            else:
                low = record.after
        return found

    def _first_kept(self, extent: Extent, deadline: Deadline) -> Record | None:
        if self._first is None or self._first[0] != extent.low:
            found = self._reader.first(extent.low, extent.high, deadline)
            self._first = None if found is None else (extent.low, found)
        return self._first and self._first[1]

    def _known_end(self, extent: Extent, deadline: Deadline) -> End:
        if extent.high != self._end.high:
            last = self._last(extent, deadline)
            if last is None and extent.low > 0:
                raise DamagedData(
                    f"all events of {self.name} are gone, and with them their count",
                    "restore the topic from a copy, or begin another log",
                )
            if last is not None and last.frame.offset < self._end.offset - 1:
                raise self._hole(self._end.offset)
            at = (0, NEVER) if last is None else (last.frame.offset + 1, last.frame.appended_at)
            self._end = End(*at, extent.high)
        return self._end

    def _last(self, extent: Extent, deadline: Deadline) -> Record | None:
        """The last event; what was not committed may stand behind it."""
        step = 8
        while True:
            start = max(extent.low, extent.high - step)
            found = self._reader.records(start, extent.high, step, deadline)
            if found or start == extent.low:
                self._check_row(found[0].frame.offset if found else 0, found)
                return found[-1] if found else None
            step *= 8

    def _check_row(self, first: int, found: Sequence[Record]) -> None:
        """Raises DamagedData unless each event is the next one."""
        for number, record in enumerate(found, first):
            if record.frame.offset != number:
                raise self._hole(number)

    def _hole(self, offset: int) -> DamagedData:
        return DamagedData(
            f"event {offset} is missing in {self.name}",
            "restore the topic from a copy; nothing was skipped",
        )
