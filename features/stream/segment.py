"""One file of an event log: a mark, then records.

::

    file    mark (64 bytes), record, record, …        named after the offset of its first event
    mark    magic, and the place behind the last durable record, checksummed
    record  CRC-32, length, appended_at, flags, the row as JSON (blanks, once it is erased)

The mark moves after the records before it are on disk, so a reader that stops there sees only
durable events. It lies in the same file as the records, so that each flush takes along the mark of
the append before: behind the mark that is on disk there is at most what the last append that was
acknowledged, and one that was not, have written. The checksum covers a record's offset, so records
cannot trade places.
"""

from __future__ import annotations

import os
import struct
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

from features.errors import DamagedData, NotFound, Unavailable
from features.stream.log import NO_ROW, Event
from features.stream.rows import Packed, unpack_row

HEAD_BYTES = 64
NEVER = -(2**63)
"""An ``appended_at`` before all others."""

_MAGIC = b"TONDOLG1"
_MARK = struct.Struct("<8sqqq")
_RECORD = struct.Struct("<IIqB")
_CHECKSUM = struct.Struct("<I")
_ESCAPED, _LAST, _ERASED = 1, 2, 4
_CHUNK_BYTES = (1 << 16, 1 << 20)  # the first, so that a small read is cheap, and the largest
_STRIDE_BYTES = 1 << 16
_TRIES = 1_000


class Place(NamedTuple):
    """A place between records: the next offset, its byte, and when the event before it came."""

    offset: int
    position: int
    before: int


class Record(NamedTuple):
    """One record as read: ``end`` is the byte behind it."""

    offset: int
    appended_at: int
    payload: bytes
    flags: int
    end: int

    @property
    def last(self) -> bool:
        """Whether it ends what one append wrote."""
        return self.flags & _LAST != 0

    @property
    def erased(self) -> bool:
        """Whether it says nothing any more."""
        return self.flags & _ERASED != 0

    @property
    def after(self) -> Place:
        """The place behind it."""
        return Place(self.offset + 1, self.end, self.appended_at)


def segment_path(folder: Path, first: int) -> Path:
    """Where the segment lies that begins with this offset."""
    return folder / f"{first:020d}.log"


def segment_paths(folder: Path) -> list[Path]:
    """The segments of a partition, in order."""
    return sorted(folder.glob("[0-9]*.log"))


def first_offset(path: Path) -> int:
    """The offset of a segment's first event."""
    return int(path.stem)


@contextmanager
def storage(path: Path) -> Iterator[None]:
    """Says Unavailable when the operating system fails."""
    try:
        yield
    except OSError as error:
        raise Unavailable(
            f"the event log at {path} does not answer: {error.strerror or error}",
            "see whether the disk is full and the files may be read and written",
        ) from error


def encode_mark(place: Place, first: int) -> bytes:
    """The first bytes of a segment that is durable up to a place."""
    body = _MARK.pack(_MAGIC, *place)
    return body + _CHECKSUM.pack(crc32(body, first & 0xFFFFFFFF))


def read_mark(fd: int, path: Path) -> Place:
    """The place up to which a segment is durable; DamagedData if nothing sensible stands there."""
    first = first_offset(path)
    for _ in range(_TRIES):  # a mark that is being written may be read in halves
        data = os.pread(fd, _MARK.size + _CHECKSUM.size, 0)
        if len(data) == _MARK.size + _CHECKSUM.size:
            place = Place(*_MARK.unpack_from(data)[1:])
            if data == encode_mark(place, first):
                return place
    raise DamagedData(f"the mark at the beginning of {path} is damaged", _RESTORE)


def encode_records(rows: Sequence[Packed], start: Place, appended_at: int) -> tuple[bytes, Place]:
    """What one append writes at a place, and the place behind it."""
    parts: list[bytes] = []
    final = len(rows) - 1
    for number, (payload, escaped) in enumerate(rows):
        flags = (_ESCAPED if escaped else 0) | (_LAST if number == final else 0)
        body = _RECORD.pack(0, len(payload), appended_at, flags)[4:] + payload
        parts += (_CHECKSUM.pack(crc32(body, (start.offset + number) & 0xFFFFFFFF)), body)
    data = b"".join(parts)
    return data, Place(start.offset + len(rows), start.position + len(data), appended_at)


def erased_record(record: Record) -> tuple[int, bytes]:
    """Where a record begins, and what is to stand there once it says nothing any more.

    It is as long as it was, so that no other record moves.
    """
    flags = _ERASED | record.flags & _LAST
    blank = b"{}".ljust(len(record.payload))
    body = _RECORD.pack(0, len(blank), record.appended_at, flags)[4:] + blank
    checksum = _CHECKSUM.pack(crc32(body, record.offset & 0xFFFFFFFF))
    return record.end - len(checksum) - len(body), checksum + body


