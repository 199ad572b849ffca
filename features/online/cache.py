"""A replica's own cache of opened cells: decoded partials, not values, so windows still slide."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from zlib import crc32

from features.algebra.state import OpenCell
from features.algebra.values import Value
from features.online.served import NOWHERE, Position

CacheKey = tuple[int, bytes]
"""A view's number in its plan, and an entity's key."""

_NEGATIVE_SHARE = 10
_JITTER = 1_024


@dataclass(frozen=True, slots=True)
class Memo:
    """Finished values, and for which times they hold.

    ``parts`` are by window, over windows that begin in the hops ``starts``, and then the values
    without a window, which hold from ``since`` until before ``until`` (µs).
    """

    starts: list[int]
    parts: list[list[Value]]
    since: int
    until: int
    values: list[Value]


@dataclass(slots=True)
class Entry:
    """One entity of one view as it was read: its cells, where they stand, and when (µs).

    ``floor``: a question must be later than this (µs), for the cells hold events up to it.
    ``through``: everything available before it is in the cells (µs). ``memo`` is what was made of
    the cells last; ``expires`` ends its life in the cache.
    """

    cells: tuple[OpenCell, ...]
    position: Position
    newest: int
    through: int
    fetched: int
    memo: Memo | None = None
    floor: int = field(init=False)
    expires: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self.floor = max(self.newest, self.position.cut - 1)

    @property
    def is_published(self) -> bool:
        """Whether its view has a version at all."""
        return self.position is not NOWHERE


class CellCache:
    """Entries by view and key, for ``life`` µs less some jitter; absent entities a tenth of it.

    At most ``capacity`` entries; the oldest goes first. An entry past its life is kept for when the
    store does not answer. Once a view was seen in another version, no entry of the one before is
    fresh, but for questions from before the new one's cut.
    """

    def __init__(self, life: int, capacity: int = 50_000) -> None:
        self._life = life
        self._capacity = capacity
        self._entries: dict[CacheKey, Entry] = {}
        self._current: dict[int, Position] = {}
        self._lock = threading.Lock()

    def fresh(self, key: CacheKey, now: int, q: int) -> Entry | None:
        """The entry, if it is young enough and answers questions about the time ``q``."""
        entry = self._entries.get(key)
        if entry is None or not entry.fetched <= now < entry.expires or q <= entry.floor:
            return None
        current = self._current[key[0]]
        position = entry.position
        if position is current or position.version == current.version or q < current.cut:
            return entry
        return None

    def any(self, key: CacheKey) -> Entry | None:
        """The entry, however old."""
        return self._entries.get(key)

    def put(self, key: CacheKey, entry: Entry, q: int) -> None:
        """Keeps an entry that was read for a question about the time ``q``."""
        if self._life <= 0:
            return
        entry.expires = entry.fetched + self._life_of(key, entry)
        with self._lock:
            self._see(key[0], entry.position, q)
            self._entries.pop(key, None)
            if len(self._entries) >= self._capacity:
                del self._entries[next(iter(self._entries))]
            self._entries[key] = entry

    def _see(self, view: int, position: Position, q: int) -> None:
        """A lower number is the version before, or a rollback if the question is not from before."""
        known = self._current.get(view)
        if known is None or position.version > known.version or q >= known.cut:
            self._current[view] = position

    def _life_of(self, key: CacheKey, entry: Entry) -> int:
        life = self._life if entry.cells else self._life // _NEGATIVE_SHARE
        # Entries that were read together must not all end together.
        return life - life * (crc32(key[1]) % _JITTER) // (10 * _JITTER)
