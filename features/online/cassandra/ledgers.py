"""The ledgers in Cassandra: read, kept for a moment, changed by compare-and-set."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from features.clock import Clock
from features.errors import Unavailable
from features.online.cassandra.connection import Database, Statement
from features.online.cassandra.ledger import Ledger, opened, packed

_TRIES = 60
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.005, 0.25
_FAILURES = 3
_LOOK = "SELECT number, ledger FROM {keyspace}.ledgers WHERE feature_view = ?"
_READ, _READ_AGREED = Statement(_LOOK), Statement(_LOOK, serial=True)
_VIEWS = Statement("SELECT DISTINCT feature_view FROM {keyspace}.ledgers")
_INSERT = Statement(
    "INSERT INTO {keyspace}.ledgers (feature_view, number, ledger) VALUES (?, ?, ?) IF NOT EXISTS",
    idempotent=False,
)
_REPLACE = Statement(
    "UPDATE {keyspace}.ledgers SET number = ?, ledger = ? WHERE feature_view = ? IF number = ?",
    idempotent=False,
)


@dataclass(frozen=True, slots=True)
class Seen:
    """A ledger, the number of its state (0: there is none), and when it was read, UTC µs."""

    ledger: Ledger
    number: int
    at: int


class Ledgers:
    """The ledgers of all views, for one store."""

    def __init__(self, database: Database, clock: Clock, life_us: int) -> None:
        self._database = database
        self._clock = clock
        self._life_us = life_us
        self._seen: dict[str, Seen] = {}
        self._lock = threading.Lock()

    def seen(self, views: Iterable[str]) -> dict[str, Seen]:
        """The ledgers of views as they were not longer ago than their life."""
        wanted, now = list(dict.fromkeys(views)), self._clock.now()
        # No thread waits for another one's answer: their deadlines would add up.
        old = [view for view in wanted if not self._is_fresh(view, now)]
        if old:
            self._look(old)
        return {view: self._seen[view] for view in wanted}

    def now(self, view: str) -> Ledger:
        """A view's ledger as it is."""
        return self._look([view])[0].ledger

    def views(self) -> list[str]:
        """All views that have a ledger."""
        return [view for (view,) in self._database.rows(_VIEWS, ())]

    def change(self, view: str, change: Callable[[Ledger], Ledger]) -> None:
        """Replaces a ledger by what ``change`` makes of it, which may be asked several times.

        Whether a change came through is unknown if its answer is lost. So every try begins with
        what the replicas have agreed on, and a change that is there already changes nothing.
        """
        failures = 0
        for tried in range(_TRIES):
            self._step_back(tried)
            seen = self._look([view], _READ_AGREED)[0]
            after = change(seen.ledger)
            if after == seen.ledger:
                return
            try:
                if self._swap(view, seen.number, packed(view, after)):
                    self._see(view, Seen(after, seen.number + 1, seen.at))
                    return
            except Unavailable:
                failures += 1
                if failures == _FAILURES:
                    raise
        raise Unavailable(
            f"The versions of {view} change faster than they can be changed.",
            "Who else publishes it?",
        )

    def _step_back(self, tried: int) -> None:
        """Waits at random, longer after each try, so that rivals do not go on losing."""
        longest = min(_FIRST_PAUSE_S * 2**tried, _LONGEST_PAUSE_S)
        if tried:
            threading.Event().wait(random.uniform(0, longest))

    def _swap(self, view: str, number: int, raw: bytes) -> bool:
        """Whether the ledger was still in the state of that number, and is replaced."""
        if number:
            rows = self._database.rows(_REPLACE, (number + 1, raw, view, number))
        else:
            rows = self._database.rows(_INSERT, (view, 1, raw))
        return bool(rows[0][0])

    def _look(self, views: list[str], statement: Statement = _READ) -> list[Seen]:
        now = self._clock.now()
        found = self._database.many(statement, [(view,) for view in views])
        seen = []
        for view, rows in zip(views, found, strict=True):
            number, raw = rows[0] if rows else (0, None)
            ledger = Ledger() if raw is None else opened(view, raw)
            seen.append(self._see(view, Seen(ledger, number, now)))
        return seen

    def _see(self, view: str, seen: Seen) -> Seen:
        """The later of what was seen and what is seen now."""
        with self._lock:
            known = self._seen.get(view)
            if known is None or known.number <= seen.number:
                self._seen[view] = known = seen
            return known

    def _is_fresh(self, view: str, now: int) -> bool:
        seen = self._seen.get(view)
        return seen is not None and 0 <= now - seen.at < self._life_us