def records(fd: int, path: Path, start: Place, stop: int) -> Iterator[Record]:
    """The records from a place to a byte; DamagedData, naming file and offset, for a bad one."""
    offset, position, wanted = start.offset, start.position, _CHUNK_BYTES[0]
    while position < stop:
        chunk = _chunk(fd, position, min(wanted, stop - position), stop)
        wanted = min(2 * wanted, _CHUNK_BYTES[1])
        view, at, size = memoryview(chunk), 0, len(chunk)
        while at + _RECORD.size <= size:
            checksum, length, appended_at, flags = _RECORD.unpack_from(chunk, at)
            end = at + _RECORD.size + length
            if end > size:
                break
            if crc32(view[at + 4 : end], offset & 0xFFFFFFFF) != checksum or not length:
                raise _damaged(path, offset, position + at)
            payload = chunk[at + _RECORD.size : end]
            yield Record(offset, appended_at, payload, flags, position + end)
            offset, at = offset + 1, end
        if at == 0:  # not even one record: the bytes end before it does
            raise _damaged(path, offset, position)
        position += at


def _chunk(fd: int, position: int, wanted: int, stop: int) -> bytes:
    """Bytes of the file, as many more as the record at their beginning needs to be whole."""
    chunk = os.pread(fd, wanted, position)
    if len(chunk) < _RECORD.size:
        return chunk
    needed = _RECORD.size + int(_RECORD.unpack_from(chunk)[1])
    whole = len(chunk) < needed <= stop - position
    return os.pread(fd, needed, position) if whole else chunk


def _damaged(path: Path, offset: int, position: int) -> DamagedData:
    what = f"event {offset} in {path} (byte {position}) is not what was written"
    return DamagedData(what, _RESTORE)


_RESTORE = "restore the file from a copy; nothing was skipped"


def _row(payload: bytes, flags: int) -> Mapping[str, Any]:
    return NO_ROW if flags & _ERASED else unpack_row(payload, flags & _ESCAPED != 0)


class Segment:
    """One file to read from, with what is known of where its events are.

    The index has a place every 64 KiB as far as the file was read, and the place where the last
    read ended: going on from there costs only what is new.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.first = first_offset(path)
        self._index = [Place(self.first, HEAD_BYTES, NEVER)]
        self._cursor = self._index[0]

    def end(self) -> Place:
        """The place behind its last durable event."""
        with self._opened() as fd:
            return read_mark(fd, self.path)

    def read(self, offset: int, limit: int) -> tuple[list[Event], Place]:
        """Up to ``limit`` events from an offset on, and the end of the segment."""
        with self._opened() as fd:
            end = read_mark(fd, self.path)
            found: list[Event] = []
            if offset < end.offset:
                start = self._before_offset(offset)
                behind = islice(self._walk(fd, start, end), offset - start.offset, None)
                for record in islice(behind, limit):
                    row = _row(record.payload, record.flags)
                    found.append(Event(record.offset, record.appended_at, row))
                    self._cursor = record.after
            return found, end

    def offset_at(self, appended_at: int) -> int:
        """The first offset whose event was appended then or later, or that behind the last."""
        with self._opened() as fd:
            end = read_mark(fd, self.path)
            place = bisect_left(self._index, appended_at, key=lambda known: known.before) - 1
            later = (
                record.offset
                for record in self._walk(fd, self._index[max(place, 0)], end)
                if record.appended_at >= appended_at
            )
            return next(later, end.offset)

    def _before_offset(self, offset: int) -> Place:
        known = bisect_right(self._index, offset, key=lambda place: place.offset) - 1
        cursor = self._cursor
        return max(self._index[known], cursor) if cursor.offset <= offset else self._index[known]

    def _walk(self, fd: int, start: Place, end: Place) -> Iterator[Record]:
        offset = start.offset
        for record in records(fd, self.path, start, end.position):
            if record.end >= self._index[-1].position + _STRIDE_BYTES:
                self._index.append(record.after)
            offset += 1
            yield record
        if offset != end.offset:
            raise _damaged(self.path, offset, end.position)

    @contextmanager
    def _opened(self) -> Iterator[int]:
        with storage(self.path):
            try:
                fd = os.open(self.path, os.O_RDONLY)
            except FileNotFoundError:
                raise NotFound(f"{self.path} is gone", "read from a later offset") from None
            try:
                yield fd
            finally:
                os.close(fd)
