"""The ledger in a SQLite file, for one writer; it goes on after a restart where it was."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from genai_gateway.clock import MINUTE, SECOND, Clock
from genai_gateway.money.ledger import Ask, Balance, Batch, Grant, Line

LEASE = 15 * SECOND

_log = logging.getLogger("tondo.llm")
_REMEMBERED = 10 * MINUTE
_SCHEMA = """
CREATE TABLE IF NOT EXISTS account (
    account TEXT, unit TEXT, window INTEGER, bound INTEGER NOT NULL, settled INTEGER NOT NULL,
    PRIMARY KEY (account, unit, window)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS block (
    replica TEXT, account TEXT, unit TEXT, window INTEGER, amount INTEGER NOT NULL,
    PRIMARY KEY (replica, account, unit, window)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS open (
    replica TEXT, request TEXT, account TEXT, unit TEXT, window INTEGER, amount INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS open_by_request ON open (replica, request);
CREATE TABLE IF NOT EXISTS abandoned (
    replica TEXT, request TEXT, account TEXT, unit TEXT, window INTEGER, amount INTEGER NOT NULL,
    at INTEGER
);
CREATE INDEX IF NOT EXISTS abandoned_by_request ON abandoned (request);
CREATE TABLE IF NOT EXISTS closed (request TEXT PRIMARY KEY, at INTEGER) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS replica (
    name TEXT PRIMARY KEY, batch INTEGER NOT NULL, seen INTEGER NOT NULL
) WITHOUT ROWID;
"""


class SqliteLedger:
    """Books in a file (or in memory, without a path). Every method is one transaction."""

    def __init__(self, clock: Clock, path: Path | None = None) -> None:
        self._clock = clock
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(path or ":memory:", isolation_level=None)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.executescript(_SCHEMA)

    def close(self) -> None:
        """Closes the file."""
        self._db.close()

    async def grant(self, replica: str, asks: Sequence[Ask]) -> list[Grant]:
        """A grant for each wish, in order."""
        with self._transaction() as now:
            self._see(replica, now)
            self._expire(now)
            return [self._grant(replica, ask) for ask in asks]

    async def report(self, replica: str, batch: Batch) -> None:
        """Books a batch; one that was booked before changes nothing."""
        with self._transaction() as now:
            if not self._is_new(replica, batch.number):
                return
            for request in batch.closed:
                self._close_request(replica, request, now)
            for line in batch.spent:
                self._settle(line, self._take(replica, line))
            for line in batch.returned:
                self._take(replica, line)
            self._open(replica, batch.opened)
            self._see(replica, now, batch.number)
            self._expire(now)

    async def balances(self) -> list[Balance]:
        """How every account stands in its newest windows."""
        with self._transaction() as now:
            self._expire(now)
        rows = self._db.execute(
            "SELECT account, unit, MAX(window), bound, settled, (SELECT COALESCE(SUM(amount), 0)"
            " FROM block b WHERE b.account = a.account AND b.unit = a.unit"
            " AND b.window = a.window) FROM account a GROUP BY account, unit ORDER BY 1, 2"
        )
        return [Balance(*row) for row in rows]

    def _grant(self, replica: str, ask: Ask) -> Grant:
        meter = ask.meter
        key = (meter.account, meter.unit, ask.window)
        self._db.execute(
            "INSERT INTO account VALUES (?, ?, ?, ?, 0)"
            " ON CONFLICT DO UPDATE SET bound = excluded.bound",
            (*key, meter.limit),
        )
        left = meter.limit - self._used(key)
        amount = min(ask.want, left) if left >= ask.need else 0
        if amount > 0:
            self._give(replica, Line(*key, amount))
        return Grant(max(amount, 0), left - max(amount, 0))

    def _used(self, key: tuple[str, str, int]) -> int:
        where = "WHERE account = ? AND unit = ? AND window = ?"
        (settled,) = self._db.execute(f"SELECT settled FROM account {where}", key).fetchone()
        held = self._db.execute(f"SELECT COALESCE(SUM(amount), 0) FROM block {where}", key)
        return int(settled) + int(held.fetchone()[0])

    def _give(self, replica: str, line: Line) -> None:
        self._db.execute(
            "INSERT INTO block VALUES (?, ?, ?, ?, ?)"
            " ON CONFLICT DO UPDATE SET amount = amount + excluded.amount",
            (replica, line.account, line.unit, line.window, line.amount),
        )

    def _take(self, replica: str, line: Line) -> int:
        """Takes an amount off a replica's block, and says how much: what it does not have, it
        cannot spend.
        """
        key = (replica, line.account, line.unit, line.window)
        where = "WHERE replica = ? AND account = ? AND unit = ? AND window = ?"
        row = self._db.execute(f"SELECT amount FROM block {where}", key).fetchone()
        amount = min(line.amount, row[0] if row else 0)
        if amount < line.amount:
            _log.error("%s reported %s more than it holds", replica, line.amount - amount)
        self._db.execute(f"UPDATE block SET amount = amount - ? {where}", (amount, *key))
        self._db.execute(f"DELETE FROM block {where} AND amount = 0", key)
        return amount

    def _settle(self, line: Line, amount: int) -> None:
        self._db.execute(
            "UPDATE account SET settled = settled + ?"
            " WHERE account = ? AND unit = ? AND window = ?",
            (amount, line.account, line.unit, line.window),
        )

    def _open(self, replica: str, opened: dict[str, list[Line]]) -> None:
        rows = [
            (replica, request, line.account, line.unit, line.window, line.amount)
            for request, lines in opened.items()
            for line in lines
        ]
        self._db.executemany("INSERT INTO open VALUES (?, ?, ?, ?, ?, ?)", rows)

    def _close_request(self, replica: str, request: str, now: int) -> None:
        """A request is done: what an earlier try of it left behind is not charged a second time."""
        mine = (replica, request)
        self._db.execute("DELETE FROM open WHERE replica = ? AND request = ?", mine)
        self._db.execute("INSERT OR REPLACE INTO closed VALUES (?, ?)", (request, now))
        left = self._db.execute(
            "SELECT replica, account, unit, window, amount FROM abandoned WHERE request = ?",
            (request,),
        ).fetchall()
        for owner, *rest in left:
            line = Line(*rest)
            self._settle(line, -line.amount)
            # Given up for dead, and back: it goes on with the block that it had.
            if owner == replica:
                self._give(replica, line)
        self._db.execute("DELETE FROM abandoned WHERE request = ?", (request,))

    def _expire(self, now: int) -> None:
        """Settles what replicas that are gone had under way, at the sum reserved for it."""
        gone = [
            name
            for (name,) in self._db.execute(
                "SELECT name FROM replica WHERE seen < ?", (now - LEASE,)
            )
        ]
        for replica in gone:
            self._abandon(replica, now)
        for table in ("closed", "abandoned"):
            self._db.execute(f"DELETE FROM {table} WHERE at < ?", (now - _REMEMBERED,))
        for table in ("account", "block"):
            self._db.execute(
                f"DELETE FROM {table} WHERE unit <> 'usd' AND window < ?", (now - _REMEMBERED,)
            )

    def _abandon(self, replica: str, now: int) -> None:
        rows = self._db.execute(
            "SELECT request, account, unit, window, amount FROM open WHERE replica = ?", (replica,)
        ).fetchall()
        for request, *rest in rows:
            line = Line(*rest)
            amount = self._take(replica, line)
            if self._was_done_elsewhere(request):
                continue
            self._settle(line, amount)
            self._db.execute(
                "INSERT INTO abandoned VALUES (?, ?, ?, ?, ?, ?, ?)",
                (replica, request, line.account, line.unit, line.window, amount, now),
            )
        self._db.execute("DELETE FROM open WHERE replica = ?", (replica,))

    def _was_done_elsewhere(self, request: str) -> bool:
        row = self._db.execute("SELECT 1 FROM closed WHERE request = ?", (request,)).fetchone()
        return row is not None

    def _is_new(self, replica: str, number: int) -> bool:
        row = self._db.execute("SELECT batch FROM replica WHERE name = ?", (replica,)).fetchone()
        return row is None or number > row[0]

    def _see(self, replica: str, now: int, batch: int = 0) -> None:
        self._db.execute(
            "INSERT INTO replica VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET"
            " seen = excluded.seen, batch = MAX(batch, excluded.batch)",
            (replica, batch, now),
        )

    @contextmanager
    def _transaction(self) -> Iterator[int]:
        """All or nothing; gives the time."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield self._clock.now()
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")
