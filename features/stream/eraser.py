"""Events that say nothing any more: their segments written anew, everything else in its place.

An erased event keeps its length, so no offset and no byte position moves: readers with an index go
on, and so does whoever appends next. Each segment is replaced by a rename; a crash leaves some of
them old and some new, and the same call again finishes the rest.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

from features.stream.appender import alone, sync_folder
from features.stream.segment import (
    HEAD_BYTES,
    NEVER,
    Place,
    erased_record,
    first_offset,
    read_mark,
    records,
)


def erase_events(folder: Path, offsets: Collection[int]) -> int:
    """Erases events of a partition; how many of them were not erased yet."""
    with alone(folder) as segments:
        for left_over in folder.glob("*.part"):
            left_over.unlink()
        erased = sum(_erase_from(path, offsets) for path in segments)
        sync_folder(folder)
        return erased


def _erase_from(path: Path, offsets: Collection[int]) -> int:
    with path.open("rb") as file:
        first, end = first_offset(path), read_mark(file.fileno(), path)
        if not any(first <= offset < end.offset for offset in offsets):
            return 0
        start = Place(first, HEAD_BYTES, NEVER)
        blanks = [
            erased_record(record)
            for record in records(file.fileno(), path, start, end.position)
            if record.offset in offsets and not record.erased
        ]
        if blanks:
            _replace(path, file.read(), blanks)
    return len(blanks)


def _replace(path: Path, data: bytes, blanks: list[tuple[int, bytes]]) -> None:
    changed = bytearray(data)
    for position, blank in blanks:
        changed[position : position + len(blank)] = blank
    partial = path.with_suffix(".part")
    with partial.open("wb") as file:
        file.write(changed)
        file.flush()
        os.fsync(file.fileno())
    partial.rename(path)
