"""Events as pairs of bytes for logs that servers keep: a frame that says which, and the row.

The row is JSON that anybody can read. The frame holds its checksum, its offset, when it was
appended, flags, and, in the first event of an append, which append that was. The checksum covers
everything else, so an event can neither change nor trade its place unnoticed.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple
from uuid import uuid4
from zlib import crc32

from features.errors import DamagedData
from features.stream.log import Event
from features.stream.rows import Packed, unpack_row

_CHECKSUM = struct.Struct("<I")
_BODY = struct.Struct("<qqB")
_APPEND_BYTES = 16
_ESCAPED, _FIRST, _LAST = 1, 2, 4


class Frame(NamedTuple):
    """What a frame says; ``last`` ends what one append wrote, ``appended_at`` is UTC µs."""

    offset: int
    appended_at: int
    escaped: bool
    last: bool


def new_append() -> bytes:
    """A name for one append, unlike any other."""
    return uuid4().bytes


def framed(
    rows: Sequence[Packed], offset: int, appended_at: int, append: bytes
) -> list[tuple[bytes, bytes]]:
    """Frame and row of every event that one append adds at an offset."""
    final = len(rows) - 1
    found = []
    for number, (payload, escaped) in enumerate(rows):
        flags = _ESCAPED * escaped | _FIRST * (number == 0) | _LAST * (number == final)
        body = _BODY.pack(offset + number, appended_at, flags) + (append if number == 0 else b"")
        found.append((_CHECKSUM.pack(crc32(payload, crc32(body))) + body, payload))
    return found


def read_frame(frame: bytes, payload: bytes, where: str) -> Frame:
    """What a frame says; raises DamagedData, naming the place, unless both are what was written."""
    if len(frame) < _CHECKSUM.size + _BODY.size:
        raise _damaged(where)
    offset, appended_at, flags = _BODY.unpack_from(frame, _CHECKSUM.size)
    body = frame[_CHECKSUM.size :]
    size = _BODY.size + (_APPEND_BYTES if flags & _FIRST else 0)
    if len(body) != size or _CHECKSUM.unpack_from(frame)[0] != crc32(payload, crc32(body)):
        raise _damaged(where)
    return Frame(offset, appended_at, flags & _ESCAPED != 0, flags & _LAST != 0)


def event_of(frame: Frame, payload: bytes) -> Event:
    """The event of a frame that was read, and its row."""
    return Event(frame.offset, frame.appended_at, unpack_row(payload, frame.escaped))


def _damaged(where: str) -> DamagedData:
    return DamagedData(
        f"{where} is not what was written",
        "nobody but Tondo may write there; restore it from a copy: nothing was skipped",
    )
