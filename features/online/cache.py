"""A replica's own cache of opened cells: decoded partials, not values, so windows still slide."""

from __future__ import annotations

from dataclasses import dataclass
from zlib import crc32

from features.algebra.state import OpenCell
from features.online.served import Position

CacheKey = tuple[str, bytes]
_NEGATIVE_SHARE = 10
_JITTER = 1_024


@dataclass(frozen=True, slots=True)
class Entry:
    """One entity of one view as it was read: its cells, where they stand, and when (µs).

    ``newest``: a question must be later than this (µs), for the head holds events up to it.
    ``through``: everything available before it is in the cells (µs). ``published``: whether the
    view has a version at all.
    """

    cells: tuple[OpenCell, ...]
    position: Position
    newest: int
    through: int
    fetched: int
    published: bool = True


class CellCache:
    """Entries by view and key, for ``life`` µs less some jitter; absent entities a tenth of it.

    At most ``capacity`` entries; the oldest goes first. An entry past its life is kept for when the
    store does not answer.
    """

    def __init__(self, life: int, capacity: int = 50_000) -> None:
        self._life = life
        self._capacity = capacity
        self._entries: dict[CacheKey, Entry] = {}

    def fresh(self, key: CacheKey, now: int, after: int) -> Entry | None:
        """The entry, if it is young enough and answers questions about the time ``after``."""
        entry = self._entries.get(key)
        if entry is None or not entry.newest < after or entry.position.cut > after:
            return None
        age = now - entry.fetched
        return entry if 0 <= age < self._life_of(key, entry) else None

    def any(self, key: CacheKey) -> Entry | None:
        """The entry, however old."""
        return self._entries.get(key)

    def put(self, key: CacheKey, entry: Entry) -> None:
        """Keeps an entry."""
        if self._life <= 0:
            return
        self._entries.pop(key, None)
        if len(self._entries) >= self._capacity:
            del self._entries[next(iter(self._entries))]
        self._entries[key] = entry

    def _life_of(self, key: CacheKey, entry: Entry) -> int:
        life = self._life if entry.cells else self._life // _NEGATIVE_SHARE
        # Entries that were read together must not all end together.
        return life - life * (crc32(key[1]) % _JITTER) // (10 * _JITTER)
