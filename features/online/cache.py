"""A replica's own cache of opened cells: decoded partials, not values, so windows still slide."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from zlib import crc32

from features.algebra.state import NEVER, OpenCell
from features.algebra.values import Value
from features.online.served import NOWHERE, Position
from features.online.store import Version

CacheKey = tuple[int, bytes]
"""A view's number in its plan, and an entity's key."""

_NEGATIVE_SHARE = 10
_JITTER = 1_024
_NO_VERSION = (0, NEVER)


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
    store does not answer. Of another version than the one a view was seen in last, an entry is
    fresh only for questions from before that one's cut.
    """

    def __init__(self, life: int, capacity: int = 50_000) -> None:
        self.is_used = life > 0
        self._life = life
        self._capacity = capacity
        self._entries: dict[CacheKey, Entry] = {}
        self._current: dict[int, tuple[int, int]] = {}
        self._lock = threading.Lock()

    def fresh(self, key: CacheKey, now: int, q: int) -> Entry | None:
        """The entry, if it is young enough and answers questions about the time ``q``."""
        entry = self._entries.get(key)
        if entry is None or not entry.fetched <= now < entry.expires or q <= entry.floor:
            return None
        number, cut = self._current.get(key[0], _NO_VERSION)
        return entry if entry.position.version == number or q < cut else None

    def any(self, key: CacheKey) -> Entry | None:
        """The entry, however old."""
        return self._entries.get(key)

    def see(self, view: int, version: Version) -> None:
        """Takes note of a view's current version, also before its first entry."""
        self._current[view] = version.number, version.cut

    def put(self, key: CacheKey, entry: Entry) -> None:
        """Keeps an entry of a view whose version was seen."""
        if not self.is_used:
            return
        entry.expires = entry.fetched + self._life_of(key, entry)
        with self._lock:
            self._entries.pop(key, None)
            if len(self._entries) >= self._capacity:
                del self._entries[next(iter(self._entries))]
            self._entries[key] = entry

    def _life_of(self, key: CacheKey, entry: Entry) -> int:
        life = self._life if entry.cells else self._life // _NEGATIVE_SHARE
        # Entries that were read together must not all end together.
        return life - life * (crc32(key[1]) % _JITTER) // (10 * _JITTER)
