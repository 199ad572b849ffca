"""The event log of one machine: append-only files, one folder per partition.

Any number of processes read; one at a time appends to a partition. How the bytes lie is said in
``features/stream/segment.py``.
"""

from __future__ import annotations

import os
import threading
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any
from uuid import uuid4

from features.clock import Clock
from features.errors import DamagedData
from features.stream.appender import Appender, settle
from features.stream.eraser import erase_events
from features.stream.log import Event
from features.stream.partitions import check_count, check_partition, other_count, removed
from features.stream.rows import Packed, pack_rows
from features.stream.segment import Place, Segment, segment_path, segment_paths, storage

SEGMENT_BYTES = 64 << 20


class EmbeddedLog:
    """Implements EventLog as files under a folder, ``<root>/<partition>/<first offset>.log``.

    An append returns when its rows are on disk, and readers see them from then on, all of one call
    or none. The first append to a partition takes its lock and keeps it until ``close``: it raises
    Conflict if somebody else has it. Opening a log with another number of partitions than it has
    raises Conflict too. Threads may share one.
    """

    def __init__(
        self, root: Path, partitions: int, clock: Clock, *, segment_bytes: int = SEGMENT_BYTES
    ) -> None:
        _fix_partitions(root, partitions)
        self._root = root
        self._partitions = [
            _Partition(root / str(number), segment_bytes) for number in range(partitions)
        ]
        self._clock = clock

    @property
    def partitions(self) -> int:
        """How many partitions there are."""
        return len(self._partitions)

    def append(self, partition: int, rows: Sequence[Mapping[str, Any]]) -> int:
        """Adds rows in their order and returns the offset after the last one, once durable."""
        packed = pack_rows(rows)
        if not packed:
            return self.end(partition)
        return self._partition(partition).append(packed, self._clock)

    def read(self, partition: int, offset: int, limit: int) -> list[Event]:
        """Up to ``limit`` events from an offset on; none at the end of the log."""
        return self._partition(partition).read(offset, limit)

    def erase(self, offsets: Mapping[int, Collection[int]]) -> int:
        """Removes what these events say for good and returns how many there were still."""
        wanted = {self._partition(partition): some for partition, some in offsets.items()}
        return sum(partition.erase(some) for partition, some in wanted.items())

    def remains(self) -> tuple[str, ...]:
        """Nothing: files are replaced."""
        return ()

    def end(self, partition: int) -> int:
        """The offset that the next event will have."""
        return self._partition(partition).end()

    def offset_at(self, partition: int, appended_at: int) -> int:
        """The first offset whose event was appended at that time (UTC µs) or later, or the end."""
        return self._partition(partition).offset_at(appended_at)

    def close(self) -> None:
        """Lets others append; it can still be read, and an append takes the lock again."""
        for partition in self._partitions:
            partition.close()

    def __enter__(self) -> EmbeddedLog:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _partition(self, number: int) -> _Partition:
        check_partition(number, len(self._partitions))
        return self._partitions[number]


class _Partition:
    """The segments of one partition, to read from, and its appender once there is one."""

    def __init__(self, folder: Path, segment_bytes: int) -> None:
        self._folder = folder
        self._segment_bytes = segment_bytes
        self._segments: list[Segment] = []
        self._reading = threading.Lock()
        self._appender: Appender | None = None
        self._appending = threading.Lock()

    def append(self, rows: Sequence[Packed], clock: Clock) -> int:
        with self._appending:
            if self._appender is None:
                self._appender = Appender(self._folder, self._segment_bytes)
            return self._appender.append(rows, clock.now())

    def erase(self, offsets: Collection[int]) -> int:
        with self._appending:
            if self._appender is not None:  # it writes to a file that may be replaced
                self._appender.close()
                self._appender = None
            return erase_events(self._folder, frozenset(offsets))

    def read(self, offset: int, limit: int) -> list[Event]:
        with self._reading:
            segments = self._known()
            at = bisect_right(segments, offset, key=lambda segment: segment.first) - 1
            if at < 0:
                raise removed(offset, segments[0].first)
            found: list[Event] = []
            while len(found) < limit:
                wanted = offset + len(found)
                events, end = segments[at].read(wanted, limit - len(found))
                found += events
                if len(found) >= limit or not self._goes_on(at, end):
                    break
                at += 1
            return found

    def end(self) -> int:
        with self._reading:
            return self._last_place().offset

    def offset_at(self, appended_at: int) -> int:
        with self._reading:
            end = self._last_place()
            kept = [segment for segment in self._segments if segment.path.exists()]
            at = bisect_left(kept, appended_at, key=lambda segment: segment.end().before)
            return kept[at].offset_at(appended_at) if at < len(kept) else end.offset

    def close(self) -> None:
        with self._appending:
            if self._appender is not None:
                self._appender.close()
            self._appender = None

    def _known(self) -> list[Segment]:
        if not self._segments:
            settle(self._folder)
            self._segments = [Segment(path) for path in segment_paths(self._folder)]
        return self._segments

    def _last_place(self) -> Place:
        at = len(self._known()) - 1
        end = self._segments[at].end()
        while self._goes_on(at, end):
            at += 1
            end = self._segments[at].end()
        return end

    def _goes_on(self, at: int, end: Place) -> bool:
        """True if another segment follows one that ends there; a new one becomes known."""
        here = self._segments[at]
        if at + 1 == len(self._segments):
            path = segment_path(self._folder, end.offset)
            if end.offset == here.first or not path.exists():
                return False
            self._segments.append(Segment(path))
        if self._segments[at + 1].first != end.offset:
            raise DamagedData(
                f"{here.path} ends before event {end.offset}, "
                f"but {self._segments[at + 1].path} begins with another",
                "restore the segment between them from a copy",
            )
        return True


def _fix_partitions(root: Path, partitions: int) -> None:
    """Writes the number of partitions down, or compares it with what was written."""
    check_count(partitions)
    path = root / "partitions"
    with storage(root):
        root.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            _write_once(path, str(partitions))
        found = path.read_text()
    if found != str(partitions):
        raise other_count(f"at {root}", found, partitions)


def _write_once(path: Path, text: str) -> None:
    partial = path.with_name(f".{uuid4().hex}.part")
    with partial.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    with suppress(FileExistsError):  # somebody else was first
        os.link(partial, path)
    partial.unlink()
