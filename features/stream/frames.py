"""Events as pairs of bytes for logs that servers keep: a frame that says which, and the row.

The row is JSON that anybody can read. The frame holds its checksum, its offset, when it was
appended, flags, and, in the first event of an append, which append that was. The checksum covers
everything else, so an event can neither change nor trade its place unnoticed. An erased event has
a frame and no row.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple
from uuid import uuid4
from zlib import crc32

from features.errors import DamagedData
from features.stream.log import NO_ROW, Event
from features.stream.rows import Packed, unpack_row

_CHECKSUM = struct.Struct("<I")
_BODY = struct.Struct("<qqB")
_APPEND_BYTES = 16
_ESCAPED, _FIRST, _LAST, _ERASED = 1, 2, 4, 8


class Frame(NamedTuple):
    """What a frame says; ``last`` ends what one append wrote, ``appended_at`` is UTC µs."""

    offset: int
    appended_at: int
    escaped: bool
    last: bool
    erased: bool = False


def new_append() -> bytes:
    """A name for one append, unlike any other."""
    return uuid4().bytes


def framed(
    rows: Sequence[Packed], offset: int, appended_at: int, append: bytes
) -> list[tuple[bytes, bytes]]:
    """Frame and row of every event that one append adds at an offset."""
    return framed_again(
        [
            (Frame(offset + number, appended_at, escaped, False), payload)
            for number, (payload, escaped) in enumerate(rows)
        ],
        append,
    )


def framed_again(events: Sequence[tuple[Frame, bytes]], append: bytes) -> list[tuple[bytes, bytes]]:
    """Frame and row of events that were read, as one append would add them now."""
    final = len(events) - 1
    found = []
    for number, (frame, payload) in enumerate(events):
        flags = _ESCAPED * frame.escaped | _FIRST * (number == 0) | _LAST * (number == final)
        flags |= _ERASED * frame.erased
        body = _BODY.pack(frame.offset, frame.appended_at, flags)
        body += append if number == 0 else b""
        found.append((_CHECKSUM.pack(crc32(payload, crc32(body))) + body, payload))
    return found


def erased(frame: Frame) -> tuple[Frame, bytes]:
    """What stands for an event once it says nothing any more."""
    return frame._replace(escaped=False, erased=True), b""


def read_frame(frame: bytes, payload: bytes, where: str) -> Frame:
    """What a frame says; raises DamagedData, naming the place, unless both are what was written."""
    if len(frame) < _CHECKSUM.size + _BODY.size:
        raise _damaged(where)
    offset, appended_at, flags = _BODY.unpack_from(frame, _CHECKSUM.size)
    body = frame[_CHECKSUM.size :]
    size = _BODY.size + (_APPEND_BYTES if flags & _FIRST else 0)
    if len(body) != size or _CHECKSUM.unpack_from(frame)[0] != crc32(payload, crc32(body)):
        raise _damaged(where)
    return Frame(offset, appended_at, *(flags & flag != 0 for flag in (_ESCAPED, _LAST, _ERASED)))


def event_of(frame: Frame, payload: bytes) -> Event:
    """The event of a frame that was read, and its row."""
    row = NO_ROW if frame.erased else unpack_row(payload, frame.escaped)
    return Event(frame.offset, frame.appended_at, row)


def _damaged(where: str) -> DamagedData:
    return DamagedData(
        f"{where} is not what was written",
        "nobody but Tondo may write there; restore it from a copy: nothing was skipped",
    )
