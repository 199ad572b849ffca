"""The event log: partitions to which events are appended, and from which they are read again."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Protocol

NO_ROW: Mapping[str, Any] = MappingProxyType({})
"""Stands for the row of an event that was erased; nobody can append it."""


@dataclass(frozen=True, slots=True)
class Event:
    """One event as it stands in the log.

    ``appended_at`` is UTC µs by the log's clock and never falls within a partition. ``row`` has the
    source's columns; times in it are UTC µs. Of an event that was erased the place is left: its
    ``row`` is NO_ROW.
    """

    offset: int
    appended_at: int
    row: Mapping[str, Any]

    @property
    def erased(self) -> bool:
        """Whether it says nothing any more."""
        return self.row is NO_ROW


class EventLog(Protocol):
    """An ordered, durable, replayable log of one stream; partitions count from 0."""

    @property
    def partitions(self) -> int:
        """How many partitions there are."""
        ...

    def append(self, partition: int, rows: Sequence[Mapping[str, Any]]) -> int:
        """Adds rows in their order and returns the offset after the last one, once durable.

        ``appended_at`` is the clock's time, or the last event's if the clock went back. Raises
        BadInput for a row that cannot be written as JSON, Conflict if somebody else appends to the
        partition and only one may, Unavailable if the storage fails; then nothing was added, never
        a part. Only where the storage is far away and its answer was lost, all of it may stand, or
        may come to: an append of no rows returns the end once that is settled.
        """
        ...

    def read(self, partition: int, offset: int, limit: int) -> list[Event]:
        """Up to ``limit`` events from an offset on; none at the end of the log.

        Raises DamagedData for an event that is not what was written, NotFound for an offset that
        retention has removed.
        """
        ...

    def erase(self, offsets: Mapping[int, Collection[int]]) -> int:
        """Removes what these events say for good and returns how many there were still.

        ``offsets`` are by partition. Each event keeps its offset and ``appended_at``; reading it
        yields one that is marked ``erased`` and has NO_ROW. Other events do not change, nor does
        any end. On return nothing that is kept holds the rows, but as ``remains`` says, also not
        what a crash left behind. Again is nothing. Nobody else may use the log meanwhile. Raises
        Conflict if somebody appends, Unavailable if the storage fails or cannot erase; then the
        same call again finishes it.
        """
        ...

    def remains(self) -> tuple[str, ...]:
        """What an erasure leaves for a while in places of the storage's own, and until when."""
        ...

    def end(self, partition: int) -> int:
        """The offset that the next event will have."""
        ...

    def offset_at(self, partition: int, appended_at: int) -> int:
        """The first offset whose event was appended at that time (UTC µs) or later, or the end."""
        ...
