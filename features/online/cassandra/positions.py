"""The positions of heads in Cassandra.

A position is written after the cells of its flush, and read before cells are: cells may be of a
later moment than a position that was read, never of an earlier one. So a position may also be kept
for a while, and a cell that is later says so itself.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

from features.clock import Clock
from features.online.cassandra.cells import REMOVED, Kept, opened_position, packed_position
from features.online.cassandra.connection import Database, Statement
from features.online.store import Head

_READ = Statement("SELECT position FROM {keyspace}.positions WHERE part = ?")
_WRITE = Statement(
    "INSERT INTO {keyspace}.positions (part, position) VALUES (?, ?) USING TIMESTAMP ?"
)
_REMOVE = Statement("DELETE FROM {keyspace}.positions USING TIMESTAMP ? WHERE part = ?")

_REMEMBERED = 10_000
NOTHING = Kept(Head())


class Positions:
    """The positions of all heads, for one store."""

    def __init__(self, database: Database, clock: Clock, life_us: int) -> None:
        self._database = database
        self._clock = clock
        self._life_us = life_us
        self._seen: dict[str, tuple[int, Kept]] = {}
        self._lock = threading.Lock()

    def seen(self, view: str, parts: Sequence[str]) -> list[Kept]:
        """The positions of a view's heads as they were not longer ago than their life."""
        now = self._clock.now()
        old = [part for part in parts if not self._is_fresh(part, now)]
        new = dict(zip(old, self._look(view, old), strict=True)) if old else {}
        return [new.get(part) or self._seen.get(part, (0, NOTHING))[1] for part in parts]

    def now(self, view: str, part: str) -> Kept:
        """A head's position as it is."""
        return self._look(view, [part])[0]

    def write(self, part: str, kept: Kept) -> None:
        """Moves a head's position; one that is behind changes nothing."""
        self._database.write(_WRITE, [(part, packed_position(kept), kept.timestamp)])
        self._see(part, kept, self._clock.now())

    def remove(self, part: str) -> None:
        """Removes a head's position for ever."""
        self._database.write(_REMOVE, [(REMOVED, part)])
        self._seen.pop(part, None)

    def _look(self, view: str, parts: list[str]) -> list[Kept]:
        now = self._clock.now()
        if len(self._seen) > _REMEMBERED:  # most are of versions that are gone
            self._seen.clear()
        found = self._database.many(_READ, [(part,) for part in parts])
        return [
            self._see(part, opened_position(rows[0][0], view) if rows else NOTHING, now)
            for part, rows in zip(parts, found, strict=True)
        ]

    def _see(self, part: str, kept: Kept, now: int) -> Kept:
        with self._lock:
            known = self._seen.get(part, (0, NOTHING))[1]
            if kept.order < known.order:
                kept = known
            self._seen[part] = now, kept
            return kept

    def _is_fresh(self, part: str, now: int) -> bool:
        seen = self._seen.get(part)
        return seen is not None and 0 <= now - seen[0] < self._life_us
